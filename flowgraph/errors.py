"""Every exception that flowgraph raises for a caller's mistake.

Who raises one says only what is wrong. The user's line and what he called with which tensors are found when it is made; the graph (while
building) and the runtime (while running) put the node, its inputs and the device in their place. So every message has the form

    ShapeError: matmul: the inner sizes differ, 784 and 748
      node   mlp/dense_1/matmul, made at train.py:41    h = x @ self.w + self.b
                                                            ^^^^^^^^^^
      x      (batch, 784) float32   mlp/flatten
      w      (748, 128) float32     variable mlp/dense_1/w, made at train.py:12
      help   x @ w needs the last size of x to equal the first size of w

This module knows neither graphs nor arrays (of NumPy, only an error's class).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import numpy as np


class FlowgraphError(Exception):
    """Base of all of flowgraph's exceptions.

    message  what is wrong, enough on its own in a log
    rows     (label, text) pairs: where, and what met there
    help     what to do, or None
    node     the node that it is about, or None when no node was made
    near     the tensors that met there, where it is about a node
    call     what the user called when it was made (`flowgraph.graph.calls.Call`); None on a thread of flowgraph's own
    details  those of ``rows`` that it was made with
    blamed   the user's line to blame, where that is not the one of the call
    """

    # Finds the call, and tells what the tensors in `near` were made of, as this module knows no graphs. Put here by `flowgraph.graph`.
    find_call: ClassVar[Callable[[], Any]] = staticmethod(lambda: None)
    upstream: ClassVar[Callable[[Any], list[str]]] = staticmethod(lambda error: [])
    drawn: ClassVar[Callable[..., Any]] = staticmethod(lambda error, file: None)

    def __init__(self, message: str, *, help: str | None = None, rows: list[tuple[str, str]] | None = None, blamed: Any = None) -> None:
        self.call = FlowgraphError.find_call()
        self.message = message if self.call is None else self.call.named(message)
        super().__init__(self.message)
        self.help = help
        self.details: list[tuple[str, str]] = rows or []
        self.rows = self.details if self.call is None else [*self.call.rows, *self.details]
        self.node: Any = None
        self.near: tuple[Any, ...] = ()
        self.place: Any = None  # (op, name, location) of that node, or of the one that would have been made
        self.blamed = blamed
        self._is_shown = False

    @property
    def location(self) -> Any:
        """The user's line to blame (its ``file``, ``line`` and ``text``): where a failing node was made, or else where the call stands.

        Of a node that a gradient added it is the line that was differentiated; of a user's function that raised, the line in it. None
        where no line is known.

        >>> try:
        ...     fg.ones((2, 3)) @ fg.ones((2, 3))
        ... except fg.ShapeError as error:
        ...     error.location.line
        2
        """
        return self.blamed or (self.call.location if self.call is not None else None)

    def draw(self, file: str | os.PathLike[str] | None = None, **options: Any) -> Any:
        """A picture of the node that failed, marked, and of what it was made of; see `flowgraph.draw`, whose options it takes.

        file     where to write; None: a `flowgraph.viz.Drawing` is returned
        raises   ArgumentError for an error that is about no node

        >>> try:
        ...     fg.exp(fg.ones((2, 3))) @ fg.ones((2, 3))
        ... except fg.ShapeError as error:
        ...     "matmul" in str(error.draw())
        True
        """
        return FlowgraphError.drawn(self, file, **options)

    def _repr_svg_(self) -> str | None:
        """What a notebook shows of an error in a cell of its own."""
        return None if self.place is None else str(self.draw())

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows where a cell raises: the picture, and the traceback as ever."""
        from IPython import display, get_ipython

        if self.place is not None and not self._is_shown and hasattr(get_ipython(), "kernel"):
            self._is_shown = True  # (IPython asks a second time, for its history)
            display.display(self.draw())
        return list(get_ipython().InteractiveTB.structured_traceback(type(self), self, self.__traceback__))

    def __str__(self) -> str:
        rows = self._all_rows()
        rows = [*rows, ("help", self.help)] if self.help else rows
        width = max((len(label) for label, _ in rows), default=0)
        lines = [f"  {label:<{width}}   {text}".replace("\n", "\n" + " " * (width + 5)) for label, text in rows]
        return "\n".join([self.message, *lines])

    def _all_rows(self) -> list[tuple[str, str]]:
        """`rows`, and what the tensors in them were made of."""
        above = FlowgraphError.upstream(self)
        return [*self.rows, ("from", "\n".join(above))] if above else self.rows

    def __reduce__(self) -> tuple[Any, ...]:
        # The node holds the whole graph, which does not travel between processes; the text does.
        return _rebuild, (type(self), self.message, self.help, self._all_rows(), self.location)


