"""What a strategy is, and what it may see.

A strategy module holds ``Options`` (a frozen dataclass whose class attributes ``injects`` and ``uses_real_text``
state the facts), the strategy's class, which takes plain values, and ``build(options, context)``. It may also hold
``check(options, facts)``, which raises a ConfigError where something is missing, before any work; and
``fingerprint(options)``, what tells the files that it reads from others of the same name, for the run's config.

``Options`` may say more, where it is otherwise than it seems from ``injects``: ``student_reads`` (``embeddings`` where
samples are texts and an adversary looks through the student's embeddings all the same), ``splits_teacher`` (whether
samples come from above the teacher's embedding block), and ``as_texts``, the options that a strategy of embeddings
lacks to make texts for students with embeddings of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Mapping, Optional, Protocol, Sequence

import torch
from torch import Tensor, nn

from dfkd.batch import Feedback, PseudoBatch, Text
from dfkd.errors import ConfigError
from dfkd.models.students.base import Student
from dfkd.models.teacher import Teacher


Corpus = Callable[[str, str, str, Optional[str], Optional[int]], Sequence[str]]
"""Reads texts from outside of the task: (file, column, split, hub_config, limit) -> texts."""


class Synthesizer(Protocol):
    """Makes pseudo batches, and learns from what the student does with them.

    :class:`Silent` has the methods that many strategies leave empty. A strategy whose samples repeat also has
    ``hold_out(n) -> PseudoBatch | None``: samples that it will never make again, for the judging of the student;
    ``None`` when it can spare no more. Without it, the trainer sets aside what ``synthesize`` gives. A strategy that
    has something to tell has ``notes() -> dict``, plain values for ``notes.json`` and ``dfkd inspect``; one that
    learns by reward has ``rewards(feedback) -> Tensor | None``, (B,), for the log of samples; one that asks the teacher
    much before its first sample does so in ``prepare()``. One that can put right what an alarm tells of the batch that
    it has just observed has ``repair(alarm) -> str | None``: what it did, in words; ``None``: nothing.
    """

    def synthesize(self, n: int) -> PseudoBatch:
        """Make ``n`` pseudo samples."""

    def observe(self, feedback: Feedback) -> None:
        """Learn from a student step, if the strategy does."""

    def student_losses(self, student: Student, batch: PseudoBatch) -> Mapping[str, Tensor]:
        """Loss terms beside distillation, by name; they are added to the student's loss."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """Parameters of the strategy that are trained with the student, such as AS-DFD's map W."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that is needed to go on after a kill, every generator's state included."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""


class Silent:
    """The methods of :class:`Synthesizer` that do nothing; a helper to mix in, not a base of mechanism."""

    def observe(self, feedback: Feedback) -> None:
        """Learn nothing."""

    def student_losses(self, student: Student, batch: PseudoBatch) -> Mapping[str, Tensor]:
        """No further loss terms."""
        return {}

    def parameters(self) -> Iterable[nn.Parameter]:
        """No parameters."""
        return ()


@dataclass(frozen=True)
class PoolCost:
    """What the making of the pools cost that a strategy draws from, as far as their samples are used.

    Args:
        queries: sequences sent through the teacher.
        tokens: that a language model drew.
        seconds: that it took.
    """

    queries: int
    tokens: int
    seconds: float


def pool_cost(synthesizer: Any) -> PoolCost:
    """The pools' cost of a strategy that has ``synthesis_queries``, ``_tokens`` and ``_seconds``; nothing of others."""
    queries, tokens, seconds = (getattr(synthesizer, f"synthesis_{of}", 0) for of in ("queries", "tokens", "seconds"))
    return PoolCost(int(queries), int(tokens), float(seconds))


def learns_from_student(synthesizer: Any) -> bool:
    """Whether a strategy makes other samples when it hears of the student: it says so, or does not ignore feedback."""
    said = getattr(synthesizer, "learns_from_student", None)
    return bool(said) if said is not None else type(synthesizer).observe is not Silent.observe


def _no_corpus(*source: Any) -> Sequence[str]:
    raise ConfigError("there is no way to a corpus here", fix="give Context a corpus")


@dataclass(frozen=True)
class Context:
    """What a strategy may use.

    Args:
        teacher: frozen; counts its queries.
        student: live, in training.
        generator: this strategy's own; on the CPU.
        pair: whether a sample is a pair of texts.
        prompts: the data config's words for prompts.
        real_text: hands out the training texts; raises :class:`~dfkd.errors.DataFreeError` for every strategy
            but ``real_text``.
        corpus: reads texts from outside of the task: (file, column, split, hub_config, limit) -> texts; raises
            :class:`~dfkd.errors.DataFreeError` for the task's own.
        steps: student steps of the run; ``None``: unknown, as where no student is trained.
        teacher_sha256: fingerprint of the teacher and the order of its outputs; ``None``: unknown.
        task: where the task's texts come from, see :func:`dfkd.doors.task_of`; ``None``: unknown.
        precision: of the run: ``auto``, ``float32`` or ``bf16``, for models that the strategy loads.
        trust_remote_code: let hub models run their own code.
        shared: what several strategies of one run hold in common, such as a language model; by names of their own.
    """

    teacher: Teacher
    student: Student
    generator: torch.Generator
    pair: bool
    prompts: Mapping[str, Any]
    real_text: Callable[[], Sequence[Text]]
    corpus: Corpus = _no_corpus
    steps: int | None = None
    teacher_sha256: str | None = None
    task: Mapping[str, Any] | None = None
    precision: str = "auto"
    trust_remote_code: bool = False
    shared: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What is known of a run before any weights are loaded, for a strategy module's ``check(options, facts)``.

    Args:
        labels: C class names.
        prompts: the data config's words for prompts.
        pair: whether a sample is a pair of texts.
        max_length: tokens per text, of the classifiers.
        trust_remote_code: let hub models run their own code.
        corpus: as in :class:`Context`.
        teacher_sha256: as in :class:`Context`.
        task: as in :class:`Context`.
        teacher_type: the teacher's architecture, such as ``bert``; ``None``: unknown.
    """

    labels: Sequence[str]
    prompts: Mapping[str, Any]
    pair: bool = False
    max_length: int = 128
    trust_remote_code: bool = False
    corpus: Corpus = _no_corpus
    teacher_sha256: str | None = None
    task: Mapping[str, Any] | None = None
    teacher_type: str | None = None
