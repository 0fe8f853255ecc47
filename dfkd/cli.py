"""The command line: ``dfkd``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Optional

import typer
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dfkd.console import Bar, RunProgress, console, guarded, quiet_libraries, scores_line
from dfkd.errors import ConfigError

# torch, transformers and datasets take seconds to import: each command imports what it needs, so that --help is quick

app = typer.Typer(
    no_args_is_help=True, add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False,
    help="Data-free knowledge distillation of text classifiers.\n\n"
    "Settings are given as `key=value`, for example `dfkd run data=ag_news teacher=teachers/ag strategy=as_dfd "
    "student.layers=3 train.steps=600`. `dfkd strategies` lists strategies and their options; "
    "`dfkd doctor` tells what this machine has.",
)
Overrides = typer.Argument(
    None, metavar="[KEY=VALUE]...", help="Settings; values are read as YAML.", show_default=False
)


@app.command()
def teacher(overrides: Optional[list[str]] = Overrides) -> None:
    """Fine-tune an encoder into a teacher, on a data set's training split.

    Needs `data=NAME` (or a YAML file) and `model=` a folder, `package:DIST` or hub name. More: `out`, `epochs`,
    `batch_size`, `learning_rate`, `limit`, `seed`, `threads`, `precision`, and any `data.FIELD`.

    Example: `dfkd teacher data=sst2 model=bert-base-uncased out=teachers/sst2 epochs=3`
    """
    from dfkd import config, teaching

    quiet_libraries()
    data, settings = config.load_teacher(overrides or [])
    what = f"teacher for {data.name} from {settings.model} -> {teaching.default_folder(data, settings)}"
    console.print(what, markup=False, soft_wrap=True)
    with Bar("test items") as predicted:
        facts = teaching.make_teacher(data, settings, quiet=not sys.stderr.isatty(), progress=predicted)
    scores = facts["scores"]
    console.print(f"trained on {facts['rows']} rows in {facts['seconds']:.0f} s")
    console.print(scores_line(scores) if scores else "no test split: no scores")


@app.command()
def run(overrides: Optional[list[str]] = Overrides) -> None:
    """Distil one student; a finished run is only shown, an interrupted one goes on.

    Needs `data=`, `teacher=` and `strategy=` (or `pool=FOLDER`, made by `dfkd synthesize`). The student is
    `student=truncated` (with `student.layers`, `student.keep`, `student.init`), `student=pretrained` (with
    `student.model`), or another of `dfkd students`. The budget is `train.steps` and `train.teacher_queries`.
    `run=NAME` names the run folder.

    Example: `dfkd run data=sst2 teacher=teachers/sst2 strategy=as_dfd student.layers=3 seed=1`
    """
    from dfkd import pipeline
    from dfkd.report import results, table

    quiet_libraries()
    config = pipeline.load_config(overrides or [])
    folder = Path(config.runs) / config.run_name()
    known = " is finished already" if folder.is_dir() else ""
    console.print(f"run {folder}{known}", markup=False, soft_wrap=True)
    with RunProgress(config.data.labels) as listeners:
        pipeline.run(config, listeners)
    console.print(table.rich_table(table.rows(results.collect([folder]))))


@app.command()
def synthesize(overrides: Optional[list[str]] = Overrides) -> None:
    """Make a pool of pseudo texts with the teacher's predictions, for many students: `dfkd run pool=FOLDER`.

    Needs `data=`, `teacher=`, `strategy=`, `samples=N` and `out=FOLDER`. Interrupted, it goes on; with more `samples`
    it adds some; a finished pool is only shown. Duplicates are dropped, near ones too (`near_duplicates=0.8`). More:
    `batch_size`, `checkpoint_every`, `seed`, `threads`, `precision`, `device`. The strategy must not learn from a
    student.

    Example: `dfkd synthesize data=sst2 teacher=teachers/sst2 strategy=keyword_prompt samples=4000 out=pools/sst2`
    """
    from dfkd import synthesizing

    quiet_libraries()
    settings, config = synthesizing.load_config(overrides or [])
    console.print(f"pool {settings.out}", markup=False, soft_wrap=True)
    with Bar("samples") as progress:
        facts = synthesizing.synthesize(settings, config, progress)
    dropped = ", ".join(f"{count} {kind}" for kind, count in facts["dropped"].items())
    console.print(
        f"{facts['samples']} samples by {facts['strategy']} in {facts['seconds']:.0f} s, "
        f"{facts['queries']['train']} teacher queries; dropped: {dropped}", markup=False,
    )


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
def compare(
    table: str = typer.Argument(..., help="A table of experiments/tables, or a YAML file like them."),
    overrides: Optional[list[str]] = Overrides,
    only: Optional[list[str]] = typer.Option(None, help="Only this data set, student or strategy; repeat for more."),
    workers: int = typer.Option(1, min=1, help="Processes that share the runs; give each one thread: threads=1."),
    out: Optional[Path] = typer.Option(None, help="Folder for the tables; default: that of the runs."),
    keep: Optional[Path] = typer.Option(None, help="Copy the small result files below this folder."),
    show: bool = typer.Option(False, "--show", help="Run nothing; show what is finished."),
    worker: bool = typer.Option(False, "--worker", hidden=True),
) -> None:
    """Run a grid of data sets, students, strategies and seeds, and print its tables.

    Finished runs are skipped, interrupted ones go on, failed ones are named (then the exit code is 1). Runs that are
    compared must have the same budget.

    Example: `dfkd compare embeddings_tiny --only sst2 --workers 2 threads=1`
    """
    from dfkd import compare as grids
    from dfkd.console import GridProgress, quiet_listeners
    from dfkd.report import comparison

    quiet_libraries()
    given = overrides or []
    jobs = grids.load(table, given, only or [])
    if worker:
        return grids.work_off(jobs, quiet_listeners)
    if not show:
        grids.forget_failures(jobs)
        arguments = [table, *given, *(part for name in only or [] for part in ("--only", name))]
        with GridProgress(len(jobs)) as progress:
            grids.supervise(jobs, arguments, workers, progress)
    found, missing = grids.outcome(jobs)
    where = out or grids.table_folder(jobs)
    where.mkdir(parents=True, exist_ok=True)
    text = comparison.markdown(found, missing)
    (where / "comparison.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    console.print(f"{len(found)} of {len(jobs)} runs; table: {where / 'comparison.md'}", markup=False, soft_wrap=True)
    if keep is not None:
        grids.keep_results(found, keep)
    if missing and not show:
        raise typer.Exit(1)


@app.command()
def report(
    folders: Optional[list[Path]] = typer.Argument(None, help="Run folders, searched for results; default: runs."),
    out: Path = typer.Option(Path("report.html"), help="The page to write."),
) -> None:
    """Print the table of finished runs and write a page with table, curves, samples and configurations."""
    from dfkd.report import page, results, table

    where = folders or [Path("runs")]
    found, missing = results.collect(where), results.unfinished(where)
    if not found:
        fix = "run something first: dfkd run --help"
        raise ConfigError("no finished run", expected="folders with result.json", found=folders or "runs", fix=fix)
    console.print(table.rich_table(table.rows(found, missing)))
    page.write_page(found, missing, out)
    console.print(f"page: {out}")


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


def _print_options(plugins: Any, name: str) -> None:
    """A component's options, with types, defaults and what they mean."""
    line, described = plugins.describe(name)
    console.print(f"{name}: {line}", markup=False)
    for option in described:
        head = Text.assemble((f"{plugins.kind}.{option.name}", "bold"), f"={option.default}  ", (option.type, "dim"))
        console.print(head, Padding(Text(option.help), (0, 0, 0, 4)))


@app.command()
def doctor() -> None:
    """Tell versions, devices, free disk, and which models and data sets are found."""
    from dfkd import doctor as checks

    quiet_libraries()
    table = Table("what", "found")
    for what, found in checks.findings():
        table.add_row(what, found.replace("[", r"\["))
    console.print(table)


def main() -> None:
    """Entry point of the command ``dfkd``."""
    guarded(_run_app)


def _run_app() -> None:
    code = app(standalone_mode=False)
    if code == 130:  # typer's way to say that it was interrupted, unless it is an old one
        raise KeyboardInterrupt
    if code:  # of typer.Exit
        sys.exit(code)


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


if __name__ == "__main__":
    main()
