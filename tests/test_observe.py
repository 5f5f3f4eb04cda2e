"""A plan run node by node gives the values of a run, bit by bit, and lets each be looked at or changed."""

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.runtime import Walk, evaluated, find_first, started


def walked(session, fetches, feeds, **options):
    """A walk through the plan of a request, about to begin."""
    plan = session.plan(fetches, feeds)
    values = started(plan, session._buffers)
    for (_, slot), tensor in zip(plan.feeds, feeds, strict=True):
        values[slot] = np.asarray(feeds[tensor], tensor.dtype)
    for node, slot in plan.variables:
        values[slot] = session.variables[node.outputs[0]]
    if plan.run_key >= 0:
        values[plan.run_key] = np.array([session.seed, session.random_state[1], 0], np.uint64)
    return Walk(plan, values, session._buffers, **options)


def network():
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("batch", 64))
        y = fg.placeholder("y", ("batch",), "int64")
        model = fg.nn.Sequential(fg.nn.Linear(64, 256), fg.nn.relu, fg.nn.Dropout(0.5), fg.nn.LayerNorm(256), fg.nn.Linear(256, 10))
        loss = fg.mean(fg.nn.softmax_cross_entropy(model(x, training=True), y))
        weights = graph.variables
        step = fg.optim.Adam(1e-3).minimize(loss)
    rng = np.random.default_rng(0)
    return (
        graph,
        [loss, step, *fg.gradients(loss, weights)],
        {x: rng.standard_normal((3000, 64)).astype("f4"), y: rng.integers(0, 10, 3000)},
    )


def loops():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (7, 4), "float64")
        last, ys = fg.scan(lambda c, row: (fg.tanh(c + row), c * row), fg.zeros((4,), "float64"), x)
        twice = fg.while_loop(lambda v: fg.sum(v) < 100.0, lambda v: v * 2 + 1, fg.abs(last))
        z = fg.cond(fg.sum(twice) > 0, lambda: fg.sqrt(twice), lambda: twice)
        fetches = [last, ys, twice, z, *fg.gradients(fg.sum(z) + fg.sum(ys), x)]
    return graph, fetches, {x: np.random.default_rng(1).standard_normal((7, 4))}


def several():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (3000, 64), "float64")
        a, b = fg.split(x, 2, axis=1)
        values, places = fg.top_k(a, 3)
        q, r = fg.linalg.qr(b[:64])
        s = fg.exp(a) * fg.cos(b) - fg.mean(x)
        fetches = [values, places, q @ r, fg.sum(s * s, axis=0), *fg.gradients(fg.sum(fg.sin(s)), x)]
    return graph, fetches, {x: np.random.default_rng(2).standard_normal((3000, 64))}


GRAPHS = [network, loops, several]


@pytest.mark.parametrize("options", [{}, {"jit": False, "passes": ()}, {"memory_limit": "60MB"}, {"devices": ["cpu:0", "cpu:1"]}], ids=str)
@pytest.mark.parametrize("build", GRAPHS)
def test_a_walk_gives_the_bits_of_a_run(build, options):
    graph, fetches, feeds = build()
    with fg.Session(graph, threads=2, **options) as session:
        walk = walked(session, fetches, feeds)
        for _ in walk:
            pass
        plan = walk.plan
        updated = {node.name: walk.values[slot] for node, slot in plan.updates}
        for _ in range(2):
            state = session.random_state
            before = session.variables.copy()
            for have, slot, fetch in zip(session.run(fetches, feeds), plan.fetches, fetches, strict=True):
                if slot >= 0:
                    np.testing.assert_array_equal(have, walk.values[slot], err_msg=fetch.name)
            for name, value in updated.items():
                np.testing.assert_array_equal(session.variables[name], value)
            session.variables.update(before)
            session.random_state = state


@pytest.mark.parametrize("build", GRAPHS)
def test_a_walk_knows_the_value_of_each_tensor_that_the_plan_makes(build):
    graph, fetches, feeds = build()
    with fg.Session(graph, threads=1, jit=False, passes=()) as session:
        walk = walked(session, fetches, feeds)
        for _ in walk:
            pass
        wanted = [tensor for tensor in walk.known if tensor.graph is graph]
        assert len(wanted) > 10
        state = session.random_state
        before = session.variables.copy()
        for tensor in wanted:  # each as it is when a run gives it
            session.random_state = state
            np.testing.assert_array_equal(session.run(tensor, feeds), walk.known[tensor], err_msg=tensor.name)
        assert before.keys() == session.variables.copy().keys()


def test_what_a_compiled_loop_keeps_to_itself_is_evaluated_from_what_it_reads():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (300, 300), "float64")
        inner = fg.exp(x)
        y = fg.tanh(inner * 2 + 1)
    array = np.random.default_rng(0).standard_normal((300, 300))
    with fg.Session(graph) as session:
        walk = walked(session, y, {x: array})
        for _ in walk:
            pass
        assert (inner in walk.known) is not session.jit
        np.testing.assert_allclose(evaluated(inner, walk.known), np.exp(array), rtol=1e-14)
        with pytest.raises(KeyError, match="lonely"):
            evaluated(fg.placeholder("lonely", (2,)) * 2, walk.known)


def test_a_value_that_is_changed_is_what_the_rest_reads():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (2,), "float64")
        a = fg.identity(fg.sort(x), name="a")
        b = fg.sum(a * 10.0)
    with fg.Session(graph, jit=False) as session:
        walk = walked(session, b, {x: [2.0, 1.0]})
        walk.step()
        walk.change(a.node.inputs[0], np.array([5.0, 6.0]))
        for _ in walk:
            pass
        assert walk.values[walk.plan.fetches[0]] == 110.0


def test_bodies_of_loops_are_seen_turn_by_turn():
    graph, fetches, feeds = loops()
    seen = []
    with fg.Session(graph, jit=False) as session:
        for _ in walked(session, fetches[:1], feeds, seen=lambda step: seen.append((*map(str, step.path), step.node.name))):
            pass
    assert ("scan, body 0", "scan/tanh") in seen
    assert ("scan, body 6", "scan/tanh") in seen
    assert ("scan, body 7", "scan/tanh") not in seen


def test_the_first_value_that_is_not_finite_is_found_in_a_loop_too():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (5,), "float64")
        last, _ = fg.scan(lambda c, v: (c + fg.log(v), c), 0.0, x)
        y = last * 2
    with fg.Session(graph, jit=False) as session:
        walk = walked(session, y, {x: [1.0, 2.0, 0.0, 3.0, 4.0]})
        found = find_first(walk.plan, walk.values, session._buffers, lambda value: not np.isfinite(value).all())
        assert found is not None
        step, tensor, value = found
        assert (tensor.node.op.name, str(step.path[0])) == ("log", "scan, body 2")
        assert value == -np.inf
