"""Session: what changes between runs. Variables' values, the plans made so far, the threads, the seed.

A graph is pure; several sessions may run it with different states.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..compile import PASSES, Explanation, Plan, compile_plan, explain
from ..compile.kinds import POOLED_BYTES
from ..devices import GIVEN, Calibration, Cpu, Device, open_device
from ..devices.speed import kind_of
from ..errors import (
    ArgumentError,
    FeedError,
    FlowgraphError,
    RunTimeoutError,
    SessionClosedError,
    ShapeError,
    UninitializedError,
)
from ..graph import Graph, Node, Shape, Tensor, get_default_graph
from ..graph.arguments import as_bytes, as_count
from ..graph.graph import COLLECTING_RARELY
from ..graph.location import here, shorten
from ..graph.node import FUNCTIONS
from ..graph.report import of_another_graph, where
from ..graph.spec import format_spec
from ..jit import llvm
from ..jit.kernels import compiled, compiled_later
from ..ops.state import Initializer
from ..runtime import Buffers, Crew, Pool, Program, Recording, Run, RunReport, TracedRun, Walk
from ..runtime.on_device import device_program
from ..runtime.timed import kernel_seconds
from ..runtime.tracing import TRACED
from .bisect import Bisecting, Bisection
from .checks import Check, as_check, warn
from .function import Function
from .future import RunFuture
from .guards import BLAS, Growth, Turnstile
from .ledger import Ledger, ledger_of
from .recorder import RECORDED, RUNS_RECORDED, Recorder
from .steps import Steps
from .values import (
    adopted,
    arrived,
    as_fed,
    check_shape,
    check_symbols,
    closed,
    fitting,
    flatten,
    handed_out,
    is_on_gpu,
    is_plain,
    kept,
)
from .variables import Variables
from .watch import Watch, watched

if TYPE_CHECKING:
    from concurrent.futures import Future

    from ..traces import Trace

# Plans kept for each session: a plan for each set of fetches, feeds and shapes.
PLANS_KEPT = 128

# Without a global lock another thread may be about to take a reference that the count does not show yet.
_COUNTS_REFERENCES = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()


class Session:
    """Runs a graph, and holds its variables' values. Use it as a context, or call ``close``.

    graph    what to run; None for the current graph
    threads  how many threads compute at once, on each device; the values do not depend on it. None for the number of processors, or each
             device's share of it
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
    capture  whether the kernels of a GPU are captured as a CUDA graph in their second run and replayed; the values are the same
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
        capture: bool = True,
        tf32: bool = False,
        cudnn: bool | None = None,
    ) -> None:
        if graph is not None and not isinstance(graph, Graph):
            raise ArgumentError(f"Session: the first argument is a graph, got {graph!r:.80}")
        opened = _opened(device, devices)
        hosts = sum(each.is_host for each in opened)
        threads = max(1, _processors() // hosts) if threads is None else as_count(threads, "Session: threads", 1)
        _check_seed(seed)
        if not isinstance(passes, list | tuple | set | frozenset) or not all(each in PASSES for each in passes):
            raise ArgumentError(f"Session: passes are some of {', '.join(PASSES)}, got {passes!r}")
        if calibration is not None and not isinstance(calibration, Calibration):
            raise ArgumentError(f"Session: calibration is what fg.calibrate gives, got {calibration!r:.80}")
        self.calibration, self.captures = calibration or GIVEN, capture
        self.check_numerics = as_check(check_numerics, None, "Session")
        self.memory_limit = None if memory_limit is None else as_bytes(memory_limit, "Session: memory_limit")
        self.graph = graph if graph is not None else get_default_graph()
        self.passes = tuple(passes)
        if jit:
            llvm.require()
        self.jit = llvm.is_available() if jit is None else bool(jit)
        self.threads, self.seed = threads, seed
        self.device, *others = opened
        self.devices = opened
        self.host_only = all(each.is_host for each in opened)
        for each in opened:
            each.tf32 = bool(tf32)
            each.use_cudnn(cudnn)
        # What makes loops functions; where a GPU may run them, those for the host are compiled in their first call there.
        self._code = (compiled if self.host_only else compiled_later) if self.jit else None
        self._buffers = Buffers(opened)
        self.memory = self._buffers.on(self.device.name)
        self.last_report: RunReport | None = None
        self.variables = Variables(self)
        from concurrent.futures import Future  # with logging behind it, 3 ms that building a graph does without

        self._new_future = Future[list[Any]]
        self._crew = Crew(threads - 1 if self.jit and len(opened) == 1 else 0)
        self._pools = {
            each.name: Pool(threads if each.is_host else 1, f"flowgraph-{each.name}" if others else "flowgraph", alone=not others)
            for each in opened
        }
        self._lock = threading.Lock()  # guards _values, _programs, _runs_started, _active and _traces
        self._values: dict[int, Any] = {}  # variable's node id -> array; arrays are replaced, never changed
        self._programs: OrderedDict[Any, Program] = OrderedDict()
        self._updates = Turnstile()
        self._active: set[Run] = set()
        self._runs_started = 0
        self._closed = False
        self._traces: tuple[Trace, ...] = ()  # that are being recorded
        self._detour = False  # whether functions leave their calls to `_perform`: closed, traced, or recorded
        self._has_warned = False  # of a loss that is not finite
        self._growth = Growth(self.graph)
        self._recorder: Recorder | None = None
        self._watches: tuple[Watch, ...] = ()
        if (sessions := RECORDED.get()) is not None and self.host_only:
            self._recorder, self._detour = Recorder(RUNS_RECORDED), True
            sessions.append(self)
        if (trace := TRACED.get()) is not None:
            self._tracing(trace, True)
        BLAS.hold()
        self._finalizer = weakref.finalize(self, _shut, [*self._pools.values(), self._crew])

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    def close(self) -> None:
        """Ends the runs that go on, the threads, and the hold on BLAS. May be called twice."""
        with self._lock:
            self._closed = self._detour = True
            active = list(self._active)
        for run in active:
            run.cancel(SessionClosedError("the session was closed during the run"))
        for run in active:
            run.wait()
        self._finalizer()
        self._buffers.trim()
        with self._lock:
            self._programs.clear()

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
            return names(self._perform(program, arrays, timeout, as_check(check_numerics, self.check_numerics, "run")))
        except FlowgraphError as error:
            shorten(error)
            raise

    def run_async(self, fetches: Any, feeds: Mapping[Tensor, Any] | None = None, *, device_arrays: bool = False) -> RunFuture:
        """Starts a run and returns at once: ``future.result()`` or ``await future`` gives what ``run`` would; ``cancel()`` ends it."""
        names, flat = flatten(fetches, self.graph)
        program, arrays = self._prepared(flat, feeds, device_arrays)
        future, run, start = self._made(program, arrays, True, self.check_numerics)
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
        if not self.host_only:
            raise ArgumentError("record: only runs on the host can be recorded", help='Session(device="cpu:0")')
        if last is not None:
            last = as_count(last, "record: last", 1)
        recorder = Recorder(last)
        with self._lock:
            if self._closed:
                raise closed()
            before = self._recorder
            if before is not None and RECORDED.get() is None:
                raise ArgumentError("record: a record of this session is being made already")
            self._recorder, self._detour = recorder, True
        try:
            yield recorder
        finally:
            with self._lock:
                self._recorder = before
                self._detour = self._closed or bool(self._traces or self._watches) or before is not None
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
        if not self.host_only:
            raise ArgumentError("steps: only on the host can a run be gone through node by node", help='Session(device="cpu:0")')
        program, _, values = self._to_be_run(fetches, feeds)
        plan = program.plan

        def ended(walk: Walk) -> Any:
            results = [handed_out(values[slot], True) if slot >= 0 else None for slot in plan.fetches]
            if program.extra:
                self._look(program, results)
            written = [(node, fitting(node, kept(np.array(values[slot])))) for node, slot in plan.updates]
            if written:
                self._updates.enter(lambda: self._write(written), wait=True)
                self._updates.leave()
            return names(results[: len(results) - program.extra])

        return Steps(Walk(plan, values, self._buffers), ended)

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
        with self._lock:
            if self._closed:
                raise closed()
            self._watches, self._detour = (*self._watches, made), True
        return made

    def _unwatch(self, watch: Watch) -> None:
        with self._lock:
            self._watches = tuple([each for each in self._watches if each is not watch])
            self._detour = self._closed or bool(self._traces or self._watches) or self._recorder is not None

    def plan(self, fetches: Any, feeds: Mapping[Tensor, Any] | None = None) -> Plan:
        """What ``run`` would execute; printing it shows tasks, kernels and memory. ``feeds`` may hold shapes in place of values."""
        _, flat = flatten(fetches, self.graph)
        program = self._program(flat, self._shapes(feeds), self.memory_limit)
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
        return FUNCTIONS["new_trace"](self, keep, by_kernel)  # type: ignore[no-any-return]

    def _tracing(self, trace: Trace, is_on: bool) -> None:
        """Begins or ends to record in ``trace``."""
        with self._lock:
            others = tuple(each for each in self._traces if each is not trace)
            self._traces = (*others, trace) if is_on else others
            self._detour = self._closed or bool(self._traces or self._watches) or self._recorder is not None

    def explain(self, fetches: Any, feeds: Mapping[Tensor, Any] | None = None) -> Explanation:
        """What becomes of a request: the nodes that it needs, what each pass changes, and the plan. See `fg.explain`."""
        _, flat = flatten(fetches, self.graph)
        code = self._code
        return explain(flat, self._shapes(feeds), self.device, self.passes, code, self.memory_limit, self.devices[1:], self.calibration)

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
        with self._lock:
            programs = list(self._programs.values())
        return ledger_of(programs, measure=measure)

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
        if not self.host_only:
            raise ArgumentError("bisect: only on the host can plans be compared", help='Session(device="cpu:0")')
        program, _, values = self._to_be_run(fetches, feeds)
        plan = program.plan
        given = {tensor: values[slot] for tensor, slot in plan.feeds} | {node: values[slot] for node, slot in plan.variables}
        return Bisecting(plan, self._buffers, given, values[plan.run_key] if plan.run_key >= 0 else None, bound).bisected()

    def calibrate(self, fetches: Any, feeds: Mapping[Tensor, Any] | None = None) -> Calibration:
        """What each kernel of a request takes, on one device of each kind: the session's calibration with these measured times in it.

        The request runs four times on each, kernel by kernel, and writes no variable. A new session that is given the result places by it.

        >>> x = fg.placeholder("x", (64, 64))
        >>> measured = session.calibrate(fg.matmul(x, x, name="square"), {x: np.ones((64, 64), np.float32)})
        >>> 0 < measured.kernels["cpu"]["square"] < 1
        True
        """
        _, flat = flatten(fetches, self.graph)
        arrays = {tensor: self._fed(tensor, value) for tensor, value in _as_feeds(feeds).items()}
        check_symbols(arrays)
        kernels = {kind: dict(names) for kind, names in self.calibration.kernels.items()}
        for kind, device in {kind_of(device.name): device for device in reversed(self.devices)}.items():
            others = [other for other in self.devices if other is not device]
            shapes = {tensor: array.shape for tensor, array in arrays.items()}
            code = self._code
            plan = compile_plan(flat, shapes, device, passes=self.passes, compiled=code, others=others, placed=False)
            values: list[Any] = [None] * plan.slots
            for tensor, slot in plan.feeds:
                values[slot] = device.copied(arrays[tensor])
            for node, slot in plan.variables:
                values[slot] = device.copied(self.variables[node.outputs[0]])
            if plan.run_key >= 0:
                values[plan.run_key] = np.array([self.seed, 0, 0], np.uint64)
            kernels.setdefault(kind, {}).update(kernel_seconds(plan, self._buffers, device, values))
        return replace(self.calibration, kernels=kernels)

    def _shapes(self, feeds: Mapping[Tensor, Any] | None) -> dict[Tensor, Shape]:
        """The shapes of the feeds, which may be shapes themselves."""
        shapes: dict[Tensor, Shape] = {}
        for tensor, value in _as_feeds(feeds).items():
            is_shape = isinstance(value, tuple) and all(isinstance(d, int) for d in value)
            if is_shape:
                check_shape(self._own(tensor), value)
            shapes[tensor] = value if is_shape else self._fed(tensor, value).shape
        return shapes

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
        with self._lock:
            return self.seed, self._runs_started

    @random_state.setter
    def random_state(self, state: tuple[int, int]) -> None:
        if not isinstance(state, tuple | list) or len(state) != 2:
            raise ArgumentError(f"Session: random_state is a pair, the seed and the number of runs, got {state!r:.80}")
        seed, runs = state
        _check_seed(seed)
        if isinstance(runs, bool) or not isinstance(runs, int) or not 0 <= runs < 2**64:
            raise ArgumentError(f"Session: the number of runs is an int from 0 to 2**64 - 1, got {runs!r}")
        with self._lock:
            self.seed, self._runs_started = seed, runs

    # --- one run

    def _prepared(
        self, flat: Sequence[Tensor | Node], feeds: Mapping[Tensor, Any] | None, device_arrays: bool = False
    ) -> tuple[Program, list[Any]]:
        arrays = {tensor: self._fed(tensor, value) for tensor, value in _as_feeds(feeds).items()}
        check_symbols(arrays)
        shapes, homes = {t: a.shape for t, a in arrays.items()}, self._homes(arrays)
        return self._program(flat, shapes, self.memory_limit, homes, device_arrays), list(arrays.values())

    def _homes(self, arrays: Mapping[Tensor, Any]) -> dict[Tensor, str]:
        """The devices of feeds that are not on the host."""
        if self.host_only:
            return {}
        return {t: f"cuda:{a.device.id}" for t, a in arrays.items() if not isinstance(a, np.ndarray | np.generic)}

    def _program(
        self,
        flat: Sequence[Tensor | Node],
        shapes: Mapping[Tensor, Shape],
        limit: int | None,
        homes: Mapping[Tensor, str] = MappingProxyType({}),
        device_arrays: bool = False,
    ) -> Program:
        watches = self._watches and watched(self._watches, flat, shapes)
        if watches:
            flat = [*flat, *watches]
        key: Any = (tuple(map(id, flat)), tuple((id(t), s) for t, s in shapes.items()), limit, len(watches))
        if not self.host_only:
            key = (*key, tuple(homes.items()), device_arrays)
        with self._lock:
            if self._closed:
                raise closed()
            program = self._programs.get(key)
            if program is not None:
                self._programs.move_to_end(key)
                return program
        self._growth.check()
        with COLLECTING_RARELY:  # a plan has as many objects as the graph, and none is garbage
            code = self._code
            plan = compile_plan(
                flat,
                shapes,
                self.device,
                passes=self.passes,
                compiled=code,
                memory_limit=limit,
                others=self.devices[1:],
                calibration=self.calibration,
                homes=homes,
                device_arrays=device_arrays,
            )
            program = Program(plan, self._buffers) if self.host_only else device_program(plan, self._buffers)
            program.extra = len(watches)
        with self._lock:
            self._programs[key] = program
            while len(self._programs) > PLANS_KEPT:
                self._programs.popitem(last=False)
        return program

    def _perform(self, program: Program, arrays: Sequence[Any], timeout: float | None, check: bool | None = False) -> list[Any]:
        """One run on behalf of a caller who waits for it."""
        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0):
            raise ArgumentError(f"Session: timeout is a number of seconds, at least 0, got {timeout!r:.80}")
        may_spread = self._may_spread(program)
        together = timeout is None and not self._detour and program.is_warm and self._may_team(program) and program.team is not None
        background = timeout is not None or (may_spread and not together)
        future, run, start = self._made(program, arrays, background, check, self._crew if together else None)
        try:
            start()
            try:
                return arrived(future.result(timeout))
            except TimeoutError:
                if future.done():
                    raise
                run.cancel(RunTimeoutError(f"the run took longer than {timeout} s", help="nothing was written to any variable"))
                return arrived(future.result())
        except KeyboardInterrupt as interrupt:
            run.cancel(interrupt)
            if run.has_begun:
                run.wait()
            raise

    def _may_spread(self, program: Program) -> bool:
        """Whether several threads are of use to a run."""
        plan = program.plan
        several = len(self.devices) > 1 and (plan.host_only or len({task.device for task in plan.tasks}) > 1)
        return program.schedule is not None and (several or (self.threads > 1 and plan.host_only and not program.is_serial))

    def _may_team(self, program: Program) -> bool:
        """Whether they may work off its tasks in machine code, if it has a team for that."""
        return self._crew.is_possible and self._may_spread(program)

    def _made(
        self, program: Program, arrays: Sequence[Any], background: bool, check: bool | None, crew: Crew | None = None
    ) -> tuple[Future[list[Any]], Run, Callable[[], None]]:
        """A new run, what it will give, and the function that starts it: at once, or when the updates before it are over."""
        future: Future[list[Any]] = self._new_future()
        plan = program.plan
        values = program.template.copy()
        for (_, slot), array in zip(plan.feeds, arrays, strict=True):
            values[slot] = array
        run = self._new_run(program, values, lambda run: self._finish(run, future), background)

        def begin() -> None:
            try:
                with self._lock:
                    if self._closed:
                        raise closed()
                    number = self._begin(plan, values)
                    self._active.add(run)
                    run.may_replay = self.captures and len(self._active) == 1 and not (check or program.extra)
                    recorder = self._recorder
                if recorder is not None:
                    recorder.begins(run, self.seed, number)
                if check or (check is None and plan.updates and plan.host_only and not self._has_warned):
                    run.check = Check(plan, values, bool(check))
                if not background:
                    run.run_here(crew)
                else:
                    run.run_on(self._pools)
            except BaseException as error:
                if run.has_begun:
                    run.cancel(error)  # it ends by itself
                else:
                    self._abandon(run, future, error)

        if plan.updates:
            return future, run, lambda: self._updates.enter(begin, wait=not background)
        return future, run, begin

    def _new_run(self, program: Program, values: list[Any], finish: Callable[[Run], None], background: bool) -> Run:
        traces = self._traces
        if not traces:
            return Run(program, values, finish)
        threads = {device.name: self.threads for device in self.devices} if background else {}
        by_crew = background and self._may_team(program) and program.team is not None
        recording = Recording(program.plan, threads, here(), any(trace.by_kernel for trace in traces), by_crew)
        for trace in traces:
            trace.add(recording)
        return TracedRun(program, values, finish, recording)

    def _to_be_run(self, fetches: Any, feeds: Mapping[Tensor, Any] | None) -> tuple[Program, list[Any], list[Any]]:
        """What a run of ``fetches`` would execute, its feeds, and the values that it would start with, as they are now."""
        program, arrays = self._prepared(flatten(fetches, self.graph)[1], feeds)
        values = program.template.copy()
        for (_, slot), array in zip(program.plan.feeds, arrays, strict=True):
            values[slot] = array
        with self._lock:
            if self._closed:
                raise closed()
            self._begin(program.plan, values)
        return program, arrays, values

    def _begin(self, plan: Plan, values: list[Any]) -> int:
        """Fills in what a run is given besides its feeds, the variables and its key, and counts it; its number. The lock is held."""
        number = self._runs_started
        if plan.run_key >= 0:
            values[plan.run_key] = np.array([self.seed, number, 0], np.uint64)
        self._runs_started += 1
        self._read_variables(plan, values)
        return number

    def _write(self, written: Sequence[tuple[Node, Any]]) -> None:
        with self._lock:
            for node, value in written:
                self._values[node.id] = value

    def _read_variables(self, plan: Plan, values: list[Any]) -> None:
        for node, slot in plan.variables:
            if node.id not in self._values:
                self._values[node.id] = self._initial(node)
            values[slot] = self._values[node.id]

    def _initial(self, node: Node) -> Any:
        """The first value of a variable: it depends on the seed and the variable alone."""
        initial = node.attrs["initial"]
        if initial is None:
            raise UninitializedError(
                f"variable {node.name} {format_spec(node.outputs[0].shape, node.outputs[0].dtype)} is read but has no value",
                rows=[("made at", where(node.location))],
                help=f"load it (fg.io.load_weights), set it (session.variables[{node.name!r}] = array), or give it an initial value",
            )
        if isinstance(initial, Initializer) and not isinstance(initial, np.ndarray | np.generic):
            value = np.asarray(initial(np.random.Generator(np.random.Philox(key=[self.seed, node.id]))), initial.dtype)
            if value.shape != node.outputs[0].shape:
                raise ShapeError(f"the initializer of {node.name} made {value.shape}, not {node.outputs[0].shape}")
            return self._stored(node, value)
        return self._stored(node, initial)

    def _home(self, node: Node) -> Device:
        """The device that a variable lives on."""
        return self.device if node.device is None else next((each for each in self.devices if each.name == node.device), self.device)

    def _stored(self, node: Node, value: Any) -> Any:
        """A value of a variable on its device."""
        device = self._home(node)
        return value if device.is_host else device.copied(value)

    def _result(self, plan: Plan, slot: int, value: Any) -> Any:
        if slot in plan.away:
            device: Any = self._buffers.device(plan.away[slot])
            return device.handed_over(device.copied(value) if slot in plan.copied else value)
        return self._buffers.on(plan.lent[slot]).lent(value) if slot in plan.lent else handed_out(value, slot in plan.copied)

    def _finish(self, run: Run, future: Future[list[Any]]) -> None:
        """The end of a run, on the thread that did its last work: writes variables, hands out results, lets the next update in."""
        plan, results, error = run.program.plan, [], run.error
        try:
            if error is None:
                values = run.values
                wrong = None if run.check is None else run.check.error(run, self._buffers)
                if wrong is not None and run.check.is_strict:
                    raise wrong
                results = [self._result(plan, slot, values[slot]) if slot >= 0 else None for slot in plan.fetches]
                if run.program.extra:
                    results = arrived(results)
                    self._look(run.program, results)
                written = [(node, fitting(node, self._kept(node, values[slot]))) for node, slot in plan.updates]
                with self._lock:
                    replaced = [self._values.get(node.id) for node, _ in written]
                    for node, value in written:
                        self._values[node.id] = value
                if run.ended is not None:
                    run.ended(results, written, None)
                values.clear()  # views of variables are among them, too
                self._recycle(replaced, plan.updates)
                if wrong is not None:
                    self._has_warned = True
                    warn(wrong)
        except BaseException as failure:
            error = failure
        if error is not None and run.ended is not None:
            run.ended((), (), error)
        with self._lock:
            self._active.discard(run)
        self.last_report = run.report
        if plan.updates:
            self._updates.leave()
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(results[: len(results) - run.program.extra] if run.program.extra else results)

    def _look(self, program: Program, results: list[Any]) -> None:
        """Shows to the watches what they asked for, which are the last results."""
        tensors = program.plan.request.fetches[-program.extra :]
        for tensor, value in zip(tensors, results[-program.extra :], strict=True):
            for watch in self._watches:
                if watch.tensor is tensor:
                    watch.look(value)

    def _recycle(self, arrays: list[Any], updates: Sequence[tuple[Node, int]]) -> None:
        """Gives arrays that the variables of ``updates`` have held to their devices' pools, where the next step finds them for new values.

        A run that began before may still read one. Its reference shows in the count: three are the list's, the loop's and the call's.
        """
        if not _COUNTS_REFERENCES:
            return
        for place in range(len(arrays)):
            array = arrays[place]  # (`enumerate` would hold one more reference)
            if sys.getrefcount(array) == 3 and isinstance(array, np.ndarray) and array.nbytes >= POOLED_BYTES and is_plain(array):
                self._buffers.on(updates[place][0].device or self.device.name).give(array)

    def _kept(self, node: Node, value: Any) -> Any:
        """A value that a run has made, as its variable may hold it; as it is where it can be."""
        if self.host_only and value.__class__ is np.ndarray and is_plain(value):
            return value
        device = self._home(node)
        return kept(value) if device.is_host else value if value.flags.c_contiguous and value.base is None else device.copied(value)

    def _abandon(self, run: Run, future: Future[list[Any]], error: BaseException) -> None:
        """A run that could not begin."""
        with self._lock:
            self._active.discard(run)
        if run.program.plan.updates:
            self._updates.leave()
        future.set_exception(error)

    # --- feeds

    def _own(self, tensor: Any) -> Tensor:
        """``tensor``, which is one of this session's graph."""
        if not isinstance(tensor, Tensor):
            if isinstance(tensor, str) and tensor in self.graph:
                raise FeedError(f"the key of a feed is a tensor, got the text {tensor!r}", help=f"{{graph[{tensor!r}]: array}}")
            raise FeedError(f"the key of a feed is a tensor, got {tensor!r:.80}", help="session.run(y, {x: array})")
        if tensor.graph is not self.graph:
            rows, help = of_another_graph(tensor)
            raise FeedError(f"{tensor.name} belongs to another graph than the session's", rows=rows, help=help)
        return tensor

    def _fed(self, tensor: Any, value: Any) -> Any:
        """``value`` as an array that fits ``tensor``; not copied when it does already."""
        tensor = self._own(tensor)
        if isinstance(value, Tensor):
            raise FeedError(f"{tensor.name} is fed a tensor, {value.name}", help="feed its value: session.run gives it")
        array = as_fed(tensor, value) if not is_on_gpu(value) else self._adopted(tensor, value)
        if array.shape != tensor.shape:
            check_shape(tensor, array.shape)
        return array

    def _adopted(self, tensor: Tensor, value: Any) -> Any:
        """The caller's array on a GPU, not copied."""
        device, array = adopted(tensor, value, self.devices)
        return device.adopted(array)


def _as_feeds(feeds: Any) -> Mapping[Tensor, Any]:
    if feeds is None:
        return {}
    if not isinstance(feeds, Mapping):
        raise FeedError(f"feeds are a dict from tensors to values, got {type(feeds).__name__}", help="session.run(y, {x: array})")
    return feeds


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


def _shut(pools: Sequence[Pool | Crew]) -> None:
    for pool in pools:
        pool.close()
    BLAS.release()


def _check_seed(seed: Any) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ArgumentError(f"Session: the seed is an int from 0 to 2**64 - 1, got {seed!r}")


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
