"""The page: table, learning curves, pseudo samples and configurations in one self-contained HTML file."""

from __future__ import annotations

import io
import json
import re
from datetime import datetime
from itertools import cycle
from pathlib import Path
from typing import Any, Sequence

import matplotlib
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from dfkd import state
from dfkd.report import table
from dfkd.report.inspect import alarm_line
from dfkd.report.results import Missing, Result

# Okabe and Ito's palette, told apart by the colour-blind as well; line styles and markers tell the curves apart in
# print, and a curve of one point is nothing but its marker
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
MARKS = 8


def write_page(results: Sequence[Result], missing: Sequence[Missing], out: Path) -> None:
    """Write the page, at once or not at all.

    Args:
        results: finished runs.
        missing: runs that were asked for and are not there.
        out: the HTML file.
    """
    environment = Environment(loader=PackageLoader("dfkd.report"), autoescape=True, undefined=StrictUndefined)
    made = table.rows(results, missing)
    html = environment.get_template("page.html.j2").render(
        made=made, columns=table.COLUMNS, notes=table.notes(made), curves=curves(results),
        samples=samples(results), runs=[_details(result) for result in results],
        written=datetime.now().strftime("%Y-%m-%d %H:%M"),
    )
    state.write_text(out, html)


def samples(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Pseudo samples of every run, the earliest and the latest step that was kept."""
    shown, students = [], table.student_names(results)
    for result in results:
        kept = result.log("samples")
        steps = sorted({record["step"] for record in kept})
        for record in kept:
            if record["step"] in (steps[0], steps[-1]):
                run = f"{result.setting[0]}: {result.strategy}, {students[result.setting]}, seed {result.seed}"
                shown.append({**record, "strategy": result.strategy, "run": run, "data": result.setting[0]})
    return shown


def curves(results: Sequence[Result]) -> list[dict[str, Any]]:
    """For each setting, held-out agreement and loss over the steps, as SVG, with a title."""
    drawn, students = [], table.student_names(results)
    for number, setting in enumerate(sorted({result.setting for result in results})):
        group = [result for result in results if result.setting == setting]
        pictures = [_draw(group, which, f"{which}{number}-") for which in ("agreement", "loss")]
        drawn.append({"title": f"{setting[0]}, student {students[setting]}", "pictures": pictures})
    return drawn


def _draw(results: Sequence[Result], which: str, prefix: str) -> str:
    figure = Figure(figsize=(5.4, 3.6), layout="constrained")
    axes = figure.subplots()
    looks = zip(cycle(COLOURS), cycle(STYLES), cycle(MARKERS))
    for result, (colour, style, marker) in zip(results, looks):
        label = result.strategy if result.seed == 0 else f"{result.strategy}, seed {result.seed}"
        points = _points(result, which)
        if points:
            line, = axes.plot(*zip(*points), color=colour, linestyle=style, linewidth=1.8, label=label)
            line.set(marker=marker, markersize=4, markevery=max(1, len(points) // MARKS))
    if which == "agreement":
        axes.set(xlabel="student step", ylabel="agreement on held-out pseudo samples (%)")
    else:
        axes.set(xlabel="student step", ylabel="distillation loss (smoothed)", yscale="log")
    axes.grid(alpha=0.3)
    if axes.lines:
        for text in axes.legend(fontsize=8).get_texts():
            text.set_parse_math(False)  # a label may hold dollar signs
    return _svg(figure, prefix)


def _points(result: Result, which: str) -> list[tuple[int, float]]:
    records = result.log("metrics")
    if which == "agreement":
        return [(r["step"], 100 * r["heldout_agreement"]) for r in records if "heldout_agreement" in r]
    trained = [r for r in records if "kd" in r]
    return list(zip((r["step"] for r in trained), _smoothed([r["kd"] for r in trained])))


def _svg(figure: Figure, prefix: str) -> str:
    """The figure as inline SVG; ids get a prefix, as two figures on one page must not share any."""
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": prefix, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}", svg)


def _smoothed(values: Sequence[float], weight: float = 0.9) -> list[float]:
    """Exponential moving average, without the bias of its start."""
    smooth, mean, total = [], 0.0, 0.0
    for value in values:
        mean, total = weight * mean + (1 - weight) * value, weight * total + (1 - weight)
        smooth.append(mean / total)
    return smooth


def _details(result: Result) -> dict[str, str]:
    content = result.content
    return {
        "name": str(content["run"]),
        "config": OmegaConf.to_yaml(OmegaConf.create(content["config"])),
        "environment": json.dumps(content["environment"], indent=1),
        "alarms": "\n".join(alarm_line(alarm) for alarm in result.log("alarms")),
    }
