"""What a grid of runs is made of: data sets x students x strategies x seeds, from one YAML, with one budget.

The YAML has ``settings`` (of every run), ``budget``, ``data``, ``students``, ``strategies`` (each a name with its
settings), ``seeds``, and ``about``, which says in a sentence what it is for. In settings, ``{data}`` stands for the
data set's name.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Mapping, Sequence

from dfkd import pipeline
from dfkd.config import RunConfig, find_yaml, parse_overrides, read_yaml
from dfkd.errors import ConfigError, refuse, suggestion
from dfkd.models.students import registry as students
from dfkd.report.results import BUDGET, FAILURE
from dfkd.runs import RunFolder

TABLES = "experiments/tables"
KINDS = ("data", "students", "strategies")
KEYS = ("about", "settings", "budget", *KINDS, "seeds")


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Args:
        data: the data set's name in the grid.
        student: the student's.
        strategy: the strategy's.
        seed: of the run.
        run: its name.
        overrides: ``key=value`` settings of the run, without seed and name.
    """

    data: str
    student: str
    strategy: str
    seed: int
    run: str
    overrides: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.data}, {self.student}, {self.strategy}, seed {self.seed}"


@dataclass(frozen=True)
class Job:
    """A cell with its checked configuration."""

    cell: Cell
    config: RunConfig

    @property
    def folder(self) -> RunFolder:
        """Where the run is, or will be."""
        return RunFolder(Path(self.config.runs) / self.config.run_name())

    @property
    def failure(self) -> Path:
        """Where the last failure is written down."""
        return self.folder.work / FAILURE


def load(table: str, overrides: Sequence[str] = (), only: Sequence[str] = ()) -> list[Job]:
    """The checked runs of a table's YAML, seed by seed, so that the first results cover the whole table.

    Args:
        table: name below ``experiments/tables`` or path of a YAML file.
        overrides: ``key=value`` for all runs, over what the table says; ``{data}`` stands for the data set's name.
        only: names of data sets, students, strategies; runs whose names are not among them are left out. Kinds of
            which none is named are not restricted.

    Raises:
        ConfigError: lists every problem of the table and of its runs; runs that are compared differ in their budget.
    """
    jobs, problems = loadable(table, overrides, only)
    refuse([ConfigError(f"{cell}: {error}") for cell, error in problems if cell.seed == 0])
    _require_equal_budgets(jobs)
    return jobs


def loadable(
    table: str, overrides: Sequence[str] = (), only: Sequence[str] = ()
) -> tuple[list[Job], list[tuple[Cell, ConfigError]]]:
    """Like :func:`load`, but runs with a problem are told beside the others; budgets are not compared.

    Raises:
        ConfigError: there is no such table, it is malformed, or it has no such name.
    """
    name, grid = _read(table)
    own = [key for key in parse_overrides(overrides) if key in ("seed", "run")]
    if own:
        raise ConfigError(f"a table gives its runs their '{own[0]}'", fix="leave it out, or use 'dfkd run'")
    jobs, problems = [], []
    wrong: dict[tuple[str, str, str], ConfigError] = {}
    checked: dict[tuple[str, str, str], RunConfig] = {}  # seeds differ in seed and name alone
    for cell in _chosen(_cells(grid, name, overrides), only, grid):
        row = (cell.data, cell.student, cell.strategy)
        if row not in checked and row not in wrong:
            try:
                checked[row] = pipeline.load_config(cell.overrides)
            except ConfigError as error:
                wrong[row] = error
        if row in wrong:
            problems.append((cell, wrong[row]))
        else:
            jobs.append(Job(cell, replace(checked[row], seed=cell.seed, run=cell.run)))
    return jobs, problems


def planned(table: str, only: Sequence[str] = ()) -> list[Cell]:
    """The cells of a table, their settings unchecked: to show results, neither teachers nor data are needed.

    Args:
        table: as for :func:`load`.
        only: as for :func:`load`.

    Raises:
        ConfigError: there is no such table, it is malformed, or it has no such name.
    """
    name, grid = _read(table)
    return _chosen(_cells(grid, name, ()), only, grid)


def about(table: str) -> str:
    """What a table is for, a sentence; empty: it does not say.

    Raises:
        ConfigError: as :func:`planned`.
    """
    _, grid = _read(table)
    return str(grid.get("about") or "")


