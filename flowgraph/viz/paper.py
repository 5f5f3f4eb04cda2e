"""Paper: PNG and PDF of a picture by our own layout, drawn by matplotlib (extra ``plot``): where Graphviz is not there, or fails."""

from __future__ import annotations

import io
from typing import Any

from ..errors import MissingExtraError
from .layers import FONT, PAD, SMALL, Curve, Layout, Part, halfway, layout
from .picture import Box, Edge, Picture, cut, scope_name
from .style import GREY, LINES, SCOPE, SCOPE_BORDER, SCOPES, SLOPE, VALUE, clean, legend, look_of

LINE = 14.0  # height of a line of text below the picture
DOTS = 144  # of a PNG, by inch; a unit of the layout is 1/72 inch
LARGEST = 16_000  # dots of a side: what programs that show pictures can open
FONTS = ["Arial", "Liberation Sans", "Helvetica", "DejaVu Sans"]
DASHES = {"control": (0, (4, 3)), "removed": (0, (4, 3)), "reads": (0, (1, 3))}


def is_available() -> bool:
    """Whether matplotlib is installed."""
    import importlib.util

    return importlib.util.find_spec("matplotlib") is not None


def source(picture: Picture, kind: str, placed: Layout | None = None) -> bytes:
    """``picture`` as a file of ``kind``, "png" or "pdf". raises MissingExtraError without matplotlib."""
    try:
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError.of("matplotlib", "plot") from None
    placed = layout(picture) if placed is None else placed
    words = legend(picture)
    below = LINE * (bool(words) + len(picture.notes) + (picture.overlay.scale is not None))
    width, height = max(placed.width, 260.0) + 2 * PAD, placed.height + 2 * PAD + below
    figure = Figure(figsize=(width / 72, height / 72))
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(placed.left - PAD, placed.left - PAD + width)
    axes.set_ylim(height - PAD, -PAD)
    with matplotlib.rc_context({"font.family": _fonts(), "pdf.fonttype": 42, "text.parse_math": False}):
        for part in placed.scopes:
            _rectangle(axes, part, SCOPES.get(part.key, SCOPE), SCOPE_BORDER, 8)
            _text(axes, part.middle, part.y + part.height - 9, scope_name(part.key), SMALL, GREY)
        for edge, way in zip(picture.edges, placed.curves):
            _way(axes, edge, way)
        for box in picture.boxes.values():
            _box(axes, box, placed.boxes[box.key], picture)
        _below(axes, picture, placed, words)
        file = io.BytesIO()
        dots = min(DOTS, LARGEST * 72 / max(width, height))
        figure.savefig(file, format=kind, dpi=dots, metadata={"Software": None} if kind == "png" else {"CreationDate": None})
    return file.getvalue()


def _fonts() -> list[str]:
    """Those of FONTS that there are: matplotlib warns of each that is not."""
    from matplotlib import font_manager

    known = set(font_manager.get_font_names())
    return [name for name in FONTS if name in known]


def _box(axes: Any, box: Box, part: Part, picture: Picture) -> None:
    if box.kind == "end":
        return
    if box.kind == "tag":
        _text(axes, part.middle, part.y + part.height / 2, box.title, SMALL, GREY, style="italic")
        return
    look = look_of(box, picture)
    thick = 3.0 if box.marked else 1.0
    if box.members > 1:
        _rectangle(axes, Part("", part.width, part.height, part.x + 3, part.y - 3), look.fill, look.border, 0, thick)
    if box.kind == "placeholder":
        from matplotlib.patches import Ellipse

        middle = part.middle, part.y + part.height / 2
        axes.add_patch(Ellipse(middle, part.width, part.height, facecolor=look.fill, edgecolor=look.border, linewidth=thick))
    else:
        corner = {"variable": part.height / 2}.get(box.kind, 6.0 if box.members == 1 else 0.0)
        _rectangle(axes, part, look.fill, look.border, corner, thick)
    rows = [(box.title, FONT, look.ink or "#000000"), (box.detail, SMALL, look.detail), (cut(box.note), SMALL, look.note)]
    rows = [row for row in rows if row[0]]
    top = part.y + part.height / 2 - 6.5 * (len(rows) - 1)
    for i, (text, size, color) in enumerate(rows):
        _text(axes, part.middle, top + 13 * i, text, size, color)


def _rectangle(axes: Any, part: Part, fill: str, border: str, corner: float, thick: float = 1.0) -> None:
    from matplotlib.patches import FancyBboxPatch

    style = f"round,pad=0,rounding_size={corner}" if corner else "square,pad=0"
    place = (part.x, part.y)
    axes.add_patch(
        FancyBboxPatch(place, part.width, part.height, boxstyle=style, facecolor=fill, edgecolor=border, linewidth=thick, mutation_aspect=1)
    )


def _way(axes: Any, edge: Edge, way: Curve) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    points = [way[i : i + 2] for i in range(0, 8, 2)]
    path = Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
    color, style = LINES[edge.kind], DASHES.get(edge.kind, "solid")
    head = "-|>,head_length=5,head_width=2"
    options: dict[str, Any] = {"color": color, "linewidth": 1, "linestyle": style, "mutation_scale": 1, "shrinkA": 0, "shrinkB": 0}
    axes.add_patch(FancyArrowPatch(path=path, arrowstyle=head, **options))
    x, y = halfway(way)
    if edge.label:
        right = edge.kind == "gradient"
        _text(axes, x + (4 if right else -4), y, edge.label, SMALL, GREY, ha="left" if right else "right")
    for text, color, drop in ((edge.value, VALUE, -6), (edge.slope, SLOPE, 7)):
        if text:
            _text(axes, x + 4, y + drop, text, FONT, color, ha="left")


def _below(axes: Any, picture: Picture, placed: Layout, words: Any) -> None:
    """The legend and the notes."""
    x, y = placed.left, placed.height + LINE
    scale = picture.overlay.scale
    if scale is not None:
        for i in range(24):
            _rectangle(axes, Part("", 6, 9, x + 6 * i, y - 5), scale.at((i + 0.5) / 24), scale.at((i + 0.5) / 24), 0)
        low, high = scale.ends()
        _text(axes, x + 152, y, f"{scale.heat.title}: {low} to {high}", SMALL, GREY, ha="left")
        y += LINE
    for place, entry in enumerate(words):
        _text(axes, x + 75 * place, y, f"{entry.mark} {entry.text}", SMALL, entry.color, ha="left")
    y += LINE * bool(words)
    for note in picture.notes:
        _text(axes, x, y, note, SMALL, GREY, ha="left")
        y += LINE


def _text(axes: Any, x: float, y: float, text: str, size: float, color: str, **options: Any) -> None:
    axes.text(x, y, clean(text), fontsize=size * 0.95, color=color, **{"ha": "center", "va": "center", **options})
