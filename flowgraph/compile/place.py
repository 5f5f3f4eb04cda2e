"""Place: which device each node of a plan runs on, and why. Only for sessions with several devices; it knows no kernels and no arrays.

- A node that asks for a device runs there; a node with sub-graphs also where these ask to run. Where that device lacks the op, the first
  that has it takes its place, and the plan says so.
- What makes the new value of a variable runs where the variable lives: where that asks to be, else on the first device.
- What was built beside another node runs where that does, and a gradient prefers the device of what it is the gradient of.
- For the rest, forecasts are compared: each node where its inputs are; all on one device; each node where it is done first. One that is
  harder to follow is taken where it is expected to save a tenth of the time.

What is known before the run is on every device. What is fed is where the caller has it: on the first device of the host, or on the one that
its node asks for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from ..devices import Calibration, Device
from ..errors import ArgumentError
from ..graph import Node, SubGraph, Tensor
from ..graph.report import blamed_line, where
from ..graph.spec import is_known
from ..graph.text import format_bytes, format_seconds
from ..records import Record, field
from .copies import CopyNode
from .forecast import Forecast, Forecaster, Option, Rule, Step, nbytes_of, node_seconds
from .fuse import FusedNode
from .plan import Unit
from .simplify import Simplified

EVERYWHERE = ""  # where values are that every device can read from the start

# A placement that is harder to follow has to save so much of the time; where all takes less than this, none is looked for.
SAVING, WORTH_SECONDS = 0.1, 200e-6
# In larger graphs nodes follow their inputs: to look further takes 10 us a node and device.
MANY = 50_000


class Decision(Record, slots=True):
    """Why a node runs where it does, in words that follow "placed", with what the devices offered where there was a choice."""

    device: str
    reason: str
    options: Mapping[str, Option] = field(default_factory=dict)

    def __str__(self) -> str:
        if len(self.options) < 2:
            return self.reason
        rest = [f"{_offer(option)} on {name}" for name, option in self.options.items() if name != self.device]
        return f"{self.reason}: {_offer(self.options[self.device])} on {self.device}, {', '.join(rest)}"


def _offer(option: Option) -> str:
    copies = f" after {format_seconds(option.copies)} of copies" if option.copies else ""
    return f"{format_seconds(option.itself)}{copies}, done at {format_seconds(option.done)}"


class Placement:
    """The outcome.

    names      of the devices, the first of which serves what nothing else decides
    device     node -> the name of its device
    decisions  node -> why it runs there; where there is one device to choose, of those nodes alone that ask for it or are elsewhere
    notes      what the plan should tell of it
    """

    def __init__(self, names: Sequence[str], same: Mapping[Tensor, Tensor], homes: Mapping[Tensor, str] = MappingProxyType({})) -> None:
        self.names = tuple(names)
        self.device: dict[Node, str] = {}
        self.decisions: dict[Node, Decision] = {}
        self.notes: list[str] = []
        self._homes: dict[Tensor, str] = dict(homes)
        self._same = same

    def home(self, tensor: Tensor) -> str:
        """The device that has ``tensor`` first, or EVERYWHERE; of what no node of the plan makes, the one that is asked for."""
        home = self._homes.get(tensor)
        while home is None and tensor in self._same:
            tensor = self._same[tensor]
            home = self._homes.get(tensor)
        return tensor.node.device or self.names[0] if home is None else home


def place(
    nodes: Sequence[Node],
    simplified: Simplified,
    fed: Collection[Tensor],
    devices: Sequence[Device],
    calibration: Calibration,
    wanted: Collection[Tensor],
    homes: Mapping[Tensor, str] = MappingProxyType({}),
) -> Placement:
    """Places ``nodes``, which come behind what they read, on ``devices``.

    wanted  the tensors that are fetched
    homes   where feeds are that are not on the host
    raises  ArgumentError for a node that asks for another device, or that none of them has the op of
    """
    if not all(device.is_host for device in devices):
        host = next(device.name for device in devices if device.is_host)
        homes = {tensor: homes.get(tensor, host) for tensor in fed}
    found = Placement([device.name for device in devices], simplified.same, homes)
    return _Placing(nodes, simplified, fed, devices, calibration, found).done(wanted)


class _Placing:
    def __init__(
        self,
        nodes: Sequence[Node],
        simplified: Simplified,
        fed: Collection[Tensor],
        devices: Sequence[Device],
        calibration: Calibration,
        found: Placement,
    ) -> None:
        self.nodes, self.simplified, self.fed, self.devices, self.calibration = nodes, simplified, fed, devices, calibration
        self.found = found
        self.assigns = [node for node in nodes if node.op.name == "assign"]
        self.updates = {self._resolved(node.inputs[1]): node.inputs[0] for node in self.assigns}
        self.step_of: dict[Node, Step] = {}  # of a fused node's members as well
        self.lacking: Counter[tuple[str, str, str]] = Counter()  # (op, device, why)
        self.follows = True  # whether nodes are where their inputs are

    def done(self, wanted: Collection[Tensor]) -> Placement:
        found = self.found
        for tensor in (*self.fed, *[node.inputs[0] for node in self.assigns]):
            check_request(tensor.node, tensor.node.device, found.names)
        steps = [step for node in self.nodes if (step := self._step(node)) is not None]
        self._put_beside(steps)
        homes = found.home
        forecaster = Forecaster(
            steps, found.names, homes, lambda tensor: nbytes_of(self.simplified.spec(tensor)), self.calibration, self._fetched(wanted)
        )
        best = self._best(forecaster, steps)
        usual = [device.name for device in self.devices if not device.last_resort]
        for step, device, options in best.places:
            found.device[step.node] = device
            if len(usual) > 1 or device != usual[0] or _request(step.node) is not None:
                found.decisions[step.node] = self._decision(step, device, options)
            found._homes.update({tensor: device for tensor in step.outputs if tensor not in self.fed})
        for (op, device, why), count in self.lacking.items():
            found.notes.append(f"place: {op} is not on {device}: {why}" + (f" ({count} nodes)" if count > 1 else ""))
        return found

    # --- what there is to place

    def _step(self, node: Node) -> Step | None:
        """A node as something to be placed; None for what runs nothing."""
        found, values = self.found, self.simplified.values
        outputs = tuple(_made_by(node))
        request = _request(node)
        check_request(node, request, found.names)
        if all(tensor in self.fed for tensor in outputs):  # also where there is no output, as of an update: it runs no kernel
            return None
        if outputs[0] in self.simplified.same:
            return None
        if outputs[0] in values or node.op.name in ("constant", "run_key"):
            found._homes.update(dict.fromkeys(outputs, EVERYWHERE))
            return None
        if node.op.name in ("variable", "placeholder"):
            return None
        reads = tuple([tensor for tensor in self._read(node) if found._homes.get(tensor) != EVERYWHERE])
        step = Step(node, outputs, reads, self._seconds(node, request))
        self._fix(step, request)
        for member in _members(node):
            self.step_of[member] = step
        forward = {self.step_of.get(member.forward) for member in _members(node) if member.forward is not None}
        step.forward = forward.pop() if len(forward) == 1 else None
        return step

    def _seconds(self, node: Node, request: str | None) -> dict[str, float]:
        """What a node takes on each device that has its op. What is there as a last resort counts only where no other has it."""
        missing = {device.name: why for device in self.devices if (why := _lacks(device, node, self.simplified)) is not None}
        able = [device for device in self.devices if device.name not in missing]
        if not able:
            name, why = next(iter(missing.items()))
            raise ArgumentError(
                f"{node.name} cannot run on any device of this session: {name} lacks it, {why}",
                rows=[("made at", where(node.location))],
                help='name a device that has it: Session(devices=["cuda:0", "cpu:0"])',
            )
        usual = [device for device in able if not device.last_resort or device.name == request]
        for name in missing:
            if name == request or (request is None and name == self.found.names[0]):
                self.lacking[node.op.name, name, f"{missing[name]}; it runs on {(usual or able)[0].name}"] += 1
        return {device.name: node_seconds(node, device.name, self.simplified.spec, self.calibration) for device in (usual or able)}

    def _fix(self, step: Step, request: str | None) -> None:
        """Says where a step has to be, if that is settled."""
        if request is not None:
            step.fixed, step.reason = request, "as asked"
            if request not in step.seconds:
                step.fixed = next(iter(step.seconds))
                step.reason = f"as {request}, which it asks for, lacks it"
            return
        variable = next((self.updates[tensor] for tensor in step.outputs if tensor in self.updates), None)
        if variable is not None and self.found.home(variable) in step.seconds:
            step.fixed, step.reason = self.found.home(variable), f"with {variable.name}, which it updates"
        elif len(step.seconds) == 1:
            step.fixed, step.reason = next(iter(step.seconds)), "where there is a kernel for it"

    def _put_beside(self, steps: Sequence[Step]) -> None:
        """Makes sets of the steps that were built beside each other, and fixes those beside what has a place already."""
        sets: dict[Node, list[Step]] = {}
        for step in steps:
            targets = {member.colocated for member in _members(step.node) if member.colocated is not None}
            for target in targets:
                other = self.step_of.get(target)
                if other is None and target.op.name in ("variable", "placeholder") and step.fixed is None:
                    step.fixed, step.reason = self.found.home(target.outputs[0]), f"beside {target.name}, as asked"
                group = sets.setdefault(target, [])
                for each in (*([] if other is None else [other]), step):
                    if each.beside is not None and each.beside is not group:  # two sets meet
                        group += [member for member in each.beside if member not in group]
                        for member in each.beside:
                            member.beside = group
                    elif each not in group:
                        group.append(each)
                    each.beside = group
        for group in {id(step.beside): step.beside for step in steps if step.beside is not None}.values():
            fixed = next((step for step in group if step.fixed is not None), None)
            for step in group:
                if fixed is not None and step.fixed is None:
                    step.fixed, step.reason = fixed.fixed, f"beside {fixed.node.name}, as asked"
                elif step.fixed is None:
                    step.reason = f"beside {group[0].node.name}, as asked" if step is not group[0] else ""

    # --- where it goes

    def _best(self, forecaster: Forecaster, steps: Sequence[Step]) -> Forecast:
        """The forecast that is taken. The last candidate whose saving is worth it; simple ones come first."""
        best = forecaster.forecast(self._follow)
        choices = sum(step.fixed is None for step in steps)
        if not choices or best.seconds < WORTH_SECONDS or len(steps) > MANY:
            return best
        taken = "each node where its inputs are"
        told = [f"{taken}: {format_seconds(best.seconds)}"]
        usual = [device.name for device in self.devices if not device.last_resort]
        others: list[tuple[str, Rule]] = [(f"all on {name}", self._all_on(name)) for name in usual]
        for words, rule in (*others, ("each node where it is done first", self._first_done)):
            forecast = forecaster.forecast(rule)
            told.append(f"{words}: {format_seconds(forecast.seconds)}")
            if forecast.seconds < (1 - SAVING) * best.seconds:
                best, taken, self.follows = forecast, words, False
        if len({device for _, device, _ in best.places}) > 1 or taken != "each node where its inputs are":
            self.found.notes.append(f"place: {taken}; expected are {', '.join(told)}")
        for step, device, _ in best.places:  # what the rules look at is that of the last one
            step.device = device
        return best

    def _follow(self, step: Step, options: Mapping[str, Option]) -> str:
        return min(options, key=lambda name: options[name].copies)

    def _all_on(self, device: str) -> Rule:
        return lambda step, options: device if device in options else self._follow(step, options)

    def _first_done(self, step: Step, options: Mapping[str, Option]) -> str:
        if step.forward is not None and step.forward.device in options:
            return step.forward.device
        return min(options, key=lambda name: (options[name].done, options[name].copies))

    def _decision(self, step: Step, device: str, options: Mapping[str, Option]) -> Decision:
        if step.reason:
            return Decision(device, step.reason)
        copies = [option.copies for option in options.values()]
        mine, done = options[device].copies, options[device].done
        if mine == min(copies) < max(copies):
            reason = "with most of its inputs" if mine else "with its inputs"
        elif done == min(option.done for option in options.values()) and not self.follows:
            reason = "where it is done first"
        elif step.forward is not None and step.forward.device == device and not self.follows:
            reason = f"with {step.forward.node.name}, whose gradient it is"
        else:
            reason = "on the first device" if device == self.found.names[0] else "where all is faster"
        return Decision(device, reason, options)

    # --- the graph as simplified

    def _fetched(self, wanted: Collection[Tensor]) -> list[Tensor]:
        made = {tensor for step in self.step_of.values() for tensor in step.outputs}
        return [tensor for tensor in dict.fromkeys(map(self._resolved, wanted)) if tensor in made]

    def _read(self, node: Node) -> Iterable[Tensor]:
        """The tensors whose values a node reads, not only their shapes, each once."""
        told = node.op.shape_inputs
        read = [t for i, t in enumerate(node.inputs) if i not in told or not is_known(self.simplified.spec(t).shape)]
        return dict.fromkeys(map(self._resolved, read))

    def _resolved(self, tensor: Tensor) -> Tensor:
        while tensor in self.simplified.same and tensor not in self.fed:
            tensor = self.simplified.same[tensor]
        return tensor


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
            blamed=blamed_line(node),
        )
    has = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    ask = "it" if len(names) == 1 else "one of them"
    raise ArgumentError(
        f"{node.name} asks for {request}, which this session does not have",
        rows=rows,
        help=f"the session computes on {has}; ask for {ask}, or leave the request out",
        blamed=blamed_line(node),
    )


def _request(node: Node) -> str | None:
    """The device that a node asks for: itself, or the first in its sub-graphs that does."""
    if node.device is not None or not node.op.bodies:
        return node.device
    subs: list[SubGraph] = [node.attrs[name] for name in node.op.bodies]
    return next((request for sub in subs for inner in sub.nodes if (request := _request(inner)) is not None), None)


def _lacks(device: Device, node: Node, simplified: Simplified) -> str | None:
    """Why a device cannot run a node, with all that is inside; None where it can."""
    for member in _members(node):
        why = device.lacks(member.op.name, [simplified.spec(tensor).dtype for tensor in member.inputs])
        if why is not None:
            return why
        for name in member.op.bodies:
            sub: SubGraph = member.attrs[name]
            for inner in sub.nodes:
                why = _lacks(device, inner, simplified)
                if why is not None:
                    return f"its body has {inner.op.name}: {why}"
    return None


def _members(node: Node) -> Sequence[Node]:
    return node.op.members if isinstance(node, FusedNode) else (node,)


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
