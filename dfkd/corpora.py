"""Texts from outside of any task: the lines of a file, or a column of a file or hub data set.

Only :mod:`dfkd.doors` reads them, and shows them to :meth:`dfkd.tasks.Task.admit` before it hands them on.
"""

from __future__ import annotations

import io
import itertools
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfkd import _reading, packages
from dfkd._reading import FileSource, HubSource
from dfkd.errors import ConfigError, suggestion

HUB = "hub:"


@dataclass(frozen=True)
class Corpus:
    """Texts, and where they come from: a file, or a data set of the hub; the texts stay out of its ``repr``."""

    name: str
    texts: tuple[str, ...] = field(repr=False)
    path: Path | None = None
    hub: str | None = None


def load(reference: str, column: str = "text", split: str = "train", hub_config: str | None = None,
         limit: int | None = None) -> Corpus:
    """Read a corpus; empty texts are left out.

    Args:
        reference: a file (``.txt``: one text a line; ``.csv``, ``.tsv``, ``.jsonl``, ``.parquet``; plain or
            compressed), an Arrow folder, ``package:DIST:PATH``, or ``hub:NAME``. Relative paths are looked up under
            ``DFKD_DATA``, then in the working directory.
        column: that holds the texts; not for ``.txt``.
        split: of a hub data set or an Arrow folder.
        hub_config: the hub data set's configuration; ``None``: the only one.
        limit: read the first ``limit`` texts; ``None``: all.

    Raises:
        ConfigError: it is not there, cannot be read, or holds no text.
    """
    source: FileSource | HubSource
    if reference.startswith(HUB):
        source = HubSource(reference.removeprefix(HUB), hub_config, split)
        corpus = Corpus(source.name, _column(source, column, limit), hub=source.hub)
    else:
        path = _find(reference)
        texts = _lines(path, limit) if _is_plain(path) else _column(FileSource(path, split), column, limit)
        corpus = Corpus(str(path), texts, path=path)
    if not corpus.texts:
        raise ConfigError(f"{corpus.name} holds no text", expected="texts", found="nothing", fix="give another corpus")
    return corpus


def _find(reference: str) -> Path:
    if not reference:
        fix = "add strategy.file=FILE (txt, csv, tsv, jsonl, parquet), or strategy.file=hub:NAME"
        raise ConfigError("no corpus is given", fix=fix)
    if packages.is_package_reference(reference):
        return packages.locate(reference)
    path = Path(reference).expanduser()
    roots = [Path(root) for root in (os.environ.get("DFKD_DATA"), ".") if root]
    places = [path] if path.is_absolute() else [root / path for root in roots]
    for place in places:
        if place.exists():
            return place
    found = "nothing at " + ", ".join(map(str, places))
    raise ConfigError(f"no corpus '{reference}'", found=found, fix="correct strategy.file; a hub data set is hub:NAME")


def _is_plain(path: Path) -> bool:
    """Whether a file holds one text a line.

    Raises:
        ConfigError: the ending of its name is unknown.
    """
    endings = path.name.lower().split(".")
    packed = f".{endings[-1]}" in _reading.COMPRESSED
    kind = "." + endings[-2 if packed and len(endings) > 2 else -1]
    if not path.is_dir() and kind not in (".txt", *_reading.FORMATS):
        packings = ", ".join(_reading.COMPRESSED)
        expected = f".txt, {', '.join(_reading.FORMATS)} (with or without {packings}), or a folder"
        raise ConfigError(f"{path} is of an unknown type", expected=expected, found=path.name, fix="rename the file")
    return kind == ".txt" and not path.is_dir()


def _lines(path: Path, limit: int | None) -> tuple[str, ...]:
    opener: Any = _reading.COMPRESSED.get(path.suffix.lower(), open)
    try:
        with opener(path, "rb") as raw:
            # newline: a text may hold other line breaks, and every line of the file must stay one text
            lines = (line.strip() for line in io.TextIOWrapper(raw, encoding="utf-8-sig", newline="\n"))
            return tuple(itertools.islice((line for line in lines if line), limit))
    except (UnicodeDecodeError, *_reading.DAMAGE) as error:
        fix = "save the file as UTF-8, or copy it again"
        raise ConfigError(f"{path} cannot be read", expected="lines in UTF-8", found=error, fix=fix) from error


def _column(source: FileSource | HubSource, column: str, limit: int | None) -> tuple[str, ...]:
    found = source.columns()
    if found and column not in found:
        fix = f"set strategy.column; {suggestion(column, found)}"
        raise ConfigError(f"{source.name} has no column '{column}'", found=found, fix=fix)
    values = source.read([column], ())[column][:limit]
    strange = next((value for value in values if value is not None and not isinstance(value, str)), None)
    if strange is not None:
        problem = f"{source.name}: column '{column}' holds no text"
        fix = "set strategy.column to the column of the texts"
        raise ConfigError(problem, expected="strings", found=type(strange).__name__, fix=fix)
    return tuple(value.strip() for value in values if value and value.strip())
