"""Arrivals: device memory for what comes from the host or another GPU, on the stream of the copies.

CuPy's pool gives memory that a kernel asked for just before may still read. For kernels that is fine, as they follow each other; a copy on
another stream would have to wait for all kernels asked for until then, and would never overlap with any. So what arrives has memory of its
own: when the array dies, an event behind the last kernel that could read it is noted, and the next copy into that memory waits for it.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np

# Memory is used again once its kernels are over, or when so much of that size is idle: while the kernels of a step compute on what has
# arrived, what the next one reads arrives beside it.
ROUNDS = 2


class Arrivals:
    """The memory of one device. All methods but `_Loan.__del__` are called by the thread that holds the device.

    Promises:
    - A copy into memory waits, on the device, for the kernels that were asked for while an array in it lived.
    - What has come back is noted by `settle`, so that the event stands behind no more kernels than it has to.
    """

    def __init__(self, cupy: Any, compute: Any, copying: Any) -> None:
        self._cupy, self._compute, self._copying = cupy, compute, copying
        self._idle: dict[int, list[tuple[Any, Any]]] = {}  # bytes -> (event, memory), the longest idle first
        self._returned: deque[Any] = deque()  # memory whose array has died; an object may die on any thread

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """An array that the copying stream may write from now on."""
        size = -(-math.prod(shape) * dtype.itemsize // 512) * 512
        if not size:
            return self._cupy.empty(shape, dtype)
        self.settle()
        idle = self._idle.get(size)
        if idle and (len(idle) >= ROUNDS or idle[0][0].done):
            event, memory = idle.pop(0)
            self._copying.wait_event(event)
        else:
            with self._copying:
                memory = self._cupy.empty(size, np.uint8)
        return _Loan(memory, self._returned).array(self._cupy, shape, dtype)

    def settle(self) -> None:
        """Notes behind which kernels the memory that has come back is free."""
        if not self._returned or self._compute.is_capturing():
            return
        event = self._compute.record(self._cupy.cuda.Event(disable_timing=True))
        while self._returned:
            memory = self._returned.popleft()
            self._idle.setdefault(memory.nbytes, []).append((event, memory))

    def trim(self) -> None:
        """Lets go of all that is idle."""
        self.settle()
        for idle in self._idle.values():
            for event, _ in idle:
                self._copying.wait_event(event)  # it goes back to the pool of that stream
        self._idle.clear()


class _Loan:
    """What an array in lent memory and its views hold on to."""

    def __init__(self, memory: Any, returned: deque[Any]) -> None:
        self._memory, self._returned = memory, returned

    def array(self, cupy: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """The array, which keeps this alive."""
        memory = self._memory
        lent = cupy.cuda.UnownedMemory(memory.data.ptr, memory.nbytes, self, memory.device.id)
        return cupy.ndarray(shape, dtype, cupy.cuda.MemoryPointer(lent, 0))

    def __del__(self) -> None:
        self._returned.append(self._memory)
