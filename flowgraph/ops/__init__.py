"""Every operation, one place each. Modules: elementwise, reduce, shape, gather, matmul, neural, conv, pool, random, state."""

from . import conv, elementwise, gather, matmul, neural, pool, random, reduce, shape, state

__all__ = ["conv", "elementwise", "gather", "matmul", "neural", "pool", "random", "reduce", "shape", "state"]
