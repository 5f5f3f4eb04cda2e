"""Specialise: with the shapes of the feeds, inference runs again, so that the plan knows every size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..graph import Node, Shape, Spec, Tensor
from ..graph.report import inferred_again
from .kinds import frozen


def specialise(nodes: Sequence[Node], fed: Mapping[Tensor, Shape]) -> dict[Tensor, Spec]:
    """The spec of every tensor that the shapes of ``fed`` say more about than the graph did.

    raises  ShapeError (or what an inference raises) naming the node: shapes that do not fit once they are known
    """
    specs: dict[Tensor, Any] = {tensor: Spec(shape, tensor.dtype) for tensor, shape in fed.items() if shape != tensor.shape}
    if not specs:
        return {}
    known: dict[Any, list[Spec]] = {}  # what nodes of a kind are: large graphs repeat few
    reads_as_built = specs.keys().isdisjoint
    for node in nodes:
        if reads_as_built(node.inputs):
            continue
        inputs = [specs.get(tensor, tensor) for tensor in node.inputs]
        attributes = frozen(node.attrs) if node.attrs else ()
        key = None if attributes is None else (node.op, attributes, *[(spec.shape, spec.dtype) for spec in inputs])
        outputs = known.get(key)
        if outputs is None:
            outputs = [Spec(spec.shape, spec.dtype) for spec in inferred_again(node, inputs)]
            if key is not None:
                known[key] = outputs
        specs.update({tensor: spec for tensor, spec in zip(node.outputs, outputs, strict=True) if tensor not in fed})
    return specs
