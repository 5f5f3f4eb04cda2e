"""What draws make of random bits, element by element: the same to the last bit by NumPy, in loops for the host and in those for a GPU.

So they are made of operations that IEEE 754 or the arithmetic of whole numbers leaves no choice in, and of no fused one: NumPy has none. An
op's formula, `scalar`, is written once. Loops are compiled from it, and `Arrays` has it computed by NumPy and CuPy.

A float rests on a number within (0, 1), ``v = (k + 1/2) / n`` for whole numbers k below n = 2**31 (float32) or 2**52 (float64), and on what
is left of 1, ``u``, both with all digits. So tails are as fine as the middle, and no draw is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..graph import Op, Spec, Tensor, Work, no_gradient, op
from ..graph.op import Batch, Slicing
from ..jit.functions import DOUBLE, SINGLE
from ..jit.values import FLOAT32, FLOAT64, INT32, INT64
from .batching import full
from .elementwise import rowwise
from .samples import Drawn, Sample

UINT64 = np.dtype("uint64")
FLOATS: dict[Any, np.dtype[Any]] = {INT32: FLOAT32, INT64: FLOAT64}  # what is made of which bits
# Bytes of results that NumPy makes at once, so that its passes stay in the cache. (With fewer, its calls take longer than they compute.)
BLOCK_BYTES = 2**17
# So many elements of a permutation leave enough of a random word beside a place among them.
MOST_PACKED = 2**24


class Quantile(NamedTuple):
    """A normal draw's size ``y`` by the number x that says how many are smaller, as quotients of polynomials, their highest power first.

    centre  up to here x**2 counts as near 0
    near    numerator and denominator of y / x in centre - x**2, which is at least 0; as all coefficients are but one, nothing cancels
    start   from here on r counts, where r**2 = -log((1 - x) / 2)
    far     numerator and denominator of y in r - start
    """

    centre: float
    near: tuple[Sequence[float], Sequence[float]]
    start: float
    far: tuple[Sequence[float], Sequence[float]]


# Interpolated at Chebyshev's points in 34 digits, up to the largest r that there is. The form is Wichura's (Algorithm AS 241, 1988).
QUANTILES = {
    FLOAT32: Quantile(
        0.625,
        ((-0.019674137234687805, 0.6110900640487671, 4.306417942047119, 5.266469478607178, 1.5876312255859375),
         (1.1104689836502075, 4.1979265213012695, 3.905491352081299, 1.0)),
        1.5,
        ((0.04191064089536667, 0.5580427646636963, 2.2004458904266357, 3.1073741912841797, 1.2513729333877563),
         (0.029624810442328453, 0.35080811381340027, 1.0973737239837646, 1.0)),
    ),
    FLOAT64: Quantile(
        0.71875,
        ((0.02793337766846858, 2.126697488266918, 24.740233683867512, 99.28359775614892, 179.3172446132633, 163.50538901758284,
          77.78572938822171, 18.347013332134036, 1.688827479033135),
         (0.13459894925349786, 4.162437094177554, 32.48924958462835, 101.82018999175195, 154.6878253942224, 123.96520843396137,
          53.33868516667736, 11.606947903330068, 1.0)),
        1.59375,
        ((4.91851306601201e-05, 0.002263526625837119, 0.03731943169305771, 0.30628098497625633, 1.4151725480924051, 3.815711668887696,
          5.858043480908903, 4.634636466986407, 1.412758860483233),
         (1.504219570706256e-11, 3.477697578470101e-05, 0.0015453865334534662, 0.02402695409631793, 0.18158501908986088,
          0.7507803632786724, 1.7290975496332914, 2.070659727166202, 1.0)),
    ),
}  # fmt: skip


class Arrays:
    """What formulas are written with (see `flowgraph.jit.functions.Scalars`), over arrays."""

    def __init__(self, xp: Any) -> None:
        self.xp, self.sqrt = xp, xp.sqrt

    def constant(self, number: Any, dtype: np.dtype[Any]) -> Any:
        return dtype.type(number)

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        return self.xp.where(condition, x, y)

    def equal(self, x: Any, y: Any) -> Any:
        return x == y

    def bits(self, x: Any) -> Any:
        return x.view(INT32 if x.dtype == FLOAT32 else INT64)

    def from_bits(self, x: Any) -> Any:
        return x.view(FLOATS[x.dtype])

    def bitwise(self, kind: str, x: Any, y: Any) -> Any:
        if kind == "lshr":
            return (x.view(f"u{x.dtype.itemsize}") >> y).view(x.dtype)
        return getattr(self.xp, _BITWISE[kind])(x, y)

    def astype(self, x: Any, dtype: np.dtype[Any]) -> Any:
        return x.astype(dtype)


_BITWISE = {"and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "shl": "left_shift", "ashr": "right_shift"}


class OfBits(Op):
    """Base: ``inputs`` are random bits of one shape."""

    vjp = no_gradient("a random draw does not depend on its seed smoothly")
    flops_each: ClassVar[float]

    def infer(self, *bits: Any, **attrs: Any) -> Any:
        return Spec(bits[0].shape, FLOATS[bits[0].dtype])

    def kernel(self, xp: Any, *bits: Any, out: Any = None, **attrs: Any) -> Any:
        if xp is not np:
            made = self.scalar(Arrays(xp), *bits, **attrs)
        elif out is None and bits[0].nbytes <= BLOCK_BYTES:
            return self.by_numpy(*[x.reshape(-1) for x in bits], **attrs).reshape(bits[0].shape)
        else:
            spec, flat = self.infer(*bits, **attrs), [x.reshape(-1) for x in bits]
            made = out if out is not None and out.flags.c_contiguous else np.empty(spec.shape, spec.dtype)
            target = made.reshape(-1)
            length = BLOCK_BYTES // target.itemsize
            for first in range(0, target.size, length):
                target[first : first + length] = self.by_numpy(*[x[first : first + length] for x in flat], **attrs)
        if out is None or out is made:
            return made
        out[...] = made
        return out

    def by_numpy(self, *bits: Any, **attrs: Any) -> Any:
        return self.scalar(Arrays(np), *bits, **attrs)

    def vmap(self, batch: Batch, *bits: Tensor, **attrs: Any) -> Tensor:
        return self(*[full(batch, x, i) for i, x in enumerate(bits)], **attrs)

    def work(self, *bits: Any, **attrs: Any) -> Work:
        made = self.infer(*bits, **attrs)
        nbytes = math.prod(made.shape) * (made.dtype.itemsize + sum(x.dtype.itemsize for x in bits))
        return Work(self.flops_each * math.prod(made.shape), nbytes)

    def slicing(self, out: Any, *inputs: Any, **attrs: Any) -> Slicing | None:
        return rowwise(out, inputs)


def _samples(*attrs: dict[str, Any], words: int = 1, dtypes: Sequence[str] = ("int32", "int64")) -> Any:
    """Random bits, and those at the ends."""

    def draw(rng: np.random.Generator) -> list[Sample]:
        made = []
        for dtype in dtypes:
            ends = np.iinfo(dtype)
            edges = np.array([0, 1, -1, -2, ends.min, ends.min + 1, ends.max, ends.max - 1], dtype)
            for given in attrs or ({},):
                arrays = [rng.integers(ends.min, ends.max, shape, dtype, endpoint=True) for shape in ((), (0,), (2, 3), (4, 1, 3))]
                made += [Sample((x,) * words, given) for x in (*arrays, arrays[2].T)] + [Sample((edges,) * words, given, edges=True)]
        return made

    return Drawn(draw)


class RandomUniform(OfBits):
    """Uniform in [0, 1): of 24 bits, or 53."""

    flops_each, calls = 3.0, 3

    def scalar(self, s: Any, bits: Any) -> Any:
        digits = SINGLE.mantissa + 1 if bits.dtype == INT32 else DOUBLE.mantissa + 1
        whole = s.bitwise("lshr", bits, 8 * bits.dtype.itemsize - digits)
        return s.astype(whole, FLOATS[bits.dtype]) * 2.0**-digits

    samples = _samples()


class RandomNormal(OfBits):
    """Standard normal; with ``limit``, as it is where it is nearer to 0 than that."""

    flops_each, calls = 25.0, 60

    def scalar(self, s: Any, bits: Any, *, limit: float | None = None) -> Any:
        form = QUANTILES[FLOATS[bits.dtype]]
        x, left, square = self._drawn(s, bits, limit)
        is_far = square > form.centre
        chosen = [
            [s.where(is_far, s.constant(a, x.dtype), s.constant(b, x.dtype)) for a, b in zip(far, near, strict=True)]
            for far, near in zip(form.far, form.near, strict=True)
        ]
        quotient = _quotient(s.where(is_far, self._distance(s, left), form.centre - square), *chosen)
        return self._signed(s, s.where(is_far, quotient, quotient * x), bits, limit)

    def by_numpy(self, bits: Any, *, limit: float | None = None) -> Any:
        # Few are far out, and only these need a logarithm.
        s, form = Arrays(np), QUANTILES[FLOATS[bits.dtype]]
        x, left, square = self._drawn(s, bits, limit)
        far = np.flatnonzero(square > form.centre)
        size = _quotient(form.centre - square, *form.near) * x
        size[far] = _quotient(self._distance(s, left[far]), *form.far)
        return self._signed(s, size, bits, limit)

    def _drawn(self, s: Any, bits: Any, limit: float | None) -> tuple[Any, Any, Any]:
        """x, 1 - x and x**2 for the x of `Quantile`."""
        x, left = _between(s, bits)
        if limit is not None:
            x, left = x * math.erf(limit * math.sqrt(0.5)), left * math.erf(limit * math.sqrt(0.5)) + math.erfc(limit * math.sqrt(0.5))
        return x, left, x * x

    def _distance(self, s: Any, left: Any) -> Any:
        return s.sqrt(_minus_log(s, left * 0.5)) - QUANTILES[left.dtype].start

    def _signed(self, s: Any, size: Any, bits: Any, limit: float | None) -> Any:
        if limit is not None:
            most = s.constant(np.nextafter(size.dtype.type(limit), size.dtype.type(0)), size.dtype)
            size = s.where(size > most, most, size)
        sign = s.bitwise("shl", bits, 8 * bits.dtype.itemsize - 1)
        return s.from_bits(s.bitwise("xor", s.bits(size), sign))

    samples = _samples({}, {"limit": 2.0}, {"limit": 0.1})


class RandomExponential(OfBits):
    """Exponential with mean 1."""

    flops_each, calls = 15.0, 35

    def scalar(self, s: Any, bits: Any) -> Any:
        v, u = _between(s, bits)
        return _minus_log(s, u, v)

    samples = _samples()


class RandomIntegers(OfBits):
    """Whole numbers from ``low`` to below ``high``, each as likely to 2**-32 of its likelihood: a random fraction of as many.

    The fraction has 64 bits, or 128 in two inputs where there are more than 2**32 numbers.
    """

    flops_each, calls = 4.0, 10

    def infer(self, *bits: Any, **attrs: Any) -> Any:
        return Spec(bits[0].shape, attrs["dtype"])

    def scalar(self, s: Any, *bits: Any, low: int, high: int, dtype: Any) -> Any:
        count = high - low
        first, *rest = [s.astype(x, UINT64) for x in bits]
        if count == 2**64:
            whole = first
        elif count <= 2**32:
            whole = s.bitwise("lshr", _upper(s, first) * count + s.bitwise("lshr", _lower(s, first) * count, 32), 32)
        else:
            lower = first * count + _upper_product(s, rest[0], count)
            carry = s.astype(lower < first * count, UINT64)
            whole = _upper_product(s, first, count) + carry
        return s.astype(whole + low % 2**64, dtype)

    samples = _samples(
        *[{"low": low, "high": high, "dtype": np.dtype(dtype)} for low, high, dtype in (
            (-3, 4, "int8"), (0, 2**32, "uint32"), (-(2**63), 2**63, "int64"), (5, 2**63 + 6, "uint64"), (7, 8, "int64"))],
        words=2, dtypes=("int64",),
    )  # fmt: skip


class RandomPermutation(Op):
    """The numbers below n, the last size of the shape of ``bits``, in random order, for each row anew: that of its bits."""

    vjp = no_gradient("an order does not depend on its seed smoothly")

    def infer(self, bits: Any) -> Any:
        return Spec(bits.shape, INT64)

    def kernel(self, xp: Any, bits: Any, *, out: Any = None) -> Any:
        count, words = bits.shape[-1], bits.view(UINT64)
        if count > MOST_PACKED:
            made = xp.argsort(words, axis=-1, kind="stable")
        else:
            # To sort words with places in them takes a quarter of the time. No two are equal, so that all ways to sort agree.
            width = max(count - 1, 1).bit_length()
            made = xp.sort((words >> width << width) | xp.arange(count, dtype=UINT64), axis=-1) & (2**width - 1)
        if out is None:
            return made.astype(INT64)
        out[...] = made
        return out

    def vmap(self, batch: Batch, bits: Tensor) -> Tensor:
        return random_permutation(bits)

    def work(self, bits: Any) -> Work:
        return Work(3000.0 * math.prod(bits.shape), 16.0 * math.prod(bits.shape))

    def slicing(self, out: Any, bits: Any) -> Slicing | None:
        return rowwise(out, (bits,)) if len(out.shape) > 1 else None

    samples = Drawn(
        lambda rng: [Sample((rng.integers(-(2**63), 2**63, shape),)) for shape in ((0,), (1,), (7,), (2, 5), (3, 1, 4), (2, 0))]
    )


def _between(s: Any, bits: Any) -> tuple[Any, Any]:
    """v and u, of all bits but the last, which is left for a sign."""
    if bits.dtype == INT32:
        k = s.bitwise("lshr", bits, 1)
        v, u = [(s.astype(whole, FLOAT32) + 0.5) * 2.0**-31 for whole in (k, s.bitwise("xor", k, 2**31 - 1))]
    else:
        k, one = s.bitwise("lshr", bits, 12), int(np.float64(1).view(np.int64))
        v, u = [s.from_bits(s.bitwise("or", whole, one)) - (1 - 2.0**-53) for whole in (k, s.bitwise("xor", k, 2**52 - 1))]
    return v, u


def _minus_log(s: Any, u: Any, v: Any = None) -> Any:
    """-log(u) for normal numbers; ``v``: 1 - u, where that is known to more digits. As `Scalars.log`, but without fused operations."""
    form = SINGLE if u.dtype == FLOAT32 else DOUBLE
    whole = np.array([math.sqrt(0.5), 1.5 * 2.0**form.mantissa], u.dtype).view(f"i{u.dtype.itemsize}")
    n = s.bitwise("ashr", s.bits(u) - int(whole[0]), form.mantissa)
    f = s.from_bits(s.bits(u) - (s.bitwise("shl", n, form.mantissa))) - 1.0
    if v is not None:
        f = s.where(s.equal(n, 0), -v, f)
    k = s.from_bits(n + int(whole[1])) - 1.5 * 2.0**form.mantissa
    c = f / (2.0 + f)
    z, half = c * c, 0.5 * f * f
    ln2, rest = form.ln2
    return (half - (k * rest + c * (z * _polynomial(z, form.log) + half)) - f) - k * ln2


def _quotient(x: Any, numerator: Sequence[Any], denominator: Sequence[Any]) -> Any:
    return _polynomial(x, numerator) / _polynomial(x, denominator)


def _polynomial(x: Any, coefficients: Sequence[Any]) -> Any:
    """By Horner's rule, the highest coefficient first."""
    result = coefficients[0] * x
    for coefficient in coefficients[1:-1]:
        result += coefficient  # (in place, where these are arrays)
        result *= x
    return result + coefficients[-1]


def _upper(s: Any, word: Any) -> Any:
    return s.bitwise("lshr", word, 32)


def _lower(s: Any, word: Any) -> Any:
    return s.bitwise("and", word, 2**32 - 1)


def _upper_product(s: Any, word: Any, count: int) -> Any:
    """The upper half of ``word * count``, of 128 bits."""
    high, low = divmod(count, 2**32)
    middle = _upper(s, word) * low + _upper(s, _lower(s, word) * low)
    other = _lower(s, word) * high + _lower(s, middle)
    return _upper(s, word) * high + _upper(s, middle) + _upper(s, other)


random_uniform = op(RandomUniform)
random_normal = op(RandomNormal)
random_exponential = op(RandomExponential)
random_integers = op(RandomIntegers)
random_permutation = op(RandomPermutation)
