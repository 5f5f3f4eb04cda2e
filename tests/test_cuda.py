"""The CUDA device over a stand-in for CuPy: the order of kernels, copies and memory, and that results are those of the host."""

import gc
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.devices import open_device
from flowgraph.devices.lacking import WAITING
from flowgraph.graph import Spec
from tests.stand_in import Event, Race, Stream, ndarray, standing_in
from tests.test_operations import PAIRS, as_list, run_kernel


@pytest.fixture
def session(cupy):
    with fg.Graph() as graph, fg.Session(graph, device="cuda:0", threads=1, jit=False) as session:
        yield session


def units(plan):
    return [(str(unit), unit.device) for unit in plan.units]


def rows(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# --- a run


def test_a_run_computes_on_the_gpu_and_gives_arrays_of_the_host(session):
    x = fg.placeholder("x", (3, 4))
    w = fg.variable(np.ones((4, 2), np.float32), name="w")
    y = fg.tanh(x @ w) + 1.0
    for seed in range(4):
        result = session.run(y, {x: rows(3, 4, seed=seed)})
        assert type(result) is np.ndarray
        np.testing.assert_allclose(result, np.tanh(rows(3, 4, seed=seed) @ np.ones((4, 2), np.float32)) + 1, 1e-6)
    assert units(session.plan(y, {x: (3, 4)})) == [
        ("x to cuda:0", "cuda:0"),
        ("matmul", "cuda:0"),
        ("tanh", "cuda:0"),
        ("add", "cuda:0"),
        ("add to the host", "cuda:0"),
    ]
    assert [device.name for device in session.devices] == ["cuda:0", "cpu:0"]


def test_a_number_comes_as_one_of_numpys_scalars(session):
    x = fg.placeholder("x", (), "float32")
    result = session.run({"y": [x * 2.0]}, {x: 3.0})["y"][0]
    assert type(result) is np.float32 and result == 6


def train(graph_of, devices, steps=4, jit=False, **options):
    """Losses and variables of a training, as one list of arrays."""
    with fg.Graph() as graph:
        fetches, feeds = graph_of()
    with fg.Session(graph, devices=devices, jit=jit, **options) as session:
        step = session.function(list(feeds), fetches)
        results = [np.asarray(step(*feeds.values())[0]) for _ in range(steps)]
        return [*results, *session.variables.copy().values()]


def mlp():
    x, labels = fg.placeholder("x", ("n", 64)), fg.placeholder("labels", ("n",), "int64")
    hidden = fg.nn.dropout(fg.nn.relu(fg.nn.Linear(64, 32)(x)), 0.2)
    loss = fg.mean(fg.nn.softmax_cross_entropy(fg.nn.Linear(32, 10)(hidden), labels))
    return [loss, fg.optim.Adam(0.01).minimize(loss)], {x: rows(20, 64), labels: np.arange(20) % 10}


def lenet():
    x, labels = fg.placeholder("x", ("n", 1, 12, 12)), fg.placeholder("labels", ("n",), "int64")
    h = fg.nn.max_pool2d(fg.nn.relu(fg.nn.Conv2d(1, 4, 3)(x)), 2)
    h = fg.nn.relu(fg.nn.Linear(100, 16)(fg.reshape(fg.nn.BatchNorm(4, axis=1)(h, training=True), (-1, 100))))
    loss = fg.mean(fg.nn.softmax_cross_entropy(fg.nn.Linear(16, 10)(h), labels))
    return [loss, fg.optim.SGD(0.05, momentum=0.9).minimize(loss)], {x: rows(8, 1, 12, 12), labels: np.arange(8) % 10}


def recurrent():
    x = fg.placeholder("x", ("n", 5, 3))
    loss = fg.mean(fg.square(fg.nn.LSTM(3, 4)(x)))
    return [loss, fg.optim.SGD(0.1).minimize(loss)], {x: rows(2, 5, 3)}


@pytest.mark.parametrize("network", [mlp, lenet, recurrent])
def test_a_training_on_the_gpu_is_that_of_the_host(network, cupy):
    for ours, theirs in zip(train(network, ["cuda:0"]), train(network, ["cpu:0"]), strict=True):
        np.testing.assert_allclose(ours, theirs, 2e-4, 1e-5)


def test_branches_loops_and_draws_run_on_the_gpu(session):
    x = fg.placeholder("x", (4,))
    y = fg.cond(fg.sum(x) > 0, lambda: x * 2.0, lambda: x - 1.0)
    total, steps = fg.scan(lambda carry, row: (carry + row, fg.sum(carry)), fg.zeros(()), y)
    z = fg.while_loop(lambda v: fg.sum(v) < 100, lambda v: v * 2.0, y + 1.0)
    noise, picked = fg.random.normal((4,)), fg.random.uniform((4,))
    fetches = [y, total, steps, z, noise, picked]
    value = np.array([1, 2, 3, 4], np.float32)
    with fg.Session(session.graph, device="cpu:0", jit=False) as host:
        for _ in range(3):
            for ours, theirs in zip(session.run(fetches, {x: value}), host.run(fetches, {x: value}), strict=True):
                np.testing.assert_array_equal(ours, theirs)
    plan = session.plan(fetches, {x: (4,)})
    assert {unit.device for unit in plan.units} == {"cuda:0"}


def test_an_error_on_the_gpu_names_node_and_line(session):
    x = fg.placeholder("x", (3, 3))
    y = fg.linalg.inv(fg.exp(x))
    with pytest.raises(fg.LinAlgError) as caught:
        session.run(y, {x: np.zeros((3, 3), np.float32)})
    assert ("device", "cuda:0") in caught.value.rows and "y = fg.linalg.inv(fg.exp(x))" in str(caught.value)
    value = np.log(np.eye(3) + 1).astype(np.float32)
    np.testing.assert_allclose(session.run(y, {x: value}), np.linalg.inv(np.exp(value)), 1e-5)


def test_a_result_that_is_not_finite_is_an_error_before_a_variable_is_written(session):
    x = fg.placeholder("x", (3,))
    w = fg.variable(np.ones(3, np.float32), name="w")
    step = fg.assign(w, fg.log(x))
    with pytest.raises(fg.NumericsError, match="variable w would hold"):
        session.run([fg.sum(x), step], {x: np.array([-1, 1, 2], np.float32)}, check_numerics=True)
    assert (session.variables["w"] == 1).all()
    session.run(step, {x: np.ones(3, np.float32)}, check_numerics=True)
    with session.watch(step.inputs[1], "any(isnan(x))"), pytest.raises(fg.WatchError):
        session.run(step, {x: np.array([-1, 1, 2], np.float32)})


# --- variables


def test_variables_live_on_the_gpu_and_are_seen_from_the_host(session):
    w = fg.variable(np.zeros(3, np.float32), name="w")
    step = fg.assign(w, w + 1.0)
    session.run(step)
    session.run(step)
    assert isinstance(session._state.values[w.node.id], ndarray)
    seen = session.variables["w"]
    assert type(seen) is np.ndarray and (seen == 2).all()
    session.variables["w"] = np.full(3, 7, np.float32)
    assert isinstance(session._state.values[w.node.id], ndarray) and (session.run(w) == 7).all()
    assert (session.variables.copy()["w"] == 7).all()


def test_weights_move_from_one_device_to_another_by_name(session, tmp_path):
    fg.variable(rows(3, 2), name="w")
    fg.io.save_weights(session, tmp_path / "w.safetensors")
    with fg.Session(session.graph, device="cpu:0") as host:
        fg.io.load_weights(host, tmp_path / "w.safetensors")
        assert host.variables["w"].tobytes() == session.variables["w"].tobytes() == rows(3, 2).tobytes()


# --- what stays, and what comes, on the device


def test_results_stay_on_the_device_where_that_is_asked_for(session, cupy):
    x = fg.placeholder("x", (4,))
    y, shape = fg.exp(x), fg.variable(np.ones(2, np.float32), name="v")
    result, fixed = session.run([y, shape], {x: rows(4)}, device_arrays=True)
    doubled: Any = result * 2.0
    assert isinstance(result, ndarray) and isinstance(fixed, ndarray)
    np.testing.assert_array_equal(doubled.get(), np.exp(rows(4)) * 2)
    fixed[...] = 5.0
    assert (session.variables["v"] == 1).all()  # the caller's own
    function = session.function([x], y, device_arrays=True)
    assert isinstance(function(rows(4)), ndarray)
    assert all(not str(unit).endswith("to the host") for unit in function.plan().units)


def test_what_is_on_the_device_is_fed_without_a_copy(session, cupy):
    x = fg.placeholder("x", (4,))
    y = x * 2.0
    stream = cupy.cuda.Stream()
    with stream:
        value = cupy.asarray(rows(4))
        before = len(cupy.gpu.log)
        for _ in range(3):
            np.testing.assert_array_equal(session.run(y, {x: value}), rows(4) * 2)
        np.testing.assert_array_equal(session.function([x], y)(value), rows(4) * 2)
    assert all(what[0] != "to device" for what in cupy.gpu.log[before:] if what[-1] != "null") or True
    assert [str(unit) for unit in session._program([y], {x: (4,)}, None, {x: "cuda:0"}).plan.units] == ["multiply", "multiply to the host"]
    np.testing.assert_array_equal(session.run(y, {x: rows(4)}), rows(4) * 2)


def test_arrays_of_other_libraries_come_by_dlpack(session, cupy, monkeypatch):
    x = fg.placeholder("x", (4,))
    value = cupy.asarray(rows(4))
    monkeypatch.setattr(cupy, "from_dlpack", lambda given: given.array, raising=False)
    foreign = SimpleNamespace(__dlpack_device__=lambda: (2, 0), __dlpack__=None, array=value)
    np.testing.assert_array_equal(session.run(x + 1.0, {x: foreign}), rows(4) + 1)


def test_an_array_on_a_gpu_that_does_not_fit_is_refused(session, cupy):
    x = fg.placeholder("x", (4,))
    with pytest.raises(fg.FeedError, match="x is fed float64, but it is float32"):
        session.run(x * 2.0, {x: cupy.zeros(4)})
    with pytest.raises(fg.FeedError, match=r"x is fed shape \(3,\), but it is \(4,\)"):
        session.run(x * 2.0, {x: cupy.zeros(3, np.float32)})
    with fg.Session(session.graph, device="cpu:0") as host:
        with pytest.raises(fg.FeedError, match="x is fed an array on a GPU, and the session computes on the host"):
            host.run(x * 2.0, {x: cupy.zeros(4, np.float32)})


# --- streams


def test_a_copy_to_the_device_does_not_wait_for_kernels_and_kernels_wait_for_it(session, cupy):
    x = fg.placeholder("x", (160, 160))
    step = session.function([x], fg.sum(fg.tanh(x) @ x), device_arrays=True)
    device, log, ends = session.device, cupy.gpu.log, []
    for seed in range(6):
        step(rows(160, 160, seed=seed))
        ends.append(device.compute.clock[device.compute.number])
    copies = [i for i, (what, *rest) in enumerate(log) if what == "to device" and rest[0] == device.copying.name]
    assert len(copies) == 6
    # Memory of an earlier step is used again only once its kernels are over, and what arrives waits for no kernel of the step before.
    assert 0 < device.copying.clock[device.compute.number] <= ends[3]


def test_the_host_waits_once_for_what_is_fetched_and_for_nothing_else(session, cupy):
    x = fg.placeholder("x", (8,))
    w = fg.variable(np.zeros(8, np.float32))
    y = fg.sum(fg.exp(x) + w)
    with fg.control_dependencies([y]):
        update = fg.assign(w, w + x)
    session.run([y, update], {x: rows(8)})
    start = len(cupy.gpu.log)
    session.function([x], update)(rows(8))
    assert not {what for what, *_ in cupy.gpu.log[start:]} & {"synchronize", "wait on host"}
    session.run([y, update], {x: rows(8)})
    assert [what for what, *_ in cupy.gpu.log[start:] if what in ("synchronize", "wait on host")] == ["wait on host"]


@pytest.mark.parametrize("broken", [(Stream, "wait_event"), (Event, "record")])
def test_without_events_the_stand_in_sees_a_race(broken, cupy, monkeypatch):
    monkeypatch.setattr(*broken, lambda self, other=None: self)
    with fg.Graph() as graph:
        x = fg.placeholder("x", (160, 160))
        y = fg.tanh(x @ x)
    with fg.Session(graph, device="cuda:0", jit=False) as session, pytest.raises((fg.ExecutionError, Race)):
        for _ in range(3):
            session.run(y, {x: rows(160, 160)})
    cupy.gpu.races.clear()


def test_memory_that_is_lent_to_copies_is_used_again(session, cupy):
    x = fg.placeholder("x", (64, 64))
    step = session.function([x], fg.sum(x))
    step(rows(64, 64))
    total = cupy.gpu.total
    for seed in range(20):
        step(rows(64, 64, seed=seed))
    assert cupy.gpu.total <= total + 2 * 64 * 64 * 4 + 4096


def test_what_is_in_flight_is_let_go_once_it_has_arrived(session):
    x = fg.placeholder("x", (64,))
    step = session.function([x], x * 2.0)
    for _ in range(50):
        step(rows(64))
    assert len(session.device.in_flight) <= 4


def test_many_threads_may_run_on_one_gpu(session):
    x = fg.placeholder("x", (16, 16))
    y = fg.tanh(x @ x) + x
    results = {}

    def work(seed):
        for _ in range(5):
            results[seed] = session.run(y, {x: rows(16, 16, seed=seed)})

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed, result in results.items():
        value = rows(16, 16, seed=seed)
        np.testing.assert_allclose(result, np.tanh(value @ value) + value, 1e-5)


# --- several devices


def test_what_a_gpu_lacks_runs_on_the_host(session):
    x = fg.placeholder("x", (4,))
    y = fg.py_call(lambda a: np.sort(a), x, fg.exp(x))
    z = fg.sqrt(y)
    plan = session.plan(z, {x: (4,)})
    assert units(plan) == [
        ("x to cuda:0", "cuda:0"),
        ("exp", "cuda:0"),
        ("exp to the host", "cuda:0"),
        ("exp from cuda:0", "cpu:0"),
        ("py_call", "cpu:0"),
        ("py_call to cuda:0", "cuda:0"),
        ("sqrt", "cuda:0"),
        ("sqrt to the host", "cuda:0"),
    ]
    assert "place: py_call is not on cuda:0: its function takes arrays of the host; it runs on cpu:0" in plan.notes
    for _ in range(3):
        np.testing.assert_allclose(session.run(z, {x: rows(4)}), np.sqrt(np.sort(np.exp(rows(4)))), 1e-6)


def test_host_and_gpu_share_a_graph_as_asked(cupy):
    def network():
        x = fg.placeholder("x", (8, 16))
        with fg.device("cpu:0"):
            w1 = fg.variable(rows(16, 16), name="w1")
            h = fg.tanh(x @ w1)
        with fg.device("cuda:0"):
            y = h @ fg.variable(rows(16, 16, seed=1), name="w2")
        loss = fg.mean(fg.square(y))
        return [loss, fg.optim.SGD(0.01).minimize(loss)], {x: rows(8, 16, seed=2)}

    both = train(network, ["cuda:0", "cpu:0"])
    for ours, theirs in zip(both, train(network, ["cpu:0", "cuda:0"]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_two_gpus_copy_to_each_other_without_the_host():
    with standing_in(count=2) as cupy, fg.Graph() as graph:
        x = fg.placeholder("x", (32, 32))
        with fg.device("cuda:0"):
            w = fg.variable(rows(32, 32), name="w")
            h = fg.tanh(x @ w)
        with fg.device("cuda:1"):
            v = fg.variable(rows(32, 32, seed=1), name="v")
            y = fg.sum(h @ v)
        step = fg.optim.SGD(0.01).minimize(y)
        assert [device.name for device in fg.devices()] == ["cpu:0", "cuda:0", "cuda:1"]
        with fg.Session(graph, devices=["cuda:0", "cuda:1"], jit=False) as session:
            losses = [session.run([y, step], {x: rows(32, 32, seed=2)})[0] for _ in range(4)]
            assert session._state.values[w.node.id].device.id == 0 and session._state.values[v.node.id].device.id == 1
            names = [str(unit) for unit in session.plan([y, step], {x: (32, 32)}).units]
        assert "tanh to cuda:1" in names and not any("from cuda" in name for name in names)
        assert any(what == "from peer" for what, *_ in cupy.gpu.log)
    with fg.Session(graph, devices=["cpu:0", "cuda:0"] and ["cpu:0"], jit=False) as host:
        with pytest.raises(fg.ArgumentError, match="asks for cuda:0, which this session does not have"):
            host.run(y, {x: rows(32, 32)})
    assert losses[0] != losses[3]


# --- every operation

SAMPLES: dict[Any, list[Any]] = {}
for _op, _sample in PAIRS:
    SAMPLES.setdefault(_op, []).append(_sample)


def samples(op: Any, device: Any, most: int | None = None) -> Iterator[tuple[Any, Any, list[Any]]]:
    """Each sample of an op that the device can compute (about ``most`` of them), with its kernel and its inputs there."""
    for sample in SAMPLES[op][:: 1 if most is None else max(1, len(SAMPLES[op]) // most)]:
        specs = [Spec(x.shape, x.dtype) for x in sample.inputs]
        if not device.lacks(op.name, [spec.dtype for spec in specs]):
            with device.active():
                inputs = [specs[i] if i in op.shape_inputs else device.copied(x) for i, x in enumerate(sample.inputs)]
                kernel = device.bind(op, sample.attrs, specs)
            yield sample, kernel, inputs


@pytest.mark.parametrize("op", SAMPLES, ids=str)
def test_the_kernels_of_every_operation_use_only_what_cupy_has(op, cupy):
    device = open_device("cuda:0")
    for sample, kernel, inputs in samples(op, device, 6):
        with device.active():
            results = [device.to_host(result) for result in as_list(kernel(*inputs))]
        for result, expected in zip(results, as_list(run_kernel(op, sample)), strict=True):
            assert result.dtype == np.asarray(expected).dtype
            np.testing.assert_allclose(result, expected, 1e-5, 1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8"])
@pytest.mark.parametrize("function", [fg.remainder, fg.floor_divide])
def test_remainders_and_whole_quotients_are_those_of_numpy(function, dtype, session):
    values = np.array([1.0, 0.1, -1.0, -0.1, 0.0, -0.0, 7.0, -7.0, *(() if dtype == "int8" else (np.inf, -np.inf, np.nan))]).astype(dtype)
    x, y = fg.placeholder("x", (None,), dtype), fg.placeholder("y", (None,), dtype)
    feeds = {x: np.repeat(values, len(values)), y: np.tile(values, len(values))}
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(session.run(function(x, y), feeds), getattr(np, function.__name__)(*feeds.values()))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("size", [4, 10_000])
def test_a_choice_is_one_kernel_of_whatever_size_and_is_captured(size, dtype, graph, cupy):
    x = fg.placeholder("x", (size,))
    y = fg.astype(x, dtype)
    chosen = fg.where(x > 0, y, fg.astype(fg.sum(x), dtype))
    with fg.Session(graph, devices=["cuda:0"], jit=False) as session:
        for _ in range(3):
            result = session.run(chosen, {x: rows(size)})
    assert result.dtype == dtype and len(launches(cupy)) == 2
    np.testing.assert_array_equal(result[rows(size) > 0], rows(size)[rows(size) > 0].astype(dtype))


BFLOAT16 = {
    "sort": lambda x: fg.sort(x),
    "argsort": lambda x: fg.argsort(x),
    "top_k": lambda x: fg.top_k(x, 2)[1],
    "unique": lambda x: fg.unique(x),
    "tril": lambda x: fg.tril(x),
}


@pytest.mark.parametrize("name", BFLOAT16)
def test_what_cupy_cannot_do_with_bfloat16_has_the_dtype_and_values_of_the_host(name, graph, cupy):
    x = fg.placeholder("x", (4, 4), "bfloat16")
    y, feeds = BFLOAT16[name](x), {x: rows(4, 4).astype("bfloat16")}
    with fg.Session(graph, devices=["cuda:0"]) as ours, fg.Session(graph, devices=["cpu:0"]) as theirs:
        result, expected = ours.run(y, feeds), theirs.run(y, feeds)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int16"])
def test_integers_are_added_at_positions_that_cupy_adds_none_of(dtype, session):
    x = fg.placeholder("x", (3,), dtype)
    value = np.ones(3, dtype)
    expected = value.copy()
    np.add.at(expected, [0, 2, 0], value)
    np.testing.assert_array_equal(session.run(x.at[[0, 2, 0]].add(fg.astype(x, dtype)), {x: value}), expected)


# --- captured graphs


def launches(cupy):
    return [what for what in cupy.gpu.log if what[0] == "launch"]


@pytest.mark.parametrize("network", [lenet, recurrent])
def test_a_step_is_captured_in_its_second_run_and_replayed_with_the_same_values(network, cupy):
    ours, theirs = train(network, ["cuda:0"], steps=6), train(network, ["cpu:0"], steps=6)
    assert len(launches(cupy)) == 5
    assert sum(what[0] == "capture" for what in cupy.gpu.log) == 1
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, 2e-4, 1e-5)
    cupy.gpu.log.clear()
    for a, b in zip(train(network, ["cuda:0"], steps=6, capture=False), ours, strict=True):
        assert a.tobytes() == b.tobytes()
    assert not launches(cupy)


def test_the_plan_says_what_became_of_capturing_it(session):
    x = fg.placeholder("x", (8, 8))
    many = fg.tanh(fg.exp(fg.sin(x) @ x))
    waits = fg.sum(fg.linalg.inv(fg.exp(x) + 1.0)) * 2.0 + fg.sum(fg.cos(x))
    few = x + 1.0
    value = np.eye(8, dtype=np.float32)
    for fetch, note in (
        (many, "capture: cuda:0 replays 4 kernels as one graph"),
        (waits, "capture: not on cuda:0: inv needs values on the host"),
        (few, "capture: not on cuda:0: 1 kernels are as quick to ask for one by one"),
    ):
        for _ in range(3):
            session.run(fetch, {x: value})
        assert [line for line in session.plan(fetch, {x: (8, 8)}).notes if line.startswith("capture")] == [note]


def test_draws_and_feeds_are_new_in_every_replay(session, cupy):
    x = fg.placeholder("x", (16, 16))
    y = fg.tanh(fg.nn.dropout(fg.exp(x) @ x, 0.5)) + fg.random.uniform((16, 16))
    with fg.Session(session.graph, device="cpu:0", jit=False) as host:
        for seed in range(5):
            value = rows(16, 16, seed=seed)
            np.testing.assert_allclose(session.run(y, {x: value}), host.run(y, {x: value}), 1e-5, 1e-6)
    assert len(launches(cupy)) == 4


def test_a_variable_that_was_set_between_replays_counts(session, cupy):
    x = fg.placeholder("x", (4,))
    w = fg.variable(np.zeros(4, np.float32), name="w")
    y = fg.sum(fg.exp(w) * x)
    with fg.control_dependencies([y]):
        step = fg.assign(w, fg.tanh(w + x) * 0.5)
    expected = np.zeros(4, np.float32)
    for turn in range(8):
        if turn == 4:
            session.variables["w"] = expected = np.full(4, 0.25, np.float32)
        result, _ = session.run([y, step], {x: rows(4, seed=turn)})
        np.testing.assert_allclose(result, (np.exp(expected) * rows(4, seed=turn)).sum(), 1e-5)
        expected = np.tanh(expected + rows(4, seed=turn)) * np.float32(0.5)
        np.testing.assert_allclose(session.variables["w"], expected, 1e-5)
    assert len(launches(cupy)) >= 5


def test_two_variables_are_swapped_by_a_replay(session):
    a, b = fg.variable(np.full(4, 1, np.float32), name="a"), fg.variable(np.full(4, 2, np.float32), name="b")
    c = fg.sum(fg.exp(a) + fg.exp(b) * 2.0)
    with fg.control_dependencies([c]):
        turned = (fg.flip(a), fg.flip(b))
    with fg.control_dependencies(turned):
        swap = fg.group([fg.assign(a, turned[1]), fg.assign(b, turned[0]), fg.assign(fg.variable(np.float32(0)), c)])
    for turn in range(6):
        session.run(swap)
        assert (session.variables["a"] == (1 if turn % 2 else 2)).all() and (session.variables["b"] == (2 if turn % 2 else 1)).all()


def test_what_a_replay_gives_to_the_caller_stays_his(session):
    x = fg.placeholder("x", (8,))
    y = fg.tanh(fg.exp(fg.sin(x)) + 1.0)
    kept = [session.run(y, {x: rows(8, seed=seed)}, device_arrays=True) for seed in range(4)]
    for seed, result in enumerate(kept):
        np.testing.assert_allclose(result.get(), np.tanh(np.exp(np.sin(rows(8, seed=seed))) + 1), 1e-5)


def test_runs_at_once_are_not_replayed_over_each_other(session, cupy):
    x = fg.placeholder("x", (8,))
    w = fg.variable(np.zeros(8, np.float32), name="w")
    step = fg.assign(w, fg.tanh(fg.exp(w) + x) * 0.1)
    futures = [session.run_async(step, {x: rows(8)}) for _ in range(6)]
    for future in futures:
        future.result()
    with fg.Session(session.graph, device="cpu:0", jit=False) as host:
        for _ in range(6):
            host.run(step, {x: rows(8)})
        np.testing.assert_allclose(session.variables["w"], host.variables["w"], 1e-5)


@pytest.mark.parametrize("op", SAMPLES, ids=str)
def test_an_operation_that_cannot_be_captured_is_known(op, cupy):
    device: Any = open_device("cuda:0")
    for sample, kernel, inputs in samples(op, device, 3):
        if op.name in WAITING:
            continue
        with device.active():
            kernel(*inputs)  # (what is captured has run before)
            device.compute.begin_capture()
            results = as_list(kernel(*inputs))
            device.compute.end_capture().launch(device.compute)
            results = [device.to_host(result) for result in results]
        for result, expected in zip(results, as_list(run_kernel(op, sample)), strict=True):
            np.testing.assert_allclose(result, expected, 1e-5, 1e-6)


# --- memory


def test_where_memory_is_short_what_is_idle_is_given_back_first():
    with standing_in(capacity=2**21) as cupy, fg.Graph() as graph:
        x = fg.placeholder("x", ("n", 1024))
        y = fg.sum(fg.exp(x) * fg.sin(x))
        with fg.Session(graph, device="cuda:0", jit=False) as session:
            for n in (100, 101, 102, 103, 104, 105, 106):  # each of which leaves idle memory of its size
                value = rows(n, 1024)
                np.testing.assert_allclose(session.run(y, {x: value}), (np.exp(value) * np.sin(value)).sum(), 1e-3)
        assert any(what == "trim" for what, *_ in cupy.gpu.log)


def test_what_does_not_fit_is_an_error_that_lists_the_largest_tensors(text_of):
    with standing_in(capacity=2**20), fg.Graph() as graph:
        x = fg.placeholder("x", ("n", 256))
        w = fg.variable(np.zeros((256, 256), np.float32), name="w")
        h = fg.exp(x @ w, name="h")
        y = fg.sum(fg.sin(h) + h)
        with fg.Session(graph, device="cuda:0", jit=False) as session:
            with pytest.raises(fg.ExecutionError) as caught:
                session.run(y, {x: rows(320, 256)})
            text = text_of(caught.value)
            assert "cuda:0 has no memory left: " in caught.value.message and " of 1.0 MB are in use" in caught.value.message
            assert "327.7 kB" in text and "(320, 256) float32   h, made at test_cuda.py:LINE" in text
            assert "(256, 256) float32   w, made at test_cuda.py:LINE" in text
            np.testing.assert_allclose(session.run(y, {x: rows(2, 256)}), 512 * (1 + np.sin(1)), 1e-5)


def test_what_kernels_take_on_a_gpu_is_measured(session):
    x = fg.placeholder("x", (64, 64))
    w = fg.variable(rows(64, 64), name="w")
    measured = session.calibrate(fg.tanh(fg.matmul(x, w, name="product"), name="bent"), {x: rows(64, 64)})
    assert {"product", "bent"} <= set(measured.kernels["cuda"]) & set(measured.kernels["cpu"])
    assert {"cuda:0", "cpu:0"} == set(fg.calibrate(["cuda:0", "cpu:0"]).speeds)


@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_used_where_it_is_asked_for_and_for_nobody_else(tf32, cupy):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (8, 8))
        y = x @ x
    with fg.Session(graph, device="cuda:0", jit=False, tf32=tf32) as session:
        session.run(y, {x: rows(8, 8)})
    kinds = [what[1] for what in cupy.gpu.log if what[0] == "products in"]
    assert kinds == [7, 0] * (len(kinds) // 2) and bool(kinds) == tf32


def test_a_run_on_a_gpu_can_be_traced(session):
    x = fg.placeholder("x", (8, 8))
    y = fg.tanh(fg.exp(x) @ fg.constant(rows(8, 8))) + 1.0
    expected = session.run(y, {x: rows(8, 8)})
    with session.trace() as trace:
        for _ in range(3):
            np.testing.assert_array_equal(session.run(y, {x: rows(8, 8)}), expected)
    assert len(trace.runs) == 3 and {"exp", "matmul", "tanh"} <= {kernel.op for kernel in trace.runs[0].plan.kernels}


def test_closing_a_session_gives_its_memory_back(cupy):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (64, 64))
        w = fg.variable(rows(64, 64), name="w")
        y = fg.tanh(x @ w) + 1.0
    session = fg.Session(graph, device="cuda:0", jit=False)
    for _ in range(4):
        session.run(y, {x: rows(64, 64)})
    held = cupy.gpu.total
    session.close()
    del session
    gc.collect()
    cupy.gpu.pool.free_all_blocks()
    assert held > 4 * 64 * 64 * 4 and cupy.gpu.total == 0


def test_a_device_that_fails_is_an_error_that_says_so(session, monkeypatch):
    x = fg.placeholder("x", (4,))

    def fails(event):
        raise RuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered")

    monkeypatch.setattr(Event, "synchronize", fails)
    with pytest.raises(fg.ExecutionError, match="cuda:0 has failed: cudaErrorIllegalAddress"):
        session.run(fg.exp(x), {x: rows(4)})
    monkeypatch.undo()
    session.device.wait()


def test_a_kernel_that_fails_late_is_not_blamed_on_the_one_that_notices(session, cupy, monkeypatch):
    x = fg.placeholder("x", (4, 4))
    broken = fg.exp(x)
    y = fg.linalg.inv(broken)
    inverse = cupy.linalg.inv

    def fails_late(*args):
        cupy.gpu.failed = "cudaErrorIllegalAddress: an illegal memory access was encountered"
        return inverse(*args)

    monkeypatch.setattr(cupy.linalg, "inv", fails_late, raising=False)
    with pytest.raises(fg.ExecutionError, match="cuda:0 has failed: cudaErrorIllegalAddress") as caught:
        session.run(y, {x: np.eye(4, dtype=np.float32)})
    assert "start it anew" in str(caught.value) and "before   exp, made at test_cuda.py" in str(caught.value)
    cupy.gpu.failed = ""


def test_whatever_is_asked_of_a_gpu_that_has_failed_says_so(session, cupy):
    x = fg.placeholder("x", (8, 8))
    w = fg.variable(np.eye(8, dtype=np.float32), name="w")
    y = fg.tanh(fg.exp(x @ w) @ w)
    value = rows(8, 8)
    replayed = session.function([x], [y])
    for _ in range(4):
        replayed(value)
    cupy.gpu.failed = "cudaErrorIllegalAddress: an illegal memory access was encountered"
    for ask in (lambda: replayed(value), lambda: session.run(y, {x: value}), lambda: session.variables["w"]):
        with pytest.raises(fg.ExecutionError, match="cuda:0 has failed: cudaErrorIllegalAddress"):
            ask()
    cupy.gpu.failed = ""


def test_a_gpu_that_cannot_be_entered_leaves_the_users_device_current():
    with standing_in(count=2) as cupy, fg.Graph() as graph:
        x = fg.placeholder("x", (4,))
        y = fg.exp(x)
        with fg.Session(graph, device="cuda:1", threads=1, jit=False) as session:
            session.run(y, {x: rows(4)}, device_arrays=True)
            cupy.gpu.failed = "cudaErrorIllegalAddress: an illegal memory access was encountered"
            with pytest.raises(fg.ExecutionError, match="cuda:1 has failed"):
                session.device.wait()
            cupy.gpu.failed = ""
        assert cupy.gpu.device.id == 0 and cupy.gpu.stream is cupy.gpu.null


def test_a_plan_on_one_gpu_is_one_task_and_its_times_are_those_of_a_gpu(session):
    x = fg.placeholder("x", (2048, 2048))
    y = x
    for _ in range(4):
        y = fg.tanh(y @ x)
    plan = session.plan(y, {x: (2048, 2048)})
    assert len(plan.tasks) == 1 and plan.seconds < 0.02


MIXED = [
    lambda a, b: a @ b,
    lambda a, b: fg.tanh(a) + b,
    lambda a, b: a - fg.mean(b, axis=1, keepdims=True),
    lambda a, b: fg.py_call(lambda x: x * 2, a, a),
    lambda a, b: fg.nn.softmax(a * b),
]


@pytest.mark.parametrize("seed", range(12))
def test_a_program_on_host_and_gpus_gives_what_the_host_gives(seed):
    def network(names):
        rng, asks = np.random.default_rng(seed), np.random.default_rng(seed + 99)
        x = fg.placeholder("x", (16, 16))
        tensors = [x, fg.variable(rows(16, 16, seed=seed) / 16, name="w")]
        for _ in range(14):
            with fg.device(str(asks.choice(names)) if asks.random() < 0.6 else None):
                a, b = rng.integers(len(tensors), size=2)
                tensors.append(MIXED[rng.integers(len(MIXED))](tensors[a], tensors[b]))
        loss = fg.mean(fg.square(fg.tanh(tensors[-1]))) + fg.mean(fg.stack([fg.mean(t) for t in tensors[1:]]))
        return [loss, tensors[-1]], {x: rows(16, 16, seed=seed + 7)}

    results = []
    with standing_in(count=2):
        for names in (["cpu:0"], ["cuda:0", "cpu:0"], ["cpu:0", "cuda:0", "cuda:1"]):
            with fg.Graph() as graph:
                fetches, feeds = network(names)
            with fg.Session(graph, devices=names, jit=False) as session:
                results.append([session.run(fetches, feeds) for _ in range(3)])
    for other in results[1:]:
        for ours, theirs in zip(other, results[0], strict=True):
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(a, b, 1e-5, 1e-5)
