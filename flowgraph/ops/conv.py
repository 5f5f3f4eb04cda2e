"""Two-dimensional convolution and its two gradients. Images are (batch, channels, height, width), filters (out, in, height, width).

All three are linear in each argument, and each is a gradient of the others, so that gradients of any order close among them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import Dim, Op, Spec, Tensor, Work, op
from ..graph.op import Slicing
from ..graph.spec import format_shape
from . import conv_kernels
from .samples import Over

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]

WINDOWS: list[dict[str, Any]] = [
    {"stride": (1, 1), "padding": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1},
    {"stride": (2, 1), "padding": ((1, 0), (2, 1)), "dilation": (1, 2), "groups": 1},
]


class Convolution(Op):
    """Base of the three: they share their parameters and their cost."""

    def multiplications(self, images: Any, filters: Any, output: Any) -> float:
        return float(math.prod(output.shape) * math.prod(filters.shape[1:]))


class Conv2d(Convolution):
    """Cross-correlation of each image with each filter."""

    promotes = True

    def infer(self, x: Any, w: Any, *, stride: Pair, padding: Padding, dilation: Pair, groups: int) -> Spec:
        for label, value in (("images", x), ("filters", w)):
            if len(value.shape) != 4:
                raise ShapeError(f"the {label} need 4 dimensions, got {format_shape(value.shape)}", help=FORM)
        channels, per_group = x.shape[1], w.shape[1]
        if isinstance(channels, int) and isinstance(per_group, int) and channels != per_group * groups:
            each = f" in {groups} groups" if groups > 1 else ""
            raise ShapeError(f"{channels} channels{each} but filters for {per_group * groups}", help=FORM)
        if isinstance(w.shape[0], int) and w.shape[0] % groups:
            raise ShapeError(f"{w.shape[0]} filters do not divide into {groups} groups")
        size = tuple(window_count(x.shape[2 + axis], w.shape[2 + axis], stride[axis], padding[axis], dilation[axis]) for axis in (0, 1))
        return Spec((x.shape[0], w.shape[0], *size), np.result_type(x.dtype, w.dtype))

    def kernel(self, xp: Any, x: Any, w: Any, *, out: Any = None, **attrs: Any) -> Any:
        return conv_kernels.conv2d(xp, x, w, **attrs, out=out)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, w: Tensor, **attrs: Any) -> Any:
        return lambda: conv2d_input_grad(g, w, x, **attrs), lambda: conv2d_weight_grad(g, x, w, **attrs)

    def work(self, x: Any, w: Any, **attrs: Any) -> Work:
        out = self.infer(x, w, **attrs)
        return Work(2 * self.multiplications(x, w, out), out.nbytes + Spec(x.shape, x.dtype).nbytes)

    def slicing(self, out: Any, x: Any, w: Any, **attrs: Any) -> Slicing | None:
        return Slicing((True, False), out.shape[0])

    samples = Over([((2, 2, 5, 6), (3, 2, 3, 2)), ((0, 2, 5, 6), (3, 2, 3, 2)), ((1, 2, 4, 4), (1, 2, 3, 2))], attrs=WINDOWS)


class Conv2dInputGrad(Convolution):
    """Gradient of conv2d by its images, from ``g`` and the filters; of ``target``, the images, only the shape is used."""

    shape_inputs = (2,)

    def infer(self, g: Any, w: Any, target: Any, **attrs: Any) -> Spec:
        return Spec(target.shape, np.result_type(g.dtype, w.dtype))

    def kernel(self, xp: Any, g: Any, w: Any, target: Any, *, out: Any = None, **attrs: Any) -> Any:
        # Cut along the batch, g holds fewer images than the target says.
        return conv_kernels.conv2d_input_grad(xp, g, w, shape=(g.shape[0], *target.shape[1:]), **attrs, out=out)

    def vjp(self, g: Tensor, out: Tensor, cotangent: Tensor, w: Tensor, target: Tensor, **attrs: Any) -> Any:
        return lambda: conv2d_op(g, w, **attrs), lambda: conv2d_weight_grad(cotangent, g, w, **attrs), None

    def work(self, g: Any, w: Any, target: Any, **attrs: Any) -> Work:
        return Work(2 * self.multiplications(target, w, g), Spec(target.shape, g.dtype).nbytes + Spec(g.shape, g.dtype).nbytes)

    def slicing(self, out: Any, g: Any, w: Any, target: Any, **attrs: Any) -> Slicing | None:
        return Slicing((True, False, False), out.shape[0])

    samples = Over([((2, 3, 3, 5), (3, 2, 3, 2), (2, 2, 5, 6))], attrs=WINDOWS[:1])


class Conv2dWeightGrad(Convolution):
    """Gradient of conv2d by its filters, from ``g`` and the images; of ``target``, the filters, only the shape is used."""

    shape_inputs = (2,)

    def infer(self, g: Any, x: Any, target: Any, **attrs: Any) -> Spec:
        return Spec(target.shape, np.result_type(g.dtype, x.dtype))

    def kernel(self, xp: Any, g: Any, x: Any, target: Any, *, out: Any = None, **attrs: Any) -> Any:
        return conv_kernels.conv2d_weight_grad(xp, g, x, shape=target.shape, **attrs, out=out)

    def vjp(self, g: Tensor, out: Tensor, cotangent: Tensor, x: Tensor, target: Tensor, **attrs: Any) -> Any:
        return lambda: conv2d_op(x, g, **attrs), lambda: conv2d_input_grad(cotangent, g, x, **attrs), None

    def work(self, g: Any, x: Any, target: Any, **attrs: Any) -> Work:
        return Work(2 * self.multiplications(x, target, g), Spec(x.shape, x.dtype).nbytes + Spec(g.shape, g.dtype).nbytes)

    def slicing(self, out: Any, g: Any, x: Any, target: Any, **attrs: Any) -> Slicing | None:
        return Slicing((True, True, False), g.shape[0], "sum") if g.shape[0] > 1 else None

    samples = Over([((2, 3, 3, 5), (2, 2, 5, 6), (3, 2, 3, 2))], attrs=WINDOWS[:1])


FORM = "images are (batch, channels, height, width), filters (out, channels per group, height, width)"

conv2d_op = op(Conv2d)
conv2d_input_grad = op(Conv2dInputGrad)
conv2d_weight_grad = op(Conv2dWeightGrad)


def conv2d(
    x: Any,
    w: Any,
    *,
    stride: int | Pair = 1,
    padding: str | int | Sequence[Any] = "valid",
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation of images with filters (what neural networks call convolution: the filters are not mirrored).

    x         (batch, channels, height, width)
    w         (out, channels / groups, filter height, filter width)
    stride    step between windows, one number or (vertical, horizontal)
    padding   zeros around the image: "valid" (none), "same" (output size = input size / stride, rounded up; an odd zero goes
              below and right), a number, (vertical, horizontal), or ((top, bottom), (left, right))
    dilation  distance between the pixels that a filter meets
    groups    number of groups of channels that do not meet; channels of them make it depthwise
    returns   (batch, out, height, width) in the promoted dtype
    raises    ShapeError when channels differ or a filter is larger than the padded image

    >>> session.run(fg.nn.conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2))))
    array([[[[4., 4.],
             [4., 4.]]]])
    """
    x, w = conv2d_op.lift((x, w))
    if x.ndim != 4 or w.ndim != 4:
        return conv2d_op(x, w, stride=(1, 1), padding=((0, 0), (0, 0)), dilation=(1, 1), groups=1)  # says what is wrong
    steps, gaps = as_pair(stride, "stride"), as_pair(dilation, "dilation")
    borders = as_padding(padding, x, (w.shape[2], w.shape[3]), steps, gaps)
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise ArgumentError(f"conv2d: groups must be a positive int, got {groups!r}")
    return conv2d_op(x, w, stride=steps, padding=borders, dilation=gaps, groups=groups)


