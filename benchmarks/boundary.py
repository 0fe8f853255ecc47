"""How much of a student's error on two classes is a boundary in the wrong place: accuracy as it is, and at best.

    python benchmarks/boundary.py --data sst2 --items 800 runs/sst2/as_dfd-truncated-seed0 teachers/sst2-tiny

For each finished run, student or teacher: accuracy, accuracy with the boundary where it would be best on these very
items, area under the ROC curve, and the share of items that are called the second class. The best boundary is chosen
with the test's labels: it says what a student knows, and is nothing that it can be deployed with.
"""

from __future__ import annotations

from pathlib import Path

import torch
import typer
from scipy.stats import mannwhitneyu
from torch import Tensor

from dfkd import config, finished, tasks
from dfkd.console import console, guarded, quiet_libraries
from dfkd.errors import ConfigError
from dfkd.evaluate.predict import judged_items, predict


def main(
    folders: list[Path] = typer.Argument(help="Finished runs, or folders of students or teachers."),
    data: str = typer.Option("sst2", help="A data set of two classes."),
    items: int = typer.Option(2000, help="Test items, at random; the same for every folder."),
    threads: int = typer.Option(1, help="Threads of torch."),
) -> None:
    """Print one line a folder."""
    quiet_libraries()
    torch.set_num_threads(threads)
    task = tasks.load(config.load_data({"data": data}))
    if len(task.config.labels) != 2:
        found = f"{len(task.config.labels)} in '{data}'"
        raise ConfigError("a boundary is between two classes", expected="2", found=found, fix="choose another --data")
    test = task.hand_out("test", to="evaluate")
    judged = judged_items(len(test.texts), items)
    labels = torch.tensor([test.labels[index] for index in judged])
    for folder in folders:
        logits = predict(finished.load_student(folder), [test.texts[index] for index in judged])
        margin = logits[:, 1] - logits[:, 0]
        called = float((margin > 0).float().mean())
        console.print(
            f"{folder}: accuracy {as_it_is(margin, labels):.1%}, at best {at_best(margin, labels):.1%}, "
            f"AUC {area(margin, labels):.3f}, called '{task.config.labels[1]}' {called:.0%}",
            soft_wrap=True,
        )


def as_it_is(margin: Tensor, labels: Tensor) -> float:
    """Accuracy with the boundary at 0, of margins and labels, each (N,)."""
    return float(((margin > 0) == (labels == 1)).float().mean())


def at_best(margin: Tensor, labels: Tensor) -> float:
    """The highest accuracy that any boundary gives."""
    order = margin.argsort()
    ordered, margins = labels[order], margin[order]
    below, above = (ordered == 0).cumsum(0), (ordered == 1).flip(0).cumsum(0).flip(0)
    start, ends = torch.zeros(1, dtype=below.dtype), torch.ones(1, dtype=torch.bool)
    right = torch.cat([start, below]) + torch.cat([above, start])  # boundary before item 0, 1, ..., N
    between = torch.cat([ends, margins[1:] > margins[:-1], ends])  # none fits between items of one margin
    return float(right[between].max()) / len(labels)


def area(margin: Tensor, labels: Tensor) -> float:
    """Area under the ROC curve: the share of pairs of two classes that stand in the right order."""
    second, first = margin[labels == 1].numpy(), margin[labels == 0].numpy()
    return float(mannwhitneyu(second, first).statistic) / (len(second) * len(first))


if __name__ == "__main__":
    guarded(lambda: typer.run(main))
