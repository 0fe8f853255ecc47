"""Teachers: made by fine-tuning an encoder, or taken as they are and checked against the data set."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any, Callable

from accelerate import Accelerator

from dfkd import state
from dfkd.config import DataConfig, RunConfig, TeacherConfig, available, search_folders
from dfkd.errors import ConfigError
from dfkd.evaluate.predict import predict
from dfkd.evaluate.scores import scores
from dfkd.models import device, preflight, soup, sources
from dfkd.models.classifier import TextClassifier, class_names, load_classifier, load_tokenizer
from dfkd.models.finetune import finetune
from dfkd.models.teacher import Teacher, reorder_outputs
from dfkd.tasks import Task, access_log

Progress = Callable[[int, int], None]
FACTS = "teacher.json"


def default_folder(data: DataConfig, config: TeacherConfig) -> Path:
    """``out``, or ``teachers/<data>-<model>``."""
    model = "soup" if config.soup else config.model.rstrip("/").rsplit("/", 1)[-1].rsplit(":", 1)[-1]
    return Path(config.out) if config.out else Path("teachers") / f"{data.name}-{model}"


def make_teacher(
    data: DataConfig, config: TeacherConfig, quiet: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Fine-tune an encoder on a data set's training split, or average finished teachers; what is there is left alone.

    Args:
        data: the data set.
        config: the encoder and how it is trained, or the teachers that are averaged.
        quiet: no progress bar while training.
        progress: called with (done, all) while the test items are predicted.

    Returns:
        What is written to ``teacher.json``: scores on the test split (``None`` without one), seconds, settings; of a
        soup also a warning, for people, or ``None``.

    Raises:
        ConfigError: data and model do not fit, or the folder holds a teacher made otherwise.
    """
    folder = default_folder(data, config)
    work = folder.with_name(folder.name + ".partial")
    settings = _settings(data, config)
    if (folder / FACTS).is_file():
        return _finished(folder, settings)
    if folder.exists():
        raise ConfigError(f"'{folder}' exists and is no teacher of ours", fix="choose another folder with out=FOLDER")
    check_encoder(data, config)
    task = Task(data, log=access_log(work))
    task.check()
    for split in (["train"] if config.soup is None else []) + (["test"] if task.has_test else []):
        task.fingerprint(split)  # reads and checks the rows; hands out nothing
    accelerator = device.accelerator(config.device, config.precision, config.threads)
    _check_work(work, settings)
    started = time.perf_counter()
    if config.soup is not None:
        classifier, warning = soup.averaged(config.soup, config.trust_remote_code)
        classifier.max_length = data.max_length
        trained = {"loss": None, "rows": 0, "warning": warning}
    else:
        classifier, trained = _trained(data, config, task, work, accelerator, quiet)
    classifier.to(accelerator.device)
    seconds = time.perf_counter() - started
    facts = {"settings": settings, "seconds": seconds, **trained, "scores": _scores(classifier, task, progress)}
    _store(classifier, work, folder, facts)
    return facts


def _trained(
    data: DataConfig, config: TeacherConfig, task: Task, work: Path, accelerator: Accelerator, quiet: bool
) -> tuple[TextClassifier, dict[str, Any]]:
    """The encoder after its training, and what there is to tell of it."""
    rows = task.hand_out("train", to="teacher_training")
    from transformers import set_seed  # seconds to import, and no other command needs it

    set_seed(config.seed if config.init_seed is None else config.init_seed)
    classifier = load_classifier(config.model, data.max_length, data.labels, config.trust_remote_code)
    classifier.to(accelerator.device)
    loss = finetune(
        classifier, rows.texts, rows.labels, config, work / "trainer",
        bf16=accelerator.mixed_precision == "bf16", quiet=quiet,
    )
    return classifier, {"loss": loss, "rows": min(len(rows), config.limit or len(rows))}


def check_encoder(data: DataConfig, config: TeacherConfig) -> None:
    """Whether the encoder, or the teachers of a soup, fit the data set, before their weights are read.

    Raises:
        ConfigError: tokenizer, vocabulary, length, or a soup's classes do not fit.
    """
    if config.soup is not None:
        soup.check(config.soup, data.labels, config.trust_remote_code)
    model = config.model if config.soup is None else config.soup[0]
    encoder = sources.load_config(model, config.trust_remote_code)
    preflight.check_length(encoder, data.max_length, model)
    preflight.check_vocabulary(encoder, load_tokenizer(model, config.trust_remote_code), model)


