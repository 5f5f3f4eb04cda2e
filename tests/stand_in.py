# mypy: ignore-errors
"""A stand-in for CuPy: NumPy underneath, and in front of it CuPy's names, strictness and asynchrony, so that tests need no GPU.

- It has the functions, parameters and methods that CuPy 14 has (``data/cupy_names.txt``), and no others. Arrays of the host are refused
  where CuPy refuses them, and a result is always an array, also one of shape ().
- Every access to memory is noted with the stream that makes it, and each stream, event and the host has a vector clock. What touches
  memory without being ordered behind the accesses before it is a `Race`; so is memory of the pool that is used again too early.
- What is copied to the host is there only once the host has waited for it; before, there is nonsense.
- A pool has a capacity, and raises CuPy's error beyond it. Captured streams give graphs that can be replayed.
- Each stream has a clock, too, by which its steps take as long as their bytes and products say (`Gpu.seconds`), one behind the other and
  behind what they wait for: what `get_elapsed_time` tells of events. What the host does takes what it takes, or with ``simulated`` exactly
  `ASKING` seconds for each step that it asks for, and nothing else (`Gpu.now` is then the host's clock).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import math
import sys
import threading
import time
import types
import weakref
from pathlib import Path

import numpy as np
import pytest

from flowgraph.devices import cublas
from tests.cuda_on_host import HostModule
from tests.stand_in_blas import Blas
from tests.stand_in_graph import Capture, capture_error

LIKE = {}  # name -> its description in CuPy
for line in (Path(__file__).parent / "data" / "cupy_names.txt").read_text().splitlines()[1:]:
    name, kind, *parameters = line.split()
    LIKE[name] = kind, parameters


# What a device does takes, in simulated time: for each kernel or copy, and for each byte and product of numbers.
STARTING, ASKING, HOLDING = 2e-6, 1e-6, 100e-6
LINK, MEMORY, PRODUCTS = 20e9, 1e12, 10e12
COPIES_BETWEEN = ("to host", "to device", "from peer")
MATMULS = ("matmul", "dot", "__matmul__", "__rmatmul__", "tensordot")


class Race(AssertionError):
    """Two accesses to memory of which neither is ordered behind the other."""


class OutOfMemoryError(MemoryError):
    pass


class Clock(dict):
    """How far each stream is known to have come."""

    def merge(self, other):
        for key, value in other.items():
            self[key] = max(self.get(key, 0), value)

    def covers(self, stamp):
        stream, time = stamp
        return self.get(stream, 0) >= time


class Memory:
    """A piece of a device's memory: who wrote which bytes of it last, and who has read them since."""

    bases = itertools.count(2**48, 2**32)

    def __init__(self, device, size):
        self.device, self.size, self.base = device, size, next(self.bases)
        self.accesses = []  # (first byte, the one behind the last, who, whether it wrote)

    def access(self, clock, stamp, write, start, stop):
        for first, end, other, wrote in self.accesses:
            if first < stop and start < end and (write or wrote) and not clock.covers(other):
                raise Race(f"{'write' if write else 'read'} by {stamp} is not ordered behind the access by {other}")
        # (Who comes behind this one comes behind what it stands for.)
        self.accesses = [
            (first, end, other, wrote)
            for first, end, other, wrote in self.accesses
            if first < start or stop < end or not (write or (clock.covers(other) and not wrote))
        ]
        self.accesses.append((start, stop, stamp, write))


class Address(int):
    """Where something lies on a device: the memory, from which byte on, and of an array that."""

    def __new__(cls, value, memory, offset, array=None):
        self = super().__new__(cls, value)
        self.memory, self.offset, self.array = memory, offset, array
        return self

    def __add__(self, nbytes):
        return Address(int(self) + nbytes, self.memory, self.offset + nbytes)


class Holder:
    """Keeps memory while an array or a view of it lives; then it is the pool's again, for the stream that it was made on."""

    def __init__(self, gpu, memory, stream, pool):
        self.gpu, self.memory, self.stream, self.pool = gpu, memory, stream, pool
        self.start, self.size, self.device_id = 0, memory.size, memory.device
        self.ptr = Address(memory.base, memory, 0)

    mem = property(lambda self: self)

    def __del__(self):
        self.pool.give(self.stream, self.memory)


