"""Random draws. Their values depend only on the session's seed, the node and the run's number: never on threads or order.

The state is an ordinary tensor: ``run_key``, one for a graph, is fed by the session with (seed, run number) at the start of each run.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..graph import Op, Spec, Tensor, no_gradient, op
from ..graph.context import current, entered
from ..graph.op import by_loop
from ..graph.spec import as_dtype, as_shape, is_known
from .elementwise import astype, less

__all__ = ["bernoulli", "normal", "uniform"]


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
    shape_inputs = (1,)
    vjp = no_gradient("a random draw does not depend on its seed smoothly")

    def infer(self, key: Any, *target: Any, shape: Any, dtype: Any, stream: int) -> Spec:
        return Spec(target[0].shape if target else shape, dtype)

    def kernel(self, xp: Any, key: Any, *target: Any, shape: Any, dtype: Any, stream: int) -> Any:
        # The host draws for every device, so that the values are the same on all of them.
        seed, run, fold = (int(part) for part in key)
        generator = np.random.Generator(
            np.random.Philox(key=np.array([seed, run], np.uint64), counter=np.array([0, 0, fold, stream], np.uint64))
        )
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
fold_key = op(FoldKey)
_uniform = op(RandomUniform)
_normal = op(RandomNormal)


def _draw(operation: Draw, shape: Any, dtype: Any) -> Tensor:
    target = operation.lift((shape,)) if isinstance(shape, Tensor) else ()
    graph = target[0].graph if target else current().graph
    dtype = as_dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise ArgumentError(f"{operation.name}: draws are float32 or float64, not {dtype}", help="cast the result")
    key = run_key_of(graph)
    checked = None if target else as_shape(shape)
    if checked is not None and not is_known(checked):
        raise ArgumentError(f"{operation.name}: the shape must be known, got {checked}", help="give a tensor whose shape to take")
    return operation(key, *target, shape=checked, dtype=dtype, stream=_stream_of(graph))


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


def _stream_of(graph: Any) -> int:
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
