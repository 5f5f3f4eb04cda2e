"""Loops and branches in files: what they hold comes back, with gradients and random draws in it, and what cannot be is refused."""

import copy
import json
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flowgraph as fg
from flowgraph.graph import SubGraph
from tests.test_graph_file import JSON, assert_refused, described, packed, reloaded


def loops_and_branches():
    """A recurrent network in training, loops in branches in loops, draws within them, and their gradients twice over."""
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("batch", "time", 3), "float32")
        with fg.device("cpu:0"):
            h = fg.nn.LSTM(3, 4)(x)
        h = fg.nn.GRU(4, 4, reverse=True)(h, mask=fg.sum(x, axis=-1) > -5)

        def noisy(total, row):
            total = total + fg.random.normal((), dtype="float32") * fg.sum(row)
            return fg.cond(fg.sum(row) > 0, lambda: total * 2, lambda: total - fg.scan(lambda c, v: (c + v, None), total, row)[0]), total

        total, ys = fg.scan(noisy, np.float32(0), h[0])
        grown, _ = fg.while_loop(lambda c: c[1] < 5, lambda c: (c[0] * 1.5, c[1] + 1), (total, 0))
        rows = fg.vmap(lambda row: fg.scan(lambda c, v: (c * v, c), np.float32(1), row)[0])(h[:, :, 0])
        loss = fg.identity(fg.mean(fg.square(h)) + grown * 0.01 + fg.sum(ys) * 0.01 + fg.sum(rows), name="loss")
        fg.optim.Adam(0.01).minimize(loss)
        (gradient,) = fg.gradients(loss, [x])
        (curved,) = fg.gradients(fg.sum(fg.square(gradient)), [x])
        fg.identity(curved, name="curved")
    return graph


@pytest.fixture(scope="module")
def graph():
    return loops_and_branches()


def test_a_loaded_graph_says_the_same_of_every_node_in_its_loops(graph, tmp_path):
    loaded = reloaded(graph, tmp_path)
    assert described(loaded) == described(graph)
    for node in loaded:
        for value in node.attrs.values():
            if isinstance(value, SubGraph):
                assert value.parent is loaded
                assert value.is_inside(loaded)


def test_a_loaded_graph_trains_its_loops_to_the_same_bits(graph, tmp_path):
    rows = np.random.default_rng(0).standard_normal((4, 5, 3), dtype=np.float32)

    def trained(graph):
        with fg.Session(graph, threads=1, seed=7) as session:
            wanted = [graph["loss"], graph["curved"], graph.node("train/update")]
            results = [session.run(wanted, {graph["x"]: rows}) for _ in range(3)]
            return [r[0] for r in results], [r[1] for r in results], session.variables.copy()

    ours, theirs = trained(graph), trained(reloaded(graph, tmp_path))
    assert ours[0] == theirs[0]
    assert len(set(ours[0])) == 3
    np.testing.assert_array_equal(ours[1], theirs[1])
    for name, value in ours[2].items():
        np.testing.assert_array_equal(theirs[2][name], value)


def test_saving_what_was_loaded_gives_the_same_file(graph, tmp_path):
    fg.io.save_graph(graph, tmp_path / "one")
    fg.io.save_graph(fg.io.load_graph(tmp_path / "one"), tmp_path / "two")
    fg.io.save_graph(fg.io.load_graph(tmp_path / "two"), tmp_path / "three")
    assert (tmp_path / "two").read_bytes() == (tmp_path / "three").read_bytes()


def test_a_loaded_loop_has_gradients_and_new_draws_in_loops_have_streams_of_their_own(tmp_path):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (3,), "float64")
        total, draws = fg.scan(lambda c, v: (c * v, fg.random.normal(())), 1.0, x)
        fg.identity(total, name="total")
        fg.identity(draws, name="draws")
    loaded = reloaded(graph, tmp_path)
    with loaded, fg.Session(loaded, threads=1) as session:
        (gradient,) = fg.gradients(loaded["total"], [loaded["x"]])
        _, more = fg.scan(lambda c, v: (c, fg.random.normal(())), 1.0, loaded["x"])
        got, before, after = session.run([gradient, loaded["draws"], more], {loaded["x"]: [2.0, 3.0, 5.0]})
    np.testing.assert_allclose(got, [15, 10, 6])
    assert len({*before.tolist(), *after.tolist()}) == 6


