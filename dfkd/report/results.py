"""Finished runs as they stand on disk."""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Sequence

import numpy

from dfkd.errors import ConfigError
from dfkd.evaluate.scores import unpacked
from dfkd.report import _result_file
from dfkd.report._result_file import AGAIN
from dfkd.report.statistics import Correct
from dfkd.runs import PARTIAL, read_jsonl

BUDGET = ("steps", "batch_size", "teacher_queries", "generated_tokens")
NEARLY = 0.001  # share of the test items, and of the calibration error, by which teachers may differ that count as one
MORE = "+"  # behind seconds that leave out the making of a pool
MORE_NOTE = f"Seconds with {MORE} leave out the making of a pool, of which older results do not tell."
FAILED = "failed"  # what the reason of a run begins with that was tried
COMPARED = re.compile(r"[^/]+/[^/]+/[^/]+/[^/]+/seed\d+")  # what runs of 'dfkd compare' are called
FAILURE = "failure.txt"  # in the folder of a run that failed: why


@dataclass(frozen=True)
class Missing:
    """A run that a table asked for and that is not there.

    Args:
        run: what it is called.
        reason: why it is missing.
        data: the data set's name in its table; empty: it is of no table.
        student: the student's.
        strategy: the strategy's.
    """

    run: str
    reason: str
    data: str = ""
    student: str = ""
    strategy: str = ""

    @property
    def failed(self) -> bool:
        """Whether it was tried."""
        return self.reason.startswith(FAILED)


class Setting(NamedTuple):
    """What runs must share to be compared, for people.

    Args:
        data: the data set's name.
        teacher: which one, a sha256.
        student: what its table calls it.
        budget: that the run was given.
        test: what it was judged on.
        table: of ``dfkd compare``: a row of one table may differ from that of another in anything; empty for others.
    """

    data: str
    teacher: str
    student: str
    budget: str
    test: str
    table: str


@dataclass(frozen=True)
class Result:
    """One finished run.

    Args:
        folder: of the run.
        content: of its ``result.json``.
        teacher_as: the teacher that this one counts as (:func:`with_teachers_pooled`); empty: as itself.
    """

    folder: Path
    content: dict[str, Any]
    teacher_as: str = ""

    @property
    def setting(self) -> Setting:
        """What it must share with runs that it is compared with."""
        config = self.content["config"]
        student = config["student"]
        label = student.get("label") or student["name"]
        return Setting(config["data"]["name"], self.teacher, label, self.budget, self.test, self.table)

    @property
    def teacher(self) -> str:
        """Which teacher it is, a sha256: of its size and of how it does on the test; without a test, of its weights.

        Trained again by the same command on another machine, in float32, a teacher has weights that differ in their
        last digits, and as a rule does the same: the same items right, the same calibration. Two trainings that differ
        in anything else are told apart by that, if the test is not too small or too easy.
        """
        if self.teacher_as:
            return self.teacher_as
        teacher = self.content["teacher"]
        if not teacher.get("correct"):
            return str(teacher["sha256"])
        sure = teacher["scores"].get("calibration_error", 0.0)
        told = f"{teacher['cost']['parameters']} {sure:.3f} {teacher['correct']}"
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def budget(self) -> str:
        """Steps, batch size, teacher queries and generated tokens that the run was given, for people."""
        train = self.content["config"].get("train", {})
        given = {name: train.get(name) for name in BUDGET}
        return ", ".join(f"{name}={value}" for name, value in given.items() if value is not None)

    @property
    def test(self) -> str:
        """What the run was judged on, for people: test items, their length, and which ones they are."""
        items, length = self.content.get("test_items", 0), self.content["config"]["data"].get("max_length")
        which = str(self.content.get("test_fingerprint") or "")[:8]
        return f"{items} test items of {length} tokens" + (f" ({which})" if which else "")

    @property
    def strategy(self) -> str:
        """What tables call the strategy."""
        return str(self.content["strategy"].get("label") or self.content["strategy"]["name"])

    @property
    def grid(self) -> str:
        """The first part of the run's name: of runs of 'dfkd compare', the name of their table."""
        return str(self.content["run"]).split("/")[0]

    @property
    def table(self) -> str:
        """The name of the table of a run of 'dfkd compare', as its own name tells; empty for others."""
        return self.grid if COMPARED.fullmatch(str(self.content["run"])) else ""

    @property
    def data_free(self) -> bool:
        """Whether the run saw no text of the task."""
        return not self.content["strategy"].get("uses_real_text")

    @property
    def tokens(self) -> int | None:
        """Tokens that a language model wrote for the run; ``None``: not known.

        Runs from before ``result.json`` told it have it in their log, but for those of a pool or of several strategies.
        """
        if "generated_tokens" in self.content:
            return int(self.content["generated_tokens"])
        if self.content["strategy"]["name"] in ("pool", "mixture"):
            return None
        logged = [record["generated_tokens"] for record in self.log("metrics") if "generated_tokens" in record]
        return int(max(logged)) if logged else None

    @property
    def seconds(self) -> float:
        """Of synthesis and training, the samples set aside included, and the making of the pool that was used."""
        return float(sum(self.content["seconds"].get(part, 0.0) for part in ("synthesis", "heldout", "train")))

    @property
    def seconds_whole(self) -> bool:
        """Whether they are all: runs on a pool did not always tell how long its making took."""
        return "synthesis" in self.content["seconds"] or not self.content["queries"].get("synthesis")

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.content["config"]["seed"])

    def score(self, whose: str) -> float | None:
        """The data set's main score of ``teacher`` or ``student``; ``None`` without a test split."""
        scores = self.content[whose]["scores"]
        return None if scores is None else float(scores[self.content["config"]["data"]["metric"]])

    def log(self, name: str) -> list[dict[str, Any]]:
        """The records of ``metrics`` or ``samples``.

        Raises:
            ConfigError: the file is damaged.
        """
        path = self.folder / f"{name}.jsonl"
        try:
            return read_jsonl(path)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is damaged", expected="JSON lines", found=error, fix=AGAIN) from error


