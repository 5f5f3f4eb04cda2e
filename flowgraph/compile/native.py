"""Sections: units of a task that follow each other and run as one tape (see `flowgraph.jit.tape`), without Python between their kernels.

What may be in one: NumPy's ufuncs, matrix products among them, compiled loops, and the sum of the parts of a cut sum, all on arrays in C
order of known shapes, whole or rows of them; and views of such arrays, which cost nothing there. No kernel that could fail is. The bits are
those of the same kernels called one by one. What is made and dies within a section lies in one piece of memory, its arena.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..graph import Spec
from ..graph.spec import is_known
from ..jit.kernels import bare
from ..jit.tape import MOST_ARRAYS, MOST_OPERANDS, SECONDS_WITH_LOCK, Code, Tape, code_of, place
from .cost import CALL_SECONDS
from .fuse import FusedNode
from .kinds import POOLED_BYTES
from .lower import _add_up, _as_given
from .plan import ROWS, Plan, Unit

# What a call from Python costs for a kernel, and for one on numbers alone; what one of a tape costs, each new array that it is given, and
# each buffer from the pool. A section is worth it from a few kernels on.
FEWEST = 4
KERNEL_SECONDS, NUMBER_SECONDS = 0.19e-6, 0.03e-6
TAPE_SECONDS, NEW_SECONDS, BUFFER_SECONDS = 0.15e-6, 0.12e-6, 0.6e-6
# Whether a run has been stopped is asked between sections.
LONGEST_SECONDS = 5e-3
# What is made in a section and dies there is kept to its end: more than this must not come of it.
MOST_HELD_BYTES = 2**16
_ALIGNMENT = 64
# So large an arena may lie on the stack; a larger one is a buffer from the pool.
STACK_BYTES = 16384

_CAN_FAIL = frozenset({np.power, np.floor_divide, np.remainder, np.divmod, np.fmod})  # of integers
_FREE_OF_ERRORS = frozenset("?bhilqBHILQfd")


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
    """What is called, and on which memory, (slot, offset) each: what it reads, then what it writes."""

    shape: Shape
    places: tuple[tuple[int, int], ...]

    @classmethod
    def on(cls, areas: Sequence[Area], code: Code, dims: tuple[int, ...], strides: tuple[int, ...], *repeated: Any) -> Instruction:
        return cls(Shape(code, dims, strides, *repeated), tuple([(area.slot, area.offset) for area in areas]))


@dataclass(eq=False)
class Section:
    """Units that run as one tape.

    reads    slots whose arrays it gets; ``makes``: (slot, spec, mode) of those that it is given to fill
    holds    specs of buffers from the pool that it gets besides, and that go back behind it
    shares   (slot, slot) of which the first is given the array of the second behind it, as it was written over; ``views``: units that are
             run behind it, for those who read the views later
    frees    slots that are emptied behind it, ``recycles``: those of them whose array goes back to the pool
    arena    bytes of memory for what is made and dies within it
    """

    units: list[Unit]
    reads: list[int] = field(default_factory=list)
    makes: list[tuple[int, Any, str]] = field(default_factory=list)
    holds: list[Any] = field(default_factory=list)
    shares: list[tuple[int, int]] = field(default_factory=list)
    views: list[Unit] = field(default_factory=list)
    frees: tuple[int, ...] = ()
    recycles: tuple[int, ...] = ()
    arena: int = 0
    tape: Tape = field(default_factory=Tape)

    @property
    def slots(self) -> list[int]:
        """Those whose arrays it gets, in the order of its arguments; buffers and the arena follow."""
        return [*self.reads, *[slot for slot, _, _ in self.makes]]

    @property
    def seconds(self) -> float:
        return sum(unit.seconds - CALL_SECONDS for unit in self.units)

    @property
    def buffers(self) -> list[Any]:
        """The specs of what it gets from the pool: what it holds, and its arena if that is large."""
        is_large = self.arena > STACK_BYTES
        return [*self.holds, *([Spec((self.arena,), np.dtype("uint8"))] if is_large else [])]

    @property
    def saves(self) -> float:
        """Seconds that it saves, by estimate, but for Python's lock."""
        calls = sum(KERNEL_SECONDS if unit.spec.shape or not hasattr(unit.node.op, "symbol") else NUMBER_SECONDS for unit in self.units)
        return calls - TAPE_SECONDS - NEW_SECONDS * len(self.makes) - BUFFER_SECONDS * len(self.buffers)

    def bind(self, otherwise: Callable[..., Any]) -> Callable[..., Any]:
        """A function of what it reads, makes, and gets from the pool."""
        is_short = self.seconds + 10e-9 * len(self.tape) < SECONDS_WITH_LOCK
        return self.tape.call(otherwise, with_lock=is_short, stack=self.arena if self.arena <= STACK_BYTES else 0)


