"""Figures: what nodes took, moved or waited in recorded runs, as heat for drawings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..compile import Plan
from ..errors import ArgumentError
from ..graph import Node
from ..traces import Trace
from ..traces.ceilings import ceilings
from ..traces.data import Kernel
from .heat import Heat

# What can be asked for: the unit, and the title of the legend.
FIGURES = {
    "time": ("s", "time in kernels"),
    "waiting": ("s", "waiting between the last input and the start"),
    "memory": ("B", "memory made"),
    "flops": ("flop", "operations"),
    "speed": ("flop/s", "operations a second"),
    "roofline": ("%", "of what one thread of this machine can do"),
}


class Piece(NamedTuple):
    """What one kernel of a plan did for one node, in one run on average."""

    node: Node
    seconds: float
    waiting: float
    nbytes: float
    flops: float
    least: float  # seconds that one thread of this machine needs


def heat_of(source: Trace | Plan, what: str = "time") -> Heat:
    """The heat of the nodes in a trace, or as a plan expects it.

    what     "time" in kernels; "waiting": between the arrival of the last input and the start of the task; "memory" made; "flops";
             "speed": flops a second; "roofline": the least time for a kernel, by the speeds of this machine's processor and memory, which
             are measured once, over the time that it took; at most 1, though what is still in the caches is read faster. Of a plan "time"
             and "memory", as it expects them
    returns  a `Heat` for `draw`; of runs of the plan that took longest in all, on average. A compiled loop's numbers are shared out among
             the nodes that it stands for
    raises   ArgumentError for anything else, or a trace that was loaded from a file, which has no graph

    >>> x = fg.placeholder("x", (200, 200), "float64")
    >>> y = fg.sum(x @ x)
    >>> with session.trace() as t:
    ...     _ = session.run(y, {x: np.ones((200, 200))})
    >>> heat = fg.viz.heat_of(t, "flops")
    >>> heat.by_node()[y.node.inputs[0].node]
    16000000.0
    """
    if not isinstance(source, Trace | Plan):
        raise ArgumentError(f"heat_of: a trace or a plan is expected, got {source!r:.60}", help="with session.trace() as t: ...")
    if what not in FIGURES:
        raise ArgumentError(f"heat_of: what is one of {', '.join(FIGURES)}, got {what!r:.60}")
    if isinstance(source, Plan):
        return _expected(source, what)
    pieces = list(_pieces(source, ceilings().bound if what == "roofline" else lambda kernel: 0.0))
    if what in ("speed", "roofline"):
        return _rate(pieces, what)
    amount: dict[str, Callable[[Piece], float]] = {
        "time": lambda piece: piece.seconds,
        "waiting": lambda piece: piece.waiting,
        "memory": lambda piece: piece.nbytes,
        "flops": lambda piece: piece.flops,
    }
    return Heat(_summed((piece.node, amount[what](piece)) for piece in pieces), *FIGURES[what])


def _pieces(trace: Trace, bound: Callable[[Kernel], float]) -> Iterator[Piece]:
    runs = trace.alike() if trace.runs else []
    if not runs:
        raise ArgumentError("heat_of: no run is over in this trace", help="with session.trace() as t: session.run(...)")
    plan = runs[0].plan
    nodes = trace.nodes(plan)
    if not nodes:
        raise ArgumentError("heat_of: a trace that was loaded from a file has no graph", help="draw with the trace that was recorded")
    for index, kernel in enumerate(plan.kernels):
        task = plan.tasks[plan.task_of[index]]
        spans = [run.spans[index] for run in runs if index in run.spans]
        seconds = sum(end - begin for begin, end in spans) / len(runs)
        ran = [run.by_task[task.index] for run in runs if task.index in run.by_task]
        waits = [each.start - each.ready for each in ran] if index == task.first else []
        waiting, least = sum(waits) / len(runs), bound(kernel)
        for node, part in zip(nodes[index], kernel.parts):
            share = part.share
            yield Piece(node, seconds * share, waiting * share, kernel.made * share, kernel.flops * share, least * share)


def _summed(pairs: Iterator[tuple[Node, float]]) -> dict[Node, float]:
    result: dict[Node, float] = {}
    for node, value in pairs:
        result[node] = result.get(node, 0.0) + value
    return result


def _rate(pieces: list[Piece], what: str) -> Heat:
    """Work, or the least time for it, over time; what took no time has no rate."""
    seconds = _summed((piece.node, piece.seconds) for piece in pieces)
    work = _summed((piece.node, piece.flops if what == "speed" else piece.least) for piece in pieces)
    most = 1.0 if what == "roofline" else math.inf  # (more, where arrays are still in the processor's caches)
    rates = {node: min(work[node] / seconds[node], most) for node in seconds if seconds[node] > 0 and work[node] > 0}
    return Heat(rates, *FIGURES[what], fold="mean", weights=seconds)


def _expected(plan: Plan, what: str) -> Heat:
    if what not in ("time", "memory"):
        raise ArgumentError(f"heat_of: a plan expects time and memory; {what} is measured", help="with session.trace() as t: ...")
    values: dict[Any, float] = {}
    for unit in plan.units:
        value = values[unit] = unit.seconds if what == "time" else float(unit.bytes_made)
        members = getattr(unit.node.op, "members", (unit.node,))
        for node in members:
            values[node] = values.get(node, 0.0) + value / len(members)
    sign, title = FIGURES[what]
    return Heat(values, sign, f"{title}, expected")
