"""What a sweep may be after: numbers of ``result.json`` that no real text has a part in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Mapping, Sequence

from dfkd.errors import ConfigError, suggestion

Direction = Literal["maximize", "minimize"]
AGREEMENT, LATENCY = "agreement", "latency"
DIRECTIONS = ("maximize", "minimize")


@dataclass(frozen=True)
class Known:
    """An objective: where ``result.json`` has it, which way is better, and how axes and tables call it."""

    place: tuple[str, ...]
    direction: Direction
    title: str


KNOWN = {
    AGREEMENT: Known(("fidelity", "agreement"), "maximize", "agreement with the teacher on held-out pseudo samples"),
    LATENCY: Known(("latency_ratio", "1"), "minimize", "latency of one text, as a share of the teacher's"),
    "multiply_adds": Known(("student", "cost", "multiply_adds"), "minimize", "multiply-adds of one text"),
    "parameters": Known(("student", "cost", "parameters"), "minimize", "parameters"),
}
# what only the test split can tell; student.agreement is on test items, too
ON_TEST = ("accuracy", "macro_f1", "calibration_error", "f1", "score", "test", "oracle", "gap")


@dataclass(frozen=True)
class Objective:
    """One thing that a sweep is after.

    Args:
        name: of :data:`KNOWN`.
        direction: ``maximize`` or ``minimize``.
    """

    name: str
    direction: Direction

    @property
    def title(self) -> str:
        """The name for axes and tables."""
        return KNOWN[self.name].title

    def read(self, result: Mapping[str, Any]) -> float:
        """Its value in a trial's ``result.json``."""
        found: Any = result
        for key in KNOWN[self.name].place:
            found = found[key]
        return float(found)


def read_objectives(given: Any) -> tuple[list[Objective], list[ConfigError]]:
    """The objectives of a YAML, and what is wrong with them.

    Args:
        given: a name, a list of names, or name -> direction.
    """
    wanted = {given: None} if isinstance(given, str) else given
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        if len({str(name) for name in wanted}) < len(wanted):
            return [], [ConfigError("'objectives' has one twice", expected="each once", found=list(wanted))]
        wanted = {str(name): None for name in wanted}
    if not isinstance(wanted, Mapping) or not wanted:
        return [], [ConfigError("'objectives' is empty or no list", expected="names", fix=suggestion("", KNOWN))]
    problems = [problem for name, direction in wanted.items() if (problem := _problem(str(name), direction))]
    if problems:
        return [], problems
    return [Objective(name, direction or KNOWN[name].direction) for name, direction in wanted.items()], []


def _problem(name: str, direction: object) -> ConfigError | None:
    if name not in KNOWN and _reads_test(name):
        return ConfigError(
            f"objective '{name}' reads the test split: a sweep that chooses by it has trained on real data",
            expected="a number that is known without the task's texts",
            fix=f"take '{AGREEMENT}' with a judge, and score the one chosen in the end; {suggestion('', KNOWN)}",
        )
    if name not in KNOWN:
        return ConfigError(f"unknown objective '{name}'", fix=suggestion(name, KNOWN))
    if direction is not None and direction not in DIRECTIONS:
        expected = " or ".join(DIRECTIONS)
        return ConfigError(f"objective '{name}' has a wrong direction", expected=expected, found=direction)
    return None


def _reads_test(name: str) -> bool:
    return name.startswith(("student.", "teacher.")) or any(word in name.lower() for word in ON_TEST)
