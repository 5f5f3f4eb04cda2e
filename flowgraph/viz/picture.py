"""Picture: what a drawing shows, as plain data: boxes in scopes, and edges between boxes; and that of a graph. No file format, no layout.

Where a box stands, and what it stands for:

- A node of a gradient stands beside the node that it is the gradient of: ``conv1`` holds ``gradient``, whatever scope it was built in.
- The nodes that update a variable stand beside it as well, in ``update``.
- A scope nested deeper than ``depth`` is one box. Where a scope holds more than a page can show, nodes made one after another are one.
- A number that other nodes read is written into them.
- A sub-graph (a branch, the body of a loop) is a scope within the scope of its node; what it captures leads right to where it is read.
- What is read all over the picture, as a learning rate is, is not wired up: a tag with its name stands in each scope that reads it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from ..graph import Graph, Location, Node, SubGraph, Tensor
from ..graph.spec import format_shape, format_spec

BOXES = 300  # what a page can show; where no depth is asked for, a drawing is folded until it has no more
RUNS = 60  # boxes that a scope with more in it than a page can show is summed up in
LABELLED = 80  # up to so many boxes edges show shapes: from about 100 labels on, Graphviz fails
BUSY = {"update": 3, "control": 3, "data": 8}  # edges of one box to so many other scopes of the top become tags
DEEPEST = 40  # scopes within scopes; what is nested deeper is drawn there
TITLE = 60  # characters of a name; a tooltip has all of them
LISTED = 8  # tensors and ops that a tooltip names

# Scopes that the drawing itself makes end in a mark, which no user's scope has.
MARK = "\0"
GRADIENT, UPDATE = "gradient" + MARK, "update" + MARK

Home = tuple[str, ...]  # the scopes that a box stands in, outermost first


@dataclass(slots=True)
class Box:
    """One thing to draw.

    kind     "forward", "gradient", "update", "placeholder", "variable", "constant"; "tag", the name of a box that stands elsewhere, or
             "end", a bare end of an edge
    members  nodes that it stands for: several where it is a folded scope or a run of nodes
    """

    key: str
    kind: str
    title: str
    detail: str
    tooltip: str
    home: Home
    members: int = 1


@dataclass(slots=True)
class Edge:
    """What one box hands to another.

    kind     "data"; "gradient": between two nodes of a gradient; "reads": a gradient reads a forward value; "update"; "control"
    label    shape and dtype, or empty; ``value`` and ``slope``: numbers to write beside it, or empty
    """

    start: str
    end: str
    kind: str
    tensors: dict[Tensor, None] = field(default_factory=dict)  # in order; a list would compare tensors, which builds nodes
    label: str = ""
    value: str = ""
    slope: str = ""

    @property
    def only(self) -> Tensor | None:
        """Its tensor, if it stands for one alone."""
        return next(iter(self.tensors)) if len(self.tensors) == 1 else None

    @property
    def tooltip(self) -> str:
        if not self.tensors:
            return "runs after"
        return listing([f"{tensor.name}: {format_spec(tensor.shape, tensor.dtype)}" for tensor in self.tensors], "\n")


class Group(NamedTuple):
    """Nodes that one box stands for; ``name`` is the folded scope's, or None."""

    home: Home
    name: str | None
    members: list[Node]


class Picture:
    """What a drawing shows: filled by its subclasses, for a graph and for a plan.

    boxes    by key, in the order of creation; ``edges`` between them; ``notes``: what is not shown, a line each
    depth    down to which scopes are open; ``exact``: whether all that is open has a box of its own
    dtype    of the labels that name none
    """

    def __init__(self, values: Mapping[Tensor, Any] | None = None, slopes: Mapping[Tensor, Any] | None = None) -> None:
        self.boxes: dict[str, Box] = {}
        self.edges: list[Edge] = []
        self.notes: list[str] = []
        self.depth, self.exact, self.dtype = 0, True, ""
        self.values, self.slopes = values or {}, slopes or {}


