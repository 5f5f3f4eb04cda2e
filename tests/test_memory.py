"""Memory: what a plan says it takes is what a run is seen to take, steady runs take nothing new, and a limit is kept."""

import gc
import importlib.util
import linecache
import sys
import threading
import tracemalloc
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flowgraph as fg
from flowgraph.compile.budget import alive_at_peak
from flowgraph.devices import open_device
from flowgraph.graph import OPS, Spec
from flowgraph.graph.arguments import as_bytes
from flowgraph.jit import llvm
from flowgraph.runtime import BufferPool
from flowgraph.runtime.gate import Gate, Room

RNG = np.random.default_rng(0)
MB = 1_000_000
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
@pytest.mark.frees_at_once
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
@pytest.mark.frees_at_once
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


def fitted_ode(n):
    y0, target = fg.placeholder("y0", (n,), "float64"), fg.placeholder("target", (40, n), "float64")
    a = fg.variable(fg.init.glorot_uniform((n, n), dtype="float64"), name="a")

    def step(y, _):
        middle = y + 0.05 * fg.tanh(a @ y)
        y = y + 0.1 * fg.tanh(a @ middle)
        return y, y

    _, ys = fg.scan(step, y0, length=40)
    loss = fg.mean(fg.square(ys - target))
    return [y0, target], [loss, fg.optim.Adam(1e-2).minimize(loss)], [np.ones(n), np.zeros((40, n))]


def last_carry(n):
    x, w = fg.placeholder("x", (30, n), "float64"), fg.constant(RNG.standard_normal((n, n)))
    c, _ = fg.scan(lambda c, x: (fg.tanh(c @ w + x), None), np.zeros(n), x)
    return [x], [c, *fg.gradients(fg.sum(c), [w, x])], [RNG.standard_normal((30, n))]


def carry_and_stack(n):
    x = fg.placeholder("x", (30, n), "float64")
    return [x], list(fg.scan(lambda c, x: (fg.tanh(c + x), c * x), np.zeros(n), x)), [RNG.standard_normal((30, n))]


def mapped(n):
    x = fg.placeholder("x", (30, n, n), "float64")
    ys, zs = fg.map(lambda row: (fg.sum(fg.exp(row), axis=0), row @ row), x)
    return [x], [ys, zs, *fg.gradients(fg.sum(ys) + fg.sum(zs), [x])], [RNG.standard_normal((30, n, n))]


def nested(n):
    x, w = fg.placeholder("x", (10, n), "float64"), fg.constant(RNG.standard_normal((n, n)))

    def outer(c, x):
        c, sums = fg.scan(lambda d, _: (fg.tanh(d @ w + x), d * x), c, length=5)
        return c, sums

    c, sums = fg.scan(outer, np.zeros(n), x)
    return [x], [c, sums, *fg.gradients(fg.sum(c) + fg.sum(sums), [w])], [RNG.standard_normal((10, n))]


def counted(n):
    x = fg.placeholder("x", (n,), "float64")
    _, y = fg.while_loop(lambda s: s[0] < 30, lambda s: (s[0] + 1, fg.tanh(s[1] * x)), (fg.constant(0), x))
    return [x], [y], [RNG.standard_normal(n)]


LOOPS = [fitted_ode, last_carry, carry_and_stack, mapped, nested, counted]


def steady(session, network, n):
    """A function that has run often enough to be as it stays, and its feeds."""
    inputs, outputs, feeds = network(n)
    session.memory.limit = 0
    step = session.function(inputs, outputs)
    for _ in range(3):
        step(*feeds)
    return step, feeds


@pytest.mark.parametrize("jit", JIT)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.frees_at_once
def test_the_predicted_peak_of_a_loop_is_what_its_arrays_take(loop, jit):
    seen, predicted = [], []
    for n in (1, 5000 if loop is counted else 150):
        with fg.Graph() as graph, fg.Session(graph, threads=1, jit=jit) as session:
            step, feeds = steady(session, loop, n)
            seen.append(min(traced_peak(lambda step=step, feeds=feeds: step(*feeds)) for _ in range(2)))
            predicted.append(step.plan(*feeds).peak_bytes)
            assert report(session).peak_bytes == predicted[-1]
    # The objects of Python, which are not predicted, are the same for any size of the arrays.
    assert seen[1] - seen[0] == pytest.approx(predicted[1] - predicted[0], rel=0.05)


