"""What is seen of a run on a GPU is what is seen of one on the host: values that are not finite, steps, records and replays."""

import numpy as np
import pytest

import flowgraph as fg
from tests.stand_in import ndarray
from tests.test_cuda import rows


@pytest.fixture
def session(cupy):
    with fg.Graph() as graph, fg.Session(graph, device="cuda:0", threads=1, jit=False) as session:
        yield session


def test_what_is_not_finite_is_tested_for_on_the_gpu_and_one_copy_tells(session, cupy):
    x = fg.placeholder("x", (3,))
    variables = [fg.variable(np.ones(3, np.float32), name=f"w{i}") for i in range(4)]
    step = fg.group([fg.assign(w, w * x) for w in variables])
    session.run(step, {x: np.ones(3, np.float32)}, check_numerics=True)
    start = len(cupy.gpu.log)
    session.run(step, {x: np.ones(3, np.float32)}, check_numerics=True)
    assert [what for what, *_ in cupy.gpu.log[start:]].count("to host") == 1
    with pytest.raises(fg.NumericsError, match="placeholder: x is fed values that are not finite") as caught:
        session.run(step, {x: np.array([1, np.inf, 2], np.float32)}, check_numerics=True)
    assert "variable w0 would hold 1 … 2, mean 1.5; 1 inf of 3" in str(caught.value)
    assert all((session.variables[f"w{i}"] == 1).all() for i in range(4))


def test_a_loss_on_the_gpu_that_is_not_finite_gives_one_warning(session):
    x, w = fg.placeholder("x", ("n",)), fg.variable(np.float32(1), name="w")
    loss = fg.sum(fg.log(x) * w)
    step = fg.optim.SGD(0.1).minimize(loss)
    good, bad = {x: np.ones(3, np.float32)}, {x: np.zeros(3, np.float32)}
    for _ in range(3):
        session.run([loss, step], good)
    with pytest.warns(fg.NumericsWarning, match="sum: a result is not finite: -inf") as caught:
        assert session.run([loss, step], bad)[0] == -np.inf
    assert len(caught) == 1 and str(caught[0].filename).endswith("test_steps_gpu.py")
    session.run([loss, step], bad)  # warnings are errors: it is not said again
    with fg.Session(session.graph, device="cuda:0", jit=False) as other:
        silent, called = other.function([x], [loss, step], check_numerics=False), other.function([x], [loss, step])
        for value in (*good.values(), *good.values(), *good.values(), *bad.values()):
            silent(value)
        other.variables["w"] = np.float32(1)
        for _ in range(3):
            called(good[x])
        with pytest.warns(fg.NumericsWarning, match="sum: a result is not finite"):
            called(bad[x])


def test_a_run_on_a_gpu_can_be_gone_through_node_by_node(session):
    x = fg.placeholder("x", (2, 3))
    w = fg.variable(rows(3, 3), name="w")
    y = fg.sum(fg.tanh(fg.exp(x, name="bent") @ w))
    with fg.control_dependencies([y]):
        step = fg.assign(w, w * 2.0)
    steps = session.steps([y, step], {x: rows(2, 3)})
    names = []
    for each in steps:
        names.append(each.node.name)
        if each.node.name == "bent":
            assert type(each.value) is np.ndarray
            np.testing.assert_allclose(each.value, np.exp(rows(2, 3)), 1e-6)
            each.change(np.zeros((2, 3)))
    assert names[0] == "x to cuda:0" and "tanh" in names
    assert type(steps.results[0]) is np.float32 and steps.results[0] == 0
    assert isinstance(session._state.values[w.node.id], ndarray) and (session.variables["w"] == rows(3, 3) * 2).all()


def test_a_run_on_a_gpu_is_recorded_and_replayed_there_and_on_the_host(session, tmp_path):
    x = fg.placeholder("x", (2, 3))
    w = fg.variable(rows(3, 3), name="w")
    h = fg.nn.dropout(fg.tanh(x @ w, name="bent"), 0.5)
    loss = fg.sum(h * h)
    step = fg.optim.SGD(0.1).minimize(loss)
    for _ in range(2):
        session.run([loss, step], {x: rows(2, 3)})
    with session.record(tmp_path / "run.fgr"):
        losses = [session.run([loss, step], {x: rows(2, 3, seed=seed)})[0] for seed in range(3)]
    after = session.variables["w"]
    session.run([loss, step], {x: rows(2, 3)})  # (which writes over memory that is known to a captured graph)
    with fg.replay.Replay(tmp_path / "run.fgr") as replay:
        assert replay.session.device.name == "cuda:0"
        assert replay.verify().is_same, replay.verify()
        replay.go(len(replay.steps))
        assert replay.results()[0] == losses[2] and (replay.updates()["w"] == after).all()
        replay.change("bent", np.zeros((2, 3)))
        replay.run()
        assert replay.results()[0] == 0
    with fg.replay.Replay(tmp_path / "run.fgr", device="cpu:0") as replay:
        replay.run()
        np.testing.assert_allclose(replay.results()[0], losses[2], 1e-5)
        said = replay.verify()
        assert "it ran on cuda:0, and runs on cpu:0 here, so last digits differ" in str(said)


def test_a_loop_on_a_gpu_is_entered_in_a_replay(session, tmp_path):
    x = fg.placeholder("x", (4, 3))
    last, _ = fg.scan(lambda c, r: (fg.tanh(c + r), c), fg.zeros((3,)), x)
    with session.record(tmp_path / "run.fgr"):
        expected = session.run(last, {x: rows(4, 3)})
    with fg.replay.Replay(tmp_path / "run.fgr") as replay:
        replay.run()
        np.testing.assert_array_equal(replay.results()[0], expected)
        while replay.step is not None and replay.step.node.op.name != "scan":
            replay.back()
        inner = replay.into(2)
        inner.run()
        assert inner.is_over and all(type(value) is np.ndarray for step in inner.steps for value in step.values)


def test_a_rewrite_that_changes_a_result_is_searched_for_on_a_gpu(session):
    x = fg.placeholder("x", (3,))
    found = session.bisect(fg.exp(x * 1.0) + fg.exp(x * 1.0), {x: rows(3)})
    assert found.is_fine and found.rewrites > 0, found


# --- plans


def test_a_plan_tells_of_the_device_and_of_what_is_not_on_it(session):
    x = fg.placeholder("x", (8, 8))
    with fg.device("cuda:0"):
        asked = fg.exp(x, name="asked")
    y = fg.sqrt(fg.py_call(np.sort, asked, asked), name="root")
    plan = session.plan(y, {x: (8, 8)})
    text = str(plan)
    assert "asked: (8, 8) float32; placed as asked" in text and "sort: (8, 8) float32; placed where there is a kernel for it" in text
    assert text.count("; placed") == 2
    told = dict(plan.explain().rows["root"])
    assert told["runs"] == "as kernel 2 of the 3 that cuda:0 is asked for in task 2, one behind the other"
    assert told["memory"] == "a new array of 256 B from CuPy's pool, which has it again once nothing reads it any more"
    assert told["cost"].endswith(" on cuda:0") and "slices" not in told
    assert str(session.plan(asked, {x: (8, 8)})).splitlines()[0].endswith("about 45 us on cuda:0, at most 512 B alive")
