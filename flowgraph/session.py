"""Session: what changes between runs. Variables' values, the plans made so far, the threads, the seed.

A graph is pure; several sessions may run it with different states.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .compile import PASSES, Plan, compile_plan
from .compile.lower import POOLED_BYTES
from .compile.source import call_source, is_direct, task_sources
from .compile.standalone import write_module
from .devices import open_device
from .errors import (
    ArgumentError,
    DtypeError,
    FeedError,
    FetchError,
    GraphGrowthWarning,
    RunCancelledError,
    RunTimeoutError,
    SessionClosedError,
    ShapeError,
    UninitializedError,
)
from .graph import Graph, Node, Shape, Tensor, get_default_graph
from .graph.graph import COLLECTING_RARELY
from .graph.location import Location, here
from .graph.report import where
from .graph.spec import format_shape, format_spec
from .ops.state import Initializer, is_variable
from .runtime import BufferPool, Pool, Program, Run, RunReport, direct_call

if TYPE_CHECKING:
    from concurrent.futures import Future
    from pathlib import Path

# Plans kept for each session: a plan for each set of fetches, feeds and shapes.
PLANS_KEPT = 128

# Without a global lock another thread may be about to take a reference that the count does not show yet.
_COUNTS_REFERENCES = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()

# So many runs in a row, each after the graph has grown, count as building in a loop.
GROWTH_RUNS = 8


class Session:
    """Runs a graph, and holds its variables' values. Use it as a context, or call ``close``.

    graph    what to run; None for the current graph
    threads  how many threads compute at once; the values do not depend on it. None for the number of processors
    seed     of initial values and random draws: same seed, same values
    device   ``"cpu:0"``
    passes   the simplifications that plans make, of "algebra", "fold" and "common": all of them, and none changes a bit

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
        device: str = "cpu:0",
        passes: Collection[str] = PASSES,
    ) -> None:
        if graph is not None and not isinstance(graph, Graph):
            raise ArgumentError(f"Session: the first argument is a graph, got {graph!r:.80}")
        threads = threads or _processors()
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise ArgumentError(f"Session: threads is a positive number, got {threads!r}")
        _check_seed(seed)
        if isinstance(passes, str) or not set(passes) <= set(PASSES):
            raise ArgumentError(f"Session: passes are some of {', '.join(PASSES)}, got {passes!r}")
        self.graph = graph if graph is not None else get_default_graph()
        self.passes = tuple(passes)
        self.threads, self.seed = threads, seed
        self.device = open_device(device)
        self.memory = BufferPool(self.device)
        self.last_report: RunReport | None = None
        self.variables = Variables(self)
        from concurrent.futures import Future  # with logging behind it, 3 ms that building a graph does without

        self._new_future = Future[list[Any]]
        self._pool = Pool(threads)
        self._lock = threading.Lock()  # guards _values, _programs, _runs_started and _active
        self._values: dict[int, Any] = {}  # variable's node id -> array; arrays are replaced, never changed
        self._programs: OrderedDict[Any, Program] = OrderedDict()
        self._updates = _Turnstile()
        self._active: set[Run] = set()
        self._runs_started = 0
        self._closed = False
        self._growth = _Growth(self.graph)
        _BLAS.hold()
        self._finalizer = weakref.finalize(self, _shut, self._pool)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    def close(self) -> None:
        """Ends the runs that go on, the threads, and the hold on BLAS. May be called twice."""
        with self._lock:
            self._closed = True
            active = list(self._active)
        for run in active:
            run.cancel(SessionClosedError("the session was closed during the run"))
        for run in active:
            run.wait()
        self._finalizer()
        self.memory.trim()
        with self._lock:
            self._programs.clear()

    def run(self, fetches: Any, feeds: Mapping[Tensor, Any] | None = None, *, timeout: float | None = None) -> Any:
        """Computes ``fetches`` from ``feeds``; only what they need, each node once.

        fetches  a tensor, a node, or any nesting of lists, tuples and dicts of them
        feeds    values (numbers, lists or arrays) for placeholders or any other tensors; arrays of the right dtype are not copied
        timeout  seconds after which the run is ended
        returns  the same nesting with NumPy arrays (NumPy scalars for shape ()), None for nodes without output such as updates
        raises   FeedError, FetchError, ShapeError before anything runs; ExecutionError when a kernel raises; RunTimeoutError

        Variables are read as of the start of the run and written together at its end; a run that fails writes nothing. Runs that
        write variables follow each other; others run side by side.
        """
        names, flat = _flatten(fetches, self.graph)
        program, arrays = self._prepared(flat, feeds or {})
        return names(self._perform(program, arrays, timeout))

    def run_async(self, fetches: Any, feeds: Mapping[Tensor, Any] | None = None) -> RunFuture:
        """Starts a run and returns at once: ``future.result()`` or ``await future`` gives what ``run`` would; ``cancel()`` ends it."""
        names, flat = _flatten(fetches, self.graph)
        program, arrays = self._prepared(flat, feeds or {})
        return RunFuture(*self._launch(program, arrays, background=True), names)

    def function(self, inputs: Sequence[Tensor], outputs: Any) -> Function:
        """A function of arrays, in the order of ``inputs``, that returns ``outputs``: compiled once for each set of shapes.

        >>> x = fg.placeholder("x", (None,), "float64")
        >>> double = session.function([x], x * 2)
        >>> double([1.0, 2.0])
        array([2., 4.])
        """
        return Function(self, inputs, outputs)

    def plan(self, fetches: Any, feeds: Mapping[Tensor, Any] | None = None) -> Plan:
        """What ``run`` would execute; printing it shows tasks, kernels and memory. ``feeds`` may hold shapes in place of values."""
        _, flat = _flatten(fetches, self.graph)
        shapes: dict[Tensor, Shape] = {}
        for tensor, value in (feeds or {}).items():
            is_shape = isinstance(value, tuple) and all(isinstance(d, int) for d in value)
            shapes[tensor] = value if is_shape else self._fed(tensor, value).shape
        return self._program(flat, shapes).plan

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
        seed, runs = state
        _check_seed(seed)
        if isinstance(runs, bool) or not isinstance(runs, int) or not 0 <= runs < 2**64:
            raise ArgumentError(f"Session: the number of runs is an int from 0 to 2**64 - 1, got {runs!r}")
        with self._lock:
            self.seed, self._runs_started = seed, runs

    # --- one run

    def _prepared(self, flat: Sequence[Tensor | Node], feeds: Mapping[Tensor, Any]) -> tuple[Program, list[Any]]:
        if not isinstance(feeds, Mapping):
            raise FeedError(
                f"feeds are a dict from tensors to values, got {type(feeds).__name__}",
                help="session.run(y, {x: array})",
            )
        arrays = {tensor: self._fed(tensor, value) for tensor, value in feeds.items()}
        _check_symbols(arrays)
        return self._program(flat, {t: a.shape for t, a in arrays.items()}), list(arrays.values())

    def _program(self, flat: Sequence[Tensor | Node], shapes: Mapping[Tensor, Shape]) -> Program:
        key = (tuple(map(id, flat)), tuple((id(t), s) for t, s in shapes.items()))
        with self._lock:
            if self._closed:
                raise SessionClosedError("the session is closed", help="make a new one; weights can be saved before closing")
            program = self._programs.get(key)
            if program is not None:
                self._programs.move_to_end(key)
                return program
        self._growth.check()
        with COLLECTING_RARELY:  # a plan has as many objects as the graph, and none is garbage
            program = Program(compile_plan(flat, shapes, self.device, passes=self.passes), self.memory)
        with self._lock:
            self._programs[key] = program
            while len(self._programs) > PLANS_KEPT:
                self._programs.popitem(last=False)
        return program

    def _perform(self, program: Program, arrays: Sequence[Any], timeout: float | None) -> list[Any]:
        """One run on behalf of a caller who waits for it."""
        background = timeout is not None or (program.schedule is not None and self.threads > 1)
        future, run = self._launch(program, arrays, background)
        if not background:
            return future.result()
        try:
            try:
                return future.result(timeout)
            except TimeoutError:
                if future.done():
                    raise
                run.cancel(RunTimeoutError(f"the run took longer than {timeout} s", help="nothing was written to any variable"))
                return future.result()
        except KeyboardInterrupt as interrupt:
            run.cancel(interrupt)
            run.wait()
            raise

    def _launch(self, program: Program, arrays: Sequence[Any], background: bool) -> tuple[Future[list[Any]], Run]:
        future: Future[list[Any]] = self._new_future()
        plan = program.plan
        values = program.template.copy()
        for (_, slot), array in zip(plan.feeds, arrays, strict=True):
            values[slot] = array
        run = Run(program, values, lambda run: self._finish(run, future))

        def begin() -> None:
            try:
                with self._lock:
                    if self._closed:
                        raise SessionClosedError("the session is closed")
                    if plan.run_key >= 0:
                        values[plan.run_key] = np.array([self.seed, self._runs_started, 0], np.uint64)
                    self._runs_started += 1
                    self._read_variables(plan, values)
                    self._active.add(run)
                if not background:
                    run.run_here()
                else:
                    run.run_on(self._pool)
            except BaseException as error:
                self._abandon(run, future, error)

        if plan.updates:
            self._updates.enter(begin, wait=not background)
        else:
            begin()
        return future, run

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
            return value
        return initial

    def _finish(self, run: Run, future: Future[list[Any]]) -> None:
        """The end of a run, on the thread that did its last work: writes variables, hands out results, lets the next update in."""
        plan, results, error = run.program.plan, [], run.error
        try:
            if error is None:
                values = run.values
                results = [_handed_out(values[slot], slot in plan.copied) if slot >= 0 else None for slot in plan.fetches]
                written = [(node, _fitting(node, _kept(values[slot]))) for node, slot in plan.updates]
                with self._lock:
                    replaced = [self._values.get(node.id) for node, _ in written]
                    for node, value in written:
                        self._values[node.id] = value
                for _, slot in plan.variables:
                    values[slot] = None
                self._recycle(replaced)
        except BaseException as failure:
            error = failure
        with self._lock:
            self._active.discard(run)
        self.last_report = run.report
        if plan.updates:
            self._updates.leave()
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(results)

    def _recycle(self, arrays: list[Any]) -> None:
        """Gives arrays that variables have held to the pool, where the next step finds them for the new values.

        A run that began before may still read one. Its reference shows in the count: three are the list's, the loop's and the call's.
        """
        if not _COUNTS_REFERENCES:
            return
        for array in arrays:
            if sys.getrefcount(array) == 3 and isinstance(array, np.ndarray) and array.nbytes >= POOLED_BYTES and _is_plain(array):
                self.memory.give(array)

    def _abandon(self, run: Run, future: Future[list[Any]], error: BaseException) -> None:
        """A run that could not begin."""
        with self._lock:
            self._active.discard(run)
        if run.program.plan.updates:
            self._updates.leave()
        future.set_exception(error)

    # --- feeds

    def _fed(self, tensor: Any, value: Any) -> Any:
        """``value`` as an array that fits ``tensor``; not copied when it does already."""
        if not isinstance(tensor, Tensor):
            if isinstance(tensor, str) and tensor in self.graph:
                raise FeedError(f"the key of a feed is a tensor, got the text {tensor!r}", help=f"{{graph[{tensor!r}]: array}}")
            raise FeedError(f"the key of a feed is a tensor, got {tensor!r:.80}", help="session.run(y, {x: array})")
        if tensor.graph is not self.graph:
            raise FeedError(f"{tensor.name} belongs to another graph", rows=[("made at", where(tensor.node.location))])
        if isinstance(value, Tensor):
            raise FeedError(f"{tensor.name} is fed a tensor, {value.name}", help="feed its value: session.run gives it")
        array = _as_fed(tensor, value)
        shape = tensor.shape
        if array.shape != shape:
            fits = len(array.shape) == len(shape) and all(
                have == want or not isinstance(want, int) for have, want in zip(array.shape, shape, strict=True)
            )
            if not fits:
                raise FeedError(
                    f"{tensor.name} is fed shape {format_shape(array.shape)}, but it is {format_shape(shape)}",
                    rows=[("made at", where(tensor.node.location))],
                    help="? and names stand for sizes that may be anything" if not tensor.is_known else None,
                )
        return array


