"""Decompositions: eigenvalues and eigenvectors, singular values and vectors, and the QR factors.

What is common to their gradients: values move whatever the library's choice of vectors is, and have a gradient wherever they are simple.
Vectors are defined up to a sign, complex ones up to a phase, and within the space of equal values not at all. A loss must not depend
on that choice; one that does not has its gradient here. Among the vectors of values that are equal, but for rounding, such a loss sees no
difference: these pairs count as 0 in place of 1 / 0.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ..errors import GradientError
from ..graph import Dim, Spec, Tensor, Work, op
from ..graph.arguments import as_choice, as_flag
from ..graph.op import public
from .diagonals import diagonal_matrix, diagonal_part, triangle
from .elementwise import astype, conj, like, multiply, real, real_dtype, subtract
from .fft import complex_dtype
from .join import concat
from .linalg_base import MatrixFunction, OfMatrices, attempted, check_matrix, lifted, safe_reciprocal
from .linalg_solve import SQUARE_SHAPES, _solve, _solve_triangular, hermitian_part
from .matmul import adjoint, matmul
from .samples import Matrices
from .shape import expand_dims

ENDLESS = "its iteration found no end; does it hold NaN or infinities?"
OBLONG_SHAPES: Any = [((4, 2),), ((2, 4),), ((3, 3),), ((1, 3),), ((0, 2),), ((2, 3, 2),)]


class Eigh(OfMatrices):
    """The eigenvalues, from the smallest on, and the eigenvectors of the Hermitian part of x.

    Gradient: Giles (2008), section 3.1, with the conjugate transpose.
    """

    def infer(self, x: Any) -> list[Spec]:
        check_matrix(x, square=True)
        return [Spec(x.shape[:-1], real_dtype(x.dtype)), Spec(x.shape, x.dtype)]

    def kernel(self, xp: Any, x: Any) -> Any:
        return tuple(attempted(xp.linalg.eigh, _hermitian(xp, x), alone=xp.linalg.eigh, wrong="has no eigenvalues", help=ENDLESS))

    def vjp(self, g: Any, out: Any, x: Tensor) -> Any:
        by_w, by_v = g
        w, v = out
        if by_v is None:
            return hermitian_part(matmul(_scaled(v, by_w), adjoint(v)))
        inner = multiply(matmul(adjoint(v), by_v), safe_reciprocal(_differences(w), w))
        if by_w is not None:
            inner = inner + diagonal_matrix(astype(by_w, inner.dtype), inner, offset=0, axes=(-2, -1))
        return hermitian_part(matmul(v, matmul(inner, adjoint(v))))

    def work(self, x: Any) -> Work:
        return _work(x, 9.0)

    samples = (
        Matrices("symmetric", SQUARE_SHAPES)
        + Matrices("symmetric", [((3, 3),)], dtype="complex128", edges=True)
        + Matrices("symmetric", [((3, 3),)], dtype="float32")
    )


class Eigvalsh(MatrixFunction):
    """The eigenvalues of the Hermitian part of x, from the smallest on. Their gradient takes the vectors, which costs more."""

    def infer(self, x: Any) -> Spec:
        check_matrix(x, square=True)
        return Spec(x.shape[:-1], real_dtype(x.dtype))

    def compute(self, xp: Any, x: Any) -> Any:
        return attempted(xp.linalg.eigvalsh, _hermitian(xp, x), alone=xp.linalg.eigvalsh, wrong="has no eigenvalues", help=ENDLESS)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        _, v = _eigh.node((x,), {}).outputs
        return matmul(_scaled(v, g), adjoint(v))

    def work(self, x: Any) -> Work:
        return _work(x, 4.0 / 3.0)

    samples = Matrices("symmetric", SQUARE_SHAPES) + Matrices("symmetric", [((3, 3),)], dtype="complex128")


class Eig(OfMatrices):
    """The eigenvalues and the eigenvectors of any square matrix, complex ones always.

    Gradient: Boeddeker et al., "On the computation of complex-valued gradients with application to statistically optimum beamforming"
    (2019), equations 4.60 and 4.77, for vectors of length 1.
    """

    def infer(self, x: Any) -> list[Spec]:
        check_matrix(x, square=True)
        dtype = complex_dtype(x.dtype)
        return [Spec(x.shape[:-1], dtype), Spec(x.shape, dtype)]

    def kernel(self, xp: Any, x: Any) -> Any:
        # NumPy gives real numbers where all happen to be real; a dtype must not depend on values.
        w, v = attempted(xp.linalg.eig, x, alone=xp.linalg.eig, wrong="has no eigenvalues", help=ENDLESS)
        dtype = complex_dtype(x.dtype)
        return w.astype(dtype), v.astype(dtype)

    def vjp(self, g: Any, out: Any, x: Tensor) -> Any:
        by_w, by_v = g
        w, v = out
        vh = adjoint(v)
        if by_v is None:
            return like(_solve(vh, _scaled_rows(vh, by_w)), x)
        inner = matmul(vh, by_v)
        # A vector of length 1 does not move along itself.
        along = astype(real(diagonal_part(inner, offset=0, axes=(-2, -1))), inner.dtype)
        inner = multiply(inner - _scaled(matmul(vh, v), along), conj(safe_reciprocal(_differences(w), w)))
        if by_w is not None:
            inner = inner + diagonal_matrix(by_w, inner, offset=0, axes=(-2, -1))
        return like(_solve(vh, matmul(inner, vh)), x)

    def work(self, x: Any) -> Work:
        return _work(x, 25.0)

    samples = (
        Matrices("eigen", SQUARE_SHAPES)
        + Matrices("any", [((3, 3),)], edges=True)
        + Matrices("eigen", [((3, 3),)], dtype="complex128", edges=True)
        + Matrices("eigen", [((3, 3),)], dtype="float32")
    )


class Eigvals(MatrixFunction):
    """The eigenvalues of any square matrix, complex ones always. Their gradient takes the vectors, which costs more."""

    def infer(self, x: Any) -> Spec:
        check_matrix(x, square=True)
        return Spec(x.shape[:-1], complex_dtype(x.dtype))

    def compute(self, xp: Any, x: Any) -> Any:
        w = attempted(xp.linalg.eigvals, x, alone=xp.linalg.eigvals, wrong="has no eigenvalues", help=ENDLESS)
        return w.astype(complex_dtype(x.dtype))

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        _, v = _eig.node((x,), {}).outputs
        vh = adjoint(v)
        return like(_solve(vh, _scaled_rows(vh, g)), x)

    def work(self, x: Any) -> Work:
        return _work(x, 10.0)

    samples = Matrices("eigen", SQUARE_SHAPES) + Matrices("eigen", [((3, 3),)], dtype="complex128")


class Svd(OfMatrices):
    """The singular value decomposition: u, the singular values from the largest on, and v conjugated and transposed.

    Gradient: Townsend, "Differentiating the singular value decomposition" (2016); for complex matrices Wan and Zhang, "Automatic
    differentiation for complex valued SVD" (2019). The quotients by s[j]**2 - s[i]**2 are split into those by s[j] - s[i] and by
    s[j] + s[i], so that only the former, which a loss free of the choice of vectors does not need, can be 1 / 0.
    """

    def infer(self, x: Any, *, full: bool) -> list[Spec]:
        check_matrix(x)
        *lead, rows, columns = x.shape
        size = _smaller(rows, columns)
        return [
            Spec((*lead, rows, rows if full else size), x.dtype),
            Spec((*lead, size), real_dtype(x.dtype)),
            Spec((*lead, columns if full else size, columns), x.dtype),
        ]

    def kernel(self, xp: Any, x: Any, *, full: bool) -> Any:
        def svd(matrix: Any) -> Any:
            return xp.linalg.svd(matrix, full_matrices=full)

        return tuple(attempted(svd, x, alone=svd, wrong="has no singular values", help=ENDLESS))

    def vjp(self, g: Any, out: Any, x: Tensor, *, full: bool) -> Any:
        by_u, by_s, by_vh = g
        u, s, vh = out
        rows, columns = x.shape[-2:]
        if full and (rows is None or rows != columns):
            if by_u is None and by_vh is None:
                u, _, vh = _svd.node((x,), {"full": False}).outputs
                return matmul(_scaled(u, by_s), vh)
            raise GradientError(
                "svd: the vectors that full_matrices=True adds can be any, so they have no gradient", help="give full_matrices=False"
            )
        if by_u is None and by_vh is None:
            return matmul(_scaled(u, by_s), vh)
        of_u = _skew(matmul(adjoint(u), by_u)) if by_u is not None else None
        of_v = _skew(matmul(vh, adjoint(by_vh))) if by_vh is not None else None
        both, apart = (of_u, of_u) if of_v is None else (of_v, -of_v) if of_u is None else (of_u + of_v, of_u - of_v)
        here, there = expand_dims(s, -1), expand_dims(s, -2)
        inner = (both * safe_reciprocal(there - here, s) + apart * safe_reciprocal(there + here, s)) * 0.5
        if by_s is not None:
            inner = inner + diagonal_matrix(astype(by_s, inner.dtype), inner, offset=0, axes=(-2, -1))
        total = matmul(u, matmul(inner, vh))
        # What moves the vectors out of the space that they span, where there is more of it.
        if by_u is not None and _smaller(rows, columns) != rows:
            moved = _scaled(by_u, safe_reciprocal(s, s))
            total = total + matmul(moved - matmul(u, matmul(adjoint(u), moved)), vh)
        if by_vh is not None and _smaller(rows, columns) != columns:
            moved = _scaled_rows(by_vh, safe_reciprocal(s, s))
            total = total + matmul(u, moved - matmul(matmul(moved, adjoint(vh)), vh))
        return total

    def work(self, x: Any, *, full: bool) -> Work:
        return _work(x, 14.0)

    samples = (
        Matrices("any", OBLONG_SHAPES, attrs=({"full": False},))
        + Matrices("any", [((3, 3),)], attrs=({"full": True},))
        + Matrices("any", [((4, 2),), ((2, 4),)], attrs=({"full": True},), edges=True)
        + Matrices("any", [((4, 2),), ((2, 3),)], attrs=({"full": False},), dtype="complex128", edges=True)
        + Matrices("any", [((3, 2),)], attrs=({"full": False},), dtype="float32")
    )


class Svdvals(MatrixFunction):
    """The singular values, from the largest on. Their gradient takes the vectors, which costs more."""

    def infer(self, x: Any) -> Spec:
        check_matrix(x)
        return Spec((*x.shape[:-2], _smaller(*x.shape[-2:])), real_dtype(x.dtype))

    def compute(self, xp: Any, x: Any) -> Any:
        def values(matrix: Any) -> Any:
            return xp.linalg.svd(matrix, compute_uv=False)

        return attempted(values, x, alone=values, wrong="has no singular values", help=ENDLESS)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        u, _, vh = _svd.node((x,), {"full": False}).outputs
        return matmul(_scaled(u, g), vh)

    def work(self, x: Any) -> Work:
        return _work(x, 4.0)

    samples = Matrices("any", OBLONG_SHAPES) + Matrices("any", [((3, 2),)], dtype="complex128")


class Qr(OfMatrices):
    """A matrix q with orthonormal columns, and an upper triangular r with real diagonal, whose product is x.

    Gradient: Walter and Lehmann, "Algorithmic differentiation of linear algebra functions with application in optimum experimental design"
    (2013, 2018 for wide matrices: the further columns of r are ``q.T`` times those of x).
    """

    def infer(self, x: Any, *, full: bool) -> list[Spec]:
        check_matrix(x)
        *lead, rows, columns = x.shape
        size = rows if full else _smaller(rows, columns)
        return [Spec((*lead, rows, size), x.dtype), Spec((*lead, size, columns), x.dtype)]

    def kernel(self, xp: Any, x: Any, *, full: bool) -> Any:
        return tuple(xp.linalg.qr(x, mode="complete" if full else "reduced"))

    def vjp(self, g: Any, out: Any, x: Tensor, *, full: bool) -> Any:
        by_q, by_r = g
        q, r = out
        rows, columns = x.shape[-2:]
        if not isinstance(rows, int) or not isinstance(columns, int):
            raise GradientError("qr: the sizes of a matrix must be known for its gradient", help="declare the last two sizes of its input")
        if full and rows > columns:
            raise GradientError("qr: the columns that mode='complete' adds can be any, so they have no gradient", help="mode='reduced'")
        if rows >= columns:
            return _by_square(by_q, by_r, q, r)
        # x = [first | rest], r = [r1 | q.T rest]: what comes from the rest goes through q.
        by_rest = by_r[..., rows:] if by_r is not None else None
        if by_rest is not None:
            through = matmul(x[..., rows:], adjoint(by_rest))
            by_q = through if by_q is None else by_q + through
        by_first = _by_square(by_q, by_r[..., :rows] if by_r is not None else None, q, r[..., :rows])
        return concat([by_first, matmul(q, by_rest) if by_rest is not None else x[..., rows:] * 0], axis=x.ndim - 1)

    def work(self, x: Any, *, full: bool) -> Work:
        return _work(x, 4.0)

    samples = (
        Matrices("any", OBLONG_SHAPES, attrs=({"full": False},))
        + Matrices("any", [((3, 3),), ((2, 3),)], attrs=({"full": True},))
        + Matrices("any", [((4, 2),)], attrs=({"full": True},), edges=True)
        + Matrices("any", [((4, 2),), ((3, 3),), ((2, 3),)], attrs=({"full": False},), dtype="complex128")
        + Matrices("any", [((3, 2),)], attrs=({"full": False},), dtype="float32")
    )


def _by_square(by_q: Tensor | None, by_r: Tensor | None, q: Tensor, r: Tensor) -> Tensor:
    """The cotangent of a matrix that has no more columns than rows from those of its factors."""
    parts = [matmul(by_r, adjoint(r))] if by_r is not None else []
    if by_q is not None:
        parts.append(-matmul(adjoint(q), by_q))
    half = triangle(parts[0] if len(parts) == 1 else parts[0] + parts[1], upper=True, diagonal=0.5)
    moved = matmul(q, half + adjoint(half))
    if by_q is not None:
        moved = moved + by_q
    return adjoint(_solve_triangular(r, adjoint(moved), upper=True))


def _hermitian(xp: Any, x: Any) -> Any:
    return (x + xp.conj(xp.swapaxes(x, -1, -2))) / 2


def _differences(w: Tensor) -> Tensor:
    """``w[j] - w[i]`` at (i, j)."""
    return subtract(expand_dims(w, -2), expand_dims(w, -1))


def _scaled(x: Tensor, weights: Tensor) -> Tensor:
    """The columns of ``x`` times ``weights``."""
    return multiply(x, expand_dims(weights, -2))


def _scaled_rows(x: Tensor, weights: Tensor) -> Tensor:
    """The rows of ``x`` times ``weights``."""
    return multiply(x, expand_dims(weights, -1))


def _skew(x: Tensor) -> Tensor:
    return x - adjoint(x)


def _smaller(rows: Dim, columns: Dim) -> Dim:
    if isinstance(rows, int) and isinstance(columns, int):
        return min(rows, columns)
    return rows if rows == columns else None


def _work(x: Any, factor: float) -> Work:
    size = math.prod(x.shape)
    return Work(factor * min(x.shape[-2:]) * size, 3 * size * x.dtype.itemsize)


_eigh = op(Eigh)
_eigvalsh = op(Eigvalsh)
_eig = op(Eig)
_eigvals = op(Eigvals)
_svd = op(Svd)
_svdvals = op(Svdvals)
_qr = op(Qr)


class EigResult(NamedTuple):
    """What `eig` and `eigh` give."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class SVDResult(NamedTuple):
    """What `svd` gives."""

    U: Tensor
    S: Tensor
    Vh: Tensor


