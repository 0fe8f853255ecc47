"""Convolutions with max-over-time pooling on the teacher's frozen embedding block; learns from texts and embeddings.

Shapes: B samples, L positions, D embedding width, F filters of one kernel size, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfkd.config import require
from dfkd.models.split import Output
from dfkd.models.students import _frozen
from dfkd.models.students._pooling import masked_max
from dfkd.models.students.base import Facts, StudentContext


@dataclass(frozen=True)
class Options:
    """A TextCNN.

    Args:
        kernel_sizes: widths of the convolutions, in tokens; one convolution each.
        filters: filters of each convolution.
        dropout: dropout probability before the classifier; the paper has 0.5, for few labelled texts.
        freeze_embeddings: keep the teacher's embedding block as it is; ``None``: yes, whatever the strategy makes.
            ``false`` trains it as well, with strategies that make texts.
    """

    kernel_sizes: list[int] = field(default_factory=lambda: [3, 4, 5])
    filters: int = 100
    dropout: float = 0.1
    freeze_embeddings: Optional[bool] = None

    def __post_init__(self) -> None:
        sizes = list(self.kernel_sizes)
        positive = bool(sizes) and min(sizes) >= 1 and len(set(sizes)) == len(sizes)
        require(positive, "student.kernel_sizes", "a list of distinct sizes of 1 or more, such as [3,4,5]", sizes)
        require(self.filters >= 1, "student.filters", "1 or more", self.filters)
        require(0 <= self.dropout < 1, "student.dropout", "in [0, 1)", self.dropout)


class TextCnn(nn.Module):
    """Convolutions of several widths side by side, the greatest value of each filter, and a linear classifier.

    Args:
        width: D.
        classes: C.
        options: kernels, filters, dropout.

    Source: Kim, EMNLP 2014 (arXiv:1408.5882), section 2, the static variant with the teacher's embeddings for word
    vectors. Ours: the convolutions keep the length, zeros standing beyond the ends of a text, so that there is a
    feature for each position (L_MASK wants one); no bound on the norm of the classifier's weights.
    """

    def __init__(self, width: int, classes: int, options: Options) -> None:
        super().__init__()
        self.hidden_width = len(options.kernel_sizes) * options.filters
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, options.filters, size) for size in options.kernel_sizes
        )
        self.dropout = nn.Dropout(options.dropout)
        self.classifier = nn.Linear(self.hidden_width, classes)

    def forward(self, embeddings: Tensor, attention_mask: Tensor) -> Output:
        """Classify embeddings.

        Args:
            embeddings: (B, L, D).
            attention_mask: (B, L), 1 for real positions.

        Returns:
            Logits (B, C) and the features (B, L, kernel sizes * F), zero at padded positions.
        """
        real = attention_mask.unsqueeze(-1).bool()
        # what stands at padded positions must not reach the features of real ones; zeros stand beyond an end anyway
        columns = embeddings.masked_fill(~real, 0.0).transpose(1, 2)
        features = torch.cat([F.relu(_same_length(convolution, columns)) for convolution in self.convolutions], dim=1)
        hidden = features.transpose(1, 2).masked_fill(~real, 0.0)
        return Output(self.classifier(self.dropout(masked_max(hidden, attention_mask))), hidden)


def _same_length(convolution: nn.Module, columns: Tensor) -> Tensor:
    """Convolve (B, D, L) to (B, F, L), zeros standing beyond both ends; an even kernel looks one further ahead."""
    (size,) = convolution.kernel_size  # type: ignore[misc]
    features: Tensor = convolution(F.pad(columns, ((int(size) - 1) // 2, int(size) // 2)))
    return features


def upper(blueprint: _frozen.Blueprint) -> TextCnn:
    """The network above the embedding block."""
    return TextCnn(blueprint.width, len(blueprint.labels), blueprint.options)


def check(options: Options, facts: Facts) -> None:
    """Whether the student can be built on this teacher, from configurations alone.

    Raises:
        ConfigError: the teacher cannot be split at its embedding block, or an injected block shall be trained.
    """
    _frozen.check("textcnn", options, facts)


def build(options: Options, context: StudentContext) -> _frozen.BlockStudent:
    """Build the student on the teacher's device, in training mode."""
    return _frozen.build("textcnn", options, context, upper)


def load(folder: Path) -> _frozen.BlockStudent:
    """Rebuild a saved student.

    Raises:
        ConfigError: a file is missing or damaged.
    """
    return _frozen.load(folder, Options, upper)
