"""Students on the teacher's embedding block: BiLSTM, TextCNN, narrow encoder; on real small models."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from dfkd import finished, pipeline, seeding, teaching
from dfkd.batch import PseudoBatch
from dfkd.config import DataConfig, TrainConfig
from dfkd.distill import build_optimizer
from dfkd.errors import ConfigError
from dfkd.evaluate import cost
from dfkd.losses import distillation_kl
from dfkd.models import sources
from dfkd.models.classifier import TextClassifier, load_classifier
from dfkd.models.split import SUPPORTED, Output
from dfkd.models.students import bilstm, narrow, pretrained, registry, textcnn
from dfkd.models.students._pooling import masked_max, masked_mean
from dfkd.models.students.base import Facts, StudentContext
from dfkd.models.teacher import Teacher
from dfkd.synthesis import registry as strategies
from dfkd.synthesis.base import Context

KINDS: dict[str, dict[str, Any]] = {
    "bilstm": {"hidden": 12, "layers": 2}, "textcnn": {"kernel_sizes": [2, 3], "filters": 10}, "narrow": {"layers": 1},
}
HIDDEN = {"bilstm": 24, "textcnn": 20, "narrow": 16}
LABELS = ("weather", "food", "sport")
TEXTS = ("rain", "the team won the cup on sunday, and nobody is sad about it", "garlic soup with bread")
PAIRS = (("rain and wind", "the cup"), ("soup", "garlic soup with bread"))
Teachers = Callable[[str], Teacher]


@pytest.fixture(scope="module")
def teachers(encoders: Callable[[str], Path]) -> Teachers:
    """Architecture -> a teacher of 4 random layers; not to be changed."""
    loaded: dict[str, TextClassifier] = {}

    def teacher(model_type: str) -> Teacher:
        if model_type not in loaded:
            torch.manual_seed(0)
            loaded[model_type] = load_classifier(str(encoders(model_type)), 24, LABELS)
        return Teacher(loaded[model_type])

    return teacher


@pytest.fixture
def bert(teachers: Teachers) -> Teacher:
    return teachers("bert")


def build(kind: str, teacher: Teacher, injects: str = "embeddings", seed: int = 0, **options: Any) -> Any:
    typed = registry.STUDENTS.options(kind, {**KINDS[kind], **options})
    torch.manual_seed(seed)
    return registry.build(kind, typed, StudentContext(teacher, injects))


def check(kind: str, config: Any, injects: str = "embeddings", **options: Any) -> None:
    registry.check(kind, registry.STUDENTS.options(kind, options), Facts(config, injects, 24))


def output_of(student: Any, texts: Any = TEXTS) -> Output:
    """What the student gives for the embeddings of texts."""
    encoding = student.encode(texts)
    with torch.no_grad():
        return student.eval().from_embeddings(student.embed(encoding["input_ids"]), encoding["attention_mask"])


def logits_of(student: Any, texts: Any = TEXTS) -> torch.Tensor:
    with torch.no_grad():
        return student.eval().from_texts(texts)


def same_parameters(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# texts and embeddings


@pytest.mark.parametrize("model_type", SUPPORTED)
@pytest.mark.parametrize("kind", KINDS)
def test_texts_and_their_embeddings_are_the_same(kind: str, model_type: str, teachers: Teachers) -> None:
    teacher = teachers(model_type)
    student = build(kind, teacher)
    torch.testing.assert_close(output_of(student).logits, logits_of(student), atol=1e-5, rtol=0)
    assert output_of(student).hidden.shape == (3, student.encode(TEXTS)["input_ids"].shape[1], HIDDEN[kind])
    assert (student.hidden_width, student.width) == (HIDDEN[kind], teacher.width)
    # the block is the teacher's: what is guessed above the one means the same above the other
    ids = student.encode(TEXTS)["input_ids"]
    assert torch.equal(student.train().embed(ids), teacher.embed(ids))
    assert same_parameters(student.embedding_block, teacher.classifier.embedding_block)


@pytest.mark.parametrize("kind", KINDS)
def test_batches_of_both_sorts_are_answered(kind: str, bert: Teacher) -> None:
    student = build(kind, bert).eval()
    encoding = student.encode(TEXTS)
    batch = PseudoBatch(embeddings=bert.embed(encoding["input_ids"]), attention_mask=encoding["attention_mask"])
    output, logits = student.from_batch(batch), student.from_batch(PseudoBatch(texts=TEXTS))
    assert isinstance(output, Output) and isinstance(logits, torch.Tensor)
    torch.testing.assert_close(output.logits, logits, atol=1e-5, rtol=0)
    assert (student.labels, student.max_length, student.device.type) == (LABELS, 24, "cpu")


@pytest.mark.parametrize("model_type", SUPPORTED)
@pytest.mark.parametrize("kind", KINDS)
def test_padding_never_changes_a_result(kind: str, model_type: str, teachers: Teachers) -> None:
    """Alone, in a batch with longer ones, and with rubbish at the padded positions."""
    student = build(kind, teachers(model_type)).eval()
    encoding = student.encode(TEXTS)
    mask, embeddings = encoding["attention_mask"], student.embed(encoding["input_ids"])
    together = student.from_embeddings(embeddings, mask)
    rubbish = torch.where(mask.unsqueeze(-1).bool(), embeddings, torch.full_like(embeddings, 50.0))
    longer = torch.nn.functional.pad(rubbish, (0, 0, 0, 6), value=-50.0)
    padded = student.from_embeddings(longer, torch.nn.functional.pad(mask, (0, 6)))
    torch.testing.assert_close(padded.logits, together.logits, atol=1e-5, rtol=0)
    if kind != "narrow":  # its padded positions hold what they hold, as in any encoder
        assert not together.hidden[mask == 0].any() and together.hidden[mask == 1].any()
    for row, text in enumerate(TEXTS):
        length = int(mask[row].sum())
        alone = student.from_embeddings(embeddings[row : row + 1, :length], mask[row : row + 1, :length])
        torch.testing.assert_close(alone.logits[0], together.logits[row], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.hidden[0], together.hidden[row, :length], atol=1e-5, rtol=0)
        torch.testing.assert_close(student.from_texts([text])[0], together.logits[row], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_real_position_is_heard_and_no_padding(kind: str, bert: Teacher) -> None:
    wide: dict[str, dict[str, Any]] = {"bilstm": {"pooling": "mean"}, "textcnn": {"filters": 300}}  # past the maximum
    student = build(kind, bert, **wide.get(kind, {})).eval()
    encoding = student.encode(TEXTS)
    embeddings = student.embed(encoding["input_ids"]).detach().requires_grad_(True)
    hidden = student.from_embeddings(embeddings, encoding["attention_mask"])
    (gradient,) = torch.autograd.grad(hidden.logits[:, 0].sum(), embeddings)
    assert torch.equal(gradient.abs().sum(dim=2) > 0, encoding["attention_mask"].bool())


@pytest.mark.parametrize("kind", KINDS)
def test_left_padding_tokenizers_are_put_right(kind: str, bert: Teacher, monkeypatch: pytest.MonkeyPatch) -> None:
    student = build(kind, bert)
    expected = logits_of(student)
    monkeypatch.setattr(student.tokenizer, "padding_side", "left")
    assert torch.equal(logits_of(student), expected)


@pytest.mark.parametrize("model_type", SUPPORTED)
@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_read_with_their_token_types(kind: str, model_type: str, teachers: Teachers) -> None:
    student = build(kind, teachers(model_type)).eval()
    encoding = dict(student.encode(PAIRS))
    encoding["token_type_ids"] = torch.zeros_like(encoding["input_ids"])
    encoding["token_type_ids"][:, 4:] = 1
    logits = student.from_encoding(encoding)
    plain = student.from_encoding({**encoding, "token_type_ids": torch.zeros_like(encoding["input_ids"])})
    assert torch.equal(logits, plain) is (model_type == "distilbert")  # it has no token types
    assert student.from_texts(PAIRS).shape == (2, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_an_electra_with_narrow_embeddings(kind: str, bert: Teacher) -> None:
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "num_hidden_layers": 1}
    config = AutoConfig.for_model(
        "electra", vocab_size=len(bert.tokenizer), embedding_size=20, num_labels=3, max_position_embeddings=30, **sizes
    )
    model = AutoModelForSequenceClassification.from_config(config)
    teacher = Teacher(TextClassifier(model, bert.tokenizer, LABELS, 24))
    check(kind, config, **KINDS[kind])
    student = build(kind, teacher)
    assert student.width == teacher.width == 20
    torch.testing.assert_close(output_of(student).logits, logits_of(student), atol=1e-5, rtol=0)


# the networks


def test_the_bilstm_reads_both_ways_and_stops_at_the_end(bert: Teacher) -> None:
    """Packed, it is the LSTM of torch run over each text alone, from either end."""
    student = build("bilstm", bert, layers=1).eval()
    encoding = student.encode(TEXTS)
    embeddings, lengths = student.embed(encoding["input_ids"]), encoding["attention_mask"].sum(dim=1)
    hidden = output_of(student).hidden
    (layer,) = student.upper.layers
    one_way = torch.nn.LSTM(bert.width, 12, batch_first=True)
    for direction, columns in (("", slice(0, 12)), ("_reverse", slice(12, 24))):
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        one_way.load_state_dict({name: getattr(layer, name + direction) for name in names})
        for row, length in enumerate(lengths.tolist()):
            text = embeddings[row, :length]
            alone = one_way(text.flip(0) if direction else text)[0]
            expected = alone.flip(0) if direction else alone
            torch.testing.assert_close(hidden[row, :length, columns], expected, atol=1e-5, rtol=0)
            assert not hidden[row, length:].any()


def test_last_states_are_each_directions_own(bert: Teacher) -> None:
    student = build("bilstm", bert, pooling="last").eval()
    hidden, mask = output_of(student).hidden, student.encode(TEXTS)["attention_mask"]
    pooled = student.upper._pool(hidden, mask)
    for row, length in enumerate(mask.sum(dim=1).tolist()):
        assert torch.equal(pooled[row], torch.cat([hidden[row, length - 1, :12], hidden[row, 0, 12:]]))


def test_the_bilstm_gives_gradients_with_its_dropout_off(bert: Teacher) -> None:
    """cuDNN differentiates an LSTM in training mode only, so the LSTMs stay in it; nothing is random all the same."""
    student = build("bilstm", bert, dropout=0.5).eval()
    assert not student.training and not student.upper.dropout.training
    assert all(layer.training for layer in student.upper.layers)
    assert student.train(False) is student and student.upper.train(False) is student.upper
    assert torch.equal(logits_of(student), logits_of(student))
    for length in (5, 9):  # packed, and at full length
        embeddings = torch.randn(2, 9, bert.width, requires_grad=True)
        mask = (torch.arange(9) < torch.tensor([[9], [length]])).long()
        first, second = (torch.autograd.grad(student.from_embeddings(embeddings, mask).logits.sum(), embeddings)[0]
                         for _ in range(2))
        assert torch.equal(first, second) and first.abs().sum() > 0


def test_convolutions_look_as_far_as_their_kernel(bert: Teacher) -> None:
    for size, reach in ((1, [4]), (2, [3, 4]), (3, [3, 4, 5]), (5, [2, 3, 4, 5, 6])):
        student = build("textcnn", bert, kernel_sizes=[size], filters=200).eval()
        embeddings, mask = torch.randn(1, 9, bert.width), torch.ones(1, 9)
        changed = embeddings.clone()
        changed[:, 4] += 1
        difference = (student.from_embeddings(changed, mask).hidden - student.from_embeddings(embeddings, mask).hidden)
        assert (difference.abs().sum(dim=(0, 2)) > 0).nonzero().flatten().tolist() == reach


def test_texts_shorter_than_a_kernel_are_read(bert: Teacher) -> None:
    student = build("textcnn", bert, kernel_sizes=[7, 8])
    assert student.from_embeddings(torch.randn(2, 3, bert.width), torch.ones(2, 3)).logits.isfinite().all()


def test_the_projection_is_fixed_orthonormal_and_seeded(bert: Teacher) -> None:
    student, again, other = (build("narrow", bert, width=8, seed=seed) for seed in (1, 1, 2))
    projection = student.upper.projection
    torch.testing.assert_close(projection @ projection.T, torch.eye(8), atol=1e-5, rtol=0)
    assert torch.equal(projection, again.upper.projection) and not torch.equal(projection, other.upper.projection)
    assert "upper.projection" in student.state_dict()
    assert "upper.projection" not in dict(student.named_parameters())


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_a_narrow_student_is_narrow_throughout(model_type: str, teachers: Teachers) -> None:
    student = build("narrow", teachers(model_type), width=8, layers=3, heads=2, feed_forward=24)
    model = student.upper.model
    widths = {parameter.shape[-1] for parameter in model.parameters() if parameter.dim() > 1}
    assert widths == {8, 24}  # no projection of ELECTRA's own, no table of embeddings
    assert model.config.num_hidden_layers == 3 and model.config.num_attention_heads == 2
    assert not any("embedding" in name for name, _ in student.upper.named_parameters())
    assert teachers(model_type).classifier.model.config.hidden_size == 32


def test_heads_divide_the_width() -> None:
    config = AutoConfig.for_model("bert", hidden_size=384, num_attention_heads=12)  # heads of 32
    for width, heads in ((None, 6), (64, 2), (200, 5), (100, 2), (97, 1), (16, 1)):
        assert narrow.narrow_heads(narrow.Options(width=width), config) == heads


def test_masked_pooling() -> None:
    hidden = torch.tensor([[[1.0, -5.0], [3.0, -7.0], [9.0, 9.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert masked_max(hidden, mask).tolist() == [[3.0, -5.0]]
    assert masked_mean(hidden, mask).tolist() == [[2.0, -6.0]]


# options


OPTIONS: dict[str, dict[str, Any]] = {
    "bilstm": {"hidden": 7, "layers": 1, "pooling": "mean", "dropout": 0.5},
    "textcnn": {"kernel_sizes": [4], "filters": 7, "dropout": 0.5},
    "narrow": {"width": 8, "layers": 2, "heads": 1, "feed_forward": 10, "dropout": 0.5},
}


@pytest.mark.parametrize("kind, option", [(kind, option) for kind in OPTIONS for option in OPTIONS[kind]])
def test_every_option_acts(kind: str, option: str, bert: Teacher) -> None:
    def logits(**options: Any) -> torch.Tensor:
        student = build(kind, bert, **{"dropout": 0.1, **options})
        torch.manual_seed(3)
        return student.train().from_texts(TEXTS)

    assert torch.equal(logits(), logits())
    assert not torch.equal(logits(), logits(**{option: OPTIONS[kind][option]}))


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_of_options_is_complete(kind: str) -> None:
    names = {option.name for option in registry.STUDENTS.describe(kind)[1]}
    assert names - {"freeze_embeddings"} == set(OPTIONS[kind])  # that one: the tests of freezing
    documented = str(registry.STUDENTS.module(kind).Options.__doc__)
    assert [name for name in names if f"{name}: " not in documented] == []


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_what_the_option_says(kind: str, bert: Teacher) -> None:
    def noise(student: Any) -> float:
        with torch.no_grad():
            return float((student.train().from_texts(TEXTS) - student.from_texts(TEXTS)).abs().max())

    assert noise(build(kind, bert, dropout=0.0)) == 0.0 < noise(build(kind, bert, dropout=0.5))
    modules = [m.p for m in build(kind, bert, dropout=0.3).upper.modules() if isinstance(m, torch.nn.Dropout)]
    assert modules and set(modules) == {0.3}


@pytest.mark.parametrize("pooling", ["max", "mean", "last"])
def test_poolings_differ(pooling: str, bert: Teacher) -> None:
    others = {"max", "mean", "last"} - {pooling}
    logits = logits_of(build("bilstm", bert, pooling=pooling))
    assert all(not torch.equal(logits, logits_of(build("bilstm", bert, pooling=other))) for other in others)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "injects, freeze, frozen", [("tokens", None, True), ("tokens", True, True), ("tokens", False, False),
                                ("embeddings", None, True), ("embeddings", True, True)]
)
def test_the_block_is_frozen_unless_told(
    kind: str, injects: str, freeze: bool | None, frozen: bool, bert: Teacher
) -> None:
    student = build(kind, bert, injects, freeze_embeddings=freeze)
    assert {parameter.requires_grad for parameter in student.embedding_parameters()} == {not frozen}
    assert all(parameter.requires_grad for parameter in student.upper.parameters())
    trained = {id(p) for group in build_optimizer(student, (), TrainConfig()).param_groups for p in group["params"]}
    assert trained & {id(p) for p in student.embedding_parameters()} == (
        set() if frozen else {id(p) for p in student.embedding_parameters()}
    )
    student.from_texts(TEXTS).sum().backward()
    assert all((p.grad is None) is frozen for p in student.embedding_parameters())
    assert not any(p.requires_grad or p.grad is not None for p in bert.classifier.parameters())


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("bilstm", {"hidden": 0}, "student.hidden' is out of range\n  expected: 1 or more\n  found: 0"),
    ("bilstm", {"layers": 0}, "student.layers' is out of range"),
    ("bilstm", {"dropout": 1.0}, r"expected: in \[0, 1\)"),
    ("bilstm", {"pooling": "min"}, "student.pooling"),
    ("textcnn", {"kernel_sizes": []}, r"student.kernel_sizes.*\n  expected: a list of distinct sizes.*\[3,4,5\]"),
    ("textcnn", {"kernel_sizes": [3, 0]}, "student.kernel_sizes"),
    ("textcnn", {"kernel_sizes": [3, 3]}, "student.kernel_sizes"),
    ("textcnn", {"filters": 0}, "student.filters"),
    ("textcnn", {"dropout": -0.1}, "student.dropout"),
    ("narrow", {"width": 0}, "student.width"),
    ("narrow", {"heads": 0}, "student.heads"),
    ("narrow", {"feed_forward": 0}, "student.feed_forward"),
    ("narrow", {"layers": 0}, "student.layers"),
    ("narrow", {"dropout": 1.5}, "student.dropout"),
    ("narrow", {"width": 40}, "wider than the teacher's embeddings\n  expected: student.width of 1 to 32\n  found: 40\n"
     ".*leave student.width out"),
    ("narrow", {"width": 12, "heads": 5}, "5 attention heads do not divide a width of 12\n"
     "  expected: student.heads of 1, 2, 3, 4, 6, 12\n  found: 5"),
    ("narrow", {"layer": 3}, "did you mean 'layers'"),
    *[(kind, {"freeze_embeddings": False}, "freeze_embeddings=false does not go with a strategy that injects")
      for kind in KINDS],
]


@pytest.mark.parametrize("kind, options, said", REFUSED)
def test_options_that_cannot_be(kind: str, options: dict[str, Any], said: str, bert: Teacher) -> None:
    with pytest.raises(ConfigError, match=said):
        check(kind, bert.classifier.model.config, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("injects", ["tokens", "embeddings"])
def test_teachers_that_cannot_be_split_are_refused(
    kind: str, injects: str, encoders: Callable[[str], Path]
) -> None:
    said = (f"student={kind} needs a teacher that can be split.*\n  expected: one of bert, distilbert, electra, roberta"
            "\n  found: a 'albert' teacher\n.*student=truncated or student=pretrained with a strategy that makes texts")
    with pytest.raises(ConfigError, match=said):
        check(kind, sources.load_config(str(encoders("albert"))), injects)


def test_students_without_the_block_are_sent_to_those_that_have_it(bert: Teacher, toy_encoder: Path) -> None:
    with pytest.raises(ConfigError, match="cannot learn from injected ones") as caught:
        facts = Facts(bert.classifier.model.config, "embeddings", 24, remedy="strategy.snap=true")
        registry.check("pretrained", pretrained.Options(str(toy_encoder)), facts)
    remedies = str(caught.value).partition("what to do: ")[2]
    assert all(kind in remedies for kind in ("student=truncated", *KINDS, "add strategy.snap=true"))


# saving and loading


@pytest.mark.parametrize("model_type", SUPPORTED)
@pytest.mark.parametrize("kind", KINDS)
def test_saved_students_answer_the_same_without_their_teacher(
    kind: str, model_type: str, teachers: Teachers, tmp_path: Path
) -> None:
    student = build(kind, teachers(model_type))
    student.save(tmp_path, strategy="none")
    torch.manual_seed(7)
    before = torch.get_rng_state()
    again = registry.load(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert not again.training
    assert torch.equal(logits_of(again), logits_of(student)) and torch.equal(
        logits_of(again, PAIRS), logits_of(student, PAIRS)
    )
    assert same_parameters(again, student)
    assert (again.labels, again.max_length, again.blueprint.options) == (LABELS, 24, student.blueprint.options)
    assert again.tokenizer.get_vocab() == student.tokenizer.get_vocab()
    facts = json.loads((tmp_path / "dfkd.json").read_text())
    assert (facts["kind"], facts["strategy"]) == (kind, "none")
    assert str(Path(sources.__file__).parent) not in (tmp_path / "dfkd.json").read_text()
    assert sorted(p.suffix for p in tmp_path.glob("model.*")) == [".safetensors"]


@pytest.mark.parametrize("kind", KINDS)
def test_loaded_students_can_be_saved_again(kind: str, bert: Teacher, tmp_path: Path) -> None:
    build(kind, bert).save(tmp_path / "a")
    registry.load(tmp_path / "a").save(tmp_path / "b")
    for name in ("model.safetensors", "dfkd.json", "tokenizer.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_is_a_student_of_its_own(kind: str, bert: Teacher) -> None:
    student = build(kind, bert)
    before, twin = logits_of(student), copy.deepcopy(student)
    assert torch.equal(logits_of(twin), before)
    with torch.no_grad():
        for parameter in twin.upper.parameters():
            parameter.zero_()
    assert torch.equal(logits_of(student), before) and not logits_of(twin).any()


def test_folders_without_a_kind_are_classifiers(toy_teacher: Path) -> None:
    assert registry.kind_of(toy_teacher) is None
    assert isinstance(registry.load(toy_teacher), TextClassifier)


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "weights cut off": (lambda f: f.write_bytes(f.read_bytes()[:1000]), "model.safetensors"),
    "no weights": (lambda f: f.unlink(), "model.safetensors"),
    "no tokenizer": (lambda f: f.unlink(), "tokenizer.json"),
    "another size": (lambda f: f.write_text(f.read_text().replace('"filters": 10', '"filters": 11')), "dfkd.json"),
    "a fact missing": (lambda f: f.write_text(f.read_text().replace('"encoder"', '"x"')), "dfkd.json"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_students_are_told(name: str, bert: Teacher, tmp_path: Path) -> None:
    build("textcnn", bert).save(tmp_path)
    damage, file = DAMAGE[name]
    damage(tmp_path / file)
    said = "the student in '.*' cannot be loaded\n  expected: the files that its run wrote\n  found: .*\n.*run=NAME"
    with pytest.raises(ConfigError, match=said):
        registry.load(tmp_path)


def test_unreadable_facts_are_told(bert: Teacher, tmp_path: Path) -> None:
    build("textcnn", bert).save(tmp_path)
    (tmp_path / "dfkd.json").write_text("{")
    with pytest.raises(ConfigError, match="dfkd.json' is damaged\n  expected: JSON"):
        finished.load_student(tmp_path)
    (tmp_path / "dfkd.json").write_text('{"kind": "textcn"}')
    with pytest.raises(ConfigError, match="did you mean 'textcnn'"):
        finished.load_student(tmp_path)


def test_such_a_student_is_no_model_to_start_from(bert: Teacher, tmp_path: Path) -> None:
    build("bilstm", bert).save(tmp_path)
    said = "holds a 'bilstm' student, which transformers cannot load\n  expected: an encoder or a classifier"
    for load in (sources.load_config, load_classifier):
        with pytest.raises(ConfigError, match=said):
            load(str(tmp_path))  # type: ignore[operator]


# what they cost


def matrices(student: Any) -> int:
    """Multiply-adds of one position in the matrices of the network above the block, classifier and pooler aside."""
    parameters = {name: p for name, p in student.upper.named_parameters() if p.dim() > 1}
    return sum(p.numel() for name, p in parameters.items() if not name.startswith(("classifier", "model.classifier"))
               and "pooler" not in name)


@pytest.mark.parametrize("kind", KINDS)
def test_cost(kind: str, bert: Teacher) -> None:
    student, length = build(kind, bert), bert.max_length
    block = sum(p.numel() for p in bert.classifier.embedding_parameters())
    counts = cost.parameter_counts(student)
    assert counts["parameters"] - counts["parameters_without_embeddings"] == block
    above = {"bilstm": 2 * (4 * 12 * (32 + 12 + 2)) + 2 * (4 * 12 * (24 + 12 + 2)) + 3 * (24 + 1),
             "textcnn": 10 * (2 * 32 + 1) + 10 * (3 * 32 + 1) + 3 * (20 + 1)}
    above["narrow"] = sum(p.numel() for p in student.upper.parameters())
    assert counts["parameters_without_embeddings"] == above[kind]
    expected = length * matrices(student) + HIDDEN[kind] * len(LABELS)
    if kind == "narrow":  # projection; attention; pooler
        expected += length * 32 * 16 + 2 * length * length * 16 + 16 * 16
    assert cost.multiply_adds(student) == expected


@pytest.mark.filterwarnings("ignore:TF32")  # torch warns of its own switch
@pytest.mark.parametrize("layers", [1, 3])
def test_recurrence_is_counted_with_and_without_the_fused_kernel(layers: int, bert: Teacher) -> None:
    student = build("bilstm", bert, layers=layers)
    fused = cost.multiply_adds(student)
    with torch.backends.mkldnn.flags(enabled=False):
        assert cost.multiply_adds(student) == fused == bert.max_length * matrices(student) + 24 * 3


def test_latency_is_measured(bert: Teacher) -> None:
    students = {kind: build(kind, bert) for kind in KINDS}
    timed = cost.latency(students, (1, 2), 1, 24)
    assert all(timed[kind]["2"]["p50_ms"] > 0 and students[kind].training for kind in KINDS)


# learning


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("injects", ["tokens", "embeddings"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls_on_a_fixed_batch(kind: str, injects: str, precision: str, bert: Teacher) -> None:
    student = build(kind, bert, injects, dropout=0.0)
    encoding = student.encode(TEXTS)
    batch = PseudoBatch(texts=TEXTS) if injects == "tokens" else PseudoBatch(
        embeddings=bert.embed(encoding["input_ids"]), attention_mask=encoding["attention_mask"]
    )
    targets = torch.tensor([[4.0, 0, 0], [0, 4.0, 0], [0, 0, 4.0]])
    optimizer = build_optimizer(student, (), TrainConfig(learning_rate=1e-2))
    losses = []
    for _ in range(40):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            output = student.from_batch(batch)
        loss = distillation_kl(output.logits if isinstance(output, Output) else output, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.1 * losses[0]
    assert same_parameters(student.embedding_block, bert.classifier.embedding_block)


# AS-DFD on them


@pytest.mark.parametrize("kind", KINDS)
def test_mask_loss_trains_student_and_map(kind: str, bert: Teacher, toy_data: DataConfig) -> None:
    student = build(kind, bert)
    given = {"length_per": "sample", "min_length": 5, "difficulty": "mask", "difficulty_weight": 1, "mask_weight": 1}
    options = strategies.options("as_dfd", given)
    context = Context(bert, student, seeding.generator(0, "synthesis"), False, toy_data.prompts, lambda: TEXTS)
    strategy: Any = strategies.build("as_dfd", options, context)
    assert strategy.supervision.map.weight.shape == (bert.width, HIDDEN[kind]) != (bert.width, bert.width)
    batch = strategy.synthesize(8)
    assert batch.attention_mask.min() == 0 and batch.info["mask_loss_first"] > 0
    assert all(parameter.grad is None for parameter in student.parameters())
    optimizer = build_optimizer(student, strategy.parameters(), TrainConfig(learning_rate=5e-3))
    losses = []
    for _ in range(30):
        strategy.generator.manual_seed(5)
        loss = strategy.student_losses(student, batch)["mask"]
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is None for parameter in student.embedding_parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_from_its_options_to_its_predictions(kind: str, toy_teacher: Path, tmp_path: Path) -> None:
    settings = ["data=toy", f"teacher={toy_teacher}", "strategy=as_dfd", f"runs={tmp_path}", f"student={kind}"]
    settings += [f"student.{name}={value}" for name, value in KINDS[kind].items()]
    quick = ["train.steps=5", "train.batch_size=8", "evaluate.latency_rounds=1", "device=cpu", "precision=float32"]
    config = pipeline.load_config([*settings, *quick])
    result = pipeline.run(config)
    folder = tmp_path / config.run_name()
    student = finished.load_student(folder)
    teacher = teaching.load_teacher(config)
    assert same_parameters(student.embedding_block, teacher.classifier.embedding_block)
    assert result["student"]["cost"]["multiply_adds"] > 0 and result["student"]["cost"]["latency"]["1"]["p50_ms"] > 0
    assert result["student"]["cost"]["file_bytes"] > 4 * result["student"]["cost"]["parameters"]
    assert finished.evaluate(folder, [])["accuracy"] == pytest.approx(result["student"]["scores"]["accuracy"])
    moved = shutil.copytree(folder / "student", tmp_path / "moved")
    for place in (folder, moved):
        answers = finished.predict_texts(place, TEXTS)
        assert [answer["text"] for answer in answers] == list(TEXTS)
        assert all(answer["label"] in LABELS for answer in answers)


@pytest.fixture(autouse=True)
def teachers_stay_as_they_are(teachers: Teachers) -> Iterator[None]:
    """No test may leave a trace on the shared teachers."""
    before = {name: value.clone() for name, value in teachers("bert").classifier.state_dict().items()}
    yield
    assert all(torch.equal(value, before[name]) for name, value in teachers("bert").classifier.state_dict().items())


def test_modules_are_the_kinds_of_their_names() -> None:
    assert set(KINDS) <= set(registry.STUDENTS.available())
    assert not any(name.startswith("_") for name in registry.STUDENTS.available())
    for module in (bilstm, textcnn, narrow):
        assert registry.STUDENTS.module(module.__name__.rpartition(".")[2]) is module


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_brings_the_student_to_the_teacher(kind: str, toy_teacher: Path, tmp_path: Path) -> None:
    settings = ["data=toy", f"teacher={toy_teacher}", "strategy=real_text", f"runs={tmp_path}", f"student={kind}"]
    settings += ["student.dropout=0", "train.steps=80", "train.batch_size=32", "train.learning_rate=5e-3"]
    settings += ["evaluate.latency_rounds=0", "device=cpu", "precision=float32"]
    assert pipeline.run(pipeline.load_config(settings))["student"]["agreement"] > 0.9
