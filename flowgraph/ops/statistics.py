"""Variance, standard deviation and counts, made of other operations."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..graph import Tensor
from ..graph.op import public
from ..graph.spec import normalize_axes
from .elementwise import astype, maximum, not_equal, real_dtype, square, wide_dtype
from .reduce import Axis, count_along, mean, norm, sum


def std(x: Any, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """Standard deviation over ``axis``: the root of `var`. The gradient where all elements are equal is 0.

    correction  as in `var`

    >>> session.run(fg.std([1.0, 3.0]))
    np.float64(1.0)
    """
    (x,) = norm.lift((x,))
    dtype = real_dtype(x.dtype) if x.dtype.kind in "fcV" else np.dtype("float64")
    return astype(_std(x, axis, correction, keepdims), dtype)


def var(x: Any, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """Variance over ``axis``: the mean square of the distance from the mean.

    correction  what is taken off the number of elements that the squares are divided by; 1 estimates from a sample
    returns     floats of the dtype of ``x``, real for complex ``x``; integers give float64. NaN where nothing is left to divide by

    >>> session.run([fg.var([1.0, 3.0]), fg.var([1.0, 3.0], correction=1)])
    [np.float64(1.0), np.float64(2.0)]
    """
    (x,) = norm.lift((x,))
    dtype = real_dtype(x.dtype) if x.dtype.kind in "fcV" else np.dtype("float64")
    return astype(square(_std(x, axis, correction, keepdims)), dtype)


def _std(x: Tensor, axis: Axis, correction: float, keepdims: bool) -> Tensor:
    axes = normalize_axes(axis, x.ndim)
    x = astype(x, wide_dtype(x.dtype) if x.dtype.kind in "fcV" else "float64")
    total = norm(x - mean(x, axis=axes, keepdims=True), axis=axes, keepdims=bool(keepdims))
    count = count_along(x, axes, real_dtype(x.dtype))
    left = maximum(count - correction, 0) if isinstance(count, Tensor) else max(count - correction, 0)
    return total / left**0.5


def count_nonzero(x: Any, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Number of elements over ``axis`` that are not zero, int64; without gradient.

    >>> session.run(fg.count_nonzero([[0.0, 2.0], [1.0, 3.0]], axis=1))
    array([1, 2])
    """
    return sum(not_equal(x, 0), axis=axis, keepdims=keepdims)


for _function in (std, var, count_nonzero):
    public(_function)
