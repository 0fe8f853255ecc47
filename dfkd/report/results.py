"""Finished runs as they stand on disk."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Sequence

from dfkd.errors import ConfigError
from dfkd.runs import PARTIAL, read_jsonl

NEEDED = ("run", "config", "environment", "strategy", "teacher", "student", "queries", "steps", "seconds")


@dataclass(frozen=True)
class Missing:
    """A run that a table asked for and that is not there.

    Args:
        run: what it is called.
        reason: why it is missing.
    """

    run: str
    reason: str


@dataclass(frozen=True)
class Result:
    """One finished run.

    Args:
        folder: of the run.
        content: of its ``result.json``.
    """

    folder: Path
    content: dict[str, Any]

    @property
    def setting(self) -> tuple[str, str, str]:
        """Data set, teacher (sha256 of its weights) and student: what runs must share to be compared."""
        config = self.content["config"]
        student = config["student"]
        return config["data"]["name"], self.content["teacher"]["sha256"], student.get("label") or student["name"]

    @property
    def strategy(self) -> str:
        """What tables call the strategy."""
        return str(self.content["strategy"].get("label") or self.content["strategy"]["name"])

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.content["config"]["seed"])

    def score(self, whose: str) -> float | None:
        """The data set's main score of ``teacher`` or ``student``; ``None`` without a test split."""
        scores = self.content[whose]["scores"]
        return None if scores is None else float(scores[self.content["config"]["data"]["metric"]])

    def log(self, name: str) -> list[dict[str, Any]]:
        """The records of ``metrics`` or ``samples``."""
        return read_jsonl(self.folder / f"{name}.jsonl")


def collect(folders: Sequence[Path]) -> list[Result]:
    """Every finished run in or below the folders, sorted by path.

    Raises:
        ConfigError: a folder does not exist, or a result file is damaged.
    """
    found: dict[Path, Result] = {}
    for folder in folders:
        if not folder.is_dir():
            fix = "give the folder of a finished run, or one that holds some"
            raise ConfigError(f"there is no folder '{folder}'", fix=fix)
        for path in sorted(folder.rglob("result.json")):
            if not any(part.endswith(PARTIAL) for part in path.parts):
                found[path.parent.resolve()] = Result(path.parent, _read(path))
    return list(found.values())


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        fix = "remove the run's folder and run it again"
        raise ConfigError(f"{path} is damaged", expected="JSON", found=error, fix=fix) from error
    absent = [key for key in NEEDED if not isinstance(content, dict) or key not in content]
    if absent:
        raise ConfigError(f"{path} is no result of ours", expected=", ".join(NEEDED), found=f"no {', '.join(absent)}")
    return dict(content)
