"""Sizes of vectors and matrices: norms, condition numbers, ranks; and the cross product."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import Tensor
from ..graph.arguments import as_flag
from ..graph.op import public
from ..graph.spec import format_shape, normalize_axes, normalize_axis
from .elementwise import abs, astype, divide, equal, greater, maximum, multiply, not_equal, pow, real_dtype, subtract, where
from .join import stack
from .linalg_base import lifted
from .linalg_functions import default_rtol
from .linalg_solve import inv
from .linalg_spectral import svdvals
from .reduce import Axis, euclidean_norm, max, min, size, sum
from .shape import expand_dims, permute_dims


def vector_norm(x: Any, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """The length of the vectors that lie along ``axis`` (an int, several taken as one, or None for all).

    ord      2: Euclidean; 1: the sum of absolute values; inf, -inf: the largest, the smallest of them; 0: how many are not 0;
             any other number p: the sum of their p-th powers, to the power of 1 / p
    returns  real tensor. For finite p above 0, the gradient where it is 0 is 0.

    >>> session.run(fg.linalg.vector_norm([[3.0, 4.0], [0.0, 5.0]], axis=1))
    array([5., 5.])
    """
    (x,) = lifted(euclidean_norm, x)
    axes, keepdims = normalize_axes(axis, x.ndim), as_flag(keepdims, "keepdims")
    if isinstance(ord, bool) or not isinstance(ord, int | float | np.number):
        raise ArgumentError(f"vector_norm: ord is a number, inf or -inf, got {ord!r}", help="matrix_norm takes names")
    if ord == 2:
        return euclidean_norm(x, axis=axes, keepdims=keepdims)
    if ord == 0:
        return sum(astype(not_equal(x, 0), real_dtype(x.dtype)), axis=axes, keepdims=keepdims)
    sizes = abs(x)
    if ord == 1:
        return sum(sizes, axis=axes, keepdims=keepdims)
    if ord in (math.inf, -math.inf):
        return (max if ord > 0 else min)(sizes, axis=axes, keepdims=keepdims)
    total = sum(pow(sizes, float(ord)), axis=axes, keepdims=keepdims)
    if ord < 0:
        return pow(total, 1.0 / float(ord))
    nothing = equal(total, 0)  # where the root would have an infinite gradient
    return where(nothing, 0, pow(where(nothing, 1, total), 1.0 / float(ord)))


def matrix_norm(x: Any, *, keepdims: bool = False, ord: Any = "fro") -> Tensor:
    """The norm of each matrix (..., n, m).

    ord      "fro": the root of the sum of squares; "nuc": the sum of the singular values; 2, -2: the largest, the smallest of them;
             1, -1: the largest, the smallest sum of absolute values in a column; inf, -inf: in a row
    returns  (...), or (..., 1, 1) with ``keepdims``
    raises   ArgumentError for another ``ord``, ShapeError for fewer than two dimensions

    >>> session.run(fg.linalg.matrix_norm([[3.0, 0.0], [0.0, 4.0]]))
    np.float64(5.0)
    """
    (x,) = lifted(euclidean_norm, x)
    if x.ndim < 2:
        raise ShapeError(f"matrix_norm: needs matrices, got {format_shape(x.shape)}")
    if not isinstance(ord, str | int | float | np.number | None):
        raise ArgumentError(f'matrix_norm: ord is "fro", "nuc", 1, -1, 2, -2, inf or -inf, got {ord!r:.60}')
    if ord is None or ord == "fro":
        return vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    if ord in ("nuc", 2, -2):
        reduce = {"nuc": sum, 2: max, -2: min}[ord]
        result = reduce(svdvals(x), axis=-1)
    elif ord in (1, -1, math.inf, -math.inf):
        lines = sum(abs(x), axis=-2 if builtins.abs(ord) == 1 else -1)
        result = (max if ord > 0 else min)(lines, axis=-1)
    else:
        raise ArgumentError(f'matrix_norm: ord is "fro", "nuc", 1, -1, 2, -2, inf or -inf, got {ord!r}')
    return expand_dims(expand_dims(result, -1), -1) if keepdims else result


def norm(x: Any, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The norm of vectors or matrices, as ``np.linalg.norm`` chooses between them.

    ord    as of `vector_norm` or `matrix_norm`; None for the root of the sum of squares
    axis   an int: vectors along it; two: matrices in them; None: all of x, whose number of dimensions says which it is
    raises ShapeError for None with more than two dimensions and an ``ord``

    >>> session.run(fg.linalg.norm([3.0, 4.0]))
    np.float64(5.0)
    """
    (x,) = lifted(euclidean_norm, x)
    if axis is None and ord is None:
        return vector_norm(x, keepdims=keepdims)
    axes = tuple(range(x.ndim)) if axis is None else tuple(axis) if isinstance(axis, Sequence) else (axis,)
    if len(axes) == 1:
        return vector_norm(x, axis=axes, keepdims=keepdims, ord=2 if ord is None else ord)
    if len(axes) != 2:
        raise ShapeError(f"norm: {len(axes)} axes hold neither vectors nor matrices", help="name one or two with axis=")
    rows, columns = (normalize_axis(a, x.ndim) for a in axes)
    if rows == columns:
        raise ArgumentError(f"norm: axis {axes} names one axis twice")
    order = [a for a in range(x.ndim) if a not in (rows, columns)]
    result = matrix_norm(permute_dims(x, [*order, rows, columns]), ord=ord)
    for place in sorted((rows, columns)) if keepdims else ():
        result = expand_dims(result, place)
    return result


