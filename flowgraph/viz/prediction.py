"""Prediction picture: the speed-up on other numbers of threads between its two ceilings, and what would run when on each."""

from __future__ import annotations

import math
from typing import Any

from ..graph import text
from ..traces.data import PlanData, RunData
from ..traces.predict import Forecast, Prediction
from ..traces.simulate import Bar
from .drawing import delivered
from .gantt import BARS
from .sheet import FORMATS, INK, Sheet, scaled, ticks
from .style import GREY

WIDTH, TOP, RIGHT = 860, 44, 14
PLOT, PLOT_LEFT, HEIGHT = 270, 44, 250
CHART_LEFT = 370
LANE, LEAST_LANE, CHART = 13.0, 4.0, 330.0
BLUE, GREEN, RED = "#0072b2", "#009e73", "#a61b00"


def draw_prediction(prediction: Prediction, file: Any = None, *, format: str | None = None) -> Any:
    """See `Prediction.draw`."""
    return delivered("prediction", sheet_of(prediction).bytes, file, format, FORMATS)


def sheet_of(prediction: Prediction) -> Sheet:
    """The picture."""
    forecasts = prediction.forecasts
    lanes = [sum(each.threads.values()) for each in forecasts]
    lane = max(LEAST_LANE, min(LANE, CHART / max(1, sum(lanes))))
    chart = sum(count * lane + 24 for count in lanes)
    sheet = Sheet(WIDTH, TOP + max(HEIGHT + 76, chart + 20))
    what = f", {prediction.what}" if prediction.what else ""
    sheet.text(PLOT_LEFT, 17, f"{prediction.run.where or 'a run'} elsewhere, by the recorded costs{what}", 13, bold=True)
    if all(each.label.isdigit() for each in forecasts) and len(forecasts) > 1:
        _speed(sheet, prediction)
    else:
        _bars(sheet, prediction)
    _charts(sheet, prediction, lane)
    return sheet


def _speed(sheet: Sheet, prediction: Prediction) -> None:
    """Speed-up over threads, both by powers of two."""
    forecasts = sorted(prediction.forecasts, key=lambda each: int(each.label))
    counts = [int(each.label) for each in forecasts]
    alone = sum(each.work_bound * count for each, count in zip(forecasts, counts, strict=True)) / len(forecasts)  # the work
    high = max(2.0, *(alone / min(each.seconds, each.path_bound or each.seconds) for each in forecasts)) * 1.25
    low = min(1.0, *(alone / each.seconds for each in forecasts)) * 0.9
    bottom = TOP + HEIGHT

    def x(count: float) -> float:
        least, most = math.log2(counts[0]), math.log2(counts[-1])
        return PLOT_LEFT + (math.log2(count) - least) / (most - least) * PLOT

    def y(speed: float) -> float:
        return bottom - (math.log2(speed) - math.log2(low)) / (math.log2(high) - math.log2(low)) * HEIGHT

    for level in [2.0**power for power in range(-2, 12)]:
        if low <= level <= high:
            sheet.line([(PLOT_LEFT, y(level)), (PLOT_LEFT + PLOT, y(level))], "#e6eaee", 0.8)
            sheet.text(PLOT_LEFT - 6, y(level) + 4, f"{level:g}x", 10.5, GREY, "end")
    for count in counts:
        sheet.text(x(count), bottom + 15, str(count), 10.5, GREY, "middle")
    sheet.text(PLOT_LEFT + PLOT / 2, bottom + 30, "threads", 10.5, GREY, "middle")
    sheet.text(PLOT_LEFT - 30, TOP - 8, "speed-up over all tasks one by one", 10.5, GREY)
    path = alone / forecasts[0].path_bound if forecasts[0].path_bound else high
    sheet.line([(x(count), y(count)) for count in _until(counts, high)], GREEN, 1.2, "5 3")
    if low < path < high:
        sheet.line([(PLOT_LEFT, y(path)), (PLOT_LEFT + PLOT, y(path))], RED, 1.2, "5 3")
        sheet.text(PLOT_LEFT + PLOT, y(path) - 5, "the longest path", 10.5, RED, "end")
    corner = _until(counts, high)[-1]
    sheet.text(x(corner) - 8, y(corner) + 12, "work / threads", 10.5, GREEN, "end")
    points = [(x(count), y(alone / each.seconds)) for count, each in zip(counts, forecasts, strict=True)]
    sheet.line(points, BLUE, 2)
    for (across, up), each in zip(points, forecasts, strict=True):
        sheet.rect(across - 3, up - 3, 6, 6, BLUE, f"{each.label} threads: {text.time(each.seconds)}")
    recorded = prediction.run.workers
    if counts[0] <= recorded <= counts[-1] and prediction.measured:
        across, up = x(recorded), y(min(high, max(low, alone / prediction.measured)))
        sheet.line([(across - 5, up - 5), (across + 5, up + 5)], INK, 1.6)
        sheet.line([(across - 5, up + 5), (across + 5, up - 5)], INK, 1.6)
        sheet.text(across + 10, up + 14, f"measured: {text.time(prediction.measured)}", 10.5)
    _advice(sheet, forecasts, bottom + 50)


