"""Sections: units of a task that follow each other and run as one tape (see `flowgraph.jit.tape`), without Python between their kernels.

What may be in one: NumPy's ufuncs, matrix products among them, compiled loops, convolutions and their kin, and the sum of the parts of a
cut sum, all on arrays in C order of known shapes, whole or rows of them; and views of such arrays, which cost nothing there. No kernel is
that could fail, but for want of memory, which is seen behind the section. The bits are those of the same kernels called one by one. What
is made and dies within a section lies in one piece of memory, its arena.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from ..graph import Node, Spec
from ..graph.spec import is_known
from ..jit.tape import SECONDS_WITH_LOCK, is_possible
from ..jit.ufuncs import code_of
from .cost import CALL_SECONDS
from .fuse import FusedNode
from .instructions import Area, Instruction, Shape, drawn, elementwise, fused_loop, in_c_order, joined, of_arrays, product, sum_of_parts
from .lower import InOrder, add_up, as_given
from .plan import COLUMNS, ENTRY, WHOLE, Plan, Unit
from .section import FEWEST, FEWEST_LONG, LONGEST_SECONDS, MOST_HELD_BYTES, Layout, Section
from .turns import told_of_turns, turns_of
from .windows import sliced, takes_all

_CAN_FAIL = frozenset({np.power, np.floor_divide, np.remainder, np.divmod, np.fmod})  # of integers
# What gives its input as it is, once it has looked at it.
_LOOKS = frozenset({"class_labels"})
_FREE_OF_ERRORS = frozenset("?bhilqBHILQfd")


class Sections:
    """Finds the sections of a plan.

    is_repeated  whether they are those of a loop's turns, of which nobody sees that memory was short
    """

    is_repeated = False

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.specs: dict[int, Any] = {}  # of the slots whose arrays are sure to lie in C order, where the feeds do
        self.specs.update({slot: array for slot, array in plan.constants if array.flags.c_contiguous})
        for (tensor, slot), shape in zip(plan.feeds, plan.shapes, strict=True):
            self.specs[slot] = Spec(shape, tensor.dtype)
        for node, slot in plan.variables:
            self.specs[slot] = node.outputs[0]
        self.views: dict[int, Unit] = {}  # slot -> the unit that makes it a view of another
        self.shared: dict[int, int] = {}  # slot -> the one whose array it takes over
        for unit in plan.units:
            if unit.mode in ("part", "partial"):
                self.specs[unit.buffer] = unit.spec if unit.mode == "part" else Spec((unit.part + 1, *unit.spec.shape), unit.spec.dtype)
            elif unit.node.op.name in _LOOKS:
                if unit.inputs[0] in self.specs:
                    self.specs[unit.output] = unit.spec
            elif _is_view(unit):
                self.views[unit.output] = unit
            elif unit.mode == "fresh" and isinstance(unit.kernel, itemgetter) and unit.inputs[0] in self.views:
                self.views[unit.output] = unit  # a part of what was split
            elif unit.spec is not None and self._is_in_c_order(unit):
                self.specs[unit.output] = unit.spec
                if unit.mode == "reuse":
                    self.shared[unit.output] = unit.inputs[unit.reuse]
        if plan.run_key >= 0:
            self.specs[plan.run_key] = Spec((3,), np.dtype("uint64"))
        for task in plan.tasks:
            self.specs.update(task.prepares)
        self.apart = set(self.views) | set(self.shared)
        self._known: dict[Any, Shape] = {}
        self.bytes_held = max(MOST_HELD_BYTES, plan.peak_bytes // 50)
        self.short: Any = np.zeros(1, np.int64)  # counts the kernels that found no memory to work in

    def _is_in_c_order(self, unit: Unit) -> bool:
        """Whether what a unit makes is sure to lie in C order, given `specs` of all that comes before it."""
        if unit.mode != "fresh" or len(unit.spec.shape) < 2 or isinstance(unit.node, FusedNode) or isinstance(unit.kernel, InOrder):
            return True
        if not isinstance(unit.kernel, np.ufunc):
            return unit.kernel is add_up or unit.node.op.name == "scatter" or hasattr(unit.kernel, "machine")
        if unit.kernel.signature is not None:
            return len(unit.spec.shape) == 2
        # A ufunc makes an array in C order if an input of that shape is, or all inputs are; else in the order that they have in common.
        shapes = [self._shape_in_c_order(slot) for slot in unit.inputs]
        return None not in shapes or unit.spec.shape in shapes

    def _shape_in_c_order(self, slot: int) -> Any:
        """The shape of what is sure to lie in C order; None for any other."""
        if slot in self.views:
            area = self.area(slot)
            return area.shape if area is not None and area.is_contiguous else None
        return self.specs[slot].shape if slot in self.specs else None

    def told(self, unit: Unit) -> str:
        """What is to be said of a unit that is called by itself; empty for most."""
        return told_of_turns(unit)

    def of(self, units: Sequence[Unit]) -> list[Unit | Section]:
        """``units`` of a task, with sections in place of those that make one."""
        result: list[Unit | Section] = []
        run: list[tuple[Unit, list[Instruction]]] = []
        seconds = 0.0  # of the arithmetic; calls are almost free here

        def end() -> None:
            nonlocal seconds
            result.extend(self._section(run))
            run.clear()
            seconds = 0.0

        for unit in units:
            made = self._instructions(unit)
            taken = unit.seconds - CALL_SECONDS
            if made is None or (run and seconds + taken > LONGEST_SECONDS):
                end()
            if made is None:
                result.append(unit)
            else:
                run.append((unit, made))
                seconds += taken
        end()
        return result

    # --- instructions

    def _instructions(self, unit: Unit) -> list[Instruction] | None:
        """What a unit does, None where it cannot be part of a section."""
        node, kernel = unit.node, unit.kernel
        specs, inputs, apart = self.specs, unit.inputs, self.apart
        # Most units of large plans are plain: what was found for one serves for all that run its kernel on arrays of such specs.
        key = None
        if unit.mode == "fresh" and isinstance(kernel, np.ufunc) and unit.output in specs and apart.isdisjoint(inputs):
            key = (id(kernel), id(unit.spec), *[id(specs.get(slot)) for slot in inputs])
            known = self._known.get(key)
            if known is not None:
                return [Instruction(known, (*[(slot, 0) for slot in inputs], (unit.output, 0)))]
        if unit.output in self.views:
            parts = unit.spec is None and not isinstance(unit.kernel, itemgetter)
            return [] if self.area(unit.inputs[0] if parts else unit.output) is not None else None
        if unit.bodies:
            return turns_of(self, unit)
        if unit.spec is None or 0 in unit.spec.shape or not is_known(unit.spec.shape):
            return None
        if unit.mode in ("fresh", "take", "reuse") and unit.output not in self.specs:
            return None
        if kernel is as_given:
            return []
        places = [self._read(unit, position) for position in range(len(unit.inputs))]
        if any(area is None for area in places):
            return None
        areas = [area for area in places if area is not None]
        target = self._target(unit, areas)
        if kernel is add_up:
            return sum_of_parts(areas[0], target)
        if isinstance(kernel, InOrder):
            return joined([_permuted(areas[0], node, target.shape)], target, 0)
        if isinstance(node, FusedNode):
            return fused_loop(node, [*areas, target]) if node.op.conv is None else self._of_arrays(node.op._kernel, [*areas, target])
        if node.op.name == "random_bits" and hasattr(kernel, "machine"):
            return drawn(kernel, [*areas, target], unit.read[0] * math.prod(target.shape[1:]))
        if hasattr(kernel, "machine"):
            return self._of_arrays(kernel.machine, [*areas, target])
        if node.op.name == "scatter" and takes_all(node.attrs["index"]) and areas[0].is_contiguous:
            return joined([areas[0]._replace(shape=target.shape, strides=target.strides)], target, 0)
        if node.op.name == "concat" and len(areas) == len(node.inputs):
            return joined(areas, target, node.attrs["axis"])
        if not isinstance(kernel, np.ufunc) or len(areas) != kernel.nin:
            return None
        dtypes = tuple([area.dtype for area in (*areas, target)])
        if not may_be_called(kernel, dtypes):
            return None
        code = code_of(kernel, dtypes)
        if code is None:
            return None
        made = product(code, areas, target) if kernel.signature is not None else elementwise(code, areas, target)
        if made is None:
            return None
        if key is not None:
            self._known[key] = made.shape
        return [made]

    def _of_arrays(self, kernel: Any, areas: Sequence[Area]) -> list[Instruction] | None:
        return None if self.is_repeated else of_arrays(kernel, areas, self.short)

    def _read(self, unit: Unit, position: int) -> Area | None:
        """Where what a unit reads lies."""
        area = self.area(unit.inputs[position])
        how = unit.cut[position] if unit.cut else WHOLE
        if area is None or how == WHOLE:
            return area
        return _seen(area, unit, how) if area.shape else None

    def _target(self, unit: Unit, areas: Sequence[Area]) -> Area:
        if unit.mode == "reuse":
            return areas[unit.reuse]
        if unit.mode == "part":
            return _seen(Area.whole(unit.buffer, self.specs[unit.buffer]), unit, unit.along)
        if unit.mode == "partial":
            entry = _seen(Area.whole(unit.buffer, self.specs[unit.buffer]), unit, ENTRY)
            return entry._replace(shape=entry.shape[1:], strides=entry.strides[1:])
        return Area.whole(unit.output, unit.spec)

    def area(self, slot: int) -> Area | None:
        """Where the elements of a slot lie, through the views of it; None where that is not known."""
        while slot in self.shared:
            slot = self.shared[slot]
        view = self.views.get(slot)
        if view is None:
            spec = self.specs.get(slot)
            if spec is None or not is_known(spec.shape):
                return None
            return Area.whole(slot, spec)
        if isinstance(view.kernel, itemgetter):
            return self._part(view)
        source = self.area(view.inputs[0])
        if source is None or len(view.inputs) > 1 or view.spec is None:
            return None
        name = view.node.op.name
        if name == "permute_dims":
            return _permuted(source, view.node, view.spec.shape)
        if name == "getitem" and not (source.is_contiguous and takes_all(view.node.attrs["index"])):
            bounds = sliced(view.node.attrs["index"], source.shape)
            if bounds is None:
                return None
            offset = source.offset + sum(start * stride for (start, _), stride in zip(bounds, source.strides, strict=True))
            return source._replace(offset=offset, shape=view.spec.shape)
        if name in ("getitem", "reshape", "reshape_like", "expand_dims", "squeeze") and source.is_contiguous:
            return source._replace(shape=view.spec.shape, strides=in_c_order(view.spec.shape, source.dtype.itemsize))
        return None

    def _part(self, unit: Unit) -> Area | None:
        """Where a part of what was split lies."""
        whole, attrs = self.area(self.views[unit.inputs[0]].inputs[0]), unit.node.attrs
        if whole is None:
            return None
        outputs, axis = unit.node.outputs, attrs["axis"]
        number: int = unit.kernel(range(len(outputs)))
        bounds, length = attrs["bounds"], whole.shape[axis]
        size = length // bounds if isinstance(bounds, int) else 0
        cuts: list[int] = [k * size for k in range(bounds)] if isinstance(bounds, int) else [0, *bounds]
        low, high = [*cuts, length][number : number + 2]
        if len(outputs) != len(cuts) or not 0 <= low < high <= length:
            return None
        shape = (*whole.shape[:axis], high - low, *whole.shape[axis + 1 :])
        return whole._replace(offset=whole.offset + low * whole.strides[axis], shape=shape)

    # --- sections

    def _section(self, run: list[tuple[Unit, list[Instruction]]]) -> Iterable[Unit | Section]:
        """Units that follow each other, and what they do, as a section; as they are where that does not pay."""
        units = [unit for unit, _ in run]
        long = sum(unit.seconds - CALL_SECONDS > SECONDS_WITH_LOCK for unit in units)
        has_loop = any(unit.bodies for unit in units)
        if not has_loop and sum(len(made) for _, made in run) < (FEWEST_LONG if long > 1 else FEWEST):
            return units
        if not is_possible():
            return units
        section = Section(units)
        layout = Layout(self, section)
        for unit, made in run:
            layout.write_over(unit)
            for instruction in made:
                layout.add(instruction)
            layout.free(unit)
        if not layout.settle() or section.saves < 0:
            return units
        section.tape = layout.tape(0, None)
        return [section]


def may_be_called(kernel: Any, dtypes: Sequence[np.dtype[Any]]) -> bool:
    """Whether a kernel is a ufunc that cannot fail on operands of these dtypes, so that machine code may call it."""
    if not isinstance(kernel, np.ufunc) or not all(dtype.char in _FREE_OF_ERRORS for dtype in dtypes):
        return False
    return kernel not in _CAN_FAIL or dtypes[0].kind == "f"


def _seen(area: Area, unit: Unit, how: int) -> Area:
    """What a slice sees of an area, rows or an entry or columns."""
    return (area.columns if how == COLUMNS else area.rows)(*unit.span(how))


def _permuted(source: Area, node: Node, shape: tuple[int, ...]) -> Area:
    return source._replace(shape=shape, strides=tuple([source.strides[axis % len(shape)] for axis in node.attrs["axes"]]))


def _is_view(unit: Unit) -> bool:
    """Whether what a unit makes lies in the memory of its input; an op that may give a view, but makes an array here, tells its bytes."""
    is_known = unit.spec is not None or unit.node.op.name == "split"
    return bool(unit.mode == "fresh" and unit.inputs and unit.node.op.is_view and is_known and not unit.nbytes)
