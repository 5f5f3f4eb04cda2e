"""The error of an op's kernel in units in the last place, against a reference of higher precision.

Knows how to compare, and nothing of any particular op: what an op is compared with is its `Reference`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowgraph.graph import Op
from flowgraph.graph.spec import as_dtype
from flowgraph.ops.samples import Sample

Array = Any
Draws = Callable[[np.random.Generator, np.dtype[Any], int], Sequence[Sample]]
Pairs = list[tuple[Array, Array]]

# Where C's long double has no more digits than a double (Windows, ARM Macs), there is no reference for double precision.
HAS_LONG_DOUBLE = np.finfo(np.longdouble).nmant > np.finfo(np.float64).nmant
DTYPES = ("float32", "float64", "complex64", "complex128", "float16", "bfloat16")
NARROW = DTYPES[-2:]
WIDER: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float64),
    "float64": np.dtype(np.longdouble),
    "complex64": np.dtype(np.complex128),
    "complex128": np.dtype(np.clongdouble),
    "float16": np.dtype(np.float64),
    "bfloat16": np.dtype(np.float64),
}


@dataclass(frozen=True)
class Reference:
    """What an op's values are measured against.

    value    the same function of the same inputs and attributes. It is called with wider numbers than the kernel, so that its own rounding
             does not count; for integers, and where ``exact``, with the very inputs of the kernel, and then has to give the same numbers
    bound    ulps that the error may have, for real inputs; 0 where nothing is rounded
    complex_bound  the same for complex inputs, measured by the distance in the plane; None for ``bound``
    draws    further inputs than the op's samples, which are few and tame: of a generator, the dtype, and how many are wanted
    scale    the number whose last place counts, of the same arguments as ``value``; None for the value itself
    pairs    instead of value and scale, where the result is not unique (eigenvectors, say): of the outputs and the inputs, all in wider
             numbers, what should be zero, and the number whose last place counts
    exact    whether the numbers are to be those of ``value`` in the dtype of the inputs
    samples  whether the op's own samples are measured as well
    dtypes   those in which the op is measured, if its samples have them
    rival    another library's function of the same arguments, with its name: measured beside the kernel in the page
    measure  how the page's table names the number whose last place counts
    """

    value: Callable[..., Any] | None = None
    bound: float = 0.0
    complex_bound: float | None = None
    draws: Draws | None = None
    scale: Callable[..., Any] | None = None
    pairs: Callable[..., Pairs] | None = None
    exact: bool = False
    samples: bool = True
    dtypes: tuple[str, ...] = DTYPES
    rival: tuple[str, Callable[..., Any]] | None = None
    measure: str = "value"

    def bound_in(self, dtype: str) -> float:
        """In 16 bits no more than 4, as almost all is computed in 32."""
        if dtype in NARROW:
            return min(self.bound, 4.0)
        return self.bound if self.complex_bound is None or dtype.startswith("float") else self.complex_bound


@dataclass
class Measured:
    """The largest error of an op in one dtype, and the inputs where it was met."""

    ulps: float = 0.0
    count: int = 0
    where: str = ""

    def add(self, errors: Array, sample: Sample, inputs: Sequence[Array]) -> None:
        errors = np.asarray(errors)
        if not errors.size:
            return
        self.count += errors.size
        worst = np.unravel_index(np.argmax(errors), errors.shape)  # (a NaN among the errors is found first)
        if not errors[worst] <= self.ulps:
            self.ulps = float(errors[worst])
            at = [x[worst] for x in inputs if x.shape == errors.shape]
            self.where = f"{sample}: {', '.join(map(repr, at))}" if len(at) == len(inputs) else str(sample)


def measured(op: Op, reference: Reference, dtype: str, count: int, kernel: Callable[..., Any] | None = None) -> Measured:
    """The largest error of ``op`` in ``dtype``, which is one of `DTYPES`, or "integers" for what has no floats among its inputs.

    count   how many numbers are drawn, about
    kernel  called in place of the op's own, with its inputs and attributes; may give None where it has no such function
    """
    run = kernel or (lambda *inputs, **attrs: op.kernel(np, *inputs, **attrs))
    found = Measured()
    with np.errstate(all="ignore"):
        for sample in cases(op, reference, dtype, count):
            result = run(*sample.inputs, **sample.attrs)
            for errors in _errors(reference, listed(result), sample, dtype) if result is not None else ():
                found.add(errors, sample, sample.inputs)
    return found


def dtypes_of(op: Op, reference: Reference) -> list[str]:
    """The dtypes in which an op is measured, of those that its samples have: single and double precision where they have double."""
    samples = list(op.samples)
    kinds = {kind_of(sample) for sample in samples}
    names = {x.dtype.name for sample in samples for x in sample.inputs} & {"float16", "bfloat16"}
    names |= {"float32", "float64"} if "float" in kinds else set()
    names |= {"complex64", "complex128"} if "complex" in kinds else set()
    if not (HAS_LONG_DOUBLE or reference.exact):
        names -= {"float64", "complex128"}
    return [dtype for dtype in DTYPES if dtype in names and dtype in reference.dtypes] + ["integers"] * ("integers" in kinds)


def kind_of(sample: Sample) -> str:
    """By the inputs: "complex" or "float" in double precision, "integers" where there is neither, "other" for other precisions."""
    kinds = {x.dtype.kind for x in sample.inputs}
    if not kinds & set("fcV"):
        return "integers"
    if any(x.dtype.kind in "fcV" and x.dtype not in (np.float64, np.complex128) for x in sample.inputs):
        return "other"
    return "complex" if "c" in kinds else "float"


def cases(op: Op, reference: Reference, dtype: str, count: int) -> Iterator[Sample]:
    """The samples of the op and the drawn ones, cast to ``dtype``."""
    wanted = dtype if dtype == "integers" else "complex" if dtype.startswith("complex") else "float"
    samples = [sample for sample in op.samples if kind_of(sample) == wanted] if reference.samples else []
    if reference.draws and wanted != "integers":
        rng = np.random.default_rng(zlib.crc32(f"{op.name} {dtype}".encode()))
        samples += [sample for sample in reference.draws(rng, as_dtype(dtype), count) if kind_of(sample) == wanted]
    for sample in samples:
        with np.errstate(over="ignore"):
            inputs = sample.inputs if wanted == "integers" else tuple(cast(x, as_dtype(dtype)) for x in sample.inputs)
            yield Sample(inputs, sample.attrs)


def cast(x: Array, dtype: np.dtype[Any]) -> Array:
    """Floats and complex numbers in the precision of ``dtype``; all others as they are."""
    if x.dtype.kind == "c":
        return x.astype(np.result_type(dtype, np.complex64))
    return x.astype(np.finfo(dtype).dtype if dtype.kind == "c" else dtype) if x.dtype.kind in "fV" else x


def listed(result: Any) -> list[Array]:
    """One output or several as a list of arrays."""
    return [np.asarray(y) for y in (result if isinstance(result, tuple | list) else (result,))]


def _errors(reference: Reference, outputs: list[Array], sample: Sample, dtype: str) -> Iterator[Array]:
    attrs = sample.attrs
    if reference.exact or dtype == "integers":
        assert reference.value is not None
        for have, want in zip(outputs, listed(reference.value(*sample.inputs, **attrs)), strict=True):
            have, want = (y.astype(np.float32) if y.dtype.kind == "V" else y for y in (have, want))
            same = have.shape == want.shape and np.array_equal(have, want, equal_nan=have.dtype.kind in "fc")
            yield np.full(max(have.size, 1), 0.0 if same else np.inf)
        return
    inputs = [cast(x, WIDER[dtype]) for x in sample.inputs]
    if reference.pairs is not None:
        precision = outputs[-1].real.dtype
        for zero, size in reference.pairs([cast(y, WIDER[dtype]) for y in outputs], *inputs, **attrs):
            yield np.abs(zero) / ulp(np.broadcast_to(np.abs(size), np.shape(zero)), precision)
        return
    assert reference.value is not None
    wants = listed(reference.value(*inputs, **attrs))
    scales = [None] * len(wants) if reference.scale is None else listed(reference.scale(*inputs, **attrs))
    for have, want, scale in zip(outputs, wants, scales, strict=True):
        yield errors(have, want, scale)


def errors(have: Array, want: Array, scale: Array | None = None) -> Array:
    """How far each number of ``have`` is from that of ``want``, which is wider, in ulps of the dtype of ``have`` at ``scale``.

    NaN has to meet NaN, and an infinity the same infinity, or a number that is out of the range of the dtype of ``have``.
    """
    if have.shape != want.shape:
        return np.full(max(have.size, 1), np.inf)
    if have.dtype.kind not in "fcV":
        return np.where(have == want, 0.0, np.inf)
    largest = float(limits(have.dtype).max)
    scale = np.minimum(np.abs(want), largest) if scale is None else np.abs(scale)
    if have.dtype.kind == "c":
        distance = np.abs(have.astype(want.dtype) - want) / ulp(scale, have.real.dtype)
        # (The parts of a number next to the end of the range may overflow where it does not.)
        return np.where(np.isfinite(have), distance, np.where(np.abs(want) < largest / 2, np.inf, 0.0))
    # An overflow counts as the first number that is too large: an infinity next to the largest finite number is 1 ulp off.
    top = np.ldexp(np.ones((), want.dtype), limits(have.dtype).maxexp)
    number = np.where(np.isinf(have), np.copysign(top, have), have.astype(want.dtype))
    distance = np.abs(number - np.clip(want, -top, top)) / ulp(scale, have.dtype)
    distance = np.where(np.isnan(want), np.where(np.isnan(have), 0.0, np.inf), distance)
    distance = np.where(np.isinf(want), np.where(have == want, 0.0, np.inf), distance)
    return np.where(np.isnan(have) & ~np.isnan(want), np.inf, distance)


def ulp(magnitude: Array, dtype: Any) -> Array:
    """The distance between neighbouring numbers of ``dtype`` at ``magnitude``: 2**(e - p + 1) from 2**e on, for p binary digits.

    Beyond the largest number it is what it would be, had the dtype larger exponents.
    """
    info = limits(dtype)
    magnitude = np.abs(np.where(np.isfinite(magnitude), magnitude, 1))
    _, exponent = np.frexp(magnitude)
    exponent = np.where(magnitude == 0, info.minexp, np.maximum(exponent - 1, info.minexp))
    return np.ldexp(np.ones((), magnitude.dtype), exponent - info.nmant)


def limits(dtype: Any) -> Any:
    """NumPy's finfo, which has no bfloat16."""
    if np.dtype(dtype).kind != "V":
        return np.finfo(dtype)
    import ml_dtypes

    finfo: Any = ml_dtypes.finfo
    return finfo(dtype)
