"""Grids of runs: data sets x students x strategies x seeds, from one YAML; finished runs are skipped, failures named.

Several processes may work on one grid: each takes runs that no other has.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import statistics
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Callable, ContextManager, Mapping, Protocol, Sequence

from dfkd import identity, pipeline, state, workers
from dfkd.errors import Busy, ConfigError, DfkdError
from dfkd.grids import Cell, Job
from dfkd.pipeline import Listeners
from dfkd.report import browser
from dfkd.report.results import FAILED, FAILURE, Missing, Result, collect, why, with_teachers_pooled
from dfkd.runs import RunFolder

KEPT_SAMPLES = 8  # of a run, beside its kept result


def work_off(jobs: Sequence[Job], listeners: Callable[[Job], ContextManager[Listeners]]) -> None:
    """Do every run that is not finished, one after another; what fails is written down, and the rest goes on.

    Runs that another process is working on are waited for, and taken over if it ends without finishing them.

    Args:
        jobs: of :func:`dfkd.grids.load`.
        listeners: the listeners of a run that begins, as a context.
    """
    waiting = [job for job in jobs if not job.folder.finished]
    while waiting:
        busy = []
        for job in waiting:
            if job.folder.finished or job.failure.is_file():
                continue  # by another process
            if job.folder.busy:  # looked at before the run is prepared, which costs seconds that others need
                busy.append(job)
                continue
            try:
                with listeners(job) as heard:
                    pipeline.run(job.config, heard)
            except Busy:
                busy.append(job)
            except Exception as error:
                note_failure(job, error)
        waiting = busy
        if waiting:
            time.sleep(workers.WAIT_SECONDS)


def note_failure(job: Job, error: Exception) -> None:
    """Write down why a run failed."""
    job.failure.parent.mkdir(parents=True, exist_ok=True)
    text = str(error) if isinstance(error, DfkdError) else traceback.format_exc()
    job.failure.write_text(text, encoding="utf-8")


def forget_failures(jobs: Sequence[Job]) -> None:
    """Runs that failed are to be tried again."""
    for job in jobs:
        job.failure.unlink(missing_ok=True)


def check_ahead(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    """Look at every run that is to be done before any begins; one that cannot begin has failed, and is not tried.

    Rows of data are left for later: reading them takes seconds each.

    Returns:
        What is wrong -> the runs that it is wrong with.
    """
    found: dict[str, list[Job]] = {}
    fine: set[tuple[str, str]] = set()
    answers: dict[tuple[str, str, str], str] = {}  # seeds change nothing
    for job in jobs:
        cell = job.cell
        parts = {(cell.data, f"strategy {cell.strategy}"), (cell.data, f"student {cell.student}")}
        if job.folder.finished or job.folder.busy or parts <= fine:
            continue
        row = (cell.data, cell.student, cell.strategy)
        if row not in answers:
            try:
                pipeline.preflight(job.config, rows=False)
                answers[row] = ""
            except ConfigError as error:
                answers[row] = str(error)
        if answers[row]:
            note_failure(job, DfkdError(answers[row]))
            found.setdefault(answers[row], []).append(job)
        else:
            fine |= parts
    return found


class Watcher(Protocol):
    """Who is shown how far a grid is."""

    def update(self, finished: int, failed: int, running: Sequence[str], left: float | None) -> None:
        """Runs finished and failed so far, a line on each run at work, and the seconds left (``None``: unknown)."""


class Outlook:
    """How far a grid is, and how long the rest takes, by what its finished runs took.

    Args:
        jobs: of the grid.
        workers: how many are done at a time.
    """

    def __init__(self, jobs: Sequence[Job], workers: int) -> None:
        self.jobs, self.workers = jobs, workers
        self.took: dict[Cell, float] = {}
        self.guessed: dict[Cell, float] = {}  # of runs at work, what they will have taken

    def tell(self, watcher: Watcher) -> None:
        """Look at the runs' folders, and let the watcher know."""
        finished, failed, left, running = 0, 0, {}, []
        for job in self.jobs:
            if job.folder.finished:
                finished += 1
                if job.cell not in self.took:
                    self.took[job.cell] = _seconds(job)
            elif job.failure.is_file():
                failed += 1
            else:
                steps, begun = job.config.train.steps, (job.folder.work / "lock").is_file()
                log = job.folder.read_log("metrics") if begun else []
                done = len(log)
                left[job.cell] = 1 - min(1.0, done / steps)
                if done:
                    self.guessed[job.cell] = float(log[-1].get("seconds", 0.0)) * steps / done
                running += [f"{job.cell}: step {done} of {steps}"] if begun else []
        watcher.update(finished, failed, running, self.left(left))

    def left(self, shares: Mapping[Cell, float]) -> float | None:
        """Seconds until runs are done of which these shares are still to do; ``None`` while none tells how long."""
        if not (self.took or self.guessed):
            return None if shares else 0.0
        needed = [share * self._expected(cell) for cell, share in shares.items()]
        return max(sum(needed) / self.workers, *needed, 0.0)

    def _expected(self, cell: Cell) -> float:
        """The median of what the runs took that are most like this one: of its row, its data set, or any."""
        levels = ("data", "student", "strategy"), ("data", "strategy"), ("data", "student"), ("data",), ()
        for level in levels:
            alike = [
                seconds for other, seconds in self.took.items()
                if all(getattr(other, name) == getattr(cell, name) for name in level)
            ]
            if alike:
                return statistics.median(alike)
        return statistics.median(self.guessed.values())  # before the first is finished


