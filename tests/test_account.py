"""What a plan says of each node: where it runs, in which loop or why in none, in how many slices, in whose memory, and why."""

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.cli import main

needs_llvm = pytest.mark.skipif(not fg.Session(fg.Graph()).jit, reason='llvmlite is not installed: pip install "flowgraph[jit]"')


def told(fetches, feeds, node=None, **options):
    """What is told of a node, by what it is about."""
    first = fetches[0] if isinstance(fetches, list) else fetches
    with fg.Session(first.graph, threads=2, **options) as session:
        account = session.plan(fetches, feeds).explain()
    return dict(account.rows[(node or first).name])


def placeholder(*shape, dtype="float64"):
    return fg.placeholder("x", shape, dtype)


@pytest.fixture(autouse=True)
def graph():
    with fg.Graph() as made:
        yield made


def test_what_does_not_run_says_why():
    x = placeholder("n")
    same = x * 1.0
    again = fg.exp(x) + fg.exp(x)
    known = fg.constant(2.0, name="two", dtype="float64") * 3.0
    w = fg.variable(np.ones(3), name="w")
    y = fg.sum(same + again + known + w)
    feeds = {x: (3,)}
    assert told(y, feeds, x.node)["runs"] == "not: it is fed"
    assert told(y, feeds, w.node)["runs"] == "not: it is read at the start of the run"
    assert told(y, feeds, same.node)["runs"] == "not: it hands on what it gets, x has its value"
    assert told(y, feeds, again.node.inputs[1].node)["runs"] == "not: another node computes the same, exp has its value"
    assert told(y, feeds, known.node)["runs"] == "not: all that it reads is known before the run, so it is a constant"


@needs_llvm
def test_a_loop_names_its_members_and_what_it_saves():
    x = placeholder(1000, 1000)
    a = fg.exp(x)
    y = fg.tanh(a + 1.0)
    rows = told(y, {x: (1000, 1000)}, a.node)
    assert rows["loop"].startswith("compiled with add, tanh: ")
    assert rows["loop"].endswith("one by one")
    assert told(y, {x: (1000, 1000)})["runs"] == "in the loop of exp: see there"


@needs_llvm
@pytest.mark.parametrize(
    ("shape", "build", "why"),
    [
        ((1000, 1000), lambda x: fg.matmul(x, x), "it is not computed element by element"),
        ((10, 10), lambda x: fg.tanh(fg.exp(x)), "with 1 other it takes"),
        ((10, 10), fg.exp, "alone it takes"),
        ((100, 100), lambda x: fg.linalg.qr(x)[0], "it has several results"),
        ((100, 100), lambda x: fg.exp(fg.take(x, fg.nonzero(x[:, 0])[0], axis=0)), "a size is known only in the run"),
    ],
    ids=["other kind", "few", "alone", "several results", "open size"],
)
def test_what_is_in_no_loop_says_why(shape, build, why):
    x = placeholder(*shape)
    y = build(x)
    assert why in told(y, {x: shape})["loop"]


def test_without_a_compiler_there_are_no_loops():
    x = placeholder(100, 100)
    assert told(fg.exp(x), {x: (100, 100)}, jit=False)["loop"].startswith("none: the session compiles none")


def test_slices_say_what_they_are_cut_by():
    x = placeholder(2000, 500)
    product = fg.matmul(x, np.ones((500, 500)))
    total = fg.sum(product)
    rows = told([total], {x: (2000, 500)}, product.node, jit=False)
    assert rows["slices"].startswith("8 of 250 rows, as it takes ")
    assert rows["slices"].endswith("more than 500 us; each fills its own rows")
    assert rows["runs"] == "in tasks 0 to 7 of 9"
    assert "each adds up its own rows" in told([total], {x: (2000, 500)}, total.node, jit=False)["slices"]
    assert told(fg.exp(x[:2]), {x: (2000, 500)}, jit=False)["slices"].startswith("none: it takes ")
    small = fg.matmul(x[:300], np.ones((500, 100)))
    assert told(small, {x: (2000, 500)}, jit=False)["slices"].endswith("less than 500 us, and what it reads is whole")
    ordered = fg.linalg.svdvals(x)
    assert "cannot" in told(ordered, {x: (2000, 500)}, jit=False)["slices"]


def test_memory_says_whose_it_is_and_what_stands_against_working_in_place():
    x = placeholder(200, 200)
    first = fg.sort(x, axis=0)
    second = fg.exp(first)
    third = fg.tanh(second)
    feeds = {x: (200, 200)}
    assert told(third, feeds, second.node, jit=False)["memory"].startswith("in place of sort (s")
    assert told([third, second], feeds, third.node, jit=False)["memory"].endswith("not in place: exp is a result of the run")
    assert told(fg.exp(x), feeds, jit=False)["memory"].endswith("not in place: x is a feed, a variable or a constant")
    both = told([fg.exp(first), fg.cos(first)], feeds, jit=False)["memory"]
    assert both.endswith("not in place: sort is read by others")
    assert told(fg.matmul(first, first), feeds, jit=False)["memory"].endswith("its kernel still reads when it writes")
    assert told(first.T, feeds, jit=False)["memory"] == "a view of what it reads"


def test_devices_and_costs_are_told():
    x = placeholder(300, 300)
    with fg.device("cpu:1"):
        y = fg.matmul(x, x)
    rows = told(fg.sum(y), {x: (300, 300)}, y.node, devices=["cpu:0", "cpu:1"], jit=False)
    assert rows["device"].startswith("cpu:1, placed ")
    assert rows["cost"].startswith("5.4e7 flops, 2.2 MB moved: ")


def test_a_name_a_scope_or_a_pattern_chooses(graph):
    x = placeholder(4)
    with fg.scope("layer1"):
        y = fg.exp(x) + 1.0
    with fg.Session(graph) as session:
        plan = session.plan(fg.sum(y), {x: (4,)})
        assert list(plan.explain("layer1").rows) == ["layer1/exp", "layer1/constant", "layer1/add"]
        assert list(plan.explain("layer1/exp").rows) == ["layer1/exp"]
        assert list(plan.explain("*add").rows) == ["layer1/add"]
        assert str(plan.explain("layer1/exp")).startswith("layer1/exp   (4,) float64   test_account.py:")
        with pytest.raises(fg.UnknownNameError, match="near: layer1"):
            plan.explain("layer1/ex")
        body = next(unit.bodies[0] for unit in session.plan(fg.map(fg.exp, x), {x: (4,)}).units if unit.bodies)
        with pytest.raises(fg.ArgumentError, match="the plan of a sub-graph"):
            body.explain()


def test_the_command_explains_a_record_and_its_cost(graph, tmp_path, capsys):
    x = placeholder("batch", 4)
    y = fg.sum(fg.exp(x), axis=1)
    with fg.Session(graph, jit=False) as session, session.record(tmp_path / "run.fgr"):
        session.run(y, {x: np.ones((3, 4))})
    assert main(["explain", str(tmp_path / "run.fgr"), "--only", "exp"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("exp   (3, 4) float64   test_account.py:")
    assert "  runs    in the one task" in out
    assert main(["explain", str(tmp_path / "run.fgr"), "--cost"]) == 0
    assert "with batch = 3" in capsys.readouterr().out
    assert main(["explain", str(tmp_path / "run.fgr"), "--only", "zork"]) == 1
    assert "UnknownNameError: no node of the request is called 'zork'" in capsys.readouterr().err
