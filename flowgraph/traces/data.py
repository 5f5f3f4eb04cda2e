"""What a trace holds, as plain data: the plans that ran, and for each run when its tasks and kernels began and ended.

No graph, no arrays and no threads: a trace that was saved and loaded is the same as one that was just recorded. Times are seconds from the
beginning of the trace, sizes bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

# The streams of a GPU: of its kernels, and of the copies from and to it.
ROWS = "compute", "copies"


class Member(NamedTuple):
    """One of the nodes that a compiled loop stands for, its share of the work, the user's line, and what is written there."""

    name: str
    op: str
    share: float
    where: str
    text: str


@dataclass(slots=True)
class Kernel:
    """One kernel of a plan, as `flowgraph.compile.plan.Unit` is, for a reader.

    name      of its node, and for a slice its rows; ``node``: of its node alone
    op        "result" for what only picks one of several results, "buffer" for what only makes the memory of one
    where     the user's line, as ``train.py:12``; ``text``: what is written there; ``file``: the whole path
    forward   for a node of a gradient the name of the node that it belongs to, and ``forward_where`` that one's line
    makes     shape and dtype of what it makes
    estimate  seconds that the plan expected
    flops     by the op's own account, and ``moved``: bytes that it reads and writes
    made      bytes of memory that it adds; ``scratch``: bytes that it needs besides while it runs
    reads     slots; ``output``: the slot that it fills, ``buffer``: that which it writes a slice into, or -1; ``writes``: further ones
    frees     slots that are emptied behind it
    members   the nodes that a compiled loop stands for
    bodies    for a node that holds sub-graphs: the numbers of their plans
    together  how many kernels ran with it as one call of machine code, itself among them: their time is shared out as the plan expected
    grows     with which power of the batch its work grows: 1 where that doubles with it, 0 where it stays; ``fills``: the same for what it
              makes
    """

    name: str
    node: str
    op: str
    scope: str
    where: str
    text: str
    file: str
    forward: str
    forward_where: str
    device: str
    makes: str
    estimate: float
    flops: float
    moved: float
    made: int
    scratch: int
    reads: list[int]
    output: int
    buffer: int
    writes: list[int]
    frees: list[int]
    members: list[Member] = field(default_factory=list)
    bodies: list[int] = field(default_factory=list)
    grows: float = 0.0
    fills: float = 0.0
    together: int = 0

    @property
    def parts(self) -> Sequence[Member]:
        """The nodes that it computes: those of a compiled loop, else its own."""
        return self.members or [Member(self.node, self.op, 1.0, self.where, self.text)]


@dataclass(slots=True)
class Task:
    """Kernels ``first`` to ``last`` of the plan, the latter exclusive, which one thread runs in order; else as in the plan."""

    index: int
    first: int
    last: int
    device: str
    after: list[int]
    priority: float
    estimate: float
    prepares: list[list[int]]
    releases: list[int]
    peak_bytes: int
    kept_bytes: int


