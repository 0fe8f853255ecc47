"""One vector for a sequence, out of its real positions. Shapes: B samples, L positions, H width."""

from __future__ import annotations

from torch import Tensor


def masked_max(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """The greatest value of each of H features over the real positions: (B, H).

    Args:
        hidden: (B, L, H).
        attention_mask: (B, L), 1 for real positions; each row has one.
    """
    padding = attention_mask.unsqueeze(-1) == 0
    return hidden.masked_fill(padding, float("-inf")).amax(dim=1)


def masked_mean(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """The mean of each of H features over the real positions: (B, H); arguments as in :func:`masked_max`."""
    real = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * real).sum(dim=1) / real.sum(dim=1)
