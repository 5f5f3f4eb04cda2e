"""Drawing graphs with Graphviz: scopes as boxes that fold, forward, gradient and update nodes in their own colours.

What trials with Graphviz taught: a cluster for each scope always, never ``newrank``, labels on edges only in small graphs, and a
time limit on every call.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..compile.needed import needed_nodes
from ..errors import ArgumentError, DrawingError
from ..graph import Graph, Node, Tensor
from ..graph.op import public
from ..graph.spec import format_spec

BOXES = 300  # a drawing with more is folded by scopes until it has fewer
LABELLED_NODES = 80  # up to here edges show shape and dtype: from about 100 labelled edges on, dot fails
SECONDS = 20.0

FORMATS = ("svg", "png", "pdf", "dot")

# Fill and border of each kind of node: told apart in print and by colour-blind readers (after Okabe and Ito, 2008).
COLORS = {
    "forward": ("#dcebf7", "#0072b2"),
    "gradient": ("#fbe5d6", "#d55e00"),
    "update": ("#e3f1e9", "#009e73"),
    "placeholder": ("#ffffff", "#333333"),
    "variable": ("#fff4c9", "#b58900"),
    "constant": ("#f2f2f2", "#999999"),
}


def draw(
    what: Graph | Tensor | Node | Sequence[Tensor | Node],
    file: str | os.PathLike[str] | None = None,
    *,
    format: str | None = None,
    depth: int | None = None,
    values: Mapping[Tensor, Any] | None = None,
    gradients: Mapping[Tensor, Any] | None = None,
) -> Any:
    """A picture of a graph, or of what some tensors depend on.

    file       where to write; its ending says the format. None: the text of an SVG is returned
    format     "svg", "png", "pdf" or "dot" (the text for Graphviz, for which no program is needed)
    depth      scopes nested deeper are drawn as one box each; None: as deep as about 300 boxes allow
    values     numbers to write on the edges, by tensor; ``gradients``: numbers to write below them
    returns    the path, or the text where no file is given
    raises     DrawingError without a ``dot`` program, or when it fails; ArgumentError for another format

    >>> with fg.Graph() as graph:
    ...     y = fg.exp(fg.placeholder("x", ()))
    >>> "exp" in fg.draw(graph, format="dot")
    True
    """
    path = None if file is None else Path(file)
    kind = format or (path.suffix[1:].lower() if path is not None else "svg")
    if kind not in FORMATS:
        raise ArgumentError(f"draw: the format is one of {', '.join(FORMATS)}, got {kind!r}", help='draw(graph, "graph.svg")')
    nodes = _nodes(what)
    limit = _deepest(nodes) if depth is None else depth
    while True:
        picture = _Picture(nodes, limit, values or {}, gradients or {})
        if depth is not None or picture.count <= BOXES or limit == 0:
            break
        limit -= 1
    if picture.count > BOXES:
        left = len(nodes)
        nodes = nodes[-BOXES:]
        picture = _Picture(nodes, limit, values or {}, gradients or {})
        picture.note = f"the last {len(nodes)} of {left} nodes"
    text = picture.source()
    if kind == "dot":
        data = text.encode()
    else:
        data = _rendered(text, kind)
    if path is None:
        return data if kind in ("png", "pdf") else data.decode()
    path.write_bytes(data)
    return path


def _nodes(what: Any) -> list[Node]:
    if isinstance(what, Graph):
        return list(what.nodes)
    items = [what] if isinstance(what, Tensor | Node) else list(what)
    if not items or not all(isinstance(item, Tensor | Node) for item in items):
        raise ArgumentError("draw: what to draw is a graph, a tensor, a node, or a list of tensors and nodes")
    return needed_nodes([item.node if isinstance(item, Tensor) else item for item in items], ())


def _home(node: Node) -> str:
    """The scope that a node is drawn in: a gradient beside its forward node, in a scope of its own."""
    forward = node.forward
    if forward is None:
        return node.scope
    while forward.forward is not None:
        forward = forward.forward
    scope = forward.scope
    return f"{scope}/gradient" if scope else "gradient"


def _deepest(nodes: Sequence[Node]) -> int:
    return max((len(_home(node).split("/")) for node in nodes if _home(node)), default=0)


class _Picture:
    """The DOT text of some nodes, with scopes deeper than ``depth`` folded into one box each."""

    def __init__(self, nodes: Sequence[Node], depth: int, values: Mapping[Any, Any], gradients: Mapping[Any, Any]) -> None:
        self.nodes, self.values, self.gradients, self.note = nodes, values, gradients, ""
        self.inlined = {node for node in nodes if node.op.name == "constant" and not node.outputs[0].shape}
        self.box: dict[Node, str] = {}
        self.folded: dict[str, list[Node]] = {}
        for node in nodes:
            if node in self.inlined:
                continue
            parts = _home(node).split("/") if _home(node) else []
            if len(parts) > depth:
                scope = "/".join(parts[: depth + 1])
                self.folded.setdefault(scope, []).append(node)
                self.box[node] = f"s:{scope}"
            else:
                self.box[node] = f"n{node.id}"
        self.count = len(set(self.box.values()))
        if self.folded:
            self.note = f"{sum(map(len, self.folded.values()))} nodes folded into {len(self.folded)} scopes"

    def source(self) -> str:
        lines = [
            "digraph flowgraph {",
            '  graph [rankdir=BT, fontname="Helvetica", fontsize=11, compound=true, ranksep=0.3, nodesep=0.2, '
            f'labelloc=t, label="{_escape(self.note)}"];',
            '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11, height=0.3, margin="0.1,0.04"];',
            '  edge [color="#777777", fontname="Helvetica", fontsize=9, arrowsize=0.6];',
        ]
        tree: dict[str, Any] = {}
        for node in self.nodes:
            if node in self.box and self.box[node].startswith("n"):
                self._place(tree, _home(node), self._node(node))
        for scope, members in self.folded.items():
            self._place(tree, scope.rpartition("/")[0], self._folded(scope, members))
        lines += self._cluster(tree, "", 1)
        lines += self._edges()
        return "\n".join([*lines, "}"]) + "\n"

    def _place(self, tree: dict[str, Any], scope: str, line: str) -> None:
        for part in scope.split("/") if scope else []:
            tree = tree.setdefault(part, {})
        tree.setdefault("", []).append(line)

    def _cluster(self, tree: dict[str, Any], path: str, depth: int) -> list[str]:
        pad = "  " * depth
        lines = [pad + line for line in tree.get("", [])]
        for name, inner in tree.items():
            if name:
                here = f"{path}/{name}" if path else name
                tint = "#fdf3ec" if name == "gradient" else "#f8f9fb"
                lines.append(f'{pad}subgraph "cluster_{_escape(here)}" {{')
                lines.append(f'{pad}  label="{_escape(name)}"; style="rounded,filled"; color="#c5cbd3"; fillcolor="{tint}";')
                lines += self._cluster(inner, here, depth + 1)
                lines.append(pad + "}")
        return lines

    def _node(self, node: Node) -> str:
        kind = _kind(node)
        label = node.op.name
        if kind in ("placeholder", "variable") or node._label:
            label = node.name.rpartition("/")[2] if kind in ("placeholder", "variable") else f"{node._label}\\n{label}"
        numbers = [_number(t.node.attrs["value"]) for t in node.inputs if t.node in self.inlined]
        label = " ".join([_escape(label), *numbers])
        fill, border = COLORS[kind]
        shape = {"placeholder": "ellipse", "variable": "cylinder", "constant": "plain"}.get(kind, "box")
        if kind in ("placeholder", "variable"):
            label += "\\n" + _escape(format_spec(node.outputs[0].shape, node.outputs[0].dtype))
        style = "filled" if shape != "box" else "rounded,filled"
        return (
            f'n{node.id} [label="{label}", shape={shape}, style="{style}", fillcolor="{fill}", color="{border}", '
            f'tooltip="{_escape(_tooltip(node))}"];'
        )

    def _folded(self, scope: str, members: Sequence[Node]) -> str:
        kinds = Counter(node.op.name for node in members)
        common = ", ".join(f"{count} {name}" for name, count in kinds.most_common(3))
        fill, border = COLORS[_kind(members[0])]
        label = f"{_escape(scope.rpartition('/')[2])}\\n{len(members)} nodes"
        return (
            f'"{_escape(f"s:{scope}")}" [label="{label}", shape=box3d, style=filled, fillcolor="{fill}", color="{border}", '
            f'tooltip="{_escape(scope)}: {_escape(common)}"];'
        )

    def _edges(self) -> list[str]:
        lines: dict[str, None] = {}
        labelled = self.count <= LABELLED_NODES
        for node in self.nodes:
            if node not in self.box:
                continue
            for tensor in node.inputs:
                if tensor.node in self.box and self.box[tensor.node] != self.box[node]:
                    lines[self._edge(tensor, node, labelled)] = None
            for before in node.control:
                if before in self.box and self.box[before] != self.box[node]:
                    lines[f'  "{_escape(self.box[before])}" -> "{_escape(self.box[node])}" [style=dashed, tooltip="control"];'] = None
        read = {tensor for node in self.nodes if node.forward is None for tensor in node.inputs}
        for tensor in {**self.values, **self.gradients}:
            if tensor.node in self.box and tensor not in read:
                end = f"end{tensor.node.id}"
                lines[f'  {end} [label="", shape=none, width=0.1, height=0.1];'] = None
                lines[f'  "{self.box[tensor.node]}" -> {end} [{self._numbers(tensor)}];'] = None
        return list(lines)

    def _edge(self, tensor: Tensor, node: Node, labelled: bool) -> str:
        spec = _escape(format_spec(tensor.shape, tensor.dtype))
        options = [f'tooltip="{_escape(tensor.name)}: {spec}"']
        if tensor in self.values or tensor in self.gradients:
            options.append(self._numbers(tensor))
        elif labelled and tensor.node.op.name not in ("placeholder", "variable") and tensor.shape:
            options.append(f'label=" {spec}"')
        backward = node.forward is not None
        crossing = backward and tensor.node.forward is None
        start, end = _escape(self.box[tensor.node]), _escape(self.box[node])
        if crossing:
            options.append('constraint=false, style=dotted, color="#bbbbbb"')
        elif backward:
            # Drawn from the loss downwards, beside the forward edges: reversed, so that ranks stay short.
            start, end = end, start
            options.append('dir=back, color="#d55e00"')
        return f'  "{start}" -> "{end}" [{", ".join(options)}];'

    def _numbers(self, tensor: Tensor) -> str:
        rows = []
        if tensor in self.values:
            rows.append(f'<FONT COLOR="#007a4d">{_number(self.values[tensor])}</FONT>')
        if tensor in self.gradients:
            rows.append(f'<FONT COLOR="#c03000">{_number(self.gradients[tensor])}</FONT>')
        return f"label=<{'<BR/>'.join(rows)}>"


def _kind(node: Node) -> str:
    if node.op.name in ("placeholder", "variable", "constant"):
        return node.op.name
    if node.op.name in ("assign", "group"):
        return "update"
    return "gradient" if node.forward is not None else "forward"


def _number(value: Any) -> str:
    return str(bool(value)) if isinstance(value, bool | np.bool_) or getattr(value, "dtype", None) == np.bool_ else f"{float(value):.4g}"


def _tooltip(node: Node) -> str:
    specs = ", ".join(format_spec(t.shape, t.dtype) for t in node.outputs)
    return f"{node.name}: {node.op.name} -> {specs or 'nothing'} | {node.location} {node.location.text}"


def _escape(text: str) -> str:
    """Makes ``text`` fit between the quotes of DOT; a line break written with a backslash stays one."""
    return text.replace("\\n", "\0").replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ").replace("\0", "\\n")


def _rendered(text: str, kind: str) -> bytes:
    """What the ``dot`` program makes of ``text``: the system's, or the one of the package graphviz-pure."""
    command = program()
    if command is None:
        raise DrawingError(
            "no dot program was found",
            help='pip install "flowgraph[dot]", or install Graphviz; format="dot" needs none',
        )
    try:
        done = subprocess.run([*command, f"-T{kind}"], input=text.encode(), capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise DrawingError(f"dot took longer than {SECONDS:.0f} s", help="draw less: depth=1, or some tensors only") from None
    except OSError as error:
        raise DrawingError(f"{command[0]} could not be started: {error}") from error
    if done.returncode or not done.stdout:
        message = done.stderr.decode(errors="replace").strip()[:300]
        raise DrawingError(f"dot failed with status {done.returncode}: {message}", help="draw less: depth=1, or some tensors only")
    return done.stdout


def program() -> list[str] | None:
    """The command that draws: the system's ``dot``, or the one of the package graphviz-pure; None without either."""
    for folder in (None, os.path.dirname(sys.executable)):
        for name in ("dot", "graphviz-pure"):
            found = shutil.which(name, path=folder)
            if found:
                return [found] if name == "dot" else [found, "-Kdot"]
    return None


public(draw)
