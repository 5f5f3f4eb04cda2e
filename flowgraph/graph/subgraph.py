"""SubGraph: a graph inside a node (the body of a loop, a branch), or the trace of a function of tensors.

Building in it may use any tensor of the graphs around it: each becomes an input of the sub-graph, its capture, so that a sub-graph
is closed and its node reads all that the body needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .arguments import call, counted
from .context import Context, current, entered
from .graph import Graph
from .nest import Rebuild, flatten
from .node import FUNCTIONS, Node, Tensor
from .report import inferred_again
from .spec import Spec


class SubGraph(Graph):
    """A graph that lives in another one.

    parent    the graph around it
    inputs    its placeholders, in the order of the function that it was traced from
    captures  tensor of the parent -> the placeholder that stands for it here, in the order of their first use
    outputs   what it computes
    """

    is_sub = True

    def __init__(self, around: Context, label: str) -> None:
        super().__init__()
        self.parent = around.graph
        scope = f"{around.scope}/{label}" if around.scope else label
        self.root = Context(self, scope=scope, device=around.device)
        self.inputs: list[Tensor] = []
        self.captures: dict[Tensor, Tensor] = {}
        self.outputs: list[Tensor] = []

    def capture(self, tensor: Tensor) -> Tensor:
        """The tensor here that stands for one of the graphs around. Anything becomes an input, but for constants without gradient."""
        if tensor.graph is self:
            return tensor
        outer = self.parent.capture(tensor) if isinstance(self.parent, SubGraph) else tensor
        with self._lock:
            if outer not in self.captures:
                with entered(self.root):
                    if outer.node.op.name == "constant" and outer.dtype.kind not in "fcV":
                        return FUNCTIONS["constant"](outer.node.attrs["value"])  # type: ignore[no-any-return]
                    self.captures[outer] = parameter(outer.node.name.rpartition("/")[2], outer)
            return self.captures[outer]

    def infer(self, specs: Sequence[Any]) -> list[Any]:
        """What its outputs are when its inputs and then its captures are ``specs``: inference once more, where a size has become known."""
        own = (*self.inputs, *self.captures.values())
        known = {tensor: spec for tensor, spec in zip(own, specs, strict=True) if spec.shape != tensor.shape}
        if not known:
            return list(self.outputs)
        for node in list(self.nodes):
            if any(tensor in known for tensor in node.inputs):
                known.update(zip(node.outputs, inferred_again(node, [known.get(tensor, tensor) for tensor in node.inputs]), strict=True))
        return [known.get(out, out) for out in self.outputs]

    def is_inside(self, graph: Graph) -> bool:
        """Whether ``graph`` is this one or one around it."""
        return graph is self or self.parent is graph or (isinstance(self.parent, SubGraph) and self.parent.is_inside(graph))

    @property
    def base(self) -> Graph:
        """The outermost graph around it."""
        return self.parent.base if isinstance(self.parent, SubGraph) else self.parent

    def __repr__(self) -> str:
        counts = f"{len(self.inputs)} inputs, {len(self.captures)} captures, {len(self.outputs)} outputs"
        return f"<SubGraph of {len(self.nodes)} nodes: {counts}>"


def parameter(name: str, like: Any) -> Tensor:
    """A placeholder of the current graph with the shape and dtype of ``like``."""
    return FUNCTIONS["placeholder"](name, like.shape, like.dtype)  # type: ignore[no-any-return]


def trace(
    function: Callable[..., Any],
    specs: Sequence[Any],
    label: str,
    names: Iterable[str] = (),
) -> tuple[SubGraph, Rebuild]:
    """The sub-graph that ``function`` builds from placeholders of ``specs``, and the way to give its results their nesting back."""
    sub = SubGraph(current(), label)
    given = list(names)
    with entered(sub.root):
        sub.inputs = [parameter(given[i] if i < len(given) else f"x{i}", spec) for i, spec in enumerate(specs)]
        leaves, rebuild = flatten(call(function, f"{label}: the function", counted(len(specs), "argument"), *sub.inputs))
        sub.outputs = [as_tensor(leaf) for leaf in leaves]
    return sub, rebuild


def as_tensor(value: Any) -> Tensor:
    """``value`` as a tensor of the current graph: captured from the graphs around it, or made a constant."""
    (tensor,) = FUNCTIONS["lift"]((value,))
    return tensor  # type: ignore[no-any-return]


def ancestors(nodes: Sequence[Node], stops: set[Tensor]) -> list[int]:
    """The ids of ``nodes`` and of all that they depend on, in creation order, not looking behind ``stops``."""
    seen = {node.id for node in nodes}
    stack = list(nodes)
    while stack:
        for tensor in stack.pop().inputs:
            if tensor.node.id not in seen and tensor not in stops:
                seen.add(tensor.node.id)
                stack.append(tensor.node)
    return sorted(seen)


def replay(node: Node, inputs: Sequence[Tensor], context: Context, made: Mapping[Node, Node] | None = None) -> Node:
    """The same operation once more, on ``inputs`` and in ``context``, with the label and the user's line of ``node``.

    made  nodes that have been replayed before: what the attributes say of them holds of their copies
    """
    attrs = node.attrs
    if attrs.get("extends") is not None:
        attrs = {**attrs, "extends": (made or {}).get(attrs["extends"])}
    inferred = node.op.infer(*inputs, **attrs)
    specs = inferred if isinstance(inferred, list) else Spec(inferred.shape, inferred.dtype)
    return context.graph.append(node.op, tuple(inputs), attrs, specs, context, node._label, node._code, node._offset)
