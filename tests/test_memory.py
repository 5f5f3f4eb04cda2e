"""Memory: what a plan says it will take is what a run is seen to take, and steady runs take nothing new."""

import gc
import importlib.util
import linecache
import sys
import tracemalloc
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.graph import OPS, Spec
from flowgraph.jit import llvm

RNG = np.random.default_rng(0)
JIT = [pytest.param(True, marks=pytest.mark.skipif(not llvm.is_available(), reason="llvmlite is not installed")), False]

# --- the networks of the examples, on one batch


@cache
def example(name):
    """The module of an example."""
    spec: Any = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def images_and_classes(*shape):
    images, classes = fg.placeholder("images", ("batch", *shape), "float32"), fg.placeholder("classes", ("batch",), "int32")
    return [images, classes], [RNG.random((128, *shape), np.float32), RNG.integers(0, 10, 128).astype(np.int32)]


def trained(inputs, logits, optimizer, feeds):
    loss = fg.mean(fg.nn.softmax_cross_entropy(logits, inputs[1]))
    return inputs, [loss, optimizer.minimize(loss)], feeds


def mlp():
    inputs, feeds = images_and_classes(784)
    h = fg.nn.relu(fg.nn.Linear(784, 625, name="hidden")(inputs[0]))
    return trained(inputs, fg.nn.Linear(625, 10, name="output")(h), fg.optim.SGD(0.05, momentum=0.9), feeds)


