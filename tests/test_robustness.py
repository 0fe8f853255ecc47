"""The attacks: what they change, what they may spend, how they choose; on real tiny models."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any, Callable, Sequence

import pytest
import torch
from conftest import toy_texts

from dfkd import tasks
from dfkd.batch import Text
from dfkd.config import DataConfig
from dfkd.errors import ConfigError
from dfkd.models import tiny
from dfkd.models.classifier import TextClassifier, load_classifier, load_tokenizer
from dfkd.robustness import registry
from dfkd.robustness._bench import Bench
from dfkd.robustness._documents import Document, like, stop_words
from dfkd.robustness._measures import measures, transfer
from dfkd.robustness._search import Attempt, Spot, _importance, _take_best
from dfkd.robustness.base import Budget, Context, Perturbed, Victim
from dfkd.robustness.characters import cost
from dfkd.robustness.masked import Masked

NAMES = ("characters", "masked", "neighbours")
LOOSE = {  # so that models of random weights have something to say
    "characters": {}, "masked": {"probability": 0.0, "candidates": 6},
    "neighbours": {"similarity": -1.0, "candidates": 100},
}


@pytest.fixture(scope="module")
def teacher(toy_teacher: Path) -> TextClassifier:
    """The toy teacher's classifier."""
    return load_classifier(str(toy_teacher)).eval()


