"""Sheet: shapes and text at places, as SVG by itself, as PNG or PDF by matplotlib. What the pictures of traces are made on.

Coordinates are pixels from the upper left corner. It knows nothing of what it shows.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import NamedTuple

from .plot import Plot
from .style import GREY, clean

FORMATS = ("svg", "png", "pdf")
FONT = "Arial, Helvetica, sans-serif"
INK = "#222a33"


class Rect(NamedTuple):
    """A filled rectangle; ``title`` is shown when the pointer is over it."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    title: str
    border: str
    opacity: float


class Path_(NamedTuple):
    """A line, or with ``fill`` an area, through points."""

    points: Sequence[tuple[float, float]]
    color: str
    width: float
    dash: str
    fill: str
    title: str


class Text(NamedTuple):
    """A text whose base line begins, ends or has its middle at a place."""

    x: float
    y: float
    text: str
    size: float
    color: str
    anchor: str
    bold: bool


class Sheet:
    """Shapes in the order in which they cover each other."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self.shapes: list[Rect | Path_ | Text] = []

    def rect(
        self, x: float, y: float, width: float, height: float, fill: str, title: str = "", border: str = "", opacity: float = 1.0
    ) -> None:
        self.shapes.append(Rect(x, y, width, height, fill, title, border, opacity))

    def line(self, points: Sequence[tuple[float, float]], color: str = GREY, width: float = 1.0, dash: str = "", title: str = "") -> None:
        self.shapes.append(Path_(points, color, width, dash, "", title))

    def area(self, points: Sequence[tuple[float, float]], fill: str, title: str = "", border: str = "") -> None:
        self.shapes.append(Path_(points, border, 0.5 if border else 0.0, "", fill, title))

    def text(self, x: float, y: float, text: str, size: float = 11, color: str = INK, anchor: str = "start", bold: bool = False) -> None:
        self.shapes.append(Text(x, y, text, size, color, anchor, bold))

    # --- as files

    def svg(self) -> str:
        """The text of an SVG."""
        import html

        def escaped(text: str) -> str:
            return html.escape(clean(text), quote=False)

        def titled(tag: str, title: str) -> str:
            name = tag.split(" ", 1)[0]
            return f"<{tag}><title>{escaped(title)}</title></{name}>" if title else f"<{tag}/>"

        lines = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width:g}" height="{self.height:g}" '
            f'viewBox="0 0 {self.width:g} {self.height:g}" font-family="{FONT}">',
            f'<rect width="{self.width:g}" height="{self.height:g}" fill="#ffffff"/>',
        ]
        for shape in self.shapes:
            if isinstance(shape, Rect):
                border = f' stroke="{shape.border}" stroke-width="0.7"' if shape.border else ""
                opacity = f' opacity="{shape.opacity:g}"' if shape.opacity < 1 else ""
                place = f'x="{shape.x:.2f}" y="{shape.y:.1f}" width="{max(shape.width, 0):.2f}" height="{shape.height:.1f}"'
                lines.append(titled(f'rect {place} fill="{shape.fill}"{border}{opacity}', shape.title))
            elif isinstance(shape, Path_):
                places = " ".join(f"{x:.2f},{y:.2f}" for x, y in shape.points)
                dash = f' stroke-dasharray="{shape.dash}"' if shape.dash else ""
                stroke = f' stroke="{shape.color}" stroke-width="{shape.width:g}"{dash}' if shape.color else ""
                kind = "polygon" if shape.fill else "polyline"
                lines.append(titled(f'{kind} points="{places}" fill="{shape.fill or "none"}"{stroke}', shape.title))
            else:
                bold = ' font-weight="bold"' if shape.bold else ""
                anchor = f' text-anchor="{shape.anchor}"' if shape.anchor != "start" else ""
                lines.append(
                    f'<text x="{shape.x:.1f}" y="{shape.y:.1f}" font-size="{shape.size:g}" fill="{shape.color}"{anchor}{bold}>'
                    f"{escaped(shape.text)}</text>"
                )
        return "\n".join([*lines, "</svg>"]) + "\n"

    def bytes(self, kind: str) -> bytes:
        """An SVG, PNG or PDF. raises MissingExtraError without matplotlib for the latter two."""
        if kind == "svg":
            return self.svg().encode()
        plot = Plot(self.width / 96, self.height / 96, free=True)
        axis = plot.figure.add_axes((0, 0, 1, 1))
        axis.set_xlim(0, self.width)
        axis.set_ylim(self.height, 0)
        axis.axis("off")
        from matplotlib.patches import Polygon, Rectangle

        point = 72 / 96  # of a pixel
        for shape in self.shapes:
            if isinstance(shape, Rect):
                border = shape.border or "none"
                axis.add_patch(
                    Rectangle((shape.x, shape.y), max(shape.width, 0), shape.height, fc=shape.fill, ec=border, lw=0.5, alpha=shape.opacity)
                )
            elif isinstance(shape, Path_) and shape.fill:
                axis.add_patch(Polygon(list(shape.points), closed=True, fc=shape.fill, ec=shape.color or "none", lw=shape.width * point))
            elif isinstance(shape, Path_):
                style = (0, tuple(float(part) for part in shape.dash.split())) if shape.dash else "-"
                axis.plot(*zip(*shape.points, strict=True), color=shape.color, lw=shape.width * point, ls=style, solid_capstyle="butt")
            else:
                align = {"start": "left", "middle": "center", "end": "right"}[shape.anchor]
                weight = "bold" if shape.bold else "normal"
                size = shape.size * point
                axis.text(
                    shape.x, shape.y, shape.text.replace("$", r"\$"), size=size, color=shape.color, ha=align, va="baseline", weight=weight
                )
        file = io.BytesIO()
        plot.figure.savefig(file, format=kind, dpi=192, metadata={"CreationDate": None} if kind == "pdf" else None)
        return file.getvalue()


def ticks(span: float, most: int = 8) -> list[float]:
    """Round numbers from 0 to ``span``.

    >>> ticks(0.0047)
    [0.0, 0.001, 0.002, 0.003, 0.004]
    """
    if span <= 0:
        return [0.0]
    size = 10.0 ** math.floor(math.log10(span))
    step = next(size * part for part in (0.1, 0.2, 0.5, 1, 2, 5) if span / (size * part) <= most)
    return [round(step * number, 12) for number in range(int(span / step) + 1)]


def scaled(seconds: float) -> tuple[float, str]:
    """The unit in which times up to ``seconds`` read well, and how many of it are a second.

    >>> scaled(0.002)
    (1000.0, 'ms')
    """
    return (1.0, "s") if seconds >= 1 else (1e3, "ms") if seconds >= 1e-3 else (1e6, "us")
