"""Numerics: which results of a run are not finite, and which node is to blame.

A run itself looks at nothing but its results (`is_finite`). Where one is infinite or no number, the run is repeated from its inputs, node
by node, and `search` goes back from that result to the node that made the first such value from finite ones.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..compile import Plan
from ..compile.fuse import FusedNode
from ..compile.plan import sources_of
from ..errors import FlowgraphError, NumericsError
from ..graph import Node, Tensor
from ..graph.report import explain, pointed
from ..graph.spec import format_shape
from .generated import QUIET
from .memory import Buffers
from .observe import Step, Turn, Walk, evaluated
from .program import read

# Through BLAS, the product of an array with itself is finite (or overflows, which is rare) in a third of the time of np.isfinite.
_BY_BLAS = "fdFD"


def are_finite(values: Iterable[Any]) -> bool:
    """Whether all of ``values`` (arrays, numbers, or None) are finite."""
    before = _set_errors(_ignored)
    try:
        return all(is_finite(value) for value in values if value is not None)
    finally:
        _reset_errors(before)


def is_finite(value: Any) -> bool:
    """Whether no element of an array or number is infinite or NaN. It costs 0.3 us, and 0.1 ns a byte.

    NumPy may warn of an overflow, unless it is told not to.
    """
    kind = value.dtype.kind
    if kind not in "fcV":
        return True
    if value.dtype.char in _BY_BLAS:
        if not value.ndim:
            return math.isfinite(value.real) and (kind == "f" or math.isfinite(value.imag))
        flat = value.reshape(-1) if value.flags.c_contiguous else value.ravel(order="K")
        total = flat.dot(flat)
        if math.isfinite(total.real) and (kind == "f" or math.isfinite(total.imag)):
            return True
    return bool(np.isfinite(value).all())


def finite_on(device: Any, arrays: Sequence[Any]) -> list[bool]:
    """Whether arrays of a GPU are finite: each is tested there, and what the tests say comes to the host in one copy."""
    with device.active():
        xp = device.xp
        tests = [xp.isfinite(each.astype(np.float32) if each.dtype.kind == "V" else each).all() for each in arrays]
        return [bool(each) for each in device.to_host(xp.stack(tests))]


_set_errors, _ignored, _reset_errors = QUIET["set_errors"], QUIET["ignored"], QUIET["reset_errors"]


def is_float(value: Any) -> bool:
    """Whether it is an array that may hold what is not finite."""
    return isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fcV"


class Flags(NamedTuple):
    """Whether an array holds NaN, and whether infinities."""

    nan: bool = False
    inf: bool = False

    @classmethod
    def of(cls, value: Any) -> Flags:
        if not is_float(value) or is_finite(value):
            return _FINE
        return cls(bool(np.isnan(value).any()), bool(np.isinf(value).any()))

    def __or__(self, other: Any) -> Flags:
        return Flags(self.nan or other.nan, self.inf or other.inf)


_FINE = Flags()


_PLURAL = ("zero", "denormal")


def statistics(value: Any) -> str:
    """What an array holds, in a few words: range and mean of what is finite in it, and how many elements are not.

    >>> from flowgraph.runtime.numerics import statistics
    >>> statistics(np.array([0.0, 1.0, 4.0, np.nan, np.inf]))
    '0 … 4, mean 1.667; 1 nan, 1 inf, 1 zero of 5'
    """
    array = np.asarray(value)
    if not array.size:
        return "empty"
    if array.dtype.kind == "V":
        array = array.astype(np.float32)
    if array.size == 1:
        return f"{array.reshape(-1)[0]:.6g}"
    counts = {}
    parts = array
    if array.dtype.kind in "fc":
        finite = np.isfinite(array)
        counts["nan"] = int(np.isnan(array).sum())
        if array.dtype.kind == "f":
            counts["inf"], counts["-inf"] = int((array == np.inf).sum()), int((array == -np.inf).sum())
            tiny = np.abs(array) < np.finfo(array.dtype).tiny
            counts["zero"] = int((array == 0).sum())
            counts["denormal"] = int(tiny.sum()) - counts["zero"]
        else:
            counts["inf"] = array.size - int(finite.sum()) - counts["nan"]
        parts = array[finite] if not finite.all() else array
    told = ", ".join(f"{count} {name}{'s' * (name in _PLURAL and count > 1)}" for name, count in counts.items() if count)
    if not parts.size:
        return f"all {told.split(' ', 1)[1]}" if told.count(",") == 0 else f"{told} of {array.size}"
    if array.dtype.kind == "c":
        text = f"sizes {np.abs(parts).min():.4g} … {np.abs(parts).max():.4g}"
    else:
        text = f"{parts.min():.4g} … {parts.max():.4g}, mean {parts.mean(dtype=np.float64):.4g}"
    return f"{text}; {told} of {array.size}" if told else text


@dataclass
class Record:
    """What is known of one walk through a plan, or through the body of a loop in one turn.

    flags    of each tensor that has a value
    makers   nodes that have made what none of their inputs holds, with the statistics of these and of what they made
    made     slot -> the tensor in it
    sources  node -> the tensors that it has read: where the plan has found two to be the same, the one that is computed
    """

    flags: dict[Tensor, Flags] = field(default_factory=dict)
    makers: dict[Node, list[tuple[str, str]]] = field(default_factory=dict)
    made: dict[int, Tensor] = field(default_factory=dict)
    sources: dict[Node, list[Tensor]] = field(default_factory=dict)

    def of(self, tensor: Tensor) -> Flags:
        """The flags of a tensor; of one that the plan has simplified away, those of what it was made of."""
        if tensor not in self.flags:
            flags = self.inputs(tensor.node)
            if not any(flags):  # of what was folded, that is what it is; of anything else there is no value
                with contextlib.suppress(Exception):
                    value = evaluated(tensor, {})
                    self.note(tensor.node, [(tensor, value)], lambda: [(each, evaluated(each, {})) for each in tensor.node.inputs])
                    flags = self.flags[tensor]
            self.flags[tensor] = flags
        return self.flags[tensor]

    def inputs(self, node: Node) -> Flags:
        """What the inputs of a node hold together."""
        flags = _FINE
        for tensor in self.read_by(node):
            flags |= self.of(tensor)
        return flags

    def read_by(self, node: Node) -> Sequence[Tensor]:
        """What a node has read."""
        return self.sources.get(node, node.inputs)

    def note(self, node: Node, made: Iterable[tuple[Tensor, Any]], inputs: Callable[[], Iterable[tuple[Tensor, Any]]]) -> None:
        """Takes down what a node has made; ``inputs`` gives the values that it read."""
        for tensor, value in made:
            flags = self.flags[tensor] = Flags.of(value)
            before = self.inputs(node) if any(flags) else _FINE
            if node not in self.makers and (flags.nan > before.nan or flags.inf > before.inf):
                rows = [_row(label, each, array) for label, (each, array) in zip(node.op.parameters, inputs(), strict=False)]
                self.makers[node] = [*rows, ("gave", f"{format_shape(np.shape(value))} {tensor.dtype}: {statistics(value)}")]


def _row(label: str, tensor: Tensor, value: Any) -> tuple[str, str]:
    kind = f"{tensor.node.op.name} " if tensor.node.op.name in ("placeholder", "variable", "constant") else ""
    name = "a constant" if kind == "constant " and not tensor.node.label else f"{kind}{tensor.name}"
    if not isinstance(value, np.ndarray | np.generic):
        return label, name
    return label, f"{format_shape(value.shape)} {value.dtype}   {name}: {statistics(value)}"


@dataclass
class Culprit:
    """What is to blame.

    node      that made the first value that is not finite, or that holds one which was given
    is_given  whether it is a placeholder, variable or constant
    rows      the statistics of its inputs and of what it made
    then      the node that made NaN of the infinities, if another
    wanted    the tensor that is not finite, as far as the search has begun there
    of        what it was made of, in words
    turns     the loops that it is in, outermost first
    """

    node: Node
    is_given: bool
    rows: list[tuple[str, str]]
    then: Node | None
    wanted: Tensor
    of: str
    turns: tuple[Turn, ...] = ()


class Search:
    """A walk that takes down what is not finite, and then tells who is to blame."""

    def __init__(self, plan: Plan, values: list[Any], buffers: Buffers, run: Any) -> None:
        self.plan = plan
        self.records: list[Record] = [Record()]  # of the plan, and of the turns that it is in
        self.path: tuple[Turn, ...] = ()
        self.inner: dict[Node, Culprit] = {}  # node with sub-graphs -> what is to blame in its first turn that went wrong
        self.walk = Walk(plan, values, buffers, self._seen, keep=False, begins=self._begins, run=run)
        for tensor, slot in sources_of(plan):
            value = self.walk.known[tensor]
            flags = self.records[0].flags[tensor] = Flags.of(value)
            self.records[0].made[slot] = tensor
            if any(flags):
                self.records[0].makers[tensor.node] = [("holds", f"{format_shape(np.shape(value))}: {statistics(value)}")]

    def find(self, tensors: Sequence[Tensor]) -> Culprit | None:
        """Who is to blame for that one of ``tensors`` is not finite; None where all of them are."""
        for _ in self.walk:
            pass
        self._leave(0)
        bad = sorted([t for t in tensors if any(self.records[0].of(t))], key=lambda t: not self.records[0].of(t).nan)
        return self._culprit(self.records[0], bad[0]) if bad else None

    # --- while the walk goes on

    def _begins(self, path: tuple[Turn, ...], plan: Plan, arrays: Sequence[Any]) -> None:
        self._leave(len(path) - 1)
        self.path = path
        record = Record()
        for (tensor, slot), array in zip(plan.feeds, arrays, strict=True):
            record.flags[tensor], record.made[slot] = Flags.of(array), tensor
        self.records.append(record)

    def _seen(self, step: Step) -> None:
        self._leave(len(step.path))
        record, node = self.records[-1], step.node
        if isinstance(node, FusedNode):
            self._note_members(record, node, step.read)
        else:
            found = read(step.main, record.made.get)
            record.sources[node] = [tensor if other is None else other for tensor, other in zip(node.inputs, found, strict=True)]
            pairs = list(zip(node.inputs, step.read, strict=False))
            record.note(node, [(t, v) for (t, _), v in zip(step.made, step.values, strict=True)], lambda: pairs)
        for (tensor, slot), value in zip(step.made, step.values, strict=True):  # (of a loop, what it made and not what NumPy would)
            record.flags[tensor], record.made[slot] = Flags.of(value), tensor

    def _note_members(self, record: Record, node: FusedNode, values: Sequence[Any]) -> None:
        """Takes down the members of a compiled loop, computed one by one from what it has read."""
        known = dict(zip(node.inputs, values, strict=False))

        def note(tensor: Tensor) -> None:
            known[tensor] = evaluated(tensor, known)
            record.note(tensor.node, [(tensor, known[tensor])], lambda: [(each, evaluated(each, known)) for each in tensor.node.inputs])

        for member in node.op.members:
            with contextlib.suppress(KeyError, FlowgraphError):  # (what depends on more than the loop has read)
                for tensor in (*member.inputs, *member.outputs):
                    if tensor not in known and tensor.node.op.name != "constant":
                        note(tensor)

    def _leave(self, depth: int) -> None:
        """Ends the turns deeper than ``depth``: in the first of a loop that went wrong, what is to blame is found."""
        while len(self.records) > depth + 1:
            record, turn = self.records.pop(), self.path[len(self.records) - 1]
            sub = turn.node.attrs[turn.node.op.bodies[turn.body]]
            given = _FINE
            for tensor in (*sub.inputs, *sub.captures.values()):
                given |= record.of(tensor)
            bad = [t for t in sub.outputs if (f := record.of(t)).nan > given.nan or f.inf > given.inf]
            if bad and turn.node not in self.inner:
                found = self.inner[turn.node] = self._culprit(record, bad[0])
                found.turns = found.turns or self.path[: len(self.records)]  # (a loop within this one has said it)

    # --- afterwards

    def _culprit(self, record: Record, tensor: Tensor) -> Culprit:
        made_nan = record.of(tensor).nan
        node = _origin(record, tensor, "nan" if made_nan else "inf")
        then = None
        if made_nan and record.inputs(node).inf:
            first = _origin(record, next(t for t in record.read_by(node) if record.of(t).inf), "inf")
            if not _is_given(first):  # (an infinity that the user has given, as a mask, is meant)
                node, then = first, node
        if node in self.inner:
            return self.inner[node]
        of = "infinities" if record.inputs(node).inf else "finite values"
        return Culprit(node, _is_given(node), record.makers.get(node, []), then, tensor, of)


def explained(culprit: Culprit, result: str) -> NumericsError:
    """The error that tells of it; ``result``: what the run has made that is not finite."""
    node, then = culprit.node, culprit.then
    gave = dict(culprit.rows).get("gave", "")
    kind = "nan" if " nan" in gave else "-inf" if " -inf" in gave else "inf"
    rows = list(culprit.rows)
    if then is not None:
        rows.append(("then", pointed(f"{then.name} made nan of it, made at ", then.location)))
    rows += [("in", f"{turn.node.name}, {turn.node.op.bodies[turn.body]}, turn {turn.number} (counted from 0)") for turn in culprit.turns]
    rows.append(("result", result))
    if culprit.is_given:
        given = {"placeholder": "is fed", "variable": "holds", "constant": "is made of"}[node.op.name]
        error = NumericsError(f"{node.name} {given} values that are not finite", rows=rows, help="nothing else has made any")
    else:
        error = NumericsError(f"{node.op.name}: made {kind} of {culprit.of}", rows=rows, help=_help(culprit))
    explain(error, op=node.op.name, name=node.name, location=node.location, inputs=[], node=node, forward=node.forward)
    error.near = node.inputs
    if culprit.is_given and node.op.name == "placeholder" and error.call is not None:
        error.blamed = error.call.location  # who has fed it
        error.rows = [*error.call.rows, *error.rows]
    return error


# What to write in place of what overflows or is not defined, by the op that did it; for one in a gradient, by the op that it belongs to.
_HELP = {
    "log": "log is -inf at 0 and nan below: take fg.log(fg.maximum(x, 1e-7)), or a loss that takes logits and needs no log",
    "divide": "a number divided by 0 is inf, and 0 by 0 nan: add a small number below the line",
    "reciprocal": "1 / 0 is inf: add a small number below the line",
    "exp": "exp overflows beyond 88.7 in float32 (709 in float64): fg.logsumexp and fg.nn.softmax take the largest off first",
    "sqrt": "sqrt is nan below 0: take fg.sqrt(fg.maximum(x, 0))",
    "pow": "a power overflows, or is nan for a negative base with a fraction as its exponent",
    "square": "it overflows: scale down before, or compute in float64",
    "matmul": "it overflows: scale down before, or compute in float64",
    "multiply": "it overflows: scale down before, or compute in float64",
}
_HELP_IN_GRADIENT = {
    "sqrt": "the slope of sqrt at 0 is infinite: take fg.sqrt(x + 1e-12)",
    "log": "the slope of log at 0 is infinite: take fg.log(x + 1e-7)",
    "pow": "a slope overflows, or is that of a power below 1 at 0: smaller steps, or a small number added to the base",
    "norm": "a norm has no slope at 0: take fg.sqrt(fg.sum(x * x) + 1e-12)",
    "abs": "abs of a complex number has no slope at 0: add a small number",
}


def _help(culprit: Culprit) -> str | None:
    node = culprit.node
    if node.forward is not None or culprit.wanted.node.forward is not None:
        chosen = _chosen_by(node.forward or node)
        if chosen is not None:
            return (
                f"where at {chosen.location} hands a gradient of 0 to the branch that it has not chosen, and 0 times what is not finite\n"
                "is nan: give that branch a harmless number: fg.where(c, f(fg.where(c, x, 1.0)), y)"
            )
    if node.forward is not None:
        return _HELP_IN_GRADIENT.get(node.forward.op.name) or _HELP.get(node.op.name)
    return _HELP.get(node.op.name)


def _chosen_by(node: Node) -> Node | None:
    """The next `where` that may leave out what depends on ``node``."""
    below = set(node.outputs)
    for other in node.graph.nodes[node.id + 1 :]:
        if other.forward is None and not below.isdisjoint(other.inputs):
            if other.op.name == "where" and not below.isdisjoint(other.inputs[1:]):
                return other
            below.update(other.outputs)
    return None


def _origin(record: Record, tensor: Tensor, kind: str) -> Node:
    """The node from which that ``kind`` of value in a tensor comes: none of its inputs has any."""
    while True:
        before = [each for each in record.read_by(tensor.node) if getattr(record.of(each), kind)]
        if not before:
            return tensor.node
        tensor = before[0]


def _is_given(node: Node) -> bool:
    return node.op.name in ("placeholder", "variable", "constant")
