"""Stand-alone programs: a plan written as a Python module and a file of weights that need NumPy and nothing else."""

from __future__ import annotations

import inspect
import keyword
import re
from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

import numpy as np

from ..errors import ArgumentError
from ..graph import Node, Spec
from ..graph.report import blamed_line, where
from ..graph.spec import format_spec
from .extract import Extract
from .plan import Plan, Unit

HEAD = '''"""{title}

A stand-alone program: it needs NumPy, and its weights in the file {weights} beside it. Written by flowgraph.
"""

{imports}

WEIGHTS = dict(np.load(Path(__file__).with_name({weights!r}), allow_pickle=False))

'''
TAIL = """

if __name__ == "__main__":
    import sys

    if len(sys.argv) != {count} + 1:
        sys.exit("usage: python " + sys.argv[0] + "{usage}    (arrays in files of NumPy's .npy format)")
    print({name}(*[np.load(file, allow_pickle=False) for file in sys.argv[1:]]))
"""

# Small constants stand in the text, others in the file of weights.
INLINE_ELEMENTS = 1


def write_module(
    plan: Plan, values: Mapping[int, Any], results: Callable[[list[str]], str], *, name: str, weights: str
) -> tuple[str, dict[str, np.ndarray[Any, Any]]]:
    """The text of a module with the function ``name``, and the arrays that it reads.

    plan     of whole kernels, in one task
    values   of the variables, by their nodes' ids
    results  what the function returns, from the names of the fetches
    raises   ArgumentError for a plan with updates or random draws, or with an attribute that cannot be written down
    """
    if plan.updates:
        raise ArgumentError("export: the function writes variables", help="export what predicts: session.function([images], probabilities)")
    extract = Extract()
    _Module(extract, values).function(plan, name, results)
    # Written once more now that all definitions are known, so that no variable has the name of one.
    writer = _Module(extract, values)
    body = writer.function(plan, name, results)
    extract.imports["from pathlib import Path"] = None
    plain = sorted(line for line in extract.imports if line.startswith("import "))
    imports = "\n".join([*plain, *sorted(line for line in extract.imports if not line.startswith("import "))])
    title = f"{name}({', '.join(writer.arguments)})."
    text = HEAD.format(title=title, weights=weights, imports=imports)
    text += "".join(f"\n{definition}\n\n" for definition in extract.definitions.values())
    usage = "".join(f" {argument}.npy" for argument in writer.arguments)
    return text + "\n" + body + TAIL.format(count=len(plan.feeds), usage=usage, name=name), writer.arrays


