"""Where kernels run. A device gives the array namespace, its own name, its memory, and the way from other devices.

The host is ``cpu:0``. It may be parted into several devices, ``cpu:0``, ``cpu:1`` and so on, each with threads and memory of its own.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ..errors import ArgumentError
from .host import copied
from .listing import DeviceInfo as DeviceInfo
from .listing import devices as devices


class Device:
    """One place to compute.

    name  ``cpu:0``, ``cuda:0``...
    xp    the array namespace: numpy or cupy
    """

    name: str
    xp: Any

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """New memory whose content does not matter."""
        return self.xp.empty(shape, dtype)

    def copied(self, x: Any, out: Any = None) -> Any:
        """An array of another device in memory of this one, with the bits of ``x``; in ``out`` where that is given."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<Device {self.name}>"


class Cpu(Device):
    """The host or a part of it, with NumPy."""

    def __init__(self, index: int = 0) -> None:
        self.name = f"cpu:{index}"
        self.xp = np

    def copied(self, x: Any, out: Any = None) -> Any:
        return copied(x, out)


def open_device(name: str) -> Device:
    """The device called ``name``. raises ArgumentError when there is none."""
    match = re.fullmatch(r"(cpu|cuda):(\d+)", name) if isinstance(name, str) else None
    if match is None:
        raise ArgumentError(f"{name!r} is not a device", help='devices are called "cpu:0"')
    if match[1] == "cuda":
        raise ArgumentError(f"{name}: this version of flowgraph computes on the CPU only", help='use "cpu:0"')
    return Cpu(int(match[2]))
