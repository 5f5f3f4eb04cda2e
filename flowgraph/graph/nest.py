"""Nestings of lists, tuples and dicts: taken apart into a flat list, and put together again with other leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Rebuild = Callable[[Sequence[Any]], Any]


def flatten(value: Any) -> tuple[list[Any], Rebuild]:
    """The leaves of ``value`` (whatever is no list, tuple or dict), and the function that puts as many others in their places.

    >>> from flowgraph.graph.nest import flatten
    >>> leaves, rebuild = flatten({"a": 1, "b": (2, [3])})
    >>> rebuild([leaf * 10 for leaf in leaves])
    {'a': 10, 'b': (20, [30])}
    """
    leaves: list[Any] = []
    return leaves, _walk(value, leaves)


def nesting(value: Any) -> str:
    """How ``value`` is nested, with a star for each leaf: equal for values that differ in their leaves alone.

    >>> from flowgraph.graph.nest import nesting
    >>> nesting({"a": 1, "b": [2, (3,)]})
    "{'a': *, 'b': (*, (*,))}"
    """
    if isinstance(value, list | tuple):  # (one is as good as the other)
        parts = ", ".join(nesting(part) for part in value)
        return f"({parts},)" if len(value) == 1 else f"({parts})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {nesting(part)}" for key, part in value.items()) + "}"
    return "*"


def _walk(value: Any, leaves: list[Any]) -> Rebuild:
    if isinstance(value, list | tuple):
        parts = [_walk(part, leaves) for part in value]
        kind: Any = type(value)
        if hasattr(value, "_fields"):
            return lambda found: kind(*[part(found) for part in parts])
        return lambda found: kind([part(found) for part in parts])
    if isinstance(value, dict):
        named = {key: _walk(part, leaves) for key, part in value.items()}
        return lambda found: {key: part(found) for key, part in named.items()}
    position = len(leaves)
    leaves.append(value)
    return lambda found: found[position]