class GraphPicture(Picture):
    """What is drawn of ``nodes``.

    depth    scopes nested deeper are one box each; None: as deep as ``most`` allows
    most     boxes, or None for any number; ``labelled``: whether edges of a small picture show shapes
    values   numbers to write beside the edges, by tensor; ``slopes``: numbers to write below them
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        depth: int | None = None,
        *,
        most: int | None = BOXES,
        labelled: bool = True,
        values: Mapping[Tensor, Any] | None = None,
        slopes: Mapping[Tensor, Any] | None = None,
    ) -> None:
        super().__init__(values, slopes)
        self._box_of: dict[Node, str] = {}
        self._lines: dict[Any, str] = {}
        self._places = _Places(nodes)
        nodes = self._places.nodes
        self._written = _numbers_read(nodes)
        left_out = self._written | self._places.unread
        shown = [(self._places.home(node), node) for node in nodes if node not in left_out]
        self.deepest = max((len(home) for home, _ in shown), default=0)
        limit = self.deepest if depth is None else min(depth, self.deepest)
        self.exact = most is None
        self.depth, groups = (limit, _folded(shown, limit)) if most is None else _fitting(shown, limit, most)
        for group in groups:
            self._add(group)
        folded = [group for group in groups if len(group.members) > 1]
        if folded:
            hidden = sum(len(group.members) for group in folded)
            self.notes.append(f"{hidden} of {len(shown)} nodes are folded into {len(folded)} box{'es' * (len(folded) > 1)}")
        self._connect(nodes)
        if any(group.name is None for group in folded):
            self._leave_out_implied()
        self._tag_busy("start", "end")
        self._tag_busy("end", "start")
        if labelled and len(self.boxes) <= LABELLED and not self.values and not self.slopes:
            self._label()

    # --- boxes

    def _add(self, group: Group) -> None:
        members = group.members
        single = len(members) == 1 and group.name is None
        key = f"{self._places.prefix(members[0])}n{members[0].id}" if single else f"s{len(self.boxes)}"
        for node in members:
            self._box_of[node] = key
        if single:
            self.boxes[key] = self._single(key, group.home, members[0])
            return
        kinds = Counter(self._places.kind(node) for node in members)
        inner = [kind for kind in ("forward", "gradient", "update") if kinds[kind]]
        if kinds["update"] and not kinds["gradient"]:
            inner = ["update"]
        kind = inner[0] if len(inner) == 1 else "forward" if inner else kinds.most_common(1)[0][0]
        count = f"{len(members)} node{'s' * (len(members) > 1)}"
        ops = [f"{number} {op}" for op, number in Counter(node.op.name for node in members).most_common()]
        first, last = (_cut(_short(node.name)) for node in (members[0], members[-1]))
        title = f"{first} … {last}" if group.name is None else scope_name(group.name)
        where = "/".join(scope_name(part) for part in (*group.home, title))
        self.boxes[key] = Box(key, kind, title, count, f"{where}: {count}\n{listing(ops, ', ')}", group.home, len(members))

    def _single(self, key: str, home: Home, node: Node) -> Box:
        kind = self._places.kind(node)
        title, detail = node._label or node.op.name, node.op.name if node._label else ""
        if kind in ("placeholder", "variable"):
            title = _short(node.name)
        if kind in ("placeholder", "variable", "constant"):
            detail = "" if self.values or self.slopes else format_spec(node.outputs[0].shape, node.outputs[0].dtype)
        numbers = [number_text(tensor.node.attrs["value"]) for tensor in node.inputs if tensor.node in self._written]
        if detail and kind not in ("placeholder", "variable", "constant"):
            detail = " ".join([detail, *numbers])
        else:
            title = " ".join([title, *numbers])
        specs = ", ".join(format_spec(tensor.shape, tensor.dtype) for tensor in node.outputs)
        tooltip = f"{node.name}\n{node.op.name} -> {specs or 'nothing'}\n{self._line(node)}".rstrip()
        return Box(key, kind, _cut(title), _cut(detail), tooltip, home)

    def _line(self, node: Node) -> str:
        """The user's line: looked up once for all nodes that it made."""
        place = node._code if isinstance(node._code, Location) else (node._code, node._offset)
        if place not in self._lines:
            self._lines[place] = f"{node.location}  {node.location.text}".rstrip()
        return self._lines[place]

    # --- edges

    def _connect(self, nodes: Sequence[Node]) -> None:
        edges: dict[tuple[str, str, str], Edge] = {}

        def add(before: Node, node: Node, kind: str, tensor: Tensor | None = None) -> None:
            start, end = self._box_of.get(before), self._box_of.get(node)
            if start is not None and end is not None and start != end:
                edge = edges.setdefault((start, end, kind), Edge(start, end, kind))
                if tensor is not None:
                    edge.tensors[tensor] = None

        is_gradient = self._places.is_gradient
        for node in nodes:
            captures = dict[Tensor, list[Node]]()
            for _, sub in subgraphs(node):
                for outer, inner in sub.captures.items():
                    captures.setdefault(outer, []).append(inner.node)
                for tensor in sub.outputs:
                    add(tensor.node, node, "gradient" if is_gradient(node) else "data", tensor)
            kind = "update" if self._places.kind(node) == "update" else "data"
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
        for edge in self.edges:
            tensor = edge.only
            if edge.kind == "data" and tensor is not None and tensor in open_ends:
                edge.value, edge.slope = self._numbers(tensor)
        for tensor in open_ends:
            start = self._box_of.get(tensor.node)
            if start is not None and not any(tensor in edge.tensors for edge in self.edges if edge.kind == "data"):
                key = f"end{len(self.boxes)}"
                self.boxes[key] = Box(key, "end", "", "", "", self.boxes[start].home)
                self.edges.append(Edge(start, key, "data", {tensor: None}, "", *self._numbers(tensor)))

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
                name = _cut(box.tooltip.partition("\n")[0])  # the node's own, which no other has
            for edge in edges:
                home = self.boxes[getattr(edge, other)].home
                if home not in tags:
                    tags[home] = f"t{len(self.boxes)}"
                    self.boxes[tags[home]] = Box(tags[home], "tag", name, "", box.tooltip, home)
                setattr(edge, busy, tags[home])

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

    def _leave_out_implied(self) -> None:
        """Where runs of nodes are folded and almost all depend on all: drops what a longer way implies as well."""
        if len(self.edges) <= 3 * len(self.boxes) or len(self.boxes) > 2 * BOXES:
            return
        place = {key: i for i, key in enumerate(self.boxes)}
        reach = [1 << i for i in range(len(place))]  # from each box, as bits; filled from the last box to the first
        forward: dict[int, list[Edge]] = {}
        kept = []
        for edge in self.edges:
            if place[edge.start] < place[edge.end] and edge.kind != "control":
                forward.setdefault(place[edge.start], []).append(edge)
            else:
                kept.append(edge)
        for start in sorted(forward, reverse=True):
            for edge in sorted(forward[start], key=lambda edge: place[edge.end]):
                end = place[edge.end]
                if not reach[start] >> end & 1:
                    reach[start] |= reach[end]
                    kept.append(edge)
        if len(kept) < len(self.edges):
            self.notes.append(f"{len(self.edges) - len(kept)} edges that longer ways imply are left out")
            self.edges = kept


