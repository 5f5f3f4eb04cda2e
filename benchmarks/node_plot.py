"""The cost of a node over the number of nodes, as curves: one for each rival, as far as it goes."""

from __future__ import annotations

import statistics
from pathlib import Path

from benchmarks.rivals import RIVALS
from benchmarks.rounds import Row
from benchmarks.workload import Workload

PANELS = {
    "build": "build",
    "plan": "plan",
    "until the first result": "all",
    "a steady run": None,
}


def draw(workloads: list[Workload], rows: list[Row], file: Path) -> bool:
    """Writes the picture; whether matplotlib is there to do so, and two sizes to draw a line between."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    sizes = {workload.name: workload.nodes for workload in workloads if workload.nodes}
    if len(sizes) < 2:
        return False
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    axes = figure.subplots(1, len(PANELS), sharey=True)
    for axis, (title, phase) in zip(axes, PANELS.items(), strict=True):
        for number, rival in enumerate(RIVALS):
            points = [
                (sizes[row.workload], cost) for row in rows if row.rival == rival and row.workload in sizes and (cost := _cost(row, phase))
            ]
            if points:
                nodes, costs = zip(*sorted((n, cost / n * 1e6) for n, cost in points), strict=True)
                axis.plot(nodes, costs, "o-", color=f"C{number}", linewidth=2.5 if rival == "flowgraph" else 1, label=rival)
        axis.set(title=title, xscale="log", yscale="log", xlabel="nodes")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("microseconds a node")
    labelled = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(list(labelled.values()), list(labelled), loc="outside right center")
    figure.savefig(file, dpi=110)
    return True


def _cost(row: Row, phase: str | None) -> float | None:
    """Seconds of a phase, or of a steady run."""
    if phase is None:
        return statistics.median(row.times) if row.times else None
    return row.seconds.get(phase)
