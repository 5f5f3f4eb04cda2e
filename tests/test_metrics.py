"""Metrics: beside scikit-learn's, over batches as over the whole, at the edges where something is 0, and what they refuse."""

from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import flowgraph as fg
from flowgraph import metrics

sklearn_metrics = pytest.importorskip("sklearn.metrics")


def value(make):
    with fg.Graph() as graph, fg.Session(graph, threads=1) as session:
        return session.run(make())


def classified(seed, rows=50, classes=4):
    rng = np.random.default_rng(seed)
    return rng.integers(0, classes, rows), rng.integers(0, classes, rows)


# Classes


@pytest.mark.parametrize("k", [1, 2, 3])
def test_accuracy_is_the_part_of_labels_among_the_k_best(k):
    rng = np.random.default_rng(k)
    scores, labels = rng.random((60, 4)), rng.integers(0, 4, 60)
    got = value(lambda: metrics.accuracy(scores, labels, k=k))
    assert got == pytest.approx(sklearn_metrics.top_k_accuracy_score(labels, scores, k=k, labels=range(4)))
    assert got.dtype == np.float64


def test_accuracy_takes_any_axes_in_front_and_the_first_of_equal_scores(graph, session):
    x, y = fg.placeholder("x", ("batch", "time", 3)), fg.placeholder("y", ("batch", "time"), "int32")
    accuracy = metrics.accuracy(x, y)
    assert session.run(accuracy, {x: np.zeros((2, 2, 3)).astype("float32"), y: [[0, 1], [2, 0]]}) == 0.5


@given(seed=st.integers(0, 1000), classes=st.integers(1, 5), rows=st.integers(0, 30))
def test_a_confusion_matrix_is_scikit_learns(seed, classes, rows):
    predicted, labels = classified(seed, rows, classes)
    got = value(lambda: metrics.confusion_matrix(predicted.astype("int16"), labels, classes))
    want = np.zeros((classes, classes), int)
    np.add.at(want, (labels, predicted), 1)
    np.testing.assert_array_equal(got, want)
    assert got.dtype == np.int64


def test_labels_and_predictions_that_are_no_class_are_left_out():
    got = value(lambda: metrics.confusion_matrix([[0, 1, 2], [-1, 1, 0]], [[0, -1, 0], [0, 1, 7]], 2))
    assert got.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("average", ["macro", "micro", None])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (metrics.precision, sklearn_metrics.precision_score),
        (metrics.recall, sklearn_metrics.recall_score),
        (metrics.f1, sklearn_metrics.f1_score),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_precision_recall_and_f1_are_scikit_learns(average, ours, theirs, seed):
    predicted, labels = classified(seed)
    got = value(lambda: ours(metrics.confusion_matrix(predicted, labels, 4), average=average))
    np.testing.assert_allclose(got, theirs(labels, predicted, average=average), rtol=1e-12)


@pytest.mark.parametrize("metric", [metrics.precision, metrics.recall, metrics.f1])
def test_a_class_that_never_occurs_has_0_and_no_nan(metric):
    assert value(lambda: metric([[2, 0], [0, 0]], average=None)).tolist() == [1, 0]
    assert value(lambda: metric([[0, 0], [0, 0]], average="micro")) == 0


@given(seed=st.integers(0, 1000), rows=st.integers(2, 40), levels=st.integers(1, 6))
def test_the_area_under_the_curve_is_scikit_learns_with_ties(seed, rows, levels):
    rng = np.random.default_rng(seed)
    labels = np.zeros(rows, int)
    labels[: rng.integers(1, rows)] = 1
    scores = rng.integers(0, levels, rows) / levels
    got = value(lambda: metrics.auc(scores, labels))
    assert got == pytest.approx(sklearn_metrics.roc_auc_score(labels, scores))


def test_an_area_without_positives_or_negatives_is_nan():
    assert np.isnan(value(lambda: metrics.auc([0.1, 0.2], [1, 1])))
    assert np.isnan(value(lambda: metrics.auc([0.1, 0.2], [False, False])))
    assert value(lambda: metrics.auc([0.1, 0.2], [False, True])) == 1


def test_the_perplexity_of_certainty_is_1_and_of_chance_the_number_of_classes():
    assert value(lambda: metrics.perplexity(np.eye(3) * 100, [0, 1, 2])) == pytest.approx(1)
    assert value(lambda: metrics.perplexity(np.zeros((2, 4, 7)), np.zeros((2, 4), int))) == pytest.approx(7)


# Numbers


@pytest.mark.parametrize("shape", [(20,), (20, 3)])
def test_r2_is_scikit_learns_for_each_column(shape):
    rng = np.random.default_rng(0)
    targets = rng.standard_normal(shape)
    predicted = targets + 0.5 * rng.standard_normal(shape)
    got = value(lambda: metrics.r2(predicted.astype("float32"), targets))
    np.testing.assert_allclose(got, sklearn_metrics.r2_score(targets, predicted, multioutput="raw_values").reshape(shape[1:]), rtol=1e-5)
    assert value(lambda: metrics.r2(targets, targets)).tolist() == np.ones(shape[1:]).tolist()


# Over many batches


