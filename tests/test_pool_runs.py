"""Pools of texts: made, killed, gone on with, added to; students distilled from them without a further query."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any, Callable

import pyarrow
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from dfkd import cli, pipeline, runs, seeding, synthesizing, teaching, text_pool
from dfkd.batch import PseudoBatch
from dfkd.config import DataConfig
from dfkd.duplicates import RECALL, Duplicates, bands, found_at, plain
from dfkd.errors import Busy, ConfigError, DfkdError
from dfkd.models.teacher import Teacher
from dfkd.report import inspect_pool
from dfkd.report.results import collect
from dfkd.runs import RunFolder
from dfkd.synthesis import registry
from dfkd.synthesis.base import Context
from dfkd.synthesis.random_tokens import RandomTokens

FAST = ["device=cpu", "precision=float32", "batch_size=8", "checkpoint_every=2"]


@pytest.fixture
def given(toy_teacher: Path, tmp_path: Path) -> list[str]:
    """Settings of a pool of 40 random texts."""
    words = ["strategy=random_tokens", "strategy.max_length=12"]
    return ["data=toy", f"teacher={toy_teacher}", *words, *FAST, "samples=40", f"out={tmp_path / 'pool'}"]


def make(overrides: list[str], **changed: Any) -> dict[str, Any]:
    settings, config = synthesizing.load_config([*overrides, *(f"{name}={value}" for name, value in changed.items())])
    return synthesizing.synthesize(settings, config)


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for path in sorted((folder / "samples").glob("*.arrow")):
        found += pyarrow.ipc.open_file(str(path)).read_all().to_pylist()
    return found


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((folder / "samples").glob("*.arrow"))]


def teacher_of(toy_teacher: Path) -> Teacher:
    return teaching.load_teacher(pipeline.load_config(["data=toy", f"teacher={toy_teacher}", "strategy=random_tokens"]))


# making

def test_a_pool_holds_texts_and_the_teachers_predictions(given: list[str], toy_teacher: Path, tmp_path: Path) -> None:
    facts = make(given)
    stored = rows(tmp_path / "pool")
    assert len(stored) == facts["samples"] == 40 and facts["finished"]
    assert facts["labels"] == ["weather", "food", "sport"]
    assert {row["strategy"] for row in stored} == {"random_tokens"} and {row["reward"] for row in stored} == {None}
    assert [row["step"] for row in stored] == sorted(row["step"] for row in stored)
    logits = teacher_of(toy_teacher).from_texts([row["text"] for row in stored])
    assert torch.allclose(torch.tensor([row["teacher_logits"] for row in stored]), logits, atol=1e-4)
    assert facts["queries"]["train"] == 40


def test_prompts_targets_and_rewards_are_stored(given: list[str], tmp_path: Path, monkeypatch: Any) -> None:
    module = registry.STRATEGIES.module("templated")
    honest = module.Templated.synthesize

    def rewarded(self: Any, n: int) -> PseudoBatch:
        batch = honest(self, n)
        return PseudoBatch(
            texts=batch.texts, prompts=batch.prompts, targets=batch.targets, rewards=torch.arange(n) / 8
        )

    monkeypatch.setattr(module.Templated, "synthesize", rewarded)
    kept = [text for text in given if not text.startswith("strategy")]
    make([*kept, "strategy=templated"])
    stored = rows(tmp_path / "pool")
    assert all(row["prompt"] in row["text"] and max(row["target"]) == 1 for row in stored)
    assert stored[1]["reward"] == pytest.approx(1 / 8)


def test_samples_come_back_as_they_went(tmp_path: Path) -> None:
    pool = text_pool.samples_of(tmp_path)
    batch = PseudoBatch(
        texts=("a", "b"), prompts=("p", "q"), targets=torch.eye(2), rewards=torch.tensor([0.5, 1.0]), strategy="s"
    )
    pool.append(batch, torch.tensor([[1.0, 2.0], [3.0, 4.0]]), 0)
    pool.append(PseudoBatch(texts=("c",), strategy="t"), torch.tensor([[5.0, 6.0]]), 1)
    taken, logits = pool.take([1, 0])
    assert (taken.texts, taken.prompts, taken.strategy) == (("b", "a"), ("q", "p"), "s")
    assert taken.rewards is not None and taken.rewards.tolist() == [1.0, 0.5] and logits.tolist() == [[3, 4], [1, 2]]
    mixed, _ = pool.take([2, 0])
    assert (mixed.texts, mixed.prompts, mixed.strategy, mixed.rewards) == (("c", "a"), ("", "p"), None, None)


def test_batches_know_their_rows() -> None:
    batch = PseudoBatch(texts=("a", "b", "c"), prompts=("x", "y", "z"), teacher_logits=torch.arange(6.0).view(3, 2))
    part = batch.rows([2, 0])
    assert (part.texts, part.prompts) == (("c", "a"), ("z", "x"))
    assert part.teacher_logits is not None and part.teacher_logits.tolist() == [[4, 5], [0, 1]]
    with pytest.raises(ValueError, match="rewards must be"):
        PseudoBatch(texts=("a",), rewards=torch.zeros(2))
    with pytest.raises(ValueError, match="teacher_logits must be"):
        PseudoBatch(texts=("a",), teacher_logits=torch.zeros(2, 3))


def test_a_finished_pool_is_only_read_and_another_config_refused(given: list[str], tmp_path: Path) -> None:
    facts, before = make(given), contents(tmp_path / "pool")
    assert make(given) == facts and make(given, samples=20) == facts and contents(tmp_path / "pool") == before
    with pytest.raises(ConfigError, match="made with another config(.|\n)*seed: 0 there, 1 now"):
        make(given, seed=1)
    with pytest.raises(ConfigError, match="near_duplicates"):
        make(given, near_duplicates=0.5)


def test_more_samples_are_added_to_a_pool(given: list[str], tmp_path: Path) -> None:
    make(given)
    before = rows(tmp_path / "pool")
    facts = make(given, samples=64)
    after = rows(tmp_path / "pool")
    assert facts["samples"] == len(after) == 64 and after[:40] == before and facts["queries"]["train"] == 64
    assert len({plain(row["text"]) for row in after}) == 64


@pytest.mark.parametrize("at", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4))])
def test_a_pool_goes_on_to_the_same_bytes(given: list[str], tmp_path: Path, at: int, monkeypatch: Any) -> None:
    make(given, out=tmp_path / "whole")
    honest, calls = RandomTokens.synthesize, iter(range(100))

    def killed(self: RandomTokens, n: int) -> PseudoBatch:
        if next(calls) == at:
            raise KeyboardInterrupt
        return honest(self, n)

    monkeypatch.setattr(RandomTokens, "synthesize", killed)
    with pytest.raises(KeyboardInterrupt):
        make(given)
    with pytest.raises(ConfigError, match="not finished" if at > 1 else "no pool in"):
        text_pool.finished_facts(tmp_path / "pool")
    facts = make(given)
    assert contents(tmp_path / "pool") == contents(tmp_path / "whole") and facts["queries"]["train"] == 40
    logs = [(tmp_path / name / "metrics.jsonl").read_text() for name in ("pool", "whole")]
    assert logs[0] == logs[1] and len(logs[0].splitlines()) == 5


def test_batches_without_a_new_text_are_counted_across_an_interruption(given: list[str], tmp_path: Path) -> None:
    few = [*given, "strategy.vocabulary=3", "strategy.max_length=1", "near_duplicates=0", "checkpoint_every=1"]

    def batches(**changed: Any) -> int:
        with pytest.raises(DfkdError, match="no new texts any more"):
            make(few, **changed)
        facts = text_pool.read_facts(Path(changed.get("out", tmp_path / "pool")))
        assert facts is not None
        return int(facts["batches"])

    whole = batches(out=tmp_path / "whole")
    settings, config = synthesizing.load_config(few)
    calls = iter(range(100))

    def interrupt(done: int, total: int) -> None:
        if next(calls) == whole - 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesizing.synthesize(settings, config, interrupt)
    assert batches() == whole


def killed_pool(overrides: list[str], batches: int) -> int:
    """Make a pool in a forked process that kills itself with SIGKILL before its batch; the signal that ended it."""
    calls, honest = iter(range(batches + 1)), RandomTokens.synthesize

    def synthesize(self: RandomTokens, n: int) -> PseudoBatch:
        if next(calls) == batches:
            os.kill(os.getpid(), signal.SIGKILL)
        return honest(self, n)

    child = os.fork()
    if child == 0:
        try:
            RandomTokens.synthesize = synthesize  # type: ignore[method-assign]
            make(overrides)
        finally:
            os._exit(1)
    return os.WTERMSIG(os.waitpid(child, 0)[1])


# before the first checkpoint, between two, and right after one
@pytest.mark.parametrize("batches", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 6))])
def test_a_pool_survives_kill_9(given: list[str], tmp_path: Path, batches: int) -> None:
    make(given, out=tmp_path / "whole", samples=64)
    assert killed_pool([*given, "samples=64"], batches) == signal.SIGKILL
    facts = text_pool.read_facts(tmp_path / "pool")
    assert facts is None or not facts["finished"]
    assert make(given, samples=64)["samples"] == 64
    assert contents(tmp_path / "pool") == contents(tmp_path / "whole")


# watched

def repeating(given: list[str], tmp_path: Path) -> list[str]:
    """Alarms heard while a pool of few words is made."""
    heard: list[str] = []
    few = [*given, "strategy.vocabulary=4", "strategy.min_length=40", "strategy.max_length=60", "near_duplicates=0"]
    settings, config = synthesizing.load_config(few)
    synthesizing.synthesize(settings, config, alarm=heard.append)
    return heard


def test_the_batches_of_a_pool_are_measured(given: list[str], tmp_path: Path) -> None:
    facts = make([*given, "strategy.vocabulary=6", "strategy.min_length=1", "strategy.max_length=2"], near_duplicates=0)
    log = runs.read_jsonl(tmp_path / "pool" / "metrics.jsonl")
    assert [entry["step"] for entry in log] == list(range(facts["batches"]))
    assert sum(sum(entry.get("classes", ())) for entry in log) == 40
    assert sum(entry["not_new"] for entry in log) * 8 == pytest.approx(facts["dropped"]["exact"])
    assert log[-1]["not_new"] > log[0]["not_new"] and facts["dropped"]["exact"] > 0
    assert {"class_entropy", "over_length", "distinct_2", "empty"} <= set(log[0])


def test_a_prompted_pool_tells_how_its_prompts_vary(given: list[str], tmp_path: Path) -> None:
    make([text for text in given if not text.startswith("strategy")] + ["strategy=templated"])
    log = runs.read_jsonl(tmp_path / "pool" / "metrics.jsonl")
    assert all(0 < entry["prompt_distinct_2"] <= 1 for entry in log)


def test_alarms_of_a_pool_are_told_and_kept(given: list[str], tmp_path: Path) -> None:
    heard = repeating(given, tmp_path)
    kept = runs.read_jsonl(tmp_path / "pool" / "alarms.jsonl")
    told = next(line for line in heard if "over and over" in line)
    assert len(heard) == len(kept) and "texts_repeat" in {alarm["name"] for alarm in kept}
    assert "strategy.vocabulary" in told and "train." not in " ".join(heard)  # there is no student here
    again = repeating(given, tmp_path)
    assert again == []  # finished: only read


def test_inspect_shows_a_pool_by_class(given: list[str], tmp_path: Path) -> None:
    make([text for text in given if not text.startswith("strategy")] + ["strategy=templated"])
    result = CliRunner().invoke(cli.app, ["inspect", str(tmp_path / "pool")])
    assert result.exit_code == 0
    stored = rows(tmp_path / "pool")
    unwrapped = " ".join(result.output.split())  # where lines end depends on how long the folder's name is
    assert "40 samples by templated" in unwrapped and "prompt_distinct_2" in result.output
    assert all(label in result.output for label in ("weather", "food", "sport"))
    assert any(row["prompt"] in result.output for row in stored) and "reward" not in result.output
    (tmp_path / "pool" / "metrics.jsonl").unlink()  # as of an older version
    again = CliRunner().invoke(cli.app, ["inspect", str(tmp_path / "pool")]).output
    assert "40 samples" in " ".join(again.split())


def test_inspect_shows_alarms_rewards_and_parts_of_a_pool(given: list[str], tmp_path: Path) -> None:
    repeating(given, tmp_path)
    pool = text_pool.samples_of(tmp_path / "pool")
    facts = text_pool.finished_facts(tmp_path / "pool")
    pool.adopt(facts["files"])
    assert sum(inspect_pool.classes(tmp_path / "pool", facts).values()) == 40
    batch = PseudoBatch(texts=("rain [b] snow",), rewards=torch.tensor([0.25]), strategy="lm_free")
    pool.append(batch, torch.tensor([[0.0, 9.0, 0.0]]), 9)
    text_pool.write_facts(tmp_path / "pool", {**facts, "files": pool.state_dict(), "samples": 41, "finished": False})
    console = Console(width=250, record=True, file=io.StringIO())
    console.print(inspect_pool.inspect_pool(tmp_path / "pool"))
    shown = console.export_text()
    assert "alarm, step" in shown and "not finished" in shown and "0.250" in shown and "lm_free" in shown
    assert "rain [b] snow" in shown
    text_pool.write_facts(tmp_path / "pool", {**facts, "samples": 0})
    with pytest.raises(ConfigError, match="nothing to inspect"):
        inspect_pool.inspect_pool(tmp_path / "pool")


# what is refused

@pytest.mark.parametrize(
    ("strategy", "match"),
    [("as_dfd", "makes embeddings(.|\n)*take strategy=embedding_guess strategy.snap=true, or"),
     ("cmi strategy.adversary_weight=0", "makes embeddings(.|\n)*add strategy.snap=true, or take a strategy"),
     ("dafl", "makes embeddings(.|\n)*what to do: take a strategy that makes texts"), ("real_text", "task's own texts"),
     ("mixture strategy.parts=[{strategy: embedding_guess}]", "makes embeddings"),
     ("as_dfd strategy.snap=true", "'as_dfd' learns from the student"),
     ("mixture strategy.parts=[{strategy: as_dfd, options: {snap: true}}]", "'mixture' learns from the student"),
     ("mixture strategy.parts=[{strategy: random_tokens}, {strategy: templated, from: 0.5}]", "needs a student's")],
)
def test_strategies_that_need_a_student_are_refused(strategy: str, match: str, given: list[str]) -> None:
    kept = [text for text in given if not text.startswith("strategy")]
    name, _, rest = strategy.partition(" ")
    with pytest.raises(ConfigError, match=match):
        make([*kept, f"strategy={name}", *([rest] if rest else [])])


def test_a_preset_is_named_as_it_was_given(given: list[str], toy_language_model: Path) -> None:
    kept = [text for text in given if not text.startswith("strategy")]
    with pytest.raises(ConfigError, match="dfkd run strategy=prompt_rl/unbalanced, then"):
        make([*kept, "strategy=prompt_rl/unbalanced", f"strategy.model={toy_language_model}"])


def test_a_strategy_that_listens_to_the_student_is_refused(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RandomTokens, "observe", lambda self, feedback: None)
    with pytest.raises(ConfigError, match="learns from the student(.|\n)*dfkd run strategy=random_tokens"):
        make(given)


def test_guessing_without_an_adversary_makes_a_pool_through_the_token_bridge(given: list[str], tmp_path: Path) -> None:
    kept = [text for text in given if not text.startswith("strategy")]
    facts = make([*kept, "strategy=embedding_guess", "strategy.snap=true", "strategy.targets=hard"], samples=16)
    assert facts["samples"] == 16 and facts["queries"]["gradient"] > 16
    assert all(max(row["target"]) == 1 for row in rows(tmp_path / "pool"))


@pytest.mark.parametrize(
    ("changed", "match"),
    [("samples=0", "1 or more"), ("out=", "the folder of the pool"), ("near_duplicates=2", "similarity"),
     ("sampels=3", "unknown key 'sampels'(.|\n)*samples"), ("student.layers=1", "unknown key 'student.layers'"),
     ("train.steps=1", "unknown key 'train.steps'"), ("strategy.max_len=3", "max_length")],
)
def test_faulty_settings_are_refused(changed: str, match: str, given: list[str]) -> None:
    with pytest.raises(ConfigError, match=match):
        synthesizing.load_config([*given, changed])


def test_folders_that_are_no_pool_are_left_alone(given: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("x")
    with pytest.raises(ConfigError, match="is there already and is no pool"):
        make(given, out=tmp_path / "mine")


def test_two_processes_do_not_make_one_pool(given: list[str], tmp_path: Path) -> None:
    (tmp_path / "pool").mkdir()
    held = runs.lock(tmp_path / "pool", "x", "y")
    with pytest.raises(Busy, match="another process is working on the pool"):
        make(given)
    held.close()
    assert make(given)["samples"] == 40


def test_labels_of_the_strategys_own_are_no_teachers(given: list[str], toy_language_model: Path) -> None:
    kept = [text for text in given if not text.startswith("strategy")]
    match = "labels its samples itself(.|\n)*strategy.label=teacher"
    with pytest.raises(ConfigError, match=match):
        make([*kept, "strategy=class_prompt", f"strategy.model={toy_language_model}", "strategy.label=prompt"])
    part = f"{{strategy: class_prompt, from: 0.9, options: {{label: prompt, model: {toy_language_model}}}}}"
    match = "labels its samples itself(.|\n)*{label: teacher} of the part"
    with pytest.raises(ConfigError, match=match):  # before a text is written
        make([*kept, "strategy=mixture", f"strategy.parts=[{{strategy: random_tokens}}, {part}]"])


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_prompter_without_a_student_is_refused_before_anything_is_loaded(
    wrapped: bool, given: list[str], toy_language_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [text for text in given if not text.startswith("strategy")]
    monkeypatch.setattr(teaching, "load_teacher", lambda *_: pytest.fail("the teacher was loaded"))
    own = [f"strategy.parts=[{{strategy: prompt_rl, options: {{model: {toy_language_model}}}}}]"]
    chosen = ["strategy=mixture", *own] if wrapped else ["strategy=prompt_rl", f"strategy.model={toy_language_model}"]
    with pytest.raises(ConfigError, match="learns from the student"):
        make([*kept, *chosen])


def test_a_pool_out_of_a_pool_has_cost_what_that_one_did(toy_teacher: Path, toy_pool: Path, tmp_path: Path) -> None:
    bought = tmp_path / "bought"
    shutil.copytree(toy_pool, bought)
    told = json.loads((bought / "pool.json").read_text())
    told |= {"generated_tokens": 6000, "seconds": 60.0}
    (bought / "pool.json").write_text(json.dumps(told))
    half = f"{{strategy: pool, options: {{folder: {bought}, limit: 30}}}}"
    facts = make([
        "data=toy", f"teacher={toy_teacher}", "strategy=mixture", f"strategy.parts=[{half}, {{strategy: templated}}]",
        *FAST, "samples=40", f"out={tmp_path / 'pool'}",
    ])
    assert facts["generated_tokens"] == 3000 and 30 < facts["seconds"] < 60
    assert facts["queries"]["train"] > told["queries"]["train"] / 2


# duplicates

def test_duplicates_are_dropped_the_same_and_the_near_ones() -> None:
    text = "the quick brown fox jumps over the lazy dog and runs into the deep dark wood"
    near = text.replace("wood", "woods")
    texts = [text, text.upper() + " ", near, "something else altogether, with other words", " "]
    assert Duplicates(0.8).new(texts) == [0, 3] and Duplicates(0).new(texts) == [0, 2, 3]
    known = Duplicates(0.8)
    known.remember([text])
    assert known.new(texts) == [3] and known.counts() == {"exact": 2, "near": 1, "empty": 1}
    assert Duplicates(0.8).new([("a b c d", "x y"), ("a b c d", "x y"), ("x y", "a b c d")]) == [0, 2]


def test_the_threshold_is_the_similarity() -> None:
    words = "one two three four five six seven eight nine ten".split()
    half = " ".join(words[:5] + ["alpha", "beta", "gamma", "delta", "omega"])
    assert Duplicates(0.9).new([" ".join(words), half]) == [0, 1]
    assert Duplicates(0.2).new([" ".join(words), half]) == [0]


def test_a_pool_without_new_texts_stops_and_keeps_what_is_there(given: list[str], tmp_path: Path) -> None:
    few = [*given, "strategy.vocabulary=3", "strategy.max_length=2", "near_duplicates=0"]
    with pytest.raises(DfkdError, match="no new texts any more(.|\n)*samples=12 takes the pool as it is"):
        make(few)
    tried = (text_pool.read_facts(tmp_path / "pool") or {})["batches"]
    with pytest.raises(DfkdError, match="no new texts any more"):
        make(few)
    assert (text_pool.read_facts(tmp_path / "pool") or {})["batches"] == tried + 20  # tried anew
    facts = make(few, samples=12)
    assert facts["finished"] and facts["samples"] == 12 and facts["dropped"]["exact"] > 100


def pairs_at(similarity: float, count: int) -> list[tuple[str, str]]:
    """Pairs of texts of 400 letters, the second with a tail of its own, of about that Jaccard similarity."""
    generator = torch.Generator().manual_seed(0)

    def letters(n: int) -> str:
        return "".join(chr(97 + i) for i in torch.randint(26, (n,), generator=generator).tolist())

    tail = round(400 * (1 - similarity) / (1 + similarity))  # k own pieces each: (n - k) / (n + k)
    return [(start + letters(tail), start + letters(tail)) for start in (letters(400 - tail) for _ in range(count))]


@pytest.mark.parametrize("threshold", [0.3, 0.8, 0.9, 0.95])
def test_the_index_finds_what_is_as_similar_as_the_threshold(threshold: float) -> None:
    duplicates, missed, near = Duplicates(threshold), 0, 0
    for first, second in pairs_at(min(1.0, threshold + 0.01), 150):
        sketches = [duplicates._sketch(text) for text in (first, second)]
        if sketches[0].jaccard(sketches[1]) >= threshold:  # by the estimate, which decides
            near += 1
            missed += duplicates.new([first, second]) != [0]
    assert near >= 50 and missed <= 0.03 * near
    assert found_at(threshold, *bands(threshold)) >= RECALL


@pytest.mark.parametrize("threshold", [0.99, 1.0, 0.01])
def test_any_threshold_makes_an_index(threshold: float) -> None:
    (first, second), = pairs_at(0.7, 1)
    assert Duplicates(threshold).new([first, first.upper(), second]) == ([0, 2] if threshold > 0.5 else [0])
    # the same pieces, in another number: MinHash sees the same set
    assert Duplicates(threshold).new(["abababababab", "ababababababab"]) == [0]


def test_near_duplicates_need_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(ConfigError, match="'datasketch'(.|\n)*near_duplicates=0"):
        Duplicates(0.8)
    assert Duplicates(0).new(["a"]) == [0]


# distilling from a pool

def settings(toy_teacher: Path, runs_folder: Path, *more: str) -> list[str]:
    sizes = ["student.layers=1", "train.steps=12", "train.batch_size=8", "train.heldout=8", "evaluate.latency_rounds=0"]
    return ["data=toy", f"teacher={toy_teacher}", f"runs={runs_folder}", "run=it", "device=cpu", "precision=float32",
            *sizes, "train.checkpoint_every=4", *more]


def test_a_run_on_a_pool_asks_the_teacher_nothing(toy_teacher: Path, toy_pool: Path, tmp_path: Path) -> None:
    result = pipeline.run(pipeline.load_config(settings(toy_teacher, tmp_path, f"pool={toy_pool}")))
    queries = result["queries"]
    assert (queries["train"], queries["heldout"], queries["gradient"], queries["synthesis"]) == (0, 0, 0, 60)
    made = text_pool.finished_facts(toy_pool)
    assert made["seconds"] > 0 and result["seconds"]["synthesis"] == made["seconds"]
    (found,) = collect([tmp_path / "it"])
    assert found.seconds == pytest.approx(sum(result["seconds"][part] for part in ("synthesis", "heldout", "train")))
    assert found.seconds_whole
    assert result["fidelity"]["samples"] == 8 and result["strategy"]["name"] == "pool"
    notes = json.loads((tmp_path / "it/notes.json").read_text())
    assert notes["samples"] == 60 and notes["strategy"].startswith("random_tokens")


def test_a_pool_costs_the_tokens_that_were_drawn_for_it(
    given: list[str], toy_teacher: Path, toy_language_model: Path, tmp_path: Path
) -> None:
    kept = [text for text in given if not text.startswith("strategy")]
    facts = make([*kept, "strategy=lm_free", f"strategy.model={toy_language_model}", "strategy.max_new_tokens=4"])
    tokens = facts["generated_tokens"]
    assert facts["samples"] == 40 and 40 <= tokens <= 4 * 8 * facts["batches"] * 5  # a text is tried again a few times
    pool = f"pool={tmp_path / 'pool'}"
    more = ["train.steps=2", "train.heldout=0"]
    whole = pipeline.run(pipeline.load_config(settings(toy_teacher, tmp_path / "a", pool, *more)))
    half = pipeline.run(pipeline.load_config(settings(toy_teacher, tmp_path / "b", pool, "strategy.limit=20", *more)))
    assert (whole["generated_tokens"], half["generated_tokens"]) == (tokens, round(tokens / 2))
    assert half["seconds"]["synthesis"] == pytest.approx(facts["seconds"] / 2)
    budget = settings(toy_teacher, tmp_path / "c", pool, *more, f"train.generated_tokens={tokens - 1}")
    with pytest.raises(ConfigError, match="spent before the first step, by the making of the pool(?s:.*)fewer of its"):
        pipeline.run(pipeline.load_config(budget))
    enough = settings(toy_teacher, tmp_path / "d", pool, *more, f"train.generated_tokens={tokens}")
    assert pipeline.run(pipeline.load_config(enough))["steps"] == 2


def test_a_pool_costs_the_queries_that_it_was_made_with(toy_teacher: Path, toy_pool: Path, tmp_path: Path) -> None:
    def budgeted(name: str, queries: int, *more: str) -> list[str]:
        return settings(toy_teacher, tmp_path / name, *more, f"train.teacher_queries={queries}")

    pool = f"pool={toy_pool}"
    with pytest.raises(ConfigError, match="teacher_queries is spent(?s:.*)by the making of the pool(?s:.*)than 59 que"):
        pipeline.run(pipeline.load_config(budgeted("over", 59, pool)))
    whole = pipeline.run(pipeline.load_config(budgeted("whole", 60, pool)))
    fewer = pipeline.run(pipeline.load_config(budgeted("fewer", 59, pool, "strategy.limit=59")))
    assert (whole["steps"], fewer["steps"]) == (12, 12)  # the pool has the answers: nothing more is asked
    rates = [record["learning_rate"] for record in RunFolder(tmp_path / "whole" / "it").read_log("metrics")]
    assert rates[-1] < rates[3]  # it falls with the steps

    parts = json.dumps([{"strategy": "pool", "options": {"folder": str(toy_pool)}}, {"strategy": "random_tokens"}])
    mixed = [f"strategy.parts={parts}", "strategy=mixture", "train.steps=200"]
    result = pipeline.run(pipeline.load_config(budgeted("mixed", 100, *mixed)))
    asked = sum(result["queries"][name] for name in ("train", "heldout"))
    assert 40 <= asked < 40 + 8 and result["steps"] < 200  # 60 of the 100 went into the pool
    with pytest.raises(ConfigError, match=r"by the making of the pool \(60\) and the samples set aside"):
        pipeline.run(pipeline.load_config(budgeted("early", 61, *mixed, "train.heldout=30")))


@pytest.mark.slow
def test_the_student_learns_the_stored_predictions(toy_teacher: Path, toy_pool: Path, tmp_path: Path) -> None:
    more = ["train.steps=150", "train.learning_rate=3e-3", "student.init=fresh", "train.heldout=0"]
    result = pipeline.run(pipeline.load_config(settings(toy_teacher, tmp_path, f"pool={toy_pool}", *more)))
    metrics = [json.loads(line) for line in (tmp_path / "it/metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["kd"] < 0.3 * metrics[0]["kd"] and result["queries"]["train"] == 0


def test_a_killed_run_on_a_pool_ends_with_the_same_student(
    toy_teacher: Path, toy_pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored: Any = registry.STRATEGIES.module("pool").Stored
    pipeline.run(pipeline.load_config(settings(toy_teacher, tmp_path / "whole", f"pool={toy_pool}")))
    honest, calls = stored.synthesize, iter(range(100))

    def killed(self: Any, n: int) -> PseudoBatch:
        if next(calls) == 7:
            raise KeyboardInterrupt
        batch: PseudoBatch = honest(self, n)
        return batch

    monkeypatch.setattr(stored, "synthesize", killed)
    config = pipeline.load_config(settings(toy_teacher, tmp_path / "cut", f"pool={toy_pool}"))
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(config)
    pipeline.run(config)
    made = [(tmp_path / name / "it/student/model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert made[0] == made[1]


@pytest.fixture
def stored(toy_teacher: Path, toy_pool: Path) -> Callable[..., Any]:
    def build(**options: Any) -> Any:
        typed = registry.options("pool", {"folder": str(toy_pool), **options})
        student: Any = None
        context = Context(teacher_of(toy_teacher), student, seeding.generator(0, "s"), False, {}, tuple)
        return registry.build("pool", typed, context)

    return build


def test_a_pool_is_gone_through_in_a_random_order_without_repeats(stored: Callable[..., Any], toy_pool: Path) -> None:
    strategy = stored()
    first, second = strategy.synthesize(60), strategy.synthesize(60)
    assert set(first.texts) == set(second.texts) == {row["text"] for row in rows(toy_pool)}
    assert first.texts != second.texts and len(set(first.texts)) == 60
    by_text = {row["text"]: row["teacher_logits"] for row in rows(toy_pool)}
    assert first.teacher_logits.tolist() == [by_text[text] for text in first.texts]


def test_held_out_samples_of_a_pool_never_come(stored: Callable[..., Any]) -> None:
    strategy = stored()
    held = set(strategy.hold_out(10).texts)
    assert not held & set(strategy.synthesize(100).texts)
    assert len(strategy.hold_out(10).texts) == 5 and strategy.hold_out(10) is None


def test_a_limit_takes_the_first_samples(stored: Callable[..., Any], toy_pool: Path) -> None:
    assert set(stored(limit=7).synthesize(7).texts) == {row["text"] for row in rows(toy_pool)[:7]}
    with pytest.raises(ConfigError, match="has fewer samples(.|\n)*strategy.limit=60"):
        stored(limit=61)


def test_a_pool_in_a_mixture(toy_teacher: Path, toy_pool: Path, tmp_path: Path) -> None:
    parts = json.dumps([{"strategy": "pool", "options": {"folder": str(toy_pool)}}, {"strategy": "random_tokens"}])
    given = settings(toy_teacher, tmp_path, "strategy=mixture", f"strategy.parts={parts}")
    queries = pipeline.run(pipeline.load_config(given))["queries"]
    assert queries["synthesis"] == 60 and 0 < queries["train"] < 12 * 8


@pytest.mark.parametrize(
    ("changed", "match"),
    [({"teacher_sha256": "0" * 64}, "another teacher(.|\n)*teacher_sha256"), ({"labels": ["a", "b", "c"]}, "labels"),
     ({"max_length": 99}, "max_length 99"), ({"pair": True}, "pair True"), ({"finished": False}, "not finished")],
    ids=lambda changed: next(iter(changed)) if isinstance(changed, dict) else "",
)
def test_pools_that_do_not_fit_are_refused_before_any_work(
    changed: dict[str, Any], match: str, toy_teacher: Path, toy_pool: Path, tmp_path: Path
) -> None:
    facts = text_pool.read_facts(toy_pool)
    assert facts is not None
    shutil.copytree(toy_pool, tmp_path / "pool")
    text_pool.write_facts(tmp_path / "pool", {**facts, **changed})
    config = pipeline.load_config(settings(toy_teacher, tmp_path / "runs", f"pool={tmp_path / 'pool'}"))
    with pytest.raises(ConfigError, match=match):
        pipeline.run(config)
    assert not (tmp_path / "runs").exists()


def test_a_pool_of_another_order_of_the_labels_is_refused(toy_teacher: Path, toy_pool: Path, tmp_path: Path) -> None:
    more = ["data.labels=[food,weather,sport]", "data.label_values=[1,0,2]"]
    with pytest.raises(ConfigError, match="another teacher, or for another task(.|\n)*labels"):
        pipeline.run(pipeline.load_config(settings(toy_teacher, tmp_path, f"pool={toy_pool}", *more)))


def test_missing_and_damaged_pools_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no pool is given"):
        text_pool.finished_facts(Path(""))
    with pytest.raises(ConfigError, match="no pool in"):
        text_pool.finished_facts(tmp_path)
    (tmp_path / "pool.json").write_text("{")
    with pytest.raises(ConfigError, match="is damaged"):
        text_pool.finished_facts(tmp_path)


def test_pool_is_short_for_its_strategy(toy_teacher: Path, toy_pool: Path) -> None:
    common = ["data=toy", f"teacher={toy_teacher}"]
    short = pipeline.load_config([*common, f"pool={toy_pool}"])
    assert short == pipeline.load_config([*common, "strategy=pool", f"strategy.folder={toy_pool}"])
    with pytest.raises(ConfigError, match="pool=FOLDER is a strategy itself(.|\n)*strategy=as_dfd"):
        pipeline.load_config([*common, f"pool={toy_pool}", "strategy=as_dfd"])


def test_the_command_says_what_it_made(given: list[str]) -> None:
    for _ in range(2):  # made, then shown
        answer = CliRunner().invoke(cli.app, ["synthesize", *given])
        assert answer.exit_code == 0, answer.output
        assert "40 samples by random_tokens" in answer.output and "40 teacher queries" in answer.output


# another pool, another task, another order of outputs

def test_a_pool_of_another_task_is_refused(
    given: list[str], toy_teacher: Path, toy_data: DataConfig, tmp_path: Path
) -> None:
    """Texts from outside of one task may be another task's own."""
    make(given)
    other = tmp_path / "other.yaml"
    files = {split: str(Path(toy_data.folder) / path) for split, path in toy_data.files.items()}
    other.write_text(json.dumps({
        "files": files, "text": toy_data.text, "label": toy_data.label, "labels": toy_data.labels,
        "max_length": toy_data.max_length,
    }))
    config = pipeline.load_config([
        f"data={other}", f"teacher={toy_teacher}", f"pool={tmp_path / 'pool'}", "student.layers=1",
    ])
    with pytest.raises(ConfigError, match="for another task(.|\n)*other"):
        pipeline.preflight(config)


