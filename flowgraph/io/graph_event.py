"""A graph as TensorBoard's tab of graphs reads it: TensorFlow's GraphDef, for looking at, not for running."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..graph import Graph, Node, SubGraph, Tensor
from .event_file import data, whole

# The numbers of the dtypes in TensorFlow's types.proto.
_DTYPES = {
    name: number
    for number, name in enumerate("float32 float64 int32 uint8 int16 int8 str complex64 int64 bool".split(), 1)
} | {"bfloat16": 14, "uint16": 17, "complex128": 18, "float16": 19, "uint32": 22, "uint64": 23}  # fmt: skip
LONGEST = 200  # characters of an attribute


def graph_def(graph: Graph) -> bytes:
    """All nodes of ``graph``; what a node holds, the body of a loop say, in a scope of the node's name."""
    return b"".join([*(data(1, node) for node in _nodes(graph, "", {})), data(4, whole(1, 22))])


def _nodes(graph: Graph, prefix: str, outer: dict[Tensor, str]) -> Iterator[bytes]:
    """The messages of a graph's nodes; what is captured from around it is read from the tensors that ``outer`` names."""
    own = f"{graph.root.scope}/" if isinstance(graph, SubGraph) else ""

    def name_of(node: Node) -> str:
        return prefix + node.name.removeprefix(own)

    def edge(tensor: Tensor) -> str:
        return f"{name_of(tensor.node)}:{tensor.index}" if tensor.index else name_of(tensor.node)

    for node in list(graph.nodes):
        inputs = [edge(tensor) for tensor in node.inputs]
        if node.outputs and node.outputs[0] in outer:
            inputs.append(outer[node.outputs[0]])
        for label, sub in _subgraphs(node):
            inside = f"{name_of(node)}/{label}/"
            yield from _nodes(sub, inside, {here: edge(there) for there, here in sub.captures.items()})
            ends = (tensor.node.name.removeprefix(f"{sub.root.scope}/") for tensor in sub.outputs)
            inputs += dict.fromkeys(inside + end for end in ends)
        inputs += [f"^{name_of(before)}" for before in node.control]
        yield _node(node, name_of(node), inputs)


def _node(node: Node, name: str, inputs: list[str]) -> bytes:
    parts = [data(1, name), data(2, node.op.name), *(data(3, each) for each in inputs)]
    if node.device:
        parts.append(data(4, f"/device:{node.device}"))
    parts.append(_attribute("_output_shapes", data(1, b"".join(data(7, _shape(tensor)) for tensor in node.outputs))))
    if node.outputs:
        parts.append(_attribute("dtype", whole(6, _DTYPES.get(node.outputs[0].dtype.name, 0))))
    shown: dict[str, Any] = {key: value for key, value in node.attrs.items() if not _is_large(value)}
    if line := f"{node.location}  {node.location.text}".rstrip():
        shown["line"] = line
    if node.forward is not None:
        shown["gradient_of"] = node.forward.name
    parts += [_attribute(key, data(2, str(value)[:LONGEST])) for key, value in shown.items()]
    return b"".join(parts)


def _attribute(key: str, value: bytes) -> bytes:
    return data(5, data(1, key) + data(2, value))


def _shape(tensor: Tensor) -> bytes:
    """Sizes that are not known before a run are -1."""
    return b"".join(data(2, whole(1, dim if isinstance(dim, int) else -1)) for dim in tensor.shape)


def _is_large(value: Any) -> bool:
    return isinstance(value, SubGraph) or (isinstance(value, np.ndarray) and value.size > 8)


def _subgraphs(node: Node) -> Iterator[tuple[str, SubGraph]]:
    for name, value in node.attrs.items():
        parts = value if isinstance(value, tuple | list) else [value]
        for i, part in enumerate(parts):
            if isinstance(part, SubGraph):
                yield (name if part is value else f"{name}_{i}"), part
