"""What was recorded, read back: the runs of a folder, by name."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import ArgumentError
from .event_file import read_events
from .files import as_path


class Series(NamedTuple):
    """The numbers of one name, by rising step.

    steps   int64; ``values``: float64; ``times``: seconds since 1970
    """

    steps: np.ndarray[Any, Any]
    values: np.ndarray[Any, Any]
    times: np.ndarray[Any, Any]


class Event(NamedTuple):
    """What was recorded at one step.

    content  of a histogram: the edges (n + 1,) and the counts (n,); of an image: the bytes of its file, a PNG mostly; or a text
    """

    step: int
    time: float
    content: Any


@dataclass
class Events:
    """One run: by name, what `Recorder` has written, by rising step.

    scalars     a `Series` for each name
    histograms  a list of `Event` for each name, as are ``images`` and ``texts``
    """

    scalars: dict[str, Series] = field(default_factory=dict)
    histograms: dict[str, list[Event]] = field(default_factory=dict)
    images: dict[str, list[Event]] = field(default_factory=dict)
    texts: dict[str, list[Event]] = field(default_factory=dict)

    def __repr__(self) -> str:
        parts = [
            f"{kind} {', '.join(f'{name} ({len(rows[0] if isinstance(rows, Series) else rows)})' for name, rows in table.items())}"
            for kind, table in vars(self).items()
            if table
        ]
        return f"<Events: {'; '.join(parts) or 'nothing'}>"


def load_events(folder: str | os.PathLike[str]) -> dict[str, Events]:
    """What was recorded in a folder and in those below it: the `Events` of each run.

    folder   the folder of one run, or one that holds those of several. A single event file is taken as well
    returns  by the path of the run's folder below ``folder``, such as "first"; "." for ``folder`` itself
    raises   ArgumentError where there is no event file, FileFormatError for a damaged one

    It reads what other libraries have written for TensorBoard, too: scalars, histograms, images and texts. What a run recorded again,
    as it went on from a checkpoint, takes the place of what had been recorded for that step and later ones.

    >>> for rate in (0.1, 0.2):
    ...     with fg.io.Recorder(f"runs/rate={rate}") as recorder:
    ...         recorder.scalars({"loss": rate**2, "accuracy": 1 - rate}, step=1)
    >>> runs = fg.io.load_events("runs")
    >>> runs["rate=0.2"]
    <Events: scalars loss (1), accuracy (1)>
    >>> {name: float(run.scalars["loss"].values[-1]) for name, run in runs.items()}
    {'rate=0.1': 0.01, 'rate=0.2': 0.04}
    """
    path = as_path(folder, "load_events")
    files = [path] if path.is_file() else sorted(path.rglob("*.tfevents.*"), key=_when)
    if not files:
        what = "no such folder" if not path.exists() else "no event file in it"
        raise ArgumentError(f"load_events: {path}: there is {what}", help=f'fg.io.Recorder("{path}/first") writes one')
    runs: dict[str, list[Path]] = {}
    for file in files:
        runs.setdefault("." if file == path else file.parent.relative_to(path).as_posix(), []).append(file)
    return {name: _events(runs[name]) for name in sorted(runs)}


def _when(file: Path) -> tuple[int, str]:
    """The order of the files of a run: the second in which each was begun, which is in its name, then the name."""
    second = file.name.partition("tfevents.")[2].partition(".")[0]
    return int(second) if second.isdecimal() else 0, file.name


def _events(files: list[Path]) -> Events:
    found: dict[tuple[str, str], list[Event]] = {}
    for file in files:
        for event in read_events(file):
            if event.starts:
                for rows in found.values():
                    _drop(rows, event.step)
            for value in event.values:
                rows = found.setdefault((value.kind, value.name), [])
                _drop(rows, event.step)
                rows.append(Event(event.step, event.time, value.content))
    events = Events()
    for (kind, name), rows in found.items():
        if not rows:
            continue
        if kind == "scalar":
            steps, times, values = zip(*rows)
            events.scalars[name] = Series(np.array(steps, np.int64), np.array(values, np.float64), np.array(times, np.float64))
        else:
            getattr(events, f"{kind}s")[name] = rows
    return events


def _drop(rows: list[Event], step: int) -> None:
    """Drops what is of ``step`` and later ones."""
    while rows and rows[-1].step >= step:
        rows.pop()
