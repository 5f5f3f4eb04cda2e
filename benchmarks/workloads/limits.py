"""What a machine allows more threads to gain: each thread does the same work of its own, which needs nothing of the others.

No rivals here: these are held beside flowgraph's gain in ``benchmarks.parallel``.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.workload import Array, Prepared, Setup, Workload

SIZE = 512
PRODUCTS = 4
NUMBERS = 10**7

PRODUCT = Workload(
    name="limit-product",
    title="4 products of 512x512",
    what="Each thread multiplies float32 matrices of its own with NumPy, four times.",
    problem=lambda: np.random.default_rng(0).standard_normal((SIZE, SIZE), "f4") * np.float32(SIZE**-0.5),
    tolerance=0.0,
)
COPY = Workload(
    name="limit-copy",
    title="copy of 1e7",
    what="Each thread copies 10,000,000 float32 of its own into an array that is there.",
    problem=lambda: np.random.default_rng(0).standard_normal(NUMBERS, "f4"),
    tolerance=0.0,
)
WORKLOADS = [PRODUCT, COPY]


@PRODUCT.on("numpy")
def product(x: Array, setup: Setup) -> Prepared:
    inputs = [x.copy() for _ in range(setup.threads)]
    results = [np.empty_like(x) for _ in inputs]

    def work(thread: int) -> None:
        for _ in range(PRODUCTS):
            np.matmul(inputs[thread], inputs[thread], out=results[thread])

    return side_by_side(work, results, setup)


@COPY.on("numpy")
def copy(x: Array, setup: Setup) -> Prepared:
    inputs = [x.copy() for _ in range(setup.threads)]
    results = [np.empty_like(x) for _ in inputs]
    return side_by_side(lambda thread: np.copyto(results[thread], inputs[thread]), results, setup)


def side_by_side(work: Callable[[int], None], results: list[Array], setup: Setup) -> Prepared:
    """A step is ``work(0)``, ``work(1)`` and so on, each on a thread of its own."""
    pool = ThreadPoolExecutor(setup.threads)

    def step() -> None:
        list(pool.map(work, range(setup.threads)))

    return Prepared(step, lambda: results)
