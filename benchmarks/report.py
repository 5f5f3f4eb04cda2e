"""The table: measured rows to Markdown, and the same as JSON. No measuring here."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from benchmarks import node_plot
from benchmarks.rivals import RIVALS
from benchmarks.rounds import Row
from benchmarks.workload import Workload
from benchmarks.workloads import WORKLOADS

REFERENCE = "numpy"  # written by hand for each workload: a rival, but no engine
OURS = "flowgraph"
PICTURE = "cost_of_a_node.png"


def write(rows: list[Row], environment: dict[str, str], folder: Path) -> None:
    """``RESULTS.md`` and ``results.json`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    is_drawn = node_plot.draw(_scaling(rows), rows, folder / PICTURE)
    (folder / "RESULTS.md").write_text(markdown(rows, environment, is_drawn))
    results = {"environment": environment, "rows": [asdict(row) for row in rows]}
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")


def markdown(rows: list[Row], environment: dict[str, str], is_drawn: bool = False) -> str:
    """The whole page: what it was measured with, the summary, a table per workload, the costs of nodes (``is_drawn``: with a picture)."""
    measured = [workload for workload in WORKLOADS.values() if any(row.workload == workload.name for row in rows)]
    parts = [
        "# Benchmarks",
        "Written by `python -m benchmarks`. Each rival has a process of its own and computes alone; the rivals of a "
        "workload take turns, round after round. A figure is the median over rounds of the median call in a round; "
        "spread is the lowest and the highest round. Every result was compared with NumPy's before it was timed.",
        table(["", ""], environment.items()),
        "## Summary",
        f"A ratio below 1: flowgraph is faster. An engine is any rival but {REFERENCE}, which is written by hand.",
        summary(measured, rows),
    ]
    for workload in measured:
        parts += [f"## {workload.title}", workload.what, details(workload, rows)]
        if workload.behind and not _is_first(workload, rows):
            parts.append(f"Why flowgraph is not first here: {workload.behind}")
    scaling = _scaling(rows)
    if scaling:
        parts += [
            "## Cost of a node",
            "Microseconds and bytes divided by the number of nodes. Bytes are what the process grew by: while "
            "building, and from the start of building to the end of the first run.",
            *([f"![microseconds a node over the number of nodes]({PICTURE})"] if is_drawn else []),
            node_costs(scaling, rows),
        ]
    parts += [
        "## Threads",
        "Every process is pinned to the first n CPUs (n above).",
        table(["rival", "threads"], ((rival.name, rival.threads) for rival in RIVALS.values())),
    ]
    return "\n\n".join(parts) + "\n"


def _scaling(rows: list[Row]) -> list[Workload]:
    """The measured workloads that are one graph in several sizes."""
    names = {row.workload for row in rows}
    return [workload for workload in WORKLOADS.values() if workload.name in names and workload.nodes and workload.name.startswith("random")]


def summary(workloads: list[Workload], rows: list[Row]) -> str:
    lines = []
    for workload in workloads:
        times = {row.rival: statistics.median(row.times) for row in rows if row.workload == workload.name and row.times}
        ours = times.pop(OURS, None)
        line = [workload.title, seconds(ours)]
        for rivals in (times, {name: time for name, time in times.items() if name != REFERENCE}):
            best = min(rivals, key=rivals.__getitem__, default=None)
            line += ["-", "-"] if best is None else [f"{best} {seconds(rivals[best])}", ratio(ours, rivals[best])]
        lines.append(line)
    return table(["workload", OURS, "best rival", "ratio", "best engine", "ratio"], lines)


def details(workload: Workload, rows: list[Row]) -> str:
    mine = [row for row in rows if row.workload == workload.name]
    ours = next((statistics.median(row.times) for row in mine if row.rival == OURS and row.times), None)
    lines = []
    for row in sorted(mine, key=lambda row: statistics.median(row.times or [float("inf")])):
        if row.times:
            median = statistics.median(row.times)
            spread = f"{seconds(min(row.times))} to {seconds(max(row.times))}"
            figures = [
                seconds(median),
                spread,
                ratio(ours, median),
                seconds(row.seconds.get("all")),
                f"{row.deviation:.0e}",
            ]
        else:
            figures = [row.state, row.reason, "-", seconds(row.seconds.get("all")), "-"]
        lines.append([row.rival, *figures, row.note])
    return table(["rival", "median", "spread", "flowgraph / rival", "until first result", "off NumPy by", "how"], lines)


def _is_first(workload: Workload, rows: list[Row]) -> bool:
    """Whether no rival was quicker than flowgraph."""
    times = {row.rival: statistics.median(row.times) for row in rows if row.workload == workload.name and row.times}
    return OURS in times and times[OURS] == min(times.values())


def node_costs(workloads: list[Workload], rows: list[Row]) -> str:
    lines = []
    for workload in workloads:
        assert workload.nodes is not None
        for row in (row for row in rows if row.workload == workload.name):
            if not row.seconds:
                lines.append([f"{workload.nodes:,}", row.rival, row.state, "-", "-", "-", "-", "-"])
                continue
            steady = statistics.median(row.times) if row.times else None
            times = [row.seconds.get(phase) for phase in ("build", "plan", "first")]
            costs = ["-" if time is None else f"{time / workload.nodes * 1e6:.3g}" for time in [*times, steady]]
            kept = [row.bytes.get(phase) for phase in ("build", "all")]
            sizes = ["-" if size is None else f"{size / workload.nodes:,.0f}" for size in kept]
            lines.append([f"{workload.nodes:,}", row.rival, *costs, *sizes])
    header = ["nodes", "rival", "build us", "plan us", "first run us", "steady run us", "bytes built", "bytes in all"]
    return table(header, lines)


def table(header: list[str], lines: Iterable[Iterable[str]]) -> str:
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)


def seconds(value: float | None) -> str:
    """A time with three digits and its unit.

    >>> seconds(0.0123456), seconds(1.5e-7), seconds(None)
    ('12.3 ms', '0.15 us', '-')
    """
    if value is None:
        return "-"
    unit, scale = ("s", 1.0) if value >= 1 else ("ms", 1e3) if value >= 1e-3 else ("us", 1e6)
    return f"{float(f'{value * scale:.3g}'):g} {unit}"


def ratio(ours: float | None, theirs: float) -> str:
    return "-" if ours is None else f"{ours / theirs:.2f}"
