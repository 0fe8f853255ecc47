"""Finished runs scored again, on other test items or with other clocks; nothing is trained."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Any, Sequence

from omegaconf import OmegaConf

from dfkd import config as configs
from dfkd import finished, pipeline, runs, scoring, state, teaching
from dfkd.config import RunConfig
from dfkd.errors import ConfigError, suggestion
from dfkd.models import device
from dfkd.pipeline import Listeners
from dfkd.runs import RunFolder
from dfkd.tasks import Task

ASKED_ANEW = ("teacher", "device", "threads")  # where things are now; the run's own settings stay as they were


def rescore(folder: Path, overrides: Sequence[str], listeners: Listeners = Listeners()) -> dict[str, Any]:
    """Score a finished run again; its ``result.json`` and ``config.yaml`` say so afterwards.

    What the training gave (queries, seconds, alarms, fidelity, the machine) stays. A run that was scored with these
    settings is left as it is. Interrupted, the old result stands.

    Args:
        folder: of the run.
        overrides: ``evaluate.FIELD=VALUE``, and ``teacher=FOLDER``, ``device=``, ``threads=`` where those have changed.
        listeners: stages and test items are told.

    Returns:
        The content of ``result.json``.

    Raises:
        ConfigError: the run, its teacher or its data are not there or not the same, or a setting is wrong.
        Busy: another process scores this run.
    """
    config, task = check(folder, overrides)
    lock = runs.lock(folder, f"the scores of '{folder}'", "score another run")
    try:
        run = RunFolder(folder)
        before = run.result()
        stored = configs.read_yaml(folder / "config.yaml")
        evaluate = configs.to_dict(config)["evaluate"]
        if stored["evaluate"] == evaluate == before["config"]["evaluate"]:
            return before
        result = _scored(folder, config, task, before, listeners)
        result["config"] = {**before["config"], "evaluate": evaluate}
        # the result first: killed in between, the run still differs from what is asked for, and is scored again
        state.write_text(folder / runs.RESULT, runs.as_json(result))
        state.write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create({**stored, "evaluate": evaluate})))
        return result
    finally:
        (folder / "lock").unlink(missing_ok=True)
        lock.close()


def check(folder: Path, overrides: Sequence[str]) -> tuple[RunConfig, Task]:
    """Check everything that can be checked before any work.

    Raises:
        ConfigError: lists every problem found.
    """
    given = configs.parse_overrides(overrides)
    strange = [key for key in given if key not in ASKED_ANEW and not key.startswith("evaluate.")]
    if strange:
        fix = suggestion(strange[0], [*ASKED_ANEW, "evaluate.FIELD"])
        raise ConfigError(f"'{strange[0]}' would make another run", expected="evaluate.FIELD=VALUE", fix=fix)
    config = finished.config_of(folder, overrides)
    task, problems = finished.setting(folder, config)
    if problems or task is None:
        raise ConfigError.joined(problems)
    return config, task


def _scored(
    folder: Path, config: RunConfig, task: Task, before: dict[str, Any], listeners: Listeners
) -> dict[str, Any]:
    """The run's result with new scores."""
    started = time.perf_counter()
    accelerator = device.accelerator(config.device, "float32", config.threads)  # as all students are asked
    teacher = teaching.load_teacher(config)
    teacher.classifier.to(accelerator.device)
    student = finished.load_student(folder).to(accelerator.device)
    scored = scoring.score(
        config, task, teacher, student, folder / "student", listeners.stage, listeners.predicted
    )
    seconds = {**before["seconds"], "evaluate": time.perf_counter() - started}
    queries = {**before["queries"], "evaluate": teacher.queries["evaluate"]}
    scored["teacher"]["reference"] = before["teacher"]["reference"]
    again = {"at": datetime.now().isoformat(timespec="seconds"), "environment": pipeline.environment(accelerator)}
    return {**before, **scored, "seconds": seconds, "queries": queries, "scored_again": again}
