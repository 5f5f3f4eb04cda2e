"""Gather: plans and recordings of runs become the plain data of a trace."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, pairwise
from operator import itemgetter
from typing import Any

from ..compile import Plan, Unit
from ..compile.copies import CopyNode
from ..compile.cost import estimated_seconds
from ..compile.fuse import Fused, FusedNode
from ..compile.memory import transient_bytes
from ..compile.needed import needed_nodes
from ..compile.plan import ROWS
from ..compile.shapes import specialise
from ..devices.speed import SPEEDS, Speed
from ..errors import FlowgraphError
from ..graph import Node, Shape, Spec, Tensor, Work
from ..graph.spec import format_spec, is_known
from ..runtime import Recording
from .data import Kernel, Member, PlanData, RunData, Task, TaskRun


class Gathered:
    """The plans of a trace, each gathered once.

    plans  in the order in which they were met; that of a sub-graph comes behind the one that holds it
    nodes  for each plan and kernel the node
    """

    def __init__(self) -> None:
        self.plans: list[PlanData] = []
        self.nodes: list[list[Node]] = []
        self._numbers: dict[int, int] = {}
        self._kept: list[Plan] = []  # so that no other plan gets the id of one of them

    def plan(self, plan: Plan, label: str = "") -> PlanData:
        """The data of ``plan``."""
        number = self._numbers.get(id(plan))
        if number is None:
            number = self._numbers[id(plan)] = len(self.plans)
            self._kept.append(plan)
            data = PlanData(number, [], [], {}, {}, list(plan.fetches), {}, plan.peak_bytes, plan.memory_limit, label)
            self.plans.append(data)
            self.nodes.append([])
            self._fill(data, plan)
        return self.plans[number]

    def _fill(self, data: PlanData, plan: Plan) -> None:
        specs = _Specs(plan)
        data.batch = specs.batch
        for task in plan.tasks:
            first = len(data.kernels)
            for unit in task.units:
                data.kernels.append(self._kernel(unit, specs))
                self.nodes[data.number].append(unit.node)
            prepares = [[slot, spec.nbytes] for slot, spec in task.prepares]
            data.tasks.append(
                Task(
                    task.index,
                    first,
                    len(data.kernels),
                    task.device,
                    list(task.after),
                    task.priority,
                    task.seconds,
                    prepares,
                    list(task.releases),
                    task.peak_bytes,
                    task.kept_bytes,
                )
            )
        data.storages = {slot: (list(each.slots), each.nbytes, each.sharers) for slot, each in plan.storages.items()}
        data.updates = {slot: node.name for node, slot in plan.updates}
        data.sources = {slot: f"feed {tensor.name}" for tensor, slot in plan.feeds}
        data.sources |= {slot: f"variable {node.name}" for node, slot in plan.variables}
        data.sources |= {slot: "a constant" for slot, _ in plan.constants}

    def _kernel(self, unit: Unit, specs: _Specs) -> Kernel:
        node = unit.node
        location, forward = node.location, node.forward
        work = specs.work(unit)
        return Kernel(
            str(unit),
            node.name,
            op_of(unit),
            node.scope,
            str(location),
            location.text,
            location.file,
            "" if forward is None else forward.name,
            "" if forward is None else str(forward.location),
            unit.device,
            "" if unit.spec is None else format_spec(unit.spec.shape, unit.spec.dtype),
            unit.seconds,
            float(work.flops),
            float(work.bytes),
            unit.bytes_made,
            transient_bytes(unit),
            list(unit.inputs),
            unit.output,
            unit.buffer,
            list(unit.writes),
            list(unit.frees),
            specs.members(node),
            [self.plan(body, node.name).number for body in unit.bodies],
            *specs.growth(unit),
        )

    def run(self, recording: Recording, number: int, zero: float) -> RunData:
        """The data of one run; ``zero`` is when the trace began."""
        plan = self.plan(recording.plan)
        recording.settle()
        line = recording.line
        tasks = [self._task(note, recording, zero) for note in list(recording.notes)]
        ends = {task.task: task.end for task in tasks}
        begun = recording.begun - zero
        for task in tasks:
            task.ready = max([begun, *(ends[before] for before in plan.tasks[task.task].after if before in ends)])
            task.ready = min(task.ready, task.start)
            task.admitted = max(task.ready, recording.admitted.get(task.task, 0.0) - zero)
        error = recording.error
        return RunData(
            number,
            plan,
            "" if line is None else str(line),
            "" if line is None else line.text,
            dict(recording.threads),
            recording.made - zero,
            begun,
            recording.over - zero,
            "" if error is None else f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            recording.peak_bytes,
            tasks,
            {slot: nbytes for (owner, slot), nbytes in recording.sizes.items() if owner == id(recording.plan)},
            self._totals(recording),
            recording.by_crew,
            recording.by_graph,
        )

    def _totals(self, recording: Recording) -> dict[int, tuple[int, list[float]]]:
        """What turns took that were not noted one by one."""
        found: dict[int, tuple[int, list[float]]] = {}
        for body, total in recording.totals.values():
            plan = self.plan(body)
            kernels = _apart([0.0, *accumulate(total.seconds)], total.counts, plan.kernels)
            each = [end - begin for begin, end in pairwise(kernels)]
            turns, before = found.get(plan.number, (0, [0.0] * len(each)))
            found[plan.number] = turns + total.turns, [a + b for a, b in zip(before, each, strict=True)]
        return found

    def _task(self, note: Any, recording: Recording, zero: float) -> TaskRun:
        end = note.end or recording.over
        device = recording.plan.tasks[note.task].device
        cpu = end - note.start if note.cpu < 0 else note.cpu
        plan = self.plan(recording.plan)
        entry = plan.tasks[note.task]
        marks = _apart([mark - zero for mark in note.marks], note.counts, plan.kernels[entry.first : entry.last])
        turns = []
        for body, times, counts in note.turns:
            inner = self.plan(body)
            turns.append((inner.number, _apart([mark - zero for mark in times], counts, inner.kernels)))
        ran = [(place, row, begin - zero, until - zero) for place, row, begin, until in recording.ran.get(note.task, ())]
        return TaskRun(note.task, note.worker, device, 0.0, 0.0, note.start - zero, end - zero, cpu, marks, turns, ran)


def _apart(marks: list[float], counts: Sequence[int], kernels: Sequence[Kernel]) -> list[float]:
    """The begins of kernels, and the end of the last, from those of calls: the time of a call is shared out as the plan expected.

    counts  how many kernels each call is of; empty where each is of one
    """
    if len(counts) == len(kernels) or not counts:
        return marks
    result = marks[:1]
    place = 0
    for (begin, end), count in zip(pairwise(marks), counts, strict=False):
        members = kernels[place : place + count]
        weights = [kernel.estimate or 1e-9 for kernel in members]
        total, sofar = sum(weights), 0.0
        for kernel, weight in zip(members, weights, strict=True):
            kernel.together = count if count > 1 else 0
            sofar += weight
            result.append(begin + (end - begin) * sofar / total)
        place += count
    return result


def op_of(unit: Unit) -> str:
    """The name of its op, but for what only picks one of several results, or makes the memory for one."""
    if isinstance(unit.kernel, itemgetter):
        return "result"
    return "buffer" if unit.mode == "take" and not unit.inputs and unit.node.inputs else unit.node.op.name


class _Specs:
    """The sizes of one plan, and what its kernels have to do."""

    def __init__(self, plan: Plan) -> None:
        nodes = [member for node in plan.nodes for member in (node.op.members if isinstance(node, FusedNode) else (node,))]
        fed = {tensor: shape for (tensor, _), shape in zip(plan.feeds, plan.shapes, strict=True)}
        needed = needed_nodes(nodes, fed) if nodes else []
        self.specs = specialise(needed, fed)
        self.batch, twice = _twice(fed)
        try:
            self.twice = _Specs.of(specialise(needed, twice)) if self.batch else None
        except FlowgraphError:  # with a size that is fixed elsewhere, the feeds cannot be larger
            self.batch, self.twice = 0, None
        slices = [unit for unit in plan.units if unit.mode == "partial"]
        self._partial = {unit.buffer: len([other for other in slices if other.buffer == unit.buffer]) for unit in slices}

    @classmethod
    def of(cls, specs: dict[Any, Any]) -> _Specs:
        """The same plan with other sizes."""
        other = cls.__new__(cls)
        other.specs, other._partial = specs, {}
        return other

    def growth(self, unit: Unit) -> tuple[float, float]:
        """With which powers of the batch grow the work of a kernel and what it makes."""
        if self.twice is None or unit.bodies:
            return 0.0, 0.0
        once, twice = self._whole(unit), self.twice._whole(unit)
        made = [sum(each._nbytes(tensor) for tensor in unit.node.outputs) for each in (self, self.twice)]
        return _power(GIVEN_SPEED.seconds(*once), GIVEN_SPEED.seconds(*twice)), _power(*made)

    def _whole(self, unit: Unit) -> Work:
        node = unit.node
        if not isinstance(node, FusedNode):
            return self.of_node(node)
        moved = sum(self._nbytes(tensor) for tensor in {*_read(node.op), *(made.tensor for made in node.op.results)})
        return Work(sum(self.of_node(member).flops for member in node.op.members), moved)

    def of_node(self, node: Node) -> Work:
        """Operations and bytes of a node that runs whole."""
        inputs = [self.specs.get(tensor, tensor) for tensor in node.inputs]
        if isinstance(node, CopyNode):
            (x,) = inputs
            return Work(bytes=2.0 * Spec(x.shape, x.dtype).nbytes if is_known(x.shape) else 0.0)
        if node.op.is_view or node.op.bodies or not all(is_known(spec.shape) for spec in inputs):
            return Work()
        return node.op.work(*inputs, **node.attrs)

    def work(self, unit: Unit) -> Work:
        """Operations and bytes of a kernel, which may be a slice of its node."""
        node = unit.node
        if op_of(unit) != node.op.name:
            return Work()
        parts = self._partial.get(unit.inputs[0], 0) if len(unit.inputs) == 1 and unit.mode != "partial" else 0
        if parts and unit.spec is not None and unit.spec.is_known:  # the sum of what the slices of the node have made
            return Work(unit.spec.size * parts, unit.spec.nbytes * (parts + 1))
        work = self._whole(unit)
        share = self._share(unit)
        return Work(work.flops * share, work.bytes * share)

    def _share(self, unit: Unit) -> float:
        if unit.mode not in ("part", "partial") and not unit.writes:
            return 1.0
        low, high = unit.read
        cut = [] if unit.node.op.bodies else [tensor for tensor, how in zip(unit.node.inputs, unit.cut) if how == unit.along]
        shapes = [self.specs.get(tensor, tensor).shape for tensor in (*cut, *unit.node.outputs[: unit.mode == "part"])]
        axis = 0 if unit.along == ROWS else -1
        length = max([high, *[size for size in (shape[axis] for shape in shapes if shape) if isinstance(size, int)]])
        return (high - low) / length if length else 1.0

    def _nbytes(self, tensor: Any) -> int:
        spec = self.specs.get(tensor, tensor)
        return Spec(spec.shape, spec.dtype).nbytes if is_known(spec.shape) else 0

    def members(self, node: Node) -> list[Member]:
        """The nodes that a compiled loop stands for."""
        if not isinstance(node, FusedNode):
            return []
        costs = [self._cost(member) for member in node.op.members]
        total = math.fsum(costs) or 1.0
        return [
            Member(member.name, member.op.name, cost / total, str(member.location), member.location.text)
            for member, cost in zip(node.op.members, costs, strict=True)
        ]

    def _cost(self, node: Node) -> float:
        inputs = [self.specs.get(tensor, tensor) for tensor in node.inputs]
        return estimated_seconds(node, inputs)


GIVEN_SPEED = Speed(0.0, SPEEDS["cpu"].flops_per_second, SPEEDS["cpu"].bytes_per_second)


def _power(once: float, twice: float) -> float:
    return math.log2(twice / once) if once > 0 and twice > 0 else 0.0


def _twice(fed: Mapping[Tensor, Shape]) -> tuple[int, dict[Tensor, Shape]]:
    """The size of the batch, and the feeds with twice as many: the dimension called batch, or the first that was left open."""
    names = [(dim, size) for tensor, shape in fed.items() for dim, size in zip(tensor.shape, shape) if not isinstance(dim, int)]
    found = next((pair for pair in names if pair[0] == "batch"), next(iter(names), None))
    if found is None or not isinstance(found[1], int) or not found[1]:
        return 0, {}
    twice = {
        tensor: tuple([2 * found[1] if (dim, size) == found else size for dim, size in zip(tensor.shape, shape)])
        for tensor, shape in fed.items()
    }
    return found[1], twice


def _read(op: Fused) -> Iterable[Any]:
    """What a compiled loop reads."""
    yield from (source.tensor for source in op.sources)
    if op.conv is not None:
        yield from op.conv.node.inputs
        yield from (source.tensor for source in op.conv.sources)


def members_of(nodes: Sequence[Node]) -> list[Sequence[Node]]:
    """For each node those of the graph that it stands for."""
    return [node.op.members if isinstance(node, FusedNode) else (node,) for node in nodes]
