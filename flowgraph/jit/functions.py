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
    exp: Sequence[float]  # q in exp(r) = 1 + r + r**2 q(r), for |r| <= ln(2) / 2
    expm1: Sequence[float]  # q in expm1(r) = r + r**2 q(r), for |r| <= ln(2) / 2
    log: Sequence[float]  # q in log((1 + s) / (1 - s)) = 2 s + s z q(z), z = s**2, for |s| <= 3 - 2 sqrt(2)
    log1p: Sequence[float]  # -q of the same for 0 <= s <= 1 / 3
    tanh: float  # from here on tanh is 1
    erf: tuple[float, Sequence[float]]  # from where on erf is 1, and q in erf(x) = 1 - exp(-x - x q(x)), for x >= 0


SINGLE = Format(
    23, 127, (0.693359375, -2.1219444005469057e-4), (-104.0, 90.0),
    (0.0014035662170499563, 0.008372285403311253, 0.04166555032134056, 0.16666488349437714, 0.5),
    (0.00019890990824673654, 0.0013933649996309251, 0.0083333109254809, 0.041666464925285904, 0.16666666681623232, 0.5),
    (0.2333069667245578, 0.28550812382590146, 0.4000012191414928, 0.6666666655440618),
    (-0.28007543087005615, -0.28002920746803284, -0.40021440386772156, -0.666664183139801),
    9.2,
    (3.93, (-9.39025358093204e-06, 0.00011888149310834706, -0.0006374337826855481, 0.001675798324868083, -0.00016961288929451257,
     -0.019147776067256927, 0.10277629643678665, 0.6366195678710938, 0.12837916612625122)),
)  # fmt: skip

