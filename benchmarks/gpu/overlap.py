"""Overlap: a trace of a few steps on a GPU shows copies beside kernels. Writes it as a picture, a page, and a file for Perfetto.

    python -m benchmarks.gpu.overlap --output out

- ``large``: each step is fed two arrays of 64 MB. The products of the first need nothing of the second, so that its copy costs nothing; and
  what the next step is fed is copied while this one computes.
- ``lenet``: a step of LeNet with 128 pictures, kernel by kernel, as traced runs go.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

import flowgraph as fg

from .__main__ import why_no_gpu
from .models import MODELS, normal
from .rivals import Flowgraph


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("out"), help="a folder for what is written (%(default)s)")
    parser.add_argument("--steps", type=int, default=6, help="how many steps are traced (%(default)s)")
    parser.add_argument("--small", action="store_true", help="small arrays, to try it without a card")
    asked = parser.parse_args(arguments)
    if not any(device.name == "cuda:0" and not device.missing for device in fg.devices()):
        print(f"nothing to trace: {why_no_gpu()}", file=sys.stderr)
        return 0
    asked.output.mkdir(parents=True, exist_ok=True)
    told = {}
    for name, trace in (("large", large(asked.small, asked.steps)), ("lenet", lenet(asked.small, asked.steps))):
        streams = trace.summary(ceilings=False).streams["cuda:0"]
        told[name] = {**vars(streams), "overlap": streams.overlap}
        print(f"{name}: {streams}")
        (asked.output / f"{name}.txt").write_text(f"{trace}\n\n{trace.memory()}\n")
        for path in (trace.gantt(asked.output / f"{name}.svg"), trace.gantt(asked.output / f"{name}.html")):
            print(f"  {path}")
        print(f"  {trace.save(asked.output / f'{name}.json')}")
    (asked.output / "overlap.json").write_text(json.dumps(told, indent=1) + "\n")
    return 0


def large(small: bool, steps: int) -> fg.Trace:
    """Steps that are fed two large arrays, of which the host waits for none."""
    size = 256 if small else 4096
    with fg.Graph() as graph:
        a, b = fg.placeholder("a", (size, size)), fg.placeholder("b", (size, size))
        w = fg.variable(normal(np.random.default_rng(0), size, size), name="w")
        y = a
        for layer in range(3 if small else 12):  # long enough for the host to bring what the next step is fed into pinned memory
            y = fg.tanh(fg.matmul(y, w, name=f"product_{layer}"))
        end = fg.mean(fg.matmul(y, b, name="product_of_both"))
    feeds = [normal(np.random.default_rng(seed), size, size) for seed in (1, 2)]
    with fg.Session(graph, device="cuda:0", threads=1) as session:
        return traced(session, session.function([a, b], end, device_arrays=True), feeds, steps)


def lenet(small: bool, steps: int) -> fg.Trace:
    """Steps of LeNet."""
    graph, inputs, fetches, batch = Flowgraph("cuda", tf32=False).graph(MODELS["lenet"], small)
    with fg.Session(graph, device="cuda:0", threads=1) as session:
        return traced(session, session.function(inputs, fetches), batch, steps)


def traced(session: fg.Session, function: Any, feeds: list[Any], steps: int) -> fg.Trace:
    for _ in range(2):
        function(*feeds)
    with session.trace() as trace:
        for _ in range(steps):
            function(*feeds)
    assert len(trace.runs) == steps  # (which waits for them, while the session is open)
    return trace


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
