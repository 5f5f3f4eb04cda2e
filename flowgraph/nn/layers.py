"""Layers: they make their variables when constructed, and nodes when called."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ShapeError
from ..graph import Tensor, scope
from ..graph.spec import format_shape
from ..init import he_normal, zeros
from ..ops.conv import as_pair, conv2d
from ..ops.shape import reshape
from ..ops.state import variable


class Dense:
    """``x @ kernel + bias``, for ``x`` of shape (..., inputs).

    inputs, outputs  sizes of the last axis before and after
    kernel_init      function from a shape to an initializer
    bias             whether there is one (it starts at 0)

    >>> layer = fg.nn.Dense(3, 2, name="hidden")
    >>> layer(fg.placeholder("x", ("batch", 3)))
    <Tensor hidden/add: (batch, 2) float32>
    >>> [v.name for v in layer.variables]
    ['hidden/kernel', 'hidden/bias']
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        name: str = "dense",
        kernel_init: Callable[[tuple[int, ...]], Any] = he_normal,
        bias: bool = True,
    ) -> None:
        self.name = name
        with scope(name):
            self.kernel = variable(kernel_init((inputs, outputs)), name="kernel")
            self.bias = variable(zeros((outputs,)), name="bias") if bias else None

    @property
    def variables(self) -> list[Tensor]:
        """Its weights, in the order in which they were made."""
        return [self.kernel] if self.bias is None else [self.kernel, self.bias]

    def __call__(self, x: Tensor) -> Tensor:
        """Adds the layer's nodes."""
        with scope(self.name):
            product = x @ self.kernel
            return product if self.bias is None else product + self.bias


class Conv2d:
    """Convolution of images (batch, inputs, height, width) with learnt filters, plus a bias for each filter.

    inputs, outputs  numbers of channels before and after
    window           size of a filter, one number or (height, width)
    stride, padding, dilation, groups  as for fg.nn.conv2d

    >>> fg.nn.Conv2d(1, 20, 5, name="conv1")(fg.placeholder("x", ("batch", 1, 28, 28)))
    <Tensor conv1/add: (batch, 20, 24, 24) float32>
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        window: int | tuple[int, int],
        *,
        name: str = "conv",
        stride: int | tuple[int, int] = 1,
        padding: str | int | Sequence[Any] = "valid",
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        kernel_init: Callable[[tuple[int, ...]], Any] = he_normal,
        bias: bool = True,
    ) -> None:
        self.name = name
        self.options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        with scope(name):
            self.kernel = variable(kernel_init((outputs, inputs // groups, *as_pair(window, "window"))), name="kernel")
            self.bias = variable(zeros((outputs, 1, 1)), name="bias") if bias else None

    @property
    def variables(self) -> list[Tensor]:
        """Its weights, in the order in which they were made."""
        return [self.kernel] if self.bias is None else [self.kernel, self.bias]

    def __call__(self, x: Tensor) -> Tensor:
        """Adds the layer's nodes."""
        with scope(self.name):
            y = conv2d(x, self.kernel, **self.options)
            return y if self.bias is None else y + self.bias


def flatten(x: Tensor) -> Tensor:
    """``x`` (batch, ...) as (batch, features). raises ShapeError when a size behind the batch is not known.

    >>> fg.nn.flatten(fg.placeholder("x", (None, 50, 4, 4)))
    <Tensor reshape: (?, 800) float32>
    """
    rest = x.shape[1:]
    if not all(isinstance(d, int) for d in rest):
        raise ShapeError(f"flatten: the sizes behind the batch must be known, got {format_shape(x.shape)}")
    return reshape(x, (-1, math.prod(rest)))  # type: ignore[arg-type]
