"""Kernels: compiled loops as functions that Python calls at the price of one of its own built-in functions (about 0.1 us)."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol, cast

import numpy as np

from .llvm import Compiler, PyMethodDef, Target, cache_folder
from .loops import Operand
from .values import SUPPORTED

_FASTCALL_WITH_KEYWORDS = 0x80 | 0x02
_FIRST = threading.Lock()  # held while the compiler is made: of threads that are the first to ask, one makes it
_OF_PYTHON = ("PyEval_SaveThread", "PyEval_RestoreThread", "Py_IncRef", "PyObject_Vectorcall", "PyErr_NoMemory")


def compiler() -> Compiler:
    """The compiler of this process."""
    with _FIRST:
        return _compiler()


@cache
def _compiler() -> Compiler:
    types = {"ndarray": np.ndarray, **{dtype.name: dtype.type for dtype in SUPPORTED}}
    symbols = {f"flowgraph_{name}": id(kind) for name, kind in types.items()}
    for name in _OF_PYTHON:  # (which a program need not export to others, and Windows does not look for by itself)
        symbols[name] = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0
    if hasattr(os, "sched_setaffinity"):
        for name in ("sched_yield", "sched_getcpu"):
            symbols[name] = ctypes.cast(getattr(ctypes.CDLL(None), name), ctypes.c_void_p).value or 0
    return Compiler(cache_folder(), symbols)


class Described(Protocol):
    """What can be compiled: a loop, a convolution."""

    @property
    def operands(self) -> tuple[Operand, ...]: ...

    def text(self, target: Target) -> str: ...


def compiled(loop: Described, target: Target | None = None) -> Callable[..., Any]:
    """A function of the loop's operands and then its results, which it fills; it returns the last result. ``out=`` may name the last.

    Arrays have the dtypes and, but for the first dimension, the shapes that the loop says; a number may be one of NumPy's scalars. It holds
    Python's lock only while it looks at its arguments, unless the loop is short.
    """
    if hasattr(loop, "make"):
        return cast("Callable[..., Any]", loop.make())  # (that of products serves for all shapes)
    return _function(loop.text(target or compiler().target), tuple([operand.dtype for operand in loop.operands]))


def compiled_later(loop: Described) -> Callable[..., Any]:
    """The same, compiled by its first call."""
    if hasattr(loop, "make"):
        return compiled(loop)
    text, dtypes = loop.text(compiler().target), tuple([operand.dtype for operand in loop.operands])
    return lambda *arrays, out=None: _function(text, dtypes)(*arrays, *(() if out is None else (out,)))


def bare(kernel: Callable[..., Any]) -> int:
    """The address of what a compiled kernel does over bare memory, with the signature of NumPy's inner loops; 0 where it has none."""
    return getattr(getattr(kernel, "__self__", None), "bare", 0)


@cache
def _function(text: str, dtypes: tuple[np.dtype[Any], ...]) -> Callable[..., Any]:
    otherwise = _Otherwise(dtypes)
    kernel = otherwise.kernel = native(compiler().address(text), otherwise)
    otherwise.bare = compiler().address(text, "bare")
    return kernel


class _Otherwise:
    """What a kernel calls when an array is not as it needs them: works on copies that are."""

    kernel: Callable[..., Any]
    bare: int

    def __init__(self, dtypes: tuple[np.dtype[Any], ...]) -> None:
        self._dtypes = dtypes

    def __call__(self, *arrays: Any, out: Any = None) -> Any:
        dtypes, operands = self._dtypes, len(self._dtypes)
        given = [*arrays, out] if out is not None else list(arrays)
        fitting = [np.require(x, dtype, ("C", "A", "E")) for x, dtype in zip(given, dtypes, strict=False)]
        fitting += [x if x.flags.c_contiguous and x.flags.aligned else np.empty(x.shape, x.dtype) for x in given[operands:]]
        if all(a is b for a, b in zip(given, fitting, strict=True)):
            raise AssertionError("a compiled kernel refused its arguments")
        self.kernel(*fitting)
        for target, made in zip(given[operands:], fitting[operands:], strict=True):
            if target is not made:
                target[...] = made
        return given[-1]


def native(address: int, self: Any) -> Callable[..., Any]:
    """The machine code at ``address`` as a function of Python; it is given ``self`` as its self."""
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    return make(ctypes.addressof(_definition(address)), self, None)  # type: ignore[no-any-return]


@cache
def _definition(address: int) -> PyMethodDef:
    """Python's description of the machine code at ``address``."""
    definition = PyMethodDef(b"kernel", address, _FASTCALL_WITH_KEYWORDS, None)
    # Python does not copy it, and reads it once more when the function dies: perhaps at the end of the program, when all else is gone.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(definition))
    return definition
