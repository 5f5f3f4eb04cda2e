"""L-BFGS: its direction beside the inverse Hessian written out, its line search beside its conditions, its minima beside SciPy's."""

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize, rosen, rosen_der

import flowgraph as fg
from flowgraph.optim import LBFGS
from flowgraph.optim.lbfgs import C1, C2, EVALUATIONS, direction, line_search


def rosenbrock(x):
    return fg.sum(100 * fg.square(x[1:] - fg.square(x[:-1])) + fg.square(1 - x[:-1]))


@pytest.mark.parametrize("memory", [1, 3, 50])
def test_fifty_directions_are_those_of_the_inverse_hessian_written_out(memory):
    rng = np.random.default_rng(memory)
    factor = rng.standard_normal((6, 6))
    hessian = factor @ factor.T + np.eye(6)
    pairs: list[Any] = []
    for _ in range(50):
        step = rng.standard_normal(6)
        pairs = [*pairs, (step, hessian @ step)][-memory:]
        # Nocedal and Wright, equations 6.17 and 7.20.
        s, y = pairs[-1]
        inverse = (s @ y) / (y @ y) * np.eye(6)
        for s, y in pairs:
            rho = 1 / (y @ s)
            inverse = (np.eye(6) - rho * np.outer(s, y)) @ inverse @ (np.eye(6) - rho * np.outer(y, s)) + rho * np.outer(s, s)
        g = rng.standard_normal(6)
        np.testing.assert_allclose(direction(g, pairs), -inverse @ g, rtol=1e-7, atol=1e-9)
    np.testing.assert_array_equal(direction(g, []), -g)


@pytest.mark.parametrize("length", [1e-4, 0.3, 1.0, 40.0])
@pytest.mark.parametrize("name", ["quartic", "wave", "wall"])
def test_the_line_search_ends_where_the_strong_wolfe_conditions_hold(name, length):
    functions = {
        "quartic": lambda x: (float(x[0] ** 4 - x[0]), np.array([4 * x[0] ** 3 - 1])),
        "wave": lambda x: (float(-np.sin(x[0]) * np.exp(-x[0] / 9)), np.array([np.exp(-x[0] / 9) * (np.sin(x[0]) / 9 - np.cos(x[0]))])),
        "wall": lambda x: (float(-x[0] - np.log(2 - x[0])), np.array([-1 + 1 / (2 - x[0])])) if x[0] < 2 else (np.nan, np.array([np.nan])),
    }
    function = functions[name]
    x = np.array([-0.5 if name == "quartic" else 0.0])
    value, g = function(x)
    way = -g
    found = line_search(function, x, way, value, g, length)
    assert found is not None
    a, there, gradient = found
    assert function(x + a * way) == (there, gradient)
    assert there <= value + C1 * a * (g @ way)
    assert abs(gradient @ way) <= C2 * abs(g @ way)


def test_a_line_search_without_an_end_gives_up_after_its_evaluations():
    calls = []

    def falling(x):
        calls.append(x)
        return -float(x[0]), np.array([-1.0])

    assert line_search(falling, np.zeros(1), np.ones(1), 0.0, np.array([-1.0]), 1.0) is None
    assert len(calls) == EVALUATIONS
    assert line_search(falling, np.zeros(1), -np.ones(1), 0.0, np.array([-1.0]), 1.0) is None  # the way goes up


def test_rosenbrocks_function_of_ten_variables_is_minimised_as_scipy_does_it(graph, session):
    start = np.full(10, -1.2)
    w = fg.variable(start, name="w")
    report = LBFGS(steps=200, tolerance=1e-9).minimize(session, rosenbrock(w))
    theirs = minimize(rosen, start, jac=rosen_der, method="L-BFGS-B", options={"gtol": 1e-9, "ftol": 0})
    np.testing.assert_allclose(session.variables["w"], theirs.x, atol=1e-7)
    assert report.reason == "converged"
    assert report.gradient <= 1e-9
    assert report.evaluations < 2 * theirs.nfev
    assert report.losses[0] == pytest.approx(rosen(start))
    assert all(after < before for before, after in zip(report.losses, report.losses[1:], strict=False))


def test_matrices_and_biases_are_fitted_to_the_data_that_is_fed(graph, session):
    rng = np.random.default_rng(0)
    rows, targets = rng.standard_normal((40, 3)), rng.standard_normal((40, 2))
    x, y = fg.placeholder("x", (None, 3), "float64"), fg.placeholder("y", (None, 2), "float64")
    w, b = fg.variable(np.zeros((3, 2)), name="w"), fg.variable(np.zeros(2), name="b")
    loss = fg.mean(fg.square(x @ w + b - y))
    LBFGS(tolerance=1e-10).minimize(session, loss, feeds={x: rows, y: targets})
    exact = np.linalg.lstsq(np.column_stack([rows, np.ones(40)]), targets)[0]
    np.testing.assert_allclose(np.vstack([session.variables["w"], session.variables["b"]]), exact, atol=1e-8)


def test_float32_variables_keep_their_dtype_and_end_where_rounding_ends_them(graph, session):
    w = fg.variable(np.array([-1.2, 1.0], np.float32), name="w")
    report = LBFGS(steps=500, tolerance=0.0).minimize(session, rosenbrock(w))
    assert session.variables["w"].dtype == np.float32
    np.testing.assert_allclose(session.variables["w"], 1, atol=1e-3)
    assert report.reason in ("no descent", "converged")


def test_only_the_chosen_variables_move_and_the_steps_are_counted(graph, session):
    a, b = fg.variable(np.full(3, 5.0), name="a"), fg.variable(np.full(3, 5.0), name="b")
    report = LBFGS(steps=2).minimize(session, rosenbrock(a) + rosenbrock(b), variables=[b])
    assert (report.reason, len(report.losses)) == ("steps", 3)
    assert session.variables["a"].tolist() == [5, 5, 5]
    assert session.variables["b"].tolist() != [5, 5, 5]


def test_a_start_at_the_minimum_is_left_as_it_is(graph, session):
    w = fg.variable(np.zeros(2), name="w")
    report = LBFGS().minimize(session, fg.sum(w * w))
    assert (report.reason, report.evaluations, report.losses) == ("converged", 1, [0.0])


def wrong(value: Any) -> Any:
    """A value of a type that the annotations do not allow."""
    return value


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda s: LBFGS(steps=0), "LBFGS: steps is a whole number, at least 1, got 0"),
        (lambda s: LBFGS(memory=wrong(1.5)), "LBFGS: memory is a whole number, at least 1, got 1.5"),
        (lambda s: LBFGS(tolerance=-1), "LBFGS: tolerance is a number, at least 0, got -1"),
        (lambda s: LBFGS().minimize(s, wrong(3.0)), "minimize: the loss is a tensor, got 3.0"),
        (lambda s: LBFGS().minimize(s, fg.constant(3.0, name="three")), "minimize: three depends on no trainable variable"),
        (lambda s: LBFGS().minimize(s, fg.constant(3.0), [wrong(fg.constant(1.0))]), "minimize: only variables are updated, got"),
        (
            lambda s: LBFGS().minimize(s, fg.constant(3.0), [fg.variable(1j, name="z")]),
            "minimize: LBFGS takes real variables, z is complex128",
        ),
    ],
)
def test_what_cannot_be_minimised_is_told(session, call, text):
    with pytest.raises(fg.ArgumentError) as caught:
        call(session)
    assert text in str(caught.value)
