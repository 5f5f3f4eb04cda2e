"""Layers for sequences, recurrent and of attention: their numbers beside loops in NumPy, and how they are called."""

from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph import nn


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def weights_of(layer, session):
    return [session.variables[w] for w in layer.variables]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# Recurrent layers


def rnn(x, h, w, u, b):
    out = []
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ w + b + h @ u)
        out.append(h)
    return np.stack(out, axis=1), h


def lstm(x, state, w, u, b):
    # https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html
    h, c = state
    out = []
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ w + h @ u + b, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return np.stack(out, axis=1), (h, c)


def gru(x, h, w, u, b, b2):
    # https://docs.pytorch.org/docs/stable/generated/torch.nn.GRU.html
    out = []
    for t in range(x.shape[1]):
        (xr, xz, xn), (hr, hz, hn) = np.split(x[:, t] @ w + b, 3, axis=-1), np.split(h @ u + b2, 3, axis=-1)
        r, z = sigmoid(xr + hr), sigmoid(xz + hz)
        n = np.tanh(xn + r * hn)
        h = (1 - z) * n + z * h
        out.append(h)
    return np.stack(out, axis=1), h


KINDS: list[Any] = [(nn.RNN, rnn), (nn.LSTM, lstm), (nn.GRU, gru)]
SIZE = 4


def made(layer, **options):
    """With biases that are not zero, else their places could be confused."""
    gates = layer.gates * SIZE
    return layer(3, SIZE, bias=lambda shape: fg.init.normal((gates,)), dtype="float64", **options)


def start_of(layer, batch, seed=None):
    h = np.zeros((batch, SIZE)) if seed is None else drawn(batch, SIZE, seed=seed)
    return (h, h / 2) if layer is nn.LSTM else h


@pytest.mark.parametrize(("layer", "loop"), KINDS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_recurrent_layer_is_a_loop_over_time(graph, session, layer, loop, reverse):
    x = fg.placeholder("x", ("batch", "time", 3), "float64")
    made_layer = made(layer, reverse=reverse)
    y, state = made_layer.with_state(x)
    rows = drawn(5, 7, 3)
    ours = session.run([y, state, made_layer(x)], {x: rows})
    given = rows[:, ::-1] if reverse else rows
    want, last = loop(given, start_of(layer, 5), *weights_of(made_layer, session))
    np.testing.assert_allclose(ours[0], want[:, ::-1] if reverse else want, rtol=1e-10)
    np.testing.assert_allclose(ours[1], last, rtol=1e-10)
    np.testing.assert_array_equal(ours[2], ours[0])


@pytest.mark.parametrize(("layer", "loop"), KINDS)
def test_a_sequence_may_be_given_piece_by_piece(graph, session, layer, loop):
    made_layer = made(layer)
    rows = drawn(2, 6, 3)
    start = start_of(layer, 2, seed=8)
    whole, end = made_layer.with_state(rows, start)
    first, between = made_layer.with_state(rows[:, :4], start)
    second, last = made_layer.with_state(rows[:, 4:], between)
    got = session.run([whole, first, second, end, last])
    np.testing.assert_allclose(np.concatenate(got[1:3], axis=1), got[0], rtol=1e-12)
    np.testing.assert_allclose(got[4], got[3], rtol=1e-12)
    np.testing.assert_allclose(got[0], loop(rows, start, *weights_of(made_layer, session))[0], rtol=1e-10)


@pytest.mark.parametrize(("layer", "loop"), KINDS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_sequence_that_has_ended_keeps_its_state(graph, session, layer, loop, reverse):
    made_layer = made(layer, reverse=reverse)
    x, mask = fg.placeholder("x", ("batch", "time", 3), "float64"), fg.placeholder("mask", ("batch", "time"), "bool")
    y, state = made_layer.with_state(x, mask=mask)
    rows, lengths = drawn(3, 5, 3), [5, 2, 0]
    ours, last = session.run([y, state], {x: rows, mask: np.arange(5) < np.array(lengths)[:, None]})
    last = last[0] if layer is nn.LSTM else last
    for row, length in enumerate(lengths):
        part = rows[row : row + 1, :length]
        if length == 0:
            np.testing.assert_array_equal(last[row], 0)
            continue
        want, _ = loop(part[:, ::-1] if reverse else part, start_of(layer, 1), *weights_of(made_layer, session))
        np.testing.assert_allclose(ours[row, :length], (want[:, ::-1] if reverse else want)[0], rtol=1e-10)
        np.testing.assert_allclose(last[row], want[0, -1], rtol=1e-10)
        if not reverse:
            np.testing.assert_array_equal(ours[row, length:], np.broadcast_to(last[row], (5 - length, SIZE)))


@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU])
def test_the_gradient_through_time_agrees_with_finite_differences(graph, session, layer):
    made_layer = made(layer)
    x = fg.placeholder("x", (2, 3, 3), "float64")
    y = made_layer(x)
    loss = fg.sum(y * drawn(2, 3, SIZE, seed=3))
    wanted = [x, *made_layer.variables]
    gradients = fg.gradients(loss, wanted)
    point = {x: drawn(2, 3, 3), **{w: session.variables[w] for w in made_layer.variables}}
    got = session.run(gradients, point)
    for tensor, gradient in zip(wanted, got, strict=True):
        way = drawn(*point[tensor].shape, seed=5)
        ends = [session.run(loss, {**point, tensor: point[tensor] + sign * 1e-6 * way}) for sign in (1, -1)]
        assert np.sum(gradient * way) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6)


