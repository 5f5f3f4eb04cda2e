"""Sheets of images: pictures, filters of convolutions, in rows and columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph.arguments import as_count
from ..io.numbers import as_numbers
from ..io.pixels import Limits, as_images, columns_of
from .plot import GREY, File, Plot

MOST = 16  # inputs of a filter, and filters, where each has a row of its own


def images(
    images: Any,
    file: File = None,
    titles: Sequence[str] | None = None,
    *,
    rows: Sequence[str] | None = None,
    columns: int | None = None,
    limits: Limits = None,
    cmap: str = "gray",
) -> Any:
    """A sheet of images, row by row.

    images   (count, height, width), or in colours (count, channels, height, width) with 1, 3 or 4 channels
    file     where to write it, its ending says the format; None: the `Plot` is returned, which a notebook shows
    titles   one for each image, written above it
    rows     one for each row, written on its left; says how many rows there are
    columns  images in a row; None: as many as make the sheet somewhat wider than high
    limits   the values that get the first and the last colour of ``cmap``; None: the least and the largest of each image
    returns  the path, or without a file the plot
    raises   ShapeError for an array of other dimensions, ArgumentError for no images or another number of titles, MissingExtraError
             without matplotlib

    >>> fg.viz.images(np.random.default_rng(0).random((6, 8, 8)), "sheet.png", rows=["step 0", "step 1000"])
    PosixPath('sheet.png')
    """
    array = as_images(images, "images")
    if titles is not None and len(titles) != len(array):
        raise ArgumentError(f"images: {len(titles)} titles for {len(array)} images")
    if rows is not None:
        if not len(rows) or len(array) % len(rows):
            raise ArgumentError(f"images: {len(array)} images do not fill {len(rows)} rows")
        columns = len(array) // len(rows)
    elif columns is not None:
        columns = as_count(columns, "images: columns", 1)
    if limits is not None and not (isinstance(limits, list | tuple) and len(limits) == 2):
        raise ArgumentError(f"images: limits are two numbers, the least and the largest, got {limits!r:.80}")
    return _sheet(array, columns_of(len(array), columns), titles, rows, limits, cmap, "").to(file)


def filters(weights: Any, file: File = None, *, columns: int | None = None) -> Any:
    """The filters of a convolution, blue below 0 and red above, all by one scale.

    weights  (out, in, height, width), as ``session.variables["conv1/w"]``. Filters of one input stand in a sheet, those of three are shown
             in colours; where there are more inputs, each filter has a row with its inputs, up to 16 of both. Or (count, height, width)
    file, columns, returns  as for `images`
    raises   ShapeError, ArgumentError for what are no filters

    >>> conv = fg.nn.Conv2d(1, 8, 5, name="conv")
    >>> fg.viz.filters(session.variables["conv/w"], "filters.png")
    PosixPath('filters.png')
    """
    array = as_numbers(weights, "filters: weights").astype(np.float64)
    if array.ndim not in (3, 4):
        raise ShapeError(
            f"filters: weights are (out, in, height, width) or (count, height, width), got {array.shape}",
            help="w.T.reshape(-1, 28, 28) makes images of a matrix (784, units)",
        )
    if not array.size:
        raise ArgumentError(f"filters: there are none in an array {array.shape}")
    columns = None if columns is None else as_count(columns, "filters: columns", 1)
    limit = float(np.abs(array[np.isfinite(array)]).max(initial=0.0)) or 1.0
    scale = f"blue {-limit:.3g} … {limit:.3g} red"
    if array.ndim == 3 or array.shape[1] == 1:
        array = array.reshape(len(array), *array.shape[-2:], 1)
        return _sheet(array, columns_of(len(array), columns), None, None, (-limit, limit), "RdBu_r", scale).to(file)
    if array.shape[1] == 3:
        shown = np.moveaxis(array, 1, -1)
        scale = f"colours {-limit:.3g} … {limit:.3g}"
        return _sheet(shown, columns_of(len(array), columns), None, None, (-limit, limit), "gray", scale).to(file)
    outs, ins = array.shape[:2]
    shown = array[:MOST, :MOST]
    if outs > MOST or ins > MOST:
        scale = f"{len(shown)} of {outs} filters, {shown.shape[1]} of {ins} inputs; {scale}"
    rows = [str(i) for i in range(len(shown))]
    cells = shown.reshape(-1, *shown.shape[2:], 1)
    return _sheet(cells, shown.shape[1], None, rows, (-limit, limit), "RdBu_r", scale).to(file)


def _sheet(
    array: np.ndarray[Any, Any],
    columns: int,
    titles: Sequence[str] | None,
    rows: Sequence[str] | None,
    limits: Limits,
    cmap: str,
    note: str,
) -> Plot:
    """Images (count, height, width, channels) in one pair of axes, which is many times as quick as one pair for each."""
    count, height, width, channels = array.shape
    lines, tall = math.ceil(count / columns), height / width
    gap, above = 0.08, 0.0 if titles is None else 0.25
    inch = min(1.0, 9 / columns)  # the width of an image
    across, down = columns * (1 + gap) - gap, lines * (tall + gap + above) - gap
    left = 0.0 if rows is None else max(len(part) for row in rows for part in str(row).split("\n")) * 0.075 + 0.1
    below = 0.25 if note else 0.0
    plot = Plot(max(across * inch + left, 0.066 * len(note)), down * inch + below, free=True)
    high, wide = plot.figure.get_figheight(), plot.figure.get_figwidth()
    axis = plot.figure.add_axes((left / wide, below / high, across * inch / wide, 1 - below / high))
    axis.axis("off")
    for i, image in enumerate(array):
        row, column = divmod(i, columns)
        x, y = column * (1 + gap), row * (tall + gap + above) + above
        if titles is not None:
            axis.text(x + 0.5, y - 0.06, str(titles[i]), ha="center", fontsize=9)
        if rows is not None and column == 0:
            axis.text(-0.1 / inch, y + tall / 2, str(rows[row]), ha="right", va="center", fontsize=9)
        shown = image[..., 0] if channels == 1 else _colours(image, limits)
        low, top = limits if limits is not None else (None, None)
        axis.imshow(shown, cmap=cmap, vmin=low, vmax=top, extent=(x, x + 1, y + tall, y), interpolation="nearest")
    axis.set(xlim=(0, across), ylim=(down, 0))
    if note:
        plot.figure.text(0.5, 0.08 / high, note, ha="center", va="bottom", fontsize=8, color=GREY)
    return plot


def _colours(image: np.ndarray[Any, Any], limits: Limits) -> np.ndarray[Any, Any]:
    """Channels as numbers from 0 to 1."""
    if image.dtype == np.uint8 and limits is None:
        return image
    values = image.astype(np.float64)
    low, high = limits if limits is not None else (np.nanmin(values), np.nanmax(values))
    return np.nan_to_num(np.clip((values - low) / ((high - low) or 1.0), 0, 1))
