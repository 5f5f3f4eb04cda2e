"""Order of reads and writes of variables within one run.

Every read sees the value from before the run, every write lands at its end, so nothing is random. But a user who writes ``assign`` and
then reads may expect the new value; such pairs are reported with both lines. Two writes of one variable in one run are an error.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from ..errors import GraphError, VariableOrderWarning
from ..graph import Node
from ..graph.report import where


def check_updates(nodes: Sequence[Node]) -> None:
    """Raises GraphError for two writes of one variable; warns of a read that does not lead to the write beside it."""
    writes = [node for node in nodes if node.op.name == "assign"]
    if not writes:
        return
    written: dict[Node, Node] = {}
    for write in writes:
        variable = write.inputs[0].node
        if variable in written:
            raise GraphError(
                f"{variable.name} is written twice in one run",
                rows=[("one", where(written[variable].location)), ("other", where(write.location))],
                help="fetch the updates in separate runs, or make one value of the two",
            )
        written[variable] = write
    leads_to = _writes_behind(nodes, writes)
    bits = {write: bit for bit, write in enumerate(writes)}
    updated = {write.inputs[0] for write in writes}
    unordered: list[tuple[Node, Node]] = []
    for node in nodes:
        if updated.isdisjoint(node.inputs) or node.op.name == "assign" or node.forward is not None:
            continue
        for position, tensor in enumerate(node.inputs):
            update = written.get(tensor.node)
            if update is None or position in node.op.shape_inputs:
                continue
            if not leads_to[node.id] >> bits[update] & 1:
                unordered.append((update, node))
    if unordered:
        _warn(unordered)


def _writes_behind(nodes: Sequence[Node], writes: Sequence[Node]) -> list[int]:
    """For each id of a node a bit for each write that the node leads to."""
    leads_to = [0] * (max([node.id for node in nodes]) + 1)
    for bit, write in enumerate(writes):
        leads_to[write.id] |= 1 << bit
    for node in reversed(nodes):
        bits = leads_to[node.id]
        if bits:
            for tensor in node.inputs:
                leads_to[tensor.node.id] |= bits
            for before in node._context.control:
                leads_to[before.id] |= bits
    return leads_to


def _warn(pairs: Sequence[tuple[Node, Node]]) -> None:
    """Tells of each pair of a write and a read once; of those from the same two lines of the user's, together."""
    known = pairs[0][0].graph.memo.setdefault("order_warnings", set())
    by_lines: dict[tuple[str, str], list[tuple[Node, Node]]] = {}
    for write, read in pairs:
        if (write.id, read.id) not in known:
            known.add((write.id, read.id))
            by_lines.setdefault((where(read.location), where(write.location)), []).append((write, read))
    for (read_at, write_at), found in by_lines.items():
        variables = list(dict.fromkeys(write.inputs[0].node.name for write, _ in found))
        reads = list(dict.fromkeys(read.name for _, read in found))
        verb = "is" if len(variables) == 1 else "are"
        warnings.warn(
            f"{_listed(variables)} {verb} read by {_listed(reads)} and written in the same run, and no edge orders the two: the read sees "
            f"the value from before the run\n  read   {read_at}\n  write  {write_at}\n"
            f"  help   to read the new value, use the tensor that is assigned; to say that the old one is meant, build the update "
            f"inside fg.control_dependencies([{reads[0].rpartition('/')[2]}])",
            VariableOrderWarning,
            stacklevel=3,
        )


def _listed(names: Sequence[str]) -> str:
    """The first two of ``names``, and how many more there are."""
    return " and ".join(names) if len(names) <= 2 else f"{names[0]}, {names[1]} and {len(names) - 2} more"