def _as_fed(tensor: Tensor, value: Any) -> Any:
    dtype = tensor.dtype
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype == dtype:
            return value
        array = np.asarray(value)
        weak = False
    else:
        try:
            array = np.asarray(value)
        except (ValueError, TypeError) as error:
            raise FeedError(f"{tensor.name} is fed {type(value).__name__}, which cannot be made an array: {error}") from error
        weak = isinstance(value, bool | int | float | complex | list | tuple)
    # Python's numbers take the tensor's dtype if their kind fits; arrays only where nothing can be lost.
    fits = array.dtype.kind in "biufcV" and (
        np.can_cast(array.dtype, dtype, "safe") or (weak and (array.size == 0 or _kind(array.dtype) <= _kind(dtype)))
    )
    if not fits:
        raise FeedError(
            f"{tensor.name} is fed {array.dtype}, but it is {dtype}",
            rows=[("made at", where(tensor.node.location))],
            help=f'cast it: array.astype("{dtype}")' if array.dtype.kind in "biufcV" else None,
        )
    try:
        return np.asarray(value, dtype) if weak else array.astype(dtype)
    except OverflowError as error:
        raise FeedError(f"{tensor.name} is fed a number that does not fit into {dtype}: {error}") from error


def _kind(dtype: np.dtype[Any]) -> int:
    """How far its kind reaches: truth values, whole numbers, floats (bfloat16, of kind V, is one), complex numbers."""
    return "biufc".find("f" if dtype.kind == "V" else dtype.kind)


