"""What differs between two graphs, and between two runs, on one drawing; and groups of nodes in colours."""

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.viz.difference import DifferencePicture, _change
from flowgraph.viz.graph_picture import GraphPicture
from flowgraph.viz.overlay import Overlay
from flowgraph.viz.plan_picture import PlanPicture


def net(activation=fg.exp, scaled=False, axis=None):
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("batch", 4))
        with fg.scope("layer"):
            h = fg.multiply(x, 2.0, name="twice")
            h = activation(h)
            if scaled:
                h = fg.multiply(h, fg.constant(np.float32(0.5), name="half"), name="scaled")
        fg.mean(h, axis=axis)
    return graph


def difference(old, new, depth=9):
    return DifferencePicture(old.nodes, new.nodes, depth, most=None)


def groups(picture):
    return {box.title: box.group for box in picture.boxes.values() if box.group}


def edges(picture, kind):
    boxes = picture.boxes
    return {(boxes[edge.start].title, boxes[edge.end].title) for edge in picture.edges if edge.kind == kind}


def test_a_graph_does_not_differ_from_itself_or_from_one_built_alike():
    for other in (net(), net()):
        drawn = difference(net(), other)
        assert groups(drawn) == {}
        assert drawn.notes[0] == "0 nodes added, 0 removed, 0 changed; 5 nodes in all"


def test_nodes_that_came_and_went_and_their_edges_are_told_apart():
    drawn = difference(net(), net(fg.sin, scaled=True))
    assert groups(drawn) == {"sin": "added", "exp": "removed", "half": "added", "scaled": "added", "mean": "changed"}
    assert edges(drawn, "removed") == {("twice", "exp"), ("exp", "mean")}
    assert edges(drawn, "added") == {("twice", "sin"), ("sin", "scaled"), ("half", "scaled"), ("scaled", "mean")}
    assert len({box.key for box in drawn.boxes.values()}) == len(drawn.boxes) == 7


def test_a_changed_node_says_what_changed():
    old, new = net(axis=0), net(axis=1)
    assert _change(old.node("mean"), new.node("mean")) == "axis (0,) became (1,); (4,) float32 became (batch,) float32"
    note = next(box.note for box in difference(old, new).boxes.values() if box.title == "mean")
    assert note.startswith("axis (0,) became (1,)")


def test_another_input_another_device_and_another_constant_are_changes():
    def build(device, value, swapped):
        with fg.Graph() as graph, fg.device(device):
            a, b = fg.constant(np.full(9, value), name="a"), fg.placeholder("b", (9,), "float64")
            fg.subtract(*((b, a) if swapped else (a, b)), name="y")
        return graph

    old, new = build("cpu:0", 1.0, False), build("cpu:1", 2.0, True)
    assert _change(old.node("a"), new.node("a")) == "another value; on cpu:1, was on cpu:0"
    assert _change(old.node("y"), new.node("y")) == "reads the same in another order; on cpu:1, was on cpu:0"


def test_the_body_of_a_loop_is_compared_by_its_nodes():
    def loop(op):
        with fg.Graph() as graph:
            fg.scan(lambda h, x: (op(h + x), h), fg.constant(np.zeros(3)), fg.placeholder("xs", (5, 3), "float64"))
        return graph

    same, other = difference(loop(fg.tanh), loop(fg.tanh)), difference(loop(fg.tanh), loop(fg.exp))
    assert groups(same) == {}
    assert groups(other)["scan"] == "changed"


def test_a_folded_scope_is_changed_if_anything_in_it_is():
    drawn = difference(net(), net(scaled=True), depth=0)
    assert groups(drawn) == {"layer": "added", "mean": "changed"}  # all that is new in the scope was added
    assert groups(difference(net(), net(fg.sin), depth=0))["layer"] == "changed"
    assert difference(net(), net(), depth=0).boxes.keys() == GraphPicture(net().nodes, 0, most=None).boxes.keys()


def test_two_traces_are_a_heat_map_of_what_got_slower():
    graph = net()
    traces = []
    with fg.Session(graph, threads=1, jit=False) as session:
        for _ in range(2):
            with session.trace() as trace:
                session.run(graph["mean"], {graph.placeholders[0]: np.ones((8, 4), np.float32)})
            traces.append(trace)
    text = str(fg.viz.draw_difference(traces[0], traces[1], format="dot", what="memory"))
    assert "memory made, difference" in text
    assert "-0 B" not in text


def test_a_trace_is_not_compared_with_a_graph():
    with pytest.raises(fg.ArgumentError, match="a trace is compared with a trace"):
        fg.viz.draw_difference(net(), fg.Trace())
    with pytest.raises(fg.ArgumentError, match="draw_difference: the format is one of"):
        fg.viz.draw_difference(net(), net(), "x.gif")


@pytest.mark.parametrize("kind", ["svg", "html", "dot"])
def test_a_difference_is_drawn_in_every_format(kind, tmp_path):
    file = fg.viz.draw_difference(net(), net(fg.sin), tmp_path / f"net.{kind}")
    text = file.read_text()
    assert all(word in text for word in ("added", "removed", "exp", "sin"))
    assert "#a8dfb4" in text


# --- groups


def test_groups_have_colours_and_a_place_in_the_legend():
    graph = net()
    text = str(fg.draw(graph, format="dot", groups={graph.node("mean"): "the end", graph.node("layer/exp"): "the middle"}))
    first, second = Overlay(groups={graph.node("mean"): "the end", graph.node("layer/exp"): "the middle"}).palette.values()
    assert f'fillcolor="{first}"' in text and f'fillcolor="{second}"' in text
    assert "the end" in text.splitlines()[1]
    assert 'fillcolor="#ffffff"' in text  # the others


def test_a_box_of_nodes_of_several_groups_has_the_colour_of_none():
    graph = net()
    overlay = Overlay(groups={graph.node("layer/twice"): "a", graph.node("layer/exp"): "b"})
    (box,) = [box for box in GraphPicture(graph.nodes, 0, overlay=overlay).boxes.values() if box.title == "layer"]
    assert (box.group, box.tooltip.splitlines()[-1]) == ("", "a, b")


def test_devices_are_colours_of_a_graph_when_asked_for_and_of_a_plan_where_there_are_several():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (64, 64))
        with fg.device("cpu:1"):
            a = fg.exp(x)
        with fg.device("cpu:0"):
            y = fg.sum(fg.sin(x) + a)
    assert "cpu:1" in str(fg.draw(graph, format="dot", groups="device")).splitlines()[1]
    assert "cpu:1" not in str(fg.draw(graph, format="dot")).splitlines()[1]
    with fg.Session(graph, devices=["cpu:0", "cpu:1"], threads=1, jit=False) as session:
        plan = session.plan(y, {x: (64, 64)})
    assert "cpu:1" in str(fg.draw(plan, format="dot")).splitlines()[1]
    assert "copy" in {box.kind for box in PlanPicture(plan).boxes.values()}


@pytest.mark.parametrize("groups", ["devices", ["a"], {"x": "a"}, {1: 2}])
def test_groups_that_are_none_are_refused(groups):
    with pytest.raises(fg.ArgumentError, match="draw: groups are names by node"):
        fg.draw(net(), groups=groups)
