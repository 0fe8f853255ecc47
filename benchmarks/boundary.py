"""How much of a student's error on two classes is a boundary in the wrong place: accuracy as it is, and at best.

    python benchmarks/boundary.py --data sst2 --items 800 runs/sst2/as_dfd-truncated-seed0 teachers/sst2-tiny

For each finished run, student or teacher: accuracy, accuracy with the boundary where it would be best on these very
items, area under the ROC curve, and the share of items that are called the second class. The best boundary is chosen
with the test's labels: it says what a student knows, and is nothing that it can be deployed with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import numpy
import torch
import typer
from sklearn.metrics import roc_auc_score, roc_curve

from dfkd import config, finished, tasks
from dfkd.console import console, guarded, quiet_libraries
from dfkd.errors import ConfigError
from dfkd.evaluate.predict import judged_items, predict
from dfkd.evaluate.scores import scores


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
    labels = [test.labels[index] for index in judged]
    for folder in folders:
        logits = predict(finished.load_student(folder), [test.texts[index] for index in judged])
        margin = (logits[:, 1] - logits[:, 0]).numpy()
        console.print(
            f"{folder}: accuracy {scores(logits, labels)['accuracy']:.1%}, at best {at_best(margin, labels):.1%}, "
            f"AUC {roc_auc_score(labels, margin):.3f}, called '{task.config.labels[1]}' {(margin > 0).mean():.0%}",
            soft_wrap=True,
        )


def at_best(margin: numpy.ndarray, labels: Sequence[int]) -> float:
    """The highest accuracy that any boundary gives.

    Args:
        margin: (N,), logits of the second class minus those of the first.
        labels: N class indices, 0 or 1, both among them.
    """
    wrongly, rightly, _ = roc_curve(labels, margin)  # called the second class: shares of the first, of the second
    second = sum(labels)
    return float((rightly * second + (1 - wrongly) * (len(labels) - second)).max()) / len(labels)


if __name__ == "__main__":
    guarded(lambda: typer.run(main))
