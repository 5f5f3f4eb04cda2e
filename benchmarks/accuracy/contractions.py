"""References of the sums of products: matrix products, convolutions, pooling, resizing, and what is sent to positions and added up there.

Their error is counted in ulps of the same sum of magnitudes, which is what such a sum can promise: where terms cancel, the rounding of the
terms stays.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from flowgraph.ops.samples import Sample

from .draws import normal
from .exact import at, first_maxima, padded, windows
from .measure import Draws, Reference
from .reductions import TERMS, of_magnitudes

Array = Any
PLAIN = {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
WIDE = {"stride": (2, 1), "padding": ((1, 1), (2, 1)), "dilation": (1, 2), "groups": 1}
POOL = {"window": (3, 3), "stride": (2, 2), "padding": ((1, 1), (0, 1))}


def contract(x: Array, y: Array, *, subscripts: str) -> Array:
    return np.einsum(subscripts, x, y)


def by_sets(one: Any, position: int) -> Any:
    """``one``, which takes one set of filters, for inputs with axes of sets in front, of which the filters are at ``position``."""

    def many(*inputs: Array, stride: tuple[int, ...], **attrs: Any) -> Array:
        sets = inputs[position].ndim - len(stride) - 2
        if not sets:
            return one(*inputs, stride=stride, **attrs)
        count = max(x.shape[0] for x in inputs)
        return np.stack([many(*(x[k % len(x)] for x in inputs), stride=stride, **attrs) for k in range(count)])

    return many


def taps(x: Array, window: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], Array]]:
    """For each pixel of the window the pixels of the (padded) images under it, as a view."""
    rank = len(window)
    counts = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[-rank:], window, stride, dilation, strict=True)]
    for offset in itertools.product(*map(range, window)):
        cut = tuple(slice(o * d, o * d + s * (c - 1) + 1, s) for o, d, s, c in zip(offset, dilation, stride, counts, strict=True))
        yield offset, x[(..., *cut)]


def grouped(x: Array, axis: int, groups: int) -> Array:
    """An axis of channels as two: groups, and channels of one."""
    axis = axis % x.ndim
    return x.reshape(*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])


def merged(x: Array, keep: int) -> Array:
    """All axes before the last ``keep`` as one."""
    return x.reshape(math.prod(x.shape[:-keep]), *x.shape[-keep:])


def conv(x: Array, w: Array, *, stride: Any, padding: Any, dilation: Any, groups: int) -> Array:
    rank = len(stride)
    w = grouped(w, 0, groups)
    total: Any = 0
    for offset, pixels in taps(padded(x, padding), w.shape[-rank:], stride, dilation):
        images = merged(grouped(pixels, -rank - 1, groups), rank + 2)
        total = total + np.einsum("ngc...,goc->ngo...", images, w[(..., *offset)])
    return total.reshape(*x.shape[: -rank - 1], w.shape[0] * w.shape[1], *total.shape[-rank:])


def conv_input_grad(g: Array, w: Array, *target: Array, stride: Any, padding: Any, dilation: Any, groups: int, extra: Any = ()) -> Array:
    rank = len(stride)
    channels = w.shape[1] * groups
    if target:
        sizes = target[0].shape[-rank:]
    else:
        spans = [s * (n - 1) + d * (k - 1) + 1 for n, k, s, d in zip(g.shape[-rank:], w.shape[-rank:], stride, dilation, strict=True)]
        sizes = tuple(span - sum(p) + e for span, p, e in zip(spans, padding, extra, strict=True))
    lead = g.shape[: -rank - 1]
    made = padded(np.zeros((*lead, channels, *sizes), np.result_type(g, w)), padding)
    w = grouped(w, 0, groups)
    g = merged(grouped(g, -rank - 1, groups), rank + 2)
    for offset, pixels in taps(made, w.shape[-rank:], stride, dilation):
        pixels += np.einsum("ngo...,goc->ngc...", g, w[(..., *offset)]).reshape(pixels.shape)
    return made[(..., *(slice(before, before + n) for (before, _), n in zip(padding, sizes, strict=True)))]


def conv_weight_grad(g: Array, x: Array, target: Array, *, stride: Any, padding: Any, dilation: Any, groups: int) -> Array:
    rank = len(stride)
    made = grouped(np.zeros(target.shape, np.result_type(g, x)), 0, groups)
    g = merged(grouped(g, -rank - 1, groups), rank + 2)
    for offset, pixels in taps(padded(x, padding), made.shape[-rank:], stride, dilation):
        images = merged(grouped(pixels, -rank - 1, groups), rank + 2)
        flat = [y.reshape(*y.shape[:3], -1) for y in (g, images)]
        made[(..., *offset)] = np.einsum("ngop,ngcp->goc", *flat)
    return made.reshape(target.shape)


def shares(x: Array, window: Any, stride: Any, padding: Any, count_include_pad: bool) -> Array:
    """By how many pixels the sum of each window is divided."""
    ones = padded(np.ones(x.shape[-len(window) :], x.dtype), padding, value=float(count_include_pad))
    return windows(ones, window, stride).sum(axis=-1)


def avg_pool(x: Array, *, window: Any, stride: Any, padding: Any, count_include_pad: bool) -> Array:
    return windows(padded(x, padding), window, stride).sum(axis=-1) / shares(x, window, stride, padding, count_include_pad)


def avg_pool_grad(g: Array, target: Array, *, window: Any, stride: Any, padding: Any, count_include_pad: bool) -> Array:
    made = padded(np.zeros((*g.shape[: -len(window)], *target.shape[-len(window) :]), g.dtype), padding)
    each = g / shares(target, window, stride, padding, count_include_pad)
    for _, pixels in taps(made, window, stride, (1,) * len(window)):
        pixels += each
    return made[(..., *(slice(before, before + n) for (before, _), n in zip(padding, target.shape[-len(window) :], strict=True)))]


def max_pool_grad(g: Array, x: Array, y: Array, *, window: Any, stride: Any, padding: Any) -> Array:
    made = np.zeros(x.shape, g.dtype)
    np.add.at(made.reshape(-1), first_maxima(x, window, stride, padding), g)
    return made


def interpolation(count: int, length: int, method: str, align_corners: bool) -> Array:
    """The matrix (count, length) that resizes one axis, by whole numbers up to the last quotient."""
    made = np.zeros((count, length), np.longdouble)
    for i in range(count):
        if method == "nearest":
            place, unit = (2 * i + 1) * length // (2 * count), 1
        elif align_corners:
            place, unit = i * (length - 1), max(count - 1, 1)
        else:
            place, unit = min(max((2 * i + 1) * length - count, 0), (length - 1) * 2 * count), 2 * count
        low, rest = divmod(place, unit)
        made[i, low] += np.longdouble(unit - rest) / unit
        made[i, min(low + 1, length - 1)] += np.longdouble(rest) / unit
    return made


def resize(x: Array, *, size: Any, method: str, align_corners: bool, near: bool = False) -> Array:
    for axis, count in enumerate(size, start=x.ndim - len(size)):
        weights = interpolation(count, x.shape[axis], method, align_corners)
        matrix = (weights > 0 if near else weights).astype(x.dtype)
        x = np.moveaxis(np.tensordot(matrix, x, (1, axis)), 0, axis)
    return x


def resize_scale(x: Array, **attrs: Any) -> Array:
    """The sum of the neighbours' magnitudes: a + (b - a) w, which gives a where b is a, has the digits of the larger."""
    return resize(np.abs(x), **attrs, near=True)


