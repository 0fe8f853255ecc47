"""One seed in, one independent generator for each component out."""

from __future__ import annotations

import hashlib
import random

import numpy
import torch


def derive(seed: int, name: str) -> int:
    """A 63-bit seed for the component ``name``; adding a component never shifts the others."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, name: str) -> torch.Generator:
    """A CPU generator for the component ``name``."""
    return torch.Generator().manual_seed(derive(seed, name))


def seed_globals(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch (initial weights, dropout)."""
    random.seed(derive(seed, "python"))
    numpy.random.seed(derive(seed, "numpy") % 2**32)
    torch.manual_seed(derive(seed, "torch"))


def global_state() -> dict[str, torch.Tensor]:
    """The state of torch's global generators, as byte tensors: CPU, and each CUDA device."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state |= {f"cuda{i}": s for i, s in enumerate(torch.cuda.get_rng_state_all())}
    return state


def restore_global_state(state: dict[str, torch.Tensor]) -> None:
    """Put back what :func:`global_state` gave."""
    torch.set_rng_state(state["cpu"])
    devices = [state[name] for name in sorted(state) if name.startswith("cuda")]
    if devices and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(devices)
