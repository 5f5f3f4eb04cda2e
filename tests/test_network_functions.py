"""Activations, losses and normalisation against their formulas, and far from where the formulas can be computed as they stand."""

import math
from typing import Any

import numpy as np
import pytest

import flowgraph as fg

special = pytest.importorskip("scipy.special")

X = np.concatenate([np.linspace(-6, 6, 25), [-1e-300, 0.0]])
nn = fg.nn


def run(build, *arrays):
    with fg.Graph() as graph:
        inputs = [fg.placeholder(f"x{i}", np.shape(a), np.asarray(a).dtype) for i, a in enumerate(arrays)]
        y = build(*inputs)
    with fg.Session(graph, threads=1) as session:
        return session.run(y, dict(zip(inputs, arrays, strict=True)))


def with_slopes(build, *arrays):
    def both(*inputs):
        y = build(*inputs)
        return [y, *fg.gradients(fg.sum(y), inputs)]

    return run(both, *arrays)


ACTIVATIONS: dict[str, tuple[Any, Any]] = {
    "relu6": (nn.relu6, lambda x: np.minimum(np.maximum(x, 0), 6)),
    "leaky_relu": (lambda x: nn.leaky_relu(x, 0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
    "elu": (lambda x: nn.elu(x, 0.7), lambda x: np.where(x > 0, x, 0.7 * np.expm1(np.minimum(x, 0)))),
    "selu": (nn.selu, lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))),
    "silu": (nn.silu, lambda x: x * special.expit(x)),
    "gelu": (nn.gelu, lambda x: x * special.ndtr(x)),
    "gelu_tanh": (
        lambda x: nn.gelu(x, approximate=True),
        lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    "mish": (nn.mish, lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    "softplus": (nn.softplus, lambda x: np.log1p(np.exp(x))),
    "softsign": (nn.softsign, lambda x: x / (1 + np.abs(x))),
    "sigmoid": (nn.sigmoid, special.expit),
    "log_sigmoid": (nn.log_sigmoid, special.log_expit),
    "hard_sigmoid": (nn.hard_sigmoid, lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    "hard_tanh": (nn.hard_tanh, lambda x: np.clip(x, -1, 1)),
    "hard_swish": (nn.hard_swish, lambda x: x * np.clip(x / 6 + 0.5, 0, 1)),
    "softmax": (nn.softmax, special.softmax),
    "log_softmax": (nn.log_softmax, special.log_softmax),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_has_the_values_of_its_formula(name):
    build, formula = ACTIVATIONS[name]
    np.testing.assert_allclose(run(build, X), formula(X), rtol=1e-12, atol=1e-15)


def test_the_normal_distribution_function_has_all_its_digits_in_its_tail():
    x = np.concatenate([np.linspace(-37, 9, 20_001), [-1e-300, 0.0, 1e-300]])
    np.testing.assert_allclose(run(fg.special.ndtr, x), special.ndtr(x), rtol=3e-13)
    near = np.linspace(-3, 3, 6001)
    np.testing.assert_allclose(run(fg.special.ndtr, near), special.ndtr(near), rtol=1e-14)
    single = np.linspace(-12, 5, 10_001, dtype=np.float32)
    np.testing.assert_allclose(run(fg.special.ndtr, single), special.ndtr(single.astype(float)), rtol=7e-7)
    # By the series of the error function in 50 decimal digits: SciPy's is a thousand ulps off in the tail.
    far = np.array([-37.4, -30.1, -12.7, -3.3, -0.75, 1.1])
    want = [
        1.953681561648992e-306,
        2.4226672179857588e-199,
        2.95648536485205e-37,
        4.834241423837775e-4,
        0.22662735237686820,
        0.86433393905361734,
    ]
    np.testing.assert_allclose(run(fg.special.ndtr, far), want, rtol=1.5e-15)


def test_elu_of_one_number_of_bfloat16_is_one():
    y = run(lambda x: nn.elu(fg.astype(x, "bfloat16"), 0.5), np.float32(-1))
    assert (y.dtype.name, float(y)) == ("bfloat16", -0.31640625)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_and_its_gradient_are_finite_far_out(name):
    build, _ = ACTIVATIONS[name]
    with np.errstate(all="ignore"):
        y, slope = with_slopes(build, np.array([-1e200, -800.0, -40.0, 0.0, 40.0, 800.0, 1e200]))
    assert np.isfinite(y).all()
    assert np.isfinite(slope).all()


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_gradient_of_an_activation_agrees_with_differences(name, order):
    build, _ = ACTIVATIONS[name]
    fg.check_gradient(build, np.array([-7.3, -2.2, -0.45, 0.31, 2.4, 7.7]), order=order, tolerance=2e-5)


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name not in ("softmax", "log_softmax")])
def test_an_activation_keeps_a_sixteen_bit_dtype(name):
    build, formula = ACTIVATIONS[name]
    x = np.linspace(-4, 4, 9, dtype=np.float16)
    y = run(build, x)
    assert y.dtype == np.float16
    np.testing.assert_allclose(y, formula(x.astype(float)), rtol=4e-3, atol=4e-3)


def test_sixteen_bit_softmaxes_are_summed_in_thirty_two_bits():
    x = np.zeros(5000, np.float16)  # the sum of 5000 ones is no float16 number
    y, logs = run(lambda x: [nn.softmax(x), nn.log_softmax(x)], x)
    assert y.dtype == logs.dtype == np.float16
    np.testing.assert_array_equal(y, np.float16(1 / 5000))
    np.testing.assert_array_equal(logs, np.float16(-math.log(5000)))


def test_the_slope_of_leaky_relu_is_learned_where_it_is_a_tensor():
    x, slope = np.array([[-1.0, 2.0], [-3.0, 4.0]]), np.array([[0.1], [0.5]])
    y, by_x, by_slope = with_slopes(nn.leaky_relu, x, slope)
    np.testing.assert_allclose(y, [[-0.1, 2.0], [-1.5, 4.0]])
    np.testing.assert_allclose(by_x, [[0.1, 1.0], [0.5, 1.0]])
    np.testing.assert_allclose(by_slope, [[-1.0], [-3.0]])


def test_glu_gates_the_first_half_by_the_second():
    x = np.random.default_rng(0).standard_normal((2, 6, 3))
    np.testing.assert_allclose(run(lambda x: nn.glu(x, 1), x), x[:, :3] * special.expit(x[:, 3:]), rtol=1e-12)


# Losses


def test_label_smoothing_gives_a_share_of_each_label_to_all_classes():
    rng = np.random.default_rng(0)
    logits, labels = rng.standard_normal((5, 4)), rng.integers(0, 4, 5)
    smooth = 0.9 * np.eye(4)[labels] + 0.1 / 4
    want = -(smooth * special.log_softmax(logits, axis=-1)).sum(axis=-1)
    np.testing.assert_allclose(run(lambda x, y: nn.softmax_cross_entropy(x, y, label_smoothing=0.1), logits, labels), want, rtol=1e-12)
    given = np.eye(4)[labels]
    np.testing.assert_allclose(run(lambda x, y: nn.softmax_cross_entropy(x, y, label_smoothing=0.1), logits, given), want, rtol=1e-12)
    fg.check_gradient(lambda x: nn.softmax_cross_entropy(x, labels, label_smoothing=0.1), logits, order=2)


def test_rows_of_the_ignored_class_lose_nothing_and_pull_nowhere():
    logits, labels = np.random.default_rng(0).standard_normal((3, 4)), np.array([1, -100, 3])
    loss, slope = with_slopes(lambda x: nn.softmax_cross_entropy(x, labels, ignore_index=-100, label_smoothing=0.1), logits)
    assert loss[1] == 0
    assert (slope[1] == 0).all()
    assert (loss[[0, 2]] > 0).all()


def test_cross_entropies_are_exact_far_out():
    logits = np.array([[1e300, 0.0, -1e300], [0.0, -1e4, 1e4]])
    loss, slope = with_slopes(lambda x: nn.softmax_cross_entropy(x, [0, 1]), logits)
    np.testing.assert_array_equal(loss, [0, 2e4])
    np.testing.assert_array_equal(slope, [[0, 0, 0], [0, -1, 1]])
    scores = np.array([-1e300, -800.0, 0.0, 50.0, 1e300])
    for label in (0.0, 0.3, 1.0):
        loss, slope = with_slopes(lambda x: nn.sigmoid_cross_entropy(x, np.full(5, label)), scores)  # noqa: B023
        np.testing.assert_allclose(loss[2:4], [math.log(2), 50 * (1 - label) + math.exp(-50)], rtol=1e-12)
        np.testing.assert_allclose(slope, [-label, -label, 0.5 - label, special.expit(50) - label, 1 - label], atol=1e-15)


def test_the_number_of_classes_need_not_be_known():
    with fg.Graph() as graph:
        logits, labels = fg.placeholder("logits", ("batch", None), "float64"), fg.placeholder("labels", ("batch",), "int32")
        loss = nn.softmax_cross_entropy(logits, labels)
        slope = fg.gradients(fg.sum(loss), [logits])[0]
    x, y = np.random.default_rng(0).standard_normal((3, 5)), np.array([4, 0, 2], np.int32)
    with fg.Session(graph, threads=1) as session:
        loss, slope = session.run((loss, slope), {logits: x, labels: y})
    np.testing.assert_allclose(loss, -special.log_softmax(x, axis=1)[np.arange(3), y], rtol=1e-12)
    np.testing.assert_allclose(slope, special.softmax(x, axis=1) - np.eye(5)[y], rtol=1e-10, atol=1e-15)


def test_the_gradient_of_logits_has_their_dtype_whatever_the_labels_have():
    x, y = np.zeros((2, 3), np.float32), np.full((2, 3), 1 / 3)
    for loss in (nn.softmax_cross_entropy, nn.sigmoid_cross_entropy):
        value, *slopes = with_slopes(loss, x, y)
        assert [value.dtype, *(s.dtype for s in slopes)] == [np.float64, np.float32, np.float64]


def test_sixteen_bit_cross_entropies_are_summed_in_thirty_two_bits():
    logits = np.zeros((1, 5000), np.float16)
    loss = run(lambda x: nn.softmax_cross_entropy(x, [3]), logits)
    assert loss.dtype == np.float16
    assert loss[0] == np.float16(math.log(5000))


def test_losses_between_two_tensors_have_the_values_of_their_formulas():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 4, 3)) * 3
    built = run(
        lambda x, y: [nn.squared_error(x, y), nn.absolute_error(x, y), nn.huber(x, y, 1.5), nn.cosine_similarity(x, y, axis=0)], x, y
    )
    wanted = [
        (x - y) ** 2,
        np.abs(x - y),
        special.huber(1.5, x - y),
        (x * y).sum(0) / np.linalg.norm(x, axis=0) / np.linalg.norm(y, axis=0),
    ]
    for have, want in zip(built, wanted, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-12)


