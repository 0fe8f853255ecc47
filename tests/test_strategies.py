"""The mechanisms of the strategies, on real small models."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Callable, Mapping

import pytest
import torch

from dfkd import pipeline, seeding, teaching
from dfkd.batch import PseudoBatch
from dfkd.config import DataConfig, available
from dfkd.distill import working_folder
from dfkd.errors import ConfigError, DataFreeError
from dfkd.losses import entropy, prediction_kl, soft_cross_entropies
from dfkd.models import device
from dfkd.models.language.base import Sampling
from dfkd.models.students import registry as students
from dfkd.models.students.base import StudentContext
from dfkd.models.teacher import Teacher, reorder_outputs
from dfkd.synthesis import _guess, registry
from dfkd.synthesis._prompt_policy import PolicyOptions
from dfkd.synthesis._prompt_reward import RewardOptions
from dfkd.synthesis._reinforce import LearnerOptions
from dfkd.synthesis._words import whole_words
from dfkd.synthesis.base import Context


@dataclass
class Bench:
    """A toy teacher with a one-layer student, and strategies built on them."""

    teacher: Teacher
    data: DataConfig
    language_model: Path
    pool: Path
    usual: dict[tuple[str, str], Any] = field(default_factory=dict)
    texts: tuple[str, ...] = ("the rain falls", "the soup is hot", "they won the match")

    def student(self, injects: str = "embeddings") -> Any:
        torch.manual_seed(0)
        options = students.STUDENTS.options("truncated", {"layers": 1})
        return students.build("truncated", options, StudentContext(self.teacher, injects))

    def required(self, name: str) -> dict[str, Any]:
        """Options without which a strategy cannot be built offline: those with a language model get a tiny one."""
        given = {"model": str(self.language_model), "folder": str(self.pool)}
        needed = {option.name: given[option.name] for option in registry.describe(name)[1] if option.name in given}
        return {**QUICK.get(name, {}), **needed}

    @staticmethod
    def corpus(file: str, column: str, split: str, hub_config: str | None, limit: int | None) -> list[str]:
        return [f"Text {n} tells of {n} things. Then it ends, as {n} others do. Well, so." for n in range(30)][:limit]

    def build(self, name: str, student: Any = None, pair: bool = False, **options: Any) -> Any:
        typed = registry.options(name, {**self.required(name), **options})
        student = student or self.student(registry.student_reads(typed))
        generator = seeding.generator(0, "synthesis")
        context = Context(
            self.teacher, student, generator, pair, self.data.prompts, lambda: self.texts, corpus=self.corpus
        )
        return registry.build(name, typed, context)


@pytest.fixture(scope="module")
def bench(toy_teacher: Path, toy_data: DataConfig, toy_language_model: Path, toy_pool: Path) -> Bench:
    config = pipeline.load_config(["data=toy", f"teacher={toy_teacher}", "strategy=random_tokens"])
    return Bench(teaching.load_teacher(config), toy_data, toy_language_model, toy_pool)


def content(batch: PseudoBatch) -> Any:
    return batch.texts if batch.texts is not None else batch.embeddings.numpy().tobytes()  # type: ignore[union-attr]


# every strategy

def test_a_strategy_needs_one_module_and_one_yaml() -> None:
    assert set(registry.available()) <= set(available("experiments/strategies"))


@pytest.mark.parametrize("name", registry.available())
def test_same_seed_same_bytes(bench: Bench, name: str) -> None:
    first, second = (bench.build(name).synthesize(6) for _ in range(2))
    assert content(first) == content(second) and len(first) == 6


@pytest.mark.parametrize("name", registry.available())
def test_state_dict_continues_the_stream(bench: Bench, name: str) -> None:
    student = bench.student(registry.student_reads(registry.options(name, {})))
    strategy = bench.build(name, student)
    strategy.synthesize(5)
    state = strategy.state_dict()
    expected = content(strategy.synthesize(4))
    fresh = bench.build(name, student)
    fresh.load_state_dict(state)
    assert content(fresh.synthesize(4)) == expected


@pytest.mark.parametrize("name", [n for n in registry.available() if n != "real_text"])
def test_only_real_text_may_ask_for_texts(bench: Bench, name: str, tmp_path: Path) -> None:
    assert registry.options(name, {}).uses_real_text is False


def test_a_strategy_that_asks_for_real_text_is_refused(
    toy_teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = registry.STRATEGIES.module("random_tokens")
    honest = module.build
    monkeypatch.setattr(module, "build", lambda options, context: (context.real_text(), honest(options, context))[1])
    overrides = ["data=toy", f"teacher={toy_teacher}", "strategy=random_tokens", f"runs={tmp_path}", "student.layers=1"]
    with pytest.raises(DataFreeError, match="the train split is not for 'random_tokens'"):
        pipeline.run(pipeline.load_config(overrides))
    assert '"refused": true' in next(tmp_path.rglob("access.jsonl")).read_text()


OPTIONS: dict[str, dict[str, Any]] = {
    "random_tokens": {"source": "pieces", "vocabulary": 5, "min_length": 30, "max_length": 3},
    "real_text": {},
    "embedding_guess": {
        "start": "tokens", "align": "layer_norm", "targets": "hard", "concentration": 20.0, "guess_steps": 2,
        "guess_rate": 1.0, "optimise_special": True, "min_length": 22, "max_length": 17, "length_per": "sample",
        "snap": True, "guess_share": 0.3,
    },
}
GUESSING = dict(OPTIONS["embedding_guess"])
OPTIONS["embedding_guess"] |= {"guess_step": "polyak", "longest_step": 0.01}
OPTIONS["as_dfd"] = {
    **OPTIONS["embedding_guess"], "difficulty_weight": 5.0, "difficulty": "mask", "mask": "one", "mask_share": 0.6,
    "mask_with": "zero",
}
OPTIONS["fast_guess"] = {**OPTIONS["as_dfd"], "guess_steps": 1}
OPTIONS["modified_zskd"] = {
    **{name: value for name, value in GUESSING.items() if name not in ("targets", "concentration")},
    "betas": [5.0], "similarity": "affine", "floor": 0.5, "target_temperature": 20.0,
}
OPTIONS["cmi"] = {
    **GUESSING, "input_weight": 0.1, "moment_weight": 10.0, "moment_samples": 20,
    "adversary_weight": 0.0, "contrast_weight": 5.0, "contrast_temperature": 1.0, "represent": "mean",
    "view_noise": 1.0, "view_drop": 0.5, "projection_width": 8, "projection_rate": 0.1,
}
OPTIONS["modified_zskt"] = {
    "latent_width": 8, "noise_width": 0, "hidden_width": 32, "layers": 0, "normalise": "layer", "generator_rate": 0.1,
    "generator_clip": 1e-6, "generator_steps": 3, "moment_weight": 5.0, "diversity_weight": 0.0, "min_length": 22,
    "max_length": 17,
}
OPTIONS["dfad"] = {**OPTIONS["modified_zskt"], "growth": "log"}
OPTIONS["dafl"] = {
    **OPTIONS["modified_zskt"], "one_hot_weight": 0.0, "activation_weight": 9.0, "balance_weight": 0.0,
}

OPTIONS["lm_free"] = {
    "temperature": 0.1, "top_k": 1, "top_p": 0.05, "repetition_penalty": 9.0, "max_new_tokens": 7,
}
# the other strategies hand these on as lm_free does: test_how_texts_are_drawn_reaches_the_engine
OPTIONS["prompt_manual"] = {"with_prompt": False}
OPTIONS["lm_prompt"] = {
    **OPTIONS["prompt_manual"], "prompt_tokens": 3, "prompt_temperature": 0.2, "prompt_top_p": 0.05,
}
OPTIONS["keyword_prompt"] = {
    "with_prompt": False, "templates": ["{keywords} is"], "most": 1, "mix": 1.0, "keywords": 2,
    "inversions": 0, "invert_steps": 2, "invert_rate": 0.1, "contexts": 0, "common": 60,
}
OPTIONS["corpus"] = {"cut": "lines", "max_words": 5, "limit": 4}
OPTIONS["templated"] = {
    "templates": ["{label}"], "label_words": "name", "vocabulary": 5, "max_words": 3,
}
OPTIONS["mixture"] = {"parts": [{"strategy": "random_tokens", "options": {"max_length": 3}}]}
OPTIONS["pool"] = {"limit": 9}
OPTIONS["prompt_rl"] = {**OPTIONS["prompt_manual"], "prompt_tokens": 3, "prompt_top_p": 0.05}
OPTIONS["class_prompt"] = {"template": "{label} , {domain} : "}
QUICK: dict[str, dict[str, Any]] = {
    "keyword_prompt": {"inversions": 1, "candidates": 60, "keywords": 20, "contexts": 1}, "class_prompt": {"tries": 1},
}


WRITING = ("class_prompt", "keyword_prompt", "lm_free", "lm_prompt", "prompt_manual", "prompt_rl")


@pytest.mark.parametrize("name", WRITING)
def test_how_texts_are_drawn_reaches_the_engine(bench: Bench, name: str) -> None:
    strategy = bench.build(name, **{**OPTIONS["lm_free"], "min_new_tokens": 3})
    source = strategy.writer.source
    silent = (source.tokenizer.unk_token_id,)  # special, and ends nothing
    assert source.sampling == Sampling(0.1, 1, 0.05, 9.0, 3, 7, banned=silent) and not set(silent) & source.engine.ends


@pytest.mark.parametrize(("name", "option"), [  # a language model's texts take their time
    pytest.param(name, option, marks=[pytest.mark.slow] if name in WRITING else [])
    for name in OPTIONS for option in OPTIONS[name]
])
def test_every_option_acts_on_the_samples(bench: Bench, name: str, option: str) -> None:
    # what is masked, and how, acts on the samples through an adversary on L_MASK
    on_mask = {"difficulty": "mask", "mask_weight": 1.0}
    common: dict[str, Any] = on_mask if option in ("mask", "mask_share", "mask_with") else {}
    common |= {"mask_weight": 1.0} if option == "difficulty" else {}
    common |= {"guess_step": "polyak"} if option == "longest_step" else {}
    changed = bench.build(name, **{**common, option: OPTIONS[name][option]}).synthesize(6)
    if (name, str(common)) not in bench.usual:
        bench.usual[name, str(common)] = content(bench.build(name, **common).synthesize(6))
    assert content(changed) != bench.usual[name, str(common)]


@pytest.mark.parametrize("name", registry.available())
def test_the_table_of_options_is_complete(name: str) -> None:
    elsewhere = {"mask_weight"}  # acts on the student's loss: test_mask_weight_scales_the_students_loss
    elsewhere |= {"bank_size", "meta_rate", "max_shift"}  # from the second batch on: tests/test_inversion.py
    elsewhere |= {"rate_falls"}  # from the ninth batch on: test_a_rate_that_steps_over_its_aim_is_halved
    elsewhere |= {"student_steps"}  # on later batches: tests/test_generators.py
    # of language models, on texts that end or are dropped: tests/test_language_strategies.py
    elsewhere |= {"model", "engine", "opening", "min_new_tokens", "min_words", "unique", "tries", "generation_batch"}
    elsewhere |= {"model_precision"}  # tests/test_language_strategies.py
    elsewhere |= {"label", "smoothing"}
    if name in WRITING and name != "lm_free":
        elsewhere |= set(OPTIONS["lm_free"])
    elsewhere |= {"file", "column", "split", "hub_config", "balance", "candidates"}  # tests/test_texts.py
    elsewhere |= {"folder"}  # tests/test_pool_runs.py
    if name == "prompt_rl":  # from the first reward on: tests/test_prompter.py
        elsewhere |= {f.name for part in (PolicyOptions, LearnerOptions, RewardOptions) for f in fields(part)}
        elsewhere -= {"prompt_top_p"}
    described = {option.name for option in registry.describe(name)[1]}
    assert described - elsewhere == set(OPTIONS[name])


@pytest.mark.parametrize("plugins", [registry.STRATEGIES, students.STUDENTS], ids=lambda plugins: plugins.kind)
def test_every_option_says_what_it_does(plugins: Any) -> None:
    for name in plugins.available():
        assert all(option.help for option in plugins.describe(name)[1]), name
    described = {option.name: option.help for option in registry.describe("as_dfd")[1]}
    assert described["optimise_special"] == "move the embeddings of [CLS] and [SEP] as well."
    assert described["mask"] == "share: mask mask_share of the inner positions; one: exactly one a sample."


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [("as_dfd", {"difficulty_wait": 1}, "difficulty_weight"), ("as_dfd", {"mask_share": 0}, "mask_share"),
     ("as_dfd", {"start": "noise"}, "gaussian"), ("embedding_guess", {"min_length": 2}, "CLS"),
     ("random_tokens", {"min_length": 9, "max_length": 3}, "9 or more"), ("as_dfdd", {}, "did you mean 'as_dfd'"),
     ("as_dfd", {"difficulty": "mask"}, "no opponent(.|\n)*add strategy.mask_weight=1"),
     ("fast_guess", {"difficulty": "mask"}, "no opponent(.|\n)*strategy.difficulty=kl")],
)
def test_bad_options_are_refused(name: str, options: Mapping[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        registry.options(name, options)


def test_l_mask_without_an_adversary_and_an_adversary_without_l_mask_are_no_trap() -> None:
    for values in ({"difficulty": "mask", "difficulty_weight": 0}, {"difficulty": "mask", "mask_weight": 0.1}):
        assert registry.options("as_dfd", values).difficulty == "mask"


# random_tokens, real_text

def test_random_words_are_uniform_over_words_and_lengths(bench: Bench) -> None:
    batch = bench.build("random_tokens", max_length=10, vocabulary=20).synthesize(3000)
    words = whole_words(bench.teacher.tokenizer, 20)
    counts = collections.Counter(word for text in batch.texts or () for word in str(text).split())
    lengths = collections.Counter(len(str(text).split()) for text in batch.texts or ())
    assert set(counts) == set(words) and set(lengths) == set(range(1, 11))
    mean = sum(counts.values()) / 20
    assert all(abs(count - mean) < 5 * mean**0.5 for count in counts.values())
    assert all(abs(count - 300) < 5 * 300**0.5 for count in lengths.values())


def test_random_words_are_words(bench: Bench) -> None:
    words = whole_words(bench.teacher.tokenizer, 10_000)
    assert "people" in words and not any("#" in word or "[" in word for word in words)


def test_pairs_are_made_for_tasks_with_two_texts(bench: Bench) -> None:
    assert all(len(text) == 2 for text in bench.build("random_tokens", pair=True).synthesize(3).texts or ())


def test_real_text_shows_each_text_once_an_epoch(bench: Bench) -> None:
    strategy = bench.build("real_text")
    for _ in range(4):
        assert sorted(strategy.synthesize(3).texts) == sorted(bench.texts)


# guessing

@pytest.mark.parametrize("name", ["embedding_guess", "as_dfd"])
def test_input_loss_falls(bench: Bench, name: str) -> None:
    info = bench.build(name, guess_steps=20, targets="hard").synthesize(16).info
    assert info["input_loss_last"] < 0.5 * info["input_loss_first"]


def test_the_teacher_sees_the_class_asked_for_and_swapping_its_classes_swaps_them(bench: Bench) -> None:
    def guessed() -> PseudoBatch:
        return bench.build("embedding_guess", targets="hard", guess_steps=30).synthesize(30)

    before = guessed()
    assert before.targets is not None
    assert (bench.teacher.label(before).argmax(1) == before.targets.argmax(1)).float().mean() > 0.9
    reorder_outputs(bench.teacher.classifier.model, [1, 0, 2])
    seen = bench.teacher.label(before).argmax(1)
    swapped = torch.tensor([1, 0, 2])[before.targets.argmax(1)]
    assert (seen == swapped).float().mean() > 0.9
    after = guessed()
    assert after.targets is not None
    assert (bench.teacher.label(after).argmax(1) == after.targets.argmax(1)).float().mean() > 0.9


def test_hard_targets_are_even_and_soft_ones_are_distributions(bench: Bench) -> None:
    guesser = bench.build("embedding_guess", targets="hard").guesser
    assert guesser.targets(30).sum(0).tolist() == [10, 10, 10]
    soft = bench.build("embedding_guess").guesser.targets(500)
    assert torch.allclose(soft.sum(1), torch.ones(500)) and 0.5 < float(soft.max(1).values.mean()) < 0.75
    nearly_hard = bench.build("embedding_guess", concentration=0.001).guesser.targets(500)
    assert torch.allclose(nearly_hard.sum(1), torch.ones(500)) and float(nearly_hard.max(1).values.mean()) > 0.98


def test_gaussian_start_has_the_tables_moments(bench: Bench) -> None:
    guesser = bench.build("embedding_guess", min_length=24, max_length=24).guesser
    start = guesser.start(200)
    inner = start.embeddings[start.movable]
    assert torch.allclose(inner.mean(0), guesser.moments.mean, atol=0.1)
    assert torch.allclose(inner.std(0), guesser.moments.deviation, rtol=0.1)


def test_layer_norm_moments_are_beta_and_gamma(bench: Bench) -> None:
    norm: Any = bench.teacher.classifier.embedding_block.LayerNorm
    moments = _guess.layer_norm_moments(bench.teacher)
    assert torch.equal(moments.mean, norm.bias) and torch.equal(moments.deviation, norm.weight.abs())


@pytest.mark.parametrize("special", [False, True])
def test_special_tokens_move_only_when_asked(bench: Bench, special: bool) -> None:
    strategy = bench.build("embedding_guess", optimise_special=special, length_per="sample")
    batch, start = strategy.synthesize(8), bench.build("embedding_guess", length_per="sample").guesser.start(8)
    assert batch.embeddings is not None and batch.attention_mask is not None
    last = batch.attention_mask.sum(1) - 1
    rows = torch.arange(8)
    assert torch.equal(batch.embeddings[:, 0], start.embeddings[:, 0]) is not special
    assert torch.equal(batch.embeddings[rows, last], start.embeddings[rows, last]) is not special
    padding = batch.attention_mask == 0
    assert padding.any() and torch.equal(batch.embeddings[padding], start.embeddings[padding])


def test_lengths_stay_within_bounds(bench: Bench) -> None:
    strategy = bench.build("embedding_guess", min_length=5, max_length=90, length_per="sample")
    lengths = strategy.synthesize(200).attention_mask.sum(1)
    assert (int(lengths.min()), int(lengths.max())) == (5, bench.teacher.max_length)


def test_polyaks_steps_halve_the_way_to_a_quadratics_minimum(bench: Bench) -> None:
    guesser = bench.build("embedding_guess", guess_steps=3, longest_step=1.0).guesser
    start = guesser.start(5)
    offset = 0.2 * guesser.sigma * torch.randn(start.embeddings.shape, generator=torch.Generator().manual_seed(1))
    goal = start.embeddings + offset * start.movable.unsqueeze(-1)
    least = torch.full((5,), 7.0)
    moved, trace = guesser.approach(start, lambda e: (e - goal).square().sum(dim=(1, 2)) / 2 + least, least)
    assert torch.allclose(goal - moved, (goal - start.embeddings) / 8, atol=1e-5)
    assert len(trace) == 3 and trace[0] > trace[1] > trace[2] > 35


def test_polyaks_steps_are_bounded_where_gradients_are_tiny(bench: Bench) -> None:
    guesser = bench.build("embedding_guess", guess_steps=2, longest_step=0.2).guesser
    start = guesser.start(4)
    moved, _ = guesser.approach(start, lambda e: 1e-6 * e.sum(dim=(1, 2)) + 9, torch.zeros(4))
    shift = (moved - start.embeddings)[start.movable]
    assert torch.allclose(shift, torch.tensor(-2 * 0.2 * guesser.sigma), rtol=1e-3)
    assert torch.equal(moved[~start.movable], start.embeddings[~start.movable])


def test_polyaks_steps_go_aside_towards_what_is_harder(bench: Bench) -> None:
    guesser = bench.build("embedding_guess", guess_steps=2, longest_step=1.0).guesser
    start, noise = guesser.start(5), torch.Generator().manual_seed(1)
    offset, ahead = (torch.randn(start.embeddings.shape, generator=noise) * start.movable.unsqueeze(-1) for _ in "ab")
    offset = 0.2 * guesser.sigma * offset

    def losses(e: torch.Tensor) -> torch.Tensor:
        return (e - start.embeddings - offset).square().sum(dim=(1, 2)) / 2

    def harder(e: torch.Tensor) -> torch.Tensor:
        return (e * ahead).sum()

    plain, hard = (
        guesser.approach(start, losses, torch.zeros(5), against, 0.5) for against in (None, harder)
    )
    step = offset.square().sum(dim=(1, 2)) / 4  # the first step's length, squared: half of the way
    aside = float((0.25 * step).sum()) / 2  # the loss of a step at a right angle
    assert hard[1][1] == pytest.approx(plain[1][1] + aside, rel=1e-4)
    assert float(harder(hard[0])) > float(harder(plain[0])) + 1


def test_the_adversary_of_polyaks_steps_raises_the_difficulty_at_no_cost_to_the_targets(bench: Bench) -> None:
    student = bench.student()

    def seen(weight: float) -> dict[str, float]:
        options: dict[str, Any] = {"difficulty_weight": weight, "guess_steps": 12, "guess_step": "polyak"}
        batch = bench.build("as_dfd", student, **options).synthesize(64)
        with torch.no_grad():
            teacher, learner = (
                model.from_embeddings(batch.embeddings, batch.attention_mask).logits
                for model in (bench.teacher, student)
            )
        missed = float((soft_cross_entropies(teacher, batch.targets) - entropy(batch.targets)).mean())
        return {"missed": missed, "kl": float(prediction_kl(teacher, learner))}

    none, some, more = (seen(weight) for weight in (0.0, 0.5, 2.0))
    assert none["kl"] < some["kl"] < more["kl"]
    assert max(some["missed"], more["missed"]) < 1.1 * none["missed"]


@pytest.mark.parametrize("name", ["embedding_guess", "as_dfd", "fast_guess"])
def test_a_rate_that_steps_over_its_aim_is_halved(bench: Bench, name: str) -> None:
    """Targets between the classes are missed by steps of a whole deviation, and approached by small ones."""
    for rate, falls, expected in ((1.0, True, 0.5), (1.0, False, 1.0), (0.02, True, 0.02)):
        strategy = bench.build(name, guess_rate=rate, rate_falls=falls, guess_steps=3, concentration=50.0)
        for _ in range(_guess.LOOKED_AT):
            strategy.synthesize(16)
        assert strategy.guesser.rate.now == expected
        again = bench.build(name, guess_rate=rate, rate_falls=falls, guess_steps=3, concentration=50.0)
        again.load_state_dict(strategy.state_dict())
        assert content(again.synthesize(4)) == content(strategy.synthesize(4))
        for _ in range(100):
            strategy.guesser.rate.observe(1.0, 2.0)
        assert strategy.guesser.rate.now == (rate / 32 if falls else rate)
        older = {key: value for key, value in strategy.state_dict().items() if key != "rate"}
        again.load_state_dict(older)  # of a checkpoint from before rates fell


def test_polyaks_steps_hit_soft_targets(bench: Bench) -> None:
    def missed(**options: Any) -> float:
        batch = bench.build("embedding_guess", **options).synthesize(64)
        logits = bench.teacher.from_embeddings(batch.embeddings, batch.attention_mask).logits
        return float((soft_cross_entropies(logits, batch.targets) - entropy(batch.targets)).mean())

    none, few, many = (missed(guess_step="polyak", guess_steps=steps) for steps in (0, 5, 20))
    assert many < few < none / 2


# AS-DFD's adversary

def difficulty(bench: Bench, student: Any, weight: float, seed: int) -> float:
    """The student's L_MASK on guessed samples, measured with masks of its own."""
    on_mask = {"difficulty": "mask", "difficulty_weight": weight, "mask_weight": 1.0}
    strategy = bench.build("as_dfd", student, **on_mask, guess_steps=15, guess_rate=0.02)
    batch = strategy.synthesize(32)
    strategy.generator.manual_seed(seed)
    with torch.no_grad():
        student.eval()
        return float(strategy.student_losses(student, batch)["mask"])


