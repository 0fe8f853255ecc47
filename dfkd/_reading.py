"""Columns of files and hub data sets, read through the ``datasets`` library.

For :mod:`dfkd.tasks` and :mod:`dfkd.corpora` only.

Whatever the libraries raise becomes a :class:`ConfigError` that names the file and, where it can, the line.
"""

from __future__ import annotations

import bz2
import csv
import glob
import gzip
import io
import json
import lzma
import warnings
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Iterator, Sequence, Union

import datasets
import pyarrow.parquet
from pandas.errors import ParserWarning

from dfkd import hub
from dfkd.errors import ConfigError, suggestion

FORMATS = {".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".parquet": "parquet"}
COMPRESSED = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
DAMAGE = (EOFError, lzma.LZMAError, zlib.error, OSError)


@dataclass(frozen=True)
class FileSource:
    """A local file (csv, tsv, jsonl, parquet) or an Arrow folder.

    Args:
        path: the file or folder.
        split: which part of an Arrow folder that holds several.
    """

    path: Path
    split: str

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path)

    def columns(self) -> list[str]:
        """The columns, from the header or the first row alone.

        Raises:
            ConfigError: unknown file type, empty file, or a beginning that cannot be read.
        """
        kind = file_format(self.path)
        with _explained(self.path):
            found = _first_columns(self.path, kind, self.split)
        if not found:
            fix = "give a file with rows"
            raise ConfigError(f"{self.path} is empty", expected="rows", found="nothing", fix=fix)
        twice = sorted({name for name in found if found.count(name) > 1})
        if twice:
            problem = f"{self.path} has two columns of one name"
            raise ConfigError(problem, expected="distinct names", found=", ".join(twice), fix="rename one of them")
        return found

    def read(self, wanted: Sequence[str], labels: Sequence[str]) -> dict[str, list[Any]]:
        """All values of the columns ``wanted``; see :func:`_values` for ``labels``.

        Raises:
            ConfigError: the file cannot be read; the message says where and why.
        """
        found = self.columns()
        with _explained(self.path):
            if file_format(self.path) == "arrow":
                return _values(_arrow(self.path, self.split), wanted, labels)
            return _values(_load(self.path, found), wanted, labels)


@dataclass(frozen=True)
class HubSource:
    """One split of a data set on the Hugging Face hub, or of its copy in the local cache.

    Args:
        hub: its name there.
        config: its configuration; ``None``: the only one.
        split: the hub's name of the split.
        missing: local files that were looked for first, in vain.
    """

    hub: str
    config: str | None
    split: str
    missing: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"hub data set '{self.hub}'"

    def columns(self) -> list[str]:
        """The columns; empty when the hub does not tell them ahead of the data.

        Raises:
            ConfigError: no network, or no such data set, configuration or split.
        """
        with self._explained():
            info = datasets.load_dataset_builder(self.hub, self.config).info
        if info.splits and self.split not in info.splits:
            fix = f"set data.hub_splits; {suggestion(self.split, info.splits)}"
            raise ConfigError(f"{self.name} has no split '{self.split}'", found=sorted(info.splits), fix=fix)
        return list(info.features or ())

    def read(self, wanted: Sequence[str], labels: Sequence[str]) -> dict[str, list[Any]]:
        """All values of the columns ``wanted``; see :func:`_values` for ``labels``.

        Raises:
            ConfigError: the data set cannot be had.
        """
        with self._explained():
            return _values(datasets.load_dataset(self.hub, self.config, split=self.split), wanted, labels)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        fix = "download it first, on a machine with network, or give local files: data.files.train=FILE"
        if self.missing:
            fix += f" (set DFKD_DATA to the folder that holds {', '.join(self.missing)})"
        if not datasets.config.HF_HUB_OFFLINE and not hub.answers():
            offline = f"{fix}; with the data in the cache already, set HF_HUB_OFFLINE=1"
            raise ConfigError(f"{self.name} cannot be reached", found="no network", fix=offline)
        try:
            with _quiet():
                yield
        except ConfigError:
            raise
        except ConnectionError as error:
            found = "offline, and no copy in the cache"
            raise ConfigError(f"{self.name} cannot be reached", found=found, fix=fix) from error
        except Exception as error:
            raise ConfigError(f"{self.name} cannot be loaded", found=_first_line(error), fix=fix) from error


Source = Union[FileSource, HubSource]


def file_format(path: Path) -> str:
    """``csv``, ``json``, ``parquet``, or ``arrow`` for a folder.

    Raises:
        ConfigError: the ending of the name is none of these.
    """
    if path.is_dir():
        return "arrow"
    ending = _endings(path)[0]
    if ending not in FORMATS:
        expected = f"{', '.join(FORMATS)} (with or without {', '.join(COMPRESSED)}), or an Arrow folder"
        fix = "convert the file, or rename it to what it is"
        raise ConfigError(f"{path} is of an unknown type", expected=expected, found=path.name, fix=fix)
    return FORMATS[ending]


