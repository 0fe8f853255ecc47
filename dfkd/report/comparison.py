"""Strategies over data sets: one table a student, with intervals, tests, the gap closed and the costs."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

from dfkd.report import _formats
from dfkd.report.cells import SIGNIFICANT, Entries, Entry, entries
from dfkd.report.layout import Sheet, sheets
from dfkd.report.results import Missing, Result

__all__ = ["SIGNIFICANT", "Entries", "Entry", "csv_text", "entries", "latex", "markdown", "write"]


def markdown(results: Sequence[Result], missing: Sequence[Missing] = ()) -> str:
    """One table a student: strategies down, data sets across, then the mean gap closed and the costs.

    Args:
        results: as for :func:`entries`.
        missing: runs that the table asked for; their cells say so, and they are listed.
    """
    return _markdown(sheets(results, missing), missing)


def _markdown(made: Sequence[Sheet], missing: Sequence[Missing]) -> str:
    parts = [_formats.markdown(sheet) for sheet in made]
    parts.append("\n".join(f"- {note}" for note in _formats.NOTES))
    if missing:
        listed = [f"- missing: {_formats.plain(f'{entry.run}: {entry.reason}')}" for entry in missing]
        parts.append("\n".join(listed))
    return "\n\n".join(parts) + "\n"


def csv_text(results: Sequence[Result], missing: Sequence[Missing] = ()) -> str:
    """One line for each student, data set and strategy, with all numbers."""
    return _formats.csv_text(sheets(results, missing))


def latex(results: Sequence[Result], missing: Sequence[Missing] = ()) -> str:
    """One ``table*`` environment a student."""
    return _formats.latex(sheets(results, missing))


def write(folder: Path, results: Sequence[Result], missing: Sequence[Missing] = ()) -> str:
    """Write ``comparison.md``, ``.csv`` and ``.tex`` into ``folder``; returns the Markdown."""
    made = sheets(results, missing)
    text = _markdown(made, missing)
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, content in (("md", text), ("csv", _formats.csv_text(made)), ("tex", _formats.latex(made))):
        (folder / f"comparison.{suffix}").write_text(content, encoding="utf-8")
    return text
