"""Comparisons, truth values and what kind of number an element is: results are boolean and have no gradient."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ...graph import no_gradient, op
from ...graph.op import public
from ..samples import binary, unary
from .base import Binary, Unary


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
