"""Plots of what a training measured, step by step: curves of numbers, and how distributions change. They need matplotlib."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph.arguments import as_count
from ..io.events import Events, load_events
from ..io.numbers import as_numbers
from .plot import GREY, File, Plot

LONG = 100  # so many points of a curve are smoothed


def curves(
    histories: Mapping[str, Any] | Events | str | os.PathLike[str],
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
    # A run has one colour in all plots, also where another one lacks what is plotted.
    labels = list(dict.fromkeys(label for series in panels.values() for label in series))
    for axis, (name, series) in zip(axes.flat, panels.items()):
        for label, (steps, values) in series.items():
            _line(axis, f"C{labels.index(label) % 10}", label, steps, values, smooth)
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
        histories = load_events(histories)
    if isinstance(histories, Events):
        histories = {".": histories}
    if not isinstance(histories, Mapping):
        help = '{"loss": losses}, or the folder of a fg.io.Recorder'
        raise ArgumentError(f"curves: histories are a dict from names to numbers, got {histories!r:.80}", help=help)
    runs = {run: each.scalars if isinstance(each, Events) else each for run, each in histories.items()}
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
    histories: Mapping[str, Events] | Events | str | os.PathLike[str],
    file: File = None,
    *,
    names: Sequence[str] | None = None,
) -> Any:
    """How what was recorded as histograms changed with the steps: from the least to the largest, with bands around the median.

    histories  the folder of a `flowgraph.io.Recorder`, or what `flowgraph.io.load_events` gave: a plot for each name and run
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
    runs = load_events(histories) if isinstance(histories, str | os.PathLike) else histories
    runs = {".": runs} if isinstance(runs, Events) else runs
    if not isinstance(runs, Mapping) or not all(isinstance(run, Events) for run in runs.values()):
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
