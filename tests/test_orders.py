"""Orders of tasks, tried at random, with delays, on 1 to 16 threads: bits that differ are found, recorded, replayed and made small."""

import gc
import runpy
import sys
import threading
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.compile import compiler, tasks
from flowgraph.replay import Replay, check_orders
from flowgraph.runtime.chaos import nearest, random_order, shrunk
from flowgraph.runtime.schedule import RunState, Schedule, hurried
from flowgraph.session.runs import Runs

GRAPHS = import_module("test_observe").GRAPHS
STEPS = import_module("test_random_programs").STEPS
ROOT = Path(__file__).resolve().parent.parent


# --- the rules, in a line each


def test_tasks_are_handed_out_by_an_urgency_of_ones_own():
    schedule: Schedule[str] = Schedule({"a": [], "b": [], "c": []})
    assert RunState(schedule, {"a": 3, "b": 1, "c": 2}.__getitem__).start() == ["b", "c", "a"]


def test_hurried_tasks_run_as_soon_as_what_they_wait_for_allows():
    r"""
    0   1   2
     \ /    |
      3     4
       \   /
         5
    """
    schedule: Schedule[int] = Schedule({0: [], 1: [], 2: [], 3: [0, 1], 4: [2], 5: [3, 4]})
    assert hurried(schedule, []) == [0, 1, 2, 3, 4, 5]
    assert hurried(schedule, [4]) == [2, 4, 0, 1, 3, 5]
    assert hurried(schedule, [4, 1]) == [2, 4, 1, 0, 3, 5]
    for seed in range(20):
        order = random_order([[], [], [], [0, 1], [2], [3, 4]], seed)
        assert hurried(schedule, order) == order
        assert all(
            order.index(before) < order.index(task) for task, befores in {3: [0, 1], 4: [2], 5: [3, 4]}.items() for before in befores
        )


def test_what_is_left_when_shrunk_is_all_needed():
    def fails(part):
        return sum(part) >= 12 and 7 in part

    left = shrunk([1, 2, 3, 4, 5, 6, 7, 8], fails)
    assert fails(left)
    assert not any(fails([x for x in left if x is not out]) for out in left)
    assert shrunk([1, 2], lambda part: True) == []


def test_the_nearest_order_keeps_only_what_has_to_be_exchanged():
    assert nearest([4, 2, 3, 1, 0], lambda order: order.index(3) < order.index(1)) == [0, 2, 3, 1, 4]


# --- every graph at hand, in many orders


@pytest.mark.parametrize("options", [{}, {"jit": False, "memory_limit": "60MB"}], ids=str)
@pytest.mark.parametrize("build", GRAPHS)
def test_no_order_changes_a_bit(build, options):
    graph, fetches, feeds = build()
    with fg.Session(graph, threads=2, **options) as session:
        before = session.variables.copy()
        report = check_orders(session, fetches, feeds, rounds=4)
        assert report.is_same, report
        for name, value in session.variables.copy().items():
            np.testing.assert_array_equal(value, before[name])


def test_no_order_changes_a_bit_on_two_devices():
    graph, fetches, feeds = GRAPHS[0]()
    with fg.Session(graph, devices=["cpu:0", "cpu:1"], threads=1) as session:
        report = check_orders(session, fetches, feeds, rounds=8)
        assert report.is_same, report


def test_orders_are_tried_of_what_lies_in_memory_as_no_tape_reads_it():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (4, 4), "float32")
        y = fg.exp(fg.sin(x @ x) + x) * x
    value = np.arange(16, dtype=np.float32).reshape(4, 4).T
    with fg.Session(graph, threads=2, passes=()) as session:
        session.run(y, {x: value})
        assert "one call of 5 kernels" in str(session.plan(y, {x: value})) or not session.jit
        assert check_orders(session, y, {x: value}, rounds=4).is_same


@pytest.mark.parametrize("seed", range(4))
def test_no_order_changes_a_bit_of_a_random_program(seed):
    rng = np.random.default_rng(seed + 100)
    with fg.Graph() as graph:
        x = fg.placeholder("x", (None, 64), "float64")
        tensors = [x]
        for _ in range(9):
            step = STEPS[rng.integers(len(STEPS))]
            tensors.append(step(tensors[rng.integers(len(tensors))], float(rng.normal())))
        loss = fg.stack([fg.sum(fg.sin(t)) for t in tensors[1:]]).sum()
        fetches = [loss, *fg.gradients(loss, x)]
    with fg.Session(graph, threads=2) as session:
        report = check_orders(session, fetches, {x: rng.standard_normal((1500, 64))}, rounds=4, seed=seed)
        assert report.is_same, report


@pytest.mark.parametrize("example", ["lstm_rows.py", "lenet_mnist.py"])
def test_no_order_changes_a_bit_of_a_step_of_an_example(example, tmp_path, monkeypatch):
    """The example is left as soon as it has run its largest plan a few times; that run is then tried in many orders."""

    class Enough(BaseException):
        pass

    seen: dict[Any, Any] = {}
    perform = Runs.perform

    def watching(runs, program, arrays, *options):
        result = perform(runs, program, arrays, *options)
        count, _ = seen.get(program, (0, None))
        seen[program] = count + 1, [np.array(array) for array in arrays]
        if sum(count for count, _ in seen.values()) >= 3:
            largest = max(seen, key=lambda program: len(program.plan.tasks))
            feeds = {tensor: array for (tensor, _), array in zip(largest.plan.feeds, seen[largest][1], strict=True)}
            fetches = list(largest.plan.request.fetches)
            (session,) = [each for each in gc.get_objects() if type(each) is fg.Session and each._runs is runs]
            seen["report"] = check_orders(session, fetches, feeds, rounds=3)
            raise Enough
        return result

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Runs, "perform", watching)
    monkeypatch.setattr(sys, "argv", [example])
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    with pytest.raises(Enough):
        runpy.run_path(str(ROOT / "examples" / example), run_name="__main__")
    assert seen["report"].is_same, seen["report"]


