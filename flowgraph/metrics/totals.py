"""Sums and means over many batches, kept in variables: nothing is added but by the update, and nothing forgotten but by the reset."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import Node, Tensor, scope
from ..graph.spec import format_shape, is_known
from ..ops import init
from ..ops.elementwise import add, astype, divide, maximum, multiply
from ..ops.reduce import size, sum
from ..ops.state import assign, group, variable


class Total:
    """The sum of a tensor over runs: of confusion matrices, of hits.

    x     what is added: numbers or booleans, of a known shape
    name  of the scope that holds the sum

    update  the node whose run adds x; run it with each batch
    value   the sum so far: float64, complex128, or int64 for integers and booleans; fetch it when all batches are done
    reset   the node whose run begins anew

    >>> predicted, labels = fg.placeholder("predicted", (None,), "int32"), fg.placeholder("labels", (None,), "int32")
    >>> matrix = fg.metrics.Total(fg.metrics.confusion_matrix(predicted, labels, 2))
    >>> for batch in [([0, 1], [0, 1]), ([1, 1], [0, 1])]:
    ...     session.run(matrix.update, dict(zip([predicted, labels], batch)))
    >>> session.run(matrix.value), session.run(fg.metrics.recall(matrix.value))
    (array([[1, 1],
           [0, 2]]), np.float64(0.75))
    """

    def __init__(self, x: Any, name: str = "total") -> None:
        (x,) = add.lift((x,))
        if not is_known(x.shape):
            raise ShapeError(f"Total: {x.name} is {format_shape(x.shape)}, but a sum has a known shape", help="fg.sum(x) adds it up before")
        with scope(name):
            self.value, self.update, self.reset = _kept(x, "sum")


class Mean:
    """The mean of all elements of a tensor over runs: of losses, of accuracies.

    x       numbers or booleans
    weight  how much each element counts, of the shape of x: a mask; or the size of the batch, where x is its mean already
    name    of the scope that holds the sums

    update  the node whose run takes x into the mean; run it with each batch
    value   the mean so far, a scalar float64, 0 before the first update; fetch it when all batches are done
    reset   the node whose run begins anew
    raises  ShapeError when the weight has another shape

    >>> losses = fg.placeholder("losses", (None,))
    >>> mean = fg.metrics.Mean(losses)
    >>> for batch in ([1.0, 2.0, 3.0], [6.0]):
    ...     session.run(mean.update, {losses: batch})
    >>> session.run(mean.value), session.run(fg.exp(mean.value)).round(3)       # the latter is a perplexity
    (np.float64(3.0), np.float64(20.086))
    """

    def __init__(self, x: Any, weight: Any = None, name: str = "mean") -> None:
        (x,) = add.lift((x,))
        if x.dtype.kind == "c":
            raise ArgumentError(f"Mean: takes real numbers, {x.name} is {x.dtype}")
        with scope(name):
            x = astype(x, "float64")
            if weight is None:
                added, count = sum(x), size(x)
            else:
                (weight,) = add.lift((weight,))
                if weight.ndim != x.ndim or any(a != b for a, b in zip(weight.shape, x.shape) if type(a) is type(b) is int):
                    raise ShapeError(f"Mean: the weight is {format_shape(weight.shape)}, but x is {format_shape(x.shape)}")
                weight = astype(weight, "float64")
                added, count = sum(multiply(x, weight)), sum(weight)
            total, add_to_total, reset_total = _kept(added, "sum")
            counted, add_to_count, reset_count = _kept(count, "count")
            # Nothing counted is nothing added: 0 / 1, or 0 divided by the smallest number.
            self.value: Tensor = divide(total, maximum(counted, np.finfo(np.float64).tiny), name="value")
            self.update: Node = group([add_to_total, add_to_count], "update")
            self.reset: Node = group([reset_total, reset_count], "reset")


def _kept(x: Tensor, name: str) -> tuple[Tensor, Node, Node]:
    """A new variable for the sum of ``x`` over runs, the update that adds to it, and the one that empties it."""
    dtype = {"b": "int64", "i": "int64", "u": "int64", "c": "complex128"}.get(x.dtype.kind, "float64")
    kept = variable(init.zeros(x.shape, dtype), name=name, trainable=False)
    return kept, assign(kept, add(kept, astype(x, dtype))), assign(kept, np.zeros(x.shape, dtype))
