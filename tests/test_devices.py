"""Devices: what is listed, where nodes are placed, and that several devices give the bits of one."""

import re
import runpy
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.devices import open_device
from flowgraph.devices.processors import processors
from flowgraph.jit import llvm
from flowgraph.viz.plan_picture import PlanPicture

# --- what there is


def test_the_host_is_listed_with_its_memory_and_its_libraries():
    host = fg.devices()[0]
    assert host.name == "cpu:0" and host.processor and not host.missing
    assert host.memory_bytes > 2**20 and host.libraries["NumPy"] == np.__version__
    assert "openblas" in host.libraries or len(host.libraries) > 1
    assert str(host).startswith(f"cpu:0: {host.processor}; {host.memory_bytes / 2**30:.1f} GiB; NumPy {np.__version__}")


def test_a_gpu_that_is_missing_is_listed_with_the_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert str(fg.devices()[1]) == 'cuda: cannot be used: CuPy is not installed: pip install "flowgraph[cuda12]" or "flowgraph[cuda13]"'


def cupy(**runtime):
    """As much of CuPy as the listing asks."""
    return SimpleNamespace(__version__="13.0", cuda=SimpleNamespace(runtime=SimpleNamespace(runtimeGetVersion=lambda: 12040, **runtime)))


def test_gpus_that_cupy_finds_are_listed(monkeypatch):
    properties = {"name": b"NVIDIA Some", "totalGlobalMem": 2**33, "major": 9, "minor": 0}
    monkeypatch.setitem(sys.modules, "cupy", cupy(getDeviceCount=lambda: 2, getDeviceProperties=lambda index: properties))
    _, first, second = fg.devices()
    assert (first.name, second.name) == ("cuda:0", "cuda:1")
    assert str(first) == "cuda:0: NVIDIA Some; 8.0 GiB; compute capability 9.0; CuPy 13.0, CUDA 12.4"


def test_a_driver_that_fails_is_a_reason_and_no_error(monkeypatch):
    def fails():
        raise RuntimeError("cudaErrorInsufficientDriver: the driver is too old")

    monkeypatch.setitem(sys.modules, "cupy", cupy(getDeviceCount=fails))
    assert fg.devices()[1].missing == "CuPy 13.0 finds no GPU: cudaErrorInsufficientDriver: the driver is too old"
    monkeypatch.setitem(sys.modules, "cupy", cupy(getDeviceCount=lambda: 0))
    assert fg.devices()[1].missing == "CuPy 13.0 finds no GPU"


def test_a_session_on_a_gpu_that_is_not_there_says_why(monkeypatch):
    def refused(name):
        with pytest.raises(fg.ArgumentError) as caught:
            fg.Session(fg.Graph(), device=name)
        return caught.value.message

    monkeypatch.setitem(sys.modules, "cupy", None)
    assert refused("cuda:0") == 'cuda:0: CuPy is not installed: pip install "flowgraph[cuda12]" or "flowgraph[cuda13]"'
    monkeypatch.setitem(sys.modules, "cupy", cupy(getDeviceCount=lambda: 1))
    assert refused("cuda:1") == "cuda:1: this machine has 1 GPU"

    def fails():
        raise RuntimeError("the driver is too old")

    monkeypatch.setitem(sys.modules, "cupy", cupy(getDeviceCount=fails))
    assert refused("cuda:0") == "cuda:0: CuPy 13.0 finds no GPU: the driver is too old"


def test_importing_flowgraph_imports_no_cupy():
    code = "import sys, flowgraph as fg; fg.devices; fg.Session(fg.Graph()).close(); print('cupy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"


# --- sessions with several


def test_a_session_names_its_devices():
    with fg.Graph() as graph, fg.Session(graph, devices=["cpu:0", "cpu:1"], device="cpu:1") as session:
        assert [device.name for device in session.devices] == ["cpu:1", "cpu:0"]
        assert session.device.name == "cpu:1"
    with fg.Session(graph, device="cpu:3") as session:
        assert [device.name for device in session.devices] == ["cpu:3"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"devices": []}, "Session: devices is a list of names, got []"),
        ({"devices": "cpu:0"}, "Session: devices is a list of names, got 'cpu:0'"),
        ({"devices": ["cpu:0", "cpu:0"]}, "Session: a device is named twice in ['cpu:0', 'cpu:0']"),
        ({"devices": ["cpu:0", "gpu"]}, "'gpu' is not a device"),
        ({"devices": ["cpu:0", 1]}, "1 is not a device"),
        ({"devices": ["cpu:0"], "device": "cpu:1"}, "Session: device 'cpu:1' is none of devices, cpu:0"),
    ],
)
def test_devices_that_make_no_session_are_refused(options, message):
    with pytest.raises(fg.ArgumentError) as caught:
        fg.Session(fg.Graph(), **options)
    assert caught.value.message == message