def check_teacher(config: RunConfig) -> list[int]:
    """Whether the teacher fits the data set, before its weights are read.

    Returns:
        For each class of the data set, the index of the teacher's output.

    Raises:
        ConfigError: it is no finished classifier, or classes, tokenizer, vocabulary or length do not fit.
    """
    try:
        model = sources.load_config(config.teacher, config.trust_remote_code)
    except sources.NoFolder as error:
        raise sources.no_folder(config.teacher, _making(config)) from error
    fix = f"train one: dfkd teacher data={config.data.name} model={config.teacher}"
    preflight.check_finished(model, f"the teacher '{config.teacher}'", fix)
    names = class_names(model)
    order = preflight.class_order(names, config.data.labels, config.teacher_labels)
    preflight.check_length(model, config.data.max_length, config.teacher)
    preflight.check_vocabulary(model, load_tokenizer(config.teacher, config.trust_remote_code), config.teacher)
    return order


def _making(config: RunConfig) -> str:
    """How to make the teacher that is not there; those of the tables are called ``teachers/DATA-TABLE``."""
    data, path = config.data.name, Path(config.teacher)
    make = f"or make it: dfkd teacher data={data} model=MODEL out={config.teacher}"
    table = path.name.removeprefix(f"{data}-")
    script = any((folder / f"{data}.py").is_file() for folder in search_folders("experiments"))
    of_table = script and table in available("experiments/tables")
    return f"{make}, for a table: python experiments/{data}.py --scale cpu --only {table}" if of_table else make


def assumed_order(config: RunConfig) -> str | None:
    """A warning, for people, where the order of a teacher's nameless classes can only be assumed; else ``None``."""
    model = sources.load_config(config.teacher, config.trust_remote_code)
    if config.teacher_labels is not None or not preflight.nameless(class_names(model)):
        return None
    order = ", ".join(config.data.labels)
    return (
        f"the teacher's classes have no names ({', '.join(class_names(model))}); they are taken in the data set's "
        f"order: {order}. If that is wrong, say teacher_labels=[...], the classes in the order of its outputs"
    )


def load_teacher(config: RunConfig) -> Teacher:
    """The teacher of a run, its outputs in the data set's order, on the CPU.

    Raises:
        ConfigError: as :func:`check_teacher`.
    """
    order = check_teacher(config)
    classifier = load_classifier(
        config.teacher, config.data.max_length, trust_remote_code=config.trust_remote_code
    )
    if order != list(range(len(order))):
        reorder_outputs(classifier.model, order)
    classifier.labels = tuple(config.data.labels)
    return Teacher(classifier)


def _settings(data: DataConfig, config: TeacherConfig) -> dict[str, Any]:
    ignored = ("out", "checkpoint_every", "threads", "device")
    kept = {name: value for name, value in vars(config).items() if name not in ignored}
    facts = {name: value for name, value in vars(data).items() if name not in ("folder", "prompts", "metric")}
    if config.soup is None:
        kept.pop("soup")  # teachers from before there was one had no such setting
    else:
        kept["soup_sha256"] = [sources.fingerprint(reference) for reference in config.soup]
    return {"data": facts, **kept}


def _finished(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / FACTS).read_text())
    there = _known(facts["settings"])
    differing = sorted(key for key in settings if there.get(key) != settings[key])
    if differing:
        changes = "; ".join(f"{k}: {there.get(k)!r} there, {settings[k]!r} now" for k in differing)
        raise ConfigError(f"'{folder}' holds a teacher with other settings", found=changes, fix="add out=FOLDER")
    return facts


def _known(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a teacher on disk; one made before there was a choice of orders and heads had the first."""
    return {"batch_order": "by_length", "init_seed": None, **settings}


def _check_work(work: Path, settings: dict[str, Any]) -> None:
    """Go on with unfinished work only where it was begun with the same settings."""
    marker = work / "settings.json"
    if marker.is_file() and _known(json.loads(marker.read_text())) != settings:
        fix = f"remove '{work}', or add out=FOLDER"
        raise ConfigError(f"'{work}' holds unfinished work with other settings", fix=fix)
    state.write_text(marker, json.dumps(settings))


def _scores(classifier: TextClassifier, task: Task, progress: Progress | None) -> dict[str, float] | None:
    if not task.has_test:
        return None
    test = task.hand_out("test", to="evaluate")
    return scores(predict(classifier, test.texts, 64, progress), test.labels)


def _store(classifier: TextClassifier, work: Path, folder: Path, facts: dict[str, Any]) -> None:
    """Write the teacher beside the work, then give it its final name by one rename."""
    ready = work / "ready"
    classifier.save(ready)
    if (work / "access.jsonl").is_file():  # a soup without a test split has seen no text
        shutil.copy(work / "access.jsonl", ready / "access.jsonl")
    (ready / FACTS).write_text(json.dumps(facts, indent=1))
    os.rename(ready, folder)
    shutil.rmtree(work)
