"""A run's ``result.json``: read, and looked at before anything is made of it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Callable

from dfkd.errors import ConfigError

NEEDED = (
    "run", "environment", "steps", "config.seed", "config.data.name", "config.data.metric", "config.student.name",
    "strategy.name", "teacher.sha256", "teacher.scores", "teacher.cost.parameters", "student.scores",
    "student.agreement", "student.cost.parameters", "queries.train", "queries.heldout", "seconds.train",
)
AGAIN = "remove the run's folder and run it again"


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_number_or_none(value: object) -> bool:
    return value is None or _is_number(value)


def _is_text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_mapping(value: object) -> bool:
    return isinstance(value, dict)


KINDS: dict[str, tuple[Callable[[object], bool], tuple[str, ...]]] = {
    "a number": (_is_number, (
        "steps", "config.seed", "teacher.cost.parameters", "student.cost.parameters", "queries.train",
        "queries.heldout", "queries.synthesis", "seconds.train", "seconds.heldout", "seconds.synthesis",
        "generated_tokens", "test_items",
    )),
    "a number or null": (_is_number_or_none, ("student.agreement", "fidelity.agreement")),
    "text or null": (_is_text_or_none, ("teacher.correct", "student.correct")),
    "a mapping": (_is_mapping, ("environment", "config.train")),
}


def read(path: Path) -> dict[str, Any]:
    """The content of a ``result.json``.

    Raises:
        ConfigError: it is no JSON, lacks something that every result has, or holds something else in its place.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged", expected="JSON", found=error, fix=AGAIN) from error
    absent = [key for key in NEEDED if not _there(content, key)]
    if absent:
        raise ConfigError(f"{path} is no result of ours", expected=", ".join(NEEDED), found=f"no {', '.join(absent)}")
    for expected, (fits, keys) in KINDS.items():
        for key in keys:
            found = _there(content, key)
            if found and not fits(found[0]):
                raise ConfigError(f"{path} is damaged: {key}", expected=expected, found=found[0], fix=AGAIN)
    _check_scores(path, content)
    return dict(content)


def _check_scores(path: Path, content: dict[str, Any]) -> None:
    """Teacher and student have the data set's score, or neither has any, for want of a test split."""
    metric = content["config"]["data"]["metric"]
    scores = [content[who]["scores"] for who in ("teacher", "student")]
    if scores == [None, None]:
        return
    for who, found in zip(("teacher", "student"), scores):
        if not (isinstance(found, dict) and _is_number(found.get(metric))):
            expected = f"{metric}: a number"
            raise ConfigError(f"{path} is damaged: {who}.scores", expected=expected, found=found, fix=AGAIN)
    if content["student"].get("correct") and content["student"]["agreement"] is None:
        raise ConfigError(f"{path} is damaged: student.agreement", expected="a number", found=None, fix=AGAIN)


def _there(content: Any, dotted: str) -> tuple[Any, ...]:
    """What nested dicts hold under the key ``a.b.c``; empty: they do not have it."""
    for key in dotted.split("."):
        if not isinstance(content, dict) or key not in content:
            return ()
        content = content[key]
    return (content,)
