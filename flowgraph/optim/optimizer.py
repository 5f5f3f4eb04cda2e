"""What every optimiser does: takes gradients, applies a rule to each variable, keeps its state in variables beside the graph's own.

An optimiser is a rule (`rules.py`) and its slots, the variables that a rule keeps for each weight. All that does not depend on
the rule is here: clipping, decay, rates, accumulation.

Each call of ``minimize`` or ``apply`` builds in a scope of its own (``train``), with state of its own:

    train/update         the node that runs all updates
    train/step           number of steps made, where the rate or the rule depends on it
    train/rate           the rate of the next step, where it changes
    train/norm           the norm of all gradients, where it is clipped
    train/dense1/w/...   the update of dense1/w, and its state
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..autodiff import gradients
from ..errors import ArgumentError, GradientError, GraphError, ShapeError
from ..graph import Graph, Node, Tensor, control_dependencies, device, get_default_graph, scope
from ..graph.arguments import call
from ..graph.report import of_another_graph, where
from ..graph.spec import format_spec, may_be_equal
from ..ops import init
from ..ops.elementwise import add, astype, clip, divide, equal, maximum, multiply, sqrt, square, subtract
from ..ops.elementwise import where as choose
from ..ops.reduce import sum
from ..ops.state import assign, group, identity, is_variable, variable
from .schedules import Schedule

Rate = float | Tensor | Schedule
Scalar = float | Tensor  # a number, or a tensor of shape ()


def matrices(w: Tensor) -> bool:
    """Whether ``w`` has two dimensions or more, as matrices and filters have, and biases and scales have not."""
    return w.ndim > 1


@dataclass(frozen=True, eq=False)
class Optimizer:
    """Base of the optimisers: a rule for one variable, applied to many. What stands here can be given to each of them.

    rate          step size: a number, a scalar tensor (a placeholder, say), or a schedule (``fg.optim.one_cycle(...)``)
    weight_decay  so much of each variable is added to its gradient; 0 for none
    decoupled     decay is not seen by the rule: each variable loses ``rate * weight_decay`` of itself beside the rule's step
    decays        says for a variable whether it decays: ``fg.optim.matrices`` for those of two dimensions or more, so
                  no biases; ``lambda w: True`` for all, which is what PyTorch does
    scales        says for a variable by what the rate is multiplied: ``lambda w: 0.1 if w.name.startswith("body/") else 1.0``
    clip_value    each number of a gradient is held within plus and minus this
    clip_norm     where the norm of all gradients together is larger, all are scaled down to it
    accumulate    so many runs make one step, with the mean of their gradients: as one run would with so many times the batch

    The order is: accumulate, clip the values, clip the norm, decay, then the rule.

    Decoupled decay: Loshchilov and Hutter, Decoupled Weight Decay Regularization (ICLR 2019, arXiv:1711.05101). Clipping:
    Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural networks (ICML 2013), algorithm 1.

    A subclass is a dataclass of its settings, and says in ``update`` which new values follow from a gradient:

    >>> class SignDescent(fg.optim.Optimizer):
    ...     def update(self, w, g, rate):
    ...         return {w: w - rate * fg.sign(g)}
    >>> w = fg.variable(1.0, name="w")
    >>> train = SignDescent(0.25).minimize(w * w)
    >>> session.run(train)
    >>> session.run(w)
    np.float64(0.75)
    """

    rate: Rate
    weight_decay: float = field(default=0.0, kw_only=True)
    decoupled: bool = field(default=False, kw_only=True)
    decays: Callable[[Tensor], bool] = field(default=matrices, kw_only=True)
    scales: Callable[[Tensor], float] | None = field(default=None, kw_only=True)
    clip_value: float | None = field(default=None, kw_only=True)
    clip_norm: float | None = field(default=None, kw_only=True)
    accumulate: int = field(default=1, kw_only=True)

    counts_steps: ClassVar[bool] = False  # whether the rule itself depends on the number of the step
    takes_complex: ClassVar[bool] = False  # whether the rule is right for complex numbers: it takes no squares or signs

    def __post_init__(self) -> None:
        what = type(self).__name__
        if isinstance(self.rate, Tensor):
            if self.rate.shape != () or self.rate.dtype.kind not in "fiu":
                spec = format_spec(self.rate.shape, self.rate.dtype)
                raise ArgumentError(f"{what}: the rate is one number, {self.rate.name} is {spec}")
        elif not callable(self.rate):
            self.check(rate=(self.rate, math.inf))
        self.check(weight_decay=(self.weight_decay, math.inf))
        for name in ("clip_value", "clip_norm"):
            if (limit := getattr(self, name)) is not None:
                self.check(**{name: (limit, math.inf)})
        for name in ("decays", "scales"):
            if (function := getattr(self, name)) is not None and not callable(function):
                raise ArgumentError(f"{what}: {name} is a function of a variable, got {function!r:.80}")
        if isinstance(self.accumulate, bool) or not isinstance(self.accumulate, int) or self.accumulate < 1:
            raise ArgumentError(f"{what}: accumulate is a number of runs, at least 1, got {self.accumulate!r:.80}")

    def minimize(self, loss: Tensor, variables: Sequence[Tensor] | None = None, name: str = "train", *, recompute: Any = None) -> Node:
        """A node that makes one step downhill: a run that fetches it updates the variables, and gives None for it.

        loss       scalar tensor
        variables  which to update; None for all trainable ones that the loss depends on
        name       of the scope that holds the updates; gets a number where there is one of that name already
        recompute  which forward tensors to keep for the gradients; see `fg.gradients`
        raises     ArgumentError when there is nothing to update, GradientError when no gradient reaches a variable

        >>> w = fg.variable(4.0, name="w")
        >>> train = fg.optim.SGD(0.25).minimize(w * w)
        >>> session.run([w, train]), session.run(w)
        ([np.float64(4.0), None], np.float64(2.0))
        """
        if not isinstance(loss, Tensor):
            raise ArgumentError(f"minimize: the loss is a tensor, got {loss!r:.80}")
        chosen = trainable(loss) if variables is None else several(variables)
        for w in chosen:
            check_variable(w, "minimize")
        if not chosen:
            raise ArgumentError(
                f"minimize: {loss.name} depends on no trainable variable" if variables is None else "minimize: no variables",
                rows=[("loss", f"{loss.name}, made at {where(loss.node.location)}")],
                help="weights are made with fg.variable(...)",
            )
        return self.apply(zip(gradients(loss, chosen, unconnected="error", recompute=recompute), chosen, strict=True), name)

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
        pairs = [gradients_and_variables] if isinstance(gradients_and_variables, Tensor) else list(gradients_and_variables)
        _check_pairs(pairs)
        graph = pairs[0][1].graph
        if isinstance(self.rate, Tensor) and self.rate.graph is not graph:
            rows, help = of_another_graph(self.rate)
            raise GraphError(f"apply: the rate, {self.rate.name}, belongs to another graph than {pairs[0][1].name}", rows=rows, help=help)
        with within(graph):
            name = unused(name)
            with scope(name):
                return group(list(self._updates(pairs)), "update")

    def shared(self, rate: Scalar, step: Tensor | None) -> tuple[Scalar, ...]:
        """What ``update`` needs beside variable and gradient, the same for all: the rate, and what a rule adds.

        step  number of steps made so far, an int64 tensor; None where neither the rate nor the rule counts steps
        """
        return (rate,)

    def update(self, w: Tensor, g: Tensor, *shared: Scalar) -> Mapping[Tensor, Tensor]:
        """The rule: what becomes of the variable ``w`` with gradient ``g``, and of the state kept for it; variable to new value.

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
        for _, w in pairs:
            if w.dtype.kind == "c" and not self.takes_complex:
                raise ArgumentError(
                    f"{type(self).__name__}: {w.name} is {w.dtype}, and the rule is for real numbers",
                    help="fg.optim.SGD takes complex variables; or keep the real and the imaginary part in a variable each",
                )
        step = variable(np.int64(0), name="step", trainable=False) if self.counts_steps or callable(self.rate) else None
        variables = [w for _, w in pairs]
        gradients = [g for g, _ in pairs]
        due = None
        if self.accumulate > 1:
            due, gradients, totals = self._accumulated(gradients, variables)
            yield from totals
        gradients = self._clipped(gradients)
        rate = self._rate(step)
        scaled: dict[float, list[Scalar]] = {}
        cast: dict[Any, list[Scalar]] = {}
        for g, w in zip(gradients, variables, strict=True):
            scale = self._scale(w)
            if scale not in scaled:
                own = rate if scale == 1 else multiply(rate, scale) if isinstance(rate, Tensor) else rate * scale
                scaled[scale] = [own, *self.shared(own, step)]
            if (scale, w.dtype) not in cast:
                # A number takes the dtype of the tensor that it meets; a float64 tensor would widen it.
                cast[scale, w.dtype] = _cast(scaled[scale], w.dtype)
            own, *shared = cast[scale, w.dtype]
            with beside(w):
                decay = float(self.weight_decay) if self.decays(w) else 0.0
                if decay and not self.decoupled:
                    g = add(g, multiply(w, decay), name="decayed")
                what = type(self).__name__
                updated = call(self.update, f"{what}: update", "variable, gradient and what `shared` gives", w, g, *shared)
                if not isinstance(updated, Mapping) or not all(is_variable(kept) for kept in updated):
                    raise ArgumentError(f"{what}: update returns a dict from variables to new values, got {updated!r:.80}")
                for kept, value in updated.items():
                    if kept is w and decay and self.decoupled:
                        value = subtract(value, multiply(w, own * decay), name="decayed")
                    yield assign(kept, value if due is None else choose(due, value, kept))
        if step is not None:
            # All that reads the step leads to what is shared: the edge says that the number from before is meant.
            with control_dependencies([s for each in scaled.values() for s in each if isinstance(s, Tensor)]):
                yield assign(step, step + 1 if due is None else choose(due, step + 1, step))

    def _accumulated(self, gradients: Sequence[Tensor], variables: Sequence[Tensor]) -> tuple[Tensor, list[Tensor], list[Node]]:
        """Whether this run completes a step, the mean gradients if it does, and the updates that keep the sums until then."""
        runs = variable(np.int64(0), name="runs", trainable=False)
        due = equal(runs, self.accumulate - 1, name="due")
        means, updates = [], [assign(runs, choose(due, 0, runs + 1))]
        for g, w in zip(gradients, variables, strict=True):
            with beside(w):
                total = self.state(w, "total")
                grown = add(total, g, name="new_total")
                updates.append(assign(total, choose(due, 0, grown)))
                means.append(divide(grown, self.accumulate, name="mean"))
        return due, means, updates

    def _clipped(self, gradients: list[Tensor]) -> list[Tensor]:
        if self.clip_value is not None:
            gradients = [clip(g, -float(self.clip_value), float(self.clip_value)) for g in gradients]
        if self.clip_norm is not None:
            limit = float(self.clip_norm)
            norm = identity(global_norm(gradients), name="norm")
            factor = divide(limit, maximum(norm, limit)) if limit else multiply(norm, 0.0)
            gradients = [multiply(g, astype(factor, g.dtype)) for g in gradients]
        return gradients

    def _scale(self, w: Tensor) -> float:
        scale = 1.0 if self.scales is None else self.scales(w)
        self.check(**{f"the scale of {w.name}": (scale, math.inf)})
        return float(scale)

    def _rate(self, step: Tensor | None) -> Scalar:
        if isinstance(self.rate, Tensor):
            return self.rate
        if not callable(self.rate):
            return float(self.rate)
        assert step is not None
        with scope("schedule"):
            rate: Any = call(self.rate, f"{type(self).__name__}: the rate, a schedule,", "the number of steps made", step)
        if not isinstance(rate, Tensor) or rate.shape != ():
            raise ArgumentError(f"{type(self).__name__}: a schedule makes a scalar tensor of a scalar tensor, got {rate!r:.80}")
        return identity(rate, name="rate")


