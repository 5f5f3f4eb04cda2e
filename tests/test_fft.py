"""Fourier transforms beside NumPy's, with their gradients for lengths of both parities, and the errors."""

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.autodiff.vmap import vmap

NORMS = [None, "backward", "ortho", "forward"]


def draw(shape, dtype="float64"):
    rng = np.random.default_rng(3)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def value(build, x, unknown=False):
    with fg.Graph() as graph:
        tensor = fg.placeholder("x", (None,) * x.ndim if unknown else x.shape, x.dtype)
        y = build(tensor)
    with fg.Session(graph, threads=1) as session:
        result = session.run(y, {tensor: x})
    assert y.dtype == result.dtype
    assert all(have in (want, None) for have, want in zip(y.shape, result.shape, strict=True))
    return result


def same(have, want):
    assert have.dtype == want.dtype
    assert have.shape == want.shape
    np.testing.assert_allclose(have, want, rtol=1e-5 if have.dtype in ("float32", "complex64") else 1e-12, atol=1e-5)


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n", [None, 3, 4, 8, 9])
@pytest.mark.parametrize("length", [6, 7])
@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft", "hfft", "ihfft"])
def test_transforms_along_an_axis_give_what_numpy_gives(name, length, n, norm, unknown):
    x = draw((3, length), "float64" if name in ("rfft", "ihfft") else "complex128")
    same(value(lambda t: getattr(fg.fft, name)(t, n, norm=norm), x, unknown), getattr(np.fft, name)(x, n, norm=norm))
    same(value(lambda t: getattr(fg.fft, name)(t, n, 0, norm), x, unknown), getattr(np.fft, name)(x, n, 0, norm))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(("s", "axes"), [(None, None), (None, (0, 2)), (None, (2, 0)), ((3, 5), None), ((6, 2), (1, 0)), ((4,), (1,))])
@pytest.mark.parametrize("name", ["fftn", "ifftn", "rfftn", "irfftn"])
def test_transforms_over_several_axes_give_what_numpy_gives(name, s, axes, norm):
    x = draw((4, 3, 5), "float64" if name == "rfftn" else "complex128")
    given = axes if s is None or axes is not None else tuple(range(-len(s), 0))  # NumPy warns where s comes without axes
    same(value(lambda t: getattr(fg.fft, name)(t, s, axes, norm), x), getattr(np.fft, name)(x, s, given, norm))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128", "int32", "bool", "float16"])
def test_single_precision_stays_single(dtype):
    x = draw((2, 6), dtype)
    like = x.astype("float32") if dtype == "float16" else x  # NumPy scales by a factor in half precision
    same(value(fg.fft.fft, x), np.fft.fft(like))
    same(value(fg.fft.fft2, x), np.fft.fft2(like))
    same(value(fg.fft.ifft2, x), np.fft.ifft2(like))
    if x.dtype.kind != "c":
        same(value(fg.fft.rfft, x), np.fft.rfft(like))
        same(value(fg.fft.rfft2, x), np.fft.rfft2(like))
        same(value(lambda t: fg.fft.irfft2(fg.fft.rfft2(t)), x), np.fft.irfft2(np.fft.rfft2(like)))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("norm", NORMS[1:])
@pytest.mark.parametrize("n", [None, 4, 5, 9, 10])
@pytest.mark.parametrize("length", [6, 7])
@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft", "hfft", "ihfft"])
def test_gradients_agree_with_differences_of_both_parts_for_both_parities(name, length, n, norm, order):
    for dtype in ["float64"] if name in ("rfft", "ihfft") else ["complex128", "float64"]:
        # The square makes the second order one of its own.
        fg.check_gradient(
            lambda t: fg.abs(getattr(fg.fft, name)(t, n, norm=norm) + 3) ** 2, draw((2, length), dtype), order=order, tolerance=1e-5
        )


@pytest.mark.parametrize("name", ["fftn", "ifftn", "rfftn", "irfftn"])
def test_gradients_over_several_axes_agree_with_differences(name):
    x = draw((4, 3, 5), "float64" if name == "rfftn" else "complex128")
    for s, axes in [(None, None), ((3, 5), (2, 0)), ((5, 4), (0, 1))]:
        fg.check_gradient(lambda t, s=s, axes=axes: getattr(fg.fft, name)(t, s, axes), x, order=2, tolerance=1e-5)


