"""Plots for lessons and training: filters, curves, confusion matrices, sheets of images. They need matplotlib (extra ``plot``)."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MissingExtraError


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError.of("matplotlib", "plot") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def images(array: Any, file: str | os.PathLike[str], titles: Sequence[str] | None = None, *, cmap: str = "gray") -> Path:
    """A sheet of grey images (count, height, width), written to ``file``; returns its path.

    raises  MissingExtraError without matplotlib
    """
    array = np.asarray(array)
    columns = max(1, math.ceil(math.sqrt(len(array) * 1.6)))
    rows = math.ceil(len(array) / columns)
    figure = _figure(1.1 * columns, (1.1 if titles is None else 1.35) * rows)
    axes = figure.subplots(rows, columns, squeeze=False)
    for i, axis in enumerate(axes.flat):
        axis.axis("off")
        if i < len(array):
            axis.imshow(array[i], cmap=cmap)
            if titles is not None:
                axis.set_title(titles[i], fontsize=9)
    return _saved(figure, file)


def filters(array: Any, file: str | os.PathLike[str]) -> Path:
    """The filters (out, in, height, width) of a convolution, the first input channel of each, blue below 0 and red above."""
    array = np.asarray(array)
    flat = array[:, 0] if array.ndim == 4 else array
    limit = float(np.abs(flat).max()) or 1.0
    return images(np.clip(flat / limit, -1, 1), file, cmap="RdBu_r")


def curve(
    series: Mapping[str, Sequence[float]],
    file: str | os.PathLike[str],
    *,
    xlabel: str = "step",
    ylabel: str = "",
    title: str = "",
) -> Path:
    """One line for each of ``series``, written to ``file``; returns its path."""
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
    path = Path(file)
    figure.savefig(path, dpi=130)
    return path
