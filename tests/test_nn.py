"""Layers: what they own, where it stands in the graph, what they compute and what they refuse."""

from typing import Any

import numpy as np
import pytest

import flowgraph as fg


def values(fetches, feeds=None, **options):
    with fg.Session(fg.get_default_graph(), threads=1, **options) as session:
        return session.run(fetches, feeds)


def wrong(value: Any) -> Any:
    """A value of a type that the annotations do not allow."""
    return value


def names(tensors):
    return [tensor.name for tensor in tensors]


# Layers


def test_linear_is_a_product_and_a_sum(graph):
    linear = fg.nn.Linear(3, 2, bias=fg.init.ones)
    x = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    y, w = values([linear(x), linear.w])
    np.testing.assert_allclose(y, x @ w + 1, rtol=1e-6)
    assert y.dtype == np.float32


def test_a_convolution_adds_one_bias_for_each_channel_of_its_result(graph):
    conv = fg.nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, groups=2, bias=np.arange(6, dtype=np.float32))
    x = np.random.default_rng(0).standard_normal((2, 4, 5, 6), dtype=np.float32)
    assert conv.w.shape == (6, 2, 3, 2)
    y, plain = values([conv(x), fg.nn.conv2d(x, conv.w, stride=2, padding=1, groups=2)])
    np.testing.assert_array_equal(y, plain + np.arange(6, dtype=np.float32)[:, None, None])


@pytest.mark.parametrize("bias", [None, fg.init.zeros])
def test_the_variables_of_a_layer_are_its_weights_and_its_bias_if_it_has_one(graph, bias):
    linear = fg.nn.Linear(3, 2, bias=bias, name="out")
    assert names(linear.variables) == (["out/w"] if bias is None else ["out/w", "out/b"])
    assert linear(np.ones((1, 3))).shape == (1, 2)
    assert (linear.b is None) == (bias is None)


def test_weights_may_be_given_as_a_function_an_initialiser_or_an_array(graph):
    array = np.arange(6, dtype=np.float32).reshape(3, 2)
    layers = [
        fg.nn.Linear(3, 2, weights=lambda shape: fg.init.constant(4, shape)),
        fg.nn.Linear(3, 2, weights=fg.init.constant(5, (3, 2))),
        fg.nn.Linear(3, 2, weights=array),
    ]
    four, five, given = values([layer.w for layer in layers])
    assert (four == 4).all()
    assert (five == 5).all()
    np.testing.assert_array_equal(given, array)


def test_operations_and_variables_of_a_layer_stand_in_one_scope(graph):
    with fg.scope("net"):
        linear = fg.nn.Linear(3, 2, name="dense1")
        y = linear(fg.placeholder("x", (None, 3)))
    assert names(linear.variables) == ["net/dense1/w", "net/dense1/b"]
    assert y.name == "net/dense1/add"


def test_two_layers_of_one_name_get_scopes_of_their_own(graph):
    first, second = fg.nn.Linear(3, 3), fg.nn.Linear(3, 3)
    x = fg.placeholder("x", (None, 3))
    assert [first(x).name, second(x).name] == ["linear/add", "linear_1/add"]
    with fg.scope("other"):
        assert fg.nn.Linear(3, 3).w.name == "other/linear/w"


def test_a_layer_called_twice_uses_its_weights_twice(graph):
    linear = fg.nn.Linear(3, 3, name="tied")
    y = linear(linear(np.ones((1, 3))))
    assert names(graph.variables) == ["tied/w", "tied/b"]
    got, w = values([y, linear.w])
    np.testing.assert_allclose(got, np.ones((1, 3)) @ w @ w, rtol=1e-5)


def test_sequential_applies_its_layers_in_order_and_names_each_variable_once(graph):
    linear = fg.nn.Linear(3, 3)
    net = fg.nn.Sequential(linear, fg.nn.relu, linear, lambda x: x * 2)
    x = np.random.default_rng(0).standard_normal((4, 3), dtype=np.float32)
    y, w = values([net(x), linear.w])
    np.testing.assert_allclose(y, np.maximum(x @ w, 0) @ w * 2, rtol=1e-5)
    assert names(net.variables) == ["linear/w", "linear/b"]
    assert (len(net), net[0], list(net)[2]) == (4, linear, linear)


def test_sequentials_nest(graph):
    inner = fg.nn.Sequential(fg.nn.Linear(2, 2, name="a"), fg.nn.relu)
    net = fg.nn.Sequential(inner, fg.nn.Linear(2, 1, name="b"))
    assert net(np.ones((5, 2))).shape == (5, 1)
    assert names(net.variables) == ["a/w", "a/b", "b/w", "b/b"]


class Shifted(fg.nn.Layer):
    def apply(self, x, *, shift=0, training=None):
        return x + shift


class Whatever(fg.nn.Layer):
    def apply(self, x, **options):
        return x + sum(options.values())


