"""Adding at positions that may be named twice, on a GPU, in a fixed order: CuPy's own function adds floats as they come.

Positions are sorted, equals as they come; then a thread for each place adds up what belongs to it, one after the other.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

THREADS = 256

_TEXT = """
extern "C" __global__ void add_rows(const long long* __restrict__ at, const long long* __restrict__ order,
    const TYPE* __restrict__ rows, TYPE* out, const long long count, const long long width) {
    const long long cell = (long long)blockIdx.x * 256 + threadIdx.x;
    if (cell >= count * width) return;
    const long long first = cell / width, column = cell % width, place = at[first];
    if (first > 0 && at[first - 1] == place) return;
    TYPE sum = out[place * width + column];
    for (long long k = first; k < count && at[k] == place; ++k) sum += rows[order[k] * width + column];
    out[place * width + column] = sum;
}
"""


def add_at(xp: Any, out: Any, filled: tuple[Any, ...], g: Any) -> None:
    """``out[filled] += g``, but a position named twice is added to twice, in the order of ``g``."""
    if out.dtype.kind in "iub" and out.dtype.itemsize < 4:  # CuPy adds at positions of none of these
        wide = out.astype(np.int32)
        add_at(xp, wide, filled, g.astype(np.int32))
        out[...] = wide
        return
    if out.dtype.kind not in "fcV":
        xp.add.at(out, filled, g)  # in whatever order, as nothing is rounded
        return
    if out.dtype.kind == "V" or out.dtype.itemsize == 2:  # narrow floats add up in float32
        wide = out.astype(np.float32)
        add_at(xp, wide, filled, g.astype(np.float32))
        out[...] = wide
        return
    made = xp.ascontiguousarray(out)
    lead = _leading(filled, made.ndim)
    places = math.prod(made.shape[:lead])
    index = filled if lead == made.ndim else filled[:lead]
    positions = xp.arange(places, dtype=np.int64).reshape(made.shape[:lead])[index]
    width = math.prod(made.shape[lead:])
    rows = xp.ascontiguousarray(xp.broadcast_to(g, (*positions.shape, *made.shape[lead:]))).reshape(positions.size, width)
    _add_rows(xp, made.reshape(places, width), positions.reshape(-1), rows)
    if made is not out:
        out[...] = made


def _leading(filled: tuple[Any, ...], ndim: int) -> int:
    """How many first axes the index names, where what is behind them is taken whole; all of them where arrays stand apart."""
    if any(item is None or item is Ellipsis for item in filled):
        return ndim
    lead = len(filled)
    while lead > 1 and isinstance(filled[lead - 1], slice) and filled[lead - 1] == slice(None):
        lead -= 1
    kinds = [isinstance(item, slice) for item in filled[:lead]]
    return ndim if any(kinds) else lead


def _add_rows(xp: Any, out: Any, at: Any, rows: Any) -> None:
    if not rows.size:
        return
    if out.dtype.kind == "c":
        part = np.dtype(f"f{out.dtype.itemsize // 2}")
        _add_rows(xp, out.view(part), at, rows.view(part))
        return
    order = xp.argsort(at, kind="stable")
    kind = "float" if out.dtype.itemsize == 4 else "double"
    kernel = xp.RawModule(code=_TEXT.replace("TYPE", kind), options=("--std=c++17", "-fmad=false")).get_function("add_rows")
    grid = -(-rows.size // THREADS)
    kernel((grid,), (THREADS, 1), (at[order], order.astype(np.int64), rows, out, rows.shape[0], rows.shape[1]))
