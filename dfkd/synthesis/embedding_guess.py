"""Embeddings moved by gradient until the teacher sees the class asked for; no adversary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from dfkd.batch import PseudoBatch
from dfkd.config import require
from dfkd.losses import soft_cross_entropies
from dfkd.models.teacher import Teacher
from dfkd.synthesis._guess import Guesser, GuessOptions
from dfkd.synthesis.base import Context, Silent


@dataclass(frozen=True)
class Options(GuessOptions):
    """Class-conditional guessing; see :class:`~dfkd.synthesis._guess.GuessOptions`.

    Args:
        guess_step: ``adam``: at ``guess_rate``; ``polyak``: steps of a length that follows from how far each sample's
            loss is from the entropy of its target, the least that it can be; ``guess_rate`` does nothing then. It hits
            soft targets of two classes, where Adam may step over them. With many classes lower ``concentration``.
        longest_step: of a step with ``polyak``, as the root of the mean square over what moves, a multiple of the
            embeddings' deviation sigma: where gradients are tiny, steps would be without bound.
    """

    guess_step: Literal["adam", "polyak"] = "adam"
    longest_step: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.guess_step in ("adam", "polyak"), "strategy.guess_step", "adam or polyak", self.guess_step)
        require(self.longest_step > 0, "strategy.longest_step", "above 0", self.longest_step)


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
            least = torch.special.entr(targets).sum(dim=1)
            embeddings, trace = self.guesser.approach(start, losses, least, self.options.longest_step)
        else:
            embeddings, trace = self.guesser.move(start, lambda embeddings: losses(embeddings).mean() * n)
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
