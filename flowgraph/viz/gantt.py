"""Gantt: what ran when on which thread, with the memory below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..graph import text
from ..graph.text import format_bytes
from ..traces import Trace
from ..traces.data import RunData, TaskRun
from ..traces.lifetimes import curve, of_run
from ..traces.streams import merged, streams
from ..traces.waits import Waits
from ..traces.why import why
from .drawing import delivered
from .sheet import FORMATS, INK, Sheet, scaled, ticks
from .style import GREY
from .timeline import page

BARS = {"forward": "#7db8e0", "gradient": "#efa974", "update": "#7fd0b5", "copy": "#b99ad6"}
ASKING = "#e9d8a6"  # of what a thread asks a GPU for
WIDTH, LEFT, RIGHT, TOP = 820, 104, 14, 46
LANE, GAP, MEMORY = 34, 7, 52
LEAST = 0.6  # pixels: narrower kernels of one kind that follow each other are one bar


def gantt(trace: Trace, file: Any = None, *, run: int | None = None, format: str | None = None) -> Any:
    """See `flowgraph.Trace.gantt`."""
    chosen, runs = trace.run(run), trace.runs

    def data(kind: str) -> bytes:
        return page(trace).encode() if kind == "html" else sheet_of(chosen, runs).bytes(kind)

    return delivered("gantt", data, file, format, (*FORMATS, "html"))


def sheet_of(run: RunData, runs: Sequence[RunData]) -> Sheet:
    """The picture of one run."""
    workers = sorted({task.worker for task in run.tasks}, key=lambda worker: (worker.startswith("flowgraph"), len(worker), worker))
    workers += list(run.rows)
    bottom = TOP + len(workers) * (LANE + GAP)
    sheet = Sheet(WIDTH, bottom + 22 + MEMORY + 44)
    place = _Place(run)
    account = Waits([run]).account()
    at = f" from {run.where}" if run.where else ""
    used = f"on {_threads(run.workers)}, {text.percent(account.efficiency)} of their time in kernels"
    for each in streams([run]).values():
        beside = f", {text.percent(each.overlap)} of its copies beside them" if each.copies else ""
        used = f"with kernels on {each.device} for {text.percent(each.compute / (run.seconds or 1.0))} of it{beside}"
    sheet.text(LEFT, 17, f"run {run.number}{at}: {text.time(run.seconds)} {used}", 13, bold=True)
    _legend(sheet, run)
    _axis(sheet, run, place, TOP - 4, bottom + 22 + MEMORY)
    for number, worker in enumerate(workers):
        y = TOP + number * (LANE + GAP)
        sheet.rect(LEFT, y, WIDTH - LEFT - RIGHT, LANE, "#f4f6f8")
        sheet.text(LEFT - 8, y + LANE / 2 + 4, worker if worker != "MainThread" else "the caller's", 11, anchor="end")
        for task in run.tasks:
            if task.worker == worker:
                _task(sheet, run, task, place, y)
        if worker in run.rows:
            _stream(sheet, run, runs, worker, place, y)
    _chain(sheet, run, runs, place, workers)
    _memory(sheet, run, place, bottom + 22)
    if run.error:
        sheet.text(LEFT, sheet.height - 4, f"ended with {run.error}"[:150], 11, "#a61b00")
    return sheet


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count != 1)}"


class _Place:
    """Where a moment of the run is."""

    def __init__(self, run: RunData) -> None:
        self.begin, self.per_second = run.begun, (WIDTH - LEFT - RIGHT) / (run.seconds or 1e-9)

    def __call__(self, time: float) -> float:
        return min(max(LEFT + (time - self.begin) * self.per_second, LEFT), WIDTH - RIGHT)


def _legend(sheet: Sheet, run: RunData) -> None:
    present = {run.plan.kinds[index] for index in run.spans}
    x = float(LEFT)
    for kind in [kind for kind in BARS if kind in present]:
        sheet.rect(x, 25, 10, 10, BARS[kind])
        sheet.text(x + 14, 34, kind, 11, GREY)
        x += 26 + 6.2 * len(kind)
    if run.threads:
        sheet.line([(x, 30), (x + 14, 30)], "#9aa4af", 1.2, "2 2")
        sheet.text(x + 18, 34, "ready, but waits", 11, GREY)
        x += 116
    if run.rows:
        sheet.rect(x, 25, 10, 10, ASKING)
        sheet.text(x + 14, 34, "being asked for", 11, GREY)
        x += 112
    sheet.line([(x, 30), (x + 14, 30)], INK, 2)
    sheet.text(x + 18, 34, "what the end of the run waited for, step by step", 11, GREY)


def _axis(sheet: Sheet, run: RunData, place: _Place, top: float, bottom: float) -> None:
    factor, unit = scaled(run.seconds)
    for tick in ticks(run.seconds):
        x = place(run.begun + tick)
        sheet.line([(x, top), (x, bottom)], "#dde2e7", 0.7)
        if x < WIDTH - RIGHT - 24:
            sheet.text(x, bottom + 14, f"{tick * factor:g}", 10.5, GREY, "middle")
    sheet.text(WIDTH - RIGHT, bottom + 14, unit, 10.5, GREY, "end")


def _task(sheet: Sheet, run: RunData, task: TaskRun, place: _Place, y: float) -> None:
    since = max([task.ready, *(other.end for other in run.tasks if other.worker == task.worker and other.end <= task.start)])
    if run.threads and place(task.start) - place(since) > 2:
        sheet.line([(place(since), y + LANE / 2), (place(task.start), y + LANE / 2)], "#9aa4af", 1.2, "2 2", "ready, but waits")
    first = run.plan.tasks[task.task].first
    left, right = place(task.start), place(task.end)
    sheet.rect(left, y + 2, max(right - left, 0.4), LANE - 4, "#d3dae1", _task_title(run, task))
    _kernels(sheet, run, dict(enumerate(task.spans(), first)), place, y, is_asking=bool(task.ran))
    if not task.ran:
        _turns(sheet, task, place, y)


def _stream(sheet: Sheet, run: RunData, runs: Sequence[RunData], row: str, place: _Place, y: float) -> None:
    """What ran on a stream of a GPU, and what other runs did there meanwhile."""
    for begin, end in merged(span for other in runs if other is not run for span in other.rows.get(row, {}).values()):
        if begin < run.done and end > run.begun:
            sheet.rect(place(begin), y + 2, place(end) - place(begin), LANE - 4, "#d3dae1", "another run")
    _kernels(sheet, run, run.rows[row], place, y)
    for task in run.tasks:
        if row == f"{task.device} compute":
            _turns(sheet, task, place, y)


def _kernels(
    sheet: Sheet, run: RunData, spans: Mapping[int, tuple[float, float]], place: _Place, y: float, is_asking: bool = False
) -> None:
    pending: list[tuple[float, float, str]] = []  # kernels too narrow to be seen by themselves
    for index, (begin, end) in spans.items():
        x, until = place(begin), place(end)
        color = ASKING if is_asking else BARS[run.plan.kinds[index]]
        if until - x < LEAST:
            if pending and pending[-1][2] == color and x - pending[-1][1] < LEAST:
                pending[-1] = pending[-1][0], until, color
            else:
                pending.append((x, until, color))
            continue
        sheet.rect(x, y + 2, until - x, LANE - 4, color, _title(run, index, begin, end), "#ffffff")
        late = 0.0 if is_asking else place(begin + run.late(index)) - x
        if late >= LEAST:
            sheet.rect(x, y + 2, late, LANE - 4, ASKING, "the host was still asking for it")
        name = run.plan.kernels[index].op
        room = int((until - x - 4) / 5.4)
        if room >= 4:
            sheet.text(x + 3, y + LANE / 2 + 4, name if len(name) <= room else f"{name[: room - 1]}…", 10)
    for x, until, color in pending:
        sheet.rect(x, y + 2, max(until - x, 0.3), LANE - 4, color)


def _turns(sheet: Sheet, task: TaskRun, place: _Place, y: float) -> None:
    turns = [(marks[0], marks[-1]) for _, marks in task.turns if len(marks) > 1]
    for number, (begin, end) in enumerate(turns):
        if place(end) - place(begin) >= LEAST:
            sheet.rect(place(begin), y + LANE - 8, place(end) - place(begin), 5, "#5f6b7a" if number % 2 else "#8d97a3", "a turn")


def _task_title(run: RunData, task: TaskRun) -> str:
    waited = task.start - task.ready
    return f"task {task.task} on {task.device}\n{text.time(task.end - task.start)}, began {text.time(waited)} after its inputs were there"


def _title(run: RunData, index: int, begin: float, end: float) -> str:
    kernel = run.plan.kernels[index]
    lines = [f"{kernel.name}: {kernel.op} {kernel.makes}", f"{kernel.where}  {kernel.text}".rstrip()]
    lines += [f"gradient of {kernel.forward}, {kernel.forward_where}"] if kernel.forward else []
    lines += [f"computes {', '.join(member.name for member in kernel.members)}"] if kernel.members else []
    lines += [f"one of {kernel.together} kernels in one call of machine code, whose time is shared out"] if kernel.together else []
    return "\n".join([*lines, f"{text.time(end - begin)}, from {text.time(begin - run.begun)} on"])


def _chain(sheet: Sheet, run: RunData, runs: Sequence[RunData], place: _Place, workers: Sequence[str]) -> None:
    """A line along the kernels of which each could begin once the one before had ended, up to the last."""
    if not run.spans:
        return
    last = max(run.spans, key=lambda index: run.spans[index][1])
    points: list[tuple[float, float]] = []
    for step in why(run, runs, run.plan.kernels[last].name).steps:
        y = TOP + workers.index(step.worker) * (LANE + GAP) + LANE + 2
        points += [(place(step.begin), y), (place(step.end), y)]
    sheet.line(points, INK, 2)


def _memory(sheet: Sheet, run: RunData, place: _Place, y: float) -> None:
    changes = curve(of_run(run))
    peak = max((nbytes for _, nbytes in changes), default=0)
    if not peak:
        return
    high = max(peak, run.plan.peak_bytes)
    points = [(place(run.begun), y + MEMORY)]
    alive = 0
    for time, nbytes in changes:
        x = place(time)
        points += [(x, y + MEMORY - MEMORY * alive / high), (x, y + MEMORY - MEMORY * nbytes / high)]
        alive = nbytes
    sheet.area([*points, (place(run.over), y + MEMORY)], "#d9e3ec", "memory of the run", "#7f93a8")
    level = y + MEMORY - MEMORY * run.plan.peak_bytes / high
    sheet.line([(LEFT, level), (WIDTH - RIGHT, level)], "#a61b00", 0.8, "4 3", "what the plan predicted")
    sheet.text(LEFT - 8, y + 12, "memory", 11, anchor="end")
    sheet.text(LEFT - 8, y + 26, f"peak {format_bytes(peak)}", 10, GREY, "end")
    sheet.text(LEFT - 8, y + 39, f"plan {format_bytes(run.plan.peak_bytes)}", 10, "#a61b00", "end")
