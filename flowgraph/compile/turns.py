"""Turns: a part of a loop that is cut by rows, as one instruction of a tape: all of its turns, without Python between them.

What a turn gives lies where the next one reads it: in a row of a stack, or in one of two buffers that take turns. Nothing is copied, but
for what a turn gives that it was given, and for the last carry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..graph import Spec
from ..jit.tape import MOST_OPERANDS, Tape, code_of, place, repeat_code
from .instructions import Area, Instruction, Shape, elementwise
from .plan import Plan, Unit
from .rows import LoopPart
from .section import ARENA, Layout, Section

if TYPE_CHECKING:
    from .native import Sections

# From here on slots stand for entries of stacks, by their numbers.
_ENTRIES = 1 << 40


class Unturnable(Exception):
    """What says that a loop stays one of Python's."""


class Turns:
    """The instruction for a unit that is a part of a loop.

    outer   the sections of the plan that it is in, and ``inner``: of that of its body
    places  of what it gets, by numbers from 1 on: (slot, offset) in the plan, or the spec of a buffer
    steps   by how many bytes each of them moves on from turn to turn
    number  slot of the body -> the number of what it lies in
    """

    def __init__(self, outer: Sections, inner: Sections, unit: Unit, part: LoopPart) -> None:
        self.outer, self.inner, self.unit, self.part = outer, inner, unit, part
        self.plan: Plan = unit.bodies[0]
        self.attrs = unit.node.attrs
        self.places: list[Any] = []
        self.steps: list[int] = []
        self.number: dict[int, int] = {}
        self.before: list[Instruction] = []
        self.behind: list[Instruction] = []
        self.rotations: list[tuple[int, int, int]] = []
        self.finals: list[tuple[int, int, int]] = []
        self.layout = Layout(inner, Section(list(self.plan.units)))

    def instruction(self) -> Instruction:
        """raises Unturnable."""
        count = self._read()
        for unit in self.plan.units:
            made = self.inner._instructions(unit)
            if made is None:
                raise Unturnable
            self.layout.write_over(unit)
            for each in made:
                self.layout.add(each)
            self.layout.free(unit)
        self._write(count)
        tape, numbers = Tape(), self._numbers()
        if max(len(self.places), *[len(places) for _, places in self.layout.placed]) > MOST_OPERANDS:
            raise Unturnable
        for shape, places in self.layout.placed:
            tape.add(shape.code, [place(*numbers(slot, at)) for slot, at in places], *shape[1:])
        code = repeat_code(tape, self.rotations, self.finals)
        return Instruction(Shape(code, (count, len(self.places)), tuple(self.steps)), tuple(self.places))

    def _get(self, what: Any, step: int = 0) -> int:
        """The number of something new that it gets."""
        self.places.append(what)
        self.steps.append(step)
        return len(self.places)

    def _rows(self, area: Area | None, axis: int | None) -> Area:
        """The rows of this part."""
        if area is None or len(area.shape) <= (axis or 0):
            raise Unturnable
        if axis is None:
            return area
        low, high = self.part.bounds
        shape = (*area.shape[:axis], high - low, *area.shape[axis + 1 :])
        return area._replace(offset=area.offset + low * area.strides[axis], shape=shape)

    def _entries(self, stack: Area) -> tuple[int, Area]:
        """The number of the entries of a stack, the first of which is that of the first turn, and such an entry."""
        step, count = stack.strides[0], stack.shape[0]
        first = stack.offset + (count - 1) * step * self.attrs["reverse"]
        number = self._get((stack.slot, first), -step if self.attrs["reverse"] else step)
        return number, stack._replace(slot=_ENTRIES + number, offset=0, shape=stack.shape[1:], strides=stack.strides[1:])

    def _read(self) -> int:
        """Gives the inputs of the body their numbers; the number of turns."""
        carries, xs = self.attrs["carries"], self.attrs["xs"]
        count: Any = self.attrs["length"]
        feeds = [slot for _, slot in self.plan.feeds][1:]  # behind the turn
        for position, (slot, source) in enumerate(zip(feeds, self.unit.inputs[1:], strict=False)):
            area = self._rows(self.outer.area(source), self.part.axes[position])
            if not carries <= position < carries + xs:
                if not area.is_contiguous:
                    raise Unturnable
                self.number[slot] = self._get((area.slot, area.offset))
                continue
            count = area.shape[0]
            number, entry = self._entries(area)
            if not entry.is_contiguous:  # Python's loop copies such entries, too
                spec = Spec(entry.shape, entry.dtype)
                number = self._get(spec)
                self._copy(entry, Area.whole(slot, spec), self.before)
            self.number[slot] = number
        if not isinstance(count, int) or not count or self.plan.run_slot >= 0:
            raise Unturnable
        for each in self.before:
            self.layout.add(each)
        return count

    def _copy(self, source: Area, target: Area, into: list[Instruction]) -> None:
        code = code_of(np.positive, (target.dtype,) * 2) if target.dtype.kind == "f" else None
        made = None if code is None or source.dtype != target.dtype else elementwise(code, [source], target)
        if made is None:
            raise Unturnable
        into.append(made)

    def _write(self, count: int) -> None:
        """Gives the outputs of the body their numbers, and says what the next turn reads."""
        carries, inner = self.attrs["carries"], self.inner
        feeds = [slot for _, slot in self.plan.feeds][1:]
        axes = self.part.axes[len(feeds) :]
        own = self.layout.own - self.layout.within
        for k, (slot, target) in enumerate(zip(self.plan.fetches, self.unit.writes, strict=True)):
            if k < carries:
                continue
            number, entry = self._entries(self._rows(self.outer.area(target), axes[k]))
            made = inner.area(slot)
            if made is None or not entry.is_contiguous:
                raise Unturnable
            if made.slot in own and made.slot not in self.number and made == Area.whole(made.slot, inner.specs[made.slot]):
                self.number[made.slot] = number
            else:
                self._copy(made, entry, self.behind)
        for each in self.behind:
            self.layout.add(each)
        for k, (slot, target) in enumerate(zip(self.plan.fetches[:carries], self.unit.writes[:carries], strict=True)):
            made, read, end = inner.area(slot), self.number[feeds[k]], self._rows(self.outer.area(target), axes[k])
            if made is None or not end.is_contiguous:
                raise Unturnable
            spec = inner.specs[made.slot]
            if made.slot != feeds[k]:
                if made.slot not in own or made != Area.whole(made.slot, spec):
                    raise Unturnable
                if made.slot in self.number:
                    if any(made_in == self.number[made.slot] and spare for _, made_in, spare in self.rotations):
                        raise Unturnable
                    self.rotations.append((read, self.number[made.slot], 0))
                else:
                    whole = Spec(spec.shape, spec.dtype)
                    self.number[made.slot] = self._get(whole)
                    self.rotations.append((read, self.number[made.slot], self._get(whole)))
            self.finals.append((read, int(spec.nbytes), self._get((end.slot, end.offset))))

    def _numbers(self) -> Any:
        """A function of a slot of the body, or what stands for it, and an offset: the number of what it lies in, and where."""
        section, constants = self.layout.section, dict(self.plan.constants)
        held = [self._get(spec) for spec in section.holds]
        arena = self._get(Spec((section.arena,), np.dtype("uint8"))) if section.arena else 0

        def numbered(slot: int, offset: int) -> tuple[int, int]:
            if slot in self.number:
                return self.number[slot], offset
            if slot in constants:
                return 0, constants[slot].ctypes.data + offset
            if slot == ARENA:
                return arena, offset
            if slot < 0:
                return held[ARENA - slot - 1], offset
            if slot < _ENTRIES:
                raise Unturnable  # the number of the turn
            return slot - _ENTRIES, offset

        return numbered


def turns_of(outer: Sections, unit: Unit) -> list[Instruction] | None:
    """The instruction for all turns of a part of a loop; None where Python has to go through them."""
    part = unit.kernel
    if not isinstance(part, LoopPart) or unit.node.op.name != "scan" or unit.bodies[0].sections is None:
        return None
    try:
        return [Turns(outer, unit.bodies[0].sections(unit.bodies[0]), unit, part).instruction()]
    except Unturnable:
        return None
