"""Templates of texts and prompts: words in braces are places to be filled."""

from __future__ import annotations

import string
from typing import Any, Mapping, Sequence

from dfkd.errors import ConfigError


def places(template: str) -> set[str]:
    """The names in braces of a template; an empty set for one that is malformed."""
    try:
        return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
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
