"""Memory: which slots share storage, which kernels may work in place, and when each storage is let go.

A storage dies with the last unit that touches any of its slots. Where all of those are in one task the unit says so itself;
otherwise the tasks count down, and the last one frees it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from ..graph import Node
from .ends import Ends, bytes_alive
from .kinds import POOLED_BYTES
from .lower import Lowering
from .plan import Plan, Storage, Task, Unit
from .units import Stretch, chunks_of

# A result of at least this size is lent to the caller: fresh pages for each run cost as much as the arithmetic (a gelu of 1e7 numbers took
# 2 ms into kept memory and 6 into fresh).
LENT_BYTES = 2**20


class Memory:
    """The storages of one lowering."""

    def __init__(self, lowering: Lowering) -> None:
        self.lowering, self.plan = lowering, lowering.plan
        self.kept = {self.root(slot) for slot in (*self.plan.fetches, *(s for _, s in self.plan.updates)) if slot >= 0}
        self.outside = {self.root(slot) for slot in lowering.external}
        # Copies to other devices have strides like those of what they copy, which may repeat elements: nothing is written over them.
        self.moved: set[int] = set()  # buffers whose slices are written into another's: no run ever fills them
        self.alike = {slot for slot in lowering.copies.values() if slot not in lowering.buffers}

    def root(self, slot: int) -> int:
        """The slot that stands for the storage of ``slot``."""
        alias = self.lowering.alias
        while slot in alias:
            slot = alias[slot]
        return slot

    def array(self, slot: int) -> int:
        """The slot that stands for the array that ``slot`` is, or is a view of.

        The results of a node that holds sub-graphs share one storage, as they are let go of together; each is an array of its own.
        """
        alias, maker, units = self.lowering.alias, self.lowering.maker, self.plan.units
        while slot in alias:
            unit = units[maker[slot]] if maker[slot] >= 0 else None
            if unit is not None and isinstance(unit.kernel, itemgetter) and unit.node.op.bodies:
                break
            slot = alias[slot]
        return slot

    def roots(self) -> list[int]:
        """Slot -> the slot that stands for its storage."""
        result = list(range(self.plan.slots))
        for slot in sorted(self.lowering.alias):  # what a slot shares was there before it
            result[slot] = result[self.lowering.alias[slot]]
        return result

    def work_in_place(self, allows: Callable[[str, Node], bool] | None = None, why: dict[Node, dict[int, str]] | None = None) -> None:
        """Lets a kernel write over an input that nothing else reads, if that is allowed: the result takes over the storage.

        why  where it is given: node -> for each slot that it reads what stands against that
        """
        alias, units = self.lowering.alias, self.plan.units
        if not self.lowering.given:
            return
        readers: dict[int, set[int]] = defaultdict(set)  # storage -> nodes that read it
        members: dict[int, int] = defaultdict(int)  # storage -> number of slots
        holder: dict[int, int] = {}  # storage -> the slot whose value it holds now, where results took it over
        for unit in units:
            for slot in unit.inputs:
                if slot not in unit.writes:
                    readers[self.root(slot)].add(unit.node.id)
            members[self.root(unit.output)] += 1
        for index in self.lowering.given:
            unit = units[index]
            if unit.mode not in ("take", "part") or not unit.node.op.in_place or unit.buffer in unit.inputs:
                continue  # (the other slices of a node that already works in place)
            for position, slot in enumerate(unit.inputs):
                storage = self.root(slot)
                obstacle = self._obstacle(unit, position, slot, holder, readers, members)
                if obstacle:
                    if why is not None:
                        why.setdefault(unit.node, {})[slot] = obstacle
                    continue
                if allows is not None and not allows("in place", unit.node):
                    break
                if unit.mode == "take":
                    unit.mode, unit.reuse = "reuse", position
                    # From now on the storage is the result's: who reads and views it, and may be written over as that was.
                    readers[storage], members[storage] = readers[unit.output], members[unit.output]
                    holder[storage] = unit.output
                    alias[unit.output] = slot
                    if unit.output in self.kept:
                        self.kept.add(storage)
                else:
                    buffer = unit.buffer
                    self._write_parts_into(buffer, slot)
                    if unit.buffer == slot:  # who reads the result reads this storage from now on
                        readers[slot] = readers[buffer]
                break

    def _obstacle(
        self,
        unit: Unit,
        position: int,
        slot: int,
        holder: Mapping[int, int],
        readers: Mapping[int, set[int]],
        members: Mapping[int, int],
    ) -> str:
        """What stands against writing over an input, in words; empty where nothing does."""
        storage = self.root(slot)
        if storage in self.outside:
            return "is a feed, a variable or a constant"
        if storage in self.kept:
            return "is a result of the run"
        if len(readers[storage]) != 1:
            return "is read by others"
        if self._spec_of(slot) != (self.lowering.buffers[unit.buffer] if unit.mode == "part" else unit.spec):
            return "is of another shape or dtype"
        if slot in unit.writes:
            return "is another of its results"
        if holder.get(storage, storage) != slot:
            return "has been written over"
        if storage in self.alike:
            return "is a copy from another device"
        if unit.mode == "part" and not unit.cut[position]:
            return "is read whole by each slice"
        if unit.mode == "take" and members[storage] > 1:
            return "has views"
        return "is read twice" if unit.inputs.count(slot) > 1 else ""

    def _write_parts_into(self, buffer: int, target: int) -> None:
        """Makes all slices of a node write into the array of ``target`` rather than a buffer of their own."""
        lowering = self.lowering
        if target not in lowering.buffers:
            return  # made whole by a kernel of its own: there is no buffer yet for slices to find
        lowering.alias[buffer] = target
        self.moved.add(buffer)
        if buffer in self.kept:
            self.kept.add(target)
        for index in lowering.given:
            if self.plan.units[index].buffer == buffer:
                self.plan.units[index].buffer = target
        for unit in self.plan.units:
            unit.inputs = tuple(target if slot == buffer else slot for slot in unit.inputs)
        self.plan.fetches = [target if slot == buffer else slot for slot in self.plan.fetches]
        self.plan.updates = [(node, target if slot == buffer else slot) for node, slot in self.plan.updates]
        lowering.buffers.pop(buffer)

    def _spec_of(self, slot: int) -> object:
        if slot in self.lowering.buffers:
            return self.lowering.buffers[slot]
        maker = self.lowering.maker[slot]
        return self.plan.units[maker].spec if maker >= 0 else None

    def release(self, tasks: Sequence[Task], task_of: Sequence[int]) -> None:
        """Says where each storage is freed, and predicts the peak."""
        plan, units, roots = self.plan, self.plan.units, self.roots()
        owned = self._owned()
        members = self._members(roots)
        settled = bytearray(plan.slots)  # storages whose end is known, or not for the run to decide
        for storage in self.kept | self.outside:
            settled[storage] = 1
        if len(tasks) > 1:
            self._share(roots, task_of, members, owned, settled)
        ends = Ends(plan.slots, members, settled)
        for chunk in reversed(chunks_of(units)):
            if isinstance(chunk, Stretch):
                ends.settle(chunk)
                continue
            for slot in (*chunk.inputs, chunk.output) if chunk.buffer < 0 else (*chunk.inputs, chunk.output, chunk.buffer):
                storage = roots[slot]
                if settled[storage]:
                    continue
                settled[storage] = 1  # seen from the end, this is the last unit that touches it; those of one task run in their order
                chunk.frees += members.get(storage) or (storage,)
                if storage in owned:
                    chunk.recycles += (storage,)
        for index in self.lowering.given:
            task = tasks[task_of[index]]
            for buffer in (units[index].buffer, *units[index].writes):
                if buffer in self.lowering.buffers and all(slot != buffer for slot, _ in task.prepares):
                    task.prepares += ((buffer, self.lowering.buffers[buffer]),)
        plan.peak_bytes = predicted_peak(plan)

    def lent(self, fetches: Sequence[int]) -> dict[int, str]:
        """Those of ``fetches`` that are large arrays of a pool, whole: to the device whose pool that is."""
        owned = self._owned()
        whole = [slot for slot in fetches if slot >= 0 and self.root(slot) in owned and self._is_whole(slot, self.root(slot))]
        return {slot: self.lowering.home(slot) for slot in whole if self._nbytes(self.root(slot)) >= LENT_BYTES}

    def _is_whole(self, slot: int, storage: int) -> bool:
        """Whether a slot holds the array of its storage itself, and no view of it, which a kernel could not take for a new array."""
        maker = self.lowering.maker[slot]
        return slot == storage or (maker >= 0 and self.plan.units[maker].mode == "reuse")

    def _nbytes(self, storage: int) -> int:
        spec = self.lowering.buffers.get(storage)
        if spec is not None:
            return spec.nbytes
        maker = self.lowering.maker[storage] if self.lowering.maker[storage] >= 0 else self.lowering.taken.get(storage, -1)
        return self.plan.units[maker].bytes_made if maker >= 0 else 0

    def _owned(self) -> set[int]:
        """The storages whose arrays are the pool's."""
        units, buffers = self.plan.units, self.lowering.buffers
        taken = [units[index].output for index in self.lowering.given if units[index].mode == "take"]
        return {storage for storage in taken if self.root(storage) == storage} | {
            slot for slot, spec in buffers.items() if spec.nbytes >= POOLED_BYTES
        }

    def _share(
        self, roots: Sequence[int], task_of: Sequence[int], members: Mapping[int, tuple[int, ...]], owned: set[int], settled: bytearray
    ) -> None:
        """Settles the storages that several tasks touch: the last of these frees it."""
        plan, buffers, maker = self.plan, self.lowering.buffers, self.lowering.maker
        for storage, sharers in sorted(_sharers(plan, roots, task_of).items()):
            if settled[storage]:
                continue
            settled[storage] = 1
            if storage in buffers:
                nbytes = buffers[storage].nbytes
            else:
                made_by = maker[storage] if maker[storage] >= 0 else self.lowering.taken.get(storage, -1)
                nbytes = plan.units[made_by].bytes_made if made_by >= 0 else 0
            recycles = storage if storage in owned else -1
            plan.storages[storage] = Storage(
                members.get(storage) or (storage,), nbytes, self.lowering.home(storage), len(sharers), recycles
            )
            for task in sharers:
                plan.tasks[task].releases += (storage,)

    def _members(self, roots: Sequence[int]) -> dict[int, tuple[int, ...]]:
        """Storage -> its slots, where it has several."""
        result: dict[int, tuple[int, ...]] = {}
        for slot in sorted(self.lowering.alias):
            if slot in self.moved:
                continue
            storage = roots[slot]
            result[storage] = (*result.get(storage, (storage,)), slot)
        return result