@pytest.mark.parametrize("n", [1, 10, 150])
@pytest.mark.parametrize("loop", LOOPS)
def test_the_memory_of_a_trace_counts_what_a_loop_gives_once(loop, n):
    with fg.Graph() as graph, fg.Session(graph, threads=1) as session:
        step, feeds = steady(session, loop, n)
        with session.trace() as trace:
            step(*feeds)
        assert trace.memory().peak == trace.memory().predicted == report(session).peak_bytes


def test_the_results_of_a_loop_are_handed_out_without_a_copy_and_are_the_callers_own():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (5, 3), "float64")
        w = fg.variable(np.zeros(3), name="w")
        a, b, ys = (lambda c, ys: (*c, ys))(*fg.scan(lambda c, x: ((c[0] + x, c[0] + x), c[0] + x), (w, w), x))
        outputs = [a, b, ys, ys[0], a, fg.assign(w, a)]
    with fg.Session(graph, threads=1) as session:
        assert session.plan([a, b, ys], {x: (5, 3)}).copied == frozenset()
        step = session.function([x], outputs)
        for count in (1, 2, 3):
            found = step(np.ones((5, 3)))
            for i, value in enumerate(found[:5]):
                assert not any(np.may_share_memory(value, other) for other in found[:i])
            np.testing.assert_array_equal(session.variables[w], np.full(3, 5.0 * count))
            for value in found[:5]:
                value[...] = -1.0
            np.testing.assert_array_equal(session.variables[w], np.full(3, 5.0 * count))


def test_the_results_of_a_choice_are_copied_only_where_they_are_one_array():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (400, 3), "float64")
        apart = fg.cond(fg.sum(x) > 0, lambda: (fg.exp(x), fg.sin(x)), lambda: (x, x))
        y = fg.tanh(x)
        alike = fg.cond(fg.sum(x) > 0, lambda: (y, fg.permute_dims(y, (1, 0))), lambda: (y, fg.permute_dims(x, (1, 0))))
    with fg.Session(graph, threads=1) as session:
        assert not session.plan(apart, {x: (400, 3)}).copied
        for sign in (1.0, -1.0):
            for outputs in (apart, alike):
                feed = np.full((400, 3), sign)
                first, second = session.run(outputs, {x: feed})
                assert not any(np.may_share_memory(*pair) for pair in ((first, second), (first, feed), (second, feed)))


def test_a_while_loop_stacks_what_its_gradient_reads_one_result_after_another():
    def slope(n):
        x = fg.placeholder("x", (n,), "float64")
        _, y = fg.while_loop(lambda s: s[0] < 30, lambda s: (s[0] + 1, fg.tanh(fg.sin(s[1]) * x) * fg.exp(s[1])), (fg.constant(0), x))
        return [x], fg.gradients(fg.sum(y), [x]), [RNG.uniform(-0.1, 0.1, n)]

    with fg.Graph() as graph, fg.Session(graph, threads=1) as session:
        step, feeds = steady(session, slope, 20_000)
        with session.trace() as trace:
            step(*feeds)
        kept = trace.memory().peak  # with all that only a run knows the size of
        stack = 30 * feeds[0].nbytes
        assert kept > 3 * stack
        assert kept < traced_peak(lambda: step(*feeds)) < kept + 1.3 * stack


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
@pytest.mark.frees_at_once
def test_a_steady_step_allocates_no_large_array(network):
    with fg.Graph() as graph:
        inputs, outputs, feeds = network()
    with fg.Session(graph, threads=1) as session:
        step = session.function(inputs, outputs)
        for _ in range(4):
            step(*feeds)
        large = {text.partition("(")[0].rstrip("_0123456789"): more for text, more in taken_by_lines(lambda: step(*feeds)) if more > 16384}
        # The kernels of convolutions lay out a few rows of an image at a time, and products part of a matrix, in memory that stays in the
        # cache.
        said = max(unit.scratch for unit in step.plan(*feeds).units)
        assert 0 < said < 640 * 1024
        assert all(name.startswith(("conv", "matmul", "native")) for name in large)
        assert all(more < 128 * 1024 if name.startswith("conv") else more < said + 16384 for name, more in large.items())
        idle = session.memory.idle_bytes
        for _ in range(3):
            step(*feeds)
        assert session.memory.idle_bytes == idle


