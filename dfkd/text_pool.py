"""A folder of pseudo texts with the teacher's predictions, made once and used by many runs.

``pool.json`` (what it was made with, and how far it is), ``samples/`` (Arrow files, see :mod:`dfkd.pool`), and
``checkpoint-<batches>/``, from which more samples can be added at any time.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any, Mapping, Sequence

from dfkd import state
from dfkd.errors import ConfigError
from dfkd.pool import Pool

FACTS, SAMPLES = "pool.json", "samples"
TASK = ("name", "hub", "hub_config", "files")  # of a data config: where the task's texts come from


def read_facts(folder: Path) -> dict[str, Any] | None:
    """The content of a pool's ``pool.json``; ``None`` where there is none.

    Raises:
        ConfigError: it is damaged.
    """
    path = folder / FACTS
    if not path.is_file():
        return None
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        fix = "make the pool again"
        raise ConfigError(f"'{path}' is damaged", expected="JSON", found=str(error), fix=fix) from error
    return facts


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write ``pool.json``; readers see the old content or the new."""
    state.write_text(folder / FACTS, json.dumps(dict(facts), indent=1, ensure_ascii=False))


def samples_of(folder: Path) -> Pool:
    """The store of a pool's samples, of no bounded size; empty until a state is loaded into it."""
    return Pool(folder / SAMPLES, sys.maxsize)


def fingerprint(folder: Path) -> str:
    """What tells a finished pool from another one in the same folder: its samples.

    Raises:
        ConfigError: there is no finished pool.
    """
    content = hashlib.sha256()
    for path in _files(folder, finished_facts(folder)):
        content.update(path.read_bytes())
    return content.hexdigest()


def _files(folder: Path, facts: Mapping[str, Any]) -> list[Path]:
    """The files of a pool's samples; others in the folder may be in the making."""
    samples = samples_of(folder)
    samples.adopt(facts["files"])
    return samples.paths()


def finished_facts(folder: Path) -> dict[str, Any]:
    """The facts of a pool that is ready for use.

    Raises:
        ConfigError: there is no pool, it is not finished, or a file of it is missing.
    """
    if not str(folder) or str(folder) == ".":
        fix = "add pool=FOLDER; 'dfkd synthesize --help' tells how to make one"
        raise ConfigError("no pool is given", expected="a folder that 'dfkd synthesize' made", fix=fix)
    facts = read_facts(folder)
    if facts is None:
        fix = "make it first: dfkd synthesize data=... teacher=... strategy=... samples=N out=FOLDER"
        raise ConfigError(f"no pool in '{folder}'", expected=f"a folder with {FACTS}", found="nothing", fix=fix)
    if not facts["finished"]:
        found = f"{facts['samples']} samples so far"
        raise ConfigError(f"the pool '{folder}' is not finished", found=found, fix="repeat the command that makes it")
    lost = next((path for path in _files(folder, facts) if not path.is_file()), None)
    if lost is not None:
        fix = "copy the whole folder, or make the pool again"
        raise ConfigError(f"the pool '{folder}' is not whole", found=f"no file '{lost}'", fix=fix)
    return facts


def check_fits(
    folder: Path, teacher_sha256: str | None, labels: Sequence[str], max_length: int, pair: bool,
    task: Mapping[str, Any] | None = None,
) -> None:
    """Whether a pool was made for a run's task, and its predictions are those that the run's teacher would give.

    Texts from outside of one task may be another task's own, which no student of that one may see.

    Args:
        folder: of the pool.
        teacher_sha256: fingerprint of the run's teacher; ``None``: unknown, not compared.
        labels: the run's classes, in the order of the logits.
        max_length: tokens per text of the run.
        pair: whether the run's samples are pairs of texts.
        task: where the run's task has its texts, by :data:`TASK`; ``None``: unknown, not compared.

    Raises:
        ConfigError: they are not, or there is no finished pool.
    """
    facts = finished_facts(folder)
    now: dict[str, Any] = {"labels": list(labels), "max_length": max_length, "pair": pair}
    if teacher_sha256 is not None:
        now["teacher_sha256"] = teacher_sha256
    facts = {**facts, "task": {name: facts["config"]["data"][name] for name in TASK}}
    if task is not None:
        now["task"] = dict(task)
    differing = [name for name, value in now.items() if facts[name] != value]
    if differing:
        raise ConfigError(
            f"the pool '{folder}' was labelled by another teacher, or for another task",
            expected="; ".join(f"{name} {facts[name]}" for name in differing),
            found="; ".join(f"{name} {now[name]}" for name in differing),
            fix="take the teacher and the data set that the pool was made with, or make another pool",
        )
