"""Files of drawings of graphs: which formats there are, and a picture in one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..compile.explain import Stage
from . import dot, page
from .picture import BOXES, Picture
from .ways import drawn

FORMATS = ("svg", "png", "pdf", "dot", "html")


def written(make: Callable[..., Picture], kind: str, depth: int | None, title: str, stages: Sequence[Stage] = ()) -> bytes:
    """The picture that ``make`` gives for a depth and a number of boxes, as the bytes of a file of ``kind``."""
    if kind == "html":
        return page.source(make(None, None, tags=False), title, stages).encode()
    if kind == "dot":
        return dot.source(make(depth, BOXES if depth is None else None)).encode()
    return drawn(make, kind, depth)
