"""Plan: what a request (fetches, feeds, shapes) compiles to. Plain data that prints itself; it holds no values and no threads.

Values live in numbered slots. A unit runs one kernel, on the whole of its inputs or on one slice; a task is a list of units that one
thread runs in order. Tasks depend on tasks. Every order that respects the dependencies gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..graph import Node, Tensor
from ..graph.arguments import counted
from ..graph.node import FUNCTIONS
from ..graph.spec import format_spec
from ..graph.text import format_bytes, format_seconds
from ..records import Record, field

# How a slice sees an input: all of it, its own rows, the entry that is its own, or its own columns (the last axis).
WHOLE, ROWS, ENTRY, COLUMNS = 0, 1, 2, 3

_NONE_TOLD: Mapping[int, Any] = {}


class Unit(Record, frozen=False, eq=False, slots=True):
    """One call of a kernel.

    kernel   function of the arrays in ``inputs`` (and of ``out=`` for the modes that write into a buffer)
    inputs   slots that it reads
    output   slot that it fills; each unit has one of its own (for a slice it stays empty: the buffer holds the result)
    mode     "fresh": the kernel makes its result; "take": it writes into a buffer from the pool; "reuse": into the array of
             input ``reuse``, which dies here; "part": into the rows, or columns, ``read`` of the buffer in slot ``buffer``;
             "partial": into the entry ``part`` of it. The slices of a node, and the outputs that it hands out, are counted by ``part``
    spec     shape and dtype of what it makes, where known
    cut      for a slice: which inputs are cut to ``read``, too (ROWS, or COLUMNS), and of which one entry is meant (ENTRY)
    writes   those of the inputs that it writes, where it makes several results, or is a part of a loop
    bodies   for a node that holds sub-graphs: the plan of each; ``kernel`` then takes a function for each before the arrays
    told     for inputs of which only the shape is used, and known, by position: that is part of ``kernel``
    seconds  estimated
    nbytes   of all that the kernel makes, where known; nothing for a view
    scratch  bytes that the kernel needs besides while it runs
    frees    slots whose last reader it is: emptied behind it; ``recycles``: those of them whose array goes back to the pool
    """

    node: Node
    kernel: Callable[..., Any]
    inputs: tuple[int, ...]
    output: int
    device: str
    mode: str = "fresh"
    spec: Any = None
    seconds: float = 0.0
    told: Mapping[int, Any] = field(default_factory=lambda: _NONE_TOLD)
    nbytes: int = 0
    scratch: int = 0
    reuse: int = 0
    buffer: int = -1
    part: int = 0
    read: tuple[int, int] = (0, 0)
    cut: tuple[int, ...] = ()
    writes: tuple[int, ...] = ()
    bodies: tuple[Plan, ...] = ()
    frees: tuple[int, ...] = ()
    recycles: tuple[int, ...] = ()

    @property
    def bytes_made(self) -> int:
        """Bytes of memory that running it adds."""
        return self.nbytes if self.mode == "fresh" or self.mode == "take" else 0

    @property
    def along(self) -> int:
        """What a slice is cut into: ROWS or COLUMNS."""
        return COLUMNS if COLUMNS in self.cut else ROWS

    @property
    def extent(self) -> str:
        """What a slice is of the whole, in words."""
        return f"{'columns' if self.along == COLUMNS else 'rows'} {self.read[0]}:{self.read[1]}"

    def span(self, how: int) -> tuple[int, int]:
        """The first of the entries, rows or columns that a slice sees of an array, and the one behind the last."""
        return (self.part, self.part + 1) if how == ENTRY else self.read

    def seen(self, how: int) -> Any:
        """NumPy's index of what a slice sees of an array."""
        part = slice(*self.span(how))
        return ... if how == WHOLE else (..., part) if how == COLUMNS else part

    def seen_text(self, how: int) -> str:
        """The same as Python's text."""
        low, high = self.span(how)
        return "" if how == WHOLE else f"[..., {low}:{high}]" if how == COLUMNS else f"[{low}:{high}]"

    def __str__(self) -> str:
        return self.node.name + (self.seen_text(self.along) if self.read != (0, 0) else "")


