"""Diagnostics, alarms, the token bridge and the look into a run."""

from __future__ import annotations

import gc
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from dfkd import pipeline, seeding, teaching
from dfkd.batch import Feedback, PseudoBatch
from dfkd.config import DataConfig, TrainConfig
from dfkd.errors import Alarmed, ConfigError
from dfkd.losses import prediction_gap
from dfkd.models import scale
from dfkd.models.decode import NearestTokens, pieces, token_table, without_ends
from dfkd.models.students import registry as students
from dfkd.models.students.base import StudentContext
from dfkd.models.teacher import Teacher
from dfkd.quality import diagnostics
from dfkd.quality.alarms import FEW, WINDOW, Alarms
from dfkd.quality.diagnostics import Diagnostics
from dfkd.quality.rules import RULES, makers_of
from dfkd.report.inspect import classes_table, early_and_late, inspect_run
from dfkd.runs import RunFolder
from dfkd.synthesis import registry
from dfkd.synthesis._snap import Snapped, shares_embeddings
from dfkd.synthesis.base import Context


@pytest.fixture
def teacher(toy_teacher: Path, toy_data: DataConfig) -> Teacher:
    return teaching.load_teacher(pipeline.load_config(["data=toy", f"teacher={toy_teacher}", "strategy=random_tokens"]))


def build(teacher: Teacher, name: str, student: Any = None, **options: Any) -> Any:
    typed = registry.options(name, options)
    if student is None:
        torch.manual_seed(0)
        made = students.STUDENTS.options("truncated", {"layers": 1})
        student = students.build("truncated", made, StudentContext(teacher, registry.student_reads(typed)))
    context = Context(teacher, student, seeding.generator(0, "synthesis"), False, {}, lambda: ())
    return registry.build(name, typed, context)


def feedback(teacher: Teacher, batch: PseudoBatch, logits: torch.Tensor | None = None) -> Feedback:
    logits = teacher.label(batch) if logits is None else logits
    return Feedback(0, batch, logits, logits, {})


# diagnostics

def embedded(teacher: Teacher, scale: float = 1.0, shift: float = 0.0) -> PseudoBatch:
    """A batch of real token embeddings, pulled off their scale."""
    generator = torch.Generator().manual_seed(0)
    table = token_table(teacher.classifier)
    rows = torch.randint(len(table), (40, 12), generator=generator)
    embeddings = table[rows] * scale + shift
    return PseudoBatch(embeddings=embeddings, attention_mask=torch.ones(40, 12, dtype=torch.long))


def test_embeddings_of_tokens_are_on_scale_and_others_are_not(teacher: Teacher) -> None:
    look = Diagnostics(teacher)
    plain = look.measure(feedback(teacher, embedded(teacher)))
    assert plain["embedding_norm"] == pytest.approx(1, abs=0.1)
    assert plain["embedding_deviation"] == pytest.approx(1, abs=0.1)
    assert plain["embedding_shift"] < 0.2 and abs(plain["pairwise_cosine"]) < 0.05
    large = look.measure(feedback(teacher, embedded(teacher, scale=3.0)))
    assert large["embedding_norm"] == pytest.approx(3 * plain["embedding_norm"])
    assert large["embedding_deviation"] == pytest.approx(3 * plain["embedding_deviation"])
    moved = look.measure(feedback(teacher, embedded(teacher, shift=5.0)))
    assert moved["embedding_shift"] > 3 and moved["pairwise_cosine"] > 0.8


def test_pairwise_cosine_by_hand() -> None:
    mask, mean = torch.ones(2, 3, dtype=torch.bool), torch.zeros(2)
    ends = [9.0, 9.0]
    alike = torch.tensor([[ends, [1.0, 0.0], ends], [ends, [2.0, 0.0], ends]])
    both = ("pairwise_cosine", "pairwise_square")
    assert scale.pairwise_cosines(alike, mask, mean) == dict.fromkeys(both, pytest.approx(1))
    across = torch.tensor([[ends, [1.0, 0.0], ends], [ends, [0.0, 2.0], ends]])
    assert scale.pairwise_cosines(across, mask, mean) == dict.fromkeys(both, pytest.approx(0))
    mirrored = torch.tensor([[ends, [1.0, 0.0], ends], [ends, [-2.0, 0.0], ends]])
    found = scale.pairwise_cosines(mirrored, mask, mean)
    assert found == {"pairwise_cosine": pytest.approx(-1), "pairwise_square": pytest.approx(1)}
    assert scale.pairwise_cosines(alike[:1], mask[:1], mean) == {}