# What is well packed and wrong


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A loop that captures ``k``, as JSON, and the arrays beside it."""
    with fg.Graph() as graph:
        k = fg.placeholder("k", (), "float64")
        fg.scan(lambda c, v: (c + v * k, c), np.float64(0), fg.placeholder("x", (3,), "float64"))
    path = tmp_path_factory.mktemp("small") / "g"
    fg.io.save_graph(graph, path)
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("graph.json")), archive.read("arrays.safetensors")


def changed(small, steps, value):
    document = copy.deepcopy(small[0])
    at: Any = document["nodes"][-1]["attrs"]["body"]
    for step in steps[:-1]:
        at = at[step]
    at[steps[-1]] = value
    return document


CHANGES = [
    (["sub_graph"], 3, "'scope' is missing"),
    (["sub_graph", "device"], 3, "has a device that is no text: 3"),
    (["sub_graph", "inputs"], [], "has a sub-graph with an input twice, or a placeholder that is none of its inputs"),
    (["sub_graph", "inputs", 0], [99, 0], "has an input that is no earlier tensor: [99, 0]"),
    (["sub_graph", "inputs", 0], [3, 0], "has a sub-graph with an input"),
    (["sub_graph", "captures"], {}, "'captures' is missing"),
    (["sub_graph", "captures", 0], 3, "has a capture that is none: 3"),
    (["sub_graph", "captures", 0, 0], [99, 0], "has an input that is no earlier tensor"),
    (["sub_graph", "outputs"], [], "says that an output is () float64, (3,) float64, but it is () float64"),
    (["sub_graph", "outputs", 0], [99, 0], "has an input that is no earlier tensor"),
    (["sub_graph", "nodes", 0, "op"], "exit", "has an operation that is not known here, 'exit'"),
    (["sub_graph", "nodes", 0, "location"], 99, "has no location 99"),
    (["sub_graph", "nodes", 0, "context"], 99, "has no context 99"),
]


@pytest.mark.parametrize(("steps", "value", "text"), CHANGES, ids=lambda part: str(part)[:40])
def test_a_loop_that_cannot_be_is_refused(small, tmp_path, steps, value, text):
    fg.io.load_graph(packed(tmp_path / "good", small[0], small[1]))
    assert_refused(packed(tmp_path / "g", changed(small, steps, value), small[1]), text)


def test_graphs_within_graphs_end_somewhere(small, tmp_path):
    text = json.dumps(small[0])
    holder = json.dumps(small[0]["nodes"][-1])
    nested = holder
    for _ in range(60):
        inner = json.loads(holder)
        inner["attrs"]["body"]["sub_graph"]["nodes"] = "HERE"
        nested = json.dumps(inner).replace('"HERE"', f"[{nested}]")
    document = text.replace(holder, nested)
    assert document != text
    path = packed(tmp_path / "g", document, small[1])
    with pytest.raises(fg.FileFormatError):
        fg.io.load_graph(path)


def test_a_node_that_extends_one_that_is_not_before_it_is_refused(small, tmp_path):
    document = copy.deepcopy(small[0])
    document["nodes"][-1]["attrs"]["extends"] = {"node": 99}
    assert_refused(packed(tmp_path / "g", document, small[1]), "refers to a node that does not come before it: 99")


PLACES = [
    ["sub_graph"],
    *(["sub_graph", key] for key in ("scope", "device", "contexts", "nodes", "inputs", "captures", "outputs")),
    *(["sub_graph", key, 0] for key in ("contexts", "nodes", "inputs", "captures", "outputs")),
    *(["sub_graph", "nodes", 0, key] for key in ("op", "inputs", "outputs", "attrs")),
]


@settings(max_examples=300)
@given(steps=st.sampled_from(PLACES), value=JSON)
def test_any_part_of_a_loop_replaced_by_anything_gives_a_graph_or_a_clear_error(small, tmp_path_factory, steps, value):
    path = packed(tmp_path_factory.mktemp("any") / "g", changed(small, steps, value), small[1])
    try:
        graph = fg.io.load_graph(path)
    except fg.FileFormatError:
        return
    assert isinstance(graph, fg.Graph)


@settings(max_examples=200)
@given(key=st.sampled_from(["carries", "xs", "length", "reverse", "extends", "body"]), value=JSON)
def test_any_setting_of_a_loop_replaced_by_anything_gives_a_graph_or_a_clear_error(small, tmp_path_factory, key, value):
    document = copy.deepcopy(small[0])
    document["nodes"][-1]["attrs"][key] = value
    try:
        graph = fg.io.load_graph(packed(tmp_path_factory.mktemp("any") / "g", document, small[1]))
    except fg.FileFormatError:
        return
    assert isinstance(graph, fg.Graph)
