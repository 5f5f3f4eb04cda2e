"""A layout of our own, in about linear time and without any program: what a picture falls back to.

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

from .picture import GRADIENT, Box, Edge, Home, Picture, cut, scope_name

GAP, ROW_GAP, COLUMN_GAP, PAD, TITLE = 14.0, 30.0, 60.0, 12.0, 16.0  # between boxes, rows, columns; within a scope; its name
FONT, SMALL = 11.0, 9.0
NARROW = 1.5  # width of a picture that is broken into columns, by its height
Curve = tuple[float, float, float, float, float, float, float, float]  # a Bézier curve: x and y of an end, two bends, the other end
PAGE = 1300.0  # what is lower needs no columns
# Where on a box the edges of a kind begin and end, from its middle, by its width: so that they do not lie upon each other.
PORTS = {"data": 0.0, "gradient": 0.22, "reads": 0.36, "update": -0.22, "control": -0.36, "added": 0.08, "removed": -0.08}


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
    is_gradient: bool = False

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


@dataclass(slots=True)
class Layout:
    """Where all stands: rectangles of boxes by key, and of scopes from the outermost in; the ways of the edges; the size of the whole,
    which begins at ``left``, where a way leads around the first column.
    """

    boxes: dict[str, Part]
    scopes: list[Part]
    width: float
    height: float
    curves: list[Curve] = field(default_factory=list)
    left: float = 0.0


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
                inner = Part(name, is_gradient=name == GRADIENT)
                scope.parts.append(inner)
                scopes[box.home[: i + 1]] = (inner, {})
            path.append(known[name])
            scope, known = scopes[box.home[: i + 1]]
        path.append(len(scope.parts))
        boxes[box.key] = Part(box.key, *_size(box), is_gradient=box.kind == "gradient")
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
    widest = max([_wide(edge.label, SMALL) for edge in picture.edges if edge.label], default=0.0)
    for home in inner_first:
        _arrange(scopes[home][0], home, COLUMN_GAP + 2 * widest)
    drawn = []
    for home in reversed(inner_first):
        scope = scopes[home][0]
        if home:
            drawn.append(scope)
        for part in scope.parts:
            part.x += scope.x
            part.y += scope.y
    curves = [curve(edge, boxes[edge.start], boxes[edge.end]) for edge in picture.edges]
    room = [(halfway(way)[0], _wide(edge.label, SMALL) + 8) for edge, way in zip(picture.edges, curves)]
    left = min([0.0, *[x - width for x, width in room]])
    right = max([root.width, *[x + width for x, width in room]])
    return Layout(boxes, drawn, right - left, root.height, curves, left)


def _arrange(scope: Part, home: Home, gap: float) -> None:
    """Places the parts of a scope, whose sizes are known, and so gives it its own; ``gap``: between columns."""
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
    tallest = max([total / math.ceil(total / tallest) + max(heights) / 2, *heights])  # columns of about one height
    left = top = used = 0.0
    column: list[int] = []  # rows
    for number in [*range(len(rows)), -1]:
        if column and (number < 0 or used + heights[number] > tallest):
            left, used = _place_column(parts, [(rows[i], heights[i]) for i in column], left) + gap, 0.0
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
    scope.width = max(left - gap, name) + 2 * pad
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
            row.sort(key=lambda i: (parts[i].is_gradient, place[i]))  # forward nodes to the left of gradients
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
    """Stacks rows upwards, from ``left`` on; returns where they end."""
    edge = min(parts[i].x for row, _ in rows for i in row)
    bottom = 0.0
    right = left
    for row, height in rows:
        for i in row:
            parts[i].x += left - edge
            parts[i].y = bottom - (height + parts[i].height) / 2
            right = max(right, parts[i].x + parts[i].width)
        bottom -= height + ROW_GAP
    return right


def halfway(curve: Curve) -> tuple[float, float]:
    """The middle of a way."""
    x1, y1, x2, y2, x3, y3, x4, y4 = curve
    return (x1 + 3 * x2 + 3 * x3 + x4) / 8, (y1 + 3 * y2 + 3 * y3 + y4) / 8


def curve(edge: Edge, a: Part, b: Part) -> Curve:
    """The way of ``edge`` from box ``a`` to box ``b``."""
    port = PORTS[edge.kind]
    x1, x2 = a.x + a.width * (0.5 + port), b.x + b.width * (0.5 + port)
    goes_up, goes_down = a.y >= b.y + b.height, b.y >= a.y + a.height
    apart = b.x > a.x + a.width or a.x > b.x + b.width
    if not (goes_up or goes_down) or (goes_up == (edge.kind == "gradient") and apart):
        # Side by side, or from the top of a column to the foot of the next: through the gap between them.
        way = 1 if a.x < b.x else -1
        x1, x2 = (a.x + a.width, b.x) if way > 0 else (a.x, b.x + b.width)
        beside = 0.0 if not (goes_up or goes_down) else port
        y1, y2 = a.y + a.height * (0.5 + beside), b.y + b.height * (0.5 + beside)
        out = 0.0 if not (goes_up or goes_down) else way * max(30.0, abs(x2 - x1) * 0.6)
        return x1, y1, x1 + out, y1, x2 - out, y2, x2, y2
    y1, y2 = (a.y, b.y + b.height) if goes_up else (a.y + a.height, b.y)
    rise, side = abs(y2 - y1), 0.0
    bend = min(60.0, rise / 2) * (-1 if goes_up else 1)
    if rise > 2 * ROW_GAP + 20 and abs(x2 - x1) < a.width:  # it passes rows of its own column: around them
        side = (1 if port > 0 else -1) * min(160.0, 0.7 * a.width + rise * 0.12)
        bend *= min(2.0, rise / 120)
    return x1, y1, x1 + side, y1 + bend, x2 + side, y2 - bend, x2, y2


def _size(box: Box) -> tuple[float, float]:
    if box.kind == "end":
        return 8.0, 8.0
    width = max(_wide(box.title, FONT), _wide(box.detail, SMALL), _wide(cut(box.note), SMALL)) + 16
    if box.kind == "tag":
        return width - 12, 14.0
    height = 23.0 + 13 * bool(box.detail) + 13 * bool(box.note) + 6 * (box.kind in ("placeholder", "variable"))
    return width + 14 * (box.kind == "placeholder"), height


def _wide(text: str, font: float) -> float:
    """About the width of ``text``: browsers use fonts of their own."""
    return sum(1.05 if unicodedata.east_asian_width(c) in "WF" else 0.58 for c in text) * font
