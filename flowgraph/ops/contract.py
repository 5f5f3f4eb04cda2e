"""Contract: the sum of products of two tensors over named axes, as one matrix product: what einsum and gradients of products need."""

from __future__ import annotations

import math
from typing import Any

from ..errors import ShapeError
from ..graph import Op, Spec, Tensor, Work, op
from ..graph.op import Batch, Slicing
from ..graph.spec import format_shape, promote_dtypes
from ..jit import lazy
from .elementwise import conj, like
from .samples import Over

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Contract(Op):
    """The sum of products of ``x`` and ``y`` over the axes that ``subscripts`` names and the result lacks: "bij,bjk->bik".

    Each letter stands once in at least two of the three terms. Letters in all three are a batch, those in x and y alone are summed.
    """

    promotes = True

    def infer(self, x: Any, y: Any, *, subscripts: str) -> Spec:
        sizes = _sizes(subscripts, x, y)
        return Spec(tuple(sizes[label] for label in subscripts.split("->")[1]), promote_dtypes(x.dtype, y.dtype))

    def bind(self, xp: Any, attrs: dict[str, Any]) -> Any:
        plan = _Products(attrs["subscripts"])
        return lambda x, y, out=None: self._product(xp, x, y, plan, out)

    def kernel(self, xp: Any, x: Any, y: Any, *, subscripts: str, out: Any = None) -> Any:
        return self._product(xp, x, y, _Products(subscripts), out)

    def _product(self, xp: Any, x: Any, y: Any, plan: _Products, out: Any) -> Any:
        a = xp.transpose(x, plan.x_axes)
        b = xp.transpose(y, plan.y_axes)
        lead = a.shape[: plan.batch]
        rows, columns = a.shape[plan.batch : plan.batch + plan.rows], b.shape[plan.batch + plan.summed :]
        inner = b.shape[plan.batch : plan.batch + plan.summed]
        n, k, m = math.prod(rows), math.prod(inner), math.prod(columns)
        if plan.summed and out is not None and plan.in_order and out.flags.c_contiguous and out.dtype.kind != "V":
            xp.matmul(a.reshape((*lead, n, k)), b.reshape((*lead, k, m)), out=out.reshape((*lead, n, m)))
            return out
        if plan.summed:
            product = xp.matmul(a.reshape((*lead, n, k)), b.reshape((*lead, k, m)))
        else:
            product = xp.multiply(a.reshape((*lead, n, 1)), b.reshape((*lead, 1, m)))
        product = xp.transpose(product.reshape((*lead, *rows, *columns)), plan.out_axes)
        if out is None:
            return product.astype(x.dtype) if x.dtype == y.dtype != product.dtype else product  # bfloat16 is multiplied in float32
        out[...] = product
        return out

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor, *, subscripts: str) -> Any:
        terms, result = subscripts.split("->")
        left, right = terms.split(",")
        return (
            lambda: like(contract(g, conj(y), subscripts=f"{result},{right}->{left}"), x),
            lambda: like(contract(conj(x), g, subscripts=f"{left},{result}->{right}"), y),
        )

    def vmap(self, batch: Batch, x: Tensor, y: Tensor, *, subscripts: str) -> Tensor:
        terms, result = subscripts.split("->")
        label = next(letter for letter in LETTERS if letter not in subscripts)
        left, right = (label * carries + term for term, carries in zip(terms.split(","), batch.inputs, strict=True))
        return contract(x, y, subscripts=f"{left},{right}->{label}{result}")

    def compiled(self, x: Any, y: Any, *, subscripts: str) -> lazy.products.Products | None:
        if x.dtype != y.dtype or x.dtype.char not in "fd":
            return None
        products = lazy.products.Products(x.dtype, *_Products(subscripts).sizes(x, y))
        return products if products.suit else None

    def work(self, x: Any, y: Any, *, subscripts: str) -> Work:
        out = self.infer(x, y, subscripts=subscripts)
        moved = out.nbytes + math.prod(x.shape) * x.dtype.itemsize + math.prod(y.shape) * y.dtype.itemsize
        return Work(2.0 * math.prod(_sizes(subscripts, x, y).values()), moved)

    def slicing(self, out: Any, x: Any, y: Any, *, subscripts: str) -> Slicing | None:
        terms, result = subscripts.split("->")
        left, right = terms.split(",")
        label = result[:1]
        if left[:1] and left[:1] == right[:1] and left[:1] not in result and x.shape[0] > 1:
            return Slicing((True, True), x.shape[0], "sum")
        if not label or label in left[1:] or label in right[1:] or out.shape[0] < 2:
            return None
        return Slicing((left[:1] == label, right[:1] == label), out.shape[0])

    samples = (
        Over([((2, 3), (3, 4))], attrs=[{"subscripts": s} for s in ("ij,jk->ik", "ij,jk->ki")])
        + Over([((2, 3), (4, 3))], attrs=[{"subscripts": "ij,kj->ki"}])
        + Over([((3, 2), (3, 4))], attrs=[{"subscripts": "ji,jk->ik"}])
        + Over([((2, 3, 4), (4, 2, 5))], attrs=[{"subscripts": s} for s in ("bij,jbk->bik", "bij,jbk->ikb")])
        + Over([((2, 3, 4), (4, 3, 5))], attrs=[{"subscripts": "aij,jib->ab"}])
        + Over([((3,), (3,))], attrs=[{"subscripts": s} for s in ("i,i->", "i,i->i")])
        + Over([((3,), (2,))], attrs=[{"subscripts": s} for s in ("i,j->ij", "i,j->ji")])
        + Over([((2, 3), (3,)), ((0, 3), (3,)), ((2, 0), (0,))], attrs=[{"subscripts": "ij,j->i"}])
        + Over([((2, 3), (3,))], attrs=[{"subscripts": "ij,j->ij"}])
        + Over([((), (2,))], attrs=[{"subscripts": ",i->i"}])
        + Over([((2, 3), (3, 4))], dtypes=("complex128",), attrs=[{"subscripts": "ij,jk->ki"}])
        + Over([((2, 3), (3, 4))], (-9, 9), dtypes=("int32",), attrs=[{"subscripts": "ij,jk->ki"}])
        + Over([((2, 3), (3, 4))], dtypes=("bool",), attrs=[{"subscripts": "ij,jk->ki"}])
        + Over([((2, 3, 4), (3, 4, 2))], attrs=[{"subscripts": "ijk,jkl->il"}], also=("float16", "bfloat16"))
    )