def test_hinge_takes_labels_of_minus_one_and_one():
    loss = run(lambda s: nn.hinge(s, np.array([1, -1, 1])), np.array([2.0, 2.0, 0.25], np.float32))
    np.testing.assert_array_equal(loss, np.array([0, 3, 0.75], np.float32))
    assert loss.dtype == np.float32


@pytest.mark.parametrize("order", [1, 2])
def test_gradients_of_losses_between_two_tensors_agree_with_differences(order):
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((2, 3, 2)) * 2
    for loss in (nn.squared_error, nn.absolute_error, lambda x, y: nn.huber(x, y, 1.3), nn.cosine_similarity):
        fg.check_gradient(loss, x, y, order=order, tolerance=2e-5)
    fg.check_gradient(lambda x, y: nn.kl_divergence(nn.log_softmax(x), nn.log_softmax(y)), x, y, order=order)


def test_huber_has_one_slope_on_both_sides_of_its_seam():
    x = np.array([-2.0, -1.0, 0.0, 1.0, 1e300])
    _, slope = with_slopes(lambda x: nn.huber(x, np.zeros(5)), x)
    np.testing.assert_array_equal(slope, [-1, -1, 0, 1, 1])


def test_kl_divergence_counts_what_p_gives_no_weight_as_nothing():
    with np.errstate(divide="ignore"):
        log_p, log_q = np.log([0.25, 0.75, 0.0, 0.0]), np.log([0.5, 0.25, 0.25, 0.0])
    value, by_p, by_q = with_slopes(nn.kl_divergence, log_p, log_q)
    assert value == pytest.approx(special.rel_entr([0.25, 0.75, 0, 0], [0.5, 0.25, 0.25, 0]).sum())
    assert np.isfinite(by_p).all()
    np.testing.assert_allclose(by_q, [-0.25, -0.75, 0, 0])