class Lent:
    """Memory that an owner lends: what `UnownedMemory` and `MemoryPointer` make of an address."""

    def __init__(self, gpu, address, nbytes, owner, device_id):
        self.gpu, self.ptr, self.memory, self.owner = gpu, address, address.memory, owner
        self.start, self.size, self.device_id = address.offset, nbytes, device_id
        assert address.offset + nbytes <= address.memory.size and device_id == address.memory.device


class Pool:
    """CuPy's memory pool: pieces by stream and size."""

    is_gone = False

    def __init__(self, gpu):
        self.gpu, self.idle, self.used, self.total = gpu, {}, 0, 0
        self.limit = None

    def malloc(self, nbytes):
        size = -(-max(nbytes, 1) // 512) * 512
        stream = self.gpu.stream
        idle = self.idle.get((stream.number, size))
        if idle:
            memory = idle.pop()
        else:
            if self.gpu.total + size > self.gpu.capacity:
                raise OutOfMemoryError(f"Out of memory allocating {size} bytes (allocated so far: {self.gpu.total} bytes)")
            self.total += size
            self.gpu.total += size
            memory = Memory(self.gpu.device.id, size)
        self.used += size
        self.gpu.log.append(("allocate", stream.name, size))
        return Holder(self.gpu, memory, stream, self)

    def give(self, stream, memory):
        self.used -= memory.size
        self.idle.setdefault((stream.number, memory.size), []).append(memory)
        self.gpu.log.append(("free", stream.name, memory.size))
        if self.is_gone:  # the last of it outlived the pool, as in a cycle
            self.free_all_blocks()

    def free_all_blocks(self, stream=None):
        self.gpu.log.append(("trim",))
        for (_, size), idle in self.idle.items():
            self.total -= size * len(idle)
            self.gpu.total -= size * len(idle)
            idle.clear()

    def __del__(self):
        self.is_gone = True
        self.free_all_blocks()

    def used_bytes(self):
        return self.used

    def total_bytes(self):
        return self.total

    def get_limit(self):
        return self.limit or 0

    def set_limit(self, size=None, fraction=None):
        self.limit = size


class Gpu:
    """The machine: its streams, its memory, and the log of all that was asked of it."""

    def __init__(self, capacity=2**40, count=1, simulated=False):
        self.capacity, self.count, self.total = capacity, count, 0
        self.log = []
        self.is_simulated, self.host_time = simulated, 0.0
        self.here = threading.local()
        self.numbers = itertools.count()
        self.ticks = {}  # the clocks of the nodes of graphs
        self.host = Clock()
        self.pinned, self.races = {}, []  # address -> the memory there
        self.failed = ""  # why every further call fails
        self.pending = []  # (stamp, function) of copies to the host that it has not waited for
        self.lock = threading.RLock()
        self.pool = Pool(self)
        self.blas = Blas(self)
        self.device_zero = types.SimpleNamespace(id=0)
        self.null = Stream(self, name="null")

    @property
    def stream(self):
        return getattr(self.here, "stream", None) or self.null

    @property
    def device(self):
        return getattr(self.here, "device", None) or self.device_zero

    @property
    def allocator(self):
        return getattr(self.here, "allocator", None) or self.pool.malloc

    def check(self):
        if self.failed:
            raise RuntimeError(self.failed)

    def now(self):
        """The host's clock."""
        return self.host_time if self.is_simulated else time.perf_counter()

    def seconds(self, reads, writes, what):
        """What a step takes."""
        writes = writes[:1] if what in MATMULS else writes  # (of the memory that cuBLAS works in, it needs little)
        nbytes = sum(array.host.nbytes for array in (*reads, *writes))
        products = math.sqrt(math.prod(max(array.host.size, 1) for array in (*reads, *writes))) if what in MATMULS else 0.0
        if what in ("hold", "empty"):
            return HOLDING if what == "hold" else 0.0
        return STARTING + nbytes / (LINK if what in COPIES_BETWEEN else MEMORY) + 2 * products / PRODUCTS

    def waited(self, clock, until):
        """The host has waited for all that ``clock`` knows, which is over at ``until``."""
        self.check()
        self.host_time = max(self.host_time, until)
        self.host.merge(clock)
        due = [entry for entry in self.pending if self.host.covers(entry[0])]
        self.pending = [entry for entry in self.pending if not self.host.covers(entry[0])]
        for _, arrive in due:
            arrive()

    def copies_from(self, address, stamp, data):
        """Notes a copy of ``data`` from pinned memory, which had to be as it was until the copies before are over."""
        memory = self.pinned.get(address)
        if memory is not None:
            for earlier, was in memory.sent:
                if not self.host.covers(earlier) and (memory[: was.size] != was).any():
                    self.races.append("pinned memory was written while a copy was under way")
            memory.sent = [(earlier, was) for earlier, was in memory.sent if not self.host.covers(earlier)]
            memory.sent.append((stamp, data.copy()))
            memory.stamps.append(stamp)

    def step(self, reads, writes, what):
        """Notes one thing that the current stream does; its place on the clock."""
        self.check()
        stream = self.stream
        stream.clock.merge(self.host)  # what is asked for now comes behind all that the host has waited for
        stamp = stream.tick()
        self.access(_bytes(reads, writes), stream.clock, stamp)
        self.asked()
        stream.until = max(stream.until, self.now()) + self.seconds(reads, writes, what)
        self.log.append((what, stream.name))
        return stamp

    def asked(self):
        """The host has asked for something, which takes it a while."""
        self.host_time += ASKING

    def access(self, parts, clock, stamp):
        """Notes what is read and written at a place on a clock."""
        for memory, write, start, stop in parts:
            memory.access(clock, stamp, write, start, stop)

    def kernel(self, reads, writes, what, again):
        """A kernel that writes into arrays: it runs, or becomes part of a graph."""
        capture = self.stream.capture
        if capture is not None:
            self.asked()
            capture.add(self.stream, what, _bytes(reads, writes), again, self.seconds(reads, writes, what))
        else:
            self.step(reads, writes, what)
            again()


def _bytes(reads, writes):
    """What arrays of the device are: (memory, whether it is written, first byte, the one behind the last)."""
    holders = [*[(array.holder, False) for array in reads], *[(array.holder, True) for array in writes]]
    return [(holder.memory, write, holder.start, holder.start + holder.size) for holder, write in holders]


class Stream:
    def __init__(self, gpu, name="", non_blocking=False):
        self.gpu, self.number = gpu, next(gpu.numbers)
        self.name = name or f"stream{self.number}"
        self.clock = Clock()
        self.until = 0.0  # when what it has been asked for is over
        self.capture = None  # the one that it takes part in
        self.stack = []
        self.ptr = self.number

    def tick(self):
        self.clock[self.number] = self.clock.get(self.number, 0) + 1
        return self.number, self.clock[self.number]

    def __enter__(self):
        self.stack.append(getattr(self.gpu.here, "stream", None))
        self.gpu.here.stream = self
        return self

    def __exit__(self, *exc):
        self.gpu.here.stream = self.stack.pop()

    def use(self):
        self.gpu.here.stream = self
        return self

    def record(self, event=None):
        event = event or Event(self.gpu)
        event.record(self)
        return event

    def wait_event(self, event):
        self.gpu.check()
        if event.capture is not None:
            if event.capture.is_over or (self.capture is not None and self.capture is not event.capture):
                raise (self.capture or event.capture).refuse("Merge")
            event.capture.wait(self, event.nodes)
        elif self.capture is not None:
            raise self.capture.refuse("Isolation")
        else:
            self.clock.merge(event.clock)
            self.until = max(self.until, event.time)
        self.gpu.log.append(("wait", self.name))

    def synchronize(self):
        if self.capture is not None:
            raise self.capture.refuse("Unsupported")
        self.gpu.log.append(("synchronize", self.name))
        self.gpu.waited(self.clock, self.until)

    def begin_capture(self, mode=None):
        assert self.capture is None
        self.capture = Capture(self.gpu, self)
        self.gpu.log.append(("capture", self.name))

    def end_capture(self):
        if self.capture is None or self.capture.origin is not self:
            raise capture_error("Unmatched")
        return self.capture.end()

    def is_capturing(self):
        return self.capture is not None


class Event:
    def __init__(self, gpu, block=False, disable_timing=False, interprocess=False):
        self.gpu, self.clock, self.time, self.has_time = gpu, Clock(), 0.0, not disable_timing
        self.capture, self.nodes = None, frozenset()  # of one that was recorded in a capture: behind which of its nodes it stands
        gpu.log.append(("event",))

    def record(self, stream=None):
        self.gpu.check()
        stream = stream or self.gpu.stream
        self.capture = stream.capture
        if stream.capture is not None:
            self.nodes = stream.capture.streams[stream]
        else:
            self.clock, self.time = Clock(stream.clock), max(stream.until, self.gpu.now())
        self.gpu.log.append(("record", stream.name))

    def _check(self):
        if self.capture is not None:
            raise RuntimeError("cudaErrorCapturedEvent: operation not permitted on an event last recorded in a capturing stream")

    @property
    def done(self):
        self._check()
        return all(self.gpu.host.get(stream, 0) >= time for stream, time in self.clock.items())

    def synchronize(self):
        self._check()
        self.gpu.log.append(("wait on host",))
        self.gpu.waited(self.clock, self.time)


def elapsed(first, last):
    """Milliseconds from one event to another, which the host must have waited for, or for what comes behind them."""
    if not (first.done and last.done):
        raise RuntimeError("cudaErrorNotReady: device not ready")
    if not (first.has_time and last.has_time):
        raise RuntimeError("cudaErrorInvalidResourceHandle: an event without a time")
    return (last.time - first.time) * 1e3


def _strip(value):
    if isinstance(value, ndarray):
        return value.host
    if isinstance(value, tuple | list):
        return type(value)(map(_strip, value))
    if isinstance(value, dict):
        return {key: _strip(item) for key, item in value.items()}
    return value


def _arrays(value):
    if isinstance(value, ndarray):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _arrays(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from _arrays(item)


def _refuse_host(what, value):
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError(f"{what}: Unsupported type {type(value)}")
    if isinstance(value, tuple | list):
        for item in value:
            _refuse_host(what, item)


class ndarray:
    """An array of the device."""

    __array_ufunc__ = None  # (NumPy's own functions refuse it, and operators with arrays of the host come here)
    newest = None  # the machine that was made last

    def __init__(self, shape, dtype=float, memptr=None):
        self.host = np.empty(shape, dtype)
        self.gpu = memptr.gpu if memptr is not None else self.newest
        self.holder = memptr or self.gpu.allocator(self.host.nbytes)

    @classmethod
    def of(cls, gpu, host, holder=None):
        self = cls.__new__(cls)
        self.gpu, self.host = gpu, host
        self.holder = holder or gpu.allocator(host.nbytes)
        return self

    @property
    def data(self):
        return types.SimpleNamespace(
            array=self,
            mem=self.holder,
            ptr=self._address(),
            copy_from_device_async=self._from_peer,
            copy_from_host_async=self._from_address,
            copy_to_host_async=self._to_address,
        )

    def _address(self):
        start = self.host.__array_interface__["data"][0]
        return Address(start, self.holder.memory, self.holder.start, self)

    def _from_peer(self, source, nbytes, stream):
        assert nbytes == self.host.nbytes and source.array.host.dtype == self.host.dtype
        with stream:
            is_near = source.array.holder.memory.device == self.holder.memory.device
            self.gpu.step([source.array], [self], "on device" if is_near else "from peer")
            self.host[...] = source.array.host

    def _from_address(self, address, nbytes, stream):
        assert stream.capture is None and nbytes == self.host.nbytes and self.host.flags.c_contiguous
        data = np.frombuffer(ctypes.string_at(address, nbytes), np.uint8)
        with stream:
            stamp = self.gpu.step([], [self], "to device")
            self.host.reshape(-1).view(np.uint8)[...] = data
        self.gpu.copies_from(address, stamp, data)

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct a NumPy array explicitly.")

    def __getattr__(self, name):
        if name.startswith("__") or f"ndarray.{name}" not in LIKE:
            raise AttributeError(f"CuPy's ndarray has no {name}")
        value = getattr(self.host, name)
        if not callable(value):
            return _wrapped(self.gpu, value, [self]) if isinstance(value, np.ndarray | np.generic) else value
        if name in ("tolist", "item", "tobytes"):
            return getattr(self.get(), name)
        return lambda *args, **kwargs: _do(self.gpu, name, lambda a, *x, **k: getattr(a, name)(*x, **k), (self, *args), kwargs)

    real = property(lambda self: _do(self.gpu, "real", lambda a: a.real, (self,), {}))
    imag = property(lambda self: _do(self.gpu, "imag", lambda a: a.imag, (self,), {}))

    @real.setter
    def real(self, value):
        _do(self.gpu, "real", lambda a, v: a.real.__setitem__(..., v), (self, value), {}, writes=[self])

    @imag.setter
    def imag(self, value):
        _do(self.gpu, "imag", lambda a, v: a.imag.__setitem__(..., v), (self, value), {}, writes=[self])

    @property
    def device(self):
        return types.SimpleNamespace(id=self.holder.memory.device)

    @property
    def __cuda_array_interface__(self):
        return {"shape": self.host.shape, "typestr": self.host.dtype.str, "data": (id(self), False), "version": 3}

    def get(self, stream=None, order="C", out=None, blocking=True):
        stream = stream or self.gpu.stream
        if stream.capture is not None:
            raise stream.capture.refuse("Unsupported", "a copy to the host that waits")
        with stream:
            stamp = self.gpu.step([self], [], "to host")
        made = np.empty(self.host.shape, self.host.dtype) if out is None else out
        made[...] = np.frombuffer(b"\xab" * made.itemsize, made.dtype)[0]
        if (memory := self.gpu.pinned.get(made.__array_interface__["data"][0])) is not None:
            memory.stamps.append(stamp)
        value = self.host.copy()
        self.gpu.pending.append((stamp, lambda: made.__setitem__(..., value)))
        if blocking:
            stream.synchronize()
        return made

    def _to_address(self, address, nbytes, stream):
        assert stream.capture is None and nbytes == self.host.nbytes and self.host.flags.c_contiguous
        with stream:
            stamp = self.gpu.step([self], [], "to host")
        memory, value = self.gpu.pinned[address], self.host.tobytes()
        memory[:nbytes] = 0xAB
        memory.stamps.append(stamp)

        def arrive():
            with contextlib.suppress(ReferenceError):  # it went, which is a race
                memory[:nbytes] = np.frombuffer(value, np.uint8)

        self.gpu.pending.append((stamp, arrive))

    def set(self, host, stream=None):
        if not isinstance(host, np.ndarray) or host.shape != self.host.shape or host.dtype != self.host.dtype:
            raise ValueError("only an array of the host of that shape and dtype can be set")
        with stream or self.gpu.stream:
            if self.gpu.stream.capture is not None:
                raise self.gpu.stream.capture.refuse("Unsupported", "a copy from the host within a capture")
            stamp = self.gpu.step([], [self], "to device")
            self.host[...] = host
        self.gpu.copies_from(host.__array_interface__["data"][0], stamp, host.reshape(-1).view(np.uint8))

    def _value(self):
        return self.get(order="A")[()]

    def __bool__(self):
        return bool(self._value())

    def __int__(self):
        return int(self._value())

    def __index__(self):
        return self._value().__index__()

    def __float__(self):
        return float(self._value())

    def __len__(self):
        return len(self.host)

    def __iter__(self):
        return (self[i] for i in range(len(self.host)))

    def __getitem__(self, index):
        return _do(self.gpu, "getitem", lambda a, i: a[i], (self, index), {})

    def __setitem__(self, index, value):
        _refuse_host("setitem", value)
        _do(self.gpu, "setitem", lambda a, i, v: a.__setitem__(i, v), (self, index, value), {}, writes=[self])

    def __repr__(self):
        return f"<on device: {self.host!r}>"


def _operator(name):
    def call(self, *others):
        for other in others:
            _refuse_host(name, other)
        in_place = name.startswith("__i") and name not in ("__invert__",)
        result = _do(self.gpu, name, lambda a, *x: getattr(a, name)(*x), (self, *others), {}, writes=[self] if in_place else [])
        return self if in_place else result

    return call


for _name in "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift".split():
    for _form in (f"__{_name}__", f"__r{_name}__", f"__i{_name}__"):
        setattr(ndarray, _form, _operator(_form))
for _name in "eq ne lt le gt ge neg pos abs invert".split():
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))
ndarray.__hash__ = object.__hash__


