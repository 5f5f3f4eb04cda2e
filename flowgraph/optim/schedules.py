"""Learning rates that change with the number of steps made.

A schedule is a function from the number of steps made so far (an integer tensor, 0 at first) to the rate of the next one. It builds
nodes, so that the rate is part of the graph, can be fetched and drawn, and goes on where a saved training stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..graph import Tensor
from ..ops.elementwise import astype, clip, cos, floor_divide, pow, where

Schedule = Callable[[Tensor], Tensor]


def one_cycle(peak: float, steps: int, *, warmup: float = 0.3, first: float = 0.04, last: float = 0.0) -> Schedule:
    """Straight up from ``first * peak`` to ``peak`` over the first part of ``steps``, and straight down to ``last * peak``.

    peak    the largest rate
    steps   of the whole training; the rate stays at ``last * peak`` after these
    warmup  the part of the steps that goes up, in [0, 1)

    Smith and Topin, Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates (2017, arXiv:1708.07120).

    >>> step = fg.placeholder("step", (None,), "int64")
    >>> rate = fg.optim.one_cycle(0.1, 100, warmup=0.5, first=0.0)(step)
    >>> session.run(rate, {step: [0, 25, 50, 75, 100, 200]})
    array([0.  , 0.05, 0.1 , 0.05, 0.  , 0.  ])
    """
    peak, first, last = _number(peak, "peak"), _number(first, "first"), _number(last, "last")
    top, end = _warm(warmup, steps)

    def rate(step: Tensor) -> Tensor:
        k = _floating(step)
        down = peak + (clip(k, top, end) - top) * ((last - 1) * peak / (end - top))
        if not top:
            return down
        return where(k < top, first * peak + k * ((1 - first) * peak / top), down)

    return rate


def cosine(peak: float, steps: int, *, warmup: float = 0.0, last: float = 0.0) -> Schedule:
    """From ``peak`` down to ``last * peak`` along half a cosine, after a straight way up from 0 over the part ``warmup`` of ``steps``.

    Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts (2016, arXiv:1608.03983), eq. 5, without restarts.

    >>> step = fg.placeholder("step", (None,), "int64")
    >>> session.run(fg.optim.cosine(0.1, 100)(step), {step: [0, 50, 100, 200]}).round(3)
    array([0.1 , 0.05, 0.  , 0.  ])
    """
    peak, last = _number(peak, "peak"), _number(last, "last")
    top, end = _warm(warmup, steps)

    def rate(step: Tensor) -> Tensor:
        k = _floating(step)
        wave = cos((clip(k, top, end) - top) * (math.pi / (end - top)))
        down = wave * ((1 - last) * peak / 2) + (1 + last) * peak / 2
        if not top:
            return down
        # The first step would move nothing at a rate of 0, so that the way up is counted from its end.
        return where(k < top, (k + 1) * (peak / (top + 1)), down)

    return rate


def exponential(rate: float, decay: float, *, every: int = 1) -> Schedule:
    """``rate * decay ** (step / every)``: it falls smoothly, by the factor ``decay`` over each ``every`` steps."""
    rate, decay = _number(rate, "rate"), _number(decay, "decay")
    period = _count(every, "every")
    return lambda step: rate * pow(decay, _floating(step) / period)


def step_decay(rate: float, decay: float, *, every: int) -> Schedule:
    """``rate``, times ``decay`` after each ``every`` steps.

    >>> step = fg.placeholder("step", (None,), "int64")
    >>> session.run(fg.optim.step_decay(1.0, 0.5, every=10)(step), {step: [0, 9, 10, 25]})
    array([1.  , 1.  , 0.5 , 0.25])
    """
    rate, decay = _number(rate, "rate"), _number(decay, "decay")
    period = _count(every, "every")
    return lambda step: rate * pow(decay, floor_divide(_floating(step), period))


def _floating(step: Tensor) -> Tensor:
    # In float64 until the optimiser casts the rate: float32 counts steps only up to 2**24.
    return astype(step, "float64")


def _warm(warmup: Any, steps: Any) -> tuple[float, int]:
    end = _count(steps, "steps")
    part = _number(warmup, "warmup")
    if part >= 1:
        raise ArgumentError(f"warmup is a part of the steps, at least 0 and less than 1, got {warmup!r}")
    return part * end, end


def _number(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating) or not 0 <= value < math.inf:
        raise ArgumentError(f"{what} is a number, at least 0, got {value!r:.80}")
    return float(value)


def _count(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ArgumentError(f"{what} is a whole number, at least 1, got {value!r:.80}")
    return int(value)
