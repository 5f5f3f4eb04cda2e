"""Trees: small arrays in a large graph become one loop where each result but the last has a single reader, as in a chain.

A call of a kernel takes longer than its arithmetic on a small array, and so does handing out a result. So a loop pays where many nodes
become one that has one result. Such nodes are a tree. No path leads out of it and back, so none has to be looked for, and the loop can
stand where its last node does. Which nodes may be part of a tree that pays is found from columns; few graphs have many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..graph import Node, Spec, Tensor
from ..graph.op import Op
from ..graph.spec import is_known
from .columns import Columns, Numbers, columns_of, distinct, ids_of
from .cost import CALL_SECONDS, estimated_seconds
from .kinds import frozen
from .regions import PARTS, REPEATS, STREAMS, VIEWS, Regions
from .windows import PLACING

T = TypeVar("T")

# Graphs of more nodes are large; in those, arrays of fewer elements are small, and only trees are made of them.
MANY_NODES, SMALL_SIZE = 500, 1024
# Nodes of a tree. Most short periods divide it: a chain whose pattern repeats becomes loops that are the same, and one is compiled.
MEMBERS = 180
# Where there are more nodes that may be in a tree, so many of them, in windows spread over the graph, say whether to look at all.
WINDOWS, WINDOW = 3, 512


class Candidates(NamedTuple):
    """Nodes that may be in a tree that pays, in their order.

    nodes  their ids
    kinds  for each a number, equal for nodes of equal op and equal inputs' specs; -1 where there is more to know of it
    reads  for each, where there is no more to know: the ids of the nodes that it reads, one or two
    are_single  for each whether one node alone reads the output, and no fetch
    """

    nodes: list[int]
    kinds: list[int]
    reads: list[tuple[int, ...]]
    are_single: list[bool]


class SmallNodes:
    """The nodes of a large graph that no region has: those of small arrays, where none is linked to one of a large array.

    Two nodes are linked where the one alone reads what the other makes.

    is_apart   for each id of a node whether it is one of them, or could be in no loop; ``are_all_apart``: whether all are
    may_pay    the ids of those that may be in a tree that saves ``worth`` seconds, in their order
    """

    def __init__(self, regions: Regions, fetched: Collection[Tensor | Node], worth: float) -> None:
        graph = regions.nodes[0].graph
        columns = columns_of(graph)
        is_run = _are_run(regions, columns.count)
        specs, codes = _specs(regions, columns)
        readers, makers = _edges(regions, columns, is_run)
        reads = np.bincount(makers, minlength=columns.count)
        for item in fetched:
            for tensor in (item,) if isinstance(item, Tensor) else item.outputs:
                reads[regions.resolved(tensor).node.id] += 1

        table = list(columns.table)
        may_join = np.array([_may_join(op) for op in table])[columns.ops] & is_run
        may_join[[node.id for node in regions.ordered]] = False
        makes_small = np.array([*map(_is_small, specs), False])[codes]  # (the last for nodes without output, whose code is -1)
        is_large = ~makes_small
        is_large[readers[is_large[makers]]] = True
        is_link = (reads[makers] == 1) & may_join[makers] & may_join[readers]
        top = _tops(readers[is_link], makers[is_link], columns.count)
        leads_to_large = np.zeros(columns.count, bool)
        leads_to_large[top[may_join & is_large]] = True
        is_apart = ~may_join | ~leads_to_large[top]
        self.is_apart, self.are_all_apart = is_apart.tobytes(), bool(is_apart.all())

        is_element = np.array([op.scalar is not None and not op.along_row for op in table])[columns.ops]
        found = np.flatnonzero(is_element & may_join & is_apart)
        examples, numbers = distinct(columns.ops[found].astype(np.int64) * len(specs) + codes[found])
        kinds = [graph.nodes[found[i]] for i in examples.tolist()]
        seconds = np.array([estimated_seconds(node, list(map(regions.spec, node.inputs))) for node in kinds])[numbers]
        pays = np.bincount(top[found], seconds, minlength=columns.count) - CALL_SECONDS >= worth
        self.may_pay = found[pays[top[found]]]
        self._regions, self._columns, self._codes, self._is_single = regions, columns, codes, reads == 1

    def candidates(self) -> Candidates:
        """All of `may_pay`."""
        return self._told(self.may_pay)

    def sample(self) -> Candidates:
        """Some of them: all where they are few."""
        ids, behind = self.may_pay, len(self.may_pay) - WINDOW
        if behind <= WINDOW * (WINDOWS - 1):
            return self.candidates()
        starts = [behind * k // (WINDOWS - 1) for k in range(WINDOWS)]
        return self._told(np.concatenate([ids[start : start + WINDOW] for start in starts]))

    def _told(self, ids: Numbers) -> Candidates:
        regions, columns, codes = self._regions, self._columns, self._codes
        starts, two = columns.starts[ids], columns.counts[ids] == 2
        makers = columns.makers[np.array([starts, np.where(two, starts + 1, starts)])]
        is_value = np.zeros(columns.count, bool)
        is_value[[tensor.node.id for tensor in (*regions.found.values, *regions.found.same)]] = True
        first, second = codes[makers]
        count = codes.max() + 2
        numbers = (columns.ops[ids].astype(np.int64) * count + first) * count + np.where(two, second + 1, 0)
        kinds = np.where(columns.is_bare[ids] & ~is_value[makers].any(axis=0), numbers, -1)
        reads: list[tuple[int, ...]] = list(zip(*makers.tolist(), strict=True))
        for row in np.flatnonzero(~two).tolist():
            reads[row] = reads[row][:1]
        return Candidates(ids.tolist(), kinds.tolist(), reads, self._is_single[ids].tolist())


def _are_run(regions: Regions, count: int) -> Numbers:
    """For each id whether the plan runs the node."""
    found, nodes = regions.found, regions.nodes
    is_run = np.zeros(count, bool)
    is_run[ids_of(nodes)] = True
    given = [tensor.node for tensor in (*found.same, *found.values)] + [t.node for t in regions.fed if len(t.node.outputs) == 1]
    is_run[[node.id for node in given if node.id < count]] = False
    return is_run


def _specs(regions: Regions, columns: Columns) -> tuple[list[Any], Numbers]:
    """Specs, and for each id the number of that of the node's first output, -1 for none."""
    numbers, codes = dict(columns.shapes), columns.specs.astype(np.int64)
    for tensor, spec in regions.found.specs.items():
        if tensor.index == 0 and tensor.node.id < len(codes):
            codes[tensor.node.id] = numbers.setdefault((spec.shape, spec.dtype), len(numbers))
    return [Spec(*key) for key in numbers], codes


