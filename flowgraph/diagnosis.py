"""Diagnosis: why a loss does not go down. Which variables get no gradient, and where it stops; and, measured in a run, where it dies,
vanishes or explodes, which units are dead and which saturated.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .autodiff import gradients
from .autodiff.paths import Path, path_between
from .compile import compile_plan
from .devices import HOST
from .errors import ArgumentError
from .graph import Location, Node, Tensor
from .graph.report import where
from .graph.spec import format_shape
from .graph.subgraph import ancestors
from .graph.text import table
from .runtime import Buffers, Walk, started
from .runtime.numerics import Search, explained, statistics
from .session import Session
from .session.values import check_symbols
from .viz import draw
from .viz.heat import Heat

# What counts as a fault: a gradient that is so many times smaller, or larger, at the weights far from the loss than at those near it;
# shares of units that are never on, and of values at the ends of an activation where it has next to no slope.
RATIO, DEAD, SATURATED = 1e4, 0.25, 0.5

SHOWN = 30  # rows of a table


@dataclass
class Finding:
    """One thing that is wrong.

    kind   "unused", "stops", "zero", "not finite", "vanishing", "exploding", "dead units", "saturated", "twice"
    text   what is wrong, in a line, with the numbers
    node   that is to blame
    rows   what belongs to it: a path, with lines
    help   what to do
    """

    kind: str
    text: str
    node: Node
    rows: str = ""
    help: str = ""

    @property
    def location(self) -> Location:
        """The user's line to blame."""
        return self.node.location

    def __str__(self) -> str:
        lines = [f"{self.kind}: {self.text}", f"  {self.node.name}, made at {where(self.location)}"]
        lines += [f"  {line}" for line in self.rows.splitlines()]
        return "\n".join([*lines, *([f"  help: {self.help}"] if self.help else [])])


@dataclass
class Sizes:
    """What was measured of a tensor.

    value    root of the mean square of its elements, and ``gradient``: of those of the loss by it; None where that was not seen
    zeros    share of its elements that are 0
    note     what is wrong with it
    """

    value: float | None = None
    gradient: float | None = None
    zeros: float = 0.0
    note: str = ""


@dataclass
class Diagnosis:
    """What `diagnose` has found; print it. ``findings`` is empty where nothing is wrong.

    sizes    tensor -> `Sizes`: of the variables, and of what lies between them and the loss
    value    of the loss, as text; empty where nothing was run
    """

    loss: Tensor
    variables: list[Tensor]
    findings: list[Finding] = field(default_factory=list)
    sizes: dict[Tensor, Sizes] = field(default_factory=dict)
    value: str = ""

    @property
    def heat(self) -> Heat:
        """The size of the gradient of the loss by each tensor, as `flowgraph.draw` takes it."""
        sizes = {tensor: entry.gradient for tensor, entry in self.sizes.items() if entry.gradient is not None and entry.gradient > 0}
        return Heat({tensor: size for tensor, size in sizes.items() if np.isfinite(size)}, title="size of the gradient", log=True)

    @property
    def notes(self) -> dict[Node, str]:
        """What is wrong, by node, as `flowgraph.draw` takes it."""
        notes = {tensor.node: entry.note for tensor, entry in self.sizes.items() if entry.note}
        return {**{finding.node: finding.kind for finding in self.findings}, **notes}

    def draw(self, file: str | os.PathLike[str] | None = None, **options: Any) -> Any:
        """The graph of the loss, coloured by the size of its gradient, with what is wrong marked and written in; see `flowgraph.draw`."""
        heat = {} if not self.heat.values else {"heat": self.heat}
        marked = [finding.node for finding in self.findings]
        unused = [finding.node for finding in self.findings if finding.kind == "unused"]
        return draw([self.loss, *unused], file, **{**heat, "notes": self.notes, "marked": marked, **options})

    def _repr_svg_(self) -> str:
        """What a notebook shows."""
        return str(self.draw())

    def __str__(self) -> str:
        head = f"{self.loss.name}{' = ' * bool(self.value)}{self.value}, made at {where(self.loss.node.location)}"
        count = len(self.findings)
        found = "nothing is wrong" if not count else f"{count} thing{'s are' if count > 1 else ' is'} wrong"
        parts = [f"{head}\n{found}" + ("" if self.value else " with the graph; give a session and feeds to have it measured")]
        parts += [f"{number}. {finding}" for number, finding in enumerate(self.findings, 1)]
        if self.value:
            parts.append(_table("variable", self.variables, self.sizes, lambda tensor: format_shape(tensor.shape)))
            between = [tensor for tensor in self.sizes if tensor not in set(self.variables)]
            listed = [t for t in between if t.node.op.name in (*RELU, *ENDS) or self.sizes[t].note] or between
            parts.append(_table("in between", listed, self.sizes, lambda tensor: str(tensor.node.location)))
        return "\n\n".join(parts)


