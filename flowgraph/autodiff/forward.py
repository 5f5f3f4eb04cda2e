"""Forward mode: the tangents of some tensors along a direction, as new nodes.

An op's own JVP is used where it has one. Elsewhere the VJP is transposed: it is linear in the cotangent, so its gradient by the
cotangent, with the input's tangent for a seed, is the output's tangent. The cotangent itself is a stand-in whose value is never needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..graph import Node, Tensor
from ..graph.context import entered
from ..graph.op import NoGradient
from ..graph.subgraph import ancestors
from ..ops.elementwise import add
from ..ops.shape import zeros_like
from .beside import beside
from .gradients import Reverse, vjp_entries


def push_forward(ys: Sequence[Tensor], xs: Sequence[Tensor], tangents: Sequence[Tensor]) -> list[Tensor | None]:
    """The tangents of ``ys`` when each of ``xs`` moves along its tangent; None for a y that depends on none of them."""
    known: dict[Tensor, Tensor] = dict(zip(xs, tangents, strict=True))
    start = min(x.node.id for x in xs)
    nodes = ys[0].graph.nodes
    for node_id in ancestors([y.node for y in ys], set(xs)):
        node = nodes[node_id]
        if node_id <= start or not any(tensor in known for tensor in node.inputs):
            continue
        for out, tangent in zip(node.outputs, _push(node, [known.get(tensor) for tensor in node.inputs]), strict=True):
            if tangent is not None and out not in known:
                known[out] = tangent
    return [known.get(y) for y in ys]


def _push(node: Node, tangents: list[Tensor | None]) -> Sequence[Tensor | None]:
    """The tangents of the outputs of ``node``."""
    op = node.op
    if isinstance(op.vjp, NoGradient):
        return [None] * len(node.outputs)
    with entered(beside(node, "tangents")):
        if op.jvp is None:
            return _transposed(node, tangents)
        outputs: Any = node.outputs if len(node.outputs) > 1 else node.outputs[0]
        result = op.jvp(tangents, outputs, *node.inputs, **node.attrs)
    return result if isinstance(result, tuple | list) else [result]


def _transposed(node: Node, tangents: list[Tensor | None]) -> list[Tensor | None]:
    """The JVP as the transpose of the VJP."""
    stand_ins = [zeros_like(out) if out.dtype.kind in "fcV" else None for out in node.outputs]
    sums: list[Tensor | None] = [None] * len(stand_ins)
    for tangent, entry in zip(tangents, vjp_entries(node, stand_ins), strict=True):
        if tangent is None or entry is None:
            continue
        cotangent = entry if isinstance(entry, Tensor) else entry()
        if cotangent is None:
            continue
        wanted = [s for s in stand_ins if s is not None]
        parts = iter(Reverse([cotangent], [tangent], [*node.inputs, *node.outputs]).by(wanted))
        for position, stand_in in enumerate(stand_ins):
            part = next(parts) if stand_in is not None else None
            if part is not None:
                here = sums[position]
                sums[position] = part if here is None else add(here, part)
    return sums
