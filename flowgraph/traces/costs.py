"""Costs: what the tasks of a plan cost, learnt from runs of it, and what a predicted run would hold in memory."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import fmean

from .data import Kernel, PlanData, RunData, TaskRun
from .lifetimes import curve, lifetimes
from .simulate import Costs, Simulated
from .waits import Level

# Of runs in which no task was handed over: what it takes (compile.tasks expects 20 us, a woken thread was seen to need 40).
HAND_OVER_SECONDS = 40e-6
# So many runs are simulated, and the mean of their times is taken.
SAMPLED = 16


def learnt_one_by_one(runs: Sequence[RunData]) -> list[Costs]:
    """The costs as each of some usual runs had them.

    A run waits for what is late in it, so with the mean costs of all runs it would be quicker than runs are on average.
    """
    chosen = usual(runs)
    step = max(1, len(chosen) // SAMPLED)
    slowed = learnt(runs).slowed
    return [learnt([run], slowed) for run in chosen[::step]]


def learnt(runs: Sequence[RunData], slowed: Sequence[float] | None = None) -> Costs:
    """The costs of the tasks of the plan of ``runs``, all of one plan: the mean over the half of them with the most usual times.

    (Medians of the tasks would lose what now and then falls on one task or another, and is in the time of each run.)

    slowed  how much the tasks slow each other down, where that is known from elsewhere
    """
    plan = runs[0].plan
    runs = usual(runs)
    spans = [[(task.start, task.end) for task in run.tasks] for run in runs]
    crowds = [Level(each, 2) for each in spans]
    took: dict[int, list[float]] = defaultdict(list)
    beside: dict[int, list[float]] = defaultdict(list)  # what part of its time another ran
    for run, crowd in zip(runs, crowds, strict=True):
        for task in run.tasks:
            lasted = task.done - task.start
            took[task.task].append(lasted)
            beside[task.task].append(crowd.within(task.start, task.end) / lasted if lasted else 0.0)
    seconds = [fmean(took[task.index]) if took[task.index] else task.estimate for task in plan.tasks]
    shares = [fmean(beside[task.index]) if beside[task.index] else 0.0 for task in plan.tasks]
    slowed = _slowed(plan, took, beside) if slowed is None else slowed
    alone = [each / (1 + slow * share) for each, slow, share in zip(seconds, slowed, shares, strict=True)]
    follow, hand_over = _between(runs)
    lead = [run.seconds - (max(task.done for task in run.tasks) - min(task.start for task in run.tasks)) for run in runs if run.tasks]
    return Costs(
        alone, slowed, max(1, runs[0].workers - 1), follow, hand_over, fmean(lead) if lead else 0.0, _wake(runs), _paces(runs, seconds)
    )


def usual(runs: Sequence[RunData]) -> list[RunData]:
    """The half of them with the most usual times."""
    return sorted(runs, key=lambda run: run.seconds)[len(runs) // 4 : len(runs) - len(runs) // 4]


def _slowed(plan: PlanData, took: dict[int, list[float]], beside: dict[int, list[float]]) -> list[float]:
    """For each task how much longer it takes while others run, as a part of its time by itself.

    Tasks that do the same, as the slices of a node do, are sometimes beside others and sometimes alone; a line through their times tells.
    Where none was ever alone the same is taken as for all tasks together.
    """
    kinds: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for task in plan.tasks:
        kinds[tuple((k.op, k.node, k.flops, k.moved) for k in plan.kernels[task.first : task.last])].append(task.index)
    found: dict[int, float] = {}
    everywhere: list[tuple[float, float, float]] = []  # (slope, weight by how well it is known, seconds)
    for members in kinds.values():
        points = [pair for member in members for pair in zip(beside[member], took[member], strict=True)]
        slope, spread = _line(points)
        weight = spread * len(points) * sum(lasted for _, lasted in points)
        everywhere.append((slope, weight, 0.0))
        for member in members:
            found[member] = slope if spread > 0.05 else -1.0
    weights = sum(weight for _, weight, _ in everywhere)
    usual = sum(slope * weight for slope, weight, _ in everywhere) / weights if weights else 0.0
    return [usual if found[task.index] < 0 else found[task.index] for task in plan.tasks]


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(how much more at 1 than at 0, as a part of what it is at 0; the variance of the places)."""
    if len(points) < 3:
        return 0.0, 0.0
    mean = sum(x for x, _ in points) / len(points)
    level = sum(y for _, y in points) / len(points)
    spread = sum((x - mean) ** 2 for x, _ in points) / len(points)
    if spread <= 1e-4:
        return 0.0, 0.0
    slope = sum((x - mean) * (y - level) for x, y in points) / len(points) / spread
    start = level - slope * mean
    return (min(max(slope / start, 0.0), 2.0) if start > 0 else 0.0), spread


