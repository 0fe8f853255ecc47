"""The trainer: budgets, replay, selection, divergence, and going on after a kill, byte for byte."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any, Callable, Sequence

import numpy
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

from dfkd import identity, pipeline
from dfkd.budget import draws_replay, progress, rate_factor
from dfkd.config import RunConfig, TrainConfig
from dfkd.distill import Distiller
from dfkd.errors import ConfigError, TrainingDiverged
from dfkd.models.students import registry as students
from dfkd.pipeline import Listeners, load_config
from dfkd.runs import RunFolder
from dfkd.synthesis import random_tokens, registry
from dfkd.synthesis.random_tokens import RandomTokens

QUICK = ("train.batch_size=8", "train.heldout=16", "evaluate.latency_rounds=0", "device=cpu", "evaluate.limit=20")
STUDENTS: dict[str, tuple[str, ...]] = {
    "truncated": ("student.layers=1",), "pretrained": ("student.model={encoder}",),
    "bilstm": ("student.hidden=8", "student.layers=2"), "textcnn": ("student.filters=8",),
    "narrow": ("student.layers=1",),
}
"""What each student kind needs to be built on the toy teacher; a new kind fails the test until it stands here."""


@pytest.fixture
def settings(
    toy_teacher: Path, toy_encoder: Path, toy_language_model: Path, toy_pool: Path, tmp_path: Path
) -> Callable[..., list[str]]:
    """Overrides of a quick toy run."""
    outside = tmp_path / "outside.txt"
    outside.write_text("".join(f"Text {n} tells of {n} things.\n" for n in range(50)))

    def make(strategy: str, *more: str, student: str = "truncated") -> list[str]:
        of_student = [option.format(encoder=toy_encoder) for option in STUDENTS[student]]
        base = ["data=toy", f"teacher={toy_teacher}", f"runs={tmp_path / 'runs'}", f"strategy={strategy}"]
        needed = {"model": toy_language_model, "folder": toy_pool, "file": outside}
        described = {option.name for option in registry.describe(strategy.partition("/")[0])[1]}
        base += [f"strategy.{name}={value}" for name, value in needed.items() if name in described]
        return [*base, f"student={student}", *of_student, *QUICK, *more]

    return make


def run(overrides: list[str] | RunConfig, listeners: Listeners = Listeners()) -> dict[str, Any]:
    return pipeline.run(configured(overrides), listeners)


def configured(overrides: list[str] | RunConfig) -> RunConfig:
    return overrides if isinstance(overrides, RunConfig) else pipeline.load_config(overrides)


def weights(overrides: list[str] | RunConfig) -> str:
    """The sha256 of the finished student's weights."""
    config = configured(overrides)
    path = Path(config.runs) / config.run_name() / "student" / "model.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def killed_run(overrides: list[str] | RunConfig, step: int) -> int:
    """Run in a forked process that kills itself with SIGKILL right after ``step``; the signal that ended it."""

    def die(record: dict[str, Any], steps: int) -> None:
        if record["step"] == step:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            run(overrides, Listeners(step=die))
        finally:
            os._exit(1)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


EVERY_TIME = {  # one of each kind of state; the others are slow
    ("as_dfd", "truncated"), ("as_dfd", "bilstm"), ("prompt_rl", "truncated"), ("keyword_prompt", "truncated"),
    ("mixture", "truncated"), ("dafl", "truncated"), ("random_tokens", "pretrained"),
}
COMBINATIONS = [
    pytest.param(strategy, student, marks=[] if (strategy, student) in EVERY_TIME else pytest.mark.slow)
    for strategy in registry.available()
    for student in students.STUDENTS.available()
    if student == "truncated" or strategy == "random_tokens" or (student != "pretrained" and strategy == "as_dfd")
]
"""Every strategy with a truncated student; the other kinds with those strategies that feed them differently."""


# what makes a run of a strategy quick without leaving out any of its parts
QUICK_OPTIONS = {
    "max_new_tokens": 6, "tries": 2, "candidates": 20, "keywords": 5, "inversions": 1, "invert_steps": 2, "contexts": 1,
    "min_words": 2,
}


