"""A generator of embeddings that seeks what the student does not believe as the teacher does (KL game)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dfkd.batch import Feedback, PseudoBatch
from dfkd.models.students.base import Student
from dfkd.models.teacher import Teacher
from dfkd.synthesis._generator import GeneratorOptions, GeneratorTraining, Sample
from dfkd.synthesis._inversion import still
from dfkd.synthesis.base import Context, Silent


@dataclass(frozen=True)
class Options(GeneratorOptions):
    """The KL game; see :class:`~dfkd.synthesis._generator.GeneratorOptions`.

    Args:
        student_steps: student steps between two turns of the generator; the paper has 10.
    """

    student_steps: int = 10


def belief_divergence(teacher_logits: Tensor, student_logits: Tensor) -> Tensor:
    """``mean_B KL(T || S)``, with gradient through both models: a scalar, from logits (B, C) each."""
    teacher, student = (F.log_softmax(logits.float(), dim=-1) for logits in (teacher_logits, student_logits))
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


class ModifiedZskt(Silent):
    """The generator maximises KL(T(e) || S(e)), the student minimises it.

    Args:
        teacher: frozen.
        student: a module; its parameters get no gradient here.
        options: generator and turns.
        generator: CPU generator.

    Source: Micaelli & Storkey, NeurIPS 2019 (ZSKT, arXiv:1905.09768), section 3 and algorithm 1, carried over to
    embeddings as AS-DFD's baseline Modified-ZSKT. What differs: the student's step is the trainer's (KL, no attention
    term, which compares spatial maps of convolutions layer by layer and has no counterpart here, as student and
    teacher meet at embeddings and logits only); each student step sees samples of its own, where the public code
    takes all its student steps of a turn on the samples of one z; the student's dropout is off in the generator's
    step; the generator's rate is constant, there it follows a cosine to 0. Adam at 1e-3, gradients clipped at 5, and
    1 generator step to 10 student steps are theirs. Ours are the penalty on likeness
    (``diversity_weight``) and ``moment_weight``, which is 0 by default, as no loss of theirs looks at batch norm.
    """

    def __init__(self, teacher: Teacher, student: Student, options: Options, generator: torch.Generator) -> None:
        self.teacher, self.student = teacher, student
        self.training = GeneratorTraining(teacher, options, self.terms, {"kl": -1.0}, generator)

    def terms(self, sample: Sample) -> dict[str, Tensor]:
        """``kl``: KL(T || S) on the sample."""
        teacher = self.teacher.from_embeddings(sample.embeddings, sample.attention_mask).logits
        with still(self.student):
            student = self.student.from_embeddings(sample.embeddings, sample.attention_mask).logits
        return {"kl": belief_divergence(teacher, student)}

    def synthesize(self, n: int) -> PseudoBatch:
        """Make ``n`` samples, after the generator's turn against the student as it is now, if a turn is due."""
        return self.training.synthesize(n)

    def observe(self, feedback: Feedback) -> None:
        """Count the student's steps."""
        self.training.student_stepped()

    def state_dict(self) -> dict[str, Any]:
        """The generator, its optimizer and its random state."""
        return self.training.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.training.load_state_dict(state)


def build(options: Options, context: Context) -> ModifiedZskt:
    """The game between the context's teacher and student."""
    return ModifiedZskt(context.teacher, context.student, options, context.generator)
