"""Label words in templates, among random words: no language model, no gradient."""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Mapping, Sequence

import torch

from dfkd.batch import PseudoBatch, Text
from dfkd.config import require
from dfkd.errors import ConfigError
from dfkd.synthesis._classes import even_classes
from dfkd.synthesis._templates import domain_of, places
from dfkd.synthesis._words import draw_length, whole_words
from dfkd.synthesis.base import Context, Facts, Silent

PLACES = ("label", "words", "domain")
TEMPLATES = ("{label}: {words}", "{words} {label} {words}", "a {domain} about {label}: {words}", "{words} {label}.")


@dataclass(frozen=True)
class Options:
    """Templates and what fills them.

    Args:
        templates: with the places {label} (needed), {words} (random words) and {domain} (prompts.domain).
        label_words: what stands for a class: the phrase of prompts.``describe``, one of prompts.``topics``, or its
            ``name``.
        vocabulary: number of words to draw from.
        min_words: fewest random words at a place.
        max_words: most random words at a place.
    """

    injects: ClassVar[str] = "tokens"
    uses_real_text: ClassVar[bool] = False

    templates: list[str] = field(default_factory=lambda: list(TEMPLATES))
    label_words: Literal["describe", "topics", "name"] = "topics"
    vocabulary: int = 10_000
    min_words: int = 1
    max_words: int = 12

    def __post_init__(self) -> None:
        require(bool(self.templates), "strategy.templates", "one template or more", self.templates)
        for template in self.templates:
            found = places(template)
            fits = "label" in found and found <= set(PLACES)
            require(fits, "strategy.templates", "templates with {label}, and {words}, {domain} at will", template)
        require(self.vocabulary >= 1, "strategy.vocabulary", "1 or more", self.vocabulary)
        ordered = 0 <= self.min_words <= self.max_words
        require(ordered, "strategy.max_words", f"{self.min_words} or more", self.max_words)


class Templated(Silent):
    """Fills a random template with a phrase of a class, drawn evenly, and random words.

    Args:
        phrases: for each of C classes its phrases.
        words: to draw from.
        domain: what a text is called.
        options: templates and lengths.
        pair: make pairs of texts of one class.
        generator: CPU generator.

    Source: the label-word templates are those of prompting for classification (Schick & Schuetze, EACL 2021,
    arXiv:2001.07676), turned round: there they are appended to real texts to read a label off, here they make texts.
    """

    def __init__(
        self, phrases: Sequence[Sequence[str]], words: Sequence[str], domain: str, options: Options, pair: bool,
        generator: torch.Generator,
    ) -> None:
        self.phrases, self.words, self.domain = phrases, words, domain
        self.options, self.pair, self.generator = options, pair, generator

    def synthesize(self, n: int) -> PseudoBatch:
        """Make ``n`` texts, as many of each class as ``n`` allows; the prompt of each is its phrase."""
        classes = even_classes(n, len(self.phrases), self.generator)
        phrases = [self._one_of(self.phrases[index]) for index in classes]
        targets = torch.eye(len(self.phrases))[classes]
        return PseudoBatch(texts=tuple(map(self._sample, phrases)), prompts=tuple(phrases), targets=targets)

    def _sample(self, phrase: str) -> Text:
        return (self._text(phrase), self._text(phrase)) if self.pair else self._text(phrase)

    def _text(self, phrase: str) -> str:
        template = self._one_of(self.options.templates)
        filled = ""
        for text, name, _, _ in string.Formatter().parse(template):
            given = {None: "", "label": phrase, "domain": self.domain}
            filled += text + (self._words() if name == "words" else given[name])
        return " ".join(filled.split())

    def _words(self) -> str:
        length = draw_length(self.options.min_words, self.options.max_words, self.generator)
        drawn = torch.randint(len(self.words), (length,), generator=self.generator).tolist()
        return " ".join(self.words[index] for index in drawn)

    def _one_of(self, values: Sequence[str]) -> str:
        return values[int(torch.randint(len(values), (1,), generator=self.generator))]

    def state_dict(self) -> dict[str, Any]:
        """The generator's state."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.generator.set_state(state["generator"])


def class_phrases(labels: Sequence[str], prompts: Mapping[str, Any], source: str) -> list[list[str]]:
    """For each class the phrases that stand for it.

    Raises:
        ConfigError: the data config has none for some class.
    """
    if source == "name":
        return [[label] for label in labels]
    given: Mapping[str, Any] = prompts.get(source) or {}
    missing = [label for label in labels if not given.get(label)]
    if missing:
        raise ConfigError(
            f"the data config has no words for {', '.join(missing)}", expected=f"prompts.{source} with every class",
            found=sorted(given) or "nothing", fix=f"add data.prompts.{source}, or strategy.label_words=name",
        )
    return [[given[label]] if isinstance(given[label], str) else list(given[label]) for label in labels]


def check(options: Options, facts: Facts) -> None:
    """Whether the data config has the words that the templates need, before any work.

    Raises:
        ConfigError: it has not.
    """
    domain_of(options.templates, facts.prompts)
    class_phrases(facts.labels, facts.prompts, options.label_words)


def build(options: Options, context: Context) -> Templated:
    """Templates with the data config's words for the classes, and words of the teacher's vocabulary.

    Raises:
        ConfigError: as :func:`check`.
    """
    domain = domain_of(options.templates, context.prompts)
    phrases = class_phrases(context.teacher.labels, context.prompts, options.label_words)
    words = whole_words(context.teacher.tokenizer, options.vocabulary)
    return Templated(phrases, words, domain, options, context.pair, context.generator)
