"""What is kept on disk: nested state, the pool of pseudo samples, the run folder; and the batches themselves."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors import SafetensorError

from dfkd import pool as pools
from dfkd import runs, state
from dfkd.batch import Feedback, PseudoBatch
from dfkd.errors import ConfigError, DfkdError
from dfkd.pool import Pool
from dfkd.runs import open_run


def same(a: Any, b: Any) -> bool:
    """Equality through containers: types, order of keys, and tensors bit by bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


# state


class Named(NamedTuple):
    step: int


STATES: dict[str, Any] = {
    "nothing": None,
    "empty": {},
    "numbers": {"step": 3, "loss": 0.1 + 0.2, "huge": 10**30, "on": True, "off": False},
    "infinite": [float("inf"), -float("inf")],
    "keys": {0: "a", "0": "b", (1, 2): "c", None: "d"},
    "nested": [{"a": (1, [2, (3,)], None)}, (), [], "t\u00e4xt \n"],
    "tensors": {
        "float": torch.randn(2, 3), "bytes": torch.get_rng_state(), "half": torch.ones(2, dtype=torch.bfloat16),
        "none": torch.zeros(0, 4), "scalar": torch.tensor(5), "strided": torch.arange(6).view(2, 3).T,
    },
    "tags": {"tensor": "0", "dict": [], "list": {}},
}


@pytest.mark.parametrize("name", STATES)
def test_state_round_trip(name: str, tmp_path: Path) -> None:
    state.save(tmp_path, STATES[name])
    assert same(state.load(tmp_path), STATES[name])


def test_state_of_an_optimizer_round_trip(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.randn(3))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    state.save(tmp_path, optimizer.state_dict())
    assert same(state.load(tmp_path), optimizer.state_dict())


def test_tensors_that_share_memory_are_saved_each(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    state.save(tmp_path, [whole, whole[2:4], whole])
    assert same(state.load(tmp_path), [whole, whole[2:4], whole])


def test_named_tuples_come_back_as_tuples(tmp_path: Path) -> None:
    state.save(tmp_path, [Named(3), torch.Size([1, 2])])
    assert state.load(tmp_path) == [(3,), (1, 2)]


@pytest.mark.parametrize("odd", [object(), {1, 2}, b"bytes", Path("x"), torch.float32, 1j])
def test_state_refuses_what_it_cannot_hold(odd: object, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=f"state holds a {type(odd).__name__}, which cannot be saved"):
        state.save(tmp_path / "state", {"a": [odd]})
    assert not (tmp_path / "state").exists()


def test_write_text_replaces_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sub" / "file"
    state.write_text(path, "old")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        state.write_text(path, "new")
    assert path.read_text() == "old"


# batches


BAD_BATCHES: dict[str, dict[str, Any]] = {
    "either texts or embeddings": {},
    "at least one sample": {"texts": ()},
    r"embeddings must be \(B, L, D\), got \(2, 3\)": {"embeddings": torch.zeros(2, 3)},
    r"attention_mask must be \(2, 3\), got None": {"embeddings": torch.zeros(2, 3, 4)},
    r"attention_mask must be \(2, 3\), got \(2, 4\)": {
        "embeddings": torch.zeros(2, 3, 4), "attention_mask": torch.ones(2, 4)
    },
    r"targets must be \(B=1, C\), got \(2, 3\)": {"texts": ("a",), "targets": torch.ones(2, 3)},
    r"targets must be \(B=1, C\), got \(1,\)": {"texts": ("a",), "targets": torch.ones(1)},
}


@pytest.mark.parametrize("said", BAD_BATCHES)
def test_batches_check_themselves(said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PseudoBatch(**BAD_BATCHES[said])


def test_a_batch_holds_not_both() -> None:
    with pytest.raises(ValueError, match="either texts or embeddings"):
        PseudoBatch(texts=("a",), embeddings=torch.zeros(1, 2, 3), attention_mask=torch.ones(1, 2))


@pytest.mark.parametrize("shapes", [((2, 3), (2, 4)), ((1, 3), (1, 3))])
def test_feedback_checks_its_logits(shapes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match=r"logits must both be \(B=2, C\)"):
        Feedback(0, PseudoBatch(texts=("a", "b")), torch.zeros(shapes[0]), torch.zeros(shapes[1]), {})


# the pool


def texts(*names: str) -> PseudoBatch:
    return PseudoBatch(texts=names)


def fill(pool: Pool, batches: int, size: int = 2) -> None:
    """Batch ``b`` holds the texts ``b.0``, ``b.1``...; the teacher's logits for it are (b, 0)."""
    for index in range(len(pool.sizes), len(pool.sizes) + batches):
        batch = texts(*(f"{index}.{row}" for row in range(size)))
        pool.append(batch, torch.tensor([[float(index), 0.0]] * size), step=index)


def drawn(pool: Pool, n: int = 200, seed: int = 0) -> list[Any]:
    found = pool.sample(n, torch.Generator().manual_seed(seed))[0].texts
    assert found is not None
    return list(found)


def embedded(lengths: list[int], width: int = 5) -> PseudoBatch:
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)).long()
    values = torch.randn(len(lengths), max(lengths), width) * mask.unsqueeze(-1)
    return PseudoBatch(
        embeddings=values, attention_mask=mask, targets=torch.rand(len(lengths), 3), info={"not": 1.0}
    )