DOUBLE = Format(
    52, 1023, (0.6931471803691238, 1.9082149292705877e-10), (-746.0, 711.0),
    (2.0989161951566454e-09, 2.5114397420771614e-08, 2.7557049468257707e-07, 2.7557228092656623e-06, 2.4801587565785758e-05,
     0.0001984126990352962, 0.0013888888888777778, 0.008333333333313883, 0.041666666666666824, 0.16666666666666688, 0.5),
    (2.0914686968086876e-09, 2.5105217004720745e-08, 2.75572736431103e-07, 2.7557255400206422e-06, 2.4801587325547743e-05,
     0.00019841269874820627, 0.0013888888888883748, 0.008333333333326136, 0.04166666666666667, 0.1666666666666667, 0.5),
    (0.13086907887965027, 0.13268746195596595, 0.15386240708969665, 0.18181795621632782, 0.22222222391887064, 0.2857142857080285,
     0.4000000000000088, 0.6666666666666666),
    (-0.17015033533435114, -0.08342199437086455, -0.12105561470721923, -0.1330104580373361, -0.15386553957812144, -0.18181744227468488,
     -0.22222223960490178, -0.28571428548013167, -0.400000000001559, -0.6666666666666631),
    19.2,
    (5.95, (4.141237043507297e-20, -3.397300549867002e-18, 1.3217011968512182e-16, -3.24380309635879e-15, 5.6351449165051075e-14,
     -7.368663424137718e-13, 7.527561756570175e-12, -6.15148657909199e-11, 4.0811347636194406e-10, -2.2151413932767652e-09,
     9.84174561559168e-09, -3.546513704165809e-08, 1.00893657799178e-07, -2.1077014133916717e-07, 2.4646858146904153e-07,
     1.9764214404208572e-07, -1.6019481678438777e-06, 2.725643488389644e-06, 3.4724435884690616e-06, -2.975217606905463e-05,
     6.449986831101526e-05, 2.5877512267197106e-05, -0.0005901256817733751, 0.0016962064715776923, -0.00020919471004839072,
     -0.019128447003939713, 0.10277260330176656, 0.636619772367583, 0.1283791670955126)),
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
        return self._exp(x, 0)

    def _half_exp(self, x: Value) -> Value:
        """exp(x) / 2, which overflows later."""
        return self._exp(x, 1)

    def _exp(self, x: Value, halved: int) -> Value:
        """exp(x) / 2**halved."""
        low, high = self.format(x).bounds
        y = x if self._is_negative(x) else self._at_most(x, high)
        y = y if self._is_positive(x) else self._at_least(y, low)
        whole, power = self._nearest(y, 1 / math.log(2), 2)
        return self._scaled(self._exp_of_rest(self._rest(y, whole)), x, whole, power, halved)

    def _exp_of_rest(self, r: Value) -> Value:
        return self.polynomial(r, (*self.format(r).exp, 1.0, 1.0))

    def expm1(self, x: Value) -> Value:
        form = self.format(x)
        small = abs(x) < 2.0 ** -(form.mantissa + 3)  # where x itself is exact, its sign and what is subnormal of it
        # Below, the result is -1; and above, it is infinite before 2**(n - 1) is.
        y = x if self._is_negative(x) else self._at_most(x, form.bounds[1] - 1.0)
        y = self._at_least(y, -(form.mantissa + 3) * math.log(2))
        whole, half = self._nearest(y, 1 / math.log(2), 1, 1)
        r = self._rest(y, whole)
        result = self.fma(half, self._expm1_of_rest(r), half - 0.5)
        return self.where(small, x, result + result)

    def _expm1_of_rest(self, r: Value) -> Value:
        return self.fma(r * r, self.polynomial(r, self.format(r).expm1), r)

    def exp2(self, x: Value) -> Value:
        form = self.format(x)
        y = self._at_least(self._at_most(x, float(form.bias + 2)), float(-form.bias - form.mantissa - 3))
        whole, power = self._nearest(y, 1.0, 2)
        return self._scaled(self._exp_of_rest((y - whole) * math.log(2)), x, whole, power, 0)

    def _nearest(self, x: Value, factor: float, biases: int, less: int = 0) -> tuple[Value, Value]:
        """The nearest whole number n to x * factor, and the number whose exponent's field is n - less + biases * bias.

        A conversion would be undefined for NaN; and so the number is that of the bits to which the sum with the largest numbers rounds.
        """
        form = self.format(x)
        shift = 1.5 * 2.0**form.mantissa + biases * form.bias
        shifted = self.fma(x, factor, shift)
        bits = self.bits(shifted)
        return shifted - shift, self.from_bits(self.bitwise("shl", bits - less if less else bits, form.mantissa))

    def _at_most(self, x: Value, high: float) -> Value:
        """The smaller one; NaN is left. One instruction, as it compares what it chooses from; so with `_at_least`."""
        return self.where(x > high, self.constant(high, x.dtype), x)

    def _at_least(self, x: Value, low: float) -> Value:
        return self.where(x < low, self.constant(low, x.dtype), x)

    def _is_positive(self, x: Value) -> bool:
        return x.kind == "absolute"

    def _is_negative(self, x: Value) -> bool:
        """Whether it is known to be, or 0: -|x|, or the distance from the maximum of the row."""
        if x.kind == "subtract":
            return x.inputs[1].kind == "max" and x.inputs[1].inputs[0] is x.inputs[0]
        return x.kind == "negative" and x.inputs[0].kind == "absolute"

    def _rest(self, x: Value, whole: Value) -> Value:
        """x - whole * ln(2)."""
        ln2, rest = self.format(x).ln2
        return self.fma(whole, -rest, self.fma(whole, -ln2, x))

    def _scaled(self, p: Value, x: Value, whole: Value, power: Value, halved: int) -> Value:
        """p * 2**(whole - halved) for a p about 1, in two steps, so that it may be subnormal or overflow: the first is exact.

        power  the number whose exponent's field is whole + 2 * bias
        x      has the sign of whole
        """
        form = self.format(x)
        most = 2.0 ** (form.bias // 2 + 1)

        def by_sign(positive: float, negative: float) -> Value:
            if self._is_positive(x) or self._is_negative(x):
                return self.constant(positive if self._is_positive(x) else negative, x.dtype)
            return self.where(self.bits(x) < 0, self.constant(negative, x.dtype), self.constant(positive, x.dtype))

        first = self.from_bits(self.bits(power) - self.bits(by_sign(most, 1 / most)))
        return self.scale(p, whole - float(halved) if halved else whole, p * first * by_sign(most / 2**halved, 1 / most / 2**halved))

    def log(self, x: Value) -> Value:
        return self._log(x, None)

    def log1p(self, x: Value) -> Value:
        return self.where(self.equal(x, 0), x, self._log(1.0 + x, x))

    def log1p_exp(self, x: Value) -> Value:
        """log(1 + exp(x)) for x <= 0."""
        # As fdlibm's log, 2 atanh(y / (2 + y)) with what is lost of y kept; where y is at most 1 no power of two has to be parted from it.
        y = self.exp(x)
        s = y / (2.0 + y)
        z = s * s
        return self.fma(-s, self.fma(z, self.polynomial(z, self.format(x).log1p), y), y)

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
        # As e / (e + 1) with e = expm1(-2 |x|) / 2, which is between -1/2 and 0, so that both have one rounding and lose nothing.
        form = self.format(x)
        a = self._at_least(-abs(x), -form.tanh)
        whole, power = self._nearest(a, 2 / math.log(2), 1)
        r = self.fma(whole, -math.log(2) / 2, a)
        doubled = [c * 2.0**k for k, c in zip(range(len(form.expm1), 0, -1), form.expm1, strict=True)]
        rest = self.fma(r * r, self.polynomial(r, doubled), r)
        e, above = [self.fma(power, rest, self.fma(power, 0.5, half)) for half in (-0.5, 0.5)]
        return self.copysign(e / above, x)

    def _with_sign(self, y: Value, x: Value, size: Value) -> Value:
        """y >= 0 with the sign of x, whose absolute value is ``size``."""
        return self.from_bits(self.bitwise("or", self.bits(y), self.bitwise("xor", self.bits(x), self.bits(size))))

    def sinh(self, x: Value) -> Value:
        a = abs(x)
        e = self.expm1(-a)
        half = self._half_exp(a)
        return self.copysign(self.where(a < 1.0, -0.5 * (e + e / (e + 1.0)), half - 0.25 / half), x)

    def cosh(self, x: Value) -> Value:
        half = self._half_exp(abs(x))
        return half + 0.25 / half

    def erf(self, x: Value) -> Value:
        # As -expm1(y): y is found by a polynomial, and its error counts the less the nearer the result comes to 1.
        form, size = self.format(x), abs(x)
        end, coefficients = form.erf
        a = self._at_most(size, end)
        y = self.fma(-a, self.polynomial(a, coefficients), -a)
        whole, power = self._nearest(y, 1 / math.log(2), 1)
        r = self.fma(whole, -math.log(2), y)
        return self._with_sign(self.fma(-power, self._expm1_of_rest(r), 1.0 - power), x, size)

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
        return self.where(self.equal(x, y), x + math.log(2), top + self.log1p_exp(gap))

    def hypot(self, x: Value, y: Value) -> Value:
        if x.dtype != FLOAT32:
            raise Unfusable("squares of 64-bit floats would overflow")
        wide = np.dtype("float64")
        a, b = self.astype(x, wide), self.astype(y, wide)
        infinite = self.logical_or(self.isinf(x), self.isinf(y))
        return self.where(infinite, self.constant(np.inf, x.dtype), self.astype(self.sqrt(a * a + b * b), x.dtype))

    def signbit(self, x: Value) -> Value:
        return self.bits(x) < 0 if x.dtype.kind == "f" else (x < 0 if x.dtype.kind == "i" else self.constant(False, BOOL))
