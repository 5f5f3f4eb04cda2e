"""Layers that convolve, along one, two or three axes, and the same transposed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ..errors import ArgumentError
from ..graph import Tensor
from ..graph.arguments import as_count
from ..ops import init
from ..ops.conv import conv1d, conv1d_transpose, conv2d, conv2d_transpose, conv3d, conv3d_transpose
from ..ops.elementwise import add
from ..ops.shape import reshape
from ..ops.windows import as_steps
from .layer import Initial, Layer

Sizes = int | Sequence[int]


class _Conv(Layer):
    """Base of them all: filters, and a bias for each channel of the result."""

    rank: ClassVar[int]

    def __init__(
        self,
        shape: tuple[int, int],
        outputs: int,
        window: Sizes,
        weights: Initial,
        bias: Initial | None,
        dtype: Any,
        name: str,
        options: dict[str, Any],
    ) -> None:
        super().__init__(name, dtype)
        for option in ("stride", "dilation"):
            as_steps(options[option], self.rank, option)
        self.options = options
        self.w = self.weight("w", weights, (*shape, *as_steps(window, self.rank, "window")))
        self.b = None if bias is None else self.weight("b", bias, (outputs,))

    def apply(self, x: Any) -> Tensor:
        y = self.convolve(x, self.w, **self.options)
        return y if self.b is None else add(y, reshape(self.b, (*self.b.shape, *(1,) * self.rank)))

    def convolve(self, x: Any, w: Tensor, **options: Any) -> Tensor:
        """The function of the filters."""
        raise NotImplementedError


class Conv2d(_Conv):
    """Images convolved with filters, plus a bias for each channel of the result; see ``fg.nn.conv2d``.

    inputs    channels of the images (batch, inputs, height, width)
    outputs   channels of the result (batch, outputs, ..., ...), one for each filter
    window    size of the filters, one number or (height, width)
    stride    step between windows, one number or (vertical, horizontal)
    padding   "valid" (none), "same", a number, (vertical, horizontal), or ((top, bottom), (left, right))
    dilation  distance between the pixels that a filter meets
    groups    number of groups of channels that do not meet
    weights   of shape (outputs, inputs / groups, height, width): a function of the shape, an initializer or an array; or a variable
    bias      of shape (outputs,), likewise; None for no bias
    dtype     of its variables; None: as the initialisers say, float32 by default
    raises    ArgumentError when groups do not divide the channels; ShapeError when the images have other channels

    The variables are ``w`` and ``b``.

    >>> conv = fg.nn.Conv2d(1, 20, 5, name="conv1")
    >>> conv(fg.placeholder("images", (None, 1, 28, 28)))
    <Tensor conv1/add: (?, 20, 24, 24) float32>
    """

    rank = 2

    def __init__(
        self,
        inputs: int,
        outputs: int,
        window: Sizes,
        *,
        stride: Sizes = 1,
        padding: Any = "valid",
        dilation: Sizes = 1,
        groups: int = 1,
        weights: Initial = init.he_normal,
        bias: Initial | None = init.zeros,
        dtype: Any = None,
        name: str = "conv",
    ) -> None:
        inputs, outputs, groups = _channels(inputs, outputs, groups)
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        super().__init__((outputs, inputs // groups), outputs, window, weights, bias, dtype, name, options)

    def convolve(self, x: Any, w: Tensor, **options: Any) -> Tensor:
        return conv2d(x, w, **options)


class Conv1d(Conv2d):
    """Sequences (batch, inputs, length) convolved with filters (outputs, inputs / groups, width); else as ``Conv2d``.

    >>> fg.nn.Conv1d(8, 16, 3, padding="same")(fg.placeholder("x", ("batch", 8, 100)))
    <Tensor conv/add: (batch, 16, 100) float32>
    """

    rank = 1

    def convolve(self, x: Any, w: Tensor, **options: Any) -> Tensor:
        return conv1d(x, w, **options)


class Conv3d(Conv2d):
    """Volumes (batch, inputs, depth, height, width) convolved with filters of one dimension more; else as ``Conv2d``.

    >>> fg.nn.Conv3d(1, 4, (1, 3, 3))(fg.placeholder("x", ("batch", 1, 8, 8, 8)))
    <Tensor conv/add: (batch, 4, 8, 6, 6) float32>
    """

    rank = 3

    def convolve(self, x: Any, w: Tensor, **options: Any) -> Tensor:
        return conv3d(x, w, **options)


class ConvTranspose2d(_Conv):
    """Images from which each pixel sends its filters to a larger one, plus a bias for each channel; see ``fg.nn.conv2d_transpose``.

    inputs          channels of the images (batch, inputs, height, width)
    outputs         channels of the result
    window          size of the filters, one number or (height, width)
    stride          step between the places of two neighbouring pixels in the result
    padding         what is cut off the border of the result, in the forms of ``Conv2d``; "same" gives size * stride
    output_padding  rows and columns added below and right, fewer than the stride
    dilation, groups, bias, dtype  as for ``Conv2d``
    weights         of shape (inputs, outputs / groups, height, width): a function of the shape, an initializer or an array; or a variable
    raises          ArgumentError when groups do not divide the channels; ShapeError when the images have other channels

    The variables are ``w`` and ``b``.

    >>> up = fg.nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1)
    >>> up(fg.placeholder("x", ("batch", 16, 7, 7)))
    <Tensor conv_transpose/add: (batch, 8, 14, 14) float32>
    """

    rank = 2

    def __init__(
        self,
        inputs: int,
        outputs: int,
        window: Sizes,
        *,
        stride: Sizes = 1,
        padding: Any = "valid",
        output_padding: Sizes = 0,
        dilation: Sizes = 1,
        groups: int = 1,
        weights: Initial = init.glorot_normal,
        bias: Initial | None = init.zeros,
        dtype: Any = None,
        name: str = "conv_transpose",
    ) -> None:
        inputs, outputs, groups = _channels(inputs, outputs, groups)
        options = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation, "groups": groups}
        super().__init__((inputs, outputs // groups), outputs, window, weights, bias, dtype, name, options)

    def convolve(self, x: Any, w: Tensor, **options: Any) -> Tensor:
        return conv2d_transpose(x, w, **options)


class ConvTranspose1d(ConvTranspose2d):
    """Sequences (batch, inputs, length) and filters (inputs, outputs / groups, width); else as ``ConvTranspose2d``.

    >>> fg.nn.ConvTranspose1d(4, 2, 2, stride=2)(fg.placeholder("x", ("batch", 4, 10)))
    <Tensor conv_transpose/add: (batch, 2, 20) float32>
    """

    rank = 1

    def convolve(self, x: Any, w: Tensor, **options: Any) -> Tensor:
        return conv1d_transpose(x, w, **options)


class ConvTranspose3d(ConvTranspose2d):
    """Volumes (batch, inputs, depth, height, width) and filters of one dimension more; else as ``ConvTranspose2d``.

    >>> fg.nn.ConvTranspose3d(4, 2, 2, stride=2)(fg.placeholder("x", ("batch", 4, 3, 3, 3)))
    <Tensor conv_transpose/add: (batch, 2, 6, 6, 6) float32>
    """

    rank = 3

    def convolve(self, x: Any, w: Tensor, **options: Any) -> Tensor:
        return conv3d_transpose(x, w, **options)


def _channels(inputs: Any, outputs: Any, groups: Any) -> tuple[int, int, int]:
    inputs, outputs, groups = as_count(inputs, "inputs", 1), as_count(outputs, "outputs", 1), as_count(groups, "groups", 1)
    if inputs % groups or outputs % groups:
        raise ArgumentError(f"{groups} groups do not divide {inputs} and {outputs} channels")
    return inputs, outputs, groups
