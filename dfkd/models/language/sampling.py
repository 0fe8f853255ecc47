"""From logits to the next token of each text, without sorting the vocabulary.

Shapes: B texts, L tokens so far, V vocabulary entries.
"""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor

from dfkd.errors import DfkdError
from dfkd.models.language.base import Sampling

NEVER = float("-inf")


def next_tokens(
    logits: Tensor, so_far: Tensor, sampling: Sampling, generators: Sequence[torch.Generator],
    banned: Tensor | None = None,
) -> Tensor:
    """Draw each text's next token.

    Args:
        logits: (B, V), of any precision; may be changed.
        so_far: (B, L), prompts included.
        sampling: how to draw.
        generators: B CPU generators, one a text: what a text gets does not depend on the others.
        banned: ids that may not come, such as the end of text before ``min_new_tokens``; ``None``: none.

    Returns:
        (B,) ids.

    Raises:
        DfkdError: the logits are no numbers.
    """
    logits = logits.float()
    if sampling.repetition_penalty != 1:
        logits = penalised(logits, so_far, sampling.repetition_penalty)
    if banned is not None:
        logits[:, banned] = NEVER
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits / sampling.temperature
    if 0 < sampling.top_k < logits.shape[1]:
        least = logits.topk(sampling.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, NEVER)
    return draw(logits.softmax(dim=-1), sampling.top_p, generators)


def penalised(logits: Tensor, so_far: Tensor, penalty: float) -> Tensor:
    """Logits (B, V) with those of the tokens in ``so_far`` (B, L) divided by the penalty, or times it below 0.

    Source: Keskar et al., "CTRL", 2019 (arXiv:1909.05858), section 4.1, which divides all logits; for negative ones
    that would reward the repetition, so they are multiplied, as in transformers and vllm.
    """
    scores = logits.gather(1, so_far)
    return logits.scatter(1, so_far, torch.where(scores < 0, scores * penalty, scores / penalty))


def draw(probabilities: Tensor, top_p: float, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw from each row's nucleus: the fewest likeliest tokens that have ``top_p`` of the mass between them.

    A token is drawn from the whole row, and drawn again while the tokens above it already hold ``top_p``: exactly
    the nucleus's distribution, for a few passes over the row. Sorting 64 rows of 49,152 takes 15 times as long.
    Tokens of one probability are in the nucleus together or not at all.

    Args:
        probabilities: (B, V), rows sum to 1.
        top_p: in (0, 1].
        generators: B CPU generators; each gives one number for each token drawn for its row.

    Returns:
        (B,) indices.

    Raises:
        DfkdError: the probabilities are no numbers.

    Source: Holtzman et al., ICLR 2020 (arXiv:1904.09751), section 3.1; drawing by rejection is ours.
    """
    # float64: among 50,000 terms float32 would lose the small ones
    cumulative = probabilities.cumsum(dim=-1, dtype=torch.float64)
    if not bool(cumulative[:, -1].isfinite().all()):
        raise DfkdError("the language model gives no finite numbers; try precision=float32")
    chosen = torch.empty(len(probabilities), dtype=torch.long, device=probabilities.device)
    rows = torch.arange(len(probabilities), device=probabilities.device)
    while len(rows):
        drawn = _inverse(cumulative, [generators[row] for row in rows.tolist()])
        inside = _mass_above(probabilities, drawn) < top_p if top_p < 1 else torch.ones_like(rows, dtype=torch.bool)
        chosen[rows[inside]] = drawn[inside]
        outside = ~inside
        if not bool(outside.any()):
            break
        rows, probabilities, cumulative = rows[outside], probabilities[outside], cumulative[outside]
    return chosen


def _inverse(cumulative: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """One index for each row of cumulative probabilities (B, V), by one uniform number each: (B,)."""
    uniform = torch.cat([torch.rand(1, generator=generator, dtype=torch.float64) for generator in generators])
    wanted = uniform.to(cumulative.device).unsqueeze(1) * cumulative[:, -1:]
    # right: never an entry of probability 0, on which the cumulative sum stands still
    return torch.searchsorted(cumulative, wanted, right=True).squeeze(1).clamp_max(cumulative.shape[1] - 1)


def _mass_above(probabilities: Tensor, drawn: Tensor) -> Tensor:
    """The mass of the tokens likelier than those drawn (B,), in each row of probabilities (B, V): (B,)."""
    own = probabilities.gather(1, drawn.unsqueeze(1))
    return (probabilities * (probabilities > own)).sum(dim=-1)
