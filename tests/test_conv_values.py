"""Convolution and pooling along one to three axes against loops that follow the definition."""

import itertools

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.autodiff.vmap import vmap

SIZES = {1: (7,), 2: (6, 7), 3: (4, 5, 6)}
CONV = {1: fg.nn.conv1d, 2: fg.nn.conv2d, 3: fg.nn.conv3d}
TRANSPOSE = {1: fg.nn.conv1d_transpose, 2: fg.nn.conv2d_transpose, 3: fg.nn.conv3d_transpose}
MAX = {1: fg.nn.max_pool1d, 2: fg.nn.max_pool2d, 3: fg.nn.max_pool3d}
AVG = {1: fg.nn.avg_pool1d, 2: fg.nn.avg_pool2d, 3: fg.nn.avg_pool3d}

OPTIONS = [
    {},
    {"stride": 2},
    {"padding": 1, "dilation": 2},
    {"padding": "uneven", "stride": 2, "groups": 2},
    {"padding": "same", "groups": 4},
    {"padding": "same", "stride": 3},
]


def windows(x, window, stride, borders, dilation, fill=0.0):
    """(position, pixels of the window) for every window of ``x`` (..., *sizes)."""
    rank = len(window)
    x = np.pad(x, [(0, 0)] * (x.ndim - rank) + list(borders), constant_values=fill)
    counts = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[-rank:], window, stride, dilation, strict=True)]
    for position in itertools.product(*map(range, counts)):
        parts = [slice(p * s, p * s + d * (k - 1) + 1, d) for p, k, s, d in zip(position, window, stride, dilation, strict=True)]
        yield position, x[(..., *parts)]


def same(n, k, s, d):
    total = max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0)
    return total // 2, total - total // 2


def settled(rank, sizes, window, stride=1, padding=0, dilation=1, **_):
    if padding == "same":
        borders = [same(n, k, stride, dilation) for n, k in zip(sizes, window, strict=True)]
    elif padding == "uneven":
        borders = [(1, 2), (0, 1), (2, 0)][:rank]
    else:
        borders = [(padding, padding)] * rank
    return (stride,) * rank, borders, (dilation,) * rank


def naive_conv(x, w, stride, borders, dilation, groups):
    found = {}
    per_group, outs = w.shape[1], w.shape[0] // groups
    for position, pixels in windows(x, w.shape[2:], stride, borders, dilation):
        y = np.zeros((len(x), len(w)), np.result_type(x, w))
        for n, o in np.ndindex(*y.shape):
            group = o // outs
            y[n, o] = (pixels[n, group * per_group : (group + 1) * per_group] * w[o]).sum()
        found[position] = y
    shape = tuple(p + 1 for p in max(found))
    return np.moveaxis(np.array([found[p] for p in np.ndindex(*shape)]).reshape(*shape, len(x), len(w)), (-2, -1), (0, 1))


