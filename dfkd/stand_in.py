"""Made-up sentences and tiny random models that stand for a data set, an encoder and a language model: smoke runs."""

from __future__ import annotations

import json
import random
from pathlib import Path

from dfkd import state
from dfkd.config import DataConfig
from dfkd.models import tiny

ROWS = {"train": 256, "test": 64}
FILLERS = (
    "the", "a", "of", "and", "to", "in", "that", "it", "was", "for", "on", "with", "as", "this", "by", "they", "said",
    "again", "later", "there", "one", "more", "some", "while", "still", "about", "after", "many", "today", "where",
)
LENGTHS = (5, 12)  # words


def make(data: DataConfig, folder: Path, seed: int = 0) -> None:
    """Write rows in the data set's own columns, an encoder and a language model; what is there already is kept.

    A row's words are drawn from those by which the data config describes its class, and from fillers: a teacher can
    learn them, and no task's text is in them.

    Args:
        data: the data set that is stood for.
        folder: gets ``train.jsonl``, ``test.jsonl``, ``encoder`` and ``writer``.
        seed: of the words.
    """
    words = class_words(data)
    generator = random.Random(f"{seed} {data.name}")
    for split, count in ROWS.items():
        path = folder / f"{split}.jsonl"
        rows = [_row(data, index % len(data.labels), words, generator) for index in range(count)]
        if not path.is_file():
            state.write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    vocabulary = [" ".join((*FILLERS, *(word for own in words.values() for word in own)))]
    if not (folder / "encoder" / "config.json").is_file():
        tiny.build(folder / "encoder", vocabulary)
    if not (folder / "writer" / "config.json").is_file():
        tiny.build_language_model(folder / "writer", vocabulary)


def class_words(data: DataConfig) -> dict[str, list[str]]:
    """For each label, the words of its description and its topic prompts, or its own."""
    found = {}
    for label in data.labels:
        described = str((data.prompts.get("describe") or {}).get(label, label))
        topics = (data.prompts.get("topics") or {}).get(label, ())
        texts = " ".join((described, *(str(topic) for topic in topics))).lower()
        found[label] = sorted({word for word in texts.split() if word.isalpha() and word not in FILLERS})
    return found


def _row(data: DataConfig, label: int, words: dict[str, list[str]], generator: random.Random) -> dict[str, object]:
    own = words[data.labels[label]] or [data.labels[label].lower()]
    row: dict[str, object] = {
        column: " ".join(
            generator.choice(own if generator.random() < 0.6 else FILLERS) for _ in range(generator.randint(*LENGTHS))
        )
        for column in data.text
    }
    return {**row, data.label: label}
