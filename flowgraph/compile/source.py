"""Source: a task as straight-line Python. One line for each kernel, on local variables that are dropped as soon as they are dead.

The text is made from the plan alone. What its names stand for (kernels, buffers) the runtime binds; see `flowgraph.runtime.generated`.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..graph.report import where
from ..graph.spec import format_spec
from ..records import Record, field
from .plan import Plan, Unit
from .section import Section
from .turns import told_of_turns

# A call that runs by itself is not known to the session, which could not end it: so only short ones are made so.
LONGEST_DIRECT = 0.02


class Source(Record, frozen=False, eq=False, slots=True):
    """The text of some functions.

    lines     one by one
    units     for each line the kernel that it calls, or None
    kernels   name in the text -> the unit whose kernel it is
    sections  name in the text -> the section that runs as one call; ``calls``: the number of the line -> the section that is called there
    takes     (device, spec) of a buffer -> the name of the function that takes one; ``news``: spec -> that of the function for a new array
    is_limited  whether runs keep below a limit of memory: then loops go through their turns in Python
    gives     device -> the name of the function that gives buffers back to it
    """

    lines: list[str] = field(default_factory=list)
    units: list[Unit | None] = field(default_factory=list)
    kernels: dict[str, Unit] = field(default_factory=dict)
    sections: dict[str, Section] = field(default_factory=dict)
    calls: dict[int, Section] = field(default_factory=dict)
    takes: dict[tuple[str, Any], str] = field(default_factory=dict)
    news: dict[Any, str] = field(default_factory=dict)
    gives: dict[str, str] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)  # id of a kernel -> its name
    is_limited: bool = False

    def add(self, line: str, unit: Unit | None = None) -> None:
        self.lines.append(line)
        self.units.append(unit)

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    def listing(self) -> str:
        """The text for a reader: behind each kernel its node, what it makes, and the user's line."""
        width = min(max((len(line) for line, unit in zip(self.lines, self.units, strict=True) if unit is not None), default=0), 76)
        shown = []
        for number, (line, unit) in enumerate(zip(self.lines, self.units, strict=True)):
            section = self.calls.get(number)
            if section is not None:
                pad = line[: len(line) - len(line.lstrip())]
                shown.append(f"{pad}# {section.title}:")
                shown += [_told(f"{pad}#   {what(each)}", each, width) for each in section.units]
            more = "" if unit is None or self.is_limited else told_of_turns(unit)
            shown.append(line if unit is None else _told(line, unit, width, more))
        return "\n".join(shown) + "\n"


def legend(plan: Plan) -> str:
    """What slots of a program stand for outside it, as comments: feeds, variables, results and updates, by the user's names and lines."""
    before, behind = ("s", "") if is_direct(plan) else ("v[", "]")
    fetches = plan.request.fetches if plan.request is not None else ()
    rows = [
        (f"{before}{slot}{behind}", f"{tensor.name} {format_spec(shape, tensor.dtype)}, fed", tensor.node)
        for (tensor, slot), shape in zip(plan.feeds, plan.shapes, strict=True)
    ]
    for node, slot in plan.variables:
        spec = node.outputs[0]
        rows.append((f"{before}{slot}{behind}", f"{node.name} {format_spec(spec.shape, spec.dtype)}, a variable", node))
    for fetch, slot in zip(fetches, plan.fetches, strict=False):
        if slot >= 0:
            rows.append((f"{before}{slot}{behind}", f"{fetch.name}, a result", getattr(fetch, "node", fetch)))
    rows += [(f"{before}{slot}{behind}", f"what {node.name} becomes", node) for node, slot in plan.updates]
    width = max([len(name) for name, _, _ in rows], default=0)
    return "".join([f"# {name:<{width}}  {what}    {where(node.location)}".rstrip() + "\n" for name, what, node in rows])


def _told(line: str, unit: Unit, width: int, more: str = "") -> str:
    """A line with what it makes behind it, and ``more``."""
    spec = "" if unit.spec is None else f" {format_spec(unit.spec.shape, unit.spec.dtype)}"
    members = getattr(unit.node.op, "members", ())
    names = f" ({', '.join(member.name for member in members)})" if len(members) > 1 else ""
    return f"{line:<{width}}  # {unit}{spec}{names}{more and ', ' + more}    {where(unit.node.location)}".rstrip()


