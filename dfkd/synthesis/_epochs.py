"""Samples that are there already, gone through in a random order, epoch after epoch."""

from __future__ import annotations

from typing import Any

import torch


class Epochs:
    """Indices 0 to ``count - 1`` in a new random order each epoch, but those that were held out.

    Args:
        count: number of samples, at least one.
        generator: CPU generator of the orders.
    """

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count, self.generator = count, generator
        self.order: list[int] = []
        self.position = 0
        self.held_out: list[int] = []

    def next(self, n: int) -> list[int]:
        """The next ``n`` indices; none comes again before all others have come."""
        return [self._next() for _ in range(n)]

    def hold_out(self, n: int) -> list[int]:
        """``n`` indices that will never come, or fewer: at least three quarters of all stay."""
        if not self.held_out:
            self._shuffle()
        taken = self.order[: max(0, min(n, self.count // 4 - len(self.held_out)))]
        self.held_out, self.order = self.held_out + taken, self.order[len(taken) :]
        return taken

    def _shuffle(self) -> None:
        out = set(self.held_out)
        order = torch.randperm(self.count, generator=self.generator).tolist()
        self.order, self.position = [index for index in order if index not in out], 0

    def _next(self) -> int:
        if self.position == len(self.order):
            self._shuffle()
        self.position += 1
        return self.order[self.position - 1]

    def state_dict(self) -> dict[str, Any]:
        """The current epoch's order and position, what is held out, and the generator's state."""
        order, held_out = (torch.tensor(indices, dtype=torch.long) for indices in (self.order, self.held_out))
        return {
            "generator": self.generator.get_state(), "order": order, "position": self.position, "held_out": held_out
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.generator.set_state(state["generator"])
        self.order, self.held_out = state["order"].tolist(), state["held_out"].tolist()
        self.position = state["position"]