def names_in(table: str) -> set[str]:
    """The names of a table's data sets, students and strategies.

    Raises:
        ConfigError: as :func:`planned`.
    """
    _, grid = _read(table)
    return {str(name) for kind in KINDS for name in grid[kind]}


def _read(table: str) -> tuple[str, Mapping[str, Any]]:
    """A table's name, and its checked content."""
    path = find_yaml(TABLES, table)
    grid = read_yaml(path)
    _check(grid, path)
    return path.stem, grid


def _check(grid: Mapping[str, Any], path: Path) -> None:
    problems = [
        ConfigError(f"{path}: unknown key '{key}'", fix=suggestion(str(key), KEYS)) for key in grid if key not in KEYS
    ]
    problems += _budget_problems(grid.get("budget"), f"{path}: budget")
    for kind in KINDS:
        rows = grid.get(kind)
        if not isinstance(rows, Mapping) or not rows:
            problems.append(ConfigError(f"{path}: no {kind}", expected=f"{kind}: {{NAME: {{KEY: VALUE}}}}", found=rows))
            continue
        problems += _folder_problems(rows, f"{path}: {kind}")
        for name, row in rows.items():
            problems += _row_problems(kind, row, f"{path}: {kind}.{name}", "budget" in grid)
    problems += _seed_problems(grid.get("seeds"), f"{path}: seeds")
    if not isinstance(grid.get("about"), (str, type(None))):
        problems.append(ConfigError(f"{path}: about", expected="a sentence", found=grid["about"]))
    problems += _settings_problems(grid.get("settings"), f"{path}: settings")
    problems += _twice(grid.get("settings"), f"{path}: settings", "budget" in grid)
    refuse(problems)


def _row_problems(kind: str, row: object, where: str, declared: bool) -> list[ConfigError]:
    """What is wrong with the settings of one data set, student or strategy."""
    if row is None:
        return []
    if not isinstance(row, Mapping):
        return [ConfigError(where, expected="a mapping of settings", found=row)]
    if kind == "strategies" and "budget" in row:
        fix = "give it to the table, a data set or a student"
        return [ConfigError(f"{where}: a strategy has no budget of its own", fix=fix)]
    problems = _budget_problems(row.get("budget"), f"{where}.budget")
    problems += _seed_problems(row.get("seeds"), f"{where}.seeds")
    problems += _settings_problems(row, where)
    return problems + _twice(row, where, declared or "budget" in row)


def _settings_problems(settings: object, where: str) -> list[ConfigError]:
    """Settings that are none, or that a table gives its runs itself."""
    if settings is None:
        return []
    if not isinstance(settings, Mapping):
        return [ConfigError(where, expected="a mapping of settings", found=settings)]
    own = [key for key in ("seed", "run") if key in settings]
    fix = "leave it out; 'seeds: N' is how many seeds there are"
    return [ConfigError(f"{where}: a table gives its runs their '{key}'", fix=fix) for key in own]


def _folder_problems(rows: Mapping[Any, Any], where: str) -> list[ConfigError]:
    """Names of which the runs would have one folder, or none: only plain letters, digits and ``=.,-`` are kept."""
    names: dict[str, str] = {}
    problems = []
    for name in map(str, rows):
        other = names.setdefault(_slug(name), name)
        if not _slug(name) or other is not name:
            found = f"'{other}' and '{name}'" if other is not name else f"'{name}'"
            expected = "names that differ in letters (a to z), digits, or one of =.,-"
            fix = "call one of them otherwise" if other is not name else "add such a letter or digit"
            problem = f"{where}: runs need a folder of their own"
            problems.append(ConfigError(problem, expected=expected, found=found, fix=fix))
    return problems


def _seed_problems(seeds: object, where: str) -> list[ConfigError]:
    if seeds is None or isinstance(seeds, int) and not isinstance(seeds, bool) and seeds >= 1:
        return []
    return [ConfigError(where, expected="how many, 1 or more", found=seeds, fix="seeds: 3")]


def _budget_problems(budget: object, where: str) -> list[ConfigError]:
    if budget is None:
        return []
    if not isinstance(budget, Mapping):
        return [ConfigError(where, expected=f"{{{', '.join(BUDGET)}}}", found=budget)]
    return [
        ConfigError(f"{where}: unknown key '{key}'", expected=", ".join(BUDGET), fix=suggestion(str(key), BUDGET))
        for key in budget if key not in BUDGET
    ]


