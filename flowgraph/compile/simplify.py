"""Simplify: nodes whose value another tensor has already, or that is known before the run, are not computed.

Three passes in one walk over the nodes in their order, each of which can be left out:

algebra  ``x * 1``, ``x - 0``, ``-(-x)``, transposes and reshapes that undo each other...: only what leaves every bit as it is
fold     nodes that read nothing but constants (and shapes that are known) become constants
common   a node that repeats another, with the same inputs and attributes, takes its value

None changes the bits of a value, and none removes an error: what raises while it is folded is left for the run to raise.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from ..graph import Node, Tensor
from ..graph.op import Op
from ..graph.spec import is_known
from .kinds import frozen
from .suspects import suspects_among

SIMPLIFICATIONS = ("algebra", "fold", "common")

# A folded constant is kept as long as its plan: only small ones are worth it.
FOLDED_BYTES = 65536


# Says of a rewrite, by its kind and the node, whether it may be made.
Allows = Callable[[str, Node], bool]


class Simplified:
    """What the passes found.

    same    tensor -> the tensor that has its value
    values  tensor -> its value, known before the run
    counts  pass -> number of nodes that it took out
    ops     those of all nodes, and ``ordered``: the nodes for which others wait
    reasons tensor in ``same`` -> the pass that found it
    """

    def __init__(self, specs: Mapping[Tensor, Any], fed: Collection[Tensor], allows: Allows | None = None) -> None:
        self.specs, self.fed, self.allows = specs, fed, allows
        self.why: dict[Node, str] | None = None  # where somebody wants to know: node -> why it is in no loop
        self.same: dict[Tensor, Tensor] = {}
        self.values: dict[Tensor, Any] = {}
        self.counts: Counter[str] = Counter()
        self.reasons: dict[Tensor, str] = {}
        self.ops: set[Op] = set()
        self.ordered: set[Node] = set()
        self._seen: dict[Any, Tensor] = {}

    def spec(self, tensor: Tensor) -> Any:
        return self.specs.get(tensor, tensor)

    def source(self, tensor: Tensor, *ops: str) -> Tensor | None:
        """The first input of the node that makes ``tensor``, when that is one of ``ops`` and really runs."""
        if tensor in self.fed or tensor in self.values or tensor.node.op.name not in ops:
            return None
        inner = tensor.node.inputs[0]
        return self.same.get(inner, inner)

    def notes(self) -> list[str]:
        """An account of it, a line each."""
        texts = {
            "algebra": "{} nodes only hand on their input",
            "fold": "{} nodes are constants",
            "common": "{} nodes repeat another",
        }
        return [f"{name}: {texts[name].format(self.counts[name])}" for name in SIMPLIFICATIONS if self.counts[name]]


def simplify(
    nodes: Sequence[Node],
    specs: Mapping[Tensor, Any],
    fed: Collection[Tensor],
    passes: Collection[str] = SIMPLIFICATIONS,
    allows: Allows | None = None,
) -> Simplified:
    """Which of ``nodes`` need not be computed, and what has their value."""
    found = Simplified(specs, fed, allows)
    found.ops = set(map(attrgetter("op"), nodes))
    found.ordered = {before for context in set(map(attrgetter("_context"), nodes)) for before in context.control}
    if not passes:
        return found
    values, same, ordered = found.values, found.same, found.ordered
    reads_none_of = values.keys().isdisjoint
    algebra, fold, common = (name in passes for name in SIMPLIFICATIONS)

    def keeps_its_place(node: Node) -> bool:
        op, outputs = node.op, node.outputs
        return bool(len(outputs) != 1 or op.is_stateful or op.bodies or outputs[0] in fed or node._context.control or node in ordered)

    suspects = suspects_among(nodes, _is_suspect, _is_constant)
    for node in suspects:
        op = node.op
        if op.name == "constant" and node.outputs[0] not in fed:
            values[node.outputs[0]] = node.attrs["value"]
            if common:
                _merge(found, node, ())
            continue
        if keeps_its_place(node):
            continue
        out, inputs = node.outputs[0], node.inputs
        if same and not same.keys().isdisjoint(inputs):
            inputs = tuple([same.get(tensor, tensor) for tensor in inputs])
            if common:
                for other in suspects.partners(inputs):
                    if not keeps_its_place(other):
                        _merge(found, other, other.inputs)
        is_plain = reads_none_of(inputs)
        rule = RULES.get(op.name) if algebra else None
        if rule is not None and not (is_plain and rule in BY_CONSTANTS):
            target = rule(found, node, *inputs)
            if target is not None and _alike(found.spec(target), found.spec(out)) and (allows is None or allows("algebra", node)):
                same[out] = same.get(target, target)
                found.counts["algebra"] += 1
                found.reasons[out] = "algebra"
                suspects.changed(node)
                continue
        is_known = fold and not (is_plain and inputs and not op.shape_inputs) and _fold(found, node, inputs)
        if is_known or (common and _merge(found, node, inputs)):
            suspects.changed(node)
    return found


def _is_constant(op: Op) -> bool:
    return op.name == "constant"


def _is_suspect(op: Op) -> bool:
    """Whether a node of ``op`` may be simplified although no input is a constant, and it reads nothing twice."""
    rule = RULES.get(op.name)
    return bool(op.name == "constant" or op.shape_inputs or not (rule is None or rule in BY_CONSTANTS or rule is _either))


def _merge(found: Simplified, node: Node, inputs: Sequence[Tensor]) -> bool:
    """Notes what ``node`` computes; whether another node computes the same already, which then stands in for it."""
    key = _key(found, node, inputs)
    if key is None:
        return False
    out = node.outputs[0]
    first = found._seen.setdefault(key, out)
    if first is out or (found.allows is not None and node.op.name != "constant" and not found.allows("common", node)):
        return False
    found.same[out] = first
    found.reasons[out] = "common"
    if node.op.name != "constant":
        found.counts["common"] += 1
    return True


def _key(found: Simplified, node: Node, inputs: Sequence[Tensor]) -> Any:
    """Equal for nodes that compute the same; None where that cannot be told."""
    op = node.op
    if not (node.attrs or op.shape_inputs):
        return op, node._context.request, *map(id, inputs)
    if op.name == "constant":
        value = node.attrs["value"]
        return ("constant", value.dtype, value.shape, value.tobytes()) if value.nbytes <= 1024 else None
    if not op.shape_inputs:
        parts: tuple[Any, ...] = (op, node._context.request, *map(id, inputs))
    else:
        specs = [found.spec(tensor) for tensor in inputs]
        told = [(spec.shape, spec.dtype) if i in op.shape_inputs and is_known(spec.shape) else None for i, spec in enumerate(specs)]
        parts = (
            op,
            node._context.request,
            *[spec or id(tensor) for spec, tensor in zip(told, inputs, strict=True)],
        )
    if not node.attrs:
        return parts
    attributes = frozen(node.attrs)
    return None if attributes is None else (parts, attributes)


def _fold(found: Simplified, node: Node, inputs: Sequence[Tensor]) -> bool:
    arrays = []
    for position, tensor in enumerate(inputs):
        told = found.spec(tensor)
        if position in node.op.shape_inputs and is_known(told.shape):
            arrays.append(told)
        elif tensor in found.values:
            value = found.values[tensor]
            arrays.append(value if value.ndim else value[()])
        else:
            return False
    spec = found.spec(node.outputs[0])
    if not is_known(spec.shape) or spec.dtype.itemsize * math.prod(spec.shape) > FOLDED_BYTES:
        return False
    try:
        with np.errstate(all="ignore"):
            value = np.array(node.op.bind(np, node.attrs)(*arrays))
    except Exception:
        return False  # the run says what is wrong with it
    if found.allows is not None and not found.allows("fold", node):
        return False
    value.flags.writeable = False
    found.values[node.outputs[0]] = value
    found.counts["fold"] += 1
    return True


def _alike(a: Any, b: Any) -> bool:
    return bool(a.shape == b.shape and a.dtype == b.dtype and is_known(a.shape))


def _is(found: Simplified, tensor: Tensor, number: float) -> bool:
    """Whether every element of a constant is ``number`` (for 0: +0)."""
    value = found.values.get(tensor)
    if value is None or value.size == 0 or value.dtype.kind not in "iufc":
        return False
    return bool((value == number).all() and not (number == 0 and np.signbit(value.real).any()))


def _product(found: Simplified, node: Node, x: Tensor, y: Tensor) -> Tensor | None:
    return x if _is(found, y, 1) else y if _is(found, x, 1) else None


def _sum(found: Simplified, node: Node, x: Tensor, y: Tensor) -> Tensor | None:
    # -0 + 0 is 0: only integers come out as they went in.
    if x.dtype.kind not in "iu":
        return None
    return x if _is(found, y, 0) else y if _is(found, x, 0) else None


def _difference(found: Simplified, node: Node, x: Tensor, y: Tensor) -> Tensor | None:
    return x if _is(found, y, 0) else None


def _by_one(found: Simplified, node: Node, x: Tensor, y: Tensor) -> Tensor | None:
    return x if _is(found, y, 1) else None


def _undone(found: Simplified, node: Node, x: Tensor) -> Tensor | None:
    """The same operation twice: each undoes the other."""
    return found.source(x, node.op.name)


def _transposed_back(found: Simplified, node: Node, x: Tensor) -> Tensor | None:
    axes, source = node.attrs["axes"], found.source(x, "permute_dims")
    if list(axes) == list(range(len(axes))):
        return x
    return source if source is not None and [x.node.attrs["axes"][a] for a in axes] == list(range(len(axes))) else None


def _reshaped_back(found: Simplified, node: Node, x: Tensor, *_: Tensor) -> Tensor | None:
    """A reshape to the shape that it has, or back to one that it had: `_alike` tells."""
    out, source = found.spec(node.outputs[0]), x
    while not _alike(found.spec(source), out):
        behind = found.source(source, "reshape", "reshape_like", "expand_dims", "squeeze")
        if behind is None:
            return None
        source = behind
    return source


def _cast_back(found: Simplified, node: Node, x: Tensor) -> Tensor | None:
    """A cast up and down again."""
    source = found.source(x, "astype")
    return source if source is not None and np.can_cast(source.dtype, x.dtype, "safe") else None


def _either(found: Simplified, node: Node, *inputs: Tensor) -> Tensor | None:
    return inputs[-1] if inputs[-1] is inputs[-2] else None


RULES: dict[str, Callable[..., Tensor | None]] = {
    "multiply": _product,
    "add": _sum,
    "subtract": _difference,
    "divide": _by_one,
    "pow": _by_one,
    "negative": _undone,
    "conj": _undone,
    "permute_dims": _transposed_back,
    "reshape": _reshaped_back,
    "reshape_like": _reshaped_back,
    "squeeze": _reshaped_back,
    "expand_dims": _reshaped_back,
    "astype": _cast_back,
    "maximum": _either,
    "minimum": _either,
    "where": _either,
}
# Those that only find something where an input is a constant.
BY_CONSTANTS = frozenset({_product, _sum, _difference, _by_one})
