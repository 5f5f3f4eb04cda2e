"""Diagonals and triangles of matrices. Axes are stored from the end, so that a batch in front changes nothing."""

from __future__ import annotations

from typing import Any

from ..errors import ShapeError
from ..graph import Dim, Op, Spec, Tensor, Work, op
from ..graph.arguments import as_int
from ..graph.op import Batch, public
from ..graph.spec import format_shape, normalize_axis
from .batching import full
from .bits import bits
from .elementwise import broadcast_like
from .pad import pad
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
    """The upper or lower triangle of each matrix, from diagonal ``k`` on, its main diagonal times ``diagonal``; zeros elsewhere."""

    def infer(self, x: Any, *, upper: bool, diagonal: float, k: int = 0) -> Any:
        if len(x.shape) < 2:
            raise ShapeError(f"a matrix is expected, got shape {format_shape(x.shape)}")
        return x

    def kernel(self, xp: Any, x: Any, *, upper: bool, diagonal: float, k: int = 0) -> Any:
        cut = xp.triu if upper else xp.tril
        result = cut(bits(x), k).view(x.dtype) if x.dtype.kind == "V" else cut(x, k)  # (of bfloat16 CuPy makes float32)
        if diagonal != 1.0:
            steps = xp.arange(min(x.shape[-2:]))
            result[..., steps, steps] *= diagonal
        return result

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, **attrs: Any) -> Any:
        return triangle(g, **attrs)

    def vmap(self, batch: Batch, x: Tensor, **attrs: Any) -> Tensor:
        return triangle(x, **attrs)

    samples = Over(
        [((3, 3),), ((2, 4),), ((4, 2),), ((0, 3),), ((2, 3, 3),)],
        attrs=[
            *({"upper": u, "diagonal": d} for u in (False, True) for d in (1.0, 0.5)),
            *({"upper": u, "diagonal": 1.0, "k": k} for u in (False, True) for k in (1, -1, 9)),
        ],
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
    return diagonal_part(x, offset=as_int(offset, "offset"), axes=(-2, -1))


def trace(x: Any, offset: int = 0) -> Tensor:
    """The sums of the diagonals of the matrices in the last two axes of ``x``; the arguments are those of `diagonal`.

    >>> session.run(fg.linalg.trace([[1.0, 2.0], [3.0, 4.0]]))
    np.float64(5.0)
    """
    return sum(diagonal(x, offset), axis=-1)


def tril(x: Any, k: int = 0) -> Tensor:
    """The matrices in the last two axes of ``x`` with zeros above diagonal ``k``.

    raises  ShapeError for fewer than two dimensions

    >>> session.run(fg.tril([[1, 2], [3, 4]]))
    array([[1, 0],
           [3, 4]])
    """
    return triangle(x, upper=False, diagonal=1.0, k=as_int(k, "k"))


def triu(x: Any, k: int = 0) -> Tensor:
    """The matrices in the last two axes of ``x`` with zeros below diagonal ``k``. raises ShapeError for fewer than two dimensions."""
    return triangle(x, upper=True, diagonal=1.0, k=as_int(k, "k"))


def diag(v: Any, k: int = 0) -> Tensor:
    """A square matrix with the vector ``v`` on its diagonal ``k`` and zeros elsewhere; or, of a matrix ``v``, that diagonal.

    raises  ShapeError for other numbers of dimensions

    >>> session.run(fg.diag([1, 2]))
    array([[1, 0],
           [0, 2]])
    """
    (v,) = diagonal_part.lift((v,))
    if v.ndim == 2:
        return diagonal(v, k)
    if v.ndim != 1:
        raise ShapeError(
            f"diag: a vector or a matrix is expected, got shape {format_shape(v.shape)}", help="fg.linalg.diagonal takes batches"
        )
    k = as_int(k, "k")
    row = pad(v, (0, abs(k)))
    square = broadcast_like(row[:, None], row)  # only its shape is used
    return diagonal_matrix(v, square, offset=k, axes=(-2, -1))


def _diagonal_between(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """What `numpy.diagonal` and the method give: of the matrices in any two axes."""
    (x,) = diagonal_part.lift((x,))
    one, other = (normalize_axis(a, x.ndim) - x.ndim for a in (axis1, axis2))
    if one == other:
        raise ShapeError(f"diagonal: axis1 and axis2 are both axis {one + x.ndim}")
    return diagonal_part(x, offset=as_int(offset, "offset"), axes=(one, other))


def _trace_between(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """What `numpy.trace` and the method give."""
    return sum(_diagonal_between(x, offset, axis1, axis2), axis=-1)


public(tril)
public(triu)
public(diag)
public(_diagonal_between, "diagonal")
public(_trace_between, "trace")
public(diagonal, "linalg.diagonal")
public(trace, "linalg.trace")