def test_a_request_that_the_session_cannot_satisfy_names_the_node_its_line_and_the_devices(text_of):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (3,))
        with fg.device("cpu:2"):
            y = fg.exp(x, name="y")
    told = (
        "y asks for cpu:2, which this session does not have\n"
        "  at        test_devices.py:LINE    session.plan(y, {x: (3,)})\n"
        '  made at   test_devices.py:LINE    y = fg.exp(x, name="y")\n'
        "  help      "
    )
    with fg.Session(graph) as session, pytest.raises(fg.ArgumentError) as caught:
        session.plan(y, {x: (3,)})
    assert text_of(caught.value) == f"{told}the session computes on cpu:0; ask for it, or leave the request out"
    with fg.Session(graph, devices=["cpu:0", "cpu:1"]) as session, pytest.raises(fg.ArgumentError) as caught:
        session.plan(y, {x: (3,)})
    assert text_of(caught.value) == f"{told}the session computes on cpu:0 and cpu:1; ask for one of them, or leave the request out"


def test_a_request_of_a_node_within_a_compiled_loop_counts():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (512, 512))
        with fg.device("cpu:7"):
            y = fg.exp(x)
        z = fg.tanh(y + 1.0)
    with fg.Session(graph) as session, pytest.raises(fg.ArgumentError, match="asks for cpu:7, which this session does not have"):
        session.plan(z, {x: (512, 512)})


def test_an_update_of_a_variable_on_a_device_that_is_not_there_is_refused():
    with fg.Graph() as graph:
        with fg.device("cpu:5"):
            w = fg.variable(1.0, name="w")
        step = fg.assign(w, fg.constant(2.0))
    with fg.Session(graph, devices=["cpu:0", "cpu:1"]) as session, pytest.raises(fg.ArgumentError, match="w asks for cpu:5"):
        session.run(step)


# --- placement


def placed(plan):
    """The device of each kernel, by the name of its node."""
    return {unit.node.name: unit.device for unit in plan.units}


def copies(plan):
    """(tensor, device) of each copy; of what is copied in parts, once."""
    return [(unit.node.inputs[0].name, unit.device) for unit in plan.units if unit.node.op.name == "copy" and not unit.part]


@pytest.fixture
def session():
    with fg.Graph() as graph, fg.Session(graph, devices=["cpu:0", "cpu:1"], threads=1, jit=False) as session:
        yield session


def test_what_nobody_asks_to_move_stays_on_the_first_device(session):
    x = fg.placeholder("x", (64, 64))
    plan = session.plan(fg.sum(x @ x), {x: (64, 64)})
    assert set(placed(plan).values()) == {"cpu:0"} and len(plan.tasks) == 1
    assert "place: kernels: 2 on cpu:0, 0 on cpu:1; 0 tensors of 0 B copied" in plan.notes


def test_requests_come_first_and_the_rest_follows_its_inputs(session):
    x = fg.placeholder("x", (64, 64))
    with fg.device("cpu:1"):
        y = fg.matmul(x, x, name="asked")
    z = fg.exp(y, name="follows")
    far = fg.add(fg.exp(x, name="stays"), fg.sum(z), name="most")
    plan = session.plan(far, {x: (64, 64)})
    assert placed(plan) == {
        "x to cpu:1": "cpu:1",
        "asked": "cpu:1",
        "follows": "cpu:1",
        "sum": "cpu:1",
        "stays": "cpu:0",
        "sum to cpu:0": "cpu:0",
        "most": "cpu:0",
    }
    text = str(plan)
    assert re.search("# asked: .*; placed as asked", text) and re.search("# follows: .*; placed with its inputs", text)
    assert re.search("# most: .*; placed with most of its inputs", text)
    assert "note: place: kernels: 2 on cpu:0, 3 on cpu:1; 2 tensors of 16.4 kB copied" in text
    changes = session.explain(far, {x: (64, 64)}).changes
    assert ("place", "asked", "runs on cpu:1, placed as asked") in changes


