"""Prices of a million European calls by Black and Scholes (1973), with delta, vega, theta and rho as gradients."""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.libraries import load_pytensor, load_tensorflow, load_torch
from benchmarks.workload import Array, Prepared, Setup, Workload

SIZE = 10**6
BLOCK = 2**14
ROOT_HALF = 0.5**0.5
ROOT_TWO_PI = (2 * np.pi) ** 0.5


def problem() -> list[Array]:
    """Spot, strike, time in years, rate and volatility, each (1e6,) float32."""
    random = np.random.default_rng(0)
    bounds = [(50, 150), (50, 150), (0.1, 2), (0.0, 0.1), (0.1, 0.5)]
    return [random.uniform(low, high, SIZE).astype("f4") for low, high in bounds]


BLACK_SCHOLES = Workload(
    name="black-scholes",
    title="Black-Scholes with greeks",
    what="1,000,000 European calls (float32; spot, strike, time, rate and volatility are fed): the prices, and the "
    "gradients of their sum to spot (delta), volatility (vega), time (theta with its sign turned) and rate (rho).",
    problem=problem,
    tolerance=1e-4,
)
WORKLOADS = [BLACK_SCHOLES]


def price(library: Any, cdf: Any, s: Any, k: Any, t: Any, r: Any, v: Any) -> Any:
    """The price of a call, over any library's arrays or graph nodes; ``cdf`` is that of the standard normal."""
    deviation = v * library.sqrt(t)
    d1 = (library.log(s / k) + (r + v * v * 0.5) * t) / deviation
    return s * cdf(d1) - k * library.exp(-r * t) * cdf(d1 - deviation)


@BLACK_SCHOLES.on("numpy")
def in_numpy(problem: list[Array], setup: Setup) -> Prepared:
    try:
        erf = import_module("scipy.special").erf
    except ImportError:
        erf = np.vectorize(math.erf, otypes=["f4"])
    results = [np.empty(SIZE, "f4") for _ in range(5)]
    half, root_half = np.float32(0.5), np.float32(ROOT_HALF)

    def step() -> list[Array]:
        for start in range(0, SIZE, BLOCK):
            s, k, t, r, v = (x[start : start + BLOCK] for x in problem)
            call, delta, vega, theta, rho = (x[start : start + BLOCK] for x in results)
            root = np.sqrt(t)
            d1 = (np.log(s / k) + (r + v * v * half) * t) / (v * root)
            d2 = d1 - v * root
            n1 = (erf(d1 * root_half) + 1) * half
            n2 = (erf(d2 * root_half) + 1) * half
            due = k * np.exp(-r * t) * n2
            np.multiply(s, n1, out=call)
            call -= due
            delta[:] = n1
            density = s * np.exp(d1 * d1 * -half) * np.float32(1 / ROOT_TWO_PI)
            np.multiply(density, root, out=vega)
            np.multiply(r, due, out=theta)
            theta += density * v / (2 * root)
            np.multiply(t, due, out=rho)
        return results

    return Prepared(step, step, f"greeks by hand, blocks of {BLOCK:,}, erf from SciPy")


@BLACK_SCHOLES.on("torch")
def in_torch(problem: list[Array], setup: Setup) -> Prepared:
    torch = load_torch(setup)
    inputs = [torch.from_numpy(x) for x in problem]
    for x in (inputs[0], *inputs[2:]):
        x.requires_grad_()
    s, k, t, r, v = inputs
    ones = torch.ones_like(s)

    def step() -> Any:
        call = price(torch, torch.special.ndtr, s, k, t, r, v)
        return call, *torch.autograd.grad(call, [s, v, t, r], ones)

    return Prepared(step, lambda: [y.detach().numpy() for y in step()], "eager")


@BLACK_SCHOLES.on("jax")
def in_jax(problem: list[Array], setup: Setup) -> Prepared:
    jax = import_module("jax")

    def greeks(s: Any, k: Any, t: Any, r: Any, v: Any) -> Any:
        cdf = jax.scipy.special.ndtr
        call, pull = jax.vjp(lambda s, v, t, r: price(jax.numpy, cdf, s, k, t, r, v), s, v, t, r)
        return call, *pull(jax.numpy.ones_like(call))

    compiled, inputs = jax.jit(greeks), [jax.numpy.array(x) for x in problem]

    def step() -> Any:
        return jax.block_until_ready(compiled(*inputs))

    return Prepared(step, lambda: [np.asarray(y) for y in step()], "jit")


@BLACK_SCHOLES.on("tensorflow")
def in_tensorflow(problem: list[Array], setup: Setup) -> Prepared:
    tf, session = load_tensorflow(setup)
    inputs = [tf.placeholder("float32", (SIZE,)) for _ in problem]
    s, k, t, r, v = inputs
    call = price(tf, lambda x: 0.5 * (1 + tf.math.erf(x * ROOT_HALF)), s, k, t, r, v)
    run = session.make_callable([call, *tf.gradients(call, [s, v, t, r])], feed_list=inputs)
    return Prepared(lambda: run(*problem), lambda: run(*problem), "v1 graph, make_callable")


@BLACK_SCHOLES.on("pytensor")
def in_pytensor(problem: list[Array], setup: Setup) -> Prepared:
    pytensor, pt = load_pytensor()
    inputs = [pt.fvector() for _ in problem]
    s, k, t, r, v = inputs
    half, root_half = np.float32(0.5), np.float32(ROOT_HALF)
    call = price(pt, lambda x: half * (np.float32(1) + pt.erf(x * root_half)), s, k, t, r, v)
    with setup.phase("plan"):
        gradients = pytensor.grad(call.sum(), [s, v, t, r])
        run = pytensor.function(inputs, [call, *gradients], mode="NUMBA", trust_input=True)
    return Prepared(lambda: run(*problem), lambda: run(*problem), "Numba linker, trusted input")


@BLACK_SCHOLES.on("flowgraph")
def in_flowgraph(problem: list[Array], setup: Setup) -> Prepared:
    import flowgraph as fg

    with fg.Graph() as graph:
        inputs = [fg.placeholder(name, (SIZE,), "float32") for name in ("spot", "strike", "time", "rate", "volatility")]
        s, k, t, r, v = inputs
        call = price(fg, fg.special.ndtr, s, k, t, r, v)
        fetches = [call, *fg.gradients(fg.sum(call), [s, v, t, r])]
    session = fg.Session(graph, threads=setup.threads)
    run = session.function(inputs, fetches)
    return Prepared(lambda: run(*problem), lambda: run(*problem))
