"""Small loops of a GPU that make new values of variables are one kernel."""

import re

import numpy as np
import pytest

import flowgraph as fg
from benchmarks.gpu.audit import Gpu, uncompiled
from flowgraph.compile import together
from flowgraph.compile.compiler import compile_plan
from flowgraph.compile.together import Together
from flowgraph.devices.device import HOST
from flowgraph.jit import llvm
from tests import cuda_on_host
from tests.stand_in import standing_in
from tests.test_cuda import rows

needs_compilers = pytest.mark.skipif(cuda_on_host.COMPILER is None or not llvm.is_available(), reason="g++ or llvmlite is not installed")


def network(optimizer):
    x, labels = fg.placeholder("x", ("n", 20)), fg.placeholder("labels", ("n",), "int64")
    h = fg.nn.relu(fg.nn.Linear(20, 30)(x))
    loss = fg.mean(fg.nn.softmax_cross_entropy(fg.nn.Linear(30, 10)(h), labels))
    return [loss, optimizer.minimize(loss)], {x: rows(16, 20), labels: np.arange(16) % 10}


def plan_of(fetches, feeds):
    return compile_plan(fetches, {x: np.shape(value) for x, value in feeds.items()}, Gpu(), compiled=uncompiled, others=(HOST,))


def test_the_updates_of_all_variables_are_one_kernel_behind_all_others():
    with fg.Graph():
        fetches, feeds = network(fg.optim.SGD(0.1))
        plan = plan_of(fetches, feeds)
    (op,) = {unit.node.op for unit in plan.units if isinstance(unit.node.op, Together)}
    assert sorted(made.spec.shape for made in op.results) == [(10,), (20, 30), (30,), (30, 10)]
    assert "together: 4 small loops are one kernel" in plan.notes
    assert isinstance(plan.units[-2].node.op, Together)  # the last of all is the copy of the loss


def test_what_others_read_stays_where_it_is():
    with fg.Graph():
        x = fg.placeholder("x", (8, 20))
        v, w = (fg.variable(np.ones((20, 20), np.float32), name=name) for name in "vw")
        new = [fg.multiply(v * 0.5 + 1.0, v), fg.multiply(w * 0.5 + 1.0, w)]
        step = fg.group([fg.assign(v, new[0]), fg.assign(w, new[1])])
        assert any("together: 2" in note for note in plan_of([step], {x: rows(8, 20)}).notes)
        for fetch in (new[0], x @ new[1]):  # fetched, and read by a product
            assert not any("together" in note for note in plan_of([step, fetch], {x: rows(8, 20)}).notes)


def test_what_waits_for_an_update_is_behind_it():
    with fg.Graph():
        v, w = (fg.variable(np.ones((20, 20), np.float32), name=name) for name in "vw")
        step = fg.group([fg.assign(v, v * 0.5 + 1.0), fg.assign(w, w * 0.5 + 1.0)])
        with fg.control_dependencies([step]):
            after = fg.tanh(fg.ones((4,)))
        assert not any("together" in note for note in plan_of([after], {}).notes)


@needs_compilers
@pytest.mark.parametrize("make", [lambda: fg.optim.SGD(0.1, momentum=0.9), lambda: fg.optim.Adam(0.01)], ids=["SGD", "Adam"])
def test_it_changes_no_bit(make, monkeypatch):
    results = []
    for most in (together.MOST_ELEMENTS, 0):
        monkeypatch.setattr(together, "MOST_ELEMENTS", most)
        with standing_in() as cupy, fg.Graph() as graph:
            fetches, feeds = network(make())
            with fg.Session(graph, device="cuda:0", seed=0) as session:
                step = session.function(list(feeds), fetches)
                losses = [step(*feeds.values())[0] for _ in range(4)]  # the last two replayed
                results.append([*losses, *session.variables.copy().values()])
                assert ("together" in {entry[0] for entry in cupy.gpu.log}) == bool(most)
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@needs_compilers
def test_more_variables_than_a_kernel_can_be_given_are_several_kernels(monkeypatch):
    monkeypatch.setattr("flowgraph.jit.cuda_together.MOST_ARRAYS", 5)
    values = [np.full(size, size, np.float32) for size in range(2, 8)]
    with standing_in() as cupy, fg.Graph() as graph:
        variables = [fg.variable(value, name=f"v{i}") for i, value in enumerate(values)]
        step = fg.group([fg.assign(v, fg.tanh(v * 0.5) + 1.0) for v in variables])
        with fg.Session(graph, device="cuda:0") as session:
            notes = session.plan(step, {}).notes
            for _ in range(3):
                session.run(step)
                values = [np.tanh(value * np.float32(0.5)) + np.float32(1) for value in values]
            assert any(re.fullmatch("together: 6 small loops are 3 kernels", note) for note in notes)
            for v, value in zip(variables, values, strict=True):
                np.testing.assert_allclose(session.variables[v], value, 1e-6)
    assert [entry[0] for entry in cupy.gpu.log].count("together") >= 6
