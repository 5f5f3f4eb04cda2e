"""What every layer is: a function of a tensor that owns its weights.

A layer makes its variables when it is made, in a scope of its name, and its operations when it is called, in a scope of
that name again. Calling it twice uses the same weights twice. Whatever takes a tensor and gives one can stand beside it
in a ``Sequential``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..graph import Tensor, get_default_graph, scope
from ..graph.spec import format_shape
from ..ops.state import Initializer, variable

# How weights begin: a function of their shape, such as fg.init.he_normal, or what it gives: an initializer or an array.
Initial = Callable[..., Any] | np.ndarray[Any, Any]


class Layer:
    """Base of the layers that own variables.

    name       of its scope; gets a number where another layer has it already
    variables  what it owns, in the order of making

    A subclass makes its weights with ``weight``, and says in ``apply`` what it computes:

    >>> class Scale(fg.nn.Layer):
    ...     def __init__(self, size, name="scale"):
    ...         super().__init__(name)
    ...         self.w = self.weight("w", fg.init.ones, (size,))
    ...
    ...     def apply(self, x):
    ...         return x * self.w
    >>> scale = Scale(3)
    >>> session.run(scale([1.0, 2.0, 3.0]))
    array([1., 2., 3.])
    >>> scale.variables
    [<Tensor scale/w: (3,) float32>]
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.variables: list[Tensor] = []

    def __call__(self, x: Any) -> Tensor:
        with scope(self.name):
            return self.apply(x)

    def apply(self, x: Any) -> Tensor:
        """What the layer computes from ``x``; called in its scope."""
        raise NotImplementedError(f"{type(self).__name__} needs a method apply(self, x) that says what it computes")

    def weight(self, name: str, initial: Initial, shape: tuple[int, ...]) -> Tensor:
        """A new variable of the layer.

        initial  a function of the shape, such as ``fg.init.he_normal``, or what it gives: an initializer or an array
        raises   ShapeError when that has another shape
        """
        if not self.variables:
            self.name = _unused(self.name, name)
        if not isinstance(initial, Initializer | np.ndarray):
            initial = initial(shape)
        with scope(self.name):
            made = variable(initial, name=name, shape=shape)
        self.variables.append(made)
        return made

    def __repr__(self) -> str:
        owned = ", ".join(f"{w.name} {format_shape(w.shape)}" for w in self.variables)
        return f"<{type(self).__name__} {self.name}: {owned}>"


def _unused(name: str, inside: str) -> str:
    """``name``, or ``name_1`` and so on where a scope of that name has something called ``inside`` already."""
    graph, number, free = get_default_graph(), 0, name
    while True:
        with scope(free) as path:
            if f"{path}/{inside}" not in graph:
                return free
        number += 1
        free = f"{name}_{number}"


def whole(value: Any, what: str) -> int:
    """``value`` as an int; ArgumentError, with ``what`` it is, unless it is 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ArgumentError(f"{what}: a positive number is expected, got {value!r:.80}")
    return int(value)