class QRResult(NamedTuple):
    """What `qr` gives."""

    Q: Tensor
    R: Tensor


def eigh(x: Any) -> EigResult:
    """The eigenvalues, from the smallest on, and the eigenvectors of each symmetric or Hermitian matrix (..., n, n).

    The matrix is taken as its Hermitian part, ``(x + x.T) / 2`` (conjugated), of which the gradient is one, too. Where eigenvalues are
    equal, their vectors have no derivative: a loss must depend only on the space that they span, as a projection does.

    returns  ``eigenvalues`` (..., n), real, and ``eigenvectors`` (..., n, n), one in each column, defined up to a sign or phase
    raises   ShapeError for a matrix that is not square

    >>> values, vectors = fg.linalg.eigh([[2.0, 0.0], [0.0, 1.0]])
    >>> session.run(values)
    array([1., 2.])
    """
    return EigResult(*_eigh.node(lifted(_eigh, x), {}).outputs)


def eigvalsh(x: Any) -> Tensor:
    """The eigenvalues of each symmetric or Hermitian matrix (..., n, n), from the smallest on; see `eigh`.

    >>> session.run(fg.linalg.eigvalsh([[2.0, 0.0], [0.0, 1.0]]))
    array([1., 2.])
    """
    return _eigvalsh(*lifted(_eigvalsh, x))


