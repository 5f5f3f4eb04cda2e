"""Pooling kernels over windows that move along the last axes of an array, for NumPy and CuPy alike.

Plain functions of arrays: no graph, no threads. A caller may run one kernel on several slices of a batch at once.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

from .bits import bits, mask, wide
from .conv_kernels import output_size, pad_images, tap
from .windows import Borders, Steps

Array = Any
Namespace = Any


def max_pool(
    xp: Namespace,
    x: Array,
    *,
    window: Steps,
    stride: Steps,
    padding: Borders,
    out: Array | None = None,
) -> Array:
    """The largest value of each window; padding counts as -inf, and a NaN makes its windows NaN."""
    out = _output(xp, x, window, stride, padding, out)
    taps = _taps(pad_images(xp, x, padding, -float("inf")), window, stride, out.shape)
    out[...] = next(taps)
    for pixels in taps:
        xp.maximum(out, pixels, out=out)
    return out


def max_pool_grad(
    xp: Namespace,
    g: Array,
    x: Array,
    y: Array,
    *,
    window: Steps,
    stride: Steps,
    padding: Borders,
    out: Array | None = None,
) -> Array:
    """``g`` moved to the first maximum (row by row) of each window; what overlapping windows send is added up.

    A window whose maximum is NaN sends to its last pixel.
    """
    if out is None:
        out = xp.empty(x.shape, g.dtype)
    apart = all(step >= size for step, size in zip(stride, window, strict=True))
    dtype = g.dtype if apart else wide(g.dtype)
    grad = pad_images(xp, out if dtype == out.dtype else xp.empty(out.shape, dtype), padding, 0)
    if not (apart and _is_tiled(grad.shape, window, stride)):
        grad[...] = 0
    parts = _dealt(xp, bits(g).copy(), x, y, window, stride, padding)
    for pixels, part in zip(_taps(grad, window, stride, y.shape), parts, strict=True):
        if apart:
            pixels[...] = part.view(g.dtype)
        else:
            xp.add(pixels, part.view(g.dtype), out=pixels)
    return _crop(grad, padding, out)


def max_pool_gather(
    xp: Namespace,
    v: Array,
    x: Array,
    y: Array,
    *,
    window: Steps,
    stride: Steps,
    padding: Borders,
    out: Array | None = None,
) -> Array:
    """The entry of ``v`` at the first maximum of each window of ``x``: the transpose of ``max_pool_grad``."""
    if out is None:
        out = xp.empty(y.shape, v.dtype)
    taken, masks = bits(out), _dealt(xp, xp.full(y.shape, -1, bits(out).dtype), x, y, window, stride, padding)
    taken[...] = 0
    for pixels, chosen in zip(_taps(pad_images(xp, v, padding, 0), window, stride, y.shape), masks, strict=True):
        taken |= bits(pixels) & chosen
    return out


def avg_pool(
    xp: Namespace,
    x: Array,
    *,
    window: Steps,
    stride: Steps,
    padding: Borders,
    count_include_pad: bool,
    out: Array | None = None,
) -> Array:
    """The mean of the pixels in each window; a window of padding alone gives 0."""
    out = _output(xp, x, window, stride, padding, out)
    dtype = wide(x.dtype)
    taps = _taps(pad_images(xp, x, padding, 0), window, stride, out.shape)
    total = out if dtype == out.dtype else xp.empty(out.shape, dtype)
    total[...] = next(taps)
    for pixels in taps:
        xp.add(total, pixels, out=total)
    total *= _shares(xp, x.shape[-len(window) :], dtype, window, stride, padding, count_include_pad, out.shape)
    if total is not out:
        out[...] = total
    return out


def avg_pool_grad(
    xp: Namespace,
    g: Array,
    *,
    sizes: tuple[int, ...],
    window: Steps,
    stride: Steps,
    padding: Borders,
    count_include_pad: bool,
    out: Array | None = None,
) -> Array:
    """``g`` spread evenly over the pixels of each window; ``sizes`` are those of the pooled images."""
    if out is None:
        out = xp.empty((*g.shape[: -len(window)], *sizes), g.dtype)
    dtype = wide(g.dtype)
    sent = out if dtype == out.dtype else xp.empty(out.shape, dtype)
    grad = pad_images(xp, sent, padding, 0)
    grad[...] = 0
    share = g * _shares(xp, sizes, dtype, window, stride, padding, count_include_pad, g.shape)
    for pixels in _taps(grad, window, stride, g.shape):
        xp.add(pixels, share, out=pixels)
    return _crop(grad, padding, out)


def _taps(x: Array, window: Steps, stride: Steps, shape: tuple[int, ...]) -> Iterator[Array]:
    """The views of ``x`` that hold the first, second, ... pixel of every window, row by row."""
    for position in itertools.product(*map(range, window)):
        yield tap(x, position, shape[-len(window) :], stride)


def _dealt(xp: Namespace, rest: Array, x: Array, y: Array, window: Steps, stride: Steps, padding: Borders) -> Iterator[Array]:
    """The integers of ``rest``, one for each window, dealt to the taps: each goes to its first maximum, others get 0.

    ``rest`` is used up. The last tap takes what is left with no comparison, which saves one in four.
    """
    # Padding is NaN here, which equals nothing: a window of nothing but -inf chooses a pixel and not the border.
    taps = list(_taps(pad_images(xp, x, padding, float("nan")), window, stride, y.shape))
    for pixels in taps[:-1]:
        part = mask(xp, pixels == y, rest.dtype)
        part &= rest
        rest ^= part
        yield part
    yield rest


def _is_tiled(shape: tuple[int, ...], window: Steps, stride: Steps) -> bool:
    """True when windows that lie apart leave no pixel out."""
    return window == stride and all(size % length == 0 for size, length in zip(shape[-len(window) :], window, strict=True))


def _shares(
    xp: Namespace, sizes: tuple[int, ...], dtype: Any, window: Steps, stride: Steps, padding: Borders, counted: bool, out: tuple[int, ...]
) -> Array:
    """One over the number of pixels in each window; of all, padding as well, where that is ``counted``."""
    if counted:
        return xp.asarray(1 / math.prod(window), dtype)
    ones = pad_images(xp, xp.ones(sizes, dtype), padding, 0)
    counts = xp.zeros(out[-len(window) :], dtype)
    for pixels in _taps(ones, window, stride, out):
        counts += pixels
    return 1 / xp.maximum(counts, 1)


def _output(xp: Namespace, x: Array, window: Steps, stride: Steps, padding: Borders, out: Array | None) -> Array:
    if out is not None:
        return out
    size = output_size(x.shape, window, stride, padding, (1,) * len(window))
    return xp.empty((*x.shape[: -len(window)], *size), x.dtype)


def _crop(grad: Array, padding: Borders, out: Array) -> Array:
    if grad is not out:
        inside = (slice(before, before + size) for (before, _), size in zip(padding, out.shape[-len(padding) :], strict=True))
        out[...] = grad[(..., *inside)]
    return out
