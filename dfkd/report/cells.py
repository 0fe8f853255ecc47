"""The cells of a comparison: what the runs of one strategy on one data set with one student say, and the tests.

Shapes: S seeds (runs), N test items.
"""

from __future__ import annotations

import statistics
import zlib
from collections import defaultdict
from dataclasses import dataclass
from typing import Callable, Mapping, Sequence

from dfkd.errors import ConfigError
from dfkd.report.gap import CEILING, FLOOR, shares
from dfkd.report.results import Result, correct_items, spent
from dfkd.report.statistics import Difference, Drawn, Interval, difference, draw, holm, interval

SIGNIFICANT = 0.05
TESTED, CROWNED = 2, 3  # seeds on each side: of a test against the floor; of what is called best


@dataclass(frozen=True)
class Entry:
    """One strategy on one data set with one student.

    Args:
        runs: number of seeds.
        score: mean accuracy with its 95 % interval.
        agreement: mean agreement with the teacher.
        gap: share of the gap between floor and ceiling that is closed, with its 95 % interval; ``None`` without either,
            or without a gap (:mod:`dfkd.report.gap`).
        difference: from the floor, on the same items; ``None`` for the floor itself.
        p: of the difference, corrected (Holm) for the strategies compared on this data set and student; ``None`` where
            one side has a single seed: of how seeds vary nothing is known then.
        queries: mean teacher queries, synthesis, training and held-out samples together.
        seconds: mean seconds of synthesis and training, the making of a pool included.
        drawn: how the accuracy varies, over the same items as those of the others on this data set.
        deviation: standard deviation of the accuracy over seeds; ``None`` with one seed.
        tokens: mean tokens that a language model wrote; ``None`` where a run does not tell.
        seconds_whole: whether every run tells how long the making of its pool took, if it used one.
        data_free: whether no run saw a text of the task.
        lead: of the data-free strategy with the highest mean, the largest p value (Holm) of its paired tests against
            each other data-free one; ``None`` for all others, and where there is nothing to lead.
        best: whether it is significantly better than every other data-free strategy, each with three seeds or more.
        short: the fewest student steps of a run that ended before all were done, and how many were asked for;
            ``None``: none did.
    """

    runs: int
    score: Interval
    agreement: float
    gap: Interval | None
    difference: Difference | None
    p: float | None
    queries: float
    seconds: float
    drawn: Drawn
    deviation: float | None = None
    tokens: float | None = None
    seconds_whole: bool = True
    data_free: bool = True
    lead: float | None = None
    best: bool = False
    short: tuple[int, int] | None = None


Entries = dict[tuple[str, str, str], Entry]
Runs = dict[str, list[Result]]
"""Strategy -> its runs."""


def entries(results: Sequence[Result]) -> Entries:
    """(student, data set, strategy) -> what its runs say.

    Args:
        results: runs of one teacher, budget and test for each student and data set, with test data.

    Raises:
        ConfigError: runs that would stand in one cell differ in teacher, budget or test, or have no test data.
    """
    made: Entries = {}
    for (student, data), by_strategy in grouped(results).items():
        made.update({(student, data, name): entry for name, entry in _column(data, by_strategy).items()})
    return made


def grouped(results: Sequence[Result]) -> dict[tuple[str, str], Runs]:
    """(student, data set) -> strategy -> its runs.

    Raises:
        ConfigError: runs of one student and data set differ in teacher, budget or test; two runs of a strategy have one
            seed, so that they are no two draws of anything.
    """
    groups: dict[tuple[str, str], Runs] = defaultdict(lambda: defaultdict(list))
    for result in results:
        groups[result.setting.student, result.setting.data][result.strategy].append(result)
    for (student, data), by_strategy in groups.items():
        settings = {tuple(run.setting)[:-1] for runs in by_strategy.values() for run in runs}
        if len(settings) > 1:
            raise ConfigError(
                f"{data}, {student}: runs of several settings cannot stand in one table",
                expected="one teacher, budget and set of test items", found=sorted(settings),
                fix="remove the runs of the older setting, or give the table's runs a folder of their own: runs=FOLDER",
            )
        for name, runs in by_strategy.items():
            _require_own_seeds(f"{data}, {student}, {name}", runs)
    return groups


