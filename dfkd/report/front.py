"""The picture of trials by several objectives: those that no other beats stand out by shape, size and darkness."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any, Collection, Mapping, Sequence

BLUE, GREY = "#0072b2", "#8c8c8c"  # of Okabe and Ito's palette, told apart by every kind of eye and in grey


def draw_front(
    points: Mapping[int, Sequence[float]], front: Collection[int], titles: Sequence[str], path: Path
) -> None:
    """Draw the first objective against each of the others.

    Args:
        points: trial -> its values, one for each objective.
        front: the trials that no other beats in everything.
        titles: of the objectives, for the axes.
        path: of the SVG to write.
    """
    import matplotlib
    from matplotlib.figure import Figure  # without pyplot: no window, no global state

    # text stays text, and the same trials give the same bytes
    with matplotlib.rc_context({"svg.hashsalt": "dfkd", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(5.4 * (len(titles) - 1), 4.2), layout="constrained")
        panels = figure.subplots(1, len(titles) - 1, squeeze=False)[0]
        for number, panel in enumerate(panels, 1):
            _draw_panel(panel, {trial: (v[number], v[0]) for trial, v in points.items()}, front, len(titles) == 2)
            panel.set(xlabel=titles[number], ylabel=textwrap.fill(titles[0], 36, break_on_hyphens=False))
        panels[0].legend(frameon=False, loc="best")
        figure.savefig(path, format="svg", metadata={"Date": None})


def _draw_panel(panel: Any, places: Mapping[int, tuple[float, float]], front: Collection[int], joined: bool) -> None:
    """One pair of objectives; the front is a line only where there is no third objective."""
    beaten = [place for trial, place in places.items() if trial not in front]
    best = sorted((place, trial) for trial, place in places.items() if trial in front)
    if beaten:
        panel.scatter(*zip(*beaten), s=28, facecolors="none", edgecolors=GREY, label="beaten by another trial")
    columns = list(zip(*(place for place, _ in best)))
    panel.plot(
        *columns, marker="s", markersize=7, color=BLUE, markeredgecolor="black", linewidth=1,
        linestyle=":" if joined else "none", label="beaten by none (with the trial's number)",
    )
    for place, trials in _by_place(best).items():
        white = {"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
        shown = ", ".join(map(str, trials))
        panel.annotate(shown, place, xytext=(-7, 7), textcoords="offset points", ha="right", bbox=white)
    panel.grid(color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    if min(place[0] for place in places.values()) > 1e5:
        panel.ticklabel_format(axis="x", style="sci", scilimits=(6, 6))


def _by_place(best: Sequence[tuple[tuple[float, float], int]]) -> dict[tuple[float, float], list[int]]:
    """Place -> the trials there: numbers of equal ones would lie on each other."""
    found: dict[tuple[float, float], list[int]] = {}
    for place, trial in best:
        found.setdefault(place, []).append(trial)
    return found
