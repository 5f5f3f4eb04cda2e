"""Folding: which nodes share a box, so that a drawing stays readable.

A scope nested deeper than the drawing is open becomes one box. Where a scope holds more than a page can show, nodes that were made one
after another become one, which keeps edges pointing forward.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..graph import Node
from .picture import Home

RUNS = 60  # boxes that a scope with more in it than a page can show is summed up in


class Group(NamedTuple):
    """Nodes that one box stands for; ``name`` is the folded scope's, or None."""

    home: Home
    name: str | None
    members: list[Node]


def folded(shown: Sequence[tuple[Home, Node]], depth: int) -> list[Group]:
    """A group for each node and each scope that is drawn where scopes are open down to ``depth``."""
    groups: list[Group] = []
    scopes: dict[Home, list[Node]] = {}
    for home, node in shown:
        if len(home) <= depth:
            groups.append(Group(home, None, [node]))
        elif home[: depth + 1] in scopes:
            scopes[home[: depth + 1]].append(node)
        else:
            members = scopes[home[: depth + 1]] = [node]
            groups.append(Group(home[:depth], home[depth], members))
    return groups


def fitting(shown: Sequence[tuple[Home, Node]], deepest: int, most: int) -> tuple[int, list[Group]]:
    """The deepest drawing with at most ``most`` boxes; the last scopes that it opens may be summed up in runs."""
    best: tuple[int, list[Group]] | None = None
    for depth in range(deepest + 1):
        groups = folded(shown, depth)
        if len(groups) > most:
            groups = in_runs(groups, min(RUNS, most // 2))
            return (depth, groups) if best is None or len(groups) <= most else best
        best = depth, groups
    assert best is not None
    return best


def in_runs(groups: Sequence[Group], limit: int) -> list[Group]:
    """At most about ``limit`` groups for each scope, and as many for its gradients: those made one after another become one."""
    beside: dict[Any, list[Group]] = {}
    for group in groups:
        beside.setdefault((group.home, group.members[0].forward is None), []).append(group)
    result = []
    for (home, _), siblings in beside.items():
        size = math.ceil(len(siblings) / limit)
        for i in range(0, len(siblings), size):
            run = siblings[i : i + size]
            result.append(run[0] if len(run) == 1 else Group(home, None, [node for group in run for node in group.members]))
    return result