class _Products:
    """How a contraction is a batched matrix product: the order of the axes of each side, and how many are of each kind."""

    def __init__(self, subscripts: str) -> None:
        terms, result = subscripts.split("->")
        left, right = terms.split(",")
        batch = [label for label in result if label in left and label in right]
        rows = [label for label in left if label not in right]
        columns = [label for label in right if label not in left]
        summed = [label for label in left if label in right and label not in result]
        made = [*batch, *rows, *columns]
        self.batch, self.rows, self.summed = len(batch), len(rows), len(summed)
        self.x_axes = tuple(left.index(label) for label in (*batch, *rows, *summed))
        self.y_axes = tuple(right.index(label) for label in (*batch, *summed, *columns))
        self.out_axes = tuple(made.index(label) for label in result)
        self.in_order = self.out_axes == tuple(range(len(result)))

    def sizes(self, x: Any, y: Any) -> tuple[int, int, int]:
        """Those of one of the products: rows, summands, columns."""
        first, second = self.x_axes[self.batch :], self.y_axes[self.batch :]
        rows, inner = ([x.shape[axis] for axis in axes] for axes in (first[: self.rows], first[self.rows :]))
        return math.prod(rows), math.prod(inner), math.prod([y.shape[axis] for axis in second[self.summed :]])


def _sizes(subscripts: str, x: Any, y: Any) -> dict[str, Any]:
    """The size of each letter, as far as it is known."""
    left, right = subscripts.split("->")[0].split(",")
    sizes: dict[str, Any] = {}
    for label, dim in (*zip(left, x.shape, strict=True), *zip(right, y.shape, strict=True)):
        known = sizes.get(label)
        if isinstance(known, int) and isinstance(dim, int) and known != dim:
            raise ShapeError(f"{label} stands for {known} in {format_shape(x.shape)} and for {dim} in {format_shape(y.shape)}")
        if not isinstance(known, int) and not (isinstance(known, str) and dim is None):
            sizes[label] = dim
    return sizes


contract = op(Contract)
