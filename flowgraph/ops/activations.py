"""Activations: functions of each element, and the softmax along an axis, each in its numerically stable form."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from ..errors import ArgumentError, DtypeError, ShapeError
from ..graph import Op, Spec, Tensor, Work, op
from ..graph.arguments import as_flag
from ..graph.op import Batch, Slicing
from ..graph.spec import format_shape, normalize_axis
from .batching import full
from .bits import bits, mask, mask_bytes, wide
from .elementwise import abs, clip, divide, exp, greater, multiply, rowwise, square, tanh, where
from .normal import normal_cdf
from .reduce import sum
from .samples import LOW, Over, unary


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

    def scalar(self, s: Any, x: Any) -> Any:
        return s.maximum(x, 0)

    def vmap(self, batch: Batch, x: Tensor) -> Tensor:
        return relu(x)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        # By the output, not the input: so the input dies at once, and the kernel may work in its place.
        return relu_grad(g, out)

    def slicing(self, out: Any, *inputs: Any) -> Slicing | None:
        return rowwise(out, inputs)

    samples = unary(apart=0.1, edges=(-np.inf, -0.0, 0.0), also=LOW)


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

    def scalar(self, s: Any, g: Any, y: Any) -> Any:
        return s.where(y > 0, g, 0)

    def scratch(self, g: Any, y: Any) -> int:
        return mask_bytes(Spec(g.shape, g.dtype))

    def vjp(self, g: Tensor, out: Tensor, cotangent: Tensor, y: Tensor) -> Any:
        return relu_grad(g, y), None

    def vmap(self, batch: Batch, g: Tensor, y: Tensor) -> Tensor:
        return relu_grad(full(batch, g, 0), full(batch, y, 1))

    def slicing(self, out: Any, *inputs: Any) -> Slicing | None:
        return rowwise(out, inputs)

    samples = Over([((2, 3), (2, 3)), ((), ()), ((0, 3), (0, 3))], also=LOW)


class FloatActivation(Op):
    """Base: refuses integers, as the result would not be one.

    moved  arrays of the input's size that the kernel reads and writes, step by step
    """

    moved: ClassVar[int] = 2

    def infer(self, *inputs: Any, **attrs: Any) -> Any:
        (x, *_) = inputs
        if x.dtype.kind not in "fV":
            raise DtypeError(f"needs floats, got {x.dtype}", help='cast with fg.astype(x, "float32")')
        return x

    def work(self, *inputs: Any, **attrs: Any) -> Work:
        x = inputs[0]
        size = Spec(x.shape, x.dtype).size
        return Work(20.0 * size, float(self.moved * size * x.dtype.itemsize))


def _minus_abs(xp: Any, x: Any) -> Any:
    """``-abs(x)`` as a new array, also where x is a scalar."""
    made = xp.absolute(x, out=xp.empty(x.shape, x.dtype))
    return xp.negative(made, out=made)


class Sigmoid(FloatActivation):
    """``1 / (1 + exp(-x))``, element by element, without overflow."""

    in_place = True
    moved = 8

    def kernel(self, xp: Any, x: Any, *, out: Any = None) -> Any:
        out = xp.empty(x.shape, x.dtype) if out is None else out
        if x.dtype.itemsize >= 4:
            # Far below 0 the exponential is infinite, and 1 by it is 0: nothing is lost but what is less than the smallest normal number.
            xp.exp(xp.negative(x, out=out), out=out)
            out += 1
            return xp.divide(1, out, out=out)
        # In 16 bits it would be infinite from -11 on: exp(x) / (1 + exp(x)) below 0, 1 / (1 + exp(-x)) above, as two exponentials that
        # do not overflow. (It takes 24 us for 16,384 float32, the other 11.)
        below = _minus_abs(xp, x)
        xp.exp(below, out=below)
        below += 1
        above = xp.minimum(x, 0, out=out)
        xp.exp(above, out=above)
        return xp.divide(above, below, out=above)

    def scalar(self, s: Any, x: Any) -> Any:
        e = s.exp(-s.absolute(x))
        return s.where(x < 0, e, s.constant(1, x.dtype)) / (1.0 + e)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * (out * (1 - out))

    def vmap(self, batch: Batch, x: Tensor) -> Tensor:
        return sigmoid(x)

    def slicing(self, out: Any, *inputs: Any) -> Slicing | None:
        return rowwise(out, inputs)

    samples = unary(edges=(-np.inf, -800.0, -40.0, 0.0, 800.0), also=LOW)


class Softplus(FloatActivation):
    """``log(1 + exp(x))``, element by element, without overflow: a smooth relu.

    >>> session.run(fg.nn.softplus([-800.0, 0.0, 800.0])).round(4)
    array([0.0000e+00, 6.9310e-01, 8.0000e+02])
    """

    in_place = True
    moved = 13

    def kernel(self, xp: Any, x: Any, *, out: Any = None) -> Any:
        # Thirteen times as fast as logaddexp(x, 0), which NumPy does not vectorise (1.5 ms against 20 for a million float32).
        slack = _minus_abs(xp, x)
        xp.exp(slack, out=slack)
        xp.log1p(slack, out=slack)
        return xp.add(xp.maximum(x, 0, out=out), slack, out=out)

    def scalar(self, s: Any, x: Any) -> Any:
        return s.maximum(x, 0) + s.log1p_exp(-s.absolute(x))

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * sigmoid(x)

    def vmap(self, batch: Batch, x: Tensor) -> Tensor:
        return softplus(x)

    def slicing(self, out: Any, *inputs: Any) -> Slicing | None:
        return rowwise(out, inputs)

    samples = unary(edges=(-np.inf, -800.0, -40.0, 0.0, 800.0, np.inf), also=LOW)


class Elu(FloatActivation):
    """``x`` where it is positive, else ``alpha * (exp(x) - 1)``."""

    in_place = True
    moved = 11

    def kernel(self, xp: Any, x: Any, *, alpha: float, out: Any = None) -> Any:
        below = xp.asarray(xp.expm1(xp.minimum(x, 0)))  # (a scalar of bfloat16 times a number would be none)
        below *= alpha
        return xp.add(xp.maximum(x, 0, out=out), below, out=out)

    def scalar(self, s: Any, x: Any, *, alpha: float) -> Any:
        return s.maximum(x, 0) + s.expm1(s.minimum(x, 0)) * alpha

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, alpha: float) -> Any:
        # By the output alone, so that the input dies at once: alpha * exp(x) is out + alpha.
        return g * where(out > 0, 1, out + alpha)

    def vmap(self, batch: Batch, x: Tensor, *, alpha: float) -> Tensor:
        return _elu(x, alpha=alpha)

    def slicing(self, out: Any, *inputs: Any, alpha: float) -> Slicing | None:
        return rowwise(out, inputs)

    samples = unary(apart=0.1, attrs=({"alpha": 1.0}, {"alpha": 0.3}), edges=(-np.inf, -800.0, -0.0, 0.0), also=LOW)


class AlongAxis(FloatActivation):
    """Base of softmax and its logarithm. Sixteen-bit floats are computed in 32 bits and rounded once."""

    moved = 8

    def kernel(self, xp: Any, x: Any, *, axis: int, out: Any = None) -> Any:
        dtype = wide(x.dtype)
        if dtype == x.dtype:
            return self.along(xp, x, axis, out)
        made = self.along(xp, x.astype(dtype), axis, None)
        if out is None:
            return made.astype(x.dtype)
        out[...] = made
        return out

    along_row = True

    def along_last(self, x: Any, *, axis: int) -> bool:
        return axis == len(x.shape) - 1

    def along(self, xp: Any, x: Any, axis: int, out: Any) -> Any:
        raise NotImplementedError

    def vmap(self, batch: Batch, x: Tensor, *, axis: int) -> Tensor:
        return self(x, axis=axis + 1)

    def slicing(self, out: Any, x: Any, *, axis: int) -> Slicing | None:
        return rowwise(out, (x,)) if axis % max(len(x.shape), 1) else None

    samples: ClassVar[Any] = Over(
        [((3,),), ((2, 3),), ((0, 3),), ((2, 1, 3),)],
        (-5, 5),
        attrs=lambda s: [{"axis": a} for a in range(len(s)) if s[a]],
    ) + Over([((2, 3),)], (-1e4, 1e4), attrs=[{"axis": 1}], dtypes=("float16",))


class Softmax(AlongAxis):
    """``exp(x) / sum(exp(x))`` along ``axis``."""

    def along(self, xp: Any, x: Any, axis: int, out: Any) -> Any:
        shifted = xp.subtract(x, x.max(axis=axis, keepdims=True), out=out)
        shifted = xp.exp(shifted, out=out)
        return xp.divide(shifted, shifted.sum(axis=axis, keepdims=True), out=out)

    def scalar(self, s: Any, x: Any, *, axis: int) -> Any:
        e = s.exp(x - s.max(x))
        return e / s.sum(e)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axis: int) -> Any:
        weighted = g * out
        return weighted - out * sum(weighted, axis=axis, keepdims=True)


class LogSoftmax(AlongAxis):
    """Logarithm of the softmax along ``axis``."""

    def along(self, xp: Any, x: Any, axis: int, out: Any) -> Any:
        shifted = xp.subtract(x, x.max(axis=axis, keepdims=True), out=out)
        return xp.subtract(shifted, xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True)), out=out)

    def scalar(self, s: Any, x: Any, *, axis: int) -> Any:
        shifted = x - s.max(x)
        return shifted - s.log(s.sum(s.exp(shifted)))

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, axis: int) -> Any:
        return g - exp(out) * sum(g, axis=axis, keepdims=True)


relu = op(Relu)
relu_grad = op(ReluGrad)
sigmoid = op(Sigmoid)
softplus = op(Softplus)
_elu = op(Elu)
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


# Functions of the operations above. Each is finite, with its gradient, wherever its value is.


def relu6(x: Any) -> Tensor:
    """``x`` held between 0 and 6."""
    return clip(x, 0.0, 6.0)


def leaky_relu(x: Any, slope: Any = 0.01) -> Tensor:
    """``x`` where it is positive, else ``slope * x``.

    slope  a number, or a tensor that broadcasts against ``x`` and may be learned (PReLU): one for each channel has shape (channels, 1, 1)

    >>> session.run(fg.nn.leaky_relu([-1.0, 2.0], 0.1))
    array([-0.1,  2. ])
    """
    (x,) = relu.lift((x,))
    return where(greater(x, 0), x, x * slope)


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """``x`` where it is positive, else ``alpha * (exp(x) - 1)``; alpha is a number of at least 0.

    >>> session.run(fg.nn.elu([-800.0, 2.0]))
    array([-1.,  2.])
    """
    (x,) = _elu.lift((x,))
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha < math.inf:
        raise ArgumentError(f"elu: alpha must be a number of at least 0, got {alpha!r:.80}")
    return _elu(x, alpha=float(alpha))


def selu(x: Any) -> Tensor:
    """Scaled elu, with the two numbers that keep mean 0 and variance 1 from layer to layer (Klambauer et al. 2017)."""
    return elu(x, 1.6732632423543772) * 1.0507009873554805


def silu(x: Any) -> Tensor:
    """``x * sigmoid(x)``, also called swish."""
    (x,) = sigmoid.lift((x,))
    return multiply(x, sigmoid(x))


def gelu(x: Any, approximate: bool = False) -> Tensor:
    """``x`` times the probability that a standard normal draw is below it.

    approximate  by a hyperbolic tangent, as the first transformers had it: off by at most 0.0005

    >>> session.run(fg.nn.gelu([-1.0, 1.0], approximate=True)).round(4)
    array([-0.1588,  0.8412])
    """
    (x,) = sigmoid.lift((x,))
    if not as_flag(approximate, "approximate"):
        return multiply(x, normal_cdf(x))
    near = clip(x, -10.0, 10.0)  # beyond, the probability is 0 or 1 to the last bit, and a cube could overflow
    return multiply(x, sigmoid(near * (1.5957691216057308 + 0.07135481627260025 * square(near))))


def mish(x: Any) -> Tensor:
    """``x * tanh(softplus(x))`` (Misra 2019)."""
    (x,) = softplus.lift((x,))
    return multiply(x, tanh(softplus(x)))


def log_sigmoid(x: Any) -> Tensor:
    """Logarithm of the sigmoid, exact where the sigmoid itself would be 0.

    >>> session.run(fg.nn.log_sigmoid([-800.0, 0.0])).round(4)
    array([-8.000e+02, -6.931e-01])
    """
    (x,) = softplus.lift((x,))
    return -softplus(-x)


def hard_sigmoid(x: Any) -> Tensor:
    """``x / 6 + 1/2`` held between 0 and 1: straight lines in place of the sigmoid."""
    (x,) = sigmoid.lift((x,))
    return clip(x * (1 / 6) + 0.5, 0.0, 1.0)


def hard_tanh(x: Any) -> Tensor:
    """``x`` held between -1 and 1."""
    return clip(x, -1.0, 1.0)


def hard_swish(x: Any) -> Tensor:
    """``x * hard_sigmoid(x)`` (Howard et al. 2019)."""
    (x,) = sigmoid.lift((x,))
    return multiply(x, hard_sigmoid(x))


def softsign(x: Any) -> Tensor:
    """``x / (1 + |x|)``."""
    (x,) = sigmoid.lift((x,))
    return divide(x, abs(x) + 1)


def glu(x: Any, axis: int = -1) -> Tensor:
    """Gated linear unit: the first half of ``x`` along ``axis`` times the sigmoid of the second.

    raises  ShapeError when that size is odd or not known

    >>> session.run(fg.nn.glu([3.0, 0.0]))
    array([1.5])
    """
    (x,) = sigmoid.lift((x,))
    axis = normalize_axis(axis, x.ndim)
    size = x.shape[axis]
    if not isinstance(size, int) or size % 2:
        raise ShapeError(f"glu: axis {axis} of {format_shape(x.shape)} cannot be cut into halves")
    before = (slice(None),) * axis
    return multiply(x[(*before, slice(0, size // 2))], sigmoid(x[(*before, slice(size // 2, size))]))
