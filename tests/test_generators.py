"""Strategies with a generator z -> e: the games, the turns, the moments, diversity, and going on after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
import torch
from torch import Tensor

from dfkd import pipeline, seeding, state, teaching
from dfkd.batch import Feedback, PseudoBatch
from dfkd.config import DataConfig
from dfkd.errors import ConfigError
from dfkd.losses import distillation_kl
from dfkd.losses import prediction_kl
from dfkd.models.students import registry as students
from dfkd.models.students.base import StudentContext
from dfkd.models.teacher import Teacher
from dfkd.synthesis import registry
from dfkd.synthesis._guess import table_moments
from dfkd.synthesis._hidden_moments import hidden_states, moment_loss, reference_moments
from dfkd.synthesis.base import Context
from dfkd.synthesis.dafl import class_entropy

GENERATORS = ("dafl", "dfad", "modified_zskt")
GAMES = ("dfad", "modified_zskt")
Build = Callable[..., Any]


@pytest.fixture
def teacher(toy_teacher: Path, toy_data: DataConfig) -> Teacher:
    config = pipeline.load_config(["data=toy", f"teacher={toy_teacher}", "strategy=random_tokens"])
    return teaching.load_teacher(config)


@pytest.fixture
def student(teacher: Teacher) -> Any:
    """One fresh layer above the teacher's embedding block, in training mode."""
    torch.manual_seed(0)
    options = students.STUDENTS.options("truncated", {"layers": 1, "init": "fresh"})
    return students.build("truncated", options, StudentContext(teacher, "embeddings"))


@pytest.fixture
def build(teacher: Teacher, student: Any) -> Build:
    """Strategy and options -> the strategy, from the same seed each time."""

    def make(name: str, seed: int = 0, **options: Any) -> Any:
        def no_text() -> Any:
            raise AssertionError("asked for real text")

        context = Context(teacher, student, seeding.generator(seed, "synthesis"), False, {}, no_text)
        return registry.build(name, registry.options(name, options), context)

    return make


def measured(strategy: Any, n: int = 128) -> dict[str, float]:
    """The strategy's terms on ``n`` fresh samples of its generator, always of the same codes."""
    strategy.training.generator.manual_seed(9)
    with torch.no_grad():
        sample = strategy.training.draw(n)
        likeness = strategy.training.cosines(sample).square().mean()
        terms = {**strategy.terms(sample), "likeness": likeness}
    return {name: float(value) for name, value in terms.items()}


def after_a_turn(build: Build, name: str, steps: int, **options: Any) -> dict[str, float]:
    """The terms after ``steps`` generator steps against frozen models."""
    strategy = build(name, generator_steps=steps, min_length=4, max_length=12, **options)
    strategy.synthesize(32)
    return measured(strategy)


def observe(strategy: Any, batch: PseudoBatch, times: int = 1) -> None:
    """Tell the strategy of student steps."""
    logits = torch.zeros(len(batch), 3)
    for step in range(times):
        strategy.observe(Feedback(step, batch, logits, logits, {}))


def has_turn(batch: PseudoBatch) -> bool:
    return any(name.startswith("generator_") for name in batch.info)


def content(batch: PseudoBatch) -> bytes:
    assert batch.embeddings is not None
    return batch.embeddings.numpy().tobytes()


# the games, on frozen models; generator_steps=0 is the no-op

@pytest.mark.parametrize(
    ("name", "term", "options"), [
        ("modified_zskt", "kl", {}), pytest.param("dfad", "l1", {}, marks=pytest.mark.slow),
        pytest.param("dfad", "l1", {"growth": "log"}, marks=pytest.mark.slow),
    ]
)
def test_the_generator_finds_where_the_models_part(
    build: Build, name: str, term: str, options: dict[str, Any]
) -> None:
    start, end = (after_a_turn(build, name, steps, diversity_weight=0.0, **options)[term] for steps in (0, 60))
    assert end > 1.2 * start


