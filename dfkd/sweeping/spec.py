"""What a sweep searches, and what it is after: one YAML, checked before any work."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Mapping, Optional, Sequence

from dfkd import config as configs
from dfkd import doors, judge, pipeline
from dfkd.config import RunConfig, find_yaml, parse_overrides, read_yaml, require
from dfkd.errors import ConfigError
from dfkd.grids import settings_of
from dfkd.sweeping.goals import AGREEMENT, LATENCY, Objective, read_objectives
from dfkd.sweeping.space import Choices, Dimension, Range, read_space
from dfkd.synthesis import registry

SWEEPS = "experiments/sweeps"
TRIALS = "trials"
OWN = ("run", "runs")


@dataclass(frozen=True)
class Plan:
    """A sweep's YAML.

    Args:
        settings: of every trial, as for ``dfkd run``.
        search: setting -> ``{low, high}`` with ``log: true`` if need be, or ``{choices: [...]}``.
        objectives: a name, a list of names, or name -> maximize or minimize.
        judge: pool of pseudo texts on which every trial's agreement is measured; ``None``: each on its own samples.
        trials: in all.
        seed: of the search; the trials' own is ``settings.seed``.
        startup: trials drawn at random before the sampler learns from those that ended.
        pruner: ``median`` ends a trial whose agreement is below the median of the earlier ones at the same step.
        prune_after: trials that must have ended before one is pruned.
        prune_from: student steps that every trial is given; ``None``: half of them. Early on a student gives one
            answer to everything, and its agreement says which class that is, not how well it learns.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)
    objectives: Any = AGREEMENT
    judge: Optional[str] = None
    trials: int = 20
    seed: int = 0
    startup: int = 10
    pruner: Literal["median", "none"] = "median"
    prune_after: int = 5
    prune_from: Optional[int] = None

    def __post_init__(self) -> None:
        for name in ("trials", "startup"):
            require(getattr(self, name) >= 1, name, "1 or more", getattr(self, name))
        require(self.prune_after >= 0, "prune_after", "0 or more", self.prune_after)
        require(self.prune_from is None or self.prune_from >= 0, "prune_from", "0 or more", self.prune_from)
        require(0 <= self.seed < 2**32, "seed", "0 or more, below 2^32", self.seed)
        require(bool(self.search), "search", "a mapping of settings to ranges or choices", self.search)


@dataclass(frozen=True)
class Sweep:
    """A checked sweep.

    Args:
        name: of its YAML.
        plan: what the YAML says, with what the command line adds.
        space: setting -> what values it may take.
        objectives: at least one.
        out: its folder.
        probes: configurations with both ends of every range and every choice; the first has the first value of
            everything.
    """

    name: str
    plan: Plan
    space: Mapping[str, Dimension]
    objectives: tuple[Objective, ...]
    out: Path
    probes: tuple[RunConfig, ...]

    @property
    def first(self) -> RunConfig:
        """The configuration of the trial with the first value of everything."""
        return self.probes[0]

    @property
    def prunes(self) -> bool:
        """Whether trials may be ended early: agreement is all that is known of a trial on its way."""
        return self.plan.pruner != "none" and [objective.name for objective in self.objectives] == [AGREEMENT]

    @property
    def prune_from(self) -> int:
        """Student steps before a trial may be ended."""
        return self.first.train.steps // 2 if self.plan.prune_from is None else self.plan.prune_from

    def overrides(self, values: Mapping[str, Any]) -> list[str]:
        """The ``key=value`` settings of a trial."""
        return settings_of({**_settings(self.plan), **values})

    def config(self, number: int, values: Mapping[str, Any]) -> RunConfig:
        """The configuration of trial ``number``; its folder is ``trials/<number>`` below the sweep's."""
        place = [f"runs={json.dumps(str(self.out.parent))}", f"run={json.dumps(self.run_name(number))}"]
        return pipeline.load_config([*self.overrides(values), *place])

    def run_name(self, number: int) -> str:
        """What the run of trial ``number`` is called."""
        return f"{self.out.name}/{TRIALS}/{number:04d}"

    def identity(self) -> dict[str, Any]:
        """What must not change while a sweep's trials come together: all but their number, and who is told."""
        plan = {name: value for name, value in vars(self.plan).items() if name != "trials"}
        plan["settings"] = {key: value for key, value in self.plan.settings.items() if key != "tracking"}
        shas = {"teacher": doors.teacher_fingerprint(self.first), "judge": judge.fingerprint(self.first)}
        goals = {objective.name: objective.direction for objective in self.objectives}
        plain: dict[str, Any] = json.loads(json.dumps({**plan, "objectives": goals, "fingerprints": shas}))
        return plain

    def caution(self) -> str | None:
        """What a reader of the results should know; ``None``: nothing."""
        chosen = [key for key in self.space if key.partition(".")[0] in ("strategy", "pool")]
        if self.plan.judge is not None or not chosen or AGREEMENT not in [goal.name for goal in self.objectives]:
            return None
        return (
            f"each trial is judged on held-out samples of its own, which {chosen[0]} may make easier; "
            "judge=POOL measures all trials on the same texts (docs/sweeps.md)"
        )


