"""Lower: nodes become units over slots. Nodes that only pass their input on vanish; big kernels are cut into fixed slices.

How a kernel is cut depends on shapes alone, never on the number of threads, so that the bits of a result do not either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from ..devices import Device
from ..errors import ArgumentError, FeedError
from ..graph import Node, Shape, Spec, SubGraph, Tensor
from ..graph.op import Slicing
from ..graph.report import where
from ..graph.spec import format_spec, is_known
from .cost import CostModel
from .plan import Plan, Unit

# A kernel worth more than SLICE_SECONDS is cut into parts of about PART_SECONDS, at most MAX_PARTS of them; where its input is cut
# already, from CHAIN_SECONDS on, so that a chain of kernels stays on one slice while it is in the cache.
SLICE_SECONDS = 0.5e-3
PART_SECONDS = 0.8e-3
CHAIN_SECONDS = 0.05e-3
MAX_PARTS = 8

# Below this an array comes from the allocator's cache faster than from the pool.
POOLED_BYTES = 16384


class Lowering:
    """The state of one lowering: fills ``plan`` and says, for each unit, which it depends on."""

    def __init__(
        self,
        plan: Plan,
        specs: Mapping[Tensor, Spec],
        device: Device,
        compile_body: Callable[[SubGraph, Sequence[Shape], Device], Plan],
        is_body: bool,
    ) -> None:
        self.plan, self.specs, self.device = plan, specs, device
        self.compile_body, self.is_body = compile_body, is_body
        self.cost = CostModel()
        self.slot: dict[Tensor, int] = {}
        self.alias: dict[int, int] = {}  # slot -> slot of the storage that it shares
        self.makers: dict[int, tuple[int, ...]] = {}  # slot -> the units that fill it
        self.parts: dict[int, list[tuple[int, int, int]]] = {}  # slot -> (first row, last row, unit) where rows are made apart
        self.after: list[set[int]] = []  # unit -> units
        self.done: dict[int, tuple[int, ...]] = {}  # node id -> the units after which it counts as run
        self.buffers: dict[int, Spec] = {}  # slots that slices are written into
        self.unsized = 0  # kernels whose result has a size that only a run knows
        self.external: set[int] = set()  # slots whose memory is not the run's own

    def new_slot(self) -> int:
        self.plan.slots += 1
        return self.plan.slots - 1

    def source(self, tensor: Tensor) -> int:
        slot = self.slot[tensor] = self.new_slot()
        self.external.add(slot)
        return slot

    def spec(self, tensor: Tensor) -> Any:
        return self.specs.get(tensor, tensor)

    def lower(self, node: Node) -> None:
        """Adds the units of ``node``."""
        name = node.op.name
        if node._context.device is not None and node._context.device != self.device.name:
            raise ArgumentError(
                f"{node.name} asks for {node.device}, which this session does not have",
                rows=[("made at", where(node.location))],
                help=f"the session computes on {self.device.name}; ask for it, or leave the request out",
            )
        if name in _SOURCES:
            getattr(self, "_" + name)(node)
            self.done[node.id] = ()
            return
        if name in ("assign", "group"):
            self._finish_update(node)
            return
        inputs = [self.spec(tensor) for tensor in node.inputs]
        output = self.spec(node.outputs[0])
        control = {unit for before in node._context.control for unit in self.done[before.id]}
        if node.op.passes(output, *inputs) and not control:
            source = self.slot[node.inputs[0]]
            self.slot[node.outputs[0]] = source
            self.done[node.id] = self.makers.get(source, ())
            return
        if node.op.bodies:
            self._lower_bodies(node, inputs, output, control)
            return
        kernel, arrays, told = self._bound(node, inputs)
        seconds = self.cost.seconds(node, inputs)
        slicing = self._slicing(node, output, inputs, seconds) if seconds > CHAIN_SECONDS and not self.is_body else None
        if slicing is not None:
            self._lower_parts(node, kernel, arrays, output, slicing, seconds, control)
        else:
            self._lower_whole(node, kernel, arrays, output, seconds, control)
            if told:
                self.plan.units[self.done[node.id][0]].told = told

    # --- sources and updates

    def _placeholder(self, node: Node) -> None:
        tensor = node.outputs[0]
        raise FeedError(
            f"placeholder {tensor.name} {format_spec(tensor.shape, tensor.dtype)} is not fed",
            rows=[("made at", where(node.location))],
            help=f"add it to the feeds: session.run(fetches, {{{tensor.name.rpartition('/')[2]}: array}})",
        )

    def _constant(self, node: Node) -> None:
        self.plan.constants.append((self.source(node.outputs[0]), node.attrs["value"]))

    def _variable(self, node: Node) -> None:
        self.plan.variables.append((node, self.source(node.outputs[0])))

    def _run_key(self, node: Node) -> None:
        self.plan.run_key = self.source(node.outputs[0])

    def _finish_update(self, node: Node) -> None:
        units = {unit for before in node._context.control for unit in self.done[before.id]}
        if node.op.name == "assign":
            slot = self.slot[node.inputs[1]]
            self.plan.updates.append((node.inputs[0].node, slot))
            units.update(self.makers.get(slot, ()))
        self.done[node.id] = tuple(sorted(units))

    # --- what need not be computed

    def stand_in(self, node: Node, tensor: Tensor) -> None:
        """``tensor`` has the value of ``node``."""
        slot = self.slot[node.outputs[0]] = self.slot[tensor]
        self.done[node.id] = self.makers.get(slot, ())

    def known(self, node: Node, value: Any) -> None:
        """The value of ``node`` is known."""
        self.plan.constants.append((self.source(node.outputs[0]), value))
        self.done[node.id] = ()

    # --- sub-graphs

    def _lower_bodies(self, node: Node, inputs: Sequence[Any], output: Any, control: set[int]) -> None:
        """A node that holds sub-graphs: their plans are made for the shapes that they will be given."""
        subs = [node.attrs[name] for name in node.op.bodies]
        specs = node.op.body_inputs(*inputs, **node.attrs)
        bodies = tuple(self.compile_body(sub, [spec.shape for spec in given], self.device) for sub, given in zip(subs, specs, strict=True))
        if self.plan.run_slot < 0:
            self.plan.run_slot = self.new_slot()
            self.external.add(self.plan.run_slot)
        arrays = (self.plan.run_slot, *(self.slot[tensor] for tensor in node.inputs))
        seconds = node.op.trips(*inputs, **node.attrs) * sum(body.seconds for body in bodies)
        self._lower_whole(node, node.op.bind(self.device.xp, node.attrs), arrays, output, seconds, control, bodies)
        twin = node.attrs.get("extends")
        while twin is not None:
            self.slot.update({theirs: self.slot[ours] for theirs, ours in zip(twin.outputs, node.outputs, strict=False)})
            self.done[twin.id] = self.done[node.id]
            twin = twin.attrs.get("extends")

    # --- kernels

    def _bound(self, node: Node, inputs: Sequence[Any]) -> tuple[Callable[..., Any], tuple[int, ...], dict[int, Spec]]:
        """The kernel as a function of arrays, and their slots; inputs of which only the shape counts become part of the function."""
        kernel = node.op.bind(self.device.xp, node.attrs)
        told = {i: Spec(inputs[i].shape, inputs[i].dtype) for i in node.op.shape_inputs if i < len(inputs) and is_known(inputs[i].shape)}
        slots = tuple(self.slot[tensor] for i, tensor in enumerate(node.inputs) if i not in told)
        return (_with_specs(kernel, told, len(inputs)) if told else kernel), slots, told

    def _add(self, unit: Unit, after: set[int]) -> int:
        self.plan.units.append(unit)
        self.after.append(after)
        return len(self.plan.units) - 1

    def _lower_whole(
        self,
        node: Node,
        kernel: Callable[..., Any],
        arrays: tuple[int, ...],
        output: Any,
        seconds: float,
        control: set[int],
        bodies: tuple[Plan, ...] = (),
    ) -> None:
        after = control.union(*(self.makers.get(slot, ()) for slot in arrays))
        slot = self.new_slot()
        unit = Unit(node, kernel, arrays, slot, self.device.name, spec=_known(output), bodies=bodies, seconds=seconds)
        if unit.spec is None:
            self.unsized += 1
        if node.op.is_view and arrays:
            self.alias[slot] = arrays[0]
        elif node.op.takes_out and unit.spec is not None and unit.spec.nbytes >= POOLED_BYTES:
            unit.mode = "take"
        index = self._add(unit, after)
        self.makers[slot] = (index,)
        self.done[node.id] = (index,)
        if len(node.outputs) == 1:
            self.slot[node.outputs[0]] = slot
            return
        unit.mode, unit.spec = "fresh", None
        unit.several = sum(made.nbytes for made in map(_known, map(self.spec, node.outputs)) if made is not None)
        for position, tensor in enumerate(node.outputs):
            part = self.slot[tensor] = self.new_slot()
            self.alias[part] = slot
            self.makers[part] = (self._add(Unit(node, itemgetter(position), (slot,), part, self.device.name), {index}),)

    # --- slices

    def _slicing(self, node: Node, output: Any, inputs: Sequence[Any], seconds: float) -> tuple[Slicing, int] | None:
        if not node.op.takes_out or len(node.outputs) != 1 or not all(is_known(s.shape) for s in (output, *inputs)):
            return None
        slicing = node.op.slicing(output, *inputs, **node.attrs)
        if slicing is None:
            return None
        for cut, tensor in zip(slicing.inputs, node.inputs, strict=True):
            made = self.parts.get(self.slot.get(tensor, -1), ())
            if cut and made and made[-1][1] == slicing.length:
                return slicing, len(made)
        if seconds < SLICE_SECONDS:
            return None
        count = 2
        while count < MAX_PARTS and seconds / count > 1.5 * PART_SECONDS:
            count *= 2
        return (slicing, min(count, slicing.length)) if slicing.length > 1 else None

    def _lower_parts(
        self,
        node: Node,
        kernel: Callable[..., Any],
        arrays: tuple[int, ...],
        output: Any,
        chosen: tuple[Slicing, int],
        seconds: float,
        control: set[int],
    ) -> None:
        slicing, count = chosen
        spec = Spec(output.shape, output.dtype)
        summed = slicing.join == "sum"
        buffer = self.new_slot()
        self.buffers[buffer] = Spec((count, *spec.shape), spec.dtype) if summed else spec
        told = [i for i in node.op.shape_inputs if i < len(node.inputs)]
        cut = tuple(c for i, c in enumerate(slicing.inputs) if i not in told)
        parts: list[tuple[int, int, int]] = []
        for part in range(count):
            low, high = part * slicing.length // count, (part + 1) * slicing.length // count
            after = set(control)
            for slot, sliced in zip(arrays, cut, strict=True):
                after.update(self._rows_of(slot, low, high) if sliced else self.makers.get(slot, ()))
            unit = Unit(
                node,
                kernel,
                arrays,
                self.new_slot(),
                self.device.name,
                mode="partial" if summed else "part",
                spec=spec,
                buffer=buffer,
                rows=(part, part + 1) if summed else (low, high),
                read=(low, high),
                cut=cut,
                seconds=seconds / count,
            )
            parts.append((low, high, self._add(unit, after)))
        units = tuple(unit for _, _, unit in parts)
        self.makers[buffer] = units
        if not summed:
            self.slot[node.outputs[0]] = buffer
            self.parts[buffer] = parts
            self.done[node.id] = units
            return
        total = self.slot[node.outputs[0]] = self.new_slot()
        unit = Unit(node, _add_up, (buffer,), total, self.device.name, spec=spec, seconds=1e-6 + spec.nbytes * count / 6e9)
        if spec.nbytes >= POOLED_BYTES:
            unit.mode = "take"
        self.makers[total] = self.done[node.id] = (self._add(unit, set(units)),)

    def _rows_of(self, slot: int, low: int, high: int) -> tuple[int, ...]:
        """The units that make rows low...high of a slot."""
        made = self.parts.get(slot)
        if made is None:
            return self.makers.get(slot, ())
        return tuple(unit for first, last, unit in made if first < high and last > low)


_SOURCES = frozenset({"placeholder", "constant", "variable", "run_key"})


def _known(spec: Any) -> Spec | None:
    return Spec(spec.shape, spec.dtype) if is_known(spec.shape) else None


def _with_specs(kernel: Callable[..., Any], told: dict[int, Spec], count: int) -> Callable[..., Any]:
    """``kernel`` with the specs in ``told`` put between the arrays."""
    if min(told) == count - len(told):  # they stand last, as nearly always
        tail = tuple(told.values())
        return lambda *arrays, **out: kernel(*arrays, *tail, **out)

    def call(*arrays: Any, **out: Any) -> Any:
        rest = iter(arrays)
        return kernel(*(told[i] if i in told else next(rest) for i in range(count)), **out)

    return call


def _add_up(parts: Any, out: Any = None) -> Any:
    return parts.sum(axis=0, out=out)
