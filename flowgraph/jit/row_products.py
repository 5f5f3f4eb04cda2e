"""Row products: in a loop over the rows of a matrix, the product of each row with a vector, and the sum of the rows, each times a number.

So a linear model and its gradient are one pass: the rows that were multiplied are still in the cache when what follows from their products
is known. The order of additions is that of vectors of 64 bytes, whatever the processor has: the products within a row are added up vector
upon vector, and then halves upon halves. Rows are added up one by one over as many as a loop takes at once, from there on in 64 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .arguments import CallableText
from .llvm import Target
from .text import type_of
from .values import FLOAT64

VECTOR_BYTES = 64
# Vectors of a row that the text has one by one; of a longer one they are worked off in a loop.
UNROLLED = 6


class RowProducts(CallableText):
    """The text of a loop that has such products. Rows lie behind each other, each of ``width`` numbers."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.is_wide = target.registers.count >= 32 and target.registers.bytes >= VECTOR_BYTES

    def multiply_rows(self, rows: str, vector: str, dtype: np.dtype[Any], width: int, most: int, count: str, into: str) -> None:
        """Writes the products of the first ``count`` of at most ``most`` rows with ``vector`` to ``into``."""
        lanes = VECTOR_BYTES // dtype.itemsize
        once = min(most, lanes if self.is_wide else 4)  # rows whose sums are in registers
        full, part, go = self.name("allrows"), self.name("somerows"), self.name("multiplied")
        self.line(f"br i1 {self.new(f'icmp eq i64 {count}, {most}')}, label %{full}, label %{part}")
        for label, limit, group in ((full, str(most // once), once), (part, count, 1)):
            self.label(label)
            with self.counting(limit) as number:
                first = self._at(rows, number, group * width, dtype)
                sums = self._sums_of_rows(first, vector, dtype, width, group)
                self.line(f"store <{group} x {type_of(dtype)}> {sums}, ptr {self._at(into, number, group, dtype)}, align {dtype.itemsize}")
            self.line(f"br label %{go}")
        self.label(go)

    def _sums_of_rows(self, first: str, vector: str, dtype: np.dtype[Any], width: int, count: int) -> str:
        """The products of ``count`` rows with ``vector``, as one vector."""
        lanes = VECTOR_BYTES // dtype.itemsize
        kind, (whole, rest) = type_of(dtype, lanes), divmod(width, lanes)
        starts = [self._at(first, str(row), width, dtype) for row in range(count)]

        def add(sums: Sequence[str], place: str, left: int) -> list[str]:
            weights = self._some(self._at(vector, place, 1, dtype), dtype, left)
            return [
                self.multiplied_and_added(dtype, self._some(self._at(start, place, 1, dtype), dtype, left), weights, total, lanes)
                for start, total in zip(starts, sums, strict=True)
            ]

        sums = ["zeroinitializer"] * count
        if whole > UNROLLED:
            with self.carrying(str(whole), kind, sums) as carried:
                carried.values = add(carried.values, self.new(f"mul nsw i64 {carried.counter}, {lanes}"), lanes)
            sums = carried.values
        else:
            for chunk in range(whole):
                sums = add(sums, str(chunk * lanes), lanes)
        if rest:
            sums = add(sums, str(whole * lanes), rest)
        return self._added_across(sums, dtype, lanes)

    def _added_across(self, vectors: Sequence[str], dtype: np.dtype[Any], lanes: int) -> str:
        """The sum of the lanes of each vector, halves upon halves, all as one vector."""
        size = lanes
        while size > 1:
            half = size // 2
            pairs = list(zip(vectors[0::2], vectors[1::2], strict=True)) if len(vectors) > 1 else [(vectors[0], "poison")]
            total = lanes * min(2, len(vectors))
            low = [start + k for start in range(0, total, size) for k in range(half)]
            made = []
            for one, other in pairs:
                parts = [self.shuffled(dtype, one, other, lanes, [k + by for k in low]) for by in (0, half)]
                made.append(self.new(f"fadd <{len(low)} x {type_of(dtype)}> {parts[0]}, {parts[1]}"))
            vectors, lanes, size = made, len(low), half
        return vectors[0]

    def add_rows(self, rows: str, weights: str, dtype: np.dtype[Any], width: int, count: str, totals: str) -> None:
        """Adds the first ``count`` rows, each times its number in ``weights``, to the doubles in ``totals``."""
        lanes = VECTOR_BYTES // dtype.itemsize
        kind, wide = type_of(dtype, lanes), type_of(FLOAT64, lanes)
        vectors = -(-width // lanes)
        once = min(vectors, 8 if self.is_wide else 4)
        for start in range(0, vectors, once):
            places = range(start * lanes, min(start + once, vectors) * lanes, lanes)
            with self.carrying(count, kind, ["zeroinitializer"] * len(places)) as carried:
                row = self._at(rows, carried.counter, width, dtype)
                weight = self.new(f"load {type_of(dtype)}, ptr {self._at(weights, carried.counter, 1, dtype)}, align {dtype.itemsize}")
                spread = self.spread(weight, lanes, type_of(dtype))
                carried.values = [
                    self.multiplied_and_added(
                        dtype, self._some(self._at(row, str(place), 1, dtype), dtype, width - place), spread, total, lanes
                    )
                    for place, total in zip(places, carried.values, strict=True)
                ]
            for place, total in zip(places, carried.values, strict=True):
                at = self.new(f"getelementptr double, ptr {totals}, i64 {place}")
                if dtype != FLOAT64:
                    total = self.new(f"fpext {kind} {total} to {wide}")
                before = self.new(f"load {wide}, ptr {at}, align 8")
                self.line(f"store {wide} {self.new(f'fadd {wide} {before}, {total}')}, ptr {at}, align 8")

    def _at(self, pointer: str, number: str, step: int, dtype: np.dtype[Any]) -> str:
        """``pointer`` moved on by ``number`` times ``step`` numbers."""
        offset = str(int(number) * step) if number.isdigit() else self.new(f"mul nsw i64 {number}, {step}")
        return self.new(f"getelementptr {type_of(dtype)}, ptr {pointer}, i64 {offset}")

    def _some(self, at: str, dtype: np.dtype[Any], left: int) -> str:
        """A vector from memory of which only the first ``left`` lanes may be touched; the others are 0."""
        lanes = VECTOR_BYTES // dtype.itemsize
        if left >= lanes:
            return self.new(f"load {type_of(dtype, lanes)}, ptr {at}, align {dtype.itemsize}")
        return self.masked_load(dtype, lanes, at, f"<{', '.join(f'i1 {int(k < left)}' for k in range(lanes))}>")
