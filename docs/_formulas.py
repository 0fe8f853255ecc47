"""Formulas typeset while the site is built: no script and no font is fetched to read them.

A page holds a fenced block of the language ``math``, in the part of TeX that matplotlib knows, a formula a line.
"""

from __future__ import annotations

import html
from typing import Any

from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath

SIZE = 20.0  # units of the drawing for one em of the page's text
PADDING = 2.0
COMMANDS = {int(Path.MOVETO): "M", int(Path.LINETO): "L", int(Path.CURVE3): "Q", int(Path.CURVE4): "C"}
CLOSE = int(Path.CLOSEPOLY)


def fence(source: str, *_: Any, **__: Any) -> str:
    """The HTML of a fenced block: a picture for each line, with its TeX for those who cannot see it."""
    return "".join(f'<p class="formula">{picture(line.strip())}</p>' for line in source.splitlines() if line.strip())


def picture(tex: str) -> str:
    """A formula as SVG in the colour and size of the text around it.

    Raises:
        ValueError: matplotlib cannot read the formula.
    """
    path = TextPath((0, 0), f"${tex}$", size=SIZE, prop=FontProperties(math_fontfamily="stix"))
    box = path.get_extents()
    left, top = box.x0 - PADDING, -box.y1 - PADDING
    width, height = box.width + 2 * PADDING, box.height + 2 * PADDING
    view = f"{left:.1f} {top:.1f} {width:.1f} {height:.1f}"
    size = f"width:{1.15 * width / SIZE:.2f}em"  # by the width alone: a narrow screen shrinks the whole
    return (
        f'<svg role="img" aria-label="{html.escape(tex)}" viewBox="{view}" style="{size}">'
        f'<path fill="currentColor" d="{_outline(path)}"/></svg>'
    )


def _outline(path: Path) -> str:
    """The outlines of glyphs and lines; SVG's vertical axis points down."""
    parts = []
    for points, code in path.iter_segments(simplify=False, curves=True):
        pairs = [] if code == CLOSE else points.reshape(-1, 2).tolist()
        parts.append(COMMANDS.get(int(code), "Z") + " ".join(f"{x:.2f},{-y:.2f}" for x, y in pairs))
    return "".join(parts)