def _table(title: str, tensors: Sequence[Tensor], sizes: Mapping[Tensor, Sizes], about: Any) -> str:
    rows = [(title, "", "value", "gradient", "zeros", "")]
    for tensor in tensors[:SHOWN]:
        entry = sizes.get(tensor, Sizes())
        zeros = f"{entry.zeros:.0%}" if entry.value is not None else "-"
        rows.append((tensor.name, about(tensor), _number(entry.value), _number(entry.gradient), zeros, entry.note))
    if len(tensors) > SHOWN:
        rows.append((f"and {len(tensors) - SHOWN} more", "", "", "", "", ""))
    return "\n".join(table(rows, left=(0, 1, 5)))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def diagnose(
    loss: Tensor,
    variables: Tensor | Sequence[Tensor] | None = None,
    session: Session | None = None,
    feeds: Mapping[Tensor, Any] | None = None,
) -> Diagnosis:
    """Why a loss does not go down: what is wrong with its gradients, and the lines to blame. Print the result.

    loss       a float scalar
    variables  those that ought to learn; None for all trainable ones of the graph
    session    measures in a run: then gradients that are zero, vanish, explode or are not finite are found too, ReLU units that are
               never on, and activations that are saturated; None for what the graph alone tells
    feeds      for that run, as of ``session.run``: a batch, best a real one. No variable is written
    returns    a `Diagnosis`: ``findings``, each with ``kind``, ``text``, ``node`` and ``location``; ``sizes`` of values and gradients; and
               ``draw`` for the graph with all that in it
    raises     ArgumentError for what is no loss; what a run raises

    The gradients are added to the graph, where an optimiser that is given the loss finds them.

    >>> w, b = fg.variable(np.ones((4, 3)), name="w"), fg.variable(np.ones(3), name="b")
    >>> x = fg.placeholder("x", ("batch", 4), "float64")
    >>> hits = fg.argmax(x @ w, axis=1)
    >>> loss = fg.mean(fg.astype(hits, "float64"))
    >>> [finding.kind for finding in fg.diagnose(loss).findings]
    ['stops', 'unused']
    """
    if not isinstance(loss, Tensor) or loss.shape != () or loss.dtype.kind not in "fV":
        raise ArgumentError(f"diagnose: a loss is a tensor of one float, got {loss!r:.80}", help="take fg.mean or fg.sum of it")
    if session is not None and not isinstance(session, Session):
        raise ArgumentError(f"diagnose: a session is expected, got {session!r:.80}", help=_CALL)
    if feeds is not None and session is None:
        raise ArgumentError("diagnose: feeds are for a session", help=_CALL)
    if feeds is not None and not isinstance(feeds, Mapping):
        raise ArgumentError(f"diagnose: feeds are a dict from tensors to values, got {type(feeds).__name__}", help=_CALL)
    chosen = [variables] if isinstance(variables, Tensor) else variables
    if chosen is None:
        chosen = [w for w in loss.graph.variables if w.node.attrs["trainable"] and w.dtype.kind in "fcV"]
    for w in chosen:
        if not isinstance(w, Tensor) or w.graph is not loss.graph:
            raise ArgumentError(f"diagnose: variables are tensors of the graph of the loss, got {w!r:.80}")
    diagnosis = Diagnosis(loss, list(chosen))
    if not chosen:
        help = "fg.variable(...) makes what learns"
        diagnosis.findings.append(Finding("unused", "the graph has no trainable variable", loss.node, help=help))
    paths = {w: path_between([loss], w) for w in chosen}
    _unreached(diagnosis, paths)
    _twice(diagnosis)
    if session is not None:
        _Measured(diagnosis, {w: path for w, path in paths.items() if path.nodes and path.stop is None}, session, feeds or {}).judge()
    return diagnosis


_CALL = "fg.diagnose(loss, session=session, feeds={x: array})"


