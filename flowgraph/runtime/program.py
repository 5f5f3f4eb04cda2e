"""Program: a plan made ready to be run by one session, by an interpreter at first and by generated source from the second run on."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ..compile import Plan, Unit
from ..compile.fuse import FusedNode
from ..compile.source import Source, body_source, task_sources, team_source, written_where_told
from ..compile.team import Team, team_of
from ..compile.units import Stretch, chunks_of
from ..errors import ExecutionError, FlowgraphError, LinAlgError
from ..graph.report import explain_node, raised_at, where
from .gate import Room
from .generated import Generated, NotInOrder, refuse
from .memory import BufferPool, Buffers
from .schedule import Schedule
from .strip import Instruction, Pairs, Strip
from .turning import Turning

if TYPE_CHECKING:
    from .crew import Crew
    from .run import Run

# A run through the interpreter costs 0.25 us a node, generated source 0.2 us and once 6 us to generate. What has more units is followed as
# ribbons, which cost 0.3 us a node once.
GENERATED_AFTER = 1
GENERATED_UNITS = 20_000
# Kernels for a GPU that are compiled at once.
BUILDERS = 8

LISTED = 8  # members of a compiled loop that an error names


class Program:
    """A plan made ready to be run by one session: instructions for each task, the schedule, the first values.

    Holds no state of any run, so that any number of threads may run it at once.

    `lock` guards the making of ``generated`` and ``stamped``, which are set once, and `_counting` guards `_runs`.
    """

    def __init__(self, plan: Plan, buffers: Buffers) -> None:
        self.plan, self.buffers = plan, buffers
        self.template: list[Any] = [None] * plan.slots
        for slot, array in plan.constants:
            self.template[slot] = buffers.constant(array, plan.on.get(slot))
        apart = [unit for unit in chunks_of(plan.units) if not isinstance(unit, Stretch)]
        if not plan.host_only:
            _build(apart, buffers)
        self.bodies = {id(unit): [Body(body, buffers) for body in unit.bodies] for unit in apart if unit.bodies}
        self.holding = {id(unit): holding(unit, buffers, self.bodies[id(unit)]) for unit in apart if unit.bodies}
        self.tasks = [self._pieces(task.units) for task in plan.tasks]
        self.on_devices: dict[int, Any] = {}  # what runs tasks on GPUs in the place of `execute`; filled by `on_device`
        self.alone: Any = None  # what calls it where nothing else runs, or False; set once, by the session
        self.extra = 0  # how many of the last fetches the caller has not asked for: they are watched
        self.generated: Generated | None = None
        self.by_kernel: Generated | None = None
        self._together: Generated | None = None
        self.stamped: dict[bool, Generated] = {}  # what runs that are traced call, with tapes and without; made by `tracing`
        self._runs = 0
        self.calls = Tally()  # that ran it without a run of their own
        self.lock, self._counting = threading.Lock(), threading.Lock()
        self.schedule: Schedule[int] | None = None
        self.room: Room | None = None
        if len(plan.tasks) > 1:
            self.room = None if plan.memory_limit is None else Room.of(plan, plan.memory_limit)
            self.schedule = Schedule({task.index: task.after for task in plan.tasks}, {task.index: task.priority for task in plan.tasks})

    def _pieces(self, units: Sequence[Unit]) -> list[list[Instruction] | Strip]:
        """The instructions of ``units`` in their order, in pieces."""
        pieces: list[list[Instruction] | Strip] = []
        piece: list[Instruction] = []
        for chunk in chunks_of(units):
            if not isinstance(chunk, Stretch):
                piece.append(self._instruction(chunk))
                continue
            is_taped = self.plan.sections is not None and len(self.plan.units) > GENERATED_UNITS
            memory = self.buffers.on(self.plan.units.device) if is_taped else None
            pieces += [piece, Pairs(chunk, memory) if (chunk.reads >= 0).all() else Strip(chunk, memory)]
            piece = []
        return [*pieces, piece]

    def _instruction(self, unit: Unit) -> Instruction:
        inputs = unit.inputs
        kernel = unit.kernel
        if unit.bodies:
            kernel = self.holding[id(unit)]
        if unit.mode == "take":
            kernel = _taking(kernel, self.buffers.on(unit.device), unit.spec)
        elif unit.mode == "reuse":
            kernel = _reusing(kernel, unit.reuse)
        elif unit.mode in ("part", "partial"):
            kernel = slicing(kernel, unit)
            inputs = (*inputs, unit.buffer)
        frees = unit.frees
        if unit.recycles:
            kernel, frees = _recycling(kernel, inputs, unit, self.buffers.on(unit.device))
            inputs = (*inputs, *(slot for slot in unit.recycles if slot not in inputs and slot != unit.output))
        first = inputs[0] if inputs else 0
        second = inputs[1] if len(inputs) > 1 else 0
        return kernel, len(inputs), first, second, inputs, unit.output, frees

    def execute(self, task: int, values: list[Any], run: Run) -> None:
        """Runs the kernels of ``task`` over ``values``. raises what stopped the run; the error of a kernel, with its node."""
        on_device = self.on_devices.get(task)
        if on_device is not None:
            with on_device.device.active():
                on_device.execute(values, run)
            return
        if run.in_order:
            generated = self.generated or (self.generate(task_sources) if self.is_warm else None)
        else:
            generated = self.by_kernel or (self.generate_by_kernel(task_sources) if self.is_warm else None)
        if generated is None:
            interpret(self.tasks[task], values, run, self.plan.tasks[task].units)
            return
        try:
            generated.names[f"task_{task}"](values, run)
        except Exception as error:
            failed = None if error is run.stop else generated.failed(error)
            if failed is None:
                raise
            raise explained(error, *failed) from error

    def tell(self) -> None:
        """Notes in the plan what became of capturing it."""
        notes = list(dict.fromkeys(each.note for each in self.on_devices.values() if each.note))
        self.plan.notes[:] = [*[note for note in self.plan.notes if not note.startswith("capture: ")], *notes]

    @property
    def runs(self) -> int:
        """How often it has run, to the end."""
        return self._runs + self.calls.total

    def has_run(self) -> None:
        """Notes the end of a run."""
        with self._counting:
            self._runs += 1

    @cached_property
    def is_serial(self) -> bool:
        """Whether each task waits for the one before it, so that more than one thread would be of no use."""
        tasks = self.plan.tasks
        return all(before.index in task.after for before, task in pairwise(tasks))

    @property
    def is_warm(self) -> bool:
        """Whether the runs to come are worth a program of their own."""
        return self._runs >= GENERATED_AFTER and len(self.plan.units) <= GENERATED_UNITS

    def generate(self, write: Callable[..., Source]) -> Generated:
        """The source that ``write`` makes of the plan, ready to be called; made once."""
        with self.lock:
            if self.generated is None:
                self.generated = self.bound(write(self.plan))
            return self.generated

    @cached_property
    def team(self) -> Team | None:
        """All tasks as what several threads work off together in machine code; None where that cannot be."""
        return team_of(self.plan)

    def execute_all(self, values: list[Any], run: Run, crew: Crew) -> None:
        """Runs all tasks of a `team` with the help of ``crew``, the same in each call, which is no other run's now. raises as `execute`."""
        generated, team = self._together, self.team
        if generated is None:
            assert team is not None
            team.board = crew.board
            generated = self._together = self.bound(team_source(self.plan, team, team.early))
        crew.call()
        try:
            generated.names["run_all"](values, run)
        except Exception as error:
            failed = generated.failed(error)
            if failed is None:
                raise
            raise explained(error, *failed) from error

    def generate_by_kernel(self, write: Callable[..., Source]) -> Generated:
        """The same without tapes, for arrays that do not lie as they need them."""
        with self.lock:
            if self.by_kernel is None:
                self.by_kernel = self.bound(write(self.plan, by_kernel=True))
            return self.by_kernel

    def bound(self, source: Source, **names: Any) -> Generated:
        """``source`` with its names bound, and ``names`` besides."""
        on_devices = {f"c{slot}": self.template[slot] for slot in self.plan.on}
        return Generated(source, self.plan, self.buffers, self.kernels(source), **on_devices, **names)

    def kernels(self, source: Source) -> dict[str, Callable[..., Any]]:
        """What the names of kernels and sections in a source stand for."""
        kernels = {name: self.holding[id(unit)] if unit.bodies else unit.kernel for name, unit in source.kernels.items()}
        return kernels | {name: section.bind(refuse) for name, section in source.sections.items()}


