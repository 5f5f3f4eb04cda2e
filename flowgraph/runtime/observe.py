"""Observe: a plan run node by node on the caller's thread, so that each value can be looked at, or changed, before the next is made.

It calls the kernels that a run calls, on the same arrays, so it gives the bits of a run. It keeps what a run would free or write over,
unless told not to, and goes through the bodies of loops and branches as well.

>>> x = fg.placeholder("x", (2,), "float64")
>>> y = fg.exp(x) @ [1.0, 1.0]
>>> plan = session.plan(y, {x: (2,)})
>>> values = started(plan, session._buffers)
>>> values[plan.feeds[0][1]] = np.zeros(2)
>>> for step in Walk(plan, values, session._buffers):
...     print(step.node.name, *step.values)
exp [1. 1.]
matmul 2.0
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from ..compile import Plan, Unit
from ..compile.copies import CopyNode
from ..compile.fuse import FusedNode
from ..compile.lower import add_up, as_given
from ..compile.plan import sources_of
from ..graph import Node, Tensor
from ..records import Record, field
from .memory import Buffers
from .program import explained, holding, read, slicing


class Turn(Record, slots=True):
    """One call of a sub-graph.

    node  that holds it; ``body``: which of its sub-graphs; ``number``: how often that was called before, in this run of the node
    """

    node: Node
    body: int
    number: int

    def __str__(self) -> str:
        return f"{self.node.name}, {self.node.op.bodies[self.body]} {self.number}"


class Step(Record, frozen=False, eq=False, slots=True):
    """What runs between two looks: units of one node that follow each other.

    node    of the graph, or one that the plan made of several (a `FusedNode`), or a copy to another device
    units   in their order
    made    (tensor, slot): what is there in full behind this step. A node in slices may take several steps
    values  those of ``made``, once it has run
    path    the loops and branches that it is in, outermost first
    read    for one who is called behind it, what the node has for its inputs: see `program.read`
    """

    number: int
    node: Node
    units: list[Unit]
    made: list[tuple[Tensor, int]] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    path: tuple[Turn, ...] = ()
    read: list[Any] = field(default_factory=list)

    @property
    def main(self) -> Unit:
        """The unit that reads what the node does; others make its arrays, or take its results apart."""
        return max(self.units, key=lambda unit: len(unit.inputs))


Seen = Callable[[Step], None]


class Walk:
    """A plan on its way, step by step.

    plan    what to run
    values  by slot, with feeds, variables and the run's key filled in (see `started`), each on the device that computes with it. All that
            is shown of them, in steps and in ``known``, is on the host
    seen    is called behind each step, and behind those in the bodies of loops and branches
    keep    whether values are kept for as long as the walk; else what the plan frees is let go
    begins  is called when the body of a loop or branch is about to run, with the turn, its plan and the arrays that it is given
    steps   all of them; ``place``: the number of those that have run
    known   tensor -> its value, of all that has run
    raises  `step` raises what a run would, with the node
    """

    def __init__(
        self,
        plan: Plan,
        values: list[Any],
        buffers: Buffers,
        seen: Seen | None = None,
        *,
        keep: bool = True,
        begins: Callable[[tuple[Turn, ...], Plan, Sequence[Any]], None] | None = None,
        path: tuple[Turn, ...] = (),
        run: Any = None,
    ) -> None:
        self.plan, self.values, self.buffers, self.seen, self.keep = plan, values, buffers, seen, keep
        self.begins, self.path = begins, path
        self.run: Any = _Going() if run is None else run
        self.steps = steps_of(plan, path)
        self.place = 0
        self.known: dict[Tensor, Any] = {}
        self._whole: set[int] = set()  # buffers that slices have filled
        self._before: list[tuple[dict[int, Any], set[int]]] = []  # for each step that has run, what it has changed as it was
        self._prepares = {slot: (task.device, spec) for task in plan.tasks for slot, spec in task.prepares}
        if plan.run_slot >= 0:
            values[plan.run_slot] = self.run
        for tensor, slot in sources_of(plan):
            self.known[tensor] = buffers.home(values[slot])

    def __iter__(self) -> Iterator[Step]:
        while not self.is_over:
            yield self.step()

    @property
    def is_over(self) -> bool:
        """Whether all steps have run."""
        return self.place == len(self.steps)

    def step(self) -> Step:
        """Runs the next step."""
        step = self.steps[self.place]
        if self.keep:
            touched = {slot for unit in step.units for slot in (unit.output, unit.buffer, *unit.writes)}
            self._before.append(({slot: self.values[slot] for slot in touched if slot >= 0}, set(self._whole)))
        try:
            for unit in step.units:
                self._execute(unit)
        except BaseException:
            if self.keep:
                self._undo(step)
            raise
        self.place += 1
        step.values = [self._home(slot) for _, slot in step.made]
        for (tensor, slot), value in zip(step.made, step.values, strict=True):
            if slot in self._prepares:
                self._whole.add(slot)
            if self.keep:
                self.known[tensor] = value
        if self.seen is not None:
            step.read = read(step.main, self._home)
            self.seen(step)
            step.read = []
        if not self.keep:
            step.values = []
            for unit in step.units:
                for slot in unit.frees:
                    self.values[slot] = None
        return step

    def back(self) -> None:
        """Takes the last step back: only where values are kept."""
        self.place -= 1
        self._undo(self.steps[self.place])

    def _undo(self, step: Step) -> None:
        values, self._whole = self._before.pop()
        for slot, value in values.items():
            self.values[slot] = value
        for tensor, _ in step.made:
            self.known.pop(tensor, None)
        step.values = []

    def change(self, tensor: Tensor, value: Any) -> None:
        """Puts another value in the place of that of ``tensor``, which is there: what runs from now on reads this one."""
        slots = [slot for step in self.steps[: self.place] for made, slot in step.made if made is tensor]
        slots += [slot for made, slot in sources_of(self.plan) if made is tensor]
        if not slots:
            raise KeyError(tensor.name)
        for slot in slots:
            self.values[slot] = self.buffers.alike(self.values[slot], value)
        self.known[tensor] = value

    def _home(self, slot: int) -> Any:
        return self.buffers.home(self.values[slot])

    def _execute(self, unit: Unit) -> None:
        with self.buffers.device(unit.device).active():
            self._run(unit)

    def _run(self, unit: Unit) -> None:
        values = self.values
        if self.run.stop is not None:
            raise self.run.stop
        kernel = unit.kernel if not unit.bodies else holding(unit, self.buffers, self._bodies(unit))
        try:
            with np.errstate(all="ignore"):
                for slot in (unit.buffer, *unit.writes):
                    if slot in self._prepares and values[slot] is None:
                        device, spec = self._prepares[slot]
                        values[slot] = self.buffers.on(device).device.empty(spec.shape, spec.dtype)
                if unit.mode in ("part", "partial"):
                    if unit.buffer in self._whole:  # the plan writes this node's result over what the buffer holds
                        self._whole.discard(unit.buffer)
                        values[unit.buffer] = values[unit.buffer].copy()
                    slicing(kernel, unit)(*[values[slot] for slot in unit.inputs], values[unit.buffer])
                elif unit.mode in ("take", "reuse"):
                    out = self.buffers.on(unit.device).device.empty(unit.spec.shape, unit.spec.dtype)
                    values[unit.output] = kernel(*[values[slot] for slot in unit.inputs], out=out)
                else:
                    values[unit.output] = kernel(*[values[slot] for slot in unit.inputs])
        except Exception as error:
            if error is self.run.stop:
                raise
            raise explained(error, unit, values.__getitem__) from error

    def _bodies(self, unit: Unit) -> list[Callable[..., list[Any]]]:
        return [_Body(self, unit.node, number, plan) for number, plan in enumerate(unit.bodies)]


class _Body:
    """The plan of a sub-graph as a function of its inputs and captures, walked through at each call. See `program.Body`."""

    def __init__(self, walk: Walk, node: Node, number: int, plan: Plan) -> None:
        self.walk, self.node, self.number, self.plan = walk, node, number, plan
        self.shared = [slot in plan.copied for slot in plan.fetches]
        self.told: list[int] = []
        self._calls = 0

    def __call__(self, run: Any, arrays: Sequence[Any], rows: Any = None) -> list[Any]:
        outer = self.walk
        path = (*outer.path, Turn(self.node, self.number, self._calls))
        self._calls += 1
        if outer.begins is not None:
            outer.begins(path, self.plan, outer.buffers.home(list(arrays)))
        values = started(self.plan, outer.buffers)
        for (_, slot), array in zip(self.plan.feeds, arrays, strict=True):
            values[slot] = array
        inner = Walk(self.plan, values, outer.buffers, outer.seen, keep=False, begins=outer.begins, path=path, run=run)
        for _ in inner:
            pass
        return [values[slot] for slot in self.plan.fetches]


class _Found(BaseException):
    """Ends a walk; no error of a kernel."""


class _Going:
    """Stands for a run that nobody stops."""

    stop: BaseException | None = None
    recording: Any = None


def started(plan: Plan, buffers: Buffers) -> list[Any]:
    """Values by slot with the constants in place, for feeds and variables to be filled in."""
    values: list[Any] = [None] * plan.slots
    for slot, array in plan.constants:
        values[slot] = buffers.constant(array, plan.on.get(slot))
    return values


def steps_of(plan: Plan, path: tuple[Turn, ...] = ()) -> list[Step]:
    """The units of a plan in their order, those of one node together, with the tensors that each step completes."""
    steps: list[Step] = []
    fed = {tensor for tensor, _ in plan.feeds}
    totals: dict[int, Tensor] = {}  # buffer of the parts of a sum -> the tensor that is the sum
    last: dict[Tensor, tuple[int, int]] = {}  # tensor -> the last step that makes a part of it, and the slot
    for unit in plan.units:
        if not steps or steps[-1].node is not unit.node:
            steps.append(Step(len(steps), unit.node, [], path=path))
        steps[-1].units.append(unit)
        for tensor, slot in _made(unit, totals):
            for each in (tensor, *_twins(tensor)):
                if each not in fed:
                    last[each] = len(steps) - 1, slot
    for tensor, (number, slot) in last.items():
        steps[number].made.append((tensor, slot))
    return steps


def _made(unit: Unit, totals: dict[int, Tensor]) -> list[tuple[Tensor, int]]:
    """What a unit makes, or a part of."""
    node, is_cut = unit.node, unit.mode in ("part", "partial")
    if isinstance(node, CopyNode) or unit.kernel is as_given:
        return []
    if unit.kernel is add_up:
        return [(totals.get(unit.inputs[0], node.outputs[0]), unit.output)]
    if isinstance(node, FusedNode):
        made = []
        for result, slot in zip(node.op.results, (*unit.writes, unit.buffer if is_cut else unit.output), strict=True):
            if is_cut and result.is_total:
                totals[slot] = result.tensor
            else:
                made.append((result.tensor, slot))
        return made
    if unit.mode == "partial":
        totals[unit.buffer] = node.outputs[0]
        return []
    if is_cut:
        return [(node.outputs[0], unit.buffer)]
    if unit.writes:
        return list(zip(node.outputs, unit.writes, strict=True))
    if isinstance(unit.kernel, itemgetter):
        return [(node.outputs[unit.part], unit.output)]
    return [(node.outputs[0], unit.output)] if len(node.outputs) == 1 else []


def _twins(tensor: Tensor) -> Iterator[Tensor]:
    """Of a loop that serves for others as well (attribute ``extends``), the outputs of these."""
    twin = tensor.node.attrs.get("extends")
    while twin is not None:
        if tensor.index < len(twin.outputs):
            yield twin.outputs[tensor.index]
        twin = twin.attrs.get("extends")


def evaluated(tensor: Tensor, known: Mapping[Tensor, Any]) -> Any:
    """The value of a tensor from those that are ``known``, by NumPy's kernels one by one: of what a plan need not compute by itself.

    What a compiled loop computes inside comes from the same inputs, but its last digits may differ from those within the loop.

    raises  KeyError, with the name of a tensor, where one that is needed is not known; what a kernel raises
    """
    found: dict[Tensor, Any] = {}
    stack = [tensor]
    while stack:
        current = stack[-1]
        node = current.node
        if current in known or current in found:
            stack.pop()
            continue
        if node.op.name == "constant":
            found[current] = node.attrs["value"]
            continue
        if not node.inputs or node.op.bodies:
            raise KeyError(current.name)
        missing = [each for each in node.inputs if each not in known and each not in found]
        if missing:
            stack += missing
            continue
        arrays = [found[each] if each in found else known[each] for each in node.inputs]
        kernel = node.op.bind_for(np, node.attrs, *arrays)
        with np.errstate(all="ignore"):
            results = kernel(*[np.asarray(array)[()] for array in arrays])
        found.update(zip(node.outputs, results if isinstance(results, tuple | list) else [results], strict=True))
    return known[tensor] if tensor in known else found[tensor]


def find_first(plan: Plan, values: list[Any], buffers: Buffers, holds: Callable[[Any], bool]) -> tuple[Step, Tensor, Any] | None:
    """The first step, in the bodies of loops and branches too, that makes a value for which ``holds``; with the tensor and the value.

    values  as for `Walk`; what is not needed any more is let go of
    raises  what a run would raise before
    """
    result: list[tuple[Step, Tensor, Any]] = []

    def look(step: Step) -> None:
        for (tensor, _), value in zip(step.made, step.values, strict=True):
            if holds(value):
                result.append((step, tensor, value))
                raise _Found

    try:
        for _ in Walk(plan, values, buffers, look, keep=False):
            pass
    except _Found:
        pass
    return result[0] if result else None
