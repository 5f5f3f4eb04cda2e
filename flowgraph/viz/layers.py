"""A layout of our own, in about linear time and without any program: what a picture falls back to. SVG only.

Scopes are laid out from the innermost out. In each, what is read stands below what reads it, a row for each layer; a gradient is
turned upside down, so that it stands beside its forward nodes. Rows that are too wide are broken, and rows that are too many go on
in a new column, as in a newspaper, so that a chain of 100,000 nodes is a square that one can zoom into.
"""

from __future__ import annotations

import math
import unicodedata
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from .dot import COLORS, GREY, LEGEND, LINES, SCOPE, SCOPE_BORDER, SCOPES, SLOPE, VALUE, _clean
from .picture import Box, Edge, Home, Picture, scope_name

GAP, ROW_GAP, COLUMN_GAP, PAD, TITLE = 14.0, 30.0, 60.0, 12.0, 16.0  # between boxes, rows, columns; within a scope; its name
FONT, SMALL = 11.0, 9.0
NARROW = 1.5  # width of a picture that is broken into columns, by its height
PAGE = 2600.0  # what is lower needs no columns
EXPLAINED = 5000  # up to so many edges carry tooltips: with more, a browser is slow to open the file


@dataclass(slots=True)
class Part:
    """A box, or a scope with what is in it. x and y are its left upper corner, within its scope until all is placed."""

    key: str  # of the box, or the name of the scope
    width: float = 0.0
    height: float = 0.0
    x: float = 0.0
    y: float = 0.0
    parts: list[Part] = field(default_factory=list)
    below: list[int] = field(default_factory=list)  # of its siblings: those that it reads; ``above``: those that read it
    above: list[int] = field(default_factory=list)

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


@dataclass(slots=True)
class Layout:
    """Where all stands: rectangles of boxes by key, and of scopes from the outermost in; the size of the whole."""

    boxes: dict[str, Part]
    scopes: list[Part]
    width: float
    height: float


def layout(picture: Picture) -> Layout:
    """Places the boxes and scopes of ``picture``."""
    root = Part("")
    scopes: dict[Home, tuple[Part, dict[str, int]]] = {(): (root, {})}
    boxes: dict[str, Part] = {}
    way: dict[str, list[int]] = {}  # to each box: places among siblings, from the root in
    for box in picture.boxes.values():
        scope, known = scopes[()]
        path: list[int] = []
        for i, name in enumerate(box.home):
            if name not in known:
                known[name] = len(scope.parts)
                inner = Part(name)
                scope.parts.append(inner)
                scopes[box.home[: i + 1]] = (inner, {})
            path.append(known[name])
            scope, known = scopes[box.home[: i + 1]]
        path.append(len(scope.parts))
        boxes[box.key] = Part(box.key, *_size(box))
        scope.parts.append(boxes[box.key])
        way[box.key] = path
    for edge in picture.edges:
        if edge.kind == "reads":
            continue
        start, end = (edge.end, edge.start) if edge.kind == "gradient" else (edge.start, edge.end)
        scope = root
        for a, b in zip(way[start], way[end]):
            if a != b:
                scope.parts[a].above.append(b)
                scope.parts[b].below.append(a)
                break
            scope = scope.parts[a]
    inner_first = sorted((home for home in scopes), key=len, reverse=True)
    for home in inner_first:
        _arrange(scopes[home][0], home)
    drawn = []
    for home in reversed(inner_first):
        scope = scopes[home][0]
        if home:
            drawn.append(scope)
        for part in scope.parts:
            part.x += scope.x
            part.y += scope.y
    return Layout(boxes, drawn, root.width, root.height)