@pytest.fixture(scope="module")
def masked_model(toy_data: DataConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny random masked language model over the toy data's vocabulary."""
    return tiny.build(tmp_path_factory.mktemp("masked") / "bert", toy_texts(toy_data), masked=True)


@pytest.fixture(scope="module")
def items(toy_data: DataConfig) -> tuple[list[Text], list[int]]:
    """Ten test items: texts and labels."""
    test = tasks.load(toy_data).hand_out("test", to="evaluate")
    return list(test.texts[:10]), list(test.labels[:10])


Perturb = Callable[..., "list[Perturbed]"]


@pytest.fixture(scope="module")
def perturb(teacher: TextClassifier, masked_model: Path, items: tuple[list[Text], list[int]]) -> Perturb:
    """Attack the toy teacher; the items and the loose options stand in for what is not given."""

    def attack(
        name: str, texts: Sequence[Text] | None = None, labels: Sequence[int] | None = None, seed: int = 0,
        column: int = 0, victim: Victim | None = None, **options: Any,
    ) -> list[Perturbed]:
        given = {**LOOSE[name], **({"model": str(masked_model)} if name == "masked" else {}), **options}
        victim = victim or Victim(teacher)
        context = Context(victim, teacher, seed, column)
        built = registry.build(name, registry.options(name, given), context)
        return built.perturb(victim, texts or items[0], items[1] if labels is None else labels)

    return attack


# what all attacks hold

def test_every_module_is_an_attack_with_documented_options() -> None:
    assert registry.ATTACKS.available() == sorted(NAMES)
    for name in NAMES:
        line, options = registry.ATTACKS.describe(name)
        assert line and all(option.help for option in options)
        assert {"max_share", "max_queries"} < {option.name for option in options}


@pytest.mark.parametrize("name", NAMES)
def test_attacked_accuracy_falls_within_the_budget_and_every_query_is_counted(
    perturb: Perturb, teacher: TextClassifier, items: tuple[list[Text], list[int]], name: str
) -> None:
    victim = Victim(teacher)
    made = perturb(name, victim=victim, max_share=0.35, max_queries=200)
    found = measures(made)
    assert found["accuracy"] > 0.9 and found["accuracy_under_attack"] < found["accuracy"] - 0.2  # type: ignore
    assert victim.queries == sum(one.queries for one in made)
    for one, text, label in zip(made, *items):
        assert one.original == text and one.label == label and one.queries <= 200
        assert len(one.changed) <= int(0.35 * one.words) and one.words == len(str(text).split())
        assert (one.text != text) == bool(one.changed)
        assert all(old.islower() and new.islower() and old not in stop_words() for old, new in one.changed)
    # and the victim does say what is reported of it
    again = Victim(teacher).probabilities([one.text for one in made]).argmax(dim=1).tolist()
    assert again == [one.after for one in made]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("budget", [{"max_share": 0.0}, {"max_share": 0.05}, {"max_queries": 1}])
def test_without_a_budget_nothing_is_changed(perturb: Perturb, name: str, budget: dict[str, float]) -> None:
    made = perturb(name, **budget)
    assert all(one.text == one.original and one.queries == 1 and not one.succeeded for one in made)


@pytest.mark.parametrize("name", NAMES)
def test_a_text_becomes_the_same_whatever_stands_beside_it(
    perturb: Perturb, items: tuple[list[Text], list[int]], name: str
) -> None:
    texts, labels = items
    whole = perturb(name, max_share=0.35, max_queries=30)
    assert any(one.changed for one in whole)
    assert perturb(name, max_share=0.35, max_queries=30) == whole
    assert perturb(name, texts[5:2:-1], labels[5:2:-1], max_share=0.35, max_queries=30) == whole[5:2:-1]


def test_the_seed_decides_which_characters(perturb: Perturb) -> None:
    assert [one.text for one in perturb("characters", seed=1)] != [one.text for one in perturb("characters", seed=2)]


def test_what_is_misclassified_is_left_alone(perturb: Perturb, items: tuple[list[Text], list[int]]) -> None:
    wrong = [(label + 1) % 3 for label in items[1]]
    made = [one for one in perturb("characters", labels=wrong) if one.before != one.label]
    assert len(made) > 7 and all(not one.attacked and not one.succeeded for one in made)
    assert all(one.text == one.original and one.queries == 1 for one in made)


@pytest.mark.parametrize("name", NAMES)
def test_case_is_kept(perturb: Perturb, items: tuple[list[Text], list[int]], name: str) -> None:
    texts = [str(items[0][0]).upper(), str(items[0][1]).title()]
    loud, titled = perturb(name, texts, items[1][:2], max_share=1.0)
    assert loud.changed and all(new.isupper() for _, new in loud.changed)
    assert titled.changed and all(new.istitle() for _, new in titled.changed)


@pytest.mark.parametrize("column", [0, 1])
def test_of_pairs_one_text_is_changed(
    perturb: Perturb, items: tuple[list[Text], list[int]], column: int
) -> None:
    pairs: list[Text] = [(str(text), str(text)) for text in items[0]]
    changed = [one for one in perturb("characters", pairs, column=column) if one.changed]
    assert changed
    for one in changed:
        assert one.text[column] != one.original[column] and one.text[1 - column] == one.original[1 - column]


def test_only_some_words_of_a_long_text_are_ranked(perturb: Perturb, items: tuple[list[Text], list[int]]) -> None:
    long = [" ".join(map(str, items[0]))]
    made, = perturb("neighbours", long, [perturb("neighbours", long, [0])[0].before], max_queries=21, max_share=0.02)
    assert 10 < made.queries <= 21  # ten of them rank words


def test_the_word_that_matters_most_is_tried_first(
    perturb: Perturb, teacher: TextClassifier, items: tuple[list[Text], list[int]]
) -> None:
    victim, changed = Victim(teacher), 0
    for text, label in zip(items[0][:6], items[1]):
        document = Document.of(text)
        share = 1 / len(document.words)  # one word
        one, = perturb("characters", [text], [label], max_share=share)
        touched = [i for i, word in enumerate(document.words) if len(word) > 2 and word not in stop_words()]
        masks = [document.replaced(i, "[UNK]").text for i in touched]
        first = touched[int(victim.probabilities(masks)[:, label].argmin())]
        changed += len(one.changed)
        assert [old for old, _ in one.changed] in ([], [document.words[first]])
    assert changed >= 3


# the search

def attempt(probabilities: Sequence[float], label: int = 0) -> Attempt:
    made = Attempt(Document.of("one two"), label, Random(0), Budget())
    made.probabilities = torch.tensor(probabilities)
    return made


def test_the_first_flip_is_taken_else_the_worst_that_hurts() -> None:
    documents = [Document.of(text) for text in ("a two", "b two", "c two")]
    best = attempt([0.9, 0.1])
    _take_best(best, documents, torch.tensor([[0.8, 0.2], [0.4, 0.6], [0.1, 0.9]]))
    assert best.current.text == "b two" and best.predicted == 1
    worst = attempt([0.9, 0.1])
    _take_best(worst, documents, torch.tensor([[0.8, 0.2], [0.6, 0.4], [0.7, 0.3]]))
    assert worst.current.text == "b two" and worst.predicted == 0
    unharmed = attempt([0.9, 0.1])
    _take_best(unharmed, documents, torch.tensor([[0.91, 0.09]] * 3))
    assert unharmed.current.text == "one two" and float(unharmed.probabilities[0]) == pytest.approx(0.9)


def test_importance_counts_the_rise_of_a_new_class_where_asked() -> None:
    flipped, kept = torch.tensor([0.3, 0.6, 0.1]), torch.tensor([0.5, 0.3, 0.2])
    assert _importance(attempt([0.7, 0.2, 0.1]), flipped, margin=False) == pytest.approx(0.4)
    assert _importance(attempt([0.7, 0.2, 0.1]), flipped, margin=True) == pytest.approx(0.8)
    assert _importance(attempt([0.7, 0.2, 0.1]), kept, margin=True) == pytest.approx(0.2)


# documents

@pytest.mark.parametrize("text", ["", "  two  spaces ", "It's 3.5% — déjà vu!", "_x_ (a)", "word"])
def test_a_document_joins_to_its_text(text: str) -> None:
    assert Document.of(text).text == text


def test_words_are_left_out_with_their_space() -> None:
    document = Document.of("A fine, warm day.")
    assert document.words == ("A", "fine", "warm", "day")
    left = [document.without(position).text for position in range(4)]
    assert left == ["fine, warm day.", "A , warm day.", "A fine, day.", "A fine, warm ."]
    assert document.replaced(1, "bad").changed_from(document) == [1]
    assert document.around(2, 1).text == "fine, warm day" and document.around(0, 1).text == "A fine"
    assert Document.of(("a b", "c"), 1).replaced(0, "d").text == ("a b", "d")


def test_case_patterns() -> None:
    assert [like(word, "neW") for word in ("old", "Old", "OLD", "A", "iPhone", "McX")] == [
        "new", "New", "NEW", "New", "new", "New"
    ]


# characters

@pytest.mark.parametrize(
    "edit, length, price", [("swap", 0, 2), ("substitute", 0, 1), ("delete", -1, 1), ("insert", 1, 1)]
)
def test_each_edit_does_what_it_is_called(perturb: Perturb, edit: str, length: int, price: int) -> None:
    changed = [pair for one in perturb("characters", edits=[edit], max_share=1.0) for pair in one.changed]
    assert changed
    for old, new in changed:
        assert len(new) - len(old) == length and cost(old, new) == price
        assert edit != "swap" or sorted(old) == sorted(new)


def test_characters_keep_their_limits(perturb: Perturb) -> None:
    assert not any(one.changed for one in perturb("characters", max_edits=0))
    one_each = perturb("characters", max_edits=1, max_share=1.0)
    assert max(len(one.changed) for one in one_each) == 1 and any(one.changed for one in one_each)
    assert all(cost(old, new) == 1 for one in one_each for old, new in one.changed)  # a swap costs two
    spent = [sum(cost(*pair) for pair in one.changed) for one in perturb("characters", max_edits=3, max_share=1.0)]
    assert max(spent) == 3
    long = perturb("characters", shortest=7, max_share=1.0)
    assert min(len(old) for one in long for old, _ in one.changed) == 7


# neighbours

@pytest.fixture(scope="module")
def swaps(teacher: TextClassifier) -> Callable[..., Any]:
    """The attack on the toy teacher's own words, with a cosine to choose."""

    def build(victim: Any = teacher, **options: Any) -> Any:
        return registry.build("neighbours", registry.options("neighbours", options), Context(Victim(victim), teacher))

    return build


def test_neighbours_are_other_whole_words_nearest_first(swaps: Callable[..., Any], teacher: TextClassifier) -> None:
    attack = swaps(similarity=-1.0, candidates=1000)
    vocabulary, special = teacher.tokenizer.get_vocab(), teacher.tokenizer.all_special_tokens
    for word in ("soup", "team", "rain"):
        near = attack.nearest(word)
        assert len(near) > 50 and word not in near and not set(near) & (set(special) | stop_words())
        assert all(other in vocabulary and other.isalpha() and len(other) > 1 for other in near)
        cosines = [float(attack.table[attack.index[word]] @ attack.table[attack.index[other]]) for other in near]
        assert cosines == sorted(cosines, reverse=True)
    assert attack.nearest("zebra") == []  # not in the vocabulary


def test_neighbours_keep_their_limits(swaps: Callable[..., Any]) -> None:
    assert len(swaps(similarity=-1.0, candidates=3).nearest("soup")) == 3
    attack = swaps(similarity=0.2, candidates=1000)
    near = attack.nearest("soup")
    assert 0 < len(near) < len(swaps(similarity=-1.0, candidates=1000).nearest("soup"))
    assert all(float(attack.table[attack.index["soup"]] @ attack.table[attack.index[w]]) >= 0.2 for w in near)
    assert swaps(similarity=1.0).nearest("soup") == []


def test_the_table_is_the_teachers_or_the_victims(
    swaps: Callable[..., Any], encoders: Callable[[str], Path]
) -> None:
    other = load_classifier(str(encoders("bert")), labels=["a", "b", "c"])
    mine, own = (swaps(other, similarity=-1.0, table=table).nearest("soup") for table in ("teacher", "victim"))
    assert mine == swaps(similarity=-1.0).nearest("soup") != own


# masked language models

@pytest.fixture(scope="module")
def writer(masked_model: Path, teacher: TextClassifier) -> Callable[..., Masked]:
    def build(**options: Any) -> Any:
        given = registry.options("masked", {"model": str(masked_model), "probability": 0.0, **options})
        return registry.build("masked", given, Context(Victim(teacher), teacher))

    return build


def spot(text: str, position: int) -> Spot:
    return Spot(Document.of(text), Document.of(text), position, Random(0))


def test_a_masked_language_model_writes_the_most_probable_words(writer: Callable[..., Masked]) -> None:
    attack = writer(candidates=1000)
    proposed, = attack.propose([spot("The cook serves hot Soup today", 4)])
    assert len(proposed) > 50 and all(word.istitle() and word.isalpha() for word in proposed)
    assert "Soup" not in proposed and not {word.lower() for word in proposed} & stop_words()
    encoded = attack.tokenizer("the cook serves hot [MASK] today", return_tensors="pt")
    with torch.no_grad():
        row = attack.model(**encoded).logits[encoded["input_ids"] == attack.tokenizer.mask_token_id][0]
    ids = attack.tokenizer.convert_tokens_to_ids([word.lower() for word in proposed])
    assert row[ids].tolist() == sorted(row[ids].tolist(), reverse=True)


def test_masked_keeps_its_limits(writer: Callable[..., Masked]) -> None:
    place = spot("the cook serves hot soup and the team won the cup on sunday", 4)
    whole, = writer(candidates=1000).propose([place])
    assert len(writer(candidates=3).propose([place])[0]) == 3 and whole[:3] == writer(candidates=3).propose([place])[0]
    likely, = writer(candidates=1000, probability=0.005).propose([place])
    assert 0 < len(likely) < len(whole)
    near, = writer(candidates=1000, context=1).propose([place])
    assert near != whole and near == writer(candidates=1000, context=1).propose([spot("hot soup and", 1)])[0]


def test_masked_wants_a_masked_language_model(toy_encoder: Path, toy_teacher: Path, masked_model: Path) -> None:
    def check(**values: str) -> None:
        registry.check("masked", registry.options("masked", values))

    check(model=str(masked_model))
    with pytest.raises(ConfigError, match="needs a masked language model(.|\n)*masked.model=bert-base-uncased"):
        check()
    with pytest.raises(ConfigError, match="is no masked language model\n.*\n  found: BertForSequenceClassification"):
        check(model=str(toy_teacher))
    with pytest.raises(ConfigError, match="there is no model folder"):
        check(model="./nowhere")


def test_masked_wants_a_mask_token_and_words(masked_model: Path, tmp_path: Path) -> None:
    for file in masked_model.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tokenizer = load_tokenizer(str(masked_model))
    tokenizer.mask_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="has no mask token"):
        registry.check("masked", registry.options("masked", {"model": str(tmp_path)}))
    tiny.wordpiece(["a b c"]).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="no whole words to swap"):
        registry.check("masked", registry.options("masked", {"model": str(tmp_path)}))