def test_sequential_hands_a_keyword_to_the_layers_that_take_it_by_name(graph):
    inner = fg.nn.Sequential(Shifted("a"), fg.nn.relu, fg.nn.Linear(2, 2, weights=lambda shape: np.eye(2)))
    net = fg.nn.Sequential(inner, fg.nn.Dropout(0.5), Shifted("b"), lambda x: x * 10)
    x = np.array([[-1.0, 2.0]])
    np.testing.assert_array_equal(values(net(x, training=False)), [[0, 20]])
    np.testing.assert_array_equal(values(net(x, training=False, shift=3)), [[(2 + 3) * 10, (5 + 3) * 10]])
    both = fg.nn.Sequential(Shifted("c"), Whatever("d"))
    np.testing.assert_array_equal(values(both(fg.constant(x), shift=1, other=5)), [[-1 + 1 + 6, 2 + 1 + 6]])


def test_sequential_makes_transformer_blocks_causal(graph):
    blocks = [fg.nn.TransformerBlock(8, 2) for _ in range(2)]
    x = np.random.default_rng(0).standard_normal((1, 5, 8)).astype(np.float32)
    stacked, one_by_one = fg.nn.Sequential(*blocks)(x, causal=True), blocks[1](blocks[0](x, causal=True), causal=True)
    got, want, without = values([stacked, one_by_one, fg.nn.Sequential(*blocks)(x)])
    np.testing.assert_array_equal(got, want)
    assert np.abs(got - without).max() > 1e-3


def test_sequential_refuses_a_keyword_that_no_layer_takes(graph):
    net = fg.nn.Sequential(fg.nn.Linear(8, 8), fg.nn.TransformerBlock(8, 2))
    with pytest.raises(fg.ArgumentError, match="Sequential: none of its layers takes 'casual'") as caught:
        net(np.ones((2, 8), np.float32), casual=True)
    assert caught.value.help == "they take causal, mask, training"


def test_the_simplified_lenet_has_the_known_number_of_parameters(graph):
    net = fg.nn.Sequential(
        *(fg.nn.Conv2d(1, 20, 5), fg.nn.relu, fg.nn.max_pool2d),
        *(fg.nn.Conv2d(20, 50, 5), fg.nn.relu, fg.nn.max_pool2d),
        *(fg.nn.flatten, fg.nn.Linear(800, 256), fg.nn.relu, fg.nn.Linear(256, 10)),
    )
    assert net(fg.placeholder("images", ("batch", 1, 28, 28))).shape == ("batch", 10)
    assert sum(w.size for w in net.variables) == 233_196


# Flatten


@pytest.mark.parametrize(
    ("shape", "flat"),
    [
        (("batch", 50, 4, 4), ("batch", 800)),
        ((None, 3, 2), (None, 6)),
        ((7, 3, 2), (7, 6)),
        ((0, 3, 2), (0, 6)),
        ((None,), (None, 1)),
        ((5, None, 2), (5, None)),
    ],
)
def test_flatten_keeps_the_batch(graph, shape, flat):
    x = fg.placeholder("x", shape)
    y = fg.nn.flatten(x)
    assert y.shape == flat
    sizes = tuple(dim if isinstance(dim, int) else 3 for dim in shape)
    fed = np.arange(np.prod(sizes), dtype=np.float32).reshape(sizes)
    np.testing.assert_array_equal(values(y, {x: fed}), fed.reshape(sizes[0], int(np.prod(sizes[1:]))))


@pytest.mark.parametrize(("shape", "text"), [((), "is a scalar"), ((None, None, 3), "more is unknown than the batch")])
def test_flatten_refuses_what_has_no_batch_or_no_known_features(graph, shape, text):
    with pytest.raises(fg.ShapeError, match=text):
        fg.nn.flatten(fg.placeholder("x", shape))


# What is refused


def test_a_linear_layer_given_rows_of_another_size_names_the_layer_and_the_sizes(graph):
    linear = fg.nn.Linear(784, 10, name="dense1")
    with pytest.raises(fg.ShapeError) as caught:
        linear(fg.placeholder("x", (None, 748)))
    text = str(caught.value)
    assert text.startswith("matmul: the inner sizes differ, 748 and 784")
    assert "dense1/matmul, made at test_nn.py" in text
    assert "variable dense1/w" in text


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: fg.nn.Linear(0, 3), fg.ArgumentError, "inputs: a positive number is expected, got 0"),
        (lambda: fg.nn.Linear(3, wrong(2.0)), fg.ArgumentError, "outputs: a positive number is expected, got 2.0"),
        (lambda: fg.nn.Conv2d(3, 4, 3, groups=2), fg.ArgumentError, "2 groups do not divide 3 and 4 channels"),
        (lambda: fg.nn.Linear(3, 2, weights=np.zeros((2, 3))), fg.ShapeError, "has shape (2, 3), not (3, 2)"),
        (lambda: fg.nn.Linear(3, 2, name="a//b"), fg.ArgumentError, "a scope's name"),
        (
            lambda: fg.nn.Sequential(fg.nn.relu, wrong(3)),
            fg.ArgumentError,
            "3 at position 1 is no layer and no function",
        ),
        (lambda: fg.nn.Layer("bare")(1), NotImplementedError, "Layer needs a method apply"),
    ],
)
def test_a_layer_that_cannot_be_says_why(graph, make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert text in str(caught.value)
