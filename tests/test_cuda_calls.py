"""What a step asks of a GPU: how many copies, events, waits, allocations and launches; and that none of the waits that are left is idle."""

import threading
from collections import Counter

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.devices import intake
from flowgraph.devices.cuda import Cuda, Sent
from tests.stand_in import Race
from tests.test_cuda import rows


@pytest.fixture
def session(cupy):
    with fg.Graph() as graph, fg.Session(graph, device="cuda:0", threads=1, jit=False) as session:
        yield session


def asked(cupy, step, *arrays, runs=12):
    """How often each thing was asked for in the last of some calls."""
    for _ in range(runs - 1):
        step(*arrays)
    cupy.gpu.log.clear()
    step(*arrays)
    return Counter(what for what, *_ in cupy.gpu.log)


def several_feeds(shape):
    x, y, z = (fg.placeholder(name, shape) for name in "xyz")
    labels = fg.placeholder("labels", (shape[0],), "int64")
    w = fg.variable(np.zeros(shape[1], np.float32), name="w")
    loss = fg.mean(fg.tanh(x + y) * fg.exp(z + w)) + fg.mean(fg.astype(labels, "float32"))
    with fg.control_dependencies([loss]):
        return [x, y, z, labels], [loss, fg.assign(w, fg.tanh(w + 0.5))]


def test_small_feeds_of_a_replayed_step_are_one_copy_and_need_no_wait(session, cupy):
    inputs, fetches = several_feeds((8, 16))
    values = [rows(8, 16), rows(8, 16, seed=1), rows(8, 16, seed=2), np.arange(8)]
    step = session.function(inputs, fetches)
    counts = asked(cupy, step, *values)
    assert counts["to device"] == counts["launch"] == counts["to host"] == 1
    assert counts["record"] == 2 and counts["wait"] == 0  # behind what was fed and behind what was fetched
    assert counts["wait on host"] == 1 and counts["pinned"] == 1
    assert counts["allocate"] == counts["on device"] == counts["event"] == 0


def test_large_feeds_of_a_replayed_step_are_one_copy_beside_the_kernels(session, cupy):
    inputs, fetches = several_feeds((100, 160))
    values = [rows(100, 160), rows(100, 160, seed=1), rows(100, 160, seed=2), np.arange(100)]
    counts = asked(cupy, session.function(inputs, fetches), *values)
    assert counts["to device"] == counts["launch"] == counts["on device"] == 1
    assert counts["record"] == 3 and counts["wait"] == 2 and counts["allocate"] == 0


def test_a_step_of_one_kernel_brings_its_feeds_by_one_copy_too(session, cupy):
    x, y = fg.placeholder("x", ()), fg.placeholder("y", ())
    counts = asked(cupy, session.function([x, y], x * y, device_arrays=True), np.float32(2), np.float32(3))
    assert counts["to device"] == 1 and counts["pinned"] == 0 and counts["allocate"] == 1


@pytest.mark.parametrize("shape", [(8, 16), (100, 160)])
def test_what_is_fed_is_what_is_read_however_far_the_host_is_ahead(shape, session, cupy):
    x, y = fg.placeholder("x", shape), fg.placeholder("y", shape)
    step = session.function([x, y], fg.sum(fg.tanh(x) * fg.exp(y), axis=1), device_arrays=True)
    given = np.empty(shape, np.float32)  # written over once the call is over
    results, expected = [], []
    for seed in range(3 * intake.ROUNDS):
        given[...] = rows(*shape, seed=seed)
        results.append(step(given, given))
        expected.append((np.tanh(given) * np.exp(given)).sum(axis=1))
    for ours, theirs in zip(results, expected, strict=True):
        np.testing.assert_allclose(ours.get(), theirs, 1e-5, 1e-5)


def test_what_was_fed_is_the_callers_own_where_it_is_fetched_or_kept(session, cupy):
    x = fg.placeholder("x", (4, 4))
    w = fg.variable(np.zeros(16, np.float32), name="w")
    flat = fg.reshape(x, (16,))
    for fetches in ([flat, fg.assign(w, flat)], [flat, fg.assign(w, flat), fg.sum(fg.tanh(fg.exp(fg.sin(x))))]):
        kept = []
        for seed in range(5):
            kept.append(session.run(fetches, {x: rows(4, 4, seed=seed)}, device_arrays=True)[0])
            np.testing.assert_array_equal(session.variables["w"], rows(4, 4, seed=seed).ravel())
        for seed, result in enumerate(kept):
            np.testing.assert_array_equal(result.get(), rows(4, 4, seed=seed).ravel())