def global_norm(tensors: Iterable[Tensor]) -> Tensor:
    """The square root of the sum of all squares in ``tensors``, in their widest dtype: how long they are as one vector.

    raises  ArgumentError when there are none

    >>> w, b = fg.variable(np.full(2, 2.0)), fg.variable(1.0)
    >>> session.run(fg.optim.global_norm([w, b]))
    np.float64(3.0)
    """
    given = (
        [tensors] if isinstance(tensors, Tensor) else list(tensors) if isinstance(tensors, Iterable) and np.iterable(tensors) else [tensors]
    )
    for t in given:
        if not isinstance(t, Tensor):
            raise ArgumentError(f"global_norm: takes tensors, got {t!r:.80}")
    squares = [sum(square(abs(t) if t.dtype.kind == "c" else t)) for t in given]
    if not squares:
        raise ArgumentError("global_norm: there are no tensors")
    total = squares[0]
    for each in squares[1:]:
        total = add(total, each)
    return sqrt(total)


def _cast(scalars: Sequence[Scalar], dtype: Any) -> list[Scalar]:
    """The scalars in ``dtype``; one that stands twice stays one tensor."""
    made: dict[int, Scalar] = {id(s): astype(s, dtype) if isinstance(s, Tensor) else s for s in {id(s): s for s in scalars}.values()}
    return [made[id(s)] for s in scalars]


