"""Random draws. Their values depend only on the session's seed, the node and the run's number: never on threads, order or device.

Each is made of random bits (`random_bits`), by a formula for each element (`random_values`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..graph import Tensor, no_gradient, op
from ..graph.context import current
from ..graph.op import as_array
from ..graph.spec import as_dtype, as_shape, format_shape, is_known, normalize_axes, normalize_axis
from .create import arange
from .elementwise import add, astype, broadcast_like, less, log, multiply
from .gather import take
from .init import TruncatedNormal
from .positions import argmax
from .random_bits import Draw, generator_of, random_bits, run_key_of, stream_of
from .random_values import random_exponential, random_integers, random_normal, random_permutation, random_uniform
from .reduce import size
from .shape import broadcast_to


class RandomGamma(Draw):
    """Gamma with scale 1, of the ``concentration`` that each element has."""

    shape_inputs = ()
    vjp = no_gradient("gamma draws are accepted or rejected, which is no smooth function of the concentration")

    def kernel(self, xp: Any, key: Any, *target: Any, shape: Any, dtype: Any, stream: int, **parameters: Any) -> Any:
        (concentration,) = target
        values = concentration if xp is np else concentration.get()
        if values.size and not values.min() > 0:
            raise ValueError("a concentration is not positive")
        return xp.asarray(np.asarray(generator_of(key, stream).standard_gamma(values.astype("float64")), dtype))


_gamma = op(RandomGamma)


def _bits(name: str, shape: Any, dtype: Any) -> Tensor:
    """As many random bits for each element as a number of ``dtype`` is made of."""
    target = random_bits.lift((shape,)) if isinstance(shape, Tensor) else ()
    graph = target[0].graph if target else current().graph
    checked = None if target else as_shape(shape)
    if checked is not None and not is_known(checked):
        raise ArgumentError(f"{name}: the shape must be known, got {format_shape(checked)}", help="give a tensor whose shape to take")
    kind = np.dtype("int32" if dtype == np.float32 else "int64")
    return random_bits(run_key_of(graph), *target, shape=checked, dtype=kind, stream=stream_of(graph))


def _floats(name: str, dtype: Any) -> np.dtype[Any]:
    checked = as_dtype(dtype)
    if checked not in (np.float32, np.float64):
        raise ArgumentError(f"{name}: draws are float32 or float64, not {checked}", help="cast the result")
    return checked


def uniform(shape: Any, low: Any = 0.0, high: Any = 1.0, dtype: Any = "float32") -> Tensor:
    """New uniform draws from [low, high) in every run.

    shape    ints, or a tensor whose shape is taken
    returns  float32 or float64 tensor; the same values for the same seed of the session, node and number of the run
    raises   ArgumentError for another dtype, a shape that is not known, or numbers of which low is above high

    >>> session.run(fg.random.uniform((2, 3))).shape
    (2, 3)
    """
    if isinstance(low, int | float) and isinstance(high, int | float) and low > high:
        raise ArgumentError(f"uniform: low is above high, {low} > {high}")
    low, high = (bound if isinstance(bound, Tensor | int | float) else as_array(bound, "uniform") for bound in (low, high))
    return _scaled(random_uniform(_bits("uniform", shape, _floats("uniform", dtype))), low, high - low)


def normal(shape: Any, mean: Any = 0.0, std: Any = 1.0, dtype: Any = "float32") -> Tensor:
    """New normal draws in every run, up to 6.3 standard deviations out in float32 and 8.3 in float64. Arguments as for ``uniform``.

    >>> session.run(fg.random.normal((2, 3))).shape
    (2, 3)
    """
    if isinstance(std, int | float) and std < 0:
        raise ArgumentError(f"normal: std cannot be negative, got {std}")
    return _scaled(random_normal(_bits("normal", shape, _floats("normal", dtype))), mean, std)


def truncated_normal(shape: Any, mean: Any = 0.0, std: Any = 1.0, limit: float = 2.0, dtype: Any = "float32") -> Tensor:
    """New normal draws in every run, of those less than ``limit`` standard deviations from the mean.

    limit   a number of at least 0.1

    >>> session.run(fg.random.truncated_normal((2, 3))).shape
    (2, 3)
    """
    dtype = _floats("truncated_normal", dtype)
    limit = TruncatedNormal((), dtype, limit=limit).limit  # which checks it
    return _scaled(random_normal(_bits("truncated_normal", shape, dtype), limit=limit), mean, std)


def exponential(shape: Any, scale: Any = 1.0, dtype: Any = "float32") -> Tensor:
    """New exponential draws of mean ``scale`` in every run. Arguments as for ``uniform``.

    >>> session.run(fg.random.exponential(3) >= 0)
    array([ True,  True,  True])
    """
    return _scaled(random_exponential(_bits("exponential", shape, _floats("exponential", dtype))), 0.0, scale)


def gamma(shape: Any, concentration: Any, scale: Any = 1.0, dtype: Any = "float32") -> Tensor:
    """New gamma draws in every run, without gradient by ``concentration``.

    shape          ints, or a tensor whose shape is taken
    concentration  positive number or tensor that broadcasts to it; mean and variance over the scale
    raises         in a run, ExecutionError for a concentration that is not positive

    >>> session.run(fg.random.gamma((2, 3), 2.0)).shape
    (2, 3)
    """
    dtype = _floats("gamma", dtype)
    given = astype(add.lift((concentration,))[0], dtype)
    if isinstance(shape, Tensor):
        spread = broadcast_like(given, shape)
    else:
        spread = broadcast_to(given, shape)
    key = run_key_of(spread.graph)
    return _scaled(_gamma(key, spread, shape=None, dtype=dtype, stream=stream_of(spread.graph)), 0.0, scale)


def randint(shape: Any, low: int, high: int, dtype: Any = "int64") -> Tensor:
    """New whole numbers from ``low`` to below ``high`` in every run, each as likely to a part in 2**32.

    shape   ints, or a tensor whose shape is taken
    raises  ArgumentError where there are no such numbers, or ``dtype`` does not hold them

    >>> session.run(fg.random.randint(3, 5, 6))
    array([5, 5, 5])
    """
    dtype = as_dtype(dtype)
    if dtype.kind not in "iu":
        raise ArgumentError(f"randint: the dtype must be one of integers, not {dtype}")
    bounds = np.iinfo(dtype)
    if not all(isinstance(v, int | np.integer) and not isinstance(v, bool) for v in (low, high)) or not low < high:
        raise ArgumentError(f"randint: low and high must be ints, low below high, got {low!r:.80} and {high!r:.80}")
    if low < bounds.min or high - 1 > bounds.max:
        raise ArgumentError(f"randint: {dtype} does not hold all from {low} to {high - 1}")
    low, high = int(low), int(high)
    words = [_bits("randint", shape, dtype) for _ in range(1 if high - low <= 2**32 else 2)]
    return random_integers(*words, low=low, high=high, dtype=dtype)


def bernoulli(shape: Any, probability: Any = 0.5) -> Tensor:
    """New boolean draws in every run, each true with ``probability`` (a number or a tensor that broadcasts)."""
    return less(random_uniform(_bits("bernoulli", shape, np.float32)), probability)


def categorical(logits: Any, axis: int = -1) -> Tensor:
    """New classes in every run, each drawn with the probability that the softmax of ``logits`` along ``axis`` gives it.

    logits   float tensor; -inf is never drawn
    returns  int64 tensor, without that axis

    >>> session.run(fg.random.categorical([[0.0, -np.inf], [-np.inf, 0.0]]))
    array([0, 1])
    """
    (logits,) = add.lift((logits,))
    # Of clocks that ring after exponential times, each goes off first with a probability in proportion to its rate.
    times = random_exponential(_bits("categorical", logits, np.float64 if logits.dtype == np.float64 else np.float32))
    return argmax(logits - log(times), axis=axis)


def permutation(x: Any, axis: int = 0) -> Tensor:
    """``x`` with its slices along ``axis`` in a new random order in every run; for an int, the numbers below it.

    >>> np.sort(session.run(fg.random.permutation(4)))
    array([0, 1, 2, 3])
    """
    if isinstance(x, int | np.integer) and not isinstance(x, bool):
        if x < 0:
            raise ArgumentError(f"permutation: a number of at least 0 is expected, got {x}")
        return random_permutation(_bits("permutation", (x,), np.int64))
    (x,) = add.lift((x,))
    axis = normalize_axis(axis, x.ndim)
    count = x.shape[axis]
    order = _bits("permutation", (count,) if isinstance(count, int) else arange(size(x, axis)), np.int64)
    return take(x, random_permutation(order), axis=axis)


def dropout(x: Any, rate: Any, *, shared: int | Sequence[int] = ()) -> Tensor:
    """``x`` with each element zeroed with probability ``rate`` and the others divided by ``1 - rate``, drawn anew in every run.

    rate    a number in [0, 1) or a scalar tensor: feed 0 to evaluate
    shared  axes along which elements are kept or zeroed together: (2, 3) drops whole channels of pictures (batch, channels, height, width)

    >>> session.run(fg.nn.dropout(np.ones(3), 0.0))
    array([1., 1., 1.])
    """
    (x,) = random_bits.lift((x,))
    if not isinstance(rate, Tensor) and (not isinstance(rate, int | float | np.number) or not 0 <= rate < 1):
        raise ArgumentError(f"dropout: the rate must be in [0, 1), got {rate!r:.60}")
    keep = 1.0 - rate
    together = normalize_axes(shared, x.ndim)
    target = x[tuple(slice(0, 1) if axis in together else slice(None) for axis in range(x.ndim))] if together else x
    kept = multiply(x, astype(bernoulli(target, keep), x.dtype))
    return kept / (astype(keep, x.dtype) if isinstance(keep, Tensor) else keep)


def _scaled(draws: Tensor, start: Any, scale: Any) -> Tensor:
    """``draws * scale + start``, of numbers or tensors."""
    if not (isinstance(scale, int | float) and scale == 1):
        draws = draws * scale
    return draws if isinstance(start, int | float) and start == 0 else draws + start