def require_optuna() -> None:
    """Whether the library behind sweeps is there.

    Raises:
        ConfigError: it is not.
    """
    try:
        importlib.import_module("optuna")
    except ImportError as error:
        fix = "in dfkd's checkout: pip install '.[sweep]'"
        raise ConfigError("sweeps need optuna", found=str(error), fix=fix) from error


def load(
    name: str, overrides: Sequence[str] = (), trials: int | None = None, out: Path | None = None
) -> Sweep:
    """The checked sweep of a YAML.

    Args:
        name: below ``experiments/sweeps``, or path of a YAML file.
        overrides: ``key=value`` for all trials, over what the YAML says.
        trials: in place of the YAML's number; ``None``: that one.
        out: folder; ``None``: ``sweeps/<name>``.

    Raises:
        ConfigError: lists what is wrong with the YAML, the objectives, the ranges or the trials' settings.
    """
    path = find_yaml(SWEEPS, name)
    plan = _plan(path, overrides, trials)
    space, problems = read_space(plan.search)
    objectives, found = read_objectives(plan.objectives)
    both = [key for key in space if key in plan.settings]
    problems += [ConfigError(f"'{key}' is set, and searched", fix="leave one out") for key in both]
    problems += [
        ConfigError(f"a sweep gives its trials their '{key}'", fix="leave it out; --out names the sweep's folder")
        for key in OWN if key in plan.settings
    ]
    if problems + found:
        raise ConfigError.joined(_named(path, problems + found))
    probes, space = _probe(plan, space, path)
    _refuse_real_text(probes, path)
    _check_measured(probes[0], objectives, path)
    where = (out or Path("sweeps") / path.stem).expanduser()
    return Sweep(path.stem, plan, space, tuple(objectives), where, probes)


def _plan(path: Path, overrides: Sequence[str], trials: int | None) -> Plan:
    values = read_yaml(path)
    given = parse_overrides(overrides)
    if isinstance(values.get("settings") or {}, Mapping):
        values["settings"] = {**(values.get("settings") or {}), **given}
        if "judge" in values["settings"]:
            values["judge"] = values["settings"].pop("judge")
    if trials is not None:
        values["trials"] = trials
    plan, problems = configs.typed(Plan, values)
    if problems or plan is None:
        raise ConfigError.joined(_named(path, problems))
    return plan


def _named(path: Path, problems: Sequence[ConfigError]) -> list[ConfigError]:
    return [ConfigError(f"{path}: {problem}") for problem in problems]


def _settings(plan: Plan) -> dict[str, Any]:
    return {**plan.settings, **({"judge": plan.judge} if plan.judge is not None else {})}


def _probe(
    plan: Plan, space: Mapping[str, Dimension], path: Path
) -> tuple[tuple[RunConfig, ...], dict[str, Dimension]]:
    """Try the ends of every range and every choice, so that no trial fails for its settings hours later.

    Returns:
        The configurations, and the space with whole numbers where the settings take no others.
    """
    first = {key: dimension.values[0] for key, dimension in space.items()}
    last = {key: dimension.values[-1] for key, dimension in space.items()}
    others = [
        {**first, key: value} for key, dimension in space.items() if isinstance(dimension, Choices)
        for value in dimension.values[1:]
    ]
    try:
        probes = [pipeline.load_config(settings_of({**_settings(plan), **v})) for v in (first, last, *others)]
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return tuple(probes), {key: _typed(key, dimension, probes[0], path) for key, dimension in space.items()}


def _refuse_real_text(probes: Sequence[RunConfig], path: Path) -> None:
    """Held-out samples of a strategy that sees the task's texts are such texts: the sweep would choose by real data."""
    for config in probes:
        if registry.options(config.strategy.name, config.strategy.options).uses_real_text:
            raise ConfigError(
                f"{path}: strategy '{config.strategy.name}' sees the task's own texts", expected="a data-free strategy",
                found="settings chosen by real data", fix="leave it out of 'settings' and 'search' ('dfkd strategies')",
            )


def _typed(key: str, dimension: Dimension, config: RunConfig, path: Path) -> Dimension:
    """A range in the type of its setting: ``{low: 0, high: 1}`` has all the numbers between where those make sense."""
    if not isinstance(dimension, Range):
        return dimension
    section, _, field_name = key.partition(".")
    part = getattr(config, section)
    value = part.options.get(field_name) if section in ("strategy", "student") else getattr(part, field_name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        found = f"{key} is {value!r} there"
        raise ConfigError(f"{path}: '{key}' is no number", expected="choices: [...]", found=found)
    return dimension.of(int if isinstance(value, int) else float)


def _check_measured(config: RunConfig, objectives: Sequence[Objective], path: Path) -> None:
    """Whether the trials measure what is asked for."""
    names = {objective.name for objective in objectives}
    if LATENCY in names and config.evaluate.latency_rounds == 0:
        fix = "set evaluate.latency_rounds=20, or take multiply_adds, which is the same on every machine"
        raise ConfigError(f"{path}: objective '{LATENCY}' needs timed passes", found="no latency_rounds", fix=fix)
    if AGREEMENT in names and config.train.heldout == 0:
        raise ConfigError(f"{path}: objective '{AGREEMENT}' needs held-out samples", fix="set train.heldout=256")
