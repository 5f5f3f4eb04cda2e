"""References of linear algebra: what the definition says has to be zero, counted in ulps of the magnitudes that it is a difference of.

This is the backward error: how far from the given matrix is the one that the result is exact for. It does not depend on how well the matrix
is conditioned, and it leaves a choice where there is one, as of the vectors' signs. Only determinants, cofactors, eigenvalues and singular
values alone, and the exponential are compared with values; the matrices are well conditioned, and their size is what counts.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flowgraph.ops.samples import Matrices, Sample

from .measure import Draws, Pairs, Reference

Array = Any
RESIDUAL = "magnitudes in the residual"
LARGEST = "largest element"


def adjoint(x: Array) -> Array:
    return np.conj(np.swapaxes(x, -1, -2))


def eye(x: Array) -> Array:
    return np.broadcast_to(np.eye(x.shape[-1], dtype=x.dtype), (*x.shape[:-2], x.shape[-1], x.shape[-1]))


def length(x: Array) -> Array:
    """The Frobenius norm of each matrix, with axes to be broadcast over it."""
    return np.sqrt(np.sum(np.abs(x) ** 2, axis=(-2, -1), keepdims=True))


def against(zero: Array, size: Array) -> tuple[Array, Array]:
    return zero, np.broadcast_to(size, np.shape(zero))


def orthonormal(q: Array) -> tuple[Array, Array]:
    """The columns' products with each other less the identity, beside the norm of the columns."""
    return against(adjoint(q) @ q - eye(adjoint(q) @ q), length(q) if q.size else 1.0)


def product(left: Array, right: Array, want: Array) -> tuple[Array, Array]:
    """``left @ right - want``, beside the product of their magnitudes."""
    return against(left @ right - want, np.abs(left) @ np.abs(right) + np.abs(want))


def solve(outputs: list[Array], a: Array, b: Array) -> Pairs:
    """Row by row beside the norms: elimination with pivoting promises no more than that."""
    (x,) = outputs
    size = length(a) * np.sqrt(np.sum(np.abs(x) ** 2, axis=-2, keepdims=True)) if x.size else 0.0
    return [against(a @ x - b, size)]


def solve_triangular(outputs: list[Array], a: Array, b: Array, *, upper: bool) -> Pairs:
    return [product(np.triu(a) if upper else np.tril(a), outputs[0], b)]


def inv(outputs: list[Array], a: Array) -> Pairs:
    (x,) = outputs
    return [against(a @ x - eye(a), length(a) * length(x))]


def cholesky(outputs: list[Array], a: Array) -> Pairs:
    (lower,) = outputs
    return [product(lower, adjoint(lower), (a + adjoint(a)) / 2), against(np.triu(lower, 1), 0.0)]


def eigh(outputs: list[Array], a: Array) -> Pairs:
    w, v = outputs
    a = (a + adjoint(a)) / 2
    return [against(a @ v - v * w[..., None, :], length(a)), orthonormal(v), against(np.minimum(np.diff(w), 0), 0.0)]


def eig(outputs: list[Array], a: Array) -> Pairs:
    w, v = outputs
    lengths = np.sum(np.abs(v) ** 2, axis=-2)
    return [against(a @ v - v * w[..., None, :], length(a)), against(lengths - 1, 1.0)]


def svd(outputs: list[Array], a: Array, *, full: bool) -> Pairs:
    u, s, vh = outputs
    k = s.shape[-1]
    made = (u[..., :k] * s[..., None, :]) @ vh[..., :k, :]
    ordered = np.minimum(-np.diff(s), 0)
    return [against(made - a, length(a)), orthonormal(u), orthonormal(adjoint(vh)), against(ordered, 0.0), against(np.minimum(s, 0), 0.0)]


def qr(outputs: list[Array], a: Array, *, full: bool) -> Pairs:
    q, r = outputs
    return [against(q @ r - a, length(a)), orthonormal(q), against(np.tril(r, -1), 0.0)]


def pinv(outputs: list[Array], a: Array, *, rtol: float | None) -> Pairs:
    """Penrose's four conditions, which only the pseudo-inverse meets."""
    (x,) = outputs
    both = length(a) * length(x)
    hermitian = [against(y - adjoint(y), both) for y in (a @ x, x @ a)]
    return [against(a @ x @ a - a, both * length(a)), against(x @ a @ x - x, both * length(x)), *hermitian]


def eliminated(a: Array, b: Array) -> tuple[Array, Array]:
    """By Gauss's elimination with pivoting of one matrix: the pivots, with the sign of the exchanges in the first, and a^-1 b."""
    a, b = np.array(a), np.array(b)
    sign = 1
    for k in range(len(a)):
        pivot = k + int(np.argmax(np.abs(a[k:, k])))
        if pivot != k:
            a[[k, pivot]], b[[k, pivot]], sign = a[[pivot, k]], b[[pivot, k]], -sign
        ratios = a[:, k] / a[k, k]
        ratios[k] = 0
        a -= ratios[:, None] * a[k]
        b -= ratios[:, None] * b[k]
    pivots = np.diagonal(a).copy()
    b = b / pivots[:, None]
    pivots[:1] *= sign
    return pivots, b


def each(function: Any) -> Any:
    """``function`` of one matrix, for all of a batch, which may be none."""

    def many(x: Array, **attrs: Any) -> Any:
        lead, (rows, columns) = x.shape[:-2], x.shape[-2:]
        found = [function(matrix, **attrs) for matrix in x.reshape(math.prod(lead), rows, columns)]
        parts = zip(*(y if isinstance(y, tuple) else (y,) for y in found or [function(np.eye(rows, dtype=x.dtype))]), strict=True)
        made = [np.array(part if found else []).reshape((*lead, *np.shape(part[0]))) for part in parts]
        return tuple(made) if len(made) > 1 else made[0]

    return many


