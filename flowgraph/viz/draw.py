"""Drawing graphs: what is asked for, and the picture of it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ..compile import Explanation, Plan
from ..compile.needed import needed_nodes
from ..errors import ArgumentError, FlowgraphError
from ..graph import Graph, Node, Tensor
from ..graph.op import public
from ..graph.upstream import around, failed_node
from ..session import Session
from ..traces import Trace
from .drawing import delivered, path_and_format
from .files import FORMATS, written
from .graph_picture import GraphPicture
from .heat import Heat
from .overlay import Overlay
from .picture import Picture
from .plan_picture import PlanPicture
from .values import values_of


def draw(
    what: Graph | Tensor | Node | Sequence[Tensor | Node] | Plan | Explanation | FlowgraphError,
    file: str | os.PathLike[str] | None = None,
    *,
    format: str | None = None,
    depth: int | None = None,
    values: Mapping[Tensor, Any] | Session | None = None,
    feeds: Mapping[Tensor, Any] | None = None,
    gradients: Mapping[Tensor, Any] | None = None,
    heat: Heat | Trace | Mapping[Any, float] | None = None,
    notes: Mapping[Node | Tensor, str] | None = None,
    marked: Node | Tensor | Collection[Node | Tensor] | None = None,
    groups: str | Mapping[Any, str] | None = None,
) -> Any:
    """A picture of a graph, of what some tensors depend on, of a plan, of what became of a request, or of where an error is.

    file       where to write; its ending says the format
    format     "svg", "png", "pdf", "dot" (the text for Graphviz), or "html": one page with all of the graph, to zoom, search, open and
               close scopes in; of an `Explanation` with a slider over the passes of the compiler
    depth      scopes nested deeper are drawn as one box each; None: as deep as about 300 boxes allow. The scopes of a plan are
               its tasks
    values     what to write on the edges of a small graph, by tensor: numbers, small arrays as tables, larger ones as little pictures (of a
               batch the first); or a session, which computes them from ``feeds``. ``gradients``: numbers to write below them, by tensor
    heat       numbers to colour boxes by: a `Heat`, which has a unit and a title as well; a trace, for the time in kernels, of whose other
               figures `flowgraph.viz.heat_of` makes heat; or a dict by node
    notes      a line to write into boxes, by node
    marked     a node or several, whose boxes get a thick red border
    groups     names by node, each of which gets a colour of its own; "device" for the devices that nodes ask for. The kernels of a plan for
               several devices have the colours of these
    returns    the path; without a file a `flowgraph.viz.Drawing`, which a notebook shows, and which ``save`` writes later
    raises     ArgumentError for another format, or something else than a graph; DrawingError where png or pdf needs a program
               that is not there

    Nodes of a gradient stand beside those that they are the gradient of. Pointing at a box or an edge of an SVG shows shape,
    dtype and the line that made it. An SVG is drawn without Graphviz as well, by a plainer layout of our own.

    >>> with fg.Graph() as graph:
    ...     y = fg.exp(fg.placeholder("x", ()))
    >>> fg.draw(graph, "exp.svg")
    PosixPath('exp.svg')
    >>> "exp" in str(fg.draw(graph, format="dot"))
    True
    """
    path, _ = path_and_format("draw", file, format, FORMATS)
    if feeds is not None and not isinstance(values, Session):
        raise ArgumentError("draw: feeds are for a session that computes the values", help="draw(y, values=session, feeds={x: 1.0})")
    for name, table in (("values", None if isinstance(values, Session) else values), ("gradients", gradients)):
        if table is not None and not isinstance(table, Mapping):
            raise ArgumentError(f"draw: {name} are a dict by tensor, got {table!r:.60}", help=f"{name}={{tensor: number}}")
        for key in table or ():
            if not isinstance(key, Tensor):
                raise ArgumentError(f"draw: {name} are numbers by tensor, got {key!r:.60} as a key", help=f"{name}={{tensor: number}}")
    if depth is not None and (not isinstance(depth, int) or depth < 0):
        raise ArgumentError(f"draw: depth is a whole number from 0 on, or None, got {depth!r:.60}")
    if isinstance(what, FlowgraphError):
        failed = _failed(what)
        notes = {failed: what.message.removeprefix(f"{failed.op.name}: "), **(notes or {})}
        marked, nodes = failed, around(failed)
    elif isinstance(what, Explanation):
        nodes = nodes_of(list(what.nodes))
    else:
        nodes = [] if isinstance(what, Plan) else nodes_of(what)
    if groups == "device" or (groups is None and isinstance(what, Plan)):
        groups = _by_device(what, nodes)
    if isinstance(values, Session):
        values = values_of(values, nodes, feeds)

    def picture(depth: int | None, most: int | None, labelled: bool = True, tags: bool = True) -> Picture:
        if isinstance(what, Plan):
            return PlanPicture(what, depth, most=most, overlay=Overlay(heat, notes, marked, groups))
        shown, said = nodes, notes
        if isinstance(what, Explanation):
            if tags:  # a picture has no slider: it says of each node what became of it
                said = {**_became(what), **(notes or {})}
            else:
                shown = nodes_of(what.nodes[0].graph)
        overlay = Overlay(heat, said, marked, groups)
        return GraphPicture(shown, depth, most=most, labelled=labelled, tags=tags, values=values, slopes=gradients, overlay=overlay)

    title, stages = path.stem if path else "graph", what.stages if isinstance(what, Explanation) else ()
    return delivered("draw", lambda kind: written(picture, kind, depth, title, stages), file, format, FORMATS)


def _became(account: Explanation) -> dict[Node | Tensor, str]:
    """What a pass made of a node, by node."""
    return {node: f"{stage.name}: {text}" for stage in account.stages[:-1] for node, text in stage.changes.items()}


def _by_device(what: Any, nodes: Sequence[Node]) -> dict[Any, str]:
    """The devices of a plan's kernels, or those that nodes ask for; of a plan for one device nothing."""
    if isinstance(what, Plan):
        by_device = {unit: unit.device for unit in what.units}
        return by_device if len(set(by_device.values())) > 1 else {}
    return {node: node.device for node in nodes if node.device}


def _failed(error: FlowgraphError) -> Node:
    node = failed_node(error)
    if node is None:
        raise ArgumentError(f"draw: the {type(error).__name__} is about no node", help="print(error) tells all of it")
    return node


def nodes_of(what: Any) -> list[Node]:
    """The nodes of a graph, or those that tensors and nodes depend on. raises ArgumentError for anything else."""
    if isinstance(what, Graph):
        return list(what.nodes)
    items: list[Any] = [what] if isinstance(what, Tensor | Node) else list(what) if isinstance(what, list | tuple) else []
    if not items or not all(isinstance(item, Tensor | Node) for item in items):
        raise ArgumentError(
            f"draw: what to draw is a graph, a tensor, a node, a list of tensors and nodes, or a plan, got {what!r:.60}",
            help="draw(graph), draw(loss), draw([loss, train]), draw(session.plan(loss, feeds))",
        )
    if len({item.graph for item in items}) > 1:
        raise ArgumentError("draw: the tensors and nodes to draw belong to two graphs", help="draw each graph by itself")
    return needed_nodes([item.node if isinstance(item, Tensor) else item for item in items], ())


public(draw)
