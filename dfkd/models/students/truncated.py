"""An encoder with fewer layers than the teacher, usually started from the teacher's own."""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Any, Optional, Sequence

import torch
from transformers import AutoModelForSequenceClassification, PretrainedConfig

from dfkd.config import require
from dfkd.errors import ConfigError
from dfkd.models import sources
from dfkd.models.classifier import TextClassifier, dropout_fields, load_classifier, load_tokenizer
from dfkd.models.preflight import check_length, check_vocabulary
from dfkd.models.split import check_supported
from dfkd.models.students._frozen import check_freezing
from dfkd.models.students.base import Facts, StudentContext

LAYER = re.compile(r"(?P<stem>.*\blayers?\.)(?P<index>\d+)(?P<rest>\..*)")
NAMED = ("spread", "first", "last")
BLOCK = ("model_type", "hidden_size", "embedding_size", "vocab_size", "max_position_embeddings", "type_vocab_size")


@dataclass(frozen=True)
class Options:
    """A truncated encoder.

    Args:
        layers: number of layers.
        keep: which of the source's layers: ``spread`` evenly with the first and the last, ``first``, ``last``,
            or a list of indices from 0, one for each layer.
        init: where the layers start from: ``teacher``, ``fresh`` (random), or a pre-trained encoder by folder,
            ``package:DIST`` or hub name.
        freeze_embeddings: keep the embedding block as it is; ``None``: only where the strategy injects
            embeddings, which needs the teacher's own block.
        dropout: dropout probability of the student; ``None``: as in the source.
    """

    layers: int = 3
    keep: Any = "spread"
    init: str = "teacher"
    freeze_embeddings: Optional[bool] = None
    dropout: Optional[float] = None

    def __post_init__(self) -> None:
        require(self.layers >= 1, "student.layers", "1 or more", self.layers)
        named = isinstance(self.keep, str) and self.keep in NAMED
        listed = isinstance(self.keep, (list, tuple)) and len(self.keep) == self.layers
        listed = listed and all(isinstance(index, int) and not isinstance(index, bool) for index in self.keep)
        expected = f"{', '.join(NAMED)}, or a list of {self.layers} indices"
        require(named or listed, "student.keep", expected, self.keep)
        unread = self.init == "fresh" and self.keep != "spread"
        require(not unread, "student.keep", "nothing for student.init=fresh, which copies no layer", self.keep)
        require(self.dropout is None or 0 <= self.dropout < 1, "student.dropout", "in [0, 1)", self.dropout)


def kept_layers(keep: str | Sequence[int], layers: int, total: int) -> list[int]:
    """The indices of the source's layers that the student takes; for ``keep`` see :class:`Options`.

    Raises:
        ConfigError: the source has fewer layers, or no layer of a listed index.
    """
    if layers > total:
        raise ConfigError(
            "the student has more layers than its source",
            expected=f"student.layers of 1 to {total}",
            found=layers,
            fix=f"add student.layers={max(1, total // 2)}",
        )
    if keep == "first":
        return list(range(layers))
    if keep == "last":
        return list(range(total - layers, total))
    if keep == "spread":
        return [round(i * (total - 1) / (layers - 1)) for i in range(layers)] if layers > 1 else [total - 1]
    chosen = [int(index) for index in keep]
    if any(not 0 <= index < total for index in chosen):
        raise ConfigError("student.keep names a layer that is not there", expected=f"0 to {total - 1}", found=chosen)
    return chosen


def check(options: Options, facts: Facts) -> None:
    """Whether the student can be built on this teacher, from configurations alone.

    Raises:
        ConfigError: too many layers, a source that cannot read the texts, an architecture that cannot be split, or
            an embedding block of other sizes than the teacher's.
    """
    source: PretrainedConfig = facts.teacher_config
    if options.init not in ("teacher", "fresh"):
        source = sources.load_config(options.init)
        check_length(source, facts.max_length, options.init)
        check_vocabulary(source, load_tokenizer(options.init), options.init)
    if options.init != "fresh":
        kept_layers(options.keep, options.layers, int(source.num_hidden_layers))
    else:
        kept_layers("first", options.layers, int(facts.teacher_config.num_hidden_layers))
    if facts.injects == "embeddings":
        _check_injection(options, source, facts)


def _check_injection(options: Options, source: PretrainedConfig, facts: Facts) -> None:
    teacher = facts.teacher_config
    check_supported(teacher.model_type)
    check_freezing(options.freeze_embeddings, facts)
    expected = {name: getattr(teacher, name, None) for name in BLOCK}
    found = {name: getattr(source, name, None) for name in BLOCK}
    differing = [name for name in BLOCK if found[name] != expected[name]]
    if differing:
        raise ConfigError(
            "the student cannot share the teacher's embedding block",
            expected=", ".join(f"{name} {expected[name]}" for name in differing),
            found=", ".join(f"{name} {found[name]}" for name in differing) + f" in {options.init}",
            fix=f"take student.init=teacher or fresh; {facts.or_texts}",
        )


def build(options: Options, context: StudentContext) -> TextClassifier:
    """Build the student on the teacher's device, in training mode.

    Raises:
        ConfigError: as :func:`check`.
    """
    teacher = context.teacher.classifier
    source = teacher
    if options.init not in ("teacher", "fresh"):
        source = load_classifier(
            options.init, teacher.max_length, teacher.labels, trust_remote_code=context.trust_remote_code
        )
    total = int(source.model.config.num_hidden_layers)
    keep = options.keep if options.init != "fresh" else "first"
    model = shallow_copy(source.model, kept_layers(keep, options.layers, total), options.dropout)
    if options.init != "fresh":
        copy_weights(source.model, model, kept_layers(keep, options.layers, total))
    shares = options.init == "fresh" or context.injects == "embeddings"
    tokenizer = teacher.tokenizer if shares else source.tokenizer
    student = TextClassifier(model, tokenizer, teacher.labels, teacher.max_length)
    if shares:
        student.embedding_block.load_state_dict(teacher.embedding_block.state_dict())
    frozen = options.freeze_embeddings
    if frozen or (frozen is None and context.injects == "embeddings"):
        student.embedding_block.requires_grad_(False)
    return student.to(teacher.device).train()


def shallow_copy(model: Any, kept: Sequence[int], dropout: float | None) -> Any:
    """A model of the same architecture with ``len(kept)`` layers and fresh weights (torch's global generator)."""
    config = copy.deepcopy(model.config)
    for name in ("layer_types", "mlp_layer_types"):  # ModernBERT lists what each layer is
        if getattr(config, name, None) is not None:
            setattr(config, name, [getattr(config, name)[index] for index in kept])
    config.num_hidden_layers = len(kept)
    if dropout is not None:
        for name in dropout_fields(config):
            setattr(config, name, dropout)
    return AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)


def copy_weights(source: Any, target: Any, kept: Sequence[int]) -> None:
    """Load the source's weights into a shallower model: layer ``i`` gets those of layer ``kept[i]``."""
    weights, renamed = source.state_dict(), {}
    for name in target.state_dict():
        match = LAYER.fullmatch(name)
        old = f"{match['stem']}{kept[int(match['index'])]}{match['rest']}" if match else name
        # ALBERT shares one layer among all; ModernBERT's first layer lacks a norm that the later ones have
        renamed[name] = weights[old] if old in weights else weights.get(name, target.state_dict()[name])
    target.load_state_dict(renamed)