def lenet():
    inputs, feeds = images_and_classes(1, 28, 28)
    optimizer = fg.optim.SGD(0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    return trained(inputs, example("lenet_mnist").lenet(inputs[0]), optimizer, feeds)


def lstm():
    inputs, feeds = images_and_classes(28, 28)
    return trained(inputs, fg.nn.Linear(128, 10)(fg.nn.LSTM(28, 128)(inputs[0])[:, -1]), fg.optim.Adam(3e-3), feeds)


def transformer():
    inputs = [fg.placeholder(name, ("batch", 64), "int32") for name in "xy"]
    feeds = [RNG.integers(0, 97, (16, 64)).astype(np.int32) for _ in inputs]
    optimizer = fg.optim.AdamW(4e-3, weight_decay=0.5, clip_norm=1.0)
    return trained(inputs, example("transformer_text").Writer(97, 96, 2)(inputs[0]), optimizer, feeds)


NETWORKS = [mlp, lenet, lstm, transformer]


def traced_peak(call):
    """Most bytes at once of what ``call`` has allocated, as Python's and NumPy's allocators see it."""
    gc.collect()
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def report(session):
    assert session.last_report is not None
    return session.last_report


# --- what is predicted, and what is seen


@pytest.mark.parametrize("jit", JIT)
@pytest.mark.parametrize("network", NETWORKS)
def test_the_predicted_peak_is_what_a_run_takes(network, jit):
    with fg.Graph() as graph:
        inputs, outputs, feeds = network()
    with fg.Session(graph, threads=1, jit=jit) as session:
        session.memory.limit = 0  # dead arrays are let go, so that what is alive is all there is
        step = session.function(inputs, outputs)
        predicted = step.plan(*feeds).peak_bytes
        for _ in range(2):  # the first run makes the variables as well, and the second the program
            step(*feeds)
        for _ in range(2):
            assert traced_peak(lambda: step(*feeds)) == pytest.approx(predicted, rel=0.05)
            assert report(session).peak_bytes == predicted


@pytest.mark.parametrize("jit", JIT)
@pytest.mark.parametrize("network", NETWORKS)
def test_on_two_threads_a_run_takes_no_more_than_it_reports(network, jit):
    with fg.Graph() as graph:
        inputs, outputs, feeds = network()
    with fg.Session(graph, threads=2, jit=jit) as session:
        session.memory.limit = 0
        step = session.function(inputs, outputs)
        for _ in range(2):
            step(*feeds)
        for _ in range(3):
            # Each running task counts with its own peak there, and these need not come at the same time.
            assert traced_peak(lambda: step(*feeds)) < 1.05 * report(session).peak_bytes


SHAPES = [
    # images, filters, stride, padding, groups
    ((64, 20, 12, 12), (50, 20, 5, 5), (1, 1), ((0, 0), (0, 0)), 1),
    ((64, 1, 28, 28), (20, 1, 5, 5), (1, 1), ((0, 0), (0, 0)), 1),
    ((300, 16, 15, 15), (32, 16, 3, 3), (2, 2), ((1, 1), (1, 1)), 1),
    ((100, 16, 20, 20), (32, 16, 3, 3), (1, 1), ((1, 1), (1, 1)), 1),
    ((100, 32, 20, 20), (32, 1, 3, 3), (1, 1), ((1, 1), (1, 1)), 32),
    ((100, 16, 400), (32, 16, 3), (1,), ((1, 1),), 1),
]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(("images", "filters", "stride", "padding", "groups"), SHAPES)
def test_a_convolution_needs_the_scratch_memory_that_it_says(images, filters, stride, padding, groups, dtype):
    attrs = {"stride": stride, "padding": padding, "dilation": (1,) * len(stride), "groups": groups}
    x, w = (RNG.uniform(-0.1, 0.1, shape).astype(dtype) for shape in (images, filters))
    conv, input_grad, weight_grad = (OPS[name] for name in ("conv", "conv_input_grad", "conv_weight_grad"))
    g = conv.kernel(np, x, w, **attrs)
    for op, inputs in ((conv, (x, w)), (input_grad, (g, w, x)), (weight_grad, (g, x, w))):
        arrays = [Spec(v.shape, v.dtype) if i in op.shape_inputs else v for i, v in enumerate(inputs)]
        spec = op.infer(*arrays, **attrs)
        out = np.empty(spec.shape, spec.dtype)
        seen = traced_peak(lambda op=op, arrays=arrays, out=out: op.kernel(np, *arrays, **attrs, out=out))
        said = op.scratch(*[Spec(v.shape, v.dtype) for v in inputs], **attrs)
        assert said == pytest.approx(seen, rel=0.1, abs=1e5), op.name


# --- steady runs


def taken_by_lines(call):
    """For each line of generated programs that ``call`` runs: its text, and how many bytes more were there during it than before."""
    found: list[tuple[str, int]] = []
    last = None

    def line(frame, event, argument):
        nonlocal last
        if last is not None:
            found.append((last[1], tracemalloc.get_traced_memory()[1] - last[0]))
        tracemalloc.reset_peak()
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip() if event == "line" else "between tasks"
        last = tracemalloc.get_traced_memory()[0], text
        return line

    before = sys.gettrace()
    tracemalloc.start()
    sys.settrace(lambda frame, event, argument: line if frame.f_code.co_filename.startswith("<flowgraph plan") else None)
    try:
        call()
    finally:
        sys.settrace(before)
        tracemalloc.stop()
    assert len(found) > 10
    return found


@pytest.mark.skipif(not llvm.is_available(), reason="llvmlite is not installed")
@pytest.mark.parametrize("network", [mlp, lenet])
def test_a_steady_step_allocates_no_large_array(network):
    with fg.Graph() as graph:
        inputs, outputs, feeds = network()
    with fg.Session(graph, threads=1) as session:
        step = session.function(inputs, outputs)
        for _ in range(4):
            step(*feeds)
        large = {text.partition("(")[0].rstrip("_0123456789"): more for text, more in taken_by_lines(lambda: step(*feeds)) if more > 16384}
        # The kernels of convolutions lay out a few rows of an image at a time, in memory that stays in the cache.
        assert all(name.startswith("conv") for name in large)
        assert all(more < 128 * 1024 for more in large.values())
        idle = session.memory.idle_bytes
        for _ in range(3):
            step(*feeds)
        assert session.memory.idle_bytes == idle


@pytest.mark.parametrize("network", [mlp, lenet])
def test_without_compiled_kernels_a_steady_step_allocates_their_scratch_memory_alone(network):
    with fg.Graph() as graph:
        inputs, outputs, feeds = network()
    with fg.Session(graph, threads=1, jit=False) as session:
        step = session.function(inputs, outputs)
        for _ in range(4):
            step(*feeds)
        said: dict[str, int] = {}
        for unit in step.plan(*feeds).units:
            said[unit.node.op.name] = max(unit.scratch, said.get(unit.node.op.name, 0))
        for text, more in taken_by_lines(lambda: step(*feeds)):
            op = text.partition("(")[0].rpartition(" = ")[2].rstrip("_0123456789")
            # (A ufunc that broadcasts works in buffers of 8192 elements.)
            assert more < 1.05 * said.get(op, 0) + 64 * 1024, text


def test_a_step_gives_back_a_variable_of_which_a_transposed_view_was_read():
    with fg.Graph() as graph:
        w = fg.variable(fg.init.ones((300, 200)), name="w")
        step = fg.assign(w, w + fg.sum(fg.permute_dims(w, (1, 0)) * 2.0))
    with fg.Session(graph, threads=1) as session:
        places = set()
        for _ in range(8):
            session.run(step)
            places.add(session._values[w.node.id].ctypes.data)
        assert len(places) <= 3


def test_a_reshape_of_permuted_axes_counts_as_a_copy_and_keeps_nothing_of_what_it_copies():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (200, 50, 40), "float32")
        y = fg.reshape(fg.permute_dims(x + 1, (1, 0, 2)), (50, 8000))
        z = fg.sum(fg.tanh(y))
    with fg.Session(graph, threads=1, jit=False) as session:
        plan, nbytes = session.plan(z, {x: x.shape}), 200 * 50 * 40 * 4
        (copy,) = (unit for unit in plan.units if unit.node.op.name == "reshape")
        assert (copy.mode, copy.nbytes) == ("take", nbytes)
        assert nbytes * 2 <= plan.peak_bytes < nbytes * 2.1
        array = RNG.standard_normal((200, 50, 40)).astype(np.float32)
        expected = np.sum(np.tanh((array + 1).transpose(1, 0, 2)))
        np.testing.assert_allclose(session.run(z, {x: array}), expected, rtol=1e-4)


@pytest.mark.parametrize("target", [(6, 20), (2, 3, 20), (120,), (2, 60), (3, 2, 20), (2, 3, 4, 5), (3, 8, 5)])
@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (1, 0, 2, 3), (0, 1, 3, 2), (2, 3, 0, 1), (0, 2, 1, 3)])
def test_a_reshape_is_known_to_copy_where_numpy_copies(axes, target):
    from flowgraph.compile.layout import in_order, is_copied, permuted

    array = np.zeros((2, 3, 4, 5)).transpose(axes)
    strides = permuted((2, 3, 4, 5), None, axes)
    assert tuple(s * 8 for s in strides) == array.strides
    assert in_order((2, 3, 4, 5)) == (60, 20, 5, 1)
    assert is_copied(array.shape, strides, target) == (not np.shares_memory(array, array.reshape(target)))
