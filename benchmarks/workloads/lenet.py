"""A training step of LeNet, batch 128: two convolutions with pooling, two dense layers, SGD with momentum."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from benchmarks.layouts import filters_first, filters_last
from benchmarks.libraries import JaxTraining, in_layout, load_tensorflow, load_torch, tensorflow_step, torch_step
from benchmarks.workload import Array, Prepared, Setup, Workload, turns

RATE = 0.01
MOMENTUM = 0.9
BATCH = 128
BATCHES = 8


@dataclass(frozen=True)
class Problem:
    """images (BATCHES, 128, 1, 28, 28) float32; labels (BATCHES, 128) int64.

    parameters    w1 (20, 1, 5, 5), b1, w2 (50, 20, 5, 5), b2, w3 (800, 256), its rows in the order (c, h, w), b3,
                  w4 (256, 10), b4
    """

    images: Array
    labels: Array
    parameters: list[Array]


def problem() -> Problem:
    random = np.random.default_rng(0)
    images = random.standard_normal((BATCHES, BATCH, 1, 28, 28), "f4")
    labels = random.integers(0, 10, (BATCHES, BATCH))

    def he_normal(*shape: int, fan_in: int) -> Array:
        return random.standard_normal(shape, "f4") * np.float32(np.sqrt(2 / fan_in))

    weights = [
        he_normal(20, 1, 5, 5, fan_in=25),
        he_normal(50, 20, 5, 5, fan_in=500),
        he_normal(800, 256, fan_in=800),
        he_normal(256, 10, fan_in=256),
    ]
    biases = [np.zeros(n, "f4") for n in (20, 50, 256, 10)]
    return Problem(images, labels, [p for pair in zip(weights, biases, strict=True) for p in pair])


def to_channels_last(parameters: list[Array]) -> list[Array]:
    """The parameters for channels-last images: kernels (5, 5, in, out), rows of w3 in the order (h, w, c)."""
    w1, b1, w2, b2, w3, *rest = filters_last(parameters)
    w3 = w3.reshape(50, 4, 4, 256).transpose(1, 2, 0, 3).reshape(800, 256)
    return [w1, b1, w2, b2, np.ascontiguousarray(w3), *rest]


def from_channels_last(parameters: list[Array]) -> list[Array]:
    """The inverse of ``to_channels_last``."""
    w1, b1, w2, b2, w3, *rest = filters_first(parameters)
    return [w1, b1, w2, b2, w3.reshape(4, 4, 50, 256).transpose(2, 0, 1, 3).reshape(800, 256), *rest]


LENET = Workload(
    name="lenet",
    title="LeNet step",
    what="A step of SGD (rate 0.01, momentum 0.9) on LeNet, batch 128 of 1x28x28: conv 20 5x5, ReLU, max-pool 2, "
    "conv 50 5x5, ReLU, max-pool 2, dense 256, ReLU, dense 10, mean softmax cross-entropy; the batch is fed from NumPy "
    "(eight batches in turn) and the loss comes back as a number. Checked: the parameters after three steps.",
    problem=problem,
    tolerance=1e-3,
    checked_steps=3,
)
WORKLOADS = [LENET]


@LENET.on("numpy")
def in_numpy(problem: Problem, setup: Setup) -> Prepared:
    w1, b1, w2, b2, w3, b3, w4, b4 = parameters = to_channels_last(problem.parameters)
    velocities = [np.zeros_like(p) for p in parameters]
    turn = turns(BATCHES)
    rows = np.arange(BATCH)

    def step() -> float:
        k = turn()
        # Forward, each picture as (height, width, channel).
        x = problem.images[k].reshape(BATCH, 28, 28, 1)
        columns1, h1 = convolve(x, w1, b1)
        np.maximum(h1, 0, out=h1)
        p1 = max_pool(h1)
        columns2, h2 = convolve(p1, w2, b2)
        np.maximum(h2, 0, out=h2)
        p2 = max_pool(h2)
        flat = p2.reshape(BATCH, 800)
        h3 = flat @ w3
        h3 += b3
        np.maximum(h3, 0, out=h3)
        z = h3 @ w4
        z += b4
        z -= z.max(axis=1, keepdims=True)
        g4 = np.exp(z)
        total = g4.sum(axis=1, keepdims=True)
        loss = float(np.mean(np.log(total[:, 0]) - z[rows, problem.labels[k]]))
        # Backward; g is the gradient to a layer's output before its ReLU.
        g4 /= total
        g4[rows, problem.labels[k]] -= 1
        g4 /= BATCH
        g3 = g4 @ w4.T
        g3 *= h3 > 0
        g2 = max_pool_gradient(h2, p2, (g3 @ w3.T).reshape(p2.shape))
        g2 *= h2 > 0
        g1 = max_pool_gradient(h1, p1, convolve_gradient_to_input(g2, w2, p1.shape))
        g1 *= h1 > 0
        gradients = []
        for before, g in ((columns1, g1), (columns2, g2), (flat, g3), (h3, g4)):
            g = g.reshape(-1, g.shape[-1])
            gradients += [before.T @ g, g.sum(axis=0)]
        for parameter, velocity, gradient in zip(parameters, velocities, gradients, strict=True):
            velocity *= np.float32(MOMENTUM)
            velocity += gradient.reshape(parameter.shape)
            parameter -= np.float32(RATE) * velocity
        return loss

    return Prepared(step, lambda: from_channels_last(parameters), "im2col and matmul, channels last, no kept buffers")


def convolve(x: Array, w: Array, b: Array) -> tuple[Array, Array]:
    """The windows of ``x`` (n, h, w, c) as a matrix (n oh ow, kh kw c), and their product with ``w`` (kh, kw, c, o)."""
    height, width, _, outputs = w.shape
    windows = sliding_window_view(x, (height, width), axis=(1, 2)).transpose(0, 1, 2, 4, 5, 3)
    columns = windows.reshape(-1, w[..., 0].size)
    y = columns @ w.reshape(-1, outputs)
    y += b
    return columns, y.reshape(*windows.shape[:3], outputs)


def convolve_gradient_to_input(g: Array, w: Array, shape: tuple[int, ...]) -> Array:
    """What each pixel is owed by the windows that it is in; a product for each tap (5 ms) beats one for all (11 ms)."""
    batch, height, width, outputs = g.shape
    result = np.zeros(shape, g.dtype)
    for i in range(w.shape[0]):
        for j in range(w.shape[1]):
            owed = g.reshape(-1, outputs) @ w[i, j].T
            result[:, i : i + height, j : j + width] += owed.reshape(batch, height, width, -1)
    return result


def max_pool(x: Array) -> Array:
    top = np.maximum(x[:, 0::2, 0::2], x[:, 0::2, 1::2])
    bottom = np.maximum(x[:, 1::2, 0::2], x[:, 1::2, 1::2])
    return np.maximum(top, bottom, out=top)


def max_pool_gradient(x: Array, y: Array, g: Array) -> Array:
    """``g`` goes where ``x`` is its window's maximum ``y``; the ties are zeros, which the ReLU before then drops."""
    result = np.empty_like(x)
    for i in range(2):
        for j in range(2):
            np.multiply(g, x[:, i::2, j::2] == y, out=result[:, i::2, j::2])
    return result


