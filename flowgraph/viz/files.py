"""Files of drawings: which formats there are, and a picture in one of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..compile.explain import Stage
from ..errors import ArgumentError
from . import dot, page
from .picture import BOXES, Picture
from .ways import drawn

FORMATS = ("svg", "png", "pdf", "dot", "html")


def path_and_format(name: str, file: Any, format: Any) -> tuple[Path | None, str]:
    """Where to write, and in which format: that which was asked for, or the ending of the file's name. raises ArgumentError."""
    if file is not None and not isinstance(file, str | os.PathLike):
        raise ArgumentError(f"{name}: the path of a file is expected, got {file!r:.80}", help=f'{name}(graph, "graph.svg")')
    path = None if file is None else Path(file)
    kind = format if format is not None else path.suffix[1:].lower() if path is not None else "svg"
    if not isinstance(kind, str) or kind not in FORMATS:
        got = f"and {str(path)!r} has no ending" if isinstance(kind, str) and not kind else f"got {kind!r:.60}"
        raise ArgumentError(f"{name}: the format is one of {', '.join(FORMATS)}, {got}", help=f'{name}(graph, "graph.svg")')
    return path, kind


def written(make: Callable[..., Picture], path: Path | None, kind: str, depth: int | None, stages: Sequence[Stage] = ()) -> Any:
    """The picture that ``make`` gives for a depth and a number of boxes, in a file of ``kind``; without a path its text or bytes."""
    if kind == "html":
        data = page.source(make(None, None), path.stem if path else "graph", stages).encode()
    elif kind == "dot":
        data = dot.source(make(depth, BOXES if depth is None else None)).encode()
    else:
        data = drawn(make, kind, depth)
    if path is None:
        return data if kind in ("png", "pdf") else data.decode()
    path.write_bytes(data)
    return path
