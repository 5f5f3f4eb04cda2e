"""Operations that act on each element by itself, with NumPy's broadcasting and dtype promotion."""

from .arithmetic import (
    abs,
    add,
    clip,
    divide,
    floor_divide,
    maximum,
    minimum,
    multiply,
    negative,
    reciprocal,
    remainder,
    share,
    sign,
    square,
    subtract,
)
from .base import Binary, Elementwise, Unary, rowwise
from .casts import astype, broadcast_like, conj, imag, like, real, real_dtype, recast, sum_like
from .comparison import (
    equal,
    greater,
    greater_equal,
    isfinite,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    not_equal,
)
from .exponential import exp, expm1, log, log1p, pow, sqrt
from .rounding import ceil, floor
from .trigonometric import cos, sin, tanh
from .where import where

__all__ = [
    "Binary", "Elementwise", "Unary", "rowwise",
    "astype", "broadcast_like", "like", "real_dtype", "recast", "share", "sum_like",
    "abs", "add", "ceil", "clip", "conj", "cos", "divide", "equal", "exp", "expm1", "floor", "floor_divide", "greater", "greater_equal",
    "imag", "isfinite", "less", "less_equal", "log", "log1p", "logical_and", "logical_not", "logical_or", "maximum", "minimum", "multiply",
    "negative", "not_equal", "pow", "real", "reciprocal", "remainder", "sign", "sin", "sqrt", "square", "subtract", "tanh", "where",
]  # fmt: skip
