"""Layers that multiply by a matrix."""

from __future__ import annotations

from typing import Any

from ..graph import Tensor
from ..ops import init
from ..ops.elementwise import add
from ..ops.matmul import matmul
from .layer import Initial, Layer, whole


class Linear(Layer):
    """Each row of ``x`` times a matrix, plus a bias: ``x @ w + b``.

    inputs   size of the last axis of x
    outputs  size of the last axis of the result
    weights  of shape (inputs, outputs): a function of the shape, an initializer or an array
    bias     of shape (outputs,), likewise; None for no bias
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
        name: str = "linear",
    ) -> None:
        super().__init__(name)
        inputs, outputs = whole(inputs, "inputs"), whole(outputs, "outputs")
        self.w = self.weight("w", weights, (inputs, outputs))
        self.b = None if bias is None else self.weight("b", bias, (outputs,))

    def apply(self, x: Any) -> Tensor:
        y = matmul(x, self.w)
        return y if self.b is None else add(y, self.b)
