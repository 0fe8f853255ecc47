"""Texts of words drawn at random from the teacher's vocabulary: the floor that every strategy must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, ClassVar, Literal

import torch

from dfkd.batch import PseudoBatch, Text
from dfkd.config import require
from dfkd.models.decode import pieces
from dfkd.synthesis.base import Context, Silent
from dfkd.synthesis._words import draw_length, whole_words


@dataclass(frozen=True)
class Options:
    """Random texts.

    Args:
        source: ``words``: the vocabulary's first ``vocabulary`` whole words; ``pieces``: all of its pieces.
        vocabulary: number of words to draw from.
        min_length: fewest words (or pieces) in a text.
        max_length: most words (or pieces) in a text.
    """

    injects: ClassVar[str] = "tokens"
    uses_real_text: ClassVar[bool] = False

    source: Literal["words", "pieces"] = "words"
    vocabulary: int = 10_000
    min_length: int = 1
    max_length: int = 60

    def __post_init__(self) -> None:
        require(self.vocabulary >= 1, "strategy.vocabulary", "1 or more", self.vocabulary)
        ordered = 1 <= self.min_length <= self.max_length
        require(ordered, "strategy.max_length", f"{self.min_length} or more", self.max_length)


class RandomTokens(Silent):
    """Uniform words, lengths uniform on ``min_length`` to ``max_length``.

    Args:
        vocabulary: number of units to draw from.
        join: makes a text of the indices drawn.
        min_length: fewest units.
        max_length: most units.
        pair: make pairs of texts.
        generator: CPU generator.

    Source: Krishna et al., ICLR 2020 (arXiv:1910.12366), the RANDOM queries; there the words come from
    WikiText-103, here from the teacher's own vocabulary, which needs no data.
    """

    def __init__(
        self, vocabulary: int, join: Callable[[list[int]], str], min_length: int, max_length: int, pair: bool,
        generator: torch.Generator,
    ) -> None:
        self.vocabulary, self.join, self.pair = vocabulary, join, pair
        self.min_length, self.max_length = min_length, max_length
        self.generator = generator

    def synthesize(self, n: int) -> PseudoBatch:
        """Make ``n`` texts."""
        return PseudoBatch(texts=tuple(self._sample() for _ in range(n)))

    def _sample(self) -> Text:
        return (self._text(), self._text()) if self.pair else self._text()

    def _text(self) -> str:
        length = draw_length(self.min_length, self.max_length, self.generator)
        return self.join(torch.randint(self.vocabulary, (length,), generator=self.generator).tolist())

    def state_dict(self) -> dict[str, Any]:
        """The generator's state."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.generator.set_state(state["generator"])


def build(options: Options, context: Context) -> RandomTokens:
    """Random texts from the teacher's vocabulary."""
    tokenizer = context.teacher.tokenizer
    if options.source == "words":
        words = whole_words(tokenizer, options.vocabulary, "add strategy.source=pieces")
        size, join = len(words), lambda indices: " ".join(words[i] for i in indices)
    else:
        ids = pieces(tokenizer)
        size, join = len(ids), lambda indices: tokenizer.decode([ids[i] for i in indices])
    return RandomTokens(size, join, options.min_length, options.max_length, context.pair, context.generator)
