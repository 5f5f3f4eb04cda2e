"""Trigonometric and hyperbolic functions and their inverses."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...graph import Tensor, op
from ...graph.op import public
from ..samples import COMPLEX, LOW, unary
from .base import Unary
from .casts import conj


class Sin(Unary):
    """Sine of ``x`` in radians, element by element."""

    ufunc = "sin"
    flops_each = 15.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * conj(cos(x))

    samples = unary(edges=(0.0, 1e6), also=COMPLEX + LOW)


class Cos(Unary):
    """Cosine of ``x`` in radians, element by element."""

    ufunc = "cos"
    flops_each = 15.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return -g * conj(sin(x))

    samples = unary(edges=(0.0, 1e6), also=COMPLEX + LOW)


class Tanh(Unary):
    """Hyperbolic tangent, element by element."""

    ufunc = "tanh"
    flops_each = 15.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * conj(1 - out * out)

    samples = unary(edges=(-np.inf, -30.0, 0.0, 1e-300), also=COMPLEX + LOW)


sin = public(op(Sin))
cos = public(op(Cos))
tanh = public(op(Tanh))
