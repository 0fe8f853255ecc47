"""The one place where all parts meet: a run configuration in, a finished run folder out."""

from __future__ import annotations

import platform
import time
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Callable, Mapping, Sequence

import torch
from accelerate import Accelerator

from dfkd import config as configs
from dfkd import judge as judges
from dfkd import identity, runs, scoring, seeding, tasks, teaching, tracking
from dfkd.config import RunConfig
from dfkd.distill import Distiller, Outcome, kept_at
from dfkd.doors import AccessLog, Parts, corpus_door, strategy_facts, synthesis_context
from dfkd.errors import Alarmed, ConfigError, noting, refuse
from dfkd.models import device, sources
from dfkd.models.students import registry as students
from dfkd.models.students.base import Facts, StudentContext
from dfkd.models.teacher import Teacher
from dfkd.quality.alarms import Alarm, Alarms
from dfkd.quality.diagnostics import Diagnostics
from dfkd.quality.rules import makers_of
from dfkd.runs import RunFolder
from dfkd.synthesis import registry
from dfkd.synthesis.base import pool_cost
from dfkd.tasks import Task


@dataclass(frozen=True)
class Listeners:
    """Who hears of a run's progress.

    Args:
        stage: called with a line of text when a stage begins.
        step: called with (record, steps in all) after each student step.
        predicted: called with (done, all) while test items are predicted.
        alarm: called with a line of text when something goes wrong with the pseudo samples, or looks doubtful.
    """

    stage: Callable[[str], None] = lambda text: None
    step: Callable[[dict[str, Any], int], None] = lambda record, steps: None
    predicted: Callable[[int, int], None] = lambda done, total: None
    alarm: Callable[[str], None] = lambda text: None


def load_config(overrides: Sequence[str]) -> RunConfig:
    """The run configuration of ``key=value`` overrides, the components' options checked and their defaults filled in.

    A run's folder then says all that it was made with: should a default change, it is another run.

    Raises:
        ConfigError: lists every problem found.
    """
    config = configs.load(overrides, check_options)
    strategy = asdict(registry.options(config.strategy.name, config.strategy.options))
    student = asdict(students.STUDENTS.options(config.student.name, config.student.options))
    return replace(
        config, strategy=replace(config.strategy, options=strategy), student=replace(config.student, options=student)
    )


def check_options(kind: str, component: Mapping[str, Any]) -> list[ConfigError]:
    """The problems of a strategy's or student's name and options."""
    plugins = registry.STRATEGIES if kind == "strategy" else students.STUDENTS
    return plugins.problems(component["name"], component["options"])


def preflight(
    config: RunConfig, log: Callable[[dict[str, Any]], None] | None = None, with_student: bool = True,
    scored: bool = True, rows: bool = True,
) -> Parts:
    """Check everything that can be checked before any work.

    Args:
        config: of the run.
        log: hears of each hand-out of texts; ``None``: nobody does.
        with_student: whether a student will be trained.
        scored: whether it may be judged on the test split.
        rows: whether the rows of the splits are checked as well, which takes seconds.

    Raises:
        ConfigError: lists every problem found.
    """
    strategy_options = registry.options(config.strategy.name, config.strategy.options)
    student_options = students.STUDENTS.options(config.student.name, config.student.options)
    problems: list[ConfigError] = []
    task: Task | None = None
    with noting(problems):
        task = tasks.load(config.data, log, scored)
        for split in _splits_needed(task, strategy_options) if rows else ():
            task.fingerprint(split)  # reads and checks the rows; hands out nothing
    corpus = corpus_door(task, config.strategy.name)
    with noting(problems):
        facts = strategy_facts(config, corpus)
        registry.check(config.strategy.name, strategy_options, facts)
        judges.check(config, facts)
    with noting(problems):
        device.check_device(config.device)
        teaching.check_teacher(config)
        model = sources.load_config(config.teacher, config.trust_remote_code)
        if with_student:
            reads, remedy = registry.student_reads(strategy_options), registry.remedy(strategy_options)
            given = Facts(model, reads, config.data.max_length, remedy)
            students.check(config.student.name, student_options, given)
            runs.require_disk(Path(config.runs), disk_needed(config, model, strategy_options.injects))
    with noting(problems):
        if config.tracking is not None:
            tracking.find(config.tracking)
    refuse(problems)
    assert task is not None
    return Parts(config, task, strategy_options, student_options, corpus)


