"""Initialisers: what a variable's first value is drawn from. Each is plain data, so that a graph file can hold it.

The named ones (``he_normal`` and so on) are functions of the shape that choose the numbers of one of the distributions: ``Constant``,
``Normal``, ``TruncatedNormal``, ``Uniform``, ``Orthogonal``, ``Identity``. What they give shows the numbers that were chosen.

Fan-in and fan-out, how many numbers meet in an output and how many outputs an input reaches, are read from the shape:
(in, out) for a matrix, (out, in, *window) for a convolution's filters.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import ArgumentError, DtypeError
from ..graph.spec import as_dtype, as_shape, format_shape, is_known

Array = np.ndarray[Any, Any]

FLOAT32: np.dtype[Any] = np.dtype("float32")


class Distribution:
    """Base of them: a shape, a dtype and numbers, none of which change. Called with a NumPy generator it gives a new array of these.

    shape   ints
    dtype   a dtype of numbers, floats unless the value is constant
    raises  ArgumentError for a size or a number that is not known, DtypeError for a dtype that cannot hold the values
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __init__(self, shape: Any, dtype: Any, **numbers: Any) -> None:
        shape, dtype = as_shape(shape), as_dtype(dtype)
        if not is_known(shape):
            raise ArgumentError(f"every size of a variable must be known, got {format_shape(shape)}")
        for name, number in numbers.items():
            is_number = isinstance(number, int | float | np.integer | np.floating) and not isinstance(number, bool)
            if not is_number or not math.isfinite(number):
                raise ArgumentError(f"{name} is a finite number, got {number!r}")
            numbers[name] = float(number)
        if numbers and dtype.kind not in "fV":
            raise DtypeError(f"draws are floats, not {dtype}")
        vars(self).update(shape=shape, dtype=dtype, **numbers)

    def __call__(self, generator: np.random.Generator) -> Array:
        raise NotImplementedError

    def of_dtype(self, dtype: Any) -> Distribution:
        """The same in another dtype."""
        return type(self)(**vars(self) | {"dtype": dtype})

    @property
    def _drawn(self) -> Any:
        """The dtype to draw in: NumPy draws two, and narrower ones are rounded from the smaller of them."""
        return np.float64 if self.dtype.itemsize >= 8 else np.float32

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"the {name} of {self} cannot be changed: make another one", name=name, obj=self)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


class Constant(Distribution):
    """``value`` everywhere."""

    value: Any

    def __init__(self, shape: Any, dtype: Any = FLOAT32, value: Any = 0) -> None:
        super().__init__(shape, dtype)
        if not isinstance(value, bool | int | float | complex | np.generic):
            raise ArgumentError(f"the value is one number, got {value!r:.80}", help="fg.variable takes an array as it is")
        value = value.item() if isinstance(value, np.generic) else value
        if not np.can_cast(np.min_scalar_type(value), self.dtype, "same_kind"):
            raise DtypeError(f"{self.dtype} cannot hold {value!r}")
        vars(self).update(value=value)

    def __call__(self, generator: np.random.Generator) -> Array:
        return np.full(self.shape, self.value, self.dtype)


class Normal(Distribution):
    """Normal draws around ``mean`` with standard deviation ``std``."""

    std: float
    mean: float

    def __init__(self, shape: Any, dtype: Any = FLOAT32, std: float = 1.0, mean: float = 0.0) -> None:
        super().__init__(shape, dtype, std=std, mean=mean)
        if self.std < 0:
            raise ArgumentError(f"std cannot be negative, got {self.std}")

    def __call__(self, generator: np.random.Generator) -> Array:
        drawn = generator.standard_normal(self.shape, self._drawn)
        return np.asarray(drawn * drawn.dtype.type(self.std) + drawn.dtype.type(self.mean), self.dtype)


