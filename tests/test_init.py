"""Initialisers: the variance, bounds and angles that their sources ask for, and what they refuse."""

import math

import numpy as np
import pytest

import flowgraph as fg


def values(fetches, feeds=None, **options):
    with fg.Session(fg.get_default_graph(), threads=1, **options) as session:
        return session.run(fetches, feeds)


NAMED = ["glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform"]
SHAPES = [(300, 200), (40, 30, 5, 5)]


def fans(shape):
    window = int(np.prod(shape[2:]))
    return (shape[0], shape[1]) if len(shape) == 2 else (shape[1] * window, shape[0] * window)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NAMED)
def test_weights_have_the_variance_that_the_source_asks_for(name, shape):
    fan_in, fan_out = fans(shape)
    expected = {"glorot": 2 / (fan_in + fan_out), "he": 2 / fan_in, "lecun": 1 / fan_in}[name.split("_")[0]]
    drawn = getattr(fg.init, name)(shape)(np.random.default_rng(0))
    assert drawn.shape == shape
    assert drawn.dtype == np.float32
    # 30,000 draws or more: the variance is known to about a hundredth.
    assert drawn.var() == pytest.approx(expected, rel=0.05)
    assert abs(drawn.mean()) < 5 * np.sqrt(expected / drawn.size)


def test_uniform_draws_stay_within_the_bounds_that_the_initialiser_shows():
    initial = fg.init.glorot_uniform((100, 50))
    drawn = initial(np.random.default_rng(1))
    assert initial.high == -initial.low == pytest.approx(0.2)
    assert initial.low <= drawn.min() < -0.19
    assert 0.19 < drawn.max() <= initial.high


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("make", [fg.init.normal, fg.init.truncated_normal, fg.init.uniform, fg.init.zeros, fg.init.ones])
def test_an_initialiser_keeps_its_dtype_and_a_scalar_its_shape(make, dtype):
    for shape in [(), (0, 3), (2, 3)]:
        made = make(shape, dtype=dtype)(np.random.default_rng(0))
        assert (made.shape, made.dtype) == (shape, np.dtype(dtype))


def test_constants_hold_numbers_of_any_kind():
    generator = np.random.default_rng(0)
    assert fg.init.constant(7, (2,), "int64")(generator).tolist() == [7, 7]
    assert fg.init.constant(True, (), "bool")(generator) == np.True_
    assert fg.init.constant(1e300, (), "float64")(generator) == 1e300


def test_the_first_value_depends_on_the_seed_and_the_variable_alone(graph):
    a = fg.variable(fg.init.normal((3,)), name="a")
    b = fg.variable(fg.init.normal((3,)), name="b")
    first, again, other = values([a, b], seed=1), values([b, a], seed=1), values([a, b], seed=2)
    np.testing.assert_array_equal(first, again[::-1])
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("limit", [0.5, 2.0])
def test_truncated_draws_are_normal_draws_without_the_tails(limit):
    drawn = fg.init.truncated_normal((200, 300), std=0.5, mean=1.0, limit=limit, dtype="float64")(np.random.default_rng(0))
    ends = np.abs(drawn - 1) / 0.5
    assert 0.99 * limit < ends.max() < limit
    density = math.exp(-(limit**2) / 2) / math.sqrt(2 * math.pi)
    inside = math.erf(limit / math.sqrt(2))
    assert drawn.var() == pytest.approx(0.25 * (1 - 2 * limit * density / inside), rel=0.02)
    assert drawn.mean() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (4, 2, 3, 3), (64, 2, 3, 3)], ids=str)
def test_orthogonal_weights_have_rows_or_columns_at_right_angles(shape):
    w = fg.init.orthogonal(shape, gain=2.0, dtype="float64")(np.random.default_rng(0)).reshape(shape[0], -1)
    short = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(short, 4 * np.eye(len(short)), atol=1e-12)


def test_orthogonal_matrices_point_everywhere_alike():
    draws = [fg.init.orthogonal((2, 2), dtype="float64")(np.random.default_rng(seed)) for seed in range(2000)]
    assert abs(np.mean(draws, axis=0)).max() < 0.06  # QR alone would leave one sign more often
    assert np.mean([np.linalg.det(w) > 0 for w in draws]) == pytest.approx(0.5, abs=0.05)


def test_identity_filters_give_the_images_themselves(graph):
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 5), dtype=np.float32)
    filters = fg.variable(fg.init.identity((3, 3, 3, 3), gain=2.0))
    np.testing.assert_array_equal(values(fg.nn.conv2d(x, filters, padding=1)), 2 * x)
    generator = np.random.default_rng(0)
    np.testing.assert_array_equal(fg.init.identity((3, 2), dtype="float64")(generator), np.eye(3, 2))


@pytest.mark.parametrize("make", [fg.init.orthogonal, fg.init.identity])
def test_weights_without_elements_are_drawn_too(make):
    for shape in [(0, 3), (3, 0), (2, 2, 0)]:
        assert make(shape)(np.random.default_rng(0)).shape == shape


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: fg.init.he_normal((3,)), fg.ArgumentError, "he_normal: fan-in and fan-out are not defined for (3,)"),
        (lambda: fg.init.zeros((None, 3)), fg.ArgumentError, "every size of a variable must be known, got (?, 3)"),
        (lambda: fg.init.normal((3,), dtype="int64"), fg.DtypeError, "draws are floats, not int64"),
        (lambda: fg.init.normal((3,), std=-1), fg.ArgumentError, "std cannot be negative"),
        (lambda: fg.init.normal((3,), std=float("nan")), fg.ArgumentError, "std is a finite number, got nan"),
        (lambda: fg.init.truncated_normal((3,), std=-1), fg.ArgumentError, "TruncatedNormal: std cannot be negative"),
        (lambda: fg.init.truncated_normal((3,), limit=0), fg.ArgumentError, "limit is 0.1 standard deviations or more, got 0"),
        (lambda: fg.init.orthogonal((3,)), fg.ArgumentError, "Orthogonal: a matrix or filters are needed, got (3,)"),
        (lambda: fg.init.identity(()), fg.ArgumentError, "Identity: a matrix or filters are needed, got ()"),
        (lambda: fg.init.identity((2, 2), dtype="int8"), fg.DtypeError, "Identity: draws are floats, not int8"),
        (lambda: fg.init.uniform((3,), 2, 1), fg.ArgumentError, "low is above high"),
        (lambda: fg.init.constant([1, 2], (2,)), fg.ArgumentError, "the value is one number"),
        (lambda: fg.init.constant(1.5, (2,), "int64"), fg.DtypeError, "int64 cannot hold 1.5"),
    ],
)
def test_an_initialiser_that_cannot_be_says_why(make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert text in str(caught.value)
