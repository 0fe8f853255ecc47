"""Templates of texts and prompts: words in braces are places to be filled."""

from __future__ import annotations

import string
from typing import Any, Mapping, Sequence

from dfkd.errors import ConfigError


def fields(template: str) -> set[str]:
    """What is in a template's braces: the names of what is to be filled in.

    A conversion or a format (``{label!r}``, ``{label:d}``) is part of the name, which then is no known one.

    Raises:
        ValueError: the template is malformed.
    """
    parsed = [part for part in string.Formatter().parse(template) if part[1] is not None]
    return {f"{name}{kind and f'!{kind}' or ''}{form and f':{form}' or ''}" for _, name, form, kind in parsed}


def places(template: str) -> set[str]:
    """As :func:`fields`; an empty set for a template that is malformed."""
    try:
        return fields(template)
    except ValueError:
        return set()


def domain_of(templates: Sequence[str], prompts: Mapping[str, Any]) -> str:
    """What a text is called, where a template asks for it.

    Raises:
        ConfigError: the data config does not say.
    """
    domain = str(prompts.get("domain", ""))
    if not domain and any("domain" in places(template) for template in templates):
        fix = "add data.prompts.domain, or leave {domain} out of the template or strategy.opening"
        raise ConfigError("the data config has no prompts.domain", expected="what a text is called", fix=fix)
    return domain
