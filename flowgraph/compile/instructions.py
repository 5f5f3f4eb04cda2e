"""Instructions of tapes: which code is called for a unit, on which memory.

An `Area` says where elements lie. From the areas of what a kernel reads and writes follows what its inner loop has to be told, or that it
cannot be called so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..jit.kernels import bare
from ..jit.ufuncs import Code, code_of
from .fuse import FusedNode


class Area(NamedTuple):
    """Where the elements of a slot lie: in which array, from which byte on, and how far from each other along each axis, in bytes."""

    slot: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def whole(cls, slot: int, spec: Any) -> Area:
        return cls(slot, 0, spec.shape, in_c_order(spec.shape, spec.dtype.itemsize), spec.dtype)

    def rows(self, low: int, high: int) -> Area:
        return self._replace(offset=self.offset + low * self.strides[0], shape=(high - low, *self.shape[1:]))

    def columns(self, low: int, high: int) -> Area:
        """Part of the last axis."""
        return self._replace(offset=self.offset + low * self.strides[-1], shape=(*self.shape[:-1], high - low))

    @property
    def is_contiguous(self) -> bool:
        wanted = in_c_order(self.shape, self.dtype.itemsize)
        return all(size == 1 or a == b for size, a, b in zip(self.shape, self.strides, wanted, strict=True))


def in_c_order(shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Strides in bytes."""
    strides = [itemsize] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return tuple(strides)


class Shape(NamedTuple):
    """What is called, with which numbers: see `Tape.add`."""

    code: Code
    dims: tuple[int, ...]
    strides: tuple[int, ...]
    times: int = 1
    steps: tuple[int, ...] = ()


class Instruction(NamedTuple):
    """What is called, and on which memory: (slot, offset) each of what it reads and what it writes, or the spec of memory to work in."""

    shape: Shape
    places: tuple[Any, ...]

    @classmethod
    def on(cls, areas: Sequence[Area], code: Code, dims: tuple[int, ...], strides: tuple[int, ...], *repeated: Any) -> Instruction:
        return cls(Shape(code, dims, strides, *repeated), tuple([(area.slot, area.offset) for area in areas]))


def fused_loop(node: FusedNode, areas: Sequence[Area]) -> list[Instruction] | None:
    """A compiled loop, where its arrays lie as it needs them."""
    address, loop = bare(node.op._kernel), node.op.loop
    if not address:
        return None
    strides = []
    for operand, area in zip((*loop.operands, *[None] * len(loop.results)), areas, strict=True):
        is_strided = operand is not None and operand.strided
        fits = area.strides[-1] == area.dtype.itemsize if is_strided else area.is_contiguous
        if not fits or (operand is not None and operand.dtype != area.dtype):
            return None
        strides.append(area.strides[0] if is_strided else 0)
    array, factor = loop.counted
    rows = areas[array].shape[0] if factor else 1
    return [Instruction.on(areas, Code(address), (rows * max(factor, 1),), tuple(strides))]


def of_arrays(kernel: Callable[..., Any], areas: Sequence[Area], short: Any) -> list[Instruction] | None:
    """A kernel of whole arrays, as of a convolution. It notes in ``short``, an array of one int64, where it finds no memory to work in."""
    address = bare(kernel)
    if not address or any(not area.is_contiguous or area.dtype != areas[-1].dtype for area in areas):
        return None
    return [Instruction.on(areas, Code(address, short.ctypes.data, short), (areas[0].shape[0],), ())]


def drawn(kernel: Callable[..., Any], areas: Sequence[Area], first: int) -> list[Instruction] | None:
    """Random bits, from the key on; the kernel as it is compiled, and the place of the first element among all."""
    key, target = areas
    if not target.is_contiguous:
        return None
    place = kernel.described.place(first, math.prod(target.shape))  # type: ignore[attr-defined]
    code = Code(bare(kernel.machine), place.ctypes.data, place)  # type: ignore[attr-defined]
    return [Instruction.on((key, key, target), code, (math.prod(target.shape),), ())]


def joined(parts: Sequence[Area], target: Area, axis: int) -> list[Instruction] | None:
    """Each part copied to its place."""
    code, made, low = code_of(np.positive, (target.dtype,) * 2), [], 0
    for part in parts:
        offset = target.offset + low * target.strides[axis]
        low += part.shape[axis]
        copied = None
        if code is not None and part.dtype == target.dtype and target.dtype.kind == "f":
            copied = elementwise(code, [part], target._replace(offset=offset, shape=part.shape))
        if copied is None:
            return None
        made.append(copied)
    return made


def sum_of_parts(parts: Area, target: Area) -> list[Instruction] | None:
    """As `lower.add_up` adds: one entry behind the other."""
    count, size = parts.shape[0], math.prod(target.shape)
    code = code_of(np.add, (target.dtype,) * 3)
    if code is None or parts.dtype != target.dtype or count < 2:
        return None
    entries = [parts._replace(offset=parts.offset + k * parts.strides[0], shape=target.shape, strides=target.strides) for k in range(count)]
    item = target.dtype.itemsize
    firsts = [entries[0], *[target] * (count - 2)]
    return [Instruction.on((a, b, target), code, (size,), (item,) * 3) for a, b in zip(firsts, entries[1:], strict=True)]


def product(code: Code, areas: Sequence[Area], target: Area) -> Instruction | None:
    """A product of two matrices; of vectors NumPy makes matrices in a way of its own."""
    x, y = areas
    if len(x.shape) != 2 or len(y.shape) != 2 or target.strides[-1] != target.dtype.itemsize:
        return None
    (n, k), m = x.shape, y.shape[1]
    return Instruction.on((x, y, target), code, (1, n, k, m), (0, 0, 0, *x.strides, *y.strides, *target.strides))


def elementwise(code: Code, areas: Sequence[Area], target: Area) -> Instruction | None:
    """One call of the inner loop, or one for each row."""
    operands = (*areas, target)
    axes: list[tuple[int, list[int]]] = []  # sizes, and strides of all operands, where axes that lie behind each other are one
    for axis in range(-len(target.shape), 0):
        size = target.shape[axis]
        if size == 1:
            continue
        strides = [0 if -axis > len(o.shape) or o.shape[axis] == 1 else o.strides[axis] for o in operands]
        if axes and all(before == size * stride for before, stride in zip(axes[-1][1], strides, strict=True)):
            axes[-1] = axes[-1][0] * size, strides
        else:
            axes.append((size, strides))
    if len(axes) > 2:
        return None
    size, strides = axes[-1] if axes else (1, [o.dtype.itemsize for o in operands])
    times, steps = axes[0] if len(axes) == 2 else (1, [])
    return Instruction.on(operands, code, (size,), tuple(strides), times, tuple(steps))
