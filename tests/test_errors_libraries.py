"""What a user reads after a slip with layers, optimisers, files, data, metrics and pictures."""

import re

import numpy as np
import pytest

import flowgraph as fg

GRAPH = fg.Graph()
with GRAPH:
    x = fg.placeholder("x", ("batch", 3))
    m = fg.placeholder("m", (2, 3))
    i = fg.placeholder("i", (4,), "int32")
    w = fg.variable(np.ones((3, 2), np.float32), name="w")
    loss = fg.sum(x @ w)


def test_a_layer_given_other_features_names_its_variable_and_both_lines(refused, text_of):
    with fg.Graph():
        images = fg.placeholder("images", ("batch", 784))
        with fg.scope("mlp"):
            dense = fg.nn.Linear(748, 128, name="dense")
            error = refused(lambda: dense(images))
    assert text_of(error) == (
        "matmul: the inner sizes differ, 784 and 748\n"
        "  node   mlp/dense/matmul, made at test_errors_libraries.py:LINE    error = refused(lambda: dense(images))\n"
        "  x      (batch, 784) float32   placeholder images, made at test_errors_libraries.py:LINE    "
        'images = fg.placeholder("images", ("batch", 784))\n'
        "  y      (748, 128) float32   variable mlp/dense/w, made at test_errors_libraries.py:LINE    "
        'dense = fg.nn.Linear(748, 128, name="dense")\n'
        "  help   x @ y needs the last size of x to equal the first size of y"
    )


class NameForgotten(fg.nn.Layer):
    def __init__(self):
        self.made = True


class Lazy(fg.optim.Optimizer):
    def update(self, w, g, rate):
        return None


class Wrong(fg.optim.Optimizer):
    def update(self, w, g):
        return {w: w}


def no_argument():
    return 0.1


