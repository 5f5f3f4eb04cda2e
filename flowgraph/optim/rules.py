"""The rules by which optimisers update a variable, each with its source."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import ArgumentError
from ..graph import Node, Tensor
from ..ops.elementwise import add, astype, divide, multiply, pow, sqrt, square, subtract
from ..ops.state import assign
from .optimizer import Optimizer, Rate, Scalar


@dataclass(frozen=True, eq=False)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and weight decay as PyTorch defines them.

    rate          step size: a number, a scalar tensor, or a schedule
    momentum      how much of the velocity is kept from step to step, in [0, 1)
    nesterov      whether to look ahead along the velocity
    weight_decay  so much of each variable is added to its gradient
    decays        says for a variable whether it decays; those of two dimensions or more. PyTorch: ``lambda w: True``

    For a variable w with gradient g and velocity v, which begins at 0:

        g = g + weight_decay * w
        v = momentum * v + g
        w = w - rate * (g + momentum * v  if nesterov else  v)

    https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html; Sutskever, Martens, Dahl and Hinton, On the
    importance of initialization and momentum in deep learning (ICML 2013), where the rate is part of the velocity.

    >>> w = fg.variable(np.ones(2), name="w")
    >>> train = fg.optim.SGD(0.1, momentum=0.9).minimize(fg.sum(w * w))
    >>> for _ in range(2):
    ...     session.run(train)
    >>> session.variables["w"], session.variables["train/w/velocity"]
    (array([0.46, 0.46]), array([3.4, 3.4]))
    """

    momentum: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(momentum=(self.momentum, 1.0))
        if self.nesterov and not self.momentum:
            raise ArgumentError("SGD: Nesterov's rule needs a momentum above 0")

    def update(self, w: Tensor, g: Tensor, *shared: Scalar) -> Sequence[Node]:
        (rate,) = shared
        updates = []
        if self.momentum:
            velocity = self.state(w, "velocity")
            faster = add(multiply(velocity, float(self.momentum)), g, name="new_velocity")
            updates.append(assign(velocity, faster))
            g = add(g, multiply(faster, float(self.momentum)), name="ahead") if self.nesterov else faster
        return [*updates, assign(w, subtract(w, multiply(g, rate), name="updated"))]


@dataclass(frozen=True, eq=False)
class Adam(Optimizer):
    """Adam: steps of about ``rate`` in each element, whatever the size of the gradients.

    rate     step size: a number, a scalar tensor, or a schedule
    beta1    how much of the mean of the gradients is kept from step to step, in [0, 1)
    beta2    how much of the mean of their squares is kept, in [0, 1)
    epsilon  added to the root, so that no division is by 0
    weight_decay, decays  as for SGD

    For a variable w with gradient g, in step t = 1, 2, ..., with m and v at 0 before the first:

        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g ** 2
        w = w - rate * (m / (1 - beta1 ** t)) / (sqrt(v / (1 - beta2 ** t)) + epsilon)

    Kingma and Ba, Adam: A Method for Stochastic Optimization (ICLR 2015, arXiv:1412.6980), algorithm 1.

    >>> w = fg.variable(np.array([1.0, 100.0]), name="w")
    >>> train = fg.optim.Adam(0.1).minimize(fg.sum(w * w))
    >>> session.run(train)
    >>> session.variables["w"]
    array([ 0.9, 99.9])
    """

    rate: Rate = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8

    counts_steps = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(beta1=(self.beta1, 1.0), beta2=(self.beta2, 1.0), epsilon=(self.epsilon, math.inf))

    def shared(self, rate: Scalar, step: Tensor | None) -> tuple[Scalar, ...]:
        assert step is not None, "counts_steps"
        t = astype(step, "float64") + 1
        # Scalars once a step take the two divisions out of the arrays.
        return divide(rate, 1 - pow(float(self.beta1), t)), sqrt(1 - pow(float(self.beta2), t))

    def update(self, w: Tensor, g: Tensor, *shared: Scalar) -> Sequence[Node]:
        rate, root = shared
        m, v = self.state(w, "mean"), self.state(w, "square")
        mean = add(multiply(m, float(self.beta1)), multiply(g, 1 - float(self.beta1)), name="new_mean")
        squares = add(multiply(v, float(self.beta2)), multiply(square(g), 1 - float(self.beta2)), name="new_square")
        spread = add(divide(sqrt(squares), root), float(self.epsilon), name="spread")
        moved = subtract(w, multiply(rate, divide(mean, spread)), name="updated")
        return [assign(m, mean), assign(v, squares), assign(w, moved)]
