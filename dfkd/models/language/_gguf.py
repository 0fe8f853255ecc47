"""GGUF files: found, looked at, and converted once into what loads in a second.

Reading one takes half a minute for 135 million weights, so that the converted model is kept in the user's cache:
``$HF_HOME/dfkd``, else ``$XDG_CACHE_HOME/dfkd``, else ``~/.cache/dfkd``.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import os
import shutil
import struct
import tempfile
from pathlib import Path
from typing import BinaryIO

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

from dfkd.errors import ConfigError
from dfkd.models import sources

FORMAT = 1  # of what is kept: raise it when the conversion changes
MAGIC, STRING = b"GGUF", 8
WEIGHTS = ("*.safetensors", "*.bin")


def file_of(reference: str) -> Path | None:
    """The GGUF file that a reference stands for: itself, or the one in its folder or package; ``None``: no GGUF.

    Raises:
        ConfigError: there is no such file, or the folder holds several.
    """
    path = _path(reference)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ConfigError(f"there is no file '{reference}'", fix="give an existing .gguf file")
        return path
    if not path.is_dir() or any(found for pattern in WEIGHTS for found in path.glob(pattern)):
        return None
    files = sorted(path.glob("*.gguf"))
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise ConfigError(f"'{reference}' holds several GGUF files", found=names, fix="name the file itself")
    return files[0] if files else None


def _path(reference: str) -> Path:
    try:
        return sources.located(reference)
    except ConfigError:
        return sources.located(reference, "*.gguf")


NO_ARCHITECTURES = {"general", "tokenizer"}  # sections of a file, in the same list


def check(file: Path) -> None:
    """Whether the file can be converted; reads its header only.

    Raises:
        ConfigError: the package gguf is missing, the file is no GGUF, or transformers cannot read its architecture.
    """
    if importlib.util.find_spec("gguf") is None:
        fix = "in dfkd's checkout: pip install '.[lm]'"
        raise ConfigError(f"'{file}' is a GGUF file, and the package 'gguf' is missing", fix=fix)
    found = architecture(file)
    # files write qwen2moe and gpt-oss, transformers qwen2_moe and gpt_oss
    if _letters(found) not in map(_letters, GGUF_SUPPORTED_ARCHITECTURES):
        expected = ", ".join(sorted(set(GGUF_SUPPORTED_ARCHITECTURES) - NO_ARCHITECTURES))
        raise ConfigError(f"'{file}' has an architecture that cannot be read", expected=expected, found=found)


def _letters(name: str) -> str:
    return name.replace("-", "").replace("_", "")


def architecture(file: Path) -> str:
    """The model's architecture, which a GGUF file names first.

    Raises:
        ConfigError: it is no GGUF file, or names something else first.
    """
    with file.open("rb") as stream:
        head = stream.read(24)  # magic, version, numbers of tensors and of facts
        if len(head) == 24 and head.startswith(MAGIC):
            if _string(stream) == "general.architecture" and stream.read(4) == struct.pack("<I", STRING):
                return _string(stream)
    raise ConfigError(f"'{file}' is no GGUF file", expected="GGUF, and general.architecture as its first fact")


def _string(stream: BinaryIO) -> str:
    size = stream.read(8)
    length = struct.unpack("<Q", size)[0] if len(size) == 8 else 0
    return stream.read(min(length, 256)).decode(errors="replace")


def cache() -> Path:
    """The folder of converted models."""
    home = os.environ.get("HF_HOME") or os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache").expanduser() / "dfkd" / "language"


def folder_of(file: Path) -> Path:
    """Where the converted model is, or will be kept: the name tells the file's content."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return cache() / f"{file.stem}-{digest.hexdigest()[:16]}-{FORMAT}"


def converted(file: Path) -> Path:
    """The folder with the model as safetensors, made now if it is not there; written whole or not at all.

    Raises:
        ConfigError: the file cannot be converted, or the cache cannot be written.
    """
    folder = folder_of(file)
    if folder.is_dir():
        return folder
    check(file)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    except OSError as error:
        fix = "set XDG_CACHE_HOME to a folder that can be written"
        raise ConfigError(f"the cache {folder.parent} cannot be written", found=str(error), fix=fix) from error
    try:
        _convert(file, work)
        if not folder.is_dir():  # else another process was faster
            os.rename(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _convert(file: Path, target: Path) -> None:
    folder, name = str(file.parent), str(file)
    tokenizer = sources.attempt(AutoTokenizer.from_pretrained, folder, name, gguf_file=file.name)
    model = sources.attempt(
        AutoModelForCausalLM.from_pretrained, folder, name, gguf_file=file.name, dtype=torch.float32
    )
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # transformers refuses to save a model that it read from a GGUF file: a new one takes its weights
    with torch.random.fork_rng(devices=[]):
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(target)
    tokenizer.save_pretrained(target)
