"""Random draws. Their values depend only on the session's seed, the node and the run's number: never on threads or order.

The state is an ordinary tensor: ``run_key``, one for a graph, is fed by the session with (seed, run number) at the start of each run.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..graph import Op, Spec, Tensor, no_gradient, op
from ..graph.context import current
from ..graph.spec import as_dtype, as_shape, is_known
from .elementwise import astype, less

__all__ = ["bernoulli", "normal", "uniform"]


class RunKey(Op):
    """The seed of the session and the number of the run, as two uint64. Its value comes from the session."""

    is_stateful = True
    vjp = no_gradient("a seed is not differentiable")

    def infer(self) -> Spec:
        return Spec((2,), np.dtype("uint64"))


class Draw(Op):
    """Base: ``stream`` tells the draws of one graph apart; ``target`` gives the shape where it is not known when building."""

    is_stateful = True
    shape_inputs = (1,)
    vjp = no_gradient("a random draw does not depend on its seed smoothly")

    def infer(self, key: Any, *target: Any, shape: Any, dtype: Any, stream: int) -> Spec:
        return Spec(target[0].shape if target else shape, dtype)

    def kernel(self, xp: Any, key: Any, *target: Any, shape: Any, dtype: Any, stream: int) -> Any:
        # The host draws for every device, so that the values are the same on all of them.
        seed, run = (int(part) for part in key)
        generator = np.random.Generator(np.random.Philox(key=[seed, run], counter=[0, 0, 0, stream]))
        return xp.asarray(self.draw(generator, target[0].shape if target else shape, dtype))

    def draw(self, generator: np.random.Generator, shape: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        raise NotImplementedError


class RandomUniform(Draw):
    """Uniform in [0, 1)."""

    def draw(self, generator: np.random.Generator, shape: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        return generator.random(shape, dtype)  # type: ignore[no-any-return]


class RandomNormal(Draw):
    """Standard normal."""

    def draw(self, generator: np.random.Generator, shape: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        return generator.standard_normal(shape, dtype)  # type: ignore[no-any-return]


_run_key = op(RunKey)
_uniform = op(RandomUniform)
_normal = op(RandomNormal)


def _draw(operation: Draw, shape: Any, dtype: Any) -> Tensor:
    target = (shape,) if isinstance(shape, Tensor) else ()
    graph = shape.graph if isinstance(shape, Tensor) else current().graph
    dtype = as_dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise ArgumentError(f"{operation.name}: draws are float32 or float64, not {dtype}", help="cast the result")
    with graph._lock:
        if "run_key" not in graph.memo:
            with graph:
                graph.memo["run_key"] = _run_key()
        key = graph.memo["run_key"]
    checked = None if target else as_shape(shape)
    if checked is not None and not is_known(checked):
        raise ArgumentError(f"{operation.name}: the shape must be known, got {checked}", help="give a tensor whose shape to take")
    return operation(key, *target, shape=checked, dtype=dtype, stream=len(graph))


def uniform(shape: Any, low: Any = 0.0, high: Any = 1.0, dtype: Any = "float32") -> Tensor:
    """New uniform draws from [low, high) in every run.

    shape    ints, or a tensor whose shape is taken
    returns  float32 or float64 tensor; the same values for the same seed of the session, node and number of the run

    >>> session.run(fg.random.uniform((2, 3))).shape
    (2, 3)
    """
    unit = _draw(_uniform, shape, dtype)
    return unit if (low, high) == (0.0, 1.0) else unit * (high - low) + low


def normal(shape: Any, mean: Any = 0.0, std: Any = 1.0, dtype: Any = "float32") -> Tensor:
    """New normal draws in every run. Arguments as for ``uniform``.

    >>> session.run(fg.random.normal((2, 3))).shape
    (2, 3)
    """
    standard = _draw(_normal, shape, dtype)
    return standard if (mean, std) == (0.0, 1.0) else standard * std + mean


def bernoulli(shape: Any, probability: Any = 0.5) -> Tensor:
    """New boolean draws in every run, each true with ``probability`` (a number or a tensor that broadcasts)."""
    return less(_draw(_uniform, shape, "float32"), probability)


def dropout(x: Tensor, rate: Any) -> Tensor:
    """``x`` with each element zeroed with probability ``rate`` and the others divided by ``1 - rate``, drawn anew in every run.

    rate  a number in [0, 1) or a scalar tensor: feed 0 to evaluate

    >>> session.run(fg.nn.dropout(np.ones(3), 0.0))
    array([1., 1., 1.])
    """
    (x,) = _uniform.lift((x,))
    if isinstance(rate, int | float) and not 0 <= rate < 1:
        raise ArgumentError(f"dropout: the rate must be in [0, 1), got {rate}")
    keep = 1.0 - rate
    return x * astype(bernoulli(x, keep), x.dtype) / (astype(keep, x.dtype) if isinstance(keep, Tensor) else keep)
