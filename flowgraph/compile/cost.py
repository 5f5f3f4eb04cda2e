"""What a kernel is expected to cost, from shapes alone. The plan depends on these numbers, so they are the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..graph import Node
from ..graph.spec import is_known

# One core of a server of 2022 with NumPy: a call, the arithmetic of a matrix product, memory bandwidth of a NumPy loop.
CALL_SECONDS = 1e-6
FLOPS_PER_SECOND = 1e11
BYTES_PER_SECOND = 6e9


class CostModel:
    """Estimated seconds of nodes, remembered by op and shapes: large graphs repeat few of them."""

    def __init__(self) -> None:
        self._known: dict[Any, float] = {}

    def seconds(self, node: Node, inputs: Sequence[Any]) -> float:
        if node.op.is_view:
            return CALL_SECONDS
        if node.attrs:
            return self._estimate(node, inputs)
        key = (node.op, *[spec.shape for spec in inputs])
        if key not in self._known:
            self._known[key] = self._estimate(node, inputs)
        return self._known[key]

    def _estimate(self, node: Node, inputs: Sequence[Any]) -> float:
        if not all(is_known(spec.shape) for spec in inputs):
            return CALL_SECONDS
        work = node.op.work(*inputs, **node.attrs)
        return CALL_SECONDS + max(work.flops / FLOPS_PER_SECOND, work.bytes / BYTES_PER_SECOND)
