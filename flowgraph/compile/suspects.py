"""Suspects: the nodes that simplification has to look at. Of a large graph those are few, and the columns tell which."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from heapq import heappop, heappush

import numpy as np

from ..graph import Node, Tensor
from ..graph.op import Op
from .columns import LARGE, Columns, Numbers, columns_of, ids_of, order_of

# Where more than this share of the nodes are suspects, going through all of them is as quick.
MOST = 0.3


class Everyone:
    """All nodes, in their order."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def changed(self, node: Node) -> None:
        """Notes that another tensor, or a value, stands in for the output of ``node``."""

    def partners(self, inputs: Sequence[Tensor]) -> Iterator[Node]:
        """The nodes left out so far that a node which now reads ``inputs`` may repeat."""
        return iter(())


class Suspects(Everyone):
    """Some nodes, in their order, to which `changed` and `partners` add others.

    suspect  for each node of the graph whether it is among the first; ``needed``: whether the plan needs it
    """

    def __init__(self, nodes: Sequence[Node], columns: Columns, suspect: Numbers, needed: Numbers) -> None:
        self.nodes, self._columns = nodes, columns
        self._heap: list[int] = np.nonzero(suspect & needed)[0].tolist()  # ascending: that is a heap
        self._settled = bytearray((suspect | ~needed).tobytes())  # queued, looked at, or none of the plan's
        self._now = -1
        self._met: set[int] = set()

    def __iter__(self) -> Iterator[Node]:
        while self._heap:
            self._now = heappop(self._heap)
            yield self.nodes[self._now]

    def changed(self, node: Node) -> None:
        for reader in self._readers_of(node.id):
            if not self._settled[reader]:
                self._settled[reader] = 1
                heappush(self._heap, reader)

    def partners(self, inputs: Sequence[Tensor]) -> Iterator[Node]:
        _, bounds = self._by_maker
        maker = min([tensor.node.id for tensor in inputs], key=lambda maker: bounds[maker + 1] - bounds[maker])
        if maker in self._met:
            return
        self._met.add(maker)
        for reader in self._readers_of(maker):
            if self._settled[reader]:
                continue
            self._settled[reader] = 1
            if reader < self._now:
                yield self.nodes[reader]
            else:  # it will come by
                heappush(self._heap, reader)

    def _readers_of(self, node_id: int) -> list[int]:
        """The ids of the nodes that read an output of a node, ascending."""
        readers, bounds = self._by_maker
        return readers[bounds[node_id] : bounds[node_id + 1]].tolist()  # type: ignore[no-any-return]

    @cached_property
    def _by_maker(self) -> tuple[Numbers, Numbers]:
        """The readers by what they read, and where in them those of each node begin."""
        makers = self._columns.makers
        bounds = np.concatenate([[0], np.cumsum(np.bincount(makers, minlength=self._columns.count))])
        return self._columns.readers[order_of(makers)], bounds


def suspects_among(nodes: Sequence[Node], is_suspect: Callable[[Op], bool], is_constant: Callable[[Op], bool]) -> Everyone:
    """Those of ``nodes`` that may repeat another, that read a constant, or whose op is suspect; all, where these are not a large graph.

    is_suspect   whether nodes of an op may turn out to be known, whatever they read
    is_constant  whether nodes of an op are constants
    """
    if len(nodes) < LARGE:
        return Everyone(nodes)
    graph = nodes[0].graph
    columns = columns_of(graph)
    ids = ids_of(nodes)
    needed = np.zeros(columns.count, bool)
    needed[ids] = True
    suspect = np.array([is_suspect(op) for op in list(columns.table)])[columns.ops]
    hashes = columns.hashes()[ids]
    order = np.argsort(hashes)
    equal = hashes[order[1:]] == hashes[order[:-1]]
    suspect[ids[order[1:][equal]]] = suspect[ids[order[:-1][equal]]] = True
    readers, makers = columns.readers, columns.makers
    constant = np.array([is_constant(op) for op in list(columns.table)])[columns.ops]
    suspect[readers[constant[makers]]] = True
    suspect[readers[1:][(readers[1:] == readers[:-1]) & (makers[1:] == makers[:-1])]] = True  # max(x, x)
    reads = np.zeros(columns.count, bool)
    reads[readers] = True
    suspect |= ~reads
    if np.count_nonzero(suspect & needed) > MOST * len(nodes):
        return Everyone(nodes)
    return Suspects(graph.nodes, columns, suspect, needed)
