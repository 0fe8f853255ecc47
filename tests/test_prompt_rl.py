"""The strategy prompt_rl: prompts, texts and rewards in a run; tests/test_prompter.py has its parts."""

from __future__ import annotations

import gc
import importlib.util
import io
import json
import math
import subprocess
import sys
import warnings
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Callable, Mapping

import numpy
import pyarrow
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from rich.console import Console
from transformers import AutoTokenizer
from typer.testing import CliRunner

from dfkd import cli, exporting, pipeline, prompting, runs, seeding, teaching, text_pool
from dfkd.batch import Feedback, PseudoBatch
from dfkd.config import DataConfig
from dfkd.errors import Alarmed, ConfigError
from dfkd.models.language.environment import VectorPromptEnvironment
from dfkd.models.students import registry as students
from dfkd.models.students.base import StudentContext
from dfkd.models.teacher import Teacher
from dfkd.report import inspect, inspect_pool
from dfkd.synthesis import prompt_rl, registry
from dfkd.synthesis._inversion import still
from dfkd.synthesis._prompt_policy import PolicyOptions
from dfkd.synthesis._prompt_reward import RewardOptions, base_reward
from dfkd.synthesis._reinforce import LearnerOptions
from dfkd.synthesis.base import Context, Facts

Build = Callable[..., Any]


@pytest.fixture
def teacher(toy_teacher: Path) -> Teacher:
    return teaching.load_teacher(pipeline.load_config(["data=toy", f"teacher={toy_teacher}", "strategy=prompt_rl"]))


@pytest.fixture
def context(teacher: Teacher, toy_data: DataConfig) -> Context:
    torch.manual_seed(0)
    student = students.build(
        "truncated", students.STUDENTS.options("truncated", {"layers": 1}), StudentContext(teacher, "tokens")
    )
    generator = seeding.generator(0, "synthesis")
    return Context(teacher, student, generator, False, toy_data.prompts, lambda: (), precision="float32")


@pytest.fixture
def build(context: Context, toy_language_model: Path) -> Build:
    """The strategy on the tiny language model, with short texts."""

    def make(**options: Any) -> Any:
        given = {"model": str(toy_language_model), "max_new_tokens": 8, "min_words": 2, "policy_rate": 1e-2, **options}
        fresh = replace(context, generator=seeding.generator(0, "synthesis"), shared={})
        return registry.build("prompt_rl", registry.options("prompt_rl", given), fresh)

    return make


def answer(strategy: Any, batch: PseudoBatch, step: int = 0, fresh: bool = True) -> Feedback:
    """The trainer's report of a student step on the batch, with the student's dropout off."""
    with torch.no_grad(), still(strategy.student):
        student = strategy.student.from_batch(batch)
    return Feedback(step, batch, strategy.teacher.label(batch), student, {}, fresh)


def rigged(batch: PseudoBatch, liked: list[bool]) -> Feedback:
    """A report by which student and teacher disagree on some texts and agree on the others."""
    teacher = torch.tensor([[3.0, 0.0, 0.0]]).expand(len(batch), -1)
    student = torch.where(torch.tensor(liked)[:, None], torch.tensor([[0.0, 3.0, 0.0]]), teacher)
    return Feedback(0, batch, teacher, student, {})


@pytest.mark.parametrize("policy", ["lora", "gru"])
def test_the_prompter_seeks_what_the_student_does_not_know(build: Build, policy: str) -> None:
    """The student fails on prompts with tokens of the vocabulary's upper half: they become the rule in 12 steps."""
    strategy = build(policy=policy, prompt_tokens=3)
    half = strategy.learner.policy.vocabulary // 2
    shares = []
    for _ in range(13):
        batch = strategy.synthesize(24)
        upper = (strategy.waiting.prompts >= half).float().mean(dim=1)
        shares.append(float(upper.mean()))
        strategy.observe(rigged(batch, (upper > 0.5).tolist()))
    assert 0.2 < shares[0] < 0.6 and shares[-1] > 0.75


