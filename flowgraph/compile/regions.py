"""Regions: which nodes of a plan become one compiled loop.

A region is a set of nodes over one domain, the shape of their elements. Its members are
- elementwise nodes of that shape;
- reductions over the last axes, whose results are the same all along a row, and elementwise nodes of those;
- sums over other axes, the first among them, which only nodes outside read;
- what is put, or added, where a slice says; it is read from outside, like all that stands elsewhere (see `windows`);
- views of these that only put in or take out axes of size 1, or repeat a row's value along it.

A node may join a region, and two regions may become one, where no path leads out of it and back: then a loop would wait for itself.
And where none of them asks for another device than the others: a loop runs on one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any

from ..graph import Node, Tensor
from ..graph.spec import is_known
from ..jit.functions import Scalars
from ..jit.loops import Window
from ..jit.values import BOOL, SUPPORTED, Unfusable, Value
from ..records import Record, field
from .recomputed import Recomputed
from .simplify import Simplified
from .windows import LARGEST, PLACING, placed

# LLVM takes more than linear time for a block; a longer stretch becomes several loops.
MEMBERS = 200
# Whole arrays that one loop reads: with more, neither the registers nor the processor's looking ahead suffice.
STREAMS = 12
# How many regions are searched for a path between two; where more have grown since, they stay apart.
SEARCHED = 100
# Views that only put in or take out axes of size 1 (where they do), and those that repeat along such axes.
VIEWS = frozenset({"expand_dims", "squeeze", "getitem", "reshape", "reshape_like"})
REPEATS = frozenset({"broadcast_like", "broadcast_to"})
# Ops whose result may be a part of the columns of a larger array.
PARTS = frozenset({"getitem", "split", "concat_part"})
# A sum is added up in scratch memory: so many entries at most.
LARGEST_TOTAL = 8192
# From so many elements on a sum over the first and the last axis is a loop by itself, which can be cut.
LONG_SUM = 2**16


class Region(Record, frozen=False, eq=False):
    """Nodes that may become one loop.

    shape   the domain
    bits    of a set of regions, those that stand for this one: its own, and those of the regions that it has taken in
    direct  regions that its members read; ``around``: regions that lie before the other nodes that they read
    begun   the step at which its first member came; ``grown``: its last
    row     number of last axes that a row has; 0 while no reduction has said so
    members in the order of the graph
    kinds   tensor -> "element", "row" or "total"
    streams whole arrays that it reads
    into    the region that has taken it in
    request the device that members ask for, None where none does
    borrowed  those of the members that are another region's, computed here once more
    """

    shape: tuple[int, ...]
    bits: int
    direct: int = 0
    around: int = 0
    begun: int = 0
    grown: int = 0
    row: int = 0
    members: list[Node] = field(default_factory=list)
    kinds: dict[Tensor, str] = field(default_factory=dict)
    streams: set[Tensor] = field(default_factory=set)
    into: Region | None = None
    request: str | None = None
    borrowed: set[Node] = field(default_factory=set)

    @property
    def own(self) -> list[Node]:
        """The members that are no other region's."""
        return [node for node in self.members if node not in self.borrowed] if self.borrowed else self.members

    def borrow(self, nodes: Collection[Node], streams: set[Tensor]) -> None:
        """Takes in nodes of another region, to compute them once more; then it reads the whole arrays ``streams``."""
        self.borrowed.update(nodes)
        self.members = sorted({*self.members, *nodes}, key=attrgetter("id"))
        self.kinds.update({node.outputs[0]: "element" for node in nodes})
        self.streams = streams

    def is_row_shape(self, shape: Sequence[Any]) -> bool:
        kept = self.shape[: len(self.shape) - self.row]
        return bool(self.row) and tuple(shape) in (kept, (*kept, *(1,) * self.row))


def find(region: Region | None) -> Region | None:
    """The region that ``region`` has been merged into."""
    while region is not None and region.into is not None:
        region = region.into
    return region