def test_a_tensor_is_copied_once_for_all_its_readers_on_a_device(session):
    x = fg.placeholder("x", (300, 300))
    y = fg.exp(x, name="y")
    with fg.device("cpu:1"):
        parts = [fg.sin(y), fg.cos(y), y @ y]
    plan = session.plan([*parts, fg.tanh(y)], {x: (300, 300)})
    assert copies(plan) == [("y", "cpu:1")]


def test_constants_are_on_every_device(session):
    table = fg.constant(np.ones((64, 64), np.float32))
    with fg.device("cpu:1"):
        y = table @ fg.variable(np.ones((64, 64), np.float32), name="w")
    plan = session.plan(y)
    assert copies(plan) == [] and placed(plan) == {"matmul": "cpu:1"}


def test_a_new_value_is_computed_where_its_variable_lives(session):
    with fg.device("cpu:1"):
        w = fg.variable(np.ones((64, 64), np.float32), name="w")
    x = fg.placeholder("x", (64, 64))
    new = fg.add(fg.exp(x), 1.0, name="new")
    plan = session.plan(fg.assign(w, new), {x: (64, 64)})
    assert placed(plan) == {"exp": "cpu:0", "exp to cpu:1": "cpu:1", "new": "cpu:1"}
    assert "new: (64, 64) float32, kept buffer; placed with w, which it updates" in str(plan)


def test_a_new_value_that_has_to_be_made_elsewhere_is_copied_to_its_variable(session):
    with fg.device("cpu:1"):
        w = fg.variable(np.ones((64, 64), np.float32), name="w")
    with fg.device("cpu:0"):
        new = fg.multiply(fg.placeholder("x", (64, 64)), 2.0, name="new")
    step = fg.assign(w, new)
    plan = session.plan(step, {session.graph["x"]: (64, 64)})
    assert placed(plan) == {"new": "cpu:0", "new to cpu:1": "cpu:1"}
    session.run(step, {session.graph["x"]: np.full((64, 64), 3, np.float32)})
    assert (session.variables["w"] == 6).all()


def test_what_an_optimiser_keeps_for_a_variable_lives_where_that_does(session):
    with fg.device("cpu:1"):
        w = fg.variable(np.ones((64, 64), np.float32), name="w")
        loss = fg.sum(fg.square(w))
    step = fg.optim.Adam(0.1).minimize(loss)
    assert {v.node.device for v in session.graph.variables if v.shape == w.shape} == {"cpu:1"}
    plan = session.plan(step)
    assert {unit.device for unit in plan.units if unit.spec.shape == w.shape} == {"cpu:1"}


def test_a_loop_runs_with_its_body_on_the_device_of_its_node(session):
    xs = fg.placeholder("xs", (5, 64))
    with fg.device("cpu:1"):
        total, _ = fg.scan(lambda carry, x: (fg.tanh(carry + x), carry), fg.zeros((64,)), xs)
    plan = session.plan(total, {xs: (5, 64)})
    (loop,) = [unit for unit in plan.units if unit.bodies]
    assert loop.device == "cpu:1"
    assert {unit.device for body in loop.bodies for unit in body.units} == {"cpu:1"}
    rows = np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32)
    with fg.Session(session.graph, devices=["cpu:1"], jit=False) as alone:
        assert session.run(total, {xs: rows}).tobytes() == alone.run(total, {xs: rows}).tobytes()


def test_a_request_within_a_body_is_one_of_the_loop(session):
    def body(carry, x):
        with fg.device("cpu:1"):
            return fg.tanh(carry + x), carry

    total, _ = fg.scan(body, fg.zeros((64,)), fg.placeholder("xs", (5, 64)))
    plan = session.plan(total, {session.graph["xs"]: (5, 64)})
    assert {unit.device for unit in plan.units if unit.bodies} == {"cpu:1"}


