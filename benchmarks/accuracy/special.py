"""References of the special functions: SciPy's double precision for float32, and decimal arithmetic for float64."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import scipy.special

from . import decimals
from .draws import over
from .measure import Reference

Array = Any


def of(name: str, *domains: tuple[float, float], bound: float = 8.0, **rest: Any) -> Reference:
    """The reference of the op with SciPy's function ``name`` and the decimal one of that name."""
    attrs = rest.pop("attrs", ({},))
    single, double = getattr(scipy.special, name), getattr(decimals, rest.pop("decimal", name))

    def value(*inputs: Array, **attrs: Any) -> Array:
        if inputs[0].dtype == np.float64:
            return single(*attrs.values(), *inputs)
        return by_decimals(double, *inputs, **attrs)

    return Reference(value, bound, draws=over(*domains, attrs=attrs, most=2000), samples=False, **rest)


def by_decimals(function: Callable[..., Decimal], *inputs: Array, **attrs: Any) -> Array:
    """``function`` element by element, from float64 numbers (in long doubles) to long doubles."""

    def long_double(*numbers: Any) -> Any:
        return np.longdouble(f"{function(*(Decimal(float(x)) for x in numbers), **attrs):.30e}")

    with decimals.digits(decimals.DIGITS):
        return np.array([long_double(*numbers) for numbers in zip(*(x.flat for x in inputs), strict=True)]).reshape(inputs[0].shape)


def erfinv(x: Array) -> Array:
    near = scipy.special.erfinv(x.astype(np.float64))
    return near if x.dtype == np.float64 else by_decimals(decimals.erfinv, x, near)


def xlogy(x: Array, y: Array) -> Array:
    return np.where((x == 0) & ~np.isnan(y), 0, x * np.log(np.where(y < 0, np.nan, y)))


def logit(x: Array) -> Array:
    """Between 1/4 and 3/4 by log1p of 2 x - 1, which is exact there."""
    middle = np.abs(x - 0.5) <= 0.25
    return np.where(middle, np.log1p((2 * x - 1) / (1 - x)), np.log(x) - np.log1p(-x))


def gammaln_scale(*numbers: Array) -> Array:
    """The largest of the logarithms that the result is made of."""
    return np.max([np.abs(scipy.special.gammaln(x.astype(np.float64))) for x in np.broadcast_arrays(*numbers)], axis=0)


SMALL = (0.05, 30.0)

# SciPy's functions, but for normal_cdf: the larger bounds are what these reach. Its erfc rounds the square in exp(-x**2), its gammainc the
# exponent of x**a exp(-x), its betaln the logarithms that cancel, and its gammaln has zeros at 1 and 2.
REFERENCES = {
    "erf": of("erf", (-7.0, 7.0)),
    "erfc": of("erfc", (-7.0, 26.0), bound=1024.0),
    "erfinv": Reference(erfinv, 8.0, draws=over((-1.0, 1.0), most=2000), samples=False),
    "normal_cdf": of("ndtr", (-37.5, 9.0), decimal="normal_cdf", rival=("scipy.special.ndtr", scipy.special.ndtr)),
    "gammaln": of("gammaln", (1e-37, 1e6), bound=64.0),
    "digamma": of("digamma", (1e-37, 1e6)),
    "polygamma": of("polygamma", (1e-10, 1e3), bound=16.0, attrs=[{"n": 1}, {"n": 2}]),
    "gammainc": of("gammainc", SMALL, SMALL, bound=1024.0),
    "gammaincc": of("gammaincc", SMALL, SMALL, bound=1024.0),
    "betaln": of("betaln", SMALL, SMALL, bound=1024.0, scale=lambda a, b: gammaln_scale(a, b, a + b), measure="largest of the logarithms"),
    "xlogy": Reference(xlogy, 4.0, draws=over((-1e3, 1e3), (0.0, np.inf))),
    "logit": Reference(logit, 4.0, draws=over((0.0, 1.0))),
}
