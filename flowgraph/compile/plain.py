"""Plain nodes of large graphs: which they are and of what kind, found for all of them at once from the columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..graph import Node, Spec, Tensor
from .columns import Numbers, columns_of, distinct
from .kinds import Kind, Kinds
from .units import KindTable, Stretch

_NONE = np.empty(0, np.int64)


class PlainNodes:
    """The plain ones (see `Kind`) among ``nodes``, whose ids are ``ids``.

    spec      the spec of any tensor, and ``specs``: of those of which the plan knows more than the graph
    stands_in ids of nodes -> ids of those whose first outputs are read in the place of theirs
    is_whole  whether nodes of a kind run whole, if they are plain
    is_plain  for each node
    """

    def __init__(
        self,
        nodes: list[Node],
        ids: Numbers,
        kinds: Kinds,
        spec: Callable[[Tensor], Any],
        specs: Mapping[Tensor, Any],
        stands_in: Mapping[int, int],
        is_whole: Callable[[Kind], bool],
    ) -> None:
        columns = columns_of(nodes[0].graph)
        self._nodes = nodes
        self.ids = ids
        self.is_plain = columns.is_bare[self.ids]
        rows = np.flatnonzero(self.is_plain)
        bare = self.ids[rows]
        starts, two = columns.starts[bare], columns.counts[bare] == 2
        makers = columns.makers
        if stands_in:
            place = np.arange(columns.count)
            place[list(stands_in)] = list(stands_in.values())
            makers = place[makers]
        first, second = makers[starts], np.where(two, makers[starts + two], -1)
        codes = np.array([kinds.code(Spec(*shape)) for shape in list(columns.shapes)], np.int64)[columns.specs]
        for tensor, known in specs.items():
            if tensor.index == 0:
                codes[tensor.node.id] = kinds.code(known)
        count = len(kinds.specs) + 1
        keys = (columns.ops[bare].astype(np.int64) * count + codes[first]) * count + np.where(two, codes[second] + 1, 0)
        examples, numbers = distinct(keys)
        table, operands = [], []
        for row in examples.tolist():
            inputs = tuple(codes[[first[row], second[row]] if two[row] else [first[row]]].tolist())
            kind = kinds.of(nodes[rows[row]], inputs, spec)
            table.append(kind)
            operands.append(tuple([kinds.specs[code] for code in (*inputs, kind.codes[0])]))
        self._table = KindTable(table, operands)
        self.is_plain[rows] = np.array([kind.is_plain and is_whole(kind) for kind in table], bool)[numbers]
        # For each node, where it is plain: the nodes that make its inputs, -1 for none, and its kind.
        self._reads, self._kinds = np.full((2, len(nodes)), -1, np.int32), np.full(len(nodes), -1, np.int32)
        self._reads[:, rows], self._kinds[rows] = (first, second), numbers

    def stretch(self, start: int, end: int, place: Numbers, output: int) -> Stretch:
        """Nodes start...end, all plain, as units that fill the slots from ``output`` on.

        place  for each node of the graph the slot of its first output, which for these nodes is set
        """
        place[self.ids[start:end]] = np.arange(output, output + end - start)
        reads = self._reads[:, start:end]
        slots = np.where(reads < 0, -1, place[reads]).astype(np.int32)
        assert (slots >= 0).sum() == (reads >= 0).sum()  # what they read was lowered before
        return Stretch(self._nodes[start:end], self._table, self._kinds[start:end], slots, output, _NONE, _NONE)

    def runs(self, is_taken: Numbers, shortest: int) -> list[tuple[int, int]]:
        """Where plain nodes follow each other, ``shortest`` or more, that are not taken: first and last (exclusive) of them."""
        plain = self.is_plain & ~is_taken[self.ids]
        edges = np.flatnonzero(np.diff(plain, prepend=False, append=False)).reshape(-1, 2)
        return [(start, end) for start, end in edges.tolist() if end - start >= shortest]

    def codes(self, start: int, end: int) -> list[int]:
        """The numbers of the specs of their outputs."""
        return self._table.codes[self._kinds[start:end]].tolist()  # type: ignore[no-any-return]
