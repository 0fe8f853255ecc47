"""Trials done: one after another in each process, pruned early, gone on with after a kill."""

from __future__ import annotations

import os
import shutil
import statistics
import time
import traceback
from typing import Any, Callable, Sequence

import optuna
from optuna.study import Study
from optuna.trial import Trial, TrialState

from dfkd import pipeline, runs, workers
from dfkd.compare import Watcher
from dfkd.errors import Alarmed, ConfigError, DfkdError, TrainingDiverged, refuse
from dfkd.pipeline import Listeners
from dfkd.runs import RunFolder
from dfkd.sweeping import study as studies
from dfkd.sweeping.spec import Sweep

FAILURE, REASON = "failure.txt", "reason"
PRUNED = ".pruned"
ONLY_FOR_RESUME = ("pool", "heldout")

Say = Callable[[str], None]


class Abandoned(DfkdError):
    """The process that began this one is gone: its trial stays where it is, to be gone on with."""


class Reporter:
    """Hears a trial's steps, reports its agreement to the study, and ends it where the pruner says so.

    Args:
        trial: of the study.
        prunes: whether intermediate values count.
        parent: the process that began this one.
    """

    def __init__(self, trial: Trial, prunes: bool, parent: int) -> None:
        self.trial, self.prunes, self.parent = trial, prunes, parent
        known = trial.study.get_trials(deepcopy=False)[trial.number]
        self.reported = set(known.intermediate_values)  # before a kill

    def step(self, record: dict[str, Any], steps: int) -> None:
        """Hear of a step.

        Raises:
            TrialPruned: the trial is not worth going on.
            Abandoned: nobody waits for it.
        """
        require_parent(self.parent)
        step, agreement = record["step"], record.get("heldout_agreement")
        if not self.prunes or agreement is None or step == 0:  # after one step no student has learned anything
            return
        if step not in self.reported:
            self.trial.report(agreement, step)
        if step < steps - 1 and self.trial.should_prune():
            raise optuna.TrialPruned


def require_parent(parent: int) -> None:
    """Go on only where the process that began this one is still there.

    Raises:
        Abandoned: it is gone.
    """
    if os.getppid() != parent:
        raise Abandoned("the sweep was ended")


def work_off(sweep: Sweep, begun: Sequence[int], say: Say) -> None:
    """Go on with some trials, then begin others until there are as many as are wanted.

    Args:
        sweep: of :func:`dfkd.sweeping.spec.load`.
        begun: numbers of trials that were begun and not ended, and that no other process goes on with.
        say: hears a line of text when a trial begins and ends.
    """
    parent = os.getppid()
    study = studies.open_study(sweep)
    for number in begun:
        _work(sweep, study, studies.begun_trial(study, number), say, parent)
    while (trial := studies.next_trial(sweep, study)) is not None:
        _work(sweep, study, trial, say, parent)


REASONS: dict[type, str] = {TrainingDiverged: "diverged", Alarmed: "alarm", optuna.TrialPruned: "pruned"}


def _work(sweep: Sweep, study: Study, trial: Trial, say: Say, parent: int) -> None:
    """Do one trial, and tell the study how it ended."""
    require_parent(parent)
    values = {key: dimension.suggest(trial, key) for key, dimension in sweep.space.items()}
    started = time.monotonic()
    say(f"begin trial {trial.number}: {shown(values)}")
    heard = Listeners(step=Reporter(trial, sweep.prunes, parent).step, alarm=lambda text: say(f"alarm: {text}"))
    try:
        result = pipeline.run(sweep.config(trial.number, values), heard, scored=False)
        study.tell(trial, [objective.read(result) for objective in sweep.objectives])
    except (optuna.TrialPruned, TrainingDiverged, Alarmed) as error:
        # a setting with which the training diverges is a bad one, and the sampler is to learn it
        trial.set_user_attr(REASON, REASONS[type(error)])
        study.tell(trial, state=TrialState.PRUNED)
        put_aside(sweep, trial.number)
    except Abandoned:
        raise
    except Exception as error:
        _note_failure(sweep, trial, error)
        study.tell(trial, state=TrialState.FAIL)
    say(f"end trial {trial.number}: {time.monotonic() - started:.0f} s")


def shown(values: dict[str, Any]) -> str:
    """A trial's values in one line, for people."""
    rounded = ((key, f"{value:.4g}" if isinstance(value, float) else value) for key, value in values.items())
    return ", ".join(f"{key}={value}" for key, value in rounded)


def folder(sweep: Sweep, number: int) -> RunFolder:
    """The run folder of a trial."""
    return RunFolder(sweep.out.parent / sweep.run_name(number))


