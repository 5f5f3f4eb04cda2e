"""Intake: what a task of a GPU gets from the host, in memory that belongs to the task, by one copy for all of it.

A copy costs its call, its event and the memory that it goes through, however small it is: for steps of a few dozen microseconds that is
what a step takes. So small arrays travel together, and nothing is allocated for them from one run to the next.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

# An array of more bytes comes by itself, as does what there is no more room for.
LARGEST, ROOM = 2**20, 2**22
# So many bytes at most are copied between two kernels, which takes less than events would; more are copied beside them.
BETWEEN = 2**16
# So many copies at most are under way.
ROUNDS = 8
ALIGNED = 256


def chosen(sizes: Sequence[int]) -> list[int]:
    """Which of the arrays of so many bytes an intake is for, by their places."""
    places, room = [], ROOM
    for place, nbytes in enumerate(sizes):
        if 0 < nbytes <= min(LARGEST, room):
            places.append(place)
            room -= -(-nbytes // ALIGNED) * ALIGNED
    return places


class Intake:
    """Memory of a device for arrays of some shapes and dtypes, which `take` fills. All is called by the thread that holds the device.

    arrays  in that memory; for kernels of the stream ``compute``, and for `Cuda.sent`

    Promises:
    - What kernels that were asked for before read of ``arrays`` is what was there before; those asked for later find all that was taken.
    - Once `take` returns, the arrays of the host may change.
    - What is copied beside kernels waits for none but those that read the memory where it arrives.
    - Memory of the host is used again once its copy is over; where all ROUNDS are under way, the host waits for the first of them.
    """

    def __init__(self, device: Any, specs: Sequence[tuple[tuple[int, ...], np.dtype[Any]]]) -> None:
        self._device, self._specs = device, specs
        self._staged: deque[_Staged] = deque()  # the one that was used first before the others
        self._places, end = list[int](), 0
        for shape, dtype in specs:
            self._places.append(end)
            end += -(-math.prod(shape) * dtype.itemsize // ALIGNED) * ALIGNED
        self._size = end
        self._memory = device.empty((end,), np.dtype("uint8"))
        self.arrays = self._parts(self._memory)
        # Where copies beside kernels arrive, with the event behind the last kernel that has read there; in turns.
        self._landings: deque[tuple[Any, Any]] = deque()
        if end > BETWEEN:
            self._landings.extend((device.arrivals.empty((end,), np.dtype("uint8")), device.event()) for _ in range(2))

    def take(self, arrays: Sequence[Any]) -> None:
        """Brings arrays of the host, in their order, to ``self.arrays``. raises ExecutionError where the device has failed."""
        device, staged = self._device, self._unused()
        self._staged.append(staged)
        for part, array in zip(staged.parts, arrays, strict=True):
            part[...] = array
        if not self._landings:
            device.after_sends()
            self._memory.data.copy_from_host_async(staged.address, self._size, device.compute)
            device.compute.record(staged.over)
            return
        landing, read = self._landings[0]
        self._landings.rotate()
        device.copying.wait_event(read)
        landing.data.copy_from_host_async(staged.address, self._size, device.copying)
        device.copying.record(staged.over)
        device.after(staged.over)
        self._memory.data.copy_from_device_async(landing.data, self._size, device.compute)
        device.compute.record(read)

    def holds(self, array: Any) -> bool:
        """Whether an array of the device lies in this memory."""
        start: int = self._device.address(self._memory)
        return bool(start <= self._device.address(array) < start + self._size)

    def _unused(self) -> _Staged:
        if self._staged:
            is_over = self._staged[0].over.done
            if not is_over and len(self._staged) >= ROUNDS:
                self._device.until(self._staged[0].over)
                is_over = True
            if is_over:
                return self._staged.popleft()
        memory = self._device.cupy.cuda.alloc_pinned_memory(self._size)
        return _Staged(memory, self._parts(np.frombuffer(memory, np.uint8, self._size)), self._device.event())

    def _parts(self, memory: Any) -> list[Any]:
        """Arrays of the shapes and dtypes, one behind the other in ``memory``."""
        parts = []
        for place, (shape, dtype) in zip(self._places, self._specs, strict=True):
            nbytes = math.prod(shape) * dtype.itemsize
            parts.append(memory[place : place + nbytes].view(dtype).reshape(shape))
        return parts

    def __del__(self) -> None:
        for staged in self._staged:  # copies from there may be under way
            self._device.in_flight.append((staged.over, staged.memory))


class _Staged:
    """Pinned memory of the host, the arrays in it, and an event behind the last copy from there."""

    __slots__ = ("address", "memory", "over", "parts")

    def __init__(self, memory: Any, parts: list[Any], over: Any) -> None:
        self.memory, self.address, self.parts, self.over = memory, int(memory.ptr), parts, over
