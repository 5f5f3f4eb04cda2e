"""Images before they reach a graph: standardised once, or shifted at random batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import ArgumentError, ShapeError
from .rows import whole


def standardize(images: NDArray[Any], mean: ArrayLike | None = None, std: ArrayLike | None = None) -> NDArray[np.float32]:
    """``(images - mean) / std`` as a new float32 array of the same shape.

    images  number array of any shape
    mean    a number, or an array that broadcasts against ``images``; measured over all of ``images`` where it is None
    std     likewise, greater than 0. Test images take the training images' mean and std
    raises  ArgumentError if std is 0, as for images of one single value, or if only one of mean and std is given

    >>> train, test = np.array([[0, 200], [0, 200]], np.uint8), np.array([[100, 250]], np.uint8)
    >>> fg.data.standardize(train)
    array([[-1.,  1.],
           [-1.,  1.]], dtype=float32)
    >>> fg.data.standardize(test, train.mean(), train.std())
    array([[0. , 1.5]], dtype=float32)
    """
    images = np.asarray(images)
    if images.dtype.kind not in "biuf":
        raise ArgumentError(f"standardize: images are numbers, got {images.dtype}")
    if (mean is None) != (std is None):
        raise ArgumentError("standardize: give both mean and std, or neither")
    if mean is None or std is None:
        if images.size == 0:
            raise ShapeError(f"standardize: no mean and std in images of shape {images.shape}, which hold no number")
        mean, std = _moments(images)
    mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    if not np.all(std > 0):
        raise ArgumentError(f"standardize: std is {std}, but it has to be greater than 0")
    result: NDArray[np.float32] = np.subtract(images, mean, dtype=np.float32, casting="same_kind")
    np.divide(result, std, out=result, dtype=np.float32, casting="same_kind")
    return result


def random_shift(pixels: int, *, fill: float = 0.0, part: int | str = 0) -> RandomShift:
    """A transform for ``batches`` that shifts each image by its own random offset.

    pixels   the largest shift; every offset from -pixels to pixels is equally likely, down and across
    fill     the value that comes in at the rim; for standardised images, the background's value
    part     where the images are in a batch that is a tuple, list or dict: its position or key
    returns  a callable (batch, rng) -> batch. Images have shape (rows, ..., height, width) and any dtype; channels move
             together
    raises   ShapeError for images with fewer than three dimensions

    >>> images = np.ones((2, 3, 3), np.uint8)
    >>> shift = fg.data.random_shift(1)
    >>> shift(images, np.random.default_rng(0))
    array([[[1, 1, 1],
            [1, 1, 1],
            [0, 0, 0]],
    <BLANKLINE>
           [[0, 1, 1],
            [0, 1, 1],
            [0, 1, 1]]], dtype=uint8)
    """
    return RandomShift(whole(pixels, "random_shift: pixels", at_least=0), fill, part)


@dataclass(frozen=True)
class RandomShift:
    """What ``random_shift`` returns."""

    pixels: int
    fill: float
    part: int | str

    def __repr__(self) -> str:
        return f"random_shift({self.pixels})"

    def __call__(self, batch: Any, rng: np.random.Generator) -> Any:
        if isinstance(batch, Mapping):
            if self.part not in batch:
                raise ArgumentError(
                    f"random_shift: the batch has no part {self.part!r}, but {', '.join(map(repr, batch))}",
                    help=f"random_shift({self.pixels}, part=...) says where the images are",
                )
            return {**batch, self.part: self._shift(batch[self.part], rng)}
        if isinstance(batch, (tuple, list)):
            parts = list(batch)
            parts[int(self.part)] = self._shift(parts[int(self.part)], rng)
            return batch._make(parts) if hasattr(batch, "_make") else type(batch)(parts)
        return self._shift(batch, rng)

    def _shift(self, images: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        if images.ndim < 3:
            raise ShapeError(f"random_shift: images need a shape (rows, ..., height, width), got {images.shape}")
        k, (height, width) = self.pixels, images.shape[-2:]
        padded = np.full((*images.shape[:-2], height + 2 * k, width + 2 * k), self.fill, images.dtype)
        padded[..., k : k + height, k : k + width] = images
        # Every shift of every image is a view into the padded ones, and one gather copies the chosen: 94 us for 128
        # images of 28 x 28 float32. A loop over images takes 138 us, a gather of pixels 180 us, one a shift 200 us.
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(-2, -1))
        windows = np.moveaxis(windows, (-4, -3), (1, 2))
        down, across = rng.integers(0, 2 * k + 1, size=(2, len(images)))
        return np.ascontiguousarray(windows[np.arange(len(images)), down, across])


def _moments(images: NDArray[Any]) -> tuple[float, float]:
    # In float64, in pieces that fit a core's cache: 0.06 s for MNIST, where images.std() makes 750 MB of copies.
    flat = images.reshape(-1)
    pieces = [slice(start, start + 2**14) for start in range(0, flat.size, 2**14)]
    mean = sum(float(flat[piece].sum(dtype=np.float64)) for piece in pieces) / flat.size
    variance = sum(float(np.square(flat[piece] - np.float64(mean)).sum()) for piece in pieces) / flat.size
    return mean, float(np.sqrt(variance))