def test_a_vector_of_zeros_is_similar_to_nothing_and_has_a_finite_gradient():
    value, slope, _ = with_slopes(nn.cosine_similarity, np.zeros((1, 3)), np.ones((1, 3)))
    assert value[0] == 0
    assert np.isfinite(slope).all()


# Normalisation


def normalised(x, axes, epsilon=1e-5):
    return (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(x.var(axis=axes, keepdims=True) + epsilon)


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4), (2, 3, 4, 2)], ids=str)
def test_batch_normalisation_gives_the_statistics_of_its_channels_and_takes_them_back(shape):
    rng = np.random.default_rng(0)
    x, scale, offset = rng.standard_normal(shape) + 5, rng.standard_normal(3), rng.standard_normal(3)
    axes = tuple(a for a in range(len(shape)) if a != 1)
    column = (3, *(1,) * (len(shape) - 2))
    y, mean, variance = run(nn.batch_norm, x, scale, offset)
    np.testing.assert_allclose(y, normalised(x, axes) * scale.reshape(column) + offset.reshape(column), rtol=1e-10)
    np.testing.assert_allclose(mean, x.mean(axis=axes), rtol=1e-12)
    np.testing.assert_allclose(variance, x.var(axis=axes), rtol=1e-12)
    again = run(lambda x: nn.batch_norm(x, scale, offset, statistics=(mean, variance))[0], x)
    np.testing.assert_allclose(again, y, rtol=1e-12)


