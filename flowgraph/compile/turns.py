"""Turns: those of a loop without Python between them. All turns of a part of a loop that is cut by rows are one instruction of a tape, and
any number of turns of a loop that is not cut are one call.

What a turn gives lies where the next one reads it: in a row of a stack, or in one of two buffers that take turns. Nothing is copied, but
for what a turn gives that it was given, and for the last carry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..graph import Spec
from ..graph.spec import is_known
from ..jit.tape import MOST_OPERANDS, Tape, is_possible, place, repeat_code
from ..jit.ufuncs import code_of
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
    """The instruction for the turns of a loop.

    inner    the sections of the plan of its body
    sources  where what it reads lies: the turns, then the inputs of the node; of what is cut into turns a stack
    targets  where what it makes goes: the last carries, then stacks; None for a carry that stays where the last turn left it (see `ends`)

    places   of what it gets, by numbers from 1 on: (slot, offset), or the spec of a buffer
    steps    by how many bytes each of them moves on from turn to turn
    number   slot of the body -> the number of what it lies in
    ends     for each carry without a target where it is at the end: None where it started, the number of an output whose stack has it as a
             row, or -1 in the first of two buffers of its own behind an odd number of turns, else in the second
    """

    def __init__(self, inner: Sections, attrs: Mapping[str, Any], sources: Sequence[Area | None], targets: Sequence[Area | None]) -> None:
        self.inner, self.plan, self.attrs = inner, inner.plan, attrs
        self.sources, self.targets = sources, targets
        self.places: list[Any] = []
        self.steps: list[int] = []
        self.number: dict[int, int] = {}
        self.before: list[Instruction] = []
        self.behind: list[Instruction] = []
        self.rotations: list[tuple[int, int, int]] = []
        self.finals: list[tuple[int, int, int]] = []
        self.ends: list[int | None] = []
        self.layout = Layout(inner, Section(list(self.plan.units)))

    def instruction(self, told: int | tuple[int, int]) -> Instruction:
        """Takes the number of turns, or where it will be told: (slot, offset). raises Unturnable."""
        if self.plan.run_slot >= 0:
            raise Unturnable
        count = told if isinstance(told, int) else 0
        if not isinstance(told, int):
            self._get(told)
        self._read()
        for unit in self.plan.units:
            made = self.inner._instructions(unit)
            if made is None:
                raise Unturnable
            self.layout.write_over(unit)
            for each in made:
                self.layout.add(each)
            self.layout.free(unit)
        self._write()
        tape, numbers = Tape(), self._numbers()
        if max(len(self.places), *[len(places) for _, places in self.layout.placed]) > MOST_OPERANDS:
            raise Unturnable
        for shape, places in self.layout.placed:
            tape.add(shape.code, [place(*numbers(slot, at)) for slot, at in places], *shape[1:])
        if not is_possible():
            raise Unturnable
        code = repeat_code(tape, self.rotations, self.finals)
        return Instruction(Shape(code, (count, len(self.places)), tuple(self.steps)), tuple(self.places))

    def _get(self, what: Any, step: int = 0) -> int:
        """The number of something new that it gets."""
        self.places.append(what)
        self.steps.append(step)
        return len(self.places)

    def _entries(self, stack: Area) -> tuple[int, Area]:
        """The number of the entries of a stack, the first of which is that of the first turn, and such an entry."""
        step, count = stack.strides[0], stack.shape[0]
        first = stack.offset + (count - 1) * step * self.attrs["reverse"]
        number = self._get((stack.slot, first), -step if self.attrs["reverse"] else step)
        return number, stack._replace(slot=_ENTRIES + number, offset=0, shape=stack.shape[1:], strides=stack.strides[1:])

    def _read(self) -> None:
        """Gives the inputs of the body their numbers."""
        carries, xs = self.attrs["carries"], self.attrs["xs"]
        reads = {slot for unit in self.plan.units for slot in unit.inputs}
        for position, ((_, slot), area) in enumerate(zip(self.plan.feeds, self.sources, strict=True)):
            if area is None or (position == 0 and slot not in reads):
                continue
            if position and not carries < position <= carries + xs:
                if not area.is_contiguous:
                    raise Unturnable
                self.number[slot] = self._get((area.slot, area.offset))
                continue
            number, entry = self._entries(area)
            if not entry.is_contiguous:  # Python's loop copies such entries, too
                spec = Spec(entry.shape, entry.dtype)
                number = self._get(spec)
                self._copy(entry, Area.whole(slot, spec), self.before)
            self.number[slot] = number
        for each in self.before:
            self.layout.add(each)

    def _copy(self, source: Area, target: Area, into: list[Instruction]) -> None:
        code = code_of(np.positive, (target.dtype,) * 2) if target.dtype.kind == "f" else None
        made = None if code is None or source.dtype != target.dtype else elementwise(code, [source], target)
        if made is None:
            raise Unturnable
        into.append(made)

    def _write(self) -> None:
        """Gives the outputs of the body their numbers, and says what the next turn reads."""
        carries, inner, outputs = self.attrs["carries"], self.inner, self.plan.fetches
        own = self.layout.own - self.layout.within
        stacks: dict[int, int] = {}  # number -> the output whose stack has it
        for k, (slot, target) in enumerate(zip(outputs[carries:], self.targets[carries:], strict=True), carries):
            if target in self.targets[carries:k]:  # (outputs that are the same have one stack)
                continue
            made = inner.area(slot)
            if made is None or target is None:
                raise Unturnable
            number, entry = self._entries(target)
            stacks[number] = k
            if not entry.is_contiguous:
                raise Unturnable
            if made.slot in own and made.slot not in self.number and made == Area.whole(made.slot, inner.specs[made.slot]):
                self.number[made.slot] = number
            else:
                self._copy(made, entry, self.behind)
        for each in self.behind:
            self.layout.add(each)
        for (_, given), slot, end in zip(self.plan.feeds[1:], outputs[:carries], self.targets[:carries], strict=False):
            made, read = inner.area(slot), self.number[given]
            if made is None or (end is not None and not end.is_contiguous):
                raise Unturnable
            spec = inner.specs[made.slot]
            where = None
            if made.slot != given:
                if made.slot not in own or made != Area.whole(made.slot, spec):
                    raise Unturnable
                if made.slot in self.number:
                    if any(made_in == self.number[made.slot] and spare for _, made_in, spare in self.rotations):
                        raise Unturnable
                    self.rotations.append((read, self.number[made.slot], 0))
                    where = stacks[self.number[made.slot]]
                else:
                    whole = Spec(spec.shape, spec.dtype)
                    self.number[made.slot] = self._get(whole)
                    self.rotations.append((read, self.number[made.slot], self._get(whole)))
                    where = -1
            if end is None:
                self.ends.append(where)
            else:
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
                raise Unturnable  # the number of the turn, in a part
            return slot - _ENTRIES, offset

        return numbered


def turns_of(outer: Sections, unit: Unit) -> list[Instruction] | None:
    """The instruction for all turns of a part of a loop; None where Python has to go through them."""
    part, attrs = unit.kernel, unit.node.attrs
    if not isinstance(part, LoopPart) or unit.node.op.name != "scan" or unit.bodies[0].sections is None:
        return None
    count = len(unit.inputs) - 1 - len(unit.writes)
    try:
        areas = [_rows(outer.area(slot), axis, part.bounds) for slot, axis in zip(unit.inputs[1:], part.axes, strict=True)]
        length = areas[attrs["carries"]].shape[0] if attrs["xs"] else attrs["length"]
        if not isinstance(length, int) or not length:
            return None
        inner = unit.bodies[0].sections(unit.bodies[0])
        inner.is_repeated = True
        return [Turns(inner, attrs, [None, *areas[:count]], areas[count:]).instruction(length)]
    except Unturnable:
        return None


def _rows(area: Area | None, axis: int | None, bounds: tuple[int, int]) -> Area:
    """The rows of a part."""
    if area is None or len(area.shape) <= (axis or 0):
        raise Unturnable
    if axis is None:
        return area
    low, high = bounds
    shape = (*area.shape[:axis], high - low, *area.shape[axis + 1 :])
    return area._replace(offset=area.offset + low * area.strides[axis], shape=shape)


def told_of_turns(unit: Unit) -> str:
    """How a loop that is not cut goes through its turns, in words; empty for what is no such loop."""
    if unit.node.op.name != "scan" or isinstance(unit.kernel, LoopPart) or not unit.bodies:
        return ""
    made = turns_call(unit.bodies[0], unit.node.attrs, lambda *arrays: None)
    return "each turn called from Python" if made is None else "turns behind the first in machine code"


class TurnsCall(NamedTuple):
    """A function that goes through any number of turns of a loop that is not cut.

    call     takes the number of turns as int64, then of the first turn: its number, the carries, the xs from its entry on, what the body
             captures, and the stacks from its entry on; then ``buffers``, the specs of arrays to work in. The first two buffers for each
             carry that is -1 in ``ends`` are those in which it lies by turns
    ends     for each carry where it is at the end: as in `Turns`
    """

    call: Callable[..., Any]
    buffers: list[Any]
    ends: list[int | None]


def turns_call(plan: Plan, attrs: Mapping[str, Any], otherwise: Callable[..., Any]) -> TurnsCall | None:
    """The function for the turns of a body; None where Python has to go through them.

    otherwise  called in its stead where an array does not lie as it needs it
    """
    if plan.sections is None or not all(is_known(shape) for shape in plan.shapes):
        return None
    inner, carries, xs = plan.sections(plan), attrs["carries"], attrs["xs"]
    inner.is_repeated = True
    sources: list[Area | None] = []
    for position, ((tensor, _), shape) in enumerate(zip(plan.feeds, plan.shapes, strict=True)):
        stacked = not position or carries < position <= carries + xs
        sources.append(Area.whole(position + 1, Spec((1, *shape) if stacked else tuple(shape), tensor.dtype)))
    targets: list[Area | None] = [None] * carries
    for slot in plan.fetches[carries:]:
        made = inner.area(slot)
        if made is None:
            return None
        targets.append(Area.whole(len(sources) + len(targets) - carries + 1, Spec((1, *made.shape), made.dtype)))
    turns = Turns(inner, attrs, sources, targets)
    try:
        shape, places = turns.instruction((0, 0))
    except Unturnable:
        return None
    buffers = [spec for spec in places if isinstance(spec, Spec)]
    room = plan.peak_bytes + sum(int(inner.specs[slot].nbytes) for slot in plan.fetches[:carries] if slot in inner.specs)
    if sum(int(spec.nbytes) for spec in buffers) > room + inner.bytes_held:
        return None
    given = 1 + len(sources) + len(targets) - carries
    numbers = iter(range(given + 1, given + 1 + len(buffers)))
    tape = Tape()
    tape.add(shape.code, [place(next(numbers)) if isinstance(at, Spec) else place(at[0] + 1, at[1]) for at in places], *shape[1:])
    return TurnsCall(tape.call(otherwise, with_lock=False), buffers, turns.ends)
