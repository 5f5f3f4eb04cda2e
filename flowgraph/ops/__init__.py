"""Every operation, one place each. The modules:
elementwise, reduce, shape, join, indexing, gather, matmul, activations, losses, conv, pool, random, state.
"""

from . import activations, conv, elementwise, gather, indexing, join, losses, matmul, pool, random, reduce, shape, state

__all__ = [
    "activations", "conv", "elementwise", "gather", "indexing", "join", "losses", "matmul", "pool", "random", "reduce", "shape",
    "state",
]  # fmt: skip