@pytest.mark.parametrize("network", [mlp, lenet])
@pytest.mark.frees_at_once
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


@pytest.mark.frees_at_once
def test_a_step_gives_back_a_variable_of_which_a_transposed_view_was_read():
    with fg.Graph() as graph:
        w = fg.variable(fg.init.ones((300, 200)), name="w")
        step = fg.assign(w, w + fg.sum(fg.permute_dims(w, (1, 0)) * 2.0))
    with fg.Session(graph, threads=1) as session:
        places = set()
        for _ in range(8):
            session.run(step)
            places.add(session._state.values[w.node.id].ctypes.data)
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


# --- a limit: the order that keeps it


def branches(count, shape=(500, 500)):
    """Large results of one input, all made before the first of them is used: alive at once where kernels run as they were written."""
    x = fg.placeholder("x", shape, "float64")
    large = [fg.tanh(x * (i + 1.0)) for i in range(count)]
    return x, [fg.max(fg.sort(y, axis=0), axis=0) + fg.max(fg.sort(y, axis=1), axis=0) for y in large]


def lowest_limit(session, inputs, outputs, feeds):
    """The lowest limit that a plan keeps."""
    plan = session.function(inputs, outputs).plan(*feeds)
    while True:
        try:
            plan = session.function(inputs, outputs, memory_limit=plan.peak_bytes - 1).plan(*feeds)
        except fg.MemoryLimitError:
            return plan.peak_bytes


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.frees_at_once
def test_under_a_limit_branches_run_one_after_another_and_give_the_same_bits(threads):
    with fg.Graph() as graph:
        x, sums = branches(8)
    array = RNG.standard_normal((500, 500))
    with fg.Session(graph, threads=threads, jit=False) as session:
        wide = session.function([x], sums)
        narrow = session.function([x], sums, memory_limit="7MB")
        expected = wide(array)
        assert wide.plan().peak_bytes > 8 * array.nbytes
        assert narrow.plan().peak_bytes < 7 * MB
        assert any(note.startswith("memory: kernels in another order") for note in narrow.plan().notes)
        assert "and 7.0 MB allowed" in str(narrow.plan())
        for _ in range(3):
            session.memory.trim()
            assert traced_peak(lambda: np.testing.assert_array_equal(narrow(array), expected)) < 7.5 * MB
            assert report(session).peak_bytes <= 7 * MB


@pytest.mark.parametrize("jit", JIT)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.frees_at_once
def test_a_network_keeps_to_the_lowest_limit_on_one_thread_and_on_two_and_learns_the_same_bits(network, jit):
    with fg.Graph() as graph:
        inputs, outputs, feeds = network()

    def learned(threads, limit):
        with fg.Session(graph, threads=threads, jit=jit, memory_limit=limit) as session:
            step = session.function(inputs, outputs)
            for _ in range(2):
                step(*feeds)
            session.memory.trim()
            taken = traced_peak(lambda: step(*feeds))
            return taken, report(session).peak_bytes, {name: value.tobytes() for name, value in session.variables.items()}

    with fg.Session(graph, threads=1, jit=jit) as session:
        limit = lowest_limit(session, inputs, outputs, feeds)
    _, usual, expected = learned(1, None)
    assert limit <= usual
    for threads in (1, 2):
        taken, reported, values = learned(threads, limit)
        assert reported <= limit
        assert taken < 1.05 * limit  # with what the pool keeps
        assert values == expected


def test_what_is_below_the_limit_runs_as_without():
    with fg.Graph() as graph:
        x, sums = branches(3)
    with fg.Session(graph, jit=False) as session:
        plan = session.plan(sums, {x: (500, 500)})
        limited = session.function([x], sums, memory_limit="1GB").plan()
        assert [str(unit) for unit in limited.units] == [str(unit) for unit in plan.units]
        assert (limited.peak_bytes, limited.notes, limited.memory_limit) == (plan.peak_bytes, plan.notes, 10**9)