def put_aside(sweep: Sweep, number: int) -> None:
    """Keep a pruned trial's logs in ``<number>.pruned``, without what only a resume needs, which takes the room."""
    there = folder(sweep, number)
    if not there.work.is_dir():
        return
    for path in [*there.work.glob("checkpoint*"), *(there.work / name for name in ONLY_FOR_RESUME)]:
        shutil.rmtree(path, ignore_errors=True)
    (there.work / "lock").unlink(missing_ok=True)
    os.replace(there.work, there.final.with_name(there.final.name + PRUNED))


def _note_failure(sweep: Sweep, trial: Trial, error: Exception) -> None:
    text = str(error) if isinstance(error, DfkdError) else traceback.format_exc()
    work = folder(sweep, trial.number).work
    work.mkdir(parents=True, exist_ok=True)
    (work / FAILURE).write_text(text, encoding="utf-8")
    last = error if isinstance(error, DfkdError) else f"{type(error).__name__}: {error}"
    trial.set_user_attr(REASON, str(last).splitlines()[0])


def supervise(sweep: Sweep, arguments: Sequence[str], processes: int, watcher: Watcher) -> None:
    """Let processes do the trials, and watch them until they end; they are ended with this one.

    Args:
        sweep: of :func:`dfkd.sweeping.spec.load`.
        arguments: of ``dfkd sweep``, from which the processes load the same sweep.
        processes: how many share the trials; each prints into ``worker<i>.log`` in the sweep's folder.
        watcher: hears of the progress.

    Raises:
        ConfigError: settings would fail their trials, or the folder holds another sweep.
        Busy: another process works on this sweep.
        DfkdError: a process ended before the work was done.
    """
    study = studies.open_study(sweep)
    held = runs.lock(sweep.out, f"the sweep '{sweep.out}'", "choose another folder with --out")
    try:
        # nobody else is at work: whatever is still called running was killed
        begun = [trial.number for trial in studies.trials(study, TrialState.RUNNING)]
        for trial in studies.trials(study, TrialState.PRUNED):
            put_aside(sweep, trial.number)
        if not begun and len(studies.trials(study)) >= sweep.plan.trials:
            return
        _require_fit(sweep)
        shares = [[f"--begun={number}" for number in begun[index::processes]] for index in range(processes)]
        commands = [["sweep", *arguments, *part, "--worker"] for part in shares]
        logs = [sweep.out / f"worker{index}.log" for index in range(processes)]
        workers.share(commands, logs, lambda: tell(sweep, study, watcher, processes), held.fileno())
    finally:
        held.close()


def _require_fit(sweep: Sweep) -> None:
    """Check what can be checked before any work of everything that trials may be given.

    Raises:
        ConfigError: lists every problem found, once.
    """
    problems: dict[str, ConfigError] = {}
    for config in sweep.probes:
        try:
            pipeline.preflight(config, scored=False)
        except ConfigError as error:
            problems.setdefault(str(error), _where_searched(error, sweep))
    refuse(problems.values())


def _where_searched(error: ConfigError, sweep: Sweep) -> ConfigError:
    """The error; where it is about what is searched, with where its values stand: no trial can take others."""
    searched = [key for key in sweep.space if key in str(error)]
    if not searched:
        return error
    keys = ", ".join(searched)
    return ConfigError(f"{error}\n  searched: {keys}: change what stands under 'search' in the sweep's YAML")


def tell(sweep: Sweep, study: Study, watcher: Watcher, processes: int = 1) -> None:
    """Let the watcher know how far the sweep is, and what is best so far."""
    done = studies.trials(study, TrialState.COMPLETE, TrialState.PRUNED)
    pruned = sum(trial.state == TrialState.PRUNED for trial in done)
    lines = [f"{pruned} pruned" + best_line(sweep, study)] if done else []
    steps = sweep.first.train.steps
    for trial in studies.trials(study, TrialState.RUNNING):
        at = len(folder(sweep, trial.number).read_log("metrics"))
        lines.append(f"trial {trial.number}: step {at} of {steps}, {shown(trial.params)}")
    failed = len(studies.trials(study, TrialState.FAIL))
    took = [trial.duration.total_seconds() for trial in done if trial.duration is not None]
    to_do = sweep.plan.trials - len(done) - failed
    left = statistics.fmean(took) * to_do / processes if took else None
    watcher.update(len(done), failed, lines, left)


def best_line(sweep: Sweep, study: Study) -> str:
    """The best trial so far, or the number of those that no other beats; empty before the first has ended."""
    if not studies.trials(study, TrialState.COMPLETE):
        return ""
    if len(sweep.objectives) > 1:
        return f"; {len(study.best_trials)} trials that no other beats"
    best = study.best_trial
    return f"; best so far {sweep.objectives[0].name} {best.values[0]:.4g} (trial {best.number})"
