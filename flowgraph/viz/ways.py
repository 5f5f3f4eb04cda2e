"""Ways to draw: by which program a picture is drawn, how deep it is opened, and what is tried where that fails.

A drawing never fails for its size, and never hangs: Graphviz has a time limit, then labels go, then scopes are folded, then a layout of
our own takes over, which needs no program. It takes over as well where what Graphviz makes cannot be read on a page: as a chain, which it
draws as high as it is long, and we in columns.
"""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Callable, Iterator

from ..errors import DrawingError
from . import dot, paper, svg
from .layers import PAD, Layout, layout
from .picture import BOXES, Picture

SECONDS = 12.0  # the first call of dot gets half of it, the next ones a quarter each
GRAPHVIZ_BOXES = 2500  # more are not given to dot: it would need minutes
LEVELS = 3  # depths that are tried for a picture that can be read

# A page, in CSS pixels, and the least scale at which the letters of a picture, 11 to 15 pixels high, can be read.
PAGE_WIDTH, PAGE_HEIGHT, LEAST_SCALE = 1200.0, 3600.0, 0.5

# Makes a picture: depth, most boxes, whether edges show shapes.
Maker = Callable[..., Picture]


def drawn(make: Maker, kind: str, depth: int | None) -> bytes:
    """The picture in a file of ``kind``, "svg", "png" or "pdf", by the first way that works and can be read.

    raises  DrawingError where nothing is there that draws a png or pdf
    """
    command = dot.program()
    if command is not None and kind not in dot.formats(command):
        command = None
    if command is None and kind != "svg" and not paper.is_available():
        raise _nothing_draws(kind)
    deadline = time.monotonic() + SECONDS
    first: bytes | None = None
    full = make(depth, BOXES if depth is None else None)
    depths = [full.depth] if depth is not None else range(full.depth, max(-1, full.depth - LEVELS), -1)
    for level in depths:
        picture = full if level == full.depth else make(level, BOXES)
        data = why = None
        if command is not None:
            try:
                data = _by_dot(command, make, picture, kind, deadline)
            except dot.Failure as failure:
                why = str(failure)
        if data is not None and (picture.is_lesson or fits(*size_of(data, kind))):
            return data
        first = first or data
        if kind != "svg" and len(picture.boxes) > GRAPHVIZ_BOXES:
            picture = make(level, BOXES)
            picture.notes.append(f"drawn simpler than asked for: a {kind} cannot hold {len(full.boxes)} boxes")
        placed = layout(picture)
        if data is None:
            picture.notes.append(f"drawn without Graphviz, as dot {why or _missing(kind)}")
        elif not fits(placed.width + 2 * PAD, placed.height):
            continue
        own = _by_ourselves(picture, placed, kind)
        if own is not None:
            return own
        if data is None:
            raise DrawingError(
                f"{command[0] if command else 'dot'} {why}",
                help='draw less: depth=1; or pip install "flowgraph[plot]", which draws without dot; .svg and .html need nothing',
            )
    assert first is not None
    return first


def _by_ourselves(picture: Picture, placed: Layout, kind: str) -> bytes | None:
    """The picture by our own layout; None for a png or pdf without matplotlib."""
    if kind == "svg":
        return svg.source(picture, placed).encode()
    return paper.source(picture, kind, placed) if paper.is_available() else None


def _by_dot(command: list[str], make: Maker, full: Picture, kind: str, deadline: float) -> bytes:
    """The picture by Graphviz, simpler where that fails. raises dot.Failure."""
    why = "" if len(full.boxes) <= GRAPHVIZ_BOXES else f"would need minutes for {len(full.boxes)} boxes"
    for picture in _simpler(make, full, kind):
        if why:
            picture.notes.append(f"drawn simpler than asked for, as dot {why}")
        try:
            return dot.run(command, dot.source(picture), kind, max((deadline - time.monotonic()) / 2, SECONDS / 4))
        except dot.Failure as failure:
            why = str(failure)
    raise dot.Failure(why)


def _simpler(make: Maker, full: Picture, kind: str) -> Iterator[Picture]:
    """What is given to dot: first all, then without labels, then a level less; where nothing else can draw, then fewer and fewer boxes."""
    if len(full.boxes) <= GRAPHVIZ_BOXES:
        yield full
        if any(edge.label for edge in full.edges):
            yield make(full.depth, None if full.exact else BOXES, False)
        if full.depth:
            yield make(full.depth - 1, BOXES, False)
    if kind != "svg" and not paper.is_available():
        yield make(full.depth, BOXES, False)
        yield make(0, BOXES // 8, False)


def fits(width: float, height: float) -> bool:
    """Whether a picture of that size can be read on a page."""
    scale = min(1.0, PAGE_WIDTH / max(width, 1.0))
    return scale >= LEAST_SCALE and height * scale <= PAGE_HEIGHT


def size_of(data: bytes, kind: str) -> tuple[float, float]:
    """Width and height of what dot drew, in CSS pixels; of a PDF nothing."""
    if kind == "png":
        width, height = struct.unpack(">II", data[16:24])
        return width / 1.5, height / 1.5  # of 144 dots an inch
    found = re.search(rb'<svg width="([\d.]+)pt" height="([\d.]+)pt"', data[:2000])
    return (float(found[1]) / 0.75, float(found[2]) / 0.75) if found else (0.0, 0.0)


def _missing(kind: str) -> str:
    if dot.program() is None:
        return 'is not there: pip install "flowgraph[dot]"'
    return f"of the package graphviz-pure writes no {kind}"


def _nothing_draws(kind: str) -> DrawingError:
    command = dot.program()
    if command is None:
        return DrawingError(
            f"no dot program was found, and a {kind} needs one, or matplotlib",
            help='pip install "flowgraph[dot]" or "flowgraph[plot]", or install Graphviz; .svg, .html and .dot need none',
        )
    return DrawingError(
        f"{command[0]} (of the package graphviz-pure) cannot write {kind}",
        help=f'pip install "flowgraph[plot]", or install Graphviz for {kind}: apt install graphviz; .svg, .html and .png work without it',
    )
