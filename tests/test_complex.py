"""Complex numbers: their parts, their dtypes, and the convention of their gradients."""

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.errors import DtypeError


def gradient(function, value):
    with fg.Graph() as graph:
        z = fg.placeholder("z", np.shape(value), np.asarray(value).dtype)
        (dz,) = fg.gradients(function(z), z)
    assert dz.dtype == z.dtype
    with fg.Session(graph, threads=1) as session:
        return session.run(dz, {z: value})


def test_the_gradient_by_a_complex_number_points_where_the_loss_rises_fastest():
    # L = x^2 + y^2: dL/dx + i dL/dy = 2x + 2iy
    assert gradient(lambda z: fg.real(z * fg.conj(z)), 3.0 + 4.0j) == 6.0 + 8.0j
    assert gradient(lambda z: fg.real(z), 3.0 + 4.0j) == 1.0
    assert gradient(lambda z: fg.imag(z), 3.0 + 4.0j) == 1.0j
    np.testing.assert_allclose(gradient(fg.abs, 3.0 + 4.0j), 0.6 + 0.8j)


def test_a_holomorphic_function_passes_on_the_conjugate_of_its_derivative():
    z = 0.3 + 0.7j
    np.testing.assert_allclose(gradient(lambda z: fg.real(fg.exp(z)), z), np.conj(np.exp(z)))
    np.testing.assert_allclose(gradient(lambda z: fg.real(z**3), z), np.conj(3 * z**2))


def test_a_real_tensor_gets_a_real_gradient_through_complex_numbers():
    # |exp(i t)|^2 + real(exp(i t)): only the cosine depends on t
    np.testing.assert_allclose(gradient(lambda t: fg.real(fg.exp(1j * t)), 0.7), -np.sin(0.7))
    np.testing.assert_allclose(gradient(lambda x: fg.abs(x + 2.0j), 1.5), 1.5 / 2.5)
    np.testing.assert_allclose(gradient(lambda x: fg.real(fg.astype(x, "complex128") * 1j), 1.5), 0.0)


def test_the_gradient_of_the_modulus_at_zero_is_zero():
    assert gradient(fg.abs, 0.0 + 0.0j) == 0


def test_parts_of_a_real_tensor_are_itself_and_zeros(graph, session):
    x = fg.placeholder("x", (2,), "float32")
    assert fg.real(x) is x and fg.conj(x) is x and x.real is x
    imag = session.run(np.imag(x), {x: np.ones(2, "float32")})
    assert imag.dtype == "float32" and not imag.any()


@pytest.mark.parametrize("function", [fg.maximum, fg.less, fg.greater_equal])
def test_complex_numbers_are_not_ordered(graph, function):
    with pytest.raises(DtypeError, match="complex numbers have no order"):
        function(fg.constant(1j), 2.0)


@pytest.mark.parametrize("function", [fg.max, fg.argmin])
def test_complex_numbers_have_no_extreme(graph, function):
    with pytest.raises(DtypeError, match="complex128 has no order"):
        function(fg.constant([1j, 2.0]))


def test_a_complex_tensor_is_not_cast_to_real_silently(graph):
    with pytest.raises(DtypeError, match=r"complex128 does not fit into float32"):
        fg.astype(fg.constant([1j]), "float32")
    assert fg.astype(fg.constant([1j]), bool).dtype == bool


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_log1p_keeps_the_digits_of_small_complex_numbers(session, dtype):
    # numpy.log1p gives 0 for the first, as it rounds 1 + z to 1.
    small = np.array([1e-20, -1e-20 + 1e-15j, 1e-9j, 1e-4 - 1e-3j], dtype)
    z = small.astype("complex128")
    np.testing.assert_allclose(session.run(fg.log1p(small)), z - z**2 / 2 + z**3 / 3 - z**4 / 4 + z**5 / 5, rtol=4 * np.finfo(dtype).eps)
    large = np.array([-0.75 + 1e-9j, -1 + 0.1j, 0.4 - 0.4j, 3 + 4j, 1e18 - 1e18j, -1e30], dtype)
    np.testing.assert_allclose(session.run(fg.log1p(large)), np.log1p(large), rtol=4 * np.finfo(dtype).eps)