def test_the_bodies_of_loops_are_put_in_order_too():
    def turn(total, row):
        large = [fg.tanh(row * (i + 1.0)) for i in range(8)]
        return total + sum(fg.max(fg.sort(y, axis=0), axis=0) for y in large), None

    with fg.Graph() as graph:
        x = fg.placeholder("x", (3, 300, 300), "float64")
        total, _ = fg.scan(turn, np.zeros(300), x)
    rows = RNG.standard_normal((3, 300, 300))
    with fg.Session(graph, jit=False) as session:
        usual = session.plan(total, {x: rows}).peak_bytes
        call = session.function([x], total, memory_limit=usual // 2)
        assert call.plan().peak_bytes <= usual // 2
        assert call(rows).tobytes() == session.run(total, {x: rows}).tobytes()


# --- the error


def test_what_no_order_can_keep_is_refused_before_the_run_with_what_is_alive(text_of):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (500, 500), "float64")
        y = fg.cumulative_sum(x, axis=0)
        z = y @ fg.cumulative_sum(y, axis=1)
    with fg.Session(graph, jit=False, memory_limit=5 * MB) as session:
        with pytest.raises(fg.MemoryLimitError) as caught:
            session.run(z, {x: np.zeros((500, 500))})
        assert text_of(caught.value).startswith("the run would take 6.0 MB, in the best order that was found, and the limit is 5.0 MB")
        for line in (
            "2.0 MB   (500, 500) float64   cumulative_sum, made at",
            "y = fg.cumulative_sum(x, axis=0)",
            "z = y @ fg.cumulative_sum(y, axis=1)",
        ):
            assert line in text_of(caught.value)
        assert isinstance(caught.value, MemoryError)
        assert session.run(y, {x: np.ones((500, 500))})[-1, -1] == 500  # the session goes on


@pytest.mark.parametrize("network", NETWORKS)
def test_what_is_alive_at_the_peak_adds_up_to_it(network):
    with fg.Graph() as graph:
        inputs, outputs, feeds = network()
    with fg.Session(graph) as session:
        plan = session.function(inputs, outputs).plan(*feeds)
        alive, during = alive_at_peak(plan)
        assert sum(nbytes for nbytes, _, _ in alive) == plan.peak_bytes
        assert during in list(plan.units)


@pytest.mark.parametrize(
    ("text", "count"),
    [("512MB", 512 * MB), ("1.5 GiB", 3 * 2**29), ("10kB", 10_000), ("10 KB", 10_000), ("7B", 7), (12, 12)],
)
def test_a_limit_is_a_number_of_bytes_or_text(text, count):
    assert as_bytes(text, "limit") == count


@pytest.mark.parametrize("limit", [0, -1, "512", "MB", "1 PB", "-1MB", 1.5, True, [1]])
def test_what_is_no_number_of_bytes_is_refused(limit):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (), "float64")
    with pytest.raises(fg.ArgumentError, match="memory_limit is a number of bytes, at least 1, or text such as"):
        fg.Session(graph, memory_limit=limit)
    with fg.Session(graph) as session, pytest.raises(fg.ArgumentError, match="function: memory_limit"):
        session.function([x], x + 1, memory_limit=limit)


# --- the gate


@st.composite
def rooms(draw):
    """A limit, and tasks that keep it in their order: (what it waits for, bytes that it adds, bytes that outlive it)."""
    count = draw(st.integers(1, 12))
    size = st.integers(0, 20)
    tasks = []
    for task in range(count):
        keeps = draw(size)
        after = draw(st.sets(st.integers(0, task - 1), max_size=3)) if task else set()
        tasks.append((after, keeps + draw(size), keeps))
    last = {task: max((other for other, (after, _, _) in enumerate(tasks) if task in after), default=None) for task in range(count)}
    return tasks, last, draw(st.integers(0, 15)), draw(st.randoms(use_true_random=False))


