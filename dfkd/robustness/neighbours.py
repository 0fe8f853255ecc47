"""Important words swapped for their nearest neighbours in an embedding table."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dfkd.batch import Text
from dfkd.config import require
from dfkd.errors import ConfigError
from dfkd.models.decode import whole_word_pieces
from dfkd.robustness._documents import is_content, like
from dfkd.robustness._search import Moves, Spot, search
from dfkd.robustness.base import Budget, Context, Perturbed, Victim


@dataclass(frozen=True)
class Options(Budget):
    """Swaps for nearest neighbours.

    Args:
        candidates: largest number of neighbours tried for a word.
        similarity: smallest cosine of a neighbour.
        table: whose input embeddings tell the neighbours: the ``teacher``'s for both, so that both meet the same
            words, or each ``victim``'s own.
    """

    candidates: int = 15
    similarity: float = 0.5
    table: Literal["teacher", "victim"] = "teacher"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.candidates >= 1, self.called("candidates"), "1 or more", self.candidates)
        require(-1 <= self.similarity <= 1, self.called("similarity"), "a cosine in [-1, 1]", self.similarity)
        require(self.table in ("teacher", "victim"), self.called("table"), "teacher or victim", self.table)


class Neighbours:
    """A light TextFooler.

    Args:
        words: V words in lower case.
        table: their vectors, (V, D).
        options: neighbours and budget.
        seed: where a text has more words than can be ranked, of the choice among them.
        column: of pairs, which text is changed.

    Source: Jin et al., "Is BERT Really Robust?", AAAI 2020 (arXiv:1907.11932): importance by leaving a word out
    (equation 2), neighbours above a cosine, the nearest that flips the prediction. There the vectors are
    counter-fitted to keep antonyms apart, and words of another part of speech and sentences that a sentence encoder
    finds too different are refused; here the table is a classifier's own, which needs no download. The mean of the
    vectors is taken off first, as in Mu and Viswanath, ICLR 2018 (arXiv:1702.01417): it makes all words look alike.
    """

    def __init__(self, words: Sequence[str], table: Tensor, options: Options, seed: int = 0, column: int = 0) -> None:
        self.words, self.index = list(words), {word: i for i, word in enumerate(words)}
        self.table = F.normalize(table - table.mean(dim=0), dim=1)
        self.usable = torch.tensor([is_content(word) for word in words], device=table.device)
        self.options, self.seed, self.column = options, seed, column
        self.nearest = functools.cache(self._nearest)

    def perturb(self, victim: Victim, texts: Sequence[Text], labels: Sequence[int]) -> list[Perturbed]:
        """Attack N texts with their true classes."""
        moves = Moves(self._touches, "", margin=True, propose=self._propose)
        return search(victim, texts, labels, moves, self.options, self.seed, self.column)

    def _touches(self, word: str) -> bool:
        return is_content(word) and bool(self.nearest(word.lower()))

    def _propose(self, spots: Sequence[Spot]) -> list[list[str]]:
        return [[like(spot.word, word) for word in self.nearest(spot.word.lower())] for spot in spots]

    def _nearest(self, word: str) -> list[str]:
        """The neighbours of a word in lower case, nearest first; none for words that the table does not have."""
        if word not in self.index:
            return []
        cosines = (self.table @ self.table[self.index[word]]).masked_fill(~self.usable, -2.0)
        cosines[self.index[word]] = -2.0
        best, rows = cosines.topk(min(self.options.candidates, len(self.words)))
        return [self.words[row] for row, cosine in zip(rows.tolist(), best.tolist()) if self._near(cosine)]

    def _near(self, cosine: float) -> bool:
        return cosine > -1.5 and cosine >= self.options.similarity


def input_table(classifier: Any) -> Tensor:
    """The input embeddings of a classifier: (V, D)."""
    tables = [module.weight for module in classifier.embedding_block.modules() if isinstance(module, nn.Embedding)]
    largest: Tensor = max(tables, key=len)  # besides it stand positions and token types
    return largest.detach().float()


def build(options: Options, context: Context) -> Neighbours:
    """The attack, with the words of the teacher's or of the victim's vocabulary.

    Raises:
        ConfigError: the vocabulary has no whole words.
    """
    source = context.victim.classifier if options.table == "victim" else context.teacher
    rows: dict[str, int] = {}
    for word, row in whole_word_pieces(source.tokenizer):
        rows.setdefault(word, row)
    if not rows:
        fix = "take another attack, or the other neighbours.table"
        raise ConfigError(f"the {options.table}'s vocabulary has no whole words to swap", fix=fix)
    table = input_table(source)
    return Neighbours(list(rows), table[list(rows.values())], options, context.seed, context.column)
