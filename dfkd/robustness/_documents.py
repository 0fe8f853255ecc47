"""Texts as words with what stands between them; words put in another's place, in its case."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, replace

from dfkd.batch import Text

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")


@dataclass(frozen=True)
class Document:
    """A text cut into words; joined again it is the same text, character by character.

    Args:
        words: n words.
        gaps: n + 1 pieces before, between and after the words.
        column: of a pair, which of its texts was cut.
        other: the pair's other text; ``None``: no pair.
    """

    words: tuple[str, ...]
    gaps: tuple[str, ...]
    column: int = 0
    other: str | None = None

    @classmethod
    def of(cls, text: Text, column: int = 0) -> Document:
        """Cut a text, or one text of a pair.

        Args:
            text: or a pair.
            column: 0 or 1, for pairs.
        """
        other = None if isinstance(text, str) else text[1 - column]
        own = text if isinstance(text, str) else text[column]
        return cls(tuple(WORD.findall(own)), tuple(WORD.split(own)), column, other)

    @property
    def own(self) -> str:
        """The text that was cut."""
        return "".join(gap + word for gap, word in zip(self.gaps, self.words)) + self.gaps[-1]

    @property
    def text(self) -> Text:
        """The text, or the pair."""
        if self.other is None:
            return self.own
        return (self.own, self.other) if self.column == 0 else (self.other, self.own)

    def replaced(self, position: int, word: str) -> Document:
        """Another word at ``position``."""
        return replace(self, words=(*self.words[:position], word, *self.words[position + 1 :]))

    def without(self, position: int) -> Document:
        """The word at ``position`` left out, with the space before or after it."""
        words = (*self.words[:position], *self.words[position + 1 :])
        before, after = self.gaps[position], self.gaps[position + 1]
        gap = before + (after[1:] if after.startswith(" ") and before[-1:] in ("", " ") else after)
        return replace(self, words=words, gaps=(*self.gaps[:position], gap, *self.gaps[position + 2 :]))

    def around(self, position: int, reach: int) -> Document:
        """The word at ``position`` with at most ``reach`` words on each side, as a text of its own."""
        start, stop = max(position - reach, 0), position + reach + 1
        words = self.words[start:stop]
        return Document(words, ("", *self.gaps[start + 1 : start + len(words)], ""))

    def changed_from(self, original: Document) -> list[int]:
        """The positions at which the words differ."""
        return [i for i, (old, new) in enumerate(zip(original.words, self.words)) if old != new]


def like(word: str, new: str) -> str:
    """``new`` in the case of ``word``: lower, UPPER or Capitalised; a mixed case begins as ``word`` does."""
    if len(word) > 1 and word.isupper():
        return new.upper()
    if word[:1].isupper():
        return new[:1].upper() + new[1:].lower()
    return new.lower()


@functools.cache
def stop_words() -> frozenset[str]:
    """Words that no attack touches: scikit-learn's list of English ones."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS  # a second to import

    return frozenset(ENGLISH_STOP_WORDS)


def is_content(word: str, shortest: int = 2) -> bool:
    """Whether a word has letters alone, at least ``shortest`` of them, and is no stop word."""
    return len(word) >= shortest and word.isalpha() and word.lower() not in stop_words()
