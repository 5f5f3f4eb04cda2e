"""Operations that act on each element by itself, with NumPy's broadcasting and dtype promotion.

Each is a NumPy ufunc: its name gives the dtype rule and the kernel.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from ..errors import DtypeError
from ..graph import Op, Spec, Tensor, Work, no_gradient, op
from ..graph.op import Slicing, public
from ..graph.spec import as_dtype, broadcast_shapes, is_known
from .samples import Over, binary, unary

INTEGERS = ("int64",)


class Elementwise(Op):
    """Base: an op whose kernel is the ufunc named ``ufunc``.

    flops_each  arithmetic operations for one element, about
    """

    ufunc: str
    flops_each = 1.0
    promotes = True
    in_place = True

    def __init__(self) -> None:
        self._dtypes: dict[Any, np.dtype[Any]] = {}  # input dtypes -> output dtype, as NumPy says

    def result_dtype(self, *dtypes: np.dtype[Any]) -> np.dtype[Any]:
        try:
            return self._dtypes[dtypes]
        except KeyError:
            pass
        try:
            result = getattr(np, self.ufunc).resolve_dtypes((*dtypes, None))[-1]
        except TypeError as error:
            names = " and ".join(map(str, dtypes))
            raise DtypeError(f"not defined for {names}", help="cast with fg.astype(x, dtype)") from error
        self._dtypes[dtypes] = result
        return result  # type: ignore[no-any-return]

    def bind(self, xp: Any, attrs: dict[str, Any]) -> Any:
        return getattr(xp, self.ufunc)

    def kernel(self, xp: Any, *inputs: Any, out: Any = None) -> Any:
        return getattr(xp, self.ufunc)(*inputs, out=out)

    def work(self, *inputs: Any, **attrs: Any) -> Work:
        out = self.infer(*inputs, **attrs)
        size = math.prod(out.shape)
        moved = size * out.dtype.itemsize + sum(math.prod(x.shape) * x.dtype.itemsize for x in inputs)
        return Work(self.flops_each * size, moved)

    def slicing(self, out: Any, *inputs: Any, **attrs: Any) -> Slicing | None:
        return rowwise(out, inputs)


def rowwise(out: Any, inputs: Any) -> Slicing | None:
    """The slicing of an op that treats the rows of its broadcast inputs alike."""
    if not out.shape or out.shape[0] < 2:
        return None
    cut = tuple(len(x.shape) == len(out.shape) and x.shape[0] == out.shape[0] for x in inputs)
    return Slicing(cut, out.shape[0])


class Unary(Elementwise):
    """Base of the ufuncs of one input."""

    def infer(self, x: Any) -> Any:
        dtype = x.dtype
        result = self._dtypes.get((dtype,)) or self.result_dtype(dtype)
        return x if result is dtype else Spec(x.shape, result)


class Binary(Elementwise):
    """Base of the ufuncs of two inputs."""

    def infer(self, x: Any, y: Any) -> Any:
        shape = x.shape
        if shape != y.shape:
            shape = broadcast_shapes(shape, y.shape)
        result = self._dtypes.get((x.dtype, y.dtype)) or self.result_dtype(x.dtype, y.dtype)
        return x if shape is x.shape and result is x.dtype else Spec(shape, result)


def like(g: Tensor, x: Tensor) -> Tensor:
    """The cotangent ``g`` brought back to the shape and dtype of ``x``, which was broadcast: summed over what it was repeated on."""
    if g.dtype != x.dtype:
        g = astype(g, x.dtype)
    if g.shape == x.shape and None not in x.shape:
        return g
    return sum_like(g, x)


class SumLike(Op):
    """``g`` summed down to the shape of ``x``, from which it was broadcast: the transpose of broadcasting.

    g        tensor of a shape that x's broadcasts to
    x        only its shape is used
    returns  shape of x, dtype of g
    """

    shape_inputs = (1,)
    is_view = True  # where nothing is summed

    def infer(self, g: Any, x: Any) -> Any:
        broadcast_shapes(g.shape, x.shape)
        return Spec(x.shape, g.dtype)

    def passes(self, out: Any, g: Any, x: Any) -> bool:
        return bool(g.shape == x.shape) and is_known(g.shape)

    def kernel(self, xp: Any, g: Any, x: Any) -> Any:
        if g.shape == x.shape:
            return g
        extra = g.ndim - len(x.shape)
        axes = tuple(range(extra)) + tuple(extra + axis for axis, size in enumerate(x.shape) if size == 1 and g.shape[extra + axis] != 1)
        return g.sum(axis=axes).reshape(x.shape)

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, target: Tensor) -> Any:
        return broadcast_like(g, x), None

    samples = Over([((2, 3), (3,)), ((2, 3), (2, 1)), ((2, 3), ()), ((2, 3), (2, 3)), ((0, 3), (1, 3))])


class BroadcastLike(Op):
    """``x`` repeated to the shape that it and ``target`` broadcast to; only the target's shape is used."""

    shape_inputs = (1,)
    is_view = True

    def infer(self, x: Any, target: Any) -> Any:
        return Spec(broadcast_shapes(x.shape, target.shape), x.dtype)

    def passes(self, out: Any, x: Any, target: Any) -> bool:
        return bool(out.shape == x.shape) and is_known(x.shape)

    def kernel(self, xp: Any, x: Any, target: Any) -> Any:
        return xp.broadcast_to(x, np.broadcast_shapes(x.shape, target.shape))

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, target: Tensor) -> Any:
        return like(g, x), None

    samples = Over([((3,), (2, 3)), ((), (2, 3)), ((2, 1), (2, 3)), ((1, 3), (0, 3))])


