"""Interleaved measurement: the rivals of a workload take turns, round after round, and only one computes at a time.

A machine that slows down for a while then slows all of them, and the medians still compare.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from benchmarks.rivals import RIVALS, Rival
from benchmarks.workload import Array, Workload, deviation

# Idle pools spin for some milliseconds before they sleep (OpenBLAS longest: about 30); a turn starts after that.
PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class Options:
    """How to measure.

    rounds           turns of each rival
    turn_seconds     how long a turn measures
    limit_seconds    a rival that takes longer for one answer is stopped
    """

    threads: int
    rounds: int = 7
    turn_seconds: float = 0.5
    limit_seconds: float = 60.0
    verbose: bool = False


@dataclass
class Row:
    """What became of one rival on one workload.

    state       "measured", "not installed", "stopped" (past the limit), "failed", or "wrong" (differs from NumPy)
    reason      why it was not measured
    times       seconds per call, one per round
    seconds     phase -> seconds: "build", "plan" (where the rival tells), "first" run, "all" (up to the first result)
    bytes       phase -> bytes of memory that the phase kept
    deviation   largest difference from NumPy's values, relative
    """

    workload: str
    rival: str
    state: str = "measured"
    reason: str = ""
    note: str = ""
    times: list[float] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    deviation: float | None = None


def measure(workload: Workload, names: list[str], options: Options, stopped: set[str]) -> list[Row]:
    """The rows of ``workload`` for the rivals ``names``, in that order; those in ``stopped`` are not tried."""
    rows = {name: Row(workload.name, name) for name in names if name in workload.implementations}
    # NumPy is always there, as it has the reference values.
    reference = Row(workload.name, "numpy")
    with ExitStack() as stack:
        workers: dict[str, Process] = {}
        expected: list[Array] = []
        for name in ["numpy", *(name for name in rows if name != "numpy")]:
            row = rows.get(name, reference)
            if name in stopped:
                row.state, row.reason = "stopped", "not tried: no result on a smaller graph"
            elif not RIVALS[name].is_installed:
                row.state = "not installed"
            else:
                worker = stack.enter_context(Process(workload, RIVALS[name], options))
                answer = worker.ask(row, "prepare")
                if answer is None:
                    continue
                row.seconds, row.bytes, row.note = answer["seconds"], answer["bytes"], answer["note"]
                if name == "numpy":
                    expected = answer["values"]
                row.deviation = deviation(answer["values"], expected)
                if not expected:
                    row.state, row.reason = "failed", "NumPy gave nothing to compare with"
                elif row.deviation > workload.tolerance:
                    row.state, row.reason = "wrong", f"differs from NumPy by {row.deviation:.1e}"
                elif name in rows:
                    workers[name] = worker
        for turn in range(options.rounds):
            order = list(workers)
            first = turn % max(len(order), 1)
            for name in order[first:] + order[:first]:
                seconds = workers[name].ask(rows[name], "measure", options.turn_seconds)
                if seconds is None:
                    del workers[name]
                else:
                    rows[name].times.append(seconds)
    return list(rows.values())


class Process:
    """A worker of its own for one rival; leaving the ``with`` block ends it."""

    def __init__(self, workload: Workload, rival: Rival, options: Options) -> None:
        self.limit_seconds = options.limit_seconds
        self.pipe, end = Pipe()
        # What the caller has set for BLAS would otherwise reach the rivals that set nothing.
        inherited = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "benchmarks.worker",
                workload.name,
                rival.name,
                str(options.threads),
                str(end.fileno()),
            ],
            env=inherited | rival.environment(options.threads),
            cwd=Path(__file__).parents[1],
            pass_fds=[end.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=None if options.verbose else subprocess.DEVNULL,
            stderr=None if options.verbose else subprocess.DEVNULL,
        )
        end.close()

    def ask(self, row: Row, *question: object) -> Any:
        """The answer to ``question``, or None when there is none; ``row`` then says why, and the process is ended."""
        time.sleep(PAUSE_SECONDS)
        try:
            self.pipe.send(question)
            if not self.pipe.poll(self.limit_seconds):
                row.state, row.reason = "stopped", f"no answer to {question[0]} in {self.limit_seconds:g} s"
            elif isinstance(answer := self.pipe.recv(), Exception):
                row.state, row.reason = "failed", str(answer)
            else:
                return answer
        except (EOFError, OSError):
            row.state, row.reason = "failed", f"its process ended with status {self.process.wait()}"
        self.end()
        return None

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self.pipe.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()
