"""How long drawings take: ``python -m benchmarks.drawing`` draws graphs of 300 to 100,000 nodes, and prints a table.

Two kinds of graphs: the training of a network, whose layers stand in blocks, and sums of random earlier nodes, without any scope. Each
is drawn as an SVG and a PNG as deep as a page allows, as an SVG with all of its nodes, and as a page; times are seconds.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import flowgraph as fg
from benchmarks.environment import processor
from flowgraph.viz import dot

SIZES = (300, 3_000, 10_000, 100_000)
LAYER = 25  # nodes of a layer with its gradient and its update


def training_graph(nodes: int) -> fg.Graph:
    """The training of dense layers, about the square root of their number in a block."""
    layers = max(1, nodes // LAYER)
    size = max(1, math.isqrt(layers))
    with fg.Graph() as graph:
        x = h = fg.placeholder("x", ("batch", 16))
        for first in range(0, layers, size):
            with fg.scope(f"block{first // size}"):
                for i in range(first, min(first + size, layers)):
                    h = fg.nn.relu(fg.nn.Linear(16, 16, name=f"dense{i}")(h))
        with fg.scope("loss"):
            loss = fg.mean(fg.square(h - x))
        fg.optim.SGD(0.1, momentum=0.9).minimize(loss)
    return graph


def sums_graph(nodes: int) -> fg.Graph:
    """Sums of two of the nodes shortly before."""
    random = np.random.default_rng(0)
    with fg.Graph() as graph:
        tensors = [fg.placeholder("x", (4,))]
        while len(tensors) < nodes:
            back = 1 + random.exponential(20, 2).astype(int).clip(0, len(tensors) - 1)
            tensors.append(tensors[-back[0]] + tensors[-back[1]])
    return graph


GRAPHS: dict[str, Callable[[int], fg.Graph]] = {"training": training_graph, "sums": sums_graph}


def seconds_of(graph: fg.Graph, file: Path, depth: int | None) -> float:
    """Of one drawing."""
    start = time.perf_counter()
    fg.draw(graph, file, depth=depth)
    return time.perf_counter() - start


def main(sizes: tuple[int, ...], folder: Path) -> None:
    """Draws all into ``folder`` and prints the table."""
    command = dot.program()
    print(f"{processor()}, {os.cpu_count()} CPUs, Python {platform.python_version()}, {Path(command[0]).name if command else 'no dot'}\n")
    print("| graph | nodes | boxes | SVG | PNG | SVG of all | page | size of the page |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for size in sizes:
        for name, build in GRAPHS.items():
            graph = build(size)
            drawings = {"svg": (f"{name}{size}.svg", None), "png": (f"{name}{size}.png", None), "all": (f"{name}{size}_all.svg", 99)}
            times = [seconds_of(graph, folder / file, depth) for file, depth in (*drawings.values(), (f"{name}{size}.html", None))]
            boxes = len(re.findall(r'class="node"|<g><title>', (folder / f"{name}{size}.svg").read_text()))
            page = (folder / f"{name}{size}.html").stat().st_size / 1e6
            cells = [name, f"{len(graph):,}", str(boxes), *(f"{each:.2f}" for each in times), f"{page:.1f} MB"]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", type=int, nargs="*", help="numbers of nodes (300 3000 10000 100000)")
    parser.add_argument("--out", type=Path, default=None, help="where to leave the drawings (nowhere)")
    options = parser.parse_args()
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        main(tuple(options.sizes) or SIZES, options.out)
    else:
        with tempfile.TemporaryDirectory() as kept:
            main(tuple(options.sizes) or SIZES, Path(kept))
