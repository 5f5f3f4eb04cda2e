"""Waits: where the time of threads went, and why what was ready did not run. Plain arithmetic on the times of tasks.

Between the moment at which a task had all its inputs and the one at which it began, it waited for the memory gate, for a free thread, or to
be handed over. While it ran, a thread computed, or stood off the processor: for Python's lock where others ran meanwhile, else for the
system.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ..graph import text
from ..graph.arguments import counted
from .data import RunData, TaskRun

# The kinds of what threads spend time on, in the order in which they are told.
KINDS = {
    "kernel": "computing kernels",
    "copy": "copying between devices",
    "asking": "asking a GPU for kernels and copies",
    "gpu": "waiting for what a GPU sends",
    "host": "waiting for the host to ask a GPU for it",
    "busy": "waiting for its turn on a GPU, which was at another run",
    "lock": "off the processor while other threads ran: Python's lock, or more threads than processors",
    "system": "off the processor while no other thread ran: another process, a sleep, a file",
    "engine": "between kernels: buffers made and freed, what comes next",
    "gate": "waiting for room under the memory limit",
    "worker": "waiting for a free thread",
    "hand-over": "being handed to another thread",
    "input": "waiting for inputs",
}


class Level:
    """How often, so far, a number that changes with time was at least ``most``; ``spans`` add one to it while they last."""

    def __init__(self, spans: Iterable[tuple[float, float]], most: int) -> None:
        changes = sorted(change for begin, end in spans for change in ((begin, 1), (end, -1)))
        self.times = [time for time, _ in changes]
        self.counts: list[int] = []
        count = 0
        for _, change in changes:
            count += change
            self.counts.append(count)
        self.most = most
        self._sums = [0.0]
        for (first, last), count in zip(pairwise(self.times), self.counts, strict=False):
            self._sums.append(self._sums[-1] + (last - first if count >= most else 0.0))

    def _until(self, time: float) -> float:
        place = bisect_right(self.times, time) - 1
        if place < 0:
            return 0.0
        return self._sums[place] + (time - self.times[place] if self.counts[place] >= self.most else 0.0)

    def within(self, begin: float, end: float) -> float:
        """Seconds of those from ``begin`` to ``end`` in which it was."""
        return max(0.0, self._until(end) - self._until(begin))


@dataclass
class Account:
    """Where the time of the threads of some runs went. Printing it tells.

    total    seconds that the ``runs`` took; ``workers``: how many threads they had
    seconds  kind of wait or work (see `KINDS`) -> seconds of threads; together the threads times the time that the runs took
    blamed   node -> seconds in which threads had nothing to do and it was among what ran: what they waited for
    working  number of threads that had work -> seconds
    """

    workers: int
    total: float
    runs: int = 1
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 0.0))
    blamed: dict[str, float] = field(default_factory=dict)
    working: dict[int, float] = field(default_factory=dict)

    @property
    def busy(self) -> float:
        """Seconds of threads in tasks."""
        return sum(self.seconds[kind] for kind in ("kernel", "copy", "asking", "gpu", "lock", "system", "engine"))

    @property
    def efficiency(self) -> float:
        """What part of the threads' time was spent on kernels and copies."""
        return (self.seconds["kernel"] + self.seconds["copy"]) / (self.workers * self.total) if self.total else 0.0

    def __str__(self) -> str:
        total = self.workers * self.total or 1.0
        rows = [[text.percent(seconds / total), text.time(seconds), KINDS[kind]] for kind, seconds in self.seconds.items() if seconds > 0]
        among = f" in {self.runs} runs" if self.runs > 1 else ""
        lines = [f"the time of {counted(self.workers, 'thread')}{among}, {text.time(self.total)} each:"]
        lines += [f"  {line}" for line in text.table(rows, (2,))]
        lonely = sum(seconds for count, seconds in self.working.items() if count <= 1)
        if self.workers > 1 and lonely and self.blamed:
            waited = sum(self.blamed.values()) or 1.0
            blamed = sorted(self.blamed.items(), key=lambda pair: -pair[1])[:3]
            nodes = ", ".join(f"{node} ({text.percent(seconds / waited)})" for node, seconds in blamed)
            part = text.percent(lonely / (self.total or 1.0))
            lines.append(f"{part} of the time at most 1 of {self.workers} threads had work; the others waited for {nodes}")
        return "\n".join(lines)


def _received(run: RunData, task: TaskRun) -> Iterator[float]:
    """Seconds of each kernel of a task that waits for what a GPU sends."""
    first = run.plan.tasks[task.task].first
    for place, (begin, end) in enumerate(task.spans()):
        if run.plan.kernels[first + place].op == "receive":
            yield end - begin