class Task(Record, frozen=False, eq=False, slots=True):
    """Units that one thread runs in order.

    after      tasks that must have finished
    prepares   (slot, spec) of the buffers that it writes slices into: made by whichever task comes first
    releases   storages that it is one of several tasks to touch: the last of them frees it
    priority   estimated seconds from its start to the end of the run, along the longest path
    peak_bytes most bytes alive at once of what it makes itself; ``kept_bytes``: those that outlive it
    """

    index: int
    units: Sequence[Unit]
    device: str
    after: tuple[int, ...] = ()
    prepares: tuple[tuple[int, Any], ...] = ()
    releases: tuple[int, ...] = ()
    seconds: float = 0.0
    priority: float = 0.0
    peak_bytes: int = 0
    kept_bytes: int = 0


class Storage(Record, frozen=False, eq=False, slots=True):
    """Memory that several slots may share (views, work in place).

    slots     all that must be emptied to let go of it
    device    whose memory it is
    sharers   number of tasks that touch it, when more than one
    recycles  the slot whose array goes back to the pool, or -1
    """

    slots: tuple[int, ...]
    nbytes: int
    device: str
    sharers: int = 0
    recycles: int = -1


class Plan(Record, frozen=False, eq=False, slots=True):
    """A request, ready to run any number of times, by any number of threads at once.

    slots        number of slots
    constants    (slot, array); ``on``: the device of those that are not on the host
    feeds        (tensor, slot) in the order of the request
    shapes       their shapes
    variables    (variable's node, slot): read at the start
    run_key      slot for (seed, run number, 0), or -1
    run_slot     slot for the run itself, of which loops ask whether it has been stopped, or -1
    fetches      slot of each fetched tensor, -1 for a fetched node; ``copied``: those that must not be handed out as they are; ``lent``:
                 large ones in the memory of a device's pool (slot -> device), which goes back there when the caller has dropped them;
                 ``away``: those that are arrays of another device than the host
    updates      (variable's node, slot): written together at the end
    peak_bytes   most bytes alive at once of what the run itself makes, scratch memory of kernels included, when the tasks run in order:
                 of the arrays. Objects of Python's own come to some tens of kB besides, and results of a size that only a run knows to
                 what a trace shows
    memory_limit most bytes that a run may take, on any number of threads; None for no limit
    sections     makes of this plan what finds the stretches of its kernels that run as one call (`native.Sections`); None where each is
                 called by itself
    notes        what the passes changed, a line each
    host_only    whether all of it runs on the host
    reasons      node -> why it runs on its device, whose text follows "placed"; empty where there is one device
    request      what it was compiled from (a `compiler.Request`); None for the plan of a sub-graph
    """

    nodes: list[Node]
    slots: int = 0
    constants: list[tuple[int, Any]] = field(default_factory=list)
    on: dict[int, str] = field(default_factory=dict)
    feeds: list[tuple[Tensor, int]] = field(default_factory=list)
    shapes: list[Any] = field(default_factory=list)
    variables: list[tuple[Node, int]] = field(default_factory=list)
    run_key: int = -1
    run_slot: int = -1
    fetches: list[int] = field(default_factory=list)
    copied: frozenset[int] = frozenset()
    lent: Mapping[int, str] = field(default_factory=dict)
    away: Mapping[int, str] = field(default_factory=dict)
    updates: list[tuple[Node, int]] = field(default_factory=list)
    units: Any = field(default_factory=list)  # a sequence of units: a list or, of a large graph, `Units`
    tasks: list[Task] = field(default_factory=list)
    storages: dict[int, Storage] = field(default_factory=dict)
    peak_bytes: int = 0
    memory_limit: int | None = None
    sections: Callable[[Plan], Any] | None = None
    notes: list[str] = field(default_factory=list)
    host_only: bool = True
    reasons: Mapping[Node, Any] = field(default_factory=dict)
    request: Any = None

    @property
    def seconds(self) -> float:
        """Estimated time on one thread."""
        return sum(task.seconds for task in self.tasks)

    @property
    def critical_seconds(self) -> float:
        """Estimated time with as many threads as there are tasks: the longest path."""
        return max((task.priority for task in self.tasks), default=0.0)

    def cost(self) -> Any:
        """What it costs, as formulas in the sizes that its feeds leave open (a batch): print it. ``flops``, ``bytes``, ``peak`` and
        ``held`` can be called with sizes; ``at(batch=64)`` gives the exact numbers, and ``largest("batch", "16GB")`` the size that fits.

        >>> x = fg.placeholder("x", ("batch", 64), "float32")
        >>> w = fg.variable(np.ones((64, 10), np.float32))
        >>> cost = session.plan(fg.nn.relu(x @ w), {x: (1000, 64)}).cost()
        >>> print(cost)
                                     with batch = 1000
        flops  1.29e3 batch          = 1.29e6
        bytes  376 B batch + 2.6 kB  = 378.6 kB
        peak   40 B batch            = 40.0 kB
        held   256 B batch + 2.6 kB  = 258.6 kB
        >>> cost.largest("batch", "1MB")
        3369
        """
        return FUNCTIONS["plan_cost"](self)

    def explain(self, only: str | None = None) -> Any:
        """What became of each node, or of those of a name, scope or pattern, and why: where it runs, in which loop or why in none, in how
        many slices, in whose memory, with the numbers that decided. Print it.

        raises  UnknownNameError for a name that no node of the request has

        >>> x = fg.placeholder("x", (2000, 64), "float64")
        >>> y = fg.sort(fg.exp(x) * 2, axis=1)
        >>> print(session.plan(y, {x: (2000, 64)}).explain().rows["sort"][1][1])
        none: it is not computed element by element
        """
        return FUNCTIONS["plan_explain"](self, only)

    def _repr_svg_(self) -> str:
        """What a notebook shows."""
        return str(FUNCTIONS["draw"](self))

    def __str__(self) -> str:
        limit = "" if self.memory_limit is None else f", and {format_bytes(self.memory_limit)} allowed"
        times = f"{format_seconds(self.seconds)} on one thread, {format_seconds(self.critical_seconds)} on many"
        if len(self.tasks) == 1 and not self.host_only:
            times = f"{format_seconds(self.seconds)} on {self.tasks[0].device}"
        lines = [
            f"plan of {len(self.units)} kernels in {len(self.tasks)} task{'s' * (len(self.tasks) != 1)}: about {times}, "
            f"at most {format_bytes(self.peak_bytes)} alive{limit}"
        ]
        lines += [f"  note: {note}" for note in self.notes]
        for task in self.tasks:
            after = f" after {', '.join(map(str, task.after))}" if task.after else ""
            lines.append(
                f"task {task.index} on {task.device}{after}, {format_seconds(task.seconds)}, {format_seconds(task.priority)} to the end"
            )
            sections = None if self.sections is None else self.sections(self)
            for each in task.units if sections is None else sections.of(task.units):
                if isinstance(each, Unit):
                    lines += self._told(each, "" if sections is None else sections.told(each))
                else:
                    lines += self._told_together(each.units)
        if self.updates:
            lines.append("at the end: " + ", ".join(f"{node.name} <- s{slot}" for node, slot in self.updates))
        return "\n".join(lines)

    def _told(self, unit: Unit, more: str = "") -> list[str]:
        """The lines of a kernel, ``more`` behind them."""
        bodies = [f"    body {k} of {unit}: {line}" for k, body in enumerate(unit.bodies) for line in str(body).splitlines()]
        return [*bodies, f"  s{unit.output} = {unit.node.op.name}({', '.join(f's{i}' for i in unit.inputs)})" + self._detail(unit, more)]

    def _told_together(self, units: Sequence[Unit]) -> list[str]:
        """The lines of kernels that run as one call."""
        return [f"  one call of {counted(len(units), 'kernel')}:", *[f"  {line}" for unit in units for line in self._told(unit)]]

    def _detail(self, unit: Unit, more: str) -> str:
        how = {
            "take": "kept buffer",
            "reuse": f"in place of s{unit.inputs[unit.reuse]}" if unit.mode == "reuse" else "",
        }
        where = {
            "part": f"{unit.extent} of s{unit.buffer}",
            "partial": f"part {unit.part} of s{unit.buffer}",
        }
        spec = "" if unit.spec is None else format_spec(unit.spec.shape, unit.spec.dtype)
        extra = how.get(unit.mode) or where.get(unit.mode)
        frees = f"; frees {', '.join(f's{s}' for s in sorted(unit.frees))}" if unit.frees else ""
        more = more and f"; {more}"
        by = f"; by {unit.kernel.by}" if hasattr(unit.kernel, "by") else ""
        reason = self.reasons.get(unit.node)
        placed = f"; placed {reason}" if reason else ""
        return f"  # {unit}: {spec}{', ' + extra if extra else ''}{by}{more}{placed}{frees}"


def sources_of(plan: Plan) -> list[tuple[Tensor, int]]:
    """(tensor, slot) of what is there before a plan runs: its feeds and the values of variables."""
    return [*plan.feeds, *[(node.outputs[0], slot) for node, slot in plan.variables]]


def in_order(tasks: Sequence[Task]) -> bool:
    """Whether each task comes behind those that it waits for: what a run on one thread relies on."""
    return all(before < task.index for task in tasks for before in task.after)
