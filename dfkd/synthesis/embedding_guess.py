"""Embeddings moved by gradient until the teacher sees the class asked for; no adversary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dfkd.batch import PseudoBatch
from dfkd.losses import entropy, soft_cross_entropies
from dfkd.models.teacher import Teacher
from dfkd.synthesis._guess import Guesser, StepOptions
from dfkd.synthesis.base import Context, Silent


@dataclass(frozen=True)
class Options(StepOptions):
    """Class-conditional guessing; see :class:`~dfkd.synthesis._guess.StepOptions`."""


class EmbeddingGuess(Silent):
    """Minimises ``L_INPUT = CE(T'(e), y)`` over e, K steps a batch.

    Args:
        teacher: frozen.
        options: how to guess.
        generator: CPU generator.

    Source: L_INPUT of Ma et al., EMNLP 2020 (AS-DFD), section 3.2.
    """

    def __init__(self, teacher: Teacher, options: Options, generator: torch.Generator) -> None:
        self.teacher, self.options, self.generator = teacher, options, generator
        self.guesser = Guesser(teacher, options, generator)

    def synthesize(self, n: int) -> PseudoBatch:
        """Guess ``n`` samples."""
        start, targets = self.guesser.start(n), self.guesser.targets(n)

        def losses(embeddings: Tensor) -> Tensor:
            logits = self.teacher.from_embeddings(embeddings, start.attention_mask).logits
            return soft_cross_entropies(logits, targets)

        if self.options.guess_step == "polyak":
            embeddings, trace = self.guesser.approach(start, losses, entropy(targets))
        else:
            embeddings, trace = self.guesser.move(start, lambda embeddings: losses(embeddings).mean() * n)
        info: dict[str, float] = {}
        if trace:
            first, last = trace[0] / n, trace[-1] / n
            info = {"input_loss_first": first, "input_loss_last": last, **self.guesser.rate.observe(first, last)}
        return PseudoBatch(
            embeddings=embeddings, attention_mask=start.attention_mask, targets=targets, info=info
        )

    def state_dict(self) -> dict[str, Any]:
        """The generator's state, and the rate's."""
        return {"generator": self.generator.get_state(), "rate": self.guesser.rate.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.generator.set_state(state["generator"])
        self.guesser.rate.load_state_dict(state.get("rate", {}))


def build(options: Options, context: Context) -> EmbeddingGuess:
    """Guessing against the context's teacher."""
    return EmbeddingGuess(context.teacher, options, context.generator)
