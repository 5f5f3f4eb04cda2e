"""Sums, differences, products, quotients, remainders and signs."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from ...graph import Tensor, no_gradient, op
from ...graph.op import public
from ..samples import COMPLEX, LOW, binary, unary
from .base import INTEGERS, Binary, Unary
from .casts import conj, like, real
from .comparison import equal
from .rounding import trunc
from .where import where


class Add(Binary):
    """Sum ``x + y``, element by element.

    >>> session.run(fg.add([1, 2], [10.0, 20.0]))
    array([11., 22.])
    """

    ufunc = "add"
    symbol = "+"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        return lambda: like(g, x), lambda: like(g, y)

    samples = binary(edges=(-1e300, 0.0, 1e300, np.inf), also=COMPLEX + LOW)


class Subtract(Binary):
    """Difference ``x - y``, element by element; not for booleans, as in NumPy."""

    ufunc = "subtract"
    symbol = "-"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        return lambda: like(g, x), lambda: like(-g, y)

    samples = binary(edges=(-1e300, 0.0, 1e300), also=COMPLEX + LOW)


class Multiply(Binary):
    """Product ``x * y``, element by element."""

    ufunc = "multiply"
    symbol = "*"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        return lambda: like(g * conj(y), x), lambda: like(g * conj(x), y)

    samples = binary(edges=(-1e200, 0.0, 1e-300, np.inf), also=COMPLEX + LOW)


class Divide(Binary):
    """Quotient ``x / y``, element by element; integers give floats."""

    ufunc = "divide"
    symbol = "/"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        return lambda: like(g / conj(y), x), lambda: like(-g * conj(out / y), y)

    samples = binary((-2, 2), (0.5, 2), edges=(-1.0, 0.0, 1e-300, np.inf), also=COMPLEX + LOW)


class FloorDivide(Binary):
    """Largest integer not above ``x / y``, element by element; an integer divided by 0 gives 0, as in NumPy."""

    ufunc = "floor_divide"

    def bind(self, xp: Any, attrs: dict[str, Any]) -> Any:
        return np.floor_divide if xp is np else partial(_floor_divide, xp)

    def kernel(self, xp: Any, *inputs: Any, out: Any = None) -> Any:
        return self.bind(xp, {})(*inputs, out=out)

    vjp = no_gradient("floor_divide is constant between its jumps")
    samples = binary((-9, 9), (1, 4), dtypes=INTEGERS)


class Remainder(Binary):
    """Remainder of ``x / y`` with the sign of ``y``, element by element; that of an integer divided by 0 is 0, as in NumPy."""

    ufunc = "remainder"

    def bind(self, xp: Any, attrs: dict[str, Any]) -> Any:
        return np.remainder if xp is np else partial(_remainder, xp)

    def kernel(self, xp: Any, *inputs: Any, out: Any = None) -> Any:
        return self.bind(xp, {})(*inputs, out=out)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        return lambda: like(g, x), lambda: like(-g * floor_divide(x, y), y)

    samples = binary((2.1, 2.9), (0.9, 1.0), edges=(-3.0, 0.0, 0.5, np.inf), also=LOW)


class Fmod(Binary):
    """Remainder of ``x / y`` with the sign of ``x``, element by element."""

    ufunc = "fmod"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        return lambda: like(g, x), lambda: like(-g * trunc(x / y), y)

    samples = binary((-2.9, -2.1), (0.9, 1.0), edges=(-3.0, 0.0, 0.5, np.inf), also=LOW)


class Negative(Unary):
    """``-x``, element by element."""

    ufunc = "negative"
    symbol = "-"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return -g

    samples = unary(edges=(-np.inf, -0.0, 0.0), also=COMPLEX + LOW)


class Abs(Unary):
    """Absolute value, element by element; the gradient at 0 is 0."""

    ufunc = "absolute"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * sign(x)

    samples = unary(apart=0.1, edges=(-np.inf, -0.0, 0.0), also=COMPLEX + LOW)


class Sign(Unary):
    """-1, 0 or 1 as a real ``x`` is negative, zero or positive."""

    ufunc = "sign"
    vjp = no_gradient("sign is constant between its jumps")
    samples = unary(edges=(-np.inf, -0.0, 0.0), also=LOW)


class Direction(Unary):
    """``x / abs(x)``, and 0 where that is 0: the sign of a complex ``x``."""

    ufunc = "sign"
    flops_each = 8.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        # On the unit circle only what is along it counts; the length of x divides it.
        size = abs(x)
        return (g - out * real(g * conj(out))) / where(equal(size, 0), np.inf, size)

    samples = unary(dtypes=("complex128",)) + unary(dtypes=("complex64",))


class Square(Unary):
    """``x * x``, element by element."""

    ufunc = "square"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * conj(x * 2)

    samples = unary(edges=(-1e200, 0.0, np.inf), also=COMPLEX + LOW)


class Reciprocal(Unary):
    """``1 / x``, element by element, for floats."""

    ufunc = "reciprocal"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return -g * conj(out * out)

    samples = unary((0.5, 3.0), edges=(0.0, 1e-300, np.inf), also=COMPLEX + LOW)


add = public(op(Add))
subtract = public(op(Subtract))
multiply = public(op(Multiply))
divide = public(op(Divide), "divide", "true_divide")
floor_divide = public(op(FloorDivide))
remainder = public(op(Remainder))
fmod = public(op(Fmod))
negative = public(op(Negative))
abs = public(op(Abs), "abs", "absolute")
_sign = op(Sign)
_direction = op(Direction)
square = public(op(Square))
reciprocal = public(op(Reciprocal))


def sign(x: Any) -> Tensor:
    """-1, 0 or 1 as ``x`` is negative, zero or positive, element by element; ``x / abs(x)`` for complex ``x``, 0 at 0.

    >>> session.run([fg.sign([-2.0, 0.0]), fg.sign(3.0 + 4.0j)])
    [array([-1.,  0.]), np.complex128(0.6+0.8j)]
    """
    if not isinstance(x, Tensor):
        (x,) = _sign.lift((x,))
    return (_direction if x.dtype.kind == "c" else _sign)(x)


def positive(x: Any) -> Tensor:
    """``x`` itself, as a tensor."""
    return negative.lift((x,))[0]


def divmod(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """``x // y`` and ``x % y``."""
    x, y = remainder.lift((x, y))
    return floor_divide(x, y), remainder(x, y)


public(positive)
public(sign)
public(divmod)


# CuPy has floor(x / y), and x - floor(x / y) * y: of 1 and 0.1 these are 10 and 0, of 1 and infinity 0 and NaN. What follows does as NumPy.


def _floor_divide(xp: Any, x: Any, y: Any, out: Any = None) -> Any:
    if x.dtype.kind in "iub" and y.dtype.kind in "iub":
        return xp.floor_divide(x, y, out=out)
    left = xp.fmod(x, y)
    whole = xp.rint((x - left) / y) - ((left != 0) & ((left < 0) != (y < 0)))
    return _into(out, xp.where(y == 0, x / y, whole), left.dtype)


def _remainder(xp: Any, x: Any, y: Any, out: Any = None) -> Any:
    if x.dtype.kind in "iub" and y.dtype.kind in "iub":
        return xp.remainder(x, y, out=out)
    left = xp.fmod(x, y)
    return _into(out, xp.copysign(xp.where((left != 0) & ((left < 0) != (y < 0)), left + y, left), y), left.dtype)


def _into(out: Any, made: Any, dtype: Any) -> Any:
    if out is None:
        return made.astype(dtype, copy=False)  # (of bfloat16 CuPy's where makes float32)
    out[...] = made
    return out
