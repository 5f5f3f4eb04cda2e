"""``python -m benchmarks.predictions``: what traces predict of the workloads beside what is then measured.

Each workload is run by flowgraph on one thread and on several, in turns, all of it traced. From the runs on each number of threads the
others are predicted. The measured times are those of the traced runs, from the begin of a run to the end of its last task.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass, field

import flowgraph as fg
from benchmarks import page
from benchmarks.environment import describe
from benchmarks.workload import Prepared, Setup
from benchmarks.workloads import WORKLOADS
from flowgraph.runtime.tracing import TRACED
from flowgraph.traces.costs import learnt_one_by_one, usual
from flowgraph.traces.data import RunData
from flowgraph.traces.simulate import simulate

# Graphs of which the trace of a run takes minutes to look at.
LONG = {"random-1e5", "random-1e6"}


@dataclass
class Setting:
    """A workload on so many threads: what runs it, and the runs so far."""

    threads: int
    trace: fg.Trace
    prepared: Prepared
    runs: list[RunData] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Of the usual runs, on average."""
        return statistics.fmean(run.seconds for run in usual(self.runs))


@dataclass
class Row:
    """What was predicted for ``threads`` from runs on ``recorded``, and measured."""

    workload: str
    tasks: int
    recorded: int
    threads: int
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


def setting(name: str, threads: int) -> Setting:
    """The workload, warmed up; its session records."""
    trace = fg.Trace(keep=400)
    workload = WORKLOADS[name]
    token = TRACED.set(trace)
    try:
        prepared = workload.implementations["flowgraph"](workload.problem(), Setup(threads))
    finally:
        TRACED.reset(token)
    for _ in range(3):
        prepared.step()
    return Setting(threads, trace, prepared)


def measure(name: str, counts: list[int], rounds: int, turn_seconds: float) -> list[Row]:
    """The rows of one workload."""
    settings = [setting(name, count) for count in counts]
    skipped = [len(each.trace) for each in settings]
    for _ in range(rounds):
        for each in settings:
            deadline = time.perf_counter() + turn_seconds
            each.prepared.step()
            while time.perf_counter() < deadline:
                each.prepared.step()
    for each, count in zip(settings, skipped, strict=True):
        number = each.trace.alike()[-1].plan.number
        each.runs = [run for run in each.trace.runs if run.plan.number == number and run.number >= count]
    rows = []
    for source in settings:
        costs, plan = learnt_one_by_one(source.runs), source.runs[0].plan
        for target in settings:
            device = plan.tasks[0].device if plan.tasks else "cpu:0"
            # A plan that the engine keeps on the caller's thread stays there.
            threads = target.threads if target.runs[0].threads else 1
            predicted = statistics.fmean(simulate(plan, each, {device: threads}).seconds for each in costs)
            rows.append(Row(name, len(plan.tasks), source.threads, target.threads, predicted, target.seconds))
    return rows


def written(rows: list[Row], environment: dict[str, str]) -> str:
    """The table as Markdown."""
    same = [row for row in rows if row.recorded == row.threads]
    other = [row for row in rows if row.recorded != row.threads]
    lines = [
        "# What traces predict, and what was measured",
        "",
        "A run as its trace predicts it, for the number of threads that was recorded and for the other; see `benchmarks/predictions.py`.",
        f"For what was recorded the error is at most {max(abs(row.error) for row in same):.1%}, "
        f"and {statistics.median(abs(row.error) for row in same):.1%} in the median; for the other number of threads "
        f"{statistics.median(abs(row.error) for row in other):.1%} in the median, {max(abs(row.error) for row in other):.1%} at most. "
        "What one thread has recorded cannot tell how much tasks slow each other down side by side, as they share caches and memory.",
        "",
        "| workload | tasks | recorded on | threads | predicted | measured | error |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row.workload} | {row.tasks} | {row.recorded} | {row.threads} | {row.predicted * 1e3:.3f} ms | {row.measured * 1e3:.3f} ms "
        f"| {row.error:+.1%} |"
        for row in rows
    ]
    lines += ["", *(f"- {name}: {text}" for name, text in environment.items())]
    return "\n".join(lines) + "\n"


def _told(row: Row) -> str:
    predicted, measured = f"{row.predicted * 1e3:.3f} ms predicted", f"{row.measured * 1e3:.3f} ms measured"
    return f"{row.workload}: from {row.recorded} to {row.threads} threads: {predicted}, {measured}, {row.error:+.1%}"


def main(arguments: list[str]) -> int:
    """0 if each prediction for what was recorded is within 10 %, else 1."""
    description = "Hold predictions against measurements."
    asked = page.parser("predictions", description, "beside one thread", 5, 0.2).parse_args(arguments)
    names = asked.workload or [name for name, workload in WORKLOADS.items() if name not in LONG and "flowgraph" in workload.implementations]
    rows: list[Row] = []
    for name in names:
        rows += measure(name, sorted({1, asked.threads}), asked.rounds, asked.turn_seconds)
        for row in [row for row in rows if row.workload == name]:
            print(_told(row), file=sys.stderr, flush=True)
    page.publish(written(rows, describe(asked.threads, arguments, "benchmarks.predictions")), "predictions", asked)
    return int(any(abs(row.error) > 0.1 for row in rows if row.recorded == row.threads))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