def test_a_body_that_asks_for_two_devices_is_refused(session):
    def body(carry, x):
        with fg.device("cpu:1"):
            grown = fg.tanh(carry, name="grown")
        with fg.device("cpu:0"):
            return grown + x, carry

    total, _ = fg.scan(body, fg.zeros((64,)), fg.placeholder("xs", (5, 64)))
    with pytest.raises(fg.ArgumentError, match="asks for cpu:0 within a loop or branch that runs on cpu:1"):
        session.plan(total, {session.graph["xs"]: (5, 64)})


def test_branches_run_on_the_device_of_their_node(session):
    x = fg.placeholder("x", (64,))
    with fg.device("cpu:1"):
        y = fg.cond(fg.sum(x) > 0, lambda: fg.exp(x), lambda: fg.sin(x))
    z = fg.while_loop(lambda v: fg.sum(v) < 100, lambda v: v * 2, y)
    plan = session.plan(z, {x: (64,)})
    assert [unit.device for unit in plan.units if unit.bodies] == ["cpu:1", "cpu:1"]
    with fg.Session(session.graph, devices=["cpu:1"], jit=False) as alone:
        for value in (np.full(64, 0.5, np.float32), np.full(64, -0.5, np.float32)):
            if value[0] > 0:
                assert session.run(z, {x: value}).tobytes() == alone.run(z, {x: value}).tobytes()
            else:
                assert session.run(y, {x: value}).tobytes() == alone.run(y, {x: value}).tobytes()


@pytest.mark.skipif(not llvm.is_available(), reason="llvmlite is not installed")
def test_a_compiled_loop_is_on_one_device():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (256, 256))
        y = fg.exp(x) + 1.0
        with fg.device("cpu:1"):
            z = fg.tanh(y) * 2.0
        free = fg.sqrt(z)
        with fg.device("cpu:0"):
            back = fg.sqrt(z)
    rows = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    with fg.Session(graph, devices=["cpu:0", "cpu:1"], jit=True) as session:
        plan = session.plan(free, {x: (256, 256)})
        assert len([unit for unit in plan.units if unit.node.op.name != "copy"]) == 1  # what asks for nothing is in one loop with what does
        assert {unit.device for unit in plan.units} == {"cpu:1"}
        plan = session.plan(back, {x: (256, 256)})
        assert placed(plan) == {"x to cpu:1": "cpu:1", "multiply": "cpu:1", "multiply to cpu:0": "cpu:0", "sqrt_1": "cpu:0"}
        np.testing.assert_allclose(session.run(back, {x: rows}), np.sqrt(2 * np.tanh(np.exp(rows) + 1)), 1e-6)


# --- the same bits as one device


def mlp(first, second):
    """A training step of two layers on two devices: inputs, outputs, feeds."""
    r = np.random.default_rng(0)
    x, labels = fg.placeholder("x", ("n", 256)), fg.placeholder("labels", ("n",), "int64")
    with fg.device(first):
        w1, b1 = fg.variable(r.standard_normal((256, 128)).astype("f") * 0.1, name="w1"), fg.variable(np.zeros(128, "f"), name="b1")
        hidden = fg.nn.relu(x @ w1 + b1)
    with fg.device(second):
        w2, b2 = fg.variable(r.standard_normal((128, 10)).astype("f") * 0.1, name="w2"), fg.variable(np.zeros(10, "f"), name="b2")
        scores = hidden @ w2 + b2
    loss = fg.mean(fg.nn.softmax_cross_entropy(scores, labels))
    step = fg.optim.Adam(0.01).minimize(loss)
    feeds = {x: r.standard_normal((1500, 256)).astype("f"), labels: r.integers(0, 10, 1500)}
    return [loss, step], feeds


def lenet(first, second):
    """LeNet, forward, with the convolutions on one device and the rest on another."""
    r = np.random.default_rng(0)

    def weight(*shape):
        return fg.variable(r.standard_normal(shape).astype("f") * 0.1)

    x = fg.placeholder("x", ("n", 1, 28, 28))
    with fg.device(first):
        h = fg.nn.max_pool2d(fg.nn.relu(fg.nn.conv2d(x, weight(20, 1, 5, 5)) + weight(20, 1, 1)), 2)
        h = fg.nn.max_pool2d(fg.nn.relu(fg.nn.conv2d(h, weight(50, 20, 5, 5)) + weight(50, 1, 1)), 2)
    with fg.device(second):
        h = fg.nn.relu(fg.reshape(h, (-1, 800)) @ weight(800, 500) + weight(500))
        y = h @ weight(500, 10) + weight(10)
    return [y, fg.nn.softmax(y)], {x: r.standard_normal((48, 1, 28, 28)).astype("f")}


