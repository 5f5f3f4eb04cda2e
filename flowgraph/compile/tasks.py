"""Task forming: units become tasks that are worth a hand-over between threads.

Two merges, neither of which can make a cycle:
- a unit joins the task that makes all of its inputs, if it is cheap or that task's only reader;
- a cheap task joins its only reader.

Then what no other task waits for leaves a task that others wait for: these may start the sooner.

A task is on one device, so units of several are never in one; a GPU has as few as can be.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from heapq import heapify, heappop, heappush

from .cost import CALL_SECONDS
from .lower import Lowering
from .plan import Plan, Task, Unit
from .units import Stretch, chunks_of

# A hand-over between threads costs 40-60 us; below this a unit is not worth one.
CHEAP_SECONDS = 50e-6
HAND_OVER_SECONDS = 20e-6
# What holds up others for less than this (by estimates, which for small arrays are a third of what is seen) stays.
TAIL_SECONDS = 3e-6


def form_tasks(plan: Plan, lowering: Lowering, *, single: bool = False, keep_order: bool = False) -> list[int]:
    """Fills ``plan.tasks`` and says for each unit which task it is in.

    single      all are in one
    keep_order  tasks in their order run the units in theirs
    """
    units = plan.units
    if not units:
        return []
    devices = [lowering.device.name] if lowering.placement is None else [unit.device for unit in units]
    several = len(set(devices)) > 1
    total, calls = _seconds(units)
    # Where most of the time goes into calls, which hold Python's lock, little can run side by side.
    is_cheap = total < 4 * CHEAP_SECONDS or (total <= len(units) * CHEAP_SECONDS and total - calls < total / 2)
    far = {device for device in set(devices) if not lowering.is_host(device)}
    if single or (not several and ((is_cheap and not keep_order) or far)):
        return _one_task(plan, devices[0], total)
    after = lowering.waits()
    if keep_order:
        owner = _stretched(units)
    else:
        owner = _merge_down(units, after, devices if several else None)
        _merge_up(units, after, owner, devices if several else None)
        _part_tails(units, after, owner)
        if far:
            _put_together(devices, after, owner, far)
    order = _numbered(owner, after)
    if len(order) * HAND_OVER_SECONDS > total / 2 and not keep_order and not several:
        return _one_task(plan, devices[0], total)
    task_of = [order[task] for task in owner]
    members: list[list[Unit]] = [[] for _ in order]
    tasks = [Task(index, members[index], units[0].device) for index in range(len(order))]
    waits: list[set[int]] = [set() for _ in tasks]
    for index, unit in enumerate(units):
        task = tasks[task_of[index]]
        members[task.index].append(unit)
        task.seconds += unit.seconds
        task.device = unit.device
        waits[task.index].update(task_of[before] for before in after[index])
    for task in tasks:
        task.after = tuple(sorted(waits[task.index] - {task.index}))
        task.priority = task.seconds
    for task in reversed(tasks):
        for before in task.after:
            tasks[before].priority = max(tasks[before].priority, tasks[before].seconds + task.priority)
    plan.tasks = tasks
    return task_of


def _seconds(units: Sequence[Unit]) -> tuple[float, float]:
    """Estimated seconds of all units, and of the calls among them, but for kernels of unknown size, which may take long."""
    total = calls = 0.0
    for chunk in chunks_of(units):
        if isinstance(chunk, Stretch):
            total += chunk.seconds
            calls += CALL_SECONDS * len(chunk)
        else:
            total += chunk.seconds
            calls += CALL_SECONDS * (chunk.spec is not None)
    return total, calls


def _one_task(plan: Plan, device: str, total: float) -> list[int]:
    """Where handing tasks over would cost more than running side by side can save: one, on the caller's thread."""
    plan.tasks = [Task(0, plan.units, device, seconds=total, priority=total)]
    return [0] * len(plan.units)


def _stretched(units: Sequence[Unit]) -> list[int]:
    """Each unit's task, named by its first unit, where a task is a stretch of cheap units.

    Slices are tasks of their own: the buffer that they are written into is there from the start of a task.
    """
    owner: list[int] = []
    seconds = CHEAP_SECONDS
    for index, unit in enumerate(units):
        is_here = index > 0 and unit.device == units[index - 1].device
        if not is_here or unit.buffer >= 0 or seconds + unit.seconds > CHEAP_SECONDS:
            owner.append(index)
            seconds = CHEAP_SECONDS if unit.buffer >= 0 else unit.seconds
        else:
            owner.append(owner[-1])
            seconds += unit.seconds
    return owner


