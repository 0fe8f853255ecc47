"""The settings that a sweep searches: ranges and choices."""

from __future__ import annotations

import math
import json
from dataclasses import dataclass, replace
from typing import Any, Mapping, Protocol

from dfkd.errors import ConfigError, noting, suggestion

FIXED = {
    "data": "another task", "teacher": "another task", "teacher_labels": "another task",
    "seed": "the luckiest seed would win", "run": "a sweep names its runs", "runs": "a sweep names its runs",
    "config": "give it in settings", "judge": "it is what the trials are judged by",
    "evaluate": "it is how the trials are judged", "train.heldout": "it is what the trials are judged by",
    "train.evaluate_every": "it is when the trials are judged", "tracking": "it changes no student",
    "device": "it changes no student", "threads": "it changes no student",
}
"""Settings that are not searched, with the reason; those below them neither."""


class Dimension(Protocol):
    """One setting's values."""

    @property
    def values(self) -> tuple[Any, ...]:
        """Those that are tried before any work: the ends of a range, or every choice."""

    def suggest(self, trial: Any, key: str) -> Any:
        """The value for an optuna trial."""


@dataclass(frozen=True)
class Range:
    """All numbers between two, both included.

    Args:
        low: the smallest.
        high: the largest.
        log: whether factors count, not differences.
        kind: ``int`` for whole numbers.
    """

    low: float
    high: float
    log: bool = False
    kind: type = float

    @property
    def values(self) -> tuple[Any, ...]:
        """Both ends."""
        return self.low, self.high

    def of(self, kind: type) -> Range:
        """The range in the type of its setting."""
        return replace(self, low=kind(self.low), high=kind(self.high), kind=kind)

    def suggest(self, trial: Any, key: str) -> int | float:
        """A number of the setting's type."""
        draw = trial.suggest_int if self.kind is int else trial.suggest_float
        number: int | float = draw(key, self.low, self.high, log=self.log)
        return number


@dataclass(frozen=True)
class Choices:
    """A few values, in no order.

    Args:
        values: numbers, strings, lists, ...
    """

    values: tuple[Any, ...]

    def suggest(self, trial: Any, key: str) -> Any:
        """One of the values."""
        by_label = {_label(value): value for value in self.values}
        return by_label[trial.suggest_categorical(key, list(by_label))]


def _label(value: object) -> str:
    """A value as the study keeps it: optuna stores nothing but plain values, and takes 1 and True for the same."""
    return value if isinstance(value, str) else json.dumps(value)


def read_space(given: Mapping[str, Any]) -> tuple[dict[str, Dimension], list[ConfigError]]:
    """The dimensions of a YAML, and what is wrong with them."""
    space: dict[str, Dimension] = {}
    problems: list[ConfigError] = []
    for key, value in given.items():
        with noting(problems):
            _require_free(str(key))
            space[str(key)] = _read(str(key), value)
    return space, problems


def _require_free(key: str) -> None:
    reason = FIXED.get(key) or FIXED.get(key.partition(".")[0])
    if reason is not None:
        raise ConfigError(f"'{key}' is not searched: {reason}", fix="give one value for all trials, in 'settings'")


def _read(key: str, value: Any) -> Dimension:
    expected = "{low: NUMBER, high: NUMBER} with log: true if need be, or {choices: [VALUE, ...]}"
    if not isinstance(value, Mapping) or ("choices" in value) == ("low" in value or "high" in value):
        raise ConfigError(f"search: '{key}' has no values", expected=expected, found=value)
    known = ("choices",) if "choices" in value else ("low", "high", "log")
    strange = [str(name) for name in value if name not in known]
    if strange:
        raise ConfigError(f"search: '{key}' has an unknown key '{strange[0]}'", fix=suggestion(strange[0], known))
    return _choices(key, value["choices"]) if "choices" in value else _range(key, value)


def _choices(key: str, values: Any) -> Choices:
    if not isinstance(values, list) or len({_label(value) for value in values}) != len(values) or len(values) < 2:
        raise ConfigError(f"search: '{key}' has wrong choices", expected="two different values or more", found=values)
    return Choices(tuple(values))


def _range(key: str, value: Mapping[str, Any]) -> Range:
    low, high, log = value.get("low"), value.get("high"), value.get("log", False)
    for end in (low, high):
        number = isinstance(end, (int, float)) and not isinstance(end, bool)
        if not number or isinstance(end, float) and not math.isfinite(end):
            raise ConfigError(f"search: '{key}' has a wrong end", expected="a finite number", found=repr(end))
    if not isinstance(log, bool):
        raise ConfigError(f"search: '{key}' has a wrong log", expected="true or false", found=repr(log))
    assert low is not None and high is not None
    if low >= high or (log and low <= 0):
        expected = "0 < low < high, where log is true" if log else "low < high"
        raise ConfigError(f"search: '{key}' has a wrong range", expected=expected, found=f"low {low}, high {high}")
    return Range(low, high, log)
