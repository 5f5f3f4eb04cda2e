"""Commands: ``flowgraph draw``, on a Python file or on a graph that was saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..compile import Explanation
from ..errors import ArgumentError
from ..graph import Graph, Node, Tensor
from ..graph.spec import format_shape
from ..io import load_graph
from ..runtime.tracing import TRACED
from ..session import explain
from ..shell import Runner, add_command
from ..traces import Trace
from .difference import draw_difference
from .draw import draw, nodes_of
from .figures import FIGURES, heat_of
from .files import FORMATS

_DRAWING = """Draws a graph into an SVG, PNG, PDF, DOT or HTML file. Gradients stand beside what they belong to; large scopes are
folded. The HTML page holds all of the graph, to zoom and to search in: scopes open and close, and a node shows the line of
your program that made it.

A Python file is run, except for what stands below `if __name__ == "__main__":`, and the largest graph among its names is
drawn. NAME chooses another: a graph, a tensor, or a function without arguments that gives one. Nothing is trained, and no
session is opened, unless the file does so when it is imported."""

_DRAWING_EXAMPLES = """examples:
  flowgraph draw toy.py                         writes toy.svg
  flowgraph draw train.py:build -o net.png --depth 1
  flowgraph draw train.py -o net.html           a page to search and fold in
  flowgraph draw net.graph --only loss/mean --mark loss/mean
                                                what one node depends on
  flowgraph draw train.py --heat time           runs all of the file; red is where the time goes
  flowgraph draw train.py --passes --feed x=128,784 -o net.html
                                                with a slider over what the compiler makes of it
  flowgraph draw train.py --plan --feed x=128,784
                                                the kernels that are run, in their tasks
  flowgraph draw new.py --against old.py        what was added, removed and changed"""


def add_parser(commands: Any) -> None:
    """Adds the command to those of the command line."""
    parser = add_command(
        commands, "draw", "draw the graph of a Python file, or of a file that fg.io.save_graph wrote", _DRAWING, _DRAWING_EXAMPLES
    )
    parser.add_argument("file", metavar="FILE[:NAME]", help="a Python file, or a graph file")
    parser.add_argument("-o", "--output", type=Path, default=None, help="where to write; its ending says the format (FILE with .svg)")
    parser.add_argument("--depth", type=int, default=None, help="fold scopes nested deeper than this (as deep as a page allows)")
    parser.add_argument("--only", metavar="NODE", action="append", default=[], help="draw what this node depends on; may be repeated")
    parser.add_argument("--mark", metavar="NODE", action="append", default=[], help="a red border around this node; may be repeated")
    parser.add_argument("--devices", action="store_true", help="colours for the devices that nodes ask for")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--heat", choices=FIGURES, default=None, help="run the file, and colour nodes by what was measured")
    ways.add_argument("--passes", action="store_true", help="what each pass of the compiler makes of it, with a slider in an .html")
    ways.add_argument("--plan", action="store_true", help="what is run: kernels in their tasks")
    ways.add_argument("--against", metavar="FILE[:NAME]", default=None, help="draw what differs from that graph")
    parser.add_argument(
        "--feed", metavar="NAME=SIZES", action="append", default=[], help="the shape of a placeholder for --passes and --plan: x=128,784"
    )


def run(options: Any, run: Runner) -> Path:
    """``flowgraph draw``: the file that it wrote."""
    file, name = _parts(options.file)
    output = options.output or file.with_suffix(".svg")
    if output.suffix[1:].lower() not in FORMATS:  # before the file is run: that may take a while
        raise ArgumentError(f"draw: {output} must end in one of {', '.join(FORMATS)}", help="for example: -o graph.svg")
    if options.heat is not None:
        return _heated(file, options, output, run)
    found = _found(file, name, run)
    if options.only:
        graph = _graph(found)
        found = [graph.node(node) for node in options.only]
    if options.against is not None:
        draw_difference(_found(*_parts(options.against), run), found, output, depth=options.depth)
        return output
    what = found
    if options.passes or options.plan:
        account = _explained(found, options.feed)
        what = account if options.passes else account.plan
    marked = [_graph(found).node(node) for node in options.mark]
    draw(what, output, depth=options.depth, marked=marked, groups="device" if options.devices else None)
    return output


def _explained(found: Any, feeds: Sequence[str]) -> Explanation:
    """What the compiler makes of all that a file has. raises ArgumentError where sizes are missing."""
    ends, shapes = _ends(found), _shapes(_graph(found), feeds)
    for node in nodes_of(ends):
        if node.op.name == "placeholder" and node.outputs[0] not in shapes:
            x = node.outputs[0]
            sizes = ",".join("128" if not isinstance(size, int) else str(size) for size in x.shape)
            raise ArgumentError(f"the sizes of placeholder {x.name} {format_shape(x.shape)} are not known", help=f"--feed {x.name}={sizes}")
    return explain(ends, shapes)


def _parts(source: str) -> tuple[Path, str]:
    """The file, and the name in it."""
    name = ""
    if not Path(source).exists() and ":" in source:
        source, _, name = source.rpartition(":")
    return Path(source), name


def _heated(file: Path, options: Any, output: Path, run: Runner) -> Path:
    trace = Trace()
    token = TRACED.set(trace)
    try:
        run(file, [], "__main__")
    finally:
        TRACED.reset(token)
    if not trace.runs:
        raise ArgumentError(f"draw: {file} ran nothing in a session, so that there is no {options.heat} to show")
    heat = heat_of(trace, options.heat)
    graph = next((node.graph for node in heat.values), Graph())
    marked = [graph.node(node) for node in options.mark]
    what = [graph.node(node) for node in options.only] or graph
    draw(what, output, depth=options.depth, heat=heat, marked=marked)
    return output


def _found(file: Path, name: str, run: Runner) -> Any:
    """What a Python file or a graph file has under that name."""
    with open(file, "rb") as opened:
        is_graph_file = opened.read(2) == b"PK"
    if not is_graph_file:
        return _named(file, name, run)
    if name:
        raise ArgumentError(f"{file} is a graph file, which has no names of Python", help=f"--only {name} draws one node")
    return load_graph(file)


def _graph(found: Any) -> Graph:
    first = found[0] if isinstance(found, list) else found
    return first if isinstance(first, Graph) else first.graph


def _ends(found: Any) -> list[Any]:
    """What to run: tensors and nodes, or those of a graph that nothing reads."""
    if not isinstance(found, Graph):
        return found if isinstance(found, list) else [found]
    nodes = nodes_of(found)
    read = {tensor.node for node in nodes for tensor in node.inputs} | {before for node in nodes for before in node.control}
    return [node.outputs[0] if node.outputs else node for node in nodes if node not in read and node.op.name != "placeholder"]


def _shapes(graph: Graph, feeds: Sequence[str]) -> dict[Tensor, tuple[int, ...]]:
    """The shapes of the placeholders: those that are given, and those that are known."""
    shapes: dict[Tensor, tuple[int, ...]] = {}
    for feed in feeds:
        name, is_given, sizes = feed.partition("=")
        try:
            if not is_given:
                raise ValueError
            shapes[graph.node(name).outputs[0]] = tuple(int(size) for size in sizes.split(",") if size.strip())
        except ValueError:
            raise ArgumentError(f"--feed is NAME=SIZES, got {feed!r:.60}", help="--feed x=128,784, and of a number --feed rate=") from None
    for tensor in graph.placeholders:
        sizes_known = tuple(size for size in tensor.shape if isinstance(size, int))
        if len(sizes_known) == len(tensor.shape):
            shapes.setdefault(tensor, sizes_known)
    return shapes


def _named(file: Path, name: str, run: Runner) -> Any:
    """The graph or tensor called ``name`` in a Python file, or its largest graph."""
    names = run(file, [], "__draw__")
    if not name:
        graphs = [value for value in names.values() if isinstance(value, Graph)]
        graphs += [value.graph for value in names.values() if isinstance(value, Tensor | Node)]
        if not graphs:
            raise ArgumentError(
                f"{file} has no graph among its names",
                help=f"give it one at the top: with fg.Graph() as graph: ...; or name a function that gives one: {file}:build",
            )
        return max(graphs, key=len)
    if name not in names:
        near = [key for key, value in names.items() if isinstance(value, Graph | Tensor | Node)]
        raise ArgumentError(f"{file} has no name {name!r}", help=f"it has {', '.join(near)}" if near else None)
    value: Any = names[name]
    if callable(value):
        with Graph() as graph:  # what a function builds without a graph of its own lands here
            value = value()
        value = graph if value is None else value
    if isinstance(value, tuple | list) and value and all(isinstance(part, Tensor | Node) for part in value):
        value = value[0].graph
    if not isinstance(value, Graph | Tensor | Node):
        raise ArgumentError(f"{file}:{name} is no graph, tensor or function that gives one, but {value!r:.60}")
    return value
