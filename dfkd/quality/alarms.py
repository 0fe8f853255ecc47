"""Alarms: what goes wrong with pseudo samples, told while it can still be changed, each with a remedy."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict, deque
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

from dfkd.quality.rules import RULES, WINDOW, Maker, Rule

Record = Mapping[str, Any]
FEW = 4  # fresh batches: after a few the alarm rises only where a fact is clearly wrong
SINCE_THE_BEGINNING = {  # a fact -> of what is logged (the first that is there) it is a multiple of the first mean
    "mask_growth": ("mask_loss_last", "mask"),
    "policy_entropy_kept": ("policy_entropy",),
    "prompt_distinct_kept": ("prompt_distinct",),
}
SHRINKING = ("teacher_minus_student", "kl")  # rewards that are near 0 where the student knows all


@dataclass(frozen=True)
class Alarm:
    """An alarm that rose: at which step, which fact, its mean, what to do, and whether it is one to stop at.

    And what the strategy did about it; ``None``: nothing.
    """

    step: int
    name: str
    fact: str
    value: float
    says: str
    remedy: str
    stops: bool = True
    repaired: str | None = None

    def __str__(self) -> str:
        done = f"repaired: {self.repaired}" if self.repaired else f"try: {self.remedy}"
        return f"step {self.step}: {self.says} ({self.fact} {self.value:.3g}); {done}"


class Alarms:
    """Watches the log of a run; each alarm rises once, and again only after all was well in between.

    Args:
        classes: C, the number of classes.
        history: records of steps before the first one seen, as after a kill, so that nothing rises twice.
        makers: who makes the samples, see :func:`dfkd.quality.rules.makers_of`: remedies name only what it has;
            empty: unknown, all remedies are named.
    """

    def __init__(
        self, classes: int, history: Callable[[], list[dict[str, Any]]] = list,
        makers: Mapping[str | None, Maker] | None = None,
    ) -> None:
        self.classes, self.history, self.makers = classes, history, makers or {}
        # of each part of a mixture for itself: what one does says nothing of another
        self.recent: dict[tuple[str | None, str, str], deque[Any]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self.firsts: dict[tuple[str | None, str], list[float]] = defaultdict(list)
        self.raised: set[tuple[str | None, str]] = set()
        self.started = False

    def see(self, record: Record) -> list[Alarm]:
        """Look at the record of a step; replayed batches are passed over.

        Returns:
            The alarms that rise with this record.
        """
        if not self.started:
            self.started = True
            for earlier in self.history():
                if earlier["step"] < record["step"]:
                    self._look(earlier)
        return self._look(record)

    def _look(self, record: Record) -> list[Alarm]:
        if not record.get("fresh", True):
            return []
        maker = self.makers.get(record.get("strategy"), self.makers.get(None))
        facts = self._facts(record, maker)
        risen = [self._check(rule, facts, maker) for rule in RULES]
        return [alarm for alarm in risen if alarm is not None]

    def _facts(self, record: Record, maker: Maker | None) -> dict[str, Any]:
        """What the rules watch of a record: as it was logged, and what follows from it."""
        facts = {**record, "teacher_excess": record.get("teacher_confidence", 1.0) - 1 / self.classes}
        if "input_loss_first" in facts and "input_loss_last" in facts:
            facts["input_loss_rise"] = facts["input_loss_last"] - facts["input_loss_first"]
        # a prompter, and texts, have rules of their own for the classes
        kind = "prompted_" if "policy_entropy" in facts else "text_" if "distinct_words" in facts else ""
        for name, logged in (("class_entropy", "class_entropy"), ("class_histogram", "classes")):
            if logged in facts:
                facts[kind + name] = facts.pop(logged)
        if maker is not None and maker.settings.get("strategy.reward", SHRINKING[0]) not in SHRINKING:
            facts.pop("reward_base", None)
        return facts | self._since_the_beginning(record, _part(maker))

    def _since_the_beginning(self, record: Record, part: str | None) -> dict[str, float]:
        """L_MASK, and the prompter's entropy and variety, as multiples of their means over the first few batches."""
        made = {}
        for fact, logged in SINCE_THE_BEGINNING.items():
            found = next((record[name] for name in logged if record.get(name) is not None), None)
            if found is None:
                continue
            firsts = self.firsts[part, fact]
            if len(firsts) < FEW:
                firsts.append(float(found))
            if (first := statistics.fmean(firsts)) > 0:
                made[fact] = float(found) / first
        return made

    def _check(self, rule: Rule, facts: Record, maker: Maker | None) -> Alarm | None:
        part = _part(maker)
        seen = {fact: self._note(part, rule, fact, facts[fact]) for fact in rule.facts if fact in facts}
        if seen and not any(rule.passed(mean, rule.limit) for mean, _ in seen.values()):
            self.raised.discard((part, rule.name))
        wrong = [(fact, mean) for fact, (mean, limit) in seen.items() if rule.passed(mean, limit)]
        if not wrong or (part, rule.name) in self.raised:
            return None
        self.raised.add((part, rule.name))
        return Alarm(int(facts["step"]), rule.name, *wrong[0], rule.says, rule.remedy(maker), rule.stops)

    def _note(self, part: str | None, rule: Rule, fact: str, value: Any) -> tuple[float, float | None]:
        """A fact's mean over the window with its new value, and the limit that goes for as many batches."""
        seen = self.recent[part, rule.name, fact]
        seen.append(value)
        values = list(seen)[-rule.window :]
        full = len(values) == rule.window
        return _mean(values), rule.limit if full else rule.clear if len(values) >= FEW else None


def _part(maker: Maker | None) -> str | None:
    return None if maker is None else maker.part


def _mean(values: Sequence[Any]) -> float:
    """The mean of numbers; of histograms (C,) the entropy of their sum, as a share of its maximum log C."""
    if not isinstance(values[0], (list, tuple)):
        return statistics.fmean(map(float, values))
    counts = [sum(counts) for counts in zip(*values)]
    total = sum(counts)
    return -sum(n / total * math.log(n / total) for n in counts if n) / math.log(len(counts))
