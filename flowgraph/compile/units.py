"""Units of large plans: those of plain nodes stay columns, and become objects only when somebody looks at them.

A graph of a million nodes has a first result before a million objects would be made, and most plans are never looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from ..graph import Node
from ..records import Record
from .columns import Numbers
from .kinds import Kind
from .plan import Unit


class KindTable:
    """Kinds, each of plain nodes, for each the specs of its operands, the result last, and what it costs."""

    def __init__(self, kinds: Sequence[Kind], operands: Sequence[tuple[Any, ...]]) -> None:
        self.kinds, self.operands = kinds, operands
        self.kernels = [kind.kernel for kind in kinds]
        self.codes = np.array([kind.codes[0] for kind in kinds], np.int64)
        self.nbytes = np.array([kind.nbytes for kind in kinds], np.int64)
        self.seconds = np.array([kind.seconds for kind in kinds], np.float64)


class Stretch(Record, frozen=False, eq=False, slots=True):
    """Units of plain nodes that follow each other: each runs one kernel, which makes one new array.

    table    kinds, and ``kinds``: for each unit the number of its kind
    reads    (2, n): the slots that each reads, -1 where it reads one
    first    the slot that the first fills; each of the others fills the next
    freed    slots that are freed, and ``freeing``: for each of them the unit behind which
    """

    nodes: list[Node]
    table: KindTable
    kinds: Numbers
    reads: Numbers
    first: int
    freed: Numbers
    freeing: Numbers

    def __len__(self) -> int:
        return len(self.nodes)

    @property
    def outputs(self) -> range:
        """The slots that they fill."""
        return range(self.first, self.first + len(self.nodes))

    @property
    def nbytes(self) -> Numbers:
        """For each unit the bytes that it makes."""
        return self.table.nbytes[self.kinds]

    @property
    def seconds(self) -> float:
        """Estimated, of all of them."""
        return float(self.table.seconds[self.kinds].sum())

    def frees(self) -> list[tuple[int, ...]]:
        """For each unit the slots that it frees."""
        result: list[tuple[int, ...]] = [()] * len(self.nodes)
        for slot, unit in zip(self.freed.tolist(), self.freeing.tolist(), strict=True):
            result[unit] += (slot,)
        return result

    def kernels(self) -> list[Callable[..., Any]]:
        """For each unit its kernel."""
        return list(map(self.table.kernels.__getitem__, self.kinds.tolist()))

    def units(self, device: str) -> list[Unit]:
        """The same as objects."""
        kinds = map(self.table.kinds.__getitem__, self.kinds.tolist())
        inputs = [(a,) if b < 0 else (a, b) for a, b in zip(*self.reads.tolist(), strict=True)]
        columns = zip(kinds, self.nodes, inputs, self.outputs, strict=True)
        result = [kind.unit(node, slots, output, device) for kind, node, slots, output in columns]
        for unit, frees in zip(result, self.frees(), strict=True):
            unit.frees = frees
        return result


class Units(Sequence[Unit]):
    """The units of a plan in their order. Looked at one by one, they become objects for good, and ``chunks`` is empty.

    chunks  units, and stretches of them
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.chunks: list[Unit | Stretch] = []
        self._objects: list[Unit] = []
        self._count = 0

    def append(self, unit: Unit) -> None:
        self.chunks.append(unit)
        self._count += 1

    def extend(self, stretch: Stretch) -> None:
        """Adds the units of a stretch."""
        self.chunks.append(stretch)
        self._count += len(stretch)

    def objects(self) -> list[Unit]:
        """The units as objects, always the same."""
        if self.chunks:
            objects: list[Unit] = []
            for chunk in self.chunks:
                if isinstance(chunk, Stretch):
                    objects += chunk.units(self.device)
                else:
                    objects.append(chunk)
            self._objects, self.chunks = objects, []
        return self._objects

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Unit: ...
    @overload
    def __getitem__(self, index: slice) -> list[Unit]: ...
    def __getitem__(self, index: Any) -> Any:
        return self.objects()[index]

    def __iter__(self) -> Iterator[Unit]:
        return iter(self.objects())


def chunks_of(units: Sequence[Unit]) -> Sequence[Unit | Stretch]:
    """``units`` as they are kept: stretches among them, unless somebody has looked at each."""
    return units.chunks or units.objects() if isinstance(units, Units) else units
