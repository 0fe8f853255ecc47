"""What stands where in a comparison's tables, whatever they are written in: one sheet a student."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from typing import Iterable, Mapping, Sequence

from dfkd.report.cells import SIGNIFICANT, Entry, entries
from dfkd.report.gap import CEILING, FLOOR, NO_GAP, mean_gap_closed, percent, told
from dfkd.report.results import MORE, MORE_NOTE, Missing, Result
from dfkd.report.statistics import Drawn

UNKNOWN = "–"


@dataclass(frozen=True)
class Gap:
    """Runs of one cell that are not there.

    Args:
        runs: how many.
        failed: how many of them were tried.
    """

    runs: int
    failed: int

    def said(self, there: int) -> str:
        """For people, next to the number of runs that are there."""
        tried = f"{self.failed} failed" if self.failed else ""
        if not there:
            return tried and f"failed ({self.failed} of {self.runs})" or "not run"
        return f"{there} of {there + self.runs} runs" + (f", {tried}" if tried else "")


@dataclass(frozen=True)
class Cell:
    """One cell as text, without mark-up.

    Args:
        mean: in %; empty: nothing was run.
        deviation: over seeds, in points.
        bounds: of the 95 % interval.
        star: whether it differs from the floor.
        best: whether it is significantly better than every other data-free strategy.
        note: what is missing; empty: nothing.
        part: the same where there is little room: runs that are there, of those asked for.
    """

    mean: str
    deviation: str = UNKNOWN
    bounds: str = ""
    star: bool = False
    best: bool = False
    note: str = ""
    part: str = ""


@dataclass(frozen=True)
class Line:
    """One strategy's line as text, without mark-up; the costs are means over the data sets."""

    strategy: str
    data_free: bool
    seeds: str
    cells: tuple[Cell, ...]
    gap_closed: str
    agreement: str
    queries: str
    tokens: str
    seconds: str

    @property
    def costs(self) -> tuple[str, ...]:
        """What stands right of the data sets, in the order of :attr:`Sheet.columns`, but for the tokens."""
        return self.gap_closed, self.agreement, self.queries, self.seconds


@dataclass(frozen=True)
class Sheet:
    """The table of one student.

    Args:
        student: its label.
        datas: the data sets, from left to right.
        strategies: from top to bottom: the floor, the others, those that see the task's texts.
        teachers: data set -> the teacher's score.
        entries: (data set, strategy) -> what its runs say.
        gaps: (data set, strategy) -> runs that are missing.
    """

    student: str
    datas: tuple[str, ...]
    strategies: tuple[str, ...]
    teachers: Mapping[str, float | None]
    entries: Mapping[tuple[str, str], Entry]
    gaps: Mapping[tuple[str, str], Gap]

    @property
    def shows_tokens(self) -> bool:
        """Whether a language model wrote anything."""
        return any(entry.tokens for entry in self.entries.values())

    @property
    def heads(self) -> list[str]:
        """The data sets with their teachers' scores."""
        return [f"{data} (teacher {score})" for data, score in zip(self.datas, self.teacher_scores)]

    @property
    def teacher_scores(self) -> list[str]:
        """The teachers' scores in %, a data set each."""
        return [_percent(self.teachers.get(data)) for data in self.datas]

    @property
    def columns(self) -> list[str]:
        """What stands right of the data sets."""
        tokens = ["tokens"] if self.shows_tokens else []
        return ["gap closed", "agreement", "queries", *tokens, "seconds"]

    def lines(self) -> list[Line]:
        """All lines, from top to bottom."""
        return [self._line(name) for name in self.strategies]

    def was_tried(self, name: str) -> bool:
        """Whether a run of the strategy is there, or failed."""
        places = [(data, name) for data in self.datas]
        return any(place in self.entries or (place in self.gaps and self.gaps[place].failed) for place in places)

    def facts(self, line: Line) -> list[str]:
        """A line's cells under :attr:`columns`."""
        *before, seconds = line.costs
        return [*before, *([line.tokens] if self.shows_tokens else []), seconds]

    def _line(self, name: str) -> Line:
        row = [self.entries.get((data, name)) for data in self.datas]
        there = [entry for entry in row if entry is not None]
        costed = there if len(there) == len(row) else []  # of other data sets they would be other means
        return Line(
            name, data_free=name != CEILING and all(entry.data_free for entry in there), seeds=_seeds(row),
            cells=tuple(self._cell(data, name) for data in self.datas), gap_closed=self._gap_closed(name),
            agreement=_mean([100 * entry.agreement for entry in costed], ".1f"),
            queries=_mean([entry.queries for entry in costed], ",.0f"),
            tokens=_mean([entry.tokens for entry in costed], ",.0f"),
            seconds=_mean([entry.seconds for entry in costed], ".0f")
            + MORE * any(not entry.seconds_whole for entry in costed),
        )

    def _cell(self, data: str, name: str) -> Cell:
        entry, gap = self.entries.get((data, name)), self.gaps.get((data, name))
        if entry is None:
            return Cell("", note=(gap or Gap(1, 0)).said(0))
        low, high = (f"{100 * bound:.1f}" for bound in (entry.score.low, entry.score.high))
        return Cell(
            mean=f"{100 * entry.score.mean:.1f}", bounds=f"[{low}, {high}]",
            deviation=UNKNOWN if entry.deviation is None else f"{100 * entry.deviation:.1f}",
            star=entry.p is not None and entry.p < SIGNIFICANT, best=entry.best,
            note=gap.said(entry.runs) if gap else "", part=f"{entry.runs}/{entry.runs + gap.runs}" if gap else "",
        )

    def _gap_closed(self, name: str) -> str:
        """The share of the means over all data sets, if all are run; in brackets each data set's.

        With its interval, if all were run with two seeds or more.
        """
        each = [self._share(data, name) for data in self.datas]
        if name in (FLOOR, CEILING) or set(each) <= {UNKNOWN, NO_GAP}:
            return ""
        own, floor, ceiling = (self._drawn(one) for one in (name, FLOOR, CEILING))
        closed = mean_gap_closed(own, floor, ceiling) if len(own) == len(floor) == len(ceiling) == len(each) else None
        if closed is None:
            return f"({', '.join(each)})"
        several = all(self.entries[data, one].runs > 1 for data in self.datas for one in (name, FLOOR, CEILING))
        # of a single seed nothing is known of how seeds vary: an interval would be too narrow
        return f"{told(closed) if several else percent(closed.mean)} ({', '.join(each)})"

    def _drawn(self, name: str) -> list[Drawn]:
        """A strategy's accuracies on the data sets that it was run on."""
        return [self.entries[data, name].drawn for data in self.datas if (data, name) in self.entries]

    def _share(self, data: str, name: str) -> str:
        """The share of a data set's gap that is closed in %, or why there is none."""
        floor, ceiling, entry = (self.entries.get((data, one)) for one in (FLOOR, CEILING, name))
        if floor is None or ceiling is None:
            return UNKNOWN
        if ceiling.gap is None:
            return NO_GAP
        return UNKNOWN if entry is None or entry.gap is None else percent(entry.gap.mean)


