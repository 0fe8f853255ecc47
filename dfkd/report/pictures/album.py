"""All pictures of some results, in chapters: those over all settings first, then those of each."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, Sequence

from matplotlib.figure import Figure

from dfkd import state
from dfkd.report.pictures import classes, outcomes, pareto, training
from dfkd.report.pictures.outcomes import Scores
from dfkd.report.pictures.series import Run, load
from dfkd.report.pictures.style import Look, drawn, looks, told_apart
from dfkd.report.results import Result, Setting
from dfkd.report.table import student_names

KINDS = ("svg", "pdf")
LONGEST_NAME = 120
CAPTIONS = {
    "gap_closed": "0 is the floor (random words), 100 the ceiling (the task's own texts); above each panel how wide "
    "the gap is. Numbers with arrows lie beyond the scale; a triangle at its end says that the interval goes on. "
    "Lines: 95 % interval of the share, over test items (the same for all) and seeds; none where the runs do not say "
    "which items they get right. A data set whose gap is within its own interval has no panel: shares of it mean "
    "nothing.",
    "accuracy_by_samples": "Score on the test split at the end of runs with different budgets, against the pseudo "
    "samples drawn (a pool's or a corpus' may have come more than once). Bands: 95 % interval over items and seeds.",
    "accuracy_by_cost": "Students of one teacher and budget: score against cost, with 95 % intervals; the strategies "
    "of one student side by side. The grey line joins the data-free students that no cheaper one equals. Of more than "
    f"{pareto.MOST} strategies those are drawn that are best for most students, with floor and ceiling.",
    "agreement": "Agreement with the teacher on the pseudo samples that each strategy set aside before its training: "
    "how well its own samples are learnt. Each strategy is asked about its own, so that the curves are not measured on "
    "the same samples, and none on the test split. Bands: lowest to highest seed.",
    "loss": "Distillation loss over the student's steps, smoothed. Bands: lowest to highest seed.",
    "prompter": "The reinforced prompter over the steps, smoothed. Bands: lowest to highest seed.",
    "adversary": "The adversary of the guessed embeddings over the steps, smoothed; thin: before the embeddings of a "
    "batch are moved, thick: before the last move. Bands: lowest to highest seed.",
    "classes": "The teacher's classes of the fresh pseudo samples, mean over seeds.",
    "reliability": "Accuracy on the test split against the confidence of the answer, in bins; the dots' areas are the "
    "bins' shares of the items, seeds pooled. In brackets the expected calibration error (%).",
}


@dataclass(frozen=True)
class Picture:
    """One picture.

    Args:
        name: of its kind, among :data:`CAPTIONS`.
        title: what it shows of what.
        figure: to be drawn.
    """

    name: str
    title: str
    figure: Figure

    @property
    def caption(self) -> str:
        """How to read it."""
        return CAPTIONS[self.name]

    @property
    def kind(self) -> str:
        """Its name in words."""
        return self.name.replace("_", " ")


@dataclass(frozen=True)
class Chapter:
    """Pictures of one setting, or over all."""

    title: str
    pictures: Sequence[Picture]


def album(results: Sequence[Result], scores: Scores | None = None) -> list[Chapter]:
    """Every picture for which the results hold the numbers; chapters without any are left out.

    Args:
        results: finished runs, of any settings.
        scores: theirs, from :func:`~dfkd.report.pictures.outcomes.scored`; ``None``: they are made here.

    Raises:
        ConfigError: a run's log is damaged.
    """
    shown, names = looks(result.strategy for result in results), student_names(results)
    scores = outcomes.scored(results) if scores is None else scores
    first = [*_gaps(names, scores, shown), *_by_samples(results, scores, shown), *_by_cost(results, scores, shown)]
    chapters = [Chapter("Over all settings", first)]
    for setting in sorted(names):
        group = [result for result in results if result.setting == setting]
        title = f"{setting.data}, student {names[setting]}"
        chapters.append(Chapter(title, list(_of_setting(load(group), title, shown))))
    return [chapter for chapter in chapters if chapter.pictures]


def _gaps(names: dict[Setting, str], scores: Scores, shown: dict[str, Look]) -> Iterator[Picture]:
    """A picture for each student, over its data sets."""
    by_student: dict[str, dict[str, Setting]] = defaultdict(dict)
    for setting in sorted(names):
        by_student[names[setting]][setting.data] = setting
    for student, settings in by_student.items():
        found = {data: scores[setting] for data, setting in settings.items() if setting in scores}
        yield from _picture("gap_closed", f"student {student}", outcomes.gaps(found, shown))


def _by_samples(results: Sequence[Result], scores: Scores, shown: dict[str, Look]) -> Iterator[Picture]:
    metrics = {result.setting.data: result.content["config"]["data"]["metric"] for result in results}
    for data, student, curves in outcomes.budgets(results, scores):
        figure = outcomes.by_samples(curves, told_apart(shown, curves), metrics[data])
        yield from _picture("accuracy_by_samples", f"{data}, student {student}", figure)


def _by_cost(results: Sequence[Result], scores: Scores, shown: dict[str, Look]) -> Iterator[Picture]:
    """A picture for each data set, teacher, budget, test and table."""
    groups: dict[Setting, list[Result]] = defaultdict(list)
    for result in results:
        groups[result.setting._replace(student="")].append(result)
    number = Counter((setting.data, setting.budget) for setting in groups)
    for setting, group in groups.items():
        kind, students = pareto.students_of(group, scores)
        metric = group[0].content["config"]["data"]["metric"]
        own = told_apart(shown, (student.strategy for student in pareto.telling(students)), lines=False)
        figure = pareto.pareto(students, group[0].score("teacher"), kind, own, metric)
        parts = [setting.data, "students of one teacher", setting.budget]
        if number[setting.data, setting.budget] > 1:  # of several tables, or teachers
            parts.append(setting.table or f"teacher {setting.teacher[:8]}")
        title = ", ".join(filter(None, parts))
        yield from _picture("accuracy_by_cost", title, figure)


def _of_setting(runs: Sequence[Run], title: str, shown: dict[str, Look]) -> Iterator[Picture]:
    shown = told_apart(shown, dict.fromkeys(run.result.strategy for run in runs))
    drawing: dict[str, Callable[[], Figure | None]] = {
        "agreement": lambda: training.agreement(runs, shown),
        "loss": lambda: training.loss(runs, shown),
        "prompter": lambda: training.prompter(runs, shown),
        "adversary": lambda: training.adversary(runs, shown),
        "classes": lambda: classes.histograms(runs),
        "reliability": lambda: classes.reliability([run.result for run in runs]),
    }
    for name, draw in drawing.items():
        yield from _picture(name, title, draw())


def _picture(name: str, title: str, figure: Figure | None) -> Iterator[Picture]:
    if figure is not None:
        yield Picture(name, title, figure)


def write(chapters: Sequence[Chapter], folder: Path) -> list[Path]:
    """Write every picture as SVG and as PDF.

    Returns:
        The files, in the order of the pictures.
    """
    written: list[Path] = []
    for picture in (picture for chapter in chapters for picture in chapter.pictures):
        stem = re.sub(r"[^A-Za-z0-9=.,-]+", "_", f"{picture.name}-{picture.title}").strip("_")[:LONGEST_NAME]
        taken = {path.stem for path in written}
        number = next(n for n in range(1, len(taken) + 2) if (f"{stem}-{n}" if n > 1 else stem) not in taken)
        for kind in KINDS:
            path = folder / f"{stem if number == 1 else f'{stem}-{number}'}.{kind}"
            state.write_bytes(path, drawn(picture.figure, kind))
            written.append(path)
    return written
