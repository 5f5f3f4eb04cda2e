"""GPUs, with CuPy: streams, copies between host and device, and what outlives them. CuPy is imported when a device is opened.

What runs on a GPU is only asked for here; it happens later. The rules that keep that right:

- All kernels of a device are asked for on one stream, ``compute``, by one thread at a time, which holds the device (`active`). So among
  kernels everything happens in the order in which it was asked for, and memory that CuPy's pool takes back is used again behind its last
  use. Only what is captured may be on several (`lanes`); the graph is launched on ``compute`` again.
- Copies from and to the host have a stream of their own, ``copying``, so that they overlap with kernels. They meet through events, and
  no thread waits for one but for a value that the host needs (`Sent.wait`), and where it is too far ahead (`Intake`). What is small goes
  between two kernels instead, on ``compute``, which takes less time than events would.
- What a copy touches outside that order is kept until the copy is over: the array that is sent, and the pinned memory on the host. Memory
  for what arrives is not the pool's: it is used again behind an event of the kernels that read it (`arrivals`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from typing import Any

import numpy as np

from ..errors import ArgumentError, ExecutionError, FlowgraphError
from ..graph.arguments import counted
from ..graph.text import first_line
from .arrivals import Arrivals
from .clock import DeviceClock
from .cublas import Namespace, Products
from .cudnn import METHODS, Convolutions, Unserved, load
from .device import Device
from .intake import BETWEEN
from .lacking import CHECKED, lacking
from .listing import why_not

# CuPy's number for products of float32 whose factors are rounded to 10 bits behind the point.
TF32 = 7
# So many events at most are looked at whether they are over when another copy starts.
LOOKED_AT = 8
UNTIMED = nullcontext()


def lost(name: str, error: BaseException) -> ExecutionError:
    """What is raised where the device of that name has failed with ``error``, in whichever kernel that was asked for before."""
    return ExecutionError(
        f"{name} has failed: {first_line(error)}",
        help="the device is lost to this process: start it anew. compute-sanitizer finds the kernel that did it",
    )


class Sent:
    """A value on its way to the host, in pinned memory: there once `wait` returns."""

    __slots__ = ("_array", "_device", "_event")

    def __init__(self, array: Any, event: Any, device: Cuda) -> None:
        self._array, self._event, self._device = array, event, device

    def wait(self) -> Any:
        """The value, as an array of the host. raises ExecutionError where the device has failed meanwhile."""
        event, device = self._event, self._device
        if event is not None:
            device.until(event)
            self._event = None
            if device.sending is not event:  # else kernels may be about to wait for it
                device.spare.append(event)
        return self._array

    def __del__(self) -> None:
        if self._event is not None:  # nobody has waited: the copy may be under way
            self._device.in_flight.append((self._event, self._array))

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.shape  # type: ignore[no-any-return]

    @property
    def dtype(self) -> Any:
        return self._array.dtype


class Cuda(Device):
    """A GPU.

    `_lock` is held by the thread that asks for kernels; it guards all but `in_flight`, `spare` and `_ahead`, queues that need none.
    """

    keeps_buffers = False  # CuPy's pool does
    tf32 = False
    is_cut = False  # a kernel fills the device by itself
    is_host = False

    def __init__(self, index: int, cupy: Any) -> None:
        self.name, self.index, self.cupy = f"cuda:{index}", index, cupy
        self.products = Products(cupy, self)
        self.xp = Namespace(cupy, self.products.matmul)
        self._here = cupy.cuda.Device(index)
        with self._here:
            self._met = self.event()
            self.compute = cupy.cuda.Stream(non_blocking=True)
            self.copying = cupy.cuda.Stream(non_blocking=True)
        self._lanes: list[Any] = []  # streams for branches of captured graphs, beside ``compute``
        self.in_flight: deque[tuple[Any, Any]] = deque()  # (event, what it must outlive)
        self.arrivals = Arrivals(cupy, self.compute, self.copying)
        self._ahead: deque[Any] = deque()  # events of the user's streams that kernels to come wait for
        self.convolutions: Convolutions | str | None = None  # or why there are none; None before the first is asked for
        self.clock: DeviceClock | None = None  # by which copies are timed: that of the traced run that holds the device
        self._beside: Any = None  # a stream on which nothing is asked for but the time
        self.sending: Any = None  # the event behind the last copy to the host on ``copying``, until kernels wait for it
        self.spare: deque[Any] = deque()  # events that nobody waits for any more
        self._user: Any = None  # the user's current stream, while it is entered
        self._is_shared = False  # whether the user has had arrays of this device, which he may use on streams of his own
        self._lock = threading.RLock()
        self._depth = 0
        self._before: int | None = None  # what cuBLAS computed products in before it was entered

    def __del__(self) -> None:
        """Waits for copies that are under way, whose memory goes now."""
        with suppress(Exception):  # (a device that has failed, or Python's end)
            for event, _ in self.in_flight:
                event.synchronize()

    def use_cudnn(self, asked: bool | None) -> None:
        """Leaves convolutions to cuDNN: None where it can be used, which is seen when there is one, as it takes 0.1 s to load.

        raises  MissingExtraError where it is asked for and not there
        """
        self.convolutions = None if asked is None else self._by_cudnn(asked)

    def _by_cudnn(self, asked: bool | None) -> Convolutions | str:
        try:
            return Convolutions(load(asked), self)
        except Unserved as error:
            return str(error)

    # --- kernels

    def bind(self, op: Any, attrs: dict[str, Any], inputs: Sequence[Any]) -> Callable[..., Any]:
        if op.name in METHODS:
            return self._convolution(op, attrs, inputs)
        kernel = super().bind(op, attrs, inputs)
        return _checked(kernel) if op.name in CHECKED else kernel

    def _convolution(self, op: Any, attrs: dict[str, Any], inputs: Sequence[Any]) -> Callable[..., Any]:
        """cuDNN's kernel, or CuPy's, which says why."""
        if self.convolutions is None:
            self.convolutions = self._by_cudnn(None)
        try:
            if isinstance(self.convolutions, str):
                raise Unserved(self.convolutions)
            return self.convolutions.kernel(op, attrs, inputs, op.infer(*inputs, **attrs))
        except Unserved as error:
            kernel = super().bind(op, attrs, inputs)
            kernel.by = f"CuPy, as {error}"  # type: ignore[attr-defined]
            return kernel

    def active(self) -> Cuda:
        return self

    def __enter__(self) -> None:
        """This thread holds the device, which is the current one of CuPy, and asks for kernels on ``compute``."""
        self._lock.acquire()
        self._depth += 1
        if self._depth > 1:
            return
        try:
            self._here.__enter__()
            try:
                self.follow()
                while self._ahead:
                    self.compute.wait_event(self._ahead.popleft())
                self._before = self._products_in(TF32) if self.tf32 else None
                self.compute.__enter__()
            except BaseException:
                self._here.__exit__()
                raise
        except BaseException as error:
            self._depth -= 1
            self._lock.release()
            self._blame(error)
            raise

    def __exit__(self, kind: Any = None, error: BaseException | None = None, trace: Any = None) -> None:
        """raises ExecutionError where the device has failed meanwhile."""
        try:
            if self._depth == 1:
                if self._before is not None:
                    self._products_in(self._before)
                try:
                    self.arrivals.settle()
                finally:
                    self.compute.__exit__(kind, error, trace)
                    self._here.__exit__(kind, error, trace)
        except Exception as raised:
            self._blame(raised)
            raise
        finally:
            self._depth -= 1
            self._lock.release()
        if error is not None and not isinstance(error, FlowgraphError):
            self._blame(error)

    def _blame(self, error: BaseException) -> None:
        """raises ExecutionError if the device has failed, which may be what ``error`` comes of."""
        failed = self.failure()
        if failed is not None:
            raise failed from error

    def chosen(self) -> Any:
        return self._here

    def lanes(self, count: int) -> list[Any]:
        """Streams for the branches of a graph that is captured; the first is ``compute``."""
        with self._here:
            self._lanes += [self.cupy.cuda.Stream(non_blocking=True) for _ in range(count - 1 - len(self._lanes))]
        streams = [self.compute, *self._lanes[: count - 1]]
        self.products.use_on(streams)
        return streams

    def wait(self) -> None:
        with self.active():
            self.copying.synchronize()
            self.compute.synchronize()
            self.in_flight.clear()

    def event(self) -> Any:
        """A new event, which knows no time: such are quicker to record and to wait for."""
        return self.cupy.cuda.Event(disable_timing=True)

    def until(self, event: Any) -> None:
        """The host waits for ``event``. raises ExecutionError where the device has failed meanwhile."""
        try:
            event.synchronize()
        except Exception as error:  # CUDARuntimeError: nothing more can be asked of the device in this process
            raise lost(self.name, error) from error

    def after_sends(self) -> None:
        """Kernels asked for from now on may write over what has been sent."""
        if self.sending is not None:
            self.after(self.sending)

    def after(self, copied: Any) -> None:
        """Kernels asked for from now on come behind that event of ``copying``, and so behind all copies before it."""
        self.compute.wait_event(copied)
        self.sending = None

    def new_clock(self) -> DeviceClock:
        """What tells when things happen here, for a run that begins."""
        with self._here:
            if self._beside is None:
                self._beside = self.cupy.cuda.Stream(non_blocking=True)
            return DeviceClock(self.cupy, self.compute, self._beside)

    def _products_in(self, kind: int) -> int:
        """Sets what cuBLAS computes products of float32 in, for the process; gives what it was."""
        core, single = self.cupy._core, np.dtype("float32")
        before = int(core.get_compute_type(single))
        core.set_compute_type(single, kind)
        return before

    def is_out_of_memory(self, error: BaseException) -> bool:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, self.cupy.cuda.memory.OutOfMemoryError):
            cause = cause.__cause__
        return cause is not None

    def failure(self) -> ExecutionError | None:
        """What has become of the device where it can no longer be used; None where it can. Waits for what was asked for."""
        try:
            self.compute.synchronize()
        except Exception as error:  # CUDARuntimeError, the same in every call from now on
            return lost(self.name, error)
        return None

    def trim(self) -> None:
        """Gives back all memory that is idle, once all that was asked for is over."""
        self.wait()
        with self.active():
            self.arrivals.trim()
            self.cupy.get_default_memory_pool().free_all_blocks()

    def memory(self) -> tuple[int, int]:
        """Bytes of the device's memory that are in use, by whomever, and all of them."""
        free, total = self._here.mem_info
        return total - free, total

    def has(self, value: Any) -> bool:
        """Whether it is an array of CuPy."""
        return isinstance(value, self.cupy.ndarray)

    def address(self, array: Any) -> int:
        """Where an array lies; views have the address of what they are views of, or one within it."""
        return int((array.base if array.base is not None else array).data.ptr)

    def lacks(self, op: str, dtypes: Sequence[Any]) -> str | None:
        return lacking(op, dtypes)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        return self.cupy.empty(shape, dtype)

    # --- what comes and goes

    def copied(self, x: Any, out: Any = None) -> Any:
        """``x``, of the host or this GPU itself, as a new array of it; kernels asked for from now on find it complete."""
        with self.active():
            made = self._arrived(x) if isinstance(x, np.ndarray | np.generic) else x.copy()
            if out is None:
                return made
            out[...] = made
            return out

    def constant(self, x: Any) -> Any:
        return self.copied(x)

    def _arrived(self, x: Any) -> Any:
        host = np.asarray(x)
        if not host.size:
            return self.cupy.empty(host.shape, host.dtype)
        # From pinned memory the device copies by itself; from any other the driver would copy to its own first, and hold the thread up.
        memory = self.cupy.cuda.alloc_pinned_memory(host.nbytes)
        pinned = np.frombuffer(memory, host.dtype, host.size).reshape(host.shape)
        pinned[...] = host
        if host.nbytes <= BETWEEN:
            made = self.cupy.empty(host.shape, host.dtype)
            with self._timed(self.compute):
                made.set(pinned, stream=self.compute)
            self._outlive(self.compute.record(self.event()), pinned)
            return made
        made = self.arrivals.empty(host.shape, host.dtype)
        with self._timed(self.copying):
            made.set(pinned, stream=self.copying)
        over = self.copying.record(self.event())
        self._outlive(over, pinned)
        self.after(over)
        return made

    def copy(self, x: Any, out: Any) -> None:
        """Copies an array of this device to another of the same shape and dtype, between kernels."""
        if x.flags.c_contiguous and out.flags.c_contiguous:
            out.data.copy_from_device_async(x.data, out.nbytes, self.compute)
        else:
            out[...] = x

    def copier(self, source: Device) -> Callable[..., Any]:
        return partial(self._from_peer, source) if isinstance(source, Cuda) else self.copied

    def _from_peer(self, source: Cuda, x: Any, out: Any = None) -> Any:
        """``x`` of another GPU, once the kernels asked of that until now are over. The two copy to each other without the host."""
        with self.active():
            made = self.arrivals.empty(x.shape, x.dtype)
            with source.chosen():
                self.copying.wait_event(source.compute.record())
            with self._timed(self.copying):
                made.data.copy_from_device_async(x.data, x.nbytes, self.copying)
            over = self.copying.record(self.event())
            self._outlive(over, x)
            self.compute.wait_event(over)
            if out is None:
                return made
            out[...] = made
            return out

    def sent(self, x: Any) -> Sent:
        """``x`` on its way to the host, as it is now: kernels asked for later change nothing of it."""
        with self.active():
            if not x.size:
                return Sent(np.empty(x.shape, x.dtype), None, self)
            flat = x if x.flags.c_contiguous else self.cupy.ascontiguousarray(x)
            nbytes, dtype = flat.nbytes, flat.dtype
            memory = self.cupy.cuda.alloc_pinned_memory(nbytes)
            host = np.frombuffer(memory, dtype, nbytes // dtype.itemsize).reshape(flat.shape)
            over = self.spare.pop() if self.spare else self.event()
            stream = self.compute
            if nbytes > BETWEEN:
                stream, self.sending = self.copying, over
                stream.wait_event(self.compute.record(self.event()))
            with self._timed(stream):
                flat.data.copy_to_host_async(memory.ptr, nbytes, stream)
            stream.record(over)
            if nbytes > BETWEEN:
                self._outlive(over, (flat, host))
            return Sent(host, over, self)

    def to_host(self, x: Any) -> np.ndarray[Any, Any]:
        """A copy of ``x`` on the host; waits for it."""
        return np.array(self.sent(x).wait())

    def _timed(self, stream: Any) -> AbstractContextManager[Any]:
        """What a copy on ``stream`` is asked for in."""
        return UNTIMED if self.clock is None else self.clock.copy(stream)

    def _outlive(self, event: Any, kept: Any) -> None:
        """Keeps something until ``event`` is over."""
        for _ in range(LOOKED_AT):
            if not self.in_flight or not self.in_flight[0][0].done:
                break
            self.in_flight.popleft()
        self.in_flight.append((event, kept))

    # --- arrays of the user's

    def adopted(self, x: Any) -> Any:
        """The user's array of this device: kernels wait for what his current stream is asked to do until now."""
        with self._here:
            self._ahead.append(self.cupy.cuda.get_current_stream().record(self.event()))
        self._is_shared = True
        return x

    def hand_over(self) -> None:
        """The user's current stream waits for the kernels asked for until now: for what he gets. Called while it is entered."""
        self._is_shared = True
        self._user.wait_event(self.compute.record(self._met))

    def handed_over(self, x: Any) -> Any:
        """An array for the user, for which his current stream waits."""
        with self:
            self.hand_over()
        return x

    def follow(self) -> None:
        """Kernels asked for from now on come behind what the user's current stream is asked to do until now.

        He may have let go of arrays that his kernels still read, or have memory again that ours did.
        """
        self._user = self.cupy.cuda.get_current_stream()
        if self._is_shared:
            self.compute.wait_event(self._user.record(self._met))


def _checked(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """``kernel``, which raises where a matrix is singular, say, as on the host."""
    from cupyx import errstate

    def call(*arrays: Any, **out: Any) -> Any:
        with errstate(linalg="raise"):
            return kernel(*arrays, **out)

    return call


def open_cuda(index: int) -> Cuda:
    """The GPU of that number. raises ArgumentError where there is none, with the reason."""
    name = f"cuda:{index}"
    try:
        import cupy
    except ImportError as error:
        raise ArgumentError(f"{name}: {why_not(error)}", help='device="cpu:0" computes on the host') from None
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:  # CUDARuntimeError, and whatever a driver that is missing or too old leads to
        raise ArgumentError(f"{name}: CuPy {cupy.__version__} finds no GPU: {error}", help='device="cpu:0" computes on the host') from error
    if index >= count:
        raise ArgumentError(f"{name}: this machine has {counted(count, 'GPU')}", help="fg.devices() lists them")
    return Cuda(index, cupy)
