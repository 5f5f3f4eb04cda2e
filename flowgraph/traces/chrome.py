"""Chrome's trace format, which Perfetto opens: one track for each worker, and two for each GPU, slices that nest, arrows for what waits for
what, memory.

A track never has two slices that overlap without one being within the other: so times are whole nanoseconds here, begin and end rounded
alike.
What the format has no place for stands beside the events, under "flowgraph": it is what `read` reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..errors import FileFormatError
from .data import ROWS, PlanData, RunData, TaskRun, packed, plan_of, run_of
from .lifetimes import curve, of_run

VERSION = 1
PROCESS = 1
RUNS = 1  # the track of whole runs; where they overlap, the ones behind it
WORKERS, STREAMS = 100, 10_000


def written(runs: Sequence[RunData], plans: Sequence[PlanData]) -> str:
    """The text of the file."""
    tracks = _tracks(runs)
    events = [*_named(runs, tracks), *_runs(runs), *_memory(runs)]
    for run in runs:
        events += [event for task in run.tasks for event in _task(run, task, tracks, plans)]
        events += [*_arrows(run, tracks), *_streams(run, tracks)]
    data = {"version": VERSION, "plans": packed(plans), "runs": packed(runs)}
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms", "flowgraph": data}, separators=(",", ":"))


def _tracks(runs: Sequence[RunData]) -> dict[str, int]:
    """Worker, or stream of a GPU -> the number of its track."""
    workers = sorted({task.worker for run in runs for task in run.tasks})
    streams = sorted({row for run in runs for row in run.rows}, key=lambda row: row.replace("compute", ""))
    return dict(zip(workers, range(WORKERS, STREAMS))) | dict(zip(streams, range(STREAMS, 2 * STREAMS)))


def _named(runs: Sequence[RunData], tracks: dict[str, int]) -> Iterator[dict[str, Any]]:
    yield {"ph": "M", "pid": PROCESS, "tid": 0, "name": "process_name", "args": {"name": "flowgraph"}}
    for lane in range(max(_lanes(runs), default=-1) + 1):
        yield {"ph": "M", "pid": PROCESS, "tid": RUNS + lane, "name": "thread_name", "args": {"name": f"runs {lane}" if lane else "runs"}}
    for worker, track in tracks.items():
        yield {"ph": "M", "pid": PROCESS, "tid": track, "name": "thread_name", "args": {"name": worker}}
        yield {"ph": "M", "pid": PROCESS, "tid": track, "name": "thread_sort_index", "args": {"sort_index": track}}


def _slice(name: str, kind: str, track: int, begin: float, end: float, **told: Any) -> dict[str, Any]:
    first, last = _ns(begin), _ns(end)
    return {
        "ph": "X",
        "pid": PROCESS,
        "tid": track,
        "name": name,
        "cat": kind,
        "ts": first / 1000,
        "dur": max(last - first, 0) / 1000,
        "args": {key: value for key, value in told.items() if value not in ("", None)},
    }


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _lanes(runs: Sequence[RunData]) -> list[int]:
    """For each run the first lane on which it overlaps with no other."""
    until: list[float] = []
    lanes = []
    for run in runs:
        lane = next((lane for lane, end in enumerate(until) if end <= run.made), len(until))
        until[lane : lane + 1] = [run.done]
        lanes.append(lane)
    return lanes


def _runs(runs: Sequence[RunData]) -> Iterator[dict[str, Any]]:
    for run, lane in zip(runs, _lanes(runs), strict=True):
        yield _slice(f"run {run.number}", "run", RUNS + lane, run.made, run.done, at=run.where, code=run.text, error=run.error)


def _task(run: RunData, task: TaskRun, tracks: dict[str, int], plans: Sequence[PlanData]) -> Iterator[dict[str, Any]]:
    plan, track = run.plan, tracks[task.worker]
    entry = plan.tasks[task.task]
    yield _slice(
        f"task {task.task}",
        "task",
        track,
        task.start,
        task.end,
        run=run.number,
        device=task.device,
        waited_us=round((task.start - task.ready) * 1e6, 1),
        computed_us=round(task.cpu * 1e6, 1),
    )
    for place, (begin, end) in enumerate(task.spans()):
        index = entry.first + place
        yield _kernel(plan, index, track, begin, end, "ask for " if index in run.on_gpus else "")
    track = tracks.get(f"{task.device} compute", track)
    for number, marks in task.turns:
        if len(marks) > 1:
            yield _slice(f"turn of {plans[number].label}", "turn", track, marks[0], marks[-1])
            for place, (begin, end) in enumerate(pairwise(marks)):
                yield _kernel(plans[number], place, track, begin, end)


def _streams(run: RunData, tracks: dict[str, int]) -> Iterator[dict[str, Any]]:
    """What ran on GPUs, with an arrow from where it was asked for."""
    for row, spans in run.rows.items():
        for index, (begin, end) in spans.items():
            yield _kernel(run.plan, index, tracks[row], begin, end)
            worker = run.by_task[run.plan.task_of[index]].worker
            told = {"pid": PROCESS, "cat": "asks", "name": "asks", "id": f"{run.number}.{row}.{index}"}
            yield {"ph": "s", "tid": tracks[worker], "ts": _ns(run.asked[index][0]) / 1000, **told}
            yield {"ph": "f", "bp": "e", "tid": tracks[row], "ts": _ns(begin) / 1000, **told}


def _kernel(plan: PlanData, index: int, track: int, begin: float, end: float, asks: str = "") -> dict[str, Any]:
    kernel = plan.kernels[index]
    return _slice(
        asks + kernel.name,
        kernel.op,
        track,
        begin,
        end,
        makes=kernel.makes,
        at=kernel.where,
        code=kernel.text,
        gradient_of=kernel.forward,
        flops=kernel.flops or None,
        bytes=kernel.moved or None,
        members=", ".join(member.name for member in kernel.members),
    )


def _arrows(run: RunData, tracks: dict[str, int]) -> Iterator[dict[str, Any]]:
    """From each task to those that wait for it."""
    for task in run.tasks:
        for number, before in enumerate(run.plan.tasks[task.task].after):
            maker = run.by_task.get(before)
            if maker is None:
                continue
            told = {"pid": PROCESS, "cat": "waits", "name": "waits", "id": f"{run.number}.{task.task}.{number}"}
            yield {"ph": "s", "tid": tracks[maker.worker], "ts": max(_ns(maker.end) - 1, _ns(maker.start)) / 1000, **told}
            yield {"ph": "f", "bp": "e", "tid": tracks[task.worker], "ts": _ns(task.start) / 1000, **told}


def _memory(runs: Sequence[RunData]) -> Iterator[dict[str, Any]]:
    for time, nbytes in curve([each for run in runs for each in of_run(run)]):
        yield {"ph": "C", "pid": PROCESS, "name": "memory of runs", "ts": _ns(time) / 1000, "args": {"bytes": nbytes}}


def read(path: Path) -> tuple[list[RunData], list[PlanData]]:
    """The runs and plans of a file. raises FileFormatError for what `written` has not written."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise FileFormatError(f"{path} is no trace: {error}") from None
    data = found.get("flowgraph") if isinstance(found, dict) else None
    if not isinstance(data, dict):
        raise FileFormatError(f"{path} is no trace that flowgraph wrote", help="a trace is written by t.save(file)")
    if data.get("version") != VERSION:
        raise FileFormatError(f"{path} has version {data.get('version')!r:.20} of the format, and this flowgraph reads {VERSION}")
    try:
        plans = [plan_of(plan) for plan in data["plans"]]
        runs = [run_of(run, plans) for run in data["runs"]]
        _check(runs, plans)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise FileFormatError(f"{path} is damaged: {type(error).__name__}: {error}") from None
    return runs, plans


