"""Every example in README.md and docs/ runs and gives what it says, and the reference lists every public name.

What a page's ```python blocks may rely on: the blocks of a page run one after another in one namespace, in an empty
folder and with a default graph of their own. A block of ``>>>`` lines is a doctest. Behind an expression, a comment
that is a Python literal is its value, and behind a print it is what is printed::

    session.run(y, {x: 3})     # 9.0

``<!-- not run: reason -->`` on the line above a block leaves it out.
"""

import ast
import contextlib
import doctest
import importlib
import inspect
import io
import re
import textwrap
import tokenize
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from docs.reference import expand_public, public_names, to_rst

ROOT = Path(__file__).resolve().parent.parent


def pages(folder: Path = ROOT) -> list[Path]:
    written = [p for p in sorted((folder / "docs").rglob("*.md")) if "_build" not in p.relative_to(folder).parts]
    return [folder / "README.md", *written]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_example_of_a_page_runs_and_gives_what_it_says(page, tmp_path, monkeypatch):
    blocks = [block for block in python_blocks(page.read_text("utf-8")) if block.left_out is None]
    if not blocks:
        return
    import flowgraph as fg

    monkeypatch.chdir(tmp_path)
    with fg.Graph():
        run_blocks(blocks, str(page))


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_an_example_that_does_not_run_says_why(page):
    silent = [block.line for block in python_blocks(page.read_text("utf-8")) if block.left_out == ""]
    assert silent == [], "lines of examples left out without a reason: <!-- not run: reason -->"


