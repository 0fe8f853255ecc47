"""The strategies of the inversion family: class-similarity targets, contrastive memory, learned starts."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any, Callable

import pytest
import torch

from dfkd import pipeline, seeding, state, teaching
from dfkd.batch import PseudoBatch
from dfkd.errors import ConfigError
from dfkd.models.classifier import load_classifier
from dfkd.models.students import registry as students
from dfkd.models.students.base import StudentContext
from dfkd.models.teacher import Teacher, reorder_outputs
from dfkd.synthesis import _hidden_moments, registry
from dfkd.synthesis._classes import dirichlet
from dfkd.synthesis._contrast import Bank, Contrast, info_nce
from dfkd.synthesis._guess import Start
from dfkd.synthesis._hidden_moments import HiddenMoments, hidden_states, moment_loss, moments, reference_moments
from dfkd.synthesis._inversion import diversity, inner_positions
from dfkd.synthesis.base import Context
from dfkd.synthesis.cmi import kl_where_agreed, represent
from dfkd.synthesis.fast_guess import LearnedStart
from dfkd.synthesis.modified_zskd import class_similarity

FAMILY = ("modified_zskd", "cmi", "fast_guess")
Build = Callable[..., Any]


@pytest.fixture
def teacher(toy_teacher: Path) -> Teacher:
    return teaching.load_teacher(
        pipeline.load_config(["data=toy", f"teacher={toy_teacher}", "strategy=random_tokens", "precision=float32"])
    )


@pytest.fixture
def student(teacher: Teacher) -> Any:
    torch.manual_seed(0)
    options = students.STUDENTS.options("truncated", {"layers": 1})
    return students.build("truncated", options, StudentContext(teacher, "embeddings"))


@pytest.fixture
def build(teacher: Teacher, student: Any) -> Build:
    def make(name: str, **options: Any) -> Any:
        generator = seeding.generator(0, "synthesis")
        context = Context(teacher, student, generator, False, {}, lambda: ())
        return registry.build(name, registry.options(name, options), context)

    return make


def content(batch: PseudoBatch) -> bytes:
    return bytes(batch.embeddings.numpy().tobytes())  # type: ignore[union-attr]


def distance(teacher: Teacher, batch: PseudoBatch) -> float:
    """Mean KL(y || T(e)): L_INPUT without the targets' entropy."""
    assert batch.targets is not None
    predicted = teacher.label(batch).log_softmax(dim=1)
    return float((torch.xlogy(batch.targets, batch.targets) - batch.targets * predicted).sum(dim=1).mean())


def hidden(teacher: Teacher, batch: PseudoBatch) -> torch.Tensor:
    """The last hidden states at [CLS], (B, H)."""
    assert batch.embeddings is not None and batch.attention_mask is not None
    return teacher.from_embeddings(batch.embeddings, batch.attention_mask).hidden[:, 0].detach()


def within_classes(teacher: Teacher, batch: PseudoBatch) -> float:
    """Mean cosine between the hidden states of different samples of one class."""
    assert batch.targets is not None
    classes, vectors = batch.targets.argmax(dim=1), hidden(teacher, batch)
    cosines = [diversity(vectors[classes == c], "cosine")["cosine"] for c in classes.unique()]
    return sum(cosines) / len(cosines)


# the whole family

@pytest.mark.parametrize("name", FAMILY)
def test_input_loss_falls(build: Build, teacher: Teacher, name: str) -> None:
    before = distance(teacher, build(name, guess_steps=0).synthesize(24))
    alone = {"cmi": {"contrast_weight": 0.0, "adversary_weight": 0.0}, "fast_guess": {"difficulty_weight": 0.0}}
    own = alone.get(name, {})
    assert distance(teacher, build(name, guess_steps=30, **own).synthesize(24)) < 0.5 * before


