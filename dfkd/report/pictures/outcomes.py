"""Pictures of what came out: the gap closed by data set, and the score by the number of pseudo samples."""

from __future__ import annotations

import json
import os
import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dfkd.report.comparison import entries
from dfkd.report.gap import CEILING, FLOOR, gap_closed, is_gap, mean_score
from dfkd.report.pictures.series import samples_of
from dfkd.report.pictures.style import (
    COLUMNS, SMALL, TITLE_LETTERS, Look, legend, name_axes, name_ticks, panels, rank, wrapped,
)
from dfkd.report.results import Result, Setting
from dfkd.report.statistics import ROUNDS, Drawn

METRICS = {"accuracy": "accuracy", "macro_f1": "macro-F1"}
LEFT_OUT = (FLOOR, CEILING)
SCALE = (-60.0, 160.0)  # per cent: where the gap is next to nothing, shares of it know no bounds


@dataclass(frozen=True)
class Scored:
    """One strategy in one setting.

    Args:
        mean: score, a share.
        low, high: its 95 % interval; the mean where none can be had.
        gap: share of the gap between floor and ceiling that is closed, with its interval; ``None``: there is no gap.
        drawn: how it varies; where that is not known, the mean in every round.
        runs: behind it. Of a single one nothing is known of how seeds vary.
    """

    mean: float
    low: float
    high: float
    gap: tuple[float, float, float] | None = None
    drawn: Drawn | None = None
    runs: int = 1


Scores = dict[Setting, dict[str, Scored]]
Budget = tuple[int, Scored]
"""Pseudo samples drawn, and the score that they gave."""


def scored(results: Sequence[Result]) -> Scores:
    """Setting -> strategy -> score with interval; without the runs that have no test data.

    An interval needs accuracy as the data set's score, and runs that say which items they get right.
    """
    groups: dict[Setting, list[Result]] = defaultdict(list)
    for result in results:
        if result.score("student") is not None:
            groups[result.setting].append(result)
    return {setting: _scored(group) for setting, group in groups.items()}


def _scored(group: Sequence[Result]) -> dict[str, Scored]:
    by_strategy: dict[str, list[Result]] = defaultdict(list)
    for result in group:
        by_strategy[result.strategy].append(result)
    known = all(run.content["student"].get("correct") for run in group)
    if not known or group[0].content["config"]["data"]["metric"] != "accuracy":
        return _without_intervals(by_strategy)
    return {
        name: Scored(*entry.score, None if name == FLOOR else entry.gap, entry.drawn, entry.runs)
        for (_, _, name), entry in entries(group).items()
    }


def _without_intervals(by_strategy: Mapping[str, list[Result]]) -> dict[str, Scored]:
    means = {name: mean for name, runs in by_strategy.items() if (mean := mean_score(runs)) is not None}
    there = FLOOR in means and CEILING in means and is_gap(by_strategy[FLOOR], by_strategy[CEILING])
    made = {}
    for name, mean in means.items():
        closed = gap_closed(mean, means[FLOOR], means[CEILING]) if there else None
        gap, drawn = None if closed is None else (closed, closed, closed), Drawn(mean, numpy.full(ROUNDS, mean))
        made[name] = Scored(mean, mean, mean, gap, drawn, len(by_strategy[name]))
    return made


def gaps(scores: Mapping[str, Mapping[str, Scored]], looks: Mapping[str, Look]) -> Figure | None:
    """The gap closed by each strategy, a panel for each data set.

    Args:
        scores: name of the panel -> strategy -> score.
        looks: of the strategies.

    Returns:
        ``None`` where floor or ceiling was run nowhere, or nothing besides them.
    """
    shown = {
        title: {name: entry.gap for name, entry in found.items() if entry.gap is not None and name not in LEFT_OUT}
        for title, found in scores.items()
    }
    shown = {title: found for title, found in shown.items() if found}
    if not shown:
        return None
    strategies = sorted({name for found in shown.values() for name in found}, key=lambda name: _order(name, shown))
    names = [wrapped(name, 30) for name in strategies]
    lines = [name.count("\n") + 1 for name in names]
    places = [sum(lines[:number]) + own / 2 for number, own in enumerate(lines)]  # long names take more room
    titles = [_title(title, scores[title]) for title in shown]
    figure, all_axes = panels(len(shown), COLUMNS, 0.6 + 0.2 * max(2, sum(lines)), titles, sharey=True)
    for number, (axes, title, found) in enumerate(zip(all_axes, titles, shown.values())):
        for place, strategy in zip(places, strategies):
            if strategy in found:
                _dot(axes, place, found[strategy], looks[strategy])
        _frame(axes, title)
        name_ticks(axes, places, names)
        axes.tick_params(labelleft=number % COLUMNS == 0)  # every data set has a scale of its own, below
        axes.set_ylim(0, sum(lines))
    figure.supxlabel("gap between floor (0) and ceiling (100) that is closed (%)", fontsize=SMALL + 0.5)
    return figure


def _title(name: str, found: Mapping[str, Scored]) -> str:
    width = 100 * (found[CEILING].mean - found[FLOOR].mean)
    return f"{wrapped(name, TITLE_LETTERS)}\n({width:.1f} points)"


