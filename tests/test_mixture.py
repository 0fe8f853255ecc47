"""Several strategies in one: how parts are read, drawn, scheduled, fed back to, and gone on with after a kill."""

from __future__ import annotations

import collections
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pytest
import torch

from dfkd import pipeline, seeding, teaching
from dfkd.batch import Feedback, PseudoBatch
from dfkd.config import DataConfig
from dfkd.errors import ConfigError
from dfkd.models.students import registry as students
from dfkd.models.students.base import StudentContext
from dfkd.models.teacher import Teacher
from dfkd.pool import Pool
from dfkd.synthesis import registry
from dfkd.synthesis._parts import read_parts
from dfkd.synthesis.base import Context, Facts, learns_from_student
from dfkd.synthesis.mixture import Mixture

WORDS: dict[str, Any] = {"strategy": "random_tokens", "options": {"max_length": 6}}
TEMPLATES: dict[str, Any] = {"strategy": "templated"}
HARD: dict[str, Any] = {"strategy": "as_dfd", "options": {"max_length": 16, "guess_steps": 1, "mask_weight": 1.0}}


@pytest.fixture
def teacher(toy_teacher: Path) -> Teacher:
    return teaching.load_teacher(pipeline.load_config(["data=toy", f"teacher={toy_teacher}", "strategy=random_tokens"]))


@pytest.fixture
def mix(teacher: Teacher, toy_data: DataConfig) -> Callable[..., Any]:
    def make(*parts: dict[str, Any], steps: int | None = 100, student: Any = None) -> Any:
        options = registry.options("mixture", {"parts": list(parts)})
        if student is None and options.injects == "embeddings":
            student = new_student(teacher)
        context = Context(teacher, student, seeding.generator(0, "s"), False, toy_data.prompts, tuple, steps=steps)
        return registry.build("mixture", options, context)

    return make


def new_student(teacher: Teacher) -> Any:
    torch.manual_seed(0)
    options = students.STUDENTS.options("truncated", {"layers": 1})
    return students.build("truncated", options, StudentContext(teacher, "embeddings"))


def told(batch: PseudoBatch, step: int) -> Feedback:
    logits = torch.zeros(len(batch), 3)
    return Feedback(step, batch, logits, logits, {})


def content(batch: PseudoBatch) -> Any:
    return batch.texts if batch.embeddings is None else batch.embeddings.numpy().tobytes()


# what is mixed

def test_facts_are_those_of_the_parts() -> None:
    def facts(*parts: dict[str, Any]) -> tuple[str, bool]:
        options = registry.options("mixture", {"parts": list(parts)})
        return options.injects, options.uses_real_text

    assert facts(WORDS, TEMPLATES) == ("tokens", False)
    assert facts(WORDS, HARD) == ("embeddings", False)
    assert facts(WORDS, {"strategy": "embedding_guess", "options": {"snap": True}}) == ("tokens", False)
    assert facts(WORDS, {"strategy": "real_text"}) == ("tokens", True)


def test_an_adversary_in_a_part_needs_the_teachers_block_and_a_remedy_names_the_part() -> None:
    def told(*parts: dict[str, Any]) -> tuple[str, str]:
        options = registry.options("mixture", {"parts": list(parts)})
        return registry.student_reads(options), registry.remedy(options)

    snapped = {"strategy": "as_dfd", "options": {"snap": True}}
    assert told(WORDS, {"strategy": "embedding_guess", "options": {"snap": True}}) == ("tokens", "")
    assert told(WORDS, snapped) == ("embeddings", "options: {difficulty_weight: 0} to the part as_dfd")
    assert told(snapped, {"strategy": "cmi"}) == (
        "embeddings", "options: {difficulty_weight: 0} to the part as_dfd and "
        "options: {snap: true, adversary_weight: 0} to the part cmi",
    )
    assert told(snapped, {"strategy": "dafl"}) == ("embeddings", "")  # a generator's samples cannot be snapped


def test_a_strategy_may_come_twice() -> None:
    assert [part.label for part in read_parts([WORDS, TEMPLATES, WORDS])] == [
        "random_tokens", "templated", "random_tokens-2"
    ]


