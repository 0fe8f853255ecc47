"""Columns of raw values become texts and class indices, checked row by row; for :mod:`dfkd.tasks` only."""

from __future__ import annotations

from typing import Any, Mapping, Sequence

from dfkd.batch import Text
from dfkd.config import DataConfig
from dfkd.errors import ConfigError, refuse

LINE_BREAK = "<br />"


def texts_and_labels(
    columns: Mapping[str, Sequence[Any]], text: Sequence[str], config: DataConfig, name: str
) -> tuple[tuple[Text, ...], tuple[int, ...]]:
    """Texts (pairs of them for two text columns) and class indices; rows that the config leaves out are gone.

    Args:
        columns: column -> raw values.
        text: the one or two text columns.
        config: says which labels there are, and what is left out.
        name: what messages call the data.

    Raises:
        ConfigError: a text is empty or no string, or a label is unknown; names the row.
    """
    raw_labels, parts = columns[config.label], [columns[column] for column in text]
    rows = _kept_rows(raw_labels, parts, config)
    indices = _label_indices(config)
    checks = [_text_problem(name, rows, column, columns[column]) for column in text]
    checks.append(_label_problem(name, rows, raw_labels, indices, config.labels))
    problems = [problem for problem in checks if problem is not None]
    refuse(problems)
    cleaned = [[_clean(part[row], config) for row in rows] for part in parts]
    texts = cleaned[0] if len(cleaned) == 1 else list(zip(*cleaned))
    return tuple(texts), tuple(indices[_raw(raw_labels[row])] for row in rows)


def _kept_rows(labels: Sequence[Any], parts: Sequence[Sequence[Any]], config: DataConfig) -> list[int]:
    ignored = {_raw(value) for value in config.ignore_labels}
    rows = [row for row, label in enumerate(labels) if _raw(label) not in ignored]
    if config.drop_empty:
        rows = [row for row in rows if not any(_is_empty(part[row]) for part in parts)]
    return rows


def _clean(text: str, config: DataConfig) -> str:
    return text.replace(LINE_BREAK, " ") if config.line_breaks else text


def _label_indices(config: DataConfig) -> dict[str, int]:
    """Raw label, as a string -> class index: by ``label_values``, or by name and index.

    Where a class name is itself a number, indices do not count: one raw value cannot mean two classes.
    """
    if config.label_values is not None:
        return {_raw(value): index for index, value in enumerate(config.label_values)}
    names = {name: index for index, name in enumerate(config.labels)}
    numeric = any(name.lstrip("-").isdigit() for name in names)
    return names if numeric else {**{str(index): index for index in names.values()}, **names}


def _raw(value: object) -> str:
    """A raw label as a string; a whole number is one, be it stored as 1 or as 1.0."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.replace(LINE_BREAK, " ").strip())


def _text_problem(name: str, rows: Sequence[int], column: str, values: Sequence[Any]) -> ConfigError | None:
    bad = [row for row in rows if not isinstance(values[row], str) or _is_empty(values[row])]
    if not bad:
        return None
    if _is_empty(values[bad[0]]):
        fix = "repair or remove it, or set data.drop_empty=true"
        problem = f"{name}: empty text{_where(bad)}"
        return ConfigError(problem, expected=f"a text in '{column}'", found="nothing", fix=fix)
    problem = f"{name}: column '{column}' holds no text{_where(bad)}"
    fix = "set data.text to the column of the texts, or store them as strings"
    return ConfigError(problem, expected="a string", found=type(values[bad[0]]).__name__, fix=fix)


def _label_problem(
    name: str, rows: Sequence[int], values: Sequence[Any], indices: Mapping[str, int], labels: Sequence[str]
) -> ConfigError | None:
    bad = [row for row in rows if _raw(values[row]) not in indices]
    if not bad:
        return None
    found = "nothing" if values[bad[0]] in (None, "") else repr(values[bad[0]])
    fix = "correct the row, or set data.labels (and data.label_values, data.ignore_labels)"
    expected = f"one of {', '.join(indices)} (classes: {', '.join(labels)})"
    return ConfigError(f"{name}: unknown label{_where(bad)}", expected=expected, found=found, fix=fix)


def _where(rows: Sequence[int]) -> str:
    """`` in row 3 (and 2 more)``: rows count from 1, without the header."""
    return f" in row {rows[0] + 1}" + (f" (and {len(rows) - 1} more)" if len(rows) > 1 else "")
