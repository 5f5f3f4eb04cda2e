"""The larger and the smaller of two, and what lies between bounds."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...errors import DtypeError
from ...graph import Op, Spec, Tensor, op
from ...graph.op import public
from ...graph.spec import broadcast_shapes, promote_dtypes
from ..samples import LOW, Over, binary
from .base import Binary, Elementwise
from .casts import astype, like
from .comparison import equal, greater, greater_equal, less, less_equal, logical_and
from .where import where


class Maximum(Binary):
    """The larger of ``x`` and ``y``, element by element; NaN where either is. A tie gives its gradient half to each."""

    ufunc = "maximum"
    ordered = True

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        return lambda: like(g * share(x, y, greater), x), lambda: like(g * share(y, x, greater), y)

    samples = binary((-2, 2), apart=0.05, edges=(-np.inf, 0.0, np.inf), also=LOW)


class Minimum(Binary):
    """The smaller of ``x`` and ``y``, element by element; NaN where either is. A tie gives its gradient half to each."""

    ufunc = "minimum"
    ordered = True

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        return lambda: like(g * share(x, y, less), x), lambda: like(g * share(y, x, less), y)

    samples = binary((-2, 2), apart=0.05, edges=(-np.inf, 0.0, np.inf), also=LOW)


def share(x: Tensor, y: Tensor, wins: Any) -> Tensor:
    """1 where x wins over y, 1/2 where they are equal, else 0."""
    dtype = promote_dtypes(x.dtype, y.dtype)
    return astype(wins(x, y), dtype) + astype(equal(x, y), dtype) * 0.5


class Clip(Elementwise):
    """``x`` held between bounds: the first of them the lower one if ``low``, the last the upper one if ``high``."""

    flops_each = 2.0

    def infer(self, x: Any, *bounds: Any, low: bool, high: bool) -> Spec:
        dtypes = [x.dtype, *(bound.dtype for bound in bounds)]
        if any(dtype.kind == "c" for dtype in dtypes):
            raise DtypeError("complex numbers have no order", help="clip fg.real(x) and fg.imag(x)")
        return Spec(broadcast_shapes(x.shape, *(bound.shape for bound in bounds)), promote_dtypes(*dtypes))

    def bind(self, xp: Any, attrs: dict[str, Any]) -> Any:
        return Op.bind(self, xp, attrs)

    def kernel(self, xp: Any, *inputs: Any, out: Any = None, low: bool = True, high: bool = True) -> Any:
        x, *bounds = inputs
        if not high:
            return xp.maximum(x, bounds[0], out=out)
        if not low:
            return xp.minimum(x, bounds[0], out=out)
        if x.dtype.kind == "V":  # for bfloat16, clip would answer in float32
            return xp.minimum(xp.maximum(x, bounds[0]), bounds[1], out=out)
        return xp.clip(x, *bounds, out=out)

    def scalar(self, s: Any, *inputs: Any, low: bool, high: bool) -> Any:
        dtype = promote_dtypes(*[x.dtype for x in inputs])
        x, *bounds = [s.astype(x, dtype) for x in inputs]
        if low:
            x = s.maximum(x, bounds[0])
        return s.minimum(x, bounds[-1]) if high else x

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *bounds: Tensor, low: bool, high: bool) -> Any:
        lower, upper = bounds[0] if low else None, bounds[-1] if high else None

        def passed(to: Tensor, *conditions: Tensor) -> Tensor:
            return like(where(functools.reduce(logical_and, conditions), g, 0), to)

        entries = [lambda: passed(x, *([greater_equal(x, lower)] if low else []), *([less_equal(x, upper)] if high else []))]
        if lower is not None:
            entries.append(lambda: passed(lower, less(x, lower), *([less_equal(lower, upper)] if high else [])))
        if upper is not None:
            entries.append(lambda: passed(upper, greater(maximum(x, lower) if low else x, upper)))
        return tuple(entries)

    samples = Over(
        [((2, 3), (2, 3), (2, 3)), ((2, 3), (), (3,)), ((0, 3), (), ()), ((3,), (2, 1), ())],
        apart=0.05,
        attrs=({"low": True, "high": True},),
        also=LOW,
    ) + binary(apart=0.05, attrs=({"low": True, "high": False}, {"low": False, "high": True}), edges=(-np.inf, 0.0, np.nan), also=LOW)


maximum = public(op(Maximum))
minimum = public(op(Minimum))
_clip = op(Clip)


def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """``x`` held between ``min`` and ``max``, element by element; None leaves that side open.

    min, max  numbers or tensors that broadcast with ``x``. Where ``min`` is above ``max``, the result is ``max``
    returns   promoted dtype. On a bound the gradient goes to ``x``, outside to the bound

    >>> session.run(fg.clip([-1.0, 0.5, 2.0], 0.0, 1.0))
    array([0. , 0.5, 1. ])
    """
    bounds = [bound for bound in (min, max) if bound is not None]
    x, *bounds = _clip.lift((x, *bounds))
    return _clip(x, *bounds, low=min is not None, high=max is not None) if bounds else x


public(clip)
