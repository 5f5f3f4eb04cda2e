"""Tracing: runs that note when each task and each kernel of theirs began and ended, on which thread, and what it cost.

A traced run calls the same generated source as any other, with a clock read before each kernel (`stamped`), so it runs the same kernels in
the same order and gives the same bits. What it notes is plain data; what that means, `flowgraph.traces` works out. Runs that are not
traced have no part in this.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from time import perf_counter, thread_time
from typing import Any

from ..compile import Plan
from ..compile.source import Source, body_source, task_sources
from ..graph.location import Location
from .generated import Generated
from .program import GENERATED_UNITS, Body, Pairs, Program, explained
from .run import Run

# So many turns of the loops of a run are noted one by one; of those behind them, only what each kernel took in all.
TURNS_KEPT = 20_000

# Tasks that are expected to take less are not asked for their processor time: that takes the system 2 us, twice.
WORTH_SECONDS = 50e-6

# The trace in which every session that is opened from now on records, for the command line; None for none.
TRACED: ContextVar[Any] = ContextVar("TRACED", default=None)

_HEAD = re.compile(r"def (task_(\d+)|body|call)\(")


class TaskNote:
    """One task of one run.

    worker    the name of its thread
    start     seconds, by `time.perf_counter`, as all times here; ``end`` stays 0.0 where the task did not come to its end
    cpu       seconds that the thread spent computing from start to end, whoever held Python's lock; below 0 where that was not asked
    marks     when each of its kernels began, and when the last one ended: less where one failed
    turns     (plan of a sub-graph, marks) for each time that one ran, in the order in which they began
    """

    __slots__ = ("cpu", "end", "marks", "start", "task", "turns", "worker")

    def __init__(self, task: int, worker: str) -> None:
        self.task, self.worker = task, worker
        self.end = 0.0
        self.marks: list[float] = []
        self.turns: list[tuple[Plan, list[float]]] = []
        self.cpu = -1.0
        self.start = perf_counter()


@dataclass(slots=True)
class Total:
    """What the turns took that are not noted one by one: how many, and the seconds of each kernel."""

    turns: int
    seconds: list[float]


class Recording:
    """What one run notes.

    plan     what it runs; ``line``: the user's line that asked for it; ``threads``: of each device, and of the caller
    made     when it was asked for; ``begun``: when it had its turn; ``over``: when its last task had ended
    notes    of its tasks, in the order in which they began
    sizes    (id of a plan, slot) -> bytes, for results whose size only a run knows

    Each thread writes its own notes; lists are appended to, which needs no lock.
    """

    def __init__(self, plan: Plan, threads: dict[str, int], line: Location | None) -> None:
        self.plan, self.threads, self.line = plan, threads, line
        self.made, self.begun, self.over = perf_counter(), 0.0, 0.0
        self.error: BaseException | None = None
        self.peak_bytes = 0
        self.notes: list[TaskNote] = []
        self.admitted: dict[int, float] = {}
        self.sizes: dict[tuple[int, int], int] = {}
        self.totals: dict[int, tuple[Plan, Total]] = {}
        self.room = TURNS_KEPT
        self._at: dict[int | None, TaskNote] = {}  # thread -> the task that it is at
        self._lock = threading.Lock()  # guards `totals`

    def started(self, task: int) -> TaskNote:
        """Notes that ``task`` begins on this thread."""
        thread = threading.current_thread()
        note = self._at[thread.ident] = TaskNote(task, thread.name)
        self.notes.append(note)
        return note

    def marks(self, task: int) -> Callable[[float], None]:
        """What ``task``, at which this thread is, calls with the time before each kernel."""
        return self._at[threading.get_ident()].marks.append

    def turn(self, plan: Plan) -> Callable[[float], None]:
        """The same for a turn of a sub-graph."""
        marks: list[float] = []
        note = self._at[threading.get_ident()]
        if self.room > 0:
            self.room -= 1
            note.turns.append((plan, marks))
            return marks.append
        return partial(self._add, plan, marks)

    def _add(self, plan: Plan, marks: list[float], now: float) -> None:
        """Adds the time since the last mark to what that kernel has taken."""
        marks.append(now)
        place = len(marks) - 2
        with self._lock:
            if id(plan) not in self.totals:
                self.totals[id(plan)] = plan, Total(0, [0.0] * len(plan.units))
            total = self.totals[id(plan)][1]
            if place < 0:
                total.turns += 1
            else:
                total.seconds[place] += now - marks[place]

    def body(self, body: Body, run: Run) -> Callable[..., Any]:
        """``body`` as a kernel of this run calls it."""
        return partial(_turn_of, body, run, _generated(body.program, body_source))

    def size(self, plan: Plan, slot: int, value: Any) -> None:
        """Notes the size of a result, which the plan did not know."""
        self.sizes[id(plan), slot] = sum(getattr(each, "nbytes", 0) for each in (value if isinstance(value, tuple | list) else (value,)))


class TracedRun(Run):
    """A run that notes what it does in ``recording``."""

    recording: Recording  # type: ignore[misc]

    def __init__(self, program: Program, values: list[Any], finished: Callable[[Run], None], recording: Recording) -> None:
        super().__init__(program, values, finished)
        self.recording = recording
        _make_ready(program, task_sources)

    def run_here(self) -> None:
        self.recording.begun = perf_counter()
        super().run_here()

    def run_on(self, pools: Any) -> None:
        self.recording.begun = perf_counter()
        super().run_on(pools)

    def _admitted(self, ready: list[int]) -> list[int]:
        started = super()._admitted(ready)
        if self.gate is not None:
            now = perf_counter()
            self.recording.admitted.update(dict.fromkeys(started, now))
        return started

    def _execute(self, task: int) -> None:
        note = self.recording.started(task)
        is_worth = self.program.plan.tasks[task].seconds > WORTH_SECONDS
        before = thread_time() if is_worth else 0.0
        try:
            super()._execute(task)
        finally:
            if is_worth:
                note.cpu = thread_time() - before
            note.end = perf_counter()

    def _compute(self, task: int) -> None:
        device = self.program.buffers.device(self.program.plan.tasks[task].device)
        if device.is_host:
            self._noted(task)
        else:
            with device.active():
                self._noted(task)

    def _noted(self, task: int) -> None:
        program = self.program
        if len(program.plan.units) > GENERATED_UNITS:
            interpret_stamped(program.tasks[task], self.values, self, program.plan.tasks[task].units, self.recording.marks(task))
        else:
            _called(_generated(program, task_sources), f"task_{task}", self, self.values, self)

    def _end(self) -> None:
        recording = self.recording
        recording.over = perf_counter()
        recording.error, recording.peak_bytes = self.error, self.peak_bytes
        super()._end()


def _turn_of(body: Body, run: Run, generated: Generated, arrays: Sequence[Any], rows: Sequence[Any] | None = None) -> Any:
    return _called(generated, "body", run, run, rows, *arrays)


def _called(generated: Generated, name: str, run: Run, *arguments: Any) -> Any:
    """Calls a function of ``generated``. raises what stopped the run; the error of a kernel, with its node."""
    try:
        return generated.names[name](*arguments)
    except Exception as error:
        failed = None if error is run.stop else generated.failed(error)
        if failed is None:
            raise
        raise explained(error, *failed) from error


def _generated(program: Program, write: Callable[..., Source]) -> Generated:
    """The source that ``write`` makes of a program's plan, with a clock read before each kernel; made once."""
    if program.stamped is None:
        with program.lock:
            if program.stamped is None:
                source = stamped(write(program.plan, by_kernel=True))
                kernels = program.kernels(source)
                generated = Generated(source, program.plan, program.buffers, kernels, clock=perf_counter)
                generated.names["plan"] = program.plan
                program.stamped = generated
    return program.stamped


