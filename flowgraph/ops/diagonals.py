"""Diagonals and triangles of matrices. Axes are stored from the end, so that a batch in front changes nothing."""

from __future__ import annotations

from typing import Any

from ..errors import ShapeError
from ..graph import Dim, Op, Spec, Tensor, Work, op
from ..graph.op import Batch
from ..graph.spec import format_shape
from .batching import full
from .reduce import sum
from .samples import Over


class DiagonalPart(Op):
    """The elements x[..., i, i + offset] of the matrices that lie in ``axes``, as the last axis of the result."""

    is_view = True

    def infer(self, x: Any, *, offset: int, axes: tuple[int, int]) -> Spec:
        rows, columns = (x.shape[a] for a in axes)
        length: Dim = None
        if isinstance(rows, int) and isinstance(columns, int):
            length = max(0, min(rows + min(offset, 0), columns - max(offset, 0)))
        elif rows == columns and not offset:
            length = rows
        drop = [a % len(x.shape) for a in axes]
        return Spec((*(d for i, d in enumerate(x.shape) if i not in drop), length), x.dtype)

    def kernel(self, xp: Any, x: Any, *, offset: int, axes: tuple[int, int]) -> Any:
        return xp.diagonal(x, offset, *axes)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, offset: int, axes: tuple[int, int]) -> Any:
        return diagonal_matrix(g, x, offset=offset, axes=axes)

    def vmap(self, batch: Batch, x: Tensor, **attrs: Any) -> Tensor:
        return diagonal_part(x, **attrs)

    def work(self, x: Any, **attrs: Any) -> Work:
        return Work()

    samples = Over([((3, 3),), ((2, 4),), ((0, 0),), ((2, 3, 3),)], attrs=[{"offset": k, "axes": (-2, -1)} for k in (0, 1, -1, 5)]) + Over(
        [((3, 2, 3),)], attrs=({"offset": 0, "axes": (-3, -1)}, {"offset": 1, "axes": (-1, -3)})
    )


class DiagonalMatrix(Op):
    """Zeros in the shape of ``x`` with ``g`` on the diagonal: the transpose of taking it. Only the shape of x is used."""

    shape_inputs = (1,)

    def infer(self, g: Any, x: Any, *, offset: int, axes: tuple[int, int]) -> Spec:
        return Spec(x.shape, g.dtype)

    def kernel(self, xp: Any, g: Any, x: Any, *, offset: int, axes: tuple[int, int], out: Any = None) -> Any:
        if out is None:
            out = xp.empty(x.shape, g.dtype)
        out[...] = 0
        steps = xp.arange(g.shape[-1])
        xp.moveaxis(out, axes, (-2, -1))[..., steps + max(-offset, 0), steps + max(offset, 0)] = g
        return out

    def vjp(self, g: Tensor, out: Tensor, d: Tensor, x: Tensor, *, offset: int, axes: tuple[int, int]) -> Any:
        return diagonal_part(g, offset=offset, axes=axes), None

    def vmap(self, batch: Batch, g: Tensor, x: Tensor, **attrs: Any) -> Tensor:
        return diagonal_matrix(full(batch, g, 0), full(batch, x, 1), **attrs)

    samples = Over([((3,), (3, 3)), ((2, 2), (2, 2, 3)), ((0,), (0, 0))], attrs=({"offset": 0, "axes": (-2, -1)},)) + Over(
        [((2, 2), (3, 2, 3))], attrs=({"offset": 1, "axes": (-3, -1)}, {"offset": -1, "axes": (-1, -3)})
    )


class Triangle(Op):
    """The upper or lower triangle of each matrix, its diagonal times ``diagonal``; zeros elsewhere."""

    def infer(self, x: Any, *, upper: bool, diagonal: float) -> Any:
        return x

    def kernel(self, xp: Any, x: Any, *, upper: bool, diagonal: float) -> Any:
        result = (xp.triu if upper else xp.tril)(x)
        if diagonal != 1.0:
            steps = xp.arange(min(x.shape[-2:]))
            result[..., steps, steps] *= diagonal
        return result

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, upper: bool, diagonal: float) -> Any:
        return triangle(g, upper=upper, diagonal=diagonal)

    def vmap(self, batch: Batch, x: Tensor, **attrs: Any) -> Tensor:
        return triangle(x, **attrs)

    samples = Over(
        [((3, 3),), ((2, 4),), ((4, 2),), ((0, 3),), ((2, 3, 3),)],
        attrs=[{"upper": u, "diagonal": d} for u in (False, True) for d in (1.0, 0.5)],
    )


class EyeLike(Op):
    """Identity matrices in the shape and dtype of ``x``, of which only these are used."""

    shape_inputs = (0,)

    def infer(self, x: Any) -> Any:
        return x

    def kernel(self, xp: Any, x: Any, *, out: Any = None) -> Any:
        if out is None:
            out = xp.empty(x.shape, x.dtype)
        out[...] = xp.eye(*x.shape[-2:], dtype=x.dtype)
        return out

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return None  # constant: it does not depend on the values of x

    def vmap(self, batch: Batch, x: Tensor) -> Tensor:
        return eye_like(x)

    samples = Over([((3, 3),), ((2, 4),), ((0, 0),), ((2, 3, 3),)])


diagonal_part = op(DiagonalPart)
diagonal_matrix = op(DiagonalMatrix)
triangle = op(Triangle)
eye_like = op(EyeLike)


def diagonal(x: Any, offset: int = 0) -> Tensor:
    """The diagonals of the matrices in the last two axes of ``x``.

    offset   how far above (or, negative, below) the main diagonal
    returns  (..., n), a view
    raises   ShapeError for fewer than two dimensions

    >>> session.run(fg.linalg.diagonal([[1, 2], [3, 4]]))
    array([1, 4])
    """
    (x,) = diagonal_part.lift((x,))
    if x.ndim < 2:
        raise ShapeError(f"diagonal: {format_shape(x.shape)} has fewer than two dimensions")
    return diagonal_part(x, offset=int(offset), axes=(-2, -1))


def trace(x: Any, offset: int = 0) -> Tensor:
    """The sums of the diagonals of the matrices in the last two axes of ``x``; the arguments are those of `diagonal`.

    >>> session.run(fg.linalg.trace([[1.0, 2.0], [3.0, 4.0]]))
    np.float64(5.0)
    """
    return sum(diagonal(x, offset), axis=-1)
