"""Lanes: which kernels of a captured graph may run side by side. Plain data; no arrays, no streams and no threads in this module.

A lane is a stream that a part of the kernels is captured on, one behind the other. Each kernel, in the order of the plan, goes where it is
expected to start first; among lanes that are alike it stays on that of its input. What it reads was made on another lane: its own waits for
an event behind the kernel that made it. So the graph has a branch for what is independent. All of it depends on the plan alone.

Expected is what `seconds` of the units say, and that kernels which fill the device by themselves gain nothing side by side. Where less is
saved than `WORTH`, there is one lane: a chain is captured as a chain.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from ..compile.plan import Unit
from ..devices.speed import SPEEDS

MOST = 8
# From one kernel of a graph to the next on its lane, and what is added from lane to lane: so much earlier it has to start there, too.
LAUNCH_SECONDS, HOP_SECONDS = 2e-6, 2e-6
# A kernel that takes so long on the whole device does not leave much of it to others.
FILLS_SECONDS = 20e-6
# What has to be saved, of the time and at least.
WORTH, WORTH_SECONDS = 0.05, 4e-6

START = -1  # stands for the start of the graph, where it is waited for

# Views of CuPy that copy where they have to.
_MAY_COPY = frozenset({"reshape", "reshape_like"})


class Step(NamedTuple):
    """A kernel as lanes see it.

    reads    slots
    makes    the slot that it fills, -1 for none
    writes   slots, there before, whose memory it writes
    seconds  expected, on a device that has nothing else to do; 0 for what asks it for nothing
    kind     "kernel"; "view" of memory of what it reads; "buffer": memory that a later kernel writes
    """

    reads: tuple[int, ...]
    makes: int
    writes: tuple[int, ...] = ()
    seconds: float = 0.0
    kind: str = "kernel"


class Lanes(NamedTuple):
    """Which lane each step is on, and what it waits for.

    width    number of lanes; the first is the stream that the capture begins on
    lane     for each step its lane
    waits    for each step the steps of other lanes behind which it has to be and is not yet, or `START`
    known    for each step, for each lane the last step there behind which it is
    seconds  expected of all; ``serial``: on one lane
    """

    width: int
    lane: Sequence[int]
    waits: Sequence[tuple[int, ...]]
    known: Sequence[tuple[int, ...]]
    seconds: float
    serial: float

    @property
    def marked(self) -> frozenset[int]:
        """The steps behind which there is an event."""
        return frozenset(step for waits in self.waits for step in waits)


def steps_of(units: Iterable[Unit], updates: Mapping[int, int]) -> list[Step]:
    """The steps of units, and then of the updates: for each (slot of the new value -> slot of the variable) its memory is written last.

    A new value that is a view, of a variable perhaps, is read in a step before all writes: there it may be copied.
    """
    steps: list[Step] = []
    views: set[int] = set()
    written = {slot for unit in units for slot in unit.writes}
    for unit in units:
        kind, seconds = "kernel", LAUNCH_SECONDS + max(unit.seconds - SPEEDS["cuda"].call_seconds, 0.0)
        if not unit.inputs and unit.output in written:
            kind, seconds = "buffer", 0.0
        elif unit.node.op.is_view and not unit.nbytes and unit.mode == "fresh":
            kind, seconds = ("kernel" if unit.node.op.name in _MAY_COPY else "view"), 0.0
            views.add(unit.output)
        steps.append(Step(unit.inputs, unit.output, unit.writes, seconds, kind))
    steps += [Step((slot,), -1) for slot in updates if slot in views]
    steps += [Step((slot,), -1, (variable,), LAUNCH_SECONDS) for slot, variable in updates.items()]
    return steps


def lanes_of(steps: Sequence[Step], most: int = MOST) -> Lanes:
    """The lanes of steps in their order, ``most`` at most."""
    serial = sum(step.seconds for step in steps)
    least = sum(step.seconds for step in steps if step.seconds >= FILLS_SECONDS)
    worth = max(WORTH * serial, WORTH_SECONDS)
    if most > 1 and serial - least > worth:
        found = _Assignment(steps, most).lanes(serial)
        if found.width > 1 and serial - found.seconds > worth:
            return found
    return Lanes(1, [0] * len(steps), [()] * len(steps), [(i - 1,) for i in range(len(steps))], serial, serial)


class _Assignment:
    """Steps put on lanes one by one, by what is expected; of slots it knows who writes and reads their memory.

    roots    slot -> what memory its array may lie in: each has the number of the slot that was made there
    writer   root -> the step that wrote it last; ``readers``: those since, the last on each lane
    free     for each lane when it is; ``filled``: when the device is, for what fills it
    known    for each lane, for each lane the last step there behind which it is
    """

    def __init__(self, steps: Sequence[Step], most: int) -> None:
        self.steps = steps
        self.roots: dict[int, tuple[int, ...]] = {}
        self.writer: dict[int, int] = {}
        self.readers: dict[int, dict[int, int]] = {}
        self.free, self.filled = [0.0] * most, 0.0
        self.known = [[START] * most for _ in range(most)]
        self.count = 1
        self.lane = [0] * len(steps)
        self.done = [0.0] * len(steps)
        self.behind: list[tuple[int, ...]] = []  # for each step, what is known behind it
        self.waits: list[tuple[int, ...]] = []
        self.before: list[tuple[int, ...]] = []
        self.buffers: dict[int, int] = {}  # slot -> the step that makes it, until one writes it
        for index, step in enumerate(steps):
            self._put(index, step)

    def lanes(self, serial: float) -> Lanes:
        known = [row[: self.count] for row in self.before]
        return Lanes(self.count, self.lane, self.waits, known, max(self.done, default=0.0), serial)

    def _put(self, index: int, step: Step) -> None:
        if step.kind == "kernel":
            after = self._after(step)
            lane = self._chosen(step, after)
            self.waits.append(self._waited(after, lane))
            if lane and self.known[lane][lane] == START and not self.waits[-1]:
                self.waits[-1] = (START,)
            self.before.append(tuple(self.known[lane]))
            self.known[lane][lane] = index
            self._note(index, step, lane)
        else:
            if step.kind == "buffer":
                self.buffers[step.makes] = index
            self.waits.append(())
            self.before.append((START,) * len(self.free))
        self.behind.append(tuple(self.known[self.lane[index]]))
        if step.makes >= 0:
            own = (step.makes,) if step.kind != "view" else ()
            seen = step.reads if step.kind == "view" or (step.kind == "kernel" and not step.seconds) else ()
            self.roots[step.makes] = tuple(dict.fromkeys((*own, *[root for slot in seen for root in self.roots.get(slot, (slot,))])))
            if step.kind == "kernel":
                self.writer[step.makes] = index

    def _after(self, step: Step) -> Collection[int]:
        """The steps that have to be over."""
        after: set[int] = set()
        for slot in step.reads:
            after.update(self.writer[root] for root in self.roots.get(slot, (slot,)) if root in self.writer)
        for slot in step.writes:
            for root in self.roots.get(slot, (slot,)):
                after.update(self.readers.get(root, {}).values())
                if root in self.writer:
                    after.add(self.writer[root])
        return after

    def _chosen(self, step: Step, after: Collection[int]) -> int:
        """The lane on which a step is expected to start first; it is taken there."""
        latest = max(after, key=lambda before: (self.done[before], before), default=None)
        own = 0 if latest is None else self.lane[latest]
        fills = step.seconds >= FILLS_SECONDS
        lanes = range(min(self.count + 1, len(self.free)))
        starts = [self._start(lane, after, fills) for lane in lanes]
        best = min(lanes, key=starts.__getitem__)
        if starts[best] > starts[own] - HOP_SECONDS:
            best = own
        self.count = max(self.count, best + 1)
        self.free[best] = starts[best] + step.seconds
        if fills:
            self.filled = self.free[best]
        return best

    def _start(self, lane: int, after: Collection[int], fills: bool) -> float:
        ready = max((self.done[before] + HOP_SECONDS * (self.lane[before] != lane) for before in after), default=0.0)
        return max(self.free[lane], ready, self.filled if fills else 0.0)

    def _waited(self, after: Collection[int], lane: int) -> tuple[int, ...]:
        """Which of the steps ``lane`` has to wait for, the last first, as they may stand behind the others; from then on it knows them."""
        known, waits = self.known[lane], []
        for before in sorted(after, reverse=True):
            there = self.lane[before]
            if there != lane and known[there] < before:
                waits.append(before)
                known[:] = map(max, known, self.behind[before])
        return tuple(waits)

    def _note(self, index: int, step: Step, lane: int) -> None:
        """What a step that runs on ``lane`` reads and writes."""
        self.lane[index], self.done[index] = lane, self.free[lane]
        for slot in step.reads:
            for root in self.roots.get(slot, (slot,)):
                self.readers.setdefault(root, {})[lane] = index
        for slot in step.writes:
            if slot in self.buffers:  # memory is made on the lane that writes it
                made = self.buffers.pop(slot)
                self.lane[made], self.before[made] = lane, self.before[index]
            for root in self.roots.get(slot, (slot,)):
                self.writer[root], self.readers[root] = index, {}