def _check_symbols(arrays: Mapping[Tensor, Any]) -> None:
    """Equal names of sizes stand for equal sizes."""
    known: dict[str, tuple[int, Tensor]] = {}
    for tensor, array in arrays.items():
        for name, size in zip(tensor.shape, array.shape, strict=True):
            if isinstance(name, str):
                seen, first = known.setdefault(name, (size, tensor))
                if seen != size:
                    raise FeedError(f"the size {name!r} is {seen} in the feed of {first.name} and {size} in that of {tensor.name}")


def _handed_out(value: Any, copied: bool) -> Any:
    """A result as the caller gets it: his own, and a NumPy scalar where the shape is ()."""
    if isinstance(value, np.ndarray):
        if not value.ndim:
            return value[()]
        return value.copy() if copied or not value.flags.writeable else value
    return value if isinstance(value, np.generic) else np.asarray(value)[()]


def _fitting(variable: Node, value: Any) -> Any:
    """``value``, whose size may be known only now, if it fits ``variable``."""
    shape = variable.outputs[0].shape
    if value.shape != shape:
        raise ShapeError(
            f"variable {variable.name} of shape {format_shape(shape)} cannot hold the {format_shape(value.shape)} that a run made",
            rows=[("made at", where(variable.location))],
            help="no variable was written",
        )
    return value


