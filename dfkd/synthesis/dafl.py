"""A generator of embeddings that the teacher is sure of, that excite it, and that cover its classes (DAFL)."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfkd.config import require
from dfkd.losses import entropy
from dfkd.models.teacher import Teacher
from dfkd.synthesis._generator import GeneratorOptions, GeneratorTraining, InTurns, Sample
from dfkd.synthesis.base import Context


@dataclass(frozen=True)
class Options(GeneratorOptions):
    """DAFL; see :class:`~dfkd.synthesis._generator.GeneratorOptions`.

    Args:
        one_hot_weight: weight of the cross-entropy against the teacher's own class.
        activation_weight: weight of the activations that feed the teacher's output layer.
        balance_weight: weight of the entropy of the batch's mean prediction.
    """

    one_hot_weight: float = 1.0
    activation_weight: float = 0.001
    balance_weight: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("one_hot_weight", "activation_weight", "balance_weight"):
            require(getattr(self, name) >= 0, f"strategy.{name}", "0 or more", getattr(self, name))


@contextmanager
def features_seen(teacher: Teacher) -> Iterator[list[Tensor]]:
    """Collect what feeds the teacher's output layer, (B, H) a pass, inside the ``with`` block."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])

    handle = teacher.output_layer().register_forward_pre_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def class_entropy(logits: Tensor) -> Tensor:
    """Entropy, in nats, of the mean prediction of a batch (B, C): a scalar, log C where all classes are as frequent."""
    return entropy(logits.float().softmax(dim=-1).mean(dim=0).clamp_min(1e-12))  # at 0 its gradient is infinite


class Dafl(InTurns):
    """Minimises ``one_hot * CE(T(e), argmax T(e)) - activation * mean |f(e)| - balance * H(mean_B T(e))``.

    f(e) is the pooled representation that feeds the teacher's output layer, H the entropy. The student plays no part.

    Args:
        teacher: frozen.
        options: generator, turns, weights.
        generator: CPU generator.

    Source: Chen et al., ICCV 2019 (DAFL, "Data-Free Learning of Student Networks", arXiv:1904.01186), section 3, with
    the weights 1, 0.001 and 20; the public code's defaults for MNIST are 1, 0.1 and 5. What differs: e in place of
    images; the entropy is in nats, in the public code to the base 10; no gradient of the student's loss reaches the
    generator, in the public code it does; each student step sees samples of its own; Adam's rate. A BERT's pooled
    representation is the output of a tanh, so the activation term is bounded here. Ours are the penalty on likeness
    (``diversity_weight``) and ``moment_weight``, which is 0 by default, as no loss of theirs looks at batch norm.
    """

    def __init__(self, teacher: Teacher, options: Options, generator: torch.Generator) -> None:
        self.teacher = teacher
        weights = {
            "one_hot": options.one_hot_weight, "activation": -options.activation_weight,
            "entropy": -options.balance_weight,
        }
        self.training = GeneratorTraining(teacher, options, self.terms, weights, generator)

    def terms(self, sample: Sample) -> dict[str, Tensor]:
        """``one_hot``: cross-entropy against the teacher's class; ``activation``: mean |f|; ``entropy``: of classes."""
        with features_seen(self.teacher) as features:
            logits = self.teacher.from_embeddings(sample.embeddings, sample.attention_mask).logits.float()
        one_hot = F.cross_entropy(logits, logits.detach().argmax(dim=-1))
        return {"one_hot": one_hot, "activation": features[0].float().abs().mean(), "entropy": class_entropy(logits)}


def build(options: Options, context: Context) -> Dafl:
    """DAFL on the context's teacher."""
    return Dafl(context.teacher, options, context.generator)
