"""Recurrent layers: loops over time that carry a state, as one node of the graph each.

What does not depend on the state, the product of all inputs with a matrix, is done before the loop for all times at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from ..control import scan
from ..errors import ShapeError
from ..graph import Tensor
from ..graph.arguments import as_count
from ..graph.spec import format_shape, format_spec
from ..ops import init
from ..ops.activations import sigmoid
from ..ops.elementwise import add, multiply, subtract, tanh, where
from ..ops.join import split
from ..ops.matmul import matmul
from ..ops.reduce import sum
from ..ops.shape import expand_dims, permute_dims, zeros_like
from .layer import Initial, Layer


class _Recurrent(Layer):
    """Base of them all: matrices for the inputs and for the state, of all gates side by side, and a bias."""

    gates: ClassVar[int] = 1
    states: ClassVar[int] = 1

    def __init__(
        self,
        inputs: int,
        size: int,
        *,
        reverse: bool = False,
        weights: Initial = init.glorot_uniform,
        state_weights: Initial = init.orthogonal,
        bias: Initial = init.zeros,
        dtype: Any = None,
        name: str = "rnn",
    ) -> None:
        super().__init__(name, dtype)
        self.size, self.reverse = as_count(size, "size", 1), bool(reverse)
        wide = self.gates * self.size
        self.w = self.weight("w", weights, (as_count(inputs, "inputs", 1), wide))
        self.u = self.weight("u", state_weights, (self.size, wide))
        self.b = self.weight("b", bias, (wide,))

    def apply(self, x: Any, *, mask: Any = None) -> Tensor:
        """What is given out at each time, (..., time, size).

        x     (..., time, inputs)
        mask  booleans (..., time), false where a sequence has ended: the state stays as it is there, and is given out again
        """
        return self._over_time(x, None, mask)[0]

    def with_state(self, x: Any, state: Any = None, *, mask: Any = None) -> tuple[Tensor, Any]:
        """The result of a call, and the state behind the last time; ``state`` is that before the first, None for zeros.

        A long sequence may be given piece by piece: the state of one piece is where the next one begins.

        >>> gru = fg.nn.GRU(3, 8)
        >>> y, state = gru.with_state(fg.placeholder("x", ("batch", "time", 3)))
        >>> state
        <Tensor gru/scan: (batch, 8) float32>
        """
        with self.scope():
            return self._over_time(x, state, mask)

    def step(self, x: Tensor, state: Any) -> tuple[Any, Tensor]:
        """The state after one time, and what is given out: of the inputs times ``w`` plus ``b``, and the state before."""
        raise NotImplementedError

    def _over_time(self, x: Any, state: Any, mask: Any) -> tuple[Tensor, Any]:
        (x,) = add.lift((x,))
        inputs = self.w.shape[0]
        if x.ndim < 2 or (isinstance(x.shape[-1], int) and x.shape[-1] != inputs):
            raise ShapeError(f"{self.name}: x is (..., time, {inputs}), {x.name} is {format_shape(x.shape)}")
        # Time comes first before the product: x is smaller than what becomes of it, and a turn reads rows that lie side by side.
        given = add(matmul(_time_first(x), self.w), self.b)
        if state is None:
            zeros = zeros_like(sum(given[..., : self.size], axis=0))  # of the sum only the shape is used: a run does not compute it
            state = zeros if self.states == 1 else (zeros,) * self.states
        if mask is None:
            state, y = scan(lambda state, x: self.step(x, state), state, given, reverse=self.reverse)
        else:
            going = expand_dims(self._mask(mask, x), -1)
            state, y = scan(self._masked_step, state, (given, _time_first(going)), reverse=self.reverse)
        return _time_behind(y), state

    def _masked_step(self, state: Any, entry: tuple[Tensor, Tensor]) -> tuple[Any, Tensor]:
        x, going = entry
        after, _ = self.step(x, state)
        if self.states == 1:
            state = where(going, after, state)
            return state, state
        state = tuple(where(going, new, old) for new, old in zip(after, state, strict=True))
        return state, state[0]

    def _mask(self, mask: Any, x: Tensor) -> Tensor:
        (mask,) = add.lift((mask,))
        if mask.dtype != bool or mask.ndim != x.ndim - 1:
            raise ShapeError(
                f"{self.name}: the mask is (..., time) booleans, {mask.name} is {format_spec(mask.shape, mask.dtype)}",
                rows=[("x", f"{x.name} {format_spec(x.shape, x.dtype)}")],
            )
        return mask  # type: ignore[no-any-return]


class RNN(_Recurrent):
    """A loop over time with one layer: ``h = activation(x @ w + h @ u + b)``.

    inputs         size of x at each time
    size           of the state h, which is what is given out
    activation     a function of a tensor
    reverse        whether to begin at the last time; the result stands where its inputs do
    weights        of ``w`` (inputs, size): a function of the shape, an initializer, an array or a variable
    state_weights  of ``u`` (size, size), likewise
    bias           of ``b`` (size,), likewise
    dtype          of the variables; None: as the initialisers say, float32 by default
    raises         ShapeError when x is not (..., time, inputs)

    In both directions: ``fg.concat([one(x), other(x)], axis=-1)``, where ``other`` was made with ``reverse=True``.

    Elman, Finding Structure in Time (1990).

    >>> fg.nn.RNN(3, 8)(fg.placeholder("x", ("batch", "time", 3)))
    <Tensor rnn/permute_dims_1: (batch, time, 8) float32>
    """

    def __init__(self, inputs: int, size: int, *, activation: Callable[[Tensor], Tensor] = tanh, name: str = "rnn", **options: Any) -> None:
        super().__init__(inputs, size, name=name, **options)
        self.activation = activation

    def step(self, x: Tensor, state: Any) -> tuple[Any, Tensor]:
        h = self.activation(add(x, matmul(state, self.u)))
        return h, h


class LSTM(_Recurrent):
    """A loop over time with a memory that gates write, keep and read.

    inputs, size, reverse, weights, state_weights, dtype  as for ``RNN``; the matrices are (..., 4 * size)
    bias    of ``b`` (4 * size,); by default 1 for the gate that keeps the memory, so that it lasts at first, and 0 for the others
    raises  ShapeError when x is not (..., time, inputs)

    The four gates stand side by side in the order of PyTorch and Keras; the state is the pair (h, c):

        i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of the parts of x @ w + h @ u + b
        c = f * c + i * g
        h = o * tanh(c)

    Hochreiter and Schmidhuber, Long Short-Term Memory (1997); the gate f: Gers, Schmidhuber and Cummins, Learning to Forget
    (2000); its bias: Jozefowicz, Zaremba and Sutskever, An Empirical Exploration of Recurrent Network Architectures (2015).

    >>> fg.nn.LSTM(3, 8)(fg.placeholder("x", ("batch", "time", 3)))
    <Tensor lstm/permute_dims_1: (batch, time, 8) float32>
    """

    gates, states = 4, 2

    def __init__(self, inputs: int, size: int, *, bias: Initial | None = None, name: str = "lstm", **options: Any) -> None:
        super().__init__(inputs, size, bias=_keeping if bias is None else bias, name=name, **options)

    def step(self, x: Tensor, state: Any) -> tuple[Any, Tensor]:
        h, c = state
        parts = add(x, matmul(h, self.u))
        i, f, g, o = split(parts, 4, axis=-1)
        c = add(multiply(sigmoid(f), c), multiply(sigmoid(i), tanh(g)))
        h = multiply(sigmoid(o), tanh(c))
        return (h, c), h


class GRU(_Recurrent):
    """A loop over time whose gates say how much of the state is seen, and how much of it stays.

    inputs, size, reverse, weights, state_weights, bias, dtype  as for ``RNN``; the matrices are (..., 3 * size)
    raises  ShapeError when x is not (..., time, inputs)

    The three gates stand side by side, as in PyTorch, whose form this is; ``c`` is one more bias, of the shape of ``b``:

        r, z = sigmoid of the first two parts of x @ w + b + h @ u + c
        n = tanh(last part of (x @ w + b) + r * last part of (h @ u + c))
        h = (1 - z) * n + z * h

    Cho et al., Learning Phrase Representations using RNN Encoder-Decoder (2014, arXiv:1406.1078), with the gate r behind the
    product, as in its first version and in PyTorch.

    >>> fg.nn.GRU(3, 8)(fg.placeholder("x", ("batch", "time", 3)))
    <Tensor gru/permute_dims_1: (batch, time, 8) float32>
    """

    gates = 3

    def __init__(self, inputs: int, size: int, *, bias: Initial = init.zeros, name: str = "gru", **options: Any) -> None:
        super().__init__(inputs, size, bias=bias, name=name, **options)
        self.c = self.weight("c", bias if callable(bias) else init.zeros, (3 * self.size,))

    def step(self, x: Tensor, state: Any) -> tuple[Any, Tensor]:
        given, seen = split(x, 3, axis=-1), split(add(matmul(state, self.u), self.c), 3, axis=-1)
        r, z = sigmoid(add(given[0], seen[0])), sigmoid(add(given[1], seen[1]))
        n = tanh(add(given[2], multiply(r, seen[2])))
        h = add(n, multiply(z, subtract(state, n)))
        return h, h


def _keeping(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Biases of an LSTM: 1 for the second gate."""
    bias = np.zeros(shape, np.float32)
    bias[shape[0] // 4 : shape[0] // 2] = 1
    return bias


def _time_first(x: Tensor) -> Tensor:
    return permute_dims(x, (x.ndim - 2, *range(x.ndim - 2), x.ndim - 1))


def _time_behind(x: Tensor) -> Tensor:
    return permute_dims(x, (*range(1, x.ndim - 1), 0, x.ndim - 1))
