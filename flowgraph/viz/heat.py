"""Heat: numbers of nodes as colours, with a legend in real units. It knows numbers and colours, and no layout or file format."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..compile import Unit
from ..errors import ArgumentError
from ..graph import Node, Tensor
from ..graph.text import quantity

# From cold to hot, and from less over even to more: told apart by colour-blind readers, and in grey (after ColorBrewer).
WARM = ("#fffdf0", "#fee8a8", "#fdc070", "#f98e52", "#e34a33", "#b30000")
COOL_WARM = ("#2166ac", "#7ab2d8", "#d4e6f1", "#fbfbfb", "#fbd9c4", "#ef8a62", "#b2182b")

SUMMED = ("s", "B", "flop")  # units of which a folded scope shows the sum; of others the largest


@dataclass(frozen=True)
class Heat:
    """Numbers to colour the boxes of a drawing by: seconds, bytes, norms of gradients, whatever a node has one of.

    values     number by node or tensor (or by unit of the plan that is drawn); nodes without one stay white
    unit       "s", "B", "flop", "flop/s", ...: written with a prefix, as in ``1.3 ms``; "%": of 1; empty for plain numbers
    title      what they are, for the legend
    log        whether colours follow the logarithm, as the sizes of gradients want it
    even       for differences: the number that is neither more nor less, which is white, with less in blue and more in red
    fold       "sum", "max" (by size) or "mean": what a box that stands for several nodes shows; by itself the sum of seconds, bytes and
               flops, and the largest of others
    weights    of each number in a mean, by node
    raises     ArgumentError for something else than real numbers by node

    >>> with fg.Graph() as graph:
    ...     y = fg.exp(fg.placeholder("x", ()))
    >>> heat = fg.viz.Heat({y: 0.0013}, "s", "time")
    >>> "1.3 ms" in str(fg.draw(graph, heat=heat))
    True
    """

    values: Mapping[Any, float]
    unit: str = ""
    title: str = "heat"
    log: bool = False
    even: float | None = None
    fold: str = ""
    weights: Mapping[Any, float] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.values, Mapping):
            raise ArgumentError(
                f"heat: a trace, or numbers by node, are expected, got {self.values!r:.60}",
                help="heat=t of `with session.trace() as t`, or heat={node: seconds}",
            )
        for key, value in self.values.items():
            if not isinstance(key, Node | Tensor | Unit):
                raise ArgumentError(f"heat: numbers by node are expected, got {key!r:.60} as a key", help="heat={node: seconds}")
            if not _is_real(value):
                raise ArgumentError(f"heat: the number of {key} is not a real number, but {value!r:.60}")
        if self.fold not in ("", "sum", "max", "mean"):
            raise ArgumentError(f"heat: fold is 'sum', 'max' or 'mean', got {self.fold!r:.60}")

    def __sub__(self, other: Heat) -> Heat:
        """How much more than ``other`` this is, node by node: for two runs of one graph."""
        if not isinstance(other, Heat):
            return NotImplemented
        mine, others = self.by_node(), other.by_node()
        nodes = dict.fromkeys([*mine, *others])
        values = {node: mine.get(node, 0.0) - others.get(node, 0.0) for node in nodes}
        return Heat(values, self.unit, f"{self.title}, difference", even=0.0, fold=self.fold, weights=self.weights)

    def by_node(self) -> dict[Node | Unit, float]:
        """The numbers by node: those of a node's tensors are taken together."""
        result: dict[Node | Unit, float] = {}
        for key, value in self.values.items():
            node = key.node if isinstance(key, Tensor) else key
            result[node] = self.together([result[node], float(value)], [1.0, 1.0]) if node in result else float(value)
        return result

    @property
    def folding(self) -> str:
        """How numbers are taken together: "sum", "max" or "mean"."""
        return self.fold or ("sum" if self.unit in SUMMED else "max")

    def weight(self, node: Any) -> float:
        """Of its number in a mean."""
        return 1.0 if self.weights is None else float(self.weights.get(node, 0.0))

    def together(self, values: Sequence[float], weights: Sequence[float]) -> float:
        """What stands for several of them."""
        if self.folding == "sum":
            return math.fsum(values)
        if self.folding == "mean":
            return math.fsum(value * weight for value, weight in zip(values, weights)) / (math.fsum(weights) or 1.0)
        return max(values, key=lambda value: -math.inf if math.isnan(value) else abs(value - (self.even or 0.0)))

    def text(self, value: float) -> str:
        """A number with its unit, as it is written into boxes."""
        sign = "+" if self.even is not None and value > self.even else ""
        return sign + quantity(value, self.unit)


class Scale:
    """Which colour a number has, given all the numbers of a picture.

    low, high  the ends of the legend
    """

    def __init__(self, heat: Heat, values: Sequence[float]) -> None:
        finite = [value for value in values if math.isfinite(value)] or [0.0]
        self.heat, self.even = heat, heat.even
        if self.even is not None:
            reach = max(abs(value - self.even) for value in finite) or 1.0
            self.low, self.high = self.even - reach, self.even + reach
            self._place: Callable[[float], float] = lambda value: value
        elif heat.log:
            positive = [value for value in finite if value > 0] or [1.0]
            self.low, self.high = min(positive), max(positive)
            self._place = lambda value: math.log(max(value, self.low))
        else:
            self.low, self.high = min(0.0, *finite), max(0.0, *finite)
            self._place = lambda value: value
        self._colors = WARM if self.even is None else COOL_WARM

    def fraction(self, value: float) -> float:
        """0 at the low end, 1 at the high end; infinity and NaN count as hot."""
        if not math.isfinite(value):
            return 0.0 if value == -math.inf else 1.0
        low, high = self._place(self.low), self._place(self.high)
        return min(1.0, max(0.0, (self._place(value) - low) / (high - low))) if high > low else 1.0 if self.high else 0.0

    def color(self, value: float) -> str:
        """The colour of a number, as ``#rrggbb``."""
        return self.at(self.fraction(value))

    def at(self, fraction: float) -> str:
        """The colour at a part of the legend."""
        place = fraction * (len(self._colors) - 1)
        left = min(int(place), len(self._colors) - 2)
        pairs = zip(_channels(self._colors[left]), _channels(self._colors[left + 1]))
        return "#" + "".join(f"{round(a + (b - a) * (place - left)):02x}" for a, b in pairs)

    def ends(self) -> tuple[str, str]:
        """What is written at the two ends of the legend."""
        return self.heat.text(self.low), self.heat.text(self.high)


def ink(fill: str) -> str:
    """The colour of letters that can be read on ``fill``."""
    red, green, blue = _channels(fill)
    return "#ffffff" if 0.299 * red + 0.587 * green + 0.114 * blue < 130 else "#1b1f24"


def _channels(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _is_real(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return not isinstance(value, str | bytes | complex)
