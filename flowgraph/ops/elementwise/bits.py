"""Operations on the bits of integers; of booleans, on their one bit."""

from __future__ import annotations

from typing import Any, ClassVar

from ...graph import no_gradient, op
from ...graph.op import public
from ..samples import binary, unary
from .base import Binary, Unary


class Bitwise(Binary):
    """Base of those of two inputs."""

    vjp = no_gradient("integers have no gradient")
    samples: ClassVar[Any] = (
        binary((-9, 9), dtypes=("int64",)) + binary((0, 9), dtypes=("uint8", "int32")) + binary(dtypes=("bool", "bool"))
    )


class BitwiseAnd(Bitwise):
    """The bits that ``x`` and ``y`` both have, element by element; a tensor's ``&`` builds it.

    raises  DtypeError for floats

    >>> session.run(fg.bitwise_and([6, 7], 3))
    array([2, 3])
    """

    ufunc = "bitwise_and"


class BitwiseOr(Bitwise):
    """The bits that ``x`` or ``y`` has, element by element; a tensor's ``|`` builds it."""

    ufunc = "bitwise_or"


class BitwiseXor(Bitwise):
    """The bits that one of ``x`` and ``y`` has and the other has not, element by element; a tensor's ``^`` builds it."""

    ufunc = "bitwise_xor"


class BitwiseInvert(Unary):
    """The bits that ``x`` does not have, element by element; for booleans, not ``x``. A tensor's ``~`` builds it."""

    ufunc = "invert"
    vjp = no_gradient("integers have no gradient")
    samples = unary((-9, 9), dtypes=("int64",)) + unary(dtypes=("bool",)) + unary((0, 9), dtypes=("uint8",))


class Shift(Binary):
    """Base of the shifts."""

    vjp = no_gradient("integers have no gradient")
    samples: ClassVar[Any] = binary((-9, 9), (0, 5), dtypes=("int64",)) + binary((0, 9), (0, 5), dtypes=("uint8", "uint8"))


class BitwiseLeftShift(Shift):
    """``x * 2**y`` by moving bits, element by element; a tensor's ``<<`` builds it. ``y`` is not negative."""

    ufunc = "left_shift"


class BitwiseRightShift(Shift):
    """``x // 2**y`` by moving bits, element by element; a tensor's ``>>`` builds it. ``y`` is not negative."""

    ufunc = "right_shift"


bitwise_and = public(op(BitwiseAnd))
bitwise_or = public(op(BitwiseOr))
bitwise_xor = public(op(BitwiseXor))
bitwise_invert = public(op(BitwiseInvert), "bitwise_invert", "invert")
bitwise_left_shift = public(op(BitwiseLeftShift), "bitwise_left_shift", "left_shift")
bitwise_right_shift = public(op(BitwiseRightShift), "bitwise_right_shift", "right_shift")