def test_confidence_and_entropy_by_hand(teacher: Teacher) -> None:
    batch = PseudoBatch(texts=("rain rain snow", "soup"))
    logits = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]]).log()
    facts = Diagnostics(teacher).measure(feedback(teacher, batch, logits))
    mean = (0.45, 0.45, 0.1)
    assert facts["teacher_confidence"] == pytest.approx(0.8)
    assert facts["class_entropy"] == pytest.approx(-sum(p * math.log(p) for p in mean) / math.log(3))
    assert facts["distinct_words"] == pytest.approx(3 / 4)
    assert diagnostics.normalised_entropy(torch.tensor([1.0, 0.0])) == pytest.approx(0, abs=1e-6)


def test_the_bridge_loses_nothing_on_embeddings_of_tokens(teacher: Teacher) -> None:
    texts = ("the rain falls on the hills", "the cook serves hot soup")
    encoding = teacher.classifier.encode(texts)
    batch = PseudoBatch(embeddings=teacher.embed(encoding["input_ids"]), attention_mask=encoding["attention_mask"])
    look, before = Diagnostics(teacher), dict(teacher.queries)
    logits = teacher.label(batch)
    gap = look.token_bridge(feedback(teacher, batch, logits))
    assert gap["snap_agreement"] == 1 and abs(gap["snap_kl"]) < 1e-3
    assert teacher.queries["diagnostics"] == 2 and teacher.queries["train"] == before["train"] + 2
    noise = PseudoBatch(embeddings=torch.randn(40, 12, teacher.width) * 3, attention_mask=torch.ones(40, 12).long())
    assert look.token_bridge(feedback(teacher, noise))["snap_kl"] > 0.01
    assert look.token_bridge(feedback(teacher, PseudoBatch(texts=texts))) == {}


def test_prediction_gap_by_hand() -> None:
    first, second = torch.tensor([[0.5, 0.5], [0.9, 0.1]]).log(), torch.tensor([[0.5, 0.5], [0.1, 0.9]]).log()
    same, kl = prediction_gap(first, second)
    assert same == 0.5 and kl == pytest.approx((0.9 * math.log(9) - 0.1 * math.log(9)) / 2, rel=1e-4)


# alarms

def record(step: int, **facts: Any) -> dict[str, Any]:
    return {"step": step, "fresh": True, **facts}


BAD = {"class_entropy": 0.1, "teacher_confidence": 0.34, "pairwise_square": 0.9, "kd": 0.0001}
GOOD = {
    "class_entropy": 0.9, "classes": [3, 2, 3], "teacher_confidence": 0.8, "pairwise_square": 0.1, "kd": 0.1,
    "embedding_norm": 1.0, "embedding_deviation": 1.0, "embedding_shift": 0.2, "mask": 1.5,
}
PROMPTED = {
    "policy_entropy": 4.0, "prompt_distinct": 0.9, "policy_kl": 0.1, "dropped_short": 0.0, "dropped_duplicate": 0.0,
    "dropped_but_taken": 0.0, "dropped_unquoted": 0.0, "reward_base": 0.2,
}
LATE, EARLY = WINDOW - 1, FEW - 1