def test_a_mean_over_batches_of_all_sizes_is_that_of_all_elements(graph, session):
    x = fg.placeholder("x", ("batch",))
    mean = metrics.Mean(x)
    assert session.run(mean.value) == 0
    rows = np.random.default_rng(0).standard_normal(20).astype(np.float32)
    for batch in (rows[:7], rows[7:8], rows[8:]):
        session.run(mean.update, {x: batch})
    assert session.run(mean.value) == pytest.approx(rows.astype(np.float64).mean(), rel=1e-12)
    session.run(mean.reset)
    assert session.run(mean.value) == 0
    session.run(mean.update, {x: rows[:1]})
    assert session.run(mean.value) == rows[0]


def test_a_mean_may_be_weighted_by_a_mask_or_by_the_size_of_the_batch(graph, session):
    x, mask = fg.placeholder("x", ("batch", 2)), fg.placeholder("mask", ("batch", 2), "bool")
    masked = metrics.Mean(x, mask)
    session.run(masked.update, {x: [[1, 100], [2, 3]], mask: [[True, False], [True, True]]})
    assert session.run(masked.value) == 2
    each = metrics.Mean(fg.mean(x), fg.size(x, axis=0), name="each")
    for rows in ([[1, 1]], [[4, 4], [4, 4]]):
        session.run(each.update, {x: rows})
    assert session.run(each.value) == 3


def test_a_float32_mean_of_many_batches_loses_no_digits(graph, session):
    x = fg.placeholder("x", ())
    mean = metrics.Mean(x)
    session.run(mean.update, {x: 2.0**24})
    for _ in range(3):
        session.run(mean.update, {x: 1.0})
    assert session.run(mean.value) == (2**24 + 3) / 4


@pytest.mark.parametrize(("dtype", "kept"), [("int8", "int64"), ("bool", "int64"), ("float16", "float64"), ("complex64", "complex128")])
def test_a_total_is_kept_where_it_cannot_overflow_or_lose_digits(graph, session, dtype, kept):
    total = metrics.Total(fg.constant(np.ones(2, dtype)))
    for _ in range(300):
        session.run(total.update)
    assert session.run(total.value).tolist() == [300, 300]
    assert total.value.dtype == np.dtype(kept)


def test_precision_over_a_data_set_follows_from_the_total_of_confusion_matrices(graph, session):
    predicted, labels = fg.placeholder("predicted", (None,), "int64"), fg.placeholder("labels", (None,), "int64")
    matrix = metrics.Total(metrics.confusion_matrix(predicted, labels, 4))
    precision = metrics.precision(matrix.value)
    rows = classified(7)
    for part in (slice(0, 20), slice(20, 50)):
        session.run(matrix.update, {predicted: rows[0][part], labels: rows[1][part]})
    want = sklearn_metrics.precision_score(rows[1], rows[0], average="macro")
    assert session.run(precision) == pytest.approx(want)


def test_totals_are_not_trained_and_those_of_one_name_are_apart(graph, session):
    w = fg.variable(2.0, name="w")
    one, two = metrics.Mean(w), metrics.Mean(w * 10)
    session.run(one.update)
    session.run(two.update)
    assert session.run([one.value, two.value]) == [2, 20]
    assert [v.name for v in graph.variables if v.node.attrs["trainable"]] == ["w"]


# What is refused


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: metrics.accuracy(np.zeros((3, 4)), np.zeros(4, int)),
            fg.ShapeError,
            "accuracy: scores (3, 4) and labels (4,) do not belong together",
        ),
        (lambda: metrics.accuracy(np.zeros((3, 4)), np.zeros(3)), fg.DtypeError, "accuracy: labels are integers, got (3,) float64"),
        (lambda: metrics.accuracy(np.zeros((3, 4)), np.zeros(3, int), k=5), fg.ShapeError, "5"),
        (lambda: metrics.confusion_matrix([0.5], [1], 2), fg.DtypeError, "confusion_matrix: predicted are integers, got (1,) float64"),
        (lambda: metrics.confusion_matrix([0], [1, 0], 2), fg.ShapeError, "confusion_matrix: predicted is (1,), labels are (2,)"),
        (lambda: metrics.confusion_matrix([0], [1], 0), fg.ArgumentError, "confusion_matrix: classes is a positive number, got 0"),
        (lambda: metrics.recall(np.zeros((2, 3))), fg.ShapeError, "recall: the confusion matrix is square, got (2, 3)"),
        (lambda: metrics.f1([[1]], average=ANY), fg.ArgumentError, 'f1: average is "macro", "micro" or None, got \'weighted\''),
        (lambda: metrics.auc([[0.1]], [[1]]), fg.ShapeError, "auc: scores and labels are vectors of one length, got (1, 1) and (1, 1)"),
        (lambda: metrics.auc([0.1], [1.0]), fg.DtypeError, "auc: labels are booleans or integers, got float64"),
        (lambda: metrics.r2([1.0], [1.0, 2.0]), fg.ShapeError, "r2: predicted is (1,), targets are (2,)"),
        (lambda: metrics.Total(fg.placeholder("x", (None,))), fg.ShapeError, "Total: x is (?,), but a sum has a known shape"),
        (lambda: metrics.Mean([1j]), fg.ArgumentError, "Mean: takes real numbers"),
        (lambda: metrics.Mean([1.0, 2.0], [1.0]), fg.ShapeError, "Mean: the weight is (1,), but x is (2,)"),
    ],
)
def test_what_a_metric_cannot_take_is_told(graph, make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert text in str(caught.value)


ANY: Any = "weighted"