sum_like = op(SumLike)
broadcast_like = op(BroadcastLike)


class Add(Binary):
    """Sum ``x + y``, element by element.

    >>> session.run(fg.add([1, 2], [10.0, 20.0]))
    array([11., 22.])
    """

    ufunc = "add"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        return lambda: like(g, x), lambda: like(g, y)

    samples = binary(edges=(-1e300, 0.0, 1e300, np.inf))


class Subtract(Binary):
    """Difference ``x - y``, element by element; not for booleans, as in NumPy."""

    ufunc = "subtract"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        return lambda: like(g, x), lambda: like(-g, y)

    samples = binary(edges=(-1e300, 0.0, 1e300))


class Multiply(Binary):
    """Product ``x * y``, element by element."""

    ufunc = "multiply"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        return lambda: like(g * y, x), lambda: like(g * x, y)

    samples = binary(edges=(-1e200, 0.0, 1e-300, np.inf))


class Divide(Binary):
    """Quotient ``x / y``, element by element; integers give floats."""

    ufunc = "divide"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        return lambda: like(g / y, x), lambda: like(-g * (out / y), y)

    samples = binary((-2, 2), (0.5, 2), edges=(-1.0, 0.0, 1e-300, np.inf))


class FloorDivide(Binary):
    """Largest integer not above ``x / y``, element by element."""

    ufunc = "floor_divide"
    vjp = no_gradient("floor_divide is constant between its jumps")
    samples = binary((-9, 9), (1, 4), dtypes=INTEGERS)


class Remainder(Binary):
    """Remainder of ``x / y`` with the sign of ``y``, element by element."""

    ufunc = "remainder"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        return lambda: like(g, x), lambda: like(-g * floor(x / y), y)

    samples = binary((2.1, 2.9), (0.9, 1.0))


class Pow(Binary):
    """``x`` to the power of ``y``, element by element.

    returns  promoted dtype; integers stay integers, so negative integer exponents are an error, as in NumPy
    """

    ufunc = "power"
    flops_each = 20.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        # At y = 0 the derivative by x is 0 even where x is 0 (0 * 0**-1 would be NaN); at x = 0 the one by y counts as 0,
        # the limit from above for y > 0.
        def by_x() -> Tensor:
            zero = equal(y, 0)
            return like(g * where(zero, 0, y * pow(x, where(zero, 1, y - 1))), x)

        def by_y() -> Tensor:
            return like(g * where(equal(x, 0), 0, out * log(where(equal(x, 0), 1, x))), y)

        return by_x, by_y

    samples = binary((0.5, 2), (-2, 2), edges=(0.0, 1.0, 2.0, np.inf))


class Maximum(Binary):
    """The larger of ``x`` and ``y``, element by element; NaN where either is. A tie gives its gradient half to each."""

    ufunc = "maximum"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        return lambda: like(g * share(x, y, greater), x), lambda: like(g * share(y, x, greater), y)

    samples = binary((-2, 2), apart=0.05, edges=(-np.inf, 0.0, np.inf))


class Minimum(Binary):
    """The smaller of ``x`` and ``y``, element by element; NaN where either is. A tie gives its gradient half to each."""

    ufunc = "minimum"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, y: Tensor) -> Any:
        return lambda: like(g * share(x, y, less), x), lambda: like(g * share(y, x, less), y)

    samples = binary((-2, 2), apart=0.05, edges=(-np.inf, 0.0, np.inf))


def share(x: Tensor, y: Tensor, wins: Any) -> Tensor:
    """1 where x wins over y, 1/2 where they are equal, else 0."""
    dtype = np.result_type(x.dtype, y.dtype)
    return astype(wins(x, y), dtype) + astype(equal(x, y), dtype) * 0.5


class Negative(Unary):
    """``-x``, element by element."""

    ufunc = "negative"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return -g

    samples = unary(edges=(-np.inf, -0.0, 0.0))


