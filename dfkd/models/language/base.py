"""What a language model and an engine are.

Shapes: B prompts, P prompt tokens, V vocabulary entries.
"""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Iterator, Protocol, Sequence

import torch
from torch import Tensor

from dfkd.config import require


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Args:
        temperature: logits are divided by it; 0: always the likeliest token.
        top_k: draw from the k likeliest tokens alone; 0: no limit.
        top_p: draw from the smallest set of tokens with this much probability.
        repetition_penalty: above 1: tokens that are there already become less likely (arXiv:1909.05858).
        min_new_tokens: no end of text before this many new tokens.
        max_new_tokens: no more new tokens than this.
        banned: ids that are never drawn.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 0.9
    repetition_penalty: float = 1.0
    min_new_tokens: int = 0
    max_new_tokens: int = 32
    banned: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require(self.temperature >= 0, "strategy.temperature", "0 or more", self.temperature)
        require(self.top_k >= 0, "strategy.top_k", "0 or more", self.top_k)
        require(0 < self.top_p <= 1, "strategy.top_p", "in (0, 1]", self.top_p)
        require(self.repetition_penalty > 0, "strategy.repetition_penalty", "above 0", self.repetition_penalty)
        require(self.max_new_tokens >= 1, "strategy.max_new_tokens", "1 or more", self.max_new_tokens)
        fits = 0 <= self.min_new_tokens <= self.max_new_tokens
        require(fits, "strategy.min_new_tokens", f"0 to {self.max_new_tokens}", self.min_new_tokens)


@dataclass(frozen=True)
class Generated:
    """What an engine made of one prompt.

    Args:
        tokens: ids of the new tokens, without the end of text.
        text: the new tokens as text.
        ended: whether the model ended the text itself, rather than being cut at ``max_new_tokens``.
    """

    tokens: tuple[int, ...]
    text: str
    ended: bool


class Engine(Protocol):
    """Continues prompts with a frozen language model."""

    generated_tokens: int
    """New tokens drawn so far, those that ended a text included."""
    ends: frozenset[int]
    """The tokens that end a text."""

    def generate(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling) -> list[Generated]:
        """Continue each prompt.

        Args:
            prompts: B prompts of token ids, of any lengths, each at least one token long.
            seeds: B seeds, one a prompt: a text does not depend on what else is in its batch.
            sampling: how to draw.
        """


def start_of(tokenizer: Any, opening: str | None = None) -> list[int]:
    """The ids that begin every text.

    Args:
        tokenizer: of the language model.
        opening: what begins them, special tokens by their names; ``None``: the token for the beginning of a text, else
            the one that ends a text before it.
    """
    if opening is not None:
        return [int(index) for index in tokenizer(opening, add_special_tokens=False)["input_ids"]]
    first = tokenizer.bos_token_id
    return [int(tokenizer.eos_token_id if first is None else first)]


def last_logits(model: Any, ids: Tensor, keep: int, **how: Any) -> Tensor:
    """What a causal model says of the next token after each of the last ids.

    Args:
        model: of transformers, with adapters or without.
        ids: (B, L).
        keep: number of those last ids, at most L.
        how: further arguments of its forward pass: cache, mask.

    Returns:
        Logits (B, ``keep``, V); others are not even computed, where the architecture can leave them out.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    if "logits_to_keep" in inspect.signature(base.forward).parameters:
        how["logits_to_keep"] = keep
    logits: Tensor = model(input_ids=ids, **how).logits[:, -keep:]
    return logits


@dataclass
class LanguageModel:
    """A frozen causal language model with its tokenizer.

    Args:
        model: of transformers, in evaluation mode, without gradients; a policy may have put adapters into it.
        tokenizer: its own.
        reference: where it came from.
    """

    model: Any
    tokenizer: Any
    reference: str = ""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def start(self) -> list[int]:
        """The ids that begin every text: the token for it, else the one that ends a text before it."""
        return start_of(self.tokenizer)

    @contextmanager
    def frozen(self) -> Iterator[Any]:
        """The model as it was loaded: without gradients, and with any adapters switched off meanwhile."""
        adapters = hasattr(self.model, "disable_adapter")
        with torch.no_grad():
            if adapters:
                with self.model.disable_adapter():
                    yield self.model
            else:
                yield self.model
