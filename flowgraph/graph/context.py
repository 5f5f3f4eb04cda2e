"""Where nodes are being built: the current graph, scope, device, control inputs and forward node, per thread and per coroutine.

All of it is one immutable object, so that making a node reads one context variable and keeps one reference.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

from ..errors import ArgumentError, GraphError

if TYPE_CHECKING:
    from .graph import Graph
    from .node import Node, Tensor


class Context:
    """What a new node takes from its surroundings. Never changed once made; nodes made in one place share one."""

    __slots__ = ("colocated", "control", "device", "forward", "graph", "origin", "scope")

    def __init__(
        self,
        graph: Graph,
        scope: str = "",
        device: str | None = None,
        control: tuple[Node, ...] = (),
        forward: Node | None = None,
        origin: Node | None = None,
        colocated: Node | None = None,
    ) -> None:
        self.graph = graph
        self.scope = scope
        self.device = device
        self.control = control
        self.forward = forward
        self.origin = origin  # the node whose line in the user's code new ones take over, as they are made from it
        self.colocated = colocated  # a node on whose device, which it leaves open, new ones run

    @property
    def request(self) -> Any:
        """What is asked for: a device, a node to run beside, or nothing."""
        return self.device or self.colocated

    def replace(self, **changes: Any) -> Context:
        fields = {name: getattr(self, name) for name in Context.__slots__}
        return Context(**{**fields, **changes})


CURRENT: ContextVar[Context | None] = ContextVar("flowgraph_context", default=None)
# What `leave` goes back to. Threads and coroutines may be in one graph at once, so that this cannot be kept with the graph.
_ENTERED: ContextVar[list[Token[Any]]] = ContextVar("flowgraph_entered")


class _Default:
    """Owns the graph that is used when no ``with Graph()`` is open. Made on first use, under `_lock`."""

    make: Callable[[], Graph]  # the class Graph itself, put here by its module, which imports this one

    def __init__(self) -> None:
        self.context: Context | None = None
        self._lock = threading.Lock()

    def get(self) -> Context:
        if self.context is None:
            with self._lock:
                if self.context is None:
                    self.context = self.make().root
        return self.context


DEFAULT = _Default()


def current() -> Context:
    """The context in which the next node of this thread is made."""
    return CURRENT.get() or DEFAULT.get()


def get_default_graph() -> Graph:
    """The graph that a new node without inputs would belong to.

    >>> with fg.Graph() as graph:
    ...     fg.get_default_graph() is graph
    True
    """
    return current().graph


def enter(context: Context) -> None:
    """Makes ``context`` the current one until `leave` is called."""
    tokens: list[Token[Any]] = [CURRENT.set(context)]
    tokens.append(_ENTERED.set(tokens))


def leave() -> None:
    """Makes the context the current one that was so before `enter`."""
    # (By its token, so that no value is left: with one more of them, who sets any other variable takes 60 ns longer.)
    current, entered = _ENTERED.get()
    _ENTERED.reset(entered)
    CURRENT.reset(current)


@contextmanager
def entered(context: Context) -> Iterator[Context]:
    """Makes ``context`` the current one inside a ``with``."""
    token = CURRENT.set(context)
    try:
        yield context
    finally:
        CURRENT.reset(token)


@contextmanager
def scope(name: str) -> Iterator[str]:
    """Names the nodes built inside ``name/...``; scopes nest, and a drawing shows each as a box.

    name    one or more names separated by ``/``
    raises  ArgumentError for an empty name or one with an empty part

    >>> with fg.Graph() as graph, fg.scope("layer1"):
    ...     fg.placeholder("x", ()).name
    'layer1/x'
    """
    if not isinstance(name, str) or not name or not all(name.split("/")):
        raise ArgumentError(f"a scope's name is a non-empty text, got {name!r}")
    here = current()
    path = f"{here.scope}/{name}" if here.scope else name
    with entered(here.replace(scope=path)):
        yield path


@contextmanager
def device(name: str | None) -> Iterator[None]:
    """Asks that the nodes built inside run on ``name`` (``"cpu:0"``, ``"cpu:1"``), and variables live there; None takes the request back.

    Gradients of what is built inside, and what an optimiser keeps for its variables, are there as well.

    raises  ArgumentError for what is no text; a session that has no such device refuses to plan what asks for it

    >>> with fg.Graph() as graph:
    ...     x = fg.placeholder("x", (2,), "float64")
    ...     with fg.device("cpu:1"):
    ...         y = fg.square(x)
    >>> with fg.Session(graph, devices=["cpu:0", "cpu:1"]) as session:
    ...     session.run(fg.sum(y), {x: [3.0, 4.0]})
    np.float64(25.0)
    """
    if name is not None and not isinstance(name, str):
        raise ArgumentError(f"device: the name of a device is a text, got {name!r:.80}", help='for example "cpu:0"')
    with entered(current().replace(device=name, colocated=None)):
        yield


@contextmanager
def colocate_with(tensor: Tensor | Node) -> Iterator[None]:
    """Asks that the nodes built inside run where ``tensor`` is made, or lives if it is a variable, wherever that will be.

    What ``tensor`` asks for itself, they ask for; where it asks for nothing, all of them are placed together. The request inside is the
    one that counts: `device` within takes this one back, and the other way round.

    raises  GraphError for what is no tensor or node of the current graph

    >>> with fg.Graph() as graph:
    ...     with fg.device("cpu:1"):
    ...         w = fg.variable([1.0, 2.0], name="w")
    ...     with fg.colocate_with(w):
    ...         y = w * 2.0
    >>> y.node.device
    'cpu:1'
    """
    here = current()
    node: Any = getattr(tensor, "node", tensor)
    if getattr(node, "graph", None) is not here.graph:
        raise GraphError(f"colocate_with: takes a tensor or node of the current graph, got {tensor!r:.80}")
    target = None if node.device is not None else node._context.colocated or node
    with entered(here.replace(device=node.device, colocated=target)):
        yield


@contextmanager
def control_dependencies(nodes: list[Node | Tensor] | tuple[Node | Tensor, ...]) -> Iterator[None]:
    """Makes every node built inside wait until ``nodes`` have run, without reading their values.

    raises  GraphError when one of them belongs to another graph
    """
    here = current()
    if not isinstance(nodes, list | tuple):
        raise GraphError(f"control_dependencies: takes a list of nodes or tensors, got {nodes!r:.80}")
    control = list(here.control)
    for given in nodes:
        node: Any = getattr(given, "node", given)
        if getattr(node, "graph", None) is not here.graph:
            raise GraphError(f"control_dependencies: takes nodes or tensors of the current graph, got {node!r:.80}")
        if node not in control:
            control.append(node)
    with entered(here.replace(control=tuple(control))):
        yield