class Tally:
    """Counts calls of `add`, at the price of one of Python's own functions (25 ns), from any number of threads.

    `_lock` guards `_looked`.
    """

    def __init__(self) -> None:
        self._count = itertools.count()
        self.add = self._count.__next__
        self._looked = 0
        self._lock = threading.Lock()

    @property
    def total(self) -> int:
        """How many there were. To look counts as well, which is taken off."""
        with self._lock:
            total = next(self._count) - self._looked
            self._looked += 1
        return total


class Body:
    """The plan of a sub-graph as a function of its inputs and captures; it runs on the thread that calls it.

    The first call goes through the interpreter, those behind it through a generated function.

    shared  for each output whether it may be memory of the caller: an input handed through, a constant
    told    places of the outputs for which a call may bring arrays in ``rows``, or None. What it returns tells whether it has written them;
            the first call has not
    """

    def __init__(self, plan: Plan, buffers: Buffers) -> None:
        self.program = Program(plan, buffers)
        self.inputs = [slot for _, slot in plan.feeds]
        self.outputs = plan.fetches
        self.shared = [slot in plan.copied for slot in plan.fetches]
        self.told = written_where_told(plan)
        self._call: Callable[..., list[Any]] | None = None  # set once, to a function that any number of threads may call

    def __call__(self, run: Run, arrays: Sequence[Any], rows: Sequence[Any] | None = None) -> list[Any]:
        call = self._call
        if call is None:
            if not self.program.is_warm:
                return self._interpreted(run, arrays)
            call = self._call = self.program.generate(body_source).names["body"]
        generated = self.program.generated
        try:
            try:
                return call(run, rows, *arrays)
            except NotInOrder:
                generated = self.program.generate_by_kernel(body_source)
                return generated.names["body"](run, rows, *arrays)  # type: ignore[no-any-return]
        except Exception as error:
            failed = None if error is run.stop or generated is None else generated.failed(error)
            if failed is None:
                raise
            raise explained(error, *failed) from error

    def _interpreted(self, run: Run, arrays: Sequence[Any]) -> list[Any]:
        program = self.program
        values = program.template.copy()
        for slot, array in zip(self.inputs, arrays, strict=True):
            values[slot] = array
        if program.plan.run_slot >= 0:
            values[program.plan.run_slot] = run
        for instructions, task in zip(program.tasks, program.plan.tasks, strict=True):
            interpret(instructions, values, run, task.units)
        program.has_run()
        return [values[slot] for slot in self.outputs]


