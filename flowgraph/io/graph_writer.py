"""Nodes as JSON; `graphs` says what the JSON looks like."""

from __future__ import annotations

from typing import Any

from ..errors import GraphError
from ..graph import Node, SubGraph, Tensor
from ..graph.context import Context
from ..graph.report import blamed_line, where
from ..ops.state import Initializer
from .attributes import Arrays, dtype_name, write_attribute

FORMAT = "flowgraph graph"
VERSION = 1


class Writer:
    """Nodes as JSON, with the contexts and locations that many of them share written once.

    around  the writer of the graph around, for a sub-graph: they share arrays and locations
    prefix  of the names of the arrays
    code    where the names of Python functions among the attributes go, which stand in the file for these; None where there may be none
    """

    def __init__(self, around: Writer | None = None, prefix: str = "", code: list[str] | None = None) -> None:
        self.code: list[str] | None = code if around is None else around.code
        self.arrays: Arrays = {} if around is None else around.arrays
        self.locations: list[list[Any]] = [] if around is None else around.locations
        self._location_numbers: dict[Any, int] = {} if around is None else around._location_numbers
        self._seen: dict[Any, int] = {} if around is None else around._seen  # the line of a code object and offset, which is slow to find
        self.contexts: list[dict[str, Any]] = []
        self._context_numbers: dict[Any, int] = {}
        self._prefix = prefix

    def node(self, node: Node) -> dict[str, Any]:
        row: dict[str, Any] = {"op": node.op.name}
        if node._label is not None:
            row["label"] = node._label
        row["inputs"] = list(map(_pair, node.inputs))
        row["outputs"] = [[dtype_name(out.dtype), list(out.shape)] for out in node.outputs]
        if node.attrs:
            row["attrs"] = {key: self._attribute(node, key, value) for key, value in node.attrs.items()}
        row["context"] = self._context(node._context)
        row["location"] = self._location(node)
        return row

    def _attribute(self, node: Node, key: str, value: Any) -> Any:
        name = f"{self._prefix}{node.id}/{key}"
        if isinstance(value, SubGraph):
            return {"sub_graph": Writer(self, f"{name}/")._sub_graph(value, node)}
        if isinstance(value, Node):
            return {"node": value.id} if value.graph is node.graph else None
        try:
            return write_attribute(value, name, self.arrays)
        except TypeError as kind:
            if self.code is not None and isinstance(value, Initializer):
                return None  # the value is known, or asked for when it is read
            if self.code is not None and callable(value):
                if key == "function":  # the others (what it infers, its gradient) a run does without
                    self.code.append(function_name(value))
                return {"function": function_name(value)}
            what = f"a function, {getattr(value, '__qualname__', value)}" if callable(value) else str(kind)
            if isinstance(value, Initializer):
                what = f"an initializer of a kind that files do not know, {type(value).__name__}"
            error = GraphError(
                f"save_graph: {node.name} cannot be saved: its {key} is {what}",
                rows=[("node", f"{node.name}, made at {where(node.location)}")],
                help="a file holds data and no code: build that part in a program, and save its weights alone",
                blamed=blamed_line(node),
            )
            error.node = node
            raise error from None

    def _sub_graph(self, sub: SubGraph, holder: Node) -> dict[str, Any]:
        nodes = [self.node(node) for node in list(sub.nodes)]
        # A node that was made anew in another graph holds the sub-graph of the first, whose captures are of that one's graph.
        captures = [[_pair(outer) if outer.graph is holder.graph else None, _pair(inner)] for outer, inner in sub.captures.items()]
        return {
            "scope": sub.root.scope,
            "device": sub.root.device,
            "contexts": self.contexts,
            "nodes": nodes,
            "inputs": list(map(_pair, sub.inputs)),
            "captures": captures,
            "outputs": list(map(_pair, sub.outputs)),
        }

    def _context(self, context: Context) -> int:
        control = tuple(node.id for node in context.control)
        forward = None if context.forward is None else context.forward.id
        beside = None if context.colocated is None or context.colocated.graph is not context.graph else context.colocated.id
        key = (context.scope, context.device, control, forward, beside)
        if key not in self._context_numbers:
            self._context_numbers[key] = len(self.contexts)
            row = dict(zip(("scope", "device", "control", "forward", "colocated"), key, strict=True))
            self.contexts.append({name: value for name, value in row.items() if name != "colocated" or value is not None})
        return self._context_numbers[key]

    def _location(self, node: Node) -> int:
        place = (node._code, node._offset)
        if place not in self._seen:
            location = node.location
            number = self._location_numbers.setdefault(location, len(self.locations))
            if number == len(self.locations):
                columns = None if location.columns is None else list(location.columns)
                self.locations.append([location.file, location.line, location.function, columns])
            self._seen[place] = number
        return self._seen[place]


def function_name(function: Any) -> str:
    """What a Python function is called in a file."""
    return str(getattr(function, "__qualname__", type(function).__qualname__))


def _pair(tensor: Tensor) -> list[int]:
    return [tensor.node.id, tensor.index]
