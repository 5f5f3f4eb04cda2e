"""Fuse: elementwise stretches of a plan, with the sums behind them, become single nodes whose kernel is one compiled loop.

A region is a set of nodes over one domain, the shape of their elements. Its members are
- elementwise nodes of that shape;
- reductions over the last axes, whose results are the same all along a row, and elementwise nodes of those;
- sums over other axes, the first among them, which only nodes outside read;
- views of these that only put in or take out axes of size 1, or repeat a row's value along it.

A node may join a region, and two regions may become one, where no path leads out of it and back: then a loop would wait for itself.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..graph import Node, Op, Spec, Tensor, Work
from ..graph.op import Slicing
from ..graph.spec import is_known
from ..jit.functions import Scalars
from ..jit.loops import Loop, Operand, Result
from ..jit.values import BOOL, SUPPORTED, Unfusable, Value, in_order
from .columns import columns_of
from .cost import CALL_SECONDS, estimated_seconds
from .epilogue import Joined, joined
from .simplify import Simplified

# A region is made one loop where that is expected to save so much in a run: to compile it takes some 10 ms.
WORTH_SECONDS = 10e-6
# In larger graphs, arrays below this size are not looked at: to plan would cost more than loops could save.
MANY_NODES, SMALL_SIZE = 20_000, 1024
# LLVM takes more than linear time for a block; a longer stretch becomes several loops.
MEMBERS = 200
# How many regions are searched for a path between two; where more have grown since, they stay apart.
SEARCHED = 100
# Seconds for a primitive of one element, and bytes a second of a compiled loop.
PRIMITIVE_SECONDS = 0.02e-9
LOOP_BYTES_PER_SECOND = 12e9
# Axes that only grow or lose entries of size 1.
_VIEWS = frozenset({"expand_dims", "squeeze", "getitem", "reshape", "reshape_like"})
_REPEATS = frozenset({"broadcast_like", "broadcast_to"})


class Fused(Op):
    """The op of a fused node.

    loop      what is computed
    compiled  makes a function of arrays of a loop or a convolution
    joined    a convolution whose kernel has the loop as its epilogue, and then replaces it
    """

    name = "fused"
    vjp = None

    def __init__(self, region: Region, loop: Loop, compiled: Callable[[Any], Callable[..., Any]], joined: Joined | None) -> None:
        described = loop if joined is None else joined.kernel
        self.region, self.joined = region, joined
        self._kernel = compiled(described)
        self._arity = len(described.operands)
        self.in_place = described.works_in_place
        self.takes_out = True
        nodes = region.members if joined is None else [joined.node, *region.members]
        names: dict[str, None] = dict.fromkeys(node.op.name for node in nodes)
        self.title = "+".join(list(names)[:6]) + ("+..." if len(names) > 6 else "")

    @property
    def parameters(self) -> list[str]:
        return [f"x{i}" for i in range(self._arity)]

    def infer(self, *inputs: Any, **attrs: Any) -> Any:
        return self.region.results[-1].spec

    def bind(self, xp: Any, attrs: dict[str, Any]) -> Callable[..., Any]:
        kernel = self._kernel
        spec = self.region.results[-1].spec
        shape, dtype = spec.shape, spec.dtype

        def call(*arrays: Any, out: Any = None) -> Any:
            return kernel(*arrays, xp.empty(shape, dtype) if out is None else out)

        def number(*arrays: Any, out: Any = None) -> Any:
            return kernel(*arrays, xp.empty(shape, dtype))[()] if out is None else kernel(*arrays, out)

        return call if shape else number

    def work(self, *inputs: Any, **attrs: Any) -> Work:
        # In the units of the cost model, which knows NumPy's loops.
        seconds = self.region.fused_seconds
        if self.joined is not None:
            seconds += estimated_seconds(self.joined.node, inputs[:2])
        return Work(bytes=seconds * 6e9)

    def slicing(self, out: Any, *inputs: Any, **attrs: Any) -> Slicing | None:
        region = self.region
        if not region.can_slice:
            return None
        cut = tuple(source.is_cut for source in region.sources)
        if self.joined is not None:
            cut = True, False, *(source.is_cut for source in self.joined.sources)
        return Slicing(cut, region.shape[0], "sum" if region.results[-1].is_total else "concat")


class FusedNode(Node):
    """A node of a plan that stands for several of the graph; it is in no graph itself."""

    __slots__ = ()
    op: Fused

    @property
    def name(self) -> str:
        return f"{self.op.region.label.name}({self.op.title})"

    @property
    def region(self) -> Region:
        return self.op.region


@dataclass(frozen=True)
class Source:
    """What a region reads.

    axes       for each axis of the tensor the axis of the domain that it runs along; None where its size is 1
    is_cut     whether a slice of the domain reads a slice of it
    """

    tensor: Tensor
    spec: Spec
    axes: tuple[int | None, ...]
    strided: bool

    @property
    def is_cut(self) -> bool:
        return bool(self.axes) and self.axes[0] == 0


@dataclass(frozen=True)
class Made:
    """What a region gives: a tensor, and the axes of the domain that it sums over (none for what has an entry for each element or row)."""

    tensor: Tensor
    spec: Spec
    summed: frozenset[int]
    is_row: bool

    @property
    def is_total(self) -> bool:
        return bool(self.summed)


@dataclass(eq=False)
class Region:
    """Nodes that become one loop.

    shape  the domain
    bits   of a set of regions, those that stand for this one: its own, and those of the regions that it has taken in
    direct regions that its members read; ``around``: regions that lie before the other nodes that they read
    begun  the step at which its first member came; ``grown``: its last
    row    number of last axes that a row has; 0 while no reduction has said so
    kinds  tensor -> "element", "row" or "total"
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
    into: Region | None = None
    sources: list[Source] = field(default_factory=list)
    results: list[Made] = field(default_factory=list)
    views: set[Node] = field(default_factory=set)
    plain_seconds: float = 0.0
    fused_seconds: float = 0.0
    can_slice: bool = False
    node: FusedNode | None = None

    @property
    def label(self) -> Node:
        """The member that it is named after."""
        return self.results[-1].tensor.node

    def is_row_shape(self, shape: Sequence[Any]) -> bool:
        kept = self.shape[: len(self.shape) - self.row]
        return bool(self.row) and tuple(shape) in (kept, (*kept, *(1,) * self.row))


