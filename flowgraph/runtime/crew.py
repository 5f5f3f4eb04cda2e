"""Crew: threads that help the caller of a run to work off its tasks in machine code, without Python's lock and without Python.

A hand-over between threads of Python costs 40 to 60 us. Here whoever is free takes the next task that is ready from memory. Helpers look
for the next run a little longer than a training loop needs between two steps, and give way to whoever else wants their processor; then they
sleep.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from ..jit.tape import helper

# How often a helper looks before it goes to sleep: about 0.2 ms.
PATIENCE = 100_000


class Crew:
    """Up to ``count`` helpers of a session, started when first needed. One run at a time has them; another goes its usual way.

    There are fewer than processors: what waits in machine code uses one, and two that shared it with the caller would only be in its way.

    board   where they look
    `_condition` guards `_calls`, `_threads` and `_closed`.
    """

    def __init__(self, count: int) -> None:
        self._processors = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else frozenset()
        self.count = min(count, len(self._processors) - 1)
        memory = np.zeros(16, np.int64)
        self.board = memory[-memory.ctypes.data % 64 // 8 :][:8]  # a line of the cache for itself
        self.busy = threading.Lock()
        self._condition = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._calls = 0
        self._closed = False
        self._look: Callable[[], Any] = lambda: None

    @property
    def is_possible(self) -> bool:
        """Whether this system lets threads choose their processors, and there is one for a helper."""
        return self.count > 0

    def call(self) -> None:
        """Wakes the helpers that sleep. The caller holds `busy`, and is about to show its run on the board."""
        if self.board[2] >= self.count:
            return
        with self._condition:
            if self._closed:
                return
            self._calls += 1
            if not self._threads:
                self._look = helper(self.board, PATIENCE)
            while len(self._threads) < self.count:
                thread = threading.Thread(target=self._work, name=f"flowgraph-crew-{len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._condition.notify_all()

    def close(self) -> None:
        """Ends the helpers."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()
        self._threads.clear()

    def _work(self) -> None:
        seen, chosen = 0, self._processors
        while True:
            with self._condition:
                while self._calls == seen and not self._closed:
                    self._condition.wait()
                if self._closed:
                    return
                seen = self._calls
            while True:
                # Left to the system, helper and caller were seen to share a processor while another stood idle.
                wanted = self._processors - {int(self.board[3])}
                if wanted and wanted != chosen:
                    os.sched_setaffinity(0, wanted)
                    chosen = wanted
                self._look()
                if self._closed or int(self.board[3]) not in chosen:  # (else it has ended to move)
                    break
