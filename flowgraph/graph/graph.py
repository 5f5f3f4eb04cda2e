"""Graph: owns its nodes in creation order, which is a topological order. Append-only; building is thread-safe.

No arrays live here except the values of constants.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from types import CodeType
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import GraphError, UnknownNameError
from .context import DEFAULT, Context, enter, leave
from .location import Location, user_frame
from .node import FUNCTIONS, Node, Tensor

if TYPE_CHECKING:
    from .op import Op


class Collector:
    """Keeps Python's garbage collector from what makes many objects of which none is garbage, yet each collection visits them.

    rarely  a context for what users' code runs in (``with Graph()``): collections become rare, the full ones and those of young objects.
            Without it, a million nodes take up to twice as long to build
    paused  a context for what none but the engine's code runs in, such as planning: there are none

    The user's thresholds come back when the last block, of any thread, is left; one of 0, which turns collections off, stays.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards all
        self._entered = {"rarely": 0, "paused": 0}  # how many blocks go on
        self._thresholds = (0, 0, 0)
        self.rarely, self.paused = _Block(self, "rarely"), _Block(self, "paused")

    def _step(self, how: str, by: int) -> None:
        """Notes that a block begins or ends, and sets the thresholds for those that go on."""
        with self._lock:
            if not any(self._entered.values()):
                self._thresholds = gc.get_threshold()
            self._entered[how] += by
            young, middle, old = self._thresholds
            if self._entered["paused"]:
                gc.set_threshold(0, middle, old)
            elif self._entered["rarely"]:
                gc.set_threshold(young and max(young, 10_000), middle, max(old, 1000))
            else:
                gc.set_threshold(*self._thresholds)


class _Block:
    """A context of a `Collector`."""

    def __init__(self, collector: Collector, how: str) -> None:
        self._collector, self._how = collector, how

    def __enter__(self) -> None:
        self._collector._step(self._how, 1)

    def __exit__(self, *exc: Any) -> None:
        self._collector._step(self._how, -1)


COLLECTOR = Collector()


