"""A chain of 10,000 tiny operations, each waiting for the one before: the cost of a node, with and without fusion."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.libraries import load_pytensor, load_tensorflow, load_torch, node_by_node
from benchmarks.workload import Array, Prepared, Setup, Workload

NODES = 10_000
OPERATIONS = ("add", "multiply", "maximum")


@dataclass(frozen=True)
class Problem:
    """inputs: x and the second operands a, b, c of the three operations, each (16,) float32; all are fed."""

    inputs: list[Array]


def problem() -> Problem:
    random = np.random.default_rng(0)
    x, a, c = random.uniform(-1, 1, (3, 16)).astype("f4")
    # Only the sign changes: a factor that shrinks would let the chain forget x, and one that grows would overflow.
    b = random.choice(np.array([-1, 1], "f4"), 16)
    return Problem([x, a, b, c])


UNFUSED = Workload(
    name="chain",
    title="chain of 10,000, unfused",
    what="x = x + a, x = x * b, x = maximum(x, c) and so on: 10,000 operations on 16 float32, one after the other, all "
    "four inputs fed; each operation runs on its own (JAX cannot be asked for that).",
    problem=problem,
    tolerance=1e-4,
    nodes=NODES,
)
FUSED = Workload(
    name="chain-fused",
    title="chain of 10,000, fused",
    what="The same chain, and the engine may fuse it.",
    problem=problem,
    tolerance=1e-4,
    nodes=NODES,
)
WORKLOADS = [UNFUSED, FUSED]


def chain(operations: list[Any], inputs: Any) -> Any:
    """The chain over any library's arrays or graph nodes."""
    x, *operands = inputs
    for k in range(NODES):
        x = operations[k % 3](x, operands[k % 3])
    return x


@UNFUSED.on("numpy")
@FUSED.on("numpy")
def in_numpy(problem: Problem, setup: Setup) -> Prepared:
    x, a, b, c = problem.inputs
    program = [((np.add, a), (np.multiply, b), (np.maximum, c))[k % 3] for k in range(NODES)]
    y = np.empty_like(x)

    def step() -> Array:
        y[:] = x
        for function, operand in program:
            function(y, operand, out=y)
        return y

    return Prepared(step, lambda: [step()], "in place, a loop over (function, operand)")


@UNFUSED.on("torch")
def in_torch(problem: Problem, setup: Setup) -> Prepared:
    torch = load_torch(setup)
    inputs = [torch.tensor(v) for v in problem.inputs]
    operations = [torch.add, torch.mul, torch.maximum]

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step() -> Any:
        return chain(operations, inputs)

    return Prepared(step, lambda: [step().numpy()], "eager")


@FUSED.on("jax")
def in_jax(problem: Problem, setup: Setup) -> Prepared:
    jax = import_module("jax")
    operations = [getattr(jax.numpy, name) for name in OPERATIONS]
    with setup.phase("build"):
        lowered = jax.jit(lambda *inputs: chain(operations, inputs)).lower(*problem.inputs)
    with setup.phase("plan"):
        compiled = lowered.compile()

    def step() -> Any:
        return jax.block_until_ready(compiled(*problem.inputs))

    return Prepared(step, lambda: [np.asarray(step())], "jit")


@UNFUSED.on("tensorflow")
def in_tensorflow(problem: Problem, setup: Setup) -> Prepared:
    tf, session = load_tensorflow(setup)
    operations = [getattr(tf.math, name) for name in OPERATIONS]
    with setup.phase("build"):
        inputs = [tf.placeholder("float32", (16,)) for _ in problem.inputs]
        y = chain(operations, inputs)
    # The session plans when it runs first.
    call = session.make_callable(y, feed_list=inputs)
    return Prepared(lambda: call(*problem.inputs), lambda: [call(*problem.inputs)], "v1 graph, make_callable")


@UNFUSED.on("pytensor")
def in_pytensor(problem: Problem, setup: Setup) -> Prepared:
    pytensor, pt = load_pytensor()
    with setup.phase("build"):
        inputs = [pt.vector(dtype="float32", shape=(16,)) for _ in problem.inputs]
        y = chain([pt.add, pt.mul, pt.maximum], inputs)
    with setup.phase("plan"):
        call = pytensor.function(inputs, y, mode=node_by_node(), trust_input=True)
    return Prepared(lambda: call(*problem.inputs), lambda: [call(*problem.inputs)], "C linker without rewrites, trusted input")


@UNFUSED.on("dask")
def in_dask(problem: Problem, setup: Setup) -> Prepared:
    threaded = import_module("dask.threaded")
    with setup.phase("build"):
        graph: dict[str, Any] = dict(zip(["n0", "a", "b", "c"], problem.inputs, strict=True))
        operations = [getattr(np, name) for name in OPERATIONS]
        for k in range(NODES):
            graph[f"n{k + 1}"] = (operations[k % 3], f"n{k}", "abc"[k % 3])

    def step() -> Any:
        return threaded.get(graph, f"n{NODES}", num_workers=setup.threads)

    return Prepared(step, lambda: [step()], "a task per node")


@UNFUSED.on("flowgraph")
def in_flowgraph(problem: Problem, setup: Setup) -> Prepared:
    return by_flowgraph(problem, setup, passes=("algebra", "fold", "common"))


@FUSED.on("flowgraph")
def in_flowgraph_fused(problem: Problem, setup: Setup) -> Prepared:
    return by_flowgraph(problem, setup)


def by_flowgraph(problem: Problem, setup: Setup, **options: Any) -> Prepared:
    import flowgraph as fg

    with setup.phase("build"), fg.Graph() as graph:
        inputs = [fg.placeholder(name, (16,), "float32") for name in "xabc"]
        y = chain([getattr(fg, name) for name in OPERATIONS], inputs)
    with setup.phase("plan"):
        session = fg.Session(graph, threads=setup.threads, **options)
        call = session.function(inputs, y)
    return Prepared(lambda: call(*problem.inputs), lambda: [call(*problem.inputs)])