@pytest.mark.parametrize(
    ("facts", "name", "step"),
    [({"class_entropy": 0.1}, "class_collapse", LATE), ({"classes": [8, 0, 0]}, "class_collapse", LATE),
     ({"classes": [7, 1, 0]}, "class_collapse", LATE), ({"classes": [6, 1, 1]}, None, 0),
     ({"teacher_confidence": 0.34}, "no_confidence", LATE), ({"pairwise_square": 0.9}, "all_alike", LATE),
     ({"embedding_norm": 2.0}, "too_large", LATE), ({"embedding_deviation": 2.0}, "too_large", LATE),
     ({"embedding_deviation": 0.5}, "too_small", LATE), ({"embedding_shift": 1.5}, "off_centre", LATE),
     ({"input_loss_first": 1.2, "input_loss_last": 1.8}, "steps_too_large", LATE),
     ({"input_loss_first": 1.8, "input_loss_last": 1.2}, None, 0),
     ({"embedding_norm": 0.5}, "too_small", LATE), ({"kd": 0.0001}, "nothing_to_learn", LATE),
     (PROMPTED, None, 0), ({**PROMPTED, "policy_entropy": 0.3, "prompt_distinct": 0.1}, None, 0),  # as the model is
     ({**PROMPTED, "policy_kl": 4.0}, "prompter_runs_away", LATE),
     ({**PROMPTED, "reward_base": 0.0}, "reward_gone", LATE), ({**PROMPTED, "reward_base": -0.3}, "reward_gone", LATE),
     ({**PROMPTED, "class_entropy": 0.1}, "prompted_collapse", EARLY),
     ({**PROMPTED, "classes": [0, 8, 0]}, "prompted_collapse", EARLY),
     ({**PROMPTED, "dropped_short": 0.9}, "texts_too_short", EARLY),
     ({**PROMPTED, "dropped_duplicate": 0.99}, "texts_known", EARLY), ({"not_new": 0.6}, "texts_known", LATE),
     ({**PROMPTED, "dropped_unquoted": 0.99}, "texts_unquoted", EARLY),
     ({**PROMPTED, "dropped_but_taken": 0.4}, "texts_taken_anyway", LATE)],
)
def test_each_alarm_rises_once_and_names_a_remedy(facts: dict[str, Any], name: str | None, step: int) -> None:
    alarms = Alarms(classes=3)
    risen = [alarm for step in range(3 * WINDOW) for alarm in alarms.see(record(step, **{**GOOD, **facts}))]
    assert [(alarm.name, alarm.step) for alarm in risen] == ([(name, step)] if name else [])
    assert all("strategy." in str(alarm) for alarm in risen)


def test_every_rule_has_a_test() -> None:
    assert {rule.name for rule in RULES} == {
        "class_collapse", "no_confidence", "steps_too_large", "all_alike", "too_large", "too_small", "nothing_to_learn",
        "off_centre", "reward_gone", "texts_known", "texts_unquoted", "texts_taken_anyway", "mask_runs_away",
        "texts_off_balance", "texts_too_long", "texts_empty", "texts_repeat",  # tests/test_texts.py
        "prompter_collapse", "prompts_repeat", "prompter_runs_away", "prompted_collapse", "texts_too_short",
    }


def test_one_class_rings_however_unsure_the_teacher_is() -> None:
    alarms = Alarms(classes=2)  # every sample at 0.55 against 0.45: the mean prediction is nearly even
    facts = {"class_entropy": 0.99, "classes": [64, 0], "teacher_confidence": 0.55}
    risen = [alarm for step in range(WINDOW) for alarm in alarms.see(record(step, **facts))]
    assert [(alarm.name, alarm.fact, alarm.value) for alarm in risen] == [("class_collapse", "class_histogram", 0)]


def test_classes_that_take_turns_are_no_collapse() -> None:
    alarms = Alarms(classes=2)
    turns = [alarm for step in range(50) for alarm in alarms.see(record(step, classes=[8, 0] if step % 2 else [0, 8]))]
    assert turns == []


@pytest.mark.parametrize("fact", ["mask", "mask_loss_last"])
def test_a_mask_loss_that_grows_without_end_rings(fact: str) -> None:
    steady, growing = Alarms(classes=3), Alarms(classes=3)
    for step in range(50):
        assert steady.see(record(step, **{**GOOD, fact: 2.0 - step / 50})) == []
    risen = [a for step in range(50) for a in growing.see(record(step, **{**GOOD, fact: 1.1**step}))]
    assert [alarm.name for alarm in risen] == ["mask_runs_away"]


