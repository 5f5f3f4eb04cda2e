"""Place: which device each node of a plan runs on, and why. Only for sessions with several devices; it knows no kernels and no arrays.

- A node that asks for a device runs there; a node with sub-graphs also where these ask to run.
- What makes the new value of a variable runs where the variable lives: where that asks to be, else on the first device.
- Every other node runs where the copies of its inputs are expected to take the least time: on the device that most of their bytes are on
  already, or have been copied to. Where that makes no difference, on the first.

What is known before the run is on every device. What is fed is on the first, unless its node asks for another.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from ..errors import ArgumentError
from ..graph import Node, SubGraph, Tensor
from ..graph.report import where
from ..graph.spec import is_known
from .copies import CopyNode, copy_seconds
from .fuse import FusedNode
from .plan import Unit, format_bytes
from .simplify import Simplified

EVERYWHERE = ""  # where values are that every device can read from the start


class Placement:
    """The outcome.

    names    of the devices, the first of which serves what nothing else decides
    device   node -> the name of its device
    reasons  node -> why it runs there, in a few words that follow "placed"
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.device: dict[Node, str] = {}
        self.reasons: dict[Node, str] = {}
        self._homes: dict[Tensor, str] = {}

    def home(self, tensor: Tensor) -> str:
        """The device that has ``tensor`` first, or EVERYWHERE; of what no node of the plan makes, the one that is asked for."""
        home = self._homes.get(tensor)
        return tensor.node.device or self.names[0] if home is None else home


def place(nodes: Sequence[Node], simplified: Simplified, fed: Collection[Tensor], names: Sequence[str]) -> Placement:
    """Places ``nodes``, which come behind what they read, on the devices called ``names``.

    raises  ArgumentError for a node that asks for another device
    """
    return _Placing(nodes, simplified, fed, Placement(names)).done()


class _Placing:
    """One walk over the nodes in their order. ``there``: tensor -> the devices that it has been copied to."""

    def __init__(self, nodes: Sequence[Node], simplified: Simplified, fed: Collection[Tensor], found: Placement) -> None:
        self.nodes, self.simplified, self.fed, self.found = nodes, simplified, fed, found
        self.there: dict[Tensor, set[str]] = {}
        self.assigns = [node for node in nodes if node.op.name == "assign"]
        self.updates = {self._resolved(node.inputs[1]): node.inputs[0] for node in self.assigns}

    def done(self) -> Placement:
        found, values = self.found, self.simplified.values
        for tensor in (*self.fed, *[node.inputs[0] for node in self.assigns]):
            check_request(tensor.node, tensor.node.device, found.names)
        for node in self.nodes:
            outputs = list(_made_by(node))
            request = _request(node)
            check_request(node, request, found.names)
            if all(tensor in self.fed for tensor in outputs):  # also where there is no output, as of an update: it runs no kernel
                continue
            if outputs[0] in self.simplified.same:
                found._homes[outputs[0]] = found.home(self._resolved(outputs[0]))
                continue
            if outputs[0] in values or node.op.name in ("constant", "run_key"):
                found._homes.update(dict.fromkeys(outputs, EVERYWHERE))
                continue
            device, found.reasons[node] = self._chosen(node, request, outputs)
            found.device[node] = device
            found._homes.update({tensor: device for tensor in outputs if tensor not in self.fed})
            for tensor in self._read(node):
                self.there.setdefault(tensor, set()).add(device)
        return found

    def _chosen(self, node: Node, request: str | None, outputs: Sequence[Tensor]) -> tuple[str, str]:
        """A device for a node, and why."""
        if request is not None:
            return request, "as asked"
        variable = next((self.updates[tensor] for tensor in outputs if tensor in self.updates), None)
        if variable is not None:
            return self.found.home(variable), f"with {variable.name}, which it updates"
        names = self.found.names
        costs = dict.fromkeys(names, 0.0)
        tensors = [tensor for tensor in self._read(node) if self.found.home(tensor) != EVERYWHERE]
        for tensor in tensors:
            seconds = copy_seconds(self.simplified.spec(tensor))
            for name in names:
                if name != self.found.home(tensor) and name not in self.there.get(tensor, ()):
                    costs[name] += seconds
        best = min(names, key=costs.__getitem__)
        if max(costs.values()) == costs[best]:
            return best, "on the first device"
        return best, "with most of its inputs" if costs[best] else "with its inputs"

    def _read(self, node: Node) -> Iterable[Tensor]:
        """The tensors whose values a node reads, not only their shapes, each once."""
        told = node.op.shape_inputs
        read = [t for i, t in enumerate(node.inputs) if i not in told or not is_known(self.simplified.spec(t).shape)]
        return dict.fromkeys(map(self._resolved, read))

    def _resolved(self, tensor: Tensor) -> Tensor:
        return self.simplified.same.get(tensor, tensor)


def check_request(node: Node, request: str | None, names: Sequence[str], *, in_body: bool = False) -> None:
    """raises ArgumentError when ``node`` asks for a device that is none of ``names``; ``in_body``: where its loop or branch runs."""
    if request is None or request in names:
        return
    rows = [("made at", where(node.location))]
    if in_body:
        raise ArgumentError(
            f"{node.name} asks for {request} within a loop or branch that runs on {names[0]}",
            rows=rows,
            help=f'it runs on one device with all of its body: build it whole with fg.device("{request}"), or ask for nothing within',
        )
    has = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    ask = "it" if len(names) == 1 else "one of them"
    raise ArgumentError(
        f"{node.name} asks for {request}, which this session does not have",
        rows=rows,
        help=f"the session computes on {has}; ask for {ask}, or leave the request out",
    )


def _request(node: Node) -> str | None:
    """The device that a node asks for: itself, or the first in its sub-graphs that does."""
    if node.device is not None or not node.op.bodies:
        return node.device
    subs: list[SubGraph] = [node.attrs[name] for name in node.op.bodies]
    return next((request for sub in subs for inner in sub.nodes if (request := _request(inner)) is not None), None)


def _made_by(node: Node) -> Iterable[Tensor]:
    """What a node gives; a loop may stand in for another, which gave less."""
    if isinstance(node, FusedNode):
        return [made.tensor for made in node.op.results]
    outputs = list(node.outputs)
    twin = node.attrs.get("extends")
    while twin is not None:
        outputs += twin.outputs
        twin = twin.attrs.get("extends")
    return outputs


def count_by_device(units: Iterable[Unit], names: Sequence[str]) -> str:
    """An account of a placement: how many kernels each device runs, and what is copied."""
    units = list(units)
    kernels = Counter(unit.device for unit in units if not isinstance(unit.node, CopyNode))
    copies = [unit for unit in units if isinstance(unit.node, CopyNode) and not unit.part]
    nbytes = sum(unit.spec.nbytes for unit in copies if unit.spec is not None)
    counts = ", ".join(f"{kernels[name]} on {name}" for name in names)
    return f"place: kernels: {counts}; {len(copies)} tensor{'s' * (len(copies) != 1)} of {format_bytes(nbytes)} copied"