def _between(runs: Sequence[RunData]) -> tuple[float, float]:
    """Seconds from a task to the one that the same thread goes on with, and to hand one over to a free thread."""
    follows: list[float] = []
    hand_overs: list[float] = []
    for run in runs:
        last: dict[str, TaskRun] = {}
        for task in sorted(run.tasks, key=lambda task: task.start):
            before = last.get(task.worker)
            if before is not None and task.ready <= before.end:
                follows.append(task.start - before.end)
            elif run.threads and (before is None or before.end < task.ready) and task.ready > run.begun:
                hand_overs.append(task.start - task.ready)
            last[task.worker] = task
    return (fmean(follows) if follows else 5e-6), (fmean(hand_overs) if hand_overs else HAND_OVER_SECONDS)


def _paces(runs: Sequence[RunData], seconds: Sequence[float]) -> list[float]:
    """How much longer tasks took on each thread than they took on average, where all threads are of one device."""
    if len(runs[0].threads) != 1:
        return []
    took: dict[str, float] = defaultdict(float)
    expected: dict[str, float] = defaultdict(float)
    for run in runs:
        for task in run.tasks:
            took[task.worker] += task.end - task.start
            expected[task.worker] += seconds[task.task]
    paces = [took[worker] / expected[worker] for worker in sorted(took) if expected[worker]]
    return paces if len(paces) == runs[0].workers else []


def _wake(runs: Sequence[RunData]) -> float:
    """Seconds from the first task of a run to that of each further thread, where it was ready from the beginning."""
    found: list[float] = []
    for run in runs:
        firsts: dict[str, TaskRun] = {}
        for task in run.tasks:
            if not run.plan.tasks[task.task].after and (task.worker not in firsts or task.start < firsts[task.worker].start):
                firsts[task.worker] = task
        starts = sorted(task.start for task in firsts.values())
        found += [start - starts[0] for start in starts[1:]]
    return fmean(found) if found else HAND_OVER_SECONDS


def made_faster(runs: Sequence[RunData], plans: Sequence[PlanData], costs: Costs, matches: Callable[[Kernel], float]) -> Costs:
    """``costs`` if each kernel took its time divided by what ``matches`` says of it; ``plans`` are all of the trace."""
    left: dict[int, list[float]] = defaultdict(list)  # task -> what is left of its time, by runs
    for run in runs:
        more = _turns_in_all(run)
        for task in run.tasks:
            first, lasted = run.plan.tasks[task.task].first, task.end - task.start
            saved = sum(_saved(run.plan, first, task.marks, matches))
            for number, marks in task.turns:
                saved += more[number] * sum(_saved(plans[number], 0, marks, matches))
            left[task.task].append(max(0.0, 1 - saved / lasted) if lasted else 1.0)
    seconds = [each * (fmean(left[index]) if left[index] else 1.0) for index, each in enumerate(costs.seconds)]
    return replace(costs, seconds=seconds)


def _saved(plan: PlanData, first: int, marks: Sequence[float], matches: Callable[[Kernel], float]) -> Iterator[float]:
    for place, (begin, end) in enumerate(pairwise(marks)):
        factor = matches(plan.kernels[first + place])
        if factor != 1.0:
            yield (end - begin) * (1 - 1 / factor)


def _turns_in_all(run: RunData) -> dict[int, float]:
    """For each plan of a sub-graph how many turns there were for each that was noted by itself."""
    noted = Counter(number for task in run.tasks for number, _ in task.turns)
    return {number: 1 + run.totals[number][0] / count if number in run.totals else 1.0 for number, count in noted.items()}


def at_batch(runs: Sequence[RunData], plans: Sequence[PlanData], costs: Costs, ratio: float) -> tuple[Costs, PlanData]:
    """``costs`` and the plan if the batch were ``ratio`` times as large: each kernel's work grows with it as its op says."""
    grown = made_faster(runs, plans, costs, lambda kernel: ratio**-kernel.grows)
    plan = runs[0].plan
    kernels = [
        replace(kernel, made=int(kernel.made * ratio**kernel.fills), scratch=int(kernel.scratch * ratio**kernel.fills))
        for kernel in plan.kernels
    ]
    tasks = []
    for task in plan.tasks:
        fills = {slot: plan.kernels[plan.makers[slot][0]].fills if slot in plan.makers else 0.0 for slot, _ in task.prepares}
        tasks.append(replace(task, prepares=[[slot, int(nbytes * ratio ** fills[slot])] for slot, nbytes in task.prepares]))
    return grown, replace(plan, kernels=kernels, tasks=tasks)


def peak_of(plan: PlanData, run: RunData, simulated: Simulated) -> int:
    """Most bytes alive at once in a simulated run, whose tasks spend their time on kernels as those of ``run`` did."""
    spans: dict[int, tuple[float, float]] = {}
    for bar in simulated.bars:
        entry, real = plan.tasks[bar.task], run.by_task.get(bar.task)
        count = entry.last - entry.first
        marks = real.marks if real is not None and len(real.marks) == count + 1 else [float(place) for place in range(count + 1)]
        reach = (marks[-1] - marks[0]) or 1.0
        places = [bar.start + (bar.end - bar.start) * (mark - marks[0]) / reach for mark in marks]
        spans.update({entry.first + place: (places[place], places[place + 1]) for place in range(count)})
    return max((nbytes for _, nbytes in curve(lifetimes(plan, spans, simulated.seconds, run.sizes))), default=0)
