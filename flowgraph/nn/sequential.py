"""Layers and functions one after another, and what stands between images and matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import ArgumentError, ShapeError
from ..graph import Tensor
from ..graph.spec import format_shape
from ..ops.elementwise import add
from ..ops.shape import reshape


class Sequential:
    """Functions of a tensor, one after another: layers, ``fg.nn.relu``, any function of your own.

    variables  those of its layers, each once

    >>> net = fg.nn.Sequential(fg.nn.Linear(784, 625), fg.nn.relu, fg.nn.Linear(625, 10))
    >>> net(fg.placeholder("x", (None, 784)))
    <Tensor linear_1/add: (?, 10) float32>
    >>> [w.name for w in net.variables]
    ['linear/w', 'linear/b', 'linear_1/w', 'linear_1/b']
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
