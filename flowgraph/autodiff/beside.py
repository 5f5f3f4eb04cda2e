"""Where the nodes of a derivative stand: in a scope named after the node that they belong to."""

from __future__ import annotations

from typing import Any

from ..graph import Node
from ..graph.context import current


def beside(node: Node, what: str = "gradients") -> Any:
    """The context in which the derivative of ``node`` is built: a scope of its name, on its device."""
    here = current()
    request = {"device": node.device, "colocated": node.colocated}
    return here.replace(graph=node.graph, scope=f"{what}/{node.name}", control=(), forward=node, **request)
