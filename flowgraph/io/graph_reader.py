"""A graph from JSON, each claim of it checked; `graphs` says what the JSON looks like. Nothing that is read runs as code."""

from __future__ import annotations

import os
from typing import Any

from ..errors import FlowgraphError
from ..graph import OPS, Graph, Location, Node, Spec, Tensor
from ..graph.context import Context
from ..graph.spec import as_shape, format_spec, is_known
from .attributes import Arrays, BadAttribute, as_dtype_named, read_attribute
from .graph_writer import FORMAT, VERSION


class Damage(Exception):
    """What is wrong with a file."""

    def __init__(self, what: str, *, node: str = "", help: str | None = None) -> None:
        super().__init__(what)
        self.what, self.node, self.help = what, node, help


class Reader:
    """A document made a graph, each claim of it checked."""

    def __init__(self, document: Any, arrays: Arrays) -> None:
        if not isinstance(document, dict) or document.get("format") != FORMAT:
            raise Damage("holds no flowgraph graph")
        version = document.get("version")
        if version != VERSION or type(version) is not int:
            raise Damage(
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
            except Damage as damage:
                op = row.get("op", "?") if isinstance(row, dict) else "?"
                damage.node = f"number {len(self.graph)}, op {op!s:.80}"
                raise
        self._remember()

    def _add(self, row: Any) -> None:
        name = _field(row, "op", str)
        if name not in OPS:
            raise Damage(f"has an operation that is not known here, {name!r:.80}")
        op = OPS[name]
        label = row.get("label")
        if label is not None and not (isinstance(label, str) and label):
            raise Damage(f"has a label that is no text: {label!r:.80}")
        inputs = tuple(self._input(pair) for pair in _field(row, "inputs", list))
        attributes = row.get("attrs", {})
        if not isinstance(attributes, dict):
            raise Damage(f"has attributes that are none: {attributes!r:.80}")
        attrs = {key: self._attribute(key, value) for key, value in attributes.items()}
        outputs = [_output(entry) for entry in _field(row, "outputs", list)]
        context, location = self._context(_field(row, "context", int)), _field(row, "location", int)
        if not 0 <= location < len(self._locations):
            raise Damage(f"has no location {location}")
        if op.name == "variable":
            _check_variable(attrs)
        try:
            inferred = op.infer(*inputs, **attrs)
            specs = [Spec(s.shape, s.dtype) for s in (inferred if isinstance(inferred, list) else [inferred])]
        except Exception as error:  # a rule given attributes of a wrong kind may raise anything
            raise Damage(f"has an operation that does not fit its inputs: {error}") from error
        if specs != outputs:
            have, want = (", ".join(format_spec(s.shape, s.dtype) for s in each) or "nothing" for each in (outputs, specs))
            raise Damage(f"says that an output is {have}, but it is {want}")
        self.graph.append(op, inputs, attrs, outputs, context, label, self._locations[location], 0)

    def _attribute(self, key: str, value: Any) -> Any:
        try:
            return read_attribute(value, self._arrays)
        except BadAttribute as error:
            raise Damage(f"has an attribute, {key!r:.80}, that cannot be read: {error}") from error

    def _input(self, pair: Any) -> Tensor:
        if isinstance(pair, list) and len(pair) == 2 and all(type(number) is int for number in pair):
            made, index = pair
            if 0 <= made < len(self.graph) and 0 <= index < len(self.graph.nodes[made].outputs):
                return self.graph.nodes[made].outputs[index]
        raise Damage(f"has an input that is no earlier tensor: {pair!r:.80}")

    def _node(self, number: Any) -> Node:
        if type(number) is not int or not 0 <= number < len(self.graph):
            raise Damage(f"refers to a node that does not come before it: {number!r:.80}")
        return self.graph.nodes[number]

    def _context(self, number: int) -> Context:
        """The context ``number``, made with the first node in it, which comes after all that the context refers to."""
        if number not in self._contexts:
            if not 0 <= number < len(self._rows):
                raise Damage(f"has no context {number}")
            row = self._rows[number]
            path, device, forward = _field(row, "scope", str), row.get("device"), row.get("forward")
            if path and not all(path.split("/")):
                raise Damage(f"has a scope with an empty name: {path!r:.80}")
            if device is not None and not isinstance(device, str):
                raise Damage(f"has a device that is no text: {device!r:.80}")
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
        raise Damage(f"has a location that is none: {entry!r:.80}")

    def _checked(self, location: Location) -> Location:
        # Messages show the line: a pipe or a device in the place of a source file would be read, too, without an end.
        file = location.file
        if "\0" in file or (os.path.exists(file) and not os.path.isfile(file)):
            raise Damage(f"names a source file that is no file: {location.file!r:.80}")
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
        raise Damage(f"is damaged: {key!r} is missing, or not what it should be")
    return row[key]


def _output(entry: Any) -> Spec:
    try:
        name, shape = entry
        if isinstance(shape, list):
            return Spec(as_shape(shape), as_dtype_named(name))
    except (ValueError, TypeError, FlowgraphError) as error:
        raise Damage(f"has an output that is none: {entry!r:.80}") from error
    raise Damage(f"has an output that is none: {entry!r:.80}")


def _check_variable(attrs: dict[str, Any]) -> None:
    initial, shape, dtype = attrs.get("initial"), attrs.get("shape"), attrs.get("dtype")
    if not isinstance(attrs.get("trainable"), bool):
        raise Damage("has a variable of which it does not say whether it is trainable")
    if not isinstance(shape, tuple) or not is_known(shape):
        raise Damage("has a variable of unknown shape")
    if initial is not None and (getattr(initial, "shape", None), getattr(initial, "dtype", None)) != (shape, dtype):
        raise Damage("has a variable whose first value is not of its shape and dtype")
