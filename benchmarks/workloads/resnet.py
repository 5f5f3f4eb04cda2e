"""A training step of a residual block: batch 16, 64 channels of 32x32, two 3x3 convolutions with batch norm; SGD 0.1."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.layouts import channels_last, filters_first, filters_last
from benchmarks.libraries import JaxTraining, in_layout, load_tensorflow, load_torch, tensorflow_step, torch_step
from benchmarks.workload import Array, Prepared, Setup, Workload, turns
from benchmarks.workloads.lenet import convolve, convolve_gradient_to_input

BATCH, CHANNELS, SIZE = 16, 64, 32
RATE = 0.1
EPSILON = 1e-5
BATCHES = 4


@dataclass(frozen=True)
class Problem:
    """x and wanted (BATCHES, 16, 64, 32, 32) float32; parameters w1 (64, 64, 3, 3), scale1 (64,), offset1, w2, scale2, offset2."""

    x: Array
    wanted: Array
    parameters: list[Array]


def problem() -> Problem:
    random = np.random.default_rng(0)
    x, wanted = random.standard_normal((2, BATCHES, BATCH, CHANNELS, SIZE, SIZE), "f4")
    parameters: list[Array] = []
    for _ in range(2):
        w = random.standard_normal((CHANNELS, CHANNELS, 3, 3), "f4") * np.float32(np.sqrt(2 / (9 * CHANNELS)))
        parameters += [w, np.ones(CHANNELS, "f4"), random.standard_normal(CHANNELS, "f4") * np.float32(0.1)]
    return Problem(x, wanted, parameters)


RESNET = Workload(
    name="resnet",
    title="ResNet block step",
    what="A step of SGD (rate 0.1) on relu(x + norm(conv(relu(norm(conv(x)))))): batch 16, 64 channels of 32x32, 3x3 filters, "
    "batch norm by the batch's own statistics with scale and offset; mean squared error. The batch is fed from NumPy (four in turn, in the "
    "layout that the rival likes) and the loss comes back as a number. Checked: the parameters after three steps.",
    problem=problem,
    tolerance=1e-3,
    checked_steps=3,
)
WORKLOADS = [RESNET]


@RESNET.on("numpy")
def in_numpy(problem: Problem, setup: Setup) -> Prepared:
    w1, scale1, offset1, w2, scale2, offset2 = parameters = filters_last(problem.parameters)
    xs, wanted = channels_last(problem.x), channels_last(problem.wanted)
    no_bias = np.zeros(CHANNELS, "f4")
    count = np.float32(BATCH * SIZE * SIZE)
    turn = turns(BATCHES)

    def pad(x: Array) -> Array:
        return np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))

    def norm(x: Array, scale: Array, offset: Array) -> tuple[Array, Array, Array]:
        centred = x.reshape(-1, CHANNELS)
        centred -= centred.mean(axis=0)
        inverse = 1 / np.sqrt(np.einsum("ij,ij->j", centred, centred) / count + np.float32(EPSILON))
        centred *= inverse
        y = centred * scale
        y += offset
        return y.reshape(x.shape), centred, inverse

    def norm_back(g: Array, centred: Array, inverse: Array, scale: Array) -> tuple[Array, Array, Array]:
        g = g.reshape(-1, CHANNELS)
        along, total = np.einsum("ij,ij->j", g, centred), g.sum(axis=0)
        back = g - centred * (along / count)
        back -= total / count
        back *= inverse * scale
        return back.reshape(BATCH, SIZE, SIZE, CHANNELS), along, total

    def step() -> float:
        k = turn()
        x = xs[k]
        columns1, h = convolve(pad(x), w1, no_bias)
        h, centred1, inverse1 = norm(h, scale1, offset1)
        np.maximum(h, 0, out=h)
        columns2, y = convolve(pad(h), w2, no_bias)
        y, centred2, inverse2 = norm(y, scale2, offset2)
        y += x
        np.maximum(y, 0, out=y)
        g = y - wanted[k]
        loss = float(np.vdot(g, g) / g.size)
        g *= np.float32(2 / g.size)
        g *= y > 0
        g, g_scale2, g_offset2 = norm_back(g, centred2, inverse2, scale2)
        g_w2 = columns2.T @ g.reshape(-1, CHANNELS)
        g = convolve_gradient_to_input(g, w2, (BATCH, SIZE + 2, SIZE + 2, CHANNELS))[:, 1:-1, 1:-1]
        g = g * (h > 0)
        g, g_scale1, g_offset1 = norm_back(g, centred1, inverse1, scale1)
        g_w1 = columns1.T @ g.reshape(-1, CHANNELS)
        for parameter, gradient in zip(parameters, (g_w1, g_scale1, g_offset1, g_w2, g_scale2, g_offset2), strict=True):
            parameter -= np.float32(RATE) * gradient.reshape(parameter.shape)
        return loss

    return Prepared(step, lambda: filters_first(parameters), "im2col and matmul, channels last, no kept buffers")


@RESNET.on("torch")
def in_torch(problem: Problem, setup: Setup) -> Prepared:
    return _in_torch(problem, setup, "contiguous_format")


@RESNET.on("torch-channels-last")
def in_torch_channels_last(problem: Problem, setup: Setup) -> Prepared:
    return _in_torch(problem, setup, "channels_last")


def _in_torch(problem: Problem, setup: Setup, memory_format: str) -> Prepared:
    torch = load_torch(setup)
    nn = torch.nn.functional
    layout = getattr(torch, memory_format)
    parameters = [p.requires_grad_() for p in in_layout(map(torch.tensor, problem.parameters), layout)]
    w1, scale1, offset1, w2, scale2, offset2 = parameters
    xs, wanted = ([torch.from_numpy(x).to(memory_format=layout) for x in batches] for batches in (problem.x, problem.wanted))
    optimiser = torch.optim.SGD(parameters, RATE)
    turn = turns(BATCHES)

    def norm(x: Any, scale: Any, offset: Any) -> Any:
        return nn.batch_norm(x, None, None, scale, offset, training=True, eps=EPSILON)

    def step() -> float:
        k = turn()
        x = xs[k]
        h = torch.relu(norm(nn.conv2d(x, w1, padding=1), scale1, offset1))
        y = torch.relu(x + norm(nn.conv2d(h, w2, padding=1), scale2, offset2))
        loss = nn.mse_loss(y, wanted[k])
        return torch_step(optimiser, loss)

    return Prepared(step, lambda: [p.detach().numpy() for p in parameters], f"eager, {memory_format}")


@RESNET.on("jax")
def in_jax(problem: Problem, setup: Setup) -> Prepared:
    jax = import_module("jax")
    jnp = jax.numpy

    def convolve(x: Any, w: Any) -> Any:
        return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def norm(x: Any, scale: Any, offset: Any) -> Any:
        x = x - jnp.mean(x, (0, 1, 2))
        return x * jax.lax.rsqrt(jnp.mean(x * x, (0, 1, 2)) + EPSILON) * scale + offset

    def loss_of(parameters: Any, x: Any, wanted: Any) -> Any:
        w1, scale1, offset1, w2, scale2, offset2 = parameters
        h = jax.nn.relu(norm(convolve(x, w1), scale1, offset1))
        y = jax.nn.relu(x + norm(convolve(h, w2), scale2, offset2))
        return jnp.mean(jnp.square(y - wanted))

    training = JaxTraining(loss_of, filters_last(problem.parameters), RATE)
    xs, wanted = channels_last(problem.x), channels_last(problem.wanted)
    turn = turns(BATCHES)

    def step() -> float:
        k = turn()
        return training.step(xs[k], wanted[k])

    return Prepared(step, lambda: filters_first(training.values()), "jit, channels last, parameters donated")


@RESNET.on("tensorflow")
def in_tensorflow(problem: Problem, setup: Setup) -> Prepared:
    tf, session = load_tensorflow(setup)
    x, wanted = (tf.placeholder("float32", (BATCH, SIZE, SIZE, CHANNELS)) for _ in range(2))
    initial = filters_last(problem.parameters)
    w1, scale1, offset1, w2, scale2, offset2 = parameters = [tf.get_variable(f"p{k}", initializer=p) for k, p in enumerate(initial)]

    def norm(x: Any, scale: Any, offset: Any) -> Any:
        return tf.nn.fused_batch_norm(x, scale, offset, epsilon=EPSILON)[0]

    h = tf.nn.relu(norm(tf.nn.conv2d(x, w1, 1, "SAME"), scale1, offset1))
    y = tf.nn.relu(x + norm(tf.nn.conv2d(h, w2, 1, "SAME"), scale2, offset2))
    loss = tf.reduce_mean(tf.square(y - wanted))
    call = tensorflow_step(tf, session, loss, [x, wanted], RATE)
    xs, targets = channels_last(problem.x), channels_last(problem.wanted)
    turn = turns(BATCHES)

    def step() -> float:
        k = turn()
        return call(xs[k], targets[k])

    return Prepared(step, lambda: filters_first(session.run(parameters)), "v1 graph, make_callable, channels last")


@RESNET.on("flowgraph")
def in_flowgraph(problem: Problem, setup: Setup) -> Prepared:
    import flowgraph as fg

    with fg.Graph() as graph:
        x, wanted = (fg.placeholder(name, (BATCH, CHANNELS, SIZE, SIZE), "float32") for name in ("x", "wanted"))
        names = [f"{name}{layer}" for layer in (1, 2) for name in ("w", "scale", "offset")]
        parameters = [fg.variable(p, name=name) for name, p in zip(names, problem.parameters, strict=True)]
        w1, scale1, offset1, w2, scale2, offset2 = parameters
        h = fg.nn.relu(fg.nn.batch_norm(fg.nn.conv2d(x, w1, padding=1), scale1, offset1, epsilon=EPSILON)[0])
        y = fg.nn.relu(x + fg.nn.batch_norm(fg.nn.conv2d(h, w2, padding=1), scale2, offset2, epsilon=EPSILON)[0])
        loss = fg.mean(fg.square(y - wanted))
        train = fg.optim.SGD(RATE).minimize(loss)
    session = fg.Session(graph, threads=setup.threads)
    call = session.function([x, wanted], [loss, train])
    turn = turns(BATCHES)

    def step() -> float:
        k = turn()
        return float(call(problem.x[k], problem.wanted[k])[0])

    return Prepared(step, lambda: [session.variables[name] for name in names])
