"""Pictures of what came out: the gap closed by data set, and the score by the number of pseudo samples."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dfkd.report.comparison import entries
from dfkd.report.pictures.series import samples_of
from dfkd.report.pictures.style import COLUMNS, SMALL, Look, legend, name_axes, name_ticks, panels, rank, wrapped
from dfkd.report.results import Result
from dfkd.report.table import CEILING, FLOOR, Setting, gap_closed, mean_score

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
    """

    mean: float
    low: float
    high: float
    gap: tuple[float, float, float] | None = None


Scores = dict[Setting, dict[str, Scored]]


def scored(results: Sequence[Result]) -> Scores:
    """Setting -> strategy -> score with interval; without the runs that have no test data.

    An interval needs accuracy as the data set's score, and runs that say which items they get right. That of the gap
    closed is the interval of the difference from the floor, on the same items, as a share of the mean gap.
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
    found = {name: entry for (_, _, name), entry in entries(group).items()}
    there = FLOOR in found and CEILING in found
    width = found[CEILING].score.mean - found[FLOOR].score.mean if there else 0.0
    made = {}
    for name, entry in found.items():
        gap = None
        if width > 0 and entry.difference is not None:
            gap = entry.difference.mean / width, entry.difference.low / width, entry.difference.high / width
        made[name] = Scored(*entry.score, gap)
    return made


def _without_intervals(by_strategy: Mapping[str, list[Result]]) -> dict[str, Scored]:
    means = {name: mean_score(runs) for name, runs in by_strategy.items()}
    made = {}
    for name, mean in means.items():
        if mean is not None:
            closed = gap_closed(mean, means.get(FLOOR), means.get(CEILING))
            made[name] = Scored(mean, mean, mean, None if closed is None else (closed, closed, closed))
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
    strategies = sorted({name for found in shown.values() for name in found}, key=lambda name: _mean_gap(name, shown))
    names = [wrapped(name, 30) for name in strategies]
    lines = max(name.count("\n") + 1 for name in names)
    figure, all_axes = panels(len(shown), COLUMNS, 0.7 + 0.2 * lines * max(2, len(names)), sharey=True)
    for axes, (title, found) in zip(all_axes, shown.items()):
        for place, strategy in enumerate(strategies):
            if strategy in found:
                _dot(axes, place, found[strategy], looks[strategy])
        width = 100 * (scores[title][CEILING].mean - scores[title][FLOOR].mean)
        _frame(axes, f"{wrapped(title, 24)}\n({width:.1f} points)", names)
    for number, axes in enumerate(all_axes):  # every data set has a scale of its own
        axes.tick_params(labelleft=number % COLUMNS == 0)
    figure.supxlabel("gap between floor (0) and ceiling (100) that is closed (%)", fontsize=SMALL + 0.5)
    return figure


def _mean_gap(name: str, shown: Mapping[str, Mapping[str, Any]]) -> float:
    return statistics.fmean(found[name][0] for found in shown.values() if name in found)


def _dot(axes: Axes, place: int, gap: tuple[float, float, float], look: Look) -> None:
    """A dot with its interval; where it is beyond the scale, an arrow to it with its number."""
    mean, low, high = (100 * value for value in gap)
    axes.plot([low, high], [place, place], color=look.colour, linewidth=1.8, solid_capstyle="butt")
    axes.plot([mean], [place], color=look.colour, marker=look.marker, markersize=6, markeredgecolor="white")
    if not SCALE[0] <= mean <= SCALE[1]:
        below = mean < SCALE[0]
        axes.annotate(
            f"{mean:,.0f}", (0.0 if below else 1.0, place), xycoords=("axes fraction", "data"),
            xytext=(26 if below else -26, 0), textcoords="offset points", va="center", fontsize=SMALL,
            ha="left" if below else "right", arrowprops={"arrowstyle": "->", "color": look.colour},
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
        )


def _frame(axes: Axes, title: str, names: Sequence[str]) -> None:
    """Title, scale, the marks of floor and ceiling, and the strategies' names."""
    axes.axvline(0, color="#666666", linewidth=1.0, linestyle=(0, (4, 2)))
    axes.axvline(100, color="#000000", linewidth=1.0)
    low, high = axes.get_xlim()
    axes.set(xlim=(max(SCALE[0], min(-10, low)), min(SCALE[1], max(110, high))), ylim=(-0.6, len(names) - 0.4))
    name_ticks(axes, "y", names)
    name_axes(axes, title=title)


def by_samples(groups: Mapping[int, Mapping[str, Scored]], looks: Mapping[str, Look], metric: str) -> Figure | None:
    """The score against the number of pseudo samples, over runs of different budgets.

    Args:
        groups: number of samples -> strategy -> score.
        looks: of the strategies.
        metric: name of the score.

    Returns:
        ``None`` where no strategy was run with two budgets.
    """
    curves: dict[str, list[tuple[int, Scored]]] = defaultdict(list)
    for count in sorted(groups):
        for name, entry in groups[count].items():
            curves[name].append((count, entry))
    if max(map(len, curves.values()), default=0) < 2:
        return None
    figure, (axes,) = panels(1, 1, 3.0)
    handles = {}
    for name in sorted(curves, key=rank):
        x, look = [count for count, _ in curves[name]], looks[name]
        low, mean, high = ([100 * getattr(e, part) for _, e in curves[name]] for part in ("low", "mean", "high"))
        handles[name], = axes.plot(x, mean, color=look.colour, linestyle=look.style, marker=look.marker, markersize=5)
        axes.fill_between(x, low, high, color=look.colour, alpha=0.15, linewidth=0)
    counts = sorted(groups)
    if counts[-1] > 8 * counts[0]:
        axes.set_xscale("log")
        axes.set_xticks(counts, [f"{count:,}" for count in counts], minor=False)
        axes.minorticks_off()
    name_axes(axes, x="pseudo samples drawn for the training", y=f"test {METRICS.get(metric, metric)} (%)")
    legend(figure, handles)
    return figure


def budgets(results: Sequence[Result], scores: Scores) -> dict[tuple[str, str, str, str], dict[int, dict[str, Scored]]]:
    """Data set, teacher, student and test -> pseudo samples drawn -> strategy -> score."""
    found: dict[tuple[str, str, str, str], dict[int, dict[str, Scored]]] = defaultdict(dict)
    for result in results:
        data, teacher, student, _, test = setting = result.setting
        count, own = samples_of(result), scores.get(setting, {})
        if count and result.strategy in own:
            found[data, teacher, student, test].setdefault(count, {})[result.strategy] = own[result.strategy]
    return dict(found)
