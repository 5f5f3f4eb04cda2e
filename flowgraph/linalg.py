"""Linear algebra on the last two axes of tensors, all others a batch, with NumPy's names, differentiable to any order."""

from .ops.diagonals import diagonal, trace
from .ops.linalg_functions import expm, lstsq, matrix_power, pinv
from .ops.linalg_norms import cond, cross, matrix_norm, matrix_rank, norm, vector_norm
from .ops.linalg_solve import cholesky, det, inv, slogdet, solve, solve_triangular
from .ops.linalg_spectral import eig, eigh, eigvals, eigvalsh, qr, svd, svdvals

__all__ = [
    "cholesky", "cond", "cross", "det", "diagonal", "eig", "eigh", "eigvals", "eigvalsh", "expm", "inv", "lstsq", "matrix_norm",
    "matrix_power", "matrix_rank", "norm", "pinv", "qr", "slogdet", "solve", "solve_triangular", "svd", "svdvals", "trace",
    "vector_norm",
]  # fmt: skip
