"""The toy call, f = (x + y) z with its three gradients: what a call costs when there is nothing to compute."""

from __future__ import annotations

from importlib import import_module

import numpy as np

from benchmarks.libraries import load_pytensor, load_tensorflow, load_torch
from benchmarks.workload import Array, Behind, Prepared, Setup, Workload

Problem = tuple[np.float32, np.float32, np.float32]

TOY = Workload(
    name="toy",
    title="toy call",
    what="f = (x + y) z and its gradients to x, y and z, float32 scalars in and out.",
    problem=lambda: (np.float32(-2), np.float32(5), np.float32(-4)),
    tolerance=1e-6,
    behind=Behind(
        time="NumPy's line is two operations and no call. flowgraph's call is a function generated for the plan, of which about 0.1 us is "
        "these operations, and the rest asks whether the session is open and each argument a number of the right kind, and keeps NumPy "
        "from warning.",
        tried=("a run of the interpreter (0.9 us)", "np.errstate around the call in place of its context variable (1 us more)"),
    ),
)
WORKLOADS = [TOY]


@TOY.on("numpy")
def in_numpy(problem: Problem, setup: Setup) -> Prepared:
    x, y, z = problem

    def step() -> tuple[np.float32, ...]:
        q = x + y
        return q * z, z, z, q

    return Prepared(step, lambda: arrays(step()), "gradients by hand, NumPy scalars")


@TOY.on("torch")
def in_torch(problem: Problem, setup: Setup) -> Prepared:
    torch = load_torch(setup)
    values = [float(v) for v in problem]

    def step() -> tuple[object, ...]:
        x, y, z = (torch.tensor(v, requires_grad=True) for v in values)
        f = (x + y) * z
        f.backward()
        return f.detach(), x.grad, y.grad, z.grad

    return Prepared(step, lambda: arrays(step()), "eager, a fresh tape a call")


@TOY.on("jax")
def in_jax(problem: Problem, setup: Setup) -> Prepared:
    jax = import_module("jax")
    call = jax.jit(jax.value_and_grad(lambda x, y, z: (x + y) * z, argnums=(0, 1, 2)))

    def step() -> object:
        return jax.block_until_ready(call(*problem))

    def values() -> list[Array]:
        f, gradients = call(*problem)
        return arrays((f, *gradients))

    return Prepared(step, values, "jit")


@TOY.on("tensorflow")
def in_tensorflow(problem: Problem, setup: Setup) -> Prepared:
    tf, session = load_tensorflow(setup)
    xs = [tf.placeholder("float32", ()) for _ in range(3)]
    f = (xs[0] + xs[1]) * xs[2]
    call = session.make_callable([f, *tf.gradients(f, xs)], feed_list=xs)

    def step() -> object:
        return call(*problem)

    return Prepared(step, lambda: arrays(call(*problem)), "v1 graph, make_callable")


@TOY.on("pytensor")
def in_pytensor(problem: Problem, setup: Setup) -> Prepared:
    pytensor, pt = load_pytensor()
    x, y, z = (pt.fscalar() for _ in range(3))
    f = (x + y) * z
    call = pytensor.function([x, y, z], [f, *pytensor.grad(f, [x, y, z])], mode="CVM", trust_input=True)
    fed = [np.array(v) for v in problem]

    def step() -> object:
        return call(*fed)

    return Prepared(step, lambda: arrays(call(*fed)), "C linker, trusted input (0-d arrays)")


@TOY.on("flowgraph")
def in_flowgraph(problem: Problem, setup: Setup) -> Prepared:
    import flowgraph as fg

    with fg.Graph() as graph:
        xs = [fg.placeholder(name, (), "float32") for name in "xyz"]
        f = (xs[0] + xs[1]) * xs[2]
        fetches = [f, *fg.gradients(f, xs)]
    session = fg.Session(graph, threads=setup.threads)
    call = session.function(xs, fetches)

    def step() -> object:
        return call(*problem)

    return Prepared(step, lambda: arrays(call(*problem)))


def arrays(values: object) -> list[Array]:
    return [np.asarray(value) for value in values]  # type: ignore[attr-defined]
