"""Fuse: regions of a plan (see `regions`) become single nodes whose kernel is one compiled loop."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from typing import Any, TypeVar

import numpy as np

from ..graph import Node, Op, Spec, Tensor, Work
from ..graph.op import Slicing
from ..graph.spec import is_known
from ..graph.text import first_line, format_seconds
from ..jit.functions import Scalars
from ..jit.gpu import GpuKernel, GpuTogether
from ..jit.loops import Loop, Operand, Result, Window
from ..jit.values import Unfusable, Value, in_order
from ..records import Record
from .cost import BYTES_PER_SECOND, CALL_SECONDS, estimated_seconds
from .epilogue import Joined, joined, pooled
from .recomputed import recomputed
from .regions import PARTS, REPEATS, VIEWS, Region, Regions, agree, find, only_ones
from .row_products import RowsTimes, taken_in
from .simplify import Simplified
from .spared import spare
from .trees import MANY_NODES, SmallNodes, Trees
from .windows import through, whole

# A region is made one loop where that is expected to save so much in a run: to compile it takes some 10 ms.
WORTH_SECONDS = 10e-6
# And for trees where those that the loop serves save so much together: large graphs have many of which no two are alike.
WORTH_TOGETHER = 5 * WORTH_SECONDS
# And where all of them save so much of what the calls for all nodes take.
WORTH_SHARE = 0.05
# Seconds for a primitive of one element, and bytes a second of a compiled loop.
PRIMITIVE_SECONDS = 0.02e-9
# For each result but one: the array to be filled is taken before. (In the units of a call, which for small arrays is a quarter of that.)
RESULT_SECONDS = 2e-6
LOOP_BYTES_PER_SECOND = 12e9
Compiled = Callable[[Any], Callable[..., Any]]  # of a loop or a convolution
T = TypeVar("T")


def fuse(
    nodes: Sequence[Node],
    simplified: Simplified,
    fed: Collection[Tensor],
    fetched: Collection[Tensor | Node],
    compiled: Compiled,
    is_body: bool = False,
    joins: bool = True,
    on_gpu: bool = False,
) -> tuple[list[Node], list[str]]:
    """``nodes`` with regions of them replaced by fused nodes, in an order in which each comes behind what it reads; and an account.

    fetched   what the run gives, and the nodes that it must run
    compiled  makes a loop, or a convolution with a loop behind it, a function of arrays
    is_body   whether they are those of a sub-graph, where no kernel is cut
    joins     whether loops may become parts of the kernels of convolutions, as those for the host can have
    on_gpu    whether loops compute again what takes longer to read, and two nodes are worth one: a kernel by itself costs more there
    """
    given, making = (simplified, fed, is_body), (compiled, joins, on_gpu)
    loops: list[FusedNode] = []
    apart: bytes | None = None
    if len(nodes) > MANY_NODES:
        regions = Regions(nodes, *given)
        small = SmallNodes(regions, fetched, WORTH_SECONDS)
        if len(small.may_pay):
            nodes = _with_trees(nodes, Fuser(regions, compiled, joins), small, loops)
        apart = small.is_apart
    if apart is None or not small.are_all_apart:
        again, left = recomputed(Regions(nodes, *given), fetched) if apart is None else ({}, nodes)
        fuser = _fuser(Regions(left, *given, again), making, apart, fetched)
        if not all(fuser.regions.region(node) in fuser.made for node in again):
            again, left = {}, nodes
            fuser = _fuser(Regions(nodes, *given), making, apart, fetched)
        if on_gpu and not fuser.spare(fetched):
            fuser = _fuser(Regions(left, *given, again), making, apart, fetched)
        if fuser.made:
            loops += fuser.made.values()
            nodes = _with_pools(Order(fuser, fetched).nodes(), fuser, fetched, loops)
    if not loops:
        return list(nodes), []
    count = sum(len(loop.op.members) - (loop.op.conv is not None) for loop in loops)
    return list(nodes), [f"fuse: {count} nodes become {len(loops)} compiled loop{'s' * (len(loops) > 1)}"]


def _fuser(regions: Regions, making: tuple[Compiled, bool, bool], apart: bytes | None, fetched: Collection[Tensor | Node]) -> Fuser:
    """The regions of some nodes as loops."""
    regions.grow(apart)
    fuser = Fuser(regions, *making)
    fuser.settle(fetched)
    return fuser


def _with_trees(nodes: Sequence[Node], fuser: Fuser, small: SmallNodes, loops: list[FusedNode]) -> Sequence[Node]:
    """``nodes`` with a loop in the place of the last node of each tree that pays. Adds these to ``loops``."""
    made = fuser.of_trees(small)
    if not made:
        return nodes
    loops += made.values()
    gone = {member for loop in loops for member in loop.op.members}.difference(made)
    return [made.get(node, node) for node in nodes if node not in gone]


def _with_pools(nodes: Sequence[Node], fuser: Fuser, fetched: Collection[Tensor | Node], loops: list[FusedNode]) -> Sequence[Node]:
    """``nodes`` with poolings that alone read what a convolution gives become part of it. Changes ``loops``, too."""
    convs = {loop.outputs[0]: loop for loop in loops if loop.op.conv is not None}
    if not convs:
        return nodes
    readers: dict[Tensor, list[Node | None]] = {}
    for node in nodes:
        for tensor in map(fuser.resolved, node.inputs):
            readers.setdefault(tensor, []).append(node)
    for item in fetched:
        for tensor in (item,) if isinstance(item, Tensor) else item.outputs:
            readers.setdefault(fuser.resolved(tensor), []).append(None)
    made: dict[Node, Node | None] = {}
    for tensor, conv in convs.items():
        found = readers.get(tensor, ())
        pool = found[0] if len(found) == 1 else None
        both = fuser.pooled(conv, pool) if pool is not None else None
        if pool is not None and both is not None:
            made |= {conv: None, pool: both}
            loops[loops.index(conv)] = both
    return [other for node in nodes if (other := made.get(node, node)) is not None]


class Fused(Op):
    """The op of a fused node.

    members   the nodes that it stands for
    loop      what is computed
    conv      a convolution whose kernel has the loop as its epilogue, and then replaces it; it may pool what that gives
    sources   what it reads, in the order of the loop's operands; ``results``: what it gives, in the order of the loop's results
    seconds   estimated
    """

    vjp = None
    takes_out = True

    def __init__(
        self,
        region: Region,
        loop: Loop,
        conv: Joined | None,
        sources: Sequence[Source],
        results: Sequence[Made],
        seconds: float,
        compiled: Compiled,
    ) -> None:
        described = loop if conv is None else conv.kernel
        self.members, self.length = (*([] if conv is None else [conv.node]), *region.own), region.shape[0]
        self.loop, self.conv, self.sources, self.results, self.seconds = loop, conv, tuple(sources), tuple(results), seconds
        self.described = described
        self._kernel, self._arity = compiled(described), len(described.operands)
        self.in_place = described.works_in_place
        self.name = _name_of(self.members)

    def again(self, members: Sequence[Node], sources: Sequence[Source], results: Sequence[Made]) -> Fused:
        """The op of other nodes, for which the same loop serves."""
        fused = copy(self)
        fused.members, fused.sources, fused.results = tuple(members), tuple(sources), tuple(results)
        return fused

    def with_pool(self, pool: Node, kernel: Any, spec: Any, seconds: float, compiled: Compiled) -> Fused:
        """The op that pools what this one gives, which makes ``spec`` of it."""
        fused = copy(self)
        fused.members, fused.results = (*self.members, pool), (Made(pool.outputs[0], spec, frozenset(), False),)
        fused.described, fused._kernel = kernel, compiled(kernel)
        fused.seconds, fused.name = self.seconds + seconds, _name_of(fused.members)
        return fused

    @property
    def parameters(self) -> list[str]:
        return [f"x{i}" for i in range(self._arity)]

    def infer(self, *inputs: Any, **attrs: Any) -> Any:
        return self.results[-1].spec

    def bind(self, xp: Any, attrs: dict[str, Any]) -> Callable[..., Any]:
        if xp is not np:
            return for_gpu(GpuKernel(self.loop, xp), self.results[-1].spec)
        kernel = self._kernel
        spec = self.results[-1].spec
        shape, dtype = spec.shape, spec.dtype

        def call(*arrays: Any, out: Any = None) -> Any:
            return kernel(*arrays, xp.empty(shape, dtype) if out is None else out)

        def number(*arrays: Any, out: Any = None) -> Any:
            return kernel(*arrays, xp.empty(shape, dtype))[()] if out is None else kernel(*arrays, out)

        return call if shape else number

    def work(self, *inputs: Any, **attrs: Any) -> Work:
        seconds = self.seconds if self.conv is None else self.seconds + estimated_seconds(self.conv.node, inputs[:2])
        return Work(bytes=seconds * BYTES_PER_SECOND)

    def slicing(self, out: Any, *inputs: Any, **attrs: Any) -> Slicing | None:
        if not self.loop.counted[1] or any(0 in source.axes and not source.is_cut for source in self.sources):
            return None
        cut = tuple(source.is_cut for source in self.sources)
        if self.conv is not None:
            cut = True, False, *(source.is_cut for source in self.conv.sources)
        return Slicing(cut, self.length, "sum" if self.results[-1].is_total else "concat")


def _name_of(members: Sequence[Node]) -> str:
    names = list(dict.fromkeys(node.op.name for node in members))
    return "_".join(names[:4]) + (f"_and_{len(names) - 4}_more" if len(names) > 4 else "")


def for_gpu(kernel: GpuKernel | GpuTogether, spec: Spec) -> Callable[..., Any]:
    """The same on a GPU; ``build`` compiles it, whose source is ``text``."""
    shape, dtype, empty = spec.shape, spec.dtype, kernel.empty

    def call(*arrays: Any, out: Any = None) -> Any:
        return kernel(*arrays, empty(shape, dtype) if out is None else out)

    call.build, call.text = kernel.build, kernel.cuda.text  # type: ignore[attr-defined]
    return call


class FusedNode(Node):
    """A node of a plan that stands for several of the graph; it is in no graph itself. Its output is the last result of its loop."""

    __slots__ = ()
    op: Fused

    @property
    def name(self) -> str:
        return self.outputs[0].node.name


class Source(Record):
    """What a region reads.

    axes       for each axis of the tensor the axis of the domain that it runs along; None where its size is 1, or a product runs along it
    is_cut     whether a slice of the domain reads a slice of it
    window     where another element is read than the domain's own
    across     of the matrix or vector of such products: how many numbers a row has
    """

    tensor: Tensor
    spec: Spec
    axes: tuple[int | None, ...]
    strided: bool
    window: Window | None = None
    across: int = 0

    @property
    def is_cut(self) -> bool:
        return bool(self.axes) and self.axes[0] == 0 and self.window is None


class Made(Record):
    """What a region gives: a tensor, and the axes of the domain that it sums over (none for what has an entry for each element or row)."""

    tensor: Tensor
    spec: Spec
    summed: frozenset[int]
    is_row: bool

    @property
    def is_total(self) -> bool:
        return bool(self.summed)


class Fuser:
    """Makes fused nodes of regions. ``made``: region -> its node; the other regions fall apart."""

    def __init__(self, regions: Regions, compiled: Compiled, joins: bool, on_gpu: bool = False) -> None:
        self.regions, self.compiled, self.joins, self.on_gpu = regions, compiled, joins, on_gpu
        self.found, self.fed, self.spec, self.resolved = regions.found, regions.fed, regions.spec, regions.resolved
        self.made: dict[Region, FusedNode] = {}
        self.views: set[Node] = set()  # members that are run by themselves, too, as others read them
        self.products: dict[Node, RowsTimes] = {}  # members that are products of rows
        self.readers: dict[Tensor, set[Region | None]] = {}

    def _all_readers(self, fetched: Collection[Tensor | Node], with_twins: bool = True) -> dict[Tensor, set[Region | None]]:
        """For each tensor the regions that read it; None stands for a node outside, or the caller.

        with_twins  whether a node that repeats another counts as one outside, too
        """
        readers: dict[Tensor, set[Region | None]] = {}
        for node in self.regions.nodes:
            out = node.outputs[0] if node.outputs else None
            if out in self.found.same:
                if with_twins:
                    readers.setdefault(self.found.same[out], set()).add(None)
                continue
            if out in self.found.values or out in self.fed:
                continue
            region = self.regions.region(node)
            for tensor in self.regions.read(node, list(map(self.resolved, node.inputs))):
                readers.setdefault(tensor, set()).add(region)
        for item in fetched:
            for tensor in (item,) if isinstance(item, Tensor) else item.outputs:
                readers.setdefault(self.resolved(tensor), set()).add(None)
        return readers

    def settle(self, fetched: Collection[Tensor | Node]) -> None:
        """Decides which regions become loops, and makes these; the others fall apart."""
        self.readers = self._all_readers(fetched)
        for region in self.regions.all() if self.joins else ():
            self.products.update(taken_in(region, self.regions, lambda tensor, region=region: self._is_lone(tensor, region)))  # type: ignore[misc]
        if self.products:
            self.readers = self._all_readers(fetched)
        self._put_off()
        for region in self.regions.all():
            node = self._attempt(self._fused, region)
            if node is None:
                if self.found.why is not None:
                    for member in region.members:
                        self.found.why.setdefault(member, "what it computes with others cannot be one loop")
                self.regions.drop(region)
            else:
                self.made[region] = node

    def spare(self, fetched: Collection[Tensor | Node]) -> bool:
        """Lets loops compute again what they would read of each other (see `spared`); whether all that have changed could be made."""
        self.readers = self._all_readers(fetched, with_twins=False)
        for region in spare(self.regions, list(self.made), self.readers):
            if not any(self._is_read_outside(node, region) for node in region.own):
                del self.made[region]
                continue
            node = self._attempt(self._fused, region, True)
            if node is None:
                return False
            self.made[region] = node
        return True

    def _put_off(self) -> None:
        """Moves what a region makes of one of its other results, for a single region behind it, to that: an array less is written."""
        regions = self.regions
        whole = {id(tensor) for product in self.products.values() for tensor in product}
        for out in [out for out, readers in self.readers.items() if len(readers) == 1]:
            node = regions.maker(out)
            region, (reader,) = regions.region(node), map(find, self.readers[out])
            if region is None or reader is None or reader is region or region.shape != reader.shape or region.kinds.get(out) != "element":
                continue
            if node.op.scalar is None or node.op.along_row or node in regions.again or id(out) in whole or regions.is_view(node):
                continue
            inputs = [tensor for tensor in map(self.resolved, node.inputs) if regions.constant_of(tensor) is None]
            if len(inputs) != 1 or region.kinds.get(inputs[0]) != "element" or not self._is_read_outside(inputs[0].node, region):
                continue
            if not agree(node._context.device, reader.request) or not regions.reads_beside(reader, out):
                continue
            regions.move(node, region, reader)
            self.readers.setdefault(inputs[0], set()).add(reader)

    def of_trees(self, small: SmallNodes) -> dict[Node, FusedNode]:
        """Loops of the trees that pay, by the last node of each. Those that compute the same share one."""
        made: dict[Node, FusedNode] = {}
        total = len(small.may_pay)
        for look in (small.sample, small.candidates):
            candidates = look()
            share = len(candidates.nodes) / total
            trees = Trees(candidates, self.regions)
            groups = list(trees.alike(WORTH_SECONDS, WORTH_TOGETHER))
            saved = sum([tree.saved for group in groups for tree, _ in group])
            if saved < WORTH_SHARE * CALL_SECONDS * len(self.regions.nodes) * share:
                return made
            if share == 1:
                break
        for group in groups:
            if self.found.allows is not None and not self.found.allows("fuse", trees.nodes(group[0][0])[-1]):
                continue
            first = self._attempt(self._op_of_tree, group[0][0].shape, trees.nodes(group[0][0]), group[0][1])
            if first is None:
                continue
            for tree, streams in group:
                nodes = trees.nodes(tree)
                op = first.again(nodes, [self._beside(tensor, len(tree.shape)) for tensor in streams], [self._element(nodes[-1])])
                made[nodes[-1]] = fused_node(op, nodes[-1].id, streams, None)
        return made

    def _op_of_tree(self, shape: Any, nodes: list[Node], streams: Sequence[Tensor]) -> Fused:
        sources = [self._beside(tensor, len(shape)) for tensor in streams]
        region = Region(shape, 0, members=nodes, kinds={node.outputs[0]: "element" for node in nodes})
        numbers = {tensor: number for number, tensor in enumerate(streams)}
        inputs = {(node, position): self.resolved(tensor) for node in nodes for position, tensor in enumerate(node.inputs)}
        reads = {place: numbers[tensor] for place, tensor in inputs.items() if tensor in numbers}
        results = [self._element(nodes[-1])]
        loop = self._loop(region, nodes, results, sources, reads)
        return Fused(region, loop, None, sources, results, _seconds(region, loop, sources, results), self.compiled)

    def _element(self, node: Node) -> Made:
        """The result of a node that has an entry for each element."""
        spec = self.spec(node.outputs[0])
        return Made(node.outputs[0], Spec(spec.shape, spec.dtype), frozenset(), False)

    def _beside(self, tensor: Tensor, rank: int) -> Source:
        """An array whose axes are the last of the domain's."""
        spec = self.spec(tensor)
        axes = tuple([axis if size != 1 else None for axis, size in enumerate(spec.shape, rank - len(spec.shape))])
        return Source(tensor, Spec(spec.shape, spec.dtype), axes, rank == 2 and self._is_strided(tensor, axes))

    def _is_strided(self, tensor: Tensor, axes: tuple[int | None, ...]) -> bool:
        """Whether it may be a part of the columns of a larger array."""
        return axes == (0, 1) and tensor.node.op.name in PARTS and tensor not in self.fed

    def _attempt(self, make: Callable[..., T | None], *given: Any) -> T | None:
        """What ``make`` makes; None where no loop can be made, or compiled."""
        try:
            return make(*given)
        except Unfusable:
            return None
        except RuntimeError as error:
            warnings.warn(
                f"a loop could not be compiled, and NumPy's kernels serve instead: {first_line(error)}", RuntimeWarning, stacklevel=2
            )
            return None

    def _fused(self, region: Region, is_settled: bool = False) -> FusedNode | None:
        plain = sum(estimated_seconds(node, [self.spec(t) for t in node.inputs]) for node in region.own)
        is_settled = is_settled or (self.on_gpu and sum(not self.regions.is_view(node) for node in region.own) > 1)
        if plain - CALL_SECONDS < WORTH_SECONDS and not is_settled:
            self._note(region, plain)
            return None  # whatever the loop would be
        members = [node for node in region.members if not self.regions.is_view(node)]
        for node in reversed(region.own):
            if node not in members and self._is_read_outside(node, region):
                # A view that others read, too, is made for them as ever, of what the loop gives.
                self.readers.setdefault(self.resolved(node.inputs[0]), set()).add(None)
                self.views.add(node)
        own = [node for node in members if node not in region.borrowed]
        results = [self._result(node, region) for node in own if self._is_read_outside(node, region)]
        if not results:
            return None
        results.sort(key=lambda made: (not made.is_total, not made.is_row))
        sources, reads = self._sources(region, members)
        loop = self._loop(region, members, results, sources, reads)
        seconds = _seconds(region, loop, sources, results)
        if plain - seconds < WORTH_SECONDS and not is_settled:
            self._note(region, plain, seconds)
            return None
        if self.found.allows is not None and not self.found.allows("fuse", results[-1].tensor.node):
            return None
        conv = None
        if self.joins:
            conv = joined(region, loop, sources, results, self.spec, lambda tensor: self._is_lone(tensor, region))
        op = Fused(region, loop, conv, sources, results, seconds, self.compiled)
        if conv is None:
            inputs = [source.tensor for source in sources]
        else:
            inputs = [*map(self.resolved, conv.node.inputs), *[source.tensor for source in conv.sources]]
        number = next(member.id for member in reversed(region.own) if member not in self.views)
        return fused_node(op, number, inputs, region.request or (None if conv is None else conv.node._context.device))

    def pooled(self, conv: FusedNode, pool: Node) -> FusedNode | None:
        """A convolution with ``pool``, which alone reads it, as a part of its kernel; None where that cannot be."""
        out, spec, regions = pool.outputs[0], self.spec(conv.outputs[0]), self.regions
        is_known_before = out in self.fed or out in self.found.same or out in self.found.values
        if is_known_before or pool in regions.ordered or pool._context.control or not agree(pool._context.device, conv._context.device):
            return None
        if conv.op.conv is None or (self.found.allows is not None and not self.found.allows("fuse", pool)):
            return None
        kernel = pooled(conv.op.conv.kernel, spec, pool)
        if kernel is None:
            return None
        made, seconds = self.spec(out), estimated_seconds(pool, [spec])
        op = self._attempt(conv.op.with_pool, pool, kernel, Spec(made.shape, made.dtype), seconds, self.compiled)
        return None if op is None else fused_node(op, pool.id, conv.inputs, pool._context.device or conv._context.device)

    def _note(self, region: Region, plain: float, loop: float | None = None) -> None:
        """Notes why a region is no loop: what its nodes take one by one, and what the loop would."""
        if self.found.why is None:
            return
        others = len(region.members) - 1
        whole = f"with {others} other{'s' * (others > 1)} it takes" if others else "alone it takes"
        would = "" if loop is None else f", a loop would take {format_seconds(loop)}"
        why = f"{whole} {format_seconds(plain)}{would}, and a loop has to save {format_seconds(WORTH_SECONDS)}"
        self.found.why.update(dict.fromkeys(region.members, why))

    def _is_read_outside(self, node: Node, region: Region) -> bool:
        return any(find(reader) is not region for reader in self.readers.get(node.outputs[0], ()))

    def _is_lone(self, tensor: Tensor, region: Region) -> bool:
        """Whether a tensor is computed in the run, for this region alone."""
        is_known_before = tensor in self.fed or tensor in self.found.values or tensor.node in self.regions.ordered
        return not is_known_before and [find(reader) for reader in self.readers.get(tensor, ())] == [region]

    def _result(self, node: Node, region: Region) -> Made:
        out, rank = node.outputs[0], len(region.shape)
        spec, kind = self.spec(out), region.kinds[out]
        summed: tuple[int, ...] = ()
        if node in self.products:
            summed = (0,)
        elif kind == "total":
            x = self.resolved(node.inputs[0])
            summed = self.regions.summed(node, self.spec(x).shape)
            if region.kinds.get(x) == "row":
                summed = (*summed, *range(rank - region.row, rank))
        return Made(out, Spec(spec.shape, spec.dtype), frozenset(summed), kind == "row")

    # --- the loop

    def _loop(
        self,
        region: Region,
        members: Sequence[Node],
        made: Sequence[Made],
        sources: Sequence[Source],
        reads: Mapping[tuple[Node, int], int],
    ) -> Loop:
        """The region's loop, over as few dimensions as its operands allow.

        sources, reads  see `_sources`
        """
        rank = len(region.shape)
        flags = [tuple([axis in source.axes for axis in range(rank)]) for source in sources]
        totals = [tuple([axis in result.summed for axis in range(rank)]) for result in made if result.is_total]
        groups = _groups(region, [*flags, *totals], any(source.strided or source.window for source in sources))
        dims = tuple([math.prod(region.shape[a] for a in group) for group in groups])
        varies = [tuple([flag[group[0]] for group in groups]) for flag in flags]
        operands = tuple([Operand(s.spec.dtype, v, s.strided, s.window, s.across) for s, v in zip(sources, varies)])
        s, last = Scalars(), groups[-1][0]
        loads = [s.load(i, source.spec.dtype, is_row=not flag[last]) for i, (source, flag) in enumerate(zip(sources, flags))]
        values = self._values(s, region, members, reads, loads)
        results = []
        for result in made:
            value = values[result.tensor]
            summed = tuple([group[0] in result.summed for group in groups])
            if value.is_row and not (result.is_row or (result.is_total and summed[-1])):
                raise Unfusable("what is the same all along a row is computed once for it, not for each element")
            weighs = reads[result.tensor.node, 0] if result.tensor.node in self.products and result.is_total else None
            if weighs is not None and value.is_row:
                raise Unfusable("rows that are all weighed alike are only summed")
            results.append(Result(value, summed, self._divisor(result), weighs))
        return Loop(dims, _counted(region, dims, sources, made), operands, tuple(results))

    def _divisor(self, made: Made) -> int:
        """What the sum is divided by where it stands for a mean."""
        node = made.tensor.node
        if not made.is_total or node.op.fold != "mean":
            return 1
        return math.prod(self.spec(node.inputs[0]).shape[a] for a in node.attrs["axis"])

    def _sources(self, region: Region, members: Sequence[Node]) -> tuple[list[Source], dict[tuple[Node, int], int]]:
        """What ``members`` read from outside, and which of it each input is. Numbers that are known become part of the loop."""
        sources: list[Source] = []
        numbers: dict[Any, int] = {}
        reads: dict[tuple[Node, int], int] = {}
        for node in members:
            if node in self.regions.again:
                for position, (tensor, window) in enumerate(self.regions.again[node].reads):
                    source = Source(tensor, self.spec(tensor), tuple(range(len(region.shape))), False, window)
                    reads[node, position] = _numbered(self._windowed(source, region), sources, numbers)
                continue
            product = self.products.get(node)
            for position, tensor in enumerate(product or map(self.resolved, node.inputs)):
                value = self.found.values.get(tensor)
                if tensor in region.kinds or position in node.op.shape_inputs or (value is not None and value.size == 1):
                    continue
                placed = self.regions.placed(node, position)
                if product is not None:
                    source = self._met(tensor, self.spec(product.matrix).shape[1], is_matrix=position == 0)
                elif placed is None:
                    source = self._seen_through(tensor, self._axes(node, tensor, region), len(region.shape))
                else:
                    source = Source(tensor, self.spec(tensor), tuple(range(len(region.shape))), False, placed)
                if product is None:
                    source = self._windowed(source, region)
                reads[node, position] = _numbered(source, sources, numbers)
        return sources, reads

    def _met(self, tensor: Tensor, across: int, *, is_matrix: bool) -> Source:
        """The matrix of a product of rows, or its vector."""
        spec = self.spec(tensor)
        axes = tuple([0 if is_matrix and axis == 0 else None for axis in range(len(spec.shape))])
        return Source(tensor, Spec(spec.shape, spec.dtype), axes, False, across=across)

    def _values(
        self, s: Scalars, region: Region, members: Sequence[Node], reads: Mapping[tuple[Node, int], int], loads: Sequence[Value]
    ) -> dict[Tensor, Value]:
        values: dict[Tensor, Value] = {}
        for node in region.members:
            out = node.outputs[0]
            if node not in members:
                values[out] = values[self.resolved(node.inputs[0])]
                continue
            if node in self.regions.again:
                read = self.regions.again[node].reads
                values[out] = self.regions.again[node].value(s, self.regions, [loads[reads[node, i]] for i in range(len(read))])
                continue
            if node in self.products:
                other = self.products[node].other
                product = values.get(other)
                values[out] = product or s.row_product(reads[node, 0], reads[node, 1], self.spec(out).dtype)
                continue
            inputs = []
            for position, tensor in enumerate(map(self.resolved, node.inputs)):
                if tensor in values:
                    inputs.append(values[tensor])
                elif (node, position) in reads:
                    inputs.append(loads[reads[node, position]])
                elif position not in node.op.shape_inputs:
                    constant = self.regions.constant(s, tensor)
                    assert constant is not None
                    inputs.append(constant)
            if region.kinds[out] == "total" or node.op.name == "scatter":
                values[out] = inputs[0]
            elif node.op.name == "add_at":
                values[out] = inputs[0] + inputs[1]
            elif node.op.fold is not None or node.op.name == "sum_like":
                x = self.spec(node.inputs[0])
                fold = node.op.fold or "sum"
                if fold == "mean":
                    values[out] = s.sum(inputs[0]) / float(math.prod(x.shape[a] for a in node.attrs["axis"]))
                else:
                    values[out] = getattr(s, fold)(inputs[0])
            else:
                values[out] = self.regions.value(s, node, inputs)
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
            is_view = node.op.name in VIEWS or node.op.name in REPEATS
            if not is_view or tensor in self.fed or tensor in self.found.values or self.regions.region(node) is not None:
                break
            source = self.resolved(node.inputs[0])
            shape, out = self.spec(source).shape, self.spec(tensor).shape
            if not is_known(shape) or not only_ones(node, shape, out):
                break
            if node.op.name in REPEATS:
                extra = len(out) - len(shape)
                where = [where[extra + a] if size != 1 else None for a, size in enumerate(shape)]
            else:
                left = iter([w for w, size in zip(where, out, strict=True) if size != 1])
                where = [next(left) if size != 1 else None for size in shape]
            tensor = source
        spec = self.spec(tensor)
        return Source(tensor, Spec(spec.shape, spec.dtype), tuple(where), rank == 2 and self._is_strided(tensor, tuple(where)))

    def _windowed(self, source: Source, region: Region) -> Source:
        """The array behind slices and rims, and where of it the region reads; ``source`` itself where it has all elements side by side."""
        domain, tensor = region.shape, source.tensor
        if not self.regions.may_have_windows(domain) or (source.window is None and source.spec.shape != domain):
            return source
        is_needed = source.window is not None
        window = source.window or whole(domain)
        while not (tensor in self.fed or tensor in self.found.values or self.regions.region(tensor.node) is not None):
            inner = self.resolved(tensor.node.inputs[0]) if tensor.node.op.name in ("getitem", "pad") else None
            shape = self.spec(inner).shape if inner is not None else ()
            further = through(tensor.node, window, shape, domain) if is_known(shape) and len(shape) == len(domain) else None
            if further is None or inner is None or 0 in shape:
                break
            is_needed |= tensor.node.op.name == "pad" or len(domain) > 2
            tensor, window = inner, further
        if not is_needed:
            return source
        spec = self.spec(tensor)
        return Source(tensor, Spec(spec.shape, spec.dtype), tuple(range(len(domain))), False, window)


