"""Extract: the Python source of functions, with all that they need and nothing else, so that it can stand in a file of its own.

A function is read as a syntax tree. The names in it that come from flowgraph are followed and written as well; those of NumPy and the
standard library become imports; annotations, and what only GPUs do, are left out.
"""

from __future__ import annotations

import ast
import keyword
import textwrap
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import ArgumentError, FlowgraphError
from ..graph import Node, Op, Spec, Tensor

_PACKAGE = __name__.partition(".")[0]

# What stands for flowgraph's own classes in a file without it.
SPEC = '''
class Spec:
    """A shape and a dtype, for kernels that are told them in place of an array."""

    def __init__(self, shape, dtype):
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.ndim, self.size = len(shape), math.prod(shape)
        self.nbytes = self.size * self.dtype.itemsize
'''


class Extract:
    """Collects definitions, each once, in an order in which they can be read.

    imports      lines
    definitions  name -> its text
    """

    def __init__(self) -> None:
        self.imports: dict[str, None] = {"import math": None, "import numpy as np": None}
        self.definitions: dict[str, str] = {}
        self._names: dict[int, str] = {}  # id of an object -> its name
        self._kept: list[Any] = []  # ids are of these, which must not be freed

    def function(self, function: Any, wanted: str | None = None) -> str:
        """Adds ``function``; returns the name it has here."""
        return self._named(function, wanted or function.__name__, lambda name: self._source(function, name))

    def method(self, op: Op, name: str) -> str:
        """Adds the method ``name`` of ``op``, as a function where it does not use the op, else in a class; returns how to call it."""
        method = getattr(type(op), name)
        if "self" not in _names_in(_tree(method)) or method.__code__.co_varnames[0] != "self":
            return self._named(method, op.name, lambda label: self._source(method, label, drop_self=True))
        return f"{self.instance(op)}.{name}"

    def instance(self, op: Op) -> str:
        """Adds an object with the methods of ``op`` that its kernel needs; returns its name."""
        return self._named(op, op.name.upper(), lambda name: self._class(op, name))

    def _named(self, value: Any, wanted: str, text: Callable[[str], str]) -> str:
        key = id(value)
        if key not in self._names:
            wanted = f"{wanted}_" if keyword.iskeyword(wanted) else wanted
            name, number = wanted, 1
            while name in self.definitions or name in self._names.values():
                number += 1
                name = f"{wanted}_{number}"
            self._names[key] = name
            self._kept.append(value)
            written = text(name)
            self.definitions[name] = written
        return self._names[key]

    def _class(self, op: Op, name: str) -> str:
        kind = type(op)
        wanted, done, attributes = ["kernel"], [], {}
        functions: dict[str, ast.FunctionDef] = {}
        while wanted:
            label = wanted.pop()
            if label in done:
                continue
            done.append(label)
            base, _, method_name = label.rpartition("@")
            owner = next(c for c in kind.__mro__ if c.__name__ == base) if base else kind
            method = getattr(owner, method_name)
            tree = self._resolved(method)
            rewrite = _Super(_after(kind, owner if base else _owner(kind, method_name)))
            tree = rewrite.visit(tree)
            tree.name = label.replace("@", "_")
            wanted += rewrite.found
            for node in ast.walk(tree):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
                    if node.attr in (found.replace("@", "_") for found in rewrite.found):
                        continue
                    value = getattr(op, node.attr)
                    if isinstance(getattr(kind, node.attr, None), types.FunctionType):
                        wanted.append(node.attr)
                    else:
                        attributes[node.attr] = "{}" if isinstance(value, dict) else self.literal(value)
            functions[label] = tree
        body = [f"    {key} = {value}" for key, value in attributes.items()]
        body += [textwrap.indent(ast.unparse(ast.fix_missing_locations(tree)), "    ") for tree in functions.values()]
        return f"class _{kind.__name__}:\n" + "\n\n".join(body) + f"\n\n\n{name} = _{kind.__name__}()"

    def _whole_class(self, kind: Any, name: str) -> str:
        """A class of flowgraph's that a kernel uses. Nodes and tensors are none: only whether something is one can matter."""
        if hasattr(kind, "_fields"):
            self.imports["from collections import namedtuple"] = None
            return f"{name} = namedtuple({name!r}, {list(kind._fields)})"
        methods = {} if kind in (Node, Tensor) else {k: v for k, v in vars(kind).items() if isinstance(v, types.FunctionType)}
        body = [textwrap.indent(self._source(method, label), "    ") for label, method in methods.items()]
        return f"class {name}:\n" + ("\n\n".join(body) or f'    """{(kind.__doc__ or name).splitlines()[0]}"""')

    def _source(self, function: Any, name: str, drop_self: bool = False) -> str:
        tree = self._resolved(function)
        tree.name = name
        if drop_self:
            tree.args.args.pop(0)
        return ast.unparse(ast.fix_missing_locations(tree))

    def _resolved(self, function: Any) -> ast.FunctionDef:
        """The tree of ``function``, its annotations gone and its global names resolved."""
        tree = _tree(function)
        _Plain().visit(tree)
        local = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        local |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node is not tree}
        local |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
        rewritten: ast.FunctionDef = _Resolve(self, function.__globals__, local).visit(tree)
        return rewritten

    def value(self, name: str, value: Any) -> str:
        """What stands here for a global ``name`` that is bound to ``value``."""
        if isinstance(value, types.ModuleType):
            if value.__name__ == "numpy":
                return "np"
            self.imports[f"import {value.__name__}" + (f" as {name}" if name != value.__name__ else "")] = None
            return name
        if isinstance(value, type) and issubclass(value, FlowgraphError):
            text = f"class {name}(ValueError):\n    def __init__(self, message, **more):\n        super().__init__(message)"
            return self._named(value, name, lambda _: text)
        if value is Spec:
            return self.spec()
        if isinstance(value, type) and value.__module__.partition(".")[0] == _PACKAGE:
            return self._named(value, name, lambda label: self._whole_class(value, label))
        module = getattr(value, "__module__", None) or ""
        if isinstance(value, Op):
            return self.instance(value)
        if isinstance(value, types.FunctionType) and module.partition(".")[0] == _PACKAGE:
            return self.function(value)
        if callable(value) and module.partition(".")[0] not in (_PACKAGE, ""):
            self.imports[f"from {module} import {value.__name__}" + (f" as {name}" if name != value.__name__ else "")] = None
            return name
        literal = self.literal(value)
        return self._named(_Constant(name, literal), name, lambda label: f"{label} = {literal}") if name not in self.definitions else name

    def spec(self) -> str:
        """Adds the class that stands for a shape and a dtype."""
        return self._named(Spec, "Spec", lambda _: SPEC.strip())

    def literal(self, value: Any) -> str:
        """``value`` as Python source. raises ArgumentError where it has none."""
        if isinstance(value, np.dtype):
            return f"np.dtype({value.name!r})"
        if isinstance(value, np.generic):
            number = repr(value.item()) if np.isfinite(value) else f'float("{value.item()}")'
            return f"np.{value.dtype.name}({number})" if value.dtype != bool else str(bool(value))
        if isinstance(value, Spec):
            return f"{self.spec()}({self.literal(value.shape)}, {value.dtype.name!r})"
        if isinstance(value, type) and issubclass(value, np.generic):
            return f"np.{value.__name__}"
        if isinstance(value, tuple):
            inner = ", ".join(self.literal(part) for part in value)
            if hasattr(value, "_fields"):
                return f"{self.value(type(value).__name__, type(value))}({inner})"
            return f"({inner},)" if len(value) == 1 else f"({inner})"
        if isinstance(value, list):
            return "[" + ", ".join(self.literal(part) for part in value) + "]"
        if isinstance(value, slice):
            return f"slice({self.literal(value.start)}, {self.literal(value.stop)}, {self.literal(value.step)})"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{self.literal(k)}: {self.literal(v)}" for k, v in value.items()) + "}"
        if isinstance(value, frozenset | set):
            return "{" + ", ".join(sorted(self.literal(part) for part in value)) + "}" if value else "set()"
        if isinstance(value, float) and not np.isfinite(value):
            return f'float("{value}")'
        if value is None or value is Ellipsis or isinstance(value, bool | int | float | complex | str):
            return repr(value)
        if isinstance(value, np.ufunc):
            return f"np.{value.__name__}"
        if isinstance(value, types.FunctionType) and value.__module__.partition(".")[0] == _PACKAGE:
            return self.function(value)
        raise ArgumentError(f"{value!r:.60} cannot be written into a stand-alone program")


