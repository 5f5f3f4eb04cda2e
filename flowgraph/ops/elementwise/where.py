"""A choice between two tensors, element by element."""

from __future__ import annotations

from typing import Any

from ...errors import DtypeError
from ...graph import Op, Spec, Tensor, op
from ...graph.op import Batch, public
from ...graph.spec import broadcast_shapes, promote_dtypes
from ..batching import aligned
from ..samples import Over
from .casts import like


class Where(Op):
    """``x`` where ``condition`` is true, else ``y``, element by element; all three broadcast.

    condition  boolean tensor
    raises     DtypeError for a condition that is not boolean

    >>> session.run(fg.where([True, False], [1.0, 2.0], 0.0))
    array([1., 0.])
    """

    promotes = True
    promotes_from = 1

    def infer(self, condition: Any, x: Any, y: Any) -> Any:
        if condition.dtype != bool:
            raise DtypeError(f"the condition must be boolean, got {condition.dtype}", help="compare it: condition != 0")
        return Spec(broadcast_shapes(condition.shape, x.shape, y.shape), promote_dtypes(x.dtype, y.dtype))

    def kernel(self, xp: Any, condition: Any, x: Any, y: Any) -> Any:
        if x.dtype != y.dtype and "V" in (x.dtype.kind, y.dtype.kind):  # where knows less of bfloat16 than the ufuncs
            dtype = promote_dtypes(x.dtype, y.dtype)
            x, y = x.astype(dtype), y.astype(dtype)
        return xp.where(condition, x, y)

    def scalar(self, s: Any, condition: Any, x: Any, y: Any) -> Any:
        dtype = promote_dtypes(x.dtype, y.dtype)
        return s.where(condition, s.astype(x, dtype), s.astype(y, dtype))

    def vjp(self, g: Tensor, out: Tensor, condition: Tensor, x: Tensor, y: Tensor) -> Any:
        return None, lambda: like(where(condition, g, 0), x), lambda: like(where(condition, 0, g), y)

    def vmap(self, batch: Batch, *inputs: Tensor) -> Tensor:
        return where(*aligned(batch, inputs))

    samples = Over(
        [((), (), ()), ((2, 3), (2, 3), (2, 3)), ((3,), (2, 3), (3,)), ((2, 1), (1, 3), ()), ((0, 3), (3,), (1, 3))],
        dtypes=("bool", "float64", "float64"),
    )


where = public(op(Where))
