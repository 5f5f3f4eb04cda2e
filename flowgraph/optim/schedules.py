"""Learning rates that change with the number of steps made.

A schedule is a function from the number of steps made so far (an integer tensor, 0 at first) to the rate of the next
one. It builds nodes, so that the rate is part of the graph: it can be fetched and drawn, and goes on where a saved
training stopped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..graph import Tensor
from ..graph.arguments import as_count
from ..ops.elementwise import astype, clip, cos, floor_divide, maximum, minimum, pow, where

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
    period = as_count(every, "every", 1)
    return lambda step: rate * pow(decay, _floating(step) / period)


def step_decay(rate: float, decay: float, *, every: int) -> Schedule:
    """``rate``, times ``decay`` after each ``every`` steps.

    >>> step = fg.placeholder("step", (None,), "int64")
    >>> session.run(fg.optim.step_decay(1.0, 0.5, every=10)(step), {step: [0, 9, 10, 25]})
    array([1.  , 1.  , 0.5 , 0.25])
    """
    rate, decay = _number(rate, "rate"), _number(decay, "decay")
    period = as_count(every, "every", 1)
    return lambda step: rate * pow(decay, floor_divide(_floating(step), period))


def linear(first: float, last: float, steps: int) -> Schedule:
    """A rate that goes from ``first`` to ``last`` in a straight line over ``steps`` steps, and stays there.

    >>> step = fg.placeholder("step", (None,), "int64")
    >>> session.run(fg.optim.linear(0.0, 0.5, 100)(step), {step: [0, 20, 100, 101]})
    array([0. , 0.1, 0.5, 0.5])
    """
    first, last, steps = _number(first, "first"), _number(last, "last"), as_count(steps, "steps", 1)

    def rate(step: Tensor) -> Tensor:
        part = minimum(_floating(step) / steps, 1.0)
        return first * (1 - part) + last * part  # the ends are exact, as first + part * (last - first) is not

    return rate


def piecewise(pieces: Mapping[int, float | Schedule]) -> Schedule:
    """Rates and schedules one after another: each from its step on, until the next one begins; a schedule counts from there.

    pieces  the step at which it begins to a rate or a schedule; one begins at 0
    raises  ArgumentError for no piece at 0, a step below 0, or a piece that is neither a rate nor a schedule

    A warm-up is a piece:

    >>> step = fg.placeholder("step", (None,), "int64")
    >>> rate = fg.optim.piecewise({0: fg.optim.linear(0.0, 0.4, 10), 10: fg.optim.cosine(0.4, 100), 110: 0.001})
    >>> session.run(rate(step), {step: [0, 5, 10, 60, 110, 500]}).round(3)
    array([0.   , 0.2  , 0.4  , 0.2  , 0.001, 0.001])
    """
    parts: list[tuple[int, float | Schedule]] = []
    if not isinstance(pieces, Mapping):
        raise ArgumentError(f"piecewise: pieces are a dict from steps to rates, got {pieces!r:.80}", help="{0: 0.1, 1000: 0.01}")
    for begin in sorted(pieces, key=lambda step: as_count(step, "the step of a piece")):
        piece = pieces[begin]
        parts.append((begin, piece if callable(piece) else _number(piece, f"the rate from step {begin} on")))
    if not parts or parts[0][0] != 0:
        raise ArgumentError(f"piecewise: no piece begins at step 0, they begin at {sorted(pieces)}", help="{0: 0.1, 1000: 0.01}")

    def rate(step: Tensor) -> Tensor:
        made: Any = None
        for begin, piece in parts:
            value = piece(maximum(step - begin, 0)) if callable(piece) else piece
            made = where(step >= begin, value, 0.0 if made is None else made)
        return astype(made, "float64")

    return rate


def _risen(peak: float, steps: Any, warmup: Any, first: Any, fall: Callable[[Tensor], Tensor]) -> Schedule:
    """A straight rise from ``first * peak`` to ``peak``, then ``fall``, a function of the part done of the way down."""
    first, warmup, steps = _number(first, "first"), _number(warmup, "warmup"), as_count(steps, "steps", 1)
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
