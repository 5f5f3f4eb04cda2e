"""Predict: how long runs would have taken on other numbers of threads, on other devices, or with faster kernels.

The costs are those of the trace, the decisions those of the scheduler; see `simulate` for what is assumed. What is not in the trace cannot
be known: that more threads share the memory's bandwidth than did, for example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from statistics import fmean
from typing import Any

from ..errors import ArgumentError, UnknownNameError
from ..graph import text
from ..graph.arguments import as_count, counted
from ..graph.node import FUNCTIONS
from ..graph.text import format_bytes
from .costs import at_batch, learnt_one_by_one, made_faster, peak_of, usual
from .data import Kernel, PlanData, RunData
from .places import Places, bandwidth
from .simulate import Costs, Simulated, simulate

# Nodes that are tried, to find the one to make faster next; a simulation of so many tasks in all at most.
TRIED = 8
SIMULATED_TASKS = 50_000


@dataclass
class Forecast:
    """One setting.

    label        what it is: a number of threads, or a device and what is on it
    seconds      predicted; ``utilisation``: what part of the threads' time is spent in tasks
    peak_bytes   most that is alive at once
    work_bound   seconds below which no schedule gets, as there is so much work for so many threads; ``path_bound``: as one task waits
                 for another
    bars         what runs when on which thread
    gains        (node, seconds saved if it took half of its time), the largest first
    """

    label: str
    threads: Mapping[str, int]
    seconds: float
    utilisation: float
    peak_bytes: int
    work_bound: float
    path_bound: float
    bars: Simulated = field(repr=False)
    gains: list[tuple[str, float]] = field(default_factory=list)


class Prediction:
    """What `Trace.predict` gives. Printing it shows a table; `draw` a picture.

    plan       what would run
    forecasts  one for each setting
    measured   seconds of the usual runs in the trace, on average; ``recorded``: what is predicted for just that setting
    """

    def __init__(self, plan: PlanData, run: RunData, measured: float, recorded: Forecast, forecasts: Sequence[Forecast], what: str) -> None:
        self.plan, self.run, self.measured, self.recorded, self.forecasts, self.what = plan, run, measured, recorded, list(forecasts), what

    @property
    def error(self) -> float:
        """How far the prediction for the recorded setting is off, as a part of what was measured."""
        return self.recorded.seconds / self.measured - 1 if self.measured else 0.0

    @property
    def best(self) -> Forecast:
        """The quickest."""
        return min(self.forecasts, key=lambda each: each.seconds)

    def __getitem__(self, label: object) -> Forecast:
        """The forecast for a number of threads, or of that label."""
        found = next((each for each in self.forecasts if each.label == str(label)), None)
        if found is None:
            raise UnknownNameError.of("forecast", str(label), [each.label for each in self.forecasts])
        return found

    def draw(self, file: Any = None, *, format: str | None = None) -> Any:
        """The speed-up with its two ceilings, and what would run when, as a picture: see `Trace.gantt` for the formats."""
        return FUNCTIONS["draw_prediction"](self, file, format=format)

    def _repr_svg_(self) -> str:
        return str(self.draw())

    def __str__(self) -> str:
        where = f"{self.run.where}: " if self.run.where else ""
        on = counted(self.run.workers, "thread") if self.run.threads else "the caller's thread"
        lines = [
            f"{where}{counted(len(self.plan.kernels), 'kernel')} in {counted(len(self.plan.tasks), 'task')}, recorded on {on}: "
            f"{text.time(self.measured)} measured, {text.time(self.recorded.seconds)} predicted ({self.error * 100:+.1f} %)"
        ]
        if self.what:
            lines.append(self.what)
        rows = [["on", "takes", "speed-up", "in use", "memory", "work / threads", "longest path", "make faster next"]]
        for each in self.forecasts:
            node, gain = each.gains[0] if each.gains else ("", 0.0)
            rows.append(
                [
                    each.label if not each.label.isdigit() else counted(int(each.label), "thread"),
                    text.time(each.seconds),
                    f"{self.measured / each.seconds:.2f}x" if each.seconds else "",
                    text.percent(each.utilisation),
                    format_bytes(each.peak_bytes),
                    text.time(each.work_bound),
                    text.time(each.path_bound),
                    f"{text.shortened(node, 40)}: -{text.time(gain)} at half its time" if node else "",
                ]
            )
        return "\n".join([*lines, *text.table(rows, (0, 7))])


def predict(
    runs: Sequence[RunData],
    plans: Sequence[PlanData],
    threads: Any = None,
    devices: Any = None,
    link: Any = "memory",
    faster: Mapping[str, float] | None = None,
    priority: Any = None,
    batch: int | None = None,
) -> Prediction:
    """See `Trace.predict`. ``runs`` are all of one plan, ``plans`` all of the trace."""
    plan, run = runs[0].plan, sorted(runs, key=lambda run: run.seconds)[(len(runs) - 1) // 2]
    measured, where = fmean(each.seconds for each in usual(runs)), _recorded_on(run)
    costs = learnt_one_by_one(runs)[: max(1, SIMULATED_TASKS // max(1, len(plan.tasks)))]
    recorded = _forecast("recorded", run, costs, [simulate(plan, each, where) for each in costs], where)
    if faster is not None:
        factors = _factors(_within(plan, plans), faster)
        costs = [made_faster(runs, plans, each, factors) for each in costs]
    shown = plan
    if batch is not None:
        if not plan.batch:
            raise ArgumentError("predict: the feeds of this run have no size that was left open, as a batch is")
        grown = [at_batch(runs, plans, each, as_count(batch, "predict: batch", 1) / plan.batch) for each in costs]
        costs, shown = [each for each, _ in grown], grown[0][1]
    urgency = _urgency(plan, costs[0], priority)
    changes = [f"with {name} {factor:g} times as fast" for name, factor in (faster or {}).items()]
    changes += [f"with a batch of {batch} in place of {plan.batch}"] if batch is not None else []
    changes += [f"by the rule {priority!r}"] if isinstance(priority, str) else []
    if devices is None:
        counts = _counts(threads, where)
        device = next(iter(where))
        settings = [(str(count), {device: count} if len(where) == 1 else dict.fromkeys(where, count)) for count in counts]
        forecasts = []
        for label, on in settings:
            forecasts.append(_forecast(label, run, costs, [simulate(plan, each, on, urgency) for each in costs], on, plan=shown))
            _add_gains(forecasts[-1], runs, plans, costs, urgency)
    else:
        speeds, count = _speeds(devices), _counts(threads, where)[0] if threads is not None else max(where.values())
        forecasts = _placed(run, costs, speeds, count, bandwidth(link), urgency)
    return Prediction(plan, run, measured, recorded, forecasts, ", ".join(changes))


def _recorded_on(run: RunData) -> dict[str, int]:
    device = run.plan.tasks[0].device if run.plan.tasks else "cpu:0"
    return dict(run.threads) or {device: 1}


def _forecast(
    label: str,
    run: RunData,
    costs: Sequence[Costs],
    found: Sequence[Simulated],
    threads: Mapping[str, int],
    speeds: Mapping[str, float] | None = None,
    plan: PlanData | None = None,
) -> Forecast:
    """What simulations with the costs of several runs say together; shown is the one that is nearest to their mean."""
    total = sum(count * (speeds or {}).get(device, 1.0) for device, count in threads.items())
    fastest = max((speeds or {"": 1.0}).values())
    seconds = fmean(each.seconds for each in found)
    nearest = min(found, key=lambda each: abs(each.seconds - seconds))
    return Forecast(
        label,
        threads,
        seconds,
        fmean(each.utilisation for each in found),
        peak_of(plan or run.plan, run, nearest),
        fmean(sum(each.seconds) for each in costs) / total,
        fmean(longest(run.plan, each.seconds)[0] for each in costs) / fastest,
        nearest,
    )


def longest(plan: PlanData, seconds: Sequence[float]) -> tuple[float, list[int]]:
    """The longest path: its seconds and its tasks."""
    reach: list[float] = []
    before: list[int] = []
    for task in plan.tasks:
        best = max(task.after, key=lambda other: reach[other], default=-1)
        before.append(best)
        reach.append(seconds[task.index] + (reach[best] if best >= 0 else 0.0))
    if not reach:
        return 0.0, []
    last = max(range(len(reach)), key=reach.__getitem__)
    path, place = [last], last
    while before[place] >= 0:
        place = before[place]
        path.append(place)
    return reach[last], path[::-1]


def _add_gains(
    forecast: Forecast, runs: Sequence[RunData], plans: Sequence[PlanData], costs: Sequence[Costs], urgency: Mapping[int, float] | None
) -> None:
    """What the nodes that take longest on the longest path would save at half their time."""
    plan = runs[0].plan
    if len(plan.tasks) * TRIED > SIMULATED_TASKS:
        return
    usual_costs = costs[len(costs) // 2]
    now = simulate(plan, usual_costs, forecast.threads, urgency).seconds
    for node in candidates(plan, runs, usual_costs):
        changed = made_faster(runs, plans, usual_costs, lambda kernel, node=node: 2.0 if kernel.node == node else 1.0)  # type: ignore[misc]
        forecast.gains.append((node, now - simulate(plan, changed, forecast.threads, urgency).seconds))
    forecast.gains.sort(key=lambda pair: -pair[1])


def candidates(plan: PlanData, runs: Sequence[RunData], costs: Costs) -> list[str]:
    """The nodes that may be worth making faster: those that take longest on the longest path, and in all."""
    path = set(longest(plan, costs.seconds)[1])
    on_path: dict[str, float] = {}
    in_all: dict[str, float] = {}
    for run in runs[: max(1, 2000 // max(1, len(plan.kernels)))]:
        for index, (begin, end) in run.spans.items():
            node = plan.kernels[index].node
            in_all[node] = in_all.get(node, 0.0) + end - begin
            if plan.task_of[index] in path:
                on_path[node] = on_path.get(node, 0.0) + end - begin
    first = sorted(on_path, key=lambda node: -on_path[node])[: TRIED - 2]
    return list(dict.fromkeys([*first, *sorted(in_all, key=lambda node: -in_all[node])[:2]]))


def _counts(threads: Any, where: Mapping[str, int]) -> list[int]:
    if threads is None:
        return list(dict.fromkeys([1, 2, 4, 8, 16, max(where.values())]))
    listed = threads if isinstance(threads, list | tuple | range) else [threads]
    if not len(listed):
        raise ArgumentError("predict: threads is a number or a list of them, got none", help="t.predict(threads=[1, 2, 4])")
    return [as_count(each, "predict: threads", 1) for each in listed]


def _speeds(devices: Any) -> dict[str, float]:
    if isinstance(devices, int) and not isinstance(devices, bool) and devices > 0:
        return {f"cpu:{number}": 1.0 for number in range(devices)}
    if isinstance(devices, list | tuple) and devices and all(isinstance(name, str) for name in devices):
        return dict.fromkeys(devices, 1.0)
    if isinstance(devices, Mapping) and devices and all(isinstance(name, str) for name in devices):
        return {name: _factor(speed, f"the speed of {name}") for name, speed in devices.items()}
    raise ArgumentError(
        f"predict: devices is a number, a list of names, or how much faster each is, got {devices!r:.60}",
        help='devices={"cpu:0": 1, "cuda:0": 20}, link="pcie4"',
    )


def _factor(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ArgumentError(f"predict: {what} is a number above 0, got {value!r:.60}")
    return float(value)


def _placed(
    run: RunData, costs: Sequence[Costs], speeds: Mapping[str, float], count: int, link: float, urgency: Mapping[int, float] | None
) -> list[Forecast]:
    """Each device by itself, and all of them; what is slower than the best single one is told as it is."""
    plan, forecasts = run.plan, []
    for device, speed in speeds.items():
        on = {device: count}
        found = [simulate(plan, each, on, urgency, {device: speed}) for each in costs]
        forecasts.append(_forecast(f"{device} alone", run, costs, found, on, {device: speed}))
    if len(speeds) > 1:
        on = dict.fromkeys(speeds, count)
        found = [simulate(plan, each, on, urgency, speeds, Places(plan, each, speeds, link)) for each in costs]
        forecasts.append(_forecast(" + ".join(speeds), run, costs, found, on, speeds))
    return forecasts


def _within(plan: PlanData, plans: Sequence[PlanData]) -> list[Kernel]:
    """The kernels of a plan and of the sub-graphs that it holds."""
    found = list(plan.kernels)
    for kernel in found:
        found += [inner for number in kernel.bodies for inner in plans[number].kernels]
    return found


def _factors(kernels: Sequence[Kernel], faster: Any) -> Callable[[Kernel], float]:
    """How much faster each kernel is, by the names of ops, nodes, scopes and lines."""
    if not isinstance(faster, Mapping) or not all(isinstance(name, str) for name in faster):
        raise ArgumentError(f"predict: faster is a dict from names to factors, got {faster!r:.60}", help='faster={"matmul": 2}')
    factors = {name: _factor(factor, f"how much faster {name} is") for name, factor in faster.items()}
    known: set[str] = set()

    def matches(kernel: Kernel) -> float:
        left = 1.0
        for name, factor in factors.items():
            whole = {kernel.op, kernel.node, kernel.where, *_scopes(kernel.scope)}
            share = 1.0 if name in whole else sum(part.share for part in kernel.parts if name in (part.name, part.op, part.where))
            if share:
                known.add(name)
                left *= 1 - share * (1 - 1 / factor)
        return 1 / left

    for kernel in kernels:
        matches(kernel)
    for name in factors:
        if name not in known:
            near = sorted({kernel.op for kernel in kernels} | {member.op for kernel in kernels for member in kernel.members})
            close = get_close_matches(name, [*near, *{kernel.node for kernel in kernels}], n=3)
            raise UnknownNameError(
                f"predict: nothing in the trace is of the op, node, scope or line {name!r}",
                help=f"did you mean {', '.join(close)}?" if close else f"the ops are {', '.join(near)}",
            )
    return matches


def _scopes(scope: str) -> list[str]:
    parts = scope.split("/") if scope else []
    return ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]


def _urgency(plan: PlanData, costs: Costs, rule: Any) -> dict[int, float] | None:
    """How urgent each task is by another rule than the plan's."""
    if rule is None:
        return None
    if callable(rule):
        return {task.index: float(rule(task)) for task in plan.tasks}
    seconds = costs.seconds
    if rule == "path":
        reach = list(seconds)
        for task in reversed(plan.tasks):
            for before in task.after:
                reach[before] = max(reach[before], seconds[before] + reach[task.index])
        return dict(enumerate(reach))
    rules: dict[str, Callable[[int], float]] = {
        "order": lambda task: -task,
        "shortest": lambda task: -seconds[task],
        "longest": lambda task: seconds[task],
        "memory": lambda task: -plan.tasks[task].kept_bytes,
    }
    if rule not in rules:
        raise ArgumentError(f"predict: priority is one of path, {', '.join(rules)}, or a function of a task, got {rule!r:.60}")
    return {task.index: rules[rule](task.index) for task in plan.tasks}
