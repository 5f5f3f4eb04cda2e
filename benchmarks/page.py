"""What the commands that write a page of their own have in common: what they are told, and where the page goes."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.environment import available
from benchmarks.workloads import WORKLOADS


def parser(name: str, description: str, threads: str, rounds: int, turn_seconds: float) -> argparse.ArgumentParser:
    """That of ``python -m benchmarks.name``, which writes the page NAME.md of all workloads; ``threads`` says what it does with these."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    made.add_argument("--workload", action="append", choices=list(WORKLOADS), help="only this one (may be repeated)")
    made.add_argument("--threads", type=int, default=available(), help=f"{threads} (all CPUs: %(default)s)")
    made.add_argument("--rounds", type=int, default=rounds, help="turns of each number of threads (%(default)s)")
    made.add_argument("--turn-seconds", type=float, default=turn_seconds, help="how long a turn measures (%(default)s)")
    made.add_argument("--output", type=Path, help=f"where to write the page (benchmarks/{name.upper()}.md for all workloads)")
    return made


def publish(text: str, name: str, asked: argparse.Namespace) -> None:
    """Writes a page where it is to go, and prints one of some workloads only."""
    output = asked.output or (None if asked.workload else Path(__file__).parent / f"{name.upper()}.md")
    if output is None:
        print(text)
    else:
        output.write_text(text)
