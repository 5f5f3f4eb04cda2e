"""Overlay: what a drawing shows of its nodes beside the graph itself: heat, notes, and nodes that are marked."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..compile import Unit
from ..errors import ArgumentError
from ..graph import Node, Tensor
from ..traces import Trace
from .figures import heat_of
from .heat import Heat, Scale

if TYPE_CHECKING:
    from .picture import Box


class Overlay:
    """What is written on boxes; it is told of each box and of the nodes that this stands for.

    heat     numbers to colour boxes by
    notes    a line by node, written into its box
    marked   nodes whose boxes have a thick border
    groups   names by node, of which each has a colour; ``palette``: the colours by name, in the order of the legend
    """

    def __init__(self, heat: Any = None, notes: Any = None, marked: Any = None, groups: Any = None) -> None:
        self.heat = heat if heat is None or isinstance(heat, Heat) else heat_of(heat) if isinstance(heat, Trace) else Heat(heat)
        self.numbers = {} if self.heat is None else self.heat.by_node()
        self.notes = _notes(notes)
        self.marked = _marked(marked)
        self.groups = _groups(groups)
        self.palette = {name: _pastel(i) for i, name in enumerate(dict.fromkeys(self.groups.values()))}
        self.scale: Scale | None = None
        self._plain = not (self.numbers or self.notes or self.marked or self.groups)

    def put_on(self, box: Box, nodes: Sequence[Node | Unit]) -> None:
        """Writes on ``box`` what is known of ``nodes``, or of units of a plan."""
        if self._plain:
            return
        if self.heat is not None:
            known = [node for node in nodes if node in self.numbers]
            counted = [node for node in known if isinstance(node, Unit)] or known
            if counted:
                weights = [self.heat.weight(node) for node in counted]
                box.heat = self.heat.together([self.numbers[node] for node in counted], weights)
                box.weight = math.fsum(weights)
                text = self.heat.text(box.heat)
                box.detail = ", ".join(filter(None, [box.detail if box.members > 1 else "", text]))
                box.tooltip += f"\n{self.heat.title}: {text}"
        notes = [self.notes[node] for node in nodes if node in self.notes]
        if notes:
            box.note = notes[0] if len(notes) == 1 else f"{notes[0]}, and {len(notes) - 1} more"
            box.tooltip = "\n".join([box.tooltip, *notes[:8]])
        box.marked = any(node in self.marked for node in nodes)
        names = list(dict.fromkeys(self.groups[node] for node in nodes if node in self.groups))
        if names:
            box.group = self.together(names)
            box.tooltip += f"\n{', '.join(names[:8])}"

    def together(self, names: Sequence[str]) -> str:
        """The group of a box that stands for nodes of several: none, unless it is that of all."""
        return names[0] if len(names) == 1 else ""

    def settle(self, boxes: Collection[Box]) -> None:
        """All boxes are made: what is cold and what is hot among them can be said."""
        if self.heat is not None:
            self.scale = Scale(self.heat, [box.heat for box in boxes if box.heat is not None])


def _notes(notes: Any) -> dict[Node, str]:
    if notes is None:
        return {}
    if not isinstance(notes, Mapping):
        raise ArgumentError(f"draw: notes are a dict by node, got {notes!r:.60}", help='notes={node: "what to write"}')
    result: dict[Node, str] = {}
    for key, text in notes.items():
        if not isinstance(key, Node | Tensor) or not isinstance(text, str):
            raise ArgumentError(f"draw: notes are text by node, got {key!r:.60}: {text!r:.60}", help='notes={node: "what to write"}')
        node = key.node if isinstance(key, Tensor) else key
        result[node] = f"{result[node]}, {text}" if node in result else text
    return result


def _groups(groups: Any) -> dict[Node | Unit, str]:
    if groups is None:
        return {}
    if not isinstance(groups, Mapping):
        raise ArgumentError(f"draw: groups are names by node, got {groups!r:.60}", help='groups="device", groups={node: "a name"}')
    for key, name in groups.items():
        if not isinstance(key, Node | Tensor | Unit) or not isinstance(name, str):
            raise ArgumentError(f"draw: groups are names by node, got {key!r:.60}: {name!r:.60}", help='groups={node: "a name"}')
    return {key.node if isinstance(key, Tensor) else key: name for key, name in groups.items()}


def _pastel(number: int) -> str:
    """A light colour that is unlike those of the numbers near it: the golden angle around the wheel."""
    return "#" + "".join(f"{round(part * 255):02x}" for part in colorsys.hls_to_rgb((number * 0.3819 + 0.55) % 1, 0.82, 0.62))


def _marked(marked: Any) -> frozenset[Node]:
    items = [] if marked is None else [marked] if isinstance(marked, Node | Tensor) else marked
    if not isinstance(items, Collection) or not all(isinstance(item, Node | Tensor) for item in items):
        raise ArgumentError(f"draw: marked is a node or several, got {marked!r:.60}", help="marked=node, marked=[a, b]")
    return frozenset(item.node if isinstance(item, Tensor) else item for item in items)
