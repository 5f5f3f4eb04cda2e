"""What the plots of training show: the order of a sheet's images, colours, lines, counts, regions, and what cannot be drawn."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flowgraph as fg

image = pytest.importorskip("matplotlib.image")


def cells(file, rows, columns):
    """The colour (red, green, blue) in the middle of each image of a sheet."""
    height, width = (pixels := image.imread(file)).shape[:2]
    return [[pixels[int((r + 0.5) * height / rows), int((c + 0.5) * width / columns), :3] for c in range(columns)] for r in range(rows)]


def test_a_sheet_has_as_many_images_in_a_row_as_asked(tmp_path):
    brightness = np.arange(6) / 5
    file = fg.viz.images(np.ones((6, 4, 4)) * brightness[:, None, None], tmp_path / "sheet.png", columns=2, limits=(0, 1))
    np.testing.assert_allclose(np.array(cells(file, 3, 2))[..., 0].ravel(), brightness, atol=0.01)


def test_an_image_without_limits_goes_from_black_to_white(tmp_path):
    file = fg.viz.images([[[3.0, 3.0, 5.0], [3.0, 3.0, 5.0], [5.0, 5.0, 5.0]]], tmp_path / "one.png")
    middle = cells(file, 1, 1)[0][0]
    np.testing.assert_array_equal(middle, 0)


@pytest.mark.parametrize("sign", [1, -1])
def test_filters_are_red_above_0_and_blue_below_whatever_else_they_hold(tmp_path, sign):
    small, large = np.full((3, 3), 0.5), np.full((3, 3), 1.0)
    small[0, 0] = 0.6  # alone, the middle would be the least of its filter
    weights = np.repeat(sign * np.stack([small, large])[:, None], 3, axis=0)  # three rows, as the note below is narrower than one
    found = cells(fg.viz.filters(weights, tmp_path / "filters.png", columns=1), 6, 1)
    low, high = found[1][0], found[4][0]
    strong, weak = (0, 2) if sign > 0 else (2, 0)
    assert low[strong] > low[weak] + 0.1
    assert high[strong] > high[weak] + 0.1


def test_filters_of_three_inputs_are_coloured_and_those_of_more_have_a_row_each(tmp_path):
    weights = np.zeros((2, 3, 2, 2))
    weights[0, 0], weights[1, 2] = 1, 1
    ((red, blue),) = cells(fg.viz.filters(weights, tmp_path / "rgb.png", columns=2), 1, 2)
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    figure = fg.viz.filters(np.ones((20, 4, 3, 3))).figure
    assert len(figure.axes[0].images) == 16 * 4
    assert "16 of 20 filters, 4 of 4 inputs" in figure.texts[0].get_text()


def test_names_of_rows_say_how_many_rows_there_are():
    axis = fg.viz.images(np.zeros((6, 3, 4)), rows=["before", "after"]).figure.axes[0]
    assert [text.get_text() for text in axis.texts] == ["before", "after"]
    lefts = [image.get_extent()[0] for image in axis.images]
    assert lefts[:3] == lefts[3:]
    assert lefts[0] < lefts[1] < lefts[2]


def lines(plot: Any) -> dict[str, dict[str, Any]]:
    """By the title of each plot and the label of each line: its values."""
    return {
        axis.get_title(): {line.get_label(): line.get_xydata().tolist() for line in axis.lines if line.get_alpha() is None}
        for axis in plot.figure.axes
        if axis.lines
    }


def test_curves_of_one_training_share_a_plot_and_may_have_steps_of_their_own():
    plot = fg.viz.curves({"loss": [3.0, 2.0], "validation": ([2, 4], [2.5, 2.25])}, ylabel="nats")
    assert lines(plot) == {"": {"loss": [[1, 3], [2, 2]], "validation": [[2, 2.5], [4, 2.25]]}}
    (axis,) = plot.figure.axes
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("step", "nats")
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["loss", "validation"]


def test_curves_of_several_runs_have_a_plot_for_each_name():
    plot = fg.viz.curves({"slow": {"loss": [2.0], "accuracy": [0.5]}, "quick": {"loss": [1.0]}})
    assert lines(plot) == {"loss": {"slow": [[1, 2]], "quick": [[1, 1]]}, "accuracy": {"slow": [[1, 0.5]]}}
    plot = fg.viz.curves({"slow": {"loss": [2.0]}, "quick": {"loss": [1.0], "accuracy": [0.5]}})
    assert [[line.get_color() for line in axis.lines] for axis in plot.figure.axes] == [["C0", "C1"], ["C1"]]
    assert lines(fg.viz.curves({"slow": {"loss": [2.0], "accuracy": [0.5]}}, names=["accuracy"])).keys() == {"accuracy"}


def test_curves_of_a_folder_are_those_that_were_recorded(tmp_path):
    for run, last in (("a", 1.0), ("b", 2.0)):
        with fg.io.Recorder(tmp_path / run) as recorder:
            recorder.scalar("loss", 4.0, 10)
            recorder.scalar("loss", last, 20)
            recorder.text("note", "not drawn")
    plot = fg.viz.curves(tmp_path)
    assert lines(plot) == {"loss": {"a": [[10, 4], [20, 1]], "b": [[10, 4], [20, 2]]}}
    assert lines(fg.viz.curves(fg.io.load_events(tmp_path)["a"])) == {"loss": {"_child0": [[10, 4], [20, 1]]}}  # (no label)


def test_long_curves_are_drawn_as_a_mean_that_says_of_how_many_steps():
    plot = fg.viz.curves({"loss": np.arange(100.0)})
    ((label, points),) = lines(plot)[""].items()
    assert label == "loss (mean of 2)"
    assert points[:3] == [[1, 0], [2, 0.5], [3, 1.5]]
    assert [line.get_alpha() for line in plot.figure.axes[0].lines] == [0.25, None]
    assert lines(fg.viz.curves({"loss": np.arange(100.0)}, smooth=1))[""].keys() == {"loss"}


def test_distributions_show_quantiles_of_what_was_recorded_for_each_run(tmp_path):
    for run, scale in (("a", 1), ("b", 10)):
        with fg.io.Recorder(tmp_path / run) as recorder:
            recorder.histogram("w", scale * np.linspace(0, 100, 1001), 1)
            recorder.histogram("w", scale * np.linspace(0, 50, 1001), 2)
            recorder.histogram("w", [np.nan], 3)
            recorder.histogram("b", [1.0, 2.0], 1)
    figure = fg.viz.distributions(tmp_path, names=["w"]).figure
    assert [axis.get_title() for axis in figure.axes] == ["w (a)", "w (b)"]
    median = figure.axes[1].lines[0].get_xydata()
    np.testing.assert_allclose(median, [[1, 500], [2, 250]], rtol=0.01)
    widest = figure.axes[0].collections[0].get_paths()[0].vertices
    assert (widest[:, 1].min(), widest[:, 1].max()) == (0, 100)
    assert len(fg.viz.distributions(fg.io.load_events(tmp_path)["a"]).figure.axes) == 2


def test_a_logarithmic_scale_has_plain_numbers():
    plot = fg.viz.curves({"loss": [3.0, 0.3]}, log=True)
    plot._repr_png_()
    axis = plot.figure.axes[0]
    labels = [label.get_text() for label in axis.get_yticklabels() + axis.get_yticklabels(minor=True)]
    assert {"1", "0.5", "2"} <= set(labels) <= {"", "0.1", "0.2", "0.5", "1", "2", "5", "10"}


def counts(plot: Any) -> dict[tuple[int, int], str]:
    """What is written at each row and column."""
    return {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in plot.figure.axes[0].texts}


def test_confusion_counts_true_classes_down_and_predicted_ones_across():
    plot = fg.viz.confusion([0, 0, 1, 2, 2], [0, 1, 1, 0, 2])
    assert counts(plot) == {(0, 0): "1", (0, 1): "1", (1, 1): "1", (2, 0): "1", (2, 2): "1"}
    axis = plot.figure.axes[0]
    assert (axis.get_ylabel(), axis.get_xlabel(), axis.get_title()) == ("true", "predicted", "3 of 5 right, 60.00%")
    assert counts(fg.viz.confusion([[1, 2], [0, 3]])) == {(0, 0): "1", (0, 1): "2", (1, 1): "3"}


def test_confusion_takes_classes_by_name():
    plot = fg.viz.confusion(["dog", "cat"], ["dog", "dog"])
    assert [label.get_text() for label in plot.figure.axes[0].get_yticklabels()] == ["cat", "dog"]
    assert counts(plot) == {(0, 1): "1", (1, 1): "1"}
    assert counts(fg.viz.confusion(["dog"], ["owl"], names=["owl", "cat", "dog"])) == {(2, 0): "1"}


X = np.array([[-1.0, 0.0], [1.0, 0.0], [-1.0, 1.0], [1.0, 1.0]])
KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "classes": lambda p: (p[:, 0] > 0).astype(int),
    "signs": lambda p: np.where(p[:, 0] > 0, 1, -1),
    "a score": lambda p: p[:, 0],
    "a column": lambda p: p[:, :1],
    "scores": lambda p: np.stack([-p[:, 0], p[:, 0]], axis=1),
}


@pytest.mark.parametrize("predict", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("y", [[0, 1, 0, 1], [-1, 1, -1, 1], [False, True, False, True]], ids=["numbers", "signs", "booleans"])
def test_a_decision_boundary_lies_where_the_classifier_changes_its_mind(predict, y):
    axis = fg.viz.decision_boundary(predict, X, y, names=["left", "right"]).figure.axes[0]
    blue, orange = axis.lines[0].get_color(), axis.lines[1].get_color()
    shown = axis.images[0].get_array()
    np.testing.assert_allclose(np.argmin(np.abs(shown[100, 10] - 1)), np.argmin(np.abs(np.array(blue) - 1)))
    assert shown[100, 10, 0] < shown[100, 190, 0]  # blue on the left, orange on the right
    assert blue[0] < orange[0]
    (boundary, *_) = [path.vertices for each in axis.collections for path in each.get_paths() if len(path.vertices)]
    np.testing.assert_allclose(boundary[:, 0], 0, atol=0.01)
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["left", "right"]


def test_probabilities_are_parted_at_a_threshold():
    axis = fg.viz.decision_boundary(lambda p: 1 / (1 + np.exp(-p[:, 0])), X, [0, 1, 0, 1], threshold=0.5).figure.axes[0]
    (boundary, *_) = [path.vertices for each in axis.collections for path in each.get_paths() if len(path.vertices)]
    np.testing.assert_allclose(boundary[:, 0], 0, atol=0.01)


def test_activations_show_the_channels_of_one_example_and_count_those_that_are_always_0():
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("batch", 3, 4, 4))
        scale = fg.constant(np.array([1.0, 0.0, -1.0], np.float32)[:, None, None])
        h = fg.nn.relu(x * scale)
        flat = fg.nn.flatten(h)
    value = np.abs(np.random.default_rng(0).standard_normal((2, 3, 4, 4))).astype(np.float32)
    with fg.Session(graph) as session:
        figure = fg.viz.activations(session, [x, h, flat], {x: value}, example=1).figure
        assert [text.get_text() for text in figure.texts] == [
            "x\n3 channels, 4×4",
            "relu\n3 channels, 4×4\n2 always 0",
            "reshape\n48 features\n32 always 0",
        ]
        np.testing.assert_allclose(figure.axes[1].images[0].get_array(), value[1, 1])
        assert len(fg.viz.activations(session, x, {x: value}, most=2).figure.axes) == 2


def test_saliency_is_the_gradient_s_size_and_is_built_once():
    with fg.Graph() as graph:
        x = fg.placeholder("x", ("batch", 1, 2, 2))
        w = np.array([[1.0, -2.0], [0.0, 3.0]], np.float32)
        score = fg.sum(x * w, axis=(1, 2, 3))
        scores = fg.stack([score, -score], axis=1)
    value = np.ones((3, 1, 2, 2), np.float32)
    with fg.Session(graph) as session:
        figure = fg.viz.saliency(session, score, x, {x: value}, most=2).figure
        shown = [axis.images[0].get_array().tolist() for axis in figure.axes]
        assert shown == [[[1, 1], [1, 1]]] * 2 + [np.abs(w).tolist()] * 2
        nodes = len(graph)
        fg.viz.saliency(session, score, x, {x: value})
        assert len(graph) == nodes
        of_best = fg.viz.saliency(session, scores, x, {x: -value}, most=1).figure  # there the second score is the larger one
        assert of_best.axes[1].images[0].get_array().tolist() == np.abs(w).tolist()
        with pytest.raises(fg.GradientError):
            fg.viz.saliency(session, fg.sum(fg.constant(w)), x, {x: value})


def test_a_plot_shows_itself_in_a_notebook_and_its_file_is_the_same_each_time(tmp_path):
    assert fg.viz.curves({"loss": [1, 2]})._repr_png_().startswith(b"\x89PNG")
    for ending in ("svg", "pdf", "png"):
        first, second = (fg.viz.curves({"loss": [1, 2]}, tmp_path / f"{name}.{ending}").read_bytes() for name in "ab")
        assert first == second


def test_plots_need_matplotlib_alone_and_name_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(fg.MissingExtraError, match=r'pip install "flowgraph\[plot\]"'):
        fg.viz.curves({"loss": [1.0]})


GRAPH = fg.Graph()
with GRAPH:
    a = fg.variable(np.ones((2, 2, 3, 3)), name="a")
SESSION = fg.Session(GRAPH)


def no_argument() -> Any:
    return 0


NO_HISTORIES: Any = [1, 2]
NO_TENSORS: Any = "a"
NO_PREDICTION: Any = no_argument


@pytest.mark.parametrize(
    ("draw", "error", "text"),
    [
        (lambda f: fg.viz.images(np.zeros((28, 28)), f), fg.ShapeError, r"images are \(count, height, width\), or .*, got \(28, 28\)"),
        (lambda f: fg.viz.images(np.zeros((0, 2, 2)), f), fg.ArgumentError, "images: there are none"),
        (lambda f: fg.viz.images(np.zeros((2, 2, 2)), f, ["a"]), fg.ArgumentError, "images: 1 titles for 2 images"),
        (lambda f: fg.viz.images(np.zeros((2, 2, 2)), f, columns=0), fg.ArgumentError, "columns is a whole number, at least 1, got 0"),
        (lambda f: fg.viz.images(np.zeros((3, 2, 2)), f, rows=["a", "b"]), fg.ArgumentError, "3 images do not fill 2 rows"),
        (lambda f: fg.viz.filters(np.zeros((3, 2)), f), fg.ShapeError, r"filters: weights are \(out, in, height, width\)"),
        (lambda f: fg.viz.filters(a, f), fg.ArgumentError, "filters: weights: a is a node of a graph"),
        (lambda f: fg.viz.curves(NO_HISTORIES, f), fg.ArgumentError, "curves: histories are a dict from names to numbers"),
        (lambda f: fg.viz.curves({"loss": 3}, f), fg.ShapeError, "curves: 'loss' are numbers, or steps and as many numbers"),
        (lambda f: fg.viz.curves({"loss": ([1, 2], [1])}, f), fg.ShapeError, r"got \(2,\) and \(1,\)"),
        (lambda f: fg.viz.curves({"loss": [1], "b": {"c": [1]}}, f), fg.ArgumentError, "some histories are dicts"),
        (lambda f: fg.viz.curves({"loss": [1]}, f, names=["los"]), fg.ArgumentError, "no history is called los"),
        (lambda f: fg.viz.curves({}, f), fg.ArgumentError, "there are no numbers to draw"),
        (lambda f: fg.viz.distributions(fg.io.Events(), f), fg.ArgumentError, "no histograms were recorded"),
        (lambda f: fg.viz.distributions(fg.io.Events(), f, names=["w"]), fg.ArgumentError, "no histogram is called 'w'"),
        (lambda f: fg.viz.distributions(NO_HISTORIES, f), fg.ArgumentError, "a folder with records is expected"),
        (lambda f: fg.viz.confusion(np.ones((2, 3)), file=f), fg.ShapeError, r"a square matrix of counts is expected, got \(2, 3\)"),
        (lambda f: fg.viz.confusion(np.ones((2, 2)), f), fg.ArgumentError, "predicted are classes, got a path"),
        (lambda f: fg.viz.confusion([0, 1], [0], f), fg.ShapeError, r"as many classes, got \(2,\) and \(1,\)"),
        (lambda f: fg.viz.confusion([0, 1], np.ones((2, 3)), f), fg.ShapeError, "got"),
        (lambda f: fg.viz.confusion([0, 5], [0, 1], f, names=["a", "b"]), fg.ArgumentError, "class 5 is none of 0 … 1"),
        (lambda f: fg.viz.confusion([0, 0.5], [0, 1], f), fg.ArgumentError, "classes are whole numbers or names"),
        (lambda f: fg.viz.confusion(["a"], ["b"], f, names=["a"]), fg.ArgumentError, "names do not have 'b'"),
        (lambda f: fg.viz.decision_boundary(len, np.ones((2, 3)), [0, 1], f), fg.ShapeError, r"x is \(examples, 2\), got \(2, 3\)"),
        (lambda f: fg.viz.decision_boundary(len, np.ones((2, 2)), [0], f), fg.ShapeError, "a class for each of 2 examples"),
        (lambda f: fg.viz.decision_boundary(len, np.ones((2, 2)), [0, 0.5], f), fg.ArgumentError, "y are classes"),
        (lambda f: fg.viz.decision_boundary(lambda p: p[:3], X, [0] * 4, f), fg.ShapeError, r"for each of 40000 points, got \(3, 2\)"),
        (lambda f: fg.viz.decision_boundary(NO_PREDICTION, X, [0] * 4, f), fg.ArgumentError, r"predict takes an array \(n, 2\)"),
        (lambda f: fg.viz.activations(SESSION, NO_TENSORS, {}, f), fg.ArgumentError, "tensors of the session's graph are expected"),
        (lambda f: fg.viz.activations(SESSION, a, {}, f, example=2), fg.ArgumentError, "example 2 of a, which has 2, from 0 on"),
        (lambda f: fg.viz.saliency(SESSION, a, a, {}, f), fg.ShapeError, r"a score is \(\), \(batch,\) or \(batch, classes\)"),
        (lambda f: fg.viz.curves({"loss": [1]}, f.with_suffix(".xyz")), fg.ArgumentError, "a picture is one of"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, draw, error, text):
    with pytest.raises(error, match=text):
        draw(tmp_path / "x.png")
    assert not list(tmp_path.iterdir())
