"""Operations that make one element of many: sums, means, extremes and their positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DtypeError, ShapeError
from ..graph import Op, Shape, Spec, Tensor, Work, no_gradient, op
from ..graph.op import Batch, Slicing, public
from ..graph.spec import normalize_axes, normalize_axis
from .elementwise import astype, broadcast_like, equal, like
from .samples import UNARY_SHAPES, Over, every_axis, every_reduction
from .shape import repeat_like, reshape_like

Axis = int | Sequence[int] | None


def reduced(shape: Shape, axis: tuple[int, ...], keepdims: bool) -> Shape:
    """``shape`` without the axes ``axis``, or with size 1 there."""
    if keepdims:
        return tuple(1 if i in axis else dim for i, dim in enumerate(shape))
    return tuple(dim for i, dim in enumerate(shape) if i not in axis)


class Reduction(Op):
    """Base: reduces over ``axis``, a sorted tuple counted from the front (the public functions make it so)."""

    def infer(self, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Spec:
        return Spec(reduced(x.shape, axis, keepdims), self.result_dtype(x.dtype))

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return dtype

    def work(self, x: Any, **attrs: Any) -> Work:
        size = math.prod(x.shape)
        return Work(size, size * x.dtype.itemsize)

    def slicing(self, out: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Slicing | None:
        if not x.shape or x.shape[0] < 2 or 0 in axis:
            return None
        return Slicing((True,), x.shape[0])

    def vmap(self, batch: Batch, x: Tensor, *, axis: tuple[int, ...], keepdims: bool) -> Tensor:
        return self(x, axis=tuple(a + 1 for a in axis), keepdims=keepdims)


def spread(g: Tensor, x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    """``g``, of a reduction's shape, repeated to the shape of ``x``."""
    if not keepdims and axis and len(axis) < x.ndim:
        g = reshape_like(g, x, axis=axis)
    return broadcast_like(g, x)


