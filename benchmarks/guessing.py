"""How near guessed embeddings come to their targets, for some settings of ``embedding_guess``; nothing is trained.

    python benchmarks/guessing.py --teacher teachers/sst2-tiny --data sst2 \
        strategy=embedding_guess "strategy=embedding_guess strategy.guess_rate=0.02" strategy=embedding_guess/polyak

For each setting: KL(target || teacher's prediction) of the samples, which is 0 where all targets are hit, and how sure
the teacher is of its class, beside how sure the targets are.
"""

from __future__ import annotations

from typing import Any, Mapping

import torch
import typer

from dfkd import pipeline, teaching
from dfkd.console import console, guarded, quiet_libraries
from dfkd.errors import ConfigError
from dfkd.losses import entropy, soft_cross_entropies
from dfkd.models.teacher import Teacher
from dfkd.synthesis import embedding_guess


def main(
    settings: list[str] = typer.Argument(help="Of embedding_guess, spaces between those that go together."),
    teacher: str = typer.Option("teachers/sst2-tiny", help="A finished teacher."),
    data: str = typer.Option("sst2", help="The teacher's data set."),
    samples: int = typer.Option(160, help="Samples of each setting, in batches of 32."),
    threads: int = typer.Option(1, help="Threads of torch."),
) -> None:
    """Print one line a setting."""
    quiet_libraries()
    torch.set_num_threads(threads)
    for setting in settings:
        config = pipeline.load_config([f"data={data}", f"teacher={teacher}", *setting.split()])
        if config.strategy.name != "embedding_guess":
            fix = "add strategy=embedding_guess; other strategies look at a student as well"
            raise ConfigError("not a setting of embedding_guess", found=config.strategy.name, fix=fix)
        missed, sure, asked = measure(teaching.load_teacher(config), config.strategy.options, samples)
        console.print(
            f"{setting}: KL {missed:.3f}, the teacher's confidence {sure:.3f}, that of the targets {asked:.3f}",
            soft_wrap=True,
        )


def measure(teacher: Teacher, options: Mapping[str, Any], samples: int) -> tuple[float, float, float]:
    """KL(target || prediction), the teacher's confidence and the targets', each the mean over the samples."""
    strategy = embedding_guess.EmbeddingGuess(
        teacher, embedding_guess.Options(**options), torch.Generator().manual_seed(0)
    )
    found = []
    for _ in range(max(1, samples // 32)):
        batch = strategy.synthesize(32)
        assert batch.embeddings is not None and batch.attention_mask is not None and batch.targets is not None
        with torch.no_grad():
            logits = teacher.from_embeddings(batch.embeddings, batch.attention_mask).logits
        kl = soft_cross_entropies(logits, batch.targets) - entropy(batch.targets)
        sure, asked = (shares.max(dim=1).values for shares in (logits.softmax(dim=1), batch.targets))
        found.append(torch.stack([kl, sure, asked]).mean(dim=1))
    missed, confidence, wanted = torch.stack(found).mean(dim=0).tolist()
    return missed, confidence, wanted


if __name__ == "__main__":
    guarded(lambda: typer.run(main))
