"""Explain: what each pass made of a request, node by node, as text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..devices import Calibration, Device
from ..graph import Node, Shape, Tensor
from ..graph.spec import format_spec
from ..records import Record, field
from .compiler import compile_plan, still_needed
from .fuse import FusedNode
from .plan import Plan
from .simplify import SIMPLIFICATIONS, Simplified

# Lines of one kind that are shown; the rest is counted.
MOST_LINES = 200


class Stage(Record, slots=True):
    """The graph as one pass leaves it.

    name       of the pass; ``text``: what it did, in a line
    alive      the nodes that are still to be run
    same       tensor -> the tensor that has taken its place; ``constants``: nodes whose values are known before the run
    changes    node -> what this pass made of it
    groups     node -> the loop or the task that it has become a part of
    """

    name: str
    text: str
    alive: frozenset[Node]
    same: Mapping[Tensor, Tensor] = field(default_factory=dict)
    constants: frozenset[Node] = frozenset()
    changes: Mapping[Node, str] = field(default_factory=dict)
    groups: Mapping[Node, str] = field(default_factory=dict)


class Explanation:
    """What became of a request. Printing it shows the nodes before, what each pass changed, and the plan; `draw` shows it as a page
    with a slider over the passes.

    nodes    what the request needs of the graph, in order
    changes  (pass, name of the node, what became of it), in the order of the passes
    plan     what is run
    stages   the graph before and after each pass, a `Stage` each
    """

    def __init__(self, nodes: Sequence[Node], changes: Sequence[tuple[str, str, str]], plan: Plan, stages: Sequence[Stage] = ()) -> None:
        self.nodes, self.changes, self.plan, self.stages = tuple(nodes), tuple(changes), plan, tuple(stages)

    def __str__(self) -> str:
        total = len(self.nodes[0].graph) if self.nodes else 0
        lines = [f"the request needs {len(self.nodes)} of the graph's {total} nodes"]
        width = min(max((len(node.name) for node in self.nodes), default=0), 40)
        lines += _shown(_row(node, width) for node in self.nodes)
        for name in (*SIMPLIFICATIONS, "fuse", "place"):
            changed = [f"  {node} {what}" for each, node, what in self.changes if each == name]
            if changed:
                lines += [f"{name}:", *_shown(changed)]
        return "\n".join([*lines, str(self.plan)])


def explain(
    fetches: Sequence[Tensor | Node],
    feeds: Mapping[Tensor, Shape],
    device: Device,
    passes: Collection[str],
    compiled: Callable[[Any], Callable[..., Any]] | None,
    memory_limit: int | None,
    others: Sequence[Device],
    calibration: Calibration,
) -> Explanation:
    """Compiles a request and keeps an account of it; see `compile_plan`."""
    seen: dict[str, Any] = {}
    plan = compile_plan(
        fetches,
        feeds,
        device,
        passes=passes,
        compiled=compiled,
        witness=seen.__setitem__,
        memory_limit=memory_limit,
        others=others,
        calibration=calibration,
    )
    found = [*_simplifications(seen["nodes"], seen["simplified"]), *_fusions(plan), *_places(plan)]
    changes = [(name, node.name, what) for name, node, what in found]
    stages = _stages(fetches, feeds, seen["nodes"], seen["simplified"], found, plan)
    return Explanation(seen["nodes"], changes, plan, list(stages))


def _stages(
    fetches: Sequence[Tensor | Node],
    feeds: Mapping[Tensor, Shape],
    nodes: Sequence[Node],
    found: Simplified,
    changes: Sequence[tuple[str, Node, str]],
    plan: Plan,
) -> Iterator[Stage]:
    """The passes one by one. Those that simplify are made in one walk: what each finds is shown as if they followed each other."""
    if not nodes:
        return
    every = nodes[0].graph.nodes
    yield Stage("graph", f"{len(every)} nodes, as they were built", frozenset(every))
    given = {tensor.node for tensor in feeds}
    alive = frozenset(nodes) | given
    # A loop that is asked for once more, with more outputs, by its gradient, runs as that one (see `one_of_twins`).
    twins = {node.attrs["extends"]: node for node in nodes if node.attrs.get("extends") is not None}
    same = {out: taken for node, twin in twins.items() for out, taken in zip(node.outputs, twin.outputs)}
    made = {node: f"runs as {twin.name}" for node, twin in twins.items()}
    yield Stage("prune", f"the request needs {len(alive)} of them", alive, same, changes=made)
    fetched = {fetch.node if isinstance(fetch, Tensor) else fetch for fetch in fetches}
    so_far = Simplified(found.specs, found.fed)
    so_far.ops, so_far.ordered = found.ops, found.ordered
    so_far.values = {tensor: value for tensor, value in found.values.items() if tensor.node.op.name == "constant"}
    for name in SIMPLIFICATIONS:
        so_far.same |= {tensor: target for tensor, target in found.same.items() if found.reasons[tensor] == name}
        if name == "fold":
            so_far.values = dict(found.values)
        so_far.counts[name] = found.counts[name]
        alive = (frozenset(still_needed(list(nodes), fetched, so_far, feeds)) - {tensor.node for tensor in so_far.same}) | given
        constants = frozenset(tensor.node for tensor in so_far.values)
        made = {node: what for each, node, what in changes if each == name}
        yield Stage(name, f"{len(made)} nodes change, {len(alive)} are left", alive, same | so_far.same, constants, made)
    loops = {member: node for node in plan.nodes if isinstance(node, FusedNode) for member in node.op.members}
    same, constants = same | so_far.same, frozenset(tensor.node for tensor in so_far.values)
    if loops:
        numbers = {node: i for i, node in enumerate(dict.fromkeys(loops.values()), 1)}
        groups = {member: f"loop {numbers[node]}: {node.op.name}" for member, node in loops.items()}
        made = {member: f"a part of the loop {node.op.name}" for member, node in loops.items()}
        text = f"{len(loops)} nodes become {len(set(loops.values()))} compiled loops"
        yield Stage("fuse", text, alive, same, constants, made, groups)
    placed = {node: what for each, node, what in changes if each == "place"}
    if placed:
        where = {unit.node: unit.device for unit in plan.units}
        devices = {member: where[node] for node in plan.nodes if node in where for member in getattr(node.op, "members", (node,))}
        yield Stage("place", f"on {len(set(devices.values()))} devices", alive, same, constants, placed, devices)
    tasks: dict[Node, dict[int, None]] = {}
    for task in plan.tasks:
        for unit in task.units:
            for node in getattr(unit.node.op, "members", (unit.node,)):
                tasks.setdefault(node, {})[task.index] = None
    names = {node: f"task{'s' * (len(each) > 1)} {_range(list(each))}" for node, each in tasks.items()}
    text = f"{len(plan.units)} kernels in {len(plan.tasks)} task{'s' * (len(plan.tasks) != 1)}"
    yield Stage("tasks", text, alive, same, constants, {node: f"runs in {name}" for node, name in names.items()}, names)


def _range(tasks: Sequence[int]) -> str:
    return str(tasks[0]) if len(tasks) == 1 else f"{tasks[0]} to {tasks[-1]}" if len(tasks) > 3 else ", ".join(map(str, tasks))


def _simplifications(nodes: Iterable[Node], found: Simplified) -> Iterator[tuple[str, Node, str]]:
    for node in nodes:
        out = node.outputs[0] if node.outputs else None
        if out is None or node.op.name == "constant":
            continue
        if out in found.same:
            yield found.reasons[out], node, f"is {found.same[out].name}"
        elif out in found.values:
            value = found.values[out]
            text = np.array2string(value, precision=4, separator=", ") if value.size <= 4 else format_spec(value.shape, value.dtype)
            yield "fold", node, f"is {text}"


def _fusions(plan: Plan) -> Iterator[tuple[str, Node, str]]:
    for node in plan.nodes:
        if isinstance(node, FusedNode):
            yield "fuse", node, f"computes {', '.join(member.name for member in node.op.members)}"


def _places(plan: Plan) -> Iterator[tuple[str, Node, str]]:
    devices = {unit.node: unit.device for unit in plan.units} if plan.reasons else {}
    for node, reason in plan.reasons.items():
        if node in devices:
            yield "place", node, f"runs on {devices[node]}, placed {reason}"


def _row(node: Node, width: int) -> str:
    specs = ", ".join(format_spec(tensor.shape, tensor.dtype) for tensor in node.outputs)
    return f"  {node.name:<{width}}  {specs:<24} {node.location}  {node.location.text}".rstrip()


def _shown(lines: Iterable[str]) -> list[str]:
    every = list(lines)
    return every if len(every) <= MOST_LINES else [*every[:MOST_LINES], f"  ... and {len(every) - MOST_LINES} more"]