def bits(network, names, **options):
    """What three runs give, and the variables behind them, as bytes."""
    with fg.Graph() as graph:
        fetches, feeds = network(names[0], names[-1])
    with fg.Session(graph, devices=names, **options) as session:
        results = [session.run(fetches, feeds) for _ in range(3)]
        values = [value for each in results for value in each if value is not None] + list(session.variables.copy().values())
        plan = session.plan(fetches, {tensor: value.shape for tensor, value in feeds.items()})
        assert {task.device for task in plan.tasks} == set(names)
        copied = copies(plan)
        assert len(copied) == len(set(copied)) and bool(copied) == (len(names) > 1)
        for task in plan.tasks:
            assert {unit.device for unit in task.units} == {task.device}
    return [value.tobytes() for value in values]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.skipif(not llvm.is_available(), reason="no llvmlite"))])
@pytest.mark.parametrize("network", [mlp, lenet])
def test_two_devices_give_the_bits_of_one(network, jit, threads):
    assert bits(network, ["cpu:0", "cpu:1"], threads=threads, jit=jit) == bits(network, ["cpu:0"], threads=1, jit=jit)


# Each takes two square matrices with an even number of rows.
STEPS = [
    lambda a, b: a @ b,
    lambda a, b: fg.tanh(a) + b,
    lambda a, b: fg.matrix_transpose(a),
    lambda a, b: a - fg.mean(b, axis=1, keepdims=True),
    lambda a, b: fg.flip(a, 0),
    lambda a, b: a[:, ::-1] * fg.matrix_transpose(b)[::-1],
    lambda a, b: fg.concat([a[::2], b[1::2]]),
    lambda a, b: fg.broadcast_to(fg.mean(a, axis=0), a.shape),
    lambda a, b: fg.sort(a),
    lambda a, b: fg.nn.softmax(a),
    lambda a, b: fg.concat(fg.split(a, 2)[::-1]),
    lambda a, b: a + fg.scan(lambda c, row: (fg.tanh(c + row), None), fg.mean(b, axis=0), a)[0],
    lambda a, b: fg.cond(fg.sum(a) > 0, lambda: a * 2.0, lambda: b + 1.0),
]


def random_program(seed, names):
    """Fetches and feeds of a program that asks for some of ``names`` at random, and has the same nodes whatever these are."""
    rng, asks = np.random.default_rng(seed), np.random.default_rng(seed + 1000)
    size = [8, 34, 256][seed % 3]
    x = fg.placeholder("x", (size, size))
    tensors = [x]
    for step in range(12):
        wish = str(asks.choice(names)) if asks.random() < 0.6 else None
        with fg.device(wish):
            if step < 2:
                tensors.append(fg.variable((rng.standard_normal((size, size)) / size).astype("f"), name=f"w{step}"))
            else:
                a, b = rng.integers(len(tensors), size=2)
                tensors.append(STEPS[rng.integers(len(STEPS))](tensors[a], tensors[b]))
    loss = fg.sum(fg.tanh(tensors[-1])) + fg.mean(fg.stack([fg.sum(fg.square(t)) for t in tensors[1:]]))
    train = fg.optim.Adam(0.01).minimize(loss)
    return [loss, tensors[-1], tensors[-3], train], {x: rng.standard_normal((size, size)).astype("f")}


@pytest.mark.parametrize("seed", range(15))
def test_a_random_program_on_three_devices_has_the_bits_of_one(seed):
    results = []
    for names, threads in ((["cpu:0"], 1), (["cpu:0", "cpu:1", "cpu:2"], 1), (["cpu:0", "cpu:1", "cpu:2"], 2)):
        with fg.Graph() as graph:
            fetches, feeds = random_program(seed, names)
        with fg.Session(graph, devices=names, threads=threads, jit=False) as session:
            values = [value for _ in range(3) for value in session.run(fetches, feeds)[:-1]]
            results.append([value.tobytes() for value in [*values, *session.variables.copy().values()]])
            copied = copies(session.plan(fetches, {tensor: value.shape for tensor, value in feeds.items()}))
            assert len(copied) == len(set(copied)) and bool(copied) == (len(names) > 1)
    assert results[0] == results[1] == results[2]


