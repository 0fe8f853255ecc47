"""The kinds of claims: what each asks of the runs of one grid and student."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any, Optional

from dfkd.config import require
from dfkd.report._claim_scene import (
    FAILS, HOLDS, NOT_RUN, Answer, Column, Said, Scene, all_of, counted, missing, on_the_mean, points,
)
from dfkd.report.statistics import share
from dfkd.report.gap import CEILING, FLOOR, bounds, is_drawn_gap, percent


@dataclass(frozen=True)
class Claim:
    """What every claim has.

    Args:
        claim: in words.
        source: who says so, and where.
        kind: one of :data:`KINDS`.
        ours: whether it is a goal of this project rather than a published claim.
        grids: tables that it is held against; null: all.
        students: of those; null: all.
        data: data sets that it is about; null: all that the grid has.
        seeds: runs that each strategy must have at least on each data set.
    """

    claim: str = ""
    source: str = ""
    kind: str = ""
    ours: bool = False
    grids: Optional[list[str]] = None
    students: Optional[list[str]] = None
    data: Optional[list[str]] = None
    seeds: int = 1

    def __post_init__(self) -> None:
        require(bool(self.claim), "claim", "a sentence", self.claim)
        require(bool(self.source), "source", "who says so, and where", self.source)
        require(self.seeds >= 1, "seeds", "1 or more", self.seeds)

    @property
    def names(self) -> set[str]:
        """The strategies that it is about, but for those that they are compared with."""
        raise NotImplementedError

    @property
    def needs(self) -> set[str]:
        """All strategies without whose runs it cannot be told."""
        return self.names | {getattr(self, name) for name in ("over", "to", "than") if hasattr(self, name)}

    def answer(self, scene: Scene) -> Answer:
        """Whether it holds there."""
        raise NotImplementedError


@dataclass(frozen=True)
class Order(Claim):
    """Each strategy is at least as good as the next, on the mean over the data sets.

    Args:
        strategies: from best to worst; a list within the list: all of these stand in one place.
    """

    strategies: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        good = len(self.strategies) > 1 and all(_names(place) for place in self.strategies)
        require(good, "strategies", "two or more places, each a name or a list of names", self.strategies)

    @property
    def names(self) -> set[str]:
        """All of them."""
        return {name for place in self.strategies for name in _names(place)}

    def answer(self, scene: Scene) -> Answer:
        """Fails where one pair stands the other way round, holds where none does and all are run."""
        pairs = [
            pair for before, after in zip(self.strategies, self.strategies[1:])
            for pair in product(_names(before), _names(after))
        ]
        answers = [on_the_mean(scene, first, second, lambda mean, low: mean >= 0, mark=True) for first, second in pairs]
        numbers = dict.fromkeys(number for answer in answers for number in answer.numbers)
        lacking = missing(scene.lacking(*sorted(self.names)))
        shown = [number for number in numbers if not number.startswith(NOT_RUN)]
        seeds = min((answer.seeds for answer in answers if answer.seeds is not None), default=None)
        chance = all(answer.chance for answer in answers if answer.said == FAILS)
        return Answer(all_of([answer.said for answer in answers]), (*shown, *lacking), seeds, chance=chance)


@dataclass(frozen=True)
class About(Claim):
    """A claim about one strategy.

    Args:
        strategy: its name; a list: one of these, whichever does it.
    """

    strategy: Any = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(_names(self.strategy)), "strategy", "a name, or a list of names", self.strategy)

    @property
    def names(self) -> set[str]:
        """The strategy, or all that it may be."""
        return set(_names(self.strategy))

    def answer(self, scene: Scene) -> Answer:
        """The answer for the best strategy, on the mean, of those that do it, else that for all of them.

        A strategy of which there is no run at all decides nothing where another was run: that table does not plan it.
        """
        names = _names(self.strategy)
        answers = {name: self.answer_for(name, scene) for name in [n for n in names if scene.begun(n)] or names}
        doing = [name for name, answer in answers.items() if answer.said == HOLDS]
        if doing:
            best = max(doing, key=lambda name: scene.mean(name, scene.there(name)).mean)
            of_several = (f"the best of {len(answers)} strategies",) if len(answers) > 1 else ()
            return answers[best]._replace(numbers=(*answers[best].numbers, *of_several))
        said = NOT_RUN if any(answer.said == NOT_RUN for answer in answers.values()) else FAILS
        seeds = min((answer.seeds for answer in answers.values() if answer.seeds is not None), default=None)
        numbers = tuple(number for answer in answers.values() for number in answer.numbers)
        partly = said == NOT_RUN and any(answer.said == FAILS for answer in answers.values())
        return Answer(said, numbers, seeds, partly)

    def answer_for(self, name: str, scene: Scene) -> Answer:
        """Whether the claim holds for this strategy."""
        raise NotImplementedError


@dataclass(frozen=True)
class Beats(About):
    """A strategy is better than another by more than the 95 % interval, on some data sets.

    Args:
        over: the other.
        at_least: on how many data sets.
    """

    over: str = ""
    at_least: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.over), "over", "a strategy", self.over)
        require(self.at_least >= 1, "at_least", "1 or more", self.at_least)

    def answer_for(self, name: str, scene: Scene) -> Answer:
        """Counts the data sets where the interval lies above 0."""
        return counted(scene, name, self.over, self.at_least, lambda mean, low: low > 0)


@dataclass(frozen=True)
class MeanBeats(About):
    """A strategy is better than another by more than the 95 % interval, on the mean over the data sets.

    Args:
        over: the other.
    """

    over: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.over), "over", "a strategy", self.over)

    def answer_for(self, name: str, scene: Scene) -> Answer:
        """Whether the interval of the mean difference lies above 0."""
        return on_the_mean(scene, name, self.over, lambda mean, low: low > 0)


@dataclass(frozen=True)
class Level(About):
    """A strategy comes level with another, on some data sets.

    Args:
        to: the other.
        points: the means differ by no more than this (accuracy in %).
        at_least: on how many data sets.
        or_better: also where the strategy is better by more.
        above_floor: data sets where the floor itself comes level, or differs by no more than chance, do not count:
            there is nothing to tell there.
    """

    to: str = ""
    points: float = 1.0
    at_least: int = 1
    or_better: bool = False
    above_floor: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.to), "to", "a strategy", self.to)
        require(self.points >= 0, "points", "0 or more", self.points)
        require(self.at_least >= 1, "at_least", "1 or more", self.at_least)

    def answer_for(self, name: str, scene: Scene) -> Answer:
        """Counts the data sets where the means are close enough."""
        said = []
        if self.above_floor:
            flat = [column.data for column in scene.there(FLOOR, self.to) if self._is_flat(column, scene)]
            scene = Scene(scene.columns, [data for data in scene.data if data not in flat], scene.seeds)
            reason = f"nothing to tell, since {FLOOR} is level as well or its distance within chance"
            said = [f"{reason}: {', '.join(flat)}"] if flat else []
        answer = counted(scene, name, self.to, self.at_least, self._level)
        return answer._replace(numbers=(*answer.numbers, *said))

    def _is_flat(self, column: Column, scene: Scene) -> bool:
        """Whether the floor comes level too, or differs by no more than chance."""
        gap = is_drawn_gap(column.drawn[FLOOR], column.drawn[self.to])
        return not gap or self._level(*scene.gain(FLOOR, self.to, column))

    def _level(self, mean: float, low: float) -> bool:
        """Whether a difference of means is small enough."""
        most = self.points / 100 + 1e-9  # a difference of exactly so many points counts
        return mean >= -most and (self.or_better or mean <= most)


@dataclass(frozen=True)
class GapClosed(About):
    """A strategy closes some of the gap between floor and ceiling, taken of their means over the data sets.

    A mean of the data sets' own shares would be ruled by those that hardly have a gap. Where floor and ceiling differ
    by no more than their interval, another student must tell.

    Args:
        share: this much of it, or more; 1: all.
    """

    share: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.share, "share", "above 0", self.share)

    @property
    def needs(self) -> set[str]:
        """Floor and ceiling as well."""
        return self.names | {FLOOR, CEILING}

    def answer_for(self, name: str, scene: Scene) -> Answer:
        """Whether the mean's share is enough; not run where there is no gap on the mean."""
        lacking, columns = scene.lacking(name, FLOOR, CEILING), scene.there(name, FLOOR, CEILING)
        if not columns:
            return Answer(NOT_RUN, missing(lacking))
        own, floor, ceiling = (scene.mean(one, columns) for one in (name, FLOOR, CEILING))
        said = f"{name} {points(own.mean)}, {FLOOR} {points(floor.mean)}, {CEILING} {points(ceiling.mean)}"
        over = f"(mean of {scene.seeds_of((name, FLOOR, CEILING), columns)})"
        if not is_drawn_gap(floor, ceiling):
            no_gap = f"{said}: no gap beyond its interval, another student must tell {over}"
            return Answer(NOT_RUN, (no_gap, *missing(lacking)))
        closed = share(own, floor, ceiling)
        verdict = NOT_RUN if lacking else HOLDS if closed.mean >= self.share else FAILS
        shown = f"{said}: {percent(closed.mean)} % of the gap {bounds(closed)} {over}"
        seeds = scene.fewest((name, FLOOR, CEILING), columns)
        return Answer(verdict, (shown, *missing(lacking)), seeds)