@dataclass
class PlanData:
    """A plan that ran, or that of a sub-graph.

    number      its place in the trace
    storages    storage -> (its slots, bytes, number of tasks that touch it), of those that several tasks touch
    sources     slot -> what it is filled with from outside: a feed, a variable, a constant; ``updates``: slot -> the variable that gets it
    batch       size of the dimension of the feeds that was left open when the graph was built, 0 where there is none
    peak_bytes  that the plan predicts; ``limit``: that it may take, or None
    """

    number: int
    kernels: list[Kernel]
    tasks: list[Task]
    storages: dict[int, tuple[list[int], int, int]]
    sources: dict[int, str]
    fetches: list[int]
    updates: dict[int, str]
    peak_bytes: int
    limit: int | None
    label: str = ""
    batch: int = 0

    @cached_property
    def makers(self) -> dict[int, list[int]]:
        """Slot -> the kernels that fill it: several where they write slices."""
        made: dict[int, list[int]] = {}
        for index, kernel in enumerate(self.kernels):
            for slot in {kernel.buffer if kernel.buffer >= 0 else kernel.output, *kernel.writes}:
                made.setdefault(slot, []).append(index)
        return made

    @cached_property
    def kinds(self) -> list[str]:
        """Kernel -> "forward", "gradient", "update" (what only new values of variables are made of) or "copy", as in drawings."""
        readers: dict[int, list[int]] = {}
        for index, befores in enumerate(self.befores):
            for before in befores:
                readers.setdefault(before, []).append(index)
        kinds = [""] * len(self.kernels)
        for index in range(len(self.kernels) - 1, -1, -1):
            kernel = self.kernels[index]
            made = {kernel.output, kernel.buffer, *kernel.writes} - {-1}
            leads = [kinds[reader] == "update" for reader in readers.get(index, ())]
            is_update = all(leads) and made.isdisjoint(self.fetches) and (bool(leads) or not made.isdisjoint(self.updates))
            kinds[index] = "copy" if kernel.op == "copy" else "gradient" if kernel.forward else "update" if is_update else "forward"
        return kinds

    def nbytes(self, kernel: int) -> int:
        """Bytes that a kernel makes: of a slice, its part of the buffer."""
        found = self.kernels[kernel]
        if found.buffer < 0:
            return found.made
        return self._buffers.get(found.buffer, 0) // max(1, len(self.makers[found.buffer]))

    @cached_property
    def _buffers(self) -> dict[int, int]:
        return {slot: nbytes for task in self.tasks for slot, nbytes in task.prepares}

    @cached_property
    def task_of(self) -> list[int]:
        """Kernel -> the task that it is in."""
        return [task.index for task in self.tasks for _ in range(task.first, task.last)]

    @cached_property
    def befores(self) -> list[list[int]]:
        """Kernel -> those that make what it reads, by what the plan lets wait for what."""
        result = []
        for index, kernel in enumerate(self.kernels):
            task = self.tasks[self.task_of[index]]
            allowed = {task.index, *task.after}
            found = [other for slot in kernel.reads for other in self.makers.get(slot, ())]
            result.append(sorted({other for other in found if other < index and self.task_of[other] in allowed}))
        return result


@dataclass(slots=True)
class TaskRun:
    """One task of a run.

    worker    the name of the thread; ``device``: of the plan's task
    ready     when all that it waits for had ended; ``admitted``: when the memory gate let it start
    start     when a thread took it up; ``end``: when it was done, of a task of a GPU: when all its kernels were asked for
    cpu       seconds that the thread computed in between
    marks     when each kernel began, and when the last ended; fewer where one failed. Of a task of a GPU: when each was asked for
    turns     (plan, marks) for each time that a sub-graph ran; where that was on a GPU, as its clock tells
    ran       of a task of a GPU (kernel of the task, "compute" or "copies", begin, end) as its clock tells
    """

    task: int
    worker: str
    device: str
    ready: float
    admitted: float
    start: float
    end: float
    cpu: float
    marks: list[float]
    turns: list[tuple[int, list[float]]] = field(default_factory=list)
    ran: list[tuple[int, str, float, float]] = field(default_factory=list)

    def spans(self) -> list[tuple[float, float]]:
        """Begin and end of each kernel that ended, on the thread."""
        return list(pairwise(self.marks))

    @property
    def done(self) -> float:
        """When the last of its kernels had ended, wherever it ran."""
        return max([self.end, *(end for _, _, _, end in self.ran)])


