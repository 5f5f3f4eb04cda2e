"""Columns: large graphs are looked through as arrays of numbers, and their plans are those that a walk from node to node gives."""

import gc
import random
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import flowgraph as fg
from flowgraph.compile import compiler, fuse, lower, needed, regions, suspects
from flowgraph.compile.columns import columns_of, distinct, order_of
from flowgraph.compile.shapes import specialise
from flowgraph.compile.trees import Trees
from flowgraph.graph.graph import COLLECTOR

OPERATIONS: list[Any] = [
    *(fg.add, fg.multiply, fg.subtract, fg.maximum, fg.divide),
    lambda a, b: -b,
    lambda a, b: b * 1,
    lambda a, b: fg.exp(a),
    lambda a, b: fg.reshape(b, (3,)),
    lambda a, b: fg.zeros_like(a),
]


def some_graph(seed, size=60):
    """A graph with constants, repeated nodes, nodes that do nothing, and nodes that nobody reads; and a few of its tensors."""
    draw = random.Random(seed)
    with fg.Graph() as graph:
        tensors = [fg.placeholder(name, (3,), "float64") for name in "xy"]
        tensors += [fg.constant(np.full(3, value)) for value in (0.0, 1.0, 1.0)]
        for _ in range(size):
            a, b = draw.choice(tensors), draw.choice(tensors[-12:])
            make = draw.choice(OPERATIONS)
            if draw.random() < 0.05:
                with fg.control_dependencies([draw.choice(tensors[5:] or [a])]):
                    tensors.append(make(a, b))
            else:
                tensors.append(make(a, b))
    fetches = draw.sample(tensors, 3)
    feeds = [*tensors[:2], *draw.sample(tensors[5:], draw.randrange(2))]
    return graph, fetches, feeds


