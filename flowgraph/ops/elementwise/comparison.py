"""Comparisons and truth values: results are boolean and have no gradient."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ...errors import DtypeError
from ...graph import Tensor, no_gradient, op
from ...graph.op import public
from ..samples import LOW, binary, unary
from .base import Binary, Unary


class Comparison(Binary):
    """Base of the comparisons: the result is boolean."""

    def _constant(self, graph: Any, value: Any, partner: Any) -> Tensor:
        try:
            return super()._constant(graph, value, partner)
        except DtypeError:  # a number that the tensor's dtype cannot hold may be compared with it all the same
            return super()._constant(graph, value, None)

    in_place = False
    vjp = no_gradient("a comparison is constant between its jumps")
    samples: ClassVar[Any] = binary(edges=(-np.inf, -0.0, 0.0, 1.0, np.nan), also=LOW)


class Equal(Comparison):
    """Whether ``x == y``, element by element; a tensor's ``==`` builds it."""

    ufunc = "equal"


class NotEqual(Comparison):
    """Whether ``x != y``, element by element."""

    ufunc = "not_equal"


class Less(Comparison):
    """Whether ``x < y``, element by element."""

    ordered = True
    ufunc = "less"


class LessEqual(Comparison):
    """Whether ``x <= y``, element by element."""

    ordered = True
    ufunc = "less_equal"


class Greater(Comparison):
    """Whether ``x > y``, element by element."""

    ordered = True
    ufunc = "greater"


class GreaterEqual(Comparison):
    """Whether ``x >= y``, element by element."""

    ordered = True
    ufunc = "greater_equal"


class LogicalAnd(Comparison):
    """Whether ``x`` and ``y`` are both true (not zero), element by element."""

    ufunc = "logical_and"
    samples = binary(dtypes=("bool",))


class LogicalOr(Comparison):
    """Whether ``x`` or ``y`` is true (not zero), element by element."""

    ufunc = "logical_or"
    samples = binary(dtypes=("bool",))


class LogicalXor(Comparison):
    """Whether one of ``x`` and ``y`` is true (not zero) and the other is not, element by element."""

    ufunc = "logical_xor"
    samples = binary(dtypes=("bool",)) + binary(edges=(0.0, np.nan))


class LogicalNot(Unary):
    """Whether ``x`` is false (zero), element by element."""

    ufunc = "logical_not"
    in_place = False
    vjp = no_gradient("a truth value has no derivative")
    samples = unary(dtypes=("bool",))


equal = public(op(Equal))
not_equal = public(op(NotEqual))
less = public(op(Less))
less_equal = public(op(LessEqual))
greater = public(op(Greater))
greater_equal = public(op(GreaterEqual))
logical_and = public(op(LogicalAnd))
logical_or = public(op(LogicalOr))
logical_not = public(op(LogicalNot))
logical_xor = public(op(LogicalXor))
