"""What is laid over a drawing: heat in real units, notes, marks."""

import math
import re

import pytest

import flowgraph as fg
from flowgraph.graph.text import quantity
from flowgraph.viz import dot
from flowgraph.viz import svg as svg_of
from flowgraph.viz.graph_picture import GraphPicture
from flowgraph.viz.heat import COOL_WARM, WARM, Scale, ink
from flowgraph.viz.overlay import Overlay
from flowgraph.viz.plan_picture import PlanPicture


def network():
    """Two layers in scopes of their own."""
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("batch", 4))
        with fg.scope("first"):
            h = fg.exp(fg.sin(x))
        with fg.scope("second"):
            fg.cos(h)
    return graph


def boxes(graph, depth=9, **options):
    return {box.title: box for box in GraphPicture(graph.nodes, depth, overlay=Overlay(**options)).boxes.values()}


def test_a_box_shows_its_number_with_a_unit_and_a_folded_scope_the_sum():
    graph = network()
    heat = fg.viz.Heat({graph.node("first/sin"): 1e-3, graph.node("first/exp"): 2.5e-3}, "s", "time")
    opened, folded = boxes(graph, heat=heat), boxes(graph, 0, heat=heat)
    assert (opened["exp"].detail, opened["cos"].detail) == ("2.5 ms", "")
    assert folded["first"].detail == "2 nodes, 3.5 ms"
    assert folded["first"].tooltip.endswith("time: 3.5 ms")


def test_a_folded_scope_shows_the_largest_of_numbers_that_cannot_be_added():
    graph = network()
    values = {graph.node("first/sin"): -5.0, graph.node("first/exp"): 2.0}
    assert boxes(graph, 0, heat=fg.viz.Heat(values))["first"].heat == -5.0
    assert boxes(graph, 0, heat=fg.viz.Heat(values, fold="sum"))["first"].heat == -3.0


def test_numbers_by_tensor_count_for_its_node():
    graph = network()
    (out,) = graph.node("first/exp").outputs
    assert fg.viz.Heat({out: 1.0, out.node: 2.0}, "s").by_node() == {out.node: 3.0}


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.00132, "s", "1.32 ms"),
        (0.9999, "s", "1 s"),
        (3e-12, "s", "0.003 ns"),
        (0.0, "s", "0 s"),
        (12.0, "B", "12 B"),
        (3.2e9, "flop/s", "3.2 Gflop/s"),
        (0.5, "flop", "0.5 flop"),
        (0.123, "%", "12.3 %"),
        (math.nan, "s", "nan s"),
        (12345.678, "", "1.235e+04"),
    ],
)
def test_numbers_have_a_prefix_for_their_size(value, unit, text):
    assert quantity(value, unit) == text


def test_colours_go_from_cold_to_hot_and_nan_is_hot():
    scale = Scale(fg.viz.Heat({}, "s"), [0.0, 1.0, 4.0])
    assert (scale.color(0.0), scale.color(4.0), scale.color(math.nan), scale.color(-math.inf)) == (WARM[0], WARM[-1], WARM[-1], WARM[0])
    assert scale.fraction(1.0) == 0.25
    assert scale.ends() == ("0 s", "4 s")


def test_a_logarithmic_scale_spreads_what_is_small():
    scale = Scale(fg.viz.Heat({}, log=True), [0.0, 1e-6, 1e-3, 1.0])
    assert scale.fraction(1e-3) == pytest.approx(0.5)
    assert scale.ends() == ("1e-06", "1")
    assert scale.fraction(0.0) == 0.0


def test_the_difference_of_two_runs_is_white_where_they_are_even_and_red_where_it_got_slower():
    graph = network()
    a, b, c = (graph.node(name) for name in ("first/sin", "first/exp", "second/cos"))
    heat = fg.viz.Heat({a: 2.0, b: 1.0}, "s", "time") - fg.viz.Heat({a: 1.0, b: 1.0, c: 0.5}, "s", "time")
    assert heat.by_node() == {a: 1.0, b: 0.0, c: -0.5}
    assert heat.text(1.0) == "+1 s"
    scale = Scale(heat, list(heat.by_node().values()))
    assert (scale.color(1.0), scale.color(0.0), scale.ends()) == (COOL_WARM[-1], COOL_WARM[3], ("-1 s", "+1 s"))


def test_letters_can_be_read_on_every_colour():
    assert ink(WARM[0]) != ink(WARM[-1])
    assert ink(COOL_WARM[0]) == ink(COOL_WARM[-1]) == "#ffffff"


@pytest.mark.parametrize("way", [dot.source, svg_of.source])
def test_heat_notes_and_marks_are_in_the_picture(way):
    graph = network()
    node = graph.node("first/exp")
    overlay = Overlay(fg.viz.Heat({node: 0.002}, "s", "time"), {node: "here <it> failed"}, node)
    text = way(GraphPicture(graph.nodes, 9, overlay=overlay))
    assert "2 ms" in text
    assert "here &lt;it&gt; failed" in text
    assert WARM[-1] in text
    assert re.search("penwidth=3|stroke-width:3", text)
    assert "time" in text.replace("2 ms", "")


def test_a_plan_takes_numbers_by_unit_by_node_and_by_member_of_a_loop():
    graph = network()
    (out,) = graph.node("second/cos").outputs
    with fg.Session(graph, threads=1, jit=False) as session:
        plan = session.plan(out, {graph.placeholders[0]: (5, 4)})
    by_unit = PlanPicture(plan, overlay=Overlay({unit: 1.0 + i for i, unit in enumerate(plan.units)}))
    by_node = PlanPicture(plan, overlay=Overlay({graph.node("first/sin"): 7.0}))
    assert [box.heat for box in by_unit.boxes.values() if box.home] == [1.0, 2.0, 3.0]
    assert [box.heat for box in by_node.boxes.values() if box.home] == [7.0, None, None]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"heat": "time"}, "heat: a trace, or numbers by node, are expected, got 'time'"),
        ({"heat": {"x": 1.0}}, "heat: numbers by node are expected, got 'x' as a key"),
        ({"notes": ["x"]}, "draw: notes are a dict by node, got ['x']"),
        ({"notes": {"x": "y"}}, "draw: notes are text by node, got 'x': 'y'"),
        ({"marked": "x"}, "draw: marked is a node or several, got 'x'"),
        ({"marked": 3}, "draw: marked is a node or several, got 3"),
    ],
)
def test_what_cannot_be_laid_over_is_said(options, said):
    with pytest.raises(fg.ArgumentError) as caught:
        fg.draw(network(), **options)
    assert caught.value.message == said


def test_a_number_that_is_none_names_its_node():
    graph = network()
    with pytest.raises(fg.ArgumentError, match=r"first/exp.* is not a real number, but '1 s'"):
        fg.viz.Heat({graph.node("first/exp"): "1 s"})  # type: ignore[dict-item]
