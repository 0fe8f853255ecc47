"""Strategies on a frozen language model: drafts, filters, labels, checks before any work."""

from __future__ import annotations

import collections
import importlib
import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Sequence

import pytest
import torch
import vllm_stub

from dfkd import config, pipeline, seeding, teaching
from dfkd.batch import PseudoBatch
from dfkd.config import DataConfig
from dfkd.distill import working_folder
from dfkd.errors import ConfigError
from dfkd.models import device, tiny
from dfkd.models.language import load
from dfkd.models.language.base import Generated, Sampling
from dfkd.models.teacher import Teacher
from dfkd.synthesis import class_prompt, prompt_manual, registry
from dfkd.synthesis._classes import even_classes
from dfkd.synthesis._language import LanguageOptions
from dfkd.synthesis._prompt_policy import forbidden_tokens
from dfkd.synthesis._writer import ANY, ContentGenerator, Draft, Filters, Writer
from dfkd.synthesis.base import Context, Facts

NAMES = ("lm_free", "lm_prompt", "prompt_manual", "class_prompt")
Build = Callable[..., Any]


@pytest.fixture
def teacher(toy_teacher: Path) -> Teacher:
    return teaching.load_teacher(pipeline.load_config(["data=toy", f"teacher={toy_teacher}", "strategy=lm_free"]))


@pytest.fixture
def context(teacher: Teacher, toy_data: DataConfig) -> Context:
    generator = seeding.generator(0, "synthesis")
    return Context(teacher, Any, generator, False, toy_data.prompts, lambda: (), precision="float32")


@pytest.fixture
def build(context: Context, toy_language_model: Path) -> Build:
    """A strategy on the tiny language model."""

    def make(name: str, prompts: Any = None, **options: Any) -> Any:
        typed = registry.options(name, {"model": str(toy_language_model), **options})
        fresh = seeding.generator(0, "synthesis")
        given = replace(context, generator=fresh, prompts=prompts or context.prompts, shared={})
        return registry.build(name, typed, given)

    return make


