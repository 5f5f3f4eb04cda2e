"""L-BFGS: a smooth loss over all data at once, minimised to many digits in few steps.

This optimiser is no node of the graph, as the others are: its line search computes the loss as often as its values ask for. So the
loop runs here, on float64 vectors, and the graph computes the loss and its gradients at the points that the loop feeds in place of the
variables. The variables themselves are written once, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..autodiff import gradients
from ..errors import ArgumentError
from ..graph import Tensor
from ..graph.arguments import as_count
from .optimizer import check_variable, several, trainable

Vector: TypeAlias = NDArray[np.float64]
Pair: TypeAlias = tuple[Vector, Vector]  # a step, and how the gradient changed over it
Point: TypeAlias = tuple[float, Vector]  # the loss, and its gradient

# A step is long enough where the loss falls by C1 of what its slope promised, and short enough where at most C2 of the slope is left.
C1, C2 = 1e-4, 0.9
EVALUATIONS = 25  # of the loss in one line search


class Runs(Protocol):
    """What a session is for this module."""

    @property
    def variables(self) -> Any: ...

    def function(self, inputs: Sequence[Tensor], outputs: Any) -> Callable[..., Any]:
        """A compiled function of arrays."""


@dataclass(frozen=True)
class LBFGSReport:
    """How a minimisation went.

    losses       the loss at the start, and after each step
    evaluations  how often the loss and its gradients were computed
    gradient     the largest element of the last gradient, without its sign
    reason       why it ended: "converged", "steps" (all were made) or "no descent" (rounding leaves no better point on the way)
    """

    losses: list[float]
    evaluations: int
    gradient: float
    reason: str


@dataclass(frozen=True)
class LBFGS:
    """L-BFGS with a line search that meets the strong Wolfe conditions; for a loss without random draws, over all data at once.

    steps      how many are made at most
    memory     how many steps of the past shape the next one; each costs twice the size of the variables
    tolerance  it has converged where no element of the gradient is larger than this

    Nocedal and Wright, Numerical Optimization (2nd ed., 2006): algorithms 7.4 (the direction), 3.5 and 3.6 (the line search, with
    cubic interpolation).

    >>> w = fg.variable(np.array([-1.2, 1.0]), name="w")
    >>> rosenbrock = 100 * (w[1] - w[0] ** 2) ** 2 + (1 - w[0]) ** 2
    >>> report = fg.optim.LBFGS().minimize(session, rosenbrock)
    >>> report.reason, session.variables["w"].round(6)
    ('converged', array([1., 1.]))
    """

    steps: int = 100
    memory: int = 10
    tolerance: float = 1e-7

    def __post_init__(self) -> None:
        for name in ("steps", "memory"):
            as_count(getattr(self, name), f"LBFGS: {name}", 1)
        if isinstance(self.tolerance, bool) or not isinstance(self.tolerance, int | float) or not self.tolerance >= 0:
            raise ArgumentError(f"LBFGS: tolerance is a number, at least 0, got {self.tolerance!r:.80}")

    def minimize(
        self,
        session: Runs,
        loss: Tensor,
        variables: Sequence[Tensor] | None = None,
        feeds: Mapping[Tensor, Any] | None = None,
    ) -> LBFGSReport:
        """Minimise ``loss`` from where the session's variables are, and leave them at the best point.

        loss       scalar tensor
        variables  which to change; None for all trainable ones that the loss depends on
        feeds      what each run is fed: all the data
        returns    ``LBFGSReport``
        raises     ArgumentError when there is nothing to change, GradientError when no gradient reaches a variable
        """
        if not isinstance(loss, Tensor):
            raise ArgumentError(f"minimize: the loss is a tensor, got {loss!r:.80}")
        chosen = trainable(loss) if variables is None else several(variables)
        for w in chosen:
            check_variable(w, "minimize")
            if w.dtype.kind == "c":
                raise ArgumentError(f"minimize: LBFGS takes real variables, {w.name} is {w.dtype}")
        problem = _Problem(session, loss, chosen, dict(feeds or {}))
        x = problem.start()
        x, report = _minimized(problem, x, self.steps, self.memory, self.tolerance)
        session.variables.update(problem.parts(x))
        return report


class _Problem:
    """The loss as a function of one vector."""

    def __init__(self, session: Runs, loss: Tensor, variables: Sequence[Tensor], feeds: dict[Tensor, Any]) -> None:
        if not variables:
            raise ArgumentError(f"minimize: {loss.name} depends on no trainable variable", help="weights are made with fg.variable(...)")
        self._session, self._variables, self._fed = session, variables, list(feeds.values())
        self._function = session.function([*variables, *feeds], [loss, *gradients(loss, variables, unconnected="error")])
        self.evaluations = 0

    def start(self) -> Vector:
        return _flat([self._session.variables[w] for w in self._variables])

    def parts(self, x: Vector) -> dict[Tensor, NDArray[Any]]:
        ends = np.cumsum([int(w.size or 0) for w in self._variables])
        pieces = np.split(x, ends[:-1])
        return {w: piece.reshape([int(d or 0) for d in w.shape]).astype(w.dtype) for w, piece in zip(self._variables, pieces)}

    def __call__(self, x: Vector) -> Point:
        self.evaluations += 1
        value, *parts = self._function(*self.parts(x).values(), *self._fed)
        return float(value), _flat(parts)


def _flat(arrays: Sequence[Any]) -> Vector:
    return np.concatenate([np.ravel(array).astype(np.float64) for array in arrays])


def _minimized(problem: Any, x: Vector, steps: int, memory: int, tolerance: float) -> tuple[Vector, LBFGSReport]:
    """Algorithm 7.5: step by step, along the directions that the last ``memory`` steps give."""
    value, g = problem(x)
    pairs: list[Pair] = []
    losses, reason = [value], "steps"

    def largest() -> float:
        return float(np.max(np.abs(g), initial=0.0))

    for _ in range(steps):
        if largest() <= tolerance:
            break
        way = direction(g, pairs)
        # Without a past, nothing is known of the scale: the first step is about as long as 1.
        length = 1.0 if pairs else min(1.0, 1.0 / float(np.sum(np.abs(g))))
        found = line_search(problem, x, way, value, g, length)
        if found is None and pairs:
            # The pairs may have misled it, as rounding spoils them near a minimum.
            pairs, way = [], -g
            found = line_search(problem, x, way, value, g, min(1.0, 1.0 / float(np.sum(np.abs(g)))))
        if found is None:
            reason = "no descent"
            break
        length, value, following = found
        step, change = length * way, following - g
        if step @ change > np.finfo(np.float64).eps * (change @ change):
            pairs = [*pairs[-memory + 1 :], (step, change)] if memory > 1 else [(step, change)]
        x, g = x + step, following
        losses.append(value)
    if largest() <= tolerance:
        reason = "converged"
    return x, LBFGSReport(losses, problem.evaluations, largest(), reason)


def direction(g: Vector, pairs: Sequence[Pair]) -> Vector:
    """Algorithm 7.4: minus the gradient ``g`` times the inverse Hessian that ``pairs``, the oldest first, tell of."""
    way = -g
    shares = []
    for step, change in reversed(pairs):
        share = (step @ way) / (step @ change)
        shares.append(share)
        way = way - share * change
    if pairs:
        step, change = pairs[-1]
        way = way * ((step @ change) / (change @ change))
    for (step, change), share in zip(pairs, reversed(shares)):
        way = way + step * (share - (change @ way) / (step @ change))
    return way


def line_search(problem: Any, x: Vector, way: Vector, value: float, g: Vector, length: float) -> tuple[float, float, Vector] | None:
    """Algorithm 3.5: a length along ``way`` that meets the strong Wolfe conditions, with loss and gradient there; None if there is none."""
    slope = float(g @ way)
    if not slope < 0:
        return None
    left = EVALUATIONS

    def at(a: float) -> tuple[float, float, Vector]:
        nonlocal left
        left -= 1
        there, gradient = problem(x + a * way)
        return there, float(gradient @ way), gradient

    def falls(a: float, there: float) -> bool:
        return there <= value + C1 * a * slope

    low: tuple[float, float, float] = (0.0, value, slope)  # length, loss, slope
    while left:
        there, inclined, gradient = at(length)
        here = (length, there, inclined)
        if not falls(length, there) or (low[0] > 0 and there >= low[1]):
            high = here
            break
        if abs(inclined) <= -C2 * slope:
            return length, there, gradient
        if inclined >= 0:
            low, high = here, low
            break
        low, length = here, 2.5 * length
    else:
        return None
    # Algorithm 3.6: the length sought lies between low, the best so far, and high.
    while left:
        length = _between(low, high)
        there, inclined, gradient = at(length)
        here = (length, there, inclined)
        if not falls(length, there) or there >= low[1]:
            high = here
        else:
            if abs(inclined) <= -C2 * slope:
                return length, there, gradient
            if inclined * (high[0] - low[0]) >= 0:
                high = low
            low = here
    return None


def _between(low: tuple[float, float, float], high: tuple[float, float, float]) -> float:
    """Where the cubic through two points with their slopes is least, kept off the ends (equation 3.59); else the middle."""
    (a, fa, da), (b, fb, db) = low, high
    middle, margin = (a + b) / 2, 0.1 * abs(b - a)
    with np.errstate(all="ignore"):
        d1 = np.float64(da) + db - 3 * (fa - np.float64(fb)) / (a - b)
        root = np.copysign(np.sqrt(d1 * d1 - da * np.float64(db)), b - a)
        least = b - (b - a) * (db + root - d1) / (db - da + 2 * root)
    if not np.isfinite(least):
        return middle
    return float(np.clip(least, min(a, b) + margin, max(a, b) - margin))
