"""Ledger: what each compiled kernel has cost to compile, how often it was called, and what it has earned against NumPy's kernels."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..compile import Plan, Unit
from ..compile.fuse import FusedNode
from ..compile.lower import add_up, as_given
from ..compile.needed import needed_nodes
from ..compile.shapes import specialise
from ..graph import Node, Tensor
from ..graph.arguments import counted
from ..graph.report import where
from ..graph.spec import is_known
from ..graph.text import format_seconds, table
from ..jit.kernels import compiler
from ..runtime import Program, evaluated

# A kernel is timed so often, and for so long at least; the fastest counts.
ROUNDS, ROUND_SECONDS = 5, 0.5e-3


@dataclass(frozen=True)
class Entry:
    """One compiled kernel.

    nodes      that it computes, the last of them first
    compiled   seconds until its machine code was there; ``from_disk``: whether that was read from the cache
    calls      so far, the slices of one node together; in loops, as many as their turns are expected to be
    seconds    of one call, and ``plain``: of NumPy's kernels for the same, where they were measured
    """

    nodes: tuple[Node, ...]
    compiled: float
    from_disk: bool
    calls: int
    seconds: float | None = None
    plain: float | None = None

    @property
    def earned(self) -> float | None:
        """Seconds saved so far, less those for compiling; None where it was not measured."""
        if self.seconds is None or self.plain is None:
            return None
        return self.calls * (self.plain - self.seconds) - self.compiled


class Ledger:
    """What compiling has cost, and earned; made by ``session.ledger()`` or ``function.ledger()``. Print it.

    entries  a kernel each, those first that took the longest to compile
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(sorted(entries, key=lambda entry: -entry.compiled))

    @property
    def compiled(self) -> float:
        """Seconds for all of them."""
        return sum(entry.compiled for entry in self.entries)

    @property
    def earned(self) -> float | None:
        """Seconds saved by all that were measured, less those for compiling; None where none was."""
        known = [entry.earned for entry in self.entries if entry.earned is not None]
        return sum(known) if known else None

    def __str__(self) -> str:
        if not self.entries:
            return "no kernel was compiled"
        rows = [("compiled", "from", "calls", "a call", "NumPy", "earned", "kernel")]
        for entry in self.entries:
            more = f" and {len(entry.nodes) - 1} more" if len(entry.nodes) > 1 else ""
            rows.append(
                (
                    format_seconds(entry.compiled),
                    "disk" if entry.from_disk else "LLVM",
                    str(entry.calls),
                    _seconds(entry.seconds),
                    _seconds(entry.plain),
                    _seconds(entry.earned),
                    f"{entry.nodes[0].name}{more}   {where(entry.nodes[0].location)}",
                )
            )
        total = f"{counted(len(self.entries), 'kernel')}, {format_seconds(self.compiled)} to compile"
        earned = self.earned
        return "\n".join([*table(rows, left=[len(rows[0]) - 1]), total if earned is None else f"{total}, {_seconds(earned)} earned since"])


def ledger_of(programs: Iterable[Program], *, measure: bool) -> Ledger:
    """The kernels of some programs; with ``measure``, timed beside NumPy's."""
    entries: dict[str, Entry] = {}
    for program in programs:
        runs = program.runs
        counts: dict[int, float] = {}
        seen: dict[int, tuple[Unit, Any]] = {}
        for unit, described, times in _compiled_units(program.plan, 1.0):
            counts[id(described)] = counts.get(id(described), 0.0) + times * runs
            seen.setdefault(id(described), (unit, described))
        timing = _Timing(program.plan) if measure else None
        for key, (unit, described) in seen.items():
            text = described.text(compiler().target)
            note = compiler().note(text)
            if note is None:
                continue  # it is compiled by its first call, or part of a larger piece of code
            before = entries.get(text)
            if before is None:
                members = unit.node.op.members[::-1] if isinstance(unit.node, FusedNode) else (unit.node,)
                entries[text] = Entry(tuple(members), *note, calls=round(counts[key]))
            else:
                entries[text] = replace(before, calls=before.calls + round(counts[key]))
            if timing is not None and entries[text].seconds is None:
                seconds, plain = timing.of(unit)
                entries[text] = replace(entries[text], seconds=seconds, plain=plain)
    return Ledger(entries.values())


