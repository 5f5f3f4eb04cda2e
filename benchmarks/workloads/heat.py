"""The heat equation on a 512x512 plate over 500 steps, and the gradient of what is left at the end to the first state."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.libraries import load_tensorflow, load_torch
from benchmarks.workload import Array, Prepared, Setup, Workload

SIZE = 512
STEPS = 500
RATE = 0.2  # diffusivity * time step / cell^2


def problem() -> Array:
    return np.random.default_rng(0).random((SIZE, SIZE), "f4")


HEAT = Workload(
    name="heat",
    title="heat equation with gradient",
    what="u += 0.2 (the four neighbours - 4 u) on 512x512 float32, 500 times, with zeros around; then the gradient of the "
    "sum of the squares at the end to the first state.",
    problem=problem,
    tolerance=1e-4,
)
WORKLOADS = [HEAT]


@HEAT.on("numpy")
def in_numpy(problem: Array, setup: Setup) -> Prepared:
    now, new = np.zeros((2, SIZE + 2, SIZE + 2), "f4")
    scratch = np.empty((SIZE, SIZE), "f4")
    rate, rest = np.float32(RATE), np.float32(1 - 4 * RATE)

    def run() -> Array:
        nonlocal now, new
        for _ in range(STEPS):
            inner = new[1:-1, 1:-1]
            np.add(now[2:, 1:-1], now[:-2, 1:-1], out=scratch)
            np.add(scratch, now[1:-1, 2:], out=scratch)
            np.add(scratch, now[1:-1, :-2], out=scratch)
            np.multiply(scratch, rate, out=scratch)
            np.multiply(now[1:-1, 1:-1], rest, out=inner)
            np.add(inner, scratch, out=inner)
            now, new = new, now
        return now[1:-1, 1:-1]

    def step() -> list[Array]:
        now[1:-1, 1:-1] = problem
        end = run().copy()
        # A step is a symmetric matrix, so the gradient is the same loop again.
        now[1:-1, 1:-1] *= 2
        return [end, run()]

    return Prepared(step, step, "gradient by hand, into kept arrays with zeros around")


@HEAT.on("torch")
def in_torch(problem: Array, setup: Setup) -> Prepared:
    torch = load_torch(setup)
    pad = torch.nn.functional.pad
    first = torch.from_numpy(problem).requires_grad_()

    def step() -> Any:
        u = first
        for _ in range(STEPS):
            p = pad(u, (1, 1, 1, 1))
            u = u + RATE * (p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * u)
        (gradient,) = torch.autograd.grad((u * u).sum(), first)
        return u, gradient

    return Prepared(step, lambda: [value.detach().numpy() for value in step()], "eager")


@HEAT.on("jax")
def in_jax(problem: Array, setup: Setup) -> Prepared:
    jax = import_module("jax")
    jnp = jax.numpy

    def turn(u: Any, _: Any) -> Any:
        p = jnp.pad(u, 1)
        return u + RATE * (p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * u), None

    def end(first: Any) -> Any:
        u, _ = jax.lax.scan(turn, first, None, length=STEPS)
        return jnp.sum(u * u), u

    compiled, first = jax.jit(jax.value_and_grad(end, has_aux=True)), jnp.array(problem)

    def step() -> Any:
        (_, u), gradient = jax.block_until_ready(compiled(first))
        return u, gradient

    return Prepared(step, lambda: [np.asarray(value) for value in step()], "jit, lax.scan")


@HEAT.on("tensorflow")
def in_tensorflow(problem: Array, setup: Setup) -> Prepared:
    tf, session = load_tensorflow(setup)
    first = tf.placeholder("float32", (SIZE, SIZE))

    def turn(k: Any, u: Any) -> Any:
        p = tf.pad(u, [[1, 1], [1, 1]])
        return k + 1, u + RATE * (p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * u)

    _, u = tf.while_loop(lambda k, u: k < STEPS, turn, [0, first])
    (gradient,) = tf.gradients(tf.reduce_sum(u * u), first)
    call = session.make_callable([u, gradient], feed_list=[first])
    return Prepared(lambda: call(problem), lambda: call(problem), "v1 graph, while_loop, make_callable")


@HEAT.on("flowgraph")
def in_flowgraph(problem: Array, setup: Setup) -> Prepared:
    import flowgraph as fg

    def turn(u: fg.Tensor, _: None) -> tuple[fg.Tensor, None]:
        p = fg.pad(u, 1)
        return u + RATE * (p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * u), None

    with fg.Graph() as graph:
        first = fg.placeholder("first", (SIZE, SIZE), "float32")
        u, _ = fg.scan(turn, first, length=STEPS)
        fetches = [u, *fg.gradients(fg.sum(u * u), [first])]
    session = fg.Session(graph, threads=setup.threads)
    call = session.function([first], fetches)
    return Prepared(lambda: call(problem), lambda: call(problem), "fg.scan")
