"""Operations that move, repeat, cut or join elements without changing them."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import Dim, Op, Shape, Spec, Tensor, Work, op
from ..graph.op import Batch, public
from ..graph.spec import as_shape, broadcast_shapes, format_shape, is_known, normalize_axes, normalize_axis
from .batching import full, moved
from .elementwise import like, sum_like
from .samples import MATRIX_SHAPES, UNARY_SHAPES, Over


class View(Op):
    """Base: the output shares the input's memory, so it costs nothing."""

    is_view = True

    def work(self, *inputs: Any, **attrs: Any) -> Work:
        return Work()


class Reshape(View):
    """The same elements in another shape; -1 in ``shape`` stands for what is left."""

    def infer(self, x: Any, *, shape: tuple[Any, ...]) -> Spec:
        known = is_known(x.shape)
        dims: list[Dim] = [None if d == -1 else d for d in shape]
        rest = [i for i, d in enumerate(shape) if d == -1]
        if known and all(isinstance(d, int) for d in shape):
            size = math.prod(x.shape)
            given = math.prod(d for d in shape if d != -1)
            if rest and given and size % given == 0:
                dims[rest[0]] = size // given
            elif rest or given != size:
                raise ShapeError(f"{format_shape(x.shape)} has {size} elements, which do not fit {shape}")
        elif rest:
            # The unknown sizes may stand on both sides: (batch, 50, 4, 4) as (-1, 800) has -1 = batch.
            left = [d for d in x.shape if not isinstance(d, int)]
            right = [d for d in shape if not isinstance(d, int)]
            fixed_in = math.prod(d for d in x.shape if isinstance(d, int))
            fixed_out = math.prod(d for d in shape if isinstance(d, int) and d != -1)
            if len(left) == 1 and not right and fixed_in == fixed_out:
                dims[rest[0]] = left[0]
            elif None not in left and left == right and fixed_out and fixed_in % fixed_out == 0:
                dims[rest[0]] = fixed_in // fixed_out
        return Spec(tuple(dims), x.dtype)

    def kernel(self, xp: Any, x: Any, *, shape: tuple[Any, ...]) -> Any:
        if any(isinstance(d, str) for d in shape):
            raise ShapeError(f"the symbolic size in {format_shape(shape)} is not known here", help="use -1 for one unknown size")
        return xp.reshape(x, shape)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, shape: tuple[Any, ...]) -> Any:
        return reshape(g, x.shape) if is_known(x.shape) else reshape_like(g, x, axis=None)

    samples = Over(
        [((2, 3),), ((0, 3),), ((),), ((2, 3, 4),)],
        attrs=lambda s: [{"shape": (-1,)}] if 0 not in s else [{"shape": (3, 0)}],
    )


class ReshapeLike(View):
    """``x`` in the shape of ``target``, or, given ``axis``, in that shape with size 1 on those axes; values of target are not used."""

    shape_inputs = (1,)

    def infer(self, x: Any, target: Any, *, axis: tuple[int, ...] | None) -> Spec:
        return Spec(tuple(1 if axis is not None and i in axis else d for i, d in enumerate(target.shape)), x.dtype)

    def kernel(self, xp: Any, x: Any, target: Any, *, axis: tuple[int, ...] | None) -> Any:
        return xp.reshape(x, tuple(1 if axis is not None and i in axis else d for i, d in enumerate(target.shape)))

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, target: Tensor, *, axis: tuple[int, ...] | None) -> Any:
        return reshape_like(g, x, axis=None), None

    samples = Over([((6,), (2, 3)), ((0,), (0, 3)), ((), (1, 1))], attrs=({"axis": None},))


class PermuteDims(View):
    """The axes in another order."""

    def infer(self, x: Any, *, axes: tuple[int, ...]) -> Spec:
        return Spec(tuple(x.shape[a] for a in axes), x.dtype)

    def kernel(self, xp: Any, x: Any, *, axes: tuple[int, ...]) -> Any:
        return xp.transpose(x, axes)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axes: tuple[int, ...]) -> Any:
        return _permute_dims(g, axes=tuple(int(a) for a in np.argsort(axes)))

    samples = Over(UNARY_SHAPES, attrs=lambda s: [{"axes": tuple(range(len(s)))[::-1]}, {"axes": tuple(range(len(s)))}])


