"""Copies within the host, for devices that are parts of it."""

from __future__ import annotations

from typing import Any

import numpy as np


def copied(x: Any, out: Any = None) -> Any:
    """``x`` in memory of its own, or in ``out``.

    Axes follow each other in memory as they do in ``x``, and are adjacent where they are: NumPy and BLAS choose their loops by that, and
    with them the order of additions. So what reads the copy gets the bits that it would have got from ``x``.
    """
    if out is not None:
        out[...] = x
        return out
    if not isinstance(x, np.ndarray):
        return x  # a scalar, which nobody can write to
    if x.flags.forc or not x.size:
        return x.copy(order="K")
    copy = _alike(x)
    copy[...] = x
    return copy


def _alike(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """New memory for an array whose strides compare as those of ``x``, without what lies between its elements there."""
    strides, offset = [0] * x.ndim, 0
    adjacent_there = adjacent = x.itemsize  # the stride of an axis that follows the last one without a gap
    for axis in sorted(range(x.ndim), key=lambda axis: (abs(x.strides[axis]), -axis)):
        size, stride = x.shape[axis], x.strides[axis]
        if size == 1 or stride == 0:  # repeated along it
            continue
        step = adjacent if abs(stride) == adjacent_there else adjacent + x.itemsize
        adjacent_there, adjacent = abs(stride) * size, step * size
        strides[axis] = step if stride > 0 else -step
        if stride < 0:
            offset += step * (size - 1)
    return np.ndarray(x.shape, x.dtype, np.empty(adjacent, np.uint8), offset, strides)