def cond(x: Any, p: Any = None) -> Tensor:
    """The condition number of each matrix: by how much it can stretch an error in what it is applied to.

    p        None or 2: the largest singular value over the smallest, -2: the inverse of that, for any matrix; else, for square ones, an
             ``ord`` of `matrix_norm`: the norm times that of the inverse
    returns  (...); inf for a singular matrix (with p of None, 2)

    >>> session.run(fg.linalg.cond([[4.0, 0.0], [0.0, 1.0]]))
    np.float64(4.0)
    """
    (x,) = lifted(euclidean_norm, x)
    if p is None or (isinstance(p, int | float) and p in (2, -2)):
        s = svdvals(x)
        ends = s[..., 0], s[..., -1]
        return divide(*(ends if p != -2 else ends[::-1]))
    return multiply(matrix_norm(x, ord=p), matrix_norm(inv(x), ord=p))


def matrix_rank(x: Any, rtol: float | None = None) -> Tensor:
    """How many singular values of each matrix (..., n, m) are above ``rtol`` times the largest, as int64.

    rtol  None for max(n, m) times the resolution of the dtype

    >>> session.run(fg.linalg.matrix_rank([[1.0, 1.0], [1.0, 1.0]]))
    np.int64(1)
    """
    (x,) = lifted(euclidean_norm, x)
    s = svdvals(x)
    limit: Any = rtol
    if rtol is None:
        if all(isinstance(d, int) for d in x.shape[-2:]):
            limit = default_rtol(x)
        else:
            limit = astype(maximum(size(x, -1), size(x, -2)), s.dtype) * float(np.finfo(s.dtype).eps)
    return sum(astype(greater(s, s[..., :1] * limit), "int64"), axis=-1)


def cross(x: Any, y: Any, axis: int = -1) -> Tensor:
    """The cross product of vectors of three numbers along ``axis``; the other axes broadcast.

    raises  ShapeError unless both have size 3 there

    >>> session.run(fg.linalg.cross([1.0, 0.0, 0.0], [0.0, 1.0, 0.0]))
    array([0., 0., 1.])
    """
    x, y = multiply.lift((x, y))
    parts = []
    for t in (x, y):
        place = normalize_axis(axis, t.ndim)
        if t.shape[place] not in (3, None) and not isinstance(t.shape[place], str):
            raise ShapeError(f"cross: size 3 is needed along axis {axis} of {format_shape(t.shape)}")
        parts.append([t[(slice(None),) * place + (i,)] for i in range(3)])
    (a, b, c), (d, e, f) = parts
    results = [subtract(b * f, c * e), subtract(c * d, a * f), subtract(a * e, b * d)]
    return stack(results, axis)


for _function in (vector_norm, matrix_norm, norm, cond, matrix_rank, cross):
    public(_function, f"linalg.{_function.__name__}")
public(cross)