@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU])
@pytest.mark.parametrize("shape", [(0, 3), (5, 3), (2, 0, 3), (0, 4, 3), (2, 3, 5, 3)])
def test_any_axes_may_stand_before_time_and_time_may_be_empty(graph, session, layer, shape):
    y, state = made(layer).with_state(drawn(*shape))
    values, last = session.run([y, state])
    assert values.shape == (*shape[:-1], SIZE)
    assert np.shape(last[0] if layer is nn.LSTM else last) == (*shape[:-2], SIZE)


def test_the_gate_that_keeps_the_memory_of_an_lstm_is_open_at_first(graph, session):
    layer = nn.LSTM(3, 2)
    assert session.variables[layer.b].tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    assert nn.LSTM(3, 2, dtype="float64").b.dtype == np.float64
    assert session.variables[nn.LSTM(3, 2, bias=fg.init.zeros).b].tolist() == [0] * 8


def test_an_lstm_learns_to_remember_what_came_first(graph, session):
    x, label = fg.placeholder("x", ("batch", "time", 2)), fg.placeholder("label", ("batch",), "int32")
    layer, head = nn.LSTM(2, 8), nn.Linear(8, 2)
    loss = fg.mean(nn.softmax_cross_entropy(head(layer(x)[:, -1]), label))
    train = fg.optim.Adam(0.05, clip_norm=1.0).minimize(loss)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((64, 6, 2)).astype(np.float32)
    first = (rows[:, 0, 0] > 0).astype(np.int32)
    for _ in range(150):
        session.run(train, {x: rows, label: first})
    assert session.run(loss, {x: rows, label: first}) < 0.1


# Attention


def attended(layer, session, x, memory=None, mask=None):
    """Vaswani et al., section 3.2, head by head."""
    wq, bq, wk, bk, wv, bv, wo, bo = weights_of(layer, session)
    memory = x if memory is None else memory
    q, k, v = x @ wq + bq, memory @ wk + bk, memory @ wv + bv
    size = q.shape[-1] // layer.heads
    heads = []
    for head in range(layer.heads):
        part = slice(head * size, (head + 1) * size)
        scores = q[..., part] @ np.swapaxes(k[..., part], -1, -2) / np.sqrt(size)
        if mask is not None:
            scores = np.where(mask[..., head, :, :] if mask.ndim > x.ndim else mask, scores, -np.inf)
        shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
        heads.append(shares / shares.sum(axis=-1, keepdims=True) @ v[..., part])
    return np.concatenate(heads, axis=-1) @ wo + bo


@pytest.fixture
def attention(graph):
    return nn.MultiHeadAttention(6, 3, bias=fg.init.normal, dtype="float64")


def test_attention_is_the_published_formula_head_by_head(graph, session, attention):
    x = fg.placeholder("x", ("batch", "time", 6), "float64")
    rows = drawn(2, 5, 6)
    np.testing.assert_allclose(session.run(attention(x), {x: rows}), attended(attention, session, rows), rtol=1e-9)
    causal = session.run(attention(x, causal=True), {x: rows})
    np.testing.assert_allclose(causal, attended(attention, session, rows, mask=np.tri(5, dtype=bool)), rtol=1e-9)


def test_a_mask_holds_for_all_heads(graph, session, attention):
    rows = drawn(2, 4, 6)
    mask = drawn(2, 4, 4, seed=1) > -0.5
    mask[:, :, 0] = True
    np.testing.assert_allclose(session.run(attention(rows, mask=mask)), attended(attention, session, rows, mask=mask), rtol=1e-9)
    one = mask[0]
    np.testing.assert_allclose(session.run(attention(rows, mask=one)), attended(attention, session, rows, mask=one), rtol=1e-9)
    padding = np.array([[[True, True, True, False]], [[True, False, False, False]]])
    np.testing.assert_allclose(session.run(attention(rows, mask=padding)), attended(attention, session, rows, mask=padding), rtol=1e-9)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_mask_with_one_axis_more_than_x_has_is_another_for_each_head(graph, session, attention, batch):
    rows = drawn(2, 4, 6)
    mask = drawn(batch, 3, 4, 4, seed=1) > -0.5
    mask[..., 0] = True
    np.testing.assert_allclose(session.run(attention(rows, mask=mask)), attended(attention, session, rows, mask=mask), rtol=1e-9)