def ends_with_the_same_bytes(overrides: list[str], kills: Sequence[int]) -> None:
    """A run of 6 steps against one that is killed again and again, with a checkpoint every 2 steps."""
    overrides = [
        *overrides, "train.steps=6", "train.checkpoint_every=2", "train.evaluate_every=2", "train.replay_share=0.4"
    ]
    whole, broken = (pipeline.load_config([*overrides, f"run={name}"]) for name in ("whole", "broken"))
    run(whole)
    for step in kills:
        assert killed_run(broken, step) == signal.SIGKILL
    run(broken)
    assert weights(broken) == weights(whole)
    folder = Path(whole.runs)
    logs = [
        [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in path.read_text().splitlines()]
        for path in (folder / "whole/metrics.jsonl", folder / "broken/metrics.jsonl")
    ]
    assert logs[0] == logs[1] and [record["step"] for record in logs[0]] == list(range(6))
    results = [json.loads((folder / name / "result.json").read_text()) for name in ("whole", "broken")]
    for name in ("queries", "student", "fidelity"):
        assert {**results[0][name], "cost": 0} == {**results[1][name], "cost": 0}


@pytest.mark.parametrize(("strategy", "student"), COMBINATIONS)
def test_killed_run_ends_with_the_same_bytes(
    settings: Callable[..., list[str]], strategy: str, student: str
) -> None:
    described = {option.name for option in registry.describe(strategy)[1]}
    quick = [f"strategy.{name}={value}" for name, value in QUICK_OPTIONS.items() if name in described]
    ends_with_the_same_bytes(settings(strategy, *quick, student=student), kills=(2,))


def test_killed_again_and_again(settings: Callable[..., list[str]]) -> None:
    """Before the first checkpoint, between two, right before one, and right after the last."""
    ends_with_the_same_bytes(settings("as_dfd"), kills=(0, 2, 3, 4))


@pytest.mark.parametrize("more", [[], ["strategy.snap=true"]], ids=["embeddings", "snapped"])
def test_a_trained_map_survives_a_kill(settings: Callable[..., list[str]], more: list[str]) -> None:
    """The paper's form of AS-DFD: the map W and its moments in the optimizer go on where they were."""
    ends_with_the_same_bytes(settings("as_dfd/paper", *more), kills=(2,))


@pytest.mark.parametrize(
    "more", [["strategy=embedding_guess"], ["strategy=as_dfd", "strategy.difficulty_weight=0"],
             ["strategy=cmi", "strategy.adversary_weight=0"]], ids=lambda more: more[0],
)
def test_a_student_with_other_embeddings_learns_from_snapped_ones(
    settings: Callable[..., list[str]], more: list[str], toy_encoder: Path
) -> None:
    config = configured([
        *settings("embedding_guess", student="pretrained"), *more, "strategy.snap=true", "train.steps=4",
        "train.learning_rate=1e-3", "train.weight_decay=0",
    ])
    result = run(config)
    assert result["strategy"]["injects"] == "tokens" and result["queries"]["gradient"] > 0
    folder = Path(config.runs) / config.run_name()
    log = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(log) == 4 and all({"embedding_norm", "distinct_words"} <= set(entry) for entry in log if entry["fresh"])
    before, after = load_file(toy_encoder / "model.safetensors"), load_file(folder / "student/model.safetensors")
    words = "embeddings.word_embeddings.weight"
    changed = (before[words] != after[f"bert.{words}"]).any(1)
    assert int(changed.sum()) > 10  # its own embeddings learn, from the tokens that it has read
    above = "encoder.layer.0.output.dense.weight"
    assert not torch.equal(before[above], after[f"bert.{above}"])


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["generated_tokens=500", "teacher_queries=60"])
def test_what_was_spent_before_the_first_step_survives_a_kill(
    settings: Callable[..., list[str]], budget: str
) -> None:
    quick = ("strategy.max_new_tokens=6", "strategy.tries=1", f"train.{budget}")
    ends_with_the_same_bytes(settings("lm_prompt", *quick), kills=(3,))


@pytest.mark.slow
def test_a_checkpoint_of_a_version_without_the_budget_is_gone_on_with(settings: Callable[..., list[str]]) -> None:
    overrides = settings("random_tokens", "train.steps=6", "train.checkpoint_every=2", "run=old")
    assert killed_run(overrides, 3) == signal.SIGKILL
    folder = RunFolder(Path(load_config(overrides).runs) / "old")
    content = folder.load_checkpoint()
    assert content is not None and content.pop("budget") == {"tokens_before": 0, "queries_before": 16}
    assert content.pop("shown") == 0
    folder.save_checkpoint(content["step"], content)
    assert run(overrides)["steps"] == 6


