"""Copies of tensors to other devices: the nodes that stand for them in a plan, and what they cost."""

from __future__ import annotations

from typing import Any

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


_COPY = Copy()


def copy_node(tensor: Tensor, target: str) -> CopyNode:
    """A node that copies ``tensor`` to the device called ``target``."""
    made, node = tensor.node, CopyNode()
    node.id, node.graph, node.op, node.attrs, node.target = made.id, made.graph, _COPY, {}, target
    node.inputs, node.outputs = (tensor,), (tensor,)
    node._context, node._label, node._code, node._offset = made._context, None, made._code, made._offset
    return node


def copy_seconds(spec: Any) -> float:
    """Estimated seconds to copy a tensor to another device; of one whose size only a run knows, the call alone."""
    return CALL_SECONDS + (Spec(spec.shape, spec.dtype).nbytes / BYTES_PER_SECOND if is_known(spec.shape) else 0.0)
