"""Functions of matrices that rest on decompositions: the pseudo-inverse, the exponential, powers, and least squares."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError, GradientError, ShapeError
from ..graph import Spec, Tensor, Work, op
from ..graph.arguments import as_number
from ..graph.op import public
from ..graph.spec import format_shape
from .diagonals import eye_like
from .elementwise import real_dtype
from .join import concat
from .linalg_base import MatrixFunction, attempted, check_matrix, lifted
from .linalg_solve import SQUARE_SHAPES, inv
from .linalg_spectral import ENDLESS, OBLONG_SHAPES
from .matmul import adjoint, matmul
from .samples import Matrices
from .shape import expand_dims, squeeze, zeros_like


class Pinv(MatrixFunction):
    """The pseudo-inverse: singular values up to ``rtol`` times the largest count as 0.

    Gradient: Golub and Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose variables separate"
    (1973), equation 4.12; it holds where the rank does not change.
    """

    def infer(self, x: Any, *, rtol: float | None) -> Spec:
        check_matrix(x)
        return Spec((*x.shape[:-2], x.shape[-1], x.shape[-2]), x.dtype)

    def compute(self, xp: Any, x: Any, *, rtol: float | None) -> Any:
        def svd(matrix: Any) -> Any:
            return xp.linalg.svd(matrix, full_matrices=False)

        u, s, vh = attempted(svd, x, alone=svd, wrong="has no singular values", help=ENDLESS)
        kept = s > (default_rtol(x) if rtol is None else rtol) * s[..., :1]
        inverse = xp.where(kept, 1 / xp.where(kept, s, 1), 0)
        return xp.matmul(xp.conj(xp.swapaxes(vh, -1, -2)) * inverse[..., None, :], xp.conj(xp.swapaxes(u, -1, -2)))

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, rtol: float | None) -> Any:
        p, ph, gh = out, adjoint(out), adjoint(g)
        left = matmul(matmul(gh, p), ph)
        right = matmul(ph, matmul(p, gh))
        outside = left - matmul(x, matmul(p, left)) + right - matmul(matmul(right, p), x)
        return outside - matmul(ph, matmul(g, ph))

    def work(self, x: Any, *, rtol: float | None) -> Work:
        size = math.prod(x.shape)
        return Work(16.0 * min(x.shape[-2:]) * size, 3 * size * x.dtype.itemsize)

    samples = (
        Matrices("any", OBLONG_SHAPES, attrs=({"rtol": None},))
        + Matrices("any", [((4, 2),), ((2, 3),)], attrs=({"rtol": None},), dtype="complex128")
        + Matrices("any", [((3, 2),)], attrs=({"rtol": 1e-3},), dtype="float32")
    )


class Expm(MatrixFunction):
    """The exponential of a matrix, by the Pade approximant of degree 13 after scaling, and squaring back.

    Higham, "The scaling and squaring method for the matrix exponential revisited" (2005). The gradient is the exponential of a matrix of
    twice the size: Al-Mohy and Higham, "Computing the Frechet derivative of the matrix exponential" (2009), equation 1.2.
    """

    def infer(self, x: Any) -> Any:
        check_matrix(x, square=True)
        return x

    def compute(self, xp: Any, x: Any) -> Any:
        if not x.size:
            return xp.zeros(x.shape, x.dtype)
        norm = xp.max(xp.sum(xp.abs(x), axis=-2), axis=-1)
        # Each matrix is scaled by a power of two of its own, so that its result does not depend on the others of its batch.
        halvings = xp.ceil(xp.log2(xp.maximum(xp.where(xp.isfinite(norm), norm, 0) / 5.371920351148152, 1.0)))
        a = x * (2.0**-halvings).astype(norm.dtype)[..., None, None]
        eye = xp.broadcast_to(xp.eye(x.shape[-1], dtype=x.dtype), x.shape)
        a2 = xp.matmul(a, a)
        a4 = xp.matmul(a2, a2)
        a6 = xp.matmul(a2, a4)
        b = _PADE
        odd = xp.matmul(a6, b[13] * a6 + b[11] * a4 + b[9] * a2) + b[7] * a6 + b[5] * a4 + b[3] * a2 + b[1] * eye
        even = xp.matmul(a6, b[12] * a6 + b[10] * a4 + b[8] * a2) + b[6] * a6 + b[4] * a4 + b[2] * a2 + b[0] * eye
        odd = xp.matmul(a, odd)
        result = attempted(
            xp.linalg.solve, even - odd, even + odd, alone=xp.linalg.inv, wrong="has no exponential", help="does it hold NaN?"
        )
        for count in range(int(halvings.max())):
            result = xp.where((halvings > count)[..., None, None], xp.matmul(result, result), result)
        return result

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        n = x.shape[-1]
        if not isinstance(n, int):
            raise GradientError("expm: the size of a matrix must be known for its gradient", help="declare the last two sizes of its input")
        xh = adjoint(x)
        above = concat([xh, g], axis=x.ndim - 1)
        below = concat([zeros_like(x), xh], axis=x.ndim - 1)
        return _expm(concat([above, below], axis=x.ndim - 2))[..., :n, n:]

    def work(self, x: Any) -> Work:
        size = math.prod(x.shape)
        return Work(25.0 * x.shape[-1] * size, 10 * size * x.dtype.itemsize)

    samples = (
        Matrices("any", SQUARE_SHAPES) + Matrices("any", [((3, 3),)], dtype="complex128") + Matrices("any", [((3, 3),)], dtype="float32")
    )


# Coefficients of the approximant, by the power of the matrix (divided by the first, which changes nothing, to stay in range in float32).
_PADE = [
    b / 64764752532480000
    for b in (
        64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000, 10559470521600,
        670442572800, 33522128640, 1323241920, 40840800, 960960, 16380, 182, 1,
    )
]  # fmt: skip

_pinv = op(Pinv)
_expm = op(Expm)


def default_rtol(x: Any) -> float:
    """Below this part of the largest singular value, one counts as 0: the larger size times the dtype's resolution, as in the array API."""
    return float(max(x.shape[-2:]) * np.finfo(real_dtype(x.dtype)).eps)


