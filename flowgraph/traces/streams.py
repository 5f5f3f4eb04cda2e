"""Streams: what a GPU did in some runs: how long it computed, how long it copied, and how much of the copies lay beside kernels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..graph import text
from .data import ROWS, RunData

Span = tuple[float, float]


@dataclass
class Streams:
    """The time of one GPU. Printing it tells.

    seconds  from the begin of the first of its kernels and copies to the end of the last, in all runs together
    compute  seconds in which a kernel ran; ``late``: how many of these the host took to ask for it, with the GPU idle or at its first parts
    copies   seconds in which a copy from or to the GPU went on; ``beside``: how many of these a kernel ran as well
    """

    device: str
    seconds: float
    compute: float
    late: float
    copies: float
    beside: float

    @property
    def overlap(self) -> float:
        """What part of the copies' time lay beside kernels that were not late: 1 where copies cost nothing."""
        return self.beside / self.copies if self.copies else 0.0

    def __str__(self) -> str:
        total = self.seconds or 1.0
        late = f" ({text.percent(self.late / total)} while the host still asked for them)" if self.late > 0.01 * total else ""
        lines = f"{self.device}, in {text.time(self.seconds)}: kernels for {text.percent(self.compute / total)} of the time{late}"
        if not self.copies:
            return lines
        return f"{lines}, copies for {text.percent(self.copies / total)}; {text.percent(self.overlap)} of the copies lay beside kernels"


def streams(runs: Sequence[RunData]) -> dict[str, Streams]:
    """What each GPU did in ``runs``, of which one may copy while another computes."""
    found = {}
    for device in sorted({task.device for run in runs for task in run.tasks if task.ran}):
        ran = [(run, index, span) for run in runs for row in ROWS for index, span in run.rows.get(f"{device} {row}", {}).items()]
        kernels = [each for each in ran if each[0].plan.kernels[each[1]].op != "copy"]
        copies = merged(span for run, index, span in ran if run.plan.kernels[index].op == "copy")
        whole = merged(span for _, _, span in kernels)
        sure = merged((begin + run.late(index), end) for run, index, (begin, end) in kernels)
        every = [*whole, *copies]
        seconds = max(end for _, end in every) - min(begin for begin, _ in every) if every else 0.0
        found[device] = Streams(device, seconds, _length(whole), _length(whole) - _length(sure), _length(copies), _common(copies, sure))
    return found


def merged(spans: Iterable[Span]) -> list[Span]:
    """Spans in their order, those that touch as one.

    >>> merged([(2.0, 3.0), (0.0, 1.0), (1.0, 1.5)])
    [(0.0, 1.5), (2.0, 3.0)]
    """
    result: list[Span] = []
    for begin, end in sorted(spans):
        if result and begin <= result[-1][1]:
            result[-1] = result[-1][0], max(result[-1][1], end)
        else:
            result.append((begin, end))
    return result


def _length(spans: Iterable[Span]) -> float:
    return sum(end - begin for begin, end in spans)


def _common(some: Sequence[Span], others: Sequence[Span]) -> float:
    """Seconds that are in both; each list is in order, and no two of its spans touch."""
    total, place = 0.0, 0
    for begin, end in some:
        while place < len(others) and others[place][1] <= begin:
            place += 1
        for other in range(place, len(others)):
            if others[other][0] >= end:
                break
            total += min(end, others[other][1]) - max(begin, others[other][0])
    return total
