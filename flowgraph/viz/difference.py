"""Difference: two graphs on one drawing, what was added, removed and changed; or the same graph in two runs, what got slower."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..graph import Graph, Node, SubGraph, Tensor
from ..graph.spec import format_spec
from ..traces import Trace
from .draw import draw, nodes_of
from .drawing import delivered, path_and_format
from .figures import heat_of
from .files import FORMATS, written
from .graph_picture import GraphPicture
from .heat import Heat
from .overlay import Overlay
from .picture import Edge

PALETTE = {"added": "#a8dfb4", "removed": "#f6b8b4", "changed": "#ffdf80"}


def draw_difference(
    before: Graph | Tensor | Node | Sequence[Tensor | Node] | Trace,
    after: Graph | Tensor | Node | Sequence[Tensor | Node] | Trace,
    file: str | os.PathLike[str] | None = None,
    *,
    format: str | None = None,
    depth: int | None = None,
    what: str = "time",
) -> Any:
    """A picture of what differs: between two graphs, whose nodes are compared by name, or between two traces of runs.

    before, after  graphs, or what some tensors depend on: nodes that are in ``after`` alone are green, those in ``before`` alone red, and
                   yellow where op, attributes, shape, dtype, device or inputs differ; a box says what. Or traces: a heat map of the graph
                   of ``after``, red where it takes more and blue where it takes less
    what           the figure of traces that is compared; see `heat_of`
    file, format, depth, and what is returned  as for `draw`
    raises         ArgumentError for anything else, or a trace and a graph

    >>> with fg.Graph() as old:
    ...     _ = fg.exp(fg.placeholder("x", ()), name="y")
    >>> with fg.Graph() as new:
    ...     _ = fg.sin(fg.placeholder("x", ()), name="y")
    >>> "exp became sin" in str(fg.viz.draw_difference(old, new))
    True
    """
    path, _ = path_and_format("draw_difference", file, format, FORMATS)
    if isinstance(before, Trace) or isinstance(after, Trace):
        if not (isinstance(before, Trace) and isinstance(after, Trace)):
            raise ArgumentError("draw_difference: a trace is compared with a trace, and a graph with a graph")
        heat = _slower(heat_of(before, what), heat_of(after, what))
        nodes = [node for node in heat.values if isinstance(node, Node)]
        return draw(nodes[0].graph if nodes else Graph(), file, format=format, depth=depth, heat=heat)
    old, new = nodes_of(before), nodes_of(after)

    def picture(depth: int | None, most: int | None, labelled: bool = True, tags: bool = True) -> DifferencePicture:
        return DifferencePicture(old, new, depth, most=most, labelled=labelled, tags=tags)

    title = path.stem if path else "graph"
    return delivered("draw_difference", lambda kind: written(picture, kind, depth, title), file, format, FORMATS)


def _slower(before: Heat, after: Heat) -> Heat:
    """How much more ``after`` is, node by node of its graph: those of another graph count by their names."""
    by_name = {node.name: value for node, value in before.by_node().items() if isinstance(node, Node)}
    values = {node: value - by_name.get(node.name, 0.0) for node, value in after.by_node().items() if isinstance(node, Node)}
    return Heat(values, after.unit, f"{after.title}, difference", even=0.0, fold=after.fold, weights=after.weights)


class DifferencePicture(GraphPicture):
    """The nodes of the second graph and those that only the first had."""

    def __init__(self, old: Sequence[Node], new: Sequence[Node], depth: int | None, **options: Any) -> None:
        olds, news = {node.name: node for node in old}, {node.name: node for node in new}
        self._twins = {node: news[name] for name, node in olds.items() if name in news}
        changes = {twin: text for node, twin in self._twins.items() if (text := _change(node, twin))}
        added = [node for name, node in news.items() if name not in olds]
        removed = [node for name, node in olds.items() if name not in news]
        self._changed = {node: twin for node, twin in self._twins.items() if twin in changes}
        self._added, self._removed = set(added), set(removed)
        groups = {**dict.fromkeys(added, "added"), **dict.fromkeys(removed, "removed"), **dict.fromkeys(changes, "changed")}
        overlay = _Differences(notes=changes, groups=groups)
        super().__init__([*new, *removed], depth, overlay=overlay, **options)
        self.notes.insert(0, f"{len(added)} nodes added, {len(removed)} removed, {len(changes)} changed; {len(new)} nodes in all")

    def _prefix(self, node: Node) -> str:
        return super()._prefix(node) or ("o" if node in self._removed else "")

    def _connect(self, nodes: Sequence[Node]) -> None:
        for node, twin in self._twins.items():
            if twin in self.box_of:
                self.box_of[node] = self.box_of[twin]
        super()._connect(nodes)
        removed = {self.box_of[node] for node in self._removed if node in self.box_of}
        added = {self.box_of[node] for node in self._added if node in self.box_of}
        for edge in self.edges:
            ends = {edge.start, edge.end}
            if all(self.boxes[key].members == 1 for key in ends):
                edge.kind = "removed" if ends & removed else "added" if ends & added else edge.kind
        self._rewired()

    def _rewired(self) -> None:
        """Edges that a changed node has lost, and those that it has got, between boxes that there were before."""
        there = {(edge.start, edge.end): edge for edge in self.edges}
        for node, twin in self._changed.items():
            end = self.box_of.get(twin)
            sources = [{self.box_of[each.node]: each for each in one.inputs if each.node in self.box_of} for one in (node, twin)]
            for start in sources[1].keys() - sources[0].keys():
                if end is not None and (start, end) in there and self.boxes[end].members == 1:
                    there[start, end].kind = "added"
            for start in sources[0].keys() - sources[1].keys():
                if end is not None and start != end and (start, end) not in there:
                    self.edges.append(Edge(start, end, "removed", {sources[0][start]: None}))


class _Differences(Overlay):
    """Folded boxes are of the colour of all changes within, or count as changed."""

    def __init__(self, notes: Mapping[Node, str], groups: Mapping[Node, str]) -> None:
        super().__init__(notes=notes, groups=groups)
        self.palette = PALETTE

    def together(self, names: Sequence[str]) -> str:
        return names[0] if len(names) == 1 else "changed"


def _change(old: Node, new: Node) -> str:
    """What differs between two nodes of one name, in words; empty where nothing does."""
    found = []
    if old.op.name != new.op.name:
        found.append(f"{old.op.name} became {new.op.name}")
    else:
        for name in dict.fromkeys([*old.attrs, *new.attrs]):
            ours, theirs = old.attrs.get(name), new.attrs.get(name)
            if not _same(ours, theirs):
                found.append(_attribute(name, ours, theirs))
    specs = [", ".join(format_spec(tensor.shape, tensor.dtype) for tensor in node.outputs) for node in (old, new)]
    if specs[0] != specs[1]:
        found.append(f"{specs[0]} became {specs[1]}")
    inputs = [[tensor.name for tensor in node.inputs] for node in (old, new)]
    if inputs[0] != inputs[1]:
        found.append(f"reads {', '.join(_only(inputs[1], inputs[0])) or 'the same in another order'}" + _no_more(inputs))
    if old.device != new.device:
        found.append(f"on {new.device or 'any device'}, was on {old.device or 'any'}")
    return "; ".join(found)


def _only(these: Sequence[str], those: Sequence[str]) -> list[str]:
    return [name for name in dict.fromkeys(these) if name not in those]


def _no_more(inputs: Sequence[Sequence[str]]) -> str:
    gone = _only(inputs[0], inputs[1])
    return f", no more {', '.join(gone)}" if gone else ""


def _attribute(name: str, old: Any, new: Any) -> str:
    if isinstance(old, SubGraph) or isinstance(new, SubGraph) or np.size(old) > 4 or np.size(new) > 4:
        return f"another {name}"
    return f"{name} {old!r:.30} became {new!r:.30}"


def _same(old: Any, new: Any) -> bool:
    """Whether two attributes say the same: of sub-graphs, whether their nodes do."""
    if isinstance(old, SubGraph) and isinstance(new, SubGraph):
        pairs: Iterable[tuple[Node, Node]] = zip(old.nodes, new.nodes)
        return len(old.nodes) == len(new.nodes) and not any(_change(a, b) for a, b in pairs)
    if isinstance(old, tuple | list) and isinstance(new, tuple | list):
        return len(old) == len(new) and all(map(_same, old, new))
    if isinstance(old, np.ndarray | np.generic) or isinstance(new, np.ndarray | np.generic):
        return np.shape(old) == np.shape(new) and np.array_equal(old, new, equal_nan=np.asarray(old).dtype.kind in "fc")
    if isinstance(old, Tensor | Node) and isinstance(new, Tensor | Node):
        return old.name == new.name
    return type(old) is type(new) and (callable(old) or bool(old == new))
