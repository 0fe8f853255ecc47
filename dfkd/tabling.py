"""Results on disk, put together with the tables of ``experiments/tables`` that they are of."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Iterator, Sequence

from dfkd import compare
from dfkd.config import available
from dfkd.errors import ConfigError
from dfkd.grids import TABLES, Cell, about, planned
from dfkd.report.document import Grid
from dfkd.report.results import FAILED, FAILURE, Result, collect, why
from dfkd.runs import PARTIAL

IDENTIFYING = "finished", "student", "seconds"  # of two results of one name: whether they are of one run


@dataclass(frozen=True)
class _Plan:
    """What a table asks for: run -> its cell and place; empty for runs of no known table."""

    cells: dict[str, Cell]

    def place(self, result: Result) -> int:
        """Where the run stands in the table; runs that it does not ask for come last."""
        run = str(result.content["run"])
        return list(self.cells).index(run) if run in self.cells else len(self.cells)

    def named(self, result: Result) -> Result:
        """The run as the table calls it."""
        cell = self.cells.get(str(result.content["run"]))
        return compare.labelled(result, cell) if cell is not None else result


def grids(folders: Sequence[Path]) -> list[Grid]:
    """The finished runs in or below the folders by their table, with what the table asks for and is not there.

    The first part of a run's name says its table; runs of no known table are grouped by that part as well. Whole tables
    come first, the largest of them before the others.

    Args:
        folders: of runs, or of result files that ``dfkd compare --keep`` copied.

    Raises:
        ConfigError: a folder does not exist, holds no result, or a damaged one; two runs have one name; or a table's
            YAML is malformed.
    """
    by_name: dict[str, list[Result]] = {}
    for result in _once(collect(folders)):
        by_name.setdefault(result.grid, []).append(result)
    if not by_name:
        fix = "give run folders, or a folder that 'dfkd compare --keep FOLDER' filled"
        raise ConfigError("no finished run", expected="result.json", found=", ".join(map(str, folders)), fix=fix)
    return sorted((_grid(name, by_name[name], folders) for name in sorted(by_name)), key=_largest_whole)


def _largest_whole(grid: Grid) -> tuple[bool, int]:
    """Sorts tables: whole ones before those of which runs are missing, large before small."""
    return bool(grid.missing) or not grid.known, -len(grid.results)


def compared(results: Sequence[Result], folders: Sequence[Path]) -> list[Grid]:
    """As :func:`grids`, of those runs among ``results`` that ``dfkd compare`` made, be their table known or not.

    Of two runs of one name the first counts; data sets of which nothing was begun are left out.

    Args:
        results: finished runs.
        folders: where they were found; searched for runs that failed.

    Raises:
        ConfigError: a table's YAML is malformed.
    """
    known, by_name = set(available(TABLES)), dict[str, dict[str, Result]]()
    for result in results:
        run = str(result.content["run"])
        if result.grid in known or result.table:
            by_name.setdefault(result.grid, {}).setdefault(run, result)
    made = [_shown(_grid(name, list(by_name[name].values()), folders)) for name in sorted(by_name)]
    return sorted(made, key=_largest_whole)


def _shown(grid: Grid) -> Grid:
    """Without data sets that have neither results nor failures: such columns also take away the others' costs."""
    there = {str(result.content["config"]["data"]["name"]) for result in grid.results}
    there |= {entry.data for entry in grid.missing if entry.reason.startswith(FAILED)}
    kept = [entry for entry in grid.missing if entry.data in there]
    return replace(grid, missing=tuple(kept))


def called(results: Sequence[Result]) -> list[Result]:
    """The runs in their order, strategies and students called as by the table that each is of, if it is known."""
    known = set(available(TABLES)) & {result.grid for result in results}
    plans = {name: _Plan({cell.run: cell for cell in planned(name)}) for name in known}
    return [plans[result.grid].named(result) if result.grid in plans else result for result in results]


def once(results: Sequence[Result]) -> list[Result]:
    """The runs, those left out that are there twice: in their own folder, and as a copy that was kept.

    Two runs of one name that differ are two runs.
    """
    found: dict[tuple[str, str], Result] = {}
    for result in results:
        told = json.dumps([result.content.get(key) for key in IDENTIFYING], sort_keys=True)
        found.setdefault((str(result.content["run"]), told), result)
    return list(found.values())


def _once(results: Sequence[Result]) -> list[Result]:
    """The same where a name may stand for one run only."""
    found: dict[str, Result] = {}
    for result in results:
        other = found.setdefault(str(result.content["run"]), result)
        if any(other.content.get(key) != result.content.get(key) for key in IDENTIFYING):
            where = f"{other.folder} and {result.folder}"
            raise ConfigError(f"two runs are called '{result.content['run']}'", found=where, fix="give one of the two")
    return list(found.values())


def _grid(name: str, results: Sequence[Result], folders: Sequence[Path]) -> Grid:
    known = name in available(TABLES)
    plan = _Plan({cell.run: cell for cell in planned(name)} if known else {})
    found = [plan.named(result) for result in sorted(results, key=plan.place)]
    there = {str(result.content["run"]) for result in results}
    failures = dict(_failures(folders))
    missing = [
        compare.absent(cell, _reason(run, failures)) for run, cell in plan.cells.items() if run not in there
    ]
    order = [part for cell in plan.cells.values() for part in (cell.student, cell.data, cell.strategy)]
    said = about(name) if known else ""
    return Grid(name, tuple(found), tuple(missing), known, tuple(dict.fromkeys(order)), said)


def _failures(folders: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """(path of a run, why it failed) for runs of which the last try failed."""
    for folder in folders:
        for path in sorted(folder.rglob(f"*{PARTIAL}/{FAILURE}")):
            yield path.parent.resolve().as_posix().removesuffix(PARTIAL), why(path)


def _reason(run: str, failures: dict[str, str]) -> str:
    why = next((why for path, why in failures.items() if path.endswith(f"/{run}")), None)
    return "not run" if why is None else f"{FAILED}: {why}"
