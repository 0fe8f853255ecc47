"""Texts written by a language model, filtered and counted.

Shapes: B texts, C classes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Sequence

import torch
from torch import Tensor

from dfkd.batch import PseudoBatch
from dfkd.models.language.base import Engine, Generated, Sampling, start_of
from dfkd.synthesis.base import Silent

ANY = -1  # stands for a class where none is asked for
SHORT, DUPLICATE, UNQUOTED = "short", "duplicate", "unquoted"


@dataclass(frozen=True)
class Filters:
    """Which texts are dropped.

    Args:
        min_words: those with fewer words.
        unique: those that were written before.
        tries: rounds of writing for one batch; after the last one, dropped texts are taken after all.
    """

    min_words: int = 5
    unique: bool = True
    tries: int = 4


@dataclass(frozen=True)
class Draft:
    """A prompt to be continued.

    Args:
        tokens: its ids, those that open every text first.
        prompt: as text; empty: there is none.
        label: index of the class that it stands for; ``ANY``: of none.
    """

    tokens: tuple[int, ...]
    prompt: str = ""
    label: int = ANY


class ContentGenerator:
    """The frozen language model that continues prompts.

    Args:
        engine: runs it.
        tokenizer: its own.
        sampling: how to draw.
        opening: what stands before every prompt; ``None``: the token that begins a text.

    Source: the content generator of Ma et al., IJCAI 2022 (PromptDFD, arXiv:2205.07523), section 3.
    """

    def __init__(self, engine: Engine, tokenizer: Any, sampling: Sampling, opening: str | None = None) -> None:
        self.engine, self.tokenizer, self.sampling = engine, tokenizer, sampling
        self.start = start_of(tokenizer, opening)

    def draft(self, prompt: str, label: int = ANY) -> Draft:
        """A prompt, tokenized behind what opens every text."""
        tokens = self.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return Draft((*self.start, *tokens), prompt, label)

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as text, without special ones."""
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text


Drafting = Callable[["list[int]"], "list[Draft]"]
"""Makes a draft for each of the classes asked for."""