@each
def det(x: Array) -> Any:
    return np.prod(eliminated(x, x)[0])


@each
def slogdet(x: Array) -> Any:
    pivots = eliminated(x, x)[0]
    sizes = np.abs(pivots)
    return np.prod(pivots / sizes), np.sum(np.log(sizes))


@each
def slogdet_scale(x: Array) -> Any:
    return np.ones((), x.real.dtype), np.sum(np.abs(np.log(np.abs(eliminated(x, x)[0])))) + len(x)


@each
def cofactors(x: Array) -> Array:
    pivots, inverse = eliminated(x, np.eye(len(x), dtype=x.dtype))
    return np.prod(pivots) * inverse.T


@each
def expm(x: Array) -> Array:
    """Taylor's series of the 2**-8th part, squared eight times."""
    term = total = np.eye(len(x), dtype=x.dtype)
    for k in range(1, 30):
        term = term @ x / (256 * k)
        total = total + term
    for _ in range(8):
        total = total @ total
    return total


def narrow(x: Array) -> Array:
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)


def eigvalsh(x: Array) -> Array:
    """Rayleigh's quotients of LAPACK's vectors, whose error is the square of theirs."""
    x = (x + adjoint(x)) / 2
    v = np.linalg.eigh(narrow(x))[1].astype(x.dtype)
    return (np.sum(np.conj(v) * (x @ v), axis=-2) / np.sum(np.abs(v) ** 2, axis=-2)).real


def svdvals(x: Array) -> Array:
    u, _, vh = np.linalg.svd(narrow(x), full_matrices=False)
    u, v = u.astype(x.dtype), adjoint(vh).astype(x.dtype)
    lengths = np.sqrt(np.sum(np.abs(u) ** 2, axis=-2) * np.sum(np.abs(v) ** 2, axis=-2))
    return np.sum(np.conj(u) * (x @ v), axis=-2).real / lengths


def eigvals(outputs: list[Array], x: Array) -> Pairs:
    """Each beside the nearest quotient of right and left vectors, and the other way round, as they have no order."""
    right = np.linalg.eig(narrow(x))[1]
    left = adjoint(np.linalg.inv(right)).astype(np.result_type(x, np.complex64))
    right = right.astype(left.dtype)
    want = np.sum(np.conj(left) * (x @ right), axis=-2) / np.sum(np.conj(left) * right, axis=-2)
    apart = np.abs(outputs[0][..., :, None] - want[..., None, :])
    size = length(x)[..., 0] if x.size else np.zeros((*x.shape[:-2], 1))
    return [against(apart.min(axis=axis, initial=np.inf) if x.size else apart.sum(axis=axis), size) for axis in (-1, -2)]


def of_the_largest(function: Any, axis: Any = -1) -> Any:
    """The size of the largest element of each result along ``axis``."""

    def scale(x: Array) -> Array:
        sizes = np.abs(function(x))
        return np.broadcast_to(np.max(sizes, axis=axis, keepdims=True, initial=0), sizes.shape)

    return scale


def matrices(kind: str, *shapes: tuple[int, ...], **attrs: Any) -> Draws:
    """Batches of well conditioned ones, as `Matrices` makes them; attributes are the op's."""

    def draw(rng: np.random.Generator, dtype: np.dtype[Any], count: int) -> list[Sample]:
        precision = "complex128" if dtype.kind == "c" else "float64"
        return list(Matrices(kind, [shapes], attrs=(attrs,), dtype=precision))

    return draw


def meets(pairs: Any, bound: float, draws: Draws) -> Reference:
    return Reference(pairs=pairs, bound=bound, draws=draws, measure=RESIDUAL)


SQUARE, TALL, MANY = (3, 20, 20), (3, 20, 12), (3, 20, 4)

REFERENCES = {
    "solve": meets(solve, 8.0, matrices("any", SQUARE, MANY)),
    "solve_triangular": meets(solve_triangular, 8.0, matrices("triangular", SQUARE, MANY, upper=True)),
    "inv": meets(inv, 8.0, matrices("any", SQUARE)),
    "cholesky": meets(cholesky, 8.0, matrices("positive", SQUARE)),
    "eigh": meets(eigh, 64.0, matrices("symmetric", SQUARE)),
    "eig": meets(eig, 64.0, matrices("eigen", SQUARE)),
    "svd": meets(svd, 64.0, matrices("any", TALL, full=False)),
    "qr": meets(qr, 16.0, matrices("any", TALL, full=False)),
    "pinv": meets(pinv, 16.0, matrices("any", TALL, rtol=None)),
    "det": Reference(det, 64.0, draws=matrices("any", SQUARE)),
    "slogdet": Reference(slogdet, 16.0, draws=matrices("any", SQUARE), scale=slogdet_scale, measure="1, sum of the pivots' logarithms"),
    "cofactors": Reference(cofactors, 256.0, draws=matrices("any", SQUARE), scale=of_the_largest(cofactors, (-2, -1)), measure=LARGEST),
    "expm": Reference(expm, 64.0, draws=matrices("any", SQUARE), scale=of_the_largest(expm, (-2, -1)), measure=LARGEST),
    "eigvalsh": Reference(
        eigvalsh, 64.0, draws=matrices("symmetric", SQUARE), scale=of_the_largest(eigvalsh), measure=LARGEST
    ),
    "svdvals": Reference(
        svdvals, 64.0, draws=matrices("any", TALL), scale=of_the_largest(svdvals), measure=LARGEST
    ),
    "eigvals": meets(eigvals, 64.0, matrices("eigen", SQUARE)),
}  # fmt: skip
