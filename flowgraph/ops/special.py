"""Special functions: the error function, the gamma family, and x log y.

The kernels are SciPy's on the CPU (the extra `special`) and CuPy's own on a GPU. Both compute in float32 and float64: narrower floats
are widened on the way in and rounded on the way out. `polygamma` is closed under differentiation, so every gradient here is one of
these functions again.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError, DtypeError, GradientError, MissingExtraError
from ..graph import Spec, Tensor, op
from ..graph.op import Op
from ..graph.spec import broadcast_shapes, promote_dtypes
from .elementwise import Elementwise, equal, exp, isnan, like, log, logical_and, logical_not, where
from .samples import LOW, binary, unary


def library(xp: Any) -> Any:
    """The module that holds the special functions for arrays of ``xp``. raises MissingExtraError without SciPy."""
    if xp is not np:
        import cupyx.scipy.special

        return cupyx.scipy.special
    try:
        import scipy.special
    except ImportError:
        raise MissingExtraError.of("scipy", "special") from None
    return scipy.special


class Special(Elementwise):
    """Base: an op whose kernel is the ufunc of that name in `library`, for real numbers; integers count as float64."""

    flops_each = 50.0

    def infer(self, x: Any, **attrs: Any) -> Any:
        return self.spec(x)

    def spec(self, *inputs: Any) -> Spec:
        dtype = promote_dtypes(*(x.dtype for x in inputs))
        if dtype.kind == "c":
            raise DtypeError(f"takes real numbers, got {dtype}")
        return Spec(broadcast_shapes(*(x.shape for x in inputs)), np.dtype("float64") if dtype.kind in "biu" else dtype)

    def bind(self, xp: Any, attrs: dict[str, Any]) -> Any:
        return Op.bind(self, xp, attrs)

    def kernel(self, xp: Any, *inputs: Any, out: Any = None) -> Any:
        return apply(getattr(library(xp), self.ufunc), self.spec(*inputs).dtype, inputs, out)


def apply(function: Any, dtype: np.dtype[Any], inputs: Any, out: Any) -> Any:
    """``function`` of ``inputs`` in ``dtype``, computed in float32 where that is narrower."""
    wide = dtype if dtype.itemsize >= 4 else np.dtype("float32")
    inputs = [x if x.dtype == wide else x.astype(wide) for x in inputs]
    if wide == dtype:
        return function(*inputs, out=out)
    result = function(*inputs).astype(dtype)
    if out is None:
        return result
    out[...] = result
    return out


class Erf(Special):
    """Error function ``2 / sqrt(pi) * integral of exp(-t**2) from 0 to x``, element by element.

    x        real tensor; integers count as float64
    returns  same shape and dtype

    >>> session.run(fg.special.erf([0.0, 1.0]))
    array([0.        , 0.84270079])
    """

    ufunc = "erf"
    flops_each = 300.0

    def scalar(self, s: Any, x: Any) -> Any:
        return s.erf(x)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * (exp(-x * x) * (2 / math.sqrt(math.pi)))

    samples = unary(edges=(-np.inf, 0.0, 30.0, np.nan), also=LOW)


class Erfc(Special):
    """``1 - erf(x)``, with all its digits where that is tiny, element by element."""

    ufunc = "erfc"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * (exp(-x * x) * (-2 / math.sqrt(math.pi)))

    samples = unary(edges=(-np.inf, 0.0, 20.0, np.nan), also=LOW)


class Erfinv(Special):
    """Number whose error function is ``x``, element by element; infinite at -1 and 1, NaN beyond."""

    ufunc = "erfinv"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * (exp(out * out) * (math.sqrt(math.pi) / 2))

    samples = unary((-0.9, 0.9), edges=(-1.0, 0.0, 1.0, 2.0), also=LOW)


class Gammaln(Special):
    """Logarithm of the size of the gamma function, element by element; infinite at 0, -1, -2...

    >>> session.run(fg.special.gammaln([1.0, 5.0]))
    array([0.        , 3.17805383])
    """

    ufunc = "gammaln"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * digamma(x)

    samples = unary((0.3, 3.0), edges=(-1.5, 0.0, 1e-300, 1e300, np.inf), also=LOW) + unary((-1.8, -1.2))


class Digamma(Special):
    """Derivative of `gammaln`, element by element."""

    ufunc = "digamma"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * _polygamma(x, n=1)

    samples = unary((0.3, 3.0), edges=(-1.5, 0.0, 1e-300, 1e300), also=LOW)


class Polygamma(Special):
    """Derivative ``n`` of `digamma`, for ``n`` of at least 1."""

    def kernel(self, xp: Any, *inputs: Any, out: Any = None, n: int = 1) -> Any:
        (x,) = inputs
        zeta = library(xp).zeta
        factor = (-1) ** (n + 1) * math.factorial(n)

        def function(x: Any, out: Any = None) -> Any:
            return xp.multiply(zeta(x.dtype.type(n + 1), x), x.dtype.type(factor), out=out)

        return apply(function, self.spec(x).dtype, inputs, out)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, n: int) -> Any:
        return g * _polygamma(x, n=n + 1)

    samples = unary((0.5, 3.0), attrs=({"n": 1}, {"n": 2}), edges=(0.0, 1.0, 1e300), also=LOW)


class Gammainc(Special):
    """Integral of ``t**(a - 1) * exp(-t)`` from 0 to ``x`` over that from 0 to infinity (`gamma(a)`), element by element.

    a        positive
    x        not negative
    returns  in [0, 1]; has a gradient by ``x`` only
    raises   GradientError when the gradient by ``a`` is asked for

    >>> session.run(fg.special.gammainc(1.0, [0.0, 1.0]))
    array([0.        , 0.63212056])
    """

    ufunc = "gammainc"
    sign = 1.0

    def infer(self, a: Any, x: Any) -> Any:  # type: ignore[override]  # one input more
        return self.spec(a, x)

    def vjp(self, g: Tensor, out: Tensor, a: Tensor, x: Tensor) -> Any:
        def by_a() -> Tensor:
            raise GradientError(f"{self.name} has no gradient by a", help="fg.stop_gradient(a) makes it a constant")

        return by_a, lambda: like(g * (exp(xlogy(a - 1, x) - x - gammaln(a)) * self.sign), x)

    samples = binary((0.5, 3.0), (0.3, 3.0), edges=(0.0, 0.5, 1e300), also=LOW)


class Gammaincc(Gammainc):
    """``1 - gammainc(a, x)``, with all its digits where that is tiny, element by element; has a gradient by ``x`` only."""

    ufunc = "gammaincc"
    sign = -1.0


class Betaln(Special):
    """Logarithm of the beta function of positive ``a`` and ``b``, element by element."""

    ufunc = "betaln"

    def infer(self, a: Any, b: Any) -> Any:  # type: ignore[override]  # one input more
        return self.spec(a, b)

    def vjp(self, g: Tensor, out: Tensor, a: Tensor, b: Tensor) -> Any:
        return lambda: like(g * (digamma(a) - digamma(a + b)), a), lambda: like(g * (digamma(b) - digamma(a + b)), b)

    samples = binary((0.3, 3.0), edges=(0.5, 1e300), also=LOW)


class Xlogy(Special):
    """``x * log(y)``, and 0 where ``x`` is 0, whatever ``y`` is unless NaN; element by element.

    >>> session.run(fg.special.xlogy([0.0, 2.0], [0.0, 1.0]))
    array([0., 0.])
    """

    ufunc = "xlogy"
    flops_each = 12.0

    def infer(self, x: Any, y: Any) -> Any:  # type: ignore[override]  # one input more
        return self.spec(x, y)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        def by_y() -> Tensor:
            nothing = logical_and(equal(x, 0), logical_not(isnan(y)))
            return like(g * where(nothing, 0, x / where(nothing, 1, y)), y)

        return lambda: like(g * log(y), x), by_y

    samples = binary((-2, 2), (0.3, 3.0), edges=(0.0, 1.0, np.inf, np.nan), also=LOW)


class Logit(Special):
    """``log(x / (1 - x))``, element by element: the inverse of `expit`; NaN outside [0, 1]."""

    ufunc = "logit"
    flops_each = 12.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g / (x * (1 - x))

    samples = unary((0.1, 0.9), edges=(0.0, 1e-300, 1.0, 2.0), also=LOW)


erf = op(Erf)
erfc = op(Erfc)
erfinv = op(Erfinv)
gammaln = op(Gammaln)
digamma = op(Digamma)
_polygamma = op(Polygamma)
gammainc = op(Gammainc)
gammaincc = op(Gammaincc)
betaln = op(Betaln)
xlogy = op(Xlogy)
logit = op(Logit)


def polygamma(n: int, x: Any) -> Tensor:
    """Derivative ``n`` of `digamma` at ``x``, element by element; ``n`` is a number, 0 for digamma itself.

    raises  ArgumentError for an ``n`` that is no whole number or negative

    >>> session.run(fg.special.polygamma(1, [1.0]))
    array([1.64493407])
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
        raise ArgumentError(f"polygamma: n is a whole number, at least 0, got {n!r}", help="polygamma(n, x), in this order")
    return _polygamma(x, n=int(n)) if n else digamma(x)
