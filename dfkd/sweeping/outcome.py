"""What a sweep gave: the best trials as a table and as configurations, the front of several objectives as a picture."""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
from omegaconf import OmegaConf
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from rich.box import SIMPLE_HEAD
from rich.table import Table

from dfkd import config as configs
from dfkd import judge
from dfkd.report.front import draw_front
from dfkd.state import write_text
from dfkd.sweeping import study as studies
from dfkd.sweeping.goals import AGREEMENT
from dfkd.sweeping.spec import Sweep
from dfkd.sweeping.work import FAILURE, REASON, folder, shown

SHOWN = 10
ENOUGH_FOR_IMPORTANCE = 8  # trials; below that it is noise


@dataclass(frozen=True)
class Outcome:
    """A sweep as it stands.

    Args:
        best: the best trial, or for several objectives those that no other beats, the best by the first one first.
        complete: trials with a result, best first.
        pruned: those ended early.
        failed: those that failed.
        unfinished: begun and not ended, or not begun.
    """

    best: list[FrozenTrial]
    complete: list[FrozenTrial]
    pruned: list[FrozenTrial]
    failed: list[FrozenTrial]
    unfinished: int


def outcome(sweep: Sweep, study: Study) -> Outcome:
    """What came of the trials so far."""
    sign = 1 if sweep.objectives[0].direction == "minimize" else -1
    complete = sorted(studies.trials(study, TrialState.COMPLETE), key=lambda t: (sign * t.values[0], t.number))
    front = {trial.number for trial in study.best_trials} if complete else set()
    best = [trial for trial in complete if trial.number in front]
    best = best if len(sweep.objectives) > 1 else best[:1]
    pruned, failed = studies.trials(study, TrialState.PRUNED), studies.trials(study, TrialState.FAIL)
    unfinished = max(sweep.plan.trials - len(complete) - len(pruned) - len(failed), 0)
    return Outcome(best, complete, pruned, failed, unfinished)


def table(sweep: Sweep, found: Outcome) -> Table:
    """The best trials, or the front of several objectives."""
    several = len(sweep.objectives) > 1
    title = "trials that no other beats" if several else "best trials"
    made = Table(box=SIMPLE_HEAD, title=title)
    for heading in ("trial", *(goal.name for goal in sweep.objectives), *sweep.space):
        made.add_column(heading.replace(".", ".\n"), overflow="fold")
    for trial in (found.best if several else found.complete)[:SHOWN]:
        values = [_number(goal.name, value) for goal, value in zip(sweep.objectives, trial.values or ())]
        made.add_row(str(trial.number), *values, *(_short(trial.params.get(key)) for key in sweep.space))
    return made


def _number(name: str, value: float) -> str:
    if name in ("parameters", "multiply_adds"):
        return f"{value / 1e6:.2f}M"
    return f"{value:.4f}"


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def lines(sweep: Sweep, study: Study, found: Outcome) -> list[str]:
    """The rest of what there is to tell: counts, what was pruned and why, failures by name, importances."""
    why = Counter(trial.user_attrs.get(REASON) for trial in found.pruned)
    of_them = {"diverged": "diverged", "alarm": "stopped by an alarm"}
    counted = ", ".join(f"{why[reason]} of them {said}" for reason, said in of_them.items() if why[reason])
    said = f"{len(found.complete)} trials with a result, {len(found.pruned)} ended early"
    said += f" ({counted})" if counted else ""
    told = [f"{said}, {len(found.failed)} failed, {found.unfinished} to do"]
    for trial in found.failed:
        reason = trial.user_attrs.get(REASON, "unknown")
        told.append(f"failed: trial {trial.number} ({shown(trial.params)}): {reason} (see {_failure(sweep, trial)})")
    told += _importance(sweep, study, found) + _floor(sweep)
    caution = sweep.caution()
    return [*told, f"note: {caution}"] if caution else told


def _failure(sweep: Sweep, trial: FrozenTrial) -> Path:
    return folder(sweep, trial.number).work / FAILURE


def _importance(sweep: Sweep, study: Study, found: Outcome) -> list[str]:
    """How much of the first objective's variance each setting explains."""
    if len(found.complete) < ENOUGH_FOR_IMPORTANCE or len(sweep.space) < 2:
        return []
    goal = sweep.objectives[0]
    reached = {trial.values[0] for trial in found.complete}
    if len(reached) == 1:
        return []
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=sweep.plan.seed)
    shares = optuna.importance.get_param_importances(
        study, evaluator=evaluator, target=lambda trial: trial.values[0]
    )
    named = ", ".join(f"{key} {share:.2f}" for key, share in shares.items())
    return [f"share of the variance of {goal.name} (fANOVA, {len(found.complete)} trials): {named}"]


def _floor(sweep: Sweep) -> list[str]:
    """What agreement on the judge is reached without learning anything."""
    if sweep.plan.judge is None or AGREEMENT not in [goal.name for goal in sweep.objectives]:
        return []
    share, label = judge.largest_class(sweep.first)
    return [f"to compare: a student that always answers '{label}' agrees with the teacher on {share:.4f} of the judge"]


def write(sweep: Sweep, found: Outcome) -> list[Path]:
    """Write the best trials' settings, and the front's picture where there are several objectives.

    Returns:
        ``best.yaml``; or ``front/<trial>.yaml`` for each trial that no other beats, and ``pareto.svg``.
    """
    if len(sweep.objectives) == 1:
        return [_write_config(sweep, trial, found, sweep.out / "best.yaml") for trial in found.best]
    written = [_write_config(sweep, t, found, sweep.out / "front" / f"{t.number:04d}.yaml") for t in found.best]
    for path in set((sweep.out / "front").glob("*.yaml")) - set(written):
        path.unlink()  # beaten meanwhile
    if found.complete:
        points = {trial.number: tuple(trial.values or ()) for trial in found.complete}
        written.append(sweep.out / "pareto.svg")
        draw_front(points, {t.number for t in found.best}, [goal.title for goal in sweep.objectives], written[-1])
    return written


def _write_config(sweep: Sweep, trial: FrozenTrial, found: Outcome, path: Path) -> Path:
    """A trial's whole configuration as ``dfkd run config=`` reads it, for a run of its own."""
    values = {key: dimension.suggest(trial, key) for key, dimension in sweep.space.items()}
    config = replace(sweep.config(trial.number, values), run=None, runs="runs")
    scores = ", ".join(f"{goal.name} {_number(goal.name, v)}" for goal, v in zip(sweep.objectives, trial.values or ()))
    spelt = " ".join(shlex.quote(given) for given in sweep.overrides(values))
    head = [
        f"Trial {trial.number} of {len(found.complete)} with a result of the sweep '{sweep.name}': {scores}.",
        "As a run of its own, scored on the test split:", f"  dfkd run config={shlex.quote(str(path))}",
        "or, spelt out:", f"  dfkd run {spelt}",
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"# {line}\n" for line in head) + OmegaConf.to_yaml(OmegaConf.create(configs.to_dict(config)))
    write_text(path, text)
    return path
