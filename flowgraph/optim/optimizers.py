"""Optimisers. Each turns gradients into one node that, when fetched, updates the variables at the end of the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autodiff import gradients
from ..errors import ArgumentError
from ..graph import Node, Tensor, control_dependencies, scope
from ..graph.context import current, entered
from ..ops.elementwise import astype, pow, sqrt
from ..ops.state import assign, group, is_variable, variable
from .schedules import Schedule

Pairs = Sequence[tuple[Tensor, Tensor]]


def matrices(v: Tensor) -> bool:
    """Whether weight decay applies: to matrices and filters, not to biases."""
    return v.ndim > 1 and sum(1 for d in v.shape if d != 1) > 1


def known(v: Tensor) -> tuple[int, ...]:
    """The shape of a variable, which is always known."""
    return tuple(d for d in v.shape if isinstance(d, int))


class Optimizer:
    """Base of the optimisers: the rate, the step counter of a schedule, weight decay.

    rate          a number, a scalar tensor, or a schedule (`one_cycle`...), which counts the steps in a variable of its own
    weight_decay  this times the variable is added to its gradient
    decays        which variables decay; by default those with two sizes above 1 or more, so no biases
    """

    counts_steps = False

    def __init__(
        self,
        rate: float | Tensor | Schedule,
        *,
        weight_decay: float = 0.0,
        decays: Callable[[Tensor], bool] = matrices,
    ) -> None:
        if isinstance(rate, int | float) and rate < 0:
            raise ArgumentError(f"{type(self).__name__}: the rate cannot be negative, got {rate}")
        self.rate, self.weight_decay, self.decays = rate, weight_decay, decays

    def minimize(self, loss: Tensor, variables: Sequence[Tensor] | None = None, name: str = "train") -> Node:
        """A node that updates ``variables`` against the gradient of ``loss`` whenever a run fetches it.

        variables  None for all trainable ones that the loss depends on
        raises     GradientError where a variable has no gradient, saying where the path stops; ArgumentError for no variables
        """
        chosen = _trainable(loss) if variables is None else list(variables)
        if not chosen:
            raise ArgumentError(f"minimize: {loss.name} depends on no trainable variable", help="make them with fg.variable")
        for v in chosen:
            if not is_variable(v):
                raise ArgumentError(f"minimize: variables are what fg.variable makes, got {v!r:.80}")
        slopes = gradients(loss, chosen, unconnected="error")
        return self.apply(list(zip(slopes, chosen, strict=True)), name)

    def apply(self, pairs: Pairs, name: str = "train") -> Node:
        """A node that updates each variable by the gradient beside it: ``pairs`` of (gradient, variable)."""
        if not pairs:
            raise ArgumentError("apply: no gradients to apply")
        graph = pairs[0][1].graph
        here = current()
        with entered(here if here.graph is graph else graph.root), scope(name):
            updates: list[Node] = []
            rate: Any = self.rate
            step = None
            if callable(rate) or self.counts_steps:
                step = variable(np.int64(0), name="step", trainable=False)
                if callable(rate):
                    with scope("rate"):
                        rate = rate(step)
                # The number counts once the rate has been read: said by an edge, as the engine reports reads and writes without one.
                with control_dependencies([rate] if isinstance(rate, Tensor) else []):
                    updates.append(assign(step, step + 1))
            for slope, v in pairs:
                with scope(v.name):
                    if self.weight_decay and self.decays(v):
                        slope = slope + v * self.weight_decay
                    own = astype(rate, v.dtype) if isinstance(rate, Tensor) else rate
                    updates += self.update(v, slope, own, step)
            return group(updates, "update")

    def update(self, v: Tensor, slope: Tensor, rate: Any, step: Tensor | None) -> list[Node]:
        """The updates of one variable and of what the optimiser keeps for it."""
        raise NotImplementedError


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum or Nesterov's.

    With momentum m: velocity = m * velocity + gradient; the variable moves by -rate * velocity, or for Nesterov by
    -rate * (gradient + m * velocity). This is PyTorch's form (Sutskever et al., 2013, with the rate taken out of the velocity).

    >>> w = fg.variable(4.0, name="w")
    >>> step = fg.optim.SGD(0.25).minimize(w * w)
    >>> session.run(step)
    >>> session.run(w)
    np.float64(2.0)
    """

    def __init__(self, rate: float | Tensor | Schedule, momentum: float = 0.0, nesterov: bool = False, **options: Any) -> None:
        super().__init__(rate, **options)
        if not 0 <= momentum < 1:
            raise ArgumentError(f"SGD: momentum must be in [0, 1), got {momentum}")
        if nesterov and not momentum:
            raise ArgumentError("SGD: Nesterov's method needs a momentum above 0")
        self.momentum, self.nesterov = momentum, nesterov

    def update(self, v: Tensor, slope: Tensor, rate: Any, step: Tensor | None) -> list[Node]:
        if not self.momentum:
            return [assign(v, v - slope * rate)]
        velocity = variable(np.zeros(known(v), v.dtype), name="velocity", trainable=False)
        moved = velocity * self.momentum + slope
        direction = slope + moved * self.momentum if self.nesterov else moved
        return [assign(velocity, moved), assign(v, v - direction * rate)]


class Adam(Optimizer):
    """Adam (Kingma and Ba, 2015, algorithm 1): steps by the mean of the gradient over the root of the mean of its square."""

    counts_steps = True

    def __init__(
        self,
        rate: float | Tensor | Schedule = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        **options: Any,
    ) -> None:
        super().__init__(rate, **options)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon

    def update(self, v: Tensor, slope: Tensor, rate: Any, step: Tensor | None) -> list[Node]:
        assert step is not None
        zeros = np.zeros(known(v), v.dtype)
        mean = variable(zeros, name="mean", trainable=False)
        square = variable(zeros, name="square", trainable=False)
        new_mean = mean * self.beta1 + slope * (1 - self.beta1)
        new_square = square * self.beta2 + slope * slope * (1 - self.beta2)
        count = astype(step + 1, "float64")
        right1 = astype(1 - pow(self.beta1, count), v.dtype)
        right2 = astype(1 - pow(self.beta2, count), v.dtype)
        new = v - (new_mean / right1) * rate / (sqrt(new_square / right2) + self.epsilon)
        return [assign(mean, new_mean), assign(square, new_square), assign(v, new)]


def _trainable(loss: Tensor) -> list[Tensor]:
    """The trainable variables that ``loss`` depends on, in creation order."""
    seen, stack = {loss.node.id}, [loss.node]
    while stack:
        for tensor in stack.pop().inputs:
            if tensor.node.id not in seen:
                seen.add(tensor.node.id)
                stack.append(tensor.node)
    return [v for v in loss.graph.variables if v.node.id in seen and v.node.attrs["trainable"]]
