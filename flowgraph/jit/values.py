"""Values: what a fused loop computes for one element, as a graph of primitive operations on numbers.

An op's ``scalar`` method is given an `Arithmetic` (in fact `functions.Scalars`, which adds exp and its kin) and builds its result with it.
Equal values are one object, so that what two ops of a loop share is computed once. No text of LLVM in this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

BOOL, INT32, INT64 = np.dtype(bool), np.dtype("int32"), np.dtype("int64")
FLOAT32, FLOAT64 = np.dtype("float32"), np.dtype("float64")
SUPPORTED = frozenset(map(np.dtype, "? b B h H i I l L q Q f d".split()))


class Unfusable(Exception):
    """Says why an op cannot be part of a loop."""


class Value:
    """One number for each element, or for each row.

    kind    the primitive that makes it: "add", "load", "constant", "sum"...
    inputs  its operands
    data    what else the primitive needs: a constant's number, a load's operand, the predicate of a comparison
    is_row  whether it is the same for all elements of a row
    phase   the loop over the row in which it is first known: those before it must be over, as it rests on their sums
    """

    __slots__ = ("arithmetic", "data", "dtype", "inputs", "is_row", "kind", "number", "phase")

    def __init__(self, arithmetic: Arithmetic, kind: str, inputs: tuple[Value, ...], dtype: np.dtype[Any], data: Any, number: int) -> None:
        self.arithmetic, self.kind, self.inputs, self.dtype, self.data, self.number = arithmetic, kind, inputs, dtype, data, number
        self.phase: int = max((x.phase for x in inputs), default=0)
        self.is_row: bool = all(x.is_row for x in inputs)

    def __add__(self, other: Any) -> Value:
        return self.arithmetic.add(self, other)

    def __radd__(self, other: Any) -> Value:
        return self.arithmetic.add(other, self)

    def __sub__(self, other: Any) -> Value:
        return self.arithmetic.subtract(self, other)

    def __rsub__(self, other: Any) -> Value:
        return self.arithmetic.subtract(other, self)

    def __mul__(self, other: Any) -> Value:
        return self.arithmetic.multiply(self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Value:
        return self.arithmetic.divide(self, other)

    def __rtruediv__(self, other: Any) -> Value:
        return self.arithmetic.divide(other, self)

    def __neg__(self) -> Value:
        return self.arithmetic.negative(self)

    def __abs__(self) -> Value:
        return self.arithmetic.absolute(self)

    def __gt__(self, other: Any) -> Value:
        return self.arithmetic.greater(self, other)

    def __lt__(self, other: Any) -> Value:
        return self.arithmetic.less(self, other)

    def __ge__(self, other: Any) -> Value:
        return self.arithmetic.greater_equal(self, other)

    def __le__(self, other: Any) -> Value:
        return self.arithmetic.less_equal(self, other)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.dtype} {self.data if self.data is not None else ''}>"


class Arithmetic:
    """Makes values. Its methods have NumPy's names and meaning; numbers among their arguments take the dtype of the values beside them.

    raises Unfusable for what no loop is made of (complex numbers, integer division...)
    """

    def __init__(self) -> None:
        self.values: list[Value] = []
        self._known: dict[Any, Value] = {}

    def __getattr__(self, name: str) -> Any:
        raise Unfusable(f"{name} of numbers is not known")

    def make(self, kind: str, inputs: tuple[Value, ...], dtype: np.dtype[Any], data: Any = None) -> Value:
        """The value of a primitive; the same object for the same primitive of the same inputs."""
        key = (kind, *[x.number for x in inputs], dtype, data)
        value = self._known.get(key)
        if value is None:
            value = self._known[key] = Value(self, kind, inputs, dtype, data, len(self.values))
            self.values.append(value)
        return value

    def pattern(self) -> tuple[Any, ...]:
        """Equal for those that have made the same values in the same order."""
        return (*self._known, *[value.is_row for value in self.values])

    def position(self) -> Value:
        """The number of the element within its row, as an int32."""
        value = self.make("position", (), INT32)
        value.is_row = False
        return value

    def load(self, operand: int, dtype: np.dtype[Any], *, is_row: bool) -> Value:
        """The element of the loop's operand of that number."""
        if dtype not in SUPPORTED:
            raise Unfusable(f"no loops over {dtype}")
        value = self.make("load", (), dtype, operand)
        value.is_row = is_row
        return value

    def row_product(self, matrix: int, vector: int, dtype: np.dtype[Any]) -> Value:
        """The product of the element's row of one operand of the loop with another, which is a vector."""
        value = self.make("row product", (), dtype, (matrix, vector))
        value.is_row = False
        return value

    def constant(self, number: Any, dtype: np.dtype[Any]) -> Value:
        # (0.0 and -0.0 are equal keys, as are 1 and True.)
        array = np.asarray(number).astype(dtype)
        return self.make("constant", (), dtype, array.tobytes())

    def number(self, value: Value) -> float | None:
        """The number that ``value`` always is, or None."""
        return np.frombuffer(value.data, value.dtype)[0].item() if value.kind == "constant" else None

    def lift(self, *operands: Any) -> tuple[Value, ...]:
        """Numbers as constants of the dtype of the first value among ``operands``."""
        dtype = next(x.dtype for x in operands if isinstance(x, Value))
        return tuple([x if isinstance(x, Value) else self.constant(x, dtype) for x in operands])

    def _two(self, x: Any, y: Any) -> tuple[Value, Value]:
        x, y = self.lift(x, y)
        if x.dtype != y.dtype:
            raise AssertionError(f"{x} and {y} of different dtypes")
        return x, y

    # --- arithmetic

    def conjugate(self, x: Value) -> Value:
        return x

    def add(self, x: Any, y: Any) -> Value:
        x, y = self._two(x, y)
        return self.make("or" if x.dtype == BOOL else "add", (x, y), x.dtype)

    def subtract(self, x: Any, y: Any) -> Value:
        x, y = self._two(x, y)
        return self.make("subtract", (x, y), x.dtype)

    def multiply(self, x: Any, y: Any) -> Value:
        x, y = self._two(x, y)
        return self.make("and" if x.dtype == BOOL else "multiply", (x, y), x.dtype)

    def divide(self, x: Any, y: Any) -> Value:
        x, y = self._floats(*self._two(x, y))
        return self.make("divide", (x, y), x.dtype)

    def negative(self, x: Value) -> Value:
        return self.make("negative", (x,), x.dtype) if x.dtype.kind == "f" else self.subtract(self.constant(0, x.dtype), x)

    def absolute(self, x: Value) -> Value:
        if x.dtype.kind in "bu":
            return x
        return self.make("absolute", (x,), x.dtype) if x.dtype.kind == "f" else self.where(x < 0, -x, x)

    def square(self, x: Value) -> Value:
        return x * x

    def reciprocal(self, x: Value) -> Value:
        return self.divide(1.0, *self._floats(x))

    def sqrt(self, x: Value) -> Value:
        return self.make("sqrt", self._floats(x), x.dtype)

    def fma(self, x: Any, y: Any, z: Any) -> Value:
        """``x * y + z``, rounded once."""
        x, y, z = self.lift(x, y, z)
        return self.make("fma", (x, y, z), x.dtype)

    def scale(self, x: Value, power: Value, otherwise: Value) -> Value:
        """``x * 2**power`` for whole powers, rounded once; ``otherwise`` is the same where no instruction does it."""
        return self.make("scale", (x, power, otherwise), x.dtype)

    def maximum(self, x: Any, y: Any) -> Value:
        x, y = self._two(x, y)
        if self._is_bound(y):
            return self.where(y > x, y, x)
        return self.where(self.logical_or(x > y, self.isnan(x)), x, y)

    def minimum(self, x: Any, y: Any) -> Value:
        x, y = self._two(x, y)
        if self._is_bound(y):
            return self.where(y < x, y, x)
        return self.where(self.logical_or(x < y, self.isnan(x)), x, y)

    def _is_bound(self, x: Value) -> bool:
        """Whether it is a number that has neither a sign that could be lost nor the meaning of NaN: one instruction holds others by it."""
        number = self.number(x)
        return number is not None and number == number and number != 0

    def fmax(self, x: Any, y: Any) -> Value:
        """The larger of two, of which ``x`` is no NaN: cheaper than `maximum`."""
        x, y = self._two(x, y)
        return self.where(x > y, x, y)

    def sign(self, x: Value) -> Value:
        one, zero = self.constant(1, x.dtype), self.constant(0, x.dtype)
        below = self.where(x < 0, self.constant(-1, x.dtype), self.where(self.equal(x, 0), zero, x)) if x.dtype.kind in "if" else zero
        return self.where(x > 0, one, below)

    def floor(self, x: Value) -> Value:
        return self._rounding("floor", x)

    def ceil(self, x: Value) -> Value:
        return self._rounding("ceil", x)

    def trunc(self, x: Value) -> Value:
        return self._rounding("trunc", x)

    def rint(self, x: Value) -> Value:
        return self._rounding("rint", x)

    def copysign(self, x: Any, y: Any) -> Value:
        pair = self._floats(*self._two(x, y))
        return self.make("copysign", pair, pair[0].dtype)

    def _rounding(self, kind: str, x: Value) -> Value:
        return self.make(kind, (x,), x.dtype) if x.dtype.kind == "f" else x

    def _floats(self, *values: Value) -> tuple[Value, ...]:
        if any(x.dtype.kind != "f" for x in values):
            raise Unfusable("only floats")
        return values

    # --- comparison and choice

    def _compare(self, predicate: str, x: Any, y: Any) -> Value:
        return self.make("compare", self._two(x, y), BOOL, predicate)

    def equal(self, x: Any, y: Any) -> Value:
        return self._compare("eq", x, y)

    def not_equal(self, x: Any, y: Any) -> Value:
        return self._compare("ne", x, y)

    def greater(self, x: Any, y: Any) -> Value:
        return self._compare("gt", x, y)

    def greater_equal(self, x: Any, y: Any) -> Value:
        return self._compare("ge", x, y)

    def less(self, x: Any, y: Any) -> Value:
        return self._compare("lt", x, y)

    def less_equal(self, x: Any, y: Any) -> Value:
        return self._compare("le", x, y)

    def isnan(self, x: Value) -> Value:
        return self.not_equal(x, x) if x.dtype.kind == "f" else self.constant(False, BOOL)

    def isfinite(self, x: Value) -> Value:
        return abs(x) < np.inf if x.dtype.kind == "f" else self.constant(True, BOOL)

    def isinf(self, x: Value) -> Value:
        return self.equal(abs(x), np.inf) if x.dtype.kind == "f" else self.constant(False, BOOL)

    def where(self, condition: Value, x: Any, y: Any) -> Value:
        x, y = self._two(x, y)
        return x if x is y else self.make("select", (self.astype(condition, BOOL), x, y), x.dtype)

    def logical_and(self, x: Value, y: Value) -> Value:
        return self._logical("and", x, y)

    def logical_or(self, x: Value, y: Value) -> Value:
        if self.number(y) == 0 and y.dtype == BOOL:
            return x
        return self._logical("or", x, y)

    def logical_xor(self, x: Value, y: Value) -> Value:
        return self._logical("xor", x, y)

    def logical_not(self, x: Value) -> Value:
        return self._logical("xor", x, self.constant(True, BOOL))

    def _logical(self, kind: str, x: Value, y: Value) -> Value:
        return self.make(kind, (self.astype(x, BOOL), self.astype(y, BOOL)), BOOL)

    # --- bits and casts

    def bitwise(self, kind: str, x: Any, y: Any) -> Value:
        """An operation of bits: "and", "or", "xor"; "shl", "lshr", "ashr" by a number of bits below the width."""
        x, y = self._two(x, y)
        if x.dtype.kind not in "iub":
            raise Unfusable("only integers have bits")
        return self.make(kind, (x, y), x.dtype)

    def bitwise_and(self, x: Value, y: Value) -> Value:
        return self.bitwise("and", x, y)

    def bitwise_or(self, x: Value, y: Value) -> Value:
        return self.bitwise("or", x, y)

    def bitwise_xor(self, x: Value, y: Value) -> Value:
        return self.bitwise("xor", x, y)

    def bits(self, x: Value) -> Value:
        """The bits of a float as an integer."""
        return self.make("bitcast", (x,), INT32 if x.dtype == FLOAT32 else INT64)

    def from_bits(self, x: Value) -> Value:
        """The float of these bits."""
        return self.make("bitcast", (x,), FLOAT32 if x.dtype == INT32 else FLOAT64)

    def astype(self, x: Value, dtype: np.dtype[Any]) -> Value:
        if dtype == x.dtype:
            return x
        if dtype not in SUPPORTED:
            raise Unfusable(f"no loops over {dtype}")
        if dtype == BOOL:
            return self.not_equal(x, 0)
        if x.kind == "constant":
            return self.constant(self.number(x), dtype)
        if x.dtype.kind == "f" and dtype.kind != "f":
            raise Unfusable("floats beyond the range of integers have no defined value")
        return self.make("cast", (x,), dtype)

    # --- along a row

    def sum(self, x: Value) -> Value:
        """The sum over the row. Floats of 32 bits are added up in 64, and rounded once."""
        return self._reduce("sum", x)

    def max(self, x: Value) -> Value:
        """The largest of the row, NaN where there is one."""
        return self._reduce("max", x)

    def min(self, x: Value) -> Value:
        """The smallest of the row, NaN where there is one."""
        return self._reduce("min", x)

    def _reduce(self, kind: str, x: Value) -> Value:
        if x.dtype.kind != "f":
            raise Unfusable("only floats are summed in loops")
        value = self.make(kind, (x,), x.dtype)
        value.is_row, value.phase = True, x.phase + 1
        return value


def in_order(values: Iterable[Value]) -> list[Value]:
    """``values`` and all that they rest on, each behind its inputs."""
    seen: set[Value] = set()
    stack = list(values)
    while stack:
        value = stack.pop()
        if value not in seen:
            seen.add(value)
            stack += value.inputs
    return sorted(seen, key=lambda value: value.number)
