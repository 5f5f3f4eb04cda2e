"""Pooling over windows of images (batch, channels, height, width), with gradients that are operations too."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DtypeError, ShapeError
from ..graph import Op, Spec, Tensor, Work, op
from ..graph.op import Slicing
from ..graph.spec import format_shape
from . import pool_kernels
from .conv import Padding, Pair, as_padding, as_pair, window_count
from .samples import Over

WINDOWS: list[dict[str, Any]] = [
    {"window": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0))},
    {"window": (3, 2), "stride": (2, 1), "padding": ((1, 0), (0, 1))},
]


class Pooling(Op):
    """Base: rows of the batch are independent, and each output costs its window."""

    def pooled(self, x: Any, window: Pair, stride: Pair, padding: Padding) -> Spec:
        if len(x.shape) != 4:
            raise ShapeError(f"images need 4 dimensions (batch, channels, height, width), got {format_shape(x.shape)}")
        if x.dtype.kind != "f" and x.dtype.kind != "V":
            raise DtypeError(f"needs floats, got {x.dtype}", help='cast with fg.astype(x, "float32")')
        size = tuple(window_count(x.shape[2 + i], window[i], stride[i], padding[i], 1) for i in (0, 1))
        return Spec((*x.shape[:2], *size), x.dtype)

    def work(self, *inputs: Any, **attrs: Any) -> Work:
        moved = sum(Spec(x.shape, x.dtype).nbytes for x in inputs)
        return Work(moved / 2, 2 * moved)

    def slicing(self, out: Any, *inputs: Any, **attrs: Any) -> Slicing | None:
        if out.shape[0] < 2:
            return None
        return Slicing(tuple(i not in self.shape_inputs for i in range(len(inputs))), out.shape[0])


class MaxPool2d(Pooling):
    """The largest value of each window."""

    def infer(self, x: Any, *, window: Pair, stride: Pair, padding: Padding) -> Spec:
        return self.pooled(x, window, stride, padding)

    def kernel(self, xp: Any, x: Any, *, out: Any = None, **attrs: Any) -> Any:
        return pool_kernels.max_pool2d(xp, x, **attrs, out=out)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, **attrs: Any) -> Any:
        return max_pool2d_grad(g, x, out, **attrs)

    samples = Over([((2, 2, 4, 6),), ((0, 2, 4, 6),)], (-20, 20), attrs=WINDOWS, apart=0.1)


class MaxPool2dGrad(Pooling):
    """``g`` moved to the first maximum of each window of ``x``; ``y`` is the pooled x."""

    def infer(self, g: Any, x: Any, y: Any, **attrs: Any) -> Spec:
        return Spec(x.shape, g.dtype)

    def kernel(self, xp: Any, g: Any, x: Any, y: Any, *, out: Any = None, **attrs: Any) -> Any:
        return pool_kernels.max_pool2d_grad(xp, g, x, y, **attrs, out=out)

    def vjp(self, g: Tensor, out: Tensor, cotangent: Tensor, x: Tensor, y: Tensor, **attrs: Any) -> Any:
        return max_pool2d_gather(g, x, y, **attrs), None, None


class MaxPool2dGather(Pooling):
    """The entry of ``v`` at the first maximum of each window of ``x``: the transpose of max_pool2d_grad."""

    def infer(self, v: Any, x: Any, y: Any, **attrs: Any) -> Spec:
        return Spec(y.shape, v.dtype)

    def kernel(self, xp: Any, v: Any, x: Any, y: Any, *, out: Any = None, **attrs: Any) -> Any:
        return pool_kernels.max_pool2d_gather(xp, v, x, y, **attrs, out=out)

    def vjp(self, g: Tensor, out: Tensor, v: Tensor, x: Tensor, y: Tensor, **attrs: Any) -> Any:
        return max_pool2d_grad(g, x, y, **attrs), None, None


class AvgPool2d(Pooling):
    """The mean of each window; padding is not counted."""

    def infer(self, x: Any, *, window: Pair, stride: Pair, padding: Padding) -> Spec:
        return self.pooled(x, window, stride, padding)

    def kernel(self, xp: Any, x: Any, *, out: Any = None, **attrs: Any) -> Any:
        return pool_kernels.avg_pool2d(xp, x, **attrs, out=out)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, **attrs: Any) -> Any:
        return avg_pool2d_grad(g, x, **attrs)

    samples = Over([((2, 2, 4, 6),), ((0, 2, 4, 6),)], attrs=WINDOWS)


class AvgPool2dGrad(Pooling):
    """``g`` spread evenly over each window; of ``target``, the images, only the shape is used."""

    shape_inputs = (1,)

    def infer(self, g: Any, target: Any, **attrs: Any) -> Spec:
        return Spec(target.shape, g.dtype)

    def kernel(self, xp: Any, g: Any, target: Any, *, out: Any = None, **attrs: Any) -> Any:
        return pool_kernels.avg_pool2d_grad(xp, g, shape=(g.shape[0], *target.shape[1:]), **attrs, out=out)

    def vjp(self, g: Tensor, out: Tensor, cotangent: Tensor, target: Tensor, **attrs: Any) -> Any:
        return _avg_pool2d(g, **attrs), None

    samples = Over([((2, 2, 2, 3), (2, 2, 4, 6))], attrs=WINDOWS[:1])


class PooledSamples(Over):
    """Samples for the two that also read the pooled images, which therefore must be those of ``x``."""

    def __iter__(self) -> Any:
        for sample in super().__iter__():
            _, x, y = sample.inputs
            pool_kernels.max_pool2d(np, x, **sample.attrs, out=y)
            yield sample


MaxPool2dGrad.samples = PooledSamples([((2, 2, 2, 3), (2, 2, 4, 6), (2, 2, 2, 3))], (-20, 20), attrs=WINDOWS[:1], apart=0.1)
MaxPool2dGather.samples = PooledSamples([((2, 2, 4, 6), (2, 2, 4, 6), (2, 2, 2, 3))], (-20, 20), attrs=WINDOWS[:1], apart=0.1)

_max_pool2d = op(MaxPool2d)
max_pool2d_grad = op(MaxPool2dGrad)
max_pool2d_gather = op(MaxPool2dGather)
_avg_pool2d = op(AvgPool2d)
avg_pool2d_grad = op(AvgPool2dGrad)


def max_pool2d(x: Any, window: int | Pair = 2, *, stride: int | Pair | None = None, padding: Any = "valid") -> Tensor:
    """Largest value of each window of the images ``x`` (batch, channels, height, width).

    window   size, one number or (height, width)
    stride   step between windows; None for the window's size
    padding  as for conv2d; it never wins, and the gradient goes to the first maximum of each window
    raises   ShapeError when a window does not fit

    >>> session.run(fg.nn.max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4)))
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """
    return _pool(_max_pool2d, x, window, stride, padding)


def avg_pool2d(x: Any, window: int | Pair = 2, *, stride: int | Pair | None = None, padding: Any = "valid") -> Tensor:
    """Mean of each window of the images ``x``; arguments as for max_pool2d. Padding does not count towards the mean.

    >>> session.run(fg.nn.avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4)))
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    """
    return _pool(_avg_pool2d, x, window, stride, padding)


def _pool(operation: Pooling, x: Any, window: Any, stride: Any, padding: Any) -> Tensor:
    (x,) = operation.lift((x,))
    size = as_pair(window, "window")
    steps = size if stride is None else as_pair(stride, "stride")
    if x.ndim != 4:
        return operation(x, window=size, stride=steps, padding=((0, 0), (0, 0)))  # says what is wrong
    return operation(x, window=size, stride=steps, padding=as_padding(padding, x, size, steps, (1, 1)))