@pytest.mark.parametrize("name", FAMILY)
def test_state_continues_through_the_disk(build: Build, tmp_path: Path, name: str) -> None:
    own = {"bank_size": 10} if name == "cmi" else {}  # 3 x 6 representations: the ring has come round
    strategy = build(name, **own)
    for _ in range(3):
        strategy.synthesize(6)
    state.save(tmp_path, strategy.state_dict())
    expected = [content(strategy.synthesize(6)) for _ in range(2)]
    fresh = build(name, **own)
    fresh.load_state_dict(state.load(tmp_path))
    assert [content(fresh.synthesize(6)) for _ in range(2)] == expected
    forgetful = build(name, **own)
    forgetful.generator.set_state(state.load(tmp_path)["generator"])
    assert (content(forgetful.synthesize(6)) == expected[0]) is (name == "modified_zskd")


@pytest.mark.parametrize("name", FAMILY)
def test_a_state_taken_is_not_changed_by_later_batches(build: Build, tmp_path: Path, name: str) -> None:
    strategy = build(name)
    strategy.synthesize(6)
    taken = strategy.state_dict()
    state.save(tmp_path / "at_once", taken)
    strategy.synthesize(6)
    state.save(tmp_path / "later", taken)
    files = [(tmp_path / when / state.TENSORS).read_bytes() for when in ("at_once", "later")]
    assert files[0] == files[1]


@pytest.mark.parametrize("name", FAMILY)
def test_synthesis_leaves_the_models_alone(build: Build, teacher: Teacher, student: Any, name: str) -> None:
    models = {"teacher": teacher.classifier, "student": student}
    before = {name: {k: v.clone() for k, v in m.state_dict().items()} for name, m in models.items()}
    modes = {who: [m.training for m in model.modules()] for who, model in models.items()}
    hooks = [len(module._forward_hooks) for module in teacher.classifier.modules()]
    strategy = build(name)
    for _ in range(2):
        strategy.synthesize(6)
    for who, model in models.items():
        assert [m.training for m in model.modules()] == modes[who]
        assert all(parameter.grad is None for parameter in model.parameters()), who
        assert all(torch.equal(value, before[who][key]) for key, value in model.state_dict().items()), who
    assert [len(module._forward_hooks) for module in teacher.classifier.modules()] == hooks


@pytest.mark.parametrize("name", FAMILY)
def test_nothing_is_drawn_from_the_global_generator(build: Build, name: str) -> None:
    made = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        strategy = build(name, difficulty_weight=1.0) if name == "fast_guess" else build(name)
        made.append([content(strategy.synthesize(6)) for _ in range(2)])
    assert made[0] == made[1]


@pytest.mark.parametrize("name", FAMILY)
def test_works_under_autocast(build: Build, name: str) -> None:
    strategy = build(name)
    with torch.autocast("cpu", torch.bfloat16):
        batches = [strategy.synthesize(6) for _ in range(3)]
    assert all(b.embeddings.dtype == torch.float32 and b.embeddings.isfinite().all() for b in batches)
    assert content(batches[0]) != content(build(name).synthesize(6))  # the models did run in bf16


