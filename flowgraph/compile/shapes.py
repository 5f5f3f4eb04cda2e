"""Specialise: with the shapes of the feeds, inference runs again, so that the plan knows every size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..graph import Node, Shape, Spec, Tensor
from ..graph.report import inferred_again


def specialise(nodes: Sequence[Node], fed: Mapping[Tensor, Shape]) -> dict[Tensor, Spec]:
    """The spec of every tensor that the shapes of ``fed`` say more about than the graph did.

    raises  ShapeError (or what an inference raises) naming the node: shapes that do not fit once they are known
    """
    specs: dict[Tensor, Any] = {tensor: Spec(shape, tensor.dtype) for tensor, shape in fed.items() if shape != tensor.shape}
    if not specs:
        return {}
    for node in nodes:
        if not any(tensor in specs for tensor in node.inputs):
            continue
        inputs = [specs.get(tensor, tensor) for tensor in node.inputs]
        for tensor, spec in zip(node.outputs, inferred_again(node, inputs), strict=True):
            if tensor not in fed:
                specs[tensor] = Spec(spec.shape, spec.dtype)
    return specs