def test_facts_are_logged_with_the_batch_that_they_are_of(build: Build) -> None:
    strategy = build()
    batch = strategy.synthesize(8)
    before = dict(batch.info)
    feedback = answer(strategy, batch)
    strategy.observe(feedback)
    reward = base_reward(feedback.teacher_logits, feedback.student_logits, "teacher_minus_student")
    assert batch.info["reward"] == pytest.approx(float(reward.mean())) == batch.info["baseline"]
    assert batch.info["reward_base"] == batch.info["reward"]  # nothing is added
    learned = {"reward", "reward_base", "baseline", "policy_entropy", "policy_kl", "prompt_log_probability",
               "policy_gradient"}
    assert set(batch.info) - set(before) == learned
    assert {"prompt_distinct", "generated_tokens", "dropped_short"} <= set(before)
    made = strategy.writer.source.engine.generated_tokens
    assert before["generated_tokens"] == made + 5 * 8 * (made > 0)  # nothing dropped: 8 prompts of 5 tokens


def test_a_reward_without_dropout_is_of_the_student_before_its_step(build: Build) -> None:
    strategy = build(student_dropout=False)
    assert strategy.student.training
    batch = strategy.synthesize(8)
    asked = answer(strategy, batch)
    with torch.no_grad():
        for weights in strategy.student.parameters():  # the student's step
            weights.mul_(0.5)
    strategy.observe(replace(rigged(batch, [True] * 8), teacher_logits=asked.teacher_logits))
    expected = base_reward(asked.teacher_logits, asked.student_logits, "teacher_minus_student")
    assert strategy.last_rewards.numpy() == pytest.approx(expected.numpy(), abs=1e-6) and strategy.student.training


def test_prompts_come_with_their_texts(build: Build) -> None:
    strategy = build(prompt_tokens=3)
    batch = strategy.synthesize(6)
    tokenizer = strategy.writer.source.tokenizer
    assert batch.prompts == tuple(tokenizer.decode(prompt) for prompt in strategy.waiting.prompts.tolist())
    assert all(text.startswith(" ".join(prompt.split())) for text, prompt in zip(batch.texts, batch.prompts))
    alone = build(prompt_tokens=3, with_prompt=False).synthesize(6)
    assert alone.prompts == batch.prompts
    assert all(whole.endswith(text) and whole != text for whole, text in zip(batch.texts, alone.texts))


def test_only_the_batch_made_last_moves_the_prompter(build: Build) -> None:
    strategy = build()
    before = strategy.learner.state_dict()["policy"]

    def still_there() -> bool:
        now = strategy.learner.state_dict()["policy"]
        return all(torch.equal(value, now[name]) for name, value in before.items())

    held_out, batch = strategy.synthesize(8), strategy.synthesize(8)
    strategy.observe(rigged(held_out, [True, False] * 4))
    strategy.observe(replace(rigged(batch, [True, False] * 4), fresh=False))
    assert still_there()
    strategy.observe(rigged(batch, [True, False] * 4))
    assert not still_there()
    before = strategy.learner.state_dict()["policy"]
    strategy.observe(rigged(batch, [True, False] * 4))  # once is enough
    assert still_there()


def test_synthesis_and_learning_leave_teacher_student_and_language_model_alone(build: Build) -> None:
    strategy = build()
    policy = strategy.learner.policy
    models = {"teacher": strategy.teacher.classifier, "student": strategy.student, "language": policy.language.model}
    before = {name: {k: v.clone() for k, v in model.state_dict().items()} for name, model in models.items()}
    training = strategy.student.training
    for _ in range(3):
        strategy.observe(rigged(strategy.synthesize(8), [True, False] * 4))
    strategy.score(strategy.draw(4).numpy())
    assert strategy.student.training is training and strategy.writer.source.engine.language_model is policy.language
    for name, model in models.items():
        changed = [key for key, value in model.state_dict().items() if not torch.equal(value, before[name][key])]
        assert bool(changed) is (name == "language") and all(".lora_" in key for key in changed)
    assert all(p.grad is None for model in models.values() for p in model.parameters())


