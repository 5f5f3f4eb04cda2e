"""Account: for each node of a request what became of it in the plan and why, with the numbers that decided."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any

from ..errors import ArgumentError, UnknownNameError
from ..graph import Node
from ..graph.report import where
from ..graph.spec import format_spec, is_known
from ..graph.text import format_bytes, format_seconds
from ..jit.values import SUPPORTED
from .cost import estimated_seconds
from .fuse import FusedNode
from .lower import CHAIN_SECONDS, SLICE_SECONDS
from .plan import Plan, Unit, sources_of
from .tasks import CHEAP_SECONDS, HAND_OVER_SECONDS

# Ops that run nothing.
_APART = {
    "placeholder": "is fed",
    "constant": "is known before the run",
    "variable": "is read at the start of the run",
    "run_key": "is the seed and the number of the run",
    "assign": "is written at the end of the run",
    "group": "stands for what it waits for",
}


class Account:
    """What became of each node of a request, and why; made by ``plan.explain()``. Print it.

    rows  name of a node -> (what, why) pairs: "runs", "loop", "slices", "memory", "device", "cost"
    """

    def __init__(self, plan: Plan, only: str | None = None) -> None:
        if plan.request is None:
            raise ArgumentError("explain: the plan of a sub-graph is part of that of the node which holds it")
        seen: dict[str, Any] = {}
        self.plan = plan.request.compile(witness=seen.__setitem__)
        self._found, self._obstacles = seen["simplified"], seen["in place"]
        self._nodes = sorted({tensor.node for tensor, _ in self.plan.feeds}.union(seen["nodes"]), key=attrgetter("id"))
        self._units: dict[Node, list[Unit]] = {}
        self._task: dict[int, int] = {}
        for task in self.plan.tasks:
            for unit in task.units:
                self._units.setdefault(unit.node, []).append(unit)
                self._task[id(unit)] = task.index
        self._loop = {member: node for node in self.plan.nodes if isinstance(node, FusedNode) for member in node.op.members}
        chosen = [node for node in self._nodes if only is None or _fits(node.name, only)]
        if only is not None and not chosen:
            raise UnknownNameError.of("node of the request", only, [node.name for node in self._nodes])
        self._chosen = chosen
        self.rows: Mapping[str, Sequence[tuple[str, str]]] = {node.name: list(self._told(node)) for node in chosen}

    def __str__(self) -> str:
        lines = []
        for node in self._chosen:
            specs = ", ".join(format_spec(self._found.spec(tensor).shape, tensor.dtype) for tensor in node.outputs)
            lines.append(f"{node.name}   {specs or node.op.name}   {where(node.location)}")
            lines += [f"  {what:<7} {why}" for what, why in self.rows[node.name]]
        return "\n".join(lines)

    def _told(self, node: Node) -> Iterator[tuple[str, str]]:
        out = node.outputs[0] if node.outputs else None
        if out in self._found.fed:
            yield "runs", "not: it is fed"
            return
        if node.op.name in _APART:
            yield "runs", f"not: it {_APART[node.op.name]}"
            return
        if out in self._found.same:
            reason = "it hands on what it gets" if self._found.reasons[out] == "algebra" else "another node computes the same"
            yield "runs", f"not: {reason}, {self._found.same[out].name} has its value"
            return
        if out in self._found.values:
            yield "runs", "not: all that it reads is known before the run, so it is a constant"
            return
        run = self._loop.get(node, node)
        units = self._units.get(run)
        if units is None:
            yield "runs", "not: it only passes its input on, or nothing reads it any more"
            return
        yield from self._of_units(node, run, units)

    def _of_units(self, node: Node, run: Node, units: Sequence[Unit]) -> Iterator[tuple[str, str]]:
        if isinstance(run, FusedNode) and node is not run.op.members[0]:
            yield "runs", f"in the loop of {run.op.members[0].name}: see there"
            yield from self._of_cost(node, units)
            return
        tasks = list(dict.fromkeys(self._task[id(unit)] for unit in units))
        yield "runs", self._of_tasks(tasks, units)
        yield "loop", self._of_loop(node)
        if _is_on_host(units):
            kernels = [unit for unit in units if unit.seconds or unit.mode in ("part", "partial")]
            yield "slices", self._of_slices(run, units, sum(unit.seconds for unit in kernels))
        yield "memory", self._of_memory(run, units)
        if self.plan.reasons.get(run) is not None:
            yield "device", f"{units[0].device}, placed {self.plan.reasons[run]}"
        yield from self._of_cost(node, units)

    def _of_cost(self, node: Node, units: Sequence[Unit]) -> Iterator[tuple[str, str]]:
        inputs = [self._found.spec(tensor) for tensor in node.inputs]
        if all(is_known(each.shape) for each in inputs) and not (node.op.bodies or node.op.is_view):
            work = node.op.work(*inputs, **node.attrs)
            told = f"{short(work.flops)} flops, {format_bytes(round(work.bytes))} moved"
            if _is_on_host(units):
                yield "cost", f"{told}: {format_seconds(estimated_seconds(node, inputs))} by NumPy alone"
            elif node in self._loop:
                yield "cost", told
            else:
                yield "cost", f"{told}: {format_seconds(sum(unit.seconds for unit in units))} on {units[0].device}"

    def _of_tasks(self, tasks: Sequence[int], units: Sequence[Unit]) -> str:
        plan = self.plan
        if not _is_on_host(units):
            task = plan.tasks[tasks[0]]
            place = next(number for number, unit in enumerate(task.units, 1) if unit is units[0])
            return f"as kernel {place} of the {len(task.units)} that {task.device} is asked for in task {task.index}, one behind the other"
        if len(plan.tasks) == 1:
            total = format_seconds(plan.seconds)
            return f"in the one task: all takes {total}, and a hand-over to another thread {format_seconds(HAND_OVER_SECONDS)} or more"
        task = plan.tasks[tasks[0]]
        more = f"tasks {in_words(tasks)}" if len(tasks) > 1 else f"task {task.index}"
        after = f", after {in_words(task.after)}" if task.after and len(tasks) == 1 else ""
        beside = len(task.units) - sum(self._task[id(unit)] == task.index for unit in units)
        joined = (
            f", with {beside} other kernel{'s' * (beside > 1)}: what takes less than {format_seconds(CHEAP_SECONDS)} joins what it reads"
        )
        return f"in {more} of {len(plan.tasks)}{after}{joined if beside and len(tasks) == 1 else ''}"

    def _of_loop(self, node: Node) -> str:
        loop = self._loop.get(node)
        if loop is not None:
            others = [member.name for member in loop.op.members if member is not node]
            inputs = [[self._found.spec(tensor) for tensor in member.inputs] for member in loop.op.members]
            plain = sum(estimated_seconds(member, each) for member, each in zip(loop.op.members, inputs, strict=True))
            beside = f" with {', '.join(others[:4])}{', ...' * (len(others) > 4)}" if others else ""
            return f"compiled{beside}: {format_seconds(loop.op.seconds)}, and {format_seconds(plain)} one by one"
        if self.plan.request.compiled is None:
            return "none: the session compiles none (jit=False, or llvmlite is not installed)"
        op, out = node.op, node.outputs[0] if node.outputs else None
        why = (self._found.why or {}).get(node)
        if why is not None:
            return f"none: {why}"
        if len(node.outputs) != 1:
            return "none: it has several results"
        if node._context.control:
            return "none: it waits for other nodes by request"
        if op.scalar is None and op.fold is None and op.name != "sum_like":
            return "none: it is not computed element by element"
        if out is not None and self._found.spec(out).dtype not in SUPPORTED:
            return f"none: loops do not know {out.dtype}"
        if not all(is_known(self._found.spec(tensor).shape) for tensor in (*node.inputs, *node.outputs)):
            return "none: a size is known only in the run"
        return "none: nothing beside it could be one loop with it"

    def _of_slices(self, run: Node, units: Sequence[Unit], seconds: float) -> str:
        parts = [unit for unit in units if unit.mode in ("part", "partial")]
        took = format_seconds(seconds)
        if parts:
            rows = parts[0].read[1] - parts[0].read[0]
            how = "each adds up its own rows, and their sums are added" if parts[0].mode == "partial" else "each fills its own rows"
            why = f"more than {format_seconds(SLICE_SECONDS)}" if seconds >= SLICE_SECONDS else "and what it reads is cut already"
            return f"{len(parts)} of {rows} rows, as it takes {took}, {why}; {how}"
        if seconds <= CHAIN_SECONDS:
            return f"none: it takes {took}, less than {format_seconds(CHAIN_SECONDS)}"
        if not run.op.takes_out or len(run.outputs) != 1:
            return f"none: its kernel cannot fill a part of an array ({took})"
        if seconds < SLICE_SECONDS:
            return f"none: it takes {took}, less than {format_seconds(SLICE_SECONDS)}, and what it reads is whole"
        return f"none: it cannot be cut along its first axis ({took})"

    def _of_memory(self, run: Node, units: Sequence[Unit]) -> str:
        unit = next((unit for unit in units if unit.mode != "fresh"), units[-1])
        size = "" if unit.spec is None else f" of {format_bytes(unit.spec.nbytes)}"
        if unit.mode == "reuse":
            return f"in place of {self._name(unit.inputs[unit.reuse])} (s{unit.inputs[unit.reuse]}), which nothing else reads"
        if run.op.is_view and unit.mode == "fresh":
            return "a view of what it reads"
        made = {"take": f"a kept array{size}", "fresh": f"a new array{size}"}.get(unit.mode, f"rows of one array{size} (s{unit.buffer})")
        if unit.mode in ("part", "take"):
            if unit.buffer in unit.inputs[: len(unit.inputs) - len(unit.writes)]:
                return f"in place of what it reads, in rows of s{unit.buffer}"
            if not run.op.in_place:
                return f"{made}; not in place: its kernel still reads when it writes"
            told = [f"{self._name(slot)} {what}" for slot, what in self._obstacles.get(run, {}).items()]
            return f"{made}; not in place: {', '.join(told)}" if told else made
        if not _is_on_host(units):
            return f"{made} from CuPy's pool, which has it again once nothing reads it any more"
        may_write_over = unit.mode == "fresh" and size and run.op.in_place
        return f"{made}, or that of an input that dies here: below 16 kB the program decides" if may_write_over else made

    def _name(self, slot: int) -> str:
        """The name of what a slot holds."""
        given = {source: tensor.name for tensor, source in sources_of(self.plan)}
        made = {each: unit.node.name for unit in reversed(self.plan.units) for each in (unit.output, unit.buffer)}
        return str(given.get(slot) or made.get(slot) or f"s{slot}")


def _is_on_host(units: Sequence[Unit]) -> bool:
    return units[0].device.startswith("cpu")


def _fits(name: str, pattern: str) -> bool:
    return name == pattern or name.startswith(f"{pattern}/") or fnmatch.fnmatchcase(name, pattern)


def in_words(tasks: Sequence[int]) -> str:
    """Numbers of tasks, those that follow each other together.

    >>> in_words([0, 1, 2, 3, 7, 9, 10])
    '0 to 3, 7, 9, 10'
    """
    runs: list[list[int]] = []
    for task in tasks:
        if runs and task == runs[-1][-1] + 1:
            runs[-1].append(task)
        else:
            runs.append([task])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def short(number: float) -> str:
    """A number with three digits, as 2.3e6.

    >>> short(2312345.0), short(12.0)
    ('2.31e6', '12')
    """
    mantissa, _, exponent = f"{number:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa
