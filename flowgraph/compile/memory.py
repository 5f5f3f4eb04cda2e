"""Memory: which slots share storage, which kernels may work in place, and when each storage is let go.

A storage dies with the last unit that touches any of its slots. Where all of those are in one task the unit says so itself;
otherwise the tasks count down, and the last one frees it.
"""

from __future__ import annotations

from collections import defaultdict

from .lower import POOLED_BYTES, Lowering
from .plan import Plan, Storage, Task


class Memory:
    """The storages of one lowering."""

    def __init__(self, lowering: Lowering) -> None:
        self.lowering, self.plan = lowering, lowering.plan
        self.kept = {self.root(slot) for slot in (*self.plan.fetches, *(s for _, s in self.plan.updates)) if slot >= 0}
        self.outside = {self.root(slot) for slot in lowering.external}

    def root(self, slot: int) -> int:
        """The slot that stands for the storage of ``slot``."""
        alias = self.lowering.alias
        while slot in alias:
            slot = alias[slot]
        return slot

    def touched(self) -> dict[int, list[int]]:
        """Storage -> the units that read or write it, in order."""
        result: dict[int, list[int]] = defaultdict(list)
        alias = self.lowering.alias
        for index, unit in enumerate(self.plan.units):
            slots = {*unit.inputs, unit.output, unit.buffer}
            slots.discard(-1)
            for storage in {self.root(slot) for slot in slots} if alias else slots:
                result[storage].append(index)
        return result

    def work_in_place(self) -> None:
        """Lets a kernel write over an input that nothing else reads: the result takes over the storage."""
        alias, units = self.lowering.alias, self.plan.units
        readers: dict[int, set[int]] = defaultdict(set)  # storage -> nodes that read it
        members: dict[int, int] = defaultdict(int)  # storage -> number of slots
        holder: dict[int, int] = {}  # storage -> the slot whose value it holds now, where results took it over
        for unit in units:
            for slot in unit.inputs:
                readers[self.root(slot)].add(unit.node.id)
            members[self.root(unit.output)] += 1
        for unit in units:
            if unit.mode not in ("take", "part") or not unit.node.op.in_place or unit.buffer in unit.inputs:
                continue  # (the other slices of a node that already works in place)
            for position, slot in enumerate(unit.inputs):
                storage = self.root(slot)
                spec = self._spec_of(slot)
                whole = self.lowering.buffers[unit.buffer] if unit.mode == "part" else unit.spec
                if (
                    holder.get(storage, storage) != slot
                    or spec != whole
                    or storage in self.kept
                    or storage in self.outside
                    or len(readers[storage]) != 1
                    or (unit.mode == "part" and not unit.cut[position])
                    or (unit.mode == "take" and members[storage] > 1)
                    or unit.inputs.count(slot) > 1
                ):
                    continue
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
                    self._write_parts_into(unit.node.id, buffer, slot)
                    if unit.buffer == slot:  # who reads the result reads this storage from now on
                        readers[slot] = readers[buffer]
                break

    def _write_parts_into(self, node_id: int, buffer: int, target: int) -> None:
        """Makes all slices of a node write into the array of ``target`` rather than a buffer of their own."""
        lowering = self.lowering
        if target not in lowering.buffers:
            return  # made whole by a kernel of its own: there is no buffer yet for slices to find
        lowering.alias[buffer] = target
        if buffer in self.kept:
            self.kept.add(target)
        for unit in self.plan.units:
            if unit.node.id == node_id and unit.buffer == buffer:
                unit.buffer = target
        for unit in self.plan.units:
            unit.inputs = tuple(target if slot == buffer else slot for slot in unit.inputs)
        self.plan.fetches = [target if slot == buffer else slot for slot in self.plan.fetches]
        self.plan.updates = [(node, target if slot == buffer else slot) for node, slot in self.plan.updates]
        lowering.buffers.pop(buffer)

    def _spec_of(self, slot: int) -> object:
        if slot in self.lowering.buffers:
            return self.lowering.buffers[slot]
        makers = self.lowering.makers.get(slot, ())
        return self.plan.units[makers[0]].spec if len(makers) == 1 else None

    def release(self, tasks: list[Task], task_of: list[int]) -> None:
        """Says where each storage is freed, and predicts the peak."""
        plan, buffers = self.plan, self.lowering.buffers
        slots_of: dict[int, list[int]] = defaultdict(list)
        for slot in range(plan.slots):
            slots_of[self.root(slot)].append(slot)
        prepares: list[dict[int, object]] = [{} for _ in tasks]
        releases: list[list[int]] = [[] for _ in tasks]
        for storage, touching in self.touched().items():
            if buffers:
                for index in touching:
                    slot = plan.units[index].buffer
                    if slot >= 0:
                        prepares[task_of[index]][slot] = buffers[slot]
            if storage in self.kept or storage in self.outside:
                continue
            maker = plan.units[touching[0]]  # nothing touches a storage before it is made
            nbytes = buffers[storage].nbytes if storage in buffers else maker.bytes_made if maker.output == storage else 0
            owned = storage in buffers or (maker.mode == "take" and maker.output == storage)
            recycles = storage if owned and nbytes >= POOLED_BYTES else -1
            owners = {0} if len(tasks) == 1 else {task_of[index] for index in touching}
            slots = tuple(slots_of[storage])
            if len(owners) == 1:
                last = plan.units[touching[-1]]  # units of one task run in their order
                last.frees += slots
                if recycles >= 0:
                    last.recycles += (recycles,)
            else:
                plan.storages[storage] = Storage(slots, nbytes, len(owners), recycles)
                for owner in owners:
                    releases[owner].append(storage)
        for task, made, left in zip(tasks, prepares, releases, strict=True):
            task.prepares = tuple(made.items())
            task.releases = tuple(sorted(left))
        plan.peak_bytes = predicted_peak(plan)


def predicted_peak(plan: Plan) -> int:
    """Most bytes alive at once when the tasks run one by one in order. Says for each task its own peak and what it leaves."""
    live = peak = 0
    sharers = {storage: entry.sharers for storage, entry in plan.storages.items()}
    prepared: set[int] = set()
    for task in plan.tasks:
        for slot, spec in task.prepares:
            if slot not in prepared:
                prepared.add(slot)
                live += spec.nbytes
        present: dict[int, int] = {}
        here = 0
        for unit in task.units:
            inside = max((body.peak_bytes for body in unit.bodies), default=0)  # its results are among them until it ends
            task.peak_bytes = max(task.peak_bytes, here + inside)
            if unit.bytes_made:
                present[unit.output] = unit.bytes_made
                here += unit.bytes_made
                task.peak_bytes = max(task.peak_bytes, here)
            for slot in unit.frees:
                here -= present.pop(slot, 0)
        task.kept_bytes = here
        peak = max(peak, live + task.peak_bytes)
        live += here
        for storage in task.releases:
            sharers[storage] -= 1
            if not sharers[storage]:
                live -= plan.storages[storage].nbytes
    return peak
