"""AS-DFD: embeddings guessed from the teacher, made harder by a self-supervised adversary in the student.

Shapes: B samples, L positions, D embedding width, H hidden width, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Mapping

import torch
from torch import Tensor, nn

from dfkd.batch import Feedback, PseudoBatch
from dfkd.models.students.base import Student
from dfkd.models.teacher import Teacher
from dfkd.synthesis._guess import Guesser
from dfkd.synthesis._self_supervision import SelfSupervision, SelfSupervisionOptions, guess_against
from dfkd.synthesis._snap import require_shared_embeddings
from dfkd.synthesis.base import Context


@dataclass(frozen=True)
class Options(SelfSupervisionOptions):
    """AS-DFD; see :class:`~dfkd.synthesis._guess.GuessOptions` for the guessing."""


class AsDfd:
    """Alternates ``e <- e - eta d/de [L_INPUT - lambda L_MASK]`` with ``min L_KD + L_MASK`` over student and W.

    Args:
        teacher: frozen.
        student: its parameters get no gradient here.
        supervision: L_MASK and its map W.
        options: all switches.
        generator: CPU generator.

    Source: Ma et al., EMNLP 2020 (arXiv:2010.04883), section 3, both stages. Stage 2 is the trainer's step, with
    L_MASK from :meth:`student_losses`. The paper's own form is the preset ``as_dfd/paper``; soft targets are ours.
    """

    def __init__(
        self, teacher: Teacher, student: Student, supervision: SelfSupervision, options: Options,
        generator: torch.Generator,
    ) -> None:
        self.teacher, self.student, self.supervision = teacher, student, supervision
        self.options, self.generator = options, generator
        self.guesser = Guesser(teacher, options, generator)

    def synthesize(self, n: int) -> PseudoBatch:
        """Stage 1: guess ``n`` samples against the student as it is now."""
        start, targets = self.guesser.start(n), self.guesser.targets(n)
        embeddings, info = guess_against(self.student, self.supervision, self.guesser, start, targets)
        return PseudoBatch(embeddings=embeddings, attention_mask=start.attention_mask, targets=targets, info=info)

    def student_losses(self, student: Student, batch: PseudoBatch) -> Mapping[str, Tensor]:
        """L_MASK of the batch, times its weight; stage 2 minimises it over student and W."""
        return self.supervision.student_losses(student, batch)

    def observe(self, feedback: Feedback) -> None:
        """The adversary looks at the live student; it needs no report."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """The map W."""
        return self.supervision.parameters()

    def state_dict(self) -> dict[str, Any]:
        """The generator's state, W, and the rate's."""
        state = {"map": dict(self.supervision.state_dict()), "rate": self.guesser.rate.state_dict()}
        return {"generator": self.generator.get_state(), **state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.generator.set_state(state["generator"])
        self.supervision.load_state_dict(state["map"])
        self.guesser.rate.load_state_dict(state.get("rate", {}))


def build(options: Options, context: Context) -> AsDfd:
    """AS-DFD between the context's teacher and student.

    Raises:
        ConfigError: adversary or L_MASK is asked of a student that does not share the teacher's embedding block, or
            trains it.
    """
    student: Any = context.student
    require_shared_embeddings(student, context.teacher, options)
    supervision = SelfSupervision(context.teacher, student.hidden_width, options, context.generator)
    return AsDfd(context.teacher, context.student, supervision, options, context.generator)