def _splits_needed(task: Task, strategy_options: Any) -> list[str]:
    return (["test"] if task.has_test else []) + (["train"] if strategy_options.uses_real_text else [])


def disk_needed(config: RunConfig, model: Any, injects: str) -> int:
    """A generous estimate of a run's bytes on disk: two checkpoints of weights and AdamW moments, and the pool."""
    width, layers = int(model.hidden_size), int(model.num_hidden_layers)
    parameters = int(model.vocab_size) * width + 12 * layers * width**2
    sample = 4 * width * config.data.max_length if injects == "embeddings" else 8 * config.data.max_length
    kept = config.train.replay_share > 0 or config.train.generated_tokens is not None
    pooled = config.train.replay_capacity if kept else 0
    return 2 * 3 * 4 * parameters + sample * (pooled + config.train.heldout)


def run(config: RunConfig, listeners: Listeners = Listeners(), scored: bool = True) -> dict[str, Any]:
    """Run to the end whatever of the run is not done yet; a finished run is only read.

    Args:
        config: as :func:`load_config` gives it.
        listeners: who hears of the progress.
        scored: whether the student is judged on the test split, if there is one; else it stays closed.

    Returns:
        The content of ``result.json``.

    Raises:
        ConfigError: something in the configuration is wrong, or the run's folder holds another run.
        TrainingDiverged: the loss exploded.
        Alarmed: an alarm rose, and ``train.on_alarm=stop``.
    """
    plain: dict[str, Any] = configs.to_dict(config)
    final = RunFolder(Path(config.runs) / config.run_name())
    plain |= identity.fingerprints(config, final)
    if final.finished:
        return runs.open_run(Path(config.runs), config.run_name(), plain, identity.with_defaults).result()
    accesses = AccessLog()
    parts = preflight(config, accesses, scored=scored)
    folder = runs.open_run(Path(config.runs), config.run_name(), plain, identity.with_defaults)
    if folder.finished:  # by another process, meanwhile
        return folder.result()
    with runs.full_disk_reported(folder.work):
        accesses.attach(folder)
        followed = tracking.Following(config.tracking, config.run_name(), plain, folder.work, listeners.alarm)
        with followed:
            return _work(parts, folder, replace(listeners, step=followed.before(listeners.step)), followed)


def _work(
    parts: Parts, folder: RunFolder, listeners: Listeners, followed: tracking.Following
) -> dict[str, Any]:
    """Train, save and judge the student, and finish the run's folder."""
    config = parts.config
    accelerator = device.accelerator(config.device, config.precision, config.threads)
    listeners.stage("loading the teacher")
    teacher, student, distiller = assemble(parts, folder, accelerator, listeners)
    listeners.stage("distilling")
    outcome = distiller.fit()
    trained = time.perf_counter()
    pair = {"pair": True} if len(config.data.text) == 2 else {}
    student.save(folder.work / "student", strategy=config.strategy.name, teacher=config.teacher, **pair)
    listeners.stage("evaluating")
    result = judge(parts, folder, teacher, student, outcome, accelerator, listeners)
    result["seconds"] = {
        "heldout": outcome.heldout_seconds, "train": _training_seconds(folder),
        "evaluate": time.perf_counter() - trained,
    }
    made = pool_cost(distiller.synthesizer)
    if made.queries:  # a pool's samples were paid for when it was made, once for all its students
        result["queries"]["synthesis"] = made.queries
        result["seconds"]["synthesis"] = made.seconds
    result["generated_tokens"] = distiller.budget.tokens_drawn
    result["fresh_samples"] = runs.fresh_samples(folder.read_log("metrics"))
    if parts.strategy_options.injects == "embeddings":
        folder.drop_embeddings()
    followed.finish(result)
    folder.finish(result)
    return result


