"""The pseudo samples that the page shows: of every run some, from its beginning to its end."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Sequence

from dfkd.report import table
from dfkd.report.results import Result

Record = dict[str, Any]
OF_A_RUN = 48
IN_ALL = 2400
AT_LEAST = 4
SIDE_BY_SIDE = 4  # samples of one step
LETTERS = 600


@dataclass(frozen=True)
class Shown:
    """The samples of one run.

    Args:
        data: name of the data set.
        student: the student's name.
        strategy: the strategy's.
        seed: of the run.
        samples: as they stand in ``samples.jsonl``, long texts cut.
        kept: how many stand there.
    """

    data: str
    student: str
    strategy: str
    seed: int
    samples: Sequence[Record]
    kept: int


def browse(results: Sequence[Result]) -> list[Shown]:
    """Samples of every run that kept some: at most so many in all that a page of hundreds of runs can be opened."""
    most = min(OF_A_RUN, max(AT_LEAST, IN_ALL // max(1, len(results))))
    students, shown = table.student_names(results), []
    for result in results:
        kept = result.log("samples")
        if kept:
            samples = excerpt(kept, most)
            student = students[result.setting]
            shown.append(Shown(result.setting.data, student, result.strategy, result.seed, samples, len(kept)))
    return shown


def excerpt(records: Sequence[Record], most: int) -> list[Record]:
    """At most ``most`` samples, as :func:`chosen`, long texts cut."""
    return [{**record, "text": shortened(str(record["text"]))} for record in chosen(records, most)]


def chosen(records: Sequence[Record], most: int) -> list[Record]:
    """At most ``most`` samples: of steps spread evenly from the first to the last, in each of all classes in turn."""
    by_step: dict[int, list[Record]] = defaultdict(list)
    for record in records:
        by_step[record["step"]].append(record)
    steps = sorted(by_step)
    if len(records) <= most:
        return [record for step in steps for record in by_step[step]]
    each = min(SIDE_BY_SIDE, max(map(len, by_step.values())))
    count = min(len(steps), max(1, most // each))
    picked = sorted({steps[round(place * (len(steps) - 1) / max(1, count - 1))] for place in range(count)})
    return [record for step in picked for record in in_turn(by_step[step])[: max(1, most // len(picked))]]


def in_turn(records: Sequence[Record]) -> list[Record]:
    """Samples of one step, the first of each class before the second of any."""
    seen: dict[str, int] = defaultdict(int)
    ranked = []
    for record in records:
        ranked.append((seen[record["teacher_class"]], record))
        seen[record["teacher_class"]] += 1
    return [record for _, record in sorted(ranked, key=lambda pair: pair[0])]


def shortened(text: str) -> str:
    """The beginning of a long text."""
    return text if len(text) <= LETTERS else text[:LETTERS].rstrip() + " …"
