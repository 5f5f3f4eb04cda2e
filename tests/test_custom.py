"""Operations of the user's own: values, gradients, what they may not do, and what a mistake in one says."""

import numpy as np
import pytest

import flowgraph as fg


@fg.custom_op(infer=lambda x: x, gradient=lambda g, y, x: g * fg.cos(x))
def sine(x):
    return np.sin(x)


@fg.custom_op(infer=lambda x: [x, (x.shape[:1], "int64")])
def ordered(x):
    return np.sort(x, axis=1), np.argmax(x, axis=1)


@pytest.fixture
def x():
    with fg.Graph():
        yield fg.placeholder("x", (None, 3), "float64")


VALUE = np.array([[3.0, 1.0, 2.0], [0.5, 4.0, -1.0]])


def run(fetches, x, value=VALUE):
    with fg.Session(x.graph, threads=1) as session:
        return session.run(fetches, {x: value})


def test_it_is_a_node_like_any_other(x):
    y = sine(x) * 2
    assert y.shape == (None, 3)
    assert [node.name for node in x.graph if node.op.name == "custom_op"] == ["sine"]
    np.testing.assert_array_equal(run(y, x), np.sin(VALUE) * 2)


@pytest.mark.parametrize("order", [1, 2])
def test_its_gradient_is_differentiated_again(order):
    fg.check_gradient(lambda v: fg.sum(sine(v) * sine(v)), VALUE, order=order)


def test_it_may_have_several_results(x):
    rows, best = run(list(ordered(x)), x)
    np.testing.assert_array_equal(rows, np.sort(VALUE, axis=1))
    np.testing.assert_array_equal(best, [0, 1])


def test_it_runs_in_loops_and_batches(x):
    np.testing.assert_array_equal(run(fg.vmap(sine)(x), x), np.sin(VALUE))
    np.testing.assert_array_equal(run(fg.map(sine, x), x), np.sin(VALUE))


def test_a_result_that_is_an_input_is_copied(x):
    same = fg.custom_op(lambda v: v, infer=lambda v: v)
    a, b = run([same(x + 1), fg.exp(same(x + 1)) * 0], x)
    np.testing.assert_array_equal(a, VALUE + 1)
    np.testing.assert_array_equal(b, VALUE * 0)


def test_a_call_with_effects_runs_once_in_each_run_that_needs_it(x):
    seen = []

    def log(v):
        seen.append(v.sum())
        return v

    y = fg.py_call(log, x, x)
    with fg.Session(x.graph, threads=1) as session:
        for _ in range(3):
            session.run([y, y * 2], {x: VALUE})
        assert len(seen) == 3
        session.run(x * 2, {x: VALUE})
        assert len(seen) == 3


def writes(v):
    v[...] = 0
    return v


@pytest.mark.parametrize(
    ("function", "infer", "text"),
    [
        (lambda v: v[:1], lambda v: v, "the function gave (1, 3) float64, but (2, 3) float64 was said"),
        (lambda v: v.astype("f4"), lambda v: v, "the function gave (2, 3) float32, but (2, 3) float64 was said"),
        (lambda v: 1 / 0, lambda v: v, "raised at   test_custom.py:"),
        (lambda v: v, lambda v: [v, v], "the function gave one result, but infer says 2"),
        (lambda v: None, lambda v: v, "the function gave None, but (2, 3) float64 was said"),
        (writes, lambda v: v, "read-only"),
        (lambda v: (v,), lambda v: [v, v], "the function gave 1 result, but infer says 2"),
    ],
)
def test_a_mistake_in_it_names_the_node_and_the_line(x, function, infer, text):
    out = fg.custom_op(function, infer=infer)(x)  # the line
    with pytest.raises((fg.ExecutionError, fg.ShapeError)) as caught:
        run(out, x)
    assert text in str(caught.value)
    assert "# the line" in str(caught.value)


def test_what_has_no_gradient_says_so(x):
    y = fg.sum(ordered(x)[0])
    with pytest.raises(fg.GradientError, match="ordered has no gradient"):
        fg.gradients(y, [x])


def test_what_it_gives_must_be_said_in_a_way_that_is_understood(x):
    with pytest.raises(fg.ArgumentError, match="'float64' does not say what sin gives"):
        fg.custom_op(np.sin, infer=lambda v: "float64")(x)
    with pytest.raises(fg.ArgumentError, match="gradient is a function"):
        fg.custom_op(np.sin, infer=lambda v: v, gradient=3)  # type: ignore[arg-type]
