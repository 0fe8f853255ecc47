"""Prompts of a few tokens that the frozen language model draws itself, then continues: no reinforcement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from dfkd.batch import PseudoBatch
from dfkd.config import require
from dfkd.models.language.base import Sampling
from dfkd.synthesis import _language
from dfkd.synthesis._language import PromptedOptions
from dfkd.synthesis._prompt_policy import forbidden_tokens
from dfkd.synthesis._writer import ANY, ContentGenerator, Draft, Writer, Written
from dfkd.synthesis.base import Context, Facts


@dataclass(frozen=True)
class Options(PromptedOptions):
    """Prompts from the reference policy.

    Args:
        prompt_tokens: tokens of a prompt; the method's are 3 to 6.
        prompt_temperature: temperature of the prompts' tokens.
        prompt_top_p: nucleus of the prompts' tokens; 1: the model's own distribution, as a policy draws.
    """

    prompt_tokens: int = 5
    prompt_temperature: float = 1.0
    prompt_top_p: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.prompt_tokens >= 1, "strategy.prompt_tokens", "1 or more", self.prompt_tokens)
        require(self.prompt_temperature > 0, "strategy.prompt_temperature", "above 0", self.prompt_temperature)
        require(0 < self.prompt_top_p <= 1, "strategy.prompt_top_p", "in (0, 1]", self.prompt_top_p)

    def prompting(self, banned: Sequence[int] = ()) -> Sampling:
        """How the prompts' tokens are drawn, but for those that no prompt may hold."""
        length = self.prompt_tokens
        return Sampling(
            self.prompt_temperature, top_p=self.prompt_top_p, min_new_tokens=length, max_new_tokens=length,
            banned=tuple(banned),
        )


class LmPrompt(Written):
    """Draws prompts, and continues them.

    Args:
        source: the language model.
        writer: writes with it.
        prompting: how the prompts' tokens are drawn.

    Source: the ablation of Ma et al., IJCAI 2022 (PromptDFD, arXiv:2205.07523), without reinforcement: what the
    learned prompter is held close to, and must beat. The same tokens are left out as there: special ones, parts of
    letters, line breaks.
    """

    def __init__(self, source: ContentGenerator, writer: Writer, prompting: Sampling) -> None:
        self.source, self.writer, self.prompting = source, writer, prompting

    def synthesize(self, n: int) -> PseudoBatch:
        """Write ``n`` texts."""
        return self.writer.write([ANY] * n, self._drafts)[0]

    def _drafts(self, labels: list[int]) -> list[Draft]:
        start = self.source.start
        seeds = self.writer.seeds(len(labels))
        drawn = self.source.engine.generate([start] * len(labels), seeds, self.prompting)
        return [Draft((*start, *prompt.tokens), self.source.text(prompt.tokens)) for prompt in drawn]


def check(options: Options, facts: Facts) -> None:
    """Whether the strategy can be built, before any work.

    Raises:
        ConfigError: the language model or its engine is missing, or the data set has pairs of texts.
    """
    _language.check(options, facts)


def build(options: Options, context: Context) -> LmPrompt:
    """Load the language model.

    Raises:
        ConfigError: as :func:`check`.
    """
    source = _language.content_generator(options, context)
    writer = Writer(source, options.filters(), context.generator, options.with_prompt)
    opened = getattr(source.engine, "language_model", None)  # vllm shows none
    size = len(source.tokenizer) if opened is None else int(opened.model.get_input_embeddings().weight.shape[0])
    banned = forbidden_tokens(source.tokenizer, size).nonzero().flatten().tolist()
    return LmPrompt(source, writer, options.prompting(banned))
