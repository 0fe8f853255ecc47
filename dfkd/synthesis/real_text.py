"""The task's own training texts, without their labels: the ceiling; not data-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Sequence

import torch

from dfkd.batch import PseudoBatch, Text
from dfkd.errors import ConfigError
from dfkd.synthesis.base import Context, Silent


@dataclass(frozen=True)
class Options:
    """Real texts, in a new random order each epoch."""

    injects: ClassVar[str] = "tokens"
    uses_real_text: ClassVar[bool] = True


class RealText(Silent):
    """Goes through the texts in a random order, epoch after epoch.

    Args:
        texts: at least one.
        generator: CPU generator of the orders.
    """

    def __init__(self, texts: Sequence[Text], generator: torch.Generator) -> None:
        if not texts:
            raise ConfigError("strategy real_text has no texts", expected="a training split with rows")
        self.texts = texts
        self.generator = generator
        self.order: list[int] = []
        self.position = 0
        self.held_out: list[int] = []

    def synthesize(self, n: int) -> PseudoBatch:
        """The next ``n`` texts."""
        return PseudoBatch(texts=tuple(self._next() for _ in range(n)))

    def hold_out(self, n: int) -> PseudoBatch | None:
        """``n`` texts that are never trained on, or fewer: at least three quarters of all texts stay."""
        if not self.held_out:
            self._shuffle()
        taken = self.order[: min(n, len(self.texts) // 4 - len(self.held_out))]
        self.held_out, self.order = self.held_out + taken, self.order[len(taken) :]
        return PseudoBatch(texts=tuple(self.texts[index] for index in taken)) if taken else None

    def _shuffle(self) -> None:
        out = set(self.held_out)
        order = torch.randperm(len(self.texts), generator=self.generator).tolist()
        self.order, self.position = [index for index in order if index not in out], 0

    def _next(self) -> Text:
        if self.position == len(self.order):
            self._shuffle()
        self.position += 1
        return self.texts[self.order[self.position - 1]]

    def state_dict(self) -> dict[str, Any]:
        """The current epoch's order and position, and the generator's state."""
        order, held_out = (torch.tensor(indices, dtype=torch.long) for indices in (self.order, self.held_out))
        return {
            "generator": self.generator.get_state(), "order": order, "position": self.position, "held_out": held_out
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.generator.set_state(state["generator"])
        self.order, self.held_out = state["order"].tolist(), state["held_out"].tolist()
        self.position = state["position"]


def build(options: Options, context: Context) -> RealText:
    """The training texts, through the one door that is open to this strategy."""
    return RealText(context.real_text(), context.generator)
