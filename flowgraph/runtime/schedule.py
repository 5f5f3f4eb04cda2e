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

from collections.abc import Hashable, Iterable, Mapping
from typing import Generic, TypeVar

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
    - Tasks are handed out most urgent first; equally urgent ones in the order in which they were named.
    - After ``stop`` nothing more is handed out; the run is over when what is still running has finished.

    `waiting[task] -= 1` reads, subtracts and writes: without the lock two inputs that arrive together could both see a 2, so
    that the task would never start.
    """

    def __init__(self, schedule: Schedule[T]) -> None:
        self.schedule = schedule
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
        return list(tasks)