def _build(units: Sequence[Unit], buffers: Buffers) -> None:
    """Compiles what is made for GPUs, side by side: each text once, the longest first. Its other kernels then find it compiled."""
    from concurrent.futures import ThreadPoolExecutor

    pending = {id(unit.kernel): unit for unit in units if hasattr(unit.kernel, "build")}
    texts: dict[Any, list[Unit]] = {}
    for unit in pending.values():
        texts.setdefault((unit.device, unit.kernel.text), []).append(unit)  # type: ignore[attr-defined]

    def build(alike: Sequence[Unit]) -> None:
        with buffers.device(alike[0].device).chosen():
            for unit in alike:
                unit.kernel.build()  # type: ignore[attr-defined]

    if pending:
        with ThreadPoolExecutor(min(len(texts), BUILDERS)) as pool:
            list(pool.map(build, [texts[key] for key in sorted(texts, key=lambda key: -len(key[1]))]))


def holding(unit: Unit, buffers: Buffers, bodies: Sequence[Any]) -> Callable[..., Any]:
    """The kernel of a node that holds sub-graphs: it gets a function for each of them, which ends when the run is stopped.

    bodies  for each sub-graph what `Body` is: a function of the run and the arrays, with `shared` and `told`
    """
    kernel = unit.kernel
    told: dict[str, Any] = {"shared": [body.shared for body in bodies]}
    if unit.node.op.takes_empty:
        told |= {"empty": buffers.on(unit.device).lend, "told": [body.told for body in bodies]}
    turns = Turning(unit, buffers) if unit.node.op.name == "scan" and isinstance(bodies[0], Body) else None

    def call(run: Run, *arrays: Any) -> Any:
        if run.recording is not None:
            return kernel(*[run.recording.body(body, run) for body in bodies], *arrays, **told)
        behind = {} if turns is None else {"behind": partial(turns, run)}
        return kernel(*[partial(body, run) for body in bodies], *arrays, **told, **behind)

    return call


