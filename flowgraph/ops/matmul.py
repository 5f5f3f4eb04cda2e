"""Matrix products."""

from __future__ import annotations

import math
from typing import Any

from ..errors import ShapeError
from ..graph import Op, Spec, Tensor, Work, op
from ..graph.op import Batch, Slicing, public
from ..graph.spec import broadcast_shapes, promote_dtypes
from ..jit import lazy
from .batching import widened
from .contract import LETTERS, contract
from .elementwise import conj, like
from .samples import Over
from .shape import expand_dims, permute_dims, squeeze


class Matmul(Op):
    """Matrix product of ``x`` (..., n, k) and ``y`` (..., k, m); leading axes broadcast, and a vector counts as one row or column.

    returns  (..., n, m) in the promoted dtype; of booleans whether any product in the sum is true, as in NumPy
    raises   ShapeError when the inner sizes differ or an input has no dimensions

    >>> session.run(fg.matmul([[1.0, 2.0]], [[3.0], [4.0]]))
    array([[11.]])
    """

    promotes = True

    def infer(self, x: Any, y: Any) -> Spec:
        if not x.shape or not y.shape:
            raise ShapeError("a scalar has no matrix product", help="use x * y")
        inner = x.shape[-1], y.shape[-2] if len(y.shape) > 1 else y.shape[0]
        if inner[0] != inner[1] and isinstance(inner[0], int) and isinstance(inner[1], int):
            raise ShapeError(
                f"the inner sizes differ, {inner[0]} and {inner[1]}",
                help="x @ y needs the last size of x to equal the "
                + ("size of y" if len(y.shape) == 1 else "first size of y" if len(y.shape) == 2 else "last size but one of y"),
            )
        lead = broadcast_shapes(x.shape[:-2], y.shape[:-2])
        rows = x.shape[-2:-1]
        columns = y.shape[-1:] if len(y.shape) > 1 else ()
        return Spec((*lead, *rows, *columns), x.dtype if x.dtype is y.dtype else promote_dtypes(x.dtype, y.dtype))

    def bind(self, xp: Any, attrs: dict[str, Any]) -> Any:
        product = xp.matmul

        def kernel(x: Any, y: Any, out: Any = None) -> Any:
            if x.ndim > 2 or x.dtype.kind == "V" or y.dtype.kind == "V":
                return self.kernel(xp, x, y, out=out)
            return product(x, y, out=out)

        return kernel

    def bind_for(self, xp: Any, attrs: dict[str, Any], x: Any, y: Any) -> Any:
        is_plain = len(x.shape) <= 2 and x.dtype.kind != "V" and y.dtype.kind != "V"
        return xp.matmul if is_plain else self.bind(xp, attrs)  # a small product takes 1 us, and a function of Python around it 0.2

    def kernel(self, xp: Any, x: Any, y: Any, *, out: Any = None) -> Any:
        if x.dtype.kind != "V" and y.dtype.kind != "V":
            if x.ndim > 2 and y.ndim <= 2 and x.flags.c_contiguous and (out is None or out.flags.c_contiguous):
                # One product for all rows: NumPy would make one for each of the leading axes, each of which packs y anew (a fifth slower).
                shape = (*x.shape[:-1], *y.shape[1:])
                rows = x.reshape((math.prod(x.shape[:-1]), x.shape[-1]))
                if out is None:
                    return xp.matmul(rows, y).reshape(shape)
                xp.matmul(rows, y, out=out.reshape((len(rows), *y.shape[1:])))
                return out
            return xp.matmul(x, y, out=out)
        product = xp.matmul(x, y)  # bfloat16 is multiplied in float32
        if out is None:
            return product.astype(promote_dtypes(x.dtype, y.dtype))
        out[...] = product
        return out

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        given = g
        if x.ndim == 1:
            g = expand_dims(g, -1 if y.ndim == 1 else -2)
        if y.ndim == 1:
            g = expand_dims(g, -1)
        rows, columns = (expand_dims(x, 0) if x.ndim == 1 else x), (expand_dims(y, 1) if y.ndim == 1 else y)

        def by_x() -> Tensor:
            full = matmul(g, adjoint(columns))
            return like(squeeze(full, -2) if x.ndim == 1 else full, x)

        def by_y() -> Tensor:
            if (x.ndim > 2 and y.ndim <= 2) or (x.ndim, y.ndim) == (2, 1):
                # A sum over the leading axes as well: one product, and none for each of them that would then be added up.
                lead, k, m = LETTERS[: x.ndim - 1], LETTERS[x.ndim - 1], LETTERS[x.ndim] * (y.ndim - 1)
                return like(contract(conj(x), given, subscripts=f"{lead}{k},{lead}{m}->{k}{m}"), y)
            full = matmul(adjoint(rows), g)
            return like(squeeze(full, -1) if y.ndim == 1 else full, y)

        return by_x, by_y

    def vmap(self, batch: Batch, x: Tensor, y: Tensor) -> Tensor:
        carried = batch.inputs
        ndims = x.ndim - carried[0], y.ndim - carried[1]
        # The vectors of a batch are the rows of a matrix where the other input is one matrix or vector for all of them,
        # so that one product does; elsewhere a vector is made the row or the column that it stands for.
        if carried == (True, False) and ndims[0] == 1 and ndims[1] <= 2:
            return matmul(x, y)
        if carried == (False, True) and ndims[1] == 1 and ndims[0] <= 2:
            return matmul(y, transposed(x) if ndims[0] == 2 else x)
        rows = expand_dims(x, -2) if ndims[0] == 1 else x
        columns = expand_dims(y, -1) if ndims[1] == 1 else y
        lead = max(*ndims, 2)
        if carried[0]:
            rows = widened(rows, lead + 1 - rows.ndim)
        if carried[1]:
            columns = widened(columns, lead + 1 - columns.ndim)
        product = matmul(rows, columns)
        dropped = [axis for axis, ndim in zip((-2, -1), ndims, strict=True) if ndim == 1]
        return squeeze(product, dropped) if dropped else product

    def compiled(self, x: Any, y: Any) -> lazy.products.Products | None:
        if x.dtype != y.dtype or x.dtype.char not in "fd" or min(len(x.shape), len(y.shape)) < 2:
            return None
        rows = math.prod(x.shape[:-1]) if len(y.shape) == 2 else x.shape[-2]
        products = lazy.products.Products(x.dtype, rows, x.shape[-1], y.shape[-1])
        return products if products.suit else None

    def work(self, x: Any, y: Any) -> Work:
        out = self.infer(x, y)
        moved = out.nbytes + math.prod(x.shape) * x.dtype.itemsize + math.prod(y.shape) * y.dtype.itemsize
        return Work(2.0 * out.size * x.shape[-1], moved)

    def slicing(self, out: Any, x: Any, y: Any) -> Slicing | None:
        # Rows of x make rows of the product; with leading axes, those are cut where both have them alike.
        if len(x.shape) == 2 and len(y.shape) == 1 and x.shape[0] > 1:
            return Slicing((True, False), x.shape[0])
        if len(x.shape) < 2 or len(out.shape) != len(x.shape) or x.shape[0] < 2:
            return None
        together = len(y.shape) == len(x.shape) and len(x.shape) > 2
        if together and x.shape[0] != y.shape[0]:
            return None
        return Slicing((True, together), x.shape[0])

    def slicing_of_columns(self, out: Any, x: Any, y: Any) -> Slicing | None:
        # Each part copies what it reads, for its kernel to read that in order: so the larger matrix should be read once in all.
        is_wide = len(x.shape) == len(y.shape) == 2 and y.shape[1] >= 2 * x.shape[0]
        return Slicing((False, True), y.shape[1], axis=-1) if is_wide else None

    samples = (
        Over(
            [((2, 3), (3, 4)), ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((5, 2, 3), (3, 2)),
             ((2, 1, 2, 3), (4, 3, 2)), ((3,), (2, 3, 2)), ((2, 2, 3), (3,)), ((0,), (0,)), ((0, 2, 3), (3, 2))]
        )
        + Over([((2, 3), (3, 4)), ((3,), (3, 2))], dtypes=("bool",))
        + Over([((2, 3), (3, 4)), ((3,), (2, 3, 2))], (-9, 9), dtypes=("int32", "int64"))
        + Over([((2, 3), (3, 4)), ((2, 3), (3,))], dtypes=("float16",), also=("bfloat16",))
        + Over([((2, 3), (3, 4))], dtypes=("int16", "float32"))
        + Over([((2, 3), (3, 4)), ((3,), (2, 3, 2))], dtypes=("complex128",))
        + Over([((2, 3), (3,)), ((2, 2, 3), (3, 2))], dtypes=("float64", "complex128"))
    )  # fmt: skip


def adjoint(x: Tensor) -> Tensor:
    """The last two axes exchanged, and conjugated: the transpose of the linear map, which its gradient needs."""
    return conj(transposed(x))


def transposed(x: Tensor) -> Tensor:
    """The last two axes exchanged."""
    return permute_dims(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


matmul = public(op(Matmul))


def matrix_transpose(x: Any) -> Tensor:
    """``x`` (..., n, m) with its last two axes exchanged. raises ShapeError for fewer than two dimensions."""
    (x,) = matmul.lift((x,))
    if x.ndim < 2:
        raise ShapeError(f"matrix_transpose: {x!r} has fewer than two dimensions")
    return transposed(x)


public(matrix_transpose)