def test_a_mask_for_each_batch_of_the_memory_holds_for_all_heads_of_an_x_without_a_batch(graph, session):
    attention = nn.MultiHeadAttention(6, 2, dtype="float64")
    x, memory = drawn(3, 6), drawn(2, 5, 6, seed=1)
    mask = drawn(2, 3, 5, seed=2) > -0.5
    mask[..., 0] = True
    expected = [attended(attention, session, x, m, allowed) for m, allowed in zip(memory, mask)]
    np.testing.assert_allclose(session.run(attention(x, memory, mask=mask)), expected, rtol=1e-9)


def test_a_memory_may_have_another_length_and_size(graph, session):
    attention = nn.MultiHeadAttention(6, 2, memory_size=4, bias=fg.init.normal, dtype="float64")
    x, memory = drawn(2, 3, 6), drawn(2, 5, 4, seed=1)
    np.testing.assert_allclose(session.run(attention(x, memory)), attended(attention, session, x, memory), rtol=1e-9)
    assert list(attention.parameters)[:2] == ["attention/query/w", "attention/query/b"]
    assert len(nn.MultiHeadAttention(6, 2, bias=None).parameters) == 4


@pytest.mark.parametrize("norm_first", [True, False])
def test_a_block_adds_attention_and_then_a_network_for_each_position(graph, session, norm_first):
    block = nn.TransformerBlock(6, 2, hidden=8, norm=nn.RMSNorm, activation=nn.relu, norm_first=norm_first, dtype="float64")
    rows = drawn(2, 3, 6)

    def rms(x, norm):
        return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-6)

    def network(x):
        w1, b1, w2, b2 = weights_of(block.widen, session) + weights_of(block.narrow, session)
        return np.maximum(x @ w1 + b1, 0) @ w2 + b2

    def attend(x):
        return attended(block.attention, session, x, mask=np.tri(3, dtype=bool))

    if norm_first:
        h = rows + attend(rms(rows, None))
        want = h + network(rms(h, None))
    else:
        h = rms(rows + attend(rows), None)
        want = rms(h + network(h), None)
    np.testing.assert_allclose(session.run(block(rows, causal=True)), want, rtol=1e-8)


def test_a_block_with_dropout_has_to_be_told_and_one_without_has_not(graph, session):
    x = drawn(1, 3, 4).astype(np.float32)
    with pytest.raises(fg.ArgumentError, match="is this call part of training or not"):
        nn.TransformerBlock(4, 2, dropout=0.5)(x)
    block = nn.TransformerBlock(4, 2, dropout=0.5)
    still, again, noisy = session.run([block(x, training=False), block(x, training=False), block(x, training=True)])
    np.testing.assert_array_equal(still, again)
    assert not np.array_equal(still, noisy)
    assert nn.TransformerBlock(4, 2)(x).shape == (1, 3, 4)
    assert next(iter(block.parameters)) == "block_1/attention/query/w"


def test_a_small_transformer_learns_to_copy_the_symbol_before(graph, session):
    net = nn.Sequential(nn.Embedding(5, 16), nn.RNN(16, 16), nn.TransformerBlock(16, 2), nn.Linear(16, 5))
    words = fg.placeholder("words", ("batch", "time"), "int32")
    logits = net(words)
    loss = fg.mean(nn.softmax_cross_entropy(logits[:, 1:], words[:, :-1]))
    train = fg.optim.AdamW(0.01).minimize(loss)
    rows = np.random.default_rng(0).integers(0, 5, (32, 6)).astype(np.int32)
    before = session.run(loss, {words: rows})
    for _ in range(60):
        session.run(train, {words: rows})
    assert session.run(loss, {words: rows}) < before / 10


# What is refused


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: nn.MultiHeadAttention(6, 4), fg.ArgumentError, "4 heads do not divide the size 6"),
        (lambda: nn.TransformerBlock(6, 0), fg.ArgumentError, "heads: a positive number is expected, got 0"),
        (lambda: nn.LSTM(3, 0), fg.ArgumentError, "size: a positive number is expected, got 0"),
        (lambda: nn.LSTM(3, 2)(np.ones(3)), fg.ShapeError, "lstm: x is (..., time, inputs), "),
        (
            lambda: nn.LSTM(3, 2)(np.ones((2, 5, 3)), mask=fg.placeholder("m", (2, 5), "int32")),
            fg.ShapeError,
            "lstm: the mask is (..., time) booleans, m is (2, 5) int32",
        ),
        (lambda: nn.GRU(3, 2)(np.ones((2, 5, 4))), fg.ShapeError, "matmul: the inner sizes differ, 4 and 3"),
    ],
)
def test_a_layer_for_sequences_that_cannot_be_says_why(graph, make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert text in str(caught.value)
