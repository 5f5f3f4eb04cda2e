"""First values of variables: a shape, a dtype and a distribution, drawn by the session from its seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from .graph.spec import as_dtype, as_shape

__all__ = ["Init", "constant", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "normal", "ones", "uniform", "zeros"]


@dataclass(frozen=True)
class Init:
    """What makes a variable's first value; call the functions of this module to get one.

    kind   "constant", "normal" or "uniform"
    shape  of the value; dtype of it
    a, b   the constant; mean and standard deviation; or lower and upper end
    """

    kind: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    a: float
    b: float = 0.0

    def __call__(self, generator: np.random.Generator) -> np.ndarray[Any, Any]:
        if self.kind == "constant":
            return np.full(self.shape, self.a, self.dtype)
        draw = generator.normal if self.kind == "normal" else generator.uniform
        return np.asarray(draw(self.a, self.b, self.shape)).astype(self.dtype)


def _init(kind: str, shape: Any, dtype: Any, a: float, b: float = 0.0) -> Init:
    return Init(kind, as_shape(shape), as_dtype(dtype), a, b)  # type: ignore[arg-type]


def zeros(shape: Any, dtype: Any = "float32") -> Init:
    """Zeros of ``shape``.

    >>> session.run(fg.variable(fg.init.zeros((2,)), name="b"))
    array([0., 0.], dtype=float32)
    """
    return constant(0.0, shape, dtype)


def ones(shape: Any, dtype: Any = "float32") -> Init:
    """Ones of ``shape``."""
    return constant(1.0, shape, dtype)


def constant(value: float, shape: Any, dtype: Any = "float32") -> Init:
    """``value`` everywhere."""
    return _init("constant", shape, dtype, value)


def normal(shape: Any, mean: float = 0.0, std: float = 1.0, dtype: Any = "float32") -> Init:
    """Normal draws."""
    return _init("normal", shape, dtype, mean, std)


def uniform(shape: Any, low: float = 0.0, high: float = 1.0, dtype: Any = "float32") -> Init:
    """Uniform draws from [low, high)."""
    return _init("uniform", shape, dtype, low, high)


def glorot_uniform(shape: Any, dtype: Any = "float32") -> Init:
    """Uniform within sqrt(6 / (fan_in + fan_out)): keeps variances for linear and tanh units (Glorot and Bengio, 2010)."""
    fan_in, fan_out = fans(shape)
    limit = math.sqrt(6 / (fan_in + fan_out))
    return uniform(shape, -limit, limit, dtype)


def glorot_normal(shape: Any, dtype: Any = "float32") -> Init:
    """Normal with variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010)."""
    fan_in, fan_out = fans(shape)
    return normal(shape, 0.0, math.sqrt(2 / (fan_in + fan_out)), dtype)


def he_normal(shape: Any, dtype: Any = "float32") -> Init:
    """Normal with variance 2 / fan_in: keeps variances through ReLU units (He, Zhang, Ren and Sun, 2015)."""
    return normal(shape, 0.0, math.sqrt(2 / fans(shape)[0]), dtype)


def he_uniform(shape: Any, dtype: Any = "float32") -> Init:
    """Uniform within sqrt(6 / fan_in) (He, Zhang, Ren and Sun, 2015)."""
    limit = math.sqrt(6 / fans(shape)[0])
    return uniform(shape, -limit, limit, dtype)


def fans(shape: Any) -> tuple[int, int]:
    """Inputs and outputs of one unit: of a matrix (in, out), or of filters (out, in, height, width)."""
    dims = [int(d) for d in as_shape(shape)]  # type: ignore[arg-type]
    if len(dims) < 2:
        size = dims[0] if dims else 1
        return size, size
    if len(dims) == 2:
        return max(dims[0], 1), max(dims[1], 1)
    window = math.prod(dims[2:])
    return max(dims[1] * window, 1), max(dims[0] * window, 1)