def _kept(value: Any) -> Any:
    """A value that a variable may hold: memory of its own, in C order."""
    array = np.asarray(value)
    return array if _is_plain(array) else array.copy()


def _is_plain(array: np.ndarray[Any, Any]) -> bool:
    """Whether it is memory of its own, in C order, that may be written."""
    return array.flags.owndata and array.flags.c_contiguous and array.flags.writeable


class Function:
    """A compiled function of arrays; made by ``session.function``. Many threads may call it at once."""

    def __init__(self, session: Session, inputs: Sequence[Tensor], outputs: Any) -> None:
        self.session = session
        self.inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
        for tensor in self.inputs:
            if not isinstance(tensor, Tensor):
                raise ArgumentError(f"function: inputs are tensors, got {tensor!r:.80}", help="session.function([x, y], [f])")
        if len(set(self.inputs)) < len(self.inputs):
            raise ArgumentError("function: an input is named twice")
        self._names, self._outputs = _flatten(outputs, session.graph)
        self._is_flat = type(outputs) is list and all(isinstance(output, Tensor | Node) for output in outputs)
        self._programs: dict[Any, Program] = {}  # shapes -> program; entries are only added
        self._direct: Callable[..., list[Any]] | None = None  # for the shapes seen last: the whole call as one generated function
        self._tried: set[Program] = set()
        if all(tensor.is_known for tensor in self.inputs):
            self._program(tuple(tensor.shape for tensor in self.inputs))  # says at once what is missing

    def __call__(self, *arrays: Any, timeout: float | None = None) -> Any:
        """Computes the outputs. raises as ``Session.run``, and TypeError for a wrong number of arguments."""
        direct = self._direct
        if direct is not None and timeout is None and len(arrays) == len(self.inputs):
            results = direct(*arrays)
            return results if self._is_flat else self._names(results)
        return self._names(self._run(arrays, timeout))

    def _run(self, arrays: Sequence[Any], timeout: float | None) -> list[Any]:
        if len(arrays) != len(self.inputs):
            names = ", ".join(tensor.name for tensor in self.inputs)
            raise TypeError(f"this function takes {len(self.inputs)} arguments ({names}), got {len(arrays)}")
        session = self.session
        fed = [
            a if a.__class__ is np.ndarray and a.dtype == t.dtype and a.shape == t.shape else session._fed(t, a)
            for t, a in zip(self.inputs, arrays, strict=True)
        ]
        shapes = tuple([a.shape for a in fed])
        program = self._programs.get(shapes) or self._program(shapes, fed)
        if session._closed:
            raise SessionClosedError("the session is closed")
        results = session._perform(program, fed, timeout)
        if program not in self._tried and program.generated is not None:
            self._tried.add(program)
            self._direct = direct_call(
                program, session, session._lock, session._values, session._fed, _handed_out, _closed, self._otherwise
            ) or self._direct  # fmt: skip
        return results

    def _otherwise(self, *arrays: Any) -> list[Any]:
        return self._run(arrays, None)

    def source(self, *arrays: Any) -> str:
        """The Python program that calls run, with the user's lines: of the plan for these arrays (or shapes), or of the last one made.

        raises  ArgumentError when nothing has been called yet and a shape is not known
        """
        plan = self.plan(*arrays)
        return (call_source(plan) if is_direct(plan) else task_sources(plan)).listing()

    def export(self, file: str | os.PathLike[str]) -> Path:
        """Writes the function as a Python module that needs NumPy only, and its weights as ``.npz`` beside it.

        file     ends in ``.py``; the function is called like it
        returns  the path
        raises   ArgumentError when the function writes variables, draws random numbers, or holds what has no source

        The module's function takes and gives what this one does, for every size that a placeholder leaves open. Operations from
        SciPy still need SciPy.
        """
        return export(self, file)

    def _program(self, shapes: tuple[Shape, ...], fed: Sequence[Any] = ()) -> Program:
        if fed:
            _check_symbols(dict(zip(self.inputs, fed, strict=True)))
        program = self.session._program(self._outputs, dict(zip(self.inputs, shapes, strict=True)))
        self._programs[shapes] = program
        return program

    def plan(self, *arrays: Any) -> Plan:
        """The plan that a call with these arrays (or shapes) runs; without arguments, the last one made."""
        if not arrays and self._programs:
            return next(reversed(self._programs.values())).plan
        return self.session.plan(self._outputs, dict(zip(self.inputs, arrays, strict=True)))