def _unreached(diagnosis: Diagnosis, paths: Mapping[Tensor, Path]) -> None:
    """Variables without a gradient: those with the same stop are told of together."""
    stops: dict[Node, list[Tensor]] = {}
    for w, path in paths.items():
        if path.stops_at is not None:
            stops.setdefault(path.stops_at, []).append(w)
    for node, stopped in stops.items():
        path = paths[stopped[0]]
        text = f"no gradient reaches {_names(stopped)}: it stops at {node.name}, as {path.reason}"
        help = _PASSABLE.get(node.op.name, "a path with a gradient must lead there")
        diagnosis.findings.append(Finding("stops", text, node, path.rows, help))
    unused = [w for w, path in paths.items() if not path.nodes]
    if unused:
        text = f"{diagnosis.loss.name} does not depend on {_names(unused)}"
        help = "use it on the way to the loss, or leave it out of the variables"
        diagnosis.findings.append(Finding("unused", text, unused[0].node, help=help))


_PASSABLE = {
    "argmax": "train with the scores and not the class: fg.nn.softmax_cross_entropy(scores, labels)",
    "astype": "whole numbers have no slope: keep floats on the way to the loss",
    "stop_gradient": "leave fg.stop_gradient out, or these out of the variables",
    "round": "x + fg.stop_gradient(fg.round(x) - x) rounds, and has the slope of x",
    "sign": "fg.tanh has a slope",
    "greater": "a comparison has no slope: fg.nn.sigmoid(x - y) is a soft one",
    "less": "a comparison has no slope: fg.nn.sigmoid(y - x) is a soft one",
    "py_call": "fg.custom_op(..., gradient=...) gives a function its gradient",
    "custom_op": "fg.custom_op(..., gradient=...) gives a function its gradient",
}

# Losses that take scores, and what they must not be given, as they compute it themselves.
_SCORES = {
    "sparse_cross_entropy": ("softmax_cross_entropy", "softmax"),
    "cross_entropy": ("softmax_cross_entropy", "softmax"),
    "sigmoid_cross_entropy": ("sigmoid_cross_entropy", "sigmoid"),
}


def _twice(diagnosis: Diagnosis) -> None:
    """Losses of scores that are given probabilities."""
    graph = diagnosis.loss.graph
    for node_id in ancestors([diagnosis.loss.node], set()):
        node = graph.nodes[node_id]
        function, given = _SCORES.get(node.op.name, ("", ""))
        inner = node.inputs[0].node if given else node
        if inner.op.name == given:
            text = f"fg.nn.{function} takes scores and computes {given} itself, but is given the {given} of them, {inner.name}"
            diagnosis.findings.append(Finding("twice", text, inner, help=f"hand it what {given} is given"))


def _names(tensors: Sequence[Tensor]) -> str:
    names = [tensor.name for tensor in tensors[:4]]
    if len(tensors) > 4:
        return f"{', '.join(names)} and {len(tensors) - 4} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


# Activations that are off at 0, and those that end at two values.
RELU = ("relu", "relu6")
ENDS = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "hard_sigmoid": (0.0, 1.0), "softsign": (-1.0, 1.0)}


