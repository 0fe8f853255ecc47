"""Commands that use a finished student."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Optional

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from dfkd.commands._app import Overrides, app, require_file
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
def rescore(
    folder: Path = typer.Argument(..., help="A finished run, or a folder that holds some."),
    overrides: Optional[list[str]] = Overrides,
) -> None:
    """Score finished runs again, with other `evaluate.` settings; nothing is trained, and their tables follow.

    `result.json` and `config.yaml` of the run say so afterwards; what the training gave stays. Runs that were scored
    with these settings are only shown. Settings: `evaluate.limit=5000` (`null`: the whole test split),
    `evaluate.latency_rounds=20` and the like; `teacher=FOLDER`, `device=`, `threads=` where those have changed.

    Example: `dfkd rescore runs/sst2 evaluate.limit=10000`
    """
    from dfkd import rescoring, runs
    from dfkd.pipeline import Listeners

    quiet_libraries()
    for run in runs.below(folder):
        with Bar("test items") as predicted:
            result = rescoring.rescore(run, overrides or [], Listeners(predicted=predicted))
        line = f"{run}: {scores_line(result['student']['scores'])}, {result['test_items']} test items"
        console.print(line, markup=False, soft_wrap=True)


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


@app.command()
def attack(
    folder: Path = typer.Argument(..., help="A finished run."),
    overrides: Optional[list[str]] = Overrides,
    names: Optional[list[str]] = typer.Option(
        None, "--attack", help="characters, neighbours or masked; repeat for more. Default: characters and neighbours."
    ),
    items: int = typer.Option(200, min=1, help="Test items attacked, drawn at random but the same for every run."),
    seed: int = typer.Option(0, min=0, help="Seed of the attacks' random choices."),
    column: Optional[str] = typer.Option(None, help="Of pairs, the column that is changed; default: the last."),
    out: Optional[Path] = typer.Option(None, help="File of the results; default: robustness.json in the run's folder."),
) -> None:
    """Change test items a little until teacher and student err: accuracy under attack, and what carries over.

    Attacks that were finished with the same settings are only shown; interrupted ones go on. `dfkd attacks NAME` lists
    the options of an attack, which are given as `characters.max_share=0.1`.

    Example: `dfkd attack runs/sst2/as_dfd-truncated-seed0 --attack characters --attack neighbours`
    """
    from dfkd import attacking

    require_file(out)
    quiet_libraries()
    chosen = names or ["characters", "neighbours"]
    settings = attacking.Settings(items, seed, column)
    with Bar("texts attacked") as progress:
        entries = attacking.attack(folder, overrides or [], chosen, settings, out, progress)
    console.print(_attacks_table(entries))
    file = out or folder / attacking.FILE
    for entry in entries:
        console.print(f"{entry['settings']['attack']}: {file.parent / entry['examples']}", markup=False, soft_wrap=True)
    console.print(f"numbers: {file}", markup=False, soft_wrap=True)


def _attacks_table(entries: list[dict[str, Any]]) -> Table:
    """A row for each attack and victim, in % but for the queries; what is named by it is never cut, at 80 columns."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, caption="in %, but for queries a text")
    for heading in ("attack", "against"):
        table.add_column(heading, no_wrap=True)
    for heading in (
        "accu-\nracy", "under\nattack", "success\nrate", "words\nchanged", "queries\na text",
        "other:\naccu-\nracy", "flips\ncarried\nover",
    ):
        table.add_column(heading, justify="right")
    for entry in entries:
        for against, other in (("teacher", "student"), ("student", "teacher")):
            found, carried = entry["results"][against], entry["transfer"][f"{against}_to_{other}"]
            shares = [found[name] for name in ("accuracy", "accuracy_under_attack", "success_rate", "words_changed")]
            queries = "-" if found["queries"] is None else f"{found['queries']:.0f}"
            table.add_row(
                entry["settings"]["attack"], against, *map(_percent, shares), queries,
                _percent(carried["accuracy"]), _percent(carried["success_rate"]),
            )
    return table


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


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