@pytest.mark.parametrize(
    ("make", "said"),
    [
        # layers
        (lambda: fg.nn.Linear("3", 2), "ArgumentError: Linear: inputs is a whole number, at least 1, got '3'"),
        (lambda: fg.nn.GroupNorm(2, 3), "ArgumentError: GroupNorm: 2 groups do not divide 3 channels"),
        (lambda: fg.nn.Linear(3, 2, dtype="flot"), "DtypeError: Linear: 'flot' is not a dtype"),
        (lambda: fg.nn.Linear(3, 2, weights=np.ones((2, 3))), "ShapeError: linear: w has shape (3, 2), but what is given has (2, 3)"),
        (lambda: fg.nn.Linear(3, 2, weights=w, bias=w), "ShapeError: linear: b has shape (2,), but w has (3, 2)"),
        (
            lambda: fg.nn.Linear(3, 2, bias=True),
            "ArgumentError: linear: b is a function of the shape, an initializer, an array or a variable, got True",
        ),
        (lambda: fg.nn.Linear(3, 2)(x, training="yes"), "ArgumentError: linear: training is a boolean, got 'yes'"),
        (lambda: fg.nn.LSTM(4, 5)(x), "ShapeError: lstm: x is (..., time, 4), x is (batch, 3)"),
        (lambda: fg.nn.Embedding(10, 4)(x), "DtypeError: embedding: symbols are integers, x is float32"),
        (lambda: fg.nn.BatchNorm(3)(x), "ArgumentError: batch_norm: is this call part of training or not?"),
        (lambda: fg.nn.Sequential(fg.nn.Linear), "ArgumentError: Sequential: Linear at position 0 is a class and no layer"),
        (lambda: fg.nn.Sequential([fg.nn.relu]), "ArgumentError: Sequential: [<op relu>] at position 0 is no layer and no function"),
        (lambda: NameForgotten()(x), "ArgumentError: NameForgotten: the layer has no name yet"),
        (lambda: fg.nn.one_hot(x, 3), "DtypeError: one_hot: classes are integers, got float32"),
        (lambda: fg.nn.one_hot(i, -1), "ArgumentError: one_hot: num_classes is a whole number, at least 0, got -1"),
        (lambda: fg.nn.conv2d(m, w), "ShapeError: conv2d: x needs 4 dimensions, (batch, channels, height, width), got 2"),
        # optimisers
        (lambda: fg.optim.SGD(-0.1), "ArgumentError: SGD: rate is a number, at least 0, got -0.1"),
        (lambda: fg.optim.Adam(0.1, beta1=2), "ArgumentError: Adam: beta1 is a number, at least 0 and less than 1, got 2"),
        (lambda: fg.optim.SGD(x), "ArgumentError: SGD: the rate is one number, x is (batch, 3) float32"),
        (lambda: fg.optim.SGD(0.1).minimize(fg.sum(x)), "ArgumentError: minimize: sum depends on no trainable variable"),
        (
            lambda: fg.optim.SGD(0.1).minimize(x @ w),
            "GradientError: minimize: matmul has shape (batch, 2), and only a scalar has a gradient of its own",
        ),
        (
            lambda: fg.optim.SGD(0.1).minimize(loss, [x]),
            "ArgumentError: minimize: only variables are updated, got <Tensor x: (batch, 3) float32>",
        ),
        (lambda: fg.optim.SGD(0.1).minimize(loss, [w, w]), "ArgumentError: minimize: w is updated twice"),
        (
            lambda: fg.optim.SGD(0.1).apply([(x, w)]),
            "ShapeError: apply: the gradient for w is (batch, 3) float32, and w is (3, 2) float32",
        ),
        (
            lambda: fg.optim.SGD(0.1).apply(w),
            "ArgumentError: apply: takes pairs of a gradient and a variable, got <Tensor w: (3, 2) float32>",
        ),
        (
            lambda: fg.optim.SGD(no_argument).minimize(loss),
            "ArgumentError: SGD: the rate, a schedule, takes the number of steps made: "
            "no_argument() takes 0 positional arguments but 1 was given",
        ),
        (lambda: Lazy(0.1).minimize(loss), "ArgumentError: Lazy: update returns a dict from variables to new values, got None"),
        (
            lambda: Wrong(0.1).minimize(loss),
            "ArgumentError: Wrong: update takes variable, gradient and what `shared` gives: "
            "Wrong.update() takes 3 positional arguments but 4 were given",
        ),
        (lambda: fg.optim.one_cycle(0.1, 0), "ArgumentError: one_cycle: steps is a whole number, at least 1, got 0"),
        (lambda: fg.optim.piecewise([1, 2]), "ArgumentError: piecewise: pieces are a dict from steps to rates, got [1, 2]"),
        (lambda: fg.optim.Average(3), "ArgumentError: Average: takes updates, got 3"),
        (lambda: fg.optim.global_norm(3), "ArgumentError: global_norm: takes tensors, got 3"),
        # data
        (lambda: fg.data.batches(3, 2), "ArgumentError: batches: the array is no array but 3"),
        (lambda: fg.data.batches(x, 2), "ArgumentError: batches: the array is no array but <Tensor x: (batch, 3) float32>"),
        (lambda: fg.data.batches(np.ones(5), 0), "ArgumentError: batches: size is 0, but at least 1 is needed"),
        (
            lambda: fg.data.batches((np.ones(5), np.ones(4)), 2),
            "ShapeError: batches: the arrays differ in their first size: 5 in array 0, 4 in array 1",
        ),
        (lambda: fg.data.load("mnist"), "ArgumentError: load: there is no data set 'mnist'"),
        (lambda: fg.data.standardize("a"), "ArgumentError: standardize: images are numbers, got <U1"),
        # metrics
        (lambda: fg.metrics.accuracy(m, i), "ShapeError: accuracy: scores (2, 3) and labels (4,) do not belong together"),
        (lambda: fg.metrics.accuracy(x, i, k=5), "ShapeError: accuracy: there are 3 elements along the axis, fewer than 5"),
        (lambda: fg.metrics.accuracy(x, i, k=0), "ArgumentError: accuracy: k is a whole number, at least 1, got 0"),
        (lambda: fg.metrics.precision(m), "ShapeError: precision: the confusion matrix is square, got (2, 3)"),
        # pictures
        (lambda: fg.draw(GRAPH, "a.xyz"), "ArgumentError: draw: the format is one of svg, png, pdf, dot, html, got 'xyz'"),
        (lambda: fg.draw(GRAPH, 3), "ArgumentError: draw: the path of a file is expected, got 3"),
        (
            lambda: fg.draw([]),
            "ArgumentError: draw: what to draw is a graph, a tensor, a node, a list of tensors and nodes, or a plan, got []",
        ),
    ],
)
def test_a_slip_is_told_in_one_line_with_the_name_that_was_called(make, said, refused):
    with GRAPH:
        error = refused(make)
    message = re.sub(r"(?<=[a-z])_\d+\b", "", error.message)  # (names have numbers from the tests before)
    assert f"{type(error).__name__}: {message}" == said


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-4])
    return path


