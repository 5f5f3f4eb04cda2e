"""Where the largest and the smallest elements are."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DtypeError, ShapeError
from ..graph import Op, Spec, Tensor, no_gradient, op
from ..graph.arguments import as_flag
from ..graph.op import Batch, public
from ..graph.spec import normalize_axis
from .reduce import reduced
from .samples import LOW, Over, every_axis


class Position(Op):
    """Base of argmax and argmin."""

    vjp = no_gradient("a position is constant between its jumps")

    def infer(self, x: Any, *, axis: int, keepdims: bool) -> Spec:
        if x.dtype.kind == "c":
            raise DtypeError(f"{x.dtype} has no order")
        if x.shape[axis] == 0:
            raise ShapeError(f"axis {axis} of {x.shape} is empty")
        return Spec(reduced(x.shape, (axis % len(x.shape),), keepdims), np.dtype("int64"))

    def vmap(self, batch: Batch, x: Tensor, *, axis: int, keepdims: bool) -> Tensor:
        return self(x, axis=axis % (x.ndim - 1) + 1, keepdims=keepdims)

    samples = Over(
        [((1,),), ((2, 3),), ((2, 1, 3),)],
        attrs=lambda s: [{**a, "keepdims": keep} for a in every_axis(s) for keep in (False, True)],
        also=LOW,
    ) + Over([((3, 4),)], (0, 1), attrs=({"axis": 1, "keepdims": True},), dtypes=("int64",))


class Argmax(Position):
    """The position of the largest element; the first of equals."""

    def kernel(self, xp: Any, x: Any, *, axis: int, keepdims: bool) -> Any:
        return xp.argmax(x, axis=axis, keepdims=keepdims)


class Argmin(Position):
    """The position of the smallest element; the first of equals."""

    def kernel(self, xp: Any, x: Any, *, axis: int, keepdims: bool) -> Any:
        return xp.argmin(x, axis=axis, keepdims=keepdims)


_argmax = op(Argmax)
_argmin = op(Argmin)


def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position (int64) of the largest element along ``axis``, or in the flattened tensor; the first of equals.

    >>> session.run(fg.argmax([[1, 5], [3, 2]], axis=1))
    array([1, 0])
    """
    return _position(_argmax, x, axis, keepdims)


def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position (int64) of the smallest element along ``axis``, or in the flattened tensor; the first of equals."""
    return _position(_argmin, x, axis, keepdims)


def _position(operation: Position, x: Any, axis: int | None, keepdims: bool) -> Tensor:
    (x,) = operation.lift((x,))
    keepdims = as_flag(keepdims, "keepdims")
    if axis is None:
        from_shape = x.reshape(-1)
        result = operation(from_shape, axis=0, keepdims=False)
        return result.reshape((1,) * x.ndim) if keepdims else result
    return operation(x, axis=normalize_axis(axis, x.ndim), keepdims=keepdims)


public(argmax)
public(argmin)
