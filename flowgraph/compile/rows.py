"""Rows: a loop all of whose turns treat the rows of what it carries alike, each by itself, is cut like a kernel.

Each op says which of its inputs are cut with its output (`Op.slicing`). By that alone a body is followed between its carries and outputs:
an input is cut where an op wants its rows beside others, and read whole by all parts where ops want it whole. Shapes decide everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from typing import Any, NamedTuple

from ..errors import FlowgraphError
from ..graph import Node, Shape, SubGraph, Tensor
from ..graph.spec import is_known
from .cost import estimated_seconds
from .needed import needed_nodes
from .shapes import specialise

# The calls of a turn hold Python's lock for some 30 us, whatever the number of rows, and n parts ask for it by turns: so a turn of each
# takes at least n times this, which is what its nodes are estimated at one by one. (Fused, as seen, they take a third of that.)
TURN_SECONDS = 125e-6
MAX_PARTS = 8


class LoopCut(NamedTuple):
    """How a loop is cut: each part runs all turns on its own rows, and fills those of all results.

    axes    for each input of the node and then each output the axis along which its rows run; None for what every part reads whole
    bounds  first and last row of each part
    shapes  for each part those of what its body is given
    """

    axes: list[int | None]
    bounds: list[tuple[int, int]]
    shapes: list[list[Shape]]

    def kernel(self, whole: Callable[..., Any], part: int) -> LoopPart:
        """The kernel of a part, made of that of the loop. It takes the arrays that it fills behind the inputs."""
        return LoopPart(whole, self.axes, self.bounds[part], len(self.shapes[part]) - 1)  # (the body is given the turn besides)


class LoopPart:
    """The kernel of a part of a loop.

    axes    for each of its arrays, as in `LoopCut`; ``bounds``: its first and last row
    inputs  how many of the arrays it reads; it fills the others
    """

    def __init__(self, whole: Callable[..., Any], axes: Sequence[int | None], bounds: tuple[int, int], inputs: int) -> None:
        self.axes, self.bounds, self._whole, self._inputs = axes, bounds, whole, inputs
        self._entries: list[Any] = [... if axis is None else (*[slice(None)] * axis, slice(*bounds)) for axis in axes]

    def __call__(self, turn_of: Any, *arrays: Any, **told: Any) -> None:
        views = [x if entry is ... else x[entry] for x, entry in zip(arrays, self._entries, strict=True)]
        self._whole(turn_of, *views[: self._inputs], into=views[self._inputs :], **told)


def cut_loop(node: Node, given: Sequence[Any]) -> LoopCut | None:
    """How a loop is cut; None where its turns mix rows, or take too short a time.

    given  the specs of what its body is given: the turn, then each input of the node or an entry of it, then the captures
    """
    stacks = node.op.stacks(*node.inputs, **node.attrs)
    if stacks is None or not all(is_known(spec.shape) for spec in given):
        return None
    carried, entries, ys = stacks
    body: SubGraph = node.attrs[node.op.bodies[0]]
    own = (*body.inputs, *body.captures.values())
    if not carried or not given[1].shape:
        return None
    length, inside = given[1].shape[0], set(own)
    nodes = [made for made in needed_nodes({out.node for out in body.outputs}, inside) if inside.isdisjoint(made.outputs)]
    spec = _specs(nodes, own, [x.shape for x in given])
    seconds = sum(estimated_seconds(made, [spec(x) for x in made.inputs]) for made in nodes)
    count = 1
    while count < min(MAX_PARTS, length // 2) and seconds / (2 * count) >= 2 * count * TURN_SECONDS:
        count *= 2
    along = _along(nodes, [*(own[1 + place] for place in carried), *body.outputs], spec, length) if count > 1 else None
    if along is None:
        return None
    bounds = [(part * length // count, (part + 1) * length // count) for part in range(count)]
    if not all(_fits(nodes, own, spec, along, high - low) for low, high in bounds):
        return None
    axes = [int(place in entries) if x in along else None for place, x in enumerate(own[1:])]
    axes += [int(place in ys) for place in range(len(body.outputs))]
    return LoopCut(axes, bounds, [[_of_rows(spec, along, x, high - low) for x in own] for low, high in bounds])


def _specs(nodes: Sequence[Node], own: Sequence[Tensor], shapes: Sequence[Shape]) -> Callable[[Tensor], Any]:
    """What is known of each tensor once those of ``own`` have ``shapes``."""
    specs = specialise(nodes, dict(zip(own, shapes, strict=True)))
    return lambda tensor: specs.get(tensor, tensor)


def _along(nodes: Sequence[Node], ends: Iterable[Tensor], spec: Callable[[Tensor], Any], length: int) -> set[Tensor] | None:
    """The tensors that have to be cut where ``ends`` are; None where rows are mixed."""
    along, known = set(ends), 0
    cuts: dict[Node, tuple[bool, ...]] = {}
    while len(along) > known:
        known = len(along)
        for node in (*reversed(nodes), *nodes):
            if along.isdisjoint(node.inputs) and along.isdisjoint(node.outputs):
                continue
            if node not in cuts:
                slicing = node.op.slicing(spec(node.outputs[0]), *map(spec, node.inputs), **node.attrs)
                if slicing is None or slicing.is_placed or slicing.join != "concat" or slicing.length != length:
                    return None
                cuts[node] = slicing.inputs
            along.update(node.outputs, compress(node.inputs, cuts[node]))
    if any((x in along) != is_cut for node, cut in cuts.items() for x, is_cut in zip(node.inputs, cut, strict=True)):
        return None  # wanted both ways
    if any(node.op.is_stateful for node in nodes if node not in cuts):
        return None  # every part would draw for itself
    return along if all(spec(x).shape[:1] == (length,) for x in along) else None


def _fits(nodes: Sequence[Node], own: Sequence[Tensor], spec: Callable[[Tensor], Any], along: set[Tensor], count: int) -> bool:
    """Whether the body, given ``count`` rows, makes so many of all that is cut, and leaves everything else as it is."""
    try:
        part = _specs(nodes, own, [_of_rows(spec, along, x, count) for x in own])
    except FlowgraphError:  # an attribute holds the number of rows
        return False
    return all(part(out).shape == _of_rows(spec, along, out, count) for node in nodes for out in node.outputs)


def _of_rows(spec: Callable[[Tensor], Any], along: set[Tensor], tensor: Tensor, count: int) -> Shape:
    """The shape of a tensor in a part of ``count`` rows."""
    shape: Shape = spec(tensor).shape
    return (count, *shape[1:]) if tensor in along else shape
