"""Gate: which ready tasks may start, so that a run never takes more than its limit. Plain data without threads, queues or values.

In their order, one by one, the tasks of a plan stay below the limit: the plan was made so. Side by side, or ahead of their turn, they may
not. The gate lets a task start where two things hold. What is alive, each running task counted at its peak, leaves room for it now. And
what it will leave behind, where it is ahead of its turn, leaves room for each task before it to run by itself later. So when all that has
started has finished, the first of the others can start: a run neither exceeds its limit nor stands still.

>>> room = Room(100, peaks=[60, 60, 30], keeps=[10, 10, 10], needs=[60, 70, 50])
>>> gate = Gate(room)
>>> gate.admits(1, live=0), gate.admits(0, live=60), gate.admits(2, live=60)
(True, False, True)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..compile import Plan

STARTED = 2**62  # the slack of a task that needs none any more


class Room:
    """What is fixed for all runs of a plan.

    limit  bytes
    peaks  of each task: bytes that it adds at most while it runs
    keeps  of each task: bytes of it that outlive it
    needs  of each task: bytes alive at most while it runs, where the tasks run in order
    """

    def __init__(self, limit: int, peaks: Sequence[int], keeps: Sequence[int], needs: Sequence[int]) -> None:
        self.limit, self.peaks, self.keeps = limit, peaks, keeps
        self.slack = limit - np.array(needs, np.int64)

    @classmethod
    def of(cls, plan: Plan, limit: int) -> Room:
        """That of a plan."""
        live, needs = 0, []
        made: set[int] = set()
        left = {storage: entry.sharers for storage, entry in plan.storages.items()}
        for task in plan.tasks:
            for slot, spec in task.prepares:
                if slot not in made:
                    made.add(slot)
                    live += spec.nbytes
            needs.append(live + task.peak_bytes)
            live += task.kept_bytes
            for storage in task.releases:
                left[storage] -= 1
                if not left[storage]:
                    live -= plan.storages[storage].nbytes
        return cls(limit, [task.peak_bytes for task in plan.tasks], [task.kept_bytes for task in plan.tasks], needs)


class Gate:
    """One run's progress through a `Room`. The caller holds a lock around every method.

    Promises, where the needs of all tasks are within the limit:
    - What is alive stays within it.
    - When nothing runs, the first task that has not started is admitted once it is ready.
    """

    def __init__(self, room: Room) -> None:
        self.room = room
        self._slack = room.slack.copy()  # of each task that has not started: bytes that others may hold while it runs
        self._first = 0  # that has not started

    def admits(self, task: int, live: int, buffers: int = 0) -> bool:
        """Whether ``task`` may start; if so, it has.

        live     bytes that are alive, each running task counted at its peak
        buffers  bytes of the buffers that it makes besides, for other tasks as well
        """
        room = self.room
        if live + buffers + room.peaks[task] > room.limit:
            return False
        holds = room.keeps[task] + buffers
        before = self._slack[self._first : task]
        if len(before):
            if before.min() < holds:
                return False
            before -= holds
        self.start(task)
        return True

    def start(self, task: int) -> None:
        """Notes that ``task`` starts, whether there is room for it or not."""
        self._slack[task] = STARTED
        while self._first < len(self._slack) and self._slack[self._first] > STARTED // 2:
            self._first += 1