@pytest.mark.slow
def test_the_generators_loss_is_logged(build: Build) -> None:
    batch = build("modified_zskt", generator_steps=60, min_length=4, max_length=12).synthesize(32)
    assert batch.info["generator_kl_last"] > 1.2 * batch.info["generator_kl_first"] > 0
    assert not has_turn(build("modified_zskt", generator_steps=0).synthesize(32))


def dafl(build: Build, steps: int = 60, **weights: float) -> dict[str, float]:
    """DAFL's terms with all weights 0 but those given."""
    off = {"one_hot_weight": 0.0, "activation_weight": 0.0, "balance_weight": 0.0, "diversity_weight": 0.0}
    return after_a_turn(build, "dafl", steps, **{**off, **weights})


@pytest.mark.slow
def test_dafl_sharpens_and_excites_each_by_its_own_weight(build: Build) -> None:
    start, idle = dafl(build, steps=0), dafl(build, steps=4)
    assert start == pytest.approx(idle)  # no weight, no movement
    sharp, excited = (dafl(build, **{f"{name}_weight": 1.0}) for name in ("one_hot", "activation"))
    assert sharp["one_hot"] < 0.7 * start["one_hot"]
    assert excited["activation"] > 1.1 * start["activation"]


@pytest.mark.slow
def test_dafl_covers_the_classes_and_without_the_balance_does_not(build: Build, teacher: Teacher) -> None:
    with torch.no_grad():
        teacher.output_layer().bias[0] += 4.5  # or the classes would be even from the start
    start, sharp = dafl(build, steps=0)["entropy"], dafl(build, one_hot_weight=1.0)["entropy"]
    balanced = dafl(build, one_hot_weight=1.0, balance_weight=20.0)["entropy"]
    assert balanced > start + 0.2 and balanced > sharp + 0.2


def test_dafl_does_not_look_at_the_student(build: Build, student: Any) -> None:
    first = content(build("dafl", generator_steps=3).synthesize(8))
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.mul_(2)
    assert content(build("dafl", generator_steps=3).synthesize(8)) == first


@pytest.mark.parametrize("name", GAMES)
def test_the_game_is_against_the_student_as_it_is(build: Build, student: Any, name: str) -> None:
    first = content(build(name, generator_steps=3).synthesize(8))
    with torch.no_grad():
        student.model.classifier.weight.mul_(5)
    assert content(build(name, generator_steps=3).synthesize(8)) != first


@pytest.mark.parametrize("name", GENERATORS)
def test_synthesis_leaves_no_gradient_and_no_trace_on_the_models(
    build: Build, teacher: Teacher, student: Any, name: str
) -> None:
    strategy = build(name, generator_steps=3, moment_weight=1.0)
    models = {"teacher": teacher.classifier, "student": student}
    before = {key: {k: v.clone() for k, v in model.state_dict().items()} for key, model in models.items()}
    batch = strategy.synthesize(8)
    assert batch.embeddings is not None and not batch.embeddings.requires_grad
    assert student.training and not teacher.classifier.training
    for key, model in models.items():
        assert all(parameter.grad is None for parameter in model.parameters()), key
        assert all(torch.equal(value, before[key][k]) for k, value in model.state_dict().items()), key
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()), key


def test_losses_of_the_generators(teacher: Teacher) -> None:
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    other = torch.randn(4, 3, generator=torch.Generator().manual_seed(1)).requires_grad_(True)
    divergence = prediction_kl(logits, other)
    assert divergence.item() == pytest.approx(distillation_kl(other, logits).item())
    divergence.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None and other.grad is not None and logits.grad.abs().sum() > 0
    even = torch.eye(3) * 50
    assert class_entropy(even).item() == pytest.approx(torch.tensor(3.0).log().item())
    assert class_entropy(even[:1].repeat(3, 1)).item() == pytest.approx(0, abs=1e-6)
    sure = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)  # the others' probabilities are exactly 0
    class_entropy(sure).backward()  # type: ignore[no-untyped-call]
    assert sure.grad is not None and bool(sure.grad.isfinite().all())


# turns

