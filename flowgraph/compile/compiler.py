"""The passes in their order: prune, specialise, prune again, check updates, lower, work in place, form tasks, release memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..devices import Device
from ..graph import Node, Shape, SubGraph, Tensor
from .lower import Lowering
from .memory import Memory
from .needed import needed_nodes
from .order import check_updates
from .plan import Plan, in_order
from .shapes import specialise
from .tasks import form_tasks


def compile_plan(fetches: Sequence[Tensor | Node], feeds: Mapping[Tensor, Shape], device: Device, *, is_body: bool = False) -> Plan:
    """The plan that computes ``fetches`` from ``feeds``, given the shapes of these.

    is_body  whether it is that of a sub-graph, which runs on the thread that comes to it: one task, whole kernels
    raises  FeedError for a placeholder that is needed and not fed; ShapeError where the shapes do not fit
    """
    fetched = {fetch.node if isinstance(fetch, Tensor) else fetch for fetch in fetches if fetch not in feeds or isinstance(fetch, Node)}
    nodes = needed_nodes(fetched, feeds)
    specs = specialise(nodes, feeds)
    if any(node.op.shape_inputs for node in nodes):
        nodes = needed_nodes(fetched, feeds, specs)
    check_updates(nodes)
    nodes = one_of_twins(nodes)
    plan = Plan(nodes)
    lowering = Lowering(plan, specs, device, _compile_body, is_body)
    for tensor in feeds:
        plan.feeds.append((tensor, lowering.source(tensor)))
        plan.shapes.append(feeds[tensor])
    for node in nodes:
        if not node.outputs or node.outputs[0] not in feeds:
            lowering.lower(node)
        else:
            lowering.done[node.id] = ()
    if lowering.unsized:
        plan.notes.append(f"{lowering.unsized} results have a size that only a run knows; times and bytes do not count it")
    plan.fetches = [lowering.slot[fetch] if isinstance(fetch, Tensor) else -1 for fetch in fetches]
    memory = Memory(lowering)
    memory.work_in_place()
    task_of = form_tasks(plan, lowering.after, single=is_body)
    memory.release(plan.tasks, task_of)
    updated = {memory.root(slot) for _, slot in plan.updates}
    plan.copied = frozenset(
        slot for slot in plan.fetches if slot >= 0 and (memory.root(slot) in memory.outside or memory.root(slot) in updated)
    )
    assert in_order(plan.tasks)
    return plan


def _compile_body(sub: SubGraph, shapes: Sequence[Shape], device: Device) -> Plan:
    """The plan of a sub-graph, fed its inputs and then its captures."""
    return compile_plan(sub.outputs, dict(zip((*sub.inputs, *sub.captures.values()), shapes, strict=True)), device, is_body=True)


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
