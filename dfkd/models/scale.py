"""How embeddings lie beside those of the vocabulary: norm, moments, and how alike the samples are.

Shapes: B samples, L positions, D embedding width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dfkd.models.classifier import TextClassifier
from dfkd.models.decode import token_table


class Scale:
    """Measures embeddings against the vocabulary's.

    Args:
        classifier: its embedding block is the yardstick; looked at with the first batch, as not all can be split.
    """

    def __init__(self, classifier: TextClassifier) -> None:
        self.classifier = classifier
        self._moments: tuple[Tensor, Tensor, float] | None = None

    def measure(self, embeddings: Tensor, attention_mask: Tensor) -> dict[str, float]:
        """Facts of embeddings (B, L, D) with a mask (B, L), by name; in float32 whatever the precision of a run.

        Returns:
            ``embedding_norm``, ``embedding_deviation`` (both as a share of the vocabulary's own), ``embedding_shift``
            (distance of the means, as a share of the vocabulary's deviation), ``pairwise_cosine``, and
            ``pairwise_square``, the mean square of that cosine: a batch of one sample and its mirror image has a
            cosine of 0.
        """
        with torch.autocast("cpu", enabled=False):
            mean, deviation, norm = self._vocabulary()
            embeddings, mask = embeddings.float().cpu(), attention_mask.cpu().bool()
            inner = embeddings[mask]
            return {
                "embedding_norm": float(inner.norm(dim=1).mean()) / norm,
                "embedding_deviation": float(inner.std(dim=0).mean() / deviation.mean()),
                "embedding_shift": float((inner.mean(dim=0) - mean).norm() / deviation.norm()),
                **pairwise_cosines(embeddings, mask, mean),
            }

    def _vocabulary(self) -> tuple[Tensor, Tensor, float]:
        """Mean and deviation of the vocabulary's embeddings, (D,) each, and their mean norm."""
        if self._moments is None:
            table = token_table(self.classifier).float().cpu()
            self._moments = table.mean(dim=0), table.std(dim=0), float(table.norm(dim=1).mean())
        return self._moments


def pairwise_cosines(embeddings: Tensor, mask: Tensor, mean: Tensor) -> dict[str, float]:
    """Cosines between different samples of (B, L, D): 0 where they share nothing, 1 where they are alike.

    A sample is compared as a whole, position by position, after ``mean`` (D,) is taken off, which all embeddings share.
    The special tokens at both ends are left out: they are alike by construction.

    Returns:
        The mean, ``pairwise_cosine``, and the mean square, ``pairwise_square``; nothing for a single sample.
    """
    if len(embeddings) < 2:
        return {}
    inner = mask.clone()
    inner[:, 0] = False
    inner[torch.arange(len(mask)), mask.sum(dim=1) - 1] = False
    flat = F.normalize(((embeddings - mean) * inner.unsqueeze(-1)).flatten(1), dim=1)
    cosines = (flat @ flat.T)[~torch.eye(len(flat), dtype=torch.bool)]
    return {"pairwise_cosine": float(cosines.mean()), "pairwise_square": float(cosines.square().mean())}
