"""Memory picture: each large tensor of a run as a band that lasts as long as it lived, and those at the peak by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..graph import text
from ..graph.text import format_bytes
from ..traces.lifetimes import Lifetime
from ..traces.memory import MemoryTimeline
from .drawing import delivered
from .gantt import BARS
from .sheet import FORMATS, Sheet, scaled, ticks
from .style import GREY

WIDTH, LEFT, RIGHT, TOP, HEIGHT = 860, 66, 370, 40, 330
BANDS = 60  # tensors with a band of their own; the others share one
LISTED = 13
STEPS = 1200  # moments that are told apart where there are more tensors
SHADES = {
    "forward": ("#7db8e0", "#9ccbea", "#5fa5d4"),
    "gradient": ("#efa974", "#f4c094", "#e6935a"),
    "update": ("#7fd0b5", "#a0dec9", "#62bf9f"),
    "copy": ("#b99ad6", "#cbb3e1", "#a583c8"),
}
REST = "#d3dae1"


def draw_memory(memory: MemoryTimeline, file: Any = None, *, format: str | None = None) -> Any:
    """See `MemoryTimeline.draw`."""
    return delivered("memory", sheet_of(memory).bytes, file, format, FORMATS)


def sheet_of(memory: MemoryTimeline) -> Sheet:
    """The picture."""
    sheet = Sheet(WIDTH, TOP + HEIGHT + 40)
    run, high = memory.run, max(memory.peak, memory.predicted, 1) * 1.04
    held = run.over - run.begun
    across, bottom = (WIDTH - LEFT - RIGHT) / (held or 1e-9), TOP + HEIGHT

    def x(time: float) -> float:
        return LEFT + (min(max(time, run.begun), run.over) - run.begun) * across

    def y(nbytes: float) -> float:
        return bottom - HEIGHT * nbytes / high

    sheet.text(LEFT, 17, f"memory of run {run.number}: at most {format_bytes(memory.peak)} alive", 13, bold=True)
    for level in ticks(high, 6):
        sheet.line([(LEFT, y(level)), (WIDTH - RIGHT, y(level))], "#e6eaee", 0.7)
        sheet.text(LEFT - 8, y(level) + 4, format_bytes(int(level)) if level else "0", 10.5, GREY, "end")
    factor, unit = scaled(held)
    for tick in ticks(held, 7):
        if x(run.begun + tick) < WIDTH - RIGHT - 24:
            sheet.text(x(run.begun + tick), bottom + 16, f"{tick * factor:g}", 10.5, GREY, "middle")
    sheet.text(WIDTH - RIGHT, bottom + 16, unit, 10.5, GREY, "end")
    for number, (each, points) in enumerate(_bands(memory)):
        fill = REST if each is None else SHADES[run.plan.kinds[each.kernel]][number % 3]
        title = (
            "all smaller ones together"
            if each is None
            else f"{each.name} {each.makes}, {format_bytes(each.nbytes)}\n{each.where}\n{each.reason}"
        )
        sheet.area([(x(time), y(level)) for time, level in points], fill, title, "#ffffff")
    sheet.line([(LEFT, y(memory.predicted)), (WIDTH - RIGHT, y(memory.predicted))], "#a61b00", 1, "5 3")
    sheet.text(WIDTH - RIGHT - 4, y(memory.predicted) - 4, f"the plan: {format_bytes(memory.predicted)}", 10.5, "#a61b00", "end")
    top = x(memory.peak_time)
    sheet.line([(top, TOP - 4), (top, bottom)], "#222a33", 1)
    _listed(sheet, memory)
    return sheet


def _listed(sheet: Sheet, memory: MemoryTimeline) -> None:
    left = WIDTH - RIGHT + 24
    when = text.time(memory.peak_time - memory.run.begun)
    sheet.text(left, 17, f"at the peak, {when} after the begin:", 12, bold=True)
    at_peak = memory.at_peak
    y = 40.0
    for each in at_peak[:LISTED]:
        sheet.rect(left, y - 9, 9, 9, BARS[memory.run.plan.kinds[each.kernel]])
        sheet.text(left + 70, y, format_bytes(each.nbytes), 10.5, anchor="end")
        sheet.text(left + 78, y, text.shortened(each.name, 46), 10.5)
        sheet.text(left + 78, y + 12, f"{each.where}: {each.reason}" if len(each.reason) < 32 else each.reason[:50], 10, GREY)
        y += 25
    rest = at_peak[LISTED:]
    if rest:
        sheet.text(left + 78, y, f"and {len(rest)} more, {format_bytes(sum(each.nbytes for each in rest))}", 10.5, GREY)


def _bands(memory: MemoryTimeline) -> list[tuple[Lifetime | None, list[tuple[float, float]]]]:
    """For each band the tensor, None for the small ones together, and its outline: (time, bytes) along the top, back along the bottom."""
    tensors = memory.tensors if len(memory.tensors) < STEPS else _rounded(memory)
    weights = sorted(tensors, key=lambda each: -each.nbytes * (each.end - each.begin + 1e-9))
    large = sorted((each for each in weights[:BANDS] if each.nbytes), key=lambda each: (each.begin, -each.nbytes))
    small = weights[BANDS:]
    times = sorted({moment for each in tensors for moment in (each.begin, each.end)})
    places = {time: place for place, time in enumerate(times)}
    bands: list[tuple[Lifetime | None, list[tuple[float, float]]]] = []
    floor = _levels(small, times)
    if any(floor):
        bands.append((None, _outline(times, [0.0] * len(floor), floor, range(len(times) - 1))))
    for each in large:
        alive = range(places[each.begin], places[each.end])
        ceiling = list(floor)
        for place in alive:
            ceiling[place] += each.nbytes
        if len(alive):
            bands.append((each, _outline(times, floor, ceiling, alive)))
        floor = ceiling
    return bands


def _rounded(memory: MemoryTimeline) -> list[Lifetime]:
    """The tensors with times that a picture can tell apart."""
    run = memory.run
    step = (run.seconds or 1e-9) / STEPS

    def near(time: float) -> float:
        return run.begun + round((time - run.begun) / step) * step

    return [replace(each, begin=near(each.begin), end=near(each.end)) for each in memory.tensors]


def _levels(tensors: Sequence[Lifetime], times: Sequence[float]) -> list[float]:
    """Bytes of all of them in each stretch between two times."""
    changes = dict.fromkeys(times, 0)
    for each in tensors:
        changes[each.begin] += each.nbytes
        changes[each.end] -= each.nbytes
    level, result = 0, []
    for time in times[:-1]:
        level += changes[time]
        result.append(float(level))
    return result


def _outline(times: Sequence[float], floor: Sequence[float], ceiling: Sequence[float], alive: range) -> list[tuple[float, float]]:
    top = [point for place in alive for point in ((times[place], ceiling[place]), (times[place + 1], ceiling[place]))]
    back = [point for place in reversed(alive) for point in ((times[place + 1], floor[place]), (times[place], floor[place]))]
    return top + back
