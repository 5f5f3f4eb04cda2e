"""Plots of what a classifier decides: confusion matrices, and boundaries between two features. They need matplotlib."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph.arguments import call
from ..io.numbers import as_numbers
from .plot import File, Plot

FINE = 200  # points along each side of a map of decisions


def confusion(true: Any, predicted: Any = None, file: File = None, *, names: Sequence[str] | None = None) -> Any:
    """How often each class was taken for each: true classes down, predicted ones across. Colours are shares of a row.

    true       the right classes, as numbers or names, one axis; or, with no ``predicted``, the matrix of counts, as
               `flowgraph.metrics.confusion_matrix` gives it
    predicted  what they were taken for
    file       where to write it, its ending says the format; None: the `Plot` is returned, which a notebook shows
    names      of the classes; None: their numbers, or what they are called
    returns    the path, or without a file the plot
    raises     ShapeError where the two do not belong together, ArgumentError for another number of names

    >>> fg.viz.confusion([0, 1, 1, 2], [0, 1, 2, 2], "confusion.png", names=["cat", "dog", "owl"])
    PosixPath('confusion.png')
    """
    if isinstance(predicted, str | os.PathLike):
        raise ArgumentError("confusion: predicted are classes, got a path", help=f"fg.viz.confusion(matrix, file={str(predicted)!r})")
    matrix, found = (_as_matrix(true), None) if predicted is None else _counted(true, predicted, names)
    if names is not None and (not isinstance(names, list | tuple) or len(names) != len(matrix)):
        raise ArgumentError(f"confusion: names are {len(matrix)} texts, got {names!r:.80}")
    labels = [str(name) for name in (names or found or range(len(matrix)))]
    size = min(max(3.2, 0.55 * len(matrix) + 1), 12)
    plot = Plot(size + 0.5, size)
    ((axis,),) = plot.axes()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axis.imshow(shares**0.5, cmap="Blues", vmin=0, vmax=1)  # the root shows rare mistakes
    if len(matrix) <= 40:
        for (i, j), count in np.ndenumerate(matrix):
            if count:
                axis.text(j, i, f"{count:g}", ha="center", va="center", fontsize=8, color="white" if shares[i, j] > 0.4 else "black")
    is_short, every = max(map(len, labels)) < 4, -(-len(labels) // 30)
    shown = range(0, len(labels), every)
    axis.set_xticks(shown, labels[::every], rotation=0 if is_short else 45, ha="center" if is_short else "right")
    axis.set_yticks(shown, labels[::every])
    axis.set_xlabel("predicted")
    axis.set_ylabel("true")
    total = matrix.sum()
    axis.set_title(f"{np.trace(matrix):g} of {total:g} right, {np.trace(matrix) / (total or 1):.2%}", fontsize=10)
    return plot.to(file)


def _as_matrix(value: Any) -> np.ndarray[Any, Any]:
    matrix = as_numbers(value, "confusion: the matrix")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        help = "fg.viz.confusion(true, predicted) counts classes itself"
        raise ShapeError(f"confusion: a square matrix of counts is expected, got {matrix.shape}", help=help)
    if not (np.isfinite(matrix).all() and (matrix >= 0).all()):
        raise ArgumentError("confusion: the matrix holds what are no counts")
    return matrix


def _counted(true: Any, predicted: Any, names: Sequence[str] | None) -> tuple[np.ndarray[Any, Any], list[str] | None]:
    """The matrix of two lists of classes, and what these are called where they are no numbers."""
    given = {"true": true, "predicted": predicted}
    pair = [np.asarray(each) if _is_text(each) else as_numbers(each, f"confusion: {which}") for which, each in given.items()]
    if pair[0].ndim != 1 or pair[0].shape != pair[1].shape or not pair[0].size:
        help = "np.argmax(scores, axis=1) makes classes of scores" if pair[1].ndim == 2 else None
        raise ShapeError(f"confusion: true and predicted are as many classes, got {pair[0].shape} and {pair[1].shape}", help=help)
    found = None
    if any(each.dtype.kind not in "iub" for each in pair):
        if {each.dtype.kind for each in pair} != {"U"}:
            raise ArgumentError(f"confusion: classes are whole numbers or names, got {pair[0].dtype} and {pair[1].dtype}")
        found = list(names) if names else sorted({*pair[0].tolist(), *pair[1].tolist()})
        unknown = {*pair[0].tolist(), *pair[1].tolist()} - set(found)
        if unknown:
            raise ArgumentError(f"confusion: names do not have {min(unknown)!r}, which is among the classes")
        pair = [np.array([found.index(name) for name in each.tolist()]) for each in pair]
    pair = [each.astype(np.int64) for each in pair]
    count = len(names) if names is not None else int(max(each.max() for each in pair)) + 1
    outside = [int(c) for each in pair for c in (each.min(), each.max()) if not 0 <= c < min(count, 1000)]
    if outside:
        raise ArgumentError(f"confusion: class {outside[0]} is none of 0 … {min(count, 1000) - 1}")
    matrix = np.zeros((count, count), np.int64)
    np.add.at(matrix, tuple(pair), 1)
    return matrix, found


def _is_text(value: Any) -> bool:
    is_several = isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)
    return is_several and len(value) > 0 and all(isinstance(each, str) for each in value)


def decision_boundary(
    predict: Callable[[np.ndarray[Any, Any]], Any],
    x: Any,
    y: Any,
    file: File = None,
    *,
    names: Sequence[str] | None = None,
    features: tuple[str, str] = ("x₀", "x₁"),
    threshold: float = 0.0,
) -> Any:
    """Where a classifier of two features decides for which class, with the examples over it.

    predict    a function of an array (n, 2), such as ``session.function([x], scores)``, that gives classes (n,) as whole numbers; or scores
               (n, classes), of which the largest counts; or one score (n,), of which more than ``threshold`` means the second class
    x          (examples, 2)
    y          their classes, whole numbers from 0 on; -1 and 1 are taken for the two classes of a sign
    file       where to write it, its ending says the format; None: the `Plot` is returned, which a notebook shows
    names      of the classes; ``features``: of the two features
    threshold  of one score: 0 for logits and margins, 0.5 for probabilities
    returns    the path, or without a file the plot
    raises     ShapeError for other shapes, ArgumentError for what are no classes

    >>> x = np.random.default_rng(0).standard_normal((50, 2))
    >>> fg.viz.decision_boundary(lambda x: x[:, 0] + x[:, 1], x, x.sum(axis=1) > 0, "boundary.png")
    PosixPath('boundary.png')
    """
    points = as_numbers(x, "decision_boundary: x")
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        help = "fix the other features in predict: lambda p: f(np.column_stack([p, rest]))"
        raise ShapeError(f"decision_boundary: x is (examples, 2), got {points.shape}", help=help)
    classes = _classes(y, len(points))
    low, high = points.min(axis=0), points.max(axis=0)
    room = 0.08 * np.where(high > low, high - low, 1.0)
    sides = [np.linspace(a, b, FINE) for a, b in zip(low - room, high + room)]
    grid = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    grid = grid.astype(points.dtype if points.dtype.kind == "f" else np.float64)
    margins = _margins(call(predict, "decision_boundary: predict", "an array (n, 2)", grid), len(grid), threshold)
    count = max(margins.shape[1], int(classes.max()) + 1)
    if names is not None and len(names) < count:
        raise ArgumentError(f"decision_boundary: {len(names)} names for {count} classes")

    plot = Plot(5.5, 4.5)
    ((axis,),) = plot.axes()
    palette = plot.colors(count)
    sure = margins.max(axis=1)
    strength = 0.12 + 0.33 * (sure / (sure + (np.median(sure) or 1.0)))[:, None]
    shown = (1 - strength) + strength * palette[margins.argmax(axis=1)]
    extent = (sides[0][0], sides[0][-1], sides[1][0], sides[1][-1])
    axis.imshow(shown.reshape(FINE, FINE, 3), origin="lower", extent=extent, aspect="auto", interpolation="bilinear")
    for margin in margins.T:
        if margin.min() < 0 < margin.max():
            axis.contour(*sides, margin.reshape(FINE, FINE), levels=[0.0], colors="0.3", linewidths=0.8)
    for i in range(count):
        style = {"color": palette[i], "markersize": 5, "markeredgecolor": "white", "markeredgewidth": 0.5}
        axis.plot(*points[classes == i].T, "os^DvP*X"[i % 8], label=str(names[i] if names else i), **style)
    axis.set(xlabel=features[0], ylabel=features[1])
    axis.legend(frameon=True, framealpha=0.8, fontsize=9)
    return plot.to(file)


def _classes(y: Any, examples: int) -> np.ndarray[Any, Any]:
    """``y`` as classes from 0 on."""
    labels = as_numbers(y, "decision_boundary: y")
    if labels.shape != (examples,):
        raise ShapeError(f"decision_boundary: y is a class for each of {examples} examples, got {labels.shape}")
    classes = labels.astype(np.int64)
    if (classes != labels).any() or classes.min() < -1:
        raise ArgumentError("decision_boundary: y are classes, whole numbers from 0 on, or the signs -1 and 1")
    if classes.min() == -1:
        if not np.isin(classes, (-1, 1)).all():
            raise ArgumentError("decision_boundary: y has the class -1, and others than 1")
        classes = (classes + 1) // 2
    return classes


def _margins(found: Any, count: int, threshold: float) -> np.ndarray[Any, Any]:
    """For each point and class by how much its score is above the largest of the others: (points, classes)."""
    scores = as_numbers(found, "decision_boundary: what predict gives")
    if scores.ndim == 2 and scores.shape[1] == 1:
        scores = scores[:, 0]
    if scores.shape[:1] != (count,) or scores.ndim not in (1, 2):
        raise ShapeError(f"decision_boundary: predict gives a class, or scores, for each of {count} points, got {scores.shape}")
    if scores.ndim == 1 and scores.dtype.kind in "biu":
        regions = scores.astype(np.int64)
        if regions.min() < 0:
            regions = (regions > 0).astype(np.int64)
        return np.where(regions[:, None] == np.arange(max(int(regions.max()) + 1, 2)), 1.0, -1.0)
    scores = np.nan_to_num(scores.astype(np.float64))
    if scores.ndim == 1:
        return np.stack([threshold - scores, scores - threshold], axis=1)
    order = np.sort(scores, axis=1)
    margins: np.ndarray[Any, Any] = scores - np.where(scores == order[:, -1:], order[:, -2:-1], order[:, -1:])
    return margins