def correct_items(runs: Sequence[Result], of: str = "student") -> Correct:
    """(S, N), S runs and N test items: which run's ``student`` or ``teacher`` classifies which item correctly.

    Raises:
        ConfigError: a run does not say so, or of another number of items than its test has.
    """
    rows = []
    for run in runs:
        digits = run.content[of].get("correct")
        if digits is None:
            raise ConfigError(
                f"{run.folder} does not say which test items its {of} gets right",
                expected="a run on a data set with a test split",
                fix="compare by fidelity with 'dfkd report'; remove a run of an older version, and run it again",
            )
        try:
            rows.append(unpacked(digits, run.content["test_items"]))
        except (TypeError, ValueError) as error:
            problem = ConfigError(
                f"{run.folder} is damaged", expected="a bit a test item", found=f"{of}.correct: {error}", fix=AGAIN,
            )
            raise problem from error
    return numpy.stack(rows)


def spent(queries: Mapping[str, int]) -> int:
    """Teacher queries of a run's training and held-out samples, and of the making of the pool that it used."""
    return queries["train"] + queries["heldout"] + queries.get("synthesis", 0)


def collect(folders: Sequence[Path]) -> list[Result]:
    """Every finished run in or below the folders, sorted by path, nearly equal teachers counted as one.

    Raises:
        ConfigError: a folder does not exist, or a result file is damaged.
    """
    found: dict[Path, Result] = {}
    for folder in folders:
        if not folder.is_dir():
            fix = "give the folder of a finished run, or one that holds some"
            instead = "a file" if folder.exists() else None
            raise ConfigError(f"there is no folder '{folder}'", found=instead, fix=fix)
        for path in sorted(folder.rglob("result.json")):
            # the run's own folder alone says so: a folder further up may be called anything
            if not path.parent.name.endswith(PARTIAL):
                found[path.parent.resolve()] = Result(path.parent, _result_file.read(path))
    return with_teachers_pooled(list(found.values()))


def with_teachers_pooled(results: Sequence[Result]) -> list[Result]:
    """The runs, with teachers of one data set and size counted as one that do nearly the same on the same test.

    Nearly: they differ in no more than one answer in a thousand, and in calibration error by as little. That is a
    teacher trained again on another machine; students cannot tell. It counts as the one that most runs have.

    Raises:
        ConfigError: as :func:`correct_items`, of a teacher.
    """
    runs_of: dict[tuple[Any, ...], dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for run in results:
        if run.content["teacher"].get("correct"):
            size = run.content["teacher"]["cost"]["parameters"]
            runs_of[run.content["config"]["data"]["name"], run.test, size][run.teacher].append(run)
    known: dict[str, str] = {}
    for by_teacher in runs_of.values():
        firsts: list[Result] = []
        for teacher, runs in sorted(by_teacher.items(), key=lambda item: (-len(item[1]), item[0])):
            like = next((first for first in firsts if _nearly_equal(first, runs[0])), runs[0])
            known[teacher] = like.teacher
            firsts += [like] if like is runs[0] else []
    return [replace(run, teacher_as=known.get(run.teacher, "")) for run in results]


def _nearly_equal(one: Result, other: Result) -> bool:
    """Whether the teachers of two runs of one test do nearly the same on it."""
    sure = [run.content["teacher"]["scores"].get("calibration_error", 0.0) for run in (one, other)]
    items = one.content["test_items"]
    return abs(sure[0] - sure[1]) <= NEARLY and answers_that_differ([one, other]) <= NEARLY * items


def answers_that_differ(runs: Sequence[Result]) -> int:
    """The largest number of test items on which the teacher of another run is right where the first one's is not.

    Or the other way round. 0 where a teacher has no test.

    Raises:
        ConfigError: as :func:`correct_items`, of a teacher.
    """
    if not all(run.content["teacher"].get("correct") for run in runs):
        return 0
    right = correct_items(runs, of="teacher")
    return int((right != right[0]).sum(axis=1).max())


def unfinished(folders: Sequence[Path]) -> list[Missing]:
    """Every run in or below the folders that was begun and has not ended, for a table to name, with the reason."""
    marks = [f"*{PARTIAL}/{name}" for name in ("config.yaml", FAILURE)]
    begun = {path.parent for folder in folders for mark in marks for path in folder.rglob(mark)}
    return [Missing(str(folder).removesuffix(PARTIAL), _reason(folder / FAILURE)) for folder in sorted(begun)]


def _reason(failure: Path) -> str:
    return f"{FAILED}: {why(failure)}" if failure.is_file() else "not finished: repeat its command"


def why(failure: Path) -> str:
    """The line that says most of why a run failed: the first of an error of ours, the last of a traceback."""
    lines = failure.read_text(encoding="utf-8").strip().splitlines() or [""]
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]
