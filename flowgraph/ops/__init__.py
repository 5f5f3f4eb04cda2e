"""Every operation, one place each. The modules:
elementwise, reduce, shape, join, indexing, gather, matmul, diagonals, einsum, fft, activations, losses, conv, pool, random, special, state.
"""

from . import (
    activations,
    conv,
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
    shape,
    special,
    state,
)

__all__ = [
    "activations", "conv", "diagonals", "einsum", "elementwise", "fft", "gather", "indexing", "join", "losses", "matmul", "pool",
    "random", "reduce", "shape", "special", "state",
]  # fmt: skip
