"""Special functions against SciPy: values over the axis, dtypes, and what is said where there is no gradient."""

import sys

import numpy as np
import pytest
import scipy.special

import flowgraph as fg
from flowgraph.errors import ArgumentError, DtypeError, GradientError, MissingExtraError


@pytest.mark.parametrize("name", fg.special.__all__)
def test_values_agree_with_scipys_function_of_that_name(session, name):
    first = {"polygamma": 2}.get(name)
    x, y = np.linspace(0.05, 0.95, 13), np.linspace(0.1, 9.0, 13)
    arrays = (y, x) if name in ("betaln", "gammainc", "gammaincc", "xlogy") else (x,)
    if first is not None:
        np.testing.assert_allclose(session.run(fg.special.polygamma(first, x)), scipy.special.polygamma(first, x), rtol=1e-13)
        return
    result = session.run(getattr(fg.special, name)(*arrays))
    np.testing.assert_allclose(result, getattr(scipy.special, name)(*arrays), rtol=1e-13)


def test_integers_count_as_double_precision(session):
    y = fg.special.gammaln(fg.constant(np.array([1, 5], "int8")))
    assert y.dtype == "float64"
    np.testing.assert_allclose(session.run(y), np.log([1, 24]), atol=1e-15)


def test_complex_numbers_are_refused(graph):
    with pytest.raises(DtypeError, match="takes real numbers, got complex128"):
        fg.special.erf(1j)


def test_the_gradient_of_an_incomplete_gamma_function_by_its_parameter_is_refused(graph):
    a = fg.placeholder("a", (), "float64")
    with pytest.raises(GradientError, match="gammainc has no gradient by a"):
        fg.gradients(fg.special.gammainc(a, 2.0), a)


@pytest.mark.parametrize("n", [-1, 1.0, True, None])
def test_the_order_of_polygamma_is_a_whole_number(graph, n):
    with pytest.raises(ArgumentError, match="n is a whole number, at least 0"):
        fg.special.polygamma(n, 1.0)


def test_derivatives_of_the_gamma_family_agree_with_differences_to_the_fourth_order():
    fg.check_gradient(fg.special.gammaln, np.array([0.7, 1.3, 4.0]), order=4, tolerance=1e-5)
    fg.check_gradient(fg.special.erf, np.array([-0.7, 0.0, 1.4]), order=4, tolerance=1e-5)


def test_x_log_y_has_a_finite_gradient_by_y_where_x_is_zero(graph, session):
    y = fg.placeholder("y", (2,), "float64")
    (dy,) = fg.gradients(fg.sum(fg.special.xlogy(np.array([0.0, 3.0]), y)), y)
    assert list(session.run(dy, {y: [0.0, 2.0]})) == [0.0, 1.5]


def test_without_scipy_the_error_names_the_extra(session, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    with pytest.raises(MissingExtraError, match=r"erf: scipy is not installed(.|\n)*flowgraph\[special\]"):
        session.run(fg.special.erf([1.0]))
