"""Attacks by module name: nothing to register, a new module is found."""

from __future__ import annotations

from typing import Any, Mapping

from dfkd import config
from dfkd.errors import refuse
from dfkd.plugins import Plugins
from dfkd.robustness.base import Attack, Context

ATTACKS = Plugins("dfkd.robustness", "attack")


def options(name: str, values: Mapping[str, Any]) -> Any:
    """The typed options of an attack; on the command line they begin with its name.

    Raises:
        ConfigError: there is no such attack; or lists every unknown option and wrong value.
    """
    typed, problems = config.typed(ATTACKS.module(name).Options, values, f"{name}.")
    refuse(problems)
    return typed


def check(name: str, options: Any) -> None:
    """Ask the attack's module, if it has a ``check``, whether it can be built, before any work.

    Raises:
        ConfigError: it cannot.
    """
    asked = getattr(ATTACKS.module(name), "check", None)
    if asked is not None:
        asked(options)


def fingerprint(name: str, options: Any) -> str | None:
    """What tells the files that the attack reads from others of the same name; ``None``: it reads none."""
    asked = getattr(ATTACKS.module(name), "fingerprint", None)
    return None if asked is None else asked(options)


def build(name: str, options: Any, context: Context) -> Attack:
    """The attack, ready for the context's victim.

    Raises:
        ConfigError: attack and models do not fit.
    """
    attack: Attack = ATTACKS.module(name).build(options, context)
    return attack
