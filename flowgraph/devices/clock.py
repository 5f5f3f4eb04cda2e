"""DeviceClock: when a GPU has done what it was asked for, on the host's clock, without waiting for it.

A mark is an event on a stream, which notes the time when the stream comes to it. All are looked at afterwards. What makes the times of
several streams and of the host comparable is one event more, the zero: the host waits for it, on a stream that has nothing else to do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import numpy as np

# A kernel that keeps a GPU busy for so many of its cycles, some 100 us: what is asked for meanwhile begins behind it without a gap.
CYCLES = 200_000
HOLD = """extern "C" __global__ void hold(long long cycles) {
    long long begun = clock64();
    for (int turn = 0; turn < 100000 && clock64() - begun < cycles; ++turn) {}
}
"""
# The zero is taken so many times, and that counts for which the host waited the shortest: it is known to half of what that took.
ZEROS = 3


class DeviceClock:
    """The times of one GPU in one run.

    at      what is being asked for, for whoever reads ``copies``
    copies  (what was being asked for, stream, mark before, mark behind), of each copy between devices; ``stream`` is "copies", and
            "compute" for a small one, which has its place between kernels
    """

    def __init__(self, cupy: Any, compute: Any, beside: Any) -> None:
        self._cupy, self._compute = cupy, compute
        self.at: Any = None
        self._hold: Any = None
        self.copies: list[tuple[Any, str, Any, Any]] = []
        self._last: dict[int, Any] = {}  # id of a stream -> the last mark on it
        shortest = math.inf
        for _ in range(ZEROS):
            before = perf_counter()
            event = beside.record(cupy.cuda.Event())
            event.synchronize()
            after = perf_counter()
            if after - before < shortest:
                shortest, self._zero, self._seconds = after - before, event, (before + after) / 2

    def mark(self, stream: Any = None) -> Any:
        """A mark behind all that ``stream``, or that of the kernels, was asked for until now."""
        stream = self._compute if stream is None else stream
        made = self._last[id(stream)] = stream.record(self._cupy.cuda.Event())
        return made

    @contextmanager
    def copy(self, stream: Any) -> Iterator[None]:
        """Notes the copy that is asked for within, on ``stream``."""
        begun = self.mark(stream)
        yield
        self.copies.append((self.at, "compute" if stream is self._compute else "copies", begun, self.mark(stream)))

    def hold(self) -> None:
        """Keeps the stream of the kernels busy, so that what is asked for next is timed without the time that it takes to ask for it."""
        if self._hold is None:
            self._hold = self._cupy.RawModule(code=HOLD, options=("--std=c++17", "-fmad=false")).get_function("hold")
        self._hold((1,), (1,), (np.int64(CYCLES),))

    def wait(self) -> None:
        """Until all marks have a time. raises what CuPy does where the device has failed."""
        for event in self._last.values():
            event.synchronize()

    def seconds(self, mark: Any) -> float:
        """When the stream came to ``mark``, as `time.perf_counter` tells it. Only behind `wait`."""
        return self._seconds + float(self._cupy.cuda.get_elapsed_time(self._zero, mark)) * 1e-3