def window_count(size: Dim, window: Dim, stride: int, padding: Pair, dilation: int) -> Dim:
    """How many windows fit along one axis. raises ShapeError when none does."""
    if not isinstance(size, int) or not isinstance(window, int):
        return None
    count = (size + padding[0] + padding[1] - dilation * (window - 1) - 1) // stride + 1
    if count < 1:
        raise ShapeError(f"a window of {dilation * (window - 1) + 1} does not fit into {size + padding[0] + padding[1]} pixels")
    return count


def as_pair(value: int | Sequence[int], what: str) -> Pair:
    """One number or two as two, checked."""
    pair = (value, value) if isinstance(value, int | np.integer) else tuple(value)
    if len(pair) != 2 or not all(isinstance(v, int | np.integer) and v >= 1 for v in pair):
        raise ArgumentError(f"{what} must be a positive int or two of them, got {value!r}")
    return int(pair[0]), int(pair[1])


def as_padding(padding: Any, x: Tensor, window: tuple[Dim, Dim], stride: Pair, dilation: Pair) -> Padding:
    """``padding`` in any of its forms as ((top, bottom), (left, right))."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        return tuple(same_border(x.shape[2 + i], window[i], stride[i], dilation[i]) for i in (0, 1))  # type: ignore[return-value]
    if isinstance(padding, int | np.integer):
        padding = (padding, padding)
    try:
        borders = tuple((b, b) if isinstance(b, int | np.integer) else tuple(b) for b in padding)
        if len(borders) == 2 and all(len(b) == 2 and all(int(v) == v >= 0 for v in b) for b in borders):
            return tuple((int(a), int(b)) for a, b in borders)  # type: ignore[return-value]
    except TypeError:
        pass
    raise ArgumentError(
        f"padding {padding!r} is not understood",
        help='"valid", "same", a number, (vertical, horizontal) or ((top, bottom), (left, right))',
    )


def same_border(size: Dim, window: Dim, stride: int, dilation: int) -> Pair:
    """The padding of one axis for an output of size / stride, rounded up."""
    if not isinstance(window, int) or (stride != 1 and not isinstance(size, int)):
        raise ShapeError("padding 'same' with a stride needs the height and width to be known", help="give the padding in numbers")
    reach = dilation * (window - 1) + 1
    total = reach - 1 if stride == 1 else max((-(-size // stride) - 1) * stride + reach - size, 0)  # type: ignore[operator]
    return total // 2, total - total // 2
