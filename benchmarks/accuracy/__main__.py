"""``python -m benchmarks.accuracy``: measure every op and write the table of docs/accuracy.md."""

from __future__ import annotations

import argparse
import sys

from . import compiled, table


def main(arguments: list[str]) -> int:
    """0 if every error is within its bound, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description="Measure the largest error of every op in units in the last place, and write the table of docs/accuracy.md. "
        "The numbers drawn are the same in every run.",
    )
    parser.add_argument("--count", type=int, default=50_000, help="numbers drawn for each function of one number (%(default)s)")
    parser.add_argument("--print", action="store_true", help="print the table and leave the page as it is")
    asked = parser.parse_args(arguments)
    families = table.measure_all(asked.count, report=lambda line: print(line, file=sys.stderr, flush=True))
    loops = compiled.measure_all(asked.count)
    text = table.markdown(families, loops, asked.count)
    if asked.print:
        print(text)
    else:
        table.write(text)
    found = [(row.op, dtype, ulps) for rows in [*families.values(), loops] for row in rows for dtype, ulps in row.errors.items()]
    beyond = [(op, dtype, ulps) for op, dtype, ulps in found if not ulps <= table.bound_of(op, dtype)]
    for op, dtype, ulps in beyond:
        print(f"beyond its bound: {op} in {dtype}, {ulps:.4g} ulps", file=sys.stderr)
    return int(bool(beyond))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