def test_what_is_cut_is_copied_in_the_same_parts(session):
    x = fg.placeholder("x", (4096, 256))
    y = fg.matmul(x, fg.variable(np.ones((256, 256), np.float32)), name="y")
    with fg.device("cpu:1"):
        z = fg.sum(fg.sqrt(y), axis=0)
    plan = session.plan(z, {x: (4096, 256)})
    rows = {name: [unit.read for unit in plan.units if unit.node.name == name] for name in ("y", "y to cpu:1", "sqrt")}
    assert len(rows["y"]) > 1 and rows["y"] == rows["y to cpu:1"] == rows["sqrt"]
    assert copies(plan) == [("y", "cpu:1")]
    value = np.random.default_rng(0).random((4096, 256), np.float32)
    with fg.Graph() as graph, fg.Session(graph, jit=False) as one:
        x1 = fg.placeholder("x", (4096, 256))
        z1 = fg.sum(fg.sqrt(x1 @ fg.variable(np.ones((256, 256), np.float32))), axis=0)
        for _ in range(3):  # through the interpreter, and through generated programs
            assert session.run(z, {x: value}).tobytes() == one.run(z1, {x1: value}).tobytes()


def test_slices_of_a_copy_that_are_written_over_may_be_in_one_task(session):
    x, v = fg.placeholder("x", (4096, 1024)), fg.placeholder("v", (1024, 8))
    with fg.device("cpu:0"):
        y = x @ v
    with fg.device("cpu:1"):
        z = fg.concat([fg.variable(np.ones((4096, 8), np.float32)) + y, fg.ones((1, 8))])
    plan = session.plan(z, {x: (4096, 1024), v: (1024, 8)})
    (task,) = [task for task in plan.tasks if task.device == "cpu:1"]
    assert len([unit for unit in task.units if unit.node.op.name == "add"]) > 1
    assert len({unit.buffer for unit in task.units if unit.mode == "part"}) == 1
    feeds = {x: np.random.default_rng(0).standard_normal((4096, 1024), np.float32), v: np.ones((1024, 8), np.float32)}
    for _ in range(3):  # through the interpreter, and through generated programs
        np.testing.assert_allclose(session.run(z, feeds)[:-1], 1 + feeds[x] @ feeds[v], 1e-3, 1e-3)


STRIDED = [
    np.arange(24.0).reshape(4, 6),
    np.arange(24.0).reshape(4, 6).T,
    np.arange(240.0).reshape(4, 60)[:, ::4],
    np.arange(240.0).reshape(40, 6)[::3],
    np.arange(24.0).reshape(2, 3, 4).transpose(1, 2, 0)[::-1],
    np.arange(24.0)[::-1],
    np.broadcast_to(np.arange(6.0), (4, 6)),
    np.broadcast_to(np.arange(4.0)[:, None], (4, 6)),
    np.lib.stride_tricks.sliding_window_view(np.arange(10.0), 4),
    np.zeros((0, 3)),
    np.array(3.0),
]


@pytest.mark.parametrize("x", STRIDED, ids=lambda x: f"{x.shape} {x.strides}")
def test_a_copy_is_laid_out_as_the_original(x):
    copy = open_device("cpu:1").copied(x)
    assert not np.shares_memory(copy, x) and copy.dtype == x.dtype
    np.testing.assert_array_equal(copy, x)
    # What NumPy and BLAS decide by: signs, the order of the axes, which of them are adjacent, and which are repeated.
    assert [np.sign(s) for s, n in zip(copy.strides, x.shape, strict=True) if n > 1] == [
        np.sign(s) for s, n in zip(x.strides, x.shape, strict=True) if n > 1
    ]
    assert copy.flags.c_contiguous == x.flags.c_contiguous and copy.flags.f_contiguous == x.flags.f_contiguous
    for axis in range(x.ndim - 1):
        adjacent = [abs(a.strides[axis]) == abs(a.strides[axis + 1]) * a.shape[axis + 1] for a in (x, copy)]
        assert adjacent[0] == adjacent[1]


