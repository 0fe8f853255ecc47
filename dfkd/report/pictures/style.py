"""How pictures look: told apart in print and by the colour-blind, with text of 8 points and more."""

from __future__ import annotations

import html
import io
import math
import re
import textwrap
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Iterable, Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from dfkd.report.gap import CEILING, FLOOR

# Okabe and Ito's palette without its yellow, which is lost on white, and its black, which is the ceiling's. Line styles
# and markers tell the curves apart in print, and a curve of one point is nothing but its marker.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9")
STYLES = ("-", "--", "-.", (0, (1, 1)))
MARKERS = ("o", "s", "^", "D", "P", "X", "<")
WIDTH = 6.6  # inches: a page of A4 or letter between its margins; two side by side on a wide screen
SMALL = 8  # points
INCH_PER_LETTER = 0.075  # of SMALL, on the wide side
INCH_PER_LINE = 0.17
LINES_OF_A_NAME = 6
COLUMNS = 4  # of small panels; a title of so many letters is no wider than one
TITLE_LETTERS = 17
LEGEND_LETTERS = 21  # three columns of these fit
MARKS = 8
CROWDED = 8


@dataclass(frozen=True)
class Look:
    """What a strategy is drawn with, the same in all pictures of a page unless two in one would look alike."""

    colour: str
    style: Any
    marker: str


REFERENCES = {FLOOR: Look("#666666", (0, (4, 2)), "v"), CEILING: Look("#000000", "-", "d")}


def looks(strategies: Iterable[str]) -> dict[str, Look]:
    """Strategy -> its look: grey and black for floor and ceiling, no two alike among 84 others."""
    free = (Look(*parts) for parts in zip(cycle(COLOURS), cycle(STYLES), cycle(MARKERS)))
    names = list(dict.fromkeys(strategies))
    return {name: REFERENCES.get(name) or next(free) for name in sorted(names, key=rank)}


def told_apart(shown: Mapping[str, Look], strategies: Iterable[str], lines: bool = True) -> dict[str, Look]:
    """The page's looks of one picture's strategies; looks of their own where two would look alike.

    Args:
        shown: the page's.
        strategies: of the picture. Of more than twelve some share colour and line style, and differ in their marker.
        lines: whether the picture has lines; if not, two may not even share their colour.
    """
    own = {name: shown[name] for name in strategies}
    unlike = {(look.colour, look.style if lines else "") for look in own.values()}
    return own if len(unlike) == len(own) else looks(own)


def rank(strategy: str) -> tuple[int, str]:
    """A key to sort strategies by: the floor first, the ceiling last."""
    return {FLOOR: 0, CEILING: 2}.get(strategy, 1), strategy


def wrapped(name: str, letters: int) -> str:
    """A long name on several lines, broken after its commas where that can be."""
    lines = textwrap.wrap(name.replace(",", ", "), max(letters, 8), break_on_hyphens=False)
    cut = lines[:LINES_OF_A_NAME]
    return "\n".join(cut + ["…"] if len(lines) > len(cut) else cut)


def panels(
    count: int, columns: int, height: float, titles: Iterable[str] = (), **more: Any
) -> tuple[Figure, list[Axes]]:
    """A figure of ``count`` axes in a grid.

    Args:
        count: of axes, at least one.
        columns: at most.
        height: of a row, inches, with a title of one line.
        titles: that the axes will get; rows are higher by further lines.
        more: for ``Figure.subplots``.
    """
    columns = min(columns, count)
    rows, further = math.ceil(count / columns), max((title.count("\n") for title in titles), default=0)
    size = WIDTH, 0.3 + rows * (height + INCH_PER_LINE * further)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.06))
    grid = figure.subplots(rows, columns, squeeze=False, **more)
    axes = list(grid.flat)
    for empty in axes[count:]:
        empty.set_visible(False)
    for shown in axes[:count]:
        shown.tick_params(labelsize=SMALL, which="both")
        shown.grid(alpha=0.3, linewidth=0.6)
        shown.set_axisbelow(True)
        for side in ("top", "right"):
            shown.spines[side].set_visible(False)
    return figure, axes[:count]


