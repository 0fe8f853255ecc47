"""Device and precision of a run, through accelerate."""

from __future__ import annotations

from typing import Any, Callable

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from dfkd.errors import ConfigError

PRECISIONS = ("auto", "float32", "bf16")


def accelerator(device: str = "auto", precision: str = "auto", threads: int | None = None) -> Accelerator:
    """An Accelerator for one process.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.
        precision: ``auto``, ``float32`` or ``bf16`` (autocast: weights stay float32).
        threads: CPU threads; ``None`` leaves torch's number.

    Raises:
        ConfigError: there is no GPU for ``cuda``, or several processes were launched, or no such precision.
    """
    check_device(device)
    if threads is not None:
        torch.set_num_threads(threads)
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    bf16 = takes_bf16(precision, on_cpu)
    # accelerate keeps the first precision and device of a process for good; each run here brings its own
    AcceleratorState._reset_state(reset_partial_state=True)
    chosen = Accelerator(cpu=on_cpu, mixed_precision="bf16" if bf16 else "no")
    if chosen.num_processes > 1:
        found = f"{chosen.num_processes} processes"
        raise ConfigError("a run uses one process", found=found, fix="start dfkd without a launcher")
    return chosen


def check_device(device: str) -> None:
    """Whether this machine has the device.

    Raises:
        ConfigError: there is no GPU for ``cuda``.
    """
    if device == "cuda" and not torch.cuda.is_available():
        fix = "use device=cpu, or install torch with CUDA"
        raise ConfigError("device=cuda, but there is no GPU", expected="a GPU", found="torch sees none", fix=fix)


def takes_bf16(precision: str, on_cpu: bool) -> bool:
    """Whether ``auto``, ``float32`` or ``bf16`` means bf16 there.

    Raises:
        ConfigError: no such precision.
    """
    if precision not in PRECISIONS:
        raise ConfigError("no such precision", expected=", ".join(PRECISIONS), found=precision)
    return precision == "bf16" or (precision == "auto" and native_bf16(on_cpu))


def native_bf16(on_cpu: bool) -> bool:
    """Whether the hardware multiplies bf16 itself; emulated bf16 is many times slower than float32."""
    if not on_cpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = cpu_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def cpu_capabilities() -> dict[str, Any]:
    """What torch says of the CPU; empty where this version of torch does not tell."""
    tell: Callable[[], dict[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)
    return tell()
