"""Finished runs under attack: teacher and student, and what the texts made against one do to the other."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

from dfkd import config as configs
from dfkd import finished, runs, teaching
from dfkd.config import RunConfig
from dfkd.errors import ConfigError, noting, suggestion
from dfkd.evaluate.predict import judged_items
from dfkd.models import device, sources
from dfkd.models.preflight import class_order
from dfkd.robustness import _records, registry
from dfkd.robustness._bench import Bench
from dfkd.robustness._records import EXAMPLES
from dfkd.robustness.base import Victim
from dfkd.tasks import Task

FILE = "robustness.json"
KEYS = ("data", "teacher", "device", "threads")  # of a run, that may be said anew
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Settings:
    """What all attacks of one command share.

    Args:
        items: test items attacked, drawn at random but the same for every run.
        seed: of the attacks' random choices.
        column: of pairs, the text column that is changed; ``None``: the last one.
    """

    items: int = 200
    seed: int = 0
    column: str | None = None

    def __post_init__(self) -> None:
        configs.require(self.items >= 1, "--items", "1 or more", self.items)
        configs.require(0 <= self.seed < 2**32, "--seed", "0 or more, below 2^32", self.seed)


@dataclass(frozen=True)
class Plan:
    """What was checked before any work.

    Args:
        folder: of the run.
        config: of the run, with what was said anew.
        task: its data set; nothing is handed out yet.
        attacks: options by the attacks' names.
        settings: of all attacks.
        column: of pairs, which text is changed: 0 or 1.
        max_length: tokens of a text for the student; ``None``: as it was trained.
    """

    folder: Path
    config: RunConfig
    task: Task
    attacks: Mapping[str, Any]
    settings: Settings
    column: int
    max_length: int | None


def attack(
    folder: Path, overrides: Sequence[str], names: Sequence[str], settings: Settings = Settings(),
    out: Path | None = None, progress: Progress = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Attack a finished run's teacher and student; attacks that are finished already are only read.

    Args:
        folder: of the run.
        overrides: ``data.FIELD=VALUE``, ``teacher=FOLDER``, ``device=``, ``threads=``, and ``ATTACK.OPTION=VALUE``.
        names: of attacks.
        settings: of all of them.
        out: the file of results, the texts made and the log of hand-outs beside it; ``None``: in the run's folder.
        progress: called with (texts done, all).

    Returns:
        For each name its entry of ``robustness.json``.

    Raises:
        ConfigError: the run, its teacher or its data are not there, or a setting is wrong.
        Busy: another process attacks into the same file.
    """
    file = out or folder / FILE
    checked = plan(folder, overrides, names, settings, file.parent)
    examples = file.parent / EXAMPLES
    examples.mkdir(parents=True, exist_ok=True)
    lock = runs.lock(examples, f"the attacks in '{file}'", "name another file with --out")
    try:
        with runs.full_disk_reported(examples):
            return _entries(checked, file, progress)
    finally:
        (examples / "lock").unlink(missing_ok=True)
        lock.close()


def plan(
    folder: Path, overrides: Sequence[str], names: Sequence[str], settings: Settings, logged: Path | None = None
) -> Plan:
    """Check everything that can be checked before any work.

    Args:
        folder: of the run.
        overrides: as for :func:`attack`.
        names: of attacks.
        settings: of all of them.
        logged: the folder where hand-outs are logged; ``None``: the run's.

    Raises:
        ConfigError: lists every problem found.
    """
    of_run, of_attacks = _sorted(overrides, names)
    config = finished.config_of(folder, of_run)
    task, problems = finished.setting(folder, config, logged)
    attacks: dict[str, Any] = {}
    column = 0
    for name in dict.fromkeys(names):
        with noting(problems):
            attacks[name] = registry.options(name, of_attacks.get(name, {}))
            registry.check(name, attacks[name])
    with noting(problems):
        column = _column(config, settings.column)
    if problems or task is None:
        raise ConfigError.joined(problems)
    anew = any(override.startswith("data.max_length=") for override in of_run)
    return Plan(folder, config, task, attacks, settings, column, config.data.max_length if anew else None)


