"""Recompute: forward values that a gradient makes again when it needs them, from the few that are kept.

What a rule reads of the forward part stands between kept tensors. When the gradient comes to such a part, the nodes of it are made once
more; what they read of the kept tensors waits for the cotangent that has arrived there, so that they do not run before. A node that draws
random numbers, holds a sub-graph or waits for others is not made again: its outputs are kept, too.

Chen et al. 2016, arXiv:1604.06174.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, Literal

from ..errors import GradientError
from ..graph import Node, Tensor
from ..graph.context import entered
from ..graph.report import where
from ..graph.subgraph import replay
from ..ops.state import identity
from .beside import beside

Kept = Literal["sqrt"] | Sequence[Tensor]


class Recompute:
    """The forward values of one gradient that are made again.

    nodes  ids of the forward nodes, in creation order
    kept   tensors that are not; behind the last of them, nothing is made again, as the gradient begins there
    """

    def __init__(self, graph: Any, nodes: Sequence[int], kept: Sequence[Tensor]) -> None:
        self.graph, self.kept = graph, set(kept)
        self._inside = set(nodes)
        for tensor in kept:
            if tensor.node.id not in self._inside:
                raise GradientError(
                    f"gradients: recompute keeps {tensor.name}, on which no y depends",
                    rows=[(tensor.name, f"made at {where(tensor.node.location)}")],
                )
        self._last = max([tensor.node.id for tensor in kept], default=-1)
        self._again: dict[Tensor, Tensor] = {}
        self._held: dict[tuple[Tensor, Node], Tensor] = {}

    def of(self, tensor: Tensor, cotangent: Tensor) -> Tensor:
        """What stands for ``tensor`` in the gradient: itself, or what is made again once ``cotangent`` is there."""
        if tensor not in self._again and self._is_made_again(tensor):
            for node in self._missing(tensor.node):
                self._make(node, cotangent.node)
        return self._again.get(tensor, tensor)

    def _is_made_again(self, tensor: Tensor) -> bool:
        node = tensor.node
        return node.id < self._last and node.id in self._inside and tensor not in self.kept and is_repeatable(node)

    def _missing(self, node: Node) -> list[Node]:
        """``node`` and those before it that have to be made again for it, in creation order."""
        found, stack = {node.id}, [node]
        while stack:
            for tensor in stack.pop().inputs:
                if tensor.node.id not in found and tensor not in self._again and self._is_made_again(tensor):
                    found.add(tensor.node.id)
                    stack.append(tensor.node)
        return [self.graph.nodes[node_id] for node_id in sorted(found)]

    def _make(self, node: Node, after: Node) -> None:
        inputs = [self._again.get(tensor, tensor) for tensor in node.inputs]
        if not any(tensor in self._again for tensor in node.inputs):
            # Nothing else would tell it from the first time, nor keep it from running then.
            inputs[0] = self._held_back(inputs[0], after)
        copy = replay(node, inputs, beside(node, "again"))
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            if old not in self.kept:
                self._again[old] = new

    def _held_back(self, tensor: Tensor, after: Node) -> Tensor:
        """``tensor`` once ``after`` has run."""
        key = tensor, after
        if key not in self._held:
            with entered(beside(tensor.node, "again").replace(control=(after,))):
                self._held[key] = identity(tensor)
        return self._held[key]


def is_repeatable(node: Node) -> bool:
    """Whether a node gives the same once more."""
    return bool(node.inputs) and not (node.op.is_stateful or node.op.bodies or node.control)


def chosen(graph: Any, nodes: Sequence[int], parts: int | None = None) -> list[Tensor]:
    """Some of the places at which the forward part hangs on one tensor, evenly spread by the sizes of what lies between.

    nodes  ids of the forward nodes, in creation order
    parts  how many stretches they divide it into; None for about √n of the n places
    """
    places, made = hanging(graph, nodes)
    parts = math.isqrt(len(places)) if parts is None else parts
    positions = [position for position, _ in places]
    found = [places[bisect_left(positions, made * part // parts)][1] for part in range(1, parts) if positions[-1] >= made * part // parts]
    return list(dict.fromkeys(found))


def hanging(graph: Any, nodes: Sequence[int]) -> tuple[list[tuple[int, Tensor]], int]:
    """The places at which the forward part hangs on one tensor: how many elements were made so far, and the tensor; and all elements.

    A size that is not known counts as 1, as it is often the batch, which all share.
    """
    last_read: dict[Tensor, int] = {}
    for node_id in nodes:
        node = graph.nodes[node_id]
        for position, tensor in enumerate(node.inputs):
            if tensor.node.inputs and position not in node.op.shape_inputs:
                last_read[tensor] = node_id
    places: list[tuple[int, Tensor]] = []  # what was made before, and the tensor
    across: set[Tensor] = set()  # made so far, and read later
    made = 0
    for node_id in nodes:
        node = graph.nodes[node_id]
        if not node.inputs:
            continue
        across = {tensor for tensor in across if last_read[tensor] > node_id}
        across.update(out for out in node.outputs if last_read.get(out, -1) > node_id)
        made += sum(math.prod(d for d in out.shape if isinstance(d, int)) for out in node.outputs)
        if len(across) == 1:
            (tensor,) = across
            if tensor.node is node:
                places.append((made, tensor))
    return places, made