def _make_ready(program: Program, write: Callable[..., Source]) -> None:
    """Makes the sources of a program and of the sub-graphs that it holds, so that no run is seen to."""
    if program.stamped is None and len(program.plan.units) <= GENERATED_UNITS:
        for bodies in program.bodies.values():
            for body in bodies:
                _make_ready(body.program, body_source)
        _generated(program, write)


def stamped(source: Source) -> Source:
    """``source`` with a clock read before each kernel, and behind the last one of each function."""
    result = Source(kernels=source.kernels, takes=source.takes, gives=source.gives, names=source.names)
    is_inside = False
    for line, unit in zip(source.lines, source.units, strict=True):
        head = _HEAD.match(line)
        if unit is not None or (is_inside and (not line or line.lstrip().startswith("return "))):
            indent = line[: len(line) - len(line.lstrip())] or "    "
            result.add(f"{indent}stamp(clock())")
        is_inside = (is_inside and bool(line)) or head is not None
        result.add(line, unit)
        if head is not None:
            result.add(f"    stamp = run.recording.{'turn(plan)' if head[2] is None else f'marks({head[2]})'}")
        elif unit is not None and unit.spec is None and not unit.nbytes and not unit.node.op.is_view:
            result.add(f"{indent}run.recording.size(plan, {unit.output}, {line.partition(' = ')[0].lstrip()})")
    return result


def interpret_stamped(
    pieces: Iterable[list[Any] | Pairs], values: list[Any], run: Run, units: Sequence[Any], stamp: Callable[[float], None]
) -> None:
    """As `interpret`, with a clock read before each kernel, and behind the last."""
    output = -1
    try:
        for piece in pieces:
            if isinstance(piece, Pairs):
                for kernel, first, second, output, frees in piece:
                    if run.stop is not None:
                        raise run.stop
                    stamp(perf_counter())
                    values[output] = kernel(values[first], values[second])
                    for slot in frees:
                        values[slot] = None
                continue
            for kernel, _, _, _, inputs, output, frees in ((*each[:4], _inputs(each), *each[5:]) for each in piece):
                if run.stop is not None:
                    raise run.stop
                stamp(perf_counter())
                values[output] = kernel(*[values[slot] for slot in inputs])
                for slot in frees:
                    values[slot] = None
        stamp(perf_counter())
    except BaseException as error:
        if error is run.stop or not isinstance(error, Exception):
            raise
        failed = next(unit for unit in units if unit.output == output)
        raise explained(error, failed, values.__getitem__) from error


def _inputs(instruction: Any) -> tuple[int, ...]:
    _, count, first, second, inputs, _, _ = instruction
    return (first, second)[:count] if count in (1, 2) else inputs