def _wrapped(gpu, result, arrays):
    """A result as an array of the device; views share the memory of what they are views of."""
    if isinstance(result, tuple) and type(result) is not tuple:  # what linalg gives
        return type(result)(*[_wrapped(gpu, item, arrays) for item in result])
    if isinstance(result, tuple | list):
        return type(result)(_wrapped(gpu, item, arrays) for item in result)
    if not isinstance(result, np.ndarray | np.generic):
        return result
    result = np.asarray(result)
    for array in arrays:
        if result is array.host:
            return array
        if result.size and np.may_share_memory(result, array.host):
            return ndarray.of(gpu, result, array.holder)
    return ndarray.of(gpu, result)


def _do(gpu, what, function, args, kwargs, writes=()):
    """Runs ``function`` of arrays as a kernel of the current stream."""
    with gpu.lock:
        given = list(_arrays([args, kwargs]))
        for array in given:
            if array.holder.memory.device != gpu.device.id:
                raise ValueError(f"an array of device {array.holder.memory.device} is used on device {gpu.device.id}")
        out = list(_arrays(kwargs.get("out")))
        is_captured = gpu.stream.capture is not None
        kept = [array.host.copy() for array in (*out, *writes)] if is_captured else []
        args, kwargs = _strip(args), _strip(kwargs)  # (what is captured keeps no array, and so no memory)
        with np.errstate(all="ignore"):
            result = _wrapped(gpu, function(*args, **kwargs), given)
        made = list(_arrays(result if isinstance(result, tuple | list) else [result]))
        fresh = [array for array in made if all(array.holder is not other.holder for other in given)]
        written = [*fresh, *out, *writes] if what not in ("empty", "empty_like") else []
        reads = [array for array in given if all(array is not other for other in out)]
        if is_captured and written:
            for array, before in zip((*out, *writes), kept, strict=True):  # what is captured does not run
                array.host[...] = before
            for array in fresh:
                if array.host.flags.writeable:
                    nonsense = np.frombuffer(b"\xab" * array.host.itemsize, array.host.dtype)[0]
                    array.host[...] = 0 if array.host.dtype.kind in "iu" else nonsense
            hosts = [array.host if array.host.flags.writeable and any(array is x for x in fresh) else None for array in made]

            def again():
                with np.errstate(all="ignore"):
                    values = function(*args, **kwargs)
                for host, value in zip(hosts, values if isinstance(values, tuple | list) else [values], strict=False):
                    if host is not None:
                        host[...] = value

            gpu.kernel(reads, written, what, again)
        elif not is_captured and (written or what not in VIEWS):
            gpu.step(reads, written, what)
        return result


