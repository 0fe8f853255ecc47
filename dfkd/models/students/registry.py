"""Student kinds by module name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dfkd.models import sources
from dfkd.models.classifier import load_classifier
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


def kind_of(folder: Path) -> str | None:
    """The student kind that a folder names in its ``dfkd.json``.

    Returns:
        ``None`` for every other folder, transformers classifiers among them.

    Raises:
        ConfigError: ``dfkd.json`` is damaged.
    """
    kind = sources.extras_in(folder).get("kind")
    return None if kind is None else str(kind)


def load(folder: Path) -> Any:
    """A saved student of any kind, without its teacher; folders without a kind are transformers classifiers.

    Raises:
        ConfigError: unknown kind, or files are missing or damaged.
    """
    kind = kind_of(folder)
    return load_classifier(str(folder)) if kind is None else STUDENTS.module(kind).load(folder)