@pytest.mark.parametrize(
    ("fact", "name"), [("policy_entropy", "prompter_collapse"), ("prompt_distinct", "prompts_repeat")]
)
def test_a_prompter_is_measured_by_its_own_beginning(fact: str, name: str) -> None:
    # a run of ours on DBPedia-14, seed 2: 3.8 nats a token at first, 1.1 to 1.4 later; pairs 0.95 and 0.2 to 0.3
    alarms, kept = Alarms(14), Alarms(14)
    course = [1.0] * 10 + [1 - 0.1 * step for step in range(1, 8)] + [0.3] * 10
    risen = [a for step, value in enumerate(course) for a in alarms.see(record(step, **{**PROMPTED, fact: value}))]
    assert [alarm.name for alarm in risen] == [name] and 14 <= risen[0].step <= 20 and risen[0].value < 0.5
    half = [1.0] * 10 + [0.6] * 30  # freer choices are given up in every training
    assert [a for step, value in enumerate(half) for a in kept.see(record(step, **{**PROMPTED, fact: value}))] == []


def test_a_reward_that_is_never_high_is_no_alarm() -> None:
    for kind, rings in (("minus_student", False), ("teacher", False), ("kl", True)):
        makers = makers_of("prompt_rl", registry.options("prompt_rl", {"reward": kind}))
        alarms = Alarms(3, makers=makers)
        risen = [a for step in range(50) for a in alarms.see(record(step, **{**GOOD, **PROMPTED, "reward_base": -0.5}))]
        assert bool(risen) is rings


def test_an_early_alarm_does_not_ring_again_and_again() -> None:
    alarms = Alarms(classes=3)  # to and fro over the limit of the first few batches, always beyond the usual one
    values = [0.05, 0.05, 0.05, 0.05, 0.25, 0.05, 0.05, 0.2, 0.05, 0.05]
    risen = [a for step, value in enumerate(values) for a in alarms.see(record(step, distinct_2=value))]
    assert [alarm.step for alarm in risen] == [FEW - 1]


# remedies

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in registry.available()), ("as_dfd", {"snap": True}), ("as_dfd", {"guess_step": "polyak"}),
    ("embedding_guess", {"targets": "hard", "guess_steps": 0}), ("as_dfd", {"difficulty_weight": 0}),
    ("mixture", {"parts": [{"strategy": "prompt_rl"}, {"strategy": "as_dfd"}, {"strategy": "dafl"}]}),
]


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_remedies_name_only_what_the_strategy_has(name: str, options: dict[str, Any]) -> None:
    train = TrainConfig()
    for label, maker in makers_of(name, registry.options(name, options), train).items():
        for rule in RULES:
            remedy = rule.remedy(maker)
            keys = re.findall(r"strategy\.(\w+)", remedy)
            if label is not None:  # a part: its options have no 'strategy.'
                keys = re.findall(r"\b[a-z]+_[a-z_]+\b", remedy.partition("(strategy.parts)")[2]) + ["parts"]
                known = {option.name for option in registry.describe(maker.name)[1]} | {"parts", "random_tokens"}
                assert set(keys) <= known | {"replay_share", "replay_balance", "learning_rate", "max_length"}
                continue
            described = {option.name: option.default for option in registry.describe(name)[1]}
            assert set(keys) <= set(described), rule.name
            for key, value in re.findall(r"strategy\.(\w+)=([\w.]+)", remedy):
                parsed = registry.options(name, {**options, key: config_value(value)})
                assert getattr(parsed, key) != getattr(registry.options(name, options), key)  # it changes something
            for key, value in re.findall(r"train\.(\w+)=([\w.]+)", remedy):
                assert getattr(replace(train, **{key: config_value(value)}), key) is not None
            assert remedy and (" with '" not in remedy)


def config_value(text: str) -> Any:
    return {"true": True, "false": False}.get(text, float(text) if re.fullmatch(r"[\d.]+", text) else text)


def remedy(alarm: str, name: str, part: str | None = None, **options: Any) -> str:
    rule, = (rule for rule in RULES if rule.name == alarm)
    return rule.remedy(makers_of(name, registry.options(name, options), TrainConfig())[part])


