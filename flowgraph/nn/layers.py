"""Layers: functions of a tensor that own their weights.

A layer makes its variables when it is made, in a scope of its name, and its operations when it is called, in a scope of
that name again. Calling it twice uses the same weights twice. Whatever takes a tensor and gives one can stand beside it
in a ``Sequential``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import Tensor, get_default_graph, scope
from ..graph.spec import format_shape
from ..ops import init
from ..ops.conv import conv2d
from ..ops.elementwise import add
from ..ops.matmul import matmul
from ..ops.shape import reshape
from ..ops.state import Initializer, variable
from ..ops.windows import as_steps

# How weights begin: a function of their shape, such as fg.init.he_normal, or what it gives: an initializer or an array.
Initial = Callable[..., Any] | np.ndarray[Any, Any]


class Layer:
    """Base of the layers that own variables.

    name       of its scope; gets a number where another layer has it already
    variables  what it owns, in the order of making

    A subclass makes its weights with ``weight``, and says in ``apply`` what it computes:

    >>> class Scale(fg.nn.Layer):
    ...     def __init__(self, size, name="scale"):
    ...         super().__init__(name)
    ...         self.w = self.weight("w", fg.init.ones, (size,))
    ...
    ...     def apply(self, x):
    ...         return x * self.w
    >>> scale = Scale(3)
    >>> session.run(scale([1.0, 2.0, 3.0]))
    array([1., 2., 3.])
    >>> scale.variables
    [<Tensor scale/w: (3,) float32>]
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.variables: list[Tensor] = []

    def __call__(self, x: Any) -> Tensor:
        with scope(self.name):
            return self.apply(x)

    def apply(self, x: Any) -> Tensor:
        """What the layer computes from ``x``; called in its scope."""
        raise NotImplementedError(f"{type(self).__name__} needs a method apply(self, x) that says what it computes")

    def weight(self, name: str, initial: Initial, shape: tuple[int, ...]) -> Tensor:
        """A new variable of the layer.

        initial  a function of the shape, such as ``fg.init.he_normal``, or what it gives: an initializer or an array
        raises   ShapeError when that has another shape
        """
        if not self.variables:
            self.name = _unused(self.name, name)
        if not isinstance(initial, Initializer | np.ndarray):
            initial = initial(shape)
        with scope(self.name):
            made = variable(initial, name=name, shape=shape)
        self.variables.append(made)
        return made

    def __repr__(self) -> str:
        owned = ", ".join(f"{w.name} {format_shape(w.shape)}" for w in self.variables)
        return f"<{type(self).__name__} {self.name}: {owned}>"


