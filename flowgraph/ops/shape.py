"""Views: the same elements in another shape, order of axes or direction; and zeros or ones in the shape of something."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import Dim, Op, Shape, Spec, Tensor, Work, op
from ..graph.arguments import as_several
from ..graph.op import Batch, public
from ..graph.spec import as_shape, broadcast_shapes, format_shape, is_known, normalize_axes, normalize_axis
from .batching import full, moved, widened
from .elementwise import like, sum_like
from .samples import MATRIX_SHAPES, UNARY_SHAPES, Over


class View(Op):
    """Base: the output shares the input's memory, so it costs nothing."""

    is_view = True

    def work(self, *inputs: Any, **attrs: Any) -> Work:
        return Work()


def behind(axes: Sequence[int]) -> tuple[int, ...]:
    """``axes`` where they are once the batch stands in front."""
    return tuple(axis + 1 for axis in axes)


class Reshape(View):
    """The same elements in another shape, behind the first ``keep`` axes, which stay; -1 in ``shape`` stands for what is left.

    axes  where ``shape`` holds names: for each of its sizes the axis of x, counted behind those that stay, whose size it is, or -1
    """

    def infer(self, x: Any, *, shape: tuple[Any, ...], keep: int = 0, axes: tuple[int, ...] = ()) -> Spec:
        before, given = x.shape[:keep], x.shape[keep:]
        dims: list[Dim] = list(shape)
        left: Sequence[Dim] = given
        sizes: Sequence[int] = shape
        if axes:  # what is taken over by name is as much on both sides
            dims = [given[axis] if axis >= 0 else size for size, axis in zip(shape, axes, strict=True)]
            left = [size for axis, size in enumerate(given) if axis not in axes]
            sizes = [size for size, axis in zip(shape, axes, strict=True) if axis < 0]
        unknown = [] if is_known(tuple(left)) else [size for size in left if not isinstance(size, int)]
        has = math.prod(size for size in left if isinstance(size, int))
        asked = abs(math.prod(sizes))  # (one of them may be -1)
        fits = has == asked or bool(unknown)
        if -1 in shape:
            rest: Dim = None
            if not unknown:
                fits = asked > 0 and has % asked == 0
                rest = has // asked if fits else None
            elif len(unknown) == 1 and has == asked:  # (batch, 50, 4, 4) as (-1, 800) has -1 = batch
                rest = unknown[0]
            dims[shape.index(-1)] = rest
        if not fits:
            raise ShapeError(f"{format_shape(given)} has {_count(given)} elements, which do not fit {format_shape(shape)}")
        return Spec((*before, *dims), x.dtype)

    def kernel(self, xp: Any, x: Any, *, shape: tuple[Any, ...], keep: int = 0, axes: tuple[int, ...] = ()) -> Any:
        if axes or (keep and -1 in shape and not math.prod(x.shape[:keep])):  # (NumPy cannot tell what is left of nothing)
            return xp.reshape(x, self.infer(x, shape=shape, keep=keep, axes=axes).shape)
        return xp.reshape(x, (*x.shape[:keep], *shape))

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, **attrs: Any) -> Any:
        return reshape(g, x.shape) if is_known(x.shape) else reshape_like(g, x, axis=None)

    def vmap(self, batch: Batch, x: Tensor, *, shape: tuple[Any, ...], keep: int = 0, axes: tuple[int, ...] = ()) -> Tensor:
        return reshape_behind(x, shape=shape, keep=keep + 1, axes=axes)

    samples = Over(
        [((2, 3),), ((0, 3),), ((),), ((2, 3, 4),)],
        attrs=lambda s: (
            ([{"shape": (-1,)}] if 0 not in s else [{"shape": (3, 0)}])
            + ([{"shape": (1, -1), "keep": 1}] if len(s) > 1 else [])
            + ([{"shape": (2, -1, 2), "keep": 2}] if len(s) > 2 else [])
        ),
    )


def _count(shape: Shape) -> str:
    """How many elements it has: a number, and before it the names of sizes."""
    known = math.prod(d for d in shape if isinstance(d, int))
    return " * ".join([*(str(d) for d in shape if not isinstance(d, int)), str(known)])


