"""A training step of a multi-layer perceptron: 784-625-10, batch 128, ReLU, softmax cross-entropy, SGD 0.1."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.libraries import JaxTraining, load_pytensor, load_tensorflow, load_torch, tensorflow_step, torch_step
from benchmarks.workload import Array, Behind, Prepared, Setup, Workload, turns

RATE = 0.1
BATCHES = 8


@dataclass(frozen=True)
class Problem:
    """images (BATCHES, 128, 784) float32; labels (BATCHES, 128) int64; parameters w1, b1, w2, b2."""

    images: Array
    labels: Array
    parameters: list[Array]


def problem() -> Problem:
    random = np.random.default_rng(0)
    images = random.standard_normal((BATCHES, 128, 784), "f4")
    labels = random.integers(0, 10, (BATCHES, 128))
    w1 = random.standard_normal((784, 625), "f4") * np.float32(np.sqrt(2 / 784))
    w2 = random.standard_normal((625, 10), "f4") * np.float32(np.sqrt(2 / 625))
    return Problem(images, labels, [w1, np.zeros(625, "f4"), w2, np.zeros(10, "f4")])


MLP = Workload(
    name="mlp",
    title="MLP step",
    what="A step of SGD (rate 0.1) on 784-625-10 with biases, batch 128, ReLU, mean softmax cross-entropy; the batch "
    "is fed from NumPy (eight batches in turn) and the loss comes back as a number. Checked: the parameters after "
    "three steps.",
    problem=problem,
    tolerance=1e-4,
    behind=Behind(
        time="On one thread 95 % of it are two products of 125 Mflop each, at the speed of NumPy's BLAS: on a processor with AVX2, 62 to "
        "87 Gflop/s where a loop of multiply-adds alone has 66 to 87. On two threads about a tenth of a step is what lies between them, "
        "which one thread does.",
        tried=(
            "the first product cut into columns, so that its matrix is read once (0.96 to 0.99, kept)",
            "four products a round in the tiles (0.93, kept)",
            "bias, relu and the updates called for some rows of a product at a time, while they are in the cache (1.00 to 1.01)",
            "smaller tasks for what lies between the products (0.98, but LeNet 1.03)",
        ),
    ),
    checked_steps=3,
)
WORKLOADS = [MLP]


@MLP.on("numpy")
def in_numpy(problem: Problem, setup: Setup) -> Prepared:
    w1, b1, w2, b2 = parameters = [p.copy() for p in problem.parameters]
    rate = np.float32(RATE)
    turn = turns(BATCHES)
    rows = np.arange(128)

    def step() -> float:
        k = turn()
        x, labels = problem.images[k], problem.labels[k]
        h = x @ w1
        h += b1
        np.maximum(h, 0, out=h)
        z = h @ w2
        z += b2
        z -= z.max(axis=1, keepdims=True)
        g = np.exp(z)
        total = g.sum(axis=1, keepdims=True)
        loss = float(np.mean(np.log(total[:, 0]) - z[rows, labels]))
        g /= total
        g[rows, labels] -= 1
        g /= 128
        gh = g @ w2.T
        gh *= h > 0
        for parameter, gradient in ((w1, x.T @ gh), (b1, gh.sum(axis=0)), (w2, h.T @ g), (b2, g.sum(axis=0))):
            gradient *= rate
            parameter -= gradient
        return loss

    return Prepared(step, lambda: parameters, "gradients by hand, in place where that is easy, no kept buffers")


@MLP.on("torch")
def in_torch(problem: Problem, setup: Setup) -> Prepared:
    torch = load_torch(setup)
    w1, b1, w2, b2 = parameters = [torch.tensor(p, requires_grad=True) for p in problem.parameters]
    optimiser = torch.optim.SGD(parameters, RATE)
    turn = turns(BATCHES)

    def step() -> float:
        k = turn()
        x, labels = torch.from_numpy(problem.images[k]), torch.from_numpy(problem.labels[k])
        h = torch.relu(torch.addmm(b1, x, w1))
        loss = torch.nn.functional.cross_entropy(torch.addmm(b2, h, w2), labels)
        return torch_step(optimiser, loss)

    return Prepared(step, lambda: [p.detach().numpy() for p in parameters], "eager")


@MLP.on("jax")
def in_jax(problem: Problem, setup: Setup) -> Prepared:
    jax = import_module("jax")
    jnp = jax.numpy

    def loss_of(parameters: Any, x: Any, labels: Any) -> Any:
        w1, b1, w2, b2 = parameters
        z = jax.nn.relu(x @ w1 + b1) @ w2 + b2
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(z), labels[:, None], axis=1))

    training = JaxTraining(loss_of, problem.parameters, RATE)
    labels = problem.labels.astype("i4")
    turn = turns(BATCHES)

    def step() -> float:
        k = turn()
        return training.step(problem.images[k], labels[k])

    return Prepared(step, training.values, "jit, parameters donated")


@MLP.on("tensorflow")
def in_tensorflow(problem: Problem, setup: Setup) -> Prepared:
    tf, session = load_tensorflow(setup)
    x = tf.placeholder("float32", (128, 784))
    labels = tf.placeholder("int64", (128,))
    w1, b1, w2, b2 = parameters = [tf.get_variable(f"p{k}", initializer=p) for k, p in enumerate(problem.parameters)]
    z = tf.nn.relu(x @ w1 + b1) @ w2 + b2
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=z))
    call = tensorflow_step(tf, session, loss, [x, labels], RATE)
    turn = turns(BATCHES)

    def step() -> float:
        k = turn()
        return call(problem.images[k], problem.labels[k])

    return Prepared(step, lambda: session.run(parameters), "v1 graph, make_callable")


@MLP.on("pytensor")
def in_pytensor(problem: Problem, setup: Setup) -> Prepared:
    pytensor, pt = load_pytensor()
    x, labels = pt.fmatrix(), pt.lvector()
    w1, b1, w2, b2 = parameters = [pytensor.shared(p.copy()) for p in problem.parameters]
    z = pt.maximum(x @ w1 + b1, 0) @ w2 + b2
    loss = -pt.mean(pt.special.log_softmax(z, axis=1)[pt.arange(128), labels])
    gradients = pytensor.grad(loss, parameters)
    updates = [(p, p - np.float32(RATE) * g) for p, g in zip(parameters, gradients, strict=True)]
    call = pytensor.function([x, labels], loss, updates=updates, mode="NUMBA", trust_input=True)
    turn = turns(BATCHES)

    def step() -> float:
        k = turn()
        return float(call(problem.images[k], problem.labels[k]))

    return Prepared(step, lambda: [p.get_value() for p in parameters], "Numba linker, trusted input")


@MLP.on("flowgraph")
def in_flowgraph(problem: Problem, setup: Setup) -> Prepared:
    import flowgraph as fg

    with fg.Graph() as graph:
        x = fg.placeholder("x", (None, 784), "float32")
        labels = fg.placeholder("labels", (None,), "int64")
        names = ["w1", "b1", "w2", "b2"]
        w1, b1, w2, b2 = (fg.variable(p, name=name) for name, p in zip(names, problem.parameters, strict=True))
        z = fg.nn.relu(x @ w1 + b1) @ w2 + b2
        loss = fg.mean(fg.nn.softmax_cross_entropy(z, labels))
        train = fg.optim.SGD(RATE).minimize(loss)
    session = fg.Session(graph, threads=setup.threads)
    call = session.function([x, labels], [loss, train])
    turn = turns(BATCHES)

    def step() -> float:
        k = turn()
        return float(call(problem.images[k], problem.labels[k])[0])

    return Prepared(step, lambda: [session.variables[name] for name in names])
