"""Layers and functions one after another, and what stands between images and matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import ArgumentError, ShapeError
from ..graph import Tensor
from ..graph.spec import format_shape
from ..ops.elementwise import add
from ..ops.shape import reshape
from .layer import Layer


class Sequential(Layer):
    """Functions of a tensor, one after another: layers, ``fg.nn.relu``, any function of your own.

    A keyword argument of a call, such as ``training`` or ``causal``, goes to all layers whose ``apply`` takes one of that name; a function
    of tensors gets none. A Sequential has no scope of its own: the layers were made before it.

    >>> net = fg.nn.Sequential(fg.nn.Linear(784, 625), fg.nn.relu, fg.nn.Dropout(0.5), fg.nn.Linear(625, 10))
    >>> net(fg.placeholder("x", (None, 784)), training=False)
    <Tensor linear_1/add: (?, 10) float32>
    >>> list(net.parameters)
    ['linear/w', 'linear/b', 'linear_1/w', 'linear_1/b']
    >>> net[:2]
    <Sequential: <Linear linear: linear/w (784, 625), linear/b (625,)>, relu>

    A stack of transformer blocks that look back only:

    >>> blocks = fg.nn.Sequential(*[fg.nn.TransformerBlock(32, 4) for _ in range(2)])
    >>> blocks(fg.placeholder("h", ("batch", "time", 32)), causal=True, training=False)
    <Tensor block_1/add_1: (batch, time, 32) float32>
    """

    def __init__(self, *functions: Callable[..., Tensor]) -> None:
        for position, function in enumerate(functions):
            if not callable(function):
                help = "fg.nn.Sequential(*layers)" if isinstance(function, list | tuple) else None
                raise ArgumentError(f"Sequential: {function!r:.80} at position {position} is no layer and no function", help=help)
            if isinstance(function, type) and issubclass(function, Layer):
                what = f"{function.__name__} at position {position}"
                raise ArgumentError(f"Sequential: {what} is a class and no layer", help=f"make one of it: {function.__name__}(...)")
        self.name, self.dtype, self._own, self._made = "Sequential", None, [], []
        self.functions = functions

    @contextmanager
    def scope(self) -> Iterator[None]:
        """No scope of its own."""
        yield

    def apply(self, x: Any, *, training: bool | Tensor | None, **options: Any) -> Any:
        known = _options_of(self)
        for name in options:
            if name not in known and "**" not in known:
                help = f"they take {', '.join(sorted(known))}" if known else None
                raise ArgumentError(f"Sequential: none of its layers takes {name!r}", help=help)
        for function in self.functions:
            if isinstance(function, Layer):
                taken = _options_of(function)
                given = {name: value for name, value in options.items() if name in taken or "**" in taken}
                x = function(x, training=training, **given)
            else:
                x = function(x)
        return x

    def __iter__(self) -> Iterator[Callable[..., Tensor]]:
        return iter(self.functions)

    def __len__(self) -> int:
        return len(self.functions)

    def __getitem__(self, position: int | slice) -> Any:
        found = self.functions[position]
        return Sequential(*found) if isinstance(found, tuple) else found

    def __repr__(self) -> str:
        return f"<Sequential: {', '.join(getattr(function, '__name__', repr(function)) for function in self.functions)}>"


def _options_of(layer: Layer) -> frozenset[str]:
    """The keyword arguments that a layer takes; those of a Sequential are what its layers take."""
    if not isinstance(layer, Sequential):
        return layer._options
    return frozenset(name for each in layer.functions if isinstance(each, Layer) for name in _options_of(each))


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
