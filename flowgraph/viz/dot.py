"""Graphviz: a picture as DOT text, and what the ``dot`` program makes of it.

What trials taught: a cluster for each scope, never ``newrank``; labels on edges only in small pictures; the edges of gradients are
given to Graphviz upside down, so that forward and gradient stand side by side; every call has a time limit, and its exit status,
its output and its messages are looked at.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import sys
from collections.abc import Iterator
from typing import Any

from .heat import ink
from .picture import UPDATE, Box, Edge, Home, Picture, cut, scope_name
from .style import GREY, LINES, SCOPE, SCOPE_BORDER, SCOPES, SLOPE, VALUE, clean, legend, look_of

CELL = 3  # points of a cell of a little picture, at least; ``PICTURE``: of its longer side, if it has few cells
PICTURE = 42
ACROSS = 12  # boxes with values on their edges that are drawn from left to right
ABREAST = 8  # parts that nothing joins stand side by side; more are packed into a square
STEPS = 24  # of the colours in the legend of a heat map
STACKED = 8  # boxes of a scope that others are held above or below

FORMS = {"placeholder": "ellipse", "variable": "cylinder", "constant": "box", "end": "point"}


def source(picture: Picture) -> str:
    """The DOT text of ``picture``."""
    lesson = picture.is_lesson
    across = lesson and len(picture.boxes) <= ACROSS
    size = 14 if lesson else 11
    packed = ' pack=16, packmode="graph",' if _components(picture) > ABREAST else ""
    gaps = "ranksep=0.6, nodesep=0.4" if lesson else "ranksep=0.35, nodesep=0.22"
    lines = [
        "digraph flowgraph {",
        f'  graph [rankdir={"LR" if across else "BT"}, fontname="Arial", fontsize=11, {gaps}, '
        f'labelloc=b, labeljust=l, tooltip=" ",{packed} label={_legend(picture)}];',
        f'  node [shape=box, style="rounded,filled", fontname="Arial", fontsize={size}, height=0.3, margin="0.1,0.05"];',
        f'  edge [fontname="Arial", fontsize={size + 1 if lesson else 9}, fontcolor="{GREY}", arrowsize=0.6];',
    ]
    tree: dict[str, Any] = {}
    for box in picture.boxes.values():
        branch = tree
        for part in box.home:
            branch = branch.setdefault(part, {})
        branch.setdefault("", []).append(_box(box, picture))
    lines += _cluster(tree, 1, itertools.count())
    lines += [_edge(edge, picture) for edge in picture.edges]
    lines += _stacking(picture)
    return "\n".join([*lines, "}"]) + "\n"


def _cluster(tree: dict[str, Any], depth: int, numbers: Iterator[int]) -> list[str]:
    pad = "  " * depth
    lines = [pad + line for line in tree.get("", [])]
    for name, inner in tree.items():
        if name:
            lines += [
                f"{pad}subgraph cluster_{next(numbers)} {{",
                f'{pad}  graph [label={_quoted(scope_name(name))}, tooltip=" ", style="rounded,filled", '
                f'color="{SCOPE_BORDER}", fillcolor="{SCOPES.get(name, SCOPE)}", fontcolor="{GREY}"];',
                *_cluster(inner, depth + 1, numbers),
                pad + "}",
            ]
    return lines


def _box(box: Box, picture: Picture) -> str:
    if box.kind == "end":
        return f'{box.key} [shape=point, style=invis, width=0.05, label=""];'
    if box.kind == "tag":
        text = f'<FONT POINT-SIZE="9" COLOR="{GREY}"><I>{_markup(box.title)}</I></FONT>'
        return f'{box.key} [label=<{text}>, shape=plain, style="", tooltip={_quoted(box.tooltip)}];'
    look = look_of(box, picture)
    form = "box3d" if box.members > 1 else FORMS.get(box.kind, "box")
    style = "rounded,filled" if form == "box" else "filled"
    detail = f'<BR/><FONT POINT-SIZE="9" COLOR="{look.detail}">{_markup(box.detail)}</FONT>' if box.detail else ""
    detail += f'<BR/><FONT POINT-SIZE="9" COLOR="{look.note}">{_markup(cut(box.note))}</FONT>' if box.note else ""
    margin = {"ellipse": ', margin="0.02,0.02"', "box3d": ', margin="0.12,0.1"'}.get(form, "")
    thick = ", penwidth=3" if box.marked else ""
    title = f'<FONT COLOR="{look.ink}">{_markup(box.title)}</FONT>' if look.ink else _markup(box.title)
    colors = f'fillcolor="{look.fill}", color="{look.border}"'
    return f'{box.key} [label=<{title}{detail}>, shape={form}, style="{style}", {colors}{margin}{thick}, tooltip={_quoted(box.tooltip)}];'


def _edge(edge: Edge, picture: Picture) -> str:
    ends = picture.boxes[edge.start], picture.boxes[edge.end]
    start, end, color = edge.start, edge.end, LINES[edge.kind]
    options = [f'color="{color}"', f"tooltip={_quoted(edge.tooltip)}"]
    if edge.grids:
        options.append(f"label=<{_cells(edge)}>")
    elif edge.value or edge.slope:
        rows = [(edge.value, VALUE), (edge.slope, SLOPE)]
        markup = "<BR/>".join(f'<FONT COLOR="{color}"> {_markup(text)} </FONT>' for text, color in rows if text)
        options.append(f"label=<{markup}>")
    elif edge.label:
        options.append(f"label={_quoted(' ' + edge.label)}")
    if edge.kind == "gradient":
        start, end = end, start
        options.append("dir=back")
    elif edge.kind == "reads":
        options.append("style=dotted, constraint=false, arrowsize=0.4")
    elif edge.kind in ("control", "removed"):
        options.append("style=dashed")
    elif edge.kind == "data":
        options.append("weight=3" if ends[0].kind in ("placeholder", "variable", "constant") else "weight=60")
    if "tag" in (ends[0].kind, ends[1].kind):
        options.append("minlen=0")
    elif ends[0].home[:1] != ends[1].home[:1] and edge.kind in ("update", "control"):
        options.append("constraint=false")
    return f"  {start} -> {end} [{', '.join(options)}];"


def _cells(edge: Edge) -> str:
    """The value as a table, or as little pictures side by side, with what stands for it in words below."""
    tables = ""
    for grid in edge.grids:
        side = max(CELL, min(PICTURE // max(len(grid.colors), len(grid.colors[0])), 3 * CELL))
        size = f'WIDTH="{side}" HEIGHT="{side}" FIXEDSIZE="TRUE"' if grid.texts is None else ""
        rows = ""
        for i, colors in enumerate(grid.colors):
            cells = ""
            for j, color in enumerate(colors):
                text = "" if grid.texts is None else f'<FONT POINT-SIZE="9" COLOR="{ink(color)}">{_markup(grid.texts[i][j])}</FONT>'
                cells += f'<TD BGCOLOR="{color}" {size}>{text}</TD>'
            rows += f"<TR>{cells}</TR>"
        form = 'CELLPADDING="2" CELLBORDER="1"'
        if grid.texts is None:  # of its own size, however wide the words below are
            width, height = side * len(grid.colors[0]) + 2, side * len(grid.colors) + 2
            form = f'CELLPADDING="0" CELLBORDER="0" FIXEDSIZE="TRUE" WIDTH="{width}" HEIGHT="{height}"'
        tables += f'<TD><TABLE BORDER="1" CELLSPACING="0" COLOR="{SCOPE_BORDER}" {form}>{rows}</TABLE></TD>'
    words = [(edge.value, VALUE)] if edge.grids[0].texts is None else []
    words += [(edge.slope, SLOPE)] if edge.slope else []
    lines = [f'<FONT POINT-SIZE="9" COLOR="{color}">{_markup(text)}</FONT>' for text, color in words]
    below = "".join(f'<TR><TD COLSPAN="{len(edge.grids)}">{line}</TD></TR>' for line in lines)
    return f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="2" CELLPADDING="0"><TR>{tables}</TR>{below}</TABLE>'


def _stacking(picture: Picture) -> list[str]:
    """Edges that are not seen, which make a column of the scopes: what a scope reads stands below it, what reads it above it."""
    busy = {edge.start for edge in picture.edges if picture.boxes[edge.end].kind != "tag"}
    tops: dict[Home, list[str]] = {}
    bottoms: dict[Home, list[str]] = {}
    for key, box in picture.boxes.items():
        for depth in range(1, len(box.home) + 1):
            if box.kind == "update" and key not in busy:
                tops.setdefault(box.home[:depth], []).append(key)
            elif box.kind == "variable" and UPDATE not in box.home:
                bottoms.setdefault(box.home[:depth], []).append(key)
    handed = [(*_parting(picture, edge), edge) for edge in picture.edges if edge.kind == "data"]
    scopes = {(start, end) for start, end, _ in handed if start and end}
    lines: dict[str, None] = {}
    for start, end, edge in handed:
        if (end, start) not in scopes:
            for top in tops.get(start, ())[:STACKED]:
                lines[f"  {top} -> {edge.end} [style=invis, weight=20];"] = None
            for bottom in bottoms.get(end, ())[:STACKED]:
                lines[f"  {edge.start} -> {bottom} [style=invis, weight=20];"] = None
    return list(lines)


def _components(picture: Picture) -> int:
    """Parts of the picture that no edge and no scope joins."""
    leader: dict[str, str] = {}

    def find(key: str) -> str:
        while leader.setdefault(key, key) != key:
            leader[key] = leader[leader[key]]
            key = leader[key]
        return key

    for box in picture.boxes.values():
        leader[find(box.key)] = find(f"in {box.home[0]}" if box.home else box.key)
    for edge in picture.edges:
        leader[find(edge.start)] = find(edge.end)
    return sum(find(key) == key for key in list(leader))


def _parting(picture: Picture, edge: Edge) -> tuple[Home, Home]:
    """The outermost scope of each end that does not hold the other; empty where the end itself stands beside it."""
    start, end = picture.boxes[edge.start].home, picture.boxes[edge.end].home
    shared = 0
    while shared < min(len(start), len(end)) and start[shared] == end[shared]:
        shared += 1
    return tuple(home[: shared + 1] if len(home) > shared else () for home in (start, end))  # type: ignore[return-value]


def _legend(picture: Picture) -> str:
    rows = ["    ".join(f'<FONT COLOR="{entry.color}">{entry.mark}</FONT> {entry.text}' for entry in legend(picture))]
    rows += [_markup(note) for note in picture.notes]
    markup = "".join(f'{row}<BR ALIGN="LEFT"/>' for row in rows if row)
    words = f'<FONT POINT-SIZE="10" COLOR="{GREY}">{markup}</FONT>' if markup else ""
    scale = picture.overlay.scale
    if scale is None:
        return f"<{words}>" if words else '""'
    cells = "".join(f'<TD BGCOLOR="{scale.at((i + 0.5) / STEPS)}" WIDTH="6" HEIGHT="10" FIXEDSIZE="TRUE"></TD>' for i in range(STEPS))
    low, high = (f'<TD><FONT POINT-SIZE="10" COLOR="{GREY}">{_markup(text)}</FONT></TD>' for text in scale.ends())
    title = f'<TD ALIGN="LEFT"><FONT POINT-SIZE="10">{_markup(scale.heat.title)}</FONT></TD>'
    rest = f'<TR><TD ALIGN="LEFT" BALIGN="LEFT" COLSPAN="{STEPS + 4}">{words}</TD></TR>' if words else ""
    table = f'<TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="2"><TR>{title}{low}{cells}{high}<TD></TD></TR>{rest}</TABLE>'
    return f"<{table}>"


def _quoted(text: str) -> str:
    """``text`` between the quotes of DOT; its line breaks stay line breaks."""
    return '"' + clean(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _markup(text: str) -> str:
    import html

    return html.escape(clean(text))


# --- the program


class Failure(Exception):
    """Why the program made no picture."""


def program() -> list[str] | None:
    """The command that draws: the system's ``dot``, or the one of the package graphviz-pure; None without either."""
    import shutil

    for folder in (None, os.path.dirname(sys.executable)):
        for name in ("dot", "graphviz-pure"):
            found = shutil.which(name, path=folder)
            if found:
                return [found] if name == "dot" else [found, "-Kdot"]
    return None