@dataclass
class RunData:
    """One run.

    number   its place in the trace
    where    the user's line that asked for it, and ``text``: what is written there
    threads  of each device; empty where the caller's thread ran all
    made     when it was asked for; ``begun``: when it had its turn; ``over``: when its last task had ended
    error    what ended it, or empty
    tasks    in the order in which they began
    sizes    slot -> bytes, of results whose size only the run knew
    totals   plan of a sub-graph -> (turns, seconds of each kernel), of turns too many to be noted one by one
    by_crew  whether it would run without Python between the tasks, and so be quicker, were it not traced
    by_graph  whether a GPU would replay its kernels as one graph, were it not traced
    """

    number: int
    plan: PlanData
    where: str
    text: str
    threads: dict[str, int]
    made: float
    begun: float
    over: float
    error: str
    peak_bytes: int
    tasks: list[TaskRun]
    sizes: dict[int, int]
    totals: dict[int, tuple[int, list[float]]]
    by_crew: bool = False
    by_graph: bool = False

    @cached_property
    def done(self) -> float:
        """When the last of its kernels had ended: behind ``over`` where that was on a GPU, which nobody waited for."""
        return max([self.over, *(task.done for task in self.tasks)])

    @property
    def seconds(self) -> float:
        """From its turn to the end of its last kernel."""
        return self.done - self.begun

    @cached_property
    def by_task(self) -> dict[int, TaskRun]:
        """The tasks that ran, by their number in the plan."""
        return {task.task: task for task in self.tasks}

    @cached_property
    def asked(self) -> dict[int, tuple[float, float]]:
        """Begin and end of each kernel that ended on its thread, by its number in the plan: of one of a GPU, when it was asked for."""
        found = {}
        for task in self.tasks:
            first = self.plan.tasks[task.task].first
            found.update({first + place: span for place, span in enumerate(task.spans())})
        return found

    @cached_property
    def rows(self) -> dict[str, dict[int, tuple[float, float]]]:
        """What ran on GPUs: name of the stream, such as ``cuda:0 copies`` -> kernel -> begin and end."""
        found: dict[str, dict[int, tuple[float, float]]] = {}
        for task in sorted(self.tasks, key=lambda task: task.device):
            first = self.plan.tasks[task.task].first
            for row in ROWS:
                spans = {first + place: (begin, end) for place, name, begin, end in task.ran if name == row}
                if spans:
                    found.setdefault(f"{task.device} {row}", {}).update(spans)
        return found

    @cached_property
    def on_gpus(self) -> dict[int, str]:
        """Kernel -> the stream of a GPU that it ran on."""
        return {index: row for row, spans in self.rows.items() for index in spans}

    @cached_property
    def spans(self) -> dict[int, tuple[float, float]]:
        """Begin and end of each kernel that ended, where it ran, by its number in the plan."""
        found = dict(self.asked)
        for spans in self.rows.values():
            found.update(spans)
        return found

    def late(self, kernel: int) -> float:
        """Seconds of a kernel of a GPU in which the host still asked for it: the GPU had nothing to do, or was at a first part of it."""
        if kernel not in self.on_gpus or self.plan.kernels[kernel].op == "copy":
            return 0.0
        begin, end = self.spans[kernel]
        return max(0.0, min(self.asked[kernel][1], end) - begin)

    @property
    def busy(self) -> float:
        """Seconds of all its tasks together."""
        return sum(task.end - task.start for task in self.tasks)

    @property
    def workers(self) -> int:
        """How many threads it might have used."""
        return sum(self.threads.values()) or 1


def packed(value: Any) -> Any:
    """As JSON takes it: a dataclass as a list of its fields, which their class names."""
    if isinstance(value, Kernel | Task | TaskRun | PlanData):
        return [packed(getattr(value, each.name)) for each in fields(value)]
    if isinstance(value, RunData):
        return [value.plan.number if each.name == "plan" else packed(getattr(value, each.name)) for each in fields(value)]
    if isinstance(value, Mapping):
        return [[key, packed(each)] for key, each in value.items()]
    if isinstance(value, list | tuple):
        return [packed(each) for each in value]
    return value


def plan_of(data: Sequence[Any]) -> PlanData:
    """A plan from what `packed` made of it."""
    plan = PlanData(*data)
    plan.kernels = [Kernel(*each) for each in data[1]]
    for kernel in plan.kernels:
        kernel.members = [Member(*each) for each in kernel.members]
    plan.tasks = [Task(*each) for each in data[2]]
    plan.storages = {key: (list(slots), nbytes, count) for key, (slots, nbytes, count) in data[3]}
    plan.sources = dict(data[4])
    plan.updates = dict(data[6])
    return plan


def run_of(data: Sequence[Any], plans: Sequence[PlanData]) -> RunData:
    """A run from what `packed` made of it."""
    run = RunData(*data)
    run.plan = plans[data[1]]
    run.threads = dict(data[4])
    run.tasks = [_task_of(*each) for each in data[10]]
    run.sizes = dict(data[11])
    run.totals = {number: (turns, list(seconds)) for number, (turns, seconds) in data[12]}
    return run


def _task_of(*data: Any) -> TaskRun:
    task = TaskRun(*data)
    task.turns = [(number, list(marks)) for number, marks in task.turns]
    task.ran = [(place, row, begin, end) for place, row, begin, end in task.ran]
    return task