def test_score_is_the_reward_of_texts_made_of_the_prompts(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy, seen = build(), list[PseudoBatch]()
    label = strategy.teacher.label
    monkeypatch.setattr(strategy.teacher, "label", lambda batch: seen.append(batch) or label(batch))
    prompts = strategy.draw(6)
    rewards = strategy.score(prompts.numpy())
    batch, = seen
    assert batch.prompts == tuple(strategy.writer.source.text(prompt) for prompt in prompts.tolist())
    feedback = answer(strategy, batch)
    expected = base_reward(feedback.teacher_logits, feedback.student_logits, "teacher_minus_student")
    assert rewards == pytest.approx(expected.numpy(), abs=1e-5)


def test_another_agent_can_be_trained_on_the_environment(build: Build) -> None:
    """A table of a score for each word, moved by rewards alone, knows nothing of policies and learners."""
    strategy = build(reward="teacher", prompt_tokens=1, temperature=0, unique=False)
    size, generator = strategy.learner.policy.vocabulary, numpy.random.default_rng(0)
    environments = VectorPromptEnvironment(64, size, 1, strategy.score)
    total, count = numpy.zeros(size), numpy.full(size, 1e-9)
    environments.reset()
    for _ in range(4):
        actions = generator.integers(0, size, 64)
        _, rewards, ended, _, _ = environments.step(actions)
        assert ended.all()
        numpy.add.at(total, actions, rewards)
        numpy.add.at(count, actions, 1)
        environments.step(actions)  # begins the next episodes
    best = (total / count).argsort()[::-1][:16]
    environments.reset()
    gained = environments.step(numpy.repeat(best, 4))[1]
    assert gained.mean() > (total.sum() / count.sum()) + 0.02


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["lora", "gru"])
def test_a_reloaded_prompter_goes_on_to_the_byte(build: Build, policy: str) -> None:
    options = {"policy": policy, "balance_weight": 0.5, "repetition_weight": 0.5, "learner": "ppo"}
    strategy = build(**options)

    def steps(of: Any, n: int) -> list[Any]:
        made = []
        for step in range(n):
            batch = of.synthesize(6)
            of.observe(answer(of, batch, step))
            made.append((batch.texts, dict(batch.info)))
        return made

    steps(strategy, 3)
    state, expected = strategy.state_dict(), steps(strategy, 3)
    fresh = build(**options)
    fresh.load_state_dict(state)
    assert steps(fresh, 3) == expected


@pytest.mark.parametrize("policy", ["lora", "gru"])
def test_a_prompter_that_collapsed_begins_anew_at_its_reference(build: Build, policy: str) -> None:
    strategy = build(policy=policy, kl_weight=0.5)
    assert build(policy=policy, kl_weight=0.5, repair=False).repair("prompter_collapse") is None
    assert build(policy=policy, kl_weight=math.inf).repair("prompter_collapse") is None  # at its reference as it is

    def step() -> dict[str, float]:
        batch = strategy.synthesize(6)
        strategy.observe(rigged(batch, [True, False, False] * 2))
        return dict(batch.info)

    first = [step() for _ in range(3)]
    assert first[0]["policy_kl"] == 0 < first[2]["policy_kl"]
    assert strategy.repair("texts_off_balance") is None and step()["policy_kl"] > 0  # an alarm of another kind
    state = strategy.state_dict()
    assert "strategy.kl_weight=2" in strategy.repair("prompter_collapse")
    assert strategy.repair("prompts_repeat") == "the prompter began anew 0 updates ago"  # the alarm tells of before
    assert strategy.repair("texts_off_balance") is None and strategy.learner.kl_weight == 2
    after = step()
    assert after["policy_kl"] == 0 and after["baseline"] != after["reward"]  # what rewards are usual is not forgotten
    assert strategy.learner.kl_weight == 2 and step()["policy_kl"] > 0
    again = build(policy=policy, kl_weight=0.5)
    again.load_state_dict(strategy.state_dict())
    assert "began anew 2 updates ago" in again.repair("prompter_collapse") and again.learner.kl_weight == 2
    again.load_state_dict(state)
    assert again.learner.kl_weight == 0.5 and "strategy.kl_weight=2" in again.repair("prompter_runs_away")