def what(unit: Unit) -> str:
    """A kernel as a line of plain mathematics over slots."""
    return f"s{unit.output} = {unit.node.op.name}({', '.join(f's{i}' for i in unit.inputs)})"


class Writer:
    """Writes the kernels of a plan's tasks.

    is_local  whether a slot is a local variable ``s3``; the others are entries ``v[3]`` of the run's values
    targets   slots that ``rows``, if there are any, have a place for: its number
    by_kernel whether each kernel is called by itself, and none by a tape
    """

    def __init__(
        self,
        plan: Plan,
        source: Source,
        is_local: Callable[[int], bool],
        targets: Mapping[int, int] | None = None,
        *,
        by_kernel: bool = False,
    ) -> None:
        self.plan, self.source, self.is_local, self.targets = plan, source, is_local, targets or {}
        self.sections = None if plan.sections is None or by_kernel else plan.sections(plan)
        source.is_limited = plan.memory_limit is not None
        self.constants = {slot for slot, _ in plan.constants}
        # A slice has an output slot to which nothing is ever bound, since the buffer holds the result.
        self.unbound = self.constants | {unit.output for unit in plan.units if unit.mode in ("part", "partial")}
        # What a kernel that is not a view makes is an array of its own; where nothing is a view of it, the last reader may write over it.
        viewed = {unit.inputs[0] for unit in plan.units if unit.inputs and (unit.node.op.is_view or len(unit.node.outputs) > 1)}
        self.own = {
            unit.output: unit.spec
            for unit in plan.units
            if unit.mode == "fresh" and unit.spec is not None and unit.spec.shape and not unit.node.op.is_view and unit.output not in viewed
        }
        specs = {unit.output: unit.spec for unit in plan.units if unit.spec is not None}
        self.ranks: dict[int, int] = {slot: len(spec.shape) for slot, spec in specs.items()} | {
            slot: array.ndim for slot, array in plan.constants
        }
        self.ranks |= {slot: len(tensor.shape) for tensor, slot in (*plan.feeds, *[(n.outputs[0], slot) for n, slot in plan.variables])}
        self.in_c_order: set[int] = set()  # slots whose arrays are sure to be
        for unit in plan.units:
            if _is_in_c_order(unit, [specs[slot].shape for slot in unit.inputs if slot in self.in_c_order]):
                self.in_c_order.add(unit.output)

    def name(self, slot: int) -> str:
        if self.is_local(slot):
            return f"c{slot}" if slot in self.constants else f"s{slot}"
        return f"v[{slot}]"

    def units(self, units: Sequence[Unit], pad: str = "    ", before: str = "") -> None:
        """The lines of the kernels of a task; ``before`` each, and before each section of them, the line of that name."""
        for each in self.sections.of(units) if self.sections is not None else units:
            if before:
                self.source.add(pad + before)
            if isinstance(each, Section):
                self.section(each, pad)
            else:
                self.unit(each, pad)

    def section(self, section: Section, pad: str) -> None:
        """The lines of a section: the arrays that it fills, its call, then what dies with it."""
        source, device = self.source, section.units[0].device
        for slot, spec, mode in section.makes:
            make = self._take(slot, spec, device) if mode == "take" else source.news.setdefault(spec, f"new_{len(source.news)}") + "()"
            source.add(f"{pad}{self.name(slot)} = {make}")
        names = [f"h{k}" for k in range(len(section.buffers))]
        for name, spec in zip(names, section.buffers, strict=True):
            source.add(f"{pad}{name} = {self._take(-1, spec, device)}")
        called = f"native_{len(source.sections)}"
        source.sections[called] = section
        source.calls[len(source.lines)] = section
        source.add(f"{pad}{called}({', '.join([*map(self.name, section.slots), *names])})")
        for name in names:
            source.add(f"{pad}{self._give(device)}({name})")
        for slot, spec, mode in section.makes:
            if not spec.shape and mode == "fresh":
                source.add(f"{pad}{self.name(slot)} = {self.name(slot)}[()]")
        for slot, other in section.shares:
            source.add(f"{pad}{self.name(slot)} = {self.name(other)}")
        for view in section.views:
            source.add(f"{pad}{self.name(view.output)} = {self._call(view, [self.name(slot) for slot in view.inputs])}", view)
        self._drop(section, device, pad)

    def _give(self, device: str) -> str:
        """The name of the function that gives a buffer back to the pool."""
        gives = self.source.gives
        return gives.setdefault(device, f"give_{len(gives)}" if gives else "give")

    def _take(self, slot: int, spec: Any, device: str) -> str:
        """The text that takes a buffer for a slot."""
        take = self.source.takes.setdefault((device, spec), f"take_{len(self.source.takes)}") + "()"
        if slot in self.targets:
            row = f"rows[{self.targets[slot]}]"
            take = f"{take} if rows is None or {row} is None else {row}"
        return take

    def _drop(self, unit: Unit | Section, device: str, pad: str) -> None:
        """The lines that let go of what dies with a kernel or a section."""
        for slot in unit.recycles:
            self.source.add(f"{pad}{self._give(device)}({self.name(slot)})")
        local = [self.name(slot) for slot in unit.frees if self.is_local(slot) and slot not in self.unbound]
        shared = [f"v[{slot}]" for slot in unit.frees if not self.is_local(slot)]
        if local:
            self.source.add(f"{pad}del {', '.join(local)}")
        if shared:
            self.source.add(f"{pad}{' = '.join(shared)} = None")

    def unit(self, unit: Unit, pad: str = "    ", *, drops: bool = True) -> None:
        """The lines of one kernel: its call, then, if it ``drops``, what dies with it."""
        names = [self.name(slot) for slot in unit.inputs]
        if unit.mode in ("part", "partial"):
            arguments = [name + unit.seen_text(how) for name, how in zip(names, unit.cut, strict=True)]
            target = self.name(unit.buffer) + (f"[{unit.part}, ...]" if unit.mode == "partial" else unit.seen_text(unit.along))
            self.source.add(f"{pad}{self._kernel(unit)}({', '.join([*arguments, f'out={target}'])})", unit)
        else:
            self.source.add(f"{pad}{self.name(unit.output)} = {self._call(unit, names)}", unit)
        if drops:
            self._drop(unit, unit.device, pad)

    def _call(self, unit: Unit, names: Sequence[str]) -> str:
        symbol = getattr(unit.node.op, "symbol", None)
        over = self._written_over(unit)
        if over is not None:
            return f"{self._kernel(unit)}({', '.join([*names, self.name(over)])})"
        if unit.mode == "fresh" and symbol is not None and unit.spec is not None and unit.spec.dtype.kind == "f":
            return f"{names[0]} {symbol} {names[1]}" if len(names) == 2 else f"{symbol}{names[0]}"
        kernel = self._kernel(unit)
        if unit.mode == "take":
            names = [*names, _out(unit, self._take(unit.output, unit.spec, unit.device))]
        elif unit.mode == "reuse":
            names = [*names, _out(unit, names[unit.reuse])]
        return f"{kernel}({', '.join(names)})"

    def _written_over(self, unit: Unit) -> int | None:
        """An input that dies in a small kernel and may hold its result: a new array would cost more than the arithmetic."""
        if unit.mode != "fresh" or not unit.node.op.in_place or not _takes_out_by_position(unit):
            return None
        for slot in unit.inputs:
            if slot in unit.frees and self.own.get(slot) == unit.spec and self.is_local(slot) and self._keeps_order(unit, slot):
                return slot
        return None

    def _keeps_order(self, unit: Unit, over: int) -> bool:
        """Whether a new array would lie in memory as that in slot ``over`` does: who reads the result may add it up in that order.

        A ufunc makes an array in C order if any of its inputs is, and else in the order that they have in common.
        """
        others = [slot for slot in unit.inputs if slot != over and self._rank(slot) > 1]
        return not others or over in self.in_c_order or self._rank(over) == 1

    def _rank(self, slot: int) -> int:
        """The number of axes of what is in a slot, as far as it is known; 2 for what may have several."""
        return self.ranks.get(slot, 2)

    def _kernel(self, unit: Unit) -> str:
        names, kernels = self.source.names, self.source.kernels
        if unit.bodies:
            key = id(unit)  # each has plans of its own
        else:
            key = id(unit.kernel)
        if key not in names:
            base = re.sub(r"\W", "_", unit.node.op.name)
            name = f"{base}_" if keyword.iskeyword(base) else base
            if name in kernels or re.fullmatch(r"[sc]\d+|v|give|give_\d+|take_\d+|new_\d+|native_\d+|h\d+|run|call|body", name):
                name = f"{base}_{len(kernels)}"
            names[key] = name
            kernels[name] = unit
        return names[key]