def export(function: Function, file: str | os.PathLike[str]) -> Path:
    """See `Function.export`."""
    from pathlib import Path

    path = Path(file)
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise ArgumentError(f"export: a file like predict.py is expected, got {path.name!r}", help="its stem names the function")
    session = function.session
    plan = compile_plan(function._outputs, {tensor: tensor.shape for tensor in function.inputs}, session.device, is_body=True)
    with session._lock:
        for node, _ in plan.variables:
            if node.id not in session._values:
                session._values[node.id] = session._initial(node)
        values = {node.id: session._values[node.id] for node, _ in plan.variables}
    weights = path.with_suffix(".npz").name

    def results(names: list[str]) -> str:
        return repr(function._names([_Word(name) for name in names]))

    text, arrays = write_module(plan, values, results, name=path.stem, weights=weights)
    path.write_text(text)
    np.savez(path.with_suffix(".npz"), **arrays)  # type: ignore[arg-type]
    return path


class _Word(str):
    """A text that is its own representation: a name in the nesting that a function returns."""

    __slots__ = ()
    __repr__ = str.__str__


def _closed() -> SessionClosedError:
    return SessionClosedError("the session is closed")


class RunFuture:
    """A run that goes on; made by ``session.run_async``. May be awaited."""

    def __init__(self, future: Future[list[Any]], run: Run, names: Callable[[list[Any]], Any]) -> None:
        self._future, self._run, self._names = future, run, names

    def result(self, timeout: float | None = None) -> Any:
        """The fetched values, once they are there. raises what the run raised; TimeoutError when it takes longer to come."""
        return self._names(self._future.result(timeout))

    def cancel(self) -> None:
        """Ends the run within the time of the kernels that run now; ``result`` then raises RunCancelledError."""
        self._run.cancel(RunCancelledError("the run was cancelled", help="nothing was written to any variable"))

    def done(self) -> bool:
        """Whether it is over."""
        return self._future.done()

    def __await__(self) -> Generator[Any, None, Any]:
        import asyncio  # 15 ms that most programs do without

        values = yield from asyncio.wrap_future(self._future).__await__()
        return self._names(values)