CHANGED: dict[str, Any] = {
    "policy": "gru", "lora_rank": 2, "lora_targets": "attention", "gru_width": 16, "learner": "ppo", "epochs": 2,
    "clip_ratio": 1e-4, "kl_weight": 5.0, "baseline": "leave_one_out", "baseline_momentum": 0.0,
    "normalise_advantage": True, "policy_rate": 1e-3, "shuffle_rewards": True, "policy_clip": 1e-8,
    "reward": "kl", "student_dropout": False, "balance_weight": 5.0, "repetition_weight": 5.0, "reward_window": 7,
}


USUAL: dict[str, torch.Tensor] = {}


def test_no_option_is_forgotten() -> None:
    every = {field.name for part in (PolicyOptions, LearnerOptions, RewardOptions) for field in fields(part)}
    assert set(CHANGED) == every - {"prompt_top_p", "repair"}  # tests/test_strategies.py; a run


@pytest.mark.slow
@pytest.mark.parametrize("option", CHANGED)
def test_every_option_acts_on_the_prompter(build: Build, option: str) -> None:
    common: dict[str, Any] = {"learner": "ppo"} if option in ("epochs", "clip_ratio") else {}
    common |= {"policy": "gru"} if option == "gru_width" else {}
    common |= {"balance_weight": 1.0} if option == "reward_window" else {}

    def written(**options: Any) -> torch.Tensor:
        strategy = build(**{**common, **options})
        for step in range(3):
            batch = strategy.synthesize(8)
            strategy.observe(rigged(batch, [place <= 2 * step for place in range(8)]))
        policy = strategy.learner.policy
        beginning = torch.zeros(1, 0, dtype=torch.long)
        chosen: torch.Tensor = policy.choice(beginning, policy.reference(beginning)).policy.detach()
        return chosen

    key = str(sorted(common.items()))
    if key not in USUAL:
        USUAL[key] = written()
    assert not torch.equal(USUAL[key], written(**{option: CHANGED[option]}))


def test_an_infinite_kl_weight_writes_the_references_prompts(build: Build) -> None:
    strategy, untaught = build(kl_weight=float("inf")), build()
    for _ in range(3):
        batch = strategy.synthesize(8)
        assert batch.texts == untaught.synthesize(8).texts
        strategy.observe(rigged(batch, [True, False] * 4))
    assert batch.info["policy_kl"] == 0 and batch.info["policy_entropy"] > 1


def test_weights_of_sixteen_bits_are_adapted_too(build: Build) -> None:
    for policy in ("lora", "gru"):
        strategy = build(policy=policy, model_precision="bf16")
        before = strategy.learner.state_dict()["policy"]
        for _ in range(3):
            strategy.observe(rigged(strategy.synthesize(8), [True, False] * 4))
        after = strategy.learner.state_dict()["policy"]
        assert all(not torch.equal(value, after[name]) for name, value in before.items())
        assert {value.dtype for value in after.values()} == {torch.float32}


# errors before any work

@pytest.mark.parametrize(("package", "policy"), [("gymnasium", "gru"), ("peft", "lora")])
def test_a_missing_package_is_told_before_any_work(
    build: Build, toy_language_model: Path, monkeypatch: pytest.MonkeyPatch, package: str, policy: str
) -> None:
    found = importlib.util.find_spec
    without: Callable[..., Any] = lambda name, *rest: None if name == package else found(name, *rest)
    monkeypatch.setattr(importlib.util, "find_spec", without)
    options = registry.options("prompt_rl", {"model": str(toy_language_model), "policy": policy})
    with pytest.raises(ConfigError, match=rf"'{package}' is missing[^$]*pip install '\.\[lm\]'"):
        registry.check("prompt_rl", options, Facts(("a", "b"), {}))
    with pytest.raises(ConfigError, match="is missing"):
        build(policy=policy)
    if package == "peft":
        build(policy="gru").synthesize(2)


