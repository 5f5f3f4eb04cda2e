"""Memory: what a run held from when to when, what was there at the peak, and what each of it was kept for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..graph import text
from ..graph.arguments import counted
from ..graph.node import FUNCTIONS
from ..graph.text import format_bytes
from .data import RunData
from .lifetimes import Lifetime, curve, of_run

SHOWN = 12


@dataclass
class MemoryTimeline:
    """What `Trace.memory` gives. Printing it shows the peak; `draw` a picture.

    run       whose it is
    tensors   all that the run held, in the order of their begin
    curve     (time, bytes alive from then on)
    peak      bytes at the most; ``peak_time``: when that was; ``at_peak``: what was alive then, the largest first;
              ``peaks``: bytes at the most on each device
    predicted bytes that the plan expected where one thread runs the tasks in their order
    """

    run: RunData
    tensors: list[Lifetime]
    curve: list[tuple[float, int]]

    @property
    def peak(self) -> int:
        return max((nbytes for _, nbytes in self.curve), default=0)

    @property
    def peak_time(self) -> float:
        return max(self.curve, key=lambda change: change[1], default=(self.run.begun, 0))[0]

    @property
    def peaks(self) -> dict[str, int]:
        """Device -> bytes at the most of what its kernels made: those of several devices need not be at one moment."""
        kernels = self.run.plan.kernels
        devices = sorted({kernels[each.kernel].device for each in self.tensors})
        return {
            device: max(nbytes for _, nbytes in curve(each for each in self.tensors if kernels[each.kernel].device == device))
            for device in devices
        }

    @property
    def predicted(self) -> int:
        return self.run.plan.peak_bytes

    @property
    def at_peak(self) -> list[Lifetime]:
        time = self.peak_time
        return sorted((each for each in self.tensors if each.begin <= time < each.end), key=lambda each: -each.nbytes)

    def running_at_peak(self) -> list[str]:
        """The kernels that ran then."""
        time = self.peak_time
        return [self.run.plan.kernels[index].name for index, (begin, end) in self.run.asked.items() if begin <= time < end]

    def draw(self, file: Any = None, *, format: str | None = None) -> Any:
        """A picture: each large tensor as a band as long as it lived, and beside it those at the peak. The formats are svg, png and pdf."""
        return FUNCTIONS["draw_memory"](self, file, format=format)

    def _repr_svg_(self) -> str:
        return str(self.draw())

    def __str__(self) -> str:
        run = self.run
        when = text.time(self.peak_time - run.begun)
        running = ", ".join(self.running_at_peak()) or "no kernel"
        lines = [
            f"run {run.number}: at most {format_bytes(self.peak)} alive, {when} after its begin, while {running} ran; "
            f"the plan predicted {format_bytes(self.predicted)} on one thread"
        ]
        peaks = self.peaks
        if len(peaks) > 1:
            lines.append(f"by devices, at most {', '.join(f'{format_bytes(nbytes)} on {device}' for device, nbytes in peaks.items())}")
        rows = [
            [format_bytes(each.nbytes), each.makes, text.shortened(each.name, 44), each.where, each.reason] for each in self.at_peak[:SHOWN]
        ]
        lines += [f"  {line}" for line in text.table(rows, (1, 2, 3, 4))]
        rest = self.at_peak[SHOWN:]
        if rest:
            lines.append(f"  {format_bytes(sum(each.nbytes for each in rest))} in {counted(len(rest), 'more tensor')}")
        kept = self.kept_for()
        if kept:
            lines.append("at the peak, by what it was kept for:")
            lines += [f"  {line}" for line in text.table([[format_bytes(nbytes), reason] for reason, nbytes in kept[:SHOWN]], (1,))]
        return "\n".join(lines)

    def kept_for(self) -> list[tuple[str, int]]:
        """(what it was kept for, bytes at the peak), the most first."""
        sums: dict[str, int] = {}
        for each in self.at_peak:
            sums[each.reason] = sums.get(each.reason, 0) + each.nbytes
        return sorted(sums.items(), key=lambda pair: -pair[1])


def timeline(run: RunData) -> MemoryTimeline:
    """That of a run."""
    lived = of_run(run)
    return MemoryTimeline(run, lived, curve(lived))