def test_each_strategy_gets_remedies_of_its_own() -> None:
    assert "balance_weight" in remedy("class_collapse", "dafl") and "guess" not in remedy("class_collapse", "dafl")
    assert "targets" not in remedy("class_collapse", "modified_zskd")
    assert "guess_rate" in remedy("class_collapse", "modified_zskd")
    assert "generator_rate" in remedy("too_large", "modified_zskt")
    assert "guess" not in remedy("nothing_to_learn", "lm_free") and "guess" not in remedy("no_confidence", "lm_free")
    assert "targets=hard" in remedy("texts_off_balance", "as_dfd", snap=True)
    assert "opening" not in remedy("texts_off_balance", "as_dfd", snap=True)
    assert "data.prompts" in remedy("texts_off_balance", "prompt_manual")
    assert "data.prompts" not in remedy("texts_off_balance", "lm_free")
    assert "guess_rate" not in remedy("steps_too_large", "as_dfd", guess_step="polyak")
    assert "longest_step" in remedy("steps_too_large", "as_dfd", guess_step="polyak")
    assert "difficulty_weight" not in remedy("steps_too_large", "as_dfd", difficulty_weight=0)
    assert "another strategy" in remedy("all_alike", "real_text")


def test_parts_of_a_mixture_get_remedies_without_the_prefix() -> None:
    parts = [{"strategy": "keyword_prompt"}, {"strategy": "as_dfd"}]
    told = remedy("class_collapse", "mixture", "as_dfd", parts=parts)
    assert "part 'as_dfd'" in told and "targets=hard" in told and "strategy.targets" not in told
    assert "strategy=mixture" not in remedy("texts_off_balance", "mixture", "keyword_prompt", parts=parts)
    makers = makers_of("mixture", registry.options("mixture", {"parts": parts}))
    alarms, bad = Alarms(3, makers=makers), {"class_entropy": 0.1, "strategy": "as_dfd"}
    alarm, = (alarm for step in range(WINDOW) for alarm in alarms.see(record(step, **bad)))
    assert alarm.remedy == told


def test_a_part_that_goes_wrong_is_the_one_that_is_blamed() -> None:
    parts = [{"strategy": "random_tokens"}, {"strategy": "as_dfd"}]
    alarms = Alarms(3, makers=makers_of("mixture", registry.options("mixture", {"parts": parts})))
    facts = [{"strategy": "as_dfd", "class_entropy": 0.1}, {"strategy": "random_tokens", "class_entropy": 0.9}]
    heard = [a for step in range(4 * WINDOW) for a in alarms.see(record(step, **GOOD | facts[step % 2]))]
    assert [alarm.name for alarm in heard] == ["class_collapse"]
    assert "part 'as_dfd'" in heard[0].remedy and "random_tokens" not in heard[0].remedy


def test_what_is_no_option_of_a_part_is_not_told_as_one() -> None:
    parts = [{"strategy": "random_tokens"}, {"strategy": "as_dfd"}]
    told = remedy("texts_too_long", "mixture", "random_tokens", parts=parts)
    assert "data.max_length" in told and "data." not in told.partition("(strategy.parts)")[2]


def test_no_alarm_where_all_is_well_or_replayed() -> None:
    alarms = Alarms(classes=3)
    assert not [a for step in range(50) for a in alarms.see(record(step, **GOOD))]
    assert not [a for step in range(50, 100) for a in alarms.see({"step": step, "fresh": False, **BAD})]


def test_an_alarm_rises_again_after_all_was_well() -> None:
    alarms = Alarms(classes=3)
    facts = [GOOD] * WINDOW + [{**GOOD, "kd": 0.0}] * 2 * WINDOW + [GOOD] * WINDOW + [{**GOOD, "kd": 0.0}] * 2 * WINDOW
    assert len([a for step, fact in enumerate(facts) for a in alarms.see(record(step, **fact))]) == 2


def test_after_a_kill_nothing_rises_twice_and_the_window_is_whole() -> None:
    log = [record(step, **{**GOOD, "kd": 0.0}) for step in range(2 * WINDOW)]
    whole = Alarms(3)
    expected = [(a.step, a.name) for entry in log for a in whole.see(entry)]
    for cut in (5, WINDOW + 3):
        first, resumed = Alarms(3), Alarms(3, history=lambda: log)
        before = [(a.step, a.name) for entry in log[:cut] for a in first.see(entry)]
        after = [(a.step, a.name) for entry in log[cut:] for a in resumed.see(entry)]
        assert before + after == expected


