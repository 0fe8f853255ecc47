"""The task's own training texts, without their labels: the ceiling; not data-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Sequence

import torch

from dfkd.batch import PseudoBatch, Text
from dfkd.errors import ConfigError
from dfkd.synthesis._epochs import Epochs
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
        self.epochs = Epochs(len(texts), generator)

    def synthesize(self, n: int) -> PseudoBatch:
        """The next ``n`` texts."""
        return PseudoBatch(texts=tuple(self.texts[index] for index in self.epochs.next(n)))

    def hold_out(self, n: int) -> PseudoBatch | None:
        """``n`` texts that are never trained on, or fewer: at least three quarters of all texts stay."""
        taken = self.epochs.hold_out(n)
        return PseudoBatch(texts=tuple(self.texts[index] for index in taken)) if taken else None

    def state_dict(self) -> dict[str, Any]:
        """The current epoch's order and position, and the generator's state."""
        return self.epochs.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.epochs.load_state_dict(state)


def build(options: Options, context: Context) -> RealText:
    """The training texts, through the one door that is open to this strategy."""
    return RealText(context.real_text(), context.generator)
