"""References of the ops that act on each element by itself: mostly NumPy's own function in wider numbers."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import scipy.special

from .draws import EVERYTHING, POSITIVE, over
from .measure import Reference, limits
from .nodes import LEGENDRE

Array = Any
PLANE = (-5.0, 5.0)  # of the parts of complex inputs: far enough for every branch, and nothing overflows
MODERATE = (-1e3, 1e3)


def of(value: Any, *domains: Any, bound: float = 4.0, complex: tuple[float, float] | None = None, **rest: Any) -> Reference:
    """The reference of an op over ``domains``; ``attrs`` and ``most`` go on to `over`.

    Four ulps are what NumPy promises of its vector code. For complex numbers its functions are made of several of the real ones.
    """
    options = {name: rest.pop(name) for name in ("attrs", "most") if name in rest}
    return Reference(value, bound, rest.pop("complex_bound", 2 * bound), over(*domains, complex=complex, **options), **rest)


def exactly(value: Any, *domains: Any, complex: tuple[float, float] | None = None, **rest: Any) -> Reference:
    """That of an op whose result is always a number of its dtype, or a truth value."""
    return Reference(value, 0.0, draws=over(*(domains or (EVERYTHING,)), complex=complex, **rest), exact=True)


def next_after(x: Array, y: Array) -> Array:
    """By the bits, which count the numbers of one sign from 0 on."""
    bits = x.view(f"i{x.dtype.itemsize}")
    outwards = np.where(x > 0, y > x, y < x)
    stepped = np.asarray(bits + np.where(outwards, 1, -1).astype(bits.dtype)).view(x.dtype)
    least = np.copysign(np.asarray(limits(x.dtype).smallest_subnormal, x.dtype), y)
    return np.where(x == y, y, np.where(x == 0, least, stepped))


def expm1(z: Array) -> Array:
    if z.dtype.kind != "c":
        return np.expm1(z)
    x, y = z.real, z.imag
    return np.expm1(x) * np.cos(y) - 2 * np.sin(y / 2) ** 2 + 1j * (np.exp(x) * np.sin(y))


def log1p(z: Array) -> Array:
    if z.dtype.kind != "c":
        return np.log1p(z)
    x, y = z.real, z.imag
    size = np.where(np.abs(z) < 0.5, np.log1p(x * (2 + x) + y * y) / 2, np.log(np.hypot(1 + x, y)))
    return size + 1j * np.arctan2(y, 1 + x)


def pow_scale(x: Array, y: Array) -> Array:
    """The value; for complex numbers times the exponent whose exponential it is, as no library computes that with more digits."""
    value = np.abs(np.power(x, y))
    return value * (1 + np.abs(y * np.log(np.where(x == 0, 1, x)))) if x.dtype.kind == "c" else value


def logaddexp_scale(x: Array, y: Array) -> Array:
    """The larger input, or the logarithm that is added to it: where they cancel, the result has the digits that the input has."""
    return np.maximum(np.maximum(np.abs(x), np.abs(y)), np.log1p(np.exp(-np.abs(x - y))))


def sinc(x: Array, *, order: int) -> Array:
    """Order 0 by the sine of what is left of x beside the nearest whole number, which is exact; others by an integral.

    sin(t) / t is the mean of cos(s t) over s from 0 to 1, so that its derivatives are those of the cosine under the integral.
    """
    pi = 4 * np.arctan(np.ones((), x.dtype))
    if order == 0:
        near = np.rint(x)
        sine = np.where(np.fmod(near, 2) == 0, 1, -1) * np.sin(pi * (x - near))
        return np.where(x == 0, 1, sine / np.where(x == 0, 1, pi * x))
    total = np.zeros_like(x)
    for node, weight in zip(*LEGENDRE, strict=True):
        turn = pi * node * x
        wave = (np.cos(turn), -np.sin(turn), -np.cos(turn), np.sin(turn))[order % 4]
        total = total + weight * (pi * node) ** order * wave
    return np.where(np.isinf(x), np.nan, total)


def sinc_scale(x: Array, *, order: int) -> Array:
    """The value; of the derivatives, which have zeros where nothing is exact, what they reach nearby."""
    value = np.abs(sinc(x, order=order))
    return value if order == 0 else np.maximum(value, np.pi**order / (1 + order + np.pi * np.abs(x)))


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def elu(x: Array, *, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def clip(x: Array, *bounds: Array, low: bool, high: bool) -> Array:
    x = np.maximum(x, bounds[0]) if low else x
    return np.minimum(x, bounds[-1]) if high else x


def remainder(x: Array, y: Array) -> Array:
    rest = np.fmod(x, y)
    rest = np.where((rest != 0) & ((rest < 0) != (y < 0)), rest + y, rest)
    return np.where(np.isinf(y) & np.isfinite(x), np.where((x < 0) != (y < 0), np.where(x == 0, x, y), x), rest)


REFERENCES = {
    # What only moves, compares or rounds to whole numbers.
    "equal": exactly(operator.eq, EVERYTHING, EVERYTHING),
    "not_equal": exactly(operator.ne, EVERYTHING, EVERYTHING),
    "less": exactly(operator.lt, EVERYTHING, EVERYTHING),
    "less_equal": exactly(operator.le, EVERYTHING, EVERYTHING),
    "greater": exactly(operator.gt, EVERYTHING, EVERYTHING),
    "greater_equal": exactly(operator.ge, EVERYTHING, EVERYTHING),
    "logical_and": exactly(lambda x, y: (x != 0) & (y != 0)),
    "logical_or": exactly(lambda x, y: (x != 0) | (y != 0)),
    "logical_xor": exactly(lambda x, y: (x != 0) != (y != 0), EVERYTHING, EVERYTHING),
    "logical_not": exactly(lambda x: x == 0),
    "bitwise_and": exactly(operator.and_),
    "bitwise_or": exactly(operator.or_),
    "bitwise_xor": exactly(operator.xor),
    "bitwise_invert": exactly(operator.invert),
    "bitwise_left_shift": exactly(operator.lshift),
    "bitwise_right_shift": exactly(operator.rshift),
    "isfinite": exactly(lambda x: np.abs(x) < np.inf),
    "isinf": exactly(lambda x: np.abs(x) == np.inf),
    "isnan": exactly(lambda x: x != x),
    "signbit": exactly(lambda x: np.asarray(x).view(f"i{x.dtype.itemsize}") < 0),
    "copysign": exactly(lambda x, y: np.where(np.signbit(y), -np.abs(x), np.abs(x)), EVERYTHING, EVERYTHING),
    "nextafter": exactly(next_after, EVERYTHING, EVERYTHING),
    "floor": exactly(lambda x: x - np.mod(x, 1), MODERATE),
    "ceil": exactly(lambda x: x + np.mod(-x, 1), MODERATE),
    "trunc": exactly(lambda x: x - np.fmod(x, 1), MODERATE),
    "rint": exactly(lambda x: np.vectorize(round, otypes=[x.dtype])(x.astype(float)), MODERATE),
    "negative": exactly(lambda x: 0 - x, complex=PLANE),
    "sign": exactly(lambda x: (x > 0) * x.dtype.type(1) - (x < 0)),
    "conj": exactly(lambda z: z.real - 1j * z.imag, complex=PLANE),
    "real": exactly(lambda z: np.ascontiguousarray(z).view(z.real.dtype)[..., ::2].reshape(z.shape), complex=PLANE),
    "imag": exactly(lambda z: np.ascontiguousarray(z).view(z.real.dtype)[..., 1::2].reshape(z.shape), complex=PLANE),
    "maximum": exactly(lambda x, y: np.where((x >= y) | np.isnan(x), x, y), EVERYTHING, EVERYTHING),
    "minimum": exactly(lambda x, y: np.where((x <= y) | np.isnan(x), x, y), EVERYTHING, EVERYTHING),
    "clip": exactly(clip, EVERYTHING, EVERYTHING, EVERYTHING, attrs=[{"low": True, "high": True}]),
    "where": Reference(lambda chosen, x, y: x * chosen + y * ~chosen, exact=True),
    "relu": exactly(lambda x: np.where(x <= 0, x.dtype.type(0), x)),
    "relu_grad": exactly(lambda g, y: np.where(y > 0, g, g.dtype.type(0)), EVERYTHING, EVERYTHING),
    "fmod": of(np.fmod, MODERATE, MODERATE, bound=0.0),
    # Arithmetic.
    "astype": of(lambda x, dtype: x.astype(np.result_type(x, dtype)), EVERYTHING, bound=0.5, attrs=[{"dtype": np.dtype("float32")}]),
    "abs": of(np.abs, EVERYTHING, bound=0.0, complex=PLANE, complex_bound=4.0),
    "add": of(operator.add, EVERYTHING, EVERYTHING, bound=0.5, complex=PLANE),
    "subtract": of(operator.sub, EVERYTHING, EVERYTHING, bound=0.5, complex=PLANE),
    "multiply": of(operator.mul, EVERYTHING, EVERYTHING, bound=0.5, complex=PLANE, complex_bound=2.0),
    "divide": of(operator.truediv, EVERYTHING, EVERYTHING, bound=0.5, complex=PLANE, complex_bound=4.0),
    "floor_divide": exactly(lambda x, y: x // y),
    "remainder": of(remainder, MODERATE, MODERATE, bound=0.5),
    "direction": of(lambda z: z / np.where(z == 0, 1, np.abs(z)), complex=PLANE, complex_bound=2.0),
    "square": of(lambda x: x * x, EVERYTHING, bound=0.5, complex=PLANE, complex_bound=2.0),
    "reciprocal": of(lambda x: 1 / x, EVERYTHING, bound=0.5, complex=PLANE, complex_bound=4.0),
    "sqrt": of(np.sqrt, EVERYTHING, bound=0.5, complex=PLANE, complex_bound=2.0),
    "cbrt": of(np.cbrt, EVERYTHING),
    "hypot": of(np.hypot, EVERYTHING, EVERYTHING),
    "deg2rad": of(lambda x: x * (np.arctan(np.ones((), x.dtype)) / 45), EVERYTHING, bound=1.5),
    "rad2deg": of(lambda x: x * (45 / np.arctan(np.ones((), x.dtype))), EVERYTHING, bound=1.5),
    # Powers, exponentials and logarithms.
    "pow": of(
        np.power, (0.0, 100.0), (-40.0, 40.0), complex=(-3.0, 3.0), scale=pow_scale, measure="value; complex: times (1 + \\|y log x\\|)",
    ),
    "exp": of(np.exp, (-750.0, 750.0), complex=PLANE),
    "exp2": of(np.exp2, (-1100.0, 1100.0), complex=PLANE),
    "expm1": of(expm1, (-750.0, 750.0), complex=PLANE),
    "log": of(np.log, POSITIVE, complex=PLANE),
    "log2": of(np.log2, POSITIVE, complex=PLANE),
    "log10": of(np.log10, POSITIVE, complex=PLANE),
    "log1p": of(log1p, (-1.0, np.inf), complex=PLANE, rival=("numpy.log1p", np.log1p)),
    "logaddexp": of(np.logaddexp, MODERATE, MODERATE, scale=logaddexp_scale, measure="largest term"),
    # Trigonometric and hyperbolic functions.
    "sin": of(np.sin, EVERYTHING, complex=PLANE),
    "cos": of(np.cos, EVERYTHING, complex=PLANE),
    "tan": of(np.tan, EVERYTHING, complex=PLANE),
    "asin": of(np.arcsin, (-1.0, 1.0), complex=PLANE),
    "acos": of(np.arccos, (-1.0, 1.0), complex=PLANE),
    "atan": of(np.arctan, EVERYTHING, complex=PLANE),
    "atan2": of(np.arctan2, EVERYTHING, EVERYTHING),
    "sinh": of(np.sinh, (-720.0, 720.0), complex=PLANE),
    "cosh": of(np.cosh, (-720.0, 720.0), complex=PLANE),
    "tanh": of(np.tanh, EVERYTHING, complex=PLANE),
    "asinh": of(np.arcsinh, EVERYTHING, complex=PLANE),
    "acosh": of(np.arccosh, (1.0, np.inf), complex=PLANE),
    "atanh": of(np.arctanh, (-1.0, 1.0), complex=PLANE),
    "sinc": of(
        sinc, (-20.0, 20.0), bound=16.0, scale=sinc_scale, attrs=[{"order": k} for k in range(3)], samples=False, most=2000,
        rival=("numpy.sinc", lambda x, order: None if order else np.sinc(x)), measure="value; of a derivative its envelope",
    ),
    # Activations.
    "sigmoid": of(sigmoid, (-87.0, np.inf), rival=("scipy.special.expit", scipy.special.expit)),
    "softplus": of(softplus, EVERYTHING, rival=("numpy.logaddexp", lambda x: np.logaddexp(x, x.dtype.type(0)))),
    "elu": of(elu, EVERYTHING, attrs=[{"alpha": 1.0}, {"alpha": 0.3}]),
}  # fmt: skip
