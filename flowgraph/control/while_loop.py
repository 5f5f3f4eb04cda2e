"""while_loop: a body that runs as long as a condition holds. Its gradient is a scan over the turns that it took."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autodiff.rebuild import inline
from ..autodiff.vmap import batch_graph, carried
from ..errors import ArgumentError, ShapeError
from ..graph import Op, Spec, SubGraph, Tensor, op
from ..graph.arguments import as_count, call
from ..graph.context import current, entered
from ..graph.nest import flatten
from ..graph.op import Batch
from ..graph.report import where as place
from ..graph.spec import format_spec
from ..graph.subgraph import as_tensor, parameter
from ..ops.batching import aligned, full, moved
from ..ops.elementwise import where
from ..ops.reduce import sum
from ..ops.shape import zeros_like
from .bodies import floats, is_float, linear_of, push_through
from .results import AtRun, check_carry, check_nesting, listed, owned, packed, spread_over
from .scan import TURN, backward_loop, residual_stacks, settled, started


class While(Op):
    """``body`` as long as ``condition`` holds; both take (turn, carry..., captures...).

    inputs   carry at the start, what ``condition`` captures (``split`` tensors), what ``body`` captures
    carries  number of carried values
    maximum  turns after which the loop ends in any case, or None
    extends  a loop of which this one gives all outputs and more: one run serves both
    returns  the carry at the end; then what else the body gives, stacked: as many entries as there were turns
    """

    bodies = ("condition", "body")
    repeats = True

    def infer(self, *inputs: Any, body: SubGraph, carries: int, split: int, **attrs: Any) -> list[Any]:
        outputs = body.infer([TURN, *inputs[:carries], *inputs[carries + split :]])
        return [*[Spec(c.shape, c.dtype) for c in inputs[:carries]], *[Spec((None, *y.shape), y.dtype) for y in outputs[carries:]]]

    def body_inputs(self, *inputs: Any, carries: int, split: int, **attrs: Any) -> list[list[Any]]:
        state = [TURN, *inputs[:carries]]
        return [[*state, *inputs[carries : carries + split]], [*state, *inputs[carries + split :]]]

    def trips(self, *inputs: Any, maximum: int | None, **attrs: Any) -> int:
        return 10 if maximum is None else min(maximum, 10)

    def kernel(
        self,
        xp: Any,
        holds: Any,
        turn_of: Any,
        *inputs: Any,
        shared: Any,
        body: SubGraph,
        carries: int,
        split: int,
        maximum: Any,
        **attrs: Any,
    ) -> Any:
        carry, ours, theirs = list(inputs[:carries]), inputs[carries : carries + split], inputs[carries + split :]
        stacks: list[list[Any]] = [[] for _ in body.outputs[carries:]]
        turn = 0
        while (maximum is None or turn < maximum) and bool(holds((np.int64(turn), *carry, *ours))[0]):
            results = turn_of((np.int64(turn), *carry, *theirs))
            carry = results[:carries]
            for stack, y in zip(stacks, results[carries:], strict=True):
                stack.append(y)
            turn += 1
        made = []
        for stack, y in zip(stacks, body.outputs[carries:], strict=True):
            if stack:
                made.append(xp.stack([xp.asarray(y) for y in stack]))
                stack.clear()  # so that at most one of them is there twice
            else:
                made.append(xp.empty((0, *[d if isinstance(d, int) else 0 for d in y.shape]), y.dtype))
        return packed([*owned(carry, shared[1] if turn else [True] * carries), *made])

    def bind(self, xp: Any, attrs: dict[str, Any]) -> Callable[..., Any]:
        body = attrs["body"]

        def call(holds: Any, turn_of: Any, *inputs: Any, shared: Any) -> Any:
            at_run = AtRun(body, lambda: self.body_inputs(*inputs, **attrs)[1])
            return self.kernel(xp, holds, turn_of, *inputs, shared=shared, **{**attrs, "body": at_run})

        return call

    def vjp(
        self, g: Any, out: Any, *inputs: Tensor, condition: SubGraph, carries: int, split: int, maximum: Any, extends: Any, body: SubGraph
    ) -> Any:
        g, out = listed(g), listed(out)
        carry, ours, captured = inputs[:carries], inputs[carries : carries + split], inputs[carries + split :]
        linear = linear_of(out[0].node, "body", captured)
        kept = sorted({0, *(i for i in linear.given if i is not None)})  # (the turns themselves say how many there were)

        def forwards(turn: Tensor, *values: Tensor) -> list[Tensor]:
            results, made = linear.forward([turn, *values], captured)
            return [*results, *[([turn, *values])[i] for i in kept], *made]

        node = out[0].node
        key = ("extended", node.id)
        if key not in node.graph.memo:
            holds = _holding(condition, ours)
            node.graph.memo[key] = while_node(holds, forwards, carry, maximum, "while_loop", node)
        made = listed(node.graph.memo[key])[len(out) :]
        turns, residuals = made[0], residual_stacks(linear, made, kept)
        cotangents = [zeros_like(y) if c is None else c for c, y in zip(g, out, strict=True) if is_float(y)]
        ends = len(floats(carry))
        results = backward_loop(linear, cotangents, ends, residuals, captured, None, True, [turns])
        return (*spread_over(carry, results[:ends]), *(None for _ in ours), *spread_over(captured, results[ends:]))

    def jvp(
        self,
        tangents: Any,
        out: Any,
        *inputs: Tensor,
        condition: SubGraph,
        body: SubGraph,
        carries: int,
        split: int,
        maximum: Any,
        extends: Any,
    ) -> Any:
        moving = [None if not is_float(x) else zeros_like(x) if t is None else t for t, x in zip(tangents, inputs, strict=True)]
        ours, captured = inputs[carries : carries + split], inputs[carries + split :]
        along = [t for t in moving[:carries] if t is not None]

        def pushed(turn: Tensor, *values: Tensor) -> list[Tensor]:
            carry, ts = values[:carries], iter(values[carries:])
            state = [None, *[next(ts) if is_float(c) else None for c in carry]]
            results, made = push_through(body, [turn, *carry], captured, [*state, *moving[carries + split :]])
            ends = len(floats(results[:carries]))
            return [*results[:carries], *made[:ends], *results[carries:], *made[ends:]]

        results = listed(while_node(_holding(condition, ours, carries), pushed, [*inputs[:carries], *along], maximum, "tangents"))
        extra = len(listed(out)) - carries
        found = iter([*results[carries : carries + len(along)], *results[carries + len(along) + extra :]])
        return [next(found) if is_float(y) else None for y in listed(out)]

    def vmap(
        self, batch: Batch, *inputs: Tensor, condition: SubGraph, body: SubGraph, carries: int, split: int, maximum: Any, extends: Any
    ) -> Any:
        ours, theirs = batch.inputs[carries : carries + split], batch.inputs[carries + split :]
        state = list(batch.inputs[:carries])
        while (after := [a or b for a, b in zip(state, carried(body, [False, *state, *theirs]), strict=False)]) != state:
            state = after  # a turn brings the batch into what it is carried to
        alike = not carried(condition, [False, *state, *ours])[0]  # whether all entries take the same number of turns
        if len(body.outputs) > carries and not alike:
            raise ArgumentError(
                "vmap: the gradient of a while_loop cannot be batched, as its entries take different numbers of turns",
                help="take the gradient of the batched loop: fg.gradients(fg.sum(fg.vmap(f)(x)), x)",
            )
        state = state if alike else [True] * carries
        twin = extends if extends is not None and extends.op is self else None
        if twin is None:
            carry = [full(batch, c, i) if s else c for i, (c, s) in enumerate(zip(inputs[:carries], state, strict=True))]
        else:  # it runs in the place of the other, so it reads the same
            carry = list(twin.inputs[:carries])

        def each(sub: SubGraph, given: Sequence[Tensor], values: Sequence[Tensor], flags: Sequence[bool], wanted: Any) -> list[Tensor]:
            inner = (*sub.inputs, *sub.captures.values())
            known = {own: (as_tensor(x), c) for own, x, c in zip(inner, [*values, *given], [False, *state, *flags], strict=True)}
            return batch_graph(sub, known, values[1 + state.index(True)] if any(state) else as_tensor(batch.like), wanted)

        def active(values: Sequence[Tensor]) -> Tensor:
            return each(condition, inputs[carries : carries + split], values, ours, [not alike])[0]

        def holds(*values: Tensor) -> Tensor:
            return active(values) if alike else sum(active(values)) > 0

        def turned(*values: Tensor) -> list[Tensor]:
            new = each(body, inputs[carries + split :], values, theirs, [*state, *[True] * (len(body.outputs) - carries)])
            if alike:
                return new
            # An entry that has ended keeps what it has while the others go on.
            every = Batch((True, True, True), batch.size, batch.like)
            return [where(*aligned(every, (active(values), a, b))) for a, b in zip(new, values[1:], strict=True)]

        made = while_node(holds, turned, carry, maximum, "vmap", twin)
        ends = [c if s else full(Batch((False,), batch.size, batch.like), c, 0) for c, s in zip(made, state, strict=False)]
        return [*ends, *[moved(y, 1, 0) for y in made[carries:]]]


while_op = op(While)
CARRY = "the carry, one value nested as at the start"


def _holding(condition: SubGraph, captured: Sequence[Tensor], carries: int | None = None) -> Callable[..., Any]:
    """The condition again, on the first ``carries`` of the values that are carried now."""

    def holds(turn: Tensor, *values: Tensor) -> Tensor:
        return inline(condition, [turn, *values[:carries]], captured)[0]

    return holds


def while_node(
    holds: Callable[..., Any],
    body: Callable[..., Sequence[Any]],
    carry: Sequence[Tensor],
    maximum: int | None,
    label: str,
    extends: Any = None,
) -> tuple[Tensor, ...]:
    """The outputs of a new loop; both functions take (turn, carry...), and ``body`` gives a flat list of tensors."""
    subs = []
    for part, build in (("condition", holds), ("body", body)):
        sub = SubGraph(current(), f"{label}/{part}")
        with entered(sub.root):
            turn = sub.memo["turn"] = parameter("turn", TURN)
            sub.inputs = [turn, *[parameter(f"carry{i}" if len(carry) > 1 else "carry", c) for i, c in enumerate(carry)]]
            sub.outputs = [as_tensor(value) for value in listed(build(*sub.inputs))]
        subs.append(sub)
    condition, turned = subs
    answer = condition.outputs[0]
    if answer.dtype != bool or answer.shape != ():
        raise ShapeError(
            f"{label}: the condition gives one boolean, got {format_spec(answer.shape, answer.dtype)}",
            rows=[("made at", place(answer.node.location))],
            help="fg.any or fg.all make one of many",
        )
    check_carry(label, carry, turned.outputs)
    attrs = {
        "condition": condition,
        "body": turned,
        "carries": len(carry),
        "split": len(condition.captures),
        "maximum": maximum,
        "extends": extends,
    }
    return while_op.node((*carry, *condition.captures, *turned.captures), attrs).outputs


def while_loop(condition: Callable[..., Any], body: Callable[..., Any], initial: Any, *, maximum: int | None = None) -> Any:
    """A loop that carries a value from turn to turn for as long as ``condition(carry)`` holds.

    condition  takes the carry, gives one boolean
    body       takes the carry, gives that of the next turn, with the same shapes and dtypes
    initial    the carry of the first turn: a tensor or a nesting of them
    maximum    turns after which it ends in any case
    returns    the last carry
    raises     ShapeError when a turn changes the carry's shape or dtype, or the condition is not one boolean

    It is differentiable to any order: the gradient keeps what it reads of each turn, as many as there were.

    >>> fg_sqrt = fg.while_loop(lambda r: fg.abs(r * r - 2.0) > 1e-9, lambda r: (r + 2.0 / r) / 2, fg.constant(1.0))
    >>> session.run(fg_sqrt).round(6)
    np.float64(1.414214)
    """
    maximum = None if maximum is None else as_count(maximum, "while_loop: maximum, a number of turns,")
    start, carry_of = flatten(initial)
    if not start:
        raise ArgumentError("while_loop: nothing is carried from turn to turn")

    def turned(_: Tensor, *values: Tensor) -> list[Any]:
        result = call(body, "while_loop: the body", CARRY, carry_of(values))
        check_nesting("while_loop", initial, result)
        return flatten(result)[0]

    def holds(_: Tensor, *values: Tensor) -> Any:
        return call(condition, "while_loop: the condition", CARRY, carry_of(values))

    return carry_of(settled(start, started(start, ()), lambda carry: while_node(holds, turned, carry, maximum, "while_loop")))
