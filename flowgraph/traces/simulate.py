"""Simulate: the tasks of a plan on any number of virtual threads, in simulated time, by the code that decides in real runs (`RunState`).

A thread that has finished a task goes on with the most urgent of those that it made ready on its device, as a run does, and hands the
others over; a free thread takes the most urgent that waits. A thread by itself runs the tasks in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from ..runtime import RunState, Schedule
from .data import PlanData


@dataclass(frozen=True)
class Costs:
    """What tasks cost.

    seconds    of each task by itself
    slowed     of each: how much longer it takes, as a part of that, while as many others run as when it was recorded
    others     how many that were
    follow     seconds from the end of a task to the start of the one that the same thread goes on with
    hand_over  seconds from the moment at which a task is ready until a free thread has it
    lead       seconds from the begin of the run to the first task, and from the last one to its end
    paces      of each thread that was recorded: how much longer its tasks took than on all threads together, as where a processor is
               slower, or has other work; for other numbers of threads all count as alike
    wake       seconds from the first task until each further thread has one of those that were ready from the beginning
    """

    seconds: Sequence[float]
    slowed: Sequence[float]
    others: int = 1
    follow: float = 5e-6
    hand_over: float = 40e-6
    lead: float = 20e-6
    wake: float = 40e-6
    paces: Sequence[float] = ()


@dataclass
class Bar:
    """One task on a virtual thread."""

    task: int
    device: str
    thread: int
    ready: float
    start: float
    end: float = 0.0


@dataclass
class Simulated:
    """What would have happened: ``bars`` in the order of their start, and the seconds from begin to end."""

    bars: list[Bar]
    seconds: float
    threads: Mapping[str, int]
    busy: float = field(init=False)

    def __post_init__(self) -> None:
        self.busy = sum(bar.end - bar.start for bar in self.bars)

    @property
    def utilisation(self) -> float:
        """What part of the threads' time was spent in tasks."""
        return self.busy / (self.seconds * sum(self.threads.values())) if self.seconds else 0.0


# For a task that is ready: which device, and the seconds that its inputs take to get there, given when devices would have it done.
Placing = Callable[[int, Mapping[str, float]], tuple[str, float]]


def simulate(
    plan: PlanData,
    costs: Costs,
    threads: Mapping[str, int],
    priority: Mapping[int, float] | None = None,
    speeds: Mapping[str, float] | None = None,
    place: Placing | None = None,
) -> Simulated:
    """The tasks of ``plan`` on ``threads`` of each device.

    priority  task -> how urgent it is, in place of what the plan says
    speeds    device -> how much faster it is than the one that was recorded
    place     chooses the device of each task when it is ready; without it, the plan's own
    """
    if sum(threads.values()) == 1 or len(plan.tasks) == 1:
        return _in_order(plan, costs, next(iter(threads)), speeds)
    return _Simulation(plan, costs, threads, priority, speeds or {}, place).run()


def _in_order(plan: PlanData, costs: Costs, device: str, speeds: Mapping[str, float] | None) -> Simulated:
    """On the caller's thread."""
    now, bars = costs.lead / 2, []
    for task in plan.tasks:
        end = now + costs.seconds[task.index] / (speeds or {}).get(device, 1.0)
        bars.append(Bar(task.index, device, 0, now, now, end))
        now = end + costs.follow
    return Simulated(bars, now - (costs.follow if bars else 0.0) + costs.lead / 2, {device: 1})


