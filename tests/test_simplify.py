"""Simplification: what is not computed, and that no bit of what is fetched changes."""

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.compile import PASSES


def kernels(y, feeds, **options):
    """Names of the ops that a run would compute."""
    with fg.Session(y.graph if not isinstance(y, list) else y[0].graph, threads=1, **options) as session:
        return [unit.node.op.name for unit in session.plan(y, feeds).units]


@pytest.fixture
def x():
    with fg.Graph():
        yield fg.placeholder("x", (2, 3), "float64")


SAME = {
    "x * 1": lambda x: x * 1,
    "1 * x": lambda x: 1 * x,
    "x / 1": lambda x: x / 1,
    "x - 0": lambda x: x - 0.0,
    "x ** 1": lambda x: x**1,
    "-(-x)": lambda x: fg.negative(-x),
    "x.T.T": lambda x: x.T.T,
    "there and back": lambda x: x.reshape(6).reshape(3, 2).reshape(2, 3),
    "up and down": lambda x: fg.squeeze(fg.expand_dims(x, 1), 1),
    "a transpose that moves nothing": lambda x: fg.permute_dims(x, (0, 1)),
    "max(x, x)": lambda x: fg.maximum(x, x),
    "all at once": lambda x: fg.negative(-((x * 1).T.T / 1)),
}


@pytest.mark.parametrize("build", SAME.values(), ids=SAME)
def test_a_node_that_only_hands_on_its_input_is_not_computed(x, build):
    y = fg.exp(build(x))
    assert kernels(y, {x: (2, 3)}) == ["exp"]
    value = np.array([[-0.0, 0.0, np.inf], [np.nan, 1e-310, -2.5]])
    with fg.Session(x.graph, threads=1) as plain, fg.Session(x.graph, threads=1, passes=()) as full:
        np.testing.assert_array_equal(plain.run(build(x), {x: value}), full.run(build(x), {x: value}))


DIFFERENT = {
    "x + 0 makes a zero positive": lambda x: x + 0.0,
    "x - (-0) as well": lambda x: x - np.float64(-0.0),
    "x * 1 where it repeats x": lambda x: x * np.ones((4, 2, 3)),
    "a cast down and up loses digits": lambda x: fg.astype(fg.astype(x, "float32"), "float64"),
    "another transpose": lambda x: fg.permute_dims(fg.permute_dims(x[None], (1, 2, 0)), (1, 2, 0)),
}


@pytest.mark.parametrize("build", DIFFERENT.values(), ids=DIFFERENT)
def test_what_changes_a_value_is_kept(x, build):
    value = np.array([[-0.0, 1e-9 + 1, np.inf], [np.nan, 1e-310, -2.5]])
    with fg.Session(x.graph, threads=1) as plain, fg.Session(x.graph, threads=1, passes=()) as full:
        y = build(x)
        assert plain.run(y, {x: value}).tobytes() == full.run(y, {x: value}).tobytes()


def test_a_fed_tensor_hides_what_is_behind_it(x):
    y = -x
    z = -y
    with fg.Session(x.graph, threads=1) as session:
        np.testing.assert_array_equal(session.run(z, {y: np.ones((2, 3))}), -np.ones((2, 3)))


@pytest.mark.parametrize("fed", [0, 1])
def test_one_of_several_outputs_may_be_fed_and_the_others_are_computed(fed):
    with fg.Graph() as graph:
        x = fg.placeholder("x", (4,), "float64")
        halves = fg.split(x, 2)
        y = fg.concat(halves)
    with fg.Session(graph, threads=1) as session:
        expected = np.array([1.0, 2.0, 3.0, 4.0])
        expected[2 * fed : 2 * fed + 2] = 7
        np.testing.assert_array_equal(session.run(y, {x: np.array([1.0, 2.0, 3.0, 4.0]), halves[fed]: np.full(2, 7.0)}), expected)


def test_a_node_that_waits_for_a_fed_one_needs_nothing_of_what_is_behind_that(x):
    unfed = fg.placeholder("unfed", (2, 3), "float64")
    with fg.control_dependencies([fed := -unfed]):
        y = fg.exp(x)
    assert kernels(y, {x: (2, 3), fed: (2, 3)}) == ["exp"]


def test_what_reads_only_constants_is_computed_once_for_all_runs(x):
    y = x + fg.exp(fg.constant(np.zeros(3)) * 2)
    assert kernels(y, {x: (2, 3)}) == ["add"]


def test_a_shape_that_is_known_counts_as_a_constant(x):
    assert kernels(x * (fg.ones_like(x) + 1), {x: (2, 3)}) == ["multiply"]


