"""Recorder: what a training tells of itself, step by step, in files that TensorBoard opens and `load_events` reads."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..graph import Graph
from ..graph.arguments import as_count
from . import event_file
from .files import as_path
from .graph_event import graph_def
from .numbers import as_numbers
from .pixels import SIGNATURE, Limits, as_bytes, as_images, columns_of, png, sheet

BINS = 64  # of a histogram, at most; TensorBoard shows 30
_NUMBERS = itertools.count()  # tells apart the files of one process


class Recorder:
    """Writes numbers, histograms, images, texts and the graph of a training into a folder.

    folder  of this run, made where it is missing. Several runs in one folder, ``runs/first`` and ``runs/second``, are shown together:
            ``tensorboard --logdir runs``, ``fg.viz.curves("runs")``
    after   for a training that goes on from a checkpoint: the step behind which it does. What had been recorded for later steps is void
    raises  ArgumentError for a bad name, step or value; OSError where the folder cannot be written to

    Each call has handed its record to the operating system when it returns: a process that is killed loses none. Several threads may
    record at once. The file is closed by ``close``, at the end of a ``with`` block, or when nothing refers to the recorder any more.

    >>> with fg.io.Recorder("runs/first") as recorder:
    ...     for step in range(1, 4):
    ...         recorder.scalar("loss", 1 / step, step)
    ...         recorder.histogram("w", np.arange(10) * step, step)
    >>> fg.io.load_events("runs")["first"].scalars["loss"].values.round(3)
    array([1.   , 0.5  , 0.333])
    """

    def __init__(self, folder: str | os.PathLike[str], *, after: int | None = None) -> None:
        self.folder = as_path(folder, "Recorder")
        after = None if after is None else as_count(after, "Recorder: after")
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname() or 'host'}.{os.getpid()}.{next(_NUMBERS):04d}"
        self.path = self.folder / name
        self._lock = threading.Lock()  # guards _descriptor, and that one record is written behind the other
        mode = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._descriptor: int | None = os.open(self.path, mode, 0o666)
        self._finalizer = weakref.finalize(self, os.close, self._descriptor)
        self._write(event_file.event(time.time(), version="brain.Event:2"))
        if after is not None:
            self._write(event_file.event(time.time(), after + 1, starts=True))

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file; nothing can be recorded after that. May be called twice."""
        with self._lock:
            self._descriptor = None
            self._finalizer()

    def __repr__(self) -> str:
        return f"<Recorder {self.folder}{' (closed)' if self._descriptor is None else ''}>"

    def scalar(self, name: str, value: Any, step: int) -> None:
        """A number, such as a loss; kept in 32 bits. NaN and infinity are recorded as they are."""
        self.scalars({name: value}, step)

    def scalars(self, values: Mapping[str, Any], step: int) -> None:
        """Several numbers of one step, by name."""
        if not isinstance(values, Mapping):
            raise ArgumentError(f"Recorder.scalars: numbers by name are expected, got {values!r:.80}", help='{"loss": loss}')
        self._record([event_file.scalar(_name(name), _number(name, value)) for name, value in values.items()], step)

    def histogram(self, name: str, values: Any, step: int) -> None:
        """How the numbers of an array are distributed: weights, gradients, activations. Those that are not finite are left out."""
        array = as_numbers(values, f"Recorder.histogram: {name!r:.60}").astype(np.float64).ravel()
        array = np.clip(array[np.isfinite(array)], -8e307, 8e307)  # (the distance of two of them has to be finite, too)
        edges, counts = _binned(array) if array.size else (np.zeros(1), np.zeros(0, int))
        self._record([event_file.histogram(_name(name), array, edges, counts)], step)

    def image(self, name: str, image: Any, step: int, *, limits: Limits = None) -> None:
        """One image: an array, or the path of a PNG file, such as a plot of ``fg.viz`` or a drawing of ``fg.draw``.

        image   (height, width); with 1, 3 or 4 channels (channels, height, width), or (height, width, channels)
        limits  the values that become black and white; None: bytes stay as they are, others go from the least to the largest
        """
        if isinstance(image, str | os.PathLike):
            file = Path(image).read_bytes()
            if not file.startswith(SIGNATURE) or len(file) < 33:
                raise ArgumentError(f"Recorder.image: {image} is no PNG file", help="give the path of a PNG, or an array")
            width, height, _, kind = struct.unpack(">IIBB", file[16:26])
            self._record([event_file.image(_name(name), height, width, {0: 1, 2: 3, 3: 3, 4: 2}.get(kind, 4), file)], step)
            return
        self._image(name, as_images(as_numbers(image, "Recorder.image")[None], "Recorder.image")[0], step, limits)

    def images(self, name: str, images: Any, step: int, *, columns: int | None = None, limits: Limits = None) -> None:
        """Several images of one size as a sheet: (count, height, width), or (count, channels, height, width) with 1, 3 or 4 channels.

        columns  images in a row; None: as many as make the sheet somewhat wider than high
        limits   as for ``image``; the same for all of them
        """
        array = as_bytes(as_images(images, "Recorder.images"), limits)
        columns = None if columns is None else as_count(columns, "Recorder.images: columns", 1)
        self._image(name, sheet(array, columns_of(len(array), columns), 1, 255), step, limits)

    def text(self, name: str, text: str, step: int = 0) -> None:
        """A text, such as settings or samples of a language model; TensorBoard shows it as Markdown."""
        if not isinstance(text, str):
            raise ArgumentError(f"Recorder.text: {name!r:.60} is a text, got {text!r:.80}", help="str(...) makes one of it")
        self._record([event_file.text(_name(name), text)], step)

    def graph(self, graph: Graph) -> None:
        """The graph, for TensorBoard's tab of that name: scopes to open, shapes on the edges, and the line that made each node."""
        if not isinstance(graph, Graph):
            raise ArgumentError(f"Recorder.graph: a graph is expected, got {graph!r:.80}")
        self._write(event_file.event(time.time(), graph=graph_def(graph)))

    def _image(self, name: str, image: np.ndarray[Any, Any], step: int, limits: Limits) -> None:
        height, width, channels = image.shape
        self._record([event_file.image(_name(name), height, width, channels, png(as_bytes(image, limits)))], step)

    def _record(self, values: list[bytes], step: int) -> None:
        self._write(event_file.event(time.time(), as_count(step, "Recorder: a step"), values=values))

    def _write(self, event: bytes) -> None:
        rest = memoryview(event_file.record(event))
        with self._lock:
            if self._descriptor is None:
                raise ArgumentError(f"Recorder: that of {self.folder} is closed", help="a new one adds to what is in the folder")
            size = os.fstat(self._descriptor).st_size
            try:
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except OSError:  # a full disk, say: behind half a record nothing could be read
                os.ftruncate(self._descriptor, size)
                raise


def _binned(array: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The edges of bins, and how many values each holds.

    Half of the edges are evenly spaced, and show the tails; the others are quantiles, and show what lies in the middle of heavy tails, as
    gradients have them.
    """
    ordered = np.sort(array)
    low, high = ordered[0], ordered[-1]
    room = max(abs(low), abs(high), 1e-300) * 1e-12
    if high - low <= room:  # all values are equal, or nearly
        return np.array([low - room, high + room]), np.array([array.size])
    quantiles = ordered[np.linspace(0, array.size - 1, BINS // 2).astype(int)]
    edges = np.unique(np.concatenate([np.linspace(low, high, BINS // 2 + 1), quantiles]))
    return edges, np.diff(np.searchsorted(ordered, edges[:-1]), append=array.size)


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise ArgumentError(f'Recorder: a name is a text such as "train/loss", got {name!r:.80}')
    return name


def _number(name: Any, value: Any) -> float:
    array = as_numbers(value, f"Recorder: {name!r:.60}")
    if array.size != 1:
        raise ArgumentError(f"Recorder: {name!r:.60} is one number, got {value!r:.80}", help="recorder.histogram takes arrays")
    return float(array.reshape(()))