def eig(x: Any) -> EigResult:
    """The eigenvalues and eigenvectors of each square matrix (..., n, n), always as complex numbers.

    A gradient needs eigenvalues that differ, and a loss that is free of the phases of the vectors. For symmetric or Hermitian matrices
    `eigh` is better in every respect.

    returns  ``eigenvalues`` (..., n) in no order, and ``eigenvectors`` (..., n, n), one of length 1 in each column

    >>> values, vectors = fg.linalg.eig([[0.0, 1.0], [-1.0, 0.0]])
    >>> session.run(values)
    array([0.+1.j, 0.-1.j])
    """
    return EigResult(*_eig.node(lifted(_eig, x), {}).outputs)


def eigvals(x: Any) -> Tensor:
    """The eigenvalues of each square matrix (..., n, n), in no order and always as complex numbers; a gradient needs that they differ."""
    return _eigvals(*lifted(_eigvals, x))


def svd(x: Any, full_matrices: bool = True) -> SVDResult:
    """The singular value decomposition of each matrix (..., n, m): ``x = U @ diag(S) @ Vh``.

    A gradient of the vectors needs ``full_matrices=False`` or square matrices, singular values that differ and, for a matrix that
    is not square, none that is 0. A loss must not depend on the signs or phases of the vectors.

    full_matrices  whether U and Vh are square; else they have min(n, m) columns and rows
    returns        ``U``, ``S`` (..., min(n, m)) from the largest on, and ``Vh``

    >>> u, s, vh = fg.linalg.svd([[0.0, 2.0], [1.0, 0.0]])
    >>> session.run(s)
    array([2., 1.])
    """
    return SVDResult(*_svd.node(lifted(_svd, x), {"full": as_flag(full_matrices, "full_matrices")}).outputs)


