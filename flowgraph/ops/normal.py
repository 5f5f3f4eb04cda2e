"""The distribution function of the normal distribution, from elementary functions alone: the gelu of a network needs no SciPy for it.

With ``a = |x|`` and ``t = 3 / (3 + a / sqrt(2))``, the tail beyond a is ``t * exp(-a * a / 2) * q(2 * t - 1)`` for a function q so smooth
that a polynomial of degree 22 gives it to 3e-15 everywhere, and one of degree 10 to 2e-8. (Both are least squares fits at Chebyshev's
points to SciPy's erfcx. In powers of its argument, as in Horner's rule, no coefficient is larger than the sum, so none cancel.)
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
    0.17900115118138985, 0.14723240886164485, 0.09837139285071838, 0.05174454365021722, 0.019921293546426405, 0.0044712057683234385,
    -0.0002020694154697755, -0.0005056769748559545, -9.138512147813758e-05, 4.6129483496084356e-05, 1.792768889988550e-05,
    -5.0657431190277775e-06, -2.9139317749381594e-06, 7.899657932013263e-07, 4.648412359767315e-07, -1.6385954686147357e-07,
    -7.266590530789837e-08, 3.608586530332804e-08, 1.120612969249533e-08, -6.52457234351143e-09, -1.7546046424622807e-09,
    6.577743891143195e-10, 2.0341243917049928e-10,
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

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * (exp(square(x) * -0.5) * (1 / math.sqrt(2 * math.pi)))

    def vmap(self, batch: Batch, x: Tensor) -> Tensor:
        return normal_cdf(x)

    def work(self, x: Any) -> Work:
        size = Spec(x.shape, x.dtype).size
        return Work(60.0 * size, 2.0 * size * x.dtype.itemsize)

    def slicing(self, out: Any, *inputs: Any) -> Slicing | None:
        return rowwise(out, inputs)

    samples = unary(edges=(-np.inf, -1e200, -38.0, -0.0, 0.0, 9.0, 1e200, np.inf, np.nan), also=LOW)


def _below(xp: Namespace, x: Array, out: Array) -> None:
    above = mask(xp, x > 0, bits(x).dtype)
    distance = xp.minimum(xp.absolute(x), 40)  # beyond, the tail is 0 in any dtype
    t = distance * math.sqrt(0.5)
    t += 3
    xp.divide(3, t, out=t)
    weight = xp.multiply(distance, distance, out=distance)
    weight *= -0.5
    xp.exp(weight, out=weight)
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


normal_cdf = op(NormalCdf)