class Variables(MutableMapping[str, np.ndarray[Any, Any]]):
    """The values of a session's variables by name (or by tensor). Getting copies; setting checks shape and dtype.

    >>> w = fg.variable([1.0, 2.0], name="w")
    >>> session.variables["w"] = np.array([3.0, 4.0])
    >>> session.variables["w"]
    array([3., 4.])
    """

    def __init__(self, session: Session) -> None:
        self._session = weakref.proxy(session)

    def _node(self, key: str | Tensor) -> Node:
        graph = self._session.graph
        if isinstance(key, Tensor) and is_variable(key) and key.graph is graph:
            return key.node
        for tensor in graph.variables:
            if tensor.name == key:
                return tensor.node  # type: ignore[no-any-return]
        raise KeyError(key)

    def __getitem__(self, key: str | Tensor) -> np.ndarray[Any, Any]:
        node = self._node(key)
        with self._session._lock:
            if node.id not in self._session._values:
                self._session._values[node.id] = self._session._initial(node)
            return np.array(self._session._values[node.id])

    def __setitem__(self, key: str | Tensor, value: Any) -> None:
        self.update({key: value})

    def update(self, values: Any = (), /, **named: Any) -> None:
        """Sets several at once: all of them, or on an error none."""
        checked = [(node := self._node(key), _as_value(node, value)) for key, value in {**dict(values), **named}.items()]
        with self._session._lock:
            for node, value in checked:
                self._session._values[node.id] = value

    def copy(self) -> dict[str, np.ndarray[Any, Any]]:
        """All values by name, of one moment: none from before an update and others from after it."""
        session = self._session
        with session._lock:
            for tensor in session.graph.variables:
                if tensor.node.id not in session._values:
                    session._values[tensor.node.id] = session._initial(tensor.node)
            return {tensor.name: np.array(session._values[tensor.node.id]) for tensor in session.graph.variables}

    def __delitem__(self, key: str) -> None:
        raise TypeError("a variable cannot be deleted: graphs only grow")

    def __iter__(self) -> Iterator[str]:
        return iter([tensor.name for tensor in self._session.graph.variables])

    def __len__(self) -> int:
        return len(self._session.graph.variables)


def _as_value(node: Node, value: Any) -> Any:
    tensor = node.outputs[0]
    array = np.asarray(value)
    if array.shape != tensor.shape:
        raise ShapeError(f"variable {tensor.name} has shape {format_shape(tensor.shape)}, not {format_shape(array.shape)}")
    weak = isinstance(value, bool | int | float | list | tuple)
    dtype = np.dtype("float16") if tensor.dtype.kind == "V" else tensor.dtype  # NumPy casts nothing to bfloat16 but by force
    if array.dtype != tensor.dtype and not np.can_cast(array.dtype, dtype, "same_kind" if weak else "safe"):
        raise DtypeError(f"variable {tensor.name} is {tensor.dtype}, not {array.dtype}", help=f'array.astype("{tensor.dtype}")')
    return np.array(array, tensor.dtype)