@pytest.mark.parametrize("name", GENERATORS)
def test_the_generators_turn_comes_after_so_many_student_steps(build: Build, name: str) -> None:
    strategy, turns = build(name, student_steps=3), []
    for _ in range(7):
        turns.append(has_turn(batch := strategy.synthesize(4)))
        observe(strategy, batch)
    assert turns == [True, False, False, True, False, False, True]


def test_steps_on_replayed_batches_count(build: Build) -> None:
    strategy = build("dfad", student_steps=4)
    batch = strategy.synthesize(4)
    observe(strategy, batch, times=4)
    assert has_turn(strategy.synthesize(4))


@pytest.mark.parametrize(("name", "steps"), [("modified_zskt", 10), ("dfad", 5), ("dafl", 1)])
def test_student_steps_are_the_papers_by_default(name: str, steps: int) -> None:
    assert registry.options(name, {}).student_steps == steps


def test_samples_set_aside_do_not_train_the_generator_further(build: Build, teacher: Teacher) -> None:
    strategy = build("modified_zskt", student_steps=1)
    strategy.synthesize(4)
    weights = strategy.training.state_dict()["network"]
    before = dict(teacher.queries)
    strategy.synthesize(4), strategy.synthesize(4)
    assert teacher.queries == before
    assert all(torch.equal(value, weights[key]) for key, value in strategy.training.network.state_dict().items())


def test_queries_are_counted(build: Build, teacher: Teacher) -> None:
    before = dict(teacher.queries)
    build("modified_zskt", generator_steps=3).synthesize(4)
    assert (teacher.queries["train"] - before["train"], teacher.queries["gradient"] - before["gradient"]) == (12, 12)
    build("dafl", generator_steps=1, moment_weight=1.0).synthesize(4)
    assert (teacher.queries["train"] - before["train"], teacher.queries["gradient"] - before["gradient"]) == (272, 16)


def test_growth_is_the_logarithm_of_the_error(build: Build) -> None:
    plain, log = (measured(build("dfad", growth=growth, generator_steps=0))["l1"] for growth in ("plain", "log"))
    assert log == pytest.approx(torch.tensor(plain).log1p().item())


def test_clipping_bounds_the_step_that_adam_sees(build: Build) -> None:
    strategy = build("dfad", generator_clip=1e-3)
    strategy.synthesize(8)
    first = [group["exp_avg"] for group in strategy.training.optimizer.state.values()]
    norm = torch.cat([moment.flatten() for moment in first]).norm() / (1 - 0.9)
    assert norm == pytest.approx(1e-3, rel=1e-2)


# samples

@pytest.mark.parametrize("name", GENERATORS)
def test_special_tokens_are_the_embedding_blocks_own(build: Build, teacher: Teacher, name: str) -> None:
    batch = build(name, min_length=11, max_length=11, generator_steps=3).synthesize(6)
    assert batch.embeddings is not None and batch.attention_mask is not None
    assert batch.embeddings.shape == (6, 11, teacher.width) and batch.attention_mask.all()
    ids = torch.full((1, 11), int(teacher.tokenizer.cls_token_id))
    ids[0, -1] = teacher.tokenizer.sep_token_id
    ends = teacher.embed(ids)[0]
    assert torch.equal(batch.embeddings[:, 0], ends[0].expand(6, -1))
    assert torch.equal(batch.embeddings[:, -1], ends[-1].expand(6, -1))
    assert (batch.embeddings[:, 1:-1] - ends[1:-1]).abs().amax(dim=2).min() > 0.01


