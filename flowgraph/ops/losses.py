"""Losses, each in its numerically stable form."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ShapeError
from ..graph import Spec, Tensor, op
from ..graph.op import Batch, Slicing
from ..graph.spec import format_shape
from .activations import FloatActivation, log_softmax, softmax
from .batching import full
from .gather import one_hot
from .reduce import sum
from .samples import Over


class SparseCrossEntropy(FloatActivation):
    """Minus the log-probability of each row's class: logits (..., classes), integer labels (...)."""

    def infer(self, logits: Any, labels: Any) -> Spec:
        super().infer(logits)
        if len(logits.shape) != len(labels.shape) + 1:
            raise ShapeError(
                f"integer labels need the shape of the logits without the last axis, got logits {format_shape(logits.shape)} and "
                f"labels {format_shape(labels.shape)}",
                help="one class for each row, or float labels of the shape of the logits",
            )
        for have, want in zip(labels.shape, logits.shape, strict=False):
            if isinstance(have, int) and isinstance(want, int) and have != want:
                raise ShapeError(f"{want} rows of logits but {have} labels")
        return Spec(labels.shape, logits.dtype)

    def kernel(self, xp: Any, logits: Any, labels: Any) -> Any:
        shifted = logits - logits.max(axis=-1, keepdims=True)
        if labels.size and (int(labels.min()) < 0 or int(labels.max()) >= logits.shape[-1]):
            raise ValueError(f"a label is outside 0 ... {logits.shape[-1] - 1}")
        chosen = xp.take_along_axis(shifted, labels[..., None].astype("int64"), axis=-1)[..., 0]
        return xp.log(xp.exp(shifted).sum(axis=-1)) - chosen

    def vjp(self, g: Tensor, out: Tensor, logits: Tensor, labels: Tensor) -> Any:
        classes = logits.shape[-1]
        assert isinstance(classes, int), "the number of classes is known"
        difference = softmax(logits) - one_hot(labels, classes, logits.dtype)
        return difference * g[(..., None)], None

    def vmap(self, batch: Batch, logits: Tensor, labels: Tensor) -> Tensor:
        return _sparse_cross_entropy(full(batch, logits, 0), full(batch, labels, 1))

    def slicing(self, out: Any, logits: Any, labels: Any) -> Slicing | None:
        return Slicing((True, True), out.shape[0]) if out.shape and out.shape[0] > 1 else None

    samples = Over(
        [((2, 3), (2,)), ((3,), ()), ((0, 3), (0,)), ((2, 2, 3), (2, 2))],
        [(-5, 5), (0, 2)],
        dtypes=("float64", "int64"),
    )


class CrossEntropy(FloatActivation):
    """Cross-entropy between the softmax of logits and ``labels``, which are probabilities, both (..., classes)."""

    def infer(self, logits: Any, labels: Any) -> Spec:
        super().infer(logits)
        if len(logits.shape) != len(labels.shape) or any(
            isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(logits.shape, labels.shape, strict=True)
        ):
            raise ShapeError(
                f"logits {format_shape(logits.shape)} and float labels {format_shape(labels.shape)} must have one shape",
                help="integer labels have the shape of the logits without the last axis",
            )
        return Spec(logits.shape[:-1], np.result_type(logits.dtype, labels.dtype))

    def kernel(self, xp: Any, logits: Any, labels: Any) -> Any:
        shifted = logits - logits.max(axis=-1, keepdims=True)
        return (xp.log(xp.exp(shifted).sum(axis=-1, keepdims=True)) * labels - shifted * labels).sum(axis=-1)

    def vjp(self, g: Tensor, out: Tensor, logits: Tensor, labels: Tensor) -> Any:
        g = g[(..., None)]
        total = sum(labels, axis=-1, keepdims=True)
        return lambda: g * (softmax(logits) * total - labels), lambda: -g * log_softmax(logits)

    def vmap(self, batch: Batch, logits: Tensor, labels: Tensor) -> Tensor:
        return _cross_entropy(full(batch, logits, 0), full(batch, labels, 1))

    def slicing(self, out: Any, logits: Any, labels: Any) -> Slicing | None:
        return Slicing((True, True), out.shape[0]) if out.shape and out.shape[0] > 1 else None

    samples = Over([((2, 3), (2, 3)), ((3,), (3,)), ((0, 3), (0, 3))], [(-5, 5), (0.0, 1.0)])


_sparse_cross_entropy = op(SparseCrossEntropy)
_cross_entropy = op(CrossEntropy)


def softmax_cross_entropy(logits: Any, labels: Any) -> Tensor:
    """Cross-entropy of each row: how many nats the softmax of ``logits`` is from ``labels``.

    logits   float tensor (..., classes), not yet normalised
    labels   integer classes (...), or probabilities (..., classes)
    returns  one loss for each row, shape (...); take ``fg.mean`` of it to train
    raises   ShapeError when the shapes do not fit; in a run, ExecutionError for a class out of range

    >>> session.run(fg.nn.softmax_cross_entropy([[0.0, 0.0], [0.0, 9.0]], [0, 1])).round(4)
    array([0.6931, 0.0001])
    """
    logits, labels = _sparse_cross_entropy.lift((logits, labels))
    if labels.dtype.kind in "iu":
        return _sparse_cross_entropy(logits, labels)
    return _cross_entropy(logits, labels)
