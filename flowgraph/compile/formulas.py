"""Formulas: what a plan costs, in the sizes that its feeds leave open. The numbers at some sizes give polynomials, which others confirm.

Arithmetic and traffic are those of the plan's own kernels, for other sizes than its own. The peak is that of plans made for those sizes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from ..errors import ArgumentError, FlowgraphError
from ..graph import Node, Shape, Spec, Tensor
from ..graph.arguments import as_bytes
from ..graph.spec import is_known
from ..graph.text import format_bytes
from .account import short
from .copies import CopyNode
from .fuse import FusedNode
from .needed import needed_nodes
from .plan import Plan
from .shapes import specialise

# The highest power of a size that is looked for, and the number of sizes that formulas are in; those beyond stay as they are.
DEGREE, MOST_NAMES = 3, 3

Sizes = Mapping[str, int]
Terms = Mapping[tuple[int, ...], Fraction]
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


class Formula:
    """A polynomial in the sizes that a plan leaves open, or the largest of several. Print it; call it with sizes for its value.

    names     of the sizes
    pieces    polynomials, each as a dict from powers of the sizes to a coefficient; the value is that of the largest
    is_exact  whether sizes that it was not made from confirmed it; else it is a straight line through two of them

    >>> x = fg.placeholder("x", ("batch", 10))
    >>> cost = session.plan(x @ np.ones((10, 5), np.float32), {x: (64, 10)}).cost()
    >>> print(cost.flops)
    100 batch
    >>> cost.flops(batch=32)
    3200.0
    """

    def __init__(self, names: Sequence[str], pieces: Sequence[Terms], is_exact: bool, in_bytes: bool = False) -> None:
        self.names, self.is_exact, self._in_bytes = tuple(names), is_exact, in_bytes
        self.pieces = [{powers: value for powers, value in terms.items() if value} for terms in pieces]

    def __call__(self, sizes: Sizes | None = None, /, **named: int) -> float:
        """Its value. raises ArgumentError for a size that is missing, or unknown."""
        given = {**(sizes or {}), **named}
        if set(given) != set(self.names):
            raise ArgumentError(f"the formula is in {', '.join(self.names) or 'nothing'}, got {', '.join(given) or 'nothing'}")
        return float(max(_value(terms, [given[name] for name in self.names]) for terms in self.pieces))

    def __str__(self) -> str:
        texts = list(map(self._text, self.pieces))
        text = texts[0] if len(texts) == 1 else f"max({', '.join(texts)})"
        return text if self.is_exact else f"about {text}"

    __repr__ = __str__

    def _text(self, terms: Terms) -> str:
        text = ""
        for powers, value in sorted(terms.items(), key=lambda term: (-sum(term[0]), [-power for power in term[0]])):
            number = abs(float(value))
            factors = [self._number(number)] if self._in_bytes or number != 1 or not any(powers) else []
            factors += [
                name + (str(power).translate(_SUPERSCRIPTS) if power > 1 else "")
                for name, power in zip(self.names, powers, strict=True)
                if power
            ]
            sign = ("-" if value < 0 else "") if not text else (" - " if value < 0 else " + ")
            text += sign + " ".join(factors)
        return text or self._number(0.0)

    def _number(self, number: float) -> str:
        if self._in_bytes:
            return format_bytes(round(number)) if number >= 1 or not number else f"{number:.3g} B"
        return short(number)


class Costs(NamedTuple):
    """What a plan costs at given sizes: arithmetic operations, bytes read and written by kernels, bytes at the peak of a run, and bytes
    that are there without a run (feeds, variables, constants).
    """

    flops: float
    bytes: float
    peak: float
    held: float


class Cost:
    """What a plan costs, as formulas in the sizes that its feeds leave open; made by ``plan.cost()``. Print it.

    flops  arithmetic operations
    bytes  read and written by kernels; what compiled loops keep to themselves does not count
    peak   most bytes alive of what a run makes itself, on one thread
    held   bytes of feeds, variables and constants
    sizes  those of the plan itself, by name
    """

    def __init__(self, plan: Plan) -> None:
        if plan.request is None:
            raise ArgumentError("cost: the plan of a sub-graph is part of that of the node which holds it")
        self._request, self._work = plan.request, _Work(plan)
        names, base = _open_sizes(plan.request.feeds)
        self.sizes: dict[str, int] = {name: base[name] for name in names if self._is_free(name, base)}
        self._fixed = {name: size for name, size in base.items() if name not in self.sizes}
        self.flops = self._formula(lambda sizes: self._work.at(self._shapes(sizes)).flops, DEGREE, False)
        self.bytes = self._formula(lambda sizes: self._work.at(self._shapes(sizes)).bytes, DEGREE, True)
        self.held = self._formula(lambda sizes: self._work.at(self._shapes(sizes)).held, DEGREE, True)
        self.peak = self._largest_of_lines() or self._formula(self._peak, 2 if len(self.sizes) == 2 else 1, True)

    def at(self, sizes: Sizes | None = None, /, **named: int) -> Costs:
        """The numbers at given sizes, of the plan that would be made for them; sizes that are not given are the plan's own."""
        given = {**self.sizes, **(sizes or {}), **named}
        unknown = sorted(set(given) - set(self.sizes))
        if unknown:
            raise ArgumentError(f"cost: there is no size {unknown[0]!r} to choose", help=f"there are: {', '.join(self.sizes) or 'none'}")
        shapes = self._shapes(given)
        plan = _made_for(self._request, shapes)
        work = _Work(plan).at(shapes)
        return Costs(work.flops, work.bytes, float(plan.peak_bytes), work.held)

    def largest(self, name: str, memory: int | str) -> int:
        """The largest size ``name`` with which a run fits into ``memory``, with what is there without it; 0 where none does.

        memory  bytes, as a number or as text such as "16GB"
        """
        limit = as_bytes(memory, "largest: memory")

        def fits(size: int) -> bool:
            costs = self.at({name: size})
            return costs.peak + costs.held <= limit

        low, high = 0, 1
        while high < 2**40 and fits(high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low

    def __str__(self) -> str:
        rows = [("flops", self.flops), ("bytes", self.bytes), ("peak", self.peak), ("held", self.held)]
        here = ", ".join(f"{name} = {size}" for name, size in self.sizes.items())
        lines = [f"{label:<6} {formula}" for label, formula in rows]
        if here:
            at = [_short(formula(self.sizes), label == "flops") for label, formula in rows]
            width = max(map(len, lines))
            lines = [f"{line:<{width}}   = {number}" for line, number in zip(lines, at, strict=True)]
            lines.insert(0, f"{'':<{width}}   with {here}")
        return "\n".join(lines)

    # --- how they are found

    def _formula(self, value: Callable[[Sizes], float], degree: int, in_bytes: bool) -> Formula:
        names = list(self.sizes)
        for tried in (degree, 1):
            terms = _fitted(names, self.sizes, value, tried)
            probe = {name: (tried + 2) * size + 1 for name, size in self.sizes.items()}
            wanted = value(probe)
            is_exact = abs(_value(terms, list(probe.values())) - Fraction(wanted)) <= 1e-9 * max(1.0, abs(wanted))
            if is_exact or tried == 1:
                return Formula(names, [terms], is_exact, in_bytes)
        raise AssertionError

    def _largest_of_lines(self) -> Formula | None:
        """The peak in one size: what is alive at a moment of a run grows along a line, and the highest is the peak. None where it does not.

        Between sizes for which plans are made otherwise it may jump: lines that come near then serve, and the formula says "about".
        """
        if len(self.sizes) != 1:
            return None
        ((name, base),) = self.sizes.items()
        seen: dict[int, Fraction] = {}
        lines: list[tuple[Fraction, Fraction]] = []
        for size in sorted({1, base, 3 * base + 1, *[4**k for k in range(1, 12) if 4**k < 4 * base]}):
            step = max(1, size // 16)
            for each in (size, size + step):
                seen[each] = Fraction(self._peak({name: each}))
            slope = (seen[size + step] - seen[size]) / step
            lines.append((slope, seen[size] - slope * size))
        for allowed, is_exact in ((Fraction(1, 10**6), True), (Fraction(1, 4), False)):
            fitting = [line for line in dict.fromkeys(lines) if line[0] >= 0 and _is_below(line, seen, allowed)]
            if not _reach(fitting, seen, allowed):
                continue
            for line in list(fitting):
                rest = [each for each in fitting if each != line]
                if _reach(rest, seen, allowed):
                    fitting = rest
            return Formula([name], [{(1,): slope, (0,): start} for slope, start in fitting], is_exact, in_bytes=True)
        return None

    def _peak(self, sizes: Sizes) -> float:
        return float(_made_for(self._request, self._shapes(sizes)).peak_bytes)

    def _is_free(self, name: str, base: Sizes) -> bool:
        """Whether the graph takes another size there."""
        try:
            self._work.at(_shapes(self._request.feeds, {**base, name: 2 * base[name] + 1}))
        except FlowgraphError:
            return False
        return True

    def _shapes(self, sizes: Sizes) -> dict[Tensor, Shape]:
        return _shapes(self._request.feeds, {**self._fixed, **sizes})


def _open_sizes(feeds: Mapping[Tensor, Shape]) -> tuple[list[str], dict[str, int]]:
    """The names of the sizes that feeds leave open, the first few, and all of them as they are; one without a name is ``x[0]``."""
    base: dict[str, int] = {}
    for tensor, shape in feeds.items():
        for axis, (dim, size) in enumerate(zip(tensor.shape, shape, strict=True)):
            if not isinstance(dim, int):
                base.setdefault(dim or f"{tensor.name}[{axis}]", int(size or 1))
    return list(base)[:MOST_NAMES], base


def _shapes(feeds: Mapping[Tensor, Shape], sizes: Sizes) -> dict[Tensor, Shape]:
    return {
        tensor: tuple([dim if isinstance(dim, int) else sizes[dim or f"{tensor.name}[{axis}]"] for axis, dim in enumerate(tensor.shape)])
        for tensor in feeds
    }


def _made_for(request: Any, shapes: Mapping[Tensor, Shape]) -> Plan:
    """The plan for other shapes. It is not run, so no loop is compiled."""
    stub = None if request.compiled is None else lambda described: _not_compiled
    made: Plan = request.compile(feeds=shapes, compiled=stub, memory_limit=None)
    return made


def _not_compiled(*arrays: Any) -> Any:
    raise AssertionError("a plan that was made to count is not run")


class _Work:
    """The work of a plan's kernels, for any sizes."""

    def __init__(self, plan: Plan) -> None:
        self._feeds = dict(plan.request.feeds)
        fetched = {fetch.node if isinstance(fetch, Tensor) else fetch for fetch in plan.request.fetches}
        self._nodes = needed_nodes({node for node in fetched if self._feeds.keys().isdisjoint(node.outputs)}, self._feeds)
        self._run = list(dict.fromkeys(unit.node for unit in plan.units))
        self._still = sum(node.outputs[0].nbytes for node, _ in plan.variables) + sum(array.nbytes for _, array in plan.constants)

    def at(self, shapes: Mapping[Tensor, Shape]) -> Costs:
        specs = specialise(self._nodes, shapes)
        flops = nbytes = 0.0
        for node in self._run:
            more, traffic = _work(node, lambda tensor: specs.get(tensor, tensor))
            flops, nbytes = flops + more, nbytes + traffic
        fed = sum(Spec(shapes[tensor], tensor.dtype).nbytes for tensor in self._feeds)
        return Costs(flops, nbytes, 0.0, float(self._still + fed))


def _work(node: Node, spec: Callable[[Tensor], Any]) -> tuple[float, float]:
    """Arithmetic operations and bytes of a node; of what has a size that only a run knows, nothing."""
    if isinstance(node, CopyNode):
        return 0.0, 2.0 * _nbytes([spec(node.inputs[0])])
    if isinstance(node, FusedNode):
        flops = sum(_work(member, spec)[0] for member in node.op.members)
        made = [spec(result.tensor) for result in node.op.results]
        return flops, float(_nbytes([*map(spec, node.inputs), *made]))
    inputs = [spec(tensor) for tensor in node.inputs]
    if node.op.is_view or not all(is_known(each.shape) for each in inputs):
        return 0.0, 0.0
    if node.op.bodies:
        trips = float(node.op.trips(*inputs, **node.attrs))
        given = node.op.body_inputs(*inputs, **node.attrs)
        totals = [_body_work(node.attrs[name], each) for name, each in zip(node.op.bodies, given, strict=True)]
        return trips * sum(flops for flops, _ in totals), trips * sum(nbytes for _, nbytes in totals)
    work = node.op.work(*inputs, **node.attrs)
    return float(work.flops), float(work.bytes)


def _body_work(sub: Any, given: Sequence[Any]) -> tuple[float, float]:
    own = (*sub.inputs, *sub.captures.values())
    nodes = needed_nodes({out.node for out in sub.outputs}, set(own))
    specs = specialise(nodes, {tensor: each.shape for tensor, each in zip(own, given, strict=True)})
    inside = set(own)
    totals = [_work(node, lambda tensor: specs.get(tensor, tensor)) for node in nodes if inside.isdisjoint(node.outputs)]
    return sum(flops for flops, _ in totals), sum(nbytes for _, nbytes in totals)


def _nbytes(specs: Sequence[Any]) -> int:
    return sum(Spec(each.shape, each.dtype).nbytes for each in specs if is_known(each.shape))


def _is_below(line: tuple[Fraction, Fraction], seen: Mapping[int, Fraction], allowed: Fraction) -> bool:
    return all(line[0] * size + line[1] <= (1 + allowed) * value for size, value in seen.items())


def _reach(lines: Sequence[tuple[Fraction, Fraction]], seen: Mapping[int, Fraction], allowed: Fraction) -> bool:
    """Whether the highest of ``lines`` comes up to each value."""
    return bool(lines) and all(max(a * size + b for a, b in lines) >= (1 - allowed) * value for size, value in seen.items())


def _value(terms: Terms, sizes: Sequence[int]) -> Fraction:
    total = Fraction(0)
    for powers, value in terms.items():
        for size, power in zip(sizes, powers, strict=True):
            value = value * size**power
        total += value
    return total


def _fitted(names: Sequence[str], base: Sizes, value: Callable[[Sizes], float], degree: int) -> Terms:
    """The polynomial of that degree in each size through the values at multiples of ``base``."""
    points = {name: [base[name] * k for k in range(1, degree + 2)] for name in names}
    table = {place: Fraction(value(dict(zip(names, place, strict=True)))) for place in itertools.product(*points.values())}
    for axis, name in enumerate(names):
        rest = sorted({(*place[:axis], *place[axis + 1 :]) for place in table})
        made: dict[tuple[int, ...], Fraction] = {}
        for others in rest:
            values = [table[(*others[:axis], point, *others[axis:])] for point in points[name]]
            for power, coefficient in enumerate(_through(points[name], values)):
                made[(*others[:axis], power, *others[axis:])] = coefficient
        table = made
    return table


def _through(xs: Sequence[int], ys: Sequence[Fraction]) -> list[Fraction]:
    """The coefficients, from that of power 0 on, of the polynomial through some points (Newton's divided differences)."""
    slopes = list(ys)
    for order in range(1, len(xs)):
        for k in range(len(xs) - 1, order - 1, -1):
            slopes[k] = (slopes[k] - slopes[k - 1]) / (xs[k] - xs[k - order])
    coefficients = [Fraction(0)] * len(xs)
    for k in range(len(xs) - 1, -1, -1):
        coefficients = [(coefficients[i - 1] if i else Fraction(0)) - xs[k] * coefficients[i] for i in range(len(xs))]
        coefficients[0] += slopes[k]
    return coefficients


def _short(number: float, is_count: bool) -> str:
    return short(number) if is_count else format_bytes(round(number))
