"""Finished students in use: loaded, scored on a data set, asked about texts."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Callable, Sequence

from dfkd import config as configs
from dfkd import runs, tasks, teaching
from dfkd.batch import Text
from dfkd.config import RunConfig
from dfkd.errors import ConfigError, noting
from dfkd.evaluate.predict import predict
from dfkd.evaluate.scores import scores
from dfkd.models import device, sources
from dfkd.models.preflight import check_finished, class_order
from dfkd.models.students import registry as students
from dfkd.tasks import Task, access_log


def evaluate(
    folder: Path, overrides: Sequence[str], progress: Callable[[int, int], None] | None = None
) -> dict[str, float]:
    """Score a finished student, or any classifier's folder, on a test split.

    In a run's folder the hand-out is logged in ``access.jsonl``.

    Args:
        folder: a run, or a model folder.
        overrides: ``data=NAME`` and ``data.FIELD=VALUE``; for a run, what differs from its own data config.
        progress: called with (done, all).

    Raises:
        ConfigError: no data set is named, it has no test split, or the classes do not fit.
    """
    classifier = load_student(folder)
    given = configs.parse_overrides(overrides)
    strange = [key for key in given if key != "data" and not key.startswith("data.")]
    if strange:
        field = any(field.name == strange[0] for field in dataclasses.fields(configs.DataConfig))
        fix = f"write data.{strange[0]}={given[strange[0]]}" if field else "leave it out"
        raise ConfigError(f"unknown key '{strange[0]}'", expected="data=NAME or data.FIELD=VALUE", fix=fix)
    data = _data_of(folder, given)
    # the students of a run, and teachers of ours, know the classes' names and their order
    order = class_order(classifier.labels, data.labels, None)
    if "data.max_length" in given:
        classifier.max_length = data.max_length
    log = access_log(folder) if (folder / "config.yaml").is_file() else None
    test = tasks.load(data, log).hand_out("test", to="evaluate")
    return scores(predict(classifier, test.texts, progress=progress)[:, order], test.labels)


def _data_of(folder: Path, given: dict[str, Any]) -> configs.DataConfig:
    """The data config that is named, or a run's own with changes."""
    own = folder / "config.yaml"
    if "data" in given or not own.is_file():
        return configs.load_data(given)
    values = {**configs.read_yaml(own)["data"], **{k.removeprefix("data."): v for k, v in given.items()}}
    data, problems = configs.typed(configs.DataConfig, values, "data.")
    if problems or data is None:
        raise ConfigError.joined(problems)
    return data


def predict_texts(folder: Path, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Classify texts with a finished student.

    Args:
        folder: a run, or the folder of a student or teacher.
        texts: for a student of pairs, the two texts of each with a tab between them.

    Returns:
        For each text its ``text``, ``label``, ``probability``, and ``probabilities`` of all classes by name; nothing
        for no texts.

    Raises:
        ConfigError: the folder holds no student, or a text is no pair where pairs are wanted.
    """
    if not texts:
        return []
    student = load_student(folder)
    inputs = [_pair(text) for text in texts] if _reads_pairs(folder) else list(texts)
    answers = []
    for text, row in zip(texts, predict(student, inputs).softmax(dim=1).tolist()):
        best = max(range(len(row)), key=row.__getitem__)
        answer = {"text": text, "label": student.labels[best], "probability": row[best]}
        answers.append({**answer, "probabilities": dict(zip(student.labels, row))})
    return answers


def _reads_pairs(folder: Path) -> bool:
    """Whether a student was trained on pairs of texts."""
    return any(bool(sources.extras_in(place).get("pair")) for place in (folder / "student", folder))


def _pair(text: str) -> Text:
    parts = text.split("\t")
    if len(parts) != 2:
        fix = "give both texts with a tab between them"
        raise ConfigError("this student reads pairs of texts", expected="FIRST<tab>SECOND", found=text[:80], fix=fix)
    return parts[0], parts[1]


def load_student(folder: Path) -> Any:
    """The student of a finished run, or the student or classifier in a model folder.

    Raises:
        ConfigError: there is none.
    """
    inside = folder / "student"
    if (inside / "config.json").is_file() or students.kind_of(inside):
        return students.load(inside)
    if students.kind_of(folder):
        return students.load(folder)
    if (folder / "config.json").is_file():
        fix = "give a finished run, or the folder of a student or teacher"
        check_finished(sources.load_config(str(folder)), f"'{folder}'", fix)
        return students.load(folder)
    unfinished = folder.with_name(folder.name + runs.PARTIAL).is_dir()
    fix = "the run is not finished: repeat its command" if unfinished else "give a finished run or a model folder"
    raise ConfigError(f"no student in '{folder}'", expected="student/config.json in it", found="nothing", fix=fix)


def config_of(folder: Path, overrides: Sequence[str]) -> RunConfig:
    """The configuration of a finished run, with what is said anew.

    Raises:
        ConfigError: the folder is no finished run.
    """
    if not (folder / "config.yaml").is_file() or not (folder / "result.json").is_file():
        unfinished = folder.with_name(folder.name + runs.PARTIAL).is_dir()
        fix = "the run is not finished: repeat its command" if unfinished else "give the folder that dfkd run has left"
        problem = f"'{folder}' is no finished run"
        raise ConfigError(problem, expected="config.yaml, result.json and student/ in it", fix=fix)
    return configs.load([f"config={json.dumps(str(folder / 'config.yaml'))}", *overrides])


def setting(
    folder: Path, config: RunConfig, logged: Path | None = None
) -> tuple[Task | None, list[ConfigError]]:
    """What a run is looked at with: its data set, its device and its teacher.

    Args:
        folder: of the run.
        config: of the run, with what is said anew.
        logged: the folder where hand-outs are logged; ``None``: the run's.

    Returns:
        The task, ``None`` where it cannot be used, and the problems found.
    """
    problems: list[ConfigError] = []
    task = None
    with noting(problems):
        task = tasks.load(config.data, access_log(logged or folder))
        task.fingerprint("test")  # reads and checks the rows; hands out nothing
    with noting(problems):
        device.check_device(config.device)
        check_teacher(folder, config)
    return task, problems


def check_teacher(folder: Path, config: RunConfig) -> None:
    """Whether the run's teacher is still there, and is the one that the student was distilled from.

    Raises:
        ConfigError: it is not.
    """
    fix = "start dfkd in the folder where the run was made, as its path is told from there; or add teacher=FOLDER"
    try:
        sources.load_config(config.teacher, config.trust_remote_code)
    except ConfigError as error:
        problem = f"the run's teacher '{config.teacher}' is not found"
        raise ConfigError(problem, found=error.problem, fix=fix) from error
    teaching.check_teacher(config)
    known = configs.read_yaml(folder / "config.yaml")
    recorded, found = known.get("teacher_sha256"), sources.fingerprint(config.teacher)
    by_name = configs.sha256(str(known["teacher"]))  # all that was known of a teacher from the hub
    if recorded not in (None, by_name, found):
        raise ConfigError(
            f"'{config.teacher}' is not the teacher that the run was distilled from", expected=f"sha256 {recorded}",
            found=f"sha256 {found}", fix="add teacher=FOLDER with the one that was",
        )
