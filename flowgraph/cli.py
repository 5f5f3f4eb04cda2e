"""The command line: ``flowgraph run FILE``, ``flowgraph draw FILE``, ``flowgraph replay FILE``, ``flowgraph bisect FILE``,
``flowgraph explain FILE``, ``flowgraph trace FILE``, ``flowgraph predict FILE``, ``flowgraph info``.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from .devices import devices
from .errors import FlowgraphError
from .graph import Graph
from .jit.llvm import cache_folder
from .replay import commands as replaying
from .session import Session
from .traces import commands as tracing
from .viz import commands as drawing
from .viz.dot import program


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status: 0, or 1 after an error, which is printed in one piece."""
    parser = argparse.ArgumentParser(prog="flowgraph", description="A dataflow-graph engine that can be seen through.")
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run a Python file that builds and runs graphs")
    running.add_argument("file", type=Path)
    running.add_argument("rest", nargs=argparse.REMAINDER, help="arguments for the file")
    drawing.add_parser(commands)
    replaying.add_parsers(commands)
    tracing.add_parsers(commands)
    commands.add_parser("info", help="versions, devices, BLAS and its threads, dot")
    options = parser.parse_args(tracing.parted(arguments))
    try:
        if options.command == "run":
            _run(options.file, options.rest, "__main__")
        elif options.command == "draw":
            print(drawing.run(options, _run))
        elif options.command == "replay":
            replaying.replay(options, _run)
        elif options.command == "bisect":
            return replaying.bisect(options, _run)
        elif options.command == "explain":
            replaying.explain(options, _run)
        elif options.command == "trace":
            tracing.trace(options, _run)
        elif options.command == "predict":
            tracing.predict(options, _run)
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


# Kernels of OpenBLAS for vectors of 32 bytes.
_NARROW = ("Haswell", "Zen", "Excavator", "Sandybridge")


def _has_avx512() -> bool:
    """Whether this processor has vectors of 64 bytes, as far as the system says."""
    try:
        return " avx512f" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def info() -> str:
    """Versions, devices, BLAS and its threads, compiled kernels, and the ``dot`` program, a line each."""
    from threadpoolctl import threadpool_info

    rows = [("flowgraph", importlib.metadata.version("flowgraph")), ("python", f"{platform.python_version()} on {platform.machine()}")]
    rows += [(name, importlib.metadata.version(name)) for name in ("numpy", "networkx", "safetensors", "threadpoolctl")]
    for name, extra in (
        ("llvmlite", "jit"),
        ("matplotlib", "plot"),
        ("rich", "cli"),
        ("cupy-cuda13x", "cuda13"),
        ("cupy-cuda12x", "cuda12"),
    ):
        try:
            rows.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            rows.append((name, f'not installed: pip install "flowgraph[{extra}]"'))
    rows += [("devices" if not place else "", str(device)) for place, device in enumerate(devices())]
    rows.append(("", f"{os.cpu_count()} processors"))
    for blas in threadpool_info():
        if blas["user_api"] == "blas":
            kind = f"{blas['internal_api']} {blas['version']}, {blas.get('architecture', '?')} kernels"
            rows.append(("blas", f"{kind}, {blas['num_threads']} threads outside runs"))
            if blas.get("architecture") in _NARROW and _has_avx512():
                rows.append(("", "which this processor could do at twice the speed: start Python with OPENBLAS_CORETYPE=SkylakeX"))
    with Session(Graph()):
        threads = [str(blas["num_threads"]) for blas in threadpool_info() if blas["user_api"] == "blas"]
    rows.append(("", f"{', '.join(threads)} thread in a session"))
    folder = cache_folder()
    files = folder.iterdir() if folder is not None and folder.is_dir() else ()
    kernels = [file for file in files if not file.suffix]  # (ceilings are kept there too, as JSON)
    size = sum(kernel.stat().st_size for kernel in kernels)
    kept = f"{len(kernels)} compiled, {size / 1e6:.1f} MB, in {folder}" if folder is not None else "kept nowhere: FLOWGRAPH_CACHE is empty"
    rows.append(("kernels", kept))
    command = program()
    rows.append(("dot", " ".join(command) if command else 'none: pip install "flowgraph[dot]"'))
    return "\n".join(f"{name:<14} {text}" for name, text in rows)
