"""The import graph of flowgraph/, read from its source: downwards through the layers, no cycles, nothing heavy."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "flowgraph"

# From the bottom to the top; a module may import what is in its own part or further down. Parts that stand side by side
# do not import each other, except that all may use those in SHARED.
LAYERS: list[set[str]] = [
    {"errors", "lazily", "records", "shell"},
    {"graph"},
    {"devices", "jit"},
    {"ops"},
    {"autodiff"},
    {"control"},
    {"compile"},
    {"runtime"},
    {"traces"},
    {"session"},
    {"check", "fft", "init", "linalg", "random", "special", "traced"},
    {"nn", "optim", "metrics", "data", "io", "viz"},
    {"diagnosis", "replay"},
    {"cli"},
    {"__main__"},
    {""},  # flowgraph/__init__.py: may import all, and is imported by none
]
SHARED = {"viz", "io"}

# Imported while the program starts. Whatever else is not in the standard library is loaded when it is used.
LOADED_AT_START = {"numpy"}

# Optional, or slow to load: these may be imported within a function.
OPTIONAL_OR_SLOW = set(
    """
    cudnn cupy cupyx numba llvmlite graphviz_pure networkx matplotlib PIL rich safetensors sklearn threadpoolctl IPython
    ml_dtypes opt_einsum scipy
    asyncio concurrent ctypes difflib hashlib html importlib inspect json linecache lzma pathlib platform readline runpy shutil
    statistics subprocess tempfile traceback unicodedata urllib warnings zipfile
    """.split()
)

NEVER_LOADED_AT_START = set(
    "scipy ml_dtypes opt_einsum networkx graphviz_pure matplotlib cudnn cupy numba llvmlite rich safetensors PIL sklearn".split()
)


@pytest.fixture(scope="module")
def flowgraph() -> "Sources":
    return Sources(PACKAGE)


def test_imports_go_down_the_layers(flowgraph):
    assert list(upward_imports(flowgraph)) == []


def test_no_module_imports_itself_through_others(flowgraph):
    cycle = find_cycle(flowgraph)
    assert cycle is None, f"modules that import each other:\n{cycle}"


def test_no_module_imports_the_whole_package(flowgraph):
    whole = [str(i) for i in flowgraph.imports if i.target == "flowgraph" or (i.binds_package and i.is_internal)]
    assert whole == []


def test_a_function_imports_only_what_is_optional_or_slow(flowgraph):
    hidden = [str(i) for i in flowgraph.imports if i.in_function and i.top not in OPTIONAL_OR_SLOW]
    assert hidden == []


def test_modules_import_nothing_but_numpy_and_the_standard_library_at_the_start(flowgraph):
    allowed = LOADED_AT_START | set(sys.stdlib_module_names) | {"flowgraph"}
    early = [str(i) for i in flowgraph.imports if not i.in_function and not i.typing_only and i.top not in allowed]
    assert early == []


def test_importing_flowgraph_loads_nothing_heavy():
    program = "import sys, flowgraph; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert NEVER_LOADED_AT_START & set(done.stdout.split()) == set()


# How the import graph is read.


@dataclass(frozen=True)
class Import:
    """One imported module: who imports it, and how."""

    module: str
    target: str
    where: str
    in_function: bool
    typing_only: bool
    binds_package: bool  # "import flowgraph.graph" binds the name flowgraph; "from .graph import x" does not

    @property
    def top(self) -> str:
        return self.target.partition(".")[0]

    @property
    def is_internal(self) -> bool:
        return self.top == "flowgraph"

    def __str__(self) -> str:
        return f"{self.where}: {self.module} imports {self.target}"


class Sources:
    """The modules of a package and their imports, in the order of their names."""

    def __init__(self, package: Path) -> None:
        self.package = package
        self.files: dict[str, Path] = {}
        for path in sorted(package.rglob("*.py")):
            parts = ("flowgraph", *path.relative_to(package).with_suffix("").parts)
            self.files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        self.imports = [found for name in self.files for found in self._imports(name)]

    def _imports(self, name: str) -> Iterator[Import]:
        path = self.files[name]
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node, in_function, typing_only in _walk(ast.parse(path.read_text("utf-8"), str(path))):
            where = f"flowgraph/{path.relative_to(self.package)}:{node.lineno}"
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(name, alias.name, where, in_function, typing_only, alias.asname is None)
                continue
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - (node.level - 1)]
                base = ".".join([*above, base] if base else above)
            # "from .graph import node" may name a module or something in one.
            for target in sorted({t if (t := f"{base}.{alias.name}") in self.files else base for alias in node.names}):
                yield Import(name, target, where, in_function, typing_only, False)


def _walk(tree: ast.AST, in_function: bool = False, typing_only: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, in_function, typing_only
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _walk(node, True, typing_only)
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.body:
                yield from _walk(ast.Module([child], []), in_function, True)
            for child in node.orelse:
                yield from _walk(ast.Module([child], []), in_function, typing_only)
        else:
            yield from _walk(node, in_function, typing_only)


def upward_imports(sources: Sources) -> Iterator[str]:
    """Each import that goes up or sideways; those for annotations only count too, as they tell of the same wish."""
    height = {part: number for number, layer in enumerate(LAYERS) for part in layer}
    for name in sources.files:
        if _part(name) not in height:
            yield f"{name} is in no layer: name its place in LAYERS, tests/test_layers.py"
    for found in sources.imports:
        own, other = _part(found.module), _part(found.target)
        if not found.is_internal or own == other or own not in height or other not in height:
            continue
        if height[other] > height[own]:
            yield f"{found}, which is in a layer above"
        elif height[other] == height[own] and other not in SHARED:
            yield f"{found}, which stands beside it"


def _part(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def find_cycle(sources: Sources) -> str | None:
    """The first chain of imports that ends where it began, one import a line; annotations only do not count."""
    edges: dict[str, list[Import]] = {name: [] for name in sources.files}
    for found in sources.imports:
        if found.target in edges and not found.typing_only:
            edges[found.module].append(found)

    finished: set[str] = set()

    def visit(name: str, chain: list[Import]) -> list[Import] | None:
        for found in edges[name]:
            began = [number for number, link in enumerate(chain) if link.module == found.target]
            if found.target == name:
                return [found]
            if began:
                return [*chain[began[0] :], found]
            if found.target not in finished and (cycle := visit(found.target, [*chain, found])):
                return cycle
        finished.add(name)
        return None

    for name in edges:
        if name not in finished and (cycle := visit(name, [])):
            return "\n".join(map(str, cycle))
    return None


# The reader of imports, handed something wrong.


@pytest.fixture
def package(tmp_path):
    def write(**modules: str) -> Sources:
        for name, text in {"__init__": "", **modules}.items():
            path = tmp_path / "flowgraph" / (name.replace("__in__", "/") + ".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return Sources(tmp_path / "flowgraph")

    return write


def test_a_cycle_is_shown_import_by_import(package):
    sources = package(
        graph__in____init__="from .node import Node",
        graph__in__node="from .op import Op\nNode = 1",
        graph__in__op="import ast\nfrom . import node",
    )
    assert find_cycle(sources) == (
        "flowgraph/graph/node.py:1: flowgraph.graph.node imports flowgraph.graph.op\n"
        "flowgraph/graph/op.py:2: flowgraph.graph.op imports flowgraph.graph.node"
    )


def test_an_import_for_annotations_makes_no_cycle_but_still_goes_downwards(package):
    guarded = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .session import Session"
    sources = package(errors=guarded, session="from .errors import E")
    assert find_cycle(sources) is None
    assert list(upward_imports(sources)) == ["flowgraph/errors.py:3: flowgraph.errors imports flowgraph.session, which is in a layer above"]


def test_upward_and_sideways_imports_and_modules_without_a_layer_are_told(package):
    sources = package(
        nn="from flowgraph.optim import SGD\nfrom .viz import draw",
        optim="",
        viz="from . import cli",
        cli="",
        misc="",
    )
    assert list(upward_imports(sources)) == [
        "flowgraph.misc is in no layer: name its place in LAYERS, tests/test_layers.py",
        "flowgraph/nn.py:1: flowgraph.nn imports flowgraph.optim, which stands beside it",
        "flowgraph/viz.py:1: flowgraph.viz imports flowgraph.cli, which is in a layer above",
    ]


def test_imports_within_functions_and_of_the_whole_package_are_seen(package):
    sources = package(
        graph="class A:\n    def f(self):\n        import cupy.cuda",
        ops="import flowgraph as fg",
        nn="from .. import flowgraph",
    )
    seen = {(i.module, i.target, i.in_function) for i in sources.imports}
    assert ("flowgraph.graph", "cupy.cuda", True) in seen
    assert ("flowgraph.ops", "flowgraph", False) in seen
