"""What every student kind offers, and what it is built from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Protocol

from torch import Tensor, nn

from dfkd.batch import PseudoBatch
from dfkd.models.split import Output
from dfkd.models.teacher import Teacher


class Student(Protocol):
    """A trainable classifier; every concrete kind is an ``nn.Module`` besides."""

    labels: tuple[str, ...]
    max_length: int

    def from_batch(self, batch: PseudoBatch) -> Output | Tensor:
        """Logits (B, C) of texts, or :class:`~dfkd.models.split.Output` for embeddings."""

    def from_embeddings(self, embeddings: Tensor, attention_mask: Tensor) -> Output:
        """Logits and hidden states of embeddings (B, L, D)."""

    def embedding_parameters(self) -> list[nn.Parameter]:
        """The parameters of the embedding block."""

    def save(self, folder: Path, **extras: Any) -> None:
        """Write everything that prediction needs into ``folder``."""


@dataclass(frozen=True)
class StudentContext:
    """What a student is built from.

    Args:
        teacher: live, on its device.
        injects: ``tokens`` or ``embeddings``: what the strategy will feed the student, be it for an adversary alone.
        trust_remote_code: let hub models run their own code.
    """

    teacher: Teacher
    injects: str = "tokens"
    trust_remote_code: bool = False


@dataclass(frozen=True)
class Facts:
    """What is known of teacher and run before any weights are loaded, for checks.

    Args:
        teacher_config: the teacher's transformers configuration.
        injects: as in :class:`StudentContext`.
        max_length: tokens per text.
        remedy: what is to be added so that the strategy feeds any student texts alone; empty where nothing would do.
    """

    teacher_config: Any
    injects: str
    max_length: int
    remedy: str = ""

    @property
    def or_texts(self) -> str:
        """What else to do where a student cannot take embeddings, as the end of a sentence."""
        snap = f"add {self.remedy}, which hands the student the nearest tokens as text; or " if self.remedy else ""
        return f"or {snap}take a strategy that makes texts ('dfkd strategies' lists them)"


Values = Mapping[str, Any]