def find(region: Region | None) -> Region | None:
    """The region that ``region`` has been merged into."""
    while region is not None and region.into is not None:
        region = region.into
    return region


class Fuser:
    """The state of one pass. ``nodes`` are to be run in their order; see `fuse` for the rest."""

    def __init__(
        self,
        nodes: Sequence[Node],
        simplified: Simplified,
        fed: Collection[Tensor],
        fetched: Collection[Tensor | Node],
        compiled: Callable[[Loop], Callable[..., Any]],
    ) -> None:
        self.nodes, self.found, self.fed, self.compiled = nodes, simplified, fed, compiled
        self.fetched = set(fetched)
        self.regions: dict[Node, Region] = {}
        self.before: dict[Node, int] = {}  # of a node outside: the regions that lie before it
        self.by_bit: list[Region] = []
        self.recent: dict[Region, None] = {}  # the regions, those that have grown last at the end
        self.steps = 0  # that regions have grown
        self.readers: dict[Tensor, Region] = {}  # the first region that reads a tensor of its own shape
        self.known: dict[Any, bool] = {}
        self.present = set(nodes)
        self.twins: dict[Node, Node] = {}  # a node that is not run -> the one that gives its outputs as well
        for node in nodes:
            twin = node.attrs.get("extends")
            while twin is not None:
                self.twins[twin] = node
                twin = twin.attrs.get("extends")
        self.ordered = {before for node in nodes for before in node._context.control}
        self.smallest = SMALL_SIZE if len(nodes) > MANY_NODES else 1

    # --- forming regions

    def form(self) -> None:
        for node in self.nodes:
            inputs = [self.resolved(tensor) for tensor in node.inputs]
            if not self._may_join(node) or not self._join(node, inputs):
                before = 0
                for tensor in self._read(node, inputs):
                    before |= self._mark(self._maker(tensor))
                for other in node._context.control:
                    before |= self._mark(other)
                self.before[node] = before

    def resolved(self, tensor: Tensor) -> Tensor:
        return self.found.same.get(tensor, tensor)

    def _read(self, node: Node, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The inputs whose values count, not only their shapes."""
        told = node.op.shape_inputs
        return (
            [tensor for i, tensor in enumerate(inputs) if i not in told or not is_known(self.spec(tensor).shape)] if told else list(inputs)
        )

    def _maker(self, tensor: Tensor) -> Node:
        return self.twins.get(tensor.node, tensor.node)

    def spec(self, tensor: Tensor) -> Any:
        return self.found.spec(tensor)

    def _region(self, node: Node) -> Region | None:
        return find(self.regions.get(node))

    def _mark(self, node: Node) -> int:
        """The regions that lie before a node, or its own."""
        region = self._region(node)
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
        if one.shape != other.shape or (one.row and other.row and one.row != other.row):
            return False
        if len(one.members) + len(other.members) > MEMBERS:
            return False
        return not (
            self._leads(one, other.around | (other.direct & ~one.bits)) or self._leads(other, one.around | (one.direct & ~other.bits))
        )

    def _may_join(self, node: Node) -> bool:
        if len(node.outputs) != 1 or node in self.ordered or node._context.control:
            return False
        out = node.outputs[0]
        if out in self.fed or out in self.found.same or out in self.found.values:
            return False
        op = node.op
        if op.scalar is None and op.fold is None and op.name != "sum_like" and not self._is_view(node):
            return False
        spec = self.spec(out)
        return is_known(spec.shape) and spec.dtype in SUPPORTED and all(is_known(self.spec(t).shape) for t in node.inputs)

    def _join(self, node: Node, inputs: Sequence[Tensor]) -> bool:
        """Puts ``node`` into a region of its inputs, or one of its own; whether it could."""
        read = self._read(node, inputs)
        near = list({id(r): r for t in read if (r := self._region(self._maker(t))) is not None}.values())
        beside = [r for t in read if (r := find(self.readers.get(t))) is not None and r not in near]
        for region in sorted(near, key=lambda region: -len(region.members)) + beside:
            if region.into is None and len(region.members) < MEMBERS and self._joins(node, inputs, region, near):
                return True
        return self._start(node, inputs)

    def _joins(self, node: Node, inputs: Sequence[Tensor], region: Region, near: Sequence[Region]) -> bool:
        """Puts ``node`` into ``region``, and with it what can be of the regions that it reads."""
        if self._kind(node, inputs, region) is None:
            return False
        taken = [other for other in near if other is not region and self._may_merge(region, other)]
        read = self._read(node, inputs)
        outside = [self._mark(self._maker(t)) for t in read if (r := self._region(self._maker(t))) is not region and r not in taken]
        if any(self._leads(region, mark) for mark in outside):
            return False
        for other in taken:
            # (With the first taken in, others may come to lie on both sides.)
            if not self._may_merge(region, other) or any(self._leads(other, mark) for mark in outside):
                if self._leads(region, other.bits):
                    return False
                continue
            self._merge(other, region)
        outside = [self._mark(self._maker(t)) for t in read if self._region(self._maker(t)) is not region]
        kind = self._kind(node, inputs, region)
        if kind is None or any(self._leads(region, mark) for mark in outside):
            return False
        self._add(node, inputs, region, kind)
        return True

    def _start(self, node: Node, inputs: Sequence[Tensor]) -> bool:
        out = self.spec(node.outputs[0])
        if node.op.fold is not None:
            shape = self.spec(inputs[0]).shape
            if 0 in node.attrs["axis"]:
                return False  # a sum by itself is NumPy's
        elif node.op.scalar is not None:
            shape = self.spec(inputs[0]).shape if node.op.along_row else out.shape
        else:
            return False
        if math.prod(shape) < self.smallest or not shape:
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
        region.members.append(node)
        region.kinds[node.outputs[0]] = kind
        self.regions[node] = region
        for tensor in self._read(node, inputs):
            other = self._region(self._maker(tensor))
            if other is None:
                region.around |= self.before.get(self._maker(tensor), 0)
            elif other is not region:
                if other.kinds[tensor] == "total":  # known only when the other's loop is over
                    region.around |= other.bits
                else:
                    region.direct |= other.bits
            if other is not region and self.spec(tensor).shape == region.shape:
                self.readers.setdefault(tensor, region)

    def _merge(self, other: Region, region: Region) -> None:
        other.into = region
        self.recent.pop(other)
        self._note(region)
        region.begun = min(region.begun, other.begun)
        region.members += other.members
        region.members.sort(key=lambda node: node.id)
        region.kinds.update(other.kinds)
        region.row = region.row or other.row
        region.bits |= other.bits
        region.around |= other.around
        region.direct = (region.direct | other.direct) & ~region.bits

    def _kind(self, node: Node, inputs: Sequence[Tensor], region: Region) -> str | None:
        """What the output of ``node`` would be in ``region``, or None when it does not fit."""
        op, out = node.op, self.spec(node.outputs[0])
        kinds = [region.kinds.get(t) for t in inputs]
        if "total" in [region.kinds.get(t) for t in self._read(node, inputs)]:
            return None
        if op.passes(out, *map(self.spec, inputs)):
            return kinds[0]
        if op.fold is not None or op.name == "sum_like":
            return self._kind_of_sum(node, inputs, region, kinds[0])
        if op.name in _VIEWS or op.name in _REPEATS:
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
            return "element" if fits and self._emits(node, inputs) else None
        if region.is_row_shape(out.shape) and all(
            kind is None or self.spec(t).shape == out.shape for t, kind in zip(inputs, kinds, strict=True)
        ):
            return "row" if "element" not in kinds and self._emits(node, inputs) else None
        return None

    def _kind_of_sum(self, node: Node, inputs: Sequence[Tensor], region: Region, kind: str | None) -> str | None:
        x = self.spec(inputs[0])
        if x.dtype.kind != "f" or self.spec(node.outputs[0]).dtype != x.dtype or 0 in x.shape:
            return None
        axes, fold = self._summed(node, x.shape), node.op.fold or "sum"
        if not axes:
            return None
        if kind == "row":
            return "total" if 0 in axes and fold in ("sum", "mean") and len(x.shape) <= len(region.shape) else None
        if x.shape != region.shape or (kind is None and region.members):
            return None
        rank = len(region.shape)
        if axes == tuple(range(rank - len(axes), rank)) and 0 not in axes:
            return "row" if self._row_is(region, len(axes)) else None
        return (
            "total"
            if 0 in axes and fold in ("sum", "mean") and math.prod(d for a, d in enumerate(x.shape) if a not in axes) <= 8192
            else None
        )

    def _kind_of_view(self, node: Node, inputs: Sequence[Tensor], region: Region, kind: str | None) -> str | None:
        shape, out = self.spec(inputs[0]).shape, self.spec(node.outputs[0]).shape
        if kind is None or not _only_ones(node, shape, out):
            return None
        if kind == "element":
            return "element" if out == region.shape == shape else None
        if out == region.shape:
            return "element" if node.op.name in _REPEATS and len(shape) == len(out) else None
        return "row" if region.is_row_shape(out) and node.op.name in _VIEWS else None

    def _is_view(self, node: Node) -> bool:
        op = node.op
        return op.name in _VIEWS or op.name in _REPEATS or op.passes(self.spec(node.outputs[0]), *map(self.spec, node.inputs))

    def _row_is(self, region: Region, axes: int) -> bool:
        if not region.row and (not region.members or len(region.shape) > axes):
            region.row = axes
        return region.row == axes and len(region.shape) > axes

    def _summed(self, node: Node, shape: Sequence[int]) -> tuple[int, ...]:
        if node.op.fold is not None:
            return tuple(node.attrs["axis"])
        target = self.spec(node.outputs[0]).shape
        extra = len(shape) - len(target)
        return (*range(extra), *(extra + a for a, d in enumerate(target) if d == 1 and shape[extra + a] != 1))

    def _emits(self, node: Node, inputs: Sequence[Tensor]) -> bool:
        """Whether the op's ``scalar`` knows these dtypes, and the numbers among its inputs."""
        s = Scalars()
        values = [self._constant(s, t) or s.load(i, self.spec(t).dtype, is_row=False) for i, t in enumerate(inputs)]
        key = (node.op, *[(value.dtype, value.data if value.kind == "constant" else None) for value in values])
        if node.attrs or key not in self.known:
            try:
                self._value(s, node, values)
                self.known[key] = True
            except Unfusable:
                self.known[key] = False
        return self.known[key]

    def _constant(self, s: Scalars, tensor: Tensor) -> Value | None:
        value = self.found.values.get(tensor)
        return s.constant(value.reshape(())[()], value.dtype) if value is not None and value.size == 1 else None

    def _value(self, s: Scalars, node: Node, inputs: Sequence[Value]) -> Value:
        value: Value = node.op.scalar(s, *inputs, **node.attrs)
        return s.astype(value, self.spec(node.outputs[0]).dtype) if value.dtype == BOOL else value

    # --- from regions to nodes

    def _all_regions(self) -> list[Region]:
        return list({id(region): region for node in self.nodes if (region := self._region(node)) is not None}.values())

    def _readers(self) -> dict[Tensor, set[Region | None]]:
        """For each tensor the regions that read it; None stands for a node outside, or the caller."""
        readers: dict[Tensor, set[Region | None]] = {}
        for node in self.nodes:
            out = node.outputs[0] if node.outputs else None
            if out in self.found.same:
                readers.setdefault(self.found.same[out], set()).add(None)
                continue
            if out in self.found.values or out in self.fed:
                continue
            for tensor in self._read(node, list(map(self.resolved, node.inputs))):
                readers.setdefault(tensor, set()).add(self._region(node))
        for item in self.fetched:
            for tensor in (item,) if isinstance(item, Tensor) else item.outputs:
                readers.setdefault(self.resolved(tensor), set()).add(None)
        return readers

    def settle(self) -> None:
        """Decides which regions become loops, and finishes them; the others fall apart."""
        readers = self._readers()
        for region in self._all_regions():
            members = [node for node in region.members if not self._is_view(node)]
            try:
                node = self._finished(region, members, readers) if members else None
            except Unfusable:
                node = None
            except RuntimeError as error:
                node = None
                warnings.warn(
                    f"a loop could not be compiled, and NumPy's kernels serve instead: {str(error).splitlines()[0]}",
                    RuntimeWarning,
                    stacklevel=2,
                )
            if node is None:
                for member in region.members:
                    del self.regions[member]

    def _finished(self, region: Region, members: Sequence[Node], readers: dict[Tensor, set[Region | None]]) -> FusedNode | None:
        plain = sum(estimated_seconds(node, [self.spec(t) for t in node.inputs]) for node in region.members)
        if plain - CALL_SECONDS < WORTH_SECONDS:
            return None  # whatever the loop would be
        for node in reversed(region.members):
            out = node.outputs[0]
            if node not in members and any(find(reader) is not region for reader in readers.get(out, ())):
                # A view that others read, too, is made for them as ever.
                readers.setdefault(self.resolved(node.inputs[0]), set()).add(None)
                region.views.add(node)
        rank = len(region.shape)
        for node in members:
            out = node.outputs[0]
            if any(find(reader) is not region for reader in readers.get(out, ())):
                kind = region.kinds[out]
                summed: Iterable[int] = ()
                if kind == "total":
                    x = self.resolved(node.inputs[0])
                    summed = self._summed(node, self.spec(x).shape)
                    if region.kinds.get(x) == "row":
                        summed = (*summed, *range(rank - region.row, rank))
                spec = self.spec(out)
                region.results.append(Made(out, Spec(spec.shape, spec.dtype), frozenset(summed), kind == "row"))
        if not region.results:
            return None
        region.results.sort(key=lambda made: (not made.is_total, not made.is_row))
        loop = self._loop(region, members)
        nbytes = sum(s.spec.nbytes for s in region.sources) + sum(r.spec.nbytes for r in region.results)
        count = math.prod(region.shape)
        primitives = len(in_order([result.value for result in loop.results]))
        region.fused_seconds = CALL_SECONDS + count * primitives * PRIMITIVE_SECONDS + nbytes / LOOP_BYTES_PER_SECOND
        region.plain_seconds = plain
        if plain - region.fused_seconds < WORTH_SECONDS:
            return None

        def is_lone(tensor: Tensor) -> bool:
            read = [find(reader) for reader in readers.get(tensor, ())]
            return read == [region] and tensor not in self.fed and tensor not in self.found.values and tensor.node not in self.ordered

        return self._node(region, loop, joined(region, loop, self.spec, is_lone))

    def _node(self, region: Region, loop: Loop, conv: Joined | None) -> FusedNode:
        label = region.label
        node = FusedNode()
        node.id, node.graph, node.op = (
            [m for m in region.members if m not in region.views][-1].id,
            label.graph,
            Fused(region, loop, self.compiled, conv),
        )
        read = () if conv is None else map(self.resolved, conv.node.inputs)
        node.inputs = (*read, *(source.tensor for source in (region.sources if conv is None else conv.sources)))
        node.attrs = {}
        node.outputs = (region.results[-1].tensor,)
        node._context, node._label, node._code, node._offset = label._context, label._label, label._code, label._offset
        region.node = node
        return node

    def _loop(self, region: Region, members: Sequence[Node]) -> Loop:
        """The region's loop, over as few dimensions as its operands allow."""
        rank = len(region.shape)
        sources: dict[tuple[Tensor, tuple[int | None, ...]], int] = {}
        reads: dict[tuple[Node, int], int] = {}
        for node in members:
            for position, tensor in enumerate(map(self.resolved, node.inputs)):
                if tensor in region.kinds or position in node.op.shape_inputs:
                    continue
                value = self.found.values.get(tensor)
                if value is not None and value.size == 1:
                    continue
                source = self._seen_through(tensor, self._axes(node, tensor, region), len(region.shape))
                key = (source.tensor, source.axes)
                if key not in sources:
                    sources[key] = len(region.sources)
                    region.sources.append(source)
                reads[node, position] = sources[key]
        flags = [tuple(axis in s.axes for axis in range(rank)) for s in region.sources]
        totals = [tuple(axis in made.summed for axis in range(rank)) for made in region.results if made.is_total]
        groups = self._groups(region, [*flags, *totals])
        dims = tuple(math.prod(region.shape[a] for a in group) for group in groups)
        s = Scalars()
        operands = tuple(
            Operand(source.spec.dtype, tuple(flag[group[0]] for group in groups), source.strided)
            for source, flag in zip(region.sources, flags, strict=True)
        )
        last = groups[-1][0]
        loads = [
            s.load(i, source.spec.dtype, is_row=not flag[last]) for i, (source, flag) in enumerate(zip(region.sources, flags, strict=True))
        ]
        values = self._values(s, region, members, reads, loads)
        results = []
        for made in region.results:
            value = values[made.tensor]
            if made.is_total:
                summed = tuple(group[0] in made.summed for group in groups)
                divisor = math.prod(region.shape[a] for a in made.summed) if made.tensor.node.op.fold == "mean" else 1
                if made.tensor.node.op.fold == "mean" and region.kinds.get(self.resolved(made.tensor.node.inputs[0])) == "row":
                    divisor = math.prod(self.spec(made.tensor.node.inputs[0]).shape[a] for a in made.tensor.node.attrs["axis"])
                if value.is_row and not summed[-1]:
                    raise Unfusable("a sum of what is the same all along a row")
                results.append(Result(value, summed, divisor))
            else:
                if value.is_row and not made.is_row:
                    raise Unfusable("an array with equal elements in each row")
                results.append(Result(value, (False,) * len(dims)))
        counted = self._counted(region, dims)
        region.can_slice = counted[1] > 0 and not any(s.axes and 0 in s.axes and not s.is_cut for s in region.sources)
        return Loop(dims, counted, operands, tuple(results))

    def _counted(self, region: Region, dims: Sequence[int]) -> tuple[int, int]:
        factor = dims[0] // region.shape[0] if region.shape[0] else 1
        for i, source in enumerate(region.sources):
            if source.is_cut:
                return i, factor
        for i, made in enumerate(region.results):
            if not made.is_total:
                return len(region.sources) + i, factor
        raise Unfusable("nothing tells a call how long the first dimension is")

    def _values(
        self, s: Scalars, region: Region, members: Sequence[Node], reads: Mapping[tuple[Node, int], int], loads: Sequence[Value]
    ) -> dict[Tensor, Value]:
        values: dict[Tensor, Value] = {}
        for node in region.members:
            out = node.outputs[0]
            if node not in members:
                values[out] = values[self.resolved(node.inputs[0])]
                continue
            inputs = []
            for position, tensor in enumerate(map(self.resolved, node.inputs)):
                if tensor in values:
                    inputs.append(values[tensor])
                elif (node, position) in reads:
                    inputs.append(loads[reads[node, position]])
                elif position not in node.op.shape_inputs:
                    constant = self._constant(s, tensor)
                    assert constant is not None
                    inputs.append(constant)
            if region.kinds[out] == "total":
                values[out] = inputs[0]
            elif node.op.fold is not None or node.op.name == "sum_like":
                x = self.spec(node.inputs[0])
                fold = node.op.fold or "sum"
                if fold == "mean":
                    values[out] = s.sum(inputs[0]) / float(math.prod(x.shape[a] for a in node.attrs["axis"]))
                else:
                    values[out] = getattr(s, fold)(inputs[0])
            else:
                values[out] = self._value(s, node, inputs)
        return values

    def _axes(self, node: Node, tensor: Tensor, region: Region) -> list[int]:
        """For each axis of an array that ``node`` reads from outside the axis of the domain that it runs along."""
        rank, shape = len(region.shape), self.spec(tensor).shape
        out = self.spec(node.outputs[0]).shape
        if region.kinds[node.outputs[0]] == "row" and not node.op.along_row and node.op.fold is None and node.op.name != "sum_like":
            start = len(out) - len(shape)  # (a row's value has the domain's first axes)
            return list(range(start, start + len(shape)))
        if node.op.along_row and shape != region.shape:
            return list(range(len(shape)))
        return list(range(rank - len(shape), rank))

    def _seen_through(self, tensor: Tensor, axes: Sequence[int], rank: int) -> Source:
        """The array behind views that only repeat it or put axes of size 1 in, with the axes of the domain that its own run along."""
        spec = self.spec(tensor)
        where: list[int | None] = [axis if size != 1 else None for axis, size in zip(axes, spec.shape, strict=True)]
        while True:
            node = tensor.node
            if tensor in self.fed or node.op.name not in _VIEWS | _REPEATS or tensor in self.found.values or self._region(node) is not None:
                break
            source = self.resolved(node.inputs[0])
            shape, out = self.spec(source).shape, self.spec(tensor).shape
            if not is_known(shape) or not _only_ones(node, shape, out):
                break
            if node.op.name in _REPEATS:
                extra = len(out) - len(shape)
                where = [where[extra + a] if size != 1 else None for a, size in enumerate(shape)]
            else:
                left = iter([w for w, size in zip(where, out, strict=True) if size != 1])
                where = [next(left) if size != 1 else None for size in shape]
            tensor = source
        spec = self.spec(tensor)
        strided = len(spec.shape) == 2 and tensor.node.op.name in ("getitem", "split", "concat_part") and tensor not in self.fed
        return Source(tensor, Spec(spec.shape, spec.dtype), tuple(where), strided and rank == 2 and tuple(where) == (0, 1))

    def _groups(self, region: Region, flags: Sequence[tuple[bool, ...]]) -> list[list[int]]:
        """The domain's axes, those together that all arrays run along alike."""
        rank = len(region.shape)
        groups = [[0]]
        for axis in range(1, rank):
            alike = all(flag[axis] == flag[axis - 1] or region.shape[axis] == 1 for flag in flags)
            at_row = bool(region.row) and axis == rank - region.row
            apart = any(source.strided for source in region.sources)
            if alike and not at_row and not apart:
                groups[-1].append(axis)
            else:
                groups.append([axis])
        if region.row and groups[-1][0] != rank - region.row:
            raise Unfusable("arrays differ within the axes of a row")
        return groups

    # --- the new order

    def ordered_nodes(self) -> list[Node]:
        """The nodes to run, regions in place of their members, each behind what it reads; without what nothing reads any more."""
        placed: dict[int, Node] = {}  # region -> its node
        result: list[Node] = []
        done: set[int] = set()
        last = {id(region): node for node in self.nodes if (region := self._region(node)) is not None and node not in region.views}

        def unit(node: Node) -> Node:
            region = self._region(node)
            if region is None or node in region.views:
                return node
            return placed.setdefault(id(region), region.node or node)

        wanted = self._wanted(unit)
        for node in self.nodes:
            region = self._region(node)
            if (region is not None and node not in region.views and last[id(region)] is not node) or id(unit(node)) not in wanted:
                continue
            stack = [(unit(node), self._befores(unit(node), unit))]
            if id(stack[0][0]) in done:
                continue
            while stack:
                current, befores = stack[-1]
                for before in befores:
                    if id(before) not in done:
                        stack.append((before, self._befores(before, unit)))
                        break
                else:
                    stack.pop()
                    if id(current) not in done:
                        done.add(id(current))
                        result.append(current)
        return result

    def _befores(self, node: Node, unit: Callable[[Node], Node]) -> Iterator[Node]:
        out = node.outputs[0] if node.outputs else None
        if out in self.found.same:
            yield unit(self._maker(self.found.same[out]))
            return
        if out in self.found.values or out in self.fed:
            return
        for position, tensor in enumerate(node.inputs):
            maker = self._maker(tensor)  # (a node that stands in for another is a node of the plan, too)
            if maker in self.present and not (position in node.op.shape_inputs and is_known(self.spec(tensor).shape)):
                yield unit(maker)
        for before in node._context.control if not isinstance(node, FusedNode) else ():
            yield unit(before)

    def _wanted(self, unit: Callable[[Node], Node]) -> set[int]:
        """What the fetches lead to: a view that regions see through may have lost all readers."""
        starts = [self._maker(item) if isinstance(item, Tensor) else item for item in self.fetched]
        stack = [unit(node) for node in starts if node in self.present]
        wanted: set[int] = set()
        while stack:
            node = stack.pop()
            if id(node) not in wanted:
                wanted.add(id(node))
                stack += self._befores(node, unit)
        return wanted


def fuse(
    nodes: Sequence[Node],
    simplified: Simplified,
    fed: Collection[Tensor],
    fetched: Collection[Tensor | Node],
    compiled: Callable[[Loop], Callable[..., Any]],
) -> tuple[list[Node], list[str]]:
    """``nodes`` with regions of them replaced by fused nodes, in an order in which each comes behind what it reads; and an account.

    fetched   what the run gives, and the nodes that it must run
    compiled  makes a loop a function of arrays; called when a fused node's kernel is bound
    """
    if len(nodes) > MANY_NODES and not _has_large_arrays(nodes, simplified):
        return list(nodes), []
    fuser = Fuser(nodes, simplified, fed, fetched, compiled)
    fuser.form()
    if not fuser.regions:
        return list(nodes), []
    fuser.settle()
    regions = fuser._all_regions()
    if not regions:
        return list(nodes), []
    count = sum(len(region.members) for region in regions)
    note = f"fuse: {count} nodes become {len(regions)} compiled loop{'s' * (len(regions) > 1)}"
    return fuser.ordered_nodes(), [note]


def _has_large_arrays(nodes: Sequence[Node], simplified: Simplified) -> bool:
    """Whether any array of the graph is large enough for a loop in a graph of many nodes: most shapes of one are equal."""
    shapes = {shape for shape, _ in list(columns_of(nodes[0].graph).shapes)}
    shapes.update(spec.shape for spec in simplified.specs.values())
    return any(is_known(shape) and math.prod(shape) >= SMALL_SIZE for shape in shapes)


def _only_ones(node: Node, shape: Sequence[int], out: Sequence[int]) -> bool:
    """Whether the view ``node`` only puts in or takes out axes of size 1, or repeats along such axes."""
    if node.op.name in _REPEATS:
        return not node.attrs.get("keep", 0)
    if node.op.name == "getitem" and not all(item is None or item == slice(None) for item in node.attrs["index"]):
        return False
    return [d for d in shape if d != 1] == [d for d in out if d != 1]
