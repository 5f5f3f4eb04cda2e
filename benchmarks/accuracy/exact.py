"""References of the ops that choose, order, count or move elements: their results are exact, in any dtype."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from .draws import normal
from .measure import Reference

Array = Any


def at(index: Any, tensors: tuple[Array, ...]) -> Any:
    """An index with the tensors in the places that are marked for them."""
    rest = iter(tensors)

    def filled(entry: Any) -> Any:
        if isinstance(entry, str):
            return next(rest)
        return slice(*(filled(end) for end in (entry.start, entry.stop, entry.step))) if isinstance(entry, slice) else entry

    return tuple(filled(entry) for entry in index)


def put(x: Array, values: Array, *tensors: Array, index: Any) -> Array:
    made = np.array(x)
    made[at(index, tensors)] = values
    return made


def padded(x: Array, padding: Any, value: float = 0) -> Array:
    return np.pad(x, [(0, 0)] * (x.ndim - len(padding)) + [tuple(p) for p in padding], constant_values=value)


def windows(x: Array, window: Any, stride: Any) -> Array:
    """The pixels of each window as one last axis, row by row."""
    rank = len(window)
    found: Array = np.lib.stride_tricks.sliding_window_view(x, window, tuple(range(-rank, 0)))
    found = found[(..., *(slice(None, None, s) for s in stride), *(slice(None),) * rank)]
    return found.reshape(*found.shape[:-rank], math.prod(window))


def first_maxima(x: Array, window: Any, stride: Any, padding: Any) -> Array:
    """The position in the flat ``x`` of the first maximum of each window."""
    numbers = windows(padded(np.arange(x.size).reshape(x.shape), padding, -1), window, stride)
    values = windows(padded(x, padding, -np.inf), window, stride)
    return np.take_along_axis(numbers, np.argmax(values, axis=-1)[..., None], axis=-1)[..., 0]


def max_pool(x: Array, *, window: Any, stride: Any, padding: Any) -> Array:
    return np.max(windows(padded(x, padding, -np.inf), window, stride), axis=-1)


def max_pool_gather(v: Array, x: Array, y: Array, **attrs: Any) -> Array:
    return v.reshape(-1)[first_maxima(x, **attrs)]


def fitted(x: Array, sizes: Any, axes: Any) -> Array:
    for axis, size in zip(axes, sizes, strict=True):
        moved = np.moveaxis(x, axis, 0)[:size]
        moved = np.concatenate([moved, np.zeros((size - len(moved), *moved.shape[1:]), x.dtype)])
        x = np.moveaxis(moved, 0, axis)
    return x


def reshape(x: Array, *, shape: Any, keep: int = 0) -> Array:
    lead = x.shape[:keep]
    left = int(np.prod(x.shape[keep:])) // max(1, -int(np.prod(shape))) if -1 in shape else 0
    return np.array(x).reshape(*lead, *(left if d == -1 else d for d in shape))


def reshape_like(x: Array, target: Array, *, axis: Any) -> Array:
    return x.reshape([1 if axis is not None and i in axis else d for i, d in enumerate(target.shape)])


def permute_dims(x: Array, *, axes: Any) -> Array:
    letters = "abcdefgh"[: x.ndim]
    return np.einsum(f"{letters}->{''.join(letters[a] for a in axes)}", x)


def split(x: Array, *, bounds: Any, axis: int) -> Any:
    size = x.shape[axis]
    ends = [0, *([size * k // bounds for k in range(1, bounds)] if isinstance(bounds, int) else bounds), size]
    parts = tuple(np.moveaxis(np.moveaxis(x, axis, 0)[a:b], 0, axis) for a, b in itertools.pairwise(ends))
    return parts if len(parts) > 1 else parts[0]


def concat_part(g: Array, *parts: Array, axis: int, position: int) -> Array:
    bounds = np.cumsum([0, *(part.shape[axis] for part in parts)])
    return np.moveaxis(np.moveaxis(g, axis, 0)[bounds[position] : bounds[position + 1]], 0, axis)


def repeat(x: Array, *, count: int, axis: int, whole: bool) -> Array:
    size = x.shape[axis]
    order = [k % size if whole else k // count for k in range(size * count)]
    return np.take(x, np.array(order, int), axis=axis)


def roll(x: Array, *, shift: Any, axis: Any) -> Array:
    for by, along in zip(shift, axis, strict=True):
        x = np.take(x, (np.arange(x.shape[along]) - by) % max(x.shape[along], 1), axis=along)
    return x


def diagonal_part(x: Array, *, offset: int, axes: Any) -> Array:
    moved = np.moveaxis(x, axes, (-2, -1))
    rows, columns = moved.shape[-2:]
    places = [(i, i + offset) for i in range(rows) if 0 <= i + offset < columns]
    return np.stack([moved[..., i, j] for i, j in places], axis=-1) if places else np.zeros((*moved.shape[:-2], 0), x.dtype)


def diagonal_matrix(g: Array, x: Array, *, offset: int, axes: Any) -> Array:
    made = np.zeros(x.shape, g.dtype)
    moved = np.moveaxis(made, axes, (-2, -1))
    for k in range(g.shape[-1]):
        moved[..., k + max(-offset, 0), k + max(offset, 0)] = g[..., k]
    return made


def triangle(x: Array, *, upper: bool, diagonal: float, k: int = 0) -> Array:
    above = np.arange(x.shape[-1]) - np.arange(x.shape[-2])[:, None]
    kept = (above >= k) if upper else (above <= k)
    return x * np.where(kept, np.where(above == 0, diagonal, 1.0), 0.0).astype(x.dtype)


def nonzero(x: Array, *target: Array, axis: int = 0) -> Any:
    found = tuple(np.argwhere(x).T)
    return found if len(found) > 1 else found[0]


def position(largest: bool) -> Any:
    """The first position of the extreme of its axis, element by element compared."""

    def value(x: Array, *, axis: int, keepdims: bool) -> Array:
        extreme = (np.maximum if largest else np.minimum).reduce(x, axis=axis, keepdims=True)
        found = np.argsort(~((x == extreme) | (x != x)), axis=axis, kind="stable")
        found = np.take(found, [0], axis=axis)
        return found if keepdims else np.squeeze(found, axis)

    return value


def argsort(x: Array, *, axis: int) -> Array:
    return np.apply_along_axis(lambda row: np.lexsort((row,)), axis, x) if x.size else np.zeros(x.shape, int)


def top_positions(x: Array, *, k: int) -> Array:
    backwards = np.argsort(x[..., ::-1], axis=-1, kind="stable")[..., ::-1]
    return (x.shape[-1] - 1 - backwards)[..., :k]


def searchsorted(x: Array, values: Array, *, side: str) -> Array:
    return (x < values[..., None] if side == "left" else x <= values[..., None]).sum(axis=-1)


def isin(x: Array, values: Array) -> Array:
    return (x[..., None] == values.reshape(-1)).any(axis=-1)


def unique(x: Array, *, parts: Any) -> Any:
    values = np.array(sorted(set(x.ravel().tolist())), x.dtype)
    same = x.ravel() == values[:, None]
    made = {"index": same.argmax(axis=1) if x.size else np.zeros(0, int), "counts": same.sum(axis=1)}
    made["inverse"] = same.argmax(axis=0).reshape(x.shape) if x.size else np.zeros(x.shape, int)
    return (values, *(made[part] for part in parts)) if parts else values


def only(value: Any, **rest: Any) -> Reference:
    return Reference(value, exact=True, **rest)


REFERENCES = {
    "identity": only(lambda x: x),
    "stop_gradient": only(lambda x: x),
    "class_labels": only(lambda labels, logits: labels),
    "reshape": only(reshape),
    "reshape_like": only(reshape_like),
    "permute_dims": only(permute_dims),
    "expand_dims": only(lambda x, *, axis: x.reshape(np.insert(np.array(x.shape, int), axis % (x.ndim + 1), 1))),
    "squeeze": only(lambda x, *, axis: x.reshape([d for i, d in enumerate(x.shape) if i not in {a % x.ndim for a in axis}])),
    "broadcast_to": only(lambda x, *, shape, keep=0: x + np.zeros((*x.shape[:keep], *shape), x.dtype)),
    "broadcast_like": only(lambda x, target: x + np.zeros(target.shape, x.dtype)),
    "repeat_like": only(lambda x, target: x + np.zeros((len(target), *(1,) * x.ndim), x.dtype)),
    "flip": only(lambda x, *, axis: x[tuple(slice(None, None, -1 if i in {a % x.ndim for a in axis} else 1) for i in range(x.ndim))]),
    "zeros_like": only(lambda x: x * 0),
    "ones_like": only(lambda x: x * 0 + 1),
    "eye_like": only(lambda x: x * 0 + (np.arange(x.shape[-2])[:, None] == np.arange(x.shape[-1]))),
    "split": only(split),
    "concat": only(lambda *parts, axis: np.moveaxis(np.array([row for part in parts for row in np.moveaxis(part, axis, 0)]), 0, axis)),
    "concat_part": only(concat_part),
    "repeat": only(repeat),
    "repeat_positions": only(lambda counts, target, *, axis: np.array([k for k, n in enumerate(counts) for _ in range(n)], int)),
    "roll": only(roll),
    "pad": only(lambda x, *, widths, value: np.pad(x, widths, constant_values=value) if x.ndim else x),
    "pad_from": only(lambda x, *, widths, mode: np.pad(x, widths, mode=mode)),
    "fit": only(lambda x, *, sizes, axes: fitted(x, sizes, axes)),
    "fit_like": only(lambda x, target, *, axes: fitted(x, [target.shape[axis] for axis in axes], axes)),
    "fftshift": only(
        lambda x, *, axes, inverse: roll(x, shift=[-(x.shape[a] // 2) if inverse else x.shape[a] // 2 for a in axes], axis=axes)
    ),
    "diagonal_part": only(diagonal_part),
    "diagonal_matrix": only(diagonal_matrix),
    "triangle": only(triangle),
    "getitem": only(lambda x, *tensors, index: x[at(index, tensors)]),
    "gather": only(lambda x, *tensors, index: x[at(index, tensors)]),
    "put": only(put),
    "positions": only(lambda x, *, axis: np.array(range(x.shape[axis]))),
    "nonzero": only(nonzero),
    "arange": only(lambda start, stop, step: np.array(range(int(start), int(stop), int(step)), int)),
    "causal_mask": only(lambda q, k: np.arange(k.shape[-2]) <= np.arange(q.shape[-2])[:, None]),
    "argmax": only(position(largest=True), draws=normal((20, 30), attrs=[{"axis": 1, "keepdims": False}])),
    "argmin": only(position(largest=False), draws=normal((20, 30), attrs=[{"axis": 1, "keepdims": False}])),
    "sort": only(lambda x, *, axis: np.take_along_axis(x, argsort(x, axis=axis), axis), draws=normal((40, 30), attrs=[{"axis": 0}])),
    "argsort": only(argsort, draws=normal((40, 30), attrs=[{"axis": 0}])),
    "top_positions": only(top_positions, draws=normal((20, 30), attrs=[{"k": 7}])),
    "searchsorted": only(searchsorted),
    "isin": only(isin),
    "unique": only(unique),
    "max_pool": only(max_pool),
    "max_pool_gather": only(max_pool_gather),
}  # fmt: skip
