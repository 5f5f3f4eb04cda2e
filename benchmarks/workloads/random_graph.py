"""Random graphs of 1e3 to 1e6 tiny nodes: what a node costs to build, to plan, to run, and in bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.libraries import load_pytensor, load_tensorflow, load_torch, node_by_node
from benchmarks.workload import Array, Implementation, Prepared, Setup, Workload

INPUTS = 8
OPERATIONS = ("add", "multiply", "maximum", "minimum")
# Sums and products of what is larger than this become maxima and minima instead, so that no value overflows.
LARGEST = 4.0


@dataclass(frozen=True)
class Problem:
    """A graph as data.

    inputs     8 of (16,) float32 within [-1, 1]
    program    (operation, i, j) per node, where i and j count the inputs first, then the nodes
    """

    inputs: list[Array]
    program: list[tuple[str, int, int]]


def problem(nodes: int) -> Problem:
    """About ``nodes`` nodes: each reads two random earlier ones; then a tree of sums over all unread ones."""
    draw = random.Random(0)
    bound = [1.0] * INPUTS
    program: list[tuple[str, int, int]] = []
    is_read = bytearray(nodes + INPUTS)
    # A third of the nodes finds no reader, so that many sums follow.
    for _ in range(nodes * 3 // 4):
        i, j = int(draw.random() * len(bound)), int(draw.random() * len(bound))
        operation = OPERATIONS[draw.getrandbits(2)]
        largest = {"add": bound[i] + bound[j], "multiply": bound[i] * bound[j]}.get(operation, max(bound[i], bound[j]))
        if largest > LARGEST:
            operation, largest = ("maximum" if operation == "add" else "minimum"), max(bound[i], bound[j])
        program.append((operation, i, j))
        bound.append(largest)
        is_read[i] = is_read[j] = True
    unread = [i for i in range(INPUTS, INPUTS + len(program)) if not is_read[i]]
    while len(unread) > 1:
        pairs = list(zip(unread[0::2], unread[1::2], strict=False))
        first = INPUTS + len(program)
        program += [("add", i, j) for i, j in pairs]
        unread = unread[2 * len(pairs) :] + list(range(first, first + len(pairs)))
    return Problem(list(np.random.default_rng(0).uniform(-1, 1, (INPUTS, 16)).astype("f4")), program)


def evaluate(problem: Problem, functions: dict[str, Callable[[Any, Any], Any]], inputs: list[Any]) -> Any:
    """The last node's value, over any library's arrays or graph nodes."""
    values = list(inputs)
    for operation, i, j in problem.program:
        values.append(functions[operation](values[i], values[j]))
    return values[-1]


def in_numpy(problem: Problem, setup: Setup) -> Prepared:
    program = [(getattr(np, operation), i, j) for operation, i, j in problem.program]

    def step() -> Any:
        values = list(problem.inputs)
        for function, i, j in program:
            values.append(function(values[i], values[j]))
        return values[-1]

    return Prepared(step, lambda: [step()], "a loop over (function, i, j) that keeps every value")


def in_torch(problem: Problem, setup: Setup) -> Prepared:
    torch = load_torch(setup)
    inputs = [torch.tensor(v) for v in problem.inputs]
    functions = {name: getattr(torch, name) for name in OPERATIONS}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step() -> Any:
        return evaluate(problem, functions, inputs)

    return Prepared(step, lambda: [step().numpy()], "eager")


def in_jax(problem: Problem, setup: Setup) -> Prepared:
    jax = import_module("jax")
    functions = {name: getattr(jax.numpy, name) for name in OPERATIONS}
    with setup.phase("build"):
        lowered = jax.jit(lambda *inputs: evaluate(problem, functions, list(inputs))).lower(*problem.inputs)
    with setup.phase("plan"):
        compiled = lowered.compile()

    def step() -> Any:
        return jax.block_until_ready(compiled(*problem.inputs))

    return Prepared(step, lambda: [np.asarray(step())], "jit, fused")


def in_tensorflow(problem: Problem, setup: Setup) -> Prepared:
    tf, session = load_tensorflow(setup)
    functions = {name: getattr(tf.math, name) for name in OPERATIONS}
    with setup.phase("build"):
        inputs = [tf.placeholder("float32", (16,)) for _ in problem.inputs]
        y = evaluate(problem, functions, inputs)
    # The session plans when it runs first.
    call = session.make_callable(y, feed_list=inputs)
    return Prepared(lambda: call(*problem.inputs), lambda: [call(*problem.inputs)], "v1 graph, make_callable")


def in_pytensor(problem: Problem, setup: Setup) -> Prepared:
    pytensor, pt = load_pytensor()
    functions = {"add": pt.add, "multiply": pt.mul, "maximum": pt.maximum, "minimum": pt.minimum}
    with setup.phase("build"):
        inputs = [pt.vector(dtype="float32", shape=(16,)) for _ in problem.inputs]
        y = evaluate(problem, functions, inputs)
    with setup.phase("plan"):
        call = pytensor.function(inputs, y, mode=node_by_node(), trust_input=True)
    return Prepared(lambda: call(*problem.inputs), lambda: [call(*problem.inputs)], "C linker without rewrites, trusted input")


def in_dask(problem: Problem, setup: Setup) -> Prepared:
    threaded = import_module("dask.threaded")
    with setup.phase("build"):
        graph: dict[str, Any] = {f"n{k}": value for k, value in enumerate(problem.inputs)}
        for k, (operation, i, j) in enumerate(problem.program, start=INPUTS):
            graph[f"n{k}"] = (getattr(np, operation), f"n{i}", f"n{j}")
    last = f"n{len(graph) - 1}"

    def step() -> Any:
        return threaded.get(graph, last, num_workers=setup.threads)

    return Prepared(step, lambda: [step()], "a task per node")


def in_flowgraph(problem: Problem, setup: Setup) -> Prepared:
    import flowgraph as fg

    functions = {name: getattr(fg, name) for name in OPERATIONS}
    with setup.phase("build"), fg.Graph() as graph:
        inputs = [fg.placeholder(f"x{k}", (16,), "float32") for k in range(INPUTS)]
        y = evaluate(problem, functions, inputs)
    with setup.phase("plan"):
        session = fg.Session(graph, threads=setup.threads)
        call = session.function(inputs, y)
    return Prepared(lambda: call(*problem.inputs), lambda: [call(*problem.inputs)])


IMPLEMENTATIONS: dict[str, Implementation] = {
    "flowgraph": in_flowgraph,
    "numpy": in_numpy,
    "torch": in_torch,
    "jax": in_jax,
    "tensorflow": in_tensorflow,
    "pytensor": in_pytensor,
    "dask": in_dask,
}
SIZES = (10**3, 10**4, 10**5, 10**6)
WORKLOADS = [
    Workload(
        name=f"random-{size:.0e}".replace("e+0", "e"),
        title=f"random graph of {size:,}",
        what=f"About {size:,} operations (add, multiply, maximum, minimum on 16 float32), each on two random earlier "
        "values, from 8 fed inputs; a tree of sums over all that nobody reads makes every node needed.",
        problem=partial(problem, size),
        tolerance=1e-4,
        nodes=size,
        after=f"random-{size // 10:.0e}".replace("e+0", "e") if size > SIZES[0] else None,
        implementations=IMPLEMENTATIONS,
    )
    for size in SIZES
]