def test_the_gradient_of_a_spectrum_holds_where_the_length_is_known_only_in_the_run():
    x = draw((2, 7))
    with fg.Graph() as graph:
        tensor = fg.placeholder("x", ("batch", "length"), "float64")
        (slope,) = fg.gradients(fg.sum(fg.abs(fg.fft.rfft(tensor)) ** 2), tensor)
        (cropped,) = fg.gradients(fg.sum(fg.abs(fg.fft.rfft(tensor, n=4)) ** 2), tensor)
    with fg.Session(graph) as session:
        # The half spectrum's energy: every frequency but 0 stands for two, so the gradient is n (x + mean of x).
        np.testing.assert_allclose(session.run(slope, {tensor: x}), 7 * (x + x.mean(1, keepdims=True)), atol=1e-12)
        assert np.all(session.run(cropped, {tensor: x})[:, 4:] == 0)


def test_parsevals_energy_has_the_gradient_of_a_square():
    x = draw((8,), "complex128")
    with fg.Graph() as graph:
        tensor = fg.placeholder("x", (8,), "complex128")
        (slope,) = fg.gradients(fg.sum(fg.abs(fg.fft.fft(tensor, norm="ortho")) ** 2), tensor)
    with fg.Session(graph) as session:
        np.testing.assert_allclose(session.run(slope, {tensor: x}), 2 * x, atol=1e-12)


@pytest.mark.parametrize("shape", [(5,), (4, 3)])
def test_shifts_and_frequencies_give_what_numpy_gives(shape):
    x = draw(shape)
    for name in ("fftshift", "ifftshift"):
        same(value(getattr(fg.fft, name), x), getattr(np.fft, name)(x))
        same(value(lambda t, name=name: getattr(fg.fft, name)(t, 0), x), getattr(np.fft, name)(x, 0))
    with fg.Session(fg.Graph()) as session, session.graph:
        for n in (5, 6):
            same(session.run(fg.fft.fftfreq(n, 0.1)), np.fft.fftfreq(n, 0.1))
            same(session.run(fg.fft.rfftfreq(n, 0.1)), np.fft.rfftfreq(n, 0.1))


def test_numpy_functions_of_tensors_build_transforms():
    x = draw((2, 6))
    same(value(np.fft.rfft, x), np.fft.rfft(x))
    same(value(lambda t: np.fft.fftn(t, axes=(0, 1)), x), np.fft.fftn(x, axes=(0, 1)))


def test_a_transform_batches_over_any_axis():
    x = draw((6, 3), "complex128")
    same(value(lambda t: vmap(fg.fft.fft, in_axes=1)(t), x), np.fft.fft(x.T))
    same(value(lambda t: vmap(lambda row: fg.fft.irfft(row, n=5))(t), x), np.fft.irfft(x, n=5))


def test_transforms_are_the_same_bits_with_any_number_of_threads():
    x = draw((64, 4096), "float32")
    with fg.Graph() as graph:
        tensor = fg.placeholder("x", x.shape)
        outputs = [fg.fft.fft(tensor), fg.fft.irfft(fg.fft.rfft(tensor)), fg.fft.fft2(tensor)]
    results = []
    for threads in (1, 4):
        with fg.Session(graph, threads=threads) as session:
            results.append([y.tobytes() for y in session.run(outputs, {tensor: x})])
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda x: fg.fft.fft(x, norm="none"), fg.ArgumentError, 'norm is "backward", "ortho" or "forward", got \'none\''),
        (lambda x: fg.fft.fft(x, n=0), fg.ArgumentError, r"fft: \(0,\) points, each an int of at least one"),
        (lambda x: fg.fft.fftn(x, (2,), (0, 1)), fg.ArgumentError, "1 sizes for 2 axes"),
        (lambda x: fg.fft.fftn(x, axes=(1, 1)), fg.ArgumentError, "name one axis twice"),
        (lambda x: fg.fft.fft(x, axis=2), fg.ShapeError, "axis 2 is out of range"),
        (lambda x: fg.fft.rfft(x * 1j), fg.ArgumentError, "takes real numbers, got complex64"),
        (lambda x: fg.fft.fft(x[:, :0]), fg.ShapeError, r"axis -1 of \(4, 0\) has no point to transform"),
        (lambda x: fg.fft.irfft(x[:, :1]), fg.ShapeError, r"\(4, 1\) stands for no number along axis -1"),
        (lambda x: fg.fft.irfft(x, n=0), fg.ArgumentError, "n = 0 points, at least one is needed"),
    ],
)
def test_what_cannot_be_transformed_is_named(build, error, text):
    with fg.Graph():
        x = fg.placeholder("x", (4, 3))
        with pytest.raises(error, match=text):
            build(x)
