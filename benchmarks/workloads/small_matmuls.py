"""2,000 products of small matrices that do not wait for each other: the cost of a node where a node computes little."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.libraries import load_pytensor, load_tensorflow, load_torch, node_by_node
from benchmarks.workload import Array, Prepared, Setup, Workload

COUNT = 2_000
SIZE = 32


def problem() -> tuple[Array, Array]:
    """x (32, 32) and the weights (2000, 32, 32), float32."""
    random = np.random.default_rng(0)
    return random.standard_normal((SIZE, SIZE), "f4"), random.standard_normal((COUNT, SIZE, SIZE), "f4")


SMALL_MATMULS = Workload(
    name="small-matmuls",
    title="2,000 small products",
    what="x @ w for a fed x and 2,000 weights of 32x32 float32, each product an operation of its own; all results are given.",
    problem=problem,
    tolerance=1e-4,
    nodes=COUNT,
)
WORKLOADS = [SMALL_MATMULS]


@SMALL_MATMULS.on("numpy")
def in_numpy(problem: tuple[Array, Array], setup: Setup) -> Prepared:
    x, weights = problem
    results = list(np.empty_like(weights))
    pairs = list(zip(weights, results, strict=True))

    def step() -> list[Array]:
        for w, y in pairs:
            np.matmul(x, w, out=y)
        return results

    return Prepared(step, step, "a loop of np.matmul into kept arrays")


@SMALL_MATMULS.on("torch")
def in_torch(problem: tuple[Array, Array], setup: Setup) -> Prepared:
    torch = load_torch(setup)
    x, weights = torch.from_numpy(problem[0]), list(torch.from_numpy(problem[1]))

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step() -> list[Any]:
        return [x @ w for w in weights]

    return Prepared(step, lambda: [y.numpy() for y in step()], "eager")


@SMALL_MATMULS.on("jax")
def in_jax(problem: tuple[Array, Array], setup: Setup) -> Prepared:
    jax = import_module("jax")
    x, weights = jax.numpy.array(problem[0]), [jax.numpy.array(w) for w in problem[1]]
    with setup.phase("build"):
        lowered = jax.jit(lambda x, weights: [x @ w for w in weights]).lower(x, weights)
    with setup.phase("plan"):
        compiled = lowered.compile()

    def step() -> Any:
        return jax.block_until_ready(compiled(x, weights))

    return Prepared(step, lambda: [np.asarray(y) for y in step()], "jit")


@SMALL_MATMULS.on("tensorflow")
def in_tensorflow(problem: tuple[Array, Array], setup: Setup) -> Prepared:
    tf, session = load_tensorflow(setup)
    with setup.phase("build"):
        x = tf.placeholder("float32", (SIZE, SIZE))
        results = [x @ tf.get_variable(f"w{k}", initializer=w) for k, w in enumerate(problem[1])]
    session.run(tf.global_variables_initializer())
    call = session.make_callable(results, feed_list=[x])
    return Prepared(lambda: call(problem[0]), lambda: call(problem[0]), "v1 graph, make_callable")


@SMALL_MATMULS.on("pytensor")
def in_pytensor(problem: tuple[Array, Array], setup: Setup) -> Prepared:
    pytensor, pt = load_pytensor()
    with setup.phase("build"):
        x = pt.fmatrix()
        results = [x @ pytensor.shared(w) for w in problem[1]]
    with setup.phase("plan"):
        call = pytensor.function([x], results, mode=node_by_node(), trust_input=True)
    return Prepared(lambda: call(problem[0]), lambda: call(problem[0]), "C linker without rewrites, trusted input")


@SMALL_MATMULS.on("flowgraph")
def in_flowgraph(problem: tuple[Array, Array], setup: Setup) -> Prepared:
    import flowgraph as fg

    with setup.phase("build"), fg.Graph() as graph:
        x = fg.placeholder("x", (SIZE, SIZE), "float32")
        results = [x @ fg.variable(w, name=f"w{k}") for k, w in enumerate(problem[1])]
    with setup.phase("plan"):
        session = fg.Session(graph, threads=setup.threads)
        call = session.function([x], results)
    return Prepared(lambda: call(problem[0]), lambda: call(problem[0]))
