"""Random draws. Their values depend only on the session's seed, the node and the run's number: never on threads or order.

The state is an ordinary tensor: ``run_key``, one for a graph, is fed by the session with (seed, run number) at the start of each run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..graph import Op, Spec, Tensor, Work, no_gradient, op
from ..graph.context import current, entered
from ..graph.op import Batch, as_array, by_loop
from ..graph.spec import as_dtype, as_shape, format_shape, is_known, normalize_axes, normalize_axis
from ..jit import lazy
from .batching import full
from .create import arange
from .elementwise import add, astype, broadcast_like, less, log, multiply
from .gather import take
from .init import TruncatedNormal
from .positions import argmax
from .random_device import uniform as uniform_on_device
from .reduce import size
from .shape import broadcast_to, repeat_like


class RunKey(Op):
    """The seed of the session, the number of the run, and 0, as three uint64. Its value comes from the session."""

    is_stateful = True
    vjp = no_gradient("a seed is not differentiable")

    def infer(self) -> Spec:
        return Spec((3,), np.dtype("uint64"))


class FoldKey(Op):
    """The run key of one turn of a loop: ``key`` with the turn's number mixed into its last entry."""

    vjp = no_gradient("a seed is not differentiable")
    vmap = by_loop("a key is no number to compute with")

    def infer(self, key: Any, turn: Any) -> Spec:
        return Spec((3,), np.dtype("uint64"))

    def kernel(self, xp: Any, key: Any, turn: Any) -> Any:
        seed, run, fold = (int(part) for part in key)
        # An odd multiplier (the golden ratio's) keeps the turns of nested loops apart.
        mixed = (fold * 0x9E3779B97F4A7C15 + int(turn) + 1) % 2**64
        return np.array([seed, run, mixed], np.uint64)


class Draw(Op):
    """Base: ``stream`` tells the draws of one graph apart; ``target`` gives the shape where it is not known when building."""

    is_stateful = True
    shape_inputs: tuple[int, ...] = (1,)
    vjp = no_gradient("a random draw does not depend on its seed smoothly")

    def infer(self, key: Any, *target: Any, shape: Any, dtype: Any, stream: int, **parameters: Any) -> Any:
        return Spec(target[0].shape if target else shape, dtype)

    def kernel(self, xp: Any, key: Any, *target: Any, shape: Any, dtype: Any, stream: int, **parameters: Any) -> Any:
        # The host draws for every device, so that the values are the same on all of them.
        return xp.asarray(self.draw(generator_of(key, stream), tuple(target[0].shape) if target else shape, dtype, **parameters))

    def vmap(self, batch: Batch, key: Tensor, *target: Tensor, shape: Any, **attrs: Any) -> Tensor:
        # Each entry gets values of its own: one larger draw.
        if target:
            return self(key, full(batch, target[0], 1), shape=None, **attrs)
        if isinstance(batch.size, int):
            return self(key, shape=(batch.size, *shape), **attrs)
        return self(key, repeat_like(broadcast_to(np.zeros((), bool), shape), batch.like), shape=None, **attrs)

    def draw(self, generator: np.random.Generator, *args: Any, **parameters: Any) -> Any:
        """New values of a shape and dtype, as an array of the host."""
        raise NotImplementedError


def generator_of(key: Any, stream: int) -> np.random.Generator:
    """The generator of one draw in one run, and in one turn of a loop."""
    seed, run, fold = (int(part) for part in key)
    return np.random.Generator(np.random.Philox(key=np.array([seed, run], np.uint64), counter=np.array([0, 0, fold, stream], np.uint64)))