# the token bridge

def test_decoding_to_pieces_leaves_out_special_entries(teacher: Teacher) -> None:
    special = torch.tensor([[teacher.tokenizer.mask_token_id, teacher.tokenizer.cls_token_id]])
    embeddings = token_table(teacher.classifier)[special]
    assert torch.equal(NearestTokens(teacher.classifier).ids(embeddings), special)
    found = NearestTokens(teacher.classifier, only_pieces=True).ids(embeddings).flatten().tolist()
    assert set(found) <= set(pieces(teacher.tokenizer)) and not set(found) & set(teacher.tokenizer.all_special_ids)


@pytest.mark.parametrize("piece", ["[unused7]", "<unused12>"])
def test_reserved_entries_are_no_pieces(piece: str) -> None:
    class Tokenizer:
        all_special_ids = [0]

        def get_vocab(self) -> dict[str, int]:
            return {"[PAD]": 0, piece: 1, "rain": 2}

    assert pieces(Tokenizer()) == [2]


def test_ends_are_left_out() -> None:
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    assert without_ends(mask).tolist() == [[0, 1, 1, 0], [0, 1, 0, 0]]


def test_snapped_strategies_make_texts_of_the_nearest_tokens(teacher: Teacher) -> None:
    options = {"start": "tokens", "guess_steps": 0}
    plain = build(teacher, "embedding_guess", **options).synthesize(6)
    snapped = build(teacher, "embedding_guess", snap=True, **options)
    assert isinstance(snapped, Snapped)
    batch = snapped.synthesize(6)
    nearest = NearestTokens(teacher.classifier, only_pieces=True)
    expected = nearest.texts(plain.embeddings, without_ends(plain.attention_mask))
    assert list(batch.texts or ()) == expected
    assert torch.equal(batch.targets, plain.targets)  # type: ignore[arg-type]
    assert 0 <= batch.info["snap_agreement"] <= 1 and batch.info["snap_kl"] >= 0


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_snapped_batch_brings_the_scale_of_its_embeddings_along(
    teacher: Teacher, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the names that diagnostics give it where the embeddings are handed on, and alarms watch."""
    strategy = build(teacher, "embedding_guess", snap=True)
    batch = embedded(teacher, scale)
    monkeypatch.setattr(strategy.inner, "synthesize", lambda n: batch)
    snapped, look = strategy.synthesize(40), Diagnostics(teacher)
    plain = look.measure(feedback(teacher, batch))
    names = {"embedding_norm", "embedding_deviation", "embedding_shift", "pairwise_cosine", "pairwise_square"}
    assert {name: snapped.info[name] for name in names} == {name: plain[name] for name in names}
    assert snapped.info["embedding_norm"] == pytest.approx(scale, rel=0.1)
    assert not names & set(look.measure(feedback(teacher, snapped)))  # the log has one of each
    alarms, logged = Alarms(3), {**snapped.info, **look.measure(feedback(teacher, snapped))}
    risen = [alarm.name for step in range(WINDOW) for alarm in alarms.see({"step": step, **logged})]
    assert ("too_large" in risen) is (scale > 1.5)


def test_the_nearest_tokens_are_the_same_under_autocast(teacher: Teacher) -> None:
    nearest = NearestTokens(teacher.classifier, only_pieces=True)
    embeddings = torch.randn(200, 20, teacher.width, generator=torch.Generator().manual_seed(0))
    expected = nearest.ids(embeddings)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nearest.ids(embeddings), expected)
        rounded = (embeddings @ nearest.table.T).argmax(dim=-1)  # what autocast makes of it
    assert not torch.equal(nearest.entries[rounded], expected)


def test_snapping_queries_are_no_training_queries(teacher: Teacher) -> None:
    build(teacher, "embedding_guess", snap=True, guess_steps=1).synthesize(4)
    assert teacher.queries["train"] == 4 and teacher.queries["diagnostics"] == 8


def test_mask_loss_of_a_snapped_batch_is_that_of_its_tokens(teacher: Teacher) -> None:
    strategy = build(teacher, "as_dfd", snap=True, mask_weight=1.0)
    student = strategy.inner.student.eval()
    assert shares_embeddings(student, teacher)
    losses = strategy.student_losses(student, strategy.synthesize(4))
    assert float(losses["mask"].detach()) > 0


def test_a_student_with_other_embeddings_takes_no_mask_loss(teacher: Teacher) -> None:
    options = students.STUDENTS.options("truncated", {"layers": 1, "init": "fresh"})
    student = students.build("truncated", options, StudentContext(teacher, "tokens"))
    student.embedding_block.requires_grad_(False)
    with torch.no_grad():
        next(student.embedding_block.parameters()).add_(1.0)
    assert not shares_embeddings(student, teacher)
    with pytest.raises(ConfigError, match="of its own(.|\n)*strategy.difficulty_weight=0 strategy.mask_weight=0"):
        build(teacher, "as_dfd", student, snap=True, mask_weight=1.0)
    build(teacher, "as_dfd", student, snap=True, difficulty_weight=0, mask_weight=0).synthesize(3)


@pytest.mark.parametrize(("name", "off"), [("as_dfd", "difficulty_weight"), ("cmi", "adversary_weight")])
def test_an_adversary_needs_a_block_that_stays_the_teachers(teacher: Teacher, name: str, off: str) -> None:
    options = students.STUDENTS.options("truncated", {"layers": 1})
    student = students.build("truncated", options, StudentContext(teacher, "tokens"))
    assert shares_embeddings(student, teacher)
    with pytest.raises(ConfigError, match=f"block is trained\n.*student.freeze_embeddings=true.*strategy.{off}=0"):
        build(teacher, name, student, snap=True)
    build(teacher, name, student, snap=True, **{off: 0}).synthesize(3)
    student.embedding_block.requires_grad_(False)
    build(teacher, name, student, snap=True).synthesize(3)


# a run, looked into

@pytest.fixture(scope="module")
def finished(toy_teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("runs")
    sizes = ["train.steps=30", "train.batch_size=8", "train.evaluate_every=10", "evaluate.latency_rounds=0"]
    settings = ["data=toy", f"teacher={toy_teacher}", "strategy=as_dfd", "student.layers=1", f"runs={runs}", *sizes]
    # far too high a rate leaves the embeddings' scale
    config = pipeline.load_config([*settings, "strategy.guess_rate=3", "train.replay_share=0"])
    heard: list[str] = []
    pipeline.run(config, pipeline.Listeners(alarm=heard.append))
    assert heard
    return runs / config.run_name()


def test_a_run_can_stop_at_an_alarm_and_go_on_all_the_same(toy_teacher: Path, tmp_path: Path) -> None:
    sizes = ["train.steps=24", "train.batch_size=4", "train.checkpoint_every=8", "evaluate.latency_rounds=0"]
    settings = ["data=toy", f"teacher={toy_teacher}", "strategy=as_dfd", "student.layers=1", f"runs={tmp_path}", *sizes]
    given = [*settings, "strategy.guess_rate=3", "run=it", "train.heldout=8", "train.replay_share=0"]

    def stopped() -> str:
        with pytest.raises(Alarmed) as caught:
            pipeline.run(pipeline.load_config([*given, "train.on_alarm=stop"]))
        return str(caught.value)

    told = stopped()
    gc.collect()  # the traceback holds the folder's lock
    assert stopped() == told  # the same command stops again
    gc.collect()
    assert "too_large, step 19: the embeddings left the scale" in told and "a lower strategy.guess_rate" in told
    assert "kept: the checkpoint of step 16" in told and "train.on_alarm=warn" in told
    partial = tmp_path / "it.partial"
    assert (partial / "checkpoint-000000016").is_dir() and not (tmp_path / "it").exists()
    assert "too_large" in (partial / "alarms.jsonl").read_text()
    result = pipeline.run(pipeline.load_config(given))
    assert result["steps"] == 24 and "too_large" in result["alarms"]
    straight = pipeline.run(pipeline.load_config([*given, "run=straight"]))
    weights = [(tmp_path / name / "student" / "model.safetensors").read_bytes() for name in ("it", "straight")]
    assert weights[0] == weights[1] and straight["alarms"] == result["alarms"]


def test_an_alarm_that_says_all_is_learnt_stops_nothing(tmp_path: Path) -> None:
    config = pipeline.load_config(["data=toy", "teacher=t", "strategy=as_dfd", "train.on_alarm=stop"])
    alarms, folder = Alarms(3), RunFolder(tmp_path / "run")
    risen = [alarm for step in range(WINDOW) for alarm in alarms.see(record(step, **{**GOOD, "kd": 0.0}))]
    assert [alarm.name for alarm in risen] == ["nothing_to_learn"]
    pipeline.stop_at(risen, config, folder)
    with pytest.raises(Alarmed, match="no checkpoint yet"):
        pipeline.stop_at([replace(risen[0], stops=True)], config, folder)


def shown(folder: Path) -> str:
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(inspect_run(folder))
    return console.export_text()


def test_a_run_logs_diagnostics_and_alarms(finished: Path) -> None:
    metrics = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    always = {"teacher_confidence", "class_entropy", "embedding_norm", "embedding_deviation", "embedding_shift",
              "pairwise_cosine", "kl_first", "kl_last", "agreement", "classes"}
    assert all(always <= set(entry) for entry in metrics)
    assert [entry["step"] for entry in metrics if "snap_kl" in entry] == [0, 10, 20, 29]
    alarms = [json.loads(line) for line in (finished / "alarms.jsonl").read_text().splitlines()]
    assert "too_large" in {alarm["name"] for alarm in alarms}
    result = json.loads((finished / "result.json").read_text())
    assert result["alarms"] == [alarm["name"] for alarm in alarms] and result["queries"]["diagnostics"] == 32


def test_inspect_shows_alarms_facts_and_samples_early_and_late(finished: Path) -> None:
    text = shown(finished)
    assert "alarm, step 19: the embeddings left the scale" in text and "lower strategy.guess_rate" in text
    assert "pairwise_cosine" in text and "kl_last" in text
    samples = [json.loads(line) for line in (finished / "samples.jsonl").read_text().splitlines()]
    for name in {sample["teacher_class"] for sample in samples}:
        assert name in text
    partial = finished.with_name(finished.name + ".partial")
    finished.rename(partial)
    try:
        assert "pairwise_cosine" in shown(finished)
    finally:
        partial.rename(finished)


def test_inspect_shows_the_classes_that_the_teacher_saw(finished: Path) -> None:
    counts = [json.loads(line)["classes"] for line in (finished / "metrics.jsonl").read_text().splitlines()]
    lines = [line.split() for line in shown(finished).partition("the teacher's classes")[2].splitlines()]
    for index, label in enumerate(("weather", "food", "sport")):
        seen = [sum(row[index] for row in part) / 8 / len(part) for part in (counts[:5], counts[-5:], counts)]
        assert [label, *(f"{share:.1%}" for share in seen)] in lines


def test_classes_are_counted_over_fresh_batches_and_numbered_without_names() -> None:
    log = [record(0, classes=[3, 1]), {"step": 1, "fresh": False, "classes": [0, 4]}, record(2, classes=[1, 3])]
    columns = [list(column.cells) for column in classes_table(log, []).columns]
    assert columns == [["0", "1"], ["50.0%", "50.0%"], ["50.0%", "50.0%"], ["50.0%", "50.0%"]]
    assert list(classes_table(log[:1], ["no", "[yes]"]).columns[0].cells) == ["no", r"\[yes]"]
    assert classes_table([{"step": 0}], ["no", "yes"]).row_count == 0


def test_facts_that_some_batches_lack_are_shown_of_the_others() -> None:
    log = [record(step, **({} if step % 2 else {"kl_last": float(step)})) for step in range(20)]
    assert early_and_late(log)["kl_last"] == (4.0, 14.0) and "kl_last" not in early_and_late(log[1:2])


def test_early_and_late_are_means_of_fresh_batches() -> None:
    log = [record(step, kd=float(step)) for step in range(20)] + [{"step": 20, "fresh": False, "kd": 1e9}]
    assert early_and_late(log)["kd"] == (2.0, 17.0)


def test_nothing_to_inspect_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to inspect"):
        inspect_run(tmp_path / "nowhere")
