"""What makes a run one that is there already: settings, defaults of older versions, the files that it reads."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import Any, Mapping

from dfkd import config as configs
from dfkd import judge as judges
from dfkd import runs
from dfkd.config import RunConfig
from dfkd.errors import ConfigError
from dfkd.models import sources
from dfkd.models.students import registry as students
from dfkd.runs import RunFolder
from dfkd.synthesis import registry


BEFORE = {"rate_falls": False, "repair": False}  # option of a strategy -> what was done before there was such an option


def changes(config: RunConfig) -> str:
    """What differs between these settings and those that the finished run of this name was made with, for people.

    Args:
        config: as :func:`dfkd.pipeline.load_config` gives it, of a finished run.

    Returns:
        Empty where nothing differs that matters for the outcome; else with what to do about it.
    """
    final = RunFolder(Path(config.runs) / config.run_name())
    now: dict[str, Any] = configs.to_dict(config) | fingerprints(config, final)
    there = with_defaults(configs.read_yaml(final.final / "config.yaml"))
    differing = runs.changes_between(there, now)
    mend = runs.rescoring_command(final.final, there, now) or f"remove {final.final}, or set runs=FOLDER"
    return differing and f"({differing}): {mend}"


def with_defaults(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a run or pool that an older version made, what it did not know at its default.

    Or, where the default is not what that version did, at what it did (:data:`BEFORE`).

    That goes for train, evaluate and the options of strategy and student; what is not there any more stays as it is.
    """
    defaults: dict[str, Any] = {"train": configs.TrainConfig(), "evaluate": configs.EvaluateConfig()}
    filled = {**stored, **{name: {**asdict(kind), **stored[name]} for name, kind in defaults.items() if name in stored}}
    for name, plugins in (("strategy", registry.STRATEGIES), ("student", students.STUDENTS)):
        component = stored.get(name, {})
        try:
            known = asdict(plugins.options(component["name"], component["options"]))
        except (ConfigError, KeyError):
            continue
        before = {option: value for option, value in BEFORE.items() if option in known}
        filled[name] = {**component, "options": {**known, **before, **component["options"]}}
    return filled


def fingerprints(config: RunConfig, final: RunFolder) -> dict[str, str]:
    """What stands in a run's config.yaml of the files that it reads: others of the same name make another run.

    A finished run can be shown without its teacher and the files of its strategy, which may have been moved since.
    """
    known = configs.read_yaml(final.final / "config.yaml") if final.finished else {}
    found = {"teacher_sha256": known.get("teacher_sha256")}
    if not final.finished or _is_local(config.teacher):
        with contextlib.suppress(sources.NoFolder):  # the check before its work tells more
            found["teacher_sha256"] = sources.fingerprint(config.teacher)
    options = registry.options(config.strategy.name, config.strategy.options)
    for name, tell in (
        ("strategy_sha256", lambda: registry.fingerprint(config.strategy.name, options)),
        ("judge_sha256", lambda: judges.fingerprint(config)),
    ):
        try:
            found[name] = tell()
        except ConfigError:  # if the run is not finished, the check before its work tells more
            found[name] = known.get(name)
    return {name: value for name, value in found.items() if value is not None}


def _is_local(teacher: str) -> bool:
    return teacher.startswith("package:") or Path(teacher).expanduser().is_dir()