class RandomUniform(Draw):
    """Uniform in [0, 1)."""

    def kernel(self, xp: Any, key: Any, *target: Any, out: Any = None, **attrs: Any) -> Any:
        generator, dtype = generator_of(key, attrs["stream"]), attrs["dtype"]
        if xp is np and out is not None and out.flags.c_contiguous:
            return generator.random(dtype=dtype, out=out)
        shape = tuple(target[0].shape) if target else tuple(attrs["shape"])
        if xp is np:
            drawn = np.asarray(generator.random(shape, dtype))
        else:
            seed, run, fold = (int(part) for part in key)
            drawn = uniform_on_device(xp, (seed, run, fold), attrs["stream"], shape, np.dtype(dtype))
        if out is None:
            return drawn
        out[...] = drawn
        return out

    def compiled(self, key: Any, *target: Any, shape: Any, dtype: Any, stream: int) -> Any:
        # 0.9 ns a number, where NumPy's generator, which hands out one after the other, takes 2.2.
        return lazy.draws.Uniform(dtype, stream, math.prod(target[0].shape if target else shape))

    def work(self, key: Any, *target: Any, **attrs: Any) -> Work:
        drawn = self.infer(key, *target, **attrs)
        return Work(flops=220.0 * math.prod(drawn.shape), bytes=drawn.dtype.itemsize * math.prod(drawn.shape))


class RandomNormal(Draw):
    """Standard normal."""

    def draw(self, generator: np.random.Generator, shape: Any, dtype: Any) -> Any:
        return generator.standard_normal(shape, dtype)


class RandomTruncatedNormal(Draw):
    """Standard normal, drawn again where it is ``limit`` or more from 0."""

    def draw(self, generator: np.random.Generator, shape: Any, dtype: Any, limit: float) -> Any:
        return TruncatedNormal(shape, dtype, limit=limit)(generator)


class RandomExponential(Draw):
    """Exponential with mean 1."""

    def draw(self, generator: np.random.Generator, shape: Any, dtype: Any) -> Any:
        return generator.standard_exponential(shape, dtype)


class RandomIntegers(Draw):
    """Whole numbers from ``low`` to below ``high``, each as likely."""

    def draw(self, generator: np.random.Generator, shape: Any, dtype: Any, low: int, high: int) -> Any:
        return generator.integers(low, high, shape, dtype)


class RandomPermutation(Draw):
    """The numbers below n, the last size of the shape, in random order, for each row anew."""

    def draw(self, generator: np.random.Generator, shape: Any, dtype: Any) -> Any:
        return generator.permuted(np.broadcast_to(np.arange(shape[-1], dtype=dtype), shape), axis=-1)


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


_run_key = op(RunKey)
fold_key = op(FoldKey)
_uniform = op(RandomUniform)
_normal = op(RandomNormal)
_truncated_normal = op(RandomTruncatedNormal)
_exponential = op(RandomExponential)
_integers = op(RandomIntegers)
_permutation = op(RandomPermutation)
_gamma = op(RandomGamma)


def _draw(operation: Draw, shape: Any, dtype: Any, **parameters: Any) -> Tensor:
    target = operation.lift((shape,)) if isinstance(shape, Tensor) else ()
    graph = target[0].graph if target else current().graph
    checked = None if target else as_shape(shape)
    if checked is not None and not is_known(checked):
        raise ArgumentError(
            f"{operation.name}: the shape must be known, got {format_shape(checked)}", help="give a tensor whose shape to take"
        )
    return operation(run_key_of(graph), *target, shape=checked, dtype=as_dtype(dtype), stream=stream_of(graph), **parameters)


def _floats(name: str, dtype: Any) -> np.dtype[Any]:
    checked = as_dtype(dtype)
    if checked not in (np.float32, np.float64):
        raise ArgumentError(f"{name}: draws are float32 or float64, not {checked}", help="cast the result")
    return checked


def run_key_of(graph: Any) -> Tensor:
    """The key of the draws in ``graph``: one for a graph; in a loop's body, one for each turn."""
    with graph._lock:
        if "run_key" not in graph.memo:
            with entered(graph.root):
                if not graph.is_sub:
                    graph.memo["run_key"] = _run_key()
                else:
                    key, turn = graph.capture(run_key_of(graph.parent)), graph.memo.get("turn")
                    graph.memo["run_key"] = key if turn is None else fold_key(key, turn)
        return graph.memo["run_key"]  # type: ignore[no-any-return]


def stream_of(graph: Any) -> int:
    """A number that no other draw of the graph has, nor one of a sub-graph."""
    if not graph.is_sub:
        return len(graph)
    base = graph.base
    with base._lock:
        base.memo["inner_draws"] = base.memo.get("inner_draws", 0) + 1
        return 2**32 + base.memo["inner_draws"]  # type: ignore[no-any-return]


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
    return _scaled(_draw(_uniform, shape, _floats("uniform", dtype)), low, high - low)


