"""Explain: what each pass made of a request, node by node, as text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ..devices import Calibration, Device
from ..graph import Node, Shape, Tensor
from ..graph.spec import format_spec
from .compiler import compile_plan
from .fuse import FusedNode
from .plan import Plan
from .simplify import PASSES, Simplified

# Lines of one kind that are shown; the rest is counted.
MOST_LINES = 200


class Explanation:
    """What became of a request. Printing it shows the nodes before, what each pass changed, and the plan.

    nodes    what the request needs of the graph, in order
    changes  (pass, name of the node, what became of it), in the order of the passes
    plan     what is run
    """

    def __init__(self, nodes: Sequence[Node], changes: Sequence[tuple[str, str, str]], plan: Plan) -> None:
        self.nodes, self.changes, self.plan = tuple(nodes), tuple(changes), plan

    def __str__(self) -> str:
        total = len(self.nodes[0].graph) if self.nodes else 0
        lines = [f"the request needs {len(self.nodes)} of the graph's {total} nodes"]
        width = min(max((len(node.name) for node in self.nodes), default=0), 40)
        lines += _shown(_row(node, width) for node in self.nodes)
        for name in (*PASSES, "fuse", "place"):
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
    changes = [*_simplifications(seen["nodes"], seen["simplified"]), *_fusions(plan), *_places(plan)]
    return Explanation(seen["nodes"], changes, plan)


def _simplifications(nodes: Iterable[Node], found: Simplified) -> Iterator[tuple[str, str, str]]:
    for node in nodes:
        out = node.outputs[0] if node.outputs else None
        if out is None or node.op.name == "constant":
            continue
        if out in found.same:
            yield found.reasons[out], node.name, f"is {found.same[out].name}"
        elif out in found.values:
            value = found.values[out]
            text = np.array2string(value, precision=4, separator=", ") if value.size <= 4 else format_spec(value.shape, value.dtype)
            yield "fold", node.name, f"is {text}"


def _fusions(plan: Plan) -> Iterator[tuple[str, str, str]]:
    for node in plan.nodes:
        if isinstance(node, FusedNode):
            yield "fuse", node.name, f"computes {', '.join(member.name for member in node.op.members)}"


def _places(plan: Plan) -> Iterator[tuple[str, str, str]]:
    devices = {unit.node: unit.device for unit in plan.units} if plan.reasons else {}
    for node, reason in plan.reasons.items():
        if node in devices:
            yield "place", node.name, f"runs on {devices[node]}, placed {reason}"


def _row(node: Node, width: int) -> str:
    specs = ", ".join(format_spec(tensor.shape, tensor.dtype) for tensor in node.outputs)
    return f"  {node.name:<{width}}  {specs:<24} {node.location}  {node.location.text}".rstrip()


def _shown(lines: Iterable[str]) -> list[str]:
    every = list(lines)
    return every if len(every) <= MOST_LINES else [*every[:MOST_LINES], f"  ... and {len(every) - MOST_LINES} more"]