def test_predictions_in_another_order_are_refused(given: list[str], toy_teacher: Path, tmp_path: Path) -> None:
    make([*given, "teacher_labels=[sport,food,weather]"])
    config = pipeline.load_config([
        "data=toy", f"teacher={toy_teacher}", f"pool={tmp_path / 'pool'}", "student.layers=1",
    ])
    with pytest.raises(ConfigError, match="another teacher(.|\n)*teacher_sha256"):
        pipeline.preflight(config)


@pytest.mark.slow
def test_a_pool_with_more_samples_makes_another_run(given: list[str], toy_teacher: Path, tmp_path: Path) -> None:
    make(given)
    config = pipeline.load_config([
        "data=toy", f"teacher={toy_teacher}", f"pool={tmp_path / 'pool'}", "student.layers=1", "train.steps=3",
        "train.batch_size=8", "train.heldout=0", "evaluate.latency_rounds=0", "evaluate.limit=10", f"runs={tmp_path}",
        "run=it", "device=cpu",
    ])
    first = pipeline.run(config)
    assert pipeline.run(config) == first
    make(given, samples=56)
    with pytest.raises(ConfigError, match="another config(.|\n)*strategy: other files than there"):
        pipeline.run(config)
    (tmp_path / "pool").rename(tmp_path / "moved")
    assert pipeline.run(config) == first  # a finished run can be shown without its pool


