"""Tracing: runs that note when each task and each kernel of theirs began and ended, on which thread, and what it cost.

A traced run calls the same generated source as any other, with a clock read before each kernel (`stamped`), so it runs the same kernels in
the same order and gives the same bits. Kernels that run together, as one call of machine code, are timed together. A GPU is asked for its
kernels one by one, with marks between them on its streams, and none is waited for: what times the marks have is asked afterwards
(`Recording.settle`). What it notes is plain data; what that means, `flowgraph.traces` works out. Runs that are not traced have no part in
this.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial
from itertools import pairwise
from time import perf_counter, thread_time
from typing import Any

from ..compile import Plan
from ..compile.copies import CopyNode
from ..compile.source import Source, body_source, task_sources
from ..graph.location import Location
from ..records import Record
from .crew import Crew
from .generated import Generated, NotInOrder
from .program import GENERATED_UNITS, Body, Program, explained
from .run import Run
from .strip import Pairs, Strip

# So many turns of the loops of a run are noted one by one, and so many on GPUs; of those behind them, only what each kernel took in all.
TURNS_KEPT, TURNS_ON_GPUS = 20_000, 2_000

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
    clock     that of its GPU, if it runs on one; ``ran``: marks on its stream of kernels before each of its kernels, and behind the last.
              So are then those of turns
    """

    __slots__ = ("clock", "counts", "cpu", "end", "marks", "ran", "start", "task", "turns", "worker")

    def __init__(self, task: int, worker: str) -> None:
        self.task, self.worker = task, worker
        self.end = 0.0
        self.marks: list[float] = []
        self.counts: Sequence[int] = ()
        self.turns: list[tuple[Plan, list[float], Sequence[int]]] = []
        self.clock: Any = None
        self.ran: list[Any] = []
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
    by_graph   whether a GPU would replay its kernels as one graph, were it not traced
    by_kernel  whether kernels are called one by one that would otherwise run together
    made     when it was asked for; ``begun``: when it had its turn; ``over``: when its last task had ended
    notes    of its tasks, in the order in which they began
    sizes    (id of a plan, slot) -> bytes, for results whose size only a run knows
    ran      task -> (kernel of it, "compute" or "copies", begin, end), of what ran on a GPU; there once it is settled

    Each thread writes its own notes; lists are appended to, which needs no lock.
    """

    def __init__(
        self,
        plan: Plan,
        threads: dict[str, int],
        line: Location | None,
        by_kernel: bool = False,
        by_crew: bool = False,
        by_graph: bool = False,
    ) -> None:
        self.by_crew, self.by_graph = by_crew, by_graph
        self.plan, self.threads, self.line, self.by_kernel = plan, threads, line, by_kernel
        self.made, self.begun, self.over = perf_counter(), 0.0, 0.0
        self.error: BaseException | None = None
        self.peak_bytes = 0
        self.notes: list[TaskNote] = []
        self.admitted: dict[int, float] = {}
        self.sizes: dict[tuple[int, int], int] = {}
        self.totals: dict[tuple[int, int], tuple[Plan, Total]] = {}
        self.room, self.room_on_gpus = TURNS_KEPT, TURNS_ON_GPUS
        self.ran: dict[int, list[tuple[int, str, float, float]]] = {}
        self._clocks: dict[str, Any] = {}  # device -> its clock
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

    def task(self, clock: Any) -> TaskNote:
        """The note of the task at which this thread is, which runs on the GPU of that clock."""
        note = self._at[threading.get_ident()]
        note.clock = clock
        return note

    def turn(self, plan: Plan, counts: Sequence[int]) -> Callable[[float], None]:
        """The same for a turn of a sub-graph."""
        marks: list[float] = []
        note = self._at[threading.get_ident()]
        if note.clock is not None:
            if self.room_on_gpus <= 0:
                return partial(self._count, plan, counts, marks)
            self.room_on_gpus -= 1
            note.turns.append((plan, marks, counts))
            return lambda now: marks.append(note.clock.mark())
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
            total = self._total(plan, counts)
            if place < 0:
                total.turns += 1
            else:
                total.seconds[place] += now - marks[place]

    def _count(self, plan: Plan, counts: Sequence[int], marks: list[float], now: float) -> None:
        """Counts a turn on a GPU, which takes what the ones that were noted have taken: see `settle`."""
        if not marks:
            marks.append(now)
            with self._lock:
                self._total(plan, counts).turns += 1

    def _total(self, plan: Plan, counts: Sequence[int]) -> Total:
        key = id(plan), id(counts)
        if key not in self.totals:
            self.totals[key] = plan, Total(0, [0.0] * len(counts), counts)
        return self.totals[key][1]

    def clock(self, device: Any) -> Any:
        """The clock of a GPU, for this run."""
        found = self._clocks.get(device.name)
        if found is None:
            found = self._clocks[device.name] = device.new_clock()
        return found

    def settle(self) -> None:
        """Asks what times the marks on GPUs have, once the run is over; waits for the last of them. What has failed has none."""
        with self._lock:
            if self._clocks:
                self._settle()
                self._clocks.clear()

    def _settle(self) -> None:
        try:
            for clock in self._clocks.values():
                clock.wait()
        except Exception:  # CUDARuntimeError: the run itself says that the device has failed
            for note in self.notes:
                note.turns = [] if note.clock is not None else note.turns
            return
        for note in self.notes:
            if note.clock is not None:
                seconds = note.clock.seconds
                times = [seconds(mark) for mark in note.ran]
                copies = [(at[1], row, seconds(begun), seconds(over)) for at, row, begun, over in note.clock.copies if at[0] == note.task]
                units = self.plan.tasks[note.task].units
                kernels = [
                    (place, "compute", *span)
                    for place, (span, unit) in enumerate(zip(pairwise(times), units, strict=False))
                    if not isinstance(unit.node, CopyNode)
                ]
                self.ran[note.task] = [*kernels, *copies]
                note.turns = [(plan, [seconds(mark) for mark in marks], counts) for plan, marks, counts in note.turns]
                note.ran, note.clock = [], None
        for plan, total in self.totals.values():
            noted = [list(pairwise(marks)) for note in self.notes for other, marks, _ in note.turns if other is plan]
            if noted and not any(total.seconds):
                sums = [sum(end - begin for begin, end in spans) for spans in zip(*noted, strict=False)]
                total.seconds[:] = [each * total.turns / len(noted) for each in sums]

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
        on_device = self.program.on_devices.get(task)
        if on_device is None:
            self._noted(task)
            return
        device = on_device.device
        with device.active():
            device.clock = self.recording.clock(device)
            try:
                on_device.ask(self._asked(task, device.clock), self.values, self)
            finally:
                device.clock = None

    def _asked(self, task: int, clock: Any) -> Iterator[int]:
        """The kernels of a task of a GPU, by number, with marks between them."""
        recording, plan = self.recording, self.program.plan
        note = recording.task(clock)
        for place, unit in enumerate(plan.tasks[task].units):
            clock.at = task, place
            note.ran.append(clock.mark())
            note.marks.append(perf_counter())
            yield place
            if unit.spec is None and not unit.nbytes and not unit.node.op.is_view:
                recording.size(plan, unit.output, self.values[unit.output])
        note.marks.append(perf_counter())
        note.ran.append(clock.mark())

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
                generated = program.bound(source, clock=perf_counter, counts=counts)
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

    Of a section, which is one call, the views that are made behind it are a part.
    """
    result = Source(kernels=source.kernels, sections=source.sections, takes=source.takes, news=source.news, gives=source.gives)
    counts: dict[str, list[int]] = {}
    function, taken = "", set[int]()
    for number, (line, unit) in enumerate(zip(source.lines, source.units, strict=True)):
        head, section = _HEAD.match(line), source.calls.get(number)
        begins = section is not None or (unit is not None and id(unit) not in taken)
        if begins or (function and (not line or line.lstrip().startswith("return "))):
            indent = line[: len(line) - len(line.lstrip())] or "    "
            result.add(f"{indent}stamp(clock())")
        if begins:
            counts[function].append(1 if section is None else len(section.units))
            taken.update([] if section is None else [id(each) for each in section.units])
        if head is not None:
            function = head[1]
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
