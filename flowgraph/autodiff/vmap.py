"""Batching: a function of one example becomes a function of many, by the batching rule of each of its operations.

The function is traced once, on one example, into a sub-graph; its nodes are then made again around it, each by its rule where an
input carries the batch, and as it is where none does. Inside, the batch is always the first axis.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ArgumentError, ShapeError
from ..graph import Node, Spec, SubGraph, Tensor
from ..graph.arguments import as_function, counted
from ..graph.context import current, entered
from ..graph.node import FUNCTIONS
from ..graph.op import Batch, ByLoop
from ..graph.spec import format_shape, normalize_axis
from ..graph.subgraph import ancestors, as_tensor, replay, trace
from ..ops.batching import moved
from ..ops.shape import repeat_like

Axes = int | None | Sequence[int | None]


def vmap(function: Callable[..., Any], in_axes: Axes = 0, out_axes: int = 0) -> Callable[..., Any]:
    """``function`` over a batch: it is written for one example, and the result takes many at once, without a loop.

    function  takes tensors, returns a tensor or a nesting of them
    in_axes   for each argument the axis that holds the examples, None for one that all of them share; one number for all
    out_axes  where the results have that axis
    returns   a function of the same arguments, each with one axis more
    raises    ShapeError when the batches differ in length or an argument has no such axis

    >>> rows = fg.vmap(lambda row, w: fg.sum(row * w), in_axes=(0, None))
    >>> session.run(rows(np.ones((2, 3)), np.array([1.0, 2.0, 3.0])))
    array([6., 6.])
    """
    as_function(function, "vmap: its argument")

    @functools.wraps(function, updated=())
    def batched(*args: Any) -> Any:
        tensors = [as_tensor(arg) for arg in args]
        axes = _checked_axes(in_axes, tensors)
        carriers = [x if axis is None else moved(x, axis, 0) for x, axis in zip(tensors, axes, strict=True)]
        specs = [Spec(x.shape if axis is None else x.shape[1:], x.dtype) for x, axis in zip(carriers, axes, strict=True)]
        like = next(x for x, axis in zip(carriers, axes, strict=True) if axis is not None)
        sub, rebuild = trace(function, specs, "vmap")
        known = {inner: (outer, axis is not None) for inner, outer, axis in zip(sub.inputs, carriers, axes, strict=True)}
        results = batch_graph(sub, known, like)
        return rebuild([moved(result, 0, normalize_axis(out_axes, result.ndim)) for result in results])

    return batched


def batch_graph(
    sub: SubGraph, known: dict[Tensor, tuple[Tensor, bool]], like: Tensor, carrying: Sequence[bool] | None = None
) -> list[Tensor]:
    """The outputs of ``sub`` for a batch, each with the batch in front, as tensors of the current graph.

    known     for each input of sub the tensor that it is here, and whether that carries the batch
    like      a tensor whose first axis is the batch
    carrying  which outputs are to carry it, if not all: see `carried`
    """
    around = current()
    known = {**{inner: (outer, False) for outer, inner in sub.captures.items()}, **known}
    made: dict[Node, Node] = {}
    for node_id in ancestors([out.node for out in sub.outputs], set(known)):
        node = sub.nodes[node_id]
        if node.outputs and node.outputs[0] in known:
            continue
        inputs = [known[tensor][0] for tensor in node.inputs]
        carried = tuple(known[tensor][1] for tensor in node.inputs)
        forward = node.forward
        context = around.replace(
            scope=node.scope,
            device=node.device,
            colocated=node.colocated,
            forward=made.get(forward, forward) if forward is not None else None,
            origin=node,
        )
        with entered(context):
            if any(carried) or (node.op.is_stateful and node.op.vmap is not None):
                outputs = _by_rule(node, inputs, Batch(carried, like.shape[0], like), made)
                batched = True
            else:
                outputs = replay(node, inputs, context, made).outputs
                batched = False
        if outputs:
            made[node] = outputs[0].node
        known.update({inner: (outer, batched) for inner, outer in zip(node.outputs, outputs, strict=True)})
    results = [known[out] for out in sub.outputs]
    wanted = carrying or [True] * len(results)
    return [repeat_like(outer, like) if wants and not has else outer for wants, (outer, has) in zip(wanted, results, strict=True)]


def carried(sub: SubGraph, inputs: Sequence[bool]) -> list[bool]:
    """Which outputs of ``sub`` depend on the batch, where ``inputs`` says it of its inputs and captures."""
    own = (*sub.inputs, *sub.captures.values())
    depends = {tensor for tensor, carries in zip(own, inputs, strict=True) if carries}
    for node in sub.nodes:
        if any(tensor in depends for tensor in node.inputs) or (node.op.is_stateful and node.op.vmap is not None):
            depends.update(node.outputs)
    return [out in depends for out in sub.outputs]


def _by_rule(node: Node, inputs: list[Tensor], batch: Batch, made: dict[Node, Node]) -> Sequence[Tensor]:
    rule, attrs = node.op.vmap, node.attrs
    if rule is None or isinstance(rule, ByLoop):
        return _by_loop(node, inputs, batch)
    if attrs.get("extends") is not None:
        attrs = {**attrs, "extends": made.get(attrs["extends"])}
    result = rule(batch, *inputs, **attrs)
    return result if isinstance(result, tuple | list) else (result,)


def _by_loop(node: Node, inputs: list[Tensor], batch: Batch) -> Sequence[Tensor]:
    """An op without a rule, once for each entry."""
    carried = [x for x, carries in zip(inputs, batch.inputs, strict=True) if carries]

    def one(*entries: Tensor) -> Sequence[Tensor]:
        rest = iter(entries)
        return node.op.node([next(rest) if carries else x for x, carries in zip(inputs, batch.inputs, strict=True)], node.attrs).outputs

    return list(FUNCTIONS["map"](one, *carried))


def _checked_axes(in_axes: Axes, tensors: Sequence[Tensor]) -> list[int | None]:
    axes = list(in_axes) if isinstance(in_axes, tuple | list) else [in_axes] * len(tensors)
    if len(axes) != len(tensors):
        raise ArgumentError(f"vmap: in_axes names {len(axes)} axes for {counted(len(tensors), 'argument')}")
    if all(axis is None for axis in axes):
        raise ArgumentError("vmap: no argument carries a batch", help="give at least one an axis in in_axes")
    checked: list[int | None] = []
    seen: tuple[int, Tensor] | None = None
    for axis, x in zip(axes, tensors, strict=True):
        if axis is None:
            checked.append(None)
            continue
        if not x.shape:
            raise ShapeError(f"vmap: {x.name} is a scalar, it has no axis of examples", help="in_axes=None shares it among all")
        place = normalize_axis(axis, x.ndim)  # type: ignore[arg-type]  # (checked there)
        size = x.shape[place]
        if isinstance(size, int):
            if seen is not None and seen[0] != size:
                raise ShapeError(
                    f"vmap: the batches differ, {seen[0]} and {size}",
                    rows=[(t.name, format_shape(t.shape)) for t in (seen[1], x)],
                )
            seen = (size, x)
        checked.append(place)
    return checked


__all__ = ["batch_graph", "carried", "vmap"]
