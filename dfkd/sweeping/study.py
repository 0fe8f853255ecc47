"""A sweep's study: its trials and what came of them, in SQLite, shared by processes."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Any, Sequence

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from dfkd import runs
from dfkd.errors import ConfigError
from dfkd.sweeping.spec import Sweep

DATABASE = "study.db"
IDENTITY = "sweep"
PATIENCE_SECONDS = 60  # for another process's write


class Seeded(BaseSampler):
    """TPE with a generator of its own for each trial: what is drawn depends on the trial's number and on what is known.

    One generator for all would start again with each process, and draw the first trials once more after a resume.

    Args:
        seed: of the sweep.
        startup: trials drawn at random.
    """

    def __init__(self, seed: int, startup: int) -> None:
        self.seed, self.startup = seed, startup
        self.inner: BaseSampler = TPESampler(seed=seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Take up the trial's own generator."""
        seed = (self.seed * 1_000_003 + trial.number) % 2**32
        # constant_liar: trials still at work count, so that processes do not all try the same
        self.inner = TPESampler(seed=seed, n_startup_trials=self.startup, constant_liar=True)
        self.inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """As TPE does."""
        return self.inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As TPE does."""
        return self.inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """As TPE does."""
        return self.inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """As TPE does."""
        self.inner.after_trial(study, trial, state, values)


def open_study(sweep: Sweep, new: bool = True) -> Study:
    """The study in the sweep's folder.

    Args:
        sweep: of :func:`dfkd.sweeping.spec.load`.
        new: whether to begin one if there is none.

    Raises:
        ConfigError: it was begun with another plan, or there is a folder of something else.
    """
    database, now = sweep.out / DATABASE, sweep.identity()
    if not new and not database.is_file():
        fix = "leave --show out, or give the folder with --out"
        raise ConfigError(f"no sweep in '{sweep.out}'", expected=f"a folder with {DATABASE}", fix=fix)
    if sweep.out.is_dir() and not database.is_file() and (strangers := sorted(sweep.out.iterdir())):
        fix = "choose another with --out"
        raise ConfigError(f"'{sweep.out}' is there already and is no sweep", found=strangers[0].name, fix=fix)
    sweep.out.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=IDENTITY, storage=_storage(database), sampler=Seeded(sweep.plan.seed, sweep.plan.startup),
        pruner=_pruner(sweep), load_if_exists=True,
        directions=[objective.direction for objective in sweep.objectives],
    )
    known = study.user_attrs.get(IDENTITY)
    if known is None:
        study.set_user_attr(IDENTITY, now)
    elif changes := runs.changes_between(known, now):
        fix = "take another folder with --out, or remove that one"
        raise ConfigError(f"the sweep in '{sweep.out}' was begun with another plan", found=changes, fix=fix)
    return study


def _storage(database: Path) -> RDBStorage:
    arguments = {"connect_args": {"timeout": PATIENCE_SECONDS}}
    return RDBStorage(f"sqlite:///{database}", engine_kwargs=arguments)


def _pruner(sweep: Sweep) -> optuna.pruners.BasePruner:
    if not sweep.prunes:
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=sweep.plan.prune_after, n_warmup_steps=sweep.prune_from)


def trials(study: Study, *states: TrialState) -> list[FrozenTrial]:
    """The trials in these states, by number; without states all."""
    return study.get_trials(deepcopy=False, states=states or None)


def next_trial(sweep: Sweep, study: Study) -> Trial | None:
    """A new trial, unless there are as many as are wanted; never one too many, whoever asks meanwhile."""
    with (sweep.out / "next.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        return study.ask() if len(trials(study)) < sweep.plan.trials else None


def begun_trial(study: Study, number: int) -> Trial:
    """A trial that another process began and did not end, to be gone on with under its own number."""
    known = trials(study)[number]
    return Trial(study, known._trial_id)  # optuna's own integrations build them so; there is no public way
