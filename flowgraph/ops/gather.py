"""Picking elements by position, and adding into positions: each is the other's transpose."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import DtypeError
from ..graph import Op, Spec, Tensor, op
from ..graph.op import public
from ..graph.spec import normalize_axis
from .elementwise import astype, equal
from .samples import Over


class Take(Op):
    """The slices of ``x`` at ``indices`` along ``axis``."""

    def infer(self, x: Any, indices: Any, *, axis: int) -> Spec:
        if indices.dtype.kind not in "iu":
            raise DtypeError(f"indices must be integers, got {indices.dtype}")
        return Spec((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)

    def kernel(self, xp: Any, x: Any, indices: Any, *, axis: int) -> Any:
        return xp.take(x, indices, axis=axis)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, indices: Tensor, *, axis: int) -> Any:
        return take_grad(g, indices, x, axis=axis), None

    samples = Over(
        [((4, 3), (5,)), ((4,), ()), ((4, 3), (2, 2))],
        [(-2, 2), (0, 3)],
        attrs=({"axis": 0},),
        dtypes=("float64", "int64"),
    )


class TakeGrad(Op):
    """Zeros in the shape of ``target``, with the slices of ``g`` added at ``indices`` along ``axis``; repeats add up."""

    shape_inputs = (2,)

    def infer(self, g: Any, indices: Any, target: Any, *, axis: int) -> Spec:
        return Spec(target.shape, g.dtype)

    def kernel(self, xp: Any, g: Any, indices: Any, target: Any, *, axis: int) -> Any:
        out = xp.zeros(target.shape, g.dtype)
        xp.add.at(out, (slice(None),) * axis + (indices,), g)
        return out

    def vjp(self, g: Tensor, out: Tensor, part: Tensor, indices: Tensor, target: Tensor, *, axis: int) -> Any:
        return _take(g, indices, axis=axis), None, None

    samples = Over(
        [((5, 3), (5,), (4, 3))],
        [(-2, 2), (0, 3), (0, 1)],
        attrs=({"axis": 0},),
        dtypes=("float64", "int64", "float64"),
    )


_take = op(Take)
take_grad = op(TakeGrad)


def take(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """The elements of ``x`` at integer ``indices`` along ``axis`` (None: of the flattened tensor); repeated indices are allowed.

    indices  integer tensor of any shape, which takes the place of the axis; negative ones count from the end
    raises   DtypeError when they are no integers; a run raises ExecutionError for one out of range

    >>> session.run(fg.take([10, 20, 30], [2, 0, 0]))
    array([30, 10, 10])
    """
    x, indices = _take.lift((x, indices))
    if axis is None:
        return _take(x.reshape(-1), indices, axis=0)
    return _take(x, indices, axis=normalize_axis(axis, x.ndim))


def one_hot(x: Any, num_classes: int, dtype: Any = "float32") -> Tensor:
    """1 at the position that ``x`` names along a new last axis of size ``num_classes``, else 0; classes out of range give zeros.

    >>> session.run(fg.nn.one_hot([2, 0], 3))
    array([[0., 0., 1.],
           [1., 0., 0.]], dtype=float32)
    """
    (x,) = _take.lift((x,))
    return astype(equal(x[(..., None)], np.arange(num_classes, dtype=x.dtype)), dtype)


public(take)
