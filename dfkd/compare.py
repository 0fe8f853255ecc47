"""Grids of runs: data sets x students x strategies x seeds, from one YAML; finished runs are skipped, failures named.

Several processes may work on one grid: each takes runs that no other has.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, ContextManager, Mapping, Protocol, Sequence

from dfkd import pipeline
from dfkd.config import RunConfig, find_yaml, parse_overrides, read_yaml
from dfkd.errors import Busy, ConfigError, DfkdError, suggestion
from dfkd.pipeline import Listeners
from dfkd.report.results import Missing, Result, collect
from dfkd.runs import RunFolder

TABLES = "experiments/tables"
KEYS = ("settings", "data", "students", "strategies", "seeds")
BUDGET = ("steps", "batch_size", "teacher_queries")
WAIT_SECONDS = 2.0


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
        return self.folder.work / "failure.txt"


def load(table: str, overrides: Sequence[str] = (), only: Sequence[str] = ()) -> list[Job]:
    """The checked runs of a table's YAML, seed by seed, so that the first results cover the whole table.

    Args:
        table: name below ``experiments/tables`` or path of a YAML file.
        overrides: ``key=value`` for all runs, over what the table says.
        only: names of data sets, students, strategies; runs whose names are not among them are left out. Kinds of
            which none is named are not restricted.

    Raises:
        ConfigError: lists every problem of the table and of its runs; runs that are compared differ in their budget.
    """
    path = find_yaml(TABLES, table)
    grid = read_yaml(path)
    _check(grid, path)
    own = [key for key in parse_overrides(overrides) if key in ("seed", "run")]
    if own:
        raise ConfigError(f"a table gives its runs their '{own[0]}'", fix="leave it out, or use 'dfkd run'")
    jobs, problems = [], []
    checked: dict[tuple[str, str, str], RunConfig] = {}  # seeds differ in seed and name alone
    for cell in _chosen(_cells(grid, path.stem, overrides), only, grid):
        row = (cell.data, cell.student, cell.strategy)
        try:
            if row not in checked:
                checked[row] = pipeline.load_config(cell.overrides)
        except ConfigError as error:
            problems += [ConfigError(f"{cell}: {error}")] if cell.seed == 0 else []
            continue
        jobs.append(Job(cell, replace(checked[row], seed=cell.seed, run=cell.run)))
    if problems:
        raise ConfigError.joined(problems)
    _require_equal_budgets(jobs)
    return jobs


def _check(grid: Mapping[str, Any], path: Path) -> None:
    problems = [
        ConfigError(f"{path}: unknown key '{key}'", fix=suggestion(str(key), KEYS)) for key in grid if key not in KEYS
    ]
    for kind in ("data", "students", "strategies"):
        rows = grid.get(kind)
        if not isinstance(rows, Mapping) or not rows:
            problems.append(ConfigError(f"{path}: no {kind}", expected=f"{kind}: {{NAME: {{KEY: VALUE}}}}", found=rows))
            continue
        for name, row in rows.items():
            if row is not None and not isinstance(row, Mapping):
                problems.append(ConfigError(f"{path}: {kind}.{name}", expected="a mapping of settings", found=row))
    if problems:
        raise ConfigError.joined(problems)


def _cells(grid: Mapping[str, Any], name: str, overrides: Sequence[str]) -> list[Cell]:
    cells = []
    shared, seeds = grid.get("settings") or {}, int(grid.get("seeds") or 1)
    for data, data_row in grid["data"].items():
        for student, student_row in grid["students"].items():
            for strategy, strategy_row in grid["strategies"].items():
                rows = [dict(row or {}) for row in (data_row, student_row, strategy_row)]
                wanted = [int(row.pop("seeds")) for row in rows if "seeds" in row]
                settings: dict[str, Any] = {"data": data, **shared, "strategy": strategy}
                for row in rows:
                    settings.update(row)
                for seed in range(wanted[-1] if wanted else seeds):
                    run = "/".join(_slug(part) for part in (name, data, student, strategy, f"seed{seed}"))
                    given = [f"{key}={_plain(value)}" for key, value in settings.items()]
                    cells.append(Cell(str(data), str(student), str(strategy), seed, run, (*given, *overrides)))
    return sorted(cells, key=lambda cell: cell.seed)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9=.,-]+", "_", str(name)).strip("_")


def _plain(value: object) -> str:
    """A value as an override has it: YAML on one line."""
    return value if isinstance(value, str) else json.dumps(value)


def _chosen(cells: list[Cell], only: Sequence[str], grid: Mapping[str, Any]) -> list[Cell]:
    names = {kind: {str(name) for name in grid[kind]} for kind in ("data", "students", "strategies")}
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
                fix="give train.steps, train.batch_size and train.teacher_queries in the table's 'settings', its data "
                "sets or its students, not in a strategy",
            )


def work_off(jobs: Sequence[Job], listeners: Callable[[Job], ContextManager[Listeners]]) -> None:
    """Do every run that is not finished, one after another; what fails is written down, and the rest goes on.

    Runs that another process is working on are waited for, and taken over if it ends without finishing them.

    Args:
        jobs: of :func:`load`.
        listeners: the listeners of a run that begins, as a context.
    """
    waiting = [job for job in jobs if not job.folder.finished]
    while waiting:
        busy = []
        for job in waiting:
            if job.folder.finished or job.failure.is_file():
                continue  # by another process
            try:
                with listeners(job) as heard:
                    pipeline.run(job.config, heard)
            except Busy:
                busy.append(job)
            except Exception as error:
                _note_failure(job, error)
        waiting = busy
        if waiting:
            time.sleep(WAIT_SECONDS)


def _note_failure(job: Job, error: Exception) -> None:
    job.failure.parent.mkdir(parents=True, exist_ok=True)
    text = str(error) if isinstance(error, DfkdError) else traceback.format_exc()
    job.failure.write_text(text, encoding="utf-8")


def forget_failures(jobs: Sequence[Job]) -> None:
    """Runs that failed are to be tried again."""
    for job in jobs:
        job.failure.unlink(missing_ok=True)


class Watcher(Protocol):
    """Who is shown how far a grid is."""

    def update(self, finished: int, failed: int, running: Sequence[str]) -> None:
        """Runs finished and failed so far, and a line on each run at work."""


def supervise(jobs: Sequence[Job], arguments: Sequence[str], workers: int, watcher: Watcher) -> None:
    """Let processes work the grid off, and watch them until they end; they are ended with this one.

    Args:
        jobs: of :func:`load`.
        arguments: of ``dfkd compare``, from which the processes load the same jobs.
        workers: number of processes; each prints into ``worker<i>.log`` in :func:`table_folder`.
        watcher: hears of the progress.

    Raises:
        DfkdError: a process ended before the work was done.
    """
    folder = table_folder(jobs)
    folder.mkdir(parents=True, exist_ok=True)
    logs = [folder / f"worker{number}.log" for number in range(workers)]
    processes = [_start_worker(arguments, log) for log in logs]
    try:
        while any(process.poll() is None for process in processes):
            _tell(jobs, watcher)
            time.sleep(WAIT_SECONDS)
    finally:
        for process in processes:
            process.terminate()
            process.wait()
    _tell(jobs, watcher)
    for process, log in zip(processes, logs):
        if process.returncode != 0:
            last = (log.read_text(encoding="utf-8").strip().splitlines() or [""])[-1]
            raise DfkdError(f"a worker ended with exit code {process.returncode}: {last}\n  what to do: see {log}")


def _start_worker(arguments: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dfkd.cli", "compare", *arguments, "--worker"]
    with log.open("ab") as output:
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)


def _tell(jobs: Sequence[Job], watcher: Watcher) -> None:
    finished = [job for job in jobs if job.folder.finished]
    failed = [job for job in jobs if job.failure.is_file()]
    begun = [job for job in jobs if (job.folder.work / "lock").is_file() and job not in failed]
    running = [f"{job.cell}: step {len(job.folder.read_log('metrics'))} of {job.config.train.steps}" for job in begun]
    watcher.update(len(finished), len(failed), running)


def table_folder(jobs: Sequence[Job]) -> Path:
    """The folder that holds all runs of a grid."""
    config = jobs[0].config
    return Path(config.runs) / config.run_name().split("/")[0]


def outcome(jobs: Sequence[Job]) -> tuple[list[Result], list[Missing]]:
    """The finished runs of a grid, labelled as the table calls them, and what is missing, with the reason."""
    found, missing = [], []
    for job in jobs:
        if job.folder.finished:
            found += [_labelled(result, job.cell) for result in collect([job.folder.final])]
        elif job.failure.is_file():
            last = job.failure.read_text(encoding="utf-8").strip().splitlines()
            missing.append(Missing(str(job.cell), f"failed: {last[0] if last else ''} (see {job.failure})"))
        else:
            missing.append(Missing(str(job.cell), "not run yet"))
    return found, missing


def _labelled(result: Result, cell: Cell) -> Result:
    content = dict(result.content)
    content["strategy"] = {**content["strategy"], "label": cell.strategy}
    content["config"] = {**content["config"], "student": {**content["config"]["student"], "label": cell.student}}
    return replace(result, content=content)


def keep_results(found: Sequence[Result], folder: Path) -> None:
    """Copy the runs' ``result.json``, without weights and logs, below ``folder``: small enough to be kept for good."""
    for result in found:
        target = folder / result.content["run"] / "result.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(result.content, ensure_ascii=False), encoding="utf-8")