def test_labels_are_looked_at_on_the_host_where_they_come_from_there(session, cupy):
    logits, labels = fg.placeholder("logits", (4, 10)), fg.placeholder("labels", (4,), "int64")
    step = session.function([logits, labels], fg.nn.softmax_cross_entropy(fg.tanh(fg.exp(logits)), labels), device_arrays=True)
    for _ in range(3):
        step(rows(4, 10), np.arange(4))
    start = len(cupy.gpu.log)
    step(rows(4, 10), np.arange(4))
    assert not {"to host", "synchronize", "wait on host"}.intersection(entry[0] for entry in cupy.gpu.log[start:])
    with pytest.raises(fg.ExecutionError, match=r"class_labels: a label is outside 0 ... 9"):
        step(rows(4, 10), np.full(4, 10))
    there = cupy.asarray(np.arange(4))
    np.testing.assert_array_equal(step(rows(4, 10), there).get(), step(rows(4, 10), np.arange(4)).get())


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8"])
@pytest.mark.parametrize("device", ["cpu:0", "cuda:0"])
def test_a_label_that_is_no_class_is_refused(device, dtype, cupy):
    with fg.Graph() as graph:
        logits, labels = fg.placeholder("logits", (2, 3)), fg.placeholder("labels", (2,), dtype)
        loss = fg.nn.softmax_cross_entropy(logits, labels)
    with fg.Session(graph, device=device, jit=False) as session:
        assert np.isfinite(session.run(loss, {logits: rows(2, 3), labels: np.array([2, 0], dtype)})).all()
        for wrong in (3, 100) if dtype == "uint8" else (3, -1, -128):
            with pytest.raises(fg.ExecutionError, match=r"class_labels: a label is outside 0 ... 2"):
                session.run(loss, {logits: rows(2, 3), labels: np.array([1, wrong], dtype)})


# --- waits that are needed


def test_a_result_on_its_way_to_the_host_is_not_written_over(session, cupy, monkeypatch):
    x = fg.placeholder("x", (160, 1))
    step = session.function([x], fg.tanh(fg.exp(fg.sin(x))) + fg.zeros((160, 160)))
    for seed in range(4):
        value = rows(160, 1, seed=seed)
        np.testing.assert_allclose(step(value), np.broadcast_to(np.tanh(np.exp(np.sin(value))), (160, 160)), 1e-5)
    monkeypatch.setattr(Cuda, "until", lambda self, event: None)  # so that the host runs ahead of its results
    for seed in range(4):
        step(rows(160, 1, seed=seed))
    monkeypatch.setattr(Cuda, "after_sends", lambda self: None)
    with pytest.raises(Race):
        for seed in range(4):
            step(rows(160, 1, seed=seed))
    cupy.gpu.races.clear()


def test_memory_of_the_host_is_used_again_only_once_its_copy_is_over(session, cupy, monkeypatch):
    x = fg.placeholder("x", (8,))
    step = session.function([x], fg.tanh(fg.exp(fg.sin(x)) + 1.0), device_arrays=True)
    for seed in range(20):
        step(rows(8, seed=seed))
    assert not cupy.gpu.races
    monkeypatch.setattr(Cuda, "until", lambda self, event: None)
    for seed in range(20):
        step(rows(8, seed=seed))
    assert set(cupy.gpu.races) == {"pinned memory was written while a copy was under way"}
    cupy.gpu.races.clear()


def test_a_value_on_its_way_that_nobody_waits_for_has_its_memory_until_it_is_there(session, cupy, monkeypatch):
    device = session.device
    for size in (8, 40_000):
        device.sent(device.copied(rows(size)))
    assert not cupy.gpu.races
    monkeypatch.delattr(Sent, "__del__")
    device.sent(device.copied(rows(8)))
    assert cupy.gpu.races
    cupy.gpu.races.clear()