@pytest.mark.slow
def test_strategies_are_listed_without_the_packages() -> None:
    absent = "import sys; sys.modules.update(gymnasium=None, peft=None)"
    code = f"{absent}; from dfkd.synthesis import registry; registry.describe('prompt_rl')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_all_that_is_missing_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompt_rl, "missing_packages", lambda policy: [ConfigError("a package is missing")])
    options = registry.options("prompt_rl", {"model": "nowhere/to/be/found"})
    with pytest.raises(ConfigError) as caught:
        registry.check("prompt_rl", options, Facts(("a", "b"), {}, pair=True))
    assert all(part in str(caught.value) for part in ("a package is missing", "single texts", "nowhere"))


def test_two_prompters_share_a_language_model_only_if_one_has_no_adapters(
    context: Context, toy_language_model: Path
) -> None:
    def options(policy: str) -> Any:
        return registry.options("prompt_rl", {"model": str(toy_language_model), "policy": policy})

    registry.build("prompt_rl", options("lora"), context)
    registry.build("prompt_rl", options("gru"), context).synthesize(2)
    with pytest.raises(ConfigError, match="adapters of another policy"):
        registry.build("prompt_rl", options("lora"), context)


@pytest.mark.parametrize(
    ("values", "match"),
    [({"prompt_tokens": 0}, "prompt_tokens"), ({"lora_rank": 0}, "lora_rank"), ({"prompt_top_p": 0}, "prompt_top_p"),
     ({"reward": "teachers"}, "minus_student"), ({"balance_weight": -1}, "balance_weight"), ({"top_p": 2}, "top_p"),
     ({"reward_window": 0}, "reward_window"), ({"kl_weight": -1}, "kl_weight"), ({"policy": "gpt"}, "lora")],
)
def test_bad_options_are_refused(values: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        registry.options("prompt_rl", values)


def test_a_run_logs_what_the_prompter_does(toy_teacher: Path, toy_language_model: Path, tmp_path: Path) -> None:
    settings = ["data=toy", f"teacher={toy_teacher}", "strategy=prompt_rl", f"runs={tmp_path}", "student.layers=1"]
    more = ["train.steps=6", "train.batch_size=8", "train.heldout=8", "evaluate.latency_rounds=0", "evaluate.limit=20"]
    config = pipeline.load_config([*settings, *more, f"strategy.model={toy_language_model}", "device=cpu"])
    pipeline.run(config)
    log = (tmp_path / config.run_name() / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in log]
    facts = {"reward", "policy_entropy", "policy_kl", "baseline", "prompt_distinct", "prompt_log_probability",
             "generated_tokens", "dropped_short", "class_entropy"}
    fresh = [record for record in records if record["fresh"]]
    assert len(fresh) == 3 and all(facts <= set(record) for record in fresh)
    assert not any(facts & set(record) for record in records if not record["fresh"])
    assert fresh[0]["policy_kl"] == 0 and fresh[-1]["policy_kl"] > 0


def test_a_run_repairs_its_prompter(toy_teacher: Path, toy_language_model: Path, tmp_path: Path) -> None:
    settings = ["data=toy", f"teacher={toy_teacher}", "strategy=prompt_rl", f"runs={tmp_path}", "student.layers=1"]
    sizes = ["train.steps=24", "train.batch_size=8", "train.heldout=8", "train.checkpoint_every=4", "device=cpu"]
    writing = [f"strategy.model={toy_language_model}", "strategy.max_new_tokens=8", "strategy.policy_rate=0.1",
               "strategy.normalise_advantage=true", "strategy.kl_weight=0.001"]
    rest = ["evaluate.latency_rounds=0", "evaluate.limit=20", "train.replay_share=0", "precision=float32"]

    def finish(name: str, *more: str, stop_after: int | None = None) -> list[dict[str, Any]]:
        def step(record: Mapping[str, Any], _: int) -> None:
            if record["step"] == stop_after:
                raise KeyboardInterrupt

        config = pipeline.load_config([*settings, *sizes, *writing, *rest, f"run={name}", *more])
        pipeline.run(config, pipeline.Listeners(step=step))
        assert not (tmp_path / f"{name}.partial").exists()
        return [json.loads(line) for line in (tmp_path / name / "alarms.jsonl").read_text().splitlines()]

    def policy_kl(name: str) -> list[float]:
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["policy_kl"] for line in lines]

    told = finish("left", "strategy.repair=false")
    assert told and not any(alarm["repaired"] for alarm in told)
    mended = finish("mended", "train.on_alarm=stop")
    first = next(alarm for alarm in mended if alarm["repaired"])
    assert first["name"] in prompt_rl.REPAIRED and "kl_weight=0.004" in first["repaired"]
    assert next(alarm for alarm in told if alarm["name"] == first["name"])["step"] == first["step"]
    left, kept = policy_kl("left"), policy_kl("mended")
    assert kept[: first["step"] + 1] == left[: first["step"] + 1]
    assert kept[first["step"] + 1] == 0 < left[first["step"] + 1]
    for stop_after in (first["step"], first["step"] + 1):  # in the middle of it, or afterwards
        name = f"killed{stop_after}"
        with pytest.raises(KeyboardInterrupt):
            finish(name, stop_after=stop_after)
        gc.collect()  # the traceback holds the folder's lock
        assert finish(name) == mended
        same = [(tmp_path / each / "student" / "model.safetensors").read_bytes() for each in (name, "mended")]
        assert same[0] == same[1]
    shown = Console(width=300, record=True, file=io.StringIO())
    shown.print(inspect.inspect_run(tmp_path / "mended"))
    assert "repaired: the prompter begins anew" in shown.export_text()
    with pytest.raises(ConfigError, match="repair"):  # another student than the one that is there
        finish("left")
    with pytest.raises(Alarmed, match=f"{first['name']}(?s:.*)a higher strategy.kl_weight"):
        finish("stopped", "strategy.repair=false", "train.on_alarm=stop")


