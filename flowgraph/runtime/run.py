"""One execution of a plan: the values, the interpreter of a task's units, errors, and the end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..compile import Plan, Unit
from ..errors import ExecutionError, FlowgraphError
from ..graph.report import explain
from .memory import BufferPool
from .pool import Pool
from .schedule import RunState, Schedule

# What the interpreter runs: (kernel, number of inputs, first input, second input, all inputs, output, slots to empty).
Instruction = tuple[Callable[..., Any], int, int, int, tuple[int, ...], int, tuple[int, ...]]


class Program:
    """A plan made ready to be run by one session: instructions for each task, the schedule, the first values.

    Holds no state of any run, so that any number of threads may run it at once.
    """

    def __init__(self, plan: Plan, memory: BufferPool) -> None:
        self.plan, self.memory = plan, memory
        self.template: list[Any] = [None] * plan.slots
        for slot, array in plan.constants:
            self.template[slot] = memory.device.xp.asarray(array) if array.ndim else array[()]
        self.tasks = [[self._instruction(unit) for unit in task.units] for task in plan.tasks]
        self.schedule: Schedule[int] | None = None
        if len(plan.tasks) > 1:
            self.schedule = Schedule({task.index: task.after for task in plan.tasks}, {task.index: task.priority for task in plan.tasks})

    def _instruction(self, unit: Unit) -> Instruction:
        inputs = unit.inputs
        kernel = unit.kernel
        if unit.bodies:
            kernel = _holding(kernel, [Body(plan, self.memory) for plan in unit.bodies])
        if unit.mode == "take":
            kernel = _taking(kernel, self.memory, unit.spec)
        elif unit.mode == "reuse":
            kernel = _reusing(kernel, unit.reuse)
        elif unit.mode in ("part", "partial"):
            kernel = _slicing(kernel, unit)
            inputs = (*inputs, unit.buffer)
        frees = unit.frees
        if unit.recycles:
            kernel, frees = _recycling(kernel, inputs, unit, self.memory)
            inputs = (*inputs, *(slot for slot in unit.recycles if slot not in inputs and slot != unit.output))
        first = inputs[0] if inputs else 0
        second = inputs[1] if len(inputs) > 1 else 0
        return kernel, len(inputs), first, second, inputs, unit.output, frees


class Body:
    """The plan of a sub-graph as a function of its inputs and captures; it runs on the thread that calls it.

    shared  for each output whether it may be memory of the caller: an input handed through, a constant
    """

    def __init__(self, plan: Plan, memory: BufferPool) -> None:
        self.program = Program(plan, memory)
        self.inputs = [slot for _, slot in plan.feeds]
        self.outputs = plan.fetches
        self.shared = [slot in plan.copied for slot in plan.fetches]

    def __call__(self, run: Run, arrays: Sequence[Any]) -> list[Any]:
        program = self.program
        values = program.template.copy()
        for slot, array in zip(self.inputs, arrays, strict=True):
            values[slot] = array
        if program.plan.run_slot >= 0:
            values[program.plan.run_slot] = run
        for instructions, task in zip(program.tasks, program.plan.tasks, strict=True):
            interpret(instructions, values, run, task.units)
        return [values[slot] for slot in self.outputs]


def _holding(kernel: Callable[..., Any], bodies: Sequence[Body]) -> Callable[..., Any]:
    """The kernel of a node that holds sub-graphs: it gets a function for each of them, which ends when the run is stopped."""

    def call(run: Run, *arrays: Any) -> Any:
        return kernel(*[partial(body, run) for body in bodies], *arrays, shared=[body.shared for body in bodies])

    return call


def _taking(kernel: Callable[..., Any], memory: BufferPool, spec: Any) -> Callable[..., Any]:
    take, shape, dtype = memory.take, spec.shape, spec.dtype
    return lambda *inputs: kernel(*inputs, out=take(shape, dtype))


def _reusing(kernel: Callable[..., Any], position: int) -> Callable[..., Any]:
    return lambda *inputs: kernel(*inputs, out=inputs[position])


def _slicing(kernel: Callable[..., Any], unit: Unit) -> Callable[..., Any]:
    """The kernel on rows ``read`` of the cut inputs, writing into rows ``rows`` of the buffer, which comes last."""
    (low, high), cut = unit.read, unit.cut
    if unit.mode == "partial":
        entry = unit.rows[0]

        def partial(*inputs: Any) -> None:
            arrays = [x[low:high] if c else x for x, c in zip(inputs, cut, strict=False)]
            kernel(*arrays, out=inputs[-1][entry])

        return partial

    def part(*inputs: Any) -> None:
        arrays = [x[low:high] if c else x for x, c in zip(inputs, cut, strict=False)]
        kernel(*arrays, out=inputs[-1][low:high])

    return part


def _recycling(
    kernel: Callable[..., Any], inputs: tuple[int, ...], unit: Unit, memory: BufferPool
) -> tuple[Callable[..., Any], tuple[int, ...]]:
    """The kernel with the arrays in ``unit.recycles`` given to the pool behind it."""
    count = len(inputs)
    extra = [slot for slot in unit.recycles if slot not in inputs and slot != unit.output]
    places = [inputs.index(slot) if slot in inputs else count + extra.index(slot) for slot in unit.recycles if slot != unit.output]
    give = memory.give

    def call(*arrays: Any) -> Any:
        result = kernel(*arrays[:count])
        for place in places:
            give(arrays[place])
        return result

    return call, unit.frees


@dataclass(frozen=True, slots=True)
class RunReport:
    """What a finished run says of itself.

    tasks       number of tasks of its plan
    peak_bytes  most bytes alive at once of what the run made, counting each running task at its own peak
    """

    tasks: int
    peak_bytes: int


class Run:
    """One execution. Made by the session, which fills ``values`` with feeds and variables.

    `_lock` guards `state`, `left`, `error`, `_live` and `peak_bytes`, and the making of buffers that several tasks share.
    A value is written by one task and read only by tasks that are handed out after that one has finished, so `values` needs no lock.
    """

    def __init__(self, program: Program, values: list[Any], finished: Callable[[Run], None]) -> None:
        self.program, self.values, self.finished = program, values, finished
        self.stop: BaseException | None = None  # set once: why the run must end; read between units
        self.error: BaseException | None = None
        self.peak_bytes = 0
        self._live = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        plan = program.plan
        self.left = {storage: entry.sharers for storage, entry in plan.storages.items()} if plan.storages else {}
        self.state = RunState(program.schedule) if program.schedule is not None else None
        if plan.run_slot >= 0:
            values[plan.run_slot] = self

    # --- on the caller's thread

    def run_here(self) -> None:
        """Runs every task in order on this thread."""
        with np.errstate(all="ignore"):
            try:
                for task in range(len(self.program.tasks)):
                    self._execute(task)
            except BaseException as error:
                self.error = error
        self._end()

    # --- on the pool

    def run_on(self, pool: Pool) -> None:
        """Starts the run on the pool's threads; `wait` tells when it is over."""
        if self.state is None:
            pool.submit([((-self.program.plan.seconds, 0), self._run_all)])
            return
        with self._lock:
            ready = self.state.start()
        pool.submit([(self._key(task), self._job(pool, task)) for task in ready])

    def wait(self, timeout: float | None = None) -> bool:
        """Waits for the end; whether it has come."""
        return self._over.wait(timeout)

    def cancel(self, reason: BaseException) -> None:
        """Ends the run with ``reason``, within the time of the kernels that run now."""
        over = False
        with self._lock:
            if self.stop is None and not self._over.is_set():
                self.stop = self.error = reason
                if self.state is not None:
                    self.state.stop()
                    over = self.state.is_over
        if over:
            self._end()

    def _run_all(self) -> None:
        try:
            for task in range(len(self.program.tasks)):
                self._execute(task)
        except BaseException as error:
            with self._lock:
                self.error = self.stop or error
        self._end()

    def _key(self, task: int) -> tuple[float, int]:
        return -self.program.plan.tasks[task].priority, task

    def _job(self, pool: Pool, task: int) -> Callable[[], None]:
        return lambda: self._work(pool, task)

    def _work(self, pool: Pool, task: int) -> None:
        """Runs ``task``, then of what it made ready the most urgent, and so on; the rest goes to the pool."""
        state = self.state
        assert state is not None
        while True:
            ready: list[int] = []
            try:
                self._execute(task)
            except BaseException as error:
                with self._lock:
                    self.stop = self.error = self.stop or error
                    state.stop()
                    state.drop()
                    over = state.is_over
            else:
                with self._lock:
                    ready = state.finish(task)
                    over = state.is_over
            if over:
                self._end()
            if not ready:
                return
            if len(ready) > 1:
                try:
                    pool.submit([(self._key(other), self._job(pool, other)) for other in ready[1:]])
                except RuntimeError as error:  # the session was closed in the middle of a run
                    with self._lock:
                        self.stop = self.error = self.stop or error
                        state.stop()
                        for _ in ready:
                            state.drop()
                        over = state.is_over
                    if over:
                        self._end()
                    return
            task = ready[0]

    @property
    def report(self) -> RunReport:
        return RunReport(len(self.program.tasks), self.peak_bytes)

    def _end(self) -> None:
        try:
            self.finished(self)
        finally:
            self.values = []
            self._over.set()

    # --- one task

    def _execute(self, task: int) -> None:
        plan = self.program.plan
        entry = plan.tasks[task]
        values = self.values
        if self.stop is not None:
            raise self.stop
        if entry.prepares:
            self._prepare(entry.prepares)
        with self._lock:
            self._live += entry.peak_bytes
            self.peak_bytes = max(self.peak_bytes, self._live)
        interpret(self.program.tasks[task], values, self, entry.units)
        with self._lock:
            self._live += entry.kept_bytes - entry.peak_bytes
        if entry.releases:
            self._release(entry.releases)

    def _prepare(self, prepares: tuple[tuple[int, Any], ...]) -> None:
        """Makes the buffers that slices are written into, unless another task was first."""
        for slot, spec in prepares:
            if self.values[slot] is None:
                with self._lock:
                    if self.values[slot] is None:
                        self.values[slot] = self.program.memory.take(spec.shape, spec.dtype)
                        self._live += spec.nbytes

    def _release(self, storages: tuple[int, ...]) -> None:
        plan = self.program.plan
        for storage in storages:
            with self._lock:
                self.left[storage] -= 1
                last = not self.left[storage]
                entry = plan.storages[storage]
                if last:
                    self._live -= entry.nbytes
            if last:
                array = self.values[entry.recycles] if entry.recycles >= 0 else None
                for slot in entry.slots:
                    self.values[slot] = None
                if array is not None:
                    self.program.memory.give(array)


