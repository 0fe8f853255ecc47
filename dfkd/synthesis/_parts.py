"""The parts of a mixture: which strategies, how often, and during which share of the training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Mapping, Sequence

from dfkd.errors import ConfigError, noting, refuse, suggestion
from dfkd.synthesis import registry

KEYS = ("strategy", "weight", "from", "until", "options")


@dataclass(frozen=True)
class Part:
    """One part of a mixture.

    Args:
        label: unique in its mixture: the strategy's name, with a number where it comes again.
        strategy: module name.
        options: the strategy's ``Options``.
        weight: how often it is drawn, relative to the others at work.
        begin: share of the student steps before it.
        end: share of the student steps after which it rests.
    """

    label: str
    strategy: str
    options: Any
    weight: float = 1.0
    begin: float = 0.0
    end: float = 1.0

    def works(self, done: float) -> bool:
        """Whether it is at work when the share ``done`` of the steps is over."""
        return self.begin <= done < self.end


def read_parts(values: Sequence[Any]) -> list[Part]:
    """Parts out of the mappings of a YAML, checked.

    Raises:
        ConfigError: lists every problem found.
    """
    parts: list[Part] = []
    problems: list[ConfigError] = []
    for number, value in enumerate(values, 1):
        with noting(problems):
            parts.append(_read(value, f"strategy.parts, part {number}", [part.strategy for part in parts]))
    problems = problems or _gaps(parts)
    refuse(problems)
    return parts


def _read(value: Any, where: str, before: Sequence[str]) -> Part:
    if not isinstance(value, Mapping) or not value.get("strategy"):
        fix = "write {strategy: NAME, weight: 1, from: 0, until: 1, options: {...}}; all but the first may be left out"
        raise ConfigError(f"{where} names no strategy", expected="a mapping with 'strategy'", found=value, fix=fix)
    unknown = [str(key) for key in value if key not in KEYS]
    if unknown:
        fix = f"{suggestion(unknown[0], KEYS)}; the strategy's own options go below 'options'"
        raise ConfigError(f"{where}: unknown key '{unknown[0]}'", fix=fix)
    name = str(value["strategy"])
    if name == "mixture":
        raise ConfigError(f"{where} is a mixture", expected="another strategy", fix="list its parts here")
    try:
        options = registry.options(name, value.get("options") or {})
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    weight, begin, end = (_number(value, key, where) for key in ("weight", "from", "until"))
    if not (weight > 0 and 0 <= begin < end <= 1):
        expected = "weight above 0, and 0 <= from < until <= 1"
        found = f"weight {weight:g}, from {begin:g}, until {end:g}"
        raise ConfigError(f"{where} ({name}) is out of range", expected=expected, found=found, fix="correct them")
    again = before.count(name)
    return Part(f"{name}-{again + 1}" if again else name, name, options, weight, begin, end)


def _number(value: Mapping[str, Any], key: str, where: str) -> float:
    found = value.get(key, 0.0 if key == "from" else 1.0)
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not math.isfinite(found):
        raise ConfigError(f"{where}: '{key}' is no number", expected="a number", found=found, fix="correct it")
    return float(found)


def _gaps(parts: Sequence[Part]) -> list[ConfigError]:
    """The moments of the training, as shares of its steps, from which on no part is at work."""
    if not parts:
        fix = "list parts: [{strategy: NAME, weight: 1}, ...]"
        return [ConfigError("a mixture has no parts", expected="strategy.parts", found="nothing", fix=fix)]
    moments = sorted({0.0, *(part.end for part in parts if part.end < 1)})
    idle = [moment for moment in moments if not any(part.works(moment) for part in parts)]
    fix = "let some part reach over that moment: from, until"
    return [ConfigError(f"no part of the mixture is at work from {idle[0]:g} of the steps on", fix=fix)] if idle else []