class _Constant:
    """A global constant, told apart from others by its name and text."""

    _all: dict[tuple[str, str], _Constant] = {}

    def __new__(cls, name: str, literal: str) -> _Constant:
        return cls._all.setdefault((name, literal), super().__new__(cls))


def _tree(function: Any) -> ast.FunctionDef:
    import inspect

    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    tree.decorator_list = []
    return tree


def _names_in(tree: ast.AST) -> set[str]:
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return used | ({"self"} if "super" in used else set())


def _owner(kind: type, name: str) -> type:
    return next(c for c in kind.__mro__ if name in vars(c))


def _after(kind: type, owner: type) -> list[type]:
    """The classes that ``super()`` in a method of ``owner`` looks through."""
    order = kind.__mro__
    return list(order[order.index(owner) + 1 :])


class _Plain(ast.NodeTransformer):
    """Leaves out annotations, and what only GPUs do."""

    def visit_If(self, node: ast.If) -> Any:
        self.generic_visit(node)
        is_host = _on_host(node.test)
        return node if is_host is None else node.body if is_host else node.orelse

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        is_host = _on_host(node.test)
        return node if is_host is None else node.body if is_host else node.orelse

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        self.generic_visit(node)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        self.generic_visit(node)
        if node.value is None:
            return None
        return ast.copy_location(ast.Assign(targets=[node.target], value=node.value), node)


