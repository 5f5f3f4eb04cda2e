"""The user's line: kept as a code object and an offset (0.07 us), resolved to file, line and text only when somebody asks."""

from __future__ import annotations

import linecache
import os
import sys
from dataclasses import dataclass
from types import CodeType, FrameType

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep

_OWN = (_PACKAGE, "<flowgraph ")  # (the second are plans' generated programs)

# Whether a file belongs to flowgraph: a memo of `startswith`, asked for every node.
_is_internal: dict[str, bool] = {}


@dataclass(frozen=True, slots=True)
class Location:
    """A place in the user's code.

    file, line  as in a traceback; line counts from 1
    function    the function's name, ``<module>`` at the top of a file
    columns     first and last column (from 0, the last exclusive) of the expression, or None
    """

    file: str
    line: int
    function: str = "<module>"
    columns: tuple[int, int] | None = None

    @property
    def text(self) -> str:
        """The source line, stripped; empty when the file is not there."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}"


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
    return is_written or module.partition(".")[0] in ("numpy", "scipy", "contextlib")


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
            if first == last and start is not None and stop is not None:
                columns = (start, stop)
            break
    return Location(code.co_filename, line, code.co_name, columns)
