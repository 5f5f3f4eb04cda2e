"""MemoryCurve: what less memory costs in time, by other orders of the kernels, and by computing values again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..compile import Plan
from ..graph.node import FUNCTIONS
from ..graph.text import format_bytes, table


@dataclass(frozen=True)
class Choice:
    """One way to run a function.

    how         what is done to take less: ``""`` for nothing
    peak_bytes  most that is alive at once, on one thread
    seconds     that the plan expects, on one thread
    plan        the plan
    """

    how: str
    peak_bytes: int
    seconds: float
    plan: Plan


class MemoryCurve:
    """What `Function.memory_curve` gives: choices from the quickest to the one that takes least memory. Print it, or draw it.

    choices  those of which no other is both as quick and as small
    others   the rest of what was looked at

    >>> x = fg.placeholder("x", (100,), "float64")
    >>> curve = session.function([x], fg.exp(x)).memory_curve()
    >>> [(choice.how, choice.peak_bytes) for choice in curve.choices]
    [('as it is', 800)]
    """

    def __init__(self, choices: list[Choice]) -> None:
        self.first = choices[0]
        self.choices: list[Choice] = []
        self.others: list[Choice] = []
        for choice in sorted(choices, key=lambda each: (each.seconds, each.peak_bytes)):
            is_better = not self.choices or choice.peak_bytes < self.choices[-1].peak_bytes
            (self.choices if is_better else self.others).append(choice)

    def within(self, limit: int) -> Choice | None:
        """The quickest choice that takes no more than ``limit`` bytes, if there is one."""
        return next((choice for choice in self.choices if choice.peak_bytes <= limit), None)

    def draw(self, file: Any = None, *, format: str | None = None) -> Any:
        """A picture: memory over extra time. The formats are svg, png and pdf."""
        return FUNCTIONS["draw_memory_curve"](self, file, format=format)

    def _repr_svg_(self) -> str:
        return str(self.draw())

    def __str__(self) -> str:
        usual = self.first.seconds or 1.0
        rows = [(format_bytes(each.peak_bytes), f"{each.seconds / usual - 1:+.0%} time", each.how) for each in self.choices]
        return "\n".join(table(rows, left=[2]))
