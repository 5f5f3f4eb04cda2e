"""What a node is made of, as an error shows it in a terminal: what it reads, what that was made of, and so on, each with its line.

It shows little, as it stands in every error: a few levels, the nearest nodes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..errors import FlowgraphError
from .node import Node, Tensor
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


FlowgraphError.upstream = staticmethod(of_error)
