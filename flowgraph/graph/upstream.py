"""What a node is made of, as an error shows it in a terminal: what it reads, what that was made of, and so on, each with its line.

It shows little, as it stands in every error: a few levels, the nearest nodes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..errors import FlowgraphError
from .context import Context
from .location import Location
from .node import FUNCTIONS, Node, Tensor
from .op import OPS, Op
from .spec import format_spec

LEVELS = 4
NODES = 10
WIDTH = 60  # characters of a line of code


def tree(tensors: Sequence[Tensor], levels: int = LEVELS, most: int = NODES) -> list[str]:
    r"""A line for each of ``tensors`` and for what they were made of: name, shape and dtype, file, line and expression.

    levels, most  of tensors that are shown, the nearest ones first; an ellipsis stands for those that are not

    >>> with fg.scope("mlp"):
    ...     h = fg.exp(fg.placeholder("x", ("batch", 3)))
    >>> from flowgraph.graph.upstream import tree
    >>> print("\n".join(tree([h * 2])))
    multiply      (batch, 3) float32   <doctest flowgraph.graph.upstream.tree[2]>:1   h * 2
    └─ mlp/exp    (batch, 3) float32   <doctest flowgraph.graph.upstream.tree[0]>:2   fg.exp(fg.placeholder("x", ("batch", 3)))
       └─ mlp/x   (batch, 3) float32   placeholder, <doctest flowgraph.graph.upstream.tree[0]>:2
    """
    shown = _nearest(tensors, levels, most)
    rows: list[tuple[str, str, str]] = []
    seen: set[Tensor] = set()

    def add(tensor: Tensor, before: str, below: str) -> None:
        if tensor in seen:
            rows.append((f"{before}{tensor.name}", "", "(see above)"))
            return
        seen.add(tensor)
        rows.append((f"{before}{tensor.name}", format_spec(tensor.shape, tensor.dtype), _made(tensor.node)))
        sources = list(_sources(tensor.node))
        known = [source for source in sources if source in shown]
        for place, source in enumerate(known):
            last = place == len(known) - 1 and len(known) == len(sources)
            add(source, f"{below}{'└─' if last else '├─'} ", f"{below}{'   ' if last else '│  '}")
        if len(known) < len(sources):
            rows.append((f"{below}└─ …", "", ""))

    for tensor in tensors:
        if tensor in shown and tensor not in seen:
            add(tensor, "", "")
    names, specs = (max((len(row[column]) for row in rows), default=0) for column in (0, 1))
    return [f"{name:<{names}}   {spec:<{specs}}   {made}".rstrip() for name, spec, made in rows]


def _nearest(tensors: Sequence[Tensor], levels: int, most: int) -> dict[Tensor, None]:
    """``tensors`` and those before them, level by level, until there are enough."""
    shown: dict[Tensor, None] = {}
    level = [tensor for tensor in tensors if not _is_number(tensor)]
    for _ in range(levels):
        for tensor in level:
            if len(shown) < most:
                shown[tensor] = None
        level = [source for tensor in level if tensor in shown for source in _sources(tensor.node) if source not in shown]
    return shown


def _sources(node: Node) -> Iterator[Tensor]:
    """What it reads, each once, without bare numbers. In a sub-graph, what stands for a tensor of the graph around it is that tensor."""
    captures = getattr(node.graph, "captures", {}) if node.graph.is_sub else {}
    outer = {inner: tensor for tensor, inner in captures.items()}
    for tensor in dict.fromkeys(node.inputs):
        if not _is_number(tensor):
            yield outer.get(tensor, tensor)


def around(node: Node, levels: int = LEVELS, most: int = 40) -> list[Node]:
    """A node and those before it in its graph, the nearest ones, in creation order."""
    shown = {node: None}
    level = [node]
    for _ in range(levels):
        level = [tensor.node for each in level for tensor in each.inputs if tensor.node not in shown and tensor.node.graph is node.graph]
        shown.update(dict.fromkeys(level[: most - len(shown)]))
    return sorted(shown, key=lambda each: each.id)


class Unmade(Node):
    """Stands for a node that could not be made, as its inference has refused it; it is in no graph."""

    __slots__ = ("_name",)

    def __init__(self, op: Op, name: str, location: Location, inputs: tuple[Tensor, ...], scope: str) -> None:
        self.graph, self.id = inputs[0].graph, len(inputs[0].graph)
        self.op, self.inputs, self.attrs, self.outputs = op, inputs, {}, ()
        self._context, self._label = Context(self.graph, scope), None
        self._code, self._offset, self._name = location, 0, name

    @property
    def name(self) -> str:
        return self._name


def _is_number(tensor: Tensor) -> bool:
    return tensor.node.op.name == "constant" and not tensor.shape and not tensor.node.label


def _made(node: Node) -> str:
    """Where it was made and by which expression; for what a gradient has added, the expression that it is the gradient of."""
    place = node.location
    if node.op.name in ("placeholder", "variable", "constant"):
        return f"{node.op.name}, {place}"
    if node.forward is None:
        return f"{place}   {_cut(place.expression)}"
    of = node.forward.location
    return f"gradient of {of}   {_cut(of.expression)}"


def _cut(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"


def of_error(error: FlowgraphError) -> list[str]:
    """What the tensors that met in ``error`` were made of; nothing where its rows say all that there is."""
    if all(tensor.node.op.name in ("placeholder", "variable", "constant") for tensor in error.near):
        return []
    return tree(error.near)


def failed_node(error: FlowgraphError) -> Node | None:
    """The node that an error is about, or one that stands for it; None where it is about none."""
    if error.node is not None or error.place is None or not error.near:
        return error.node  # type: ignore[no-any-return]
    op, name, location = error.place
    scope = name.rpartition("/")[0]
    return Unmade(OPS[op], name, location, tuple(t for t in error.near if t.graph is error.near[0].graph), scope)


def _draw(error: FlowgraphError, file: Any, **options: Any) -> Any:
    return FUNCTIONS["draw"](error, file, **options)


FlowgraphError.upstream, FlowgraphError.drawn = staticmethod(of_error), staticmethod(_draw)
