"""Together: small loops of a GPU whose results are only new values of variables become one node, whose kernel is one launch.

An optimiser makes a loop for each variable. They know nothing of each other and nothing waits for them, so that all can run last: as one
kernel they take as long as one of them alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

import numpy as np

from ..graph import Node, Tensor
from ..jit import lazy
from ..jit.gpu import GpuTogether, cuda_of
from .fuse import Fused, FusedNode, for_gpu, fused_node
from .simplify import Simplified

# Of larger loops each fills a GPU, and what they read would be kept for the last of them.
MOST_ELEMENTS = 2**20
UPDATES = frozenset({"assign", "group"})


class Together(Fused):
    """The op of several loops. Its sources and results are those of all, one loop behind the other."""

    def __init__(self, ops: Sequence[Fused]) -> None:
        first = ops[0]
        self.ops = tuple(ops)
        self.members = tuple([member for op in ops for member in op.members])
        self.sources = tuple([source for op in ops for source in op.sources])
        self.results = tuple([result for op in ops for result in op.results])
        self.loop, self.described, self.conv, self.length = first.loop, first.described, None, first.length
        self.seconds = sum(op.seconds for op in ops)
        self._arity, self.in_place, self.name = len(self.sources), False, f"{first.name}_together"

    def bind(self, xp: Any, attrs: dict[str, Any]) -> Callable[..., Any]:
        if xp is not np:
            return for_gpu(GpuTogether([op.loop for op in self.ops], xp), self.results[-1].spec)
        kernels: list[Callable[..., Any]] = [op.bind(xp, attrs) for op in self.ops]
        shape, dtype = cast("tuple[int, ...]", self.results[-1].spec.shape), self.results[-1].spec.dtype

        def call(*arrays: Any, out: Any = None) -> Any:
            last = np.empty(shape, dtype) if out is None else out
            given, made = arrays[: self._arity], (*arrays[self._arity :], last)
            for op, kernel in zip(self.ops, kernels, strict=True):
                kernel(*given[: len(op.sources)], *made[: len(op.results) - 1], out=made[len(op.results) - 1])
                given, made = given[len(op.sources) :], made[len(op.results) :]
            return last

        return call

    def slicing(self, out: Any, *inputs: Any, **attrs: Any) -> None:
        return None


def together(nodes: Sequence[Node], simplified: Simplified, fetched: Collection[Tensor | Node]) -> tuple[list[Node], list[str]]:
    """``nodes`` with small loops in one that only updates of variables read, for a plan on a single GPU; and an account."""
    if not any(node.op.name == "assign" for node in nodes):
        return list(nodes), []
    ordered = {before for node in nodes if node.op.name not in UPDATES for before in node._context.control}
    if any(node.op.name in UPDATES for node in ordered):  # something waits for an update
        return list(nodes), []
    same = simplified.same
    others = {same.get(tensor, tensor) for node in nodes if node.op.name != "assign" for tensor in node.inputs}
    others |= {same.get(fetch, fetch) for fetch in fetched if isinstance(fetch, Tensor)}
    elsewhere = [node.inputs[1] for node in nodes if node.op.name == "assign" and node.inputs[0].node.device is not None]
    others |= {same.get(tensor, tensor) for tensor in elsewhere}
    found = [node for node in nodes if isinstance(node, FusedNode) and _may_be_together(node, others, ordered)]
    groups = _grouped(found)
    if not groups:
        return list(nodes), []
    gone = {node for group in groups for node in group}
    left = [node for node in nodes if node not in gone and node.op.name not in UPDATES]
    made = [_one(group) for group in groups]
    count = sum(map(len, groups))
    what = "one kernel" if len(made) == 1 else f"{len(made)} kernels"
    return [*left, *made, *[node for node in nodes if node.op.name in UPDATES]], [f"together: {count} small loops are {what}"]


def _may_be_together(node: FusedNode, others: Collection[Tensor], ordered: Collection[Node]) -> bool:
    op = node.op
    if math.prod(op.loop.dims) > MOST_ELEMENTS or node._context.device is not None or op.conv is not None:
        return False
    if any(result.is_total or result.is_row or result.tensor in others for result in op.results):
        return False
    is_apart = not any(member in ordered or member._context.control for member in op.members)
    return is_apart and lazy.cuda_together.can_be_together(op.loop, cuda_of(op.loop))


def _grouped(nodes: Sequence[FusedNode]) -> list[list[FusedNode]]:
    """Those that become one kernel: with blocks of one size, and no more arrays than a kernel can be given."""
    groups: list[list[FusedNode]] = []
    open_groups: dict[Any, tuple[list[FusedNode], int]] = {}
    for node in nodes:
        block, arrays = cuda_of(node.op.loop).launches[0].block, len(node.op.sources) + len(node.op.results)
        group, count = open_groups.get(block, ([], lazy.cuda_together.MOST_ARRAYS))
        if count + arrays > lazy.cuda_together.MOST_ARRAYS:
            group, count = [], 0
            groups.append(group)
        group.append(node)
        open_groups[block] = group, count + arrays
    return [group for group in groups if len(group) > 1]


def _one(group: Sequence[FusedNode]) -> FusedNode:
    op = Together([node.op for node in group])
    return fused_node(op, max(node.id for node in group), [tensor for node in group for tensor in node.inputs], None)
