"""The process of one rival on one workload: it answers the questions of ``rounds`` over a pipe, one at a time.

Started as ``python -m benchmarks.worker WORKLOAD RIVAL THREADS FD``. Each rival has a process of its own, so that the
thread pools, environment variables and heap of one library do not disturb another; it lives on, so that rounds can
interleave.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from itertools import repeat
from multiprocessing.connection import Connection
from typing import Any

from benchmarks.rivals import RIVALS
from benchmarks.workload import Array, Prepared, Setup, Workload
from benchmarks.workloads import WORKLOADS

# A batch of calls lasts at least this long, so that reading the clock (50 ns) does not count.
BATCH_SECONDS = 1e-3


def main(name: str, rival: str, threads: int, pipe: Connection) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    worker = Worker(WORKLOADS[name], rival, threads)
    questions: dict[str, Callable[..., Any]] = {"prepare": worker.prepare, "measure": worker.measure}
    while True:
        try:
            question, *arguments = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(questions[question](*arguments))
        except Exception as error:
            traceback.print_exc()
            text = str(error).strip() or "no message"
            pipe.send(RuntimeError(f"{type(error).__name__}: {text.splitlines()[0]}"))


class Worker:
    """One rival on one workload; each method answers one question."""

    def __init__(self, workload: Workload, rival: str, threads: int) -> None:
        self.workload = workload
        self.rival = rival
        self.threads = threads
        self.prepared: Prepared | None = None

    def prepare(self) -> dict[str, Any]:
        """Build, plan, run the first steps: their seconds (without the import), the bytes kept, the values to check."""
        problem = self.workload.problem()
        import_module(RIVALS[self.rival].module)
        setup = Setup(self.threads)
        with setup.phase("all"):
            self.prepared = self.workload.implementations[self.rival](problem, setup)
            with setup.phase("first"):
                self.prepared.step()
        for _ in range(self.workload.checked_steps - 1):
            self.prepared.step()
        values: list[Array] = self.prepared.values()
        return {"seconds": setup.seconds, "bytes": setup.kept_bytes, "values": values, "note": self.prepared.note}

    def measure(self, seconds: float) -> float:
        """Seconds per call: the median over batches of calls that together last about ``seconds``."""
        assert self.prepared is not None, "measure comes after prepare"
        step = self.prepared.step
        calls = 1
        while _batch(step, calls) < BATCH_SECONDS:  # warms up, too: the caches were another process's a moment ago
            calls *= 2
        samples: list[float] = []
        deadline = time.perf_counter() + seconds
        while not samples or time.perf_counter() < deadline:
            samples.append(_batch(step, calls) / calls)
        return statistics.median(samples)


def _batch(step: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in repeat(None, calls):
        step()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Connection(int(sys.argv[4])))