def _taking(kernel: Callable[..., Any], memory: BufferPool, spec: Any) -> Callable[..., Any]:
    take, shape, dtype = memory.take, spec.shape, spec.dtype
    return lambda *inputs: kernel(*inputs, out=take(shape, dtype))


def _reusing(kernel: Callable[..., Any], position: int) -> Callable[..., Any]:
    return lambda *inputs: kernel(*inputs, out=inputs[position])


def slicing(kernel: Callable[..., Any], unit: Unit) -> Callable[..., Any]:
    """The kernel on what a slice sees of its inputs, writing into its part of the buffer, which comes last."""
    entries = [unit.seen(how) for how in unit.cut]
    target = (unit.part, ...) if unit.mode == "partial" else unit.seen(unit.along)

    def part(*inputs: Any) -> None:
        arrays = [x if entry is ... else x[entry] for x, entry in zip(inputs, entries, strict=False)]
        kernel(*arrays, out=inputs[-1][target])

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


def interpret(pieces: Iterable[list[Instruction] | Strip], values: list[Any], run: Run, units: Sequence[Unit]) -> None:
    """Runs the instructions of ``units`` over ``values``.

    raises  what stopped the run; the error of a kernel, with its node
    """
    output = -1
    try:
        for piece in pieces:
            if isinstance(piece, Strip) and run.in_order and piece.follow(values, run):
                continue
            if isinstance(piece, Pairs):
                for kernel, first, second, output, frees in piece:
                    if run.stop is not None:
                        raise run.stop
                    values[output] = kernel(values[first], values[second])
                    if frees:
                        for slot in frees:
                            values[slot] = None
                continue
            for kernel, count, first, second, inputs, output, frees in piece:
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
    except BaseException as error:
        if error is run.stop or not isinstance(error, Exception):
            raise
        if output < 0:
            raise  # no memory for tapes
        failed = next(unit for unit in units if unit.output == output)  # each unit has an output of its own
        raise explained(error, failed, values.__getitem__) from error


def explained(error: Exception, unit: Unit, value: Callable[[int], Any]) -> FlowgraphError:
    """What the caller sees of ``error``: the node, its inputs as they were, its line.

    value  gives what a slot holds
    """
    if isinstance(error, FlowgraphError) and error.node is not None:
        return error  # of a node in a sub-graph of this one
    raised = error if isinstance(error, FlowgraphError) else _as_ours(error)
    if isinstance(raised, LinAlgError) and unit.mode == "part" and unit.cut[0]:
        raised.count_from(unit.read[0])
    explain_node(raised, unit.node, read(unit, value), unit.device)
    if isinstance(unit.node, FusedNode):
        # What it was about to write is the member's; which of them was being computed, a loop does not say.
        raised.node = unit.node.outputs[0].node
        members = [f"{member.name}, made at {where(member.location)}" for member in unit.node.op.members]
        text = "\n".join([*members[:LISTED], *([f"and {len(members) - LISTED} more"] if len(members) > LISTED else [])])
        raised.rows.insert(1, ("loop of", text))
    return raised


def read(unit: Unit, value: Callable[[int], Any]) -> list[Any]:
    """What the node of a unit has for its inputs, in their order: an array, or the tensor itself where only its shape counts."""
    told = set(unit.node.op.shape_inputs)
    slots = unit.inputs[1:] if unit.bodies else unit.inputs
    arrays_left = iter([value(slot) for slot in slots])
    return [tensor if i in told else next(arrays_left, tensor) for i, tensor in enumerate(unit.node.inputs)]


def _as_ours(error: Exception) -> ExecutionError:
    """What is raised in place of ``error``, with the line of the user's function in which it was raised, if it was in one."""
    blamed, rows = raised_at(error)
    return ExecutionError(f"{str(error) or type(error).__name__} ({type(error).__name__})", rows=rows, blamed=blamed)
