"""Adding into positions: kernels that are fast where NumPy's ``add.at`` is slow, and add in a fixed order.

What lands at one position adds up in the order in which it stands in the source, so the bits depend on nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .scatter_device import add_at as add_on_device

# Positions named more often than this get a sum of their own.
ROUNDS = 32

# Rows up to this width are added element by element (in float64).
NARROW = 8


def add_at(xp: Any, out: Any, index: tuple[Any, ...], tensors: Sequence[Any], filled: tuple[Any, ...], g: Any) -> None:
    """``out[filled] += g``, but a position named twice is added to twice.

    index    "i" for each of ``tensors``, ints and slices: `filled` without its arrays
    """
    arrays = [i for i, item in enumerate(index) if item.__class__ in (str, int)]
    side_by_side = arrays == list(range(arrays[0], arrays[-1] + 1)) and all(item == slice(None) for item in index[: arrays[0]])
    if xp is not np:
        add_on_device(xp, out, filled, g)
        return
    if not side_by_side or len(index) > arrays[-1] + 1 or g.dtype.kind == "b" or not out.flags.c_contiguous:
        np.add.at(out, filled, g)
        return
    first, last = arrays[0], arrays[-1] + 1
    sizes = out.shape[first:last]
    at = _flat_positions(filled[first:last], sizes, first)
    before, count, width = math.prod(out.shape[:first]), math.prod(sizes), math.prod(out.shape[last:])
    if before == 1:
        add_rows(out.reshape(count, width), at, g.reshape(at.size, width))
        return
    rows = np.zeros((count, before * width), out.dtype)
    add_rows(rows, at, g.reshape(before, at.size, width).swapaxes(0, 1).reshape(at.size, before * width))
    out += rows.reshape(count, before, width).swapaxes(0, 1).reshape(out.shape)


def _flat_positions(items: Sequence[Any], sizes: Sequence[int], first: int) -> Any:
    """The positions that index arrays side by side name, counted over their axes together."""
    flat: Any = 0
    for axis, (item, size) in enumerate(zip(items, sizes, strict=True), first):
        position = np.asarray(item)
        check_positions(position, size, axis)
        flat = flat * size + np.where(position < 0, position + size, position)
    return np.ravel(flat)


def check_positions(position: Any, size: int, axis: int) -> None:
    """raises IndexError, in NumPy's words, for one out of range."""
    if position.size and not (-size <= int(position.min()) and int(position.max()) < size):
        worst = position[(position < -size) | (position >= size)].flat[0]
        raise IndexError(f"index {worst} is out of bounds for axis {axis} with size {size}")


def add_rows(out: Any, at: Any, rows: Any) -> None:
    """``out[at[i]] += rows[i]`` for every i: shapes (positions, width), (n,) with positions from 0 on, and (n, width)."""
    if not rows.size:
        return
    width = rows.shape[1]
    if width <= NARROW and rows.dtype in (np.float32, np.float64):
        cells = at if width == 1 else np.ravel(at[:, None] * width + np.arange(width))
        out += np.bincount(cells, rows.ravel(), out.size).reshape(out.shape).astype(out.dtype, copy=False)
        return
    if rows.dtype.kind in "fV" and rows.dtype.itemsize < 4:  # narrow floats add up in float32
        wide = out.astype(np.float32)
        add_rows(wide, at, rows.astype(np.float32))
        out[...] = wide
        return
    order = stable_order(at, len(out))
    at = at[order]
    starts = np.flatnonzero(np.concatenate(([True], at[1:] != at[:-1])))
    counts = np.diff(starts, append=len(at))
    # In round r each position gets the r-th of its rows, so no round names a position twice. The few that are named often get
    # theirs by a sum each.
    often = counts > ROUNDS
    for start, count in zip(starts[often].tolist(), counts[often].tolist(), strict=True):
        out[at[start]] += np.sum(rows[order[start : start + count]], axis=0)
    starts, counts = starts[~often], counts[~often]
    for number in range(int(counts.max(initial=0))):
        here = starts[counts > number]
        out[at[here]] += rows[order[here + number]]


def stable_order(at: Any, bound: int) -> Any:
    """The order that sorts ``at``, equals as they come; its entries are from 0 on and below ``bound``.

    NumPy sorts 16 bits by counting, about ten times as fast as wider integers.
    """
    order = np.argsort(at.astype(np.uint16), kind="stable")
    for shift in range(16, max(bound - 1, 0).bit_length(), 16):
        order = order[np.argsort((at >> shift)[order].astype(np.uint16), kind="stable")]
    return order
