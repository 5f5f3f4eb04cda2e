"""Moving averages of weights: smoother than the weights themselves, and often better on data not seen in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ArgumentError
from ..graph import Node, Tensor, control_dependencies, scope
from ..ops import init
from ..ops.elementwise import add, astype, divide, multiply, pow, subtract
from ..ops.state import assign, group, identity, variable
from .optimizer import beside, unused, within


class HasVariables(Protocol):
    """What a session is for this module."""

    @property
    def variables(self) -> Mapping[Any, NDArray[Any]]: ...


class Average:
    """A training together with a moving average of the weights that it leads to.

    train  what ``minimize`` or ``apply`` gave, or a group or list of such updates
    decay  how much of the average is kept from step to step, in [0, 1)
    name   of the scope that holds the averages

    update     the node to run in place of ``train``: it trains, and takes the new weights into the average
    variables  each trained weight to the variable with its average

    In step t, with the new weights w:

        average = average + (w - average) * (1 - decay) / (1 - decay ** t)

    so the first average is the first w, and it is at any time a mean of all weights with weights that fall by ``decay``. (PyTorch
    and TensorFlow leave out the divisor, so that their average stays with the initial weights for about 1 / (1 - decay) steps;
    it is that of Adam: Kingma and Ba, arXiv:1412.6980, section 3.) Each run counts as a step.

    >>> w = fg.variable(8.0, name="w")
    >>> average = fg.optim.Average(fg.optim.SGD(0.25).minimize(w * w), decay=0.5)
    >>> for _ in range(2):
    ...     session.run(average.update)          # w is 4, then 2
    >>> session.run(w * 3, average.values(session))
    np.float64(8.0)
    """

    def __init__(self, train: Node | Sequence[Node], decay: float = 0.999, name: str = "average") -> None:
        is_number = isinstance(decay, int | float) and not isinstance(decay, bool)
        if not is_number or not 0 <= decay < 1:
            raise ArgumentError(f"Average: decay is a number, at least 0 and less than 1, got {decay!r:.80}")
        trains: list[Any] = list(train) if isinstance(train, list | tuple) else [train]
        new = {w: value for node in trains for w, value in _assigned(node) if w.node.attrs["trainable"]}
        if not new:
            raise ArgumentError(
                "Average: nothing here updates a trainable variable", help="fg.optim.Average(fg.optim.SGD(0.1).minimize(loss))"
            )
        self.decay = float(decay)
        self.variables: dict[Tensor, Tensor] = {}
        graph = trains[0].graph
        with within(graph), scope(unused(name)):
            step = variable(np.int64(0), name="step", trainable=False)
            part = identity(divide(1 - self.decay, 1 - pow(self.decay, astype(step, "float64") + 1)), name="part")
            updates = [*trains]
            for w, value in new.items():
                with beside(w):
                    kept = variable(init.zeros(w.shape, w.dtype), name="average", trainable=False)
                    updates.append(assign(kept, add(kept, multiply(subtract(value, kept), astype(part, w.dtype)))))
                self.variables[w] = kept
            with control_dependencies([part]):
                updates.append(assign(step, step + 1))
            self.update = group(updates, "update")

    def values(self, session: HasVariables) -> dict[Tensor, NDArray[Any]]:
        """Each weight to its average: feed them to compute with the averages, or give them to ``session.variables.update``."""
        return {w: session.variables[kept] for w, kept in self.variables.items()}


def _assigned(node: Node) -> Iterator[tuple[Tensor, Tensor]]:
    if not isinstance(node, Node):
        raise ArgumentError(f"Average: takes updates, got {node!r:.80}")
    if node.op.name == "assign":
        yield node.inputs[0], node.inputs[1]
    elif node.op.name == "group":
        for each in node.control:
            yield from _assigned(each)