@LENET.on("torch")
def in_torch(problem: Problem, setup: Setup) -> Prepared:
    return _in_torch(problem, setup, "contiguous_format")


@LENET.on("torch-channels-last")
def in_torch_channels_last(problem: Problem, setup: Setup) -> Prepared:
    return _in_torch(problem, setup, "channels_last")


def _in_torch(problem: Problem, setup: Setup, memory_format: str) -> Prepared:
    torch = load_torch(setup)
    nn = torch.nn.functional
    layout = getattr(torch, memory_format)
    parameters = [p.requires_grad_() for p in in_layout(map(torch.tensor, problem.parameters), layout)]
    w1, b1, w2, b2, w3, b3, w4, b4 = parameters
    optimiser = torch.optim.SGD(parameters, RATE, momentum=MOMENTUM)
    turn = turns(BATCHES)

    def step() -> float:
        k = turn()
        x = torch.from_numpy(problem.images[k]).to(memory_format=layout)
        h = nn.max_pool2d(torch.relu(nn.conv2d(x, w1, b1)), 2)
        h = nn.max_pool2d(torch.relu(nn.conv2d(h, w2, b2)), 2)
        h = torch.relu(torch.addmm(b3, h.flatten(1), w3))
        loss = nn.cross_entropy(torch.addmm(b4, h, w4), torch.from_numpy(problem.labels[k]))
        return torch_step(optimiser, loss)

    return Prepared(step, lambda: [p.detach().numpy() for p in parameters], f"eager, {memory_format}")