def _compiled_units(plan: Plan, times: float) -> Iterator[tuple[Unit, Any, float]]:
    """The units with compiled kernels, what each of these was compiled from, and how often it runs in a run."""
    slices = Counter(unit.node for unit in plan.units if unit.mode in ("part", "partial"))
    for unit in plan.units:
        if unit.kernel is as_given or unit.kernel is add_up:
            continue
        described = unit.node.op.described if isinstance(unit.node, FusedNode) else getattr(unit.kernel, "described", None)
        if described is not None:
            yield unit, described, times / slices.get(unit.node, 1)
        if unit.bodies:
            trips = unit.node.op.trips(*unit.node.inputs, **unit.node.attrs)
            for body in unit.bodies:
                yield from _compiled_units(body, times * trips)


class _Timing:
    """Times kernels of a plan on random numbers, beside NumPy's kernels for the same."""

    def __init__(self, plan: Plan) -> None:
        feeds = plan.request.feeds
        fetched = {fetch.node if isinstance(fetch, Tensor) else fetch for fetch in plan.request.fetches}
        nodes = needed_nodes({node for node in fetched if feeds.keys().isdisjoint(node.outputs)}, feeds)
        self._specs = specialise(nodes, feeds)
        self._random = np.random.default_rng(0)

    def of(self, unit: Unit) -> tuple[float | None, float | None]:
        """Seconds of a call of the kernel on whole arrays, and of NumPy's kernels; None where it cannot be called by itself."""
        node = unit.node
        specs: list[Any] = [self._specs.get(tensor, tensor) for tensor in node.inputs]
        results = [made.tensor for made in node.op.results] if isinstance(node, FusedNode) else list(node.outputs)
        made: list[Any] = [self._specs.get(tensor, tensor) for tensor in results]
        if not all(is_known(spec.shape) for spec in (*specs, *made)):
            return None, None
        arrays = list(map(self._array, specs))
        told = set(unit.told)
        given = [array for place, array in enumerate(arrays) if place not in told]
        outs: list[Any] = [np.empty(spec.shape, spec.dtype) for spec in made]
        known = {tensor: np.broadcast_to(tensor.dtype.type(0), spec.shape) for tensor, spec in self._told(node)}
        known |= dict(zip(node.inputs, arrays, strict=True))
        try:
            if isinstance(node, FusedNode):
                kernel = _timed(lambda: unit.kernel(*given, *outs[:-1], out=outs[-1]))
                plain = _timed(lambda: [evaluated(tensor, known) for tensor in results])
            else:
                kernel = _timed(lambda: unit.kernel(*given, out=outs[-1]))
                bound = node.op.bind_for(np, node.attrs, *specs)
                plain = _timed(lambda: bound(*arrays))
        except (KeyError, TypeError, ValueError):
            return None, None
        return kernel, plain

    def _told(self, node: Node) -> Iterator[tuple[Tensor, Any]]:
        """What members of a loop read for its shape alone."""
        for member in node.op.members if isinstance(node, FusedNode) else ():
            for place in member.op.shape_inputs:
                if place < len(member.inputs):
                    tensor = member.inputs[place]
                    yield tensor, self._specs.get(tensor, tensor)

    def _array(self, spec: Any) -> Any:
        numbers = self._random.random(spec.shape)
        return np.asarray(numbers > 0.5 if spec.dtype.kind == "b" else numbers, spec.dtype)[()]


def _timed(call: Callable[[], Any]) -> float:
    """Seconds of a call, in the fastest of some rounds."""
    with np.errstate(all="ignore"):
        start = time.perf_counter()
        call()
        once = time.perf_counter() - start
        count = max(1, min(1000, int(ROUND_SECONDS / max(once, 1e-7))))
        best = once
        for _ in range(ROUNDS):
            start = time.perf_counter()
            for _ in range(count):
                call()
            best = min(best, (time.perf_counter() - start) / count)
    return best


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"-{format_seconds(-seconds)}" if seconds < 0 else format_seconds(seconds)