@pytest.mark.parametrize("page", [*pages(), ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_a_page_names_only_make_targets_and_files_that_exist(page):
    text = page.read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:`|^ *\$? *)make ([a-z-]+)", text, re.MULTILINE))
    assert named - targets == set()

    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", text)
    made_by_the_build = page.parent / "pictures"
    lost = [link for link in links if not (target := page.parent / link).exists() and made_by_the_build not in target.parents]
    assert lost == []


def test_the_reference_lists_each_public_name_once_and_nothing_else():
    """Each name in ``flowgraph.__all__``, and in the ``__all__`` of those of them that are modules."""
    listed: list[str] = []
    for page in sorted((ROOT / "docs" / "reference").rglob("*.md")):
        for module, names in public_names(page.read_text("utf-8")):
            listed += [f"{module}.{name}" for name in names]

    twice = sorted({name for name in listed if listed.count(name) > 1})
    assert twice == [], "listed twice in docs/reference"

    promised = set(public_surface())
    assert sorted(promised - set(listed)) == [], "in __all__ but in no page of docs/reference"
    assert sorted(set(listed) - promised) == [], "in docs/reference but in no __all__"


def test_every_public_name_exists_and_has_a_docstring():
    bare = []
    for path in public_surface():
        module, _, name = path.rpartition(".")
        value = getattr(importlib.import_module(module), name)
        if callable(value) and not (inspect.getdoc(value) or "").strip():
            bare.append(path)
    assert bare == []


def test_the_version_is_the_same_everywhere():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == version
    package = importlib.import_module("flowgraph")
    assert getattr(package, "__version__", version) == version


def public_surface() -> list[str]:
    """``flowgraph.x`` for each promise of the package; a public module stands for the names in it."""
    package = importlib.import_module("flowgraph")
    paths: list[str] = []
    for name in package.__all__:
        value = getattr(package, name)
        if inspect.ismodule(value):
            paths += [f"flowgraph.{name}.{inner}" for inner in value.__all__]
        elif not name.startswith("__"):
            paths.append(f"flowgraph.{name}")
    return paths


# How the blocks of a page are found and run.


@dataclass(frozen=True)
class Block:
    code: str
    line: int  # of its first line of code, counted from 1
    left_out: str | None  # the reason why it does not run; None if it runs


_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<language>.*)$")
_LEFT_OUT = re.compile(r"^ *<!-- *not run:?(?P<reason>.*?)-->$")


def python_blocks(text: str) -> list[Block]:
    """The ```python and ```pycon blocks of a Markdown page, in order."""
    lines = text.splitlines()
    blocks: list[Block] = []
    at = 0
    while at < len(lines):
        opening = _FENCE.match(lines[at])
        at += 1
        if opening is None:
            continue
        first = at
        while at < len(lines) and lines[at].strip() != opening["fence"]:
            at += 1
        if at == len(lines):
            raise ValueError(f"the block that begins in line {first} has no end")
        if opening["language"].strip() in ("python", "pycon"):
            left_out = _LEFT_OUT.match(lines[first - 2]) if first >= 2 else None
            code = textwrap.dedent("\n".join(lines[first:at])) + "\n"
            blocks.append(Block(code, first + 1, left_out["reason"].strip() if left_out else None))
        at += 1
    return blocks


def run_blocks(blocks: list[Block], file: str) -> None:
    """Run the blocks of one page in one namespace; an AssertionError tells the line whose comment does not hold."""
    names: dict[str, Any] = {"__name__": "__main__", "__file__": file}
    for block in blocks:
        if block.code.lstrip().startswith(">>>"):
            _run_doctest(block, file, names)
        else:
            _run_script(block, file, names)


def _run_doctest(block: Block, file: str, names: dict[str, Any]) -> None:
    example = doctest.DocTestParser().get_doctest(block.code, names, file, file, block.line - 1)
    example.globs = names  # get_doctest copies, and the next block wants what this one defines
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(example, out=report.append, clear_globs=False)
    if report:
        raise AssertionError("".join(report))


def _run_script(block: Block, file: str, names: dict[str, Any]) -> None:
    expected = _promises(block.code)
    tree = ast.parse(block.code, file)
    ast.increment_lineno(tree, block.line - 1)  # so that a traceback names the page's own line
    for statement in tree.body:
        assert statement.end_lineno is not None
        promise = expected.get(statement.end_lineno - block.line + 1)
        if not isinstance(statement, ast.Expr) or promise is None:
            exec(compile(ast.Module([statement], []), file, "exec"), names)
            continue
        where = f"{file}:{statement.end_lineno}"
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            value = eval(compile(ast.Expression(statement.value), file, "eval"), names)
        if value is None and printed.getvalue():
            assert printed.getvalue().strip() == promise, where
        else:
            assert agrees(value, ast.literal_eval(promise)), f"{where}: gives {value!r}, and says {promise}"


def _promises(code: str) -> dict[int, str]:
    """By line: the comments that are Python literals."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type == tokenize.COMMENT:
            comment = token.string.lstrip("#").strip()
            with contextlib.suppress(ValueError, SyntaxError):
                ast.literal_eval(comment)
                found[token.start[0]] = comment
    return found


def agrees(value: Any, written: Any) -> bool:
    """Whether a value is what a page says, where arrays are written as lists and numbers to the digits that matter."""
    if isinstance(written, dict):
        return isinstance(value, dict) and value.keys() == written.keys() and all(agrees(value[key], written[key]) for key in written)
    if isinstance(written, list | tuple):
        return hasattr(value, "__len__") and len(value) == len(written) and all(map(agrees, value, written))
    if isinstance(written, int | float) and not isinstance(written, bool):
        return np.ndim(value) == 0 and bool(np.isclose(value, written, rtol=1e-5, atol=1e-8, equal_nan=True))
    return bool(value == written)


# The checker, handed pages that are right and pages that are wrong.


def run_page(text: str) -> None:
    run_blocks([block for block in python_blocks(textwrap.dedent(text)) if block.left_out is None], "page.md")


def test_blocks_of_a_page_share_their_names_and_doctests_see_them():
    run_page(
        """
        ```python
        x = 3
        ```
        - and
          ```python
          x += 1   # 7
          x        # 4
          print(x)   # 4
          [x, {"a": (x, 0.5)}]   # [4, {"a": (4, 0.5)}]
          ```
        ```pycon
        >>> x + 1
        5
        >>> y = x
        ```
        ```python
        assert y == 4
        ```
        """
    )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("1 + 1   # 3", r"page\.md:3: gives 2, and says 3"),
        ("print('a')   # 'b'", r"page\.md:3"),
        (">>> 1 + 1\n3", "line 3, in page.md\nFailed example:\n    1 \\+ 1\nExpected:\n    3\nGot:\n    2"),
        ("[1, 2]   # [1]", r"gives \[1, 2\]"),
    ],
)
def test_a_page_that_says_something_wrong_fails_with_its_line(code, said):
    with pytest.raises(AssertionError, match=said):
        run_page(f"\n```python\n{code}\n```")


def test_an_error_in_a_block_names_the_line_of_the_page():
    with pytest.raises(ZeroDivisionError) as caught:
        run_page("a\n\n```python\nx = 1\n\nx / 0\n```")
    assert caught.traceback[-1].lineno == 6 - 1  # pytest counts from 0


def test_a_block_is_left_out_only_with_a_reason():
    blocks = python_blocks("<!-- not run: needs a GPU -->\n```python\n1/0\n```\n<!-- not run -->\n```python\n1/0\n```\n")
    assert [block.left_out for block in blocks] == ["needs a GPU", ""]


def test_a_docstring_s_rows_become_arguments_and_its_formulas_stay_as_they_are():
    written = """Running sum of `x`, with *args and a_ |b|.

x, y     number tensors,
         any shape
returns  same shape
raises   ShapeError if 2 * x_ fails

    y = x_ * 2

>>> cumsum(x_)
3
"""
    assert [line for line in to_rst(written.splitlines()) if line] == [
        r"Running sum of ``x``, with \*args and a\_ \|b\|.",
        ":param x: number tensors, any shape",
        ":param y: number tensors, any shape",
        ":returns: same shape",
        r":raises ShapeError: if 2 \* x\_ fails",
        "..  code-block:: text",
        "       y = x_ * 2",
        ">>> cumsum(x_)",
        "3",
    ]


def test_a_reference_page_that_lists_a_name_which_does_not_exist_stops_the_build():
    with pytest.raises(Exception, match=r"docs/reference/x\.md lists json\.nonsense, which does not exist"):
        expand_public(None, "reference/x", ["```{public} json\nloads\nnonsense\n```"])
