"""Which call of the user's a new error belongs to: his line, the operation's function that he called, and the tensors that he gave it.

All of it is read from the stack while the error is made, so that what succeeds pays nothing for it: a wrapper around each public
function would cost 0.1 us a node, and stand in every traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np

from ..errors import FlowgraphError
from .location import Location, resolve, user_frame
from .node import FUNCTIONS, Tensor
from .op import OPS, Op
from .report import input_row, where

# Called from a shell, where no line of the user's is.
_COMMANDS = "flowgraph.cli"

# Whose functions are operations; and what may stand between such a function and the user's line.
_OPERATIONS = "flowgraph.ops."
_BETWEEN = ("flowgraph.nn.", "flowgraph.metrics.", "flowgraph.optim.", "flowgraph.graph.node", "flowgraph.traced")


@dataclass(frozen=True, slots=True)
class Call:
    """What the user called.

    location  his line
    name      of the operation's function, or None when something else was called: a session's method, say
    inputs    (label, text) rows that tell of the tensors that the function was given
    """

    location: Location
    name: str | None
    inputs: list[tuple[str, str]]

    @property
    def rows(self) -> list[tuple[str, str]]:
        """The line and the inputs."""
        return [("at", where(self.location)), *self.inputs]

    def named(self, message: str) -> str:
        """``message`` with the name of the function before it, in place of that of an operation which the function is made of."""
        if self.name is None:
            return message
        first, colon, rest = message.partition(": ")
        return f"{self.name}: {rest if colon and (first in OPS or first in FUNCTIONS or first == self.name) else message}"


def calling() -> Call | None:
    """The user's call that is going on; None on a thread of flowgraph's own, and for the command line."""
    frame: Any = sys._getframe(1)
    user = user_frame(frame)
    inner: list[FrameType] = []
    while frame is not user:
        inner.append(frame)
        frame = frame.f_back
    if user.f_globals["__name__"] == "threading" or not inner or inner[-1].f_globals["__name__"] == _COMMANDS:
        return None
    location = resolve(user.f_code, user.f_lasti)
    called = _operation(inner)
    if called is None:
        return Call(location, None, [])
    return Call(location, called.f_code.co_name, list(_rows(called)))


def _operation(frames: list[FrameType]) -> FrameType | None:
    """Of ``frames``, the last of which the user called, the outermost one of an operation's function or a tensor's method."""
    for frame in reversed(frames):
        module, name = frame.f_globals["__name__"], frame.f_code.co_qualname
        is_method = module == Tensor.__module__ or not isinstance(frame.f_locals.get("self"), Op)
        if module.startswith(_OPERATIONS) or module == Tensor.__module__:
            if name.count(".") <= is_method and not name.rpartition(".")[2].startswith("_"):
                return frame
        elif not module.startswith(_BETWEEN):
            return None
    return None


def _rows(frame: FrameType) -> Iterator[tuple[str, str]]:
    code = frame.f_code
    if code.co_argcount and code.co_varnames[0] == "self" and not isinstance(frame.f_locals["self"], Tensor):
        return  # (the method of something that holds the tensors: the node will tell of them)
    named = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4)  # (4: it takes *args)
    for label in code.co_varnames[:named]:
        value = frame.f_locals.get(label)
        label = "x" if label == "self" else label
        for place, each in enumerate(value if isinstance(value, list | tuple) else [value]):
            if isinstance(each, Tensor | np.ndarray):
                yield input_row(f"{label}[{place}]" if isinstance(value, list | tuple) else label, each)


FlowgraphError.find_call = staticmethod(calling)
