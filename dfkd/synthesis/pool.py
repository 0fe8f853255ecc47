"""Texts of a pool that 'dfkd synthesize' has made, with the teacher's predictions: no further queries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Optional

import torch

from dfkd import text_pool
from dfkd.batch import PseudoBatch
from dfkd.config import require
from dfkd.errors import ConfigError
from dfkd.pool import Pool
from dfkd.synthesis._epochs import Epochs
from dfkd.synthesis.base import Context, Facts, Silent


@dataclass(frozen=True)
class Options:
    """Which pool.

    Args:
        folder: that 'dfkd synthesize' made; pool=FOLDER is short for strategy=pool strategy.folder=FOLDER.
        limit: use the first so many samples alone; None: all.
    """

    injects: ClassVar[str] = "tokens"
    uses_real_text: ClassVar[bool] = False

    folder: str = ""
    limit: Optional[int] = None

    def __post_init__(self) -> None:
        require(self.limit is None or self.limit >= 1, "strategy.limit", "1 or more", self.limit)


class Stored(Silent):
    """Goes through a pool's samples in a random order, again and again, and hands on the stored predictions.

    Args:
        samples: at least ``count``.
        count: how many of them to use, from the first on.
        facts: the pool's, for the log.
        generator: CPU generator of the orders.
    """

    def __init__(self, samples: Pool, count: int, facts: dict[str, Any], generator: torch.Generator) -> None:
        self.samples, self.count, self.facts = samples, count, facts
        self.epochs = Epochs(count, generator)

    @property
    def synthesis_queries(self) -> int:
        """The teacher queries that the pool was made with, as far as its samples are used."""
        return round(self._used * self.facts["queries"]["train"])

    @property
    def synthesis_tokens(self) -> int:
        """The tokens that a language model drew for the pool, as far as its samples are used."""
        return round(self._used * self.facts.get("generated_tokens", 0))

    @property
    def synthesis_seconds(self) -> float:
        """The seconds that the making of the pool took, as far as its samples are used."""
        return self._used * float(self.facts.get("seconds", 0.0))

    @property
    def _used(self) -> float:
        """The share of the pool's samples that is used."""
        return float(self.count / self.facts["samples"])

    def synthesize(self, n: int) -> PseudoBatch:
        """The next ``n`` samples."""
        return self._batch(self.epochs.next(n))

    def hold_out(self, n: int) -> PseudoBatch | None:
        """``n`` samples that are never trained on, or fewer: at least three quarters of all stay."""
        taken = self.epochs.hold_out(n)
        return self._batch(taken) if taken else None

    def _batch(self, indices: list[int]) -> PseudoBatch:
        batch, logits = self.samples.take(indices)
        return replace(batch, teacher_logits=logits, strategy=None)

    def notes(self) -> dict[str, Any]:
        """What the pool was made with."""
        shown = ("strategy", "samples", "queries", "dropped", "notes")
        return {name: self.facts[name] for name in shown if self.facts.get(name)}

    def state_dict(self) -> dict[str, Any]:
        """The current order and position, what is held out, and the generator's state."""
        return self.epochs.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.epochs.load_state_dict(state)


def check(options: Options, facts: Facts) -> None:
    """Whether the pool is there and fits, before any work.

    Raises:
        ConfigError: there is no finished pool, it is another teacher's or task's, or it has fewer samples.
    """
    folder = Path(options.folder).expanduser()
    text_pool.check_fits(folder, facts.teacher_sha256, facts.labels, facts.max_length, facts.pair, facts.task)
    limit, count = options.limit, text_pool.finished_facts(folder)["samples"]
    if limit is not None and limit > count:
        fix = f"set strategy.limit={count} or less, or make more: dfkd synthesize ... samples={limit}"
        raise ConfigError(f"the pool '{folder}' has fewer samples", expected=limit, found=count, fix=fix)


def fingerprint(options: Options) -> str:
    """What the pool holds, for the run's config: with another content it is another run.

    Raises:
        ConfigError: there is no finished pool.
    """
    return text_pool.fingerprint(Path(options.folder).expanduser())


def build(options: Options, context: Context) -> Stored:
    """The pool, if its predictions are those of the context's teacher.

    Raises:
        ConfigError: as :func:`check`.
    """
    folder, teacher = Path(options.folder).expanduser(), context.teacher
    check(options, Facts(
        teacher.labels, {}, context.pair, teacher.max_length, teacher_sha256=context.teacher_sha256, task=context.task
    ))
    facts, samples = text_pool.finished_facts(folder), text_pool.samples_of(folder)
    samples.adopt(facts["files"])
    return Stored(samples, options.limit or facts["samples"], facts, context.generator)
