"""What a strategy gets to see of a run: words, models, and the doors to texts, which are the only ones."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any, Sequence

from dfkd import corpora, seeding, text_pool
from dfkd.batch import Text
from dfkd.config import RunConfig, sha256
from dfkd.errors import ConfigError
from dfkd.models import sources
from dfkd.models.teacher import Teacher
from dfkd.runs import RunFolder
from dfkd.synthesis.base import Context, Corpus, Facts
from dfkd.tasks import Task


@dataclass(frozen=True)
class Parts:
    """What a run has been checked to have: typed options and the task, nothing heavy loaded yet."""

    config: RunConfig
    task: Task
    strategy_options: Any
    student_options: Any
    corpus: Corpus


class AccessLog:
    """Keeps what was handed out to whom until the run's folder is there, then writes it into it."""

    def __init__(self) -> None:
        self.folder: RunFolder | None = None
        self.waiting: list[dict[str, Any]] = []

    def __call__(self, record: dict[str, Any]) -> None:
        """Note one hand-out."""
        if self.folder is None:
            self.waiting.append(record)
        else:
            self.folder.log("access", record)

    def attach(self, folder: RunFolder) -> None:
        """Write to ``folder`` from now on."""
        self.folder, waiting, self.waiting = folder, self.waiting, []
        for record in waiting:
            self(record)


def corpus_door(task: Task | None, strategy: str) -> Corpus:
    """The way of a strategy to texts from outside of its task; what it has read once it need not read again.

    Args:
        task: whose own texts are refused; ``None``: it cannot be read, and nothing gets through.
        strategy: its name, for the log.
    """

    @functools.cache
    def corpus(file: str, column: str, split: str, hub_config: str | None, limit: int | None) -> Sequence[str]:
        found = corpora.load(file, column, split, hub_config, limit)
        if task is None:
            raise ConfigError("a corpus cannot be compared with the task's texts", fix="mend the data set first")
        task.admit(found.name, found.texts, strategy, found.path, found.hub)
        return found.texts

    return corpus


def teacher_fingerprint(config: RunConfig) -> str:
    """What tells predictions of one teacher from those of another: its weights, and the order of its outputs."""
    return fingerprint_of(sources.fingerprint(config.teacher), config.teacher_labels)


def fingerprint_of(weights: str, teacher_labels: Sequence[str] | None) -> str:
    """As :func:`teacher_fingerprint`, of what a finished run's ``config.yaml`` says."""
    return weights if teacher_labels is None else sha256(json.dumps([weights, list(teacher_labels)]))


def task_of(config: RunConfig) -> dict[str, Any]:
    """Where a task's texts come from: what tells one task from another with the same classes."""
    return {name: getattr(config.data, name) for name in text_pool.TASK}


def strategy_facts(config: RunConfig, corpus: Corpus) -> Facts:
    """What a strategy's check may know; a teacher that is not there is another check's business."""
    data = config.data
    teacher_sha256: str | None = None
    teacher_type: str | None = None
    try:
        teacher_sha256 = teacher_fingerprint(config)
        teacher_type = sources.load_config(config.teacher, config.trust_remote_code).model_type
    except ConfigError:
        pass
    return Facts(
        data.labels, data.prompts, len(data.text) == 2, data.max_length, trust_remote_code=config.trust_remote_code,
        corpus=corpus, teacher_sha256=teacher_sha256, task=task_of(config), teacher_type=teacher_type,
    )


def synthesis_context(parts: Parts, teacher: Teacher, student: Any, steps: int | None) -> Context:
    """What a run's strategy may use; the doors to texts are here.

    Args:
        parts: checked.
        teacher: live.
        student: live, in training.
        steps: student steps; ``None``: no student is trained.
    """
    config = parts.config
    # a mixture that has real texts among its parts says so, and is marked as not data-free
    reader = "real_text" if parts.strategy_options.uses_real_text else config.strategy.name

    def real_text() -> Sequence[Text]:
        return parts.task.hand_out("train", to=reader).texts

    return Context(
        teacher, student, seeding.generator(config.seed, "synthesis"), pair=len(config.data.text) == 2,
        prompts=config.data.prompts, real_text=real_text, corpus=parts.corpus, steps=steps,
        teacher_sha256=teacher_fingerprint(config), task=task_of(config), precision=config.precision,
        trust_remote_code=config.trust_remote_code,
    )