def test_the_channels_of_batch_normalisation_may_be_another_axis():
    x = np.random.default_rng(0).standard_normal((4, 2, 3))
    np.testing.assert_allclose(run(lambda x: nn.batch_norm(x, axis=-1)[0], x), normalised(x, (0, 1)), rtol=1e-10)


def test_layer_and_root_mean_square_normalisation_look_at_one_example():
    rng = np.random.default_rng(0)
    x, scale, offset = rng.standard_normal((4, 2, 3)) + 2, rng.standard_normal(3), rng.standard_normal(3)
    np.testing.assert_allclose(run(nn.layer_norm, x, scale, offset), normalised(x, (-1,)) * scale + offset, rtol=1e-10)
    both = run(lambda x: nn.layer_norm(x, np.full((2, 3), 2.0), axis=(1, 2)), x)
    np.testing.assert_allclose(both, normalised(x, (1, 2)) * 2, rtol=1e-10)
    root = np.sqrt((x**2).mean(axis=-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(run(nn.rms_norm, x, scale), x / root * scale, rtol=1e-10)


@pytest.mark.parametrize("shape", [(2, 6), (2, 6, 5), (3, 6, 4, 2)], ids=str)
@pytest.mark.parametrize("groups", [1, 3, 6])
def test_group_normalisation_looks_at_the_groups_of_one_example(shape, groups):
    rng = np.random.default_rng(0)
    x, scale, offset = rng.standard_normal(shape) + 3, rng.standard_normal(6), rng.standard_normal(6)
    column = (6, *(1,) * (len(shape) - 2))
    want = normalised(x.reshape(shape[0], groups, -1), (-1,)).reshape(shape) * scale.reshape(column) + offset.reshape(column)
    np.testing.assert_allclose(run(lambda x: nn.group_norm(x, groups, scale, offset), x), want, rtol=1e-8, atol=1e-10)
    if groups == 6:
        np.testing.assert_allclose(run(lambda x: nn.instance_norm(x, scale, offset), x), want, rtol=1e-8, atol=1e-10)


def test_group_normalisation_needs_to_know_the_channels_alone():
    with fg.Graph() as graph:
        x = fg.placeholder("x", (None, 4, None, None), "float64")
        y = nn.group_norm(x, 2)
        slope = fg.gradients(fg.sum(y * y * y), [x])[0]
    value = np.random.default_rng(0).standard_normal((2, 4, 3, 2))
    with fg.Session(graph, threads=1) as session:
        y, slope = session.run((y, slope), {x: value})
    np.testing.assert_allclose(y, normalised(value.reshape(2, 2, -1), (-1,)).reshape(value.shape), rtol=1e-10)
    assert slope.shape == value.shape


@pytest.mark.parametrize("order", [1, 2])
def test_gradients_of_normalisation_agree_with_differences(order):
    rng = np.random.default_rng(1)
    x, scale, offset = rng.standard_normal((3, 4, 2)), rng.standard_normal(4), rng.standard_normal(4)
    for norm in (
        lambda x, s, o: nn.batch_norm(x, s, o)[0],
        lambda x, s, o: nn.batch_norm(x, s)[2] * nn.batch_norm(x, s, o)[1],
        lambda x, s, o: nn.batch_norm(x, s, o, statistics=(o, s * s))[0],
        lambda x, s, o: nn.group_norm(x, 2, s, o),
        lambda x, s, o: nn.instance_norm(x, s, o),
        lambda x, s, o: nn.layer_norm(fg.permute_dims(x, (0, 2, 1)), s, o),
        lambda x, s, o: nn.rms_norm(fg.permute_dims(x, (0, 2, 1)), s),
    ):
        fg.check_gradient(norm, x, scale, offset, order=order, tolerance=2e-5)


def test_normalisation_keeps_its_digits_where_the_mean_is_large():
    x = np.random.default_rng(0).standard_normal((1000, 1)) + 1e7
    y, _, variance = run(nn.batch_norm, x)
    np.testing.assert_allclose(variance, x.var(axis=0), rtol=1e-9)
    assert abs(y.std() - 1) < 1e-5


def test_sixteen_bit_normalisation_is_computed_in_thirty_two_bits():
    x = (np.random.default_rng(0).standard_normal((64, 8)) * 300).astype(np.float16)  # squares beyond float16
    for norm in (lambda x: nn.batch_norm(x)[0], nn.layer_norm, nn.rms_norm, lambda x: nn.group_norm(x, 2)):
        y = run(norm, x)
        assert y.dtype == np.float16
        assert np.isfinite(y).all()
        assert 0.8 < float(np.sqrt((y.astype(float) ** 2).mean())) < 1.2
    assert run(lambda x: nn.batch_norm(x)[1], x).dtype == np.float32


# What a user reads after a mistake

MISTAKES = [
    (lambda x: nn.elu(x, -1.0), fg.ArgumentError, "elu: alpha must be a number of at least 0, got -1.0"),
    (lambda x: nn.glu(x, 1), fg.ShapeError, "glu: axis 1 of (batch, 3) cannot be cut into halves"),
    (lambda x: nn.softplus(fg.astype(x, "int64")), fg.DtypeError, "softplus: needs floats, got int64"),
    (lambda x: nn.squared_error(x, np.ones(3)), fg.ShapeError, "squared_error: the two shapes differ, (batch, 3) and (3,)"),
    (lambda x: nn.sigmoid_cross_entropy(x, np.ones((2, 4))), fg.ShapeError, "logits (batch, 3) and labels (2, 4) must have one shape"),
    (
        lambda x: nn.softmax_cross_entropy(x, x, ignore_index=0),
        fg.ArgumentError,
        "softmax_cross_entropy: ignore_index needs integer labels",
    ),
    (lambda x: nn.softmax_cross_entropy(x, x, label_smoothing=1), fg.ArgumentError, "label_smoothing must be a number in [0, 1), got 1"),
    (lambda x: nn.huber(x, x, 0), fg.ArgumentError, "huber: delta must be positive, got 0"),
    (lambda x: nn.group_norm(x, 2), fg.ShapeError, "group_norm: 3 channels do not divide into 2 groups"),
    (lambda x: nn.batch_norm(fg.astype(x, "int32")), fg.DtypeError, "batch_norm: needs floats, got int32"),
]


@pytest.mark.parametrize(("build", "error", "text"), MISTAKES, ids=[text for *_, text in MISTAKES])
def test_what_a_network_cannot_compute_says_why(build, error, text):
    with fg.Graph():
        x = fg.placeholder("x", ("batch", 3), "float32")
        with pytest.raises(error) as caught:
            build(x)
    assert text in str(caught.value)
