"""Claims, published ones and goals of our own, held against result files: holds, fails, or not run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, Sequence

from dfkd.config import read_yaml, typed
from dfkd.errors import ConfigError, suggestion
from dfkd.report._claim_kinds import KINDS, Claim
from dfkd.report._claim_scene import FAILS, HOLDS, NOT_RUN, WANTED, Answer, Column, Said, Scene
from dfkd.report._formats import plain
from dfkd.report.cells import grouped
from dfkd.report.gap import CEILING, FLOOR
from dfkd.report.results import Result

__all__ = ["FAILS", "HOLDS", "NOT_RUN", "WANTED", "Verdict", "by_claim", "counted", "judge", "markdown", "read"]

Place = tuple[str, str]
"""Grid and student."""


@dataclass(frozen=True)
class Verdict:
    """What the runs of one grid and student say of a claim.

    Args:
        claim: in words.
        source: who says so, and where.
        verdict: ``holds``, ``fails`` or ``not run``.
        numbers: means in %, differences with their 95 % interval, data sets and seeds; a line each.
        where: grid and student; empty: no runs that it is about were found.
        ours: whether it is a goal of this project rather than a published claim.
        seeds: the fewest that a strategy has on a data set that decides; ``None``: seeds do not matter.
        chance: what fails does so by no more than chance.
    """

    claim: str
    source: str
    verdict: Said
    numbers: tuple[str, ...]
    where: str = ""
    ours: bool = False
    seeds: int | None = None
    chance: bool = False

    @property
    def so_far(self) -> bool:
        """Whether it rests on few seeds, so that more may change it."""
        return self.verdict != NOT_RUN and self.seeds is not None and self.seeds < WANTED

    @property
    def said(self) -> str:
        """The verdict, with the number of seeds where they are few."""
        seeds = f" so far ({self.seeds} seed{'' if self.seeds == 1 else 's'})"
        chance = " within chance" if self.chance and self.verdict == FAILS else ""
        return self.verdict + chance + (seeds if self.so_far else "")

    @property
    def who(self) -> str:
        """Who says so, and where; or that it is a goal of our own."""
        return f"{self.source} (our own goal)" if self.ours else self.source


def judge(path: Path, results: Sequence[Result]) -> list[Verdict]:
    """A verdict on each claim of a file, for each grid and student that can tell; one ``not run`` where none can.

    Args:
        path: of the YAML with the claims.
        results: runs of any grids. Where runs of one grid, student and data set differ in teacher, budget or test,
            as single runs may, claims are not held against them.

    Raises:
        ConfigError: the file is malformed.
    """
    claims, places = read(path), _places(results)
    return [verdict for claim in claims for verdict in _verdicts(claim, places)]


def read(path: Path) -> list[Claim]:
    """The claims of a YAML file, checked.

    Raises:
        ConfigError: lists every problem found.
    """
    content = read_yaml(path)
    listed = content.get("claims")
    if list(content) != ["claims"] or not isinstance(listed, list):
        raise ConfigError(f"{path} holds no claims", expected="claims: [...], and nothing else", found=list(content))
    claims: list[Claim] = []
    problems: list[ConfigError] = []
    for number, values in enumerate(listed):
        claim, found = _claim(values, f"claims[{number}]")
        claims += [claim] if claim is not None else []
        problems += found
    if problems:
        raise ConfigError(f"{path}: {ConfigError.joined(problems)}")
    return claims


def _claim(values: Any, name: str) -> tuple[Claim | None, list[ConfigError]]:
    if not isinstance(values, Mapping):
        return None, [ConfigError(f"{name} is no claim", expected="a mapping with claim, source, kind", found=values)]
    kind = str(values.get("kind"))
    if kind not in KINDS:
        return None, [ConfigError(f"{name}: unknown kind '{kind}'", fix=suggestion(kind, KINDS))]
    claim, problems = typed(KINDS[kind], {str(key): value for key, value in values.items()}, f"{name}.")
    return claim, [ConfigError(f"{name}: {problem}") for problem in problems]


def _places(results: Sequence[Result]) -> dict[Place, dict[str, Column]]:
    """(grid, student) -> data set -> its runs."""
    by_grid: dict[str, list[Result]] = {}
    for result in results:
        by_grid.setdefault(result.grid, []).append(result)
    places: dict[Place, dict[str, Column]] = {}
    for grid, own in by_grid.items():
        # runs without test data can say nothing of accuracies; those of other grids can
        tested = [result for result in own if result.content["student"].get("correct") is not None]
        settings = {result.setting._replace(table="") for result in tested}
        number = Counter((setting.data, setting.student) for setting in settings)
        alike = [result for result in tested if number[result.setting.data, result.setting.student] == 1]
        for (student, data), runs in grouped(alike).items():
            places.setdefault((grid, student), {})[data] = Column(data, runs)
    return places


def _verdicts(claim: Claim, places: Mapping[Place, Mapping[str, Column]]) -> list[Verdict]:
    scenes = {
        place: Scene(columns, claim.data, claim.seeds)
        for place, columns in places.items() if _is_about(claim, place, columns)
    }
    answers = {place: claim.answer(scene) for place, scene in scenes.items()}
    # what fails for one strategy, and waits for another, is not kept quiet beside a place where it holds
    told = {place: answer for place, answer in answers.items() if answer.said != NOT_RUN or answer.partly}
    if told:
        return [_verdict(claim, answer, place) for place, answer in told.items()]
    if answers:  # the place that lacks least says what is still to be run
        place = min(answers, key=lambda place: scenes[place].runs_missing(*claim.needs))
        return [_verdict(claim, answers[place], place)]
    names = ", ".join(f"'{name}'" for name in sorted(_telling(claim)))
    wanted = f" in {', '.join(claim.grids)}" if claim.grids else ""
    return [_verdict(claim, Answer(NOT_RUN, (f"no run of {names}{wanted}",)), None)]


def _verdict(claim: Claim, answer: Answer, place: Place | None) -> Verdict:
    where = ", ".join(place) if place else ""
    told = (answer.said, answer.numbers, where, claim.ours, answer.seeds, answer.chance)
    return Verdict(claim.claim, claim.source, *told)


def _is_about(claim: Claim, place: Place, columns: Mapping[str, Column]) -> bool:
    grid, student = place
    asked = (claim.grids is None or grid in claim.grids) and (claim.students is None or student in claim.students)
    return asked and any(_telling(claim) & set(column.runs) for column in columns.values())


def _telling(claim: Claim) -> set[str]:
    """The strategies by which a grid is known to be about the claim: floor and ceiling stand in all of them."""
    return claim.names - {FLOOR, CEILING} or claim.names


def by_claim(verdicts: Sequence[Verdict]) -> list[list[Verdict]]:
    """The verdicts on one claim beside each other, what holds first; published claims, then our own goals."""
    groups: dict[tuple[bool, str, str], list[Verdict]] = {}
    for verdict in sorted(verdicts, key=lambda verdict: verdict.ours):
        groups.setdefault((verdict.ours, verdict.claim, verdict.source), []).append(verdict)
    told = (HOLDS, FAILS, NOT_RUN).index
    return [sorted(group, key=lambda verdict: told(verdict.verdict)) for group in groups.values()]


def counted(verdicts: Sequence[Verdict]) -> str:
    """How many there are of each kind, such as ``2 hold, 1 fails``; kinds of which there is none are left out."""
    number = Counter(verdict.verdict for verdict in verdicts)
    words = {HOLDS: ("holds", "hold"), FAILS: ("fails", "fail"), NOT_RUN: ("not run", "not run")}
    return ", ".join(f"{number[said]} {words[said][number[said] > 1]}" for said in words if number[said])


def markdown(verdicts: Sequence[Verdict], command: str = "dfkd claims") -> str:
    """A page of the verdicts: an overview, a line a claim, and then the numbers of each.

    Args:
        verdicts: of :func:`judge`.
        command: that makes the page.
    """
    groups = by_claim(verdicts)
    lines = [
        "# Claims", "", f"Made by `{command}`: change nothing here, run it again.", "",
        "What papers claim, and goals of our own, held against our results, in every table and for every student that",
        "can tell. A claim that fails here fails at our scale and budget: that refutes no paper. Intervals are of",
        "single comparisons; the stars in Results are corrected for the number of strategies, and fewer.", "",
        "| | claim | who says so | holds | fails | not run |", "| --- | --- | --- | --- | --- | --- |",
    ]
    for number, group in enumerate(groups, 1):
        counts = Counter(verdict.verdict for verdict in group)
        numbers = [str(counts[said] or "–") for said in (HOLDS, FAILS, NOT_RUN)]
        who = "our own goal" if group[0].ours else plain(group[0].source.split(" (")[0])
        cells = [f"[{number}](#claim-{number})", plain(group[0].claim), who, *numbers]
        lines.append(f"| {' | '.join(cells)} |")
    for number, group in enumerate(groups, 1):
        lines += ["", f"## Claim {number}", "", f"{plain(group[0].claim)}", "", f"Source: {plain(group[0].who)}.", ""]
        lines += ["| verdict | where | numbers |", "| --- | --- | --- |", *map(_row, group)]
    return "\n".join(lines) + "\n"


def _row(verdict: Verdict) -> str:
    numbers = "<br>".join(plain(number) for number in verdict.numbers)
    said = verdict.said if verdict.verdict == NOT_RUN else f"**{verdict.said}**"
    return f"| {said} | {plain(verdict.where)} | {numbers} |"
