"""Prompts written by people, a few for each class, continued by a frozen language model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Mapping, Sequence

import torch

from dfkd.batch import PseudoBatch
from dfkd.errors import ConfigError
from dfkd.synthesis import _language
from dfkd.synthesis._classes import even_classes
from dfkd.synthesis._language import PromptedOptions
from dfkd.synthesis._writer import ContentGenerator, Draft, Writer, Written, one_hot
from dfkd.synthesis.base import Context, Facts


@dataclass(frozen=True)
class Options(PromptedOptions):
    """Topic prompts of the data config; see :class:`~dfkd.synthesis._language.PromptedOptions`."""


class PromptManual(Written):
    """Continues topic prompts, evenly over the classes and, within a class, over its prompts.

    The labels are the teacher's all the same; ``targets`` only say what the prompt was for.

    Args:
        source: the language model.
        writer: writes with it.
        topics: the prompts of each class.
        generator: CPU generator.

    Source: PromptDFD-Manual of Ma et al., IJCAI 2022 (arXiv:2205.07523); the prompts are our own.
    """

    def __init__(
        self, source: ContentGenerator, writer: Writer, topics: Sequence[Sequence[str]], generator: torch.Generator
    ) -> None:
        self.source, self.writer, self.topics, self.generator = source, writer, topics, generator

    def synthesize(self, n: int) -> PseudoBatch:
        """Write ``n`` texts."""
        labels = even_classes(n, len(self.topics), self.generator)
        batch, drafts = self.writer.write(labels, self._drafts)
        return replace(batch, targets=one_hot(drafts, len(self.topics)))

    def _drafts(self, labels: list[int]) -> list[Draft]:
        return [self.source.draft(self._topic(label), label) for label in labels]

    def _topic(self, label: int) -> str:
        topics = self.topics[label]
        return topics[int(torch.randint(len(topics), (1,), generator=self.generator))]


def topics_of(prompts: Mapping[str, Any], labels: Sequence[str]) -> list[list[str]]:
    """The topic prompts of each class.

    Raises:
        ConfigError: a class has none.
    """
    given = prompts.get("topics") or {}
    missing = [label for label in labels if not given.get(label)]
    if missing:
        raise ConfigError(
            "the data config has no topic prompts for every class",
            expected=f"data.prompts.topics for {', '.join(labels)}",
            found=f"none for {', '.join(missing)}", fix="add beginnings of texts under prompts: topics: CLASS: [...]",
        )
    return [[str(topic) for topic in given[label]] for label in labels]


def check(options: Options, facts: Facts) -> None:
    """Whether the strategy can be built, before any work.

    Raises:
        ConfigError: a class has no topic prompts, the language model or its engine is missing, or the data set has
            pairs of texts.
    """
    topics_of(facts.prompts, facts.labels)
    _language.check(options, facts)


def build(options: Options, context: Context) -> PromptManual:
    """Load the language model.

    Raises:
        ConfigError: as :func:`check`.
    """
    topics = topics_of(context.prompts, context.teacher.labels)
    source = _language.content_generator(options, context)
    writer = Writer(source, options.filters(), context.generator, options.with_prompt)
    return PromptManual(source, writer, topics, context.generator)
