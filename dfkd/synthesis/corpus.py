"""Unlabelled text from outside of the task: sentences of any file or hub data set."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Iterable, Literal, Optional, Sequence

import torch

from dfkd.batch import PseudoBatch, Text
from dfkd.config import require
from dfkd.errors import ConfigError
from dfkd.synthesis._epochs import Epochs
from dfkd.synthesis.base import Context, Corpus, Facts, Silent

SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+")


@dataclass(frozen=True)
class Options:
    """Where the texts come from, and how they are cut.

    Args:
        file: .txt (one text a line), .csv, .tsv, .jsonl or .parquet, plain or compressed; an Arrow folder;
            package:DIST:PATH; or hub:NAME. Relative paths are looked up under DFKD_DATA, then in the working directory.
        column: that holds the texts; not for .txt.
        split: of a hub data set or an Arrow folder.
        hub_config: the hub data set's configuration; None: the only one.
        limit: read the first so many texts; None: all.
        cut: ``sentences``, those above max_words cut further; ``pieces`` of max_words words; ``lines``: not at all.
        min_words: shorter ones are left out.
        max_words: most words of a sentence or piece.
    """

    injects: ClassVar[str] = "tokens"
    uses_real_text: ClassVar[bool] = False

    file: str = ""
    column: str = "text"
    split: str = "train"
    hub_config: Optional[str] = None
    limit: Optional[int] = 100_000
    cut: Literal["sentences", "pieces", "lines"] = "sentences"
    min_words: int = 4
    max_words: int = 40

    def __post_init__(self) -> None:
        require(self.limit is None or self.limit >= 1, "strategy.limit", "1 or more", self.limit)
        require(self.min_words >= 1, "strategy.min_words", "1 or more", self.min_words)
        ordered = self.min_words <= self.max_words
        require(ordered, "strategy.max_words", f"{self.min_words} or more", self.max_words)


class OutsideText(Silent):
    """Goes through texts in a random order; none comes again before all have come.

    Args:
        texts: at least one.
        pair: make pairs of texts.
        generator: CPU generator of the orders.

    Source: Krishna et al., ICLR 2020 (arXiv:1910.12366), the WIKI queries: sentences of WikiText-103; here of any
    corpus. A pair there is a hypothesis made from its premise; here it is two texts.
    """

    def __init__(self, texts: Sequence[str], pair: bool, generator: torch.Generator) -> None:
        self.texts, self.pair = texts, pair
        self.epochs = Epochs(len(texts), generator)

    def synthesize(self, n: int) -> PseudoBatch:
        """The next ``n`` texts."""
        return PseudoBatch(texts=self._samples(self.epochs.next(2 * n if self.pair else n)))

    def hold_out(self, n: int) -> PseudoBatch | None:
        """``n`` texts that are never trained on, or fewer: at least three quarters of all texts stay."""
        texts = self._samples(self.epochs.hold_out(2 * n if self.pair else n))
        return PseudoBatch(texts=texts) if texts else None

    def _samples(self, indices: Sequence[int]) -> tuple[Text, ...]:
        texts = [self.texts[index] for index in indices]
        return tuple(zip(texts[::2], texts[1::2])) if self.pair else tuple(texts)

    def state_dict(self) -> dict[str, Any]:
        """The current order and position, what is held out, and the generator's state."""
        return self.epochs.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.epochs.load_state_dict(state)


def pieces(text: str, most: int) -> list[str]:
    """A text cut after every ``most`` words."""
    words = text.split()
    return [" ".join(words[start : start + most]) for start in range(0, len(words), most)]


def cut(texts: Iterable[str], options: Options) -> list[str]:
    """Texts cut as the options say, in their order, each once; the short ones are left out."""
    found: dict[str, None] = {}
    for text in texts:
        parts = SENTENCE_END.split(text) if options.cut == "sentences" else [text]
        if options.cut != "lines":
            parts = [piece for part in parts for piece in pieces(part, options.max_words)]
        found.update((part, None) for part in parts if len(part.split()) >= options.min_words)
    return list(found)


def read(options: Options, corpus: Corpus) -> list[str]:
    """The texts of the corpus that are long enough, cut.

    Args:
        options: where it is, and how it is cut.
        corpus: the door to it.

    Raises:
        ConfigError: the corpus is not there, is the task's own, or holds no text of that length.
    """
    texts = corpus(options.file, options.column, options.split, options.hub_config, options.limit)
    units = cut(texts, options)
    if not units:
        raise ConfigError(
            f"'{options.file}' has no text of {options.min_words} words or more",
            found=f"{len(texts)} texts", fix="lower strategy.min_words, or give another corpus",
        )
    return units


def check(options: Options, facts: Facts) -> None:
    """Whether the corpus can be read, before any work.

    Raises:
        ConfigError: as :func:`read`.
    """
    read(options, facts.corpus)


def build(options: Options, context: Context) -> OutsideText:
    """The corpus, through a door that refuses the task's own texts.

    Raises:
        ConfigError: as :func:`read`.
    """
    return OutsideText(read(options, context.corpus), context.pair, context.generator)