class Uniform(Distribution):
    """Uniform draws from [``low``, ``high``)."""

    low: float
    high: float

    def __init__(self, shape: Any, dtype: Any = FLOAT32, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__(shape, dtype, low=low, high=high)
        if self.low > self.high:
            raise ArgumentError(f"low is above high, {self.low} > {self.high}")

    def __call__(self, generator: np.random.Generator) -> Array:
        drawn = generator.random(self.shape, self._drawn)
        width = self.high - self.low
        return np.asarray(drawn * drawn.dtype.type(width) + drawn.dtype.type(self.low), self.dtype)


class TruncatedNormal(Distribution):
    """Normal draws around ``mean`` with standard deviation ``std``, drawn again where they are ``limit`` deviations away or more."""

    std: float
    mean: float
    limit: float

    def __init__(self, shape: Any, dtype: Any = FLOAT32, std: float = 1.0, mean: float = 0.0, limit: float = 2.0) -> None:
        super().__init__(shape, dtype, std=std, mean=mean, limit=limit)
        if self.std < 0:
            raise ArgumentError(f"std cannot be negative, got {self.std}")
        if self.limit < 0.1:  # below it, most draws would be in vain
            raise ArgumentError(f"limit is 0.1 standard deviations or more, got {self.limit}", help="fg.init.uniform")

    def __call__(self, generator: np.random.Generator) -> Array:
        drawn = np.asarray(generator.standard_normal(self.shape, self._drawn))
        flat = drawn.reshape(-1)
        outside = np.flatnonzero(np.abs(flat) >= self.limit)
        while outside.size:
            flat[outside] = generator.standard_normal(outside.size, self._drawn)
            outside = outside[np.abs(flat[outside]) >= self.limit]
        return np.asarray(drawn * drawn.dtype.type(self.std) + drawn.dtype.type(self.mean), self.dtype)


class _Weights(Distribution):
    """What only a matrix or filters can be filled with."""

    gain: float

    def __init__(self, shape: Any, dtype: Any = FLOAT32, gain: float = 1.0) -> None:
        super().__init__(shape, dtype, gain=gain)
        if len(self.shape) < 2:
            raise ArgumentError(f"a matrix or filters are needed, got {format_shape(self.shape)}")


class Orthogonal(_Weights):
    """A random orthogonal matrix times ``gain``: rows, or columns where those are fewer, of length ``gain`` at right angles."""

    def __call__(self, generator: np.random.Generator) -> Array:
        rows, columns = self.shape[0], math.prod(self.shape[1:])
        if not rows * columns:
            return np.zeros(self.shape, self.dtype)
        drawn = generator.standard_normal((max(rows, columns), min(rows, columns)))
        q, r = np.linalg.qr(drawn)
        # With the signs of r's diagonal, all orthogonal matrices are equally likely.
        q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
        return np.asarray((q if rows >= columns else q.T).reshape(self.shape) * self.gain, self.dtype)


class Identity(_Weights):
    """``gain`` on the diagonal and 0 elsewhere; for filters, in the middle of the window of filter i at channel i."""

    def __call__(self, generator: np.random.Generator) -> Array:
        made = np.zeros(self.shape, self.dtype)
        if made.size:
            diagonal = np.arange(min(self.shape[:2]))
            index: Any = (diagonal, diagonal, *[size // 2 for size in self.shape[2:]])
            made[index] = self.gain
        return made


def zeros(shape: Any, dtype: Any = "float32") -> Constant:
    """Zeros: the usual start of a bias.

    >>> fg.variable(fg.init.zeros((2,)), name="b")
    <Tensor b: (2,) float32>
    >>> session.run(graph["b"])
    array([0., 0.], dtype=float32)
    """
    return Constant(shape, dtype, 0)


def ones(shape: Any, dtype: Any = "float32") -> Constant:
    """Ones: the usual start of a scale."""
    return Constant(shape, dtype, 1)


def constant(value: Any, shape: Any, dtype: Any = "float32") -> Constant:
    """``value``, one number, everywhere. raises DtypeError when the dtype cannot hold it."""
    return Constant(shape, dtype, value)


def normal(shape: Any, std: float = 1.0, mean: float = 0.0, dtype: Any = "float32") -> Normal:
    """Normal draws. Their values depend on the session's seed and on the variable alone.

    >>> fg.init.normal((784, 10), std=0.01)
    Normal(shape=(784, 10), dtype=dtype('float32'), std=0.01, mean=0.0)
    """
    return Normal(shape, dtype, std, mean)


def uniform(shape: Any, low: float = 0.0, high: float = 1.0, dtype: Any = "float32") -> Uniform:
    """Uniform draws from [low, high)."""
    return Uniform(shape, dtype, low, high)


def truncated_normal(shape: Any, std: float = 1.0, mean: float = 0.0, limit: float = 2.0, dtype: Any = "float32") -> TruncatedNormal:
    """Normal draws without those ``limit`` standard deviations or more from the mean: no weight begins far out.

    std  of the normal distribution before it is cut; with a limit of 2, that of the draws is 0.88 times as large

    >>> fg.init.truncated_normal((784, 10), std=0.02)
    TruncatedNormal(shape=(784, 10), dtype=dtype('float32'), std=0.02, mean=0.0, limit=2.0)
    """
    return TruncatedNormal(shape, dtype, std, mean, limit)


def orthogonal(shape: Any, gain: float = 1.0, dtype: Any = "float32") -> Orthogonal:
    """A random orthogonal matrix times ``gain``: it keeps lengths, so that many layers or steps in a row neither grow nor fade.

    shape  of a matrix, or of filters, each of which is a row then

    Saxe, McClelland and Ganguli, Exact solutions to the nonlinear dynamics of learning in deep linear neural networks (ICLR 2014,
    arXiv:1312.6120); drawn as in Mezzadri, How to generate random matrices from the classical compact groups (2007,
    arXiv:math-ph/0609050), section 5.

    >>> w = session.run(fg.variable(fg.init.orthogonal((3, 3)), name="w"))
    >>> bool(np.allclose(w @ w.T, np.eye(3), atol=1e-6))
    True
    """
    return Orthogonal(shape, dtype, gain)


def identity(shape: Any, gain: float = 1.0, dtype: Any = "float32") -> Identity:
    """Weights with which a layer gives its input times ``gain``: a matrix, or filters.

    >>> session.run(fg.variable(fg.init.identity((2, 3)), name="w"))
    array([[1., 0., 0.],
           [0., 1., 0.]], dtype=float32)
    """
    return Identity(shape, dtype, gain)


def glorot_normal(shape: Any, dtype: Any = "float32") -> Normal:
    """Normal draws of variance ``2 / (fan_in + fan_out)``, for sigmoid, tanh and softmax.

    Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks (AISTATS 2010), eq. 12.
    """
    fan_in, fan_out = fans(shape, "glorot_normal")
    return Normal(shape, dtype, math.sqrt(2 / (fan_in + fan_out)))


def glorot_uniform(shape: Any, dtype: Any = "float32") -> Uniform:
    """Uniform draws within ``sqrt(6 / (fan_in + fan_out))`` of 0, for sigmoid, tanh and softmax.

    Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks (AISTATS 2010), eq. 16.

    >>> fg.init.glorot_uniform((100, 50))
    Uniform(shape=(100, 50), dtype=dtype('float32'), low=-0.2, high=0.2)
    """
    fan_in, fan_out = fans(shape, "glorot_uniform")
    return _within(shape, dtype, math.sqrt(6 / (fan_in + fan_out)))


def he_normal(shape: Any, dtype: Any = "float32") -> Normal:
    """Normal draws of variance ``2 / fan_in``, for ReLU.

    He, Zhang, Ren and Sun, Delving Deep into Rectifiers (2015, arXiv:1502.01852), eq. 10.

    >>> fg.init.he_normal((20, 2, 5, 5)).std            # filters: 2 * 5 * 5 numbers meet in each output
    0.2
    """
    fan_in, _ = fans(shape, "he_normal")
    return Normal(shape, dtype, math.sqrt(2 / fan_in))


def he_uniform(shape: Any, dtype: Any = "float32") -> Uniform:
    """Uniform draws within ``sqrt(6 / fan_in)`` of 0, for ReLU: of the variance of ``he_normal``.

    He, Zhang, Ren and Sun, Delving Deep into Rectifiers (2015, arXiv:1502.01852), eq. 10.
    """
    fan_in, _ = fans(shape, "he_uniform")
    return _within(shape, dtype, math.sqrt(6 / fan_in))


def lecun_normal(shape: Any, dtype: Any = "float32") -> Normal:
    """Normal draws of variance ``1 / fan_in``, which keep the variance of a linear layer.

    LeCun, Bottou, Orr and Müller, Efficient BackProp (1998), section 4.6.
    """
    fan_in, _ = fans(shape, "lecun_normal")
    return Normal(shape, dtype, math.sqrt(1 / fan_in))


def lecun_uniform(shape: Any, dtype: Any = "float32") -> Uniform:
    """Uniform draws within ``sqrt(3 / fan_in)`` of 0: of the variance of ``lecun_normal``.

    LeCun, Bottou, Orr and Müller, Efficient BackProp (1998), section 4.6.
    """
    fan_in, _ = fans(shape, "lecun_uniform")
    return _within(shape, dtype, math.sqrt(3 / fan_in))


def _within(shape: Any, dtype: Any, limit: float) -> Uniform:
    return Uniform(shape, dtype, -limit, limit)


def fans(shape: Any, what: str = "fans") -> tuple[int, int]:
    """Fan-in and fan-out of weights of ``shape``, at least 1 each; ArgumentError for fewer than two dimensions."""
    dims = as_shape(shape)
    if len(dims) < 2 or not is_known(dims):
        raise ArgumentError(
            f"{what}: fan-in and fan-out are not defined for {format_shape(dims)}",
            help="weights are (in, out), filters (out, in, height, width); for others take fg.init.normal or uniform",
        )
    sizes: list[int] = [int(d) for d in dims]  # type: ignore[arg-type]
    window = math.prod(sizes[2:])
    fan_in, fan_out = (sizes[0], sizes[1]) if len(sizes) == 2 else (sizes[1] * window, sizes[0] * window)
    return max(fan_in, 1), max(fan_out, 1)


__all__ = [
    "zeros", "ones", "constant", "normal", "truncated_normal", "uniform", "orthogonal", "identity",
    "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform",
    "Constant", "Normal", "TruncatedNormal", "Uniform", "Orthogonal", "Identity",
]  # fmt: skip
