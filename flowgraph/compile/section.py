"""Section: units of a task that run as one tape, and the memory that each of them gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..graph import Spec
from ..graph.arguments import counted
from ..jit.tape import MOST_ARRAYS, MOST_OPERANDS, SECONDS_WITH_LOCK, Tape, place
from ..records import Record, field
from .cost import CALL_SECONDS
from .instructions import Instruction, Shape
from .kinds import POOLED_BYTES
from .plan import Unit

if TYPE_CHECKING:
    from .native import Sections

# What waiting for Python's lock costs on average; a call from Python, and one for a kernel on numbers alone; a call of a tape, each new
# array that it is given, and each buffer from the pool. A section is worth it from a few kernels on.
FEWEST, FEWEST_LONG = 4, 2  # the latter where kernels are so long that each by itself would let go of Python's lock
KERNEL_SECONDS, NUMBER_SECONDS = 0.19e-6, 0.03e-6
LOCK_SECONDS = 2e-6
TAPE_SECONDS, NEW_SECONDS, BUFFER_SECONDS = 0.15e-6, 0.12e-6, 0.6e-6
# Whether a run has been stopped is asked between sections.
LONGEST_SECONDS = 5e-3
# What is made in a section and dies there is kept to its end: more than this must not come of it.
MOST_HELD_BYTES = 2**16
_ALIGNMENT = 64
# So large an arena may lie on the stack; a larger one is a buffer from the pool.
STACK_BYTES = 16384


class Section(Record, frozen=False, eq=False):
    """Units that run as one tape.

    reads    slots whose arrays it gets; ``makes``: (slot, spec, mode) of those that it is given to fill
    holds    specs of buffers from the pool that it gets besides, and that go back behind it
    shares   (slot, slot) of which the first is given the array of the second behind it, as it was written over; ``views``: units that are
             run behind it, for those who read the views later
    frees    slots that are emptied behind it, ``recycles``: those of them whose array goes back to the pool
    arena    bytes of memory for what is made and dies within it
    stands   slot -> the one among those that it makes whose array it gets, when that is no longer read
    short    what counts, as an array of one int64, how often its kernels found no memory to work in; None where they need none
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
    stands: dict[int, int] = field(default_factory=dict)
    short: Any = None
    tape: Tape = field(default_factory=Tape)

    @property
    def title(self) -> str:
        """What it is, for who reads the source."""
        return f"{counted(len(self.units), 'kernel')} as one call of machine code"

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
        if any(unit.bodies for unit in self.units):
            return sum(unit.seconds for unit in self.units)  # (each turn of a loop saves what follows, and more)
        calls = sum(
            KERNEL_SECONDS if unit.spec is None or unit.spec.shape or not hasattr(unit.node.op, "symbol") else NUMBER_SECONDS
            for unit in self.units
        )
        long = sum(unit.seconds - CALL_SECONDS > SECONDS_WITH_LOCK for unit in self.units)
        return calls + LOCK_SECONDS * max(long - 1, 0) - TAPE_SECONDS - NEW_SECONDS * len(self.makes) - BUFFER_SECONDS * len(self.buffers)

    def bind(self, otherwise: Callable[..., Any]) -> Callable[..., Any]:
        """A function of what it reads, makes, and gets from the pool. It raises MemoryError."""
        is_short = self.seconds + 10e-9 * len(self.tape) < SECONDS_WITH_LOCK
        call = self.tape.call(otherwise, with_lock=is_short, stack=self.arena if self.arena <= STACK_BYTES else 0)
        return self.watched(call)

    def watched(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """``call``, which raises MemoryError where a kernel found no memory to work in."""
        if self.short is None:
            return call
        count = memoryview(self.short)

        def watched(*arrays: Any) -> Any:
            before = count[0]
            result = call(*arrays)
            if count[0] != before:
                raise MemoryError("a kernel found no memory to work in")
            return result

        return watched


ARENA = -1


class Layout:
    """Gives the areas of a section their places, and writes its tape."""

    def __init__(self, sections: Sections, section: Section) -> None:
        self.sections, self.section = sections, section
        self.own = {unit.output for unit in section.units if unit.mode in ("fresh", "take") and unit.output not in sections.views}
        ending = {slot for unit in section.units for slot in unit.frees}
        self.within = self.own & ending
        self.at: dict[int, tuple[int, int]] = {}  # slot -> what it lies in, the arena or a held buffer (the numbers below that), and where
        self.over: set[int] = set()  # slots that are written over
        self.free_arena: dict[int, list[int]] = {}  # bytes -> offsets in the arena
        self.free_held: dict[Any, list[int]] = {}
        self.seen: dict[int, None] = {}  # slots from outside
        self.placed: list[tuple[Shape, list[tuple[int, int]]]] = []

    def write_over(self, unit: Unit) -> None:
        """Lets a unit write its result over an input that dies in it, unless it reads that as a view as well, transposed perhaps."""
        if unit.mode not in ("fresh", "take") or not unit.node.op.in_place or unit.output not in self.within:
            return
        specs = self.sections.specs
        read = [area.slot for area in map(self.sections.area, unit.inputs) if area is not None]
        for slot in unit.inputs:
            if slot in self.at and slot in unit.frees and specs[slot] == specs[unit.output] and read.count(slot) == 1:
                self.at[unit.output] = self.at[slot]
                self.over.add(slot)
                break

    def add(self, instruction: Instruction) -> None:
        places, buffers = [], []
        for where in instruction.places:
            if isinstance(where, Spec):
                buffers.append((where, self._memory(where)))
                places.append(buffers[-1][1])
                continue
            slot, offset = where
            if slot in self.within:
                at = self.at.get(slot)
                if at is None:
                    at = self.at[slot] = self._memory(self.sections.specs[slot])
                places.append((at[0], at[1] + offset))
            else:
                if slot not in self.own:
                    self.seen[slot] = None
                places.append((slot, offset))
        self.placed.append((instruction.shape, places))
        if instruction.shape.code.keeps is self.sections.short:
            self.section.short = self.sections.short
        for spec, at in buffers:
            self._let_go(spec, at)

    def _memory(self, spec: Any) -> tuple[int, int]:
        """Memory for an array: what it lies in, and where."""
        if spec.nbytes >= POOLED_BYTES:
            free = self.free_held.get((spec.shape, spec.dtype))
            if free:
                number = free.pop()
            else:
                self.section.holds.append(spec)
                number = ARENA - len(self.section.holds)
            return number, 0
        size = aligned(spec.nbytes)
        free = self.free_arena.get(size)
        if free:
            return ARENA, free.pop()
        self.section.arena += size
        return ARENA, self.section.arena - size

    def free(self, unit: Unit) -> None:
        for slot in unit.frees:
            if slot not in self.at or slot in self.over:
                continue
            self._let_go(self.sections.specs[slot], self.at[slot])

    def _let_go(self, spec: Any, at: tuple[int, int]) -> None:
        """Notes that the memory of an array may serve for another."""
        number, offset = at
        if number == ARENA:
            self.free_arena.setdefault(aligned(spec.nbytes), []).append(offset)
        else:
            self.free_held.setdefault((spec.shape, spec.dtype), []).append(number)

    def forget(self) -> None:
        """From here on no memory serves again that was let go of before."""
        self.free_arena.clear()
        self.free_held.clear()

    def settle(self, prepared: Mapping[int, Any] | None = None) -> bool:
        """Fills the section, but for its tape; whether it can be one.

        prepared  buffers that it makes besides, for slices
        """
        section, specs = self.section, self.sections.specs
        modes = {unit.output: unit.mode for unit in section.units}
        section.reads = [slot for slot in self.seen if prepared is None or slot not in prepared]
        made = [slot for slot in modes if slot in self.own and slot not in self.within and slot in specs]
        section.makes = [(slot, specs[slot], modes[slot]) for slot in made]
        if prepared is not None:
            section.makes += [(slot, spec, "take") for slot, spec in prepared.items() if slot in self.seen]
        elif self._excess() > self.sections.bytes_held:
            return False
        count = len(section.reads) + len(section.makes) + len(section.holds)
        if count >= MOST_ARRAYS or any(len(places) > MOST_OPERANDS for _, places in self.placed):
            return False
        freed = [slot for unit in section.units for slot in unit.frees]
        later = set(modes) - set(freed)
        section.shares = [(slot, self.sections.shared[slot]) for slot in modes if slot in later and slot in self.sections.shared]
        section.views = [unit for unit in section.units if unit.output in later and unit.output in self.sections.views]
        section.frees = tuple([slot for slot in freed if slot not in modes])
        section.recycles = tuple([slot for unit in section.units for slot in unit.recycles if slot not in self.at])
        return True

    def tape(self, start: int, end: int | None) -> Tape:
        """Some of the instructions."""
        section, tape = self.section, Tape()
        numbers = {slot: k for k, slot in enumerate(section.slots, 1)}
        numbers |= {slot: numbers[other] for slot, other in section.stands.items()}
        held, arena = len(section.slots), len(section.slots) + len(section.holds) + 1
        for shape, places in self.placed[start:end]:
            words = [place(numbers[key] if key >= 0 else arena if key == ARENA else held + ARENA - key, at) for key, at in places]
            tape.add(shape.code, words, *shape[1:])
        return tape

    def _excess(self) -> int:
        """By how many bytes it takes more than its kernels one by one, as all that it fills is there from its start to its end."""
        specs, shared = self.sections.specs, self.sections.shared
        live = most = 0
        for unit in self.section.units:
            live += unit.bytes_made
            most = max(most, live + max([body.peak_bytes for body in unit.bodies], default=0))
            live -= sum(int(specs[slot].nbytes) for slot in unit.frees if slot in specs and slot not in shared)
        return sum(int(spec.nbytes) for spec in (*self.section.holds, *[spec for _, spec, _ in self.section.makes])) - most


def aligned(nbytes: int) -> int:
    """How many bytes of an arena an array takes."""
    return -(-max(nbytes, 1) // _ALIGNMENT) * _ALIGNMENT