class ReshapeLike(View):
    """``x`` in the shape of ``target``, or, given ``axis``, in that shape with size 1 on those axes; values of target are not used."""

    shape_inputs = (1,)

    def infer(self, x: Any, target: Any, *, axis: tuple[int, ...] | None) -> Spec:
        return Spec(tuple(1 if axis is not None and i in axis else d for i, d in enumerate(target.shape)), x.dtype)

    def kernel(self, xp: Any, x: Any, target: Any, *, axis: tuple[int, ...] | None) -> Any:
        return xp.reshape(x, tuple(1 if axis is not None and i in axis else d for i, d in enumerate(target.shape)))

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, target: Tensor, *, axis: tuple[int, ...] | None) -> Any:
        return reshape_like(g, x, axis=None), None

    def vmap(self, batch: Batch, x: Tensor, target: Tensor, *, axis: tuple[int, ...] | None) -> Tensor:
        return reshape_like(full(batch, x, 0), full(batch, target, 1), axis=None if axis is None else behind(axis))

    samples = Over([((6,), (2, 3)), ((0,), (0, 3)), ((), (1, 1))], attrs=({"axis": None},))


class PermuteDims(View):
    """The axes in another order."""

    def infer(self, x: Any, *, axes: tuple[int, ...]) -> Spec:
        return Spec(tuple(x.shape[a] for a in axes), x.dtype)

    def kernel(self, xp: Any, x: Any, *, axes: tuple[int, ...]) -> Any:
        return xp.transpose(x, axes)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axes: tuple[int, ...]) -> Any:
        return _permute_dims(g, axes=tuple(int(a) for a in np.argsort(axes)))

    def vmap(self, batch: Batch, x: Tensor, *, axes: tuple[int, ...]) -> Tensor:
        return _permute_dims(x, axes=(0, *behind(axes)))

    samples = Over(UNARY_SHAPES, attrs=lambda s: [{"axes": tuple(range(len(s)))[::-1]}, {"axes": tuple(range(len(s)))}])


class ExpandDims(View):
    """An axis of size 1 put in at ``axis`` of the result."""

    def infer(self, x: Any, *, axis: int) -> Spec:
        return Spec((*x.shape[:axis], 1, *x.shape[axis:]), x.dtype)

    def kernel(self, xp: Any, x: Any, *, axis: int) -> Any:
        return xp.expand_dims(x, axis)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axis: int) -> Any:
        return squeeze(g, axis)

    def vmap(self, batch: Batch, x: Tensor, *, axis: int) -> Tensor:
        return _expand_dims(x, axis=axis + 1)

    samples = Over(UNARY_SHAPES, attrs=lambda s: [{"axis": a} for a in range(len(s) + 1)])


class Squeeze(View):
    """Axes of size 1 taken out."""

    def infer(self, x: Any, *, axis: tuple[int, ...]) -> Spec:
        for a in axis:
            if isinstance(x.shape[a], int) and x.shape[a] != 1:
                raise ShapeError(f"axis {a} of {format_shape(x.shape)} has size {x.shape[a]}, only size 1 can be taken out")
        return Spec(tuple(d for i, d in enumerate(x.shape) if i not in axis), x.dtype)

    def kernel(self, xp: Any, x: Any, *, axis: tuple[int, ...]) -> Any:
        return xp.squeeze(x, axis)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axis: tuple[int, ...]) -> Any:
        return reshape_like(g, x, axis=None)

    def vmap(self, batch: Batch, x: Tensor, *, axis: tuple[int, ...]) -> Tensor:
        return _squeeze(x, axis=behind(axis))

    samples = Over([((1, 3),), ((2, 1, 3, 1),), ((1,),)], attrs=lambda s: [{"axis": tuple(i for i, d in enumerate(s) if d == 1)}])


class BroadcastTo(View):
    """``x`` repeated to ``shape`` by NumPy's rules, behind its first ``keep`` axes, which stay."""

    def infer(self, x: Any, *, shape: Shape, keep: int = 0) -> Spec:
        if broadcast_shapes(x.shape[keep:], shape) != shape:
            raise ShapeError(f"{format_shape(x.shape[keep:])} does not broadcast to {format_shape(shape)}")
        return Spec((*x.shape[:keep], *shape), x.dtype)

    def kernel(self, xp: Any, x: Any, *, shape: tuple[int, ...], keep: int = 0) -> Any:
        return xp.broadcast_to(x, (*x.shape[:keep], *shape))

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, shape: Shape, keep: int = 0) -> Any:
        return like(g, x)

    def vmap(self, batch: Batch, x: Tensor, *, shape: Shape, keep: int = 0) -> Tensor:
        missing = keep + len(shape) - (x.ndim - 1)
        return _broadcast_to(widened(x, missing), shape=shape, keep=keep + 1)

    samples = Over([((3,),), ((),), ((1, 3),), ((2, 1),)], attrs=({"shape": (2, 3)}, {"shape": (4, 2, 3)}))


