"""Strategies over data sets: one table a student, with intervals, tests, the gap closed and the costs."""

from __future__ import annotations

from collections import Counter
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
        missing: runs that the table asked for; their cells say so, and they are counted, failed ones named.
    """
    return _markdown(sheets(results, missing), missing)


def _markdown(made: Sequence[Sheet], missing: Sequence[Missing]) -> str:
    parts = [_formats.markdown(sheet) for sheet in made]
    parts.append("\n".join(f"- {note}" for note in _formats.NOTES))
    if missing:
        parts.append("\n".join(f"- missing: {_formats.plain(line)}" for line in _listed(missing)))
    return "\n\n".join(parts) + "\n"


def _listed(missing: Sequence[Missing]) -> list[str]:
    """Failed runs one by one, with the reason; of the others, how many of each data set and strategy."""
    failed = [f"{entry.run}: {entry.reason}" for entry in missing if entry.failed]
    others = Counter(
        (f"{entry.data}, {entry.strategy}" if entry.data else entry.run, entry.reason)
        for entry in missing if not entry.failed
    )
    counted = [
        f"{name}: {count} run{'' if count == 1 else 's'}, {reason}" for (name, reason), count in sorted(others.items())
    ]
    return failed + counted


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