def _is_in_c_order(unit: Unit, shapes: Sequence[Any]) -> bool:
    """Whether what a unit makes is sure to be in C order; ``shapes``: of those of its inputs that are."""
    if unit.mode == "take":
        return True
    if unit.mode != "fresh" or unit.spec is None:
        return False
    is_product = unit.node.op.name == "matmul" and len(unit.spec.shape) == 2
    return is_product or (isinstance(unit.kernel, np.ufunc) and unit.spec.shape in shapes)


def _takes_out_by_position(unit: Unit) -> bool:
    """Whether the kernel takes behind its inputs the array that it writes to. A ufunc does, but for two that are about to lose it."""
    kernel = unit.kernel
    return isinstance(kernel, np.ufunc) and len(unit.inputs) == kernel.nin and kernel not in (np.maximum, np.minimum)


def _out(unit: Unit, name: str) -> str:
    """The argument that says where a kernel writes: by position a ufunc takes 0.15 us for 16 numbers, by name 0.2, as for a new array."""
    return name if _takes_out_by_position(unit) else f"out={name}"


def task_sources(plan: Plan, *, by_kernel: bool = False) -> Source:
    """A function ``task_3(v, run)`` for each task. ``v`` are the run's values by slot; between kernels it asks whether to stop.

    by_kernel  whether each kernel is called by itself, and none by a tape
    """
    source = Source()
    shared = shared_slots(plan)
    writer = Writer(plan, source, lambda slot: slot not in shared, by_kernel=by_kernel)
    for task in plan.tasks:
        source.add(f"def task_{task.index}(v, run):")
        writer.units(task.units, before="if run.stop is not None: raise run.stop")
        source.add("")
    return source


