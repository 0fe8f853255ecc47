"""Published numbers in their papers' layout, ours beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

from dfkd.config import read_yaml
from dfkd.errors import ConfigError, suggestion
from dfkd.report._formats import plain
from dfkd.report.cells import Entry, entries
from dfkd.report.document import Grid

KEYS = ("paper", "teacher", "data", "students", "methods", "teachers", "cells")
UNREAD = "n/a"


class Published(NamedTuple):
    """A published accuracy in %, and where it was read; both ``None``: it could not be read."""

    value: float | None
    source: str | None


@dataclass(frozen=True)
class Paper:
    """A paper's table.

    Args:
        paper: who and where.
        teacher: its model.
        data: our name of a data set -> the paper's.
        students: the paper's name -> those of ours.
        methods: the paper's name -> our strategies.
        teachers: our name of a data set -> the teacher's accuracy.
        cells: (data set, student, method) -> accuracy.
    """

    paper: str
    teacher: str
    data: Mapping[str, str]
    students: Mapping[str, Sequence[str]]
    methods: Mapping[str, Sequence[str]]
    teachers: Mapping[str, Published]
    cells: Mapping[tuple[str, str, str], Published]


def read(path: Path) -> Paper:
    """A paper's table out of its YAML, checked: every cell must be there, be it empty.

    Raises:
        ConfigError: lists every problem found.
    """
    content = read_yaml(path)
    problems = [ConfigError(f"unknown key '{key}'", fix=suggestion(key, KEYS)) for key in content if key not in KEYS]
    problems += [ConfigError(f"no '{key}'", fix=f"add {key}: ...") for key in KEYS if not content.get(key)]
    if not problems:
        problems = _wrong_names(content)
    if problems:
        raise ConfigError(f"{path}: {ConfigError.joined(problems)}")
    places = [(d, s, m) for d in content["data"] for s in content["students"] for m in content["methods"]]
    problems += _strangers(content["cells"], places)
    problems += _strangers(content["teachers"], [(str(data),) for data in content["data"]])
    cells = {place: _published(content["cells"], place, problems) for place in places}
    teachers = {data: _published(content["teachers"], (data,), problems) for data in content["data"]}
    if problems:
        raise ConfigError(f"{path}: {ConfigError.joined(problems)}")
    named = (content["data"], content["students"], content["methods"])
    return Paper(str(content["paper"]), str(content["teacher"]), *named, teachers, cells)


def _wrong_names(content: Mapping[str, Any]) -> list[ConfigError]:
    """What is wrong with the names of data sets, students and methods."""
    problems = []
    for key in ("data", "students", "methods", "teachers", "cells"):
        if not isinstance(content[key], Mapping):
            problems.append(ConfigError(f"'{key}' is no mapping", expected="NAME: ...", found=content[key]))
    for key in ("students", "methods"):
        for name, ours in content[key].items() if isinstance(content[key], Mapping) else ():
            if not isinstance(ours, list) or not ours:
                problems.append(ConfigError(f"{key}.{name}", expected="a list of our names", found=ours))
    return problems


def _strangers(values: Mapping[str, Any], places: Sequence[tuple[str, ...]]) -> list[ConfigError]:
    """Cells that the table has no place for."""
    known = {place[:depth] for place in places for depth in range(1, len(place) + 1)}
    found: list[ConfigError] = []
    waiting: list[tuple[tuple[str, ...], Any]] = [((str(key),), value) for key, value in values.items()]
    while waiting:
        place, value = waiting.pop()
        if place not in known:
            siblings = {other[-1] for other in known if len(other) == len(place)}
            found.append(ConfigError(f"no place for '{': '.join(place)}'", fix=suggestion(place[-1], siblings)))
        elif len(place) < len(places[0]) and isinstance(value, Mapping):
            waiting += [((*place, str(key)), inner) for key, inner in value.items()]
    return found


def _published(values: Any, place: Sequence[str], problems: list[ConfigError]) -> Published:
    """One cell; what is wrong with it goes to ``problems``."""
    for name in place:
        values = values.get(name) if isinstance(values, Mapping) else None
    where = ": ".join(place)
    if not isinstance(values, Mapping) or set(values) != {"value", "source"}:
        fix = "write {value: null, source: null} for a number that could not be read"
        problems.append(ConfigError(f"{where} is no cell", expected="value and source", found=values, fix=fix))
        return Published(None, None)
    value, source = values["value"], values["source"]
    if value is None and source is None:
        return Published(None, None)
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and 1 < value <= 100  # no share of 1
    if not number or not isinstance(source, str) or not source.strip():
        fix = "no number stands here without the table and page it was read from"
        expected = "value: accuracy in %, above 1 and up to 100, and source: TEXT; or null for both"
        problems.append(ConfigError(f"{where} is no published number", expected=expected, found=dict(values), fix=fix))
        return Published(None, None)
    return Published(float(value), source.strip())


def markdown(paper: Paper, grids: Sequence[Grid], student: str | None = None) -> str:
    """A table for each of the paper's students: methods down, data sets across, ``published / ours`` in each cell.

    Args:
        paper: the published numbers.
        grids: our runs.
        student: the student of ours to lay beside all of the paper's; ``None``: those that the paper's file names.

    Raises:
        ConfigError: no run has a student of that name; or runs cannot stand in one table.
    """
    ours = {grid.name: _own(grid) for grid in grids}
    known = {key[0] for made in ours.values() for key in made}
    if student is not None and student not in known:
        raise ConfigError(f"no student '{student}' in these results", fix=suggestion(student, known))
    parts = [f"Published / ours, accuracy in %, mean ± deviation over n seeds: {plain(paper.paper)}."]
    there = f"Teacher there: {plain(paper.teacher)}; the accuracy of ours stands behind ours."
    parts.append(f"{there} {UNREAD}: could not be read, or not run.")
    for theirs, names in paper.students.items():
        beside = list(names) if student is None else [student]
        note = "" if student is None else f" (ours: {plain(student)}, another model: no reproduction)"
        parts.append(f"Student: {plain(theirs)}{note}\n\n" + _table(paper, theirs, beside, ours))
    sources = sorted({cell.source for cell in (*paper.cells.values(), *paper.teachers.values()) if cell.source})
    parts += ["\n".join(f"- source: {plain(source)}" for source in sources)] if sources else []
    return "\n\n".join(parts) + "\n"


class _Own(NamedTuple):
    """A cell of ours, and the accuracy of its teacher."""

    entry: Entry
    teacher: float | None


_Owns = Mapping[tuple[str, str, str], _Own]
"""(student, data set, strategy) -> ours."""


def _own(grid: Grid) -> _Owns:
    teachers = {(run.setting.student, run.setting.data): run.score("teacher") for run in grid.results}
    return {place: _Own(entry, teachers.get(place[:2])) for place, entry in entries(grid.results).items()}


def _table(paper: Paper, theirs: str, beside: Sequence[str], ours: Mapping[str, _Owns]) -> str:
    heads = [f"{plain(name)} (teacher {_shown(paper.teachers[data])})" for data, name in paper.data.items()]
    lines = [f"| method | {' | '.join(heads)} |", f"| --- |{' --- |' * len(heads)}"]
    for method, strategies in paper.methods.items():
        cells = [
            f"{_shown(paper.cells[data, theirs, method])} / {_ours(ours, beside, data, strategies)}"
            for data in paper.data
        ]
        lines.append(f"| {plain(method)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(cell: Published) -> str:
    return UNREAD if cell.value is None else f"{cell.value:.1f}"


def _ours(ours: Mapping[str, _Owns], students: Sequence[str], data: str, strategies: Sequence[str]) -> str:
    """Our numbers for a cell; named by strategy and grid where there are several."""
    found: list[tuple[str, str, _Own]] = [
        (grid, strategy, made[student, data, strategy]) for grid, made in ours.items()
        for student in students for strategy in strategies if (student, data, strategy) in made
    ]
    if not found:
        return UNREAD
    grids = {grid for grid, _, _ in found}
    shown = []
    for grid, strategy, (entry, teacher) in found:
        spread = "" if entry.deviation is None else f" ± {100 * entry.deviation:.1f}"
        names = [strategy] * (len(strategies) > 1) + [grid] * (len(grids) > 1)
        names += [] if teacher is None else [f"teacher {100 * teacher:.1f}"]
        shown.append(plain(f"{100 * entry.score.mean:.1f}{spread} ({', '.join([f'n {entry.runs}', *names])})"))
    return "; ".join(shown)