class Abs(Unary):
    """Absolute value, element by element; the gradient at 0 is 0."""

    ufunc = "absolute"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * sign(x)

    samples = unary(apart=0.1, edges=(-np.inf, -0.0, 0.0))


class Sign(Unary):
    """-1, 0 or 1 as ``x`` is negative, zero or positive."""

    ufunc = "sign"
    vjp = no_gradient("sign is constant between its jumps")
    samples = unary(edges=(-np.inf, -0.0, 0.0))


class Floor(Unary):
    """Largest whole number not above ``x``, element by element."""

    ufunc = "floor"
    vjp = no_gradient("floor is constant between its jumps")
    samples = unary(edges=(-1.5, -0.0, 2.0))


class Ceil(Unary):
    """Smallest whole number not below ``x``, element by element."""

    ufunc = "ceil"
    vjp = no_gradient("ceil is constant between its jumps")
    samples = unary(edges=(-1.5, -0.0, 2.0))


class Exp(Unary):
    """e to the power of ``x``, element by element."""

    ufunc = "exp"
    flops_each = 10.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * out

    samples = unary(edges=(-np.inf, -800.0, 0.0, 800.0))


class Expm1(Unary):
    """``exp(x) - 1``, exact for small ``x``."""

    ufunc = "expm1"
    flops_each = 10.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * (out + 1)

    samples = unary(edges=(-np.inf, 1e-300, 800.0))


class Log(Unary):
    """Natural logarithm, element by element; -inf at 0 and NaN below."""

    ufunc = "log"
    flops_each = 10.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g / x

    samples = unary((0.5, 3.0), edges=(0.0, 1e-300, np.inf))


class Log1p(Unary):
    """``log(1 + x)``, exact for small ``x``."""

    ufunc = "log1p"
    flops_each = 10.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g / (x + 1)

    samples = unary((-0.5, 3.0), edges=(-1.0, 1e-300, np.inf))


class Sqrt(Unary):
    """Square root, element by element; NaN below 0."""

    ufunc = "sqrt"
    flops_each = 4.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * 0.5 / out

    samples = unary((0.5, 3.0), edges=(0.0, 1e-300, np.inf))


class Square(Unary):
    """``x * x``, element by element."""

    ufunc = "square"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * (x * 2)

    samples = unary(edges=(-1e200, 0.0, np.inf))


class Reciprocal(Unary):
    """``1 / x``, element by element, for floats."""

    ufunc = "reciprocal"

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return -g * (out * out)

    samples = unary((0.5, 3.0), edges=(0.0, 1e-300, np.inf))


class Sin(Unary):
    """Sine of ``x`` in radians, element by element."""

    ufunc = "sin"
    flops_each = 15.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * cos(x)

    samples = unary(edges=(0.0, 1e6))


class Cos(Unary):
    """Cosine of ``x`` in radians, element by element."""

    ufunc = "cos"
    flops_each = 15.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return -g * sin(x)

    samples = unary(edges=(0.0, 1e6))


class Tanh(Unary):
    """Hyperbolic tangent, element by element."""

    ufunc = "tanh"
    flops_each = 15.0

    def vjp(self, g: Tensor, out: Tensor, x: Tensor) -> Any:
        return g * (1 - out * out)

    samples = unary(edges=(-np.inf, -30.0, 0.0, 1e-300))


class Comparison(Binary):
    """Base of the comparisons: the result is boolean."""

    in_place = False
    vjp = no_gradient("a comparison is constant between its jumps")
    samples: ClassVar[Any] = binary(edges=(-np.inf, -0.0, 0.0, 1.0))


class Equal(Comparison):
    """Whether ``x == y``, element by element; a tensor's ``==`` builds it."""

    ufunc = "equal"


class NotEqual(Comparison):
    """Whether ``x != y``, element by element."""

    ufunc = "not_equal"


class Less(Comparison):
    """Whether ``x < y``, element by element."""

    ufunc = "less"


class LessEqual(Comparison):
    """Whether ``x <= y``, element by element."""

    ufunc = "less_equal"


class Greater(Comparison):
    """Whether ``x > y``, element by element."""

    ufunc = "greater"


class GreaterEqual(Comparison):
    """Whether ``x >= y``, element by element."""

    ufunc = "greater_equal"


class LogicalAnd(Comparison):
    """Whether ``x`` and ``y`` are both true (not zero), element by element."""

    ufunc = "logical_and"
    samples = binary(dtypes=("bool",))


class LogicalOr(Comparison):
    """Whether ``x`` or ``y`` is true (not zero), element by element."""

    ufunc = "logical_or"
    samples = binary(dtypes=("bool",))