def test_lengths_stay_within_bounds(build: Build, teacher: Teacher) -> None:
    strategy = build("dafl", min_length=5, max_length=90, generator_steps=0)
    lengths = {strategy.synthesize(1).embeddings.shape[1] for _ in range(300)}
    assert lengths == set(range(5, teacher.max_length + 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATORS)
def test_embeddings_keep_the_vocabularys_scale_however_long_the_generator_trains(
    build: Build, teacher: Teacher, name: str
) -> None:
    strategy = build(name, generator_steps=40, generator_rate=0.01)
    embeddings, moments = strategy.synthesize(16).embeddings[:, 1:-1].flatten(0, 1), table_moments(teacher, 24)
    assert torch.allclose(embeddings.mean(0), moments.mean, atol=1e-3)
    assert torch.allclose(embeddings.std(0, correction=0), moments.deviation, rtol=1e-3)


def test_a_single_sample_of_one_token_is_possible(build: Build) -> None:
    batch = build("dafl", min_length=3, max_length=3).synthesize(1)
    assert batch.embeddings is not None and batch.embeddings.isfinite().all()
    assert not any("cosine" in name or "likeness" in name for name in batch.info)


def test_a_normalised_embedding_has_the_norm_of_a_layer_norms_output(build: Build, teacher: Teacher) -> None:
    strategy = build("dfad", normalise="layer", generator_steps=5)
    moments = strategy.training.guesser.moments
    inner = (strategy.synthesize(4).embeddings[:, 1:-1] - moments.mean) / moments.deviation
    assert torch.allclose(inner.norm(dim=2), torch.tensor(float(teacher.width)).sqrt(), rtol=1e-2)
    assert torch.allclose(inner.mean(dim=2), torch.zeros(()), atol=1e-4)


def test_cosines_tell_alike_from_apart_and_see_mirror_images(build: Build) -> None:
    training = build("dafl").training
    with torch.no_grad():
        sample = training.draw(50)
    center = training.guesser.moments.mean
    noise = torch.randn(sample.embeddings.shape, generator=torch.Generator().manual_seed(0))
    signs = torch.ones(50, 1, 1)
    signs[25:] = -1
    equal, mirrored, apart = (
        training.cosines(sample._replace(embeddings=center + offset))
        for offset in (noise[:1].expand(50, -1, -1), noise[:1] * signs, noise)
    )
    assert equal.shape == (50, 49) and torch.allclose(equal, torch.ones(()), atol=1e-4)
    assert abs(float(mirrored.mean())) < 0.05 and float(mirrored.square().mean()) == pytest.approx(1, abs=1e-4)
    assert abs(float(apart.mean())) < 0.02 and float(apart.square().mean()) < 0.02
    assert float(apart[3, 7]) == pytest.approx(
        float(torch.cosine_similarity(noise[3, 1:-1].flatten(), noise[8, 1:-1].flatten(), dim=0)), abs=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATORS)
def test_samples_stay_apart_by_default_and_collapse_without_the_penalty(build: Build, name: str) -> None:
    def info(weight: float) -> Any:
        short = {"min_length": 6, "max_length": 16}
        strategy = build(name, generator_steps=60, diversity_weight=weight, normalise="layer", **short)
        return strategy.synthesize(16).info

    free, held = info(0.0), info(1.0)
    assert held["mean_square_cosine"] < 0.3 and held["mean_square_cosine"] < 0.6 * free["mean_square_cosine"]
    assert held["generator_likeness_first"] < 0.2 and held["mean_cosine"] < 0.3


def test_noise_for_each_position_makes_positions_differ(build: Build) -> None:
    def spread(width: int) -> float:
        """Mean deviation between a sample's positions, all of one learned position."""
        training = build("dafl", noise_width=width, layers=0, generator_steps=0).training
        with torch.no_grad():
            training.network.positions.weight.zero_()
            sample = training.draw(16)
        return float(sample.embeddings[:, 1:-1].std(dim=1).mean())

    assert spread(16) > 0.2 and spread(0) == pytest.approx(0, abs=1e-5)


# moments of hidden states

def distance(teacher: Teacher, embeddings: Tensor, mask: Tensor) -> float:
    reference = reference_moments(teacher, torch.Generator().manual_seed(0), 256, embeddings.shape[1])
    with torch.no_grad(), hidden_states(teacher) as states:
        teacher.from_embeddings(embeddings, mask)
    return float(moment_loss(states, mask, reference))


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATORS)
def test_the_moment_loss_pulls_the_moments_to_the_reference(build: Build, teacher: Teacher, name: str) -> None:
    found = {}
    for weight in (0.0, 20.0):
        short = {"min_length": 6, "max_length": 20}
        strategy = build(name, generator_steps=40, generator_rate=5e-3, moment_weight=weight, **short)
        strategy.synthesize(16)
        with torch.no_grad():
            sample = strategy.training.draw(128)
        found[weight] = distance(teacher, sample.embeddings, sample.attention_mask)
    assert found[20.0] < 0.5 * found[0.0]


