"""Strategies over data sets: one table a student, with intervals, tests against the floor, and the gap closed."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import Mapping, Sequence

import numpy

from dfkd.errors import ConfigError
from dfkd.evaluate.scores import unpacked
from dfkd.report.results import Missing, Result, spent
from dfkd.report.statistics import Correct, Difference, Interval, accuracy, holm, paired_difference
from dfkd.report.table import CEILING, FLOOR, gap_closed

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Entry:
    """One strategy on one data set with one student.

    Args:
        runs: number of seeds.
        score: mean accuracy with its 95 % interval.
        agreement: mean agreement with the teacher.
        gap: share of the gap between floor and ceiling that is closed; ``None`` without either, or without a gap.
        difference: from the floor, on the same items; ``None`` for the floor itself.
        p: of the difference, corrected (Holm) for the strategies compared on this data set and student.
        queries: mean teacher queries, synthesis, training and held-out samples together.
        seconds: mean seconds of synthesis and training.
    """

    runs: int
    score: Interval
    agreement: float
    gap: float | None
    difference: Difference | None
    p: float | None
    queries: float
    seconds: float


Entries = dict[tuple[str, str, str], Entry]


def entries(results: Sequence[Result]) -> Entries:
    """(student, data set, strategy) -> what its runs say.

    Args:
        results: runs of one teacher, budget and test for each student and data set, with test data.

    Raises:
        ConfigError: runs that would stand in one cell differ in teacher, budget or test, or have no test data.
    """
    groups: dict[tuple[str, str], dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        data, _, student, _, _ = result.setting
        groups[student, data][result.strategy].append(result)
    made: Entries = {}
    for (student, data), by_strategy in groups.items():
        settings = {run.setting for runs in by_strategy.values() for run in runs}
        if len(settings) > 1:
            raise ConfigError(
                f"{data}, {student}: runs of several settings cannot stand in one table",
                expected="one teacher, budget and set of test items", found=sorted(settings),
                fix="remove the runs of the older setting, or give the table's runs a folder of their own: runs=FOLDER",
            )
        made.update(_group(student, data, by_strategy))
    return made


def _group(student: str, data: str, by_strategy: Mapping[str, list[Result]]) -> Entries:
    correct = {name: _correct(runs) for name, runs in by_strategy.items()}
    means = {name: float(values.mean()) for name, values in correct.items()}
    differences = {
        name: paired_difference(values, correct[FLOOR]) for name, values in correct.items()
        if name != FLOOR and FLOOR in correct
    }
    corrected = dict(zip(differences, holm([difference.p for difference in differences.values()])))
    made = {}
    for name, runs in by_strategy.items():
        made[student, data, name] = Entry(
            runs=len(runs),
            score=accuracy(correct[name]),
            agreement=statistics.fmean(run.content["student"]["agreement"] for run in runs),
            gap=gap_closed(means[name], means.get(FLOOR), means.get(CEILING)),
            difference=differences.get(name),
            p=corrected.get(name),
            queries=statistics.fmean(spent(run.content["queries"]) for run in runs),
            seconds=statistics.fmean(
                run.content["seconds"]["train"] + run.content["seconds"].get("heldout", 0.0) for run in runs
            ),
        )
    return made


def _correct(runs: Sequence[Result]) -> Correct:
    """(S, N): which run classifies which test item correctly."""
    rows = []
    for run in runs:
        digits = run.content["student"].get("correct")
        if digits is None:
            raise ConfigError(
                f"{run.folder} does not say which test items its student gets right",
                expected="a run on a data set with a test split",
                fix="compare by fidelity with 'dfkd report'; remove a run of an older version, and run it again",
            )
        rows.append(unpacked(digits, run.content["test_items"]))
    return numpy.stack(rows)


def markdown(results: Sequence[Result], missing: Sequence[Missing] = ()) -> str:
    """One table a student: strategies down, data sets across, then the mean gap closed and the costs."""
    made = entries(results)
    parts = []
    for student in dict.fromkeys(key[0] for key in made):
        own = {key[1:]: entry for key, entry in made.items() if key[0] == student}
        parts.append(f"Student: {student}\n\n" + _table(own, results))
    parts.append("\n".join(NOTES))
    if missing:
        parts.append("\n".join(f"- missing: {entry.run}: {entry.reason}" for entry in missing))
    return "\n\n".join(parts) + "\n"


NOTES = (
    "Accuracy in %, mean over seeds, with half the width of its 95 % interval (bootstrap over test items and seeds).",
    "`*`: differs from the floor on the same items (paired bootstrap, p < 0.05 after Holm's correction).",
    "Gap closed: (strategy - floor) / (ceiling - floor), the mean over the data sets' own gaps; in brackets each.",
)


def _table(own: Mapping[tuple[str, str], Entry], results: Sequence[Result]) -> str:
    datas = list(dict.fromkeys(data for data, _ in own))
    names = list(dict.fromkeys(name for _, name in own))
    names.sort(key=lambda name: {FLOOR: 0, CEILING: 2}.get(name, 1))
    teachers = {run.setting[0]: run.score("teacher") for run in results}
    heads = [f"{data} (teacher {100 * (teachers[data] or 0):.1f})" for data in datas]
    lines = [_line(["strategy", "seeds", *heads, "gap closed", "agreement", "queries", "seconds"])]
    lines.append(_line(["---"] * (len(heads) + 6)))
    for name in names:
        row = [own.get((data, name)) for data in datas]
        there = [entry for entry in row if entry is not None]
        gaps = [entry.gap for entry in row if entry is not None and entry.gap is not None]
        mean_gap = "" if name in (FLOOR, CEILING) or len(gaps) < len(datas) else f"**{_percent(gaps)}**"
        each = "" if name in (FLOOR, CEILING) or not gaps else f" ({', '.join(_gap(entry) for entry in row)})"
        lines.append(_line([
            name, "/".join(dict.fromkeys(str(entry.runs) for entry in there)), *(_cell(entry) for entry in row),
            (mean_gap + each).strip(), f"{100 * statistics.fmean(entry.agreement for entry in there):.1f}",
            f"{statistics.fmean(entry.queries for entry in there):,.0f}",
            f"{statistics.fmean(entry.seconds for entry in there):.0f}",
        ]))
    return "\n".join(lines)


def _cell(entry: Entry | None) -> str:
    if entry is None:
        return "not run"
    star = "*" if entry.p is not None and entry.p < SIGNIFICANT else ""
    half = 50 * (entry.score.high - entry.score.low)
    return f"{100 * entry.score.mean:.1f} ± {half:.1f}{star}"


def _gap(entry: Entry | None) -> str:
    return "n/a" if entry is None or entry.gap is None else f"{100 * entry.gap:.0f}"


def _percent(values: Sequence[float]) -> str:
    return f"{100 * statistics.fmean(values):.0f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