def _sharers(plan: Plan, roots: Sequence[int], task_of: Sequence[int]) -> dict[int, set[int]]:
    """Storage -> the tasks that touch it, where those are several."""
    owner = [-1] * len(roots)
    result: dict[int, set[int]] = {}
    for task, unit in zip(task_of, plan.units, strict=True):
        for slot in (*unit.inputs, unit.output, unit.buffer):
            if slot < 0:
                continue
            storage = roots[slot]
            if owner[storage] < 0:
                owner[storage] = task
            elif owner[storage] != task:
                result.setdefault(storage, {owner[storage]}).add(task)
    return result


def transient_bytes(unit: Unit) -> int:
    """Bytes that a unit needs while it runs, besides what it makes."""
    inner = max([body.peak_bytes for body in unit.bodies], default=0)
    # What a sub-graph gives is among what it makes itself; a loop has room for all its results besides.
    return unit.scratch + (inner if unit.node.op.repeats else max(inner - unit.bytes_made, 0))


def predicted_peak(plan: Plan) -> int:
    """Most bytes alive at once when the tasks run one by one in order. Says for each task its own peak and what it leaves."""
    live = peak = 0
    sharers = {storage: entry.sharers for storage, entry in plan.storages.items()}
    prepared: set[int] = set()
    has_stretches = any(isinstance(chunk, Stretch) for task in plan.tasks for chunk in chunks_of(task.units))
    made: Any = np.zeros(plan.slots, np.int64) if has_stretches else [0] * plan.slots  # bytes in each slot
    for task in plan.tasks:
        for slot, spec in task.prepares:
            if slot not in prepared:
                prepared.add(slot)
                live += spec.nbytes
        here = most = 0
        for unit in chunks_of(task.units):
            if isinstance(unit, Stretch):
                highest, end = bytes_alive(unit, made)
                here, most = here + end, max(most, here + highest)
                continue
            if unit.mode == "fresh" or unit.mode == "take":
                made[unit.output] = unit.nbytes
                here += unit.nbytes
            transient = transient_bytes(unit) if unit.bodies else unit.scratch
            if here + transient > most:
                most = here + transient
            for slot in unit.frees:
                here -= made[slot]
        task.peak_bytes, task.kept_bytes = int(most), int(here)
        peak = max(peak, live + task.peak_bytes)
        live += task.kept_bytes
        for storage in task.releases:
            sharers[storage] -= 1
            if not sharers[storage]:
                live -= plan.storages[storage].nbytes
    return peak