class RepeatLike(View):
    """``x`` repeated along a new first axis as long as that of ``target``, of which only the shape is used."""

    shape_inputs = (1,)

    def infer(self, x: Any, target: Any) -> Spec:
        return Spec((target.shape[0], *x.shape), x.dtype)

    def kernel(self, xp: Any, x: Any, target: Any) -> Any:
        return xp.broadcast_to(x, (target.shape[0], *x.shape))

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, target: Tensor) -> Any:
        return sum_like(g, x), None

    def vmap(self, batch: Batch, x: Tensor, target: Tensor) -> Tensor:
        # Repeated in front of the batch, then moved behind it.
        repeated = repeat_like(full(batch, x, 0), target[0] if batch.inputs[1] else target)
        return moved(repeated, 0, 1)

    samples = Over([((2, 3), (4, 1)), ((), (2,)), ((0, 3), (2, 2)), ((3,), (0, 2))])


class Flip(View):
    """The elements in reverse order along ``axis``."""

    def infer(self, x: Any, *, axis: tuple[int, ...]) -> Any:
        return x

    def kernel(self, xp: Any, x: Any, *, axis: tuple[int, ...]) -> Any:
        return xp.flip(x, axis)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axis: tuple[int, ...]) -> Any:
        return _flip(g, axis=axis)

    def vmap(self, batch: Batch, x: Tensor, *, axis: tuple[int, ...]) -> Tensor:
        return _flip(x, axis=behind(axis))

    samples = Over(MATRIX_SHAPES, attrs=({"axis": (0,)}, {"axis": (0, 1)}))


class ZerosLike(Op):
    """Zeros in the shape and dtype of ``x``."""

    shape_inputs = (0,)
    in_place = False

    def infer(self, x: Any) -> Any:
        return x

    def kernel(self, xp: Any, x: Any, *, out: Any = None) -> Any:
        if out is None:
            return xp.zeros(x.shape, x.dtype)
        out[...] = 0
        return out

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return None  # constant: it does not depend on the values of x

    def vmap(self, batch: Batch, x: Tensor) -> Tensor:
        return self(x)

    samples = Over(UNARY_SHAPES)


class OnesLike(ZerosLike):
    """Ones in the shape and dtype of ``x``."""

    def kernel(self, xp: Any, x: Any, *, out: Any = None) -> Any:
        if out is None:
            return xp.ones(x.shape, x.dtype)
        out[...] = 1
        return out


reshape_behind = op(Reshape)
reshape_like = op(ReshapeLike)
_permute_dims = op(PermuteDims)
_expand_dims = op(ExpandDims)
_squeeze = op(Squeeze)
_broadcast_to = op(BroadcastTo)
repeat_like = public(op(RepeatLike))
_flip = op(Flip)
zeros_like = op(ZerosLike)
ones_like = op(OnesLike)


def reshape(x: Any, shape: Any) -> Tensor:
    """``x`` in another shape with the same elements in the same (row by row) order.

    shape   ints, or names of sizes that x has, such as "batch"; one may be -1, which stands for what is left
    raises  ShapeError when the numbers of elements differ, and for a name that x has not

    >>> session.run(fg.reshape([1, 2, 3, 4], (2, -1)))
    array([[1, 2],
           [3, 4]])
    """
    (x,) = reshape_behind.lift((x,))
    dims = tuple(shape) if np.iterable(shape) and not isinstance(shape, str) else (shape,)
    rest = [isinstance(d, int | np.integer) and d == -1 for d in dims]
    if builtins.sum(rest) > 1:
        raise ArgumentError(f"only one size may be -1, got {dims}")
    if any(d is None for d in dims):
        raise ArgumentError(f"a new size cannot be None, got {dims}", help="use -1 for one unknown size")
    final = tuple(-1 if is_rest else size for is_rest, size in zip(rest, as_shape(1 if r else d for r, d in zip(rest, dims)), strict=True))
    if not any(isinstance(d, str) for d in final):
        return reshape_behind(x, shape=final)
    axes: list[int] = []
    for size in final:
        axis = next((a for a, d in enumerate(x.shape) if d == size and a not in axes), -1) if isinstance(size, str) else -1
        if isinstance(size, str) and axis < 0:
            shapes = f"{format_shape(final)} has a size {size!r} that {format_shape(x.shape)} has not"
            raise ShapeError(shapes, help="use -1 for one unknown size")
        axes.append(axis)
    return reshape_behind(x, shape=final, axes=tuple(axes))


