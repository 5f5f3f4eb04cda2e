"""Columns: the nodes of a graph as columns of numbers, which NumPy goes through far faster than Python goes through objects.

They are kept with the graph and extended as it grows. Passes ask them which nodes of a large graph they can leave alone.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from ..graph import Graph, Node, Tensor

Numbers = np.ndarray[Any, np.dtype[Any]]

# Below this number of nodes, passes go through the objects: setting out the columns takes as long.
LARGE = 400

# Unneeded nodes are left out layer by layer: so many layers at most.
_ROUNDS = 16

# So many nodes are read at once: while they are in the processor's cache, a million takes three quarters of the time.
_AT_ONCE = 2048

# Held while columns are made, so that two threads do not give one place to two ops.
_GROWING = threading.Lock()

# Odd, with bits all over: products with them spread numbers over 64 bits.
_SPREAD = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
_HASHED_INPUTS = 4


class Columns:
    """What the nodes of a graph are and read. Never changed: of a graph that has grown there are new ones.

    count    number of nodes
    readers  for each edge the id of the node that reads, ascending
    makers   for each edge the id of the node that is read
    control  (reader, what it waits for)
    counts   for each node how many edges come in; ``starts``: the place of the first
    ops      for each node the place of its op in ``table``
    specs    for each node the place in ``shapes`` of its first output's (shape, dtype), -1 where there is none
    is_bare  for each node whether it is nothing but an op on one or two nodes' first outputs, with one output: it has no attributes,
             waits for nothing and asks for no device
    """

    def __init__(self, nodes: Sequence[Node], before: Columns | None = None) -> None:
        """nodes: of a graph; before: the columns of the first of them."""
        first = 0 if before is None else before.count
        self.count: int = len(nodes)
        self._parts: tuple[Numbers, ...]
        self.table: dict[Any, int] = _Places() if before is None else before.table
        self.shapes: dict[Any, int] = _Places() if before is None else before.shapes
        self.control: list[tuple[int, int]] = [] if before is None else list(before.control)
        self._has_several: bool = before is not None and before._has_several  # whether a node has not just one output
        parts = [] if before is None else [before._parts]
        parts += [self._read(nodes[start : start + _AT_ONCE], start) for start in range(first, self.count, _AT_ONCE)]
        self._parts = tuple([np.concatenate(column) for column in zip(*parts, strict=True)])
        self.counts, self.makers, self.readers, self.ops, self.specs, self.is_bare = self._parts
        self.starts = np.cumsum(self.counts, dtype=np.int32) - self.counts

    def _read(self, nodes: Sequence[Node], first: int) -> tuple[Numbers, ...]:
        """The columns of some nodes, the first of which has the id ``first``."""
        inputs, outputs, contexts = (list(map(attrgetter(name), nodes)) for name in ("inputs", "outputs", "_context"))
        counts = np.fromiter(map(len, inputs), np.int32, len(nodes))
        makers = np.array([tensor.node.id for read in inputs for tensor in read], np.int32)
        rows = np.repeat(np.arange(len(nodes), dtype=np.int32), counts)
        ops = np.fromiter(map(self.table.__getitem__, map(attrgetter("op"), nodes)), np.int32, len(nodes))
        is_bare = (counts == 1) | (counts == 2)
        has_one = np.fromiter(map(len, outputs), np.int32, len(nodes)) == 1
        is_bare &= has_one
        is_bare &= ~np.fromiter(map(bool, map(attrgetter("attrs"), nodes)), bool, len(nodes))
        self._has_several |= not has_one.all()
        if self._has_several:
            is_bare[rows[[tensor.index > 0 for read in inputs for tensor in read]]] = False
        if any(context.control or context.device or context.colocated for context in set(contexts)):
            for row, context in enumerate(contexts):
                if context.control or context.device or context.colocated:
                    self.control += [(first + row, node.id) for node in context.control]
                    is_bare[row] = False
        return counts, makers, rows + np.int32(first), ops, self._specs(outputs), is_bare

    def _specs(self, outputs: Sequence[tuple[Tensor, ...]]) -> Numbers:
        """The column `specs` of some nodes."""
        result, shapes = [], self.shapes
        shape, dtype, place = None, None, -1
        for made in outputs:
            if not made:
                result.append(-1)
                continue
            first = made[0]
            if first.dtype is not dtype or first.shape != shape:  # many that follow each other have one spec
                shape, dtype = first.shape, first.dtype
                place = shapes[shape, dtype]
            result.append(place)
        return np.array(result, np.int32)

    def hashes(self) -> Numbers:
        """For each node a number: equal for nodes of one op that read the same nodes, and for hardly any others."""
        return _hashes(self.ops, self.counts, self.makers)


def wanted_nodes(
    columns: Columns, size: int, fetched: Iterable[int], given: Iterable[int], added: Sequence[tuple[int, int]] = ()
) -> Numbers | None:
    """Which of the first ``size`` nodes are needed, as booleans; None where that is quicker found from node to node.

    fetched  ids of the nodes that are asked for
    given    ids of those whose inputs are not needed
    added    (reader, what it reads): edges besides those of the graph
    """
    asked = np.zeros(size, bool)
    asked[list(fetched)] = True
    reads = np.ones(size, bool)
    reads[list(given)] = False
    end = np.searchsorted(columns.readers, size)
    readers, makers = columns.readers[:end], columns.makers[:end]
    control = np.array([edge for edge in columns.control if edge[0] < size], np.int64).reshape(-1, 2)
    more = np.array(added, np.int64).reshape(-1, 2)
    result = np.ones(size, bool)
    # Inputs have smaller ids, so that all are needed if each is read. Where some are not, they are left out, then what only they read...
    for _ in range(_ROUNDS):
        counts = result & reads
        read = asked.copy()
        read[makers[counts[readers]]] = True
        read[control[counts[control[:, 0]], 1]] = True
        read[more[result[more[:, 0]], 1]] = True
        if not (result & ~read).any():
            return result
        result &= read
    return None


class _Places(dict[Any, int]):
    """Key -> its place among the keys, in the order in which they were first asked for."""

    def __missing__(self, key: Any) -> int:
        place = self[key] = len(self)
        return place


def columns_of(graph: Graph) -> Columns:
    """The columns of all nodes that ``graph`` has now."""
    columns: Columns | None = graph.memo.get("columns")
    if columns is None or columns.count < len(graph.nodes):
        with _GROWING:
            columns = graph.memo["columns"] = Columns(list(graph.nodes), graph.memo.get("columns"))
    return columns


def ids_of(nodes: Collection[Node]) -> Numbers:
    """Their ids, in their order."""
    return np.fromiter(map(attrgetter("id"), nodes), np.int64, len(nodes))


def order_of(keys: Numbers) -> Numbers:
    """The places of ``keys``, whole numbers from 0 to 2**31, in the order of the keys; of equal ones the first goes first.

    (`np.argsort` does it too, in three times the time.)
    """
    return np.sort((keys.astype(np.int64) << 32) | np.arange(len(keys))) & 0xFFFFFFFF


def distinct(keys: Numbers) -> tuple[Numbers, Numbers]:
    """The places of different ``keys``, one each, and for each key which of them is its equal.

    (`np.unique` does it too, but loads `np.ma` when it is first called, which takes 10 ms.)
    """
    least = keys.min(initial=0)
    most = int(keys.max(initial=0) - least)
    if most < 4 * len(keys):
        found = np.full(most + 1, -1)
        found[keys[::-1] - least] = np.arange(len(keys))[::-1]  # (of several that are written to one place the last stays)
        places = found[found >= 0]
        found[keys[places] - least] = np.arange(len(places))
        return places, found[keys - least]
    order = np.argsort(keys, kind="stable")
    is_new = np.diff(keys[order], prepend=keys[order[:1]] - 1) != 0
    numbers = np.empty(len(keys), np.int64)
    numbers[order] = np.cumsum(is_new) - 1
    return order[is_new], numbers


def _hashes(ops: Numbers, counts: Numbers, makers: Numbers) -> Numbers:
    """Of ops and inputs in their order. Of many inputs only the first count."""
    result = (ops.astype(np.uint64) + np.uint64(1)) * _SPREAD[0]
    starts = np.cumsum(counts) - counts
    for position in range(min(_HASHED_INPUTS, int(counts.max(initial=0)))):
        rows = np.nonzero(counts > position)[0]
        made = makers[starts[rows] + position].astype(np.uint64)
        mixed = (result[rows] ^ made) * _SPREAD[1]
        result[rows] = mixed ^ (mixed >> np.uint64(29))
    return result
