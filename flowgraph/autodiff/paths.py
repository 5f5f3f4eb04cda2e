"""Paths of gradients: how a loss depends on a variable, and at which operation the gradient stops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import GradientError
from ..graph import Node, Tensor
from ..graph.op import NoGradient
from ..graph.report import blamed_line, pointed
from ..graph.subgraph import ancestors

SHOWN = 10  # nodes of a path: of a longer one the ends, and what is around the stop


class Path(NamedTuple):
    """One way from ys to an x.

    nodes   from the y to the x; empty where no y depends on it
    stop    of ``nodes``, the place of the first, seen from the y, that passes no gradient on; None where the gradient arrives
    reason  why it passes none on
    """

    nodes: list[Node]
    stop: int | None = None
    reason: str = ""

    @property
    def stops_at(self) -> Node | None:
        return None if self.stop is None else self.nodes[self.stop]

    @property
    def rows(self) -> str:
        """A line for each node, from the y to the x."""
        last = len(self.nodes) - 1
        stop = last if self.stop is None else self.stop
        shown = [i for i in range(len(self.nodes)) if last < SHOWN or i < 2 or i > last - 2 or abs(i - stop) <= 2]
        names = max(len(self.nodes[i].name) for i in shown)
        lines = []
        for before, i in zip([-1, *shown], shown, strict=False):
            node = self.nodes[i]
            if i > before + 1:
                lines.append(f"… {i - before - 1} more")
            kind = f"{node.op.name}, " if not node.inputs else ""
            end = f"   <- stops here: {self.reason}" if i == self.stop else ""
            lines.append(f"{node.name:<{names}}   {kind}{node.location}   {node.location.expression}{end}".rstrip())
        return "\n".join(lines)


def path_between(ys: Sequence[Tensor], x: Tensor, stops: Sequence[Tensor] = ()) -> Path:
    """A way from one of ``ys`` to ``x`` on which a gradient arrives, if there is one; else the one on which it comes nearest.

    stops  tensors that count as constant
    """
    graph = x.graph
    graph, barred = x.graph, set(stops)
    before: dict[Tensor, Tensor | None] = {x: None}  # what depends on x -> the tensor before it on the way
    passing = {x}  # what hands a gradient on to x
    for node_id in ancestors([y.node for y in ys], barred):
        node = graph.nodes[node_id]
        read = [tensor for tensor in node.inputs if tensor in before and tensor not in barred]
        if not read or node is x.node:
            continue
        good = [] if why_not(node) else [tensor for tensor in read if tensor in passing]
        for out in node.outputs:
            before[out] = (good or read)[0]
            if good and out.dtype.kind in "fcV":
                passing.add(out)
    reached = sorted([y for y in ys if y in before], key=lambda y: y not in passing)
    if not reached:
        return Path([])
    way: list[Tensor] = []
    step: Tensor | None = reached[0]
    while step is not None:
        way.append(step)
        step = before[step]
    nodes = [tensor.node for tensor in way]
    for place, tensor in enumerate(way[:-1]):
        reason = why_not(tensor.node) or ("" if tensor.dtype.kind in "fcV" else f"it is {tensor.dtype}, and only floats have gradients")
        if reason:
            return Path(nodes, place, reason)
    return Path(nodes)


def why_not(node: Node) -> str:
    """Why a node hands no gradient on; empty where it does."""
    if isinstance(node.op.vjp, NoGradient):
        return node.op.vjp.reason
    if node.op.name in ("custom_op", "py_call") and node.attrs["gradient"] is None:
        return "it was given no gradient"
    return ""


def no_path(ys: Sequence[Tensor], x: Tensor, stops: Sequence[Tensor] = (), name: str | None = None) -> GradientError:
    """Says why no gradient reaches ``x``, called ``name``: the op where the path stops, or that there is no path at all."""
    name = name or x.name
    names = ", ".join(y.name for y in ys)
    path = path_between(ys, x, stops)
    if path.stops_at is None:
        return GradientError(
            f"{names} does not depend on {name}",
            rows=[(each.name, pointed("made at ", each.node.location)) for each in (x, *ys)],
            help='leave it out, or choose unconnected="zero"',
        )
    return GradientError(
        f"the path from {names} to {name} stops at {path.stops_at.name}",
        rows=[("path", path.rows)],
        help="a path with a gradient must lead to it",
        blamed=blamed_line(path.stops_at),
    )
