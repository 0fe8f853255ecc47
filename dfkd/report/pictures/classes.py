"""Pictures by class: what the pseudo samples are taken for, and whether confidence means accuracy."""

from __future__ import annotations

import math
from typing import Any, Mapping, Sequence

import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from dfkd.report.pictures.series import Run, by_strategy
from dfkd.report.pictures.style import (
    COLOURS, COLUMNS, TITLE_LETTERS, legend, name_axes, name_ticks, outer, panels, rank, wrapped,
)
from dfkd.report.results import Result

NAMED = 30  # classes that get a line of their own each
PART = 0.1  # of the fresh batches: the first ones, and the last ones
BAR, EARLY, LATE = "#9ecae1", "#D55E00", "#000000"

Shares = NDArray[numpy.float64]
Bins = Mapping[str, Sequence[Any]]


def histograms(runs: Sequence[Run]) -> Figure | None:
    """The teacher's classes of the fresh samples, in all and at both ends of the training; ``None`` without a log.

    Args:
        runs: of one data set.
    """
    found = {strategy: shares for strategy, own in by_strategy(runs).items() if (shares := class_shares(own))}
    if not found:
        return None
    names = [wrapped(str(name), 22) for name in runs[0].result.content["config"]["data"]["labels"]]
    # every class has as much room as the longest name takes
    lines = len(names) * max(name.count("\n") + 1 for name in names) if len(names) <= NAMED else NAMED / 2
    titles = {strategy: wrapped(strategy, TITLE_LETTERS) for strategy in sorted(found, key=rank)}
    height = 0.75 + 0.17 * max(lines, 3)
    figure, all_axes = panels(len(found), COLUMNS, height, titles.values(), sharey=True, sharex=True)
    for axes, (strategy, title) in zip(all_axes, titles.items()):
        _bars(axes, *found[strategy])
        _name_classes(axes, names)
        name_axes(axes, title=title, x="share (%)")
    outer(all_axes, COLUMNS)
    all_axes[0].set_xlim(0, 105 * max(float(part.max()) for parts in found.values() for part in parts))
    marks = {
        "the first tenth": Line2D([], [], color=EARLY, marker="o", markerfacecolor="none", linestyle=""),
        "the last tenth": Line2D([], [], color=LATE, marker="x", linestyle=""),
    }
    even = Line2D([], [], color="#666666", linestyle=":", linewidth=1.0)
    legend(figure, {"all fresh batches": Patch(color=BAR), **marks, "even classes": even})
    return figure


def class_shares(runs: Sequence[Run]) -> tuple[Shares, Shares, Shares] | None:
    """Shares (C,) of the classes over all fresh batches, the first tenth of them and the last; mean over runs."""
    found = []
    for run in runs:
        counts = [record["classes"] for record in run.records if record.get("fresh", True) and "classes" in record]
        if counts:
            table = numpy.asarray(counts, dtype=float)
            end = max(1, math.ceil(PART * len(table)))
            found.append([part.sum(axis=0) / max(part.sum(), 1.0) for part in (table, table[:end], table[-end:])])
    if not found:
        return None
    whole, early, late = numpy.mean(found, axis=0)
    return whole, early, late


def _bars(axes: Axes, whole: Shares, early: Shares, late: Shares) -> None:
    places = numpy.arange(len(whole))
    axes.barh(places, 100 * whole, color=BAR, height=0.75)
    axes.plot(100 * early, places, color=EARLY, marker="o", markersize=5.5, markerfacecolor="none", linestyle="")
    axes.plot(100 * late, places, color=LATE, marker="x", markersize=4, linestyle="")
    axes.axvline(100 / len(whole), color="#666666", linestyle=":", linewidth=1.0)


def _name_classes(axes: Axes, names: Sequence[str]) -> None:
    """The classes from top to bottom; by number where they are too many to be named."""
    if len(names) <= NAMED:
        name_ticks(axes, range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)


def reliability(results: Sequence[Result]) -> Figure | None:
    """Accuracy against confidence on the test split, teacher and student; ``None`` where no run holds the bins.

    Args:
        results: of one setting.
    """
    known = [result for result in results if result.content["student"].get("reliability")]
    by_name: dict[str, list[Result]] = {}
    for result in sorted(known, key=lambda result: rank(result.strategy)):
        by_name.setdefault(result.strategy, []).append(result)
    if not by_name:
        return None
    pools = {name: pooled([run.content["student"]["reliability"] for run in runs]) for name, runs in by_name.items()}
    titles = [f"{wrapped(n, TITLE_LETTERS)}\n(error {100 * expected_error(bins):.1f})" for n, bins in pools.items()]
    figure, all_axes = panels(len(by_name), COLUMNS, 1.7, titles, sharex=True, sharey=True)
    teacher = pooled([known[0].content["teacher"]["reliability"]])
    handles: dict[str, Any] = {}
    for axes, title, student in zip(all_axes, titles, pools.values()):
        handles["perfectly calibrated"], = axes.plot([0, 100], [0, 100], color="#999999", linewidth=0.8)
        handles["teacher"] = _curve(axes, teacher, "#000000", ":")
        handles["student"] = _curve(axes, student, COLOURS[0], "-")
        axes.set(xlim=(0, 103), ylim=(0, 103))
        name_axes(axes, title=title, x="confidence (%)", y="accuracy (%)")
    outer(all_axes, COLUMNS)
    legend(figure, handles)
    return figure


def pooled(parts: Sequence[Bins]) -> list[tuple[float, float, float]]:
    """Bins of several runs as one: (count, confidence, accuracy), without the empty ones."""
    made = []
    for bins in zip(*(zip(part["count"], part["confidence"], part["accuracy"]) for part in parts)):
        count = sum(own for own, _, _ in bins)
        if count:
            sure, right = (sum(row[0] * row[which] for row in bins if row[0]) / count for which in (1, 2))
            made.append((count, sure, right))
    return made


def expected_error(bins: Sequence[tuple[float, float, float]]) -> float:
    """The expected calibration error of :func:`pooled` bins."""
    total = sum(count for count, _, _ in bins)
    return sum(count * abs(right - sure) for count, sure, right in bins) / total


def _curve(axes: Axes, bins: Sequence[tuple[float, float, float]], colour: str, style: str) -> Any:
    """Accuracy against confidence; the dots' areas are the bins' shares of the items."""
    total = sum(count for count, _, _ in bins)
    x, y = [100 * sure for _, sure, _ in bins], [100 * right for _, _, right in bins]
    line, = axes.plot(x, y, color=colour, linestyle=style, linewidth=1.2)
    axes.scatter(x, y, s=[4 + 60 * count / total for count, _, _ in bins], color=colour, linewidths=0)
    return line