def _sorted(overrides: Sequence[str], names: Sequence[str]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """The overrides that are the run's, and the options of each attack.

    Raises:
        ConfigError: a key is neither, or of an attack that is not asked for.
    """
    of_run: list[str] = []
    of_attacks: dict[str, dict[str, Any]] = {}
    for override in overrides:
        (key, value), = configs.parse_overrides([override]).items()
        first, _, rest = key.partition(".")
        if key in KEYS or key.startswith("data."):
            of_run.append(override)
        elif first in names:
            of_attacks.setdefault(first, {})[rest] = value
        elif first in registry.ATTACKS.available():
            fix = f"add --attack {first}, or leave it out"
            raise ConfigError(f"'{key}' is given, but not the attack '{first}'", found=", ".join(names), fix=fix)
        else:
            valid = [*KEYS, "data.FIELD", *(f"{name}.OPTION" for name in names)]
            raise ConfigError(f"unknown key '{key}'", fix=suggestion(key, valid))
    return of_run, of_attacks


def _column(config: RunConfig, name: str | None) -> int:
    columns = config.data.text
    if name is not None and name not in columns:
        raise ConfigError(f"no text column '{name}'", fix=f"--column; {suggestion(name, columns)}")
    return len(columns) - 1 if name is None else columns.index(name)


def _entries(checked: Plan, file: Path, progress: Progress) -> list[dict[str, Any]]:
    """Make what is missing; models are loaded and texts handed out only where something is."""
    shared = _shared_settings(checked)
    settings = {name: {**_own_settings(name, options), **shared} for name, options in checked.attacks.items()}
    keys = {name: configs.sha256(json.dumps(known, sort_keys=True))[:12] for name, known in settings.items()}
    done = {entry["key"] for entry in _records.read(file)}
    missing = [name for name in checked.attacks if keys[name] not in done]
    bench = _bench(checked) if missing else None
    for number, name in enumerate(missing):
        assert bench is not None
        share = len(bench.victims) * len(bench.texts)
        examples = file.parent / EXAMPLES / f"{name}-{keys[name]}.jsonl"
        outcome = bench.run(
            name, checked.attacks[name], examples, lambda texts: progress(number * share + texts, len(missing) * share)
        )
        known = {"key": keys[name], "run": checked.config.run_name(), "settings": settings[name]}
        _records.add(file, {**known, **outcome, "examples": f"{EXAMPLES}/{examples.name}"})
        _records.unfinished(examples).unlink()  # not before: a kill in between costs nothing
    found = {entry["key"]: entry for entry in _records.read(file)}
    return [found[keys[name]] for name in checked.attacks]


def _own_settings(name: str, options: Any) -> dict[str, Any]:
    """What decides the outcome of one attack."""
    return {"attack": name, "options": asdict(options), "files_sha256": registry.fingerprint(name, options)}


def _shared_settings(checked: Plan) -> dict[str, Any]:
    """What decides the outcome of all attacks of a command; with anything changed they are other entries."""
    pair = len(checked.config.data.text) == 2
    return {
        "items": checked.settings.items, "seed": checked.settings.seed,
        "column": checked.config.data.text[checked.column] if pair else None,
        "max_length": {"teacher": checked.config.data.max_length, "student": checked.max_length},
        "test": checked.task.fingerprint("test"),
        "teacher_sha256": sources.fingerprint(checked.config.teacher),
        "teacher_labels": checked.config.teacher_labels,
        "student_sha256": sources.folder_fingerprint(checked.folder / "student"),
    }


def _bench(checked: Plan) -> Bench:
    """Load both models and take the test items, which is logged where the results go.

    Raises:
        ConfigError: the student's classes are not the data set's.
    """
    config = checked.config
    where = device.accelerator(config.device, "float32", config.threads).device
    student = finished.load_student(checked.folder).to(where)
    if checked.max_length is not None:
        student.max_length = checked.max_length
    teacher = teaching.load_teacher(config).classifier.to(where)
    order = class_order(student.labels, config.data.labels, None)
    test = checked.task.hand_out("test", to="attack")
    items = judged_items(len(test), checked.settings.items)
    return Bench(
        {"teacher": Victim(teacher), "student": Victim(student, order)}, items, [test.texts[i] for i in items],
        [test.labels[i] for i in items], config.data.labels, checked.settings.seed, checked.column,
    )