def test_the_adversary_raises_the_students_mask_loss_and_lambda_zero_does_not(bench: Bench) -> None:
    student = bench.student()
    still = bench.build("as_dfd", student, difficulty_weight=0.0, mask_weight=1.0, guess_steps=0)
    batch = still.synthesize(32)
    still.generator.manual_seed(9)
    with torch.no_grad():
        student.eval()
        start = float(still.student_losses(student, batch)["mask"])
    without, with_adversary = difficulty(bench, student, 0.0, 9), difficulty(bench, student, 5.0, 9)
    # small steps: larger ones leave the embeddings' own scale, and L_MASK rises with the scale alone
    assert without < 1.1 * start
    assert with_adversary > 1.05 * without


def test_the_kl_adversary_raises_the_divergence_of_student_and_teacher(bench: Bench) -> None:
    student = bench.student().eval()

    def divergence(weight: float) -> float:
        options = {"difficulty": "kl", "difficulty_weight": weight, "guess_steps": 15, "guess_rate": 0.02}
        batch = bench.build("as_dfd", student, **options).synthesize(32)
        with torch.no_grad():
            logits = student.from_embeddings(batch.embeddings, batch.attention_mask).logits
        return float(prediction_kl(bench.teacher.label(batch), logits))

    assert divergence(2.0) > 1.2 * divergence(0.0)


