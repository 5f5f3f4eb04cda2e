"""The picture of a plan: tasks as scopes, their kernels as boxes, and edges from what fills a slot to what reads it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from operator import itemgetter

from ..compile import Plan
from ..compile.copies import CopyNode
from ..compile.plan import COLUMNS, WHOLE, Task, Unit
from ..graph import Node, Tensor
from ..graph.spec import format_spec
from ..graph.text import format_bytes, format_seconds
from .folding import RUNS
from .overlay import Overlay
from .picture import BOXES, Box, Edge, Home, Picture, listing

Written = tuple[tuple[int, int] | None, str]  # rows of a slot (None: all of it), and the box that filled them


class PlanPicture(Picture):
    """What is drawn of ``plan``: with ``depth`` 0 a box for each task, else its kernels; with None whatever fits on a page.

    Feeds and variables stand where a run begins, what is fetched and what is written to variables where it ends.
    """

    def __init__(self, plan: Plan, depth: int | None = None, *, most: int | None = BOXES, overlay: Overlay | None = None) -> None:
        super().__init__(overlay=overlay)
        self.exact = most is None
        fits = most is None or len(plan.tasks) <= most // 4  # then a task may have four boxes or more
        self.depth = int(fits) if depth is None else min(depth, int(fits))
        self._size = 1 if most is None or len(plan.units) <= most else math.ceil(len(plan.units) / min(RUNS, most))  # that share a box
        self._several = len({task.device for task in plan.tasks}) > 1  # devices
        self._edges: dict[tuple[str, str, str], Edge] = {}
        self._fillers: dict[int, list[Written]] = {}
        self._begin(plan)
        for run in _runs(plan.tasks, most if self.depth == 0 else None):
            self._task(run)
        if self.depth == 0:
            self.notes.append(f"{len(plan.units)} kernels in {len(plan.tasks)} tasks; depth=1 shows the kernels")
        self._end(plan)
        self.overlay.settle(self.boxes.values())
        self.edges = list(self._edges.values())
        if self._size > 1:
            self.leave_out_implied()

    def _begin(self, plan: Plan) -> None:
        for i, (tensor, slot) in enumerate(plan.feeds):
            self._source(f"f{i}", tensor, "placeholder", slot, "fed")
        for i, (node, slot) in enumerate(plan.variables):
            self._source(f"v{i}", node.outputs[0], "variable", slot, "read at the start")

    def _source(self, key: str, tensor: Tensor, kind: str, slot: int, what: str) -> None:
        spec = format_spec(tensor.shape, tensor.dtype)
        self.boxes[key] = Box(key, kind, tensor.name.rpartition("/")[2], spec, f"{tensor.name}: {spec}\n{what}", ())
        self._fillers[slot] = [(None, key)]

    def _task(self, tasks: Sequence[Task]) -> None:
        first, last = tasks[0], tasks[-1]
        title = f"task {first.index}" if len(tasks) == 1 else f"tasks {first.index} … {last.index}"
        if self._several:
            title += f" on {listing(list(dict.fromkeys(task.device for task in tasks)), ' and ')}"
        seconds = format_seconds(sum(task.seconds for task in tasks))
        units = [unit for task in tasks for unit in task.units]
        key = f"t{first.index}"
        if self.depth == 0:
            on = "" if self._several else f" on {first.device}"
            tooltip = f"{title}{on}, about {seconds}\n{_counted(units)}"
            kind = _kind(units[0].node) if units else "forward"
            self.boxes[key] = Box(key, kind, title, f"{_kernel_names(units)}, {seconds}", tooltip, (), max(2, len(units)))
            self.overlay.put_on(self.boxes[key], _things(units))
        for i in range(0, len(units), self._size):
            run = units[i : i + self._size]
            if self.depth:
                key = f"t{first.index}u{i}"
                home = (f"{title}, {seconds}",)
                self.boxes[key] = _kernel(key, run[0], home) if len(run) == 1 else _kernels(key, run, home)
                self.overlay.put_on(self.boxes[key], _things(run))
            for unit in run:
                self._unit(unit, key)

    def _unit(self, unit: Unit, key: str) -> None:
        # A loop is given the run before its inputs, and a kernel no input that it is only told of.
        tensors = [*([None] if unit.bodies else []), *[tensor for i, tensor in enumerate(unit.node.inputs) if i not in unit.told]]
        if isinstance(unit.kernel, itemgetter):  # it hands out one result of several
            tensors = []
        for position, slot in enumerate(unit.inputs):
            is_cut = position < len(unit.cut) and unit.cut[position] not in (WHOLE, COLUMNS)
            rows = unit.read if slot in unit.writes or is_cut else None
            for start in self._filled(slot, rows):
                self._edge(start, key, tensors[position] if position < len(tensors) else None)
        if unit.along == COLUMNS:
            self._fillers.setdefault(unit.buffer, []).append((None, key))  # (a part of every row)
        elif unit.mode in ("part", "partial"):
            self._fill(unit.buffer, unit.read, key)
        else:
            self._fill(unit.output, None, key)
        for slot in unit.writes:
            self._fill(slot, unit.read if unit.read != (0, 0) else None, key)

    def _filled(self, slot: int, rows: tuple[int, int] | None) -> list[str]:
        """The boxes that filled ``rows`` of a slot."""
        return [key for written, key in self._fillers.get(slot, ()) if rows is None or written is None or _meet(rows, written)]

    def _fill(self, slot: int, rows: tuple[int, int] | None, key: str) -> None:
        before = self._fillers.get(slot, [])
        kept = [] if rows is None else [(written, other) for written, other in before if written is None or not _meet(rows, written)]
        self._fillers[slot] = [*kept, (rows, key)]

    def _edge(self, start: str, end: str, tensor: Tensor | None) -> None:
        if start != end:
            edge = self._edges.setdefault((start, end, "data"), Edge(start, end, "data"))
            if tensor is not None:
                edge.tensors[tensor] = None

    def _end(self, plan: Plan) -> None:
        fetched = Counter(start for slot in plan.fetches for start in self._filled(slot, None))
        for start, count in fetched.items():
            key = f"r{start}"
            self.boxes[key] = Box(key, "tag", "fetched" if count == 1 else f"{count} fetched", "", "handed to the caller", ())
            self._edge(start, key, None)
        written: dict[tuple[str, ...], list[Node]] = {}
        for node, slot in plan.updates:
            written.setdefault(tuple(self._filled(slot, None)), []).append(node)
        for i, (starts, nodes) in enumerate(written.items()):
            names = [node.name for node in nodes]
            title = f"{names[0].rpartition('/')[2]} is written" if len(names) == 1 else f"{len(names)} variables are written"
            self.boxes[f"w{i}"] = Box(f"w{i}", "update", title, "", f"written as the run ends: {listing(names, ', ')}", (), len(names))
            for start in starts:
                self._edge(start, f"w{i}", None)


def _things(units: Sequence[Unit]) -> list[Unit | Node]:
    """Units and the nodes that they run, once each: a fused one, and those that it stands for."""
    return list(dict.fromkeys(thing for unit in units for thing in (unit, unit.node, *getattr(unit.node.op, "members", ()))))


def _kernel(key: str, unit: Unit, home: Home) -> Box:
    rows = unit.extent if unit.read != (0, 0) else ""
    if isinstance(unit.node, CopyNode):
        rows = ", ".join(filter(None, [f"to {unit.node.target}", rows]))
    how = {"reuse": "in place", "take": "into a kept buffer"}.get(unit.mode, "")
    spec = "" if unit.spec is None else format_spec(unit.spec.shape, unit.spec.dtype)
    line = f"{unit.node.location}  {unit.node.location.text}".rstrip()
    cost = f"about {format_seconds(unit.seconds)}" + (f", makes {format_bytes(unit.nbytes)}" if unit.nbytes else "")
    tooltip = "\n".join(filter(None, [f"{unit}: {spec}", cost, how, line]))
    kind = "copy" if isinstance(unit.node, CopyNode) else _kind(unit.node)
    return Box(key, kind, unit.node.op.name, rows, tooltip, home, line=unit.node.location)


def _kernels(key: str, units: Sequence[Unit], home: Home) -> Box:
    title = f"{units[0].node.op.name} … {units[-1].node.op.name}"
    seconds = format_seconds(sum(unit.seconds for unit in units))
    return Box(key, _kind(units[0].node), title, f"{len(units)} kernels, {seconds}", _counted(units), home, len(units))


def _kernel_names(units: Sequence[Unit]) -> str:
    return ", ".join(unit.node.op.name for unit in units) if 0 < len(units) <= 2 else f"{len(units)} kernels"


def _counted(units: Sequence[Unit]) -> str:
    return listing([f"{count} {name}" for name, count in Counter(unit.node.op.name for unit in units).most_common()], ", ")


def _kind(node: Node) -> str:
    return "gradient" if node.forward is not None else "forward"


def _meet(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] < b[1] and b[0] < a[1]


def _runs(tasks: Sequence[Task], most: int | None) -> list[Sequence[Task]]:
    """The tasks one by one, or where there are more than ``most``, those that follow each other together."""
    size = 1 if most is None or len(tasks) <= most else math.ceil(len(tasks) / min(RUNS, most))
    return [tasks[i : i + size] for i in range(0, len(tasks), size)]
