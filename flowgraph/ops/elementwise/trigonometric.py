"""Trigonometric and hyperbolic functions, their inverses, and angles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...graph import Tensor, op
from ...graph.op import public
from ..samples import COMPLEX, LOW, binary, unary
from .base import Binary, Unary
from .casts import conj, imag, like, real
from .comparison import equal
from .exponential import sqrt
from .where import where


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


class Tan(Unary):
    """Tangent of ``x`` in radians, element by element."""

    ufunc = "tan"
    flops_each = 15.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * conj(1 + out * out)

    samples = unary((-1.2, 1.2), edges=(0.0, 1e6), also=COMPLEX + LOW)


class Asin(Unary):
    """Angle in [-pi/2, pi/2] whose sine is ``x``, element by element; NaN outside [-1, 1]."""

    ufunc = "arcsin"
    flops_each = 15.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g / conj(sqrt((1 - x) * (1 + x)))

    samples = unary((-0.9, 0.9), edges=(-1.0, -0.0, 1.0, 2.0), also=COMPLEX + LOW)


class Acos(Unary):
    """Angle in [0, pi] whose cosine is ``x``, element by element; NaN outside [-1, 1]."""

    ufunc = "arccos"
    flops_each = 15.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return -g / conj(sqrt((1 - x) * (1 + x)))

    samples = unary((-0.9, 0.9), edges=(-1.0, -0.0, 1.0, 2.0), also=COMPLEX + LOW)


class Atan(Unary):
    """Angle in [-pi/2, pi/2] whose tangent is ``x``, element by element."""

    ufunc = "arctan"
    flops_each = 15.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g / conj(1 + x * x)

    samples = unary(edges=(-np.inf, -0.0, 1e200), also=COMPLEX + LOW)


class Atan2(Binary):
    """Angle in [-pi, pi] of the point (``x``, ``y``) seen from the origin, ``y`` first; its gradient at the origin counts as 0.

    >>> session.run(fg.atan2([1.0, 0.0], [0.0, -1.0]))
    array([1.57079633, 3.14159265])
    """

    ufunc = "arctan2"
    flops_each = 20.0

    def infer(self, y: Any, x: Any) -> Any:  # type: ignore[override]  # its arguments are called so everywhere
        return super().infer(y, x)

    def vjp(self, g: Tensor, out: Tensor, y: Tensor, x: Tensor) -> Any:
        # Divided by the distance twice: its square would overflow, or vanish, long before it does.
        distance = hypot(y, x)
        distance = where(equal(distance, 0), np.inf, distance)
        return lambda: like(g * (x / distance / distance), y), lambda: like(-g * (y / distance / distance), x)

    samples = binary((0.3, 2), (-2, 2), edges=(-np.inf, -0.0, 0.0, 1e-300), also=LOW)


class Hypot(Binary):
    """Length ``sqrt(x**2 + y**2)`` without overflow on the way, element by element; the gradient at the origin is 0."""

    ufunc = "hypot"
    flops_each = 5.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        length = where(equal(out, 0), 1, out)
        return lambda: like(g * (x / length), x), lambda: like(g * (y / length), y)

    samples = binary((0.3, 2), (-2, 2), edges=(-np.inf, 0.0, 1e200, 1e-300), also=LOW)


class Sinh(Unary):
    """Hyperbolic sine, element by element."""

    ufunc = "sinh"
    flops_each = 15.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * conj(cosh(x))

    samples = unary(edges=(-np.inf, -0.0, 1e-300, 800.0), also=COMPLEX + LOW)


class Cosh(Unary):
    """Hyperbolic cosine, element by element."""

    ufunc = "cosh"
    flops_each = 15.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * conj(sinh(x))

    samples = unary(edges=(-np.inf, 0.0, 800.0), also=COMPLEX + LOW)


class Tanh(Unary):
    """Hyperbolic tangent, element by element."""

    ufunc = "tanh"
    flops_each = 15.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * conj(1 - out * out)

    samples = unary(edges=(-np.inf, -30.0, 0.0, 1e-300), also=COMPLEX + LOW)


class Asinh(Unary):
    """Number whose hyperbolic sine is ``x``, element by element."""

    ufunc = "arcsinh"
    flops_each = 15.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g / conj(sqrt(x * x + 1))

    samples = unary(edges=(-np.inf, 0.0, 1e-300, 1e100), also=COMPLEX + LOW)


class Acosh(Unary):
    """Number, not negative, whose hyperbolic cosine is ``x``, element by element; NaN below 1."""

    ufunc = "arccosh"
    flops_each = 15.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g / conj(sqrt(x - 1) * sqrt(x + 1))

    samples = unary((1.3, 3.0), edges=(0.0, 1.0, 1e300, np.inf), also=COMPLEX + LOW)


class Atanh(Unary):
    """Number whose hyperbolic tangent is ``x``, element by element; NaN outside [-1, 1]."""

    ufunc = "arctanh"
    flops_each = 15.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g / conj((1 - x) * (1 + x))

    samples = unary((-0.9, 0.9), edges=(-1.0, 0.0, 1e-300, 2.0), also=COMPLEX + LOW)


class Deg2rad(Unary):
    """Degrees in radians, element by element."""

    ufunc = "deg2rad"
    flops_each = 1.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * (math.pi / 180)

    samples = unary((-360.0, 360.0), also=LOW)


class Rad2deg(Unary):
    """Radians in degrees, element by element."""

    ufunc = "rad2deg"
    flops_each = 1.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * (180 / math.pi)

    samples = unary((-7.0, 7.0), also=LOW)


sin = public(op(Sin))
cos = public(op(Cos))
tan = public(op(Tan))
asin = public(op(Asin), "asin", "arcsin")
acos = public(op(Acos), "acos", "arccos")
atan = public(op(Atan), "atan", "arctan")
atan2 = public(op(Atan2), "atan2", "arctan2")
hypot = public(op(Hypot))
sinh = public(op(Sinh))
cosh = public(op(Cosh))
tanh = public(op(Tanh))
asinh = public(op(Asinh), "asinh", "arcsinh")
acosh = public(op(Acosh), "acosh", "arccosh")
atanh = public(op(Atanh), "atanh", "arctanh")
deg2rad = public(op(Deg2rad), "deg2rad", "radians")
rad2deg = public(op(Rad2deg), "rad2deg", "degrees")


def angle(x: Any) -> Tensor:
    """Angle of ``x`` in the complex plane, in radians in [-pi, pi], element by element; its gradient at 0 counts as 0.

    >>> session.run(fg.angle([1j, -1.0]))
    array([1.57079633, 3.14159265])
    """
    (x,) = atan2.lift((x,))
    return atan2(imag(x), real(x))


public(angle)