def test_a_node_that_repeats_another_takes_its_value(x):
    y = fg.exp(x * 2) + fg.exp(x * 2)
    assert kernels(y, {x: (2, 3)}) == ["multiply", "exp", "add"]


def test_equal_looking_attributes_of_different_types_are_different(x):
    assert len(kernels([fg.sum(x, axis=1), fg.sum(x, axis=1, keepdims=True), fg.sum(x, axis=0)], {x: (2, 3)})) == 3


@pytest.mark.parametrize("passes", [(), PASSES], ids=["plain", "simplified"])
def test_zeros_of_both_signs_are_different_attributes(x, passes):
    """A kernel is bound once for all nodes of a kind, and nodes that repeat another are merged: neither may mix these two."""
    plus, minus = fg.pad(x, 1, constant_values=0.0), fg.pad(x, 1, constant_values=-0.0)
    with fg.Session(x.graph, threads=1, passes=passes) as session:
        a, b = session.run([plus, minus], {x: np.ones((2, 3))})
    assert not np.signbit(a).any()
    assert np.signbit(b).sum() == 4 * 5 - 2 * 3


def test_two_draws_are_never_one():
    with fg.Graph():
        assert kernels([fg.random.uniform((3,)), fg.random.uniform((3,))], {}) == ["random_bits", "random_uniform"] * 2


def test_what_is_fetched_twice_is_handed_out_twice(x):
    with fg.Session(x.graph, threads=1) as session:
        a, b = session.run([fg.exp(x), fg.exp(x) * 1], {x: np.zeros((2, 3))})
    a[...] = 7
    np.testing.assert_array_equal(b, np.ones((2, 3)))


def test_an_error_in_what_could_be_folded_is_raised_by_the_run(x):
    y = x + fg.mean(fg.nn.softmax_cross_entropy(np.zeros((1, 3)), np.array([9])))
    with fg.Session(x.graph, threads=1) as session:
        plan = session.plan(y, {x: (2, 3)})
        assert "class_labels" in [unit.node.op.name for unit in plan.units]
        with pytest.raises(fg.ExecutionError, match="a label is outside"):
            session.run(y, {x: np.zeros((2, 3))})


def test_what_waits_for_a_node_still_waits(x):
    first = x * 1
    with fg.control_dependencies([first]):
        y = x * 1
    assert kernels(y, {x: (2, 3)}) == ["multiply", "multiply"]


def test_each_pass_can_be_left_out_and_the_plan_says_what_was_done(x):
    y = fg.exp(x * 1) + fg.exp(x * 1) + fg.exp(fg.constant(np.zeros(3)))
    counts = {passes: len(kernels(y, {x: (2, 3)}, passes=passes)) for passes in [(), ("algebra",), ("common",), ("fold",), PASSES]}
    assert counts == {(): 7, ("algebra",): 5, ("common",): 5, ("fold",): 6, PASSES: 3}
    with fg.Session(x.graph, threads=1) as session:
        text = str(session.plan(y, {x: (2, 3)}))
    assert "algebra: 2 nodes only hand on their input" in text
    assert "common: 1 nodes repeat another" in text
    assert "fold: 1 nodes are constants" in text
    with pytest.raises(fg.ArgumentError, match="passes are some of algebra, fold, common"):
        fg.Session(x.graph, passes="fold")


def test_an_explanation_tells_what_each_pass_made_of_each_node():
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("n",), "float32")
        same = fg.exp(x * 1.0)
        y = same + fg.exp(x * 1.0) * (fg.constant(2.0) * 3.0)
        fg.sin(x)
    text = fg.explain([y], {x: (3,)}, jit=False)
    assert len(text.nodes) < len(graph)
    assert [node.op.name for node in text.nodes if node.op.name == "sin"] == []
    assert text.changes == (
        ("algebra", "multiply", "is x"),
        ("algebra", "multiply_1", "is x"),
        ("common", "exp_1", "is exp"),
        ("fold", "multiply_2", "is 6."),
    )
    printed = str(text)
    assert printed.startswith(f"the request needs {len(text.nodes)} of the graph's {len(graph)} nodes\n")
    assert "y = same + fg.exp(x * 1.0)" in printed
    assert "\ncommon:\n  exp_1 is exp\n" in printed
    assert printed.endswith(str(text.plan))


def test_an_explanation_names_the_members_of_a_compiled_loop():
    pytest.importorskip("llvmlite")
    with fg.Graph():
        x = fg.placeholder("x", ("n",), "float32")
        y = fg.exp(x) * 2 + 1
    changes = fg.explain({"y": y}, {x: np.zeros(1_000_000, "f4")}).changes
    assert changes == (("fuse", "add", "computes exp, multiply, add"),)
