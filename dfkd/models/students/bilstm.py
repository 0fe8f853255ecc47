"""A bidirectional LSTM on the teacher's frozen embedding block; learns from texts and from embeddings.

Shapes: B samples, L positions, D embedding width, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Optional

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dfkd.config import require
from dfkd.models.split import Output
from dfkd.models.students import _frozen
from dfkd.models.students._pooling import masked_max, masked_mean
from dfkd.models.students.base import Facts, StudentContext


@dataclass(frozen=True)
class Options:
    """A BiLSTM.

    Args:
        hidden: units in each direction; the hidden states are twice as wide.
        layers: number of layers.
        pooling: what the classifier sees of the last layer: ``max`` or ``mean`` over the real positions, or the
            ``last`` state of each direction.
        dropout: dropout probability between layers and before the classifier.
        freeze_embeddings: keep the teacher's embedding block as it is; ``None``: yes, whatever the strategy makes.
            ``false`` trains it as well, with strategies that make texts.
    """

    hidden: int = 128
    layers: int = 1
    pooling: Literal["max", "mean", "last"] = "max"
    dropout: float = 0.1
    freeze_embeddings: Optional[bool] = None

    def __post_init__(self) -> None:
        for name in ("hidden", "layers"):
            require(getattr(self, name) >= 1, f"student.{name}", "1 or more", getattr(self, name))
        require(self.pooling in ("max", "mean", "last"), "student.pooling", "max, mean or last", self.pooling)
        require(0 <= self.dropout < 1, "student.dropout", "in [0, 1)", self.dropout)


class BiLstm(nn.Module):
    """LSTM layers in both directions, pooling, and a linear classifier.

    Args:
        width: D.
        classes: C.
        options: sizes, pooling, dropout.

    Source: the student of Tang et al., "Distilling Task-Specific Knowledge from BERT into Simple Neural Networks",
    2019 (arXiv:1903.12136), section 3.1, there with the last states and a hidden layer before the classifier, on
    trained word vectors. Max pooling: Conneau et al., EMNLP 2017 (arXiv:1705.02364), section 3.2.3.
    """

    def __init__(self, width: int, classes: int, options: Options) -> None:
        super().__init__()
        self.hidden_width = 2 * options.hidden
        # one module a layer, as the dropout between layers is ours: see train()
        self.layers = nn.ModuleList(
            nn.LSTM(self.hidden_width if index else width, options.hidden, batch_first=True, bidirectional=True)
            for index in range(options.layers)
        )
        self.dropout = nn.Dropout(options.dropout)
        self.pooling = options.pooling
        self.classifier = nn.Linear(self.hidden_width, classes)

    def train(self, mode: bool = True) -> BiLstm:
        """Switch dropout on or off.

        The LSTMs stay in training mode, where they compute the same: cuDNN gives gradients of no others, and
        AS-DFD differentiates a student whose dropout is off.
        """
        super().train(mode)
        self.layers.train()
        return self

    def forward(self, embeddings: Tensor, attention_mask: Tensor) -> Output:
        """Classify embeddings.

        Args:
            embeddings: (B, L, D).
            attention_mask: (B, L), its ones in front.

        Returns:
            Logits (B, C) and the last layer's states (B, L, 2 * hidden), zero at padded positions.
        """
        lengths = attention_mask.sum(dim=1).long().cpu()
        # float32: in bf16 the states of long texts lose digits, and not every CPU has such a kernel
        with torch.autocast(embeddings.device.type, enabled=False):
            hidden = embeddings.float()
            for index, layer in enumerate(self.layers):
                hidden = both_ways(layer, self.dropout(hidden) if index else hidden, lengths)
        return Output(self.classifier(self.dropout(self._pool(hidden, attention_mask))), hidden)

    def _pool(self, hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """One vector for each sample: (B, 2 * hidden)."""
        if self.pooling == "max":
            return masked_max(hidden, attention_mask)
        if self.pooling == "mean":
            return masked_mean(hidden, attention_mask)
        size, last = self.hidden_width // 2, attention_mask.sum(dim=1).long() - 1
        rows = torch.arange(len(hidden), device=hidden.device)
        return torch.cat([hidden[rows, last, :size], hidden[:, 0, size:]], dim=1)  # each direction's own end


def both_ways(layer: nn.Module, inputs: Tensor, lengths: Tensor) -> Tensor:
    """Run a bidirectional LSTM so that neither direction sees padding.

    Args:
        layer: bidirectional, batch first.
        inputs: (B, L, any width).
        lengths: (B,), real positions of each sample, on the CPU.

    Returns:
        (B, L, 2 * hidden), zero at padded positions.
    """
    length = inputs.shape[1]
    if int(lengths.min()) == length:  # nothing to skip, and one kernel for all steps: twice as fast on a CPU
        states: Tensor = layer(inputs)[0]
        return states
    packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(layer(packed)[0], batch_first=True, total_length=length)[0]


def upper(blueprint: _frozen.Blueprint) -> BiLstm:
    """The network above the embedding block."""
    return BiLstm(blueprint.width, len(blueprint.labels), blueprint.options)


def check(options: Options, facts: Facts) -> None:
    """Whether the student can be built on this teacher, from configurations alone.

    Raises:
        ConfigError: the teacher cannot be split at its embedding block, or an injected block shall be trained.
    """
    _frozen.check("bilstm", options, facts)


def build(options: Options, context: StudentContext) -> _frozen.BlockStudent:
    """Build the student on the teacher's device, in training mode."""
    return _frozen.build("bilstm", options, context, upper)


def load(folder: Path) -> _frozen.BlockStudent:
    """Rebuild a saved student.

    Raises:
        ConfigError: a file is missing or damaged.
    """
    return _frozen.load(folder, Options, upper)