def normal(shape: Any, mean: Any = 0.0, std: Any = 1.0, dtype: Any = "float32") -> Tensor:
    """New normal draws in every run. Arguments as for ``uniform``.

    >>> session.run(fg.random.normal((2, 3))).shape
    (2, 3)
    """
    if isinstance(std, int | float) and std < 0:
        raise ArgumentError(f"normal: std cannot be negative, got {std}")
    return _scaled(_draw(_normal, shape, _floats("normal", dtype)), mean, std)


def truncated_normal(shape: Any, mean: Any = 0.0, std: Any = 1.0, limit: float = 2.0, dtype: Any = "float32") -> Tensor:
    """New normal draws in every run, drawn again where they are ``limit`` standard deviations or more from the mean.

    limit   a number of at least 0.1

    >>> session.run(fg.random.truncated_normal((2, 3))).shape
    (2, 3)
    """
    dtype = _floats("truncated_normal", dtype)
    limit = TruncatedNormal((), dtype, limit=limit).limit  # which checks it
    return _scaled(_draw(_truncated_normal, shape, dtype, limit=limit), mean, std)


def exponential(shape: Any, scale: Any = 1.0, dtype: Any = "float32") -> Tensor:
    """New exponential draws of mean ``scale`` in every run. Arguments as for ``uniform``.

    >>> session.run(fg.random.exponential(3) >= 0)
    array([ True,  True,  True])
    """
    return _scaled(_draw(_exponential, shape, _floats("exponential", dtype)), 0.0, scale)


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
    """New whole numbers from ``low`` to below ``high`` in every run, each as likely.

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
    return _draw(_integers, shape, dtype, low=int(low), high=int(high))


def bernoulli(shape: Any, probability: Any = 0.5) -> Tensor:
    """New boolean draws in every run, each true with ``probability`` (a number or a tensor that broadcasts)."""
    return less(_draw(_uniform, shape, "float32"), probability)


def categorical(logits: Any, axis: int = -1) -> Tensor:
    """New classes in every run, each drawn with the probability that the softmax of ``logits`` along ``axis`` gives it.

    logits   float tensor; -inf is never drawn
    returns  int64 tensor, without that axis

    >>> session.run(fg.random.categorical([[0.0, -np.inf], [-np.inf, 0.0]]))
    array([0, 1])
    """
    (logits,) = add.lift((logits,))
    # Of clocks that ring after exponential times, each goes off first with a probability in proportion to its rate.
    times = _draw(_exponential, logits, "float64" if logits.dtype == np.float64 else "float32")
    return argmax(logits - log(times), axis=axis)


def permutation(x: Any, axis: int = 0) -> Tensor:
    """``x`` with its slices along ``axis`` in a new random order in every run; for an int, the numbers below it.

    >>> np.sort(session.run(fg.random.permutation(4)))
    array([0, 1, 2, 3])
    """
    if isinstance(x, int | np.integer) and not isinstance(x, bool):
        if x < 0:
            raise ArgumentError(f"permutation: a number of at least 0 is expected, got {x}")
        return _draw(_permutation, (x,), "int64")
    (x,) = add.lift((x,))
    axis = normalize_axis(axis, x.ndim)
    count = x.shape[axis]
    order = _draw(_permutation, (count,) if isinstance(count, int) else arange(size(x, axis)), "int64")
    return take(x, order, axis=axis)


def dropout(x: Any, rate: Any, *, shared: int | Sequence[int] = ()) -> Tensor:
    """``x`` with each element zeroed with probability ``rate`` and the others divided by ``1 - rate``, drawn anew in every run.

    rate    a number in [0, 1) or a scalar tensor: feed 0 to evaluate
    shared  axes along which elements are kept or zeroed together: (2, 3) drops whole channels of pictures (batch, channels, height, width)

    >>> session.run(fg.nn.dropout(np.ones(3), 0.0))
    array([1., 1., 1.])
    """
    (x,) = _uniform.lift((x,))
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