def test_best_student_survives_a_kill(settings: Callable[..., list[str]]) -> None:
    more = ["train.steps=10", "train.checkpoint_every=3", "train.evaluate_every=1", "train.select=agreement"]
    whole, broken = (settings("random_tokens", *more, f"run={name}") for name in ("whole", "broken"))
    run(whole)
    killed_run(broken, 7)
    run(broken)
    assert weights(broken) == weights(whole)


def test_another_seed_gives_another_student(settings: Callable[..., list[str]]) -> None:
    first, second = (settings("random_tokens", "train.steps=3", f"seed={seed}") for seed in (0, 1))
    run(first), run(second)
    assert weights(first) != weights(second)


def test_finished_run_is_only_read(settings: Callable[..., list[str]]) -> None:
    overrides = settings("random_tokens", "train.steps=3")
    first = run(overrides)

    def fail(*_: Any) -> None:
        raise AssertionError("a finished run was run again")

    assert run(overrides, Listeners(stage=fail, step=fail, predicted=fail)) == first


def test_query_budget_ends_the_run(settings: Callable[..., list[str]]) -> None:
    result = run(settings("random_tokens", "train.steps=50", "train.teacher_queries=60"))
    # 16 held out, then batches of 8 until 60 is reached
    assert result["queries"]["train"] + result["queries"]["heldout"] == 64
    assert result["steps"] == 6


def test_a_run_that_queries_end_looks_at_its_last_step_and_learns_in_it(settings: Callable[..., list[str]]) -> None:
    more = ("train.steps=50", "train.teacher_queries=64", "train.learning_rate=3e-3", "train.warmup=0")
    ends = settings("random_tokens", *more, "train.select=agreement", "train.evaluate_every=50", "run=ends")
    result = run(ends)
    folder = Path(result["config"]["runs"]) / "ends"
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in metrics if "heldout_agreement" in record] == [0, 5]
    assert [record["learning_rate"] for record in metrics] == pytest.approx([5e-4 * n for n in (6, 5, 4, 3, 2, 1)])
    assert result["fidelity"]["agreement"] == max(r["heldout_agreement"] for r in metrics if "heldout_agreement" in r)
    samples = [json.loads(line)["step"] for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert sorted(set(samples)) == [0, 5]


def test_samples_that_bring_labels_may_be_more_than_the_queries(
    settings: Callable[..., list[str]], toy_pool: Path
) -> None:
    few = ("train.teacher_queries=12", "train.steps=50")
    assert run(settings("random_tokens", *few, f"judge={toy_pool}", "seed=5", "run=judged"))["queries"]["train"] == 16
    with pytest.raises(ConfigError, match="more than train.heldout=16"):
        load_config(settings("random_tokens", *few))


@pytest.mark.parametrize("mixed", [False, True])
def test_keywords_that_spend_the_budget_are_an_error_and_no_finished_run(
    settings: Callable[..., list[str]], toy_language_model: Path, mixed: bool
) -> None:
    few = ("train.teacher_queries=100", "train.heldout=0", "run=few")
    overrides = settings("keyword_prompt", *few)
    if mixed:
        part = f"{{strategy: keyword_prompt, from: 0.5, options: {{model: {toy_language_model}}}}}"
        overrides = settings("mixture", *few, f"strategy.parts=[{{strategy: random_tokens}}, {part}]")
    match = r"teacher_queries is spent before the first step, by what the strategy asks first \(\d+\)\n"
    with pytest.raises(ConfigError, match=match) as caught:
        run(overrides)
    assert "heldout" not in str(caught.value)  # nothing was set aside
    assert not (Path(load_config(overrides).runs) / "few").exists()


def test_the_time_of_what_a_strategy_does_once_is_counted(
    settings: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(RandomTokens):
        def prepare(self) -> None:
            time.sleep(0.3)

    monkeypatch.setattr(random_tokens, "RandomTokens", Slow)
    result = run(settings("random_tokens", "train.steps=2", "train.heldout=0", "run=slow"))
    assert result["seconds"]["heldout"] >= 0.3


def test_balanced_replay_shows_rare_classes_as_often(settings: Callable[..., list[str]]) -> None:
    def replayed(name: str, *more: str) -> numpy.ndarray:
        overrides = settings("random_tokens", "train.steps=60", "train.replay_share=0.9", f"run={name}", *more)
        folder = run(overrides)["run"]
        log = RunFolder(Path(load_config(overrides).runs) / folder).read_log("metrics")
        return numpy.sum([record["classes"] for record in log if not record["fresh"]], axis=0)

    plain, even = replayed("plain"), replayed("even", "train.replay_balance=true")
    seen = plain > 0
    assert plain[seen].min() / plain[seen].max() < 0.6 < even[seen].min() / even[seen].max()


def test_runs_of_a_version_that_knew_fewer_options_are_known_again(settings: Callable[..., list[str]]) -> None:
    overrides = settings("random_tokens", "train.steps=3", "run=old")
    first, config = run(overrides), load_config(overrides)
    path = Path(config.runs) / "old" / "config.yaml"
    stored: Any = OmegaConf.load(path)
    for section in (stored["train"], stored["evaluate"], stored["strategy"]["options"], stored["student"]["options"]):
        del section[next(key for key, value in section.items() if key not in str(overrides) and value is not None)]
    OmegaConf.save(stored, path)
    assert identity.changes(config) == "" and run(overrides) == first
    stored["train"]["replay_balance"] = True
    OmegaConf.save(stored, path)
    with pytest.raises(ConfigError, match="train.replay_balance: True there, False now"):
        run(overrides)


def test_a_run_from_before_an_option_did_what_was_done_before_it(settings: Callable[..., list[str]]) -> None:
    overrides = settings("as_dfd", "train.steps=2", "run=old")
    run(overrides)
    path = Path(load_config(overrides).runs) / "old" / "config.yaml"
    stored = OmegaConf.load(path)
    del stored.strategy.options["rate_falls"]
    OmegaConf.save(stored, path)
    assert "rate_falls: False there, True now" in identity.changes(load_config(overrides))
    same = identity.changes(load_config([*overrides, "strategy.rate_falls=false"]))
    assert "rate_falls:" not in same  # its label in tables does differ


def test_replay_saves_queries(settings: Callable[..., list[str]]) -> None:
    without = run(settings("random_tokens", "train.steps=10", "run=a"))
    half = run(settings("random_tokens", "train.steps=10", "train.replay_share=0.5", "run=b"))
    assert (without["queries"]["train"], half["queries"]["train"]) == (80, 40)


def test_every_handout_is_logged(settings: Callable[..., list[str]]) -> None:
    for strategy, expected in (("random_tokens", {("test", "evaluate")}), ("real_text", None)):
        overrides = settings(strategy, "train.steps=2")
        run(overrides)
        config = pipeline.load_config(overrides)
        lines = (Path(config.runs) / config.run_name() / "access.jsonl").read_text().splitlines()
        seen = {(record["split"], record["to"]) for record in map(json.loads, lines)}
        assert seen == (expected or {("test", "evaluate"), ("train", "real_text")})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e9])