@pytest.mark.parametrize("x", STRIDED[:8], ids=lambda x: f"{x.shape} {x.strides}")
def test_what_reads_a_copy_has_the_bits_of_what_reads_the_original(x):
    value = np.random.default_rng(0).standard_normal(1000).take(x.astype(int)).astype(np.float32)
    value = np.lib.stride_tricks.as_strided(np.random.default_rng(0).standard_normal(3000)[1500:], x.shape, x.strides)
    copy = open_device("cpu:1").copied(value)
    assert copy.sum().tobytes() == value.sum().tobytes()
    assert np.exp(copy).sum().tobytes() == np.exp(value).sum().tobytes()
    if x.ndim == 2:
        assert (copy @ copy.T).tobytes() == (value @ value.T).tobytes()


def test_a_kernel_does_not_write_over_a_copy_that_repeats_its_elements(session):
    x = fg.placeholder("x", (256,))
    wide = fg.broadcast_to(x, (256, 256))
    with fg.device("cpu:1"):
        y = fg.exp(wide) + fg.sin(wide)
        z = fg.tanh(wide)
    value = np.random.default_rng(0).standard_normal(256).astype(np.float32)
    for _ in range(3):
        results = session.run([y, z], {x: value})
    assert copies(session.plan([y, z], {x: (256,)})) == [("broadcast_to", "cpu:1")]
    np.testing.assert_array_equal(results[0], np.broadcast_to(np.exp(value) + np.sin(value), (256, 256)))
    np.testing.assert_array_equal(results[1], np.broadcast_to(np.tanh(value), (256, 256)))


# --- running


def test_each_task_runs_on_the_workers_of_its_device(session):
    seen = {}

    def note(name):
        def kernel(x):
            seen[name] = threading.current_thread().name
            return x + 1

        return kernel

    x = fg.placeholder("x", (8,))
    with fg.device("cpu:1"):
        y = fg.py_call(note("there"), x, x)
    with fg.device("cpu:0"):
        z = fg.py_call(note("here"), x, y)
    result = session.run(z, {x: np.zeros(8, np.float32)})
    assert (result == 2).all()
    assert seen["there"].startswith("flowgraph-cpu:1-") and seen["here"].startswith("flowgraph-cpu:0-")


def test_each_device_keeps_buffers_of_its_own(session):
    x = fg.placeholder("x", (256, 256))
    with fg.device("cpu:1"):
        y = fg.sum(fg.exp(fg.sin(x) + 1.0))
    for _ in range(4):
        session.run(y, {x: np.zeros((256, 256), np.float32)})
    assert session.memory is session._buffers.on("cpu:0") and session.memory.idle_bytes == 0
    assert session._buffers.on("cpu:1").idle_bytes == 256 * 256 * 4
    session.close()
    assert session._buffers.on("cpu:1").idle_bytes == 0


@pytest.mark.frees_at_once
def test_a_large_result_goes_back_to_the_buffers_of_its_device(session):
    x = fg.placeholder("x", (512, 1024))
    with fg.device("cpu:1"):
        y = fg.exp(x)
    with fg.device("cpu:0"):
        z = fg.sin(y)
    value = np.zeros((512, 1024), np.float32)
    plan = session.plan([y, z], {x: value.shape})
    assert sorted(plan.lent.values()) == ["cpu:0", "cpu:1"]
    for _ in range(3):
        session.run([y, z], {x: value})
    for name in ("cpu:0", "cpu:1"):
        pool = session._buffers.on(name)
        pool.give(pool.take((1,), np.dtype("float32")))  # what has come back is looked at
        assert pool.idle_bytes >= value.nbytes


def test_an_error_names_the_device_and_leaves_the_session_usable(session):
    x = fg.placeholder("x", (3, 3))
    with fg.device("cpu:1"):
        y = fg.linalg.inv(fg.exp(x))
    z = fg.sum(y) * 2.0
    for _ in range(3):
        with pytest.raises(fg.LinAlgError) as caught:
            session.run(z, {x: np.zeros((3, 3), np.float32)})
        assert ("device", "cpu:1") in caught.value.rows
        assert "y = fg.linalg.inv(fg.exp(x))" in str(caught.value)
    value = np.log(np.eye(3) + 1).astype(np.float32)
    np.testing.assert_allclose(session.run(z, {x: value}), 2 * np.linalg.inv(np.exp(value)).sum(), 1e-5)