@pytest.mark.parametrize("guess_step", ["adam", "polyak"])
@pytest.mark.parametrize("name", ["as_dfd", "fast_guess"])
def test_what_is_not_computed_is_not_logged(bench: Bench, name: str, guess_step: str) -> None:
    """In an ablation of lambda, a KL or L_MASK of 0 would read as a measurement."""
    def logged(**options: Any) -> set[str]:
        info = bench.build(name, guess_step=guess_step, mask_weight=1.0, **options).synthesize(4).info
        return {fact for fact in info if fact.startswith(("kl", "mask"))}

    assert logged(difficulty_weight=0) == logged(difficulty_weight=0, difficulty="mask") == set()
    assert logged(guess_steps=1) == logged() == {"kl_first", "kl_last"}
    assert logged(difficulty="mask") == {"mask_loss_first", "mask_loss_last"}


@pytest.mark.parametrize("special", [False, True])
def test_a_share_of_the_positions_moves_and_the_others_stay(bench: Bench, special: bool) -> None:
    options = {"guess_share": 0.25, "min_length": 22, "max_length": 22, "optimise_special": special}
    strategy = bench.build("embedding_guess", **options)
    start, batch = bench.build("embedding_guess", **options).guesser.start(10), strategy.synthesize(10)
    moved = (batch.embeddings != start.embeddings).any(dim=2)
    assert torch.equal(moved, start.movable)
    assert moved[:, 1:-1].sum(1).tolist() == [5] * 10 and bool(moved[:, [0, -1]].all()) is special
    assert len({tuple(row) for row in moved.tolist()}) > 5