def _check(runs: Sequence[RunData], plans: Sequence[PlanData]) -> None:
    """raises ValueError or TypeError where numbers are not numbers, or refer to what is not there."""
    for number, plan in enumerate(plans):
        if plan.number != number or [task.index for task in plan.tasks] != list(range(len(plan.tasks))):
            raise ValueError("plans or tasks are not in their order")
        if [task.first for task in plan.tasks] != [0, *(task.last for task in plan.tasks)][: len(plan.tasks)]:
            raise ValueError("the kernels of tasks do not follow each other")
        if plan.tasks and plan.tasks[-1].last != len(plan.kernels):
            raise ValueError("there are kernels in no task")
        for task in plan.tasks:
            _numbers(task.priority, task.estimate, task.peak_bytes, task.kept_bytes, *task.releases)
            if any(not 0 <= before < task.index for before in task.after):
                raise ValueError(f"task {task.index} waits for one that does not come before it")
        for kernel in plan.kernels:
            _numbers(kernel.estimate, kernel.flops, kernel.moved, kernel.made, kernel.scratch, kernel.output, *kernel.reads, *kernel.frees)
            if any(not 0 <= body < len(plans) for body in kernel.bodies):
                raise ValueError(f"{kernel.name} holds a plan that is not there")
    for run in runs:
        _numbers(run.made, run.begun, run.over, run.peak_bytes, *run.threads.values())
        for each in run.tasks:
            _numbers(each.ready, each.admitted, each.start, each.end, each.cpu, *each.marks, *(t for _, turn in each.turns for t in turn))
            _numbers(*(number for place, _, begin, end in each.ran for number in (place, begin, end)))
            if not 0 <= each.task < len(run.plan.tasks) or any(not 0 <= body < len(plans) for body, _ in each.turns):
                raise ValueError(f"run {run.number} has a task that is not in its plan")
            if any(not 0 <= place < len(each.marks) - 1 or row not in ROWS for place, row, _, _ in each.ran):
                raise ValueError(f"run {run.number} has a kernel on a GPU that its task has not asked for")


def _numbers(*values: Any) -> None:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise TypeError(f"a number is expected, got {value!r:.40}")
