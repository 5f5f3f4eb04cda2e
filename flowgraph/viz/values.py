"""Values on the edges of small graphs: numbers, little tables, and arrays as little pictures. No layout and no file format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..graph import Node, Tensor
from ..session import Session
from .heat import COOL_WARM

TABLE = 6  # rows and columns of an array that is shown as numbers
SIDE = 28  # rows and columns of a little picture: larger ones are averaged
IMAGES = 4  # little pictures of one array: channels of the first sample
MOST_NODES = 120  # of a drawing with values
DARK, UNSURE = "#20303f", "#b000b0"


@dataclass(frozen=True)
class Grid:
    """Cells beside an edge: a table of numbers, or the colours of a little picture, in which no text stands."""

    colors: list[list[str]]
    texts: list[list[str]] | None = None


def values_of(session: Session, nodes: Sequence[Node], feeds: Mapping[Tensor, Any] | None) -> dict[Tensor, Any]:
    """The value of each tensor of ``nodes``, from one run. raises what the run raises, ArgumentError for too many nodes."""
    if len(nodes) > MOST_NODES:
        raise ArgumentError(
            f"draw: values are for small graphs, of at most {MOST_NODES} nodes; this one has {len(nodes)}",
            help="draw a part of it: draw(tensor, values=session), or give the values of a few tensors: values={tensor: value}",
        )
    tensors = [tensor for node in nodes for tensor in node.outputs if node.op.name not in ("assign", "group")]
    return dict(zip(tensors, session.run(tensors, feeds), strict=True))


def grids(value: Any) -> list[Grid]:
    """A table of a small array, little pictures of a larger one; nothing of a number, or of what is empty or not numbers."""
    array = np.asarray(value)
    if array.size <= 1 or array.dtype.kind not in "biuf":
        return []
    if array.ndim > 2:
        array = array.squeeze()
    if array.ndim <= 2 and max(array.shape) <= TABLE:
        rows = np.atleast_2d(array)
        colors = _colors(rows)
        return [Grid(colors, [[_short(number) for number in row] for row in rows])]
    array = array.squeeze()
    if array.ndim == 1:
        return [Grid(_colors(_averaged(array[np.newaxis, :], 1, 2 * SIDE)))]
    while array.ndim > 3:  # of a batch the first
        array = array[0]
    sheets = array[:IMAGES] if array.ndim == 3 else array[np.newaxis]
    return [Grid(_colors(_averaged(sheet, SIDE, SIDE))) for sheet in sheets]


def _averaged(array: np.ndarray[Any, Any], rows: int, columns: int) -> np.ndarray[Any, Any]:
    """At most ``rows`` x ``columns`` cells, each the mean of what it stands for."""
    parts = array.astype(np.float64)
    for axis, most in enumerate((rows, columns)):
        if parts.shape[axis] > most:
            parts = np.stack([part.mean(axis) for part in np.array_split(parts, most, axis)], axis)
    return parts


def _colors(array: np.ndarray[Any, Any]) -> list[list[str]]:
    """Grey from white to dark where nothing is negative, else red above 0 and blue below; NaN and infinity in violet."""
    numbers = array.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    reach = max(abs(low), abs(high)) or 1.0
    scale = _between("#ffffff", DARK) if low >= 0 else _diverging()
    start, width = (0.0, reach) if low >= 0 else (-reach, 2 * reach)
    with np.errstate(invalid="ignore"):
        places = np.nan_to_num((numbers - start) / width * (len(scale) - 1)).clip(0, len(scale) - 1).astype(int)
    sure = np.isfinite(numbers)
    return [[scale[place] if is_sure else UNSURE for place, is_sure in zip(*row)] for row in zip(places.tolist(), sure.tolist())]


def _between(first: str, last: str, steps: int = 33) -> list[str]:
    ends = [np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) for color in (first, last)]
    mixed = [ends[0] + (ends[1] - ends[0]) * (i / (steps - 1)) for i in range(steps)]
    return ["#" + "".join(f"{round(part):02x}" for part in color.tolist()) for color in mixed]


def _diverging() -> list[str]:
    parts = [_between(a, b, 9) for a, b in pairwise(COOL_WARM)]
    return [*parts[0], *(color for part in parts[1:] for color in part[1:])]


def _short(number: Any) -> str:
    return str(number) if number.dtype.kind in "biu" else f"{number:.3g}"
