"""Every function of `flowgraph.nn` under vmap, and with a batch whose size only a run knows."""

from typing import Any

import numpy as np
import pytest

import flowgraph as fg
from flowgraph.autodiff.vmap import vmap

nn = fg.nn
RNG = np.random.default_rng(0)
FILTERS = RNG.standard_normal((2, 4, 3, 3))


PICTURES: dict[str, Any] = {
    "relu": nn.relu,
    "leaky_relu": lambda x: nn.leaky_relu(x, np.array([0.1, 0.2, 0.3, 0.4]).reshape(4, 1, 1)),
    "elu": nn.elu,
    "silu": nn.silu,
    "gelu": lambda x: nn.gelu(x, approximate=True),
    "softplus": nn.softplus,
    "hard_swish": nn.hard_swish,
    "glu": lambda x: nn.glu(x, 1),
    "softmax": lambda x: nn.softmax(x, axis=1),
    "log_softmax": lambda x: nn.log_softmax(x, axis=1),
    "conv2d": lambda x: nn.conv2d(x, FILTERS, padding="same"),
    "conv2d_transpose": lambda x: nn.conv2d_transpose(x, FILTERS.swapaxes(0, 1), stride=2, padding="same"),
    "max_pool2d": lambda x: nn.max_pool2d(x, 3, stride=2, padding="same"),
    "avg_pool2d": lambda x: nn.avg_pool2d(x, 3, stride=2, padding=1),
    "adaptive_avg_pool": lambda x: nn.adaptive_avg_pool(x, (2, 3)),
    "adaptive_max_pool": lambda x: nn.adaptive_max_pool(x),
    "resize": lambda x: nn.resize(x, (7, 3)),
    "resize_nearest": lambda x: nn.resize(x, 3, "nearest"),
    "batch_norm": lambda x: nn.batch_norm(x)[0],
    "batch_norm_given": lambda x: nn.batch_norm(x, statistics=(np.ones(4), np.full(4, 2.0)))[0],
    "layer_norm": lambda x: nn.layer_norm(x, axis=(1, 2, 3)),
    "group_norm": lambda x: nn.group_norm(x, 2, np.arange(4.0), np.ones(4)),
    "instance_norm": nn.instance_norm,
    "rms_norm": nn.rms_norm,
    "local_response_norm": lambda x: nn.local_response_norm(x, 3),
    "attention": lambda x: nn.scaled_dot_product_attention(x, x, x * 2, causal=True),
    "softmax_cross_entropy": lambda x: nn.softmax_cross_entropy(x, nn.softmax(x * 2), label_smoothing=0.1),
    "sparse_cross_entropy": lambda x: nn.softmax_cross_entropy(x, fg.argmax(x, axis=-1), ignore_index=0),
    "sigmoid_cross_entropy": lambda x: nn.sigmoid_cross_entropy(x, nn.sigmoid(x)),
    "huber": lambda x: nn.huber(x, x * 2),
    "kl_divergence": lambda x: nn.kl_divergence(nn.log_softmax(x), nn.log_softmax(x * 2)),
    "cosine_similarity": lambda x: nn.cosine_similarity(x, fg.flip(x, axis=1)),
    "flatten": nn.flatten,
}


def gradient_of(function):
    """The gradient of a weighted sum of the result, which needs the batching rules of all gradients as well."""

    def gradient(x):
        y = function(x)
        return fg.gradients(fg.sum(fg.sin(y + 1)), [x])[0]

    return gradient


@pytest.mark.parametrize("order", [0, 1], ids=["value", "gradient"])
@pytest.mark.parametrize("name", PICTURES)
def test_a_function_of_a_batch_is_the_function_of_each_entry(name, order):
    function = PICTURES[name] if order == 0 else gradient_of(PICTURES[name])
    x = np.random.default_rng(1).standard_normal((3, 2, 4, 5, 5))
    with fg.Graph() as graph:
        many, one = fg.placeholder("many", x.shape, x.dtype), fg.placeholder("one", x.shape[1:], x.dtype)
        batched, single = vmap(function)(many), function(one)
    with fg.Session(graph, threads=1) as session:
        values = session.run(batched, {many: x})
        for value, entry in zip(values, x, strict=True):
            np.testing.assert_allclose(value, session.run(single, {one: entry}), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", PICTURES)
def test_a_batch_whose_size_only_a_run_knows_gives_the_same(name):
    x = np.random.default_rng(1).standard_normal((2, 4, 5, 5))
    with fg.Graph() as graph:
        free, fixed = fg.placeholder("free", ("batch", 4, 5, 5), x.dtype), fg.placeholder("fixed", x.shape, x.dtype)
        outputs = [PICTURES[name](free), PICTURES[name](fixed)]
        slopes = [gradient_of(PICTURES[name])(free), gradient_of(PICTURES[name])(fixed)]
    assert outputs[0].shape == ("batch", *outputs[1].shape[1:])
    with fg.Session(graph, threads=1) as session:
        for unknown, known in session.run([outputs, slopes], {free: x, fixed: x}):
            np.testing.assert_array_equal(unknown, known)


@pytest.mark.parametrize("name", ["conv2d", "conv2d_transpose", "max_pool2d", "avg_pool2d", "resize", "softmax", "softplus", "batch_norm"])
def test_the_bits_do_not_depend_on_the_number_of_threads(name):
    x = np.random.default_rng(1).standard_normal((16, 4, 64, 64))  # large enough to be cut into slices
    with fg.Graph() as graph:
        images = fg.placeholder("images", x.shape, x.dtype)
        results = [PICTURES[name](images), gradient_of(PICTURES[name])(images)]
    runs = []
    for threads in (1, 4):
        with fg.Session(graph, threads=threads) as session:
            runs.append(session.run(results, {images: x}))
    for one, four in zip(*runs, strict=True):
        np.testing.assert_array_equal(one, four)