def permute_dims(x: Any, axes: Sequence[int] | None = None) -> Tensor:
    """``x`` with its axes in the order ``axes``; None reverses them.

    raises  ShapeError when ``axes`` does not name each axis once

    >>> session.run(fg.permute_dims([[1, 2, 3], [4, 5, 6]], (1, 0)))
    array([[1, 4],
           [2, 5],
           [3, 6]])
    """
    (x,) = _permute_dims.lift((x,))
    named = tuple(range(x.ndim))[::-1] if axes is None else as_several(axes, "axes")
    order = tuple(normalize_axis(a, x.ndim) for a in named)
    if sorted(order) != list(range(x.ndim)):
        raise ShapeError(f"{named} does not name each of the {x.ndim} axes once", help="fg.swapaxes(x, 0, 1) exchanges two")
    return _permute_dims(x, axes=order)


def expand_dims(x: Any, axis: int = 0) -> Tensor:
    """``x`` with an axis of size 1 put in, which is axis ``axis`` of the result.

    >>> session.run(fg.expand_dims([1, 2], axis=1)).shape
    (2, 1)
    """
    (x,) = _expand_dims.lift((x,))
    return _expand_dims(x, axis=normalize_axis(axis, x.ndim + 1))


def squeeze(x: Any, axis: int | Sequence[int] | None = None) -> Tensor:
    """``x`` without the axes ``axis``, which must have size 1; None: all that are known to have it.

    raises  ShapeError when one is larger

    >>> session.run(fg.squeeze([[1, 2]]))
    array([1, 2])
    """
    (x,) = _squeeze.lift((x,))
    if axis is None:
        axis = tuple(i for i, dim in enumerate(x.shape) if dim == 1)
    return _squeeze(x, axis=normalize_axes(axis, x.ndim))


def broadcast_to(x: Any, shape: Any) -> Tensor:
    """``x`` repeated to ``shape`` by NumPy's rules, as a view.

    raises  ShapeError when it does not fit, ArgumentError for a size that is not a number

    >>> session.run(fg.broadcast_to([1, 2], (2, 2)))
    array([[1, 2],
           [1, 2]])
    """
    (x,) = _broadcast_to.lift((x,))
    target = as_shape(shape)
    if x.shape == target and None not in target:
        return x  # type: ignore[no-any-return]
    if not is_known(target):
        raise ArgumentError(
            f"broadcast_to: the sizes are numbers, got {format_shape(target)}",
            help="fg.broadcast_arrays(x, y) repeats x to the shape of y, whatever that will be",
        )
    return _broadcast_to(x, shape=target)


def flip(x: Any, axis: int | Sequence[int] | None = None) -> Tensor:
    """``x`` in reverse order along ``axis`` (None for all)."""
    (x,) = _flip.lift((x,))
    return _flip(x, axis=normalize_axes(axis, x.ndim))


def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int]) -> Tensor:
    """``x`` with its axes ``source`` at ``destination``; the others keep their order.

    raises  ShapeError for an axis out of range or named twice, ArgumentError when there are not as many of both

    >>> session.run(fg.moveaxis(np.zeros((2, 3, 4)), 0, -1)).shape
    (3, 4, 2)
    """
    (x,) = _permute_dims.lift((x,))
    sources = [normalize_axis(a, x.ndim) for a in as_several(source, "axes")]
    places = [normalize_axis(a, x.ndim) for a in as_several(destination, "axes")]
    if len(sources) != len(places):
        raise ArgumentError(f"moveaxis: {len(sources)} axes for {len(places)} places")
    if len(set(sources)) != len(sources) or len(set(places)) != len(places):
        raise ShapeError(f"moveaxis: {source} to {destination} names an axis twice")
    order = [a for a in range(x.ndim) if a not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        order.insert(place, axis)
    return _permute_dims(x, axes=tuple(order))


def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """``x`` with ``axis1`` and ``axis2`` exchanged, as a view.

    >>> session.run(fg.swapaxes(np.zeros((2, 3, 4)), 0, 2)).shape
    (4, 3, 2)
    """
    (x,) = _permute_dims.lift((x,))
    order = list(range(x.ndim))
    one, other = normalize_axis(axis1, x.ndim), normalize_axis(axis2, x.ndim)
    order[one], order[other] = other, one
    return _permute_dims(x, axes=tuple(order))


for _function in (moveaxis, swapaxes, reshape, permute_dims, expand_dims, squeeze, broadcast_to, flip):
    public(_function)
