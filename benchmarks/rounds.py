"""Interleaved measurement: the rivals of a workload take short turns, round after round, and only one computes at a time.

A machine that slows down for a while then slows all of them. The turns of a round lie a moment apart, and what is compared is them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import repeat
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from benchmarks.rivals import RIVALS, Rival
from benchmarks.workload import Array, Workload, deviation

# However slow it is, a rival takes part in so many rounds.
LEAST_ROUNDS = 3
# Importing a library and making the inputs, while the other rivals do the same.
LOAD_SECONDS = 120.0


@dataclass(frozen=True)
class Options:
    """How to measure.

    rounds           turns of each rival
    turn_seconds     how long a turn measures
    limit_seconds    a rival that takes longer for one answer is stopped
    rival_seconds    a rival whose turns have taken longer sits out further rounds
    """

    threads: int
    rounds: int = 25
    turn_seconds: float = 0.15
    limit_seconds: float = 60.0
    rival_seconds: float = 12.0
    verbose: bool = False


@dataclass
class Row:
    """What became of one rival on one workload.

    state       "measured", "not installed", "stopped" (past the limit), "failed", or "wrong" (differs from NumPy)
    reason      why it was not measured
    times       seconds per call, one per round from the first on
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


def measure(workload: Workload, names: list[str], options: Options, not_tried: dict[str, str], loops: list[float]) -> list[Row]:
    """The rows of ``workload`` for the rivals ``names``, in that order.

    not_tried   rival -> why it need not be tried
    loops       is given the seconds of ``host_loop``, one for each round
    """
    rows = {name: Row(workload.name, name) for name in names if name in workload.implementations}
    # NumPy is always there, as it has the reference values.
    rows_and_reference = {"numpy": Row(workload.name, "numpy")} | rows
    with ExitStack() as stack:
        processes: list[Process] = []
        for name, row in rows_and_reference.items():
            if name in not_tried:
                row.state, row.reason = "stopped", not_tried[name]
            elif not RIVALS[name].is_installed:
                row.state = "not installed"
            else:
                processes.append(stack.enter_context(Process(row, workload, RIVALS[name], options)))
        processes = [process for process in processes if process.is_loaded()]
        expected: list[Array] = []
        ready = []
        for process in processes:
            row, answer = process.row, process.ask("prepare")
            if answer is None:
                continue
            row.seconds, row.bytes, row.note = answer["seconds"], answer["bytes"], answer["note"]
            if row.rival == "numpy":
                expected = answer["values"]
            row.deviation = deviation(answer["values"], expected)
            if not expected:
                row.state, row.reason = "failed", "NumPy gave nothing to compare with"
            elif row.deviation > workload.tolerance:
                row.state, row.reason = "wrong", f"differs from NumPy by {row.deviation:.1e}"
            elif row.rival in rows:
                ready.append(process)
        take_turns(ready, options, loops)
    return list(rows.values())


def take_turns(processes: list[Process], options: Options, loops: list[float]) -> None:
    """Measure the processes into the times of their rows; the order changes from round to round."""
    for number in range(options.rounds):
        loops.append(host_loop())
        for process in in_turn(processes, number):
            if number >= LEAST_ROUNDS and process.taken > options.rival_seconds:
                continue
            # Who has missed a round is not asked again: the times of all rows begin with the first round, without a gap.
            if len(process.row.times) < number:
                continue
            start = time.perf_counter()
            seconds = process.ask("measure", options.turn_seconds)
            process.taken += time.perf_counter() - start
            if seconds is not None:
                process.row.times.append(seconds)


def in_turn(processes: list[Process], number: int) -> list[Process]:
    """The order of a round: another one begins, and every second round runs backwards."""
    first = number % max(len(processes), 1)
    order = processes[first:] + processes[:first]
    return order[::-1] if number % 2 else order


def host_loop() -> float:
    """Seconds for a loop that is always the same: how fast the host is now."""
    start = time.perf_counter()
    for _ in repeat(None, 200_000):
        pass
    return time.perf_counter() - start


class Process:
    """A worker of its own for one rival, halted whenever it has no question to answer; leaving the ``with`` block ends it.

    Idle pools of threads spin for some milliseconds before they sleep (OpenBLAS longest: about 30). Halted, they disturb nobody.
    """

    def __init__(self, row: Row, workload: Workload, rival: Rival, options: Options) -> None:
        self.row = row
        self.limit_seconds = options.limit_seconds
        self.taken = 0.0  # seconds of its turns
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

    def is_loaded(self) -> bool:
        """Wait until the library is imported and the inputs are made."""
        return self._answer("load", LOAD_SECONDS) is not None

    def ask(self, *question: object) -> Any:
        """The answer to ``question``, or None when there is none; the row then says why, and the process is ended."""
        try:
            self.process.send_signal(signal.SIGCONT)
            self.pipe.send(question)
        except OSError:
            pass  # the answer will tell
        return self._answer(str(question[0]), self.limit_seconds)

    def _answer(self, question: str, limit: float) -> Any:
        row = self.row
        try:
            if not self.pipe.poll(limit):
                row.state, row.reason = "stopped", f"no answer to {question} in {limit:g} s"
            elif isinstance(answer := self.pipe.recv(), Exception):
                row.state, row.reason = "failed", str(answer)
            else:
                self.process.send_signal(signal.SIGSTOP)
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
