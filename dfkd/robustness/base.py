"""What an attack works with: a victim that counts its queries, a budget, and what it hands back.

Shapes: N texts, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Sequence

from torch import Tensor

from dfkd.batch import Text
from dfkd.config import require
from dfkd.evaluate.predict import predict


@dataclass(frozen=True)
class Budget:
    """What an attack may spend on a text.

    Args:
        max_share: largest share of a text's words that may be changed, rounded down to whole words.
        max_queries: largest number of queries to the victim, the look at the original included.
    """

    max_share: float = 0.3
    max_queries: int = 500

    def __post_init__(self) -> None:
        require(0 <= self.max_share <= 1, self.called("max_share"), "a share in [0, 1]", self.max_share)
        require(self.max_queries >= 1, self.called("max_queries"), "1 or more", self.max_queries)

    def called(self, field: str) -> str:
        """What messages and the command line call a field: the attack's name, a dot, its own."""
        return f"{type(self).__module__.rpartition('.')[2]}.{field}"


class Victim:
    """A classifier under attack: texts in, probabilities out, each text counted.

    Args:
        classifier: of teacher or student, with ``from_texts`` and ``tokenizer``.
        order: for each class, the index of its output; ``None``: as they stand.
        batch_size: texts at a time.
    """

    def __init__(self, classifier: Any, order: Sequence[int] | None = None, batch_size: int = 64) -> None:
        self.classifier = classifier
        self.order = None if order is None else list(order)
        self.batch_size = batch_size
        self.queries = 0

    @property
    def unknown(self) -> str:
        """The token that this victim reads unknown words as; empty for tokenizers without one."""
        return self.classifier.tokenizer.unk_token or ""

    def logits(self, texts: Sequence[Text]) -> Tensor:
        """(N, C) of at least one text, on the CPU."""
        self.queries += len(texts)
        logits = predict(self.classifier, texts, self.batch_size)
        return logits if self.order is None else logits[:, self.order]

    def probabilities(self, texts: Sequence[Text]) -> Tensor:
        """(N, C) of at least one text, on the CPU."""
        return self.logits(texts).softmax(dim=1)


@dataclass(frozen=True)
class Perturbed:
    """What an attack made of one text.

    Args:
        original: the text, or the pair.
        text: what became of it: where the attack failed the worst that it found, where it did not try the original.
        label: the true class.
        before: the class predicted for the original.
        after: the class predicted for ``text``.
        words: number of words of the attacked text.
        changed: old and new word of each change, in the order of the text.
        queries: spent on this text.
    """

    original: Text
    text: Text
    label: int
    before: int
    after: int
    words: int
    changed: tuple[tuple[str, str], ...]
    queries: int

    @property
    def attacked(self) -> bool:
        """Whether it was tried: texts that are misclassified as they are need no attack."""
        return self.before == self.label

    @property
    def succeeded(self) -> bool:
        """Whether a correct prediction was turned into a wrong one."""
        return self.attacked and self.after != self.label


@dataclass(frozen=True)
class Context:
    """What an attack is built with.

    Args:
        victim: what it will attack.
        teacher: the run's teacher, a classifier.
        seed: of every random choice, together with the text itself.
        column: of pairs, which text is changed: 0 or 1.
    """

    victim: Victim
    teacher: Any
    seed: int = 0
    column: int = 0


class Attack(Protocol):
    """Changes texts until the victim errs."""

    def perturb(self, victim: Victim, texts: Sequence[Text], labels: Sequence[int]) -> list[Perturbed]:
        """Attack N texts with their true classes, all at once; what a text becomes does not depend on the others."""
