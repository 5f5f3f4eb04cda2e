"""Running sums and products along an axis, and the linear recurrence that they and their gradients are cases of."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..graph import Op, Spec, Tensor, Work, op
from ..graph.arguments import as_count, as_flag
from ..graph.node import FUNCTIONS
from ..graph.op import Batch, Slicing, public
from ..graph.spec import format_shape, normalize_axis, promote_dtypes
from .batching import full
from .bits import wide
from .elementwise import astype, conj, not_equal, rowwise
from .join import concat
from .samples import COMPLEX, LOW, Over
from .shape import flip, ones_like, zeros_like

SHAPES = [((3,),), ((1,),), ((0, 3),), ((2, 3),), ((2, 1, 3),)]


def from_front(shape: tuple[int, ...], *_: Any) -> list[dict[str, Any]]:
    """Each axis, as the ops store them."""
    return [{"axis": axis} for axis in range(len(shape))]


class Cumulative(Op):
    """Base: along ``axis``, counted from the front; integers widen as in sums."""

    def infer(self, x: Any, *, axis: int) -> Spec:
        return Spec(x.shape, sum_dtype(x.dtype))

    def work(self, x: Any, *, axis: int) -> Work:
        size = math.prod(x.shape)
        return Work(size, 2 * size * x.dtype.itemsize)

    def slicing(self, out: Any, x: Any, *, axis: int) -> Slicing | None:
        return rowwise(out, (x,)) if axis else None

    def vmap(self, batch: Batch, x: Tensor, *, axis: int) -> Tensor:
        return self(x, axis=axis + 1)

    samples = Over(SHAPES, attrs=from_front, also=COMPLEX + LOW) + Over(SHAPES[3:4], (-9, 9), attrs=from_front, dtypes=("int32",))


def sum_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of a sum: booleans and narrow integers add up in 64 bits, as in NumPy."""
    if dtype.kind in "fcV":
        return dtype
    return np.dtype("uint64") if dtype.kind == "u" else np.dtype("int64")


class CumulativeSum(Cumulative):
    """Running sum along ``axis``."""

    def kernel(self, xp: Any, x: Any, *, axis: int, out: Any = None) -> Any:
        dtype = sum_dtype(x.dtype)
        return in_wide(lambda dtype, into: xp.cumsum(x, axis=axis, dtype=dtype, out=into), dtype, out)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axis: int) -> Any:
        # y[i] holds every x[j] with j <= i, so x[j] is owed every g[i] with i >= j: a running sum from the far end.
        return flip(_cumulative_sum(flip(g, axis), axis=axis), axis)


class CumulativeProd(Cumulative):
    """Running product along ``axis``."""

    def kernel(self, xp: Any, x: Any, *, axis: int, out: Any = None) -> Any:
        dtype = sum_dtype(x.dtype)
        return in_wide(lambda dtype, into: xp.cumprod(x, axis=axis, dtype=dtype, out=into), dtype, out)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axis: int) -> Any:
        # y[t] = x[t] y[t-1]. No division by x, so zeros do no harm.
        return owed(g, x, axis) * conj(shifted(out, axis, ones_like))


def in_wide(function: Any, dtype: np.dtype[Any], out: Any) -> Any:
    """``function(dtype, out)``, run in float32 and rounded where ``dtype`` is a narrower float."""
    if wide(dtype) == dtype:
        return function(dtype, out)
    result = function(wide(dtype), None).astype(dtype)
    if out is None:
        return result
    out[...] = result
    return out


class LinearScan(Op):
    """The recurrence ``y[t] = a[t] * y[t-1] + b[t]`` along ``axis``, from 0: ``y[0] = b[0]``. Its gradient is one again, backwards.

    a, b  tensors of one shape
    """

    def infer(self, a: Any, b: Any, *, axis: int) -> Spec:
        return Spec(b.shape, promote_dtypes(a.dtype, b.dtype))

    def kernel(self, xp: Any, a: Any, b: Any, *, axis: int) -> Any:
        dtype = promote_dtypes(a.dtype, b.dtype)
        a, b = (xp.moveaxis(xp.asarray(x, wide(dtype)), axis, 0) for x in (a, b))
        y = xp.moveaxis(_scan(xp, a, b), 0, axis)
        return y.astype(dtype, copy=False)

    def vjp(self, g: Tensor, out: Tensor, a: Tensor, b: Tensor, *, axis: int) -> Any:
        to_b = owed(g, a, axis)
        return lambda: to_b * conj(shifted(out, axis, zeros_like)), to_b

    def vmap(self, batch: Batch, a: Tensor, b: Tensor, *, axis: int) -> Tensor:
        return _linear_scan(full(batch, a, 0), full(batch, b, 1), axis=axis + 1)

    def work(self, a: Any, b: Any, *, axis: int) -> Work:
        size = math.prod(b.shape)
        return Work(4 * size, 3 * size * b.dtype.itemsize)

    samples = Over([(s, s) for (s,) in [*SHAPES, ((70, 2),)]], (-1.2, 1.2), attrs=from_front, also=COMPLEX + LOW)