# --- where nodes stand


class _Places:
    """The kind of each node, and the scope that it is drawn in.

    nodes   those given, and before each that holds sub-graphs the nodes of these
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._owner: dict[str, Node] = {}  # scope of an update -> the variable that it updates
        for node in nodes:
            if node.op.name == "assign":
                variable = node.inputs[0].node
                if node.scope.endswith(f"/{variable.name}"):
                    self._owner[node.scope] = variable
        self._holders: dict[Graph, Node] = {}  # sub-graph -> the node that holds it
        self._around: dict[Graph, Home] = {}  # sub-graph -> the scope that it is drawn in
        self._numbers: dict[Graph, str] = {}
        self.nodes = self._opened(nodes)
        read = {tensor.node for node in self.nodes for tensor in node.inputs}
        subs = [sub for node in self.nodes for _, sub in subgraphs(node)]
        read.update(tensor.node for sub in subs for tensor in sub.outputs)
        # Inputs of sub-graphs that these do not use, such as the number of the turn.
        self.unread = {node for sub in subs for node in sub.nodes if node.op.name == "placeholder" and node not in read}

    def _opened(self, nodes: Sequence[Node]) -> Sequence[Node]:
        if not any(True for node in nodes for _ in subgraphs(node)):
            return nodes
        result: list[Node] = []
        for node in nodes:
            for name, sub in subgraphs(node):
                self._holders[sub], self._around[sub] = node, (*self.home(node), name)
                self._numbers[sub] = f"g{len(self._numbers)}"
                result += self._opened(sub.nodes)
            result.append(node)
        return result

    def prefix(self, node: Node) -> str:
        """What tells its key from those of other graphs."""
        return self._numbers.get(node.graph, "")

    def kind(self, node: Node) -> str:
        name = node.op.name
        if name in ("placeholder", "variable", "constant"):
            return name
        if name in ("assign", "group") or node.scope in self._owner:
            return "update"
        return "gradient" if self.is_gradient(node) else "forward"

    def is_gradient(self, node: Node) -> bool:
        """Whether a gradient added it: itself, or the node whose sub-graph it is in."""
        holder = self._holders.get(node.graph)
        return node.forward is not None or (holder is not None and self.is_gradient(holder))

    def home(self, node: Node) -> Home:
        home = self._home(node)[:DEEPEST]
        return (*home, _short(node.name)) if any(True for _ in subgraphs(node)) else home

    def _home(self, node: Node) -> Home:
        holder = self._holders.get(node.graph)
        if holder is not None:
            around = self._around[node.graph]
            if self.is_gradient(node):
                return around  # scopes within the body of a gradient repeat where that gradient was made
            return around + _parts(node.scope.removeprefix(node.graph.root.scope).removeprefix("/"))
        forward = node
        while forward.forward is not None:
            forward = forward.forward
        scope = _parts(forward.scope)
        if forward is not node:
            return (*scope, GRADIENT) if scope else ()
        variable = self._owner.get(node.scope)
        if variable is not None and variable.scope:
            return (*_parts(variable.scope), UPDATE, _short(variable.name))
        return scope


def subgraphs(node: Node) -> Iterator[tuple[str, SubGraph]]:
    """The sub-graphs that ``node`` holds, by the attribute that holds them."""
    for name, value in node.attrs.items():
        if isinstance(value, SubGraph):
            yield name, value
        elif isinstance(value, tuple | list):
            for i, part in enumerate(value):
                if isinstance(part, SubGraph):
                    yield f"{name}[{i}]", part


def _parts(scope: str) -> Home:
    return tuple(scope.split("/")) if scope else ()


def _short(name: str) -> str:
    return name.rpartition("/")[2]


def scope_name(part: str) -> str:
    """What is written for a scope."""
    return _cut(part.removesuffix(MARK))


def _cut(text: str) -> str:
    return text if len(text) <= TITLE else f"{text[: TITLE - 1]}…"


def _numbers_read(nodes: Sequence[Node]) -> set[Node]:
    """Constants of one number, without a name of their own, that other nodes read: written into these."""
    read = {tensor.node for node in nodes for tensor in node.inputs if tensor.node.op.name == "constant"}
    read -= {tensor.node for node in nodes for _, sub in subgraphs(node) for tensor in sub.outputs}
    return {node for node in read if not node.outputs[0].shape and not node._label}


# --- folding


def _folded(shown: Sequence[tuple[Home, Node]], depth: int) -> list[Group]:
    """A group for each node and each scope that is drawn where scopes are open down to ``depth``."""
    groups: list[Group] = []
    scopes: dict[Home, list[Node]] = {}
    for home, node in shown:
        if len(home) <= depth:
            groups.append(Group(home, None, [node]))
        elif home[: depth + 1] in scopes:
            scopes[home[: depth + 1]].append(node)
        else:
            members = scopes[home[: depth + 1]] = [node]
            groups.append(Group(home[:depth], home[depth], members))
    return groups


def _fitting(shown: Sequence[tuple[Home, Node]], deepest: int, most: int) -> tuple[int, list[Group]]:
    """The deepest drawing with at most ``most`` boxes; the last scopes that it opens may be summed up in runs."""
    best: tuple[int, list[Group]] | None = None
    for depth in range(deepest + 1):
        groups = _folded(shown, depth)
        if len(groups) > most:
            groups = _in_runs(groups, min(RUNS, most // 2))
            return (depth, groups) if best is None or len(groups) <= most else best
        best = depth, groups
    assert best is not None
    return best


def _in_runs(groups: Sequence[Group], limit: int) -> list[Group]:
    """At most about ``limit`` groups for each scope, and as many for its gradients: those made one after another become one."""
    beside: dict[Any, list[Group]] = {}
    for group in groups:
        beside.setdefault((group.home, group.members[0].forward is None), []).append(group)
    result = []
    for (home, _), siblings in beside.items():
        size = math.ceil(len(siblings) / limit)
        for i in range(0, len(siblings), size):
            run = siblings[i : i + size]
            result.append(run[0] if len(run) == 1 else Group(home, None, [node for group in run for node in group.members]))
    return result


# --- text


def listing(rows: Sequence[str], between: str) -> str:
    """The first of ``rows``, and how many more there are."""
    rest = len(rows) - LISTED
    return between.join([*rows[:LISTED], *([f"and {rest} more"] if rest > 0 else [])])


def number_text(value: Any) -> str:
    """A value, short enough to stand beside an edge."""
    array = np.asarray(value)
    if array.size > 4:
        return f"{format_shape(array.shape)} of {_one(array.min())} … {_one(array.max())}"
    return _one(array.reshape(-1)[0]) if array.size == 1 else f"[{', '.join(map(_one, array.reshape(-1)))}]"


def _one(value: Any) -> str:
    return str(value) if value.dtype.kind in "bSUO" else f"{value:.4g}"
