"""Losses, each in its numerically stable form: finite, with its gradient, wherever the logits are.

Each gives one number for every example (or element), and leaves it to the caller to take the mean. Two tensors that are compared must
have one shape: (n, 1) beside (n,) would broadcast to all pairs, which no loss means.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import Op, Spec, Tensor, Work, no_gradient, op
from ..graph.arguments import as_number
from ..graph.op import Batch, Slicing
from ..graph.spec import format_shape, normalize_axis, promote_dtypes
from .activations import FloatActivation, log_softmax, relu, sigmoid, softmax
from .batching import full
from .bits import wide
from .create import arange
from .elementwise import abs, astype, divide, equal, exp, maximum, minimum, multiply, recast, rowwise, sqrt, square, subtract, where
from .reduce import mean, size, sum
from .samples import LOW, Over

UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


def _same_shape(first: Any, second: Any) -> bool:
    """Whether two shapes can be one."""
    return len(first) == len(second) and all(
        not (isinstance(a, int) and isinstance(b, int)) or a == b for a, b in zip(first, second, strict=True)
    )


def _delivered(made: Any, dtype: Any, out: Any) -> Any:
    if out is None:
        return made.astype(dtype, copy=False)
    out[...] = made
    return out


class Loss(FloatActivation):
    """Base of the losses of each row: of its logits and labels."""

    def slicing(self, out: Any, logits: Any, labels: Any) -> Slicing | None:
        return Slicing((True, True), out.shape[0]) if out.shape and out.shape[0] > 1 else None

    def vmap(self, batch: Batch, logits: Tensor, labels: Tensor) -> Tensor:
        return self(full(batch, logits, 0), full(batch, labels, 1))


class ClassLabels(Op):
    """``labels`` as they are, once it is seen that each is one of the classes of ``logits``, of which only the shape is used.

    An op of its own, so that no other need look: labels are there before the logits, and a compiled loop cannot raise.
    """

    is_view = looks = True
    shape_inputs = (1,)
    vjp = no_gradient("classes are whole numbers")

    def infer(self, labels: Any, logits: Any) -> Any:
        return labels

    def kernel(self, xp: Any, labels: Any, logits: Any) -> Any:
        classes = logits.shape[-1]
        if labels.size:
            # (Of whole numbers, what is below 0 counts as large: one look for both ends.)
            signed = labels.dtype.kind == "i"
            highest = int((labels.view(UNSIGNED[labels.dtype.itemsize]) if signed else labels).max())
            if highest >= classes or not (signed or int(labels.min()) >= 0):
                raise ValueError(f"a label is outside 0 ... {classes - 1}")
        return labels

    def vmap(self, batch: Batch, labels: Tensor, logits: Tensor) -> Tensor:
        return self(full(batch, labels, 0), logits)

    samples = Over([((2,), (2, 3)), ((), (3,)), ((0,), (0, 3))], [(0, 2), (-5, 5)], dtypes=("int64", "float64"))


class SparseCrossEntropy(Loss):
    """Minus the log-probability of each row's class: logits (..., classes), integer labels (...), each of them a class."""

    along_row = True

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

    def kernel(self, xp: Any, logits: Any, labels: Any, *, out: Any = None) -> Any:
        classes = logits.shape[-1]
        rows, flat = logits.reshape(-1, classes), labels.reshape(-1)
        shifted = (rows - rows.max(axis=-1, keepdims=True)).astype(wide(logits.dtype), copy=False)
        chosen = shifted[xp.arange(len(flat)), flat]  # (a fifth of the time of take_along_axis, for few rows)
        return _delivered((xp.log(xp.exp(shifted).sum(axis=-1)) - chosen).reshape(labels.shape), logits.dtype, out)

    def scalar(self, s: Any, logits: Any, labels: Any) -> Any:
        shifted = logits - s.max(logits)
        chosen = s.where(s.equal(s.position(), s.astype(labels, np.dtype("int32"))), shifted, 0)
        return s.log(s.sum(s.exp(shifted))) - s.sum(chosen)

    def scratch(self, logits: Any, labels: Any) -> int:
        return 2 * Spec(logits.shape, wide(logits.dtype)).nbytes

    def vjp(self, g: Tensor, out: Tensor, logits: Tensor, labels: Tensor) -> Any:
        classes = logits.shape[-1]
        chosen = equal(labels[(..., None)], np.arange(classes) if isinstance(classes, int) else arange(size(logits, -1)))
        return (softmax(logits) - astype(chosen, logits.dtype)) * g[(..., None)], None

    samples = Over(
        [((2, 3), (2,)), ((3,), ()), ((0, 3), (0,)), ((2, 2, 3), (2, 2))],
        [(-5, 5), (0, 2)],
        dtypes=("float64", "int64"),
        also=LOW,
    )


