"""Max pooling over two-dimensional windows and its gradient, as the texts of LLVM modules. Arrays are (batch, ..., height, width).

Vectors run along the columns of the output. The pixels that the windows of a vector have in one place are loaded together, border and all:
by a mask that is known when the text is written, unless a whole row lies in the border.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .arrays import ArrayKernel, chunks, power_of_two
from .llvm import Target
from .loops import Operand

Pair = tuple[int, int]

# Texts have a line for each pixel of a window.
MOST_PIXELS = 25
MOST_STEP = 4


@dataclass(frozen=True)
class Pooling:
    """The shapes of a pooling: ``planes`` images for each entry of the first dimension, each (height, width)."""

    dtype: np.dtype[Any]
    planes: int
    image: Sequence[int]
    window: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[Pair] = ((0, 0), (0, 0))

    @cached_property
    def size(self) -> Pair:
        """Of the output."""
        down, along = ((self.image[k] + sum(self.padding[k]) - self.window[k]) // self.stride[k] + 1 for k in range(2))
        return down, along

    @property
    def is_supported(self) -> bool:
        """Whether the texts below can be written; for the gradient, windows must touch each other (see `is_tiled`)."""
        return (
            self.dtype.char in "fd"
            and self.window[0] * self.window[1] <= MOST_PIXELS
            and self.stride[1] <= MOST_STEP
            and min(*self.image, *self.size) > 0
        )

    @property
    def is_tiled(self) -> bool:
        """Whether windows neither overlap nor leave pixels out between them."""
        return self.window == self.stride


@dataclass(frozen=True)
class MaxPool:
    """The kernel (x, out)."""

    pooling: Pooling

    @property
    def operands(self) -> tuple[Operand, ...]:
        return (Operand(self.pooling.dtype, (True,)),)

    def text(self, target: Target) -> str:
        return _MaxPool(self, target).text()


@dataclass(frozen=True)
class MaxPoolGrad:
    """The kernel (g, x, y, out): ``g`` goes to the first maximum of each window of ``x``; ``y`` is what `MaxPool` made of that."""

    pooling: Pooling

    @property
    def operands(self) -> tuple[Operand, ...]:
        return (Operand(self.pooling.dtype, (True,)),) * 3

    def text(self, target: Target) -> str:
        return _MaxPoolGrad(self, target).text()


class _Writer(ArrayKernel):
    """What the two share."""

    def __init__(self, kernel: MaxPool | MaxPoolGrad, target: Target) -> None:
        pooling = self.pooling = kernel.pooling
        super().__init__(target, pooling.dtype, len(kernel.operands) + 1)
        self.lanes = self.registers.bytes // pooling.dtype.itemsize
        (self.height, self.width), (self.down, self.along) = pooling.image, pooling.size

    def body(self) -> None:
        planes = self.new(f"mul nsw i64 %n0, {self.pooling.planes}")
        with self.counting(planes) as plane:
            self.plane(plane)
            with self.counting(str(self.down)) as row:
                for at, count in chunks(self.along, self.lanes):
                    self.windows(plane, row, at, count)

    def plane(self, plane: str) -> None:
        """What comes before the windows of a plane."""

    def windows(self, plane: str, row: str, at: int, count: int) -> None:
        """``count`` windows of a row, from column ``at`` of the output on."""
        raise NotImplementedError

    def pixels(self, rows: str, row: str, at: int, count: int, fill: float) -> list[list[str]]:
        """For each place in a window, row by row, its pixels in all the windows."""
        (height, width), (_, along), ((top, bottom), (left, _)) = self.pooling.window, self.pooling.stride, self.pooling.padding
        result = []
        for i in range(height):
            line = self.image_row(row, i)
            valid = self.new(f"icmp ult i64 {line}, {self.height}") if top or bottom else None
            pixels = self.at(rows, (line, self.width))
            result.append([self.load_steps(pixels, at * along + j - left, along, count, self.width, fill, valid) for j in range(width)])
        return result

    def image_row(self, row: str, i: int) -> str:
        """The row of the image that is row ``i`` of the windows in ``row``."""
        return self.new(f"add nsw i64 {self.new(f'mul nsw i64 {row}, {self.pooling.stride[0]}')}, {i - self.pooling.padding[0][0]}")


class _MaxPool(_Writer):
    def windows(self, plane: str, row: str, at: int, count: int) -> None:
        lanes = power_of_two(count)
        image = self.at("%p0", (plane, self.height * self.width))
        first, *others = [pixel for line in self.pixels(image, row, at, count, -np.inf) for pixel in line]
        kind = self.vector(lanes)
        for pixel in others:
            # (Of a number and NaN the select takes the second; a NaN that is there already is put back.)
            larger = self.new(f"fcmp ogt {kind} {first}, {pixel}")
            best = self.new(f"select <{lanes} x i1> {larger}, {kind} {first}, {kind} {pixel}")
            was_nan = self.new(f"fcmp uno {kind} {first}, {first}")
            first = self.new(f"select <{lanes} x i1> {was_nan}, {kind} {first}, {kind} {best}")
        self.store_first(first, self.at("%p1", (plane, self.down * self.along), (row, self.along), at), count)


class _MaxPoolGrad(_Writer):
    def plane(self, plane: str) -> None:
        """Rows below the last windows."""
        (top, _), stride = self.pooling.padding[0], self.pooling.stride[0]
        covered = min(self.height, self.down * stride - top)
        rest = (self.height - covered) * self.width
        target = self.at("%p3", (plane, self.height * self.width), covered * self.width)
        size = str(rest * self.dtype.itemsize)
        if rest:
            self.call("llvm.memset.p0.i64", "void", ("ptr", target), ("i8", "0"), ("i64", size), ("i1", "false"))

    def windows(self, plane: str, row: str, at: int, count: int) -> None:
        lanes = power_of_two(count)
        kind, bits, image = self.vector(lanes), f"<{lanes} x i1>", (plane, self.height * self.width)
        pooled = (plane, self.down * self.along), (row, self.along), at
        g = self.load_steps(self.at("%p0", *pooled), 0, 1, count, count)
        y = self.load_steps(self.at("%p2", *pooled), 0, 1, count, count)
        # The border is NaN here, which equals nothing; the last pixel takes what no other has taken.
        pixels = self.pixels(self.at("%p1", image), row, at, count, np.nan)
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
        for i, parts in enumerate(sent):
            self._store_row(self.at("%p3", image), self.image_row(row, i), parts, at, count)

    def _store_row(self, image: str, line: str, parts: Sequence[str], at: int, count: int) -> None:
        """One row of the pixels of some windows; behind the last window of a row, zeros up to its end."""
        (top, bottom), (left, _) = self.pooling.padding
        step, lanes = self.pooling.stride[1], power_of_two(count)
        reach = power_of_two(step) * lanes
        first = at * step - left
        inside = [j < count * step and 0 <= first + j < self.width for j in range(reach)]
        mask = self.lanes_of(inside)
        if top or bottom:
            valid = self.new(f"icmp ult i64 {line}, {self.height}")
            mask = self.new(f"select i1 {valid}, <{reach} x i1> {mask or 'splat (i1 true)'}, <{reach} x i1> zeroinitializer")
        place = self.at(image, (line, self.width))
        self.store(self._interleaved(parts, lanes), self.at(place, first), reach, mask)
        end = (at + count) * step - left
        if at + count == self.along and end < self.width:
            for more, size in chunks(self.width - end, self.lanes):
                zeros = power_of_two(size)
                mask = self.lanes_of([k < size for k in range(zeros)])
                if top or bottom:
                    bits = f"<{zeros} x i1>"
                    mask = self.new(f"select i1 {valid}, {bits} {mask or 'splat (i1 true)'}, {bits} zeroinitializer")
                self.store("zeroinitializer", self.at(place, end + more), zeros, mask)

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
