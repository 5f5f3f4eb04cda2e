"""A result that is not finite is traced back to the node that made the first such value, and a run that is fine pays next to nothing."""

import contextlib
import sys
import warnings

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.runtime.numerics import are_finite, statistics
from tests.cuda_on_host import COMPILER
from tests.stand_in import standing_in

X = np.array([[1, 2, 3, 4], [-5, -1, -1, -2], [0, 0, 0, 0]], np.float32)


@pytest.fixture(params=[(True, "cpu:0"), (False, "cpu:0"), (False, "cuda:0"), (True, "cuda:0")], ids=["jit", "numpy", "gpu", "gpu-jit"])
def run(request):
    """Builds a function of ``x`` and gives the error of a run in which every result must be finite; on a GPU it is the same."""
    jit, device = request.param
    if jit and device == "cuda:0" and COMPILER is None:
        pytest.skip("no C++ compiler stands in for NVRTC")

    def error(build, value=X, threads=1, **feeds):
        with fg.Graph() as graph:
            x = fg.placeholder("x", ("n", value.shape[1]), value.dtype)
            fetches = build(x)
        with fg.Session(graph, device=device, jit=jit, threads=threads, check_numerics=True) as session:
            with pytest.raises(fg.NumericsError) as caught:
                session.run(fetches, {x: value})
            session.run(x + 1, {x: np.ones((2, value.shape[1]), value.dtype)})  # it can be used as before
        return caught.value

    with contextlib.nullcontext() if device == "cpu:0" else standing_in():
        yield error


def row(error, label):
    return dict(error.rows)[label]


def test_the_node_that_made_the_first_infinity_is_named_with_what_it_was_given(run):
    error = run(lambda x: fg.mean(fg.exp(x) * 0.0 * fg.log(fg.nn.relu(x))))
    assert error.message == "log: made -inf of finite values"
    assert error.location.expression == "fg.log(fg.nn.relu(x))"
    assert row(error, "x") == "(3, 4) float32   relu: 0 … 4, mean 0.8333; 8 zeros of 12"
    assert row(error, "gave") == "(3, 4) float32: 0 … 1.386, mean 0.7945; 8 -inf, 1 zero of 12"
    assert "made nan of it" in row(error, "then")
    assert row(error, "result") == "mean: nan"


def test_a_node_within_a_compiled_loop_is_named(run):
    value = np.ones((3000, 40), np.float32) * 5
    error = run(lambda x: fg.sum(fg.tanh(fg.sqrt(x) * 2 + fg.exp(x * 20)) + fg.exp(x * 20) + 1), value)
    assert error.location.expression == "fg.exp(x * 20)"
    assert row(error, "x").endswith("100 … 100, mean 100")


def test_an_infinity_that_was_given_is_not_to_blame_for_what_is_made_of_it(run):
    error = run(lambda x: fg.nn.softmax(fg.where(x > 0, x, -np.inf), axis=1))
    assert error.message == "softmax: made nan of infinities"


def test_infinities_that_do_no_harm_are_not_named(run):
    error = run(lambda x: fg.sum(1 / (1 / x)) + fg.sum(fg.log(fg.sum(x - x))) * 0)
    assert error.location.expression == "fg.log(fg.sum(x - x))"


def test_a_feed_a_variable_and_a_constant_are_named_where_nothing_else_made_it(run):
    error = run(lambda x: fg.exp(x) + 1, np.array([[1.0, np.nan]], np.float32))
    assert error.message == "placeholder: x is fed values that are not finite"
    assert row(error, "holds") == "(1, 2): 1 … 1, mean 1; 1 nan of 2"
    assert error.location.text == "session.run(fetches, {x: value})"
    error = run(lambda x: x * fg.variable(np.full(4, np.inf, np.float32), name="w"))
    assert error.message == "multiply: made nan of infinities"  # (by 0)
    assert row(error, "y") == "(4,) float32   variable w: all inf"
    error = run(lambda x: fg.exp(x) * fg.variable(np.full(4, np.inf, np.float32), name="w"))
    assert error.message == "variable: w holds values that are not finite"
    error = run(lambda x: fg.log(fg.constant([0.0, 1.0, 1.0, 1.0])) + x)  # folded when the plan is made
    assert error.message == "log: made -inf of finite values"


def test_the_turn_of_a_loop_is_named(run):
    error = run(lambda x: fg.scan(lambda c, r: ((d := fg.exp(c + r)), d), fg.zeros((4,)), x)[1], np.ones((9, 4), np.float32))
    assert error.location.expression == "fg.exp(c + r)"
    assert row(error, "in") == "scan, body, turn 3 (counted from 0)"
    error = run(lambda x: fg.cond(fg.sum(x) > 100, lambda: x, lambda: fg.log(x - x)))
    assert row(error, "in") == "cond, otherwise, turn 0 (counted from 0)"


