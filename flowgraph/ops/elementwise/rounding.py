"""Whole numbers near a number. All are constant between their jumps, so none has a gradient."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ...errors import ArgumentError
from ...graph import Tensor, no_gradient, op
from ...graph.op import public
from ..samples import LOW, unary
from .base import Unary
from .casts import astype


class Rounding(Unary):
    """Base: the samples reach halves, signed zeros and whole numbers."""

    vjp = no_gradient("a rounded number is constant between its jumps")
    samples: ClassVar[Any] = unary(edges=(-1.5, -0.5, -0.0, 0.5, 2.0, 2.5), also=LOW)


class Floor(Rounding):
    """Largest whole number not above ``x``, element by element; no gradient."""

    ufunc = "floor"


class Ceil(Rounding):
    """Smallest whole number not below ``x``, element by element; no gradient."""

    ufunc = "ceil"


class Trunc(Rounding):
    """The whole number next to ``x`` towards 0, element by element; no gradient."""

    ufunc = "trunc"


class Rint(Rounding):
    """The whole number nearest to ``x``, halves to the even one."""

    ufunc = "rint"


floor = public(op(Floor))
ceil = public(op(Ceil))
trunc = public(op(Trunc), "trunc", "fix")
rint = public(op(Rint))


def round(x: Any, decimals: int = 0) -> Tensor:
    """``x`` rounded to ``decimals`` digits behind the point, halves to the even digit; no gradient.

    decimals  may be negative: -2 rounds to hundreds
    returns   dtype of ``x``; integers stay as they are unless ``decimals`` is negative
    raises    ArgumentError for ``decimals`` that are no whole number

    >>> session.run(fg.round([0.5, 1.5, 2.344], 2))
    array([0.5 , 1.5 , 2.34])
    """
    if not isinstance(decimals, int | np.integer):
        raise ArgumentError(f"round: decimals is a whole number, got {decimals!r}")
    (number,) = rint.lift((x,))
    if number.dtype.kind in "biu":
        scale = 10 ** -min(decimals, 0)
        return astype(rint(number / scale), number.dtype) * scale if scale > 1 else number
    if decimals == 0:
        return rint(number)
    # By a whole power of ten, which is exact, where its reciprocal would not be.
    scale = 10.0 ** abs(decimals)
    return rint(number * scale) / scale if decimals > 0 else rint(number / scale) * scale


public(round, "round", "around")
