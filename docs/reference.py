"""How the reference is made from docstrings: lists of public names become entries, and plain docstrings become markup.

A reference page lists names in a fenced block, one a line; each becomes its entry in the page::

    ```{public} flowgraph.nn
    relu
    ```

``tests/test_documents.py`` compares these lists with ``__all__``, through ``public_names``.

Docstrings are plain text with a few habits (see CONTRIBUTING.md), not reStructuredText: ``process_docstring`` reads the
habits, so that a stray ``*`` or ``_`` in a formula is that character and never a broken page.
"""

import importlib
import inspect
import re
from collections.abc import Iterator

from sphinx.errors import ExtensionError

PUBLIC_BLOCK = re.compile(r"^```\{public\} *(?P<module>\S*)[^\S\n]*\n(?P<names>.*?)^```$", re.MULTILINE | re.DOTALL)


def public_names(page: str) -> Iterator[tuple[str, list[str]]]:
    """Each list of a page, given as text: the module and the names in it."""
    for block in PUBLIC_BLOCK.finditer(page):
        yield block["module"] or "flowgraph", block["names"].split()


def expand_public(app: object, page: str, source: list[str]) -> None:
    """Sphinx's ``source-read``: put autodoc's directives in the place of each list of names."""

    def directives(block: re.Match[str]) -> str:
        module = block["module"] or "flowgraph"
        entries = [_directive(page, module, name) for name in block["names"].split()]
        return "\n".join(["```{eval-rst}", *entries, "```"])

    source[0] = PUBLIC_BLOCK.sub(directives, source[0])


def _directive(page: str, module: str, name: str) -> str:
    try:
        value = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise ExtensionError(f"docs/{page}.md lists {module}.{name}, which does not exist") from None
    if inspect.isclass(value):
        kind = "exception" if issubclass(value, BaseException) else "class"
        return f".. auto{kind}:: {module}.{name}\n   :members:\n"
    return f".. auto{'function' if callable(value) else 'data'}:: {module}.{name}\n"


def process_docstring(app: object, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Sphinx's ``autodoc-process-docstring``: turn our plain text into reStructuredText, in place."""
    if lines[:1] and lines[0].startswith("Alias for field number"):  # what Python writes for a NamedTuple's fields
        lines.clear()
    lines[:] = to_rst(lines)


# "axis     int in [-ndim, ndim)": a name or several, two spaces or more, what it is.
_ROW = re.compile(r"(?P<names>\*{0,2}[A-Za-z_]\w*(?:, *\*{0,2}[A-Za-z_]\w*)*|\.\.\.) {2,}(?P<text>\S.*)")
_BULLET = re.compile(r"(?:[-*]|\d+\.) +\S")
_KEPT = re.compile(
    r"``.+?``"  # code
    r"|(?::[\w:+-]+:)?`[^`]+`(?:__?)?"  # code as Markdown writes it, a role, a link
    r"|https?://\S+"
    r"|(?<![\w*\\])\*\*?[^*\s](?:[^*]*[^*\s])?\*\*?(?![\w*])"  # emphasis
)


def to_rst(lines: list[str]) -> list[str]:
    """A docstring's lines as reStructuredText: rows of arguments, bullets, examples, indented blocks, paragraphs."""
    out: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        end = at + 1
        if not line.strip():
            out.append("")
        elif line.startswith(">>>"):
            while end < len(lines) and lines[end].strip():
                end += 1
            out += ["", *lines[at:end], ""]
        elif line.startswith("```"):
            while end < len(lines) and not lines[end].startswith("```"):
                end += 1
            out += ["", f".. code-block:: {line[3:].strip() or 'text'}", "", *_indented(lines[at + 1 : end]), ""]
            end += 1
        elif line.startswith(" "):  # a drawing, a formula, a table: shown as it stands
            while end < len(lines) and (not lines[end].strip() or lines[end].startswith(" ")):
                end += 1
            out += ["", "..  code-block:: text", "", *_indented(lines[at:end]), ""]
        elif (row := _ROW.fullmatch(line)) is not None:
            while end < len(lines) and lines[end].startswith(" "):
                end += 1
            text = " ".join([row["text"], *(more.strip() for more in lines[at + 1 : end])])
            if not (out and out[-1].startswith(":")):
                out.append("")
            out += [_field(name.strip(), text) for name in row["names"].split(",")]
            if end < len(lines) and _ROW.fullmatch(lines[end]) is None:
                out.append("")
        elif _BULLET.match(line):
            while end < len(lines) and lines[end].startswith(" "):
                end += 1
            if out and out[-1] and at and not _BULLET.match(lines[at - 1]) and not lines[at - 1].startswith(" "):
                out.append("")
            indent = len(line) - len(line[line.index(" ") :].lstrip())
            out.append(line[:indent] + _escaped(line[indent:]))
            out += [" " * indent + _escaped(more.strip()) for more in lines[at + 1 : end]]
            if end < len(lines) and lines[end].strip() and not _BULLET.match(lines[end]):
                out.append("")
        else:
            # "follows::" announces an indented block, which is shown as it stands anyway.
            out.append(_escaped(line[:-1] if line.endswith("::") else line))
        at = end
    return out


def _field(name: str, text: str) -> str:
    if name in ("returns", "yields"):
        return f":{name}: {_escaped(text)}"
    if name == "raises":
        error, _, when = text.partition(" ")
        if re.fullmatch(r"[A-Za-z_.]+", error):
            return f":raises {error}: {_escaped(when)}"
        return f":raises: {_escaped(text)}"
    return f":param {_plain(name)}: {_escaped(text)}"


def _escaped(text: str) -> str:
    """``text`` with what reStructuredText would read as markup made plain, except for code, links and emphasis."""
    parts: list[str] = []
    at = 0
    for kept in _KEPT.finditer(text):
        parts.append(_plain(text[at : kept.start()]))
        word = kept.group()
        if word.startswith("`") and not word.startswith("``") and word.endswith("`"):
            word = f"`{word}`"  # Markdown's `code`
        parts.append(word)
        at = kept.end()
    return "".join(parts) + _plain(text[at:])


def _plain(text: str) -> str:
    return re.sub(r"([\\*|`]|(?<=\w)_(?!\w))", r"\\\1", text)


def _indented(lines: list[str]) -> list[str]:
    return [f"   {line}" if line.strip() else "" for line in lines]
