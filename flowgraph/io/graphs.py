"""Graphs in files: a zip with ``graph.json``, all that is not an array, and ``arrays.safetensors``, the arrays.

What is loaded is data. Operations are looked up by name in the registry, attributes are of the few kinds in
`attributes`; shapes and dtypes are inferred anew and compared with the file's. No code is in the file, and none is run.

    {"format": "flowgraph graph", "version": 1,
     "contexts":  [{"scope": "dense1", "device": null, "control": [], "forward": null}, ...],
     "locations": [["train.py", 41, "build", [8, 21]], ...],          file, line, function, columns or null
     "nodes": [
      {"op": "matmul", "inputs": [[0, 0], [3, 0]], "outputs": [["float32", ["batch", 10]]],
       "context": 1, "location": 5},
      ...]}

A node's place in the list is its id, and it knows only smaller ids: inputs are pairs of a node's id and the index of
its output, ``control`` and ``forward`` are ids. ``label`` and ``attrs`` stand where a node has them.

The body of a loop and the branches of a condition are attributes:

    "attrs": {"body": {"sub_graph": {"scope": "scan", "device": null, "contexts": [...], "nodes": [...],
                                     "inputs": [[0, 0], ...], "captures": [[[2, 0], [1, 0]], ...], "outputs": [[5, 0]]}}}

with ids of their own; a capture is the tensor outside and the placeholder inside that stands for it. ``{"node": 7}`` is an attribute
that is a node of the same graph.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ArgumentError, FileFormatError
from ..graph import Graph
from .attributes import Arrays
from .files import as_path, atomic_path
from .graph_reader import Damage, Reader
from .graph_writer import FORMAT, VERSION, Writer

GRAPH, ARRAYS = "graph.json", "arrays.safetensors"


def save_graph(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write the graph to ``path``: its nodes with names, attributes, lines and constants, but no values of variables.

    path    file to write; the old one stays until the new one is complete. Equal graphs give equal files
    raises  GraphError, with node and line, where an attribute is a Python function (``fg.custom_gradient``) or an
            initializer of your own; OSError where the file cannot be written

    The values of variables belong to a session: ``fg.io.save_weights`` writes these. The file names the source files of
    the lines that made the nodes.

    >>> x = fg.placeholder("x", (None,), "float64")
    >>> y = fg.identity(x * x + 1, name="y")
    >>> fg.io.save_graph(graph, "parabola.graph")
    >>> loaded = fg.io.load_graph("parabola.graph")
    >>> with fg.Session(loaded) as session:
    ...     session.run(loaded["y"], {loaded["x"]: [1, 2, 3]})
    array([ 2.,  5., 10.])
    """
    if not isinstance(graph, Graph):
        raise ArgumentError(f"save_graph: a graph is expected, got {graph!r:.80}", help="fg.io.save_graph(tensor.graph, path)")
    path = as_path(path, "save_graph")
    write_archive(path, graph_entries(graph))


def graph_entries(graph: Graph, code: list[str] | None = None) -> dict[str, bytes]:
    """The files in the zip, by name. ``code``: see `Writer`."""
    import json

    from safetensors.numpy import save

    written = Writer(code=code)
    nodes = [written.node(node) for node in list(graph.nodes)]
    lists: dict[str, list[Any]] = {"contexts": written.contexts, "locations": written.locations, "nodes": nodes}
    # One entry a line, so that a diff shows in what two graphs differ.
    lines = [f'"{key}": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]" for key, rows in lists.items()]
    text = f'{{"format": "{FORMAT}", "version": {VERSION},\n' + ",\n".join(lines) + "}\n"
    return {GRAPH: text.encode(), ARRAYS: save(written.arrays)}


def write_archive(path: Path, entries: Mapping[str, bytes]) -> None:
    """Writes a zip, complete or not at all: texts packed, arrays as they are."""
    import zipfile

    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in entries.items():
            entry = zipfile.ZipInfo(name)  # its date is a constant, so that equal graphs give equal files
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED if name.endswith(".json") else zipfile.ZIP_STORED
            archive.writestr(entry, content)


def load_graph(path: str | os.PathLike[str]) -> Graph:
    """The graph in the file at ``path``, as ``save_graph`` wrote it: same names, shapes, dtypes, lines and results.

    raises  FileFormatError for a file that is damaged, truncated, of another format, of a newer version, or with an
            operation that is not known here; FileNotFoundError and other OSErrors as ``open`` does

    Loading runs no code from the file, whoever wrote it.
    """
    path = as_path(path, "load_graph")
    with open(path, "rb") as raw, told("load_graph", path, "copy the file again, or save the graph anew with fg.io.save_graph"):
        document, arrays = unpacked(raw, GRAPH, ARRAYS, "graph file")
        return Reader(document, arrays).graph


@contextmanager
def told(what: str, path: str | os.PathLike[str], help: str) -> Iterator[None]:
    """Puts the file's name, and that of the function that reads it, before what is wrong with it."""
    try:
        yield
    except Damage as damage:
        raise FileFormatError(
            f"{what}: {path} {damage.what}",
            rows=[("node", damage.node)] if damage.node else None,
            help=damage.help or help,
        ) from damage.__cause__


def unpacked(raw: Any, document_name: str, arrays_name: str, kind: str) -> tuple[Any, Arrays]:
    """Two files in the zip, read: one of JSON, one of arrays."""
    import json
    import zipfile

    from safetensors.numpy import load

    size = os.fstat(raw.fileno()).st_size
    try:
        with zipfile.ZipFile(raw) as archive:
            text, packed = archive.read(document_name), archive.read(arrays_name)
    except Exception as error:  # zipfile's own, zlib's, and whatever else damaged numbers lead to
        raise Damage(f"is damaged, truncated, or no {kind} ({size} bytes): {error}") from error
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Damage(f"is damaged: {document_name} in it is no JSON: {error}") from error
    try:
        arrays = load(packed)
    except Exception as error:  # SafetensorError, and NumPy's for shapes and dtypes that do not fit
        raise Damage(f"is damaged: {arrays_name} in it cannot be read: {error}") from error
    return document, arrays
