"""trace: a Python function written with NumPy becomes a graph, once for each kind of argument, and runs as a compiled function."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import ArgumentError, FlowgraphError
from .graph import Graph, Tensor
from .graph.nest import flatten
from .graph.subgraph import as_tensor
from .ops.state import placeholder
from .session import Function, Session

# Programs kept for one function: a function that is called with ever new Python arguments is traced anew each time.
PROGRAMS_KEPT = 64


def trace(function: Callable[..., Any] | None = None, *, threads: int | None = None) -> Any:
    """Makes a graph function of a Python function that is written with NumPy; a decorator, too.

    function  takes arrays (or nestings of them) and Python values, returns arrays or a nesting of them; no effects
    threads   of the session that runs it
    returns   a function of the same arguments. Given arrays it computes: it is traced once for each set of shapes, dtypes and Python
              arguments, compiled, and called. Given a tensor among its arguments it builds nodes in place, so that ``fg.grad`` and
              all else apply
    raises    GraphError, with the line and the way out, for what no graph can hold: ``if x > 0`` on values, ``float(x)``,
              ``x[i] = v``, a NumPy function without a node

    >>> @fg.trace
    ... def energy(v, mass=2.0):
    ...     return mass / 2 * np.sum(v**2)
    >>> energy(np.array([3.0, 4.0]))
    np.float64(25.0)
    >>> fg.trace(fg.grad(energy))(np.array([3.0, 4.0]))
    array([6., 8.])
    """
    if function is None:
        return functools.partial(trace, threads=threads)
    if not callable(function):
        raise ArgumentError(f"trace: a function is expected, got {function!r:.60}")
    made = Traced(function, threads)
    return functools.wraps(function, updated=())(lambda *args, **options: made(*args, **options))


class Traced:
    """A function and its programs, one for each kind of arguments.

    `_lock` guards `_programs`.
    """

    def __init__(self, function: Callable[..., Any], threads: int | None) -> None:
        self.function, self.threads = function, threads
        self._programs: dict[Any, Function] = {}
        self._lock = threading.RLock()

    def __call__(self, *args: Any, **options: Any) -> Any:
        leaves, rebuild = flatten((list(args), options))
        if any(isinstance(leaf, Tensor) for leaf in leaves):
            return self.function(*args, **options)
        arrays = [np.asarray(leaf) for leaf in leaves if _is_array(leaf)]
        key = (repr(rebuild([None] * len(leaves))), tuple(_kind(leaf) for leaf in leaves))
        with self._lock:
            program = self._programs.get(key)
            if program is None:
                program = self._programs[key] = self._trace(leaves, rebuild)
                while len(self._programs) > PROGRAMS_KEPT:
                    self._programs.pop(next(iter(self._programs))).session.close()
        return program(*arrays)

    def _trace(self, leaves: list[Any], rebuild: Callable[[list[Any]], Any]) -> Function:
        inputs: list[Tensor] = []
        with Graph() as graph:
            values = []
            for leaf in leaves:
                if _is_array(leaf):
                    leaf = placeholder(f"x{len(inputs)}", np.shape(leaf), leaf.dtype)
                    inputs.append(leaf)
                values.append(leaf)
            args, options = rebuild(values)
            results, nesting = flatten(self._called(args, options))
            outputs = nesting([as_tensor(result) for result in results])
        return Session(graph, threads=self.threads).function(inputs, outputs)

    def _called(self, args: Any, options: Any) -> Any:
        try:
            return self.function(*args, **options)
        except (TypeError, ValueError) as error:
            if isinstance(error.__cause__, FlowgraphError):  # where NumPy has put an error of its own before ours: `out[i] = x`
                raise error.__cause__ from None
            raise


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray | np.generic)


def _kind(leaf: Any) -> Any:
    """What a program is made for: the shape and dtype of an array, anything else as it is. raises ArgumentError where it has no hash."""
    if _is_array(leaf):
        return (np.shape(leaf), leaf.dtype)
    try:
        hash(leaf)
    except TypeError:
        raise ArgumentError(
            f"trace: an argument of type {type(leaf).__name__} is neither an array nor a value that can be told apart from others",
            help="pass NumPy arrays for what is computed with, numbers and texts for the rest",
        ) from None
    return (type(leaf), leaf)
