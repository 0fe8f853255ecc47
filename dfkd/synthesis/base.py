"""What a strategy is, and what it may see.

A strategy module holds ``Options`` (a frozen dataclass whose class attributes ``injects`` and ``uses_real_text``
state the facts), the strategy's class, which takes plain values, and ``build(options, context)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Iterable, Mapping, Protocol, Sequence

import torch
from torch import Tensor, nn

from dfkd.batch import Feedback, PseudoBatch, Text
from dfkd.models.students.base import Student
from dfkd.models.teacher import Teacher


class Synthesizer(Protocol):
    """Makes pseudo batches, and learns from what the student does with them.

    :class:`Silent` has the methods that many strategies leave empty. A strategy whose samples repeat also has
    ``hold_out(n) -> PseudoBatch | None``: samples that it will never make again, for the judging of the student;
    ``None`` when it can spare no more. Without it, the trainer sets aside what ``synthesize`` gives.
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
    """

    teacher: Teacher
    student: Student
    generator: torch.Generator
    pair: bool
    prompts: Mapping[str, Any]
    real_text: Callable[[], Sequence[Text]]
