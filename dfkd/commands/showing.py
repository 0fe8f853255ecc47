"""Commands that show what there is: results, runs, components, the machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Optional, Sequence

import typer
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dfkd.commands._app import app, require_file
from dfkd.console import console, quiet_libraries
from dfkd.errors import ConfigError, suggestion

if TYPE_CHECKING:
    from dfkd.report.claims import Verdict

PAPERS = "experiments/paper_tables"
STRATEGIES = "experiments/strategies"


@app.command()
def report(
    folders: Optional[list[Path]] = typer.Argument(None, help="Run folders, searched for results; default: runs."),
    out: Path = typer.Option(Path("report.html"), help="The page to write."),
    pictures: Optional[Path] = typer.Option(None, help="Also write every picture into this folder, as SVG and PDF."),
) -> None:
    """Print the table of finished runs and write a page with tables, claims, pictures, samples and configurations.

    Example: `dfkd report runs/tiny --out report.html --pictures figures`
    """
    from dfkd import config, tabling
    from dfkd.report import claims as claiming
    from dfkd.report import page, results, table
    from dfkd.report.pictures import album, outcomes

    require_file(out)
    if pictures is not None and pictures.is_file():
        fix = "choose another folder with --pictures"
        raise ConfigError(f"'{pictures}' is there already", expected="a folder", found="a file", fix=fix)
    where = folders or [Path("runs")]
    collected, missing = tabling.once(results.collect(where)), results.unfinished(where)
    found = tabling.called(collected)
    if not found:
        fix = "run something first: dfkd run --help"
        there = ", ".join(map(str, where))
        raise ConfigError("no finished run", expected="folders with result.json", found=there, fix=fix)
    console.print(table.rich_table(table.rows(found, missing)))
    scores = outcomes.scored(found)
    drawn = album.album(found, scores)
    if pictures is not None:
        written = album.write(drawn, pictures)
        console.print(f"pictures: {len(written)} files in {pictures}", markup=False, soft_wrap=True)
    verdicts = claiming.judge(config.find_yaml(PAPERS, "claims"), found)
    told = any(verdict.verdict != claiming.NOT_RUN for verdict in verdicts)
    grids = tabling.compared(collected, where)
    page.write_page(found, missing, out, album=drawn, scores=scores, claims=verdicts if told else (), grids=grids)
    console.print(f"page: {out}", markup=False, soft_wrap=True)


@app.command()
def table(
    folders: list[Path] = typer.Argument(..., help="Run folders, or a folder that `dfkd compare --keep` filled."),
    form: Optional[str] = typer.Option(
        None, "--format", help="markdown, csv (one line a cell, all numbers) or latex; default: as --out ends."
    ),
    out: Optional[Path] = typer.Option(None, help="The file to write; without it, the table is printed."),
    paper: Optional[str] = typer.Option(
        None, help="Lay our numbers beside the published ones: as_dfd or promptdfd, or a YAML file like them."
    ),
    student: Optional[str] = typer.Option(None, help="With --paper: this student of ours beside the paper's."),
) -> None:
    """Tables of finished runs, from their result files: strategies over data sets, a table a student, with tests.

    Examples: `dfkd table runs/tiny`, `dfkd table results --out docs/results.md`,
    `dfkd table results --paper as_dfd`
    """
    from dfkd import config, tabling
    from dfkd.report import document, paper as papers

    require_file(out)
    chosen = _format(form, out, document.FORMATS)
    if paper is not None:
        if chosen != "markdown":
            fix = "leave out --format, and give --out as .md"
            raise ConfigError("a paper's table is written as Markdown alone", found=chosen, fix=fix)
        published = papers.read(config.find_yaml(PAPERS, paper))
        return _deliver(papers.markdown(published, tabling.grids(folders), student), out)
    if student is not None:
        raise ConfigError("--student goes with --paper", found=student, fix="add --paper NAME, or leave it out")
    command = " ".join(["dfkd table", *map(str, folders), *([f"--out {out}"] if out else [])])
    _deliver(document.write(tabling.grids(folders), chosen, command), out)


@app.command()
def claims(
    folder: Path = typer.Argument(Path("results"), help="Result files, as `dfkd compare --keep` copies them, or runs."),
    file: str = typer.Option("claims", help="Claims of experiments/paper_tables, or a YAML file like them."),
    out: Optional[Path] = typer.Option(None, help="A Markdown file to write; without it, the verdicts are printed."),
) -> None:
    """Hold published claims, and goals of our own, against results: holds, fails or not run, with the numbers.

    Example: `dfkd claims results`
    """
    from dfkd import config, tabling
    from dfkd.report import claims as claiming

    require_file(out)
    path = config.find_yaml(PAPERS, file)
    verdicts = claiming.judge(path, [run for grid in tabling.grids([folder]) for run in grid.results])
    if out is not None:
        named = [] if file == "claims" else ["--file", file]
        command = " ".join(["dfkd claims", str(folder), *named, f"--out {out}"])
        return _deliver(claiming.markdown(verdicts, command), out)
    for group in claiming.by_claim(verdicts):
        first = group[0]
        who = "our own goal" if first.ours else first.source
        console.print(Text.assemble((first.claim, "bold"), (f" ({who})", "dim")))
        console.print(Padding(_places(group), (0, 0, 1, 2)))
    few = sum(verdict.so_far for verdict in verdicts)
    numbers = f"{len(claiming.by_claim(verdicts))} claims; of the verdicts {claiming.counted(verdicts)}"
    console.print(numbers + (f"; {few} of them on fewer than {claiming.WANTED} seeds" if few else ""))


def _places(group: Sequence[Verdict]) -> Table:
    """What each grid and student says of one claim, with its numbers."""
    colours = {"holds": "green", "fails": "red", "not run": "yellow"}
    shown = Table.grid("", "", padding=(0, 2, 0, 0))
    for verdict in group:
        where = [f"{verdict.where}:"] if verdict.where else []
        shown.add_row(Text(verdict.said, colours[verdict.verdict]), Text("\n".join([*where, *verdict.numbers])))
    return shown


def _format(form: str | None, out: Path | None, known: Mapping[str, str]) -> str:
    """The format that is asked for: by name, or by how the file ends."""
    by_ending = {ending: name for name, ending in known.items()}
    if form is None:
        form = by_ending.get(out.suffix, "markdown") if out else "markdown"
    if form not in known:
        raise ConfigError(f"unknown format '{form}'", fix=suggestion(form, known))
    return form


def _deliver(text: str, out: Path | None) -> None:
    """Write a text to a file, at once or not at all, or print it."""
    if out is None:
        sys.stdout.write(text)
        return
    from dfkd import state

    out.parent.mkdir(parents=True, exist_ok=True)
    state.write_text(out, text)
    console.print(f"written: {out}", markup=False, soft_wrap=True)


@app.command()
def inspect(
    folder: Path = typer.Argument(..., help="A run or a pool, finished or not."),
    samples: int = typer.Option(3, min=1, help="Samples of each class at the start, the middle and the end."),
) -> None:
    """Look into a run: alarms, how the pseudo samples changed, samples by class over its course, keywords found.

    Or into a pool of `dfkd synthesize`: the same of its batches, with the texts and prompts.

    Example: `dfkd inspect runs/sst2/as_dfd-truncated-seed0`
    """
    from dfkd.report.inspect import inspect_run
    from dfkd.report.inspect_pool import inspect_pool, is_pool

    look = inspect_pool if is_pool(folder) else inspect_run
    console.print(look(folder, samples))


@app.command()
def strategies(
    name: Optional[str] = typer.Argument(None, help="Show the options of this strategy, or preset: as_dfd/paper.")
) -> None:
    """List strategies, or one strategy's options with their defaults, and what its preset sets."""
    from dfkd import config
    from dfkd.synthesis import registry

    if name is None:
        table = Table("strategy", "makes", "data-free", "what it does")
        for known in registry.available():
            options = registry.options(known, {})
            data_free = "no" if options.uses_real_text else "yes"
            table.add_row(known, options.injects, data_free, registry.describe(known)[0])
        console.print(table)
        console.print(f"presets (strategy=NAME): {', '.join(config.available(STRATEGIES))}")
        return
    preset: dict[str, Any] = {}
    if "/" in name or name in config.available(STRATEGIES):
        preset = config.read_yaml(config.find_yaml(STRATEGIES, name))
    _print_options(registry.STRATEGIES, preset.get("name", name), preset=preset)


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
def attacks(name: Optional[str] = typer.Argument(None, help="Show the options of this attack.")) -> None:
    """List the attacks of `dfkd attack`, or one attack's options with their defaults."""
    from dfkd.robustness.registry import ATTACKS

    if name is not None:
        return _print_options(ATTACKS, name, prefix=name)
    table = Table("attack", "what it does")
    for known in ATTACKS.available():
        table.add_row(known, ATTACKS.describe(known)[0])
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


def _print_options(plugins: Any, name: str, prefix: str | None = None, preset: Mapping[str, Any] | None = None) -> None:
    """A component's options, with types, defaults and what they mean; of a preset, what it sets instead."""
    given = preset or {}
    set_here = given.get("options") or {}
    line, described = plugins.describe(name)
    console.print(f"{name}: {line}", markup=False)
    for option in described:
        key = f"{prefix or plugins.kind}.{option.name}"
        head = Text.assemble((key, "bold"), f"={option.default}  ", (option.type, "dim"))
        if set_here.get(option.name, option.default) != option.default:
            head.append(f"  default {option.default}, this preset {set_here[option.name]}", "yellow")
        console.print(head, Padding(Text(option.help), (0, 0, 0, 4)))
    trained = " ".join(f"train.{key}={value}" for key, value in (given.get("train") or {}).items())
    if trained:
        console.print(f"this preset also sets: {trained}", markup=False)
