"""Recomputed: a slice of what was put together of pieces, as in the gradient of a rim and its slices, read from what they are made of.

Such pieces lie elsewhere than they were computed, so that the loop that puts them together has to wait for the one that makes them, and the
one that slices the result for both. Where a piece takes little, as a product with a number does, the loop over the slice computes it again
at each place that it reads: it needs neither the pieces nor the whole. So the gradient of a step of a finite difference is one loop, too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..graph import Node, Tensor
from ..graph.spec import is_known
from ..jit.functions import Scalars
from ..jit.loops import Window
from ..jit.values import Value
from ..records import Record, field, replace
from .windows import PLACING, never_fills, placed, through, whole

if TYPE_CHECKING:
    from .regions import Regions

# So many operations are done again, at most, for a piece and for a slice.
MOST_AGAIN, MOST_OPERATIONS = 3, 32


class Part(NamedTuple):
    """An element of the slice, or what it is computed from.

    node    what computes it from ``inputs``; the slice itself for a sum of two; None for what is read, and for a number
    number  of the read among `Recomputed.reads`
    """

    node: Node | None
    inputs: tuple[Part | Tensor, ...] = ()
    number: int = 0


class Recomputed(Record, frozen=False):
    """How an element of a slice comes from what the loop reads: (array, where it is read)."""

    reads: list[tuple[Tensor, Window]] = field(default_factory=list)
    root: Part = field(default_factory=lambda: Part(None))

    def value(self, s: Scalars, regions: Regions, loads: Sequence[Value]) -> Value:
        """The element, where the reads are ``loads``."""

        def of(part: Part | Tensor) -> Value:
            if isinstance(part, Tensor):
                number = regions.constant(s, part)
                assert number is not None
                return number
            if part.node is None:
                return loads[part.number]
            inputs = [of(each) for each in part.inputs]
            return inputs[0] + inputs[1] if part.node.op.name in PLACING else regions.value(s, part.node, inputs)

        return of(self.root)


def recomputed(regions: Regions, fetched: Collection[Tensor | Node]) -> tuple[dict[Node, Recomputed], list[Node]]:
    """The slices among the nodes of ``regions`` that are computed so, and the nodes that are still read."""
    nodes = list(regions.nodes)
    if not any(node.op.name in PLACING for node in nodes):
        return {}, nodes
    same = regions.found.same
    asked = Counter([tensor for node in nodes for tensor in node.inputs])
    readers = Counter([regions.resolved(tensor) for node in nodes for tensor in node.inputs])
    wanted = {tensor for item in fetched for tensor in ((item,) if isinstance(item, Tensor) else item.outputs)}
    kept = wanted | set(map(regions.resolved, wanted))
    made = {}
    for node in nodes:
        if node.op.name == "getitem" and not node._context.control and node.outputs[0] not in regions.fed:
            try:
                made[node] = _Expansion(regions, readers, kept).of(node)
            except _Unsuitable:
                continue
    if not made:
        return {}, nodes
    left = []
    for node in reversed(nodes):
        out = node.outputs[0] if node.outputs and node not in regions.ordered else None
        if out in same:  # what stands for another is asked for, and not read
            is_gone = not asked[out] and out not in wanted
        else:
            is_gone = out is not None and node.op.name in PLACING and not readers[out] and out not in kept
        if not is_gone:
            left.append(node)
        if is_gone or node in made:
            asked.subtract(node.inputs)
            readers.subtract(map(regions.resolved, node.inputs))
    return made, left[::-1]


class _Unsuitable(Exception):
    """What says that a slice stays as it is."""


class _Expansion:
    """Finds what a slice is computed from."""

    def __init__(self, regions: Regions, readers: Counter[Tensor], kept: Collection[Tensor]) -> None:
        self.regions, self.readers, self.kept = regions, readers, kept
        self.made = Recomputed()
        self.operations = 0
        self.placings = 0
        self.domain: tuple[int, ...] = ()

    def of(self, node: Node) -> Recomputed:
        """raises _Unsuitable."""
        out, source = self.regions.spec(node.outputs[0]), self.regions.resolved(node.inputs[0])
        if source.node.op.name not in PLACING or out.dtype.kind != "f" or not self.regions.may_have_windows(out.shape):
            raise _Unsuitable
        self.domain = tuple(out.shape)
        shape = self.regions.spec(source).shape
        window = through(node, whole(self.domain), shape, self.domain) if is_known(shape) and len(shape) == len(self.domain) else None
        if window is None or math.prod(self.domain) == 0:
            raise _Unsuitable
        self.made.root = self._part(source, window, 0)
        return self.made

    def _part(self, tensor: Tensor, window: Window, again: int) -> Part:
        """What is read of ``tensor`` by ``window``; ``again``: the operations on this piece so far."""
        node, regions = tensor.node, self.regions
        is_made = not (tensor in regions.fed or tensor in regions.found.values or node in regions.ordered or node._context.control)
        if is_made and node.op.name in PLACING:
            return self._placed(tensor, window)
        inputs = [regions.resolved(each) for each in node.inputs]
        if is_made and again < MOST_AGAIN and self._is_simple(node, inputs, window):
            self._count()
            parts = [x if self._is_number(x) else self._part(x, window, again + 1) for x in inputs]
            return Part(node, tuple(parts))
        self.made.reads.append((tensor, window))
        return Part(None, number=len(self.made.reads) - 1)

    def _placed(self, tensor: Tensor, window: Window) -> Part:
        """Where what is put somewhere is read."""
        node, position = tensor.node, PLACING[tensor.node.op.name]
        inner = placed(node, self.regions.spec(self.regions.resolved(node.inputs[position])), self.regions.spec(tensor))
        if inner is None or self.readers[tensor] != 1 or tensor in self.kept or not never_fills(window, self.domain):
            raise _Unsuitable
        self._count()
        shifts = tuple([a + b for a, b in zip(window.shifts, inner.shifts, strict=True)])
        piece = self._part(self.regions.resolved(node.inputs[position]), replace(inner, shifts=shifts), 0)
        if node.op.name == "scatter":
            return piece
        return Part(node, (self._part(self.regions.resolved(node.inputs[0]), window, 0), piece))

    def _count(self) -> None:
        self.operations += 1
        if self.operations > MOST_OPERATIONS:
            raise _Unsuitable

    def _is_number(self, tensor: Tensor) -> bool:
        value = self.regions.found.values.get(tensor)
        return value is not None and value.size == 1

    def _is_simple(self, node: Node, inputs: Sequence[Tensor], window: Window) -> bool:
        """Whether ``node`` may be computed again at each place that is read, and leaves what is read where there is nothing as it is."""
        if node.op.name != "multiply" or len(inputs) != 2 or not self.regions.may_join(node):
            return False
        numbers = [x for x in inputs if self._is_number(x)]
        shapes = {self.regions.spec(x).shape for x in (node.outputs[0], *inputs) if not self._is_number(x)}
        if len(numbers) != 1 or len(shapes) != 1 or not self.regions.emits(node, inputs):
            return False
        factor = float(self.regions.found.values[numbers[0]].reshape(())[()])
        return never_fills(window, self.domain) or (window.fill == 0 and math.isfinite(factor) and factor > 0)