def _scan(xp: Any, a: Any, b: Any) -> Any:
    """The recurrence along axis 0: a loop over it, or, where it is long, over pieces side by side and then from piece to piece."""
    n = b.shape[0]
    y = b.copy()
    if n <= 64:
        for t in range(1, n):
            y[t] += a[t] * y[t - 1]
        return y
    width = math.isqrt(n - 1) + 1
    pieces = -(-n // width)
    padding = xp.zeros((pieces * width - n, *b.shape[1:]), b.dtype)
    y = xp.concatenate((y, padding)).reshape(pieces, width, *b.shape[1:])
    carried = xp.concatenate((a, padding)).reshape(y.shape)  # by what factor each piece's start reaches on into it
    for t in range(1, width):
        y[:, t] += carried[:, t] * y[:, t - 1]
        carried[:, t] *= carried[:, t - 1]
    for piece in range(1, pieces):
        y[piece] += carried[piece] * y[piece - 1, -1]
    return y.reshape(-1, *b.shape[1:])[:n]


def owed(g: Tensor, a: Tensor, axis: int) -> Tensor:
    """What is owed to each ``b[t]`` of a linear scan by ``a``: ``g[t]`` and, through y[t], ``conj(a[t+1])`` of what y[t+1] is owed."""
    back = shifted(flip(conj(a), axis), axis, zeros_like)
    return flip(_linear_scan(back, flip(g, axis), axis=axis), axis)


def shifted(x: Tensor, axis: int, first: Any) -> Tensor:
    """``x`` one place further along ``axis``; at its start ``first``, `zeros_like` or `ones_like`."""
    before: tuple[Any, ...] = (slice(None),) * axis
    return concat((first(x[(*before, slice(0, 1))]), x[(*before, slice(0, -1))]), axis)


_cumulative_sum = op(CumulativeSum)
_cumulative_prod = op(CumulativeProd)
_linear_scan = op(LinearScan)


def cumulative_sum(x: Any, axis: int | None = None, include_initial: bool = False, dtype: Any = None) -> Tensor:
    """Running sum of ``x`` along ``axis``.

    axis             may be left out for a tensor of one axis
    include_initial  whether a 0 goes in front
    dtype            cast to it first; None for the dtype of ``x``
    returns          floats of the same dtype, added up in float32 if narrower; booleans and narrow integers in 64 bits, as in NumPy
    raises           ArgumentError for several axes and no ``axis``, ShapeError for one out of range

    >>> session.run(fg.cumulative_sum([1.0, 2.0, 3.0]))
    array([1., 3., 6.])
    """
    return _along(
        _cumulative_sum, x if dtype is None else astype(x, dtype), axis, zeros_like if as_flag(include_initial, "include_initial") else None
    )


def cumulative_prod(x: Any, axis: int | None = None, include_initial: bool = False, dtype: Any = None) -> Tensor:
    """Running product of ``x`` along ``axis``; its gradient is right where elements are 0, too.

    axis             may be left out for a tensor of one axis
    include_initial  whether a 1 goes in front

    >>> session.run(fg.cumulative_prod([1.0, 2.0, 3.0], include_initial=True))
    array([1., 1., 2., 6.])
    """
    return _along(
        _cumulative_prod, x if dtype is None else astype(x, dtype), axis, ones_like if as_flag(include_initial, "include_initial") else None
    )


def diff(x: Any, n: int = 1, axis: int = -1) -> Tensor:
    """Differences of neighbours along ``axis``, ``x[i + 1] - x[i]``; the inverse of a running sum.

    n        how many times in a row; the axis is shorter by one each time
    returns  dtype of ``x``; for booleans, whether neighbours differ
    raises   ArgumentError for a negative ``n``, ShapeError for an ``axis`` out of range

    >>> session.run(fg.diff([1.0, 4.0, 9.0, 16.0], n=2))
    array([2., 2.])
    """
    n = as_count(n, "n")
    (x,) = _cumulative_sum.lift((x,))
    before = (slice(None),) * normalize_axis(axis, x.ndim)
    for _ in range(n):
        high, low = x[(*before, slice(1, None))], x[(*before, slice(None, -1))]
        x = not_equal(high, low) if x.dtype.kind == "b" else high - low
    return x  # type: ignore[no-any-return]


def _along(operation: Cumulative, x: Any, axis: int | None, initial: Any) -> Tensor:
    (x,) = operation.lift((x,))
    name = operation.name
    if axis is None and x.ndim != 1:
        raise ArgumentError(f"{name}: name the axis, as {x.name} {format_shape(x.shape)} has {x.ndim} of them", help=f"{name}(x, axis=-1)")
    place = normalize_axis(0 if axis is None else axis, x.ndim)
    y = operation(x, axis=place)
    if initial is None:
        return y
    return concat((initial(FUNCTIONS["sum"](y, axis=place, keepdims=True)), y), place)  # of the sum only the shape is used


def _cumsum(x: Any, axis: int | None = None, dtype: Any = None) -> Tensor:
    return cumulative_sum(x.reshape(-1) if axis is None else x, axis, dtype=dtype)


def _cumprod(x: Any, axis: int | None = None, dtype: Any = None) -> Tensor:
    return cumulative_prod(x.reshape(-1) if axis is None else x, axis, dtype=dtype)


public(cumulative_sum, "cumulative_sum", "add.accumulate")
public(cumulative_prod, "cumulative_prod", "multiply.accumulate")
public(diff)
public(_cumsum, "cumsum")
public(_cumprod, "cumprod")