class _Measured:
    """A walk through the loss and its gradients that measures each tensor on the way, and judges."""

    def __init__(self, diagnosis: Diagnosis, paths: Mapping[Tensor, Path], session: Session, feeds: Mapping[Tensor, Any]) -> None:
        self.diagnosis, self.paths, self.session, self.feeds = diagnosis, paths, session, feeds
        self.loss, self.sizes = diagnosis.loss, diagnosis.sizes
        graph = self.loss.graph
        below: set[Tensor] = set(paths)
        for node_id in ancestors([self.loss.node], set()):
            node = graph.nodes[node_id]
            if not below.isdisjoint(node.inputs):
                below.update(node.outputs)
        ids = ancestors([self.loss.node], set())
        tensors = [t for node_id in ids for t in graph.nodes[node_id].outputs if t in below and t.dtype.kind in "fV"]
        slopes = gradients(self.loss, tensors, unconnected="none") if tensors else []
        self.slope_of = {tensor: slope for tensor, slope in zip(tensors, slopes, strict=True) if slope is not None}
        self.tensor_of: dict[Tensor, list[Tensor]] = {}  # several tensors may have one gradient
        for tensor, slope in self.slope_of.items():
            self.tensor_of.setdefault(slope, []).append(tensor)
        self.fetches = [self.loss, *[self.slope_of[w] for w in paths if w in self.slope_of]]
        self.wanted = set(self.fetches)
        self.buffers = Buffers([HOST])
        self.bad: list[Tensor] = []

    def _request(self) -> tuple[Any, list[Any]]:
        """The plan, in which each node is by itself and on the host, and what its slots hold at the start."""
        session = self.session
        arrays = {tensor: session._feeds.fed(tensor, value) for tensor, value in self.feeds.items()}
        check_symbols(arrays)
        plan = compile_plan(self.fetches, {tensor: a.shape for tensor, a in arrays.items()}, HOST, passes=(), placed=False)
        values = started(plan, self.buffers)
        for tensor, slot in plan.feeds:
            values[slot] = arrays[tensor]
        for node, slot in plan.variables:
            values[slot] = session.variables[node.outputs[0]]
        if plan.run_key >= 0:
            values[plan.run_key] = np.array([*session.random_state, 0], np.uint64)
        return plan, values

    def judge(self) -> None:
        plan, values = self._request()
        for tensor, slot in [*plan.feeds, *[(node.outputs[0], slot) for node, slot in plan.variables]]:
            self._measure(tensor, values[slot])
        for _ in Walk(plan, list(values), self.buffers, self._seen, keep=False):
            pass
        for slope, tensors in self.tensor_of.items():  # (of a gradient that is a constant, or the value of a variable)
            if slope.node.op.name == "constant":
                for tensor in tensors:
                    self.sizes.setdefault(tensor, Sizes()).gradient = _size(slope.node.attrs["value"])
        if self.bad:
            self._not_finite(plan, values)
        self._zero()
        if not self.bad:
            self._ratios()

    def _seen(self, step: Any) -> None:
        if not step.path:
            for (tensor, _), value in zip(step.made, step.values, strict=True):
                self._measure(tensor, value)

    def _measure(self, tensor: Tensor, value: Any) -> None:
        value = np.asarray(value)
        if tensor is self.loss:
            self.diagnosis.value = statistics(value)
        if value.dtype.kind not in "fV":
            return
        size = None
        if tensor in self.slope_of:
            size = _size(value)
            entry = self.sizes.setdefault(tensor, Sizes())
            entry.value, entry.zeros = size, 1.0 - np.count_nonzero(value) / max(value.size, 1)
            self._activation(tensor, value, entry)
        for of in self.tensor_of.get(tensor, ()):
            self.sizes.setdefault(of, Sizes()).gradient = _size(value) if size is None else size
        if tensor in self.wanted and not np.isfinite(value.astype(np.float32) if value.dtype.kind == "V" else value).all():
            self.bad.append(tensor)

    def _activation(self, tensor: Tensor, value: np.ndarray[Any, Any], entry: Sizes) -> None:
        name = tensor.node.op.name
        if name in RELU and value.ndim > 1 and value.shape[0] > 1:
            axis = 1 if value.ndim > 3 else value.ndim - 1  # channels of images, else features
            on = value.astype(bool).any(axis=tuple(i for i in range(value.ndim) if i != axis))
            dead = int(on.size - np.count_nonzero(on))
            if dead >= DEAD * on.size:
                entry.note = f"{dead} of {on.size} units dead"
                self._find(
                    "dead units",
                    f"{dead} of the {on.size} units of {tensor.name} are 0 for all of the {value.shape[0]} examples, and learn nothing",
                    tensor.node,
                    "a smaller rate, other first values (fg.init.he_normal) or biases above 0, or fg.nn.leaky_relu",
                )
        elif name in ENDS and value.size > 1:
            low, high = ENDS[name]
            margin = 0.01 * (high - low)
            share = float(np.mean((value < low + margin) | (value > high - margin)))
            if share > SATURATED:
                entry.note = f"{share:.0%} saturated"
                self._find(
                    "saturated",
                    f"{share:.0%} of {tensor.name} are within 1 % of {low:g} or {high:g}, where {name} has next to no slope",
                    tensor.node,
                    "smaller first values (fg.init.glorot_uniform), inputs around 0 and of size 1, or a normalisation before it",
                )

    def _find(self, kind: str, text: str, node: Node, help: str = "", rows: str = "") -> None:
        self.diagnosis.findings.append(Finding(kind, text, node, rows, help))

    def _not_finite(self, plan: Any, values: list[Any]) -> None:
        culprit = Search(plan, list(values), self.buffers, None).find(self.bad)
        if culprit is not None:
            error = explained(culprit, "")
            rows = "\n".join(f"{label}: {text}" for label, text in culprit.rows)
            node = culprit.node
            while node.forward is not None:
                node = node.forward
            what = error.message.partition(": ")[2]
            self._find("not finite", what if culprit.is_given else f"{culprit.node.name}: {what}", node, error.help or "", rows)

    def _zero(self) -> None:
        """Variables whose gradient is 0 all over, by the node at which it has become so."""
        dead: dict[Node, list[Tensor]] = {}
        for w, path in self.paths.items():
            if self._gradient(w) == 0:
                self.sizes[w].note = self.sizes[w].note or "gradient 0"
                at = next((i for i, node in enumerate(path.nodes) if self._gradient(node.outputs[0]) == 0), len(path.nodes))
                dead.setdefault(path.nodes[max(at - 1, 0)], []).append(w)
        for node, variables in dead.items():
            path = self.paths[variables[0]]
            cut = Path(path.nodes, path.nodes.index(node), "all that it hands on is 0")
            others = ", ".join(f"{tensor.name} is {_told(self.sizes[tensor])}" for tensor in node.inputs if tensor in self.sizes)
            text = f"the gradient of {_names(variables)} is 0 all over: {node.name} hands on nothing{' where ' * bool(others)}{others}"
            self._find("zero", text, node, _ZEROED.get(node.op.name, ""), cut.rows)

    def _gradient(self, tensor: Tensor) -> float | None:
        return self.sizes[tensor].gradient if tensor in self.sizes else None

    def _ratios(self) -> None:
        """Whether gradients grow or shrink from the layers near the loss to those far from it: at the nodes that read weights."""
        weights = [w for w in self.paths if w.ndim > 1 and self._behind(w) > 0]
        weights.sort(key=lambda w: -self.paths[w].nodes[-2].id)  # those near the loss first
        if len(weights) < 2:
            return
        sizes = [self._behind(w) for w in weights]
        ratio = sizes[-1] / sizes[0]
        if 1 / RATIO < ratio < RATIO:
            return
        kind, word = ("vanishing", "smaller") if ratio < 1 else ("exploding", "larger")
        readers = [self.paths[w].nodes[-2] for w in weights]
        far, near = readers[-1], readers[0]
        text = f"the gradient by {far.name} is {max(ratio, 1 / ratio):.2g} times {word} than that by {near.name}, next to the loss"
        rows = "\n".join(
            f"{self.paths[w].nodes[-2].name}, which reads {w.name}: {size:.3g}" for w, size in zip(weights, sizes, strict=True)
        )
        steepest = int(np.argmax(np.abs(np.diff(np.log(sizes)))))
        self._find(kind, text, readers[steepest], _RATIO_HELP[kind], rows)
        self.sizes[weights[-1]].note = self.sizes[weights[-1]].note or kind

    def _behind(self, w: Tensor) -> float:
        """The size of the gradient by what is made of ``w``."""
        nodes = self.paths[w].nodes
        return (self._gradient(nodes[-2].outputs[0]) or 0.0) if len(nodes) > 1 else 0.0


