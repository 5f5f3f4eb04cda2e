"""Joining tensors along an axis, and the parts of what was joined."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import Dim, Op, Spec, Tensor, op
from ..graph.op import Batch, public
from ..graph.spec import format_shape, normalize_axis
from .batching import full
from .elementwise import like
from .samples import Over
from .shape import View, expand_dims, zeros_like


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

    def vmap(self, batch: Batch, *parts: Tensor, axis: int) -> Tensor:
        return _concat(*[full(batch, part, i) for i, part in enumerate(parts)], axis=axis + 1)

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

    def vmap(self, batch: Batch, g: Tensor, *parts: Tensor, axis: int, position: int) -> Tensor:
        whole = [full(batch, part, i) for i, part in enumerate((g, *parts))]
        return concat_part(*whole, axis=axis + 1, position=position)

    samples = Over([((3, 3), (2, 3), (1, 3))], attrs=({"axis": 0, "position": 0}, {"axis": 0, "position": 1}))


_concat = op(Concat)
concat_part = op(ConcatPart)


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


public(concat)
public(stack)