class LogicalNot(Unary):
    """Whether ``x`` is false (zero), element by element."""

    ufunc = "logical_not"
    in_place = False
    vjp = no_gradient("a truth value has no derivative")
    samples = unary(dtypes=("bool",))


class IsFinite(Unary):
    """Whether ``x`` is neither infinite nor NaN, element by element."""

    ufunc = "isfinite"
    in_place = False
    vjp = no_gradient("a truth value has no derivative")
    samples = unary(edges=(-np.inf, 0.0, np.nan))


class Where(Op):
    """``x`` where ``condition`` is true, else ``y``, element by element; all three broadcast.

    condition  boolean tensor
    raises     DtypeError for a condition that is not boolean

    >>> session.run(fg.where([True, False], [1.0, 2.0], 0.0))
    array([1., 0.])
    """

    promotes = True
    promotes_from = 1

    def infer(self, condition: Any, x: Any, y: Any) -> Any:
        if condition.dtype != bool:
            raise DtypeError(f"the condition must be boolean, got {condition.dtype}", help="compare it: condition != 0")
        return Spec(broadcast_shapes(condition.shape, x.shape, y.shape), np.result_type(x.dtype, y.dtype))

    def kernel(self, xp: Any, condition: Any, x: Any, y: Any) -> Any:
        return xp.where(condition, x, y)

    def vjp(self, g: Tensor, out: Tensor, condition: Tensor, x: Tensor, y: Tensor) -> Any:
        return None, lambda: like(where(condition, g, 0), x), lambda: like(where(condition, 0, g), y)

    samples = Over(
        [((), (), ()), ((2, 3), (2, 3), (2, 3)), ((3,), (2, 3), (3,)), ((2, 1), (1, 3), ()), ((0, 3), (3,), (1, 3))],
        dtypes=("bool", "float64", "float64"),
    )


class Astype(Op):
    """``x`` cast to ``dtype``; the gradient is cast back, and an integer or boolean passes none."""

    def infer(self, x: Any, *, dtype: Any) -> Any:
        return Spec(x.shape, dtype)

    def kernel(self, xp: Any, x: Any, *, dtype: Any, out: Any = None) -> Any:
        if out is None:
            return xp.asarray(x).astype(dtype)
        out[...] = x
        return out

    def vjp(self, g: Tensor, out: Tensor, x: Tensor, *, dtype: Any) -> Any:
        return astype(g, x.dtype)

    def slicing(self, out: Any, *inputs: Any, **attrs: Any) -> Slicing | None:
        return rowwise(out, inputs)

    samples = unary(attrs=({"dtype": np.dtype("float64")},))


add = public(op(Add))
subtract = public(op(Subtract))
multiply = public(op(Multiply))
divide = public(op(Divide))
floor_divide = public(op(FloorDivide))
remainder = public(op(Remainder))
pow = public(op(Pow))
maximum = public(op(Maximum))
minimum = public(op(Minimum))
negative = public(op(Negative))
abs = public(op(Abs))
sign = public(op(Sign))
floor = public(op(Floor))
ceil = public(op(Ceil))
exp = public(op(Exp))
expm1 = public(op(Expm1))
log = public(op(Log))
log1p = public(op(Log1p))
sqrt = public(op(Sqrt))
square = public(op(Square))
reciprocal = public(op(Reciprocal))
sin = public(op(Sin))
cos = public(op(Cos))
tanh = public(op(Tanh))
equal = public(op(Equal))
not_equal = public(op(NotEqual))
less = public(op(Less))
less_equal = public(op(LessEqual))
greater = public(op(Greater))
greater_equal = public(op(GreaterEqual))
logical_and = public(op(LogicalAnd))
logical_or = public(op(LogicalOr))
logical_not = public(op(LogicalNot))
isfinite = public(op(IsFinite, name="isfinite"))
where = public(op(Where))
_astype = op(Astype)


def astype(x: Any, dtype: Any) -> Tensor:
    """``x`` cast to ``dtype``; ``x`` itself when it has it already.

    raises  DtypeError for what is no number or boolean dtype

    >>> session.run(fg.astype([1.7, -2.2], "int32"))
    array([ 1, -2], dtype=int32)
    """
    target = as_dtype(dtype)
    if isinstance(x, Tensor) and x.dtype == target:
        return x
    return _astype(x, dtype=target)


def clip(x: Any, min: Any = None, max: Any = None) -> Tensor:
    """``x`` held between ``min`` and ``max``, element by element; None leaves that side open.

    >>> session.run(fg.clip([-1.0, 0.5, 2.0], 0.0, 1.0))
    array([0. , 0.5, 1. ])
    """
    if min is not None:
        x = maximum(x, min)
    if max is not None:
        x = minimum(x, max)
    return x if isinstance(x, Tensor) else add.lift((x,))[0]


public(astype)
public(clip)
