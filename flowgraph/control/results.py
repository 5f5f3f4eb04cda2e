"""What the nodes that hold sub-graphs share: results as lists, copies of what is not theirs, cotangents in their places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, ShapeError
from ..graph import SubGraph, Tensor
from ..graph.nest import nesting
from ..graph.report import origin, where
from ..graph.spec import format_spec, may_be_equal
from .bodies import is_float


class AtRun:
    """A body as a kernel sees it: its outputs for the inputs of this run, worked out when asked, as only a loop of no turns does.

    specs  gives what the body would be given in a turn
    """

    def __init__(self, body: SubGraph, specs: Callable[[], Sequence[Any]]) -> None:
        self.body, self.specs = body, specs

    @property
    def outputs(self) -> list[Any]:
        return self.body.infer(self.specs())


def listed(value: Any) -> list[Any]:
    """One or several as a list."""
    return list(value) if isinstance(value, tuple | list) else [value]


def packed(results: Sequence[Any]) -> Any:
    """What a kernel gives: several as a tuple, one by itself."""
    return tuple(results) if len(results) != 1 else results[0]


def owned(values: Sequence[Any], shared: Sequence[bool]) -> list[Any]:
    """``values`` with a copy of those arrays that may be memory of the caller."""
    return [v.copy() if s and np.ndim(v) else v for v, s in zip(values, shared, strict=False)]


def spread_over(inputs: Sequence[Tensor], cotangents: Sequence[Any]) -> tuple[Any, ...]:
    """``cotangents``, those of the floats among ``inputs``, with None for the others."""
    found: Iterator[Any] = iter(cotangents)
    return tuple(next(found) if is_float(x) else None for x in inputs)


def check_nesting(what: str, before: Any, after: Any) -> None:
    """raises ArgumentError where a turn gives the carry another nesting."""
    if (had := nesting(before)) != (has := nesting(after)):
        raise ArgumentError(f"{what}: the carry goes into a turn as {had} and comes out as {has}", help="each * is a tensor")


def check_carry(what: str, carry: Sequence[Any], after: Sequence[Any]) -> None:
    """raises ShapeError, with both specs and the line, where a turn changes the shape or dtype of what it carries."""
    for i, (before, now) in enumerate(zip(carry, after, strict=False)):
        if not may_be_equal(before.shape, now.shape) or before.dtype != now.dtype:
            label = f"value {i} of the carry" if len(carry) > 1 else "the carry"
            error = ShapeError(
                f"{what}: {label} goes into a turn as {format_spec(before.shape, before.dtype)} and comes out as "
                f"{format_spec(now.shape, now.dtype)}",
                rows=[("goes in", origin(before)), ("comes out", f"{now.name}, made at {where(now.node.location)}")],
                help="a turn must leave shape and dtype as they are: cast or reshape the start, or what the body returns",
            )
            error.carried = after  # type: ignore[attr-defined]
            raise error
