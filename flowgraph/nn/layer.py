"""What every layer is: a function of tensors that owns its weights.

A layer makes its variables when it is made, in a scope of its name, and its operations when it is called, in a scope of
that name again. Calling it twice uses the same weights twice. Whatever takes a tensor and gives one can stand beside it
in a ``Sequential``.

Nothing is hidden in a layer but its weights: whether a call is part of training is an argument of that call, and what a call in
training changes, running statistics say, is an update in ``updates`` which runs where it is fetched.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from ..errors import ArgumentError, DtypeError, ShapeError
from ..graph import Node, Tensor, get_default_graph, scope
from ..graph.arguments import call
from ..graph.spec import as_dtype, format_shape, format_spec
from ..ops.init import Distribution
from ..ops.state import Initializer, is_variable, variable

# How weights begin: a function of their shape, such as fg.init.he_normal, or what it gives, an initializer or an array; or a
# variable of another layer, which is shared then.
Initial = Callable[..., Any] | np.ndarray[Any, Any] | Tensor


class Layer:
    """Base of the layers that own variables, or other layers.

    name   of its scope; gets a number where another layer has it already
    dtype  of its variables; None: as their initialisers say, float32 if nothing else is said

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
    >>> scale.parameters
    {'scale/w': <Tensor scale/w: (3,) float32>}

    One that is made of layers makes them in its own scope, and keeps them as attributes, or in lists and dicts of attributes. Where
    ``apply`` takes ``training``, it gets what the call was given, to hand it on:

    >>> class Residual(fg.nn.Layer):
    ...     def __init__(self, size, name="residual"):
    ...         super().__init__(name)
    ...         with self.scope():
    ...             self.linear, self.dropout = fg.nn.Linear(size, size), fg.nn.Dropout(0.5)
    ...
    ...     def apply(self, x, training):
    ...         return x + self.dropout(fg.nn.relu(self.linear(x)), training=training)
    >>> residual = Residual(4)
    >>> residual(fg.placeholder("x", ("batch", 4)), training=True)
    <Tensor residual/add: (batch, 4) float32>
    >>> list(residual.parameters)
    ['residual/linear/w', 'residual/linear/b']
    """

    _options: ClassVar[frozenset[str]] = frozenset()  # what ``apply`` takes by name beside its first input; "**" where it takes any

    def __init_subclass__(cls) -> None:
        _, *parameters = inspect.signature(cls.apply).parameters.values()
        found = {each.name for each in parameters[1:] if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
        cls._options = frozenset(found | ({"**"} if any(each.kind == each.VAR_KEYWORD for each in parameters) else set()))

    def __init__(self, name: str, dtype: Any = None) -> None:
        self.name = _claimed(name)
        self.dtype: np.dtype[Any] | None = None if dtype is None else as_dtype(dtype)
        self._own: list[Tensor] = []
        self._made: list[Node] = []

    def __call__(self, *inputs: Any, training: bool | Tensor | None = None, **options: Any) -> Tensor:
        """What the layer computes from ``inputs``.

        training  whether this call is part of training: a bool, or a boolean tensor, such as a placeholder, that says it in each run.
                  Layers for which it makes no difference need not be told
        """
        if "training" in self._options:
            options["training"] = training
        elif training is not None:
            is_training(training, self)
        with self.scope():
            return self.apply(*inputs, **options)  # type: ignore[no-any-return]

    def apply(self, *inputs: Any, **options: Any) -> Any:
        """What the layer computes; called in its scope."""
        raise NotImplementedError(f"{type(self).__name__} needs a method apply(self, x) that says what it computes")

    @contextmanager
    def scope(self) -> Iterator[None]:
        """The layer's scope, in which its parts are made and its operations are built."""
        if "name" not in vars(self):
            what = type(self).__name__
            raise ArgumentError(f"{what}: the layer has no name yet", help=f"call super().__init__(name) first in {what}.__init__")
        with scope(self.name):
            yield

    def weight(self, name: str, initial: Initial, shape: tuple[int, ...], *, trainable: bool = True) -> Tensor:
        """A new variable of the layer; or the one that is given, which this layer shares with its maker then.

        initial    a function of the shape, such as ``fg.init.he_normal``, or what it gives, an initializer or an array; or a variable
        trainable  whether optimisers update it when they are not told which
        raises     ShapeError when that has another shape
        """
        if isinstance(initial, Tensor):
            made = self._shared(name, initial, shape)
        else:
            if not isinstance(initial, Initializer | np.ndarray):
                expected = "a function of the shape, an initializer, an array or a variable"
                if not callable(initial):
                    raise ArgumentError(f"{self.name}: {name} is {expected}, got {initial!r:.60}", help="for example fg.init.he_normal")
                initial = call(initial, f"{self.name}: the function that makes {name}", "the shape", shape)
                if isinstance(initial, np.ndarray) and self.dtype is not None:
                    initial = initial.astype(self.dtype)
            if isinstance(initial, Distribution) and self.dtype is not None:
                initial = initial.of_dtype(self.dtype)
            given = tuple(getattr(initial, "shape", shape))
            if given != shape:
                raise ShapeError(f"{self.name}: {name} has shape {format_shape(shape)}, but what is given has {format_shape(given)}")
            with self.scope():
                made = variable(initial, name=name, shape=shape, trainable=trainable)
        self._own.append(made)
        return made

    def update(self, *updates: Node) -> None:
        """Takes what a call in training changes into ``updates``."""
        self._made.extend(updates)

    @property
    def layers(self) -> list[Layer]:
        """The layers that it is made of: those among its attributes, and in lists, tuples and dicts of them; each once."""
        found = {id(layer): layer for value in vars(self).values() for layer in _layers_in(value)}
        return list(found.values())

    @property
    def variables(self) -> list[Tensor]:
        """All that it owns, and that its layers own: those of optimisers are not among them. Each once."""
        found = {id(w): w for w in self._own}
        for layer in self.layers:
            found.update({id(w): w for w in layer.variables})
        return list(found.values())

    @property
    def parameters(self) -> dict[str, Tensor]:
        """Its trainable variables by name, ``block/linear/w``.

        To leave some of them as they are, train the others: ``optimizer.minimize(loss, list(head.parameters.values()))``.
        """
        return {w.name: w for w in self.variables if w.node.attrs["trainable"]}

    @property
    def updates(self) -> list[Node]:
        """The updates that its calls in training have made: to be run with each step of training.

        >>> norm = fg.nn.BatchNorm(3)
        >>> loss = fg.mean(fg.square(norm(fg.placeholder("x", ("batch", 3)), training=True) - 1))
        >>> train = fg.group([fg.optim.SGD(0.1).minimize(loss), *norm.updates])
        """
        found = {id(node): node for node in self._made}
        for layer in self.layers:
            found.update({id(node): node for node in layer.updates})
        return list(found.values())

    def __repr__(self) -> str:
        if self.layers:
            return f"<{type(self).__name__} {self.name}: {len(self.variables)} variables>"
        owned = ", ".join(f"{w.name} {format_shape(w.shape)}" for w in self.variables)
        return f"<{type(self).__name__} {self.name}{f': {owned}' if owned else ''}>"

    def _shared(self, name: str, given: Tensor, shape: tuple[int, ...]) -> Tensor:
        if not is_variable(given):
            raise ArgumentError(
                f"{self.name}: {name} is a variable, an array or an initialiser, got {given!r:.80}",
                help="what is made of another layer's weights needs no layer of its own: h @ encoder.w.T",
            )
        if given.shape != shape:
            raise ShapeError(f"{self.name}: {name} has shape {format_shape(shape)}, but {given.name} has {format_shape(given.shape)}")
        if self.dtype is not None and given.dtype != self.dtype:
            raise DtypeError(f"{self.name}: {name} is {self.dtype}, but {given.name} is {given.dtype}")
        return given