class Regions:
    """The regions of ``nodes``, which are to be run in their order. What is ``fed`` is not computed; ``again``: see `recomputed`."""

    def __init__(
        self,
        nodes: Sequence[Node],
        found: Simplified,
        fed: Collection[Tensor],
        is_body: bool = False,
        again: Mapping[Node, Recomputed] | None = None,
    ) -> None:
        self.nodes, self.found, self.fed, self.is_body, self.again = nodes, found, fed, is_body, again or {}
        self.region_of: dict[Node, Region] = {}
        self.known: dict[Any, bool] = {}  # whether loops know an op with inputs of these dtypes
        self.before: dict[Node, int] = {}  # of a node outside: the regions that lie before it
        self.by_bit: list[Region] = []
        self.recent: dict[Region, None] = {}  # the regions, those that have grown last at the end
        self.steps = 0  # that regions have grown
        self.readers: dict[Tensor, Region] = {}  # the first region that reads a tensor of its own shape
        self.twins: dict[Node, Node] = {}  # a node that is not run -> the one that gives its outputs as well
        is_plain = not any(op.bodies for op in found.ops) and set(map(type, nodes)) <= {Node}
        for node in () if is_plain else nodes:
            if node.op.bodies:
                twin = node.attrs.get("extends")
                while twin is not None:
                    self.twins[twin] = node
                    twin = twin.attrs.get("extends")
            elif node.outputs and node.outputs[0].node is not node:  # a loop made before
                self.twins[node.outputs[0].node] = node
        self.ordered = found.ordered

    def grow(self, apart: bytes | None = None) -> None:
        """Finds the regions.

        apart  for each id of a node whether it is in none; None where all may be
        """
        for node in self.nodes:
            inputs = [self.resolved(tensor) for tensor in node.inputs]
            if (apart is not None and apart[node.id]) or not self.may_join(node) or not self._join(node, inputs):
                self.before[node] = self._marks_before(node, inputs)

    def reads_beside(self, region: Region, tensor: Tensor) -> bool:
        """Whether ``region`` reads of ``tensor`` just the element that it computes, wherever it reads it."""
        apart = [member for member in region.members if member in self.again or member.op.name in PLACING]
        return not any(read is tensor for member in apart for read in self.read(member, [self.resolved(each) for each in member.inputs]))

    def move(self, node: Node, region: Region, reader: Region) -> None:
        """Moves an elementwise ``node`` from its region to the one that reads it."""
        out = node.outputs[0]
        self.region_of[node] = reader
        region.members.remove(node)
        reader.members.append(node)
        reader.members.sort(key=attrgetter("id"))
        reader.kinds[out] = region.kinds.pop(out)
        reader.streams.discard(out)
        reader.streams |= {tensor for tensor in map(self.resolved, node.inputs) if self.spec(tensor).shape == reader.shape}

    # --- the graph as simplified

    def resolved(self, tensor: Tensor) -> Tensor:
        return self.found.same.get(tensor, tensor)

    def read(self, node: Node, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The inputs whose values count, not only their shapes."""
        if node in self.again:
            return [tensor for tensor, _ in self.again[node].reads]
        told = node.op.shape_inputs
        return (
            [tensor for i, tensor in enumerate(inputs) if i not in told or not is_known(self.spec(tensor).shape)] if told else list(inputs)
        )

    def maker(self, tensor: Tensor) -> Node:
        return self.twins.get(tensor.node, tensor.node)

    def spec(self, tensor: Tensor) -> Any:
        return self.found.spec(tensor)

    def region(self, node: Node) -> Region | None:
        return find(self.region_of.get(node))

    def all(self) -> list[Region]:
        """The regions, in the order of their first nodes."""
        return list({id(region): region for node in self.nodes if (region := self.region(node)) is not None}.values())

    def drop(self, region: Region) -> None:
        """Leaves the members of a region to themselves."""
        for member in region.own:
            del self.region_of[member]

    # --- who may join whom

    def _marks_before(self, node: Node, inputs: Sequence[Tensor]) -> int:
        before = 0
        for tensor in self.read(node, inputs):
            before |= self._mark(self.maker(tensor))
        for other in node._context.control:
            before |= self._mark(other)
        return before

    def _mark(self, node: Node) -> int:
        """The regions that lie before a node, or its own."""
        region = find(self.region_of.get(node))
        return self.before.get(node, 0) if region is None else region.bits

    def _leads(self, region: Region, marks: int) -> bool:
        """Whether a path leads from ``region`` to one of the regions in ``marks``, or it is one. True as well where to tell takes long."""
        if region.bits & marks:
            return True
        # What lies behind a member was added behind it: only regions that have grown since are on such a path.
        grown = 0
        for count, other in enumerate(reversed(self.recent)):
            if other.grown < region.begun:
                break
            if count == SEARCHED:
                return True
            grown |= other.bits
        marks &= grown
        seen = marks
        while marks:
            between = find(self.by_bit[marks.bit_length() - 1])
            assert between is not None
            before = between.direct | between.around
            if before & region.bits:
                return True
            marks = (marks | (before & grown & ~seen)) & ~between.bits
            seen |= before | between.bits
        return False

    def _note(self, region: Region) -> None:
        """Notes that ``region`` has grown."""
        self.steps += 1
        region.grown = self.steps
        self.recent.pop(region, None)
        self.recent[region] = None

    def _may_merge(self, one: Region, other: Region) -> bool:
        if one.shape != other.shape or (one.row and other.row and one.row != other.row) or not agree(one.request, other.request):
            return False
        if len(one.members) + len(other.members) > MEMBERS or len(one.streams | other.streams) > STREAMS:
            return False
        return not (
            self._leads(one, other.around | (other.direct & ~one.bits)) or self._leads(other, one.around | (one.direct & ~other.bits))
        )

    def may_join(self, node: Node) -> bool:
        if len(node.outputs) != 1 or node in self.ordered or node._context.control:
            return False
        out = node.outputs[0]
        if out in self.fed or out in self.found.same or out in self.found.values:
            return False
        op = node.op
        spec = self.spec(out)
        if node in self.again:
            return True
        if op.name in PLACING:
            return self.may_have_windows(spec.shape) and self.placed(node, PLACING[op.name]) is not None
        if op.scalar is None and op.fold is None and op.name != "sum_like" and not self.is_view(node):
            return False
        return is_known(spec.shape) and spec.dtype in SUPPORTED and all(is_known(self.spec(t).shape) for t in node.inputs)

    def _join(self, node: Node, inputs: Sequence[Tensor]) -> bool:
        """Puts ``node`` into a region of its inputs, or one of its own; whether it could."""
        read = self.read(node, inputs)
        near = list(dict.fromkeys(region for t in read if (region := self.region(self.maker(t))) is not None))
        beside = [region for t in read if (region := find(self.readers.get(t))) is not None and region not in near]
        largest_first = sorted(near, key=lambda region: -len(region.members))
        return any(self._joins(node, inputs, region, near) for region in largest_first + beside) or self._start(node, inputs)

    def _joins(self, node: Node, inputs: Sequence[Tensor], region: Region, near: Sequence[Region]) -> bool:
        """Puts ``node`` into ``region``, and with it what can be of the regions that it reads."""
        if region.into is not None or len(region.members) >= MEMBERS or not agree(node._context.device, region.request):
            return False
        kind = self._kind(node, inputs, region)
        if kind is None:
            return False
        taken = [other for other in near if other is not region and agree(node._context.device, other.request)]
        taken = [other for other in taken if self._may_merge(region, other)]
        read = self.read(node, inputs)
        outside = self._marks(read, [region, *taken])
        if any(self._leads(region, mark) for mark in outside):
            return False
        for other in taken:
            # (With the first taken in, others may come to lie on both sides.)
            if self._may_merge(region, other) and not any(self._leads(other, mark) for mark in outside):
                self._merge(other, region)
            elif self._leads(region, other.bits):
                return False
        whole = {t for t in read if t not in region.kinds and self.spec(t).shape == region.shape}
        if len(region.streams | whole) > STREAMS or any(self._leads(region, mark) for mark in self._marks(read, [region])):
            return False
        kind = self._kind(node, inputs, region)  # among all that it has taken in
        if kind is None:
            return False
        self._add(node, inputs, region, kind)
        return True

    def _marks(self, read: Sequence[Tensor], inside: Sequence[Region]) -> list[int]:
        """What lies before each tensor that no region ``inside`` makes."""
        return [self._mark(maker) for maker in map(self.maker, read) if self.region(maker) not in inside]

    def _start(self, node: Node, inputs: Sequence[Tensor]) -> bool:
        out = self.spec(node.outputs[0])
        if node.op.fold is not None:
            shape = self.spec(inputs[0]).shape
            axes = node.attrs["axis"]
            if 0 in axes and not (len(shape) - 1 in axes and is_known(shape) and math.prod(shape) >= LONG_SUM):
                return False  # a short sum by itself, or one of rows, is NumPy's
        elif node.op.name in PLACING or node in self.again:
            shape = out.shape
        elif node.op.scalar is not None:
            shape = self.spec(inputs[0]).shape if node.op.along_row else out.shape
        else:
            return False
        if not shape or 0 in shape:
            return False
        region = Region(tuple(shape), 1 << len(self.by_bit), begun=self.steps)
        kind = self._kind(node, inputs, region)
        if kind is None:
            return False
        self.by_bit.append(region)
        self._add(node, inputs, region, kind)
        return True

    def _add(self, node: Node, inputs: Sequence[Tensor], region: Region, kind: str) -> None:
        self._note(region)
        region.request = region.request or node._context.device
        region.members.append(node)
        region.kinds[node.outputs[0]] = kind
        self.region_of[node] = region
        for tensor in self.read(node, inputs):
            other = self.region(self.maker(tensor))
            if other is None:
                region.around |= self.before.get(self.maker(tensor), 0)
            elif other is not region:
                is_elsewhere = node.op.name in PLACING or node in self.again
                if other.kinds[tensor] == "total" or is_elsewhere:  # read only when the other's loop is over
                    region.around |= other.bits
                else:
                    region.direct |= other.bits
            if other is not region and self.spec(tensor).shape == region.shape:
                self.readers.setdefault(tensor, region)
                region.streams.add(tensor)

    def _merge(self, other: Region, region: Region) -> None:
        other.into = region
        self.recent.pop(other)
        self._note(region)
        region.begun = min(region.begun, other.begun)
        region.members += other.members
        region.members.sort(key=lambda node: node.id)
        region.kinds.update(other.kinds)
        region.streams = {tensor for tensor in region.streams | other.streams if tensor not in region.kinds}
        region.row = region.row or other.row
        region.request = region.request or other.request
        region.bits |= other.bits
        region.around |= other.around
        region.direct = (region.direct | other.direct) & ~region.bits

    # --- what a node would be

    def _kind(self, node: Node, inputs: Sequence[Tensor], region: Region) -> str | None:
        """What the output of ``node`` would be in ``region``, or None when it does not fit."""
        op, out = node.op, self.spec(node.outputs[0])
        kinds = [region.kinds.get(t) for t in inputs]
        if "total" in [region.kinds.get(t) for t in self.read(node, inputs)]:
            return None
        if node in self.again:
            return "element" if out.shape == region.shape and region.kinds.keys().isdisjoint(self.read(node, inputs)) else None
        if op.name in PLACING:
            fits = out.shape == region.shape and kinds[PLACING[op.name]] is None
            return "element" if fits and (op.name == "scatter" or kinds[0] in (None, "element")) else None
        if op.passes(out, *map(self.spec, inputs)):
            return kinds[0]
        if op.fold is not None or op.name == "sum_like":
            return self._kind_of_sum(node, inputs, region, kinds[0])
        if op.name in VIEWS or op.name in REPEATS:
            return self._kind_of_view(node, inputs, region, kinds[0])
        if not all(self.spec(t).dtype in SUPPORTED for t in inputs):
            return None
        if op.along_row:
            if self.spec(inputs[0]).shape != region.shape or not self._row_is(region, 1) or not op.along_last(*inputs, **node.attrs):
                return None
            return "element" if out.shape == region.shape else "row"
        if out.shape == region.shape:
            full = len(region.shape)
            fits = all(kind != "row" or len(self.spec(t).shape) == full for t, kind in zip(inputs, kinds, strict=True))
            return "element" if fits and self.emits(node, inputs) else None
        if region.is_row_shape(out.shape) and all(
            kind is None or self.spec(t).shape == out.shape for t, kind in zip(inputs, kinds, strict=True)
        ):
            return "row" if "element" not in kinds and self.emits(node, inputs) else None
        return None

    def _kind_of_sum(self, node: Node, inputs: Sequence[Tensor], region: Region, kind: str | None) -> str | None:
        x = self.spec(inputs[0])
        if x.dtype.kind != "f" or self.spec(node.outputs[0]).dtype != x.dtype or 0 in x.shape:
            return None
        axes, fold = self.summed(node, x.shape), node.op.fold or "sum"
        if not axes:
            return None
        adds_rows = 0 in axes and fold in ("sum", "mean")
        if kind == "row":
            return "total" if adds_rows and len(x.shape) <= len(region.shape) else None
        if x.shape != region.shape or (kind is None and region.members):
            return None
        rank = len(region.shape)
        if 0 not in axes and axes == tuple(range(rank - len(axes), rank)):
            return "row" if self._row_is(region, len(axes)) else None
        entries = math.prod(size for axis, size in enumerate(x.shape) if axis not in axes)
        return "total" if adds_rows and entries <= LARGEST_TOTAL else None

    def _kind_of_view(self, node: Node, inputs: Sequence[Tensor], region: Region, kind: str | None) -> str | None:
        shape, out = self.spec(inputs[0]).shape, self.spec(node.outputs[0]).shape
        if kind is None or not only_ones(node, shape, out):
            return None
        if kind == "element":
            return "element" if out == region.shape == shape else None
        if out == region.shape:
            return "element" if node.op.name in REPEATS and len(shape) == len(out) else None
        return "row" if region.is_row_shape(out) and node.op.name in VIEWS else None

    def is_view(self, node: Node) -> bool:
        if node in self.again:
            return False
        op = node.op
        return op.name in VIEWS or op.name in REPEATS or op.passes(self.spec(node.outputs[0]), *map(self.spec, node.inputs))

    def may_have_windows(self, shape: tuple[Any, ...]) -> bool:
        """Whether a loop over ``shape`` may read elements that stand elsewhere than its own."""
        return bool(shape) and is_known(shape) and (self.is_body or math.prod(shape) <= LARGEST)

    def placed(self, node: Node, position: int) -> Window | None:
        """Where an element of the domain reads that input of ``node``, if it is one that is put elsewhere."""
        if PLACING.get(node.op.name) != position:
            return None
        return placed(node, self.spec(self.resolved(node.inputs[position])), self.spec(node.outputs[0]))

    def _row_is(self, region: Region, axes: int) -> bool:
        if not region.row and (not region.members or len(region.shape) > axes):
            region.row = axes
        return region.row == axes and len(region.shape) > axes

    def summed(self, node: Node, shape: Sequence[int]) -> tuple[int, ...]:
        if node.op.fold is not None:
            return tuple(node.attrs["axis"])
        target = self.spec(node.outputs[0]).shape
        extra = len(shape) - len(target)
        return (*range(extra), *(extra + a for a, d in enumerate(target) if d == 1 and shape[extra + a] != 1))

    def emits(self, node: Node, inputs: Sequence[Tensor]) -> bool:
        """Whether the op's ``scalar`` knows these dtypes, and the numbers among its inputs."""
        numbers = [value if (value := self.found.values.get(t)) is not None and value.size == 1 else None for t in inputs]
        key = (node.op, *[self.spec(t).dtype if n is None else (n.dtype, n.tobytes()) for t, n in zip(inputs, numbers)])
        if node.attrs or key not in self.known:
            s = Scalars()
            try:
                self.value(s, node, [self.constant(s, t) or s.load(i, self.spec(t).dtype, is_row=False) for i, t in enumerate(inputs)])
                self.known[key] = True
            except Unfusable:
                self.known[key] = False
        return self.known[key]

    def constant_of(self, tensor: Tensor) -> Any:
        """The number, as an array, that a tensor is known to be; None for any other."""
        value = self.found.values.get(tensor)
        return value if value is not None and value.size == 1 else None

    def constant(self, s: Scalars, tensor: Tensor) -> Value | None:
        value = self.constant_of(tensor)
        return None if value is None else s.constant(value.reshape(())[()], value.dtype)

    def value(self, s: Scalars, node: Node, inputs: Sequence[Value]) -> Value:
        value: Value = node.op.scalar(s, *inputs, **node.attrs)
        return s.astype(value, self.spec(node.outputs[0]).dtype) if value.dtype == BOOL else value


def agree(one: str | None, other: str | None) -> bool:
    """Whether one device can serve both requests."""
    return one is None or other is None or one == other


def only_ones(node: Node, shape: Sequence[int], out: Sequence[int]) -> bool:
    """Whether the view ``node`` only puts in or takes out axes of size 1, or repeats along such axes."""
    if node.op.name in REPEATS:
        return not node.attrs.get("keep", 0)
    if node.op.name == "getitem" and not all(item is None or item == slice(None) for item in node.attrs["index"]):
        return False
    return [d for d in shape if d != 1] == [d for d in out if d != 1]