class Writer:
    """Writes batches of texts that pass the filters, and counts what it drops.

    A text is dropped when it has too few words, was written before, or lacks the closing quote, and another one is
    written in its place, from a new draft of the same class. Each text has its own seed, drawn from the strategy's
    generator.

    Args:
        source: continues the drafts.
        filters: which texts are dropped, and how often that is tried.
        generator: CPU generator.
        with_prompt: texts are prompt and content, or the content alone.
        closing: texts end before the first of these; ``""``: they end by themselves.
    """

    def __init__(
        self, source: ContentGenerator, filters: Filters, generator: torch.Generator,
        with_prompt: bool = False, closing: str = "",
    ) -> None:
        self.source, self.filters, self.generator = source, filters, generator
        self.with_prompt, self.closing = with_prompt, closing
        self.seen: set[int] = set()
        self.generated_tokens = 0

    def write(self, labels: Sequence[int], drafting: Drafting) -> tuple[PseudoBatch, list[Draft]]:
        """Write a text for each class asked for.

        Args:
            labels: B indices of classes, or ``ANY``.
            drafting: makes the drafts.

        Returns:
            B texts with their prompts (``None`` where no draft has one) and what to log, and the drafts they are from.
        """
        before, wanted = self.source.engine.generated_tokens, list(range(len(labels)))
        taken: dict[int, tuple[str, Draft]] = {}
        spare: dict[int, tuple[str, Draft]] = {}
        counts: Counter[str] = Counter()
        for _ in range(self.filters.tries):
            for slot, text, draft, problem in self._round(wanted, labels, drafting, counts):
                if problem is None:
                    taken[slot] = self._note(text), draft
                elif slot not in spare or len(text.split()) > len(spare[slot][0].split()):
                    spare[slot] = text, draft
            wanted = [slot for slot in wanted if slot not in taken]
            if not wanted:
                break
        taken.update((slot, (self._note(spare[slot][0]), spare[slot][1])) for slot in wanted)
        self.generated_tokens += self.source.engine.generated_tokens - before
        info = self._info(counts, anyway=len(wanted) / len(labels))
        texts, drafts = zip(*(taken[slot] for slot in range(len(labels))))
        prompts = tuple(draft.prompt for draft in drafts)
        return PseudoBatch(texts=texts, prompts=prompts if any(prompts) else None, info=info), list(drafts)

    def _round(
        self, wanted: list[int], labels: Sequence[int], drafting: Drafting, counts: Counter[str]
    ) -> list[tuple[int, str, Draft, str | None]]:
        """One text for each open place, and what is wrong with it."""
        drafts = drafting([labels[slot] for slot in wanted])
        made = self.source.engine.generate(
            [draft.tokens for draft in drafts], self.seeds(len(drafts)), self.source.sampling
        )
        found = []
        fresh: set[int] = set()
        for slot, draft, generated in zip(wanted, drafts, made):
            text, problem = self._judge(draft, generated, fresh)
            fresh.add(digest(text))
            counts.update(texts=1, new_tokens=len(generated.tokens), **({problem: 1} if problem else {}))
            found.append((slot, text, draft, problem))
        return found

    def _judge(self, draft: Draft, generated: Generated, fresh: set[int]) -> tuple[str, str | None]:
        """The text as the classifiers shall see it, and why it is to be dropped (``None``: it is not)."""
        content, closed = generated.text, True
        if self.closing:
            content, quote, _ = content.partition(self.closing)
            closed = bool(quote)
        text = one_line(draft.prompt + content if self.with_prompt else content)
        if not closed:
            return text, UNQUOTED
        if len(text.split()) < self.filters.min_words:
            return text, SHORT
        known = self.filters.unique and (digest(text) in self.seen or digest(text) in fresh)
        return text, DUPLICATE if known else None

    def _note(self, text: str) -> str:
        self.seen.add(digest(text))
        return text

    def seeds(self, n: int) -> list[int]:
        """``n`` seeds, one a text."""
        return [int(seed) for seed in torch.randint(2**63 - 1, (n,), generator=self.generator)]

    def begin_anew(self, seed: int) -> None:
        """Draw from ``seed`` on, and count no text as written before."""
        self.generator.manual_seed(seed)
        self.seen.clear()

    def _info(self, counts: Counter[str], anyway: float) -> dict[str, float]:
        """Facts of a batch: tokens made so far and per text, shares of texts dropped, and of those taken after all."""
        reasons = (SHORT, DUPLICATE, UNQUOTED) if self.closing else (SHORT, DUPLICATE)
        return {
            "generated_tokens": float(self.generated_tokens),
            "mean_new_tokens": counts["new_tokens"] / counts["texts"],
            **{f"dropped_{reason}": counts[reason] / counts["texts"] for reason in reasons},
            "dropped_but_taken": anyway,
        }

    def state_dict(self) -> dict[str, Any]:
        """The generator's state, the texts written so far (as hashes), and the tokens made."""
        seen = torch.tensor(sorted(self.seen), dtype=torch.long)
        return {"generator": self.generator.get_state(), "seen": seen, "generated_tokens": self.generated_tokens}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.generator.set_state(state["generator"])
        self.seen, self.generated_tokens = set(state["seen"].tolist()), state["generated_tokens"]


class Written(Silent):
    """The state of a strategy that is its ``writer``'s; to mix in, as :class:`Silent` is."""

    writer: Writer

    @property
    def generated_tokens(self) -> int:
        """Tokens that the language model has drawn so far."""
        return self.writer.generated_tokens

    def state_dict(self) -> dict[str, Any]:
        """The writer's state, the generator's included."""
        return self.writer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to the state of :meth:`state_dict`."""
        self.writer.load_state_dict(state)


def one_line(text: str) -> str:
    """The text with single spaces for every run of white space, line breaks included."""
    return " ".join(text.split())


def digest(text: str) -> int:
    """A number of 63 bits that tells a text from others, whatever its case."""
    return int.from_bytes(hashlib.sha256(text.lower().encode()).digest()[:8], "big") >> 1


def one_hot(drafts: Sequence[Draft], classes: int) -> Tensor:
    """The drafts' classes as distributions (B, C)."""
    return torch.eye(classes)[torch.tensor([draft.label for draft in drafts])]