def _edges(regions: Regions, columns: Columns, is_run: Numbers) -> tuple[Numbers, Numbers]:
    """Readers and makers for the edges between nodes as simplified; one where a node reads another twice."""
    same = regions.found.same
    stands_in = np.arange(columns.count)
    stands_in[[tensor.node.id for tensor in same]] = [tensor.node.id for tensor in same.values()]
    readers, makers = columns.readers, stands_in[columns.makers]
    counts = is_run[readers]
    counts[1:] &= (readers[1:] != readers[:-1]) | (makers[1:] != makers[:-1])
    return readers[counts], makers[counts]


def _tops(readers: Numbers, makers: Numbers, count: int) -> Numbers:
    """For each id where the path ends that leads on from each of ``makers`` to its one reader."""
    top = np.arange(count)
    top[makers] = readers
    while not np.array_equal(top, further := top[top]):
        top = further
    return top


def _may_join(op: Op) -> bool:
    """Whether nodes of ``op`` may be part of a loop."""
    return bool(op.scalar is not None or op.fold is not None or op.name in (*PLACING, *VIEWS, *REPEATS, "sum_like"))


def _is_small(spec: Any) -> bool:
    return is_known(spec.shape) and math.prod(spec.shape) < SMALL_SIZE


class Tree:
    """Nodes of which each but the last, the top, is read by one other of them, and by nothing else.

    shape    of what each makes
    members  ids, in any order
    streams  what they read besides, as `Trees` numbers it; some of it may be there several times
    seconds  of the members' calls
    """

    __slots__ = ("members", "seconds", "shape", "streams")

    def __init__(self, shape: Any, node: int, streams: Iterable[int], seconds: float) -> None:
        self.shape, self.members, self.streams, self.seconds = shape, [node], [*streams], seconds

    def takes(self, node: int, streams: Sequence[int], seconds: float, others: Sequence[Tree] = ()) -> bool:
        """Takes in a node that reads ``streams`` besides, and ``others``, where the tree does not become too large."""
        members = len(self.members)
        for other in others:
            streams = [*streams, *other.streams]
            members += len(other.members)
        if members >= MEMBERS:
            return False
        if len(self.streams) + len(streams) > STREAMS:  # (lists, as most are short: sets took twice the time)
            joined = {*self.streams, *streams}
            if len(joined) > STREAMS:
                return False
            self.streams = sorted(joined)
        else:
            self.streams += streams
        for other in others:
            self.members += other.members
            self.seconds += other.seconds
            other.members = []
        self.members.append(node)
        self.seconds += seconds
        return True

    @property
    def saved(self) -> float:
        """Seconds of its nodes' calls, but for the one that takes their place."""
        return self.seconds - CALL_SECONDS


