"""Two-dimensional convolution kernels on NCHW arrays with OIHW weights, for NumPy and CuPy alike.

Plain functions of arrays: no state, no graph, no threads, so a caller may run one on several slices of a batch at once.
The bits depend on the shapes alone.

The kernels unroll the filter's columns but not its rows. Output row r meets, under filter row i, image row
``r * stride + i * dilation``; with stride 1 those rows lie in one piece of the unrolled image, which matrix products
read, or add to, where it stands. So each pixel is copied kw times and not the kh * kw times of a full im2col. On
LeNet's second layer (batch 128, one core, milliseconds; the products alone are 4.5): result 4.9 against 7.4, weight
gradient 5.1 against 9.4, input gradient 6.2 against 12.7.

``out`` must be C-contiguous (a slice of the batch of a larger array is) and must not overlap the inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = Any
Namespace = Any
Pair = tuple[int, int]
Sizes = tuple[int, ...]
Padding = tuple[Pair, Pair]

NO_PADDING: Padding = ((0, 0), (0, 0))

# A batch is worked off a few images at a time, so that the scratch arrays stay near the caches: about 50 images of
# LeNet's second layer, 2 of a 64-channel 32 x 32 one. Pieces that fit L2 were slower: with two threads, 4 images at a
# time took twice as long as 32, since the threads then wait for each other in the interpreter. Arrays of this size come
# from the heap without page faults (counted), so there is no workspace here.
SCRATCH_BYTES = 2 << 20
DEVICE_BYTES = 2**29

# A matrix product over fewer terms than this is too thin to be worth its call (LeNet's first layer has 5 in each row).
THIN_TERMS = 32


def conv2d(
    xp: Namespace,
    x: Array,
    w: Array,
    *,
    stride: Pair = (1, 1),
    padding: Padding = NO_PADDING,
    dilation: Pair = (1, 1),
    groups: int = 1,
    out: Array | None = None,
) -> Array:
    """The cross-correlation of each image with each filter.

    x        (n, c, h, w) floats
    w        (o, c / groups, kh, kw), same dtype
    padding  rows and columns of zeros: ((top, bottom), (left, right))
    returns  (n, o, oh, ow), same dtype
    """
    n, o = x.shape[0], w.shape[0]
    size = output_size(x.shape, w.shape, stride, padding, dilation)
    if out is None:
        out = xp.empty((n, o, *size), x.dtype)
    if _is_depthwise(w, groups):
        return _depthwise(xp, x, w, stride, padding, dilation, out)
    result = out.reshape(n, groups, o // groups, size[0] * size[1])
    whole = stride[0] > 1 or w.shape[1] * w.shape[3] < THIN_TERMS
    filters = w.reshape(groups, o // groups, *w.shape[1:]).transpose(3, 0, 1, 2, 4)
    image_bytes = x[:1].size * w.shape[3] * (w.shape[2] if whole else 1) * x.itemsize
    for part in parts(xp, n, image_bytes):
        taps = _channel_taps(xp, pad_images(xp, x[part], padding, 0), w.shape[2:], size, stride, dilation, groups)
        if whole:
            _product_of_columns(xp, filters, taps, result[part])
        else:
            _sum_of_row_products(xp, filters, taps, result[part])
        del taps  # before those of the next images are made
    return out


def conv2d_input_grad(
    xp: Namespace,
    g: Array,
    w: Array,
    *,
    shape: tuple[int, ...],
    stride: Pair = (1, 1),
    padding: Padding = NO_PADDING,
    dilation: Pair = (1, 1),
    groups: int = 1,
    out: Array | None = None,
) -> Array:
    """The gradient by ``x`` of ``sum(g * conv2d(x, w))``.

    g        (n, o, oh, ow)
    shape    that of x
    returns  (n, c, h, w)
    """
    if out is None:
        out = xp.empty(shape, g.dtype)
    if _is_depthwise(w, groups):
        return _depthwise_input_grad(xp, g, w, stride, padding, dilation, out)
    (top, bottom), (left, right) = padding
    padded = (shape[2] + top + bottom, shape[3] + left + right)
    image_bytes = shape[1] * w.shape[3] * padded[0] * g.shape[3] * g.itemsize
    for part in parts(xp, shape[0], image_bytes):
        rows = _unrolled_grad(xp, g[part], w, padded[0], stride[0], dilation[0], groups)
        grad = _rolled(xp, rows, padded[1], stride[1], dilation[1])
        grad = grad[:, :, top : top + shape[2], left : left + shape[3]].transpose(0, 1, 4, 2, 3)
        out[part].reshape(grad.shape)[...] = grad
        del rows, grad
    return out


def conv2d_weight_grad(
    xp: Namespace,
    g: Array,
    x: Array,
    *,
    shape: tuple[int, ...],
    stride: Pair = (1, 1),
    padding: Padding = NO_PADDING,
    dilation: Pair = (1, 1),
    groups: int = 1,
    out: Array | None = None,
) -> Array:
    """The gradient by ``w`` of ``sum(g * conv2d(x, w))``.

    g        (n, o, oh, ow)
    shape    that of w
    returns  (o, c / groups, kh, kw)
    """
    o, per_group, kh, kw = shape
    n, _, oh, ow = g.shape
    flat = g.reshape(n, groups, o // groups, oh * ow)
    # Products run at 88 GFLOP/s where the pixels of one position are neighbours and at 63 where the positions are; but
    # gathering only a few pixels for each position costs more than that (LeNet's first layer: 1.1 ms against 1.7).
    thin = per_group * kw < THIN_TERMS
    total = xp.zeros((kh, groups, o // groups, per_group * kw), g.dtype)
    for part in parts(xp, n, x[:1].size * kw * g.itemsize):
        images = pad_images(xp, x[part], padding, 0)
        if thin:
            taps = _channel_taps(xp, images, (kh, kw), (oh, ow), stride, dilation, groups)
            taps = [pixels.swapaxes(2, 3) for pixels in taps]
        else:
            taps = _position_taps(xp, images, (kh, kw), (oh, ow), stride, dilation, groups)
        for i in range(kh):
            total[i] += xp.matmul(flat[part], taps[i]).sum(axis=0)
        del taps
    if thin:
        grad = total.reshape(kh, groups, o // groups, per_group, kw).transpose(1, 2, 3, 0, 4)
    else:
        grad = total.reshape(kh, groups, o // groups, kw, per_group).transpose(1, 2, 4, 0, 3)
    if out is None:
        out = xp.empty(shape, g.dtype)
    out.reshape(grad.shape)[...] = grad
    return out


def output_size(x_shape: tuple[int, ...], w_shape: tuple[int, ...], stride: Any, padding: Any, dilation: Any) -> tuple[int, ...]:
    """The sizes of a convolution's result, along any number of axes."""
    rank = len(stride)
    axes = zip(x_shape[-rank:], w_shape[-rank:], stride, padding, dilation, strict=True)
    return tuple((size + before + after - gap * (window - 1) - 1) // step + 1 for size, window, step, (before, after), gap in axes)


def pad_images(xp: Namespace, x: Array, padding: Any, fill: float) -> Array:
    """``x`` with a border of ``fill`` around its last axes, or ``x`` itself where no border is asked for."""
    if not any(before or after for before, after in padding):
        return x
    lead, sizes = x.shape[: -len(padding)], x.shape[-len(padding) :]
    padded = xp.full((*lead, *(a + size + b for size, (a, b) in zip(sizes, padding, strict=True))), fill, x.dtype)
    padded[(..., *(slice(a, a + size) for size, (a, _) in zip(sizes, padding, strict=True)))] = x
    return padded


def tap(x: Array, position: tuple[int, ...], size: tuple[int, ...], stride: Any, dilation: Any = None) -> Array:
    """View of the pixels of ``x`` that this position of a filter meets, one for each output position, along the last axes."""
    gaps = dilation or (1,) * len(position)
    axes = zip(position, gaps, stride, size, strict=True)
    return x[(..., *(steps(i * gap, step, count) for i, gap, step, count in axes))]


def steps(first: int, step: int, count: int) -> slice:
    """``count`` positions from ``first`` on, ``step`` apart."""
    return slice(first, first + step * (count - 1) + 1, step)


def parts(xp: Namespace, n: int, image_bytes: int) -> Iterator[slice]:
    """Slices of a batch, in order, whose scratch arrays stay within SCRATCH_BYTES, or DEVICE_BYTES on a GPU, which no cache holds."""
    length = max(1, (SCRATCH_BYTES if xp is np else DEVICE_BYTES) // max(1, image_bytes))
    return (slice(first, min(first + length, n)) for first in range(0, n, length))


class Scratch:
    """Numbers that the kernels above need at most besides what they are given and make, for what has these shapes.

    x     (n, c, h, w) of the images, and ``w`` (o, c / groups, kh, kw) of the filters
    size  (oh, ow)
    """

    def __init__(self, x: Sizes, w: Sizes, size: Sizes, itemsize: int, stride: Pair, padding: Padding, groups: int) -> None:
        self.n, self.c, height, width = x
        self.o, self.per_group, self.kh, self.kw = w
        self.itemsize, self.is_strided, self.groups = itemsize, stride[0] > 1, groups
        self.image, self.result = self.c * height * width, self.o * size[0] * size[1]
        (top, bottom), (left, right) = padding
        self.filters = self.o * self.per_group * self.kh * self.kw
        self.padded = self.c * (height + top + bottom) * (width + left + right)
        self.border = self.padded if any((top, bottom, left, right)) else 0  # where there is none, nothing is copied
        self.unrolled = self.c * self.kw * (height + top + bottom) * size[1]
        self.row = self.c * self.kw * size[0] * size[1]  # what one row of the filters meets
        self.is_thin = self.per_group * self.kw < THIN_TERMS
        self.is_depthwise = self.o == groups > 1 and self.per_group == 1

    def _images(self, numbers: int) -> int:
        return min(self.n, max(1, SCRATCH_BYTES // max(1, numbers * self.itemsize)))

    @property
    def _taps(self) -> tuple[int, int]:
        """Numbers of the taps of an image while they are made and once they are there; with stride 1 they are views."""
        return (self.unrolled + self.kh * self.row, self.kh * self.row) if self.is_strided else (self.unrolled, self.unrolled)

    def conv(self) -> int:
        if self.is_depthwise:
            return self._images(self.image) * (self.border + self.result)
        whole = self.is_strided or self.is_thin
        making, taps = self._taps
        after = self.kh * self.row if whole else self.result
        images = self._images(self.image * self.kw * (self.kh if whole else 1))
        return max(images * (self.border + making), images * (taps + after) + self.filters)

    def input_grad(self) -> int:
        if self.is_depthwise:
            return self._images(self.image) * (self.padded + self.result)
        images = self._images(self.unrolled)
        return max(images * (self.unrolled + self.row) + self.filters, images * (self.unrolled + self.padded))

    def weight_grad(self) -> int:
        making, taps = self._taps
        product = self.o * self.per_group * self.kw
        transposed = 0 if self.is_thin else self.padded
        images = self._images(self.image * self.kw)
        return images * (self.border + max(transposed + making, taps + product)) + self.kh * product


def _channel_taps(xp: Namespace, x: Array, kernel: Pair, size: tuple[int, ...], stride: Pair, dilation: Pair, groups: int) -> list[Array]:
    """What each filter row meets, channel by channel: kh arrays (n, groups, c / groups * kw, oh * ow).

    With stride 1 they are views of one unrolled array.
    """
    n, c, high, _ = x.shape
    sn, sc, sh, sw = x.strides
    shape, strides = (n, c, kernel[1], high, size[1]), (sn, sc, sw * dilation[1], sh, sw * stride[1])
    terms = c // groups * kernel[1]
    unrolled = xp.ascontiguousarray(xp.lib.stride_tricks.as_strided(x, shape, strides))
    unrolled = unrolled.reshape(n, groups, terms, high, size[1])
    return [
        unrolled[:, :, :, steps(i * dilation[0], stride[0], size[0])].reshape(n, groups, terms, size[0] * size[1]) for i in range(kernel[0])
    ]


def _position_taps(xp: Namespace, x: Array, kernel: Pair, size: tuple[int, ...], stride: Pair, dilation: Pair, groups: int) -> list[Array]:
    """What each filter row meets, position by position: kh arrays (n, groups, oh * ow, kw * c / groups)."""
    n, c, high, wide = x.shape
    # One transposing copy first; the unrolling then copies whole runs of channels, or all kw of them at once.
    x = xp.ascontiguousarray(x.reshape(n, groups, c // groups, high, wide).transpose(0, 1, 3, 4, 2))
    sn, sg, sh, sw, sc = x.strides
    shape = (n, groups, high, size[1], kernel[1], c // groups)
    strides = (sn, sg, sh, sw * stride[1], sw * dilation[1], sc)
    terms = kernel[1] * (c // groups)
    unrolled = xp.ascontiguousarray(xp.lib.stride_tricks.as_strided(x, shape, strides))
    unrolled = unrolled.reshape(n, groups, high, size[1], terms)
    return [
        unrolled[:, :, steps(i * dilation[0], stride[0], size[0])].reshape(n, groups, size[0] * size[1], terms) for i in range(kernel[0])
    ]


def _sum_of_row_products(xp: Namespace, filters: Array, taps: list[Array], out: Array) -> None:
    """``out = sum(filters[i] @ taps[i])`` for filters (kh, groups, o / groups, c / groups, kw)."""
    rows = filters.reshape(*filters.shape[:3], filters.shape[3] * filters.shape[4])
    xp.matmul(rows[0], taps[0], out=out)
    term = xp.empty_like(out)
    for row, pixels in zip(rows[1:], taps[1:], strict=True):
        xp.matmul(row, pixels, out=term)
        xp.add(out, term, out=out)


def _product_of_columns(xp: Namespace, filters: Array, taps: list[Array], out: Array) -> None:
    """As ``_sum_of_row_products``, in one product over all columns, which are put side by side first."""
    columns = xp.stack(taps, axis=2)
    n, groups, kh, terms, positions = columns.shape
    flat = filters.transpose(1, 2, 0, 3, 4).reshape(groups, out.shape[2], kh * terms)
    xp.matmul(flat, columns.reshape(n, groups, kh * terms, positions), out=out)


def _unrolled_grad(xp: Namespace, g: Array, w: Array, high: int, stride: int, dilation: int, groups: int) -> Array:
    """What each output column sends to each filter column, summed over filter rows: (n, groups, h, ow, kw, c / groups).

    The pixels of one position are neighbours: the fold that follows then adds whole runs of channels.
    """
    n, o, oh, ow = g.shape
    _, per_group, kh, kw = w.shape
    filters = w.reshape(groups, o // groups, per_group, kh, kw).transpose(3, 0, 1, 4, 2)
    filters = filters.reshape(kh, groups, o // groups, kw * per_group)
    positions = g.reshape(n, groups, o // groups, oh * ow).swapaxes(2, 3)
    rows = xp.empty((n, groups, high, ow, kw * per_group), g.dtype)
    rows[:, :, oh if stride == 1 else 0 :] = 0
    sent = xp.empty((n, groups, oh * ow, kw * per_group), g.dtype)
    for i in range(kh):
        met = rows[:, :, steps(i * dilation, stride, oh)]
        if i == 0 and stride == 1:  # straight into place: saves one pass in kh
            xp.matmul(positions, filters[i], out=met.reshape(sent.shape))
        else:
            xp.matmul(positions, filters[i], out=sent)
            xp.add(met, sent.reshape(met.shape), out=met)
    return rows.reshape(n, groups, high, ow, kw, per_group)


def _rolled(xp: Namespace, rows: Array, wide: int, stride: int, dilation: int) -> Array:
    """Adds what the filter columns sent to the same pixel: (n, groups, h, w, c / groups)."""
    n, groups, high, ow, kw, per_group = rows.shape
    grad = xp.zeros((n, groups, high, wide, per_group), rows.dtype)
    for j in range(kw):
        met = grad[:, :, :, steps(j * dilation, stride, ow)]
        xp.add(met, rows[:, :, :, :, j], out=met)
    return grad


# One filter for each channel has no sum over channels, so matrix products of one row would do the work of a multiply.


def _is_depthwise(w: Array, groups: int) -> bool:
    return w.shape[0] == groups and w.shape[1] == 1 and groups > 1


def _depthwise(xp: Namespace, x: Array, w: Array, stride: Pair, padding: Padding, dilation: Pair, out: Array) -> Array:
    for part in parts(xp, len(x), x[:1].nbytes):
        images, result = pad_images(xp, x[part], padding, 0), out[part]
        result[...] = 0
        for i, j in _positions(w):
            result += tap(images, (i, j), out.shape[2:], stride, dilation) * w[:, :, i, j, None]
    return out


def _depthwise_input_grad(xp: Namespace, g: Array, w: Array, stride: Pair, padding: Padding, dilation: Pair, out: Array) -> Array:
    (top, bottom), (left, right) = padding
    n, c, height, width = out.shape
    for part in parts(xp, n, out[:1].nbytes):
        sent = g[part]
        grad = xp.zeros((len(sent), c, height + top + bottom, width + left + right), g.dtype)
        for i, j in _positions(w):
            met = tap(grad, (i, j), g.shape[2:], stride, dilation)
            xp.add(met, sent * w[:, :, i, j, None], out=met)
        out[part] = grad[:, :, top : top + height, left : left + width]
    return out


def _positions(w: Array) -> Iterator[Pair]:
    return ((i, j) for i in range(w.shape[2]) for j in range(w.shape[3]))
