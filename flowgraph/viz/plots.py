"""Plots of results: curves of a training, confusion matrices, decision boundaries. They need matplotlib (extra ``plot``)."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph.arguments import as_count, call
from ..io.numbers import as_numbers
from ..io.records import Records, load_records
from .plot import GREY, File, Plot

LONG = 100  # so many points of a curve are smoothed
FINE = 200  # points along each side of a map of decisions


def curves(
    histories: Mapping[str, Any] | Records | str | os.PathLike[str],
    file: File = None,
    *,
    names: Sequence[str] | None = None,
    smooth: int | None = None,
    log: bool = False,
    xlabel: str = "step",
    ylabel: str = "",
    title: str = "",
) -> Any:
    """What a training measured, step by step: one line for each history.

    histories  a dict by name, drawn in one plot: ``{"loss": losses, "validation": ([100, 200], values)}``, where numbers without steps are
               those of steps 1, 2, ... Or runs by name, dicts of such dicts, or the folder of a `flowgraph.io.Recorder`: a plot for each
               name, and in it a line for each run
    file       where to write it, its ending says the format; None: the `Plot` is returned, which a notebook shows
    names      the histories to show; None: all
    smooth     the mean of so many steps is drawn, over the values themselves in a light colour; None: a 50th of a history of 100 or
               more; 1: no mean
    log        whether the scale is logarithmic
    returns    the path, or without a file the plot
    raises     ArgumentError, ShapeError for what are no histories, or an unknown name; MissingExtraError without matplotlib

    >>> losses = 1 / np.arange(1, 201)
    >>> fg.viz.curves({"loss": losses, "validation": ([50, 100, 150, 200], [0.04, 0.02, 0.015, 0.014])}, "training.png")
    PosixPath('training.png')
    """
    smooth = None if smooth is None else as_count(smooth, "curves: smooth", 1)
    panels = _panels(histories, names)
    columns = min(len(panels), 3)
    lines = math.ceil(len(panels) / columns)
    plot = Plot(7 if columns == 1 else 4.5 * columns, 4 if lines == columns == 1 else 3.2 * lines)
    axes = plot.axes(lines, columns)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for axis, (name, series) in zip(axes.flat, panels.items()):
        for i, (label, (steps, values)) in enumerate(series.items()):
            _line(axis, f"C{i % 10}", label, steps, values, smooth)
        only = next(iter(series)) if not name and len(series) == 1 else ""
        axis.set_xlabel(xlabel)
        axis.set_ylabel(ylabel or only)
        axis.set_title(name)
        axis.grid(alpha=0.3)
        if log:
            _logarithmic(axis)
        if len(series) > 1 or any("mean of" in line.get_label() for line in axis.lines):
            axis.legend(frameon=False)
    if title:
        plot.figure.suptitle(title)
    return plot.to(file)


_Line = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def _panels(histories: Any, names: Sequence[str] | None) -> dict[str, dict[str, _Line]]:
    """By the title of each plot its lines by label."""
    if isinstance(histories, str | os.PathLike):
        histories = load_records(histories)
    if isinstance(histories, Records):
        histories = {".": histories}
    if not isinstance(histories, Mapping):
        help = '{"loss": losses}, or the folder of a fg.io.Recorder'
        raise ArgumentError(f"curves: histories are a dict from names to numbers, got {histories!r:.80}", help=help)
    runs = {run: each.scalars if isinstance(each, Records) else each for run, each in histories.items()}
    is_runs = [isinstance(each, Mapping) for each in runs.values()]
    if any(is_runs) and not all(is_runs):
        raise ArgumentError("curves: some histories are dicts, and others are not", help="a dict of numbers, or a dict of such dicts")
    chosen: dict[str, dict[str, _Line]] = {}
    if all(is_runs):
        for run, each in runs.items():
            for name, history in each.items():
                chosen.setdefault(str(name), {})["" if len(runs) == 1 else str(run)] = _steps(str(name), history)
    else:
        chosen[""] = {str(name): _steps(str(name), history) for name, history in runs.items()}
    if names is not None:
        known = list(chosen) if all(is_runs) else list(runs)
        unknown = [name for name in names if name not in known]
        if isinstance(names, str) or unknown:
            raise ArgumentError(f"curves: no history is called {unknown[0] if unknown else names!r}", help=f"there are {', '.join(known)}")
        if all(is_runs):
            chosen = {name: chosen[name] for name in names}
        else:
            chosen = {"": {name: chosen[""][name] for name in names}}
    if not any(chosen.values()):
        raise ArgumentError("curves: there are no numbers to draw")
    return chosen


def _steps(name: str, history: Any) -> _Line:
    """The steps and the values of a history."""
    if isinstance(history, tuple) and 2 <= len(history) <= 3 and np.ndim(history[0]) == 1:  # (steps, values), or a Series
        steps, values = (as_numbers(part, f"curves: {name!r:.60}") for part in history[:2])
    else:
        values = as_numbers(history, f"curves: {name!r:.60}")
        steps = np.arange(1, 1 + (len(values) if values.ndim else 0))
    if values.ndim != 1 or steps.shape != values.shape:
        raise ShapeError(f"curves: {name!r:.60} are numbers, or steps and as many numbers, got {steps.shape} and {values.shape}")
    return steps, values.astype(np.float64)


def _line(axis: Any, color: str, label: str, steps: Any, values: Any, smooth: int | None) -> None:
    if smooth is None:
        smooth = len(values) // 50 if len(values) >= LONG else 1
    if smooth > 1 and len(values) > smooth:
        axis.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
        label = f"{label} (mean of {smooth})".lstrip()
        counts = np.minimum(np.arange(1, len(values) + 1), smooth)  # at the beginning of those that there are
        values = np.convolve(values, np.ones(smooth))[: len(values)] / counts
    axis.plot(steps, values, color=color, label=label, linewidth=1.3, marker="o" if len(values) < 20 else None, markersize=3)


def distributions(
    histories: Mapping[str, Records] | Records | str | os.PathLike[str],
    file: File = None,
    *,
    names: Sequence[str] | None = None,
) -> Any:
    """How what was recorded as histograms changed with the steps: from the least to the largest, with bands around the median.

    histories  the folder of a `flowgraph.io.Recorder`, or what `flowgraph.io.load_records` gave: a plot for each name and run
    file       where to write it, its ending says the format; None: the `Plot` is returned, which a notebook shows
    names      the histograms to show; None: all
    returns    the path, or without a file the plot
    raises     ArgumentError where none was recorded, or for an unknown name; MissingExtraError without matplotlib

    >>> with fg.io.Recorder("run") as recorder:
    ...     for step in range(5):
    ...         recorder.histogram("w", np.random.default_rng(step).normal(0, 1 + step, 1000), step)
    >>> fg.viz.distributions("run", "weights.png")
    PosixPath('weights.png')
    """
    runs = load_records(histories) if isinstance(histories, str | os.PathLike) else histories
    runs = {".": runs} if isinstance(runs, Records) else runs
    if not isinstance(runs, Mapping) or not all(isinstance(run, Records) for run in runs.values()):
        raise ArgumentError(f"distributions: a folder with records is expected, got {histories!r:.80}", help="fg.io.Recorder writes one")
    panels = {(name, run): rows for run, records in runs.items() for name, rows in records.histograms.items()}
    known = list(dict.fromkeys(name for name, _ in panels))
    unknown = [name for name in names or () if name not in known]
    if unknown or isinstance(names, str):
        what = unknown[0] if unknown else names
        raise ArgumentError(f"distributions: no histogram is called {what!r:.60}", help=f"there are {', '.join(known)}")
    chosen = [(name, run) for name in names or known for run in runs if (name, run) in panels]
    if not chosen:
        raise ArgumentError("distributions: no histograms were recorded", help="recorder.histogram(name, values, step)")
    columns = min(len(chosen), 3)
    plot = Plot(max(4.5 * columns, 6), 3.2 * math.ceil(len(chosen) / columns) + 0.3)
    axes = plot.axes(math.ceil(len(chosen) / columns), columns)
    for axis in axes.flat[len(chosen) :]:
        axis.axis("off")
    for axis, (name, run) in zip(axes.flat, chosen):
        rows = [row for row in panels[name, run] if row.content[1].sum()]  # (of what was all NaN nothing is known)
        steps = np.array([row.step for row in rows], np.float64)
        values = np.array([_quantiles(*row.content) for row in rows]).reshape(-1, len(_SHARES)).T
        if len(steps) == 1:
            steps, values = steps[0] + np.array([-0.5, 0.5]), np.repeat(values, 2, axis=1)
        for i in range(len(_SHARES) // 2):
            axis.fill_between(steps, values[i], values[-1 - i], color="C0", alpha=0.18, linewidth=0)
        axis.plot(steps, values[len(_SHARES) // 2], color="C0", linewidth=1.2)
        axis.set(title=name if len(runs) == 1 else f"{name} ({run})", xlabel="step")
        axis.grid(alpha=0.3)
    plot.figure.supxlabel("all values, the middle 86, 68 and 38 % of them, and the median", fontsize=8, color=GREY)
    return plot.to(file)


_SHARES = (0.0, 0.07, 0.16, 0.31, 0.5, 0.69, 0.84, 0.93, 1.0)  # as in TensorBoard: half standard deviations of a normal distribution


def _quantiles(edges: np.ndarray[Any, Any], counts: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The values below which the _SHARES lie, where those of a bin are spread evenly over it."""
    filled = np.flatnonzero(counts)
    edges, counts = edges[filled[0] : filled[-1] + 2], counts[filled[0] : filled[-1] + 1]
    found: np.ndarray[Any, Any] = np.interp(_SHARES, np.concatenate([[0], np.cumsum(counts)]) / counts.sum(), edges)
    return found


def _logarithmic(axis: Any) -> None:
    """A logarithmic scale with plain numbers beside it: 0.5, and not 5 x 10 to the power of -1."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    shown = (1, 2, 5) if high < 100 * low else (1,)

    def text(value: float, _: int) -> str:
        return f"{value:g}" if value > 0 and round(value / 10 ** math.floor(math.log10(value))) in shown else ""

    axis.yaxis.set_major_formatter(text)
    axis.yaxis.set_minor_formatter(text)


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
