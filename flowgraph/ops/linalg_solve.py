"""Linear equations, inverses, determinants and Cholesky factors.

Gradients are those of Giles, "An extended collection of matrix derivative results for forward and reverse mode algorithmic
differentiation" (2008), with the conjugate transpose in place of the transpose; other sources are named at their rules.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ..errors import ShapeError
from ..graph import Op, Spec, Tensor, Work, op
from ..graph.arguments import as_flag
from ..graph.op import Batch, public
from ..graph.spec import broadcast_shapes
from .batching import aligned
from .diagonals import eye_like, triangle
from .elementwise import conj, imag, like, multiply, real_dtype
from .linalg_base import MatrixFunction, OfMatrices, attempted, check_matrix, lifted
from .matmul import adjoint, matmul, transposed
from .reduce import sum
from .samples import Matrices
from .shape import expand_dims, squeeze

SINGULAR = "add a multiple of the identity, or take fg.linalg.pinv, which is defined for any matrix"
SQUARE_SHAPES: Any = [((3, 3),), ((1, 1),), ((0, 0),), ((2, 3, 3),), ((2, 0, 2, 2),)]
SOLVE_SHAPES: Any = [
    ((3, 3), (3, 2)),
    ((1, 1), (1, 3)),
    ((0, 0), (0, 2)),
    ((2, 3, 3), (3, 2)),
    ((2, 2), (3, 2, 1)),
    ((2, 1, 2, 2), (3, 2, 2)),
]


class Equations(MatrixFunction):
    """Base of the ops that solve ``a @ x = b`` for matrices a (..., n, n) and b (..., n, m) whose leading axes broadcast."""

    promotes = True

    def infer(self, a: Any, b: Any, **attrs: Any) -> Spec:
        check_matrix(a, square=True)
        check_matrix(b)
        n, rows = a.shape[-1], b.shape[-2]
        if n != rows and isinstance(n, int) and isinstance(rows, int):
            raise ShapeError(f"{n} unknowns, but {rows} rows on the right", help="a @ x = b needs as many rows of b as of a")
        return Spec((*broadcast_shapes(a.shape[:-2], b.shape[:-2]), *b.shape[-2:]), np.result_type(a.dtype, b.dtype))

    def vmap(self, batch: Batch, *inputs: Tensor, **attrs: Any) -> Tensor:
        return self(*aligned(batch, inputs), **attrs)

    def work(self, a: Any, b: Any, **attrs: Any) -> Work:
        out = self.infer(a, b, **attrs)
        n = a.shape[-1]
        factor = 2.0 / 3.0 * n * math.prod(a.shape)
        return Work(factor + 2.0 * n * out.size, 2 * out.nbytes + math.prod(a.shape) * a.dtype.itemsize)


def _solved(xp: Any, a: Any, b: Any, wrong: str) -> Any:
    if xp is not np:  # CuPy wants one batch for both
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a, b = xp.broadcast_to(a, lead + a.shape[-2:]), xp.broadcast_to(b, lead + b.shape[-2:])
    return attempted(xp.linalg.solve, a, b, alone=xp.linalg.inv, wrong=wrong, help=SINGULAR)


class Solve(Equations):
    """The x for which ``a @ x = b``."""

    def compute(self, xp: Any, a: Any, b: Any) -> Any:
        return _solved(xp, a, b, wrong="is singular")

    def vjp(self, g: Tensor, out: Tensor, a: Tensor, b: Tensor) -> Any:
        by_b = _solve(adjoint(a), g)
        return lambda: like(-matmul(by_b, adjoint(out)), a), lambda: like(by_b, b)

    samples = (
        Matrices("any", SOLVE_SHAPES)
        + Matrices("any", [((3, 3), (3, 2)), ((2, 2), (3, 2, 1))], dtype="complex128")
        + Matrices("any", [((3, 3), (3, 2))], dtype="float32")
    )


class SolveTriangular(Equations):
    """The x for which ``a @ x = b``, where only the upper or the lower triangle of a is read."""

    def compute(self, xp: Any, a: Any, b: Any, *, upper: bool) -> Any:
        # By blocks of rows: a small dense system for each, and a product with what is solved already, where the time goes. SciPy has a
        # solver for this, but the bits must not depend on what is installed.
        part = (xp.triu if upper else xp.tril)(a)
        n, step = a.shape[-1], 64
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        x = xp.empty((*lead, *b.shape[-2:]), np.result_type(a.dtype, b.dtype))
        starts = range(0, n, step)
        for start in reversed(starts) if upper else starts:
            here, known = slice(start, start + step), slice(start + step, None) if upper else slice(0, start)
            rest = b[..., here, :] - xp.matmul(part[..., here, known], x[..., known, :])
            x[..., here, :] = _solved(xp, part[..., here, here], rest, wrong="has 0 on its diagonal")
        return x

    def vjp(self, g: Tensor, out: Tensor, a: Tensor, b: Tensor, *, upper: bool) -> Any:
        by_b = _solve_triangular(adjoint(a), g, upper=not upper)
        return lambda: like(triangle(-matmul(by_b, adjoint(out)), upper=upper, diagonal=1.0), a), lambda: like(by_b, b)

    def work(self, a: Any, b: Any, **attrs: Any) -> Work:
        out = self.infer(a, b, **attrs)
        return Work(float(a.shape[-1]) * out.size, 2 * out.nbytes + math.prod(a.shape) * a.dtype.itemsize)

    samples = (
        Matrices("triangular", SOLVE_SHAPES, attrs=({"upper": True}, {"upper": False}))
        + Matrices("triangular", [((3, 3), (3, 2))], attrs=({"upper": True}, {"upper": False}), dtype="complex128")
        + Matrices("triangular", [((3, 3), (3, 2))], attrs=({"upper": True},), dtype="float32")
    )


class Inv(MatrixFunction):
    """The inverse."""

    def infer(self, x: Any) -> Any:
        check_matrix(x, square=True)
        return x

    def compute(self, xp: Any, x: Any) -> Any:
        return attempted(xp.linalg.inv, x, alone=xp.linalg.inv, wrong="is singular", help=SINGULAR)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return -matmul(adjoint(out), matmul(g, adjoint(out)))

    def work(self, x: Any) -> Work:
        size = math.prod(x.shape)
        return Work(2.0 * x.shape[-1] * size, 2 * size * x.dtype.itemsize)

    samples = (
        Matrices("any", SQUARE_SHAPES) + Matrices("any", [((3, 3),)], dtype="complex128") + Matrices("any", [((3, 3),)], dtype="float32")
    )


class Det(MatrixFunction):
    """The determinant. Its gradient is the matrix of cofactors, which singular matrices have as well."""

    def infer(self, x: Any) -> Spec:
        check_matrix(x, square=True)
        return Spec(x.shape[:-2], x.dtype)

    def compute(self, xp: Any, x: Any) -> Any:
        return xp.linalg.det(x)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return multiply(_matrix_wide(g), conj(cofactors(x)))

    def work(self, x: Any) -> Work:
        size = math.prod(x.shape)
        return Work(2.0 / 3.0 * x.shape[-1] * size, size * x.dtype.itemsize)

    samples = (
        Matrices("any", SQUARE_SHAPES) + Matrices("eigen", [((3, 3),)], dtype="complex128") + Matrices("any", [((3, 3),)], dtype="float32")
    )


class Cofactors(MatrixFunction):
    """The matrix of cofactors, ``det(x) * inv(x).T``, for singular matrices as well.

    A product of matrices has the product of their cofactors, and those of the factors of a singular value decomposition are plain:
    those of the diagonal are products of all the other singular values.
    """

    def infer(self, x: Any) -> Any:
        check_matrix(x, square=True)
        return x

    def compute(self, xp: Any, x: Any) -> Any:
        if not x.size:
            return xp.zeros(x.shape, x.dtype)
        u, s, vh = attempted(xp.linalg.svd, x, alone=xp.linalg.svd, wrong="has no decomposition", help="does it hold NaN?")
        ones = xp.ones((*s.shape[:-1], 1), s.dtype)
        before = xp.concatenate([ones, xp.cumprod(s[..., :-1], axis=-1)], axis=-1)
        behind = xp.concatenate([ones, xp.cumprod(s[..., :0:-1], axis=-1)], axis=-1)[..., ::-1]
        turn = xp.linalg.det(u) * xp.linalg.det(vh)
        return xp.matmul(xp.conj(u) * (turn[..., None] * (before * behind))[..., None, :], xp.conj(vh))

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        # Of C = det(x) inv(x).T with d det = tr(C.T dx) and d inv(x) = -inv(x) dx inv(x).
        weight = sum(conj(g) * out, axis=(-2, -1), keepdims=True)
        inner = weight * eye_like(x) - matmul(conj(g), transposed(out))
        return conj(transposed(_solve(x, inner)))

    def work(self, x: Any) -> Work:
        size = math.prod(x.shape)
        return Work(20.0 * x.shape[-1] * size, 2 * size * x.dtype.itemsize)

    samples = (
        Matrices("any", SQUARE_SHAPES) + Matrices("any", [((3, 3),)], dtype="complex128") + Matrices("any", [((3, 3),)], dtype="float32")
    )


class Slogdet(OfMatrices):
    """The sign and the logarithm of the absolute value of the determinant."""

    def infer(self, x: Any) -> list[Spec]:
        check_matrix(x, square=True)
        return [Spec(x.shape[:-2], x.dtype), Spec(x.shape[:-2], real_dtype(x.dtype))]

    def kernel(self, xp: Any, x: Any) -> Any:
        return tuple(xp.linalg.slogdet(x))

    def vjp(self, g: Any, out: Any, x: Tensor) -> Any:
        # d log det = tr(inv(x) dx): its real part moves the logarithm, its imaginary part turns the sign of a complex determinant.
        by_sign, by_log = g
        weight = by_log
        if by_sign is not None and x.dtype.kind == "c":
            turn = imag(conj(by_sign) * out[0]) * (-1j)
            weight = turn if weight is None else weight + turn
        if weight is None:
            return None
        return multiply(_matrix_wide(weight), adjoint(_inv(x)))

    def work(self, x: Any) -> Work:
        size = math.prod(x.shape)
        return Work(2.0 / 3.0 * x.shape[-1] * size, size * x.dtype.itemsize)

    samples = (
        Matrices("any", SQUARE_SHAPES) + Matrices("any", [((3, 3),)], dtype="complex128") + Matrices("any", [((3, 3),)], dtype="float32")
    )


class Cholesky(MatrixFunction):
    """The lower triangular l with positive diagonal for which ``l @ l.T`` (conjugated) is the Hermitian part of x."""

    def infer(self, x: Any) -> Any:
        check_matrix(x, square=True)
        return x

    def compute(self, xp: Any, x: Any) -> Any:
        return attempted(
            xp.linalg.cholesky,
            (x + xp.conj(xp.swapaxes(x, -1, -2))) / 2,
            alone=xp.linalg.cholesky,
            wrong="is not positive definite",
            help="add a small multiple of the identity, as of 1e-6 times the mean of its diagonal",
        )

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        # Murray, "Differentiation of the Cholesky decomposition" (2016), equation 9.
        middle = triangle(matmul(adjoint(out), g), upper=False, diagonal=0.5)
        left = _solve_triangular(adjoint(out), middle, upper=True)
        full = adjoint(_solve_triangular(adjoint(out), adjoint(left), upper=True))
        return hermitian_part(full)

    def work(self, x: Any) -> Work:
        size = math.prod(x.shape)
        return Work(x.shape[-1] * size / 3.0, 2 * size * x.dtype.itemsize)

    samples = (
        Matrices("positive", SQUARE_SHAPES)
        + Matrices("positive", [((3, 3),)], dtype="complex128")
        + Matrices("positive", [((3, 3),)], dtype="float32")
    )


_solve = op(Solve)
_solve_triangular = op(SolveTriangular)
_inv = op(Inv)
_det = op(Det)
cofactors = op(Cofactors)
_slogdet = op(Slogdet)
_cholesky = op(Cholesky)


class SlogdetResult(NamedTuple):
    """What `slogdet` gives."""

    sign: Tensor
    logabsdet: Tensor


def solve(a: Any, b: Any) -> Tensor:
    """The ``x`` for which ``a @ x = b``.

    a        square matrices (..., n, n)
    b        (..., n, m), or one vector (n,), as in NumPy 2; the leading axes of both broadcast
    returns  the shape of b, broadcast
    raises   ShapeError for shapes that do not fit; LinAlgError in the run for a singular matrix (not on a GPU: NaN there)

    >>> session.run(fg.linalg.solve([[2.0, 0.0], [0.0, 4.0]], [1.0, 1.0]))
    array([0.5 , 0.25])
    """
    return _by_columns(_solve, a, b)


def solve_triangular(a: Any, b: Any, *, lower: bool = False) -> Tensor:
    """The ``x`` for which ``a @ x = b``, where ``a`` is triangular: upper, or ``lower``. Its other triangle is not read.

    a, b     as of `solve`
    returns  the shape of b, broadcast
    raises   as `solve`; a matrix with 0 on its diagonal is singular

    >>> session.run(fg.linalg.solve_triangular([[2.0, 9.0], [1.0, 1.0]], [2.0, 3.0], lower=True))
    array([1., 2.])
    """
    return _by_columns(_solve_triangular, a, b, upper=not as_flag(lower, "lower"))


def _by_columns(operation: Op, a: Any, b: Any, **attrs: Any) -> Tensor:
    a, b = lifted(operation, a, b)
    if b.ndim == 1:
        return squeeze(operation(a, expand_dims(b, 1), **attrs), -1)
    return operation(a, b, **attrs)


def inv(x: Any) -> Tensor:
    """The inverse of each square matrix (..., n, n).

    raises  ShapeError for one that is not square; LinAlgError in the run for a singular one (not on a GPU: infinities there)

    >>> session.run(fg.linalg.inv([[2.0, 0.0], [0.0, 4.0]]))
    array([[0.5 , 0.  ],
           [0.  , 0.25]])
    """
    return _inv(*lifted(_inv, x))


def det(x: Any) -> Tensor:
    """The determinant of each square matrix (..., n, n); `slogdet` neither overflows nor underflows.

    The gradient is the matrix of cofactors, right for singular matrices too; the second gradient needs an inverse.

    returns  (...)

    >>> session.run(fg.linalg.det([[1.0, 2.0], [3.0, 4.0]]))
    np.float64(-2.0)
    """
    return _det(*lifted(_det, x))


def slogdet(x: Any) -> SlogdetResult:
    """The sign (for complex matrices: a number on the unit circle) and the logarithm of the absolute value of the determinant.

    x        square matrices (..., n, n)
    returns  ``sign`` and ``logabsdet``, each (...); 0 and -inf for a singular matrix, where there is no gradient

    >>> sign, logabsdet = fg.linalg.slogdet([[1.0, 0.0], [0.0, -1.0]])
    >>> session.run([sign, logabsdet])
    [np.float64(-1.0), np.float64(0.0)]
    """
    return SlogdetResult(*_slogdet.node(lifted(_slogdet, x), {}).outputs)


def cholesky(x: Any, *, upper: bool = False) -> Tensor:
    """The Cholesky factor of each positive definite matrix (..., n, n): lower triangular, or ``upper``.

    The matrix is taken as its Hermitian part, ``(x + x.T) / 2`` (conjugated), of which the gradient is one, too.

    raises  LinAlgError in the run for a matrix that is not positive definite (not on a GPU: NaN there)

    >>> session.run(fg.linalg.cholesky([[4.0, 2.0], [2.0, 2.0]]))
    array([[2., 0.],
           [1., 1.]])
    """
    lower = _cholesky(*lifted(_cholesky, x))
    return adjoint(lower) if as_flag(upper, "upper") else lower


def hermitian_part(x: Tensor) -> Tensor:
    """``(x + x.T) / 2``, conjugated."""
    return (x + adjoint(x)) * 0.5


def _matrix_wide(x: Tensor) -> Tensor:
    return expand_dims(expand_dims(x, -1), -1)


for _function in (solve, inv, det, slogdet, cholesky):
    public(_function, f"linalg.{_function.__name__}")
