"""Characters of important words swapped, substituted, deleted or inserted, as by a slip of the finger."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Callable, Mapping, Sequence

from dfkd.batch import Text
from dfkd.config import require
from dfkd.robustness._documents import is_content, like
from dfkd.robustness._search import Moves, Spot, search
from dfkd.robustness.base import Budget, Context, Perturbed, Victim


@dataclass(frozen=True)
class Options(Budget):
    """Edits of characters.

    Args:
        edits: which of swap, substitute, delete and insert are tried on a word; the victim chooses among them.
        max_edits: largest number of characters changed in a text; a swap counts as two.
        shortest: words with fewer letters are left alone.
    """

    edits: list[str] = field(default_factory=lambda: list(EDITS))
    max_edits: int = 30
    shortest: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        known = bool(self.edits) and set(self.edits) <= set(EDITS)
        require(known, self.called("edits"), f"some of {', '.join(EDITS)}", self.edits)
        require(self.max_edits >= 0, self.called("max_edits"), "0 or more", self.max_edits)
        require(self.shortest >= 2, self.called("shortest"), "2 or more", self.shortest)


def _swap(word: str, random: Random, letters: str) -> str:
    """Two neighbouring letters change places."""
    at = random.randrange(len(word) - 1)
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _substitute(word: str, random: Random, letters: str) -> str:
    """A letter becomes another one."""
    at = random.randrange(len(word))
    return word[:at] + random.choice(letters) + word[at + 1 :]


def _delete(word: str, random: Random, letters: str) -> str:
    """A letter goes."""
    at = random.randrange(len(word))
    return word[:at] + word[at + 1 :]


def _insert(word: str, random: Random, letters: str) -> str:
    """A letter comes in."""
    at = random.randrange(len(word) + 1)
    return word[:at] + random.choice(letters) + word[at:]


Edit = Callable[[str, Random, str], str]
EDITS: Mapping[str, Edit] = {"swap": _swap, "substitute": _substitute, "delete": _delete, "insert": _insert}


class Characters:
    """DeepWordBug with the query that tells the edits of a word apart.

    Args:
        options: edits and budget.
        seed: of the letters and places chosen, together with the text.
        column: of pairs, which text is changed.

    Source: Gao et al., "Black-box Generation of Adversarial Text Sequences to Evade Deep Learning Classifiers", 2018
    (arXiv:1801.04354): importance by its Replace-1 score (section III-B), the four transformers and the limit of 30
    edits. There each word gets one transformer without another look at the victim; here the victim is asked about one
    edit of each kind, and stop words are left alone, both as in TextAttack's form of it. The letters are drawn from
    those of the text, so that its script stays.
    """

    def __init__(self, options: Options, seed: int = 0, column: int = 0) -> None:
        self.options, self.seed, self.column = options, seed, column

    def perturb(self, victim: Victim, texts: Sequence[Text], labels: Sequence[int]) -> list[Perturbed]:
        """Attack N texts with their true classes."""
        moves = Moves(self._touches, victim.unknown, margin=False, propose=self._propose)
        return search(victim, texts, labels, moves, self.options, self.seed, self.column)

    def _touches(self, word: str) -> bool:
        return is_content(word, self.options.shortest)

    def _propose(self, spots: Sequence[Spot]) -> list[list[str]]:
        return [self._edited(spot) for spot in spots]

    def _edited(self, spot: Spot) -> list[str]:
        """One edit of each kind, less those that change nothing or cost more characters than are left."""
        left = self.options.max_edits - sum(
            cost(spot.original.words[i], spot.current.words[i]) for i in spot.current.changed_from(spot.original)
        )
        letters = "".join(sorted({letter for letter in spot.original.own.lower() if letter.isalpha()}))
        edited = [in_case(spot.word, EDITS[name](spot.word, spot.random, letters)) for name in self.options.edits]
        return [word for word in dict.fromkeys(edited) if word != spot.word and cost(spot.word, word) <= left]


def in_case(word: str, edited: str) -> str:
    """``edited`` in the case of ``word``, unless that is a mixed one, whose letters are left as they are."""
    return like(word, edited) if like(word, word) == word else edited


def cost(word: str, edited: str) -> int:
    """Characters that one edit has changed: 1, or 2 for a swap."""
    if len(word) != len(edited):
        return abs(len(word) - len(edited))
    return sum(old != new for old, new in zip(word, edited))


def build(options: Options, context: Context) -> Characters:
    """The attack; it needs nothing but its victim."""
    return Characters(options, context.seed, context.column)
