"""A generator of embeddings that seeks what the student does not believe as the teacher does (KL game)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dfkd.losses import prediction_kl
from dfkd.models.students.base import Student
from dfkd.models.teacher import Teacher
from dfkd.synthesis._generator import GeneratorOptions, GeneratorTraining, InTurns, Sample, both_logits
from dfkd.synthesis.base import Context


@dataclass(frozen=True)
class Options(GeneratorOptions):
    """The KL game; see :class:`~dfkd.synthesis._generator.GeneratorOptions`.

    Args:
        student_steps: student steps between two turns of the generator; the paper has 10.
    """

    student_steps: int = 10


class ModifiedZskt(InTurns):
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
        teacher, student = both_logits(self.teacher, self.student, sample)
        return {"kl": prediction_kl(teacher, student)}


def build(options: Options, context: Context) -> ModifiedZskt:
    """The game between the context's teacher and student."""
    return ModifiedZskt(context.teacher, context.student, options, context.generator)