class CrossEntropy(Loss):
    """Cross-entropy between the softmax of logits and ``labels``, which are probabilities, both (..., classes)."""

    def infer(self, logits: Any, labels: Any) -> Spec:
        super().infer(logits)
        if not _same_shape(logits.shape, labels.shape):
            raise ShapeError(
                f"logits {format_shape(logits.shape)} and float labels {format_shape(labels.shape)} must have one shape",
                help="integer labels have the shape of the logits without the last axis",
            )
        return Spec(logits.shape[:-1], promote_dtypes(logits.dtype, labels.dtype))

    def kernel(self, xp: Any, logits: Any, labels: Any, *, out: Any = None) -> Any:
        dtype = promote_dtypes(logits.dtype, labels.dtype)
        shifted = (logits - logits.max(axis=-1, keepdims=True)).astype(wide(dtype), copy=False)
        away = xp.log(xp.exp(shifted).sum(axis=-1, keepdims=True)) - shifted
        away *= labels
        return _delivered(away.sum(axis=-1), dtype, out)

    def scratch(self, logits: Any, labels: Any) -> int:
        return 2 * Spec(logits.shape, wide(promote_dtypes(logits.dtype, labels.dtype))).nbytes

    along_row = True

    def scalar(self, s: Any, logits: Any, labels: Any) -> Any:
        dtype = promote_dtypes(logits.dtype, labels.dtype)
        shifted = logits - s.max(logits)
        away = s.log(s.sum(s.exp(shifted))) - shifted
        return s.sum(s.astype(away, dtype) * s.astype(labels, dtype))

    def vjp(self, g: Tensor, out: Tensor, logits: Tensor, labels: Tensor) -> Any:
        g = g[(..., None)]
        total = sum(labels, axis=-1, keepdims=True)
        return lambda: recast(g * (softmax(logits) * total - labels), logits), lambda: recast(-g * log_softmax(logits), labels)

    samples = Over([((2, 3), (2, 3)), ((3,), (3,)), ((0, 3), (0, 3))], [(-5, 5), (0.0, 1.0)], also=LOW)


class SigmoidCrossEntropy(Loss):
    """Cross-entropy between the sigmoid of logits and ``labels``, which are probabilities, element by element."""

    def infer(self, logits: Any, labels: Any) -> Spec:
        super().infer(logits)
        if not _same_shape(logits.shape, labels.shape):
            raise ShapeError(f"logits {format_shape(logits.shape)} and labels {format_shape(labels.shape)} must have one shape")
        return Spec(logits.shape, promote_dtypes(logits.dtype, labels.dtype))

    def kernel(self, xp: Any, logits: Any, labels: Any, *, out: Any = None) -> Any:
        # max(x, 0) - x * z + log(1 + exp(-|x|)): the two first cancel exactly where z is 1, and the third is small there.
        made = xp.maximum(logits, 0) - logits * labels
        return xp.add(made, xp.log1p(xp.exp(-xp.abs(logits))), out=out)

    def scalar(self, s: Any, logits: Any, labels: Any) -> Any:
        dtype = promote_dtypes(logits.dtype, labels.dtype)
        x, z = s.astype(logits, dtype), s.astype(labels, dtype)
        return (s.maximum(x, 0) - x * z) + s.log1p_exp(-s.absolute(x))

    def vjp(self, g: Tensor, out: Tensor, logits: Tensor, labels: Tensor) -> Any:
        return (
            lambda: astype(g * (sigmoid(logits) - labels), logits.dtype),
            lambda: astype(-g * logits, labels.dtype),
        )

    def work(self, logits: Any, labels: Any) -> Work:
        size = Spec(logits.shape, logits.dtype).size
        return Work(20.0 * size, 19.0 * size * logits.dtype.itemsize)  # the kernel's reads and writes, step by step

    def slicing(self, out: Any, logits: Any, labels: Any) -> Slicing | None:
        return rowwise(out, (logits, labels))

    samples = Over([((2, 3), (2, 3)), ((), ()), ((0, 3), (0, 3))], [(-5, 5), (0.0, 1.0)], also=LOW)


