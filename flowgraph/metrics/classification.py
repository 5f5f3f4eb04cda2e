"""How well classes are told apart."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ..errors import ArgumentError, DtypeError, ShapeError
from ..graph import Tensor
from ..graph.arguments import as_count
from ..graph.spec import format_shape, format_spec
from ..ops.elementwise import add, astype, divide, equal, exp, logical_and, maximum, multiply, where
from ..ops.gather import segment_sum
from ..ops.losses import softmax_cross_entropy
from ..ops.reduce import any as any_of
from ..ops.reduce import mean, size, sum
from ..ops.shape import expand_dims, reshape
from ..ops.sort import searchsorted, sort, top_k

Average = Literal["macro", "micro"] | None


def accuracy(scores: Any, labels: Any, *, k: int = 1) -> Tensor:
    """The part of the labels that is among the ``k`` classes with the highest scores.

    scores   (..., classes), such as logits or probabilities; of equal ones the first counts as higher
    labels   integers (...), the number of the right class
    returns  scalar, float64
    raises   ShapeError when the shapes do not belong together, DtypeError when the labels are no integers

    >>> scores = [[0.1, 0.9, 0.0], [0.5, 0.2, 0.3]]
    >>> session.run([fg.metrics.accuracy(scores, [1, 2]), fg.metrics.accuracy(scores, [1, 2], k=2)])
    [np.float64(0.5), np.float64(1.0)]
    """
    scores, labels = add.lift((scores, labels))
    _check_labels("accuracy", labels=labels)
    if not scores.shape or len(labels.shape) != len(scores.shape) - 1 or not _fit(scores.shape[:-1], labels.shape):
        raise ShapeError(
            f"accuracy: scores {format_shape(scores.shape)} and labels {format_shape(labels.shape)} do not belong together",
            help="scores have one axis more than labels, the last: a score for each class",
        )
    _, found = top_k(scores, as_count(k, "k", 1))
    return mean(astype(any_of(equal(found, expand_dims(labels, -1)), axis=-1), "float64"))


def confusion_matrix(predicted: Any, labels: Any, classes: int) -> Tensor:
    """How often each class was taken for each: row ``i``, column ``j`` counts the labels ``i`` for which ``j`` was predicted.

    predicted  integers, such as ``fg.argmax(logits, axis=-1)``
    labels     integers of the same shape
    classes    how many there are; what is not one of 0 ... classes - 1, in either, is left out: -1, say, for padding
    returns    (classes, classes) int64
    raises     ShapeError when the shapes differ, DtypeError when they are no integers

    >>> session.run(fg.metrics.confusion_matrix([0, 1, 1, 1], [0, 0, 1, -1], 2))
    array([[1, 1],
           [0, 1]])
    """
    predicted, labels = add.lift((predicted, labels))
    _check_labels("confusion_matrix", predicted=predicted, labels=labels)
    if isinstance(classes, bool) or not isinstance(classes, int | np.integer) or classes < 1:
        raise ArgumentError(f"confusion_matrix: classes is a positive number, got {classes!r:.80}")
    if not _fit(predicted.shape, labels.shape):
        raise ShapeError(f"confusion_matrix: predicted is {format_shape(predicted.shape)}, labels are {format_shape(labels.shape)}")
    classes = int(classes)
    column, row = astype(predicted, "int64"), astype(labels, "int64")
    counts = logical_and(logical_and(row >= 0, row < classes), logical_and(column >= 0, column < classes))
    # What is left out goes to one place more, which is cut off.
    place = reshape(where(counts, row * classes + column, classes * classes), -1)
    totals = segment_sum(place * 0 + 1, place, classes * classes + 1)
    return reshape(totals[: classes * classes], (classes, classes))


def precision(matrix: Any, average: Average = "macro") -> Tensor:
    """Of what was predicted to be of a class, the part that is: from a confusion matrix.

    matrix   (classes, classes) counts, as from ``confusion_matrix``
    average  "macro": the mean over the classes; "micro": over all predictions, which is the accuracy; None: each class by itself
    returns  float64: a scalar, or (classes,); 0 for a class that was never predicted
    raises   ShapeError when the matrix is not square

    >>> session.run(fg.metrics.precision([[3, 1], [0, 4]], average=None))
    array([1. , 0.8])
    """
    right, predicted, _ = _counts("precision", matrix)
    return _averaged("precision", right, predicted, average)


def recall(matrix: Any, average: Average = "macro") -> Tensor:
    """Of what is of a class, the part that was found: from a confusion matrix; arguments as for ``precision``.

    >>> session.run(fg.metrics.recall([[3, 1], [0, 4]], average=None))
    array([0.75, 1.  ])
    """
    right, _, labels = _counts("recall", matrix)
    return _averaged("recall", right, labels, average)


def f1(matrix: Any, average: Average = "macro") -> Tensor:
    """The harmonic mean of precision and recall: from a confusion matrix; arguments as for ``precision``.

    >>> session.run(fg.metrics.f1([[3, 1], [0, 4]], average=None)).round(3)
    array([0.857, 0.889])
    """
    right, predicted, labels = _counts("f1", matrix)
    return _averaged("f1", multiply(right, 2.0), add(predicted, labels), average)


def auc(scores: Any, labels: Any) -> Tensor:
    """The area under the ROC curve: how often a positive has a higher score than a negative, equal scores counting half.

    scores   a vector of all scores, those of one batch say little
    labels   as long: booleans, or integers that are not 0 for a positive
    returns  scalar, float64; NaN where there is no positive or no negative
    raises   ShapeError when they are no vectors of one length

    Hanley and McNeil, The meaning and use of the area under a receiver operating characteristic (ROC) curve (1982).

    >>> session.run(fg.metrics.auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]))
    np.float64(0.75)
    """
    scores, labels = add.lift((scores, labels))
    if len(scores.shape) != 1 or not _fit(scores.shape, labels.shape):
        raise ShapeError(
            f"auc: scores and labels are vectors of one length, got {format_shape(scores.shape)} and {format_shape(labels.shape)}"
        )
    if labels.dtype.kind not in "biu":
        raise DtypeError(f"auc: labels are booleans or integers, got {labels.dtype}")
    positive = astype(labels != 0, "float64")
    ordered = sort(scores)
    # The rank of each score among all, counted from 1; equals share the mean of theirs (Mann and Whitney).
    below, through = searchsorted(ordered, scores, "left"), searchsorted(ordered, scores, "right")
    rank = divide(add(below, through) + 1, 2.0)
    positives = sum(positive)
    negatives = astype(size(labels), "float64") - positives
    pairs = multiply(positives, negatives)
    wins = sum(multiply(rank, positive)) - positives * (positives + 1) / 2
    return where(pairs > 0, divide(wins, maximum(pairs, 1.0)), float("nan"))


def perplexity(logits: Any, labels: Any) -> Tensor:
    """Among how many equally likely symbols the right one might as well have been drawn: exp of the mean cross-entropy.

    logits   (..., classes)
    labels   integers (...)
    returns  scalar; over many batches, take ``fg.exp`` of the ``Mean`` of the cross-entropies
    raises   as ``fg.nn.softmax_cross_entropy``

    >>> session.run(fg.metrics.perplexity(np.zeros((5, 8)), [0, 1, 2, 3, 4])).round(6)
    np.float64(8.0)
    """
    return exp(mean(softmax_cross_entropy(logits, labels)))


def _counts(what: str, matrix: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Of each class: how often it was rightly predicted, how often predicted, and how often it occurs."""
    (matrix,) = add.lift((matrix,))
    if len(matrix.shape) != 2 or not _fit(matrix.shape[:1], matrix.shape[1:]) or not isinstance(matrix.shape[0], int):
        raise ShapeError(
            f"{what}: the confusion matrix is square, got {format_shape(matrix.shape)}",
            help="fg.metrics.confusion_matrix(predicted, labels, classes) makes it",
        )
    matrix = astype(matrix, "float64")
    return sum(multiply(matrix, np.eye(matrix.shape[0])), axis=1), sum(matrix, axis=0), sum(matrix, axis=1)


def _averaged(what: str, part: Tensor, whole: Tensor, average: Any) -> Tensor:
    if not (average is None or (isinstance(average, str) and average in ("macro", "micro"))):
        raise ArgumentError(f'{what}: average is "macro", "micro" or None, got {average!r:.80}')
    if average == "micro":
        part, whole = sum(part), sum(whole)
    # Where the whole is 0, so is the part; counts are 1 or more elsewhere, but weights need not be.
    each = where(whole > 0, divide(part, where(whole > 0, whole, 1.0)), 0.0)
    return mean(each) if average == "macro" else each


def _fit(one: Any, other: Any) -> bool:
    """Whether two shapes may be the same."""
    return len(one) == len(other) and all(a == b for a, b in zip(one, other) if isinstance(a, int) and isinstance(b, int))


def _check_labels(what: str, **labels: Tensor) -> None:
    for name, tensor in labels.items():
        if tensor.dtype.kind not in "iu":
            raise DtypeError(
                f"{what}: {name} are integers, got {format_spec(tensor.shape, tensor.dtype)}", help="fg.argmax(scores, axis=-1)"
            )
