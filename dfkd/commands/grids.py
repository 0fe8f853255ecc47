"""Commands over many runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import typer

from dfkd.commands._app import Overrides, app
from dfkd.console import console, quiet_libraries
from dfkd.errors import ConfigError

if TYPE_CHECKING:
    from dfkd.grids import Job
    from dfkd.report.results import Missing, Result

ENGINES = ("processes", "ray")


@app.command()
def compare(
    table: str = typer.Argument(..., help="A table of experiments/tables, or a YAML file like them."),
    overrides: Optional[list[str]] = Overrides,
    only: Optional[list[str]] = typer.Option(None, help="Only this data set, student or strategy; repeat for more."),
    workers: int = typer.Option(1, min=1, help="Processes that share the runs; give each one thread: threads=1."),
    out: Optional[Path] = typer.Option(None, help="Folder for the tables; default: that of all the table's runs."),
    engine: str = typer.Option(
        "processes", help="What does the runs: processes of this machine, or ray (a cluster at RAY_ADDRESS, or local)."
    ),
    keep: Optional[Path] = typer.Option(None, help="Copy the small result files below this folder, as runs finish."),
    show: bool = typer.Option(False, "--show", help="Run nothing; show what is finished."),
    worker: bool = typer.Option(False, "--worker", hidden=True),
) -> None:
    """Run a grid of data sets, students, strategies and seeds, and print its tables.

    Finished runs are skipped, interrupted ones go on, failed ones are named (then the exit code is 1). Runs that are
    compared must have the same budget: steps, batch size, teacher queries and generated tokens.

    Example: `dfkd compare tiny --only sst2 --workers 2 threads=1`
    """
    from dfkd import compare as work
    from dfkd import grids, ray_engine
    from dfkd.console import GridProgress, quiet_listeners
    from dfkd.report import comparison

    quiet_libraries()
    given = overrides or []
    check_engine(engine)
    for folder in (out, keep):
        if folder is not None:
            work.require_writable(folder)
    jobs = grids.load(table, given, only or [])
    if worker:
        return work.work_off(jobs, quiet_listeners)
    if not show:
        work.forget_failures(jobs)
        for problem, stuck in work.check_ahead(jobs).items():
            _tell_stuck(problem, stuck)
        arguments = [table, *given, *(part for name in only or [] for part in ("--only", name))]
        with GridProgress(len(jobs)) as progress:
            watcher = progress if keep is None else work.Keeping(progress, jobs, keep)
            if engine == "ray":
                ray_engine.supervise(jobs, workers, watcher)
            else:
                work.supervise(jobs, arguments, workers, watcher)
    found, missing = work.outcome(jobs)
    where = out or work.table_folder(jobs)
    sys.stdout.write(comparison.markdown(found, missing))
    # what a part of the runs gave must not stand where the whole table did
    whole = _whole(table, given, Path(jobs[0].config.runs)) if only and out is None else None
    written = ""
    if not show or out is not None:  # a look changes nothing, unless a folder for it is named
        comparison.write(where, *(whole or (found, missing)))
        written = f"; table: {where / 'comparison.md'}"
    console.print(f"{len(found)} of {len(jobs)} runs{written}", markup=False, soft_wrap=True)
    if keep is not None:
        work.keep_results(found, keep)
        work.keep_failures(jobs, keep)
    if missing and not show:
        raise typer.Exit(1)


def _tell_stuck(problem: str, jobs: list[Job]) -> None:
    """Say which runs cannot begin, and why; the others are done."""
    rows = dict.fromkeys(f"{job.cell.data}, {job.cell.student}, {job.cell.strategy}" for job in jobs)
    console.print(f"cannot begin ({len(jobs)} runs): {'; '.join(rows)}\n{problem}", markup=False, soft_wrap=True)


def _whole(table: str, overrides: list[str], runs: Path) -> tuple[list[Result], list[Missing]]:
    """What there is of all runs of a table, and what is missing.

    Rows that cannot be run here, for want of a teacher or since an option is not theirs, are in it where they finished.
    """
    from dfkd import compare as work
    from dfkd import grids
    from dfkd.report.results import with_teachers_pooled

    jobs, problems = grids.loadable(table, overrides)
    found, missing = work.outcome(jobs)
    others = work.finished([cell for cell, _ in problems], runs)
    return (with_teachers_pooled([*found, *others]) if others else found), missing


def check_engine(engine: str) -> None:
    """Whether there is such an engine, and it is installed.

    Raises:
        ConfigError: it is not.
    """
    from dfkd import ray_engine

    if engine not in ENGINES:
        raise ConfigError(f"there is no engine '{engine}'", expected=" or ".join(ENGINES))
    if engine == "ray":
        ray_engine.check()


@app.command()
def sweep(
    name: str = typer.Argument(..., metavar="SWEEP", help="A sweep of experiments/sweeps, or a YAML file like them."),
    overrides: Optional[list[str]] = Overrides,
    trials: Optional[int] = typer.Option(None, min=1, help="Trials in all; default: what the YAML says."),
    workers: int = typer.Option(1, min=1, help="Processes that share the trials; give each one thread: threads=1."),
    out: Optional[Path] = typer.Option(None, help="Folder of the sweep; default: sweeps/SWEEP."),
    show: bool = typer.Option(False, "--show", help="Run nothing; show what is finished."),
    worker: bool = typer.Option(False, "--worker", hidden=True),
    begun: Optional[list[int]] = typer.Option(None, hidden=True),
) -> None:
    """Search settings by trials that see no real data, and print the best ones (needs `pip install '.[sweep]'`).

    Trials are judged by the student's agreement with the teacher on pseudo data, its latency or its size. Poor ones
    are ended early. The same command goes on with what was interrupted; failed trials are named (then the exit code is
    1).

    Example: `dfkd sweep as_dfd_ag_news --trials 30 --workers 2 threads=1`
    """
    from dfkd.console import GridProgress
    from dfkd.sweeping import spec

    quiet_libraries()
    spec.require_optuna()
    loaded = spec.load(name, overrides or [], trials, out)
    from dfkd.sweeping import study, work

    if worker:
        return work.work_off(loaded, begun or [], lambda text: console.print(text, markup=False, soft_wrap=True))
    if not show:
        given = [name, *(overrides or []), f"--trials={loaded.plan.trials}", f"--out={loaded.out}"]
        study.open_study(loaded)  # what is wrong with the folder is told before the bar appears
        with GridProgress(loaded.plan.trials, "trials") as progress:
            work.supervise(loaded, given, workers, progress)
    if not _show_sweep(loaded) and not show:
        raise typer.Exit(1)


def _show_sweep(loaded: Any) -> bool:
    """Print what a sweep gave and write it down; whether every trial was done, and none failed."""
    from dfkd.sweeping import outcome, study

    opened = study.open_study(loaded, new=False)
    found = outcome.outcome(loaded, opened)
    if found.complete:
        console.print(outcome.table(loaded, found))
    for line in [*outcome.lines(loaded, opened, found), *(f"written: {path}" for path in outcome.write(loaded, found))]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    return not found.failed and not found.unfinished
