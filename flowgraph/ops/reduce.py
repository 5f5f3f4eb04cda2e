"""Operations that make one element of many: sums, products, means, norms, extremes, truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DtypeError, ShapeError
from ..graph import Op, Shape, Spec, Tensor, Work, no_gradient, op
from ..graph.arguments import as_flag
from ..graph.op import Batch, Slicing, public
from ..graph.spec import is_known, normalize_axes
from .bits import wide
from .cumulative import cumulative_prod, in_wide, shifted, sum_dtype
from .elementwise import astype, broadcast_like, conj, equal, exp_difference, real_dtype, where
from .samples import COMPLEX, LOW, UNARY_SHAPES, Over, every_reduction
from .shape import flip, ones_like, repeat_like, reshape_like

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

    fold = "sum"

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return sum_dtype(dtype)

    def kernel(self, xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool, out: Any = None) -> Any:
        return in_wide(lambda dtype, into: xp.sum(x, axis=axis, keepdims=keepdims, dtype=dtype, out=into), sum_dtype(x.dtype), out)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axis: tuple[int, ...], keepdims: bool) -> Any:
        return spread(g, x, axis, keepdims)

    def slicing(self, out: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Slicing | None:
        if not x.shape or x.shape[0] < 2:
            return None
        if 0 in axis and wide(x.dtype) != x.dtype:
            return None  # the parts would be rounded before they are added up
        return Slicing((True,), x.shape[0], "sum" if 0 in axis else "concat")

    samples = Over(UNARY_SHAPES, attrs=every_reduction, also=COMPLEX + LOW) + Over(
        UNARY_SHAPES[3:4], attrs=every_reduction, dtypes=("bool",)
    )


class Mean(Reduction):
    """The mean."""

    fold = "mean"

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return dtype if dtype.kind in "fcV" else np.dtype("float64")

    def kernel(self, xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool, out: Any = None) -> Any:
        count = math.prod(x.shape[a] for a in axis)

        def mean(dtype: np.dtype[Any], out: Any) -> Any:
            return xp.divide(xp.sum(x, axis=axis, keepdims=keepdims, out=out, dtype=dtype), count, out=out)

        return in_wide(mean, self.result_dtype(x.dtype), out)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axis: tuple[int, ...], keepdims: bool) -> Any:
        # In float16 the count might be infinite.
        return spread(astype(astype(g, wide(g.dtype)) / count_along(x, axis, wide(g.dtype)), g.dtype), x, axis, keepdims)

    samples = Over([((),), ((1,),), ((2, 3),), ((2, 1, 3),)], attrs=every_reduction, also=COMPLEX + LOW)


def count_along(x: Tensor, axis: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
    """How many elements of ``x`` lie along ``axis``: a number if the sizes are known, else a tensor of ``dtype``."""
    sizes = tuple([x.shape[a] for a in axis])
    return math.prod(sizes) if is_known(sizes) else astype(_size(x, axis=axis), dtype)


class Prod(Reduction):
    """The product over one axis, or none: the public function multiplies over one after the other."""

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return sum_dtype(dtype)

    def kernel(self, xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool, out: Any = None) -> Any:
        return in_wide(lambda dtype, into: xp.prod(x, axis=axis, keepdims=keepdims, dtype=dtype, out=into), sum_dtype(x.dtype), out)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axis: tuple[int, ...], keepdims: bool) -> Any:
        if not axis:
            return g
        # Each element is owed the product of the others: of those before it and of those behind it, as out / x fails at zeros.
        (a,) = axis
        before = cumulative_prod(shifted(x, a, ones_like), a)
        behind = flip(cumulative_prod(shifted(flip(x, a), a, ones_like), a), a)
        return spread(g, x, axis, keepdims) * conj(before * behind)

    samples = Over(
        UNARY_SHAPES,
        attrs=lambda s: [case for case in every_reduction(s) if len(case["axis"]) < 2],
        also=COMPLEX + LOW,
    ) + Over([((2, 3),)], (-1, 1), attrs=({"axis": (1,), "keepdims": True},), dtypes=("int32",))


class EuclideanNorm(Reduction):
    """The 2-norm ``sqrt(sum(abs(x)**2))``; its gradient where it is 0 is 0."""

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return real_dtype(dtype) if dtype.kind in "fcV" else np.dtype("float64")

    def kernel(self, xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool, out: Any = None) -> Any:
        def norm(dtype: np.dtype[Any], out: Any) -> Any:
            squares = xp.square(x.real, dtype=dtype)
            if x.dtype.kind == "c":
                squares += xp.square(x.imag)
            return xp.sqrt(xp.sum(squares, axis=axis, keepdims=keepdims, out=out), out=out)

        return in_wide(norm, self.result_dtype(x.dtype), out)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axis: tuple[int, ...], keepdims: bool) -> Any:
        return spread(g / where(equal(out, 0), np.inf, out), x, axis, keepdims) * x

    def work(self, x: Any, **attrs: Any) -> Work:
        size = math.prod(x.shape)
        return Work(2 * size, size * x.dtype.itemsize)

    samples = Over(UNARY_SHAPES, (0.3, 2.0), attrs=every_reduction, also=COMPLEX + LOW)


class Logsumexp(Reduction):
    """``log(sum(exp(x)))`` without overflow."""

    def infer(self, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Spec:
        if x.dtype.kind not in "fV":
            raise DtypeError(f"needs real floats, got {x.dtype}", help='cast with fg.astype(x, "float32")')
        return super().infer(x, axis=axis, keepdims=keepdims)

    def kernel(self, xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool, out: Any = None) -> Any:
        def logsumexp(dtype: np.dtype[Any], out: Any) -> Any:
            if 0 in [x.shape[a] for a in axis]:
                top = xp.zeros(reduced(x.shape, axis, True), dtype)
            else:
                top = xp.max(x, axis=axis, keepdims=True).astype(dtype, copy=False)
                top = xp.where(xp.isfinite(top), top, dtype.type(0))  # inf - inf would be NaN
            total = xp.log(xp.sum(xp.exp(x - top, dtype=dtype), axis=axis, keepdims=True))
            return xp.add(total, top).reshape(reduced(x.shape, axis, keepdims))

        result = logsumexp(wide(x.dtype), None).astype(x.dtype, copy=False)
        if out is None:
            return result
        out[...] = result
        return out

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axis: tuple[int, ...], keepdims: bool) -> Any:
        return spread(g, x, axis, keepdims) * exp_difference(x, spread(out, x, axis, keepdims))

    def work(self, x: Any, **attrs: Any) -> Work:
        size = math.prod(x.shape)
        return Work(15 * size, size * x.dtype.itemsize)

    samples = Over([((),), ((1,),), ((2, 3),), ((2, 1, 3),)], attrs=every_reduction, edges=(-np.inf, -800.0, 800.0), also=LOW)


class Truth(Reduction):
    """Base of all and any: whatever is not 0 is true."""

    vjp = no_gradient("a truth value has no derivative")

    def result_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        return np.dtype(bool)

    samples = Over(UNARY_SHAPES, attrs=every_reduction, dtypes=("bool",)) + Over([((2, 3),)], attrs=every_reduction, also=LOW)


class All(Truth):
    """Whether all elements are true."""

    def kernel(self, xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool, out: Any = None) -> Any:
        return xp.all(x, axis=axis, keepdims=keepdims, out=out)


class Any_(Truth):
    """Whether any element is true."""

    def kernel(self, xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool, out: Any = None) -> Any:
        return xp.any(x, axis=axis, keepdims=keepdims, out=out)


class Extreme(Reduction):
    """Base of max and min. Elements that tie for it share the gradient equally."""

    def infer(self, x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Spec:
        if x.dtype.kind == "c":
            raise DtypeError(f"{x.dtype} has no order")
        if 0 in [x.shape[a] for a in axis]:
            raise ShapeError(f"axis {axis} of {x.shape} is empty, so it has no {self.name}")
        return super().infer(x, axis=axis, keepdims=keepdims)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axis: tuple[int, ...], keepdims: bool) -> Any:
        hits = astype(equal(x, spread(out, x, axis, keepdims)), wide(g.dtype))  # counted there, as a count might not fit into float16
        return astype(spread(g / sum(hits, axis=axis, keepdims=keepdims), x, axis, keepdims) * hits, g.dtype)

    samples = Over([((),), ((1,),), ((2, 3),), ((2, 1, 3),)], attrs=every_reduction, apart=0.1, also=LOW)


class Max(Extreme):
    """The largest element."""

    fold = "max"

    def kernel(self, xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool, out: Any = None) -> Any:
        return xp.max(x, axis=axis, keepdims=keepdims, out=out)


class Min(Extreme):
    """The smallest element."""

    fold = "min"

    def kernel(self, xp: Any, x: Any, *, axis: tuple[int, ...], keepdims: bool, out: Any = None) -> Any:
        return xp.min(x, axis=axis, keepdims=keepdims, out=out)


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
_prod = op(Prod)
euclidean_norm = op(EuclideanNorm)
_logsumexp = op(Logsumexp)
_all = op(All)
_any = op(Any_, name="any")
_max = op(Max)
_min = op(Min)
_size = op(Size)


def sum(x: Any, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
    """Sum over ``axis`` (an int, several, or None for all); booleans and narrow integers add up in 64 bits.

    keepdims  whether the axes stay, with size 1
    dtype     cast to it first, to add up in it; None for the dtype of ``x``
    raises    ShapeError for an axis out of range

    >>> session.run(fg.sum([[1.0, 2.0], [3.0, 4.0]], axis=0))
    array([4., 6.])
    """
    return _reduce(_sum, x, axis, keepdims, dtype)


def mean(x: Any, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
    """Mean over ``axis`` (an int, several, or None for all); integers give float64.

    >>> session.run(fg.mean([[1.0, 2.0], [3.0, 4.0]], axis=1))
    array([1.5, 3.5])
    """
    return _reduce(_mean, x, axis, keepdims, dtype)


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


def prod(x: Any, axis: Axis = None, keepdims: bool = False, dtype: Any = None) -> Tensor:
    """Product over ``axis``; booleans and narrow integers multiply in 64 bits. The gradient is right where elements are 0, too.

    >>> session.run(fg.prod([[1.0, 2.0], [3.0, 4.0]], axis=1))
    array([ 2., 12.])
    """
    (result,) = _prod.lift((x,))
    if dtype is not None:
        result = astype(result, dtype)
    axes = normalize_axes(axis, result.ndim)
    for a in reversed(axes[1:]):
        result = _prod(result, axis=(a,), keepdims=as_flag(keepdims, "keepdims"))
    return _prod(result, axis=axes[:1], keepdims=as_flag(keepdims, "keepdims"))


def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """``log(sum(exp(x)))`` over ``axis``, without overflow; -inf over no elements.

    x       real floats
    raises  DtypeError for others

    >>> session.run(fg.logsumexp([1000.0, 1000.0]))
    np.float64(1000.6931471805599)
    """
    return _reduce(_logsumexp, x, axis, keepdims)


def all(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether all elements over ``axis`` are true (not zero); true over no elements.

    >>> session.run(fg.all([[True, False], [True, True]], axis=1))
    array([False,  True])
    """
    return _reduce(_all, x, axis, keepdims)


