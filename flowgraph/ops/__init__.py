"""Every operation, one place each; each module holds the operations of one idea."""

from . import (
    activations,
    attention,
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
    resize,
    shape,
    sort,
    special,
    state,
)

__all__ = [
    "activations", "attention", "conv", "create", "diagonals", "einsum", "elementwise", "fft", "gather", "indexing", "join", "losses",
    "matmul", "pool", "random", "reduce", "repeat", "resize", "shape", "sort", "special", "state",
]  # fmt: skip