def team_source(plan: Plan, team: Section, early: Sequence[Unit]) -> Source:
    """A function ``run_all(v, run)`` of all tasks: the kernels ``early``, then ``team``, which several threads work off together."""
    source = Source()
    shared = shared_slots(plan) | {unit.output for unit in early}
    writer = Writer(plan, source, lambda slot: slot not in shared, by_kernel=True)
    source.add("def run_all(v, run):")
    for unit in early:
        writer.unit(unit, drops=False)
    writer.section(team, "    ")
    return source


def body_source(plan: Plan, *, by_kernel: bool = False) -> Source:
    """A function ``body(run, rows, s0, s1, ...)`` of a sub-graph's inputs and captures that returns its outputs as a list.

    ``rows``, if it is not None, has an array or None for each of the outputs that are `written_where_told`. All values are local: a turn
    of a loop needs no table of slots. Each asks whether to stop, also one that computes nothing.

    by_kernel  as for `task_sources`
    """
    source = Source()
    targets = {plan.fetches[place]: number for number, place in enumerate(written_where_told(plan))}
    writer = Writer(plan, source, lambda slot: True, targets, by_kernel=by_kernel)
    source.add(f"def body({', '.join(['run', 'rows', *(writer.name(slot) for _, slot in plan.feeds)])}):")
    if plan.run_slot >= 0:
        source.add(f"    {writer.name(plan.run_slot)} = run")
    writer.units(plan.units, before="if run.stop is not None: raise run.stop")
    if not plan.units:
        source.add("    if run.stop is not None: raise run.stop")
    source.add(f"    return [{', '.join(writer.name(slot) for slot in plan.fetches)}]")
    return source


def written_where_told(plan: Plan) -> list[int]:
    """The outputs of a sub-graph whose kernel writes into an array that it is given, by their places; the last one of several alike."""
    taking = {unit.output for unit in plan.units if unit.mode == "take" and unit.spec.shape}
    return [place for place, slot in enumerate(plan.fetches) if slot in taking and slot not in plan.fetches[place + 1 :]]


