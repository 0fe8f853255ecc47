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

    def synthesize(self, n: int) -> PseudoBatch:
        """The next ``n`` texts."""
        return PseudoBatch(texts=tuple(self._next() for _ in range(n)))

    def _next(self) -> Text:
        if self.position == len(self.order):
            self.order = torch.randperm(len(self.texts), generator=self.generator).tolist()
            self.position = 0
        self.position += 1
        return self.texts[self.order[self.position - 1]]

    def state_dict(self) -> dict[str, Any]:
        """The current epoch's order and position, and the generator's state."""
        order = torch.tensor(self.order, dtype=torch.long)
        return {"generator": self.generator.get_state(), "order": order, "position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.generator.set_state(state["generator"])
        self.order = state["order"].tolist()
        self.position = state["position"]


def build(options: Options, context: Context) -> RealText:
    """The training texts, through the one door that is open to this strategy."""
    return RealText(context.real_text(), context.generator)
