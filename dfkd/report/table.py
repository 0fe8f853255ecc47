"""One row for each data set, teacher, student and strategy; the mean over seeds."""

from __future__ import annotations

import csv
import io
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from dfkd.report.gap import CEILING, FLOOR, NO_GAP, NOTE, UNKNOWN, gap_closed, is_gap, mean_score, percent
from dfkd.report.results import MORE, MORE_NOTE, Missing, Result, Setting, spent

NO_TEST = "no test data"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        data: name of the data set.
        student: the student's label.
        strategy: the strategy's label.
        cells: column -> text.
        reason: for a run that is missing, why; else empty.
        real: whether the strategy sees the task's own texts.
        reference: the floor or ceiling behind "gap closed" that has other than the plain settings; else empty.
    """

    data: str
    student: str
    strategy: str
    cells: Mapping[str, str]
    reason: str = ""
    real: bool = False
    reference: str = ""


COLUMNS: dict[str, str] = {
    "strategy": "How the pseudo data were made. random_tokens is the floor; real_text, the task's own texts, is the "
    "ceiling and not data-free.",
    "seeds": "Number of runs with different seeds behind the row.",
    "teacher": "The teacher's score on the test split (%).",
    "student": "The student's score on the test split (%), mean over seeds, ± their standard deviation.",
    "agree": "Share of the test items on which student and teacher choose the same class (%).",
    "fidelity": "The same on pseudo samples that were set aside before training (%); needs no real data.",
    "gap closed": "(strategy - floor) / (ceiling - floor), for the same teacher, student and budget (%).",
    "params": "The student's parameters in millions, and as a share of the teacher's.",
    "time": "Time of a forward pass as a share of the teacher's (ratio of medians), for one text / for 32 at once.",
    "queries": "Sequences sent through the teacher, for synthesis, training and held-out samples.",
    "seconds": "Synthesis (the making of a pool, as far as it is used) and training, samples set aside included; not "
    "evaluation.",
}


def rows(results: Sequence[Result], missing: Sequence[Missing] = ()) -> list[Row]:
    """The table's rows: settings together, the floor first and the ceiling last, then what is missing."""
    groups: dict[Setting, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        groups[result.setting][result.strategy].append(result)
    made, students = [], student_names(results)
    for setting, by_strategy in sorted(groups.items()):
        floor, ceiling = (_reference(by_strategy, name) for name in (FLOOR, CEILING))
        bounds = _bounds(floor, ceiling)
        variants = " and ".join(r[0].strategy for r in (floor, ceiling) if r and r[0].strategy not in (FLOOR, CEILING))
        for strategy in sorted(by_strategy, key=lambda label: _rank(by_strategy[label])):
            cells = _cells(by_strategy[strategy], bounds)
            real = not all(run.data_free for run in by_strategy[strategy])
            cells = {"strategy": strategy, **cells}
            made.append(Row(setting.data, students[setting], strategy, cells, real=real, reference=variants))
    return made + [Row("", "", entry.run, {"strategy": entry.run}, entry.reason) for entry in missing]


def student_names(results: Sequence[Result]) -> dict[Setting, str]:
    """Setting -> the student's label, with table, budget, teacher and test where the label alone would name several.

    Table and budget stand on all data sets if they do on one: settings of one name belong together.
    """
    references = {result.setting: result.content["teacher"].get("reference", "teacher") for result in results}
    names = {}
    for setting in references:
        called = [other for other in references if other.student == setting.student]
        own = [other for other in called if other.table == setting.table]
        alike = [other for other in own if (other.data, other.budget) == (setting.data, setting.budget)]
        teachers = {other.teacher for other in alike if other.test == setting.test}  # known by how they do on one test
        name = setting.student
        if len({other.table for other in called}) > 1:
            name += f" ({setting.table or 'of no table'})"
        if len(teachers) > 1:
            name += f" of {references[setting]} ({setting.teacher[:8]})"
        if _several(own, "budget"):
            name += f", {setting.budget}"
        if _several(alike, "test"):
            name += f", {setting.test}"
        names[setting] = name
    return names


def _several(settings: Sequence[Setting], part: str) -> bool:
    """Whether any data set has settings that differ in a part."""
    found: dict[str, set[str]] = defaultdict(set)
    for setting in settings:
        found[setting.data].add(getattr(setting, part))
    return any(len(values) > 1 for values in found.values())


def _reference(by_strategy: Mapping[str, list[Result]], name: str) -> list[Result] | None:
    """The runs of the floor or the ceiling: those with its plain settings, else the first with others."""
    others = [runs for runs in by_strategy.values() if runs[0].content["strategy"]["name"] == name]
    return by_strategy.get(name) or (others[0] if others else None)


def _rank(runs: Sequence[Result]) -> tuple[int, str]:
    return {FLOOR: 0, CEILING: 2}.get(runs[0].content["strategy"]["name"], 1), runs[0].strategy


def _bounds(floor: list[Result] | None, ceiling: list[Result] | None) -> tuple[float, float] | str:
    """The mean scores of floor and ceiling, or why there is no gap between them."""
    low, high = mean_score(floor), mean_score(ceiling)
    if floor is None or ceiling is None or low is None or high is None:
        return UNKNOWN
    return (low, high) if is_gap(floor, ceiling) else NO_GAP


def _cells(runs: list[Result], bounds: tuple[float, float] | str) -> dict[str, str]:
    score = mean_score(runs)
    scores = [value for run in runs if (value := run.score("student")) is not None]
    gap = bounds if isinstance(bounds, str) else percent(gap_closed(score or 0.0, *bounds))
    costs = [run.content["student"]["cost"]["parameters"] for run in runs]
    share = costs[0] / runs[0].content["teacher"]["cost"]["parameters"]
    spread = f" ± {100 * statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
    return {
        "seeds": _seeds(runs),
        "teacher": _percent(runs[0].score("teacher"), NO_TEST),
        "student": _percent(score, NO_TEST) + spread,
        "agree": _mean(runs, lambda c: c["student"]["agreement"], _percent, NO_TEST),
        "fidelity": _mean(runs, lambda c: (c.get("fidelity") or {}).get("agreement"), _percent),
        "gap closed": UNKNOWN if score is None else gap,
        "params": f"{statistics.fmean(costs) / 1e6:.1f}M {100 * share:.0f}%",
        "time": "/".join(_ratio(runs, size) for size in ("1", "32")),
        "queries": _mean(runs, lambda c: spent(c["queries"]), lambda v, _: f"{v:,.0f}"),
        "seconds": f"{statistics.fmean(run.seconds for run in runs):.0f}"
        + MORE * any(not run.seconds_whole for run in runs),
    }


def _seeds(runs: list[Result]) -> str:
    """The number of seeds, and that of runs where it is another one: they differ in more than the seed."""
    seeds = len({run.seed for run in runs})
    return str(seeds) if seeds == len(runs) else f"{seeds} ({len(runs)} runs)"


def _ratio(runs: list[Result], batch_size: str) -> str:
    return _mean(runs, lambda c: c.get("latency_ratio", {}).get(batch_size), lambda v, _: f"{v:.2f}")


def _percent(value: float | None, absent: str = "-") -> str:
    return absent if value is None else f"{100 * value:.1f}"


def _mean(
    runs: list[Result], of: Callable[[Any], float | None], shown: Callable[[float, str], str], absent: str = "-"
) -> str:
    values = [value for run in runs if (value := of(run.content)) is not None]
    return shown(statistics.fmean(values), absent) if values else absent


def notes(made: Sequence[Row]) -> list[str]:
    """What a reader must know besides the columns."""
    real = list(dict.fromkeys(row.strategy for row in made if row.real))
    said = [f"Not data-free, trained on the task's own texts: {', '.join(real)}."] if real else []
    if any(row.cells.get("student", "").startswith(NO_TEST) for row in made):
        said.append("No test data for some rows: 'fidelity', on held-out pseudo data, stands in for the scores.")
    if any(row.cells.get("gap closed") in (UNKNOWN, NO_GAP) for row in made):
        said.append(NOTE)
    if any(row.cells.get("seconds", "").endswith(MORE) for row in made):
        said.append(MORE_NOTE)
    variants = dict.fromkeys((row.data, row.student, row.reference) for row in made if row.reference and _is_share(row))
    said += [f"Gap closed of {data}, {student}, is measured by {used}." for data, student, used in variants]
    return said


def _is_share(row: Row) -> bool:
    """Whether the row tells a share of a gap."""
    return row.cells.get("gap closed") not in (None, UNKNOWN, NO_GAP)


TERMINAL = {
    "teacher": "tea-\ncher", "student": "stu-\ndent", "agree": "agree", "fidelity": "fide-\nlity",
    "gap closed": "gap\nclosed", "params": "par-\nams", "time": "time", "queries": "quer-\nies", "seconds": "sec.",
}
"""Column -> heading: what fits into 80 columns; seeds stand with the strategy."""


def rich_table(made: Sequence[Row]) -> Group:
    """For a terminal: a table for each data set and student, what is missing, and the notes."""
    parts: list[RenderableType] = []
    for data, student in dict.fromkeys((row.data, row.student) for row in made if not row.reason):
        parts.append(Text(f"{data}, student {student}", style="italic", overflow="fold"))
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column("strategy", overflow="fold", min_width=13)
        for column, heading in TERMINAL.items():  # where there is little room, a deviation stands below its mean
            table.add_column(heading, justify="right", no_wrap=column != "student")
        for row in made:
            if (row.data, row.student) == (data, student) and not row.reason:
                table.add_row(*_terminal_cells(row))
        parts.append(table)
    parts += [Text(f"missing: {row.strategy}: {row.reason}", style="yellow") for row in made if row.reason]
    return Group(*parts, *(Text(note, style="dim") for note in notes(made)))


def _terminal_cells(row: Row) -> list[str]:
    # the share of the teacher's parameters and the time at batch size 32 are in the other forms
    cells = {**row.cells, "params": row.cells["params"].split()[0], "time": row.cells["time"].split("/")[0]}
    cells["student"] = cells["student"].replace("± ", "±")
    queries = cells["queries"].replace(",", "")
    if queries.isdigit() and int(queries) >= 10_000:
        cells["queries"] = f"{int(queries) / 1000:.0f}k"
    if cells["student"] == NO_TEST:
        cells |= dict.fromkeys(("teacher", "student", "agree"), "-")
    seeds = "" if cells["seeds"] == "1" else f" x{cells['seeds']}"
    return [escape(cells["strategy"] + seeds), *(escape(cells[column]) for column in TERMINAL)]


def markdown(made: Sequence[Row]) -> str:
    """The table in Markdown, with its notes."""
    header = ["data", "student model", *COLUMNS]
    lines = [_line(header), _line(["---"] * len(header))]
    for row in made:
        cells = [row.cells[column] for column in COLUMNS] if not row.reason else [row.strategy, row.reason]
        padded = [row.data, row.student, *cells] + [""] * (len(COLUMNS) - len(cells))
        lines.append(_line([cell.replace("|", r"\|").replace("\n", " ") for cell in padded]))
    return "\n".join(lines) + "\n\n" + "\n".join(f"- {note}" for note in notes(made)) + "\n"


def csv_text(made: Sequence[Row]) -> str:
    """The table as comma-separated values."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["data", "student model", *COLUMNS, "missing because"])
    for row in made:
        writer.writerow([row.data, row.student, *(row.cells.get(column, "") for column in COLUMNS), row.reason])
    return text.getvalue()


def write(made: Sequence[Row], folder: Path) -> None:
    """Write ``table.md`` and ``table.csv`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(markdown(made), encoding="utf-8")
    (folder / "table.csv").write_text(csv_text(made), encoding="utf-8")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
