"""The tables of several grids in one document, made from result files alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, fields
from typing import Iterable, Iterator, Sequence

from dfkd.config import TrainConfig
from dfkd.errors import ConfigError
from dfkd.report import _formats
from dfkd.report._formats import plain
from dfkd.report.layout import Sheet, sheets
from dfkd.report.results import BUDGET, Missing, Result, answers_that_differ

LOOKS = ("checkpoint_every", "on_alarm")  # of the training's settings: those that change no student
DEFAULTS = {field.name: field.default for field in fields(TrainConfig)}  # of settings that older runs do not have
FORMATS = {"markdown": ".md", "csv": ".csv", "latex": ".tex"}


@dataclass(frozen=True)
class Grid:
    """The runs of one table.

    Args:
        name: of the table.
        results: its finished runs, called as the table calls them.
        missing: runs that it asks for and that are not there.
        known: whether ``experiments/tables`` has it, so that what is missing is known.
        order: names of students, data sets and strategies, as they shall stand.
        about: what the table is for, a sentence.
    """

    name: str
    results: tuple[Result, ...]
    missing: tuple[Missing, ...] = ()
    known: bool = False
    order: tuple[str, ...] = ()
    about: str = ""

    def sheets(self) -> list[Sheet]:
        """A sheet for each student.

        Raises:
            ConfigError: runs that would stand in one cell differ in teacher, budget or test, or have no test data.
        """
        try:
            return sheets(self.results, self.missing, self.order)
        except ConfigError as error:
            raise ConfigError(f"{self.name}: {error}") from error


def write(grids: Sequence[Grid], form: str, command: str) -> str:
    """All tables in one text.

    Args:
        grids: in the order in which they are to stand.
        form: of :data:`FORMATS`.
        command: what makes this text, for its head.
    """
    if form == "markdown":
        return _markdown(grids, command)
    if form == "latex":
        return f"% made by: {command}\n" + "\n".join(_formats.latex(grid.sheets(), grid.name) for grid in grids)
    texts = [_formats.csv_text(grid.sheets(), grid.name) for grid in grids]
    return texts[0] + "".join(text.partition("\n")[2] for text in texts[1:])  # one head for all


def _markdown(grids: Sequence[Grid], command: str) -> str:
    parts = [
        "# Results", f"Made from the runs' result files by `{command}`: change nothing here, run it again.",
        "\n".join(f"- {note}" for note in _formats.NOTES),
    ]
    for grid in grids:
        parts += [f"## {plain(grid.name)}", *([plain(grid.about)] if grid.about else [])]
        parts += ["\n".join(f"- {line}" for line in facts(grid))]
        parts += [_formats.markdown(sheet) for sheet in grid.sheets()]
    return "\n\n".join(parts) + "\n"


def facts(grid: Grid) -> list[str]:
    """What a grid was made with, in Markdown: command, teachers, budget, test, machine, dates, and what is missing."""
    lines = [f"Made by `dfkd compare {plain(grid.name)}`."] if grid.known else []
    lines += [
        f"Teachers: {_several(_teachers(grid.results))}.",
        f"Budget: {_several(_budget(run) for run in grid.results)}.",
        *_training(grid.results),
        f"Test: {_several(f'{run.setting.data}, {run.test}' for run in grid.results)}.",
        f"Machine: {_several(_machine(run) for run in grid.results)}.",
        f"Runs finished {_dates(grid.results)}.",
    ]
    return lines + _incomplete(grid)


def _several(values: Iterable[str]) -> str:
    return plain("; ".join(sorted(dict.fromkeys(values))))


def _teachers(results: Iterable[Result]) -> Iterator[str]:
    """Data set, score and weights of each; weights of those that count as one stand together."""
    weights: dict[tuple[str, str], dict[str, Result]] = defaultdict(dict)
    for run in results:
        score = run.score("teacher")
        shown = "no test data" if score is None else f"{100 * score:.1f} %"
        weights[f"{run.setting.data} {shown}", run.teacher].setdefault(run.content["teacher"]["sha256"][:8], run)
    for (shown, _), found in weights.items():
        differing = answers_that_differ(list(found.values()))
        items = next(iter(found.values())).content["test_items"]
        apart = f", which differ in {differing} of {items:,} answers" if differing else ""
        yield f"{shown} ({', '.join(sorted(found))}{apart})"


def _budget(run: Result) -> str:
    return run.budget or f"steps={run.content['steps']}"


def _training(results: Sequence[Result]) -> list[str]:
    """Where rows of one student and data set trained otherwise than others, as by replay: which ones, and how."""
    settings = [{**DEFAULTS, **run.content["config"].get("train", {})} for run in results]
    values: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for run, train in zip(results, settings):
        for name in train.keys() - {*BUDGET, *LOOKS}:
            values[run.setting.data, run.setting.student, name].add(str(train[name]))
    differing = sorted({name for (_, _, name), found in values.items() if len(found) > 1})
    groups: dict[str, dict[str, None]] = defaultdict(dict)
    for run, train in zip(results, settings):
        groups[", ".join(f"{name}={train.get(name)}" for name in differing)][f"`{plain(run.strategy)}`"] = None
    return [f"Training, {how}: {', '.join(who)}." for how, who in groups.items() if how]


def _machine(run: Result) -> str:
    """What decides over seconds and rounding."""
    there = run.content["environment"]
    threads = f"{there['cores']} thread{'' if there['cores'] == 1 else 's'}" if "cores" in there else None
    versions = [f"{name} {there[name]}" for name in ("torch", "transformers", "python") if name in there]
    return ", ".join(str(part) for part in (there.get("cpu"), threads, there.get("device"), there.get("precision"),
                                            *versions) if part)


def _dates(results: Sequence[Result]) -> str:
    days = sorted({str(run.content["finished"])[:10] for run in results if run.content.get("finished")})
    return "on unknown days" if not days else f"on {days[0]}" if len(days) == 1 else f"from {days[0]} to {days[-1]}"


def _incomplete(grid: Grid) -> list[str]:
    """How much of the table is missing, by strategy, and what failed and why."""
    if not grid.known:
        return ["No table of this name is known: what may be missing is not known either."]
    if not grid.missing:
        return [f"Complete: {len(grid.results)} runs."]
    counts = Counter(entry.strategy for entry in grid.missing)
    each = "; ".join(f"{plain(name)}: {count}" for name, count in counts.items())
    total = len(grid.missing) + len(grid.results)
    failed = [f"{plain(entry.run)}: {plain(entry.reason)}" for entry in grid.missing if entry.failed]
    return [f"**Incomplete: {len(grid.missing)} of {total} runs are missing** ({each})."] + failed
