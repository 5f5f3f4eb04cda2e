"""Bisect: which rewrite of the compiler changes a result by more than it may, found by allowing fewer and fewer of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..compile import Plan
from ..errors import FlowgraphError
from ..graph import Node, Tensor
from ..graph.report import where
from ..runtime import Program, Walk, started
from ..runtime.chaos import OrderedRun, shrunk
from ..runtime.memory import Buffers
from ..runtime.on_device import device_program

# Rewrites that may not change a bit. The others change the order of sums, or how a function is approximated.
EXACT = frozenset({"algebra", "fold", "common", "in place"})
WHAT = {
    "algebra": "takes {} for its input",
    "fold": "computes {} before the run",
    "common": "takes another node's value for {}",
    "fuse": "computes {} in one compiled loop with what is before it",
    "compile": "computes {} by a compiled kernel",
    "cut": "cuts {} into slices",
    "in place": "writes {} over its input",
}
# Of the largest element: how far a result may be from what NumPy's kernels give one by one.
BOUNDS = {"float64": 1e-10, "complex128": 1e-10, "float32": 1e-4, "complex64": 1e-4, "float16": 3e-2, "bfloat16": 3e-1}

Results = Sequence[Any] | str  # arrays, or the error that came instead


@dataclass(frozen=True)
class Rewrite:
    """One rewrite of a plan. ``kind``: the pass that makes it; ``node``: what it is made of."""

    kind: str
    node: Node

    def __str__(self) -> str:
        return f"{self.kind}: {WHAT[self.kind].format(self.node.name)}   {where(self.node.location)}"


@dataclass(frozen=True)
class Bisection:
    """What bisecting a request has come to. Printing it says so.

    rewrites    how many its plan makes; ``runs``: how often it was run
    culprits    the fewest of them with which a result is off; none where all is well
    result      the name of the result that is off most, or ``"native"`` where it is the machine code of whole stretches
    difference  by how much, of its largest element; with all rewrites where all is well
    said        what is wrong, in words; empty where nothing is
    """

    rewrites: int
    runs: int
    culprits: tuple[Rewrite, ...] = ()
    result: str = ""
    difference: float = 0.0
    said: str = ""

    @property
    def is_fine(self) -> bool:
        """Whether no rewrite changes a result by more than it may."""
        return not self.said

    def __str__(self) -> str:
        tried = f"{self.rewrites} rewrite{'s' * (self.rewrites != 1)}, {self.runs} runs"
        if self.is_fine:
            return f"{tried}: none changes a result by more than it may; the largest difference is {self.difference:.2g}"
        return "\n".join([f"{tried}: {self.said}", *[f"  {culprit}" for culprit in self.culprits]])


def bisected(plan: Plan, buffers: Buffers, values: Sequence[Any], bound: float | None) -> Bisection:
    """The fewest rewrites of ``plan`` with which a result is off, for a run that starts with ``values``."""
    given: dict[Any, Any] = {tensor: values[slot] for tensor, slot in plan.feeds}
    given |= {node: values[slot] for node, slot in plan.variables}
    return Bisecting(plan, buffers, given, values[plan.run_key] if plan.run_key >= 0 else None, bound).bisected()


class Bisecting:
    """Compiles and runs a request with some of its rewrites.

    given  what a run starts with: node of a variable -> value, tensor -> feed, and the key of its random draws
    bound  how far a result may be off, of its largest element; None for `BOUNDS`
    """

    def __init__(self, plan: Plan, buffers: Buffers, given: Mapping[Any, Any], key: Any, bound: float | None) -> None:
        self.plan, self.buffers, self.given, self.key, self.bound = plan, buffers, given, key, bound
        self.names = [fetch.name for fetch in plan.request.fetches] + [node.name for node, _ in plan.updates]
        self.runs = 0

    def bisected(self) -> Bisection:
        """The fewest rewrites with which a result is off."""
        asked: dict[tuple[str, Node], None] = {}

        def noting(kind: str, node: Node) -> bool:
            asked[kind, node] = None
            return True

        plain = self.with_rewrites(lambda kind, node: False)
        whole = self.with_rewrites(noting)
        keys = list(asked)
        exact = self.with_rewrites(lambda kind, node: kind in EXACT)
        name, difference = self.furthest(exact, plain)
        if difference:
            return self._found([key for key in keys if key[0] in EXACT], plain, lambda name, d: d > 0, ", and they may not change a bit")
        name, difference = self.furthest(whole, plain)
        if self._is_off(name, difference):
            return self._found(keys, plain, self._is_off, "")
        native = self._native()
        other, apart = self.furthest(native, whole)
        if apart:
            said = f"{other} is another by {apart:.2g} when stretches of kernels run as one call of machine code than one by one"
            return Bisection(len(keys), self.runs, (), "native", apart, said)
        return Bisection(len(keys), self.runs, (), name, difference)

    def _found(self, keys: Sequence[tuple[str, Node]], plain: Results, is_wrong: Callable[[str, float], bool], what: str) -> Bisection:
        def fails(part: Collection[tuple[str, Node]]) -> bool:
            allowed = set(part)
            return is_wrong(*self.furthest(self.with_rewrites(lambda kind, node: (kind, node) in allowed), plain))

        culprits = shrunk(keys, fails)
        allowed = set(culprits)
        result = self.with_rewrites(lambda kind, node: (kind, node) in allowed)
        name, difference = self.furthest(result, plain)
        by = f" by {difference:.2g} of its largest element" if np.isfinite(difference) else ""
        said = f"with {len(culprits)} of them, {name} is off{by}{what}"
        if isinstance(result, str) or isinstance(plain, str):
            said = f"with {len(culprits)} of them, the run ends with {_ended(result)}; without any, with {_ended(plain)}"
        return Bisection(len(keys), self.runs, tuple([Rewrite(*key) for key in culprits]), name, difference, said)

    def with_rewrites(self, allows: Callable[[str, Node], bool]) -> Results:
        """The results of a run whose plan makes the rewrites that are allowed, kernel by kernel."""
        self.runs += 1
        try:
            plan = self.plan.request.compile(allows=allows)
            values = self._values(plan)
            for _ in Walk(plan, values, self.buffers, keep=False):
                pass
        except FlowgraphError as error:
            return f"{type(error).__name__}: {error.message}"
        return self._results(plan, values)

    def _native(self) -> Results:
        """The results of a run as sessions make it from the second time on."""
        results: Results = []
        program = (Program if self.plan.host_only else device_program)(self.plan, self.buffers)

        def ended(run: Any) -> None:
            nonlocal results
            results = self._results(self.plan, run.values) if run.error is None else str(run.error)

        for _ in range(3):
            self.runs += 1
            OrderedRun(program, self._values(self.plan), ended).run_in(range(len(self.plan.tasks)))
        return results

    def _values(self, plan: Plan) -> list[Any]:
        values = started(plan, self.buffers)
        for tensor, slot in plan.feeds:
            values[slot] = self.given[tensor]
        for node, slot in plan.variables:
            values[slot] = self.given[node]
        if plan.run_key >= 0:
            values[plan.run_key] = self.key
        return values

    def _results(self, plan: Plan, values: Sequence[Any]) -> list[Any]:
        slots = [*plan.fetches, *[slot for _, slot in plan.updates]]
        return [None if slot < 0 else np.array(self.buffers.home(values[slot])) for slot in slots]

    def furthest(self, results: Results, others: Results) -> tuple[str, float]:
        """The result that is off most, and by how much of its largest element; infinity where the two cannot be compared."""
        if isinstance(results, str) or isinstance(others, str):
            return self.names[0], 0.0 if results == others else np.inf
        found = [(distance(a, b), name) for name, a, b in zip(self.names, results, others, strict=True) if a is not None]
        return max(found, default=(0.0, ""))[::-1]

    def _is_off(self, name: str, difference: float) -> bool:
        if self.bound is not None:
            return difference > self.bound
        tensor: Any = {self.names[place]: fetch for place, fetch in enumerate(self.plan.request.fetches)}.get(name)
        if not isinstance(tensor, Tensor):
            tensor = next((node.outputs[0] for node, _ in self.plan.updates if node.name == name), None)
        return difference > (BOUNDS.get(tensor.dtype.name, 0.0) if isinstance(tensor, Tensor) else 0.0)


def distance(a: Any, b: Any) -> float:
    """How far two arrays are apart, of the largest element of the second; 0 where all bits are equal.

    >>> distance(np.array([1.0, 4.0]), np.array([1.0, 8.0]))
    0.5
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return float(np.inf)
    if not a.size or a.tobytes() == b.tobytes():
        return 0.0
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    a, b = a.astype(wide), b.astype(wide)
    with np.errstate(all="ignore"):
        alike = (a == b) | (np.isnan(a) & np.isnan(b))
        if alike.all():
            return float(np.finfo(np.float64).tiny)  # zeros of another sign, NaN of other bits
        apart = np.abs(np.where(alike, 0, a - b))
        size = np.abs(b[np.isfinite(b)])
        scale = size.max() if size.size and size.max() > 0 else 1.0
        largest = float((apart / scale).max())
    return largest if np.isfinite(largest) else float(np.inf)


def _ended(results: Results) -> str:
    return results if isinstance(results, str) else "no error"
