"""The graph: nodes, tensors, ops, scopes and the user's lines. No kernels and no threads below this point."""

from .calls import Call
from .context import colocate_with, control_dependencies, device, get_default_graph, scope
from .graph import Graph
from .location import Location
from .node import Node, Tensor
from .op import OPS, Op, Work, no_gradient, op
from .spec import Dim, Shape, Spec
from .subgraph import SubGraph
from .upstream import tree

__all__ = [
    "OPS",
    "Call",
    "Dim",
    "Graph",
    "Location",
    "Node",
    "Op",
    "Shape",
    "Spec",
    "SubGraph",
    "Tensor",
    "Work",
    "colocate_with",
    "control_dependencies",
    "device",
    "get_default_graph",
    "no_gradient",
    "op",
    "scope",
    "tree",
]
