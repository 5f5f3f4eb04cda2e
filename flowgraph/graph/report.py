"""How an error about a node reads: which node, which inputs, which of the user's lines. Used while building and while running."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import FlowgraphError
from .location import Location, is_foreign, resolve, user_frame
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
    forward             the node that it is the gradient of
    values              the arrays that the kernel got, when it ran: their shapes are shown instead of the declared ones
    """
    if any(label == "node" for label, _ in error.rows):
        return error
    error.node, error.place = node, (op, name, location)
    called = error.call.name if error.call is not None and error.call.is_operation else None
    if not called:
        other = f"{error.call.name}: " if error.call is not None else ""
        error.message = f"{op}: {error.message.removeprefix(other).removeprefix(f'{op}: ')}"
        error.args = (error.message,)
    rows = [("node", pointed(f"{name}, made at ", location))]
    # A mistake in a gradient is one of what is differentiated, unless the user's own code builds the gradient.
    is_own = node is None and error.call is not None and (error.call.name is None or error.call.is_operation)
    error.blamed = error.blamed or (location if forward is None or is_own else blamed_line(forward))
    while forward is not None:  # (of a second derivative, first the node of the first)
        rows.append(("while", pointed(f"differentiating {forward.name}, made at ", forward.location)))
        forward = forward.forward
    if device is not None:
        rows.append(("device", device))
    if called and error.call.inputs:
        rows += error.call.inputs
        error.near = error.call.tensors
    else:
        error.near = tuple(x for _, x in inputs if isinstance(x, Tensor))
        rows += some([input_row(label, x, *values[i : i + 1] if values is not None else ()) for i, (label, x) in enumerate(inputs)])
    error.rows = [*rows, *error.details]
    return error


def blamed_line(node: Node) -> Location:
    """The user's line to blame for a node: the one that made it, or for a node of a gradient the one that was differentiated."""
    while node.forward is not None:
        node = node.forward
    return node.location


def explain_node(error: FlowgraphError, node: Node, values: Sequence[Any], device: str | None = None) -> FlowgraphError:
    """`explain` for a node that there is, with what it got for its inputs."""
    return explain(
        error,
        op=node.op.name,
        name=node.name,
        location=node.location,
        inputs=list(zip(node.op.parameters, node.inputs, strict=False)),
        node=node,
        forward=node.forward,
        values=values,
        device=device,
    )


def some(rows: list[tuple[str, str]], most: int = 8) -> list[tuple[str, str]]:
    """The first few of ``rows``, and how many more there are."""
    return rows if len(rows) <= most else [*rows[:most], ("...", f"and {len(rows) - most} more")]


def raised_at(error: BaseException) -> tuple[Location | None, list[tuple[str, str]]]:
    """The line of the user's in which ``error`` was raised, and a row with it; None and no row where no code of his ran."""
    found = None
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if user_frame(frame) is frame and not is_foreign(frame):
            found = resolve(frame.f_code, trace.tb_lasti)
        trace = trace.tb_next
    return found, [] if found is None else [("raised at", pointed("", found))]


def input_row(label: str, tensor: Any, *value: Any) -> tuple[str, str]:
    """What an input is: shape and dtype (of ``value``, where that is given) and its name."""
    return label, f"{spec_text(value[0] if value else tensor)}   {origin(tensor)}"


def where(location: Location) -> str:
    """A location with its line, as in ``train.py:41    h = x @ w + b``."""
    return f"{location}    {location.text}".rstrip()


def pointed(before: str, location: Location) -> str:
    """``before`` and then a location with its line, and carets below the expression that is meant."""
    line, marks = where(location), location.marks
    if not marks:
        return before + line
    return f"{before}{line}\n{' ' * (len(before) + len(line) - len(location.text))}{marks}"


def origin(tensor: Any) -> str:
    """What a tensor is, in a few words: its name, and for a variable or placeholder also its kind and line."""
    if not isinstance(tensor, Tensor):
        return "given as a value"
    kind = tensor.node.op.name
    if kind in ("variable", "placeholder"):
        return f"{kind} {tensor.name}, made at {where(tensor.node.location)}"
    if kind == "constant":
        return f"constant {tensor.name}" if tensor.node.label else "given as a value"
    return tensor.name


def of_another_graph(tensor: Any) -> tuple[list[tuple[str, str]], str]:
    """Rows and help for a tensor or node that does not belong to the graph that is meant."""
    node = tensor.node if isinstance(tensor, Tensor) else tensor
    rows = [(tensor.name, f"made at {where(node.location)}")]
    if node.graph.is_sub:
        return rows, "it has a value only within the function that built it, turn by turn: return it from there"
    return rows, "build everything in one `with fg.Graph() as graph:` block; fetch a value from one graph and feed it to the other"


def inferred_again(node: Node, inputs: Sequence[Any]) -> list[Any]:
    """What the outputs of ``node`` are for other ``inputs`` than its own. raises what its inference says is wrong, with the node."""
    try:
        inferred = node.op.infer(*inputs, **node.attrs)
    except FlowgraphError as error:
        raise explain_node(error, node, inputs) from None
    return inferred if isinstance(inferred, list) else [inferred]


def spec_text(value: Any) -> str:
    """Shape and dtype of a tensor or array, or the type of anything else."""
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else format_spec(tuple(shape), value.dtype)
