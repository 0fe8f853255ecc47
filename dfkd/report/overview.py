"""Strategies over data sets at a glance: one small table for each student of several data sets."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Mapping, Sequence

from dfkd.report.gap import CEILING, FLOOR, NO_GAP, UNKNOWN, mean_gap_closed, percent, told
from dfkd.report.pictures.outcomes import LEFT_OUT, METRICS, Scored, Scores
from dfkd.report.pictures.style import rank
from dfkd.report.results import Result, Setting
from dfkd.report.table import student_names

NOT_RUN = "not run"


@dataclass(frozen=True)
class Overview:
    """One table as text.

    Args:
        title: which student.
        columns: headings.
        rows: as many cells each.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def overviews(results: Sequence[Result], scores: Scores) -> list[Overview]:
    """A table for each student that was distilled for several data sets.

    Args:
        results: finished runs.
        scores: theirs.
    """
    names, metrics = student_names(results), {r.setting.data: r.content["config"]["data"]["metric"] for r in results}
    students: dict[str, dict[str, Setting]] = defaultdict(dict)
    for setting in sorted(scores):
        students[names[setting]][setting.data] = setting
    made = []
    for student, settings in students.items():
        if len(settings) > 1:
            heads = {data: f"{data} ({METRICS.get(metrics[data], metrics[data])})" for data in settings}
            by_data = {heads[data]: scores[setting] for data, setting in settings.items()}
            made.append(_overview(f"student {student}", by_data))
    return made


def _overview(title: str, by_data: dict[str, dict[str, Scored]]) -> Overview:
    strategies = sorted({name for found in by_data.values() for name in found}, key=rank)
    rows = []
    for strategy in strategies:
        cells = [_cell(found.get(strategy)) for found in by_data.values()]
        rows.append([strategy, *cells, "" if strategy in LEFT_OUT else _gap(strategy, list(by_data.values()))])
    return Overview(title, ["strategy", *by_data, "gap closed, of the means (%)"], rows)


def _gap(strategy: str, scores: Sequence[Mapping[str, Scored]]) -> str:
    """Of the means over the data sets; with its interval, if all were run with two seeds or more."""
    own, floor, ceiling = (
        [drawn for found in scores if name in found and (drawn := found[name].drawn) is not None]
        for name in (strategy, FLOOR, CEILING)
    )
    if not len(own) == len(floor) == len(ceiling) == len(scores):
        return UNKNOWN
    closed = mean_gap_closed(own, floor, ceiling)
    if closed is None:
        return NO_GAP
    several = all(found[name].runs > 1 for found in scores for name in (strategy, FLOOR, CEILING))
    return told(closed) if several else percent(closed.mean)


def _cell(entry: Scored | None) -> str:
    if entry is None:
        return NOT_RUN
    bounds = f" [{100 * entry.low:.1f}, {100 * entry.high:.1f}]" if entry.low < entry.high else ""
    return f"{100 * entry.mean:.1f}{bounds}"