def test_files_in_the_making_do_not_change_what_a_pool_is(given: list[str], tmp_path: Path) -> None:
    make(given)
    before = text_pool.fingerprint(tmp_path / "pool")
    (tmp_path / "pool" / "samples" / "000000999.arrow").write_bytes(b"begun")
    assert text_pool.fingerprint(tmp_path / "pool") == before


def test_a_pool_that_lacks_a_file_is_refused_before_work(
    given: list[str], toy_teacher: Path, tmp_path: Path
) -> None:
    make(given)
    (tmp_path / "pool" / "samples" / "000000000.arrow").unlink()
    for asked in ([f"pool={tmp_path / 'pool'}"], ["strategy=random_tokens", f"judge={tmp_path / 'pool'}"]):
        config = pipeline.load_config(["data=toy", f"teacher={toy_teacher}", *asked, "student.layers=1"])
        with pytest.raises(ConfigError, match="is not whole(.|\n)*000000000.arrow"):
            pipeline.preflight(config)


def test_looking_for_a_pool_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no pool in"):
        text_pool.fingerprint(tmp_path / "typo")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="no pool in"):
        text_pool.fingerprint(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_pool_of_a_version_with_fewer_options_is_known_again(given: list[str], tmp_path: Path) -> None:
    make(given)
    facts = json.loads((tmp_path / "pool" / "pool.json").read_text())
    del facts["config"]["strategy"]["options"]["source"]  # has its default
    text_pool.write_facts(tmp_path / "pool", facts)
    assert make(given)["samples"] == 40
    facts["config"]["strategy"]["options"]["source"] = "pieces"
    text_pool.write_facts(tmp_path / "pool", facts)
    with pytest.raises(ConfigError, match="another config"):
        make(given)


def test_a_pool_without_its_checkpoint_is_not_begun_anew(given: list[str], tmp_path: Path) -> None:
    make(given)
    for folder in (tmp_path / "pool").glob("checkpoint-*"):
        shutil.rmtree(folder)
    files = sorted((tmp_path / "pool" / "samples").iterdir())
    with pytest.raises(ConfigError, match="cannot be continued(.|\n)*40 samples and no checkpoint"):
        make(given, samples=56)
    assert files == sorted((tmp_path / "pool" / "samples").iterdir()) and make(given)["samples"] == 40
    facts = json.loads((tmp_path / "pool" / "pool.json").read_text())
    text_pool.write_facts(tmp_path / "pool", {**facts, "finished": False})
    with pytest.raises(ConfigError, match="cannot be continued(.|\n)*copy the checkpoint as well, or choose"):
        make(given)


def test_each_checkpoint_is_written_once(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    save = runs.save_checkpoint
    monkeypatch.setattr(runs, "save_checkpoint", lambda f, step, c: (saved.append(step), save(f, step, c))[1])
    make(given, checkpoint_every=1)
    assert saved == list(range(1, len(saved) + 1))  # replacing one would leave none for a moment


def test_a_kill_within_the_first_checkpoint_does_not_lock_the_folder(given: list[str], tmp_path: Path) -> None:
    (tmp_path / "pool/checkpoint.tmp").mkdir(parents=True)
    assert make(given)["samples"] == 40
