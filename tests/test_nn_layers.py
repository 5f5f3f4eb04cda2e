"""Layers of networks: their numbers beside NumPy's, what a call in training changes, and what they share, own and refuse."""

import warnings
from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph import nn


def wrong(value: Any) -> Any:
    """A value of a type that the annotations do not allow."""
    return value


def drawn(*shape, seed=0, dtype="float32"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# Names and ownership


class Block(nn.Layer):
    def __init__(self, size, name="block"):
        super().__init__(name)
        with self.scope():
            self.first = nn.Linear(size, size, name="first")
            self.rest: list[Any] = [nn.Sequential(nn.BatchNorm(size), nn.relu), {"last": nn.Linear(size, size)}]
        self.gain = self.weight("gain", fg.init.ones, (size,))

    def apply(self, x, training):
        norm, last = self.rest
        return last["last"](norm(self.first(x), training=training)) * self.gain


def test_the_variables_of_a_layer_of_layers_are_named_by_their_path(graph):
    block = Block(3)
    assert [w.name for w in block.variables] == [
        "block/gain",
        "block/first/w",
        "block/first/b",
        "block/batch_norm/scale",
        "block/batch_norm/offset",
        "block/batch_norm/mean",
        "block/batch_norm/variance",
        "block/linear/w",
        "block/linear/b",
    ]
    assert list(block.parameters) == [w.name for w in block.variables if "mean" not in w.name and "variance" not in w.name]
    assert block.parameters["block/first/w"] is block.first.w
    assert repr(block) == "<Block block: 9 variables>"


def test_two_layers_of_layers_do_not_share_a_scope(graph):
    one, two = Block(2), Block(2)
    assert (one.name, two.name) == ("block", "block_1")
    assert two.first.w.name == "block_1/first/w"
    assert two(np.ones((1, 2), np.float32), training=True).name == "block_1/multiply"
    with fg.scope("net"):
        assert Block(2).first.w.name == "net/block/first/w"


def test_a_layer_keeps_clear_of_the_scopes_of_a_graph_that_was_loaded(graph, tmp_path):
    nn.Linear(2, 2)
    fg.io.save_graph(graph, tmp_path / "graph.json")
    loaded = fg.io.load_graph(tmp_path / "graph.json")
    with loaded if isinstance(loaded, fg.Graph) else loaded.graph:
        assert nn.Linear(2, 2).w.name == "linear_1/w"


def test_a_variable_that_is_given_is_shared_and_trained_once(graph, session):
    one = nn.Linear(3, 3)
    two = nn.Linear(3, 3, weights=one.w, bias=None)
    net = nn.Sequential(one, two)
    assert two.w is one.w
    assert list(net.parameters) == ["linear/w", "linear/b"]
    x = drawn(2, 3)
    w, y = session.run([one.w, net(x)])
    np.testing.assert_allclose(y, x @ w @ w, rtol=1e-5)


def test_a_part_of_a_network_is_frozen_by_training_the_rest(graph, session):
    body, head = nn.Linear(3, 4), nn.Linear(4, 1)
    train = fg.optim.SGD(0.1).minimize(fg.mean(fg.square(head(nn.relu(body(drawn(5, 3)))))), list(head.parameters.values()))
    before = session.variables.copy()
    session.run(train)
    changed = [name for name, value in session.variables.items() if not np.array_equal(value, before[name])]
    assert changed == ["linear_1/w", "linear_1/b"]


@pytest.mark.parametrize(
    "make",
    [
        lambda dtype: nn.Linear(3, 2, dtype=dtype),
        lambda dtype: nn.Linear(3, 2, weights=lambda shape: fg.init.normal(shape, std=0.1), dtype=dtype),
        lambda dtype: nn.Embedding(3, 2, dtype=dtype),
        lambda dtype: nn.Conv1d(3, 2, 1, dtype=dtype),
        lambda dtype: nn.ConvTranspose3d(3, 2, 1, dtype=dtype),
        lambda dtype: nn.BatchNorm(3, dtype=dtype),
        lambda dtype: nn.LayerNorm(3, dtype=dtype),
        lambda dtype: nn.GroupNorm(1, 3, dtype=dtype),
    ],
)
def test_all_variables_of_a_layer_have_the_dtype_that_was_asked_for(graph, make):
    assert {w.dtype for w in make("float64").variables} == {np.dtype("float64")}
    assert {w.dtype for w in make(None).variables} == {np.dtype("float32")}


# Matrices and filters


def test_an_embedding_gives_rows_and_its_logits_are_products_with_all_of_them(graph, session):
    embedding = nn.Embedding(5, 3)
    vectors, likeness, w = session.run([embedding([[4, 0, 4]]), embedding.logits(np.ones((1, 3), np.float32)), embedding.w])
    np.testing.assert_array_equal(vectors, w[[[4, 0, 4]]])
    np.testing.assert_allclose(likeness, w.sum(axis=1)[None], rtol=1e-6)
    assert embedding.logits(np.ones((1, 3), np.float32)).name.startswith("embedding/")


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_convolution_of_each_rank_is_its_function_and_a_bias_for_each_channel(graph, session, rank):
    layer, function = getattr(nn, f"Conv{rank}d"), getattr(nn, f"conv{rank}d")
    options = {"stride": 2, "padding": 1, "dilation": 1, "groups": 2}
    conv = layer(4, 6, 3, **options, bias=np.arange(6, dtype=np.float32))
    assert conv.w.shape == (6, 2, *(3,) * rank)
    x = drawn(2, 4, *(7,) * rank)
    y, plain = session.run([conv(x), function(x, conv.w, **options)])
    np.testing.assert_array_equal(y, plain + np.arange(6, dtype=np.float32).reshape(6, *(1,) * rank))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_transposed_convolution_of_each_rank_is_its_function_and_a_bias_for_each_channel(graph, session, rank):
    layer, function = getattr(nn, f"ConvTranspose{rank}d"), getattr(nn, f"conv{rank}d_transpose")
    options = {"stride": 2, "padding": 1, "output_padding": 1, "dilation": 1, "groups": 2}
    conv = layer(4, 6, 3, **options, bias=np.arange(6, dtype=np.float32))
    assert conv.w.shape == (4, 3, *(3,) * rank)
    x = drawn(2, 4, *(3,) * rank)
    y, plain = session.run([conv(x), function(x, conv.w, **options)])
    assert y.shape == (2, 6, *(6,) * rank)
    np.testing.assert_array_equal(y, plain + np.arange(6, dtype=np.float32).reshape(6, *(1,) * rank))


# Normalisation


def test_each_normalisation_is_its_function_of_the_layers_scale_and_offset(graph, session):
    x = drawn(2, 6, 3)
    scale, offset = drawn(6, seed=1), drawn(6, seed=2)
    options: dict[str, Any] = {"scale": scale, "offset": offset}
    pairs = [
        (nn.GroupNorm(3, 6, **options)(x), nn.group_norm(x, 3, scale, offset)),
        (nn.InstanceNorm(6, **options)(x), nn.instance_norm(x, scale, offset)),
        (nn.LayerNorm(3, epsilon=0.1)(x), nn.layer_norm(x, epsilon=0.1)),
        (nn.LayerNorm((6, 3), scale=drawn(6, 3), offset=None)(x), nn.layer_norm(x, drawn(6, 3), axis=(1, 2))),
        (nn.RMSNorm((6, 3), scale=drawn(6, 3))(x), nn.rms_norm(x, drawn(6, 3), axis=(1, 2))),
        (nn.BatchNorm(6, **options)(x, training=True), nn.batch_norm(x, scale, offset)[0]),
    ]
    for have, want in session.run(pairs):
        np.testing.assert_array_equal(have, want)


def numpy_statistics(batches, keep):
    mean, variance = np.zeros(3), np.ones(3)
    for x in batches:
        flat = np.moveaxis(x, 1, -1).reshape(-1, 3).astype(np.float64)
        mean = keep * mean + (1 - keep) * flat.mean(axis=0)
        variance = keep * variance + (1 - keep) * flat.var(axis=0, ddof=1)
    return mean, variance


@pytest.mark.parametrize("fed", [False, True])
def test_batch_norm_collects_statistics_in_training_and_uses_them_elsewhere(graph, session, fed):
    norm = nn.BatchNorm(3, keep=0.7, scale=np.array([1, 2, 3], np.float32), offset=np.array([0, 5, 0], np.float32))
    x, training = fg.placeholder("x", ("batch", 3, "width")), fg.placeholder("training", (), "bool")
    in_training = norm(x, training=training if fed else True)
    updates = norm.updates
    elsewhere = in_training if fed else norm(x, training=False)
    assert norm.updates == updates
    batches = [drawn(4, 3, 5, seed=seed) * 3 + 2 for seed in range(6)]
    said = {training: True} if fed else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no read of the statistics is in doubt
        for batch in batches:
            y, *_ = session.run([in_training, *updates], {x: batch, **said})
    means, variances = batches[-1].mean(axis=(0, 2), keepdims=True), batches[-1].var(axis=(0, 2), keepdims=True)
    scale, offset = np.array([1, 2, 3.0]).reshape(3, 1), np.array([0, 5, 0.0]).reshape(3, 1)
    np.testing.assert_allclose(y, (batches[-1] - means) / np.sqrt(variances + 1e-5) * scale + offset, atol=1e-5)
    mean, variance = numpy_statistics(batches, 0.7)
    np.testing.assert_allclose(session.variables["batch_norm/mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(session.variables["batch_norm/variance"], variance, rtol=1e-5)

    other = drawn(1, 3, 2, seed=9)
    before = session.variables.copy()
    y, *_ = session.run([elsewhere, *(updates if fed else [])], {x: other, **({training: False} if fed else {})})
    expected = (other - mean.reshape(3, 1)) / np.sqrt(variance.reshape(3, 1) + 1e-5) * scale + offset
    np.testing.assert_allclose(y, expected, atol=1e-5)
    for name, value in session.variables.items():
        np.testing.assert_array_equal(value, before[name])


def test_gradients_through_a_fed_batch_norm_are_those_of_training_or_of_its_absence(graph, session):
    norm = nn.BatchNorm(2, dtype="float64")
    x, training = fg.placeholder("x", ("batch", 2), "float64"), fg.placeholder("training", (), "bool")
    weights = drawn(4, 2, dtype="float64")
    (fed,) = fg.gradients(fg.sum(norm(x, training=training) * weights), [x])
    (inside,) = fg.gradients(fg.sum(norm(x, training=True) * weights), [x])
    (outside,) = fg.gradients(fg.sum(norm(x, training=False) * weights), [x])
    rows = drawn(4, 2, seed=5, dtype="float64")
    for now, alone in [(True, inside), (False, outside)]:
        have, want = session.run([fed, alone], {x: rows, training: now})
        np.testing.assert_allclose(have, want, rtol=1e-12)


def test_statistics_may_be_along_the_last_axis_and_of_one_row_without_a_division_by_zero(graph, session):
    norm = nn.BatchNorm(3, axis=-1, keep=0.0)
    y = norm(fg.placeholder("x", ("batch", 3)), training=True)
    session.run([y, *norm.updates], {graph["x"]: [[1, 2, 3]]})
    assert session.variables["batch_norm/mean"].tolist() == [1, 2, 3]
    assert session.variables["batch_norm/variance"].tolist() == [0, 0, 0]


def test_statistics_are_not_trained(graph):
    norm = nn.BatchNorm(2)
    assert list(norm.parameters) == ["batch_norm/scale", "batch_norm/offset"]
    train = fg.optim.SGD(0.1).minimize(fg.sum(norm(drawn(4, 2), training=False)))
    assert {node.inputs[0].name for node in train.control} == {"batch_norm/scale", "batch_norm/offset"}


# Training or not


def test_a_sequential_hands_on_whether_a_call_is_part_of_training(graph, session):
    net = nn.Sequential(nn.Linear(3, 50), nn.Sequential(nn.BatchNorm(50), nn.relu, nn.Dropout(0.5)), lambda x: x * 2)
    training = fg.placeholder("training", (), "bool")
    x = drawn(8, 3)
    fed, inside, outside = net(x, training=training), net(x, training=True), net(x, training=False)
    assert len(net.updates) == 4  # of two calls
    noisy, still = session.run(fed, {training: True}), session.run(fed, {training: False})
    np.testing.assert_allclose(still, session.run(outside), rtol=1e-6)
    np.testing.assert_array_equal(still, session.run(fed, {training: False}))
    assert (noisy == 0).mean() > (still == 0).mean() + 0.1
    assert session.run(inside).shape == (8, 50)


@pytest.mark.parametrize("fed", [False, True])
def test_dropout_zeroes_at_its_rate_and_keeps_the_mean(graph, session, fed):
    drop = nn.Dropout(0.25)
    training = fg.placeholder("training", (), "bool")
    y = drop(np.ones((200, 100), np.float32), training=training if fed else True)
    values = session.run(y, {training: True} if fed else {})
    assert sorted(set(values.ravel().tolist())) == [0, pytest.approx(4 / 3)]
    assert (values == 0).mean() == pytest.approx(0.25, abs=0.02)
    assert y.dtype == np.float32
    x = fg.placeholder("x", (3,))
    assert drop(x, training=False) is x
    assert nn.Dropout(0.0)(x, training=True) is x
    if fed:
        np.testing.assert_array_equal(session.run(y, {training: False}), np.ones((200, 100)))


def test_a_network_with_dropout_and_batch_norm_learns_and_resumes(graph, session):
    net = nn.Sequential(nn.Linear(2, 16), nn.BatchNorm(16), nn.relu, nn.Dropout(0.1), nn.Linear(16, 1))
    x, y = fg.placeholder("x", ("batch", 2)), fg.placeholder("y", ("batch", 1))
    loss = fg.mean(fg.square(net(x, training=True) - y))
    train = fg.group([fg.optim.Adam(0.02).minimize(loss), *net.updates])
    error = fg.mean(fg.square(net(x, training=False) - y))
    rows = drawn(64, 2)
    wanted = rows[:, :1] * rows[:, 1:]
    before = session.run(error, {x: rows, y: wanted})
    for _ in range(200):
        session.run(train, {x: rows, y: wanted})
    assert session.run(error, {x: rows, y: wanted}) < before / 4


# What is refused


def call(layer, *shape, dtype="float32", **options):
    return layer(fg.placeholder("x", shape, dtype), **options)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda: call(nn.BatchNorm(3), "batch", 3),
            "batch_norm: is this call part of training or not?\n"
            '  at     test_nn_layers.py:LINE    return layer(fg.placeholder("x", shape, dtype), **options)\n'
            "  help   say training=True or False, or give a boolean placeholder: a Sequential or another layer hands it on",
        ),
        (lambda: call(nn.Sequential(nn.Dropout(0.5)), 3), "dropout: is this call part of training or not?"),
        (lambda: call(nn.Dropout(0.5), 3, training=wrong(1)), "dropout: training is a boolean, got 1"),
        (
            lambda: call(nn.Dropout(0.5), 3, training=fg.placeholder("t", (), "int32")),
            "dropout: training is one boolean, t is () int32",
        ),
        (lambda: nn.Dropout(1.0), "dropout: the rate must be in [0, 1), got 1.0"),
        (lambda: nn.BatchNorm(3, keep=2), "batch_norm: keep is a number from 0 to 1, got 2"),
        (lambda: nn.BatchNorm(3, epsilon=-1), "batch_norm: epsilon is a number, at least 0, got -1"),
        (lambda: nn.BatchNorm(0), "channels: a positive number is expected, got 0"),
        (lambda: nn.LayerNorm(()), "shape: at least one size is expected, got none"),
        (lambda: nn.GroupNorm(4, 6), "4 groups do not divide 6 channels"),
        (lambda: nn.ConvTranspose2d(4, 6, 3, groups=4), "4 groups do not divide 4 and 6 channels"),
        (lambda: nn.Linear(2, 2, weights=fg.constant(np.ones((2, 2)))), "linear: w is a variable, an array or an initialiser, got <Tensor"),
        (lambda: nn.Sequential(nn.relu, wrong(3)), "Sequential: 3 at position 1 is no layer and no function"),
    ],
)
def test_a_layer_that_cannot_be_or_be_called_says_why(graph, make, text, text_of):
    with pytest.raises(fg.ArgumentError) as caught:
        make()
    assert text in text_of(caught.value)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: call(nn.BatchNorm(3), "batch", 4, training=True),
            fg.ShapeError,
            "batch_norm: 3 channels are expected along axis 1, x is (batch, 4)",
        ),
        (
            lambda: call(nn.LayerNorm((3, 2)), 4, 2),
            fg.ShapeError,
            "layer_norm: the last sizes are expected to be (3, 2), x is (4, 2)",
        ),
        (lambda: call(nn.RMSNorm(3), 4), fg.ShapeError, "rms_norm: the last sizes are expected to be (3,), x is (4,)"),
        (lambda: call(nn.Embedding(3, 2), 4), fg.DtypeError, "embedding: symbols are integers, x is float32"),
        (
            lambda: nn.Linear(2, 2, weights=nn.Linear(2, 3, name="other").w),
            fg.ShapeError,
            "linear: w has shape (2, 2), but other/w has (2, 3)",
        ),
        (
            lambda: nn.Linear(2, 2, weights=nn.Linear(2, 2, name="other").w, dtype="float64"),
            fg.DtypeError,
            "linear: w is float64, but other/w is float32",
        ),
    ],
)
def test_what_does_not_fit_a_layer_is_named_with_both_shapes(graph, make, error, text, text_of):
    with pytest.raises(error) as caught:
        make()
    assert text in text_of(caught.value)
