"""Layers that convolve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import ArgumentError
from ..graph import Tensor
from ..ops import init
from ..ops.conv import conv2d
from ..ops.elementwise import add
from ..ops.shape import reshape
from ..ops.windows import as_steps
from .layer import Initial, Layer, whole


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
        inputs, outputs, groups = whole(inputs, "inputs"), whole(outputs, "outputs"), whole(groups, "groups")
        if inputs % groups or outputs % groups:
            raise ArgumentError(f"{groups} groups do not divide {inputs} and {outputs} channels")
        self.options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        self.w = self.weight("w", weights, (outputs, inputs // groups, *as_steps(window, 2, "window")))
        self.b = None if bias is None else self.weight("b", bias, (outputs,))

    def apply(self, x: Any) -> Tensor:
        y = conv2d(x, self.w, **self.options)
        return y if self.b is None else add(y, reshape(self.b, (*self.b.shape, 1, 1)))
