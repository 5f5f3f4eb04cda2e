"""Images in another size, by the nearest pixel or by straight lines between pixels, along any number of axes; and the transpose of that.

Both are linear, axis by axis, and each is the gradient of the other. They act on the last axes of an array with any number in front.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import ArgumentError, DtypeError, ShapeError
from ..graph import Op, Spec, Tensor, Work, op
from ..graph.op import Batch, Slicing
from ..graph.spec import format_shape
from .batching import full
from .bits import wide
from .samples import LOW, Over
from .windows import Steps, as_steps

SHAPES: list[tuple[tuple[int, ...], ...]] = [((2, 3, 4),), ((1, 5, 1),), ((0, 2, 2),), ((4, 3),)]
WAYS: list[dict[str, Any]] = [
    {"size": (5, 3), "method": "nearest", "align_corners": False},
    {"size": (5, 3), "method": "linear", "align_corners": False},
    {"size": (2, 7), "method": "linear", "align_corners": True},
    {"size": (1, 4), "method": "linear", "align_corners": True},
]


class Resizing(Op):
    """Base: all axes in front of the resized ones are a batch."""

    def work(self, *inputs: Any, **attrs: Any) -> Work:
        out = self.infer(*inputs, **attrs)
        moved = out.nbytes + Spec(inputs[0].shape, inputs[0].dtype).nbytes
        return Work(6.0 * out.size, 2.0 * moved)

    def slicing(self, out: Any, *inputs: Any, size: Steps, **attrs: Any) -> Slicing | None:
        if len(out.shape) <= len(size) or out.shape[0] < 2:
            return None
        return Slicing((True, *(False for _ in inputs[1:])), out.shape[0])


class Resize(Resizing):
    """The last axes in the sizes ``size``."""

    def infer(self, x: Any, *, size: Steps, method: str, align_corners: bool) -> Spec:
        if any(length == 0 for length in x.shape[-len(size) :]):
            raise ShapeError(f"{format_shape(x.shape)} has no pixels to take values from")
        if method == "linear" and x.dtype.kind not in "fcV":
            raise DtypeError(f"needs floats, got {x.dtype}", help='cast with fg.astype(x, "float32"), or use method="nearest"')
        return Spec((*x.shape[: -len(size)], *size), x.dtype)

    def kernel(self, xp: Any, x: Any, *, size: Steps, method: str, align_corners: bool, out: Any = None) -> Any:
        made = x.astype(wide(x.dtype), copy=False)
        for axis, length in enumerate(size, start=x.ndim - len(size)):
            made = _stretched(xp, made, axis, length, method, align_corners)
        if out is None:
            return made.astype(x.dtype, copy=False)
        out[...] = made
        return out

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, **attrs: Any) -> Any:
        return resize_grad(g, x, **attrs)

    def vmap(self, batch: Batch, x: Tensor, **attrs: Any) -> Tensor:
        return _resize(x, **attrs)

    samples = Over(SHAPES, attrs=WAYS, also=(*LOW, "complex128")) + Over([((2, 3),)], (0, 9), attrs=WAYS[:1], dtypes=("int32",))


class ResizeGrad(Resizing):
    """``g`` sent back to the pixels that its own were made of; of ``target``, the images, only the sizes are used."""

    shape_inputs = (1,)

    def infer(self, g: Any, target: Any, *, size: Steps, **attrs: Any) -> Spec:
        rank = len(size)
        return Spec((*g.shape[:-rank], *target.shape[-rank:]), g.dtype)

    def kernel(self, xp: Any, g: Any, target: Any, *, size: Steps, method: str, align_corners: bool, out: Any = None) -> Any:
        made = g.astype(wide(g.dtype), copy=False)
        for axis, length in reversed(list(enumerate(target.shape[-len(size) :], start=g.ndim - len(size)))):
            made = _gathered_back(xp, made, axis, length, method, align_corners)
        if out is None:
            return made.astype(g.dtype, copy=False)
        out[...] = made
        return out

    def vjp(self, g: Tensor, out: Tensor, cotangent: Tensor, target: Tensor, **attrs: Any) -> Any:
        return _resize(g, **attrs), None

    def vmap(self, batch: Batch, g: Tensor, target: Tensor, **attrs: Any) -> Tensor:
        return resize_grad(full(batch, g, 0), target, **attrs)

    samples = (
        Over([((2, 5, 3), (2, 3, 4)), ((5, 3), (1, 2)), ((0, 5, 3), (0, 3, 7))], attrs=WAYS[:2], also=LOW)
        + Over([((2, 2, 7), (2, 3, 4)), ((2, 7), (5, 3))], attrs=WAYS[2:3])
    )  # fmt: skip


def _neighbours(xp: Any, count: int, length: int, method: str, align_corners: bool) -> tuple[Any, Any, Any, Any]:
    """For each of ``count`` new pixels its lower and upper neighbour among ``length``, both ascending, and their weights.

    All is found in whole numbers, up to the quotients that are the weights: so no rounding can move the nearest pixel, whose upper
    neighbour is None, and a place far to the right is as exact as one on the left.
    """
    if method == "nearest":
        return (2 * xp.arange(count) + 1) * length // (2 * count), None, None, None
    if align_corners:
        places, unit = xp.arange(count) * (length - 1), max(count - 1, 1)
    else:
        unit = 2 * count
        places = xp.clip((2 * xp.arange(count) + 1) * length - count, 0, (length - 1) * unit)
    low = places // unit
    rest = places - low * unit
    return low, xp.minimum(low + 1, length - 1), (unit - rest) / unit, rest / unit


def _stretched(xp: Any, x: Any, axis: int, count: int, method: str, align_corners: bool) -> Any:
    low, high, _, weight = _neighbours(xp, count, x.shape[axis], method, align_corners)
    below = xp.take(x, low, axis=axis)
    if high is None:
        return below
    weight = weight.astype(x.real.dtype).reshape(count, *(1,) * (x.ndim - axis - 1))
    above = xp.take(x, high, axis=axis)
    above -= below
    above *= weight
    return xp.add(below, above, out=above)


def _gathered_back(xp: Any, g: Any, axis: int, length: int, method: str, align_corners: bool) -> Any:
    low, high, *weights = _neighbours(xp, g.shape[axis], length, method, align_corners)
    grad = xp.zeros((*g.shape[:axis], length, *g.shape[axis + 1 :]), g.dtype)
    if high is None:
        return _added(xp, grad, low, g, axis)
    for positions, weight in zip((low, high), weights, strict=True):
        grad = _added(xp, grad, positions, g * weight.astype(g.real.dtype).reshape(-1, *(1,) * (g.ndim - axis - 1)), axis)
    return grad


def _added(xp: Any, grad: Any, positions: Any, g: Any, axis: int) -> Any:
    """``grad`` with ``g`` added at ascending ``positions``: those that meet in one pixel lie side by side, and are summed in order."""
    starts = xp.flatnonzero(xp.diff(positions, prepend=-1))
    sums = xp.add.reduceat(g, starts, axis=axis) if g.size else xp.take(g, starts, axis=axis)
    grad[(slice(None),) * axis + (positions[starts],)] += sums
    return grad


_resize = op(Resize)
resize_grad = op(ResizeGrad)


def resize(x: Any, size: int | Sequence[int], method: str = "linear", *, align_corners: bool = False) -> Tensor:
    """The images ``x`` with ``size`` pixels along each axis behind the channels.

    x              (batch, channels, *sizes): one, two (pictures) or three axes behind the channels
    size           the new sizes, one number for all axes or one each
    method         "nearest" (the nearest pixel; of any dtype) or "linear" (between the two nearest of each axis: bilinear in pictures)
    align_corners  whether the centres of the corner pixels stay where they are; else the outer edges of the image do, and pixels
                   beyond the last centre repeat it. Only for "linear"
    returns        (batch, channels, *size), dtype of x. There is no antialiasing: to make an image much smaller, average first
    raises         ArgumentError for another method, ShapeError for an image without pixels

    >>> session.run(fg.nn.resize([[[0.0, 4.0]]], 4))
    array([[[0., 1., 3., 4.]]])
    >>> session.run(fg.nn.resize([[[1, 2]]], 4, "nearest"))
    array([[[1, 1, 2, 2]]])
    """
    (x,) = _resize.lift((x,))
    rank = x.ndim - 2
    if rank < 1:
        raise ShapeError(f"resize: images are (batch, channels, *sizes), got {format_shape(x.shape)}")
    if method not in ("nearest", "linear"):
        raise ArgumentError(f'resize: the method is "nearest" or "linear", got {method!r:.80}')
    if align_corners and method == "nearest":
        raise ArgumentError('resize: align_corners is for method "linear"; the nearest pixel is always that of the same place')
    return _resize(x, size=as_steps(size, rank, "size"), method=method, align_corners=bool(align_corners))
