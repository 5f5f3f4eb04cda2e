"""A task of a GPU: its kernels are asked for one by one, or, from the second run on, as a graph that was captured from them.

What comes from the host as a feed is taken in at once, into fixed memory (`Intake`), from the second run on.

A captured graph works on fixed memory. So it is made only for a plan with a single task on GPUs, and of the middle of that task: what
copies from the host, or draws there, comes before it; what sends to the host, behind it. Variables keep their arrays: the graph ends with
the new values written into them. So it serves only runs that are alone, and that cannot fail any more once it is launched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..compile.copies import CopyNode
from ..compile.plan import Plan, Unit
from ..devices.intake import Intake, chosen
from ..devices.lacking import WAITING
from ..errors import ExecutionError
from ..graph.report import where
from ..graph.spec import format_spec
from ..graph.text import first_line, format_bytes
from .capture import Capture
from .lanes import MOST
from .memory import Buffers
from .program import Program, explained
from .strip import Instruction, Strip

if TYPE_CHECKING:
    from .run import Run

# Fewer kernels than this are as quick to ask for one by one.
WORTH_CAPTURING = 2
# What branches of a graph may take beside the plan's own need.
SPARE_BYTES = 2**26
# Tensors that an error lists where a device has no memory left, and kernels where it has failed.
LISTED = 8


def device_program(plan: Plan, buffers: Buffers) -> Program:
    """The program of a plan that computes on GPUs."""
    program = Program(plan, buffers)
    for task in plan.tasks:
        device = buffers.device(task.device)
        if not device.is_host:
            program.on_devices[task.index] = DeviceTask(program, task.index, device)
    return program


class DeviceTask:
    """What runs one task of a plan on a GPU. Its methods are called by the thread that holds the device, so that nothing needs a lock.

    note  what became of capturing it, for the plan; empty before the second run
    """

    def __init__(self, program: Program, task: int, device: Any) -> None:
        self.program, self.device = program, device
        self.units: Sequence[Unit] = list(program.plan.tasks[task].units)
        self.instructions: list[Instruction] = [
            each for piece in program.tasks[task] for each in (piece.instructions() if isinstance(piece, Strip) else piece)
        ]
        self.before, self.middle, self.behind, self.why = _parted(program.plan, self.units, device)
        self.fed = _fed(program.plan, self.units, device)  # copies of feeds from the host, by number, that are made by the intake
        self.before = [index for index in self.before if index not in self.fed]
        self.others = [index for index in range(len(self.units)) if index not in self.fed]
        self.handed = [slot for slot in program.plan.fetches if slot in program.plan.away] + [slot for _, slot in program.plan.updates]
        self.intake: Intake | None = None
        self._taken: list[tuple[int, int]] = []  # (slot of a feed, slot of its copy), in the order of the intake
        self.note = f"capture: not on {device.name}: {self.why}" if self.why else ""
        self.runs = 0
        self.captured: Captured | None = None

    def execute(self, values: list[Any], run: Run) -> None:
        """Asks for all kernels of the task. raises what stopped the run; the error of a kernel, with its node."""
        self.runs += 1
        if self.runs < 2:
            self.ask(range(len(self.units)), values, run)
            return
        self._take(values)
        if self.why or not run.may_replay:
            self.ask(self.others, values, run)
            self._keep(self.handed, values)
            return
        self.ask(self.before, values, run, frees=False)
        if self.captured is None or not self.captured.fits(values):
            self.captured = None
            self.captured = self._capture(values)
        if self.captured is None:
            self.ask([*self.middle, *self.behind], values, run)
            self._keep(self.handed, values)
        else:
            self._launch(self.captured, values, run)

    def replay(self, captured: Captured, values: list[Any], run: Run) -> None:
        """The same where ``values`` has the variables and constants that ``captured`` knows."""
        self._take(values)
        if self.before:
            self.ask(self.before, values, run, frees=False)
        self._launch(captured, values, run)

    def _launch(self, captured: Captured, values: list[Any], run: Run) -> None:
        try:
            new = captured.new_results()
        except Exception as error:
            if not self.device.is_out_of_memory(error):
                raise
            self.device.trim()
            try:
                new = captured.new_results()
            except Exception as again:
                raise self._out_of_memory(again, values) from again
        captured.launch(values, new)
        if self.behind:
            self.ask(self.behind, values, run, frees=False)
        if captured.loose:
            self._keep(captured.loose, values)
        for slot in captured.frees:
            values[slot] = None

    def _take(self, values: list[Any]) -> None:
        """Brings feeds from the host to the device."""
        if not self.fed:
            return
        if self.intake is None:
            copies = [self.units[index] for index in self.fed]
            self.intake = Intake(self.device, [(unit.spec.shape, unit.spec.dtype) for unit in copies])
            self._taken = [(unit.inputs[0], unit.output) for unit in copies]
        self.intake.take([values[source] for source, _ in self._taken])
        for (_, slot), array in zip(self._taken, self.intake.arrays, strict=True):
            values[slot] = array

    def _keep(self, slots: Sequence[int], values: list[Any]) -> None:
        """Copies those values that lie in the memory of the intake, which the next run writes over."""
        if self.intake is not None:
            for slot in slots:
                if self.device.has(values[slot]) and self.intake.holds(values[slot]):
                    values[slot] = values[slot].copy()

    def ask(self, order: Iterable[int], values: list[Any], run: Run, frees: bool = True) -> None:
        """Asks for kernels one by one. Where memory is short, what is idle is given back, and the kernel is tried once more."""
        for index in order:
            if run.stop is not None:
                raise run.stop
            kernel, _, _, _, inputs, output, freed = self.instructions[index]
            arrays = [values[slot] for slot in (inputs or self.units[index].inputs)]
            try:
                values[output] = kernel(*arrays)
            except Exception as error:
                if not self.device.is_out_of_memory(error):
                    raise self._lost(index) or explained(error, self.units[index], values.__getitem__) from error
                error = error.with_traceback(None)  # (its frames hold what the kernel has made so far)
                self.device.trim()
                try:
                    values[output] = kernel(*arrays)
                except Exception as again:
                    if not self.device.is_out_of_memory(again):
                        raise explained(again, self.units[index], values.__getitem__) from again
                    short = explained(self._out_of_memory(again, values), self.units[index], values.__getitem__)
                    values[:], arrays = [None] * len(values), []  # whoever keeps the error keeps no memory with it
                    raise short from again.with_traceback(None)
            if frees:
                for slot in freed:
                    values[slot] = None

    def _lost(self, index: int) -> ExecutionError | None:
        """What has become of the device where it failed in a kernel that was asked for before the one of that number; else None."""
        failed: ExecutionError | None = self.device.failure()
        if failed is not None and index:
            asked = [unit.node for unit in self.units[max(index - LISTED, 0) : index]]
            failed.rows.append(("before", "\n".join(f"{node.name}, made at {where(node.location)}" for node in reversed(asked))))
        return failed

    def _out_of_memory(self, error: Exception, values: list[Any]) -> ExecutionError:
        """What is alive on the device, the largest first."""
        plan = self.program.plan
        names: dict[int, tuple[str, Any]] = {unit.output: (unit.node.name, unit.node.location) for unit in plan.units}
        names |= {slot: (node.name, node.location) for node, slot in plan.variables}
        alive: dict[int, tuple[int, int]] = {}  # address -> (bytes, slot)
        for slot, value in enumerate(values):
            if self.device.has(value) and value.nbytes:
                alive.setdefault(self.device.address(value), (value.nbytes, slot))
        rows = []
        for nbytes, slot in sorted(alive.values(), reverse=True)[:LISTED]:
            name, location = names.get(slot, ("", None))
            made = f"   {name}, made at {where(location)}" if name else ""
            rows.append((format_bytes(nbytes), f"{format_spec(values[slot].shape, values[slot].dtype)}{made}"))
        used, total = self.device.memory()
        return ExecutionError(
            f"{self.device.name} has no memory left: {format_bytes(used)} of {format_bytes(total)} are in use ({first_line(error)})",
            rows=rows,
            help='smaller batches, minimize(..., recompute="sqrt"), or 16-bit floats take less',
        )

    def _capture(self, values: list[Any]) -> Captured | None:
        for most in (1,) if self.device.is_serial else (MOST, 1):
            try:
                captured = Captured(self, values, most)
            except Exception as error:  # CUDA's, for what cannot be captured
                self.why = first_line(error)
                continue
            self.why = ""
            branches = f", of {captured.branches} branches" if captured.branches > 1 else ""
            self.note = f"capture: {self.device.name} replays {len(self.middle)} kernels as one graph{branches}"
            return captured
        self.note = f"capture: not on {self.device.name}: {self.why}"
        return None


class Captured:
    """A graph, and the memory that it works on.

    fixed    slots of variables and constants -> the arrays that the graph reads and, for variables, writes
    inputs   other slots -> the arrays that values are copied into before each launch, unless they lie there
    results  slots -> the arrays that it leaves results in
    steady   whether nothing is fixed but variables and constants
    leaves   whether there are variables that it does not write itself
    loose    slots of what is handed on that it does not make; ``frees``: slots to empty behind it
    """

    def __init__(self, task: DeviceTask, values: list[Any], most: int) -> None:
        plan, device = task.program.plan, task.device
        self.device, self._array, cupy = device, device.cupy.ndarray, device.cupy
        middle = set(task.middle)
        made = {task.units[i].output for i in middle}
        read = {slot for i in middle for slot in task.units[i].inputs if slot not in made and slot != plan.run_slot}
        variables = {slot: node for node, slot in plan.variables}
        of_variable = {node: slot for slot, node in variables.items()}
        self.fixed = {slot: values[slot] for slot in read if slot in variables or slot in plan.on or not device.has(values[slot])}
        updates = {slot: of_variable[node] for node, slot in plan.updates if slot in made and of_variable.get(node) in self.fixed}
        taken = set(map(id, task.intake.arrays)) if task.intake is not None else set()  # these are in the same memory in each run
        self.inputs = {
            slot: values[slot] if id(values[slot]) in taken else cupy.empty_like(values[slot]) for slot in read if slot not in self.fixed
        }
        wanted = {slot for i in task.behind for slot in task.units[i].inputs}
        wanted |= {slot for slot in (*plan.fetches, *[slot for _, slot in plan.updates]) if slot >= 0}
        wanted &= made
        given = {**self.fixed, **self.inputs}
        if plan.run_slot >= 0:
            given[plan.run_slot] = values[plan.run_slot]  # (another in each run: it may stop a loop while its kernels are asked for)
        frame: dict[int, Any] = dict(given)
        kernels = [(task.units[i], task.instructions[i]) for i in task.middle]
        # (What is freed late, as branches are still at it, comes on top of what is alive one behind the other.)
        self._capture = Capture(device, kernels, frame, {*given, *wanted}, updates, most, plan.peak_bytes * 5 // 4 + SPARE_BYTES)
        self.results = {slot: self.fixed[updates[slot]] if slot in updates else frame[slot] for slot in wanted}
        self.steady = not any(slot in self.fixed for slot in (plan.run_key, *[slot for _, slot in plan.feeds]))
        # What the caller or a variable keeps would be written over by the next launch.
        away = {slot for slot in plan.fetches if slot in plan.away} | {slot for _, slot in plan.updates if slot not in updates}
        self._away = [(slot, array) for slot, array in self.results.items() if slot in away]
        self.leaves = any(slot not in updates for _, slot in plan.updates)
        self.loose = [slot for slot in task.handed if slot not in self.results]
        held = {*self.results, *[slot for i in (*task.before, *task.fed, *task.behind) for slot in task.units[i].inputs]}
        held |= {task.units[i].output for i in (*task.before, *task.fed)}
        self.frees = [slot for unit in task.units for slot in unit.frees if slot in held]

    @property
    def branches(self) -> int:
        """How many branches the graph has."""
        return self._capture.branches

    def fits(self, values: list[Any]) -> bool:
        """Whether variables and constants are still in the arrays that the graph knows."""
        return all(values[slot] is array for slot, array in self.fixed.items())

    def new_results(self) -> list[Any]:
        """Memory for results that somebody keeps: taken before the launch, as that cannot fail any more."""
        return [self._array(array.shape, array.dtype) for _, array in self._away]

    def launch(self, values: list[Any], new: Sequence[Any]) -> None:
        """Copies the inputs, launches the graph, and notes where the results are: in ``new``, or where they are always."""
        device = self.device
        device.after_sends()  # results of the last launch may still be on their way to the host
        for slot, array in self.inputs.items():
            if values[slot] is not array:
                device.copy(values[slot], array)
        self._capture.graph.launch(device.compute)
        for slot, array in self.results.items():
            values[slot] = array
        for (slot, array), made in zip(self._away, new, strict=True):
            device.copy(array, made)
            values[slot] = made


def _has_several(plan: Plan) -> bool:
    """Whether a plan has more than one task on GPUs."""
    return sum(not task_is_host(task.device) for task in plan.tasks) > 1


def _fed(plan: Plan, units: Sequence[Unit], device: Any) -> list[int]:
    """The copies of feeds from the host, by number, that are small enough for an intake; none where other tasks may read what it holds."""
    if _has_several(plan):
        return []
    feeds = {slot for _, slot in plan.feeds}
    copies = [i for i, unit in enumerate(units) if unit.kernel == device.copied and unit.spec is not None and unit.inputs[0] in feeds]
    return [copies[place] for place in chosen([units[i].spec.nbytes for i in copies])]


def _parted(plan: Plan, units: Sequence[Unit], device: Any) -> tuple[list[int], list[int], list[int], str]:
    """The kernels before, in and behind what may be captured, by number; and why nothing may be, or no text."""
    if _has_several(plan):
        return [], [], [], "the plan has several tasks on GPUs"
    before: list[int] = []
    middle: list[int] = []
    behind: list[int] = []
    outside: set[int] = set()  # slots that the middle makes
    after: set[int] = set()
    for index, unit in enumerate(units):
        is_copy = isinstance(unit.node, CopyNode)
        waits = is_copy or _waits(unit)
        if after.intersection(unit.inputs):
            behind.append(index)
            after.add(unit.output)
        elif not waits:
            middle.append(index)
            outside.add(unit.output)
        elif not outside.intersection(unit.inputs):
            before.append(index)
        elif is_copy:
            behind.append(index)
            after.add(unit.output)
        else:
            return [], [], [], f"{unit.node.name} needs values on the host"
    if any(not isinstance(units[index].node, CopyNode) for index in behind):
        return [], [], [], "what comes from the host is needed in the middle"
    if len(middle) < WORTH_CAPTURING:
        return [], [], [], f"{len(middle)} kernels are as quick to ask for one by one"
    return before, middle, behind, ""


def _waits(unit: Unit) -> bool:
    """Whether the host waits in a kernel, or makes what it reads: neither can be captured."""
    return unit.node.op.name in WAITING or any(_waits(inner) for body in unit.bodies for inner in body.units)


def task_is_host(device: str) -> bool:
    """Whether a task on the device of that name runs on the host."""
    return device.startswith("cpu")