# options

@pytest.mark.parametrize(
    "name, values, match",
    [
        ("characters", {"max_share": 1.5}, "'characters.max_share' is out of range"),
        ("neighbours", {"max_queries": 0}, "'neighbours.max_queries' is out of range"),
        ("characters", {"edits": ["bend"]}, "'characters.edits'(.|\n)*swap, substitute, delete, insert"),
        ("characters", {"max_edits": -1}, "'characters.max_edits'"),
        ("characters", {"shortest": 1}, "'characters.shortest'"),
        ("neighbours", {"candidates": 0}, "'neighbours.candidates'"),
        ("neighbours", {"similarity": 2}, "'neighbours.similarity'"),
        ("neighbours", {"table": "student"}, "'neighbours.table'"),
        ("masked", {"probability": 1}, "'masked.probability'"),
        ("masked", {"context": 0}, "'masked.context'"),
        ("masked", {"candidate": 3}, "unknown key 'masked.candidate'(.|\n)*did you mean 'candidates'"),
        ("mask", {}, "unknown attack 'mask'(.|\n)*did you mean 'masked'"),
    ],
)
def test_wrong_options_are_refused(name: str, values: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        registry.options(name, values)


# numbers

def perturbed(before: int, after: int, changed: int = 0, queries: int = 1) -> Perturbed:
    return Perturbed("a b c d", "x", 0, before, after, 4, (("a", "b"),) * changed, queries)


def test_measures_by_hand() -> None:
    made = [perturbed(1, 1, queries=99), perturbed(0, 1, 2, 10), perturbed(0, 2, 1, 20), perturbed(0, 0, 4, 60)]
    found = measures(made)
    assert found == {
        "items": 4, "attacked": 3, "accuracy": 0.75, "accuracy_under_attack": 0.25,
        "success_rate": pytest.approx(2 / 3), "words_changed": 0.375, "queries": 30.0,
    }
    assert measures([perturbed(1, 1)])["success_rate"] is None
    # of the two flips the other had one right before; of all four it is right on the last two
    assert transfer(made, before=[0, 0, 1, 0], after=[1, 2, 0, 0]) == {
        "accuracy": 0.5, "flips": 1, "success_rate": 1.0
    }


def test_transfer_is_turned_round_with_the_victims(
    teacher: TextClassifier, toy_data: DataConfig, items: tuple[list[Text], list[int]], tmp_path: Path
) -> None:
    other = load_classifier(str(Path(teacher.model.config.name_or_path))).eval()
    with torch.no_grad():  # another classifier of the same task: noise on its embeddings
        table = other.model.get_input_embeddings().weight
        table += 0.08 * torch.randn(table.shape, generator=torch.Generator().manual_seed(0))
    options = registry.options("characters", {"max_share": 0.35})

    def run(first: Any, second: Any, name: str) -> dict[str, Any]:
        bench = Bench(
            {"teacher": Victim(first), "student": Victim(second)}, range(10), *items, toy_data.labels, seed=0
        )
        return bench.run("characters", options, tmp_path / f"{name}.jsonl", lambda done: None)

    forth, back = run(teacher, other, "forth"), run(other, teacher, "back")
    assert forth["transfer"]["teacher_to_student"] == back["transfer"]["student_to_teacher"]
    assert forth["transfer"]["student_to_teacher"] == back["transfer"]["teacher_to_student"]
    assert forth["transfer"]["teacher_to_student"] != forth["transfer"]["student_to_teacher"]
    # texts made against a classifier hurt that one most
    assert forth["results"]["teacher"]["accuracy_under_attack"] < forth["transfer"]["student_to_teacher"]["accuracy"]


def test_a_victims_outputs_are_put_into_the_datas_order(teacher: TextClassifier) -> None:
    plain, turned = Victim(teacher), Victim(teacher, [2, 0, 1])
    assert torch.equal(turned.logits(["heavy rain"]), plain.logits(["heavy rain"])[:, [2, 0, 1]])
    assert plain.unknown == "[UNK]"
