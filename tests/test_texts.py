"""Texts without a language model, and from keywords: corpora, templates, keywords; how texts are judged and shown."""

from __future__ import annotations

import collections
import gzip
import io
import json
import lzma
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pandas
import pytest
import torch
from rich.console import Console

from dfkd import config as configs
from dfkd import corpora, pipeline, seeding, tasks, teaching
from dfkd.batch import Feedback, PseudoBatch
from dfkd.config import DataConfig
from dfkd.errors import ConfigError, DataFreeError
from dfkd.models.teacher import Teacher, reorder_outputs
from dfkd.quality import diagnostics
from dfkd.quality.alarms import FEW, WINDOW, Alarms
from dfkd.quality.diagnostics import Diagnostics
from dfkd.report.inspect import inspect_run, notes_lines, over_the_course
from dfkd.synthesis import _keywords, corpus, registry, templated
from dfkd.synthesis.base import Context, Facts
from dfkd.synthesis.keyword_prompt import KeywordPrompt

LINES = [f"Sentence number {n} is about nothing at all. And it goes on with {n} more words here!" for n in range(40)]


@pytest.fixture
def teacher(toy_teacher: Path) -> Teacher:
    return teaching.load_teacher(pipeline.load_config(["data=toy", f"teacher={toy_teacher}", "strategy=random_tokens"]))


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "outside.txt"
    path.write_text("\n".join(LINES), encoding="utf-8")
    return path


def build(name: str, teacher: Teacher, data: DataConfig, pair: bool = False, **options: Any) -> Any:
    def read(file: str, column: str, split: str, hub_config: str | None, limit: int | None) -> Any:
        return corpora.load(file, column, split, hub_config, limit).texts

    generator = seeding.generator(0, "synthesis")
    context = Context(teacher, None, generator, pair, data.prompts, tuple, corpus=read)  # type: ignore[arg-type]
    return registry.build(name, registry.options(name, options), context)


def run(toy_teacher: Path, tmp_path: Path, *settings: str) -> dict[str, Any]:
    sizes = ["student.layers=1", "train.steps=6", "train.batch_size=8", "train.heldout=8", "evaluate.latency_rounds=0"]
    given = ["data=toy", f"teacher={toy_teacher}", f"runs={tmp_path / 'runs'}", "run=it", *sizes, *settings]
    return pipeline.run(pipeline.load_config(given))


# reading a corpus

ROWS = [{"text": "a first text", "other": 1}, {"text": "", "other": 2}, {"text": "a second one", "other": 3}]


