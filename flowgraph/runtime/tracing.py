"""Tracing: runs that note when each task and each kernel of theirs began and ended, on which thread, and what it cost.

A traced run calls the same generated source as any other, with a clock read before each kernel (`stamped`), so it runs the same kernels in
the same order and gives the same bits. Kernels that run together, as one call of machine code, are timed together. On a GPU each kernel is
waited for. What it notes is plain data; what that means, `flowgraph.traces` works out. Runs that are not traced have no part in this.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from functools import partial
from time import perf_counter, thread_time
from typing import Any

from ..compile import Plan
from ..compile.source import Source, body_source, task_sources
from ..graph.location import Location
from ..records import Record
from .crew import Crew
from .generated import Generated, NotInOrder
from .program import GENERATED_UNITS, Body, Program, explained
from .run import Run
from .strip import Pairs, Strip

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
    marks     when each of its calls began, and when the last one ended: less where one failed
    counts    how many kernels each call is of
    turns     (plan of a sub-graph, marks, counts) for each time that one ran, in the order in which they began
    """

    __slots__ = ("counts", "cpu", "end", "marks", "start", "task", "turns", "worker")

    def __init__(self, task: int, worker: str) -> None:
        self.task, self.worker = task, worker
        self.end = 0.0
        self.marks: list[float] = []
        self.counts: Sequence[int] = ()
        self.turns: list[tuple[Plan, list[float], Sequence[int]]] = []
        self.cpu = -1.0
        self.start = perf_counter()


class Total(Record, frozen=False, slots=True):
    """What the turns took that are not noted one by one: how many, the seconds of each call, and of how many kernels it is."""

    turns: int
    seconds: list[float]
    counts: Sequence[int]


class Recording:
    """What one run notes.

    plan     what it runs; ``line``: the user's line that asked for it; ``threads``: of each device, and of the caller
    by_crew    whether a crew would work the tasks off in machine code, were the run not traced
    by_kernel  whether kernels are called one by one that would otherwise run together
    made     when it was asked for; ``begun``: when it had its turn; ``over``: when its last task had ended
    notes    of its tasks, in the order in which they began
    sizes    (id of a plan, slot) -> bytes, for results whose size only a run knows

    Each thread writes its own notes; lists are appended to, which needs no lock.
    """

    def __init__(self, plan: Plan, threads: dict[str, int], line: Location | None, by_kernel: bool = False, by_crew: bool = False) -> None:
        self.by_crew = by_crew
        self.plan, self.threads, self.line, self.by_kernel = plan, threads, line, by_kernel
        self.made, self.begun, self.over = perf_counter(), 0.0, 0.0
        self.error: BaseException | None = None
        self.peak_bytes = 0
        self.notes: list[TaskNote] = []
        self.admitted: dict[int, float] = {}
        self.sizes: dict[tuple[int, int], int] = {}
        self.totals: dict[tuple[int, int], tuple[Plan, Total]] = {}
        self.room = TURNS_KEPT
        self._at: dict[int | None, TaskNote] = {}  # thread -> the task that it is at
        self._lock = threading.Lock()  # guards `totals`

    def started(self, task: int) -> TaskNote:
        """Notes that ``task`` begins on this thread."""
        thread = threading.current_thread()
        note = self._at[thread.ident] = TaskNote(task, thread.name)
        self.notes.append(note)
        return note

    def marks(self, counts: Sequence[int] = ()) -> Callable[[float], None]:
        """What the task at which this thread is calls with the time before each call."""
        note = self._at[threading.get_ident()]
        note.counts = counts
        return note.marks.append

    def turn(self, plan: Plan, counts: Sequence[int]) -> Callable[[float], None]:
        """The same for a turn of a sub-graph."""
        marks: list[float] = []
        note = self._at[threading.get_ident()]
        if self.room > 0:
            self.room -= 1
            note.turns.append((plan, marks, counts))
            return marks.append
        return partial(self._add, plan, counts, marks)

    def forget_turn(self, plan: Plan) -> None:
        """Forgets the turn that has just begun: it begins once more, in another way."""
        turns = self._at[threading.get_ident()].turns
        if turns and turns[-1][0] is plan:
            turns.pop()

    def _add(self, plan: Plan, counts: Sequence[int], marks: list[float], now: float) -> None:
        """Adds the time since the last mark to what that call has taken."""
        marks.append(now)
        place = len(marks) - 2
        with self._lock:
            key = id(plan), id(counts)
            if key not in self.totals:
                self.totals[key] = plan, Total(0, [0.0] * len(counts), counts)
            total = self.totals[key][1]
            if place < 0:
                total.turns += 1
            else:
                total.seconds[place] += now - marks[place]

    def body(self, body: Body, run: Run) -> Callable[..., Any]:
        """``body`` as a kernel of this run calls it."""
        return partial(_turn_of, body, run)

    def size(self, plan: Plan, slot: int, value: Any) -> None:
        """Notes the size of a result, which the plan did not know."""
        self.sizes[id(plan), slot] = sum(getattr(each, "nbytes", 0) for each in (value if isinstance(value, tuple | list) else (value,)))


