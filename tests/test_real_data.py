"""Whole runs on real data with a real pre-trained encoder (bert-tiny); skipped without DFKD_DATA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dfkd import config, pipeline, teaching


@pytest.fixture(scope="module")
def news_teacher(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bert-tiny, fine-tuned on a part of AG News."""
    folder = tmp_path_factory.mktemp("teachers") / "ag_news"
    given = ["data=ag_news", f"model={data_root / 'bert-tiny-splade'}", f"out={folder}", "data.max_length=32"]
    more = ["limit=1800", "epochs=1", "learning_rate=1e-3", "batch_order=by_length", "device=cpu"]
    data, settings = config.load_teacher([*given, *more])
    teaching.make_teacher(data, settings, quiet=True)
    return folder


def distil(teacher: Path, runs: Path, strategy: str, *more: str) -> dict[str, Any]:
    base = ["data=ag_news", f"teacher={teacher}", f"runs={runs}", f"strategy={strategy}", "data.max_length=32"]
    base += ["train.steps=25", "train.batch_size=32", "train.learning_rate=1e-3", "train.heldout=32"]
    base += ["evaluate.limit=300", "evaluate.latency_rounds=3"]
    return pipeline.run(pipeline.load_config([*base, "device=cpu", *more]))


@pytest.mark.slow
def test_a_teacher_and_its_students_on_news(news_teacher: Path, tmp_path: Path) -> None:
    own = ("student.layers=1", "student.dropout=0")
    runs = {name: distil(news_teacher, tmp_path, name, *own) for name in ("random_tokens", "as_dfd", "real_text")}
    accuracy = {name: result["student"]["scores"]["accuracy"] for name, result in runs.items()}
    teacher = runs["real_text"]["teacher"]["scores"]["accuracy"]
    assert teacher > 0.8 and runs["real_text"]["test_items"] == 300
    # students that have never seen a real text are far above chance (0.25), and the ceiling is above the floor
    assert accuracy["random_tokens"] > 0.5 and accuracy["as_dfd"] > 0.5
    assert accuracy["real_text"] > max(0.75, accuracy["random_tokens"])
    cost = {whose: runs["as_dfd"][whose]["cost"] for whose in ("teacher", "student")}
    assert cost["student"]["multiply_adds"] < cost["teacher"]["multiply_adds"]
    assert runs["as_dfd"]["latency_ratio"]["32"] < 1


@pytest.mark.slow
def test_a_pretrained_student_by_folder(news_teacher: Path, data_root: Path, tmp_path: Path) -> None:
    model = f"student.model={data_root / 'bert-tiny-splade'}"
    few = distil(news_teacher, tmp_path, "real_text", "student=pretrained", model, "train.steps=1", "run=few")
    more = distil(news_teacher, tmp_path, "real_text", "student=pretrained", model, "train.steps=50", "run=more")
    assert more["student"]["agreement"] > few["student"]["agreement"] + 0.2
