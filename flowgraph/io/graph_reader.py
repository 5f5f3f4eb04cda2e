"""A graph from JSON, each claim of it checked; `graphs` says what the JSON looks like. Nothing that is read runs as code."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..errors import ArgumentError, FlowgraphError
from ..graph import OPS, Graph, Location, Node, Spec, SubGraph, Tensor
from ..graph.context import Context
from ..graph.spec import as_shape, format_spec, is_known
from .attributes import Arrays, BadAttribute, as_dtype_named, read_attribute
from .graph_writer import FORMAT, VERSION

DEPTH = 50  # graphs within graphs: more of them than anyone writes, and fewer than Python has stack for


class Damage(Exception):
    """What is wrong with a file."""

    def __init__(self, what: str, *, node: str = "", help: str | None = None) -> None:
        super().__init__(what)
        self.what, self.node, self.help = what, node, help


def check_format(document: Any, form: str, version: int, kind: str) -> None:
    """raises Damage for what is no document of that format and version; ``kind``: what it should hold, in words."""
    if not isinstance(document, dict) or document.get("format") != form:
        raise Damage(f"holds no {kind}")
    has = document.get("version")
    if has != version or type(has) is not int:
        raise Damage(
            f"has version {has!r:.80} of the format, and this flowgraph reads version {version}",
            help="a newer flowgraph reads newer files: pip install --upgrade flowgraph",
        )


class Reader:
    """A document made a graph.

    functions  name -> the function that stands for it; None where a document with functions is not read
    graph      what it holds
    """

    def __init__(self, document: Any, arrays: Arrays, functions: Mapping[str, Any] | None = None) -> None:
        check_format(document, FORMAT, VERSION, "flowgraph graph")
        locations = [_location(entry) for entry in _field(document, "locations", list)]
        self.graph = Graph()
        _Nodes(self.graph, document, arrays, locations, functions)
        self._remember()

    def _remember(self) -> None:
        """What later nodes share with those that are there: scalar constants, and the key and the streams of random draws."""
        for node in self.graph.nodes:
            if node.op.name == "run_key":
                self.graph.memo.setdefault("run_key", node.outputs[0])
            elif node.op.name == "constant" and node._label is None and node.outputs[0].shape == ():
                value = node.attrs["value"]
                self.graph._constants.setdefault((value.dtype, value.tobytes()), node.outputs[0])
        inner = [node.attrs["stream"] - 2**32 for node in _inside(self.graph) if type(node.attrs.get("stream")) is int]
        if inner:
            self.graph.memo["inner_draws"] = max(0, *inner)


class Missing:
    """Stands for a Python function that was not given."""

    def __init__(self, name: str) -> None:
        self.name = self.__qualname__ = name

    def __call__(self, *inputs: Any) -> Any:
        raise ArgumentError(
            f"{self.name} is a Python function, which no file holds",
            help=f'give it: fg.replay.load_record(path, functions={{"{self.name}": {self.name.rpartition(".")[2]}}})',
        )


class _Nodes:
    """The nodes of one graph: of the document itself, or of a sub-graph that a node in it holds."""

    def __init__(
        self,
        graph: Graph,
        document: Any,
        arrays: Arrays,
        locations: list[Location],
        functions: Mapping[str, Any] | None,
        depth: int = 0,
    ) -> None:
        if depth > DEPTH:
            raise Damage(f"has graphs within graphs, more than {DEPTH} deep")
        self.graph, self._depth, self._functions = graph, depth, functions
        self._arrays, self._locations = arrays, locations
        self._rows = _field(document, "contexts", list)
        self._contexts: dict[int, Context] = {}
        for row in _field(document, "nodes", list):
            try:
                self._add(row)
            except Damage as damage:
                op = row.get("op", "?") if isinstance(row, dict) else "?"
                damage.node = damage.node or f"number {len(self.graph)}, op {op!s:.80}"
                raise

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
        outputs = [_output(entry) for entry in _field(row, "outputs", list)]
        attrs = {key: self._attribute(key, value, outputs) for key, value in attributes.items()}
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

    def _attribute(self, key: str, value: Any, outputs: Sequence[Spec]) -> Any:
        if isinstance(value, dict) and "sub_graph" in value:
            return self._sub_graph(value["sub_graph"])
        if isinstance(value, dict) and "node" in value:
            return self._node(value["node"])
        if isinstance(value, dict) and "function" in value:
            return self._function(key, value["function"], outputs)
        try:
            return read_attribute(value, self._arrays)
        except BadAttribute as error:
            raise Damage(f"has an attribute, {key!r:.80}, that cannot be read: {error}") from error

    def _function(self, key: str, name: Any, outputs: Sequence[Spec]) -> Any:
        """What stands for a Python function, which no file holds: one that was given, or what says that it is missing."""
        if self._functions is None or not isinstance(name, str):
            raise Damage("names a Python function, as a record does and a graph file does not", help="fg.replay.load_record(path)")
        if key == "infer":
            return lambda *inputs: [(spec.shape, spec.dtype) for spec in outputs]
        given = self._functions.get(name)
        return Missing(name) if given is None and key == "function" else given

    def _sub_graph(self, document: Any) -> SubGraph:
        scope, device = _field(document, "scope", str), document.get("device")
        if device is not None and not isinstance(device, str):
            raise Damage(f"has a device that is no text: {device!r:.80}")
        sub = SubGraph(Context(self.graph), "sub_graph")
        sub.root = Context(sub, scope, device)
        inside = _Nodes(sub, document, self._arrays, self._locations, self._functions, self._depth + 1)
        sub.inputs = [inside._parameter(pair) for pair in _field(document, "inputs", list)]
        for entry in _field(document, "captures", list):
            if not isinstance(entry, list) or len(entry) != 2:
                raise Damage(f"has a capture that is none: {entry!r:.80}")
            inner = inside._parameter(entry[1])
            # One of a graph that is not here stands for itself: nothing will look it up.
            outer = inner if entry[0] is None else self._input(entry[0])
            if outer in sub.captures:
                raise Damage("captures a tensor twice")
            sub.captures[outer] = inner
        sub.outputs = [inside._input(pair) for pair in _field(document, "outputs", list)]
        own = [*sub.inputs, *sub.captures.values()]
        if len(set(own)) < len(own) or {tensor.node for tensor in own} < {n for n in sub.nodes if n.op.name == "placeholder"}:
            raise Damage("has a sub-graph with an input twice, or a placeholder that is none of its inputs")
        return sub

    def _parameter(self, pair: Any) -> Tensor:
        tensor = self._input(pair)
        if tensor.node.op.name != "placeholder":
            raise Damage(f"has a sub-graph with an input that is no placeholder: {pair!r:.80}")
        return tensor

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
            beside = None if row.get("colocated") is None else self._node(row["colocated"])
            made = Context(self.graph, path, device, control, None if forward is None else self._node(forward), None, beside)
            if (path, device, control, forward, beside) == (self.graph.root.scope, self.graph.root.device, (), None, None):
                made = self.graph.root
            self._contexts[number] = made
        return self._contexts[number]


def _location(entry: Any) -> Location:
    if isinstance(entry, list) and len(entry) == 4:
        file, line, function, columns = entry
        if isinstance(file, str) and type(line) is int and isinstance(function, str):
            if columns is None:
                return _checked(Location(file, line, function))
            if isinstance(columns, list) and len(columns) == 2 and type(columns[0]) is int and type(columns[1]) in (int, type(None)):
                return _checked(Location(file, line, function, (columns[0], columns[1])))
    raise Damage(f"has a location that is none: {entry!r:.80}")


def _checked(location: Location) -> Location:
    # Messages show the line: a pipe or a device in the place of a source file would be read, too, without an end.
    file = location.file
    if "\0" in file or (os.path.exists(file) and not os.path.isfile(file)):
        raise Damage(f"names a source file that is no file: {location.file!r:.80}")
    return location


def _inside(graph: Graph) -> Iterator[Node]:
    """The nodes of the sub-graphs in ``graph``, and of those in them."""
    for node in graph.nodes:
        for value in node.attrs.values():
            if isinstance(value, SubGraph):
                yield from value.nodes
                yield from _inside(value)


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
