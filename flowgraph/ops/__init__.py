"""Every operation, one place each. The modules:
elementwise, reduce, shape, join, indexing, gather, matmul, diagonals, einsum, fft, activations, losses, conv, pool, random, state.
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
    state,
)

__all__ = [
    "activations", "conv", "diagonals", "einsum", "elementwise", "fft", "gather", "indexing", "join", "losses", "matmul", "pool",
    "random", "reduce", "shape", "state",
]  # fmt: skip