class Trees:
    """The trees of ``candidates``: ``all``.

    Tensors have numbers: the first output of a node that node's id, others numbers below 0.
    """

    def __init__(self, candidates: Candidates, regions: Regions) -> None:
        self._regions = regions
        self._nodes = regions.nodes[0].graph.nodes
        self._kinds: dict[Any, int] = {}  # what is known of a node and its inputs -> its number, -1 where it is in no tree
        self._kind: dict[int, int] = {}  # id of a node -> the number of its kind
        self._reads: dict[int, tuple[int, ...]] = {}  # and what it reads, but for constants that are one number
        self._facts: list[tuple[float, Any]] = []  # by the number of a kind: seconds, and the shape of what its nodes make
        self._others: list[Tensor] = []  # the tensors with numbers below 0
        self.all: list[Tree] = []
        tops: dict[int, Tree] = {}  # the trees whose top has a single reader, by the id of that
        known, facts, top_of = self._kinds.get, self._facts, tops.get
        for node, key, reads, is_single in zip(*candidates, strict=True):
            kind = known(key) if key >= 0 else None
            if kind is None:
                kind, reads = self._looked_at(self._nodes[node], key)
            if kind < 0:
                continue
            self._kind[node], self._reads[node] = kind, reads
            seconds, shape = facts[kind]
            tree = None
            for read in reads:
                if (below := top_of(read)) is not None and below.shape == shape:
                    tree = self._grown(node, reads, tops, shape, seconds)
                    break
            if tree is None:
                tree = Tree(shape, node, reads, seconds)
                self.all.append(tree)
            if is_single:
                tops[node] = tree
        self.all = [tree for tree in self.all if tree.members]

    def _grown(self, node: int, reads: tuple[int, ...], tops: Mapping[int, Tree], shape: Any, seconds: float) -> Tree | None:
        """A tree with its top among ``reads``, and the node in it, with the other such trees if possible; None where none takes it in."""
        below = [read for read in dict.fromkeys(reads) if read in tops and tops[read].shape == shape]
        if len(below) > 1:
            below.sort(key=lambda top: (-len(tops[top].members), top))
            first, *others = [tops[top] for top in below]
            if first.takes(node, [read for read in reads if read not in below], seconds, others):
                return first
        for top in below:
            if tops[top].takes(node, [read for read in reads if read != top], seconds):
                return tops[top]
        return None

    def _looked_at(self, node: Node, key: int) -> tuple[int, tuple[int, ...]]:
        """A number that nodes have in common that compute the same of inputs of the same specs, and what one reads; -1 for no tree."""
        regions, values = self._regions, self._regions.found.values
        inputs = list(map(regions.resolved, node.inputs))
        known = key if key >= 0 else self._key(node, inputs)
        kind = self._kinds.get(known)
        if kind is None:
            fits = len(node.outputs) == 1 and regions.may_join(node) and not node._context.device and regions.emits(node, inputs)
            kind = self._kinds[known] = len(self._facts) if fits else -1
            if fits:
                seconds = estimated_seconds(node, [regions.spec(t) for t in node.inputs])
                self._facts.append((seconds, regions.spec(node.outputs[0]).shape))
        return kind, tuple([self._number(tensor) for tensor in inputs if tensor not in values or values[tensor].size != 1])

    def _key(self, node: Node, inputs: Sequence[Tensor]) -> Any:
        context, values, spec = node._context, self._regions.found.values, self._regions.spec
        attributes = frozen(node.attrs)
        numbers = [values[t].tobytes() if t in values and values[t].size == 1 else None for t in inputs]
        specs = [(spec(t).shape, spec(t).dtype) for t in inputs]
        return node.op, node if attributes is None else attributes, bool(context.control), context.device, *specs, *numbers

    def _number(self, tensor: Tensor) -> int:
        if not tensor.index:
            return tensor.node.id
        if tensor not in self._others:
            self._others.append(tensor)
        return ~self._others.index(tensor)

    def _tensor(self, number: int) -> Tensor:
        return self._nodes[number].outputs[0] if number >= 0 else self._others[~number]

    def nodes(self, tree: Tree) -> list[Node]:
        """The members of a tree in the order of the graph."""
        return [self._nodes[member] for member in sorted(tree.members)]

    def alike(self, worth: float, together: float) -> Iterator[list[tuple[Tree, list[Tensor]]]]:
        """Trees whose loops are the same, each with its streams in the order in which they are first read.

        worth     seconds that each saves at least, as one call takes its place; ``together``: that all of them save
        """
        worth_it = [tree for tree in self.all if tree.saved >= worth]
        for similar in _by(worth_it, self._pattern):  # (which is soon told, and of most trees there is one)
            if sum([tree.saved for tree in similar]) >= together:
                for group in _by([(tree, *self._structure(tree)) for tree in similar], itemgetter(2)):
                    if sum([tree.saved for tree, *_ in group]) >= together:
                        yield [(tree, list(map(self._tensor, streams))) for tree, streams, _ in group]

    def _pattern(self, tree: Tree) -> Any:
        """Equal for trees of equal structure, if they have the same shape."""
        return tree.shape, *map(self._kind.__getitem__, sorted(tree.members))

    def _structure(self, tree: Tree) -> tuple[list[int], Any]:
        """The tree's streams in the order in which they are first read, and which of them and of its nodes each node reads."""
        members = sorted(tree.members)
        places = {member: place for place, member in enumerate(members)}
        streams: dict[int, int] = {}
        reads: list[Any] = []
        for member in members:
            reads += [places[each] if each in places else -1 - streams.setdefault(each, len(streams)) for each in self._reads[member]]
            reads.append(None)
        return list(streams), (*reads, *[self._tensor(stream).node.op.name in PARTS for stream in streams])


def _by(items: Sequence[T], key: Callable[[T], Any]) -> Iterable[list[T]]:
    """The items in groups of equal keys."""
    groups: dict[Any, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups.values()
