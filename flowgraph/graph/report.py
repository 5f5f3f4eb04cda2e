"""How an error about a node reads: which node, which inputs, which of the user's lines. Used while building and while running."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import FlowgraphError
from .location import Location
from .node import Node, Tensor
from .spec import format_spec


def explain(
    error: FlowgraphError,
    *,
    op: str,
    name: str,
    location: Location,
    inputs: Sequence[tuple[str, Any]],
    node: Node | None = None,
    forward: Node | None = None,
    values: Sequence[Any] | None = None,
    device: str | None = None,
) -> FlowgraphError:
    """Adds to ``error`` where it happened and what met there, once.

    op, name, location  of the node, or of the node that would have been made
    inputs              (parameter's name, tensor) pairs
    values              the arrays that the kernel got, when it ran: their shapes are shown instead of the declared ones
    """
    if any(label == "node" for label, _ in error.rows):
        return error
    error.node = node
    name_of_call = error.call.name if error.call is not None else None
    if not name_of_call and not error.message.startswith(f"{op}: "):
        error.message = f"{op}: {error.message}"
        error.args = (error.message,)
    rows = [("node", f"{name}, made at {where(location)}")]
    if forward is not None:
        rows.append(("while", f"differentiating {forward.name}, made at {where(forward.location)}"))
    if device is not None:
        rows.append(("device", device))
    if name_of_call and error.call.inputs:
        rows += error.call.inputs
    else:
        for position, (label, tensor) in enumerate(inputs):
            rows.append(input_row(label, tensor, *values[position : position + 1] if values is not None else ()))
    error.rows = [*rows, *error.details]
    return error


def input_row(label: str, tensor: Any, *value: Any) -> tuple[str, str]:
    """What an input is: shape and dtype (of ``value``, where that is given) and its name."""
    return label, f"{spec_text(value[0] if value else tensor)}   {origin(tensor)}"


def where(location: Location) -> str:
    """A location with its line, as in ``train.py:41    h = x @ w + b``."""
    return f"{location}    {location.text}".rstrip()


def origin(tensor: Any) -> str:
    """What a tensor is, in a few words: its name, and for a variable or placeholder also its kind and line."""
    if not isinstance(tensor, Tensor):
        return "given as a value"
    kind = tensor.node.op.name
    if kind in ("variable", "placeholder"):
        return f"{kind} {tensor.name}, made at {where(tensor.node.location)}"
    return f"constant {tensor.name}" if kind == "constant" else tensor.name


def spec_text(value: Any) -> str:
    """Shape and dtype of a tensor or array, or the type of anything else."""
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else format_spec(tuple(shape), value.dtype)