def _endings(path: Path) -> tuple[str, str]:
    """The format's and the compression's ending: ``x.csv.gz`` -> (``.csv``, ``.gz``)."""
    last = path.suffix.lower()
    return (Path(path.stem).suffix.lower(), last) if last in COMPRESSED else (last, "")


def _open(path: Path) -> IO[bytes]:
    opener: Any = COMPRESSED.get(_endings(path)[1], open)
    return opener(path, "rb")


def _separator(path: Path) -> str:
    return "\t" if _endings(path)[0] == ".tsv" else ","


def _first_columns(path: Path, kind: str, split: str) -> list[str]:
    if kind == "arrow":
        return _arrow(path, split).column_names
    if kind == "parquet" and path.stat().st_size:
        return pyarrow.parquet.read_schema(path).names
    with _open(path) as raw:
        lines = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
        if kind == "csv":
            return next(csv.reader(lines, delimiter=_separator(path)), [])
        return list(json.loads(next((line for line in lines if line.strip()), "{}")).keys())


def _load(path: Path, header: Sequence[str]) -> datasets.Dataset:
    """A file as a ``Dataset``; the library caches it, and reads it anew when its time of change differs."""
    options: dict[str, Any] = {}
    kind = file_format(path)
    if kind == "csv":
        # pandas guesses otherwise: the text "NA" would be missing, "007" the number 7, and a row with one
        # comma too many would lose its first field to an index.
        strings = datasets.Features({name: datasets.Value("string") for name in header})
        options = {"features": strings, "keep_default_na": False, "index_col": False, "sep": _separator(path)}
    files = {"train": glob.escape(str(path.absolute()))}
    return datasets.load_dataset(kind, data_files=files, split="train", **options)


def _arrow(path: Path, split: str) -> datasets.Dataset:
    loaded = datasets.load_from_disk(str(path))
    if not isinstance(loaded, datasets.DatasetDict):
        return loaded
    if split not in loaded:
        fix = suggestion(split, loaded)
        raise ConfigError(f"{path} has no split '{split}'", found=sorted(loaded), fix=fix)
    return loaded[split]


def _values(dataset: datasets.Dataset, wanted: Sequence[str], labels: Sequence[str]) -> dict[str, list[Any]]:
    """Column -> values; class indices become names where the data set names the classes ``labels`` itself."""
    for column in set(wanted) - set(dataset.column_names):
        raise ValueError(f"no column '{column}' among {dataset.column_names}")
    values = dict(dataset.select_columns(list(wanted))[:])
    for column in wanted:
        names = getattr(dataset.features[column], "names", None)
        if names and set(names) == set(labels):
            values[column] = [v if v is None or v < 0 else names[v] for v in values[column]]
    return values


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars and no log lines of ``datasets``; a CSV row that would lose fields is an error."""
    bars, level = not datasets.are_progress_bars_disabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ParserWarning)
            yield
    finally:
        datasets.logging.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with a file inside into a :class:`ConfigError` about it."""
    try:
        with _quiet():
            yield
    except ConfigError:
        raise
    except Exception as error:
        raise _diagnosis(path, error) from error


def _diagnosis(path: Path, error: Exception) -> ConfigError:
    kind = file_format(path)
    bad = _bad_line(path, kind) if kind in ("csv", "json") else None
    if bad is None and "corresponds to no data" in str(error):  # so ``datasets`` calls a table without rows
        return ConfigError(f"{path} is empty", expected="rows", found="no rows", fix="give a file with rows")
    fix = "repair the file, or rename it to what it is"
    found = _first_line(error)
    return bad or ConfigError(f"{path} cannot be read", expected=f"valid {kind}", found=found, fix=fix)


def _bad_line(path: Path, kind: str) -> ConfigError | None:
    """Read a text file until something is wrong: the libraries do not say in which line it is."""
    number = 0
    try:
        with _open(path) as lines:
            for number, line in enumerate(lines, 1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if kind == "json" and text.strip() and not isinstance(json.loads(text), dict):
                    raise json.JSONDecodeError("no object", text, 0)
    except UnicodeDecodeError as error:
        problem = f"{path} is not UTF-8 in line {number}"
        return ConfigError(problem, expected="UTF-8", found=error.reason, fix="save the file as UTF-8")
    except json.JSONDecodeError as error:
        problem = f"{path}: malformed JSON in line {number}"
        found = f"{error.msg} at column {error.colno}: {error.doc.strip()[:60]}"
        return ConfigError(problem, expected="a JSON object", found=found, fix="repair or remove the line")
    except DAMAGE as error:
        if _endings(path)[1]:
            problem = f"{path} is cut short or damaged after line {number}"
            fix = "copy or download the file again"
            return ConfigError(problem, expected="a whole file", found=_first_line(error), fix=fix)
    return None


def _first_line(error: BaseException) -> str:
    """The first line of the innermost cause; ``datasets`` wraps it in an error that says nothing."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).splitlines()), "") or type(error).__name__