class _Turnstile:
    """Lets the runs that write variables through one by one, so that none reads what another is about to write.

    `_lock` guards `_busy` and `_queue`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy = False
        self._queue: deque[Callable[[], None]] = deque()

    def enter(self, begin: Callable[[], None], *, wait: bool) -> None:
        """Calls ``begin`` when it is its turn: at once, or by the thread that leaves; with ``wait``, always on this thread."""
        turn = threading.Event()
        with self._lock:
            if self._busy:
                self._queue.append(turn.set if wait else begin)
                waits = True
            else:
                self._busy = True
                waits = False
        if not waits:
            begin()
        elif wait:
            turn.wait()
            begin()

    def leave(self) -> None:
        with self._lock:
            following = self._queue.popleft() if self._queue else None
            self._busy = following is not None
        if following is not None:
            following()


class _Growth:
    """Notices a graph that grows with every run, as when nodes are built inside the training loop. Warns once."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._size, self._turns, self._warned = graph, len(graph), 0, False
        self._last: Location | None = None

    def check(self) -> None:
        """Called when a plan has to be made."""
        size = len(self._graph)
        if self._warned or size == self._size:
            return
        line = self._graph.nodes[-1].location
        grown, self._size = size - self._size, size
        if line != self._last:
            self._last, self._turns = line, 0
            return
        self._turns += 1
        if self._turns >= GROWTH_RUNS:
            self._warned = True
            warnings.warn(
                f"the graph grows by {grown} nodes with every run; the last was made at {where(line)}\n"
                f"  help   build once, before the loop, and call session.run or session.function in it (now at {here()})",
                GraphGrowthWarning,
                stacklevel=2,
            )


class _Blas:
    """Holds BLAS at one thread while sessions are open. OpenBLAS's limit is one for the process, so it is set once, not per task.

    `_lock` guards the rest.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions = 0
        self._limit: Any = None

    def hold(self) -> None:
        with self._lock:
            self._sessions += 1
            if self._sessions == 1:
                from threadpoolctl import threadpool_limits

                self._limit = threadpool_limits(1, user_api="blas")

    def release(self) -> None:
        with self._lock:
            self._sessions -= 1
            if self._sessions == 0:
                self._limit.restore_original_limits()
                self._limit = None


_BLAS = _Blas()


def _shut(pool: Pool) -> None:
    pool.close()
    _BLAS.release()


def _check_seed(seed: Any) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise ArgumentError(f"Session: the seed is an int from 0 to 2**64 - 1, got {seed!r}")


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _flatten(fetches: Any, graph: Graph) -> tuple[Callable[[list[Any]], Any], list[Tensor | Node]]:
    """The tensors and nodes in a nesting, and the function that puts their values back into it."""
    flat: list[Tensor | Node] = []

    def walk(value: Any) -> Callable[[list[Any]], Any]:
        if isinstance(value, Tensor | Node):
            if value.graph is not graph:
                raise FetchError(
                    f"{value.name} belongs to another graph than the session's",
                    rows=[("made at", where((value.node if isinstance(value, Tensor) else value).location))],
                )
            position = len(flat)
            if isinstance(value, Node) and value.outputs:
                value = value.outputs[0]
            flat.append(value)
            return lambda values: values[position]
        if isinstance(value, list | tuple):
            parts = [walk(part) for part in value]
            if hasattr(value, "_fields"):
                return lambda values: type(value)(*[part(values) for part in parts])
            made = type(value)
            return lambda values: made([part(values) for part in parts])
        if isinstance(value, dict):
            named = {key: walk(part) for key, part in value.items()}
            return lambda values: {key: part(values) for key, part in named.items()}
        if isinstance(value, str) and value in graph:
            raise FetchError(f"a fetch is a tensor, got the text {value!r}", help=f"graph[{value!r}] is the tensor")
        raise FetchError(f"a fetch is a tensor, a node, or lists, tuples and dicts of them, got {type(value).__name__} {value!r:.60}")

    return walk(fetches), flat