def test_the_turns_of_loops_within_loops_are_named_outermost_first(run):
    def rows(total, row):
        inner, _ = fg.scan(lambda c, v: (c + fg.exp(v), v), 0.0, row)
        return total + inner, inner

    value = np.zeros((5, 4), np.float32)
    value[3, 2] = 100.0
    error = run(lambda x: fg.scan(rows, 0.0, x), value)
    assert error.location.expression == "fg.exp(v)"
    turns = [text.rpartition(",")[2] for label, text in error.rows if label == "in"]
    assert turns == [" turn 3 (counted from 0)", " turn 2 (counted from 0)"]


def test_a_gradient_in_a_loop_names_the_expression_that_was_differentiated(run):
    def build(x):
        last, _ = fg.scan(lambda c, r: ((d := fg.sqrt(c + r)), d), fg.zeros((4,)), x)
        return fg.gradients(fg.sum(last), x)

    assert run(build, X * 0).location.expression == "fg.sqrt(c + r)"


def test_nan_from_the_branch_that_where_has_not_chosen_is_explained(run):
    def build(x):
        return fg.gradients(fg.sum(fg.where(x > 0, fg.sqrt(x), 0.0)), x)

    for value in (np.maximum(X, 0), X):
        error = run(build, value)
        assert error.location.expression == "fg.sqrt(x)"
        assert "hands a gradient of 0 to the branch that it has not chosen" in str(error)
    with fg.Graph() as graph:
        x = fg.placeholder("x", (3, 4))
        (dx,) = fg.gradients(fg.sum(fg.where(x > 0, fg.sqrt(fg.where(x > 0, x, 1.0)), 0.0)), x)
    with fg.Session(graph, check_numerics=True) as session:
        np.testing.assert_allclose(session.run(dx, {x: X}).sum(), np.sum(0.5 / np.sqrt(np.arange(1.0, 5.0))), rtol=1e-6)


def test_several_threads_find_the_same_node(run):
    value = np.random.default_rng(0).standard_normal((4000, 64)).astype(np.float32)
    found = {
        str(run(lambda x: fg.sum(fg.log(fg.nn.relu(x @ fg.ones((64, 64))))) + fg.sum(fg.sort(x, axis=0)), value, threads=threads).rows[0])
        for threads in (1, 2)
    }
    assert len(found) == 1


def test_nothing_is_written_when_an_update_is_not_finite():
    with fg.Graph() as graph:
        x, w = fg.placeholder("x", ()), fg.variable(2.0, name="w")
        update = fg.assign(w, w / x)
    with fg.Session(graph, check_numerics=True) as session:
        with pytest.raises(fg.NumericsError, match="divide: made inf of finite values") as caught:
            session.run(update, {x: 0.0})
        assert row(caught.value, "result") == "variable w would hold inf"
        assert session.variables["w"] == 2.0
        session.run(update, {x: 2.0})
        assert session.variables["w"] == 1.0


def test_the_same_random_numbers_are_drawn_again():
    with fg.Graph() as graph:
        noise = fg.random.normal((5,))
        y = fg.log(noise)
    with fg.Session(graph, check_numerics=True) as session, fg.Session(graph) as other:
        other.random_state = session.random_state = (7, 3)
        with pytest.raises(fg.NumericsError) as caught:
            session.run(y)
        assert statistics(other.run(noise)) in row(caught.value, "x")


def test_a_loss_that_is_not_finite_gives_one_warning_at_the_line_to_blame():
    with fg.Graph() as graph:
        x, w = fg.placeholder("x", ("n",)), fg.variable(1.0, name="w")
        loss = fg.sum(fg.log(x) * w)
        step = fg.optim.SGD(0.1).minimize(loss)
    bad = {x: np.zeros(3, np.float32)}
    with fg.Session(graph, threads=1) as session:
        with pytest.warns(fg.NumericsWarning, match="log: made -inf of finite values") as caught:
            assert session.run([loss, step], bad)[0] == -np.inf
        assert len(caught) == 1
        assert str(caught[0].filename).endswith("test_numerics.py")
        assert session.variables["w"] == np.inf  # as ever: it is a warning
        session.run([loss, step], bad)  # warnings are errors: it is not said again
    for silent in (lambda s: s.run(loss, bad), lambda s: s.run([loss, step], bad, check_numerics=False), lambda s: s.run([step], bad)):
        with fg.Session(graph) as session:
            silent(session)


