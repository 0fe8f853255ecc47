"""Embeddings moved by gradient until the teacher sees the class asked for; no adversary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dfkd.batch import PseudoBatch
from dfkd.losses import soft_cross_entropy
from dfkd.models.teacher import Teacher
from dfkd.synthesis._guess import Guesser, GuessOptions
from dfkd.synthesis.base import Context, Silent


@dataclass(frozen=True)
class Options(GuessOptions):
    """Class-conditional guessing; see :class:`~dfkd.synthesis._guess.GuessOptions`."""


class EmbeddingGuess(Silent):
    """Minimises ``L_INPUT = CE(T'(e), y)`` over e, K steps a batch.

    Args:
        teacher: frozen.
        options: how to guess.
        generator: CPU generator.

    Source: L_INPUT of Ma et al., EMNLP 2020 (AS-DFD), section 3.2.
    """

    def __init__(self, teacher: Teacher, options: GuessOptions, generator: torch.Generator) -> None:
        self.teacher, self.generator = teacher, generator
        self.guesser = Guesser(teacher, options, generator)

    def synthesize(self, n: int) -> PseudoBatch:
        """Guess ``n`` samples."""
        start, targets = self.guesser.start(n), self.guesser.targets(n)

        def objective(embeddings: Tensor) -> Tensor:
            logits = self.teacher.from_embeddings(embeddings, start.attention_mask).logits
            return soft_cross_entropy(logits, targets) * n

        embeddings, trace = self.guesser.move(start, objective)
        info = {"input_loss_first": trace[0] / n, "input_loss_last": trace[-1] / n} if trace else {}
        return PseudoBatch(
            embeddings=embeddings, attention_mask=start.attention_mask, targets=targets, info=info
        )

    def state_dict(self) -> dict[str, Any]:
        """The generator's state."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.generator.set_state(state["generator"])


def build(options: Options, context: Context) -> EmbeddingGuess:
    """Guessing against the context's teacher."""
    return EmbeddingGuess(context.teacher, options, context.generator)
