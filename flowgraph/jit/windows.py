"""Windows that move over the rows and columns of images: where they lie, and what the kernels share that lay images out for them.

What one column of the windows meets at all positions is a run of memory once its columns have been laid out: each image is copied once for
each column of a window. Its rows stay in order, so that the rows of a window share the copy.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from ..records import Record
from .arrays import ArrayKernel, chunks, power_of_two
from .llvm import Target

Pair = tuple[int, int]

# From so many vectors on that are alike, a row is worked off in a loop, and not line by line in the text.
LOOPED = 4

# With a step of k, vectors of k times the lanes are loaded, of which one number in k is wanted.
MOST_STEP = 4
LONGEST_ROW = 512


class Windows(Record):
    """The shapes of windows: of images, windows, their steps, the border ((top, bottom), (left, right)) and the gaps between pixels."""

    image: Sequence[int]
    window: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[Pair]
    dilation: Sequence[int] = (1, 1)

    @cached_property
    def size(self) -> Pair:
        """How many there are: of the output."""
        down, along = (
            (self.image[k] + sum(self.padding[k]) - self.dilation[k] * (self.window[k] - 1) - 1) // self.stride[k] + 1 for k in range(2)
        )
        return down, along

    @property
    def is_supported(self) -> bool:
        """Whether `WindowKernel` can be used."""
        step, width = self.stride[1], self.image[1]
        # (Steps that do not divide the lanes have a text for each vector of a row.)
        return (step <= 2 or (step <= MOST_STEP and width <= LONGEST_ROW)) and min(*self.image, *self.window, *self.size) > 0

    def rows(self, count: int) -> Rows:
        """The layout of what ``count`` rows of the output meet."""
        return Rows(self.window[0], self.stride[0], self.dilation[0], count)


class Rows:
    """The order in which the rows of a padded image are laid out: those that follow each other at one row of the windows are neighbours.

    Row r of the output meets row ``r * stride + k * dilation`` under row k of its window. So rows are sorted by their remainder on division
    by the stride; only those remainders are laid out that occur.
    """

    def __init__(self, window: int, stride: int, dilation: int, count: int) -> None:
        self.stride, self.count = stride, count
        places = [divmod(k * dilation, stride) for k in range(window)]
        self.lengths = {r: count + max(q for q, other in places if other == r) for r in sorted({r for _, r in places})}
        self.starts, self.total = {}, 0
        for remainder, length in self.lengths.items():
            self.starts[remainder] = self.total
            self.total += length
        self.offsets = [self.starts[r] + q for q, r in places]  # for each row of the windows: where its first row is


class Chunk(Record):
    """``count`` numbers of a row from ``first`` on; in a loop, from ``moved`` (a name) further on."""

    first: int
    count: int
    moved: str = "0"


class WindowKernel(ArrayKernel):
    """A kernel of images."""

    def __init__(self, target: Target, dtype: np.dtype[Any], count: int, windows: Windows) -> None:
        super().__init__(target, dtype, count)
        self.windows = windows
        self.lanes = self.registers.bytes // dtype.itemsize
        (self.height, self.width), (self.kh, self.kw), (self.down, self.along) = windows.image, windows.window, windows.size
        self.pixels, self.positions = self.height * self.width, self.down * self.along
        self.copies, self.pitch = self.kw, self.along  # of a plane that is laid out: how many, and the numbers of their rows

    def name_offsets(self, rows: Rows) -> None:
        """Makes `offset` know where each row of the windows finds its pixels."""
        table = ", ".join(f"i64 {offset * self.pitch}" for offset in rows.offsets)
        self.declared["rows"] = f"@rows = private constant [{self.kh} x i64] [{table}]"

    def offset(self, row: str) -> str:
        return self.new(f"load i64, ptr {self.new(f'getelementptr i64, ptr @rows, i64 {row}')}")

    def in_chunks(self, length: int, is_inner: Callable[[int], bool]) -> Iterator[Chunk]:
        """A row as vectors. Those that are whole and of which ``is_inner(first)`` is true must be alike: where many follow each other, what
        is written for one becomes a loop.
        """
        rest = chunks(length, self.lanes)
        while rest:
            inner = list(itertools.takewhile(lambda chunk: chunk[1] == self.lanes and is_inner(chunk[0]), rest))
            if len(inner) < LOOPED:
                yield Chunk(*rest.pop(0))
                continue
            with self.counting(str(len(inner))) as i:
                yield Chunk(*inner[0], self.new(f"mul nsw i64 {i}, {self.lanes}"))
            rest = rest[len(inner) :]

    def lay_out(self, image: str, target: str, planes: int, rows: Rows, first: str = "0") -> None:
        """Copies some planes to (plane, column of the windows, row, column of the output), from output row ``first`` on.

        With one copy for all columns of the windows, the last axis is that of the padded image, as far as it is met.
        """
        (top, _), stride, room = self.windows.padding[0], self.windows.stride, rows.total * self.pitch
        begins = self.new(f"mul nsw i64 {first}, {stride[0]}")
        with self.counting(str(planes)) as plane:
            source, goal = self.at(image, (plane, self.pixels)), self.at(target, (plane, self.copies * room))
            for remainder, start in rows.starts.items():
                with self.counting(str(rows.lengths[remainder])) as j:
                    place = self.new(f"add nsw i64 {self.new(f'mul nsw i64 {j}, {stride[0]}')}, {remainder - top}")
                    row = self.new(f"add nsw i64 {place}, {begins}")
                    pixels, laid = self.at(source, (row, self.width)), self.at(goal, (j, self.pitch), start * self.pitch)
                    last = (self.down - 1 - rows.count + rows.lengths[remainder]) * stride[0] + remainder - top
                    if remainder >= top and last < self.height:
                        self._lay_row_out(pixels, laid, room)
                        continue
                    # The last output row may leave some of the last rows unmet: below the image they do not count.
                    valid = self.new(f"icmp ult i64 {row}, {self.height}")
                    with self.only_if(valid):
                        self._lay_row_out(pixels, laid, room)
                    with self.only_if(self.new(f"xor i1 {valid}, true")):
                        for k in range(self.copies):
                            for chunk in self.in_chunks(self.pitch, lambda first: True):
                                self.store_first("zeroinitializer", self.at(laid, k * room + chunk.first, chunk.moved), chunk.count)

    def _lay_row_out(self, pixels: str, target: str, room: int) -> None:
        step, (left, _) = self.windows.stride[1], self.windows.padding[1]
        for k in range(self.copies):
            met = k * self.windows.dilation[1] - left
            for chunk in self.in_chunks(self.pitch, partial(self.is_within, met=met)):
                place, at = self.at(pixels, (chunk.moved, step)), chunk.first * step + met
                vector = self.load_steps(place, at, step, chunk.count, self.width)
                self.store_first(vector, self.at(target, k * room + chunk.first, chunk.moved), chunk.count)

    def is_within(self, first: int, met: int) -> bool:
        """Whether all that a vector of output columns meets lies within the image, where column c meets ``c * step + met``."""
        step = self.windows.stride[1]
        return first * step + met >= 0 and (first + self.lanes) * step + met <= self.width

    def put_together(self, rows: Rows, sums: str, target: str, apart: int) -> None:
        """One plane, the sum of what its pixels are sent by each column of the windows: laid out in ``sums``, ``apart`` numbers apart."""
        (top, _), stride = self.windows.padding[0], self.windows.stride[0]
        for h in range(min(stride, self.height)):
            more, remainder = divmod(h + top, stride)
            count = len(range(h, self.height, stride))
            met = min(count, max(0, rows.lengths.get(remainder, 0) - more))  # the others are met by no window
            with self.counting(str(met)) as j:
                row = self.at(sums, (j, self.along), (rows.starts.get(remainder, 0) + more) * self.along)
                self._put_row_together(row, self.at(target, (j, stride * self.width), h * self.width), apart)
            with self.counting(str(count - met)) as j:
                place = self.at(target, (j, stride * self.width), (h + met * stride) * self.width)
                for chunk in self.in_chunks(self.width, lambda first: True):
                    self.store_first("zeroinitializer", self.at(place, chunk.first, chunk.moved), chunk.count)

    def _put_row_together(self, sums: str, target: str, apart: int) -> None:
        step = self.windows.stride[1]

        def is_inner(first: int) -> bool:
            """Whether each column of the windows sends all that it can to these pixels, and the same ones each time."""
            return self.lanes % step == 0 and all(len(self._senders(first, self.lanes, k)) == self.lanes // step for k in range(self.kw))

        for chunk in self.in_chunks(self.width, is_inner):
            lanes = power_of_two(chunk.count)
            moved = chunk.moved if step == 1 or chunk.moved == "0" else self.new(f"sdiv exact i64 {chunk.moved}, {step}")
            total = "zeroinitializer"
            for k in range(self.kw):
                met = self._senders(chunk.first, chunk.count, k)
                if not met:
                    continue
                begin = min(met.values()) - (min(met) if step == 1 else 0)
                used = [begin + j in met.values() for j in range(lanes)]
                sent = self.load(self.at(sums, k * apart + begin, moved), lanes, self.lanes_of(used))
                if step > 1:
                    order = [met[lane] - begin if lane in met else lanes for lane in range(lanes)]
                    sent = self.shuffle(sent, "zeroinitializer", lanes, order)
                total = self.arithmetic("fadd", total, sent, lanes) if total != "zeroinitializer" else sent
            self.store_first(total, self.at(target, chunk.first, chunk.moved), chunk.count)

    def _senders(self, first: int, count: int, k: int) -> dict[int, int]:
        """For pixels of a row, counted from ``first``, the output column that meets each by column k of its window, where there is one."""
        (left, _), step, gap = self.windows.padding[1], self.windows.stride[1], self.windows.dilation[1]
        places = [divmod(first + lane + left - k * gap, step) for lane in range(count)]
        return {lane: q for lane, (q, r) in enumerate(places) if r == 0 and 0 <= q < self.along}
