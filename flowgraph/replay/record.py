"""Records in files: a zip with ``record.json`` and ``values.safetensors`` beside the two files of a graph (see `flowgraph.io.graphs`).

So a record is a graph file, too: ``fg.io.load_graph`` and ``flowgraph draw`` read it, unless it names Python functions.

    {"format": "flowgraph record", "version": 1,
     "made": {"flowgraph": "0.1.0", "numpy": "2.3.5", ...}, "functions": ["cube"],
     "session": {"threads": 8, "jit": true, "passes": ["algebra", ...], "devices": ["cpu:0"]},
     "plans": [{"fetches": [[7, 0], ...], "feeds": [[0, 0], ...], "shapes": [[64, 784], ...], "memory_limit": null, "tasks": "5f0c..."}],
     "runs": [{"plan": 0, "number": 3, "seed": 0, "feeds": [{"array": ...}, ...], "variables": {"2": {"array": ...}, "5": {"run": 0}},
               "order": [0, 2, 1], "tasks": {"0": "9a41...", ...}, "fetched": ["b77e..."], "updated": {"w": "01d2..."}, "error": ""}]}

A fetch is a node and the index of its output, or -1 for the node itself. What a variable held is an array, or what an earlier run of the
record wrote. ``tasks`` of a plan is a hash of how its kernels are put together: with another, the tasks of two runs cannot be compared.

What is loaded is data. No code is in the file, and none is run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..devices.speed import GIVEN, Calibration
from ..errors import ArgumentError, GraphError
from ..graph import Graph, Node, Tensor
from ..graph.op import public
from ..io.attributes import Arrays, BadAttribute, read_attribute, write_attribute
from ..io.files import as_path
from ..io.graph_reader import Damage, Reader, check_format
from ..io.graphs import ARRAYS, GRAPH, graph_entries, told, unpacked, write_archive
from ..session import Session
from ..session.recorder import RecordedRun

RECORD, VALUES = "record.json", "values.safetensors"
FORMAT, VERSION = "flowgraph record", 1
_HELP = "copy the file again, or record the runs anew: with session.record(path): ..."


class Record:
    """Runs as a file has kept them.

    graph      theirs
    runs       in the order in which they began
    session    what the session was: ``threads``, ``jit``, ``passes``, ``devices``, ``calibration``
    made       the versions that made it, by name
    functions  names of the Python functions that were part of the graph

    >>> x = fg.placeholder("x", (2,), "float64")
    >>> with session.record("run.fgr"):
    ...     value = session.run(x * 2, {x: [1.0, 2.0]})
    >>> record = fg.replay.load_record("run.fgr")
    >>> record
    <Record of 1 run of a graph of 3 nodes>
    >>> record.runs[0].feeds[record.graph["x"]]
    array([1., 2.])
    """

    def __init__(
        self, graph: Graph, runs: Sequence[RecordedRun], session: Mapping[str, Any], made: Mapping[str, str], functions: Sequence[str]
    ) -> None:
        self.graph, self.runs, self.session, self.made, self.functions = graph, tuple(runs), dict(session), dict(made), tuple(functions)

    def __repr__(self) -> str:
        return f"<Record of {len(self.runs)} run{'s' * (len(self.runs) != 1)} of a graph of {len(self.graph)} nodes>"

    def differences(self) -> list[str]:
        """The versions that are others here than where it was made, a line each: results may then differ in their last digits."""
        here = versions()
        return [f"{name} {was} made it, {here.get(name, 'none')} is here" for name, was in self.made.items() if here.get(name) != was]


def versions() -> dict[str, str]:
    """What decides the bits of a result besides flowgraph itself."""
    import platform

    found = {"flowgraph": _version("flowgraph"), "numpy": np.__version__, "llvmlite": _version("llvmlite")}
    return {**found, "python": platform.python_version(), "machine": platform.machine()}


def _version(name: str) -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def task_hash(plan: Any) -> str:
    """A hash of how the kernels of a plan are put together in tasks: equal ones can be compared task by task."""
    import hashlib

    lines = [
        f"{task.index} {task.after} " + " ".join(f"{unit.node.op.name} {unit} {unit.mode}" for unit in task.units) for task in plan.tasks
    ]
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()


# --- writing


@public
def save_record(session: Session, runs: Sequence[RecordedRun], path: str | os.PathLike[str]) -> None:
    """Writes what a session has recorded; called by ``session.record`` when its block ends."""
    import json

    from safetensors.numpy import save

    functions: list[str] = []
    try:
        entries = graph_entries(session.graph, functions)
    except GraphError as error:
        error.message = error.message.replace("save_graph", "record")
        raise
    arrays: Arrays = {}
    names: dict[int, Any] = {}  # id of an array -> how it was written: feeds and variables are shared by many runs

    def value(array: Any, name: str) -> Any:
        if id(array) not in names:
            names[id(array)] = write_attribute(np.asarray(array), name, arrays)
        return names[id(array)]

    plans: dict[int, int] = {}
    planned: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    kept = {run: number for number, run in enumerate(runs)}
    for number, run in enumerate(runs):
        plan = run.plan
        if id(plan) not in plans:
            plans[id(plan)] = len(planned)
            planned.append(
                {
                    "fetches": [_fetch(fetch) for fetch in run.fetches],
                    "feeds": [[tensor.node.id, tensor.index] for tensor, _ in plan.feeds],
                    "shapes": [list(shape) for shape in plan.shapes],
                    "memory_limit": plan.request.memory_limit,
                    "tasks": task_hash(plan),
                }
            )
        variables = {
            str(node.id): {"run": kept[was]} if isinstance(was, RecordedRun) else value(was, f"{number}/{node.id}")
            for node, was in run.variables.items()
        }
        rows.append(
            {
                "plan": plans[id(plan)],
                "number": run.number,
                "seed": run.seed,
                "feeds": [value(array, f"{number}/feed/{place}") for place, array in enumerate(run.feeds.values())],
                "variables": variables,
                "order": run.order,
                "tasks": {str(task): made.hex() for task, made in sorted(run.tasks.items())},
                "fetched": [None if made is None else made.hex() for made in run.fetched],
                "updated": {name: made.hex() for name, made in run.updated.items()},
                "error": run.error,
            }
        )
    document = {
        "format": FORMAT,
        "version": VERSION,
        "made": versions(),
        "functions": sorted(set(functions)),
        "session": {
            "threads": session.threads,
            "jit": session.jit,
            "passes": list(session.passes),
            "devices": [device.name for device in session.devices if not device.last_resort],
            "calibration": session.calibration.document if len(session.devices) > 1 else None,
        },
        "plans": planned,
        "runs": rows,
    }
    entries |= {RECORD: json.dumps(document, indent=1).encode(), VALUES: save(arrays)}
    write_archive(as_path(path, "record"), entries)


def _fetch(fetch: Tensor | Node) -> list[int]:
    return [fetch.node.id, fetch.index] if isinstance(fetch, Tensor) else [fetch.id, -1]


# --- reading


def load_record(path: str | os.PathLike[str], functions: Mapping[str, Any] | None = None) -> Record:
    """The record in the file at ``path``, as ``session.record`` wrote it.

    functions  the Python functions of its graph (of `flowgraph.custom_op` and `flowgraph.py_call`) by name: ``{"cube": cube}``. Without
               one, the runs that need it cannot be replayed; everything else can be looked at
    raises     FileFormatError for a file that is damaged, truncated, of another format, of a newer version, or with an operation that is
               not known here; FileNotFoundError and other OSErrors as ``open`` does

    Loading runs no code from the file, whoever wrote it.
    """
    path = as_path(path, "load_record")
    if functions is not None and not (isinstance(functions, Mapping) and all(map(callable, functions.values()))):
        raise ArgumentError(
            f"load_record: functions are a dict from names to functions, got {functions!r:.80}", help='functions={"cube": cube}'
        )
    with open(path, "rb") as raw, told("load_record", path, _HELP):
        document, values = unpacked(raw, RECORD, VALUES, "record")
        check_format(document, FORMAT, VERSION, "record of a run")
        graph = Reader(*unpacked(raw, GRAPH, ARRAYS, "record"), functions or {}).graph
        return _Reader(graph, values).record(document)


class _Reader:
    """Checks each claim of ``record.json`` on its way to a `Record`."""

    def __init__(self, graph: Graph, arrays: Arrays) -> None:
        self.graph, self.arrays = graph, arrays
        self.runs: list[RecordedRun] = []

    def record(self, document: Any) -> Record:
        plans = [self._plan(row) for row in _field(document, "plans", list)]
        for row in _field(document, "runs", list):
            self.runs.append(self._run(row, plans))
        functions = _field(document, "functions", list)
        session, made = _field(document, "session", dict), _field(document, "made", dict)
        kinds = {"threads": int, "jit": bool, "passes": list, "devices": list}
        if not all(type(session.get(name)) is kind for name, kind in kinds.items()) or session["threads"] < 1:
            raise Damage("is damaged: it does not say what the session was")
        try:
            session["calibration"] = GIVEN if session.get("calibration") is None else Calibration.of(session["calibration"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damage(f"has a calibration that is none: {error}") from error
        texts = [*functions, *session["passes"], *session["devices"], *made, *made.values()]
        if not all(isinstance(text, str) for text in texts):
            raise Damage("is damaged: a name in it is no text")
        return Record(self.graph, self.runs, session, made, functions)

    def _plan(self, row: Any) -> Any:
        limit = row.get("memory_limit") if isinstance(row, dict) else None
        if not (limit is None or (type(limit) is int and limit >= 0)):
            raise Damage(f"has a memory limit that is none: {limit!r:.80}")
        fetches = [self._tensor(pair, or_node=True) for pair in _field(row, "fetches", list)]
        feeds = [self._tensor(pair) for pair in _field(row, "feeds", list)]
        return fetches, feeds, limit, _field(row, "tasks", str)

    def _run(self, row: Any, plans: Sequence[Any]) -> RecordedRun:
        place = _field(row, "plan", int)
        if not 0 <= place < len(plans):
            raise Damage(f"has a run of plan {place}, which is not there")
        fetches, feeds, limit, tasks = plans[place]
        arrays = [self._array(value) for value in _field(row, "feeds", list)]
        if len(arrays) != len(feeds) or any(a.dtype != t.dtype or a.ndim != t.ndim for a, t in zip(arrays, feeds, strict=True)):
            raise Damage("has a run whose feeds do not fit what it was fed")
        seed, number = _field(row, "seed", int), _field(row, "number", int)
        if not (0 <= seed < 2**64 and 0 <= number < 2**64):
            raise Damage(f"has a run of number {number} with seed {seed}")
        run = RecordedRun(number, seed, fetches, dict(zip(feeds, arrays, strict=True)), None, limit, tasks)
        for key, value in _field(row, "variables", dict).items():
            node = self._node(int(key) if key.isdecimal() else key)
            if node.op.name != "variable":
                raise Damage(f"has a value of {node.name}, which is no variable")
            run.variables[node] = self._variable(node, value)
        run.order = [_count(task) for task in _field(row, "order", list)]
        run.tasks = {_count(int(task) if task.isdecimal() else task): _bytes(made) for task, made in _field(row, "tasks", dict).items()}
        run.fetched = [None if made is None else _bytes(made) for made in _field(row, "fetched", list)]
        run.updated = {name: _bytes(made) for name, made in _field(row, "updated", dict).items()}
        run.error = _field(row, "error", str)
        return run

    def _variable(self, node: Node, value: Any) -> Any:
        if isinstance(value, dict) and "run" in value:
            earlier = value["run"]
            if type(earlier) is not int or not 0 <= earlier < len(self.runs):
                raise Damage(f"has a variable that a run wrote which does not come before: {earlier!r:.80}")
            return self.runs[earlier]
        array = self._array(value)
        if (array.shape, array.dtype) != (node.outputs[0].shape, node.outputs[0].dtype):
            raise Damage(f"has a value of variable {node.name} that is not of its shape and dtype")
        return array

    def _array(self, value: Any) -> Any:
        try:
            array = read_attribute(value, self.arrays)
        except BadAttribute as error:
            raise Damage(f"has a value that cannot be read: {error}") from error
        if not isinstance(array, np.ndarray):
            raise Damage(f"has a value that is no array: {value!r:.80}")
        return array

    def _node(self, number: Any) -> Node:
        if type(number) is not int or not 0 <= number < len(self.graph):
            raise Damage(f"refers to a node that is not there: {number!r:.80}")
        return self.graph.nodes[number]

    def _tensor(self, pair: Any, or_node: bool = False) -> Any:
        if not isinstance(pair, list) or len(pair) != 2:
            raise Damage(f"has a tensor that is none: {pair!r:.80}")
        node, index = self._node(pair[0]), pair[1]
        if index == -1 and or_node:
            return node
        if type(index) is not int or not 0 <= index < len(node.outputs):
            raise Damage(f"has a tensor that is none: {pair!r:.80}")
        return node.outputs[index]


def _field(row: Any, key: str, kind: type[Any]) -> Any:
    if not isinstance(row, dict) or type(row.get(key)) is not kind:
        raise Damage(f"is damaged: {key!r} is missing, or not what it should be")
    return row[key]


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise Damage(f"has a task that is none: {value!r:.80}")
    return value


def _bytes(value: Any) -> bytes:
    try:
        return bytes.fromhex(value)
    except (TypeError, ValueError) as error:
        raise Damage(f"has a hash that is none: {value!r:.80}") from error
