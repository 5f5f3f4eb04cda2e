"""Convolutions along one, two or three axes, of any number of images and with several sets of filters, by the two-dimensional kernels.

Images are (*sets, *batch, channels, *sizes) and filters (*sets, out, channels / groups, *window). How many axes are sizes the stride
says; how many are sets, the filters. What does not fit the two-dimensional kernels is folded into what does:

- one axis is the width of pictures of height 1;
- of three, the first is unrolled: the ``k`` layers that a filter meets become ``k`` times as many channels, and the positions along
  it become more images. A filter's layers are channels already, by a reshape without a copy;
- sets of filters become groups of channels. Where all sets see the same images, the filters of one group stand side by side.

Sixteen-bit floats are computed in 32 bits and rounded once. Plain functions of arrays, for NumPy and CuPy alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..graph.spec import promote_dtypes
from . import conv_kernels
from .bits import wide
from .conv_kernels import parts, steps
from .windows import Borders, Steps

Array = Any
Namespace = Any
Kernel = Callable[..., Array]


def conv(
    xp: Namespace,
    x: Array,
    w: Array,
    *,
    groups: int,
    out: Array | None = None,
    kernel: Kernel | None = None,
    **windows: Any,
) -> Array:
    """The cross-correlation of each image with each filter; see `conv_kernels.conv2d`.

    kernel   convolves a batch of images with one set of filters, also of 16-bit floats, in place of those here
    windows  stride, padding and dilation, here and in the gradients
    """
    rank = len(windows["stride"])
    sets = w.ndim - rank - 2
    if kernel is None and (_is_narrow(x) or _is_narrow(w)):
        full = conv(xp, _widened(x), _widened(w), **windows, groups=groups)
        return _delivered(full.astype(promote_dtypes(x.dtype, w.dtype)), out)
    x, w, kernel = *_alike(x, w), kernel or _CONV[rank]
    if not sets:
        images = x.reshape(math.prod(x.shape[: -rank - 1]), *x.shape[-rank - 1 :])
        target = None if out is None else out.reshape(len(images), *out.shape[-rank - 1 :])
        made = kernel(xp, images, w, groups=groups, **windows, out=target)
        return made.reshape(*x.shape[: -rank - 1], *made.shape[1:]) if out is None else out
    shape = w.shape[:sets]
    count, outputs, per_group = math.prod(shape), w.shape[sets], w.shape[sets + 1]
    batch = x.shape[sets : -rank - 1]
    if math.prod(x.shape[:sets]) == 1:
        filters = w.reshape(count, groups, outputs // groups, per_group, *w.shape[-rank:]).swapaxes(0, 1)
        filters = filters.reshape(groups * count * (outputs // groups), per_group, *w.shape[-rank:])
        images = x.reshape(math.prod(batch), *x.shape[-rank - 1 :])
        made = kernel(xp, images, filters, groups=groups, **windows)
        made = made.reshape(len(images), groups, count, outputs // groups, *made.shape[2:])
        made = xp.moveaxis(made, 2, 0).reshape(count, len(images), outputs, *made.shape[4:])
    else:
        images = _channels_of_sets(xp, x, shape, rank)
        made = kernel(xp, images, w.reshape(-1, *w.shape[sets + 1 :]), groups=groups * count, **windows)
        made = made.reshape(len(images), count, outputs, *made.shape[2:]).swapaxes(0, 1)
    return _delivered(made.reshape(*shape, *batch, *made.shape[2:]), out)


def conv_input_grad(
    xp: Namespace,
    g: Array,
    w: Array,
    *,
    shape: tuple[int, ...],
    groups: int,
    out: Array | None = None,
    kernel: Kernel | None = None,
    **windows: Any,
) -> Array:
    """The gradient by ``x``, which has ``shape``, of ``sum(g * conv(x, w))``."""
    rank = len(windows["stride"])
    sets = w.ndim - rank - 2
    if kernel is None and (_is_narrow(g) or _is_narrow(w)):
        full = conv_input_grad(xp, _widened(g), _widened(w), shape=shape, **windows, groups=groups)
        return _delivered(full.astype(promote_dtypes(g.dtype, w.dtype)), out)
    g, w, kernel = *_alike(g, w), kernel or _INPUT_GRAD[rank]
    inner = shape[-rank - 1 :]
    if not sets:
        sent = g.reshape(math.prod(g.shape[: -rank - 1]), *g.shape[-rank - 1 :])
        target = None if out is None else out.reshape(len(sent), *inner)
        made = kernel(xp, sent, w, shape=(len(sent), *inner), groups=groups, **windows, out=target)
        return made.reshape(shape) if out is None else out
    count = math.prod(w.shape[:sets])
    sent = _channels_of_sets(xp, g, w.shape[:sets], rank)
    folded = (len(sent), count * inner[0], *inner[1:])
    made = kernel(xp, sent, w.reshape(-1, *w.shape[sets + 1 :]), shape=folded, groups=groups * count, **windows)
    return _delivered(made.reshape(len(sent), count, *inner).swapaxes(0, 1).reshape(shape), out)


def conv_weight_grad(
    xp: Namespace,
    g: Array,
    x: Array,
    *,
    shape: tuple[int, ...],
    groups: int,
    out: Array | None = None,
    kernel: Kernel | None = None,
    **windows: Any,
) -> Array:
    """The gradient by ``w``, which has ``shape``, of ``sum(g * conv(x, w))``."""
    rank = len(windows["stride"])
    sets = len(shape) - rank - 2
    if kernel is None and (_is_narrow(g) or _is_narrow(x)):
        full = conv_weight_grad(xp, _widened(g), _widened(x), shape=shape, **windows, groups=groups)
        return _delivered(full.astype(promote_dtypes(g.dtype, x.dtype)), out)
    g, x, kernel = *_alike(g, x), kernel or _WEIGHT_GRAD[rank]
    count = math.prod(shape[:sets])
    folded = (count * shape[sets], *shape[sets + 1 :])
    sent, images = (_channels_of_sets(xp, part, shape[:sets], rank) for part in (g, x))
    target = None if out is None else out.reshape(folded)
    made = kernel(xp, sent, images, shape=folded, groups=groups * count, **windows, out=target)
    return made.reshape(shape) if out is None else out


def one_set(op: str, shapes: Sequence[tuple[int, ...]], sets: int, rank: int) -> list[tuple[int, ...]]:
    """The shapes of the two arrays and the result of the convolution that the functions here ask of ``kernel``, given those of their own.

    >>> one_set("conv", [(4, 8, 3, 9), (4, 5, 3, 2), (4, 8, 5, 8)], 1, 1)
    [(8, 12, 9), (20, 3, 2), (8, 20, 8)]
    """
    filters = 2 if op == "conv_weight_grad" else 1
    count = math.prod(shapes[filters][:sets])
    result = []
    for position, shape in enumerate(shapes):
        inner = shape[sets:]
        if position == filters:
            result.append((count * inner[0], *inner[1:]))
        else:
            shared = op == "conv" and position == 0 and math.prod(shape[:sets]) == 1
            result.append((math.prod(inner[: -rank - 1]), inner[-rank - 1] * (1 if shared else count), *inner[-rank:]))
    return result


def _channels_of_sets(xp: Namespace, x: Array, sets: tuple[int, ...], rank: int) -> Array:
    """``x`` (*sets, *batch, channels, *sizes) as (batch, sets * channels, *sizes); sets of size 1 are repeated."""
    inner = x.shape[len(sets) :]
    batch = math.prod(inner[: -rank - 1])
    count = math.prod(sets)
    if sets:
        x = xp.broadcast_to(x, (*sets, *inner))
    x = x.reshape(count, batch, *inner[-rank - 1 :]).swapaxes(0, 1)
    return x.reshape(batch, count * inner[-rank - 1], *inner[-rank:])


def _alike(x: Array, y: Array) -> tuple[Array, Array]:
    dtype = promote_dtypes(x.dtype, y.dtype)
    return x.astype(dtype, copy=False), y.astype(dtype, copy=False)


def _is_narrow(x: Array) -> bool:
    return bool(wide(x.dtype) != x.dtype)


def _widened(x: Array) -> Array:
    return x.astype(wide(x.dtype), copy=False)


def _delivered(made: Array, out: Array | None) -> Array:
    if out is None:
        return made
    out[...] = made
    return out


# One axis: the width of pictures of height 1.


def _flat(windows: dict[str, Any]) -> dict[str, Any]:
    return {
        "stride": (1, *windows["stride"]),
        "padding": ((0, 0), *windows["padding"]),
        "dilation": (1, *windows["dilation"]),
        "groups": windows["groups"],
    }


def _conv1d(xp: Namespace, x: Array, w: Array, *, out: Array | None = None, **windows: Any) -> Array:
    target = None if out is None else out[:, :, None]
    return conv_kernels.conv2d(xp, x[:, :, None], w[:, :, None], **_flat(windows), out=target)[:, :, 0]


def _conv1d_input_grad(xp: Namespace, g: Array, w: Array, *, shape: Any, out: Array | None = None, **windows: Any) -> Array:
    target, tall = None if out is None else out[:, :, None], (*shape[:2], 1, *shape[2:])
    return conv_kernels.conv2d_input_grad(xp, g[:, :, None], w[:, :, None], shape=tall, **_flat(windows), out=target)[:, :, 0]


def _conv1d_weight_grad(xp: Namespace, g: Array, x: Array, *, shape: Any, out: Array | None = None, **windows: Any) -> Array:
    target, tall = None if out is None else out[:, :, None], (*shape[:2], 1, *shape[2:])
    return conv_kernels.conv2d_weight_grad(xp, g[:, :, None], x[:, :, None], shape=tall, **_flat(windows), out=target)[:, :, 0]


# Three axes: the first is unrolled into channels, a few images at a time.


def _conv3d(
    xp: Namespace, x: Array, w: Array, *, stride: Steps, padding: Borders, dilation: Steps, groups: int, out: Array | None = None
) -> Array:
    sizes = conv_kernels.output_size(x.shape, w.shape, stride, padding, dilation)
    if out is None:
        out = xp.empty((len(x), len(w), *sizes), x.dtype)
    filters = w.reshape(len(w), w.shape[1] * w.shape[2], *w.shape[3:])
    inner: dict[str, Any] = {"stride": stride[1:], "padding": padding[1:], "dilation": dilation[1:], "groups": groups}
    for part in parts(xp, len(x), w.shape[2] * x[:1].nbytes):
        layers = _unrolled(xp, x[part], w.shape[2], sizes[0], stride[0], padding[0], dilation[0])
        made = conv_kernels.conv2d(xp, layers, filters, **inner)
        out[part] = made.reshape(-1, sizes[0], len(w), *sizes[1:]).swapaxes(1, 2)
    return out


def _conv3d_input_grad(
    xp: Namespace,
    g: Array,
    w: Array,
    *,
    shape: tuple[int, ...],
    stride: Steps,
    padding: Borders,
    dilation: Steps,
    groups: int,
    out: Array | None = None,
) -> Array:
    depth, (front, back) = w.shape[2], padding[0]
    if out is None:
        out = xp.empty(shape, g.dtype)
    filters = w.reshape(len(w), w.shape[1] * depth, *w.shape[3:])
    inner: dict[str, Any] = {"stride": stride[1:], "padding": padding[1:], "dilation": dilation[1:], "groups": groups}
    for part in parts(xp, len(g), depth * out[:1].nbytes):
        images = g[part].swapaxes(1, 2).reshape(-1, g.shape[1], *g.shape[3:])
        sent = conv_kernels.conv2d_input_grad(xp, images, filters, shape=(len(images), shape[1] * depth, *shape[3:]), **inner)
        sent = sent.reshape(-1, g.shape[2], shape[1], depth, *shape[3:])
        grad = xp.zeros((len(sent), shape[1], front + shape[2] + back, *shape[3:]), g.dtype)
        for k in range(depth):
            met = grad[:, :, steps(k * dilation[0], stride[0], g.shape[2])]
            xp.add(met, sent[:, :, :, k].swapaxes(1, 2), out=met)
        out[part] = grad[:, :, front : front + shape[2]]
    return out


def _conv3d_weight_grad(
    xp: Namespace,
    g: Array,
    x: Array,
    *,
    shape: tuple[int, ...],
    stride: Steps,
    padding: Borders,
    dilation: Steps,
    groups: int,
    out: Array | None = None,
) -> Array:
    folded = (shape[0], shape[1] * shape[2], *shape[3:])
    inner: dict[str, Any] = {"stride": stride[1:], "padding": padding[1:], "dilation": dilation[1:], "groups": groups}
    total = xp.zeros(folded, g.dtype)
    for part in parts(xp, len(g), shape[2] * x[:1].nbytes):
        images = g[part].swapaxes(1, 2).reshape(-1, g.shape[1], *g.shape[3:])
        layers = _unrolled(xp, x[part], shape[2], g.shape[2], stride[0], padding[0], dilation[0])
        total += conv_kernels.conv2d_weight_grad(xp, images, layers, shape=folded, **inner)
    return _delivered(total.reshape(shape), out)


def _unrolled(xp: Namespace, x: Array, depth: int, count: int, stride: int, padding: tuple[int, int], dilation: int) -> Array:
    """The ``depth`` layers of ``x`` (n, c, d, h, w) that meet at each of ``count`` positions, as (n * count, c * depth, h, w)."""
    x = conv_kernels.pad_images(xp, x, (padding, *((0, 0),) * (x.ndim - 3)), 0)
    sn, sc, sd, *rest = x.strides
    n, c = x.shape[:2]
    shape = (n, count, c, depth, *x.shape[3:])
    view = xp.lib.stride_tricks.as_strided(x, shape, (sn, sd * stride, sc, sd * dilation, *rest))
    return view.reshape(n * count, c * depth, *x.shape[3:])


_CONV = {1: _conv1d, 2: conv_kernels.conv2d, 3: _conv3d}
_INPUT_GRAD = {1: _conv1d_input_grad, 2: conv_kernels.conv2d_input_grad, 3: _conv3d_input_grad}
_WEIGHT_GRAD = {1: _conv1d_weight_grad, 2: conv_kernels.conv2d_weight_grad, 3: _conv3d_weight_grad}
