"""Nodes as JSON; `graphs` says what the JSON looks like."""

from __future__ import annotations

from typing import Any

from ..errors import GraphError
from ..graph import Node
from ..graph.context import Context
from ..graph.report import where
from ..ops.state import Initializer
from .attributes import Arrays, dtype_name, write_attribute

FORMAT = "flowgraph graph"
VERSION = 1


class Writer:
    """Nodes as JSON, with the contexts and locations that many of them share written once."""

    def __init__(self) -> None:
        self.arrays: Arrays = {}
        self.contexts: list[dict[str, Any]] = []
        self.locations: list[list[Any]] = []
        self._context_numbers: dict[Any, int] = {}
        self._location_numbers: dict[Any, int] = {}
        self._seen: dict[Any, int] = {}  # the line of a code object and offset, which is slow to find

    def node(self, node: Node) -> dict[str, Any]:
        row: dict[str, Any] = {"op": node.op.name}
        if node._label is not None:
            row["label"] = node._label
        row["inputs"] = [[tensor.node.id, tensor.index] for tensor in node.inputs]
        row["outputs"] = [[dtype_name(out.dtype), list(out.shape)] for out in node.outputs]
        if node.attrs:
            row["attrs"] = {key: self._attribute(node, key, value) for key, value in node.attrs.items()}
        row["context"] = self._context(node._context)
        row["location"] = self._location(node)
        return row

    def _attribute(self, node: Node, key: str, value: Any) -> Any:
        try:
            return write_attribute(value, f"{node.id}/{key}", self.arrays)
        except TypeError as kind:
            what = f"a function, {getattr(value, '__qualname__', value)}" if callable(value) else str(kind)
            if isinstance(value, Initializer):
                what = f"an initializer of a kind that files do not know, {type(value).__name__}"
            error = GraphError(
                f"save_graph: {node.name} cannot be saved: its {key} is {what}",
                rows=[("node", f"{node.name}, made at {where(node.location)}")],
                help="a file holds data and no code: build that part in a program, and save its weights alone",
            )
            error.node = node
            raise error from None

    def _context(self, context: Context) -> int:
        control = tuple(node.id for node in context.control)
        forward = None if context.forward is None else context.forward.id
        key = (context.scope, context.device, control, forward)
        if key not in self._context_numbers:
            self._context_numbers[key] = len(self.contexts)
            self.contexts.append(dict(zip(("scope", "device", "control", "forward"), key, strict=True)))
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
