"""Exponentials, logarithms and their kin for fused loops: built of primitives, so that they vectorise with the loop around them.

Each reduces its argument to a short interval and evaluates a polynomial there (near-minimax: Chebyshev's interpolation in 40 digits). The
bits depend on the processor only where it lacks a fused multiply-add. Infinities, NaN and subnormals come out as in IEEE 754's tables.
Errors, measured against 64 bits or mpmath, are in docs/accuracy.md. The logarithm's form, 2 atanh(f / (2 + f)), is fdlibm's (1993).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .values import BOOL, FLOAT32, INT32, INT64, Arithmetic, Unfusable, Value


class Format(NamedTuple):
    """What the functions need to know of a float's format; polynomials have their highest coefficient first."""

    mantissa: int  # bits
    bias: int
    ln2: tuple[float, float]  # ln(2) as a number with zeros at its end, and the rest
    bounds: tuple[float, float]  # below exp is 0, above it is inf
    expm1: Sequence[float]  # q in expm1(r) = r + r**2 q(r), for |r| <= ln(2) / 2
    log: Sequence[float]  # q in log((1 + s) / (1 - s)) = 2 s + s z q(z), z = s**2, for |s| <= 3 - 2 sqrt(2)
    tanh: Sequence[float]  # q in tanh(x) = x + x**3 q(x**2), for |x| <= 0.625
    erf: Sequence[float]  # q in erf(x) = x q(x**2), for |x| <= 1; from 0.75 on the tail serves
    tail: Sequence[float]  # q in erfc(t) = exp(-t**2) q((t - 3) / (t + 3)) / (1 + 2 t), for t >= 0.4


SINGLE = Format(
    23, 127, (0.693359375, -2.1219444005469057e-4), (-104.0, 90.0),
    (0.00019890990824673654, 0.0013933649996309251, 0.0083333109254809, 0.041666464925285904, 0.16666666681623232, 0.5),
    (0.2333069667245578, 0.28550812382590146, 0.4000012191414928, 0.6666666655440618),
    (0.002292744816178142, -0.008343945515839153, 0.02176891865102821, -0.053959259577204544, 0.1333330355691574, -0.3333333317214036),
    (-9.667044571486996e-06, 0.00011265959025606609, -0.0008484080405535107, 0.005221031807858023, -0.026865430727670243,
     0.11283782495236845, -0.3761263846802871, 1.1283791670615435),
    (-0.0004967725901167146, 0.001840721734233749, 0.002359959545178384, -0.023767066555797127, 0.06834786273244918,
     -0.11927304758640618, 0.12964147742041626, -0.047562340628217424, -0.13562101162847542, 1.2530080583933985),
)  # fmt: skip

DOUBLE = Format(
    52, 1023, (0.6931471803691238, 1.9082149292705877e-10), (-746.0, 711.0),
    (2.0914686968086876e-09, 2.5105217004720745e-08, 2.75572736431103e-07, 2.7557255400206422e-06, 2.4801587325547743e-05,
     0.00019841269874820627, 0.0013888888888883748, 0.008333333333326136, 0.04166666666666667, 0.1666666666666667, 0.5),
    (0.13086907887965027, 0.13268746195596595, 0.15386240708969665, 0.18181795621632782, 0.22222222391887064, 0.2857142857080285,
     0.4000000000000088, 0.6666666666666666),
    (-2.438831631472088e-06, 1.2209921790162781e-05, -3.708106921544234e-05, 9.604109157026265e-05, -0.00023888944636751174,
     0.0005899818158388232, -0.0014558283998303246, 0.003592127507599252, -0.008863235499801992, 0.021869488535133222,
     -0.0539682539682359, 0.13333333333333322, -0.3333333333333333),
    (5.957176147748911e-11, -1.1372848856791674e-09, 1.4659775274047436e-08, -1.6350312701054695e-07, 1.6461000484121368e-06,
     -1.4925595266831182e-05, 0.0001205533111164271, -0.000854832698083379, 0.0052239776248180145, -0.026866170645076792,
     0.11283791670954879, -0.3761263890318375, 1.1283791670955126),
    (-1.2423357555015329e-08, 1.955803558437811e-08, 1.0445509173839513e-07, -1.1290241901011901e-07, -6.224105176583643e-07,
     3.3506756088599004e-07, 3.477531477005162e-06, -7.210629322492424e-07, -2.010311755561562e-05, 4.946226323027496e-06,
     0.0001251001254763553, -0.00010515914054552156, -0.000779832416308962, 0.0018886902750858338, 0.0025293918320594654,
     -0.023770514912301418, 0.0683080273430102, -0.11927366341555748, 0.12964515870278737, -0.04756229435344691,
     -0.1356211061245814, 1.2530080582697296),
)  # fmt: skip