BATCHES = {
    "texts": texts("a", "", "\u00fcnic\u00f6de \n\t\u65e5\u672c"),
    "pairs": PseudoBatch(texts=(("a", "b"), ("", "c"))),
    "texts with targets": PseudoBatch(texts=("a", "b"), targets=torch.tensor([[0.1, 0.9], [1.0, 0.0]])),
    "embeddings": embedded([3, 5, 1]),
    "embeddings of one length": embedded([4, 4]),
}


@pytest.mark.parametrize("name", BATCHES)
def test_pool_gives_back_exactly_what_it_got(name: str, tmp_path: Path) -> None:
    batch, logits = BATCHES[name], torch.randn(len(BATCHES[name]), 3)
    Pool(tmp_path, 10).append(batch, logits, step=0)
    pool = Pool(tmp_path, 10)
    pool.load_state_dict({"sizes": [len(batch)]})
    (again, stored), = pool.batches()
    for field in ("texts", "embeddings", "attention_mask", "targets"):
        assert same(getattr(again, field), getattr(batch, field)), field
    assert torch.equal(stored, logits)


def test_pool_draws_samples_with_their_own_logits(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 100)
    fill(pool, 3)
    batch, logits = pool.sample(50, torch.Generator().manual_seed(0))
    assert [str(text).split(".")[0] for text in batch.texts or ()] == [str(int(row[0])) for row in logits]


def test_balanced_samples_are_drawn_evenly_over_the_classes(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 100)
    for index, classes in enumerate(([0] * 9, [0] * 8 + [2], [0, 2])):  # of three classes one is never seen
        logits = torch.nn.functional.one_hot(torch.tensor(classes), 3).float()
        pool.append(texts(*(f"{index}.{row}" for row in range(len(classes)))), logits, step=index)
    plain, even = (
        pool.sample(3000, torch.Generator().manual_seed(0), balance)[1].argmax(dim=1) for balance in (False, True)
    )
    assert float((plain == 2).float().mean()) == pytest.approx(0.1, abs=0.02)
    assert float((even == 2).float().mean()) == pytest.approx(0.5, abs=0.04) and not (even == 1).any()
    found = pool.sample(3000, torch.Generator().manual_seed(0), True)[0].texts
    assert len(set(found or ())) == 20  # each sample comes
    pool.load_state_dict({"sizes": [9]})  # back to a checkpoint, and other samples after it
    pool.append(texts("new"), torch.tensor([[0.0, 1.0, 0.0]]), step=1)
    assert set(pool.sample(50, torch.Generator().manual_seed(0), True)[1].argmax(dim=1).tolist()) == {0, 1}


def test_pool_pads_drawn_embeddings_to_the_longest(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 100)
    pool.append(embedded([2, 2]), torch.zeros(2, 3), 0)
    pool.append(embedded([6]), torch.zeros(1, 3), 1)
    batch, _ = pool.sample(30, torch.Generator().manual_seed(0))
    assert batch.embeddings is not None and batch.attention_mask is not None
    assert sorted(set(batch.attention_mask.sum(dim=1).tolist())) == [2, 6]
    assert batch.embeddings[batch.attention_mask == 0].abs().sum() == 0


def test_pool_draws_evenly_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 100)
    for size in (1, 4, 2):
        fill(pool, 1, size)
    found = drawn(pool, 7000)
    assert found == drawn(pool, 7000) != drawn(pool, 7000, seed=1)
    assert {name: round(found.count(name) / 1000) for name in set(found)} == dict.fromkeys(set(found), 1)
    assert len(set(found)) == len(pool) == 7