def _require_own_seeds(cell: str, runs: Sequence[Result]) -> None:
    """Refuse a run that stands there twice: it would count as a seed more, and as one that agrees with the other."""
    first: dict[int, Result] = {}
    for run in runs:
        other = first.setdefault(run.seed, run)
        if other is not run:
            fix = "give one of the two folders alone"
            raise ConfigError(f"{cell}: two runs of seed {run.seed}", found=f"{other.folder} and {run.folder}", fix=fix)


def drawn_of(data: str, by_strategy: Runs) -> dict[str, Drawn]:
    """All runs on a data set: strategy -> its accuracy, and how it varies.

    The seed of the resampling comes from the data set's name, so that data sets vary independently.
    """
    correct = {name: correct_items(runs) for name, runs in by_strategy.items()}
    return draw(correct, seed=zlib.crc32(data.encode()))


def _column(data: str, by_strategy: Runs) -> dict[str, Entry]:
    """The entries of one student on one data set."""
    drawn = drawn_of(data, by_strategy)
    against_floor = {
        name: difference(one, drawn[FLOOR]) for name, one in drawn.items() if name != FLOOR and FLOOR in drawn
    }
    tested = [name for name in against_floor if min(len(by_strategy[one]) for one in (name, FLOOR)) >= TESTED]
    corrected = dict(zip(tested, holm([against_floor[name].p for name in tested])))
    lead, p, best = _leader(by_strategy, drawn)
    closed, made = shares(drawn), {}
    for name, runs in by_strategy.items():
        scores = [float(row.mean()) for row in correct_items(runs)]
        made[name] = Entry(
            runs=len(runs), score=interval(drawn[name]),
            agreement=statistics.fmean(run.content["student"]["agreement"] for run in runs),
            gap=closed.get(name),
            difference=against_floor.get(name), p=corrected.get(name),
            queries=statistics.fmean(spent(run.content["queries"]) for run in runs),
            seconds=statistics.fmean(run.seconds for run in runs), drawn=drawn[name],
            deviation=statistics.stdev(scores) if len(scores) > 1 else None,
            tokens=_mean_if_known(runs, lambda run: run.tokens),
            seconds_whole=all(run.seconds_whole for run in runs), data_free=data_free(name, runs),
            lead=p if name == lead else None, best=best and name == lead, short=_short(runs),
        )
    return made


def _short(runs: Sequence[Result]) -> tuple[int, int] | None:
    """(steps done, steps asked for) of the run that did the fewest, where a budget ended it before."""
    asked = [(int(run.content["steps"]), run.content["config"].get("train", {}).get("steps")) for run in runs]
    return min(((done, steps) for done, steps in asked if steps is not None and done < steps), default=None)


def data_free(name: str, runs: Sequence[Result]) -> bool:
    """Whether no run of the strategy saw a text of the task."""
    return name != CEILING and all(run.data_free for run in runs)


def _leader(by_strategy: Runs, drawn: Mapping[str, Drawn]) -> tuple[str | None, float | None, bool]:
    """The data-free strategy with the highest mean, its largest p value against the others, and whether it is best.

    Of one seed nothing is known of the spread between seeds, and of two next to nothing: no strategy is called best.
    """
    free = {name: runs for name, runs in by_strategy.items() if data_free(name, runs)}
    if len(free) < 2:
        return None, None, False
    lead = max(free, key=lambda name: drawn[name].mean)
    if any(len(runs) < TESTED for runs in free.values()):
        return None, None, False
    found = holm([difference(drawn[lead], drawn[name]).p for name in free if name != lead])
    return lead, max(found), max(found) < SIGNIFICANT and all(len(runs) >= CROWNED for runs in free.values())


def _mean_if_known(runs: Sequence[Result], of: Callable[[Result], float | None]) -> float | None:
    values = [of(run) for run in runs]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None
