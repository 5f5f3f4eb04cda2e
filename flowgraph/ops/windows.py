"""Windows that move over images: their sizes, steps and borders in every form a caller may give them, for convolution and pooling alike.

One number for each axis that the windows move along, outermost first: (height, width) for pictures. No nodes are made here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import Dim, Shape, Tensor

Steps = tuple[int, ...]  # a number for each axis
Borders = tuple[tuple[int, int], ...]  # (before, after) for each axis

AXES = {1: "length", 2: "height, width", 3: "depth, height, width"}


def check_images(name: str, rank: int, **tensors: Tensor) -> None:
    """raises ShapeError unless each of ``tensors`` has two axes more than windows of ``rank`` numbers move along."""
    for label, tensor in tensors.items():
        if tensor.ndim != rank + 2:
            forms = {"w": f"(out, channels per group, {AXES[rank]})"}
            raise ShapeError(
                f"{name}: {label} needs {rank + 2} dimensions, {forms.get(label, f'(batch, channels, {AXES[rank]})')}, got {tensor.ndim}",
                help=f"images are (batch, channels, {AXES[rank]})",
            )


def as_steps(value: int | Sequence[int], rank: int, what: str) -> Steps:
    """One positive number for all axes, or one each. raises ArgumentError for anything else."""
    try:
        steps = (value,) * rank if isinstance(value, int | np.integer) else tuple(value)
    except TypeError:
        steps = ()
    if len(steps) != rank or not all(isinstance(v, int | np.integer) and not isinstance(v, bool) and v >= 1 for v in steps):
        several = f" or {rank} of them" if rank > 1 else ""
        raise ArgumentError(f"{what} must be a positive int{several}, got {value!r:.80}")
    return tuple(int(v) for v in steps)


def as_borders(padding: Any, sizes: Shape, window: Shape, stride: Steps, dilation: Steps) -> Borders:
    """``padding`` in any of its forms as (before, after) for each axis; ``sizes`` are those of the images along these axes.

    raises  ArgumentError for another form, ShapeError where "same" needs a size that is not known
    """
    rank = len(stride)
    if isinstance(padding, str) and padding == "valid":
        return ((0, 0),) * rank
    if isinstance(padding, str) and padding == "same":
        return tuple(same_border(*axis) for axis in zip(sizes, window, stride, dilation, strict=True))
    borders = explicit_borders(padding, rank)
    if borders is None:
        axes = AXES[rank]
        each = {1: "", 2: ", (vertical, horizontal) or ((top, bottom), (left, right))"}.get(
            rank, f", one for each of ({axes}), or pairs of them"
        )
        raise ArgumentError(
            f"padding {padding!r:.80} is not understood", help=f'"valid", "same", a number{each}' + ", or ((before, after),)" * (rank == 1)
        )
    return borders


def explicit_borders(padding: Any, rank: int) -> Borders | None:
    """``padding`` given in numbers as (before, after) for each axis, or None where it is something else."""
    if isinstance(padding, int | np.integer):
        padding = (padding,) * rank
    try:
        borders = tuple((b, b) if isinstance(b, int | np.integer) else tuple(b) for b in padding)
        if len(borders) == rank and all(len(b) == 2 and all(int(v) == v >= 0 for v in b) for b in borders):
            return tuple((int(a), int(b)) for a, b in borders)
    except (TypeError, ValueError):
        pass
    return None


def same_border(size: Dim, window: Dim, stride: int, dilation: int) -> tuple[int, int]:
    """The padding of one axis for an output of size / stride, rounded up; an odd one goes behind."""
    if not isinstance(window, int) or (stride != 1 and not isinstance(size, int)):
        raise ShapeError("padding 'same' with a stride needs the height and width to be known", help="give the padding in numbers")
    reach = dilation * (window - 1) + 1
    total = reach - 1 if stride == 1 else max((-(-size // stride) - 1) * stride + reach - size, 0)  # type: ignore[operator]
    return total // 2, total - total // 2


def window_count(size: Dim, window: Dim, stride: int, padding: tuple[int, int], dilation: int) -> Dim:
    """How many windows fit along one axis. raises ShapeError when none does."""
    if not isinstance(size, int) or not isinstance(window, int):
        return None
    count = (size + padding[0] + padding[1] - dilation * (window - 1) - 1) // stride + 1
    if count < 1:
        raise ShapeError(f"a window of {dilation * (window - 1) + 1} does not fit into {size + padding[0] + padding[1]} pixels")
    return count


def window_counts(sizes: Shape, window: Shape, stride: Steps, padding: Borders, dilation: Steps) -> Shape:
    """How many windows fit along each axis."""
    return tuple(window_count(*axis) for axis in zip(sizes, window, stride, padding, dilation, strict=True))
