"""Checking a gradient against finite differences: for the operations' own tests, and for users who write a gradient of their own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .autodiff import gradients
from .errors import GradientError
from .graph import Graph, Tensor
from .graph.arguments import as_function
from .ops.elementwise import add, real
from .ops.reduce import sum
from .ops.state import placeholder
from .session import Session


def check_gradient(
    function: Callable[..., Tensor | Sequence[Tensor]],
    *arrays: Any,
    order: int = 1,
    wrt: Sequence[int] | None = None,
    directions: int = 3,
    seed: int = 0,
    step: float = 1e-5,
    tolerance: float = 1e-6,
) -> float:
    """The largest disagreement between the gradient of ``function`` and central differences, along random directions in float64.

    function   takes tensors, one for each array, and returns a tensor of any shape, or several (they are weighted by random numbers
               and summed)
    arrays     where to differentiate; floats become float64, complex numbers complex128, of which both parts are moved
    order      1 for the gradient, 2 for the gradient of the gradient along a random direction, and so on
    wrt        which arrays to differentiate by; None for all floats
    tolerance  allowed difference, relative to the larger of 1 and the size of the derivatives
    returns    the largest relative difference seen
    raises     GradientError, with both numbers, the direction and the seed, when it is above ``tolerance``

    >>> fg.check_gradient(lambda x: fg.sin(x) * x, np.linspace(0, 1, 5)) < 1e-6
    True
    """
    as_function(function, "check_gradient: what is checked")
    values = [np.asarray(a) for a in arrays]
    values = [np.asarray(v, {"f": np.float64, "c": np.complex128}.get(v.dtype.kind, v.dtype)) for v in values]
    chosen = [i for i, v in enumerate(values) if v.dtype.kind in "fc"] if wrt is None else list(wrt)
    rng = np.random.default_rng(seed)
    with Graph() as graph:
        inputs = [placeholder(f"x{i}", v.shape, v.dtype) for i, v in enumerate(values)]
        y = function(*inputs)
        for _ in range(order - 1):
            # One order less: the derivative along a fixed random direction, a number for the next order to differentiate.
            y = _weighted(y, rng)
            slopes = gradients(y, [inputs[i] for i in chosen])
            y = _dot(slopes, [_normal(rng, values[i]) for i in chosen])
        y = _weighted(y, rng)
        slopes = gradients(y, [inputs[i] for i in chosen])
    worst = 0.0
    with Session(graph, threads=1) as session:
        feeds = dict(zip(inputs, values, strict=True))
        exact = session.run(slopes, feeds)
        for number in range(directions):
            along = [_normal(rng, values[i]) for i in chosen]
            ends = []
            for sign in (1, -1):
                moved = dict(feeds)
                for i, d in zip(chosen, along, strict=True):
                    moved[inputs[i]] = values[i] + sign * step * d
                ends.append(float(session.run(y, moved)))
            measured = (ends[0] - ends[1]) / (2 * step)
            analytic = float(np.sum([np.sum((s * np.conj(d)).real) for s, d in zip(exact, along, strict=True)]))
            scale = max(1.0, abs(measured), abs(analytic))
            difference = abs(measured - analytic) / scale
            if not difference <= tolerance:
                raise GradientError(
                    f"the derivative of order {order} along direction {number} (seed {seed}) is {measured:.10g} by differences, "
                    f"{analytic:.10g} by the rule: they differ by {difference:.2g}, more than {tolerance:g}"
                )
            worst = max(worst, difference)
    return worst


def _weighted(ys: Tensor | Sequence[Tensor], rng: np.random.Generator) -> Tensor:
    ys = [ys] if isinstance(ys, Tensor) else ys
    return _dot(ys, [_normal(rng, y) for y in ys])


def _normal(rng: np.random.Generator, x: Any) -> np.ndarray[Any, Any]:
    """Normal random numbers of the shape of ``x``, complex where it is."""
    normal = np.asarray(rng.standard_normal(x.shape))
    return normal + 1j * rng.standard_normal(x.shape) if x.dtype.kind == "c" else normal


def _dot(slopes: Sequence[Tensor], along: Sequence[np.ndarray[Any, Any]]) -> Tensor:
    """The slope in a direction: the sum of the products, of complex numbers as of pairs of reals."""
    parts = [sum(real(slope * np.conj(direction))) for slope, direction in zip(slopes, along, strict=True)]
    return functools.reduce(add, parts)
