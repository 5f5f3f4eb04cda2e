"""Memory curve: the memory that a function takes, over the extra time of the ways to take less."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from ..graph.text import format_bytes
from ..session.curve import MemoryCurve
from .drawing import delivered
from .sheet import FORMATS, Sheet, ticks
from .style import GREY

WIDTH, HEIGHT, LEFT, TOP, RIGHT = 640, 300, 76, 40, 210
BLUE = "#0072b2"


def draw_memory_curve(curve: MemoryCurve, file: Any = None, *, format: str | None = None) -> Any:
    """See `MemoryCurve.draw`."""
    return delivered("curve", sheet_of(curve).bytes, file, format, FORMATS)


def sheet_of(curve: MemoryCurve) -> Sheet:
    """The picture."""
    sheet = Sheet(WIDTH, TOP + HEIGHT + 48)
    usual = curve.first.seconds or 1.0
    every = [*curve.choices, *curve.others]
    extra = max([0.02, *(each.seconds / usual - 1 for each in every)]) * 1.08
    least = min(0.0, *(each.seconds / usual - 1 for each in every))
    high = max(each.peak_bytes for each in every) * 1.08 or 1.0
    bottom, wide = TOP + HEIGHT, WIDTH - LEFT - RIGHT

    def x(seconds: float) -> float:
        return LEFT + (seconds / usual - 1 - least) / (extra - least) * wide

    def y(nbytes: float) -> float:
        return bottom - HEIGHT * nbytes / high

    sheet.text(LEFT, 17, "what less memory costs in time", 13, bold=True)
    for level in ticks(high, 6):
        sheet.line([(LEFT, y(level)), (LEFT + wide, y(level))], "#e6eaee", 0.8)
        sheet.text(LEFT - 8, y(level) + 4, format_bytes(int(level)) if level else "0", 10.5, GREY, "end")
    for tick in ticks(extra, 6):
        sheet.text(x(usual * (1 + tick)), bottom + 16, f"{tick:+.0%}", 10.5, GREY, "middle")
    sheet.text(LEFT + wide / 2, bottom + 34, "time, as the plan expects it", 10.5, GREY, "middle")
    corners = [(x(each.seconds), y(each.peak_bytes)) for each in curve.choices]
    steps = [point for (ax, ay), (bx, _) in pairwise(corners) for point in ((ax, ay), (bx, ay))]
    sheet.line([*steps, corners[-1]], BLUE, 1.6)
    for each in curve.others:
        sheet.rect(x(each.seconds) - 2.5, y(each.peak_bytes) - 2.5, 5, 5, "#b9c2cc", _title(curve, each.how, each.peak_bytes))
    below = -1e9
    for each, (across, up) in zip(curve.choices, corners):
        sheet.rect(across - 3.5, up - 3.5, 7, 7, BLUE, _title(curve, each.how, each.peak_bytes))
        at = max(up - 6, below + 13)
        sheet.text(across + 8, at, f"{format_bytes(each.peak_bytes)}: {each.how}", 10.5)
        below = at
    return sheet


def _title(curve: MemoryCurve, how: str, nbytes: int) -> str:
    return f"{how}: {format_bytes(nbytes)}"
