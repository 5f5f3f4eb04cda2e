"""Two-dimensional convolution and its two gradients, as the texts of LLVM modules. Arrays are (batch, channels, height, width).

All three are products of small tiles that stay in registers. Vectors run along the positions of the output, row after row, so that arrays
are read and written as they lie. What one column of a filter meets at all positions is a run of memory once the image's columns have been
laid out for it: `WindowKernel.lay_out` copies each image once for each column of the filter, and its rows stay in order, so that the
rows of the filter share the copy; where no vector has parts of two rows of the output, so do the columns. Only in the gradient by many
filters do vectors run along the outputs.

Every sum is added up in an order that the shapes decide: the same for each image, in whatever slice of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np

from ..records import Record, replace
from .arrays import divisors, power_of_two, tiles
from .llvm import Target
from .loops import Operand
from .text import literal, type_of
from .values import Value, in_order
from .windows import Pair, WindowKernel, Windows

# Bytes of a laid out image, at most, if fewer rows at a time can help: a level-2 cache. (With a quarter of it, images of 7 x 7 with 512
# channels were worked off row by row, in vectors half empty, at half the speed.)
LAID_OUT_BYTES = 1 << 20
# The same for many outputs in bands that fill their vectors: with registers of less than 64 bytes, and where no vector has parts of two
# rows. (On a Zen 3, whose level-2 cache has 512 KB, 62 Gflop/s became 75 for 256 channels of 14 x 14, by 200 KB at a time for 1 MB.)
SMALL_BYTES, WHOLE_ROWS_BYTES = 200 << 10, 64 << 10
# The rows of filters of no more numbers are not a loop, but written out one after the other. (Of 25 numbers they were slower so.)
UNROLLED = 9
# With fewer positions in an image, most lanes of the vectors are empty, and BLAS wins.
FEWEST_POSITIONS = 8
# Bytes of what the gradient by the images reads of its cotangent at a time, again and again for the rows of the filter.
PANEL_BYTES = 64 << 10
# Vectors of the gradient by the filters run along the outputs where so much of two or more is used, and filters have so many numbers that
# it pays to transpose the cotangent; else along the positions.
FULL, FEWEST_TAPS = 7 / 8, 64
# So many positions are summed up in registers then: what they read of the cotangent stays in a level-1 cache.
BLOCK_POSITIONS = 128
# Bytes of what a tile of the gradient by the weights reads, at most, if fewer images or rows at a time can help: a level-1 cache.
TILE_BYTES = 48 << 10


class Convolution(Record):
    """The shapes of a convolution.

    image    (channels, height, width)
    filters  (out, height, width)
    stride, dilation  (vertical, horizontal)
    padding  ((top, bottom), (left, right))
    groups   of channels, and of as many filters, that do not meet
    """

    dtype: np.dtype[Any]
    image: Sequence[int]
    filters: Sequence[int]
    stride: Sequence[int] = (1, 1)
    padding: Sequence[Pair] = ((0, 0), (0, 0))
    dilation: Sequence[int] = (1, 1)
    groups: int = 1

    @cached_property
    def windows(self) -> Windows:
        return Windows(self.image[1:], self.filters[1:], self.stride, self.padding, self.dilation)

    @property
    def size(self) -> Pair:
        """Of the output."""
        return self.windows.size

    @property
    def fills_vectors(self) -> bool:
        """Whether images are large enough for the convolution and its gradient by them; that by the filters does well with all."""
        return math.prod(self.size) >= FEWEST_POSITIONS

    @property
    def has_many_outputs(self) -> bool:
        """Whether the gradient by the filters is best made in vectors of outputs."""
        outputs, lanes = self.filters[0] // self.groups, 64 // self.dtype.itemsize
        taps = self.image[0] // self.groups * math.prod(self.filters[1:])
        return outputs > lanes and outputs >= FULL * (-(-outputs // lanes) * lanes) and taps >= FEWEST_TAPS

    @property
    def is_supported(self) -> bool:
        """Whether the texts below can be written."""
        return (
            self.dtype.char in "fd"
            and self.filters[2] <= 64 // self.dtype.itemsize
            and min(self.image[0], self.filters[0]) > 0
            and self.windows.is_supported
        )


class Epilogue(Record):
    """What is made of each number of the output before it is stored.

    value     the result, of loads that are numbered as the operands are
    operands  for each what it has: "sum", the convolution's number; "channel", one for each channel; "image", one for each number of the
              output
    """

    value: Value
    operands: tuple[str, ...]


class Conv(Record):
    """The kernel (x, w, out) of the convolution; with an epilogue, (x, w, those of its operands that are no sums, out)."""

    conv: Convolution
    epilogue: Epilogue | None = None

    works_in_place = False

    @property
    def operands(self) -> tuple[Operand, ...]:
        more = len(self.epilogue.operands) - 1 if self.epilogue else 0
        return (Operand(self.conv.dtype, (True,)),) * (2 + more)

    def text(self, target: Target) -> str:
        return _Conv(self, target).text()


class ConvPool(Record):
    """The kernel of a convolution whose output is pooled by ``pool``, a `MaxPool` or `AvgPool` of it: (x, w, those of an epilogue, out)."""

    conv: Conv
    pool: Any

    works_in_place = False

    @property
    def operands(self) -> tuple[Operand, ...]:
        return self.conv.operands

    def text(self, target: Target) -> str:
        return _ConvPool(self, target).text()


class ConvInputGrad(Record):
    """The kernel (g, w, out) of the gradient by the images."""

    conv: Convolution

    @property
    def operands(self) -> tuple[Operand, ...]:
        return (Operand(self.conv.dtype, (True,)),) * 2

    def text(self, target: Target) -> str:
        return _InputGrad(self, target).text()


class ConvWeightGrad(Record):
    """The kernel (g, x, out) of the gradient by the filters."""

    conv: Convolution

    @property
    def operands(self) -> tuple[Operand, ...]:
        return (Operand(self.conv.dtype, (True,)),) * 2

    def text(self, target: Target) -> str:
        return (_WeightGradAlongOutputs if self.conv.has_many_outputs else _WeightGrad)(self, target).text()


class _Writer(WindowKernel):
    """What the three share."""

    def __init__(self, kernel: Conv | ConvInputGrad | ConvWeightGrad, target: Target) -> None:
        conv = self.conv = kernel.conv
        super().__init__(target, conv.dtype, len(kernel.operands) + 1, conv.windows)
        self.groups = conv.groups
        self.channels, self.outputs = conv.image[0] // conv.groups, conv.filters[0] // conv.groups  # of one group
        self.taps = self.channels * self.kh * self.kw  # numbers of one filter

    def images_of(self, array: int, image: str, group: str, each: int) -> str:
        """Where in an array an image's part of a group begins, which has ``each`` numbers."""
        return self.at(f"%p{array}", (image, self.groups * each), (group, each))

    def filters_of(self, array: int, group: str) -> str:
        return self.at(f"%p{array}", (group, self.outputs * self.taps))

    def tiled(self, parts: list[tuple[int, int]], write: Any) -> None:
        """Calls ``write(first, size)`` within a loop over the parts of each size; ``first`` is the name of where a part begins."""
        done = 0
        for count, size in parts:
            if count == 1:
                write(str(done), size)
            else:
                with self.counting(str(count)) as i:
                    write(self.new(f"add nsw i64 {self.new(f'mul nsw i64 {i}, {size}')}, {done}"), size)
            done += count * size

    def one(self, at: str) -> str:
        """A number from memory in all lanes."""
        return self.spread(self.new(f"load {self.number}, ptr {at}"), self.lanes, self.number)


