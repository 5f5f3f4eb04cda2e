"""The passes in their order: prune, specialise, prune again, check updates, simplify, fuse, place, lower, work in place, form tasks,
release memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import IntEnum
from functools import partial
from itertools import compress
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from ..devices import GIVEN, Calibration, Device
from ..graph import Node, Shape, SubGraph, Tensor
from ..graph.spec import is_known
from ..graph.text import format_bytes
from ..jit.loops import Loop
from ..records import Record
from .budget import check_limit, save_memory
from .columns import LARGE, columns_of, ids_of, wanted_nodes
from .fuse import fuse
from .lower import Lowering
from .memory import Memory
from .native import Sections
from .needed import needed_nodes
from .order import check_updates
from .place import count_by_device, place
from .plan import Plan, in_order
from .shapes import specialise
from .simplify import SIMPLIFICATIONS, Allows, Simplified, simplify
from .tasks import form_tasks
from .together import together

# Those that a session may leave out.
PASSES = (*SIMPLIFICATIONS, "fuse")


def compile_plan(
    fetches: Sequence[Tensor | Node],
    feeds: Mapping[Tensor, Shape],
    device: Device,
    *,
    passes: Collection[str] = PASSES,
    is_body: bool = False,
    compiled: Callable[[Loop], Callable[..., Any]] | None = None,
    witness: Callable[[str, Any], None] | None = None,
    memory_limit: int | None = None,
    others: Sequence[Device] = (),
    calibration: Calibration = GIVEN,
    placed: bool = True,
    homes: Mapping[Tensor, str] = MappingProxyType({}),
    device_arrays: bool = False,
    allows: Allows | None = None,
) -> Plan:
    """The plan that computes ``fetches`` from ``feeds``, given the shapes of these.

    passes   names of the simplifications to make, and "fuse" to make loops of stretches of nodes where ``compiled`` is given
    compiled  makes a loop a function of arrays; None for plans without compiled loops
    witness   is told of the "nodes" that are needed, of what is "simplified", with why nodes are in no loop, and of why they do not work
              "in place"
    is_body  whether it is that of a sub-graph, which runs on the thread that comes to it: one task, whole kernels
    memory_limit  most bytes that a run may take; where the usual order takes more, others are tried. None for no limit, 0 for as few bytes
             as are found to do
    others   further devices; a body has the one alone
    calibration  how fast they are, where there are several
    placed   whether nodes are placed; if not, all run on the first device, whatever they ask for
    homes    the devices of feeds that are not on the host
    allows   asked before each single rewrite, with its kind ("algebra", "fold", "common", "fuse", "compile", "cut", "in place") and the
             node, whether it may be made; None: each may
    device_arrays  whether what is fetched stays on its device
    raises  FeedError for a placeholder that is needed and not fed; ShapeError where the shapes do not fit; MemoryLimitError; ArgumentError
            for a node that asks for a device that is not there
    """
    options: dict[str, Any] = {
        "passes": passes,
        "allows": allows,
        "is_body": is_body,
        "compiled": compiled,
        "witness": witness,
        "others": others,
        "calibration": calibration,
        "placed": placed,
        "homes": homes,
        "device_arrays": device_arrays,
    }
    compiling = partial(_compile, fetches, feeds, device, **options)
    request = Request(
        tuple(fetches), feeds, device, tuple(passes), compiled, memory_limit, tuple(others), calibration, placed, homes, device_arrays
    )
    plan = usual = compiling()
    plan.request = request
    if memory_limit is None:
        return plan
    for saving in (Saving.ORDER, Saving.TASKS):
        if plan.peak_bytes <= memory_limit:
            break
        plan = min(plan, compiling(saving=saving), key=attrgetter("peak_bytes"))
    if memory_limit:
        check_limit(plan, memory_limit)
    else:
        memory_limit = plan.peak_bytes
    plan.request = request
    plan.memory_limit, plan.sections = memory_limit, None  # (buffers are held longer by one call than by kernels one by one)
    if plan is not usual:
        plan.notes.append(
            f"memory: kernels in another order, in {len(plan.tasks)} tasks and not {len(usual.tasks)}, "
            f"take {format_bytes(plan.peak_bytes)} and not {format_bytes(usual.peak_bytes)}"
        )
    return plan


class Request(Record):
    """What a plan was compiled from: enough to compile it again, with something changed. The fields are the arguments of `compile_plan`."""

    fetches: tuple[Tensor | Node, ...]
    feeds: Mapping[Tensor, Shape]
    device: Device
    passes: tuple[str, ...]
    compiled: Callable[[Loop], Callable[..., Any]] | None
    memory_limit: int | None
    others: tuple[Device, ...]
    calibration: Calibration
    placed: bool
    homes: Mapping[Tensor, str]
    device_arrays: bool

    def compile(self, *, witness: Callable[[str, Any], None] | None = None, **changed: Any) -> Plan:
        """The plan once more, with the fields in ``changed`` in place of its own."""
        fields = {each: getattr(self, each) for each in self._fields} | changed
        return compile_plan(fields.pop("fetches"), fields.pop("feeds"), fields.pop("device"), witness=witness, **fields)


class Saving(IntEnum):
    """How far a plan goes to save memory: not at all, by the order of its kernels, by tasks that keep to that order, too."""

    NONE, ORDER, TASKS = range(3)


def _compile(
    fetches: Sequence[Tensor | Node],
    feeds: Mapping[Tensor, Shape],
    device: Device,
    *,
    passes: Collection[str],
    is_body: bool,
    compiled: Callable[[Loop], Callable[..., Any]] | None,
    witness: Callable[[str, Any], None] | None = None,
    others: Sequence[Device] = (),
    calibration: Calibration = GIVEN,
    placed: bool = True,
    homes: Mapping[Tensor, str] = MappingProxyType({}),
    device_arrays: bool = False,
    allows: Allows | None = None,
    saving: Saving = Saving.NONE,
) -> Plan:
    fetched = {fetch.node if isinstance(fetch, Tensor) else fetch for fetch in fetches if fetch not in feeds or isinstance(fetch, Node)}
    nodes = needed_nodes(fetched, feeds)
    ops = set(map(attrgetter("op"), nodes))  # few, so that what concerns none of the nodes is soon seen
    specs = specialise(nodes, feeds)
    if any(op.shape_inputs for op in ops):
        nodes = needed_nodes(fetched, feeds, specs)
    if any(op.name == "assign" for op in ops):
        check_updates(nodes)
    if any(op.bodies for op in ops):
        nodes = one_of_twins(nodes)
    simplified = simplify(nodes, specs, feeds, passes, allows)
    in_place: dict[Node, dict[int, str]] | None = None
    if witness is not None:
        simplified.why, in_place = {}, {}
        witness("nodes", nodes)
        witness("simplified", simplified)
        witness("in place", in_place)
    nodes = still_needed(nodes, fetched, simplified, feeds)
    notes = simplified.notes()
    if compiled is not None and "fuse" in passes:
        joins = device.is_host and all(other.is_host for other in others)
        nodes, fused = fuse(nodes, simplified, feeds, fetches, compiled, is_body, joins, not device.is_host)
        notes += fused
        if not device.is_host and all(other.is_host for other in others) and not is_body:
            nodes, made = together(nodes, simplified, fetches)
            notes += made
    plan = Plan(nodes)
    placement = None
    if others and placed and not is_body:
        wanted = [fetch for fetch in fetches if isinstance(fetch, Tensor)]
        placement = place(nodes, simplified, feeds, (device, *others), calibration, wanted, homes)
    compile_body = partial(_compile_body, passes=passes, compiled=compiled, saving=saving, allows=allows)
    lowering = Lowering(plan, specs, (device, *others), compile_body, is_body, compiled, placement)
    for tensor in feeds:
        plan.feeds.append((tensor, lowering.source(tensor)))
        plan.shapes.append(feeds[tensor])
    plan.notes += notes
    lowering.lower(nodes, feeds, simplified)
    if lowering.kinds.compiled_ops:
        plan.notes.append(f"compile: {', '.join(sorted(lowering.kinds.compiled_ops))} by compiled kernels")
    if placement is not None:
        plan.reasons = placement.decisions
        plan.notes += placement.notes
        plan.notes.append(count_by_device(plan.units, placement.names))
    if lowering.unsized:
        plan.notes.append(f"{lowering.unsized} results have a size that only a run knows; times and bytes do not count it")
    plan.fetches = [lowering.slot_of(fetch) if isinstance(fetch, Tensor) else -1 for fetch in fetches]
    plan.host_only = device.is_host and all(other.is_host for other in others)
    if placement is not None and not plan.host_only:
        lowering.bring_home(fetches, device_arrays)
    plan.slots = len(lowering.codes)
    plan.sections = Sections if compiled is not None and plan.host_only and not saving else None
    if saving:
        save_memory(lowering)
    task_of = form_tasks(plan, lowering, single=is_body, keep_order=saving is Saving.TASKS)
    memory = Memory(lowering)
    memory.work_in_place(allows, in_place)
    memory.release(plan.tasks, task_of)
    shared = {memory.array(slot) for _, slot in plan.updates}
    arrays = Counter(memory.array(slot) for slot in plan.fetches if slot >= 0)  # what is fetched twice is the caller's twice
    shared |= {array for array, count in arrays.items() if count > 1}
    plan.copied = frozenset(
        slot for slot in plan.fetches if slot >= 0 and (memory.root(slot) in memory.outside or memory.array(slot) in shared)
    )
    plan.lent = {slot: device for slot, device in memory.lent(plan.fetches).items() if slot not in plan.copied}
    assert in_order(plan.tasks)
    return plan


def _compile_body(
    sub: SubGraph,
    shapes: Sequence[Shape],
    device: Device,
    passes: Collection[str],
    compiled: Callable[[Loop], Callable[..., Any]] | None,
    saving: Saving,
    allows: Allows | None,
) -> Plan:
    """The plan of a sub-graph, fed its inputs and then its captures."""
    feeds = dict(zip((*sub.inputs, *sub.captures.values()), shapes, strict=True))
    return _compile(sub.outputs, feeds, device, passes=passes, is_body=True, compiled=compiled, saving=saving, allows=allows)


def still_needed(nodes: list[Node], fetched: Collection[Node], simplified: Simplified, fed: Collection[Tensor]) -> list[Node]:
    """Prunes again: what nothing reads once the simplified nodes are gone."""
    if not simplified.counts:
        return nodes
    same, values = simplified.same, simplified.values
    given = {tensor.node for tensor in (*fed, *same, *values)}
    if len(nodes) >= LARGE and not any(op.shape_inputs for op in simplified.ops):
        found = _by_columns(nodes, fetched, given, simplified, fed)
        if found is not None:
            return found
    wanted = bytearray(1 + max([node.id for node in nodes], default=0))
    for node in fetched:
        wanted[node.id] = 1
    result = []
    for node in reversed(nodes):
        if not wanted[node.id]:
            continue
        result.append(node)
        if node in given:
            out = node.outputs[0]
            if out in same:
                wanted[same[out].node.id] = 1
                continue
            if out in values or all(tensor in fed for tensor in node.outputs):
                continue
        is_shape = node.op.shape_inputs
        for position, tensor in enumerate(node.inputs):
            if not (is_shape and _is_told(node, position, simplified)):
                wanted[tensor.node.id] = 1
        for before in node._context.control:
            wanted[before.id] = 1
    result.reverse()
    return result


def _by_columns(
    nodes: list[Node], fetched: Collection[Node], given: set[Node], simplified: Simplified, fed: Collection[Tensor]
) -> list[Node] | None:
    """The same for a large graph in which no input is used for its shape alone; None where that does not pay."""
    same, values = simplified.same, simplified.values
    stopped = [node for node in given if node.outputs[0] in same or node.outputs[0] in values or all(out in fed for out in node.outputs)]
    size = nodes[-1].id + 1
    edges = [(tensor.node.id, target.node.id) for tensor, target in same.items()]
    mask = wanted_nodes(columns_of(nodes[0].graph), size, [node.id for node in fetched], [n.id for n in stopped if n.id < size], edges)
    if mask is None:
        return None
    return list(compress(nodes, mask[ids_of(nodes)].tobytes()))


def _is_told(node: Node, position: int, simplified: Simplified) -> bool:
    """Whether only the shape of that input is used, and known."""
    return position in node.op.shape_inputs and is_known(simplified.spec(node.inputs[position]).shape)


def one_of_twins(nodes: list[Node]) -> list[Node]:
    """``nodes`` without those of which another, needed as well, gives all outputs and more (attribute ``extends``): it takes their place.

    The gradient of a loop needs what the loop left behind: it asks for the loop once more, with more outputs.
    """
    twins = {node.attrs["extends"]: node for node in nodes if node.attrs.get("extends") is not None}
    if not twins:
        return nodes
    result, placed = [], set()
    for node in nodes:
        while node in twins:
            node = twins[node]
        if node not in placed:  # at the place of the first of them: all read the same
            placed.add(node)
            result.append(node)
    return result
