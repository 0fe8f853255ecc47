"""Words out of a tokenizer's vocabulary."""

from __future__ import annotations

from typing import Any

import torch

from dfkd.errors import ConfigError
from dfkd.models.decode import whole_word_pieces

NO_WORDS = "take a strategy without words, such as random_tokens with strategy.source=pieces"


def whole_words(tokenizer: Any, limit: int, fix: str = NO_WORDS) -> list[str]:
    """The first ``limit`` whole alphabetic words of the vocabulary, lower-cased, in the vocabulary's order.

    Vocabularies are ordered by frequency or by merge, so the first words are the common ones.

    Args:
        tokenizer: of the teacher.
        limit: how many at most.
        fix: what to do where there is none.

    Raises:
        ConfigError: the vocabulary has no such word.
    """
    words = list(dict.fromkeys(word for word, _ in whole_word_pieces(tokenizer)))
    if not words:
        raise ConfigError("the teacher's tokenizer has no whole words", fix=fix)
    return words[:limit]


def draw_length(low: int, high: int, generator: torch.Generator) -> int:
    """A length, uniform on ``low`` to ``high``, both included."""
    return int(torch.randint(low, high + 1, (1,), generator=generator))
