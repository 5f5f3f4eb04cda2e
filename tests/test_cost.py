"""What a plan costs, as formulas in the sizes that its feeds leave open."""

from fractions import Fraction
from importlib import import_module

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.compile.formulas import Formula

GRAPHS = import_module("test_observe").GRAPHS


def perceptron():
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("batch", 64))
        hidden = fg.nn.relu(x @ fg.variable(np.ones((64, 32), np.float32), name="w"))
        y = hidden @ fg.variable(np.ones((32, 10), np.float32), name="v")
    return graph, x, y


@pytest.mark.parametrize("jit", [False, None])
def test_flops_and_bytes_are_exact_polynomials(jit):
    graph, x, y = perceptron()
    with fg.Session(graph, jit=jit) as session:
        cost = session.plan(y, {x: (100, 64)}).cost()
        for batch in (1, 7, 1000):
            products = 2 * batch * 64 * 32 + 2 * batch * 32 * 10
            assert cost.flops(batch=batch) == products + batch * 32
            assert cost.held(batch=batch) == 4 * (batch * 64 + 64 * 32 + 32 * 10)
        assert str(cost.flops) == f"{2 * 64 * 32 + 2 * 32 * 10 + 32:.3g} batch".replace("e+0", "e")
        assert cost.flops.is_exact
        assert cost.bytes.is_exact
        assert cost.sizes == {"batch": 100}


def test_several_sizes_and_their_powers_are_found():
    with fg.Graph() as graph:
        q = fg.placeholder("q", ("batch", "time", 8))
        scores = q @ fg.matrix_transpose(q)
        total = fg.sum(scores)
    with fg.Session(graph, jit=False) as session:
        cost = session.plan(total, {q: (4, 16, 8)}).cost()
    assert cost.flops(batch=3, time=50) == 3 * 50 * 50 * (2 * 8 + 1)
    assert str(cost.flops) == "17 batch time²"
    assert cost.peak.is_exact
    assert cost.peak(batch=3, time=50) == 3 * 50 * 50 * 4 + 4
    with pytest.raises(fg.ArgumentError, match="the formula is in batch, time, got batch"):
        cost.flops(batch=3)


@pytest.mark.parametrize("build", GRAPHS)
def test_the_formulas_give_what_plans_of_other_sizes_say(build):
    graph, fetches, feeds = build()
    with fg.Session(graph) as session:
        cost = session.plan(fetches, feeds).cost()
        assert cost.at().peak == session.plan(fetches, feeds).peak_bytes
        if "batch" in cost.sizes:
            for batch in (200, 1500, 9000):
                shapes = {tensor: (batch, *np.shape(value)[1:]) for tensor, value in feeds.items()}
                plan = session.plan(fetches, shapes)
                assert cost.at(batch=batch).peak == plan.peak_bytes
                assert cost.flops(batch=batch) == cost.at(batch=batch).flops
                assert abs(cost.peak(batch=batch) - plan.peak_bytes) <= 0.25 * plan.peak_bytes


def test_the_largest_batch_that_fits_fits_and_one_more_does_not():
    graph, x, y = perceptron()
    with fg.Session(graph) as session:
        cost = session.plan(y, {x: (100, 64)}).cost()
    batch = cost.largest("batch", "1MB")
    assert 1000 < batch < 3000
    for size, fits in ((batch, True), (batch + 1, False)):
        costs = cost.at(batch=size)
        assert (costs.peak + costs.held <= 1e6) is fits
    assert cost.largest("batch", 100) == 0
    with pytest.raises(fg.ArgumentError, match="there is no size 'bach'"):
        cost.largest("bach", "1MB")


def test_what_is_no_polynomial_says_about():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (None,), "float64")
        y = fg.sort(x)
    with fg.Session(graph) as session:
        cost = session.plan(y, {x: (1000,)}).cost()
    assert not cost.flops.is_exact
    assert str(cost.flops).startswith("about ")
    assert "x[0]" in str(cost.flops)
    assert cost.bytes.is_exact


def test_a_size_that_the_graph_holds_fast_is_no_variable():
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("batch", 4))
        y = fg.sum(x + np.ones((5, 4), np.float32))
    with fg.Session(graph) as session:
        cost = session.plan(y, {x: (5, 4)}).cost()
        assert cost.sizes == {}
        assert cost.flops() == cost.at().flops > 0
        assert "with" not in str(cost)


def test_loops_count_with_their_turns():
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("time", 16, 32))
        w = fg.constant(np.ones((32, 32), np.float32), name="w")
        last, _ = fg.scan(lambda c, row: (c @ w + row, c), fg.zeros((16, 32)), x)
    with fg.Session(graph) as session:
        cost = session.plan(last, {x: (10, 16, 32)}).cost()
    assert cost.flops(time=100) == pytest.approx(100 * (2 * 16 * 32 * 32 + 16 * 32), rel=0.01)


def test_the_plan_of_a_body_has_no_cost_of_its_own():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (5,), "float64")
        last, _ = fg.scan(lambda c, v: (c + fg.log(v), c), 0.0, x)
    with fg.Session(graph) as session:
        plan = session.plan(last, {x: (5,)})
        body = next(unit.bodies[0] for unit in plan.units if unit.bodies)
        with pytest.raises(fg.ArgumentError, match="the plan of a sub-graph"):
            body.cost()


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([{(2,): 3, (1,): 1, (0,): 5}], "3 n² + n + 5"),
        ([{(1,): 2300000, (0,): -110000}], "2.3e6 n - 1.1e5"),
        ([{}], "0"),
        ([{(1,): 2}, {(0,): 7}], "max(2 n, 7)"),
    ],
)
def test_formulas_read_like_algebra(pieces, text):
    formula = Formula(["n"], [{powers: Fraction(value) for powers, value in terms.items()} for terms in pieces], True)
    assert str(formula) == text
    assert formula({"n": 2}) == formula(n=2)