class Sections:
    """Finds the sections of a plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.specs: dict[int, Any] = {}  # of the slots whose arrays are sure to lie in C order, where the feeds do
        self.specs.update({slot: array for slot, array in plan.constants if array.flags.c_contiguous})
        for (tensor, slot), shape in zip(plan.feeds, plan.shapes, strict=True):
            self.specs[slot] = Spec(shape, tensor.dtype)
        for node, slot in plan.variables:
            self.specs[slot] = node.outputs[0]
        self.views: dict[int, Unit] = {}  # slot -> the unit that makes it a view of another
        self.shared: dict[int, int] = {}  # slot -> the one whose array it takes over
        for unit in plan.units:
            if unit.mode in ("part", "partial"):
                self.specs[unit.buffer] = unit.spec if unit.mode == "part" else Spec((unit.part + 1, *unit.spec.shape), unit.spec.dtype)
            elif unit.spec is not None and unit.node.op.is_view and unit.inputs and unit.mode == "fresh":
                self.views[unit.output] = unit
            elif unit.spec is not None and self._is_in_c_order(unit):
                self.specs[unit.output] = unit.spec
                if unit.mode == "reuse":
                    self.shared[unit.output] = unit.inputs[unit.reuse]
        for task in plan.tasks:
            self.specs.update(task.prepares)
        self.apart = set(self.views) | set(self.shared)
        self._known: dict[Any, Shape] = {}
        self.bytes_held = max(MOST_HELD_BYTES, plan.peak_bytes // 50)

    def _is_in_c_order(self, unit: Unit) -> bool:
        """Whether what a unit makes is sure to lie in C order, given `specs` of all that comes before it."""
        if unit.mode != "fresh" or len(unit.spec.shape) < 2 or isinstance(unit.node, FusedNode):
            return True
        if not isinstance(unit.kernel, np.ufunc):
            return False
        if unit.kernel.signature is not None:
            return len(unit.spec.shape) == 2
        # A ufunc makes an array in C order if an input of that shape is, or all inputs are; else in the order that they have in common.
        known = [slot in self.specs for slot in unit.inputs]
        return all(known) or any(here and self.specs[slot].shape == unit.spec.shape for slot, here in zip(unit.inputs, known, strict=True))

    def of(self, units: Sequence[Unit]) -> list[Unit | Section]:
        """``units`` of a task, with sections in place of those that make one."""
        result: list[Unit | Section] = []
        run: list[tuple[Unit, list[Instruction]]] = []
        seconds = 0.0  # of the arithmetic; calls are almost free here

        def end() -> None:
            nonlocal seconds
            result.extend(self._section(run))
            run.clear()
            seconds = 0.0

        for unit in units:
            made = self._instructions(unit)
            taken = unit.seconds - CALL_SECONDS
            if made is None or (run and seconds + taken > LONGEST_SECONDS):
                end()
            if made is None:
                result.append(unit)
            else:
                run.append((unit, made))
                seconds += taken
        end()
        return result

    # --- instructions

    def _instructions(self, unit: Unit) -> list[Instruction] | None:
        """What a unit does, None where it cannot be part of a section."""
        node, kernel = unit.node, unit.kernel
        specs, inputs, apart = self.specs, unit.inputs, self.apart
        # Most units of large plans are plain: what was found for one serves for all that run its kernel on arrays of such specs.
        key = None
        if unit.mode == "fresh" and isinstance(kernel, np.ufunc) and unit.output in specs and apart.isdisjoint(inputs):
            key = (id(kernel), id(unit.spec), *[id(specs.get(slot)) for slot in inputs])
            known = self._known.get(key)
            if known is not None:
                return [Instruction(known, (*[(slot, 0) for slot in inputs], (unit.output, 0)))]
        if unit.bodies or unit.spec is None or 0 in unit.spec.shape or not is_known(unit.spec.shape):
            return None
        if unit.output in self.views:
            return [] if self.area(unit.output) is not None else None
        if unit.mode in ("fresh", "take", "reuse") and unit.output not in self.specs:
            return None
        if kernel is _as_given:
            return []
        places = [self._read(unit, position) for position in range(len(unit.inputs))]
        if any(area is None for area in places):
            return None
        areas = [area for area in places if area is not None]
        target = self._target(unit, areas)
        if kernel is _add_up:
            return _sum_of_parts(areas[0], target)
        if isinstance(node, FusedNode):
            return _loop(node, [*areas, target])
        if not isinstance(kernel, np.ufunc) or len(areas) != kernel.nin:
            return None
        dtypes = tuple([area.dtype for area in (*areas, target)])
        if not all(dtype.char in _FREE_OF_ERRORS for dtype in dtypes) or (kernel in _CAN_FAIL and dtypes[0].kind != "f"):
            return None
        code = code_of(kernel, dtypes)
        if code is None:
            return None
        made = _product(code, areas, target) if kernel.signature is not None else _elementwise(code, areas, target)
        if made is None:
            return None
        if key is not None:
            self._known[key] = made.shape
        return [made]

    def _read(self, unit: Unit, position: int) -> Area | None:
        """Where what a unit reads lies."""
        area = self.area(unit.inputs[position])
        if area is None or not unit.cut or not unit.cut[position]:
            return area
        low, high = unit.read if unit.cut[position] == ROWS else (unit.part, unit.part + 1)
        return area.rows(low, high) if area.shape else None

    def _target(self, unit: Unit, areas: Sequence[Area]) -> Area:
        if unit.mode == "reuse":
            return areas[unit.reuse]
        if unit.mode == "part":
            return Area.whole(unit.buffer, self.specs[unit.buffer]).rows(*unit.rows)
        if unit.mode == "partial":
            entry = Area.whole(unit.buffer, self.specs[unit.buffer]).rows(unit.part, unit.part + 1)
            return entry._replace(shape=entry.shape[1:], strides=entry.strides[1:])
        return Area.whole(unit.output, unit.spec)

    def area(self, slot: int) -> Area | None:
        """Where the elements of a slot lie, through the views of it; None where that is not known."""
        while slot in self.shared:
            slot = self.shared[slot]
        view = self.views.get(slot)
        if view is None:
            spec = self.specs.get(slot)
            if spec is None or not is_known(spec.shape):
                return None
            return Area.whole(slot, spec)
        source = self.area(view.inputs[0])
        if source is None or len(view.inputs) > 1:
            return None
        name = view.node.op.name
        if name == "permute_dims":
            axes = [axis % len(source.shape) for axis in view.node.attrs["axes"]]
            return source._replace(shape=view.spec.shape, strides=tuple([source.strides[axis] for axis in axes]))
        if name in ("reshape", "reshape_like", "expand_dims", "squeeze") and source.is_contiguous:
            return source._replace(shape=view.spec.shape, strides=in_c_order(view.spec.shape, source.dtype.itemsize))
        return None

    # --- sections

    def _section(self, run: list[tuple[Unit, list[Instruction]]]) -> Iterable[Unit | Section]:
        """Units that follow each other, and what they do, as a section; as they are where that does not pay."""
        units = [unit for unit, _ in run]
        if sum(len(made) for _, made in run) < FEWEST:
            return units
        section = Section(units)
        layout = _Layout(self, section)
        for unit, made in run:
            for instruction in made:
                layout.add(instruction)
            layout.free(unit)
        if not layout.settle() or section.saves < 0:
            return units
        return [section]


def _loop(node: FusedNode, areas: Sequence[Area]) -> list[Instruction] | None:
    """A compiled loop, where its arrays lie as it needs them."""
    address, loop = bare(node.op._kernel), node.op.loop
    if not address or node.op.conv is not None:
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


def _sum_of_parts(parts: Area, target: Area) -> list[Instruction] | None:
    """As ``parts.sum(axis=0)`` adds: one entry behind the other."""
    count, size = parts.shape[0], math.prod(target.shape)
    code = code_of(np.add, (target.dtype,) * 3)
    if code is None or parts.dtype != target.dtype or count < 2 or (size == 1 and count > 2):
        return None
    entries = [parts._replace(offset=parts.offset + k * parts.strides[0], shape=target.shape, strides=target.strides) for k in range(count)]
    item = target.dtype.itemsize
    firsts = [entries[0], *[target] * (count - 2)]
    return [Instruction.on((a, b, target), code, (size,), (item,) * 3) for a, b in zip(firsts, entries[1:], strict=True)]


def _product(code: Code, areas: Sequence[Area], target: Area) -> Instruction | None:
    """A product of two matrices; of vectors NumPy makes matrices in a way of its own."""
    x, y = areas
    if len(x.shape) != 2 or len(y.shape) != 2 or not target.is_contiguous:
        return None
    (n, k), m = x.shape, y.shape[1]
    return Instruction.on((x, y, target), code, (1, n, k, m), (0, 0, 0, *x.strides, *y.strides, *target.strides))


def _elementwise(code: Code, areas: Sequence[Area], target: Area) -> Instruction | None:
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


_ARENA = -1


class _Layout:
    """Gives the areas of a section their places, and writes its tape."""

    def __init__(self, sections: Sections, section: Section) -> None:
        self.sections, self.section = sections, section
        self.own = {unit.output for unit in section.units if unit.mode in ("fresh", "take") and unit.output not in sections.views}
        ending = {slot for unit in section.units for slot in unit.frees}
        self.within = self.own & ending
        self.at: dict[int, tuple[int, int]] = {}  # slot -> what it lies in, the arena or a held buffer (the numbers below that), and where
        self.free_arena: dict[int, list[int]] = {}  # bytes -> offsets in the arena
        self.free_held: dict[Any, list[int]] = {}
        self.held = self.live = self.excess = 0
        self.seen: dict[int, None] = {}  # slots from outside
        self.placed: list[tuple[Shape, list[tuple[int, int]]]] = []

    def add(self, instruction: Instruction) -> None:
        places = []
        for slot, offset in instruction.places:
            if slot in self.within:
                at = self.at.get(slot)
                if at is None:
                    at = self.at[slot] = self._taken(slot)
                places.append((at[0], at[1] + offset))
            else:
                if slot not in self.own:
                    self.seen[slot] = None
                places.append((slot, offset))
        self.placed.append((instruction.shape, places))

    def _taken(self, slot: int) -> tuple[int, int]:
        spec = self.sections.specs[slot]
        if spec.nbytes >= POOLED_BYTES:
            free = self.free_held.get((spec.shape, spec.dtype))
            if free:
                number = free.pop()
            else:
                self.section.holds.append(spec)
                number = _ARENA - len(self.section.holds)
                self.held += spec.nbytes
            self.live += spec.nbytes
            self.excess = max(self.excess, self.held - self.live)
            return number, 0
        size = -(-max(spec.nbytes, 1) // _ALIGNMENT) * _ALIGNMENT
        free = self.free_arena.get(size)
        if free:
            return _ARENA, free.pop()
        self.section.arena += size
        return _ARENA, self.section.arena - size

    def free(self, unit: Unit) -> None:
        for slot in unit.frees:
            if slot not in self.at:
                continue
            spec = self.sections.specs[slot]
            number, offset = self.at[slot]
            if number != _ARENA:
                self.free_held.setdefault((spec.shape, spec.dtype), []).append(number)
                self.live -= spec.nbytes
                self.excess = max(self.excess, self.held - self.live)
            else:
                self.free_arena.setdefault(-(-max(spec.nbytes, 1) // _ALIGNMENT) * _ALIGNMENT, []).append(offset)

    def settle(self) -> bool:
        """Fills the section; whether it can be one."""
        section, specs = self.section, self.sections.specs
        if self.excess > self.sections.bytes_held:
            return False
        modes = {unit.output: unit.mode for unit in section.units}
        section.reads = list(self.seen)
        section.makes = [(slot, specs[slot], modes[slot]) for slot in modes if slot in self.own and slot not in self.within]
        count = len(section.reads) + len(section.makes) + len(section.holds)
        if count >= MOST_ARRAYS or any(len(places) > MOST_OPERANDS for _, places in self.placed):
            return False
        numbers = {slot: k for k, slot in enumerate([*section.reads, *[slot for slot, _, _ in section.makes]], 1)}
        arena, held = count + 1, len(numbers)
        for shape, places in self.placed:
            words = [place(numbers[key] if key >= 0 else arena if key == _ARENA else held + _ARENA - key, at) for key, at in places]
            section.tape.add(shape.code, words, *shape[1:])
        freed = [slot for unit in section.units for slot in unit.frees]
        later = set(modes) - set(freed)
        section.shares = [(slot, self.sections.shared[slot]) for slot in modes if slot in later and slot in self.sections.shared]
        section.views = [unit for unit in section.units if unit.output in later and unit.output in self.sections.views]
        section.frees = tuple([slot for slot in freed if slot not in modes])
        section.recycles = tuple([slot for unit in section.units for slot in unit.recycles if slot not in self.at])
        return True