@settings(max_examples=300)
@given(rooms())
def test_whatever_runs_side_by_side_stays_below_the_limit_and_comes_to_its_end(case):
    tasks, last, more, random = case
    readers = {task: {other for other, (after, _, _) in enumerate(tasks) if task in after} for task in range(len(tasks))}
    live, needs = 0, []
    for task, (_, peak, keeps) in enumerate(tasks):
        needs.append(live + peak)
        live += keeps - sum(tasks[other][2] for other in range(task) if last[other] == task)
    limit = max(needs) + more
    gate = Gate(Room(limit, [peak for _, peak, _ in tasks], [keeps for _, _, keeps in tasks], needs))
    live, most = 0, 0
    running: list[int] = []
    done: set[int] = set()
    while len(done) < len(tasks):
        ready = [t for t, (after, _, _) in enumerate(tasks) if after <= done and t not in done and t not in running]
        random.shuffle(ready)
        for task in ready:
            if gate.admits(task, live):
                live += tasks[task][1]
                running.append(task)
        most = max(most, live)
        assert running, "nothing runs, and nothing may start"
        task = running.pop(random.randrange(len(running)))
        done.add(task)
        live += tasks[task][2] - tasks[task][1]
        live -= sum(tasks[other][2] for other in tasks[task][0] if readers[other] <= done)
    assert most <= limit


def test_tasks_for_which_there_is_room_run_side_by_side(monkeypatch):
    with fg.Graph() as graph:
        x, sums = branches(4)
    with fg.Session(graph, threads=2, jit=False) as session:
        limited = session.function([x], sums, memory_limit="9MB")
        (program,) = limited._programs.values()
        assert not program.plan.tasks[0].after
        assert not program.plan.tasks[1].after
        meeting, execute = threading.Barrier(2, timeout=60), program.execute

        def met(task, values, run):
            if task < 2:
                meeting.wait()
            execute(task, values, run)

        monkeypatch.setattr(program, "execute", met)
        limited(np.zeros((500, 500)))
        assert report(session).peak_bytes <= 9 * MB


def test_a_run_whose_plan_breaks_its_word_goes_on_one_task_at_a_time(monkeypatch):
    with fg.Graph() as graph:
        x, sums = branches(4)
    array = RNG.standard_normal((500, 500))
    with fg.Session(graph, threads=2, jit=False) as session:
        expected = session.run(sums, {x: array})
        limited = session.function([x], sums, memory_limit="9MB")
        (program,) = limited._programs.values()
        room = program.room
        assert room is not None
        monkeypatch.setattr(program, "room", Room(1, room.peaks, room.keeps, [2] * len(room.peaks)))
        for value, truth in zip(limited(array), expected, strict=True):
            np.testing.assert_array_equal(value, truth)


def test_a_run_that_fails_or_is_cancelled_drops_the_tasks_that_wait_for_memory():
    def fail(v):
        raise ValueError("planted")

    with fg.Graph() as graph:
        x, sums = branches(6)
    with fg.Session(graph, threads=2, jit=False) as session:
        limited = session.function([x], sums, memory_limit=lowest_limit(session, [x], sums, [np.zeros((500, 500))]))
        units = [unit for unit in limited.plan().units if unit.node.op.name == "sort"]
        (program,) = limited._programs.values()
        kernel = units[2].kernel
        units[2].kernel = lambda *arrays, **out: fail(arrays)
        program.tasks = [program._pieces(task.units) for task in program.plan.tasks]
        with pytest.raises(fg.ExecutionError, match="planted"):
            limited(np.zeros((500, 500)))
        units[2].kernel = kernel
        program.tasks = [program._pieces(task.units) for task in program.plan.tasks]
        np.testing.assert_array_equal(limited(np.zeros((500, 500)))[5], np.zeros(500))
        assert not session._runs.active