def test_many_threads_may_run_a_plan_of_two_devices_at_once():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (64, 64))
        y = x
        for step in range(6):
            with fg.device(f"cpu:{step % 2}"):
                y = fg.tanh(y @ x) + y
    values = [np.random.default_rng(seed).standard_normal((64, 64)).astype(np.float32) for seed in range(8)]
    with fg.Session(graph, devices=["cpu:0", "cpu:1"], threads=2, jit=False) as session, fg.Session(graph, device="cpu:0") as _:
        expected = [session.run(y, {x: value}).tobytes() for value in values]
        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(lambda value: session.run(y, {x: value}).tobytes(), values * 4))
    assert results == expected * 4


def test_a_run_on_two_devices_can_be_cancelled(session):
    started, go_on = threading.Event(), threading.Event()

    def wait(x):
        started.set()
        assert go_on.wait(10)
        return x

    x = fg.placeholder("x", (8,))
    with fg.device("cpu:1"):
        y = fg.py_call(wait, x, x)
    z = fg.exp(y, name="never")
    with fg.device("cpu:0"):
        z = fg.sin(y)
    future = session.run_async(z, {x: np.zeros(8, np.float32)})
    assert started.wait(10)
    future.cancel()
    go_on.set()
    with pytest.raises(fg.RunCancelledError):
        future.result()
    assert (session.run(z, {x: np.ones(8, np.float32)}) == np.sin(np.ones(8, np.float32))).all()


def test_a_function_is_exported_without_its_requests(session, tmp_path):
    x = fg.placeholder("x", (4,))
    with fg.device("cpu:1"):
        y = fg.exp(x)
    double = session.function([x], y * 2.0)
    value = np.arange(4, dtype=np.float32)
    double.export(tmp_path / "double.py")
    found = runpy.run_path(str(tmp_path / "double.py"))
    np.testing.assert_array_equal(found["double"](value), double(value))


def test_a_limit_of_memory_holds_on_two_devices():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (256, 256))
        parts = []
        for i in range(8):
            with fg.device(f"cpu:{i % 2}"):
                parts.append(fg.sin(x + float(i)))
        y = parts[0]
        for part in parts[1:]:
            y = y + part
    value = np.random.default_rng(0).standard_normal((256, 256)).astype(np.float32)
    with fg.Session(graph, devices=["cpu:0", "cpu:1"], threads=2, jit=False) as session:
        free = session.plan(y, {x: (256, 256)})
        expected = session.run(y, {x: value}).tobytes()
    limit = free.peak_bytes - 2 * value.nbytes
    with fg.Session(graph, devices=["cpu:0", "cpu:1"], threads=2, jit=False, memory_limit=limit) as session:
        plan = session.plan(y, {x: (256, 256)})
        assert plan.peak_bytes <= limit and {task.device for task in plan.tasks} == {"cpu:0", "cpu:1"}
        for task in plan.tasks:
            assert {unit.device for unit in task.units} == {task.device}
        for _ in range(4):
            assert session.run(y, {x: value}).tobytes() == expected
            assert session.last_report is not None and session.last_report.peak_bytes <= limit


# --- seeing it


def test_a_drawing_shows_devices_and_copies(session):
    x = fg.placeholder("x", (64, 64))
    with fg.device("cpu:1"):
        y = fg.exp(x)
    with fg.device("cpu:0"):
        z = fg.sin(y)
    plan = session.plan(z, {x: (64, 64)})
    picture = PlanPicture(plan)
    titles = {box.home[0].partition(",")[0] for box in picture.boxes.values() if box.home}
    assert titles == {"task 0 on cpu:1", "task 1 on cpu:0"}
    copied = [(box.title, box.detail) for box in picture.boxes.values() if box.title == "copy"]
    assert copied == [("copy", "to cpu:1"), ("copy", "to cpu:0")]
    assert "task 0 on cpu:1" in str(fg.draw(plan))
    assert {box.title for box in PlanPicture(plan, depth=0).boxes.values()} >= {"task 0 on cpu:1", "task 1 on cpu:0"}


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "20000 100000"}, 1),
        ({"cpu.max": "6400000 100000"}, 8),
        ({"cpu.max": "what is this"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
    ],
    ids=str,
)
def test_a_process_computes_on_as_many_threads_as_its_control_group_has_processors_for(files, count, tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert processors(str(tmp_path)) == count
