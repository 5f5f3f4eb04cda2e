"""The passes in their order: prune, specialise, prune again, check updates, lower, work in place, form tasks, release memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..devices import Device
from ..graph import Node, Shape, Tensor
from .lower import Lowering
from .memory import Memory
from .needed import needed_nodes
from .order import check_updates
from .plan import Plan, in_order
from .shapes import specialise
from .tasks import form_tasks


def compile_plan(fetches: Sequence[Tensor | Node], feeds: Mapping[Tensor, Shape], device: Device) -> Plan:
    """The plan that computes ``fetches`` from ``feeds``, given the shapes of these.

    raises  FeedError for a placeholder that is needed and not fed; ShapeError where the shapes do not fit
    """
    fetched = {fetch.node if isinstance(fetch, Tensor) else fetch for fetch in fetches if fetch not in feeds or isinstance(fetch, Node)}
    nodes = needed_nodes(fetched, feeds)
    specs = specialise(nodes, feeds)
    if any(node.op.shape_inputs for node in nodes):
        nodes = needed_nodes(fetched, feeds, specs)
    check_updates(nodes)
    plan = Plan(nodes)
    lowering = Lowering(plan, specs, device)
    for tensor in feeds:
        plan.feeds.append((tensor, lowering.source(tensor)))
    for node in nodes:
        if not node.outputs or node.outputs[0] not in feeds:
            lowering.lower(node)
        else:
            lowering.done[node.id] = ()
    plan.fetches = [lowering.slot[fetch] if isinstance(fetch, Tensor) else -1 for fetch in fetches]
    memory = Memory(lowering)
    memory.work_in_place()
    task_of = form_tasks(plan, lowering.after)
    memory.release(plan.tasks, task_of)
    updated = {memory.root(slot) for _, slot in plan.updates}
    plan.copied = frozenset(
        slot for slot in plan.fetches if slot >= 0 and (memory.root(slot) in memory.outside or memory.root(slot) in updated)
    )
    assert in_order(plan.tasks)
    return plan