def test_a_cancelled_run_drops_the_tasks_that_wait_for_memory(monkeypatch):
    with fg.Graph() as graph:
        x, sums = branches(4)
    array = RNG.standard_normal((500, 500))
    with fg.Session(graph, threads=2, jit=False) as session:
        limit = lowest_limit(session, [x], sums, [array])
    with fg.Session(graph, threads=2, jit=False, memory_limit=limit) as session:
        expected = session.run(sums, {x: array})
        (program,) = session._programs.values()
        entered, opened, execute = threading.Event(), threading.Event(), program.execute

        def waits(task, values, run):
            entered.set()
            assert opened.wait(60)
            execute(task, values, run)

        with monkeypatch.context() as patch:
            patch.setattr(program, "execute", waits)
            future = session.run_async(sums, {x: array})
            assert entered.wait(60)
            (run,) = session._runs.active
            assert run._held
            future.cancel()
            opened.set()
            with pytest.raises(fg.RunCancelledError):
                future.result()
        for value, truth in zip(session.run(sums, {x: array}), expected, strict=True):
            np.testing.assert_array_equal(value, truth)


def test_what_is_lent_and_comes_back_is_bounded_too():
    pool = BufferPool(open_device("cpu:0"))
    arrays = [pool.lend((100, 100), np.dtype("float64")) for _ in range(3)]
    del arrays
    pool.bound(100_000)
    assert pool.idle_bytes == 80_000
    pool.bound(-1)
    assert (pool.idle_bytes, pool.limit, len(pool._returned)) == (0, 0, 0)


def test_the_pool_keeps_what_the_limit_leaves():
    with fg.Graph() as graph:
        x, sums = branches(4)
    array = np.zeros((500, 500))
    with fg.Session(graph, threads=1, jit=False) as session:
        session.run(sums, {x: array})
        assert session.memory.idle_bytes > 7 * MB
        session.function([x], sums, memory_limit="7MB")(array)
        assert session.memory.idle_bytes <= 7 * MB


def test_a_view_of_kept_memory_is_not_given_back_as_an_array_of_its_own():
    with fg.Graph() as graph:
        a, b = fg.placeholder("a", (600, 600)), fg.placeholder("b", (600, 600))
        y, z = fg.matrix_transpose(a @ b), fg.exp(a)
    r = np.random.default_rng(0)
    feeds = {a: r.standard_normal((600, 600), np.float32), b: r.standard_normal((600, 600), np.float32)}
    shapes = {a: (600, 600), b: (600, 600)}
    with fg.Session(graph, threads=1, jit=False) as session:
        assert not session.plan(y, shapes).lent and session.plan(z, shapes).lent
        # The next product would be written into the transposed array, with other additions.
        assert len({session.run(y, feeds).tobytes() for _ in range(4)}) == 1


# --- forward values that are made again


def deep(length, layer):
    """A chain of ``length`` layers of 100 units on 500 examples: its input, the outputs of the layers, the weights, and the loss."""
    x = fg.placeholder("x", ("batch", 100), "float64")
    layers, h = [], x
    for i in range(length):
        with fg.scope(f"layer{i}"):
            h = layer(h, fg.variable(fg.init.glorot_uniform((100, 100), dtype="float64"), name="w"))
        layers.append(h)
    return x, layers, x.graph.variables, fg.mean(fg.square(h))


def dense(h, w):
    return fg.tanh(h @ w)


def residual(h, w):
    mean = fg.mean(h, axis=1, keepdims=True)
    return h + fg.nn.dropout(fg.nn.relu((h - mean) @ w), 0.2)


def halves(h, w):
    left, right = fg.split(fg.sin(h @ w), 2, axis=1)
    return fg.concat([left * right, fg.reshape(fg.permute_dims(fg.reshape(right, (-1, 5, 10)), (0, 2, 1)), (-1, 50))], axis=1)


def loop(h, w):
    return fg.scan(lambda carry, _: (fg.tanh(carry @ w), None), h, length=3)[0]


X500 = RNG.standard_normal((500, 100))


@pytest.mark.parametrize("recompute", ["list", "sqrt"])
@pytest.mark.parametrize("layer", [dense, residual, halves, loop])
def test_a_gradient_that_makes_values_again_has_the_same_bits_in_less_memory(layer, recompute):
    with fg.Graph() as graph:
        x, layers, weights, loss = deep(16, layer)
        kept = fg.gradients(loss, weights)
        again = fg.gradients(loss, weights, recompute=layers[3::4] if recompute == "list" else recompute)
    feeds = {x: X500}
    peaks, values = [], []
    for grads in (kept, again):
        for threads in (1, 2):
            with fg.Session(graph, threads=threads, jit=False, seed=3) as session:
                values.append([value.tobytes() for value in session.run([loss, *grads], feeds)])
                peaks.append(session.plan([loss, *grads], feeds).peak_bytes)
    assert values[1:] == values[:-1]
    if layer is not loop:  # (whose own stacks are kept)
        results = sum(w.size for w in weights) * 8
        assert peaks[2] - results < 0.65 * (peaks[0] - results)


