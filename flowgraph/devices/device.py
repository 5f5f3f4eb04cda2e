"""What a device is to the rest of the engine, and the host as one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from .host import copied
from .pages import PAGES


class Device:
    """One place to compute.

    name         ``cpu:0``, ``cuda:0``...
    xp           the array namespace: numpy or cupy
    last_resort  whether it serves only what no other device of the session can
    is_host      whether its arrays are NumPy's, and a kernel has run when its call returns
    is_cut       whether big kernels are cut into slices for its threads
    tf32         whether products of float32 may be computed in less
    is_serial    whether captured graphs have no branches
    keeps_buffers  whether dead arrays are kept for the next kernel by flowgraph, and not by an allocator of its own
    """

    name: str
    xp: Any
    last_resort = False
    is_host = True
    is_cut = True
    keeps_buffers = True
    tf32 = False
    is_serial = False

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

    def chosen(self) -> AbstractContextManager[Any]:
        """What makes it the device that a library computes on, on this thread."""
        return nullcontext()

    def trim(self) -> None:
        """Gives back memory of the device that is idle, where it has an allocator of its own."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether ``error``, or what it came from, says that memory of the device is short."""
        return False

    def use_cudnn(self, asked: bool | None) -> None:
        """Leaves convolutions to cuDNN, where there is one."""

    def wait(self) -> None:
        """Until everything that was started here has ended."""

    def __repr__(self) -> str:
        return f"<Device {self.name}>"


class Cpu(Device):
    """The host or a part of it, with NumPy."""

    def __init__(self, index: int = 0) -> None:
        self.name = f"cpu:{index}"
        self.xp = np

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        return PAGES.empty(shape, dtype)

    def copied(self, x: Any, out: Any = None) -> Any:
        return copied(x, out)


HOST = Cpu()
