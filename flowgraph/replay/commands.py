"""Commands: ``flowgraph replay``, ``bisect`` and ``explain``, on a record or on a Python file, which is run and recorded first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ArgumentError
from ..session.recorder import RECORDED
from ..shell import Runner, add_command
from . import terminal
from .record import save_record
from .replay import Replay

_REPLAYING = """Runs a recorded run again, step by step, at a prompt: forwards and backwards, with breakpoints on nodes, scopes, lines and
conditions; any tensor can be looked at, and changed. The values are those of the recorded run, bit by bit. `help` at the prompt lists
its commands. Without a terminal, commands are read from standard input, a line each.

A Python file is run first, and the last runs of its busiest session are recorded beside it, in a file that ends in .fgr."""

_REPLAYING_EXAMPLES = """examples:
  flowgraph replay run.fgr
  flowgraph replay train.py                                              runs it, then goes through its last run
  flowgraph replay run.fgr -c "break any(isnan(x)); continue; where"     where the first nan comes from
  flowgraph replay run.fgr -c "break train.py:12; continue; show"
  flowgraph replay run.fgr -c "verify 8"                                 the same bits here, on 8 threads?"""

_BISECTING = """Finds the rewrite of the compiler that changes a result of a run by more than it may, if one does: which pass, which
node, which line. Simplifications may not change a bit; compiled loops and sums of slices no more than a bound. The exit status is 1
where one does.

A Python file is run first, as for `flowgraph replay`."""

_BISECTING_EXAMPLES = """examples:
  flowgraph bisect run.fgr
  flowgraph bisect train.py --bound 1e-6
  flowgraph bisect run.fgr --run 0"""


_EXPLAINING = """Tells of each node of a run where it runs, in which compiled loop or why in none, in how many slices, in whose memory, and
what it costs, with the numbers that decided.

A Python file is run first, as for `flowgraph replay`."""

_EXPLAINING_EXAMPLES = """examples:
  flowgraph explain train.py --only layer1
  flowgraph explain run.fgr --only "*/matmul"
  flowgraph explain run.fgr --cost              formulas in the batch size"""


def add_parsers(commands: Any) -> None:
    """Adds the commands to those of the command line."""
    replaying = add_command(
        commands, "replay", "go through a recorded run step by step, forwards and backwards", _REPLAYING, _REPLAYING_EXAMPLES
    )
    bisecting = add_command(commands, "bisect", "find the rewrite of the compiler that changes a result", _BISECTING, _BISECTING_EXAMPLES)
    explaining = add_command(
        commands, "explain", "what became of each node of a run, and why, with the numbers that decided", _EXPLAINING, _EXPLAINING_EXAMPLES
    )
    explaining.add_argument("--only", metavar="NODE", default=None, help="a node, a scope, or a pattern of names")
    explaining.add_argument("--cost", action="store_true", help="flops, bytes and peak memory as formulas in the sizes of the feeds")
    for parser in (replaying, bisecting, explaining):
        parser.add_argument("file", type=Path, help="a record, as session.record wrote it, or a Python file")
        parser.add_argument("--run", type=int, default=-1, metavar="N", help="which of its runs, from 0 (the last)")
        parser.add_argument(
            "--functions", metavar="FILE", type=Path, default=None, help="a Python file with the functions that the record needs by name"
        )
    replaying.add_argument("--device", default=None, help="where to run it: cpu:0 for a run of a GPU (last digits differ)")
    replaying.add_argument("-c", "--commands", default=None, metavar="TEXT", help="commands to answer, parted by `;`, in place of a prompt")
    replaying.add_argument("--nodes", action="store_true", help="no compiled loops: a step for each node (last digits may differ)")
    bisecting.add_argument("--bound", type=float, default=None, help="how far results may be off, of the largest element")


def replay(options: Any, run: Runner) -> None:
    """``flowgraph replay``."""
    terminal.main(_opened(options, run, jit=False if options.nodes else None), options.commands)


def bisect(options: Any, run: Runner) -> int:
    """``flowgraph bisect``: the exit status."""
    with _opened(options, run) as opened:
        found = opened.bisect(options.bound)
    print(found)
    return int(not found.is_fine)


def explain(options: Any, run: Runner) -> None:
    """``flowgraph explain``."""
    with _opened(options, run) as opened:
        print(opened.plan.cost() if options.cost else opened.plan.explain(options.only))


def _opened(options: Any, run: Runner, jit: bool | None = None) -> Replay:
    file = options.file
    functions: dict[str, Any] = {}
    if file.suffix == ".py":
        file, functions = _recorded(file, run)
    if options.functions is not None:
        functions = run(options.functions, [], "__replay__")
    device = getattr(options, "device", None)
    return Replay(file, options.run, functions={name: each for name, each in functions.items() if callable(each)}, jit=jit, device=device)


def _recorded(file: Path, run: Runner) -> tuple[Path, dict[str, Any]]:
    """The record of what a Python file runs, and the names that it leaves behind."""
    sessions: list[Any] = []
    token = RECORDED.set(sessions)
    names: dict[str, Any] = {}
    try:
        names = run(file, [], "__main__")
    finally:
        RECORDED.reset(token)
        path = file.with_suffix(".fgr")
        busiest = max(sessions, key=lambda session: sum(note.plan.seconds for note in session._runs.recorder.runs), default=None)
        if busiest is not None and busiest._runs.recorder.runs:
            save_record(busiest, list(busiest._runs.recorder.runs), path)
            print(f"recorded the last {len(busiest._runs.recorder.runs)} runs in {path}")
    if busiest is None or not busiest._runs.recorder.runs:
        raise ArgumentError(f"replay: {file} ran nothing in a session")
    return path, names