def call_source(plan: Plan) -> Source:
    """A function ``call(a0, a1, ...)`` of the feeds that returns the fetches as a list: for a plan that `is_direct`.

    It tests that each argument is what the plan was made for, and leaves everything else to ``otherwise``: also what is traced.
    """
    source = Source()
    writer = Writer(plan, source, lambda slot: True)
    arguments = ", ".join(f"a{i}" for i in range(len(plan.feeds)))
    source.add(f"def call({arguments}):")
    source.add(f"    if session._detour: return otherwise({arguments})")
    for i, (tensor, slot) in enumerate(plan.feeds):
        a, dtype = f"a{i}", f"dtype_{i}"
        if tensor.shape == ():
            number = f"scalar_{i}({a}) if {a}.__class__ is float or {a}.__class__ is int else " if tensor.dtype.kind == "f" else ""
            source.add(f"    {writer.name(slot)} = {a} if {a}.__class__ is scalar_{i} else {number}fed_{i}({a})")
        else:
            source.add(f"    if not ({a}.__class__ is ndarray and {a}.dtype is {dtype} and {a}.shape == shape_{i}):")
            source.add(f"        return otherwise({arguments})")
            source.add(f"    {writer.name(slot)} = {a}")
    if plan.variables:
        source.add("    with lock:")
        for node, slot in plan.variables:
            source.add(f"        {writer.name(slot)} = variables[{node.id}]")
    if plan.units:
        source.add("    token = set_errors(ignored)")
        source.add("    try:")
        for task in plan.tasks:
            writer.units(task.units, "        ")
        if source.sections:
            source.add("    except not_in_order:")
            source.add(f"        return otherwise({arguments})")
        source.add("    except Exception as error:")
        source.add("        raise explain(error) from error")
        source.add("    finally:")
        source.add("        reset_errors(token)")
    source.add("    session.last_report = report")
    if any(hasattr(unit.node.op, "described") or hasattr(unit.kernel, "described") for unit in plan.units):
        source.add("    counted()")  # for the ledger of compiled kernels
    made = {slot for section in source.sections.values() for slot, spec, _ in section.makes if spec.shape}
    plain = _numbers(plan) | (made - plan.copied)
    results = []
    for slot in plan.fetches:
        name = writer.name(slot) if slot >= 0 else "None"
        if slot in plan.lent:
            results.append(f"lent({name})")
        else:
            results.append(name if slot < 0 or slot in plain else f"handed_out({name}, {slot in plan.copied})")
    source.add(f"    return [{', '.join(results)}]")
    return source


def is_direct(plan: Plan) -> bool:
    """Whether a call can run it from end to end by itself: one task, no update of variables, no draw, no loop."""
    if not plan.host_only or plan.seconds > LONGEST_DIRECT or len(plan.tasks) > 1:
        return False
    if plan.updates or plan.run_key >= 0 or plan.run_slot >= 0:
        return False
    if plan.memory_limit is not None and any(unit.mode == "take" for unit in plan.units):
        return False  # a run tells the pool how much it may keep
    return not any(task.prepares for task in plan.tasks)


def _numbers(plan: Plan) -> set[int]:
    """Slots that are sure to hold a NumPy scalar: what a symbol makes of scalars."""
    known = {slot for tensor, slot in plan.feeds if tensor.shape == ()} | {slot for slot, array in plan.constants if array.ndim == 0}
    for unit in plan.units:
        if getattr(unit.node.op, "symbol", None) and unit.mode == "fresh" and all(slot in known for slot in unit.inputs):
            known.add(unit.output)
    return known


def shared_slots(plan: Plan) -> set[int]:
    """The slots that live in the run's values: made outside the tasks, read by several, or wanted at the end."""
    shared = {slot for slot, _ in plan.constants} | {slot for _, slot in plan.feeds} | {slot for _, slot in plan.variables}
    shared |= {plan.run_key, plan.run_slot, *plan.fetches} | {slot for _, slot in plan.updates}
    owner: dict[int, int] = {}
    for task in plan.tasks:
        shared.update(slot for slot, _ in task.prepares)
        for unit in task.units:
            if unit.buffer >= 0:
                shared.add(unit.buffer)
            for slot in (*unit.inputs, unit.output):
                if owner.setdefault(slot, task.index) != task.index:
                    shared.add(slot)
    for storage in plan.storages.values():
        shared.update(storage.slots)
    return shared
