"""What AS-DFD's stage 1 costs beyond its arithmetic: K steps against K forward-backward passes of both models.

    python benchmarks/stage_one.py --teacher teachers/sst2 --data sst2 --layers 3
    python benchmarks/stage_one.py                      # an untrained 6-layer teacher of MiniLM's size

Both sides are timed in turn, several rounds in one run; the ratio is that of their medians.
"""

from __future__ import annotations

import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, Callable

import torch
import typer

from dfkd import pipeline, seeding, tasks, teaching
from dfkd.console import console, guarded, quiet_libraries
from dfkd.evaluate.cost import in_turn, seconds
from dfkd.models import tiny
from dfkd.models.classifier import load_classifier
from dfkd.models.students import registry as students
from dfkd.models.students.base import StudentContext
from dfkd.models.teacher import Teacher
from dfkd.synthesis import registry
from dfkd.synthesis.base import Context


def main(
    teacher: str = typer.Option("", help="A finished teacher; without one, an untrained one is made."),
    data: str = typer.Option("toy", help="The teacher's data set."),
    layers: int = typer.Option(3, help="Layers of the student."),
    steps: int = typer.Option(5, help="K."),
    batch: int = typer.Option(64, help="Samples."),
    length: int = typer.Option(64, help="Positions of every sample."),
    rounds: int = typer.Option(7, help="Timed rounds of each side."),
    threads: int = typer.Option(1, help="Threads of torch."),
) -> None:
    """Print the time of stage 1, of its arithmetic alone, and their ratio."""
    quiet_libraries()
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as scratch:
        live = _teacher(teacher or str(_untrained(Path(scratch))), data, length)
    options = students.STUDENTS.options("truncated", {"layers": layers, "init": "fresh"})
    student = students.build("truncated", options, StudentContext(live, "embeddings"))
    sizes = {"guess_steps": steps, "min_length": length, "max_length": length}
    context = Context(live, student, seeding.generator(0, "synthesis"), False, {}, lambda: ())
    strategy = registry.build("as_dfd", registry.options("as_dfd", sizes), context)
    calls: dict[str, Callable[[], object]] = {
        "stage": lambda: strategy.synthesize(batch), "passes": lambda: arithmetic(live, student, batch, length, steps),
    }
    found = in_turn({name: partial(seconds, call) for name, call in calls.items()}, rounds)
    stage, passes = (statistics.median(times) for times in found.values())
    console.print(
        f"K={steps}, {batch} x {length}, {threads} thread(s): stage 1 {stage:.3f} s, "
        f"its passes alone {passes:.3f} s, ratio {stage / passes:.3f}"
    )


def arithmetic(teacher: Teacher, student: Any, batch: int, length: int, steps: int) -> None:
    """``steps`` forward-backward passes on embeddings through the teacher and as many through the student."""
    embeddings = torch.randn(batch, length, teacher.width, requires_grad=True)
    mask = torch.ones(batch, length, dtype=torch.long)
    student.eval()
    for _ in range(steps):
        torch.autograd.grad(teacher.from_embeddings(embeddings, mask).logits.sum(), [embeddings])
        torch.autograd.grad(student.from_embeddings(embeddings, mask).hidden.sum(), [embeddings])
    student.train()


def _teacher(reference: str, data: str, length: int) -> Teacher:
    settings = [f"data={data}", f"data.max_length={length}", f"teacher={reference}", "strategy=as_dfd"]
    return teaching.load_teacher(pipeline.load_config(settings))


def _untrained(folder: Path) -> Path:
    """A BERT of MiniLM's size (6 layers of width 384) with random weights, and a tokenizer for the toy data."""
    from transformers import BertConfig, BertForSequenceClassification

    from dfkd import config

    task = tasks.load(config.load_data({"data": "toy"}))
    tiny.build(folder / "encoder", [str(text) for text in task.hand_out("train", to="teacher_training").texts])
    classifier = load_classifier(str(folder / "encoder"), 128, task.config.labels)
    sizes = BertConfig(
        vocab_size=len(classifier.tokenizer), hidden_size=384, num_hidden_layers=6, num_attention_heads=12,
        intermediate_size=1536,
    )
    sizes.num_labels = len(task.config.labels)
    model = BertForSequenceClassification(sizes)
    classifier.model = model
    classifier.save(folder / "teacher")
    return folder / "teacher"


if __name__ == "__main__":
    guarded(lambda: typer.run(main))
