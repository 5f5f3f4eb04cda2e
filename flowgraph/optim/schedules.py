"""Learning rates that change with the number of steps made.

A schedule is a function from the number of steps made so far (an integer tensor, 0 at first) to the rate of the next
one. It builds nodes, so that the rate is part of the graph: it can be fetched and drawn, and goes on where a saved
training stopped.
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
    """A rate that goes from ``first * peak`` to ``peak`` and down to ``last * peak``, both in straight lines.

    peak    the largest rate
    steps   of the whole training; afterwards the rate stays at ``last * peak``
    warmup  the part of the steps that goes up, at least 0 and less than 1

    Smith and Topin, Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates (2017,
    arXiv:1708.07120).

    >>> step = fg.placeholder("step", (None,), "int64")
    >>> rate = fg.optim.one_cycle(0.1, 100, warmup=0.5, first=0.0)(step)
    >>> session.run(rate, {step: [0, 25, 50, 75, 100, 200]})
    array([0.  , 0.05, 0.1 , 0.05, 0.  , 0.  ])
    """
    peak, last = _number(peak, "peak"), _number(last, "last")
    return _risen(peak, steps, warmup, first, lambda part: peak + part * ((last - 1) * peak))


def cosine(peak: float, steps: int, *, warmup: float = 0.0, first: float = 0.04, last: float = 0.0) -> Schedule:
    """A rate that goes from ``peak`` down to ``last * peak`` along half a cosine; arguments as for ``one_cycle``.

    Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts (2016, arXiv:1608.03983), eq. 5, without
    restarts.

    >>> step = fg.placeholder("step", (None,), "int64")
    >>> session.run(fg.optim.cosine(0.1, 100)(step), {step: [0, 50, 100, 200]}).round(3)
    array([0.1 , 0.05, 0.  , 0.  ])
    """
    peak, last = _number(peak, "peak"), _number(last, "last")
    swing = (1 - last) * peak / 2
    return _risen(peak, steps, warmup, first, lambda part: cos(part * math.pi) * swing + (peak - swing))


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


def _risen(peak: float, steps: Any, warmup: Any, first: Any, fall: Callable[[Tensor], Tensor]) -> Schedule:
    """A straight rise from ``first * peak`` to ``peak``, then ``fall``, a function of the part done of the way down."""
    first, warmup, steps = _number(first, "first"), _number(warmup, "warmup"), _count(steps, "steps")
    if warmup >= 1:
        raise ArgumentError(f"warmup is a part of the steps, at least 0 and less than 1, got {warmup}")
    top = warmup * steps

    def rate(step: Tensor) -> Tensor:
        k = _floating(step)
        down = fall(clip((k - top) / (steps - top), 0.0, 1.0))
        return where(k < top, first * peak + k * ((1 - first) * peak / top), down) if top else down

    return rate


def _floating(step: Tensor) -> Tensor:
    # In float64 until the optimiser casts the rate: float32 counts steps only up to 2**24.
    return astype(step, "float64")


def _number(value: Any, what: str) -> float:
    is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not is_number or not 0 <= value < math.inf:
        raise ArgumentError(f"{what} is a number, at least 0, got {value!r:.80}")
    return float(value)


def _count(value: Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ArgumentError(f"{what} is a whole number, at least 1, got {value!r:.80}")
    return int(value)