@pytest.mark.parametrize("difficulty", ["mask", "kl"])
def test_stage_one_leaves_no_gradient_and_no_trace_on_the_models(bench: Bench, difficulty: str) -> None:
    student = bench.student()
    strategy = bench.build("as_dfd", student, difficulty=difficulty, difficulty_weight=1.0, mask_weight=1.0)
    models = {"teacher": bench.teacher.classifier, "student": student, "map": strategy.supervision}
    before = {name: {k: v.clone() for k, v in m.state_dict().items()} for name, m in models.items()}
    training = student.training
    strategy.synthesize(8)
    assert student.training is training
    for name, model in models.items():
        assert all(parameter.grad is None for parameter in model.parameters()), name
        assert all(torch.equal(value, before[name][key]) for key, value in model.state_dict().items()), name


def test_mask_loss_trains_student_and_map(bench: Bench) -> None:
    student = bench.student()
    strategy = bench.build("as_dfd", student, mask_weight=1.0)
    losses = strategy.student_losses(student, strategy.synthesize(8))
    losses["mask"].backward()
    assert all(parameter.grad is not None for parameter in strategy.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())
    assert all(parameter.grad is None for parameter in student.embedding_parameters())


def test_mask_weight_scales_the_students_loss(bench: Bench) -> None:
    student = bench.student().eval()
    values = []
    for weight in (1.0, 3.0):
        strategy = bench.build("as_dfd", student, mask_weight=weight)
        values.append(float(strategy.student_losses(student, strategy.synthesize(8))["mask"].detach()))
    assert values[1] == pytest.approx(3 * values[0])
    strategy = bench.build("as_dfd", student, mask_weight=0.0)
    assert strategy.student_losses(student, strategy.synthesize(8)) == {}


