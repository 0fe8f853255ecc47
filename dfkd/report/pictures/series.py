"""Numbers over the course of runs: means over seeds with the range between them."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Sequence

import numpy

from dfkd.report.results import Result
from dfkd.runs import fresh_samples

Record = dict[str, Any]
Point = tuple[int, float]
POINTS = 120  # of a curve: more are not seen, and swell the page


@dataclass(frozen=True)
class Run:
    """A finished run with its log, read once.

    Args:
        result: of the run.
        records: of its ``metrics.jsonl``; empty where only the result file was kept.
    """

    result: Result
    records: Sequence[Record]

    @property
    def strategy(self) -> str:
        """What tables call the strategy."""
        return self.result.strategy


@dataclass
class Series:
    """A curve: mean, lowest and highest value over seeds at each x."""

    x: list[float] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def add(self, x: float, values: Sequence[float]) -> None:
        """One more point."""
        self.x.append(x)
        self.mean.append(statistics.fmean(values))
        self.low.append(min(values))
        self.high.append(max(values))


def load(results: Iterable[Result]) -> list[Run]:
    """The runs with their logs.

    Raises:
        ConfigError: a log is damaged.
    """
    return [Run(result, result.log("metrics")) for result in results]


def by_strategy(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Strategy -> its runs."""
    groups: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.strategy].append(run)
    return dict(groups)


def course(runs: Sequence[Run], points: Callable[[Run], Sequence[Point]], smooth: bool = False) -> Series:
    """The mean over runs from the first step to the last that all of them have; runs without a point are left out.

    Seeds may log a value at steps of their own, as the parts of a mixture do, whose turns are drawn: a run's value
    between two of its steps lies on the straight line between theirs.

    Args:
        runs: of one strategy, with different seeds.
        points: of one run, (step, value).
        smooth: whether each run's values are averaged over neighbouring steps first.
    """
    curves = [sorted(dict(_smoothed(found) if smooth else found).items()) for run in runs if (found := points(run))]
    series = Series()
    if not curves:
        return series
    first, last = max(curve[0][0] for curve in curves), min(curve[-1][0] for curve in curves)
    steps = thinned(sorted({step for curve in curves for step, _ in curve if first <= step <= last}))
    between = [_interpolated(curve, steps) for curve in curves]
    for step, values in zip(steps, zip(*between)):
        series.add(step, values)
    return series


def _interpolated(curve: Sequence[Point], steps: Sequence[int]) -> list[float]:
    """A curve's values at some steps, between its own by straight lines."""
    own, values = zip(*curve)
    return [float(value) for value in numpy.interp(steps, own, values)]


def thinned(steps: Sequence[int], most: int = POINTS) -> list[int]:
    """At most ``most`` of the steps, evenly spread, the first and the last among them."""
    if len(steps) <= most:
        return list(steps)
    return [steps[round(place * (len(steps) - 1) / (most - 1))] for place in range(most)]


def fact(name: str, scale: float = 1.0) -> Callable[[Run], list[Point]]:
    """Of a run, the (step, value) of every record that holds the number ``name``."""

    def points(run: Run) -> list[Point]:
        return [(r["step"], scale * r[name]) for r in run.records if _is_number(r.get(name))]

    return points


def samples_by(run: Run, step: float) -> int:
    """Pseudo samples that the run had drawn from its strategy by the end of ``step``; replayed ones count once."""
    return fresh_samples(r for r in run.records if r["step"] <= step)


def samples_of(result: Result) -> int | None:
    """Pseudo samples that a finished run drew from its strategy, from its result file alone; ``None``: not known.

    Of files without ``fresh_samples``, as older versions wrote: replay was spread evenly over the steps, so that the
    number of fresh batches follows from its share, unless tokens were to be saved.
    """
    if "fresh_samples" in result.content:
        return int(result.content["fresh_samples"])
    train = result.content["config"].get("train") or {}
    steps, size = result.content["steps"], train.get("batch_size")
    wrote = result.content.get("generated_tokens") and not result.content["queries"].get("synthesis")
    if train.get("generated_tokens") is not None and wrote:
        return None
    return None if size is None else (steps - math.floor(steps * train.get("replay_share", 0.0))) * size


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _smoothed(points: Sequence[Point], weight: float = 0.9) -> list[Point]:
    """Exponential moving average, without the bias of its start."""
    smooth, mean, total = [], 0.0, 0.0
    for step, value in points:
        mean, total = weight * mean + (1 - weight) * value, weight * total + (1 - weight)
        smooth.append((step, mean / total))
    return smooth
