"""How near predicted numbers are."""

from __future__ import annotations

from typing import Any

from ..errors import ShapeError
from ..graph import Tensor
from ..graph.spec import format_shape
from ..ops.elementwise import astype, divide, square, subtract
from ..ops.reduce import mean, sum


def r2(predicted: Any, targets: Any) -> Tensor:
    """The part of the targets' variance that is explained: 1 is perfect, 0 as good as their mean, and it may be negative.

    predicted, targets  numbers of one shape, (rows,) or (rows, ...)
    returns             float64: a scalar, or one for each column; not finite where all targets are equal
    raises              ShapeError when the shapes differ

        1 - sum((targets - predicted) ** 2) / sum((targets - mean(targets)) ** 2)

    >>> session.run(fg.metrics.r2([2.5, 0.0, 2.0, 8.0], [3.0, -0.5, 2.0, 7.0])).round(4)
    np.float64(0.9486)
    """
    predicted, targets = subtract.lift((predicted, targets))
    same = len(predicted.shape) == len(targets.shape)
    if not targets.shape or not same or any(a != b for a, b in zip(predicted.shape, targets.shape) if type(a) is type(b) is int):
        raise ShapeError(f"r2: predicted is {format_shape(predicted.shape)}, targets are {format_shape(targets.shape)}")
    predicted, targets = astype(predicted, "float64"), astype(targets, "float64")
    left = sum(square(subtract(targets, predicted)), axis=0)
    whole = sum(square(subtract(targets, mean(targets, axis=0, keepdims=True))), axis=0)
    return subtract(1.0, divide(left, whole))
