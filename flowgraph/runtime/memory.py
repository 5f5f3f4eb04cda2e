"""Kept buffers: large arrays whose contents have died, ready for the next kernel. Fresh pages cost as much as the arithmetic."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np

from ..devices import HOST, Device

# More than this is not kept between runs; a step of LeNet on 128 images needs about 60 MB.
LIMIT_BYTES = 2**30


def is_on_gpu(value: Any) -> bool:
    """Whether a value of a run is an array of CuPy."""
    return hasattr(value, "__cuda_array_interface__")


class BufferPool:
    """Arrays to take and give back, by shape and dtype.

    Promises: an array is in the pool or with one owner, never both; what is taken has any content; at most ``limit`` bytes lie idle, beside
    what was lent and has come back since the last call of `take` or `bound`, which is about as much at most.
    `_lock` guards `_idle` and `idle_bytes`.
    """

    def __init__(self, device: Device, limit: int = LIMIT_BYTES) -> None:
        self.device, self.limit = device, limit
        self.idle_bytes = 0
        self._idle: dict[tuple[tuple[int, ...], np.dtype[Any]], list[Any]] = {}
        # What was lent comes back here without the lock: an object may die in the middle of anything, also of `take`.
        self._returned: deque[Any] = deque()
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """An array of that shape and dtype."""
        self._take_back()
        with self._lock:
            idle = self._idle.get((shape, dtype))
            if idle:
                array = idle.pop()
                self.idle_bytes -= array.nbytes
                return array
        return self.device.empty(shape, dtype)

    def give(self, array: Any) -> None:
        """Takes back an array that nobody else has; over the limit it is let go."""
        with self._lock:
            if self.device.keeps_buffers and self.idle_bytes + array.nbytes <= self.limit:
                self._idle.setdefault((array.shape, array.dtype), []).append(array)
                self.idle_bytes += array.nbytes

    def bound(self, limit: int) -> None:
        """Keeps at most ``limit`` bytes from now on, and lets go of what is more."""
        self._take_back()
        with self._lock:
            self.limit = max(0, limit)
            while self.idle_bytes > self.limit:
                key = next(reversed(self._idle))
                arrays = self._idle[key]
                if arrays:
                    self.idle_bytes -= arrays.pop().nbytes
                else:
                    del self._idle[key]

    def _take_back(self) -> None:
        """Makes idle what was lent and has come back."""
        while self._returned:
            try:
                self.give(self._returned.popleft())
            except IndexError:  # another thread was faster
                break

    def lend(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """An array of that shape and dtype, which comes back by itself once nothing refers to it or to a view of it.

        For arrays that a kernel makes itself, of which the plan does not know who touches them last. It costs 3 us.
        """
        return self.lent(self.take(shape, dtype))

    def lent(self, array: Any) -> Any:
        """``array``, which nobody else has, as one that comes back by itself."""
        if not isinstance(array, np.ndarray):
            return array  # a device's own allocator keeps what dies
        lent = np.asarray(_Loan(array, self._returned, self.limit))
        return lent if lent.dtype == array.dtype else lent.view(array.dtype)

    def spoil(self, byte: int) -> None:
        """Fills what lies idle with ``byte``: who reads an array before it is written then gets something else each time."""
        self._take_back()
        with self._lock:
            for arrays in self._idle.values():
                for array in arrays:
                    array.reshape(-1).view(np.uint8)[...] = byte

    def trim(self) -> None:
        """Lets go of everything that lies idle."""
        with self._lock:
            self._idle.clear()
            self._returned = deque()  # what is lent still will come back to the old one, and die with the last of it
            self.idle_bytes = 0
        self.device.trim()


class Buffers:
    """The buffers of a session: a pool for each of its devices."""

    def __init__(self, devices: Sequence[Device]) -> None:
        self._pools = {device.name: BufferPool(device) for device in devices}

    def on(self, device: str) -> BufferPool:
        """The pool of the device of that name."""
        return self._pools[device]

    def constant(self, array: np.ndarray[Any, Any], device: str | None = None) -> Any:
        """A constant as kernels of ``device`` get it; None for parts of the host, which all read the same array."""
        return HOST.constant(array) if device is None else self.device(device).constant(array)

    def device(self, name: str) -> Device:
        """The device of that name."""
        return self._pools[name].device

    def to_host(self, array: Any) -> np.ndarray[Any, Any]:
        """A copy on the host of an array that is on a GPU."""
        return self.device(f"cuda:{array.device.id}").to_host(array)

    def home(self, value: Any) -> Any:
        """``value`` as it is on the host: what is on a GPU is copied, what is on its way from there waited for, all else stays as it is."""
        if isinstance(value, np.ndarray | np.generic):
            return value
        if isinstance(value, tuple | list):
            return type(value)([self.home(each) for each in value])
        if hasattr(value, "wait"):
            value = value.wait()
        elif is_on_gpu(value):
            value = self.to_host(value)
        else:
            return value
        return value if value.ndim else value[()]

    def alike(self, other: Any, value: Any) -> Any:
        """``value``, of the host, on the device of ``other``."""
        return self.device(f"cuda:{other.device.id}").copied(value) if is_on_gpu(other) else value

    def bound(self, limit: int) -> None:
        """Keeps at most ``limit`` bytes in all from now on, a like share for each device."""
        for pool in self._pools.values():
            pool.bound(limit // len(self._pools))

    @contextmanager
    def spoiled(self, byte: int) -> Iterator[None]:
        """While it is entered, arrays that are taken are full of ``byte``, but for those that the run itself has had before."""
        pools = list(self._pools.values())
        devices = [pool.device for pool in pools]
        for pool in pools:
            pool.spoil(byte)
            pool.device = cast("Device", _Spoiling(pool.device, byte))
        try:
            yield
        finally:
            for pool, device in zip(pools, devices, strict=True):
                pool.device = device

    def trim(self) -> None:
        """Lets go of everything that lies idle."""
        for pool in self._pools.values():
            pool.trim()


class _Spoiling:
    """A device whose new arrays are full of a byte."""

    def __init__(self, device: Device, byte: int) -> None:
        self._device, self._byte = device, byte

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        array = self._device.empty(shape, dtype)
        array.reshape(-1).view(np.uint8)[...] = self._byte
        return array

    def __getattr__(self, name: str) -> Any:
        return getattr(self._device, name)


class _Loan:
    """What a lent array and its views refer to: when it dies, the array is idle again."""

    __slots__ = ("__array_interface__", "_array", "_limit", "_returned")

    def __init__(self, array: np.ndarray[Any, Any], returned: deque[Any], limit: int) -> None:
        self.__array_interface__ = array.__array_interface__
        self._array, self._returned, self._limit = array, returned, limit

    def __del__(self) -> None:
        # (As if all that has come back were as large: to add up would take the lock.)
        if self._array.nbytes * (len(self._returned) + 1) <= self._limit:
            self._returned.append(self._array)
