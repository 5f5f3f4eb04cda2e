"""Places: which virtual device each task of a simulated run goes to, and what links between devices carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ArgumentError
from ..graph.arguments import as_bytes
from .data import PlanData
from .simulate import Costs

# Bytes a second that a copy gets in practice, of 16 lanes where there are lanes.
LINKS = {"memory": 6e9, "pcie3": 12e9, "pcie4": 24e9, "pcie5": 48e9, "nvlink": 300e9}
LATENCY_SECONDS = 20e-6


def bandwidth(link: Any) -> float:
    """Bytes a second of ``link``: a number, text such as "12 GB", or the name of a kind of link."""
    if isinstance(link, str) and link.lower() in LINKS:
        return LINKS[link.lower()]
    if isinstance(link, float) and 0 < link < float("inf"):
        return link
    text = link.removesuffix("/s").strip() if isinstance(link, str) else link
    try:
        return float(as_bytes(text, "predict: link"))
    except ArgumentError:
        raise ArgumentError(
            f"predict: link is bytes a second or one of {', '.join(LINKS)}, got {link!r:.60}", help='link="12 GB/s"'
        ) from None


class Places:
    """Where the tasks of a simulated run go: each, when it is ready, to the device that would have it done first.

    speeds  device -> how much faster it is than the one that was recorded
    """

    def __init__(self, plan: PlanData, costs: Costs, speeds: Mapping[str, float], bytes_per_second: float) -> None:
        self.plan, self.costs, self.speeds, self.bytes_per_second = plan, costs, speeds, bytes_per_second
        self.device: dict[int, str] = {}
        self.read = [_read(plan, task.index) for task in plan.tasks]

    def __call__(self, task: int, loads: Mapping[str, float]) -> tuple[str, float]:
        """The device, and the seconds that the inputs take to get there."""
        options = []
        for device, speed in self.speeds.items():
            moved = [nbytes for before, nbytes in self.read[task].items() if self.device.get(before, device) != device]
            delay = sum(LATENCY_SECONDS + nbytes / self.bytes_per_second for nbytes in moved)
            options.append((loads[device] + delay + self.costs.seconds[task] / speed, delay, device))
        _, delay, device = min(options)
        self.device[task] = device
        return device, delay


def _read(plan: PlanData, task: int) -> dict[int, int]:
    """Bytes that a task reads of what each task before it has made."""
    entry = plan.tasks[task]
    found: dict[int, int] = {}
    seen: set[int] = set()
    for kernel in plan.kernels[entry.first : entry.last]:
        for slot in kernel.reads:
            if slot in seen:
                continue
            seen.add(slot)
            for maker in plan.makers.get(slot, ()):
                owner = plan.task_of[maker]
                if owner != task and owner in entry.after:
                    found[owner] = found.get(owner, 0) + plan.nbytes(maker)
    return found