def scores_in_jax(parameters: Any, x: Any) -> Any:
    """(batch, 10) of images with their channels last."""
    jax = import_module("jax")
    w1, b1, w2, b2, w3, b3, w4, b4 = parameters

    def convolve(x: Any, w: Any, b: Any) -> Any:
        return jax.lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")) + b

    def max_pool(x: Any) -> Any:
        # The gradient of `reduce_window` is slow on CPUs: a step took 67 ms with it where this takes 40.
        n, height, width, channels = x.shape
        return x.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))

    h = max_pool(jax.nn.relu(convolve(x, w1, b1)))
    h = max_pool(jax.nn.relu(convolve(h, w2, b2)))
    return jax.nn.relu(h.reshape(len(x), 800) @ w3 + b3) @ w4 + b4


@LENET.on("jax")
def in_jax(problem: Problem, setup: Setup) -> Prepared:
    jax = import_module("jax")

    def loss_of(parameters: Any, x: Any, labels: Any) -> Any:
        z = jax.nn.log_softmax(scores_in_jax(parameters, x))
        return -jax.numpy.mean(jax.numpy.take_along_axis(z, labels[:, None], axis=1))

    training = JaxTraining(loss_of, to_channels_last(problem.parameters), RATE, MOMENTUM)
    images = problem.images.reshape(BATCHES, BATCH, 28, 28, 1)
    labels = problem.labels.astype("i4")
    turn = turns(BATCHES)

    def step() -> float:
        k = turn()
        return training.step(images[k], labels[k])

    return Prepared(step, lambda: from_channels_last(training.values()), "jit, channels last, parameters donated")


def scores_in_tensorflow(tf: Any, parameters: Any, x: Any) -> Any:
    """(batch, 10) of images with their channels last."""
    w1, b1, w2, b2, w3, b3, w4, b4 = parameters
    h = tf.nn.max_pool2d(tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, w1, 1, "VALID"), b1)), 2, 2, "VALID")
    h = tf.nn.max_pool2d(tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(h, w2, 1, "VALID"), b2)), 2, 2, "VALID")
    return tf.nn.relu(tf.reshape(h, (-1, 800)) @ w3 + b3) @ w4 + b4


@LENET.on("tensorflow")
def in_tensorflow(problem: Problem, setup: Setup) -> Prepared:
    tf, session = load_tensorflow(setup)
    x = tf.placeholder("float32", (BATCH, 28, 28, 1))
    labels = tf.placeholder("int64", (BATCH,))
    parameters = [tf.get_variable(f"p{k}", initializer=p) for k, p in enumerate(to_channels_last(problem.parameters))]
    z = scores_in_tensorflow(tf, parameters, x)
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=z))
    call = tensorflow_step(tf, session, loss, [x, labels], RATE, MOMENTUM)
    images = problem.images.reshape(BATCHES, BATCH, 28, 28, 1)
    turn = turns(BATCHES)

    def step() -> float:
        k = turn()
        return call(images[k], problem.labels[k])

    return Prepared(step, lambda: from_channels_last(session.run(parameters)), "v1 graph, make_callable, channels last")


def scores_in_flowgraph(fg: Any, parameters: Any, x: Any) -> Any:
    """(batch, 10) of images (batch, 1, 28, 28)."""
    w1, b1, w2, b2, w3, b3, w4, b4 = parameters
    h = fg.nn.max_pool2d(fg.nn.relu(fg.nn.conv2d(x, w1) + fg.reshape(b1, (20, 1, 1))), 2)
    h = fg.nn.max_pool2d(fg.nn.relu(fg.nn.conv2d(h, w2) + fg.reshape(b2, (50, 1, 1))), 2)
    return fg.nn.relu(fg.reshape(h, (-1, 800)) @ w3 + b3) @ w4 + b4


@LENET.on("flowgraph")
def in_flowgraph(problem: Problem, setup: Setup) -> Prepared:
    import flowgraph as fg

    with fg.Graph() as graph:
        x = fg.placeholder("x", (None, 1, 28, 28), "float32")
        labels = fg.placeholder("labels", (None,), "int64")
        names = [f"{letter}{layer}" for layer in range(1, 5) for letter in "wb"]
        parameters = [fg.variable(p, name=name) for name, p in zip(names, problem.parameters, strict=True)]
        loss = fg.mean(fg.nn.softmax_cross_entropy(scores_in_flowgraph(fg, parameters, x), labels))
        train = fg.optim.SGD(RATE, momentum=MOMENTUM).minimize(loss)
    session = fg.Session(graph, threads=setup.threads)
    call = session.function([x, labels], [loss, train])
    turn = turns(BATCHES)

    def step() -> float:
        k = turn()
        return float(call(problem.images[k], problem.labels[k])[0])

    return Prepared(step, lambda: [session.variables[name] for name in names])