def _rebuild(cls: type[FlowgraphError], message: str, help: str | None, rows: list[tuple[str, str]], blamed: Any) -> FlowgraphError:
    error = cls.__new__(cls, message)
    error.__dict__.update(
        message=message, help=help, rows=rows, details=rows, node=None, near=(), place=None, call=None, blamed=blamed, _is_shown=False
    )
    return error


class ShapeError(FlowgraphError, ValueError):
    """Shapes that do not fit together, or not the declared one."""


class DtypeError(FlowgraphError, TypeError):
    """A dtype that an operation, a placeholder or a variable does not take."""


class ArgumentError(FlowgraphError, ValueError):
    """An argument outside its range, or of a kind that is not taken."""


class GraphError(FlowgraphError, ValueError):
    """Tensors of two graphs mixed, an unknown name, a value where a tensor was meant."""


class UnknownNameError(GraphError, KeyError):
    """A name that no node, or no variable, has; the help lists those that are near."""

    @classmethod
    def of(cls, what: str, name: object, known: Iterable[str]) -> UnknownNameError:
        from difflib import get_close_matches

        names = list(known)
        near = get_close_matches(str(name), names, n=3) or ([] if len(names) > 8 else names)
        return cls(f"no {what} is called {name!r}", help=f"near: {', '.join(near)}" if near else None)


class FeedError(FlowgraphError, ValueError):
    """A feed that is missing, unknown, or not of its tensor's shape and dtype."""


class FetchError(FlowgraphError, ValueError):
    """A fetch that is no tensor, node or nesting of them, or belongs to another graph."""


class UninitializedError(FlowgraphError, RuntimeError):
    """A variable that is read before it has a value."""


class GradientError(FlowgraphError, ValueError):
    """A gradient that is not defined, with the place where the path stops."""


class ExecutionError(FlowgraphError, RuntimeError):
    """A kernel that raised while a run was going on; ``__cause__`` is what it raised."""


class MemoryLimitError(FlowgraphError, MemoryError):
    """A run that would take more memory than its limit, whatever the order; it has not begun.

    needed  bytes that it would take, in the best order that was found
    """

    needed = 0


class NumericsError(ExecutionError, FloatingPointError):
    """A run whose result is infinite or no number, with the node that made it so; see ``check_numerics`` of `flowgraph.Session`."""


class LinAlgError(ExecutionError, np.linalg.LinAlgError):
    """A matrix without what was asked of it: singular, not positive definite, or an iteration that found no end. NumPy's error as well.

    index  which matrix of a batch it is, as a tuple; None for one alone
    """

    index: tuple[int, ...] | None = None

    def __init__(self, what: str, *, index: tuple[int, ...] | None = None, help: str | None = None) -> None:
        super().__init__(f"{_matrix(index)} {what}", help=help)
        self.index = index

    def count_from(self, first: int) -> None:
        """Speaks of the whole batch, of which the kernel saw the part that begins at ``first``."""
        if self.index is not None:
            whole = (self.index[0] + first, *self.index[1:])
            self.message = self.message.replace(_matrix(self.index), _matrix(whole), 1)
            self.index = whole


def _matrix(index: tuple[int, ...] | None) -> str:
    return "the matrix" if index is None else f"matrix {', '.join(map(str, index))} of the batch"


class WatchError(FlowgraphError, RuntimeError):
    """A run that made a value which a watch was set for (`Session.watch`); it has written no variable."""


class RunCancelledError(FlowgraphError):
    """The run was cancelled before it finished."""


class RunTimeoutError(FlowgraphError, TimeoutError):
    """The run took longer than its ``timeout``."""


class SessionClosedError(FlowgraphError, RuntimeError):
    """The session has been closed."""


class FileFormatError(FlowgraphError, ValueError):
    """A file that is damaged, truncated, or not of the format that was asked for."""


class DataError(FlowgraphError, RuntimeError):
    """A stage of an input pipeline failed; ``__cause__`` is what it raised."""


class DrawingError(FlowgraphError, RuntimeError):
    """A picture could not be drawn: no ``dot`` program, or it failed."""


class MissingExtraError(FlowgraphError, ImportError):
    """An optional library that is not installed; the text names the pip line."""

    @classmethod
    def of(cls, what: str, extra: str) -> MissingExtraError:
        return cls(f"{what} is not installed", help=f'pip install "flowgraph[{extra}]"')


class GraphGrowthWarning(UserWarning):
    """The graph grows with every run, as when nodes are built inside a training loop."""


class NumericsWarning(RuntimeWarning):
    """A training has gone wrong: a run that writes variables gave a number that is infinite or none, as a loss of NaN."""


class VariableOrderWarning(UserWarning):
    """A variable is read and written in one run, and no edge orders the two."""