def run(build, *arrays):
    with fg.Graph() as graph:
        inputs = [fg.placeholder(f"x{i}", a.shape, a.dtype) for i, a in enumerate(arrays)]
        y = build(*inputs)
    with fg.Session(graph, threads=1) as session:
        return session.run(y, dict(zip(inputs, arrays, strict=True)))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_convolution_is_the_sum_over_its_window_that_a_loop_gives(rank, options):
    rng = np.random.default_rng(rank)
    groups = options.get("groups", 1)
    x = rng.standard_normal((2, 4, *SIZES[rank]))
    w = rng.standard_normal((4, 4 // groups, *(3, 2, 2)[:rank]))
    stride, borders, dilation = settled(rank, x.shape[2:], w.shape[2:], **options)
    given = {**options, "padding": borders} if options.get("padding") == "uneven" else options
    y = run(lambda x, w: CONV[rank](x, w, **given), x, w)
    np.testing.assert_allclose(y, naive_conv(x, w, stride, borders, dilation, groups), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("options", [*OPTIONS, {"stride": 3, "output_padding": 2}, {"stride": 4, "padding": "same"}], ids=str)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_transposed_convolution_is_the_adjoint_of_the_convolution(rank, options):
    rng = np.random.default_rng(rank)
    groups = options.get("groups", 1)
    g = rng.standard_normal((2, 4, *(3, 2, 4)[:rank]))
    w = rng.standard_normal((4, 6 // groups if groups < 4 else 1, *(3, 2, 2)[:rank]))
    given = {**options, "padding": [(1, 2), (0, 1), (2, 0)][:rank]} if options.get("padding") == "uneven" else options
    up = run(lambda g, w: TRANSPOSE[rank](g, w, **given), g, w)
    x = rng.standard_normal(up.shape)
    plain = {key: value for key, value in given.items() if key != "output_padding"}
    down = run(lambda x, w: CONV[rank](x, w, **plain), x, w)
    assert down.shape == g.shape
    np.testing.assert_allclose((up * x).sum(), (down * g).sum(), rtol=1e-10)


def test_same_padding_of_a_transposed_convolution_multiplies_the_size_by_the_stride():
    with fg.Graph():
        x = fg.placeholder("x", ("batch", 3, 5, 7))
        for window, stride in [(3, 2), (2, 2), (4, 3), (1, 2), (5, 1)]:
            w = np.ones((3, 2, window, window), np.float32)
            assert fg.nn.conv2d_transpose(x, w, stride=stride, padding="same").shape == ("batch", 2, 5 * stride, 7 * stride)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_gradients_of_convolutions_with_groups_agree_with_differences_to_second_order(rank):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 4, *SIZES[rank])), rng.standard_normal((2, 2, *(3, 2, 2)[:rank]))
    for order in (1, 2):
        fg.check_gradient(lambda x, w: CONV[rank](x, w, stride=2, padding=1, groups=2), x, w, order=order)
        fg.check_gradient(lambda x, w: TRANSPOSE[rank](x, w, stride=2, output_padding=1, groups=2), x[:, :2], w, order=order)


@pytest.mark.parametrize("shared", [(0, None), (None, 0)], ids=["images", "filters"])
def test_a_batched_convolution_has_a_gradient_by_what_its_batch_shares(shared):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3,) * (shared[0] == 0) + (2, 2, 4, 5))
    w = rng.standard_normal((3,) * (shared[1] == 0) + (2, 1, 2, 2))
    batched = vmap(lambda x, w: fg.nn.conv2d(x, w, groups=2), in_axes=shared)
    for order in (1, 2):
        fg.check_gradient(batched, x, w, order=order, tolerance=2e-6)


@pytest.mark.parametrize("shared", [(0, None), (None, 0), (0, 0)], ids=["images", "filters", "both"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_gradients_for_each_example_are_those_of_a_loop(rank, shared):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3,) * (shared[0] == 0) + (2, 4, *SIZES[rank]))
    w = rng.standard_normal((3,) * (shared[1] == 0) + (2, 2, *(3, 2, 2)[:rank]))

    def slopes(x, w):
        y = CONV[rank](x, w, stride=2, padding=1, groups=2)
        return fg.gradients(fg.sum(y * y * y), [x, w])

    many = run(vmap(slopes, in_axes=shared), x, w)
    for k in range(3):
        alone = run(slopes, x[k] if shared[0] == 0 else x, w[k] if shared[1] == 0 else w)
        for have, want in zip(many, alone, strict=True):
            np.testing.assert_allclose(have[k], want, rtol=1e-9, atol=1e-9)


def test_batching_a_batched_convolution_gives_all_pairs_of_images_and_filters():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 2, 2, 5)), rng.standard_normal((4, 6, 2, 3))
    pairs = vmap(vmap(fg.nn.conv1d, in_axes=(None, 0)), in_axes=(0, None))
    y = run(pairs, x, w)
    assert y.shape == (3, 4, 2, 6, 3)
    np.testing.assert_allclose(y[2, 1], naive_conv(x[2], w[1], (1,), [(0, 0)], (1,), 1), rtol=1e-10)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bit_convolutions_are_summed_in_thirty_two_bits(dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    dtype = np.dtype(getattr(ml_dtypes, dtype)) if dtype == "bfloat16" else np.dtype(dtype)
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 300, 3, 3)).astype(dtype), rng.standard_normal((2, 300, 3, 3)).astype(dtype)
    y = run(fg.nn.conv2d, x, w)
    assert y.dtype == dtype
    exact = np.einsum("nchw,ochw->no", x.astype("float64"), w.astype("float64"))
    np.testing.assert_array_equal(y[:, :, 0, 0], exact.astype("float32").astype(dtype))


