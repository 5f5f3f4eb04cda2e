"""What the operations of linear algebra share: which inputs they take, and what is said where a matrix has not what is asked of it.

They work on the last two axes and treat all others as a batch. The kernels call ``xp.linalg``, which NumPy and CuPy have alike for what is
used here (solve, inv, det, slogdet, cholesky, qr, svd, eigh, eigvalsh, and from CuPy 14 on eig and eigvals). CuPy does not look at what its
solvers report unless asked to, which would wait for the device: there, a matrix without an inverse gives NaN or infinities and no error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import DtypeError, LinAlgError, ShapeError
from ..graph import Op, Tensor
from ..graph.op import Batch, Slicing
from ..graph.spec import format_shape
from .elementwise import abs, astype, divide, equal, less_equal, where
from .reduce import sum
from .shape import expand_dims


class OfMatrices(Op):
    """Base: an op on the last two axes of its input, for which a batch in front is more of the same."""

    def vmap(self, batch: Batch, *inputs: Tensor, **attrs: Any) -> Any:
        return self.node(inputs, attrs).outputs


class MatrixFunction(OfMatrices):
    """Base of those with one output, which ``compute`` gives. A batch is cut along its first axis."""

    def compute(self, xp: Any, *inputs: Any, **attrs: Any) -> Any:
        raise NotImplementedError

    def kernel(self, xp: Any, *inputs: Any, out: Any = None, **attrs: Any) -> Any:
        result = self.compute(xp, *inputs, **attrs)
        if out is None:
            return result
        out[...] = result
        return out

    def slicing(self, out: Any, *inputs: Any, **attrs: Any) -> Slicing | None:
        lead = max(len(x.shape) for x in inputs) - 2
        if lead < 1 or out.shape[0] < 2:
            return None
        return Slicing(tuple(len(x.shape) == lead + 2 and x.shape[0] == out.shape[0] for x in inputs), out.shape[0])


def check_matrix(x: Any, *, square: bool = False) -> None:
    """Raises ShapeError unless ``x`` holds matrices (square ones), DtypeError in 16 bits, for which there are no kernels."""
    if len(x.shape) < 2:
        raise ShapeError(f"needs matrices, got {format_shape(x.shape)}", help="the last two axes are the matrix, all others a batch")
    rows, columns = x.shape[-2:]
    if square and rows != columns and isinstance(rows, int) and isinstance(columns, int):
        raise ShapeError(f"the matrix is not square: {rows} by {columns}", help="the last two axes of the input must have one size")
    if x.dtype.kind == "V" or x.dtype.itemsize < 4:
        raise DtypeError(f"there is no linear algebra in {x.dtype}", help='cast with fg.astype(x, "float32")')


def lifted(operation: Op, *inputs: Any) -> list[Tensor]:
    """``inputs`` as tensors of floats: integers and booleans as float64, as NumPy takes them."""
    return [astype(x, "float64") if x.dtype.kind in "biu" else x for x in operation.lift(inputs)]


def attempted(function: Callable[..., Any], x: Any, *rest: Any, alone: Callable[[Any], Any], wrong: str, help: str) -> Any:
    """``function(x, *rest)``; where NumPy finds no result, an error that says which matrix of the batch ``x`` is to blame.

    alone  what fails for a batch with a matrix that is to blame in it
    wrong  what such a matrix is
    """
    try:
        return function(x, *rest)
    except np.linalg.LinAlgError as error:
        raise LinAlgError(wrong, index=_culprit(x, alone), help=help) from error


def _culprit(x: Any, alone: Callable[[Any], Any]) -> tuple[int, ...] | None:
    """The first matrix for which ``alone``, which takes batches as well, fails: found by halving."""
    if x.ndim == 2:
        return None
    flat = x.reshape((-1, *x.shape[-2:]))
    low, high = 0, len(flat)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            alone(flat[low:middle])
        except np.linalg.LinAlgError:
            high = middle
        else:
            low = middle
    return tuple(int(i) for i in np.unravel_index(low, x.shape[:-2]))


def safe_reciprocal(x: Tensor, values: Tensor | None = None) -> Tensor:
    """``1 / x``, and 0 where x is 0; so are its derivatives.

    values  eigenvalues or singular values (..., n) that x, (..., n) or (..., n, n), was made of: what is within their rounding counts as 0
    """
    if values is None:
        zero = equal(x, 0)
    else:
        limit = sum(abs(values), axis=-1, keepdims=True) * (4.0 * float(np.finfo(values.dtype).eps))
        zero = less_equal(abs(x), limit if x.ndim == values.ndim else expand_dims(limit, -1))
    return where(zero, 0, divide(1, where(zero, 1, x)))