def test_pool_draws_from_the_newest_alone(tmp_path: Path) -> None:
    pool = Pool(tmp_path, capacity=5)  # rounded up to 3 batches of 2
    fill(pool, 6)
    assert len(pool) == 6
    assert {name.split(".")[0] for name in drawn(pool)} == {"3", "4", "5"}
    assert len(list(tmp_path.glob("*.arrow"))) == 6
    pool.collect_garbage()
    assert sorted(path.stem for path in tmp_path.glob("*.arrow")) == ["000000003", "000000004", "000000005"]
    fill(pool, 1)
    pool.collect_garbage()
    assert {name.split(".")[0] for name in drawn(pool)} == {"4", "5", "6"}


def test_pool_goes_back_to_a_checkpoint(tmp_path: Path) -> None:
    pool = Pool(tmp_path, capacity=4)
    fill(pool, 2)
    saved, before = pool.state_dict(), drawn(pool)
    fill(pool, 3)
    (tmp_path / "000000005.tmp").write_bytes(b"cut sh")  # a kill in the middle of a write
    again = Pool(tmp_path, capacity=4)
    again.load_state_dict(saved)
    assert drawn(again) == before
    assert sorted(path.stem for path in tmp_path.glob("*.arrow")) == ["000000000", "000000001"]
    fill(again, 1)
    assert {name.split(".")[0] for name in drawn(again)} == {"1", "2"}


def test_pool_state_is_a_copy(tmp_path: Path) -> None:
    pool = Pool(tmp_path, 4)
    fill(pool, 1)
    saved = pool.state_dict()
    fill(pool, 1)
    assert saved == {"sizes": [2], "makers": [""]}


def test_empty_pool_refuses_to_draw(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the pool is empty"):
        Pool(tmp_path, 4).sample(1, torch.Generator())


def test_pool_file_is_written_by_one_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(tmp_path, 4)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pools.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        fill(pool, 1)
    assert list(tmp_path.glob("*.arrow")) == [] and pool.sizes == []


# the run folder


DATA = {"name": "toy", "folder": "/a", "labels": ["x", "y"]}
CONFIG = {"seed": 0, "runs": "here", "data": DATA, "run": None}


def changed(**values: Any) -> dict[str, Any]:
    return {**CONFIG, **values}


def test_finishing_renames_and_clears(tmp_path: Path) -> None:
    folder = open_run(tmp_path, "toy/run", CONFIG)
    assert folder.work == tmp_path / "toy" / "run.partial" and not folder.finished
    folder.save_checkpoint(3, {"step": 3})
    folder.log("metrics", {"step": 0})
    folder.finish({"accuracy": 1.0, "name": "\u00fc"})
    assert folder.finished and not folder.work.exists()
    kept = sorted(path.name for path in folder.final.iterdir())
    assert kept == ["config.yaml", "metrics.jsonl", "result.json"]
    again = open_run(tmp_path, "toy/run", CONFIG)
    assert again.result() == {"accuracy": 1.0, "name": "\u00fc"} and not again.work.exists()
    assert again.read_log("metrics") == [{"step": 0}]


def test_nothing_is_final_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_run(tmp_path, "run", CONFIG)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            folder.finish({})
    assert not folder.finished
    folder.finish({"again": 1})
    assert folder.result() == {"again": 1}


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    "other, said",
    [
        (changed(seed=1), "seed: 0 there, 1 now"),
        (changed(run="x"), "run: None there, 'x' now"),
        (changed(data={**DATA, "labels": ["x"]}), r"data.labels: \['x', 'y'\] there, \['x'\] now"),
        (changed(more=1), "more: None there, 1 now"),
        ({}, "data.labels: .* seed: 0 there, None now"),
    ],
)
def test_another_config_is_refused(other: dict[str, Any], said: str, finished: bool, tmp_path: Path) -> None:
    folder = open_run(tmp_path, "run", CONFIG)
    if finished:
        folder.finish({})
    with pytest.raises(ConfigError, match=rf"exists with another config\n  found: {said}\n.*run=NAME"):
        open_run(tmp_path, "run", other)


def test_places_make_no_other_config(tmp_path: Path) -> None:
    open_run(tmp_path, "run", CONFIG).finish({})
    moved = changed(runs="elsewhere", data={**DATA, "folder": "/b", "labels": ("x", "y")})
    assert open_run(tmp_path, "run", moved).finished


