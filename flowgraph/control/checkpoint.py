"""checkpoint: a part of the graph whose inner values are not kept for its gradient, but computed again when that runs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..autodiff.vmap import batch_graph
from ..graph import Op, SubGraph, Tensor, op
from ..graph.arguments import as_function, call, counted
from ..graph.context import current, entered
from ..graph.nest import flatten
from ..graph.op import Batch
from ..graph.subgraph import as_tensor
from ..ops.shape import zeros_like
from ..ops.state import identity
from .bodies import floats, is_float, linear_of, push_through
from .results import listed, owned, packed, spread_over


class Checkpoint(Op):
    """The outputs of ``body``, of which nothing but its captures is kept: its gradient runs it again. The captures are the inputs."""

    bodies = ("body",)

    def infer(self, *captured: Any, body: SubGraph) -> list[Any]:
        return body.infer(captured)

    def body_inputs(self, *captured: Any, **attrs: Any) -> list[Sequence[Any]]:
        return [captured]

    def kernel(self, xp: Any, body: Any, *captured: Any, shared: Any) -> Any:
        return packed(owned(body(captured), shared[0]))

    def bind(self, xp: Any, attrs: dict[str, Any]) -> Callable[..., Any]:
        return lambda body, *inputs, shared: self.kernel(xp, body, *inputs, shared=shared)

    def vjp(self, g: Any, out: Any, *captured: Tensor, body: SubGraph) -> Any:
        g, out = listed(g), listed(out)
        cotangents = [zeros_like(y) if c is None else c for c, y in zip(g, out, strict=True) if is_float(y)]
        if not cotangents or not floats(captured):
            return (None,) * len(captured)
        # What the rule of the body reads of it is made again within, so that no edge leads from the forward part to it.
        return spread_over(
            captured, checkpoint_node(lambda: linear_of(out[0].node, "body", captured).backward([], cotangents, captured), "gradient")
        )

    def jvp(self, tangents: Any, out: Any, *captured: Tensor, body: SubGraph) -> Any:
        pushed = checkpoint_node(lambda: push_through(body, [], captured, tangents)[1], "tangents") if floats(listed(out)) else ()
        return list(spread_over(listed(out), pushed))

    def vmap(self, batch: Batch, *captured: Tensor, body: SubGraph) -> Any:
        def batched() -> list[Tensor]:
            known = {inner: (as_tensor(x), c) for inner, x, c in zip(body.captures.values(), captured, batch.inputs, strict=True)}
            return batch_graph(body, known, as_tensor(batch.like))

        return checkpoint_node(batched, "vmap")


checkpoint_op = op(Checkpoint)


def checkpoint_node(build: Callable[[], Sequence[Any]], label: str) -> tuple[Tensor, ...]:
    """The outputs of a new node that holds what ``build``, which gives a flat list of tensors, builds."""
    sub = SubGraph(current(), label)
    with entered(sub.root):
        sub.outputs = [as_tensor(value) for value in build()]
    return checkpoint_op.node(tuple(sub.captures), {"body": sub}).outputs


def checkpoint(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with less memory and more time: its gradient computes again what is inside instead of keeping it.

    function  takes tensors (and whatever else it likes), returns a tensor or a nesting of them; it may use any tensor around
    returns   a function of the same arguments. What it builds is one node, which runs on one thread

    In a chain of n layers, a checkpoint around each √n of them keeps about 2√n layers' values instead of n, for one more forward pass;
    ``session.plan(...).peak_bytes`` says what it saves.

    >>> block = fg.checkpoint(lambda x: fg.tanh(fg.tanh(x)))
    >>> session.run(fg.grad(lambda x: block(block(x)))(0.0))
    np.float64(1.0)
    """
    as_function(function, "checkpoint: its argument")

    @functools.wraps(function, updated=())
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        leaves, rebuild = flatten((args, kwargs))
        # (a constant is made again where it is captured, and would not be seen to be what a gradient is asked for)
        given = [identity(x) if isinstance(x, Tensor) and x.node.op.name == "constant" else x for x in leaves]
        positional, named = rebuild(given)
        found: list[Any] = []

        def build() -> list[Any]:
            takes = counted(len(args) + len(kwargs), "argument")
            results, nesting = flatten(call(function, "checkpoint: the function", takes, *positional, **named))
            found.append(nesting)
            return results

        outputs = checkpoint_node(build, getattr(function, "__name__", "checkpoint").strip("<>"))
        return found[0](outputs)

    return checkpointed
