"""Strategies by module name: nothing to register, a new module is found."""

from __future__ import annotations

from typing import Any, Mapping

from dfkd.errors import ConfigError
from dfkd.models.split import check_supported
from dfkd.plugins import Option, Plugins
from dfkd.synthesis._snap import Snapped
from dfkd.synthesis.base import Context, Facts, Synthesizer

STRATEGIES = Plugins("dfkd.synthesis", "strategy")
INJECTS = ("tokens", "embeddings")


def available() -> list[str]:
    """The names of all strategies."""
    return STRATEGIES.available()


def options(name: str, values: Mapping[str, Any]) -> Any:
    """The typed options of a strategy.

    Raises:
        ConfigError: unknown strategy or option, or a wrong value.
    """
    typed = STRATEGIES.options(name, values)
    if typed.injects not in INJECTS:
        raise ConfigError(f"strategy '{name}' injects '{typed.injects}'", expected=" or ".join(INJECTS))
    return typed


def describe(name: str) -> tuple[str, list[Option]]:
    """What a strategy does, in a line, and its options with their defaults."""
    return STRATEGIES.describe(name)


def student_reads(options: Any) -> str:
    """``embeddings`` where a strategy feeds its student such, as samples or for an adversary; else ``tokens``."""
    return str(getattr(options, "student_reads", options.injects))


def remedy(options: Any) -> str:
    """What is to be added so that a student with embeddings of its own can learn; empty where nothing would do."""
    if student_reads(options) == "tokens":
        return ""
    told = getattr(options, "remedy", None)  # of a mixture: it is for a part to have
    if told is not None:
        return str(told)
    values = getattr(options, "as_texts", {})
    return " ".join(f"strategy.{name}={str(value).lower()}" for name, value in values.items())


def check(name: str, options: Any, facts: Facts) -> None:
    """Ask the strategy ``name``, if its module has a ``check``, whether it can be built, before any work.

    Raises:
        ConfigError: it cannot; or it makes embeddings, of a teacher that cannot be split or for pairs of texts.
    """
    if getattr(options, "splits_teacher", options.injects == "embeddings"):
        _check_embeddings(name, facts)
    asked = getattr(STRATEGIES.module(name), "check", None)
    if asked is not None:
        asked(options, facts)


def _check_embeddings(name: str, facts: Facts) -> None:
    """Embeddings live above the teacher's embedding block, between one [CLS] and one [SEP]."""
    if facts.teacher_type is not None:
        check_supported(facts.teacher_type)
    if facts.pair:
        raise ConfigError(
            f"strategy '{name}' makes single sequences of embeddings, and the data set has pairs of texts",
            expected="a strategy that makes pairs", found=name,
            fix="take strategy=random_tokens, templated or corpus for pairs of texts",
        )


def fingerprint(name: str, options: Any) -> str | None:
    """What tells the files that the strategy ``name`` reads from others of the same name; ``None``: it reads none.

    Raises:
        ConfigError: they are not there.
    """
    asked = getattr(STRATEGIES.module(name), "fingerprint", None)
    return None if asked is None else asked(options)


def build(name: str, options: Any, context: Context) -> Synthesizer:
    """The strategy, ready to synthesize.

    Args:
        name: module name.
        options: as :func:`options` gives them.
        context: what the strategy may use.

    Raises:
        ConfigError: strategy, teacher and student do not fit; or the strategy asks for texts it may not see.
    """
    synthesizer: Synthesizer = STRATEGIES.module(name).build(options, context)
    return Snapped(synthesizer, context.teacher) if getattr(options, "snap", False) else synthesizer