def trainable(loss: Tensor) -> list[Tensor]:
    """The trainable variables of floats that ``loss`` is computed from, in the order of making."""
    seen, stack = {loss.node}, [loss.node]
    while stack:
        for tensor in stack.pop().inputs:
            if tensor.node not in seen:
                seen.add(tensor.node)
                stack.append(tensor.node)
    return [w for w in loss.graph.variables if w.node in seen and w.node.attrs["trainable"] and w.dtype.kind in "fcV"]


def several(variables: Any) -> list[Any]:
    """``variables`` as a list; one may come without."""
    return [variables] if isinstance(variables, Tensor) else list(variables)


def _check_pairs(pairs: Sequence[Any]) -> None:
    if not pairs:
        raise ArgumentError("apply: there are no gradients and variables")
    seen: set[Tensor] = set()
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ArgumentError(f"apply: takes pairs of a gradient and a variable, got {pair!r:.80}")
        g, w = pair
        check_variable(w, "apply")
        if w in seen:
            raise ArgumentError(f"apply: {w.name} is updated twice", help="add up its gradients")
        seen.add(w)
        if g is None:
            raise GradientError(f"apply: there is no gradient for {w.name}", help="leave the pair out")
        if not isinstance(g, Tensor):
            raise ArgumentError(f"apply: the gradient for {w.name} is a tensor, got {g!r:.80}")
        if g.graph is not w.graph or w.graph is not pairs[0][1].graph:
            rows, help = of_another_graph(g)
            raise GraphError(f"apply: {g.name} and {w.name} belong to two graphs", rows=rows, help=help)
        if not may_be_equal(g.shape, w.shape) or g.dtype != w.dtype:
            specs = f"{format_spec(g.shape, g.dtype)}, and {w.name} is {format_spec(w.shape, w.dtype)}"
            raise ShapeError(f"apply: the gradient for {w.name} is {specs}", rows=[(g.name, f"made at {where(g.node.location)}")])


def check_variable(w: Any, what: str) -> None:
    """Raises ArgumentError, in the name of ``what``, unless ``w`` is a variable."""
    if not is_variable(w):
        raise ArgumentError(f"{what}: only variables are updated, got {w!r:.80}", help="fg.variable(...) makes one")


@contextmanager
def within(graph: Graph) -> Iterator[None]:
    """Builds in ``graph``, in the current scope if that is the current graph."""
    if get_default_graph() is graph:
        yield
    else:
        with graph:
            yield


@contextmanager
def beside(w: Tensor) -> Iterator[None]:
    """Builds in a scope of the variable's name, and on the device that the variable asks for: what is kept for it lives where it does."""
    with scope("/".join(filter(None, w.name.split("/")))), nullcontext() if w.node.device is None else device(w.node.device):
        yield


def unused(name: str) -> str:
    """``name``, or ``name_1`` and so on where the current scope has something of that name."""
    graph, number, free = get_default_graph(), 0, name
    while True:
        with scope(free) as path:
            if f"{path}/update" not in graph:
                return free
        number += 1
        free = f"{name}_{number}"
