"""The normalised sinc function and all its derivatives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...errors import DtypeError
from ...graph import Spec, Tensor, op
from ...graph.op import Op, public
from ..bits import wide
from ..samples import LOW, unary
from .base import Elementwise


class Sinc(Elementwise):
    """Derivative ``order`` of ``sin(pi x) / (pi x)``: closed under differentiation, so exact at 0 in every order."""

    flops_each = 40.0

    def infer(self, x: Any, *, order: int) -> Spec:
        if x.dtype.kind == "c":
            raise DtypeError(f"takes real numbers, got {x.dtype}")
        return Spec(x.shape, np.dtype("float64") if x.dtype.kind in "biu" else x.dtype)

    def bind(self, xp: Any, attrs: dict[str, Any]) -> Any:
        return Op.bind(self, xp, attrs)

    def kernel(self, xp: Any, *inputs: Any, out: Any = None, order: int = 0) -> Any:
        dtype = self.infer(*inputs, order=order).dtype
        x = xp.asarray(inputs[0], wide(dtype))
        t = x * math.pi
        y = xp.where(xp.abs(t) > order + 1, _far(xp, x, order), _near(xp, t, order)) * math.pi**order
        if out is None:
            return y.astype(dtype, copy=False)
        out[...] = y
        return out

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, order: int) -> Any:
        return g * _sinc(x, order=order + 1)

    samples = unary(attrs=({"order": 0}, {"order": 1}, {"order": 2}), edges=(-1e300, 0.0, 1e-300, 1.0, np.inf), also=LOW)


def _far(xp: Any, x: Any, order: int) -> Any:
    """Derivative ``order`` of sin(t) / t from those below it, for t = pi x above order: ``t f[k] + k f[k-1]`` is derivative k of the sine.

    Of the sine's turns only what x has beside a whole number is left, which is exact: next to one, the sine of t itself would hold
    nothing but the rounding of t.
    """
    whole = xp.rint(x)
    odd = whole - 2 * xp.rint(whole * 0.5)  # -1, 0 or 1
    sign = 1 - 2 * odd * odd
    rest = (x - whole) * math.pi
    waves = [sign * xp.sin(rest)]
    if order:
        cosine = sign * xp.cos(rest)
        waves += [cosine, -waves[0], -cosine]
    t = xp.where(x == 0, 1, x) * math.pi
    y = waves[0] / t
    for k in range(1, order + 1):
        y = (waves[k % 4] - k * y) / t
    return y


def _near(xp: Any, t: Any, order: int) -> Any:
    """The same by its power series, which needs t below order + 1 or so."""
    t = xp.clip(t, -order - 1.0, order + 1.0)
    y = xp.zeros_like(t)
    last = 4 * (order + 1) + 20
    # Horner's rule from the last term: (-1)^n t^(2n - order) / ((2n + 1) (2n - order)!)
    for n in range(last // 2, -(-order // 2) - 1, -1):
        power = 2 * n - order
        y = y * (t * t) + (-1) ** n / ((2 * n + 1) * math.factorial(power))
    return y * t if order % 2 else y


_sinc = op(Sinc)


def sinc(x: Any) -> Tensor:
    """``sin(pi x) / (pi x)``, element by element, 1 at 0; its gradients of any order are exact there, too.

    x        real tensor; integers count as float64
    returns  same shape and dtype

    >>> session.run(fg.sinc([0.0, 0.5, 1.5]))
    array([ 1.        ,  0.63661977, -0.21220659])
    """
    return _sinc(x, order=0)


public(sinc)
