"""Nodes made again in another graph: a sub-graph built in place, or what follows from a few tensors that now are others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..graph import Node, SubGraph, Tensor
from ..graph.context import current
from ..graph.subgraph import ancestors, as_tensor, replay


def rebuilt(outputs: Sequence[Tensor], known: Mapping[Tensor, Tensor], *, whole: bool = True) -> tuple[list[Tensor], dict[Tensor, Tensor]]:
    """The nodes behind ``outputs`` made again in the current graph, where ``known`` tells what some tensors are there.

    whole    False where the current graph is inside that of ``outputs``: what does not depend on ``known`` is used as it is
    returns  what the outputs are there, and the same for every tensor between
    """
    here, found = current(), dict(known)
    made: dict[Node, Node] = {}
    if not outputs:
        return [], found
    source = outputs[0].graph
    for node_id in ancestors([out.node for out in outputs], set(found)):
        node = source.nodes[node_id]
        if node.outputs and all(out in found for out in node.outputs):
            continue
        if not whole and not any(tensor in found for tensor in node.inputs):
            continue
        forward = here.forward if node.forward is None else made.get(node.forward, here.forward)
        context = here.replace(scope=node.scope, device=node.device, colocated=node.colocated, forward=forward, origin=node)
        copy = replay(node, [found[tensor] if tensor in found else as_tensor(tensor) for tensor in node.inputs], context, made)
        if node.forward is not None and forward is here.forward:  # of a gradient alone: its lines are those that were differentiated
            copy._code, copy._offset = node.forward._code, node.forward._offset
        made[node] = copy
        found.update({theirs: ours for theirs, ours in zip(node.outputs, copy.outputs, strict=True) if theirs not in found})
    return [found[out] if out in found or whole else as_tensor(out) for out in outputs], found


def inline(sub: SubGraph, inputs: Sequence[Any], captured: Sequence[Any]) -> list[Tensor]:
    """The outputs of ``sub`` for these inputs and captures, in the current graph."""
    given = [as_tensor(value) for value in (*inputs, *captured)]
    return rebuilt(sub.outputs, dict(zip((*sub.inputs, *sub.captures.values()), given, strict=True)))[0]
