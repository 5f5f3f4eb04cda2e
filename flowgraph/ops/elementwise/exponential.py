"""Powers, exponentials, logarithms and roots."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...graph import Op, Tensor, op
from ...graph.op import public
from ..samples import COMPLEX, LOW, binary, unary
from .arithmetic import reciprocal, square
from .base import Binary, Unary
from .casts import conj, like
from .comparison import equal
from .where import where


class Pow(Binary):
    """``x`` to the power of ``y``."""

    ufunc = "power"
    flops_each = 20.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        def by_x() -> Tensor:
            if y.shape == () and y.node.op.name == "constant" and (n := y.node.attrs["value"].item()):
                return like(g * (n if n == 1 else conj(n * pow(x, n - 1))), x)
            # At y = 0 the derivative is 0 even where x is 0 (0 * 0**-1 would be NaN).
            zero = equal(y, 0)
            return like(g * where(zero, 0, conj(y * pow(x, where(zero, 1, y - 1)))), x)

        def by_y() -> Tensor:
            # At x = 0 it counts as 0, the limit from above for y > 0.
            return like(g * where(equal(x, 0), 0, conj(out * log(where(equal(x, 0), 1, x)))), y)

        return by_x, by_y

    samples = binary((0.5, 2), (-2, 2), edges=(0.0, 1.0, 2.0, np.inf), also=COMPLEX + LOW)


class Exp(Unary):
    """e to the power of ``x``, element by element."""

    ufunc = "exp"
    flops_each = 10.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * conj(out)

    samples = unary(edges=(-np.inf, -800.0, 0.0, 800.0), also=COMPLEX + LOW)


class Exp2(Unary):
    """2 to the power of ``x``, element by element."""

    ufunc = "exp2"
    flops_each = 200.0  # NumPy goes from number to number

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * (conj(out) * math.log(2))

    samples = unary(edges=(-np.inf, -2000.0, 0.0, 2000.0), also=COMPLEX + LOW)


class Expm1(Unary):
    """``exp(x) - 1``, exact for small ``x``."""

    ufunc = "expm1"
    flops_each = 10.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * conj(out + 1)

    samples = unary(edges=(-np.inf, 1e-300, 800.0), also=COMPLEX + LOW)


class Log(Unary):
    """Natural logarithm, element by element; -inf at 0 and NaN below."""

    ufunc = "log"
    flops_each = 10.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g / conj(x)

    samples = unary((0.5, 3.0), edges=(0.0, 1e-300, np.inf), also=COMPLEX + LOW)


class Log2(Unary):
    """Logarithm to base 2, element by element; -inf at 0 and NaN below."""

    ufunc = "log2"
    flops_each = 10.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g / conj(x) / math.log(2)

    samples = unary((0.5, 3.0), edges=(0.0, 1e-300, 8.0, np.inf), also=COMPLEX + LOW)


class Log10(Unary):
    """Logarithm to base 10, element by element; -inf at 0 and NaN below."""

    ufunc = "log10"
    flops_each = 10.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g / conj(x) / math.log(10)

    samples = unary((0.5, 3.0), edges=(0.0, 1e-300, 1000.0, np.inf), also=COMPLEX + LOW)


class Log1p(Unary):
    """``log(1 + x)``, exact for small ``x``."""

    ufunc = "log1p"
    flops_each = 10.0

    def bind(self, xp: Any, attrs: dict[str, Any]) -> Any:
        return Op.bind(self, xp, attrs)

    def kernel(self, xp: Any, *inputs: Any, out: Any = None) -> Any:
        (x,) = inputs
        if x.dtype.kind != "c":
            return xp.log1p(x, out=out)
        # NumPy takes the logarithm of abs(1 + x), which for a small x is that of 1. This is half that of abs(1 + x)**2 less 1.
        real, imag = x.real, x.imag
        near = xp.maximum(xp.absolute(real), xp.absolute(imag)) < 0.5
        size = xp.where(near, 0.5 * xp.log1p(real * (real + 2) + imag * imag), xp.log(xp.hypot(real + 1, imag)))
        if out is None:
            out = xp.empty(x.shape, x.dtype)
        out.imag = xp.arctan2(imag, real + 1)
        out.real = size
        return out

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g / conj(x + 1)

    samples = unary((-0.5, 3.0), edges=(-1.0, 1e-300, np.inf), also=COMPLEX + LOW)


class Logaddexp(Binary):
    """``log(exp(x) + exp(y))`` without overflow, element by element.

    >>> session.run(fg.logaddexp(1000.0, 1000.0))
    np.float64(1000.6931471805599)
    """

    ufunc = "logaddexp"
    flops_each = 20.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        return lambda: like(g * exp_difference(x, out), x), lambda: like(g * exp_difference(y, out), y)

    samples = binary(edges=(-np.inf, -800.0, 0.0, 800.0), also=LOW)


class Sqrt(Unary):
    """Square root, element by element; NaN below 0."""

    ufunc = "sqrt"
    flops_each = 4.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * 0.5 / conj(out)

    samples = unary((0.5, 3.0), edges=(0.0, 1e-300, np.inf), also=COMPLEX + LOW)


class Cbrt(Unary):
    """Cube root with the sign of ``x``, element by element."""

    ufunc = "cbrt"
    flops_each = 10.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g / (3 * out * out)

    samples = unary((0.5, 3.0), edges=(-8.0, 0.0, 1e-300, np.inf), also=LOW)


_pow = op(Pow)
exp = public(op(Exp))
exp2 = public(op(Exp2))
expm1 = public(op(Expm1))
log = public(op(Log))
log2 = public(op(Log2))
log10 = public(op(Log10))
log1p = public(op(Log1p))
logaddexp = public(op(Logaddexp))
sqrt = public(op(Sqrt))
cbrt = public(op(Cbrt))


def exp_difference(x: Tensor, y: Tensor) -> Tensor:
    """``exp(x - y)``, and 1 where both are the same infinity."""
    return exp(where(equal(x, y), 0, x - y))


_SHORTER = {2: square, 0.5: sqrt, -1: reciprocal}


def pow(x: Any, y: Any) -> Tensor:
    """``x`` to the power of ``y``, element by element; 0 to the power of 0 is 1. A tensor's ``**`` builds it.

    returns  promoted dtype; integers stay integers, so negative integer exponents are an error, as in NumPy. A negative
        ``x`` has only whole powers, others are NaN. The numbers 2, 0.5 and -1 give square, sqrt and reciprocal, as in NumPy

    >>> session.run(fg.pow(2.0, [0, 3, -1]))
    array([1. , 8. , 0.5])
    """
    if y.__class__ in (int, float) and isinstance(x, Tensor) and x.dtype.kind in "fcV":
        shorter = _SHORTER.get(y)
        if shorter is not None:
            return shorter(x)
    return _pow(x, y)


public(pow, "pow", "power")
