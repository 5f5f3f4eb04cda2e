"""cond: one of two branches, chosen by a value of the run. Only the chosen one runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..autodiff.vmap import batch_graph
from ..errors import ArgumentError, DtypeError, ShapeError
from ..graph import Op, Spec, SubGraph, Tensor, op
from ..graph.arguments import as_function, call, counted
from ..graph.context import current, entered
from ..graph.nest import flatten, nesting
from ..graph.op import Batch
from ..graph.report import where as place
from ..graph.spec import format_shape, format_spec, may_be_equal
from ..graph.subgraph import as_tensor
from ..ops.batching import aligned
from ..ops.elementwise import where
from ..ops.shape import zeros_like
from .bodies import floats, is_float, linear_of, push_through
from .results import listed, owned, packed, spread_over


class Cond(Op):
    """The outputs of ``then`` where the predicate is true, else those of ``otherwise``.

    inputs   the predicate, what ``then`` captures (``split`` tensors), what ``otherwise`` captures
    """

    bodies = ("then", "otherwise")

    def infer(self, predicate: Any, *captured: Any, then: SubGraph, otherwise: SubGraph, split: int) -> list[Any]:
        if predicate.dtype != bool or predicate.shape != ():
            raise ShapeError(f"the predicate is one boolean, got {format_spec(predicate.shape, predicate.dtype)}", help=CHOICE)
        return [_either(a, b) for a, b in zip(then.infer(captured[:split]), otherwise.infer(captured[split:]), strict=True)]

    def body_inputs(self, predicate: Any, *captured: Any, split: int, **attrs: Any) -> list[Sequence[Any]]:
        return [captured[:split], captured[split:]]

    def trips(self, *inputs: Any, **attrs: Any) -> float:
        return 0.5

    def kernel(self, xp: Any, then: Any, otherwise: Any, predicate: Any, *captured: Any, shared: Any, split: int) -> Any:
        if bool(predicate):
            return packed(owned(then(captured[:split]), shared[0]))
        return packed(owned(otherwise(captured[split:]), shared[1]))

    def bind(self, xp: Any, attrs: dict[str, Any]) -> Callable[..., Any]:
        split = attrs["split"]
        return lambda then, otherwise, *inputs, shared: self.kernel(xp, then, otherwise, *inputs, shared=shared, split=split)

    def vjp(self, g: Any, out: Any, predicate: Tensor, *captured: Tensor, split: int, **attrs: Any) -> Any:
        g, out = listed(g), listed(out)
        cotangents = [zeros_like(y) if c is None else c for c, y in zip(g, out, strict=True) if is_float(y)]
        ours, theirs = captured[:split], captured[split:]
        node = out[0].node

        def then() -> list[Tensor]:
            return [*linear_of(node, "then", ours).backward([], cotangents, ours), *[zeros_like(x) for x in floats(theirs)]]

        def otherwise() -> list[Tensor]:
            return [*[zeros_like(x) for x in floats(ours)], *linear_of(node, "otherwise", theirs).backward([], cotangents, theirs)]

        results = cond_node(predicate, then, otherwise, "gradient") if floats(captured) else []
        return (None, *spread_over(captured, results))

    def jvp(self, tangents: Any, out: Any, predicate: Tensor, *captured: Tensor, then: SubGraph, otherwise: SubGraph, split: int) -> Any:
        def first() -> list[Tensor]:
            return push_through(then, [], captured[:split], tangents[1 : 1 + split])[1]

        def second() -> list[Tensor]:
            return push_through(otherwise, [], captured[split:], tangents[1 + split :])[1]

        pushed = cond_node(predicate, first, second, "tangents") if floats(listed(out)) else ()
        return list(spread_over(listed(out), pushed))

    def vmap(self, batch: Batch, predicate: Tensor, *captured: Tensor, then: SubGraph, otherwise: SubGraph, split: int) -> Any:
        carried = batch.inputs[1:]

        def branch(sub: SubGraph, given: Sequence[Tensor], carries: Sequence[bool]) -> list[Tensor]:
            known = {inner: (as_tensor(x), c) for inner, x, c in zip(sub.captures.values(), given, carries, strict=True)}
            return batch_graph(sub, known, as_tensor(batch.like))

        def first() -> list[Tensor]:
            return branch(then, captured[:split], carried[:split])

        def second() -> list[Tensor]:
            return branch(otherwise, captured[split:], carried[split:])

        if not batch.inputs[0]:
            return cond_node(predicate, first, second, "vmap")
        each = Batch((True, True, True), batch.size, batch.like)  # every entry chooses for itself: both branches run
        return [where(*aligned(each, (predicate, a, b))) for a, b in zip(first(), second(), strict=True)]


cond_op = op(Cond)
CHOICE = "fg.where chooses element by element"


def _either(a: Any, b: Any) -> Spec:
    return Spec(tuple(m if m == n else None for m, n in zip(a.shape, b.shape, strict=True)), a.dtype)


def cond_node(
    predicate: Tensor, then: Callable[[], Sequence[Any]], otherwise: Callable[[], Sequence[Any]], label: str
) -> tuple[Tensor, ...]:
    """The outputs of a new cond; both branches build flat lists of tensors of the same specs."""
    subs = []
    for number, build in enumerate((then, otherwise)):
        sub = SubGraph(current(), f"{label}/{('then', 'otherwise')[number]}")
        with entered(sub.root):
            sub.outputs = [as_tensor(value) for value in build()]
        subs.append(sub)
    inputs = (predicate, *subs[0].captures, *subs[1].captures)
    return cond_op.node(inputs, {"then": subs[0], "otherwise": subs[1], "split": len(subs[0].captures)}).outputs


def cond(predicate: Any, then: Callable[..., Any], otherwise: Callable[..., Any], *operands: Any) -> Any:
    """What ``then(*operands)`` builds where ``predicate`` is true in a run, else what ``otherwise(*operands)`` builds.

    predicate  one boolean, a tensor of shape ()
    then       builds tensors, or a nesting of them; it may use any tensor around it. Only the chosen branch runs
    otherwise  builds the same nesting, with the same shapes and dtypes
    raises     ShapeError or DtypeError when the branches differ, saying where

    >>> x = fg.placeholder("x", (), "float64")
    >>> y = fg.cond(x > 0, lambda: fg.sqrt(x), lambda: x * 0)
    >>> session.run([y, *fg.gradients(y, x)], {x: 4.0})
    [np.float64(2.0), np.float64(0.25)]
    """
    for name, branch in (("then", then), ("otherwise", otherwise)):
        as_function(branch, f"cond: {name}", help="cond(predicate, lambda: x, lambda: y); fg.where(predicate, x, y) has both computed")
    predicate = as_tensor(predicate)
    cond_op.infer(predicate, then=_NOTHING, otherwise=_NOTHING, split=0)
    given = [as_tensor(operand) for operand in operands]
    built = []
    for name, function in (("then", then), ("otherwise", otherwise)):
        sub = SubGraph(current(), f"cond/{name}")
        with entered(sub.root):
            result = call(function, f"cond: {name}", counted(len(given), "argument"), *[sub.capture(x) for x in given])
            leaves, rebuild = flatten(result)
        built.append((sub, leaves, rebuild, nesting(result)))
    (first, ours, rebuild, nested), (second, theirs, _, other) = built
    if nested != other:
        raise ArgumentError(f"cond: the branches build {nested} and {other}", help="both must build the same nesting, each * a tensor")
    for a, b in zip(ours, theirs, strict=True):
        with entered(first.root):
            first.outputs.append(_matched(a, b))
        with entered(second.root):
            second.outputs.append(_matched(b, a))
        _check_alike(first.outputs[-1], second.outputs[-1])
    inputs = (predicate, *first.captures, *second.captures)
    outputs = cond_op.node(inputs, {"then": first, "otherwise": second, "split": len(first.captures)}).outputs
    return rebuild(outputs)


class _Nothing:
    """Stands for a branch while only the predicate is checked."""

    @staticmethod
    def infer(captured: Any) -> list[Any]:
        return []


_NOTHING: Any = _Nothing()


def _matched(value: Any, other: Any) -> Tensor:
    """A Python number has no dtype of its own: it takes that of what the other branch builds."""
    if type(value) in (bool, int, float, complex) and hasattr(other, "dtype"):
        value = other.dtype.type(value)
    return as_tensor(value)


def _check_alike(a: Tensor, b: Tensor) -> None:
    rows = [
        (name, f"{format_spec(t.shape, t.dtype)}   {t.name}, made at {place(t.node.location)}")
        for name, t in (("then", a), ("otherwise", b))
    ]
    if a.dtype != b.dtype:
        raise DtypeError(f"cond: the branches build {a.dtype} and {b.dtype}", rows=rows, help="cast one with fg.astype(x, dtype)")
    if not may_be_equal(a.shape, b.shape):
        shapes = f"{format_shape(a.shape)} and {format_shape(b.shape)}"
        raise ShapeError(f"cond: the branches build shapes {shapes}", rows=rows, help="both must build the same shapes")