class ExpandDims(View):
    """An axis of size 1 put in at ``axis`` of the result."""

    def infer(self, x: Any, *, axis: int) -> Spec:
        return Spec((*x.shape[:axis], 1, *x.shape[axis:]), x.dtype)

    def kernel(self, xp: Any, x: Any, *, axis: int) -> Any:
        return xp.expand_dims(x, axis)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axis: int) -> Any:
        return squeeze(g, axis)

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

    samples = Over([((1, 3),), ((2, 1, 3, 1),), ((1,),)], attrs=lambda s: [{"axis": tuple(i for i, d in enumerate(s) if d == 1)}])


class BroadcastTo(View):
    """``x`` repeated to ``shape`` by NumPy's rules."""

    def infer(self, x: Any, *, shape: Shape) -> Spec:
        if broadcast_shapes(x.shape, shape) != shape:
            raise ShapeError(f"{format_shape(x.shape)} does not broadcast to {format_shape(shape)}")
        return Spec(shape, x.dtype)

    def kernel(self, xp: Any, x: Any, *, shape: tuple[int, ...]) -> Any:
        return xp.broadcast_to(x, shape)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, shape: Shape) -> Any:
        return like(g, x)

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

    samples = Over(MATRIX_SHAPES, attrs=({"axis": (0,)}, {"axis": (0, 1)}))


class Concat(Op):
    """Tensors joined along an axis that they have."""

    def infer(self, *parts: Any, axis: int) -> Spec:
        first = parts[0]
        total: Dim = 0
        rest = list(first.shape)
        for part in parts:
            if len(part.shape) != len(first.shape):
                raise ShapeError(f"{format_shape(first.shape)} and {format_shape(part.shape)} have different numbers of dimensions")
            for i, dim in enumerate(part.shape):
                if i == axis:
                    continue
                if isinstance(dim, int) and isinstance(rest[i], int) and dim != rest[i]:
                    shapes = f"{format_shape(first.shape)} and {format_shape(part.shape)}"
                    raise ShapeError(f"{shapes} differ on axis {i}, only axis {axis} may differ")
                rest[i] = dim if isinstance(dim, int) else rest[i]
            here = part.shape[axis]
            total = total + here if isinstance(total, int) and isinstance(here, int) else None
        rest[axis] = total
        return Spec(tuple(rest), np.result_type(*[part.dtype for part in parts]))

    def kernel(self, xp: Any, *parts: Any, axis: int, out: Any = None) -> Any:
        return xp.concatenate(parts, axis=axis, out=out)

    def vjp(self, g: Tensor, out: Tensor, *parts: Tensor, axis: int) -> Any:
        return tuple((lambda i=i, part=part: like(concat_part(g, *parts, axis=axis, position=i), part)) for i, part in enumerate(parts))

    samples = Over([((2, 3), (1, 3)), ((2, 3), (0, 3)), ((1, 3), (1, 3), (2, 3))], attrs=({"axis": 0},))


class ConcatPart(View):
    """The stretch of ``g`` that the part at ``position`` has in the concatenation of ``parts``; of these only the shapes are used."""

    # The number of parts differs from node to node; every input behind the first is a shape.
    shape_inputs = tuple(range(1, 65))

    def infer(self, g: Any, *parts: Any, axis: int, position: int) -> Spec:
        return Spec((*g.shape[:axis], parts[position].shape[axis], *g.shape[axis + 1 :]), g.dtype)

    def kernel(self, xp: Any, g: Any, *parts: Any, axis: int, position: int) -> Any:
        start = builtins.sum(part.shape[axis] for part in parts[:position])
        return g[(slice(None),) * axis + (slice(start, start + parts[position].shape[axis]),)]

    def vjp(self, g: Tensor, out: Tensor, whole: Tensor, *parts: Tensor, axis: int, position: int) -> Any:
        pieces = [g if i == position else zeros_like(part) for i, part in enumerate(parts)]
        return (_concat(*pieces, axis=axis), *(None for _ in parts))

    samples = Over([((3, 3), (2, 3), (1, 3))], attrs=({"axis": 0, "position": 0}, {"axis": 0, "position": 1}))


