"""Where kernels run. A device gives the array namespace, its own name, its memory, and the way from other devices.

The host is ``cpu:0``. It may be parted into several devices, ``cpu:0``, ``cpu:1`` and so on, each with threads and memory of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ..errors import ArgumentError
from .host import copied
from .listing import DeviceInfo as DeviceInfo
from .listing import devices as devices
from .speed import GIVEN as GIVEN
from .speed import Calibration as Calibration
from .speed import calibrate as calibrate


class Device:
    """One place to compute.

    name         ``cpu:0``, ``cuda:0``...
    xp           the array namespace: numpy or cupy
    last_resort  whether it serves only what no other device of the session can
    """

    name: str
    xp: Any
    last_resort = False

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """New memory whose content does not matter."""
        return self.xp.empty(shape, dtype)

    def copied(self, x: Any, out: Any = None) -> Any:
        """An array of another device in memory of this one, with the bits of ``x``; in ``out`` where that is given."""
        raise NotImplementedError

    def lacks(self, op: str, dtypes: Sequence[Any]) -> str | None:
        """Why the op cannot run here with inputs of these dtypes; None where it can."""
        return None

    def active(self) -> AbstractContextManager[Any]:
        """What the calls of kernels from outside a run are wrapped in."""
        return nullcontext()

    def wait(self) -> None:
        """Until everything that was started here has ended."""

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