class _Module:
    """Writes the function of a plan, and those of the plans in it."""

    def __init__(self, extract: Extract, values: Mapping[int, Any]) -> None:
        self.extract, self.values = extract, values
        self.arrays: dict[str, np.ndarray[Any, Any]] = {}
        self.arguments: list[str] = []
        self._line = ""  # of the user's, shown last

    def function(self, plan: Plan, name: str, results: Callable[[list[str]], str]) -> str:
        names: dict[int, str] = {}
        taken = {"np", "math", "WEIGHTS", "Path", name, *self.extract.definitions}
        self.arguments = [self._fresh(taken, tensor.node) for tensor, _ in plan.feeds]
        names.update({slot: argument for (_, slot), argument in zip(plan.feeds, self.arguments, strict=True)})
        lines = self._kernels(plan, names, taken, "        ")
        if lines:
            lines.insert(0, '    with np.errstate(all="ignore"):')
        fetched = [names[slot] for slot in plan.fetches]
        rows = [f"    {argument:<12} {format_spec(t.shape, t.dtype)}" for argument, (t, _) in zip(self.arguments, plan.feeds, strict=True)]
        casts = [
            f"    {argument} = np.asarray({argument}, {tensor.dtype.name!r})"
            for argument, (tensor, _) in zip(self.arguments, plan.feeds, strict=True)
        ]
        doc = [f'    """{name.replace("_", " ").capitalize()}.', "", *rows, '    """']
        last = f"    return {results(fetched)}"
        return "\n".join([f"def {name}({', '.join(self.arguments)}):", *doc, *casts, *lines, last]) + "\n"

    def _kernels(self, plan: Plan, names: dict[int, str], taken: set[str], pad: str) -> list[str]:
        if plan.run_key >= 0:
            node = next(node for node in plan.nodes if node.op.name == "run_key")
            raise ArgumentError(
                "export: the function draws random numbers",
                rows=[("made at", where(node.location))],
                help="feed them",
                blamed=blamed_line(node),
            )
        for node, slot in plan.variables:
            names[slot] = f"WEIGHTS[{node.name!r}]"
            self.arrays[node.name] = np.asarray(self.values[node.id])
        for slot, array in plan.constants:
            names[slot] = self._constant(array)
        names[plan.run_slot] = ""
        lines: list[str] = []
        for unit in plan.units:
            lines += self._unit(unit, names, taken, pad)
        return lines

    def _constant(self, array: Any) -> str:
        if array.size <= INLINE_ELEMENTS and array.ndim == 0 and array.dtype.kind in "biufc":
            return self.extract.literal(array[()])
        name = f"constant_{len(self.arrays)}"
        self.arrays[name] = np.asarray(array)
        return f"WEIGHTS[{name!r}]"

    def _unit(self, unit: Unit, names: dict[int, str], taken: set[str], pad: str) -> list[str]:
        node = unit.node
        output = names[unit.output] = self._fresh(taken, node)
        line = node.location.text
        lines = [f"{pad}# {line}"] if line and line != self._line else []
        self._line = line
        if isinstance(unit.kernel, itemgetter):
            position = unit.kernel.__reduce__()[1][0]
            return [f"{pad}{output} = {names[unit.inputs[0]]}[{position}]"]
        arguments = [names[slot] for slot in unit.inputs if names.get(slot)]
        symbol = getattr(node.op, "symbol", None)
        if symbol is not None:
            formula = f"{arguments[0]} {symbol} {arguments[1]}" if len(arguments) == 2 else f"{symbol}{arguments[0]}"
            return [*lines, f"{pad}{output} = {formula}"]
        bound = None if unit.bodies else node.op.bind(np, node.attrs)
        if isinstance(bound, np.ufunc):
            return [*lines, f"{pad}{output} = np.{bound.__name__}({', '.join(arguments)})"]
        call = self.extract.method(node.op, "kernel")
        keywords = {key: value for key, value in node.attrs.items() if key not in node.op.bodies}
        accepted = inspect.signature(type(node.op).kernel).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
            keywords = {key: value for key, value in keywords.items() if key in accepted}
        written = {key: self._attribute(node, key, value) for key, value in keywords.items() if key != "extends"}
        if unit.bodies:
            bodies = []
            for label, body in zip(node.op.bodies, unit.bodies, strict=True):
                inner = self._name(taken, f"{output}_{label}")
                bodies.append(inner)
                lines += self._body(body, inner, pad)
                if label not in list(accepted)[2 : 2 + len(unit.bodies)]:  # (there it is the function)
                    written[label] = self._outputs(node.attrs[label])
            if not any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
                written = {key: value for key, value in written.items() if key in accepted}
            shared = [[slot in body.copied for slot in body.fetches] for body in unit.bodies]
            arguments = [*bodies, *arguments]
            written["shared"] = repr(shared)
        else:
            arguments = self._told(node, unit, names)
        listed = ", ".join(["np", *arguments, *(f"{key}={value}" for key, value in written.items())])
        return [*lines, f"{pad}{output} = {call}({listed})"]

    def _told(self, node: Node, unit: Unit, names: Mapping[int, str]) -> list[str]:
        """The arguments, with shapes in the places of the inputs of which only those are used."""
        arrays, result = list(unit.inputs), []
        for position in range(len(node.inputs)):
            if position in unit.told:
                result.append(self.extract.literal(unit.told[position]))
            else:
                result.append(names[arrays.pop(0)])
        return result

    def _body(self, plan: Plan, name: str, pad: str) -> list[str]:
        names: dict[int, str] = {}
        taken = {"np", "math", "WEIGHTS", *self.extract.definitions}
        arguments = [self._fresh(taken, tensor.node) for tensor, _ in plan.feeds]
        names.update({slot: argument for (_, slot), argument in zip(plan.feeds, arguments, strict=True)})
        inner = self._kernels(plan, names, taken, pad + "    ")
        opening = [f"{pad}    {', '.join(arguments)}, = values"] if arguments else []
        fetched = ", ".join(names[slot] for slot in plan.fetches)
        return [f"{pad}def {name}(values):", *opening, *inner, f"{pad}    return [{fetched}]"]

    def _outputs(self, sub: Any) -> str:
        """What stands for a sub-graph among a kernel's arguments: what its outputs are, where no turn runs."""
        specs = [Spec(tuple(d if isinstance(d, int) else 0 for d in out.shape), out.dtype) for out in sub.outputs]
        self.extract.imports["from types import SimpleNamespace"] = None
        return f"SimpleNamespace(outputs={self.extract.literal(specs)})"

    def _attribute(self, node: Node, key: str, value: Any) -> str:
        if isinstance(value, np.ndarray):
            return self._constant(value)
        if isinstance(value, tuple) and any(isinstance(part, np.ndarray) for part in value):
            inner = ", ".join(self._attribute(node, key, part) for part in value)
            return f"({inner},)"
        try:
            return self.extract.literal(value)
        except ArgumentError as error:
            raise ArgumentError(
                f"export: the attribute {key} of {node.name} cannot be written down: {error.message}",
                rows=[("made at", where(node.location))],
                blamed=blamed_line(node),
            ) from None

    def _fresh(self, taken: set[str], node: Node) -> str:
        return self._name(taken, node.name)

    def _name(self, taken: set[str], wanted: str) -> str:
        base = re.sub(r"\W+", "_", wanted).strip("_") or "value"
        base = f"_{base}" if base[0].isdigit() else f"{base}_" if keyword.iskeyword(base) else base
        name, number = base, 1
        while name in taken:
            number += 1
            name = f"{base}_{number}"
        taken.add(name)
        return name
