"""The distribution function of the normal distribution, from elementary functions alone: the gelu of a network needs no SciPy for it.

With ``a = |x|`` and ``t = 3 / (3 + a / sqrt(2))``, the tail beyond a is ``t * exp(-a * a / 2) * q(2 * t - 1)`` for a function q so smooth
that a polynomial of degree 23 gives it to 5e-17 everywhere, and one of degree 10 to 2e-8. (The first is the Chebyshev series of values with
60 digits, cut off; the second a least squares fit at Chebyshev's points. In powers of its argument, as in Horner's rule, no coefficient is
larger than the sum, so none cancel.)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import DtypeError
from ..graph import Op, Spec, Tensor, Work, op
from ..graph.op import Batch, Slicing
from .bits import bits, mask, wide
from .elementwise import exp, rowwise, square
from .samples import LOW, unary

Array = Any
Namespace = Any

# Halves of the coefficients of q, from the constant upwards.
DOUBLE = [
    0.17900115118138996, 0.14723240886164723, 0.09837139285068465, 0.05174454365009738, 0.0199212935478337,
    0.004471205770671008, -0.00020206943697953454, -0.0005056769992942157, -9.1384957063878e-05, 4.612963534925679e-05,
    1.7926961542242523e-05, -5.066340622345474e-06, -2.911927914401683e-06, 7.915012626841245e-07, 4.6129002339208763e-07,
    -1.664635180994208e-07, -6.861247551596487e-08, 3.896883356742838e-08, 8.325031478998804e-09, -8.525577281185784e-09,
    -5.941534671668099e-10, 1.4470037020449429e-09, 1.0610771520684163e-12, -1.348325895378366e-10,
]  # fmt: skip
SINGLE = [
    0.17900115005494538, 0.14723238258622633, 0.09837143680442123, 0.051745143292581223, 0.01992114611439542, 0.004467478677877179,
    -0.00020277307210701075, -0.0004962750783804316, -8.771840094912227e-05, 3.5476421522643645e-05, 1.2560926055730016e-05,
]  # fmt: skip

# Elements that are worked off at once, so that the passes of Horner's rule stay in the cache.
BLOCK = 8192


class NormalCdf(Op):
    """Probability that a standard normal draw is below ``x``, element by element, with all its digits where that is tiny.

    x        float tensor
    returns  same shape and dtype; 16-bit floats are computed in 32 bits
    raises   DtypeError for integers and complex numbers

    >>> session.run(fg.special.ndtr([-8.0, 0.0, 1.0]))
    array([6.22096057e-16, 5.00000000e-01, 8.41344746e-01])
    """

    in_place = True

    def infer(self, x: Any) -> Any:
        if x.dtype.kind not in "fV":
            raise DtypeError(f"needs floats, got {x.dtype}", help='cast with fg.astype(x, "float32")')
        return x

    def kernel(self, xp: Any, x: Any, *, out: Any = None) -> Any:
        dtype = wide(x.dtype)
        fits = out is not None and out.dtype == dtype and out.flags.c_contiguous
        made = out if fits else xp.empty(x.shape, dtype)
        source, target = xp.ascontiguousarray(x, dtype).reshape(-1), made.reshape(-1)
        length = BLOCK if xp is np else max(source.size, 1)
        for first in range(0, source.size, length):
            _below(xp, source[first : first + length], target[first : first + length])
        if out is None:
            return made.astype(x.dtype, copy=False)
        if not fits:
            out[...] = made
        return out

    def scalar(self, s: Any, x: Any) -> Any:
        distance = s.minimum(s.absolute(x), 40.0 if x.dtype == np.float64 else 14.4)  # (within what the exponential takes as it is)
        t = 3.0 / s.fma(distance, math.sqrt(0.5), 3.0)
        square = distance * distance
        lost = s.fma(distance, distance, -square)  # what its rounding took
        weight = s.exp(-s.absolute(square * 0.5)) * s.fma(lost, -0.5, 1.0) * t
        coefficients = DOUBLE if x.dtype == np.float64 else SINGLE
        tail = weight * s.polynomial(s.fma(t, 2.0, -1.0), coefficients[::-1])
        return s.where(x > 0, 1.0 - tail, tail)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * (exp(square(x) * -0.5) * (1 / math.sqrt(2 * math.pi)))

    def vmap(self, batch: Batch, x: Tensor) -> Tensor:
        return normal_cdf(x)

    def work(self, x: Any) -> Work:
        size = Spec(x.shape, x.dtype).size
        return Work(1000.0 * size, 2.0 * size * x.dtype.itemsize)

    def slicing(self, out: Any, *inputs: Any) -> Slicing | None:
        return rowwise(out, inputs)

    samples = unary(edges=(-np.inf, -1e200, -38.0, -0.0, 0.0, 9.0, 1e200, np.inf, np.nan), also=LOW)


def _below(xp: Namespace, x: Array, out: Array) -> None:
    above = mask(xp, x > 0, bits(x).dtype)
    distance = xp.minimum(xp.absolute(x), 40)  # beyond, the tail is 0 in any dtype
    t = distance * math.sqrt(0.5)
    t += 3
    xp.divide(3, t, out=t)
    weight = _exp_of_half_square(xp, distance)  # (which works in the place of distance)
    weight *= t
    t *= 2
    t -= 1
    *rest, last = DOUBLE if x.dtype == np.float64 else SINGLE
    tail = t * last
    for coefficient in reversed(rest[1:]):
        tail += coefficient
        tail *= t
    tail += rest[0]
    tail *= weight
    other = xp.subtract(1, tail, out=weight)
    # Of the two, by bits: the tail itself below 0, and what it leaves above.
    chosen = bits(other)
    chosen ^= bits(tail)
    chosen &= above
    xp.bitwise_xor(chosen, bits(tail), out=bits(out))


def _exp_of_half_square(xp: Namespace, a: Array) -> Array:
    """``exp(-a * a / 2)``, with all digits: the rounding of the square alone would cost it as many ulps as its exponent is large. Spoils a.

    What that rounding took is known exactly, as the square of the upper half of a's digits is (Dekker 1971), and is so little that the
    exponential of its half is ``1 - half``.
    """
    square = a * a
    upper = xp.bitwise_and(bits(a), -1 << (27 if a.dtype == np.float64 else 12)).view(a.dtype)
    lost = a + upper
    a -= upper
    lost *= a
    upper *= upper
    upper -= square
    lost += upper
    lost *= -0.5
    lost += 1
    square *= -0.5
    xp.exp(square, out=square)
    square *= lost
    return square


normal_cdf = op(NormalCdf)