@dataclass(frozen=True)
class Cheaper(About):
    """A strategy asks the teacher for no more than a share of what another asks for, on each data set.

    Args:
        than: the other.
        share: of its queries.
    """

    than: str = ""
    share: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.than), "than", "a strategy", self.than)
        require(self.share > 0, "share", "above 0", self.share)

    def answer_for(self, name: str, scene: Scene) -> Answer:
        """Compares mean teacher queries."""
        lacking = scene.lacking(name, self.than)
        answers: list[Said] = []
        numbers: list[str] = []
        for column in scene.there(name, self.than):
            own, other = column.queries(name), column.queries(self.than)
            answers.append(HOLDS if own <= self.share * other else FAILS)
            numbers.append(f"{column.data}: {own:,.0f} queries of {name}, {other:,.0f} of {self.than}")
        said = all_of([*answers, *([NOT_RUN] if lacking or not answers else [])])
        return Answer(said, (*numbers, *missing(lacking)))


KINDS: dict[str, type[Claim]] = {
    "order": Order, "beats": Beats, "mean_beats": MeanBeats, "level": Level, "gap_closed": GapClosed,
    "cheaper": Cheaper,
}


def _names(place: object) -> list[str]:
    """A name or a list of names as a list; empty for anything else."""
    names = place if isinstance(place, list) else [place]
    return [str(name) for name in names] if all(isinstance(name, str) and name for name in names) else []
