"""Pooling over windows of images (batch, channels, *sizes) along one, two or three axes, with gradients that are operations too.

The operations pool over the last axes, as many as the window has numbers, of an array with any number of axes in front.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, DtypeError, ShapeError
from ..graph import Op, Spec, Tensor, Work, op
from ..graph.arguments import as_flag, as_number
from ..graph.op import Batch, Slicing
from ..graph.spec import format_shape
from ..jit import lazy
from . import pool_device, pool_kernels
from .batching import full
from .elementwise import multiply, pow, square
from .join import concat
from .reduce import max, mean
from .samples import LOW, Over
from .windows import Borders, Steps, as_borders, as_steps, check_images, window_counts

WINDOWS: list[dict[str, Any]] = [
    {"window": (2, 2), "stride": (2, 2), "padding": ((0, 0), (0, 0))},
    {"window": (3, 2), "stride": (2, 1), "padding": ((1, 0), (0, 1))},
]
LONG: list[dict[str, Any]] = [{"window": (3,), "stride": (2,), "padding": ((1, 2),)}]
DEEP: list[dict[str, Any]] = [{"window": (2, 3, 1), "stride": (1, 2, 1), "padding": ((1, 0), (0, 1), (0, 0))}]


class Pooling(Op):
    """Base: all axes in front of the pooled ones are a batch, and each output costs its window."""

    def pooled(self, x: Any, window: Steps, stride: Steps, padding: Borders) -> Spec:
        rank = len(window)
        if len(x.shape) < rank:
            raise ShapeError(f"windows of {rank} numbers do not move over {format_shape(x.shape)}")
        if x.dtype.kind not in "fV":
            raise DtypeError(f"needs floats, got {x.dtype}", help='cast with fg.astype(x, "float32")')
        sizes = window_counts(x.shape[-rank:], window, stride, padding, (1,) * rank)
        return Spec((*x.shape[:-rank], *sizes), x.dtype)

    def vmap(self, batch: Batch, *inputs: Tensor, **attrs: Any) -> Tensor:
        shared = self.shape_inputs  # of these only the sizes of the last axes are used
        return self(*(x if i in shared else full(batch, x, i) for i, x in enumerate(inputs)), **attrs)

    def work(self, *inputs: Any, **attrs: Any) -> Work:
        moved = sum(Spec(x.shape, x.dtype).nbytes for x in inputs)
        return Work(moved / 2, 2 * moved)

    def slicing(self, out: Any, *inputs: Any, window: Steps, **attrs: Any) -> Slicing | None:
        if len(out.shape) <= len(window) or out.shape[0] < 2:
            return None
        return Slicing(tuple(i not in self.shape_inputs for i in range(len(inputs))), out.shape[0])


def _compilable(x: Any, shape: Any, *, window: Steps, stride: Steps, padding: Borders) -> lazy.pool.Pooling | None:
    """The shapes of a pooling along one or two axes of images of ``shape``, with the dtype of ``x``, whose kernels can be compiled.

    One axis is the width of images of height 1.
    """
    more, rank = 2 - len(window), len(window)
    if more < 0 or len(shape) <= rank:
        return None
    ones = (1,) * more
    shapes = lazy.pool.Pooling(
        x.dtype,
        math.prod(shape[1:-rank]),
        lazy.windows.Windows((*ones, *shape[-rank:]), (*ones, *window), (*ones, *stride), (*((0, 0),) * more, *padding)),
    )
    return shapes if shapes.is_supported else None


class MaxPool(Pooling):
    """The largest value of each window."""

    def infer(self, x: Any, *, window: Steps, stride: Steps, padding: Borders) -> Spec:
        return self.pooled(x, window, stride, padding)

    def kernel(self, xp: Any, x: Any, *, out: Any = None, **attrs: Any) -> Any:
        if xp is not np and pool_device.serves(x, attrs["window"]):
            return _filled(xp, self.infer(x, **attrs), out, pool_device.max_pool, x, **attrs)
        return pool_kernels.max_pool(xp, x, **attrs, out=out)

    def compiled(self, x: Any, **attrs: Any) -> lazy.pool.MaxPool | None:
        shapes = _compilable(x, x.shape, **attrs)
        return lazy.pool.MaxPool(shapes) if shapes else None

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, **attrs: Any) -> Any:
        return max_pool_grad(g, x, out, **attrs)

    samples = (
        Over([((2, 2, 4, 6),), ((0, 2, 4, 6),)], (-20, 20), attrs=WINDOWS, apart=0.1)
        + Over([((2, 5),)], (-20, 20), attrs=LONG, apart=0.1, also=LOW)
        + Over([((1, 2, 3, 4, 2),)], (-20, 20), attrs=DEEP, apart=0.1)
    )


class MaxPoolGrad(Pooling):
    """``g`` moved to the first maximum of each window of ``x``; ``y`` is the pooled x."""

    def infer(self, g: Any, x: Any, y: Any, **attrs: Any) -> Spec:
        return Spec(x.shape, g.dtype)

    def kernel(self, xp: Any, g: Any, x: Any, y: Any, *, out: Any = None, **attrs: Any) -> Any:
        if xp is not np and g.dtype == x.dtype and pool_device.serves(x, attrs["window"]):
            return _filled(xp, x, out, pool_device.max_pool_grad, g, x, y, **attrs)
        return pool_kernels.max_pool_grad(xp, g, x, y, **attrs, out=out)

    def scratch(self, g: Any, x: Any, y: Any, *, padding: Borders, **attrs: Any) -> int:
        return _dealing_bytes(g, x, y, padding)

    def compiled(self, g: Any, x: Any, y: Any, **attrs: Any) -> lazy.pool.MaxPoolGrad | None:
        shapes = _compilable(x, x.shape, **attrs)
        return lazy.pool.MaxPoolGrad(shapes) if shapes and g.dtype == x.dtype else None

    def vjp(self, g: Tensor, out: Tensor, cotangent: Tensor, x: Tensor, y: Tensor, **attrs: Any) -> Any:
        return max_pool_gather(g, x, y, **attrs), None, None


class MaxPoolGather(Pooling):
    """The entry of ``v`` at the first maximum of each window of ``x``: the transpose of max_pool_grad."""

    def infer(self, v: Any, x: Any, y: Any, **attrs: Any) -> Spec:
        return Spec(y.shape, v.dtype)

    def kernel(self, xp: Any, v: Any, x: Any, y: Any, *, out: Any = None, **attrs: Any) -> Any:
        return pool_kernels.max_pool_gather(xp, v, x, y, **attrs, out=out)

    def scratch(self, v: Any, x: Any, y: Any, *, padding: Borders, **attrs: Any) -> int:
        return _dealing_bytes(v, x, y, padding)

    def vjp(self, g: Tensor, out: Tensor, v: Tensor, x: Tensor, y: Tensor, **attrs: Any) -> Any:
        return max_pool_grad(g, x, y, **attrs), None, None


def _filled(xp: Any, spec: Any, out: Any, kernel: Callable[..., Any], *arrays: Any, **attrs: Any) -> Any:
    """``out``, or a new array, as a kernel that writes in C order fills it."""
    made = xp.empty(spec.shape, spec.dtype) if out is None or not out.flags.c_contiguous else out
    kernel(xp, *arrays, made, **attrs)
    if out is None or made is out:
        return made
    out[...] = made
    return out


def _dealing_bytes(dealt: Any, x: Any, y: Any, padding: Borders) -> int:
    """Bytes for dealing ``dealt`` to the maxima: what is left of it, two parts, a comparison; and two arrays with borders."""
    size = math.prod(y.shape)
    rim = 2 * math.prod(x.shape) * dealt.dtype.itemsize if any(before or after for before, after in padding) else 0
    return int(size * (3 * dealt.dtype.itemsize + 1) + rim)


class AvgPool(Pooling):
    """The mean of each window."""

    def infer(self, x: Any, *, window: Steps, stride: Steps, padding: Borders, count_include_pad: bool) -> Spec:
        return self.pooled(x, window, stride, padding)

    def kernel(self, xp: Any, x: Any, *, out: Any = None, **attrs: Any) -> Any:
        return pool_kernels.avg_pool(xp, x, **attrs, out=out)

    def compiled(self, x: Any, *, count_include_pad: bool, **attrs: Any) -> lazy.pool.AvgPool | None:
        shapes = _compilable(x, x.shape, **attrs)
        return lazy.pool.AvgPool(shapes, count_include_pad) if shapes else None

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, **attrs: Any) -> Any:
        return avg_pool_grad(g, x, **attrs)

    samples = (
        Over([((2, 2, 4, 6),), ((0, 2, 4, 6),)], attrs=[{**a, "count_include_pad": c} for a in WINDOWS for c in (False, True)])
        + Over([((2, 5),)], attrs=[{**a, "count_include_pad": c} for a in LONG for c in (False, True)], also=LOW)
        + Over([((1, 2, 3, 4, 2),)], attrs=[{**a, "count_include_pad": False} for a in DEEP])
    )


class AvgPoolGrad(Pooling):
    """``g`` spread evenly over each window; of ``target``, the images, only the sizes are used."""

    shape_inputs = (1,)

    def infer(self, g: Any, target: Any, *, window: Steps, **attrs: Any) -> Spec:
        rank = len(window)
        return Spec((*g.shape[:-rank], *target.shape[-rank:]), g.dtype)

    def kernel(self, xp: Any, g: Any, target: Any, *, window: Steps, out: Any = None, **attrs: Any) -> Any:
        return pool_kernels.avg_pool_grad(xp, g, sizes=target.shape[-len(window) :], window=window, **attrs, out=out)

    def compiled(self, g: Any, target: Any, *, window: Steps, count_include_pad: bool, **attrs: Any) -> lazy.pool.AvgPoolGrad | None:
        rank = len(window)
        shapes = _compilable(g, (*g.shape[:-rank], *target.shape[-rank:]), window=window, **attrs)
        return lazy.pool.AvgPoolGrad(shapes, count_include_pad) if shapes else None

    def vjp(self, g: Tensor, out: Tensor, cotangent: Tensor, target: Tensor, **attrs: Any) -> Any:
        return _avg_pool(g, **attrs), None

    samples = Over(
        [((2, 2, 2, 3), (2, 2, 4, 6))], attrs=[{**a, "count_include_pad": c} for a in WINDOWS[:1] for c in (False, True)]
    ) + Over([((2, 3), (2, 5))], attrs=[{**a, "count_include_pad": c} for a in LONG for c in (False, True)], also=LOW)


class PooledSamples(Over):
    """Samples for the two that also read the pooled images, which therefore must be those of ``x``."""

    def __iter__(self) -> Any:
        for sample in super().__iter__():
            _, x, y = sample.inputs
            pool_kernels.max_pool(np, x, **sample.attrs, out=y)
            yield sample


MaxPoolGrad.samples = PooledSamples([((2, 2, 2, 3), (2, 2, 4, 6), (2, 2, 2, 3))], (-20, 20), attrs=WINDOWS[:1], apart=0.1) + PooledSamples(
    [((2, 3), (2, 5), (2, 3))], (-20, 20), attrs=LONG, apart=0.1
)
MaxPoolGather.samples = PooledSamples(
    [((2, 2, 4, 6), (2, 2, 4, 6), (2, 2, 2, 3))], (-20, 20), attrs=WINDOWS[:1], apart=0.1
) + PooledSamples([((2, 5), (2, 5), (2, 3))], (-20, 20), attrs=LONG, apart=0.1, also=LOW)

_max_pool = op(MaxPool)
max_pool_grad = op(MaxPoolGrad)
max_pool_gather = op(MaxPoolGather)
_avg_pool = op(AvgPool)
avg_pool_grad = op(AvgPoolGrad)


def max_pool1d(x: Any, window: int | Sequence[int] = 2, *, stride: Any = None, padding: Any = "valid") -> Tensor:
    """Largest value of each window of the sequences ``x`` (batch, channels, length); arguments as for max_pool2d.

    >>> session.run(fg.nn.max_pool1d([[[1.0, 4.0, 3.0, 2.0]]]))
    array([[[4., 3.]]])
    """
    return _pool("max_pool1d", 1, x, window, stride, padding)


def max_pool2d(x: Any, window: int | Sequence[int] = 2, *, stride: int | Sequence[int] | None = None, padding: Any = "valid") -> Tensor:
    """Largest value of each window of the images ``x`` (batch, channels, height, width).

    window   size, one number or (height, width)
    stride   step between windows; None for the window's size
    padding  as for conv2d; it never wins, and the gradient goes to the first maximum of each window
    raises   ShapeError when a window does not fit

    >>> session.run(fg.nn.max_pool2d(np.arange(16.0).reshape(1, 1, 4, 4)))
    array([[[[ 5.,  7.],
             [13., 15.]]]])
    """
    return _pool("max_pool2d", 2, x, window, stride, padding)


def max_pool3d(x: Any, window: int | Sequence[int] = 2, *, stride: Any = None, padding: Any = "valid") -> Tensor:
    """Largest value of each window of the volumes ``x`` (batch, channels, depth, height, width); arguments as for max_pool2d.

    >>> session.run(fg.nn.max_pool3d(np.arange(16.0).reshape(1, 1, 4, 2, 2))).ravel()
    array([ 7., 15.])
    """
    return _pool("max_pool3d", 3, x, window, stride, padding)


def avg_pool1d(
    x: Any, window: int | Sequence[int] = 2, *, stride: Any = None, padding: Any = "valid", count_include_pad: bool = False
) -> Tensor:
    """Mean of each window of the sequences ``x`` (batch, channels, length); arguments as for avg_pool2d.

    >>> session.run(fg.nn.avg_pool1d([[[1.0, 4.0, 3.0, 2.0]]]))
    array([[[2.5, 2.5]]])
    """
    return _pool("avg_pool1d", 1, x, window, stride, padding, count_include_pad=as_flag(count_include_pad, "count_include_pad"))


def avg_pool2d(
    x: Any,
    window: int | Sequence[int] = 2,
    *,
    stride: int | Sequence[int] | None = None,
    padding: Any = "valid",
    count_include_pad: bool = False,
) -> Tensor:
    """Mean of each window of the images ``x``; arguments as for max_pool2d.

    count_include_pad  whether padding counts towards the mean, as zeros
    returns            float16 is summed in float32

    >>> session.run(fg.nn.avg_pool2d(np.arange(16.0).reshape(1, 1, 4, 4)))
    array([[[[ 2.5,  4.5],
             [10.5, 12.5]]]])
    """
    return _pool("avg_pool2d", 2, x, window, stride, padding, count_include_pad=as_flag(count_include_pad, "count_include_pad"))


def avg_pool3d(
    x: Any, window: int | Sequence[int] = 2, *, stride: Any = None, padding: Any = "valid", count_include_pad: bool = False
) -> Tensor:
    """Mean of each window of the volumes ``x`` (batch, channels, depth, height, width); arguments as for avg_pool2d.

    >>> session.run(fg.nn.avg_pool3d(np.arange(16.0).reshape(1, 1, 4, 2, 2))).ravel()
    array([ 3.5, 11.5])
    """
    return _pool("avg_pool3d", 3, x, window, stride, padding, count_include_pad=as_flag(count_include_pad, "count_include_pad"))


def _pool(name: str, rank: int, x: Any, window: Any, stride: Any, padding: Any, **options: Any) -> Tensor:
    operation = _avg_pool if options else _max_pool
    (x,) = operation.lift((x,))
    check_images(name, rank, x=x)
    size = as_steps(window, rank, "window")
    steps = size if stride is None else as_steps(stride, rank, "stride")
    borders = as_borders(padding, x.shape[2:], size, steps, (1,) * rank)
    return operation(x, window=size, stride=steps, padding=borders, **options, name=name)


def adaptive_avg_pool(x: Any, size: int | Sequence[int] = 1) -> Tensor:
    """Means over windows that cut each image into ``size`` parts: part i of n goes from pixel i * size / n, rounded down, to
    (i + 1) * size / n, rounded up.

    x        (batch, channels, *sizes): one, two or three axes behind the channels
    size     number of parts, one for all axes or one each; 1, the default, is the mean of the whole image (global pooling)
    returns  (batch, channels, *size)
    raises   ShapeError where the sizes must be known and are not (1 does not need them)

    >>> session.run(fg.nn.adaptive_avg_pool(np.arange(6.0).reshape(1, 1, 2, 3), (1, 2)))
    array([[[[2., 3.]]]])
    """
    return _adaptive("adaptive_avg_pool", x, size)


def adaptive_max_pool(x: Any, size: int | Sequence[int] = 1) -> Tensor:
    """Largest values of windows that cut each image into ``size`` parts; see adaptive_avg_pool.

    >>> session.run(fg.nn.adaptive_max_pool(np.arange(6.0).reshape(1, 1, 2, 3)))
    array([[[[5.]]]])
    """
    return _adaptive("adaptive_max_pool", x, size)


def _adaptive(name: str, images: Any, size: Any) -> Tensor:
    x = _avg_pool.lift((images,))[0]
    rank = x.ndim - 2
    if not 1 <= rank <= 3:
        raise ShapeError(f"{name}: images are (batch, channels, *sizes) with one to three sizes, got {format_shape(x.shape)}")
    counts = as_steps(size, rank, "size")
    averages = name == "adaptive_avg_pool"
    if set(counts) == {1}:
        return (mean if averages else max)(x, axis=tuple(range(2, x.ndim)), keepdims=True)
    lengths = [length for length in x.shape[2:] if isinstance(length, int)]
    if len(lengths) < rank:
        raise ShapeError(f"{name}: the sizes of the images must be known, got {format_shape(x.shape)}", help="only size 1 does without")
    for axis, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        if count > length:
            raise ShapeError(f"{name}: {length} pixels do not divide into {count} parts")
        x = _in_parts(x, axis, rank, length, count, averages)
    return x


def _in_parts(x: Tensor, axis: int, rank: int, length: int, count: int, averages: bool) -> Tensor:
    """``x`` pooled along one axis into ``count`` parts: by equal windows where they fit, else part by part."""
    options: dict[str, Any] = {"count_include_pad": False} if averages else {}
    operation = _avg_pool if averages else _max_pool

    def pool(part: Tensor, size: int) -> Tensor:
        window = tuple(size if a == axis else 1 for a in range(rank))
        return operation(part, window=window, stride=window, padding=((0, 0),) * rank, **options)

    if length % count == 0:
        return pool(x, length // count)
    before = (slice(None),) * (2 + axis)
    ends = [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
    return concat([pool(x[(*before, slice(low, high))], high - low) for low, high in ends], axis=2 + axis)


def local_response_norm(x: Any, size: int = 5, *, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """``x`` divided by a power of what its neighbouring channels hold: ``x / (k + alpha * mean(x**2 over size channels)) ** beta``.

    x        float tensor (batch, channels, *sizes); channels beyond the first and last count as zeros
    size     number of channels of a neighbourhood
    raises   ShapeError for fewer than two dimensions

    >>> session.run(fg.nn.local_response_norm(np.ones((1, 3, 1)), 3, alpha=3.0, beta=1.0)).ravel().round(4)
    array([0.3333, 0.25  , 0.3333])
    """
    (x,) = _avg_pool.lift((x,))
    if x.ndim < 2:
        raise ShapeError(f"local_response_norm: images are (batch, channels, *sizes), got {format_shape(x.shape)}")
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ArgumentError(f"local_response_norm: size must be a positive int, got {size!r}")
    behind = x.ndim - 2
    window, borders = (size, *(1,) * behind), ((size // 2, (size - 1) // 2), *((0, 0),) * behind)
    squares = _avg_pool(square(x), window=window, stride=(1,) * (behind + 1), padding=borders, count_include_pad=True)
    return multiply(x, pow(squares * as_number(alpha, "alpha") + as_number(k, "k"), -as_number(beta, "beta")))
