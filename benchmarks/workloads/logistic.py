"""A step of logistic regression on all of 100,000 rows of 54 features: two passes over the data and little arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.libraries import JaxTraining, load_pytensor, load_tensorflow, load_torch, tensorflow_step, torch_step
from benchmarks.workload import Array, Prepared, Setup, Workload

ROWS, FEATURES = 100_000, 54
RATE = 0.5


@dataclass(frozen=True)
class Problem:
    """x (100000, 54) float32; labels (100000,) float32, 0 or 1."""

    x: Array
    labels: Array


def problem() -> Problem:
    random = np.random.default_rng(0)
    x = random.standard_normal((ROWS, FEATURES), "f4")
    chance = 1 / (1 + np.exp(-x @ random.standard_normal(FEATURES, "f4")))
    return Problem(x, (random.random(ROWS) < chance).astype("f4"))


LOGISTIC = Workload(
    name="logistic",
    title="logistic regression step",
    what="A step of gradient descent (rate 0.5) on 100,000 rows of 54 features (float32), two classes, mean cross-entropy; "
    "rows and labels are fed from NumPy, the same in each step, and the loss comes back as a number. Checked: weights and "
    "bias after three steps.",
    problem=problem,
    tolerance=1e-4,
    checked_steps=3,
)
WORKLOADS = [LOGISTIC]


@LOGISTIC.on("numpy")
def in_numpy(problem: Problem, setup: Setup) -> Prepared:
    x, labels = problem.x, problem.labels
    w, b = np.zeros(FEATURES, "f4"), np.zeros((), "f4")
    z, e, loss, g = np.empty((4, ROWS), "f4")

    def step() -> float:
        nonlocal b
        np.matmul(x, w, out=z)
        np.add(z, b, out=z)
        # Stable on both sides: loss = max(z, 0) - z label + log(1 + e), sigmoid(z) = (z < 0 ? e : 1) / (1 + e), e = exp(-|z|)
        np.absolute(z, out=e)
        np.negative(e, out=e)
        np.exp(e, out=e)
        np.log1p(e, out=loss)
        np.maximum(z, 0, out=g)
        loss_sum = loss.sum() + g.sum() - z @ labels
        np.copyto(g, e)
        np.copyto(g, 1, where=z >= 0)
        np.add(e, 1, out=e)
        np.divide(g, e, out=g)
        np.subtract(g, labels, out=g)
        np.subtract(w, x.T @ g * np.float32(RATE / ROWS), out=w)
        b = b - g.sum() * np.float32(RATE / ROWS)
        return float(loss_sum) / ROWS

    return Prepared(step, lambda: [w, np.asarray(b)], "gradients by hand, into kept arrays")


@LOGISTIC.on("torch")
def in_torch(problem: Problem, setup: Setup) -> Prepared:
    torch = load_torch(setup)
    x, labels = torch.from_numpy(problem.x), torch.from_numpy(problem.labels)
    w, b = torch.zeros(FEATURES, requires_grad=True), torch.zeros((), requires_grad=True)
    optimiser = torch.optim.SGD([w, b], RATE)

    def step() -> float:
        loss = torch.nn.functional.binary_cross_entropy_with_logits(x @ w + b, labels)
        return torch_step(optimiser, loss)

    return Prepared(step, lambda: [w.detach().numpy(), b.detach().numpy()], "eager")


@LOGISTIC.on("jax")
def in_jax(problem: Problem, setup: Setup) -> Prepared:
    jax = import_module("jax")
    jnp = jax.numpy

    def loss_of(parameters: Any, x: Any, labels: Any) -> Any:
        w, b = parameters
        z = x @ w + b
        return jnp.mean(jax.nn.softplus(z) - z * labels)

    training = JaxTraining(loss_of, [np.zeros(FEATURES, "f4"), np.zeros((), "f4")], RATE)

    def step() -> float:
        return training.step(problem.x, problem.labels)

    return Prepared(step, training.values, "jit, parameters donated")


@LOGISTIC.on("tensorflow")
def in_tensorflow(problem: Problem, setup: Setup) -> Prepared:
    tf, session = load_tensorflow(setup)
    x, labels = tf.placeholder("float32", (ROWS, FEATURES)), tf.placeholder("float32", (ROWS,))
    w, b = tf.get_variable("w", initializer=np.zeros((FEATURES, 1), "f4")), tf.get_variable("b", initializer=np.zeros((), "f4"))
    z = tf.squeeze(x @ w, 1) + b
    loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=z))
    call = tensorflow_step(tf, session, loss, [x, labels], RATE)

    def step() -> float:
        return call(problem.x, problem.labels)

    def values() -> list[Array]:
        weights, bias = session.run([w, b])
        return [weights[:, 0], np.asarray(bias)]

    return Prepared(step, values, "v1 graph, make_callable")


@LOGISTIC.on("pytensor")
def in_pytensor(problem: Problem, setup: Setup) -> Prepared:
    pytensor, pt = load_pytensor()
    x, labels = pt.fmatrix(), pt.fvector()
    w, b = parameters = [pytensor.shared(np.zeros(FEATURES, "f4")), pytensor.shared(np.zeros((), "f4"))]
    z = x @ w + b
    loss = pt.mean(pt.softplus(z) - z * labels)
    updates = [(p, p - np.float32(RATE) * g) for p, g in zip(parameters, pytensor.grad(loss, parameters), strict=True)]
    with setup.phase("plan"):
        call = pytensor.function([x, labels], loss, updates=updates, mode="NUMBA", trust_input=True)

    def step() -> float:
        return float(call(problem.x, problem.labels))

    return Prepared(step, lambda: [p.get_value() for p in parameters], "Numba linker, trusted input")


@LOGISTIC.on("flowgraph")
def in_flowgraph(problem: Problem, setup: Setup) -> Prepared:
    import flowgraph as fg

    with fg.Graph() as graph:
        x = fg.placeholder("x", (None, FEATURES), "float32")
        labels = fg.placeholder("labels", (None,), "float32")
        w, b = fg.variable(np.zeros(FEATURES, "f4"), name="w"), fg.variable(np.zeros((), "f4"), name="b")
        loss = fg.mean(fg.nn.sigmoid_cross_entropy(x @ w + b, labels))
        train = fg.optim.SGD(RATE).minimize(loss)
    session = fg.Session(graph, threads=setup.threads)
    call = session.function([x, labels], [loss, train])

    def step() -> float:
        return float(call(problem.x, problem.labels)[0])

    return Prepared(step, lambda: [np.asarray(session.variables[name]) for name in "wb"])