VIEWS = set("empty empty_like getitem reshape transpose view ravel squeeze swapaxes real imag expand_dims broadcast_to diagonal".split())


def _floor_divide(x, y, **options):
    """As CuPy defines it, of which 1 by 0.1 is 10."""
    made = np.floor_divide(x, y, **options)
    return made if made.dtype.kind in "iub" else np.floor(np.divide(x, y, **options), **options)


def _remainder(x, y, **options):
    """As CuPy defines it: NaN for infinite ``y``, 0 for 1 by 0.1."""
    made = np.remainder(x, y, **options)
    return made if made.dtype.kind in "iub" else np.subtract(x, np.floor(np.divide(x, y)) * y, **options)


def _without_bfloat16(function, instead):
    """``function`` as in CuPy, whose kernels for it know no bfloat16: it makes another dtype of it, or, without ``instead``, refuses it."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        made = [x for x in args if isinstance(x, np.ndarray) and x.dtype.name == "bfloat16"]
        if made and instead is None:
            raise NotImplementedError("Sorting arrays with dtype 'bfloat16' is not supported")
        result = function(*args, **kwargs)
        return result.astype(instead) if made and result.dtype.name == "bfloat16" else result

    return call


# What CuPy computes in another way.
OTHERS = {"floor_divide": _floor_divide, "remainder": _remainder}
OTHERS |= {name: _without_bfloat16(getattr(np, name), "float32") for name in ("where", "triu", "tril")}
OTHERS |= {name: _without_bfloat16(getattr(np, name), None) for name in ("sort", "argsort", "partition", "argpartition", "unique")}
ADDED_AT = "int32 int64 float16 float32 float64 uint32 uint64".split()


class _Names(types.ModuleType):
    """A namespace that has what CuPy's has."""

    def __init__(self, gpu, name, prefix, numpy):
        super().__init__(name)
        self.__dict__.update(_gpu=gpu, _prefix=prefix, _numpy=numpy)

    def __getattr__(self, name):
        kind, parameters = LIKE.get(self._prefix + name, (None, None))
        if kind is None:
            raise AttributeError(f"CuPy has no {self._prefix}{name}")
        value = OTHERS.get(self._prefix + name) or getattr(self._numpy, name)
        if kind in ("value", "type"):
            made = value
        else:
            made = self._function(self._prefix + name, value, kind, parameters)
        self.__dict__[name] = made
        return made

    def _function(self, name, function, kind, parameters):
        gpu = self._gpu

        @functools.wraps(function)
        def call(*args, **kwargs):
            if kind == "function" and parameters != ["*"] and not {"args", "kwargs"} & set(parameters):
                unknown = set(kwargs) - set(parameters)
                if unknown or len(args) > len(parameters):
                    raise TypeError(f"{name}() got unexpected arguments {sorted(unknown)}, it takes {parameters}")
            if kind == "ufunc" and set(kwargs) - {"out", "dtype", "casting", "where", "order", "subok", "sig", "signature"}:
                raise TypeError(f"Wrong arguments {kwargs}")
            if name not in FROM_HOST:
                _refuse_host(name, list(args))
            capture = gpu.stream.capture
            if capture is not None and name in FROM_HOST and any(isinstance(x, np.ndarray) for x in args):
                raise capture.refuse("Unsupported", f"{name} reads memory of the host within a capture")
            if capture is not None and (name in CUSOLVER or (name in CUBLAS and _is_of_cublas(args))):
                raise NotImplementedError("calling a library's API during stream capture is currently unsupported")
            if name in SYNCHRONOUS and capture is not None:
                raise capture.refuse("Unsupported", f"{name} waits for the device")
            result = _do(gpu, name, function, args, kwargs)
            if name in COPIES and any(result is arg for arg in args):
                return result
            return result

        if kind == "ufunc":
            call.nin, call.nout = map(int, parameters)

            def added_at(x, *args):
                if x.dtype.name not in ADDED_AT:
                    raise TypeError(f"cupy.add.at only supports {', '.join(ADDED_AT)} as data type")
                return np.add.at(x, *args)

            for method in ("reduce", "accumulate", "at", "outer", "reduceat"):
                bound = added_at if (name, method) == ("add", "at") else getattr(function, method, None)
                writes = method == "at"
                setattr(
                    call,
                    method,
                    lambda *args, bound=bound, writes=writes, **kwargs: _do(
                        gpu, name, bound, args, kwargs, writes=[args[0]] if writes else []
                    ),
                )
        return call


