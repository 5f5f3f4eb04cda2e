"""The functions of compiled loops, in the place of an op's kernel: they are measured against the same references."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from flowgraph.graph import OPS, Op
from flowgraph.jit.functions import Scalars
from flowgraph.jit.kernels import compiled
from flowgraph.jit.loops import Loop, Operand, Result
from flowgraph.jit.values import Unfusable

from .measure import dtypes_of, measured
from .references import REFERENCES
from .table import Row, bounds

Array = Any
MOST = 1 << 20  # elements of one call


def loops() -> list[tuple[str, str]]:
    """The ops and the dtypes for which a compiled loop has a function."""
    pairs = [(name, dtype) for name, reference in REFERENCES.items() for dtype in dtypes_of(OPS[name], reference)]
    return [(name, dtype) for name, dtype in pairs if dtype in ("float32", "float64") and loop(OPS[name], dtype) is not None]


def measure_all(count: int) -> list[Row]:
    """A row for each of these ops whose result is rounded."""
    found: dict[str, dict[str, float]] = {}
    for name, dtype in loops():
        if REFERENCES[name].bound:
            found.setdefault(name, {})[dtype] = measured(OPS[name], REFERENCES[name], dtype, count, kernel(OPS[name], dtype)).ulps
    return [Row(name, errors, bounds(REFERENCES[name], errors), REFERENCES[name].measure) for name, errors in found.items()]


@cache
def loop(op: Op, dtype: str) -> Loop | None:
    """A loop over arrays of one axis that computes what ``op`` does with each element; None where there is none."""
    sample = next(iter(op.samples))
    if op.scalar is None or op.along_row or sample.attrs:
        return None
    scalars = Scalars()
    operands = tuple(Operand(np.dtype(dtype) if x.dtype.kind == "f" else x.dtype, (True,)) for x in sample.inputs)
    try:
        value = op.scalar(scalars, *(scalars.load(i, operand.dtype, is_row=False) for i, operand in enumerate(operands)))
    except Unfusable:
        return None
    if value.dtype.kind != "f":
        return None
    return Loop((MOST,), (0, 1), operands, (Result(value, (False,)),))


def kernel(op: Op, dtype: str) -> Callable[..., Array]:
    """The loop of ``op``, compiled, as a function of arrays that it broadcasts."""
    made = loop(op, dtype)
    assert made is not None
    run, result = compiled(made), made.results[0].value.dtype

    def function(*inputs: Array) -> Array:
        shape = np.broadcast_shapes(*(x.shape for x in inputs))
        out = np.empty(math.prod(shape), result)
        if out.size:
            run(*(np.ascontiguousarray(np.broadcast_to(x, shape)).reshape(-1) for x in inputs), out)
        return out.reshape(shape)

    return function