@contextmanager
def all_graphs_large(stretch):
    """Within it every graph counts as large, and ``stretch`` plain nodes one behind the other are lowered together."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (compiler, lower, needed, suspects):
            patch.setattr(module, "LARGE", 1)
        patch.setattr(suspects, "MOST", 2)
        patch.setattr(lower, "STRETCH", stretch)
        yield


@given(st.integers(0, 2**32), st.sampled_from([1, 2, 5]))
@example(49199242, 1)  # other nodes stand in for all of them
@settings(max_examples=150, deadline=None)
def test_a_large_graph_is_planned_like_a_small_one(seed, stretch):
    graph, fetches, feeds = some_graph(seed)
    shapes = dict.fromkeys(feeds, (3,))
    with fg.Session(graph, threads=1, jit=False) as session:
        small = session.plan(fetches, shapes)
    with all_graphs_large(stretch), fg.Session(graph, threads=1, jit=False) as session:
        large = session.plan(fetches, shapes)
    assert str(large) == str(small)
    assert large.copied == small.copied
    assert large.seconds == pytest.approx(small.seconds)
    assert [(task.peak_bytes, task.kept_bytes) for task in large.tasks] == [(task.peak_bytes, task.kept_bytes) for task in small.tasks]


@given(st.integers(0, 2**32), st.sampled_from([1, 2, 5]))
@settings(max_examples=50, deadline=None)
def test_a_large_graph_has_the_values_of_a_small_one(seed, stretch):
    graph, fetches, feeds = some_graph(seed)
    values = {tensor: np.random.default_rng(seed + i).standard_normal(3) for i, tensor in enumerate(feeds)}
    with fg.Session(graph, threads=1, jit=False) as session:
        expected = session.run(fetches, values)
    with all_graphs_large(stretch), fg.Session(graph, threads=1, jit=False) as session:
        for _ in range(3):  # by the interpreter, then by a generated program
            for have, want in zip(session.run(fetches, values), expected, strict=True):
                np.testing.assert_array_equal(have, want)


def test_units_of_a_large_graph_are_made_when_somebody_looks_at_them():
    with fg.Graph() as graph:
        x = y = fg.placeholder("x", (2,), "float64")
        for _ in range(500):
            y = fg.exp(y)
    with fg.Session(graph, threads=1, jit=False) as session:
        units = session.plan(y, {x: (2,)}).units
        assert [len(chunk) for chunk in units.chunks] == [500]
        assert units[-1].node is y.node
        assert len(units) == 500
        assert not units.chunks


def test_an_error_in_a_large_graph_names_its_node():
    with fg.Graph() as graph:
        x = y = fg.placeholder("x", (None,), "float64")
        z = fg.placeholder("z", (None,), "float64")
        for _ in range(500):
            y = fg.exp(y)
        w = y + z
        for _ in range(500):
            w = fg.tanh(w)
    with all_graphs_large(5), fg.Session(graph, threads=1, jit=False) as session, pytest.raises(fg.ShapeError, match="add: shapes"):
        session.run(w, {x: np.zeros(2), z: np.zeros(3)})


def test_columns_grow_with_their_graph():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (), "float64")
        y = x * x
        assert columns_of(graph).makers.tolist() == [x.node.id, x.node.id]
        z = y + x
        with fg.control_dependencies([z]):
            fg.exp(y)
        columns = columns_of(graph)
        assert columns.count == len(graph) == 4
        assert columns.readers[columns.makers == x.node.id].tolist() == [y.node.id, y.node.id, z.node.id]
        assert columns.control == [(3, z.node.id)]


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_keys_are_put_in_order_and_equal_ones_stay_as_they_stood(dtype):
    keys = np.array([3, 0, 2**31 - 1, 3, 0, 7], dtype)
    assert order_of(keys).tolist() == [1, 4, 0, 3, 5, 2]


@pytest.mark.parametrize("apart", [1, 10**6])
@pytest.mark.parametrize("keys", [[], [7], [5, -3, 5, 0, -3, 9]])
def test_different_keys_are_found_at_their_first_places_in_ascending_order(keys, apart):
    numbers = np.array(keys, np.int64) * apart
    places, which = distinct(numbers)
    _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    assert places.tolist() == first.tolist() and which.tolist() == inverse.tolist()


def test_nodes_that_may_repeat_each_other_have_one_hash_and_others_have_not():
    with fg.Graph() as graph:
        x, y = (fg.placeholder(name, (), "float64") for name in "xy")
        tensors = [x + y, x + y, y + x, x * y, fg.exp(x), fg.exp(y)]
        hashes = [int(columns_of(graph).hashes()[tensor.node.id]) for tensor in tensors]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == len(hashes) - 1


def test_a_chain_of_nodes_that_nobody_needs_is_left_out_of_a_large_graph():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (2,), "float64")
        y = unneeded = x + 1
        for _ in range(30):
            y, unneeded = fg.exp(y), unneeded + x
    with all_graphs_large(5), fg.Session(graph, threads=1, jit=False) as session:
        assert [unit.node.op.name for unit in session.plan(y, {x: (2,)}).units] == ["add"] + ["exp"] * 30


@pytest.mark.parametrize("size", [10, 4000])
def test_a_graph_of_many_nodes_is_searched_for_regions_only_if_it_has_large_arrays(size, monkeypatch):
    pytest.importorskip("llvmlite")
    with fg.Graph() as graph:
        x = y = fg.placeholder("x", ("n",), "float32")
        for _ in range(20):
            y = fg.exp(y)
    searched = []
    monkeypatch.setattr(fuse, "MANY_NODES", 10)
    monkeypatch.setattr(regions.Regions, "grow", lambda self, apart: searched.append(self))
    with fg.Session(graph, threads=1) as session:
        session.plan(y, {x: (size,)})
    assert bool(searched) == (size > 1024)


@contextmanager
def all_trees_worth_a_loop():
    """Within it every graph counts as large, and small arrays become loops however few they are."""
    pytest.importorskip("llvmlite")
    with all_graphs_large(5), pytest.MonkeyPatch.context() as patch:
        for name, value in {"MANY_NODES": 1, "WORTH_SECONDS": 0, "WORTH_TOGETHER": 0}.items():
            patch.setattr(fuse, name, value)
        yield


def loops_of(plan):
    return [unit.node for unit in plan.units if isinstance(unit.node, fuse.FusedNode)]


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_trees_of_small_arrays_have_the_values_of_their_nodes(seed):
    graph, fetches, feeds = some_graph(seed)
    values = {tensor: np.random.default_rng(seed + i).standard_normal(3) for i, tensor in enumerate(feeds)}
    with fg.Session(graph, threads=1, jit=False) as session:
        expected = session.run(fetches, values)
    with all_trees_worth_a_loop(), fg.Session(graph, threads=1) as session:
        for _ in range(3):
            for have, want in zip(session.run(fetches, values), expected, strict=True):
                np.testing.assert_allclose(have, want, rtol=1e-12, atol=1e-14)  # (exp's last digit may be what is left of a difference)


def test_a_chain_whose_pattern_repeats_is_loops_that_share_their_machine_code():
    pytest.importorskip("llvmlite")
    with fg.Graph() as graph:
        x, a, b = (fg.placeholder(name, (16,), "float32") for name in "xab")
        y = x
        for k in range(1000):
            y = fg.maximum(y, b) if k % 3 else y + a
    rows = np.random.default_rng(0).uniform(-1, 1, (3, 16)).astype("f4")
    feeds = dict(zip((x, a, b), rows, strict=True))
    with fg.Session(graph, threads=1, jit=False) as session:
        expected = session.run(y, feeds)
    with fg.Session(graph, threads=1) as session:
        loops = loops_of(session.plan(y, dict.fromkeys(feeds, (16,))))
        assert [len(node.op.members) for node in loops] == [180] * 5 + [100]
        assert len({id(node.op.loop) for node in loops}) == 2
        assert session.run(y, feeds).tobytes() == expected.tobytes()


def test_what_two_nodes_read_ends_a_tree():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (3,), "float32")
        shared = fg.exp(-x)
        y = (shared + 1) * (shared * 2 + x)
    with all_trees_worth_a_loop(), fg.Session(graph, threads=1) as session:
        loops = loops_of(session.plan(y, {x: (3,)}))
    assert [[node.op.name for node in loop.op.members] for loop in loops] == [["negative", "exp"], ["add", "multiply", "add", "multiply"]]


def test_a_small_array_that_leads_to_a_large_one_alone_is_part_of_its_loop(monkeypatch):
    pytest.importorskip("llvmlite")
    with fg.Graph() as graph:
        x = fg.placeholder("x", (64, 256), "float32")
        centred = x - fg.mean(x, axis=1, keepdims=True)
        scale = 1 / fg.sqrt(fg.mean(fg.square(centred), axis=1, keepdims=True) + 1e-5)
        y = centred * scale
    monkeypatch.setattr(fuse, "MANY_NODES", 1)
    with fg.Session(graph, threads=1) as session:
        (loop,) = loops_of(session.plan(y, {x: (64, 256)}))
    assert len(loop.op.members) == 8


def test_a_few_nodes_of_a_large_graph_are_planned_without_a_look_at_the_others():
    with fg.Graph() as graph:
        x = y = fg.placeholder("x", (2,), "float64")
        for _ in range(2000):
            y = fg.exp(y)
        z = fg.tanh(x) + 1
    with fg.Session(graph, threads=1, jit=False) as session:
        assert [unit.node.op.name for unit in session.plan(z, {x: (2,)}).units] == ["tanh", "add"]
        assert "columns" not in graph.memo
        assert len(session.plan(y, {x: (2,)}).units) == 2000


def test_a_few_windows_say_whether_all_of_a_large_graph_is_searched_for_trees(monkeypatch):
    pytest.importorskip("llvmlite")
    searched: list[int] = []

    class Counted(Trees):
        def __init__(self, candidates, *given):
            searched.append(len(candidates.nodes))
            super().__init__(candidates, *given)

    monkeypatch.setattr(fuse, "Trees", Counted)
    draw = random.Random(0)
    for repeats, expected in [(True, [3 * 512, 5000]), (False, [3 * 512])]:
        with fg.Graph() as graph:
            inputs = [fg.placeholder(f"x{k}", (16,), "float32") for k in range(1 if repeats else 5001)]
            tensors = [*inputs]
            for k in range(5000):
                if repeats:  # a chain
                    tensors = [[fg.add, fg.multiply][k % 2](tensors[0], inputs[0])]
                else:  # a tree in which few parts are alike
                    a, b = (tensors.pop(draw.randrange(len(tensors))) for _ in range(2))
                    tensors.append(draw.choice([fg.add, fg.multiply, fg.maximum])(a, b))
        searched.clear()
        with fg.Session(graph, threads=1) as session:
            loops = loops_of(session.plan(tensors[-1], dict.fromkeys(inputs, (16,))))
        assert searched == expected
        assert bool(loops) == repeats


def test_garbage_is_not_collected_while_a_plan_is_made(monkeypatch):
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("n",), "float32")
        y = x + fg.placeholder("z", (3,), "float32")
    before, seen = gc.get_threshold(), []

    def noted(*given):
        seen.append(gc.get_threshold())
        return specialise(*given)

    with fg.Session(graph) as session:
        monkeypatch.setattr(compiler, "specialise", noted)
        with pytest.raises(fg.FeedError):
            session.plan(y, {x: (3,)})
        assert seen == [(0, *before[1:])]
        assert gc.get_threshold() == before


def test_blocks_that_hold_back_the_garbage_collector_may_end_in_any_order():
    before = gc.get_threshold()
    COLLECTOR.rarely.__enter__()
    COLLECTOR.paused.__enter__()
    COLLECTOR.rarely.__exit__()
    assert gc.get_threshold()[0] == 0
    COLLECTOR.rarely.__enter__()
    COLLECTOR.paused.__exit__()
    assert gc.get_threshold()[0] >= 10_000
    COLLECTOR.rarely.__exit__()
    assert gc.get_threshold() == before