@pytest.mark.parametrize(
    ("name", "options", "train", "gradient"),
    [("modified_zskd", {"guess_steps": 3}, 12, 12), ("fast_guess", {"guess_steps": 2}, 8, 8),
     ("cmi", {"guess_steps": 3, "moment_samples": 70}, 70 + 24, 24),
     ("cmi", {"guess_steps": 3, "moment_weight": 0.0, "contrast_weight": 0.0}, 12, 12)],
)
def test_teacher_queries(build: Build, teacher: Teacher, name: str, options: Any, train: int, gradient: int) -> None:
    build(name, **options).synthesize(4)
    assert {k: v for k, v in teacher.queries.items() if v} == {"train": train, "gradient": gradient}


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [("modified_zskd", {"betas": []}, "betas"), ("modified_zskd", {"betas": [0.1, 0.0]}, "above 0"),
     ("modified_zskd", {"floor": 0}, "floor"), ("modified_zskd", {"similarity": "cosine"}, "min_max"),
     ("modified_zskd", {"target_temperature": 0}, "target_temperature"),
     ("modified_zskd", {"targets": "hard"}, "unknown key 'strategy.targets'"),
     ("cmi", {"contrast_temperature": 0}, "contrast_temperature"), ("cmi", {"view_drop": 1}, "view_drop"),
     ("cmi", {"bank_size": 0}, "bank_size"), ("cmi", {"adversary_weight": -1}, "adversary_weight"),
     ("fast_guess", {"meta_rate": 1.5}, "meta_rate"), ("fast_guess", {"max_shift": 0}, "max_shift"),
     ("fast_guess", {"mask_share": 0}, "mask_share"), ("modified_zskd", {"guess_rate": 0}, "guess_rate")],
)
def test_bad_options_are_refused(name: str, options: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        registry.options(name, options)


@pytest.mark.parametrize("name", FAMILY)
def test_every_option_is_documented(name: str) -> None:
    documented = "".join(parent.__doc__ or "" for parent in registry.STRATEGIES.module(name).Options.__mro__[:-1])
    assert [option.name for option in registry.describe(name)[1] if f"{option.name}: " not in documented] == []


@pytest.mark.parametrize(
    ("name", "options"),
    [("cmi", {"bank_size": 2}), ("fast_guess", {"meta_rate": 0.1}), ("fast_guess", {"max_shift": 0.01})],
)
def test_options_that_act_from_the_second_batch_on(build: Build, name: str, options: Any) -> None:
    changed, usual = build(name, **options), build(name)
    assert content(changed.synthesize(6)) == content(usual.synthesize(6))
    assert content(changed.synthesize(6)) != content(usual.synthesize(6))


# modified_zskd

def test_alpha_of_a_case_done_by_hand() -> None:
    # cosines 0 between the first two, 1 / sqrt 2 between each and the third: its row has no smaller value
    alpha = class_similarity(torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]))
    half = 2**-0.5
    assert torch.allclose(alpha, torch.tensor([[1.0, 0.0, half], [0.0, 1.0, half], [0.0, 0.0, 1.0]]), atol=1e-6)


def test_similarity_of_two_classes_keeps_the_cosine() -> None:
    def off_diagonal(second: list[float], form: str = "auto") -> list[float]:
        alpha = class_similarity(torch.tensor([[1.0, 0.0], second]), form)
        assert alpha.diagonal().tolist() == pytest.approx([1, 1])
        return [float(alpha[0, 1]), float(alpha[1, 0])]

    assert off_diagonal([-3.0, 0.0]) == [0, 0]
    assert off_diagonal([0.0, 1.0]) == [0.5, 0.5]
    assert off_diagonal([0.0, 1.0], "min_max") == [0, 0]  # any two classes: nothing is left of the cosine
    assert off_diagonal([5.0, 0.0], "min_max") == [1, 1]
    affine = class_similarity(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), "affine")
    assert affine.tolist() == [[1, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1]]


def test_swapping_the_teachers_classes_permutes_alpha(build: Build, teacher: Teacher) -> None:
    before = build("modified_zskd").alpha
    assert before.diagonal().tolist() == [1, 1, 1] and not torch.equal(before[0, [0, 2, 1]], before[1, [1, 2, 0]])
    order = [2, 0, 1]
    reorder_outputs(teacher.classifier.model, order)
    assert torch.allclose(build("modified_zskd").alpha, before[order][:, order])


@pytest.mark.parametrize("beta", [0.1, 1.0, 20.0])
def test_targets_have_the_dirichlets_mean_and_spread(beta: float) -> None:
    alpha = torch.tensor([1.0, 0.0, 0.5])
    concentration = beta * alpha + 1e-4
    drawn = dirichlet(concentration.double().expand(40_000, 3), torch.Generator().manual_seed(0))
    mean = concentration / concentration.sum()
    assert torch.allclose(drawn.sum(1), torch.ones(40_000), atol=1e-5)
    assert torch.allclose(drawn.mean(0), mean, atol=0.01)
    assert torch.allclose(drawn.var(0), mean * (1 - mean) / (concentration.sum() + 1), atol=0.005)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("classes", [2, 4, 14])