# what a run keeps

def test_a_budget_of_tokens_lasts_as_long_as_the_training(
    toy_teacher: Path, toy_language_model: Path, tmp_path: Path
) -> None:
    def run(name: str, *further: str) -> tuple[dict[str, Any], list[bool]]:
        config = pipeline.load_config([
            "data=toy", f"teacher={toy_teacher}", "strategy=prompt_rl", f"strategy.model={toy_language_model}",
            "strategy.max_new_tokens=6", "student.layers=1", "train.steps=6", "train.replay_share=0",
            "train.batch_size=8", "train.heldout=0", "evaluate.latency_rounds=0", "evaluate.limit=10",
            f"runs={tmp_path}", f"run={name}", "device=cpu", *further,
        ])
        result = pipeline.run(config)
        log = runs.RunFolder(Path(config.runs) / config.run_name()).read_log("metrics")
        return result, [record["fresh"] for record in log]

    free, fresh = run("free")
    assert all(fresh) and free["generated_tokens"] > 0
    budget = free["generated_tokens"] // 2
    bound, fresh = run("bound", f"train.generated_tokens={budget}")
    assert bound["steps"] == 6 and fresh in ([True, False] * 3, [True, False, True, False, False, True])  # to the end
    assert abs(bound["generated_tokens"] - budget) <= free["generated_tokens"] / 6 < free["generated_tokens"] / 2
    early, fresh = run("early", f"train.generated_tokens={budget}", "train.generated_until=0.5")
    assert early["steps"] == 6 and fresh in ([True] * 3 + [False] * 3, [True] * 4 + [False] * 2)
    with pytest.raises(ConfigError, match="generated_tokens is spent before the first step, by the samples set aside"):
        run("none", "train.generated_tokens=1", "train.heldout=8")


@pytest.fixture
def rewarded(toy_teacher: Path, toy_language_model: Path, tmp_path: Path) -> list[str]:
    """Settings of a short finished run, ``it`` in the test's folder, that has kept its texts."""
    given = ["data=toy", f"teacher={toy_teacher}", "student.layers=1", f"runs={tmp_path}", "device=cpu"]
    sizes = ["train.steps=4", "train.batch_size=8", "train.heldout=0", "evaluate.latency_rounds=0", "evaluate.limit=10"]
    own = ["strategy=prompt_rl", f"strategy.model={toy_language_model}", "strategy.max_new_tokens=6"]
    pipeline.run(pipeline.load_config([*given, *sizes, *own, "train.replay_share=0.5", "run=it"]))
    return [*given, *sizes]


