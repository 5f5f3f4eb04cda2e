"""The rules by which optimisers update a variable, each with its source. Where PyTorch and TensorFlow differ, PyTorch's is meant."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..errors import ArgumentError
from ..graph import Tensor, control_dependencies
from ..ops.elementwise import add, astype, divide, maximum, multiply, pow, sign, sqrt, square, subtract
from .optimizer import Optimizer, Rate, Scalar, matrices


@dataclass(frozen=True, eq=False)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and weight decay as PyTorch defines them.

    rate      step size: a number, a scalar tensor, or a schedule
    momentum  how much of the velocity is kept from step to step, in [0, 1)
    nesterov  whether to look ahead along the velocity

    Weight decay, clipping and other settings are those of ``Optimizer``. For a variable w with gradient g and velocity v, which
    begins at 0:

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

    takes_complex = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(momentum=(self.momentum, 1.0))
        if self.nesterov and not self.momentum:
            raise ArgumentError("SGD: Nesterov's rule needs a momentum above 0")

    def update(self, w: Tensor, g: Tensor, *shared: Scalar) -> Mapping[Tensor, Tensor]:
        (rate,) = shared
        kept = {}
        if self.momentum:
            velocity = self.state(w, "velocity")
            faster = add(multiply(velocity, float(self.momentum)), g, name="new_velocity")
            kept[velocity] = faster
            g = add(g, multiply(faster, float(self.momentum)), name="ahead") if self.nesterov else faster
        return {**kept, w: subtract(w, multiply(g, rate), name="updated")}


@dataclass(frozen=True, eq=False)
class Adam(Optimizer):
    """Adam: steps of about ``rate`` in each element, whatever the size of the gradients.

    rate     step size: a number, a scalar tensor, or a schedule
    beta1    how much of the mean of the gradients is kept from step to step, in [0, 1)
    beta2    how much of the mean of their squares is kept, in [0, 1)
    epsilon  added to the root, so that no division is by 0

    Weight decay, clipping and other settings are those of ``Optimizer``. For a variable w with gradient g, in step t = 1, 2, ...,
    with m and v at 0 before the first:

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

    def update(self, w: Tensor, g: Tensor, *shared: Scalar) -> Mapping[Tensor, Tensor]:
        rate, root = shared
        m, v = self.state(w, "mean"), self.state(w, "square")
        mean = _mixed(m, g, self.beta1, "new_mean")
        squares = _mixed(v, square(g), self.beta2, "new_square")
        spread = add(divide(sqrt(squares), root), float(self.epsilon), name="spread")
        return {m: mean, v: squares, w: subtract(w, multiply(rate, divide(mean, spread)), name="updated")}


@dataclass(frozen=True, eq=False)
class AdamW(Adam):
    """Adam with decoupled weight decay: large gradients do not make a weight's decay smaller. Arguments as for ``Adam``.

    weight_decay  each variable that decays loses ``rate * weight_decay`` of itself in each step

    This is ``fg.optim.Adam(weight_decay=0.01, decoupled=True)``. As for all of them, vectors do not decay unless ``decays`` says so.

        w = w - rate * weight_decay * w - (the step of Adam)

    Loshchilov and Hutter, Decoupled Weight Decay Regularization (ICLR 2019, arXiv:1711.05101), algorithm 2, with the decay scaled
    by the rate, as in PyTorch.

    >>> w = fg.variable(np.ones((1, 2)), name="w")
    >>> train = fg.optim.AdamW(0.1, weight_decay=0.5).minimize(fg.sum(w * [[1.0, 0.0]]))
    >>> session.run(train)
    >>> session.variables["w"]
    array([[0.85, 0.95]])
    """

    weight_decay: float = field(default=0.01, kw_only=True)
    decoupled: bool = field(default=True, kw_only=True)
    decays: Callable[[Tensor], bool] = field(default=matrices, kw_only=True)


