"""Heat of recorded runs and of plans: what nodes took, waited, made and computed."""

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.traces.ceilings import Ceilings
from flowgraph.viz.overlay import Overlay
from flowgraph.viz.plan_picture import PlanPicture


@pytest.fixture
def traced():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (200, 200), "float64")
        y = fg.sum(fg.exp(x @ x))
    with fg.Session(graph, threads=1, jit=False) as session:
        with session.trace() as trace:
            for _ in range(3):
                session.run(y, {x: np.zeros((200, 200))})
        yield graph, trace, session.plan(y, {x: (200, 200)})


def test_a_trace_gives_the_seconds_of_each_node_on_average(traced):
    _, trace, _ = traced
    heat = fg.viz.heat_of(trace)
    assert (heat.unit, {node.op.name for node in heat.values}) == ("s", {"matmul", "exp", "sum"})
    total = sum(end - begin for run in trace.runs for begin, end in run.spans.values())
    assert sum(heat.by_node().values()) == pytest.approx(total / 3)


def test_operations_bytes_and_their_rate_are_those_of_the_op(traced):
    graph, trace, _ = traced
    product = graph.node("matmul")
    assert fg.viz.heat_of(trace, "flops").by_node()[product] == 2 * 200**3
    assert fg.viz.heat_of(trace, "memory").by_node()[product] == 200 * 200 * 8
    speed, time = fg.viz.heat_of(trace, "speed"), fg.viz.heat_of(trace)
    assert speed.by_node()[product] == pytest.approx(2 * 200**3 / time.by_node()[product])
    assert speed.folding == "mean"


def test_the_roofline_is_the_least_time_by_arithmetic_or_memory_over_the_time_taken(traced, monkeypatch):
    graph, trace, _ = traced
    monkeypatch.setattr("flowgraph.viz.figures.ceilings", lambda: Ceilings(1e13, 1e15))
    share, time = fg.viz.heat_of(trace, "roofline"), fg.viz.heat_of(trace)
    product = graph.node("matmul")
    assert share.by_node()[product] == pytest.approx(2 * 200**3 / 1e13 / time.by_node()[product])
    assert (share.unit, share.folding) == ("%", "mean")
    monkeypatch.setattr("flowgraph.viz.figures.ceilings", lambda: Ceilings(1.0, 1.0))
    assert fg.viz.heat_of(trace, "roofline").by_node()[product] == 1.0


def test_the_mean_rate_of_a_scope_is_weighted_by_time():
    with fg.Graph() as graph, fg.scope("both"):
        a = fg.exp(fg.placeholder("x", ()))
        b = fg.sin(a)
    heat = fg.viz.Heat({a: 1.0, b: 4.0}, fold="mean", weights={a.node: 3.0, b.node: 1.0})
    assert heat.together([1.0, 4.0], [heat.weight(a.node), heat.weight(b.node)]) == 1.75
    text = str(fg.draw(graph, format="dot", depth=0, heat=heat))
    assert "3 nodes, 1.75" in text


def test_a_trace_itself_is_the_heat_of_its_time(traced):
    graph, trace, _ = traced
    text = str(fg.draw(graph, format="dot", heat=trace))
    assert "time in kernels" in text
    assert text.count("fillcolor") == len(graph)


def test_the_time_of_a_compiled_loop_goes_to_the_nodes_in_it():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (1000, 100), "float32")
        y = fg.sum(fg.exp(x) * 2 + fg.sin(x))
    with fg.Session(graph, threads=1) as session:
        values = {x: np.ones((1000, 100), "float32")}
        with session.trace() as trace:
            session.run(y, values)
    took = fg.viz.heat_of(trace).by_node()
    assert [took[graph.node(name)] > 0 for name in ("exp", "sin", "multiply")] == [True] * 3


def test_a_plan_has_the_heat_that_it_expects_by_kernel_and_by_node(traced):
    _, _, plan = traced
    heat = fg.viz.heat_of(plan)
    drawn = PlanPicture(plan, overlay=Overlay(heat))
    shown = [box.heat for box in drawn.boxes.values() if box.home]
    assert shown == [unit.seconds for unit in plan.units]
    nodes = {node.name: value for node, value in heat.by_node().items() if isinstance(node, fg.Node)}
    assert nodes["matmul"] == pytest.approx(sum(unit.seconds for unit in plan.units if unit.node.name == "matmul"))


@pytest.mark.parametrize(
    ("source", "what", "said"),
    [
        ("trace", "heat", "heat_of: what is one of time, "),
        ("plan", "waiting", "heat_of: a plan expects time and memory; waiting is measured"),
        ("graph", "time", "heat_of: a trace or a plan is expected, got <Graph"),
    ],
)
def test_what_has_no_figures_is_said(traced, source, what, said):
    graph, trace, plan = traced
    with pytest.raises(fg.ArgumentError) as caught:
        fg.viz.heat_of({"graph": graph, "trace": trace, "plan": plan}[source], what)
    assert caught.value.message.startswith(said)


def test_a_trace_from_a_file_and_one_without_runs_say_what_is_missing(traced, tmp_path):
    _, trace, _ = traced
    loaded = fg.Trace.load(trace.save(tmp_path / "run.json"))
    with pytest.raises(fg.ArgumentError, match="loaded from a file has no graph"):
        fg.viz.heat_of(loaded)
    with pytest.raises(fg.ArgumentError, match="no run is over"):
        fg.viz.heat_of(fg.Trace())