def test_who_computes_infinities_on_purpose_hears_nothing():
    with fg.Graph() as graph:
        x, best = fg.placeholder("x", ("n",)), fg.variable(-np.inf, name="best")
        update = fg.assign(best, fg.maximum(best, fg.max(x)))
        masked = fg.where(x > 0, x, -np.inf)
    with fg.Session(graph) as session, warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        session.run([masked, update], {x: np.array([-1.0, 2.0], np.float32)})
    assert heard == []


def test_a_function_called_directly_is_looked_at_as_well():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (2,), "float64")
        y = fg.log(x) * 2
    with fg.Session(graph, threads=1) as session:
        plain, checked = session.function([x], [y]), session.function([x], [y], check_numerics=True)
        for _ in range(4):
            np.testing.assert_array_equal(plain([1.0, 2.0]), checked([1.0, 2.0]))
        assert np.isneginf(plain([0.0, 1.0])[0][0])
        with pytest.raises(fg.NumericsError, match="log: made -inf"):
            checked([0.0, 1.0])


def test_a_function_with_effects_is_not_called_again():
    calls: list[int] = []

    def called(a):
        calls.append(1)
        return a

    with fg.Graph() as graph:
        x = fg.placeholder("x", ())
        y = fg.log(fg.py_call(called, x, x))
    with fg.Session(graph, check_numerics=True) as session, pytest.raises(fg.NumericsError) as caught:
        session.run(y, {x: 0.0})
    assert caught.value.message == "a result is not finite: -inf"
    assert "would call called again" in str(caught.value)
    assert len(calls) == 1


def test_after_a_run_that_was_fine_nothing_of_it_is_held():
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("n",), "float64")
        y = x + 1
    value = np.zeros(100)
    references = sys.getrefcount(value)
    with fg.Session(graph, check_numerics=True) as session:
        session.run(y, {x: value})
        assert sys.getrefcount(value) == references


def test_a_search_that_fails_says_so_in_place_of_the_node(monkeypatch):
    with fg.Graph() as graph:
        x, w = fg.placeholder("x", ()), fg.variable(1.0, name="w")
        loss = fg.log(x * w)
        step = fg.optim.SGD(0.1).minimize(loss)

    def failing(*arguments):
        raise MemoryError("no room")

    monkeypatch.setattr("flowgraph.session.checks.Search", failing)
    with fg.Session(graph, threads=1) as session, pytest.warns(fg.NumericsWarning, match="a result is not finite") as caught:
        assert session.run([loss, step], {x: 0.0})[0] == -np.inf  # it is a warning all the same
    assert "the search for the node that made it has failed: MemoryError: no room" in str(caught[0].message)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "complex64", "complex128", "bfloat16"])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (7, 9), (0,)])
def test_an_array_is_finite_where_all_of_it_is_and_large_numbers_are(dtype, shape):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    largest = np.full(shape, np.finfo(np.float32).max if np.dtype(dtype).itemsize > 2 else 6e4).astype(dtype)  # its square overflows
    for array in (largest, largest.T, largest[..., ::-1] if shape else largest):
        assert are_finite([array])
    for bad in (np.nan, np.inf, -np.inf):
        array = largest.copy()
        if array.size:
            array.reshape(-1)[-1] = bad
            assert not are_finite([largest, array.T[()]])
    assert are_finite([np.arange(3), np.array(True), None])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([], "empty"),
        ([2.0], "2"),
        ([np.nan], "nan"),
        ([np.nan, np.nan], "all nan"),
        ([np.nan, np.inf], "1 nan, 1 inf of 2"),
        ([1.0, 3.0], "1 … 3, mean 2"),
        ([0.0, 1e-310, 1.0], "0 … 1, mean 0.3333; 1 zero, 1 denormal of 3"),
        ([3 + 4j, 0], "sizes 0 … 5"),
        ([1, 2, 4], "1 … 4, mean 2.333"),
        ([True, False], "0 … 1, mean 0.5"),
    ],
)
def test_statistics_tell_what_an_array_holds(value, text):
    assert statistics(np.array(value)) == text


@pytest.mark.parametrize("value", [1, "yes", [True]])
def test_check_numerics_is_true_false_or_none(value):
    with fg.Graph() as graph:
        x = fg.constant(1.0, name="x")
    with pytest.raises(fg.ArgumentError, match="check_numerics is True, False or None"):
        fg.Session(graph, check_numerics=value)
    with fg.Session(graph) as session:
        with pytest.raises(fg.ArgumentError, match="check_numerics is True, False or None"):
            session.run(x, check_numerics=value)
        with pytest.raises(fg.ArgumentError, match="check_numerics is True, False or None"):
            session.function([], x, check_numerics=value)
