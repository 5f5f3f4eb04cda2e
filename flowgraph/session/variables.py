"""The values of a session's variables, by name."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ArgumentError, DtypeError, ShapeError, UnknownNameError
from ..graph import Node, Tensor
from ..graph.op import as_array
from ..graph.report import origin
from ..graph.spec import format_shape
from ..ops.state import is_variable

if TYPE_CHECKING:
    from .session import Session


class Variables(MutableMapping[str, np.ndarray[Any, Any]]):
    """The values of a session's variables by name (or by tensor). Getting copies; setting checks shape and dtype.

    >>> w = fg.variable([1.0, 2.0], name="w")
    >>> session.variables["w"] = np.array([3.0, 4.0])
    >>> session.variables["w"]
    array([3., 4.])
    """

    def __init__(self, session: Session) -> None:
        self._session = weakref.proxy(session)

    def _found(self, key: object) -> Node | None:
        graph = self._session.graph
        if isinstance(key, Tensor):
            return key.node if is_variable(key) and key.graph is graph else None
        return next((tensor.node for tensor in graph.variables if isinstance(key, str) and tensor.name == key), None)

    def _node(self, key: str | Tensor) -> Node:
        if (node := self._found(key)) is not None:
            return node
        raise UnknownNameError.of("variable", key.name if isinstance(key, Tensor) else key, list(self))

    def __contains__(self, key: object) -> bool:
        return self._found(key) is not None

    def __getitem__(self, key: str | Tensor) -> np.ndarray[Any, Any]:
        node = self._node(key)
        state = self._session._state
        with state.lock:
            value: np.ndarray[Any, Any] = state.read_on_host(node)
            return value

    def __setitem__(self, key: str | Tensor, value: Any) -> None:
        self._set([(key, value)])

    def update(self, values: Any = (), /, **named: Any) -> None:
        """Sets several at once: all of them, or on an error none."""
        pairs = list(values.items()) if isinstance(values, Mapping) else values
        if not isinstance(pairs, list | tuple) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
            raise ArgumentError(f"update: values by name are expected, got {values!r:.80}", help="session.variables.update({name: array})")
        self._set([*pairs, *named.items()])

    def _set(self, pairs: Sequence[Any]) -> None:
        checked = [(node := self._node(key), _as_value(node, value)) for key, value in pairs]
        state = self._session._state
        with state.lock:
            for node, value in checked:
                state.put(node, state.stored(node, value))

    def copy(self) -> dict[str, np.ndarray[Any, Any]]:
        """All values by name, of one moment: none from before an update and others from after it."""
        state = self._session._state
        with state.lock:
            for tensor in self._session.graph.variables:
                state.read(tensor.node)
            return {tensor.name: state.read_on_host(tensor.node) for tensor in self._session.graph.variables}

    def __delitem__(self, key: str) -> None:
        raise TypeError("a variable cannot be deleted: graphs only grow")

    def __iter__(self) -> Iterator[str]:
        return iter([tensor.name for tensor in self._session.graph.variables])

    def __len__(self) -> int:
        return len(self._session.graph.variables)


def _as_value(node: Node, value: Any) -> Any:
    tensor = node.outputs[0]
    array = as_array(value, f"variable {tensor.name}")
    rows = [("variable", origin(tensor))]
    if array.shape != tensor.shape:
        raise ShapeError(f"variable {tensor.name} has shape {format_shape(tensor.shape)}, not {format_shape(array.shape)}", rows=rows)
    weak = isinstance(value, bool | int | float | list | tuple)
    dtype = np.dtype("float16") if tensor.dtype.kind == "V" else tensor.dtype  # NumPy casts nothing to bfloat16 but by force
    if array.dtype != tensor.dtype and not np.can_cast(array.dtype, dtype, "same_kind" if weak else "safe"):
        raise DtypeError(f"variable {tensor.name} is {tensor.dtype}, not {array.dtype}", rows=rows, help=f'array.astype("{tensor.dtype}")')
    return np.array(array, tensor.dtype, order="C")