_ZEROED = {
    "relu": "all units are off: a smaller rate, other first values, biases above 0, or fg.nn.leaky_relu",
    "clip": "all values are beyond the limits, where clip is flat",
    "maximum": "the other value is the larger one everywhere",
    "minimum": "the other value is the smaller one everywhere",
    "where": "the other branch is chosen everywhere",
    "multiply": "the other factor is 0",
    "matmul": "the other factor is 0: weights that all start at 0 pass no gradient on",
    "sigmoid": "saturated everywhere: smaller first values, or inputs around 0",
    "tanh": "saturated everywhere: smaller first values, or inputs around 0",
}

_RATIO_HELP = {
    "vanishing": "activations without flat ends (fg.nn.relu), a normalisation, or first values that keep sizes (fg.init.he_normal)",
    "exploding": "smaller first values, a normalisation, or the norm of all gradients clipped: fg.optim.Adam(1e-3, clip_norm=1.0)",
}


def _told(entry: Sizes) -> str:
    """How large a tensor is."""
    return "unknown" if entry.value is None else "0" if entry.value == 0 else f"of size {entry.value:.3g}"


def _size(value: Any) -> float:
    """The root of the mean square."""
    array = np.asarray(value, np.float64)
    return float(np.sqrt(np.mean(np.square(array)))) if array.size else 0.0