def pinv(x: Any, rtol: float | None = None) -> Tensor:
    """The (Moore-Penrose) pseudo-inverse of each matrix (..., n, m), which any matrix has.

    Its gradient holds where the rank does not change.

    rtol     singular values up to this part of the largest count as 0; None for max(n, m) times the resolution of the dtype
    returns  (..., m, n)

    >>> session.run(fg.linalg.pinv([[2.0, 0.0], [0.0, 0.0]]))
    array([[0.5, 0. ],
           [0. , 0. ]])
    """
    return _pinv(*lifted(_pinv, x), rtol=None if rtol is None else as_number(rtol, "rtol"))


def lstsq(a: Any, b: Any, rtol: float | None = None) -> Tensor:
    """The ``x`` that makes ``a @ x - b`` shortest; of several, the shortest itself.

    Unlike NumPy's it takes batches and returns the solution alone; the residual is ``b - a @ x``, and `matrix_rank` gives the rank.

    a        matrices (..., n, m), of any rank
    b        (..., n, k), or one vector (n,)
    rtol     as of `pinv`
    returns  (..., m, k) or (m,)

    >>> session.run(fg.linalg.lstsq([[1.0], [1.0]], [1.0, 3.0]))
    array([2.])
    """
    a, b = lifted(_pinv, a, b)
    return squeeze(matmul(pinv(a, rtol), expand_dims(b, 1)), -1) if b.ndim == 1 else matmul(pinv(a, rtol), b)


def expm(x: Any) -> Tensor:
    """The exponential of each square matrix (..., n, n), the limit of ``(1 + x / k)`` to the power of k.

    raises  ShapeError for a matrix that is not square; LinAlgError in the run for one with NaN

    >>> session.run(fg.linalg.expm([[0.0, 1.0], [0.0, 0.0]]))
    array([[1., 1.],
           [0., 1.]])
    """
    return _expm(*lifted(_expm, x))


def matrix_power(x: Any, n: int) -> Tensor:
    """The product of ``n`` copies of each square matrix, by repeated squaring; of its inverse for a negative ``n``.

    raises  ArgumentError unless n is an int

    >>> session.run(fg.linalg.matrix_power([[1.0, 1.0], [0.0, 1.0]], 5))
    array([[1., 5.],
           [0., 1.]])
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer):
        raise ArgumentError(
            f"matrix_power: the power must be an int, got {n!r}", help="a power of another kind goes through fg.linalg.eigh"
        )
    (x,) = matmul.lift((x,))
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"matrix_power: needs square matrices, got {format_shape(x.shape)}")
    if n < 0:
        x = inv(x)
    if n == 0:
        return eye_like(x)
    power = abs(int(n))
    result: Tensor | None = None
    while power:
        if power & 1:
            result = x if result is None else matmul(result, x)
        power >>= 1
        if power:
            x = matmul(x, x)
    assert result is not None
    return result


for _function in (pinv, matrix_power):
    public(_function, f"linalg.{_function.__name__}")
