"""Where kernels run. A device gives the array namespace, its own name, its memory, and the way from other devices.

The host is ``cpu:0``. It may be parted into several devices, ``cpu:0``, ``cpu:1`` and so on, each with threads and memory of its own.
"""

from __future__ import annotations

import re

from ..errors import ArgumentError
from .cuda import open_cuda
from .device import HOST as HOST
from .device import Cpu as Cpu
from .device import Device as Device
from .listing import DeviceInfo as DeviceInfo
from .listing import devices as devices
from .speed import GIVEN as GIVEN
from .speed import Calibration as Calibration


def open_device(name: str) -> Device:
    """The device called ``name``. raises ArgumentError when there is none."""
    match = re.fullmatch(r"(cpu|cuda):(\d+)", name) if isinstance(name, str) else None
    if match is None:
        raise ArgumentError(f"{name!r} is not a device", help='devices are called "cpu:0" or "cuda:0"')
    if match[1] == "cuda":
        return open_cuda(int(match[2]))
    return Cpu(int(match[2]))
