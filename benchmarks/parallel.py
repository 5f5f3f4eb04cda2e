"""``python -m benchmarks.parallel``: what flowgraph gains by more threads, beside what the machine allows, and whether the bits stay.

A workload has a process for each number of threads, and they take turns; see ``rounds``. A gain is a ratio within a round.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks import page
from benchmarks.environment import cpus, describe, drift
from benchmarks.report import ratio, seconds, table
from benchmarks.rivals import RIVALS, Rival, blas_threads
from benchmarks.rounds import Options, Process, Row, take_turns
from benchmarks.spread import Spread, ratios
from benchmarks.workload import Array, Workload
from benchmarks.workloads import LIMITS, WORKLOADS

TINY = ("toy", "random-1e3", "chain")
NAMES = ("wide", "lenet", "lenet-inference", "mlp", "resnet", "lstm", "transformer", "gelu", "tree-product", "small-matmuls", *TINY)
# Whose values are compared, whether there are as many processors or not.
COMPARED = (1, 2, 4, 8)
# On which one thread takes its turns.
MOST_CPUS = 4
# The threads of a limit are its own, and not those of BLAS.
LIMIT = replace(RIVALS["numpy"], environment=lambda threads: blas_threads(1))


@dataclass
class Gain:
    """A workload on several numbers of threads.

    title     of the workload
    scales    whether there is as much work for each thread, as in a limit
    times     number of threads -> seconds per call, one per round
    differs   the numbers of threads whose values have other bits than those of one thread
    reason    why there is nothing
    """

    title: str
    scales: bool = False
    times: dict[int, list[float]] = field(default_factory=dict)
    differs: list[int] = field(default_factory=list)
    reason: str = ""

    def speed_up(self, threads: int) -> Spread | None:
        """How many times the work of one thread is done in its time, within rounds."""
        found = ratios(self.times[1], self.times[threads])
        times = threads if self.scales else 1
        return found and Spread(found.low * times, found.median * times, found.high * times)


class OneThread(Process):
    """A process on one thread, whose turn is one on each of ``cpus``: neighbours of the host may slow one of them and not another.

    Its seconds are those at the mean of their speeds.
    """

    def __init__(self, cpus: Sequence[int], row: Row, workload: Workload, rival: Rival, options: Options) -> None:
        super().__init__(row, workload, rival, options)
        self.cpus = cpus

    def ask(self, *question: object) -> Any:
        if question[0] != "measure" or not self.cpus:
            return super().ask(*question)
        seconds = []
        for cpu in self.cpus:
            if (answer := super().ask(*question, cpu)) is None:
                return None
            seconds.append(answer)
        return statistics.harmonic_mean(seconds)


def measure(workload: Workload, rival: Rival, timed: list[int], compared: list[int], options: Options, loops: list[float]) -> Gain:
    """``timed`` numbers of threads, the first of which is 1, take turns; the values of the ``compared`` ones have the same bits or not."""
    gain = Gain(workload.title, scales=workload.name in LIMITS)
    with ExitStack() as stack:
        processes: dict[int, Process] = {}
        for threads in sorted({*timed, *compared}):
            told = (Row(workload.name, rival.name), workload, rival, replace(options, threads=threads))
            process = Process(*told) if threads > 1 else OneThread(cpus()[: min(max(timed), MOST_CPUS)], *told)
            processes[threads] = stack.enter_context(process)
        first: list[Array] = []
        for threads, process in processes.items():
            answer = process.ask("prepare") if process.is_loaded() else None
            if answer is None:
                return failed(gain, process, threads)
            first = first or answer["values"]
            if threads in compared and not same_bits(first, answer["values"]):
                gain.differs.append(threads)
            if threads not in timed:
                process.end()
        take_turns([processes[threads] for threads in timed], options, loops)
        for threads in timed:
            if processes[threads].row.reason:
                return failed(gain, processes[threads], threads)
            gain.times[threads] = processes[threads].row.times
    return gain


def failed(gain: Gain, process: Process, threads: int) -> Gain:
    gain.reason = f"{process.row.state} on {threads} threads: {process.row.reason}"
    return gain


def same_bits(values: Iterable[Array], others: Iterable[Array]) -> bool:
    """Whether arrays are the same ones, NaNs and signs of zeros too."""
    return [(v.dtype, v.shape, v.tobytes()) for v in values] == [(o.dtype, o.shape, o.tobytes()) for o in others]


def lines(gain: Gain) -> list[list[str]]:
    """Of the table: one for each number of threads above 1."""
    if gain.reason:
        return [[gain.title, "-", "-", "-", gain.reason, "-", "-"]]
    bits = "-" if gain.scales else f"other ones on {', '.join(map(str, gain.differs))}" if gain.differs else "yes"
    one = statistics.median(gain.times[1])
    found = []
    for threads in sorted(gain.times)[1:]:
        gained, median = gain.speed_up(threads), statistics.median(gain.times[threads])
        efficiency = f"{gained.median / threads:.0%}" if gained else "-"
        found.append([gain.title, str(threads), seconds(one), seconds(median), ratio(gained), efficiency, bits])
    return found


def markdown(limits: list[Gain], gains: list[Gain], environment: dict[str, str]) -> str:
    """The page."""
    header = ["workload", "threads", "on 1 thread", "on so many", "speed-up", "efficiency"]
    compared = ", ".join(map(str, COMPARED))
    parts = [
        "# What more threads gain",
        "Written by `python -m benchmarks.parallel`. Each number of threads has a process of its own, pinned to as many CPUs; they take "
        "short turns, round after round. One thread takes a turn on each of these CPUs, as neighbours may slow one of them, and is given "
        "the mean of their speeds. A speed-up is a ratio within a round: the median over rounds, and in brackets the quartiles. Efficiency "
        "is the speed-up by the number of threads. Times beside rivals on n threads: `python -m benchmarks --threads n`.",
        table(["", ""], environment.items()),
        "## What the machine allows",
        "Each thread does the same work of its own, with NumPy and one thread of BLAS. The speed-up is how many times the work of one "
        "thread alone is done in its time. Nothing can be expected to gain more than products do, or more than copies where memory is the "
        "limit.",
        table(header, [line[:-1] for gain in limits for line in lines(gain)]),
        "## flowgraph",
        f"The last column: whether the fetched values (of a training step, the parameters) have the same bits on {compared} threads. "
        f"The last {len(TINY)} graphs are too small to gain: 1 says that threads cost them nothing.",
        table([*header, "same bits"], [line for gain in gains for line in lines(gain)]),
    ]
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str]) -> int:
    """0 if all was measured and all bits are the same."""
    description = "Measure what flowgraph gains by more threads."
    asked = page.parser("parallel", description, "the most; 1, 2, 4 and so on come before", 15, 0.06).parse_args(arguments)
    options = Options(asked.threads, asked.rounds, asked.turn_seconds)
    environment = describe(asked.threads, arguments, "benchmarks.parallel")
    timed = sorted({asked.threads, *(1 << k for k in range(asked.threads.bit_length()))})
    loops: list[float] = []
    limits = [measure(limit, LIMIT, timed, [], options, loops) for limit in LIMITS.values()]
    gains = []
    for name in asked.workload or NAMES:
        gains.append(measure(WORKLOADS[name], RIVALS["flowgraph"], timed, list(COMPARED), options, loops))
        print("\n".join(" | ".join(line) for line in lines(gains[-1])), file=sys.stderr, flush=True)
    environment["host"] = drift(loops)
    page.publish(markdown(limits, gains, environment), "parallel", asked)
    return int(any(gain.reason or gain.differs for gain in gains))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