class TracedRun(Run):
    """A run that notes what it does in ``recording``."""

    recording: Recording  # type: ignore[misc]

    def __init__(self, program: Program, values: list[Any], finished: Callable[[Run], None], recording: Recording) -> None:
        super().__init__(program, values, finished)
        self.recording = recording
        _make_ready(program, task_sources, not recording.by_kernel)

    def run_here(self, crew: Crew | None = None) -> None:
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
            interpret_stamped(program.tasks[task], self.values, self, program.plan.tasks[task].units, self.recording.marks())
        else:
            _called(
                _generated(program, task_sources, self.in_order and not self.recording.by_kernel), f"task_{task}", self, self.values, self
            )

    def _end(self) -> None:
        recording = self.recording
        recording.over = perf_counter()
        recording.error, recording.peak_bytes = self.error, self.peak_bytes
        super()._end()


def _turn_of(body: Body, run: Run, arrays: Sequence[Any], rows: Sequence[Any] | None = None) -> Any:
    try:
        return _called(_generated(body.program, body_source, not run.recording.by_kernel), "body", run, run, rows, *arrays)
    except NotInOrder:
        run.recording.forget_turn(body.program.plan)
        return _called(_generated(body.program, body_source, False), "body", run, run, rows, *arrays)


def _called(generated: Generated, name: str, run: Run, *arguments: Any) -> Any:
    """Calls a function of ``generated``. raises what stopped the run; the error of a kernel, with its node."""
    try:
        return generated.names[name](*arguments)
    except NotInOrder:
        raise
    except Exception as error:
        failed = None if error is run.stop else generated.failed(error)
        if failed is None:
            raise
        raise explained(error, *failed) from error


def _generated(program: Program, write: Callable[..., Source], in_order: bool) -> Generated:
    """The source that ``write`` makes of a program's plan, with a clock read before each call; made once.

    in_order  whether tapes may run
    """
    found = program.stamped.get(in_order)
    if found is None:
        with program.lock:
            if in_order not in program.stamped:
                source, counts = stamped(write(program.plan, by_kernel=not in_order))
                devices = {unit.device: program.buffers.device(unit.device).wait for unit in program.plan.units}
                generated = program.bound(source, clock=perf_counter, counts=counts, waits=devices)
                generated.names["plan"] = program.plan
                program.stamped[in_order] = generated
            found = program.stamped[in_order]
    return found


def _make_ready(program: Program, write: Callable[..., Source], in_order: bool) -> None:
    """Makes the sources of a program and of the sub-graphs that it holds, so that no run is seen to."""
    if in_order not in program.stamped and len(program.plan.units) <= GENERATED_UNITS:
        for bodies in program.bodies.values():
            for body in bodies:
                _make_ready(body.program, body_source, in_order)
        _generated(program, write, in_order)


def stamped(source: Source) -> tuple[Source, dict[str, list[int]]]:
    """``source`` with a clock read before each call of kernels, and behind the last one of each function; of how many kernels each call is.

    Of a section, which is one call, the views that are made behind it are a part. What runs on a GPU is waited for.
    """
    result = Source(kernels=source.kernels, sections=source.sections, takes=source.takes, news=source.news, gives=source.gives)
    counts: dict[str, list[int]] = {}
    function, device, taken = "", "", set[int]()
    for number, (line, unit) in enumerate(zip(source.lines, source.units, strict=True)):
        head, section = _HEAD.match(line), source.calls.get(number)
        begins = section is not None or (unit is not None and id(unit) not in taken)
        if begins or (function and (not line or line.lstrip().startswith("return "))):
            indent = line[: len(line) - len(line.lstrip())] or "    "
            device = unit.device if unit is not None else device
            result.add(f"{indent}{'' if device.startswith('cpu') or not device else f'waits[{device!r}](); '}stamp(clock())")
        if begins:
            counts[function].append(1 if section is None else len(section.units))
            taken.update([] if section is None else [id(each) for each in section.units])
        if head is not None:
            function, device = head[1], ""
            counts[function] = []
        elif not line:
            function = ""
        result.add(line, unit)
        if head is not None:
            result.add(f"    stamp = run.recording.{'turn(plan, ' if head[2] is None else 'marks('}counts[{function!r}])")
        elif unit is not None and unit.spec is None and not unit.nbytes and not unit.node.op.is_view:
            result.add(f"    run.recording.size(plan, {unit.output}, {line.partition(' = ')[0].lstrip()})")
    return result, counts


def interpret_stamped(
    pieces: Iterable[list[Any] | Strip], values: list[Any], run: Run, units: Sequence[Any], stamp: Callable[[float], None]
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