def test_a_step_of_a_transformer_that_makes_values_again_learns_the_same_in_less_memory():
    learned, peaks = [], []
    for recompute in (None, "sqrt"):
        with fg.Graph() as graph:
            x = fg.placeholder("x", ("batch", 64), "int32")
            logits = example("transformer_text").Writer(97, 96, 4)(x)
            loss = fg.mean(fg.nn.softmax_cross_entropy(logits, x))
            train = fg.optim.SGD(0.1).minimize(loss, recompute=recompute)
        with fg.Session(graph, threads=2, jit=False) as session:
            step = session.function([x], [loss, train])
            rows = np.arange(16 * 64, dtype=np.int32).reshape(16, 64) % 97
            step(rows)
            learned.append({name: value.tobytes() for name, value in session.variables.items()})
            peaks.append(step.plan(rows).peak_bytes)
    assert learned[0] == learned[1]
    assert peaks[1] < 0.6 * peaks[0]


def test_values_that_are_made_again_wait_for_the_cotangent_behind_them():
    with fg.Graph() as graph:
        x, layers, weights, loss = deep(4, dense)
        grads = fg.gradients(loss, weights, recompute=[layers[1]])
    again = [node for node in graph if node.name.startswith("again/")]
    assert [node.op.name for node in again] == ["identity", "matmul", "tanh", "matmul"]
    (held,) = [node for node in again if node.op.name == "identity"]
    assert held.inputs == (x,)
    assert all(before.name.startswith("gradients/") for before in held.control)
    with fg.Session(graph, jit=False) as session:
        names = [unit.node.name for unit in session.plan(grads, {x: X500}).units]
    assert max(i for i, name in enumerate(names) if name.startswith("layer")) < min(i for i, name in enumerate(names) if "again/" in name)


def test_gradients_of_gradients_that_make_values_again():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (), "float64")
        h = [x]
        for _ in range(9):
            h.append(fg.sin(h[-1] * 1.1))
        slopes = []
        for recompute in (None, "sqrt", [h[4]]):
            (first,) = fg.gradients(h[-1], x, recompute=recompute)
            (second,) = fg.gradients(first, x, recompute=recompute)
            slopes.append([first, second])
    with fg.Session(graph) as session:
        plain, root, listed = session.run(slopes, {x: 0.7})
    np.testing.assert_allclose(root, plain, rtol=1e-14)
    np.testing.assert_allclose(listed, plain, rtol=1e-14)


def test_what_counts_as_constant_is_not_made_again():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (), "float64")
        constant = fg.exp(fg.cos(x))
        kept = fg.sin(constant * x)
        (slope,) = fg.gradients(fg.sin(kept), x, stop_gradients=[constant], recompute=[kept])
    assert [node.op.name for node in graph if node.name.startswith("again/")] == ["identity", "multiply"]
    c = np.exp(np.cos(0.3))
    with fg.Session(graph) as session:
        np.testing.assert_allclose(session.run(slope, {x: 0.3}), np.cos(np.sin(c * 0.3)) * np.cos(c * 0.3) * c, rtol=1e-12)


def test_what_cannot_be_kept_is_refused(refused):
    with fg.Graph():
        x = fg.placeholder("x", (), "float64")
        y, other = fg.sin(x) * x, fg.cos(x)
    error = refused(lambda: fg.gradients(y, x, recompute=[other]))
    assert error.message == "gradients: recompute keeps cos, on which no y depends"
    nonsense: Any = [3]
    assert "those that recompute keeps are tensors, got 3" in refused(lambda: fg.gradients(y, x, recompute=nonsense)).message
    unknown: Any = "all"
    assert "sqrt" in refused(lambda: fg.gradients(y, x, recompute=unknown)).message
