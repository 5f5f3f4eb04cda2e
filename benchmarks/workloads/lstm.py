"""A training step of an LSTM that reads 28 rows of 28 pixels: hidden 128, batch 128, softmax cross-entropy, SGD 0.1."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.libraries import JaxTraining, load_tensorflow, load_torch, tensorflow_step, torch_step
from benchmarks.workload import Array, Behind, Prepared, Setup, Workload, turns

RATE = 0.1
BATCH = 128
TIME = 28
INPUTS = 28
HIDDEN = 128
BATCHES = 8


@dataclass(frozen=True)
class Problem:
    """rows (BATCHES, 128, 28, 28) float32; labels (BATCHES, 128) int64.

    parameters    w (28, 512), u (128, 512), b (512,), the gates in the order i, f, g, o; v (128, 10), c (10,)
    """

    rows: Array
    labels: Array
    parameters: list[Array]


def problem() -> Problem:
    random = np.random.default_rng(0)
    rows = random.standard_normal((BATCHES, BATCH, TIME, INPUTS), "f4")
    labels = random.integers(0, 10, (BATCHES, BATCH))
    w = random.standard_normal((INPUTS, 4 * HIDDEN), "f4") * np.float32(INPUTS**-0.5)
    u = random.standard_normal((HIDDEN, 4 * HIDDEN), "f4") * np.float32(HIDDEN**-0.5)
    b = np.zeros(4 * HIDDEN, "f4")
    b[HIDDEN : 2 * HIDDEN] = 1
    v = random.standard_normal((HIDDEN, 10), "f4") * np.float32(HIDDEN**-0.5)
    return Problem(rows, labels, [w, u, b, v, np.zeros(10, "f4")])


LSTM = Workload(
    name="lstm",
    title="LSTM step",
    what="A step of SGD (rate 0.1) on an LSTM of 128 units over 28 times of 28 numbers, batch 128, its last output through "
    "a dense layer to 10 classes, mean softmax cross-entropy; the batch is fed from NumPy (eight batches in turn) and the "
    "loss comes back as a number. Checked: the parameters after three steps.",
    problem=problem,
    tolerance=1e-4,
    behind=Behind(
        time="A trace on one thread has 8.7 of 13.9 ms in the loops of gates and states, 3.5 in the products behind the loop that "
        "give the gradients of the weights (163 Gflop/s; a product in cache reaches 232), the rest in the products of the turns.",
        tried=(
            "all turns of a part of the batch as one call of machine code (8.5 to 8.1 ms, kept)",
            "the transposed weights copied once in front of the loop (7.6 to 7.3, kept)",
            "products of our own in BLAS's place (kept)",
            "one stack for outputs that are the same (the memory of a step falls by 15 %, kept)",
        ),
        left="the concatenation of the gates' gradients written by the loop that makes them",
    ),
    checked_steps=3,
)
WORKLOADS = [LSTM]


@LSTM.on("numpy")
def in_numpy(problem: Problem, setup: Setup) -> Prepared:
    w, u, b, v, c = parameters = [p.copy() for p in problem.parameters]
    turn = turns(BATCHES)
    picked = np.arange(BATCH)
    given = np.empty((TIME, BATCH, 4 * HIDDEN), "f4")  # then the gates, then their gradients
    hs, cs = np.zeros((2, TIME + 1, BATCH, HIDDEN), "f4")
    tanhs = np.empty((TIME, BATCH, HIDDEN), "f4")
    scratch = np.empty((BATCH, 4 * HIDDEN), "f4")
    x = np.empty((TIME, BATCH, INPUTS), "f4")

    def step() -> float:
        k = turn()
        labels = problem.labels[k]
        np.copyto(x, problem.rows[k].transpose(1, 0, 2))
        np.matmul(x.reshape(-1, INPUTS), w, out=given.reshape(-1, 4 * HIDDEN))
        np.add(given, b, out=given)
        for t in range(TIME):
            a = given[t]
            np.matmul(hs[t], u, out=scratch)
            a += scratch
            i, f, g, o = (a[:, n * HIDDEN : (n + 1) * HIDDEN] for n in range(4))
            # sigmoid(x) = (1 + tanh(x / 2)) / 2: one tanh serves all gates
            np.multiply(a[:, : 2 * HIDDEN], 0.5, out=a[:, : 2 * HIDDEN])
            np.multiply(o, 0.5, out=o)
            np.tanh(a, out=a)
            for gate in (a[:, : 2 * HIDDEN], o):
                gate += 1
                gate *= 0.5
            np.multiply(f, cs[t], out=cs[t + 1])
            cs[t + 1] += i * g
            np.tanh(cs[t + 1], out=tanhs[t])
            np.multiply(o, tanhs[t], out=hs[t + 1])
        z = hs[TIME] @ v
        z += c
        z -= z.max(axis=1, keepdims=True)
        gz = np.exp(z)
        total = gz.sum(axis=1, keepdims=True)
        loss = float(np.mean(np.log(total[:, 0]) - z[picked, labels]))
        gz /= total
        gz[picked, labels] -= 1
        gz /= BATCH
        gradients = {3: hs[TIME].T @ gz, 4: gz.sum(axis=0)}
        gh, gc = gz @ v.T, np.zeros((BATCH, HIDDEN), "f4")
        for t in reversed(range(TIME)):
            a = given[t]
            i, f, g, o = (a[:, n * HIDDEN : (n + 1) * HIDDEN] for n in range(4))
            gc += gh * o * (1 - tanhs[t] * tanhs[t])
            gi, gf, gg = gc * g * i * (1 - i), gc * cs[t] * f * (1 - f), gc * i * (1 - g * g)
            np.multiply(gh * tanhs[t], o * (1 - o), out=o)
            gc *= f
            i[:], f[:], g[:] = gi, gf, gg
            np.matmul(a, u.T, out=gh)
        ga = given.reshape(-1, 4 * HIDDEN)
        gradients |= {0: x.reshape(-1, INPUTS).T @ ga, 1: hs[:TIME].reshape(-1, HIDDEN).T @ ga, 2: ga.sum(axis=0)}
        for number, gradient in gradients.items():
            gradient *= np.float32(RATE)
            parameters[number] -= gradient
        return loss

    return Prepared(step, lambda: parameters, "gradients by hand, those of w and u as one product behind the loop")


@LSTM.on("torch")
def in_torch(problem: Problem, setup: Setup) -> Prepared:
    torch = load_torch(setup)
    lstm = torch.nn.LSTM(INPUTS, HIDDEN, batch_first=True)
    w, u, b, v, c = (torch.tensor(p) for p in problem.parameters)
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(w.T)
        lstm.weight_hh_l0.copy_(u.T)
        lstm.bias_ih_l0.copy_(b)
        lstm.bias_hh_l0.zero_()
    # It has two biases, which are added up; only one of them is trained here.
    lstm.bias_hh_l0.requires_grad_(False)
    trained = [lstm.weight_ih_l0, lstm.weight_hh_l0, lstm.bias_ih_l0, v.requires_grad_(), c.requires_grad_()]
    optimiser = torch.optim.SGD(trained, RATE)
    turn = turns(BATCHES)

    def step() -> float:
        k = turn()
        x, labels = torch.from_numpy(problem.rows[k]), torch.from_numpy(problem.labels[k])
        h, _ = lstm(x)
        loss = torch.nn.functional.cross_entropy(torch.addmm(c, h[:, -1], v), labels)
        return torch_step(optimiser, loss)

    def values() -> list[Array]:
        w, u, *rest = (p.detach().numpy() for p in trained)
        return [w.T, u.T, *rest]

    return Prepared(step, values, "eager, nn.LSTM")


@LSTM.on("jax")
def in_jax(problem: Problem, setup: Setup) -> Prepared:
    jax = import_module("jax")
    jnp = jax.numpy

    def loss_of(parameters: Any, x: Any, labels: Any) -> Any:
        w, u, b, v, c = parameters
        given = jnp.swapaxes(x, 0, 1) @ w + b

        def turn(state: Any, x: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split(x + h @ u, 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        zeros = jnp.zeros((BATCH, HIDDEN), "f4")
        (h, _), _ = jax.lax.scan(turn, (zeros, zeros), given)
        z = h @ v + c
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z), labels[:, None], axis=1))

    training = JaxTraining(loss_of, problem.parameters, RATE)
    labels = problem.labels.astype("i4")
    turn = turns(BATCHES)

    def step() -> float:
        k = turn()
        return training.step(problem.rows[k], labels[k])

    return Prepared(step, training.values, "jit, lax.scan, parameters donated")


@LSTM.on("tensorflow")
def in_tensorflow(problem: Problem, setup: Setup) -> Prepared:
    tf, session = load_tensorflow(setup)
    x = tf.placeholder("float32", (BATCH, TIME, INPUTS))
    labels = tf.placeholder("int64", (BATCH,))
    w, u, b, v, c = parameters = [tf.get_variable(f"p{k}", initializer=p) for k, p in enumerate(problem.parameters)]
    given = tf.reshape(tf.reshape(tf.transpose(x, (1, 0, 2)), (-1, INPUTS)) @ w + b, (TIME, BATCH, 4 * HIDDEN))
    h, memory = tf.zeros((BATCH, HIDDEN)), tf.zeros((BATCH, HIDDEN))
    for part in tf.unstack(given):
        i, f, g, o = tf.split(part + h @ u, 4, axis=1)
        memory = tf.sigmoid(f) * memory + tf.sigmoid(i) * tf.tanh(g)
        h = tf.sigmoid(o) * tf.tanh(memory)
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=h @ v + c))
    call = tensorflow_step(tf, session, loss, [x, labels], RATE)
    turn = turns(BATCHES)

    def step() -> float:
        k = turn()
        return call(problem.rows[k], problem.labels[k])

    return Prepared(step, lambda: session.run(parameters), "v1 graph, make_callable, unrolled")


@LSTM.on("flowgraph")
def in_flowgraph(problem: Problem, setup: Setup) -> Prepared:
    import flowgraph as fg

    with fg.Graph() as graph:
        x = fg.placeholder("x", (None, TIME, INPUTS), "float32")
        labels = fg.placeholder("labels", (None,), "int64")
        w, u, b, v, c = problem.parameters
        lstm = fg.nn.LSTM(INPUTS, HIDDEN, weights=w, state_weights=u, bias=b)
        dense = fg.nn.Linear(HIDDEN, 10, weights=v, bias=c)
        loss = fg.mean(fg.nn.softmax_cross_entropy(dense(lstm(x)[:, -1]), labels))
        train = fg.optim.SGD(RATE).minimize(loss)
    session = fg.Session(graph, threads=setup.threads)
    call = session.function([x, labels], [loss, train])
    turn = turns(BATCHES)
    parameters = [lstm.w, lstm.u, lstm.b, dense.w, dense.b]

    def step() -> float:
        k = turn()
        return float(call(problem.rows[k], problem.labels[k])[0])

    return Prepared(step, lambda: [np.asarray(value) for value in session.run(parameters)], "fg.nn.LSTM")
