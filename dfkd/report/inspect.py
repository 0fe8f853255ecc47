"""A look into a run: alarms, notes, how its pseudo samples and their classes changed, and samples by class."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any, Mapping, Sequence

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from dfkd import pool
from dfkd.config import read_yaml
from dfkd.errors import ConfigError
from dfkd.quality.alarms import Alarm
from dfkd.runs import RunFolder

Record = dict[str, Any]
NOT_FACTS = ("step", "classes", "fresh", "learning_rate", "seconds")
AVERAGED = 5
FILES_READ = 12  # at the beginning, in the middle and at the end, each: texts to look at, of pools of any size
HELDOUT = "heldout_agreement"


def inspect_run(path: Path, per_class: int = 3) -> Group:
    """What a run, finished or not, says of its pseudo samples, for a terminal.

    Args:
        path: the run's folder.
        per_class: samples of each class, early and late.

    Raises:
        ConfigError: there is no run, or it has not begun to train.
    """
    folder = RunFolder(path)
    metrics = folder.read_log("metrics") if folder.path.is_dir() else []
    if not metrics:
        found = "a run that has not begun to train" if folder.path.is_dir() else "no such folder"
        fix = "give the folder of a run, such as runs/sst2/as_dfd-truncated-seed0, or of a pool"
        raise ConfigError(f"nothing to inspect in '{path}'", expected="a run with metrics.jsonl", found=found, fix=fix)
    parts: list[RenderableType] = [Text(f"{folder.path}, {metrics[-1]['step'] + 1} steps")]
    parts += [Text(f"alarm, {alarm_line(alarm)}", style="yellow") for alarm in folder.read_log("alarms")]
    parts += [Text("\n".join(notes_lines(folder.read_notes())))] if folder.read_notes() else []
    data, strategy = _settings(folder)
    labels = [str(label) for label in data.get("labels", ())]
    shown = samples_of(folder, labels, str(strategy.get("name")))
    return Group(*parts, facts_table(metrics), classes_table(metrics, labels), samples_table(shown, per_class))


def samples_of(folder: RunFolder, labels: Sequence[str], strategy: str) -> list[Record]:
    """Samples of a run: of the texts that its replay has kept, with their rewards; of earlier ones what was logged.

    Args:
        folder: of the run.
        labels: C class names, as the teacher's outputs stand.
        strategy: the run's; parts of it are told by name.
    """
    paths = sorted((folder.path / "pool").glob("*.arrow"))
    chosen = over_the_course([{"path": path} for path in paths], FILES_READ)
    kept = [shown(row, labels, strategy) for entry in chosen for row in pool.read_file(entry["path"]) if row["text"]]
    oldest = min((sample["step"] for sample in kept), default=None)
    return [sample for sample in folder.read_log("samples") if oldest is None or sample["step"] < oldest] + kept


def shown(row: Record, labels: Sequence[str], strategy: str) -> Record:
    """A sample of a pool's file, as a run's ``samples.jsonl`` has them."""
    confidence, best = torch.tensor(row["teacher_logits"]).softmax(dim=0).max(dim=0)
    text = row["text"] if row["text_pair"] is None else f"{row['text']} | {row['text_pair']}"
    name = labels[int(best)] if len(labels) == len(row["teacher_logits"]) else str(int(best))
    sample = {"step": row["step"], "text": text, "teacher_class": name, "confidence": float(confidence)}
    sample |= {name: row[name] for name in ("prompt", "reward") if row[name] is not None}
    return {**sample, **({"strategy": row["strategy"]} if row["strategy"] not in (None, strategy) else {})}


def alarm_line(alarm: Record) -> str:
    """One alarm of ``alarms.jsonl`` as a sentence."""
    return str(Alarm(**alarm))


def early_and_late(metrics: Sequence[Record]) -> dict[str, tuple[float, float]]:
    """Every logged number: its mean over the first and over the last few fresh batches that have it.

    Of what is measured on samples set aside, at any step: the first and the last value.
    """
    found: dict[str, tuple[float, float]] = {}
    set_aside = [float(record[HELDOUT]) for record in metrics if record.get(HELDOUT) is not None]
    if set_aside:
        found[HELDOUT] = set_aside[0], set_aside[-1]
    fresh = [{**record, HELDOUT: None} for record in metrics if record.get("fresh", True)]
    for name in dict.fromkeys(name for record in fresh for name in record if name not in NOT_FACTS):
        values = [float(record[name]) for record in fresh if isinstance(record.get(name), (int, float))]
        if values:
            found[name] = statistics.fmean(values[:AVERAGED]), statistics.fmean(values[-AVERAGED:])
    return found


def facts_table(metrics: Sequence[Record]) -> Table:
    """Losses and diagnostics, early against late."""
    title = f"fresh batches: means over the first {AVERAGED} and the last {AVERAGED}; {HELDOUT}: first and last"
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left")
    table.add_column("fact")
    table.add_column("early", justify="right")
    table.add_column("late", justify="right")
    for name, (early, late) in early_and_late(metrics).items():
        table.add_row(name, f"{early:.4g}", f"{late:.4g}")
    return table


def classes_table(metrics: Sequence[Record], labels: Sequence[str]) -> Table:
    """The teacher's classes of the fresh samples: shares early, late, and of all.

    Args:
        metrics: the log.
        labels: C class names; where there are others in number than classes in the log, those are numbered.
    """
    counts = [record["classes"] for record in metrics if record.get("fresh", True) and record.get("classes")]
    parts = [class_shares(part) for part in (counts[:AVERAGED], counts[-AVERAGED:], counts)]
    names = labels if len(labels) == len(parts[0]) else [str(index) for index in range(len(parts[0]))]
    title = f"the teacher's classes of fresh samples: the first {AVERAGED} batches, the last {AVERAGED}, all"
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left")
    for heading in ("class", "early", "late", "all"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for name, *shares in zip(names, *parts):
        table.add_row(escape(str(name)), *(f"{share:.1%}" for share in shares))
    return table


def class_shares(counts: Sequence[Sequence[int]]) -> list[float]:
    """The share of each of C classes over batches with these counts (C,) of samples; empty without a batch."""
    totals = [sum(column) for column in zip(*counts)]
    return [total / max(1, sum(totals)) for total in totals]


def _settings(folder: RunFolder) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What a run's settings say of its data set and its strategy; nothing where they cannot be read."""
    path = folder.path / "config.yaml"
    stored = read_yaml(path) if path.is_file() else {}
    data, strategy = (stored.get(name) for name in ("data", "strategy"))
    return data if isinstance(data, dict) else {}, strategy if isinstance(strategy, dict) else {}


