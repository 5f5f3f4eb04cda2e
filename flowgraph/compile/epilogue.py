"""Epilogue: a loop over the output of a convolution that nothing else reads becomes part of the convolution's kernel.

So a bias, an activation or what runs beside a residual block is added while the sums are in registers, and the output is written once.
Where all that follows is a pooling, it becomes part of the kernel, too, and only what is pooled is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..graph import Node, Tensor
from ..jit import lazy
from ..jit.loops import Loop
from ..jit.values import in_order
from .regions import Region, agree

if TYPE_CHECKING:
    from .fuse import Made, Source

# The text has them once for each vector of a tile; what is longer stays a loop of its own.
MOST_PRIMITIVES = 16
POOLS = frozenset({"max_pool", "avg_pool"})
# An image's output waits in the level-2 cache until it is pooled.
MOST_POOLED_BYTES = 2**19


class Joined(NamedTuple):
    """A convolution with its epilogue: the node, the kernel, and what that reads besides images and filters."""

    node: Node
    kernel: lazy.conv.Conv
    sources: list[Source]


def joined(
    region: Region,
    loop: Loop,
    sources: Sequence[Source],
    results: Sequence[Made],
    spec: Callable[[Tensor], Any],
    is_lone: Callable[[Tensor], bool],
) -> Joined | None:
    """``region``, whose loop is ``loop``, as the epilogue of a convolution that it reads; None where it cannot be one.

    sources  what the loop reads, and ``results``: what it gives
    spec     of a tensor
    is_lone  whether a tensor is computed in the run, and read by the region alone
    """
    made, value = results[-1], loop.results[-1].value
    values = in_order([value])
    if len(results) > 1 or made.spec.shape != region.shape or made.is_total or len(values) > MOST_PRIMITIVES:
        return None
    if any(v.kind in ("sum", "max", "min") for v in values) or any(s.spec.dtype != made.spec.dtype for s in sources):
        return None
    for source in sources:
        node = source.tensor.node
        if (
            node.op.name != "conv"
            or source.window is not None
            or source.spec.shape != region.shape
            or node._context.control
            or not is_lone(source.tensor)
        ):
            continue
        if not agree(node._context.device, region.request):
            continue
        operands = ["sum" if other is source else _operand(other, region) for other in sources]
        described = node.op.compiled(*map(spec, node.inputs), **node.attrs)
        if described is not None and "" not in operands:
            kernel = lazy.conv.Conv(described.conv, lazy.conv.Epilogue(value, tuple(operands)))
            return Joined(node, kernel, [other for other in sources if other is not source])
    return None


def pooled(conv: lazy.conv.Conv, spec: Any, pool: Node) -> lazy.conv.ConvPool | None:
    """The kernel of a convolution and of ``pool``, which alone reads its output, of ``spec``; None where there is none."""
    described = pool.op.compiled(spec, **pool.attrs) if pool.op.name in POOLS else None
    if described is None or len(spec.shape) != len(pool.attrs["window"]) + 2:
        return None
    output = math.prod(spec.shape[1:]) * spec.dtype.itemsize
    return lazy.conv.ConvPool(conv, described) if output <= MOST_POOLED_BYTES else None


def _operand(source: Source, region: Region) -> str:
    """What a source has in the terms of `Epilogue`; nothing for what an epilogue cannot read."""
    if source.window is not None:
        return ""
    if source.spec.shape == region.shape:
        return "image"
    return "channel" if [axis for axis in source.axes if axis is not None] == [1] else ""