class Waits:
    """The waits of the tasks of some runs, which share their threads."""

    def __init__(self, runs: Sequence[RunData]) -> None:
        self.runs = runs
        spans = [(task.start, task.end) for run in runs for task in run.tasks]
        self._others = Level(spans, 2)
        self._received = {id(task): sum(_received(run, task)) for run in runs for task in run.tasks}  # waiting for GPUs
        self._full: dict[str, Level] = {}
        for device in {device for run in runs for device in run.threads}:
            on_pool = [(task.start, task.end) for run in runs if run.threads for task in run.tasks if task.device == device]
            threads = next(run.threads[device] for run in runs if device in run.threads)
            self._full[device] = Level(on_pool, threads)

    def before(self, run: RunData, task: TaskRun) -> dict[str, float]:
        """What a task waited for once its inputs were there, in seconds."""
        waited = task.start - task.admitted
        full = self._full[task.device].within(task.admitted, task.start) if task.device in run.threads else 0.0
        return {"gate": task.admitted - task.ready, "worker": min(full, waited), "hand-over": max(waited - full, 0.0)}

    def off(self, task: TaskRun) -> dict[str, float]:
        """What a task stood off the processor for while it ran, in seconds."""
        off = max(0.0, task.end - task.start - task.cpu - self._received.get(id(task), 0.0))
        lock = min(off, self._others.within(task.start, task.end))
        return {"lock": lock, "system": off - lock}

    def account(self) -> Account:
        """All of them together."""
        account = Account(max((run.workers for run in self.runs), default=1), 0.0, len(self.runs))
        for run in self.runs:
            self._add(run, account)
        account.total = sum((run.over - run.begun) * run.workers for run in self.runs) / account.workers
        return account

    def _add(self, run: RunData, account: Account) -> None:
        seconds = account.seconds
        for task in run.tasks:
            first = run.plan.tasks[task.task].first
            spent = {"kernel": 0.0, "copy": 0.0, "asking": 0.0, "gpu": 0.0}
            for place, (begin, end) in enumerate(task.spans()):
                op = run.plan.kernels[first + place].op
                kind = "asking" if task.ran else {"copy": "copy", "receive": "gpu"}.get(op, "kernel")
                spent[kind] += end - begin
            seconds["gpu"] += spent["gpu"]
            engine = task.end - task.start - sum(spent.values())
            spent["gpu"] = 0.0
            inside = sum(spent.values())
            off = self.off(task)
            share = min(1.0, sum(off.values()) / inside) if inside else 0.0
            for kind, value in spent.items():
                seconds[kind] += value * (1 - share)
            for kind, value in off.items():
                seconds[kind] += min(value, inside * value / (sum(off.values()) or 1.0))
            seconds["engine"] += max(0.0, engine)
        self._add_idle(run, account)

    def _add_idle(self, run: RunData, account: Account) -> None:
        """Shares what the threads did not do out to reasons, moment by moment."""
        events: list[tuple[float, int, int, TaskRun]] = []
        for task in run.tasks:
            events += [(task.ready, 1, 1, task), (task.admitted, 1, -1, task), (task.admitted, 2, 1, task)]
            events += [(task.start, 2, -1, task), (task.start, 3, 1, task), (task.end, 3, -1, task)]
        events.sort(key=lambda event: event[0])
        held = ready = 0
        running: dict[int, TaskRun] = {}
        now = run.begun
        for time, kind, change, task in events:
            moment = min(max(time, run.begun), run.over)
            if moment > now:
                self._share(run, account, now, moment, held, ready, running)
                now = moment
            if kind == 1:
                held += change
            elif kind == 2:
                ready += change
            elif change > 0:
                running[task.task] = task
            else:
                running.pop(task.task, None)
        if run.over > now:
            self._share(run, account, now, run.over, held, ready, running)

    def _share(self, run: RunData, account: Account, begin: float, end: float, held: int, ready: int, running: dict[int, TaskRun]) -> None:
        lasted = end - begin
        working = min(len(running), run.workers)
        account.working[working] = account.working.get(working, 0.0) + lasted
        idle = run.workers - working
        for kind, count in (("hand-over", ready), ("gate", held)):
            here = min(idle, count)
            account.seconds[kind] += here * lasted
            idle -= here
        account.seconds["input"] += idle * lasted
        for task in running.values():
            node = run.plan.kernels[self._at(run, task, (begin + end) / 2)].node
            account.blamed[node] = account.blamed.get(node, 0.0) + idle * lasted / len(running)

    def _at(self, run: RunData, task: TaskRun, time: float) -> int:
        """The kernel that a task was at."""
        entry = run.plan.tasks[task.task]
        place = max(0, bisect_right(task.marks, time) - 1)
        return min(entry.first + place, max(entry.last - 1, entry.first))