_class_labels = op(ClassLabels)
_sparse_cross_entropy = op(SparseCrossEntropy)
_cross_entropy = op(CrossEntropy)
_sigmoid_cross_entropy = op(SigmoidCrossEntropy)


def softmax_cross_entropy(logits: Any, labels: Any, *, label_smoothing: float = 0.0, ignore_index: int | None = None) -> Tensor:
    """Cross-entropy of each row: how many nats the softmax of ``logits`` is from ``labels``.

    logits           float tensor (..., classes), not yet normalised
    labels           integer classes (...), or probabilities (..., classes)
    label_smoothing  share of each label, in [0, 1), that is given to all classes alike
    ignore_index     a class whose rows lose nothing, as padding; for integer labels
    returns          one loss for each row, shape (...); take ``fg.mean`` of it to train
    raises           ShapeError when the shapes do not fit; in a run, ExecutionError for a class out of range

    >>> session.run(fg.nn.softmax_cross_entropy([[0.0, 0.0], [0.0, 9.0]], [0, 1])).round(4)
    array([0.6931, 0.0001])
    """
    logits, labels = _sparse_cross_entropy.lift((logits, labels))
    if isinstance(label_smoothing, bool) or not isinstance(label_smoothing, int | float) or not 0 <= label_smoothing < 1:
        raise ArgumentError(f"softmax_cross_entropy: label_smoothing must be a number in [0, 1), got {label_smoothing!r:.80}")
    sparse = labels.dtype.kind in "iu"
    if ignore_index is not None and not sparse:
        raise ArgumentError("softmax_cross_entropy: ignore_index needs integer labels", help="give rows of probabilities no weight instead")
    padding = equal(labels, ignore_index) if ignore_index is not None else None
    classes = labels if padding is None else where(padding, 0, labels)
    loss = _sparse_cross_entropy(logits, _class_labels(classes, logits)) if sparse else _cross_entropy(logits, classes)
    if label_smoothing:
        # The cross-entropy is linear in the labels. With equal ones, it is the mean distance of the classes.
        loss = loss * (1 - label_smoothing) - mean(log_softmax(logits), axis=-1) * label_smoothing
    return loss if padding is None else where(padding, 0, loss)


def sigmoid_cross_entropy(logits: Any, labels: Any) -> Tensor:
    """Cross-entropy of each element: how many nats the sigmoid of ``logits`` is from ``labels``; classes need not exclude each other.

    logits   float tensor
    labels   probabilities, or 0 and 1, of the same shape
    returns  one loss for each element
    raises   ShapeError when the shapes differ

    >>> session.run(fg.nn.sigmoid_cross_entropy([0.0, 800.0, -800.0], [1.0, 1.0, 1.0])).round(4)
    array([6.931e-01, 0.000e+00, 8.000e+02])
    """
    logits, labels = _sigmoid_cross_entropy.lift((logits, labels))
    return _sigmoid_cross_entropy(logits, labels if labels.dtype.kind in "fV" else astype(labels, logits.dtype))


