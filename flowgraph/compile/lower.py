"""Lower: nodes become units over slots. Nodes that only pass their input on vanish; big kernels are cut into fixed slices.

How a kernel is cut depends on shapes alone, never on the number of threads, so that the bits of a result do not either. What is cut on one
device is copied to another in the same parts.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import compress, pairwise
from operator import itemgetter
from typing import Any, cast

import numpy as np

from ..devices import GIVEN, Device
from ..errors import FeedError
from ..graph import Node, Shape, Spec, SubGraph, Tensor
from ..graph.op import Op, Slicing
from ..graph.report import where
from ..graph.spec import format_spec, is_known
from .columns import LARGE, columns_of, ids_of
from .copies import copy_node, copy_seconds, receive_node
from .cost import CALL_SECONDS
from .forecast import node_seconds
from .fuse import FusedNode, Made
from .kinds import POOLED_BYTES, Kind, Kinds
from .layout import Sizes, Strides, is_copied, permuted
from .place import EVERYWHERE, Placement, check_request
from .plain import PlainNodes
from .plan import COLUMNS, ENTRY, ROWS, WHOLE, Plan, Unit
from .rows import LoopCut, cut_loop
from .simplify import Simplified
from .units import Units

# A kernel worth more than SLICE_SECONDS is cut into parts of about PART_SECONDS, at most MAX_PARTS of them; where its input is cut
# already, from CHAIN_SECONDS on, so that a chain of kernels stays on one slice while it is in the cache.
SLICE_SECONDS = 0.5e-3
PART_SECONDS = 1e-3
CHAIN_SECONDS = 0.05e-3
MAX_PARTS = 8
# Parts of the last axis begin at multiples of this: rows of them at a line of the cache, where those of the whole do.
GRAIN = 32

# So many plain nodes that follow each other are worth to be lowered together.
STRETCH = 128


class Lowering:
    """The state of one lowering: fills ``plan`` and says, for each unit, which it depends on.

    devices    those that nodes may ask for, the first for what is not placed
    placement  where nodes run, where that may be several devices
    """

    def __init__(
        self,
        plan: Plan,
        specs: Mapping[Tensor, Spec],
        devices: Sequence[Device],
        compile_body: Callable[[SubGraph, Sequence[Shape], Device], Plan],
        is_body: bool,
        compiled: Callable[[Any], Callable[..., Any]] | None,
        placement: Placement | None = None,
    ) -> None:
        self.plan, self.specs, self.device = plan, specs, devices[0]  # the device: of the node that is being lowered
        self.names, self.placement = tuple([device.name for device in devices]), placement
        self.compile_body, self.is_body = compile_body, is_body
        self.kinds = Kinds(self.device, compiled)  # those of that device
        self._by_device = {device.name: (device, self.kinds if device is self.device else self.kinds.on(device)) for device in devices}
        self.homes: dict[int, str] = {}  # slots that no unit fills -> their device, where there are several
        self.copies: dict[tuple[int, str], int] = {}  # (slot, device) -> the slot of its copy there
        self.sent: dict[int, int] = {}  # slot on another device than the host -> the slot of what is on its way to the host
        self.constants: dict[int, Any] = {}  # slot -> the array of the host that it holds
        self.plain: dict[Op, dict[tuple[int, ...], Kind]] = {}  # kinds of nodes that are one kernel: by op and the codes of the inputs
        self.slot: dict[Tensor, int] = {}
        self.alias: dict[int, int] = {}  # slot -> slot of the storage that it shares
        self.codes: list[int] = []  # of each slot the number of its spec among the kinds, -1 for what no node reads
        self.maker: list[int] = []  # of each slot the unit that fills it, -1 if none does or slices do
        self.slices: dict[int, tuple[int, ...]] = {}  # slot -> the units that fill it, where those are slices
        self.parts: dict[int, list[tuple[int, int, int]]] = {}  # slot -> (first row, last row, unit), where slices fill its rows
        self.after: dict[int, set[int]] = {}  # unit -> the units that it waits for, where those are not the makers of its inputs
        self.done: dict[int, tuple[int, ...]] = {}  # id of a node without output -> the units after which it counts as run
        self.buffers: dict[int, Spec] = {}  # slots that slices are written into
        self.taken: dict[int, int] = {}  # slots that loops fill besides their own -> the units that take their arrays
        self.given: list[int] = []  # the units that write into an array that they are given: whole ("take") or rows of it
        self.unsized = 0  # kernels whose result has a size that only a run knows
        self.strides: dict[int, Strides] = {}  # slots of views in another order than C's, where known -> their strides, in elements
        self.external: set[int] = set()  # slots whose memory is not the run's own
        self.place = np.empty(0, np.int64)  # of a large graph, for each node the slot of its first output

    def new_slot(self, code: int = -1, maker: int = -1) -> int:
        self.codes.append(code)
        self.maker.append(maker)
        return len(self.codes) - 1

    def source(self, tensor: Tensor) -> int:
        slot = self.slot[tensor] = self.new_slot(self.kinds.code(self.spec(tensor)))
        self.external.add(slot)
        if self.placement is not None:
            self.homes[slot] = self.placement.home(tensor)
        return slot

    def spec(self, tensor: Tensor) -> Any:
        return self.specs.get(tensor, tensor)

    def lower(self, nodes: list[Node], feeds: Collection[Tensor], simplified: Simplified) -> None:
        """Adds the units of ``nodes``, which come behind what they read."""
        self._fed, self._simplified = feeds, simplified
        for _, kinds in self._by_device.values():
            kinds.allows = simplified.allows
        self._given = {tensor.node for tensor in (*feeds, *simplified.same, *simplified.values)}
        if self.placement is not None:
            self._lower_placed(nodes, self.placement)
        elif len(nodes) < LARGE or FusedNode in set(map(type, nodes)):  # (the graph has no columns for these)
            self._lower_each(nodes)
        else:
            self._lower_stretches(nodes)

    def _lower_placed(self, nodes: Iterable[Node], placement: Placement) -> None:
        """The same where nodes run on several devices."""
        for node in nodes:
            self._enter(placement.device.get(node, self.names[0]))
            self._lower_each((node,))

    def _enter(self, device: str) -> None:
        """From here on units are made for another device."""
        self.device, self.kinds = self._by_device[device]

    def _lower_stretches(self, nodes: list[Node]) -> None:
        """The same for a large graph: where many plain nodes follow each other, their units are made together, as columns."""
        same = {out.node.id: target for out, target in self._simplified.same.items()}  # (each is its node's only output)
        ids = ids_of(nodes)
        is_gone = np.zeros(columns_of(nodes[0].graph).count, bool)
        is_gone[list(same)] = True  # these run nothing; what stands in for them is found where they are read
        is_kept = ~is_gone[ids]
        kept = np.flatnonzero(is_kept)
        run = list(compress(nodes, is_kept.tobytes()))
        if not run:
            return
        stands_in = {number: target.node.id for number, target in same.items() if not target.index}

        def is_whole(kind: Kind) -> bool:
            return self.is_body or kind.seconds <= CHAIN_SECONDS

        plain = PlainNodes(run, ids[kept], self.kinds, self.spec, self.specs, stands_in, is_whole)
        is_given = np.zeros(len(is_gone), bool)
        is_given[[node.id for node in self._given]] = True
        runs = plain.runs(is_given, STRETCH)
        if not runs:
            self._lower_each(nodes)
            return
        units = self.plan.units = Units(self.device.name)
        self.place = np.full(len(is_given), -1)
        for tensor in self._fed:
            if tensor.index == 0:
                self.place[tensor.node.id] = self.slot[tensor]
        done = 0
        for start, end in runs:
            if done < start:
                self._lower_between(nodes[kept[done] : kept[start - 1] + 1])
            first, index = len(self.codes), len(units)
            units.extend(plain.stretch(start, end, self.place, first))
            self.codes += plain.codes(start, end)
            self.maker += range(index, index + end - start)
            done = end
        self._lower_between(nodes[kept[done - 1] + 1 :])

    def _lower_between(self, nodes: Sequence[Node]) -> None:
        """Lowers the nodes between two stretches, which may read these and be read by them."""
        for node in nodes:
            for tensor in node.inputs:
                self.slot_of(tensor)
            for before in node._context.control:
                for tensor in before.outputs:
                    self.slot_of(tensor)
        self._lower_each(nodes)
        for node in nodes:
            if node.outputs:
                self.place[node.id] = self.slot_of(node.outputs[0])

    def slot_of(self, tensor: Tensor) -> int:
        """The slot of a tensor, -1 if it has none."""
        slot = self.slot.get(tensor, -1)
        if slot < 0 and tensor in self._simplified.same:
            slot = self.slot_of(self._simplified.same[tensor])
            if slot >= 0:
                self.slot[tensor] = slot
        if slot < 0 and not tensor.index and tensor.node.id < len(self.place):
            slot = int(self.place[tensor.node.id])
            if slot >= 0:
                self.slot[tensor] = slot
        return slot

    def _lower_each(self, nodes: Iterable[Node]) -> None:
        """Adds the units of ``nodes`` one by one."""
        given, feeds = self._given, self._fed
        same, values = self._simplified.same, self._simplified.values
        slot, slot_of, code_of = self.slot, self.slot.__getitem__, self.codes.__getitem__
        codes, maker, units, device = self.codes, self.maker, self.plan.units, self.device.name
        for node in nodes:
            if node in given:
                out = node.outputs[0]
                if out in same:
                    slot[out] = self.slot_of(same[out])
                    continue
                if out in values and out not in feeds:
                    self._add_constant(out, values[out])
                    continue
                if all(tensor in feeds for tensor in node.outputs):
                    continue
            # Most nodes are plain (see `Kind`), and of a kind that was met before.
            kinds = self.plain.get(node.op)
            context = node._context
            if kinds is None or context.control or context.device or node.attrs:
                self._lower(node)
                continue
            slots = tuple(map(slot_of, node.inputs))
            kind = kinds.get(tuple(map(code_of, slots)))
            if kind is None:
                self._lower(node)
                continue
            output = slot[node.outputs[0]] = len(codes)
            codes.append(kind.codes[0])
            maker.append(len(units))
            units.append(kind.unit(node, slots, output, device))

    def _lower(self, node: Node) -> None:
        """Adds the units of any node."""
        context = node._context
        if context.device is not None:
            check_request(node, context.device, self.names, in_body=self.is_body)
        apart = _APART.get(node.op.name)
        if apart is not None:
            apart(self, node)
            return
        if node.op.shape_inputs:  # what is told may have no slot
            slots = tuple([self.slot.get(tensor, -1) for tensor in node.inputs])
            codes = tuple([self.kinds.code(self.spec(tensor)) for tensor in node.inputs])
        else:
            slots = tuple([self.slot[tensor] for tensor in node.inputs])
            codes = tuple([self.codes[slot] for slot in slots])
        kind = self.kinds.of(node, codes, self.spec)
        if not self.device.is_host:
            kind.seconds = node_seconds(node, self.device.name, self.spec, GIVEN)
        control = frozenset(self._makers_of_nodes(context.control)) if context.control else _NOTHING
        if kind.passes and not control:
            self.slot[node.outputs[0]] = slots[0]
            return
        if node.op.repeats:
            self._lay_out(slots[node.attrs["carries"] + node.attrs.get("xs", 0) :])
        if self.placement is not None:
            given = slots
            slots = tuple([slot if i in kind.told else self._here(slot, node.inputs[i]) for i, slot in enumerate(slots)])
            if node.op.looks and slots[0] != given[0] and self.is_host(self.home(given[0])) and not self.device.is_host:
                self._look(node, kind, slots, given[0], control)
                return
        if node.op.bodies:
            self._lower_bodies(node, kind, slots, control)
        elif isinstance(node, FusedNode):
            large = kind.seconds > CHAIN_SECONDS and not self.is_body and self.device.is_cut
            self._lower_fused(node, kind, slots, self._slicing(node, kind, slots, codes) if large else None)
        elif kind.seconds > CHAIN_SECONDS and not self.is_body and self.device.is_cut:
            slicing = self._slicing(node, kind, slots, codes)
            if slicing is not None:
                self._lower_parts(node, kind, slots, slicing, control)
            else:
                self._lower_whole(node, kind, slots, control)
        else:
            self._lower_whole(node, kind, slots, control)
            if kind.is_plain and not (node.attrs or control) and self.placement is None:
                self.plain.setdefault(node.op, {})[codes] = kind

    def makers(self, slot: int) -> tuple[int, ...]:
        """The units that fill a slot."""
        maker = self.maker[slot]
        return (maker,) if maker >= 0 else self.slices.get(slot, ())

    def reorder(self, order: Sequence[int]) -> None:
        """Puts the units in another order, in which each comes behind those that it waits for, too."""
        place = [0] * len(order)
        for new, old in enumerate(order):
            place[old] = new
        units = self.plan.units
        self.plan.units = [units[old] for old in order]
        self.maker = [place[unit] if unit >= 0 else unit for unit in self.maker]
        self.slices = {slot: tuple([place[unit] for unit in made]) for slot, made in self.slices.items()}
        self.after = {place[unit]: {place[before] for before in after} for unit, after in self.after.items()}
        self.taken = {slot: place[unit] for slot, unit in self.taken.items()}
        self.given = sorted([place[unit] for unit in self.given])

    def waits(self) -> list[set[int]]:
        """For each unit the units that it waits for."""
        result = []
        for index, unit in enumerate(self.plan.units):
            after = self.after.get(index)
            if after is None:
                after = set()
                for slot in unit.inputs:
                    after.update(self.makers(slot))
            result.append(after)
        return result

    def _makers_of_nodes(self, nodes: Sequence[Node]) -> set[int]:
        """The units after which all of ``nodes`` have run."""
        result: set[int] = set()
        for node in nodes:
            result.update(self.makers(self.slot[node.outputs[0]]) if node.outputs else self.done[node.id])
        return result

    # --- sources and updates

    def _placeholder(self, node: Node) -> None:
        tensor = node.outputs[0]
        raise FeedError(
            f"placeholder {tensor.name} {format_spec(tensor.shape, tensor.dtype)} is not fed",
            rows=[("made at", where(node.location))],
            help=f"add it to the feeds: session.run(fetches, {{{tensor.name.rpartition('/')[2]}: array}})",
        )

    def _constant(self, node: Node) -> None:
        self._add_constant(node.outputs[0], node.attrs["value"])

    def _add_constant(self, tensor: Tensor, value: Any) -> None:
        slot = self.source(tensor)
        self.constants[slot] = value
        self.plan.constants.append((slot, value))
        if self.placement is None and not self.device.is_host:
            self.plan.on[slot] = self.device.name

    def _variable(self, node: Node) -> None:
        self.plan.variables.append((node, self.source(node.outputs[0])))

    def _run_key(self, node: Node) -> None:
        self.plan.run_key = self.source(node.outputs[0])

    def _finish_update(self, node: Node) -> None:
        units = self._makers_of_nodes(node._context.control)
        if node.op.name == "assign":
            slot = self.slot[node.inputs[1]]
            if self.placement is not None:
                self._enter(self.placement.home(node.inputs[0]))
                slot = self._here(slot, node.inputs[1])
            self.plan.updates.append((node.inputs[0].node, slot))
            units.update(self.makers(slot))
        self.done[node.id] = tuple(sorted(units))

    # --- sub-graphs

    def _lower_bodies(self, node: Node, kind: Kind, slots: tuple[int, ...], control: frozenset[int]) -> None:
        """A node that holds sub-graphs: their plans are made for the shapes that they will be given."""
        subs = [node.attrs[name] for name in node.op.bodies]
        inputs = [self.spec(tensor) for tensor in node.inputs]
        specs = node.op.body_inputs(*inputs, **node.attrs)
        if self.plan.run_slot < 0:
            self.plan.run_slot = self.new_slot()
            self.external.add(self.plan.run_slot)
            self.homes[self.plan.run_slot] = EVERYWHERE
        trips = node.op.trips(*inputs, **node.attrs)
        is_sized = all(is_known(self.kinds.specs[code].shape) for code in kind.codes)
        cut = cut_loop(node, specs[0]) if is_sized and not self.is_body and self.device.is_cut else None
        if cut is not None:
            self._lower_loop_parts(node, kind, slots, cut, trips, control)
        else:
            bodies = tuple(
                self.compile_body(sub, [spec.shape for spec in given], self.device) for sub, given in zip(subs, specs, strict=True)
            )
            seconds = trips * sum(body.seconds for body in bodies)
            self._lower_whole(node, kind, (self.plan.run_slot, *slots), control, bodies, seconds)
        twin = node.attrs.get("extends")
        while twin is not None:
            self.slot.update({theirs: self.slot[ours] for theirs, ours in zip(twin.outputs, node.outputs, strict=False)})
            if len(self.place):
                self.place[twin.id] = self.slot[twin.outputs[0]]
            twin = twin.attrs.get("extends")

    def _lay_out(self, slots: Iterable[int]) -> None:
        """Makes of a transposed view that all turns of a loop read a copy in C order.

        Products with it are quicker (of 64x512 and 512x128 41 us, and 55 with the view; the copy takes 72), and tapes need it so.
        """
        for slot in slots:
            index = self.maker[slot]
            unit = self.plan.units[index] if index >= 0 else None
            if unit is None or slot not in self.alias or unit.node.op.name != "permute_dims" or unit.spec is None:
                continue
            code = self.codes[unit.inputs[0]]
            shape = self.kinds.specs[code].shape if code >= 0 else ()
            if not is_known(shape) or not self.is_host(unit.device):
                continue
            made = permuted(cast("Sizes", shape), self.strides.get(unit.inputs[0]), unit.node.attrs["axes"])
            if is_copied(unit.spec.shape, made, (unit.spec.size,)):
                unit.kernel, unit.nbytes, unit.seconds = InOrder(unit.kernel), unit.spec.nbytes, copy_seconds(unit.spec)
                del self.alias[slot]
                self.strides.pop(slot, None)
                if unit.nbytes >= POOLED_BYTES:
                    unit.mode = "take"
                    insort(self.given, index)

    # --- kernels

    def _add(self, unit: Unit, after: set[int] | None = None) -> int:
        """Adds a unit, which waits for the makers of its inputs or, if given, for ``after``."""
        index = len(self.plan.units)
        self.plan.units.append(unit)
        if unit.mode != "fresh":
            self.given.append(index)
        if after is not None:
            self.after[index] = after
        return index

    def _lower_whole(
        self,
        node: Node,
        kind: Kind,
        slots: tuple[int, ...],
        control: frozenset[int],
        bodies: tuple[Plan, ...] = (),
        seconds: float = 0.0,
    ) -> None:
        index = len(self.plan.units)
        output = self.new_slot(kind.codes[0], index)
        arrays = slots if not kind.told else tuple([slot for i, slot in enumerate(slots) if i not in kind.told])
        unit = kind.unit(node, arrays, output, self.device.name)
        is_view = kind.is_view and bool(arrays)
        if is_view and kind.spec is not None and self.device.is_host and self._is_copied(node, kind, arrays[0], output):
            is_view, unit.kernel, unit.mode, unit.nbytes = False, _copied, "take", kind.spec.nbytes
        self.plan.units.append(unit)
        if unit.mode != "fresh":
            self.given.append(index)
        if kind.spec is None:
            self.unsized += 1
        if control:
            self.after[index] = set(control).union(*[self.makers(slot) for slot in arrays])
        if is_view:
            self.alias[output] = arrays[0]
        if kind.passes and arrays[0] in self.parts:  # what reads it is cut as it would be without the wait
            self.parts[output] = [(low, high, index) for low, high, _ in self.parts[arrays[0]]]
        if len(node.outputs) == 1:
            self.slot[node.outputs[0]] = output
        else:
            self._hand_out(node, unit, kind)
        if bodies:
            unit.bodies, unit.seconds = bodies, seconds

    def _look(self, node: Node, kind: Kind, slots: tuple[int, ...], source: int, control: frozenset[int]) -> None:
        """A kernel that only looks at values of the host that are copied to a GPU: it looks at them there, and waits for nothing."""
        self._lower_whole(node, kind, slots, control)
        unit = self.plan.units[-1]
        unit.inputs, unit.kernel = (*unit.inputs, source), Looking(unit.kernel)
        if control:
            self.after[len(self.plan.units) - 1].update(self.makers(source))

    def _is_copied(self, node: Node, kind: Kind, source: int, output: int) -> bool:
        """Whether a reshape of ``source`` has to copy it, as far as is known, and is large enough to be given memory of its own."""
        strides, spec, code = self.strides.get(source), kind.spec, self.codes[source]
        if spec is None or spec.nbytes < POOLED_BYTES or code < 0 or not is_known(self.kinds.specs[code].shape):
            return False
        shape, target = cast("Sizes", self.kinds.specs[code].shape), cast("Sizes", spec.shape)
        if node.op.name == "permute_dims":
            made = permuted(shape, strides, node.attrs["axes"])
            if is_copied(target, made, (spec.size,)):
                self.strides[output] = made
            return False
        return node.op.name in ("reshape", "reshape_like") and strides is not None and is_copied(shape, strides, target)

    def _hand_out(self, node: Node, unit: Unit, kind: Kind) -> None:
        """A unit for each output of a kernel that makes several."""
        self.codes[unit.output] = -1
        unit.spec = None
        for position, (tensor, code) in enumerate(zip(node.outputs, kind.codes, strict=True)):
            if tensor in self.slot:  # it is fed
                continue
            index = self._add(Unit(node, itemgetter(position), (unit.output,), len(self.codes), self.device.name, part=position))
            part = self.slot[tensor] = self.new_slot(code, index)
            self.alias[part] = unit.output

    # --- copies to other devices

    def is_host(self, device: str) -> bool:
        """Whether the device of that name is the host or a part of it."""
        return self._by_device[device][0].is_host

    def home(self, slot: int) -> str:
        """The device that a slot's value is on, or EVERYWHERE."""
        if self.placement is None:
            return self.device.name
        home = self.homes.get(slot)
        if home == EVERYWHERE and slot == self.plan.run_key and not self.device.is_host:
            return next(name for name in self.names if self.is_host(name))  # (of small numbers that are new in each run, a copy)
        return self.plan.units[self.makers(slot)[0]].device if home is None else home

    def _here(self, slot: int, tensor: Tensor) -> int:
        """The slot with the value of ``slot``, which is that of ``tensor``, on the device of the node that is being lowered."""
        home, here = self.home(slot), self.device.name
        if home == EVERYWHERE and not self.device.is_host and slot in self.constants:
            return self._constant_here(slot)
        if home in (here, EVERYWHERE):
            return slot
        if (slot, here) not in self.copies:
            is_far = not (self.device.is_host and self.is_host(home))
            parts = None if is_far else self.parts.get(slot)
            self.copies[slot, here] = self._copy_whole(slot, tensor) if parts is None else self._copy_parts(slot, tensor, parts)
        return self.copies[slot, here]

    def _constant_here(self, slot: int) -> int:
        """The slot of a constant's array on the device of the node that is being lowered."""
        here = self.device.name
        if (slot, here) not in self.copies:
            copy = self.copies[slot, here] = self.new_slot(self.codes[slot])
            self.external.add(copy)
            self.homes[copy], self.plan.on[copy] = here, here
            self.plan.constants.append((copy, self.constants[slot]))
        return self.copies[slot, here]

    def send(self, tensor: Tensor, slot: int) -> int:
        """The slot of the value of ``slot``, which is not on the host, on its way there."""
        if slot not in self.sent:
            source, _ = self._by_device[self.home(slot)]
            self.sent[slot] = self._copy(slot, tensor, source, source.sent, "the host")
        return self.sent[slot]

    def bring_home(self, fetches: Sequence[Tensor | Node], device_arrays: bool) -> None:
        """Sends what is fetched and not on the host there, or notes where it stays."""
        away = {}
        for place, (fetch, slot) in enumerate(zip(fetches, self.plan.fetches, strict=True)):
            if not isinstance(fetch, Tensor) or self.home(slot) == EVERYWHERE or self.is_host(self.home(slot)):
                continue
            if device_arrays:
                away[slot] = self.home(slot)
            else:
                self.plan.fetches[place] = self.send(fetch, slot)
        self.plan.away = away

    def _copy_whole(self, slot: int, tensor: Tensor) -> int:
        here, source = self.device, self._by_device[self.home(slot)][0]
        if source.is_host or not here.is_host:
            return self._copy(slot, tensor, here, here.copier(source), here.name)
        sent = self.send(tensor, slot)
        arrived = self.new_slot(self.codes[slot], len(self.plan.units))
        told = self.kinds.specs[self.codes[slot]]
        spec = Spec(told.shape, told.dtype) if is_known(told.shape) else None
        self._add(Unit(receive_node(tensor, source.name), _received, (sent,), arrived, here.name, spec=spec, seconds=CALL_SECONDS))
        return arrived

    def _copy(self, slot: int, tensor: Tensor, here: Device, kernel: Callable[..., Any], target: str) -> int:
        """The slot of a copy of the whole of ``slot``, which ``here`` makes."""
        told = self.kinds.specs[self.codes[slot]]
        copy = self.new_slot(self.codes[slot], len(self.plan.units))
        spec = Spec(told.shape, told.dtype) if is_known(told.shape) else None
        seconds = copy_seconds(told)
        if not (here.is_host and self.is_host(self.home(slot))):
            seconds = GIVEN.link(self.home(slot), target if target in self.names else "cpu:0").seconds(spec.nbytes if spec else 0)
        unit = Unit(copy_node(tensor, target), kernel, (slot,), copy, here.name, spec=spec, seconds=seconds)
        unit.nbytes = 0 if spec is None else spec.nbytes
        self._add(unit)
        if slot in self.strides:
            self.strides[copy] = self.strides[slot]
        return copy

    def _copy_parts(self, slot: int, tensor: Tensor, parts: Sequence[tuple[int, int, int]]) -> int:
        """What slices fill, each part as soon as it is there; so what reads the copy is cut as it would be without it."""
        spec, here = self.buffers.get(slot) or cast("Spec", self.kinds.specs[self.codes[slot]]), self.device
        copy, node = self.new_slot(self.codes[slot]), copy_node(tensor, here.name)
        self.buffers[copy] = Spec(spec.shape, spec.dtype)
        made = []
        for part, (low, high, maker) in enumerate(parts):
            unit = Unit(node, here.copied, (slot,), self.new_slot(), here.name, "part", spec, copy_seconds(spec) / len(parts))
            unit.buffer, unit.read, unit.part, unit.cut = copy, (low, high), part, (ROWS,)
            made.append((low, high, self._add(unit, {maker})))
        self.slices[copy], self.parts[copy] = tuple([unit for _, _, unit in made]), made
        return copy

    # --- loops

    def _lower_fused(self, node: FusedNode, kind: Kind, slots: tuple[int, ...], chosen: tuple[Slicing, int] | None) -> None:
        """A compiled loop. It fills its last result as any kernel does, and the others as arrays that it is given."""
        others = node.op.results[:-1]
        writes = []
        for made in others:
            spec, slot = made.spec, self.new_slot(self.kinds.code(made.spec))
            writes.append(slot)
            if chosen is not None:
                self.buffers[slot] = Spec((chosen[1], *spec.shape), spec.dtype) if made.is_total else spec
            else:
                taken = self._add(Unit(node, as_given, (), slot, self.device.name, "take", spec, nbytes=spec.nbytes))
                self.maker[slot], self.taken[slot] = taken, taken
        first = len(self.plan.units)
        if chosen is None:
            self.after[first] = set().union(*[self.makers(slot) for slot in (*slots, *writes)])
            self._lower_whole(node, kind, (*slots, *writes), _NOTHING)
        else:
            self._lower_parts(node, kind, (*slots, *writes), chosen, _NOTHING, others)
        units = [i for i in range(first, len(self.plan.units)) if self.plan.units[i].kernel is kind.kernel]
        for i in units:
            self.plan.units[i].writes = tuple(writes)
        for slot, made in zip(writes, others, strict=True):
            self.maker[slot], self.slices[slot] = -1, tuple(units)
            if chosen is not None and made.is_total:
                slot = self._add_parts_up(node, slot, made.spec, chosen[1], "take" if made.spec.nbytes >= POOLED_BYTES else "fresh")
            elif chosen is not None:
                self.parts[slot] = [(*self.plan.units[i].read, i) for i in units]
            self.slot[made.tensor] = slot

    # --- slices

    def _slicing(self, node: Node, kind: Kind, slots: Sequence[int], codes: Sequence[int]) -> tuple[Slicing, int] | None:
        """How a kernel is cut, and into how many slices; None where it runs whole."""
        inputs = [self.kinds.specs[code] for code in codes]
        if not node.op.takes_out or len(node.outputs) != 1 or kind.spec is None or not all(spec.is_known for spec in inputs):
            return None
        slicing = node.op.slicing(kind.spec, *inputs, **node.attrs)
        allows = self._simplified.allows
        if slicing is not None:
            for cut, slot in zip(slicing.inputs, slots, strict=True):
                made = self.parts.get(slot, ())
                if cut and made and made[-1][1] == slicing.length:
                    return (slicing, len(made)) if allows is None or allows("cut", node) else None
        if kind.seconds < SLICE_SECONDS or (allows is not None and not allows("cut", node)):
            return None
        slicing = node.op.slicing_of_columns(kind.spec, *inputs, **node.attrs) or slicing
        if slicing is None:
            return None
        count = 2
        while count < MAX_PARTS and kind.seconds / count > 1.5 * PART_SECONDS:
            count *= 2
        return (slicing, min(count, slicing.length)) if slicing.length > 1 else None

    def _lower_parts(
        self,
        node: Node,
        kind: Kind,
        slots: Sequence[int],
        chosen: tuple[Slicing, int],
        control: frozenset[int],
        others: Sequence[Made] = (),
    ) -> None:
        slicing, count = chosen
        spec = kind.spec
        assert spec is not None  # what is cut has a known size
        summed = slicing.join == "sum"
        buffer = self.new_slot(kind.codes[0])
        self.buffers[buffer] = Spec((count, *spec.shape), spec.dtype) if summed else spec
        told = set(node.op.shape_inputs)
        arrays = tuple([slot for i, slot in enumerate(slots) if i not in told])
        along = ROWS if slicing.axis == 0 else COLUMNS
        grain = GRAIN if along == COLUMNS and slicing.length >= 4 * count * GRAIN else 1
        cut = tuple([along if c else WHOLE for i, c in enumerate(slicing.inputs) if i not in told])
        cut += tuple([ENTRY if made.is_total else ROWS for made in others])
        parts: list[tuple[int, int, int]] = []
        bounds = [(part * slicing.length // count + grain // 2) // grain * grain for part in range(count)] + [slicing.length]
        most = max(high - low for low, high in pairwise(bounds))
        scratch = kind.scratch and kind.scratch_of(
            node, [_part(self.spec(x), slicing.axis, most) if c else self.spec(x) for x, c in zip(node.inputs, slicing.inputs, strict=True)]
        )
        for part, (low, high) in enumerate(pairwise(bounds)):
            after = set(control)
            for slot, how in zip(arrays, cut, strict=True):
                after.update(self._rows_of(slot, low, high) if how in (ROWS, ENTRY) else self.makers(slot))
            unit = Unit(
                node,
                placed(kind.kernel, low * (spec.size // slicing.length)) if slicing.is_placed else kind.kernel,
                arrays,
                self.new_slot(),
                self.device.name,
                mode="partial" if summed else "part",
                spec=spec,
                buffer=buffer,
                part=part,
                read=(low, high),
                cut=cut,
                seconds=kind.seconds / count,
                scratch=scratch,
            )
            parts.append((low, high, self._add(unit, after)))
        self.slices[buffer] = tuple([unit for _, _, unit in parts])
        if not summed:
            self.slot[node.outputs[0]] = buffer
            if along == ROWS:
                self.parts[buffer] = parts
            return
        self.slot[node.outputs[0]] = self._add_parts_up(node, buffer, spec, count, kind.mode)

    def _lower_loop_parts(
        self, node: Node, kind: Kind, slots: tuple[int, ...], cut: LoopCut, trips: float, control: frozenset[int]
    ) -> None:
        """A loop in parts, each of which runs all turns and writes its rows of all results.

        Outputs that are the same in each turn, as what a sum hands on to its terms, have one stack.
        """
        after = set(control).union(*[self.makers(slot) for slot in slots])
        plans: dict[int, Plan] = {}  # rows -> the plan of the body for so many
        for (low, high), shapes in zip(cut.bounds, cut.shapes, strict=True):
            if high - low not in plans:
                plans[high - low] = self.compile_body(node.attrs[node.op.bodies[0]], shapes, self.device)
        stacks = node.op.stacks(*node.inputs, **node.attrs)
        stacked = stacks[2] if stacks else range(0)
        own: dict[Any, int] = {}
        writes: tuple[int, ...] = ()
        for place, code in enumerate(kind.codes):
            made = tuple([body.fetches[place] for body in plans.values()]) if place in stacked else place
            if made not in own:
                slot = own[made] = self.new_slot(code)
                self.buffers[slot] = self.kinds.specs[code]
            writes += (own[made],)
        units = []
        for part, (low, high) in enumerate(cut.bounds):
            body = plans[high - low]
            unit = Unit(
                node,
                cut.kernel(kind.kernel, part),
                (self.plan.run_slot, *slots, *writes),
                self.new_slot(),
                self.device.name,
                seconds=trips * body.seconds,
                part=part,
                read=(low, high),
                writes=writes,
                bodies=(body,),
            )
            units.append(self._add(unit, set(after)))
        self.given += units
        for tensor, slot in zip(node.outputs, writes, strict=True):
            self.slices[slot] = tuple(units)
            self.slot.setdefault(tensor, slot)  # (it may be fed)

    def _add_parts_up(self, node: Node, buffer: int, spec: Spec, count: int, mode: str) -> int:
        """A unit for the sum of the ``count`` entries of ``buffer``; its slot."""
        total = self.new_slot(self.kinds.code(spec), len(self.plan.units))
        seconds = 1e-6 + spec.nbytes * count / 6e9
        self._add(Unit(node, add_up, (buffer,), total, self.device.name, mode, spec, seconds, nbytes=spec.nbytes))
        return total

    def _rows_of(self, slot: int, low: int, high: int) -> tuple[int, ...]:
        """The units that make rows low...high of a slot."""
        made = self.parts.get(slot)
        if made is None:
            return self.makers(slot)
        return tuple(unit for first, last, unit in made if first < high and last > low)


_NOTHING: frozenset[int] = frozenset()

# Ops that run nothing: what they stand for is there at the start or written at the end.
_APART: dict[str, Callable[[Lowering, Node], None]] = {
    "placeholder": Lowering._placeholder,
    "constant": Lowering._constant,
    "variable": Lowering._variable,
    "run_key": Lowering._run_key,
    "assign": Lowering._finish_update,
    "group": Lowering._finish_update,
}


def as_given(out: Any) -> Any:
    """The kernel of what only makes the memory of a result: that memory."""
    return out


def placed(kernel: Callable[..., Any], first: int) -> Callable[..., Any]:
    """``kernel`` for a part whose first element has that place among all."""
    part = partial(kernel, first=first)
    part.__dict__.update(vars(kernel))  # (what it was compiled from)
    return part


def _received(sent: Any) -> Any:
    """What was sent to the host, once it is there; as kernels of the host get it."""
    array = sent.wait()
    return array if array.ndim else array[()]


def _copied(x: Any, out: Any) -> Any:
    """The kernel of a reshape that copies."""
    out.reshape(x.shape)[...] = x
    return out


class Looking:
    """The kernel that looks at ``x`` of the host, and gives its copy."""

    def __init__(self, look: Callable[..., Any]) -> None:
        self._look = look

    def __call__(self, copy: Any, x: Any) -> Any:
        self._look(x)
        return copy


class InOrder:
    """The kernel that copies what ``view`` gives to C order."""

    def __init__(self, view: Callable[..., Any]) -> None:
        self._view = view

    def __call__(self, x: Any, out: Any = None) -> Any:
        if out is None:
            return self._view(x).copy()
        out[...] = self._view(x)
        return out


def _part(spec: Any, axis: int, count: int) -> Spec:
    """``count`` of the rows, or columns, of an array."""
    shape = list(spec.shape)
    shape[axis] = count
    return Spec(tuple(shape), spec.dtype)


def add_up(parts: Any, out: Any = None) -> Any:
    """The kernel that makes the sum over a cut kernel's slices of what each of them has given."""
    if parts.size > len(parts) or out is not None:
        return parts.sum(axis=0, out=out)
    return np.add.accumulate(parts)[-1]  # (one behind the other, as arrays are; NumPy's sum goes another way with numbers)