def svdvals(x: Any) -> Tensor:
    """The singular values of each matrix (..., n, m), from the largest on.

    >>> session.run(fg.linalg.svdvals([[0.0, 2.0], [1.0, 0.0]]))
    array([2., 1.])
    """
    return _svdvals(*lifted(_svdvals, x))


def qr(x: Any, mode: str = "reduced") -> Any:
    """The QR factors of each matrix (..., n, m): ``x = Q @ R``, with orthonormal columns in Q and R upper triangular.

    A gradient needs linearly independent columns (of a wide matrix: the first n), and for "complete" that there are no more columns than
    rows are.

    mode     "reduced": Q has min(n, m) columns; "complete": n; "r": only R, of the reduced factors
    returns  ``Q`` and ``R``
    raises   ArgumentError for another mode

    >>> q, r = fg.linalg.qr([[0.0, 1.0], [2.0, 0.0]])
    >>> session.run(abs(r))
    array([[2., 0.],
           [0., 1.]])
    """
    as_choice(mode, "qr: mode", ("reduced", "complete", "r"))
    result = QRResult(*_qr.node(lifted(_qr, x), {"full": mode == "complete"}).outputs)
    return result.R if mode == "r" else result


for _function in (eigh, eigvalsh, eig, eigvals, svd, svdvals, qr):
    public(_function, f"linalg.{_function.__name__}")
