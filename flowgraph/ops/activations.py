"""Activations: functions of each element, and the softmax along an axis, each in its numerically stable form."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..errors import DtypeError
from ..graph import Op, Spec, Tensor, Work, op
from ..graph.op import Batch, Slicing
from ..graph.spec import normalize_axis
from .batching import full
from .bits import bits, mask
from .elementwise import exp, rowwise
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

    def vmap(self, batch: Batch, x: Tensor) -> Tensor:
        return relu(x)

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
        if out is None:
            out = xp.empty(g.shape, g.dtype)
        xp.bitwise_and(bits(g), mask(xp, y > 0, bits(g).dtype), out=bits(out))
        return out

    def vjp(self, g: Tensor, out: Tensor, cotangent: Tensor, y: Tensor) -> Any:
        return relu_grad(g, y), None

    def vmap(self, batch: Batch, g: Tensor, y: Tensor) -> Tensor:
        return relu_grad(full(batch, g, 0), full(batch, y, 1))

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

    def vmap(self, batch: Batch, x: Tensor) -> Tensor:
        return sigmoid(x)

    def slicing(self, out: Any, *inputs: Any) -> Slicing | None:
        return rowwise(out, inputs)

    samples = unary(edges=(-np.inf, -800.0, -40.0, 0.0, 800.0))


class AlongAxis(FloatActivation):
    """Base of softmax and its logarithm."""

    def vmap(self, batch: Batch, x: Tensor, *, axis: int) -> Tensor:
        return self(x, axis=axis + 1)

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


relu = op(Relu)
relu_grad = op(ReluGrad)
sigmoid = op(Sigmoid)
_softmax = op(Softmax)
_log_softmax = op(LogSoftmax)


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
