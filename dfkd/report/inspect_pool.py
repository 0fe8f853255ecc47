"""A look into a pool of pseudo texts: alarms, how its batches changed, and texts and prompts by class."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

from rich.console import Group, RenderableType
from rich.text import Text

from dfkd import runs, text_pool
from dfkd.errors import ConfigError
from dfkd.report.inspect import (
    FILES_READ, Record, alarm_line, facts_table, notes_lines, over_the_course, samples_table, shown,
)


def is_pool(path: Path) -> bool:
    """Whether a folder holds a pool, finished or not."""
    return (path / text_pool.FACTS).is_file()


def inspect_pool(path: Path, per_class: int = 3) -> Group:
    """What there is to see of a pool, finished or not, for a terminal.

    Args:
        path: the pool's folder.
        per_class: texts of each class, of the first, the middle and the last batches.

    Raises:
        ConfigError: it is no pool, it is damaged, or it holds no sample yet.
    """
    facts = text_pool.read_facts(path)
    if facts is None or not facts["samples"]:
        raise ConfigError(f"nothing to inspect in '{path}'", expected="a pool with samples", fix="make it first")
    metrics = runs.read_jsonl(path / "metrics.jsonl")  # pools of older versions have none
    parts: list[RenderableType] = [Text(summary(path, facts))]
    alarms = runs.read_jsonl(path / "alarms.jsonl")
    parts += [Text(f"alarm, {alarm_line(alarm)}", style="yellow") for alarm in alarms]
    parts += [Text("\n".join(notes_lines(facts["notes"])))] if facts.get("notes") else []
    parts += [facts_table(metrics)] if metrics else []
    return Group(*parts, samples_table(samples(path, facts), per_class))


def summary(path: Path, facts: Mapping[str, Any]) -> str:
    """A pool in two lines: how much there is of it, and of which classes."""
    state = "" if facts["finished"] else ", not finished"
    dropped = ", ".join(f"{count} {kind}" for kind, count in facts["dropped"].items())
    counted = classes(path, facts)
    shares = ", ".join(f"{label} {100 * count / sum(counted.values()):.0f} %" for label, count in counted.items())
    first = f"{path}, {facts['samples']} samples by {facts['strategy']}{state}; dropped: {dropped}"
    return f"{first}\nthe teacher's classes: {shares}"


def classes(path: Path, facts: Mapping[str, Any]) -> dict[str, int]:
    """How many samples the teacher sees of each class."""
    pool = text_pool.samples_of(path)
    pool.adopt(facts["files"])
    return dict(zip(facts["labels"], pool.class_counts(len(facts["labels"]))))


def samples(path: Path, facts: Mapping[str, Any]) -> list[Record]:
    """Samples of the first, the middle and the last batches, as a run's ``samples.jsonl`` has them."""
    pool = text_pool.samples_of(path)
    pool.adopt(facts["files"])
    files = over_the_course([{"file": file} for file in range(len(pool.sizes))], FILES_READ)
    strategy = facts["config"]["strategy"]["name"]
    return [shown(row, facts["labels"], strategy) for row in pool.rows_of([chosen["file"] for chosen in files])]