@pytest.mark.parametrize("concentration", [1e-2, 1e-4, 1e-12])
def test_targets_of_small_concentrations_are_distributions(
    concentration: float, classes: int, dtype: torch.dtype
) -> None:
    given = torch.full((4000, classes), concentration, dtype=dtype)
    drawn = dirichlet(given, torch.Generator().manual_seed(0))
    assert torch.allclose(drawn.sum(1), torch.ones(4000), atol=1e-6)
    variance = (1 - 1 / classes) / classes / (classes * concentration + 1)
    assert float(drawn.var(0).mean()) == pytest.approx(variance, rel=0.05)
    assert float((drawn.max(1).values > 0.99).float().mean()) > 1 - 6 * classes * concentration
    counts = torch.bincount(drawn.argmax(1), minlength=classes)
    assert all(abs(count - 4000 / classes) < 5 * (4000 / classes) ** 0.5 for count in counts.tolist())


@pytest.mark.parametrize(("concentration", "same"), [(1.0, True), (0.1, True), (0.005, False)])
def test_where_nothing_underflows_targets_are_plain_gamma_shares(concentration: float, same: bool) -> None:
    given, ours, plain = torch.full((500, 2), concentration), torch.Generator(), torch.Generator()
    drawn = dirichlet(given, ours.manual_seed(3))
    gamma = torch._standard_gamma(given, generator=plain.manual_seed(3))
    assert torch.equal(drawn, gamma / gamma.sum(1, keepdim=True)) is same
    assert torch.equal(ours.get_state(), plain.get_state()) is same


def test_targets_are_drawn_for_classes_evenly_with_betas_in_turn(build: Build) -> None:
    strategy = build("modified_zskd", betas=[300.0, 0.01], floor=1e-6)
    targets = strategy.targets(3000)
    rows = strategy.alpha / strategy.alpha.sum(dim=1, keepdim=True)
    gap = (targets[::2, None] - rows).abs().sum(dim=2).min(dim=1)  # large betas: close to a class's own mean
    assert float(gap.values.mean()) < 0.1
    assert all(430 < count < 570 for count in torch.bincount(gap.indices, minlength=3).tolist())
    assert float(targets[1::2].max(dim=1).values.mean()) > 0.97
    assert torch.allclose(targets.mean(0), rows.mean(0), atol=0.04)
    assert torch.isfinite(build("modified_zskd", betas=[1e-6], floor=1e-6).targets(500)).all()


def test_classes_are_even_over_batches_that_they_do_not_divide(
    build: Build, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher, "output_layer", lambda: torch.nn.Linear(5, 14))
    strategy = build("modified_zskd")
    drawn = [strategy.classes(32) for _ in range(700)]
    assert all(set(torch.bincount(classes, minlength=14).tolist()) == {2, 3} for classes in drawn)
    counts = torch.bincount(torch.cat(drawn), minlength=14)
    # 4 of 14 classes get a third one, at random: 1600 of each, give or take; the first four would have 2100
    assert all(abs(count - 1600) < 60 for count in counts.tolist())
    at_even_places = torch.bincount(torch.cat([classes[::2] for classes in drawn]), minlength=14)
    assert all(abs(count - 800) < 100 for count in at_even_places.tolist())  # each class meets every beta


