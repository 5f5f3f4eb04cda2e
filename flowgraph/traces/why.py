"""Why: what a kernel waited for, from the begin of the run on: its inputs, what these waited for, threads; and its own work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import UnknownNameError
from ..graph import text
from ..graph.arguments import counted
from .data import ROWS, RunData, TaskRun
from .waits import KINDS, Waits

STEPS_SHOWN = 14
CLOSE = 1e-6  # between two events on a GPU that are one moment: its clock has steps of half of that


@dataclass
class Step:
    """A kernel on the way: what was waited for before it, and its own time.

    waits  kind (see `waits.KINDS`) -> seconds between the end of the step before and the begin of this one
    own    the same for the time from begin to end
    reads  whether it reads what the step before made; otherwise it stood behind it in the same task, or in the order of the run
    """

    kernel: str
    node: str
    where: str
    worker: str
    begin: float
    end: float
    waits: dict[str, float]
    own: dict[str, float]
    reads: bool

    @property
    def seconds(self) -> float:
        """From the end of the step before to its own end."""
        return sum(self.waits.values()) + sum(self.own.values())


@dataclass
class Why:
    """What `Trace.why` gives. Printing it tells.

    name   what was asked for
    steps  from the first kernel of the run to that which was asked for: each could begin once the one before had ended
    parts  how many kernels (slices, say) the node has in the run; the steps lead to the one that ended last
    """

    name: str
    run: RunData
    parts: int
    steps: list[Step]
    totals: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for step in self.steps:
            for found in (step.waits, step.own):
                for kind, seconds in found.items():
                    self.totals[kind] = self.totals.get(kind, 0.0) + seconds

    def __str__(self) -> str:
        last = self.steps[-1]
        run = self.run
        share = (last.end - run.begun) / run.seconds if run.seconds else 0.0
        head = f"{last.kernel}, made at {last.where}, was done {text.time(last.end - run.begun)} after the begin of run {run.number}"
        lines = [f"{head} ({text.percent(share)} of it)"]
        if self.parts > 1:
            lines.append(f"it is the last one done of {counted(self.parts, 'kernel')} of {last.node}")
        rows = [
            [
                text.time(seconds),
                KINDS[kind] if kind not in ("kernel", "copy") or len(self.steps) == 1 else f"{KINDS[kind]}, those before it too",
            ]
            for kind, seconds in sorted(self.totals.items(), key=lambda pair: -pair[1])
            if seconds > 0
        ]
        lines += [f"  {line}" for line in text.table(rows, (1,))]
        lines.append("in steps, the last one first:")
        shown = self.steps[::-1][:STEPS_SHOWN]
        rows = [["begins", "waited", "took", "kernel", ""]]
        for step in shown:
            waited = {kind: seconds for kind, seconds in step.waits.items() if seconds > 0}
            reasons = [kind for kind in waited if waited[kind] >= max(2e-6, 0.1 * step.seconds)]
            off = step.own.get("lock", 0.0) + step.own.get("system", 0.0)
            notes = [", ".join(_SHORT[kind] for kind in reasons)] if reasons else []
            notes += [f"{text.time(off)} off the processor"] if off > 0.1 * (step.end - step.begin) else []
            same = "stream" if step.worker in self.run.rows else "thread"
            notes += ["" if step.reads or step is self.steps[0] else f"same {same} as what stands below"]
            rows.append(
                [
                    text.time(step.begin - run.begun),
                    text.time(sum(waited.values())) if sum(waited.values()) >= 1e-6 else "",
                    text.time(step.end - step.begin),
                    f"{text.shortened(step.kernel, 48)}  {step.where}",
                    "; ".join(note for note in notes if note),
                ]
            )
        lines += [f"  {line}" for line in text.table(rows, (3, 4))]
        if len(self.steps) > len(shown):
            rest = self.steps[: -len(shown)]
            lines.append(f"  and {counted(len(rest), 'step')} before, {text.time(sum(step.seconds for step in rest))}")
        return "\n".join(lines)


_SHORT = {"gate": "for room in memory", "worker": "for a free thread", "hand-over": "to be handed over", "engine": "between kernels"}
_SHORT |= {"input": "for its turn", "host": "for the host to ask for it", "busy": "for its turn on the GPU"}


def why(run: RunData, runs: Sequence[RunData], name: str) -> Why:
    """See `Trace.why`. ``runs`` are all that shared the threads."""
    kernels = matching(run, name)
    ran = [index for index in kernels if index in run.spans]
    if not ran:
        raise UnknownNameError(f"{name} did not run: run {run.number} ended before it", help=run.error or None)
    last = max(ran, key=lambda index: run.spans[index][1])
    return Why(name, run, len(kernels), _Chain(run, Waits(runs)).to(last))


def matching(run: RunData, name: str) -> list[int]:
    """The kernels of a node: by its name, by the end of it, or as a member of a compiled loop. raises UnknownNameError."""
    kernels = run.plan.kernels
    exact = [index for index, kernel in enumerate(kernels) if name in (kernel.node, kernel.name)]
    inside = [index for index, kernel in enumerate(kernels) if any(name == member.name for member in kernel.members)]
    ending = [index for index, kernel in enumerate(kernels) if kernel.node.endswith(f"/{name}")]
    found = exact or inside or ending
    if not found:
        names = [name for kernel in kernels for name in (kernel.node, *(member.name for member in kernel.members))]
        raise UnknownNameError.of("kernel of the run", name, names)
    return found


class _Chain:
    """The steps that led to a kernel: from each back to what ended last of all that it had to wait for."""

    def __init__(self, run: RunData, waits: Waits) -> None:
        self.run, self.waits = run, waits

    def to(self, kernel: int) -> list[Step]:
        steps: list[Step] = []
        place: int | None = kernel
        while place is not None:
            before = self._before(place)
            steps.append(self._step(place, before))
            place = before
        return steps[::-1]

    def _before(self, kernel: int) -> int | None:
        """The kernel that ended last of those that this one had to wait for."""
        run, asked = self.run, self.run.asked
        found = [index for index in run.plan.befores[kernel] if index in run.spans and (kernel in run.on_gpus or index in run.on_gpus)]
        if kernel not in run.on_gpus:
            on_thread = self._before_on_thread(kernel)
            found += [] if on_thread is None else [on_thread]
        else:  # both streams of a GPU wait for what was asked for before, the copies to the host for all kernels
            place, begin = (asked[kernel][0], kernel), run.spans[kernel][0]
            device = run.plan.kernels[kernel].device
            earlier = [index for name in ROWS for index in run.rows.get(f"{device} {name}", {}) if (asked[index][0], index) < place]
            found += [index for index in earlier if run.spans[index][1] <= begin + CLOSE]
        return max(found, key=lambda index: run.spans[index][1], default=None)

    def _before_on_thread(self, kernel: int) -> int | None:
        """That of those that the same thread ran, or handed it."""
        run, plan = self.run, self.run.plan
        task = plan.tasks[plan.task_of[kernel]]
        if kernel > task.first:
            return kernel - 1
        if run.threads:
            makers = [other for other in task.after if other in run.by_task]
            last = max(makers, key=lambda other: run.by_task[other].end, default=None)
        else:
            last = task.index - 1 if task.index else None
        if last is None or last not in run.by_task:
            return None
        entry = plan.tasks[last]
        wanted = {slot for each in plan.kernels[task.first : task.last] for slot in each.reads}
        made = [index for index in range(entry.first, entry.last) if index in run.spans and self._makes(index) & wanted]
        return max(made, default=entry.last - 1 if entry.last - 1 in run.spans else None)

    def _makes(self, kernel: int) -> set[int]:
        found = self.run.plan.kernels[kernel]
        return {found.output, found.buffer, *found.writes} - {-1}

    def _step(self, kernel: int, before: int | None) -> Step:
        run, plan = self.run, self.run.plan
        found, task = plan.kernels[kernel], run.by_task[plan.task_of[kernel]]
        begin, end = run.spans[kernel]
        waits: dict[str, float] = {}
        row = run.on_gpus.get(kernel)
        if row is not None:
            since = run.begun if before is None else run.spans[before][1]
            asked = min(max(run.asked[kernel][1], since), begin)
            waits["host"], waits["busy"] = max(0.0, asked - since), max(0.0, begin - asked)
        elif before is not None and plan.task_of[before] == task.task:
            waits["engine"] = begin - run.spans[before][1]
        else:
            since = run.begun if before is None else run.spans[before][1]
            if run.threads:
                waits.update(self.waits.before(run, task))
            waits["engine"] = max(0.0, begin - since - sum(waits.values()))
        return Step(
            found.name,
            found.node,
            found.where,
            row or task.worker,
            begin,
            end,
            waits,
            self._own(task, kernel) if row is None else self._own_on_gpu(kernel),
            before is not None and not self._makes(before).isdisjoint(found.reads),
        )

    def _own_on_gpu(self, kernel: int) -> dict[str, float]:
        begin, end = self.run.spans[kernel]
        late = self.run.late(kernel)
        kind = "copy" if self.run.plan.kernels[kernel].op == "copy" else "kernel"
        return {kind: end - begin - late, "host": late}

    def _own(self, task: TaskRun, kernel: int) -> dict[str, float]:
        """A kernel's own time. What its task stood off the processor falls on those of its kernels that took longer than at their best."""
        run = self.run
        begin, end = run.spans[kernel]
        entry = run.plan.tasks[task.task]
        took = {index: run.spans[index][1] - run.spans[index][0] for index in range(entry.first, entry.last) if index in run.spans}
        excess = {index: seconds - self._best(index) for index, seconds in took.items()}
        shares = excess if sum(excess.values()) > 0 else took
        part = shares[kernel] / (sum(shares.values()) or 1.0)
        off = {kind: value * part for kind, value in self.waits.off(task).items()}
        most = min(1.0, (end - begin) / (sum(off.values()) or 1.0))
        off = {kind: value * most for kind, value in off.items()}
        kind = {"copy": "copy", "receive": "gpu"}.get(run.plan.kernels[kernel].op, "kernel")
        return {kind: max(0.0, end - begin - sum(off.values())), **off}

    def _best(self, kernel: int) -> float:
        """The least that a kernel took in the runs of this plan."""
        spans = [each.spans[kernel] for each in self.waits.runs if each.plan is self.run.plan and kernel in each.spans]
        return min(end - begin for begin, end in [*spans, self.run.spans[kernel]])