class _Simulation:
    """One run in simulated time.

    A running task has work left, in seconds by itself; it gets on the slower the more others run.
    """

    def __init__(
        self,
        plan: PlanData,
        costs: Costs,
        threads: Mapping[str, int],
        priority: Mapping[int, float] | None,
        speeds: Mapping[str, float],
        place: Placing | None,
    ) -> None:
        self.plan, self.costs, self.threads, self.speeds, self.place = plan, costs, threads, speeds, place
        schedule = Schedule(
            {task.index: task.after for task in plan.tasks},
            priority if priority is not None else {task.index: task.priority for task in plan.tasks},
        )
        self.state, self.urgency = RunState(schedule), schedule.urgency
        self.now = 0.0
        self.bars: list[Bar] = []
        self.running: dict[tuple[str, int], tuple[Bar, float]] = {}  # thread -> its task, and what is left of it
        self.queues: dict[str, list[tuple[tuple[float, int], int]]] = {device: [] for device in threads}
        self.free: dict[str, list[int]] = {device: list(range(count)) for device, count in threads.items()}
        # (when, order, device, thread, task): the thread begins the task; without a thread the task arrives, its inputs are there; without
        # a task the thread wakes up, and looks what there is for it.
        self.coming: list[tuple[float, int, str, int, int]] = []
        self.ready: dict[int, float] = {}
        self.promised = dict.fromkeys(threads, 0.0)  # device -> seconds of work that waits there
        self._order = 0

    def run(self) -> Simulated:
        self.now = self.costs.lead / 2
        for number, task in enumerate(self.state.start()):  # (the lead is what it takes to get the first going)
            self.ready[task] = self.now
            self._send(task, *self._placed(task), self.costs.wake if number else 0.0)
        while self.running or self.coming:
            self._advance()
        over = max((bar.end for bar in self.bars), default=self.now)  # (a thread may wake up later, for nothing)
        return Simulated(self.bars, over + self.costs.lead / 2, dict(self.threads))

    def _rate(self, bar: Bar) -> float:
        """How fast a task gets on, where 1 is by itself on the device that was recorded."""
        pace = self.costs.paces[bar.thread] if len(self.costs.paces) == self.threads[bar.device] else 1.0
        crowd = min(1.0, (len(self.running) - 1) / self.costs.others) if self.costs.others else 0.0
        return self.speeds.get(bar.device, 1.0) / (1.0 + self.costs.slowed[bar.task] * crowd) / pace

    def _advance(self) -> None:
        """Goes to the next moment at which something ends or comes."""
        ends = min((self.now + left / self._rate(bar) for bar, left in self.running.values()), default=float("inf"))
        comes = self.coming[0][0] if self.coming else float("inf")
        moment = min(ends, comes)
        lasted = moment - self.now
        done: list[tuple[str, int]] = []
        for worker, (bar, left) in self.running.items():
            rate = self._rate(bar)
            left -= lasted * rate
            self.running[worker] = bar, left
            if left <= 1e-12 or moment + left / rate <= moment:
                done.append(worker)
        self.now = moment
        if comes <= ends:
            _, _, device, thread, task = heappop(self.coming)
            if thread < 0:
                self._queue(device, task, self.costs.hand_over)
            elif task >= 0:
                self._begin(device, thread, task)
            elif self.queues[device]:
                self._begin(device, thread, self._next(device))
            else:  # another was faster
                self.free[device].append(thread)
            return
        for worker in done:
            bar, _ = self.running.pop(worker)
            bar.end = self.now
            self._finished(bar)

    def _finished(self, bar: Bar) -> None:
        device, thread = bar.device, bar.thread
        ready = self.state.finish(bar.task)
        following = self._offer(ready, device)
        if following is not None:
            self._come(self.costs.follow, device, thread, following)
        elif self.queues[device]:
            self._come(self.costs.follow, device, thread, self._next(device))
        else:
            self.free[device].append(thread)

    def _offer(self, ready: Sequence[int], device: str | None) -> int | None:
        """Sends what is ready to the devices; gives the one that the thread itself goes on with, which is on ``device``."""
        following: int | None = None
        for task in ready:
            self.ready[task] = self.now
            where, delay = self._placed(task)
            if where == device and following is None and not delay:
                following = task
                continue
            self._send(task, where, delay, self.costs.hand_over)
        return following

    def _send(self, task: int, device: str, delay: float, wake: float) -> None:
        """A task to a device, where it is ``delay`` later."""
        self.promised[device] += self.costs.seconds[task] / self.speeds.get(device, 1.0)
        if delay:
            self._come(delay, device, -1, task)
        else:
            self._queue(device, task, wake)

    def _queue(self, device: str, task: int, wake: float) -> None:
        """A task waits for a thread: one that has nothing to do is woken, and one that is done before it has woken takes the task."""
        heappush(self.queues[device], (self.urgency(task), task))
        if self.free[device]:
            self._come(wake, device, self.free[device].pop(0), -1)

    def _placed(self, task: int) -> tuple[str, float]:
        """The device of a task that is ready, and the seconds until its inputs are there."""
        device = self.plan.tasks[task].device
        if self.place is None:
            return (device if device in self.threads else next(iter(self.threads))), 0.0
        loads = {name: (self.promised[name] + self._left(name)) / count for name, count in self.threads.items()}
        return self.place(task, loads)

    def _left(self, device: str) -> float:
        return sum(left / self.speeds.get(device, 1.0) for (name, _), (_, left) in self.running.items() if name == device)

    def _come(self, delay: float, device: str, thread: int, task: int) -> None:
        self._order += 1
        heappush(self.coming, (self.now + delay, self._order, device, thread, task))

    def _next(self, device: str) -> int:
        """The most urgent of the tasks that wait for a thread."""
        task = heappop(self.queues[device])[1]
        self.promised[device] -= self.costs.seconds[task] / self.speeds.get(device, 1.0)
        return task

    def _begin(self, device: str, thread: int, task: int) -> None:
        seconds = self.costs.seconds[task]
        bar = Bar(task, device, thread, self.ready[task], self.now)
        self.bars.append(bar)
        self.running[device, thread] = bar, seconds