def test_a_two_class_head_gets_soft_targets(build: Build, teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    head = torch.nn.Linear(2, 2)
    head.weight.data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    monkeypatch.setattr(teacher, "output_layer", lambda: head)
    softness = {form: float(build("modified_zskd", betas=[1.0], similarity=form).targets(2000).min(1).values.mean())
                for form in ("auto", "min_max")}
    assert softness["auto"] > 0.1 and softness["min_max"] < 0.01


@pytest.mark.slow
def test_a_high_temperature_pushes_confident_targets_to_extremes(build: Build, teacher: Teacher) -> None:
    def largest(temperature: float) -> float:
        strategy = build("modified_zskd", target_temperature=temperature, betas=[1.0], floor=0.5, guess_steps=40)
        return float(teacher.label(strategy.synthesize(24)).softmax(1).max(1).values.mean())

    assert largest(20.0) > largest(1.0) + 0.05


# cmi

@pytest.mark.slow
def test_contrast_makes_samples_less_alike(build: Build, teacher: Teacher) -> None:
    def alike(weight: float, **options: Any) -> PseudoBatch:
        strategy = build(
            "cmi", contrast_weight=weight, adversary_weight=0.0, moment_weight=0.0, guess_steps=10, guess_rate=0.03,
            min_length=20, max_length=20, **options,
        )
        for _ in range(2):
            strategy.synthesize(24)
        made: PseudoBatch = strategy.synthesize(24)
        return made

    def cosine(batch: PseudoBatch) -> float:
        return diversity(hidden(teacher, batch), "cosine")["cosine"]

    # on its own against standing still, then beside L_INPUT, which alone makes samples of a class alike
    assert cosine(alike(1.0, input_weight=0.0)) < cosine(alike(0.0, input_weight=0.0)) - 0.1
    with_contrast, without = (alike(weight, targets="hard") for weight in (2.0, 0.0))
    assert within_classes(teacher, with_contrast) < within_classes(teacher, without) - 0.1


def test_remembered_samples_repel(build: Build) -> None:
    views = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    far = info_nce(views, views, -views[:1], 0.2)
    near = info_nce(views, views, views[:1] + 0.1, 0.2)
    assert near > far > info_nce(views, views, views[:0], 0.2)


def test_info_nce_of_a_case_done_by_hand() -> None:
    views, samples = torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    e = torch.tensor(1.0).exp()
    assert info_nce(views, samples, torch.zeros(0, 2), 1.0) == pytest.approx(float(-(e / (e + 1)).log()))
    assert info_nce(views, samples, torch.tensor([[1.0, 0.0]]), 1.0) == pytest.approx(
        float(-((e / (2 * e + 1)).log() + (e / (e + 2)).log()) / 2)
    )


def test_the_bank_is_bounded_and_keeps_the_newest() -> None:
    bank = Bank(5, 1, torch.device("cpu"))
    for first in (0, 3, 6):
        bank.add(torch.arange(first, first + 3.0).unsqueeze(1))
        assert set(bank.rows.flatten().tolist()) == set(range(max(0, first - 2), first + 3))
    bank.add(torch.arange(20.0, 40.0).unsqueeze(1))
    assert sorted(bank.rows.flatten().tolist()) == [35, 36, 37, 38, 39]


def test_the_projection_learns_the_contrast_and_is_restored() -> None:
    def contrast(seed: int = 0) -> Contrast:
        return Contrast(8, 4, 1e-2, 0.2, 16, torch.device("cpu"), torch.Generator().manual_seed(seed))

    torch.manual_seed(0)
    samples, learner = torch.randn(12, 8) + 3, contrast()
    views = samples + 0.1 * torch.randn(12, 8)
    before = float(learner.loss(views, samples).detach())
    for _ in range(60):
        learner.train_head(views, samples)
    assert float(learner.loss(views, samples).detach()) < 0.7 * before
    learner.bank.add(samples)
    other = contrast(seed=1)
    other.load_state_dict(learner.state_dict())
    for each in (learner, other):
        each.train_head(views, samples)
    assert torch.equal(learner.loss(views, samples), other.loss(views, samples))
    assert all(parameter.grad is None for parameter in learner.head.parameters())


def test_cmi_logs_its_terms_and_leaves_out_those_of_weight_0(build: Build) -> None:
    names = ("input_loss", "moment_loss", "adversary_kl", "contrast_loss")
    info = build("cmi").synthesize(6).info
    assert set(info) == {f"{name}_{end}" for name in names for end in ("first", "last")} | {"hidden_cosine"}
    off = build("cmi", moment_weight=0.0, adversary_weight=0.0, contrast_weight=0.0)
    assert {name.rsplit("_", 1)[0] for name in off.synthesize(6).info} == {"input_loss", "hidden"}
    assert len(off.contrast.bank.rows) == 0


def test_the_adversary_raises_the_kl(build: Build, student: Any, teacher: Teacher) -> None:
    def kl(weight: float) -> float:
        options = {"contrast_weight": 0.0, "moment_weight": 0.0, "guess_steps": 10, "guess_rate": 0.03}
        batch = build("cmi", adversary_weight=weight, **options).synthesize(24)
        with torch.no_grad():
            log = [m.log_softmax(1) for m in (teacher.label(batch), student.eval().from_batch(batch).logits)]
        return float((log[0].exp() * (log[0] - log[1])).sum(1).mean())

    assert kl(3.0) > kl(0.0) + 0.05


def test_kl_counts_where_both_models_agree() -> None:
    teacher_logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]], requires_grad=True)
    student_logits = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    p, q = teacher_logits[0].softmax(0), student_logits[0].softmax(0)
    loss = kl_where_agreed(teacher_logits, student_logits)
    assert float(loss.detach()) == pytest.approx(float((p * (p / q).log()).sum().detach()) / 2)
    loss.backward()
    for logits in (teacher_logits, student_logits):
        assert logits.grad is not None and logits.grad[0].abs().sum() > 0 and logits.grad[1].abs().sum() == 0