def _numbered(source: Source, sources: list[Source], numbers: dict[Any, int]) -> int:
    """The number of a source among all, to which it is added where it is new."""
    key = (source.tensor, source.axes, source.window and repr(source.window))  # (0.0 and -0.0 are equal)
    if key not in numbers:
        numbers[key] = len(sources)
        sources.append(source)
    return numbers[key]


def fused_node(op: Fused, number: int, inputs: Sequence[Tensor], request: str | None) -> FusedNode:
    """The node of a loop: by name, line and context that of its last result; ``number`` is its id."""
    label = op.results[-1].tensor.node
    node = FusedNode()
    node.op, node.id, node.graph, node.attrs = op, number, label.graph, {}
    node.inputs, node.outputs = tuple(inputs), (op.results[-1].tensor,)
    node._context, node._label, node._code, node._offset = label._context, label._label, label._code, label._offset
    if request != label._context.device:
        node._context = label._context.replace(device=request)
    return node


def _seconds(region: Region, loop: Loop, sources: Sequence[Source], results: Sequence[Made]) -> float:
    """What the loop is expected to take."""
    nbytes = sum({source.tensor: source.spec.nbytes for source in sources}.values()) + sum(made.spec.nbytes for made in results)
    values = in_order([result.value for result in loop.results])
    # (A constant stays in a register, and a scale takes the place of those that are its last input.)
    primitives = sum(value.kind not in ("constant", "scale") for value in values)
    primitives += sum(source.across for source in sources)
    arithmetic = math.prod(region.shape) * primitives * PRIMITIVE_SECONDS
    return CALL_SECONDS + RESULT_SECONDS * (len(results) - 1) + arithmetic + nbytes / LOOP_BYTES_PER_SECOND