def squared_error(x: Any, y: Any) -> Tensor:
    """``(x - y) ** 2``, element by element, for two tensors of one shape.

    raises  ShapeError when the shapes differ, where ``fg.square(x - y)`` would broadcast

    >>> session.run(fg.nn.squared_error([1.0, 2.0], [1.0, 4.0]))
    array([0., 4.])
    """
    return square(_difference("squared_error", x, y))


def absolute_error(x: Any, y: Any) -> Tensor:
    """``|x - y|``, element by element, for two tensors of one shape. raises ShapeError when the shapes differ."""
    return abs(_difference("absolute_error", x, y))


def huber(x: Any, y: Any, delta: Any = 1.0) -> Tensor:
    """Half the squared error where ``|x - y|`` is below ``delta``, and from there on a straight line: outliers pull no harder than that.

    >>> session.run(fg.nn.huber([0.0, 0.0], [0.5, 10.0]))
    array([0.125, 9.5  ])
    """
    if isinstance(delta, int | float) and not delta > 0:
        raise ArgumentError(f"huber: delta must be positive, got {delta}")
    distance = abs(_difference("huber", x, y))
    near = minimum(distance, delta)  # at the seam both sides have the same slope, whichever wins
    return multiply(near, distance - near * 0.5)


def hinge(scores: Any, labels: Any) -> Tensor:
    """How far each score is from the right side of 1: ``max(0, 1 - labels * scores)``.

    scores  float tensor
    labels  -1 and 1, of the same shape
    raises  ShapeError when the shapes differ

    >>> session.run(fg.nn.hinge([0.5, 3.0, -2.0], [1, 1, 1]))
    array([0.5, 0. , 3. ])
    """
    scores, labels = _paired("hinge", scores, labels)
    return relu(1 - astype(labels, scores.dtype) * scores)


def kl_divergence(log_p: Any, log_q: Any, axis: int = -1) -> Tensor:
    """Kullback-Leibler divergence of q from p, in nats: the sum of ``p * (log p - log q)`` along ``axis``.

    log_p, log_q  logarithms of probabilities, of one shape, such as ``fg.nn.log_softmax`` gives; -inf in log_p counts as 0
    raises        ShapeError when the shapes differ

    >>> session.run(fg.nn.kl_divergence(np.log([0.5, 0.5]), np.log([0.25, 0.75]))).round(4)
    np.float64(0.1438)
    """
    p, q = _paired("kl_divergence", log_p, log_q)
    gone = equal(p, -math.inf)
    p, q = where(gone, 0, p), where(gone, 0, q)
    return sum(where(gone, 0, exp(p) * (p - q)), axis=normalize_axis(axis, p.ndim))


def cosine_similarity(x: Any, y: Any, axis: int = -1, epsilon: float = 1e-8) -> Tensor:
    """Cosine of the angle between ``x`` and ``y`` along ``axis``: 1 where they point the same way.

    epsilon  the least length that a vector is taken to have, so that one of zeros is similar to nothing
    raises   ShapeError when the shapes differ

    >>> session.run(fg.nn.cosine_similarity([[3.0, 4.0], [0.0, 0.0]], [[4.0, 3.0], [1.0, 0.0]]))
    array([0.96, 0.  ])
    """
    x, y = _paired("cosine_similarity", x, y)
    axis = normalize_axis(axis, x.ndim)
    least = as_number(epsilon, "epsilon") ** 2

    def length(v: Tensor) -> Tensor:
        return sqrt(maximum(sum(square(v), axis=axis), least))

    return divide(sum(x * y, axis=axis), length(x) * length(y))


def _difference(name: str, x: Any, y: Any) -> Tensor:
    return subtract(*_paired(name, x, y))


def _paired(name: str, x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Both as tensors. raises ShapeError where their shapes cannot be one."""
    first, second = subtract.lift((x, y))
    if not _same_shape(first.shape, second.shape):
        raise ShapeError(
            f"{name}: the two shapes differ, {format_shape(first.shape)} and {format_shape(second.shape)}",
            help="fg.reshape one of them; broadcasting would compare all pairs",
        )
    return first, second