class Getitem(View):
    """Basic indexing: integers, slices, ``None`` and ``...``."""

    def infer(self, x: Any, *, index: tuple[Any, ...]) -> Spec:
        dims: list[Dim] = []
        axis = 0
        taken = builtins.sum(1 for item in index if item is not None and item is not Ellipsis)
        if taken > len(x.shape):
            raise ShapeError(f"{taken} indices for {len(x.shape)} dimension{'s' * (len(x.shape) != 1)}")
        for item in index if Ellipsis in index else (*index, Ellipsis):
            if item is None:
                dims.append(1)
                continue
            if item is Ellipsis:
                rest = len(x.shape) - taken
                dims += x.shape[axis : axis + rest]
                axis += rest
                continue
            dim = x.shape[axis]
            if isinstance(item, int):
                if isinstance(dim, int) and not -dim <= item < dim:
                    raise ShapeError(f"index {item} is out of range for axis {axis} of size {dim}")
            elif item == slice(None):
                dims.append(dim)
            else:
                dims.append(len(range(*item.indices(dim))) if isinstance(dim, int) else None)
            axis += 1
        return Spec(tuple(dims), x.dtype)

    def kernel(self, xp: Any, x: Any, *, index: tuple[Any, ...]) -> Any:
        return x[index]

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, index: tuple[Any, ...]) -> Any:
        return setitem_zeros(g, x, index=index)

    samples = Over(
        [((3, 4),), ((0, 4),)],
        attrs=lambda s: [
            {"index": (slice(None, None, -1), slice(1, 3))},
            {"index": (Ellipsis, -1)},
            {"index": (slice(0, 2), None)},
            *([{"index": (1,)}] if s[0] else []),
        ],
    )


class SetitemZeros(Op):
    """Zeros in the shape of ``target`` with ``g`` at ``index``: the transpose of indexing."""

    shape_inputs = (1,)

    def infer(self, g: Any, target: Any, *, index: tuple[Any, ...]) -> Spec:
        return Spec(target.shape, g.dtype)

    def kernel(self, xp: Any, g: Any, target: Any, *, index: tuple[Any, ...], out: Any = None) -> Any:
        if out is None:
            out = xp.empty(target.shape, g.dtype)
        out[...] = 0
        out[index] = g
        return out

    def vjp(self, g: Tensor, out: Tensor, part: Tensor, target: Tensor, *, index: tuple[Any, ...]) -> Any:
        return _getitem(g, index=index), None

    samples = Over([((3, 2), (3, 4))], attrs=({"index": (slice(None, None, -1), slice(1, 3))},))


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

    samples = Over(UNARY_SHAPES)


class OnesLike(ZerosLike):
    """Ones in the shape and dtype of ``x``."""

    def kernel(self, xp: Any, x: Any, *, out: Any = None) -> Any:
        if out is None:
            return xp.ones(x.shape, x.dtype)
        out[...] = 1
        return out


_reshape = op(Reshape)
reshape_like = op(ReshapeLike)
_permute_dims = op(PermuteDims)
_expand_dims = op(ExpandDims)
_squeeze = op(Squeeze)
_broadcast_to = op(BroadcastTo)
repeat_like = public(op(RepeatLike))
_flip = op(Flip)
_concat = op(Concat)
concat_part = op(ConcatPart)
_getitem = op(Getitem)
setitem_zeros = op(SetitemZeros)
zeros_like = public(op(ZerosLike))
ones_like = public(op(OnesLike))


def reshape(x: Any, shape: Any) -> Tensor:
    """``x`` in another shape with the same elements in the same (row by row) order.

    shape   ints; one may be -1, which stands for what is left
    raises  ShapeError when the numbers of elements differ

    >>> session.run(fg.reshape([1, 2, 3, 4], (2, -1)))
    array([[1, 2],
           [3, 4]])
    """
    (x,) = _reshape.lift((x,))
    dims = (shape,) if isinstance(shape, int | np.integer | str) else tuple(shape)
    if builtins.sum(1 for d in dims if isinstance(d, int | np.integer) and d == -1) > 1:
        raise ArgumentError(f"reshape: only one size may be -1, got {dims}")
    checked = as_shape(1 if isinstance(d, int | np.integer) and d == -1 else d for d in dims)
    if None in checked:
        raise ArgumentError(f"reshape: a new size cannot be None, got {dims}", help="use -1 for one unknown size")
    final = tuple(-1 if isinstance(d, int | np.integer) and d == -1 else c for d, c in zip(dims, checked, strict=True))
    return _reshape(x, shape=final)