@dataclass(frozen=True, eq=False)
class Lion(Optimizer):
    """Lion: steps of exactly ``rate`` in each element, by the sign of a mean of gradients; half of Adam's memory.

    rate   step size, a third to a tenth of Adam's; a number, a scalar tensor, or a schedule
    beta1  how much of the mean enters the step, beside the gradient
    beta2  how much of the mean is kept from step to step

    Its weight decay is decoupled, and to be so many times larger as the rate is smaller. For a variable w with gradient g and m
    at 0 before the first step:

        w = w - rate * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * w)
        m = beta2 * m + (1 - beta2) * g

    Chen et al., Symbolic Discovery of Optimization Algorithms (NeurIPS 2023, arXiv:2302.06675), program 1.

    >>> w = fg.variable(np.array([1.0, 100.0]), name="w")
    >>> train = fg.optim.Lion(0.1).minimize(fg.sum(w * w))
    >>> session.run(train)
    >>> session.variables["w"]
    array([ 0.9, 99.9])
    """

    rate: Rate = 0.0001
    beta1: float = 0.9
    beta2: float = 0.99
    decoupled: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(beta1=(self.beta1, 1.0), beta2=(self.beta2, 1.0))

    def update(self, w: Tensor, g: Tensor, *shared: Scalar) -> Mapping[Tensor, Tensor]:
        (rate,) = shared
        m = self.state(w, "mean")
        way = sign(_mixed(m, g, self.beta1, "way"))
        with control_dependencies([way]):  # which means the m from before, and leads to the w, not to the new m
            mean = _mixed(m, g, self.beta2, "new_mean")
        return {m: mean, w: subtract(w, multiply(way, rate), name="updated")}


@dataclass(frozen=True, eq=False)
class RMSProp(Optimizer):
    """RMSProp: each element's gradient is divided by the root of the mean of its squares.

    rate      step size: a number, a scalar tensor, or a schedule
    rho       how much of the mean of the squares is kept from step to step, in [0, 1)
    momentum  how much of the velocity is kept, in [0, 1)
    centered  divide by the standard deviation instead: the mean of the gradients is kept, too
    epsilon   added to the root; TensorFlow adds it below the root

    Weight decay, clipping and other settings are those of ``Optimizer``. For a variable w with gradient g; v, m and u begin at 0:

        v = rho * v + (1 - rho) * g ** 2
        m = rho * m + (1 - rho) * g                        if centered else 0
        u = momentum * u + g / (sqrt(v - m ** 2) + epsilon)
        w = w - rate * u

    Hinton, Neural Networks for Machine Learning (2012), lecture 6e; centered: Graves, Generating Sequences With Recurrent Neural
    Networks (2013, arXiv:1308.0850), eq. 38 to 45; https://docs.pytorch.org/docs/stable/generated/torch.optim.RMSprop.html

    >>> w = fg.variable(np.array([1.0, 100.0]), name="w")
    >>> train = fg.optim.RMSProp(0.1).minimize(fg.sum(w * w))
    >>> session.run(train)
    >>> session.variables["w"].round(6)
    array([ 0., 99.])
    """

    rate: Rate = 0.01
    rho: float = 0.99
    momentum: float = 0.0
    centered: bool = False
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(rho=(self.rho, 1.0), momentum=(self.momentum, 1.0), epsilon=(self.epsilon, math.inf))

    def update(self, w: Tensor, g: Tensor, *shared: Scalar) -> Mapping[Tensor, Tensor]:
        (rate,) = shared
        v = self.state(w, "square")
        squares = _mixed(v, square(g), self.rho, "new_square")
        kept = {v: squares}
        if self.centered:
            m = self.state(w, "mean")
            kept[m] = _mixed(m, g, self.rho, "new_mean")
            squares = maximum(subtract(squares, square(kept[m])), 0.0)  # rounding could leave it below 0
        g = divide(g, add(sqrt(squares), float(self.epsilon), name="spread"))
        if self.momentum:
            velocity = self.state(w, "velocity")
            g = kept[velocity] = add(multiply(velocity, float(self.momentum)), g, name="new_velocity")
        return {**kept, w: subtract(w, multiply(g, rate), name="updated")}


