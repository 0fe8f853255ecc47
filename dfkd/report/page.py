"""The page: tables, claims, pictures, pseudo samples and configurations in one self-contained HTML file."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import defaultdict
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Iterable, Mapping, Protocol, Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined
from omegaconf import OmegaConf

from dfkd import state
from dfkd.report import browser, overview, sections, table
from dfkd.report._claim_scene import NOT_RUN
from dfkd.report.document import Grid
from dfkd.report.inspect import alarm_line
from dfkd.report.pictures import album as albums
from dfkd.report.pictures.album import Chapter
from dfkd.report.pictures.outcomes import Scores, scored
from dfkd.report.pictures.style import svg
from dfkd.report.results import Missing, Result

TEMPLATES = "templates"


class Claim(Protocol):
    """What the page shows of a claim that the results were held against."""

    @property
    def claim(self) -> str:
        """In words."""

    @property
    def who(self) -> str:
        """Who says so."""

    @property
    def said(self) -> str:
        """Such as ``holds``, ``fails so far (1 seed)``, ``not run``."""

    @property
    def where(self) -> str:
        """Grid and student of the runs that say so."""

    @property
    def numbers(self) -> Any:
        """Behind the verdict: a text, lines of text, or numbers by name."""


def write_page(
    results: Sequence[Result], missing: Sequence[Missing], out: Path, *, claims: Sequence[Claim] = (),
    grids: Sequence[Grid] = (),
    album: Sequence[Chapter] | None = None, scores: Scores | None = None,
) -> None:
    """Write the page, at once or not at all.

    Args:
        results: finished runs.
        missing: runs that were asked for and are not there.
        out: the HTML file.
        claims: shown in a section of their own; none: there is no such section.
        grids: tables that the results are of, to be compared strategy by strategy.
        album: the pictures; ``None``: all that the results give.
        scores: of the results, from :func:`~dfkd.report.pictures.outcomes.scored`; ``None``: they are made here.

    Raises:
        ConfigError: a run's log is damaged.
    """
    environment = Environment(loader=PackageLoader("dfkd.report"), autoescape=True, undefined=StrictUndefined)
    made, scores = table.rows(results, missing), scored(results) if scores is None else scores
    chapters = albums.album(results, scores) if album is None else album
    script = _own("page.js")
    html = environment.get_template("page.html.j2").render(
        written=datetime.now().strftime("%Y-%m-%d %H:%M"), style=_own("page.css"), script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
        made=made, columns=table.COLUMNS, notes=table.notes(made), overviews=overview.overviews(results, scores),
        comparisons=sections.sections(grids), comparison_notes=sections.NOTES,
        claims=_claims(claims), logged=any(map(_is_logged, results)),
        chapters=[_chapter(*numbered) for numbered in enumerate(chapters)],
        **_browser(browser.browse(results)), **_details(results),
    )
    state.write_text(out, html)


def _is_logged(result: Result) -> bool:
    """Whether the run's log is there, and not its result file alone."""
    return bool(result.log("metrics"))


def _own(name: str) -> str:
    return files("dfkd.report").joinpath(TEMPLATES, name).read_text(encoding="utf-8")


def _claims(verdicts: Sequence[Claim]) -> list[dict[str, Any]]:
    """Each claim once, with what every grid and student says of it; those of which nothing was run come last."""
    groups: dict[tuple[str, str], list[Claim]] = defaultdict(list)
    for verdict in verdicts:
        groups[str(verdict.claim), str(verdict.who)].append(verdict)
    made = [
        {"claim": claim, "who": who, "verdicts": [_verdict(one) for one in sorted(found, key=_untold)]}
        for (claim, who), found in groups.items()
    ]
    return sorted(made, key=lambda group: all(one["said"] == NOT_RUN for one in group["verdicts"]))


def _untold(claim: Claim) -> bool:
    """Whether nothing was run that tells: what holds or fails comes first."""
    return claim.said == NOT_RUN


def _verdict(claim: Claim) -> dict[str, Any]:
    return {"said": str(claim.said), "where": str(claim.where), "lines": _lines(claim.numbers)}


def _lines(numbers: Any) -> list[str]:
    """Numbers of any form as lines of text."""
    if isinstance(numbers, Mapping):
        return [f"{name}: {value}" for name, value in numbers.items()]
    if isinstance(numbers, Iterable) and not isinstance(numbers, str):
        return [str(number) for number in numbers]
    return [] if numbers is None else str(numbers).splitlines()


def _chapter(number: int, chapter: Chapter) -> dict[str, Any]:
    """A chapter as the template takes it; the drawing itself escapes what is written in it."""
    pictures = [
        {
            "kind": picture.kind, "title": picture.title, "caption": picture.caption,
            "svg": svg(picture.figure, f"p{number}-{place}-", f"{picture.kind}: {picture.title}"),
        }
        for place, picture in enumerate(chapter.pictures)
    ]
    return {"title": chapter.title, "pictures": pictures}


def _browser(shown: Sequence[browser.Shown]) -> dict[str, Any]:
    """The samples, what they can be filtered by, and how many are not on the page."""
    samples = [sample for run in shown for sample in run.samples]
    return {
        "browser": shown, "cut": browser.LETTERS, "samples": len(samples),
        "left_out": sum(run.kept for run in shown) - len(samples),
        "classes": list(dict.fromkeys(str(sample["teacher_class"]) for sample in samples)),
        "steps": sorted({sample["step"] for sample in samples}),
    }


def _details(results: Sequence[Result]) -> dict[str, Any]:
    """Configurations by setting; what many runs share, the data set's and the machine's, stands there once."""
    names = table.student_names(results)
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    shared: dict[str, dict[str, int]] = {"machines": {}, "data_sets": {}}
    for result in results:
        config = {key: value for key, value in result.content["config"].items() if key != "data"}
        own = {
            "machines": json.dumps(result.content["environment"], indent=1, ensure_ascii=False),
            "data_sets": _yaml(result.content["config"]["data"]),
        }
        numbers = {kind: shared[kind].setdefault(text, len(shared[kind]) + 1) for kind, text in own.items()}
        alarms = [alarm_line(alarm) for alarm in result.log("alarms")]
        run = {"name": str(result.content["run"]), "config": _yaml(config), "alarms": alarms, **numbers}
        groups[f"{result.setting.data}, student {names[result.setting]}"].append(run)
    return {"groups": dict(groups), **{kind: list(texts) for kind, texts in shared.items()}}


def _yaml(config: Mapping[str, Any]) -> str:
    return OmegaConf.to_yaml(OmegaConf.create(dict(config)))