def samples_table(samples: Sequence[Record], per_class: int) -> Table:
    """Samples by the teacher's class over the course of the training: of the first, the middle and the last steps.

    Prompts, rewards and the parts of a mixture have columns where there are some.
    """
    title = "samples by the teacher's class (embeddings: their nearest tokens)"
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", show_lines=True)
    further = [name for name in ("strategy", "reward", "prompt") if any(name in sample for sample in samples)]
    for heading in ("class", "step", "confidence", *further):
        table.add_column(heading, justify="right" if heading in ("step", "confidence", "reward") else "left")
    table.add_column("sample", overflow="fold")
    for name in dict.fromkeys(sample["teacher_class"] for sample in samples):
        of_class = sorted((s for s in samples if s["teacher_class"] == name), key=lambda s: int(s["step"]))
        for sample in over_the_course(of_class, per_class):
            row = (str(name), str(sample["step"]), f"{sample['confidence']:.2f}")
            cells = (*row, *(_cell(sample.get(column)) for column in further), str(sample["text"]))
            table.add_row(*(escape(cell) for cell in cells))
    return table


def over_the_course(samples: Sequence[Record], count: int) -> list[Record]:
    """The first, the middle and the last ``count`` of some samples, none twice, in their order."""
    middle = max(0, (len(samples) - count) // 2)
    places = {*range(count), *range(middle, middle + count), *range(len(samples) - count, len(samples))}
    return [samples[place] for place in sorted(places) if 0 <= place < len(samples)]


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def notes_lines(notes: Mapping[str, Any], indent: str = "") -> list[str]:
    """What a strategy has to tell, such as its keywords, as lines; numbers in pairs are left out."""
    lines = []
    for name, value in notes.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{name}:", *notes_lines(value, indent + "  ")]
        elif isinstance(value, (list, tuple)):
            shown = (str(item[0] if isinstance(item, (list, tuple)) and item else item) for item in value)
            lines.append(f"{indent}{name}: {', '.join(shown)}")
        else:
            lines.append(f"{indent}{name}: {value}")
    return lines
