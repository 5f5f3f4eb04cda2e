"""Pooling kernels and the gradient of relu on NCHW arrays, for NumPy and CuPy alike.

Plain functions of arrays: no graph, no threads. A caller may run one kernel on several slices of a batch at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .conv_kernels import output_size, pad_images, tap

Array = Any
Namespace = Any
Pair = tuple[int, int]
Padding = tuple[Pair, Pair]


def max_pool2d(
    xp: Namespace,
    x: Array,
    *,
    window: Pair,
    stride: Pair,
    padding: Padding = ((0, 0), (0, 0)),
    out: Array | None = None,
) -> Array:
    """The largest value of each window; padding counts as -inf, and a NaN makes its windows NaN."""
    out = _output(xp, x, window, stride, padding, out)
    taps = _taps(pad_images(xp, x, padding, -float("inf")), window, stride, out.shape)
    out[...] = next(taps)
    for pixels in taps:
        xp.maximum(out, pixels, out=out)
    return out


def max_pool2d_grad(
    xp: Namespace,
    g: Array,
    x: Array,
    y: Array,
    *,
    window: Pair,
    stride: Pair,
    padding: Padding = ((0, 0), (0, 0)),
    out: Array | None = None,
) -> Array:
    """``g`` moved to the first maximum (row by row) of each window; what overlapping windows send is added up.

    A window whose maximum is NaN sends to its last pixel.
    """
    if out is None:
        out = xp.empty(x.shape, g.dtype)
    apart = stride[0] >= window[0] and stride[1] >= window[1]
    grad = pad_images(xp, out, padding, 0)
    if not (apart and _is_tiled(grad.shape, window, stride)):
        grad[...] = 0
    parts = _dealt(xp, _bits(g).copy(), x, y, window, stride, padding)
    for pixels, part in zip(_taps(grad, window, stride, y.shape), parts, strict=True):
        if apart:
            pixels[...] = part.view(g.dtype)
        else:
            xp.add(pixels, part.view(g.dtype), out=pixels)
    return _crop(grad, padding, out)


def max_pool2d_gather(
    xp: Namespace,
    v: Array,
    x: Array,
    y: Array,
    *,
    window: Pair,
    stride: Pair,
    padding: Padding = ((0, 0), (0, 0)),
    out: Array | None = None,
) -> Array:
    """The entry of ``v`` at the first maximum of each window of ``x``: the transpose of ``max_pool2d_grad``."""
    if out is None:
        out = xp.empty(y.shape, v.dtype)
    taken, masks = _bits(out), _dealt(xp, xp.full(y.shape, -1, _bits(out).dtype), x, y, window, stride, padding)
    taken[...] = 0
    for pixels, mask in zip(_taps(pad_images(xp, v, padding, 0), window, stride, y.shape), masks, strict=True):
        taken |= _bits(pixels) & mask
    return out


def avg_pool2d(
    xp: Namespace,
    x: Array,
    *,
    window: Pair,
    stride: Pair,
    padding: Padding = ((0, 0), (0, 0)),
    out: Array | None = None,
) -> Array:
    """The mean of the pixels in each window; padding is not counted, and a window of padding alone gives 0."""
    out = _output(xp, x, window, stride, padding, out)
    taps = _taps(pad_images(xp, x, padding, 0), window, stride, out.shape)
    out[...] = next(taps)
    for pixels in taps:
        xp.add(out, pixels, out=out)
    out *= _shares(xp, x.shape, x.dtype, window, stride, padding, out.shape)
    return out


def avg_pool2d_grad(
    xp: Namespace,
    g: Array,
    *,
    shape: tuple[int, int, int, int],
    window: Pair,
    stride: Pair,
    padding: Padding = ((0, 0), (0, 0)),
    out: Array | None = None,
) -> Array:
    """``g`` spread evenly over the pixels of each window; ``shape`` is that of the pooled images."""
    if out is None:
        out = xp.empty(shape, g.dtype)
    grad = pad_images(xp, out, padding, 0)
    grad[...] = 0
    share = g * _shares(xp, shape, g.dtype, window, stride, padding, g.shape)
    for pixels in _taps(grad, window, stride, g.shape):
        xp.add(pixels, share, out=pixels)
    return _crop(grad, padding, out)


def relu_grad(xp: Namespace, g: Array, y: Array, *, out: Array | None = None) -> Array:
    """``g`` where ``y`` is positive, else 0."""
    if out is None:
        out = xp.empty(g.shape, g.dtype)
    mask = _mask(xp, y > 0, _bits(g).dtype)
    xp.bitwise_and(_bits(g), mask, out=_bits(out))
    return out


def _taps(x: Array, window: Pair, stride: Pair, shape: tuple[int, ...]) -> Iterator[Array]:
    """The views of ``x`` that hold the first, second, ... pixel of every window."""
    for i in range(window[0]):
        for j in range(window[1]):
            yield tap(x, i, j, (shape[2], shape[3]), stride)


# A choice is made on bits, with masks of ones or zeros. A product takes as long, but turns an infinite gradient to NaN
# in the places that it does not go to; `where` takes nine times as long when the choice is hard to predict (6.0 ms
# against 0.65 for 1.5 million floats).


def _bits(x: Array) -> Array:
    """View of floats as signed integers of the same size."""
    return x.view(f"i{x.dtype.itemsize}")


def _mask(xp: Namespace, chosen: Array, dtype: Any) -> Array:
    """Minus one, which is all ones, where ``chosen``, else zero."""
    return xp.negative(chosen.view("i1"), out=xp.empty(chosen.shape, dtype))


def _dealt(xp: Namespace, rest: Array, x: Array, y: Array, window: Pair, stride: Pair, padding: Padding) -> Iterator[Array]:
    """The integers of ``rest``, one for each window, dealt to the taps: each goes to its first maximum, others get 0.

    ``rest`` is used up. The last tap takes what is left with no comparison, which saves one in four.
    """
    # Padding is NaN here, which equals nothing: a window of nothing but -inf chooses a pixel and not the border.
    taps = list(_taps(pad_images(xp, x, padding, float("nan")), window, stride, y.shape))
    for pixels in taps[:-1]:
        part = _mask(xp, pixels == y, rest.dtype)
        part &= rest
        rest ^= part
        yield part
    yield rest


def _is_tiled(shape: tuple[int, ...], window: Pair, stride: Pair) -> bool:
    """True when windows that lie apart leave no pixel out."""
    return window == stride and shape[2] % window[0] == 0 and shape[3] % window[1] == 0


def _shares(
    xp: Namespace,
    shape: tuple[int, ...],
    dtype: Any,
    window: Pair,
    stride: Pair,
    padding: Padding,
    out_shape: tuple[int, ...],
) -> Array:
    """One over the number of pixels in each window, (1, 1, oh, ow)."""
    ones = pad_images(xp, xp.ones((1, 1, *shape[2:]), dtype), padding, 0)
    counts = xp.zeros((1, 1, *out_shape[2:]), dtype)
    for pixels in _taps(ones, window, stride, out_shape):
        counts += pixels
    return 1 / xp.maximum(counts, 1)


def _output(xp: Namespace, x: Array, window: Pair, stride: Pair, padding: Padding, out: Array | None) -> Array:
    if out is not None:
        return out
    size = output_size(x.shape, (0, 0, *window), stride, padding, (1, 1))
    return xp.empty((*x.shape[:2], *size), x.dtype)


def _crop(grad: Array, padding: Padding, out: Array) -> Array:
    if grad is not out:
        (top, _), (left, _) = padding
        out[...] = grad[:, :, top : top + out.shape[2], left : left + out.shape[3]]
    return out
