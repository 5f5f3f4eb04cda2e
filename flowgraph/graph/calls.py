"""Which call of the user's a new error belongs to: his line, the function that he called, and the tensors that he gave it.

All of it is read from the stack while the error is made, so that what succeeds pays nothing for it: a wrapper around each public
function would cost 0.1 us a node, and stand in every traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, NamedTuple

import numpy as np

from ..errors import FlowgraphError
from .location import Location, is_foreign, resolve, user_frame
from .node import Tensor
from .op import OPS, Op
from .report import input_row, pointed, some

# Called from a shell, where no line of the user's is.
_COMMANDS = ("flowgraph.cli", "__main__")

# Modules whose functions build operations, and all whose functions go by their own names in errors. Of the libraries, only what the user
# calls himself does, functions and classes; the first three may also stand between his line and an operation.
_OPERATIONS = ("flowgraph.ops.", Tensor.__module__)
_FUNCTIONS = (*_OPERATIONS, "flowgraph.control.", "flowgraph.autodiff.", "flowgraph.traced", "flowgraph.check")
_BETWEEN = ("flowgraph.nn.", "flowgraph.optim.", "flowgraph.metrics.")
_LIBRARIES = (*_BETWEEN, "flowgraph.io.", "flowgraph.data.", "flowgraph.viz.")
_METHODS = ("minimize", "apply")  # of optimisers


class Call(NamedTuple):
    """What the user called.

    location      his line
    name          of the function that he called, or None when it was no function of tensors: a session's method, say
    is_operation  whether it is one that adds nodes, and not one that derives them from others, as ``fg.grad`` does
    inputs        (label, text) rows that tell of the tensors that the function was given, and ``tensors``: these
    within        the names of functions that it called in turn
    """

    location: Location
    name: str | None
    is_operation: bool
    inputs: list[tuple[str, str]]
    tensors: tuple[Tensor, ...]
    within: frozenset[str]

    @property
    def rows(self) -> list[tuple[str, str]]:
        """The line and the inputs."""
        return [("at", pointed("", self.location)), *self.inputs]

    def named(self, message: str) -> str:
        """``message`` with the name of the function before it, in place of that of an operation which the function is made of."""
        if self.name is None:
            return message
        first, colon, rest = message.partition(": ")
        if colon and (first in OPS or first in self.within):
            return f"{self.name}: {rest}"
        # (a layer or an optimiser speaks of itself)
        return message if colon and first.isidentifier() else f"{self.name}: {message}"


def calling() -> Call | None:
    """The user's call that is going on; None on a thread of flowgraph's own, and for the command line."""
    inner: list[FrameType] = []
    user = _users(sys._getframe(1), inner)
    if user is None or not inner or inner[-1].f_globals.get("__name__") in _COMMANDS:
        return None
    called, name = _function(inner)
    given = list(_given(called)) if called is not None else []
    return Call(
        resolve(user.f_code, user.f_lasti),
        name or None,
        called is not None and called.f_globals["__name__"].startswith((*_OPERATIONS, "flowgraph.metrics.")),
        some([input_row(label, each) for label, each in given]),
        tuple(each for _, each in given if isinstance(each, Tensor)),
        frozenset(part for frame in inner for part in frame.f_code.co_qualname.split(".")),
    )


def _users(frame: FrameType, inner: list[FrameType]) -> FrameType | None:
    """The frame at or above ``frame`` that is the user's; those before it are added to ``inner``."""
    above: FrameType | None = frame
    while above is not None:
        user = user_frame(above)
        while above is not None and above is not user:
            inner.append(above)
            above = above.f_back
        if user.f_globals.get("__name__") == "threading":
            return None
        if not is_foreign(user):
            return user
        inner.append(user)
        above = user.f_back
    return None


def _function(frames: list[FrameType]) -> tuple[FrameType | None, str]:
    """Of ``frames``, the last of which the user called, the outermost one of a function of tensors or a tensor's method, and its name."""
    for frame in reversed(frames):
        module, parts = frame.f_globals.get("__name__", ""), frame.f_code.co_qualname.split(".")
        if module.startswith(_FUNCTIONS):
            # What a function has made (`vmap.<locals>.batched`) goes by the name of the function.
            name = parts[0] if "<locals>" in parts else parts[-1]
            is_rule = len(parts) > 1 and "<locals>" not in parts and isinstance(frame.f_locals.get("self"), Op)
            if not name.startswith(("_", "<")) and not is_rule:
                return frame, name
        elif module.startswith(_LIBRARIES) and frame is frames[-1] and (name := _library_name(frame)):
            return frame, name
        elif not module.startswith(_BETWEEN) and not is_foreign(frame):
            break
    return None, ""


def _library_name(frame: FrameType) -> str:
    """What the user calls a library's function or class, or a method that makes updates; empty for other methods."""
    owner, _, name = frame.f_code.co_qualname.rpartition(".")
    if name == "__init__":
        return type(frame.f_locals.get("self")).__name__
    is_update = name in _METHODS and frame.f_globals["__name__"].startswith("flowgraph.optim.")
    return name if (not owner or is_update) and not name.startswith("_") else ""


def _given(frame: FrameType) -> Iterator[tuple[str, Any]]:
    """The tensors and arrays among the arguments of a call, with their names."""
    code = frame.f_code
    if frame.f_globals["__name__"].startswith(_OPERATIONS) and not isinstance(frame.f_locals.get("self", frame), Tensor | FrameType):
        return  # (the method of something that holds the tensors: the node will tell of them)
    named = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4)  # (4: it takes *args)
    for label in code.co_varnames[:named]:
        value = frame.f_locals.get(label)
        label = "x" if label == "self" else label
        for place, each in enumerate(value if isinstance(value, list | tuple) else [value]):
            if isinstance(each, Tensor | np.ndarray):
                yield f"{label}[{place}]" if isinstance(value, list | tuple) else label, each


FlowgraphError.find_call = staticmethod(calling)
