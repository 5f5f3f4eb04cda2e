"""References of the Fourier transforms: the matrix of each, in wider numbers.

The error of a fast transform is small beside all of the spectrum and not beside each of its numbers, so it is counted in ulps of the root
mean square of the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flowgraph.ops.samples import Sample

from .measure import Draws, Reference

Array = Any
RMS = "root mean square of the result"


def waves(n: int, dtype: np.dtype[Any]) -> Array:
    """The matrix exp(-2 pi i j k / n), by angles of less than one turn."""
    turn = 8 * np.arctan(np.ones((), dtype))
    angles = np.arange(n)[:, None] * np.arange(n) % n * turn / n
    return np.cos(angles) - 1j * np.sin(angles)


def factor(n: int, norm: str, forward: bool) -> Any:
    """By what the transform is divided: its length as a whole, half (by its root) or not at all."""
    return {"ortho": np.sqrt(np.longdouble(n)), "forward" if forward else "backward": n}.get(norm, 1)


def applied(matrix: Array, x: Array, axis: int) -> Array:
    return np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)


def fftn(x: Array, *, axes: Any, norm: str) -> Array:
    for axis in axes:
        x = applied(waves(x.shape[axis], x.real.dtype) / factor(x.shape[axis], norm, forward=True), x, axis)
    return x.astype(np.result_type(x, np.complex64))


def ifftn(x: Array, *, axes: Any, norm: str) -> Array:
    for axis in axes:
        x = applied(np.conj(waves(x.shape[axis], x.real.dtype)) / factor(x.shape[axis], norm, forward=False), x, axis)
    return x.astype(np.result_type(x, np.complex64))


def half(n: int, dtype: np.dtype[Any]) -> Array:
    """The matrix of rfft (without its norm), from n numbers to n // 2 + 1."""
    return waves(n, dtype)[: n // 2 + 1]


def twice(n: int) -> Array:
    """How many numbers of the whole spectrum each of the half stands for."""
    return np.array([1 if k == 0 or 2 * k == n else 2 for k in range(n // 2 + 1)])


def rfft(x: Array, *, axis: int, norm: str) -> Array:
    n = x.shape[axis]
    return applied(half(n, x.dtype) / factor(n, norm, forward=True), x, axis)


def rfft_transpose(g: Array, x: Array, *, axis: int, norm: str) -> Array:
    n = x.shape[axis]
    return applied(np.conj(half(n, x.dtype)).T / factor(n, norm, forward=True), g, axis).real


def irfft(x: Array, *, n: int | None, axis: int, norm: str) -> Array:
    n = 2 * (x.shape[axis] - 1) if n is None else n
    matrix = np.conj(half(n, x.real.dtype)).T * twice(n) / factor(n, norm, forward=False)
    return applied(matrix, np.moveaxis(np.moveaxis(x, axis, 0)[: n // 2 + 1], 0, axis), axis).real


def irfft_transpose(g: Array, *, n: int | None, axis: int, norm: str) -> Array:
    count = g.shape[axis]
    return applied(half(count, g.dtype) * twice(count)[:, None] / factor(count, norm, forward=False), g, axis)


def root_mean_square(function: Any) -> Any:
    def scale(*inputs: Array, **attrs: Any) -> Array:
        made = np.abs(function(*inputs, **attrs))
        return np.full(made.shape, np.sqrt(np.mean(made * made)) if made.size else 0.0, made.dtype)

    return scale


def signals(*shapes: tuple[int, ...], spectrum: bool = False, **attrs: Any) -> Draws:
    """Normally distributed numbers of these shapes; ``spectrum`` for an op whose first input is always complex, and others real."""

    def draw(rng: np.random.Generator, dtype: np.dtype[Any], count: int) -> list[Sample]:
        return [Sample(tuple(array(rng, shape, dtype) for shape in shapes), attrs)]

    def array(rng: np.random.Generator, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        first = shape is shapes[0]
        is_complex = dtype.kind == "c" and (first or not spectrum)
        return rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if is_complex else 0)

    return draw


def each(*draws: Draws) -> Draws:
    return lambda *wanted: [sample for draw in draws for sample in draw(*wanted)]


def of(function: Any, draws: Draws) -> Reference:
    return Reference(function, 16.0, draws=draws, scale=root_mean_square(function), measure=RMS)


LENGTHS = (64, 97, 120)  # a power of two, a prime, and a product of small primes
MANY = each(*(signals((4, n), axes=(1,), norm="backward") for n in LENGTHS), signals((8, 9, 10), axes=(0, 1, 2), norm="ortho"))

REFERENCES = {
    "fftn": of(fftn, MANY),
    "ifftn": of(ifftn, MANY),
    "rfft": of(rfft, each(*(signals((4, n), axis=1, norm="backward") for n in LENGTHS))),
    "rfft_transpose": of(
        rfft_transpose, each(*(signals((4, n // 2 + 1), (4, n), spectrum=True, axis=1, norm="backward") for n in LENGTHS))
    ),
    "irfft": of(irfft, each(*(signals((4, n // 2 + 1), n=n, axis=1, norm="backward") for n in LENGTHS))),
    "irfft_transpose": of(irfft_transpose, each(*(signals((4, n), n=n, axis=1, norm="backward") for n in LENGTHS))),
}  # fmt: skip
