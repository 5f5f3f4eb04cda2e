"""What every optimiser does: takes gradients, keeps its state in variables beside the graph's own, groups the updates.

Each call of ``minimize`` or ``apply`` builds in a scope of its own (``train``), with state of its own:

    train/update         the node that runs all updates
    train/step           number of steps made, where the rate or the rule depends on it
    train/rate           the rate of the next step, where it changes
    train/dense1/w/...   the update of dense1/w, and its state
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..autodiff import gradients
from ..errors import ArgumentError, GradientError, GraphError
from ..graph import Graph, Node, Tensor, control_dependencies, get_default_graph, scope
from ..graph.report import where
from ..graph.spec import format_spec
from ..ops import init
from ..ops.elementwise import add, astype, multiply
from ..ops.state import assign, group, identity, is_variable, variable
from .schedules import Schedule

Rate = float | Tensor | Schedule
Scalar = float | Tensor  # a number, or a tensor of shape ()


def matrices(w: Tensor) -> bool:
    """Whether ``w`` has two dimensions or more, as matrices and filters have, and biases and scales have not."""
    return w.ndim > 1


@dataclass(frozen=True, eq=False)
class Optimizer:
    """Base of the optimisers: a rule for one variable, applied to many.

    rate          step size: a number, a scalar tensor (a placeholder, say), or a schedule (``fg.optim.one_cycle(...)``)
    weight_decay  so much of each variable is added to its gradient
    decays        says for a variable whether it decays: ``fg.optim.matrices`` for those of two dimensions or more, so
                  no biases; ``lambda w: True`` for all, which is what PyTorch does

    A subclass is a dataclass of its settings, and says in ``update`` what happens to a variable:

    >>> class SignDescent(fg.optim.Optimizer):
    ...     def update(self, w, g, rate):
    ...         return [fg.assign(w, w - rate * fg.sign(g))]
    >>> w = fg.variable(1.0, name="w")
    >>> train = SignDescent(0.25).minimize(w * w)
    >>> session.run(train)
    >>> session.run(w)
    np.float64(0.75)
    """

    rate: Rate
    weight_decay: float = field(default=0.0, kw_only=True)
    decays: Callable[[Tensor], bool] = field(default=matrices, kw_only=True)

    counts_steps: ClassVar[bool] = False  # whether the rule itself depends on the number of the step

    def __post_init__(self) -> None:
        what = type(self).__name__
        if isinstance(self.rate, Tensor):
            if self.rate.shape != () or self.rate.dtype.kind not in "fiu":
                spec = format_spec(self.rate.shape, self.rate.dtype)
                raise ArgumentError(f"{what}: the rate is one number, {self.rate.name} is {spec}")
        elif not callable(self.rate):
            self.check(rate=(self.rate, math.inf))
        self.check(weight_decay=(self.weight_decay, math.inf))
        if not callable(self.decays):
            raise ArgumentError(f"{what}: decays is a function of a variable, got {self.decays!r:.80}")

    def minimize(self, loss: Tensor, variables: Sequence[Tensor] | None = None, name: str = "train") -> Node:
        """A node that makes one step downhill: a run that fetches it updates the variables, and gives None for it.

        loss       scalar tensor
        variables  which to update; None for all trainable ones that the loss depends on
        name       of the scope that holds the updates; gets a number where there is one of that name already
        raises     ArgumentError when there is nothing to update, GradientError when no gradient reaches a variable

        >>> w = fg.variable(4.0, name="w")
        >>> train = fg.optim.SGD(0.25).minimize(w * w)
        >>> session.run([w, train]), session.run(w)
        ([np.float64(4.0), None], np.float64(2.0))
        """
        if not isinstance(loss, Tensor):
            raise ArgumentError(f"minimize: the loss is a tensor, got {loss!r:.80}")
        chosen = _trainable(loss) if variables is None else list(variables)
        for w in chosen:
            _check_variable(w, "minimize")
        if not chosen:
            raise ArgumentError(
                f"minimize: {loss.name} depends on no trainable variable" if variables is None else "minimize: no variables",
                rows=[("loss", f"{loss.name}, made at {where(loss.node.location)}")],
                help="weights are made with fg.variable(...)",
            )
        return self.apply(zip(gradients(loss, chosen, unconnected="error"), chosen, strict=True), name)

    def apply(self, gradients_and_variables: Iterable[tuple[Any, Tensor]], name: str = "train") -> Node:
        """The second half of ``minimize``: a node that updates each variable by the gradient beside it.

        gradients_and_variables  pairs of a tensor and a variable of the same shape and dtype
        name                     as for ``minimize``
        raises                   ArgumentError for no pairs, or a variable twice; GradientError where a gradient is None

        Between the two halves, gradients may be clipped, added up or replaced.

        >>> w = fg.variable(4.0, name="w")
        >>> (g,) = fg.gradients(w * w, [w])
        >>> train = fg.optim.SGD(0.25).apply([(fg.clip(g, -1, 1), w)])
        >>> session.run(train)
        >>> session.run(w)
        np.float64(3.75)
        """
        pairs = list(gradients_and_variables)
        _check_pairs(pairs)
        graph = pairs[0][1].graph
        if isinstance(self.rate, Tensor) and self.rate.graph is not graph:
            raise GraphError(f"apply: the rate {self.rate.name} belongs to another graph than {pairs[0][1].name}")
        with _within(graph):
            name = _unused(name)
            with scope(name):
                return group(list(self._updates(pairs)), "update")

    def shared(self, rate: Scalar, step: Tensor | None) -> tuple[Scalar, ...]:
        """What ``update`` needs beside variable and gradient, the same for all: the rate, and what a rule adds.

        step  number of steps made so far, an int64 tensor; None where neither the rate nor the rule counts steps
        """
        return (rate,)

    def update(self, w: Tensor, g: Tensor, *shared: Scalar) -> Sequence[Node]:
        """The updates of the variable ``w`` with gradient ``g``: of itself, and of the state kept for it.

        shared  what ``shared`` gives, its tensors cast to the dtype of w
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how a variable is updated")

    def state(self, w: Tensor, name: str) -> Tensor:
        """A new variable of the shape and dtype of ``w``, zeros at first, for what ``update`` keeps."""
        return variable(init.zeros(w.shape, w.dtype), name=name, trainable=False)

    def check(self, **settings: tuple[Any, float]) -> None:
        """Raises ArgumentError unless each setting, given with its limit, is a number from 0 up to below the limit."""
        for name, (value, limit) in settings.items():
            is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
            if not is_number or not 0 <= value < limit:
                below = "" if limit == math.inf else f" and less than {limit:g}"
                raise ArgumentError(f"{type(self).__name__}: {name} is a number, at least 0{below}, got {value!r:.80}")

    def _updates(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> Iterator[Node]:
        step = variable(np.int64(0), name="step", trainable=False) if self.counts_steps or callable(self.rate) else None
        shared = self.shared(self._rate(step), step)
        cast: dict[Any, list[Scalar]] = {}
        for g, w in pairs:
            if w.dtype not in cast:
                # A number takes the dtype of the tensor that it meets; a float64 tensor would widen it.
                cast[w.dtype] = [astype(s, w.dtype) if isinstance(s, Tensor) else s for s in shared]
            with scope("/".join(filter(None, w.name.split("/")))):
                if self.weight_decay and self.decays(w):
                    g = add(g, multiply(w, float(self.weight_decay)), name="decayed")
                yield from self.update(w, g, *cast[w.dtype])
        if step is not None:
            # All that reads the step leads to what is shared: the edge says that the number from before is meant.
            with control_dependencies([s for s in shared if isinstance(s, Tensor)]):
                yield assign(step, step + 1)

    def _rate(self, step: Tensor | None) -> Scalar:
        if isinstance(self.rate, Tensor):
            return self.rate
        if not callable(self.rate):
            return float(self.rate)
        assert step is not None
        with scope("schedule"):
            rate: Any = self.rate(step)
        if not isinstance(rate, Tensor) or rate.shape != ():
            raise ArgumentError(f"{type(self).__name__}: a schedule makes a scalar tensor of a scalar tensor, got {rate!r:.80}")
        return identity(rate, name="rate")


def _trainable(loss: Tensor) -> list[Tensor]:
    """The trainable variables of floats that ``loss`` is computed from, in the order of making."""
    seen, stack = {loss.node}, [loss.node]
    while stack:
        for tensor in stack.pop().inputs:
            if tensor.node not in seen:
                seen.add(tensor.node)
                stack.append(tensor.node)
    return [w for w in loss.graph.variables if w.node in seen and w.node.attrs["trainable"] and w.dtype.kind in "fcV"]


def _check_pairs(pairs: Sequence[Any]) -> None:
    if not pairs:
        raise ArgumentError("apply: there are no gradients and variables")
    seen: set[Tensor] = set()
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ArgumentError(f"apply: takes pairs of a gradient and a variable, got {pair!r:.80}")
        g, w = pair
        _check_variable(w, "apply")
        if w in seen:
            raise ArgumentError(f"apply: {w.name} is updated twice", help="add up its gradients")
        seen.add(w)
        if g is None:
            raise GradientError(f"apply: there is no gradient for {w.name}", help="leave the pair out")
        if not isinstance(g, Tensor):
            raise ArgumentError(f"apply: the gradient for {w.name} is a tensor, got {g!r:.80}")
        if g.graph is not w.graph or w.graph is not pairs[0][1].graph:
            raise GraphError(f"apply: {g.name} and {w.name} belong to two graphs")


def _check_variable(w: Any, what: str) -> None:
    if not is_variable(w):
        raise ArgumentError(f"{what}: only variables are updated, got {w!r:.80}", help="fg.variable(...) makes one")


@contextmanager
def _within(graph: Graph) -> Iterator[None]:
    """Builds in ``graph``, in the current scope if that is the current graph."""
    if get_default_graph() is graph:
        yield
    else:
        with graph:
            yield


def _unused(name: str) -> str:
    """``name``, or ``name_1`` and so on where the current scope has something of that name."""
    graph, number, free = get_default_graph(), 0, name
    while True:
        with scope(free) as path:
            if f"{path}/update" not in graph:
                return free
        number += 1
        free = f"{name}_{number}"
