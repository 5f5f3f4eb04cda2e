"""Session: what a user runs a graph with. It holds what changes between runs, each part in an object of its own.

`Feeds` makes what is fed fit, `Programs` keeps the plans, `State` the variables and the seed, `Runs` the threads and what goes on in them.
A graph is pure; several sessions may run it with different states.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ..compile import PASSES, Explanation, Plan, explain
from ..devices import GIVEN, Calibration, Cpu, Device, open_device
from ..devices.processors import processors
from ..errors import ArgumentError, FlowgraphError
from ..graph import Graph, Node, Shape, Tensor, get_default_graph
from ..graph.arguments import as_bytes, as_count
from ..graph.location import shorten
from ..graph.node import FUNCTIONS
from ..jit import llvm
from ..jit.kernels import compiled, compiled_later
from ..runtime import Buffers, Program, RunReport
from ..runtime.tracing import TRACED
from . import lazy
from .checks import as_check
from .feeds import Feeds
from .function import Function
from .future import RunFuture
from .guards import BLAS
from .programs import Programs
from .recorder import RECORDED, RUNS_RECORDED, Recorder
from .runs import Runs, shut
from .state import State, check_seed
from .values import arrived, flatten
from .variables import Variables
from .watch import Watch

if TYPE_CHECKING:
    from ..traces import Trace
    from .bisect import Bisection
    from .ledger import Ledger
    from .steps import Steps


class Session:
    """Runs a graph, and holds its variables' values. Use it as a context, or call ``close``.

    graph    what to run; None for the current graph
    threads  how many threads compute at once, on each device; the values do not depend on it. None for the number of processors that this
             process may use, or each device's share of it
    seed     of initial values and random draws: same seed, same values
    device   the device that serves what nothing else decides, ``"cpu:0"`` for example; None for the first of ``devices``
    devices  those that nodes may ask for with `flowgraph.device`; None for ``device`` alone, or where that is None as well for those in the
             environment variable ``FLOWGRAPH_DEVICES``, else ``cpu:0``. The host may be parted into several,
             ``["cpu:0", "cpu:1"]``, each with threads and memory of its own; what else there is, `flowgraph.devices` tells
    passes   what plans make of the graph: the simplifications "algebra", "fold" and "common", none of which changes a bit, and "fuse",
             the loops of ``jit``; all of them
    jit      whether elementwise stretches of the graph run as loops compiled by LLVM, and convolutions and pooling by kernels made for
             their shapes: the same values but for the last digits of sums, exp, log and their kin. None where llvmlite is installed, True
             to insist on it, False for NumPy's kernels alone
    memory_limit  most bytes that a run may take for what it makes itself, as a number or as text such as "512MB"; None for no limit. Under
             it, tasks run in an order that takes less, wait for room, and give the same bits; see `flowgraph.MemoryLimitError`
    check_numerics  whether a result, or a new value of a variable, that is infinite or NaN is an error that names the node which made the
             first such value, with its line and what it was given; nothing is written then. None: a warning, once, where a run that writes
             variables gives a number that is not finite, such as a loss. It costs the test of the results: 0.3 us each and 0.1 ns a byte.
             Only where the test fails is the run repeated, node by node. False for no test
    calibration  how fast the devices are, as `flowgraph.calibrate` measures it: it decides where nodes run that ask for nothing. None for
             given numbers, which are the same on every machine
    capture  whether the kernels of a GPU are captured as a CUDA graph in their second run and replayed, with branches for what is
             independent; ``"serial"`` for a graph that is a chain; the values are the same
    tf32     whether a GPU may round the factors of float32 products to 10 bits behind the point: several times as fast, with 3 digits
    cudnn    whether a GPU leaves convolutions to cuDNN, by engines that give the same bits each time: None where it is installed, True to
             insist on it, False for CuPy's kernels alone

    While a session is open, BLAS computes with one thread in this process, and parallelism comes from the session's threads;
    closing the last session restores what was.

    >>> with fg.Graph() as graph:
    ...     x = fg.placeholder("x", (), "float32")
    ...     y = x * 2
    >>> with fg.Session(graph, threads=2) as session:
    ...     session.run(y, {x: 4})
    np.float32(8.0)
    """

    def __init__(
        self,
        graph: Graph | None = None,
        *,
        threads: int | None = None,
        seed: int = 0,
        device: str | None = None,
        devices: Sequence[str] | None = None,
        passes: Collection[str] = PASSES,
        jit: bool | None = None,
        memory_limit: int | str | None = None,
        check_numerics: bool | None = None,
        calibration: Calibration | None = None,
        capture: bool | str = True,
        tf32: bool = False,
        cudnn: bool | None = None,
    ) -> None:
        if graph is not None and not isinstance(graph, Graph):
            raise ArgumentError(f"Session: the first argument is a graph, got {graph!r:.80}")
        opened = _opened(device, devices)
        hosts = sum(each.is_host for each in opened)
        threads = max(1, processors() // hosts) if threads is None else as_count(threads, "Session: threads", 1)
        check_seed(seed)
        if not isinstance(passes, list | tuple | set | frozenset) or not all(each in PASSES for each in passes):
            raise ArgumentError(f"Session: passes are some of {', '.join(PASSES)}, got {passes!r}")
        if calibration is not None and not isinstance(calibration, Calibration):
            raise ArgumentError(f"Session: calibration is what fg.calibrate gives, got {calibration!r:.80}")
        if capture not in (True, False, "serial"):
            raise ArgumentError(f'Session: capture is True, False or "serial", got {capture!r:.80}')
        self.calibration = calibration or GIVEN
        self.check_numerics = as_check(check_numerics, None, "Session")
        self.memory_limit = None if memory_limit is None else as_bytes(memory_limit, "Session: memory_limit")
        self.graph = graph if graph is not None else get_default_graph()
        self.passes = tuple(passes)
        if jit:
            llvm.require()
        self.jit = llvm.is_available() if jit is None else bool(jit)
        self.threads = threads
        self.device, self.devices = opened[0], opened
        self.host_only = all(each.is_host for each in opened)
        for each in opened:
            each.tf32, each.is_serial = bool(tf32), capture == "serial"
            each.use_cudnn(cudnn)
        # What makes loops functions; where a GPU may run them, those for the host are compiled in their first call there.
        self._code = (compiled if self.host_only else compiled_later) if self.jit else None
        self._buffers = Buffers(opened)
        self.memory = self._buffers.on(self.device.name)
        self._feeds = Feeds(self.graph, opened)
        self._state = State(seed, opened, self._buffers)
        self.variables = Variables(self)
        self._programs = Programs(self.graph, opened, self._buffers, self.passes, self._code, self.calibration)
        self._runs = Runs(self._state, self._buffers, opened, threads, self.jit, bool(capture))
        if (sessions := RECORDED.get()) is not None:
            self._runs.record(Recorder(RUNS_RECORDED))
            sessions.append(self)
        if (trace := TRACED.get()) is not None:
            self._runs.trace(trace, True)
        BLAS.hold()
        self._finalizer = weakref.finalize(self, shut, self._runs.pools)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    def close(self) -> None:
        """Ends the runs that go on, the threads, and the hold on BLAS. May be called twice."""
        self._runs.close()
        self._finalizer()
        self._buffers.trim()
        self._programs.close()

    def run(
        self,
        fetches: Any,
        feeds: Mapping[Tensor, Any] | None = None,
        *,
        timeout: float | None = None,
        check_numerics: bool | None = None,
        device_arrays: bool = False,
    ) -> Any:
        """Computes ``fetches`` from ``feeds``; only what they need, each node once.

        fetches  a tensor, a node, or any nesting of lists, tuples and dicts of them
        feeds    values (numbers, lists or arrays) for placeholders or any other tensors; arrays of the right dtype are not copied
        timeout  seconds after which the run is ended
        check_numerics  as of the session, for this run; None for what the session says
        device_arrays  whether what a GPU has computed is returned as CuPy arrays, without waiting for it: further work of CuPy's current
                 stream comes behind it. Otherwise all results are NumPy arrays
        returns  the same nesting with NumPy arrays (NumPy scalars for shape ()), None for nodes without output such as updates
        raises   FeedError, FetchError, ShapeError, MemoryLimitError before anything runs; ExecutionError when a kernel raises;
                 RunTimeoutError; NumericsError for a result that is not finite, with ``check_numerics``

        Variables are read as of the start of the run and written together at its end; a run that fails writes nothing. Runs that
        write variables follow each other; others run side by side.
        """
        try:
            names, flat = flatten(fetches, self.graph)
            program, arrays = self._prepared(flat, feeds, device_arrays)
            return names(self._runs.perform(program, arrays, timeout, as_check(check_numerics, self.check_numerics, "run")))
        except FlowgraphError as error:
            shorten(error)
            raise

    def run_async(self, fetches: Any, feeds: Mapping[Tensor, Any] | None = None, *, device_arrays: bool = False) -> RunFuture:
        """Starts a run and returns at once: ``future.result()`` or ``await future`` gives what ``run`` would; ``cancel()`` ends it."""
        names, flat = flatten(fetches, self.graph)
        program, arrays = self._prepared(flat, feeds, device_arrays)
        future, run, start = self._runs.made(program, arrays, True, self.check_numerics)
        start()
        return RunFuture(future, run, lambda values: names(arrived(values)))

    def function(
        self,
        inputs: Sequence[Tensor],
        outputs: Any,
        *,
        memory_limit: int | str | None = None,
        memory: int | str | None = None,
        check_numerics: bool | None = None,
        device_arrays: bool = False,
    ) -> Function:
        """A function of arrays, in the order of ``inputs``, that returns ``outputs``: compiled once for each set of shapes.

        memory_limit  most bytes that a call may take for what it makes itself; None for the session's limit, if it has one
        memory      the same, and to stay within it, forward values that a gradient reads may be computed again instead of being kept: as
                      few as will do; see `Function.memory_curve`
        check_numerics  as of the session, for calls of this function; None for what the session says
        device_arrays  as for ``run``

        >>> x = fg.placeholder("x", (None,), "float64")
        >>> double = session.function([x], x * 2)
        >>> double([1.0, 2.0])
        array([2., 4.])
        """
        if memory is not None and memory_limit is not None:
            raise ArgumentError("function: memory and memory_limit are both given", help="memory alone: it is a limit as well")
        limit = self.memory_limit if memory_limit is None else as_bytes(memory_limit, "function: memory_limit")
        limit = limit if memory is None else as_bytes(memory, "function: memory")
        check = as_check(check_numerics, self.check_numerics, "function")
        return Function(self, inputs, outputs, limit, check, device_arrays, memory is not None)

    @contextmanager
    def record(self, path: str | os.PathLike[str], *, last: int | None = None) -> Iterator[Recorder]:
        """Writes the runs of a block to a file, from which each can be run again elsewhere, step by step: see `flowgraph.replay`.

        path    file to write when the block ends, also when a run in it has failed; ``run.fgr`` for example
        last    keep only so many runs, the last: for a training that fails after a night. None for all
        raises  ArgumentError at once while another record is being made; OSError where the file cannot be written

        The file holds the graph, what was asked for and fed, the values of variables before the first run, seed and run numbers, and for
        each task a hash of what it made; the values in between follow from these. What is a Python function, of `flowgraph.custom_op` or
        `flowgraph.py_call`, is named in it and has to be given again when it is replayed. Until the block ends, feeds are kept in memory.

        >>> x = fg.placeholder("x", (2,), "float64")
        >>> y = fg.exp(x).sum()
        >>> with session.record("run.fgr"):
        ...     value = session.run(y, {x: [0.0, 1.0]})
        >>> replay = fg.replay.Replay("run.fgr")
        >>> replay.forward().node.name, replay.value("exp")
        ('exp', array([1.        , 2.71828183]))
        """
        if last is not None:
            last = as_count(last, "record: last", 1)
        recorder = Recorder(last)
        before = self._runs.record(recorder)
        try:
            yield recorder
        finally:
            self._runs.restore(before)
            FUNCTIONS["save_record"](self, list(recorder.runs), path)

    def steps(self, fetches: Any, feeds: Mapping[Tensor, Any] | None = None) -> Steps:
        """The run of ``fetches`` from ``feeds``, node by node on this thread: each value can be looked at, or changed, before the next.

        Gone through with ``for``; each item has ``node``, ``tensors``, ``values`` and ``change``. Behind the last, ``results`` has what was
        fetched, and variables are written. Values are those of a run, bit by bit. Variables are read now; what other runs write to them
        meanwhile is written over at the end.

        raises  as ``run``, the error of a kernel where it is reached

        >>> x = fg.placeholder("x", (2,), "float64")
        >>> y = fg.sum(fg.sort(x))
        >>> steps = session.steps(y, {x: [3.0, 1.0]})
        >>> for step in steps:
        ...     print(step.node.name, step.value)
        ...     if step.node.name == "sort":
        ...         step.change([10.0, 20.0])
        sort [1. 3.]
        sum 30.0
        >>> steps.results
        np.float64(30.0)
        """
        names = flatten(fetches, self.graph)[0]
        program, _, values = self._to_be_run(fetches, feeds)
        return lazy.steps.steps_of(program, values, self._buffers, self._runs, names)

    def watch(self, tensor: Tensor, test: str | Callable[[Any], Any]) -> Watch:
        """Looks at the value of ``tensor`` behind each run that computes it, until the watch is removed, or its ``with`` block ends.

        test    a condition of ``x``, the value, such as ``"any(isnan(x))"``, or a function of it. Where the condition holds, or the
                function gives True, the run raises `flowgraph.WatchError` and writes no variable
        raises  ArgumentError for a tensor of another graph, or what is no condition

        Runs that compute the tensor have it as one result more, with a plan made for that, so that the last digits of sums in compiled
        loops may differ; other runs are as they were.

        >>> x = fg.placeholder("x", (2,), "float64")
        >>> root = fg.sqrt(x)
        >>> with session.watch(root, "any(isnan(x))"), session.watch(root, print):
        ...     total = session.run(fg.sum(root), {x: [4.0, 9.0]})
        [2. 3.]
        """
        made = Watch(self, tensor, test)
        self._runs.watch(made, True)
        return made

    def plan(self, fetches: Any, feeds: Mapping[Tensor, Any] | None = None) -> Plan:
        """What ``run`` would execute; printing it shows tasks, kernels and memory. ``feeds`` may hold shapes in place of values."""
        _, flat = flatten(fetches, self.graph)
        program = self._program(flat, self._feeds.shapes(feeds), self.memory_limit)
        program.tell()
        return program.plan

    def trace(self, keep: int = 1000, *, by_kernel: bool = False) -> Trace:
        """A record of the runs that begin within ``with session.trace() as t``, calls of functions among them: see `flowgraph.Trace`.

        keep       how many runs to keep; of more, the last ones
        by_kernel  whether to run, and time, one by one also those small kernels that otherwise run together as one call of machine code,
                   the turns of loops among them: shows more, and takes longer than runs do by themselves

        Runs cost a little more meanwhile, and give the same bits. Any number of threads may run, and several traces be recorded at once.

        >>> x = fg.placeholder("x", (), "float64")
        >>> with session.trace() as t:
        ...     y = session.run(fg.exp(x) + 1, {x: 0.0})
        >>> [kernel.op for kernel in t.runs[0].plan.kernels]
        ['exp', 'add']
        """
        return FUNCTIONS["new_trace"](self._runs, keep, by_kernel)  # type: ignore[no-any-return]

    def explain(self, fetches: Any, feeds: Mapping[Tensor, Any] | None = None) -> Explanation:
        """What becomes of a request: the nodes that it needs, what each pass changes, and the plan. See `fg.explain`."""
        _, flat = flatten(fetches, self.graph)
        shapes, code = self._feeds.shapes(feeds), self._code
        return explain(flat, shapes, self.device, self.passes, code, self.memory_limit, self.devices[1:], self.calibration)

    def ledger(self, *, measure: bool = False) -> Ledger:
        """What each kernel compiled for this session's plans has cost, how often it was called, and what it has earned: print it.

        measure  time each kernel beside NumPy's for the same, which takes some milliseconds for each

        >>> x = fg.placeholder("x", (1000, 100), "float64")
        >>> with fg.Session(graph) as other:
        ...     y = other.run(fg.tanh(fg.exp(x) + 1), {x: np.zeros((1000, 100))})
        ...     ledger = other.ledger()
        >>> [(entry.calls, [node.name for node in entry.nodes]) for entry in ledger.entries] if other.jit else "needs llvmlite"
        [(1, ['tanh', 'add', 'exp'])]
        """
        return lazy.ledger.ledger_of(self._programs.values(), measure=measure)

    def bisect(self, fetches: Any, feeds: Mapping[Tensor, Any] | None = None, *, bound: float | None = None) -> Bisection:
        """The rewrite of the compiler that changes a result by more than it may, if any does: print what it gives.

        bound   how far a result may be from what NumPy's kernels give one by one, of its largest element. None for 1e-10 in float64,
                1e-4 in float32, more in 16 bits
        raises  as ``run``, before anything runs

        Simplifications and working in place may not change a bit; compiled loops and kernels, and sums of slices, no more than the bound.
        Where a result is off, the plan is made with fewer and fewer rewrites until the fewest are left that do it. No variable is written.

        >>> x = fg.placeholder("x", (3,), "float64")
        >>> print(session.bisect(fg.exp(x * 1.0) + fg.exp(x * 1.0), {x: [0.0, 1.0, 2.0]}))
        3 rewrites, 6 runs: none changes a result by more than it may; the largest difference is 0
        """
        program, _, values = self._to_be_run(fetches, feeds)
        return lazy.bisect.bisected(program.plan, self._buffers, values, bound)

    def calibrate(self, fetches: Any, feeds: Mapping[Tensor, Any] | None = None) -> Calibration:
        """What each kernel of a request takes, on one device of each kind: the session's calibration with these measured times in it.

        The request runs four times on each, kernel by kernel, and writes no variable. A new session that is given the result places by it.

        >>> x = fg.placeholder("x", (64, 64))
        >>> measured = session.calibrate(fg.matmul(x, x, name="square"), {x: np.ones((64, 64), np.float32)})
        >>> 0 < measured.kernels["cpu"]["square"] < 1
        True
        """
        _, flat = flatten(fetches, self.graph)
        return lazy.calibrated.calibrated(self, flat, self._feeds.arrays(feeds))

    @property
    def random_state(self) -> tuple[int, int]:
        """The seed and the number of runs started so far: what the draws of the next run depend on. Set it to go on where a session was.

        Values that variables have already are not drawn anew. raises ArgumentError unless it is set to two ints from 0 to 2**64 - 1

        >>> noise = fg.random.normal((2,))
        >>> state = session.random_state
        >>> first = session.run(noise)
        >>> session.random_state = state
        >>> bool((session.run(noise) == first).all())
        True
        """
        return self._state.random

    @random_state.setter
    def random_state(self, state: tuple[int, int]) -> None:
        self._state.random = state

    @property
    def seed(self) -> int:
        """The seed of initial values and random draws."""
        return self._state.seed

    @property
    def last_report(self) -> RunReport | None:
        """What the last run that is over has taken; None before the first."""
        return self._runs.last_report

    def _prepared(
        self, flat: Sequence[Tensor | Node], feeds: Mapping[Tensor, Any] | None, device_arrays: bool = False
    ) -> tuple[Program, list[Any]]:
        """What a run of ``flat`` would execute, and its feeds."""
        arrays = self._feeds.arrays(feeds)
        shapes, homes = {t: a.shape for t, a in arrays.items()}, self._feeds.homes(arrays)
        return self._program(flat, shapes, self.memory_limit, homes, device_arrays), list(arrays.values())

    def _program(
        self,
        flat: Sequence[Tensor | Node],
        shapes: Mapping[Tensor, Shape],
        limit: int | None,
        homes: Mapping[Tensor, str] = MappingProxyType({}),
        device_arrays: bool = False,
    ) -> Program:
        return self._programs.of(flat, shapes, limit, homes, device_arrays, self._runs.watched(flat, shapes))

    def _to_be_run(self, fetches: Any, feeds: Mapping[Tensor, Any] | None) -> tuple[Program, list[Any], list[Any]]:
        """What a run of ``fetches`` would execute, its feeds, and the values that it would start with, as they are now."""
        program, arrays = self._prepared(flatten(fetches, self.graph)[1], feeds)
        return program, arrays, self._runs.begun(program, arrays)


def _opened(device: Any, devices: Any) -> list[Device]:
    """The devices of a session, the one first that serves what nothing else decides."""
    if devices is None:
        names = [device] if device is not None else [name.strip() for name in os.environ.get("FLOWGRAPH_DEVICES", "cpu:0").split(",")]
        return _opened(None, names)
    if not isinstance(devices, list | tuple) or not devices:
        raise ArgumentError(f"Session: devices is a list of names, got {devices!r:.80}", help='devices=["cpu:0", "cpu:1"]')
    opened = [open_device(name) for name in devices]
    if not any(each.is_host for each in opened):
        opened.append(Cpu())  # for what no GPU has a kernel for
        opened[-1].last_resort = True
    if len(set(devices)) < len(devices):
        raise ArgumentError(f"Session: a device is named twice in {devices!r:.80}")
    if device is not None and device not in devices:
        raise ArgumentError(f"Session: device {device!r:.80} is none of devices, {', '.join(devices)}")
    return sorted(opened, key=lambda each: each.name != device)
