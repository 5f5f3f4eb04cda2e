"""Reverse mode: the gradients of some tensors by others, as new nodes.

Nodes are visited from the last to the first, each once: the cotangents that its consumers send are added up, and its VJP makes
those of its inputs. Every new node stands in the scope ``gradients/<name of the node that it is the gradient of>`` and knows that node.

A cotangent depends on the ``ys`` and not on the ``xs``: whatever consumes a tensor on a path from the xs is on such a path too. So
what one call has made serves the next, and asking for more gradients of the same loss adds only what is missing.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ..errors import DtypeError, FlowgraphError, GradientError
from ..graph import Node, Tensor
from ..graph.arguments import as_choice
from ..graph.context import current, entered
from ..graph.op import NoGradient
from ..graph.report import explain_node, of_another_graph, where
from ..graph.spec import format_shape, format_spec, is_known, may_be_equal
from ..graph.subgraph import ancestors, as_tensor
from ..ops.indexing import accumulated
from ..ops.shape import ones_like, zeros_like
from ..ops.state import identity
from .beside import beside
from .paths import no_path
from .rebuild import rebuilt
from .recompute import Kept, Recompute, chosen

Unconnected = Literal["zero", "none", "error"]


def gradients(
    ys: Tensor | Sequence[Tensor],
    xs: Tensor | Sequence[Tensor],
    grad_ys: Any = None,
    stop_gradients: Sequence[Tensor] = (),
    unconnected: Unconnected = "zero",
    *,
    recompute: Kept | None = None,
) -> list[Any]:
    """The gradients of the sum of ``ys`` by each of ``xs``, as tensors of the same graph.

    ys              float tensors; scalars, unless ``grad_ys`` is given
    xs              float tensors of the same graph: placeholders, variables or anything between
    grad_ys         for each of ys its cotangent (tensor or array of its shape); None stands for ones
    stop_gradients  tensors that count as constant
    unconnected     what an x that no y depends on gets: zeros, None, or a GradientError that says where the path stops
    recompute       which forward tensors to keep: what else is read of what is before them is computed again, for less memory and more
                    time. A list of tensors, or "sqrt" to choose about √n of the n places at which the forward part hangs on one
                    tensor; None keeps whatever is read
    returns         a list with one tensor for each of xs, of its shape and dtype
    raises          GradientError for a y that is no scalar, for tensors of another graph, for integers

    >>> x = fg.placeholder("x", (), "float64")
    >>> y = x**3
    >>> (dx,) = fg.gradients(y, x)
    >>> (ddx,) = fg.gradients(dx, x)
    >>> session.run([dx, ddx], {x: 2.0})
    [np.float64(12.0), np.float64(12.0)]
    """
    ys, xs = _as_tensors(ys, "ys"), _as_tensors(xs, "xs")
    nothing = isinstance(stop_gradients, tuple | list) and not stop_gradients
    stops = () if nothing else _as_tensors(stop_gradients, "stop_gradients")
    kept = () if recompute is None or isinstance(recompute, str) else _as_tensors(recompute, "those that recompute keeps")
    if isinstance(recompute, str):
        as_choice(recompute, "gradients: recompute, where it is no list of tensors,", ("sqrt", None))
    as_choice(unconnected, "gradients: unconnected", ("zero", "none", "error"))
    graph: Any = ys[0].graph
    if graph.is_sub:  # a tensor of the graphs around is known here by its capture
        xs, stops = (tuple(graph.capture(t) if graph.is_inside(t.graph) else t for t in given) for given in (xs, stops))
    for tensor in (*ys, *xs, *stops):
        if tensor.graph is not graph:
            rows, help = of_another_graph(tensor)
            raise GradientError(f"gradients: {tensor.name} belongs to another graph than {ys[0].name}", rows=rows, help=help)
    for tensor in (*ys, *xs):
        if tensor.dtype.kind not in "fcV":
            raise GradientError(
                f"gradients: {tensor.name} is {tensor.dtype}, and only floats have gradients",
                help="cast it with fg.astype before use",
            )
    seeds = _seeds(ys, grad_ys)
    if any(seed is not None and seed.graph is not graph for seed in seeds):
        return _within(graph, ys, xs, seeds, stops, unconnected, recompute)
    key = (
        "gradients",
        tuple(map(id, ys)),
        None if grad_ys is None else tuple(map(id, seeds)),
        frozenset(map(id, stops)),
        recompute if isinstance(recompute, str) else frozenset(map(id, kept)),
    )
    reverse = graph.memo.get(key)
    if reverse is None:
        made = Reverse(ys, seeds, stops)
        if recompute is not None:
            forward = made.nodes
            made.again = Recompute(graph, forward, chosen(graph, forward) if isinstance(recompute, str) else kept)
        reverse = graph.memo.setdefault(key, made)
    results = reverse.by(xs)
    return [_connected(result, ys, x, stops, unconnected) for result, x in zip(results, xs, strict=True)]


def _within(
    graph: Any,
    ys: Sequence[Tensor],
    xs: Sequence[Tensor],
    seeds: list[Any],
    stops: Any,
    unconnected: Unconnected,
    recompute: Kept | None,
) -> list[Any]:
    """The gradients for seeds of a sub-graph (a batch, a turn): made once here from stand-ins, and what depends on these there."""
    inner: Any = next(seed.graph for seed in seeds if seed is not None and seed.graph is not graph)
    if not (inner.is_sub and inner.is_inside(graph)):
        rows, help = of_another_graph(next(seed for seed in seeds if seed is not None and seed.graph is inner))
        raise GradientError(f"gradients: a cotangent of {ys[0].name} belongs to another graph", rows=rows, help=help)
    stand_ins = []
    for y in ys:
        key = ("stand-in", y)
        if key not in graph.memo:
            with entered(beside(y.node)):
                graph.memo[key] = zeros_like(y)
        stand_ins.append(graph.memo[key])
    outer = [None if seed is None else stand_in for seed, stand_in in zip(seeds, stand_ins, strict=True)]
    results = gradients(ys, xs, outer, stops, unconnected, recompute=recompute)
    here = current()
    with entered(here if here.graph.is_sub and here.graph.is_inside(inner) else inner.root):  # type: ignore[attr-defined]
        known = {stand_in: as_tensor(seed) for seed, stand_in in zip(seeds, stand_ins, strict=True) if seed is not None}
        made = iter(rebuilt([result for result in results if result is not None], known, whole=False)[0])
        return [None if result is None else next(made) for result in results]


class Reverse:
    """The cotangents of one set of ys, made as they are asked for: by one thread at a time, which holds `_lock`."""

    def __init__(self, ys: Sequence[Tensor], seeds: Sequence[Any], stops: Sequence[Tensor]) -> None:
        self.ys, self.stops = ys, set(stops)
        self.nodes = ancestors([y.node for y in ys], self.stops)  # ids in creation order
        self.seeds = seeds
        self.cotangents: dict[Tensor, Tensor | None] = {}
        self.vjps: dict[int, tuple[Any, ...]] = {}
        self.again: Recompute | None = None
        self._lock = threading.RLock()  # (a rule may ask for gradients itself)

    def by(self, xs: Sequence[Tensor]) -> list[Tensor | None]:
        with self._lock:
            return self._by(xs)

    def _by(self, xs: Sequence[Tensor]) -> list[Tensor | None]:
        graph = self.ys[0].graph
        on_path = self._on_path(xs)
        arriving: dict[Tensor, list[Tensor]] = {}
        for y, seed in zip(self.ys, self.seeds, strict=True):
            if y not in self.cotangents:
                arriving.setdefault(y, []).append(_ones(y) if seed is None else seed)
        wanted = set(xs)
        for node_id in reversed(self.nodes):
            if node_id in on_path:
                self._send(graph.nodes[node_id], on_path, wanted, arriving)
        return [self._total(x, arriving) for x in xs]

    def _on_path(self, xs: Sequence[Tensor]) -> set[int]:
        """The nodes through which a y depends on an x."""
        graph, wanted, result = self.ys[0].graph, set(xs), set()
        for node_id in self.nodes:
            for tensor in graph.nodes[node_id].inputs:
                if tensor not in self.stops and tensor.dtype.kind in "fcV" and (tensor in wanted or tensor.node.id in result):
                    result.add(node_id)
                    break
        return result

    def _send(self, node: Node, on_path: set[int], xs: set[Tensor], arriving: dict[Tensor, list[Tensor]]) -> None:
        """Adds what ``node`` passes on to its inputs to ``arriving``."""
        cotangents = [self._total(out, arriving) for out in node.outputs]
        if all(g is None for g in cotangents) or isinstance(node.op.vjp, NoGradient):
            return
        try:
            self._apply_rule(node, cotangents, on_path, xs, arriving)
        except FlowgraphError as error:
            raise explain_node(error, node, node.inputs) from error.__cause__

    def _apply_rule(
        self, node: Node, cotangents: list[Tensor | None], on_path: set[int], xs: set[Tensor], arriving: dict[Tensor, list[Tensor]]
    ) -> None:
        with entered(beside(node)):
            if node.id not in self.vjps:
                self.vjps[node.id] = vjp_entries(node, cotangents, self.again)
            entries = list(self.vjps[node.id])
            for i, tensor in enumerate(node.inputs):
                wanted = tensor in xs or tensor.node.id in on_path
                if entries[i] is None or not wanted or tensor in self.stops or tensor.dtype.kind not in "fcV":
                    continue
                if not isinstance(entries[i], Tensor):
                    entries[i] = entries[i]()
                if tensor not in self.cotangents and entries[i] is not None:
                    arriving.setdefault(tensor, []).append(entries[i])
            self.vjps[node.id] = tuple(entries)

    def _total(self, tensor: Tensor, arriving: dict[Tensor, list[Tensor]]) -> Tensor | None:
        """The sum of all that arrives at ``tensor``; complete once every consumer with a larger id has sent."""
        if tensor not in self.cotangents:
            total: Tensor | None = None
            with entered(beside(tensor.node)):
                for part in arriving.pop(tensor, []):
                    total = part if total is None else accumulated(total, part)
            self.cotangents[tensor] = total
        return self.cotangents[tensor]


def vjp_entries(node: Node, cotangents: list[Tensor | None], again: Recompute | None = None) -> tuple[Any, ...]:
    """What the op's rule gives, one entry for each input: a tensor, None, or a function that makes the tensor.

    again  gives what the rule reads of the forward part, where that is made again
    """
    inputs, outputs = node.inputs, node.outputs
    if again is not None and not node.op.bodies:  # (a node with sub-graphs is known by its outputs)
        arrived = next(g for g in cotangents if g is not None)
        inputs, outputs = (tuple([again.of(tensor, arrived) for tensor in tensors]) for tensors in (inputs, outputs))
    if len(outputs) == 1:
        result = node.op.vjp(cotangents[0], outputs[0], *inputs, **node.attrs)
    else:
        result = node.op.vjp(tuple(cotangents), outputs, *inputs, **node.attrs)
    entries = result if isinstance(result, tuple) else (result,)
    assert len(entries) == len(node.inputs), f"the VJP of {node.op} gave {len(entries)} entries for {len(node.inputs)} inputs"
    return entries


def _ones(y: Tensor) -> Tensor:
    with entered(beside(y.node)):
        return identity.lift((y.dtype.type(1),))[0] if y.shape == () else ones_like(y)


def _as_tensors(value: Any, what: str) -> tuple[Tensor, ...]:
    tensors = (value,) if isinstance(value, Tensor) else tuple(value) if isinstance(value, list | tuple) else (value,)
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise GradientError(f"gradients: {what} are tensors, got {tensor!r:.80}")
    if not tensors:
        raise GradientError(f"gradients: {what} is empty")
    return tensors


def _seeds(ys: Sequence[Tensor], grad_ys: Any) -> list[Any]:
    if grad_ys is None:
        for y in ys:
            if y.shape != ():
                raise GradientError(
                    f"gradients: {y.name} has shape {format_shape(y.shape)}, and only a scalar has a gradient of its own",
                    rows=[("made", where(y.node.location))],
                    help="take fg.sum or fg.mean of it, or give grad_ys, the cotangent",
                )
        return [None] * len(ys)
    given = list(grad_ys) if isinstance(grad_ys, list | tuple) else [grad_ys]
    if len(given) != len(ys):
        raise GradientError(f"gradients: {len(ys)} ys but {len(given)} grad_ys")
    return [None if g is None else _seed(y, g) for y, g in zip(ys, given, strict=True)]


def _seed(y: Tensor, g: Any) -> Tensor:
    if not isinstance(g, Tensor):
        try:
            g = y.graph.constant(y.dtype.type(g) if not hasattr(g, "dtype") and not isinstance(g, list | tuple) else _array(g, y))
        except (TypeError, ValueError) as error:
            raise DtypeError(f"gradients: grad_ys for {y.name} is {g!r:.60}, which is no {y.dtype} array") from error
    if not may_be_equal(g.shape, y.shape) or g.dtype != y.dtype:
        want, have = format_spec(y.shape, y.dtype), format_spec(g.shape, g.dtype)
        raise GradientError(f"gradients: grad_ys for {y.name} must be {want}, got {have}")
    return g  # type: ignore[no-any-return]


def _array(g: Any, y: Tensor) -> Any:
    return np.asarray(g, y.dtype)


def _connected(result: Tensor | None, ys: Sequence[Tensor], x: Tensor, stops: Sequence[Tensor], unconnected: str) -> Tensor | None:
    if result is not None or unconnected == "none":
        return result
    if unconnected == "zero":
        with entered(beside(x.node)):
            if is_known(x.shape) and x.shape == ():
                return identity.lift((x.dtype.type(0),))[0]
            return zeros_like(x)
    raise no_path(ys, x, stops)
