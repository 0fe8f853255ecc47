"""A judge: held-out samples out of a pool that many runs share; and runs whose test split stays closed."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfkd import config as configs
from dfkd import identity, judge, pipeline, synthesizing, tasks
from dfkd.errors import ConfigError, DataFreeError
from dfkd.models.students import registry as students
from dfkd.pool import Pool
from dfkd.runs import RunFolder


@pytest.fixture
def command(toy_teacher: Path, tmp_path: Path) -> list[str]:
    """Settings of a quick run, named ``one``, of another seed than the toy pool."""
    return [
        "data=toy", f"teacher={toy_teacher}", "strategy=random_tokens", "student.layers=1", "train.steps=3",
        "train.batch_size=8", "train.heldout=20", "threads=1", "evaluate.latency_rounds=0", "device=cpu",
        "precision=float32", f"runs={tmp_path}", "run=one", "seed=7",
    ]


def test_agreement_is_measured_on_the_judge_and_the_test_split_stays_closed(
    command: list[str], toy_pool: Path, tmp_path: Path
) -> None:
    config = pipeline.load_config([*command, f"judge={toy_pool}"])
    pipeline.run(config, scored=False)
    result = RunFolder(tmp_path / "one").result()
    assert result["queries"] == {**result["queries"], "heldout": 0}  # the pool has the teacher's answers
    # by hand: the finished student on the judge's first texts
    pool = judge.samples(config)
    assert isinstance(pool, Pool)
    batch, teacher_logits = pool.take(range(20))
    student = students.load(tmp_path / "one" / "student")
    student.train(False)
    same = (student.from_texts(batch.texts).argmax(1) == teacher_logits.argmax(1)).float().mean()
    assert result["fidelity"] == {"agreement": pytest.approx(float(same)), "samples": 20}
    counts = teacher_logits.argmax(1).bincount(minlength=3).tolist()
    assert judge.largest_class(config) == (max(counts) / 20, config.data.labels[counts.index(max(counts))])
    assert result["student"]["scores"] is None and result["test_items"] == 0
    accesses = tmp_path / "one" / "access.jsonl"
    assert not accesses.exists() or '"test"' not in accesses.read_text()


def test_another_judge_is_another_run(command: list[str], toy_pool: Path) -> None:
    with_judge = pipeline.load_config([*command, f"judge={toy_pool}"])
    assert judge.fingerprint(with_judge) and judge.fingerprint(pipeline.load_config(command)) is None
    assert identity.fingerprints(with_judge, RunFolder(Path("nowhere")))["judge_sha256"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["train.heldout=61"], "train.heldout does not fit.*1 to 60 samples"),
        (["train.heldout=0"], "train.heldout does not fit"),
        (["seed=0"], "made as the training samples are.*seed=1000"),
        (["strategy=pool", "strategy.folder=POOL", "train.heldout=5"], "made as the training samples are"),
        (["strategy=mixture", "strategy.parts=[{strategy: pool, options: {folder: POOL}}]"], "made as the training"),
        (["data.max_length=16"], "labelled by another teacher, or for another task"),
        (["judge=nowhere"], "no pool in 'nowhere'"),
    ],
)
def test_a_judge_that_does_not_fit_is_refused_before_work(
    command: list[str], toy_pool: Path, more: list[str], said: str
) -> None:
    given = [*command, f"judge={toy_pool}", *(text.replace("POOL", str(toy_pool)) for text in more)]
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        pipeline.preflight(pipeline.load_config(given))


def test_a_pool_has_no_judge() -> None:
    with pytest.raises(ConfigError, match="unknown key 'judge'"):
        synthesizing.load_config(["data=toy", "teacher=x", "strategy=random_tokens", "out=y", "samples=3", "judge=z"])


def test_a_closed_test_split_is_handed_to_nobody() -> None:
    seen: list[dict[str, object]] = []
    task = tasks.load(configs.load_data({"data": "toy"}), seen.append, scored=False)
    assert not task.has_test
    with pytest.raises(DataFreeError, match="(?s)test split of 'toy' is closed.*dfkd evaluate"):
        task.hand_out("test", to="evaluate")
    assert [record["refused"] for record in seen] == [True]
    test = tasks.load(configs.load_data({"data": "toy"})).hand_out("test", to="evaluate")
    with pytest.raises(DataFreeError, match="task's own"):  # what is closed is still known, to keep it out
        task.admit("leak", [str(text) for text in test.texts], to="corpus")
