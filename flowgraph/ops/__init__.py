"""Every operation, one place each. The modules:
elementwise, reduce, shape, join, indexing, gather, matmul, neural, conv, pool, random, state.
"""

from . import conv, elementwise, gather, indexing, join, matmul, neural, pool, random, reduce, shape, state

__all__ = ["conv", "elementwise", "gather", "indexing", "join", "matmul", "neural", "pool", "random", "reduce", "shape", "state"]
