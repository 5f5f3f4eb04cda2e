"""Picture: what a drawing shows, as plain data: boxes in scopes, and edges between boxes. It knows no graph, file format or layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..graph import Location, Tensor
from ..graph.spec import format_shape, format_spec
from .overlay import Overlay
from .values import Grid

BOXES = 300  # what a page can show; where no depth is asked for, a drawing is folded until it has no more
TITLE = 60  # characters of a name; a tooltip has all of them
LISTED = 8  # tensors and ops that a tooltip names

# Scopes that the drawing itself makes end in a mark, which no user's scope has.
MARK = "\0"
GRADIENT, UPDATE = "gradient" + MARK, "update" + MARK

Home = tuple[str, ...]  # the scopes that a box stands in, outermost first


@dataclass(slots=True)
class Box:
    """One thing to draw.

    kind     "forward", "gradient", "update", "placeholder", "variable", "constant"; "tag", the name of a box that stands elsewhere, or
             "end", a bare end of an edge
    members  nodes that it stands for: several where it is a folded scope or a run of nodes
    line     the user's line that made it, where one box stands for one node
    heat     its number, or None, and its ``weight`` in a mean
    note     a line to write below all else; ``marked``: whether it has a thick border; ``group``: whose colour it has
    """

    key: str
    kind: str
    title: str
    detail: str
    tooltip: str
    home: Home
    members: int = 1
    line: Location | None = None
    heat: float | None = None
    weight: float = 1.0
    note: str = ""
    marked: bool = False
    group: str = ""


@dataclass(slots=True)
class Edge:
    """What one box hands to another.

    kind     "data"; "gradient": between two nodes of a gradient; "reads": a gradient reads a forward value; "update"; "control"; in a
             difference "added" and "removed" as well
    label    shape and dtype, or empty; ``value`` and ``slope``: numbers to write beside it, or empty
    grids    the value as a table or as little pictures
    """

    start: str
    end: str
    kind: str
    tensors: dict[Tensor, None] = field(default_factory=dict)  # in order; a list would compare tensors, which builds nodes
    label: str = ""
    value: str = ""
    slope: str = ""
    grids: list[Grid] = field(default_factory=list)

    @property
    def only(self) -> Tensor | None:
        """Its tensor, if it stands for one alone."""
        return next(iter(self.tensors)) if len(self.tensors) == 1 else None

    @property
    def tooltip(self) -> str:
        if not self.tensors:
            return "runs after"
        return listing([f"{tensor.name}: {format_spec(tensor.shape, tensor.dtype)}" for tensor in self.tensors], "\n")


class Picture:
    """What a drawing shows: filled by its subclasses, for a graph and for a plan.

    boxes    by key, in the order of creation; ``edges`` between them; ``notes``: what is not shown, a line each
    depth    down to which scopes are open; ``exact``: whether all that is open has a box of its own
    dtype    of the labels that name none
    overlay  heat, notes and marks
    """

    def __init__(
        self, values: Mapping[Tensor, Any] | None = None, slopes: Mapping[Tensor, Any] | None = None, overlay: Overlay | None = None
    ) -> None:
        self.boxes: dict[str, Box] = {}
        self.edges: list[Edge] = []
        self.notes: list[str] = []
        self.depth, self.exact, self.dtype = 0, True, ""
        self.values, self.slopes = values or {}, slopes or {}
        self.overlay = overlay or Overlay()

    @property
    def is_lesson(self) -> bool:
        """Whether it is about the values on its edges, so that it is drawn larger, and with all of its labels."""
        return bool(self.values or self.slopes)

    def leave_out_implied(self) -> None:
        """Where runs of nodes are folded and almost all depend on all: drops what a longer way implies as well."""
        if len(self.edges) <= 3 * len(self.boxes) or len(self.boxes) > 2 * BOXES:
            return
        place = {key: i for i, key in enumerate(self.boxes)}
        reach = [1 << i for i in range(len(place))]  # from each box, as bits; filled from the last box to the first
        forward: dict[int, list[Edge]] = {}
        kept = []
        for edge in self.edges:
            if place[edge.start] < place[edge.end] and edge.kind != "control":
                forward.setdefault(place[edge.start], []).append(edge)
            else:
                kept.append(edge)
        for start in sorted(forward, reverse=True):
            for edge in sorted(forward[start], key=lambda edge: place[edge.end]):
                end = place[edge.end]
                if not reach[start] >> end & 1:
                    reach[start] |= reach[end]
                    kept.append(edge)
        if len(kept) < len(self.edges):
            self.notes.append(f"{len(self.edges) - len(kept)} edges that longer ways imply are left out")
            self.edges = kept


def parts(scope: str) -> Home:
    """The scopes of a path, outermost first."""
    return tuple(filter(None, scope.split("/")))


def short(name: str) -> str:
    """A name without its scope."""
    return name.rpartition("/")[2]


def scope_name(part: str) -> str:
    """What is written for a scope."""
    return cut(part.removesuffix(MARK))


def cut(text: str) -> str:
    """A name, short enough for a box."""
    return text if len(text) <= TITLE else f"{text[: TITLE - 1]}…"


def listing(rows: Sequence[str], between: str) -> str:
    """The first of ``rows``, and how many more there are."""
    rest = len(rows) - LISTED
    return between.join([*rows[:LISTED], *([f"and {rest} more"] if rest > 0 else [])])


def number_text(value: Any) -> str:
    """A value, short enough to stand beside an edge."""
    array = np.asarray(value)
    if array.size > 4:
        return f"{format_shape(array.shape)} of {_one(array.min())} … {_one(array.max())}"
    return _one(array.reshape(-1)[0]) if array.size == 1 else f"[{', '.join(map(_one, array.reshape(-1)))}]"


def _one(value: Any) -> str:
    return str(value) if value.dtype.kind in "bSUO" else f"{value:.4g}"