def _on_host(test: ast.AST) -> bool | None:
    """What a condition is where kernels compute with NumPy; None where that does not decide it."""
    first = test.values[0] if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else test
    if ast.unparse(first) == "xp is not np":
        return False
    return True if ast.unparse(test) == "xp is np" else None


class _Resolve(ast.NodeTransformer):
    """Writes global names as what stands for them in the new file."""

    def __init__(self, extract: Extract, names: dict[str, Any], local: set[str]) -> None:
        self.extract, self.names, self.local = extract, names, local

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        value = node.value
        if isinstance(value, ast.Name) and value.id not in self.local and value.id in self.names:
            module = self.names[value.id]
            if isinstance(module, types.ModuleType) and module.__name__.partition(".")[0] == _PACKAGE:
                found = getattr(module, node.attr)
                return ast.copy_location(ast.Name(self.extract.value(node.attr, found), ast.Load()), node)
        self.generic_visit(node)
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self.local or node.id not in self.names:
            return node
        return ast.copy_location(ast.Name(self.extract.value(node.id, self.names[node.id]), node.ctx), node)


class _Super(ast.NodeTransformer):
    """Writes ``super().f`` as ``self.Base_f``, and says which those are, as ``Base@f``."""

    def __init__(self, bases: list[type]) -> None:
        self.bases, self.found = bases, list[str]()

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "super":
            owner = next(base for base in self.bases if node.attr in vars(base))
            self.found.append(f"{owner.__name__}@{node.attr}")
            name = ast.Name("self", ast.Load())
            return ast.copy_location(ast.Attribute(name, f"{owner.__name__}_{node.attr}", node.ctx), node)
        return node
