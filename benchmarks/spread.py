"""How figures of several rounds lie: their median and quartiles; and ratios that are taken within rounds.

On a host whose speed changes from second to second two medians of times compare what happened at different speeds. The turns of one round
lie a moment apart, so each round gives a ratio, and what the ratios have in common is the figure.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """A median between its quartiles: half of the rounds lie within."""

    low: float
    median: float
    high: float

    @property
    def includes_one(self) -> bool:
        """Of ratios: whether the rounds do not agree on who is faster."""
        return self.low <= 1 <= self.high


def spread(values: Sequence[float]) -> Spread:
    """Of one number or more.

    >>> spread([5.0, 1.0, 2.0, 4.0, 3.0])
    Spread(low=2.0, median=3.0, high=4.0)
    """
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(low, median, high)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread | None:
    """Of ``ours / theirs`` in each round that both took part in, None if there is none; both begin with the first round.

    The host is half as fast in the second round, and the third is without one of them:

    >>> ratios([1.0, 2.0, 9.0], [2.0, 4.0])
    Spread(low=0.5, median=0.5, high=0.5)
    """
    each = [a / b for a, b in zip(ours, theirs, strict=False)]
    return spread(each) if each else None
