"""Moments of the teacher's hidden states: what batch-norm statistics are to vision methods, known without data.

Shapes: B samples, L positions, H hidden width, M layers.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Iterator, NamedTuple, Sequence

import torch
from torch import Tensor, nn

from dfkd.models.decode import pieces
from dfkd.models.teacher import Teacher

BATCH = 64
SMALLEST = 1e-6  # of a variance: some dimensions hardly vary


class HiddenMoments(NamedTuple):
    """Mean and variance of each layer's output over samples and positions, each (M, H)."""

    mean: Tensor
    variance: Tensor


@contextmanager
def hidden_states(teacher: Teacher) -> Iterator[list[Tensor]]:
    """Collect the layers' outputs, M times (B, L, H), of one pass through the teacher inside the ``with`` block.

    In the architectures that can be split, a layer ends with its LayerNorm: these are the states after it.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        seen.append(output if isinstance(output, Tensor) else output[0])

    hooks = [layer.register_forward_hook(keep) for layer in _layers(teacher)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _layers(teacher: Teacher) -> nn.ModuleList:
    """The teacher's M layers."""
    model: Any = teacher.classifier.model
    lists = [module for module in model.base_model.modules() if isinstance(module, nn.ModuleList)]
    return next(found for found in lists if len(found) == model.config.num_hidden_layers)


def moments(states: Sequence[Tensor], attention_mask: Tensor) -> HiddenMoments:
    """Moments of M states (B, L, H) over the real positions of a mask (B, L)."""
    real = [state[attention_mask.bool()].float() for state in states]
    means, variances = [r.mean(dim=0) for r in real], [r.var(dim=0, correction=0) for r in real]
    return HiddenMoments(torch.stack(means), torch.stack(variances))


def reference_moments(teacher: Teacher, generator: torch.Generator, samples: int, length: int) -> HiddenMoments:
    """Moments that uniformly random tokens of the vocabulary have in the teacher.

    Args:
        teacher: its queries are counted, ``samples`` of them.
        generator: CPU generator of the tokens.
        samples: sequences of tokens.
        length: positions of each, [CLS] and [SEP] included.

    Source: in the place of the running statistics of batch norm (DeepInversion, Yin et al., CVPR 2020, equation 4),
    which a transformer does not have. They are moments of the training data; these are not, and ask less.
    """
    vocabulary, tokenizer = torch.tensor(pieces(teacher.tokenizer)), teacher.tokenizer
    ids = vocabulary[torch.randint(len(vocabulary), (samples, length), generator=generator)]
    ids[:, 0], ids[:, -1] = tokenizer.cls_token_id, tokenizer.sep_token_id
    first, second = [], []
    for part in ids.to(teacher.device).split(BATCH):
        mask = torch.ones_like(part)
        with torch.no_grad(), hidden_states(teacher) as states:
            teacher.from_embeddings(teacher.embed(part), mask)
        mean, variance = moments(states, mask)
        first.append(mean * len(part) / samples)
        second.append((variance + mean.square()) * len(part) / samples)
    mean = torch.stack(first).sum(dim=0)
    return HiddenMoments(mean, torch.stack(second).sum(dim=0) - mean.square())


def moment_loss(states: Sequence[Tensor], attention_mask: Tensor, reference: HiddenMoments) -> Tensor:
    """How far a batch's moments are from the reference, in its own deviations, a scalar.

    ``mean_{M,H} [ ((mu - mu_ref) / sigma_ref)^2 + ((var - var_ref) / var_ref)^2 ]``

    Args:
        states: M states (B, L, H), from :func:`hidden_states`.
        attention_mask: (B, L).
        reference: from :func:`reference_moments`.

    Source: equation 4 of Yin et al., CVPR 2020; there the differences' norms are added up, layer by layer. Divided
    by the reference, wide and narrow dimensions count alike.
    """
    found, variance = moments(states, attention_mask), reference.variance.clamp_min(SMALLEST)
    of_means = (found.mean - reference.mean).square() / variance
    of_variances = ((found.variance - reference.variance) / variance).square()
    return (of_means + of_variances).mean()