def test_rewards_are_stored_with_the_texts(rewarded: list[str], tmp_path: Path) -> None:
    files = sorted((tmp_path / "it/pool").glob("*.arrow"))
    rows = [row for file in files for row in pyarrow.ipc.open_file(str(file)).read_all().to_pylist()]
    metrics = [json.loads(line) for line in (tmp_path / "it/metrics.jsonl").read_text().splitlines()]
    means = [numpy.mean([row["reward"] for row in rows if row["step"] == m["step"]]) for m in metrics if m["fresh"]]
    assert len(means) == 2
    assert means == pytest.approx([m["reward"] for m in metrics if m["fresh"]], abs=1e-5)


def test_inspect_shows_the_rewards_of_the_texts_that_a_run_has_kept(rewarded: list[str], tmp_path: Path) -> None:
    rows, folder = arrow_rows(tmp_path / "it/pool"), runs.RunFolder(tmp_path / "it")
    samples = inspect.samples_of(folder, ["weather", "food", "sport"], "prompt_rl")
    assert [(sample["text"], sample["reward"]) for sample in samples] == [(row["text"], row["reward"]) for row in rows]
    assert all({"step", "prompt", "confidence"} <= set(sample) and "strategy" not in sample for sample in samples)
    sorted((tmp_path / "it/pool").glob("*.arrow"))[0].unlink()  # too old to be replayed: what was logged stands in
    older = [sample["text"] for sample in folder.read_log("samples") if sample["step"] < rows[-1]["step"]]
    samples = inspect.samples_of(folder, ["weather", "food", "sport"], "prompt_rl")
    assert [sample["text"] for sample in samples] == [*older, *(row["text"] for row in rows[8:])] and older
    console = Console(width=250, record=True, file=io.StringIO())
    console.print(inspect.inspect_run(tmp_path / "it"))
    assert f"{rows[-1]['reward']:.3f}" in console.export_text()


def test_a_finished_run_becomes_a_pool_with_rewards(rewarded: list[str], tmp_path: Path) -> None:
    out = tmp_path / "pools" / "it"
    answer = CliRunner().invoke(cli.app, ["export", str(tmp_path / "it"), str(out)])
    facts, result = text_pool.finished_facts(out), json.loads((tmp_path / "it/result.json").read_text())
    assert answer.exit_code == 0 and f"{facts['samples']} samples by" in answer.output
    kept = [row for folder in (tmp_path / "it/pool", out / "samples") for row in arrow_rows(folder)]
    before, after = kept[:16], kept[16:]
    assert len(after) == facts["samples"] == 16 - sum(facts["dropped"].values())
    assert all({**row, "strategy": None} in before for row in after)  # prompts, rewards, steps and predictions as well
    assert all(row["reward"] is not None and row["prompt"] and row["strategy"] == "prompt_rl" for row in after)
    assert facts["generated_tokens"] == result["generated_tokens"] > 0
    console = Console(width=250, record=True, file=io.StringIO())
    console.print(inspect_pool.inspect_pool(out))
    assert "reward" in console.export_text()
    other = pipeline.run(pipeline.load_config([*rewarded, f"pool={out}", "run=other"]))  # the teacher's own predictions
    assert other["queries"]["synthesis"] == result["queries"]["train"] == 16 and other["queries"]["train"] == 0
    with pytest.raises(ConfigError, match="is there already"):
        exporting.export(tmp_path / "it", out)
    at_work = tmp_path / f"begun{runs.PARTIAL}"  # another run's
    at_work.mkdir()
    with pytest.raises(ConfigError, match="begun.partial' is there already"):
        exporting.export(tmp_path / "it", tmp_path / "begun")
    assert at_work.is_dir()


def arrow_rows(folder: Path) -> list[dict[str, Any]]:
    files = sorted(folder.glob("*.arrow"))
    return [row for file in files for row in pyarrow.ipc.open_file(str(file)).read_all().to_pylist()]


