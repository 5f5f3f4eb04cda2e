"""Sub-graphs as functions: built in place, and split into what runs forwards and what runs backwards.

The nodes that hold sub-graphs are differentiated by these two. `inline` (in autodiff) makes the nodes of a body again in the current graph.
`Linear` splits the gradient of a body in two: a forward part, which also gives what the backward part reads of it (the residuals),
and a backward part, from residuals and cotangents to cotangents. So a loop runs forwards once, keeps the residuals of each turn, and
its gradient is a loop over them that runs backwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ..autodiff.forward import push_forward
from ..autodiff.gradients import gradients
from ..autodiff.rebuild import rebuilt
from ..graph import Node, SubGraph, Tensor
from ..graph.context import current, entered
from ..graph.subgraph import ancestors, as_tensor, parameter
from ..ops.contract import LETTERS
from ..ops.shape import broadcast_to, zeros_like


def push_through(
    sub: SubGraph, inputs: Sequence[Any], captured: Sequence[Any], tangents: Sequence[Any]
) -> tuple[list[Tensor], list[Tensor]]:
    """The outputs of ``sub`` in the current graph, and their tangents (zeros where there is none; only of the floats among them).

    tangents  of the inputs and then the captures; None where one has none
    """
    given = [as_tensor(value) for value in (*inputs, *captured)]
    outputs, _ = rebuilt(sub.outputs, dict(zip((*sub.inputs, *sub.captures.values()), given, strict=True)))
    moving = [(x, as_tensor(t)) for x, t in zip(given, tangents, strict=True) if t is not None]
    pushed = push_forward(outputs, [x for x, _ in moving], [t for _, t in moving]) if moving else [None] * len(outputs)
    return outputs, [zeros_like(y) if t is None else t for y, t in zip(outputs, pushed, strict=True) if is_float(y)]


def is_float(x: Any) -> bool:
    """Whether ``x`` takes part in differentiation."""
    return x.dtype.kind in "fcV"


def floats(values: Iterable[Any]) -> list[Any]:
    """Those of ``values`` that take part in differentiation."""
    return [x for x in values if is_float(x)]


class Product(NamedTuple):
    """A cotangent that is one matrix product: so its sum over many turns is one product of the stacks of its factors.

    subscripts  of that, with the turns as the first axis of both: "akn,akm->nm"
    """

    left: Tensor
    right: Tensor
    subscripts: str


class Linear:
    """A body and its gradient.

    residuals  tensors of the forward part that the backward part reads
    given      for each residual the position of the input that it is, or None where the forward part makes it
    results    cotangents of the float inputs, then of the float captures
    turned     captures with their axes in another order, which the backward part reads
    products   position in ``results`` -> how it is made, for those of captures that are matrix products
    sums       position in ``results`` -> what is summed up to it, for those of captures that others were broadcast with
    """

    def __init__(self, body: SubGraph, inputs: Sequence[Any]) -> None:
        """``inputs``: what the node that holds ``body`` reads for its captures."""
        self.body = body
        joint = self._joint = SubGraph(current(), "body")
        with entered(joint.root):
            self._captured = [parameter(f"c{i}", inner) for i, inner in enumerate(body.captures.values())]
            self._inputs = [parameter(f"x{i}", inner) for i, inner in enumerate(body.inputs)]
            self._outputs, _ = rebuilt(
                body.outputs, dict(zip((*body.inputs, *body.captures.values()), (*self._inputs, *self._captured), strict=True))
            )
            first = len(joint)
            self._cotangents = [parameter(f"g{i}", out) for i, out in enumerate(floats(self._outputs))]
            wanted = floats((*self._inputs, *self._captured))
            self.results: list[Tensor] = []
            if self._cotangents and wanted:
                self.results = gradients(floats(self._outputs), wanted, grad_ys=self._cotangents)
        self._split(first)
        captures = set(self._captured)
        self.turned = [node.outputs[0] for node in joint.nodes[first:] if node.op.name == "permute_dims" and node.inputs[0] in captures]
        self.products: dict[int, Product] = {}
        self.sums: dict[int, Tensor] = {}
        for place in range(len(floats(self._inputs)), len(self.results)):
            result = self.results[place]
            product = _product(result, first)
            if product is not None:
                self.products[place] = product
            elif result.node.id >= first and result.node.op.name == "sum_like":
                self.sums[place] = result.node.inputs[0]

    def _split(self, first: int) -> None:
        """Finds the residuals: what the nodes from ``first`` on read of those before, and what depends on a turn."""
        joint = self._joint
        varying: set[int] = {x.node.id for x in self._inputs}
        for node in joint.nodes[:first]:
            if any(tensor.node.id in varying for tensor in node.inputs) or (node.op.is_stateful and node.op.name == "fold_key"):
                varying.add(node.id)
        read: dict[Tensor, bool] = {}  # whether its value is needed, or only its shape
        for node_id in ancestors([result.node for result in self.results], set()):
            node = joint.nodes[node_id]
            if node_id >= first:
                for position, tensor in enumerate(node.inputs):
                    if tensor.node.id < first and tensor.node.id in varying:
                        told = position in node.op.shape_inputs and tensor.is_known
                        read[tensor] = read.get(tensor, False) or not told
        for result in self.results:
            if result.node.id < first and result.node.id in varying:
                read[result] = True
        self.residuals = [tensor for tensor, needed in read.items() if needed]
        self._shapes = [tensor for tensor, needed in read.items() if not needed]
        places = {x: i for i, x in enumerate(self._inputs)}
        self.given = [places.get(tensor) for tensor in self.residuals]

    def forward(self, inputs: Sequence[Any], captured: Sequence[Any]) -> tuple[list[Tensor], list[Tensor]]:
        """Outputs of the body and those residuals that it makes, in the current graph."""
        known = self._known((*self._inputs, *self._captured), (*inputs, *captured))
        made = [r for r, place in zip(self.residuals, self.given, strict=True) if place is None]
        results, _ = rebuilt([*self._outputs, *made], known)
        return results[: len(self._outputs)], results[len(self._outputs) :]

    def backward(
        self,
        residuals: Sequence[Any],
        cotangents: Sequence[Any],
        captured: Sequence[Any],
        wanted: Sequence[Tensor] | None = None,
        turned: Sequence[Any] = (),
    ) -> list[Tensor]:
        """The cotangents of the float inputs and then the float captures, in the current graph.

        residuals   all of them, in their order
        cotangents  of the float outputs
        wanted      other tensors of the backward part, in place of ``results``
        turned      what `turn_captures` made of the captures, where that was done before
        """
        known = self._known((*self.residuals, *self._cotangents, *self._captured), (*residuals, *cotangents, *captured))
        # Of some only the shape is read: a repeated number has it, and no run computes even that.
        known.update({t: broadcast_to(as_tensor(t.dtype.type(0)), t.shape) for t in self._shapes if t not in known})
        known.update(zip(self.turned, [as_tensor(t) for t in turned], strict=False))
        return rebuilt(self.results if wanted is None else wanted, known)[0]

    def turn_captures(self, captured: Sequence[Any]) -> list[Tensor]:
        """The tensors ``turned``, in the current graph: in front of a loop, none of whose turns then has to make them."""
        return rebuilt(self.turned, self._known(self._captured, captured))[0]

    def _known(self, keys: Sequence[Tensor], values: Sequence[Any]) -> dict[Tensor, Tensor]:
        return dict(zip(keys, [as_tensor(value) for value in values], strict=True))


def _product(result: Tensor, first: int) -> Product | None:
    """How ``result`` is a product of two matrices, if the nodes from ``first`` on, the backward part, make it one."""

    def transposed_back(x: Tensor, term: str) -> tuple[Tensor, str]:
        is_transpose = x.node.id >= first and x.node.op.name == "permute_dims" and x.node.attrs["axes"] == (1, 0)
        return (x.node.inputs[0], term[::-1]) if is_transpose else (x, term)

    result, out = transposed_back(result, "nm")
    node = result.node
    if node.id >= first and node.op.name == "contract":
        terms, made = node.attrs["subscripts"].split("->")
        of_left, of_right = terms.split(",")
        turns = next(letter for letter in LETTERS if letter not in terms)
        left, right = node.inputs
        return Product(left, right, f"{turns}{of_left},{turns}{of_right}->{made if out == 'nm' else made[::-1]}")
    if node.id < first or node.op.name != "matmul" or [x.ndim for x in node.inputs] != [2, 2]:
        return None
    factors = [transposed_back(x, term) for x, term in zip(node.inputs, ("nk", "km"), strict=True)]
    # The outer product of two vectors: the axis of size 1 between them is left out.
    if all(x.node.id >= first and x.node.op.name == "expand_dims" and x.node.attrs["axis"] == term.index("k") for x, term in factors):
        factors = [(x.node.inputs[0], term.replace("k", "")) for x, term in factors]
    (left, of_left), (right, of_right) = factors
    return Product(left, right, f"a{of_left},a{of_right}->{out}")


def linear_of(node: Node, name: str, captured: Sequence[Any]) -> Linear:
    """The `Linear` of the body called ``name`` of ``node``, made once."""
    key = ("linear", node.id, name)
    memo = node.graph.memo
    if key not in memo:
        memo[key] = Linear(node.attrs[name], captured)
    return memo[key]  # type: ignore[no-any-return]