def is_training(training: bool | Tensor | None, layer: Layer) -> bool | Tensor:
    """``training`` of a call for which it matters. raises ArgumentError where it was not said, or is no boolean."""
    if training is None:
        raise ArgumentError(
            f"{layer.name}: is this call part of training or not?",
            help="say training=True or False, or give a boolean placeholder: a Sequential or another layer hands it on",
        )
    if isinstance(training, Tensor):
        if training.shape != () or training.dtype != np.dtype(bool):
            spec = format_spec(training.shape, training.dtype)
            raise ArgumentError(f"{layer.name}: training is one boolean, {training.name} is {spec}")
        return training
    if not isinstance(training, bool | np.bool_):
        raise ArgumentError(f"{layer.name}: training is a boolean, got {training!r:.80}")
    return bool(training)


def _layers_in(value: Any) -> Iterator[Layer]:
    if isinstance(value, Layer):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _layers_in(each)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _layers_in(each)


def _claimed(name: str) -> str:
    """``name``, or ``name_1`` and so on where a layer or a variable has a scope of that name already; the layer's from now on."""
    graph, number, free = get_default_graph(), 0, name
    taken: set[str] = graph.memo.setdefault("layers", set())
    if not taken:  # a graph from a file has the variables of its layers, but no layers
        parts = [w.name.split("/") for w in graph.variables]
        taken.update("/".join(each[:depth]) for each in parts for depth in range(1, len(each)))
    while True:
        with scope(free) as path:
            if path not in taken:
                taken.add(path)
                return free
        number += 1
        free = f"{name}_{number}"