def sheets(
    results: Sequence[Result], missing: Sequence[Missing] = (), order: Sequence[str] = ()
) -> list[Sheet]:
    """A sheet for each student.

    Args:
        results: of one table.
        missing: runs that it asks for and that are not there.
        order: names of students, data sets and strategies, as they shall stand; others come behind as they are found.

    Raises:
        ConfigError: as :func:`dfkd.report.cells.entries`.
    """
    made = entries(results)
    placed = [entry for entry in missing if entry.strategy]
    places = {name: place for place, name in enumerate(order)}

    def sort(names: Iterable[str]) -> list[str]:
        return sorted(dict.fromkeys(names), key=lambda name: places.get(name, len(places)))

    students = sort([*(key[0] for key in made), *(entry.student for entry in placed)])
    found = []
    for student in students:
        own = {key[1:]: entry for key, entry in made.items() if key[0] == student}
        gaps = gaps_of([entry for entry in placed if entry.student == student])
        datas = sort(data for data, _ in [*own, *gaps])
        names = sorted(sort(name for _, name in [*own, *gaps]), key=lambda name: _rank(name, own))
        teachers = {run.setting.data: _accuracy(run) for run in results if run.setting.student == student}
        found.append(Sheet(student, tuple(datas), tuple(names), teachers, own, gaps))
    return found


def gaps_of(missing: Iterable[Missing]) -> dict[tuple[str, str], Gap]:
    """(data set, strategy) -> its missing runs."""
    runs, failed = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for entry in missing:
        runs[entry.data, entry.strategy] += 1
        failed[entry.data, entry.strategy] += entry.failed
    return {place: Gap(count, failed[place]) for place, count in runs.items()}


def notes(sheet: Sheet) -> list[str]:
    """What a reader must know to read a sheet."""
    lines = sheet.lines()
    real = [line.strategy for line in lines if not line.data_free]
    said = [f"†: sees the task's own texts: not data-free, and never the best: {', '.join(real)}."] if real else []
    if any(entry.runs == 1 for entry in sheet.entries.values()):
        said.append(
            "With one seed (deviation –) an interval is over test items alone; nothing is tested against it, and no "
            "strategy is called best."
        )
    if short := [(place, entry.short) for place, entry in sheet.entries.items() if entry.short]:
        which = "; ".join(f"{strategy} on {data}: {done} of {steps}" for (data, strategy), (done, steps) in short)
        said.append(f"Ended before their student steps were done, as another budget was spent: {which}.")
    if sheet.shows_tokens and any(entry.tokens is None for entry in sheet.entries.values()):
        said.append("Tokens are – where a run does not tell how many a language model wrote for it.")
    return said + ([MORE_NOTE] if any(line.seconds.endswith(MORE) for line in lines) else [])


def _accuracy(run: Result) -> float | None:
    """The teacher's: what stands below it is accuracy too, whatever the data set's own score is."""
    scores = run.content["teacher"]["scores"]
    return None if scores is None else float(scores["accuracy"])


def _rank(name: str, own: Mapping[tuple[str, str], Entry]) -> int:
    real = any(not entry.data_free for (_, strategy), entry in own.items() if strategy == name)
    return 0 if name == FLOOR else 2 if real or name == CEILING else 1


def _seeds(row: Sequence[Entry | None]) -> str:
    """One number where all data sets have as many runs, else that of each."""
    counts = [0 if entry is None else entry.runs for entry in row]
    return str(counts[0]) if len(set(counts)) == 1 else ", ".join(map(str, counts))


def _mean(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return format(statistics.fmean(known), form) if known and len(known) == len(values) else UNKNOWN


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{100 * value:.1f}"
