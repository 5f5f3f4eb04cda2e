"""Summary: what took the time, by op, scope, line or node; how close to the machine's ceilings; what bounds the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median

from ..errors import UnknownNameError
from ..graph import text
from ..graph.arguments import as_choice, counted
from ..graph.text import format_bytes
from .ceilings import Ceilings
from .costs import learnt, made_faster
from .data import Kernel, PlanData, RunData
from .predict import candidates, longest
from .simulate import Costs, simulate
from .streams import Streams, streams
from .waits import Account, Waits

BY = ("op", "scope", "line", "node")
SHOWN = 12


@dataclass
class Row:
    """What kernels that have something in common took, in all runs together.

    name     of the op, scope, line or node; ``where``: a line of theirs; ``detail``: what is written in the line, or the op of the node
    calls    how many kernels ran; ``seconds``: in all, without what loops spend in their turns
    flops    operations, by the ops' own accounts; ``moved``: bytes read and written
    bound    seconds that the machine's ceilings would have allowed
    """

    name: str
    where: str
    detail: str = ""
    calls: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    moved: float = 0.0
    bound: float = 0.0


@dataclass
class Gain:
    """What a node on the longest path would give: its seconds there, and what a run saves if it takes half of its time."""

    node: str
    where: str
    seconds: float
    saved: float


@dataclass
class Summary:
    """What `Trace.summary` gives. Printing it shows tables.

    rows      the largest first; ``runs``: how many they are of; ``seconds``: of the usual run
    path      seconds of the longest path, and ``gains``: what its nodes would give
    account   where the threads' time went
    streams   what each GPU did: device -> `Streams`
    """

    by: str
    rows: list[Row]
    runs: list[RunData]
    seconds: float
    path: float
    gains: list[Gain]
    account: Account
    ceilings: Ceilings | None
    streams: dict[str, Streams] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Row:
        """The row of that name. raises UnknownNameError where there is none."""
        found = next((row for row in self.rows if row.name == name), None)
        if found is None:
            raise UnknownNameError.of(f"{self.by} in the summary", name, [row.name for row in self.rows])
        return found

    def __str__(self) -> str:
        total = sum(row.seconds for row in self.rows) or 1.0
        count = len(self.runs)
        each = " each" if count > 1 else ""
        kernels = f"{text.percent(self.account.efficiency)} of their time in kernels; "
        if self.streams:
            kernels = f"{text.percent(self.account.efficiency)} of their time in kernels of their own; " if self.account.efficiency else ""
        lines = [
            f"{counted(count, 'run')} of {text.time(self.seconds)}{each} on {counted(self.account.workers, 'thread')}: "
            f"{kernels}the longest path takes {text.time(self.path)}",
            *map(str, self.streams.values()),
        ]
        per = "/run" if count > 1 else ""
        rows = [
            [self.by, f"calls{per}", f"time{per}", "share", "flop/s", "B/s", "of NumPy's best", "" if self.by == "line" else "line", ""]
        ]
        for row in self.rows[:SHOWN]:
            reached = row.bound / row.seconds if self.ceilings and row.seconds else 0.0
            rows.append(
                [
                    text.shortened(row.name or "(top)", 48),
                    f"{row.calls / count:.4g}",
                    text.time(row.seconds / count),
                    text.percent(row.seconds / total),
                    text.rate(row.flops / row.seconds if row.seconds else 0.0, "flop"),
                    text.rate(row.moved / row.seconds if row.seconds else 0.0, "B"),
                    text.percent(reached) if reached else "",
                    "" if self.by == "line" else row.where,
                    row.detail[:60],
                ]
            )
        lines += text.table(rows, (0, 7, 8))
        if len(self.rows) > SHOWN:
            rest = sum(row.seconds for row in self.rows[SHOWN:])
            lines.append(f"and {len(self.rows) - SHOWN} more, {text.percent(rest / total)} together")
        lines += ["", f"on the longest path ({text.time(self.path)}), and what a run would save if it took half of its time:"]
        gains = [[text.shortened(g.node, 48), text.time(g.seconds), f"-{text.time(max(g.saved, 0.0))}", g.where] for g in self.gains]
        lines += [f"  {line}" for line in text.table(gains, (0, 3))]
        if self.ceilings is not None and any(row.bound for row in self.rows):
            flops, moved = text.rate(self.ceilings.flops_per_second, "flop"), text.rate(self.ceilings.bytes_per_second, "B")
            lines += ["", f"NumPy's best on one thread of this machine: {flops} (products in float32), {moved} (sums of arrays)"]
        if any(run.by_graph for run in self.runs):
            lines += ["", "without a trace such runs are quicker: from the second on, a GPU replays their kernels as one graph"]
        if any(run.by_crew for run in self.runs):
            lines += [
                "",
                "without a trace such runs are quicker: their threads work these tasks off in machine code, with no Python between them",
            ]
        return "\n".join(lines)


def summary(runs: Sequence[RunData], plans: Sequence[PlanData], alike: Sequence[RunData], by: str, machine: Ceilings | None) -> Summary:
    """See `Trace.summary`. ``alike`` are the runs of the plan that took longest in all."""
    by = as_choice(by, "summary: by", BY)
    rows: dict[str, Row] = {}
    for run in runs:
        for kernel, calls, seconds, flops, moved in spent(run, plans):
            for name, where, detail, share in _groups(kernel, by):
                row = rows.setdefault(name, Row(name, where, detail))
                row.calls += calls
                row.seconds += seconds * share
                row.flops += flops * share
                row.moved += moved * share
                row.bound += (machine.bound(kernel) if machine is not None else 0.0) * calls * share
    costs, plan = learnt(alike), alike[0].plan
    path, tasks = longest(plan, costs.seconds)
    ordered = sorted(rows.values(), key=lambda row: -row.seconds)
    gains = _gains(alike, plans, costs, set(tasks))
    usual = median(run.seconds for run in alike)
    return Summary(by, ordered, list(runs), usual, path, gains, Waits(runs).account(), machine, streams(runs))


def spent(run: RunData, plans: Sequence[PlanData]) -> Iterator[tuple[Kernel, int, float, float, float]]:
    """Each kernel that ran, those of turns among them: how often, and its seconds without those of turns within it, flops and bytes."""
    for task in run.tasks:
        entry = run.plan.tasks[task.task]
        rows: dict[str, list[tuple[float, float, Kernel]]] = {"": []}  # (a copy beside a kernel is not within it)
        for index in range(entry.first, entry.last):
            if index in run.spans:
                row = "" if run.on_gpus.get(index, "").endswith("compute") else run.on_gpus.get(index, "")
                rows.setdefault(row, []).append((*run.spans[index], run.plan.kernels[index]))
        for number, marks in task.turns:
            kernels = plans[number].kernels
            rows[""] += [(marks[place], marks[place + 1], kernels[place]) for place in range(len(marks) - 1)]
        for spans in rows.values():
            for (_, _, kernel), seconds in zip(spans, _own(spans), strict=True):
                yield kernel, 1, seconds, kernel.flops, kernel.moved
    for number, (turns, each) in run.totals.items():
        for kernel, seconds in zip(plans[number].kernels, each, strict=True):
            yield kernel, turns, seconds, kernel.flops * turns, kernel.moved * turns
        holder = next((k for plan in (run.plan, *plans) for k in plan.kernels if number in k.bodies), None)
        if holder is not None:
            yield holder, 0, -sum(each), 0.0, 0.0


def _own(spans: Sequence[tuple[float, float, Kernel]]) -> list[float]:
    """The seconds of each span without those of the spans within it."""
    own = [end - begin for begin, end, _ in spans]
    holding: list[int] = []
    for index in sorted(range(len(spans)), key=lambda index: (spans[index][0], -spans[index][1], index)):
        begin, end, _ = spans[index]
        while holding and spans[holding[-1]][1] <= begin:
            holding.pop()
        if holding:
            own[holding[-1]] -= end - begin
        holding.append(index)
    return own


def _groups(kernel: Kernel, by: str) -> list[tuple[str, str, str, float]]:
    """The names under which a kernel counts, a line, a detail, and the share: a compiled loop belongs to several lines."""
    if by == "op":
        return [(kernel.op, kernel.where, "", 1.0)]
    if by == "line":
        return [(part.where, part.where, part.text, part.share) for part in kernel.parts]
    if by == "scope":
        return [(kernel.scope, kernel.where, "", 1.0)]
    return [(kernel.node, kernel.where, kernel.op, 1.0)]


def _gains(runs: Sequence[RunData], plans: Sequence[PlanData], costs: Costs, path: set[int]) -> list[Gain]:
    """What the nodes that take longest on the longest path would give."""
    plan, run = runs[0].plan, runs[0]
    threads = dict(run.threads) or {plan.tasks[0].device if plan.tasks else "cpu:0": 1}
    now = simulate(plan, costs, threads).seconds
    found = []
    for node in candidates(plan, runs, costs):
        kernels = [index for index, kernel in enumerate(plan.kernels) if kernel.node == node and plan.task_of[index] in path]
        took = [sum(end - begin for index in kernels if index in each.spans for begin, end in [each.spans[index]]) for each in runs]
        if not kernels:
            continue
        changed = made_faster(runs, plans, costs, lambda kernel, node=node: 2.0 if kernel.node == node else 1.0)  # type: ignore[misc]
        saved = now - simulate(plan, changed, threads).seconds
        found.append(Gain(node, plan.kernels[kernels[0]].where, median(took), saved))
    return sorted(found, key=lambda gain: -gain.saved)


def bytes_told(peak: int, predicted: int) -> str:
    """A line on memory."""
    return f"at most {format_bytes(peak)} were alive; the plan predicted {format_bytes(predicted)} on one thread"
