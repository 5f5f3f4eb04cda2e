"""A run that the caller drives node by node, and tensors that a session watches."""

from typing import Any

import numpy as np
import pytest

import flowgraph as fg


def training():
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("batch", 32))
        w = fg.variable(np.full((32, 8), 0.1, np.float32), name="w")
        hidden = fg.nn.relu(x @ w)
        noisy = fg.nn.dropout(hidden, 0.5)
        loss = fg.identity(fg.mean(noisy * noisy), name="loss")
        train = fg.optim.SGD(0.1).minimize(loss)
    return graph, x, w, hidden, loss, train


ROWS = np.random.default_rng(0).standard_normal((500, 32)).astype("f4")


def test_steps_give_the_results_of_a_run_and_write_the_variables():
    graph, x, _, _, loss, train = training()
    with fg.Session(graph, seed=1, threads=2) as session, fg.Session(graph, seed=1, threads=2) as other:
        for _ in range(3):
            steps = session.steps({"loss": loss, "train": train}, {x: ROWS})
            names = [step.node.name for step in steps]
            assert len(names) == len(steps) > 3
            results = other.run({"loss": loss, "train": train}, {x: ROWS})
            assert steps.results == results
            np.testing.assert_array_equal(session.variables["w"], other.variables["w"])
        assert session.random_state == other.random_state


def test_results_may_be_asked_for_before_the_steps_are_gone_through():
    graph, x, _, _, loss, train = training()
    with fg.Session(graph, seed=1) as session, fg.Session(graph, seed=1) as other:
        steps = session.steps([loss, train], {x: ROWS})
        next(iter(steps))
        assert steps.results == other.run([loss, train], {x: ROWS})
        assert list(steps) == []


def test_steps_that_are_left_early_write_nothing():
    graph, x, _, _, loss, train = training()
    with fg.Session(graph) as session:
        before = session.variables["w"]
        for step in session.steps([loss, train], {x: ROWS}):
            if step.node.name.startswith("gradients"):
                break
        np.testing.assert_array_equal(session.variables["w"], before)
        session.run(train, {x: ROWS})  # and hold nobody up
        assert (session.variables["w"] != before).any()


def test_a_step_can_change_its_value():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (3,), "float64")
        low, high = fg.split(fg.sort(x), [1])
        total = fg.sum(low) * 100 + fg.sum(high)
    with fg.Session(graph, jit=False) as session:
        steps = session.steps(total, {x: [3.0, 1.0, 2.0]})
        for step in steps:
            if step.node.op.name == "split" and len(step.tensors) == 2:
                with pytest.raises(fg.ArgumentError, match="this step makes split, split:1"):
                    step.change(0.0)
                with pytest.raises(fg.ArgumentError, match=r"is \(1,\), not \(2,\)"):
                    step.change([1.0, 2.0], low)
                step.change(7.0, low)
        assert steps.results == 705.0


def test_a_kernel_that_raises_does_so_at_its_step():
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("n", "n"), "float64")
        y = fg.linalg.inv(fg.identity(x * 2.0))
    with fg.Session(graph, jit=False) as session:
        seen = []
        with pytest.raises(fg.LinAlgError, match="inv"):
            seen += [step.node.name for step in session.steps(y, {x: np.zeros((2, 2))})]
        steps = session.steps(y, {x: np.zeros((2, 2))})
        assert str(next(iter(steps))).startswith("multiply   (2, 2) float64   test_steps.py:")


def test_a_watch_sees_each_value_and_leaves_other_runs_alone():
    graph, x, w, hidden, loss, train = training()
    with fg.Session(graph, threads=2) as session:
        step, weights = session.function([x], [loss, train]), session.function([], w)
        plain = session.plan([loss, train], {x: ROWS})
        values: list[Any] = []
        with session.watch(hidden, values.append) as watch:
            results = [step(ROWS), step(ROWS), session.run([loss, train], {x: ROWS}), session.run_async(loss, {x: ROWS}).result()]
            assert all(len(result) == 2 for result in results[:3])
            assert np.shape(results[3]) == ()
            assert weights().shape == (32, 8)
            assert len(session.plan(w).fetches) == 1
        assert watch.seen == 4
        assert [value.shape for value in values] == [(500, 8)] * 4
        step(ROWS)
        assert watch.seen == 4
        assert session.plan([loss, train], {x: ROWS}) is plain


def test_a_condition_that_holds_ends_the_run_before_it_writes():
    graph, x, _, hidden, loss, train = training()
    with fg.Session(graph, threads=2) as session:
        watch = session.watch(hidden, "max(x) > 100")
        session.run([loss, train], {x: ROWS})
        before = session.variables["w"]
        with pytest.raises(fg.WatchError) as caught:
            session.run([loss, train], {x: ROWS * 1000})
        assert "relu (500, 8) float32 is watched, and max(x) > 100 holds" in str(caught.value)
        assert "test_steps.py" in str(caught.value)
        assert caught.value.node is hidden.node
        np.testing.assert_array_equal(session.variables["w"], before)
        watch.remove()
        watch.remove()
        session.run([loss, train], {x: ROWS * 1000})
        with session.watch(x, lambda value: value.sum() > -1e9), pytest.raises(fg.WatchError, match="the function says so"):
            session.run(loss, {x: ROWS})
        with session.watch(hidden, "max(x) > 100"), pytest.raises(fg.WatchError):
            list(session.steps(loss, {x: ROWS * 1000}))


def test_two_watches_of_one_tensor_are_called_once_each(tmp_path):
    graph, x, _, hidden, loss, _ = training()
    first: list[Any] = []
    second: list[Any] = []
    with fg.Session(graph) as session, session.watch(hidden, first.append), session.watch(hidden, second.append):
        with session.record(tmp_path / "run.fgr"):
            session.run(loss, {x: ROWS})
        assert (len(first), len(second)) == (1, 1)
    with fg.replay.Replay(tmp_path / "run.fgr") as replay:
        assert replay.verify().is_same


def test_what_cannot_be_watched_says_so():
    graph, x, *_ = training()
    with fg.Graph():
        other = fg.placeholder("other", ())
    with fg.Session(graph) as session:
        wrong: list[Any] = [
            (other, "x > 0", "belongs to another graph"),
            ("x", "x > 0", "a tensor is expected"),
            (x, 3, "a condition or a function"),
            (x, "y > 0", "there is no 'y'"),
        ]
        for tensor, test, said in wrong:
            with pytest.raises(fg.ArgumentError, match=said):
                session.watch(tensor, test)