FROM_HOST = {"asarray", "array", "ascontiguousarray", "asanyarray", "asfortranarray", "take", "broadcast_to", "full", "full_like"}
SYNCHRONOUS = {"nonzero", "flatnonzero", "argwhere", "unique", "repeat", "bincount"}
# CuPy refuses to ask these libraries for anything on a stream that is captured.
CUBLAS = {"matmul", "dot", "tensordot", "einsum"}
CUSOLVER = {f"linalg.{name}" for name in "cholesky inv solve eigh eigvalsh eig eigvals svd qr det slogdet".split()}
COPIES = {"asarray", "ascontiguousarray"}


def _is_of_cublas(args):
    """Whether CuPy leaves a product of these to cuBLAS: not that of integers, of nothing, or of one row and one column."""
    hosts = [array.host for array in _arrays(args)]
    is_one = all(host.ndim <= 2 for host in hosts) and np.matmul(*hosts).size == 1
    return np.result_type(*hosts).kind not in "biu" and all(host.size for host in hosts) and not is_one


class _Device:
    def __init__(self, gpu, index=0):
        self.gpu, self.id, self.stack = gpu, int(index), []
        self.compute_capability = "90"

    def __enter__(self):
        self.stack.append(getattr(self.gpu.here, "device", None))
        self.gpu.here.device = self
        return self

    def __exit__(self, *exc):
        self.gpu.here.device = self.stack.pop()

    def use(self):
        self.gpu.here.device = self

    def synchronize(self):
        self.gpu.stream.synchronize()

    @property
    def mem_info(self):
        return self.gpu.capacity - self.gpu.total, self.gpu.capacity


