"""Moments of the teacher's hidden states: what batch norm statistics are to a vision method, measured without data.

Shapes: B samples, L positions, H hidden width, K layers of the teacher.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator, Sequence

import torch
from torch import Tensor, nn

from dfkd.models.teacher import Teacher
from dfkd.synthesis._guess import Guesser, Moments

REFERENCE_SAMPLES, AT_ONCE = 256, 32


def encoder_layers(teacher: Teacher) -> list[nn.Module]:
    """The teacher's K transformer layers, from the lowest; each ends in a LayerNorm."""
    model: Any = teacher.classifier.model
    lists = [module for module in model.base_model.modules() if isinstance(module, nn.ModuleList)]
    return list(next(layers for layers in lists if len(layers) == model.config.num_hidden_layers))


@contextmanager
def recorded_layers(teacher: Teacher) -> Iterator[list[Tensor]]:
    """Collect the output (B, L, H) of every layer in the teacher's passes inside the ``with`` block.

    Returns:
        A list that fills with K tensors a pass; gradient flows through them.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        seen.append(output if isinstance(output, Tensor) else output[0])

    handles = [layer.register_forward_hook(keep) for layer in encoder_layers(teacher)]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def layer_moments(hidden: Sequence[Tensor], attention_mask: Tensor) -> list[Moments]:
    """Per-dimension mean and deviation (H,) of each layer's hidden states over samples and real positions."""
    rows = [states.float()[attention_mask == 1] for states in hidden]
    return [Moments(flat.mean(dim=0), flat.std(dim=0, correction=0)) for flat in rows]


def random_token_moments(teacher: Teacher, guesser: Guesser) -> list[Moments]:
    """The moments that random tokens of the vocabulary leave in each layer; costs 256 queries.

    Args:
        teacher: frozen.
        guesser: draws the tokens (``start="tokens"``) and the lengths.

    Source: takes the place of batch norm's running statistics in Yin et al., CVPR 2020 (DeepInversion,
    arXiv:1912.08795), section 3.2. Transformers hold no statistics of their training data; random tokens are data-free
    but not text, so these moments keep hidden states on the scale the teacher knows, no more.
    """
    total, squares, count = [], [], 0
    for _ in range(REFERENCE_SAMPLES // AT_ONCE):
        start = guesser.start(AT_ONCE)
        with torch.no_grad(), recorded_layers(teacher) as hidden:
            teacher.from_embeddings(start.embeddings, start.attention_mask)
        rows = [states.double()[start.attention_mask == 1] for states in hidden]
        total.append(torch.stack([flat.sum(dim=0) for flat in rows]))
        squares.append(torch.stack([flat.square().sum(dim=0) for flat in rows]))
        count += int(start.attention_mask.sum())
    means = torch.stack(total).sum(dim=0) / count
    deviations = (torch.stack(squares).sum(dim=0) / count - means.square()).clamp_min(0).sqrt()
    return [Moments(mean.float(), deviation.float()) for mean, deviation in zip(means, deviations)]


def moment_distance(found: Sequence[Moments], reference: Sequence[Moments]) -> Tensor:
    """``mean_{k, h} ((mu - mu') / sigma')^2 + (sigma / sigma' - 1)^2``: 0 where all moments agree.

    Args:
        found: K moments of a batch.
        reference: K moments, primed in the formula.

    Source: R_feature of Yin et al., CVPR 2020 (DeepInversion), equation 4; there a sum of norms of means and
    variances, here relative to the reference's deviations, so that layers and teachers of all widths weigh alike.
    """
    layers = []
    for now, wanted in zip(found, reference):
        deviation = wanted.deviation.clamp_min(1e-3)
        shift, stretch = (now.mean - wanted.mean) / deviation, now.deviation / deviation - 1
        layers.append((shift.square() + stretch.square()).mean())
    return torch.stack(layers).mean()