def test_what_tables_call_a_strategy_makes_no_other_config(tmp_path: Path) -> None:
    def called(label: str, **more: Any) -> dict[str, Any]:
        return changed(strategy={"name": "as_dfd", "options": {"guess_steps": 5, **more}, "label": label})

    open_run(tmp_path, "run", called("as_dfd")).finish({})
    assert open_run(tmp_path, "run", called("as_dfd/renamed")).finished
    with pytest.raises(ConfigError, match="strategy.options.guess_steps: 5 there, 6 now"):
        open_run(tmp_path, "run", called("as_dfd", guess_steps=6))


def hold(root: Path, held: Any, done: Any) -> None:
    folder = open_run(root, "run", CONFIG)
    held.set()
    done.wait(30)
    del folder


def test_another_process_holds_the_run(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held, done = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, held, done))
    other.start()
    try:
        assert held.wait(30)
        with pytest.raises(ConfigError, match="another process is working on the run .*\n.*run=NAME"):
            open_run(tmp_path, "run", CONFIG)
    finally:
        done.set()
        other.join()
    open_run(tmp_path, "run", CONFIG)  # the lock went with the process


def test_logs_leave_out_a_last_line_cut_short(tmp_path: Path) -> None:
    folder = open_run(tmp_path, "run", CONFIG)
    assert folder.read_log("metrics") == []
    for step in range(4):
        folder.log("metrics", {"step": step, "text": "\u2028 \u00fc"})
    with (folder.work / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "text": "')
    with (folder.work / "metrics.jsonl").open("ab") as raw:
        raw.write("\u00fc".encode()[:1])  # a kill may cut a character in two
    assert [record["step"] for record in folder.read_log("metrics")] == [0, 1, 2, 3]
    folder.rewind_log("metrics", 2)
    folder.log("metrics", {"step": 2})
    assert [record["step"] for record in folder.read_log("metrics")] == [0, 1, 2]
    folder.rewind_log("nothing", 0)
    assert not (folder.work / "nothing.jsonl").exists()


def test_a_checkpoint_replaces_the_one_before(tmp_path: Path) -> None:
    folder = open_run(tmp_path, "run", CONFIG)
    assert folder.load_checkpoint() is None
    for step in (5, 10, 10, 100_000):
        folder.save_checkpoint(step, {"step": step})
        assert folder.load_checkpoint() == {"step": step}
        assert len(list(folder.work.glob("checkpoint*"))) == 1


def test_a_checkpoint_cut_short_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_run(tmp_path, "run", CONFIG)
    folder.save_checkpoint(5, {"step": 5})

    def killed(folder: Path, content: Any) -> None:
        folder.mkdir()
        (folder / state.TREE).write_text("{")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(state, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            folder.save_checkpoint(10, {"step": 10})
    assert folder.load_checkpoint() == {"step": 5}
    folder.save_checkpoint(10, {"step": 10})
    assert folder.load_checkpoint() == {"step": 10}


def test_too_little_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 100, 5_000_000))
    runs.require_disk(tmp_path / "not" / "yet", 5_000_000)
    with pytest.raises(ConfigError, match="expected: 6 MB free\n  found: 5 MB\n  what to do: free some space"):
        runs.require_disk(tmp_path / "not" / "yet", 6_000_000)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told(number: int, tmp_path: Path) -> None:
    with pytest.raises(DfkdError, match="no disk space left while writing .*\n  kept: the last checkpoint"):
        with runs.full_disk_reported(tmp_path):
            raise OSError(number, os.strerror(number))


def test_other_errors_of_the_system_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), runs.full_disk_reported(tmp_path):
        raise PermissionError(errno.EACCES, "no")


def test_a_full_disk_in_a_checkpoint_keeps_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_run(tmp_path, "run", CONFIG)
    folder.save_checkpoint(5, {"step": 5})

    def full(*_: object) -> None:  # what the library raises on a disk that is really full
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patched:
        patched.setattr(state, "save_file", full)
        with pytest.raises(DfkdError, match="free some space and repeat"), runs.full_disk_reported(folder.work):
            folder.save_checkpoint(10, {"step": 10})
    assert folder.load_checkpoint() == {"step": 5}


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ConfigError, match="is there already and is no run\n.*run=NAME"):
        open_run(tmp_path, "run", CONFIG)
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]
