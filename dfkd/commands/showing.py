"""Commands that show what there is: results, runs, components, the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import typer
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dfkd.commands._app import app
from dfkd.console import console, quiet_libraries
from dfkd.errors import ConfigError


@app.command()
def report(
    folders: Optional[list[Path]] = typer.Argument(None, help="Run folders, searched for results; default: runs."),
    out: Path = typer.Option(Path("report.html"), help="The page to write."),
    pictures: Optional[Path] = typer.Option(None, help="Also write every picture into this folder, as SVG and PDF."),
) -> None:
    """Print the table of finished runs and write a page with tables, pictures, samples and configurations.

    Example: `dfkd report runs/embeddings_tiny --out report.html --pictures figures`
    """
    from dfkd.report import page, results, table
    from dfkd.report.pictures import album, outcomes

    if out.is_dir():
        raise ConfigError(f"'{out}' is there already", expected="a file", found="a folder", fix="choose another --out")
    if pictures is not None and pictures.is_file():
        fix = "choose another folder with --pictures"
        raise ConfigError(f"'{pictures}' is there already", expected="a folder", found="a file", fix=fix)
    where = folders or [Path("runs")]
    found, missing = results.collect(where), results.unfinished(where)
    if not found:
        fix = "run something first: dfkd run --help"
        raise ConfigError("no finished run", expected="folders with result.json", found=folders or "runs", fix=fix)
    console.print(table.rich_table(table.rows(found, missing)))
    scores = outcomes.scored(found)
    drawn = album.album(found, scores)
    if pictures is not None:
        written = album.write(drawn, pictures)
        console.print(f"pictures: {len(written)} files in {pictures}", markup=False, soft_wrap=True)
    page.write_page(found, missing, out, album=drawn, scores=scores)
    console.print(f"page: {out}", markup=False, soft_wrap=True)


@app.command()
def inspect(
    folder: Path = typer.Argument(..., help="A run, finished or not."),
    samples: int = typer.Option(3, min=1, help="Samples of each class at the start, the middle and the end."),
) -> None:
    """Look into a run: alarms, how the pseudo samples changed, samples by class over its course, keywords found.

    Example: `dfkd inspect runs/sst2/as_dfd-truncated-seed0`
    """
    from dfkd.report.inspect import inspect_run

    console.print(inspect_run(folder, samples))


@app.command()
def strategies(name: Optional[str] = typer.Argument(None, help="Show the options of this strategy.")) -> None:
    """List strategies, or one strategy's options with their defaults."""
    from dfkd import config
    from dfkd.synthesis import registry

    if name is None:
        table = Table("strategy", "makes", "data-free", "what it does")
        for known in registry.available():
            options = registry.options(known, {})
            data_free = "no" if options.uses_real_text else "yes"
            table.add_row(known, options.injects, data_free, registry.describe(known)[0])
        console.print(table)
        console.print(f"presets (strategy=NAME): {', '.join(config.available('experiments/strategies'))}")
        return
    _print_options(registry.STRATEGIES, name)


@app.command()
def students(name: Optional[str] = typer.Argument(None, help="Show the options of this kind.")) -> None:
    """List student kinds, or one kind's options with their defaults."""
    from dfkd.models.students.registry import STUDENTS

    if name is not None:
        return _print_options(STUDENTS, name)
    table = Table("student", "what it is")
    for known in STUDENTS.available():
        table.add_row(known, STUDENTS.describe(known)[0])
    console.print(table)


@app.command()
def doctor() -> None:
    """Tell versions, devices, free disk, and which models and data sets are found."""
    from dfkd import doctor as checks

    quiet_libraries()
    table = Table("what", "found")
    for what, found in checks.findings():
        table.add_row(what, found.replace("[", r"\["))
    console.print(table)


def _print_options(plugins: Any, name: str) -> None:
    """A component's options, with types, defaults and what they mean."""
    line, described = plugins.describe(name)
    console.print(f"{name}: {line}", markup=False)
    for option in described:
        head = Text.assemble((f"{plugins.kind}.{option.name}", "bold"), f"={option.default}  ", (option.type, "dim"))
        console.print(head, Padding(Text(option.help), (0, 0, 0, 4)))
