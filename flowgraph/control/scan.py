"""scan and map: a body that runs once for each slice of its inputs, carrying values from turn to turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autodiff.vmap import batch_graph
from ..errors import ArgumentError, ShapeError
from ..graph import Op, Spec, SubGraph, Tensor, op
from ..graph.arguments import as_count, call, counted
from ..graph.context import current, entered
from ..graph.nest import flatten
from ..graph.op import Batch, public
from ..graph.subgraph import as_tensor, parameter
from ..ops.batching import full, moved
from ..ops.contract import contract
from ..ops.elementwise import sum_like
from ..ops.shape import zeros_like
from .bodies import Linear, floats, is_float, linear_of, push_through
from .results import AtRun, check_carry, check_nesting, listed, owned, packed, spread_over

TURN = Spec((), np.dtype("int64"))


class Scan(Op):
    """``body`` once for each entry of the xs, in order: it takes (turn, carry..., entry..., captures...) and gives (carry..., y...).

    inputs   carry at the start, then xs with the turns as their first axis, then what the body captures
    carries  number of carried values
    xs       number of inputs that are cut into turns
    length   number of turns where there are no xs
    reverse  whether the last turn comes first; the ys stand where their xs do
    extends  a scan of which this one gives all outputs and more: one run serves both
    returns  the carry at the end, then the ys, stacked along a new first axis
    """

    bodies = ("body",)
    repeats = True
    takes_empty = True

    def infer(self, *inputs: Any, body: SubGraph, carries: int, xs: int, length: Any, reverse: bool, extends: Any) -> list[Any]:
        count = turns(inputs[carries : carries + xs], length)
        outputs = body.infer([*self._body_specs(inputs, carries, xs)])
        # (the carry keeps its spec from turn to turn, which was checked when the body was traced)
        stacked = [Spec((count, *y.shape), y.dtype) for y in outputs[carries:]]
        return [*[Spec(c.shape, c.dtype) for c in inputs[:carries]], *stacked]

    def _body_specs(self, inputs: Sequence[Any], carries: int, xs: int) -> list[Any]:
        entries = [Spec(x.shape[1:], x.dtype) for x in inputs[carries : carries + xs]]
        return [TURN, *inputs[:carries], *entries, *inputs[carries + xs :]]

    def body_inputs(self, *inputs: Any, carries: int, xs: int, **attrs: Any) -> list[list[Any]]:
        return [self._body_specs(inputs, carries, xs)]

    def trips(self, *inputs: Any, carries: int, xs: int, length: Any, **attrs: Any) -> int:
        count = turns(inputs[carries : carries + xs], length)
        return count if isinstance(count, int) else 10

    def stacks(self, *inputs: Any, carries: int, xs: int, body: SubGraph, **attrs: Any) -> tuple[range, range, range]:
        return range(carries), range(carries, carries + xs), range(carries, len(body.outputs))

    def kernel(
        self,
        xp: Any,
        turn_of: Any,
        *inputs: Any,
        shared: Any,
        carries: int,
        xs: int,
        length: Any,
        reverse: bool,
        empty: Any = None,
        told: Sequence[Sequence[int]] = ((),),
        into: Sequence[Any] | None = None,
        behind: Callable[..., Any] | None = None,
        **attrs: Any,
    ) -> Any:
        carry, rest = list(inputs[:carries]), inputs[carries + xs :]
        entries = inputs[carries : carries + xs]
        count = len(entries[0]) if xs else length
        stacks = None if into is None else list(into[carries:])
        # A y that the body writes where it is told goes into its stack at once.
        places = told[0]
        at = {place - carries: number for number, place in enumerate(places) if place >= carries}
        # Compiled loops need rows that lie side by side.
        apart = [i for i, x in enumerate(entries) if count and x.ndim > 2 and not x[0].flags.c_contiguous]
        # Going through an array costs half of indexing it (0.07 us against 0.14 for turn and entry), and an int is the quicker index.
        order = slice(None, None, -1 if reverse else 1)
        for place, turn, *entry in zip(range(count)[order], np.arange(count)[order], *[x[order] for x in entries], strict=True):
            for i in apart:
                entry[i] = xp.ascontiguousarray(entry[i])
            rows: list[Any] = [None] * len(places)
            if stacks is None or not at:
                results = turn_of((turn, *carry, *entry, *rest))
            else:
                for k, number in at.items():
                    rows[number] = stacks[k][place]
                results = turn_of((turn, *carry, *entry, *rest), rows)
            carry = results[:carries]
            if stacks is None:
                made = empty or xp.empty
                stacks = [made((count, *np.shape(y)), y.dtype) for y in results[carries:]]
            for k, (stack, y) in enumerate(zip(stacks, results[carries:], strict=True)):
                if k not in at or y is not rows[at[k]]:
                    stack[place] = y
            if behind is not None:  # what may go through all other turns at once
                end = behind(count, carry, entries, rest, stacks)
                if end is not None:
                    carry = end
                    break
                behind = None
        if into is not None:
            for target, value in zip(into, carry, strict=False):  # (behind the carries come the stacks, which are filled)
                target[...] = value
            return None
        if stacks is not None and at:  # the last carry may be a row, and would keep the stack alive
            carry = [c.copy() if np.ndim(c) and any(xp.may_share_memory(c, stacks[k]) for k in at) else c for c in carry]
        if stacks is None:
            ys = attrs["body"].outputs[carries:]
            stacks = [xp.empty((0, *[d if isinstance(d, int) else 0 for d in y.shape]), y.dtype) for y in ys]
        return packed([*owned(carry, shared[0] if count else [True] * carries), *stacks])

    def bind(self, xp: Any, attrs: dict[str, Any]) -> Callable[..., Any]:
        body, carries, xs = attrs["body"], attrs["carries"], attrs["xs"]

        def call(turn_of: Any, *inputs: Any, **told: Any) -> Any:
            at_run = AtRun(body, lambda: self._body_specs(inputs, carries, xs))
            return self.kernel(xp, turn_of, *inputs, **told, **{**attrs, "body": at_run})

        return call

    def vjp(self, g: Any, out: Any, *inputs: Tensor, carries: int, xs: int, length: Any, reverse: bool, **attrs: Any) -> Any:
        g, out = listed(g), listed(out)
        captured = inputs[carries + xs :]
        split = linear_of(out[0].node, "body", captured)
        kept = sorted({i for i in split.given if i is not None and i <= carries})  # the turn and carries; the xs are there as they are
        made = self._with_residuals(split, kept, out, inputs, carries, xs, length, reverse)
        residuals = residual_stacks(split, made, kept, inputs[carries : carries + xs])
        cotangents = [zeros_like(y) if c is None else c for c, y in zip(g, out, strict=True) if is_float(y)]
        ends = len(floats(out[:carries]))
        # A sum needs nothing of its turns but how many they are, which one of the xs tells.
        counting = () if len(cotangents) > ends or residuals else inputs[carries : carries + min(xs, 1)]
        return spread_over(inputs, backward_loop(split, cotangents, ends, residuals, captured, length, not reverse, counting))

    def _with_residuals(
        self,
        split: Linear,
        kept: list[int],
        out: Sequence[Tensor],
        inputs: Sequence[Tensor],
        carries: int,
        xs: int,
        length: Any,
        reverse: bool,
    ) -> list[Tensor]:
        """The residuals that the turns make, stacked, and those that are carries, from a scan that extends this one."""
        captured = inputs[carries + xs :]

        def forwards(turn: Tensor, *values: Tensor) -> list[Tensor]:
            results, made = split.forward([turn, *values], captured)
            return [*results, *[([turn, *values])[i] for i in kept], *made]

        node = out[0].node
        key = ("extended", node.id)
        if key not in node.graph.memo:
            node.graph.memo[key] = scan_node(forwards, inputs[:carries], inputs[carries : carries + xs], length, reverse, "scan", node)
        return listed(node.graph.memo[key])[len(out) :]

    def jvp(
        self, tangents: Any, out: Any, *inputs: Tensor, body: SubGraph, carries: int, xs: int, length: Any, reverse: bool, **attrs: Any
    ) -> Any:
        moving = [None if not is_float(x) else zeros_like(x) if t is None else t for t, x in zip(tangents, inputs, strict=True)]
        captured, captured_tangents = inputs[carries + xs :], moving[carries + xs :]
        t_carry, t_xs = [t for t in moving[:carries] if t is not None], [t for t in moving[carries : carries + xs] if t is not None]

        def pushed(turn: Tensor, *values: Tensor) -> list[Tensor]:
            carry, t_c = values[:carries], iter(values[carries : carries + len(t_carry)])
            entries = values[carries + len(t_carry) : carries + len(t_carry) + xs]
            t_e = iter(values[carries + len(t_carry) + xs :])
            along = [None, *[next(t_c) if is_float(c) else None for c in carry], *[next(t_e) if is_float(x) else None for x in entries]]
            results, ts = push_through(body, [turn, *carry, *entries], captured, [*along, *captured_tangents])
            ends = len(floats(results[:carries]))
            return [*results[:carries], *ts[:ends], *ts[ends:]]

        made = listed(
            scan_node(pushed, [*inputs[:carries], *t_carry], [*inputs[carries : carries + xs], *t_xs], length, reverse, "tangents")
        )
        found = iter(made[carries:])
        return [next(found) if is_float(y) else None for y in listed(out)]

    def vmap(self, batch: Batch, *inputs: Tensor, body: SubGraph, carries: int, xs: int, length: Any, reverse: bool, extends: Any) -> Any:
        twin = extends if extends is not None and extends.op is self else None
        if twin is None:
            carry = [full(batch, c, i) for i, c in enumerate(inputs[:carries])]
            entries = [moved(x, 0, 1) if batch.inputs[carries + i] else x for i, x in enumerate(inputs[carries : carries + xs])]
        else:  # it runs in the place of the other, so it reads the same
            carry, entries = list(twin.inputs[:carries]), list(twin.inputs[carries : carries + xs])
        captured = inputs[carries + xs :]

        def batched(turn: Tensor, *values: Tensor) -> list[Tensor]:
            carried = [False, *[True] * carries, *batch.inputs[carries:]]
            inner = (*body.inputs, *body.captures.values())
            given = [turn, *values, *[as_tensor(c) for c in captured]]
            known = {own: (x, c) for own, x, c in zip(inner, given, carried, strict=True)}
            return batch_graph(body, known, values[0] if carries else next(x for x, c in known.values() if c))

        made = listed(scan_node(batched, carry, entries, length, reverse, "vmap", twin))
        return [*made[:carries], *[moved(y, 1, 0) for y in made[carries:]]]


scan_op = op(Scan)


def turns(xs: Sequence[Any], length: Any) -> Any:
    """The number of turns: the first size of the xs, or ``length``."""
    known = [x.shape[0] for x in xs if isinstance(x.shape[0], int)]
    if known and any(size != known[0] for size in known):
        raise ShapeError(f"the xs have {' and '.join(str(size) for size in dict.fromkeys(known))} entries along their first axis")
    if known:
        return known[0]
    return xs[0].shape[0] if xs else length


def residual_stacks(split: Linear, made: Sequence[Tensor], kept: Sequence[int], xs: Sequence[Tensor] = ()) -> list[Tensor]:
    """The residuals as stacks, in their order: from a loop that gives the inputs ``kept`` of its body and then what the body made.

    xs  the stacks that come last among the inputs of the body; they are no result of a loop
    """
    fresh = iter(made[len(kept) :])
    first = len(split.body.inputs) - len(xs)
    return [next(fresh) if i is None else made[kept.index(i)] if i in kept else xs[i - first] for i in split.given]


def backward_loop(
    split: Linear,
    cotangents: Sequence[Tensor],
    ends: int,
    residuals: Sequence[Tensor],
    captured: Sequence[Tensor],
    length: Any,
    reverse: bool,
    counting: Sequence[Tensor] = (),
) -> list[Tensor]:
    """The cotangents of the float inputs of a loop: of its start, its xs and its captures.

    cotangents  of its float outputs; the first ``ends`` are those of the last carry, the others are stacks
    residuals   stacks of what the backward part of the turns reads
    counting    stacks that only say how many turns there are

    A cotangent of a capture is a sum over the turns. Where it is a matrix product in each turn, the turns keep its factors, most of
    which are there anyway, and behind the loop one product does for all: fewer and larger kernels, which can be cut. A sum of what is
    kept in any case, as that for a bias, is made behind the loop as well, so that its turns do not mix rows for it.
    """
    initial, ys = cotangents[:ends], cotangents[ends:]
    results, products = split.results, split.products
    first = len(results) - len(floats(captured))  # of the captures
    there = set(split.residuals)
    factors = [x for product in products.values() for x in (product.left, product.right) if x not in there]
    stacked = list(dict.fromkeys([*results[ends:first], *factors]))
    kept = {*stacked, *there} if initial or stacked else set()
    late = {place: x for place, x in split.sums.items() if x in kept}
    summed = [place for place in range(first, len(results)) if place not in products and place not in late]
    sums = [zeros_like(c) for place, c in enumerate(floats(captured), first) if place in summed]

    turned = split.turn_captures(captured)

    def backwards(turn: Tensor, *values: Tensor) -> list[Tensor]:
        ct_carry, totals, rest = values[:ends], values[ends : ends + len(sums)], values[ends + len(sums) + len(counting) :]
        wanted = [*results[:ends], *(results[place] for place in summed), *stacked]
        made = split.backward(rest[len(ys) :], [*ct_carry, *rest[: len(ys)]], captured, wanted, turned)
        grown = [total + c for total, c in zip(totals, made[ends : ends + len(sums)], strict=True)]
        return [*made[:ends], *grown, *made[ends + len(sums) :]]

    if not (initial or sums or stacked):
        return []
    made = listed(scan_node(backwards, [*initial, *sums], [*counting, *ys, *residuals], length, reverse, "gradient"))
    stacks = {**dict(zip(split.residuals, residuals, strict=True)), **dict(zip(stacked, made[ends + len(sums) :], strict=True))}
    totals = dict(zip(summed, made[ends : ends + len(sums)], strict=True))
    for place, product in products.items():
        totals[place] = contract(stacks[product.left], stacks[product.right], subscripts=product.subscripts)
    for place, x in late.items():
        totals[place] = sum_like(stacks[x], floats(captured)[place - first])
    return [*made[:ends], *(stacks[x] for x in results[ends:first]), *(totals[place] for place in range(first, len(results)))]


def scan_node(
    body: Callable[..., Sequence[Any]],
    carry: Sequence[Tensor],
    xs: Sequence[Tensor],
    length: Any,
    reverse: bool,
    label: str,
    extends: Any = None,
) -> tuple[Tensor, ...]:
    """The outputs of a new scan; ``body`` takes (turn, carry..., entry...) and gives a flat list of tensors."""
    sub = SubGraph(current(), label)
    with entered(sub.root):
        turn = sub.memo["turn"] = parameter("turn", TURN)
        state = [parameter(f"carry{i}" if len(carry) > 1 else "carry", c) for i, c in enumerate(carry)]
        entries = [parameter(f"x{i}" if len(xs) > 1 else "x", Spec(x.shape[1:], x.dtype)) for i, x in enumerate(xs)]
        sub.inputs = [turn, *state, *entries]
        sub.outputs = [as_tensor(value) for value in body(*sub.inputs)]
    check_carry(label, carry, sub.outputs)
    node = scan_op.node(
        (*carry, *xs, *sub.captures),
        {"body": sub, "carries": len(carry), "xs": len(xs), "length": length, "reverse": reverse, "extends": extends},
    )
    return node.outputs


def scan(body: Callable[..., Any], initial: Any, xs: Any = None, *, length: int | None = None, reverse: bool = False) -> Any:
    """A loop over the first axis of ``xs`` that carries a value from turn to turn: compiled once, never unrolled.

    body     ``body(carry, x) -> (carry, y)``: tensors or nestings of them; y may be None
    initial  the carry of the first turn; each turn leaves its shapes and dtypes as they are
    xs       a tensor, or a nesting of them, with the turns as the first axis; None for ``length`` turns with x = None
    reverse  whether to begin at the end; the ys stand where their xs do
    returns  the last carry, and the ys stacked along a new first axis
    raises   ShapeError when a turn changes the carry's shape or dtype, or the xs differ in length

    Gradients of any order are loops as well; they keep of each turn only what they read.

    >>> total, sums = fg.scan(lambda total, x: (total + x, total + x), 0.0, np.array([1.0, 2.0, 3.0]))
    >>> session.run([total, sums])
    [np.float64(6.0), array([1., 3., 6.])]
    """
    start, carry_of = flatten(initial)
    entries, x_of = flatten(xs) if xs is not None else ([], lambda found: None)
    given = [as_tensor(x) for x in entries]
    for x in given:
        if not x.shape:
            raise ShapeError(f"scan: {x.name} is a scalar, it has no turns", help="a value that all turns share is simply used in the body")
    if length is not None or not given:
        length = as_count(length, "scan: length, the number of turns,")
    count = turns(given, length)
    if length is not None and isinstance(count, int) and count != length:
        raise ShapeError(f"scan: the xs have {count} entries, but length is {length}")
    found: list[Any] = []

    def flat(turn: Tensor, *values: Tensor) -> list[Any]:
        result = call(body, "scan: the body", "(carry, x)", carry_of(values[: len(start)]), x_of(values[len(start) :]))
        if not isinstance(result, tuple) or len(result) != 2:
            raise ArgumentError(f"scan: the body returns (carry, y), got {result!r:.80}", help="y may be None")
        check_nesting("scan", initial, result[0])
        after, _ = flatten(result[0])
        ys, y_of = flatten(result[1]) if result[1] is not None else ([], lambda found: None)
        found[:] = [y_of]
        return [*after, *ys]

    outputs = settled(start, started(start, given), lambda carry: scan_node(flat, carry, given, length, reverse, "scan"))
    return carry_of(outputs[: len(start)]), found[0](outputs[len(start) :])


def started(start: Sequence[Any], xs: Sequence[Tensor]) -> list[Tensor]:
    """``start`` as tensors. Python's numbers have no dtype of their own: they take that of the values beside them."""
    beside = [v.dtype for v in (*start, *xs) if hasattr(v, "dtype")]
    return [as_tensor(np.asarray(v, np.result_type(*beside, v)) if beside and type(v) in _NUMBERS else v) for v in start]