# state

def played(strategy: Any, rounds: int) -> list[bytes]:
    """The batches of some rounds with a student step after each."""
    seen = []
    for _ in range(rounds):
        batch = strategy.synthesize(4)
        observe(strategy, batch)
        seen.append(content(batch))
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATORS)
def test_state_on_disk_continues_the_turns_byte_for_byte(build: Build, tmp_path: Path, name: str) -> None:
    options: dict[str, Any] = {"student_steps": 2, "generator_rate": 0.01, "moment_weight": 1.0}
    strategy = build(name, **options)
    played(strategy, 5)
    state.save(tmp_path, strategy.state_dict())
    expected = played(strategy, 6)
    assert len(set(expected)) == 6
    loaded = state.load(tmp_path)
    fresh = build(name, seed=1, **options)
    fresh.training.reference = strategy.training.reference  # of another seed, as the generator is
    fresh.load_state_dict(loaded)
    assert played(fresh, 6) == expected
    for missing in ("optimizer", "waited", "network", "generator"):
        other = build(name, **options)
        other.load_state_dict({**loaded, missing: build(name, **options).state_dict()[missing]})
        assert played(other, 6) != expected, missing


def test_the_state_is_a_copy(build: Build) -> None:
    strategy = build("dfad")
    observe(strategy, strategy.synthesize(4), times=5)
    kept = strategy.state_dict()
    weights = kept["network"]["write.weight"].clone()
    moments = kept["optimizer"]["state"][0]["exp_avg"].clone()
    strategy.synthesize(4)
    assert torch.equal(kept["network"]["write.weight"], weights)
    assert torch.equal(kept["optimizer"]["state"][0]["exp_avg"], moments)


def test_weights_come_from_the_strategys_own_generator(build: Build) -> None:
    def weights(seed: int) -> Tensor:
        drawn: Tensor = build("dafl", seed=seed).training.network.positions.weight.detach()
        return drawn

    torch.manual_seed(1)
    before, first = torch.get_rng_state(), weights(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(weights(0), first) and not torch.equal(weights(1), first)


def test_half_precision_around_synthesis_sees_the_newest_weights(build: Build) -> None:
    strategy = build("modified_zskt", generator_steps=3, generator_rate=0.01)
    training = strategy.training
    with torch.autocast("cpu", torch.bfloat16):
        strategy.synthesize(8)
        before = training.generator.get_state()
        inside = training.draw(4).embeddings
    training.generator.set_state(before)
    outside = training.draw(4).embeddings
    assert inside.dtype == torch.float32 and torch.equal(inside, outside)


@pytest.mark.parametrize("name", GAMES)
def test_the_students_dropout_is_off_in_the_game(build: Build, student: Any, name: str) -> None:
    def facts() -> Any:
        return build(name, generator_steps=2).synthesize(4).info

    torch.manual_seed(3)
    first = facts()
    torch.manual_seed(4)
    assert facts() == first and student.training


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [("modified_zskt", {"student_steps": 0}, "student_steps"), ("dfad", {"growth": "square"}, "log"),
     ("dafl", {"balance_weight": -1}, "balance_weight"), ("dafl", {"generator_rate": 0}, "generator_rate"),
     ("dfad", {"min_length": 2}, "CLS"), ("dfad", {"min_length": 30, "max_length": 20}, "30 or more"),
     ("modified_zskt", {"latent_width": 0, "moment_weight": -2}, "moment_weight"),
     ("dafl", {"normalise": "none"}, "layer")],
)
def test_bad_options_are_refused(name: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        registry.options(name, options)
