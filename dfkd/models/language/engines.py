"""Engines by name."""

from __future__ import annotations

from typing import Any

import torch

from dfkd.errors import ConfigError, suggestion
from dfkd.models.language import load, vllm_engine
from dfkd.models.language.base import Engine, LanguageModel
from dfkd.models.language.transformers_engine import TransformersEngine

NAMES = ("transformers", "vllm")


def check(name: str) -> None:
    """Whether there is an engine of that name here, before any work.

    Raises:
        ConfigError: unknown, or not installed.
    """
    if name not in NAMES:
        raise ConfigError(f"unknown engine '{name}'", fix=suggestion(name, NAMES))
    if name == "vllm":
        vllm_engine.check()


def build(
    name: str, reference: str, *, device: str | torch.device = "cpu", precision: str = "auto", batch_size: int = 64,
    stop: str = "", trust_remote_code: bool = False, model: LanguageModel | None = None,
) -> Engine:
    """Load a language model into an engine.

    Args:
        name: ``transformers`` or ``vllm``.
        reference: of the language model, see :func:`dfkd.models.language.load.load`.
        device: where it runs.
        precision: ``auto``, ``float32`` or ``bf16``.
        batch_size: texts at a time, at most.
        stop: a text also ends after the first token that contains this; that token stays.
        trust_remote_code: let a hub model run its own code.
        model: loaded already, perhaps with a policy's adapters in it; the transformers engine shares it, vllm, which
            keeps weights of its own, does not. ``None``: it is loaded here.

    Raises:
        ConfigError: unknown engine, vllm is missing, or the model cannot be loaded.
    """
    shared = model if name == "transformers" else None
    opened = shared or open_model(name, reference, device, precision, trust_remote_code)
    return around(name, opened, reference, batch_size, stop, trust_remote_code)


def open_model(
    name: str, reference: str, device: str | torch.device = "cpu", precision: str = "auto",
    trust_remote_code: bool = False,
) -> Any:
    """The heavy part of an engine, which several engines may share: a :class:`LanguageModel`, or vllm's ``LLM``.

    Raises:
        ConfigError: as :func:`build`.
    """
    check(name)
    loader = load.load if name == "transformers" else vllm_engine.open_model
    return loader(reference, device, precision, trust_remote_code)


def around(
    name: str, opened: Any, reference: str, batch_size: int = 64, stop: str = "", trust_remote_code: bool = False
) -> Engine:
    """An engine around what :func:`open_model` gave."""
    if name == "transformers":
        return TransformersEngine(opened, batch_size, stop)
    return vllm_engine.around(opened, reference, batch_size, stop, trust_remote_code)
