"""Components looked up by module name: a package's public modules, each with ``Options`` and ``build``."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Mapping

from dfkd import config
from dfkd.errors import ConfigError, refuse, suggestion

NOT_COMPONENTS = ("base", "registry")
ARGUMENT = re.compile(r"^    (\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Option:
    """One field of a component's ``Options``, with what its docstring says of it."""

    name: str
    type: str
    default: object
    help: str = ""


class Plugins:
    """The components of one package.

    Args:
        package: dotted name, such as ``dfkd.synthesis``.
        kind: what a component is called in messages, such as ``strategy``.
    """

    def __init__(self, package: str, kind: str) -> None:
        self.package = package
        self.kind = kind

    def available(self) -> list[str]:
        """Names of the package's component modules, sorted."""
        folder = importlib.import_module(self.package).__path__
        names = (module.name for module in pkgutil.iter_modules(folder))
        return sorted(name for name in names if not name.startswith("_") and name not in NOT_COMPONENTS)

    def module(self, name: str) -> ModuleType:
        """The module of the component ``name``.

        Raises:
            ConfigError: there is none of that name.
        """
        names = self.available()
        if name not in names:
            folders = ", ".join(importlib.import_module(self.package).__path__)
            found = f"no module {name}.py in {folders}"
            raise ConfigError(f"unknown {self.kind} '{name}'", found=found, fix=suggestion(name, names))
        return importlib.import_module(f"{self.package}.{name}")

    def options(self, name: str, values: Mapping[str, Any]) -> Any:
        """The typed ``Options`` of the component ``name``.

        Raises:
            ConfigError: lists every unknown option and wrong value.
        """
        options, problems = config.typed(self.module(name).Options, values, f"{self.kind}.")
        refuse(problems)
        return options

    def problems(self, name: str, values: Mapping[str, Any]) -> list[ConfigError]:
        """What is wrong with the name and the options of a component; empty when all is well."""
        if not name:
            return []
        try:
            return config.typed(self.module(name).Options, values, f"{self.kind}.")[1]
        except ConfigError as error:
            return [error]

    def describe(self, name: str) -> tuple[str, list[Option]]:
        """The first line of the module's docstring, and its options with their defaults."""
        module = self.module(name)
        defaults = module.Options()
        helps = documented_arguments(module.Options)
        options = [
            Option(f.name, str(f.type), getattr(defaults, f.name), helps.get(f.name, ""))
            for f in dataclasses.fields(module.Options)
        ]
        return (module.__doc__ or "").strip().splitlines()[0], options


def documented_arguments(options: type) -> dict[str, str]:
    """What the ``Args`` sections of a class and of those it inherits from say of each argument, in one line each."""
    found: dict[str, str] = {}
    for base in options.__mro__:
        _, _, section = (inspect.getdoc(base) or "").partition("Args:\n")
        indented = re.match(r"(?:    .*\n?|\n)*", section)
        for name, text in ARGUMENT.findall(indented.group() if indented else ""):
            found.setdefault(name, " ".join(text.split()).replace("``", ""))
    return found
