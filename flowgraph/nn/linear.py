"""Layers whose weights are one matrix: a product with it, or its rows."""

from __future__ import annotations

from typing import Any

from ..errors import DtypeError
from ..graph import Tensor
from ..graph.arguments import as_count
from ..ops import init
from ..ops.elementwise import add
from ..ops.gather import take
from ..ops.matmul import matmul
from .layer import Initial, Layer


class Linear(Layer):
    """Each row of ``x`` times a matrix, plus a bias: ``x @ w + b``.

    inputs   size of the last axis of x
    outputs  size of the last axis of the result
    weights  of shape (inputs, outputs): a function of the shape, an initializer or an array; or a variable, which is shared
    bias     of shape (outputs,), likewise; None for no bias
    dtype    of its variables; None: as the initialisers say, float32 by default
    raises   ShapeError when the last size of x is not ``inputs``

    The variables are ``w`` and ``b``.

    >>> linear = fg.nn.Linear(784, 10)
    >>> x = fg.placeholder("x", ("batch", 784))
    >>> linear(x)
    <Tensor linear/add: (batch, 10) float32>
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        weights: Initial = init.he_normal,
        bias: Initial | None = init.zeros,
        dtype: Any = None,
        name: str = "linear",
    ) -> None:
        super().__init__(name, dtype)
        inputs, outputs = as_count(inputs, "inputs", 1), as_count(outputs, "outputs", 1)
        self.w = self.weight("w", weights, (inputs, outputs))
        self.b = None if bias is None else self.weight("b", bias, (outputs,))

    def apply(self, x: Any) -> Tensor:
        y = matmul(x, self.w)
        return y if self.b is None else add(y, self.b)


class Embedding(Layer):
    """A vector for each of ``count`` symbols: row ``i`` of a matrix for the integer ``i``.

    count    number of symbols
    size     of each vector
    weights  of shape (count, size): a function of the shape, an initializer or an array; or a variable, which is shared
    dtype    of its variable; None: as the initialiser says, float32 by default
    raises   DtypeError when it is called with anything but integers; a run raises ExecutionError for one out of range

    The variable is ``w``.

    >>> embedding = fg.nn.Embedding(1000, 64)
    >>> embedding(fg.placeholder("words", ("batch", "time"), "int32"))
    <Tensor embedding/gather: (batch, time, 64) float32>
    """

    def __init__(self, count: int, size: int, *, weights: Initial = init.normal, dtype: Any = None, name: str = "embedding") -> None:
        super().__init__(name, dtype)
        self.w = self.weight("w", weights, (as_count(count, "count", 1), as_count(size, "size", 1)))

    def apply(self, x: Any) -> Tensor:
        (x,) = add.lift((x,))
        if x.dtype.kind not in "iu":
            raise DtypeError(f"{self.name}: symbols are integers, {x.name} is {x.dtype}", help='fg.astype(x, "int32")')
        return take(self.w, x, axis=0)

    def logits(self, x: Any) -> Tensor:
        """How much each symbol is like the vectors ``x``: their products with its vector, of shape (..., count); the weights are shared.

        Press and Wolf, Using the Output Embedding to Improve Language Models (2017, arXiv:1608.05859).
        """
        with self.scope():
            return matmul(x, self.w.T)
