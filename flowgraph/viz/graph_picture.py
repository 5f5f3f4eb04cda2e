"""The picture of a graph: its nodes, folded to what can be read, and its tensors as edges.

- A number that other nodes read is written into them.
- What a sub-graph captures leads right to where it is read.
- What is read all over the picture, as a learning rate is, is not wired up: a tag with its name stands in each scope that reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ..graph import Location, Node, Tensor
from ..graph.spec import Spec, format_shape, format_spec, is_known
from ..graph.text import format_bytes
from .folding import Group, fitting, folded
from .overlay import Overlay
from .picture import BOXES, Box, Edge, Home, Picture, cut, listing, number_text, scope_name, short
from .places import Places, subgraphs
from .values import grids

LABELLED = 80  # up to so many boxes edges show shapes: from about 100 labels on, Graphviz fails
CROWD = 8  # boxes that one waits for by control alone
BUSY = {"update": 3, "control": 3, "data": 8}  # edges of one box to so many other scopes of the top become tags


class GraphPicture(Picture):
    """What is drawn of ``nodes``.

    depth    scopes nested deeper are one box each; None: as deep as ``most`` allows
    most     boxes, or None for any number; ``labelled``: whether edges of a small picture show shapes
    tags     whether what is read all over is not wired up
    values   numbers to write beside the edges, by tensor; ``slopes``: numbers to write below them
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        depth: int | None = None,
        *,
        most: int | None = BOXES,
        labelled: bool = True,
        tags: bool = True,
        values: Mapping[Tensor, Any] | None = None,
        slopes: Mapping[Tensor, Any] | None = None,
        overlay: Overlay | None = None,
    ) -> None:
        super().__init__(values, slopes, overlay)
        self.box_of: dict[Node, str] = {}
        self._lines: dict[Any, tuple[Location, str]] = {}
        self.places = Places(nodes)
        nodes = self.places.nodes
        self._written = _numbers_read(nodes)
        left_out = self._written | self.places.unread
        shown = [(self.places.home(node), node) for node in nodes if node not in left_out]
        self.deepest = max((len(home) for home, _ in shown), default=0)
        limit = self.deepest if depth is None else min(depth, self.deepest)
        self.exact = most is None
        self.depth, groups = (limit, folded(shown, limit)) if most is None else fitting(shown, limit, most)
        for group in groups:
            self._add(group)
        self.overlay.settle(self.boxes.values())
        several = [group for group in groups if len(group.members) > 1]
        if several:
            hidden = sum(len(group.members) for group in several)
            self.notes.append(f"{hidden} of {len(shown)} nodes are folded into {len(several)} box{'es' * (len(several) > 1)}")
        self._connect(nodes)
        if any(group.name is None for group in several):
            self.leave_out_implied()
        if tags:
            self._tag_busy("start", "end")
            self._tag_busy("end", "start")
            self._drop_crowds()
        if labelled and len(self.boxes) <= LABELLED and not self.values and not self.slopes:
            self._label()

    # --- boxes

    def _prefix(self, node: Node) -> str:
        """What tells its key from those of nodes with its number in other graphs."""
        return self.places.prefix(node)

    def _add(self, group: Group) -> None:
        members = group.members
        single = len(members) == 1 and group.name is None
        key = f"{self._prefix(members[0])}n{members[0].id}" if single else f"s{len(self.boxes)}"
        for node in members:
            self.box_of[node] = key
        self.boxes[key] = self._single(key, group.home, members[0]) if single else self._several(key, group)
        self.overlay.put_on(self.boxes[key], members)

    def _several(self, key: str, group: Group) -> Box:
        members = group.members
        kinds = Counter(self.places.kind(node) for node in members)
        inner = [kind for kind in ("forward", "gradient", "update") if kinds[kind]]
        if kinds["update"] and not kinds["gradient"]:
            inner = ["update"]
        kind = inner[0] if len(inner) == 1 else "forward" if inner else kinds.most_common(1)[0][0]
        count = f"{len(members)} node{'s' * (len(members) > 1)}"
        ops = [f"{number} {op}" for op, number in Counter(node.op.name for node in members).most_common()]
        first, last = (cut(short(node.name)) for node in (members[0], members[-1]))
        title = f"{first} … {last}" if group.name is None else scope_name(group.name)
        where = "/".join(scope_name(part) for part in (*group.home, title))
        return Box(key, kind, title, count, f"{where}: {count}\n{listing(ops, ', ')}", group.home, len(members))

    def _single(self, key: str, home: Home, node: Node) -> Box:
        kind = self.places.kind(node)
        title, detail = node._label or node.op.name, node.op.name if node._label else ""
        if kind in ("placeholder", "variable"):
            title = short(node.name)
        if kind in ("placeholder", "variable", "constant"):
            detail = "" if self.values or self.slopes else format_spec(node.outputs[0].shape, node.outputs[0].dtype)
        numbers = [number_text(tensor.node.attrs["value"]) for tensor in node.inputs if tensor.node in self._written]
        if detail and kind not in ("placeholder", "variable", "constant"):
            detail = " ".join([detail, *numbers])
        else:
            title = " ".join([title, *numbers])
        specs = ", ".join(format_spec(tensor.shape, tensor.dtype) for tensor in node.outputs)
        sizes = [Spec(tensor.shape, tensor.dtype).nbytes for tensor in node.outputs if is_known(tensor.shape)]
        nbytes = f", {format_bytes(sum(sizes))}" if sizes and len(sizes) == len(node.outputs) else ""
        tooltip = f"{node.name}\n{node.op.name} -> {specs or 'nothing'}{nbytes}\n{self._line(node)[1]}".rstrip()
        return Box(key, kind, cut(title), cut(detail), tooltip, home, line=self._line(node)[0])

    def _line(self, node: Node) -> tuple[Location, str]:
        """The user's line, and how it is written: looked up once for all nodes that it made."""
        place = node._code if isinstance(node._code, Location) else (node._code, node._offset)
        if place not in self._lines:
            location = node.location
            self._lines[place] = location, f"{location}  {location.text}".rstrip()
        return self._lines[place]

    # --- edges

    def _connect(self, nodes: Sequence[Node]) -> None:
        edges: dict[tuple[str, str, str], Edge] = {}

        def add(before: Node, node: Node, kind: str, tensor: Tensor | None = None) -> None:
            start, end = self.box_of.get(before), self.box_of.get(node)
            if start is not None and end is not None and start != end:
                edge = edges.setdefault((start, end, kind), Edge(start, end, kind))
                if tensor is not None:
                    edge.tensors[tensor] = None

        is_gradient = self.places.is_gradient
        for node in nodes:
            captures = dict[Tensor, list[Node]]()
            for _, sub in subgraphs(node):
                for outer, inner in sub.captures.items():
                    captures.setdefault(outer, []).append(inner.node)
                for tensor in sub.outputs:
                    add(tensor.node, node, "gradient" if is_gradient(node) else "data", tensor)
            kind = "update" if self.places.kind(node) == "update" else "data"
            for tensor in node.inputs:
                if is_gradient(node):
                    kind = "gradient" if is_gradient(tensor.node) else "reads"
                for reader in captures.get(tensor, [node]):
                    add(tensor.node, reader, kind, tensor)
            for before in node.control:
                add(before, node, "control")
        self.edges = list(edges.values())
        self._write_numbers()

    def _write_numbers(self) -> None:
        """Values and slopes on the edges of their tensors; a tensor that nothing reads gets an edge that ends nowhere."""
        open_ends = dict.fromkeys([*self.values, *self.slopes])
        shown: dict[Tensor, None] = {}
        for tensor in open_ends:
            key = self.box_of.get(tensor.node)
            if key is not None and self.boxes[key].members == 1:
                value, slope = self._numbers(tensor)
                self.boxes[key].tooltip += "".join(f"\n{name}: {text}" for name, text in (("value", value), ("gradient", slope)) if text)
        for edge in self.edges:
            only = edge.only
            if edge.kind == "data" and only is not None and only in open_ends:
                edge.value, edge.slope = self._numbers(only)
                if only not in shown and only in self.values:  # once, where several read it
                    edge.grids = grids(self.values[only])
                shown[only] = None
        for tensor in open_ends:
            start = self.box_of.get(tensor.node)
            if start is not None and not any(tensor in edge.tensors for edge in self.edges if edge.kind == "data"):
                key = f"end{len(self.boxes)}"
                self.boxes[key] = Box(key, "end", "", "", "", self.boxes[start].home)
                cells = grids(self.values[tensor]) if tensor in self.values else []
                self.edges.append(Edge(start, key, "data", {tensor: None}, "", *self._numbers(tensor), cells))

    def _numbers(self, tensor: Tensor) -> tuple[str, str]:
        return tuple(number_text(table[tensor]) if tensor in table else "" for table in (self.values, self.slopes))  # type: ignore[return-value]

    def _tag_busy(self, busy: Literal["start", "end"], other: Literal["start", "end"]) -> None:
        """Where one box is the ``busy`` end of edges to many scopes: in each of them a tag takes its place."""
        far: dict[tuple[str, str], list[Edge]] = {}
        for edge in self.edges:
            scopes = self.boxes[edge.start].home[:1], self.boxes[edge.end].home[:1]
            if edge.kind in BUSY and scopes[0] != scopes[1] and scopes[other == "end"]:
                far.setdefault((getattr(edge, busy), edge.kind), []).append(edge)
        for (key, kind), edges in far.items():
            if len({self.boxes[getattr(edge, other)].home[:1] for edge in edges}) < BUSY[kind]:
                continue
            box, tags = self.boxes[key], dict[Home, str]()
            name = "/".join(scope_name(part) for part in (*box.home, box.title))
            if box.members == 1:
                name = cut(box.tooltip.partition("\n")[0])  # the node's own, which no other has
            for edge in edges:
                home = self.boxes[getattr(edge, other)].home
                if home not in tags:
                    tags[home] = f"t{len(self.boxes)}"
                    self.boxes[tags[home]] = Box(tags[home], "tag", name, "", box.tooltip, home)
                setattr(edge, busy, tags[home])

    def _drop_crowds(self) -> None:
        """Where many boxes must run before one, this says so in its words: edges from all of them would hide all else."""
        crowds: dict[str, list[Edge]] = {}
        for edge in self.edges:
            if edge.kind == "control":
                crowds.setdefault(edge.end, []).append(edge)
        for key, edges in crowds.items():
            if len(edges) <= CROWD:
                continue
            box, text = self.boxes[key], f"after {len(edges)} others"
            if box.kind == "tag":
                del self.boxes[key]
            else:
                box.detail = ", ".join(filter(None, [box.detail, text]))
                box.tooltip += f"\n{text}: {listing([self.boxes[edge.start].title for edge in edges], ', ')}"
            gone = set(map(id, edges))
            self.edges = [edge for edge in self.edges if id(edge) not in gone]

    def _label(self) -> None:
        """Shapes, once for each tensor; a dtype where it is not the common one."""
        chosen: dict[Tensor, Edge] = {}
        for edge in self.edges:
            shown = edge.kind in ("data", "gradient") and self.boxes[edge.start].kind not in ("placeholder", "variable", "constant")
            if shown and edge.only is not None:
                chosen.setdefault(edge.only, edge)
        dtypes = Counter(str(tensor.dtype) for tensor in chosen)
        self.dtype = dtypes.most_common(1)[0][0] if dtypes else ""
        for tensor, edge in chosen.items():
            shape = format_shape(tensor.shape)
            edge.label = shape if str(tensor.dtype) == self.dtype else f"{shape} {tensor.dtype}"


def _numbers_read(nodes: Sequence[Node]) -> set[Node]:
    """Constants of one number, without a name of their own, that other nodes read: written into these."""
    read = {tensor.node for node in nodes for tensor in node.inputs if tensor.node.op.name == "constant"}
    read -= {tensor.node for node in nodes for _, sub in subgraphs(node) for tensor in sub.outputs}
    return {node for node in read if not node.outputs[0].shape and not node._label}
