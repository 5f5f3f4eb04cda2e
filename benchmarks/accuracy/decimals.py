"""The error function and the gamma family in decimal arithmetic, to about the digits of the context.

Written for certainty and not for speed: series whose terms have one sign, and recurrences to where an asymptotic series is exact enough.
Arguments are finite and no poles.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Context, Decimal, getcontext, localcontext
from fractions import Fraction
from functools import cache
from itertools import count
from math import comb

DIGITS = 45
FAR = 40  # from here on the asymptotic series of the gamma family give that many digits


@contextmanager
def digits(number: int) -> Iterator[None]:
    """A context with this many digits, and with exponents that nothing exceeds."""
    with localcontext(Context(prec=number, Emax=10**9, Emin=-(10**9))):
        yield


def erf(x: Decimal) -> Decimal:
    """exp(-x**2) times a series without cancellation: Abramowitz and Stegun 7.1.6."""
    total = term = x
    for n in count(1):
        term *= 2 * x * x / (2 * n + 1)
        if total + term == total:
            break
        total += term
    return 2 * total * (-x * x).exp() / _pi(getcontext().prec).sqrt()


def erfc(x: Decimal) -> Decimal:
    """1 - erf(x), in the additional digits that the difference takes."""
    with digits(getcontext().prec + max(0, int(x * x / 2) if x > 0 else 0)):
        return 1 - erf(x)


def normal_cdf(x: Decimal) -> Decimal:
    return erfc(-x / Decimal(2).sqrt()) / 2


def erfinv(x: Decimal, near: Decimal) -> Decimal:
    """From a number with 12 digits or more, by Newton's rule twice; beyond 1/2 by the complement, which keeps its digits."""
    root = _pi(getcontext().prec).sqrt() / 2
    y = abs(near)
    for _ in range(3):
        missing = (1 - abs(x)) - erfc(y) if abs(x) > Decimal("0.5") else erf(y) - abs(x)
        y -= missing * root * (y * y).exp()
    return y.copy_sign(x)


def gammaln(x: Decimal) -> Decimal:
    """Stirling's series, after as many steps upwards as it needs."""
    steps = Decimal(1)
    while x < FAR:
        steps *= x
        x += 1
    series = sum((_over(_bernoulli(2 * k)) / (2 * k * (2 * k - 1) * x ** (2 * k - 1)) for k in range(1, 30)), Decimal(0))
    return (x - Decimal("0.5")) * x.ln() - x + (2 * _pi(getcontext().prec)).ln() / 2 + series - abs(steps).ln()


def digamma(x: Decimal) -> Decimal:
    steps = Decimal(0)
    while x < FAR:
        steps += 1 / x
        x += 1
    series = sum((_over(_bernoulli(2 * k)) / (2 * k * x ** (2 * k)) for k in range(1, 30)), Decimal(0))
    return x.ln() - 1 / (2 * x) - series - steps


def polygamma(x: Decimal, n: int) -> Decimal:
    """(-1)**(n + 1) n! times the sum of (x + k)**-(n + 1), whose tail is Euler and Maclaurin's."""
    s = n + 1
    total = Decimal(0)
    while x < FAR:
        total += x**-s
        x += 1
    total += x ** (1 - s) / (s - 1) + x**-s / 2
    rising = Decimal(s)  # s (s + 1) ... (s + 2k - 2)
    factorial = Decimal(2)  # (2k)!
    for k in range(1, 30):
        total += _over(_bernoulli(2 * k)) / factorial * rising * x ** (1 - s - 2 * k)
        rising *= (s + 2 * k - 1) * (s + 2 * k)
        factorial *= (2 * k + 1) * (2 * k + 2)
    for k in range(1, n + 1):
        total *= k
    return total if n % 2 else -total


def gammainc(a: Decimal, x: Decimal) -> Decimal:
    """x**a exp(-x) / gamma(a + 1) times a series without cancellation: Abramowitz and Stegun 6.5.29."""
    if not x:
        return Decimal(0)
    total = term = Decimal(1)
    for n in count(1):
        term *= x / (a + n)
        if total + term == total:
            break
        total += term
    return total * (a * x.ln() - x - gammaln(a + 1)).exp()


def gammaincc(a: Decimal, x: Decimal) -> Decimal:
    """1 - gammainc(a, x), in the additional digits that the difference takes."""
    with digits(getcontext().prec + int(x / 2)):
        return 1 - gammainc(a, x)


def betaln(a: Decimal, b: Decimal) -> Decimal:
    return gammaln(a) + gammaln(b) - gammaln(a + b)


@cache
def _pi(prec: int) -> Decimal:
    """By Machin's formula."""

    def arctan_of_inverse(n: int) -> Decimal:
        total, power = Decimal(0), 1 / Decimal(n)
        for k in count(1, 2):
            if total + power / k == total:
                return total
            total += power / k if k % 4 == 1 else -power / k
            power /= n * n
        raise AssertionError

    with digits(prec + 5):
        return 16 * arctan_of_inverse(5) - 4 * arctan_of_inverse(239)


@cache
def _bernoulli(n: int) -> Fraction:
    if n > 1 and n % 2:
        return Fraction(0)
    return Fraction(1) if n == 0 else -sum((comb(n + 1, k) * _bernoulli(k) for k in range(n)), Fraction(0)) / (n + 1)


def _over(x: Fraction) -> Decimal:
    return Decimal(x.numerator) / Decimal(x.denominator)
