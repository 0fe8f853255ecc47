"""The runs of one grid and student that claims are held against, and the comparisons that claims are made of."""

from __future__ import annotations

from functools import cached_property
from typing import Callable, Literal, Mapping, NamedTuple, Sequence

from dfkd.report.cells import Runs, drawn_of
from dfkd.report.results import spent
from dfkd.report.statistics import Drawn, average, difference

Said = Literal["holds", "fails", "not run"]
HOLDS: Said = "holds"
FAILS: Said = "fails"
NOT_RUN: Said = "not run"
WANTED = 3  # seeds; on fewer a claim holds or fails so far

Judge = Callable[[float, float], bool]
"""(a difference of means, the lower bound of its interval) -> whether that will do."""


class Answer(NamedTuple):
    """What the runs say of a claim.

    Args:
        said: whether it holds.
        numbers: behind that, a line each.
        seeds: the fewest that a strategy has on a data set that decides; ``None``: seeds do not matter.
        partly: some of the strategies that it may be were run, and do not do it; others are still to be run.
        chance: what fails does so by no more than chance.
    """

    said: Said
    numbers: tuple[str, ...]
    seeds: int | None = None
    partly: bool = False
    chance: bool = False


class Column:
    """The runs of one data set, by strategy, and how their accuracies vary.

    Args:
        data: the data set's name.
        runs: strategy -> its runs.
    """

    def __init__(self, data: str, runs: Runs) -> None:
        self.data, self.runs = data, runs

    @cached_property
    def drawn(self) -> dict[str, Drawn]:
        """Strategy -> its accuracy, and how it varies."""
        return drawn_of(self.data, self.runs)

    def queries(self, strategy: str) -> float:
        """Mean teacher queries of a run."""
        return sum(spent(run.content["queries"]) for run in self.runs[strategy]) / len(self.runs[strategy])


class Scene:
    """The runs of one grid and student that a claim is held against.

    Args:
        columns: data set -> its runs.
        data: the data sets that the claim is about; ``None``: all that are there.
        seeds: with fewer runs than this, a strategy counts as not run.
    """

    def __init__(self, columns: Mapping[str, Column], data: Sequence[str] | None, seeds: int) -> None:
        self.columns, self.seeds = columns, seeds
        self.data = list(columns) if data is None else list(data)

    def lacking(self, *strategies: str) -> dict[str, str]:
        """Data set -> what is not run there of the strategies; only where something is not."""
        found = {}
        for data in self.data:
            few = [(name, count) for name in strategies if (count := self._runs(data, name)) < self.seeds]
            if few:
                found[data] = ", ".join(f"'{name}' {count} of {self.seeds} runs" for name, count in few)
        return found

    def runs_missing(self, *strategies: str) -> int:
        """How many runs of the strategies would have to be made."""
        return sum(max(0, self.seeds - self._runs(data, name)) for data in self.data for name in set(strategies))

    def _runs(self, data: str, strategy: str) -> int:
        """How many runs of a strategy there are on a data set."""
        return len(self.columns[data].runs.get(strategy, ())) if data in self.columns else 0

    def begun(self, strategy: str) -> bool:
        """Whether there is a run of a strategy on any of the data sets."""
        return any(self._runs(data, strategy) for data in self.data)

    def there(self, *strategies: str) -> list[Column]:
        """The data sets where all of the strategies are run."""
        lacking = self.lacking(*strategies)
        return [self.columns[data] for data in self.data if data not in lacking]

    def mean(self, strategy: str, columns: Sequence[Column]) -> Drawn:
        """A strategy's mean over data sets."""
        return average([column.drawn[strategy] for column in columns])

    def gain(self, first: str, second: str, column: Column) -> tuple[float, float]:
        """By how much one strategy is better than another on a data set, and the lower bound of the interval."""
        found = difference(column.drawn[first], column.drawn[second])
        return found.mean, found.low

    def fewest(self, strategies: Sequence[str], columns: Sequence[Column]) -> int | None:
        """The fewest seeds of one of the strategies on one of the data sets; ``None`` without any."""
        return min((len(column.runs[name]) for column in columns for name in strategies), default=None)

    def seeds_of(self, strategies: Sequence[str], columns: Sequence[Column]) -> str:
        """Over which data sets, with how many seeds, for people."""
        counts = [len(column.runs[name]) for column in columns for name in strategies]
        few, many = min(counts), max(counts)
        shown = f"{few}" if few == many else f"{few} to {many}"
        return f"{', '.join(column.data for column in columns)}; n = {shown}"


def all_of(answers: Sequence[Said]) -> Said:
    """One that fails decides; else one that is not known."""
    return FAILS if FAILS in answers else NOT_RUN if NOT_RUN in answers else HOLDS


def counted(scene: Scene, first: str, second: str, at_least: int, good: Judge) -> Answer:
    """Whether ``good(mean difference, lower bound)`` is true on so many data sets; those not run may go either way."""
    def seeds(columns: Sequence[Column]) -> int | None:
        return scene.fewest((first, second), columns)

    lacking, there = scene.lacking(first, second), scene.there(first, second)
    doing: list[Column] = []
    numbers: list[str] = []
    for column in there:
        doing += [column] if good(*scene.gain(first, second, column)) else []
        numbers.append(_compared(first, second, [column], scene))
    count = len(doing)
    numbers.append(f"{first}: {count} of {len(scene.data)} data sets, {at_least} wanted")
    open_yet = count + len(lacking) >= at_least or len(scene.data) < at_least
    said = HOLDS if count >= at_least else NOT_RUN if open_yet else FAILS
    most = sorted(doing, key=lambda column: -(seeds([column]) or 0))  # as many as are wanted decide
    return Answer(said, (*numbers, *missing(lacking)), seeds(most[:at_least] if said == HOLDS else there))


def on_the_mean(scene: Scene, first: str, second: str, good: Judge, mark: bool = False) -> Answer:
    """Whether ``good(mean difference, lower bound)`` is true of the means over all data sets.

    Args:
        scene: the runs.
        first: a strategy.
        second: another.
        good: the judge.
        mark: say so where the interval has 0 in it: where ``good`` does not ask for more, chance may decide.
    """
    lacking, columns = scene.lacking(first, second), scene.there(first, second)
    if not columns:
        return Answer(NOT_RUN, missing(lacking))
    found = difference(scene.mean(first, columns), scene.mean(second, columns))
    said = NOT_RUN if lacking else HOLDS if good(found.mean, found.low) else FAILS
    seeds = scene.fewest((first, second), columns)
    chance = mark and found.low <= 0 <= found.high
    shown = _compared(first, second, columns, scene) + (", within chance" if chance else "")
    return Answer(said, (shown, *missing(lacking)), seeds, chance=chance)


def _compared(first: str, second: str, columns: Sequence[Column], scene: Scene) -> str:
    """Two means, their difference with its interval, and over what, for people."""
    one, other = scene.mean(first, columns), scene.mean(second, columns)
    mean, low, high, _ = difference(one, other)
    bounds = f"{100 * mean:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    over = scene.seeds_of((first, second), columns)
    return f"{first} {points(one.mean)} - {second} {points(other.mean)} = {bounds} ({over})"


def points(mean: float) -> str:
    """An accuracy in %."""
    return f"{100 * mean:.1f}"


def missing(lacking: Mapping[str, str]) -> tuple[str, ...]:
    """A line on what is not run; none where all is."""
    return (f"not run: {'; '.join(f'{data}: {what}' for data, what in lacking.items())}",) if lacking else ()