def _arrange(scope: Part, home: Home) -> None:
    """Places the parts of a scope, whose sizes are known, and so gives it its own."""
    parts = scope.parts
    if not parts:
        return
    area = sum((part.width + GAP) * (part.height + ROW_GAP) for part in parts)
    widest = max([math.sqrt(area) * NARROW, *(part.width for part in parts)])
    rows = _rows(parts, widest)
    for row in rows:
        _place_row(parts, row)
    heights = [max(parts[i].height for i in row) for row in rows]
    tallest = max([math.sqrt(area) * 1.3, *heights, PAGE])
    total = sum(heights) + ROW_GAP * len(heights)
    tallest = max([total / math.ceil(total / tallest) * 1.02, *heights])  # columns of about one height
    left = top = used = 0.0
    column: list[int] = []  # rows
    for number in [*range(len(rows)), -1]:
        if column and (number < 0 or used + heights[number] > tallest):
            left, used = _place_column(parts, [(rows[i], heights[i]) for i in column], left), 0.0
            column = []
        if number >= 0:
            column.append(number)
            used += heights[number] + ROW_GAP
    # Columns grow upwards from y = 0; the scope's own corner is its left upper one.
    top = min(part.y for part in parts)
    pad, title = (PAD, TITLE) if home else (0.0, 0.0)
    for part in parts:
        part.x += pad
        part.y += pad - top
    name = _wide(scope_name(scope.key), SMALL) if home else 0.0
    scope.width = max(left - COLUMN_GAP, name) + 2 * pad
    scope.height = max(part.y + part.height for part in parts) + pad + title


def _rows(parts: Sequence[Part], widest: float) -> list[list[int]]:
    """The parts in rows from the lowest up: by layers, each in an order with few crossings, broken where it is too wide."""
    layer = _layers(parts)
    members: dict[int, list[int]] = {}
    for i in range(len(parts)):
        members.setdefault(layer[i], []).append(i)
    layers = [members[i] for i in sorted(members)]
    place = [0.0] * len(parts)
    for sweep in (layers, layers[::-1], layers):
        reads = sweep is not layers[::-1]
        for row in sweep:
            for i in row:
                near = [place[j] for j in (parts[i].below if reads else parts[i].above) if layer[j] != layer[i]]
                place[i] = sum(near) / len(near) if near else place[i]
            row.sort(key=place.__getitem__)
            for at, i in enumerate(row):
                place[i] = at / len(row)
    rows: list[list[int]] = []
    for row in layers:
        width = math.inf
        for i in row:
            if width + parts[i].width > widest:
                rows.append([])
                width = 0.0
            rows[-1].append(i)
            width += parts[i].width + GAP
    return rows


def _layers(parts: Sequence[Part]) -> list[int]:
    """The longest way to each part; where parts read each other in a circle, the one made first comes first."""
    layer = [0] * len(parts)
    waiting = [len(part.below) for part in parts]
    done = [False] * len(parts)
    ready = deque(i for i, count in enumerate(waiting) if not count)
    first = 0
    while True:
        while ready:
            i = ready.popleft()
            if done[i]:
                continue
            done[i] = True
            for j in parts[i].above:
                if not done[j]:
                    layer[j] = max(layer[j], layer[i] + 1)
                    waiting[j] -= 1
                    if not waiting[j]:
                        ready.append(j)
        while first < len(parts) and done[first]:
            first += 1
        if first == len(parts):
            break
        ready.append(first)
    for i, part in enumerate(parts):  # what reads nothing stands right below its first reader
        if not part.below and part.above:
            layer[i] = max(0, min(layer[j] for j in part.above) - 1)
    return layer


def _place_row(parts: Sequence[Part], row: Sequence[int]) -> None:
    """Each part above the middle of what it reads, as far as its neighbours let it."""
    edge = -math.inf
    wishes = []
    for i in row:
        near = [parts[j].middle for j in parts[i].below]
        wish = (sum(near) / len(near) if near else 0.0) - parts[i].width / 2
        parts[i].x = max(wish, edge)
        edge = parts[i].x + parts[i].width + GAP
        wishes.append(wish)
    shift = sum(wish - parts[i].x for wish, i in zip(wishes, row)) / len(row)
    for i in row:
        parts[i].x += shift


