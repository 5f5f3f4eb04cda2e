"""Where the nodes of a graph stand in a drawing, and of what kind they are.

- A node of a gradient stands beside the node that it is the gradient of: ``conv1`` holds ``gradient``, whatever scope it was built in.
- The nodes that update a variable stand beside it as well, in ``update``.
- A sub-graph (a branch, the body of a loop) is a scope within the scope of its node.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..graph import Graph, Node, SubGraph
from .picture import GRADIENT, UPDATE, Home, parts, short

DEEPEST = 40  # scopes within scopes; what is nested deeper is drawn there


class Places:
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

    def outermost(self, node: Node) -> Node:
        """The node of the graph itself that ``node`` is in, where that stands in a sub-graph."""
        while node.graph in self._holders:
            node = self._holders[node.graph]
        return node

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
        return (*home, short(node.name)) if any(True for _ in subgraphs(node)) else home

    def _home(self, node: Node) -> Home:
        holder = self._holders.get(node.graph)
        if holder is not None:
            around = self._around[node.graph]
            if self.is_gradient(node):
                return around  # scopes within the body of a gradient repeat where that gradient was made
            return around + parts(node.scope.removeprefix(node.graph.root.scope).removeprefix("/"))
        forward = node
        while forward.forward is not None:
            forward = forward.forward
        scope = parts(forward.scope)
        if forward is not node:
            return (*scope, GRADIENT) if scope else ()
        variable = self._owner.get(node.scope)
        if variable is not None and variable.scope:
            return (*parts(variable.scope), UPDATE, short(variable.name))
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