def _merge_down(units: Sequence[Unit], after: Sequence[set[int]], devices: Sequence[str] | None) -> list[int]:
    """Each unit's task, named by its first unit; ``devices`` are those of the units, where they are several."""
    readers: list[int] = [0] * len(units)  # of a unit: how many units wait for it
    for waits in after:
        for before in waits:
            readers[before] += 1
    owner: list[int] = []
    open_ends: dict[int, int] = {}  # task -> edges from it to units outside it
    for index, unit in enumerate(units):
        makers = {owner[before] for before in after[index]}
        if len(makers) == 1:
            (task,) = makers
            inward = len(after[index])
            is_here = devices is None or devices[task] == unit.device
            if is_here and (unit.seconds < CHEAP_SECONDS or open_ends[task] == inward):
                owner.append(task)
                open_ends[task] += readers[index] - inward
                continue
        owner.append(index)
        open_ends[index] = readers[index]
    return owner


def _merge_up(units: Sequence[Unit], after: Sequence[set[int]], owner: list[int], devices: Sequence[str] | None) -> None:
    """Joins cheap tasks to their only reader, from the end, so that whole cheap branches follow."""
    seconds: dict[int, float] = {}
    readers: dict[int, set[int]] = {}
    for index, unit in enumerate(units):
        seconds[owner[index]] = seconds.get(owner[index], 0.0) + unit.seconds
        for before in after[index]:
            if owner[before] != owner[index]:
                readers.setdefault(owner[before], set()).add(owner[index])
    joined: dict[int, int] = {}

    def final(task: int) -> int:
        while task in joined:
            task = joined[task]
        return task

    for task in sorted(seconds, reverse=True):
        targets = {final(reader) for reader in readers.get(task, ())}
        if len(targets) == 1 and seconds[task] < CHEAP_SECONDS:
            (target,) = targets
            if devices is None or devices[task] == devices[target]:
                joined[task] = target
                seconds[target] += seconds[task]
    for index in range(len(owner)):
        owner[index] = final(owner[index])


def _part_tails(units: Sequence[Unit], after: Sequence[set[int]], owner: list[int]) -> None:
    """Makes a task of its own of what in a task leads to no other, such as the loss beside the gradient."""
    leads = bytearray(len(units))
    for index, befores in enumerate(after):
        for before in befores:
            if owner[before] != owner[index]:
                leads[before] = 1
    for index in range(len(units) - 1, -1, -1):  # a unit comes behind those that it waits for
        if leads[index]:
            for before in after[index]:
                leads[before] = 1
    seconds: dict[int, float] = {}
    waited = {owner[index] for index in range(len(units)) if leads[index]}
    for index, unit in enumerate(units):
        if not leads[index] and owner[index] in waited:
            seconds[owner[index]] = seconds.get(owner[index], 0.0) + unit.seconds
    for index in range(len(units)):
        if not leads[index] and seconds.get(owner[index], 0.0) >= TAIL_SECONDS:
            owner[index] += len(units)


def _put_together(devices: Sequence[str], after: Sequence[set[int]], owner: list[int], far: Collection[str]) -> None:
    """Makes one task of all units of a GPU between which no path leads through another device: its kernels run in their order anyway.

    The depth of a unit is how often the longest path to it changes devices. A path that leaves a unit for another device and comes back has
    grown by two, so that no task waits for itself.
    """
    depth: list[int] = []
    first: dict[tuple[str, int], int] = {}
    for index, device in enumerate(devices):
        depth.append(max([depth[before] + (devices[before] != device) for before in after[index]], default=0))
        if device in far:
            owner[index] = first.setdefault((device, depth[index]), index)


def _numbered(owner: Sequence[int], after: Sequence[set[int]]) -> dict[int, int]:
    """Tasks numbered so that each comes behind those that it waits for; ties go by the first unit."""
    waits: dict[int, set[int]] = {task: set() for task in owner}
    for index, task in enumerate(owner):
        waits[task].update(owner[before] for before in after[index])
    readers: dict[int, list[int]] = {task: [] for task in waits}
    missing: dict[int, int] = {}
    for task, befores in waits.items():
        befores.discard(task)
        missing[task] = len(befores)
        for before in befores:
            readers[before].append(task)
    ready = [task for task, count in missing.items() if not count]
    heapify(ready)
    numbers: dict[int, int] = {}
    while ready:
        task = heappop(ready)
        numbers[task] = len(numbers)
        for reader in readers[task]:
            missing[reader] -= 1
            if not missing[reader]:
                heappush(ready, reader)
    assert len(numbers) == len(waits), "task forming made a cycle"
    return numbers
