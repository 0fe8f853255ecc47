"""Words out of a tokenizer's vocabulary."""

from __future__ import annotations

from typing import Any

import torch

from dfkd.errors import ConfigError

WORD_STARTS = ("Ġ", "▁")


def whole_words(tokenizer: Any, limit: int) -> list[str]:
    """The first ``limit`` whole alphabetic words of the vocabulary, lower-cased, in the vocabulary's order.

    Vocabularies are ordered by frequency or by merge, so the first words are the common ones. Word starts are told
    by a leading ``Ġ`` (byte-level BPE) or ``▁`` (sentencepiece); without either, every piece without ``##`` is one.

    Raises:
        ConfigError: the vocabulary has no such word.
    """
    pieces = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    start = next((mark for mark in WORD_STARTS if any(piece.startswith(mark) for piece, _ in pieces)), "")
    special = set(tokenizer.all_special_tokens)
    words: dict[str, None] = {}
    for piece, _ in pieces:
        word = piece.removeprefix(start).lower()
        if piece.startswith(start) and piece not in special and len(word) > 1 and word.isalpha():
            words[word] = None
    if not words:
        raise ConfigError("the teacher's tokenizer has no whole words", fix="add strategy.source=pieces")
    return list(words)[:limit]


def draw_length(low: int, high: int, generator: torch.Generator) -> int:
    """A length, uniform on ``low`` to ``high``, both included."""
    return int(torch.randint(low, high + 1, (1,), generator=generator))
