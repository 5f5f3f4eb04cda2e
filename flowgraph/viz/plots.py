"""Plots for lessons and training: filters, curves, confusion matrices, sheets of images. They need matplotlib (extra ``plot``)."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError, MissingExtraError, ShapeError
from ..graph.arguments import as_count


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError.of("matplotlib", "plot") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def images(
    array: Any,
    file: str | os.PathLike[str],
    titles: Sequence[str] | None = None,
    *,
    columns: int | None = None,
    limits: tuple[float, float] | None = None,
    cmap: str = "gray",
) -> Path:
    """A sheet of grey images (count, height, width), written to ``file``; returns its path.

    titles   one for each image
    columns  images in a row; None: as many as make the sheet somewhat wider than high
    limits   the values that get the first and the last colour of ``cmap``; None: the least and the largest of each image
    raises   ShapeError for an array of other dimensions, ArgumentError for no images or another number of titles, MissingExtraError
             without matplotlib
    """
    array = np.asarray(array)
    if array.ndim != 3:
        raise ShapeError(f"images: an array (count, height, width) is expected, got {array.shape}", help="array.reshape(-1, 28, 28)")
    if not len(array):
        raise ArgumentError("images: there are none")
    if titles is not None and len(titles) != len(array):
        raise ArgumentError(f"images: {len(titles)} titles for {len(array)} images")
    if columns is None:
        columns = min(math.ceil(math.sqrt(len(array) * 1.6)), len(array))
    else:
        columns = as_count(columns, "images: columns", 1)
    rows = math.ceil(len(array) / columns)
    low, high = limits if limits is not None else (None, None)
    figure = _figure(1.1 * columns, (1.1 if titles is None else 1.35) * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for i, axis in enumerate(axes.flat):
        axis.axis("off")
        if i < len(array):
            axis.imshow(array[i], cmap=cmap, vmin=low, vmax=high)
            if titles is not None:
                axis.set_title(titles[i], fontsize=9)
    return _saved(figure, file)


def filters(array: Any, file: str | os.PathLike[str]) -> Path:
    """The filters (out, in, height, width) of a convolution, the first input channel of each, blue below 0 and red above."""
    array = np.asarray(array)
    if array.dtype.kind not in "biuf":
        raise ArgumentError(f"filters: an array of numbers is expected, got {array.dtype}")
    flat = array[:, 0] if array.ndim == 4 else array
    limit = float(np.abs(flat).max(initial=0.0)) or 1.0
    return images(flat, file, limits=(-limit, limit), cmap="RdBu_r")


def curve(
    series: Mapping[str, Sequence[float]],
    file: str | os.PathLike[str],
    *,
    xlabel: str = "step",
    ylabel: str = "",
    title: str = "",
) -> Path:
    """One line for each of ``series``, written to ``file``; returns its path."""
    if not isinstance(series, Mapping):
        raise ArgumentError(f"curve: series are a dict from names to numbers, got {series!r:.80}", help='{"loss": losses}')
    figure = _figure(7, 4)
    axis = figure.subplots()
    for name, values in series.items():
        axis.plot(np.arange(1, len(values) + 1), values, label=name, linewidth=1)
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.set_title(title)
    axis.grid(alpha=0.3)
    if len(series) > 1:
        axis.legend()
    return _saved(figure, file)


def confusion(matrix: Any, file: str | os.PathLike[str], labels: Sequence[str] | None = None) -> Path:
    """A confusion matrix, true classes down and predicted ones across, with counts; returns its path."""
    matrix = np.asarray(matrix)
    if matrix.ndim != 2 or matrix.dtype.kind not in "biuf":
        raise ShapeError(f"confusion: a matrix of counts is expected, got {matrix.shape} {matrix.dtype}")
    if labels is not None and (not isinstance(labels, list | tuple) or len(labels) != len(matrix)):
        raise ArgumentError(f"confusion: labels are {len(matrix)} names, got {labels!r:.80}")
    names = labels or [str(i) for i in range(len(matrix))]
    figure = _figure(6.5, 6)
    axis = figure.subplots()
    axis.imshow(np.log1p(matrix), cmap="Blues")
    for i, row in enumerate(matrix):
        for j, count in enumerate(row):
            if count:
                axis.text(j, i, str(count), ha="center", va="center", fontsize=8, color="white" if i == j else "black")
    axis.set_xticks(range(len(names)), names)
    axis.set_yticks(range(len(names)), names)
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    return _saved(figure, file)


def _saved(figure: Any, file: str | os.PathLike[str]) -> Path:
    if not isinstance(file, str | os.PathLike):
        raise ArgumentError(f"the path of a picture is expected, got {file!r:.80}", help='for example "curve.png"')
    path = Path(file)
    figure.savefig(path, dpi=130)
    return path