def assemble(
    parts: Parts, folder: RunFolder, accelerator: Accelerator, listeners: Listeners
) -> tuple[Teacher, Any, Distiller]:
    """Load and build the live objects of a run: teacher, student and trainer."""
    config = parts.config
    assumed = teaching.assumed_order(config)
    if assumed:
        listeners.alarm(assumed)
    teacher, student = load_models(parts, accelerator)
    context = synthesis_context(parts, teacher, student, config.train.steps)
    synthesizer = registry.build(config.strategy.name, parts.strategy_options, context)
    makers = makers_of(config.strategy.name, parts.strategy_options, config.train)
    alarms = Alarms(len(config.data.labels), lambda: folder.read_log("metrics"), makers)

    def listen(record: dict[str, Any]) -> None:
        listeners.step(record, config.train.steps)
        risen = alarms.see(record)
        repair = getattr(synthesizer, "repair", None)
        if repair is not None:
            risen = [replace(alarm, repaired=repair(alarm.name)) for alarm in risen]
        for alarm in risen:
            folder.log("alarms", vars(alarm))
            listeners.alarm(str(alarm))
        stop_at(risen, config, folder)

    distiller = Distiller(
        teacher, student, synthesizer, config.train, folder, accelerator, config.seed, listen, Diagnostics(teacher),
        judges.samples(config),
    )
    return teacher, student, distiller


def stop_at(risen: Sequence[Alarm], config: RunConfig, folder: RunFolder) -> None:
    """End the run at an alarm that the strategy has not repaired, where ``train.on_alarm=stop``.

    Raises:
        Alarmed: names the alarms, what to try, and how to go on all the same.
    """
    grave = [alarm for alarm in risen if alarm.stops and not alarm.repaired]
    if config.train.on_alarm != "stop" or not grave:
        return
    told = "\n".join(f"  {alarm.name}, {alarm}" for alarm in grave)
    raise Alarmed(
        f"stopped by an alarm, as train.on_alarm=stop asks\n{told}\n"
        f"  kept: {kept_at(grave[0].step, config.train)} in {folder.work}\n"
        "  what to do: change what the alarm names, with another name (run=NAME); "
        "or go on all the same: the same command with train.on_alarm=warn"
    )


def load_models(parts: Parts, accelerator: Accelerator) -> tuple[Teacher, Any]:
    """The teacher of a run on the accelerator's device, and a new student; the global generators are seeded."""
    config = parts.config
    teacher = teaching.load_teacher(config)
    teacher.classifier.to(accelerator.device)
    seeding.seed_globals(config.seed)
    reads = registry.student_reads(parts.strategy_options)
    context = StudentContext(teacher, reads, config.trust_remote_code)
    return teacher, students.build(config.student.name, parts.student_options, context)


def judge(
    parts: Parts, folder: RunFolder, teacher: Teacher, student: Any, outcome: Outcome, accelerator: Accelerator,
    listeners: Listeners,
) -> dict[str, Any]:
    """Everything that ``result.json`` says of a finished student, but the seconds."""
    config = parts.config
    scored = scoring.score(
        config, parts.task, teacher, student, folder.work / "student", listeners.stage, listeners.predicted
    )
    held = {"agreement": outcome.heldout_agreement, "samples": outcome.heldout_samples}
    return {
        "run": config.run_name(),
        "finished": datetime.now().isoformat(timespec="seconds"),
        "config": configs.to_dict(config),
        "environment": environment(accelerator),
        "strategy": {
            "name": config.strategy.name, "label": config.strategy.label or config.strategy.name,
            "injects": parts.strategy_options.injects,
            "uses_real_text": parts.strategy_options.uses_real_text,
        },
        **scored,
        "fidelity": held if outcome.heldout_agreement is not None else None,
        "queries": dict(teacher.queries),
        "alarms": [alarm["name"] for alarm in folder.read_log("alarms")],
        "steps": outcome.steps,
    }


def _training_seconds(folder: RunFolder) -> float:
    """Seconds of synthesis and training, added up over the steps: a resumed run counts what each sitting gave."""
    return float(sum(record["seconds"] for record in folder.read_log("metrics")))


def environment(accelerator: Accelerator) -> dict[str, Any]:
    """Versions and machine, for ``result.json``."""
    return {
        **{name: version(name) for name in ("torch", "transformers", "datasets", "accelerate", "dfkd")},
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpu": device.cpu_capabilities().get("cpu_name", platform.processor()),
        "cores": torch.get_num_threads(),
        "device": str(accelerator.device),
        "precision": "bf16" if accelerator.mixed_precision == "bf16" else "float32",
    }