def _order(name: str, shown: Mapping[str, Mapping[str, Any]]) -> tuple[float, float, str]:
    """To sort by: the mean gap, of which a data set that hardly has one counts no more than the scale shows of it.

    Rows beyond the scale are sorted by the mean that it is, and equal ones by name.
    """
    low, high = (value / 100 for value in SCALE)
    gaps = [found[name][0] for found in shown.values() if name in found]
    return statistics.fmean(min(max(gap, low), high) for gap in gaps), statistics.fmean(gaps), name


def _dot(axes: Axes, place: float, gap: tuple[float, float, float], look: Look) -> None:
    """A dot with its interval; where it is beyond the scale, an arrow to it with its number."""
    mean, low, high = (100 * value for value in gap)
    axes.plot([low, high], [place, place], color=look.colour, linewidth=1.8, solid_capstyle="butt")
    for end, beyond, marker in ((SCALE[0], low < SCALE[0], "<"), (SCALE[1], high > SCALE[1], ">")):
        if beyond and SCALE[0] <= mean <= SCALE[1]:  # the interval goes on
            axes.plot([end], [place], color=look.colour, marker=marker, markersize=5, linestyle="", clip_on=False)
    axes.plot([mean], [place], color=look.colour, marker=look.marker, markersize=6.5, markeredgecolor="white", mew=0.5)
    if not SCALE[0] <= mean <= SCALE[1]:
        below = mean < SCALE[0]
        axes.annotate(
            f"{round(mean):,}", (0.0 if below else 1.0, place), xycoords=("axes fraction", "data"),
            xytext=(26 if below else -26, 0), textcoords="offset points", va="center", fontsize=SMALL,
            ha="left" if below else "right", arrowprops={"arrowstyle": "->", "color": look.colour},
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )


def _frame(axes: Axes, title: str) -> None:
    """Title, scale, and the marks of floor and ceiling."""
    axes.axvline(0, color="#666666", linewidth=1.0, linestyle=(0, (4, 2)))
    axes.axvline(100, color="#000000", linewidth=1.0)
    low, high = axes.get_xlim()
    axes.set_xlim(max(SCALE[0], min(-10, low)), min(SCALE[1], max(110, high)))
    name_axes(axes, title=title)


def by_samples(curves: Mapping[str, Sequence[Budget]], looks: Mapping[str, Look], metric: str) -> Figure | None:
    """The score against the number of pseudo samples, over runs of different budgets.

    Args:
        curves: strategy -> its budgets.
        looks: of the strategies.
        metric: name of the score.

    Returns:
        ``None`` where no strategy was run with two numbers of samples.
    """
    if max((len({count for count, _ in curve}) for curve in curves.values()), default=0) < 2:
        return None
    figure, (axes,) = panels(1, 1, 3.0)
    handles = {}
    for name in sorted(curves, key=rank):
        look, curve = looks[name], sorted(curves[name], key=lambda budget: budget[0])
        x = [count for count, _ in curve]
        low, mean, high = ([100 * getattr(score, part) for _, score in curve] for part in ("low", "mean", "high"))
        handles[name], = axes.plot(x, mean, color=look.colour, linestyle=look.style, marker=look.marker, markersize=5)
        axes.fill_between(x, low, high, color=look.colour, alpha=0.15, linewidth=0)
    counts = sorted({count for curve in curves.values() for count, _ in curve})
    if counts[-1] > 8 * counts[0]:
        axes.set_xscale("log")
        axes.set_xticks(shown := apart(counts), [f"{count:,}" for count in shown])
        axes.minorticks_off()
    name_axes(axes, x="pseudo samples drawn for the training", y=f"test {METRICS.get(metric, metric)} (%)")
    legend(figure, handles)
    return figure


def apart(counts: Sequence[int], share: float = 0.12) -> list[int]:
    """Those whose labels have room beside each other on a logarithmic axis; the first and the last always have.

    Args:
        counts: sorted, positive.
        share: of the axis that a label takes.
    """
    first, last = counts[0], counts[-1]
    least = (last / first) ** share  # from one label to the next
    kept = [first]
    for count in counts[1:-1]:
        if count >= kept[-1] * least and count * least <= last:
            kept.append(count)
    return kept + ([last] if last > first else [])


def budgets(results: Sequence[Result], scores: Scores) -> list[tuple[str, str, dict[str, list[Budget]]]]:
    """(data set, student, strategy -> the budgets that it was run with), for each teacher, test and table.

    Students of one kind and options count as one, whatever their table calls them: a table gives budgets to students.
    """
    found: dict[tuple[str, ...], dict[str, list[Budget]]] = defaultdict(lambda: defaultdict(list))
    labels: dict[tuple[str, ...], list[str]] = defaultdict(list)
    firsts = {(result.setting, result.strategy): result for result in reversed(results)}
    for (setting, strategy), result in firsts.items():
        count, score = samples_of(result), scores.get(setting, {}).get(strategy)
        if count and score is not None:
            key = setting.data, setting.teacher, _model(result), setting.test, setting.table
            found[key][strategy].append((count, score))
            labels[key].append(setting.student)
    return [(key[0], _common(labels[key]), dict(curves)) for key, curves in found.items()]


def _model(result: Result) -> str:
    """What tells a student's model from another."""
    student = result.content["config"]["student"]
    told = student["options"] if "options" in student else student.get("label")
    return json.dumps([student["name"], told], sort_keys=True)


def _common(labels: Sequence[str]) -> str:
    """What the labels of one student begin with, up to a comma where they differ; else the shortest."""
    if len(set(labels)) == 1:
        return labels[0]
    return os.path.commonprefix(list(labels)).rpartition(",")[0] or min(labels, key=len)
