"""How arrays lie where channels come last, as NumPy's implementations, JAX and TensorFlow like them."""

from __future__ import annotations

import numpy as np

from benchmarks.workload import Array


def channels_last(x: Array) -> Array:
    """Images (..., channels, height, width) as (..., height, width, channels)."""
    return np.ascontiguousarray(np.moveaxis(x, -3, -1))


def filters_last(parameters: list[Array]) -> list[Array]:
    """The parameters with filters as (height, width, in, out); all of them copied."""
    return [np.array(p.transpose(2, 3, 1, 0) if p.ndim == 4 else p, order="C") for p in parameters]


def filters_first(parameters: list[Array]) -> list[Array]:
    """The inverse of ``filters_last``."""
    return [p.transpose(3, 2, 0, 1) if p.ndim == 4 else p for p in parameters]
