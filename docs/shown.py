"""What the programs of a page print, and how they fail: written into the page below them, and compared by a test.

A ```python block with a ```text block below it is a program of its own, ``train.py``; the text is what a terminal shows of it, without the
traceback. ``python -m docs.shown docs/errors.md`` writes the texts anew.
"""

import contextlib
import io
import linecache
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import flowgraph as fg

_SHOWN = re.compile(r"```python\n(?P<program>(?:(?!```).)*?)```\n\n```text\n(?P<text>.*?)```", re.DOTALL)


def programs(page: str) -> Iterator[tuple[str, str]]:
    """Each program that is shown with its text, and that text."""
    for found in _SHOWN.finditer(page):
        yield found["program"], found["text"]


def text_of(program: str, folder: Path) -> str:
    """What a program prints, and the error that ends it."""
    file = folder / "train.py"
    file.write_text(program, "utf-8")
    linecache.checkcache(str(file))
    printed = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed), patch.dict(sys.modules), fg.Graph():
        try:
            exec(compile(program, str(file), "exec"), {"__name__": "__main__"})
        except fg.FlowgraphError as error:
            print(f"{type(error).__name__}: {error}")
    return printed.getvalue()


def written(page: str) -> str:
    """The page with the texts that its programs give."""
    with tempfile.TemporaryDirectory() as folder:

        def anew(found: re.Match[str]) -> str:
            program = found["program"]
            return f"```python\n{program}```\n\n```text\n{text_of(program, Path(folder))}```"

        return _SHOWN.sub(anew, page)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(written(Path(name).read_text("utf-8")), "utf-8")
