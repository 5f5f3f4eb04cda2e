"""Powers, exponentials, logarithms and roots."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...graph import Tensor, op
from ...graph.op import public
from ..samples import COMPLEX, LOW, binary, unary
from .base import Binary, Unary
from .casts import conj, like
from .comparison import equal
from .where import where


class Pow(Binary):
    """``x`` to the power of ``y``, element by element.

    returns  promoted dtype; integers stay integers, so negative integer exponents are an error, as in NumPy
    """

    ufunc = "power"
    flops_each = 20.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        # At y = 0 the derivative by x is 0 even where x is 0 (0 * 0**-1 would be NaN); at x = 0 the one by y counts as 0,
        # the limit from above for y > 0.
        def by_x() -> Tensor:
            zero = equal(y, 0)
            return like(g * where(zero, 0, conj(y * pow(x, where(zero, 1, y - 1)))), x)

        def by_y() -> Tensor:
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


class Log1p(Unary):
    """``log(1 + x)``, exact for small ``x``."""

    ufunc = "log1p"
    flops_each = 10.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g / conj(x + 1)

    samples = unary((-0.5, 3.0), edges=(-1.0, 1e-300, np.inf), also=COMPLEX + LOW)


class Sqrt(Unary):
    """Square root, element by element; NaN below 0."""

    ufunc = "sqrt"
    flops_each = 4.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * 0.5 / conj(out)

    samples = unary((0.5, 3.0), edges=(0.0, 1e-300, np.inf), also=COMPLEX + LOW)


pow = public(op(Pow))
exp = public(op(Exp))
expm1 = public(op(Expm1))
log = public(op(Log))
log1p = public(op(Log1p))
sqrt = public(op(Sqrt))
