"""What goes on in a network for given examples: the activations of its layers, and which pixels a score depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..autodiff import gradients
from ..errors import ArgumentError, ShapeError
from ..graph import Tensor
from ..graph.arguments import as_count
from ..graph.spec import format_shape
from ..io.numbers import on_host
from ..ops.reduce import max as largest
from ..ops.reduce import sum as total
from .plot import GREY, File, Plot


def activations(
    session: Any,
    tensors: Tensor | Sequence[Tensor],
    feeds: Mapping[Tensor, Any],
    file: File = None,
    *,
    example: int = 0,
    most: int = 16,
) -> Any:
    """What layers make of an example: a row for each tensor, with an image for each channel.

    session  that runs them
    tensors  one or several: (batch, channels, height, width) as a row of images, (batch, features) as a strip, and (batch, time, features)
             as one image
    feeds    for the run, with a batch of examples
    file     where to write it, its ending says the format; None: the `Plot` is returned, which a notebook shows
    example  which of the batch is shown
    most     channels that are shown of each tensor, those first
    returns  the path, or without a file the plot
    raises   ShapeError for a tensor of another number of axes, ArgumentError for an example that is not there

    Beside a row stands how many of its channels are 0 in the whole batch: after a ReLU, units that have died.

    >>> x = fg.placeholder("x", ("batch", 1, 12, 12))
    >>> h = fg.nn.relu(fg.nn.Conv2d(1, 8, 3)(x))
    >>> fg.viz.activations(session, [x, h], {x: np.random.default_rng(0).random((4, 1, 12, 12), np.float32)}, "activations.png")
    PosixPath('activations.png')
    """
    several = [tensors] if isinstance(tensors, Tensor) else list(tensors) if isinstance(tensors, list | tuple) else []
    if not several or not all(isinstance(each, Tensor) for each in several):
        raise ArgumentError(f"activations: tensors of the session's graph are expected, got {tensors!r:.80}")
    example, most = as_count(example, "activations: example"), as_count(most, "activations: most", 1)
    values = [np.asarray(value) for value in _run(session, several, feeds, "activations")]
    for tensor, value in zip(several, values):
        if not 2 <= value.ndim <= 4 or not value.size:
            shapes = "(batch, channels, height, width), (batch, time, features) or (batch, features)"
            raise ShapeError(f"activations: {tensor.name} is {value.shape}; what can be shown is {shapes}")
        if example >= len(value):
            raise ArgumentError(f"activations: example {example} of {tensor.name}, which has {len(value)}, from 0 on")
    labels = [_label(tensor, value, most) for tensor, value in zip(several, values)]
    return _rows(labels, [value[example].astype(np.float64) for value in values], most).to(file)


def _rows(labels: Sequence[str], values: Sequence[np.ndarray[Any, Any]], most: int) -> Plot:
    """A row of images for values (channels, height, width), one image for others; each row with its label on its left. In inches."""
    cells = max(6, *(min(len(value), most) if value.ndim == 3 else 1 for value in values))
    side = 9 / cells
    heights = [side * value.shape[1] / value.shape[2] if value.ndim == 3 else 0.35 if value.ndim == 1 else 1.2 for value in values]
    rows = [max(height, 0.15 * (label.count("\n") + 1)) + 0.12 for height, label in zip(heights, labels)]
    left = max(len(line) for label in labels for line in label.split("\n")) * 0.075 + 0.15
    plot = Plot(left + 9, sum(rows), free=True)
    width, height = plot.figure.get_size_inches()

    def image(value: np.ndarray[Any, Any], x: float, middle: float, wide: float, tall: float, limits: dict[str, float]) -> None:
        axis = plot.figure.add_axes((x / width, (middle - tall / 2) / height, wide / width, tall / height))
        axis.axis("off")
        axis.imshow(value, cmap="viridis", aspect="auto", interpolation="nearest", **limits)

    top = height
    for label, value, tall, row in zip(labels, values, heights, rows):
        middle, top = top - row / 2, top - row
        plot.figure.text((left - 0.1) / width, middle / height, label, ha="right", va="center", fontsize=8)
        limits = {"vmin": value.min(), "vmax": value.max()} if np.isfinite(value).all() else {}
        if value.ndim == 3:
            for i, channel in enumerate(value[:most]):
                image(channel, left + i * side, middle, 0.94 * side, 0.94 * tall, limits)
        else:
            image(value[None] if value.ndim == 1 else value.T, left, middle, 9 - 0.06 * side, tall, limits)
    return plot


def _label(tensor: Tensor, value: np.ndarray[Any, Any], most: int) -> str:
    lines = [tensor.name]
    if value.ndim == 4:
        count = value.shape[1]
        shown = f"{most} of {count}" if count > most else f"{count}"
        lines.append(f"{shown} channel{'s' * (count > 1)}, {value.shape[2]}×{value.shape[3]}")
    else:
        lines.append(f"{value.shape[-1]} features" + (f", {value.shape[1]} times" if value.ndim == 3 else ""))
    axis = 1 if value.ndim == 4 else value.ndim - 1
    dead = int((np.moveaxis(value, axis, 0).reshape(value.shape[axis], -1) == 0).all(axis=1).sum())
    if dead:
        lines.append(f"{dead} always 0")
    return "\n".join(lines)


def saliency(
    session: Any,
    score: Tensor,
    image: Tensor,
    feeds: Mapping[Tensor, Any],
    file: File = None,
    *,
    most: int = 8,
) -> Any:
    """Which pixels a score depends on: each image, and below it the size of the score's gradient by its pixels.

    session  that runs it
    score    a loss or a score, a scalar or one for each image (batch,); of scores (batch, classes) that of the best class counts
    image    the tensor that it is differentiated by, (batch, height, width) or (batch, channels, height, width): a placeholder mostly
    feeds    for the run
    file     where to write it, its ending says the format; None: the `Plot` is returned, which a notebook shows
    most     images that are shown, the first of the batch
    returns  the path, or without a file the plot
    raises   ShapeError for tensors of other shapes, GradientError where the score does not depend on the image

    The gradient becomes part of the graph, once for each score and image.

    Simonyan, Vedaldi and Zisserman, Deep Inside Convolutional Networks (2013, arXiv:1312.6034), section 3.

    >>> x = fg.placeholder("x", ("batch", 1, 12, 12))
    >>> scores = fg.nn.Linear(144, 10)(fg.nn.flatten(x))
    >>> fg.viz.saliency(session, scores, x, {x: np.random.default_rng(0).random((4, 1, 12, 12), np.float32)}, "saliency.png")
    PosixPath('saliency.png')
    """
    most = as_count(most, "saliency: most", 1)
    for name, tensor in (("score", score), ("image", image)):
        if not isinstance(tensor, Tensor):
            raise ArgumentError(f"saliency: {name} is a tensor of the session's graph, got {tensor!r:.80}")
    if image.ndim not in (3, 4):
        shapes = "(batch, height, width) or (batch, channels, height, width)"
        raise ShapeError(f"saliency: the image is {shapes}, {image.name} is {format_shape(image.shape)}")
    if score.ndim > 2:
        raise ShapeError(f"saliency: a score is (), (batch,) or (batch, classes), {score.name} is {format_shape(score.shape)}")
    made = image.graph.memo.setdefault("saliency", {})
    if (score, image) not in made:
        with image.graph:
            best = largest(score, axis=1) if score.ndim == 2 else score
            (made[score, image],) = gradients(total(best), image)
    pictures, slopes = (np.asarray(value, np.float64) for value in _run(session, [image, made[score, image]], feeds, "saliency"))
    count = min(len(pictures), most)
    if not count:
        raise ArgumentError("saliency: the batch has no images")
    channels = 1 if image.ndim == 3 else pictures.shape[1]
    pictures = pictures[:count].reshape(count, channels, *pictures.shape[-2:])
    sizes = np.abs(slopes[:count].reshape(pictures.shape)).max(axis=1)
    plot = Plot(1.3 * count + 0.9, 2.75)
    axes = plot.axes(2, count)
    for column in range(count):
        low, high = pictures[column].min(), pictures[column].max()
        shown = pictures[column].mean(axis=0) if channels != 3 else np.moveaxis((pictures[column] - low) / ((high - low) or 1.0), 0, -1)
        axes[0, column].imshow(shown, cmap="gray", interpolation="nearest")
        axes[1, column].imshow(sizes[column], cmap="inferno", vmin=0, interpolation="nearest")
        axes[1, column].set_xlabel(f"≤ {sizes[column].max():.2g}", fontsize=8, color=GREY)
    for axis in axes.flat:
        axis.spines[:].set_visible(False)
        axis.set(xticks=[], yticks=[])
    axes[0, 0].set_ylabel("image", fontsize=9)
    axes[1, 0].set_ylabel("|gradient|", fontsize=9)
    return plot.to(file)


def _run(session: Any, tensors: Sequence[Tensor], feeds: Any, what: str) -> Any:
    if not callable(getattr(session, "run", None)):
        raise ArgumentError(f"{what}: a session is expected, got {session!r:.80}", help="it holds the values of the variables")
    return [on_host(value) for value in session.run(list(tensors), feeds)]