def test_files_and_sessions_in_each_others_places_and_damaged_files_are_named(tmp_path, refused):
    weights, graph_file = tmp_path / "w.safetensors", tmp_path / "g.graph"
    with fg.Session(GRAPH, threads=1) as session:
        fg.io.save_weights(session, weights)
        fg.io.save_graph(GRAPH, graph_file)
        cut_short(weights), cut_short(graph_file)
        for make, said in [
            (lambda: fg.io.save_weights(GRAPH, weights), f"ArgumentError: save_weights: a session is expected, got {GRAPH!r}"),
            (
                lambda: fg.io.load_weights(weights, session),
                f"ArgumentError: load_weights: a session is expected, got {str(repr(weights))[:80]}",
            ),
            (lambda: fg.io.load_weights(session, 3), "ArgumentError: load_weights: the path of a file is expected, got 3"),
            (
                lambda: fg.io.load_weights(session, weights),
                f"FileFormatError: load_weights: {weights} is damaged, truncated, or no safetensors file: incomplete metadata, "
                "file not fully covered",
            ),
            (lambda: fg.io.save_graph(x, graph_file), f"ArgumentError: save_graph: a graph is expected, got {x!r}"),
            (lambda: fg.io.load_graph(3), "ArgumentError: load_graph: the path of a file is expected, got 3"),
            (
                lambda: fg.io.load_graph(graph_file),
                f"FileFormatError: load_graph: {graph_file} is damaged, truncated, or no graph file ({graph_file.stat().st_size} bytes): "
                "File is not a zip file",
            ),
            (lambda: fg.io.Checkpoints(tmp_path, GRAPH), f"ArgumentError: Checkpoints: a session is expected, got {GRAPH!r}"),
            (lambda: fg.io.Checkpoints(tmp_path, session, states=3), "ArgumentError: Checkpoints: states are a dict by name, got 3"),
        ]:
            error = refused(make)
            assert f"{type(error).__name__}: {error.message}" == said


@pytest.mark.parametrize(
    ("library", "name", "said"),
    [
        ("nn", "cross_entropy", ": did you mean fg.nn.softmax_cross_entropy or fg.nn.sigmoid_cross_entropy"),
        ("nn", "ReLU", ": did you mean fg.nn.relu"),
        ("optim", "adam", ": did you mean fg.optim.Adam"),
        ("viz", "curve", ": did you mean fg.viz.curves"),
        ("io", "load", ": did you mean fg.io.load_"),
        ("data", "nothing_like_it", "'nothing_like_it'"),
    ],
)
def test_a_name_that_a_library_has_not_brings_those_that_are_near(library, name, said):
    with pytest.raises(AttributeError) as caught:
        getattr(getattr(fg, library), name)
    assert said in str(caught.value)
    assert not hasattr(getattr(fg, library), "__wrapped__")
