"""Pictures of the training: what was logged with the steps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from dfkd.report.pictures.series import Point, Run, Series, by_strategy, course, fact, samples_by
from dfkd.report.pictures.style import MARKS, Look, crowds, legend, name_axes, outer, panels

Points = Callable[[Run], Sequence[Point]]
PROMPTER = {
    "reward": "mean reward of a batch",
    "policy_entropy": "entropy of the prompts\n(nats a token)",
    "policy_kl": "KL to the reference\n(nats a token)",
}
ADVERSARY = {
    "mask_loss": "L_MASK of the samples",
    "mask": "L_MASK in the\nstudent's loss",
    "kl": "KL(teacher || student)\n(nats)",
    "teacher_confidence": "teacher's confidence",
}
ADVERSARIAL = ("mask_loss_last", "kl_last", "mask")


def agreement(runs: Sequence[Run], looks: Mapping[str, Look]) -> Figure | None:
    """Agreement on held-out pseudo samples against the number of samples drawn; ``None`` where none was measured."""
    found = _curves(runs, fact("heldout_agreement", 100), smooth=False)
    for strategy, series in found.items():
        own = by_strategy(runs)[strategy]
        x = [sum(samples_by(run, step) for run in own) / len(own) for step in series.x]
        found[strategy] = replace(series, x=x)
    return _lines(found, looks, "pseudo samples drawn", "agreement on its own\nheld-out samples (%)")


def loss(runs: Sequence[Run], looks: Mapping[str, Look]) -> Figure | None:
    """The distillation loss over the steps, smoothed; ``None`` where it was not logged."""
    figure = _lines(_curves(runs, fact("kd")), looks, "student step", "distillation loss", yscale="log")
    for axes in figure.axes if figure is not None else ():
        low, high = axes.get_ylim()
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        digits = "25" if high > 3 * low else "123456789"
        axes.yaxis.set_minor_formatter(FuncFormatter(partial(_between, "" if high > 100 * low else digits)))
    return figure


def _between(digits: str, value: float, _: object) -> str:
    """A label between powers of ten, for some first digits; the usual exponents are too small to be read in print."""
    return f"{value:g}" if f"{value:.0e}"[0] in digits else ""


def prompter(runs: Sequence[Run], looks: Mapping[str, Look]) -> Figure | None:
    """Reward, entropy and KL of a reinforced prompter over the steps; ``None`` where there is none of two batches."""
    reinforced = [run for run in runs if sum("policy_entropy" in record for record in run.records) > 1]
    return _facts(reinforced, looks, PROMPTER)


def adversary(runs: Sequence[Run], looks: Mapping[str, Look]) -> Figure | None:
    """AS-DFD: L_MASK or KL and the teacher's confidence over the steps; ``None`` where nothing is adversarial."""
    chosen = [run for run in runs if any(name in record for record in run.records for name in ADVERSARIAL)]
    return _facts(chosen, looks, ADVERSARY)


def _facts(runs: Sequence[Run], looks: Mapping[str, Look], names: Mapping[str, str]) -> Figure | None:
    """Panels for each fact that was logged: as it is, or before (thin) and after (thick) the samples were guessed.

    A row for each fact, where there are too many strategies for one panel; else the facts side by side.
    """
    found = {}
    for name in names:
        before, after = (_curves(runs, fact(f"{name}_{end}")) for end in ("first", "last"))
        plain = _curves(runs, fact(name))
        if plain or after:
            found[name] = before, {**plain, **after}
    if not found:
        return None
    groups = crowds(sorted({strategy for _, after in found.values() for strategy in after}))
    columns = len(groups) if len(groups) > 1 else 2 if len(found) == 4 else 3
    shared: dict[str, Any] = {"sharex": True, "sharey": "row"} if len(groups) > 1 else {}
    figure, all_axes = panels(len(found) * len(groups), columns, 2.2, **shared)
    handles: dict[str, Any] = {}
    places = [(name, group) for name in found for group in groups]
    for axes, (name, group) in zip(all_axes, places):
        name_axes(axes, x="student step", y=names[name])
        before, after = found[name]
        axes.set_visible(group == groups[0] or bool({*before, *after} & set(group)))  # the first has the label
        for strategy in group:
            if strategy in before:
                thin = before[strategy]
                axes.plot(thin.x, thin.mean, color=looks[strategy].colour, linewidth=0.7, alpha=0.8)
            if strategy in after:
                handles[strategy] = _line(axes, after[strategy], looks[strategy])
    if len(groups) > 1:
        outer(all_axes, columns)
    legend(figure, handles)
    return figure


def _curves(runs: Sequence[Run], points: Points, smooth: bool = True) -> dict[str, Series]:
    """Strategy -> the mean of its runs; without the strategies that have no point."""
    made = {strategy: course(own, points, smooth) for strategy, own in by_strategy(runs).items()}
    return {strategy: series for strategy, series in made.items() if series.x}


def _lines(curves: Mapping[str, Series], looks: Mapping[str, Look], x: str, y: str, **more: Any) -> Figure | None:
    """Curves by strategy; many are spread over panels with the same scales, floor and ceiling in each."""
    if not curves:
        return None
    groups = crowds(list(curves))
    figure, all_axes = panels(len(groups), 2, 2.7, sharex=True, sharey=True)
    handles = {}
    for axes, group in zip(all_axes, groups):
        axes.set(**more)
        for strategy in group:
            handles[strategy] = _line(axes, curves[strategy], looks[strategy])
        name_axes(axes, x=x, y=y)
    outer(all_axes, 2)
    legend(figure, handles)
    return figure


def _line(axes: Axes, series: Series, look: Look) -> Any:
    """A curve with its band; returns what a legend shows."""
    line, = axes.plot(series.x, series.mean, color=look.colour, linestyle=look.style, linewidth=1.6)
    line.set(marker=look.marker, markersize=4.5, markevery=max(1, len(series.x) // MARKS))
    if any(low < high for low, high in zip(series.low, series.high)):
        axes.fill_between(series.x, series.low, series.high, color=look.colour, alpha=0.18, linewidth=0)
    return line