def permute_dims(x: Any, axes: Sequence[int] | None = None) -> Tensor:
    """``x`` with its axes in the order ``axes``; None reverses them.

    raises  ShapeError when ``axes`` does not name each axis once

    >>> session.run(fg.permute_dims([[1, 2, 3], [4, 5, 6]], (1, 0)))
    array([[1, 4],
           [2, 5],
           [3, 6]])
    """
    (x,) = _permute_dims.lift((x,))
    order = tuple(range(x.ndim))[::-1] if axes is None else tuple(normalize_axis(a, x.ndim) for a in axes)
    if sorted(order) != list(range(x.ndim)):
        raise ShapeError(f"permute_dims: {tuple(axes or ())} does not name each of the {x.ndim} axes once")
    return _permute_dims(x, axes=order)


def expand_dims(x: Any, axis: int = 0) -> Tensor:
    """``x`` with an axis of size 1 put in, which is axis ``axis`` of the result.

    >>> session.run(fg.expand_dims([1, 2], axis=1)).shape
    (2, 1)
    """
    (x,) = _expand_dims.lift((x,))
    return _expand_dims(x, axis=normalize_axis(axis, x.ndim + 1))


def squeeze(x: Any, axis: int | Sequence[int]) -> Tensor:
    """``x`` without the axes ``axis``, which must have size 1. raises ShapeError when one is larger."""
    (x,) = _squeeze.lift((x,))
    return _squeeze(x, axis=normalize_axes(axis, x.ndim))


def broadcast_to(x: Any, shape: Any) -> Tensor:
    """``x`` repeated to ``shape`` by NumPy's rules. raises ShapeError when it does not fit."""
    (x,) = _broadcast_to.lift((x,))
    target = as_shape(shape)
    return x if x.shape == target and is_known(target) else _broadcast_to(x, shape=target)


def flip(x: Any, axis: int | Sequence[int] | None = None) -> Tensor:
    """``x`` in reverse order along ``axis`` (None for all)."""
    (x,) = _flip.lift((x,))
    return _flip(x, axis=normalize_axes(axis, x.ndim))


def concat(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """The ``tensors`` joined along ``axis``; on the others they must agree.

    raises  ShapeError when they do not, ArgumentError for none

    >>> session.run(fg.concat([[1, 2], [3]]))
    array([1, 2, 3])
    """
    parts = _concat.lift(tensors)
    if not parts:
        raise ArgumentError("concat: no tensors to join")
    return _concat(*parts, axis=normalize_axis(axis, parts[0].ndim))


def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """The ``tensors``, all of one shape, along a new axis ``axis``.

    >>> session.run(fg.stack([[1, 2], [3, 4]], axis=1))
    array([[1, 3],
           [2, 4]])
    """
    parts = _concat.lift(tensors)
    if not parts:
        raise ArgumentError("stack: no tensors to join")
    return concat(
        [expand_dims(part, normalize_axis(axis, part.ndim + 1)) for part in parts],
        normalize_axis(axis, parts[0].ndim + 1),
    )


def getitem(x: Any, index: Any) -> Tensor:
    """``x[index]`` for integers, slices, None and ``...``, as a view; a tensor's ``[]`` builds it.

    raises  ArgumentError for an index of another kind, ShapeError for one out of range
    """
    (x,) = _getitem.lift((x,))
    items = index if isinstance(index, tuple) else (index,)
    checked = tuple(int(item) if isinstance(item, np.integer) else item for item in items)
    for item in checked:
        if isinstance(item, bool) or not (item is None or isinstance(item, int | slice | EllipsisType)):
            raise ArgumentError(
                f"a tensor is indexed by integers, slices, None and ..., got {type(item).__name__}",
                help="fg.where chooses by a mask; fg.take picks by positions",
            )
    if builtins.sum(1 for item in checked if item is Ellipsis) > 1:
        raise ArgumentError("an index may hold only one ...")
    return _getitem(x, index=checked)


for _function in (reshape, permute_dims, expand_dims, squeeze, broadcast_to, flip, concat, stack, getitem):
    public(_function)
