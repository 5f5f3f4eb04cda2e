"""Operations that act on each element by itself, with NumPy's broadcasting and dtype promotion."""

from .arithmetic import abs, add, divide, floor_divide, fmod, multiply, negative, positive, reciprocal, remainder, sign, square, subtract
from .base import Binary, Elementwise, Unary, rowwise
from .bits import bitwise_and, bitwise_invert, bitwise_left_shift, bitwise_or, bitwise_right_shift, bitwise_xor
from .casts import astype, broadcast_like, conj, imag, like, real, real_dtype, recast, sum_like
from .comparison import equal, greater, greater_equal, less, less_equal, logical_and, logical_not, logical_or, logical_xor, not_equal
from .exponential import cbrt, exp, exp2, exp_difference, expm1, log, log1p, log2, log10, logaddexp, pow, sqrt
from .extremes import clip, maximum, minimum
from .floating import copysign, isclose, isfinite, isinf, isnan, largest_finite, nan_to_num, nextafter, signbit
from .rounding import ceil, floor, round, trunc
from .sinc import sinc
from .trigonometric import acos, acosh, angle, asin, asinh, atan, atan2, atanh, cos, cosh, deg2rad, hypot, rad2deg, sin, sinh, tan, tanh
from .where import where

__all__ = [
    "Binary", "Elementwise", "Unary", "rowwise", "broadcast_like", "like", "real_dtype", "recast", "sum_like", "exp_difference",
    "largest_finite",
    "abs", "acos", "acosh", "add", "angle", "asin", "asinh", "astype", "atan", "atan2", "atanh", "bitwise_and", "bitwise_invert",
    "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "cbrt", "ceil", "clip", "conj", "copysign", "cos", "cosh",
    "deg2rad", "divide", "equal", "exp", "exp2", "expm1", "floor", "floor_divide", "fmod", "greater", "greater_equal", "hypot", "imag",
    "isclose", "isfinite", "isinf", "isnan", "less", "less_equal", "log", "log10", "log1p", "log2", "logaddexp", "logical_and",
    "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "multiply", "nan_to_num", "negative", "nextafter", "not_equal",
    "positive", "pow", "rad2deg", "real", "reciprocal", "remainder", "round", "sign", "signbit", "sin", "sinc", "sinh", "sqrt", "square",
    "subtract", "tan", "tanh", "trunc", "where",
]  # fmt: skip