@pytest.mark.parametrize(("mask", "expected"), [("one", 1), ("share", 4)])
def test_as_many_positions_are_masked_as_asked(bench: Bench, mask: str, expected: int) -> None:
    strategy = bench.build("as_dfd", mask=mask, mask_share=0.2, min_length=22, max_length=22)
    movable = strategy.guesser.start(10).movable
    positions = strategy.supervision.positions(movable)
    assert positions.sum(1).tolist() == [expected] * 10 and not (positions & ~movable).any()


def differing(model: Any, before: Mapping[str, torch.Tensor]) -> list[str]:
    """The names of a live model's tensors that are not bit for bit what they were."""
    now = model.state_dict()
    assert now.keys() == before.keys()
    return [name for name in now if not torch.equal(now[name], before[name])]


@pytest.mark.parametrize(
    "strategy", [["strategy=as_dfd"], ["strategy=as_dfd/paper"], ["strategy=as_dfd", "strategy.snap=true"]]
)
def test_the_live_teacher_and_both_embedding_blocks_are_untouched_by_a_training(
    strategy: list[str], toy_teacher: Path, tmp_path: Path
) -> None:
    settings = ["data=toy", f"teacher={toy_teacher}", *strategy, f"runs={tmp_path}", "student.layers=1"]
    config = pipeline.load_config([*settings, "train.steps=5", "train.batch_size=8", "train.heldout=8"])
    accelerator = device.accelerator(config.device, config.precision, config.threads)
    teacher, student, distiller = pipeline.assemble(
        pipeline.preflight(config), working_folder(tmp_path / "run"), accelerator, pipeline.Listeners()
    )
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in (teacher.classifier, student)]
    assert distiller.fit().steps == 5 and not student.training
    assert differing(teacher.classifier, before[0]) == []
    assert all(parameter.grad is None for parameter in teacher.classifier.parameters())
    learned = differing(student, before[1])
    assert learned and not [name for name in learned if ".embeddings." in name]  # all above the block, nothing of it
    assert differing(student.embedding_block, teacher.classifier.embedding_block.state_dict()) == []
    if "mask_weight" in config.strategy.options and config.strategy.options["mask_weight"] > 0:
        w = distiller.synthesizer.supervision.map.weight  # type: ignore[attr-defined]
        assert not torch.equal(w, torch.eye(*w.shape))


def test_queries_are_counted_with_gradients_apart(bench: Bench) -> None:
    count: Callable[[], dict[str, int]] = lambda: dict(bench.teacher.queries)
    before = count()
    bench.build("as_dfd", guess_steps=3).synthesize(4)
    assert {name: count()[name] - before[name] for name in before} == {
        "train": 12, "gradient": 12, "heldout": 0, "evaluate": 0, "diagnostics": 0
    }


def test_a_frozen_batch_cannot_be_changed(bench: Bench) -> None:
    with pytest.raises(ValueError, match="either texts or embeddings"):
        replace(bench.build("random_tokens").synthesize(2), embeddings=torch.zeros(2, 3, 4))