def _seconds(job: Job) -> float:
    """What a finished run took; its pool was made before."""
    return float(sum(took for part, took in job.folder.result()["seconds"].items() if part != "synthesis"))


def supervise(jobs: Sequence[Job], arguments: Sequence[str], number: int, watcher: Watcher) -> None:
    """Let processes work the grid off, and watch them until they end; they are ended with this one.

    Args:
        jobs: of :func:`dfkd.grids.load`.
        arguments: of ``dfkd compare``, from which the processes load the same jobs.
        number: of processes; each prints into ``worker<i>.log`` in :func:`table_folder`.
        watcher: hears of the progress.

    A process that is killed, as where memory runs out, has its run noted as failed, and another takes its place.

    Raises:
        DfkdError: a process ended before the work was done.
    """
    folder = table_folder(jobs)
    folder.mkdir(parents=True, exist_ok=True)
    logs = [folder / f"worker{index}.log" for index in range(number)]
    outlook = Outlook(jobs, number)
    commands = [["compare", *arguments, "--worker"]] * number
    # killed between two runs, or on one that another worker has taken over since; not without end
    spare = iter(range(number))

    def again(process: int, signalled: int) -> bool:
        return blame(jobs, process, signalled) or next(spare, None) is not None

    workers.share(commands, logs, lambda: outlook.tell(watcher), killed=again)


def blame(jobs: Sequence[Job], process: int, number: int) -> bool:
    """Write down which run a process was on when a signal ended it; whether it was on any."""
    for job in jobs:
        if job.folder.locked_by == process and not job.folder.finished and not job.failure.is_file():
            cause = f"ended by signal {number} ({signal.Signals(number).name})"
            hint = ", which the system sends where memory runs out" if number == signal.SIGKILL else ""
            fix = "repeat the command: it goes on from the last checkpoint; with fewer --workers there is more memory"
            note_failure(job, DfkdError(f"{cause}{hint}: repeat the command\n  what to do: {fix}"))
            return True
    return False


def table_folder(jobs: Sequence[Job]) -> Path:
    """The folder that holds all runs of a grid."""
    config = jobs[0].config
    return Path(config.runs) / config.run_name().split("/")[0]