def test_an_event_serves_again_only_where_no_kernel_waits_for_it(session, cupy):
    x = fg.placeholder("x", (160, 1))
    wide = fg.tanh(fg.exp(fg.sin(x))) + fg.zeros((160, 160))
    step = session.function([x], [wide, fg.sum(wide)])
    for seed in range(8):
        value, total = step(rows(160, 1, seed=seed))
        np.testing.assert_allclose(value.sum(), total, 1e-4)
        assert session.device.sending not in session.device.spare
    assert len(session.device.spare) <= 4


def test_memory_of_a_result_that_the_user_lets_go_is_written_behind_his_kernels(session, cupy, monkeypatch):
    x = fg.placeholder("x", (64,))
    step = session.function([x], x * 2.0, device_arrays=True)

    def use():
        for seed in range(4):
            result = step(rows(64, seed=seed))
            result * 3.0  # on the user's stream, which nobody waits for
            del result

    use()
    monkeypatch.setattr(Cuda, "follow", lambda self: None)
    with pytest.raises((fg.ExecutionError, Race)):
        use()


# --- calls while nothing else runs


def counter():
    w = fg.variable(np.zeros(4, np.float32), name="w")
    x = fg.placeholder("x", (4,))
    y = fg.tanh(fg.exp(x) * 0.0) + w
    with fg.control_dependencies([y]):
        return x, [y, fg.assign(w, w + 1.0)]


def test_steps_of_many_threads_each_see_those_before_them(session, cupy):
    x, fetches = counter()
    step = session.function([x], fetches)
    for _ in range(3):
        step(rows(4))
    seen = []

    def work():
        for _ in range(10):
            result = step(rows(4))[0]
            seen.append(float(result[0]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(3, 43)) and (session.variables["w"] == 43).all()


def test_a_call_comes_behind_the_runs_that_were_asked_for_before_it(session):
    x, fetches = counter()
    step = session.function([x], fetches)
    for turn in range(5):
        futures = [session.run_async(fetches, {x: rows(4)}) for _ in range(3)]
        assert step(rows(4))[0][0] == 4 * turn + 3
        assert [future.result()[0][0] for future in futures] == [4 * turn, 4 * turn + 1, 4 * turn + 2]


def test_a_call_leaves_the_session_as_a_run_does(session, cupy):
    x, fetches = counter()
    step = session.function([x], fetches)
    for _ in range(4):
        step(rows(4))
    before = session.random_state
    step(rows(4))
    assert session.random_state == (before[0], before[1] + 1) and session.last_report.tasks == 1
    with session.trace() as trace:
        step(rows(4))
    assert len(trace.runs) == 1 and session.variables["w"][0] == 6
    with pytest.raises(fg.FeedError):
        step(rows(5))
    with pytest.raises(fg.NumericsError):
        session.run(fetches, {x: np.full(4, np.nan, np.float32)}, check_numerics=True)
    assert step(rows(4))[0][0] == 6
    session.close()
    with pytest.raises(fg.SessionClosedError):
        step(rows(4))


def test_an_error_in_a_call_names_node_and_line_and_writes_nothing(session, cupy):
    x, w = fg.placeholder("x", (3, 3)), fg.variable(np.zeros((3, 3), np.float32), name="w")
    inverse = fg.linalg.inv(x)
    step = session.function([x], [inverse, fg.assign(w, inverse * 2.0)])
    for _ in range(4):
        step(np.eye(3, dtype=np.float32))
    with pytest.raises(fg.LinAlgError) as caught:
        step(np.zeros((3, 3), np.float32))
    assert "inverse = fg.linalg.inv(x)" in str(caught.value)
    assert (session.variables["w"] == 2 * np.eye(3)).all()
    np.testing.assert_array_equal(step(np.eye(3, dtype=np.float32) * 2)[0], np.eye(3) / 2)


def test_arrays_on_the_gpu_are_fed_to_calls_behind_what_their_stream_does(session, cupy):
    x = fg.placeholder("x", (8,))
    step = session.function([x], fg.tanh(fg.exp(fg.sin(x))) + x, device_arrays=True)
    with cupy.cuda.Stream() as stream:
        value = cupy.asarray(rows(8))
        for turn in range(6):
            value *= 0.5
            result = step(value) + 0.0
            expected = rows(8) * np.float32(0.5) ** (turn + 1)
            np.testing.assert_allclose(result.get(stream), np.tanh(np.exp(np.sin(expected))) + expected, 1e-5)