def _place_column(parts: Sequence[Part], rows: Sequence[tuple[Sequence[int], float]], left: float) -> float:
    """Stacks rows upwards, from ``left`` on; returns where the next column begins."""
    edge = min(parts[i].x for row, _ in rows for i in row)
    bottom = 0.0
    right = left
    for row, height in rows:
        for i in row:
            parts[i].x += left - edge
            parts[i].y = bottom - (height + parts[i].height) / 2
            right = max(right, parts[i].x + parts[i].width)
        bottom -= height + ROW_GAP
    return right + COLUMN_GAP


def _size(box: Box) -> tuple[float, float]:
    if box.kind == "end":
        return 8.0, 8.0
    width = max(_wide(box.title, FONT), _wide(box.detail, SMALL)) + 16
    if box.kind == "tag":
        return width - 12, 14.0
    return width + 14 * (box.kind == "placeholder"), (36.0 if box.detail else 23.0) + 6 * (box.kind in ("placeholder", "variable"))


def _wide(text: str, font: float) -> float:
    """About the width of ``text``: browsers use fonts of their own."""
    return sum(1.05 if unicodedata.east_asian_width(c) in "WF" else 0.58 for c in text) * font


# --- SVG


def svg(picture: Picture) -> str:
    """``picture`` as an SVG, by this layout."""
    placed = layout(picture)
    notes = [_legend(picture), *(_text(note) for note in picture.notes)]
    notes = [note for note in notes if note]
    widest = max([placed.width, *(260.0 for _ in notes)])
    width, height = math.ceil(widest + 2 * PAD), math.ceil(placed.height + 2 * PAD + 14 * len(notes))
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="{-PAD:g} {-PAD:g} {width} {height}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="{FONT:g}" text-anchor="middle">',
        _STYLE,
        f'<rect x="{-PAD:g}" y="{-PAD:g}" width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    lines += [_scope(part) for part in placed.scopes]
    explained = len(picture.edges) <= EXPLAINED
    lines += [_path(edge, placed, explained) for edge in picture.edges]
    lines += [_shape(box, placed.boxes[box.key]) for box in picture.boxes.values() if box.kind != "end"]
    for i, note in enumerate(notes):
        lines.append(f'<text class="d" x="0" y="{placed.height + 18 + 14 * i:.0f}" text-anchor="start">{note}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


_STYLE = "\n".join(
    [
        "<style>",
        *(f".{kind} {{ fill: {fill}; stroke: {border}; }}" for kind, (fill, border) in COLORS.items()),
        *(f".e-{kind} {{ fill: none; stroke: {color}; marker-end: url(#m-{kind}); }}" for kind, color in LINES.items()),
        ".e-control { stroke-dasharray: 4 3; } .e-reads { stroke-dasharray: 1 3; }",
        f".d {{ font-size: {SMALL:g}px; fill: {GREY}; }}",
        "</style>",
        "<defs>",
        *(
            f'<marker id="m-{kind}" viewBox="0 0 8 6" refX="8" refY="3" markerWidth="7" markerHeight="5" orient="auto">'
            f'<path d="M0,0 L8,3 L0,6 z" fill="{color}"/></marker>'
            for kind, color in LINES.items()
        ),
        "</defs>",
    ]
)


def _scope(part: Part) -> str:
    fill = SCOPES.get(part.key, SCOPE)
    return (
        f'<rect x="{part.x:.1f}" y="{part.y:.1f}" width="{part.width:.1f}" height="{part.height:.1f}" rx="8" fill="{fill}" '
        f'stroke="{SCOPE_BORDER}"/><text class="d" x="{part.middle:.1f}" y="{part.y + part.height - 6:.1f}">'
        f"{_text(scope_name(part.key))}</text>"
    )


def _shape(box: Box, part: Part) -> str:
    x, y, width, height = part.x, part.y, part.width, part.height
    if box.kind == "tag":
        tip = f"<title>{_text(box.tooltip)}</title>"
        return f'<text class="d" font-style="italic" x="{part.middle:.1f}" y="{y + 10:.1f}">{tip}{_text(box.title)}</text>'
    if box.kind == "placeholder":
        shape = f'<ellipse class="{box.kind}" cx="{part.middle:.1f}" cy="{y + height / 2:.1f}" rx="{width / 2:.1f}" ry="{height / 2:.1f}"/>'
    elif box.kind == "variable":
        shape = (
            f'<path class="variable" d="M{x:.1f},{y + 4:.1f} v{height - 8:.1f} a{width / 2:.1f},4 0 0 0 {width:.1f},0 v{8 - height:.1f} '
            f'a{width / 2:.1f},4 0 0 0 {-width:.1f},0 a{width / 2:.1f},4 0 0 0 {width:.1f},0"/>'
        )
    else:
        twice = f'<rect class="{box.kind}" x="{x + 3:.1f}" y="{y - 3:.1f}" width="{width:.1f}" height="{height:.1f}"/>'
        radius = ' rx="6"' if box.members == 1 else ""
        shape = (twice if box.members > 1 else "") + (
            f'<rect class="{box.kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"{radius}/>'
        )
    middle = y + height / 2 + (2 if box.kind == "variable" else 0)
    text = f'<text x="{part.middle:.1f}" y="{middle + (4 if not box.detail else -2):.1f}">{_text(box.title)}</text>'
    if box.detail:
        text += f'<text class="d" x="{part.middle:.1f}" y="{middle + 11:.1f}">{_text(box.detail)}</text>'
    return f"<g><title>{_text(box.tooltip)}</title>{shape}{text}</g>"


def _path(edge: Edge, placed: Layout, explained: bool) -> str:
    a, b = placed.boxes[edge.start], placed.boxes[edge.end]
    if a.y >= b.y + b.height:  # upwards
        x1, y1, x2, y2, bend = a.middle, a.y, b.middle, b.y + b.height, -1.0
    elif b.y >= a.y + a.height:
        x1, y1, x2, y2, bend = a.middle, a.y + a.height, b.middle, b.y, 1.0
    else:
        x1, x2 = (a.x + a.width, b.x) if a.x < b.x else (a.x, b.x + b.width)
        y1, y2, bend = a.y + a.height / 2, b.y + b.height / 2, 0.0
    bend *= min(60.0, abs(y2 - y1) * 0.5)
    curve = f"M{x1:.1f},{y1:.1f} C{x1:.1f},{y1 + bend:.1f} {x2:.1f},{y2 - bend:.1f} {x2:.1f},{y2:.1f}"
    title = f"<title>{_text(edge.tooltip)}</title>" if explained else ""
    path = f'<path class="e-{edge.kind}" d="{curve}">{title}</path>'
    x, y = (x1 + x2) / 2 + 4, (y1 + y2) / 2
    if edge.label:
        path += f'<text class="d" x="{x:.1f}" y="{y + 3:.1f}" text-anchor="start">{_text(edge.label)}</text>'
    for text, color, drop in ((edge.value, VALUE, -2), (edge.slope, SLOPE, 11)):
        if text:
            path += f'<text x="{x:.1f}" y="{y + drop:.1f}" text-anchor="start" fill="{color}">{_text(text)}</text>'
    return path


def _legend(picture: Picture) -> str:
    kinds = [kind for kind in LEGEND if any(box.kind == kind for box in picture.boxes.values())]
    parts = [f'<tspan fill="{COLORS[kind][1]}">■</tspan> {LEGEND[kind]}' for kind in kinds] if len(kinds) > 1 else []
    parts += [f'<tspan fill="{VALUE}">value</tspan>'] * bool(picture.values) + [f'<tspan fill="{SLOPE}">gradient</tspan>'] * bool(
        picture.slopes
    )
    parts += [f"edges without a dtype are {picture.dtype}"] * bool(picture.dtype)
    return " \u2003".join(parts)


def _text(text: str) -> str:
    import html

    return html.escape(_clean(text), quote=False)