class Scalars(Arithmetic):
    """What an op's ``scalar`` is given: NumPy's elementary functions of values.

    raises Unfusable for dtypes that they are not made for
    """

    def polynomial(self, x: Value, coefficients: Sequence[float]) -> Value:
        """By Horner's rule, the highest coefficient first."""
        result = self.constant(coefficients[0], x.dtype)
        for coefficient in coefficients[1:]:
            result = self.fma(result, x, coefficient)
        return result

    def format(self, x: Value) -> Format:
        if x.dtype.kind != "f":
            raise Unfusable("only floats")
        return SINGLE if x.dtype == FLOAT32 else DOUBLE

    def exp(self, x: Value) -> Value:
        r, whole, n = self._reduced(x)
        return self._scaled(self._exp_of_rest(r), whole, n)

    def _half_exp(self, x: Value) -> Value:
        """exp(x) / 2, which overflows later."""
        r, whole, n = self._reduced(x)
        return self._scaled(self._exp_of_rest(r), whole - 1.0, n - 1)

    def _exp_of_rest(self, r: Value) -> Value:
        return self.fma(r * r, self.polynomial(r, self.format(r).expm1), r) + 1.0

    def expm1(self, x: Value) -> Value:
        r, _, n = self._reduced(x)
        p = self.fma(r * r, self.polynomial(r, self.format(x).expm1), r)
        # 2**n (1 + p) - 1. Where 2**n alone would overflow half of it is used; and x itself is exact where it is tiny.
        big = self.greater(n, self.constant(self.format(x).bias, n.dtype))
        half = self._power(n - self.where(big, self.constant(1, n.dtype), self.constant(0, n.dtype)))
        result = self.fma(half, p, half - self.where(big, 0.5, self.constant(1.0, x.dtype)))
        result = self.where(big, result * 2.0, result)
        result = self.where(x > self.format(x).bounds[1] - 1.0, self.constant(np.inf, x.dtype), result)
        # Below, 2**n is a quarter of the last place of 1 at most; and soon no normal number, which is all that _power makes.
        low = -(self.format(x).mantissa + 3) * math.log(2)
        return self.where(self.equal(x, 0), x, self.where(x < low, self.constant(-1, x.dtype), result))

    def exp2(self, x: Value) -> Value:
        form = self.format(x)
        low, high = float(-form.bias - form.mantissa - 3), float(form.bias + 2)
        whole, n = self._nearest(x := self._between(x, low, high))
        r = (x - whole) * math.log(2)
        return self._scaled(self._exp_of_rest(r), whole, n)

    def _nearest(self, x: Value) -> tuple[Value, Value]:
        """The nearest whole number as a float and as an integer; a conversion would be undefined for NaN."""
        shift = self.constant(1.5 * 2.0 ** self.format(x).mantissa, x.dtype)
        shifted = x + shift
        return shifted - shift, self.bits(shifted) - self.bits(shift)

    def _between(self, x: Value, low: float, high: float) -> Value:
        """The nearest number to x in this range; NaN is left. Two instructions, as each of the two compares what it chooses from."""
        if not (x.kind == "negative" and x.inputs[0].kind == "absolute" and high >= 0):
            x = self.where(x > high, self.constant(high, x.dtype), x)
        return self.where(x < low, self.constant(low, x.dtype), x)

    def _reduced(self, x: Value) -> tuple[Value, Value, Value]:
        """r and a whole n, as a float and as an integer, with x = n ln(2) + r."""
        (low, high), (ln2, rest) = self.format(x).bounds, self.format(x).ln2
        x = self._between(x, low, high)
        whole, n = self._nearest(x * (1 / math.log(2)))
        return self.fma(whole, -rest, self.fma(whole, -ln2, x)), whole, n

    def _power(self, n: Value) -> Value:
        """2**n for a whole n within the range of normal numbers."""
        form = SINGLE if n.dtype == INT32 else DOUBLE
        return self.from_bits(self.bitwise("shl", n + form.bias, form.mantissa))

    def _scaled(self, x: Value, whole: Value, n: Value) -> Value:
        """x * 2**n, in two steps where it takes them, so that it may be subnormal or overflow: the first is exact for an x about 1."""
        half = self.bitwise("ashr", n, 1)
        return self.scale(x, whole, x * self._power(half) * self._power(n - half))

    def log(self, x: Value) -> Value:
        return self._log(x, None)

    def log1p(self, x: Value) -> Value:
        return self.where(self.equal(x, 0), x, self._log(1.0 + x, x))

    def log2(self, x: Value) -> Value:
        return self._other_base(x, 2)

    def log10(self, x: Value) -> Value:
        return self._other_base(x, 10)

    def _other_base(self, x: Value, base: int) -> Value:
        if x.dtype != FLOAT32:
            raise Unfusable("a quotient of logarithms would not be exact to the last digit")
        return self.astype(self._log(self.astype(x, np.dtype("float64")), None) * (1 / math.log(base)), FLOAT32)

    def _log(self, u: Value, x: Value | None) -> Value:
        """The logarithm of u, or of 1 + x, which u rounds."""
        form, integer = self.format(u), INT32 if u.dtype == FLOAT32 else INT64
        tiny = u < float(np.finfo(u.dtype).tiny)
        scaled = self.where(tiny, u * 2.0 ** (form.mantissa + 2), u) if x is None else u
        bits = self.bits(scaled)
        # So shifted, the exponent's field steps where the mantissa passes sqrt(2).
        start = self.bits(self.constant(math.sqrt(0.5), u.dtype))
        n = self.bitwise("ashr", bits - start, form.mantissa)
        mantissa = self.from_bits(bits - self.bitwise("shl", n, form.mantissa))
        if x is None:
            n = n - self.where(tiny, self.constant(form.mantissa + 2, integer), self.constant(0, integer))
            f, lost = mantissa - 1.0, None
        else:
            # What u = 1 + x has lost of x is divided by u; without a power of two x itself is exact.
            inside = self.equal(n, 0)
            f = self.where(inside, x, mantissa - 1.0)
            lost = self.where(inside, self.constant(0.0, u.dtype), self.where(x > 1.0, 1.0 - (u - x), x - (u - 1.0)) / u)
        k = self.astype(n, u.dtype)
        s = f / (2.0 + f)
        z = s * s
        half = 0.5 * f * f
        ln2, rest = form.ln2
        small = self.fma(k, rest, s * self.fma(z, self.polynomial(z, form.log), half))
        if lost is not None:
            small = small + lost
        result = self.fma(k, ln2, f - (half - small))
        result = self.where(u < np.inf, result, u)  # inf and NaN
        result = self.where(self.equal(u, 0.0), self.constant(-np.inf, u.dtype), result)
        return self.where(u < 0.0, self.constant(np.nan, u.dtype), result)

    def tanh(self, x: Value) -> Value:
        # Near 0 by a polynomial; else 1 - 2 / (exp(2 a) + 1), whose error counts the less the nearer it comes to 1.
        a = abs(x)
        z = a * a
        near = self.fma(a * z, self.polynomial(z, self.format(x).tanh), a)
        far = 1.0 - 2.0 / (self.exp(a + a) + 1.0)
        return self.copysign(self.where(a < 0.625, near, far), x)

    def sinh(self, x: Value) -> Value:
        a = abs(x)
        e = self.expm1(self.fmax(-a, self.format(x).bounds[0]))  # in [-1, 0]
        half = self._half_exp(a)
        return self.copysign(self.where(a < 1.0, -0.5 * (e + e / (e + 1.0)), half - 0.25 / half), x)

    def cosh(self, x: Value) -> Value:
        half = self._half_exp(abs(x))
        return half + 0.25 / half

    def erf(self, x: Value) -> Value:
        form, a = self.format(x), abs(x)
        *rest, first = form.erf
        z = a * a
        near = self.fma(a, self.fma(z, self.polynomial(z, rest), first - 1.0), a)
        t = self.minimum(a, 6.0)
        tail = self.exp(-(t * t)) * self.polynomial((t - 3.0) / (t + 3.0), form.tail) / self.fma(2.0, t, 1.0)
        return self.copysign(self.where(a < 0.75, near, 1.0 - tail), x)

    def power(self, x: Value, y: Value) -> Value:
        number = self.number(y)
        if number == 0.5 and x.dtype.kind == "f":
            return self.sqrt(x + 0.0)
        if number is None or not (0 < number <= 8 and number == int(number)):
            raise Unfusable("powers other than small whole ones")
        result, count = None, int(number)
        while count:
            if count & 1:
                result = x if result is None else result * x
            x, count = x * x, count >> 1
        assert result is not None
        return result

    def logaddexp(self, x: Any, y: Any) -> Value:
        x, y = self.lift(x, y)
        top = self.maximum(x, y)
        gap = -abs(x - y)
        return self.where(self.equal(x, y), x + math.log(2), top + self.log1p(self.exp(gap)))

    def hypot(self, x: Value, y: Value) -> Value:
        if x.dtype != FLOAT32:
            raise Unfusable("squares of 64-bit floats would overflow")
        wide = np.dtype("float64")
        a, b = self.astype(x, wide), self.astype(y, wide)
        infinite = self.logical_or(self.isinf(x), self.isinf(y))
        return self.where(infinite, self.constant(np.inf, x.dtype), self.astype(self.sqrt(a * a + b * b), x.dtype))

    def signbit(self, x: Value) -> Value:
        return self.bits(x) < 0 if x.dtype.kind == "f" else (x < 0 if x.dtype.kind == "i" else self.constant(False, BOOL))
