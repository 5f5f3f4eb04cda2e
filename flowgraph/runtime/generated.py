"""Generated programs: the source of a plan's tasks, compiled by Python, with its names bound to kernels and buffers.

They run the same kernels in the same order as the interpreter, so they give the same bits; a node costs them less. Tracebacks and
debuggers show their lines, and an error is traced back to its kernel by the line that raised it.
"""

from __future__ import annotations

import itertools
import linecache
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from ..compile import Plan, Unit
from ..compile.source import Source
from .memory import Buffers

_NUMBERS = itertools.count(1)


def _quiet() -> dict[str, Any]:
    """How a generated call keeps NumPy from warning of infinities and NaN: `np.errstate`, without its cost of 1 us where NumPy's own
    context variable can be reached.
    """
    umath: Any = getattr(np, "_core", np).umath
    try:
        variable, ignored = umath._extobj_contextvar, umath._make_extobj(all="ignore")
        return {"set_errors": variable.set, "ignored": ignored, "reset_errors": variable.reset}
    except AttributeError:
        return {"set_errors": lambda kind: np.seterr(all=kind), "ignored": "ignore", "reset_errors": lambda old: np.seterr(**old)}


QUIET = _quiet()


class NotInOrder(Exception):
    """An array does not lie in memory as a tape needs it, so the kernels are to be called one by one."""


def is_in_order(value: Any) -> bool:
    """Whether a tape can read an array, or scalar of NumPy, as it is."""
    return (value.__class__ is np.ndarray and value.flags.c_contiguous and value.flags.aligned) or isinstance(value, np.generic)


def refuse(*arrays: Any) -> Any:
    """What is called in the place of a tape. raises NotInOrder."""
    raise NotInOrder


class Generated:
    """The functions of a `Source`, ready to be called.

    Shows its text to tracebacks and debuggers for as long as it lives.
    """

    def __init__(self, source: Source, plan: Plan, buffers: Buffers, kernels: Mapping[str, Callable[..., Any]], **names: Any) -> None:
        self.source = source
        self.file = f"<flowgraph plan {next(_NUMBERS)}>"
        text = source.text
        linecache.cache[self.file] = (len(text), None, text.splitlines(keepends=True), self.file)
        self._finalizer = weakref.finalize(self, linecache.cache.pop, self.file, None)
        self.names: dict[str, Any] = {
            **{name: buffers.on(device).give for device, name in source.gives.items()},
            **{name: partial(buffers.on(device).take, spec.shape, spec.dtype) for (device, spec), name in source.takes.items()},
            **{name: partial(np.empty, spec.shape, spec.dtype) for spec, name in source.news.items()},
            **{f"c{slot}": buffers.constant(array, plan.on.get(slot)) for slot, array in plan.constants if f"c{slot}" not in names},
            **kernels,
            **names,
        }
        exec(compile(text, self.file, "exec", dont_inherit=True), self.names)

    def failed(self, error: BaseException) -> tuple[Unit, Callable[[int], Any]] | None:
        """The kernel whose line raised ``error``, and a function that looks a slot's value up; None when it came from elsewhere."""
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == self.file:
                unit = self.source.units[trace.tb_lineno - 1]
                return None if unit is None else (unit, self._looked_up(dict(trace.tb_frame.f_locals)))
            trace = trace.tb_next
        return None

    def _looked_up(self, found: dict[str, Any]) -> Callable[[int], Any]:
        values = found.get("v", ())

        def value(slot: int) -> Any:
            constant = self.names.get(f"c{slot}")
            if constant is not None:
                return constant
            return found.get(f"s{slot}", values[slot] if slot < len(values) else None)

        return value
