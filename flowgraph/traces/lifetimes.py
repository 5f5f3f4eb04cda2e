"""Lifetimes: which tensors of a run were in memory from when to when, and why. Worked out from the plan and the times of its kernels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .data import Kernel, PlanData, RunData


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A stretch of memory that a run held.

    name     of the node that made it; "... while it runs" for what a kernel needs besides
    kernel   its number in the plan
    begin    when the kernel that makes it began; ``end``: when it was let go of
    reason   what it was kept for
    """

    name: str
    kernel: int
    makes: str
    where: str
    nbytes: int
    begin: float
    end: float
    reason: str


def lifetimes(plan: PlanData, spans: Mapping[int, tuple[float, float]], over: float, sizes: Mapping[int, int]) -> list[Lifetime]:
    """What was alive when kernels ran at ``spans``, in the order of their begin; ``sizes``: bytes of slots that the plan does not know."""
    begun: dict[int, tuple[int, int, float]] = {}  # slot -> kernel that makes it, bytes, when
    ended: dict[int, float] = {}
    result: list[Lifetime] = []
    starts: dict[int, float] = {}
    ends: dict[int, float] = {}
    for task in plan.tasks:
        ran = [spans[index] for index in range(task.first, task.last) if index in spans]
        if ran:
            starts[task.index], ends[task.index] = ran[0][0], ran[-1][1]
    for task in plan.tasks:
        if task.index not in starts:
            continue
        for slot, nbytes in task.prepares:
            maker = plan.makers.get(slot, [task.first])[0]
            if slot not in begun or starts[task.index] < begun[slot][2]:
                begun[slot] = maker, nbytes, starts[task.index]
        for index in range(task.first, task.last):
            if index not in spans:
                continue
            kernel, (begin, end) = plan.kernels[index], spans[index]
            made = kernel.made or sizes.get(kernel.output, 0)
            if made and kernel.op == "result" and kernel.reads[0] in begun:  # a part of what is there already, from then on
                maker, whole, begin_of_all = begun[kernel.reads[0]]
                begun[kernel.reads[0]] = maker, max(whole - made, 0), begin_of_all
                begun[kernel.output] = index, made, begin_of_all
            elif made:
                begun[kernel.output] = index, made, begin
            if kernel.scratch:
                name = f"{kernel.name} while it runs"
                result.append(Lifetime(name, index, "", kernel.where, kernel.scratch, begin, end, "what a kernel needs besides"))
            ended.update(dict.fromkeys(kernel.frees, end))
    for slots, _, _ in plan.storages.values():
        sharers = [task.index for task in plan.tasks if task.index in ends and not set(slots).isdisjoint(_touched(plan, task.index))]
        if sharers:
            ended.update(dict.fromkeys(slots, max(ends[task] for task in sharers)))
    last = _last_readers(plan, spans)
    for slot, (index, nbytes, begin) in begun.items():
        if not nbytes:  # all of it is accounted for by its parts
            continue
        kernel = plan.kernels[index]
        end = max(ended.get(slot, over), begin)
        result.append(Lifetime(kernel.node, index, kernel.makes, kernel.where, nbytes, begin, end, _reason(plan, slot, kernel, last)))
    return sorted(result, key=lambda each: (each.begin, -each.nbytes))


def of_run(run: RunData) -> list[Lifetime]:
    """Those of a run. Memory of a GPU is taken, and let go of, as the host asks for kernels."""
    return lifetimes(run.plan, run.asked, run.over, run.sizes)


def curve(lived: Iterable[Lifetime]) -> list[tuple[float, int]]:
    """(time, bytes alive from then on), where that changes."""
    changes: dict[float, int] = {}
    for each in lived:
        changes[each.begin] = changes.get(each.begin, 0) + each.nbytes
        changes[each.end] = changes.get(each.end, 0) - each.nbytes
    alive, result = 0, []
    for time in sorted(changes):
        alive += changes[time]
        result.append((time, alive))
    return result


def _touched(plan: PlanData, task: int) -> set[int]:
    entry = plan.tasks[task]
    return {slot for kernel in plan.kernels[entry.first : entry.last] for slot in (*kernel.reads, kernel.output, kernel.buffer)}


def _last_readers(plan: PlanData, spans: Mapping[int, tuple[float, float]]) -> dict[int, int]:
    """Slot -> the kernel that read it last."""
    last: dict[int, int] = {}
    for index in sorted(spans, key=lambda index: spans[index]):
        for slot in plan.kernels[index].reads:
            last[slot] = index
    return last


def _reason(plan: PlanData, slot: int, kernel: Kernel, last: Mapping[int, int]) -> str:
    """Why a tensor was kept until it was let go of."""
    if slot in plan.updates:
        return f"the new value of {plan.updates[slot]}"
    if slot in plan.fetches:
        return "fetched"
    slots = [slot, *next((slots for slots, _, _ in plan.storages.values() if slot in slots), [])]
    readers = [last[each] for each in slots if each in last]
    if not readers:
        return "read by nobody"
    reader = plan.kernels[readers[-1]]
    if reader.forward and not kernel.forward:
        return f"kept for the gradient of {reader.forward_where or reader.forward}"
    return f"read by {reader.node}"