def _until(counts: list[int], high: float) -> list[float]:
    """The numbers of threads up to where the line of the work leaves the plot."""
    inside = [float(count) for count in counts if count <= high]
    return inside if len(inside) == len(counts) else [*inside, high]


def _advice(sheet: Sheet, forecasts: list[Forecast], y: float) -> None:
    told = [(each, *each.gains[0]) for each in forecasts if each.gains and each.gains[0][1] > 0]
    if told:
        each, node, gain = told[-1]
        on = f"{each.label} thread{'s' * (each.label != '1')}"
        sheet.text(PLOT_LEFT - 30, y, "make faster next:", 10.5, GREY)
        sheet.text(PLOT_LEFT - 30, y + 15, text.shortened(node, 52), 11, bold=True)
        sheet.text(PLOT_LEFT - 30, y + 29, f"in half its time, a run on {on} takes {text.time(gain)} less", 10.5, GREY)


def _bars(sheet: Sheet, prediction: Prediction) -> None:
    """What each setting takes, with its ceilings."""
    most = max([prediction.measured, *(each.seconds for each in prediction.forecasts)]) or 1.0
    y = TOP + 4.0
    for label, seconds, fill in [("measured", prediction.measured, "#9aa4af"), *[(e.label, e.seconds, BLUE) for e in prediction.forecasts]]:
        sheet.text(PLOT_LEFT - 30, y + 10, label, 11)
        sheet.rect(PLOT_LEFT - 30, y + 15, 240 * seconds / most, 14, fill)
        sheet.text(PLOT_LEFT - 24 + 240 * seconds / most, y + 26, text.time(seconds), 10.5, GREY)
        y += 44


def _charts(sheet: Sheet, prediction: Prediction, lane: float) -> None:
    """For each setting what runs when."""
    longest = max(each.seconds for each in prediction.forecasts) or 1e-9
    wide = WIDTH - RIGHT - CHART_LEFT
    factor, unit = scaled(longest)
    y = float(TOP)
    for each in prediction.forecasts:
        label = f"{each.label} thread{'s' * (each.label != '1')}" if each.label.isdigit() else each.label
        sheet.text(CHART_LEFT, y - 4, f"{label}: {text.time(each.seconds)}, {text.percent(each.utilisation)} in use", 10.5)
        rows = {row: number for number, row in enumerate((name, place) for name, count in each.threads.items() for place in range(count))}
        sheet.rect(CHART_LEFT, y, wide, len(rows) * lane, "#f4f6f8")
        for bar in each.bars.bars:
            _bar(sheet, prediction, bar, y + rows[bar.device, bar.thread] * lane, lane, wide / longest)
        end = CHART_LEFT + each.seconds * wide / longest
        sheet.line([(end, y), (end, y + len(rows) * lane)], INK, 1)
        y += len(rows) * lane + 24
    for tick in ticks(longest, 8):
        if tick < 0.95 * longest:
            sheet.text(CHART_LEFT + tick * wide / longest, y - 10, f"{tick * factor:g}", 10.5, GREY, "middle")
    sheet.text(WIDTH - RIGHT, y - 10, unit, 10.5, GREY, "end")


def _bar(sheet: Sheet, prediction: Prediction, bar: Bar, y: float, lane: float, per_second: float) -> None:
    kind, name = _main(prediction.plan, prediction.run, bar.task)
    width = (bar.end - bar.start) * per_second
    border = "#ffffff" if width > 2 else ""
    sheet.rect(
        CHART_LEFT + bar.start * per_second, y + 0.5, width, lane - 1, BARS[kind], f"{name}: {text.time(bar.end - bar.start)}", border
    )


def _main(plan: PlanData, run: RunData, task: int) -> tuple[str, str]:
    """The kind and the name of the kernel that takes most of a task."""
    entry = plan.tasks[task]
    if entry.first == entry.last:
        return "forward", f"task {task}"

    def took(index: int) -> float:
        begin, end = run.spans.get(index, (0.0, plan.kernels[index].estimate))
        return end - begin

    index = max(range(entry.first, entry.last), key=took)
    return plan.kinds[index], plan.kernels[index].name
