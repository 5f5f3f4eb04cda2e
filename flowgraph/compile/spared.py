"""Spared: arrays that the loops of a GPU do not hand to each other, as the loop that reads one computes it again from what it reads anyway.

On a GPU a loop takes the time of its memory, and arithmetic beside that is free: what the forward pass computes of an array is cheaper to
compute again in the backward pass than to write and to read. An element is computed by the same primitives wherever that is, so no bit
changes. A loop borrows the nodes of another that it computes again; what no loop reads any more is not written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..graph import Node, Tensor
from ..jit.functions import Scalars
from .regions import MEMBERS, STREAMS, Region, Regions, find

# What a GPU moves and computes in a second (an H200, its arithmetic at half of the peak); only their ratio counts.
BYTES_PER_SECOND, PRIMITIVES_PER_SECOND = 4.2e12, 1.5e13
# Primitives that take as long as so many others.
LONG = {"divide": 8, "sqrt": 8}
# Times that all tensors are looked at.
ROUNDS = 4

Readers = dict[Tensor, set[Region | None]]


class Borrowed(NamedTuple):
    """What a region needs to compute a tensor again: nodes of another region, and what those read from outside."""

    nodes: dict[Node, None]
    leaves: dict[Tensor, None]


def spare(regions: Regions, loops: Sequence[Region], readers: Readers) -> list[Region]:
    """Lets ``loops``, each behind what it reads, borrow nodes where that takes less time. Changes them, and ``readers``.

    readers  for each tensor the regions that read it; None stands for a node outside, or the caller
    returns  the regions that are not as they were: they read or write other arrays
    """
    sparing = _Sparing(regions, loops, readers)
    for _ in range(ROUNDS):  # (what a loop reads for one tensor may serve for another that was looked at before)
        lent = sparing.lent
        for region in loops:
            for node in list(region.members):
                if node not in region.borrowed and region.kinds.get(node.outputs[0]) == "element":
                    sparing.look(node, region)
        if sparing.lent == lent:
            break
    return [region for region in loops if region in sparing.changed]


class _Sparing:
    def __init__(self, regions: Regions, loops: Sequence[Region], readers: Readers) -> None:
        self.regions, self.loops, self.readers = regions, set(loops), readers
        self.weights: dict[Any, int] = {}
        self.weight = {region: sum(map(self._weight, region.members)) for region in loops}
        self.reads = {region: self._read(region) for region in loops}
        self.changed: set[Region] = set()
        self.lent = 0  # tensors that regions compute again

    def look(self, node: Node, region: Region) -> None:
        """Lets those that read what ``node`` gives compute it themselves, all of them or some."""
        out = node.outputs[0]
        others = self._others(out, region)
        if not others or not self._may_be_again(node):
            return
        found = {other: borrowed for other in others if other is not None and (borrowed := self._found(out, region, other)) is not None}
        if len(found) == len(others):
            gains = [self._gain(out, other, borrowed) for other, borrowed in found.items()]
            written = self._written(region)
            kept = written - {out}
            rows = {leaf for borrowed in found.values() for leaf in borrowed.leaves if region.kinds.get(leaf) == "row"}
            before, after = (self._seconds(region, self.reads[region], made, self.weight[region]) for made in (written, kept | rows))
            if sum(gains) + before - after > 0:
                for other, borrowed in found.items():
                    self._lend(out, region, other, borrowed)
                return
        for other, borrowed in found.items():
            if self._gain(out, other, borrowed) > 0 and not any(region.kinds.get(leaf) == "row" for leaf in borrowed.leaves):
                self._lend(out, region, other, borrowed)

    # --- what may be borrowed

    def _others(self, tensor: Tensor, region: Region) -> set[Region | None]:
        return {other for reader in self.readers.get(tensor, ()) if (other := find(reader)) is not region}

    def _may_be_again(self, node: Node) -> bool:
        op, regions = node.op, self.regions
        return op.scalar is not None and not op.along_row and node not in regions.again and not regions.is_view(node)

    def _found(self, out: Tensor, region: Region, other: Region) -> Borrowed | None:
        """What ``other`` needs to compute ``out`` of ``region``; None where it cannot."""
        is_apart = other not in self.loops or other.shape != region.shape or region.request not in (None, other.request)
        if is_apart or not self.regions.reads_beside(other, out):
            return None
        borrowed = Borrowed({}, {})
        if not self._expand(out, region, other, borrowed, is_root=True):
            return None
        count, streams = len(other.members) + len(borrowed.nodes), self._streams(other, self._then_read(out, other, borrowed))
        return borrowed if count <= MEMBERS and len(streams) <= max(STREAMS, len(other.streams)) else None

    def _expand(self, tensor: Tensor, region: Region, other: Region, borrowed: Borrowed, is_root: bool = False) -> bool:
        """Adds to ``borrowed`` what ``tensor`` is computed from; whether that can be."""
        kind, node = region.kinds.get(tensor), self.regions.maker(tensor)
        if self.regions.constant_of(tensor) is not None or tensor in other.kinds or node in borrowed.nodes or tensor in borrowed.leaves:
            return True
        if kind != "element":
            return self._add_leaf(tensor, other, borrowed)
        maker = self.regions.region(node)
        is_there = maker is not None and bool(self._others(tensor, maker)) and not is_root
        if is_there and tensor in self.reads[other]:
            return self._add_leaf(tensor, other, borrowed)
        if self._may_be_again(node):
            further = Borrowed(dict(borrowed.nodes), dict(borrowed.leaves))
            inputs = self.regions.read(node, list(map(self.regions.resolved, node.inputs)))
            if all(self._expand(each, region, other, further) for each in inputs):
                further.nodes[node] = None
                new = sum(self._nbytes(leaf) for leaf in further.leaves if leaf not in borrowed.leaves and leaf not in self.reads[other])
                if not is_there or new < self._nbytes(tensor):
                    borrowed.nodes.update(further.nodes)
                    borrowed.leaves.update(further.leaves)
                    return True
        return is_there and self._add_leaf(tensor, other, borrowed)

    def _add_leaf(self, tensor: Tensor, other: Region, borrowed: Borrowed) -> bool:
        """Adds what is read from outside, where the loop of ``other`` can read it: as whole rows, or as numbers for each of them."""
        shape, rank = self.regions.spec(tensor).shape, len(other.shape)
        if len(shape) != rank and any(size != 1 for size in shape[: max(len(shape) - rank, 0)]):
            return False
        full = (1,) * (rank - len(shape)) + tuple(shape)
        along = {size != 1 for size, whole in zip(full[rank - other.row :], other.shape[rank - other.row :], strict=True) if whole != 1}
        if other.row and len(along) > 1:
            return False
        borrowed.leaves[tensor] = None
        return True

    # --- what it takes

    def _gain(self, out: Tensor, other: Region, borrowed: Borrowed) -> float:
        """Seconds that ``other`` saves."""
        written, reads, weight = self._written(other), self._then_read(out, other, borrowed), self.weight[other]
        after = self._seconds(other, reads, written, weight + sum(map(self._weight, borrowed.nodes)))
        return self._seconds(other, self.reads[other], written, weight) - after

    def _seconds(self, region: Region, reads: set[Tensor], written: set[Tensor], weight: int) -> float:
        nbytes = sum(map(self._nbytes, reads)) + sum(map(self._nbytes, written))
        return max(nbytes / BYTES_PER_SECOND, math.prod(region.shape) * weight / PRIMITIVES_PER_SECOND)

    def _weight(self, node: Node) -> int:
        """The primitives of an element."""
        regions = self.regions
        if not self._may_be_again(node):
            return 1
        key = node.op, *[regions.spec(tensor).dtype for tensor in node.inputs]
        if node.attrs or key not in self.weights:
            s = Scalars()
            inputs = [regions.constant(s, t) or s.load(i, regions.spec(t).dtype, is_row=False) for i, t in enumerate(node.inputs)]
            given = len(s.values)
            regions.value(s, node, inputs)
            self.weights[key] = sum(LONG.get(value.kind, 1) for value in s.values[given:] if value.kind != "constant")
        return self.weights[key]

    def _nbytes(self, tensor: Tensor) -> int:
        spec = self.regions.spec(tensor)
        return math.prod(spec.shape) * spec.dtype.itemsize  # type: ignore[no-any-return]

    def _read(self, region: Region) -> set[Tensor]:
        read = set()
        for node in region.members:
            read.update(self.regions.read(node, list(map(self.regions.resolved, node.inputs))))
        return {tensor for tensor in read if tensor not in region.kinds and self.regions.constant_of(tensor) is None}

    def _then_read(self, out: Tensor, other: Region, borrowed: Borrowed) -> set[Tensor]:
        return (self.reads[other] - {out} - {node.outputs[0] for node in borrowed.nodes}) | set(borrowed.leaves)

    def _streams(self, region: Region, reads: set[Tensor]) -> set[Tensor]:
        return {tensor for tensor in reads if self.regions.spec(tensor).shape == region.shape}

    def _written(self, region: Region) -> set[Tensor]:
        own = [node.outputs[0] for node in region.members if node not in region.borrowed]
        return {tensor for tensor in own if self._others(tensor, region)}

    # --- what is then otherwise

    def _lend(self, out: Tensor, region: Region, other: Region, borrowed: Borrowed) -> None:
        self.lent += 1
        self.reads[other] = self._then_read(out, other, borrowed)
        self.weight[other] += sum(map(self._weight, borrowed.nodes))
        other.borrow(borrowed.nodes, self._streams(other, self.reads[other]))
        for node in borrowed.nodes:
            made = node.outputs[0]
            self.readers[made] = {find(reader) for reader in self.readers.get(made, ())} - {other}
        for leaf in borrowed.leaves:
            self.readers.setdefault(leaf, set()).add(other)
        self.changed |= {region, other}
        for leaf in borrowed.leaves:
            maker = self.regions.region(self.regions.maker(leaf))
            if maker is not None:
                self.changed.add(maker)