class _Conv(_Writer):
    """Tiles of some outputs at some vectors of positions; the images are laid out a band of rows at a time."""

    def __init__(self, kernel: Conv, target: Target) -> None:
        super().__init__(kernel, target)
        self.kernel = kernel
        # (With few outputs more vectors, so that enough sums are under way to hide how long each step takes.)
        most, vectors = self.registers.accumulators(self.registers.bytes), max(self.registers.shared, -(-8 // self.outputs))
        self.has_whole_rows = self.along % self.lanes == 0 and self.windows.stride[1] == 1  # no vector has parts of two rows
        if self.has_whole_rows:
            self.copies, self.pitch = 1, self.along + (self.kw - 1) * self.windows.dilation[1]
            row = self.along // self.lanes  # (tiles that are parts of rows, or some rows, find all their pixels from one address)
            vectors = max((n for n in range(vectors // 2 + 1, vectors + 1) if row % n == 0 or n % row == 0), default=vectors)
        self.band = self._rows_at_once()
        self.rows = self.windows.rows(self.band)
        self.length = self.band * self.along  # of a band, in positions
        self.room = self.rows.total * self.pitch
        total = -(-self.length // self.lanes)
        self.position_tiles = tiles(total, min(vectors, total))
        self.output_tiles = tiles(self.outputs, max(1, most // self.position_tiles[0][1]))
        self.scratch = self.channels * self.copies * self.room + 2 * total * self.lanes

    def _rows_at_once(self) -> int:
        """The largest number of rows whose pixels, laid out, are near at hand, and that fill their vectors; else that are in the cache."""
        small = WHOLE_ROWS_BYTES if self.has_whole_rows else SMALL_BYTES if self.registers.bytes < 64 else LAID_OUT_BYTES

        def fills(rows: int) -> bool:
            vectors = -(-rows * self.along // self.lanes)
            return vectors > 1 and rows * self.along >= FULL * vectors * self.lanes

        numbers = [rows for rows in divisors(self.down) if self._laid_out(rows) <= LAID_OUT_BYTES]
        # (Few outputs are not worth that rows are laid out twice where bands meet.)
        near = [rows for rows in numbers if self._laid_out(rows) <= small and fills(rows) and self.outputs >= 16]
        return max(near or numbers, default=1)

    def _laid_out(self, rows: int) -> int:
        return self.channels * self.copies * self.windows.rows(rows).total * self.pitch * self.dtype.itemsize

    def body(self) -> None:
        self.name_offsets(self.rows)
        bands = str(self.down // self.band)
        with self.counting("%n0") as image, self.counting(str(self.groups)) as group:
            y = self._begin(image, group)
            with self.counting(bands) as band:
                x = self.images_of(0, image, group, self.channels * self.pixels)
                self.lay_out(x, "%scratch", self.channels, self.rows, self.new(f"mul nsw i64 {band}, {self.band}"))
                self.w = self.filters_of(1, group)
                self.y = self.at(y, (band, self.length))
                self._find_operands(image, group, band)
                self.tiled(self.output_tiles, lambda o, outputs: self.tiled(self.position_tiles, lambda v, n: self._tile(o, outputs, v, n)))
            self._end(image, group)

    def _begin(self, image: str, group: str) -> str:
        """Where the output for a group of an image begins."""
        return self.images_of(self.arrays - 1, image, group, self.outputs * self.positions)

    def _end(self, image: str, group: str) -> None:
        """What follows when that is there."""

    def _of_band(self, array: int, image: str, group: str, band: str) -> str:
        """Where in the output, or an array like it, a band begins."""
        return self.at(self.images_of(array, image, group, self.outputs * self.positions), (band, self.length))

    def _find_operands(self, image: str, group: str, band: str) -> None:
        """Those of the epilogue: for each what it has, and where that begins for the outputs of a group in a band."""
        self.operands: list[tuple[str, str]] = []
        array = 2
        for what in self.kernel.epilogue.operands if self.kernel.epilogue else ():
            if what == "sum":
                self.operands.append((what, ""))
                continue
            self.operands.append(
                (what, self.at(f"%p{array}", (group, self.outputs)) if what == "channel" else self._of_band(array, image, group, band))
            )
            array += 1

    def _tile(self, first: str, outputs: int, at: str, vectors: int) -> None:
        kind, lanes, w = self.vector(self.lanes), self.lanes, self.at(self.w, (first, self.taps))
        runs = self._pixels(at, vectors)
        with self.carrying(str(self.channels), kind, ["zeroinitializer"] * (outputs * vectors)) as outer:
            of_channel = [(self.at(x, (outer.counter, self.copies * self.room)), size) for x, size in runs]
            filters = self.at(w, (outer.counter, self.kh * self.kw))

            def add(sums: list[str], row: int | str, weights: str) -> None:
                """What one row of the filters adds, whose pixels are ``row`` numbers further on."""
                pixels = [self.at(x, row, v * lanes) for x, size in of_channel for v in range(size)]
                for k in range(self.kw):
                    column = k * self.room if self.copies > 1 else k * self.windows.dilation[1]
                    met = [self.load(self.at(place, column), lanes) for place in pixels]
                    for o in range(outputs):
                        weight = self.one(self.at(weights, o * self.taps + k))
                        for v in range(vectors):
                            sums[o * vectors + v] = self.fma(met[v], weight, sums[o * vectors + v], lanes)

            if self.kh * self.kw <= UNROLLED:
                for row, offset in enumerate(self.rows.offsets):
                    add(outer.values, offset * self.pitch, self.at(filters, row * self.kw))
            else:
                with self.carrying(str(self.kh), kind, outer.values) as inner:
                    add(inner.values, self.offset(inner.counter), self.at(filters, (inner.counter, self.kw)))
                outer.values = inner.values
        masks = [self._mask(at, v, vectors) for v in range(vectors)]
        for o in range(outputs):
            place = (first, self.positions), o * self.positions, (at, lanes)
            spread = {k: self.one(self.at(array, first, o)) for k, (what, array) in enumerate(self.operands) if what == "channel"}
            for v, total in enumerate(outer.values[o * vectors : (o + 1) * vectors]):
                loads = {**spread, **{k: total for k, (what, _) in enumerate(self.operands) if what == "sum"}}
                for k, (what, array) in enumerate(self.operands):
                    if what == "image":
                        loads[k] = self.load(self.at(array, *place, v * lanes), lanes, masks[v])
                self.store(self._finished(total, loads), self.at(self.y, *place, v * lanes), lanes, masks[v])

    def _pixels(self, at: str, vectors: int) -> list[tuple[str, int]]:
        """Where a tile finds what its positions meet: runs of memory, each with its number of vectors."""
        if not self.has_whole_rows:
            return [(self.at("%scratch", (at, self.lanes)), vectors)]
        of_row = self.along // self.lanes
        size = math.gcd(of_row, *(size for _, size in self.position_tiles))  # no run has parts of two rows
        runs = []
        for v in range(0, vectors, size):
            begin = self.new(f"add nsw i64 {at}, {v}")
            row, column = self.new(f"sdiv i64 {begin}, {of_row}"), self.new(f"srem i64 {begin}, {of_row}")
            runs.append((self.at("%scratch", (row, self.pitch), (column, self.lanes)), size))
        return runs

    def _finished(self, total: str, loads: dict[int, str]) -> str:
        """The epilogue of a vector, whose operands are in ``loads``."""
        if self.kernel.epilogue is None:
            return total
        names: dict[Value, str] = {}
        for value in in_order([self.kernel.epilogue.value]):
            if value.kind == "load":
                names[value] = loads[value.data]
            elif value.kind == "constant":
                names[value] = f"splat ({type_of(value.dtype)} {literal(np.frombuffer(value.data, value.dtype)[0], value.dtype)})"
            else:
                names[value] = self.primitive(value, self.lanes, [names[x] for x in value.inputs])
        return names[self.kernel.epilogue.value]

    def _mask(self, at: str, v: int, vectors: int) -> str | None:
        """Of the lanes within the band, for the last vector of a tile."""
        if self.length % self.lanes == 0 or v < vectors - 1:
            return None
        begins = self.new(f"mul nsw i64 {self.new(f'add nsw i64 {at}, {v}')}, {self.lanes}")
        return self.lanes_below(self.new(f"sub nsw i64 {self.length}, {begins}"), self.lanes)


class _ConvPool(_Conv):
    """The output for a group of an image lies in scratch memory until it is pooled."""

    def __init__(self, kernel: ConvPool, target: Target) -> None:
        super().__init__(kernel.conv, target)
        self.pool = replace(kernel.pool, pooling=replace(kernel.pool.pooling, planes=self.outputs)).writer(target)
        self.made = self.scratch
        self.scratch += self.outputs * self.positions

    def _begin(self, image: str, group: str) -> str:
        return self.at("%scratch", self.made)

    def _end(self, image: str, group: str) -> None:
        target = self.images_of(self.arrays - 1, image, group, self.outputs * self.pool.positions)
        self.pool.within(self, self.at("%scratch", self.made), target)


class _InputGrad(_Writer):
    """For some channels and one row of the filter: what each column of it sends from some vectors of positions, summed over the outputs.

    That is added to scratch memory laid out as `lay_out` does it, one row of the filter after the other; then the columns are put together.
    """

    def __init__(self, kernel: ConvInputGrad, target: Target) -> None:
        super().__init__(kernel, target)
        self.rows = self.windows.rows(self.down)
        vectors = -(-self.positions // self.lanes)
        most = self.registers.accumulators(self.registers.bytes)
        self.vectors = max(1, min(self.registers.shared, vectors, most // self.kw))  # of a tile
        self.channel_tiles = tiles(self.channels, max(1, most // (self.vectors * self.kw)))
        # So many positions at a time that their part of g stays in the cache for all rows of the filter.
        self.panel = max(64, PANEL_BYTES // (self.outputs * self.dtype.itemsize) // 64 * 64)
        self.room = self.rows.total * self.along
        self.sums = self.channel_tiles[0][1] * self.kw * self.room + 2 * vectors * self.lanes
        self.sent = self.outputs * vectors * self.lanes
        self.scratch = self.sums + self.sent + self.groups * self.outputs * self.taps

    def body(self) -> None:
        self.name_offsets(self.rows)
        numbers = self.outputs * self.taps
        self.sorted, filters = self.at("%scratch", self.sums), self.at("%scratch", self.sums + self.sent)
        with self.counting(str(self.groups)) as group:
            self._sort_filters(self.filters_of(1, group), self.at(filters, (group, numbers)))
        with self.counting("%n0") as image, self.counting(str(self.groups)) as group:
            self.g = self.images_of(0, image, group, self.outputs * self.positions)
            self.x = self.images_of(2, image, group, self.channels * self.pixels)
            self.filters = self.at(filters, (group, numbers))
            self._panels(lambda begin, parts: self.tiled(parts, lambda v, n: self._sort_sent(self._moved(begin, v), n)))
            self.tiled(self.channel_tiles, self._channels)

    def _sort_filters(self, filters: str, place: str) -> None:
        """The filters of a group as (channel, row, out, column)."""
        with self.counting(str(self.channels)) as c, self.counting(str(self.kh)) as i, self.counting(str(self.outputs)) as o:
            source = self.at(filters, (o, self.taps), (c, self.kh * self.kw), (i, self.kw))
            target = self.at(place, (c, self.kh * self.outputs * self.kw), (i, self.outputs * self.kw), (o, self.kw))
            self.store_first(self.load_steps(source, 0, 1, self.kw, self.kw), target, self.kw)

    def _channels(self, first: str, channels: int) -> None:
        size = channels * self.kw * self.room * self.dtype.itemsize
        self.call("llvm.memset.p0.i64", "void", ("ptr", "%scratch"), ("i8", "0"), ("i64", str(size)), ("i1", "false"))

        def panel(begin: str, parts: list[tuple[int, int]]) -> None:
            # What one pixel is sent is added up in the order of the filter's rows, wherever tiles end.
            with self.counting(str(self.kh)) as row:
                self.tiled(parts, lambda v, vectors: self._tile(first, channels, row, self._moved(begin, v), vectors))

        self._panels(panel)
        for c in range(channels):
            sums = self.at("%scratch", c * self.kw * self.room)
            self.put_together(self.rows, sums, self.at(self.x, (first, self.pixels), c * self.pixels), self.room)

    def _panels(self, write: Callable[[str, list[tuple[int, int]]], None]) -> None:
        """Calls ``write`` for each panel with the number of its first vector, and its tiles."""
        panels, rest = divmod(self.positions, self.panel)
        with self.counting(str(panels)) as panel:
            write(self.new(f"mul nsw i64 {panel}, {self.panel // self.lanes}"), tiles(self.panel // self.lanes, self.vectors))
        if rest:
            write(str(panels * self.panel // self.lanes), tiles(-(-rest // self.lanes), self.vectors))

    def _moved(self, begin: str, more: str) -> str:
        return self.new(f"add nsw i64 {begin}, {more}")

    def _sort_sent(self, at: str, vectors: int) -> None:
        """Copies what a tile reads of the cotangent to a run of memory: as it lies, its rows may meet in few places of the cache."""
        lanes, mask = self.lanes, self._mask(at, vectors)
        source, target = self.at(self.g, (at, lanes)), self.at(self.sorted, (at, self.outputs * lanes))
        with self.counting(str(self.outputs)) as o:
            for v in range(vectors):
                vector = self.load(self.at(source, (o, self.positions), v * lanes), lanes, mask if v == vectors - 1 else None)
                self.store(vector, self.at(target, (o, vectors * lanes), v * lanes), lanes)

    def _mask(self, at: str, vectors: int) -> str | None:
        """Of the positions in the last vector of a tile."""
        if self.positions % self.lanes == 0:
            return None
        begins = self.new(f"mul nsw i64 {self.new(f'add nsw i64 {at}, {vectors - 1}')}, {self.lanes}")
        return self.lanes_below(self.new(f"sub nsw i64 {self.positions}, {begins}"), self.lanes)

    def _tile(self, first: str, channels: int, row: str, at: str, vectors: int) -> None:
        kind, lanes = self.vector(self.lanes), self.lanes
        of_channel = self.kh * self.outputs * self.kw
        g, w = self.at(self.sorted, (at, self.outputs * lanes)), self.at(self.filters, (first, of_channel), (row, self.outputs * self.kw))
        masks = [*[None] * (vectors - 1), self._mask(at, vectors)]
        with self.carrying(str(self.outputs), kind, ["zeroinitializer"] * (channels * self.kw * vectors)) as loop:
            sent, weights = self.at(g, (loop.counter, vectors * lanes)), self.at(w, (loop.counter, self.kw))
            values = [self.load(self.at(sent, v * lanes), lanes) for v in range(vectors)]
            for tap in range(channels * self.kw):
                c, k = divmod(tap, self.kw)
                weight = self.one(self.at(weights, c * of_channel + k))
                for v in range(vectors):
                    loop.values[tap * vectors + v] = self.fma(values[v], weight, loop.values[tap * vectors + v], lanes)
        target = self.at("%scratch", self.offset(row), (at, lanes))
        for tap in range(channels * self.kw):
            for v in range(vectors):
                place = self.at(target, tap * self.room + v * lanes)
                total = self.arithmetic("fadd", self.load(place, lanes, masks[v]), loop.values[tap * vectors + v], lanes)
                self.store(total, place, lanes, masks[v])


class _WeightGrad(_Writer):
    """Tiles of some outputs by some channels at one row of the filter, summed over the positions of some images: a vector for each weight.

    Its lanes are summed at last. So the number of lanes, and of the images, is the same on every processor. Registers that have fewer take
    some of them first and then the others.
    """

    def __init__(self, kernel: ConvWeightGrad, target: Target) -> None:
        super().__init__(kernel, target)
        self.part, self.lanes = self.lanes, 64 // self.dtype.itemsize  # lanes of a register, and of a sum
        most = self.registers.accumulators(self.registers.bytes)
        self.channel_tiles = tiles(self.channels, max(1, round(math.isqrt(most) / self.kw)))
        columns = self.channel_tiles[0][1] * self.kw
        self.output_tiles = tiles(self.outputs, max(1, most // columns))

        def of_tile(rows: int) -> int:
            """Bytes for one of 5 columns by 5 outputs."""
            return 5 * (self.windows.rows(rows).total + rows) * self.along * self.dtype.itemsize

        # Some images at a time, or some rows of one: both its pixels and its part of g are read many times.
        self.images = max(1, TILE_BYTES // of_tile(self.down))
        self.band = max((rows for rows in divisors(self.down) if of_tile(rows) <= TILE_BYTES), default=1)
        self.rows = self.windows.rows(self.band)
        self.room = self.rows.total * self.along
        self.scratch = self.images * columns * self.room + self.lanes

    def body(self) -> None:
        self.name_offsets(self.rows)
        size = self.groups * self.outputs * self.taps * self.dtype.itemsize
        self.call("llvm.memset.p0.i64", "void", ("ptr", "%p2"), ("i8", "0"), ("i64", str(size)), ("i1", "false"))
        with self.counting("%n0", self.images) as first, self.counting(str(self.down // self.band)) as band:
            left = self.new(f"sub nsw i64 %n0, {first}")
            self.count_of_images = self.call("llvm.smin.i64", "i64", ("i64", left), ("i64", str(self.images)))
            self.first_row = self.new(f"mul nsw i64 {band}, {self.band}")
            with self.counting(str(self.groups)) as group:
                self.g = self.at(self.images_of(0, first, group, self.outputs * self.positions), (self.first_row, self.along))
                self.x = self.images_of(1, first, group, self.channels * self.pixels)
                self.w = self.filters_of(2, group)
                self.tiled(self.channel_tiles, self._channels)

    def _channels(self, first: str, channels: int) -> None:
        of_image = channels * self.kw * self.room
        with self.counting(self.count_of_images) as image:
            x = self.at(self.x, (image, self.groups * self.channels * self.pixels), (first, self.pixels))
            self.lay_out(x, self.at("%scratch", (image, of_image)), channels, self.rows, self.first_row)

        def tile(o: str, outputs: int) -> None:
            with self.counting(str(self.kh)) as row:
                self._tile(first, channels, o, outputs, row)

        self.tiled(self.output_tiles, tile)

    def _tile(self, c: str, channels: int, o: str, outputs: int, row: str) -> None:
        lanes, columns = self.lanes, channels * self.kw
        g, x = self.at(self.g, (o, self.positions)), self.at("%scratch", self.offset(row))
        part = self.part
        # So that enough sums are under way to hide how long each step takes:
        while part < lanes and part * outputs * columns < 8 * self.part:
            part *= 2
        parts = [self._sums(g, x, outputs, columns, range(first, first + part)) for first in range(0, lanes, part)]
        sums = [self._joined(vectors, part) for vectors in zip(*parts, strict=True)]
        target = self.at(self.w, (o, self.taps), (c, self.kh * self.kw), (row, self.kw))
        runs = [sums[k : k + self.kw] for k in range(0, len(sums), self.kw)]
        fitting = lanes // self.kw
        for begin in range(0, len(runs), fitting):
            group = runs[begin : begin + fitting]
            totals = self._sums_of_lanes([vector for run in group for vector in run])
            for k in range(len(group)):
                output, channel = divmod(begin + k, channels)
                place = self.at(target, output * self.taps + channel * self.kh * self.kw)
                size = power_of_two(self.kw)
                added = self.shuffle(totals, "poison", lanes, [min(k * self.kw + j, lanes - 1) for j in range(size)])
                self.store_first(self.arithmetic("fadd", self.load_steps(place, 0, 1, self.kw, self.kw), added, size), place, self.kw)

    def _sums(self, g: str, x: str, outputs: int, columns: int, part: range) -> list[str]:
        """Those of a tile, of some of the lanes."""
        first, lanes = part.start, len(part)
        kind, (vectors, rest) = self.vector(lanes), divmod(self.band * self.along, self.lanes)
        with self.carrying(self.count_of_images, kind, ["zeroinitializer"] * (outputs * columns)) as outer:
            sent = self.at(g, (outer.counter, self.groups * self.outputs * self.positions), first)
            pixels = self.at(x, (outer.counter, columns * self.room), first)
            if vectors <= 4:  # (a loop of so few rounds costs a tenth)
                for v in range(vectors):
                    self._add(outer.values, self.at(sent, v * self.lanes), self.at(pixels, v * self.lanes), columns, lanes)
            else:
                with self.carrying(str(vectors), kind, outer.values) as inner:
                    place = (inner.counter, self.lanes)
                    self._add(inner.values, self.at(sent, place), self.at(pixels, place), columns, lanes)
                outer.values = inner.values
            if rest > first:
                mask, end = self.lanes_of([k < rest for k in part]), vectors * self.lanes
                self._add(outer.values, self.at(sent, end), self.at(pixels, end), columns, lanes, mask)
        return outer.values

    def _add(self, sums: list[str], g: str, x: str, columns: int, lanes: int, mask: str | None = None) -> None:
        outputs = len(sums) // columns
        # The fewer ones are loaded first, so that they and one of the others are in registers beside the sums.
        if columns <= outputs:
            order = [(o, k) for o in range(outputs) for k in range(columns)]
        else:
            order = [(o, k) for k in range(columns) for o in range(outputs)]
        sent: dict[int, str] = {}
        pixels: dict[int, str] = {}
        for o, k in order:
            if o not in sent:
                sent[o] = self.load(self.at(g, o * self.positions), lanes, mask)
            if k not in pixels:
                pixels[k] = self.load(self.at(x, k * self.room), lanes, mask)
            sums[o * columns + k] = self.fma(sent[o], pixels[k], sums[o * columns + k], lanes)

    def _joined(self, vectors: Sequence[str], lanes: int) -> str:
        """The parts of a sum, of so many lanes each, as one vector."""
        parts = list(vectors)
        while len(parts) > 1:
            parts = [self.shuffle(a, b, lanes, range(2 * lanes)) for a, b in zip(parts[::2], parts[1::2], strict=True)]
            lanes *= 2
        return parts[0]

    def _sums_of_lanes(self, vectors: list[str]) -> str:
        """The sum of each vector, as the lanes of one: two vectors become one that has the sums of the halves of both, and so on."""
        lanes = length = self.lanes
        while length > 1:  # of the lanes that are parts of one sum
            half = length // 2
            low = [start + k for start in range(0, 2 * lanes, length) for k in range(half)]
            high = [k + half for k in low]
            vectors = [*vectors, "zeroinitializer"] if len(vectors) % 2 else vectors
            vectors = [
                self.arithmetic("fadd", self.shuffle(a, b, lanes, low), self.shuffle(a, b, lanes, high), lanes)
                for a, b in zip(vectors[::2], vectors[1::2], strict=True)
            ]
            length = half
        return vectors[0]


class _WeightGradAlongOutputs(_Writer):
    """Tiles of some outputs, along which vectors run, by some channels at one row of the filter.

    Of some images, or some rows of one, the cotangent is transposed, so that what one position has of the outputs is a run of memory, and
    the pixels that it meets are copied with their border. Each position then sends its pixels, times its outputs. What that makes is added
    to scratch memory laid out as (tile of outputs, channel, row, column, output).
    """

    def __init__(self, kernel: ConvWeightGrad, target: Target) -> None:
        super().__init__(kernel, target)
        most = self.registers.accumulators(self.registers.bytes)
        self.vectors = -(-self.outputs // self.lanes)
        self.output_tiles = tiles(self.vectors, max(1, min(self.registers.shared, most // self.kw)))
        self.channel_tiles = tiles(self.channels, max(1, most // (self.output_tiles[0][1] * self.kw)))
        self.images = max(1, BLOCK_POSITIONS // self.positions)
        self.band = max((rows for rows in divisors(self.down) if rows * self.along <= BLOCK_POSITIONS), default=1)
        self.length = self.band * self.along  # of what is taken of an image, in positions
        (self.step, across), (gap, apart) = self.windows.stride, self.windows.dilation
        # The rows of the images that a band meets, and their length:
        self.met = (self.band - 1) * self.step + (self.kh - 1) * gap + 1
        self.pitch = (self.along - 1) * across + (self.kw - 1) * apart + 1
        self.copied = self.images * self.channels * self.met * self.pitch // self.lanes * self.lanes + self.lanes
        self.sent = self.images * self.length * self.vectors * self.lanes
        self.scratch = self.copied + self.sent + self.taps * self.vectors * self.lanes

    def body(self) -> None:
        self.turned, self.sums = self.at("%scratch", self.copied), self.at("%scratch", self.copied + self.sent)
        bands = str(self.down // self.band)
        with self.counting(str(self.groups)) as group:
            size = self.taps * self.vectors * self.lanes * self.dtype.itemsize
            self.call("llvm.memset.p0.i64", "void", ("ptr", self.sums), ("i8", "0"), ("i64", str(size)), ("i1", "false"))
            with self.counting("%n0", self.images) as first, self.counting(bands) as band:
                left = self.new(f"sub nsw i64 %n0, {first}")
                self.count_of_images = self.call("llvm.smin.i64", "i64", ("i64", left), ("i64", str(self.images)))
                g = self.at(self.images_of(0, first, group, self.outputs * self.positions), (band, self.length))
                self.tiled(self.output_tiles, partial(self._turn, g))
                x = self.images_of(1, first, group, self.channels * self.pixels)
                self._copy(x, self.new(f"mul nsw i64 {band}, {self.band * self.step}"))
                self.tiled(self.output_tiles, lambda o, n: self.tiled(self.channel_tiles, lambda c, m: self._rows(o, n, c, m)))
            self.tiled(self.output_tiles, partial(self._finish, self.filters_of(2, group)))

    def _turn(self, g: str, first: str, vectors: int) -> None:
        """Puts what a tile of outputs reads of the cotangent into the order (image, position, output)."""
        place = self.at(self.turned, (first, self.images * self.length * self.lanes))
        with self.counting(self.count_of_images) as image, self.counting(str(vectors)) as v:
            output = self.new(f"mul nsw i64 {self.new(f'add nsw i64 {first}, {v}')}, {self.lanes}")
            source = self.at(g, (image, self.groups * self.outputs * self.positions), (output, self.positions))
            target = self.at(place, (image, self.length * vectors * self.lanes), (v, self.lanes))
            for chunk in self.in_chunks(self.length, lambda first: True):
                there = [self._is_output(output, k) for k in range(self.lanes)]
                rows = [
                    self.load_steps(
                        self.at(source, k * self.positions, chunk.moved), chunk.first, 1, chunk.count, self.length, valid=there[k]
                    )
                    for k in range(self.lanes)
                ]
                if chunk.count < self.lanes:
                    order = [min(k, power_of_two(chunk.count) - 1) for k in range(self.lanes)]
                    rows = [self.shuffle(row, "poison", power_of_two(chunk.count), order) for row in rows]
                at = self.at(target, (chunk.moved, vectors * self.lanes), chunk.first * vectors * self.lanes)
                for k, row in enumerate(self.transposed(rows, self.lanes)[: chunk.count]):
                    self.store(row, self.at(at, k * vectors * self.lanes), self.lanes)

    def _is_output(self, first: str, more: int) -> str | None:
        """Whether there is an output ``more`` behind ``first``, as an i1; None where that is known."""
        if self.outputs % self.lanes == 0:
            return None
        return self.new(f"icmp slt i64 {first}, {self.outputs - more}")

    def _copy(self, x: str, first: str) -> None:
        """Copies what a band meets of the images from row ``first`` on, with the border, to (image, channel, row, column)."""
        (top, _), (left, _) = self.windows.padding
        with self.counting(self.count_of_images) as image, self.counting(str(self.channels)) as channel:
            source = self.at(x, (image, self.groups * self.channels * self.pixels), (channel, self.pixels))
            target = self.at("%scratch", (image, self.channels * self.met * self.pitch), (channel, self.met * self.pitch))
            with self.counting(str(self.met)) as j:
                row = self.new(f"add nsw i64 {self.new(f'add nsw i64 {first}, {j}')}, {-top}")
                valid = self.new(f"icmp ult i64 {row}, {self.height}")
                pixels, copy = self.at(source, (row, self.width)), self.at(target, (j, self.pitch))
                for chunk in self.in_chunks(self.pitch, lambda first: left <= first <= self.width + left - self.lanes):
                    vector = self.load_steps(self.at(pixels, chunk.moved), chunk.first - left, 1, chunk.count, self.width, valid=valid)
                    self.store_first(vector, self.at(copy, chunk.first, chunk.moved), chunk.count)

    def _rows(self, o: str, vectors: int, c: str, channels: int) -> None:
        """The tiles of some outputs and channels."""
        g = self.at(self.turned, (o, self.images * self.length * self.lanes))
        x = self.at("%scratch", (c, self.met * self.pitch))
        sums = self.at(self.sums, (o, self.taps * self.lanes), (c, self.kh * self.kw * vectors * self.lanes))
        with self.counting(str(self.kh)) as row:
            pixels = self.at(x, (row, self.windows.dilation[0] * self.pitch))
            self._tile(g, vectors, pixels, channels, self.at(sums, (row, self.kw * vectors * self.lanes)))

    def _tile(self, g: str, vectors: int, x: str, channels: int, sums: str) -> None:
        kind, lanes = self.vector(self.lanes), self.lanes
        across, apart = self.windows.stride[1], self.windows.dilation[1]
        columns = [(c, k) for c in range(channels) for k in range(self.kw)]
        with self.carrying(self.count_of_images, kind, ["zeroinitializer"] * (len(columns) * vectors)) as images:
            of_image = self.at(g, (images.counter, self.length * vectors * lanes))
            pixels = self.at(x, (images.counter, self.channels * self.met * self.pitch))
            with self.carrying(str(self.band), kind, images.values) as rows:
                of_row = self.at(of_image, (rows.counter, self.along * vectors * lanes))
                line = self.at(pixels, (rows.counter, self.step * self.pitch))
                with self.carrying(str(self.along), kind, rows.values) as loop:
                    sent, met = self.at(of_row, (loop.counter, vectors * lanes)), self.at(line, (loop.counter, across))
                    values = [self.load(self.at(sent, v * lanes), lanes) for v in range(vectors)]
                    for n, (c, k) in enumerate(columns):
                        pixel = self.one(self.at(met, c * self.met * self.pitch + k * apart))
                        for v in range(vectors):
                            loop.values[n * vectors + v] = self.fma(values[v], pixel, loop.values[n * vectors + v], lanes)
                rows.values = loop.values
            images.values = rows.values
        for n, (c, k) in enumerate(columns):
            for v in range(vectors):
                place = self.at(sums, ((c * self.kh * self.kw + k) * vectors + v) * lanes)
                total = self.arithmetic("fadd", self.load(place, lanes), images.values[n * vectors + v], lanes)
                self.store(total, place, lanes)

    def _finish(self, filters: str, first: str, vectors: int) -> None:
        """Writes the sums of a tile of outputs in the order of the filters."""
        sums = self.at(self.sums, (first, self.taps * self.lanes))
        with self.counting(str(vectors)) as v:
            output = self.new(f"mul nsw i64 {self.new(f'add nsw i64 {first}, {v}')}, {self.lanes}")
            source, target = self.at(sums, (v, self.lanes)), self.at(filters, (output, self.taps))
            for chunk in self.in_chunks(self.taps, lambda first: True):
                at = self.at(source, (chunk.moved, vectors * self.lanes), chunk.first * vectors * self.lanes)
                rows = [self.load(self.at(at, k * vectors * self.lanes), self.lanes) for k in range(chunk.count)]
                rows += ["zeroinitializer"] * (self.lanes - len(rows))
                for k, row in enumerate(self.transposed(rows, self.lanes)):
                    mask = self.lanes_of([j < chunk.count for j in range(self.lanes)], self._is_output(output, k))
                    self.store(row, self.at(target, k * self.taps, chunk.moved, chunk.first), self.lanes, mask)
