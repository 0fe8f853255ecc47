"""Scores against cost: which student to take."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator
from matplotlib.transforms import ScaledTranslation

from dfkd.report.gap import CEILING, FLOOR
from dfkd.report.pictures.outcomes import METRICS, Scored, Scores
from dfkd.report.pictures.style import SMALL, Look, legend, name_axes, panels, rank
from dfkd.report.results import Result

COSTS = {
    "time": "time of a forward pass on one text, as a share of the teacher's",
    "multiply_adds": "multiply-adds of one text, as a share of the teacher's",
}
POINT = 1 / 72  # inches
APART, SPREAD = 4.5, 40.0  # points between the strategies of one student, and over all of them
MOST = 6  # strategies; of more, a dot each for every student could not be told apart
WIDE = 4  # the teacher costs so much more than a student: what is small is told apart on a logarithmic axis
NEAR = 0.04  # of the axis: labels that are nearer stand above each other


@dataclass(frozen=True)
class Student:
    """A student made by a strategy.

    Args:
        name: of the student.
        strategy: that made its pseudo data.
        cost: as a share of the teacher's.
        score: on the test split.
        real: whether the strategy sees the task's own texts.
    """

    name: str
    strategy: str
    cost: float
    score: Scored
    real: bool = False


def students_of(results: Sequence[Result], scores: Scores) -> tuple[str, list[Student]]:
    """The students of one teacher, and what their cost is measured in; none where that is known of less than two.

    Args:
        results: of one data set, teacher, budget and test.
        scores: of all settings.
    """
    for kind in COSTS:
        found: dict[str, list[float]] = defaultdict(list)
        for result in results:
            if (cost := cost_of(result, kind)) is not None:
                found[result.setting.student].append(cost)
        if len(found) > 1:
            # a student costs the same whatever its strategy: all its runs are measurements of one thing
            return kind, _students(results, scores, {name: statistics.fmean(own) for name, own in found.items()})
    return "", []


def cost_of(result: Result, kind: str) -> float | None:
    """The student's cost as a share of its teacher's; ``None`` where it was not measured."""
    if kind == "time":
        ratio: float | None = result.content.get("latency_ratio", {}).get("1")
        return ratio
    own, teacher = (result.content[whose]["cost"].get(kind) for whose in ("student", "teacher"))
    return own / teacher if own and teacher else None


def _students(results: Sequence[Result], scores: Scores, costs: Mapping[str, float]) -> list[Student]:
    made: dict[tuple[str, str], Student] = {}
    for result in results:
        name, score = result.setting.student, scores.get(result.setting, {}).get(result.strategy)
        if score is not None and name in costs:
            real = bool(result.content["strategy"].get("uses_real_text"))
            made[name, result.strategy] = Student(name, result.strategy, costs[name], score, real)
    return list(made.values())


def pareto(
    students: Sequence[Student], teacher: float | None, kind: str, looks: Mapping[str, Look], metric: str
) -> Figure | None:
    """Scores against cost; a line joins the data-free students that no other one beats in both.

    Args:
        students: of one teacher.
        teacher: its score, a share.
        kind: of cost, among :data:`COSTS`.
        looks: of the strategies.
        metric: name of the score.

    Returns:
        ``None`` for less than two students.
    """
    if len({student.name for student in students}) < 2:
        return None
    figure, (axes,) = panels(1, 1, 3.4)
    handles = _dots(figure, axes, telling(students), looks)
    if teacher is not None:
        star, = axes.plot([1.0], [100 * teacher], color="#000000", marker="*", markersize=10, linestyle="")
        star.set_zorder(1.5)  # below the dots
        handles["teacher"] = star
    best = front([(student.cost, student.score.mean) for student in students if not student.real])
    x, y = [cost for cost, _ in best], [100 * score for _, score in best]
    axes.step(x, y, where="post", color="#888888", linewidth=1.0, zorder=0)
    axes.margins(0.08)
    if 1.0 > WIDE * min(student.cost for student in students):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.minorticks_off()
    name_axes(axes, x=COSTS[kind], y=f"test {METRICS.get(metric, metric)} (%)")
    legend(figure, {**handles, **_numbers(axes, students)})
    return figure


def telling(students: Sequence[Student]) -> list[Student]:
    """Those of at most :data:`MOST` strategies: floor, ceiling, and the data-free ones that are best for most students.

    All students stay, each with its best data-free strategy, as far as there is room.
    """
    found: dict[str, list[Student]] = defaultdict(list)
    for student in students:
        found[student.strategy].append(student)
    wins = {name: 0 for name in found}
    for name in {student.name for student in students}:
        own = [student for student in students if student.name == name and not student.real]
        if own:
            wins[max(own, key=lambda student: student.score.mean).strategy] += 1

    def merit(strategy: str) -> tuple[bool, int, float]:
        mean = statistics.fmean(student.score.mean for student in found[strategy])
        return strategy in (FLOOR, CEILING), wins[strategy], mean

    kept = sorted(found, key=merit, reverse=True)[:MOST]
    return [student for student in students if student.strategy in kept]


def _dots(
    figure: Figure, axes: Axes, students: Sequence[Student], looks: Mapping[str, Look]
) -> dict[str, Any]:
    """A dot with its interval for each, those of one student side by side; returns what a legend shows."""
    handles = {}
    strategies = sorted({student.strategy for student in students}, key=rank)
    apart = min(APART, SPREAD / len(strategies)) * POINT
    for student in students:
        look, score = looks[student.strategy], student.score
        aside = (strategies.index(student.strategy) - (len(strategies) - 1) / 2) * apart
        place = axes.transData + ScaledTranslation(aside, 0, figure.dpi_scale_trans)
        interval = [100 * score.low, 100 * score.high]
        axes.plot([student.cost] * 2, interval, color=look.colour, linewidth=1.2, transform=place)
        dot, = axes.plot([student.cost], [100 * score.mean], color=look.colour, marker=look.marker, transform=place)
        dot.set(markersize=7, markeredgecolor="white", markeredgewidth=0.5, linestyle="")
        handles[student.strategy] = dot
        axes.update_datalim([(student.cost, value) for value in interval])  # shifted lines do not count by themselves
    return {strategy: handles[strategy] for strategy in strategies}


def _numbers(axes: Axes, students: Sequence[Student]) -> dict[str, Any]:
    """A number above each student, those of neighbours on top of each other; returns what a legend shows."""
    handles: dict[str, Any] = {}
    costs = {student.name: student.cost for student in students}
    axes.autoscale_view()  # or the places asked for below are those of before the dots
    near = NEAR * (axes.transAxes.transform((1, 0)) - axes.transAxes.transform((0, 0)))[0]
    last, level = -math.inf, 0
    for number, (name, cost) in enumerate(sorted(costs.items(), key=lambda item: item[1]), 1):
        place = axes.transData.transform((cost, 0))[0]
        level = level + 1 if place - last < near else 0
        axes.axvline(cost, color="#bbbbbb", linewidth=0.6, zorder=-1)
        axes.annotate(
            str(number), (cost, 1.0), xycoords=("data", "axes fraction"), xytext=(0, 2 + 10 * level),
            textcoords="offset points", ha="center", va="bottom", fontsize=SMALL,
        )
        handles[name] = Line2D([], [], color="#000000", marker=f"${number}$", linestyle="", markersize=6)
        last = place
    return handles


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The (cost, score) that no other point is as cheap as and better than, cheapest first."""
    best: list[tuple[float, float]] = []
    for cost, score in sorted(points, key=lambda point: (point[0], -point[1])):
        if not best or score > best[-1][1]:
            best.append((cost, score))
    return best
