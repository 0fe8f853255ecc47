"""The greedy search that the attacks share: rank a text's words by what the victim says, change one after the other.

Many texts go side by side: in each round the victim is asked once, for all that the round's texts want to know.

Shapes: C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Callable, Sequence

from torch import Tensor

from dfkd import seeding
from dfkd.batch import Text
from dfkd.robustness._documents import Document
from dfkd.robustness.base import Budget, Perturbed, Victim


@dataclass(frozen=True)
class Spot:
    """A word that is to be replaced.

    Args:
        original: the text as it was.
        current: what has become of it so far.
        position: of the word.
        random: the text's own generator.
    """

    original: Document
    current: Document
    position: int
    random: Random

    @property
    def word(self) -> str:
        """The word there."""
        return self.current.words[self.position]


@dataclass(frozen=True)
class Moves:
    """What tells one attack from another.

    Args:
        touches: whether a word may be changed.
        stand_in: takes a word's place when its importance is asked for; empty: the word is left out.
        margin: count the rise of a new top class as importance too.
        propose: for each spot new words, best first; none: the word stays.
    """

    touches: Callable[[str], bool]
    stand_in: str
    margin: bool
    propose: Callable[[Sequence[Spot]], list[list[str]]]


@dataclass
class Attempt:
    """One text on its way: what it was, what has become of it, which of its words are still to be tried."""

    original: Document
    label: int
    random: Random
    budget: Budget
    current: Document = field(init=False)
    probabilities: Tensor = field(init=False)  # (C,) of the current text
    before: int = -1
    queries: int = 0
    order: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.current = self.original

    @property
    def predicted(self) -> int:
        return int(self.probabilities.argmax())

    @property
    def allowed(self) -> int:
        """Words that may be changed; the small number is for products such as 0.29 * 100."""
        return int(self.budget.max_share * len(self.original.words) + 1e-9)

    @property
    def left(self) -> int:
        """Queries left."""
        return self.budget.max_queries - self.queries

    @property
    def goes_on(self) -> bool:
        """Whether there is still something to be done."""
        open_ends = self.left > 0 and len(self.current.changed_from(self.original)) < self.allowed
        return open_ends and self.predicted == self.label

    def perturbed(self) -> Perturbed:
        old, new = self.original.words, self.current.words
        changed = tuple((old[i], new[i]) for i in self.current.changed_from(self.original))
        return Perturbed(
            self.original.text, self.current.text, self.label, self.before, self.predicted, len(old), changed,
            self.queries,
        )


def search(
    victim: Victim, texts: Sequence[Text], labels: Sequence[int], moves: Moves, budget: Budget, seed: int, column: int
) -> list[Perturbed]:
    """Attack texts greedily.

    Words are ranked by how much less likely the true class is without them, and tried in that order, each once. Of
    its proposals the first that flips the prediction is taken, else the one that hurts most, if it hurts at all.

    Args:
        victim: is asked.
        texts: N texts.
        labels: their true classes; texts that the victim gets wrong are left alone.
        moves: of the attack.
        budget: for each text. At most half of the queries rank words: of a longer text, words drawn at random.
        seed: of the random choices, together with the text.
        column: of pairs, which text is attacked.

    Source: the search of DeepWordBug (arXiv:1801.04354, algorithm 1) and TextFooler (arXiv:1907.11932, algorithm 1),
    there with one text after the other and, in TextFooler, with a model that compares sentences.
    """
    attempts = [
        Attempt(Document.of(text, column), label, Random(seeding.derive(seed, f"attack/{text!r}")), budget)
        for text, label in zip(texts, labels)
    ]
    for attempt, rows in zip(attempts, _ask(victim, attempts, [[a.original] for a in attempts])):
        attempt.probabilities, attempt.before = rows[0], int(rows[0].argmax())
    active = [attempt for attempt in attempts if attempt.goes_on]
    _rank(victim, active, moves)
    while active := [attempt for attempt in active if attempt.order and attempt.goes_on]:
        _round(victim, active, moves)
    return [attempt.perturbed() for attempt in attempts]


def _ask(victim: Victim, attempts: Sequence[Attempt], wanted: Sequence[Sequence[Document]]) -> list[Tensor]:
    """Probabilities (number of its documents, C) for each attempt, in one question; counted on each."""
    flat = [document.text for documents in wanted for document in documents]
    if not flat:
        return [Tensor() for _ in wanted]
    for attempt, documents in zip(attempts, wanted):
        attempt.queries += len(documents)
    return list(victim.probabilities(flat).split([len(documents) for documents in wanted]))


def _rank(victim: Victim, attempts: Sequence[Attempt], moves: Moves) -> None:
    """Set each attempt's order: the word that matters most first."""
    positions = [_ranked(attempt, moves) for attempt in attempts]
    probes = [
        [_probe(attempt.original, position, moves.stand_in) for position in chosen]
        for attempt, chosen in zip(attempts, positions)
    ]
    for attempt, chosen, rows in zip(attempts, positions, _ask(victim, attempts, probes)):
        weights = [_importance(attempt, row, moves.margin) for row in rows]
        attempt.order = [position for _, position in sorted(zip([-w for w in weights], chosen))]


def _ranked(attempt: Attempt, moves: Moves) -> list[int]:
    """The positions whose importance is asked for."""
    touched = [position for position, word in enumerate(attempt.original.words) if moves.touches(word)]
    room = attempt.left // 2
    return touched if len(touched) <= room else sorted(attempt.random.sample(touched, room))


def _probe(document: Document, position: int, stand_in: str) -> Document:
    return document.replaced(position, stand_in) if stand_in else document.without(position)


def _importance(attempt: Attempt, without: Tensor, margin: bool) -> float:
    """How much a word matters, from the probabilities (C,) with it and without it.

    Source: DeepWordBug's Replace-1 score; with ``margin`` TextFooler's equation 2, which adds the rise of the new
    top class where the prediction changes.
    """
    before, label, top = attempt.probabilities, attempt.label, int(without.argmax())
    fall = float(before[label] - without[label])
    return fall + float(without[top] - before[top]) if margin and top != label else fall


def _round(victim: Victim, attempts: Sequence[Attempt], moves: Moves) -> None:
    """Try each attempt's next word."""
    spots = [Spot(a.original, a.current, a.order.pop(0), a.random) for a in attempts]
    proposed = [
        [spot.current.replaced(spot.position, word) for word in words[: attempt.left]]
        for attempt, spot, words in zip(attempts, spots, moves.propose(spots))
    ]
    for attempt, documents, rows in zip(attempts, proposed, _ask(victim, attempts, proposed)):
        if documents:
            _take_best(attempt, documents, rows)


def _take_best(attempt: Attempt, documents: Sequence[Document], rows: Tensor) -> None:
    """Go on with the first document that flips the prediction, else with the worst for the true class."""
    flips = (rows.argmax(dim=1) != attempt.label).nonzero()
    best = int(flips[0]) if len(flips) else int(rows[:, attempt.label].argmin())
    if len(flips) or rows[best, attempt.label] < attempt.probabilities[attempt.label]:
        attempt.current, attempt.probabilities = documents[best], rows[best]
