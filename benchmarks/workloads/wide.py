"""A wide graph: 64 independent branches of matrix products, which an engine may run side by side."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.libraries import load_pytensor, load_tensorflow, load_torch
from benchmarks.workload import Array, Prepared, Setup, Workload

BRANCHES = 64
DEPTH = 8
SIZE = 256


@dataclass(frozen=True)
class Problem:
    """x (256, 256) float32; weights: 64 of (256, 256)."""

    x: Array
    weights: list[Array]


def problem() -> Problem:
    random = np.random.default_rng(0)
    x = random.standard_normal((SIZE, SIZE), "f4")
    weights = random.standard_normal((BRANCHES, SIZE, SIZE), "f4") * np.float32(SIZE**-0.5)
    return Problem(x, list(weights))


WIDE = Workload(
    name="wide",
    title="wide graph",
    what="64 branches from one fed x, each 8 times h = tanh(h @ w) with its own 256x256 weight; their sum (float32).",
    problem=problem,
    # The weights are just large enough for rounding errors to grow a little from product to product.
    tolerance=1e-3,
)
WORKLOADS = [WIDE]


@WIDE.on("numpy")
def in_numpy(problem: Problem, setup: Setup) -> Prepared:
    def step() -> Array:
        total = np.zeros_like(problem.x)
        for w in problem.weights:
            h = problem.x
            for _ in range(DEPTH):
                h = h @ w
                np.tanh(h, out=h)
            total += h
        return total

    return Prepared(step, lambda: [step()], "one branch after the other, tanh in place")


@WIDE.on("torch")
def in_torch(problem: Problem, setup: Setup) -> Prepared:
    torch = load_torch(setup)
    weights = [torch.tensor(w) for w in problem.weights]

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step() -> Any:
        x = torch.from_numpy(problem.x)
        total = torch.zeros_like(x)
        for w in weights:
            h = x
            for _ in range(DEPTH):
                h = (h @ w).tanh_()
            total += h
        return total

    return Prepared(step, lambda: [step().numpy()], "eager, one branch after the other, tanh in place")


@WIDE.on("jax")
def in_jax(problem: Problem, setup: Setup) -> Prepared:
    jax = import_module("jax")

    def total(x: Any, weights: Any) -> Any:
        ends = []
        for w in weights:
            h = x
            for _ in range(DEPTH):
                h = jax.numpy.tanh(h @ w)
            ends.append(h)
        return sum(ends)

    weights = [jax.numpy.array(w) for w in problem.weights]
    compiled = jax.jit(total)

    def step() -> Any:
        return jax.block_until_ready(compiled(problem.x, weights))

    return Prepared(step, lambda: [np.asarray(step())], "jit")


@WIDE.on("tensorflow")
def in_tensorflow(problem: Problem, setup: Setup) -> Prepared:
    tf, session = load_tensorflow(setup)
    with setup.phase("build"):
        x = tf.placeholder("float32", (SIZE, SIZE))
        ends = []
        for k, initial in enumerate(problem.weights):
            h, w = x, tf.get_variable(f"w{k}", initializer=initial)
            for _ in range(DEPTH):
                h = tf.tanh(h @ w)
            ends.append(h)
        total = tf.add_n(ends)
    session.run(tf.global_variables_initializer())
    call = session.make_callable(total, feed_list=[x])
    return Prepared(lambda: call(problem.x), lambda: [call(problem.x)], "v1 graph, make_callable")


@WIDE.on("pytensor")
def in_pytensor(problem: Problem, setup: Setup) -> Prepared:
    pytensor, pt = load_pytensor()
    with setup.phase("build"):
        x = pt.fmatrix()
        ends = []
        for initial in problem.weights:
            h, w = x, pytensor.shared(initial)
            for _ in range(DEPTH):
                h = pt.tanh(h @ w)
            ends.append(h)
        total = pt.add(*ends)
    with setup.phase("plan"):
        call = pytensor.function([x], total, mode="CVM", trust_input=True)
    return Prepared(lambda: call(problem.x), lambda: [call(problem.x)], "C linker, trusted input")


@WIDE.on("dask")
def in_dask(problem: Problem, setup: Setup) -> Prepared:
    threaded = import_module("dask.threaded")

    def layer(h: Array, w: Array) -> Array:
        h = h @ w
        return np.tanh(h, out=h)

    with setup.phase("build"):
        graph: dict[str, Any] = {"x": problem.x}
        for k, w in enumerate(problem.weights):
            graph[f"w{k}"], graph[f"h{k},0"] = w, "x"
            for depth in range(DEPTH):
                graph[f"h{k},{depth + 1}"] = (layer, f"h{k},{depth}", f"w{k}")
        graph["total"] = (sum, [f"h{k},{DEPTH}" for k in range(BRANCHES)])

    def step() -> Any:
        return threaded.get(graph, "total", num_workers=setup.threads)

    return Prepared(step, lambda: [step()], "product and tanh in one task, tanh in place")


@WIDE.on("flowgraph")
def in_flowgraph(problem: Problem, setup: Setup) -> Prepared:
    import flowgraph as fg

    with setup.phase("build"), fg.Graph() as graph:
        x = fg.placeholder("x", (SIZE, SIZE), "float32")
        total = None
        for k, initial in enumerate(problem.weights):
            h, w = x, fg.variable(initial, name=f"w{k}")
            for _ in range(DEPTH):
                h = fg.tanh(h @ w)
            total = h if total is None else total + h
    with setup.phase("plan"):
        session = fg.Session(graph, threads=setup.threads)
        call = session.function([x], total)
    return Prepared(lambda: call(problem.x), lambda: [call(problem.x)])