def test_what_cannot_become_a_pool_is_refused(rewarded: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no finished run"):
        exporting.export(tmp_path / "nowhere", tmp_path / "pool")
    with pytest.raises(ConfigError, match="near_duplicates"):
        exporting.export(tmp_path / "it", tmp_path / "pool", near_duplicates=2)
    for strategy, share, match in (
        ("real_text", 0.5, "task's own texts"), ("embedding_guess", 0.5, "kept no texts"),
        ("random_tokens", 0, "kept no texts(.|\n)*train.replay_share"),
    ):
        given = [*rewarded, f"strategy={strategy}", f"run={strategy}", "train.steps=2", f"train.replay_share={share}"]
        pipeline.run(pipeline.load_config(given))
        with pytest.raises(ConfigError, match=match):
            exporting.export(tmp_path / strategy, tmp_path / "pool")
    assert not (tmp_path / "pool").exists() and not list(tmp_path.glob("pool.*"))


# the environment for agents of other libraries

def test_the_page_on_other_agents_works(
    toy_teacher: Path, toy_language_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "teachers").mkdir()
    (tmp_path / "teachers/toy").symlink_to(toy_teacher)
    page = (Path(__file__).parent.parent / "docs/prompting.md").read_text(encoding="utf-8")
    code = page.split("```python\n")[1].split("```")[0].replace("=gpt2", f"={toy_language_model}")
    seen: dict[str, Any] = {}
    exec(code, seen)  # noqa: S102: our own page
    size = seen["environment"].vocabulary
    assert seen["seen"].tolist()[1:] == [size] * 4 and seen["reward"] == 0 and not seen["ended"]
    for _ in range(4):
        _, reward, ended, _, _ = seen["environment"].step(3)
    assert ended and reward != 0
    many = prompting.environments(seen["settings"], prompts=3)
    assert many.reset()[0].shape == (3, 5)


@pytest.mark.parametrize("prompt_tokens", [1, 5])
def test_the_real_environment_passes_gymnasiums_check(
    toy_teacher: Path, toy_language_model: Path, prompt_tokens: int
) -> None:
    given = ["data=toy", f"teacher={toy_teacher}", "strategy=prompt_rl", f"strategy.model={toy_language_model}"]
    given += ["student.layers=1", "device=cpu", "precision=float32", "strategy.max_new_tokens=6"]
    # with a memory of what was rare of late, the reward of one episode leans on those before
    given += [f"strategy.prompt_tokens={prompt_tokens}", "strategy.balance_weight=0.5", "strategy.repetition_weight=1"]
    single = prompting.environment(given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*not having a spec.*")
        check_env(single)
    for made in (prompting.environment(given), prompting.environments(given, prompts=3)):
        assert rewards_of(made, 7, prompt_tokens) == rewards_of(made, 7, prompt_tokens)
        assert rewards_of(made, 8, prompt_tokens) != rewards_of(made, 7, prompt_tokens)


def rewards_of(environment: Any, seed: int, steps: int) -> list[Any]:
    """The rewards of an episode of words, begun with a seed."""
    _, facts = environment.reset(seed=seed)
    allowed = facts["action_mask"]
    word = int(numpy.flatnonzero(allowed if allowed.ndim == 1 else allowed[0])[3])
    action = word if allowed.ndim == 1 else numpy.full(len(allowed), word)
    return [numpy.asarray(environment.step(action)[1]).tolist() for _ in range(steps)]


def test_special_and_unused_tokens_are_masked(toy_teacher: Path, toy_language_model: Path) -> None:
    given = ["data=toy", f"teacher={toy_teacher}", "strategy=prompt_rl", f"strategy.model={toy_language_model}"]
    made = prompting.environment([*given, "student.layers=1", "device=cpu"])
    _, facts = made.reset()
    closed = numpy.flatnonzero(facts["action_mask"] == 0).tolist()
    tokenizer = AutoTokenizer.from_pretrained(toy_language_model)
    assert set(tokenizer.all_special_ids) <= set(closed) and len(closed) < len(facts["action_mask"]) / 2


def test_only_prompters_have_an_environment(toy_teacher: Path) -> None:
    with pytest.raises(ConfigError, match="strategy=prompt_rl(.|\n)*random_tokens"):
        prompting.prompter(["data=toy", f"teacher={toy_teacher}", "strategy=random_tokens"])
