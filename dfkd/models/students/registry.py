"""Student kinds by module name."""

from __future__ import annotations

from typing import Any

from dfkd.models.students.base import Facts, StudentContext
from dfkd.plugins import Plugins

STUDENTS = Plugins("dfkd.models.students", "student")


def build(name: str, options: Any, context: StudentContext) -> Any:
    """Build the student kind ``name``.

    Raises:
        ConfigError: kind and teacher do not fit.
    """
    return STUDENTS.module(name).build(options, context)


def check(name: str, options: Any, facts: Facts) -> None:
    """Ask the student kind ``name`` whether it can be built, before any work.

    Raises:
        ConfigError: it cannot.
    """
    STUDENTS.module(name).check(options, facts)