@dataclass(frozen=True, eq=False)
class Adagrad(Optimizer):
    """Adagrad: each element's gradient is divided by the root of the sum of all its squares, so its steps become smaller.

    rate     step size: a number, a scalar tensor, or a schedule
    epsilon  added to the root, so that no division is by 0

    Weight decay, clipping and other settings are those of ``Optimizer``. For a variable w with gradient g, and s at 0 before the
    first step (TensorFlow begins at 0.1):

        s = s + g ** 2
        w = w - rate * g / (sqrt(s) + epsilon)

    Duchi, Hazan and Singer, Adaptive Subgradient Methods for Online Learning and Stochastic Optimization (JMLR 2011), section 1.1.

    >>> w = fg.variable(np.array([1.0, 100.0]), name="w")
    >>> train = fg.optim.Adagrad(0.1).minimize(fg.sum(w * w))
    >>> session.run(train)
    >>> session.variables["w"]
    array([ 0.9, 99.9])
    """

    rate: Rate = 0.01
    epsilon: float = 1e-10

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(epsilon=(self.epsilon, math.inf))

    def update(self, w: Tensor, g: Tensor, *shared: Scalar) -> Mapping[Tensor, Tensor]:
        (rate,) = shared
        s = self.state(w, "squares")
        squares = add(s, square(g), name="new_squares")
        moved = multiply(rate, divide(g, add(sqrt(squares), float(self.epsilon), name="spread")))
        return {s: squares, w: subtract(w, moved, name="updated")}


@dataclass(frozen=True, eq=False)
class Adadelta(Optimizer):
    """Adadelta: steps as large as those of late were, times the gradient by the root of its mean square; no rate has to be found.

    rate     what the step is multiplied by: a number, a scalar tensor, or a schedule
    rho      how much of the two means of squares is kept from step to step, in [0, 1)
    epsilon  added below both roots; sets the size of the first steps

    Weight decay, clipping and other settings are those of ``Optimizer``. For a variable w with gradient g; v and u begin at 0:

        v = rho * v + (1 - rho) * g ** 2
        d = sqrt(u + epsilon) / sqrt(v + epsilon) * g
        u = rho * u + (1 - rho) * d ** 2
        w = w - rate * d

    Zeiler, ADADELTA: An Adaptive Learning Rate Method (2012, arXiv:1212.5701), algorithm 1.

    >>> w = fg.variable(np.array([1.0, 100.0]), name="w")
    >>> train = fg.optim.Adadelta().minimize(fg.sum(w * w))
    >>> session.run(train)
    >>> session.variables["w"].round(5)
    array([ 0.99684, 99.99684])
    """

    rate: Rate = 1.0
    rho: float = 0.9
    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(rho=(self.rho, 1.0), epsilon=(self.epsilon, math.inf))

    def update(self, w: Tensor, g: Tensor, *shared: Scalar) -> Mapping[Tensor, Tensor]:
        (rate,) = shared
        v, u = self.state(w, "square"), self.state(w, "step_square")
        squares = _mixed(v, square(g), self.rho, "new_square")
        size = divide(sqrt(add(u, float(self.epsilon))), sqrt(add(squares, float(self.epsilon))))
        way = multiply(size, g, name="way")
        steps = _mixed(u, square(way), self.rho, "new_step_square")
        return {v: squares, u: steps, w: subtract(w, multiply(way, rate), name="updated")}


def _mixed(mean: Tensor, value: Tensor, keep: float, name: str) -> Tensor:
    """A running mean after one more value: ``keep`` of the old, the rest of the new."""
    return add(multiply(mean, float(keep)), multiply(value, 1 - float(keep)), name=name)