def test_images_and_filters_of_two_dtypes_meet_in_the_promoted_one():
    x, w = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 2, 2), np.float64)
    with fg.Graph() as graph:
        a, b = fg.placeholder("a", x.shape, x.dtype), fg.placeholder("b", w.shape, w.dtype)
        y = fg.nn.conv2d(a, b)
        slopes = fg.gradients(fg.sum(y), [a, b])
    with fg.Session(graph, threads=1) as session:
        values = session.run([y, *slopes], {a: x, b: w})
    assert [v.dtype for v in values] == [np.float64, np.float32, np.float64]


# Pooling


@pytest.mark.parametrize("padding", [0, "same", "uneven"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_pooling_is_the_largest_or_the_mean_of_each_window(rank, padding):
    rng = np.random.default_rng(rank)
    x = rng.standard_normal((2, 3, *SIZES[rank]))
    window = (3, 4, 3)[:rank]
    stride, borders, dilation = settled(rank, x.shape[2:], window, stride=2, padding=padding)
    given = borders if padding == "uneven" else padding
    largest, mean, counted = run(
        lambda x: [
            MAX[rank](x, window, stride=2, padding=given),
            AVG[rank](x, window, stride=2, padding=given),
            AVG[rank](x, window, stride=2, padding=given, count_include_pad=True),
        ],
        x,
    )
    axes = tuple(range(2, 2 + rank))
    for position, pixels in windows(x, window, stride, borders, dilation, np.nan):
        np.testing.assert_array_equal(largest[(..., *position)], np.nanmax(pixels, axis=axes))
        np.testing.assert_allclose(mean[(..., *position)], np.nanmean(pixels, axis=axes), rtol=1e-12)
        np.testing.assert_allclose(counted[(..., *position)], np.nansum(pixels, axis=axes) / np.prod(window), rtol=1e-12)


def test_the_gradient_of_max_pooling_goes_to_the_first_of_equals():
    x = np.zeros((1, 1, 3, 3))
    with fg.Graph() as graph:
        images = fg.placeholder("x", x.shape, x.dtype)
        slope = fg.gradients(fg.sum(fg.nn.max_pool2d(images, 2, stride=1)), [images])
    with fg.Session(graph, threads=1) as session:
        np.testing.assert_array_equal(session.run(slope[0], {images: x})[0, 0], [[1, 1, 0], [1, 1, 0], [0, 0, 0]])


@pytest.mark.parametrize("size", [1, 2, 3, (3, 5)], ids=str)
def test_adaptive_pooling_covers_each_image_with_as_many_windows_as_asked_for(size):
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 7))
    mean, largest = run(lambda x: [fg.nn.adaptive_avg_pool(x, size), fg.nn.adaptive_max_pool(x, size)], x)
    high, wide = size if isinstance(size, tuple) else (size, size)
    assert mean.shape == (2, 3, high, wide)
    for i, j in np.ndindex(high, wide):
        part = x[:, :, i * 6 // high : -(-(i + 1) * 6 // high), j * 7 // wide : -(-(j + 1) * 7 // wide)]
        np.testing.assert_allclose(mean[:, :, i, j], part.mean(axis=(2, 3)), rtol=1e-10, atol=1e-12)
        np.testing.assert_array_equal(largest[:, :, i, j], part.max(axis=(2, 3)))
    fg.check_gradient(lambda x: fg.nn.adaptive_avg_pool(x, size), x)


def test_half_precision_averages_are_summed_in_thirty_two_bits():
    x = np.full((1, 1, 64, 64), 100, np.float16)  # a sum of 409600, far above float16's largest number
    y = run(lambda x: fg.nn.avg_pool2d(x, 64), x)
    assert y.dtype == np.float16
    assert y.item() == 100


def test_local_response_norm_divides_by_what_the_neighbouring_channels_hold():
    x = np.random.default_rng(0).standard_normal((2, 6, 3, 2))
    for size in (1, 4, 5):
        y = run(lambda x: fg.nn.local_response_norm(x, size, alpha=0.5, beta=0.7, k=2.0), x)  # noqa: B023
        for c in range(6):
            near = x[:, max(c - size // 2, 0) : c + (size - 1) // 2 + 1]
            want = x[:, c] / (2 + 0.5 / size * (near**2).sum(axis=1)) ** 0.7
            np.testing.assert_allclose(y[:, c], want, rtol=1e-10)
    fg.check_gradient(lambda x: fg.nn.local_response_norm(x, 3), x, order=2)


# What a user reads after a mistake

MISTAKES = [
    (lambda x, w: fg.nn.conv1d(x, w), fg.ShapeError, "conv1d: x needs 3 dimensions, (batch, channels, length), got 4"),
    (lambda x, w: fg.nn.conv2d(x, w[0]), fg.ShapeError, "conv2d: w needs 4 dimensions, (out, channels per group, height, width), got 3"),
    (lambda x, w: fg.nn.conv2d(x, w, groups=2), fg.ShapeError, "4 channels in 2 groups but filters for 8"),
    (lambda x, w: fg.nn.conv2d(x[:, :, :2], w), fg.ShapeError, "a window of 3 does not fit into 2 pixels"),
    (lambda x, w: fg.nn.conv2d(x, w, stride=(1, 2, 3)), fg.ArgumentError, "stride must be a positive int or 2 of them, got (1, 2, 3)"),
    (lambda x, w: fg.nn.conv2d(x, w, padding="full"), fg.ArgumentError, "padding 'full' is not understood"),
    (lambda x, w: fg.nn.conv2d(x, w, groups=0), fg.ArgumentError, "conv2d: groups must be a positive int, got 0"),
    (lambda x, w: fg.nn.conv2d_transpose(x, w), fg.ShapeError, "4 channels but 2 filters"),
    (lambda x, w: fg.nn.conv2d_transpose(x[:, :2], w, padding=9), fg.ShapeError, "the padding (9, 9) leaves nothing of 8 pixels"),
    (
        lambda x, w: fg.nn.conv2d_transpose(x[:, :2], w, stride=2, output_padding=2),
        fg.ArgumentError,
        "conv2d_transpose: output_padding must be ints below the stride (2, 2), got 2",
    ),
    (lambda x, w: fg.nn.max_pool3d(x), fg.ShapeError, "max_pool3d: x needs 5 dimensions, (batch, channels, depth, height, width), got 4"),
    (lambda x, w: fg.nn.max_pool2d(fg.astype(x, "int32")), fg.DtypeError, "needs floats, got int32"),
    (lambda x, w: fg.nn.adaptive_avg_pool(x, 9), fg.ShapeError, "adaptive_avg_pool: 6 pixels do not divide into 9 parts"),
    (lambda x, w: fg.nn.local_response_norm(x, 0), fg.ArgumentError, "local_response_norm: size must be a positive int, got 0"),
]


@pytest.mark.parametrize(("build", "error", "text"), MISTAKES, ids=[text for *_, text in MISTAKES])
def test_windows_that_cannot_be_say_why(build, error, text):
    with fg.Graph():
        x, w = fg.placeholder("x", (None, 4, 6, 7), "float32"), fg.placeholder("w", (2, 4, 3, 3), "float32")
        with pytest.raises(error) as caught:
            build(x, w)
    assert text in str(caught.value)
