"""What there is to say of a finished student beside its teacher: scores on the test split, size, speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import torch

from dfkd import config as configs
from dfkd import teaching
from dfkd.config import RunConfig
from dfkd.evaluate import cost
from dfkd.evaluate.predict import Progress, cached_predictions, judged_items, predict
from dfkd.evaluate.scores import agreement, packed, reliability, scores
from dfkd.models import sources
from dfkd.models.teacher import Teacher
from dfkd.tasks import Task

BATCH_SIZES_TIMED = (1, 32)
Tell = Callable[[str], None]


def score(
    config: RunConfig, task: Task, teacher: Teacher, student: Any, saved: Path, tell: Tell, predicted: Progress
) -> dict[str, Any]:
    """Score a student and its teacher.

    Args:
        config: of the run.
        task: its data set; the test split, if there is one, is handed out.
        teacher: on any device; its ``evaluate`` queries are set.
        student: trained, on the same device.
        saved: folder of the student's files.
        tell: called with a line of text when a stage begins.
        predicted: called with (done, all) while test items are predicted.

    Returns:
        ``teacher``, ``student``, ``latency_ratio``, ``test_items`` and ``test_fingerprint`` of ``result.json``.
    """
    tested = _on_test(config, task, teacher, student, tell, predicted)
    timed = _latency(config, teacher, student)
    ratio = {
        size: timed["student"][size]["p50_ms"] / timed["teacher"][size]["p50_ms"] for size in timed.get("student", {})
    }
    return {
        "teacher": {
            "reference": config.teacher, "sha256": sources.fingerprint(config.teacher),
            "scores": tested.get("teacher"), "correct": tested.get("teacher_correct"),
            "reliability": tested.get("teacher_reliability"),
            "cost": {
                **_cost(teacher.classifier), "latency": timed.get("teacher", {}),
                "file_bytes": _teacher_bytes(config.teacher),
            },
            "labels_assumed": teaching.assumed_order(config),
        },
        "student": {
            "scores": tested.get("student"), "correct": tested.get("student_correct"),
            "reliability": tested.get("student_reliability"), "agreement": tested.get("agreement"),
            "cost": {
                **_cost(student), "latency": timed.get("student", {}), "file_bytes": cost.file_bytes(saved),
            },
        },
        "latency_ratio": ratio,
        "test_items": tested.get("items", 0),
        "test_fingerprint": _test_fingerprint(config, task) if task.has_test else None,
    }


def _on_test(
    config: RunConfig, task: Task, teacher: Teacher, student: Any, tell: Tell, predicted: Progress
) -> dict[str, Any]:
    """Scores of teacher and student on the test split, and how often they agree; empty without a test split."""
    if not task.has_test:
        return {}
    test = task.hand_out("test", to="evaluate")
    judged = judged_items(len(test.texts), config.evaluate.limit)
    texts, labels = [test.texts[i] for i in judged], [test.labels[i] for i in judged]
    facts = f"{sources.fingerprint(config.teacher)}/{_test_fingerprint(config, task)}/{len(texts)}"
    key = configs.sha256(f"{facts}/{config.data.max_length}/{config.teacher_labels}")

    def ask_teacher() -> torch.Tensor:
        tell("asking the teacher about the test items")
        with teacher.counting_as("evaluate"):
            return predict(teacher, texts, config.evaluate.batch_size, predicted)

    teacher_logits = cached_predictions(Path(config.runs) / ".cache", key, ask_teacher)
    teacher.queries["evaluate"] = len(texts)  # also where an earlier run asked, and the answers were kept
    tell("asking the student about the test items")
    student_logits = predict(student, texts, config.evaluate.batch_size, predicted)
    bins = config.evaluate.calibration_bins
    return {
        "teacher": scores(teacher_logits, labels, bins), "student": scores(student_logits, labels, bins),
        "agreement": agreement(teacher_logits, student_logits), "items": len(texts),
        "teacher_correct": packed(teacher_logits, labels), "student_correct": packed(student_logits, labels),
        "teacher_reliability": reliability(teacher_logits, labels, bins),
        "student_reliability": reliability(student_logits, labels, bins),
    }


def _test_fingerprint(config: RunConfig, task: Task) -> str:
    """Tells the test items judged from any others."""
    limit = config.evaluate.limit
    whole = task.fingerprint("test")
    return whole if limit is None else configs.sha256(f"{whole}/{limit} at random")


def _latency(config: RunConfig, teacher: Teacher, student: Any) -> dict[str, Any]:
    """p50 and p95 in milliseconds for student and teacher in turn, by batch size; empty when switched off."""
    rounds = config.evaluate.latency_rounds
    if rounds == 0:
        return {}
    pair = {"teacher": teacher.classifier, "student": student}
    return cost.latency(pair, BATCH_SIZES_TIMED, rounds, config.data.max_length)


def _cost(classifier: Any) -> dict[str, Any]:
    return {**cost.parameter_counts(classifier), "multiply_adds": cost.multiply_adds(classifier)}


def _teacher_bytes(reference: str) -> int | None:
    folder = Path(sources.resolve(reference))
    return cost.file_bytes(folder) if folder.is_dir() else None
