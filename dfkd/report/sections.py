"""The comparisons of tables as the page shows them: sheets, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from dfkd.errors import ConfigError
from dfkd.report import _formats
from dfkd.report.document import Grid
from dfkd.report.layout import Line, Sheet, notes

NOTES = tuple(note.replace("`", "") for note in _formats.NOTES)  # plain text; they are written in Markdown


@dataclass(frozen=True)
class Shown:
    """One student's table as text.

    Args:
        student: its label.
        heads: of all columns.
        lines: each with its cells, and its facts under the last columns.
        notes: what is to be known of it alone.
    """

    student: str
    heads: Sequence[str]
    lines: Sequence[tuple[Line, Sequence[str]]]
    notes: Sequence[str]


@dataclass(frozen=True)
class Section:
    """One table of ``dfkd compare``.

    Args:
        name: of the table.
        students: with a table each.
        said: why there is no table, how much is missing, which runs failed and why; a line each.
    """

    name: str
    students: Sequence[Shown]
    said: Sequence[str]


def sections(grids: Sequence[Grid]) -> list[Section]:
    """What the page shows of some grids; where runs cannot stand in one table, why not."""
    return [_section(grid) for grid in grids]


def _section(grid: Grid) -> Section:
    try:
        students = [_shown(sheet) for sheet in grid.sheets()]
    except ConfigError as error:
        return Section(grid.name, [], [str(error)])
    return Section(grid.name, students, _missing(grid))


def _shown(sheet: Sheet) -> Shown:
    heads = ["strategy", "seeds", *sheet.heads, *sheet.columns]
    lines = [(line, sheet.facts(line)) for line in sheet.lines() if sheet.was_tried(line.strategy)]
    names = [name for name in sheet.strategies if not sheet.was_tried(name)]
    lacking = [f"Not run at all: {', '.join(names)}."] if names else []
    return Shown(sheet.student, heads, lines, notes(sheet) + lacking)


def _missing(grid: Grid) -> list[str]:
    """How many of the runs are missing, and why some failed."""
    missing, total = len(grid.missing), len(grid.missing) + len(grid.results)
    said = [f"{missing} of {total} runs are missing."] if missing else []
    return said + [f"{entry.run}: {entry.reason}" for entry in grid.missing if entry.failed]
