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
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import FileFormatError, FlowgraphError, GraphError
from ..graph import OPS, Graph, Location, Node, Spec, Tensor
from ..graph.context import Context
from ..graph.report import where
from ..graph.spec import as_shape, format_spec, is_known
from ..ops.state import Initializer
from .attributes import Arrays, BadAttribute, as_dtype_named, dtype_name, read_attribute, write_attribute
from .files import atomic_path

FORMAT = "flowgraph graph"
VERSION = 1

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
    import json
    import zipfile

    from safetensors.numpy import save

    written = _Writer()
    nodes = [written.node(node) for node in list(graph.nodes)]
    lists: dict[str, list[Any]] = {"contexts": written.contexts, "locations": written.locations, "nodes": nodes}
    # One entry a line, so that a diff shows in what two graphs differ.
    lines = [f'"{key}": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]" for key, rows in lists.items()]
    text = f'{{"format": "{FORMAT}", "version": {VERSION},\n' + ",\n".join(lines) + "}\n"
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content, packing in (
            (GRAPH, text.encode(), zipfile.ZIP_DEFLATED),
            (ARRAYS, save(written.arrays), zipfile.ZIP_STORED),
        ):
            entry = zipfile.ZipInfo(name)  # its date is a constant, so that equal graphs give equal files
            entry.external_attr, entry.compress_type = 0o644 << 16, packing
            archive.writestr(entry, content)


def load_graph(path: str | os.PathLike[str]) -> Graph:
    """The graph in the file at ``path``, as ``save_graph`` wrote it: same names, shapes, dtypes, lines and results.

    raises  FileFormatError for a file that is damaged, truncated, of another format, of a newer version, or with an
            operation that is not known here; FileNotFoundError and other OSErrors as ``open`` does

    Loading runs no code from the file, whoever wrote it.
    """
    with open(path, "rb") as raw, _told(path):
        document, arrays = _unpacked(raw)
        return _Reader(document, arrays).graph


@contextmanager
def _told(path: str | os.PathLike[str]) -> Iterator[None]:
    """Puts the file's name before what is wrong with it."""
    try:
        yield
    except _Damage as damage:
        raise FileFormatError(
            f"load_graph: {path} {damage.what}",
            rows=[("node", damage.node)] if damage.node else None,
            help=damage.help or "copy the file again, or save the graph anew with fg.io.save_graph",
        ) from damage.__cause__


class _Damage(Exception):
    """What is wrong with a file."""

    def __init__(self, what: str, *, node: str = "", help: str | None = None) -> None:
        super().__init__(what)
        self.what, self.node, self.help = what, node, help


# --- writing


class _Writer:
    """Nodes as JSON, with the contexts and locations that many of them share written once."""

    def __init__(self) -> None:
        self.arrays: Arrays = {}
        self.contexts: list[dict[str, Any]] = []
        self.locations: list[list[Any]] = []
        self._context_numbers: dict[Any, int] = {}
        self._location_numbers: dict[Any, int] = {}
        self._seen: dict[Any, int] = {}  # the line of a code object and offset, which is slow to find

    def node(self, node: Node) -> dict[str, Any]:
        row: dict[str, Any] = {"op": node.op.name}
        if node._label is not None:
            row["label"] = node._label
        row["inputs"] = [[tensor.node.id, tensor.index] for tensor in node.inputs]
        row["outputs"] = [[dtype_name(out.dtype), list(out.shape)] for out in node.outputs]
        if node.attrs:
            row["attrs"] = {key: self._attribute(node, key, value) for key, value in node.attrs.items()}
        row["context"] = self._context(node._context)
        row["location"] = self._location(node)
        return row

    def _attribute(self, node: Node, key: str, value: Any) -> Any:
        try:
            return write_attribute(value, f"{node.id}/{key}", self.arrays)
        except TypeError as kind:
            what = f"a function, {getattr(value, '__qualname__', value)}" if callable(value) else str(kind)
            if isinstance(value, Initializer):
                what = f"an initializer of a kind that files do not know, {type(value).__name__}"
            error = GraphError(
                f"save_graph: {node.name} cannot be saved: its {key} is {what}",
                rows=[("node", f"{node.name}, made at {where(node.location)}")],
                help="a file holds data and no code: build that part in a program, and save its weights alone",
            )
            error.node = node
            raise error from None

    def _context(self, context: Context) -> int:
        control = tuple(node.id for node in context.control)
        forward = None if context.forward is None else context.forward.id
        key = (context.scope, context.device, control, forward)
        if key not in self._context_numbers:
            self._context_numbers[key] = len(self.contexts)
            self.contexts.append(dict(zip(("scope", "device", "control", "forward"), key, strict=True)))
        return self._context_numbers[key]

    def _location(self, node: Node) -> int:
        place = (node._code, node._offset)
        if place not in self._seen:
            location = node.location
            number = self._location_numbers.setdefault(location, len(self.locations))
            if number == len(self.locations):
                columns = None if location.columns is None else list(location.columns)
                self.locations.append([location.file, location.line, location.function, columns])
            self._seen[place] = number
        return self._seen[place]


# --- reading


def _unpacked(raw: Any) -> tuple[Any, Arrays]:
    """The two files in the zip, read."""
    import json
    import zipfile

    from safetensors.numpy import load

    size = os.fstat(raw.fileno()).st_size
    try:
        with zipfile.ZipFile(raw) as archive:
            text, packed = archive.read(GRAPH), archive.read(ARRAYS)
    except Exception as error:  # zipfile's own, zlib's, and whatever else damaged numbers lead to
        raise _Damage(f"is damaged, truncated, or no graph file ({size} bytes): {error}") from error
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _Damage(f"is damaged: {GRAPH} in it is no JSON: {error}") from error
    try:
        arrays = load(packed)
    except Exception as error:  # SafetensorError, and NumPy's for shapes and dtypes that do not fit
        raise _Damage(f"is damaged: {ARRAYS} in it cannot be read: {error}") from error
    return document, arrays


class _Reader:
    """A document made a graph, each claim of it checked."""

    def __init__(self, document: Any, arrays: Arrays) -> None:
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise _Damage("holds no flowgraph graph")
        version = document.get("version")
        if version != VERSION or type(version) is not int:
            raise _Damage(
                f"has version {version!r:.80} of the format, and this flowgraph reads version {VERSION}",
                help="a newer flowgraph reads newer files: pip install --upgrade flowgraph",
            )
        self.graph = Graph()
        self._arrays = arrays
        self._locations = [self._location(entry) for entry in _field(document, "locations", list)]
        self._rows = _field(document, "contexts", list)
        self._contexts: dict[int, Context] = {}
        for row in _field(document, "nodes", list):
            try:
                self._add(row)
            except _Damage as damage:
                op = row.get("op", "?") if isinstance(row, dict) else "?"
                damage.node = f"number {len(self.graph)}, op {op!s:.80}"
                raise
        self._remember()

    def _add(self, row: Any) -> None:
        name = _field(row, "op", str)
        if name not in OPS:
            raise _Damage(f"has an operation that is not known here, {name!r:.80}")
        op = OPS[name]
        label = row.get("label")
        if label is not None and not (isinstance(label, str) and label):
            raise _Damage(f"has a label that is no text: {label!r:.80}")
        inputs = tuple(self._input(pair) for pair in _field(row, "inputs", list))
        attributes = row.get("attrs", {})
        if not isinstance(attributes, dict):
            raise _Damage(f"has attributes that are none: {attributes!r:.80}")
        attrs = {key: self._attribute(key, value) for key, value in attributes.items()}
        outputs = [_output(entry) for entry in _field(row, "outputs", list)]
        context, location = self._context(_field(row, "context", int)), _field(row, "location", int)
        if not 0 <= location < len(self._locations):
            raise _Damage(f"has no location {location}")
        if op.name == "variable":
            _check_variable(attrs)
        try:
            inferred = op.infer(*inputs, **attrs)
            specs = [Spec(s.shape, s.dtype) for s in (inferred if isinstance(inferred, list) else [inferred])]
        except Exception as error:  # a rule given attributes of a wrong kind may raise anything
            raise _Damage(f"has an operation that does not fit its inputs: {error}") from error
        if specs != outputs:
            have, want = (", ".join(format_spec(s.shape, s.dtype) for s in each) or "nothing" for each in (outputs, specs))
            raise _Damage(f"says that an output is {have}, but it is {want}")
        self.graph.append(op, inputs, attrs, outputs, context, label, self._locations[location], 0)

    def _attribute(self, key: str, value: Any) -> Any:
        try:
            return read_attribute(value, self._arrays)
        except BadAttribute as error:
            raise _Damage(f"has an attribute, {key!r:.80}, that cannot be read: {error}") from error

    def _input(self, pair: Any) -> Tensor:
        if isinstance(pair, list) and len(pair) == 2 and all(type(number) is int for number in pair):
            made, index = pair
            if 0 <= made < len(self.graph) and 0 <= index < len(self.graph.nodes[made].outputs):
                return self.graph.nodes[made].outputs[index]
        raise _Damage(f"has an input that is no earlier tensor: {pair!r:.80}")

    def _node(self, number: Any) -> Node:
        if type(number) is not int or not 0 <= number < len(self.graph):
            raise _Damage(f"refers to a node that does not come before it: {number!r:.80}")
        return self.graph.nodes[number]

    def _context(self, number: int) -> Context:
        """The context ``number``, made with the first node in it, which comes after all that the context refers to."""
        if number not in self._contexts:
            if not 0 <= number < len(self._rows):
                raise _Damage(f"has no context {number}")
            row = self._rows[number]
            path, device, forward = _field(row, "scope", str), row.get("device"), row.get("forward")
            if path and not all(path.split("/")):
                raise _Damage(f"has a scope with an empty name: {path!r:.80}")
            if device is not None and not isinstance(device, str):
                raise _Damage(f"has a device that is no text: {device!r:.80}")
            control = tuple(self._node(before) for before in _field(row, "control", list))
            made = Context(self.graph, path, device, control, None if forward is None else self._node(forward))
            if (path, device, control, forward) == ("", None, (), None):
                made = self.graph.root
            self._contexts[number] = made
        return self._contexts[number]

    def _location(self, entry: Any) -> Location:
        if isinstance(entry, list) and len(entry) == 4:
            file, line, function, columns = entry
            if isinstance(file, str) and type(line) is int and isinstance(function, str):
                if columns is None:
                    return self._checked(Location(file, line, function))
                if isinstance(columns, list) and len(columns) == 2 and all(type(c) is int for c in columns):
                    return self._checked(Location(file, line, function, (columns[0], columns[1])))
        raise _Damage(f"has a location that is none: {entry!r:.80}")

    def _checked(self, location: Location) -> Location:
        # Messages show the line: a pipe or a device in the place of a source file would be read, too, without an end.
        file = location.file
        if "\0" in file or (os.path.exists(file) and not os.path.isfile(file)):
            raise _Damage(f"names a source file that is no file: {location.file!r:.80}")
        return location

    def _remember(self) -> None:
        """What later nodes share with those that are there: scalar constants, and the key of random draws."""
        for node in self.graph.nodes:
            if node.op.name == "run_key":
                self.graph.memo.setdefault("run_key", node.outputs[0])
            elif node.op.name == "constant" and node._label is None and node.outputs[0].shape == ():
                value = node.attrs["value"]
                self.graph._constants.setdefault((value.dtype, value.tobytes()), node.outputs[0])


def _field(row: Any, key: str, kind: type[Any]) -> Any:
    if not isinstance(row, dict) or type(row.get(key)) is not kind:
        raise _Damage(f"is damaged: {key!r} is missing, or not what it should be")
    return row[key]


def _output(entry: Any) -> Spec:
    try:
        name, shape = entry
        if isinstance(shape, list):
            return Spec(as_shape(shape), as_dtype_named(name))
    except (ValueError, TypeError, FlowgraphError) as error:
        raise _Damage(f"has an output that is none: {entry!r:.80}") from error
    raise _Damage(f"has an output that is none: {entry!r:.80}")


def _check_variable(attrs: dict[str, Any]) -> None:
    initial, shape, dtype = attrs.get("initial"), attrs.get("shape"), attrs.get("dtype")
    if not isinstance(attrs.get("trainable"), bool):
        raise _Damage("has a variable of which it does not say whether it is trainable")
    if not isinstance(shape, tuple) or not is_known(shape):
        raise _Damage("has a variable of unknown shape")
    if initial is not None and (getattr(initial, "shape", None), getattr(initial, "dtype", None)) != (shape, dtype):
        raise _Damage("has a variable whose first value is not of its shape and dtype")
