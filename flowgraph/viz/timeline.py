"""Timeline: a trace as one HTML page that needs nothing else: lanes to zoom and pan, search, and what each bar was and waited for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..traces import Trace
from ..traces.data import RunData
from ..traces.lifetimes import curve, of_run
from ..traces.waits import Waits

TEMPLATE = Path(__file__).parent / "timeline.html"


def page(trace: Trace) -> str:
    """The text of the page."""
    data = json.dumps(_data(trace), separators=(",", ":"))
    return TEMPLATE.read_text("utf-8").replace("/*DATA*/null", data.replace("<", "\\u003c"))


def _data(trace: Trace) -> dict[str, Any]:
    """Kernels by plan, and for each run tasks with what they waited for, and bars on streams of GPUs; times in microseconds."""
    plans = [
        [
            [k.name, k.op, k.makes, k.where, k.text, k.forward, plan.kinds[i], [m.name for m in k.members]]
            for i, k in enumerate(plan.kernels)
        ]
        for plan in trace.plans
    ]
    workers = sorted({task.worker for run in trace.runs for task in run.tasks})
    workers += sorted({row for run in trace.runs for row in run.rows}, key=lambda row: row.replace("compute", ""))
    waits = Waits(trace.runs)
    runs = [_run(run, workers, waits) for run in trace.runs]
    memory = curve([each for run in trace.runs for each in of_run(run)])
    return {"plans": plans, "workers": workers, "runs": runs, "memory": [[_us(time), nbytes] for time, nbytes in memory]}


def _run(run: RunData, workers: list[str], waits: Waits) -> dict[str, Any]:
    tasks = []
    for task in run.tasks:
        waited = {**waits.before(run, task), **waits.off(task)}
        told = {kind: round(seconds * 1e6, 1) for kind, seconds in waited.items() if seconds > 1e-7}
        entry = run.plan.tasks[task.task]
        turns = [[number, [_us(mark) for mark in marks]] for number, marks in task.turns]
        inside = workers.index(f"{task.device} compute" if task.ran else task.worker)
        tasks.append(
            [workers.index(task.worker), task.task, _us(task.ready), _us(task.start), _us(task.end), entry.first,
             [_us(mark) for mark in task.marks], turns, told, entry.after, inside, bool(task.ran)]
        )  # fmt: skip
    streams = [
        [workers.index(row), index, _us(begin), _us(end), run.tasks.index(run.by_task[run.plan.task_of[index]]), _us(run.late(index))]
        for row, spans in run.rows.items()
        for index, (begin, end) in spans.items()
    ]
    label = f"run {run.number} {run.where}"
    times = {"made": _us(run.made), "begun": _us(run.begun), "over": _us(run.done)}
    return {"plan": run.plan.number, "label": label, **times, "tasks": tasks, "streams": streams}


def _us(seconds: float) -> float:
    return round(seconds * 1e6, 3)
