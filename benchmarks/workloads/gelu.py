"""GELU in its tanh form over ten million numbers, and with its gradient; beside them a copy, the least that memory allows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.libraries import load_numexpr, load_pytensor, load_tensorflow, load_torch
from benchmarks.workload import Array, Prepared, Setup, Workload

SIZE = 10**7
BLOCK = 2**14  # numbers that NumPy works on at a time: four arrays of them stay in a cache of 256 KiB
# gelu(x) = x / 2 (1 + tanh(A (x + B x^3)))
A, B = math.sqrt(2 / math.pi), 0.044715


def problem() -> Array:
    return np.random.default_rng(0).standard_normal(SIZE, "f4")


GELU = Workload(
    name="gelu",
    title="gelu of 1e7",
    what="x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) of 10,000,000 float32.",
    problem=problem,
    tolerance=1e-5,
)
GRADIENT = Workload(
    name="gelu-gradient",
    title="gelu of 1e7 and its gradient",
    what="The same, and the gradient of the sum of the results to x.",
    problem=problem,
    tolerance=1e-5,
)
COPY = Workload(
    name="copy",
    title="copy of 1e7",
    what="10,000,000 float32 copied into an array that is there: as many bytes as gelu reads and writes.",
    problem=problem,
    tolerance=0.0,
)
WORKLOADS = [COPY, GELU, GRADIENT]


@COPY.on("numpy")
def copy_in_numpy(problem: Array, setup: Setup) -> Prepared:
    y = np.empty_like(problem)
    return Prepared(lambda: np.copyto(y, problem), lambda: [y])


@COPY.on("torch")
def copy_in_torch(problem: Array, setup: Setup) -> Prepared:
    torch = load_torch(setup)
    x = torch.from_numpy(problem)
    y = torch.empty_like(x)
    return Prepared(lambda: y.copy_(x), lambda: [y.numpy()])


@GELU.on("numpy")
def in_numpy(problem: Array, setup: Setup) -> Prepared:
    y, t = np.empty_like(problem), np.empty(BLOCK, "f4")

    def step() -> Array:
        for block in _blocks():
            x, out = problem[block], y[block]
            _tanh_part(x, t[: len(x)])
            np.multiply(x, np.float32(0.5), out=out)
            np.add(t[: len(x)], 1, out=t[: len(x)])
            np.multiply(out, t[: len(x)], out=out)
        return y

    return Prepared(step, lambda: [step()], f"blocks of {BLOCK:,}, into kept arrays")


@GRADIENT.on("numpy")
def gradient_in_numpy(problem: Array, setup: Setup) -> Prepared:
    y, gradient, scratch = np.empty_like(problem), np.empty_like(problem), np.empty((2, BLOCK), "f4")

    def step() -> list[Array]:
        for block in _blocks():
            x, g = problem[block], gradient[block]
            t, u = scratch[:, : len(x)]
            _tanh_part(x, t)
            # (1 + t) / 2 + x / 2 (1 - t^2) A (1 + 3 B x^2)
            np.multiply(x, x, out=u)
            u *= np.float32(1.5 * A * B)
            u += np.float32(0.5 * A)
            u *= x
            np.multiply(t, t, out=g)
            np.subtract(1, g, out=g)
            g *= u
            t += 1
            t *= np.float32(0.5)
            g += t
            np.multiply(x, t, out=y[block])
        return [y, gradient]

    return Prepared(step, step, f"by hand, blocks of {BLOCK:,}, into kept arrays")


def _blocks() -> Iterator[slice]:
    return (slice(start, start + BLOCK) for start in range(0, SIZE, BLOCK))


def _tanh_part(x: Array, out: Array) -> None:
    np.multiply(x, x, out=out)
    out *= np.float32(A * B)
    out += np.float32(A)
    out *= x
    np.tanh(out, out=out)


@GELU.on("numexpr")
def in_numexpr(problem: Array, setup: Setup) -> Prepared:
    numexpr = load_numexpr(setup)
    y = np.empty_like(problem)
    # A literal would be a double, and so would all that it is added to.
    names = {"x": problem, "half": np.float32(0.5), "one": np.float32(1), "a": np.float32(A), "ab": np.float32(A * B)}

    def step() -> Array:
        numexpr.evaluate("half * x * (one + tanh(x * (a + ab * x * x)))", local_dict=names, out=y)
        return y

    return Prepared(step, lambda: [step()], "into a kept array")


@GELU.on("torch")
def in_torch(problem: Array, setup: Setup) -> Prepared:
    torch = load_torch(setup)
    x = torch.from_numpy(problem)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step() -> Any:
        return torch.nn.functional.gelu(x, approximate="tanh")

    return Prepared(step, lambda: [step().numpy()], "eager, its own kernel for gelu")


@GRADIENT.on("torch")
def gradient_in_torch(problem: Array, setup: Setup) -> Prepared:
    torch = load_torch(setup)
    x = torch.from_numpy(problem).requires_grad_()
    ones = torch.ones_like(x)

    def step() -> tuple[Any, Any]:
        y = torch.nn.functional.gelu(x, approximate="tanh")
        (gradient,) = torch.autograd.grad(y, x, ones)
        return y, gradient

    return Prepared(step, lambda: [tensor.detach().numpy() for tensor in step()], "eager, its own kernels for gelu")


def in_jax(gradient: bool, problem: Array, setup: Setup) -> Prepared:
    jax = import_module("jax")
    jnp = jax.numpy

    def gelu(x: Any) -> Any:
        return 0.5 * x * (1 + jnp.tanh(A * (x + B * x * x * x)))

    def both(x: Any) -> Any:
        y, pull = jax.vjp(gelu, x)
        return y, *pull(jnp.ones_like(y))

    compiled, x = jax.jit(both if gradient else gelu), jnp.array(problem)

    def step() -> Any:
        return jax.block_until_ready(compiled(x))

    return Prepared(step, lambda: [np.asarray(y) for y in (step() if gradient else [step()])], "jit")


def in_tensorflow(gradient: bool, problem: Array, setup: Setup) -> Prepared:
    tf, session = load_tensorflow(setup)
    x = tf.placeholder("float32", problem.shape)
    y = 0.5 * x * (1 + tf.tanh(A * (x + B * x * x * x)))
    call = session.make_callable([y, *tf.gradients(y, x)] if gradient else [y], feed_list=[x])
    return Prepared(lambda: call(problem), lambda: call(problem), "v1 graph, make_callable")


def in_pytensor(gradient: bool, problem: Array, setup: Setup) -> Prepared:
    pytensor, pt = load_pytensor()
    x = pt.fvector()
    half, one, a, b = (np.float32(number) for number in (0.5, 1, A, B))
    y = half * x * (one + pt.tanh(a * (x + b * x * x * x)))
    with setup.phase("plan"):
        outputs = [y, pytensor.grad(y.sum(), x)] if gradient else [y]
        call = pytensor.function([x], outputs, mode="NUMBA", trust_input=True)
    return Prepared(lambda: call(problem), lambda: call(problem), "Numba linker, trusted input")


def in_flowgraph(gradient: bool, problem: Array, setup: Setup) -> Prepared:
    import flowgraph as fg

    with fg.Graph() as graph:
        x = fg.placeholder("x", problem.shape, "float32")
        y = fg.nn.gelu(x, approximate=True)
        fetches = [y, *fg.gradients(fg.sum(y), [x])] if gradient else [y]
    session = fg.Session(graph, threads=setup.threads)
    call = session.function([x], fetches)
    return Prepared(lambda: call(problem), lambda: call(problem))


for _name, _prepare in {"jax": in_jax, "tensorflow": in_tensorflow, "pytensor": in_pytensor, "flowgraph": in_flowgraph}.items():
    GELU.on(_name)(partial(_prepare, False))
    GRADIENT.on(_name)(partial(_prepare, True))