class Graph:
    """A directed graph of operations. Use it as a context to build in it.

    >>> with fg.Graph() as graph:
    ...     x = fg.placeholder("x", (3,), "float32")
    ...     y = x * 2 + 1
    >>> [node.name for node in graph]
    ['x', 'constant', 'multiply', 'constant_1', 'add']
    >>> graph["multiply"]
    <Tensor multiply: (3,) float32>
    """

    is_sub = False  # whether it lives in another graph: see SubGraph

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.root = Context(self)
        # `_lock` guards `nodes` (an id is its node's place in the list), `_names`, `_taken` and `_constants`.
        self._lock = threading.RLock()
        self._names: list[str] = []  # of the first nodes: names are given when first asked for, in creation order
        self._taken: dict[str, int] = {}  # name -> node id
        self._repeats: dict[str, int] = {}  # name without number -> last number given
        self._constants: dict[tuple[Any, ...], Tensor] = {}
        # What libraries derive from this graph and keep with it (gradients made so far), by a key of their own.
        self.memo: dict[Any, Any] = {}

    def __enter__(self) -> Graph:
        enter(self.root)
        COLLECTOR.rarely.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        COLLECTOR.rarely.__exit__()
        leave()

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __repr__(self) -> str:
        return f"<Graph of {len(self.nodes)} nodes>"

    def __getitem__(self, name: str) -> Tensor:
        """The tensor called ``name`` (``layer1/matmul``; a second output is ``split:1``). raises UnknownNameError with near names."""
        base, _, index = name.partition(":") if isinstance(name, str) else (name, "", "")
        node = self.node(base)
        if not node.outputs:
            raise GraphError(f"{base} has no output", help=f"graph.node({base!r}) gives the node itself")
        position = int(index or 0) if (index or "0").isdigit() else -1
        if not 0 <= position < len(node.outputs):
            raise UnknownNameError.of("output", name, [output.name for output in node.outputs])
        return node.outputs[position]

    def __contains__(self, name: object) -> bool:
        with self._lock:
            self._name_all()
            return isinstance(name, str) and name in self._taken

    def node(self, name: str) -> Node:
        """The node called ``name``. raises UnknownNameError, which lists names that are near."""
        with self._lock:
            self._name_all()
            if isinstance(name, str) and name in self._taken:
                return self.nodes[self._taken[name]]
            known = list(self._taken)
        raise UnknownNameError.of("node", name, known)

    @property
    def variables(self) -> list[Tensor]:
        """Its variables, in creation order."""
        return [node.outputs[0] for node in self.nodes if node.op.name == "variable"]

    @property
    def placeholders(self) -> list[Tensor]:
        """Its placeholders, in creation order."""
        return [node.outputs[0] for node in self.nodes if node.op.name == "placeholder"]

    def append(
        self,
        op: Op,
        inputs: tuple[Tensor, ...],
        attrs: dict[str, Any],
        inferred: Any,
        context: Context,
        label: str | None,
        code: CodeType | Location,
        offset: int,
    ) -> Node:
        """Adds a node; the one place that makes them. ``inferred``: its output's Spec (or anything with shape and dtype), or a list."""
        node = Node.__new__(Node)
        node.graph = self
        node.op = op
        node.inputs = inputs
        node.attrs = attrs
        node._context = context
        node._label = label
        node._code = code
        node._offset = offset
        if inferred.__class__ is list:
            node.outputs = tuple([Tensor(node, i, s.shape, s.dtype) for i, s in enumerate(inferred)])
        else:
            node.outputs = (Tensor(node, 0, inferred.shape, inferred.dtype),)
        with self._lock:
            node.id = len(self.nodes)
            self.nodes.append(node)
        return node

    def constant(self, value: np.ndarray[Any, Any], name: str | None = None) -> Tensor:
        """A constant of this graph with a private copy of ``value``. A number without a name is made only once."""
        make = FUNCTIONS["constant"]
        if value.ndim or name is not None:
            return make(value, name=name, graph=self)  # type: ignore[no-any-return]
        key = (value.dtype, value.tobytes())
        with self._lock:
            if key not in self._constants:
                self._constants[key] = make(value, graph=self)
            return self._constants[key]

    def name_of(self, node: Node) -> str:
        """The unique name of one of its nodes. Names depend on the order of creation alone, never on who asks first."""
        if node.id >= len(self._names):
            with self._lock:
                self._name_all()
        return self._names[node.id]

    def _name_all(self) -> None:
        for node in self.nodes[len(self._names) :]:
            scope = node._context.scope
            base = node._label or node.op.name
            base = f"{scope}/{base}" if scope else base
            name = base
            while name in self._taken:
                number = self._repeats[base] = self._repeats.get(base, 0) + 1
                name = f"{base}_{number}"
            self._taken[name] = node.id
            self._names.append(name)

    def to_networkx(self) -> Any:
        """The graph as a ``networkx.MultiDiGraph`` for analysis: node ids with the data of each node, an edge for each input.

        Nodes have ``name``, ``op``, ``scope``, ``device``, ``node``; edges ``tensor``, ``shape``, ``dtype`` and ``control``.

        >>> with fg.Graph() as graph:
        ...     y = fg.exp(fg.placeholder("x", ()))
        >>> graph.to_networkx().edges(data="shape")
        OutMultiEdgeDataView([(0, 1, ())])
        """
        import networkx

        view: Any = networkx.MultiDiGraph()
        for node in list(self.nodes):
            view.add_node(node.id, name=node.name, op=node.op.name, scope=node.scope, device=node.device, node=node)
            for tensor in node.inputs:
                view.add_edge(tensor.node.id, node.id, tensor=tensor, shape=tensor.shape, dtype=tensor.dtype, control=False)
            for before in node.control:
                view.add_edge(before.id, node.id, tensor=None, shape=None, dtype=None, control=True)
        return view

    def _repr_svg_(self) -> str:
        """What a notebook shows."""
        return str(FUNCTIONS["draw"](self))


DEFAULT.make = Graph

__all__ = ["Graph", "user_frame"]
