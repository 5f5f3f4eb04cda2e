"""What a session keeps watch over: the order of updates, a graph that grows with every run, the threads of BLAS."""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

from ..errors import GraphGrowthWarning
from ..graph import Graph
from ..graph.location import Location, here
from ..graph.report import where

# So many runs in a row, each after the graph has grown, count as building in a loop.
GROWTH_RUNS = 8


class Turnstile:
    """Lets the runs that write variables through one by one, so that none reads what another is about to write.

    is_busy  whether one is in, or on its way

    `_lock` guards `is_busy` and `_queue`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.is_busy = False
        self._queue: deque[Callable[[], None]] = deque()

    def enter(self, begin: Callable[[], None], *, wait: bool) -> None:
        """Calls ``begin`` when it is its turn: at once, or by the thread that leaves; with ``wait``, always on this thread."""
        turn = threading.Event()
        with self._lock:
            if self.is_busy:
                self._queue.append(turn.set if wait else begin)
                waits = True
            else:
                self.is_busy = True
                waits = False
        if not waits:
            begin()
        elif wait:
            try:
                turn.wait()
            except BaseException:  # an interrupt: whoever comes next does not wait for this one
                with self._lock:
                    waiting = turn.set in self._queue
                    if waiting:
                        self._queue.remove(turn.set)
                if not waiting:
                    self.leave()
                raise
            begin()

    def leave(self) -> None:
        with self._lock:
            following = self._queue.popleft() if self._queue else None
            self.is_busy = following is not None
        if following is not None:
            following()


class Growth:
    """Notices a graph that grows with every run, as when nodes are built inside the training loop. Warns once."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self._size, self._turns, self._warned = graph, len(graph), 0, False
        self._last: Location | None = None

    def check(self) -> None:
        """Called when a plan has to be made."""
        size = len(self._graph)
        if self._warned or size == self._size:
            return
        line = self._graph.nodes[-1].location
        grown, self._size = size - self._size, size
        if line != self._last:
            self._last, self._turns = line, 0
            return
        self._turns += 1
        if self._turns >= GROWTH_RUNS:
            self._warned = True
            warnings.warn(
                f"the graph grows by {grown} nodes with every run; the last was made at {where(line)}\n"
                f"  help   build once, before the loop, and call session.run or session.function in it (now at {here()})",
                GraphGrowthWarning,
                stacklevel=2,
            )


class Blas:
    """Holds BLAS at one thread while sessions are open. OpenBLAS's limit is one for the process, so it is set once, not per task.

    `_lock` guards the rest.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions = 0
        self._limit: Any = None

    def hold(self) -> None:
        with self._lock:
            self._sessions += 1
            if self._sessions == 1:
                from threadpoolctl import threadpool_limits

                self._limit = threadpool_limits(1, user_api="blas")

    def release(self) -> None:
        with self._lock:
            self._sessions -= 1
            if self._sessions == 0:
                self._limit.restore_original_limits()
                self._limit = None


BLAS = Blas()
