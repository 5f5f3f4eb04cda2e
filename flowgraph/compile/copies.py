"""Copies of tensors to other devices: the nodes that stand for them in a plan, and what they cost."""

from __future__ import annotations

from typing import Any, TypeVar

from ..graph import Node, Op, Spec, Tensor
from ..graph.spec import is_known
from .cost import BYTES_PER_SECOND, CALL_SECONDS


class Copy(Op):
    """The op of a copy; the kernel is the device's that gets it."""

    name = "copy"
    vjp = None
    is_view = True  # as that of a view, the result may have any strides, so that no kernel may write over it

    def infer(self, x: Any) -> Any:
        return x


class CopyNode(Node):
    """A node of a plan that copies a tensor to the device ``target``; it is in no graph, and has the line of what made the tensor."""

    __slots__ = ("target",)
    target: str

    @property
    def name(self) -> str:
        return f"{self.inputs[0].name} to {self.target}"


class Receive(Op):
    """The op of what a copy to the host ends with: the host waits until it has arrived."""

    name = "receive"
    vjp = None

    def infer(self, x: Any) -> Any:
        return x


class ReceiveNode(Node):
    """A node of a plan that waits on the host for what a `CopyNode` has sent there."""

    __slots__ = ("source",)
    source: str

    @property
    def name(self) -> str:
        return f"{self.inputs[0].name} from {self.source}"


_COPY, _RECEIVE = Copy(), Receive()


def copy_node(tensor: Tensor, target: str) -> CopyNode:
    """A node that copies ``tensor`` to the device called ``target``."""
    node = CopyNode()
    node.op, node.target = _COPY, target
    return _in_place_of(tensor, node)


def receive_node(tensor: Tensor, source: str) -> ReceiveNode:
    """A node that waits for ``tensor``, sent by the device called ``source``."""
    node = ReceiveNode()
    node.op, node.source = _RECEIVE, source
    return _in_place_of(tensor, node)


N = TypeVar("N", bound=Node)


def _in_place_of(tensor: Tensor, node: N) -> N:
    made = tensor.node
    node.id, node.graph, node.attrs = made.id, made.graph, {}
    node.inputs, node.outputs = (tensor,), (tensor,)
    node._context, node._label, node._code, node._offset = made._context, None, made._code, made._offset
    return node


def copy_seconds(spec: Any) -> float:
    """Estimated seconds to copy a tensor to another device; of one whose size only a run knows, the call alone."""
    return CALL_SECONDS + (Spec(spec.shape, spec.dtype).nbytes / BYTES_PER_SECOND if is_known(spec.shape) else 0.0)
