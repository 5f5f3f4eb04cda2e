"""Other dtypes and other shapes of the same numbers, and `like`, which brings a cotangent back to its tensor's."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...graph import Op, Spec, Tensor, op
from ...graph.node import FUNCTIONS
from ...graph.op import Batch, Slicing, public
from ...graph.spec import as_dtype, broadcast_shapes, is_known
from ..batching import aligned, full
from ..samples import Over, unary
from .base import rowwise


class Astype(Op):
    """``x`` cast to ``dtype``; the gradient is cast back, and an integer or boolean passes none."""

    def infer(self, x: Any, *, dtype: Any) -> Any:
        return Spec(x.shape, dtype)

    def kernel(self, xp: Any, x: Any, *, dtype: Any, out: Any = None) -> Any:
        if out is None:
            return xp.asarray(x).astype(dtype)
        out[...] = x
        return out

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, dtype: Any) -> Any:
        return astype(g, x.dtype)

    def slicing(self, out: Any, *inputs: Any, **attrs: Any) -> Slicing | None:
        return rowwise(out, inputs)

    def vmap(self, batch: Batch, x: Tensor, *, dtype: Any) -> Tensor:
        return astype(x, dtype)

    samples = unary(attrs=({"dtype": np.dtype("float64")},))


class SumLike(Op):
    """``g`` summed down to the shape of ``x``, from which it was broadcast: the transpose of broadcasting.

    g        tensor of a shape that x's broadcasts to
    x        only its shape is used
    returns  shape of x, dtype of g
    """

    shape_inputs = (1,)
    is_view = True  # where nothing is summed

    def infer(self, g: Any, x: Any) -> Any:
        broadcast_shapes(g.shape, x.shape)
        return Spec(x.shape, g.dtype)

    def passes(self, out: Any, g: Any, x: Any) -> bool:
        return bool(g.shape == x.shape) and is_known(g.shape)

    def kernel(self, xp: Any, g: Any, x: Any) -> Any:
        if g.shape == x.shape:
            return g
        extra = g.ndim - len(x.shape)
        axes = tuple(range(extra)) + tuple(extra + axis for axis, size in enumerate(x.shape) if size == 1 and g.shape[extra + axis] != 1)
        return g.sum(axis=axes).reshape(x.shape)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, target: Tensor) -> Any:
        return broadcast_like(g, x), None

    def vmap(self, batch: Batch, g: Tensor, x: Tensor) -> Tensor:
        g, x = full(batch, g, 0), full(batch, x, 1)
        extra = g.ndim - x.ndim  # axes that only g has; the batch stands before them
        return sum_like(FUNCTIONS["sum"](g, axis=tuple(range(1, 1 + extra))) if extra else g, x)

    samples = Over([((2, 3), (3,)), ((2, 3), (2, 1)), ((2, 3), ()), ((2, 3), (2, 3)), ((0, 3), (1, 3))])


class BroadcastLike(Op):
    """``x`` repeated to the shape that it and ``target`` broadcast to; only the target's shape is used."""

    shape_inputs = (1,)
    is_view = True

    def infer(self, x: Any, target: Any) -> Any:
        return Spec(broadcast_shapes(x.shape, target.shape), x.dtype)

    def passes(self, out: Any, x: Any, target: Any) -> bool:
        return bool(out.shape == x.shape) and is_known(x.shape)

    def kernel(self, xp: Any, x: Any, target: Any) -> Any:
        return xp.broadcast_to(x, np.broadcast_shapes(x.shape, target.shape))

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, target: Tensor) -> Any:
        return like(g, x), None

    def vmap(self, batch: Batch, *inputs: Tensor) -> Tensor:
        return broadcast_like(*aligned(batch, inputs))

    samples = Over([((3,), (2, 3)), ((), (2, 3)), ((2, 1), (2, 3)), ((1, 3), (0, 3))])


sum_like = op(SumLike)
broadcast_like = op(BroadcastLike)
_astype = op(Astype)


def like(g: Tensor, x: Tensor) -> Tensor:
    """The cotangent ``g`` brought back to the shape and dtype of ``x``, which was broadcast: summed over what it was repeated on."""
    if g.dtype != x.dtype:
        g = astype(g, x.dtype)
    if g.shape == x.shape and None not in x.shape:
        return g
    return sum_like(g, x)


def astype(x: Any, dtype: Any) -> Tensor:
    """``x`` cast to ``dtype``; ``x`` itself when it has it already.

    raises  DtypeError for what is no number or boolean dtype

    >>> session.run(fg.astype([1.7, -2.2], "int32"))
    array([ 1, -2], dtype=int32)
    """
    target = as_dtype(dtype)
    if isinstance(x, Tensor) and x.dtype == target:
        return x
    return _astype(x, dtype=target)


public(astype)
