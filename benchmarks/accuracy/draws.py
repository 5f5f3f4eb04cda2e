"""Random inputs over the whole of a domain: evenly spread, and of every order of magnitude."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flowgraph.ops.samples import Domain, Sample

from .measure import Draws, limits

Array = Any
EVERYTHING = (-math.inf, math.inf)
POSITIVE = (0.0, math.inf)


def over(*domains: Domain, complex: Domain | None = None, attrs: Sequence[dict[str, Any]] = ({},), most: int | None = None) -> Draws:
    """Arrays of one axis, one for each of ``domains``, which are those of real inputs.

    complex  the domain of the real and of the imaginary parts of complex inputs; None for an op that takes none. Their sizes end where
             a square of them would be no normal number
    most     how many numbers are enough in float64, where the reference for that takes long
    """

    def draw(rng: np.random.Generator, dtype: np.dtype[Any], count: int) -> list[Sample]:
        count = min(count, most) if most and dtype == np.float64 else count
        if dtype.kind == "c":
            assert complex is not None
            inputs = [numbers(rng, complex, dtype, count) + 1j * numbers(rng, complex, dtype, count) for _ in domains]
        else:
            inputs = [numbers(rng, domain, dtype, count) for domain in domains]
        return [Sample(tuple(inputs), dict(a)) for a in attrs]

    return draw


def numbers(rng: np.random.Generator, domain: Domain, dtype: np.dtype[Any], count: int) -> Array:
    """Half of them even over the domain (or the part of it between -10 and 10, if it has no end), half even in their exponents."""
    low, high = domain
    even = rng.uniform(low if math.isfinite(low) else -10.0, high if math.isfinite(high) else 10.0, count - count // 2)
    info = limits(dtype)
    smallest = float(info.smallest_subnormal) if np.dtype(dtype).kind == "f" else math.sqrt(info.tiny)
    largest = float(info.max)
    bottom = max(smallest, low, -high)  # the size of the number nearest to 0
    top = min(largest, max(-low, high))
    sizes = np.exp(rng.uniform(math.log(bottom), math.log(top), count))
    signed = np.where(rng.random(count) < 0.5, -sizes, sizes) if low < 0 < high else (sizes if high > 0 else -sizes)
    inside = signed[(signed >= low) & (signed <= high)][: count // 2]
    return rng.permutation(np.concatenate([even, inside, np.full(count // 2 - len(inside), even[0])]))


def normal(*shapes: tuple[int, ...], attrs: Sequence[dict[str, Any]] = ({},), transform: Callable[[Array], Array] = lambda x: x) -> Draws:
    """Normally distributed arrays of these shapes, real and complex."""

    def draw(rng: np.random.Generator, dtype: np.dtype[Any], count: int) -> list[Sample]:
        def array(shape: tuple[int, ...]) -> Array:
            x = rng.standard_normal(shape)
            return transform(x + 1j * rng.standard_normal(shape) if dtype.kind == "c" else x)

        return [Sample(tuple(array(shape) for shape in shapes), dict(a)) for a in attrs]

    return draw
