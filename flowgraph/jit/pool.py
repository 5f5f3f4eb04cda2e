"""Pooling over two-dimensional windows and its gradients, as the texts of LLVM modules. Arrays are (batch, ..., height, width).

Vectors run along the columns of the output. The pixels that the windows of a vector have in one place are loaded together, border and all:
by a mask that is known when the text is written, unless a whole row lies in the border.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..records import Record
from .arrays import chunks, power_of_two
from .llvm import Target
from .loops import Operand
from .text import Text, literal
from .windows import Chunk, WindowKernel, Windows

# Texts have a line for each pixel of a window.
MOST_PIXELS = 25


class Pooling(Record):
    """The shapes of a pooling: ``planes`` images for each entry of the first dimension."""

    dtype: np.dtype[Any]
    planes: int
    windows: Windows

    @property
    def is_supported(self) -> bool:
        """Whether the texts below can be written."""
        return self.dtype.char in "fd" and math.prod(self.windows.window) <= MOST_PIXELS and self.windows.is_supported


class MaxPool(Record):
    """The kernel (x, out)."""

    pooling: Pooling

    @property
    def operands(self) -> tuple[Operand, ...]:
        return (Operand(self.pooling.dtype, (True,)),)

    def writer(self, target: Target) -> _MaxPool:
        return _MaxPool(self, target)

    def text(self, target: Target) -> str:
        return self.writer(target).text()


class MaxPoolGrad(Record):
    """The kernel (g, x, y, out): ``g`` goes to the first maximum of each window of ``x``; ``y`` is what `MaxPool` made of that."""

    pooling: Pooling

    @property
    def operands(self) -> tuple[Operand, ...]:
        return (Operand(self.pooling.dtype, (True,)),) * 3

    def text(self, target: Target) -> str:
        windows = self.pooling.windows
        kind = _TiledMaxPoolGrad if tuple(windows.window) == tuple(windows.stride) else _OverlappingMaxPoolGrad
        return kind(self, target).text()


class AvgPool(Record):
    """The kernel (x, out). ``counts_border`` says whether the border counts towards a mean, as zeros."""

    pooling: Pooling
    counts_border: bool

    @property
    def operands(self) -> tuple[Operand, ...]:
        return (Operand(self.pooling.dtype, (True,)),)

    def writer(self, target: Target) -> _AvgPool:
        return _AvgPool(self, target)

    def text(self, target: Target) -> str:
        return self.writer(target).text()


class AvgPoolGrad(Record):
    """The kernel (g, out): ``g`` spread evenly over each window."""

    pooling: Pooling
    counts_border: bool

    @property
    def operands(self) -> tuple[Operand, ...]:
        return (Operand(self.pooling.dtype, (True,)),)

    def text(self, target: Target) -> str:
        return _AvgPoolGrad(self, target).text()


class _Writer(WindowKernel):
    """What they share."""

    def __init__(self, kernel: MaxPool | MaxPoolGrad | AvgPool | AvgPoolGrad, target: Target) -> None:
        pooling = self.pooling = kernel.pooling
        super().__init__(target, pooling.dtype, len(kernel.operands) + 1, pooling.windows)
        self.places = [f"%p{array}" for array in range(self.arrays)]

    def within(self, other: Text, source: str, target: str) -> None:
        """Writes into another text: the pooling of all planes at ``source`` to ``target``."""
        self.lines, self.declared, self.count = other.lines, other.declared, other.count
        self.places = [source, target]
        with self.counting(str(self.pooling.planes)) as plane:
            self.plane(plane)
        other.count = self.count

    def body(self) -> None:
        planes = self.new(f"mul nsw i64 %n0, {self.pooling.planes}")
        with self.counting(planes) as plane:
            self.plane(plane)

    def plane(self, plane: str) -> None:
        with self.counting(str(self.down)) as row:
            for chunk in self.in_chunks(self.along, self._is_inner):
                self.some_windows(plane, row, chunk)

    def _is_inner(self, first: int) -> bool:
        """Whether some windows lie within the image, and others follow them."""
        (left, _) = self.windows.padding[1]
        return first + self.lanes < self.along and all(self.is_within(first, j - left) for j in range(self.kw))

    def some_windows(self, plane: str, row: str, chunk: Chunk) -> None:
        """Those of a row at some columns of the output."""
        raise NotImplementedError

    def in_windows(self, image: str, row: str, chunk: Chunk, fill: float) -> list[list[str]]:
        """For each place in a window, row by row, its pixels in all the windows."""
        (top, bottom), (left, _), step = *self.windows.padding, self.windows.stride[1]
        result = []
        for i in range(self.kh):
            line = self.image_row(row, i)
            valid = self.new(f"icmp ult i64 {line}, {self.height}") if top or bottom else None
            pixels = self.at(image, (line, self.width), (chunk.moved, step))
            places = [chunk.first * step + j - left for j in range(self.kw)]
            result.append([self.load_steps(pixels, place, step, chunk.count, self.width, fill, valid) for place in places])
        return result

    def of_output(self, array: int, plane: str, row: str, chunk: Chunk) -> str:
        """Where some numbers of a row begin in an array like the output."""
        return self.at(self.places[array], (plane, self.positions), (row, self.along), chunk.first, chunk.moved)

    def image_row(self, row: str, i: int) -> str:
        """The row of the image that is row ``i`` of the windows in ``row``."""
        return self.new(f"add nsw i64 {self.new(f'mul nsw i64 {row}, {self.windows.stride[0]}')}, {i - self.windows.padding[0][0]}")


class _MaxPool(_Writer):
    def some_windows(self, plane: str, row: str, chunk: Chunk) -> None:
        lanes = power_of_two(chunk.count)
        image = self.at(self.places[0], (plane, self.pixels))
        first, *others = [pixel for line in self.in_windows(image, row, chunk, -np.inf) for pixel in line]
        kind = self.vector(lanes)
        for pixel in others:
            # (Of a number and NaN the select takes the second; a NaN that is there already is put back.)
            larger = self.new(f"fcmp ogt {kind} {first}, {pixel}")
            best = self.new(f"select <{lanes} x i1> {larger}, {kind} {first}, {kind} {pixel}")
            was_nan = self.new(f"fcmp uno {kind} {first}, {first}")
            first = self.new(f"select <{lanes} x i1> {was_nan}, {kind} {first}, {kind} {best}")
        self.store_first(first, self.of_output(1, plane, row, chunk), chunk.count)


class _MaxPoolGrad(_Writer):
    """What the choice of the maxima has in common; where it goes the subclasses say."""

    def some_windows(self, plane: str, row: str, chunk: Chunk) -> None:
        lanes = power_of_two(chunk.count)
        kind, bits = self.vector(lanes), f"<{lanes} x i1>"
        g, y = [self.load_steps(self.of_output(k, plane, row, chunk), 0, 1, chunk.count, chunk.count) for k in (0, 2)]
        # The border is NaN here, which equals nothing; the last pixel takes what no other has taken.
        pixels = self.in_windows(self.at("%p1", (plane, self.pixels)), row, chunk, np.nan)
        taken = ""
        sent: list[list[str]] = [[] for _ in pixels]
        for i, line in enumerate(pixels):
            for pixel in line:
                chosen = self.new(f"fcmp oeq {kind} {pixel}, {y}")
                if pixel is pixels[-1][-1]:
                    chosen = "splat (i1 true)"
                if taken:
                    free = self.new(f"xor {bits} {taken}, splat (i1 true)")
                    chosen = self.new(f"and {bits} {chosen}, {free}")
                taken = self.new(f"or {bits} {taken}, {chosen}") if taken else chosen
                sent[i].append(self.new(f"select {bits} {chosen}, {kind} {g}, {kind} zeroinitializer"))
        self.send(plane, row, chunk, sent)

    def send(self, plane: str, row: str, chunk: Chunk, sent: Sequence[Sequence[str]]) -> None:
        """``sent`` is for each place in a window, row by row, what its pixels get in all the windows."""
        raise NotImplementedError


class _OverlappingMaxPoolGrad(_MaxPoolGrad):
    """What a pixel is sent by the windows that it is in is added up in scratch memory, as in the gradient of a convolution."""

    def __init__(self, kernel: MaxPoolGrad, target: Target) -> None:
        super().__init__(kernel, target)
        self.rows = self.windows.rows(self.down)
        self.room = self.rows.total * self.along
        self.scratch = self.kw * self.room

    def plane(self, plane: str) -> None:
        size = str(self.scratch * self.dtype.itemsize)
        self.call("llvm.memset.p0.i64", "void", ("ptr", "%scratch"), ("i8", "0"), ("i64", size), ("i1", "false"))
        super().plane(plane)
        self.put_together(self.rows, "%scratch", self.at("%p3", (plane, self.pixels)), self.room)

    def send(self, plane: str, row: str, chunk: Chunk, sent: Sequence[Sequence[str]]) -> None:
        count, lanes = chunk.count, power_of_two(chunk.count)
        for offset, line in zip(self.rows.offsets, sent, strict=True):
            for j, vector in enumerate(line):
                place = self.at("%scratch", (row, self.along), chunk.moved, j * self.room + offset * self.along + chunk.first)
                total = self.arithmetic("fadd", self.load_steps(place, 0, 1, count, count), vector, lanes)
                self.store_first(total, place, count)


class _TiledMaxPoolGrad(_MaxPoolGrad):
    """Windows side by side: each pixel is in one window at most, and is written once."""

    def plane(self, plane: str) -> None:
        super().plane(plane)
        # Rows below the last windows:
        covered = min(self.height, self.down * self.kh - self.windows.padding[0][0])
        target, rest = self.at("%p3", (plane, self.pixels), covered * self.width), (self.height - covered) * self.width
        if rest:
            size = str(rest * self.dtype.itemsize)
            self.call("llvm.memset.p0.i64", "void", ("ptr", target), ("i8", "0"), ("i64", size), ("i1", "false"))

    def send(self, plane: str, row: str, chunk: Chunk, sent: Sequence[Sequence[str]]) -> None:
        for i, parts in enumerate(sent):
            self._store_row(self.at("%p3", (plane, self.pixels)), self.image_row(row, i), parts, chunk)

    def _store_row(self, image: str, line: str, parts: Sequence[str], chunk: Chunk) -> None:
        """One row of the pixels of some windows; behind the last window of a row, zeros up to its end."""
        (top, bottom), (left, _) = self.windows.padding
        count, lanes = chunk.count, power_of_two(chunk.count)
        first, end = chunk.first * self.kw - left, (chunk.first + count) * self.kw - left
        valid = self.new(f"icmp ult i64 {line}, {self.height}") if top or bottom else None
        place = self.at(image, (line, self.width), (chunk.moved, self.kw))

        def store(vector: str, begin: int, size: int, inside: list[bool]) -> None:
            self.store(vector, self.at(place, begin), size, self.lanes_of(inside, valid))

        reach = power_of_two(self.kw) * lanes
        store(self._interleaved(parts, lanes), first, reach, [j < count * self.kw and 0 <= first + j < self.width for j in range(reach)])
        if chunk.first + count == self.along and end < self.width:
            for more, length in chunks(self.width - end, self.lanes):
                size = power_of_two(length)
                store("zeroinitializer", end + more, size, [j < length for j in range(size)])

    def _interleaved(self, parts: Sequence[str], lanes: int) -> str:
        """The first lanes of all, then the second ones, and so on."""
        if len(parts) == 1:
            return parts[0]
        joined, width = [*parts, *["poison"] * (power_of_two(len(parts)) - len(parts))], lanes
        while len(joined) > 1:
            joined = [self.shuffle(a, b, width, range(2 * width)) for a, b in zip(joined[::2], joined[1::2], strict=True)]
            width *= 2
        order = [part * lanes + lane for lane in range(lanes) for part in range(len(parts))]
        order += [0] * (width - len(order))
        return self.shuffle(joined[0], "poison", width, order)


class _Averages(_Writer):
    """What the mean and its gradient share."""

    def __init__(self, kernel: AvgPool | AvgPoolGrad, target: Target) -> None:
        super().__init__(kernel, target)
        (top, bottom), (left, right) = self.windows.padding
        self.all_count = kernel.counts_border or not (top or bottom or left or right)

    def share(self, row: str, chunk: Chunk) -> str:
        """One over the number of pixels in each of some windows."""
        lanes, number = power_of_two(chunk.count), self.dtype.type
        if self.all_count:
            return f"splat ({self.number} {literal(number(1) / number(self.kh * self.kw), self.dtype)})"
        height = "0"
        for i in range(self.kh):
            inside = self.new(f"icmp ult i64 {self.image_row(row, i)}, {self.height}")
            height = self.new(f"add i64 {height}, {self.new(f'zext i1 {inside} to i64')}")
        left, step = self.windows.padding[1][0], self.windows.stride[1]
        starts = [(chunk.first + lane) * step - left for lane in range(lanes)]
        widths = [sum(0 <= start + j < self.width for j in range(self.kw)) for start in starts]
        across = f"<{', '.join(f'{self.number} {literal(width, self.dtype)}' for width in widths)}>"
        down = self.spread(self.new(f"uitofp i64 {height} to {self.number}"), lanes, self.number)
        kind, one = self.vector(lanes), f"splat ({self.number} {literal(1, self.dtype)})"
        count = self.arithmetic("fmul", down, across, lanes)
        some = self.new(f"fcmp ogt {kind} {count}, {one}")
        return self.arithmetic("fdiv", one, self.new(f"select <{lanes} x i1> {some}, {kind} {count}, {kind} {one}"), lanes)


class _AvgPool(_Averages):
    def some_windows(self, plane: str, row: str, chunk: Chunk) -> None:
        lanes = power_of_two(chunk.count)
        image = self.at(self.places[0], (plane, self.pixels))
        total, *others = [pixel for line in self.in_windows(image, row, chunk, 0.0) for pixel in line]
        for pixel in others:
            total = self.arithmetic("fadd", total, pixel, lanes)
        mean = self.arithmetic("fmul", total, self.share(row, chunk), lanes)
        self.store_first(mean, self.of_output(1, plane, row, chunk), chunk.count)


class _AvgPoolGrad(_Averages):
    """All columns of a window send the same, so that scratch memory holds it once."""

    def __init__(self, kernel: AvgPoolGrad, target: Target) -> None:
        super().__init__(kernel, target)
        self.rows = self.windows.rows(self.down)
        self.scratch = self.rows.total * self.along

    def plane(self, plane: str) -> None:
        size = str(self.scratch * self.dtype.itemsize)
        self.call("llvm.memset.p0.i64", "void", ("ptr", "%scratch"), ("i8", "0"), ("i64", size), ("i1", "false"))
        super().plane(plane)
        self.put_together(self.rows, "%scratch", self.at("%p1", (plane, self.pixels)), 0)

    def some_windows(self, plane: str, row: str, chunk: Chunk) -> None:
        count, lanes = chunk.count, power_of_two(chunk.count)
        g = self.load_steps(self.of_output(0, plane, row, chunk), 0, 1, count, count)
        sent = self.arithmetic("fmul", g, self.share(row, chunk), lanes)
        for offset in self.rows.offsets:
            place = self.at("%scratch", (row, self.along), chunk.moved, offset * self.along + chunk.first)
            self.store_first(self.arithmetic("fadd", self.load_steps(place, 0, 1, count, count), sent, lanes), place, count)
