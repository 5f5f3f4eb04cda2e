"""What a kernel is expected to cost, from shapes alone. The plan depends on these numbers, so they are the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..graph import Node
from ..graph.spec import is_known

# One core of a server of 2022 with NumPy: a call, the arithmetic of a matrix product and of a function of each element, memory bandwidth
# of a NumPy loop. (With AVX2 float32's tanh was seen to take 1.5 to 3 ns, exp 1 to 2, expm1 10 to 18.)
CALL_SECONDS = 1e-6
INNER_CALL_SECONDS = 0.5e-6
FLOPS_PER_SECOND = 1e11
ELEMENTWISE_FLOPS_PER_SECOND = 6e9
BYTES_PER_SECOND = 6e9


def estimated_seconds(node: Node, inputs: Sequence[Any]) -> float:
    """Estimated seconds of a node on ``inputs``, which may be specs; of what is not known before the run, the call alone."""
    if node.op.is_view or not all(is_known(spec.shape) for spec in inputs):
        return CALL_SECONDS
    work = node.op.work(*inputs, **node.attrs)
    flops = ELEMENTWISE_FLOPS_PER_SECOND if node.op.scalar is not None else FLOPS_PER_SECOND
    return CALL_SECONDS + (node.op.calls - 1) * INNER_CALL_SECONDS + max(work.flops / flops, work.bytes / BYTES_PER_SECOND)
