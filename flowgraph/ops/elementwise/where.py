"""A choice between two tensors, element by element."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...errors import DtypeError
from ...graph import Op, Spec, Tensor, op
from ...graph.op import Batch, Slicing, public
from ...graph.spec import broadcast_shapes, promote_dtypes
from ..batching import aligned
from ..bits import bits, mask
from ..samples import Over
from .base import rowwise
from .casts import like

# NumPy's where is the quickest for few elements. For more, a choice that is hard to predict costs it 5 ns an element, and one by the
# bits 0.4 or less, whatever the choice (65,536 float32: 25 us for 370, or for 32 where the condition is always true; float64: 56 us for
# 334, or for 24). A block of all arrays stays in the cache from pass to pass.
FEW = 8192
BLOCK_BYTES = 2**18


class Where(Op):
    """``x`` where ``condition`` is true, else ``y``, element by element; all three broadcast.

    condition  boolean tensor
    raises     DtypeError for a condition that is not boolean

    >>> session.run(fg.where([True, False], [1.0, 2.0], 0.0))
    array([1., 0.])
    """

    promotes = True
    promotes_from = 1
    in_place = True

    def infer(self, condition: Any, x: Any, y: Any) -> Any:
        if condition.dtype != bool:
            raise DtypeError(f"the condition must be boolean, got {condition.dtype}", help="compare it: condition != 0")
        return Spec(broadcast_shapes(condition.shape, x.shape, y.shape), promote_dtypes(x.dtype, y.dtype))

    def kernel(self, xp: Any, condition: Any, x: Any, y: Any, *, out: Any = None) -> Any:
        if x.dtype != y.dtype and "V" in (x.dtype.kind, y.dtype.kind):  # where knows less of bfloat16 than the ufuncs
            dtype = promote_dtypes(x.dtype, y.dtype)
            x, y = x.astype(dtype), y.astype(dtype)
        shape = condition.shape
        if not ((x.shape == shape or not x.shape) and (y.shape == shape or not y.shape)):
            shape = np.broadcast_shapes(shape, x.shape, y.shape)
        if x.dtype.kind not in "fV" or x.dtype != y.dtype or math.prod(shape) < FEW or xp is not np:
            if x.dtype.kind == "V":  # (of bfloat16 CuPy makes float32)
                made = xp.where(condition, bits(x), bits(y)).view(x.dtype)
            else:
                made = xp.where(condition, x, y)
            if out is None:
                return made
            out[...] = made
            return out
        if out is None:
            out = xp.empty(shape, x.dtype)
        arrays, block = [condition, bits(x), bits(y), bits(out)], BLOCK_BYTES // x.dtype.itemsize
        if out.size > block and all(v.ndim == 0 or (v.shape == shape and v.flags.c_contiguous) for v in arrays):
            flat = [v.reshape(-1) if v.ndim else v for v in arrays]
            for low in range(0, out.size, block):
                select(xp, *[v[low : low + block] if v.ndim else v for v in flat])
        else:
            select(xp, *arrays)
        return out

    def scalar(self, s: Any, condition: Any, x: Any, y: Any) -> Any:
        dtype = promote_dtypes(x.dtype, y.dtype)
        return s.where(condition, s.astype(x, dtype), s.astype(y, dtype))

    def vjp(self, g: Tensor, out: Tensor, condition: Tensor, x: Tensor, y: Tensor) -> Any:
        return None, lambda: like(where(condition, g, 0), x), lambda: like(where(condition, 0, g), y)

    def vmap(self, batch: Batch, *inputs: Tensor) -> Tensor:
        return where(*aligned(batch, inputs))

    def slicing(self, out: Any, *inputs: Any) -> Slicing | None:
        return rowwise(out, inputs)

    samples = Over(
        [((), (), ()), ((2, 3), (2, 3), (2, 3)), ((3,), (2, 3), (3,)), ((2, 1), (1, 3), ()), ((0, 3), (3,), (1, 3))],
        dtypes=("bool", "float64", "float64"),
    )


def select(xp: Any, condition: Any, x: Any, y: Any, out: Any) -> None:
    """Writes integers ``x`` where ``condition`` is true, else ``y``, into ``out``, which may be one of them."""
    chosen = mask(xp, condition, out.dtype)
    if y.ndim == 0 and y == 0:
        xp.bitwise_and(x, chosen, out=out)
    elif x.ndim == 0 and x == 0:
        xp.bitwise_and(y, xp.invert(chosen), out=out)
    elif xp.may_share_memory(out, y):
        xp.bitwise_xor(x, y, out=out)
        xp.bitwise_and(out, xp.invert(chosen), out=out)
        xp.bitwise_xor(out, x, out=out)
    else:
        xp.bitwise_xor(x, y, out=out)
        xp.bitwise_and(out, chosen, out=out)
        xp.bitwise_xor(out, y, out=out)


where = public(op(Where))