def _groups(region: Region, flags: Sequence[tuple[bool, ...]], apart: bool) -> list[list[int]]:
    """The domain's axes, those together that all arrays run along alike; all by themselves where rows may lie ``apart``."""
    rank = len(region.shape)
    groups = [[0]]
    for axis in range(1, rank):
        alike = all(flag[axis] == flag[axis - 1] or region.shape[axis] == 1 for flag in flags)
        at_row = bool(region.row) and axis == rank - region.row
        if alike and not at_row and not apart:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    if region.row and groups[-1][0] != rank - region.row:
        raise Unfusable("arrays differ within the axes of a row")
    return groups


def _counted(region: Region, dims: Sequence[int], sources: Sequence[Source], made: Sequence[Made]) -> tuple[int, int]:
    """See `Loop.counted`."""
    factor = dims[0] // region.shape[0] if region.shape[0] else 1
    for i, source in enumerate(sources):
        if source.is_cut:
            return i, factor
    for i, result in enumerate(made):
        if not result.is_total:
            return len(sources) + i, factor
    raise Unfusable("nothing tells a call how long the first dimension is")


class Order:
    """The nodes to run, regions in place of their members, each behind what it reads; without what nothing reads any more."""

    def __init__(self, fuser: Fuser, fetched: Collection[Tensor | Node]) -> None:
        self.fuser, self.regions, self.fetched = fuser, fuser.regions, fetched
        self.present = set(self.regions.nodes)
        # A member of a region -> the node of the plan that computes it.
        self.loops = {member: loop for region, loop in fuser.made.items() for member in region.own if member not in fuser.views}
        self.befores: dict[Node, list[Node]] = {}  # node of the plan -> those that must have run before it

    def nodes(self) -> list[Node]:
        result: list[Node] = []
        done: set[Node] = set()
        placed = self.loops.get
        self._find_befores()
        last = {placed(node, node): node for node in self.regions.nodes}
        for member in self.regions.nodes:
            node = placed(member, member)
            if last[node] is not member or node not in self.befores or node in done:
                continue
            if done.issuperset(self.befores[node]):  # as nearly always
                done.add(node)
                result.append(node)
                continue
            stack = [(node, iter(self.befores[node]))]
            while stack:
                current, befores = stack[-1]
                before = next((before for before in befores if before not in done), None)
                if before is not None:
                    stack.append((before, iter(self.befores[before])))
                    continue
                stack.pop()
                if current not in done:
                    done.add(current)
                    result.append(current)
        return result

    def _find_befores(self) -> None:
        """Fills `befores` with what the fetches lead to: a view that regions see through may have lost all readers."""
        starts = [self.regions.maker(item) if isinstance(item, Tensor) else item for item in self.fetched]
        stack = [self.loops.get(node, node) for node in starts if node in self.present]
        while stack:
            node = stack.pop()
            if node not in self.befores:
                self.befores[node] = befores = self._befores(node)
                stack += befores

    def _befores(self, node: Node) -> list[Node]:
        regions, loops, present, told = self.regions, self.loops, self.present, node.op.shape_inputs
        makers: list[Node] = []
        if not isinstance(node, FusedNode):
            out = node.outputs[0] if node.outputs else None
            if out in regions.found.same:
                maker = regions.maker(regions.found.same[out])
                return [loops.get(maker, maker)]
            if out in regions.found.values or out in regions.fed:
                return []
            makers += node._context.control
        for position, tensor in enumerate(node.inputs):
            maker = regions.maker(tensor)  # (a node that stands in for another is a node of the plan, too)
            if maker in present and not (told and position in told and is_known(regions.spec(tensor).shape)):
                makers.append(maker)
        return [loops.get(maker, maker) for maker in makers]