# --- planted bugs


def wide():
    """Products of products, whose order leaves much to choose."""
    with fg.Graph() as graph:
        x = fg.placeholder("x", (300, 300))
        firsts = [fg.matmul(x + k, x, name=f"first{k}") for k in range(4)]
        seconds = [fg.matmul(a, b, name=f"second{k}") for k, (a, b) in enumerate(pairwise(firsts))]
        total = fg.stack([fg.sum(second) for second in seconds])
    return graph, x, total


ARRAY = np.random.default_rng(0).standard_normal((300, 300)).astype("f4")


def without_a_dependency(form_tasks, removed):
    """`form_tasks` with one mistake: a task does not wait for what makes its input."""

    def forming(plan, lowering, **options):
        task_of = form_tasks(plan, lowering, **options)
        for task in plan.tasks:
            if any(unit.node.name == "second1" for unit in task.units):
                removed.append((task.index, task.after[0]))
                task.after = task.after[1:]
                break
        return task_of

    return forming


def test_a_missing_dependency_is_found_recorded_replayed_and_made_small(monkeypatch, tmp_path):
    removed: list[Any] = []
    monkeypatch.setattr("flowgraph.compile.tasks.CHEAP_SECONDS", 1e-9)  # each product is a task of its own
    monkeypatch.setattr(compiler, "form_tasks", without_a_dependency(tasks.form_tasks, removed))
    graph, x, total = wide()
    with fg.Session(graph, threads=4, jit=False) as session:
        plan = session.plan(total, {x: ARRAY})
        ((task, before),) = removed
        report = check_orders(session, total, {x: ARRAY}, record=tmp_path / "bad.fgr")

    assert not report.is_same
    assert 1 < len(report.found) <= len(plan.tasks)
    assert report.pairs == ((task, before),)  # the task that may not be early, and that which it must not overtake
    assert sum(a > b for a, b in pairwise(report.order)) == 1
    text = str(report)
    assert f"when task {task} (second1" in text
    assert f"runs before task {before} (" in text
    assert text.endswith(f"order {' '.join(map(str, report.order))}")

    with Replay(tmp_path / "bad.fgr") as replay:
        comparison = replay.check_order()  # it fails again
        assert not comparison.is_same
        assert "in the recorded order, " in str(comparison)
        assert not replay.verify().is_same  # and in the usual order comes something else
    monkeypatch.undo()
    monkeypatch.setattr("flowgraph.compile.tasks.CHEAP_SECONDS", 1e-9)
    with Replay(tmp_path / "bad.fgr") as replay:  # mended, the order is none any more
        with pytest.raises(fg.ArgumentError, match=f"task {task} waits for task {before}, which comes later"):
            replay.check_order()
        assert not replay.verify().is_same


def test_memory_that_is_given_back_too_early_is_found(monkeypatch):
    monkeypatch.setattr("flowgraph.compile.tasks.CHEAP_SECONDS", 1e-9)
    with fg.Graph() as graph:
        x = fg.placeholder("x", (400, 400))
        shared = fg.matmul(x, x, name="shared")
        parts = [fg.sum(fg.matmul(shared, x + k)) for k in range(3)]
    with fg.Session(graph, threads=4, jit=False) as session:
        feeds = {x: np.random.default_rng(0).standard_normal((400, 400)).astype("f4")}
        plan = session.plan(parts, feeds)
        storage = max(plan.storages.values(), key=lambda entry: entry.sharers)
        assert check_orders(session, parts, feeds, rounds=4).is_same
        storage.sharers -= 1  # the last but one of its readers frees it
        with pytest.raises(fg.FlowgraphError):
            check_orders(session, parts, feeds, rounds=8)  # in the usual order already


def test_functions_that_disturb_each_other_are_found():
    """Two calls of the user's function share a buffer: one at a time each is right, and where they meet one reads the other's numbers."""
    scratch, meeting = np.zeros(1000), threading.Barrier(2)

    def through(x):
        scratch[:] = x
        try:
            meeting.wait(0.02)
        except threading.BrokenBarrierError:  # nobody else is here
            meeting.reset()
        return scratch.sum()

    with fg.Graph() as graph:
        x = fg.placeholder("x", (1000,), "float64")
        call = fg.custom_op(through, infer=lambda x: ((), "float64"), work=lambda x: (1e9, 1e9))
        y = fg.stack([call(x), call(x * 2.0)])
    with fg.Session(graph, jit=False) as session:
        report = check_orders(session, y, {x: np.arange(1000.0)}, rounds=24)
    assert "they disturb each other" in str(report)
    assert report.order == ()


def test_what_fails_in_its_usual_order_fails_at_once():
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("n", "n"), "float64")
        y = fg.linalg.inv(x)
    with fg.Session(graph) as session:
        with pytest.raises(fg.LinAlgError):
            check_orders(session, y, {x: np.zeros((2, 2))})
        with pytest.raises(fg.ArgumentError, match="rounds"):
            check_orders(session, y, {x: np.eye(2)}, rounds=0)
    wrong: Any = graph
    with pytest.raises(fg.ArgumentError, match="a session is expected"):
        check_orders(wrong, y, {})