def test_divergence_stops_and_keeps_the_checkpoint(
    settings: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    def losses(self: Distiller, batch: Any, logits: Any) -> Any:
        value, student_logits = original(self, batch, logits)
        return ({"kd": value["kd"] * 0 + bad} if self.step == 12 else value), student_logits

    original = Distiller._losses
    monkeypatch.setattr(Distiller, "_losses", losses)
    overrides = settings("random_tokens", "train.steps=20", "train.checkpoint_every=5")
    with pytest.raises(TrainingDiverged, match="step 12.*\n.*checkpoint of step 10.*\n.*learning_rate"):
        run(overrides)
    config = pipeline.load_config(overrides)
    work = Path(config.runs) / (config.run_name() + ".partial")
    assert (work / "checkpoint-000000010" / "state.safetensors").is_file()


def test_a_hard_batch_after_easy_ones_is_no_divergence(
    settings: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def losses(self: Distiller, batch: Any, logits: Any) -> Any:
        value, student_logits = original(self, batch, logits)
        return {"kd": value["kd"] * 0 + (0.13 if self.step == 12 else 0.0004)}, student_logits

    original = Distiller._losses
    monkeypatch.setattr(Distiller, "_losses", losses)
    assert run(settings("random_tokens", "train.steps=20"))["steps"] == 20


def test_without_a_test_split_fidelity_is_reported(settings: Callable[..., list[str]], toy_data: Any) -> None:
    files = "data.files={train: " + f"{Path(toy_data.folder) / 'toy' / 'train.jsonl'}" + "}"
    result = run(settings("random_tokens", "train.steps=3", files))
    assert result["student"]["scores"] is None and result["test_items"] == 0
    assert result["fidelity"]["samples"] == 16 and 0 <= result["fidelity"]["agreement"] <= 1


def test_training_brings_the_student_to_the_teacher(settings: Callable[..., list[str]]) -> None:
    more = ("student.init=fresh", "evaluate.limit=null", "train.batch_size=32", "train.learning_rate=2e-3")
    untrained = run(settings("real_text", *more, "train.steps=1", "run=a"))
    trained = run(settings("real_text", *more, "train.steps=60", "run=b"))
    assert trained["student"]["agreement"] > untrained["student"]["agreement"] + 0.2
    assert trained["student"]["agreement"] > 0.95


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9])
def test_replay_steps_are_evenly_spread(share: float) -> None:
    drawn = [draws_replay(step, share) for step in range(100)]
    assert sum(drawn) == round(100 * share)
    assert all(abs(sum(drawn[:n]) - n * share) <= 1 for n in range(100))


