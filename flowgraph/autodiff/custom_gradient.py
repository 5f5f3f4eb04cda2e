"""custom_gradient: a function whose gradient the user writes.

The user's gradient function is traced when the function is called, into a sub-graph of its own: what it reads of the forward part (its
residuals) are inputs of the node. So the node can be made again in another graph, batched, saved, and differentiated to any order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ArgumentError, GraphError, ShapeError
from ..graph import SubGraph, Tensor, op
from ..graph.arguments import as_function, call, counted
from ..graph.context import current, entered
from ..graph.op import Batch
from ..graph.report import where
from ..graph.spec import format_spec, may_be_equal
from ..graph.subgraph import as_tensor, parameter
from ..ops.batching import full
from ..ops.reduce import sum
from ..ops.shape import View
from ..ops.state import identity
from .rebuild import inline
from .vmap import batch_graph


class CustomGradient(View):
    """The first input, with a gradient of its own.

    inputs   y, the arguments that it has cotangents for, then what ``rule`` captures; all but y are used for the gradient alone
    rule     from the cotangent of y to those of the arguments
    outputs  for each argument the position of its cotangent among the outputs of ``rule``, or None
    """

    shape_inputs = tuple(range(1, 1025))

    def infer(self, y: Any, *inputs: Any, rule: SubGraph, outputs: tuple[int | None, ...]) -> Any:
        if len(inputs) != len(outputs) + len(rule.captures):
            raise ArgumentError(f"there are {len(inputs)} inputs for {len(outputs)} arguments and {len(rule.captures)} captures")
        return y

    def passes(self, out: Any, *inputs: Any) -> bool:
        return True

    def kernel(self, xp: Any, y: Any, *inputs: Any, rule: SubGraph, outputs: tuple[int | None, ...]) -> Any:
        return y

    def vjp(self, g: Tensor, out: Tensor, y: Tensor, *inputs: Tensor, rule: SubGraph, outputs: tuple[int | None, ...]) -> Any:
        captured = inputs[len(outputs) :]
        cotangents = inline(rule, [g], captured)
        return (None, *(None if place is None else cotangents[place] for place in outputs), *(None for _ in captured))

    def vmap(self, batch: Batch, y: Tensor, *inputs: Tensor, rule: SubGraph, outputs: tuple[int | None, ...]) -> Any:
        arguments, captured = inputs[: len(outputs)], inputs[len(outputs) :]
        flags = batch.inputs[1 + len(outputs) :]

        def batched(g: Tensor) -> list[Any]:
            own = (*rule.inputs, *rule.captures.values())
            known = {inner: (as_tensor(x), c) for inner, x, c in zip(own, (g, *captured), (True, *flags), strict=True)}
            results = batch_graph(rule, known, g)
            cotangents = [None if place is None else results[place] for place in outputs]
            # An argument that all entries share is owed by each of them.
            return [c if c is None or carries else sum(c, axis=0) for c, carries in zip(cotangents, batch.inputs[1:], strict=False)]

        return custom_gradient_node(full(batch, y, 0), arguments, batched, "vmap")


custom_gradient_op = op(CustomGradient)


def custom_gradient_node(y: Tensor, arguments: Sequence[Tensor], vjp: Callable[[Tensor], Any], label: str) -> Tensor:
    """``y`` with ``vjp`` for the function from its cotangent to those of ``arguments``."""
    here = current()
    rule = SubGraph(here.replace(scope=f"{here.scope}/gradients" if here.scope else "gradients"), label)
    outputs: list[int | None] = []
    with entered(rule.root):
        rule.inputs = [parameter("g", y)]
        given = call(vjp, f"custom_gradient: the gradient function of {label}", "1 argument, the cotangent of y", rule.inputs[0])
        cotangents = list(given) if isinstance(given, tuple | list) else [given]
        if len(cotangents) != len(arguments):
            raise GraphError(
                f"custom_gradient: {label} has {counted(len(arguments), 'argument')}, but its gradient function gave "
                f"{counted(len(cotangents), 'cotangent')}",
                help="one for each argument, in a tuple; None for an argument without",
            )
        for number, (x, cotangent) in enumerate(zip(arguments, cotangents, strict=True)):
            if cotangent is None or x.dtype.kind not in "fcV":
                outputs.append(None)
                continue
            outputs.append(len(rule.outputs))
            rule.outputs.append(_fitting(cotangent, x, number, label))
    return custom_gradient_op(y, *arguments, *rule.captures, rule=rule, outputs=tuple(outputs))


def _fitting(cotangent: Any, x: Tensor, number: int, label: str) -> Tensor:
    """The cotangent as a tensor; raises ShapeError where it is not like the argument that it belongs to."""
    if type(cotangent) in (bool, int, float, complex):
        cotangent = x.dtype.type(cotangent)
    c = as_tensor(cotangent)
    if may_be_equal(c.shape, x.shape) and c.dtype == x.dtype:
        return c
    raise ShapeError(
        f"custom_gradient: the cotangent of argument {number} of {label} is {format_spec(c.shape, c.dtype)}, and the argument "
        f"{format_spec(x.shape, x.dtype)}",
        rows=[("made", where(c.node.location))],
        help="a cotangent has the shape and dtype of what it belongs to: sum over axes that were broadcast",
    )


def custom_gradient(function: Callable[..., tuple[Tensor, Callable[[Tensor], Any]]]) -> Callable[..., Tensor]:
    """``function`` with a gradient that you write.

    function  takes tensors, returns ``(y, vjp)``; ``vjp`` takes the cotangent of y and returns those of the arguments, one each, in a tuple
              (None for one without). It may use whatever the function has computed
    returns   a function of the same tensors that returns y
    raises    ShapeError, when it is called, for a cotangent that is not of its argument's shape and dtype

    Its tangents, batches and higher derivatives follow from what you write.

    >>> @fg.custom_gradient
    ... def clipped(x):
    ...     return x, lambda g: fg.clip(g, -1, 1)
    >>> x = fg.placeholder("x", (), "float64")
    >>> session.run(fg.gradients(5 * clipped(x), [x]), {x: 2})
    [np.float64(1.0)]
    """
    as_function(function, "custom_gradient: its argument")

    @functools.wraps(function, updated=())
    def wrapped(*inputs: Any) -> Tensor:
        tensors = identity.lift(inputs)
        # (each an identity of its own: a gradient taken inside, by one of them, must not see another argument that is the same tensor)
        given = [identity(x) for x in tensors]
        result = call(function, "custom_gradient: the function", counted(len(given), "argument"), *given)
        if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Tensor) or not callable(result[1]):
            raise GraphError(
                f"custom_gradient: the function returns a tensor and its gradient function, got {result!r:.80}",
                help="return y, lambda g: (cotangent of the first argument, ...)",
            )
        y, *tensors = identity.lift((result[0], *tensors))  # type: ignore[assignment]
        return custom_gradient_node(y, tensors, result[1], getattr(function, "__name__", "function").strip("<>"))

    return wrapped