class Script:
    """An engine that writes what it is told to, in turn, and notes what it was asked."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.asked, self.generated_tokens = list(texts), [], 0
        self.seeds: list[int] = []

    def generate(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling) -> list[Generated]:
        self.asked.append(len(prompts))
        self.seeds += seeds
        made = [Generated(tuple(range(len(text.split()))), text, True) for text in self.texts[: len(prompts)]]
        self.texts = self.texts[len(prompts) :]
        self.generated_tokens += sum(len(text.tokens) for text in made)
        return made


def writer(script: Script, tokenizer: Any, closing: str = "", with_prompt: bool = False, **options: Any) -> Writer:
    source = ContentGenerator(script, tokenizer, Sampling())
    return Writer(source, Filters(**options), torch.Generator().manual_seed(0), with_prompt, closing)


def anything(labels: list[int]) -> list[Draft]:
    return [Draft((0,), f"prompt {label}" if label != ANY else "", label) for label in labels]


@pytest.fixture
def tokenizer(toy_language_model: Path) -> Any:
    return load.load_tokenizer(str(toy_language_model))


# the filters

def test_short_texts_are_written_anew_for_the_same_class(tokenizer: Any) -> None:
    script = Script("a b c", "one two", "d e f", "three", "g h\n\n i")
    writing = writer(script, tokenizer, min_words=3)
    batch, drafts = writing.write([4, 7, 2], anything)
    assert batch.texts == ("a b c", "g h i", "d e f") and [draft.label for draft in drafts] == [4, 7, 2]
    assert batch.prompts == ("prompt 4", "prompt 7", "prompt 2") and script.asked == [3, 1, 1]
    assert batch.info["dropped_short"] == 2 / 5 and batch.info["dropped_but_taken"] == 0
    assert batch.info["generated_tokens"] == 12 and batch.info["mean_new_tokens"] == 12 / 5
    assert len(set(script.seeds)) == 5


def test_tries_are_bounded_and_the_longest_is_taken_then(tokenizer: Any) -> None:
    script = Script("a", "b c", "d", "e f g h")
    batch, _ = writer(script, tokenizer, min_words=3, tries=3).write([ANY], anything)
    assert batch.texts == ("b c",) and batch.prompts is None and script.asked == [1, 1, 1]
    assert batch.info["dropped_but_taken"] == 1 and batch.info["dropped_short"] == 1


def test_duplicates_are_told_within_and_across_batches_and_after_a_resume(tokenizer: Any) -> None:
    script = Script("a b", "A b", "c d", "a b", "e f", "c d", "g h")
    writing = writer(script, tokenizer, min_words=0)
    first = writing.write([ANY, ANY], anything)[0]
    assert first.texts == ("a b", "c d") and first.info["dropped_duplicate"] == 1 / 3
    second = writing.write([ANY], anything)[0]
    assert second.texts == ("e f",) and second.info["generated_tokens"] == 10
    resumed = writer(script, tokenizer, min_words=0)
    resumed.load_state_dict(writing.state_dict())
    third = resumed.write([ANY], anything)[0]
    assert third.texts == ("g h",) and third.info["generated_tokens"] == 14
    careless = writer(Script("a b", "a b"), tokenizer, min_words=0, unique=False)
    assert careless.write([ANY, ANY], anything)[0].texts == ("a b", "a b")


def test_texts_end_before_the_closing_quote(tokenizer: Any) -> None:
    script = Script('a fine film." And more', "never closed but quite long", 'b."', 'so it is". "no')
    batch, _ = writer(script, tokenizer, closing='"', min_words=3).write([0, 1], anything)
    assert batch.texts == ("a fine film.", "so it is")
    assert batch.info["dropped_unquoted"] == 1 / 4 and batch.info["dropped_short"] == 1 / 4


def test_classifiers_see_the_prompt_if_asked(tokenizer: Any) -> None:
    for with_prompt, expected in ((True, "prompt 3 and content"), (False, "and content")):
        writing = writer(Script(" and content"), tokenizer, with_prompt=with_prompt, min_words=0)
        assert writing.write([3], anything)[0].texts == (expected,)


def test_every_class_as_often_as_can_be() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = collections.Counter(even_classes(64, 14, generator))
    assert set(counts.values()) == {4, 5} and len(counts) == 14
    few = [tuple(even_classes(3, 14, generator)) for _ in range(60)]
    assert {label for labels in few for label in labels} == set(range(14)) and all(len(set(row)) == 3 for row in few)


# how the strategies use the language model

def test_options_reach_the_engine_and_the_data_sets_length_bounds_them(build: Build) -> None:
    strategy = build(
        "lm_free", temperature=0.5, top_k=7, top_p=0.6, repetition_penalty=1.2, min_new_tokens=3, max_new_tokens=9,
        generation_batch=5,
    )
    assert replace(strategy.source.sampling, banned=()) == Sampling(0.5, 7, 0.6, 1.2, 3, 9)
    assert strategy.source.engine.batch_size == 5
    longest = build("lm_free", min_new_tokens=90, max_new_tokens=100).source.sampling
    assert (longest.min_new_tokens, longest.max_new_tokens) == (22, 22)  # the toy data set's 24, less [CLS] and [SEP]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision, weights", [(None, torch.float32), ("bf16", torch.bfloat16)])
def test_the_language_models_precision_is_its_own_if_given(
    build: Build, name: str, precision: str | None, weights: torch.dtype
) -> None:
    strategy = build(name, model_precision=precision)
    model = strategy.source.engine.language_model.model
    assert {value.dtype for key, value in model.named_parameters() if "lora" not in key} == {weights}
    assert len(strategy.synthesize(4).texts) == 4


def test_strategies_of_one_run_share_a_model_of_one_precision(context: Context, toy_language_model: Path) -> None:
    def model(**given: Any) -> Any:
        options = registry.options("lm_free", {"model": str(toy_language_model), **given})
        return registry.build("lm_free", options, context).source.engine.language_model.model

    assert model() is model(model_precision="float32") is not model(model_precision="bf16")  # the run's is float32
    assert model(model_precision="bf16") is model(model_precision="bf16")


@pytest.mark.parametrize("name", NAMES)
def test_another_model_writes_other_texts(build: Build, name: str, toy_language_model: Path, tmp_path: Path) -> None:
    tiny.build_language_model(tmp_path / "other", ["rain soup match team snow"], seed=3)
    batches = [build(name, model=str(model)).synthesize(4) for model in (toy_language_model, tmp_path / "other")]
    assert batches[0].texts != batches[1].texts


@pytest.mark.parametrize("name", NAMES)
def test_every_batch_tells_what_it_cost(build: Build, name: str) -> None:
    strategy = build(name)
    first, second = strategy.synthesize(5), strategy.synthesize(5)
    assert 0 < first.info["generated_tokens"] < second.info["generated_tokens"]
    assert second.info["generated_tokens"] == strategy.source.engine.generated_tokens == strategy.generated_tokens
    assert {"mean_new_tokens", "dropped_short", "dropped_duplicate", "dropped_but_taken"} <= set(first.info)


def test_every_strategy_that_writes_tells_its_tokens_to_the_budget() -> None:
    writing, silent = [], []
    for name in registry.available():
        module = importlib.import_module(f"dfkd.synthesis.{name}")
        classes = [thing for thing in vars(module).values() if inspect.isclass(thing)]
        own = [thing for thing in classes if thing.__module__ == module.__name__]
        if issubclass(module.Options, LanguageOptions):
            writing.append(name)
            silent += [] if any(hasattr(thing, "generated_tokens") for thing in own) else [name]
    assert {"keyword_prompt", "prompt_rl", "lm_free"} <= set(writing) and silent == []


def test_free_texts_have_no_prompt(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = build("lm_free")
    seen: list[Any] = []
    generate = strategy.source.engine.generate
    monkeypatch.setattr(
        strategy.source.engine, "generate", lambda p, seeds, how: (seen.extend(p), generate(p, seeds, how))[1]
    )
    assert strategy.synthesize(4).prompts is None
    assert set(seen) == {(0,)}


@pytest.mark.parametrize("name", NAMES)
def test_what_opens_every_text_is_read_and_not_shown(
    build: Build, name: str, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tokenizer.convert_ids_to_tokens(0)
    strategy = build(name, opening=f"{mark} rain soup")
    opening = [0, *tokenizer(" rain soup", add_special_tokens=False)["input_ids"]]
    seen: list[Any] = []
    generate = strategy.source.engine.generate
    monkeypatch.setattr(
        strategy.source.engine, "generate", lambda p, seeds, how: (seen.extend(p), generate(p, seeds, how))[1]
    )
    batch = strategy.synthesize(4)
    assert seen and all(list(prompt[: len(opening)]) == opening for prompt in seen)
    assert strategy.source.start == opening and tokenizer.decode(opening) == f"{mark} rain soup"
    shown = batch.texts if batch.prompts is None else batch.prompts
    assert len(shown) == 4 and not any(text.startswith("rain soup") for text in shown)


@pytest.mark.parametrize("name", NAMES)
def test_the_opening_names_what_the_data_config_calls_a_text(
    build: Build, context: Context, name: str, tokenizer: Any
) -> None:
    words = {**context.prompts, "domain": "rain soup"}
    strategy = build(name, prompts=words, opening="a {domain} {and} more :")
    assert strategy.source.start == tokenizer("a rain soup {and} more :", add_special_tokens=False)["input_ids"]


def test_an_opening_needs_the_domain_it_names(toy_language_model: Path) -> None:
    options = registry.options("lm_free", {"model": str(toy_language_model), "opening": "a {domain}"})
    registry.check("lm_free", options, Facts(("no", "yes"), {"domain": "text"}))
    with pytest.raises(ConfigError, match="no prompts.domain(.|\n)*leave {domain} out"):
        registry.check("lm_free", options, Facts(("no", "yes"), {}))


def test_prompts_hold_what_the_prompters_may_hold(build: Build) -> None:
    strategy = build("lm_prompt", prompt_tokens=3)
    size = len(strategy.source.tokenizer)
    banned = set(forbidden_tokens(strategy.source.tokenizer, size).nonzero().flatten().tolist())
    assert set(strategy.prompting.banned) >= banned > set()
    allowed = sorted(set(range(size)) - banned)[:3]
    strategy.prompting = replace(strategy.prompting, banned=tuple(set(range(size)) - set(allowed)))
    drawn = {token for draft in strategy._drafts([ANY] * 50) for token in draft.tokens[1:]}
    assert drawn == set(allowed)


def test_prompts_come_from_the_models_own_distribution(build: Build) -> None:
    strategy = build("lm_prompt", prompt_tokens=1)
    drafts = strategy._drafts([ANY] * 3000)
    found = torch.bincount(torch.tensor([draft.tokens[1] for draft in drafts])) / 3000
    model = strategy.source.engine.language_model.model
    expected = model(torch.tensor([[0]])).logits[0, -1].detach().float()  # bf16 where the processor has it
    expected[0] = float("-inf")  # a prompt does not end
    assert torch.allclose(found, expected.softmax(-1)[: len(found)], atol=5 * (0.25 / 3000) ** 0.5)
    assert found.max() > 0.05


def test_prompts_have_their_length_and_begin_the_texts(build: Build) -> None:
    batch = build("lm_prompt", prompt_tokens=4).synthesize(6)
    assert all(len(prompt.split()) == 4 for prompt in batch.prompts)
    assert all(text.startswith(prompt) for text, prompt in zip(batch.texts, batch.prompts))
    content = build("lm_prompt", prompt_tokens=4, with_prompt=False).synthesize(6)
    assert content.prompts == batch.prompts
    assert [f"{p} {t}" for p, t in zip(content.prompts, content.texts)] == list(batch.texts)


def test_manual_prompts_are_even_over_classes_and_topics(build: Build, toy_data: DataConfig) -> None:
    strategy = build("prompt_manual")
    batch = strategy.synthesize(48)
    topics = toy_data.prompts["topics"]
    assert batch.targets.sum(0).tolist() == [16, 16, 16] and batch.label_logits is None
    for prompt, target, text in zip(batch.prompts, batch.targets, batch.texts):
        assert prompt in topics[toy_data.labels[int(target.argmax())]] and text.startswith(prompt)
    used = collections.Counter(strategy._topic(1) for _ in range(800))
    assert set(used) == set(topics["food"]) and min(used.values()) > 60


def test_instructions_ask_for_each_class(build: Build) -> None:
    batch = build("class_prompt").synthesize(9)
    assert batch.targets.sum(0).tolist() == [3, 3, 3]
    asked = {int(target.argmax()): prompt for prompt, target in zip(batch.prompts, batch.targets)}
    assert asked[1] == 'The short sentence about food and cooking is: "'
    assert not any('"' in text for text in batch.texts) and not any("sentence about" in text for text in batch.texts)


def test_the_engine_stops_at_the_closing_quote(build: Build, tokenizer: Any) -> None:
    quote = tokenizer.convert_tokens_to_ids('"')
    assert build("class_prompt").source.engine.stops == {quote}
    unquoted = build("class_prompt", template="{label} : ")
    assert unquoted.source.engine.stops == set() and "dropped_unquoted" not in unquoted.synthesize(3).info


@pytest.mark.slow
def test_the_teacher_labels_unless_the_prompt_shall(build: Build) -> None:
    assert build("class_prompt").synthesize(3).label_logits is None
    batch = build("class_prompt", label="prompt", smoothing=0.3).synthesize(12)
    assert torch.allclose(batch.label_logits.softmax(1), 0.7 * batch.targets + 0.1)
    assert torch.equal(batch.label_logits.argmax(1), batch.targets.argmax(1))
    other = build("class_prompt", label="prompt", smoothing=0.03).synthesize(12)
    assert other.texts == batch.texts and not torch.equal(other.label_logits, batch.label_logits)


def test_subjects_are_named_by_the_model(build: Build, toy_data: DataConfig) -> None:
    templates = {label: f'The {label} in "{{subject}}" is: "' for label in toy_data.labels}
    prompts = {**toy_data.prompts, "templates": templates, "subject": 'City: "'}
    batch = build("class_prompt", prompts).synthesize(12)
    subjects = [prompt.split('"')[1] for prompt in batch.prompts]
    assert len(set(subjects)) > 6 and all(len(subject.split()) <= class_prompt.SUBJECT_TOKENS for subject in subjects)


@pytest.mark.parametrize("data", ["ag_news", "dbpedia14", "imdb", "rotten_tomatoes", "sst2", "toy"])
def test_every_data_config_has_words_for_prompts(data: str) -> None:
    facts = config.load_data({"data": data})
    made = class_prompt.instructions("", facts.prompts, facts.labels)
    assert len(set(made.texts)) == len(facts.labels) and made.closing == '"'
    assert bool(made.subject) is any("{subject}" in text for text in made.texts)
    assert len(prompt_manual.topics_of(facts.prompts, facts.labels)) == len(facts.labels)


@pytest.mark.parametrize(
    ("template", "prompts", "match"),
    [
        ("{genre} of {domain}", {"domain": "text"}, "{genre}, not one of domain, describe, label, subject"),
        ("{describe}", {"describe": {"no": "bad"}}, "data.prompts.describe.yes is missing"),
        ("{subject}", {}, "data.prompts.subject is missing"), ("{domain", {}, "template '{domain'"),
        ("{label:d}", {}, "{label:d}, not one of"), ("{label!r}", {}, "{label!r}, not one of"),
        ("", {"describe": {"no": "bad", "yes": "good"}}, "data.prompts.domain is missing"),
    ],
)
def test_instructions_that_cannot_be_written(template: str, prompts: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        class_prompt.check(
            class_prompt.Options(template=template, model="x"), Facts(labels=["no", "yes"], prompts=prompts)
        )


# runs

@pytest.fixture
def overrides(toy_teacher: Path, toy_language_model: Path, tmp_path: Path) -> Callable[..., list[str]]:
    def make(strategy: str, *more: str) -> list[str]:
        base = ["data=toy", f"teacher={toy_teacher}", f"strategy={strategy}", f"strategy.model={toy_language_model}"]
        quick = ["student.layers=1", "train.steps=4", "train.batch_size=6", "train.heldout=0", "device=cpu"]
        return [*base, *quick, f"runs={tmp_path}", "evaluate.latency_rounds=0", "evaluate.limit=20", *more]

    return make


@pytest.mark.slow
def test_labels_by_prompt_ask_the_teacher_nothing(overrides: Callable[..., list[str]], tmp_path: Path) -> None:
    queries = {}
    for label in ("teacher", "prompt"):
        settings = overrides("class_prompt", f"strategy.label={label}", f"run={label}", "train.replay_share=0.5")
        queries[label] = pipeline.run(pipeline.load_config(settings))["queries"]["train"]
    assert queries == {"teacher": 12, "prompt": 0}
    records = [json.loads(line) for line in (tmp_path / "prompt" / "metrics.jsonl").read_text().splitlines()]
    assert all(record["classes"] == [2, 2, 2] for record in records if record["fresh"])  # what the student was told


def test_a_batchs_own_labels_train_the_student(overrides: Callable[..., list[str]]) -> None:
    parts = pipeline.preflight(pipeline.load_config(overrides("lm_free", "train.learning_rate=1e-3", "train.steps=60")))
    folder = working_folder(Path(parts.config.runs) / "own")
    teacher, student, distiller = pipeline.assemble(parts, folder, device.accelerator("cpu"), pipeline.Listeners())
    texts = ("the team won", "rain and snow", "hot soup")
    wrong = torch.tensor([[0.0, 9.0, 0.0], [0.0, 0.0, 9.0], [9.0, 0.0, 0.0]])
    batch = PseudoBatch(texts=texts, label_logits=wrong)
    assert not torch.equal(teacher.label(batch).argmax(1), wrong.argmax(1))
    distiller.synthesizer.synthesize = lambda n: batch  # type: ignore[method-assign]
    for distiller.step in range(40):
        distiller._one_step()
    student.eval()
    assert torch.equal(student.from_batch(batch).argmax(1).cpu(), wrong.argmax(1))


def test_labels_must_fit_their_batch() -> None:
    with pytest.raises(ValueError, match="label_logits must be"):
        PseudoBatch(texts=("a", "b"), label_logits=torch.zeros(3, 2))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_is_told_before_any_work(overrides: Callable[..., list[str]], name: str) -> None:
    missing = pipeline.load_config(overrides(name, "strategy.model=package:no-such", "teacher=./nowhere"))
    with pytest.raises(ConfigError, match="2 problems(.*\n)*.*no-such' is not installed(.*\n)*.*nowhere"):
        pipeline.preflight(missing)


def test_topics_are_checked_before_any_work(overrides: Callable[..., list[str]]) -> None:
    bare = pipeline.load_config(overrides("prompt_manual", "data.prompts={topics: {food: [our soup]}}"))
    with pytest.raises(ConfigError, match="topics for weather, food, sport\n.*none for weather, sport"):
        pipeline.preflight(bare)


@pytest.mark.parametrize("name", NAMES)
def test_pairs_are_refused(context: Context, toy_language_model: Path, toy_data: DataConfig, name: str) -> None:
    options = registry.options(name, {"model": str(toy_language_model)})
    with pytest.raises(ConfigError, match="write single texts"):
        registry.check(name, options, Facts(toy_data.labels, toy_data.prompts, pair=True))
    with pytest.raises(ConfigError, match="write single texts.*\n.*random_tokens"):
        registry.build(name, options, replace(context, pair=True))


def test_strategies_without_a_check_pass() -> None:
    registry.check("random_tokens", registry.options("random_tokens", {}), Facts(["a", "b"], {}))


def test_an_engine_that_is_missing_is_told(toy_language_model: Path, toy_data: DataConfig) -> None:
    options = registry.options("lm_free", {"model": str(toy_language_model), "engine": "vllm"})
    try:
        import vllm  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match="vllm is not installed"):
            registry.check("lm_free", options, Facts(toy_data.labels, toy_data.prompts))
    with pytest.raises(ConfigError, match="strategy.engine"):
        registry.options("lm_free", {"engine": "llama.cpp"})


WRITING = [name for name in registry.available() if "engine" in {option.name for option in registry.describe(name)[1]}]


@pytest.mark.parametrize("name", WRITING)
def test_every_strategy_that_writes_does_so_with_vllm(
    build: Build, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """On a stand-in over the same weights the texts are those of the other engine, prompts and filters included."""
    vllm_stub.install(monkeypatch)
    known = {option.name for option in registry.describe(name)[1]}
    small = {"max_new_tokens": 6, "min_words": 1, "inversions": 0, "keywords": 4, "candidates": 12, "contexts": 1}
    given = {option: value for option, value in small.items() if option in known}
    made = {engine: build(name, engine=engine, **given) for engine in ("transformers", "vllm")}
    batches = {engine: strategy.synthesize(6) for engine, strategy in made.items()}
    assert type(made["vllm"].writer.source.engine).__name__ == "VllmEngine"
    assert len(batches["vllm"]) == 6 and batches["vllm"].texts == batches["transformers"].texts
    assert batches["vllm"].prompts == batches["transformers"].prompts
    assert made["vllm"].generated_tokens == made["transformers"].generated_tokens > 0
    asked = made["vllm"].writer.source.engine.llm.asked
    assert asked and all(how.logit_bias is None or set(how.logit_bias.values()) == {-100.0} for how in asked)


def test_all_that_write_are_known() -> None:
    assert set(WRITING) == {*NAMES, "keyword_prompt", "prompt_rl"}


def test_strategies_of_one_run_share_the_model(
    context: Context, toy_language_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    original = load.load
    monkeypatch.setattr(load, "load", lambda *given: (loaded.append(given), original(*given))[1])
    given = replace(context, precision="float32", trust_remote_code=True)
    made: list[Any] = [
        registry.build(name, registry.options(name, {"model": str(toy_language_model)}), given) for name in NAMES
    ]
    assert len(loaded) == 1 and loaded[0][1:] == (torch.device("cpu"), "float32", True)
    assert len({id(strategy.source.engine.language_model) for strategy in made}) == 1


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [("lm_free", {"top_p": 0}, "strategy.top_p"), ("lm_free", {"tries": 0}, "strategy.tries"),
     ("lm_free", {"min_new_tokens": 40}, "strategy.min_new_tokens"), ("lm_prompt", {"prompt_tokens": 0}, "prompt_tok"),
     ("lm_prompt", {"prompt_top_p": 2}, "prompt_top_p"), ("class_prompt", {"smoothing": 0}, "strategy.smoothing"),
     ("class_prompt", {"label": "both"}, "strategy.label"), ("lm_free", {"with_prompt": True}, "with_prompt"),
     ("prompt_manual", {"min_words": -1}, "strategy.min_words"), ("lm_free", {"model": ""}, "strategy.model"),
     ("lm_prompt", {"prompt_temperature": 0}, "prompt_temperature")],
)
def test_bad_options_are_refused(name: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        registry.options(name, options)
