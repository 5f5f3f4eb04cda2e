"""Trees over 64 matrices of 512x512, pairs upon pairs: their sum, bound by memory, and their product, bound by arithmetic."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.libraries import load_pytensor, load_tensorflow, load_torch
from benchmarks.workload import Array, Behind, Prepared, Setup, Workload

COUNT = 64
SIZE = 512

Join = Callable[[Any, Any], Any]


def problem() -> list[Array]:
    """64 matrices (512, 512) float32, as large as leaves the size of a product as it is."""
    return list(np.random.default_rng(0).standard_normal((COUNT, SIZE, SIZE), "f4") * np.float32(SIZE**-0.5))


def tree(join: Join, values: Sequence[Any]) -> Any:
    """All values as one, over any library's arrays or graph nodes."""
    while len(values) > 1:
        values = [join(a, b) for a, b in zip(values[0::2], values[1::2], strict=True)]
    return values[0]


SUM = Workload(
    name="tree-sum",
    title="tree of 63 sums",
    what="The sum of 64 matrices of 512x512 float32 as a tree of sums of two; all are fed.",
    problem=problem,
    tolerance=1e-5,
)
PRODUCT = Workload(
    name="tree-product",
    title="tree of 63 products",
    what="The product of 64 matrices of 512x512 float32 as a tree of products of two; all are fed.",
    problem=problem,
    tolerance=1e-4,
    behind=Behind(
        time="All of it are products, and all rivals make these at nearly the same speed: with AVX2, of 512x512, flowgraph and NumPy's "
        "BLAS 65 to 82 Gflop/s on a thread where a loop of multiply-adds alone has 66 to 87.",
        tried=(
            "four products a round in the tiles (0.93, kept)",
            "eight (0.97 to 1.04)",
            "blocks of 192 or 384 summands (1.00 to 1.18), of 256 or 384 columns (0.99 to 1.06)",
        ),
    ),
)
WORKLOADS = [SUM, PRODUCT]


def in_numpy(join: Join, problem: list[Array], setup: Setup) -> Prepared:
    function = np.add if join is operator.add else np.matmul
    kept = {(1 << level, k): np.empty((SIZE, SIZE), "f4") for level in range(6) for k in range(1 << level)}

    def step() -> Array:
        values = problem
        while len(values) > 1:
            half = len(values) // 2
            values = [function(values[2 * k], values[2 * k + 1], out=kept[half, k]) for k in range(half)]
        return values[0]

    return Prepared(step, lambda: [step()], "into kept arrays")


def in_torch(join: Join, problem: list[Array], setup: Setup) -> Prepared:
    torch = load_torch(setup)
    inputs = [torch.from_numpy(x) for x in problem]

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step() -> Any:
        return tree(join, inputs)

    return Prepared(step, lambda: [step().numpy()], "eager")


def in_jax(join: Join, problem: list[Array], setup: Setup) -> Prepared:
    jax = import_module("jax")
    compiled, inputs = jax.jit(partial(tree, join)), [jax.numpy.array(x) for x in problem]

    def step() -> Any:
        return jax.block_until_ready(compiled(inputs))

    return Prepared(step, lambda: [np.asarray(step())], "jit")


def in_tensorflow(join: Join, problem: list[Array], setup: Setup) -> Prepared:
    tf, session = load_tensorflow(setup)
    inputs = [tf.placeholder("float32", (SIZE, SIZE)) for _ in problem]
    call = session.make_callable(tree(join, inputs), feed_list=inputs)
    return Prepared(lambda: call(*problem), lambda: [call(*problem)], "v1 graph, make_callable")


def in_pytensor(join: Join, problem: list[Array], setup: Setup) -> Prepared:
    pytensor, pt = load_pytensor()
    inputs = [pt.fmatrix() for _ in problem]
    call = pytensor.function(inputs, tree(join, inputs), mode="NUMBA", trust_input=True)
    return Prepared(lambda: call(*problem), lambda: [call(*problem)], "Numba linker, trusted input")


def in_dask(join: Join, problem: list[Array], setup: Setup) -> Prepared:
    threaded = import_module("dask.threaded")
    graph: dict[str, Any] = {f"x{k}": x for k, x in enumerate(problem)}

    def node(a: str, b: str) -> str:
        name = f"n{len(graph)}"
        graph[name] = (join, a, b)
        return name

    last = tree(node, list(graph))

    def step() -> Any:
        return threaded.get(graph, last, num_workers=setup.threads)

    return Prepared(step, lambda: [step()], "a task per node")


def in_flowgraph(join: Join, problem: list[Array], setup: Setup) -> Prepared:
    import flowgraph as fg

    with fg.Graph() as graph:
        inputs = [fg.placeholder(f"x{k}", (SIZE, SIZE), "float32") for k in range(COUNT)]
        total = tree(join, inputs)
    session = fg.Session(graph, threads=setup.threads)
    call = session.function(inputs, total)
    return Prepared(lambda: call(*problem), lambda: [call(*problem)])


for _name, _prepare in {
    "numpy": in_numpy,
    "torch": in_torch,
    "jax": in_jax,
    "tensorflow": in_tensorflow,
    "pytensor": in_pytensor,
    "dask": in_dask,
    "flowgraph": in_flowgraph,
}.items():
    SUM.on(_name)(partial(_prepare, operator.add))
    PRODUCT.on(_name)(partial(_prepare, operator.matmul))