class Dense(Layer):
    """Each row of ``x`` times a matrix, plus a bias: ``x @ w + b``.

    inputs   size of the last axis of x
    outputs  size of the last axis of the result
    weights  of shape (inputs, outputs): a function of the shape, an initializer or an array
    bias     of shape (outputs,), likewise; None for no bias
    raises   ShapeError when the last size of x is not ``inputs``

    The variables are ``w`` and ``b``.

    >>> dense = fg.nn.Dense(784, 10)
    >>> x = fg.placeholder("x", ("batch", 784))
    >>> dense(x)
    <Tensor dense/add: (batch, 10) float32>
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        weights: Initial = init.he_normal,
        bias: Initial | None = init.zeros,
        name: str = "dense",
    ) -> None:
        super().__init__(name)
        inputs, outputs = _size(inputs, "inputs"), _size(outputs, "outputs")
        self.w = self.weight("w", weights, (inputs, outputs))
        self.b = None if bias is None else self.weight("b", bias, (outputs,))

    def apply(self, x: Any) -> Tensor:
        y = matmul(x, self.w)
        return y if self.b is None else add(y, self.b)


class Conv2d(Layer):
    """Images convolved with filters, plus a bias for each channel of the result; see ``fg.nn.conv2d``.

    inputs    channels of the images (batch, inputs, height, width)
    outputs   channels of the result (batch, outputs, ..., ...), one for each filter
    window    size of the filters, one number or (height, width)
    stride    step between windows, one number or (vertical, horizontal)
    padding   "valid" (none), "same", a number, (vertical, horizontal), or ((top, bottom), (left, right))
    dilation  distance between the pixels that a filter meets
    groups    number of groups of channels that do not meet
    weights   of shape (outputs, inputs / groups, height, width): a function of the shape, an initializer or an array
    bias      of shape (outputs,), likewise; None for no bias
    raises    ArgumentError when groups do not divide the channels; ShapeError when the images have other channels

    The variables are ``w`` and ``b``.

    >>> conv = fg.nn.Conv2d(1, 20, 5, name="conv1")
    >>> conv(fg.placeholder("images", (None, 1, 28, 28)))
    <Tensor conv1/add: (?, 20, 24, 24) float32>
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        window: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: Any = "valid",
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        weights: Initial = init.he_normal,
        bias: Initial | None = init.zeros,
        name: str = "conv",
    ) -> None:
        super().__init__(name)
        inputs, outputs, groups = _size(inputs, "inputs"), _size(outputs, "outputs"), _size(groups, "groups")
        if inputs % groups or outputs % groups:
            raise ArgumentError(f"{groups} groups do not divide {inputs} and {outputs} channels")
        self.options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        self.w = self.weight("w", weights, (outputs, inputs // groups, *as_steps(window, 2, "window")))
        self.b = None if bias is None else self.weight("b", bias, (outputs,))

    def apply(self, x: Any) -> Tensor:
        y = conv2d(x, self.w, **self.options)
        return y if self.b is None else add(y, reshape(self.b, (*self.b.shape, 1, 1)))


class Sequential:
    """Functions of a tensor, one after another: layers, ``fg.nn.relu``, any function of your own.

    variables  those of its layers, each once

    >>> net = fg.nn.Sequential(fg.nn.Dense(784, 625), fg.nn.relu, fg.nn.Dense(625, 10))
    >>> net(fg.placeholder("x", (None, 784)))
    <Tensor dense_1/add: (?, 10) float32>
    >>> [w.name for w in net.variables]
    ['dense/w', 'dense/b', 'dense_1/w', 'dense_1/b']
    """

    def __init__(self, *layers: Callable[[Tensor], Tensor]) -> None:
        for position, layer in enumerate(layers):
            if not callable(layer):
                raise ArgumentError(f"Sequential: {layer!r:.80} at position {position} is no layer and no function")
        self.layers = layers

    @property
    def variables(self) -> list[Tensor]:
        found = {id(w): w for layer in self.layers for w in getattr(layer, "variables", ())}
        return list(found.values())

    def __call__(self, x: Any) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[Callable[[Tensor], Tensor]]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, position: int) -> Callable[[Tensor], Tensor]:
        return self.layers[position]

    def __repr__(self) -> str:
        return f"<Sequential: {', '.join(getattr(layer, '__name__', repr(layer)) for layer in self.layers)}>"


def flatten(x: Any) -> Tensor:
    """``x`` with all axes but the first, the batch, made one: (batch, channels, height, width) to (batch, features).

    raises  ShapeError for a scalar, and where two sizes behind the batch are unknown before a run

    >>> fg.nn.flatten(fg.placeholder("images", ("batch", 50, 4, 4)))
    <Tensor reshape: (batch, 800) float32>
    """
    (x,) = add.lift((x,))
    if not x.shape:
        raise ShapeError(f"flatten: {x.name} is a scalar, which has no batch")
    batch, rest = x.shape[0], x.shape[1:]
    if isinstance(batch, int) and not x.is_known:
        return reshape(x, (batch, -1))
    if not all(isinstance(dim, int) for dim in rest):
        raise ShapeError(
            f"flatten: of {x.name} {format_shape(x.shape)}, more is unknown than the batch",
            help="fg.reshape(x, (-1, features)) where the number of features is known",
        )
    return reshape(x, (batch if isinstance(batch, int) else -1, math.prod(rest)))


def _unused(name: str, inside: str) -> str:
    """``name``, or ``name_1`` and so on where a scope of that name has something called ``inside`` already."""
    graph, number, free = get_default_graph(), 0, name
    while True:
        with scope(free) as path:
            if f"{path}/{inside}" not in graph:
                return free
        number += 1
        free = f"{name}_{number}"


def _size(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ArgumentError(f"{what}: a positive number is expected, got {value!r:.80}")
    return int(value)
