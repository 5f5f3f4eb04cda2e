"""Variance, deviation, quantiles and counts, made of other operations."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError, DtypeError, ShapeError
from ..graph import Tensor
from ..graph.arguments import as_flag, as_number
from ..graph.op import public
from ..graph.spec import normalize_axes, normalize_axis
from .bits import wide
from .elementwise import astype, ceil, equal, floor, isnan, maximum, not_equal, real_dtype, square, where
from .gather import take
from .reduce import Axis, count_along, euclidean_norm, mean, sum
from .shape import expand_dims, moveaxis
from .sort import sort


def std(x: Any, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """Standard deviation over ``axis``: the root of `var`. The gradient where all elements are equal is 0.

    correction  as in `var`

    >>> session.run(fg.std([1.0, 3.0]))
    np.float64(1.0)
    """
    (x,) = euclidean_norm.lift((x,))
    dtype = real_dtype(x.dtype) if x.dtype.kind in "fcV" else np.dtype("float64")
    return astype(_std(x, axis, correction, keepdims), dtype)


def var(x: Any, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """Variance over ``axis``: the mean square of the distance from the mean.

    correction  what is taken off the number of elements that the squares are divided by; 1 estimates from a sample
    returns     floats of the dtype of ``x``, real for complex ``x``; integers give float64. NaN where nothing is left to divide by

    >>> session.run([fg.var([1.0, 3.0]), fg.var([1.0, 3.0], correction=1)])
    [np.float64(1.0), np.float64(2.0)]
    """
    (x,) = euclidean_norm.lift((x,))
    dtype = real_dtype(x.dtype) if x.dtype.kind in "fcV" else np.dtype("float64")
    return astype(square(_std(x, axis, correction, keepdims)), dtype)


def _std(x: Tensor, axis: Axis, correction: float, keepdims: bool) -> Tensor:
    axes = normalize_axes(axis, x.ndim)
    correction = as_number(correction, "correction")
    x = astype(x, wide(x.dtype) if x.dtype.kind in "fcV" else "float64")
    total = euclidean_norm(x - mean(x, axis=axes, keepdims=True), axis=axes, keepdims=as_flag(keepdims, "keepdims"))
    count = count_along(x, axes, real_dtype(x.dtype))
    left = maximum(count - correction, 0) if isinstance(count, Tensor) else max(count - correction, 0)
    return total / left**0.5


def count_nonzero(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Number of elements over ``axis`` that are not zero, int64; without gradient.

    >>> session.run(fg.count_nonzero([[0.0, 2.0], [1.0, 3.0]], axis=1))
    array([1, 2])
    """
    return sum(not_equal(x, 0), axis=axis, keepdims=keepdims)


def quantile(x: Any, q: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The value below which a share ``q`` of the elements along ``axis`` lies, between two neighbours in proportion.

    q        number or list of numbers in [0, 1], known when the graph is built
    axis     an axis, or None for the flattened tensor
    returns  floats of the dtype of ``x``, integers give float64; several ``q`` come along a new first axis. NaN where a NaN is among
             the elements. The gradient goes to the two neighbours
    raises   ArgumentError for a ``q`` outside [0, 1], ShapeError for an empty axis

    >>> session.run(fg.quantile([1.0, 2.0, 10.0], [0.0, 0.25, 1.0]))
    array([ 1. ,  1.5, 10. ])
    """
    try:
        shares = np.asarray(q, "float64")
    except (TypeError, ValueError):
        shares = np.array(np.nan)
    if isinstance(q, Tensor) or shares.ndim > 1 or not ((shares >= 0) & (shares <= 1)).all():
        raise ArgumentError(f"quantile: q is a number or a list of numbers in [0, 1], got {q!r:.80}")
    (x,) = euclidean_norm.lift((x,))
    if x.dtype.kind == "c":
        raise DtypeError(f"quantile: {x.dtype} has no order")
    ndim = x.ndim
    if axis is None:
        x = x.reshape(-1)
    place = 0 if axis is None else normalize_axis(axis, ndim)
    if x.shape[place] == 0:
        raise ShapeError(f"quantile: axis {place} of {x.shape} is empty")
    x = sort(astype(x, "float64") if x.dtype.kind in "biu" else x, axis=place)
    last = count_along(x, (place,), np.dtype("float64")) - 1
    position = last * shares
    if isinstance(position, Tensor):
        places: Any = [astype(t, "int64") for t in (floor(position), ceil(position), last)]
        part: Any = astype(position - floor(position), x.dtype)
    else:
        places = [np.asarray(t, "int64") for t in (np.floor(position), np.ceil(position), last)]
        part = np.asarray(position % 1.0, x.dtype)
    low, high, end = (take(x, t, axis=place) for t in places)
    if shares.ndim:  # the axis of the shares stands at `place`; it goes to the front
        low, high = (moveaxis(t, place, 0) for t in (low, high))
        part = part.reshape((-1, *(1,) * (x.ndim - 1)))
    y = low + where(equal(low, high), 0, high - low) * part  # equal infinities have no difference
    y = where(isnan(end), np.nan, y)  # sorted, NaN is last
    if not as_flag(keepdims, "keepdims"):
        return y
    return y.reshape((*shares.shape, *(1,) * ndim)) if axis is None else expand_dims(y, place + shares.ndim)


def median(x: Any, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The middle one of the elements along ``axis`` in order, or the mean of the middle two.

    >>> session.run(fg.median([[1.0, 9.0, 2.0], [4.0, 3.0, 8.0]], axis=1))
    array([2., 4.])
    """
    return quantile(x, 0.5, axis, keepdims)


def _with_ddof(function: Any) -> Any:
    """``function`` with NumPy's older name of the correction."""

    def call(x: Any, axis: Axis = None, ddof: float = 0.0, keepdims: bool = False, correction: float = 0.0) -> Tensor:
        return function(x, axis, ddof or correction, keepdims)  # type: ignore[no-any-return]

    return call


public(_with_ddof(std), "std")
public(_with_ddof(var), "var")
for _function in (count_nonzero, quantile, median):
    public(_function)