def resize_grad(g: Array, target: Array, *, size: Any, method: str, align_corners: bool) -> Array:
    for axis, length in enumerate(target.shape[-len(size) :], start=g.ndim - len(size)):
        matrix = interpolation(g.shape[axis], length, method, align_corners).astype(g.dtype)
        g = np.moveaxis(np.tensordot(matrix, g, (0, axis)), 0, axis)
    return g


def add_at(x: Array, g: Array, *tensors: Array, index: Any) -> Array:
    made = np.array(x)
    np.add.at(made, at(index, tensors), g)
    return made


def scatter(g: Array, target: Array, *tensors: Array, index: Any) -> Array:
    return add_at(np.zeros(target.shape, g.dtype), g, *tensors, index=index)


def sum_like(g: Array, x: Array) -> Array:
    lead = g.ndim - x.ndim
    axes = (*range(lead), *(lead + axis for axis, size in enumerate(x.shape) if size == 1))
    return np.sum(g, axis=axes, keepdims=True).reshape(x.shape)


def fold(g: Array, target: Array, *, count: int, axis: int, whole: bool) -> Array:
    made = np.zeros(target.shape, g.dtype)
    size = target.shape[axis]
    for k in range(count * size):
        np.moveaxis(made, axis, 0)[k % size if whole else k // count] += np.moveaxis(g, axis, 0)[k]
    return made


def fold_rim(g: Array, target: Array, *, widths: tuple[tuple[int, int], ...], mode: Any) -> Array:
    made = np.zeros(target.size, g.dtype)
    np.add.at(made, np.pad(np.arange(target.size).reshape(target.shape), widths, mode=mode), g)
    return made.reshape(target.shape)


def bincount(x: Array, *weights: Array, minlength: int) -> Array:
    made = np.zeros(max(minlength, int(x.max(initial=-1)) + 1), weights[0].dtype if weights else int)
    np.add.at(made, x, weights[0] if weights else 1)
    return made


def scattered(order: tuple[int, int]) -> Draws:
    """Fifty rows for each of ten positions, and their target, in this order."""

    def draw(rng: np.random.Generator, dtype: np.dtype[Any], count: int) -> list[Sample]:
        arrays = rng.standard_normal((500, 3)), rng.standard_normal((10, 3))
        return [Sample((arrays[order[0]], arrays[order[1]], rng.integers(0, 10, 500)), {"index": ("i",)})]

    return draw


def summed(value: Any, bound: float, draws: Draws | None = None, scale: Any = None, measure: str = TERMS, **rest: Any) -> Reference:
    return Reference(value, bound, draws=draws, scale=scale or of_magnitudes(value), measure=measure, **rest)


REFERENCES = {
    "matmul": summed(np.matmul, 16.0, normal((40, 300), (300, 20))),
    "contract": summed(contract, 16.0, normal((2, 20, 100), (2, 100, 10), attrs=[{"subscripts": "bij,bjk->bik"}])),
    "conv": summed(by_sets(conv, 1), 16.0, normal((2, 8, 12, 11), (6, 8, 3, 3), attrs=[PLAIN, WIDE])),
    "conv_input_grad": summed(
        by_sets(conv_input_grad, 1), 16.0, normal((2, 6, 10, 9), (6, 8, 3, 3), (2, 8, 12, 11), attrs=[PLAIN])
    ),
    "conv_weight_grad": summed(
        by_sets(conv_weight_grad, 2), 16.0, normal((2, 6, 10, 9), (2, 8, 12, 11), (6, 8, 3, 3), attrs=[PLAIN])
    ),
    "avg_pool": summed(avg_pool, 4.0, normal((2, 3, 12, 11), attrs=[{**POOL, "count_include_pad": False}])),
    "avg_pool_grad": summed(avg_pool_grad, 4.0, normal((2, 3, 6, 5), (2, 3, 12, 11), attrs=[{**POOL, "count_include_pad": False}])),
    "max_pool_grad": summed(
        max_pool_grad, 4.0, scale=lambda g, x, y, **attrs: max_pool_grad(np.abs(g), x, y, **attrs)
    ),
    "resize": summed(
        resize, 4.0, normal((3, 5, 100), attrs=[{"size": (7, 301), "method": "linear", "align_corners": c} for c in (False, True)]),
        scale=resize_scale, measure="sum of the neighbours' magnitudes",
    ),
    "resize_grad": summed(
        resize_grad, 4.0,
        normal((3, 7, 301), (3, 5, 100), attrs=[{"size": (7, 301), "method": "linear", "align_corners": c} for c in (False, True)]),
    ),
    "add_at": summed(add_at, 4.0, scattered((1, 0))),
    "scatter": summed(scatter, 4.0, scattered((0, 1))),
    "sum_like": summed(sum_like, 4.0, normal((40, 300), (300,)) ),
    "fold": summed(fold, 4.0, normal((300, 4), (3, 4), attrs=[{"count": 100, "axis": 0, "whole": whole} for whole in (False, True)])),
    "fold_rim": summed(
        fold_rim, 4.0,
        normal((90, 43), (10, 3), attrs=[{"widths": ((50, 30), (20, 20)), "mode": m} for m in ("edge", "reflect", "symmetric", "wrap")]),
    ),
    "bincount": summed(bincount, 4.0, dtypes=("float64",)),
}  # fmt: skip
