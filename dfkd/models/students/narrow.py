"""A narrower encoder of the teacher's architecture, on its frozen embedding block through a fixed random projection.

Shapes: B samples, L positions, D embedding width, W the student's width, C classes.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PretrainedConfig

from dfkd.config import require
from dfkd.errors import ConfigError
from dfkd.models.classifier import dropout_fields, embedding_width
from dfkd.models.split import Output, UpperHalf
from dfkd.models.students import _frozen
from dfkd.models.students.base import Facts, StudentContext


@dataclass(frozen=True)
class Options:
    """A narrower encoder.

    Args:
        width: W, at most the width D of the teacher's embeddings; ``None``: half of D.
        layers: number of layers, all with fresh weights.
        heads: attention heads; ``None``: as wide ones as the teacher's, or wider where those do not divide W.
        feed_forward: units between the two matrices of a feed-forward block; ``None``: 4 * W.
        dropout: dropout probability; ``None``: as in the teacher.
        freeze_embeddings: keep the teacher's embedding block as it is; ``None``: yes, whatever the strategy makes.
            ``false`` trains it as well, with strategies that make texts.
    """

    width: Optional[int] = None
    layers: int = 2
    heads: Optional[int] = None
    feed_forward: Optional[int] = None
    dropout: Optional[float] = None
    freeze_embeddings: Optional[bool] = None

    def __post_init__(self) -> None:
        require(self.layers >= 1, "student.layers", "1 or more", self.layers)
        for name in ("width", "heads", "feed_forward"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"student.{name}", "1 or more", value)
        require(self.dropout is None or 0 <= self.dropout < 1, "student.dropout", "in [0, 1)", self.dropout)


class Narrow(nn.Module):
    """A fixed projection of the embeddings, and transformer layers with a classification head above it.

    The projection P (W, D) has orthonormal rows: ``P P^T = I``, so that a direction of the embeddings keeps its scale
    where it is kept. It is a buffer, saved with the weights but not counted as a parameter.

    Args:
        width: D.
        config: of the narrow classifier; its embeddings are left out.
    """

    projection: Tensor

    def __init__(self, width: int, config: PretrainedConfig) -> None:
        super().__init__()
        self.hidden_width = int(config.hidden_size)
        self.register_buffer("projection", nn.init.orthogonal_(torch.empty(self.hidden_width, width)))
        self.model: Any = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
        self.model.base_model.embeddings = nn.Identity()  # the teacher's block stands there, outside of this module
        self._half = UpperHalf(self.model)

    def forward(self, embeddings: Tensor, attention_mask: Tensor) -> Output:
        """Classify embeddings.

        Args:
            embeddings: (B, L, D).
            attention_mask: (B, L), 1 for real positions.

        Returns:
            Logits (B, C) and the last layer's hidden states (B, L, W).
        """
        return self._half(F.linear(embeddings, self.projection), attention_mask)


def narrow_width(options: Options, teacher: PretrainedConfig) -> int:
    """W."""
    return options.width or max(1, embedding_width(teacher) // 2)


def narrow_heads(options: Options, teacher: PretrainedConfig) -> int:
    """The number of attention heads."""
    if options.heads:
        return options.heads
    width, size = narrow_width(options, teacher), int(teacher.hidden_size) // int(teacher.num_attention_heads)
    return next(heads for heads in range(max(1, width // size), 0, -1) if width % heads == 0)


def narrow_config(options: Options, teacher: PretrainedConfig, classes: int) -> PretrainedConfig:
    """The teacher's configuration with the student's sizes; the teacher's is left untouched."""
    config, width = copy.deepcopy(teacher), narrow_width(options, teacher)
    config.hidden_size = width
    config.num_hidden_layers = options.layers
    config.num_attention_heads = narrow_heads(options, teacher)
    feed_forward = "hidden_dim" if config.model_type == "distilbert" else "intermediate_size"
    setattr(config, feed_forward, options.feed_forward or 4 * width)
    if hasattr(config, "embedding_size"):
        config.embedding_size = width  # ELECTRA would put a projection of its own above ours
    if options.dropout is not None:
        for name in dropout_fields(config):
            setattr(config, name, options.dropout)
    config.num_labels = classes
    return config


def upper(blueprint: _frozen.Blueprint) -> Narrow:
    """The network above the embedding block."""
    config = narrow_config(blueprint.options, blueprint.encoder, len(blueprint.labels))
    return Narrow(blueprint.width, config)


def check(options: Options, facts: Facts) -> None:
    """Whether the student can be built on this teacher, from configurations alone.

    Raises:
        ConfigError: the teacher cannot be split at its embedding block, an injected block shall be trained, the
            student is wider than the embeddings, or its heads do not divide its width.
    """
    _frozen.check("narrow", options, facts)
    most, width = embedding_width(facts.teacher_config), narrow_width(options, facts.teacher_config)
    if width > most:
        raise ConfigError(
            "the narrow student is wider than the teacher's embeddings", expected=f"student.width of 1 to {most}",
            found=width, fix=f"leave student.width out (for {max(1, most // 2)}), or take student=truncated",
        )
    heads = narrow_heads(options, facts.teacher_config)
    if width % heads:
        divisors = ", ".join(str(number) for number in range(1, width + 1) if width % number == 0)
        raise ConfigError(
            f"{heads} attention heads do not divide a width of {width}", expected=f"student.heads of {divisors}",
            found=heads, fix="leave student.heads out, or change student.width",
        )


def build(options: Options, context: StudentContext) -> _frozen.BlockStudent:
    """Build the student on the teacher's device, in training mode."""
    return _frozen.build("narrow", options, context, upper)


def load(folder: Path) -> _frozen.BlockStudent:
    """Rebuild a saved student.

    Raises:
        ConfigError: a file is missing or damaged.
    """
    return _frozen.load(folder, Options, upper)
