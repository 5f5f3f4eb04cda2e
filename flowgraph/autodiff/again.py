"""Again: outputs whose gradients compute forward values once more, made from outputs that keep them.

`gradients(recompute=)` decides this when a gradient is built. Here it is decided afterwards, when it is known how much memory there is:
what depends on a gradient is made once more, reading forward values that are made again. The outputs are the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ..graph import Node, Tensor
from ..graph.context import entered
from ..graph.subgraph import replay
from .recompute import Recompute, chosen, hanging

Output = Tensor | Node


def ways(outputs: Sequence[Output]) -> Iterator[tuple[int, list[Output]]]:
    """(number of forward tensors that are kept, the outputs made so), the one that keeps most first; none where nothing is gained.

    The nodes are made in the graph of ``outputs``, once.
    """
    if not outputs:
        return
    after, forward = _parted([output if isinstance(output, Node) else output.node for output in outputs])
    graph = (outputs[0] if isinstance(outputs[0], Node) else outputs[0].node).graph
    places = len(hanging(graph, forward)[0]) if after else 0
    parts, tried = places, set()
    while parts >= 2:
        kept = chosen(graph, forward, parts)
        if kept and len(kept) not in tried:
            tried.add(len(kept))
            key = ("again", tuple(map(id, outputs)), len(kept))
            if key not in graph.memo:
                graph.memo[key] = _made(outputs, after, Recompute(graph, forward, kept))
            yield len(kept), graph.memo[key]
        parts = parts * 2 // 3


def _parted(fetched: Sequence[Node]) -> tuple[list[int], list[int]]:
    """The ids of all that is needed: what depends on a gradient, and what does not, both in creation order."""
    graph = fetched[0].graph
    seen = {node.id for node in fetched}
    stack = list(fetched)
    while stack:
        node = stack.pop()
        for before in (*[tensor.node for tensor in node.inputs], *node.control):
            if before.id not in seen:
                seen.add(before.id)
                stack.append(before)
    after: set[int] = set()
    for node_id in sorted(seen):
        node = graph.nodes[node_id]
        befores = [*[tensor.node.id for tensor in node.inputs], *[before.id for before in node.control]]
        if node.forward is not None or not after.isdisjoint(befores):
            after.add(node_id)
    return sorted(after), sorted(seen - after)


def _made(outputs: Sequence[Output], after: Sequence[int], again: Recompute) -> list[Output]:
    """``outputs`` with what stands after a gradient made once more."""
    graph: Any = again.graph
    inside = set(after)
    moments = _moments(graph, after)
    found: dict[Tensor, Tensor] = {}
    made: dict[Node, Node] = {}
    for node_id in after:
        node = graph.nodes[node_id]
        moment = moments.get(node_id)
        inputs = []
        for tensor in node.inputs:
            if tensor.node.id in inside:
                inputs.append(found[tensor])
            elif moment is not None and node.forward is not None:
                inputs.append(again.of(tensor, found[moment]))
            else:
                inputs.append(tensor)
        control = tuple([made.get(before, before) for before in node.control])
        is_same = all(ours is theirs for ours, theirs in zip(inputs, node.inputs, strict=True))
        if is_same and control == node.control and node.attrs.get("extends") is None:
            copy = node
        else:
            context = node._context.replace(control=control, forward=made.get(node.forward, node.forward))
            with entered(context):
                copy = replay(node, inputs, context, made)
        made[node] = copy
        found.update(zip(node.outputs, copy.outputs, strict=True))
    return [found.get(each, each) if isinstance(each, Tensor) else made.get(each, each) for each in outputs]


def _moments(graph: Any, after: Sequence[int]) -> dict[int, Tensor]:
    """For each node the tensor whose arrival tells that it is time to make again what the node reads: a cotangent, as a rule.

    It is the last of its inputs that depends on a gradient; for a node without any, the one of the node that reads it.
    """
    inside = set(after)
    moments: dict[int, Tensor] = {}
    for node_id in reversed(after):
        node = graph.nodes[node_id]
        own = [tensor for tensor in node.inputs if tensor.node.id in inside]
        waits = [tensor for tensor in own if any(each.node.id in inside for each in tensor.node.inputs)] or own
        if waits and (node_id not in moments or len(own) > 0):
            moments[node_id] = max(waits, key=lambda tensor: tensor.node.id)
        for tensor in own:
            if any(each.node.id in inside for each in tensor.node.inputs):
                continue
            earlier = [each for each in waits if each.node.id < tensor.node.id and each is not tensor]
            if earlier:
                moments[tensor.node.id] = max(earlier, key=lambda each: each.node.id)
            elif node_id in moments and moments[node_id].node.id < tensor.node.id:
                moments[tensor.node.id] = moments[node_id]
    return moments
