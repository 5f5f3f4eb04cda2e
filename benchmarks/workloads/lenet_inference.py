"""What LeNet makes of a batch of 256 images, without training."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.libraries import in_layout, load_onnxruntime, load_tensorflow, load_torch
from benchmarks.workload import Array, Prepared, Setup, Workload, turns
from benchmarks.workloads import lenet
from benchmarks.workloads.lenet import (
    Problem,
    convolve,
    max_pool,
    scores_in_flowgraph,
    scores_in_jax,
    scores_in_tensorflow,
    to_channels_last,
)

BATCH = 256
BATCHES = 4


def problem() -> Problem:
    """The parameters of a training step, with larger batches."""
    images = np.random.default_rng(1).standard_normal((BATCHES, BATCH, 1, 28, 28), "f4")
    return Problem(images, np.zeros((BATCHES, 0), "i8"), lenet.problem().parameters)


INFERENCE = Workload(
    name="lenet-inference",
    title="LeNet inference",
    what="The classes' scores that LeNet gives 256 images of 1x28x28: conv 20 5x5, ReLU, max-pool 2, conv 50 5x5, ReLU, max-pool 2, "
    "dense 256, ReLU, dense 10; the batch is fed from NumPy (four batches in turn). Checked: the scores of the first batch.",
    problem=problem,
    tolerance=1e-4,
    checked_steps=BATCHES,  # so that the next one is the first again
)
WORKLOADS = [INFERENCE]


@INFERENCE.on("numpy")
def in_numpy(problem: Problem, setup: Setup) -> Prepared:
    w1, b1, w2, b2, w3, b3, w4, b4 = to_channels_last(problem.parameters)
    turn = turns(BATCHES)

    def step() -> Array:
        x = problem.images[turn()].reshape(BATCH, 28, 28, 1)
        # A maximum of sums with one bias is that of what is added to, and so is ReLU's of a maximum: fewer numbers for both.
        h = max_pool(convolve(x, w1, b1)[1])
        np.maximum(h, 0, out=h)
        h = max_pool(convolve(h, w2, b2)[1])
        np.maximum(h, 0, out=h)
        h = h.reshape(BATCH, 800) @ w3
        h += b3
        np.maximum(h, 0, out=h)
        z: Array = h @ w4
        z += b4
        return z

    return Prepared(step, lambda: [step()], "im2col and matmul, channels last")


@INFERENCE.on("torch")
def in_torch(problem: Problem, setup: Setup) -> Prepared:
    return _in_torch(problem, setup, "contiguous_format")


@INFERENCE.on("torch-channels-last")
def in_torch_channels_last(problem: Problem, setup: Setup) -> Prepared:
    return _in_torch(problem, setup, "channels_last")


def _in_torch(problem: Problem, setup: Setup, memory_format: str) -> Prepared:
    torch = load_torch(setup)
    nn = torch.nn.functional
    layout = getattr(torch, memory_format)
    w1, b1, w2, b2, w3, b3, w4, b4 = in_layout(map(torch.tensor, problem.parameters), layout)
    turn = turns(BATCHES)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def step() -> Any:
        x = torch.from_numpy(problem.images[turn()]).to(memory_format=layout)
        h = nn.max_pool2d(torch.relu_(nn.conv2d(x, w1, b1)), 2)
        h = nn.max_pool2d(torch.relu_(nn.conv2d(h, w2, b2)), 2)
        return torch.addmm(b4, torch.relu_(torch.addmm(b3, h.flatten(1), w3)), w4)

    return Prepared(step, lambda: [step().numpy()], f"eager, {memory_format}, inference_mode")


@INFERENCE.on("jax")
def in_jax(problem: Problem, setup: Setup) -> Prepared:
    jax = import_module("jax")
    compiled, parameters = jax.jit(scores_in_jax), [jax.numpy.array(p) for p in to_channels_last(problem.parameters)]
    images = problem.images.reshape(BATCHES, BATCH, 28, 28, 1)
    turn = turns(BATCHES)

    def step() -> Any:
        return jax.block_until_ready(compiled(parameters, images[turn()]))

    return Prepared(step, lambda: [np.asarray(step())], "jit, channels last")


@INFERENCE.on("tensorflow")
def in_tensorflow(problem: Problem, setup: Setup) -> Prepared:
    tf, session = load_tensorflow(setup)
    x = tf.placeholder("float32", (BATCH, 28, 28, 1))
    z = scores_in_tensorflow(tf, [tf.constant(p) for p in to_channels_last(problem.parameters)], x)
    call = session.make_callable(z, feed_list=[x])
    images = problem.images.reshape(BATCHES, BATCH, 28, 28, 1)
    turn = turns(BATCHES)

    def step() -> Any:
        return call(images[turn()])

    return Prepared(step, lambda: [step()], "v1 graph, make_callable, channels last, weights as constants")


@INFERENCE.on("onnxruntime")
def in_onnxruntime(problem: Problem, setup: Setup) -> Prepared:
    helper, numpy_helper = import_module("onnx.helper"), import_module("onnx.numpy_helper")
    names = [f"{letter}{layer}" for layer in range(1, 5) for letter in "wb"]
    initial = [numpy_helper.from_array(p, name) for name, p in zip(names, problem.parameters, strict=True)]
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("MaxPool", ["r1"], ["p1"], **pool),
        helper.make_node("Conv", ["p1", "w2", "b2"], ["c2"]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["p2"], **pool),
        helper.make_node("Flatten", ["p2"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["h"]),
        helper.make_node("Relu", ["h"], ["r3"]),
        helper.make_node("Gemm", ["r3", "w4", "b4"], ["z"]),
    ]
    given = helper.make_tensor_value_info("x", 1, (BATCH, 1, 28, 28))  # 1: float32
    graph = helper.make_graph(nodes, "lenet", [given], [helper.make_tensor_value_info("z", 1, (BATCH, 10))], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = load_onnxruntime(setup, model.SerializeToString())
    turn = turns(BATCHES)

    def step() -> Any:
        return session.run(None, {"x": problem.images[turn()]})[0]

    return Prepared(step, lambda: [step()], "CPUExecutionProvider")


@INFERENCE.on("flowgraph")
def in_flowgraph(problem: Problem, setup: Setup) -> Prepared:
    import flowgraph as fg

    with fg.Graph() as graph:
        x = fg.placeholder("x", (None, 1, 28, 28), "float32")
        z = scores_in_flowgraph(fg, [fg.variable(p) for p in problem.parameters], x)
    session = fg.Session(graph, threads=setup.threads)
    call = session.function([x], z)
    turn = turns(BATCHES)

    def step() -> Any:
        return call(problem.images[turn()])

    return Prepared(step, lambda: [step()])
