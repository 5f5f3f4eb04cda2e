"""``python -m benchmarks``: measure the workloads beside their rivals and write the table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks import report
from benchmarks.environment import available, describe, drift
from benchmarks.rivals import RIVALS
from benchmarks.rounds import Options, Row, measure
from benchmarks.workload import Workload
from benchmarks.workloads import WORKLOADS

# Too long for a quick look.
LONG = {"random-1e5", "random-1e6"}


def main(arguments: list[str]) -> int:
    """0 if every rival that is there computed what NumPy computes, within its time; 1 if one failed or was wrong."""
    asked = parse(arguments)
    quick = {"rounds": 15, "turn_seconds": 0.05, "limit_seconds": 30.0, "rival_seconds": 2.5} if asked.quick else {}
    given = {name: getattr(asked, name) for name in ("rounds", "limit_seconds") if getattr(asked, name) is not None}
    options = Options(threads=asked.threads, verbose=asked.verbose, **(quick | given))
    environment = describe(options.threads, arguments)
    names = asked.workload or [name for name in WORKLOADS if not (asked.quick and name in LONG)]
    rows: list[Row] = []
    loops: list[float] = []
    for name in names:
        workload = WORKLOADS[name]
        print(f"{workload.title} ...", file=sys.stderr, flush=True)
        not_tried = too_slow(workload, rows, options.limit_seconds)
        rows += measure(workload, asked.rival or list(RIVALS), options, not_tried, loops)
        print(report.details(workload, rows), file=sys.stderr, flush=True)
    environment["host"] = drift(loops)
    if asked.output or not (asked.workload or asked.rival or asked.quick):
        report.write(rows, environment, asked.output or Path(__file__).parent)
    else:
        print(report.markdown(rows, environment))
    return int(any(row.state in ("failed", "wrong") for row in rows))


def too_slow(workload: Workload, rows: list[Row], limit: float) -> dict[str, str]:
    """Rival -> why it need not be tried on ``workload``: what it took for the smaller graph that comes before."""
    found = {}
    for row in rows:
        if row.workload == workload.after:
            expected = row.seconds.get("all", 0.0) * (workload.nodes or 0) / (WORKLOADS[row.workload].nodes or 1)
            if row.state in ("stopped", "failed"):
                found[row.rival] = "not tried: no result on a smaller graph"
            elif expected > limit:
                found[row.rival] = f"not tried: by its time for a smaller graph, it would take {expected:.0f} s until the first result"
    return found


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure flowgraph beside its rivals, in interleaved rounds. A full run writes "
        "benchmarks/RESULTS.md and results.json; a run with --workload, --rival or --quick only prints, unless "
        "--output is given. A rival that is not installed is left out.",
    )
    parser.add_argument("--workload", action="append", choices=list(WORKLOADS), help="only this one (may be repeated)")
    parser.add_argument("--rival", action="append", choices=list(RIVALS), help="only this one (may be repeated)")
    parser.add_argument("--rounds", type=int, help="turns of each rival (25)")
    parser.add_argument("--limit-seconds", type=float, help="a rival that takes longer for one answer is stopped (60)")
    parser.add_argument("--threads", type=int, default=available(), help="threads of each rival (all CPUs: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="15 short rounds, no graph above 1e4 nodes")
    parser.add_argument("--output", type=Path, help="folder to write the table to")
    parser.add_argument("--verbose", action="store_true", help="show what the rivals print")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