def any(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether any element over ``axis`` is true (not zero); false over no elements."""
    return _reduce(_any, x, axis, keepdims)


def _reduce(operation: Reduction, x: Any, axis: Axis, keepdims: bool, dtype: Any = None) -> Tensor:
    (x,) = operation.lift((x,))
    if dtype is not None:
        x = astype(x, dtype)
    return operation(x, axis=normalize_axes(axis, x.ndim), keepdims=as_flag(keepdims, "keepdims"))


def size(x: Any, axis: int | None = None) -> Tensor:
    """Number of elements of ``x``, or along one axis, as an int64 tensor; known only in a run where a size is unknown."""
    (x,) = _size.lift((x,))
    return _size(x, axis=normalize_axes(axis, x.ndim))


for _function, *_names in (
    (sum, "sum", "add.reduce"),
    (prod, "prod", "multiply.reduce"),
    (max, "max", "amax", "maximum.reduce"),
    (min, "min", "amin", "minimum.reduce"),
    (all, "all", "logical_and.reduce"),
    (any, "any", "logical_or.reduce"),
    (logsumexp, "logsumexp", "logaddexp.reduce"),
    (mean, "mean"),
    (size, "size"),
):
    public(_function, *_names)

__all__ = ["Axis", "Reduction", "all", "any", "count_along", "euclidean_norm", "logsumexp", "max", "mean", "min", "prod", "size", "sum"]
