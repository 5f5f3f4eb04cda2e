"""Whole numbers near a number."""

from __future__ import annotations

from ...graph import no_gradient, op
from ...graph.op import public
from ..samples import unary
from .base import Unary


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


floor = public(op(Floor))
ceil = public(op(Ceil))
