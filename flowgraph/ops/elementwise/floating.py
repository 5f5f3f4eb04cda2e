"""What is peculiar to floating point: NaN, infinities, signs of zeros, the next number, and closeness."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ...errors import DtypeError
from ...graph import Tensor, no_gradient, op
from ...graph.arguments import as_flag
from ...graph.op import public
from ..samples import LOW, binary, unary
from .arithmetic import abs
from .base import Binary, Unary
from .casts import like
from .comparison import equal, less_equal, logical_and, logical_or
from .where import where


class Kind(Unary):
    """Base of the questions about one number."""

    in_place = False
    vjp = no_gradient("a truth value has no derivative")
    samples: ClassVar[Any] = unary(edges=(-np.inf, -0.0, 0.0, np.nan), also=LOW)


class IsFinite(Kind):
    """Whether ``x`` is neither infinite nor NaN, element by element."""

    ufunc = "isfinite"


class IsInf(Kind):
    """Whether ``x`` is infinite, of either sign, element by element."""

    ufunc = "isinf"


class IsNan(Kind):
    """Whether ``x`` is NaN, element by element."""

    ufunc = "isnan"


class Signbit(Kind):
    """Whether ``x`` carries a minus sign, -0.0 and NaN included, element by element."""

    ufunc = "signbit"


class Copysign(Binary):
    """The size of ``x`` with the sign of ``y``, element by element."""

    ufunc = "copysign"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        return lambda: like(where(equal(signbit(x), signbit(y)), g, -g), x), None

    samples = binary(apart=0.05, edges=(-np.inf, -0.0, 0.0, 1.0), also=LOW)


class Nextafter(Binary):
    """The next number after ``x`` on the way to ``y`` that its dtype has, element by element; no gradient."""

    ufunc = "nextafter"
    vjp = no_gradient("a step to the next number is one of rounding, not of calculus")
    samples = binary(edges=(-np.inf, -0.0, 0.0, 1.0), also=LOW)


isfinite = public(op(IsFinite, name="isfinite"))
isinf = public(op(IsInf, name="isinf"))
isnan = public(op(IsNan, name="isnan"))
signbit = public(op(Signbit))
copysign = public(op(Copysign))
nextafter = public(op(Nextafter))


def nan_to_num(x: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """``x`` with finite numbers in place of NaN and of the infinities, element by element; the gradient there is 0.

    posinf, neginf  None for the largest and the smallest number that the dtype has

    >>> session.run(fg.nan_to_num([np.nan, 1.0, np.inf], posinf=9.0))
    array([0., 1., 9.])
    """
    (number,) = copysign.lift((x,))
    if number.dtype.kind in "biu":
        return number
    if number.dtype.kind == "c":
        raise DtypeError(f"nan_to_num: replaces real numbers, got {number.dtype}", help="replace in fg.real(x) and fg.imag(x)")
    largest = largest_finite(number.dtype)
    y = where(isnan(number), nan, number)
    y = where(equal(number, np.inf), largest if posinf is None else posinf, y)
    return where(equal(number, -np.inf), -largest if neginf is None else neginf, y)


def largest_finite(dtype: np.dtype[Any]) -> float:
    """The largest number that a float dtype has."""
    zero = np.zeros((), dtype)
    return float(np.nextafter(zero + np.array(np.inf, dtype), zero))


def isclose(x: Any, y: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Whether ``x`` and ``y`` differ by no more than ``atol + rtol * abs(y)``, element by element; infinities only if they are equal.

    equal_nan  whether NaN counts as close to NaN

    >>> session.run(fg.isclose([1.0, 2.0], [1.0 + 1e-9, 2.1]))
    array([ True, False])
    """
    x, y = equal.lift((x, y))
    near = logical_and(isfinite(y), less_equal(abs(x - y), atol + rtol * abs(y)))
    near = logical_or(near, equal(x, y))
    return logical_or(near, logical_and(isnan(x), isnan(y))) if as_flag(equal_nan, "equal_nan") else near


public(nan_to_num)
public(isclose)
