"""Deciding what runs next: plain data without threads, queues or arrays.

A Schedule is what is fixed (who waits for whom, what is urgent); a RunState is one run's progress through it.

>>> run = RunState(Schedule({"a": [], "b": [], "c": ["a", "b"]}))
>>> run.start()
['a', 'b']
>>> run.finish("a")
[]
>>> run.finish("b")
['c']
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from heapq import heapify, heappop, heappush
from typing import Any, Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Schedule(Generic[T]):
    """Tasks and what each waits for.

    after     task -> the tasks that must have finished before it starts
    priority  task -> how urgent it is (larger first); by default the length of the longest path to the end
    raises    ValueError for an unknown task, or a cycle, naming a task on it
    """

    def __init__(self, after: Mapping[T, Iterable[T]], priority: Mapping[T, float] | None = None) -> None:
        self.counts: dict[T, int] = {}
        self.readers: dict[T, list[T]] = {task: [] for task in after}
        for task, befores in after.items():
            distinct = dict.fromkeys(befores)
            for before in distinct:
                if before not in self.readers:
                    raise ValueError(f"{task!r} waits for {before!r}, which is no task")
                self.readers[before].append(task)
            self.counts[task] = len(distinct)
        order = self._topological()
        if priority is None:
            lengths: dict[T, float] = {}
            for task in reversed(order):
                lengths[task] = 1 + max((lengths[reader] for reader in self.readers[task]), default=0)
            priority = lengths
        self.priority: Mapping[T, float] = priority
        self.rank = {task: number for number, task in enumerate(self.counts)}  # ties go by the order in which tasks were named
        for readers in self.readers.values():
            readers.sort(key=self.urgency)
        self.first = sorted((task for task, count in self.counts.items() if not count), key=self.urgency)

    def urgency(self, task: T) -> tuple[float, int]:
        """A sort key: the most urgent task first."""
        return -self.priority[task], self.rank[task]

    def _topological(self) -> list[T]:
        missing = dict(self.counts)
        order = [task for task, count in missing.items() if not count]
        for task in order:
            for reader in self.readers[task]:
                missing[reader] -= 1
                if not missing[reader]:
                    order.append(reader)
        if len(order) < len(missing):
            stuck = next(task for task, count in missing.items() if count)
            raise ValueError(f"{stuck!r} waits for itself, through others")
        return order


class RunState(Generic[T]):
    """One run's progress. The caller holds a lock around every method.

    Promises:
    - A task is handed out once, by ``start`` or by the ``finish`` that delivered the last thing it waited for.
    - Tasks are handed out most urgent first; equally urgent ones in the order in which they were named. What is urgent the schedule
      says, or ``urgency``, a sort key: that changes the order of a run, and may change nothing else of it.
    - After ``stop`` nothing more is handed out; the run is over when what is still running has finished.

    `waiting[task] -= 1` reads, subtracts and writes: without the lock two inputs that arrive together could both see a 2, so
    that the task would never start.
    """

    def __init__(self, schedule: Schedule[T], urgency: Callable[[T], Any] | None = None) -> None:
        self.schedule, self.urgency = schedule, urgency
        self.waiting = dict(schedule.counts)
        self.running = 0
        self.left = len(self.waiting)
        self.stopped = False

    def start(self) -> list[T]:
        """The tasks that wait for nothing."""
        return self._hand_out(self.schedule.first)

    def finish(self, task: T) -> list[T]:
        """Notes that ``task`` has run; returns the tasks that have become ready by it."""
        self.running -= 1
        self.left -= 1
        ready = []
        for reader in self.schedule.readers[task]:
            self.waiting[reader] -= 1
            if not self.waiting[reader]:
                ready.append(reader)
        return self._hand_out(ready)

    def stop(self) -> None:
        """Hands nothing more out."""
        self.stopped = True

    def drop(self) -> None:
        """Notes that a task that was handed out did not run, or failed."""
        self.running -= 1

    @property
    def is_over(self) -> bool:
        """Whether no task is running and none will be handed out."""
        return not self.running and (self.stopped or not self.left)

    def _hand_out(self, tasks: list[T]) -> list[T]:
        if self.stopped:
            return []
        self.running += len(tasks)
        return list(tasks) if self.urgency is None else sorted(tasks, key=self.urgency)


def hurried(schedule: Schedule[T], first: Iterable[T]) -> list[T]:
    """An order of all tasks in which those of ``first``, one behind the other, run as soon as what they wait for allows.

    Everything else keeps its order. Each list gives an order that the schedule allows, and each such order is given by some list: itself.

    >>> schedule = Schedule({"a": [], "b": [], "c": ["b"], "d": ["a", "c"]})
    >>> hurried(schedule, [])
    ['a', 'b', 'c', 'd']
    >>> hurried(schedule, ["c"])
    ['b', 'c', 'a', 'd']
    """
    befores: dict[T, list[T]] = {task: [] for task in schedule.counts}
    for task, readers in schedule.readers.items():
        for reader in readers:
            befores[reader].append(task)
    place = _places(schedule)
    order: dict[T, None] = {}
    for task in first:
        needed, stack = {task}, [task]
        while stack:
            for before in befores[stack.pop()]:
                if before not in needed and before not in order:
                    needed.add(before)
                    stack.append(before)
        order.update(dict.fromkeys(sorted(needed - order.keys(), key=place.__getitem__)))
    order.update(dict.fromkeys(sorted(schedule.counts, key=place.__getitem__)))
    return list(order)


def _places(schedule: Schedule[T]) -> dict[T, int]:
    """Each task's place in the order that the schedule allows and that is nearest to that in which tasks were named."""
    waiting, tasks = dict(schedule.counts), list(schedule.counts)
    ready = [schedule.rank[task] for task, count in waiting.items() if not count]
    heapify(ready)
    places: dict[T, int] = {}
    while ready:
        task = tasks[heappop(ready)]
        places[task] = len(places)
        for reader in schedule.readers[task]:
            waiting[reader] -= 1
            if not waiting[reader]:
                heappush(ready, schedule.rank[reader])
    return places