class _Using:
    def __init__(self, gpu, malloc):
        self.gpu, self.malloc = gpu, malloc

    def __enter__(self):
        self.before = getattr(self.gpu.here, "allocator", None)
        self.gpu.here.allocator = self.malloc

    def __exit__(self, *exc):
        self.gpu.here.allocator = self.before


class Pinned(np.ndarray):
    """Memory of the host that a device copies by itself; that it goes while a copy is under way is a `Race`."""

    def __del__(self):
        stamps = getattr(self, "stamps", None)
        if stamps is not None:
            self.gpu.pinned.pop(self.__array_interface__["data"][0], None)
            if not all(self.gpu.host.covers(stamp) for stamp in stamps):
                self.gpu.races.append("pinned memory went while a copy was under way")


def _pinned(gpu):
    def allocate(nbytes):
        gpu.log.append(("pinned", nbytes))
        memory = Pinned(nbytes, np.uint8)  # (which what `np.frombuffer` makes of it keeps alive; of a view, only what that is a view of)
        memory.gpu, memory.stamps, memory.sent = gpu, [], []
        memory.ptr = memory.__array_interface__["data"][0]
        gpu.pinned[memory.ptr] = weakref.proxy(memory)
        return memory

    return allocate


def scipy_special():
    try:
        import scipy.special
    except ImportError:
        return None
    return scipy.special


