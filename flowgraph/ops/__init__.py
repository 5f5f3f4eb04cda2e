"""Every operation, one place each; each module holds the operations of one idea."""

from . import (
    activations,
    attention,
    conv,
    create,
    cumulative,
    diagonals,
    einsum,
    elementwise,
    fft,
    gather,
    indexing,
    join,
    linalg_functions,
    linalg_norms,
    linalg_solve,
    linalg_spectral,
    losses,
    matmul,
    pool,
    positions,
    random,
    reduce,
    repeat,
    resize,
    shape,
    sort,
    special,
    state,
    statistics,
)

__all__ = [
    "activations", "attention", "conv", "create", "cumulative", "diagonals", "einsum", "elementwise", "fft", "gather", "indexing", "join",
    "linalg_functions", "linalg_norms", "linalg_solve", "linalg_spectral", "losses", "matmul", "pool", "positions", "random", "reduce",
    "repeat", "resize", "shape", "sort", "special", "state", "statistics",
]  # fmt: skip
