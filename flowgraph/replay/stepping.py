"""Stepping: a plan under a cursor that goes forwards and backwards, with the values behind it, breakpoints, and values changed by hand."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..compile.fuse import FusedNode
from ..compile.plan import sources_of
from ..errors import ArgumentError, FlowgraphError
from ..graph import Graph, Node, Tensor
from ..graph.report import where
from ..graph.spec import format_shape, format_spec, may_be_equal
from ..runtime import Step, Turn, Walk, evaluated, started
from ..session.expressions import Expression


@dataclass(frozen=True)
class Value:
    """What a tensor holds.

    is_exact  whether these are the bits of the run; else it was computed again by NumPy's kernels, as a compiled loop keeps it to itself
    """

    tensor: Tensor
    array: Any
    is_exact: bool = True


class Breakpoint:
    """Where to stop: behind the step that makes what it matches.

    text  a node (``layer1/matmul``), a scope or pattern of names (``layer1``, ``layer1/*``), a line (``train.py:12``), a condition on any
          value ``x`` (``any(isnan(x))``), or one of the first three and then ``if`` and a condition
    """

    def __init__(self, text: str, graph: Graph) -> None:
        self.text = text.strip()
        place, _, asked = self.text.partition(" if ")
        self._line = re.fullmatch(r"(.+):(\d+)", place)
        if self._line is not None and self._line[1] in graph:
            self._line = None  # a second output
        names = [node.name for node in every_node(graph)]
        self._pattern = "" if self._line is not None else place.rstrip("/").partition(":")[0]
        if self._line is None and not any(self._fits(name) for name in names):
            if asked or not re.search(r"[(<>=!]", self.text):
                from difflib import get_close_matches

                scopes = {name[:end] for name in names for end, letter in enumerate(name) if letter == "/"}
                near = get_close_matches(self._pattern, [*scopes, *names], n=3)
                raise ArgumentError(
                    f"no node or scope is called {place!r}",
                    help=f"near: {', '.join(near)}" if near else "a line is file.py:12, a condition any(isnan(x))",
                )
            self._pattern, asked = "", self.text
        if self._line is not None:
            _check_line(self._line[1], int(self._line[2]), graph)
        self._condition = Expression(asked, {"x"}) if asked else None

    def _fits(self, name: str) -> bool:
        return name == self._pattern or name.startswith(f"{self._pattern}/") or fnmatch.fnmatchcase(name, self._pattern)

    def matches(self, node: Node, values: Callable[[], Sequence[Any]]) -> bool:
        """Whether to stop behind ``node``; ``values`` gives those of its outputs, and is asked only for a condition."""
        if self._line is not None:
            location = node.location
            if not (_ends_with(location.file, self._line[1]) and location.line == int(self._line[2])):
                return False
        elif self._pattern and not self._fits(node.name):
            return False
        condition = self._condition
        return condition is None or any(_holds(condition, value) for value in values())


def every_node(graph: Graph) -> Iterator[Node]:
    """The nodes of a graph, and of the bodies of loops and branches in it."""
    for node in graph.nodes:
        yield node
        for name in node.op.bodies:
            yield from every_node(node.attrs[name])


def _check_line(file: str, line: int, graph: Graph) -> None:
    places = {(node.location.file, node.location.line) for node in every_node(graph)}
    lines = sorted({at for made, at in places if _ends_with(made, file)}, key=lambda at: (abs(at - line), at))
    if not lines:
        known = sorted({made.replace("\\", "/").rpartition("/")[2] for made, _ in places})
        raise ArgumentError(f"no node was made in {file}", help=f"there are {', '.join(known)}")
    if line not in lines:
        near = ", ".join(map(str, sorted(lines[:4])))
        raise ArgumentError(f"no node was made at {file}:{line}", help=f"lines near it that made some: {near}")


def _ends_with(file: str, end: str) -> bool:
    return file == end or file.replace("\\", "/").endswith(f"/{end}")


def _holds(condition: Expression, value: Any) -> bool:
    try:
        return condition.holds(x=value)
    except ArgumentError:  # not for a value of this kind
        return False


class Stepping:
    """A plan that is gone through step by step. Each step runs what makes one node of the plan; behind it its values can be looked at.

    walk         the plan on its way
    graph        whose names are meant; the sub-graph's within a loop or branch
    breakpoints  where `run` stops
    changed      tensor -> the value that was put in the place of its own
    failure      what the next step has raised, if it has
    """

    def __init__(self, walk: Walk, graph: Graph) -> None:
        self.walk, self.graph = walk, graph
        self.breakpoints: list[Breakpoint] = []
        self.changed: dict[Tensor, Any] = {}
        self.failure: FlowgraphError | None = None
        self.inner: Step | None = None  # within a loop or branch of the last step: the step at which `run` would have stopped
        self._given = {tensor: walk.values[slot] for tensor, slot in sources_of(walk.plan)}
        self._makers: dict[Tensor, int] = {}  # tensor -> the number of steps behind which it is there
        self._inside: set[Node] = set()  # members of compiled loops
        for step in walk.steps:
            for tensor, _ in step.made:
                self._makers[tensor] = step.number + 1
            if isinstance(step.node, FusedNode):
                self._inside.update(step.node.op.members)
                for member in step.node.op.members:
                    for tensor in member.outputs:
                        self._makers.setdefault(tensor, step.number + 1)

    # --- where it is

    @property
    def steps(self) -> list[Step]:
        """All steps, in the order in which they run."""
        return self.walk.steps

    @property
    def place(self) -> int:
        """How many steps have run."""
        return self.walk.place

    @property
    def step(self) -> Step | None:
        """The step that has run last; None at the start."""
        return self.steps[self.place - 1] if self.place else None

    @property
    def is_over(self) -> bool:
        """Whether all steps have run."""
        return self.walk.is_over

    # --- going

    def forward(self, count: int = 1) -> Step | None:
        """Runs ``count`` steps more; the last of them, or None at the end. raises what the run raised, before which it then stands."""
        for _ in range(count):
            if self.walk.is_over:
                return None
            self._step()
        return self.step

    def back(self, count: int = 1) -> Step | None:
        """Takes ``count`` steps back; the step that has then run last, or None at the start."""
        for _ in range(min(count, self.place)):
            self.walk.back()
        self.failure = self.inner = None
        return self.step

    def go(self, place: int) -> Step | None:
        """Goes to where ``place`` steps have run, forwards or backwards."""
        if not 0 <= place <= len(self.steps):
            raise ArgumentError(f"there are {len(self.steps)} steps, and {place} is none of 0 to {len(self.steps)}")
        return self.forward(place - self.place) if place > self.place else self.back(self.place - place)

    def run(self) -> Breakpoint | None:
        """Runs to the next breakpoint, which it gives, or to the end. raises what the run raised, where it did."""
        while not self.walk.is_over:
            step = self._step()
            found = self._stops(step)
            if found is not None or self.inner is not None:
                return found
        return None

    def run_back(self) -> Breakpoint | None:
        """Goes back to the breakpoint before, which it gives, or to the start."""
        while self.place:
            self.back()
            step = self.step
            found = None if step is None else self._stops(step)
            if found is not None:
                return found
        return None

    def _step(self) -> Step:
        self.failure = self.inner = None
        self.walk.seen = self._look if self.breakpoints else None
        try:
            step = self.walk.step()
        except FlowgraphError as error:
            self.failure = error
            raise
        finally:
            self.walk.seen = None
        for tensor, _ in step.made:
            if tensor in self.changed:
                self.walk.change(tensor, self.changed[tensor])
        return step

    def _stops(self, step: Step) -> Breakpoint | None:
        for each in self.breakpoints:
            for node in members(step):
                if each.matches(node, lambda node=node: [value.array for value in self.values_of(node)]):  # type: ignore[misc]
                    return each
        return None

    def _look(self, step: Step) -> None:
        """Notes the first step in the body of a loop or branch at which to stop."""
        if len(step.path) > len(self.walk.path) and self.inner is None:
            values = dict(zip([tensor for tensor, _ in step.made], step.values, strict=True))
            for node in members(step):
                here = [values[tensor] for tensor in node.outputs if tensor in values]
                if any(each.matches(node, lambda here=here: here) for each in self.breakpoints):  # type: ignore[misc]
                    self.inner = Step(step.number, step.node, step.units, step.made, list(step.values), step.path)
                    return

    # --- looking

    def tensor(self, name: str | Tensor) -> Tensor:
        """The tensor that is meant. raises UnknownNameError, with near names."""
        return name if isinstance(name, Tensor) else self.graph[name]

    def value(self, name: str | Tensor) -> Any:
        """What a tensor holds at this place. raises ArgumentError where that is not known yet, with the step that makes it."""
        return self.look(name).array

    def look(self, name: str | Tensor) -> Value:
        """The same, with whether these are the bits of the run."""
        tensor = self.tensor(name)
        known = self.walk.known
        if tensor in known:
            return Value(tensor, known[tensor])
        is_exact, stack, seen = True, [tensor], {tensor}
        while stack:
            current = stack.pop()
            later = self._makers.get(current, 0)
            if later > self.place:
                what = "" if current is tensor else f": it reads {current.name}"
                raise ArgumentError(
                    f"{tensor.name} is not there yet{what}", help=f"step {later} of {len(self.steps)} makes it: goto {later}"
                )
            is_exact &= current.node not in self._inside
            fresh = [each for each in current.node.inputs if each not in known and each not in seen]
            seen.update(fresh)
            stack += fresh
        try:
            return Value(tensor, evaluated(tensor, known), is_exact)
        except KeyError as missing:
            what = f"{tensor.name} is not known" + ("" if missing.args[0] == tensor.name else f": it reads {missing.args[0]}")
            raise ArgumentError(what, help="this run does not need it, so it has no value") from None

    def values_of(self, node: Node) -> Iterator[Value]:
        """The values of a node's outputs, as far as they are known here."""
        for tensor in node.outputs:
            try:
                yield self.look(tensor)
            except FlowgraphError:
                continue

    # --- changing

    def change(self, name: str | Tensor, value: Any) -> None:
        """Puts ``value`` in the place of what a tensor holds, and goes back to where that was made: all that comes then reads it.

        raises  ArgumentError for another shape, a dtype that would lose something, or a tensor that a compiled loop keeps to itself
        """
        tensor = self.tensor(name)
        if tensor not in self._given and all(made is not tensor for step in self.steps for made, _ in step.made):
            what = "is within a compiled loop" if tensor.node in self._inside else "is not computed by a step of its own"
            raise ArgumentError(f"{tensor.name} {what}, so that nothing reads it from outside", help="replay it node by node: jit=False")
        old = self._given.get(tensor)
        array = np.asarray(value)
        shape: Any = tensor.shape if old is None else old.shape
        if array.shape == () and isinstance(value, int | float | complex | bool | np.generic):
            array = np.full(shape if old is not None else self.look(tensor).array.shape, array)
        if not may_be_equal(shape, array.shape):
            raise ArgumentError(f"{tensor.name} has shape {format_shape(shape)}, not {format_shape(array.shape)}")
        weak = array.dtype.kind in "biuf" and tensor.dtype.kind in "fV"
        if not (weak or np.can_cast(array.dtype, tensor.dtype, "same_kind")):
            raise ArgumentError(f"{tensor.name} is {tensor.dtype}, not {array.dtype}")
        array = np.array(array, tensor.dtype)
        self._put(tensor, array[()] if not array.ndim else array)

    def restore(self, name: str | Tensor) -> None:
        """Takes a change back, and goes to where the tensor was made. raises ArgumentError where nothing was changed."""
        tensor = self.tensor(name)
        if tensor not in self.changed:
            raise ArgumentError(f"{tensor.name} was not changed")
        del self.changed[tensor]
        if tensor in self._given:
            self.go(0)
            self.walk.change(tensor, self._given[tensor])
        else:
            self.go(min(self.place, self._makers[tensor] - 1))
            self.forward()

    def _put(self, tensor: Tensor, array: Any) -> None:
        if tensor in self._given:
            self.go(0)
        elif self.place < self._makers[tensor]:
            self.changed[tensor] = array
            self.go(self._makers[tensor])
            return
        else:
            self.go(self._makers[tensor])
        self.changed[tensor] = array
        self.walk.change(tensor, array)

    # --- loops and branches

    def into(self, turn: int = 0, body: int | None = None) -> Stepping:
        """One call of a loop's body, or of a branch, in the step that has run last: a stepping of its own, at its start.

        body    which sub-graph: None for the body of a loop, or the branch that was taken
        raises  ArgumentError where the step has no such turn
        """
        step = self.step
        if step is None or not step.node.op.bodies:
            raise ArgumentError("the last step is no loop and no branch", help="break at one by its name, then: into 0")
        chosen = body if body is not None else (1 if step.node.op.name == "while_loop" else None)
        counts: dict[int, int] = {}
        found: list[tuple[Turn, Any, list[Any]]] = []
        depth = len(self.walk.path) + 1

        def begins(path: tuple[Turn, ...], plan: Any, arrays: Sequence[Any]) -> None:
            if len(path) != depth:
                return
            counts[path[-1].body] = counts.get(path[-1].body, 0) + 1
            if path[-1].number == turn and chosen in (None, path[-1].body) and not found:
                found.append((path[-1], plan, [np.array(array) for array in arrays]))

        self.walk.back()
        self.walk.begins = begins
        try:
            self._step()
        finally:
            self.walk.begins = None
        if not found:
            there = ", ".join(f"{count} of {step.node.op.bodies[number]}" for number, count in counts.items()) or "none"
            raise ArgumentError(f"{step.node.name} had no call {turn}", help=f"there were: {there}")
        path, plan, arrays = found[0]
        values = started(plan, self.walk.buffers)
        device = self.walk.buffers.device(step.main.device)
        for (_, slot), array in zip(plan.feeds, arrays, strict=True):
            values[slot] = array if device.is_host else device.copied(array)
        inner = Walk(plan, values, self.walk.buffers, path=(*self.walk.path, path), run=self.walk.run)
        sub = step.node.attrs[step.node.op.bodies[path.body]]
        return Stepping(inner, sub)


def members(step: Step) -> Sequence[Node]:
    """The nodes of the graph that a step stands for."""
    return step.node.op.members if isinstance(step.node, FusedNode) else (step.node,)


def title(step: Step) -> str:
    """A step in one line: its name, what it makes, the user's line."""
    node = step.node
    specs = [format_spec(np.shape(value), np.asarray(value).dtype) for value in step.values]
    if not specs:
        known = {slot: unit.spec for unit in step.units for slot in (unit.output, unit.buffer) if unit.spec is not None}
        told = [known.get(slot, tensor) for tensor, slot in step.made]
        specs = [format_spec(each.shape, each.dtype) for each in told]
    rows = "" if step.made or not step.units else f" {step.units[0]}"[len(f" {node.name}") :] + " (a part)"
    more = f" (a loop of {len(node.op.members)} nodes)" if isinstance(node, FusedNode) and len(node.op.members) > 1 else ""
    return f"{node.name}{rows}{more}   {', '.join(specs) or 'nothing yet'}   {where(node.location)}"
