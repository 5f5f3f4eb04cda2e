"""Forecast: how long a placement is expected to take. Plain data: steps, what each would take on each device, and what copies take.

Each device is reckoned to work off one step at a time, in the order of their ranks: the step with the longest path behind it first. How
many threads a device has in truth does not count, so that a placement, and with it the bits of a result, does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ..devices import Calibration
from ..devices.speed import kind_of
from ..graph import Node, Spec, SubGraph, Tensor
from ..graph.op import Work
from ..graph.spec import is_known
from ..records import Record, field
from .fuse import FusedNode
from .needed import needed_nodes
from .shapes import specialise


class Option(NamedTuple):
    """What a device offers a step: when it could be done there, and of that how long copies of its inputs and the step itself take."""

    done: float
    copies: float
    itself: float


class Step(Record, frozen=False, eq=False, slots=True):
    """A node to be placed.

    outputs  what it makes; ``reads``: what it reads that is not everywhere
    seconds  device -> what it takes there; devices that lack the op are not among them
    fixed    the device that it has to be on, None for any
    reason   why it is fixed
    forward  the step whose gradient it is
    beside   steps with which it shares a device, itself among them; one set for all of them
    device   where it was placed; ``options``: what it could choose from
    """

    node: Node
    outputs: tuple[Tensor, ...]
    reads: tuple[Tensor, ...]
    seconds: Mapping[str, float]
    fixed: str | None = None
    reason: str = ""
    forward: Step | None = None
    beside: list[Step] | None = None
    device: str = ""
    options: Mapping[str, Option] = field(default_factory=dict)


class Forecast(Record, frozen=False, eq=False, slots=True):
    """The outcome: where each step runs, what each could choose from, and the time of all."""

    seconds: float
    places: list[tuple[Step, str, Mapping[str, Option]]]


Rule = Callable[[Step, Mapping[str, Option]], str]


class Forecaster:
    """Goes through ``steps`` with one rule after another.

    names   of the devices
    homes   tensor -> device, of what is there at the start
    sizes   bytes of a tensor
    wanted  what the caller fetches, which has to be on ``host`` in the end
    """

    def __init__(
        self,
        steps: Sequence[Step],
        names: Sequence[str],
        homes: Callable[[Tensor], str],
        sizes: Callable[[Tensor], int],
        calibration: Calibration,
        wanted: Collection[Tensor],
    ) -> None:
        self.names, self.homes, self.sizes, self.wanted = tuple(names), homes, sizes, wanted
        self.links = {(a, b): calibration.link(a, b) for a in names for b in names if a != b}
        self.host = next((name for name in names if kind_of(name) == "cpu"), names[0])
        self.steps = self._by_rank(steps)

    def _by_rank(self, steps: Sequence[Step]) -> list[Step]:
        ranks: dict[Tensor, float] = {}
        keys: dict[Step, tuple[float, int]] = {}
        for index in range(len(steps) - 1, -1, -1):
            step = steps[index]
            behind = max([ranks.get(tensor, 0.0) for tensor in step.outputs], default=0.0)
            rank = behind + sum(step.seconds.values()) / len(step.seconds) + 1e-9
            keys[step] = (-rank, index)
            for tensor in step.reads:
                ranks[tensor] = max(ranks.get(tensor, 0.0), rank)
        return sorted(steps, key=keys.__getitem__)

    def forecast(self, rule: Rule) -> Forecast:
        """What comes of placing each step by ``rule``, but where it is fixed or beside another."""
        free = dict.fromkeys(self.names, 0.0)
        there: dict[Tensor, dict[str, float]] = {}  # tensor -> device -> when it is there; the first is the one that it was made on
        chosen: dict[int, str] = {}  # id of a set of steps beside each other -> device
        calls = 0.0
        places: list[tuple[Step, str, Mapping[str, Option]]] = []
        for step in self.steps:
            group = id(step.beside) if step.beside is not None else 0
            only = step.fixed or chosen.get(group)
            allowed = [only] if only is not None else [name for name in self.names if name in step.seconds]
            for tensor in step.reads:
                if tensor not in there:
                    there[tensor] = {self.homes(tensor): 0.0}
            options: dict[str, Option] = {}
            arrivals: dict[str, list[float]] = {}
            for name in allowed:
                copies, come = 0.0, []
                for tensor in step.reads:
                    when = there[tensor].get(name)
                    if when is None:
                        when, seconds = self._copied(tensor, there[tensor], name)
                        copies += seconds
                    come.append(when)
                itself = step.seconds.get(name, 0.0)
                options[name] = Option(max([free[name], *come]) + itself, copies, itself)
                arrivals[name] = come
            device = only if only is not None else rule(step, options)
            step.device = device
            if group:
                chosen[group] = device
            for tensor, when in zip(step.reads, arrivals[device], strict=True):
                there[tensor].setdefault(device, when)
            for tensor in step.outputs:
                there[tensor] = {device: options[device].done}
            free[device] = options[device].done
            calls += 1e-6 if kind_of(device) == "cpu" else 0.0
            places.append((step, device, options))
        away = [tensor for tensor in self.wanted if tensor in there and self.host not in there[tensor]]
        ends = [self._copied(tensor, there[tensor], self.host)[0] for tensor in away]
        # (Calls of kernels on the host hold Python's lock, whichever of its devices they are on.)
        return Forecast(max([calls, *free.values(), *ends]), places)

    def _copied(self, tensor: Tensor, there: Mapping[str, float], target: str) -> tuple[float, float]:
        """When a copy could be on ``target``, and how long it takes."""
        home, made = next(iter(there.items()))
        seconds = self.links[home, target].seconds(self.sizes(tensor))
        return made + seconds, seconds


def node_seconds(node: Node, device: str, spec: Callable[[Tensor], Any], calibration: Calibration) -> float:
    """Estimated, or measured, seconds of a node on a device; of what is not known before the run, the call alone."""
    measured = calibration.measured(device, node.name)
    if measured is not None:
        return measured
    speed, inputs = calibration.speed(device), [spec(tensor) for tensor in node.inputs]
    if node.op.bodies:
        given = node.op.body_inputs(*inputs, **node.attrs)
        subs: list[SubGraph] = [node.attrs[name] for name in node.op.bodies]
        turn = sum(_body_seconds(sub, specs, device, calibration) for sub, specs in zip(subs, given, strict=True))
        return float(speed.call_seconds + node.op.trips(*inputs, **node.attrs) * turn)
    if node.op.is_view or not all(is_known(each.shape) for each in inputs):
        return speed.call_seconds
    return speed.seconds(*_work(node, inputs, kind_of(device)))


def _work(node: Node, inputs: Sequence[Any], kind: str) -> Work:
    if isinstance(node, FusedNode) and kind != "cpu":  # there, exponentials and their kin are hidden behind the memory
        op = node.op
        conv = op.conv.node.op.work(*inputs[:2], **op.conv.node.attrs) if op.conv is not None else Work()
        moved = sum(source.spec.nbytes for source in op.sources) + sum(made.spec.nbytes for made in op.results)
        return Work(conv.flops, conv.bytes + moved)
    return node.op.work(*inputs, **node.attrs)


def _body_seconds(sub: SubGraph, given: Sequence[Any], device: str, calibration: Calibration) -> float:
    shapes = dict(zip((*sub.inputs, *sub.captures.values()), [each.shape for each in given], strict=True))
    nodes = needed_nodes({tensor.node for tensor in sub.outputs if tensor not in shapes}, shapes)
    specs = specialise(nodes, shapes)
    known = [node for node in nodes if node.op.name not in ("constant", "placeholder") and any(t not in shapes for t in node.outputs)]
    return sum(node_seconds(node, device, lambda tensor: specs.get(tensor, tensor), calibration) for node in known)


def nbytes_of(spec: Any) -> int:
    """Of a tensor; 0 where only a run knows."""
    return Spec(spec.shape, spec.dtype).nbytes if is_known(spec.shape) else 0
