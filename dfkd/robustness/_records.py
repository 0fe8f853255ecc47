"""Attacks on disk: ``robustness.json``, the texts made, and those of an attack that is not finished yet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Mapping, Sequence

from dfkd import runs, state
from dfkd.batch import Text
from dfkd.errors import ConfigError
from dfkd.robustness.base import Perturbed

EXAMPLES = "adversarial"


def read(file: Path) -> list[dict[str, Any]]:
    """The finished attacks in a ``robustness.json``; none where there is no such file.

    Raises:
        ConfigError: it is damaged, or something else.
    """
    if not file.exists():
        return []
    try:
        entries = {entry["key"]: entry for entry in json.loads(file.read_text(encoding="utf-8"))["attacks"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        fix = "name another file with --out, or move this one away"
        problem = f"'{file}' holds no attacks"
        raise ConfigError(problem, expected="what dfkd attack wrote", found=error, fix=fix) from error
    return list(entries.values())


def add(file: Path, entry: Mapping[str, Any]) -> None:
    """Add a finished attack."""
    state.write_text(file, json.dumps({"attacks": [*read(file), entry]}, indent=1, ensure_ascii=False) + "\n")


def unfinished(examples: Path) -> Path:
    """The file of an attack that is not finished yet, beside that of the finished one."""
    return examples.with_suffix(".partial.jsonl")


class Unfinished:
    """The texts made so far by an attack, in a file of JSON lines that goes when the attack is finished.

    Args:
        examples: the finished attack's file; see :func:`unfinished`.
        texts: of all items, in order.
        labels: their true classes.
    """

    def __init__(self, examples: Path, texts: Sequence[Text], labels: Sequence[int]) -> None:
        self.path, self.texts, self.labels = unfinished(examples), texts, labels
        self.records = runs.read_jsonl(self.path)
        if self.path.exists():  # without a last line that was cut short
            state.write_text(self.path, "".join(json.dumps(record) + "\n" for record in self.records))

    def made(self, against: str) -> list[Perturbed]:
        """What was made against one victim, in the order of the items, from the first one on."""
        return [self._perturbed(record) for record in self.records if record["against"] == against]

    def seconds(self, against: str) -> float:
        """What that took."""
        return float(sum(record["seconds"] for record in self.records if record["against"] == against))

    def append(self, against: str, made: Sequence[Perturbed], seconds: float) -> None:
        """Keep the next items' texts."""
        first = len(self.made(against))
        records = [
            {
                "against": against, "item": first + number, "text": one.text, "before": one.before, "after": one.after,
                "words": one.words, "changed": one.changed, "queries": one.queries, "seconds": seconds / len(made),
            }
            for number, one in enumerate(made)
        ]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(json.dumps(record) + "\n" for record in records))
        self.records += json.loads(json.dumps(records))  # as they will be read

    def _perturbed(self, record: Mapping[str, Any]) -> Perturbed:
        item, text = record["item"], record["text"]
        return Perturbed(
            self.texts[item], text if isinstance(text, str) else tuple(text), self.labels[item], record["before"],
            record["after"], record["words"], tuple((old, new) for old, new in record["changed"]), record["queries"],
        )
