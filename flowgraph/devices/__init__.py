"""Where kernels run. A device gives the array namespace, its own name, its memory, and the way from other devices.

The host is ``cpu:0``. It may be parted into several devices, ``cpu:0``, ``cpu:1`` and so on, each with threads and memory of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
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
    is_host      whether its arrays are NumPy's, and a kernel has run when its call returns
    is_cut       whether big kernels are cut into slices for its threads
    keeps_buffers  whether dead arrays are kept for the next kernel by flowgraph, and not by an allocator of its own
    """

    name: str
    xp: Any
    last_resort = False
    is_host = True
    is_cut = True
    keeps_buffers = True

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """New memory whose content does not matter."""
        return self.xp.empty(shape, dtype)

    def bind(self, op: Any, attrs: dict[str, Any], inputs: Sequence[Any]) -> Callable[..., Any]:
        """The kernel of an op for inputs of these specs."""
        return op.bind_for(self.xp, attrs, *inputs)  # type: ignore[no-any-return]

    def copied(self, x: Any, out: Any = None) -> Any:
        """An array of another device in memory of this one, with the bits of ``x``; in ``out`` where that is given."""
        raise NotImplementedError

    def copier(self, source: Device) -> Callable[..., Any]:
        """The kernel of a copy from another device: a function of the array, and of ``out``."""
        return self.copied

    def sent(self, x: Any) -> Any:
        """An array of this device on its way to the host: ``wait`` of it gives NumPy's. Only for those that are not the host."""
        raise NotImplementedError

    def constant(self, x: Any) -> Any:
        """A constant as kernels get it: here a scalar where the shape is (). All parts of the host read the same array."""
        return x if x.ndim else x[()]

    def to_host(self, x: Any) -> np.ndarray[Any, Any]:
        """A copy of an array of this device as one of NumPy's."""
        return np.array(x)

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


HOST = Cpu()


def open_device(name: str) -> Device:
    """The device called ``name``. raises ArgumentError when there is none."""
    match = re.fullmatch(r"(cpu|cuda):(\d+)", name) if isinstance(name, str) else None
    if match is None:
        raise ArgumentError(f"{name!r} is not a device", help='devices are called "cpu:0" or "cuda:0"')
    if match[1] == "cuda":
        from .cuda import open_cuda

        return open_cuda(int(match[2]))
    return Cpu(int(match[2]))
