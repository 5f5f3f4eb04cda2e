"""Commands: ``flowgraph trace`` and ``flowgraph predict``, on a Python file or on a trace that was saved."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from ..graph.arguments import counted
from ..runtime.tracing import TRACED
from ..shell import Runner, add_command
from .summary import BY
from .trace import Trace

_TRACING = """Runs a Python file with every session traced, prints what took the time and what waited for what, and writes the trace as
JSON, which Perfetto (ui.perfetto.dev) opens and this command reads again. Of very many runs the last ones are kept. A file that
fails, or is interrupted, leaves the trace of what it has done."""

_TRACING_EXAMPLES = """examples:
  flowgraph trace train.py --epochs 1           writes train.trace.json
  flowgraph trace train.py -o run.html          one page with all runs, to zoom and search
  flowgraph trace run.json --by line            what a saved trace holds, line by line
  flowgraph trace run.json --why layer3/matmul  what this node waited for
  flowgraph trace run.json --memory -o memory.svg"""

_PREDICTING = """Tells how long the runs of a trace would take elsewhere, by the recorded times and the scheduler's own rules, with the
two ceilings (the work shared by the threads, the longest path) and the node to make faster next."""

_PREDICTING_EXAMPLES = """examples:
  flowgraph predict run.json                             on 1, 2, 4, 8 and 16 threads
  flowgraph predict train.py --threads 1,2,4 -o speed.svg
  flowgraph predict run.json --faster conv2d=3 --faster layer1=2
  flowgraph predict run.json --devices cpu:0=1,cuda:0=20 --link pcie4"""


def _trace_options() -> argparse.ArgumentParser:
    """The options of ``trace``, which may stand before the file and behind it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-o", "--output", type=Path, action="append", default=[], help=".json, .html, .svg, .png or .pdf; may be repeated")
    parser.add_argument("--by", choices=BY, default="op", help="what the times are added up by (%(default)s)")
    parser.add_argument("--why", metavar="NODE", action="append", default=[], help="tell what a node waited for; may be repeated")
    parser.add_argument("--memory", action="store_true", help="tell what was in memory at the peak; pictures show it tensor by tensor")
    parser.add_argument("--run", type=int, default=None, metavar="N", help="which run --why, --memory and pictures are of (the usual one)")
    parser.add_argument("--kernels", action="store_true", help="time kernels one by one that otherwise run as one call of machine code")
    parser.add_argument("--keep", type=int, default=1000, metavar="N", help="how many runs to keep, the last ones (%(default)s)")
    return parser


def add_parsers(commands: Any) -> None:
    """Adds both commands to those of the command line."""
    tracing = add_command(
        commands,
        "trace",
        "record what the runs of a Python file do, or look at a record of it",
        _TRACING,
        _TRACING_EXAMPLES,
        parents=[_trace_options()],
    )
    tracing.add_argument("file", type=Path, help="a Python file, or a trace in JSON")
    tracing.add_argument("rest", nargs=argparse.REMAINDER, help="arguments for a Python file; behind -- all are its own")
    predicting = add_command(
        commands,
        "predict",
        "how long runs would take on other threads or devices, or with faster kernels",
        _PREDICTING,
        _PREDICTING_EXAMPLES,
    )
    predicting.add_argument("file", type=Path, help="a trace in JSON, or a Python file, which is run")
    predicting.add_argument("--threads", metavar="N,N", default=None, help="numbers of threads")
    predicting.add_argument(
        "--devices", metavar="NAME=SPEED,...", default=None, help="devices, and how much faster each is than the recorded"
    )
    predicting.add_argument("--link", default="memory", help="between devices: bytes a second, or memory, pcie3, pcie4, pcie5, nvlink")
    predicting.add_argument(
        "--faster", metavar="NAME=FACTOR", action="append", default=[], help="an op, node, scope or line; may be repeated"
    )
    predicting.add_argument("--priority", default=None, help="another rule: path, order, shortest, longest, memory")
    predicting.add_argument("--batch", type=int, default=None, metavar="N", help="another size of the batch")
    predicting.add_argument("-o", "--output", type=Path, default=None, help="a picture: .svg, .png or .pdf")


