"""Page: a picture as one HTML file that one can move in, search, open and close, and in which the passes of the compiler can be seen.

All that the page needs is in it: the scripts beside this module, their style, and the picture as JSON. It loads nothing.
"""

from __future__ import annotations

import html
import json
import linecache
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

from ...compile.explain import Stage
from ...graph import Location
from ..graph_picture import GraphPicture
from ..picture import BOXES, GRADIENT, UPDATE, Box, Picture, cut, scope_name
from ..style import clean, look_of

CROWD = 80  # items of one scope that stand side by side; more are gathered in scopes of about ABREAST, in their order
ABREAST = 40
SCRIPTS = ("tree.js", "heat.js", "layout.js", "drawing.js", "hand.js")
CONTEXT = 3  # lines above and below the user's line


def source(picture: Picture, title: str, stages: Sequence[Stage] = ()) -> str:
    """The text of the page."""
    data = json.dumps(_data(picture, stages), separators=(",", ":"), ensure_ascii=False)
    parts = {
        "title": html.escape(clean(title)),
        "style": _file("page.css"),
        "script": "\n".join(map(_file, SCRIPTS)),
        "data": clean(data).replace("<", "\\u003c"),  # the end of a script, or a comment, in a name is neither
    }
    before, *rest = _file("page.html").split("{{")
    return before + "".join(parts[piece.partition("}}")[0]] + piece.partition("}}")[2] for piece in rest)


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _data(picture: Picture, stages: Sequence[Stage]) -> dict[str, Any]:
    """The picture as the script reads it: rows of plain values."""
    boxes = [box for box in picture.boxes.values() if box.kind not in ("tag", "end")]
    place = {box.key: i for i, box in enumerate(boxes)}
    scopes = _Scopes(boxes)
    lines: dict[Location, int] = {}
    rows = []
    for box in boxes:
        line = None if box.line is None else lines.setdefault(box.line, len(lines))
        look = look_of(box, picture)
        fill, ink = (look.fill, look.ink) if picture.overlay.scale or picture.overlay.palette else ("", "")
        heat = box.heat if box.heat is not None and math.isfinite(box.heat) else None
        rows.append(
            [box.title, box.detail, box.kind, scopes.of[box.key], box.tooltip, line, heat, box.weight, fill, ink, cut(box.note), box.marked]
        )
    edges = [
        [place[edge.start], place[edge.end], edge.kind, edge.tooltip] for edge in picture.edges if edge.start in place and edge.end in place
    ]
    return {
        "scopes": scopes.rows,
        "boxes": rows,
        "edges": edges,
        "lines": _sources(lines),
        "stages": _stages(picture, stages, place),
        "heat": _heat(picture),
        "groups": list(picture.overlay.palette.items()),
        "notes": picture.notes,
        "budget": BOXES,
    }


class _Scopes:
    """The tree of scopes: names, the scope around each, and the scope of each box, by number; 0 is the whole."""

    def __init__(self, boxes: Sequence[Box]) -> None:
        self.rows: list[list[Any]] = [["", 0, ""]]
        self.of: dict[str, int] = {}
        tree: dict[Any, Any] = {}
        for box in boxes:
            branch = tree
            for part in box.home:
                branch = branch.setdefault(("scope", part), {})
            branch["box", box.key] = box
        self._number(tree, 0)

    def _number(self, tree: Mapping[Any, Any], scope: int) -> None:
        todo: list[tuple[Iterable[tuple[Any, Any]], int]] = [(tree.items(), scope)]
        while todo:
            items, scope = todo.pop()
            for run, around in self._in_runs(list(items), scope):
                for (sort, name), inner in run:
                    if sort == "box":
                        self.of[name] = around
                    else:
                        kind = {GRADIENT: "gradient", UPDATE: "update"}.get(name, "")
                        todo.append((inner.items(), self._add(scope_name(name), around, kind)))

    def _in_runs(self, items: list[Any], scope: int) -> list[tuple[list[Any], int]]:
        """The items of a crowded scope in runs, those of gradients apart, and the scope of each run: scopes within scopes."""
        if len(items) <= CROWD:
            return [(items, scope)]
        result = []
        for wanted in (False, True):
            part = [item for item in items if (getattr(item[1], "kind", "") == "gradient") is wanted]
            size = ABREAST
            while len(part) / size > CROWD:
                size *= ABREAST
            for i in range(0, len(part), size):
                run = part[i : i + size]
                name = f"{_title(run[0])} … {_title(run[-1])}"
                inner = self._add(name, scope, "gradient" if wanted else "") if len(run) > 1 else scope
                result += self._in_runs(run, inner) if len(run) > 1 else [(run, inner)]
        return result

    def _add(self, name: str, around: int, kind: str) -> int:
        self.rows.append([name, around, kind])
        return len(self.rows) - 1


def _title(item: Any) -> str:
    (sort, name), inner = item
    return scope_name(name) if sort == "scope" else cut(inner.tooltip.partition("\n")[0].rpartition("/")[2])


def _sources(lines: Iterable[Location]) -> list[Any]:
    """File, line, and the lines around it with the number of the first."""
    result = []
    for location in lines:
        every = linecache.getlines(location.file)
        first = max(1, location.line - CONTEXT)
        around = [line.rstrip("\n") for line in every[first - 1 : location.line + CONTEXT]]
        result.append([os.path.basename(location.file), location.line, first, around])
    return result


def _heat(picture: Picture) -> dict[str, Any] | None:
    scale = picture.overlay.scale
    if scale is None:
        return None
    heat = scale.heat
    return {
        "title": heat.title,
        "unit": heat.unit,
        "fold": heat.folding,
        "log": heat.log,
        "low": scale.low,
        "high": scale.high,
        "even": scale.even,
        "colors": [scale.at(i / 40) for i in range(41)],
    }


def _stages(picture: Picture, stages: Sequence[Stage], place: Mapping[str, int]) -> list[dict[str, Any]]:
    """What each pass left, by the numbers of boxes."""
    if not stages or not isinstance(picture, GraphPicture):
        return []
    outermost = picture.places.outermost
    number = {node: place[key] for node, key in picture.box_of.items() if key in place}

    return [
        {
            "name": stage.name,
            "text": stage.text,
            "gone": [i for node, i in number.items() if outermost(node) not in stage.alive],
            "constants": [i for node, i in number.items() if node in stage.constants and node.op.name != "constant"],
            "moved": [
                [number[tensor.node], number[other.node]]
                for tensor, other in stage.same.items()
                if tensor.node in number and other.node in number
            ],
            "why": [[number[node], what] for node, what in stage.changes.items() if node in number],
            "groups": [[number[node], name] for node, name in stage.groups.items() if node in number],
        }
        for stage in stages
    ]
