"""The table: measured rows to Markdown, and the same as JSON. No measuring here."""

from __future__ import annotations

import json
import statistics
from collections.abc import Container, Iterable
from dataclasses import asdict
from pathlib import Path

from benchmarks import node_plot
from benchmarks.rivals import RIVALS
from benchmarks.rounds import Row
from benchmarks.spread import Spread, ratios, spread
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
        "workload take short turns, round after round in changing order. A time is the median over rounds of the median call in a turn. "
        "A ratio is flowgraph's time by a rival's within one round, where both had the same host; the figure is the median over rounds. In "
        "brackets are the quartiles. Every result was compared with NumPy's before it was timed.",
        table(["", ""], environment.items()),
        "## Summary",
        "A ratio below 1: flowgraph is faster. First place is within the noise where 1 lies between the quartiles. An engine is any rival "
        f"but {REFERENCE}, which is written by hand.",
        summary(measured, rows),
    ]
    for workload in measured:
        parts += [f"## {workload.title}", workload.what, details(workload, rows)]
        if why := not_first(workload, rows):
            parts.append(why)
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
        "Every process is pinned to the first n CPUs (n above). What flowgraph gains by more threads is in [PARALLEL.md](PARALLEL.md).",
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
        ours = _row(workload, OURS, rows)
        line = [workload.title, seconds(statistics.median(ours.times)) if ours else "-"]
        best = best_rival(workload, rows)
        for rival in (best, best_rival(workload, rows, {REFERENCE})):
            line += [f"{rival.rival} {seconds(statistics.median(rival.times))}", ratio(versus(ours, rival))] if rival else ["-", "-"]
        lines.append([*line, place(versus(ours, best) if best else None)])
    return table(["workload", OURS, "best rival", "ratio", "best engine", "ratio", f"is {OURS} first?"], lines)


def _row(workload: Workload, rival: str, rows: list[Row]) -> Row | None:
    """The rival's row, if it was measured."""
    return next((row for row in rows if row.workload == workload.name and row.rival == rival and row.times), None)


def versus(ours: Row | None, row: Row) -> Spread | None:
    """flowgraph's time by that of ``row``."""
    return ratios(ours.times, row.times) if ours else None


def best_rival(workload: Workload, rows: list[Row], without: Container[str] = ()) -> Row | None:
    """The one to which flowgraph's ratio is largest; without flowgraph, the quickest."""
    ours = _row(workload, OURS, rows)
    rivals = [row for row in rows if row.workload == workload.name and row.times and row.rival != OURS and row.rival not in without]

    def behind(row: Row) -> float:
        found = versus(ours, row)
        return -found.median if found else statistics.median(row.times)

    return min(rivals, key=behind, default=None)


def place(found: Spread | None) -> str:
    """Whether flowgraph is first, given its ratios to the best rival."""
    if found is None:
        return "-"
    return "within the noise" if found.includes_one else "yes" if found.median < 1 else "no"


def not_first(workload: Workload, rows: list[Row]) -> str:
    """By how much flowgraph is not first, and why; nothing where it is first."""
    best = best_rival(workload, rows)
    found = versus(_row(workload, OURS, rows), best) if best else None
    if best is None or found is None or found.median <= 1:
        return ""
    noise = ", which is within the noise" if found.includes_one else ""
    return f"flowgraph takes {ratio(found)} times as long as {best.rival}{noise}. {workload.behind or 'This is not explained yet.'}"


def details(workload: Workload, rows: list[Row]) -> str:
    mine = [row for row in rows if row.workload == workload.name]
    ours = _row(workload, OURS, rows)
    lines = []
    for row in sorted(mine, key=lambda row: statistics.median(row.times or [float("inf")])):
        prepared = seconds(row.seconds.get("all"))
        if row.times:
            times = spread(row.times)
            quartiles = f"{seconds(times.low)} to {seconds(times.high)}"
            compared = "1" if row is ours else ratio(versus(ours, row))
            figures = [seconds(times.median), quartiles, compared, str(len(row.times)), prepared, f"{row.deviation:.0e}"]
        else:
            figures = [row.state, row.reason, "-", "-", prepared, "-"]
        lines.append([row.rival, *figures, row.note])
    return table(["rival", "median", "quartiles", "flowgraph / rival", "rounds", "until first result", "off NumPy by", "how"], lines)


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


def ratio(found: Spread | None) -> str:
    """A median and its quartiles.

    >>> ratio(Spread(0.731, 0.75, 0.8)), ratio(None)
    ('0.75 (0.73 to 0.80)', '-')
    """
    return "-" if found is None else f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f})"