def outcome(jobs: Sequence[Job]) -> tuple[list[Result], list[Missing]]:
    """The finished runs of a grid, labelled as the table calls them, and what is missing, with the reason."""
    found, missing = [], []
    for job in jobs:
        changed = job.folder.finished and identity.changes(job.config)
        if changed:
            missing.append(absent(job.cell, f"{FAILED}: finished with other settings {changed}"))
        elif job.folder.finished:
            found += [labelled(result, job.cell) for result in collect([job.folder.final])]
        elif job.failure.is_file():
            missing.append(absent(job.cell, f"{FAILED}: {why(job.failure)} (see {job.failure})"))
        else:
            missing.append(absent(job.cell, "not run yet"))
    return with_teachers_pooled(found), missing


def finished(cells: Sequence[Cell], runs: Path) -> list[Result]:
    """Runs of a grid that are there, whatever their settings, labelled as the table calls them."""
    there = [cell for cell in cells if RunFolder(runs / cell.run).finished]
    return [labelled(result, cell) for cell in there for result in collect([runs / cell.run])]


def absent(cell: Cell, reason: str) -> Missing:
    """A cell's run that is not there, for a table to show."""
    return Missing(str(cell), reason, cell.data, cell.student, cell.strategy)


def labelled(result: Result, cell: Cell) -> Result:
    """A run, called as its table calls strategy and student."""
    content = dict(result.content)
    content["strategy"] = {**content["strategy"], "label": cell.strategy}
    content["config"] = {**content["config"], "student": {**content["config"]["student"], "label": cell.student}}
    return replace(result, content=content)


def require_writable(folder: Path) -> None:
    """Make a folder for tables or results, before any work.

    Raises:
        ConfigError: it cannot be made, or nothing can be written into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        fix = "name another folder"
        raise ConfigError(f"nothing can be kept in '{folder}'", found=error, fix=fix) from error


class Keeping:
    """A watcher that copies the result of each run as it finishes, and passes on what it hears.

    Args:
        watcher: hears of the progress as well.
        jobs: of the grid.
        folder: where the copies go; see :func:`keep_results`.

    Raises:
        ConfigError: the folder cannot be made.
    """

    def __init__(self, watcher: Watcher, jobs: Sequence[Job], folder: Path) -> None:
        self.watcher, self.folder = watcher, folder
        self._waiting = list(jobs)
        require_writable(folder)

    def update(self, finished: int, failed: int, running: Sequence[str], left: float | None) -> None:
        """As :meth:`Watcher.update`; what cannot be copied now is tried again, and does not end the work."""
        done: list[Job] = []
        waiting: list[Job] = []
        for job in self._waiting:
            (done if job.folder.finished else waiting).append(job)
        with contextlib.suppress(OSError):
            keep_results(outcome(done)[0], self.folder)
            keep_failures(self._waiting, self.folder)
            self._waiting = waiting
        self.watcher.update(finished, failed, running, left)


def keep_results(found: Sequence[Result], folder: Path) -> None:
    """Copy the runs' ``result.json``, without weights and logs, below ``folder``: small enough to be kept for good.

    Where the data set's own files were on this machine is left out. Some samples of each run go with it, for the page
    to show; none of runs that see the task's own texts, which are not ours to give away.
    """
    for result in found:
        config = result.content["config"]
        data = {name: value for name, value in config["data"].items() if name != "folder"}
        content = {**result.content, "config": {**config, "data": data}}
        kept = folder / result.content["run"]
        state.write_text(kept / "result.json", json.dumps(content, ensure_ascii=False))
        samples = browser.excerpt(result.log("samples"), KEPT_SAMPLES) if result.data_free else []
        if samples:
            lines = (json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)
            state.write_text(kept / "samples.jsonl", "".join(lines))


def keep_failures(jobs: Sequence[Job], folder: Path) -> None:
    """Write below ``folder`` which runs failed, and why in a line, for tables to show; what has finished since is gone.

    Tables that are made of the kept files can so tell a run that failed from one that was never tried.
    """
    for job in jobs:
        kept = RunFolder(folder / job.cell.run).work / FAILURE
        if job.failure.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            state.write_text(kept, f"{why(job.failure)}\n")
        elif job.folder.finished and kept.is_file():
            shutil.rmtree(kept.parent)
