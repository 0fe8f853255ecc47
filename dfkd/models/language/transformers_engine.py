"""Generation with transformers' models and a decoding loop of our own.

Shapes: B prompts of one length, P tokens of a prompt, V vocabulary entries.
"""

from __future__ import annotations

from typing import Any, Iterator, Sequence

import torch
from torch import Tensor

from dfkd.models.language._cache import RowCache
from dfkd.models.language._tokens import check_request, end_tokens, generated, positions, tokens_with
from dfkd.models.language.base import Generated, LanguageModel, Sampling, last_logits
from dfkd.models.language.sampling import next_tokens


class TransformersEngine:
    """Continues prompts in batches of equal prompt length, and computes nothing that is thrown away.

    No padding; equal prompts, and what opens all of a batch, are read once; logits are made for the last position
    alone; a text that has ended leaves the batch and its cache at once. Each text has its own random generator, so that
    in float32 it does not depend on its batch (up to rounding at a tie); in bf16 the kernels for other batch sizes
    round otherwise.

    Args:
        language_model: frozen while generating, whatever adapters a policy has put into it.
        batch_size: texts at a time, at most.
        stop: a text also ends after the first token that contains this; that token stays. Empty: nothing but the
            model ends it.
    """

    def __init__(self, language_model: LanguageModel, batch_size: int = 64, stop: str = "") -> None:
        self.language_model, self.batch_size = language_model, batch_size
        self.generated_tokens = 0
        model, self.tokenizer = language_model.model, language_model.tokenizer
        self.ends = end_tokens(self.tokenizer, model.config, getattr(model, "generation_config", None))
        self.stops = tokens_with(self.tokenizer, stop)

    def generate(self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling) -> list[Generated]:
        """Continue each prompt.

        Args:
            prompts: B prompts of token ids, of any lengths, each at least one token long.
            seeds: B seeds, one a prompt.
            sampling: how to draw.

        Raises:
            ConfigError: prompt and text do not fit into the model.
            ValueError: a prompt is empty, or there are not as many seeds.
        """
        room = positions(self.language_model.model.config)
        check_request(prompts, seeds, room, sampling.max_new_tokens)
        found: dict[int, Generated] = {}
        device = self.language_model.device
        # a trainer's autocast would cast all weights anew for each token
        with self.language_model.frozen() as model, torch.autocast(device.type, enabled=False):
            for chosen in batches(prompts, self.batch_size):
                rows = _Rows([prompts[i] for i in chosen], [seeds[i] for i in chosen], sampling, device)
                self._write(model, rows, sampling)
                for place, (tokens, ended) in rows.finished.items():
                    prompt = prompts[chosen[place]]
                    found[chosen[place]] = generated(self.tokenizer, prompt, tokens, ended)
        return [found[i] for i in range(len(prompts))]

    def _write(self, model: Any, rows: _Rows, sampling: Sampling) -> None:
        """Continue all rows to their ends."""
        cache = RowCache()
        logits = _read(model, rows, cache)
        never = torch.tensor(sampling.banned, dtype=torch.long, device=logits.device)
        early = torch.tensor(sorted({*self.ends, *self.stops, *sampling.banned}), device=logits.device)
        for step in range(sampling.max_new_tokens):
            banned = early if step < sampling.min_new_tokens else never
            drawn = next_tokens(logits, rows.so_far(), sampling, rows.generators, banned)
            self.generated_tokens += len(drawn)
            rows.append(drawn)
            rows.finish(self.ends, self.stops, final=step + 1 == sampling.max_new_tokens, cache=cache)
            if not rows.places:
                return
            logits = _next_logits(model, rows.so_far()[:, -1:], cache)


class _Rows:
    """The texts that are not finished yet, in the first rows of a table of tokens.

    Args:
        prompts: B prompts of one length P.
        seeds: B seeds.
        sampling: says how many tokens to make room for.
        device: of the model.
    """

    def __init__(
        self, prompts: Sequence[Sequence[int]], seeds: Sequence[int], sampling: Sampling, device: torch.device
    ) -> None:
        self.prompt_length = self.length = len(prompts[0])
        self.capacity = self.prompt_length + sampling.max_new_tokens
        self.tokens = torch.zeros(len(prompts), self.capacity, dtype=torch.long, device=device)
        self.tokens[:, : self.length] = torch.tensor([list(prompt) for prompt in prompts], device=device)
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.places = list(range(len(prompts)))  # row -> which of the prompts it continues
        self.finished: dict[int, tuple[list[int], bool]] = {}

    def so_far(self) -> Tensor:
        """Prompts and new tokens of the unfinished texts."""
        return self.tokens[: len(self.places), : self.length]

    def append(self, drawn: Tensor) -> None:
        """Add one token (B,) to each unfinished text."""
        self.tokens[: len(self.places), self.length] = drawn
        self.length += 1

    def finish(self, ends: frozenset[int], stops: frozenset[int], final: bool, cache: RowCache) -> None:
        """Take out the texts whose last token ends them, all of them where it is the ``final`` one."""
        over: list[int] = []
        alive: list[int] = []
        for row, token in enumerate(self.so_far()[:, -1].tolist()):
            (over if final or token in ends or token in stops else alive).append(row)
        for row in over:
            new = self.tokens[row, self.prompt_length : self.length].tolist()
            ended = new[-1] in ends
            self.finished[self.places[row]] = (new[:-1] if ended else new, ended or new[-1] in stops)
        if over:
            self._close_ranks(over, alive, cache)

    def _close_ranks(self, over: Sequence[int], alive: Sequence[int], cache: RowCache) -> None:
        """Move the last unfinished rows to where the finished ones stood: no row is copied without need."""
        holes = [row for row in over if row < len(alive)]
        movers = [row for row in alive if row >= len(alive)]
        for hole, mover in zip(holes, movers):
            self.generators[hole], self.places[hole] = self.generators[mover], self.places[mover]
        del self.generators[len(alive) :], self.places[len(alive) :]
        targets, sources = (torch.tensor(rows, dtype=torch.long, device=self.tokens.device) for rows in (holes, movers))
        self.tokens[targets] = self.tokens[sources]
        cache.move(sources, targets, len(alive))


def batches(prompts: Sequence[Sequence[int]], size: int) -> Iterator[list[int]]:
    """The indices of the prompts in batches of one length, ``size`` at most, equal prompts side by side."""
    order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), tuple(prompts[i])))
    batch: list[int] = []
    for index in order:
        if batch and (len(batch) == size or len(prompts[index]) != len(prompts[batch[0]])):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _read(model: Any, rows: _Rows, cache: RowCache) -> Tensor:
    """Read the prompts into the cache, equal ones and what opens them all once; the logits (B, V) after each."""
    distinct, which = torch.unique(rows.so_far(), dim=0, return_inverse=True)
    alike = (distinct[:, :-1] == distinct[:1, :-1]).all(dim=0)
    shared = int(alike.int().cumprod(dim=0).sum()) if len(distinct) > 1 else 0
    if shared:
        _next_logits(model, distinct[:1, :shared], cache)
        cache.spread(torch.zeros(len(distinct), dtype=torch.long, device=distinct.device), rows.prompt_length)
    logits = _next_logits(model, distinct[:, shared:], cache)
    cache.spread(which, rows.capacity)
    return logits[which]


def _next_logits(model: Any, ids: Tensor, cache: RowCache) -> Tensor:
    """The logits (B, V) after ids (B, any number) that follow what the cache holds."""
    return last_logits(model, ids, 1, past_key_values=cache, use_cache=True)[:, -1]
