"""The process of one rival on one workload: it loads, then answers the questions of ``rounds`` over a pipe, one at a time.

Started as ``python -m benchmarks.worker WORKLOAD RIVAL THREADS FD``. Each rival has a process of its own, so that the
thread pools, environment variables and heap of one library do not disturb another; it lives on, so that rounds can
interleave.
"""

from __future__ import annotations

import ctypes
import os
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from itertools import repeat
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.environment import cpus
from benchmarks.rivals import RIVALS
from benchmarks.workload import Array, Prepared, Setup, Workload
from benchmarks.workloads import LIMITS, WORKLOADS

# A batch of calls lasts at least this long, so that reading the clock (50 ns) does not count.
BATCH_SECONDS = 1e-3
# A call that lasts longer than this counts from the first on: filling the caches, which takes milliseconds, is little of it.
LONG_SECONDS = 0.2
DEATH_OF_PARENT = 1  # PR_SET_PDEATHSIG of linux/prctl.h


def main(name: str, rival: str, threads: int, pipe: Connection) -> None:
    if sys.platform.startswith("linux"):  # halted as it mostly is, it would not see that nobody asks any more
        ctypes.CDLL(None).prctl(DEATH_OF_PARENT, signal.SIGKILL)
    pin(cpus()[:threads])
    worker = Worker((WORKLOADS | LIMITS)[name], rival, threads)
    questions: dict[str, Callable[..., Any]] = {"load": worker.load, "prepare": worker.prepare, "measure": worker.measure}

    def answer(question: str, *arguments: Any) -> None:
        try:
            pipe.send(questions[question](*arguments))
        except Exception as error:
            traceback.print_exc()
            text = str(error).strip() or "no message"
            pipe.send(RuntimeError(f"{type(error).__name__}: {text.splitlines()[0]}"))

    answer("load")
    while True:
        try:
            asked = pipe.recv()
        except EOFError:
            return
        answer(*asked)


class Worker:
    """One rival on one workload; each method answers one question."""

    def __init__(self, workload: Workload, rival: str, threads: int) -> None:
        self.workload = workload
        self.rival = rival
        self.threads = threads
        self.problem: Any = None
        self.prepared: Prepared | None = None

    def load(self) -> bool:
        """Import the library and make the inputs, of which nothing is measured."""
        import_module(RIVALS[self.rival].module)
        self.problem = self.workload.problem()
        return True

    def prepare(self) -> dict[str, Any]:
        """Build, plan, run the first steps: their seconds (without the import), the bytes kept, the values to check."""
        setup = Setup(self.threads)
        with setup.phase("all"):
            self.prepared = self.workload.implementations[self.rival](self.problem, setup)
            with setup.phase("first"):
                self.prepared.step()
        for _ in range(self.workload.checked_steps - 1):
            self.prepared.step()
        values: list[Array] = self.prepared.values()
        return {"seconds": setup.seconds, "bytes": setup.kept_bytes, "values": values, "note": self.prepared.note}

    def measure(self, seconds: float, cpu: int | None = None) -> float:
        """Seconds per call, on ``cpu`` if it is given: the median over batches of calls. This lasts about ``seconds``, or a few calls."""
        if cpu is not None:
            pin([cpu])
        assert self.prepared is not None, "measure comes after prepare"
        step = self.prepared.step
        calls = 1
        deadline = time.perf_counter() + seconds
        while (taken := _batch(step, calls)) < BATCH_SECONDS:  # warms up, too: the caches were another process's a moment ago
            calls *= 2
        samples: list[float] = [taken] if taken > LONG_SECONDS else []
        while not samples or time.perf_counter() < deadline:
            samples.append(_batch(step, calls) / calls)
        return statistics.median(samples)


def pin(allowed: list[int]) -> None:
    """Let all threads of this process, and those that they will start, run on no other processors; where the system has that."""
    if allowed:
        for task in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(task), allowed)


def _batch(step: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in repeat(None, calls):
        step()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Connection(int(sys.argv[4])))