def formats(command: list[str]) -> tuple[str, ...]:
    """What ``command`` can write."""
    return ("svg", "png") if len(command) > 1 else ("svg", "png", "pdf")


def run(command: list[str], text: str, kind: str, seconds: float) -> bytes:
    """What ``command`` makes of DOT text. raises Failure."""
    import subprocess

    options = [f"-T{kind}"] + (["-Gdpi=144"] if kind == "png" else [])
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    try:
        # A session of its own, so that what a wrapper script has started ends with it: else its open pipes would be waited for.
        process = subprocess.Popen([*command, *options], start_new_session=True, **pipes)
    except OSError as error:
        raise Failure(f"could not be started: {error.strerror or error}") from error
    with process:
        try:
            output, errors = process.communicate(text.encode(), timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"took longer than {seconds:.2g} s") from None
        finally:
            if process.poll() is None:
                _kill(process)
    complaint = " ".join(errors.decode(errors="replace").split())[:200]
    if process.returncode:
        raise Failure(f"failed with status {process.returncode}{': ' if complaint else ''}{complaint}")
    beginning = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[kind]
    if not output.startswith(beginning):
        raise Failure(f"wrote no {kind}{': ' if complaint else ''}{complaint}")
    if re.search(r"Error:|trouble in|lost \S+ \S+ edge", complaint):
        raise Failure(f"complained: {complaint}")
    return bytes(output)


def _kill(process: Any) -> None:
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
