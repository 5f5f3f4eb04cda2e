"""Activations and losses, each in its numerically stable form."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..errors import DtypeError, ShapeError
from ..graph import Op, Spec, Tensor, Work, op
from ..graph.op import Slicing
from ..graph.spec import format_shape, normalize_axis
from . import pool_kernels
from .elementwise import exp, rowwise
from .gather import one_hot
from .reduce import sum
from .samples import Over, unary


class Relu(Op):
    """``x`` where it is positive, else 0; the gradient at 0 is 0.

    >>> session.run(fg.nn.relu([-1.0, 2.0]))
    array([0., 2.])
    """

    in_place = True

    def infer(self, x: Any) -> Any:
        return x

    def kernel(self, xp: Any, x: Any, *, out: Any = None) -> Any:
        return xp.maximum(x, 0, out=out)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        # By the output, not the input: so the input dies at once, and the kernel may work in its place.
        return relu_grad(g, out)

    def slicing(self, out: Any, *inputs: Any) -> Slicing | None:
        return rowwise(out, inputs)

    samples = unary(apart=0.1, edges=(-np.inf, -0.0, 0.0))


class ReluGrad(Op):
    """``g`` where ``y``, the output of relu, is positive, else 0."""

    in_place = True

    def infer(self, g: Any, y: Any) -> Any:
        return g

    def kernel(self, xp: Any, g: Any, y: Any, *, out: Any = None) -> Any:
        return pool_kernels.relu_grad(xp, g, y, out=out)

    def vjp(self, g: Tensor, out: Tensor, cotangent: Tensor, y: Tensor) -> Any:
        return relu_grad(g, y), None

    def slicing(self, out: Any, *inputs: Any) -> Slicing | None:
        return rowwise(out, inputs)

    samples = Over([((2, 3), (2, 3)), ((), ()), ((0, 3), (0, 3))])


class FloatActivation(Op):
    """Base: refuses integers, as the result would not be one."""

    def infer(self, *inputs: Any, **attrs: Any) -> Any:
        (x, *_) = inputs
        if x.dtype.kind not in "fcV":
            raise DtypeError(f"needs floats, got {x.dtype}", help='cast with fg.astype(x, "float32")')
        return x

    def work(self, *inputs: Any, **attrs: Any) -> Work:
        x = inputs[0]
        size = Spec(x.shape, x.dtype).size
        return Work(20.0 * size, 2.0 * size * x.dtype.itemsize)


class Sigmoid(FloatActivation):
    """``1 / (1 + exp(-x))``, element by element, without overflow."""

    in_place = True

    def kernel(self, xp: Any, x: Any, *, out: Any = None) -> Any:
        small = xp.exp(-xp.abs(x))  # in (0, 1]: never overflows, and keeps its digits far below 0
        return xp.divide(xp.where(x >= 0, 1, small).astype(x.dtype), small + 1, out=out)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * (out * (1 - out))

    def slicing(self, out: Any, *inputs: Any) -> Slicing | None:
        return rowwise(out, inputs)

    samples = unary(edges=(-np.inf, -800.0, -40.0, 0.0, 800.0))


class AlongAxis(FloatActivation):
    """Base of softmax and its logarithm."""

    def slicing(self, out: Any, x: Any, *, axis: int) -> Slicing | None:
        return rowwise(out, (x,)) if axis % max(len(x.shape), 1) else None

    samples: ClassVar[Any] = Over(
        [((3,),), ((2, 3),), ((0, 3),), ((2, 1, 3),)],
        (-5, 5),
        attrs=lambda s: [{"axis": a} for a in range(len(s)) if s[a]],
    )


class Softmax(AlongAxis):
    """``exp(x) / sum(exp(x))`` along ``axis``."""

    def kernel(self, xp: Any, x: Any, *, axis: int, out: Any = None) -> Any:
        shifted = xp.subtract(x, x.max(axis=axis, keepdims=True), out=out)
        shifted = xp.exp(shifted, out=out)
        return xp.divide(shifted, shifted.sum(axis=axis, keepdims=True), out=out)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axis: int) -> Any:
        weighted = g * out
        return weighted - out * sum(weighted, axis=axis, keepdims=True)


class LogSoftmax(AlongAxis):
    """Logarithm of the softmax along ``axis``."""

    def kernel(self, xp: Any, x: Any, *, axis: int, out: Any = None) -> Any:
        shifted = xp.subtract(x, x.max(axis=axis, keepdims=True), out=out)
        return xp.subtract(shifted, xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True)), out=out)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axis: int) -> Any:
        return g - exp(out) * sum(g, axis=axis, keepdims=True)


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

    def slicing(self, out: Any, logits: Any, labels: Any) -> Slicing | None:
        return Slicing((True, True), out.shape[0]) if out.shape and out.shape[0] > 1 else None

    samples = Over([((2, 3), (2, 3)), ((3,), (3,)), ((0, 3), (0, 3))], [(-5, 5), (0.0, 1.0)])


relu = op(Relu)
relu_grad = op(ReluGrad)
sigmoid = op(Sigmoid)
_softmax = op(Softmax)
_log_softmax = op(LogSoftmax)
_sparse_cross_entropy = op(SparseCrossEntropy)
_cross_entropy = op(CrossEntropy)


def softmax(x: Any, axis: int = -1) -> Tensor:
    """``exp(x) / sum(exp(x))`` along ``axis``, without overflow; sums to 1.

    raises  DtypeError for integers, ShapeError for an axis out of range

    >>> session.run(fg.nn.softmax([0.0, 0.0]))
    array([0.5, 0.5])
    """
    (x,) = _softmax.lift((x,))
    return _softmax(x, axis=normalize_axis(axis, x.ndim))


def log_softmax(x: Any, axis: int = -1) -> Tensor:
    """Logarithm of the softmax along ``axis``, exact where the softmax itself would be 0."""
    (x,) = _log_softmax.lift((x,))
    return _log_softmax(x, axis=normalize_axis(axis, x.ndim))


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