def as_jsonl(path: Path) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@pytest.mark.parametrize("name", ["c.txt", "c.txt.gz", "c.txt.xz", "c.jsonl", "c.jsonl.xz", "c.csv", "c.parquet"])
def test_corpora_are_read_from_many_kinds_of_files(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if ".txt" in name:
        content = "\ufeffa first text\r\n\n  a second one \n".encode()
    else:
        content = as_jsonl(path)
    if name.endswith(".parquet"):
        pandas.DataFrame(ROWS).to_parquet(path)
    elif name.endswith(".csv"):
        pandas.DataFrame(ROWS).to_csv(path, index=False)
    else:
        packed = {".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)
        path.write_bytes(packed(content))
    assert corpora.load(str(path)).texts == ("a first text", "a second one")
    assert corpora.load(str(path), limit=1).texts == ("a first text",)


def test_a_line_of_a_text_file_stays_one_text(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    path.write_text("one\u2028line\nand another", encoding="utf-8")
    assert corpora.load(str(path)).texts == ("one\u2028line", "and another")


def test_relative_paths_are_looked_up_under_the_data_folder(lines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFKD_DATA", str(lines.parent))
    assert len(corpora.load("outside.txt").texts) == len(LINES)


@pytest.mark.parametrize(
    ("name", "content", "column", "match"),
    [("", b"", "text", "no corpus is given"), ("none.txt", None, "text", "no corpus '.*none.txt'"),
     ("c.doc", b"x", "text", "unknown type"), ("c.txt", b"\n \n", "text", "holds no text"),
     ("c.txt", b"\xff\xfe", "text", "cannot be read"), ("c.txt.gz", b"junk", "text", "cannot be read"),
     ("c.jsonl", b'{"text": "x"}\n', "txt", "has no column 'txt'(.|\n)*did you mean 'text'"),
     ("c.jsonl", b'{"text": 3}\n', "text", "holds no text(.|\n)*int"), ("hub:no/thing", None, "text", "hub data set")],
)
def test_faulty_corpora_are_refused(name: str, content: bytes | None, column: str, match: str, tmp_path: Path) -> None:
    path = name if not name or name.startswith("hub:") else str(tmp_path / name)
    if content is not None and name:
        Path(path).write_bytes(content)
    with pytest.raises(ConfigError, match=match):
        corpora.load(path, column)


# the firewall

def test_the_tasks_own_texts_are_no_corpus(toy_data: DataConfig, lines: Path, tmp_path: Path) -> None:
    log: list[dict[str, Any]] = []
    task = tasks.load(toy_data, log.append)
    train = tasks.load(toy_data).hand_out("train", to="teacher_training").texts
    own = Path(str(toy_data.folder)) / toy_data.files["train"]
    with pytest.raises(DataFreeError, match="is the task's own data set 'toy'"):
        task.admit("x", ["a text"], "corpus", path=own)
    with pytest.raises(DataFreeError, match="100.0% of its texts are the task's"):
        task.admit("x", [str(text).upper() for text in train], "corpus", path=lines)
    task.admit("x", [*LINES * 10, str(train[0])], "corpus", path=lines)  # a coincidence is no crime
    assert [record["refused"] for record in log] == [True, True, False]
    many = [*(f"a text of number {number}" for number in range(200 * len(train))), *map(str, train)]
    with pytest.raises(DataFreeError, match="100.0% of the train split's texts are in it"):  # 0.5 % of the corpus
        tasks.load(toy_data).admit("x", many, "corpus")
    few = replace(toy_data, folder=tmp_path, files={"train": str(own), "test": "few.csv"})
    texts = [f"thank you so very much number {n}" for n in range(77)]  # 5 / 77 * 77 is less than 5 in floats
    (tmp_path / "few.csv").write_text("text,label\n" + "".join(
        f"{text},{toy_data.labels[n % 3]}\n" for n, text in enumerate(texts)
    ))
    wide = [f"a text of number {number}" for number in range(5000)]
    tasks.load(few).admit("x", [*wide, *texts[:4]], "corpus")  # 5 % of a small split, which may be chance
    with pytest.raises(DataFreeError, match="6.5% of the test split's texts are in it"):
        tasks.load(few).admit("x", [*wide, *texts[:5]], "corpus")
    phrases = replace(toy_data, folder=tmp_path, files={"train": "phrases.csv", "test": "phrases.csv"})
    (tmp_path / "phrases.csv").write_text("text,label\n" + "".join(
        f"phrase {n},{toy_data.labels[n % 3]}\n" for n in range(60)
    ))
    common = [f"{kind} {n}" for kind in ("phrase", *(f"word{k}" for k in range(200))) for n in range(60)]
    tasks.load(phrases).admit("x", common, "corpus")  # all of the task's, but of two words each
    assert log[-1]["rows"] == 401 and 0 < log[-1]["shared"] < 0.01 and log[-1]["to"] == "corpus"
    with pytest.raises(DataFreeError, match="hub data set of the task"):
        tasks.Task(replace(toy_data, hub="toys/toy")).admit("x", ["a"], "corpus", hub="toys/toy")


def test_a_held_out_share_of_the_training_file_is_no_corpus(toy_data: DataConfig) -> None:
    held = replace(toy_data, files={"train": toy_data.files["train"]}, holdout=0.3)
    texts = [str(text) for text in tasks.load(held).hand_out("test", to="evaluate").texts]
    train = tasks.load(held).hand_out("train", to="teacher_training").texts
    foreign = [text for text in texts if text not in set(train)]
    assert foreign  # texts of the held-out share alone
    with pytest.raises(DataFreeError, match="100.0% of its texts are the task's"):
        tasks.load(held).admit("x", foreign, "corpus")


def test_a_run_on_a_corpus_logs_it_and_one_on_the_task_is_refused(
    toy_teacher: Path, toy_data: DataConfig, lines: Path, tmp_path: Path
) -> None:
    result = run(toy_teacher, tmp_path, "strategy=corpus", f"strategy.file={lines}")
    assert result["strategy"]["uses_real_text"] is False and result["fidelity"]["samples"] == 8
    log = [json.loads(line) for line in (tmp_path / "runs/it/access.jsonl").read_text().splitlines()]
    assert [(r["split"], r["to"], r["rows"]) for r in log] == [("corpus", "corpus", 40), ("test", "evaluate", 81)]
    own = Path(str(toy_data.folder)) / toy_data.files["test"]
    with pytest.raises(DataFreeError, match="the task's own"):
        run(toy_teacher, tmp_path / "other", "strategy=corpus", f"strategy.file={own}")
    assert not (tmp_path / "other").exists()  # before any work


# cutting, and the order

def test_texts_are_cut(lines: Path) -> None:
    text = 'He came. "It is late," she said. Go! ' + " ".join(str(n) for n in range(10))
    given: Callable[..., list[str]] = lambda **options: corpus.cut([text, text], corpus.Options(**options))
    assert given(min_words=2, max_words=5) == [
        "He came.", '"It is late," she said.', "0 1 2 3 4", "5 6 7 8 9"
    ]
    assert given(cut="pieces", min_words=3, max_words=16) == [" ".join(text.split()[:16])]
    assert given(cut="lines") == [text]


def test_corpus_texts_come_once_and_held_out_ones_never(teacher: Teacher, toy_data: DataConfig, lines: Path) -> None:
    strategy = build("corpus", teacher, toy_data, file=str(lines), cut="lines")
    held = strategy.hold_out(8).texts
    seen = [text for _ in range(2) for text in strategy.synthesize(16).texts]
    assert len(set(seen)) == 32 and not set(seen) & set(held)
    again = strategy.synthesize(32).texts
    assert set(again) == set(seen) and list(again) != seen
    assert len(strategy.hold_out(8).texts) == 2 and strategy.hold_out(8) is None  # three quarters stay


def test_corpus_makes_pairs(teacher: Teacher, toy_data: DataConfig, lines: Path) -> None:
    strategy = build("corpus", teacher, toy_data, pair=True, file=str(lines), cut="lines")
    texts = strategy.synthesize(20).texts
    assert len({part for pair in texts for part in pair}) == 40 and len(texts[0]) == 2


@pytest.mark.parametrize(
    "changed", [{"cut": "lines"}, {"cut": "pieces"}, {"min_words": 9}, {"max_words": 5}, {"limit": 3}],
    ids=lambda changed: next(iter(changed)),
)
def test_corpus_options_act(changed: dict[str, Any], teacher: Teacher, toy_data: DataConfig, lines: Path) -> None:
    texts = [set(build("corpus", teacher, toy_data, file=str(lines), **o).texts) for o in ({}, changed)]
    assert texts[0] != texts[1]


def test_a_corpus_without_long_texts_is_refused(teacher: Teacher, toy_data: DataConfig, lines: Path) -> None:
    with pytest.raises(ConfigError, match="no text of 30 words or more"):
        build("corpus", teacher, toy_data, file=str(lines), min_words=30)
    with pytest.raises(ConfigError, match="there is no way to a corpus here"):
        corpus.check(corpus.Options(file="x"), Facts(toy_data.labels, {}))


# templates

def test_templates_hold_the_words_of_their_class_evenly(teacher: Teacher, toy_data: DataConfig) -> None:
    batch = build("templated", teacher, toy_data, label_words="describe").synthesize(30)
    assert batch.targets.sum(dim=0).tolist() == [10, 10, 10]
    for text, prompt, target in zip(batch.texts, batch.prompts, batch.targets):
        assert prompt == toy_data.prompts["describe"][toy_data.labels[int(target.argmax())]] and prompt in text


def test_small_batches_miss_no_class_for_good(teacher: Teacher, toy_data: DataConfig) -> None:
    strategy = build("templated", teacher, toy_data)
    seen = torch.stack([strategy.synthesize(2).targets.sum(dim=0) for _ in range(60)]).sum(dim=0)
    assert seen.min() > 20  # 40 expected of each of three classes


def test_the_teacher_mostly_sees_the_class_of_the_template(teacher: Teacher, toy_data: DataConfig) -> None:
    batch = build("templated", teacher, toy_data, max_words=2).synthesize(60)
    assert (teacher.label(batch).argmax(dim=1).cpu() == batch.targets.argmax(dim=1)).float().mean() > 0.6


def test_label_words_come_from_where_they_shall(toy_data: DataConfig) -> None:
    labels, prompts = toy_data.labels, toy_data.prompts
    assert templated.class_phrases(labels, prompts, "name") == [[label] for label in labels]
    assert templated.class_phrases(labels, prompts, "topics")[0] == prompts["topics"]["weather"]
    with pytest.raises(ConfigError, match="no words for food, sport(.|\n)*label_words=name"):
        templated.class_phrases(labels, {"describe": {"weather": "rain"}}, "describe")


@pytest.mark.parametrize(
    ("options", "match"),
    [({"templates": []}, "one template or more"), ({"templates": ["{words}"]}, "templates with {label}"),
     ({"templates": ["{label:d}"]}, "templates with {label}"),
     ({"templates": ["{label} {name}"]}, "{label}"), ({"templates": ["{label} {"]}, "{label}"),
     ({"min_words": 5, "max_words": 2}, "5 or more")],
)
def test_faulty_templates_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        registry.options("templated", options)


def test_templates_are_filled_with_that_many_words(teacher: Teacher, toy_data: DataConfig) -> None:
    given = {"templates": ["{label} {words}"], "label_words": "name", "min_words": 2, "max_words": 4}
    lengths = {len(text.split()) - 1 for text in build("templated", teacher, toy_data, **given).synthesize(60).texts}
    assert lengths == {2, 3, 4}


def test_a_corpus_is_asked_for_by_file_column_split_and_limit(teacher: Teacher, toy_data: DataConfig) -> None:
    asked: list[Any] = []

    def read(*source: Any) -> list[str]:
        asked.append(source)
        return LINES

    options = corpus.Options(file="f", column="c", split="s", hub_config="h", limit=7)
    corpus.build(options, Context(teacher, None, torch.Generator(), False, {}, tuple, corpus=read))  # type: ignore
    assert asked == [("f", "c", "s", "h", 7)]


def test_templates_need_the_domain_they_name(toy_data: DataConfig) -> None:
    with pytest.raises(ConfigError, match="no prompts.domain"):
        registry.check("templated", registry.options("templated", {}), Facts(toy_data.labels, {}))


def test_templated_makes_pairs(teacher: Teacher, toy_data: DataConfig) -> None:
    assert all(len(text) == 2 for text in build("templated", teacher, toy_data, pair=True).synthesize(3).texts)


# keywords

FAST: dict[str, Any] = {"inversions": 1, "candidates": 40, "keywords": 8, "contexts": 2, "invert_steps": 8}


def found(teacher: Teacher, **options: Any) -> list[list[_keywords.Keyword]]:
    typed = _keywords.KeywordOptions(**{**FAST, **options})
    return _keywords.find_keywords(teacher, typed, seeding.generator(0, "synthesis"))


def test_keywords_make_the_teacher_see_their_class(teacher: Teacher) -> None:
    keywords = found(teacher)
    for index, of_class in enumerate(keywords):
        seen = teacher.from_texts([word for word, _ in of_class]).argmax(dim=1)
        assert (seen == index).float().mean() > 0.8 and len(of_class) <= 8
        assert [k.score for k in of_class] == sorted((k.score for k in of_class), reverse=True)
        assert all(k.score > 0 for k in of_class)
    words = [word for of_class in keywords for word, _ in of_class]
    assert len(set(words)) == len(words)


def test_inversions_that_decode_to_nothing_are_told(teacher: Teacher) -> None:
    with pytest.raises(ConfigError, match="decode to no whole word(.|\n)*strategy.invert_rate"):
        found(teacher, invert_rate=1e-6, invert_steps=1)


def test_keywords_follow_the_teachers_classes_when_they_are_swapped(teacher: Teacher) -> None:
    before = [{word for word, _ in of_class} for of_class in found(teacher)]
    reorder_outputs(teacher.classifier.model, [1, 0, 2])
    after = [{word for word, _ in of_class} for of_class in found(teacher)]
    assert len(after[0] & before[1]) > len(after[0] & before[0])
    assert len(after[1] & before[0]) > len(after[1] & before[1])


def test_inversion_decodes_words_of_the_class_more_often_than_of_others(teacher: Teacher) -> None:
    words = _keywords.whole_words(teacher.tokenizer, 10_000)
    options = _keywords.KeywordOptions(inversions=2, candidates=30, keywords=5)
    own, all_ = [], _keywords.word_scores(teacher, words, words, 0, torch.Generator())
    for index in range(3):
        decoded = _keywords.decoded_words(teacher, index, words, options, seeding.generator(0, "x"))
        own.append(float(all_[[words.index(word) for word in decoded], index].mean() - all_[:, index].mean()))
    assert min(own) > 0.1


def test_word_scores_by_hand(teacher: Teacher) -> None:
    def odds(texts: list[str]) -> torch.Tensor:
        probabilities = teacher.from_texts(texts).double().softmax(dim=1)
        found = (probabilities / (1 - probabilities)).log()
        return (found - found.mean(dim=0)).float()

    words, context = ["soup", "rain", "people"], "people " * 8
    alone = _keywords.word_scores(teacher, words, ["people"], 0, torch.Generator())
    assert torch.allclose(alone, odds(words), atol=1e-3)
    inside = _keywords.word_scores(teacher, words, ["people"], 1, torch.Generator().manual_seed(0))
    at = torch.Generator().manual_seed(0)
    torch.randint(1, (1, 8), generator=at)
    place = int(torch.randint(9, (1,), generator=at))
    texts = [" ".join([*context.split()[:place], word, *context.split()[place:]]) for word in words]
    assert torch.allclose(inside, (odds(words) + odds(texts)) / 2, atol=1e-3)


def test_keyword_queries_are_counted(teacher: Teacher) -> None:
    before = dict(teacher.queries)
    found(teacher, inversions=1, invert_steps=3)
    asked = {name: teacher.queries[name] - before[name] for name in before}
    assert asked["gradient"] == 3 * 3 * 64 and asked["train"] > asked["gradient"] and asked["heldout"] == 0


def test_the_teacher_is_asked_about_that_many_candidates(teacher: Teacher) -> None:
    asked = []
    for candidates in (8, 16):
        before = teacher.queries["train"] - teacher.queries["gradient"]
        found(teacher, candidates=candidates)
        asked.append(teacher.queries["train"] - teacher.queries["gradient"] - before)
    most = [3 * candidates * (2 + 1) for candidates in (8, 16)]  # of 3 classes, alone and in 2 contexts
    assert all(0.7 * bound < count <= bound for count, bound in zip(asked, most)) and asked[1] > asked[0]


def test_without_inversions_the_vocabulary_is_asked(teacher: Teacher) -> None:
    before = dict(teacher.queries)
    found(teacher, inversions=0)
    assert teacher.queries["gradient"] == before["gradient"]
    with pytest.raises(ConfigError, match="8 or more: those are kept"):
        _keywords.KeywordOptions(keywords=8, candidates=7)


@pytest.fixture
def prompter(teacher: Teacher, toy_data: DataConfig, toy_language_model: Path) -> Callable[..., KeywordPrompt]:
    def make(**options: Any) -> KeywordPrompt:
        given = {"model": str(toy_language_model), "max_new_tokens": 8, "min_words": 1, **FAST, **options}
        made: KeywordPrompt = build("keyword_prompt", teacher, toy_data, **given)
        return made

    return make


def test_keyword_prompts_name_keywords_and_targets_their_classes(prompter: Callable[..., KeywordPrompt]) -> None:
    strategy = prompter(templates=["{keywords}"], mix=0.5, most=3)
    batch = strategy.synthesize(40)
    assert batch.prompts is not None and batch.targets is not None and batch.texts is not None
    classes = {word: index for index, of_class in enumerate(strategy.keywords) for word, _ in of_class}
    for prompt, target in zip(batch.prompts, batch.targets):
        named = [classes[word] for word in prompt.split(", ")]
        shares = torch.bincount(torch.tensor(named), minlength=len(target)) / len(named)
        assert 1 <= len(named) <= 3 and torch.equal(target, shares)
    assert {len(prompt.split(", ")) for prompt in batch.prompts} == {1, 2, 3}
    assert any(float(target.max()) < 1 for target in batch.targets)
    assert strategy.generated_tokens == batch.info["generated_tokens"] > 0


def test_mix_is_the_probability_of_another_class(prompter: Callable[..., KeywordPrompt]) -> None:
    strategy = prompter(templates=["{keywords}"], mix=0.5, most=2)
    strategy.prepare()
    strategy.keywords = [[_keywords.Keyword(f"{name}{n}", 1.0) for n in range(500)] for name in "abc"]
    second = [words[1][0] for words in (strategy._prompt(0).split(", ") for _ in range(2000)) if len(words) > 1]
    shares = {name: second.count(name) / len(second) for name in "abc"}
    assert shares == pytest.approx({"a": 0.5, "b": 0.25, "c": 0.25}, abs=0.06)


def test_prompt_agreement_is_with_the_class_that_was_asked_for(
    prompter: Callable[..., KeywordPrompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = prompter(templates=["{keywords}"], mix=1.0, most=3)
    monkeypatch.setattr(strategy, "_classes", lambda n: [2] * n)
    monkeypatch.setattr(strategy.teacher, "label", lambda batch: torch.tensor([[0.0, 0.0, 9.0]]).expand(len(batch), -1))
    assert strategy.synthesize(24).info["prompt_agreement"] == 1.0


def test_keyword_templates_need_the_domain_they_name(toy_data: DataConfig, toy_language_model: Path) -> None:
    given = {"model": str(toy_language_model), "templates": ["{domain}: {keywords}"]}
    options = registry.options("keyword_prompt", given)
    registry.check("keyword_prompt", options, Facts(toy_data.labels, toy_data.prompts))
    with pytest.raises(ConfigError, match="no prompts.domain"):
        registry.check("keyword_prompt", options, Facts(toy_data.labels, {}))


def test_keyword_prompts_are_labelled_once(prompter: Callable[..., KeywordPrompt], teacher: Teacher) -> None:
    strategy = prompter()
    with teacher.counting_as("heldout"):
        batch = strategy.synthesize(6)
    before = dict(teacher.queries)
    assert before["heldout"] == 6 and before["train"] > 500  # the keywords are of the training, whoever asks first
    assert batch.texts is not None and torch.allclose(teacher.label(batch), teacher.from_texts(batch.texts), atol=1e-4)
    assert teacher.queries["train"] == before["train"] + 6  # label() itself asked nothing


def test_classes_seen_seldom_are_asked_for_more_often(prompter: Callable[..., KeywordPrompt]) -> None:
    counts = []
    for balance in (0.0, 1.0):
        strategy = prompter(balance=balance)
        strategy.seen = torch.tensor([0.8, 0.1, 0.1])
        counts.append(collections.Counter(strategy._classes(3000)))
    assert abs(counts[0][0] - 1000) < 150 and counts[1][0] < 300


def test_notes_and_state_hold_the_keywords(prompter: Callable[..., KeywordPrompt], teacher: Teacher) -> None:
    strategy = prompter()
    strategy.synthesize(4)
    state, expected = strategy.state_dict(), strategy.synthesize(4).texts
    fresh = prompter()
    fresh.load_state_dict(state)
    before = dict(teacher.queries)
    assert fresh.synthesize(4).texts == expected and fresh.notes() == strategy.notes()
    assert teacher.queries["gradient"] == before["gradient"]  # nothing is asked for twice
    assert list(strategy.notes()["keywords"]) == list(teacher.labels)


@pytest.mark.parametrize(
    ("options", "match"),
    [({"templates": ["about {domain}"]}, "templates with {keywords}"), ({"mix": 2}, "a probability"),
     ({"most": 0}, "1 or more"), ({"balance": -1}, "0 or more"), ({"top_p": 0}, "top_p"), ({"common": 0}, "common")],
)
def test_faulty_keyword_options_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        registry.options("keyword_prompt", options)


# texts judged and shown

def feedback(texts: tuple[str, ...], teacher: Teacher) -> Feedback:
    logits = torch.zeros(len(texts), 3)
    return Feedback(0, PseudoBatch(texts=texts), logits, logits, {})


def test_text_diagnostics_by_hand(teacher: Teacher) -> None:
    texts = ("rain rain rain", "", "soup " * 100, "rain soup")
    facts = Diagnostics(teacher).measure(feedback(texts, teacher))
    assert facts["over_length"] == 0.25 and facts["empty"] == 0.25
    assert facts["distinct_2"] == pytest.approx(3 / (2 + 99 + 1))
    assert diagnostics.distinct_pairs(("one", "")) == 1 and diagnostics.distinct_pairs((("a b", "c"),)) == 1


GOOD = {"class_entropy": 0.9, "distinct_words": 0.5, "distinct_2": 0.9, "over_length": 0.0, "empty": 0.0}


@pytest.mark.parametrize(
    ("facts", "name"),
    [({"class_entropy": 0.4}, "texts_off_balance"), ({"over_length": 0.7}, "texts_too_long"),
     ({"classes": [15, 1, 0]}, "texts_off_balance"), ({"empty": 0.1}, "texts_empty"),
     ({"distinct_2": 0.2}, "texts_repeat")],
)
def test_text_alarms_rise_with_a_remedy(facts: dict[str, Any], name: str) -> None:
    def risen(given: dict[str, Any]) -> list[Any]:
        alarms = Alarms(classes=3)
        return [a for step in range(2 * WINDOW) for a in alarms.see({"step": step, "fresh": True, **GOOD, **given})]

    assert [(alarm.name, alarm.step) for alarm in risen(facts)] == [(name, WINDOW - 1)] and risen({}) == []
    assert "strategy." in risen(facts)[0].remedy


@pytest.mark.parametrize(
    ("facts", "name"),
    [({"class_entropy": 0.1}, "texts_off_balance"), ({"over_length": 1.0}, "texts_too_long"),
     ({"empty": 0.5}, "texts_empty"), ({"distinct_2": 0.05}, "texts_repeat")],
)
def test_what_is_clearly_wrong_with_texts_is_told_after_a_few_batches(facts: dict[str, float], name: str) -> None:
    alarms = Alarms(classes=3)  # a run that replays much may have no more than 8 fresh batches
    risen = [a for step in range(8) for a in alarms.see({"step": step, "fresh": True, **GOOD, **facts})]
    assert [(alarm.name, alarm.step) for alarm in risen] == [(name, FEW - 1)]


def test_inspect_shows_prompts_keywords_and_samples_over_the_course(
    toy_teacher: Path, toy_language_model: Path, tmp_path: Path
) -> None:
    options = {**FAST, "model": toy_language_model, "max_new_tokens": 6, "min_words": 1}
    given = [f"strategy.{name}={value}" for name, value in options.items()]
    run(toy_teacher, tmp_path, "strategy=keyword_prompt", "train.evaluate_every=1", *given)
    folder = tmp_path / "runs/it"
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert all(sample["prompt"] and "reward" not in sample for sample in samples)
    notes = json.loads((folder / "notes.json").read_text())
    console = Console(width=250, record=True, file=io.StringIO())
    console.print(inspect_run(folder))
    shown = console.export_text()
    assert "prompt" in shown and samples[0]["prompt"] in shown
    assert all(word in shown for word, _ in notes["keywords"]["food"])


def test_rewards_are_logged_where_there_are_some(toy_teacher: Path, tmp_path: Path, monkeypatch: Any) -> None:
    strategy: Any = registry.STRATEGIES.module("random_tokens").RandomTokens
    gap: Callable[..., Any] = lambda self, feedback: torch.arange(len(feedback.batch)) / 4
    monkeypatch.setattr(strategy, "rewards", gap, raising=False)
    run(toy_teacher, tmp_path, "strategy=random_tokens")
    lines = (tmp_path / "runs/it/samples.jsonl").read_text().splitlines()
    assert [json.loads(line)["reward"] for line in lines[:8]] == [n / 4 for n in range(8)]
    console = Console(width=250, record=True, file=io.StringIO())
    console.print(inspect_run(tmp_path / "runs/it"))
    assert "reward" in console.export_text()


def test_samples_over_the_course() -> None:
    samples = [{"step": step} for step in range(20)]
    assert [s["step"] for s in over_the_course(samples, 2)] == [0, 1, 9, 10, 18, 19]
    assert over_the_course(samples[:3], 2) == samples[:3] and over_the_course([], 2) == []


def test_notes_as_lines() -> None:
    assert notes_lines({"a": {"b": [["rain", 0.5], ["snow", 0.4]]}, "n": 3}) == ["a:", "  b: rain, snow", "n: 3"]


def test_every_text_strategy_has_a_yaml() -> None:
    presets = set(configs.available("experiments/strategies"))
    assert {"corpus", "templated", "keyword_prompt", "mixture", "pool"} <= presets