def outer(all_axes: Sequence[Axes], columns: int) -> None:
    """Leave the labels of a grid with shared scales to its left column and to the lowest axes of each column.

    Args:
        all_axes: of :func:`panels`, labelled.
        columns: as they were given there.
    """
    columns = min(columns, len(all_axes))
    for number, axes in enumerate(all_axes):
        lowest, left = number + columns >= len(all_axes), number % columns == 0
        axes.tick_params(labelbottom=lowest, labelleft=left)
        axes.xaxis.label.set_visible(lowest)
        axes.yaxis.label.set_visible(left)


def plain(text: Text) -> Text:
    """The text as it is: made by data and users, it may hold dollar signs, which are no formulas."""
    text.set_parse_math(False)
    return text


def name_axes(axes: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """Title and labels of axes, as they are; empty ones are left out."""
    for setter, text in ((axes.set_title, title), (axes.set_xlabel, x), (axes.set_ylabel, y)):
        if text:
            plain(setter(text, fontsize=SMALL + 0.5))


def name_ticks(axes: Axes, places: Sequence[float], names: Sequence[str]) -> None:
    """Names at places of the y axis, as they are."""
    axes.set_yticks(list(places), list(names))
    for text in axes.get_yticklabels():
        plain(text)


def legend(figure: Figure, handles: Mapping[str, Any]) -> None:
    """A legend below all axes, where it hides nothing; every name once.

    Args:
        figure: grows by the legend's height.
        handles: name -> line; nothing is drawn of none.
    """
    if not handles:
        return
    names = [wrapped(name, LEGEND_LETTERS) for name in handles]
    lines = [name.split("\n") for name in names]
    longest = max(len(line) for each in lines for line in each)
    columns = max(1, min(int(figure.get_figwidth() / (0.6 + INCH_PER_LETTER * longest)), len(names)))
    rows = math.ceil(len(names) / columns)
    highest = max(sum(map(len, lines[start : start + rows])) for start in range(0, len(lines), rows))
    figure.set_figheight(figure.get_figheight() + 0.15 + INCH_PER_LINE * highest)
    made = figure.legend(
        list(handles.values()), names, loc="outside lower center", ncols=columns, fontsize=SMALL, frameon=False,
        handlelength=3.2,
    )
    for text in made.get_texts():
        plain(text)


def crowds(strategies: Sequence[str], most: int = CROWDED) -> list[list[str]]:
    """Strategies in groups that axes of their own can hold, of even sizes; floor and ceiling are in every one."""
    shared = [name for name in sorted(strategies, key=rank) if name in REFERENCES]
    others = [name for name in sorted(strategies, key=rank) if name not in REFERENCES]
    groups = max(1, math.ceil(len(others) / max(1, most - len(shared))))
    size = max(1, math.ceil(len(others) / groups))
    parts = [others[start : start + size] for start in range(0, len(others), size)] or [[]]
    return [sorted([*part, *shared], key=rank) for part in parts]


def svg(figure: Figure, prefix: str, title: str) -> str:
    """The figure as SVG to stand in a page: its words stay words.

    Args:
        figure: to be drawn.
        prefix: of its ids, as two figures on one page must not share any.
        title: what a screen reader says of it.
    """
    text = drawn(figure, "svg", prefix, words=True).decode("utf-8")
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'\b(?:d|x|y)="[^"]*"', lambda found: re.sub(r"(\.\d\d)\d+", r"\1", found[0]), text)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{html.escape(title)}"', 1)


def drawn(figure: Figure, kind: str, salt: str = "dfkd", words: bool = False) -> bytes:
    """The figure as a file; the same figure gives the same bytes.

    Args:
        figure: to be drawn.
        kind: ``svg`` or ``pdf``.
        salt: the ids within an SVG come from it.
        words: whether the words of an SVG stay words, in the reader's fonts, or become shapes that look alike
            everywhere.
    """
    buffer = io.BytesIO()
    date = {"svg": "Date", "pdf": "CreationDate"}[kind]
    # 42: letters stay letters, which an editor can change
    settings: Any = {"svg.hashsalt": salt, "svg.fonttype": "none" if words else "path", "pdf.fonttype": 42}
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format=kind, metadata={date: None})
    figure.set_layout_engine("none")  # it is laid out now: another go would move it by a hair, and take as long
    return buffer.getvalue()
