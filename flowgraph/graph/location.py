"""The user's line: kept as a code object and an offset (0.07 us), resolved to file, line and text only when somebody asks."""

from __future__ import annotations

import linecache
import os
import sys
from types import CodeType, FrameType, TracebackType
from typing import NamedTuple

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

_OWN = (_PACKAGE, "<flowgraph ")  # (the second are plans' generated programs)

# Whether a file belongs to flowgraph: a memo of `startswith`, asked for every node.
_is_internal: dict[str, bool] = {}


class Location(NamedTuple):
    """A place in the user's code.

    file, line  as in a traceback; line counts from 1
    function    the function's name, ``<module>`` at the top of a file
    columns     first and last column (from 0, the last exclusive) of the expression, in bytes of UTF-8, or None. The last is None where
                the expression goes on in the next line
    """

    file: str
    line: int
    function: str = "<module>"
    columns: tuple[int, int | None] | None = None

    @property
    def text(self) -> str:
        """The source line, stripped; empty when the file is not there."""
        return _source_line(self.file, self.line).strip()

    @property
    def expression(self) -> str:
        """The part of `text` that is meant: all of it where that is not known."""
        return self._parts[1] or self.text

    @property
    def marks(self) -> str:
        """Carets to stand below `text`, under the expression; empty where its place is not known, or where it is the whole line."""
        before, marked = self._parts
        if len(marked) == len(self.text):
            return ""
        return "".join(["\t" if c == "\t" else " " * _width(c) for c in before]) + "^" * sum(map(_width, marked))

    @property
    def _parts(self) -> tuple[str, str]:
        """What stands before the expression in `text`, and the expression; nothing where they are not known."""
        text = self.text
        if self.columns is None or not text:
            return "", ""
        raw = _source_line(self.file, self.line).rstrip().encode()
        start, stop = self.columns
        before = raw[:start].decode(errors="ignore").lstrip()
        marked = raw[start:stop].decode(errors="ignore")
        return (before, marked) if text.startswith(before + marked) else ("", "")  # (the file has changed since)

    def __str__(self) -> str:
        return f"{_file_name(self.file)}:{self.line}"


def _source_line(file: str, line: int) -> str:
    """A line of a file, of a module in an archive, or of a cell of a notebook."""
    found = linecache.getline(file, line)
    if not found and not file.startswith("<"):
        for module in list(sys.modules.values()):  # what was imported from an archive is read by what has loaded it
            if getattr(module, "__file__", None) == file:
                return linecache.getline(file, line, vars(module))
    return found


def _file_name(file: str) -> str:
    """A file without its folders; a cell of a notebook by its number, as the notebook names it."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    if shell is not None:
        try:
            named = shell.compile.format_code_name(file)
        except AttributeError:  # (an IPython before 8)
            named = None
        if named is not None:
            return " ".join(named)
    return os.path.basename(file)


def _width(character: str) -> int:
    """The columns that it takes in a terminal."""
    if character.isascii():
        return 1
    import unicodedata

    return 0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "FW")


def user_frame(frame: FrameType) -> FrameType:
    """The first frame at or above ``frame`` whose code is not flowgraph's own."""
    while True:
        file = frame.f_code.co_filename
        try:
            internal = _is_internal[file]
        except KeyError:
            internal = _is_internal[file] = file.startswith(_OWN)
        if not internal:
            return frame
        if frame.f_back is None:
            return frame
        frame = frame.f_back


def is_foreign(frame: FrameType) -> bool:
    """Whether code that is not flowgraph's own is not the user's either: NumPy's, or an ``__init__`` that `dataclass` wrote."""
    module = frame.f_globals.get("__name__", "")
    is_written = frame.f_code.co_filename == "<string>" and module.startswith("flowgraph.")
    return is_written or module.partition(".")[0] in ("numpy", "scipy", "contextlib", "functools")


def shorten(error: BaseException) -> None:
    """Leaves flowgraph's own frames out of the traceback of an error and of what caused it, as the text says what is to be known.

    Lines of generated programs stay: they can be read, and stepped into.

    The environment variable ``FLOWGRAPH_TRACEBACK=full`` keeps them, for whoever works on flowgraph.
    """
    if os.environ.get("FLOWGRAPH_TRACEBACK") == "full":
        return
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        kept, trace = [], each.__traceback__
        while trace is not None:
            frame = trace.tb_frame
            is_shown = user_frame(frame) is frame or frame.f_code.co_filename.startswith("<flowgraph plan")
            if is_shown and not frame.f_globals.get("__name__", "").startswith(_WAITING):
                kept.append(trace)
            trace = trace.tb_next
        short = None
        for entry in reversed(kept):
            short = TracebackType(short, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
        each.__traceback__ = short
        each = each.__cause__


_WAITING = ("concurrent.futures", "threading")  # how the error of another thread arrives


def here() -> Location:
    """The user's line that is running now."""
    frame = user_frame(sys._getframe(1))
    return resolve(frame.f_code, frame.f_lasti)


def resolve(code: CodeType | Location, offset: int) -> Location:
    """The location of byte ``offset`` in ``code``; a Location (from a loaded graph) is given back as it is."""
    if isinstance(code, Location):
        return code
    line = code.co_firstlineno
    columns = None
    for index, (first, last, start, stop) in enumerate(code.co_positions()):
        if index == offset // 2:
            line = first or line
            if start is not None and stop is not None:
                columns = (start, stop if first == last else None)
            break
    return Location(code.co_filename, line, code.co_name, columns)
