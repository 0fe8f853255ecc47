"""What a training may cost (student steps, teacher queries, generated tokens), what is spent, and what follows."""

from __future__ import annotations

import math
from typing import Any

from dfkd.config import TrainConfig
from dfkd.errors import ConfigError
from dfkd.models.teacher import Teacher
from dfkd.synthesis.base import Synthesizer, pool_cost


class Budget:
    """What a training has cost, against what it may.

    Args:
        config: the budgets: ``steps``, ``teacher_queries``, ``generated_tokens``.
        teacher: counts its queries.
        synthesizer: counts the tokens that its language model draws, if it has one.
    """

    def __init__(self, config: TrainConfig, teacher: Teacher, synthesizer: Synthesizer) -> None:
        self.config, self.teacher, self.synthesizer = config, teacher, synthesizer
        self.tokens_before = self.queries_before = 0  # drawn and asked before the first step

    def begin(self, asked_first: int = 0) -> None:
        """Look at what was spent before the first step; it is no part of the training.

        Args:
            asked_first: teacher queries of what the strategy does once, before the samples that are set aside.

        Raises:
            ConfigError: all of a budget was.
        """
        self._refuse_pool()
        config = self.config
        if self.queries_spent():
            pool = self.queries - self.asked
            spent_by = [f"the making of the pool ({pool})"] if pool else []
            spent_by += [f"what the strategy asks first ({asked_first})"] if asked_first else []
            spent_by += ["the samples set aside"] if self.asked > asked_first else []
            fewer = ", or lower train.heldout" if self.asked > asked_first else ""
            raise _spent_early("teacher_queries", " and ".join(spent_by), self.queries, config.teacher_queries, fewer)
        if self._tokens_spent():
            fewer, drawn = ", or lower train.heldout", self.tokens_drawn
            raise _spent_early("generated_tokens", "the samples set aside", drawn, config.generated_tokens, fewer)
        self.tokens_before, self.queries_before = self.tokens_drawn, self.queries

    def _refuse_pool(self) -> None:
        """Where the making of the pool alone cost more than a budget, the run is over it before it begins."""
        for budget, made in (("teacher_queries", self.queries - self.asked), ("generated_tokens", self._pool_tokens)):
            given = getattr(self.config, budget)
            if given is not None and made > given:
                fewer = ", or use fewer of its samples with strategy.limit"
                raise _spent_early(budget, "the making of the pool", made - 1, given, fewer)

    @property
    def asked(self) -> int:
        """Sequences sent through the teacher since the run began."""
        return self.teacher.queries["train"] + self.teacher.queries["heldout"]

    @property
    def queries(self) -> int:
        """Sequences sent through the teacher for this student, those of the pool that it learns from included."""
        return pool_cost(self.synthesizer).queries + self.asked

    @property
    def tokens_drawn(self) -> int:
        """Tokens that a language model drew for this student, those of the pool that it learns from included."""
        return self._pool_tokens + self._generated

    @property
    def _pool_tokens(self) -> int:
        return pool_cost(self.synthesizer).tokens

    @property
    def _generated(self) -> int:
        return getattr(self.synthesizer, "generated_tokens", None) or 0

    def queries_spent(self) -> bool:
        """Whether no more samples may be sent through the teacher; who sends none spends none."""
        budget = self.config.teacher_queries
        return budget is not None and self.asked > 0 and self.queries >= budget

    def _tokens_spent(self) -> bool:
        budget = self.config.generated_tokens
        return budget is not None and self._generated > 0 and self.tokens_drawn >= budget

    def keeps_samples(self) -> bool:
        """Whether fresh samples are kept: for some of the steps, or for when tokens are to be saved."""
        writes = getattr(self.synthesizer, "generated_tokens", None) is not None
        return self.config.replay_share > 0 or (writes and self.config.generated_tokens is not None)

    def replays(self, step: int) -> bool:
        """Whether a step looks at earlier samples: it is one of the share that does, or tokens are to be saved."""
        return draws_replay(step, self.config.replay_share) or self._saves_tokens(step)

    def _saves_tokens(self, step: int) -> bool:
        """Whether more of the budget of tokens is spent than of the part of the training over which it is spread.

        What learns from the student learns from all of that part then, and not from its first steps alone.
        """
        budget, before = self.config.generated_tokens, self.tokens_before
        if budget is None or not self._generated:
            return False
        spent = (self.tokens_drawn - before) / max(budget - before, 1)
        return spent > min(1.0, self._done(step) / self.config.generated_until)

    def learning_rate(self, step: int) -> float:
        """That of a step: it follows the budget that is spent first."""
        return self.config.learning_rate * rate_factor(self._done(step), self.config.warmup)

    def _done(self, step: int) -> float:
        return progress(step, self.config, self.queries, self.queries_before)

    def state_dict(self) -> dict[str, Any]:
        """What was spent before the first step; the rest is counted by teacher and strategy."""
        return {"tokens_before": self.tokens_before, "queries_before": self.queries_before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.tokens_before, self.queries_before = state["tokens_before"], state["queries_before"]


def _spent_early(budget: str, on: str, spent: int, given: int | None, fewer: str) -> ConfigError:
    unit = budget.split("_")[1]
    return ConfigError(
        f"train.{budget} is spent before the first step, by {on}",
        expected=f"more than {spent} {unit}", found=given, fix=f"raise train.{budget}{fewer}",
    )


def draws_replay(step: int, share: float) -> bool:
    """Whether ``step`` is one of those that draw from the pool: ``share`` of all, evenly spread."""
    return math.floor((step + 1) * share) > math.floor(step * share)


def progress(step: int, config: TrainConfig, queries: int, before: int = 0) -> float:
    """The share of the budget that is spent, of steps or of teacher queries, whichever is further.

    Queries ``before`` the first step are no part of the training: the rate begins at its beginning.
    """
    spent = step / config.steps
    if config.teacher_queries is not None:
        spent = max(spent, (queries - before) / max(config.teacher_queries - before, 1))
    return min(spent, 1.0)


def rate_factor(done: float, warmup: float) -> float:
    """Linear warm-up to 1 over the share ``warmup``, then linear decay to 0; never quite 0 at the start."""
    if done < warmup:
        return max(done / warmup, 1e-2)
    return (1.0 - done) / (1.0 - warmup)
