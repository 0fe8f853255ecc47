"""A generator of embeddings that seeks the largest distance between teacher and student logits (L1 game)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dfkd.models.students.base import Student
from dfkd.models.teacher import Teacher
from dfkd.synthesis._generator import GeneratorOptions, GeneratorTraining, InTurns, Sample, both_logits
from dfkd.synthesis.base import Context


@dataclass(frozen=True)
class Options(GeneratorOptions):
    """The L1 game; see :class:`~dfkd.synthesis._generator.GeneratorOptions`.

    Args:
        student_steps: student steps between two turns of the generator; the paper has 5.
        growth: the generator maximises the mean absolute error of the logits (``plain``), or the logarithm of it plus
            1 (``log``), whose gradient fades where the models are far apart.
    """

    student_steps: int = 5
    growth: Literal["plain", "log"] = "plain"


class Dfad(InTurns):
    """The generator maximises the mean absolute error between teacher and student logits on e.

    Args:
        teacher: frozen.
        student: a module; its parameters get no gradient here.
        options: generator, turns, growth.
        generator: CPU generator.

    Source: Fang et al., 2019 (DFAD, "Data-Free Adversarial Distillation", arXiv:1912.11006), section 3; the public
    code takes ``plain`` for CIFAR and ``log`` for NYUv2. What differs: e in place of images; the student's step is the
    trainer's, which minimises KL, there the same L1; the student's dropout is off in the generator's step; gradients
    are clipped. Adam at 1e-3 and 1 generator step to 5 student steps are theirs. Ours are the penalty on likeness
    (``diversity_weight``) and ``moment_weight``, which is 0 by default, as no loss of theirs looks at batch norm.
    """

    def __init__(self, teacher: Teacher, student: Student, options: Options, generator: torch.Generator) -> None:
        self.teacher, self.student, self.growth = teacher, student, options.growth
        self.training = GeneratorTraining(teacher, options, self.terms, {"l1": -1.0}, generator)

    def terms(self, sample: Sample) -> dict[str, Tensor]:
        """``l1``: the mean absolute error of the student's logits, or its logarithm as ``growth`` says."""
        teacher, student = both_logits(self.teacher, self.student, sample)
        error = F.l1_loss(student.float(), teacher.float())
        return {"l1": error if self.growth == "plain" else torch.log1p(error)}


def build(options: Options, context: Context) -> Dfad:
    """The game between the context's teacher and student."""
    return Dfad(context.teacher, context.student, options, context.generator)