class _Module:
    """Kernels of a text in CUDA, run on the host."""

    def __init__(self, gpu, code, options=()):
        self.gpu, self.module = gpu, None if "clock64" in code else HostModule(code, options)

    def get_function(self, name):
        if self.module is None:  # it does nothing but take its time
            return lambda grid, block, arguments: self.gpu.step([], [], name)
        function = self.module.get_function(name)

        def call(grid, block, arguments, **options):
            arrays = [x for x in arguments if isinstance(x, ndarray)]
            assert all(x.host.flags.c_contiguous or x.host.strides[-1] == x.itemsize for x in arrays)
            with self.gpu.lock:
                # (Which of them are written, the text says: those that are no pointers to constants.)
                written = [x for x, kind in zip(arguments, self.module.kinds[name], strict=True) if isinstance(x, ndarray) and kind]
                reads = [x for x in arrays if all(x is not other for other in written)]
                again = functools.partial(function, grid, block, [x.host if isinstance(x, ndarray) else x for x in arguments])
                self.gpu.kernel(reads, written, name, again)

        return call


def stand_in(capacity=2**40, count=1, simulated=False):
    """A module to be put in place of ``cupy``; ``module.gpu`` has the log."""
    gpu = Gpu(capacity, count, simulated)
    cupy = _Names(gpu, "cupy", "", np)
    cupy.__version__ = "14.2.0"
    cupy.gpu = gpu
    cupy.ndarray, ndarray.newest = ndarray, gpu
    cupy.linalg = _Names(gpu, "cupy.linalg", "linalg.", np.linalg)
    cupy.fft = _Names(gpu, "cupy.fft", "fft.", np.fft)
    tricks = _Names(gpu, "cupy.lib.stride_tricks", "lib.stride_tricks.", np.lib.stride_tricks)
    cupy.lib = types.SimpleNamespace(stride_tricks=tricks)
    cupy.RawModule = functools.partial(_Module, gpu)
    kinds = {}
    cupy._core = types.SimpleNamespace(
        get_compute_type=lambda dtype: kinds.get(np.dtype(dtype), 0),
        set_compute_type=lambda dtype, kind: (kinds.update({np.dtype(dtype): kind}), gpu.log.append(("products in", kind))),
    )
    cupy.get_default_memory_pool = lambda: gpu.pool
    cupy.asnumpy = lambda a, **kwargs: a.get(**kwargs) if isinstance(a, ndarray) else np.asarray(a)
    special = _Names(gpu, "cupyx.scipy.special", "special.", scipy_special())
    cupyx = types.ModuleType("cupyx")
    cupyx.errstate = lambda **kinds: contextlib.nullcontext()
    cupyx.scipy = types.ModuleType("cupyx.scipy")
    cupyx.scipy.special = special
    cupy.beside = {"cupyx": cupyx, "cupyx.scipy": cupyx.scipy, "cupyx.scipy.special": special}

    def using(malloc):
        return _Using(gpu, malloc)

    runtime = types.SimpleNamespace(
        getDeviceCount=lambda: gpu.count,
        runtimeGetVersion=lambda: 13000,
        getDeviceProperties=lambda index: {"name": b"Stand-in", "totalGlobalMem": gpu.capacity, "major": 9, "minor": 0},
        deviceCanAccessPeer=lambda a, b: 1,
    )
    cupy.cuda = types.SimpleNamespace(
        runtime=runtime,
        Device=lambda index=0: _Device(gpu, index),
        Stream=lambda non_blocking=False, **kwargs: Stream(gpu, non_blocking=non_blocking),
        Event=functools.partial(Event, gpu),
        get_elapsed_time=elapsed,
        get_current_stream=lambda: gpu.stream,
        alloc_pinned_memory=_pinned(gpu),
        UnownedMemory=functools.partial(Lent, gpu),
        MemoryPointer=lambda memory, offset: memory,
        MemoryPool=lambda: Pool(gpu),
        using_allocator=using,
        memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    )
    return cupy


@contextlib.contextmanager
def standing_in(**options):
    """A stand-in that is imported as CuPy; there was no race in it."""
    module = stand_in(**options)
    with pytest.MonkeyPatch.context() as patch:
        for name, each in {"cupy": module, **module.beside}.items():
            patch.setitem(sys.modules, name, each)
        patch.setattr(cublas, "load", lambda cupy: module.gpu.blas)
        patch.setattr(cublas, "WORKSPACE_BYTES", 512)
        yield module
    assert not module.gpu.races