def interpret(instructions: Sequence[Instruction], values: list[Any], run: Run, units: Sequence[Unit]) -> None:
    """Runs ``instructions``, those of ``units``, over ``values``.

    raises  what stopped the run; the error of a kernel, with its node
    """
    done = 0
    try:
        for kernel, count, first, second, inputs, output, frees in instructions:
            if run.stop is not None:
                raise run.stop
            if count == 2:
                values[output] = kernel(values[first], values[second])
            elif count == 1:
                values[output] = kernel(values[first])
            else:
                values[output] = kernel(*[values[slot] for slot in inputs])
            if frees:
                for slot in frees:
                    values[slot] = None
            done += 1
    except BaseException as error:
        if error is run.stop or not isinstance(error, Exception):
            raise
        raise _explained(error, units[done], values) from error


def _explained(error: Exception, unit: Unit, values: list[Any]) -> FlowgraphError:
    """What the caller sees of ``error``: the node, its inputs as they were, its line."""
    if isinstance(error, FlowgraphError) and error.node is not None:
        return error  # of a node in a sub-graph of this one
    node = unit.node
    told = set(node.op.shape_inputs)
    slots = unit.inputs[1:] if unit.bodies else unit.inputs
    arrays_left = iter([values[slot] for slot in slots])
    arrays = [tensor if i in told else next(arrays_left, tensor) for i, tensor in enumerate(node.inputs)]
    text = str(error) or type(error).__name__
    raised = error if isinstance(error, FlowgraphError) else ExecutionError(f"{text} ({type(error).__name__})")
    return explain(
        raised,
        op=node.op.name,
        name=node.name,
        location=node.location,
        inputs=list(zip(node.op.parameters, node.inputs, strict=False)),
        node=node,
        forward=node.forward,
        values=arrays,
        device=unit.device,
    )