@pytest.mark.parametrize(
    ("parts", "match"),
    [([], "no parts"), (["random_tokens"], "part 1 names no strategy"), ([{"weight": 1}], "part 1 names no strategy"),
     ([{**WORDS, "wait": 2}], "unknown key 'wait'(.|\n)*weight"), ([{"strategy": "mixture"}], "part 1 is a mixture"),
     ([{"strategy": "random_token"}], "part 1(.|\n)*did you mean 'random_tokens'"),
     ([{"strategy": "random_tokens", "options": {"max_len": 3}}], "part 1(.|\n)*max_len"),
     ([{**WORDS, "weight": 0}], "weight above 0"), ([{**WORDS, "weight": "much"}], "'weight' is no number"),
     ([{**WORDS, "from": 0.5, "until": 0.5}], "from < until"), ([{**WORDS, "until": 2}], "out of range"),
     ([{**WORDS, "from": 0.1}], "no part of the mixture is at work from 0 "),
     ([{**WORDS, "until": 0.3}, {**TEMPLATES, "from": 0.4}], "from 0.3 of the steps on"),
     ([{**WORDS, "until": 0.3}], "from 0.3 of the steps on")],
)
def test_faulty_parts_are_refused(parts: list[Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        registry.options("mixture", {"parts": parts})


def test_the_checks_of_the_parts_are_made(toy_data: DataConfig) -> None:
    options = registry.options("mixture", {"parts": [WORDS, TEMPLATES, {"strategy": "corpus"}, {"strategy": "pool"}]})
    with pytest.raises(ConfigError, match="3 problems(.|\n)*domain(.|\n)*corpus(.|\n)*no pool"):
        registry.check("mixture", options, Facts(toy_data.labels, {}))


def test_a_schedule_needs_steps(mix: Callable[..., Any]) -> None:
    mix(WORDS, TEMPLATES, steps=None)
    with pytest.raises(ConfigError, match="a schedule needs a student's steps"):
        mix(WORDS, {**TEMPLATES, "from": 0.5}, steps=None)


# drawing

def test_parts_are_drawn_by_weight_and_counted(mix: Callable[..., Any]) -> None:
    mixture = mix({**WORDS, "weight": 3}, TEMPLATES)
    made = collections.Counter(mixture.synthesize(1).strategy for _ in range(400))
    assert abs(made["random_tokens"] - 300) < 40
    info = mixture.synthesize(1).info
    assert info["batches_random_tokens"] + info["batches_templated"] == 401


def test_parts_work_in_their_share_of_the_steps(mix: Callable[..., Any]) -> None:
    mixture = mix({**WORDS, "until": 0.5}, {**TEMPLATES, "from": 0.5})
    makers = []
    for step in range(100):
        batch = mixture.synthesize(1)
        makers.append(batch.strategy)
        mixture.observe(told(batch, step))
    assert makers == ["random_tokens"] * 50 + ["templated"] * 50


def test_replayed_steps_count_for_the_schedule(mix: Callable[..., Any]) -> None:
    mixture = mix({**WORDS, "until": 0.5}, {**TEMPLATES, "from": 0.5})
    mixture.observe(replace(told(mixture.synthesize(1), 70), fresh=False))
    assert mixture.synthesize(1).strategy == "templated"


def test_each_part_has_a_generator_of_its_own(mix: Callable[..., Any]) -> None:
    alone, beside = mix(WORDS, steps=10), mix(WORDS, TEMPLATES, {**WORDS})
    first = [alone.synthesize(3).texts for _ in range(2)]
    batches = [beside.synthesize(3) for _ in range(40)]
    own = [batch.texts for batch in batches if batch.strategy == "random_tokens"]
    twin = [batch.texts for batch in batches if batch.strategy == "random_tokens-2"]
    assert own[:2] == first and own[:2] != twin[:2]


def test_held_out_samples_are_of_all_parts_and_never_trained_on(mix: Callable[..., Any]) -> None:
    mixture = mix(WORDS, {**TEMPLATES, "from": 0.5})
    makers = collections.Counter(mixture.hold_out(1).strategy for _ in range(300))
    assert 60 < makers["templated"] < 140  # half the time at work, a third of the samples

    class Spent(type(mixture.strategies["templated"])):  # type: ignore[misc]
        def hold_out(self, n: int) -> None:
            return None

    mixture.strategies["templated"].__class__ = Spent
    assert {mixture.hold_out(1).strategy for _ in range(20)} == {"random_tokens"}
    mixture.strategies = dict.fromkeys(mixture.strategies, mixture.strategies["templated"])
    assert mixture.hold_out(1) is None


# what comes back

class Listener:
    """A part that notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[Feedback] = []

    def observe(self, feedback: Feedback) -> None:
        self.heard.append(feedback)

    def rewards(self, feedback: Feedback) -> torch.Tensor:
        return torch.ones(len(feedback.batch))

    def notes(self) -> dict[str, Any]:
        return {"heard": len(self.heard)}

    def repair(self, alarm: str) -> str:
        return f"mended {alarm}"


def test_feedback_rewards_and_notes_go_by_the_part_that_made_the_batch(mix: Callable[..., Any]) -> None:
    mixture = mix(WORDS, TEMPLATES)
    listener: Any = Listener()
    mixture.strategies["templated"] = listener
    for maker in ("templated", "random_tokens", None, "templated"):
        feedback = told(PseudoBatch(texts=("a",), strategy=maker), 0)
        mixture.observe(feedback)
        assert (mixture.rewards(feedback) is None) is (maker != "templated")
        assert mixture.repair("it") == ("mended it" if maker == "templated" else None)
    out_of_a_pool = told(PseudoBatch(texts=("a",), strategy="random_tokens", rewards=torch.tensor([0.5])), 0)
    assert mixture.rewards(out_of_a_pool) is out_of_a_pool.batch.rewards
    assert len(listener.heard) == 2 and mixture.notes() == {"templated": {"heard": 2}}
    assert mixture.learns_from_student and learns_from_student(mixture)
    assert not learns_from_student(mix(WORDS, TEMPLATES))


def test_facts_that_a_part_adds_later_are_seen(mix: Callable[..., Any]) -> None:
    mixture = mix(WORDS)
    facts = {"early": 1.0}
    part = mixture.strategies["random_tokens"]
    part.synthesize = lambda n: PseudoBatch(texts=("a",) * n, info=facts)
    batch = mixture.synthesize(1)
    facts["late"] = 2.0
    assert {**batch.info} == {"early": 1.0, "late": 2.0, "batches_random_tokens": 1.0}


def test_loss_terms_and_parameters_are_those_of_the_parts(mix: Callable[..., Any], teacher: Teacher) -> None:
    student = new_student(teacher)
    mixture: Mixture = mix(WORDS, HARD, student=student)
    batches = {batch.strategy: batch for batch in (mixture.synthesize(2) for _ in range(20))}
    assert set(mixture.student_losses(student, batches["as_dfd"])) == {"mask"}
    assert mixture.student_losses(student, batches["random_tokens"]) == {}
    assert list(mixture.parameters()) == list(mixture.strategies["as_dfd"].parameters()) != []
    assert isinstance(student.from_batch(batches["random_tokens"]), torch.Tensor)  # texts go to the same student


# the store of samples

def test_replay_draws_from_one_part_at_a_time(mix: Callable[..., Any], tmp_path: Path) -> None:
    mixture, pool, generator = mix(WORDS, HARD), Pool(tmp_path, 1000), torch.Generator().manual_seed(0)
    for step in range(8):
        batch = mixture.synthesize(3)
        pool.append(batch, torch.zeros(3, 3), step)
    drawn = [pool.sample(5, generator)[0] for _ in range(40)]
    assert {batch.strategy for batch in drawn} == {"random_tokens", "as_dfd"}
    assert all((batch.texts is None) is (batch.strategy == "as_dfd") for batch in drawn)
    again = Pool(tmp_path, 1000)
    again.load_state_dict(pool.state_dict())
    assert again.makers == pool.makers


# going on

def test_state_continues_all_parts(mix: Callable[..., Any], teacher: Teacher) -> None:
    student = new_student(teacher)
    parts = (WORDS, {**HARD, "from": 0.3}, TEMPLATES)
    mixture = mix(*parts, student=student)
    for step in range(40):
        mixture.observe(told(mixture.synthesize(2), step))
    state = mixture.state_dict()
    expected = [mixture.synthesize(2) for _ in range(10)]
    fresh = mix(*parts, student=student)
    fresh.load_state_dict(state)
    again = [fresh.synthesize(2) for _ in range(10)]
    assert [content(batch) for batch in again] == [content(batch) for batch in expected]
    assert again[-1].info == expected[-1].info and len({batch.strategy for batch in again}) == 3


def settings(toy_teacher: Path, runs: Path) -> list[str]:
    parts = json.dumps([WORDS, {**HARD, "from": 0.5}])
    return [
        "data=toy", f"teacher={toy_teacher}", "strategy=mixture", f"strategy.parts={parts}", f"runs={runs}", "run=it",
        "student.layers=1", "train.steps=24", "train.batch_size=4", "train.heldout=8", "train.replay_share=0.25",
        "train.checkpoint_every=5", "evaluate.latency_rounds=0", "device=cpu", "precision=float32",
    ]


def test_a_killed_run_of_a_mixture_ends_with_the_same_student(
    toy_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.run(pipeline.load_config(settings(toy_teacher, tmp_path / "whole")))
    calls = iter(range(1000))
    honest = Mixture.synthesize

    def killed(self: Mixture, n: int) -> PseudoBatch:
        if next(calls) == 14:
            raise KeyboardInterrupt
        return honest(self, n)

    monkeypatch.setattr(Mixture, "synthesize", killed)
    config = pipeline.load_config(settings(toy_teacher, tmp_path / "cut"))
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(config)
    pipeline.run(config)
    students_made = [(tmp_path / name / "it/student/model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert students_made[0] == students_made[1]
    metrics = [json.loads(line) for line in (tmp_path / "cut/it/metrics.jsonl").read_text().splitlines()]
    assert "mask" in metrics[-1] or any("mask" in record for record in metrics[12:])
    assert not any("mask" in record for record in metrics[:12])
    samples = [json.loads(line) for line in (tmp_path / "cut/it/samples.jsonl").read_text().splitlines()]
    assert {sample["strategy"] for sample in samples} <= {"random_tokens", "as_dfd"}


def test_a_mixture_with_real_text_is_marked(toy_teacher: Path, tmp_path: Path) -> None:
    given = [text for text in settings(toy_teacher, tmp_path) if not text.startswith("strategy.parts")]
    parts = json.dumps([WORDS, {"strategy": "real_text", "weight": 5}])
    result = pipeline.run(pipeline.load_config([*given, f"strategy.parts={parts}"]))
    assert result["strategy"]["uses_real_text"] is True
    log = [json.loads(line) for line in (tmp_path / "it/access.jsonl").read_text().splitlines()]
    assert [(r["split"], r["to"]) for r in log] == [("train", "real_text"), ("test", "evaluate")]