def test_rate_rises_then_falls() -> None:
    rates = [rate_factor(step / 100, 0.1) for step in range(100)]
    assert rates.index(max(rates)) == 10 and rates[10] == pytest.approx(1.0) and rates[-1] < 0.02


def test_progress_follows_the_tighter_budget() -> None:
    config = TrainConfig(steps=100, teacher_queries=1000)
    assert progress(10, config, 500) == 0.5 and progress(80, config, 500) == 0.8
    assert progress(0, config, 400, before=400) == 0 and progress(10, config, 700, before=400) == 0.5


def test_every_training_option_acts(settings: Callable[..., list[str]]) -> None:
    base = settings("random_tokens", "train.steps=4", "run=base")
    run(base)
    for change in (
        "temperature=4", "learning_rate=1e-5", "weight_decay=5", "warmup=0.9", "clip=0.001", "batch_size=4",
        "replay_share=0.5", "heldout=8",
    ):
        changed = settings("random_tokens", "train.steps=4", f"run={change}", f"train.{change}")
        run(changed)
        assert weights(base) != weights(changed), change


def test_samples_are_shown_early_and_late_however_much_is_replayed(settings: Callable[..., list[str]]) -> None:
    more = ("train.steps=24", "train.replay_share=0.8", "train.evaluate_every=6", "train.batch_size=4")
    result = run(settings("random_tokens", *more, "run=shown"))
    folder = Path(result["config"]["runs"]) / "shown"
    samples, metrics = (
        [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("samples", "metrics")
    )
    fresh = [record["step"] for record in metrics if record["fresh"]]
    shown = sorted({sample["step"] for sample in samples})
    stretches = [[step for step in fresh if due <= step < due + 6] for due in (0, 6, 12, 18)]
    assert shown == [stretch[0] for stretch in stretches if stretch] and len(shown) >= 3


def test_samples_are_shown_early_and_late_where_tokens_are_saved(settings: Callable[..., list[str]]) -> None:
    quick = ("strategy.max_new_tokens=6", "strategy.tries=1", "train.batch_size=4", "train.replay_share=0.0")
    more = ("train.steps=24", "train.evaluate_every=6", "train.heldout=0", "train.generated_tokens=300")
    result = run(settings("lm_prompt", *quick, *more, "run=shown"))
    log = RunFolder(Path(result["config"]["runs"]) / "shown")
    fresh = [record["step"] for record in log.read_log("metrics") if record["fresh"]]
    assert len(fresh) < 16 and not {6, 12, 18} <= set(fresh)  # a stretch begins with a step that saves
    stretches = [[step for step in fresh if due <= step < due + 6] for due in (0, 6, 12, 18)]
    assert sorted({sample["step"] for sample in log.read_log("samples")}) == [own[0] for own in stretches if own]
    assert result["fresh_samples"] == 4 * len(fresh)


def test_replay_capacity_bounds_the_files(settings: Callable[..., list[str]]) -> None:
    more = ("train.steps=20", "train.replay_share=0.5", "train.replay_capacity=24", "train.checkpoint_every=5")
    overrides = settings("random_tokens", *more)
    run(overrides)
    config = pipeline.load_config(overrides)
    files = list((Path(config.runs) / config.run_name() / "pool").glob("*.arrow"))
    assert 3 <= len(files) <= 6  # 24 samples are 3 files of 8; those since the last checkpoint may still be there
