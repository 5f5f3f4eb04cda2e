"""Images in another size against interpolation as it is written down, and against the transpose of its matrix."""

import numpy as np
import pytest

import flowgraph as fg


def run(build, *arrays):
    with fg.Graph() as graph:
        inputs = [fg.placeholder(f"x{i}", a.shape, a.dtype) for i, a in enumerate(arrays)]
        y = build(*inputs)
    with fg.Session(graph, threads=1) as session:
        return session.run(y, dict(zip(inputs, arrays, strict=True)))


def matrix(count, length, method, align_corners):
    """What one axis is multiplied by: (count, length)."""
    weights = np.zeros((count, length))
    for i in range(count):
        if method == "nearest":
            weights[i, int((i + 0.5) * length / count)] = 1
            continue
        place = i * (length - 1) / max(count - 1, 1) if align_corners else min(max((i + 0.5) * length / count - 0.5, 0), length - 1)
        low = min(int(place), length - 1)
        weights[i, low] += 1 - (place - low)
        weights[i, min(low + 1, length - 1)] += place - low
    return weights


WAYS = [("nearest", False), ("linear", False), ("linear", True)]


@pytest.mark.parametrize(("method", "align_corners"), WAYS)
@pytest.mark.parametrize("size", [(8, 10), (3, 2), (1, 1), (4, 5), (7, 1)], ids=str)
def test_a_picture_is_resized_axis_by_axis(size, method, align_corners):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    high, wide = (matrix(n, m, method, align_corners) for n, m in zip(size, (4, 5), strict=True))
    weights = np.arange(size[0] * size[1], dtype=float).reshape(size)

    def resized(x):
        y = fg.nn.resize(x, size, method, align_corners=align_corners)
        return [y, *fg.gradients(fg.sum(y * weights), [x])]

    y, slope = run(resized, x)
    np.testing.assert_allclose(y, high @ x @ wide.T, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(slope, np.broadcast_to(high.T @ weights @ wide, x.shape), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("method", "align_corners"), WAYS)
def test_sequences_and_volumes_are_resized_as_pictures_are(method, align_corners):
    rng = np.random.default_rng(0)
    line, volume = rng.standard_normal((1, 2, 5)), rng.standard_normal((1, 2, 3, 4, 2))
    a, b, c = matrix(7, 5, method, align_corners), matrix(5, 3, method, align_corners), matrix(5, 4, method, align_corners)
    resized = run(lambda x: fg.nn.resize(x, 7, method, align_corners=align_corners), line)
    np.testing.assert_allclose(resized, line @ a.T, rtol=1e-12)
    resized = run(lambda x: fg.nn.resize(x, (5, 5, 2), method, align_corners=align_corners), volume)
    np.testing.assert_allclose(resized, np.einsum("ai,bj,ncijk->ncabk", b, c, volume), rtol=1e-12, atol=1e-12)


def test_the_size_that_an_image_has_changes_nothing():
    x = np.random.default_rng(0).standard_normal((1, 1, 4, 5))
    for method, align_corners in WAYS:
        np.testing.assert_array_equal(run(lambda x: fg.nn.resize(x, (4, 5), method, align_corners=align_corners), x), x)  # noqa: B023


@pytest.mark.parametrize("align_corners", [False, True])
def test_the_weight_of_a_neighbour_is_exact_far_from_the_start(align_corners):
    # The pixels are 0 and 1 in turn, so that a new pixel between two is the weight of one of them: a whole number over 10 or 20.
    pixels = np.arange(10_001.0)[None, None] % 2
    new = np.arange(100_001 if align_corners else 100_010)
    tenths = new % 20 if align_corners else np.clip((2 * new + 1) - 10, 0, 200_000) / 2 % 20
    want = np.minimum(tenths, 20 - tenths) / 10
    with fg.Graph() as graph, fg.Session(graph) as session:
        y = session.run(fg.nn.resize(pixels, len(new), align_corners=align_corners))[0, 0]
    np.testing.assert_allclose(y, want, rtol=0, atol=2e-16)


def test_the_nearest_pixels_of_integers_stay_integers():
    x = np.arange(4, dtype=np.uint8).reshape(1, 1, 2, 2)
    y = run(lambda x: fg.nn.resize(x, (4, 2), "nearest"), x)
    np.testing.assert_array_equal(y, np.array([[[[0, 1], [0, 1], [2, 3], [2, 3]]]], np.uint8))


def test_the_old_size_need_not_be_known():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (None, 2, None, None), "float64")
        y = fg.nn.resize(x, (6, 3))
        slope = fg.gradients(fg.sum(y), [x])[0]
    assert y.shape == (None, 2, 6, 3)
    with fg.Session(graph, threads=1) as session:
        assert session.run(slope, {x: np.ones((1, 2, 3, 3))}).sum() == pytest.approx(36)


MISTAKES = [
    (lambda x: fg.nn.resize(x, 4, "cubic"), fg.ArgumentError, 'resize: the method is "nearest" or "linear", got \'cubic\''),
    (lambda x: fg.nn.resize(x, 4, "nearest", align_corners=True), fg.ArgumentError, 'resize: align_corners is for method "linear"'),
    (lambda x: fg.nn.resize(x, (1, 2, 3)), fg.ArgumentError, "size must be a positive int or 2 of them, got (1, 2, 3)"),
    (lambda x: fg.nn.resize(fg.astype(x, "uint8"), 4), fg.DtypeError, "resize: needs floats, got uint8"),
    (lambda x: fg.nn.resize(x[:, :, :0], 4), fg.ShapeError, "(batch, 3, 0, 5) has no pixels to take values from"),
]


@pytest.mark.parametrize(("build", "error", "text"), MISTAKES, ids=[text for *_, text in MISTAKES])
def test_images_that_cannot_be_resized_say_why(build, error, text):
    with fg.Graph():
        x = fg.placeholder("x", ("batch", 3, 4, 5), "float32")
        with pytest.raises(error) as caught:
            build(x)
    assert text in str(caught.value)
