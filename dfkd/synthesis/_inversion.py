"""What the strategies that optimise embeddings share beside the inner loop itself.

Shapes: B samples, L positions, D embedding width.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


@contextmanager
def still(student: Any) -> Iterator[None]:
    """Switch a module's dropout off inside the ``with`` block, and put its mode back after it."""
    training = student.training
    student.eval()
    try:
        # cuDNN's recurrent layers refuse a backward pass in eval mode; torch's own do not
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        student.train(training)


def inner_positions(attention_mask: Tensor) -> Tensor:
    """The real positions between [CLS] and [SEP] of a mask (B, L): (B, L), bool."""
    positions = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    return (positions > 0) & (positions < attention_mask.sum(dim=1, keepdim=True) - 1)


def first_and_last(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """Loss terms by name before the first and before the last step: ``<name>_first``, ``<name>_last``."""
    ends = (("first", parts[0]), ("last", parts[-1])) if parts else ()
    return {f"{name}_{end}": float(value) for end, terms in ends for name, value in terms.items()}


def diversity(vectors: Tensor, name: str = "embedding_cosine") -> dict[str, float]:
    """Mean cosine between different ones of B vectors (B, anything), by name: 1 where all are alike."""
    if len(vectors) < 2:
        return {}
    unit = F.normalize(vectors.detach().flatten(1).float(), dim=1)
    among_all = unit.sum(dim=0).square().sum()
    return {name: float((among_all - len(unit)) / (len(unit) * (len(unit) - 1)))}