class Sum(Reduction):
    """The sum."""

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return np.add.resolve_dtypes((None, dtype, None), reduction=True)[-1] if dtype.kind in "fcV" else _widened(dtype)

    def kernel(self, xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool, out: Any = None) -> Any:
        return xp.sum(x, axis=axis, keepdims=keepdims, out=out)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axis: tuple[int, ...], keepdims: bool) -> Any:
        return spread(g, x, axis, keepdims)

    def slicing(self, out: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Slicing | None:
        if not x.shape or x.shape[0] < 2:
            return None
        return Slicing((True,), x.shape[0], "sum" if 0 in axis else "concat")

    samples = Over(UNARY_SHAPES, attrs=every_reduction)


def _widened(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """As NumPy sums: booleans and narrow integers in 64 bits."""
    return np.dtype("uint64") if dtype.kind == "u" else np.dtype("int64")


class Mean(Reduction):
    """The mean."""

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return dtype if dtype.kind in "fcV" else np.dtype("float64")

    def kernel(self, xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool, out: Any = None) -> Any:
        count = math.prod(x.shape[a] for a in axis)
        total = xp.sum(x, axis=axis, keepdims=keepdims, out=out, dtype=self.result_dtype(x.dtype))
        return xp.divide(total, count, out=out)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axis: tuple[int, ...], keepdims: bool) -> Any:
        sizes = [x.shape[a] for a in axis]
        if all(isinstance(size, int) for size in sizes):
            return spread(g / math.prod(sizes), x, axis, keepdims)  # type: ignore[arg-type]
        return spread(g / astype(_size(x, axis=axis), g.dtype), x, axis, keepdims)

    samples = Over([((),), ((1,),), ((2, 3),), ((2, 1, 3),)], attrs=every_reduction)


class Extreme(Reduction):
    """Base of max and min. Elements that tie for it share the gradient equally."""

    def infer(self, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Spec:
        if x.dtype.kind == "c":
            raise DtypeError(f"{x.dtype} has no order")
        if any(x.shape[a] == 0 for a in axis):
            raise ShapeError(f"axis {axis} of {x.shape} is empty, so it has no {self.name}")
        return super().infer(x, axis=axis, keepdims=keepdims)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axis: tuple[int, ...], keepdims: bool) -> Any:
        hits = astype(equal(x, spread(out, x, axis, keepdims)), g.dtype)
        return spread(g / sum(hits, axis=axis, keepdims=keepdims), x, axis, keepdims) * hits

    samples = Over([((),), ((1,),), ((2, 3),), ((2, 1, 3),)], attrs=every_reduction, apart=0.1)


class Max(Extreme):
    """The largest element."""

    def kernel(self, xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool, out: Any = None) -> Any:
        return xp.max(x, axis=axis, keepdims=keepdims, out=out)


class Min(Extreme):
    """The smallest element."""

    def kernel(self, xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool, out: Any = None) -> Any:
        return xp.min(x, axis=axis, keepdims=keepdims, out=out)


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

    samples = Over([((1,),), ((2, 3),), ((2, 1, 3),)], attrs=lambda s: [{**a, "keepdims": False} for a in every_axis(s)])


class Argmax(Position):
    """The position of the largest element; the first of equals."""

    def kernel(self, xp: Any, x: Any, *, axis: int, keepdims: bool) -> Any:
        return xp.argmax(x, axis=axis, keepdims=keepdims)


class Argmin(Position):
    """The position of the smallest element; the first of equals."""

    def kernel(self, xp: Any, x: Any, *, axis: int, keepdims: bool) -> Any:
        return xp.argmin(x, axis=axis, keepdims=keepdims)


class Size(Op):
    """Number of elements along ``axis`` as a tensor; only the shape of ``x`` is used."""

    vjp = no_gradient("a size does not depend on the values")
    shape_inputs = (0,)

    def infer(self, x: Any, *, axis: tuple[int, ...]) -> Spec:
        return Spec((), np.dtype("int64"))

    def kernel(self, xp: Any, x: Any, *, axis: tuple[int, ...]) -> Any:
        return xp.asarray(math.prod(x.shape[a] for a in axis))

    def vmap(self, batch: Batch, x: Tensor, *, axis: tuple[int, ...]) -> Tensor:
        return repeat_like(_size(x, axis=tuple(a + 1 for a in axis)), batch.like)

    samples = Over(UNARY_SHAPES, attrs=lambda s: [{"axis": tuple(range(len(s)))}])


_sum = op(Sum)
_mean = op(Mean)
_max = op(Max)
_min = op(Min)
_argmax = op(Argmax)
_argmin = op(Argmin)
_size = op(Size)


def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Sum over ``axis`` (an int, several, or None for all); booleans and narrow integers add up in 64 bits.

    keepdims  whether the axes stay, with size 1
    raises    ShapeError for an axis out of range

    >>> session.run(fg.sum([[1.0, 2.0], [3.0, 4.0]], axis=0))
    array([4., 6.])
    """
    return _reduce(_sum, x, axis, keepdims)


def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Mean over ``axis`` (an int, several, or None for all); integers give float64.

    >>> session.run(fg.mean([[1.0, 2.0], [3.0, 4.0]], axis=1))
    array([1.5, 3.5])
    """
    return _reduce(_mean, x, axis, keepdims)


def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Largest element over ``axis``; elements that tie share the gradient equally.

    raises  ShapeError for an axis out of range or of size 0

    >>> session.run(fg.max([[1, 5], [3, 4]], axis=0))
    array([3, 5])
    """
    return _reduce(_max, x, axis, keepdims)


def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Smallest element over ``axis``; elements that tie share the gradient equally."""
    return _reduce(_min, x, axis, keepdims)


def _reduce(operation: Reduction, x: Any, axis: Axis, keepdims: bool) -> Tensor:
    (x,) = operation.lift((x,))
    try:
        axes = normalize_axes(axis, x.ndim)
    except ShapeError as error:
        raise ShapeError(f"{operation.name}: {error.message}", help=f"its input {x!r} has {x.ndim} dimensions") from None
    return operation(x, axis=axes, keepdims=bool(keepdims))


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
    if axis is None:
        from_shape = x.reshape(-1)
        result = operation(from_shape, axis=0, keepdims=False)
        return result.reshape((1,) * x.ndim) if keepdims else result
    return operation(x, axis=normalize_axis(axis, x.ndim), keepdims=bool(keepdims))


def size(x: Any, axis: int | None = None) -> Tensor:
    """Number of elements of ``x``, or along one axis, as an int64 tensor; known only in a run where a size is unknown."""
    (x,) = _size.lift((x,))
    return _size(x, axis=normalize_axes(axis, x.ndim))


for _function in (sum, mean, max, min, argmax, argmin, size):
    public(_function)

__all__ = ["argmax", "argmin", "like", "max", "mean", "min", "size", "sum"]
