"""Commands that use a finished student."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Optional

import typer
from rich.table import Table

from dfkd.commands._app import Overrides, app
from dfkd.console import Bar, console, quiet_libraries, scores_line
from dfkd.errors import ConfigError


@app.command()
def evaluate(
    folder: Path = typer.Argument(..., help="A finished run, or the folder of a student or teacher."),
    overrides: Optional[list[str]] = Overrides,
) -> None:
    """Score a finished student (or any classifier) on a data set's test split.

    Needs `data=NAME`, unless FOLDER is a run, which knows its own.

    Example: `dfkd evaluate runs/sst2/as_dfd-truncated-seed0 data.files.test=other.csv`
    """
    from dfkd import finished

    quiet_libraries()
    with Bar("test items") as predicted:
        scores = finished.evaluate(folder, overrides or [], predicted)
    console.print(scores_line(scores))


@app.command()
def predict(
    folder: Path = typer.Argument(..., help="A finished run, or the folder of a student."),
    text: Optional[list[str]] = typer.Argument(None, help="Texts; without any, they are read from --file."),
    file: Optional[Path] = typer.Option(
        None, help="A file with one text a line (pairs: a tab between the two); - reads standard input."
    ),
    as_json: bool = typer.Option(False, "--json", help="JSON lines instead of a table."),
) -> None:
    """Classify texts with a finished student.

    Example: `dfkd predict runs/sst2/as_dfd-truncated-seed0 "a warm and funny film"`
    """
    from dfkd import finished

    quiet_libraries()
    if text and file:
        raise ConfigError("texts and --file together", expected="one of the two", fix="leave one out")
    texts = list(text or []) or _lines(file)
    answers = finished.predict_texts(folder, texts)
    if as_json:
        for answer in answers:
            sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
        return
    table = Table("label", "probability", "text")
    for answer in answers:
        table.add_row(answer["label"], f"{answer['probability']:.3f}", answer["text"].replace("[", r"\["))
    console.print(table)


def _lines(file: Path | None) -> list[str]:
    if file is None:
        raise ConfigError("no text to classify", fix="give texts, or --file FILE (- for standard input)")
    try:
        content = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read", expected="a UTF-8 text file", found=error) from error
    # not str.splitlines: a text may hold other line breaks, and every line of the file must stay one text
    lines = [line.rstrip("\r") for line in content.split("\n") if line.strip()]
    if not lines:
        raise ConfigError(f"{file} holds no text", expected="one text a line")
    return lines
