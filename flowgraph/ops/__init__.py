"""Every operation, one place each; each module holds the operations of one idea."""

from . import (
    activations,
    conv,
    create,
    diagonals,
    einsum,
    elementwise,
    fft,
    gather,
    indexing,
    join,
    losses,
    matmul,
    pool,
    random,
    reduce,
    repeat,
    shape,
    sort,
    special,
    state,
)

__all__ = [
    "activations", "conv", "create", "diagonals", "einsum", "elementwise", "fft", "gather", "indexing", "join", "losses",
    "matmul", "pool", "random", "reduce", "repeat", "shape", "sort", "special", "state",
]  # fmt: skip
