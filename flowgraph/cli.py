"""The command line: ``flowgraph run FILE``, ``flowgraph draw FILE``, ``flowgraph info``."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import FlowgraphError
from .graph import Graph
from .session import Session
from .viz.dot import program
from .viz.draw import FORMATS, draw


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, or 1 after an error, which is printed in one piece."""
    parser = argparse.ArgumentParser(prog="flowgraph", description="A dataflow-graph engine that can be seen through.")
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run a Python file that builds and runs graphs")
    running.add_argument("file", type=Path)
    running.add_argument("rest", nargs=argparse.REMAINDER, help="arguments for the file")
    drawing = commands.add_parser("draw", help="run a Python file and draw the largest graph among its names")
    drawing.add_argument("file", type=Path)
    drawing.add_argument("-o", "--output", type=Path, default=None, help="default: the file's name with .svg")
    drawing.add_argument("--depth", type=int, default=None, help="fold scopes nested deeper than this")
    commands.add_parser("info", help="versions, devices, BLAS and its threads, dot")
    options = parser.parse_args(arguments)
    try:
        if options.command == "run":
            _run(options.file, options.rest, "__main__")
        elif options.command == "draw":
            print(_draw(options.file, options.output, options.depth))
        else:
            print(info())
    except (FlowgraphError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _run(file: Path, rest: Sequence[str], name: str) -> dict[str, object]:
    before = sys.argv, sys.path[:]
    sys.argv = [str(file), *rest]
    sys.path.insert(0, str(file.resolve().parent))
    try:
        return runpy.run_path(str(file), run_name=name)
    finally:
        sys.argv, sys.path[:] = before


def _draw(file: Path, output: Path | None, depth: int | None) -> Path:
    names = _run(file, [], "__draw__")
    graphs = [value for value in names.values() if isinstance(value, Graph)]
    if not graphs:
        raise FlowgraphError(
            f"{file} has no graph among its names", help="give it one at the top: with fg.Graph() as graph: ... (not inside a function)"
        )
    output = output or file.with_suffix(".svg")
    if output.suffix[1:] not in FORMATS:
        raise FlowgraphError(f"{output}: the ending must be one of {', '.join(FORMATS)}")
    draw(max(graphs, key=len), output, depth=depth)
    return output


def info() -> str:
    """Versions, devices, BLAS and its threads, and the ``dot`` program, a line each."""
    from threadpoolctl import threadpool_info

    rows = [("flowgraph", importlib.metadata.version("flowgraph")), ("python", f"{platform.python_version()} on {platform.machine()}")]
    rows += [(name, importlib.metadata.version(name)) for name in ("numpy", "networkx", "graphviz", "safetensors", "threadpoolctl")]
    for name, extra in (("matplotlib", "plot"), ("rich", "cli"), ("cupy-cuda13x", "cuda13"), ("cupy-cuda12x", "cuda12")):
        try:
            rows.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            rows.append((name, f'not installed: pip install "flowgraph[{extra}]"'))
    rows.append(("devices", f"cpu:0, {os.cpu_count()} processors"))
    for blas in threadpool_info():
        if blas["user_api"] == "blas":
            kind = f"{blas['internal_api']} {blas['version']}, {blas.get('architecture', '?')} kernels"
            rows.append(("blas", f"{kind}, {blas['num_threads']} threads outside runs"))
    with Session(Graph()):
        threads = [str(blas["num_threads"]) for blas in threadpool_info() if blas["user_api"] == "blas"]
    rows.append(("", f"{', '.join(threads)} thread in a session"))
    command = program()
    rows.append(("dot", " ".join(command) if command else 'none: pip install "flowgraph[dot]"'))
    return "\n".join(f"{name:<14} {text}" for name, text in rows)
