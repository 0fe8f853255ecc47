"""Attention of bf16 models on the CPU, in float32 where that is faster.

Shapes: B texts, H heads, Q positions that ask, L positions that answer, D width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "dfkd_sdpa"
LONGEST = 128  # positions; benchmarks/attention.py


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """transformers' ``sdpa`` attention; on a CPU in bf16 with up to 128 positions it computes in float32.

    torch's bf16 kernel is made for long texts: its backward pass at 32 positions takes several times as long as
    float32's, and so does one new token of a text. float32 is also the more exact.

    Args:
        module: the layer.
        query: (B, H, Q, D).
        key: (B, H or a part of it, L, D).
        value: likewise.
        attention_mask: (B, 1, Q, L), bool or added to the scores; ``None``: all positions.
        options: for the library's function.

    Returns:
        (B, Q, H, D) of the query's type, and ``None``.
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16 or key.shape[2] > LONGEST:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    if attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask.float()
    with torch.autocast("cpu", enabled=False):
        whole = query.float(), key.float(), value.float()
        found, weights = sdpa_attention_forward(module, *whole, attention_mask, **options)
    return found.to(query.dtype), weights


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


def install(model: Any) -> None:
    """Let a model of transformers attend by :func:`attend`, where it would by ``sdpa``; copies of its config do too."""
    if model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)
