"""A small pool of threads with one queue, most urgent job first. It knows nothing of graphs."""

from __future__ import annotations

import heapq
import itertools
import os
import threading
from collections.abc import Callable, Iterable

import numpy as np

Job = Callable[[], None]


class Pool:
    """``threads`` workers, started when first needed. A session has a pool for each of its devices.

    Promises:
    - At most ``threads`` jobs run at once.
    - Of the jobs that wait, the one with the smallest key leaves first; ties in the order of submission.
    - Where there are as many workers as processors that this process may use, and no other pool, each keeps to one: left to the system, two
      were seen to share one while another stood idle, which made a step of 0.94 ms one of 1.48.
    - A job does not raise. After ``close`` nothing more is taken; jobs that run are waited for.

    `_lock` (of the condition) guards `_heap`, `_workers`, `_idle` and `_closed`.
    """

    def __init__(self, threads: int, name: str = "flowgraph", *, alone: bool = True) -> None:
        self.threads, self.name = threads, name
        self._heap: list[tuple[tuple[float, int], int, Job]] = []
        self._order = itertools.count()
        self._condition = threading.Condition()
        self._workers: list[threading.Thread] = []
        self._idle = 0
        self._closed = False
        cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []
        self._cpus = cpus if alone and len(cpus) == threads > 1 else []

    def submit(self, jobs: Iterable[tuple[tuple[float, int], Job]]) -> None:
        """Queues (key, job) pairs. raises RuntimeError after ``close``."""
        with self._condition:
            if self._closed:
                raise RuntimeError("the pool is closed")
            count = 0
            for key, job in jobs:
                heapq.heappush(self._heap, (key, next(self._order), job))
                count += 1
            while len(self._workers) < self.threads and self._idle < len(self._heap):
                worker = threading.Thread(
                    target=self._work, args=(len(self._workers),), name=f"{self.name}-{len(self._workers)}", daemon=True
                )
                self._workers.append(worker)
                self._idle += 1  # it counts as idle from now on: it will look at the queue
                worker.start()
            self._condition.notify(count)

    def close(self) -> None:
        """Ends the workers, each after the job that it is at; jobs still queued are dropped."""
        with self._condition:
            self._closed = True
            self._heap.clear()
            self._condition.notify_all()
        for worker in self._workers:
            if worker is not threading.current_thread():
                worker.join()
        self._workers.clear()

    def _work(self, number: int) -> None:
        # Infinities and NaN are values here, as on every device; a warning from a worker could not name the user's line.
        np.seterr(all="ignore")
        if self._cpus:
            os.sched_setaffinity(0, {self._cpus[number]})
        while True:
            with self._condition:
                while not self._heap and not self._closed:
                    self._condition.wait()
                if self._closed:
                    return
                _, _, job = heapq.heappop(self._heap)
                self._idle -= 1
            job()
            del job  # a worker that waits keeps no run alive
            with self._condition:
                self._idle += 1
