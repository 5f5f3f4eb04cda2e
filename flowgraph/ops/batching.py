"""What batching rules share: an op's inputs with the batch as one more axis in front. Below all ops, so that each can use it."""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Tensor
from ..graph.node import FUNCTIONS
from ..graph.op import Batch


def full(batch: Batch, x: Tensor, position: int) -> Tensor:
    """Input ``position`` of the op, which is ``x``, with the batch in front: repeated (a view) when it does not carry it."""
    return x if batch.inputs[position] else FUNCTIONS["repeat_like"](x, batch.like)


def aligned(batch: Batch, inputs: Sequence[Tensor]) -> list[Tensor]:
    """``inputs`` so that plain broadcasting is right: those with the batch and too few other axes get axes of size 1 behind it."""
    ndim = max(x.ndim - carries for x, carries in zip(inputs, batch.inputs, strict=True))
    return [widened(x, ndim - (x.ndim - 1)) if carries else x for x, carries in zip(inputs, batch.inputs, strict=True)]


def widened(x: Tensor, count: int) -> Tensor:
    """``x`` with ``count`` axes of size 1 behind its first."""
    return x[(slice(None), *(None,) * count)] if count else x


def moved(x: Tensor, source: int, target: int) -> Tensor:
    """``x`` with its axis ``source`` at ``target``."""
    if source == target:
        return x
    order = [axis for axis in range(x.ndim) if axis != source]
    order.insert(target, source)
    return x.transpose(tuple(order))