def test_views_leave_out_inner_positions_only(build: Build, teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = build("cmi", view_drop=0.5, view_noise=0.0, length_per="sample", min_length=5)
    start = strategy.guesser.start(40)
    seen: list[Any] = []
    original = teacher.from_embeddings
    monkeypatch.setattr(teacher, "from_embeddings", lambda e, m: (seen.append((e, m)), original(e, m))[1])
    strategy._view(start.embeddings, start)
    embeddings, mask = seen[0]
    inner = inner_positions(start.attention_mask)
    assert torch.equal(embeddings, start.embeddings) and torch.equal(mask[~inner], start.attention_mask[~inner])
    assert float(mask[inner].float().mean()) == pytest.approx(0.5, abs=0.05)


def test_representations() -> None:
    states, mask = torch.arange(12.0).view(1, 3, 4), torch.tensor([[1, 1, 0]])
    assert represent(states, mask, "cls").tolist() == [[0, 1, 2, 3]]
    assert represent(states, mask, "mean").tolist() == [[2, 3, 4, 5]]


# moments of hidden states

@pytest.mark.parametrize("model_type", ["bert", "distilbert", "electra", "roberta"])
def test_hidden_states_are_those_of_the_library(encoders: Callable[[str], Path], model_type: str) -> None:
    teacher = Teacher(load_classifier(str(encoders(model_type)), 20, ["a", "b"]))
    ids = torch.randint(5, 60, (6, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = teacher.classifier.model(input_ids=ids, output_hidden_states=True).hidden_states[1:]
        with hidden_states(teacher) as states:
            teacher.from_embeddings(teacher.embed(ids), torch.ones_like(ids))
    assert len(states) == len(expected) == 4
    assert all(torch.allclose(found, known, atol=1e-5) for found, known in zip(states, expected))


def test_moments_leave_padding_out() -> None:
    state = torch.tensor([[[1.0], [3.0], [99.0]], [[5.0], [99.0], [99.0]]])
    found = moments([state], torch.tensor([[1, 1, 0], [1, 0, 0]]))
    assert found.mean.tolist() == [[3.0]] and found.variance.tolist() == [[pytest.approx(8 / 3)]]


def test_moment_loss_of_a_case_done_by_hand() -> None:
    states, mask = [torch.tensor([[[1.0], [3.0]]])], torch.ones(1, 2)  # mean 2, variance 1
    assert float(moment_loss(states, mask, HiddenMoments(torch.tensor([[2.0]]), torch.tensor([[1.0]])))) == 0
    # a mean 2 deviations off, and a quarter of the variance
    loss = moment_loss(states, mask, HiddenMoments(torch.tensor([[6.0]]), torch.tensor([[4.0]])))
    assert float(loss) == pytest.approx(4 + 0.75**2)


def test_reference_moments_do_not_depend_on_the_parts(teacher: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured() -> HiddenMoments:
        return reference_moments(teacher, torch.Generator().manual_seed(0), 40, 12)

    whole = measured()
    monkeypatch.setattr(_hidden_moments, "BATCH", 7)
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(whole, measured()))
    assert teacher.queries["train"] == 80 and teacher.queries["gradient"] == 0


def test_moment_weight_keeps_the_moments(build: Build) -> None:
    def last(weight: float) -> float:
        strategy = build("cmi", moment_weight=weight, targets="hard", contrast_weight=0.0, guess_steps=15)
        return float(strategy.synthesize(32).info["moment_loss_last"])

    assert last(20.0) < 0.5 * last(1e-6)


# fast_guess

FEW = {"guess_steps": 2, "guess_rate": 0.03, "difficulty_weight": 0.0, "min_length": 22, "max_length": 22}


@pytest.mark.slow
@pytest.mark.parametrize("targets", ["hard", "dirichlet"])
def test_two_steps_from_a_learned_start_come_near_fifty_from_a_plain_one(
    build: Build, teacher: Teacher, targets: str
) -> None:
    plain = {k: build("as_dfd", **{**FEW, "targets": targets, "guess_steps": k}).synthesize(96) for k in (2, 50)}
    strategy = build("fast_guess", **FEW, targets=targets, max_shift=0.2)
    for _ in range(60):
        strategy.synthesize(32)
    fast = strategy.synthesize(96)
    few, many, learned = (distance(teacher, batch) for batch in (plain[2], plain[50], fast))
    assert few > 3 * many  # the two differ at all
    assert learned < many + 0.2 * (few - many)
    # and not by making all samples the same
    for measure in (lambda b: diversity(b.embeddings, "cosine")["cosine"], lambda b: within_classes(teacher, b)):
        assert measure(fast) < max(measure(batch) for batch in plain.values())


@pytest.mark.slow
def test_the_learned_start_alone_has_the_class_asked_for(build: Build, teacher: Teacher) -> None:
    strategy = build("fast_guess", **FEW, targets="hard", max_shift=0.2)
    start, targets = strategy.guesser.start(60), strategy.guesser.targets(60)

    def right() -> float:
        moved = strategy.learned.apply(start, targets)
        logits = teacher.from_embeddings(moved.embeddings, moved.attention_mask).logits
        return float((logits.argmax(1) == targets.argmax(1)).float().mean())

    assert right() < 0.6
    for _ in range(40):
        strategy.synthesize(32)
    assert right() > 0.9


def test_without_learning_it_is_as_dfd(build: Build) -> None:
    options = {**FEW, "difficulty_weight": 1.0, "length_per": "sample"}
    fast, plain = build("fast_guess", **options, meta_rate=0.0), build("as_dfd", **options)
    for _ in range(3):
        assert content(fast.synthesize(6)) == content(plain.synthesize(6))


def test_the_shift_stays_within_its_limit(build: Build) -> None:
    def last(limit: float) -> float:
        strategy = build("fast_guess", **{**FEW, "guess_rate": 0.1}, targets="hard", max_shift=limit, meta_rate=1.0)
        return float([strategy.synthesize(24).info["start_shift"] for _ in range(30)][-1])

    assert last(0.1) == pytest.approx(0.1, rel=0.05) and last(100.0) > 0.5


def test_only_movable_positions_are_shifted_and_counted() -> None:
    learned = LearnedStart(2, 3, 1.0, 100.0, torch.device("cpu"))
    movable = torch.tensor([[False, True, True, False]]).expand(40, 4)
    start = Start(torch.zeros(40, 4, 3), torch.ones(40, 4), movable)
    targets = torch.eye(2)[torch.arange(40) % 2]
    wanted = torch.tensor([[1.0, 0.0, 2.0], [-1.0, 0.5, 2.0]])[torch.arange(40) % 2]
    ended = start.embeddings + wanted.unsqueeze(1) * movable.unsqueeze(-1)
    for _ in range(20):
        learned.learn(learned.apply(start, targets), ended, targets)
    assert torch.allclose(learned.shift(targets), wanted, atol=0.02)
    assert torch.allclose(learned.apply(start, targets).embeddings, ended, atol=0.02)


@pytest.mark.parametrize("mode", ["float32", "bf16"])
def test_what_is_learned_is_float32(build: Build, mode: str) -> None:
    strategy = build("fast_guess", **FEW)
    with torch.autocast("cpu", torch.bfloat16) if mode == "bf16" else nullcontext():
        strategy.synthesize(8)
    weight = strategy.state_dict()["start"]
    assert weight.dtype == torch.float32 and weight.abs().sum() > 0


def test_fast_guess_trains_student_and_map(build: Build, student: Any) -> None:
    strategy = build("fast_guess", mask_weight=1.0)
    losses = strategy.student_losses(student, strategy.synthesize(8))
    losses["mask"].backward()
    assert all(parameter.grad is not None for parameter in strategy.parameters())
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in student.parameters())