def _twice(row: object, where: str, declared: bool) -> list[ConfigError]:
    """Settings that go round a budget which is declared."""
    keys = [f"train.{name}" for name in BUDGET if isinstance(row, Mapping) and f"train.{name}" in row]
    if not declared or not keys:
        return []
    fix = f"leave out {', '.join(keys)}, and give it in 'budget' (of the table, a data set or a student)"
    return [ConfigError(f"{where}: the table declares its budget, and this goes round it", found=keys[0], fix=fix)]


def _cells(grid: Mapping[str, Any], name: str, overrides: Sequence[str]) -> list[Cell]:
    cells = []
    shared, seeds = grid.get("settings") or {}, int(grid.get("seeds") or 1)
    kinds = students.STUDENTS.available()
    for data, data_row in grid["data"].items():
        more = filled(list(overrides), str(data))
        for student, student_row in grid["students"].items():
            for strategy, strategy_row in grid["strategies"].items():
                rows = [dict(row or {}) for row in (data_row, student_row, strategy_row)]
                wanted = [int(row.pop("seeds")) for row in rows if "seeds" in row]
                # of a pool, the strategy that made it is the row's name alone
                named = {} if any("pool" in row for row in rows) else {"strategy": strategy}
                kind = {"student": student} if student in kinds else {}
                settings: dict[str, Any] = {"data": data, **kind, **shared, **named}
                for budget in (grid.get("budget") or {}, *(row.pop("budget", None) or {} for row in rows)):
                    settings.update({f"train.{key}": value for key, value in budget.items()})
                for row in rows:
                    settings.update(row)
                for seed in range(wanted[-1] if wanted else seeds):
                    run = "/".join(_slug(part) for part in (name, data, student, strategy, f"seed{seed}"))
                    given = settings_of(filled(settings, data))
                    cells.append(Cell(str(data), str(student), str(strategy), seed, run, (*given, *more)))
    return sorted(cells, key=lambda cell: cell.seed)


def filled(value: Any, data: str) -> Any:
    """A YAML's value with the data set's name for every ``{data}``, in keys as well."""
    if isinstance(value, str):
        return value.replace("{data}", data)
    if isinstance(value, Mapping):
        return {filled(key, data): filled(item, data) for key, item in value.items()}
    return [filled(item, data) for item in value] if isinstance(value, (list, tuple)) else value


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9=.,-]+", "_", str(name)).strip("_")


def settings_of(values: Mapping[str, Any]) -> list[str]:
    """Settings as overrides have them."""
    return [setting(key, value) for key, value in values.items()]


def setting(key: str, value: object) -> str:
    """A setting as an override has it: YAML on one line, in quotes where it is text, which stays as it is."""
    return f"{key}={json.dumps(value, ensure_ascii=False)}"


def _chosen(cells: list[Cell], only: Sequence[str], grid: Mapping[str, Any]) -> list[Cell]:
    names = {kind: {str(name) for name in grid[kind]} for kind in KINDS}
    unknown = [name for name in only if not any(name in known for known in names.values())]
    if unknown:
        fix = suggestion(unknown[0], set().union(*names.values()))
        raise ConfigError(f"the table has no '{unknown[0]}'", fix=fix)
    wanted = {kind: (known & set(only)) or known for kind, known in names.items()}
    return [
        cell for cell in cells
        if cell.data in wanted["data"] and cell.student in wanted["students"] and cell.strategy in wanted["strategies"]
    ]


def _require_equal_budgets(jobs: Sequence[Job]) -> None:
    """Refuse a table that would compare strategies on unequal terms."""
    budgets: dict[tuple[str, str], tuple[Any, Job]] = {}
    for job in jobs:
        budget = {name: getattr(job.config.train, name) for name in BUDGET}
        first, other = budgets.setdefault((job.cell.data, job.cell.student), (budget, job))
        if budget != first:
            raise ConfigError(
                f"unequal budgets: {other.cell} and {job.cell}", expected=first, found=budget,
                fix="give it in the table's 'budget', or that of a data set or a student, and not in a strategy",
            )
