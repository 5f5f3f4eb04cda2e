"""Prune: which nodes a request needs, in creation order."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import compress
from operator import attrgetter
from typing import Any

from ..graph import Graph, Node, Tensor
from ..graph.spec import is_known
from .columns import LARGE, columns_of, wanted_nodes


def needed_nodes(fetched: Collection[Node], fed: Collection[Tensor], specs: Mapping[Tensor, Any] | None = None) -> list[Node]:
    """The nodes that ``fetched`` depend on, not looking behind ``fed`` tensors.

    specs  once shapes are known: an input of which only the shape is used, and whose shape is known, is not needed
    """
    given = {tensor.node for tensor in fed}.difference(fetched)
    given = {node for node in given if all(tensor in fed for tensor in node.outputs)}

    def reads(node: Node) -> Iterator[Node]:
        shape_only = node.op.shape_inputs if specs is not None else ()
        for position, tensor in enumerate(node.inputs):
            if shape_only and position in shape_only and is_known(specs.get(tensor, tensor).shape):  # type: ignore[union-attr]
                continue
            if not fed or tensor not in fed:
                yield tensor.node
        for before in node._context.control:
            if before not in given:
                yield before

    found = set(fetched)
    stack = list(fetched)
    while stack and len(found) < LARGE:
        for node in reads(stack.pop()):
            if node not in found:
                found.add(node)
                stack.append(node)
    if not stack:
        return sorted(found, key=attrgetter("id"))
    graph = stack[0].graph
    size = 1 + max(node.id for node in fetched)
    nodes = _by_columns(graph, size, fetched, given, fed) if specs is None else None
    if nodes is not None:
        return nodes
    wanted = bytearray(size)
    for node in fetched:
        wanted[node.id] = 1
    result: list[Node] = []
    # Ids are a topological order: walking down them meets each node after all of its readers.
    for node_id in range(size - 1, -1, -1):
        if wanted[node_id]:
            node = graph.nodes[node_id]
            result.append(node)
            for before in reads(node):
                wanted[before.id] = 1
    result.reverse()
    return result


def _by_columns(graph: Graph, size: int, fetched: Collection[Node], given: set[Node], fed: Collection[Tensor]) -> list[Node] | None:
    """The same for a large graph; None where that does not pay, or where of a node with several outputs not all are fed.

    given  the nodes of which all outputs are fed
    """
    if any(tensor.node not in given and tensor.node not in fetched for tensor in fed):
        return None
    ids = [node.id for node in given if node.id < size]
    mask = wanted_nodes(columns_of(graph), size, [node.id for node in fetched], ids)
    if mask is None:
        return None
    mask[ids] = False
    return list(compress(graph.nodes, mask.tobytes()))
