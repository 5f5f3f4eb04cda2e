"""Watches: a tensor whose value is looked at behind each run that computes it, and may end that run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..compile.needed import needed_nodes
from ..errors import ArgumentError, WatchError
from ..graph import Node, Shape, Tensor
from ..graph.report import of_another_graph, where
from ..graph.spec import format_spec
from .expressions import Expression

if TYPE_CHECKING:
    from .session import Session


class Watch:
    """A tensor that a session looks at; made by ``session.watch``. Use it as a context, or call ``remove``.

    tensor  what is watched
    seen    how many values it was called with
    """

    def __init__(self, session: Session, tensor: Tensor, test: str | Callable[[Any], Any]) -> None:
        if not isinstance(tensor, Tensor):
            raise ArgumentError(
                f"watch: a tensor is expected, got {tensor!r:.80}", help='session.watch(graph["layer1/relu"], "any(isnan(x))")'
            )
        if tensor.graph is not session.graph:
            rows, help = of_another_graph(tensor)
            raise ArgumentError(f"watch: {tensor.name} belongs to another graph than the session's", rows=rows, help=help)
        if not (isinstance(test, str) or callable(test)):
            raise ArgumentError(f"watch: a condition or a function is expected, got {test!r:.80}", help='"any(isnan(x))", or lambda x: ...')
        self.tensor, self.seen = tensor, 0
        self._session, self._lock = session, threading.Lock()  # guards `seen`
        self._test = Expression(test, {"x"}) if isinstance(test, str) else test

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exc: Any) -> None:
        self.remove()

    def remove(self) -> None:
        """Ends it. May be called twice."""
        self._session._runs.watch(self, False)

    def look(self, value: Any) -> None:
        """Called with each value. raises WatchError where the condition holds or the function says True; what the function raises."""
        with self._lock:
            self.seen += 1
        if isinstance(self._test, Expression):
            holds, what = self._test.holds(x=value), f"{self._test.text} holds"
        else:
            said = self._test(value)
            holds, what = said is not None and bool(np.any(said)), "the function says so"
        if holds:
            node = self.tensor.node
            error = WatchError(
                f"{self.tensor.name} {format_spec(np.shape(value), value.dtype)} is watched, and {what}",
                rows=[("made at", where(node.location))],
                help="no variable was written; session.record keeps the run, to be gone through step by step",
            )
            error.node = node
            raise error


def watched(watches: Sequence[Watch], fetches: Sequence[Tensor | Node], feeds: Mapping[Tensor, Shape]) -> list[Tensor]:
    """The watched tensors that a request computes, or is fed."""
    nodes = set(needed_nodes({fetch.node if isinstance(fetch, Tensor) else fetch for fetch in fetches}, feeds))
    return list(dict.fromkeys([watch.tensor for watch in watches if watch.tensor.node in nodes or watch.tensor in feeds]))