def settled(start: Sequence[Any], carry: list[Tensor], make: Callable[[list[Tensor]], Any]) -> Any:
    """``make(carry)``; where it fails because a turn casts one of the numbers in ``start``, with that number cast from the start."""
    try:
        return make(carry)
    except ShapeError as error:
        after: Sequence[Any] = getattr(error, "carried", ())
        cast = [
            as_tensor(now.dtype.type(v)) if type(v) in _NUMBERS and now.shape == () else c
            for v, c, now in zip(start, carry, after, strict=False)
        ]
        if all(a.dtype == b.dtype for a, b in zip(cast, carry, strict=False)):
            raise
        return make(cast)


_NUMBERS = (bool, int, float, complex)


def map(function: Callable[..., Any], *xs: Any) -> Any:
    """``function`` of each entry along the first axis of ``xs``, one after another; the results stacked along a new first axis.

    function  takes one entry of each of ``xs``, returns a tensor or a nesting of them
    raises    ShapeError when the xs differ in length

    ``fg.vmap`` does the same at once, with more memory.

    >>> session.run(fg.map(lambda row: fg.max(row) - fg.min(row), np.array([[1.0, 5.0], [2.0, 2.0]])))
    array([4., 0.])
    """
    if not xs:
        raise ArgumentError("map: give at least one tensor to map over")
    takes = counted(len(xs), "argument")
    _, ys = scan(lambda _, entries: ((), call(function, "map: the function", takes, *entries)), (), tuple(xs))
    return ys


public(map)