def parted(arguments: Sequence[str] | None) -> list[str]:
    """The arguments of the command line with a second ``--`` beside that of ``trace``, as argparse takes one away."""
    found = list(sys.argv[1:] if arguments is None else arguments)
    if found[:1] == ["trace"] and "--" in found:
        found.insert(found.index("--"), "--")
    return found


def trace(options: Any, run: Runner) -> None:
    """``flowgraph trace``."""
    place = options.rest.index("--") if "--" in options.rest else len(options.rest)
    _, rest = _trace_options().parse_known_args(options.rest[:place], options)
    rest += options.rest[place:][options.rest[place:].count("--") :]
    known = (".json", ".html", ".svg", ".png", ".pdf")
    for output in options.output:  # before the file is run: that may take a while
        if output.suffix.lower() not in known:
            raise ArgumentError(f"trace: {output} must end in one of {', '.join(known)}", help="for example: -o run.html")
    if options.file.suffix == ".json":
        if rest:
            raise ArgumentError(f"trace: {options.file} is a saved trace, which takes no {' '.join(rest)}")
        _tell(Trace.load(options.file), options, [])
        return
    found = Trace(keep=options.keep, by_kernel=options.kernels)
    try:
        _traced(found, options.file, rest, run)
    except BaseException as error:
        if found.runs:
            _tell(found, options, [options.file.with_suffix(".trace.json")])
        if isinstance(error, KeyboardInterrupt):  # what was asked for is there: no traceback
            raise SystemExit(130) from None
        raise
    if not found.runs:
        raise ArgumentError(f"trace: {options.file} ran nothing in a session")
    _tell(found, options, [options.file.with_suffix(".trace.json")])


def _traced(found: Trace, file: Path, rest: Sequence[str], run: Runner) -> None:
    token = TRACED.set(found)
    try:
        run(file, rest, "__main__")
    finally:
        TRACED.reset(token)


def _tell(found: Trace, options: Any, usual: Sequence[Path]) -> None:
    if options.why:
        print("\n\n".join(str(found.why(name, options.run)) for name in options.why))
    elif options.memory:
        print(found.memory(options.run))
    else:
        print(found if options.by == "op" else found.summary(options.by, ceilings=False))
    for output in options.output or usual:
        if output.suffix.lower() == ".json":
            print(found.save(output))
        else:
            is_memory = options.memory and output.suffix.lower() != ".html"
            print(found.memory(options.run).draw(output) if is_memory else found.gantt(output, run=options.run))


def predict(options: Any, run: Runner) -> None:
    """``flowgraph predict``."""
    threads = None if options.threads is None else [_number(part, "--threads", int) for part in options.threads.split(",")]
    devices = None if options.devices is None else dict(_pair(part, "--devices", 1.0) for part in options.devices.split(","))
    faster = dict(_pair(part, "--faster", None) for part in options.faster) or None
    if options.file.suffix == ".json":
        found = Trace.load(options.file)
    else:
        found = Trace()
        _traced(found, options.file, [], run)
        print(f"{counted(len(found), 'run')} recorded", file=sys.stderr)
    prediction = found.predict(threads, devices=devices, link=options.link, faster=faster, priority=options.priority, batch=options.batch)
    print(prediction)
    if options.output is not None:
        print(prediction.draw(options.output))


def _pair(text: str, what: str, usual: float | None) -> tuple[str, float]:
    name, is_given, number = text.rpartition("=")
    if not is_given and usual is not None:
        return text, usual
    if not is_given or not name:
        raise ArgumentError(f"{what}: NAME=NUMBER is expected, got {text!r:.60}", help=f"for example: {what} matmul=2")
    return name, _number(number, what, float)


def _number(text: str, what: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ArgumentError(f"{what}: a number is expected, got {text!r:.60}") from None
